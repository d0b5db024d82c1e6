"""The teacher's tokens for a student's completion: the same bytes, tokenized by the teacher in context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simct.errors import AlignmentError
from simct.tokenization.end_of_turn import split_end
from simct.tokenization.reasons import BEYOND_VOCABULARY, SPECIAL_INSIDE, TEACHER_CANNOT_SPELL
from simct.tokenization.token_bytes import TokenBytes


@dataclass(frozen=True)
class TeacherIds:
    """The teacher's spelling of a student's completion.

    ids: teacher ids, the teacher's end-of-turn id last iff the student ended. n_student: the number of leading student
    ids that they correspond to. cut_bytes: trailing bytes of a truncated completion that are not valid UTF-8 and stay
    unsupervised. excluded: the reason why this completion cannot be used (ids is then empty), else None.
    """

    ids: list[int]
    excluded: str | None
    n_student: int
    cut_bytes: int


def teacher_ids_for(teacher: TokenBytes, student: TokenBytes, student_ids: Sequence[int]) -> TeacherIds:
    """Spell a sampled completion (any ids; ended or truncated) in the teacher's ids, byte for byte."""
    text, ended = split_end(student_ids, student.end_ids)
    ids = text.tolist()
    if ids and not 0 <= min(ids) <= max(ids) < len(student.bytes_of):
        return TeacherIds([], BEYOND_VOCABULARY, 0, 0)
    try:
        data = student.decode(ids)
    except AlignmentError:
        return TeacherIds([], SPECIAL_INSIDE, 0, 0)
    kept, end = len(ids), len(data)
    while not ended and kept and not ends_in_valid_utf8(data[max(0, end - 4) : end]):
        kept -= 1
        end -= len(student.bytes_of[ids[kept]])
    try:
        teacher_ids = teacher.encode(data[:end])
    except AlignmentError:
        return TeacherIds([], TEACHER_CANNOT_SPELL, 0, 0)
    if ended:
        teacher_ids = [*teacher_ids, teacher.end_ids[0]]
    return TeacherIds(teacher_ids, None, kept + ended, len(data) - end)


def ends_in_valid_utf8(tail: bytes) -> bool:
    """Whether the last character of a text is complete, given the text's last four bytes."""
    for back in range(1, len(tail) + 1):
        if tail[-back] & 0xC0 != 0x80:  # not a continuation byte: the character starts here
            try:
                tail[-back:].decode("utf-8")
            except UnicodeDecodeError:
                return False
            return True
    return not tail
