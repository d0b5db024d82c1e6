"""A teacher's scores on disk: its listed tokens at each position of given texts, written once, read without it.

A folder holds scores.parquet (one row per text) and about.json, which names the model, its tokenizer's fingerprint and
the SHA-256 of the Parquet file, so that a changed or shortened file is noticed. A text is found by the hash of its ids.
Shapes: R rows, K listed tokens.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import torch

from simct.errors import ConfigError, RunError, brief
from simct.files import expanded, read_json, write_atomically
from simct.hub.repo_ids import REPO_ID, is_folder
from simct.losses.divergence import LOG_ZERO
from simct.losses.teacher_rows import ListedRows
from simct.tokenization.token_bytes import TokenBytes

SCORES, ABOUT = "scores.parquet", "about.json"
# texts that are read at once, because a run asks for them in its own order
TEXTS_AT_ONCE = 16
SCHEMA = pyarrow.schema(
    {
        "text": pyarrow.binary(),
        "rows": pyarrow.int32(),
        "ids": pyarrow.list_(pyarrow.int32()),
        "log_p": pyarrow.list_(pyarrow.float32()),
        "log_rest": pyarrow.list_(pyarrow.float32()),
    }
)
Spans = list[list[tuple[int, int]]]


def text_key(prompt: list[int], completion: list[int]) -> bytes:
    """The SHA-256 of a text's ids, with the place where the completion begins."""
    return hashlib.sha256(np.array([len(prompt), *prompt, *completion], dtype="<i8").tobytes()).digest()


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ready_folder(folder: Path) -> None:
    """Make the folder that gets the scores, before a teacher is loaded for them.

    Raises ConfigError if it cannot be written, or holds files that are no scores.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise ConfigError(
            f"Cannot write scores to {str(folder)!r}: {error.strerror}. Choose another folder."
        ) from error
    others = [name for name in sorted(files) if name not in (SCORES, ABOUT, f".{SCORES}")]
    if others:
        raise ConfigError(
            f"The folder {str(folder)!r} holds other files, such as {others[0]!r}. Choose a new or empty one for the "
            "scores."
        )
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"Cannot write scores to {str(folder)!r}: permission denied. Choose another folder.")


def write_scores(
    folder: Path, about: dict[str, Any], scored: Iterable[list[tuple[bytes, ListedRows]]]
) -> dict[str, Any]:
    """Write a folder of scores, its Parquet file completely or not at all; returns what about.json says.

    `scored` yields batches of (text_key, rows of the completion); a repeated text is kept once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{SCORES}"
    known: set[bytes] = set()
    tokens = 0
    with pyarrow.parquet.ParquetWriter(temporary, SCHEMA, compression="zstd") as file:
        waiting: list[dict[str, Any]] = []
        for batch in scored:
            for key, rows in batch:
                if key not in known:
                    known.add(key)
                    tokens += len(rows.log_rest_R)
                    waiting.append(_record(key, rows))
            while len(waiting) >= TEXTS_AT_ONCE:
                file.write_table(pyarrow.Table.from_pylist(waiting[:TEXTS_AT_ONCE], SCHEMA))
                waiting = waiting[TEXTS_AT_ONCE:]
        if waiting:
            file.write_table(pyarrow.Table.from_pylist(waiting, SCHEMA))
    found = about | {"texts": len(known), "tokens": tokens, "sha256": file_hash(temporary)}
    os.replace(temporary, folder / SCORES)
    write_atomically(folder / ABOUT, json.dumps(found, indent=1) + "\n")
    return found


def _record(key: bytes, rows: ListedRows) -> dict[str, Any]:
    ids_RK, log_p_RK = rows.ids_RK.numpy(), rows.log_p_RK.numpy()
    return {
        "text": key,
        "rows": len(ids_RK),
        "ids": ids_RK.ravel(),
        "log_p": log_p_RK.ravel(),
        "log_rest": rows.log_rest_R.numpy(),
    }


