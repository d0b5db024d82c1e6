"""Prompts as the Data step reads them: the embedded ones, an upload kept beside the runs, or rows of a Hub dataset."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from app.reading.records import FIELDS, DataAt, PromptReading, PromptsReading, RowsReading, Source
from app.reading.setup import explicit_token
from app.server import model_facts
from app.server.studio import Studio
from simct import demo
from simct.config import RunConfig, local_path, set_option
from simct.config.sections import DataConfig
from simct.data.formats import COMPRESSED, READERS, suffix_of
from simct.errors import DataError, RunError

if TYPE_CHECKING:
    from simct.data.prompt_report import PromptReport

SUFFIXES = tuple(READERS) + COMPRESSED


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


def rows_of(studio: Studio, data: DataConfig, token: str | bool | None) -> RowsReading:
    """The first rows of a file or a Hub dataset, as they are shown.

    Raises a one-line DataError or HubError, also for no rows at all.
    """
    return studio.kept(_rows)(studio, place(studio, data, token))


def place(studio: Studio, data: DataConfig, token: str | bool | None) -> DataAt:
    """Where a worker reads these prompts. Raises DataError for those that this studio may not read."""
    guard_prompts(studio, data.prompts)
    return DataAt.of(data, explicit_token(token))


def _rows(studio: Studio, at: DataAt) -> RowsReading:
    from app.reading import prompts

    return studio.workers.run(prompts.read_rows, at, what=repr(at.config.prompts), near=at)


def read(studio: Studio, data: DataConfig, token: str | bool | None) -> PromptsReading:
    """The prompts of those rows. Raises a one-line DataError or HubError."""
    return studio.kept(_read)(studio, place(studio, data, token))


def read_given(studio: Studio, data: DataConfig, token: str | bool | None) -> PromptsReading:
    """The prompts of a source that is known to be the visitor's to read. Raises a one-line DataError or HubError."""
    return studio.kept(_read)(studio, DataAt.of(data, explicit_token(token)))


def _read(studio: Studio, at: DataAt) -> PromptsReading:
    from app.reading import prompts

    return studio.workers.run(prompts.read_prompts, at, what=repr(at.config.prompts), near=at)


def report(
    studio: Studio, teacher: str, student: str, data: DataConfig, run: RunConfig, token: str | bool | None
) -> "tuple[PromptsReading, PromptReport]":
    """What was read, and what a pair makes of it. Raises a one-line SimCTError."""
    source = read(studio, data, token)
    sides = _sides(studio, teacher, student, run, token)
    limits = [run.training.max_length, *(context_length(studio, side) for side in sides)]
    room = max(0, min(limit for limit in limits if limit) - run.rollout.max_new_tokens)
    return source, studio.kept(_report)(studio, place(studio, data, token), *sides, room)


def _sides(
    studio: Studio, teacher: str, student: str, run: RunConfig, token: str | bool | None
) -> tuple[Source, Source]:
    """Both models, to be read as the run renders prompts for them."""
    return (
        model_facts.source(studio, teacher, token, run.teacher),
        model_facts.source(studio, student, token, run.student),
    )


def _report(studio: Studio, at: DataAt, teacher: Source, student: Source, room: int) -> "PromptReport":
    from app.reading import prompts

    asked = (at, teacher, student, room)
    return studio.workers.run(prompts.report_prompts, *asked, what="The prompts", near=at)


def readings(
    studio: Studio,
    teacher: str,
    student: str,
    data: DataConfig,
    run: RunConfig,
    number: int,
    token: str | bool | None,
) -> Sequence[PromptReading]:
    """Prompt `number`, from 1 on, as the student and as the teacher of a run read it. Raises a one-line SimCTError."""
    from app.reading import prompts

    sides = _sides(studio, teacher, student, run, token)
    at = place(studio, data, token)
    return studio.workers.run(prompts.read_both, at, *sides, number, what="This prompt", near=at)


def context_length(studio: Studio, side: Source) -> int | None:
    """How many tokens the model can read, by its config. Raises a one-line SimCTError."""
    return studio.kept(_context_length, 32)(studio, side)


def _context_length(studio: Studio, side: Source) -> int | None:
    from app.reading import runs

    return studio.workers.run(runs.context_length, side, what=f"The config of {side.name!r}", near=side)
