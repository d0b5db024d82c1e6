"""Where two tokenizers disagree on real text, what exact matching loses there, and what SimCT recovers (records.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from simct.errors import AlignmentError
from simct.inspection.records import Disagreement, KindTokens, PairReport, ShownUnit
from simct.inspection.text_kinds import KINDS, kinds_of_bytes, kinds_of_spans
from simct.tokenization.alignment import AlignedUnits
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import TEACHER_CANNOT_SPELL

STUDENT_CANNOT_SPELL = "text the student's vocabulary cannot spell"
Ids = tuple[int, ...]
NOT_EMITTED = "the same bytes, but an id that the tokenizer itself does not emit"


class Lookup(Protocol):
    """Finds the bytes of a token by its id."""

    def __getitem__(self, token_id: int, /) -> bytes | None: ...


class TokenLookup(Protocol):
    """The attributes of a side that are needed to show its tokens."""

    @property
    def bytes_of(self) -> Lookup: ...


class PairLookup(Protocol):
    """The attributes of a pair that are needed to show a text that is already tokenized."""

    @property
    def teacher(self) -> TokenLookup: ...

    @property
    def student(self) -> TokenLookup: ...


@dataclass
class Spelled:
    """One text on both sides: its bytes, ids, aligned units, and which units are shared (bool [U])."""

    data: bytes
    teacher_ids: list[int]
    student_ids: list[int]
    units: AlignedUnits
    shared: np.ndarray

    @property
    def recovered(self) -> np.ndarray:
        """bool [U]: units of several tokens on either side."""
        return (self.units.student_tokens > 1) | (self.units.teacher_tokens > 1)


def spell(pair: TokenizerPair, text: str) -> Spelled:
    """Tokenize `text` by both sides and align; AlignmentError names the side that cannot spell it."""
    data = text.encode("utf-8", "surrogatepass")
    try:
        student_ids = pair.student.encode(data)
    except AlignmentError as error:
        raise AlignmentError(STUDENT_CANNOT_SPELL) from error
    try:
        teacher_ids = pair.teacher.encode(data)
    except AlignmentError as error:
        raise AlignmentError(TEACHER_CANNOT_SPELL) from error
    units = pair.align(teacher_ids, student_ids)
    student_column = pair.student_to_shared.numpy()[np.asarray(student_ids, np.int64)[units.student_start]]
    teacher_column = pair.teacher_to_shared.numpy()[np.asarray(teacher_ids, np.int64)[units.teacher_start]]
    single = (units.student_tokens == 1) & (units.teacher_tokens == 1)
    shared = single & (student_column >= 0) & (student_column == teacher_column)
    return Spelled(data, teacher_ids, student_ids, units, shared)


@dataclass
class Counts:
    """Counts over texts, which can be extended, joined with other counts, and made into a report.

    by_kind: int64 [3, kinds], student tokens in shared, recovered and not covered units. lost: by how much a count in
    `disagreements` may be too low, because rare ones are dropped if there are too many.
    """

    texts: int = 0
    bytes: int = 0
    teacher_tokens: int = 0
    student_tokens: int = 0
    strict: int = 0  # shared units: one token on each side
    recovered: int = 0  # student tokens in recovered units
    lost: int = 0
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (student tokens, teacher tokens) -> units
    disagreements: Counter[tuple[Ids, Ids]] = field(default_factory=Counter)  # (student ids, teacher ids) -> units
    excluded: Counter[str] = field(default_factory=Counter)
    by_kind: np.ndarray = field(default_factory=lambda: np.zeros((3, len(KINDS)), np.int64))

    def add(self, pair: TokenizerPair, text: str) -> None:
        """Count one text; if a side cannot spell it, only count the reason."""
        self.texts += 1
        try:
            spelled = spell(pair, text)
        except AlignmentError as error:
            self.excluded[str(error)] += 1
            return
        units, recovered_U = spelled.units, spelled.recovered
        self.bytes += len(spelled.data)
        self.teacher_tokens += len(spelled.teacher_ids)
        self.student_tokens += len(spelled.student_ids)
        self.strict += int(spelled.shared.sum())
        self.recovered += int(units.student_tokens[recovered_U].sum())
        self._add_shapes(units)
        at = np.flatnonzero(recovered_U)
        columns = (units.student_start, units.student_end, units.teacher_start, units.teacher_end)
        self.disagreements.update(
            (tuple(spelled.student_ids[s0:s1]), tuple(spelled.teacher_ids[t0:t1]))
            for s0, s1, t0, t1 in zip(*(column[at].tolist() for column in columns), strict=True)
        )
        kind_U = kinds_of_spans(kinds_of_bytes(text), units.byte_start, units.byte_end)
        for row, chosen_U in enumerate((spelled.shared, recovered_U, ~spelled.shared & ~recovered_U)):
            self.by_kind[row] += np.bincount(
                kind_U[chosen_U], weights=units.student_tokens[chosen_U], minlength=len(KINDS)
            ).astype(np.int64)

    def _add_shapes(self, units: AlignedUnits) -> None:
        if not len(units):
            return
        student_U, teacher_U = units.student_tokens, units.teacher_tokens
        width = int(teacher_U.max()) + 1
        shapes, n = np.unique(student_U * width + teacher_U, return_counts=True)
        pairs = zip((shapes // width).tolist(), (shapes % width).tolist(), strict=True)
        self.shapes.update(dict(zip(pairs, n.tolist(), strict=True)))

    def join(self, other: Counts) -> None:
        """Add the counts of other texts."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(mine, Counter):
                mine.update(value)
            else:
                setattr(self, name, mine + value)

    def drop_rare(self, most: int) -> None:
        """Keep the `most` most frequent disagreements; `lost` grows by the highest dropped count."""
        if len(self.disagreements) > most:
            ranked = self.disagreements.most_common()
            self.disagreements = Counter(dict(ranked[:most]))
            self.lost += ranked[most][1]

    def report(self, pair: TokenizerPair, top: int = 20) -> PairReport:
        """With the `top` most frequent disagreements."""
        by_kind = zip(KINDS, *self.by_kind.tolist(), strict=True)
        return PairReport(
            shared_tokens=pair.shared_tokens,
            jaccard=pair.jaccard,
            teacher_vocabulary=pair.teacher.vocabulary,
            student_vocabulary=pair.student.vocabulary,
            student_strict_coverage=_share(self.strict, self.student_tokens),
            teacher_strict_coverage=_share(self.strict, self.teacher_tokens),
            student_recovered_coverage=_share(self.recovered, self.student_tokens),
            unit_shapes={f"{s}x{t}": n for (s, t), n in self.shapes.most_common()},
            by_kind={kind: KindTokens(sum(parts), *parts) for kind, *parts in by_kind if sum(parts)},
            top_disagreements=[
                _disagreement(pair, student_ids, teacher_ids, n)
                for (student_ids, teacher_ids), n in self.disagreements.most_common(top)
            ],
            disagreements_lost=self.lost,
            excluded=dict(self.excluded),
            texts=self.texts,
            bytes=self.bytes,
            student_tokens=self.student_tokens,
            teacher_tokens=self.teacher_tokens,
            strict_tokens=self.strict,
            recovered_tokens=self.recovered,
        )


