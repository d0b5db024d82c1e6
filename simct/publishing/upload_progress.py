"""How much of an upload has been sent, read from the client's own progress bars, which count the bytes of each file."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from huggingface_hub.utils import tqdm

EVERY_SECONDS = 0.5


def bytes_sent() -> int:
    """Bytes of the file that is being sent now, by the bar with the largest total; 0 where bars are switched off."""
    bars = [bar for bar in list(getattr(tqdm, "_instances", ())) if getattr(bar, "unit", "") == "B" and bar.total]
    return int(max(bars, key=lambda bar: bar.total).n) if bars else 0


@contextlib.contextmanager
def watching(on_progress: Callable[[int], None]) -> Iterator[None]:
    """Call `on_progress` with the bytes sent so far, from time to time, while the block runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(EVERY_SECONDS):
            on_progress(bytes_sent())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
