"""Where two tokenizers disagree on real text, what exact matching loses there, and what SimCT recovers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from simct.alignment import AlignedUnits
from simct.errors import AlignmentError
from simct.token_bytes import TokenBytes
from simct.tokenizer_pair import TokenizerPair


def inspect_pair(pair: TokenizerPair, texts: Iterable[str], top: int = 20) -> dict:
    """Measure the pair on `texts`, both sides in their own canonical tokenization. Returns a JSON-able report."""
    shapes: Counter[tuple[int, int]] = Counter()
    disagreements: Counter[bytes] = Counter()
    excluded: Counter[str] = Counter()
    n_texts = n_bytes = 0
    teacher_total = student_total = strict = recovered = 0
    for text in texts:
        n_texts += 1
        data = text.encode("utf-8", "surrogatepass")
        try:
            teacher_ids, student_ids = pair.teacher.encode(data), pair.student.encode(data)
        except AlignmentError as error:
            excluded[str(error)] += 1
            continue
        n_bytes += len(data)
        units = pair.align(teacher_ids, student_ids)
        shared = _shared_units(pair, units, student_ids, teacher_ids)
        multi = (units.student_tokens > 1) | (units.teacher_tokens > 1)
        teacher_total += len(teacher_ids)
        student_total += len(student_ids)
        strict += int(shared.sum())
        recovered += int(units.student_tokens[multi].sum())
        shapes.update(zip(units.student_tokens.tolist(), units.teacher_tokens.tolist(), strict=True))
        for start, end in zip(units.byte_start[multi].tolist(), units.byte_end[multi].tolist(), strict=True):
            disagreements[data[start:end]] += 1
    return {
        "shared_tokens": pair.shared_tokens,
        "jaccard": pair.jaccard,
        "teacher_vocabulary": len(pair.teacher.bytes_of),
        "student_vocabulary": len(pair.student.bytes_of),
        "student_strict_coverage": strict / student_total if student_total else 0.0,
        "teacher_strict_coverage": strict / teacher_total if teacher_total else 0.0,
        "student_recovered_coverage": recovered / student_total if student_total else 0.0,
        "unit_shapes": {f"{s}x{t}": n for (s, t), n in shapes.most_common()},
        "top_disagreements": [_disagreement(pair, data, n) for data, n in disagreements.most_common(top)],
        "excluded": dict(excluded),
        "texts": n_texts,
        "bytes": n_bytes,
    }


def _shared_units(
    pair: TokenizerPair, units: AlignedUnits, student_ids: list[int], teacher_ids: list[int]
) -> np.ndarray:
    """bool [U]: units of one token on each side that are the same column of the shared vocabulary."""
    single = (units.student_tokens == 1) & (units.teacher_tokens == 1)
    student_column = pair.student_to_shared.numpy()[np.asarray(student_ids, np.int64)[units.student_start]]
    teacher_column = pair.teacher_to_shared.numpy()[np.asarray(teacher_ids, np.int64)[units.teacher_start]]
    return single & (student_column >= 0) & (student_column == teacher_column)


def _disagreement(pair: TokenizerPair, data: bytes, count: int) -> dict:
    return {
        "text": data.decode("utf-8", "backslashreplace"),
        "bytes": data.hex(),
        "student_tokens": _pieces(pair.student, pair.student.encode(data)),
        "teacher_tokens": _pieces(pair.teacher, pair.teacher.encode(data)),
        "count": count,
    }


def _pieces(tokens: TokenBytes, ids: Iterable[int]) -> list[str]:
    return [(tokens.bytes_of[i] or b"").decode("utf-8", "backslashreplace") for i in ids]


def format_report(report: dict) -> str:
    """The report as text for a terminal."""
    lines = [
        f"Shared tokens      {report['shared_tokens']:,} of {report['student_vocabulary']:,} student / "
        f"{report['teacher_vocabulary']:,} teacher (Jaccard {report['jaccard']:.2%})",
        f"Student tokens     {report['student_strict_coverage']:.2%} matched exactly, "
        f"{report['student_recovered_coverage']:.2%} more recovered by SimCT",
        f"Teacher tokens     {report['teacher_strict_coverage']:.2%} matched exactly",
        f"Text               {report['texts']:,} texts, {report['bytes']:,} bytes",
    ]
    if report["unit_shapes"]:
        shapes = ", ".join(f"{shape}: {n:,}" for shape, n in list(report["unit_shapes"].items())[:8])
        lines.append(f"Unit shapes        {shapes} (student x teacher tokens)")
    for reason, n in report["excluded"].items():
        lines.append(f"Excluded           {n:,}: {reason}")
    if report["top_disagreements"]:
        lines.append("Most frequent disagreements (student | teacher)")
        for row in report["top_disagreements"]:
            student, teacher = (" ".join(map(repr, row[f"{side}_tokens"])) for side in ("student", "teacher"))
            lines.append(f"  {row['count']:>6,}  {student} | {teacher}")
    return "\n".join(lines)


def segments(pair: TokenizerPair, text: str) -> list[dict]:
    """The units of `text` for display: text, bytes, kind (shared, recovered, outside), reason, ids and pieces."""
    data = text.encode("utf-8", "surrogatepass")
    teacher_ids, student_ids = pair.teacher.encode(data), pair.student.encode(data)
    units = pair.align(teacher_ids, student_ids)
    shared = _shared_units(pair, units, student_ids, teacher_ids)
    rows = []
    for unit, is_shared in zip(units, shared.tolist(), strict=True):
        student, teacher = (
            student_ids[unit.student_start : unit.student_end],
            teacher_ids[unit.teacher_start : unit.teacher_end],
        )
        kind = "shared" if is_shared else "recovered" if len(student) > 1 or len(teacher) > 1 else "outside"
        piece = data[unit.byte_start : unit.byte_end]
        rows.append(
            {
                "text": piece.decode("utf-8", "backslashreplace"),
                "bytes": piece.hex(),
                "kind": kind,
                "reason": "" if kind != "outside" else "one token on each side, but not the id its tokenizer emits",
                "student_ids": student,
                "teacher_ids": teacher,
                "student_pieces": _pieces(pair.student, student),
                "teacher_pieces": _pieces(pair.teacher, teacher),
            }
        )
    return rows
