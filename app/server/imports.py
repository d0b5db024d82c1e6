"""The libraries that read tokenizers and models take seconds to import: behind the first paint, and in one thread.

Python lets two threads import at once, and then one of them may find torch or transformers half made.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable

import gradio as gr

# every module of simct that the pages import only when they need it
LATE = """
tokenization.token_bytes tokenization.pair losses models.loading
data.formats data.sources data.templates data.prompts data.prompt_report
inspection.coverage inspection.corpus inspection.candidates inspection.reliability inspection.compare_pairs
inspection.side_by_side report.html estimate.machines estimate.memory estimate.time_and_cost train
hub.datasets hub.licenses hub.search jobs.hf.hardware jobs.hf.history jobs.hf.job publishing.process
""".split()  # noqa: SIM905

_ready = threading.Event()
_ready.set()


def import_behind(then: Callable[[], object]) -> None:
    """Import them in a thread of their own, and then do `then`; the page's handlers wait for them."""
    _ready.clear()

    def run() -> None:
        try:
            import_all()
        finally:
            then()

    threading.Thread(target=run, daemon=True).start()


def import_all() -> None:
    try:
        for name in ("datasets", *(f"simct.{name}" for name in LATE)):
            importlib.import_module(name)
    finally:
        # what cannot be imported is told by the page that needs it
        _ready.set()


class Page(gr.Blocks):
    """A page that is served at once, and whose handlers run when the imports are done."""

    async def process_api(self, *arguments, **options):
        while not _ready.is_set():
            await asyncio.sleep(0.05)
        return await super().process_api(*arguments, **options)
