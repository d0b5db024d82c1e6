"""Prompts as the Data step reads them: the embedded ones, an upload kept next to the runs, or rows of a Hub dataset."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.reading.records import FIELDS, DataAt, PromptReading, PromptsReading, ReadPrompt, RowsReading, Source
from app.reading.setup import explicit_token
from app.server import model_facts, paths
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.config import RunConfig, rules, set_option
from simct.config.sections import DataConfig
from simct.data.formats import format_of, unknown_format
from simct.errors import ConfigError, DataError
from simct.hub.repo_ids import is_repository

if TYPE_CHECKING:
    from simct.data.prompt_report import PromptReport


def data_config(chosen: dict[str, Any] | None) -> DataConfig:
    """The `data` of run.yaml from what the browser kept. Raises ConfigError for a value that is not allowed."""
    data, refused = read_choice(chosen)
    if refused:
        raise refused[0]
    return data


def read_choice(chosen: dict[str, Any] | None) -> tuple[DataConfig, list[ConfigError]]:
    """The same, and an error for each value that is not allowed, whose setting keeps its default."""
    config, refused = RunConfig(), []
    for name in FIELDS:
        value = (chosen or {}).get(name)
        try:
            if value not in (None, "", []):
                set_option(config, f"data.{name}", value)
        except ConfigError as error:
            refused.append(error)
    try:
        rules.check_data(config)
    except ConfigError as error:
        refused.append(error)
    return config.data, refused


def keep_upload(studio: Studio, path: str, visitor: Visitor | None = None) -> str:
    """Copy an uploaded file from its temporary folder to a place next to the runs, where only this visitor can name it.

    Raises DataError for a path that no upload made and for a file that is not in a known format, RunError if the copy
    cannot be written.
    """
    if format_of(path) is None:
        raise DataError(unknown_format(path))
    return studio.uploads.keep(path, visitor or studio.nobody, studio.public)


def guard_prompts(studio: Studio, prompts: str) -> None:
    """Raises DataError if there are no prompts and, in public, for a file that was neither embedded nor uploaded.

    The owner of an upload is checked where a visitor names it (app.server.paths.check_data).
    """
    if not prompts:
        raise DataError(paths.NO_PROMPTS)
    known = prompts in paths.EMBEDDED_PROMPTS or is_repository(prompts) or paths.is_kept_here(studio, prompts)
    if studio.public and not known:
        raise DataError(paths.HUB_OR_UPLOAD)


def rows_of(studio: Studio, data: DataConfig, token: str | bool | None) -> RowsReading:
    """The first rows of a file or a Hub dataset, as they are shown.

    Raises a one-line DataError or HubError, also if there are no rows.
    """
    return studio.kept(_rows)(studio, place(studio, data, token))


def place(studio: Studio, data: DataConfig, token: str | bool | None) -> DataAt:
    """Where a worker reads these prompts. Raises DataError if this studio may not read them."""
    guard_prompts(studio, data.prompts)
    return DataAt.of(data, explicit_token(token))


def _rows(studio: Studio, at: DataAt) -> RowsReading:
    from app.reading import prompts

    return studio.workers.run(prompts.read_rows, at, what=repr(at.config.prompts), near=at)


def read(studio: Studio, data: DataConfig, token: str | bool | None) -> PromptsReading:
    """The prompts of those rows. Raises a one-line DataError or HubError."""
    return studio.kept(_read)(studio, place(studio, data, token))


def read_given(studio: Studio, data: DataConfig, token: str | bool | None) -> PromptsReading:
    """The prompts of a source that the visitor is already known to own. Raises a one-line DataError or HubError."""
    return studio.kept(_read)(studio, DataAt.of(data, explicit_token(token)))


def _read(studio: Studio, at: DataAt) -> PromptsReading:
    from app.reading import prompts

    return studio.workers.run(prompts.read_prompts, at, what=repr(at.config.prompts), near=at)


def preview(studio: Studio, data: DataConfig, token: str | bool | None) -> tuple[ReadPrompt, ...]:
    """The prompts of the first rows, as these columns or this template make them. Raises a one-line DataError."""
    from app.reading import prompts

    at = place(studio, data, token)
    return studio.workers.run(prompts.preview_prompts, at, what=repr(data.prompts), near=at)


def report(
    studio: Studio, teacher: str, student: str, data: DataConfig, run: RunConfig, token: str | bool | None
) -> "tuple[PromptsReading, PromptReport]":
    """The prompts that were read, and the report on them for a pair. Raises a one-line SimCTError."""
    source = read(studio, data, token)
    sides = _sides(studio, teacher, student, run, token)
    limits = [run.training.max_length, *(context_length(studio, side) for side in sides)]
    room = max(0, min(limit for limit in limits if limit) - run.rollout.max_new_tokens)
    return source, studio.kept(_report)(studio, place(studio, data, token), *sides, room)


def _sides(
    studio: Studio, teacher: str, student: str, run: RunConfig, token: str | bool | None
) -> tuple[Source, Source]:
    """Both models, with the settings by which the run renders prompts for them."""
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
    """Prompt `number`, counted from 1, as the student and the teacher of a run read it. Raises one-line SimCTErrors."""
    from app.reading import prompts

    sides = _sides(studio, teacher, student, run, token)
    at = place(studio, data, token)
    return studio.workers.run(prompts.read_both, at, *sides, number, what="This prompt", near=at)


def context_length(studio: Studio, side: Source) -> int | None:
    """How many tokens the model can read, according to its config. Raises a one-line SimCTError."""
    return studio.kept(_context_length, 32)(studio, side)


def _context_length(studio: Studio, side: Source) -> int | None:
    from app.reading import runs

    return studio.workers.run(runs.context_length, side, what=f"The config of {side.name!r}", near=side)
