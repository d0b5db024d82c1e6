"""Which chat template a tokenizer uses: its only one, one of several by its name, or its processor's."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from simct.errors import DataError, LimitError, quoted
from simct.time_limit import memory_within, run_within

# ten times the longest known template
MOST_CHARACTERS = 500_000
# limits of a template's time, memory and output, far above those of any honest one
TEMPLATE_SECONDS = 5.0
TEMPLATE_BYTES = 512 << 20
MOST_ADDED, MOST_GROWTH = 1_000_000, 16


def chat_template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template in use: the only one, or of several the one called default. Raises DataError without one."""
    templates = getattr(tokenizer, "chat_template", None)
    if not isinstance(templates, dict):
        return _bounded(tokenizer, templates)
    if "default" in templates or len(templates) == 1:
        return _bounded(tokenizer, templates.get("default") or next(iter(templates.values())))
    raise DataError(
        f"{tokenizer.name_or_path!r} has several chat templates ({', '.join(templates)}) and none called default. "
        "Name one with teacher.chat_template or student.chat_template."
    )


def _bounded(tokenizer: PreTrainedTokenizerBase, template: object) -> str | None:
    if template and not (isinstance(template, str) and len(template) <= MOST_CHARACTERS):
        raise DataError(
            f"The chat template of {quoted(tokenizer.name_or_path)} is not a text of at most {MOST_CHARACTERS:,} "
            "characters. Choose another model."
        )
    return str(template) if template else None


def apply_template(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]], **options: Any) -> str:
    """A conversation as a chat template writes it; `options` are those of apply_chat_template.

    A template is a program by the publisher of the model and may raise anything. Raises LimitError if it takes too long
    or writes far more than it was given.
    """
    what = f"The chat template of {quoted(tokenizer.name_or_path)}"

    def apply() -> str:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, **options))  # type: ignore[arg-type]

    try:
        with memory_within(TEMPLATE_BYTES):
            text = run_within(TEMPLATE_SECONDS, what, apply)
    except MemoryError:
        raise LimitError(f"{what} needs more than {TEMPLATE_BYTES >> 20} MiB of memory. Use another model.") from None
    given = sum(len(str(each)) for each in (*messages, *options.get("tools", ())))
    if len(text) > MOST_ADDED + MOST_GROWTH * given:
        raise LimitError(f"{what} writes {len(text):,} characters for one conversation. Use another model.")
    return text


def select_chat_template(tokenizer: PreTrainedTokenizerBase, name: str | None) -> None:
    """Make the chat template of that name the tokenizer's default, in place. Raises DataError if there is none."""
    if not name:
        return
    templates = tokenizer.chat_template
    if isinstance(templates, dict) and name in templates:
        tokenizer.chat_template = {**templates, "default": templates[name]}  # type: ignore[assignment]
    elif name != "default" or not templates:
        there = f"it has {', '.join(templates)}" if isinstance(templates, dict) else "it has one without a name"
        raise DataError(
            f"{tokenizer.name_or_path!r} has no chat template called {quoted(name)}; "
            f"{there if templates else 'it has none at all'}. Change teacher.chat_template or student.chat_template."
        )


def processor_template(name: str, revision: str | None, token: str | bool | None) -> str | None:
    """The chat template that a repository or folder stores with its processor; None if there is none."""
    for file in ("chat_template.json", "processor_config.json"):
        try:
            path = cached_file(name, file, revision=revision, token=token, _raise_exceptions_for_missing_entries=False)
            template = json.loads(Path(path).read_text(encoding="utf-8")).get("chat_template") if path else None
        except (
            OSError,
            ValueError,
            AttributeError,
            RecursionError,
        ):  # offline, or not the file that its name suggests: there is no template
            continue
        if isinstance(template, str) and template:
            return template
    return None
