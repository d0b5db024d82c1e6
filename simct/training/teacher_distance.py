"""The distance to each teacher of a run: its answers to the held-out prompts, sampled once, and which model reads which
text.

A teacher's part in an evaluation covers the held-out prompts that it grades. With several teachers, the run's distance
is on each prompt the mean of theirs, by weight.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from simct.data.samples import PreparedPrompt
from simct.evaluation.distance import Readings, distance_from
from simct.evaluation.records import DIRECTIONS, Distance
from simct.models.teachers import PairedTeacher
from simct.tokenization.pair import TokenizerPair
from simct.training.teacher_answers import TeacherAnswer

Directions = dict[str, Distance]


@dataclass
class MeasuredTeacher:
    """A teacher and the held-out prompts that it grades, by index; an empty list in place of any other prompt."""

    paired: PairedTeacher
    prompts: list[list[int]]
    indices: list[int]
    answers: dict[int, TeacherAnswer] = field(default_factory=dict)

    @property
    def pair(self) -> TokenizerPair:
        return self.paired.pair

    @cached_property
    def reverse(self) -> TokenizerPair:
        """The pair for what the teacher writes and the student reads."""
        return TokenizerPair(teacher=self.pair.student, student=self.pair.teacher)


def measured_teachers(teachers: Sequence[PairedTeacher], prompts: Sequence[PreparedPrompt]) -> list[MeasuredTeacher]:
    """The teachers that grade any of the held-out prompts."""
    found = []
    for place, each in enumerate(teachers):
        read = {
            index: view.teacher_ids
            for index, prompt in enumerate(prompts)
            for view in prompt.by_teacher
            if view.teacher == place
        }
        found.append(MeasuredTeacher(each, [read.get(index, []) for index in range(len(prompts))], list(read)))
    return [each for each in found if each.indices]


@dataclass
class StudentReadings:
    """The student's part of the distance to one teacher: both sides' answers, with the student's log p (nats)."""

    written: Readings
    own: dict[int, float]
    teachers: Readings
    read: dict[int, float]

    def directions(self, measured: MeasuredTeacher, by_teacher: Mapping[int, float]) -> Directions:
        """Both directions; `by_teacher` is the teacher's log p of what the student wrote."""
        answers = {index: measured.answers[index].log_p or 0.0 for index in self.teachers.written}
        found = (
            distance_from(self.written, self.own, by_teacher),
            distance_from(self.teachers, answers, self.read),
        )
        return dict(zip(DIRECTIONS, found, strict=True))

    @property
    def sizes(self) -> dict[str, dict[int, int]]:
        """The bytes of each text, by direction and index."""
        return dict(zip(DIRECTIONS, (self.written.sizes, self.teachers.sizes), strict=True))


def mean_directions(
    found: Sequence[tuple[MeasuredTeacher, StudentReadings, Directions]],
) -> Directions:
    """The weighted mean of the teachers' distances on each prompt; those of a single teacher unchanged."""
    if len(found) == 1:
        return found[0][2]
    means = {}
    for name in DIRECTIONS:
        sums: dict[int, float] = {}
        weights: dict[int, float] = {}
        sizes: dict[int, int] = {}
        excluded: Counter[str] = Counter()
        for measured, readings, directions in found:
            weight = measured.paired.weight
            for index, bits in directions[name].bits.items():
                sums[index] = sums.get(index, 0.0) + weight * bits
                weights[index] = weights.get(index, 0.0) + weight
            sizes |= readings.sizes[name]
            excluded.update(directions[name].excluded)
        mean_of = {index: sums[index] / weights[index] for index in sorted(sums)}
        means[name] = Distance(mean_of, sum(sizes[index] for index in mean_of), dict(excluded))
    return means
