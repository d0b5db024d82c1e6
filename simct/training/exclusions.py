"""Detects a run with little or nothing to learn from, by the answers left out in the step records."""

from collections import Counter, deque
from collections.abc import Sequence

from simct.data.exclusions import STOP_SHARE, excluded_share, exclusion_line
from simct.errors import RunError

STEPS = 3


class ExclusionWatch:
    """Warns of a step in which more than a tenth of the answers is left out; ends a run that leaves out nine tenths.

    `answers` is the number of answers per step, over all processes. `records` are those of the earlier steps.
    """

    def __init__(self, answers: int, records: Sequence[dict] = ()) -> None:
        self.answers = answers
        self.last: deque[dict] = deque((record.get("excluded") or {} for record in records), maxlen=STEPS)

    def add(self, record: dict) -> dict:
        """Fields for the step's record: "excluded_share", and "warning" if it is more than a tenth."""
        excluded = record.get("excluded") or {}
        self.last.append(excluded)
        found = {"excluded_share": excluded_share(excluded, self.answers)}
        warning = exclusion_line(excluded, self.answers)
        return found | ({"warning": warning} if warning else {})

    def check(self) -> None:
        """Raise RunError if over the last three steps more than nine tenths of the answers were left out."""
        if len(self.last) < STEPS:
            return
        together: Counter[str] = Counter()
        for excluded in self.last:
            together.update(excluded)
        if excluded_share(together, STEPS * self.answers) > STOP_SHARE:
            line = exclusion_line(together, STEPS * self.answers)
            raise RunError(f"There is almost nothing to learn from. In the last {STEPS} steps {line}")
