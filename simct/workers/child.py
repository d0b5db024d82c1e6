"""The child's side: it does one piece of work after another, and keeps loaded files for later ones."""

import json
import os
import pickle
import resource
import socket
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from simct.errors import SimCTError, brief
from simct.workers.messages import ASK, ERROR, HELLO, PROGRESS, RESULT, STEP, STOP, Gone, Inbox, send

Result = TypeVar("Result")
# the largest file that a child may write, such as a download, in bytes
LARGEST_FILE = 1 << 30
# seconds of computing time after which the system ends a child whose parent may be gone
ABANDONED = 120
REPORT_SECONDS = 0.1


class Worker:
    """The first argument of a function that runs in a child: its kept results and its connection to the parent.

    Without a connection it works in the process that creates it, which it does not limit, and reports nothing.
    """

    def __init__(self, connection: socket.socket | None = None) -> None:
        self._connection = connection
        self._inbox = Inbox(connection) if connection is not None else None
        self._kept: dict[Callable[..., Any], OrderedDict[tuple[Any, ...], Any]] = {}
        self._stopped = False
        self._reported = 0.0

    def kept(self, function: Callable[..., Result], *arguments: Any, size: int = 4) -> Result:
        """The result of `function(*arguments)`; the `size` most recently used results are kept."""
        known = self._kept.setdefault(function, OrderedDict())
        if arguments not in known:
            known[arguments] = function(*arguments)
            while len(known) > size:
                known.popitem(last=False)
        known.move_to_end(arguments)
        return known[arguments]

    def step(self, what: str) -> None:
        """Begin the next part of the work; its limits count from here, and errors about them call it `what`."""
        if self._connection is not None:
            allow_more_time()
            send(self._connection, STEP, brief(what).encode("utf-8", "replace"))

    def progress(self, done: int, total: int | None = None) -> None:
        """Report progress, at most a few times a second. Time limits count from here."""
        now = time.monotonic()
        if self._connection is not None and now - self._reported > REPORT_SECONDS:
            self._reported = now
            allow_more_time()
            send(self._connection, PROGRESS, json.dumps([done, total]).encode())

    def should_stop(self) -> bool:
        """Whether the parent has asked to stop."""
        if self._inbox is not None and not self._stopped:
            self._stopped = (self._inbox.next(0) or (b"",))[0] == STOP
        return self._stopped

    def asked(self) -> bytes:
        """Wait for the next work that the parent sends. Raises Gone."""
        assert self._inbox is not None
        while True:
            kind, content = self._inbox.next() or (b"", b"")
            if kind == ASK:
                self._stopped, self._reported = False, 0.0
                allow_more_time()
                return content


def serve(connection: socket.socket) -> None:
    """Answer the parent's requests until it ends."""
    for kind, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, LARGEST_FILE)):
        _lower_limit(kind, most)
    worker = Worker(connection)
    try:
        send(connection, HELLO, str(os.getpid()).encode())
        while True:
            send(connection, *_answer(worker, worker.asked()))
    except Gone:
        return


def _answer(worker: Worker, content: bytes) -> tuple[bytes, bytes]:
    try:
        function, arguments = pickle.loads(content)
        return RESULT, pickle.dumps(function(worker, *arguments), protocol=5)
    except Gone:
        raise
    except SimCTError as error:
        return ERROR, json.dumps([type(error).__name__, str(error)]).encode()
    except BaseException as error:  # a panic of a Rust library is not an Exception
        if not isinstance(error, MemoryError):
            traceback.print_exc()
        return ERROR, json.dumps(["", brief(f"{type(error).__name__}: {error}", 160)]).encode()


def allow_more_time() -> None:
    """Let the system end this process after a long time of further computing, as its parent may be gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + ABANDONED
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most == resource.RLIM_INFINITY or seconds <= most:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, most))


def _lower_limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most <= hard:
        resource.setrlimit(kind, (most, most))
