"""The rows of a run's data: of a file, a folder of files, a folder of `save_to_disk`, or a Hub dataset."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from simct.config import local_path
from simct.config.sections import DataConfig
from simct.data.formats import KINDS, FileNotes, Row, Unreadable, format_of, known_rows, rows_of_file
from simct.errors import DataError, HubError, brief, quoted
from simct.hub.data_files import DeepJson, datasets_library, undecoded
from simct.hub.datasets import choice_error, dataset_error, wrong_choice
from simct.hub.redact import redact


@dataclass
class RowSource:
    """Rows to be read once. `total` is their number if it is known in advance.

    `notes` fills as files are opened; `files` are those of a local source; `unread` are data files in its folder that
    are not read because most files have another format.
    """

    rows: Iterator[Row | Unreadable]
    total: int | None = None
    notes: FileNotes = field(default_factory=FileNotes)
    files: list[Path] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)


def names_a_path(name: str) -> bool:
    """Whether a name that does not exist here was meant as a path and not as a Hub id."""
    return format_of(name) is not None or name.startswith(("/", "./", "../", "~"))


def open_rows(data: DataConfig, token: str | bool | None = None, streaming: bool = False) -> RowSource:
    """The rows that `data` names; with `streaming` a Hub dataset is never downloaded whole.

    Raises DataError or HubError (one line), possibly after the first rows.
    """
    path = local_path(data.prompts)
    if path is None and "://" in data.prompts:
        raise DataError(
            f"{quoted(data.prompts)} is a web address. Give the id of a Hub dataset (owner/name), or download the file "
            "and give its path."
        )
    if path is None and names_a_path(data.prompts):
        raise DataError(f"There is no file {data.prompts!r}. Check the path.")
    try:
        source = _hub_rows(data, token, streaming) if path is None else _local_rows(path, data)
    except Exception as error:
        raise data_error(error, data) from error
    source.rows = _explained(source.rows, data)
    return source


def _explained(rows: Iterator[Row | Unreadable], data: DataConfig) -> Iterator[Row | Unreadable]:
    try:
        yield from rows
    except Exception as error:
        raise data_error(error, data) from error


def data_error(error: BaseException, data: DataConfig) -> Exception:
    """The error of reading `data` as one line; `datasets` raises a dozen unrelated types, each with a reason."""
    if isinstance(error, DataError | HubError):
        return error
    if local_path(data.prompts) is None:
        return dataset_error(error, data.prompts)
    choice = choice_error(" ".join(str(error).split()), data.prompts)
    reason = brief(error.__cause__ or error) or type(error).__name__
    return choice or DataError(redact(f"Cannot load prompts from {data.prompts!r}: {reason}"))


def check_configuration(data: DataConfig, token: str | bool | None = None) -> None:
    """Raise DataError if a Hub dataset has several configurations and none is chosen; HubError if it cannot be read."""
    datasets = datasets_library()

    if data.config_name or local_path(data.prompts) is not None:
        return
    try:
        names = datasets.get_dataset_config_names(data.prompts, revision=data.revision, token=token)
        default = datasets.get_dataset_default_config_name(data.prompts, revision=data.revision, token=token)
    except Exception as error:
        raise data_error(error, data) from error
    if len(names) > 1 and default is None:
        raise wrong_choice(data.prompts, "configuration", "data.config_name", names, None)


def _wrong_split(data: DataConfig, there: Iterable[str]) -> DataError:
    return wrong_choice(data.prompts, "split", "data.split", list(there), data.split)


# Local files and folders


def _local_rows(path: Path, data: DataConfig) -> RowSource:
    if path.is_file():
        if format_of(path) is None:
            raise DataError(f"{data.prompts!r} is not {KINDS}. Convert it to one of these.")
        files, unread = [path], list[Path]()
    elif (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _saved_rows(path, data)
    elif re.search(r"[\[+]", data.split):
        return _sliced_rows(path, data)
    else:
        files, unread = _folder_files(path, data)
    if not any(file.stat().st_size for file in files):
        raise DataError(f"{data.prompts!r} is empty. Give a file with at least one prompt.")
    notes = FileNotes()
    rows = chain.from_iterable(rows_of_file(file, notes, data.split) for file in files if file.stat().st_size)
    counts = [known_rows(file) for file in files]
    total = None if None in counts else sum(count for count in counts if count)
    return RowSource(rows, total, notes, files, unread)


def _saved_rows(path: Path, data: DataConfig) -> RowSource:
    """A folder that `save_to_disk` wrote, with or without splits."""
    datasets = datasets_library()

    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.DatasetDict):
        if data.split not in saved:
            raise _wrong_split(data, saved)
        saved = saved[data.split]
    source = RowSource(iter(undecoded(saved)), len(saved), files=sorted(path.rglob("*.arrow")))
    source.notes.formats["saved dataset"] += 1
    return source


def _sliced_rows(path: Path, data: DataConfig) -> RowSource:
    """Part of a split, or several splits, such as train[:100] and train+test."""
    datasets = datasets_library()

    rows: Any = datasets.load_dataset(str(path), data.config_name, split=data.split)
    return RowSource(iter(undecoded(rows)), len(rows))


def _folder_files(path: Path, data: DataConfig) -> tuple[list[Path], list[Path]]:
    """The data files of the split as `datasets` finds them (by names or the folder's README), and the others."""
    datasets = datasets_library()

    readable = sorted(file for file in path.rglob("*") if format_of(file) and file.is_file() and _visible(file, path))
    if not readable:
        raise DataError(f"{data.prompts!r} has no file that can be read as prompts ({KINDS}). Check the folder.")
    datasets.disable_progress_bars()
    found = datasets.load_dataset_builder(str(path), data.config_name).config.data_files or {}
    splits = {str(split): [Path(file) for file in files] for split, files in found.items()}
    if not any(format_of(file) for files in splits.values() for file in files):
        splits = {data.split: readable}  # most files are something else, such as images
    if data.split not in splits:
        raise _wrong_split(data, splits)
    files = [file for file in splits[data.split] if format_of(file)]
    chosen = {file for each in splits.values() for file in each}
    return files, [file for file in readable if file not in chosen and format_of(file) != "text"]


def _visible(file: Path, folder: Path) -> bool:
    return not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)


