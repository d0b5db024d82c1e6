"""The results of a run's evaluations: what was measured before training is not said of the student after it."""

import pytest

from simct.report.evaluations import MISSING, run_results
from simct.runs.folder import RunFolder
from tests.support.run_folders import evaluation_record, made_up_run


@pytest.fixture
def run(tmp_path) -> RunFolder:
    found = made_up_run(tmp_path, steps=40)
    (found.path / "evaluations.jsonl").unlink()
    found.append("evaluations.jsonl", evaluation_record(0, 40))
    return found


def test_an_evaluation_before_training_is_only_that(run):
    rows = [row for row in run_results(run).rows if row.name != "demo"]
    assert [row.name.split(",")[0] for row in rows] == ["Distance", "Distance", "demo"]
    assert all(row.before != MISSING for row in rows)
    assert {(row.best, row.after, row.change) for row in rows} == {(MISSING, MISSING, MISSING)}


def test_the_last_one_after_training_began_is_the_student_after(run):
    for step in (20, 40):
        run.append("evaluations.jsonl", evaluation_record(step, 40))
    rows = [row for row in run_results(run).rows if row.name != "demo"]
    assert all(MISSING not in (row.before, row.after, row.change) for row in rows)


def test_without_one_before_training_nothing_is_said_of_a_change(run):
    (run.path / "evaluations.jsonl").unlink()
    run.append("evaluations.jsonl", evaluation_record(20, 40))
    rows = [row for row in run_results(run).rows if row.name != "demo"]
    assert {(row.before, row.change) for row in rows} == {(MISSING, MISSING)}
    assert all(row.after != MISSING for row in rows)
