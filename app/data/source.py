"""Prompts as the Data step reads them: the embedded ones, an upload kept beside the runs, or rows of a Hub dataset."""

import hashlib
import json
import shutil
import threading
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from gradio.utils import get_upload_folder

from app.server import model_facts as models
from app.server.settings import Settings
from simct import demo
from simct.config import DataConfig, RunConfig, local_path, set_option
from simct.data.formats import COMPRESSED, READERS, suffix_of
from simct.errors import DataError, RunError

if TYPE_CHECKING:
    from simct.data.prompts import DataSummary
    from simct.data.sources import RowSource

SAMPLE = 2000
HUB_ROWS = 100
PREVIEWED = 5
SUFFIXES = tuple(READERS) + COMPRESSED
LARGEST_COUNTED = 2**26  # bytes of a file whose rows are counted for the preview
FIELDS = (
    "prompts", "split", "config_name", "revision", "column", "answer_column", "system_column", "template", "system",
    "limit",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Source:
    """What was read: `total` rows where that is known, and the prompts among the first of them.

    `rows` are the first few as they are; `summary` says how all that were looked at were read.
    """

    columns: list[str]
    rows: list[dict]
    prompts: list
    total: int | None
    summary: "DataSummary"


def data_config(chosen: dict | None) -> DataConfig:
    """The `data` of run.yaml from what the browser kept. Raises ConfigError for a value of the wrong type."""
    config = RunConfig()
    for name in FIELDS:
        value = (chosen or {}).get(name)
        if value not in (None, ""):
            set_option(config, f"data.{name}", value)
    return config.data


def uploads_dir(settings: Settings) -> Path:
    return settings.runs_dir / ".uploads"


def keep_upload(settings: Settings, path: str) -> str:
    """An uploaded file lies in a temporary folder: keep a copy beside the runs, named by its content.

    Raises DataError for a path that no upload made, RunError if the copy cannot be written.
    """
    uploaded = Path(path).resolve()
    if not uploaded.is_file() or not uploaded.is_relative_to(Path(get_upload_folder()).resolve()):
        raise DataError("The upload did not arrive. Choose the file again.")
    digest = hashlib.sha256(uploaded.read_bytes()).hexdigest()[:32]
    kept = uploads_dir(settings) / f"{digest}{suffix_of(uploaded)}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            shutil.copyfile(uploaded, kept)
    except OSError as error:
        raise RunError(f"Cannot keep the prompts in {str(kept.parent)!r}: {error.strerror}.") from error
    return str(kept)


def guard_prompts(settings: Settings, prompts: str) -> None:
    """Raises DataError for no prompts, and in public for a file that was neither embedded nor uploaded."""
    if not prompts:
        raise DataError("There are no prompts. Use the embedded ones, upload a file, or name a Hub dataset.")
    ours = prompts == str(demo.PROMPTS) or Path(prompts).resolve().is_relative_to(uploads_dir(settings).resolve())
    if settings.public and not ours and local_path(prompts) is not None:
        raise DataError("A public studio reads prompts from the Hub or an upload only. Give an id like owner/name.")


def rows_of(settings: Settings, data: DataConfig, token: str | bool | None) -> tuple[list[dict], int | None]:
    """Up to SAMPLE rows of a file, or up to HUB_ROWS of a Hub dataset, and how many there are in all where known.

    Raises a one-line DataError or HubError, also for no rows at all.
    """
    guard_prompts(settings, data.prompts)
    path = local_path(data.prompts)
    changed = path.stat().st_mtime_ns if path is not None else 0
    rows, total, _ = _rows(data.prompts, data.config_name, data.split, data.revision, changed, token)
    return _readable(rows), total


def read(settings: Settings, data: DataConfig, token: str | bool | None) -> Source:
    """The prompts of those rows. Raises a one-line DataError or HubError."""
    rows_of(settings, data, token)
    path = local_path(data.prompts)
    changed = path.stat().st_mtime_ns if path is not None else 0
    return _read(json.dumps([getattr(data, name) for name in FIELDS]), changed, token)


@lru_cache(maxsize=8)
def _read(fields: str, changed: int, token: str | bool | None) -> Source:
    from simct.data.prompts import prompts_in

    data = DataConfig(**dict(zip(FIELDS, json.loads(fields), strict=True)))
    rows, total, source = _rows(data.prompts, data.config_name, data.split, data.revision, changed, token)
    found = prompts_in(rows, data, source)
    shown = _readable(rows)
    return Source(columns_of(shown), shown[:PREVIEWED], found.prompts, total, found.summary)


def _readable(rows: list) -> list[dict]:
    return [row for row in rows if isinstance(row, dict)]


def columns_of(rows: list[dict]) -> list[str]:
    """The columns of all these rows, as rows may differ."""
    return list(dict.fromkeys(name for row in rows for name in row))


@lru_cache(maxsize=8)
def _rows(
    prompts: str, config_name: str | None, split: str, revision: str | None, changed: int, token: str | bool | None
) -> tuple[list, int | None, "RowSource"]:
    from simct.data.sources import RowSource, check_configuration, names_a_path, open_rows

    data = DataConfig(prompts, split, config_name, revision)
    if local_path(prompts) is None and not names_a_path(prompts):
        from simct.hub.datasets import preview_dataset

        check_configuration(data, token)
        rows: list = preview_dataset(prompts, config_name, split, HUB_ROWS, token)
        total = len(rows) if len(rows) < HUB_ROWS else None
        source = RowSource(iter(()), total)
        source.notes.formats["Hub dataset"] += 1
    else:
        source = open_rows(data)
        rows = list(islice(source.rows, SAMPLE))
        total = source.total
        if total is None and sum(file.stat().st_size for file in source.files) <= LARGEST_COUNTED:
            total = len(rows) + sum(1 for _ in source.rows)
    if not rows:
        raise DataError(f"{prompts!r} has no rows. Give a file or dataset with at least one prompt.")
    return rows, total, source


_describing = threading.Lock()


def report(settings: Settings, teacher: str, student: str, data: DataConfig, run: RunConfig, token: str | bool | None):
    """(Source, PromptReport) for a pair. Raises a one-line SimCTError."""
    source = read(settings, data, token)
    pair = models.pair_of(settings, teacher, student, token)
    limits = [run.training.max_length, *(context_length(settings, model, token) for model in (teacher, student))]
    room = max(0, min(limit for limit in limits if limit) - run.rollout.max_new_tokens)
    with _describing:
        return source, _report(pair, source, room)


@lru_cache(maxsize=8)
def _report(pair, source: Source, room: int):
    from simct.data.prompt_report import describe_prompts

    return describe_prompts(source.prompts, pair, room)


def context_length(settings: Settings, model: str, token: str | bool | None) -> int | None:
    """How many tokens the model can read, by its config. Raises a one-line SimCTError."""
    return _context_length(models.allowed(settings, model), token)


@lru_cache(maxsize=32)
def _context_length(model: str, token: str | bool | None) -> int | None:
    from simct.config import ModelConfig
    from simct.estimate.memory import load_shape_config

    config = load_shape_config(ModelConfig(*models.split_revision(model)), token)
    return getattr(config.get_text_config(), "max_position_embeddings", None)
