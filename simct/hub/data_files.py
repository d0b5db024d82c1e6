"""The `datasets` library, restricted to a dataset's own files, to JSON of limited depth, and to values as they are
stored.

The README of a dataset (or its .huggingface.yaml) lists its files, and the library would read anything named there: an
address in the reader's network, a file on their machine, another repository. Only paths within the dataset are
accepted. An image, sound or video in a row is likewise a file or an address to fetch and decode; it is left as it is
stored, at any depth.
"""

import dataclasses
import io
import re
from functools import cache
from pathlib import PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from simct.errors import DataError
from simct.setting import quoted

# levels of JSON; at about ten thousand, pyarrow overflows its stack and the process ends
MOST_LEVELS = 100
# a string ends with its line, as in valid JSON
STRING = re.compile(rb'"(?:[^"\\\n]|\\[^\n])*"?')
CHANGES = np.zeros(256, dtype=np.int64)
CHANGES[list(b"[{")], CHANGES[list(b"]}")] = 1, -1


class DeepJson(DataError):
    """JSON that is nested too deeply for pyarrow."""


@cache
def datasets_library() -> ModuleType:
    """The `datasets` library, changed to raise DataError for a dataset that names files outside itself."""
    import datasets
    from datasets.utils.metadata import MetadataConfigs

    read = MetadataConfigs.from_dataset_card_data.__func__  # type: ignore[attr-defined]

    def from_dataset_card_data(cls: type[Any], dataset_card_data: Any) -> Any:
        found = read(cls, dataset_card_data)
        for config in found.values():
            check_own_files(config)
        return found

    MetadataConfigs.from_dataset_card_data = classmethod(from_dataset_card_data)  # type: ignore[method-assign,assignment]
    _bound_json()
    return datasets


def _bound_json() -> None:
    """Keep `datasets` from passing JSON of more than MOST_LEVELS levels to pyarrow."""
    import pyarrow.json
    from datasets.packaged_modules.folder_based_builder import folder_based_builder
    from datasets.packaged_modules.json import json

    def read_json(file: io.BytesIO, **options: Any) -> Any:
        check_levels(file.getbuffer())
        return pyarrow.json.read_json(file, **options)

    bounded = SimpleNamespace(**{**vars(pyarrow.json), "read_json": read_json})
    for module in (json, folder_based_builder):
        module.paj = bounded  # type: ignore[attr-defined]


def check_levels(data: bytes | memoryview) -> None:
    """Raise DeepJson for JSON, or JSON Lines, of more levels than MOST_LEVELS."""
    changes = CHANGES[np.frombuffer(STRING.sub(b"", data), dtype=np.uint8)]
    deepest = int(np.cumsum(changes).max(initial=0))
    if deepest > MOST_LEVELS:
        raise DeepJson(f"The dataset has JSON of {deepest:,} levels; at most {MOST_LEVELS} are read. Choose another.")


def undecoded(rows: Any) -> Any:
    """A dataset of the library, streamed or not, whose images, sounds and videos are neither fetched nor decoded."""
    features = rows.features or {}
    stored = {name: _stored(feature) for name, feature in features.items()}
    if all(stored[name] == features[name] for name in features):
        return rows
    if hasattr(rows, "decode"):
        return rows.decode(False)  # streamed rows may have been decoded already
    for name, feature in stored.items():
        if feature != features[name]:
            rows = rows.cast_column(name, feature)
    return rows


def _stored(feature: Any) -> Any:
    """A feature with decoding off, at every depth."""
    if isinstance(feature, dict):
        return {name: _stored(each) for name, each in feature.items()}
    if isinstance(feature, list | tuple):
        return [_stored(each) for each in feature]
    if hasattr(feature, "feature"):
        return dataclasses.replace(feature, feature=_stored(feature.feature))
    return dataclasses.replace(feature, decode=False) if getattr(feature, "decode", None) is True else feature


def check_own_files(config: dict[str, Any]) -> None:
    """Raise DataError unless every data file and folder of a configuration is within the dataset."""
    for name in [*_texts(config.get("data_files")), *_texts(config.get("data_dir"))]:
        path = PurePosixPath(name)
        outside = path.is_absolute() or ".." in path.parts or name.startswith("~")
        if outside or "://" in name or "::" in name or "\\" in name:
            raise DataError(
                f"The dataset names {quoted(name)} as its data, which is not one of its files. Choose another dataset."
            )


def _texts(value: Any) -> list[str]:
    """Every text in a setting that may be one, a list, or a list with splits."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [] if value is None else [str(value)]
