"""Rows of files, folders and Hub datasets, and which of their columns hold prompts and answers."""

from pathlib import Path

from simct.config import local_path
from simct.config.sections import DataConfig
from simct.errors import DataError, brief
from simct.hub.errors import hub_error

PROMPT_COLUMNS = ("messages", "prompt", "question", "problem", "instruction", "conversations")


ANSWER_COLUMNS = ("answer", "final_answer", "solution")


READERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}


def prompt_and_answer(columns: list[str], data: DataConfig) -> tuple[str, str | None]:
    """The columns that hold prompt and answer: those `data` names, else those found by name. Raises DataError."""
    column = data.column or next((name for name in PROMPT_COLUMNS if name in columns), None)
    if column is None or column not in columns:
        wanted = f"no column {column!r}" if column else f"none of the columns {', '.join(PROMPT_COLUMNS)}"
        raise DataError(
            f"{data.prompts!r} has {wanted}; it has {', '.join(columns)}. Name the prompt column with data.column."
        )
    answer_column = data.answer_column or next((name for name in ANSWER_COLUMNS if name in columns), None)
    if data.answer_column and data.answer_column not in columns:
        raise DataError(f"{data.prompts!r} has no column {data.answer_column!r}; it has {', '.join(columns)}.")
    return column, answer_column


def load_rows(data: DataConfig, token: str | None = None):
    """The `datasets.Dataset` that `data` names, its rows as they are. Raises DataError or HubError (one line)."""
    import datasets

    path = local_path(data.prompts)
    try:
        if path is None:
            if Path(data.prompts).suffix in READERS or data.prompts.startswith(("/", "./", "../", "~")):
                raise DataError(f"There is no file {data.prompts!r}. Check the path.")
            return datasets.load_dataset(
                data.prompts, data.config_name, split=data.split, revision=data.revision, token=token
            )
        if path.is_dir():
            return datasets.load_dataset(str(path), split=data.split)
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise DataError(f"{data.prompts!r} is not JSONL, CSV, Parquet or text. Convert it to one of these.")
        if path.stat().st_size == 0:
            raise DataError(f"{data.prompts!r} is empty. Give a file with at least one prompt.")
        rows = datasets.load_dataset(reader, data_files=str(path), split="train")
        return rows.rename_column("text", "prompt") if reader == "text" else rows
    except DataError:
        raise
    except Exception as error:
        # datasets raises a dozen unrelated types here (pyarrow, JSON, httpx, its own), each a reason to tell
        if path is None:
            raise hub_error(error, data.prompts, kind="dataset") from error
        reason = brief(error.__cause__ or error)
        raise DataError(f"Cannot load prompts from {data.prompts!r}: {reason}") from error
