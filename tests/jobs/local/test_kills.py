"""The studio and the runs are killed, with real signals at moments of a seeded generator, and nothing is lost.

Training is stood in for by tests/support/stand_in, but for the last test, which trains.
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from simct.config import config_from_dict
from simct.jobs import actions
from simct.jobs.local import job as local_job
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from tests.support.random_pair import save_pair
from tests.support.stand_in_runs import all_over, new, turns, weights_after
from tests.support.waiting import until

STUDIO = """
import sys, time
from pathlib import Path
from app.server.studio import Studio
Studio(Path(sys.argv[1]), public=False).background.start()
time.sleep(600)
"""


@pytest.fixture
def runs_dir(runs_dir, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return runs_dir


@pytest.mark.long
def test_the_studio_is_killed_again_and_again_and_no_run_notices(runs_dir):
    """What the studio does behind its pages, in a process that is killed at random moments while runs continue."""
    chance = random.Random(11)

    def studio() -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", STUDIO, str(runs_dir)])

    runs = [new(runs_dir, owner, steps=30, seed=number) for number, owner in enumerate("aabbcc")]
    process = studio()
    try:
        for run in runs:
            queue.submit(run)
        for _ in range(2):
            time.sleep(2 + 2 * chance.random())
            process.kill()
            process.wait()
            process = studio()
        # now runs are killed as well, which the last studio notices, and the next ones start
        until(lambda: any(run.status().state == "running" for run in runs) or not active(runs))
        for run in runs:
            if run.status().state == "running":
                os.killpg(run.status().group, signal.SIGKILL)
        until(lambda: not active(runs), 90)
    finally:
        process.kill()
        process.wait()
    for run in runs:
        if run.status().state != "finished":
            assert "killed" in run.status().error
            actions.resume(run)
    all_over(runs_dir)
    for number, run in enumerate(runs):
        assert run.status().state == "finished"
        assert (run.model_dir / "weights").read_text() == weights_after(30, seed=number)


def active(runs: list[RunFolder]) -> list[RunFolder]:
    return [run for run in runs if run.status().active]


def test_a_run_killed_at_any_moment_is_reported_and_resumes_to_the_same_end(runs_dir):
    """Every process of the run, the supervisor alone, or the trainer alone, while it starts, trains or checkpoints."""
    chance = random.Random(5)
    run = new(runs_dir, steps=400, seconds=0.005)
    queue.submit(run)
    kills = 0
    while run.status().state != "finished" and kills < 6:
        time.sleep(0.1 + chance.random() / 2)
        got = run.status()
        victim = chance.choice(["group", "supervisor", "trainer"] if local_job.is_locked(run) else ["trainer"])
        if got.state == "finished" or not got.group or not got.pid:
            continue
        try:
            if victim == "group":
                os.killpg(got.group, signal.SIGKILL)
            else:
                os.kill(got.group if victim == "supervisor" else got.pid, signal.SIGKILL)
            kills += 1
        except ProcessLookupError:
            continue
        if victim == "supervisor" or (victim == "trainer" and got.pid == got.group):
            continue  # the trainer continues
        got = until(lambda: (s := local_job.refresh(run)).state not in ("queued", "running") and s)
        if got.state == "failed":
            assert got.error, got
            queue.submit(run, resume=True)
    assert kills >= 3
    all_over(runs_dir)
    if run.status().state == "failed":
        queue.submit(run, resume=True)
        all_over(runs_dir)
    assert run.status().state == "finished"
    assert (run.model_dir / "weights").read_text() == weights_after(400)
    steps = [record["step"] for record in run.metrics()]
    assert steps == list(range(1, 401))
    assert {got["run"] for got in turns(runs_dir)} == {run.id}


@pytest.mark.long
def test_training_killed_twice_at_random_moments_ends_with_the_same_weights(tmp_path, monkeypatch):
    """The real trainer, through the queue."""
    monkeypatch.setenv("SIMCT_DEVICES", "cpu")
    chance = random.Random(3)
    teacher, student = save_pair(tmp_path / "models")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(f'{{"prompt": "the {n} and {n + 1}"}}' for n in range(8)))

    def config():
        return config_from_dict(
            {
                "teacher": teacher,
                "student": student,
                "data": {"prompts": str(prompts)},
                "rollout": {"max_new_tokens": 8, "temperature": 1.0},
                "training": {"steps": 40, "batch_size": 4, "micro_batch_size": 4, "checkpoint_every": 3,
                             "learning_rate": 1e-3},
            }
        )  # fmt: skip

    straight = actions.start_here(tmp_path / "runs", config())
    killed = actions.start_here(tmp_path / "runs", config())
    for _ in range(2):
        step = until(lambda: killed.status().state == "running" and killed.status().step, 120)
        until(lambda step=step: killed.status().step >= min(step + chance.randint(1, 8), 38), 120)
        time.sleep(chance.random() / 10)
        os.killpg(killed.status().group, signal.SIGKILL)
        assert local_job.wait(killed, timeout=30).state == "failed"
        actions.resume(killed)
    for run in (straight, killed):
        assert local_job.wait(run, timeout=180).state == "finished", run.log_tail()
    expected, found = (load_file(run.model_dir / "model.safetensors") for run in (straight, killed))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert [record["loss"] for record in killed.metrics()] == [record["loss"] for record in straight.metrics()]
