"""Charts as plain SVG in a figure, for the HTML file and the studio, drawn 360 units wide to fit a phone.

Colors are classes that charts.css fills from the page's own variables, light or dark; charts.js saves them as files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from simct.inspection.records import KlQuantiles, MassHistogram, MeasuredCandidates, PairReport, Reliability
from simct.inspection.text_kinds import drawn
from simct.report import facts
from simct.report.formats import number, share

STYLE, SCRIPT = (Path(__file__).parent / "templates" / name for name in ("charts.css", "charts.js"))
WIDTH = 360
LABEL = 118  # width of the names of bars
LARGEST_SHAPE = 6
LONGEST_NAME = 17


@dataclass(frozen=True)
class Chart:
    """A drawing with its title, a key of (class, name) for its colors, and a line under it.

    name: of the file it is saved as. If there is no drawing, the line says why.
    """

    name: str
    title: str
    svg: str
    key: Sequence[tuple[str, str]] = ()
    note: str = ""

    def figure(self) -> str:
        """HTML, with buttons that save the drawing (charts.js does)."""
        keys = "".join(f'<span class="key"><i class="{kind}"></i>{escape(name)}</span>' for kind, name in self.key)
        return figure(self.name, self.title, self.svg, keys, self.note)


def figure(name: str, title: str, svg: str, keys: str = "", note: str = "") -> str:
    """The HTML of a figure; `svg` and `keys` are HTML already."""
    save = "".join(
        f'<button type="button" data-save="{form}" aria-label="Save {escape(title)} as {form.upper()}">'
        f"{form.upper()}</button>"
        for form in ("svg", "png")
    )
    head = f"<b>{escape(title)}</b>" + (f'<span class="save">{save}</span>' if svg else "")
    keys = f'<div class="keys">{keys}</div>' if keys else ""
    line = f'<p class="{"under" if svg else "empty"}">{escape(note)}</p>' if note else ""
    return f'<figure class="chart" data-name="{escape(name)}"><figcaption>{head}</figcaption>{keys}{svg}{line}</figure>'


def _key(*kinds: str) -> list[tuple[str, str]]:
    return [(kind, facts.UNIT_KINDS[kind][0]) for kind in kinds]


# The pair on texts


def coverage_bars(report: PairReport) -> Chart:
    """The student's tokens by kind of unit: for all texts, and for each kind of text."""
    rows = [("all", report.student_tokens, (report.strict_tokens, report.recovered_tokens, report.uncovered_tokens))]
    rows += [
        (facts.kind_title(kind), tokens.student_tokens, (tokens.strict, tokens.recovered, tokens.outside))
        for kind, tokens in report.by_kind.items()
    ]
    room, parts = WIDTH - LABEL - 54, []
    for index, (label, count, counts) in enumerate(rows):
        y = 24 * index + (10 if index else 0)
        x = float(LABEL)
        parts.append(_text("label", LABEL - 8, y + 14, label, "end"))
        for (kind, (name, _)), part in zip(facts.UNIT_KINDS.items(), counts, strict=True):
            width = room * part / max(count, 1)
            if part:
                about = f"{label}: {part:,} of {count:,} student tokens {name} ({share(part / count)})"
                parts.append(_rect(kind, x, y + 2, width, 16, about))
            x += width
        parts.append(_text("tick", WIDTH, y + 14, _short_count(count), "end"))
    svg = _svg(24 * len(rows) + 12, parts, "Student tokens by kind of unit, for each kind of text")
    return Chart("coverage", "Student tokens by kind of text", svg, _key(*facts.UNIT_KINDS))


def vocabulary_bars(report: PairReport) -> Chart:
    """Both vocabularies on one scale, each with the part that is shared."""
    shared, largest = report.shared_tokens, max(report.student_vocabulary, report.teacher_vocabulary, 1)
    parts = []
    sides = (("student", report.student_vocabulary), ("teacher", report.teacher_vocabulary))
    for index, (side, count) in enumerate(sides):
        y = 30 * index
        about = f"{shared:,} of the {side}'s {count:,} tokens are shared ({share(shared / max(count, 1))})"
        parts += [
            _text("label", 56, y + 16, side, "end"),
            _rect("faint", 64, y + 3, 230 * count / largest, 18),
            _rect("value", 64, y + 3, 230 * shared / largest, 18, about),
            _text("tick", WIDTH, y + 16, f"{count:,}", "end"),
        ]
    note = f"{shared:,} tokens are shared by bytes; overlap (Jaccard) {share(report.jaccard)}"
    return Chart("vocabulary", "Vocabularies", _svg(62, parts, "Vocabulary overlap by bytes"), note=note)


