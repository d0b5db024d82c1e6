"""Line charts in a real browser: what they show, save and keep, and that nothing is fetched from elsewhere."""

import json
import re

import pytest

from tests.support.run_folders import evaluation_record, made_up_run, step_record

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


@pytest.fixture
def run(runs_dir, address):
    found = made_up_run(runs_dir)
    yield found
    found.set_status(state="stopped")
    found.delete()


def chart(studio, title: str):
    return studio.at("#run-charts figure, #run-measured figure").filter(has=studio.page.locator("b", has_text=title))


def expect_drawn(figure) -> None:
    """Scroll to a chart and wait until it is there."""
    figure.scroll_into_view_if_needed()
    expect(figure).to_have_attribute("data-drawn", "true")


def hover(figure, across: float = 0.5) -> None:
    """Move the mouse over a chart, `across` of its width."""
    figure.scroll_into_view_if_needed()
    box = figure.locator(".plot .nsewdrag").bounding_box()
    figure.page.mouse.move(box["x"] + box["width"] * across, box["y"] + box["height"] / 3)


def range_of(figure) -> list[float]:
    return figure.locator(".plot").evaluate("plot => plot._fullLayout.xaxis.range")


def test_charts_are_drawn_by_what_the_studio_serves_and_only_once_they_are_shown(studio, run):
    asked = []
    studio.page.on("request", lambda request: asked.append(request.url))
    studio.open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    assert not any("Plotly" in url for url in asked)
    studio.step("Runs")
    figure = chart(studio, "Loss")
    expect_drawn(figure)
    expect(figure.locator(".plot .scatterlayer .trace").first).to_be_attached()
    expect(figure.locator(".plot .xtitle")).to_have_text("step")
    expect(figure.locator(".plot .ytitle")).to_have_text("loss")
    assert sum("PlotlyPlot" in url for url in asked) == 1
    own = studio.page.url.split("?")[0]
    assert [url for url in asked if not url.startswith((own, "data:", "blob:"))] == []


def test_the_crosshair_and_the_values_at_it_are_shared_by_all_charts(studio, run):
    studio.open("?step=runs")
    loss, length = chart(studio, "Loss"), chart(studio, "Answer length")
    for figure in (loss, length):
        figure.scroll_into_view_if_needed()
        expect_drawn(figure)
    expect(loss.locator("output.at")).to_have_text("step 60")
    last = length.locator(".key b").inner_text()
    hover(loss)
    expect(loss.locator("output.at")).to_have_text(re.compile(r"step (29|30|31|32)"))
    expect(length.locator("output.at")).to_have_text(loss.locator("output.at").inner_text())
    assert length.locator(".key b").inner_text() != last
    expect(length.locator(".plot .spikeline").first).to_be_attached()
    expect(chart(studio, "Distance to the teacher").locator("output.at")).to_have_text("step 30")
    studio.page.mouse.move(2, 2)
    expect(length.locator("output.at")).to_have_text("step 60")

    loss.locator(".plot").focus()
    studio.page.keyboard.press("Home")
    expect(length.locator("output.at")).to_have_text("step 1")
    studio.page.keyboard.press("ArrowRight")
    expect(loss.locator("output.at")).to_have_text("step 2")
    studio.page.keyboard.press("Escape")
    expect(loss.locator("output.at")).to_have_text("step 60")


def test_the_legend_follows_the_smoothing_and_the_axis_can_be_logarithmic(studio, run):
    studio.open("?step=runs")
    loss, value = chart(studio, "Loss"), chart(studio, "Loss").locator(".key b")
    expect_drawn(loss)
    smoothing = studio.at("#run-charts").get_by_test_id("smoothing")
    smoothing.fill("0")
    raw = step_record(60)["loss"]
    expect(value).to_have_text(f"{raw:.4g}")
    smoothing.fill("0.9")
    expect(value).not_to_have_text(f"{raw:.4g}")
    studio.at("#run-charts").get_by_test_id("log-axis").check()
    axis = "document.querySelector('#run-charts .plot')._fullLayout.yaxis.type"
    studio.page.wait_for_function(f"{axis} === 'log'")
    studio.page.reload()
    expect_drawn(loss)
    expect(smoothing).to_have_value("0.9")
    assert studio.page.evaluate(axis) == "log"


