"""TokenizerPair: two tokenizers joined by the exact bytes of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from simct.alignment import AlignedUnits, align_boundaries
from simct.errors import AlignmentError, TokenizerError
from simct.token_bytes import TokenBytes, load_tokenizer, token_bytes


@dataclass(frozen=True)
class TeacherIds:
    """The teacher's spelling of a student's completion.

    ids: teacher ids, with the teacher's end-of-turn id in last place iff the student ended. n_student: how many leading
    student ids they answer to. cut_bytes: trailing bytes that are not valid UTF-8 and stay unsupervised. excluded: why
    this completion cannot be used at all (ids is then empty), else None.
    """

    ids: list[int]
    excluded: str | None
    n_student: int
    cut_bytes: int


class TokenizerPair:
    """Teacher and student tokenizers with their byte-equal shared vocabulary and bridged end of turn.

    shared_teacher_ids, shared_student_ids: LongTensor [C], column c is the same bytes on both sides; the last column is
    the end-of-turn bridge. teacher_to_shared, student_to_shared: LongTensor [n_ids], id -> column or -1; every end id of
    a side maps to the bridge, and of several ids with equal bytes only the one its tokenizer emits is a column.
    """

    def __init__(self, teacher: TokenBytes, student: TokenBytes) -> None:
        for side, tokens in (("teacher", teacher), ("student", student)):
            if not tokens.end_ids:
                raise TokenizerError(f"The {side}'s tokenizer has no end-of-turn token: set tokenizer.eos_token.")
        self.teacher, self.student = teacher, student
        of_teacher, of_student = _id_of_bytes(teacher), _id_of_bytes(student)
        shared = [(i, of_teacher[data]) for data, i in of_student.items() if data in of_teacher]
        shared.sort()
        self.shared_tokens = len(shared)
        self.jaccard = self.shared_tokens / (len(teacher.bytes_of) + len(student.bytes_of) - self.shared_tokens)
        self.shared_student_ids = torch.tensor([s for s, _ in shared] + [student.end_ids[0]], dtype=torch.long)
        self.shared_teacher_ids = torch.tensor([t for _, t in shared] + [teacher.end_ids[0]], dtype=torch.long)
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

    def align(self, teacher_ids: Sequence[int], student_ids: Sequence[int]) -> AlignedUnits:
        """Return the minimal aligned units of two spellings of the same bytes; AlignmentError where they differ."""
        if _spelled(self.teacher, teacher_ids) != _spelled(self.student, student_ids):
            raise AlignmentError("The teacher's and the student's ids spell different bytes.")
        return align_boundaries(_lengths(self.teacher, teacher_ids), _lengths(self.student, student_ids))

    def teacher_ids_for(self, student_ids: Sequence[int]) -> TeacherIds:
        """Spell a sampled completion (any ids, ended or truncated) in the teacher's ids, byte for byte."""
        ids = [int(i) for i in student_ids]
        ended = bool(ids) and ids[-1] in self.student.end_ids
        text_ids = ids[:-1] if ended else ids
        if any(not 0 <= i < len(self.student.bytes_of) or self.student.bytes_of[i] is None for i in text_ids):
            return TeacherIds([], "special token inside the completion", 0, 0)
        data = self.student.decode(text_ids)
        kept, cut = len(text_ids), 0
        if not ended:
            ends = [0, *np.cumsum(self.student.lengths[np.asarray(text_ids, dtype=np.int64)]).tolist()]
            while kept and not _ends_in_valid_utf8(data[: ends[kept]]):
                kept -= 1
            cut = len(data) - ends[kept]
            data = data[: ends[kept]]
        try:
            teacher_ids = self.teacher.encode(data)
        except AlignmentError as error:
            return TeacherIds([], str(error), 0, 0)
        if ended:
            teacher_ids = [*teacher_ids, self.teacher.end_ids[0]]
        return TeacherIds(teacher_ids, None, kept + ended, cut)


def _side(source: str | PreTrainedTokenizerBase, revision: str | None, token: str | None) -> TokenBytes:
    if isinstance(source, PreTrainedTokenizerBase):
        return token_bytes(source)
    tokenizer = load_tokenizer(source, revision, token)
    try:
        eos = GenerationConfig.from_pretrained(source, revision=revision, token=token).eos_token_id
    except Exception:  # many repositories have none, and the tokenizer's own EOS is enough
        eos = None
    return token_bytes(tokenizer, eos if isinstance(eos, list) else [] if eos is None else [eos])


def _id_of_bytes(tokens: TokenBytes) -> dict[bytes, int]:
    first: dict[bytes, int] = {}
    for token_id, data in enumerate(tokens.bytes_of):
        if data is None:
            continue
        if data in first:
            try:
                emitted = tokens.encode(data)
            except AlignmentError:
                continue
            if emitted == [token_id]:
                first[data] = token_id
        else:
            first[data] = token_id
    return first


def _to_column(shared_ids: torch.Tensor, tokens: TokenBytes) -> torch.Tensor:
    size = max(len(tokens.bytes_of), max(tokens.end_ids) + 1)
    columns = torch.full((size,), -1, dtype=torch.long)
    columns[shared_ids] = torch.arange(len(shared_ids))
    columns[list(tokens.end_ids)] = len(shared_ids) - 1
    return columns


def _text_ids(tokens: TokenBytes, ids: Sequence[int]) -> Sequence[int]:
    return ids[:-1] if len(ids) and int(ids[-1]) in tokens.end_ids else ids


def _spelled(tokens: TokenBytes, ids: Sequence[int]) -> bytes:
    return tokens.decode(int(i) for i in _text_ids(tokens, ids))


def _lengths(tokens: TokenBytes, ids: Sequence[int]) -> np.ndarray:
    text = np.asarray([int(i) for i in _text_ids(tokens, ids)], dtype=np.int64)
    lengths = tokens.lengths[text]
    return np.append(lengths, 0) if len(text) < len(ids) else lengths


def _ends_in_valid_utf8(data: bytes) -> bool:
    """Whether the last character of `data` is complete (data before it may be anything)."""
    if not data:
        return True
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] & 0xC0 != 0x80:
            try:
                data[-back:].decode("utf-8")
            except UnicodeDecodeError:
                return False
            return True
    return False
