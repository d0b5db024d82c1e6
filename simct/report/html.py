"""The report of a pair as one self-contained HTML page, which can be opened from disk or sent by mail, light or dark.

The templates escape every text, the page's script inserts text only as text, and the page forbids itself all requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from simct.inspection.records import (
    Candidates,
    MeasuredCandidate,
    MeasuredCandidates,
    OtherCandidates,
    PairReport,
    PairRow,
    Reliability,
    ShownUnit,
    UnitScore,
)
from simct.inspection.text_kinds import drawn
from simct.report import charts, facts
from simct.report.facts import Fact
from simct.report.formats import share

FOLDER = Path(__file__).parent / "templates"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def html_report(report: PairReport, units: Sequence[ShownUnit] = (), scores: Sequence[UnitScore] = ()) -> str:
    """One self-contained page.

    report: with the names of the pair. units: of `coverage.show_units`; without them there are no lanes. scores: of
    `candidates.score_units` over the same text.
    """
    chosen = report.candidates.index if report.candidates else -1
    kinds = [[kind, name] for kind, (name, _) in facts.UNIT_KINDS.items()]
    data = {"units": _units(units, scores), "kinds": kinds, "chosen": chosen, "report": report.to_dict()}
    reliability = report.reliability
    page = _environment().get_template("page.html.jinja")
    return page.render(
        policy=Markup(POLICY),
        pair=f"{report.teacher or 'teacher'} → {report.student or 'student'}",
        scope=facts.scope(report),
        style=_own("charts.css") + _own("page.css"),
        script=_own("charts.js") + _own("page.js"),
        data=_json(data),
        verdict=facts.verdict_text(reliability) if reliability else None,
        pair_verdicts=_pair_verdicts(report.comparison or []),
        tiles=facts.coverage_facts(report),
        has_lanes=bool(units),
        scored=bool(scores),
        kinds=facts.UNIT_KINDS,
        lanes=facts.LANES,
        place=_place(report.candidates) if report.candidates else None,
        figures=[Markup(chart.figure()) for chart in _charts(report)],
        tables=list(_tables(report)),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawn"] = drawn
    return environment


def _own(name: str) -> Markup:
    """A file of the templates' folder, inserted into the page unchanged."""
    return Markup((FOLDER / name).read_text(encoding="utf-8"))


