"""Long work in a terminal: a progress bar, and Ctrl-C as a request to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

BAR = 24


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """In this context, Ctrl-C requests a stop instead of ending the command; a second Ctrl-C ends it at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        print("\nStopping with the results so far. Press Ctrl-C again to end immediately.", file=sys.stderr)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def passing_line() -> Iterator[Callable[[str], None]]:
    """A line on standard error that each call replaces, if it is a terminal; removed at the end."""
    shown = sys.stderr.isatty()

    def show(text: str) -> None:
        if shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")


@contextmanager
def progress(label: str, things: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error if it is a terminal, else nothing; removed at the end."""
    with passing_line() as write:

        def show(done: int, total: int | None) -> None:
            share = min(done / total, 1.0) if total else 0.0
            bar = f"[{'#' * round(BAR * share):{BAR}}] {share:4.0%} " if total else ""
            of = f" of {total:,}" if total else ""
            write(f"{label} {bar}{done:,}{of} {things}")

        yield show
