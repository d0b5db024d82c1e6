"""How soon the studio shows something, beside the smallest page that Gradio can make, in one browser.

    python -m benchmarks.page [--visits 7] [--json OUT]

Both are served from this machine in processes of their own, and visited in turn by new visitors (no cache). Printed are
the medians of the first paint with content, of the moment the first step is filled (the studio's tiles, the bare page's
button), and of the layout shift; and, once, how long a studio just started takes to fill its first page, which waits
for the import of torch and transformers. Needs playwright and a Chromium (requirements-test.txt).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser

from tests.support import studio_page
from tests.support.servers import free_port, serving

BARE = """
import sys
import gradio as gr
with gr.Blocks() as page:
    button = gr.Button("Ready")
    button.click(lambda: None)
page.launch(server_port=int(sys.argv[1]), quiet=True)
"""
WATCH = """
window.shifted = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => {
  if (!entry.hadRecentInput) window.shifted += entry.value;
})).observe({type: 'layout-shift', buffered: true});
"""
FILLED = {"studio": "#pair-summary .tile >> nth=0", "bare": "button:has-text('Ready')"}


@contextmanager
def bare_page() -> Iterator[str]:
    """The address of a Gradio page with one button."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        with serving([sys.executable, script, str(port)], port) as (url, _):
            yield url


def visit(opened: Browser, url: str, filled: str) -> dict[str, float]:
    """Milliseconds from the request to the first paint and to what `filled` selects, and the layout shift."""
    context = opened.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.add_init_script(WATCH)
    page.goto(url)
    page.locator(filled).wait_for()
    row = {
        "paint": page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
        "filled": page.evaluate("performance.now()"),
        "shift": page.evaluate("window.shifted"),
    }
    context.close()
    return row


def measure(visits: int) -> dict:
    """Medians over `visits` of each page, visited in turn; and the studio's first page of all, in seconds."""
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as runs,
        studio_page.running_studio(Path(runs)) as studio,
        studio_page.browser() as opened,
    ):
        visit(opened, studio, FILLED["studio"])
        first = time.monotonic() - began
        with bare_page() as bare:
            pages = {"studio": studio, "bare": bare}
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in pages}
            for _ in range(visits):
                for name, url in pages.items():
                    rows[name].append(visit(opened, url, FILLED[name]))
    medians = {
        name: {key: statistics.median(row[key] for row in found) for key in found[0]} for name, found in rows.items()
    }
    return {"first_page_seconds": first, "visits": visits, **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--visits", type=int, default=7, help="visits of each page")
    parser.add_argument("--json", type=Path, help="write what was measured there, too")
    options = parser.parse_args()
    found = measure(options.visits)
    print(f"{'':8}{'first paint':>14}{'filled':>12}{'layout shift':>16}")
    for name in FILLED:
        row = found[name]
        print(f"{name:8}{row['paint']:>11.0f} ms{row['filled']:>9.0f} ms{row['shift']:>16.3f}")
    ratios = {key: found["studio"][key] / found["bare"][key] for key in ("paint", "filled")}
    print(f"{'ratio':8}{ratios['paint']:>14.2f}{ratios['filled']:>12.2f}")
    print(f"A studio just started filled its first page after {found['first_page_seconds']:.1f} s.")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
