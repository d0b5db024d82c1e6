"""Blind comparisons of two models by a person: the votes of a run, their tally, and whether it could be chance.

votes.jsonl of the run folder has a line for each vote. A model is named as the studio names it: before, after, teacher,
or step-N for a checkpoint.
"""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import comb
from typing import Any, Literal, Self

from simct.errors import RunError
from simct.files import read_jsonl
from simct.runs.folder import RunFolder

VOTES_FILE = "votes.jsonl"
Choice = Literal["left", "right", "tie"]
CHOICES: tuple[Choice, ...] = ("left", "right", "tie")


@dataclass(frozen=True)
class Vote:
    """What a person preferred: the answer on the left, the one on the right, or neither; and which model wrote
    which.
    """

    prompt: str
    left: str
    right: str
    choice: Choice
    left_answer: str = ""
    right_answer: str = ""
    at: float = 0.0

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self | None:
        """The vote in a line of the file; None for a line that is damaged."""
        texts = [record.get(name) for name in ("prompt", "left", "right", "left_answer", "right_answer")]
        prompt, left, right, left_answer, right_answer = (text if isinstance(text, str) else "" for text in texts)
        choice = next((each for each in CHOICES if each == record.get("choice")), None)
        at = record.get("at")
        if choice is None or not left or not right or not isinstance(at, int | float):
            return None
        return cls(prompt, left, right, choice, left_answer, right_answer, at)

    @property
    def winner(self) -> str | None:
        """The model whose answer was preferred; None for a tie."""
        return {"left": self.left, "right": self.right}.get(self.choice)


@dataclass(frozen=True)
class Tally:
    """The votes on two models: how often each was preferred, how often neither was."""

    one: str
    other: str
    wins: int
    losses: int
    ties: int

    @property
    def p_value(self) -> float:
        """The two-sided sign test without the ties: how likely such an uneven count is if both are equally good."""
        return sign_test(self.wins, self.losses)


def sign_test(wins: int, losses: int) -> float:
    """The two-sided p-value of `wins` against `losses` if both are equally likely; 1 without any votes."""
    n, fewer = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(comb(n, k) for k in range(fewer + 1)) / 2**n)


def votes_of(run: RunFolder) -> list[Vote]:
    """The votes of a run, the oldest first."""
    return [vote for record in read_jsonl(run.path / VOTES_FILE) if (vote := Vote.from_dict(record)) is not None]


def add_vote(run: RunFolder, vote: Vote) -> None:
    """Add a vote to the run's file. Raises RunError if it cannot be written."""
    try:
        run.append(VOTES_FILE, asdict(vote) | {"at": vote.at or time.time()})
    except OSError as error:
        raise RunError(f"The vote cannot be saved in the run folder of {run.id}: {error.strerror}.") from error


def tallies(votes: Iterable[Vote]) -> list[Tally]:
    """One tally for each pair of models that was compared, in the order of their first vote."""
    by_pair: dict[frozenset[str], list[Vote]] = {}
    for vote in votes:
        by_pair.setdefault(frozenset((vote.left, vote.right)), []).append(vote)
    counted = []
    for pair, cast in by_pair.items():
        one, other = (*sorted(pair), *sorted(pair))[:2]
        winners = [vote.winner for vote in cast]
        counted.append(Tally(one, other, winners.count(one), winners.count(other), winners.count(None)))
    return counted


def votes_report(votes: list[Vote]) -> dict[str, Any]:
    """Everything as plain data: the tallies with their p-values, and the votes."""
    counted = [asdict(tally) | {"p_value": tally.p_value} for tally in tallies(votes)]
    return {"tallies": counted, "votes": [asdict(vote) for vote in votes]}
