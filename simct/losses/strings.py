"""The byte strings that each side can write next: the tables behind `marginal` and `bpm`.

A vocabulary is sorted by bytes, so that "the tokens that start with c" is one range of ranks. Strings are named by the
rank of the token they end: after a partial token c, the token w = c + r stands for the string r. The token c itself
stands for the empty string: whatever follows it is none of the strings that continue c.
Shapes: K distinct strings of a vocabulary, E listed teacher strings of one context, R rows of a batch.
"""

import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from simct.tokenization.units import UnitBatch

if TYPE_CHECKING:
    from simct.tokenization.pair import TokenizerPair
    from simct.tokenization.token_bytes import TokenBytes


class SortedVocabulary:
    """One side's distinct token byte strings in byte order, with the ids of each rank and the rank of each id.

    `rank_of_id` [n_ids] has K for every end-of-turn id (one event, whatever the id) and K + 1 for ids without bytes.
    """

    def __init__(self, tokens: "TokenBytes") -> None:
        first_id: dict[bytes, int] = {}
        for token_id, data in enumerate(tokens.bytes_of):
            if data is not None and token_id not in tokens.end_ids:
                first_id.setdefault(data, token_id)
        self.strings = sorted(first_id)
        self.rank_of = {data: rank for rank, data in enumerate(self.strings)}
        self.longest = max(map(len, self.strings), default=0)
        self.size = len(self.strings)
        self.end_ids = torch.tensor(tokens.end_ids, dtype=torch.int64)
        self.id_of_rank = torch.tensor([first_id[data] for data in self.strings], dtype=torch.int64)
        rank_of_id = np.full(max(len(tokens.bytes_of), max(tokens.end_ids) + 1), self.size + 1, dtype=np.int64)
        doubles = []
        for token_id, data in enumerate(tokens.bytes_of):
            if data is not None and token_id not in tokens.end_ids:
                rank_of_id[token_id] = self.rank_of[data]
                if first_id[data] != token_id:
                    doubles.append(token_id)
        rank_of_id[list(tokens.end_ids)] = self.size
        self.rank_of_id = torch.from_numpy(rank_of_id)
        self.doubled_ids = torch.tensor(doubles, dtype=torch.int64)

    def rank_of_column(self, logits_NV: torch.Tensor) -> torch.Tensor:
        """`rank_of_id` for every column of some logits, int64 [V]; columns beyond the tokenizer spell nothing."""
        rank_V = self.rank_of_id.new_full((logits_NV.shape[1],), self.size + 1)
        rank_V[: len(self.rank_of_id)] = self.rank_of_id[: len(rank_V)]
        return rank_V.to(logits_NV.device)

    def silent_columns(self, logits_NV: torch.Tensor) -> torch.Tensor:
        """The columns of some logits that neither spell a string nor end a turn, int64."""
        return (self.rank_of_column(logits_NV) > self.size).nonzero().squeeze(1)

    def longer(self, prefix: bytes) -> tuple[int, int]:
        """Ranks [low, high) of the tokens that start with `prefix` and are longer."""
        low, high = self.starting(prefix)
        return low + (low < high and self.strings[low] == prefix), high

    def ids_between(self, low: int, high: int) -> torch.Tensor:
        """All ids of the strings of ranks [low, high), int64."""
        doubled_rank = self.rank_of_id[self.doubled_ids]
        doubled = self.doubled_ids[(doubled_rank >= low) & (doubled_rank < high)]
        return torch.cat([self.id_of_rank[low:high], doubled])

    def starting(self, prefix: bytes) -> tuple[int, int]:
        """Ranks [low, high) of the tokens that start with `prefix`, itself included."""
        low = bisect_left(self.strings, prefix)
        stem = prefix.rstrip(b"\xff")  # the next string in byte order that does not start with the prefix
        high = bisect_left(self.strings, stem[:-1] + bytes([stem[-1] + 1])) if stem else self.size
        return low, high


