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
candidates compare_pairs corpus cost_estimate coverage losses memory_estimate models prompt_report prompts reliability
report_html side_by_side token_bytes tokenizer_pair train
hub.dataset_rows hub.publish_job hub.search jobs.hf_hardware jobs.hf_history jobs.hf_job
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
        import datasets  # noqa: F401

        for name in LATE:
            importlib.import_module(f"simct.{name}")
    finally:
        # what cannot be imported is told by the page that needs it
        _ready.set()


class Page(gr.Blocks):
    """A page that is served at once, and whose handlers run when the imports are done."""

    async def process_api(self, *arguments, **options):
        while not _ready.is_set():
            await asyncio.sleep(0.05)
        return await super().process_api(*arguments, **options)
