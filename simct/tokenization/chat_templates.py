"""Which chat template a tokenizer uses: its only one, one of several by its name, or its processor's."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from simct.errors import DataError


def chat_template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template in use: the only one, or of several the one called default. Raises DataError without one."""
    templates = getattr(tokenizer, "chat_template", None)
    if not isinstance(templates, dict):
        return templates or None
    if "default" in templates or len(templates) == 1:
        return templates.get("default") or next(iter(templates.values()))
    raise DataError(
        f"{tokenizer.name_or_path!r} has several chat templates ({', '.join(templates)}) and none called default. "
        "Name one with teacher.chat_template or student.chat_template."
    )


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
            f"{tokenizer.name_or_path!r} has no chat template called {name!r}; "
            f"{there if templates else 'it has none at all'}. Change teacher.chat_template or student.chat_template."
        )


def processor_template(name: str, revision: str | None, token: str | bool | None) -> str | None:
    """The chat template that a repository or folder keeps with its processor; None without one."""
    for file in ("chat_template.json", "processor_config.json"):
        try:
            path = cached_file(name, file, revision=revision, token=token, _raise_exceptions_for_missing_entries=False)
            template = json.loads(Path(path).read_text(encoding="utf-8")).get("chat_template") if path else None
        except (OSError, ValueError, AttributeError):  # offline, or not what its name says: there is no template
            continue
        if isinstance(template, str) and template:
            return template
    return None
