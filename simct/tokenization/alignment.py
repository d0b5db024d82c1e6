"""Minimal aligned units: the smallest segments of a text at whose two ends both tokenizers have a boundary.

Boundaries are cumulative byte lengths; their intersection cuts both sequences (arXiv 2605.07711, section 3.1). Linear
in bytes and tokens, without a Python loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simct.errors import AlignmentError


class Unit(NamedTuple):
    """Half-open token ranges on both sides that spell the same bytes [byte_start, byte_end)."""

    teacher_start: int
    teacher_end: int
    student_start: int
    student_end: int
    byte_start: int
    byte_end: int


@dataclass(frozen=True, eq=False)
class AlignedUnits(Sequence):
    """Units in columns (int64 [U] each), in text order; together they tile the text."""

    teacher_start: np.ndarray
    teacher_end: np.ndarray
    student_start: np.ndarray
    student_end: np.ndarray
    byte_start: np.ndarray
    byte_end: np.ndarray

    def __len__(self) -> int:
        return len(self.teacher_start)

    def __getitem__(self, index: int) -> Unit:  # type: ignore[override]  # one at a time: there are no slices
        return Unit(*(int(getattr(self, name)[index]) for name in Unit._fields))

    def __iter__(self) -> Iterator[Unit]:
        columns = [getattr(self, name).tolist() for name in Unit._fields]
        return map(Unit._make, zip(*columns, strict=True))

    @property
    def teacher_tokens(self) -> np.ndarray:
        """k_T [U]: teacher tokens in each unit."""
        return self.teacher_end - self.teacher_start

    @property
    def student_tokens(self) -> np.ndarray:
        """k_S [U]: student tokens in each unit."""
        return self.student_end - self.student_start


def align_boundaries(teacher_lengths: np.ndarray, student_lengths: np.ndarray) -> AlignedUnits:
    """Cut two spellings of one text into minimal aligned units.

    Args: byte lengths of the tokens, int64 [T] and [S], all positive except a zero for end-of-turn in last place, which
    both sides have or neither. Raises AlignmentError if the totals differ or there is a zero elsewhere.
    """
    teacher, teacher_ended = _text_lengths(teacher_lengths, "teacher")
    student, student_ended = _text_lengths(student_lengths, "student")
    if teacher_ended != student_ended:
        raise AlignmentError(
            "One side ends its turn and the other does not: give both an end-of-turn token or neither."
        )
    teacher_ends, student_ends = np.cumsum(teacher), np.cumsum(student)
    total, student_total = int(teacher.sum()), int(student.sum())
    if total != student_total:
        raise AlignmentError(
            f"The two sequences spell different texts: {total} bytes (teacher), {student_total} (student)."
        )
    teacher_common = np.flatnonzero(_is_boundary(student_ends, total)[teacher_ends])
    student_common = np.flatnonzero(_is_boundary(teacher_ends, total)[student_ends])
    ends = [teacher_common + 1, student_common + 1, teacher_ends[teacher_common]]
    if teacher_ended:
        last = (len(teacher) + 1, len(student) + 1, total)
        ends = [np.append(column, value) for column, value in zip(ends, last, strict=True)]
    starts = [np.concatenate((np.zeros(1, np.int64), column))[: len(column)] for column in ends]
    return AlignedUnits(starts[0], ends[0], starts[1], ends[1], starts[2], ends[2])


def _is_boundary(ends: np.ndarray, total: int) -> np.ndarray:
    """bool [total + 1]: whether each byte offset is the end of a token; a table needs no sorting."""
    table = np.zeros(total + 1, dtype=bool)
    table[ends] = True
    return table


def _text_lengths(lengths: np.ndarray, side: str) -> tuple[np.ndarray, bool]:
    lengths = np.asarray(lengths, dtype=np.int64)
    ended = len(lengths) > 0 and lengths[-1] == 0
    text = lengths[:-1] if ended else lengths
    if (text <= 0).any():
        raise AlignmentError(
            f"Token {int(np.argmax(text <= 0))} of the {side} spells no text (a special or unused id inside the text)."
        )
    return text, bool(ended)
