"""How fast the studio's page appears and responds, compared with the smallest page that Gradio can make.

    python -m benchmarks.page [--visits 7] [--runs 0] [--visitors 1] [--json OUT]

Both pages are served from this machine in processes of their own, and visited in turn by new visitors (no cache) in one
browser. Printed are the medians over the visits, with the goals: the first paint with content, the first step filled
(the studio's tiles, the bare page's button), a click and a field answered, a preset applied, and a model of a Hub on
this machine chosen; and, once, the first step of a studio that has just been started and still imports torch and
transformers, from the opening of the page and from the command. With `--runs` that many finished runs are listed, and
with `--visitors` that many people are there at once: all but one only as requests, each of whom opens the page and then
changes the form every few seconds. Needs playwright and a Chromium (requirements-test.txt).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page

from simct import demo
from simct.presets import load_preset
from tests.support import studio_page
from tests.support.hub_server import HubServer
from tests.support.run_folders import made_up_run
from tests.support.servers import free_port, serving
from tests.support.shared_studio import Refused, Visitor

BARE = """
import sys
import gradio as gr
with gr.Blocks() as page:
    button = gr.Button("Ready")
    text = gr.Textbox(label="Answer")
    button.click(lambda: "answered", None, text, show_progress="hidden")
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""
WATCH = """
window.shifted = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => {
  if (!entry.hadRecentInput) window.shifted += entry.value;
})).observe({type: 'layout-shift', buffered: true});
"""
# notes when the next event of a kind happens
BEGIN = """kind => addEventListener(kind, () => { window.began = performance.now(); }, {capture: true, once: true})"""
STUDIO_FILLED, BARE_FILLED = "#pair-summary .tile >> nth=0", "button:has-text('Ready')"
PATIENCE_MS = 120_000
PRESET = "gpu-16gb"
LICENSE = b"---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n"
# seconds between two changes of the form by one of the other visitors
THINKING = 5.0


@dataclass(frozen=True)
class Measure:
    """A row of the table: what is measured, and the goal in milliseconds, if there is one."""

    title: str
    goal: float | None = None


MEASURES = {
    "command": Measure("from the command that starts the studio to its first step filled"),
    "first": Measure("first step filled, page opened as soon as the studio answers", 3000),
    "paint": Measure("first paint"),
    "filled": Measure("first step filled", 1000),
    "text": Measure("text changed on Inspect, until its units are shown", 300),
    "click": Measure("a click: the next disagreement on Inspect", 300),
    "field": Measure("number changed on Train, until the estimate is updated", 300),
    "preset": Measure("preset chosen, until the fields are filled", 500),
    "rest": Measure("preset chosen, until everything that depends on it is shown", 500),
    "runs": Measure("Runs opened, until a run is shown", 300),
    "hub": Measure("Hub model chosen, until its tokenizer is read (a Hub without latency)", 300),
}


@contextmanager
def bare_page() -> Iterator[str]:
    """The address of a Gradio page with one button and one text."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        with serving([sys.executable, script, str(port)], port) as (url, _):
            yield url


@contextmanager
def visited(opened: Browser, url: str, filled: str) -> Iterator[tuple[Page, dict[str, float]]]:
    """A new visitor's page, once what `filled` selects is there, and the milliseconds until then."""
    context = opened.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(WATCH)
    page.goto(url)
    page.locator(filled).wait_for()
    row = {
        "filled": page.evaluate("performance.now()"),
        "paint": page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "shift": page.evaluate("window.shifted"),
    }
    yield page, row
    context.close()


def timed(page: Page, event: str, act: Callable[[], object], *done: str) -> list[float]:
    """Milliseconds from the `event` that `act` causes to the first frame in which each expression of `done` is true."""
    page.evaluate(BEGIN, event)
    act()
    return [page.wait_for_function(f"() => ({each}) && performance.now() - window.began").json_value() for each in done]


def wait_for_the_rest(page: Page) -> None:
    """Wait until nothing on the form's step is about an older version of it."""
    page.wait_for_function(
        "document.querySelector('#checklist [data-edit]') && !document.querySelector('[data-outdated]')"
    )


def text_changed(page: Page, visit: int) -> dict[str, float]:
    """Another text on Inspect, and then a click there."""
    page.get_by_role("tab", name="Inspect").click()
    units = page.locator("#inspect-lanes .unit")
    units.first.wait_for()
    page.evaluate("window.shown = document.querySelectorAll('#inspect-lanes .unit').length")
    text = f"Visit {visit}: the adolescent should purchase documentation expeditiously. " * (visit + 1)
    counted = "document.querySelectorAll('#inspect-lanes .unit').length"
    changed = f"{counted} > 0 && {counted} !== window.shown"
    [text_ms] = timed(page, "input", lambda: page.locator("#inspect-text textarea").fill(text), changed)
    moved = "document.querySelector('#inspect-lanes .unit.now')?.dataset.unit > 0"
    [click_ms] = timed(page, "click", page.locator("#inspect-next").click, moved)
    return {"text": text_ms, "click": click_ms}


def form_changed(page: Page, visit: int) -> dict[str, float]:
    """A number on Train, and then a preset."""
    page.get_by_role("tab", name="Train").click()
    steps = page.locator("#training-steps input")
    steps.wait_for()
    wait_for_the_rest(page)
    estimate = "document.querySelector('#train-estimate:not([data-outdated])')"
    followed = f"{estimate}?.textContent.includes('{2001 + visit:,} steps')"
    [field_ms] = timed(page, "input", lambda: steps.fill(str(2001 + visit)), followed)
    wait_for_the_rest(page)
    page.locator("#preset input").click()
    option = page.get_by_role("option").filter(has_text="16 GB").first
    option.wait_for()
    batch = load_preset(PRESET).training.batch_size
    filled = f"document.querySelector('#training-batch-size input').value === '{batch}'"
    rest = f"{filled} && !document.querySelector('[data-outdated]')"
    preset_ms, rest_ms = timed(page, "mousedown", option.click, filled, rest)
    return {"field": field_ms, "preset": preset_ms, "rest": rest_ms}


