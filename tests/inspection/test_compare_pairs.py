"""Pairs side by side: one broken pair is a row with its reason, and the order is what was asked for."""

import json

from simct.demo import PAIRS
from simct.inspection import compare_pairs as module
from simct.inspection.compare_pairs import compare_pairs, sort_rows
from simct.inspection.coverage import inspect_pair
from simct.inspection.records import PairRow, Reliability
from simct.report.formats import share
from simct.report.text import format_pairs
from simct.tokenization.pair import TokenizerPair

TEXTS = ["What is 12 plus 34? It is forty-six.", "Say it plainly: the adolescent should purchase documentation."]
DEFAULT, SPLITS = PAIRS["default"], PAIRS["student_splits"]


def test_students_of_a_teacher_with_one_that_is_broken(own_cache):
    got = []
    students = [str(SPLITS.student), "/no/such/folder", str(DEFAULT.student)]
    rows = compare_pairs([str(DEFAULT.teacher)], students, TEXTS, on_progress=lambda *step: got.append(step))
    assert [row.student for row in rows] == [str(DEFAULT.student), str(SPLITS.student), "/no/such/folder"]
    assert "no folder" in rows[-1].error and rows[-1].strict is None
    for row in rows[:2]:
        report = inspect_pair(TokenizerPair.from_pretrained(row.teacher, row.student), TEXTS)
        assert (row.strict, row.shared_tokens) == (report.student_strict_coverage, report.shared_tokens)
        assert row.error is row.verdict is None
    assert got == [(1, 3), (2, 3), (3, 3)]
    plain = [row.to_dict() for row in rows]
    assert json.loads(json.dumps(plain)) == plain and [PairRow.from_dict(row) for row in plain] == rows
    printed = format_pairs(rows)
    assert "no folder" in printed and share(rows[0].strict) in printed


def test_teachers_of_a_student_with_weights(own_cache):
    teachers = [str(SPLITS.teacher), str(DEFAULT.teacher)]
    known = {(teachers[1], str(DEFAULT.student)): Reliability(method="simct", verdict="Use simct. Known.")}
    rows = compare_pairs(
        teachers, [str(DEFAULT.student)], TEXTS, samples=4, prompts=str(SPLITS.prompts), sort="verdict", measured=known
    )
    assert [row.method for row in rows] == ["simct", "marginal"]
    assert rows[0].reliability is known[teachers[1], str(DEFAULT.student)] and rows[1].reliability.answers == 4
    assert rows[1].verdict in format_pairs(rows)


def test_a_defect_with_one_pair_is_a_row_too(own_cache, monkeypatch):
    def broken(pair, *arguments, **options):
        raise IndexError("a defect\nin two lines")

    monkeypatch.setattr(module, "inspect_corpus", broken)
    (row,) = compare_pairs([str(DEFAULT.teacher)], [str(DEFAULT.student)], TEXTS)
    assert row.error == "IndexError: a defect in two lines"


def test_a_stopped_comparison_has_the_rows_that_were_finished(own_cache):
    rows: list = []
    students = [str(DEFAULT.student), str(SPLITS.student)]
    rows = compare_pairs(
        [str(DEFAULT.teacher)], students, TEXTS, on_progress=lambda *_: rows.append(1), should_stop=lambda: bool(rows)
    )
    assert [row.student for row in rows] == [str(DEFAULT.student)]


def test_each_tokenizer_is_read_once(own_cache, monkeypatch):
    loaded = []
    load = module.load_tokens
    monkeypatch.setattr(module, "load_tokens", lambda name, *more: loaded.append(name) or load(name, *more))
    teachers, students = [str(DEFAULT.teacher), str(SPLITS.teacher)], [str(DEFAULT.student), str(SPLITS.student)]
    assert len(compare_pairs(teachers, students, TEXTS)) == 4
    assert sorted(loaded) == sorted(teachers + students)


def test_sorting():
    rows = [
        PairRow(
            teacher="t", student=name, strict=strict, jaccard=jaccard, method=method, error=error,
            reliability=Reliability(prefix_conflict_mass=conflict) if method else None,
        )
        for name, strict, jaccard, method, error, conflict in (
            ("a", 0.5, 0.9, "marginal", None, 0.2), ("b", 0.9, 0.1, "simct", None, 0.03), 
            ("c", None, None, None, "x", 0), ("d", 0.7, 0.5, "simct", None, 0.01), ("e", 0.8, 0.3, None, None, 0),
        )
    ]  # fmt: skip

    def order(by):
        return "".join(row.student for row in sort_rows(rows, by))

    assert (order("strict"), order("jaccard"), order("verdict")) == ("bedac", "adebc", "dbaec")
