"""TokenizerPair: two tokenizers joined by the exact bytes of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from simct.config import RunConfig
from simct.errors import AlignmentError, TokenizerError
from simct.tokenization.alignment import AlignedUnits, align_boundaries
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.token_bytes import TokenBytes, token_bytes
from simct.tokenization.vocabulary_cache import Bridge, bridge

SPECIAL_INSIDE = "special token inside the completion"
BEYOND_VOCABULARY = "token id beyond the student's tokenizer"
TEACHER_CANNOT_SPELL = "text the teacher's vocabulary cannot spell"


@dataclass(frozen=True)
class TeacherIds:
    """The teacher's spelling of a student's completion.

    ids: teacher ids, the teacher's end-of-turn id last iff the student ended. n_student: how many leading student ids
    they answer to. cut_bytes: trailing bytes of a truncated completion that are not valid UTF-8 and stay unsupervised.
    excluded: why this completion cannot be used at all (ids is then empty), else None.
    """

    ids: list[int]
    excluded: str | None
    n_student: int
    cut_bytes: int


class TokenizerPair:
    """Teacher and student tokenizers with their byte-equal shared vocabulary and bridged end of turn.

    shared_tokens: byte strings that are a token on both sides (special tokens and the bridge are not among them).
    jaccard: shared_tokens over the union of both vocabularies, special tokens included, as arXiv 2610.08448 counts it.
    shared_teacher_ids, shared_student_ids: LongTensor [C], column c is the same bytes on both sides; the last column is
    the end-of-turn bridge (each side's first end id). teacher_to_shared, student_to_shared: LongTensor [n_ids], id ->
    column or -1; every end id of a side maps to the bridge, and of several ids with equal bytes only the one its
    tokenizer emits has a column.
    """

    def __init__(self, teacher: TokenBytes, student: TokenBytes) -> None:
        for side, tokens in (("teacher", teacher), ("student", student)):
            if not tokens.end_ids:
                raise TokenizerError(f"The {side}'s tokenizer has no end-of-turn token: set tokenizer.eos_token.")
        self.teacher, self.student = teacher, student
        teacher_ids, student_ids = _bridge(teacher, student)
        self.shared_tokens = len(student_ids)
        self.jaccard = self.shared_tokens / (teacher.vocabulary + student.vocabulary - self.shared_tokens)
        self.shared_teacher_ids = torch.from_numpy(np.append(teacher_ids, teacher.end_ids[0]))
        self.shared_student_ids = torch.from_numpy(np.append(student_ids, student.end_ids[0]))
        self.teacher_to_shared = _to_column(self.shared_teacher_ids, teacher)
        self.student_to_shared = _to_column(self.shared_student_ids, student)

    @classmethod
    def from_pretrained(
        cls,
        teacher: str | PreTrainedTokenizerBase,
        student: str | PreTrainedTokenizerBase,
        *,
        teacher_revision: str | None = None,
        student_revision: str | None = None,
        token: str | None = None,
    ) -> TokenizerPair:
        """Build the pair from Hub ids, folders or tokenizer objects. Raises one-line ModelError or TokenizerError."""
        return cls(_side(teacher, teacher_revision, token), _side(student, student_revision, token))

    @classmethod
    def of_run(cls, config: RunConfig, token: str | None = None) -> TokenizerPair:
        """Both tokenizers of a run, at their revisions. Raises as from_pretrained."""
        return cls(
            _side(config.teacher.model, config.teacher.revision, token),
            _side(config.student.model, config.student.revision, token),
        )

    def align(self, teacher_ids: Sequence[int] | np.ndarray, student_ids: Sequence[int] | np.ndarray) -> AlignedUnits:
        """Return the minimal aligned units of two spellings of the same bytes, end of turn included.

        Raises AlignmentError where the bytes differ, an id inside the text spells nothing, or only one side ends.
        """
        teacher_text, teacher_ended = _split_end(self.teacher, teacher_ids)
        student_text, student_ended = _split_end(self.student, student_ids)
        teacher_bytes, teacher_lengths = self.teacher.spelled(teacher_text)
        student_bytes, student_lengths = self.student.spelled(student_text)
        if not np.array_equal(teacher_bytes, student_bytes):
            raise AlignmentError("The teacher's and the student's ids spell different bytes.")
        return align_boundaries(
            np.append(teacher_lengths, 0) if teacher_ended else teacher_lengths,
            np.append(student_lengths, 0) if student_ended else student_lengths,
        )

    def teacher_ids_for(self, student_ids: Sequence[int]) -> TeacherIds:
        """Spell a sampled completion (any ids; ended or truncated) in the teacher's ids, byte for byte."""
        text, ended = _split_end(self.student, student_ids)
        ids = text.tolist()
        if ids and not 0 <= min(ids) <= max(ids) < len(self.student.bytes_of):
            return TeacherIds([], BEYOND_VOCABULARY, 0, 0)
        try:
            data = self.student.decode(ids)
        except AlignmentError:
            return TeacherIds([], SPECIAL_INSIDE, 0, 0)
        kept, end = len(ids), len(data)
        while not ended and kept and not _ends_in_valid_utf8(data[max(0, end - 4) : end]):
            kept -= 1
            end -= len(self.student.bytes_of[ids[kept]])
        try:
            teacher_ids = self.teacher.encode(data[:end])
        except AlignmentError:
            return TeacherIds([], TEACHER_CANNOT_SPELL, 0, 0)
        if ended:
            teacher_ids = [*teacher_ids, self.teacher.end_ids[0]]
        return TeacherIds(teacher_ids, None, kept + ended, len(data) - end)


def _side(source: str | PreTrainedTokenizerBase, revision: str | None, token: str | None) -> TokenBytes:
    if isinstance(source, PreTrainedTokenizerBase):
        return token_bytes(source)
    return load_tokens(str(source), revision, token)


def _bridge(teacher: TokenBytes, student: TokenBytes) -> Bridge:
    def match() -> Bridge:
        both = teacher.id_of.keys() & student.id_of.keys()
        student_ids = np.fromiter((student.id_of[data] for data in both), np.int64, len(both))
        teacher_ids = np.fromiter((teacher.id_of[data] for data in both), np.int64, len(both))
        order = np.argsort(student_ids)
        return teacher_ids[order], student_ids[order]

    def valid(found: Bridge) -> bool:
        pairs = zip(found[0].tolist(), found[1].tolist(), strict=True)
        n_teacher, n_student = len(teacher.bytes_of), len(student.bytes_of)
        return all(
            0 <= t < n_teacher and 0 <= s < n_student and teacher.bytes_of[t] == student.bytes_of[s] is not None
            for t, s in pairs
        )

    return bridge(teacher.fingerprint, student.fingerprint, match, valid)


def _to_column(shared_ids: torch.Tensor, tokens: TokenBytes) -> torch.Tensor:
    size = max(len(tokens.bytes_of), max(tokens.end_ids) + 1)
    columns = torch.full((size,), -1, dtype=torch.long)
    columns[shared_ids] = torch.arange(len(shared_ids))
    columns[list(tokens.end_ids)] = len(shared_ids) - 1
    return columns


def _split_end(tokens: TokenBytes, ids: Sequence[int] | np.ndarray) -> tuple[np.ndarray, bool]:
    """The ids of the text, and whether an end id came after them."""
    array = np.asarray(ids, dtype=np.int64)
    ended = len(array) > 0 and int(array[-1]) in tokens.end_ids
    return (array[:-1] if ended else array), ended


def _ends_in_valid_utf8(tail: bytes) -> bool:
    """Whether the last character of a text is complete, given the text's last four bytes."""
    for back in range(1, len(tail) + 1):
        if tail[-back] & 0xC0 != 0x80:  # not a continuation byte: the character starts here
            try:
                tail[-back:].decode("utf-8")
            except UnicodeDecodeError:
                return False
            return True
    return not tail
