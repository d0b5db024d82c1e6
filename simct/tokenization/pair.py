"""TokenizerPair: two tokenizers joined by the exact bytes of their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from simct.config import RunConfig
from simct.errors import AlignmentError, TokenizerError
from simct.tokenization.alignment import AlignedUnits, align_boundaries
from simct.tokenization.end_of_turn import shared_columns, split_end
from simct.tokenization.model_tokens import load_tokens
from simct.tokenization.segments import Side, sides_of
from simct.tokenization.teacher_ids import TeacherIds, teacher_ids_for
from simct.tokenization.token_bytes import TokenBytes, token_bytes
from simct.tokenization.vocabulary_cache import SharedIds, shared_ids


class TokenizerPair:
    """Teacher and student tokenizers with their byte-equal shared vocabulary and shared end of turn.

    shared_tokens: byte strings that are a token on both sides (special tokens and the end of turn are not among them).
    jaccard: shared_tokens over the union of both vocabularies, special tokens included, as arXiv 2610.08448 counts it.
    shared_teacher_ids, shared_student_ids: LongTensor [C], column c is the same bytes on both sides; the last column is
    the end of turn, one shared event (each side's first end id). teacher_to_shared, student_to_shared: LongTensor
    [n_ids], id -> column or -1; every end id of a side maps to the end of turn, and of several ids with equal bytes
    only the one its tokenizer emits has a column.
    """

    def __init__(self, teacher: TokenBytes, student: TokenBytes) -> None:
        for side, tokens in (("teacher", teacher), ("student", student)):
            if not tokens.end_ids:
                raise TokenizerError(f"The {side}'s tokenizer has no end-of-turn token: set tokenizer.eos_token.")
        self.teacher, self.student = teacher, student
        # enable_thinking of the generation prompts of the teacher and the student
        self.thinking: tuple[bool | None, bool | None] = (None, None)
        teacher_ids, student_ids = _shared_vocabulary(teacher, student)
        self.shared_tokens = len(student_ids)
        self.jaccard = self.shared_tokens / (teacher.vocabulary + student.vocabulary - self.shared_tokens)
        self.shared_teacher_ids = torch.from_numpy(np.append(teacher_ids, teacher.end_ids[0]))
        self.shared_student_ids = torch.from_numpy(np.append(student_ids, student.end_ids[0]))
        self.teacher_to_shared = shared_columns(self.shared_teacher_ids, teacher.end_ids, len(teacher.bytes_of))
        self.student_to_shared = shared_columns(self.shared_student_ids, student.end_ids, len(student.bytes_of))

    @classmethod
    def from_pretrained(
        cls,
        teacher: str | PreTrainedTokenizerBase,
        student: str | PreTrainedTokenizerBase,
        *,
        teacher_revision: str | None = None,
        student_revision: str | None = None,
        teacher_template: str | None = None,
        student_template: str | None = None,
        token: str | bool | None = None,
    ) -> TokenizerPair:
        """Build the pair from Hub ids, folders or tokenizer objects, each with its chat template of the given name.

        Raises one-line ModelError or TokenizerError; DataError if there is no chat template of that name.
        """
        return cls(
            _side(teacher, teacher_revision, token, teacher_template),
            _side(student, student_revision, token, student_template),
        )

    @classmethod
    def of_run(cls, config: RunConfig, token: str | bool | None = None) -> TokenizerPair:
        """Both tokenizers of a run, at their revisions and with their chat templates. Raises as from_pretrained."""
        teacher, student = (
            _side(model.model, model.revision, token, model.chat_template) for model in (config.teacher, config.student)
        )
        pair = cls(teacher, student)
        pair.thinking = config.teacher.enable_thinking, config.student.enable_thinking
        return pair

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """The teacher and the student as they write and read answers, each in its own chat template."""
        return sides_of(self.teacher, self.student, self.thinking)

    def align(self, teacher_ids: Sequence[int] | np.ndarray, student_ids: Sequence[int] | np.ndarray) -> AlignedUnits:
        """Return the minimal aligned units of two spellings of the same bytes, end of turn included.

        Raises AlignmentError if the bytes differ, an id inside the text spells nothing, or only one side ends.
        """
        teacher_text, teacher_ended = split_end(teacher_ids, self.teacher.end_ids)
        student_text, student_ended = split_end(student_ids, self.student.end_ids)
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
        return teacher_ids_for(self.teacher, self.student, student_ids)


def _side(
    source: str | PreTrainedTokenizerBase,
    revision: str | None,
    token: str | bool | None,
    chat_template: str | None = None,
) -> TokenBytes:
    if isinstance(source, PreTrainedTokenizerBase):
        return token_bytes(source)
    return load_tokens(str(source), revision, token, chat_template)


def _shared_vocabulary(teacher: TokenBytes, student: TokenBytes) -> SharedIds:
    def match() -> SharedIds:
        both = teacher.id_of.keys() & student.id_of.keys()
        student_ids = np.fromiter((student.id_of[data] for data in both), np.int64, len(both))
        teacher_ids = np.fromiter((teacher.id_of[data] for data in both), np.int64, len(both))
        order = np.argsort(student_ids)
        return teacher_ids[order], student_ids[order]

    def valid(found: SharedIds) -> bool:
        pairs = zip(found[0].tolist(), found[1].tolist(), strict=True)
        n_teacher, n_student = len(teacher.bytes_of), len(student.bytes_of)
        return all(
            0 <= t < n_teacher and 0 <= s < n_student and teacher.bytes_of[t] == student.bytes_of[s] is not None
            for t, s in pairs
        )

    return shared_ids(teacher.fingerprint, student.fingerprint, match, valid)
