"""Where two tokenizers disagree on real text, what exact matching loses there, and what SimCT recovers.

A unit is *shared* when it is one token on each side with equal bytes: exact matching supervises it. It is *recovered*
when it has several tokens on either side: exact matching loses it and SimCT scores it as one candidate. It is *outside*
when neither applies; the reason is always given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from simct.alignment import AlignedUnits
from simct.errors import AlignmentError
from simct.token_bytes import TokenBytes
from simct.tokenizer_pair import TEACHER_CANNOT_SPELL, TokenizerPair

STUDENT_CANNOT_SPELL = "text the student's vocabulary cannot spell"
NOT_EMITTED = "the same bytes, but an id that the tokenizer itself does not emit"

_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003134f"
_EMOJI = r"\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d"
_KINDS = re.compile(
    rf"(?P<latex>\$[^$\n]*[\\^_][^$\n]*\$|\\[A-Za-z]{{2,}}|\\[\[\]()])|(?P<cjk>[{_CJK}]+)|(?P<emoji>[{_EMOJI}]+)"
    r"|(?P<digits>\d+)|(?P<whitespace>\s+)|(?P<words>[^\W\d_]+)|(?P<punctuation>.)",
    re.DOTALL,
)
KINDS = ("words", "digits", "whitespace", "punctuation", "latex", "cjk", "emoji")


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
class _Counts:
    texts: int = 0
    bytes: int = 0
    teacher_tokens: int = 0
    student_tokens: int = 0
    strict: int = 0  # shared units: one token on each side
    recovered: int = 0  # student tokens in recovered units
    shapes: Counter = field(default_factory=Counter)
    disagreements: Counter = field(default_factory=Counter)  # (student ids, teacher ids) -> n
    excluded: Counter = field(default_factory=Counter)
    by_kind: np.ndarray = field(default_factory=lambda: np.zeros((3, len(KINDS)), np.int64))  # all, strict, recovered

    def add(self, text: str, spelled: Spelled) -> None:
        units, recovered = spelled.units, spelled.recovered
        self.bytes += len(spelled.data)
        self.teacher_tokens += len(spelled.teacher_ids)
        self.student_tokens += len(spelled.student_ids)
        self.strict += int(spelled.shared.sum())
        self.recovered += int(units.student_tokens[recovered].sum())
        shapes, n = np.unique(np.stack([units.student_tokens, units.teacher_tokens]), axis=1, return_counts=True)
        self.shapes.update(dict(zip(map(tuple, shapes.T.tolist()), n.tolist(), strict=True)))
        at = np.flatnonzero(recovered)
        columns = (units.student_start, units.student_end, units.teacher_start, units.teacher_end)
        self.disagreements.update(
            (tuple(spelled.student_ids[s0:s1]), tuple(spelled.teacher_ids[t0:t1]))
            for s0, s1, t0, t1 in zip(*(column[at].tolist() for column in columns), strict=True)
        )
        kinds = _kinds(text, units)
        for row, chosen in enumerate((slice(None), spelled.shared, recovered)):
            self.by_kind[row] += np.bincount(
                kinds[chosen], weights=units.student_tokens[chosen], minlength=len(KINDS)
            ).astype(np.int64)


def inspect_pair(pair: TokenizerPair, texts: Iterable[str], top: int = 20) -> dict:
    """Measure the pair on `texts`, each side in its own canonical tokenization. Returns a JSON-able report.

    Shares are of tokens (0 to 1). unit_shapes counts units as "k_S x k_T". by_kind gives, for each kind of text, the
    student tokens that fell in it and the shares of them that are strict and recovered. A text that one side cannot
    spell is left out and counted by reason in `excluded`.
    """
    counts = _Counts()
    for text in texts:
        counts.texts += 1
        try:
            spelled = spell(pair, text)
        except AlignmentError as error:
            counts.excluded[str(error)] += 1
            continue
        counts.add(text, spelled)
    return {
        "shared_tokens": pair.shared_tokens,
        "jaccard": pair.jaccard,
        "teacher_vocabulary": pair.teacher.vocabulary,
        "student_vocabulary": pair.student.vocabulary,
        "student_strict_coverage": _share(counts.strict, counts.student_tokens),
        "teacher_strict_coverage": _share(counts.strict, counts.teacher_tokens),
        "student_recovered_coverage": _share(counts.recovered, counts.student_tokens),
        "unit_shapes": {f"{s}x{t}": n for (s, t), n in counts.shapes.most_common()},
        "by_kind": {
            kind: {"student_tokens": n, "strict": _share(strict, n), "recovered": _share(recovered, n)}
            for kind, n, strict, recovered in zip(KINDS, *counts.by_kind.tolist(), strict=True)
            if n
        },
        "top_disagreements": [_disagreement(pair, *key, n) for key, n in counts.disagreements.most_common(top)],
        "excluded": dict(counts.excluded),
        "texts": counts.texts,
        "bytes": counts.bytes,
        "student_tokens": counts.student_tokens,
        "teacher_tokens": counts.teacher_tokens,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _kinds(text: str, units: AlignedUnits) -> np.ndarray:
    """int64 [U]: index into KINDS of each unit, by its last character where it starts with a space, else its first."""
    kind_of_byte = np.empty(len(text.encode("utf-8", "surrogatepass")), np.int64)
    at = 0
    for match in _KINDS.finditer(text):
        end = at + len(match[0].encode("utf-8", "surrogatepass"))
        kind_of_byte[at:end] = KINDS.index(match.lastgroup)
        at = end
    first, last = kind_of_byte[units.byte_start], kind_of_byte[units.byte_end - 1]
    return np.where(first == KINDS.index("whitespace"), last, first)


def _disagreement(pair: TokenizerPair, student_ids: tuple, teacher_ids: tuple, count: int) -> dict:
    data = pair.student.decode(student_ids)
    return {
        "text": _printable(data),
        "bytes": data.hex(),
        "student_tokens": pieces(pair.student, student_ids),
        "teacher_tokens": pieces(pair.teacher, teacher_ids),
        "count": count,
    }


def pieces(tokens: TokenBytes, ids: Iterable[int]) -> list[str]:
    """What each id spells; bytes that are no character of their own stand as \\xNN."""
    return [_printable(tokens.bytes_of[i] or b"") for i in ids]


def _printable(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def format_report(report: dict) -> str:
    """The report as text for a terminal."""
    lines = [
        f"Shared tokens   {report['shared_tokens']:,} byte-equal, of {report['student_vocabulary']:,} (student) and "
        f"{report['teacher_vocabulary']:,} (teacher); Jaccard {report['jaccard']:.2%}",
        f"Student tokens  {report['student_strict_coverage']:.2%} matched exactly, "
        f"{report['student_recovered_coverage']:.2%} more recovered by SimCT",
        f"Teacher tokens  {report['teacher_strict_coverage']:.2%} matched exactly",
        f"Text            {report['texts']:,} texts, {report['bytes']:,} bytes, {report['student_tokens']:,} student "
        f"and {report['teacher_tokens']:,} teacher tokens",
    ]
    if report["unit_shapes"]:
        shapes = ", ".join(f"{shape}: {n:,}" for shape, n in list(report["unit_shapes"].items())[:8])
        lines.append(f"Unit shapes     {shapes} (student x teacher tokens)")
    if report["excluded"]:
        lines += [f"Left out        {n:,} texts: {reason}" for reason, n in report["excluded"].items()]
    else:
        lines.append("Left out        nothing")
    if report["by_kind"]:
        lines += ["", f"{'By kind of text':<18}{'student tokens':>15}{'exact':>10}{'recovered':>11}"]
        for kind, row in report["by_kind"].items():
            lines.append(f"  {kind:<16}{row['student_tokens']:>15,}{row['strict']:>10.2%}{row['recovered']:>11.2%}")
    if report["top_disagreements"]:
        lines += ["", "Most frequent disagreements (student | teacher)"]
        for row in report["top_disagreements"]:
            student, teacher = (" ".join(map(repr, row[f"{side}_tokens"])) for side in ("student", "teacher"))
            lines.append(f"  {row['count']:>7,}  {student} | {teacher}")
    return "\n".join(lines)


def segments(pair: TokenizerPair, text: str) -> list[dict]:
    """The units of `text` in order, for display.

    Each has text, bytes (hex), byte_start, byte_end, kind ("shared", "recovered" or "outside"), reason (empty unless
    outside), and both sides' ids and pieces. Raises AlignmentError where one side cannot spell the text.
    """
    spelled = spell(pair, text)
    recovered = spelled.recovered.tolist()
    rows = []
    for unit, is_shared, is_recovered in zip(spelled.units, spelled.shared.tolist(), recovered, strict=True):
        student = spelled.student_ids[unit.student_start : unit.student_end]
        teacher = spelled.teacher_ids[unit.teacher_start : unit.teacher_end]
        data = spelled.data[unit.byte_start : unit.byte_end]
        kind = "shared" if is_shared else "recovered" if is_recovered else "outside"
        rows.append(
            {
                "text": _printable(data),
                "bytes": data.hex(),
                "byte_start": unit.byte_start,
                "byte_end": unit.byte_end,
                "kind": kind,
                "reason": NOT_EMITTED if kind == "outside" else "",
                "student_ids": student,
                "teacher_ids": teacher,
                "student_pieces": pieces(pair.student, student),
                "teacher_pieces": pieces(pair.teacher, teacher),
            }
        )
    return rows
