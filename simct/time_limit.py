"""Limits on the time and memory of an untrusted program that runs as Python, such as a chat template."""

import ctypes
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from simct.errors import LimitError

Result = TypeVar("Result")
# seconds after which an interruption is repeated, in case it was swallowed
AGAIN_SECONDS = 0.1


class _TimeIsUp(BaseException):
    """Not an Exception, so that the interrupted code does not handle it."""


def run_within(seconds: float, what: str, function: Callable[[], Result]) -> Result:
    """The result of `function()`. Raises LimitError, which calls it `what`, if it takes longer.

    Only Python code is interrupted, not a library's long computation.
    """
    alone = threading.current_thread() is threading.main_thread() and signal.getitimer(signal.ITIMER_REAL)[0] == 0
    try:
        return _by_alarm(seconds, function) if alone else _by_thread(seconds, function)
    except _TimeIsUp:
        raise LimitError(f"{what} did not finish within {seconds:g} s.") from None


@contextmanager
def memory_within(more: int) -> Iterator[None]:
    """Let this process use at most `more` further bytes of memory; beyond that, allocations raise MemoryError.

    It only works in the main thread of a Linux process, because the limit applies to the whole process; elsewhere it
    does nothing.
    """
    status = Path("/proc/self/status")
    if threading.current_thread() is not threading.main_thread() or not status.exists():
        yield
        return
    taken = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(taken.split()[1]) * 1024 + more
    lower = limit if soft == resource.RLIM_INFINITY else min(limit, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (lower, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _by_alarm(seconds: float, function: Callable[[], Result]) -> Result:
    def interrupt(number: int, frame: Any) -> None:
        raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
        try:
            return function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)


def _by_thread(seconds: float, function: Callable[[], Result]) -> Result:
    """Signals reach only the main thread; other threads are interrupted through Python's interface for debuggers."""
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    thread = ctypes.c_ulong(threading.get_ident())
    done, changing = threading.Event(), threading.Lock()

    def watch() -> None:
        pause = seconds
        while not done.wait(pause):
            with changing:
                if not done.is_set():
                    raise_in(thread, ctypes.py_object(_TimeIsUp))
            pause = AGAIN_SECONDS

    threading.Thread(target=watch, daemon=True).start()
    try:
        return function()
    finally:
        with changing:
            done.set()
            raise_in(thread, None)
