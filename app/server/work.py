"""Long work in its own thread, with progress. It stops on request, or when no one is waiting for it anymore."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from app.page import markup
from app.page.markup import one_line
from app.server.handler import Component, Handler, Updates
from app.server.studio import Studio
from simct.errors import SimCTError

EVERY_SECONDS = 0.3
# shown for an error that is not a SimCTError; its traceback goes to the server's output
UNEXPECTED = "This ended unexpectedly ({}). The details are in the studio's own output."


class Stopped(SimCTError):
    """The visitor canceled."""


class Work:
    """The progress of a task: a line of text, and counts in the format `form`; `total` may be unknown."""

    def __init__(self) -> None:
        self.doing = "Starting…"
        self.done: int = 0
        self.total: int | None = None
        self.form: Callable[[int], str] = "{:,}".format
        self.result: Any = None
        self.error = ""
        # whether the page no longer shows what the task is about
        self.left = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.began = time.monotonic()

    def progress(self, done: int, total: int | None = None) -> None:
        self.done, self.total = done, total

    def should_stop(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    def leave(self) -> None:
        """Stop, and show nothing more of this task."""
        self.left = True
        self.stop()

    def step(self, doing: str) -> None:
        """Begin another part of the task. Raises Stopped after a cancel."""
        if self.should_stop():
            raise Stopped("Canceled.")
        self.doing, self.done, self.total, self.form = doing, 0, None, "{:,}".format

    def running_after(self, seconds: float) -> bool:
        """Wait at most this many seconds; returns whether the task is still running."""
        if self._thread is None:
            return False
        self._thread.join(seconds)
        return self._thread.is_alive()

    @property
    def running(self) -> bool:
        return self.running_after(0)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def line(self) -> str:
        """The progress as HTML."""
        of = f" of {self.form(self.total)}" if self.total else ""
        doing = f"{self.doing} {self.form(self.done)}{of}" if self.done else self.doing
        bar = markup.progress(min(self.done, self.total), self.total) if self.total else ""
        return markup.note("busy", f"{doing} · {self.seconds:.0f} s") + bar

    def start(self, task: Callable[["Work"], Any], turn: "threading.Lock | None" = None) -> "Work":
        """Run `task` in its own thread, once it holds `turn`."""
        # the thread keeps the visitor's request, because ZeroGPU lends the GPU to that visitor
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run, task, turn), daemon=True)
        self._thread.start()
        return self

    def _run(self, task: Callable[["Work"], Any], turn: "threading.Lock | None") -> None:
        try:
            while turn is not None and not turn.acquire(timeout=EVERY_SECONDS):
                self.step("Waiting for another task with weights to end…")
            try:
                self.result = task(self)
            finally:
                if turn is not None:
                    turn.release()
        except SimCTError as error:
            self.error = one_line(error)
        except BaseException as error:  # a panic of a Rust library is not an Exception
            self.error = UNEXPECTED.format(type(error).__name__)
            raise


def follow(task: Callable[[Work], Any], turn: "threading.Lock | None" = None) -> Iterator[Work]:
    """Yield the task's Work a few times a second until it has ended, and then one last time.

    The task is stopped when the caller stops iterating.
    """
    work = Work().start(task, turn)
    try:
        while work.running_after(EVERY_SECONDS):
            yield work
        yield work
    finally:
        work.stop()


class LongWork:
    """The place on the page for long work: a line for its progress or its error, and a cancel button.

    `outputs` are the components that change; a handler that uses `run` includes them in its own outputs.
    """

    def __init__(self, studio: Studio, note: gr.HTML, cancel: gr.Button | None = None, *, hides: bool = True) -> None:
        self.studio, self.note, self.cancel, self.hides = studio, note, cancel, hides
        self.task = gr.State(None)
        self.outputs: list[Component] = [note, self.task] if cancel is None else [note, self.task, cancel]
        if cancel is not None:
            Handler(studio, _stop, {"work": self.task}).on(cancel.click)

    def run(
        self,
        task: Callable[[Work], Any],
        finished: Callable[[Work], Updates],
        *,
        weights: bool = False,
        running: Callable[[Work], Updates] = lambda work: {},
        failed: Callable[[Work], Updates] = lambda work: {},
        left: Updates | None = None,
        words: Callable[[str], str] = str,
    ) -> Iterator[Updates]:
        """Updates while `task` runs, and those of `finished` or `failed` when it has ended; those of `left` if the page
        shows something else by then.

        `weights`: the task reads weights, so it waits for any other task that does. `words` puts an error into the
        words of the page.
        """
        for work in follow(task, self.studio.models.turn if weights else None):
            if work.left:
                # an earlier update may have arrived after those of the handler that left the task
                yield {**self.leave(None), **(left or {})}
                return
            if work.running:
                yield {self.note: work.line, self.task: work, **self._cancelable(True), **running(work)}
        ended = {self.task: None, **self._cancelable(False)}
        if work.error:
            yield {**ended, self.note: markup.note("error", words(work.error)), **failed(work)}
        else:
            yield {**ended, **finished(work)}

    def leave(self, work: Work | None) -> Updates:
        """End `work`, the present value of `task`, because the page will show something else here."""
        if work is not None:
            work.leave()
        return {self.note: "", self.task: None, **self._cancelable(False)}

    def _cancelable(self, now: bool) -> Updates:
        if self.cancel is None:
            return {}
        return {self.cancel: gr.Button(visible=now) if self.hides else gr.Button(interactive=now)}


def _stop(work: Work | None) -> Updates:
    if work is not None:
        work.stop()
    return {}
