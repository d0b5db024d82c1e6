"""The progress of a stage of a run, such as a download or a score: kept in the run's status, written at most once per
second.

The steps of training are the status's own `step` and `total_steps`; a stage is everything else that takes a while.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from simct.runs.folder import RunFolder
from simct.runs.status import RunStatus

EVERY_SECONDS = 1.0
# an estimate from fewer seconds would be a guess
LEAST_SHARE, LEAST_SECONDS = 0.02, 1.0


@dataclass(frozen=True)
class Progress:
    """`done` of `total` things (`unit`, in the plural; bytes for a download) after `seconds` of the stage `text`.

    start: what was done before, which says nothing about the pace.
    """

    text: str
    done: int = 0
    total: int | None = None
    unit: str = ""
    seconds: float = 0.0
    start: int = 0

    @classmethod
    def of(cls, status: RunStatus) -> Self | None:
        """The present stage of the run; None if it trains, has ended or does not say. Never raises."""
        record: Mapping[str, Any] = status.progress or {}
        text, unit, seconds = (record.get(name) for name in ("text", "unit", "seconds"))
        counts = [record.get(name) for name in ("done", "total", "start")]
        if not status.started or not isinstance(text, str) or not isinstance(seconds, int | float):
            return None
        done, total, start = (each if type(each) is int and each >= 0 else None for each in counts)
        return cls(text, done or 0, total, unit if isinstance(unit, str) else "", max(0.0, float(seconds)), start or 0)

    @property
    def rate(self) -> float | None:
        """Things per second."""
        done = self.done - self.start
        return done / self.seconds if done > 0 and self.seconds >= LEAST_SECONDS else None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None if it is too early to say."""
        if not self.total or not self.rate or self.done < LEAST_SHARE * self.total:
            return None
        return max(0.0, (self.total - self.done) / self.rate)


class Reporter:
    """Writes the stages of a run to its status, unless it is not `writing`, as on all but the main process."""

    def __init__(self, run: RunFolder, writing: bool = True) -> None:
        self.run, self.writing = run, writing
        self.current = Progress("")
        self._began = self._written = 0.0

    def stage(self, text: str, total: int | None = None, unit: str = "", start: int = 0) -> None:
        """Begin a stage; written at once, also as the status's message."""
        self.current, self._began = Progress(text, start, total, unit, 0.0, start), time.monotonic()
        self._write(message=text)

    def update(self, done: int, total: int | None = None) -> None:
        """Update the progress of the stage; it is written at most once per second, and at the end."""
        seconds = time.monotonic() - self._began
        total = self.current.total if total is None else total
        self.current = replace(self.current, done=done, total=total, seconds=round(seconds, 2))
        if done == total or time.monotonic() - self._written >= EVERY_SECONDS:
            self._write()

    def _write(self, **fields: Any) -> None:
        self._written = time.monotonic()
        if self.writing:
            self.run.set_status(progress=asdict(self.current), **fields)