@pytest.mark.long
def test_zoom_and_crosshair_stay_while_a_run_trains(studio, run):
    run.set_status(state="running", total_steps=200)
    studio.open("?step=runs")
    loss = chart(studio, "Loss")
    length = chart(studio, "Answer length")
    expect_drawn(length)
    expect_drawn(loss)
    loss.scroll_into_view_if_needed()
    box = loss.locator(".plot .nsewdrag").bounding_box()
    middle = box["y"] + box["height"] / 2
    studio.page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    studio.page.mouse.down()
    studio.page.mouse.move(box["x"] + box["width"] * 0.75, middle, steps=5)
    studio.page.mouse.up()
    expect(loss.get_by_role("button", name="Reset zoom")).to_be_visible()
    zoomed = range_of(loss)
    assert 10 < zoomed[0] < 20 and 40 < zoomed[1] < 50
    assert range_of(length) == pytest.approx(zoomed)
    hover(loss)
    expect(loss.locator("output.at")).not_to_have_text("step 60")
    at = loss.locator("output.at").inner_text()
    run.append("metrics.jsonl", step_record(61) | {"loss": 0.77})
    run.set_status(step=61)
    studio.page.wait_for_function("document.querySelector('#run-charts .plot').data.at(-1).x.at(-1) === 61")
    assert range_of(loss) == pytest.approx(zoomed)
    expect(loss.locator("output.at")).to_have_text(at)
    loss.get_by_role("button", name="Reset zoom").click()
    studio.page.wait_for_function("document.querySelector('#run-charts .plot')._fullLayout.xaxis.range[1] > 55")
    expect(loss.get_by_role("button", name="Reset zoom")).to_be_hidden()


def test_charts_are_saved_as_png_svg_and_csv(studio, run):
    studio.open("?step=runs")
    figure = chart(studio, "KL by kind of unit")
    expect_drawn(figure)
    saved = {}
    for kind in ("png", "svg", "csv"):
        with studio.page.expect_download() as download:
            figure.get_by_role("button", name=f"Save KL by kind of unit as {kind.upper()}").click()
        assert download.value.suggested_filename == f"kl-by-kind-of-unit.{kind}"
        saved[kind] = download.value.path().read_bytes()
    assert saved["png"].startswith(b"\x89PNG") and len(saved["png"]) > 10_000
    for word in ("<svg", "KL by kind of unit", "recovered", "nats", "step"):
        assert word in saved["svg"].decode(), word
    lines = saved["csv"].decode().splitlines()
    assert lines[0] == "step,shared,recovered" and len(lines) == 61
    assert float(lines[-1].split(",")[1]) == pytest.approx(step_record(60)["kl_shared"], rel=1e-5)


def test_compared_runs_have_one_color_each_in_every_chart(studio, runs_dir, run):
    other = made_up_run(runs_dir, steps=40, method="strict")
    studio.open("?step=runs")
    studio.page.get_by_role("button", name="Run comparison").click()
    for place in range(2):
        studio.at("#run-comparison-runs input").click()
        studio.page.get_by_role("option").filter(has_text="·").nth(place).click()
    figures = studio.at("#run-comparison-charts figure")
    expect(figures.first.locator(".key")).to_have_count(2)
    assert figures.count() >= 6
    colors = figures.evaluate_all(
        "all => all.map(each => [...each.querySelectorAll('.key i')]"
        ".map(mark => getComputedStyle(mark).borderTopColor))"
    )
    assert len({json.dumps(each) for each in colors}) == 1 and len(set(colors[0])) == 2
    swatches = studio.at("#run-comparison-seen .swatch").evaluate_all(
        "all => all.map(mark => getComputedStyle(mark).borderTopColor)"
    )
    assert swatches == colors[0]
    other.delete()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_charts_have_the_colors_of_the_theme_and_fit_the_screen(browser, address, run, scheme, width):
    studio = studio_page.visitor(browser, address, width, 844, scheme).open("?step=runs")
    figure = chart(studio, "Loss")
    expect_drawn(figure)
    color = "document.querySelector('#run-charts .plot').data.at(-1).line.color"
    series = studio.page.evaluate(
        "getComputedStyle(document.querySelector('#run-charts figure')).getPropertyValue('--series-0')"
    )
    assert studio.page.evaluate(color) == series.strip()
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= width
    studio.page.evaluate("document.body.classList.toggle('dark')")
    studio.page.wait_for_function(f"{color} !== '{series.strip()}'")
    studio.close()


def test_steps_have_whole_numbers_each_once(studio, run):
    """A run with one evaluation so far had ticks at -1, -1, 0, 1 and 1."""
    (run.path / "evaluations.jsonl").write_text(json.dumps(evaluation_record(0)) + "\n")
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(step_record(step)) + "\n" for step in (1, 2, 3)))
    studio.open("?step=runs")
    for title, expected in (("Distance to the teacher", ["0"]), ("Loss", ["1", "2", "3"])):
        figure = chart(studio, title)
        expect_drawn(figure)
        expect(figure.locator(".plot .xtick")).to_have_text(expected)
