"""Reports as text for a terminal: the same facts as elsewhere, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from simct.data.exclusions import exclusion_line
from simct.inspection.records import Candidates, MeasuredCandidates, PairReport, PairRow, Reliability
from simct.report import estimates, facts
from simct.report.facts import Fact
from simct.report.formats import number, share

if TYPE_CHECKING:
    from simct.estimate.records import Estimate, MachineEstimate

SHOWN_SHAPES = 8
WIDEST_NAME = 72


def format_report(report: PairReport) -> str:
    shapes = ", ".join(f"{shape}: {n:,}" for shape, n in list(report.unit_shapes.items())[:SHOWN_SHAPES])
    lines = _lines(
        [
            *facts.coverage_facts(report),
            *facts.vocabulary_facts(report),
            ("Text", facts.extent(report)),
            ("Unit shapes", f"{shapes} (student x teacher tokens)" if shapes else "none"),
            ("Left out", facts.left_out(report.excluded) or "nothing"),
        ]
    )
    if report.by_kind:
        rows = [(facts.kind_title(kind), facts.kind_facts(tokens)) for kind, tokens in report.by_kind.items()]
        lines += ["", *_table("By kind of text", rows, 20)]
    if report.top_disagreements:
        lines += ["", "Most frequent disagreements (student | teacher)"]
        lines += [
            f"  {row.count:>7,}  {quoted(row.student_tokens)} | {quoted(row.teacher_tokens)}"
            for row in report.top_disagreements
        ]
    return "\n".join(lines)


def format_reliability(measured: Reliability) -> str:
    """The numbers and the verdict."""
    z_t, quantiles = measured.z_t, measured.kl_quantiles
    counts = [shared + recovered for shared, recovered in zip(z_t.shared, z_t.recovered, strict=True)]
    left_out = exclusion_line(measured.excluded, measured.answers_written)
    lines = _lines(
        [
            *facts.reliability_facts(measured),
            ("Z_T of units", f"0 {_bars(counts)} 1 and above"),
            ("KL of shared units, range", _range(quantiles.shared)),
            ("KL of recovered units, range", _range(quantiles.recovered)),
            *([("Left out", left_out)] if left_out else []),
            ("Verdict", measured.verdict),
        ]
    )
    return "\n".join([facts.sample(measured), *lines])


def _range(values: list[float] | None) -> str:
    if values is None:
        return "no such units"
    low, middle, high = map(number, values)
    return f"median {middle} nats, from {low} at 10 % to {high} at 90 %"


def _bars(counts: list[int]) -> str:
    """A histogram in one line; every bin that is not empty is visible."""
    most = max([*counts, 1])
    return "".join("·▁▂▃▄▅▆▇█"[-(-8 * count // most)] for count in counts)


def format_pairs(rows: Sequence[PairRow]) -> str:
    """Several pairs in one table, with verdicts and their reasons under it."""
    names = [f"{row.teacher} → {row.student}" for row in rows]
    width = min(max(map(len, names), default=4), WIDEST_NAME)
    shown = [name if len(name) <= width else f"…{name[1 - width :]}" for name in names]
    good = [(name, row) for name, row in zip(shown, rows, strict=True) if not row.error]
    table = _table(
        "Pair", [(name, facts.pair_facts(row)) for name, row in good], width, [r.method or "" for _, r in good]
    )
    lines = iter(table[1:])
    body = [
        f"{name:<{width}}  {row.error}" if row.error else next(lines) for name, row in zip(shown, rows, strict=True)
    ]
    verdicts = [f"{name}: {row.verdict}" for name, row in zip(names, rows, strict=True) if row.verdict]
    return "\n".join([*table[:1], *body, *([""] if verdicts else []), *verdicts])


def format_candidates(found: Candidates) -> str:
    """The result of `candidates_at`."""
    unit = found.unit
    lines = [
        f"{facts.unit_title(found)} (byte {unit.byte_start:,}): {quoted(unit.student_pieces)} (student) | "
        f"{quoted(unit.teacher_pieces)} (teacher)",
        facts.what_is_compared(found),
    ]
    if not isinstance(found, MeasuredCandidates):
        return "\n".join([*lines, "Their masses need both models: add --weights."])
    rows = [(quoted([row.text]), facts.candidate_facts(row)) for row in found.rows]
    marks = [facts.marks(row) for row in found.rows]
    if found.rest.candidates:
        rows.append((f"{found.rest.candidates:,} others", facts.candidate_facts(found.rest)))
        marks.append("")
    lines += [
        *_lines(facts.position_facts(found)),
        facts.what_is_lost(found),
        "",
        *_table("Candidate", rows, 24, marks),
    ]
    missing = facts.unshared(found)[0]
    if missing.rows:
        lines += ["", f"{missing.title}, as the {missing.other} spells them"]
        lines += [
            f"  {quoted([text]):<24}{share(mass):>9}  {quoted(pieces) or 'not at all'}"
            for text, _, mass, pieces in missing.rows
        ]
    return "\n".join(lines)


def format_estimate(estimate: Estimate) -> str:
    teachers, student = estimate.teachers or [estimate.teacher], estimate.student
    where = ", on a server" if estimate.served and not estimate.teachers else ""
    rows = [(estimates.machine_name(machine), estimates.machine_facts(machine)) for machine in estimate.hardware]
    return "\n".join(
        [
            *(f"teacher  {each.model}: {each.parameters / 1e6:,.0f} M parameters{where}" for each in teachers),
            f"student  {student.model}: {student.parameters / 1e6:,.0f} M parameters",
            *(f"precision  {line}" for line in precisions(estimate.hardware)),
            "",
            *_lines([*estimates.estimate_facts(estimate), *estimates.served_facts(estimate)]),
            "",
            "Memory on each device",
            *_lines([fact for fact in estimates.memory_facts(estimate.parts) if fact.value], "  "),
            "At once during",
            *_lines(estimates.memory_facts(estimate.phases), "  "),
            "",
            *_table("Machine", rows, 12),
        ]
    )


def precisions(machines: Sequence[MachineEstimate]) -> list[str]:
    """The number formats of the run on these machines, a line for each that differs, with its machines."""
    by_formats: dict[str, list[str]] = {}
    for machine in machines:
        by_formats.setdefault(machine.precision, []).append(machine.name)
    return [
        formats if len(by_formats) == 1 else f"{formats} ({', '.join(names)})" for formats, names in by_formats.items()
    ]


def _lines(rows: Iterable[tuple[str, str] | Fact], indent: str = "") -> list[str]:
    """Labels and their values, in two columns."""
    pairs = [(row.label, row.text) if isinstance(row, Fact) else row for row in rows]
    width = max((len(label) for label, _ in pairs), default=0)
    return [f"{indent}{label:<{width}}  {text}" for label, text in pairs]


def _table(
    name: str, rows: Sequence[tuple[str, list[Fact]]], width: int, ends: Sequence[str] | None = None
) -> list[str]:
    """One line per row under a line of labels, the names `width` wide; `ends` follow the rows."""
    if not rows:
        return [name]
    labels = [fact.label for fact in rows[0][1]]
    cells = [[fact.text for fact in row] for _, row in rows]
    widths = [max(map(len, column)) + 2 for column in zip(labels, *cells, strict=True)]

    def line(first: str, texts: Sequence[str], end: str) -> str:
        numbers = "".join(f"{text:>{wide}}" for text, wide in zip(texts, widths, strict=True))
        return f"{first:<{width}}{numbers}  {end}".rstrip()

    ends = ends or [""] * len(rows)
    body = [line(first, texts, end) for (first, _), texts, end in zip(rows, cells, ends, strict=True)]
    return [line(name, labels, ""), *body]


def quoted(pieces: Iterable[str]) -> str:
    """Pieces for a terminal, each in quotes; bytes that are not a character are written as \\xNN there too."""
    return " ".join(repr(piece).replace("\\\\x", "\\x") for piece in pieces)
