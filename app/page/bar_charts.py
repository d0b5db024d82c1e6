"""Bars, histograms and heat maps as plain SVG, in the same figure as the line charts."""

import math
from collections.abc import Callable, Sequence

from app.page.line_charts import figure, number, percent
from app.page.markup import escape

WIDTH = 420
LABEL, VALUE = 128, 56
ROW = 24


def bars(
    title: str,
    rows: Sequence[tuple[str, Sequence[float | None], str]],
    names: Sequence[str],
    form: Callable[[float], str] = percent,
    top: float | None = None,
    low: float = 0.0,
    mono: bool = False,
    told: str = "",
) -> str:
    """Horizontal bars from zero: (label, one value a name, explanation). Values that are None are left out.

    The scale goes from `low` to `top`, by default from 0 to the largest value.
    """
    values = [value for _, row, _ in rows for value in row if value is not None and math.isfinite(value)]
    if not values:
        return figure(title, "", empty="Nothing to show")
    most = top or max(map(abs, values)) or 1.0
    low = min(low, *values)
    scale = (WIDTH - LABEL - VALUE) / (most - low)
    zero = LABEL - low * scale
    thick = 13 if len(names) == 1 else 11
    tall = max(ROW, thick * len(names) + 6)
    parts = [f'<line class="rule" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{tall * len(rows)}"/>']
    for index, (label, row, explained) in enumerate(rows):
        y = index * tall
        font = " mono" if mono else ""
        parts.append(
            f'<text class="label{font}" x="{LABEL - 8}" y="{y + tall / 2:.1f}" dy="0.35em" text-anchor="end">'
            f"<title>{escape(label)}</title>{escape(_short(label))}</text>"
        )
        for which, value in enumerate(row):
            if value is None or not math.isfinite(value):
                continue
            wide = max(abs(value) * scale, 0.8)
            left = zero - wide if value < 0 else zero
            top_y = y + (tall - thick * len(row)) / 2 + which * thick
            middle = top_y + thick / 2
            about = escape(f"{label}: {names[which]} {form(value)}. {explained}".strip())
            parts.append(
                f'<rect class="b{which}" x="{left:.1f}" y="{top_y:.1f}" width="{wide:.1f}" height="{thick - 1}">'
                f"<title>{about}</title></rect>"
                f'<text class="tick" x="{max(left + wide, zero) + 5:.1f}" y="{middle:.1f}" dy="0.35em">'
                f"{form(value)}</text>"
            )
    return figure(title, _svg(WIDTH, tall * len(rows) + 4, parts, title), names if len(names) > 1 else (), told=told)


def stacked(title: str, rows: Sequence[tuple[str, Sequence[float], str]], names: Sequence[str]) -> str:
    """One whole bar a row, split into shares that add up to 1: (label, shares, what stands at its end)."""
    if not rows:
        return figure(title, "", empty="Nothing to show")
    wide, parts = WIDTH - LABEL - VALUE, []
    for index, (label, shares, end) in enumerate(rows):
        y, left = index * ROW, float(LABEL)
        place = f'x="{LABEL - 8}" y="{y + ROW / 2}" dy="0.35em" text-anchor="end"'
        parts.append(f'<text class="label" {place}>{escape(label)}</text>')
        for which, share in enumerate(shares):
            if share <= 0:
                continue
            about = escape(f"{label}: {names[which]} {share:.1%}")
            parts.append(
                f'<rect class="k-{which}" x="{left:.1f}" y="{y + 3}" width="{share * wide:.1f}" height="{ROW - 7}">'
                f"<title>{about}</title></rect>"
            )
            left += share * wide
        parts.append(f'<text class="tick" x="{WIDTH - VALUE + 6}" y="{y + ROW / 2}" dy="0.35em">{escape(end)}</text>')
    return figure(title, _svg(WIDTH, ROW * len(rows) + 4, parts, title), names, "part")


