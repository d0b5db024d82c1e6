"""Prompts as the Data step shows them: the first rows of a file or dataset, and both models' rendering of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from app.reading.models import pair_of, prompt_reading
from app.reading.records import DataAt, PromptReading, PromptsReading, ReadPrompt, RowsReading, Source
from simct.config import local_path
from simct.data.formats import Row, Unreadable
from simct.data.prompt_report import PromptReport, describe_prompts
from simct.data.prompts import Prompt, PromptSet, prompts_in
from simct.data.sources import RowSource, check_configuration, names_a_path, open_rows
from simct.errors import DataError
from simct.hub.datasets import DatasetFacts, dataset_info, preview_dataset
from simct.workers.child import Worker

SAMPLE = 2000
HUB_ROWS = 100
PREVIEWED = 5
LOOKED_AT = 50  # the number of rows in which to look for them
# the most characters of a displayed cell, and of all prompts in a result
MOST_CELL, MOST_TEXT = 240, 8_000_000
LARGEST_COUNTED = 2**26  # the most bytes of files whose rows are counted for the preview


@dataclass(frozen=True, eq=False)
class _Rows:
    rows: "list[Row | Unreadable]"
    total: int | None
    source: RowSource

    @property
    def readable(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if isinstance(row, dict)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of all rows, which may differ."""
        return tuple(dict.fromkeys(str(name) for row in self.readable for name in row))


def read_rows(worker: Worker, at: DataAt) -> RowsReading:
    """Up to SAMPLE rows of a file, or up to HUB_ROWS of a Hub dataset. Raises a one-line DataError or HubError."""
    found = _rows_of(worker, at)
    return RowsReading(shown_rows(found.readable[:PREVIEWED]), found.columns, found.total)


def read_prompts(worker: Worker, at: DataAt) -> PromptsReading:
    """The prompts of those rows. Raises a one-line DataError or HubError."""
    first = _rows_of(worker, at)
    found = read_prompt_set(worker, at)
    rows = shown_rows(first.readable[:PREVIEWED])
    return PromptsReading(first.columns, rows, len(found.prompts), _some(found.prompts), first.total, found.summary)


def report_prompts(worker: Worker, at: DataAt, teacher: Source, student: Source, room: int) -> PromptReport:
    """The prompt report for a pair; `room` is the most tokens of a prompt. Raises a one-line SimCTError."""
    prompts = read_prompt_set(worker, at).prompts
    pair = pair_of(worker, teacher, student)
    worker.step(f"The prompts in the chat templates of {teacher.name!r} and {student.name!r}")
    thinking = student.enable_thinking, teacher.enable_thinking
    return describe_prompts(prompts, pair, room, thinking, teacher.system, at.config)


def preview_prompts(worker: Worker, at: DataAt) -> tuple[ReadPrompt, ...]:
    """The prompts of the first rows. Raises a one-line DataError or HubError."""
    data = at.config.model_copy(update={"exclude_rows": [], "deduplicate": None, "limit": PREVIEWED})
    found = prompts_in(_rows_of(worker, at).rows[:LOOKED_AT], data)
    return tuple(ReadPrompt(each.row or 0, _said(each), _cell(each.answer)) for each in found.prompts)


def _said(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return _cell(prompt.text) or ""
    return "\n".join(f"{message['role']}: {_cell(message['content']) or ''}" for message in prompt.messages[:8])


def read_both(
    worker: Worker, at: DataAt, teacher: Source, student: Source, number: int
) -> tuple[PromptReading, PromptReading]:
    """Prompt `number`, counted from 1, as the student and as the teacher read it. Raises a one-line SimCTError."""
    prompts = read_prompt_set(worker, at).prompts
    prompt = prompts[min(max(number, 1), len(prompts)) - 1]
    return prompt_reading(worker, "student", student, prompt), prompt_reading(worker, "teacher", teacher, prompt)


def read_prompt_set(worker: Worker, at: DataAt) -> PromptSet:
    """All prompts of those rows, for more work in the child."""
    return worker.kept(_prompts, at, _rows_of(worker, at), size=2)


def describe_dataset(worker: Worker, name: str, token: str | bool | None) -> DatasetFacts:
    """Configurations, splits and license of a Hub dataset. Raises a one-line DataError or HubError."""
    worker.step(f"{name!r}")
    return dataset_info(name, token)


def _rows_of(worker: Worker, at: DataAt) -> _Rows:
    worker.step(f"{at.config.prompts!r}")
    return worker.kept(_rows, at.source, size=2)


def _prompts(at: DataAt, first: _Rows) -> PromptSet:
    return prompts_in(first.rows, at.config, first.source)


def _rows(at: DataAt) -> _Rows:
    data = at.config
    if local_path(data.prompts) is None and not names_a_path(data.prompts):
        check_configuration(data, at.token)
        rows: list[Row | Unreadable] = [
            *preview_dataset(data.prompts, data.config_name, data.split, HUB_ROWS, at.token)
        ]
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
        raise DataError(f"{data.prompts!r} has no rows. Give a file or dataset with at least one prompt.")
    return _Rows(rows, total, source)


def shown_rows(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, str | None], ...]:
    """Rows with each cell as text, shortened if it is long."""
    return tuple({str(name): _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…"


def _some(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The first prompts, up to the limit of characters."""
    taken: list[Prompt] = []
    size = 0
    for prompt in prompts:
        size += len(str(prompt.messages)) + len(prompt.answer or "")
        if size > MOST_TEXT and taken:
            break
        taken.append(prompt)
    return tuple(taken)
