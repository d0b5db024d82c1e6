"""Line charts as plain SVG, themed by the page's own colors, light and dark, with nothing to load."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from simct.report.charts import figure
from simct.report.formats import number

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 34, 26
MAX_POINTS = 240

Points = Sequence[tuple[float, float]]


def percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers inside [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: Points) -> Points:
    """At most MAX_POINTS of them, the last one kept."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def smooth(points: Points, weight: float = 0.85) -> list[tuple[float, float]]:
    """Exponential moving average, corrected for its start."""
    average, scale, out = 0.0, 0.0, []
    for x, y in points:
        average, scale = weight * average + (1 - weight) * y, weight * scale + (1 - weight)
        out.append((x, average / scale))
    return out


def line_chart(
    title: str,
    series: Mapping[str, Points],
    form: Callable[[float], str] = number,
    bounds: tuple[float, float] | None = None,
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> str:
    """One chart: name -> [(step, value)]. Values that are not finite are left out. A lone series gets its average.

    bands: name -> [(step, low, high)], drawn behind the line of that name.
    """
    series = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    values = [y for points in series.values() for _, y in points]
    if not values:
        return figure(title, title, "", note="No values yet")
    values += [edge for band in (bands or {}).values() for _, *edges in band for edge in edges]
    low, high = bounds or (min(values), max(values))
    if not bounds:
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = (low - pad if low < 0 else max(0.0, low - pad)), high + pad
    steps = [x for points in series.values() for x, _ in points]
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def place(x: float, y: float) -> str:
        across = LEFT + (x - first) / (last - first) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{min(max(down, TOP), HEIGHT - BOTTOM):.1f}"

    parts = []
    for value in ticks(low, high):
        y = place(first, value).split(",")[1]
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y}" dy="0.35em" text-anchor="end">{form(value)}</text>')
    marks = [x for x in ticks(first, last, 5) if float(x).is_integer()]
    for x in marks:
        across = place(x, low).split(",")[0]
        parts.append(f'<text class="tick" x="{across}" y="{HEIGHT - 8}" text-anchor="middle">{x:,.0f}</text>')
    lone = len(series) == 1
    for index, name in enumerate(series):
        parts.append(_band((bands or {}).get(name, ()), place, index))
    for index, points in enumerate(series.values()):
        shown = thin(points)
        faint = " faint" if lone and len(points) > 12 else ""
        parts.append(_line(shown, place, f"s{index}{faint}"))
        if faint:
            parts.append(_line(thin(smooth(points)), place, f"s{index}"))
        dots = "".join(_dot(point, place, form, index) for point in shown)
        parts.append(f'<g class="dots">{dots}</g>')
    keys = "".join(
        f'<span class="key k{index}"><i></i>{escape(name)} <b>{form(points[-1][1])}</b></span>'
        for index, (name, points) in enumerate(series.items())
    )
    label = escape(f"{title}: " + ", ".join(f"{name} {form(points[-1][1])}" for name, points in series.items()))
    svg = (
        f'<svg viewBox="0 {TOP - 10} {WIDTH} {HEIGHT - TOP + 10}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )
    return figure(title, title, svg, keys)


def _band(band: Sequence[tuple[float, float, float]], place: Callable[[float, float], str], index: int) -> str:
    if len(band) < 2:
        return ""
    edges = [(x, low) for x, low, _ in band] + [(x, high) for x, _, high in reversed(band)]
    return f'<polygon class="band d{index}" points="{" ".join(place(x, y) for x, y in edges)}"/>'


def _line(points: Points, place: Callable[[float, float], str], classes: str) -> str:
    if len(points) == 1:
        x, y = place(*points[0]).split(",")
        return f'<circle class="{classes} lone" cx="{x}" cy="{y}" r="3"/>'
    return f'<polyline class="{classes}" points="{" ".join(place(x, y) for x, y in points)}"/>'


def _dot(
    point: tuple[float, float], place: Callable[[float, float], str], form: Callable[[float], str], index: int
) -> str:
    x, y = place(*point).split(",")
    about = f"step {point[0]:,.0f}: {form(point[1])}"
    return f'<circle class="d{index}" cx="{x}" cy="{y}" r="4"><title>{about}</title></circle>'
