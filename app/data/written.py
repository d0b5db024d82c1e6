"""Prompts that a visitor writes or pastes: a text that becomes the visitor's file, and prompts as a text to edit."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.errors import DataError

if TYPE_CHECKING:
    from simct.data.prompts import Prompt

MOST_CHARACTERS = 200_000
MOST_EDITED = 500  # the most prompts of a source that are copied into the text
NAME = "written prompts"
TABLE = ".tsv"


def keep_text(studio: Studio, text: str, visitor: Visitor | None = None) -> str:
    """Keep a text as a file of prompts next to the runs; returns its path.

    JSON Lines, a JSON list, and rows of a spreadsheet below the names of their columns stay as they are. Anything else
    is one prompt per line, or one per paragraph if there are blank lines. Raises DataError for a text that is empty or
    too long, RunError if it cannot be written.
    """
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise DataError("There are no prompts yet. Write or paste some.")
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"The text has {len(text):,} characters; at most {MOST_CHARACTERS:,} can be edited here. Upload a "
            "file instead."
        )
    if text[0] in "{[":
        content, suffix = text, ".jsonl" if text[0] == "{" else ".json"
    elif _is_table(text):
        content, suffix = text, TABLE
    else:
        rows = text.split("\n\n") if "\n\n" in text else text.split("\n")
        lines = [json.dumps({"prompt": row.strip()}, ensure_ascii=False) for row in rows if row.strip()]
        content, suffix = "\n".join(lines), ".jsonl"
    data = f"{content}\n".encode("utf-8", "replace")
    return studio.uploads.keep_bytes(data, suffix, visitor or studio.nobody, studio.public)


def text_of_file(studio: Studio, path: str, visitor: Visitor) -> str:
    """The text of a file that keep_text wrote for this visitor, ready to edit; empty if it cannot be read."""
    if not studio.uploads.owns(Path(path).resolve(), visitor, studio.public):
        return ""
    try:
        with open(Path(path), encoding="utf-8") as file:
            content = file.read(2 * MOST_CHARACTERS)
        if path.endswith(TABLE):
            return content.strip()
        rows = [json.loads(line) for line in content.splitlines()]
    except (OSError, ValueError, RecursionError):
        return ""
    if all(isinstance(row, dict) and list(row) == ["prompt"] and isinstance(row["prompt"], str) for row in rows):
        texts = [row["prompt"] for row in rows]
        return _plain(texts) if _is_plain(texts) else content.strip()
    return content.strip()


def _is_table(text: str) -> bool:
    """Whether a text was copied from a spreadsheet, where tabs separate columns and the first row names them."""
    from simct.data.columns import PROMPT_COLUMNS

    names, _, rows = text.partition("\n")
    columns = [name.strip().lower() for name in names.split("\t")]
    return bool(rows.strip()) and len(columns) > 1 and any(name in PROMPT_COLUMNS for name in columns)


def text_of_prompts(prompts: "Sequence[Prompt]") -> tuple[str, int]:
    """Prompts as a text to edit, and their number. Plain text if each prompt is a single user text, else JSON Lines."""
    shown = prompts[:MOST_EDITED]
    plain = all(len(each.messages) == 1 and each.answer is None and not each.tools for each in shown)
    texts = [each.text for each in shown]
    if plain and _is_plain(texts) and len(_plain(texts)) <= MOST_CHARACTERS:
        return _plain(texts), len(texts)
    lines: list[str] = []
    size = 0
    for each in shown:
        line = json.dumps(_row_of(each), ensure_ascii=False)
        size += len(line) + 1
        if size > MOST_CHARACTERS:
            break
        lines.append(line)
    return "\n".join(lines), len(lines)


def _row_of(prompt: "Prompt") -> dict[str, Any]:
    """The row of a file that gives this prompt when it is read."""
    messages = [dict(message) for message in prompt.messages]
    row: dict[str, Any] = {"prompt": prompt.text} if len(messages) == 1 else {"messages": messages}
    if prompt.answer is not None:
        row["answer"] = prompt.answer
    return row | ({"tools": list(prompt.tools)} if prompt.tools else {})


def _is_plain(texts: Sequence[str]) -> bool:
    """Whether the texts can be separated by lines or paragraphs."""
    several = any("\n" in text for text in texts)
    return not any("\n\n" in text or text[:1] in ("{", "[") for text in texts) and not (several and len(texts) == 1)


def _plain(texts: Sequence[str]) -> str:
    return ("\n\n" if any("\n" in text for text in texts) else "\n").join(texts)
