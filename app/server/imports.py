"""Import the libraries that read tokenizers and models, which takes seconds, in one thread after the first paint.

If two threads import at once, one of them may see torch or transformers half imported.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from app.server.fair_queue import FairQueue
from app.server.studio import Studio

# the modules of simct that pages import only when they need them
LATE = """
config.sections tokenization.token_bytes tokenization.model_tokens tokenization.pair
losses losses.head models.loading models.served training.checkpoints
data.columns data.conversations data.exclusions data.formats data.sources data.templates data.prompts data.prompt_report
inspection.coverage inspection.corpus inspection.candidates inspection.reliability inspection.compare_pairs
inspection.side_by_side report.html estimate.machines estimate.memory estimate.time_and_cost
hub.datasets hub.downloads hub.licenses hub.model_files hub.search preflight.planned
jobs.hf.hardware jobs.hf.spending jobs.hf.history jobs.hf.job publishing.process preflight.checklist
""".split()  # noqa: SIM905


def import_behind(studio: Studio, then: Callable[[], object]) -> None:
    """Import them in a separate thread, and then call `then`. The page's handlers wait for this."""
    studio.imported.clear()
    studio.workers.nursery.start()

    def run() -> None:
        try:
            import_all(studio)
            studio.workers.warm()
        finally:
            then()

    threading.Thread(target=run, daemon=True).start()


def import_all(studio: Studio) -> None:
    try:
        ours = (f"app.reading.{name}" for name in ("models", "texts", "prompts", "runs"))
        for name in ("datasets", *(f"simct.{name}" for name in LATE), *ours):
            importlib.import_module(name)
    finally:
        # if a module cannot be imported, the page that needs it reports that
        studio.imported.set()


# keys of a component in the page's configuration that only callers of the API and components outside Gradio need
FOR_CALLERS = ("api_info", "api_info_as_input", "api_info_as_output", "example_inputs", "skip_api")
OF_CUSTOM = "component_class_id"
# keys of components and events that only Gradio's server needs: no file of its browser code contains these words
FOR_SERVER = ("preserved_by_key", "delete_callback", "time_to_live", "collects_event_data", "max_batch_size")


class Page(gr.Blocks):
    """A page that is served at once. Its handlers run once the imports are done, and visitors take turns."""

    def __init__(self, studio: Studio, **options: Any) -> None:
        self.studio = studio
        super().__init__(**options)

    def queue(self, *arguments: Any, **options: Any) -> "Page":
        super().queue(*arguments, **options)
        made = self._queue
        self._queue = FairQueue(
            live_updates=made.live_updates,
            concurrency_count=made.max_thread_count,
            update_intervals=made.update_intervals,
            max_size=made.max_size,
            blocks=self,
            default_concurrency_limit=made.default_concurrency_limit,
        )
        return self

    def get_config_file(self) -> Any:
        """The configuration that every visitor gets, without the parts that no browser reads.

        Only components of the public API keep the description for callers.
        """
        config = super().get_config_file()
        public = [fn for fn in self.fns.values() if fn.api_visibility == "public"]
        called = {block._id for fn in public for block in (*fn.inputs, *fn.outputs)}
        for component in config["components"]:
            _leave_out(component, (OF_CUSTOM, *(() if component["id"] in called else FOR_CALLERS)))
            _leave_out(component["props"], FOR_SERVER)
        for event in config["dependencies"]:
            _leave_out(event, FOR_SERVER)
        return config

    def handle_streaming_diffs(
        self,
        block_fn: Any,
        data: list[Any],
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list[Any]:
        """The values that a handler yields; after the first one, as differences from the previous one.

        Gradio's browser code applies such a difference in place to the earlier update, even if the page has not applied
        that update yet. A new value is then lost if the handler soon yields again. Here, updates of properties are sent
        whole.
        """
        known = self.pending_diff_streams[session_hash] if session_hash else {}
        begun = run in known
        sent = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        if begun and not final and not simple_format:
            for place, update in enumerate(known[run]):
                if isinstance(update, dict) and sent[place]:
                    sent[place] = [["replace", [], update]]
        return sent

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        while not self.studio.imported.is_set():
            await asyncio.sleep(0.05)
        return await super().process_api(*arguments, **options)


def _leave_out(described: Any, names: Iterable[str]) -> None:
    for name in names:
        described.pop(name, None)