# The Hub


def _hub_rows(data: DataConfig, token: str | bool | None, streaming: bool) -> RowSource:
    datasets = datasets_library()

    try:
        rows: Any = datasets.load_dataset(
            data.prompts, data.config_name, split=data.split, revision=data.revision, token=token, streaming=streaming
        )
    except (datasets.exceptions.DatasetGenerationError, DeepJson) as error:
        if streaming and isinstance(error, DeepJson):
            raise
        # rows that do not fit into one table, such as columns of mixed types
        return _hub_files(data, token)
    rows = undecoded(rows)
    source = RowSource(iter(rows), None if streaming else len(rows))
    source.notes.formats["Hub dataset"] += 1
    return source


def _hub_files(data: DataConfig, token: str | bool | None) -> RowSource:
    """The rows of a Hub dataset whose files `datasets` cannot join, read one file after another."""
    datasets = datasets_library()
    from huggingface_hub import hf_hub_download

    builder = datasets.load_dataset_builder(data.prompts, data.config_name, revision=data.revision, token=token)
    found = {str(split): list(files) for split, files in (builder.config.data_files or {}).items()}
    if data.split not in found:
        raise _wrong_split(data, found)
    files = []
    for address in found[data.split]:
        revision, _, name = address.partition(f"datasets/{data.prompts}@")[2].partition("/")
        files.append(Path(hf_hub_download(data.prompts, name, repo_type="dataset", revision=revision, token=token)))
    notes = FileNotes()
    rows = chain.from_iterable(rows_of_file(file, notes, data.split) for file in files)
    return RowSource(rows, None, notes, files)
