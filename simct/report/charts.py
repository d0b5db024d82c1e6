"""The charts of a report as plain SVG, drawn 360 units wide so that they can be read on a phone.

Colors are classes (strict, shared, recovered, outside) that the page's own style fills, light or dark.
"""

import math
from collections.abc import Sequence
from html import escape

from simct.inspection.text_kinds import TITLES

WIDTH = 360
LARGEST_SHAPE = 6


def coverage_bars(report: dict) -> str:
    """The student's tokens by what becomes of them: all of them, and each kind of text."""
    total = report["student_tokens"]
    strict = report["strict_tokens"]
    outside = total - strict - report["recovered_tokens"]
    rows = [("all", total, (strict, report["recovered_tokens"], outside))]
    for kind, row in report["by_kind"].items():
        rows.append((TITLES[kind], row["student_tokens"], (row["strict"], row["recovered"], row["outside"])))
    left, right = 118, 54
    parts = []
    for index, (label, count, counts) in enumerate(rows):
        y = 24 * index + (10 if index else 0)
        parts.append(f'<text class="t" x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        x = float(left)
        for name, part in zip(("strict", "recovered", "outside"), counts, strict=True):
            width = (WIDTH - left - right) * part / max(count, 1)
            if part:
                told = f"{label}: {part:,} of {count:,} student tokens {name} ({part / count:.1%})"
                parts.append(
                    f'<rect class="{name}" x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="16">'
                    f"<title>{escape(told)}</title></rect>"
                )
            x += width
        parts.append(f'<text class="d" x="{WIDTH}" y="{y + 14}" text-anchor="end">{_short(count)}</text>')
    return _svg(24 * len(rows) + 12, parts, "Student tokens matched exactly, recovered and outside, by kind of text")


def vocabulary_bars(report: dict) -> str:
    """Both vocabularies on one scale, each with the part that is shared."""
    shared, largest = report["shared_tokens"], max(report["student_vocabulary"], report["teacher_vocabulary"], 1)
    parts = []
    for index, side in enumerate(("student", "teacher")):
        count, y = report[f"{side}_vocabulary"], 30 * index
        width, covered = 230 * count / largest, 230 * shared / largest
        parts.append(f'<text class="t" x="56" y="{y + 16}" text-anchor="end">{side}</text>')
        parts.append(f'<rect class="shared" x="64" y="{y + 3}" width="{width:.1f}" height="18" opacity="0.45"/>')
        told = f"{shared:,} of the {side}'s {count:,} tokens are shared ({shared / max(count, 1):.1%})"
        parts.append(
            f'<rect class="recovered" x="64" y="{y + 3}" width="{covered:.1f}" height="18"><title>{told}</title></rect>'
        )
        parts.append(f'<text class="d" x="{WIDTH}" y="{y + 16}" text-anchor="end">{count:,}</text>')
    parts.append(
        f'<text class="d" x="64" y="78">{shared:,} shared by bytes; Jaccard {100 * report["jaccard"]:.1f} %</text>'
    )
    return _svg(86, parts, "Vocabulary overlap by bytes")


def shape_map(shapes: dict[str, int]) -> str:
    """Unit shapes "k_S x k_T" -> units, as a grid shaded by the logarithm; larger sizes share the last line."""
    counts: dict[tuple[int, int], int] = {}
    for shape, count in shapes.items():
        student, teacher = (min(int(size), LARGEST_SHAPE) for size in shape.split("x"))
        counts[student, teacher] = counts.get((student, teacher), 0) + count
    rows, columns = (max([key[axis] for key in counts], default=1) for axis in (0, 1))
    top, total = math.log1p(max(counts.values(), default=1)), sum(counts.values()) or 1

    def name(size: int) -> str:
        return f"{size}+" if size == LARGEST_SHAPE else str(size)

    parts = [f'<text class="d" x="{30 + 27 * columns}" y="12" text-anchor="middle">teacher tokens</text>']
    parts += [
        f'<text class="d" x="{57 + 54 * column}" y="28" text-anchor="middle">{name(column + 1)}</text>'
        for column in range(columns)
    ]
    for student in range(1, rows + 1):
        y = 34 + 34 * (student - 1)
        parts.append(f'<text class="d" x="22" y="{y + 20}" text-anchor="end">{name(student)}</text>')
        for teacher in range(1, columns + 1):
            count, x = counts.get((student, teacher), 0), 30 + 54 * (teacher - 1)
            heat = math.log1p(count) / top if count else 0.0
            told = f"{name(student)} student × {name(teacher)} teacher tokens: {count:,} units ({count / total:.1%})"
            parts.append(f'<rect class="soft" x="{x}" y="{y}" width="51" height="31" rx="3"/>')
            parts.append(
                f'<rect class="recovered" x="{x}" y="{y}" width="51" height="31" rx="3" opacity="{heat:.2f}">'
                f"<title>{told}</title></rect>"
            )
            if count:
                shade = "deep" if heat > 0.6 else "t"
                parts.append(
                    f'<text class="{shade}" x="{x + 25.5}" y="{y + 20}" text-anchor="middle">{_short(count)}</text>'
                )
    parts.append(f'<text class="d" x="30" y="{34 * rows + 52}">rows: student tokens in a unit</text>')
    return _svg(34 * rows + 60, parts, "Units by their number of student and teacher tokens")


def mass_histogram(z_t: dict) -> str:
    """How much of the teacher's probability the candidates have (Z_T), over units; shared and recovered stacked."""
    totals = [shared + recovered for shared, recovered in zip(z_t["shared"], z_t["recovered"], strict=True)]
    units, highest = max(sum(totals), 1), max([*totals, 1])
    step, floor = (WIDTH - 20) / len(totals), 150
    parts = [f'<line class="rule" x1="10" x2="{WIDTH - 10}" y1="{floor}" y2="{floor}"/>']
    edges = [*[f"{edge:g}" for edge in z_t["edges"]], ""]
    for index, total in enumerate(totals):
        x, y = 10 + step * index, float(floor)
        upper = edges[index + 1] or "more"
        for name in ("recovered", "shared"):
            height = 120 * z_t[name][index] / highest
            y -= height
            if z_t[name][index]:
                told = f"Z_T {edges[index]} to {upper}: {z_t[name][index]:,} {name} units"
                parts.append(
                    f'<rect class="{name}" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" '
                    f'height="{max(height, 1):.1f}"><title>{told}</title></rect>'
                )
        if total:
            share = f"{total / units:.0%}" if total / units >= 0.005 else "<1%"
            parts.append(
                f'<text class="t" x="{x + step / 2:.1f}" y="{y - 4:.1f}" text-anchor="middle" font-size="10">'
                f"{escape(share)}</text>"
            )
        parts.append(f'<text class="d" x="{x:.1f}" y="166" text-anchor="middle" font-size="10">{edges[index]}</text>')
    parts.append(f'<text class="d" x="{WIDTH - 10}" y="166" text-anchor="end" font-size="10">more</text>')
    return _svg(172, parts, "Distribution of Z_T, the teacher's mass on SimCT's candidates")


def kl_ranges(report: dict) -> str:
    """Reverse KL of shared and recovered units: 10 % to 90 %, the median and the mean, on one scale."""
    quantiles = report["kl_quantiles"]
    ends = [values[2] for values in quantiles.values() if values] + [report["kl_shared"], report["kl_recovered"]]
    highest = max([*ends, 1e-9])

    def x(value: float) -> float:
        return 74 + (WIDTH - 100) * max(value, 0.0) / highest

    parts = []
    for index, name in enumerate(("shared", "recovered")):
        y, values, mean = 40 * index + 16, quantiles[name], report[f"kl_{name}"]
        parts.append(f'<text class="t" x="66" y="{y + 4}" text-anchor="end">{name}</text>')
        if values:
            low, middle, high = values
            told = f"{name}: median {middle:.3f}, 10 % {low:.3f}, 90 % {high:.3f}, mean {mean:.3f} nats"
            parts.append(
                f'<rect class="{name}" x="{x(low):.1f}" y="{y - 6}" width="{max(x(high) - x(low), 2):.1f}" height="12" '
                f'rx="2" opacity="0.55"><title>{told}</title></rect>'
                f'<rect class="t" x="{x(middle) - 1:.1f}" y="{y - 9}" width="2" height="18"/>'
                f'<circle class="{name}" cx="{x(mean):.1f}" cy="{y}" r="4"/>'
                f'<text class="d" x="74" y="{y + 24}" font-size="10.5">median {middle:.3f} · mean {mean:.3f}</text>'
            )
    return _svg(88, parts, "KL of shared and recovered units, in nats: 10 % to 90 %, median (line) and mean (dot)")


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _short(count: int) -> str:
    """A count in a few characters."""
    if count < 10_000:
        return f"{count:,}"
    value, unit = (
        (count / 1000, "k") if count < 10**6 else (count / 10**6, "M") if count < 10**9 else (count / 1e9, "G")
    )
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