def runs_opened(page: Page) -> dict[str, float]:
    tab = page.get_by_role("tab", name="Runs")
    shown = "document.querySelector('#run-head .pill')?.getClientRects().length > 0"
    [opened_ms] = timed(page, "click", tab.click, shown)
    return {"runs": opened_ms}


def model_chosen(page: Page, name: str) -> dict[str, float]:
    """A model that the studio has not read yet, found on the Hub by typing."""
    page.get_by_role("tab", name="Pair").click()
    field = page.locator("#teacher input")
    field.click()
    field.fill("")
    field.press_sequentially(name, delay=25)
    option = page.get_by_role("option").filter(has_text=name).first
    option.wait_for()
    page.locator("#teacher-note", has_text="1 found on the Hub").wait_for()
    read = "document.querySelector('#teacher-note .note-ok')?.textContent.includes('apache-2.0')"
    [chosen_ms] = timed(page, "mousedown", option.click, read)
    return {"hub": chosen_ms}


def visit_studio(opened: Browser, url: str, visit: int) -> dict[str, float]:
    with visited(opened, url, STUDIO_FILLED) as (page, row):
        return (
            row
            | text_changed(page, visit)
            | form_changed(page, visit)
            | runs_opened(page)
            | model_chosen(page, f"teacher-{visit}")
        )


def visit_bare(opened: Browser, url: str) -> dict[str, float]:
    with visited(opened, url, BARE_FILLED) as (page, row):
        answered = "document.querySelector('textarea, input').value === 'answered'"
        [click_ms] = timed(page, "click", page.get_by_role("button", name="Ready").click, answered)
        return {**row, "click": click_ms}


def be_there(url: str, number: int, leaving: threading.Event) -> None:
    """Another visitor, as requests only: opens the page, then changes the form every few seconds."""
    with suppress(httpx.HTTPError, Refused, AssertionError):
        visitor = Visitor(url.rstrip("/"), "somebody", "")
        # all requests come from this machine; visitors are told apart by their addresses
        visitor.http.headers["X-Forwarded-For"] = f"198.51.100.{number}"
        loaded = next(
            each for each in visitor.page["dependencies"] if each["targets"] and each["targets"][0][1] == "load"
        )
        visitor.send(loaded, visitor.values(loaded))
        pair, form = visitor.component("teacher"), visitor.component("form-values")
        visitor.send(visitor.event(pair, "input"), visitor.values(visitor.event(pair, "input")))
        changed = visitor.event(form, "change")
        edit = 0
        while not leaving.wait(THINKING):
            edit += 1
            visitor.send(changed, visitor.values(changed, **{str(form): visitor.form(str(edit))}))


@contextmanager
def others(url: str, count: int) -> Iterator[None]:
    """`count` other visitors."""
    leaving = threading.Event()
    threads = [threading.Thread(target=be_there, args=(url, each, leaving), daemon=True) for each in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        leaving.set()
        for thread in threads:
            thread.join(timeout=30)


def measure(visits: int, runs: int, visitors: int) -> dict:
    """Medians over `visits` of each page, visited in turn; and the studio's first page of all."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for _ in range(max(1, runs)):
            made_up_run(folder, steps=4)
        hub = stack.enter_context(HubServer())
        for visit in range(visits):
            hub.add_model(f"acme/teacher-{visit}", demo.TEACHER, files={"README.md": LICENSE})
        opened = stack.enter_context(studio_page.browser())
        bare = stack.enter_context(bare_page())
        began = time.monotonic()
        studio = stack.enter_context(studio_page.running_studio(folder, hub.env()))
        with visited(opened, studio, STUDIO_FILLED) as (_, row):
            first = {"command": 1000 * (time.monotonic() - began), "first": row["filled"]}
        stack.enter_context(others(studio, visitors - 1))
        found: dict[str, list[dict[str, float]]] = {"studio": [], "bare": []}
        for visit in range(visits):
            found["studio"].append(visit_studio(opened, studio, visit))
            found["bare"].append(visit_bare(opened, bare))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()
    }
    medians["studio"] |= first
    return {"visits": visits, "runs": runs, "visitors": visitors, **medians}


def table(found: dict) -> str:
    """The medians beside the goals, as a table of Markdown."""
    lines = ["| what | goal, ms | studio, ms | bare Gradio page, ms |", "|---|---:|---:|---:|"]
    for name, each in MEASURES.items():
        values = (each.goal, found["studio"].get(name), found["bare"].get(name))
        cells = ["" if value is None else f"{value:,.0f}" for value in values]
        lines.append(f"| {each.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=7, help="visits of each page")
    parser.add_argument("--runs", type=int, default=0, help="finished runs that are listed")
    parser.add_argument("--visitors", type=int, default=1, help="people who are there at once")
    parser.add_argument("--json", type=Path, help="write what was measured there, too")
    options = parser.parse_args()
    found = measure(options.visits, options.runs, options.visitors)
    print(table(found))
    print(f"Layout shift: studio {found['studio']['shift']:.3f}, bare page {found['bare']['shift']:.3f}.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
