"""Health marks: problems with a student's answers although its loss looks good, and the step at which they began.

Only the step records of metrics.jsonl are used: means over ten steps are compared with those of the first ten. The
limits are rules of thumb, well below those at which a run ends as collapsed (training/collapse.py).
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WINDOW = 10
# shorter answers do not count as growing or shrinking
SHORT = 8.0
GROWN, SHRUNK = 1.5, 0.5
LOST_ENDS = 0.75
MORE_REPETITION = 0.1

Means = Mapping[str, float]


@dataclass(frozen=True)
class HealthMark:
    """A lasting change for the worse: its kind, the step at which it began, and a sentence with its numbers."""

    kind: str
    since: int
    text: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]


def _longer(first: Means, now: Means) -> str | None:
    before, length = first["response_length"], now["response_length"]
    grown = length > GROWN * max(before, SHORT)
    return f"answers grow longer, from {before:.0f} to {length:.0f} tokens" if grown else None


def _shorter(first: Means, now: Means) -> str | None:
    before, length = first["response_length"], now["response_length"]
    shrunk = before >= SHORT and length < SHRUNK * before
    return f"answers grow shorter, from {before:.0f} to {length:.0f} tokens" if shrunk else None


def _lost_ends(first: Means, now: Means) -> str | None:
    before, rate = first["eos_rate"], now["eos_rate"]
    lost = before >= 0.2 and rate < LOST_ENDS * before
    return f"fewer answers end by themselves, {rate:.0%} instead of {before:.0%}" if lost else None


def _repetition(first: Means, now: Means) -> str | None:
    before, rate = first.get("repetition_rate"), now.get("repetition_rate")
    if before is None or rate is None or rate <= before + MORE_REPETITION:
        return None
    return f"more answers repeat themselves, {rate:.0%} instead of {before:.0%}"


CHECKS: dict[str, Callable[[Means, Means], str | None]] = {
    "growing length": _longer,
    "shrinking length": _shorter,
    "lost end of turn": _lost_ends,
    "repetition": _repetition,
}


ADVICE = {
    "growing length": "Read the newest completions. If they ramble, lower training.learning_rate, or resume with a "
    "smaller rollout.max_new_tokens.",
    "shrinking length": "Read the newest completions. If answers are cut short, lower training.learning_rate, or try "
    "another method.",
    "lost end of turn": "Raise rollout.max_new_tokens if answers are only cut off; otherwise lower "
    "training.learning_rate or set training.ema_decay.",
    "repetition": "Lower training.learning_rate, set training.ema_decay, or sample with a higher rollout.temperature.",
}


def health_marks(records: Sequence[Mapping[str, Any]]) -> list[HealthMark]:
    """The marks of a run, given its step records in order; none during the first twenty steps."""
    records = [record for record in records if _is_whole(record)]
    if len(records) < 2 * WINDOW:
        return []
    first = _means(records[:WINDOW])
    # means over ten steps, from the newest back to the first ones that do not overlap the first ten
    windows = [(records[end - WINDOW]["step"], _means(records[end - WINDOW : end])) for end in _ends(len(records))]
    marks = []
    for kind, check in CHECKS.items():
        text = check(first, windows[0][1])
        if text is None:
            continue
        since = windows[0][0]
        for step, means in windows:
            if check(first, means) is None:
                break
            since = step
        marks.append(HealthMark(kind, int(since), f"Since step {since:,} {text}."))
    return marks


def _ends(count: int) -> range:
    return range(count, 2 * WINDOW - 1, -1)


def _is_whole(record: Mapping[str, Any]) -> bool:
    return all(isinstance(record.get(name), int | float) for name in ("step", "response_length", "eos_rate"))


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    found = {}
    for name in ("response_length", "eos_rate", "repetition_rate"):
        values = [float(record[name]) for record in records if isinstance(record.get(name), int | float)]
        if len(values) == len(records):
            found[name] = sum(values) / len(values)
    return found


class HealthWatch:
    """Follows a run step by step, and reports once when it becomes unhealthy, by a step's warning or a health mark.

    `history` are the records of earlier steps, which have already been reported if there was a reason.
    """

    def __init__(self, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.first: list[Mapping[str, Any]] = []
        self.last: deque[Mapping[str, Any]] = deque(maxlen=WINDOW)
        self.reported = False
        for record in history:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> str | None:
        """Add one step's record. Returns what is wrong and what to do the first time that something is; None
        otherwise.
        """
        if _is_whole(record):  # not so a step in which the student wrote nothing
            (self.first if len(self.first) < WINDOW else self.last).append(record)
        if self.reported:
            return None
        # the first and the newest ten steps decide, whatever is between them
        marks = health_marks([*self.first, *self.last])
        lines = [f"{mark.text} {mark.advice}" for mark in marks]
        line = record.get("warning") or next(iter(lines), None)
        self.reported = line is not None
        return line
