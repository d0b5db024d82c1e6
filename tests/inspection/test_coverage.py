"""The report and the segments of a pair, counted by hand on small text and for consistency on real text."""

from __future__ import annotations

import json
import re

import pytest
from tokenizers import AddedToken

from simct.errors import AlignmentError
from simct.inspection.coverage import KINDS, NOT_EMITTED, inspect_pair, show_units
from simct.inspection.records import PairReport
from simct.report.text import format_report
from simct.tokenization.pair import TokenizerPair
from simct.tokenization.reasons import TEACHER_CANNOT_SPELL
from tests.support import trained_tokenizers as trained
from tests.support import varied_texts as texts


@pytest.fixture(scope="module")
def pair() -> TokenizerPair:
    return TokenizerPair.from_pretrained(trained.sentencepiece_bpe("always"), trained.byte_level(500))


def test_shares_are_what_the_segments_count(pair):
    text = texts.source_code()[:6_000] + texts.LATEX
    report, rows = inspect_pair(pair, [text]), show_units(pair, text)
    assert "".join(bytes.fromhex(row.bytes).decode() for row in rows) == text
    student = sum(len(row.student_ids) for row in rows)
    teacher = sum(len(row.teacher_ids) for row in rows)
    shared = [row for row in rows if row.kind == "shared"]
    recovered = sum(len(row.student_ids) for row in rows if row.kind == "recovered")
    assert report.student_tokens == student
    assert report.student_strict_coverage == len(shared) / student > 0.2
    assert report.teacher_strict_coverage == len(shared) / teacher
    assert report.student_recovered_coverage == recovered / student > 0.1
    for row in rows:
        one_to_one = len(row.student_ids) == len(row.teacher_ids) == 1
        assert (row.kind == "recovered") is not one_to_one
        assert bool(row.reason) == (row.kind == "outside")
        assert pair.student.decode(row.student_ids).hex() == row.bytes == pair.teacher.decode(row.teacher_ids).hex()
    shapes = report.unit_shapes
    assert sum(shapes.values()) == len(rows)
    assert sum(int(shape.split("x")[0]) * n for shape, n in shapes.items()) == student
    assert sum(row.student_tokens for row in report.by_kind.values()) == student
    assert {"words", "whitespace", "punctuation", "latex"} <= report.by_kind.keys()


def test_the_most_frequent_disagreement_comes_first_with_both_spellings(pair):
    word = "zqxjv"
    report = inspect_pair(pair, [f"{word} " * 5, "nothing odd"], top=3)
    assert len(report.top_disagreements) <= 3
    counts = [row.count for row in report.top_disagreements]
    assert counts == sorted(counts, reverse=True)
    for row in report.top_disagreements:
        assert "".join(row.student_tokens) == "".join(row.teacher_tokens) == row.text
        assert bytes.fromhex(row.bytes).decode() == row.text


def test_kinds_of_text():
    pair = TokenizerPair.from_pretrained(trained.byte_level(), trained.byte_level(300))
    report = inspect_pair(pair, ["word 12 () 数学 \U0001f468\u200d\U0001f469 $x^2$ \\frac\n\n \x00"])
    assert set(report.by_kind) == set(KINDS)
    for row in report.by_kind.values():
        assert row.strict + row.recovered == row.student_tokens > 0


def test_left_out_texts_are_counted_by_reason_and_said():
    pair = TokenizerPair.from_pretrained(trained.unigram(fallback=False), trained.byte_level())
    report = inspect_pair(pair, ["plain", "rune ᚠ", "rune ᚢ"])
    assert report.excluded == {TEACHER_CANNOT_SPELL: 2}
    assert (report.texts, report.bytes) == (3, 5)
    assert TEACHER_CANNOT_SPELL in format_report(report)
    with pytest.raises(AlignmentError, match=TEACHER_CANNOT_SPELL):
        show_units(pair, "ᚠ")


def test_the_report_is_json_and_readable(pair):
    report = inspect_pair(pair, ["some text, 123", "\ud800 lone surrogate \x00"])
    assert PairReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
    printed = format_report(report)
    assert f"{report.shared_tokens:,}" in printed
    assert re.search(r"Left out +nothing", printed)


def test_no_text_at_all(pair):
    report = inspect_pair(pair, [])
    assert (report.student_strict_coverage, report.unit_shapes, report.texts) == (0.0, {}, 0)
    assert format_report(report)
    assert show_units(pair, "") == []


def test_a_one_to_one_unit_of_an_id_without_a_column_is_outside():
    student = trained.with_text_tokens([AddedToken(" self", special=False, single_word=True)])
    pair = TokenizerPair.from_pretrained(trained.byte_level(), student)
    own = student.convert_tokens_to_ids(" self")
    row = show_units(pair, ". self")[-1]
    assert (row.kind, row.student_ids) == ("shared", [own])  # the added token stands for these bytes
    row = next(row for row in show_units(pair, ". selfish") if row.text == " self")
    assert row.student_ids != [own]
    assert (row.kind, row.reason) == ("outside", NOT_EMITTED)
