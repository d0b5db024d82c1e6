"""The HTML of what `reliability.measure_pair` found: the verdict in words with its numbers, and plots of the
numbers.
"""

import json
from typing import Any

from app.inspect import numbers
from app.page import markup, saving
from app.server.model_facts import display_name
from simct import demo
from simct.config import RunConfig, set_option
from simct.errors import ConfigError, DataError
from simct.inspection.records import Reliability
from simct.report import charts, facts


def keep(teacher: str, student: str, measured: Reliability) -> dict[str, Any]:
    """The record of a measured pair that the browser keeps and the Train step reads."""
    return {
        "teacher": teacher,
        "student": student,
        "method": measured.method,
        "method_options": measured.method_options,
        "settings": measured.settings,
        "words": measured.verdict,
        "report": measured.to_dict(),
    }


def in_advance() -> dict[str, Any]:
    """The record of the embedded pair. It was measured in advance and comes with the studio."""
    report = json.loads(demo.MEASURED.read_text(encoding="utf-8"))
    return {**keep(str(demo.TEACHER), str(demo.STUDENT), Reliability.from_dict(report)), "in_advance": True}


def kept(known: dict[str, Any] | None, teacher: str, student: str) -> Reliability | None:
    """The browser's record of this pair; None if it is about another pair or cannot be read."""
    known = known or {}
    if (known.get("teacher"), known.get("student")) != (teacher, student):
        return None
    try:
        return Reliability.from_dict(known.get("report"))
    except DataError:
        return None


def recommended(config: RunConfig, known: dict[str, Any] | None) -> RunConfig:
    """The run with the recommended method and settings; unknown settings are left out."""
    for name, value in ((known or {}).get("settings") or {}).items():
        try:
            set_option(config, name, value)
        except ConfigError:
            continue
    return config


def draw(measured: Reliability) -> str:
    """Everything about a measured pair."""
    drawn = (
        charts.mass_bars(measured),
        charts.mass_histogram(measured.z_t),
        charts.kl_ranges(measured),
        charts.cosine_bar(measured),
    )
    figures = "".join(chart.figure() for chart in drawn)
    return (
        f'{_verdict(measured)}<div class="many">{numbers.tiles(facts.reliability_facts(measured))}</div>'
        f'<div class="charts loose">{figures}</div>{_splits(measured)}'
    )


def _verdict(measured: Reliability) -> str:
    verdict = facts.verdict_text(measured)
    return (
        f'<div class="verdict"><b>{markup.escape(verdict.use)}</b><p>{markup.escape(verdict.reasons)}</p>'
        f"{markup.table(('Setting', 'Recommended'), verdict.settings)}</div>"
        f'<p class="under">{markup.escape(facts.sample(measured))}</p>'
    )


def _splits(measured: Reliability) -> str:
    rows = [(facts.kind_title(kind), facts.split_facts(row)) for kind, row in measured.recovered_kinds.items()]
    table = numbers.facts_table("Kind of text", rows)
    return f"<h3>Recovered units by kind of text</h3>{table}" if table else ""


def given(known: dict[str, Any] | None, teacher: str, student: str) -> dict[str, Any]:
    """The kept measurement with the pair's names, to save. Raises DataError if there is none."""
    measured = kept(known, teacher, student)
    if measured is None:
        raise DataError("This pair has not been measured yet.")
    names = {"teacher": display_name(teacher), "student": display_name(student)}
    return {**names, **measured.to_dict()}


def report_csv(report: dict[str, Any]) -> str:
    """The single numbers, one per line."""
    rows = [(name, value) for name, value in report.items() if isinstance(value, int | float | str)]
    return saving.as_csv(("name", "value"), rows)