def histogram(
    title: str,
    edges: Sequence[float],
    counts: Sequence[int] | dict[str, Sequence[int]],
    told: str = "",
) -> str:
    """Upright bars: counts[i] values lie between edges[i] and edges[i + 1], or above the last edge.

    Several counts by name stand on each other.
    """
    series = counts if isinstance(counts, dict) else {"": counts}
    totals = [sum(column) for column in zip(*series.values(), strict=True)]
    total = sum(totals)
    if not total:
        return figure(title, "", empty="Nothing to show")
    tall, left = 130, 34
    wide = (WIDTH - left - 8) / len(totals)
    parts = []
    for index in range(len(totals)):
        above = 0.0
        for which, (name, column) in enumerate(series.items()):
            high = column[index] / max(totals) * tall
            if not column[index]:
                continue
            last = f" to {edges[index + 1]:.2g}" if index + 1 < len(edges) else " and more"
            about = f"{name} {edges[index]:.2g}{last}: {column[index]:,} ({column[index] / total:.1%})".strip()
            parts.append(
                f'<rect class="b{which}" x="{left + index * wide + 1:.1f}" y="{tall - above - high:.1f}" '
                f'width="{wide - 2:.1f}" height="{high:.1f}"><title>{escape(about)}</title></rect>'
            )
            above += high
    parts.append(f'<line class="rule" x1="{left}" x2="{WIDTH - 8}" y1="{tall}" y2="{tall}"/>')
    for index in sorted({0, len(edges) // 2, len(edges) - 1}):
        parts.append(
            f'<text class="tick" x="{left + index * wide:.1f}" y="{tall + 15}" text-anchor="middle">'
            f"{number(edges[index])}</text>"
        )
    parts.append(f'<text class="tick" x="{left - 5}" y="6" text-anchor="end" dy="0.35em">{max(totals):,}</text>')
    names = tuple(series) if isinstance(counts, dict) else ()
    return figure(title, _svg(WIDTH, tall + 20, parts, f"{title}. {told}"), names, told=told)


def heat_map(shapes: dict[str, int], title: str = "Unit shapes", limit: int = 6) -> str:
    """Unit shapes "k_S x k_T" -> count as a grid; sizes past `limit` share its last row and column."""
    counts = [[0] * limit for _ in range(limit)]
    for shape, count in shapes.items():
        student, teacher = (int(part) for part in shape.split("x"))
        counts[min(student, limit) - 1][min(teacher, limit) - 1] += count
    rows = max((s for s in range(limit) if any(counts[s])), default=0) + 1
    columns = max((t for t in range(limit) if any(row[t] for row in counts)), default=0) + 1
    total = sum(map(sum, counts)) or 1
    top = math.log1p(max(map(max, counts))) or 1.0
    wide, tall, left, above = 54, 36, 26, 20

    def name(size: int) -> str:
        return f"{size}+" if size == limit else str(size)

    parts = []
    for t in range(columns):
        x = left + t * wide + wide / 2
        parts.append(f'<text class="tick" x="{x}" y="12" text-anchor="middle">{name(t + 1)}</text>')
    for s in range(rows):
        y = above + s * tall
        parts.append(
            f'<text class="tick" x="{left - 8}" y="{y + tall / 2}" dy="0.35em" text-anchor="end">{name(s + 1)}</text>'
        )
        for t in range(columns):
            count = counts[s][t]
            heat = math.log1p(count) / top
            about = f"{name(s + 1)} student × {name(t + 1)} teacher tokens: {count:,} units ({count / total:.1%})"
            x = left + t * wide
            deep = " deep" if heat > 0.55 else ""
            parts.append(
                f'<g><title>{about}</title><rect class="cell" x="{x}" y="{y}" width="{wide - 3}" height="{tall - 3}" '
                f'rx="3"/><rect class="heat" style="fill-opacity:{0.92 * heat:.2f}" x="{x}" y="{y}" '
                f'width="{wide - 3}" height="{tall - 3}" rx="3"/><text class="tick count{deep}" x="{x + wide / 2 - 1}" '
                f'y="{y + tall / 2 - 1}" dy="0.35em" text-anchor="middle">{f"{count:,}" if count else ""}</text></g>'
            )
    drawing = _svg(left + columns * wide, above + rows * tall, parts, title, natural=True)
    return figure(title, drawing, told="student tokens (down) × teacher tokens (across) in a unit")


def _short(label: str, most: int = 17) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _svg(width: float, height: float, parts: Sequence[str], label: str, natural: bool = False) -> str:
    """`natural` keeps the drawing from growing past its own size."""
    most = f' style="max-width:{width * 1.15:.0f}px"' if natural else ""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"{most}>{"".join(parts)}</svg>'
