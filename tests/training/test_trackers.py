"""Experiment trackers, where they are installed: each receives what metrics.jsonl has, under the run's own name."""

import json
import sqlite3

import pytest

from simct import demo
from simct.config import config_from_dict
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from tests.support.waiting import until


def new_run(runs_dir, tracker, steps):
    settings = {
        "teacher": str(demo.TEACHER),
        "student": str(demo.STUDENT),
        "data": {"prompts": str(demo.PROMPTS), "limit": 32},
        "rollout": {"max_new_tokens": 12},
        "training": {"steps": steps, "batch_size": 4, "checkpoint_every": 2, "tracker": tracker},
    }
    return RunFolder.create(runs_dir, config_from_dict(settings))


def test_tensorboard_receives_every_step(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = new_run(tmp_path, "tensorboard", 3)
    local_job.launch(run)
    assert local_job.wait(run, timeout=180).state == "finished", run.log_tail()
    (folder,) = {path.parent for path in run.path.glob("simct/*tfevents*")}
    logged = EventAccumulator(str(folder)).Reload()
    for name in ("loss", "kl_shared", "response_length"):
        expected = [(record["step"], pytest.approx(record[name])) for record in run.metrics()]
        assert [(event.step, event.value) for event in logged.Scalars(name)] == expected


@pytest.mark.long
def test_a_resumed_run_continues_under_its_name_in_trackio(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run = new_run(tmp_path, "trackio", 60)
    local_job.launch(run)
    until(lambda: len(run.metrics()) >= 3 or run.status().state not in ("queued", "running"), 300, 0.1)
    assert len(run.metrics()) >= 3, run.log_tail()
    local_job.stop(run)
    assert local_job.wait(run, timeout=60).state == "stopped", run.log_tail()
    stopped_at = run.status().step
    local_job.launch(run, resume=True)
    assert local_job.wait(run, timeout=180).state == "finished", run.log_tail()
    with sqlite3.connect(tmp_path / "trackio" / "simct.db") as database:
        rows = database.execute("SELECT run_name, run_id, step, metrics FROM metrics ORDER BY step").fetchall()
    assert {name for name, *_ in rows} == {run.id} and len({each for _, each, *_ in rows}) == 1
    # beside the steps, what was evaluated along the way
    losses = {step: json.loads(metrics)["loss"] for *_, step, metrics in rows if "loss" in json.loads(metrics)}
    assert 3 <= stopped_at < 60 and list(losses) == list(range(1, 61))
    assert list(losses.values()) == pytest.approx([record["loss"] for record in run.metrics()])
