"""The parent's side: a few warm children, each watched while it works, killed when it exceeds a limit, and replaced."""

import json
import pickle
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from simct import errors
from simct.errors import LimitError, SimCTError
from simct.workers.messages import (
    ASK,
    ERROR,
    HELLO,
    PROGRESS,
    RESULT,
    STEP,
    STOP,
    Gone,
    Inbox,
    TooLarge,
    plain_value,
    send,
)
from simct.workers.nursery import Nursery

MOST_CHILDREN = 6
# how many of them work for one visitor at once
MOST_EACH = 2
# seconds between checks of a working child
LOOK_SECONDS = 0.02
# seconds within which a new child must be ready; the first one waits for the imports
READY_SECONDS = 180.0
# seconds for which a request waits for a free child
FREE_SECONDS = 60.0
# how many recent pieces of work are remembered per child, about as many as it keeps in memory
REMEMBERED = 4
# bytes that a child may keep after its work
KEPT_BYTES = 600_000_000


@dataclass(frozen=True)
class Limits:
    """The limits of one step of a child's work.

    seconds: of computing. waiting: seconds without a message, for the network. memory: bytes beyond those of a fresh
    child. output: bytes of its answer.
    """

    seconds: float = 10.0
    waiting: float = 60.0
    memory: int = 1_500_000_000
    output: int = 1 << 26


LIMITS = Limits()