def shape_map(shapes: dict[str, int]) -> Chart:
    """Unit shapes "k_S x k_T" -> units, as a grid shaded by the logarithm; larger sizes share the last line."""
    counts: dict[tuple[int, int], int] = {}
    for shape, count in shapes.items():
        student, teacher = (min(int(size), LARGEST_SHAPE) for size in shape.split("x"))
        counts[student, teacher] = counts.get((student, teacher), 0) + count
    rows, columns = (max([key[axis] for key in counts], default=1) for axis in (0, 1))
    top, total = math.log1p(max(counts.values(), default=1)), sum(counts.values()) or 1

    def name(size: int) -> str:
        return f"{size}+" if size == LARGEST_SHAPE else str(size)

    parts = [_text("tick", 57 + 54 * column, 12, name(column + 1), "middle") for column in range(columns)]
    for student in range(1, rows + 1):
        y = 18 + 34 * (student - 1)
        parts.append(_text("tick", 22, y + 20, name(student), "end"))
        for teacher in range(1, columns + 1):
            count, x = counts.get((student, teacher), 0), 30 + 54 * (teacher - 1)
            heat = math.log1p(count) / top if count else 0.0
            units = "unit" if count == 1 else "units"
            about = (
                f"{name(student)} student × {name(teacher)} teacher tokens: {count:,} {units} ({share(count / total)})"
            )
            parts.append(f'<rect class="soft" x="{x}" y="{y}" width="51" height="31" rx="3"/>')
            parts.append(
                f'<rect class="value" x="{x}" y="{y}" width="51" height="31" rx="3" opacity="{heat:.2f}">'
                f"<title>{about}</title></rect>"
            )
            if count:
                parts.append(_text("deep" if heat > 0.6 else "label", x + 25.5, y + 20, _short_count(count), "middle"))
    svg = _svg(34 * rows + 20, parts, "Units by their number of student and teacher tokens")
    return Chart("shapes", "Unit shapes", svg, note="student tokens (down) × teacher tokens (across) in a unit")


# The pair measured with both models


def mass_bars(measured: Reliability) -> Chart:
    """Where the probability of both models is."""
    rows = [(fact.label, [fact.value], fact.explanation) for fact in facts.mass_facts(measured)]
    return bars("masses", "Where the probability is", rows, ["value"], share, highest=1.0, label=205)


def mass_histogram(z_t: MassHistogram) -> Chart:
    """How much of the teacher's probability the candidates have, over units; shared and recovered stacked."""
    note = f"Z_T is below 0.5 at {share(z_t.below_half)} of the units; above 1 if a unit counts besides its first piece"
    counts = {"shared": z_t.shared, "recovered": z_t.recovered}
    return histogram(
        "z_t", "Candidate mass (Z_T), units", z_t.edges, counts, "units", _key("shared", "recovered"), note
    )


def kl_ranges(measured: Reliability) -> Chart:
    """Reverse KL of shared and recovered units: 10 % to 90 %, the median and the mean, on one scale."""
    quantiles: KlQuantiles = measured.kl_quantiles
    rows = (("shared", quantiles.shared, measured.kl_shared), ("recovered", quantiles.recovered, measured.kl_recovered))
    highest = max([*(values[2] for _, values, _ in rows if values), *(mean for _, _, mean in rows), 1e-9])

    def x(value: float) -> float:
        return 74 + (WIDTH - 100) * max(value, 0.0) / highest

    parts = []
    for index, (kind, values, mean) in enumerate(rows):
        y = 40 * index + 14
        parts.append(_text("label", 66, y + 4, kind, "end"))
        if not values:
            parts.append(_text("tick", 74, y + 4, "no such units"))
            continue
        low, middle, high = values
        about = f"{kind}: median {number(middle)}, 10 % {number(low)}, 90 % {number(high)}, mean {number(mean)} nats"
        parts += [
            _rect(f"{kind} range", x(low), y - 6, max(x(high) - x(low), 2), 12, about),
            _rect("mark", x(middle) - 1, y - 9, 2, 18),
            f'<circle class="{kind}" cx="{x(mean):.1f}" cy="{y}" r="4"/>',
            _text("tick", 74, y + 23, f"median {number(middle)} · mean {number(mean)}"),
        ]
    svg = _svg(82, parts, "KL of shared and recovered units, in nats")
    return Chart("kl", "KL of a unit, nats", svg, note="10 % to 90 % of the units, median (line) and mean (dot)")


def cosine_bar(measured: Reliability) -> Chart:
    """Whether recovered units pull the student in the same direction as exact matches."""
    rows = [
        ("exact · recovered", [measured.gradient_cosine], "Below 0 the two parts of the loss work against each other")
    ]
    return bars("cosine", "Gradient cosine", rows, ["value"], lambda value: f"{value:+.2f}", highest=1.0, lowest=-1.0)


def candidate_bars(found: MeasuredCandidates) -> Chart:
    """Both models' probabilities of the candidates at one position."""
    rows = []
    for row in found.rows:
        which = "the unit itself" if row.kind == "unit" else f"ids {row.student_id} and {row.teacher_id}"
        name = (drawn(row.text) if row.bytes else row.text) + (" ◂" if row.written else "")
        about = f"{which}; {share(row.student_q)} and {share(row.teacher_q)} of the candidates' mass"
        rows.append((name, [row.student_mass, row.teacher_mass], about))
    rest = found.rest
    if rest.candidates:
        rows.append((f"{rest.candidates:,} others", [rest.student_mass, rest.teacher_mass], "all others together"))
    note = "◂ what the text has here"
    if max(found.Z_S, found.Z_T) > 1:
        note += "; the sums pass 100% because the unit counts besides its own first piece"
    title = "Mass on the candidates"
    return bars("candidates", title, rows, ["student", "teacher"], share, key=SIDES, note=note, mono=True)