def inspect_pair(pair: TokenizerPair, texts: Iterable[str], top: int = 20) -> PairReport:
    """Measure the pair on `texts`, each side in its own canonical tokenization.

    A text that one side cannot spell is left out and counted by reason in `excluded`. Large corpora:
    simct.inspection.corpus.
    """
    counts = Counts()
    for text in texts:
        counts.add(pair, text)
    return counts.report(pair, top)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _disagreement(pair: TokenizerPair, student_ids: Ids, teacher_ids: Ids, count: int) -> Disagreement:
    data = pair.student.decode(student_ids)
    return Disagreement(
        printable(data), data.hex(), pieces(pair.student, student_ids), pieces(pair.teacher, teacher_ids), count
    )


def pieces(tokens: TokenLookup, ids: Iterable[int]) -> list[str]:
    """What each id spells; bytes that are not a character by themselves are written as \\xNN."""
    return [printable(tokens.bytes_of[i] or b"") for i in ids]


def printable(data: bytes) -> str:
    """Bytes as text; a byte that belongs to no character is written as \\xNN."""
    return data.decode("utf-8", "backslashreplace")


def show_units(pair: TokenizerPair, text: str) -> list[ShownUnit]:
    """The units of `text` in order. Raises AlignmentError if one side cannot spell the text."""
    spelled = spell(pair, text)
    return [show_unit(pair, spelled, index) for index in range(len(spelled.units))]


def show_unit(pair: PairLookup, spelled: Spelled, index: int) -> ShownUnit:
    """Unit `index` of a spelled text, for paging through long texts."""
    unit = spelled.units[index]
    student = spelled.student_ids[unit.student_start : unit.student_end]
    teacher = spelled.teacher_ids[unit.teacher_start : unit.teacher_end]
    data = spelled.data[unit.byte_start : unit.byte_end]
    kind = "shared" if spelled.shared[index] else "recovered" if len(student) + len(teacher) > 2 else "outside"
    return ShownUnit(
        text=printable(data),
        bytes=data.hex(),
        byte_start=unit.byte_start,
        byte_end=unit.byte_end,
        kind=kind,
        reason=NOT_EMITTED if kind == "outside" else "",
        student_ids=student,
        teacher_ids=teacher,
        student_pieces=pieces(pair.student, student),
        teacher_pieces=pieces(pair.teacher, teacher),
    )