def _json(data: dict[str, Any]) -> Markup:
    """JSON that can be placed inside a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _units(units: Sequence[ShownUnit], scores: Sequence[UnitScore]) -> list[list[Any]]:
    """The data that the script draws, one list per unit."""
    rows = []
    for index, unit in enumerate(units):
        row: list[Any] = [
            list(facts.UNIT_KINDS).index(unit.kind),
            unit.student_ids,
            unit.teacher_ids,
            [drawn(piece) for piece in unit.student_pieces],
            [drawn(piece) for piece in unit.teacher_pieces],
            unit.bytes,
            unit.byte_start,
            unit.reason,
        ]
        if index < len(scores):
            score = scores[index]
            row.append([round(each, 5) for each in (score.student_logprob, score.teacher_logprob, score.kl, score.z_t)])
        rows.append(row)
    return rows


def _charts(report: PairReport) -> list[charts.Chart]:
    found = [charts.coverage_bars(report), charts.shape_map(report.unit_shapes), charts.vocabulary_bars(report)]
    measured = report.reliability
    if measured:
        found += [charts.mass_bars(measured), charts.mass_histogram(measured.z_t), charts.kl_ranges(measured)]
        found.append(charts.cosine_bar(measured))
    return found


# Tables


@dataclass(frozen=True)
class Cell:
    """One cell: `value` is what a CSV file gets, `pieces` tokens instead of a text."""

    text: str
    kind: str = ""
    value: object = None
    pieces: Sequence[str] | None = None
    note: str = ""
    span: int = 1


@dataclass(frozen=True)
class Table:
    """A table with a title and a button that saves it as `name`. heads: (label, explanation, whether it is numeric)."""

    name: str
    title: str
    heads: Sequence[tuple[str, str, bool]]
    rows: Sequence[Sequence[Cell]]
    intro: str = ""
    note: str = ""
    empty: str = "None."


def _tables(report: PairReport) -> Iterable[Table]:
    kinds = [(facts.kind_title(kind), facts.kind_facts(tokens)) for kind, tokens in report.by_kind.items()]
    yield _facts_table("by-kind", "By kind of text", "Kind of text", kinds)
    yield _disagreements(report)
    if report.reliability:
        yield from _reliability_tables(report.reliability)
    if report.comparison:
        yield _pairs(report.comparison)


def _facts_table(name: str, title: str, first: str, rows: Sequence[tuple[str, list[Fact]]]) -> Table:
    """A table with one row per name and one column per fact."""
    heads = [(first, "", False), *((fact.label, fact.explanation, True) for fact in (rows[0][1] if rows else []))]
    return Table(name, title, heads, [[Cell(text), *map(_fact, found)] for text, found in rows])


def _fact(fact: Fact) -> Cell:
    return Cell(fact.text, "num", fact.value)


def _disagreements(report: PairReport) -> Table:
    lost = report.disagreements_lost
    return Table(
        "disagreements",
        "Most frequent disagreements",
        (("Text", "", False), ("Student", "", False), ("Teacher", "", False), ("Count", "", True)),
        [
            [
                Cell(drawn(row.text), "text", row.text),
                _pieces(row.student_tokens),
                _pieces(row.teacher_tokens),
                Cell(f"{row.count:,}", "num", row.count),
            ]
            for row in report.top_disagreements
        ],
        note=f"Rare ones were dropped while counting: a count may be too low by up to {lost:,}." if lost else "",
        empty="None: every token of this text is shared.",
    )


def _pieces(pieces: Sequence[str]) -> Cell:
    if not pieces:
        return Cell("not at all", value="")
    return Cell("", "", " ".join(map(repr, pieces)), [drawn(piece) for piece in pieces])


def _place(found: Candidates) -> dict[str, Any]:
    """The position that was asked for."""
    place = {
        "title": f"Candidates at “{drawn(found.unit.text)}”, byte {found.unit.byte_start:,}",
        "compared": facts.what_is_compared(found),
        "measured": isinstance(found, MeasuredCandidates),
    }
    if isinstance(found, MeasuredCandidates):
        place["tiles"] = facts.position_facts(found)
        place["lost"] = facts.what_is_lost(found)
        place["figure"] = Markup(charts.candidate_bars(found).figure())
        place["tables"] = list(_candidate_tables(found))
    return place


def _candidate_tables(found: MeasuredCandidates) -> Iterable[Table]:
    rows = [
        [Cell(drawn(row.text) if row.bytes else row.text, "text", row.text, note=facts.marks(row)), *_numbers(row)]
        for row in found.rows
    ]
    if found.rest.candidates:
        rows.append([Cell(f"{found.rest.candidates:,} others", "text"), *_numbers(found.rest)])
    numbers = facts.candidate_facts(found.rest)
    heads = [("Candidate", "", False), *((fact.label, fact.explanation, True) for fact in numbers)]
    yield Table("candidates", "Candidates here", heads, rows)
    for missing in facts.unshared(found):
        heads = [
            ("Token", "", False),
            ("Id", "", True),
            ("Mass", "", True),
            (f"As the {missing.other} spells it", "", False),
        ]
        yield Table(
            f"{missing.side}-outside",
            missing.title,
            heads,
            [
                (
                    Cell(drawn(text), "text", text),
                    Cell(str(number), "num", number),
                    Cell(share(mass), "num", mass),
                    _pieces(pieces),
                )
                for text, number, mass, pieces in missing.rows
            ],
            empty="None: the other side has all of them.",
        )


def _numbers(row: MeasuredCandidate | OtherCandidates) -> list[Cell]:
    return [_fact(fact) for fact in facts.candidate_facts(row)]


def _reliability_tables(measured: Reliability) -> Iterable[Table]:
    heads = (("Number", "", False), ("Value", "", True), ("Meaning", "", False))
    rows = [[Cell(fact.label), _fact(fact), Cell(fact.explanation)] for fact in facts.reliability_facts(measured)]
    yield Table("reliability", "Measured with weights", heads, rows, intro=facts.sample(measured))
    splits = [(facts.kind_title(kind), facts.split_facts(row)) for kind, row in measured.recovered_kinds.items()]
    yield _facts_table("splits", "Recovered units by kind of text", "Kind of text", splits)


def _pairs(rows: Sequence[PairRow]) -> Table:
    heads = [("Teacher", "", False), ("Student", "", False)]
    heads += [(fact.label, fact.explanation, True) for fact in facts.pair_facts(rows[0])]
    heads.append(("Method", "", False))
    body = []
    for row in rows:
        names = [Cell(row.teacher), Cell(row.student)]
        if row.error:
            body.append([*names, Cell(row.error, "error", span=len(heads) - 2)])
        else:
            body.append([*names, *map(_fact, facts.pair_facts(row)), Cell(row.method or "")])
    return Table("pairs", "Other pairs", heads, body)


def _pair_verdicts(rows: Sequence[PairRow]) -> list[tuple[str, str]]:
    return [(f"{row.teacher} → {row.student}", row.verdict) for row in rows if row.verdict]
