"""Prompts that a run does not train on, chosen by a hash of their text, so that it never trains on a duplicate of one.

The run folder keeps them (held_out.jsonl), and a resumed run uses the same ones, even if its data has changed.
"""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simct.config.sections import DataConfig
from simct.data.prompts import Prompt, load_prompts
from simct.errors import DataError
from simct.runs.folder import RunFolder

# the largest share of the data to hold out, whatever data.held_out says
LARGEST_SHARE = 10


@dataclass(frozen=True)
class PromptSplit:
    """The prompts a run trains on, and the held-out ones in the order of their hashes, so that the first are a sample.

    left_out: how many more duplicates of held-out prompts the data had.
    """

    trained: list[Prompt]
    held_out: list[Prompt]
    left_out: int = 0


def prompt_key(prompt: Prompt) -> str:
    """The hash of a prompt's messages, without system texts and differences in whitespace."""
    said = [
        [message["role"], " ".join(unicodedata.normalize("NFC", message["content"] or "").split())]
        for message in prompt.messages
        if message["role"] != "system"
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _order(seed: int) -> Callable[[str], str]:
    """The order of hashes in which prompts are held out; for seed 0 their natural order, as in runs without a seed."""
    return lambda key: hashlib.sha256(f"{seed} {key}".encode()).hexdigest() if seed else key


def held_out_count(data: DataConfig, prompts: int) -> int:
    """How many of `n` different prompts are held out; 0 if they have a separate source."""
    return 0 if has_own_source(data) else min(data.held_out, prompts // LARGEST_SHARE)


def has_own_source(data: DataConfig) -> bool:
    return bool(data.held_out_prompts or data.held_out_split)


def own_source(data: DataConfig) -> DataConfig:
    """The held-out prompts' own source: another split of the data, or another file or dataset; None without one."""
    changes: dict[str, Any] = {"limit": None, "exclude_rows": [], "split": data.held_out_split or data.split}
    if data.held_out_prompts:
        changes |= {"prompts": data.held_out_prompts, "split": data.held_out_split or "train"}
        changes |= {"config_name": None, "revision": None}
    return data.model_copy(update=changes)


def split_prompts(
    prompts: Sequence[Prompt],
    data: DataConfig,
    token: str | bool | None = None,
    kept: Sequence[Mapping[str, Any]] | None = None,
) -> PromptSplit:
    """Divide `prompts` into training and held-out prompts; `kept` are the held-out prompts of a resumed run.

    Raises DataError or HubError if the held-out prompts' own source cannot be read, and DataError if every prompt is
    held out.
    """
    if not data.held_out:
        return PromptSplit(list(prompts), [])
    order = _order(data.held_out_seed)
    keys = [prompt_key(prompt) for prompt in prompts]
    first = dict(zip(reversed(keys), reversed(prompts), strict=True))
    if kept is not None:
        held_out = {prompt_key(prompt): prompt for prompt in map(_prompt_of, kept)}
    elif has_own_source(data):
        own = load_prompts(own_source(data), token)
        held_out = {prompt_key(prompt): prompt for prompt in reversed(own)}
    else:
        held_out = {key: first[key] for key in sorted(first, key=order)[: held_out_count(data, len(first))]}
    trained = [prompt for key, prompt in zip(keys, prompts, strict=True) if key not in held_out]
    if not trained:
        raise DataError(
            "Every prompt of the data is also held out. Give other held-out prompts (data.held_out_prompts)."
        )
    left_out = len(prompts) - len(trained) - (0 if has_own_source(data) else len(held_out))
    return PromptSplit(trained, [held_out[key] for key in sorted(held_out, key=order)], max(0, left_out))


def split_of_run(
    run: RunFolder, data: DataConfig, prompts: Sequence[Prompt], token: str | bool | None = None
) -> PromptSplit:
    """The split of a run, written to held_out.jsonl when it begins. Raises as split_prompts."""
    kept = run.held_out()
    split = split_prompts(prompts, data, token, kept)
    if data.held_out and kept is None:
        run.save_held_out([_record_of(prompt) for prompt in split.held_out])
    return split


def _record_of(prompt: Prompt) -> dict[str, Any]:
    """A line of held_out.jsonl."""
    record = {"messages": [dict(message) for message in prompt.messages], "answer": prompt.answer, "row": prompt.row}
    kept = {"tools": list(prompt.tools) if prompt.tools else None, "route": prompt.route}
    return record | {name: value for name, value in kept.items() if value is not None}


def _prompt_of(record: Mapping[str, Any]) -> Prompt:
    tools = tuple(record.get("tools") or ())
    route = record.get("route")
    return Prompt(tuple(record["messages"]), record.get("answer"), record.get("row"), tools=tools, route=route)
