"""Stages of a run: what is written of them, how often, and how they read."""

import pytest

from simct.report.progress import progress_line
from simct.runs import progress
from simct.runs.progress import Progress, Reporter
from simct.runs.status import RunStatus
from tests.support.stand_in_runs import new


@pytest.fixture
def run(tmp_path):
    found = new(tmp_path)
    found.set_status(state="running", queued_at=None)
    return found


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_a_stage_is_written_at_once_and_then_once_a_second_and_at_its_end(run, clock, monkeypatch):
    writes = []
    monkeypatch.setattr(type(run), "set_status", lambda self, **fields: writes.append(fields))
    reporter = Reporter(run)
    reporter.stage("Scoring the student", 1000, "prompts")
    for done in range(1, 1001):
        clock.now += 0.01
        reporter.update(done)
    assert writes[0]["message"] == "Scoring the student" and writes[0]["progress"]["done"] == 0
    done = [each["progress"]["done"] for each in writes[1:]]
    assert 9 <= len(done) <= 11 and done[-1] == 1000 and done == sorted(done)
    assert all("message" not in each for each in writes[1:])


def test_other_processes_write_nothing(run):
    Reporter(run, writing=False).stage("Loading", 3)
    assert run.status().progress is None and Progress.of(run.status()) is None


def test_a_stage_reads_with_rate_and_time_left(run, clock):
    reporter = Reporter(run)
    reporter.stage("Downloading the teacher", 5_000_000_000, "bytes")
    assert progress_line(run.status()) == "Downloading the teacher: 0 B of 5.0 GB"
    clock.now += 10
    reporter.update(1_000_000_000)
    line = "Downloading the teacher: 1.0 GB of 5.0 GB, 100 MB/s, about 40 s left"
    assert progress_line(run.status()) == line
    reporter.stage("The teacher is answering", 400, "answers", start=300)
    clock.now += 20
    reporter.update(320)
    assert progress_line(run.status()) == "The teacher is answering: 320 of 400 answers, about 1 min 20 s left"
    reporter.stage("Loading the student")
    assert progress_line(run.status()) == "Loading the student"
    run.set_status(state="failed", error="No memory.")
    assert progress_line(run.status()) == ""


@pytest.mark.parametrize(
    "record",
    [{}, {"text": 3, "seconds": 1}, {"text": "x"}, {"text": "x", "seconds": "1"}, {"text": None, "seconds": 1.0}],
)
def test_damaged_stages_are_not_shown(record):
    assert progress_line(RunStatus("running", progress=record)) == ""


def test_odd_numbers_are_left_out():
    odd = {"text": "x", "seconds": 5.0, "done": -1, "total": "many", "unit": 3, "start": None}
    assert Progress.of(RunStatus("running", progress=odd)) == Progress("x", 0, None, "", 5.0, 0)