class Child:
    """One child: ready once it has sent its greeting and done `setup`; `near` is what it worked on recently, and
    `works_for` the visitor it works for now.
    """

    def __init__(self, nursery: Nursery, setup: tuple[Any, ...]) -> None:
        self.setup = setup
        self.near: deque[Hashable] = deque(maxlen=REMEMBERED)
        self.works_for: Hashable = None
        self._line = nursery.fork()
        self._inbox = Inbox(self._line, LIMITS.output)
        self._process: psutil.Process | None = None
        self._ready = False
        self._memory = 0
        function, *arguments = setup
        send(self._line, ASK, pickle.dumps((function, tuple(arguments))))

    def _process_of(self, hello: bytes) -> psutil.Process:
        try:
            return psutil.Process(int(hello))
        except psutil.Error as error:
            raise Gone from error

    def get_ready(self) -> None:
        """Wait until it is ready. Raises LimitError."""
        began = time.monotonic()
        try:
            while not self._ready:
                frame = self._inbox.next(READY_SECONDS)
                if frame is None or time.monotonic() - began > READY_SECONDS:
                    raise LimitError("The process that reads files did not start. Try again in a moment.")
                if frame[0] == HELLO:
                    self._process = self._process_of(frame[1])
                self._ready = frame[0] in (RESULT, ERROR)
        except Gone as error:
            raise LimitError("The process that reads files could not start; the server's output says why.") from error
        self._memory = self.memory

    @property
    def memory(self) -> int:
        """The bytes that it has in memory. Raises Gone."""
        try:
            return self._process.memory_info().rss if self._process else 0
        except psutil.Error as error:
            raise Gone from error

    @property
    def grown(self) -> int:
        """The bytes that it has allocated since it was ready. Raises Gone."""
        return self.memory - self._memory

    @property
    def computed(self) -> float:
        """The seconds that it has computed. Raises Gone."""
        try:
            times = self._process.cpu_times() if self._process else None
        except psutil.Error as error:
            raise Gone from error
        return times.user + times.system if times else 0.0

    def ask(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        send(self._line, ASK, pickle.dumps((function, arguments)))

    def stop(self) -> None:
        send(self._line, STOP)

    def next(self, most: int) -> tuple[bytes, bytes] | None:
        self._inbox.most = most
        return self._inbox.next(LOOK_SECONDS)

    def kill(self) -> None:
        self._line.close()
        if self._process is not None:
            with suppress(psutil.Error):
                self._process.kill()


@dataclass(eq=False)
class _Place:
    """A request that waits for a child."""

    visitor: Hashable


@dataclass
class Workers:
    """Up to `most` children. `setup()` returns the function, and its arguments, that prepares a new child.

    A child whose setup has changed is replaced. One unused child is always kept ready. `visitor()` says whom the
    present request is for (None: no one in particular): at most `most_each` children work for one visitor, and the next
    free child works for the visitor with the fewest.
    """

    nursery: Nursery
    setup: Callable[[], tuple[Any, ...]]
    visitor: Callable[[], Hashable] = lambda: None
    most: int = MOST_CHILDREN
    most_each: int = MOST_EACH
    _idle: list[Child] = field(default_factory=list)
    _busy: list[Child] = field(default_factory=list)
    # the visitors of the requests that wait for a child, in order of arrival
    _waiting: list["_Place"] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        what: str,
        near: Hashable = None,
        limits: Limits = LIMITS,
        on_progress: Callable[[int, int | None], object] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Any:
        """The result of `function(worker, *arguments)` in a child; `worker` is its child.Worker.

        `what` begins the error about an exceeded limit, such as "The tokenizer of 'a/b'". Work with the same `near`
        goes to the child that has its files in memory, if that child is free. Raises the SimCTError that the function
        raises, or LimitError.
        """
        child = self._take(near)
        watched = _Watched(child, what, limits, on_progress, should_stop)
        try:
            child.get_ready()
            child.ask(function, arguments)
            return watched.answer()
        except Gone as error:
            raise LimitError(f"{watched.what} could not be read: the process that read it crashed.") from error
        finally:
            self._give_back(child, watched.done)

    def warm(self) -> None:
        """Prepare a child in the background."""
        with self._changed:
            self._restock()

    def close(self) -> None:
        """End all children."""
        with self._changed:
            for child in self._idle + self._busy:
                child.kill()
            self._idle.clear()

    def _take(self, near: Hashable) -> Child:
        until = time.monotonic() + FREE_SECONDS
        place = _Place(self.visitor())
        with self._changed:
            self._waiting.append(place)
            try:
                while self._next() is not place or (child := self._chosen(near)) is None:
                    if not self._changed.wait(until - time.monotonic()):
                        raise LimitError("The studio is reading too many files at the moment. Try again in a minute.")
                child.near.append(near)
                child.works_for = place.visitor
                self._busy.append(child)
            finally:
                self._waiting.remove(place)
                self._changed.notify_all()
            self._restock()
            return child

    def _next(self) -> "_Place | None":
        """The request that gets the next free child; None if all that wait are of visitors with enough children."""
        busy = Counter(child.works_for for child in self._busy)
        may = [place for place in self._waiting if place.visitor is None or busy[place.visitor] < self.most_each]
        return min(may, key=lambda place: busy[place.visitor], default=None)

    def _chosen(self, near: Hashable) -> Child | None:
        """An idle child that worked on the same files, else the one that has been idle longest, else a fresh one.

        A used child is faster at everything than a fresh one, whose memory must be copied as it writes.
        """
        setup = self.setup()
        for child in [each for each in self._idle if each.setup != setup]:
            self._idle.remove(child)
            child.kill()
        known = [child for child in self._idle if near is not None and near in child.near]
        used = [child for child in self._idle if child.near]
        found = next(iter([*known, *used, *self._idle]), None)
        if found is not None:
            self._idle.remove(found)
        elif len(self._busy) < self.most:
            found = self._new(setup)
        return found

    def _new(self, setup: tuple[Any, ...]) -> Child:
        try:
            return Child(self.nursery, setup)
        except (Gone, OSError) as error:
            raise LimitError("The process that reads files did not start. Try again in a moment.") from error

    def _restock(self) -> None:
        if all(child.near for child in self._idle) and len(self._idle) + len(self._busy) < self.most:
            # without it, the next request starts its own child
            with suppress(Gone, OSError):
                self._idle.append(Child(self.nursery, self.setup()))

    def _give_back(self, child: Child, done: bool) -> None:
        with self._changed:
            self._busy.remove(child)
            try:
                usable = done and child.grown < KEPT_BYTES
            except Gone:
                usable = False
            if usable:
                self._idle.append(child)
            else:
                child.kill()
                self._restock()
            self._changed.notify_all()


class _Watched:
    """One piece of work in a child. `done` is true once it has answered, so that the child can be used again."""

    def __init__(
        self,
        child: Child,
        what: str,
        limits: Limits,
        on_progress: Callable[[int, int | None], object] | None,
        should_stop: Callable[[], bool] | None,
    ) -> None:
        self.child, self.what, self.limits = child, what, limits
        self.on_progress, self.should_stop = on_progress, should_stop
        self.done = False
        self._began, self._computed = 0.0, 0.0

    def answer(self) -> Any:
        self._start_clock()
        stopping = False
        while True:
            try:
                frame = self.child.next(self.limits.output)
            except TooLarge as error:
                raise LimitError(f"{self.what} gives more than {self.limits.output:,} bytes.") from error
            if frame is None:
                self._check()
            elif frame[0] in (RESULT, ERROR):
                self.done = True
                return self._outcome(*frame)
            else:
                self._note(*frame)
            if not stopping and self.should_stop is not None and self.should_stop():
                stopping = True
                self.child.stop()

    def _start_clock(self) -> None:
        self._began, self._computed = time.monotonic(), self.child.computed

    def _check(self) -> None:
        limits = self.limits
        if self.child.computed - self._computed > limits.seconds:
            raise LimitError(f"{self.what} did not finish within {limits.seconds:g} s.")
        if time.monotonic() - self._began > limits.waiting:
            raise LimitError(f"{self.what} did not finish within {limits.waiting:g} s.")
        if self.child.grown > limits.memory:
            raise LimitError(f"{self.what} needs more than {limits.memory / 1e9:g} GB of memory.")

    def _note(self, kind: bytes, content: bytes) -> None:
        self._start_clock()
        if kind == STEP:
            self.what = content.decode("utf-8", "replace")
        elif kind == PROGRESS and self.on_progress is not None:
            self.on_progress(*json.loads(content))

    def _outcome(self, kind: bytes, content: bytes) -> Any:
        if kind == RESULT:
            try:
                return plain_value(content)
            except Exception as error:
                raise LimitError(f"{self.what} returned something that is not a result.") from error
        name, text = json.loads(content)
        if not name:
            raise LimitError(f"{self.what} cannot be read: {text}.")
        known = getattr(errors, name, None)
        raise (known if isinstance(known, type) and issubclass(known, SimCTError) else LimitError)(text)
