"""Measurements of a student as plain records: distances, and the evaluations during a run (evaluations.jsonl).

This module imports no model library, because the command and lists of runs use it.
"""

import statistics
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simct.errors import DataError
from simct.evaluation.noise import Change, paired_change, score_change, standard_error
from simct.runs.folder import RunFolder

LOSS, DISTANCE = "loss", "distance"


@dataclass(frozen=True)
class Distance:
    """Bits per byte from one model's answers to the other, with the standard error of the mean.

    `bits` holds (log2 p_writer - log2 p_reader) / bytes by prompt index, for paired comparisons. `bytes` is the length
    of all texts together, `excluded` counts answers that were left out, by reason.
    """

    bits: dict[int, float]
    bytes: int
    excluded: dict[str, int] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        return len(self.bits)

    @property
    def mean(self) -> float:
        """Bits per byte. Raises DataError if no answer could be compared."""
        if not self.bits:
            raise DataError("The distance cannot be measured: no answer can be compared.")
        return statistics.fmean(self.bits.values())

    @property
    def standard_error(self) -> float | None:
        """Of the mean, over answers; None for a single one."""
        return standard_error(list(self.bits.values()))

    def on(self, prompts: Container[int]) -> "Distance":
        """The same over some of the prompts only; `bytes` and `excluded` remain those of all."""
        return replace(self, bits={index: bits for index, bits in self.bits.items() if index in prompts})

    def to_dict(self) -> dict[str, Any]:
        return {
            "bits_per_byte": self.mean,
            "stderr": self.standard_error,
            "answers": self.answers,
            "bytes": self.bytes,
            "excluded": dict(self.excluded),
            "bits": {str(index): value for index, value in self.bits.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Distance":
        bits = {int(index): float(value) for index, value in record["bits"].items()}
        return cls(bits, int(record["bytes"]), dict(record.get("excluded", {})))


def change(before: Distance, after: Distance) -> Change:
    """The paired change over the prompts that both measured. Raises DataError where there is none."""
    return paired_change(before.bits, after.bits)


@dataclass(frozen=True)
class Distances:
    """Both directions, on the same prompts."""

    student_to_teacher: Distance
    teacher_to_student: Distance

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name).to_dict() for name in DIRECTIONS}


DIRECTIONS = {"student_to_teacher": "Student to teacher", "teacher_to_student": "Teacher to student"}


@dataclass(frozen=True)
class FixedAnswer:
    """The greedy answer to one of the fixed prompts."""

    text: str
    ended: bool
    tokens: int


