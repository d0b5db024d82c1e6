"""Line charts: plain data that static/charts.js draws with Plotly, in the page's light and dark colors.

Plotly comes with Gradio, for gr.Plot. It is loaded from this studio once a chart is in view, never from elsewhere.
gr.Plot itself rebuilds its chart at every change and would lose the zoom and the crosshair during a run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.page import markup
from app.page.scripts import when_loaded

# most points of a line; a longer line is thinned
MOST_POINTS = 800
DIGITS = 6

Points = Sequence[tuple[float, float]]
Band = Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart over the steps, as (step, value), with a band behind it, as (step, low, high).

    color: 0 to 5, by default the line's place in its chart.
    """

    name: str
    points: Points
    band: Band = ()
    color: int | None = None


@dataclass(frozen=True)
class LineChart:
    """A chart over the steps. axis: the name of its values. percent: whether they are shares.

    bounds: of the vertical axis, by default those of the values. noisy: whether the smoothing control applies to it.
    """

    title: str
    axis: str
    lines: Sequence[Line]
    percent: bool = False
    bounds: tuple[float, float] | None = None
    noisy: bool = True


def thin(points: Sequence[Any]) -> Sequence[Any]:
    """At most MOST_POINTS points, and the last one."""
    stride = math.ceil(len(points) / MOST_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def data(charts: Sequence[LineChart], key: str, tools: bool = True, empty: str = "") -> dict[str, Any]:
    """The value of a `place`. Values that are not finite are left out, and so are charts without any.

    key: what the charts show. Zoom and crosshair stay as long as the key stays; all places with this key share them.
    tools: whether the controls for smoothing and the axis are shown. empty: the text shown if there is no chart.
    """
    described = [_described(chart) for chart in charts]
    return {"key": key, "tools": tools, "empty": empty, "charts": [each for each in described if each["lines"]]}


def _described(chart: LineChart) -> dict[str, Any]:
    lines = [_line(line, index) for index, line in enumerate(chart.lines)]
    return {
        "title": chart.title,
        "axis": chart.axis,
        "percent": chart.percent,
        "bounds": chart.bounds,
        "noisy": chart.noisy,
        "lines": [line for line in lines if line["x"]],
    }


def _line(line: Line, index: int) -> dict[str, Any]:
    points = thin([(x, y) for x, y in line.points if math.isfinite(y)])
    band = thin([each for each in line.band if all(map(math.isfinite, each))])
    described: dict[str, Any] = {
        "name": line.name,
        "color": index if line.color is None else line.color,
        "x": [x for x, _ in points],
        "y": [_rounded(y) for _, y in points],
    }
    if len(band) > 1:
        described["band"] = [[each[0] for each in band], *([_rounded(each[i]) for each in band] for i in (1, 2))]
    return described


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def place(elem_id: str) -> gr.HTML:
    """A place where charts are drawn; its value comes from `data`. Gradio does not draw it again when the value
    changes.
    """
    return markup.panel(
        data((), ""), elem_id=elem_id, html_template='<div class="lines"></div>', js_on_load=when_loaded("charts")
    )


def plotly_asset() -> str:
    """The path of Plotly below the address of the page."""
    folder = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    return f"assets/{next(path.name for path in sorted(folder.glob('PlotlyPlot-*.js')))}"


def script() -> str:
    """A script element of the page's head that tells charts.js where Plotly is."""
    return f'<script>window.studio ??= {{}}; window.studio.plotly = "{plotly_asset()}";</script>'
