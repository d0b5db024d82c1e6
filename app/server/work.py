"""A long task beside the page: in a thread of its own, with progress, and stopped when asked or when nobody waits."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from app.page import markup
from app.page.markup import one_line
from simct.errors import SimCTError

EVERY_SECONDS = 0.3
# told of a task that ended by something other than a SimCTError; its traceback goes to the server's own output
UNEXPECTED = "This ended unexpectedly ({}). The studio's own output has the details."

# One task at a time reads weights: two would want the memory of both.
_weights = threading.Lock()


class Stopped(SimCTError):
    """The visitor canceled."""


class Work:
    """What a task has done so far: a line for people, and counts that `form` writes; `total` may not be known."""

    def __init__(self) -> None:
        self.doing, self.done, self.total = "Starting…", 0, None
        self.form: Callable[[int], str] = "{:,}".format
        self.result: Any = None
        self.error = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.began = time.monotonic()

    def progress(self, done: int, total: int | None = None) -> None:
        self.done, self.total = done, total

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def step(self, doing: str) -> None:
        """Begin another part of the task. Raises Stopped after a cancel."""
        if self.should_stop():
            raise Stopped("Canceled.")
        self.doing, self.done, self.total, self.form = doing, 0, None, "{:,}".format

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def running_after(self, seconds: float | None) -> bool:
        """Wait so long at the most (None: until it has ended), and tell whether it is still running."""
        if self._thread is not None:
            self._thread.join(seconds)
        return self.running

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def start(self, task: Callable[["Work"], Any], weights: bool = False) -> "Work":
        def run() -> None:
            try:
                if weights:
                    self._take_turn()
                try:
                    self.result = task(self)
                finally:
                    if weights:
                        _weights.release()
            except SimCTError as error:
                self.error = one_line(error)
            except Exception as error:
                self.error = UNEXPECTED.format(type(error).__name__)
                raise

        # the visitor's request goes along: a GPU that is lent is lent to them
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(run,), daemon=True)
        self._thread.start()
        return self

    def _take_turn(self) -> None:
        while not _weights.acquire(timeout=EVERY_SECONDS):
            self.step("Waiting for another task with weights to end…")


def follow(task: Callable[[Work], Any], weights: bool = False) -> Iterator[Work]:
    """The task's Work a few times a second until it has ended; it is stopped when nobody asks for more."""
    work = Work().start(task, weights)
    try:
        while work.running:
            yield work
            time.sleep(EVERY_SECONDS)
        yield work
    finally:
        work.stop()


def follow_if_long(task: Callable[[Work], Any]) -> Iterator[Work]:
    """The task's Work when it has ended; before that once, if it takes longer than what seems to come at once."""
    work = Work().start(task)
    if work.running_after(EVERY_SECONDS):
        yield work
    work.running_after(None)
    yield work


def view(work: Work) -> str:
    """How far it is, for the page."""
    of = f" of {work.form(work.total)}" if work.total else ""
    told = f"{work.doing} {work.form(work.done)}{of}" if work.done else work.doing
    bar = markup.progress(min(work.done, work.total), work.total) if work.total else ""
    return markup.note("busy", f"{told} · {work.seconds:.0f} s") + bar


def stop(work: Work | None) -> None:
    """Ask a task to stop, if there is one."""
    if work is not None:
        work.stop()
