"""The data of line charts, without a browser."""

import json
from pathlib import Path

import gradio
import pytest

from app.page import charts
from app.page.charts import Line, LineChart
from tests.support.hostile import HOSTILE

NAN = float("nan")


def drawn(*lines: Line, **options) -> dict:
    [chart] = charts.data([LineChart("Loss", "nats", lines, **options)], "run")["charts"]
    return chart


def test_a_chart_has_every_step_and_leaves_out_what_is_not_finite():
    chart = drawn(Line("loss", [(1, 2.0), (2, NAN), (3, 1.0)], [(1, 1.9, 2.1), (2, NAN, 1.0), (3, 0.9, 1.1)]))
    [line] = chart["lines"]
    assert (line["x"], line["y"]) == ([1, 3], [2.0, 1.0])
    assert line["band"] == [[1, 3], [1.9, 0.9], [2.1, 1.1]]


def test_charts_and_lines_without_values_are_left_out():
    found = charts.data([LineChart("Loss", "nats", [Line("loss", [(1, NAN)])])], "run", empty="Nothing yet.")
    assert found["charts"] == [] and found["empty"] == "Nothing yet."
    assert [line["name"] for line in drawn(Line("a", []), Line("b", [(1, 1.0)]))["lines"]] == ["b"]


def test_a_line_keeps_its_color_when_another_is_left_out():
    assert drawn(Line("a", []), Line("b", [(1, 1.0)]))["lines"][0]["color"] == 1
    assert drawn(Line("a", [(1, 1.0)], color=4))["lines"][0]["color"] == 4


def test_long_lines_are_thinned_and_end_where_they_end():
    [line] = drawn(Line("loss", [(step, float(step)) for step in range(1, 5001)]))["lines"]
    assert len(line["x"]) <= charts.MOST_POINTS + 1
    assert (line["x"][0], line["x"][-1], line["y"][-1]) == (1, 5000, 5000.0)


@pytest.mark.parametrize(("value", "sent"), [(0.123456789, 0.123457), (1234567.0, 1234570.0), (0.0, 0.0)])
def test_values_are_sent_with_six_digits(value, sent):
    assert drawn(Line("loss", [(1, value)]))["lines"][0]["y"] == [sent]


def test_names_are_sent_as_text():
    found = charts.data([LineChart(HOSTILE, HOSTILE, [Line(HOSTILE, [(1, 1.0)])])], "run")
    assert json.loads(json.dumps(found))["charts"][0]["title"] == HOSTILE


def test_gradio_brings_plotly():
    path = Path(gradio.__file__).parent / "templates" / "frontend" / charts.plotly_asset()
    assert "window.Plotly=" in path.read_text(encoding="utf-8")
    assert charts.plotly_asset() in charts.script()
