"""The `datasets` library, kept to a dataset's own files.

The README of a dataset (or its .huggingface.yaml) says which files it has, and the library reads whatever stands there:
an address within the network of whoever reads it, a file of their machine, another repository. Only paths within the
dataset itself are let through.
"""

from functools import cache
from pathlib import PurePosixPath
from types import ModuleType
from typing import Any

from simct.errors import DataError
from simct.setting import quoted


@cache
def datasets_library() -> ModuleType:
    """`datasets`, which refuses what a dataset names beyond itself by a DataError."""
    import datasets
    from datasets.utils.metadata import MetadataConfigs

    read = MetadataConfigs.from_dataset_card_data.__func__  # type: ignore[attr-defined]

    def from_dataset_card_data(cls: type[Any], dataset_card_data: Any) -> Any:
        found = read(cls, dataset_card_data)
        for config in found.values():
            check_own_files(config)
        return found

    MetadataConfigs.from_dataset_card_data = classmethod(from_dataset_card_data)  # type: ignore[method-assign,assignment]
    return datasets


def check_own_files(config: dict[str, Any]) -> None:
    """Raise DataError unless every data file and folder of a configuration lies within the dataset."""
    for name in [*_texts(config.get("data_files")), *_texts(config.get("data_dir"))]:
        path = PurePosixPath(name)
        outside = path.is_absolute() or ".." in path.parts or name.startswith("~")
        if outside or "://" in name or "::" in name or "\\" in name:
            raise DataError(
                f"The dataset names {quoted(name)} as its data, which is not a file of its own. Choose another dataset."
            )


def _texts(value: Any) -> list[str]:
    """Every text in a setting that may be one, a list, or a list with splits."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [] if value is None else [str(value)]
