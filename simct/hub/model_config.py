"""A model's config.json, and the sizes of its other small files, checked before a library reads them.

Libraries allocate what a file asks for: lists as long as its number of layers, tables as large as its vocabulary.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.utils.hub import cached_file

from simct.config import local_path
from simct.errors import ModelError, quoted

LARGEST_CONFIG = 10_000_000  # bytes
# the smallest and the largest value that any model has, by the name of a number in config.json
_LAYERS, _SIZES, _EXPERTS = (1, 1_000), (1, 10_000_000), (0, 10_000)
NUMBERS = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), _LAYERS),
    **dict.fromkeys(
        (
            "vocab_size", "hidden_size", "n_embd", "d_model", "intermediate_size", "ffn_dim", "num_attention_heads",
            "n_head", "num_key_value_heads", "head_dim", "moe_intermediate_size",
        ),
        _SIZES,
    ),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"), _EXPERTS),
    "max_position_embeddings": (1, 10**12),
}  # fmt: skip
# bytes of a tokenizer's files; the largest known are a third of this
LARGEST_TOKENIZER = 100_000_000
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "merges.txt", "tokenizer_config.json",
    "added_tokens.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json",
)  # fmt: skip


def load_config(model: str, revision: str | None = None, token: str | bool | None = None) -> PretrainedConfig:
    """The model's config.json as transformers reads it.

    Raises ModelError if it is too large, is not a JSON object, or has a number that no model has; and what transformers
    raises if it is absent or unknown.
    """
    path = local_path(model)
    name = str(path) if path is not None else model
    found = cached_file(
        name, "config.json", revision=revision, token=token, _raise_exceptions_for_missing_entries=False
    )
    if found is not None:
        check_numbers(_settings(Path(found), model), model)
    return AutoConfig.from_pretrained(name, revision=revision, token=token, trust_remote_code=False)


def context_of(config: PretrainedConfig | None) -> int | None:
    """The most tokens that a model with this config reads at once; None if it does not say."""
    found = None if config is None else getattr(config.get_text_config(), "max_position_embeddings", None)
    return found if isinstance(found, int) and found > 0 else None


def _settings(file: Path, model: str) -> dict[str, Any]:
    if file.stat().st_size > LARGEST_CONFIG:
        raise ModelError(f"The config.json of {quoted(model)} has {file.stat().st_size:,} bytes. Choose another model.")
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The config.json of {quoted(model)} cannot be read: it is not valid JSON.") from error
    if not isinstance(settings, dict):
        raise ModelError(f"The config.json of {quoted(model)} cannot be read: it is not a JSON object.")
    return settings


def check_numbers(settings: dict[str, Any], model: str) -> None:
    """Raise ModelError for a number that no model has, anywhere in the settings."""
    for name, value in _named(settings):
        least, most = NUMBERS[name]
        # some models have other sizes in every layer
        several = isinstance(value, list) and (least, most) == _SIZES
        for number in value if several else [value]:
            whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (whole and least <= number <= most):
                raise ModelError(
                    f"The config.json of {quoted(model)} has {name}: {quoted(number)}; it must be a whole number "
                    f"from {least:,} to {most:,}. Choose another model, or correct the file."
                )


def _named(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting with a bounded number, including those of parts such as text_config."""
    waiting: list[Any] = [settings]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from ((name, value[name]) for name in NUMBERS if name in value)
            waiting.extend(value.values())


def check_small_files(model: str, revision: str | None = None, token: str | bool | None = None) -> None:
    """Raise ModelError for a tokenizer larger than any known one, or numbers in config.json that no model has.

    For a Hub model, tokenizer.json and config.json are downloaded and checked.
    """
    path = local_path(model)
    if path is not None:
        found = {name: str(path / name) for name in (*TOKENIZER_FILES, "config.json") if (path / name).is_file()}
    else:
        found = {
            name: file
            for name in ("tokenizer.json", "config.json")
            if (file := _hub_file(model, name, revision, token))
        }
    config = found.pop("config.json", None)
    if config is not None:
        check_numbers(_settings(Path(config), model), model)
    for name, file in found.items():
        if (size := Path(file).stat().st_size) > LARGEST_TOKENIZER:
            raise ModelError(
                f"The {name} of {quoted(model)} has {size:,} bytes; no tokenizer is larger than "
                f"{LARGEST_TOKENIZER:,}. Choose another model."
            )


def _hub_file(model: str, name: str, revision: str | None, token: str | bool | None) -> str | None:
    """The local path of a file of a Hub model; None if it cannot be fetched, which its reader will report."""
    return cached_file(
        model, name, revision=revision, token=token, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
