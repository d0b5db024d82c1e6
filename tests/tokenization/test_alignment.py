"""Minimal aligned units: against an obvious reference, on any cuts of any text."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simct.errors import AlignmentError
from simct.tokenization.alignment import AlignedUnits, Unit, align_boundaries


def reference(teacher: list[int], student: list[int]) -> list[tuple[int, ...]]:
    """Walk both sides; whenever the bytes read so far are equal, a unit ends."""
    units, t, s, t_bytes, s_bytes = [], 0, 0, 0, 0
    start = (0, 0, 0)
    while t < len(teacher) or s < len(student):
        if t_bytes <= s_bytes and t < len(teacher):
            t_bytes, t = t_bytes + teacher[t], t + 1
        else:
            s_bytes, s = s_bytes + student[s], s + 1
        if t_bytes == s_bytes and t > start[0] and s > start[1]:
            units.append((start[0], t, start[1], s, start[2], t_bytes))
            start = (t, s, t_bytes)
    return units


def cuts(total: int, boundaries: list[int]) -> list[int]:
    ends = sorted({b % total for b in boundaries} - {0} | {total}) if total else []
    return np.diff([0, *ends]).tolist()


sides = st.integers(0, 60).flatmap(
    lambda total: st.tuples(
        *[st.lists(st.integers(0, 60), max_size=40).map(lambda b: cuts(total, b)) for _ in range(2)]
    )
)


@settings(max_examples=400, deadline=None)
@given(sides, st.booleans())
def test_units_are_the_references_and_tile_the_text(both, ended):
    teacher, student = both
    units = align_boundaries(
        np.array([*teacher, 0] if ended else teacher), np.array([*student, 0] if ended else student)
    )
    expected = reference(teacher, student)
    total = sum(teacher)
    if ended:
        expected.append((len(teacher), len(teacher) + 1, len(student), len(student) + 1, total, total))
    assert [tuple(unit) for unit in units] == expected
    for previous, unit in zip(list(units), list(units)[1:], strict=False):
        assert (previous.teacher_end, previous.student_end, previous.byte_end) == (
            unit.teacher_start,
            unit.student_start,
            unit.byte_start,
        )
    if expected:
        assert units[0][::2] == (0, 0, 0)
        assert (units[-1].teacher_end, units[-1].student_end) == (len(teacher) + ended, len(student) + ended)


@settings(max_examples=200, deadline=None)
@given(sides)
def test_no_unit_could_be_cut_further(both):
    teacher, student = both
    common = set(np.cumsum(teacher).tolist()) & set(np.cumsum(student).tolist())
    assert {unit.byte_end for unit in align_boundaries(np.array(teacher), np.array(student))} == common


def test_a_unit_reads_like_a_tuple_and_columns_are_int64():
    units = align_boundaries(np.array([2, 3, 0]), np.array([1, 1, 3, 0]))
    assert units[0] == Unit(0, 1, 0, 2, 0, 2)
    assert units[-1] == Unit(2, 3, 3, 4, 5, 5)
    assert len(units) == 3
    assert units.student_tokens.tolist() == [2, 1, 1]
    assert units.teacher_tokens.tolist() == [1, 1, 1]
    assert {getattr(units, name).dtype for name in Unit._fields} == {np.dtype(np.int64)}
    assert isinstance(units, AlignedUnits)


@pytest.mark.parametrize(
    ("teacher", "student", "reason"),
    [
        ([2, 3], [5, 1], "different texts: 5 bytes .* 6"),
        ([2, 0, 3], [5], "Token 1 of the teacher"),
        ([5], [0, 5], "Token 0 of the student"),
        ([5, 0], [5], "One side ends"),
        ([5], [5, 0], "One side ends"),
        ([5, 0, 0], [5, 0], "Token 1 of the teacher"),
    ],
)
def test_what_cannot_be_aligned_is_an_error(teacher, student, reason):
    with pytest.raises(AlignmentError, match=reason):
        align_boundaries(np.array(teacher), np.array(student))


def test_nothing_and_only_end_of_turn():
    assert len(align_boundaries(np.array([]), np.array([]))) == 0
    assert [tuple(u) for u in align_boundaries(np.array([0]), np.array([0]))] == [(0, 1, 0, 1, 0, 0)]


def test_a_hundred_thousand_tokens_take_linear_time():
    random = np.random.default_rng(0)

    def seconds(n: int) -> float:
        teacher = random.integers(1, 8, n)
        ends = np.unique(np.append(random.integers(1, teacher.sum(), n), teacher.sum()))
        student = np.diff(ends, prepend=0)
        best = min(_timed(teacher, student) for _ in range(5))
        return best

    small, large = seconds(10_000), seconds(100_000)
    assert large < 40 * small  # ten times the tokens; the rest is room for a busy machine


def _timed(teacher: np.ndarray, student: np.ndarray) -> float:
    start = time.perf_counter()
    align_boundaries(teacher, student)
    return time.perf_counter() - start
