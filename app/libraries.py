"""The libraries that read tokenizers and models take seconds to import: behind the first paint, and in one thread.

Python lets two threads import at once, and then one of them may find torch or transformers half made.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable

# every module of simct that the pages import only when they need it
LATE = """
candidates compare_pairs corpus cost_estimate coverage losses memory_estimate models prompt_report prompts reliability
report_html side_by_side token_bytes tokenizer_pair
hub.dataset_rows hub.publish_job hub.search jobs.hf_hardware jobs.hf_history jobs.hf_job
""".split()  # noqa: SIM905

_ready = threading.Event()


def import_behind(then: Callable[[], object]) -> None:
    """Import them in a thread of their own, and then do `then`."""
    threading.Thread(target=lambda: (import_all(), then()), daemon=True).start()


def import_all() -> None:
    try:
        import datasets  # noqa: F401

        for name in LATE:
            importlib.import_module(f"simct.{name}")
    finally:
        # what cannot be imported is told by the page that needs it
        _ready.set()


class UntilImported:
    """ASGI middleware: the page is served at once; what makes handlers run waits for the imports."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            while not _ready.is_set():
                await asyncio.sleep(0.05)
        await self.app(scope, receive, send)