SIDES = (("student", "student"), ("teacher", "teacher"))


# Kinds of charts


def bars(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[float | None], str]],
    kinds: Sequence[str],
    form: Callable[[float], str],
    *,
    highest: float | None = None,
    lowest: float = 0.0,
    label: int = LABEL,
    key: Sequence[tuple[str, str]] = (),
    note: str = "",
    mono: bool = False,
) -> Chart:
    """Horizontal bars from zero: (label, one value per kind, explanation). Values that are None are left out.

    The scale goes from `lowest` to `highest`, by default from 0 to the largest value. `label` is the labels' width.
    """
    values = [value for _, row, _ in rows for value in row if value is not None and math.isfinite(value)]
    if not values:
        return Chart(name, title, "", note="Nothing to show")
    lowest, highest = min(lowest, *values), highest or max(map(abs, values)) or 1.0
    scale = (WIDTH - label - 56) / (highest - lowest)
    zero = label - lowest * scale
    thick = 13 if len(kinds) == 1 else 11
    tall = max(24, thick * len(kinds) + 6)
    parts = [f'<line class="rule" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{tall * len(rows)}"/>']
    for index, (text, row, explanation) in enumerate(rows):
        y = index * tall
        parts.append(
            _text(f"label{' mono' if mono else ''}", label - 8, y + tall / 2 + 4, _short(text, label), "end", text)
        )
        for which, (kind, value) in enumerate(zip(kinds, row, strict=True)):
            if value is None or not math.isfinite(value):
                continue
            wide = max(abs(value) * scale, 0.8)
            top = y + (tall - thick * len(row)) / 2 + which * thick
            about = f"{text}: {kind if len(kinds) > 1 else ''} {form(value)}. {explanation}".replace(
                ":  ", ": "
            ).strip()
            parts.append(_rect(kind, zero - wide if value < 0 else zero, top, wide, thick - 1, about))
            parts.append(_text("tick", max(zero, zero + value * scale) + 5, top + thick / 2 + 3.5, form(value)))
    return Chart(name, title, _svg(tall * len(rows) + 4, parts, title), key, note)


def histogram(
    name: str,
    title: str,
    edges: Sequence[float],
    counts: Mapping[str, Sequence[int]],
    things: str,
    key: Sequence[tuple[str, str]] = (),
    note: str = "",
) -> Chart:
    """Upright bars: counts[kind][i] values lie between edges[i] and edges[i + 1], or above the last edge.

    The kinds are stacked, the last one at the bottom.
    """
    totals = [sum(column) for column in zip(*counts.values(), strict=True)]
    total, highest = sum(totals), max([*totals, 1])
    if not total:
        return Chart(name, title, "", note="Nothing to show")
    step, floor = (WIDTH - 20) / len(totals), 150
    few = max(1, -(-len(totals) // 11))
    parts = [f'<line class="rule" x1="10" x2="{WIDTH - 10}" y1="{floor}" y2="{floor}"/>']
    if few > 1:
        parts.append(_text("tick", 10, 20, f"{highest:,}"))
    for index, column_total in enumerate(totals):
        x, y = 10 + step * index, float(floor)
        upper = f"to {number(edges[index + 1])}" if index + 1 < len(edges) else "and more"
        for kind in reversed(list(counts)):
            height = 120 * counts[kind][index] / highest
            y -= height
            if counts[kind][index]:
                which = f"{kind} " if len(counts) > 1 else ""
                about = f"{number(edges[index])} {upper}: {counts[kind][index]:,} {which}{things}"
                parts.append(_rect(kind, x + 1, y, step - 2, max(height, 1), about))
        if column_total and few == 1:
            text = f"{column_total / total:.0%}" if column_total / total >= 0.005 else "<1%"
            parts.append(_text("tick", x + step / 2, y - 4, text, "middle"))
        if index % few == 0:
            parts.append(_text("tick", x, 166, number(edges[index]), "middle"))
    return Chart(name, title, _svg(172, parts, title), key, note)


# Drawing


def _svg(height: float, parts: Iterable[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _text(kind: str, x: float, y: float, text: str, anchor: str = "start", about: str = "") -> str:
    title = f"<title>{escape(about)}</title>" if about else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{title}{escape(text)}</text>'


def _rect(kind: str, x: float, y: float, width: float, height: float, about: str = "") -> str:
    title = f"<title>{escape(about)}</title>" if about else ""
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{kind}" {place}>{title}</rect>'


def _short(text: str, room: int) -> str:
    most = LONGEST_NAME * room // LABEL
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _short_count(count: int) -> str:
    """A count in short form."""
    if count < 10_000:
        return f"{count:,}"
    value, unit = (
        (count / 1000, "k") if count < 10**6 else (count / 10**6, "M") if count < 10**9 else (count / 1e9, "G")
    )
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
