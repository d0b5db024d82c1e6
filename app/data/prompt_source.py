"""Prompts as the Data step reads them: the embedded ones, an upload kept beside the runs, or rows of a Hub dataset."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from app.server import model_facts
from app.server.studio import Studio
from simct import demo
from simct.config import RunConfig, local_path, set_option
from simct.config.sections import DataConfig
from simct.data.formats import COMPRESSED, READERS, Row, Unreadable, suffix_of
from simct.errors import DataError, RunError
from simct.hub.repo_ids import split_revision

if TYPE_CHECKING:
    from simct.data.prompt_report import PromptReport
    from simct.data.prompts import DataSummary, Prompt
    from simct.data.sources import RowSource
    from simct.tokenization.pair import TokenizerPair

SAMPLE = 2000
HUB_ROWS = 100
PREVIEWED = 5
SUFFIXES = tuple(READERS) + COMPRESSED
LARGEST_COUNTED = 2**26  # bytes of files whose rows are counted for the preview
FIELDS = (
    "prompts", "split", "config_name", "revision", "column", "answer_column", "system_column", "template", "system",
    "limit", "completion_column", "checker_column",
)  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """The first rows of a source, `total` rows where that is known, and what its files turned out to be."""

    rows: "list[Row | Unreadable]"
    total: int | None
    source: "RowSource"

    @property
    def readable(self) -> list[dict[str, Any]]:
        """Those that could be read."""
        return [row for row in self.rows if isinstance(row, dict)]

    @property
    def columns(self) -> list[str]:
        """The columns of all of them, as rows may differ."""
        return list(dict.fromkeys(name for row in self.readable for name in row))


@dataclass(frozen=True, eq=False)
class Source:
    """What was read: `total` rows where that is known, and the prompts among the first of them.

    `rows` are the first few as they are; `summary` says how all that were looked at were read.
    """

    columns: list[str]
    rows: list[dict[str, Any]]
    prompts: "list[Prompt]"
    total: int | None
    summary: "DataSummary"


def data_config(chosen: dict[str, Any] | None) -> DataConfig:
    """The `data` of run.yaml from what the browser kept. Raises ConfigError for a value of the wrong type."""
    config = RunConfig()
    for name in FIELDS:
        value = (chosen or {}).get(name)
        if value not in (None, ""):
            set_option(config, f"data.{name}", value)
    return config.data


def uploads_dir(studio: Studio) -> Path:
    return studio.runs_dir / ".uploads"


def keep_upload(studio: Studio, path: str) -> str:
    """An uploaded file lies in a temporary folder: keep a copy beside the runs, named by its content.

    Raises DataError for a path that no upload made, RunError if the copy cannot be written.
    """
    uploaded = Path(path).resolve()
    if not uploaded.is_file() or not uploaded.is_relative_to(Path(get_upload_folder()).resolve()):
        raise DataError("The upload did not arrive. Choose the file again.")
    digest = hashlib.sha256(uploaded.read_bytes()).hexdigest()[:32]
    kept = uploads_dir(studio) / f"{digest}{suffix_of(uploaded)}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        if not kept.exists():
            shutil.copyfile(uploaded, kept)
    except OSError as error:
        raise RunError(f"Cannot keep the prompts in {str(kept.parent)!r}: {error.strerror}.") from error
    return str(kept)


def guard_prompts(studio: Studio, prompts: str) -> None:
    """Raises DataError for no prompts, and in public for a file that was neither embedded nor uploaded."""
    if not prompts:
        raise DataError("There are no prompts. Use the embedded ones, upload a file, or name a Hub dataset.")
    ours = prompts == str(demo.PROMPTS) or Path(prompts).resolve().is_relative_to(uploads_dir(studio).resolve())
    if studio.public and not ours and local_path(prompts) is not None:
        raise DataError("A public studio reads prompts from the Hub or an upload only. Give an id like owner/name.")


def rows_of(studio: Studio, data: DataConfig, token: str | bool | None) -> Rows:
    """Up to SAMPLE rows of a file, or up to HUB_ROWS of a Hub dataset.

    Raises a one-line DataError or HubError, also for no rows at all.
    """
    guard_prompts(studio, data.prompts)
    return studio.kept(_rows)(data.prompts, data.config_name, data.split, data.revision, _changed(data), token)


def _changed(data: DataConfig) -> int:
    """When a file was changed last, so that it is read again then."""
    path = local_path(data.prompts)
    return path.stat().st_mtime_ns if path is not None else 0


def read(studio: Studio, data: DataConfig, token: str | bool | None) -> Source:
    """The prompts of those rows. Raises a one-line DataError or HubError."""
    guard_prompts(studio, data.prompts)
    return studio.kept(_read)(studio, json.dumps([getattr(data, name) for name in FIELDS]), _changed(data), token)


def _read(studio: Studio, fields: str, changed: int, token: str | bool | None) -> Source:
    from simct.data.prompts import prompts_in

    data = DataConfig(**dict(zip(FIELDS, json.loads(fields), strict=True)))
    first = rows_of(studio, data, token)
    found = prompts_in(first.rows, data, first.source)
    return Source(first.columns, first.readable[:PREVIEWED], found.prompts, first.total, found.summary)


def _rows(
    prompts: str, config_name: str | None, split: str, revision: str | None, changed: int, token: str | bool | None
) -> Rows:
    from simct.data.sources import RowSource, check_configuration, names_a_path, open_rows

    data = DataConfig(prompts=prompts, split=split, config_name=config_name, revision=revision)
    if local_path(prompts) is None and not names_a_path(prompts):
        from simct.hub.datasets import preview_dataset

        check_configuration(data, token)
        rows: list[Row | Unreadable] = [*preview_dataset(prompts, config_name, split, HUB_ROWS, token)]
        source = RowSource(iter(()))
        source.notes.formats["Hub dataset"] += 1
        total = len(rows) if len(rows) < HUB_ROWS else None
    else:
        source = open_rows(data)
        rows = list(islice(source.rows, SAMPLE))
        total = source.total
        if total is None and sum(file.stat().st_size for file in source.files) <= LARGEST_COUNTED:
            total = len(rows) + sum(1 for _ in source.rows)
    if not rows:
        raise DataError(f"{prompts!r} has no rows. Give a file or dataset with at least one prompt.")
    return Rows(rows, total, source)


def report(
    studio: Studio, teacher: str, student: str, data: DataConfig, run: RunConfig, token: str | bool | None
) -> "tuple[Source, PromptReport]":
    """What was read, and what a pair makes of it. Raises a one-line SimCTError."""
    source = read(studio, data, token)
    pair = model_facts.pair_of(studio, teacher, student, token, run)
    limits = [run.training.max_length, *(context_length(studio, model, token) for model in (teacher, student))]
    room = max(0, min(limit for limit in limits if limit) - run.rollout.max_new_tokens)
    with studio.describing:
        return source, studio.kept(_report)(
            pair, source, room, (run.student.enable_thinking, run.teacher.enable_thinking), run.teacher.system
        )


def _report(
    pair: "TokenizerPair",
    source: Source,
    room: int,
    enable_thinking: tuple[bool | None, bool | None],
    teacher_system: str | None,
) -> "PromptReport":
    from simct.data.prompt_report import describe_prompts

    return describe_prompts(source.prompts, pair, room, enable_thinking, teacher_system)


def context_length(studio: Studio, model: str, token: str | bool | None) -> int | None:
    """How many tokens the model can read, by its config. Raises a one-line SimCTError."""
    return studio.kept(_context_length, 32)(model_facts.allowed(studio, model), token)


def _context_length(model: str, token: str | bool | None) -> int | None:
    from simct.config.sections import ModelConfig
    from simct.estimate.memory import load_shape_config

    name, revision = split_revision(model)
    config = load_shape_config(ModelConfig(model=name, revision=revision), token)
    return getattr(config.get_text_config(), "max_position_embeddings", None)
