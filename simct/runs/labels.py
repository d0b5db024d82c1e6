"""What people write about a run, in label.json of its folder: a name, a note, tags, and whether it is starred.

A run without the file, as all older ones, has none of them, and what is wrong in a damaged file is left out.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simct.errors import RunError, quoted
from simct.files import read_json, write_atomically
from simct.runs.folder import RunFolder

LABEL_FILE = "label.json"
LONGEST_NAME, LONGEST_NOTE, MOST_TAGS = 80, 4000, 12
LONGEST_TAG = 30
TAG = re.compile(rf"[\w][\w.:/-]{{0,{LONGEST_TAG - 1}}}")


@dataclass(frozen=True)
class RunLabel:
    """Empty fields mean that nothing was entered. Tags are in the order in which they were added."""

    name: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    starred: bool = False

    def checked(self) -> "RunLabel":
        """The label with its texts trimmed. Raises RunError for what a label cannot have."""
        name, note = " ".join(self.name.split()), self.note.strip()
        if len(name) > LONGEST_NAME or not name.isprintable():
            raise RunError(f"The name of a run has at most {LONGEST_NAME} printable characters; this has {len(name)}.")
        if len(note) > LONGEST_NOTE:
            raise RunError(f"A note has at most {LONGEST_NOTE:,} characters; this has {len(note):,}.")
        tags = tuple(dict.fromkeys(tag.strip().lstrip("#") for tag in self.tags if tag.strip()))
        wrong = next((tag for tag in tags if not TAG.fullmatch(tag)), None)
        if wrong is not None:
            raise RunError(
                f"{quoted(wrong)} cannot be a tag. A tag has at most {LONGEST_TAG} letters, digits and _ . : / - and "
                "begins with a letter or digit."
            )
        if len(tags) > MOST_TAGS:
            raise RunError(f"A run has at most {MOST_TAGS} tags; these are {len(tags)}.")
        return RunLabel(name, note, tags, self.starred)

    @property
    def line(self) -> str:
        """Star, name and tags in one line; empty where there are none."""
        return " ".join(["★"] * self.starred + [self.name] * bool(self.name) + [f"#{tag}" for tag in self.tags])


def read_label(run: RunFolder) -> RunLabel:
    """The run's label. Never raises."""
    return label_from(read_json(run.path / LABEL_FILE))


def label_from(record: Mapping[str, Any]) -> RunLabel:
    """The label in a parsed label.json, without anything that is wrong in it."""
    found = RunLabel()
    texts = {name: value for name in ("name", "note") if isinstance(value := record.get(name), str)}
    tags = record.get("tags")
    parts: list[dict[str, Any]] = [
        *({name: value} for name, value in texts.items()),
        {"tags": tuple(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()},
        {"starred": record.get("starred") is True},
    ]
    for part in parts:
        try:
            found = dataclasses.replace(found, **part).checked()
        except RunError:
            continue
    return found


def save_label(run: RunFolder, label: RunLabel) -> RunLabel:
    """Write the label, as `checked`, and return it. Raises RunError if it cannot be, or cannot be written."""
    label = label.checked()
    try:
        write_atomically(run.path / LABEL_FILE, json.dumps(dataclasses.asdict(label), indent=1, ensure_ascii=False))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "the text is not valid Unicode"
        raise RunError(f"Cannot write the label of run {run.id}: {reason}.") from error
    return label


def change_label(
    run: RunFolder,
    name: str | None = None,
    note: str | None = None,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
    starred: bool | None = None,
) -> RunLabel:
    """Change what is given and return the new label. Raises RunError."""
    before = read_label(run)
    removed = {tag.strip().lstrip("#") for tag in remove_tags}
    tags = tuple(tag for tag in (*before.tags, *add_tags) if tag.strip().lstrip("#") not in removed)
    label = RunLabel(
        before.name if name is None else name,
        before.note if note is None else note,
        tags,
        before.starred if starred is None else starred,
    )
    return save_label(run, label)
