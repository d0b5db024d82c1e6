"""The numbers of a pair's report: headline numbers, charts, tables, and the same as files."""

from collections.abc import Iterable
from dataclasses import replace

from app.page import markup, saving
from app.server.model_facts import display_name
from simct.inspection.records import PairReport
from simct.report import charts, facts
from simct.report.facts import Fact


def tiles(found: Iterable[Fact]) -> str:
    """Facts as headline numbers, each with its explanation."""
    return markup.tiles((fact.text, fact.label, fact.explanation) for fact in found)


def facts_table(name: str, rows: Iterable[tuple[str, list[Fact]]]) -> str:
    """One row per name, one column per fact; empty if there are no rows."""
    rows = list(rows)
    if not rows:
        return ""
    headers = (name, *(fact.label for fact in rows[0][1]))
    cells = [(text, *(fact.text for fact in found)) for text, found in rows]
    return markup.table(headers, cells, numeric=range(1, len(headers)))


def headline(report: PairReport) -> str:
    return tiles(facts.coverage_facts(report))


def disagreements(report: PairReport) -> str:
    """The texts that the two sides split differently, most frequent first."""
    if not report.top_disagreements:
        return "<h3>Most frequent disagreements</h3>" + markup.empty("None: every token of this text is shared.")
    rows = [
        (
            markup.visible(row.text),
            markup.chips(map(markup.visible, row.student_tokens)),
            markup.chips(map(markup.visible, row.teacher_tokens)),
            f"{row.count:,}",
        )
        for row in report.top_disagreements
    ]
    table = markup.table(("Text", "Student", "Teacher", "Count"), rows, numeric=(3,), raw=(1, 2))
    return f"<h3>Most frequent disagreements</h3>{table}"


def shapes(report: PairReport) -> str:
    return charts.shape_map(report.unit_shapes).figure()


def kinds(report: PairReport) -> str:
    return charts.coverage_bars(report).figure()


def vocabularies(report: PairReport) -> str:
    return charts.vocabulary_bars(report).figure()


def named(report: PairReport, teacher: str, student: str) -> PairReport:
    """The report with the pair it is about."""
    return replace(report, teacher=display_name(teacher), student=display_name(student))


def disagreements_csv(report: PairReport) -> str:
    rows = [
        (row.text, row.bytes, " | ".join(row.student_tokens), " | ".join(row.teacher_tokens), row.count)
        for row in report.top_disagreements
    ]
    return saving.as_csv(("text", "bytes", "student tokens", "teacher tokens", "count"), rows)
