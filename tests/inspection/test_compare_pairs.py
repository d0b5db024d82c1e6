"""Pairs side by side: one broken pair is a row with its reason, and the order is what was asked for."""

import json

import pytest

from simct.demo import PAIRS
from simct.inspection import compare_pairs as module
from simct.inspection.compare_pairs import compare_pairs, sort_rows, split_revision
from simct.inspection.coverage import inspect_pair
from simct.report.text import format_comparison
from simct.tokenization.pair import TokenizerPair

TEXTS = ["What is 12 plus 34? It is forty-six.", "Say it plainly: the adolescent should purchase documentation."]
DEFAULT, SPLITS = PAIRS["default"], PAIRS["student_splits"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMCT_CACHE", str(tmp_path))
    return tmp_path


def test_students_of_a_teacher_with_one_that_is_broken(folder):
    told = []
    students = [str(SPLITS.student), "/no/such/folder", str(DEFAULT.student)]
    rows = compare_pairs([str(DEFAULT.teacher)], students, TEXTS, on_progress=lambda *step: told.append(step))
    assert [row["student"] for row in rows] == [str(DEFAULT.student), str(SPLITS.student), "/no/such/folder"]
    assert "no folder" in rows[-1]["error"] and rows[-1]["strict"] is None
    for row in rows[:2]:
        report = inspect_pair(TokenizerPair.from_pretrained(row["teacher"], row["student"]), TEXTS)
        assert (row["strict"], row["shared_tokens"]) == (report["student_strict_coverage"], report["shared_tokens"])
        assert row["error"] is row["verdict"] is None
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(json.dumps(rows)) == rows
    printed = format_comparison(rows)
    assert "no folder" in printed and f"{rows[0]['strict']:.2%}" in printed


def test_teachers_of_a_student_with_weights(folder):
    teachers = [str(SPLITS.teacher), str(DEFAULT.teacher)]
    known = {(teachers[1], str(DEFAULT.student)): {"method": "simct", "verdict": "Use simct. Known.", "marked": 1}}
    rows = compare_pairs(
        teachers, [str(DEFAULT.student)], TEXTS, samples=4, prompts=str(SPLITS.prompts), sort="verdict", measured=known
    )
    assert [row["method"] for row in rows] == ["simct", "marginal"]
    assert rows[0]["reliability"]["marked"] == 1 and rows[1]["reliability"]["answers"] == 4
    assert rows[1]["verdict"] in format_comparison(rows)


def test_a_defect_with_one_pair_is_a_row_too(folder, monkeypatch):
    def broken(pair, *arguments, **options):
        raise IndexError("a defect\nin two lines")

    monkeypatch.setattr(module, "inspect_corpus", broken)
    (row,) = compare_pairs([str(DEFAULT.teacher)], [str(DEFAULT.student)], TEXTS)
    assert row["error"] == "IndexError: a defect in two lines"


def test_a_stopped_comparison_has_the_rows_that_were_finished(folder):
    rows: list = []
    students = [str(DEFAULT.student), str(SPLITS.student)]
    rows = compare_pairs(
        [str(DEFAULT.teacher)], students, TEXTS, on_progress=lambda *_: rows.append(1), should_stop=lambda: bool(rows)
    )
    assert [row["student"] for row in rows] == [str(DEFAULT.student)]


def test_each_tokenizer_is_read_once(folder, monkeypatch):
    loaded = []
    load = module.load_tokens
    monkeypatch.setattr(module, "load_tokens", lambda name, *more: loaded.append(name) or load(name, *more))
    teachers, students = [str(DEFAULT.teacher), str(SPLITS.teacher)], [str(DEFAULT.student), str(SPLITS.student)]
    assert len(compare_pairs(teachers, students, TEXTS)) == 4
    assert sorted(loaded) == sorted(teachers + students)


def test_sorting():
    rows = [
        {"student": name, "strict": strict, "jaccard": jaccard, "method": method, "error": error,
         "reliability": {"prefix_conflict_mass": conflict}}
        for name, strict, jaccard, method, error, conflict in (
            ("a", 0.5, 0.9, "marginal", None, 0.2), ("b", 0.9, 0.1, "simct", None, 0.03), 
            ("c", None, None, None, "x", 0), ("d", 0.7, 0.5, "simct", None, 0.01), ("e", 0.8, 0.3, None, None, 0),
        )
    ]  # fmt: skip

    def order(by):
        return "".join(row["student"] for row in sort_rows(rows, by))

    assert (order("strict"), order("jaccard"), order("verdict")) == ("bedac", "adebc", "dbaec")


def test_names_with_revisions(tmp_path):
    assert split_revision("org/model@main") == ("org/model", "main")
    assert split_revision("org/model") == ("org/model", None)
    (tmp_path / "me@home").mkdir()
    assert split_revision(str(tmp_path / "me@home")) == (str(tmp_path / "me@home"), None)
