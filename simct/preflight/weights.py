"""Whether a checkpoint has all weights of its model, by the names in its index or header; no weights are read."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from simct.config import local_path
from simct.errors import ModelError, brief
from simct.hub.client import hub_api

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
SHOWN = 3
# If few names match, the checkpoint's names are converted on loading, and nothing can be concluded.
KNOWN_SHARE = 0.5


def missing_weights(
    empty: PreTrainedModel, name: str, revision: str | None = None, token: str | bool | None = None
) -> str | None:
    """A sentence about weights that the checkpoint of `name` certainly lacks; else None.

    `empty` is the model as its config describes it, without data. Weights are certainly missing if a shard that the
    index names is missing, or if a parameter is missing that the checkpoint has for other layers or that is the head of
    an untied model. Raises ModelError for a file that is damaged.
    """
    path = local_path(name)
    names = _local_names(path) if path else _hub_names(name, revision, token)
    if isinstance(names, str):
        return names
    lacking = absent(empty, names) if names else []
    if not lacking:
        return None
    more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
    return f"The checkpoint of {name!r} lacks {', '.join(lacking[:SHOWN])}{more}, which would stay random."


def absent(empty: PreTrainedModel, names: Iterable[str]) -> list[str]:
    """Parameters of the model that a checkpoint with these names lacks for certain."""
    prefix = f"{empty.base_model_prefix}."
    names = {*names}
    found = names | {prefix + name for name in names}
    tied = {*getattr(empty, "all_tied_weights_keys", ())}
    ignored = [re.compile(each) for each in empty._keys_to_ignore_on_load_missing or ()]
    expected = {
        name
        for name, _ in empty.named_parameters()
        if name not in tied and not any(each.search(name) for each in ignored)
    }
    missing = expected - found
    if len(missing) > (1 - KNOWN_SHARE) * len(expected):
        return []
    elsewhere = {_of_any_layer(name) for name in found}
    head = empty.get_output_embeddings()
    heads = {name for name, parameter in empty.named_parameters() if head is not None and parameter is head.weight}
    return sorted(name for name in missing if name in heads or _of_any_layer(name) in elsewhere)


def _of_any_layer(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _local_names(folder: Path) -> set[str] | str | None:
    """The names of the tensors in a folder's checkpoint, or a sentence about a missing file."""
    index = folder / INDEX
    files = [folder / SINGLE]
    if index.is_file():
        files = [folder / file for file in sorted({*_weight_map(index).values()})]
    elif not files[0].is_file():
        return None
    names: set[str] = set()
    for file in files:
        if not file.is_file():
            return f"{str(folder)!r} has no {file.name}, which its index names."
        try:
            with safe_open(file, "pt") as opened:
                names.update(opened.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file.name} of {str(folder)!r} cannot be read: {brief(error, 160)}. Download it again."
            ) from error
    return names


def _hub_names(name: str, revision: str | None, token: str | bool | None) -> set[str] | None:
    """The names by the index, or by the header of a single file; None if neither can be read."""
    try:
        try:
            return {*_weight_map(Path(hf_hub_download(name, INDEX, revision=revision, token=token)))}
        except EntryNotFoundError:
            header = hub_api(token).parse_safetensors_file_metadata(name, SINGLE, revision=revision)
            return {*header.tensors}
    except Exception:  # offline, or an unusual file name: loading will report it
        return None


def _weight_map(index: Path) -> dict[str, str]:
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(key): Path(str(file)).name for key, file in found.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index.name} cannot be read: {brief(error, 160)}. Download it again.") from error