@dataclass(frozen=True)
class Evaluation:
    """The student after `step` steps (0: before training).

    directions: the distance by name of DIRECTIONS, without directions that could not be measured; with several teachers
    the mean of theirs on each prompt, by weight. teachers: the directions of each of several teachers, by name. tasks:
    the results of `evaluate_loaded`. answers: to the fixed prompts, in their order. seconds: the time of the
    evaluation, and of its tasks. prompts, every: the number of measured prompts, and the steps between evaluations at
    that time.
    """

    step: int
    directions: dict[str, Distance] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[FixedAnswer] = field(default_factory=list)
    seconds: float = 0.0
    task_seconds: float = 0.0
    prompts: int = 0
    every: int = 0
    teachers: dict[str, dict[str, Distance]] = field(default_factory=dict)

    @property
    def distance(self) -> float | None:
        """The mean of both directions, in bits per byte; it is smallest at the best checkpoint."""
        return statistics.fmean(each.mean for each in self.directions.values()) if self.directions else None

    def value(self, best_by: str) -> float | None:
        """The value that `evaluation.best_by` compares: a distance, or a task's score."""
        if best_by == DISTANCE:
            return self.distance
        score = self.tasks.get(best_by, {}).get("score")
        return float(score) if isinstance(score, int | float) else None

    def numbers(self) -> dict[str, float]:
        """The evaluation's numbers for metrics.jsonl and trackers."""
        found = {f"distance_{name}": each.mean for name, each in self.directions.items()}
        for teacher, directions in self.teachers.items():
            found |= {f"distance_{name}_{teacher}": each.mean for name, each in directions.items()}
        return found | {f"score_{task}": float(result["score"]) for task, result in self.tasks.items()}

    def to_dict(self) -> dict[str, Any]:
        by_teacher = {
            teacher: {name: each.to_dict() for name, each in directions.items()}
            for teacher, directions in self.teachers.items()
        }
        return {
            "step": self.step,
            "distance": {name: each.to_dict() for name, each in self.directions.items()},
            **({"teachers": by_teacher} if by_teacher else {}),
            "tasks": self.tasks,
            "answers": [vars(answer) for answer in self.answers],
            "seconds": round(self.seconds, 3),
            "task_seconds": round(self.task_seconds, 3),
            "prompts": self.prompts,
            "every": self.every,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Evaluation":
        """Raises KeyError, TypeError, ValueError or AttributeError for a damaged record."""
        return cls(
            step=int(record["step"]),
            directions=_directions(record["distance"]),
            teachers={str(name): _directions(each) for name, each in record.get("teachers", {}).items()},
            tasks={name: each for name, each in record["tasks"].items() if isinstance(each.get("score"), int | float)},
            answers=[FixedAnswer(str(a["text"]), bool(a["ended"]), int(a["tokens"])) for a in record["answers"]],
            seconds=float(record["seconds"]),
            task_seconds=float(record.get("task_seconds", 0.0)),
            prompts=int(record["prompts"]),
            every=int(record["every"]),
        )


def _directions(record: Mapping[str, Any]) -> dict[str, Distance]:
    found = {name: Distance.from_dict(record[name]) for name in DIRECTIONS if name in record}
    return {name: each for name, each in found.items() if each.bits}


def distance_change(before: Evaluation, after: Evaluation) -> dict[str, Change]:
    """The paired change of each direction that both measured on some prompt."""
    both = [name for name in DIRECTIONS if name in before.directions and name in after.directions]
    shared = [name for name in both if before.directions[name].bits.keys() & after.directions[name].bits.keys()]
    return {name: change(before.directions[name], after.directions[name]) for name in shared}


def task_changes(before: Evaluation, after: Evaluation) -> dict[str, Change]:
    """The change of each task that both scored."""
    found = {task: score_change(before.tasks.get(task), result) for task, result in after.tasks.items()}
    return {task: each for task, each in found.items() if each is not None}


def evaluations_of(run: RunFolder) -> list[Evaluation]:
    """The evaluations of a run by step; damaged records are left out."""
    found = []
    for record in run.evaluations():
        try:
            found.append(Evaluation.from_dict(record))
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return found


def on_common_prompts(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with each direction over the prompts that all of them measured, so that means are comparable.

    An evaluation may have fewer prompts than an earlier one, or other answers that cannot be compared. A direction in
    which they have no prompt in common stays as it is.
    """
    found = list(evaluations)
    for name in DIRECTIONS:
        measured = [set(each.directions[name].bits) for each in evaluations if name in each.directions]
        common = set.intersection(*measured) if measured else set()
        if common:
            found = [_on(each, name, common) for each in found]
    return found


def _on(evaluation: Evaluation, name: str, prompts: set[int]) -> Evaluation:
    if name not in evaluation.directions:
        return evaluation
    return replace(evaluation, directions=evaluation.directions | {name: evaluation.directions[name].on(prompts)})


def at_least_as_near(found: Evaluation, other: Evaluation) -> bool | None:
    """Whether `found` is at most as far from the teacher as `other`, on what both measured; None if that is nothing."""
    one, two = on_common_prompts([found, other])
    both = [name for name in one.directions if name in two.directions]
    here, there = (
        replace(each, directions={name: each.directions[name] for name in both}).value(DISTANCE) for each in (one, two)
    )
    return None if here is None or there is None else here <= there
