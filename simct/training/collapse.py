"""Detects a collapsing student from the step records: exploding or vanishing length, no end of turn, unusual ids."""

from collections import deque
from collections.abc import Sequence

from simct.errors import RunError

WINDOW = 10


class CollapseWatch:
    """Compares the last ten steps with the first ten of the run; raises RunError when the student has collapsed.

    A student has collapsed if answers that mostly ended now end less than a quarter as often, if answers are four times
    or a quarter as long, or if sampled ids are canonical tokenizations less than half as often. The numbers are rules
    of thumb, wide enough that healthy runs of the embedded pairs never reach them. Steps in which the student wrote
    nothing (all completions came from the teacher or the data) do not count.
    """

    def __init__(self, records: Sequence[dict] = ()):
        self.first: list[dict] = []
        self.last: deque[dict] = deque(maxlen=WINDOW)
        for record in records:
            self._add(record)

    def _add(self, record: dict) -> None:
        if "response_length" not in record:
            return
        if len(self.first) < WINDOW:
            self.first.append(record)
        self.last.append(record)

    def add(self, record: dict) -> None:
        """Add one step's record. Raises RunError with the numbers if the student has collapsed."""
        self._add(record)
        if record["step"] < 2 * WINDOW or len(self.last) < WINDOW:
            return
        before, now = (self._means(part) for part in (self.first, list(self.last)))
        reason = None
        if before["eos_rate"] >= 0.5 and now["eos_rate"] < before["eos_rate"] / 4:
            reason = f"only {now['eos_rate']:.0%} of answers end, compared with {before['eos_rate']:.0%} at first"
        elif now["response_length"] > 4 * max(before["response_length"], 8):
            reason = f"answers grew from {before['response_length']:.0f} to {now['response_length']:.0f} tokens"
        elif before["response_length"] >= 8 and now["response_length"] < before["response_length"] / 4:
            reason = f"answers shrank from {before['response_length']:.0f} to {now['response_length']:.1f} tokens"
        elif before["canonical_rate"] >= 0.5 and now["canonical_rate"] < before["canonical_rate"] / 2:
            share, first_share = now["canonical_rate"], before["canonical_rate"]
            reason = f"{share:.0%} of answers are canonically tokenized, compared with {first_share:.0%} at first"
        if reason:
            raise RunError(
                f"The student collapsed by step {record['step']}: {reason}. Lower training.learning_rate, set "
                "training.ema_decay, or try another method; the best checkpoint is kept (checkpoints/best.json)."
            )

    @staticmethod
    def _means(records: list[dict]) -> dict:
        return {
            name: sum(record[name] for record in records) / len(records)
            for name in ("eos_rate", "response_length", "canonical_rate")
        }