class StoredTeacher:
    """The scores in a folder as a teacher, those of `model` if it is given.

    context_length: the most tokens that this teacher read, if known. listed: how many tokens are stored for each
    position. Raises ConfigError for a folder that does not hold this teacher's scores.
    """

    def __init__(self, folder: str | Path, tokens: TokenBytes, model: str = "") -> None:
        self.folder, self.tokens = expanded(folder), tokens
        self.vocabulary = max(len(tokens.bytes_of), max(tokens.end_ids) + 1)
        about, path = read_json(self.folder / ABOUT), self.folder / SCORES
        if not about or not path.is_file():
            raise ConfigError(
                f"teacher.scores is {str(folder)!r}, which holds no scores. Make them with `simct teach`."
            )
        if about.get("tokenizer") != tokens.fingerprint:
            raise ConfigError(
                f"The scores in {str(folder)!r} are of {about.get('model')!r}, which has another tokenizer. Name "
                "that model as teacher.model, or make the scores again."
            )
        scored = str(about.get("model"))
        # the same model may be in another folder now, but a repository keeps its name
        if scored != model and all(map(REPO_ID.fullmatch, (scored, model))) and not is_folder(model):
            raise ConfigError(
                f"The scores in {str(folder)!r} are of {scored!r}, and teacher.model is {model!r}. Name the model that "
                "was scored, or make the scores again."
            )
        self.context_length: int | None = about.get("context_length")
        self.listed: int | None = about.get("listed")
        if about.get("sha256") != file_hash(path):
            raise ConfigError(f"{str(path)!r} has changed since it was written. Make it again with `simct teach`.")
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
            keys = [self.file.read_row_group(group, ["text"]) for group in range(self.file.num_row_groups)]
        except (OSError, pyarrow.ArrowException) as error:
            raise ConfigError(f"{str(path)!r} cannot be read: {brief(error)}") from error
        self.place = {
            key: (group, row)
            for group, table in enumerate(keys)
            for row, key in enumerate(table.column("text").to_pylist())
        }
        self._group = lru_cache(maxsize=64)(self.file.read_row_group)

    def start(
        self, prompts: list[list[int]], completions: list[list[int]], spans: Spans | None = None
    ) -> Callable[[], ListedRows]:
        """The rows are read when the result is called. Raises RunError for a text that was not scored."""
        wanted = spans or [[(0, len(completion))] for completion in completions]

        def read() -> ListedRows:
            parts = [
                each[start:end]
                for prompt, completion, places in zip(prompts, completions, wanted, strict=True)
                for each in [self._text(prompt, completion)]
                for start, end in places
            ]
            width = max(part.shape[1] for part in parts)
            return ListedRows(
                torch.from_numpy(np.concatenate([_wide(part["ids"], width, self.vocabulary) for part in parts])),
                torch.from_numpy(np.concatenate([_wide(part["log_p"], width, LOG_ZERO) for part in parts])),
                torch.from_numpy(np.concatenate([part["log_rest"][:, 0] for part in parts])),
                self.vocabulary,
            )

        return read

    def _text(self, prompt: list[int], completion: list[int]) -> np.ndarray:
        """[R, K] of (ids, log_p, log_rest), log_rest the same in all columns."""
        found = self.place.get(text_key(prompt, completion))
        if found is None:
            raise RunError(
                f"The scores in {str(self.folder)!r} lack a text of this run. Make them with `simct teach` from this "
                "run.yaml: data, templates and lengths must be the same."
            )
        group, row = found
        record = self._group(group).slice(row, 1).to_pylist()[0]
        ids_RK = np.array(record["ids"], np.int64).reshape(record["rows"], -1)
        rows = np.zeros(ids_RK.shape, [("ids", np.int64), ("log_p", np.float32), ("log_rest", np.float32)])
        rows["ids"], rows["log_p"] = ids_RK, np.array(record["log_p"], np.float32).reshape(ids_RK.shape)
        rows["log_rest"] = np.array(record["log_rest"], np.float32)[:, None]
        return rows

    def usage(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.file.close()


def _wide(values_RK: np.ndarray, width: int, unused: float) -> np.ndarray:
    return np.pad(values_RK, ((0, 0), (0, width - values_RK.shape[1])), constant_values=unused)