@dataclass(frozen=True, eq=False)
class StringMap:
    """Teacher strings after one context, and the student strings that they belong to. int64 arrays [E].

    teacher: rank of the teacher token that ends the string. whole: rank of the string as a teacher token of its own, or
    -1. phi: rank of the longest student string that is a prefix of it, or -1. extend_low, extend_high: ranks of the
    student strings that strictly extend it.
    """

    teacher: np.ndarray
    whole: np.ndarray
    phi: np.ndarray
    extend_low: np.ndarray
    extend_high: np.ndarray

    def take(self, index: np.ndarray) -> "StringMap":
        return StringMap(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class PairStrings:
    """Both sorted vocabularies of a pair and the maps between them, each made on first use."""

    def __init__(self, pair: "TokenizerPair") -> None:
        self.teacher, self.student = SortedVocabulary(pair.teacher), SortedVocabulary(pair.student)
        self._maps: dict[tuple[bytes, bytes], StringMap] = {}

    @cached_property
    def same_vocabulary(self) -> bool:
        """Whether both sides can write exactly the same strings, so that no classes need to be joined."""
        return self.teacher.strings == self.student.strings

    @cached_property
    def whole_map(self) -> StringMap:
        return self.map(b"", b"")

    def map(self, teacher_prefix: bytes, student_prefix: bytes) -> StringMap:
        """Strings of teacher tokens that start with `teacher_prefix`, met by student tokens beyond `student_prefix`.

        With an empty teacher prefix inside a student token, strings that meet no student string are not listed.
        """
        key = (teacher_prefix, student_prefix)
        if key not in self._maps:
            if len(self._maps) > 50_000:  # thousands of contexts occur again and again; the others are not kept
                self._maps.clear()
            if teacher_prefix or not student_prefix:
                ranks: Sequence[int] = range(*self.teacher.starting(teacher_prefix))
            else:
                ranks = self._ranks_that_meet(student_prefix)
            self._maps[key] = self._build(ranks, len(teacher_prefix), student_prefix)
        return self._maps[key]

    def _ranks_that_meet(self, student_prefix: bytes) -> list[int]:
        met: set[int] = set()
        start = len(student_prefix)
        for rank in range(*self.student.longer(student_prefix)):
            rest = self.student.strings[rank][start:]
            met.update(range(*self.teacher.starting(rest)))
            for size in range(1, len(rest)):
                if rest[:size] in self.teacher.rank_of:
                    met.add(self.teacher.rank_of[rest[:size]])
        return sorted(met)

    def _build(self, ranks: Sequence[int], skip: int, student_prefix: bytes) -> StringMap:
        held, rank_of = len(student_prefix), self.student.rank_of
        rows = np.full((len(ranks), 5), -1, dtype=np.int64)
        for place, rank in enumerate(ranks):
            rest = self.teacher.strings[rank][skip:]
            written = student_prefix + rest
            phi = -1
            for size in range(min(len(written), self.student.longest), held, -1):
                phi = rank_of.get(written[:size], -1)
                if phi >= 0:
                    break
            low, high = self.student.longer(written) if rest and len(written) < self.student.longest else (0, 0)
            rows[place] = rank, self.teacher.rank_of.get(rest, -1), phi, low, high
        return StringMap(*rows.T)


_STRINGS: "weakref.WeakKeyDictionary[TokenizerPair, PairStrings]" = weakref.WeakKeyDictionary()


def pair_strings(pair: "TokenizerPair") -> PairStrings:
    """The string tables of a pair, built once and kept as long as the pair."""
    if pair not in _STRINGS:
        _STRINGS[pair] = PairStrings(pair)
    return _STRINGS[pair]


@dataclass(eq=False)
class TextRows:
    """Where the two models are compared, in text order. int64 arrays [R] of flattened rows, and bytes.

    student_row, teacher_row: the distributions read. student_prefix, teacher_prefix: bytes already written of that
    token. previous_row: the teacher row before if a bridge applies, else -1; previous: the bytes of its token.
    """

    student_row: np.ndarray
    teacher_row: np.ndarray
    previous_row: np.ndarray
    student_prefix: list[bytes]
    teacher_prefix: list[bytes]
    previous: list[bytes]

    def __len__(self) -> int:
        return len(self.student_row)


def text_rows(pair: "TokenizerPair", units: UnitBatch, teacher_boundaries: bool = True) -> TextRows:
    """A row at every student boundary and, if asked for, at every teacher boundary inside a student token."""
    student_ids, teacher_ids = units.student_ids_S.tolist(), units.teacher_ids_T.tolist()
    student_at = _byte_starts(pair.student, student_ids, units.student_sequence_S.cpu().numpy())
    teacher_at = _byte_starts(pair.teacher, teacher_ids, units.teacher_sequence_T.cpu().numpy())
    offsets = np.union1d(student_at, teacher_at) if teacher_boundaries else student_at
    student_row = np.searchsorted(student_at, offsets, side="right") - 1
    teacher_row = np.searchsorted(teacher_at, offsets, side="right") - 1
    student_into, teacher_into = offsets - student_at[student_row], offsets - teacher_at[teacher_row]
    sequence = units.teacher_sequence_T.cpu().numpy()
    before = np.maximum(teacher_row - 1, 0)
    bridged = (teacher_into == 0) & (teacher_row > 0) & (sequence[before] == sequence[teacher_row])
    return TextRows(
        student_row,
        teacher_row,
        np.where(bridged, before, -1),
        _prefixes(pair.student, student_ids, student_row, student_into),
        _prefixes(pair.teacher, teacher_ids, teacher_row, teacher_into),
        [pair.teacher.bytes_of[teacher_ids[row]] if ok else b"" for row, ok in zip(before, bridged, strict=True)],
    )


def _byte_starts(tokens: "TokenBytes", ids: list[int], sequence: np.ndarray) -> np.ndarray:
    """Byte offset of every row over all sequences, with a gap of one byte so that no two places coincide."""
    lengths = np.array([0 if i in tokens.end_ids else tokens.lengths[i] for i in ids], dtype=np.int64)
    return np.cumsum(lengths) - lengths + sequence


def _prefixes(tokens: "TokenBytes", ids: list[int], rows: np.ndarray, into: np.ndarray) -> list[bytes]:
    return [tokens.bytes_of[ids[row]][:size] if size else b"" for row, size in zip(rows, into, strict=True)]
