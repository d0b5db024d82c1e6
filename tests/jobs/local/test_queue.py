"""Runs take turns: one a device, fairly, in whatever order processes look, die and come back."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import OrderedDict
from dataclasses import replace

import pytest

from simct.config import save_config
from simct.errors import RunError
from simct.hub.redact import KEY_VARIABLE, RUN_KEY_VARIABLE
from simct.jobs import actions
from simct.jobs.local import job as local_job
from simct.jobs.local import process, queue
from simct.jobs.local.supervise import end_log
from simct.models import server_keys
from simct.models.server_keys import keep_key
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses
from tests.support.stand_in_runs import all_over, most_at_once, new, turns, weights_after
from tests.support.waiting import until


def test_one_run_at_a_time_and_the_owners_take_turns(runs_dir):
    runs = [new(runs_dir, owner) for owner in "aaabbc"]
    for run in runs:
        queue.submit(run)
    assert runs[0].status().state == "queued" and queue.position(runs[0]) is None  # it has the device
    assert [queue.position(run) for run in runs[1:]] == [3, 5, 1, 4, 2]
    assert "Place 3 of 5" in queue.waiting_reason(runs[1], runs[1].status())
    assert runs[0].id in queue.waiting_reason(runs[1], runs[1].status())
    # nobody looks on: each run starts the next one when it ends
    until(lambda: all(run.status().state == "finished" for run in runs))
    assert [got["owner"] for got in turns(runs_dir)] == list("abcaba")
    assert most_at_once(runs_dir) <= 1


def test_each_gpu_is_a_device_and_a_run_sees_its_own_only(runs_dir, monkeypatch):
    monkeypatch.setenv("SIMCT_DEVICES", "0,GPU-b")
    ones = [new(runs_dir, seconds=seconds) for seconds in (0.1, 0.3)]
    both, last = new(runs_dir), new(runs_dir)
    for run, gpus in ((ones[0], None), (ones[1], 1), (both, 2), (last, None)):
        queue.submit(run, gpus=gpus)
    assert queue.position(both) == 1
    all_over(runs_dir)
    visible = {got["run"]: got["visible"] for got in turns(runs_dir)}
    assert {visible[ones[0].id], visible[ones[1].id]} == {"0", "GPU-b"} and visible[both.id] == "0,GPU-b"
    assert [got["run"] for got in turns(runs_dir)].index(both.id) == 2  # not passed by, though one GPU was free first
    assert most_at_once(runs_dir) <= 2
    with pytest.raises(RunError, match="asks for 3 GPUs; this machine has 2"):
        queue.submit(new(runs_dir), gpus=3)


def test_the_queue_is_bounded_for_each_and_for_all(runs_dir, monkeypatch):
    monkeypatch.setattr(queue, "MAX_WAITING_PER_OWNER", 2)
    monkeypatch.setattr(queue, "MAX_WAITING", 3)
    for owner in ("a", "a", "a"):
        queue.submit(new(runs_dir, owner, steps=100))
    refused = new(runs_dir, "a")
    with pytest.raises(RunError, match="already have 2 runs waiting"):
        queue.submit(refused)
    local_job.withdraw(refused)
    queue.submit(new(runs_dir, "b"))
    with pytest.raises(RunError, match="queue is full: 3 runs are waiting"):
        queue.submit(new(runs_dir, "c"))


def test_what_waits_can_be_taken_back_and_never_starts(runs_dir):
    first, second, third = (new(runs_dir) for _ in range(3))
    for run in (first, second, third):
        queue.submit(run)
    assert local_job.stop(second).message == "Stopped before it started"
    assert local_job.kill(third).state == "stopped"
    all_over(runs_dir)
    assert [got["run"] for got in turns(runs_dir)] == [first.id]
    with pytest.raises(RunError, match="no longer waiting"):
        local_job.launch(second, queue_devices=["cpu"])
    queue.submit(second, resume=True)
    all_over(runs_dir)
    assert second.status().state == "finished"


def test_stopped_and_resumed_it_comes_to_the_same_end(runs_dir):
    run = new(runs_dir, steps=40)
    queue.submit(run)
    until(lambda: run.status().step >= 5)
    with pytest.raises(RunError, match="already running"):
        queue.submit(run, resume=True)
    with pytest.raises(RunError, match="already running"):
        local_job.launch(run)
    local_job.stop(run)
    until(lambda: local_job.refresh(run).state == "stopped")
    assert run.latest_checkpoint().name == f"step-{run.status().step}"
    queue.submit(run, resume=True)
    all_over(runs_dir)
    assert (run.model_dir / "weights").read_text() == weights_after(40)
    assert len(turns(runs_dir)) == 2


DIES = """
import os, subprocess, sys
from pathlib import Path
from simct.jobs.local import process, queue
from simct.jobs.local.supervise import end_log
from simct.runs.folder import RunFolder
start = subprocess.Popen
def die(*arguments, **options):
    if sys.argv[2] == "after":
        start(*arguments, **options)
    os._exit(9)
subprocess.Popen = die
queue.submit(RunFolder(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_starts_a_run_may_die_at_it(runs_dir, moment):
    run = new(runs_dir)
    died = subprocess.run([sys.executable, "-c", DIES, str(run.path), moment], timeout=60)
    assert died.returncode == 9
    all_over(runs_dir)
    assert run.status().state == "finished" and len(turns(runs_dir)) == 1


def test_a_run_outlives_its_supervisor_and_keeps_its_device(runs_dir):
    first, second = new(runs_dir, steps=60), new(runs_dir)
    queue.submit(first)
    queue.submit(second)
    until(lambda: first.status().state == "running")
    os.kill(first.status().group, signal.SIGKILL)
    until(lambda: not local_job.is_locked(first))
    queue.advance(runs_dir)
    assert first.status().state == "running" and len(turns(runs_dir)) == 1
    all_over(runs_dir)
    assert first.status().state == second.status().state == "finished"
    assert most_at_once(runs_dir) <= 1


def test_a_supervisor_killed_while_its_trainer_starts_never_leads_to_two_runs_on_one_device(runs_dir, monkeypatch):
    monkeypatch.setenv("SIMCT_STAND_IN_LOADS", "2")
    first, second = new(runs_dir), new(runs_dir)
    queue.submit(first)
    queue.submit(second)
    until(lambda: len(process.group_members(first.status().group)) == 2)
    os.kill(first.status().group, signal.SIGKILL)
    until(lambda: not local_job.is_locked(first))
    queue.advance(runs_dir)
    assert first.status().state == second.status().state == "queued" and second.status().waiting
    with pytest.raises(RunError, match="already"):
        local_job.launch(first)
    all_over(runs_dir)
    assert first.status().state == second.status().state == "finished"
    assert most_at_once(runs_dir) <= 1


def test_a_killed_run_makes_room_and_says_so(runs_dir):
    first, second = new(runs_dir, steps=1000), new(runs_dir)
    queue.submit(first)
    queue.submit(second)
    until(lambda: first.status().state == "running" and first.latest_checkpoint())
    os.killpg(first.status().group, signal.SIGKILL)  # as the kernel would, without telling the run
    all_over(runs_dir)
    got = first.status()
    assert got.state == "failed" and "killed, or out of memory" in got.error and "resumed" in got.error
    assert second.status().state == "finished"


def test_a_process_that_does_not_come_up_is_not_tried_for_ever(runs_dir, monkeypatch):
    run = new(runs_dir)
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: start(["false"], **options))
    queue.submit(run)
    for _ in range(100):
        queue.advance(runs_dir)
        time.sleep(0.02)
    assert run.status().state == "failed" and "did not start in 3 tries" in run.status().error


def test_a_lent_token_stays_in_memory_and_goes_to_its_own_run_only(runs_dir, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    first, theirs, ours = new(runs_dir, "ann"), new(runs_dir, "bob"), new(runs_dir)
    queue.submit(first, token="hf_lentbyann")
    queue.submit(theirs, token="hf_lentbybob")
    queue.submit(ours)
    queue._tokens.pop(theirs.path)  # as if the studio had been started anew
    # passes by the one whose token is not there
    until(lambda: (queue.advance(runs_dir), ours.status().state == "finished")[1])
    assert "until its owner opens the studio" in queue.waiting_reason(theirs, theirs.status())
    queue.provide_token(theirs, "hf_lentagain")
    all_over(runs_dir)
    assert {got["owner"]: got["token"] for got in turns(runs_dir)} == {
        "ann": "hf_lentbyann", "bob": "hf_lentagain", None: None
    }  # fmt: skip
    for path in runs_dir.rglob("*"):
        if path.is_file() and path.name != ".turns.jsonl":
            assert b"hf_lent" not in path.read_bytes(), path


def test_the_key_of_a_server_goes_to_its_run_only_and_is_written_nowhere(runs_dir, monkeypatch):
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    address, key = "https://teacher.example.com", "a-key-for-tests"
    keep_key(None, address, key)
    started = {}
    popen = subprocess.Popen

    def watched(command, **options):
        started[command[-1]] = (command, options["env"])
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", watched)
    served, other = new(runs_dir), new(runs_dir)
    described = served.config()
    described.teacher.server = address
    save_config(described, served.path / "run.yaml")
    for run in (served, other):
        queue.submit(run)
    assert served.status().lent and not other.status().lent
    until(lambda: (queue.advance(runs_dir), other.status().state == "finished")[1])
    [(command, environment)] = [each for path, each in started.items() if served.id in path]
    assert environment[RUN_KEY_VARIABLE] == key
    # which starts no other run, as that would inherit the key
    assert "--from-queue" not in command
    [(_, environment)] = [each for path, each in started.items() if other.id in path]
    assert RUN_KEY_VARIABLE not in environment
    for path in runs_dir.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_a_run_waits_for_the_key_that_a_restart_has_forgotten(runs_dir, monkeypatch):
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())
    keep_key(None, "https://teacher.example.com", "a-key-for-tests")
    run = new(runs_dir)
    described = run.config()
    described.teacher.server = "https://teacher.example.com"
    save_config(described, run.path / "run.yaml")
    monkeypatch.setattr(queue, "devices", lambda: ())
    queue.submit(run)
    queue._tokens.pop(run.path)
    server_keys._keys.clear()
    assert "token or key" in queue.waiting_reason(run, run.status())
    keep_key(None, "https://teacher.example.com", "a-key-for-tests")
    assert "token or key" not in queue.waiting_reason(run, run.status())
    local_job.withdraw(run)


LOOKS = """
import random, sys, time
from simct.jobs.local import process, queue
from simct.jobs.local.supervise import end_log
from tests.support.stand_in_runs import new
runs_dir, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
for _ in range(count):
    queue.submit(new(runs_dir, owner=f"owner-{seed % 3}", steps=2, seconds=0.001))
    time.sleep(chance.random() / 20)
while True:
    queue.advance(runs_dir)
    time.sleep(chance.random() / 50)
"""


def test_nothing_is_lost_or_started_twice_when_many_processes_look_and_are_killed(runs_dir):
    """Five processes submit and advance at once; each is killed at a moment of a seeded generator and another takes its
    place. Whatever got a status.json is finished in the end, after one start."""
    chance = random.Random(7)

    def looker(seed: int, count: int) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", LOOKS, str(runs_dir), str(seed), str(count)])

    lookers = [looker(seed, 4) for seed in range(5)]
    try:
        until(lambda: len(list_statuses(runs_dir)) >= 3)
        for seed in range(5, 11):
            time.sleep(chance.random() / 3)
            victim = lookers.pop(chance.randrange(len(lookers)))
            victim.kill()
            victim.wait()
            lookers.append(looker(seed, 1))
        time.sleep(0.5)
    finally:
        for process in lookers:
            process.kill()
            process.wait()
    all_over(runs_dir, 90)
    runs = [run for run, _ in list_statuses(runs_dir)]
    assert len(runs) >= 8
    assert {got.state for _, got in list_statuses(runs_dir)} == {"finished"}
    assert sorted(got["run"] for got in turns(runs_dir)) == sorted(run.id for run in runs)
    assert {(run.model_dir / "weights").read_text() for run in runs} == {weights_after(2)}
    assert most_at_once(runs_dir) <= 1


def test_a_thousand_runs_cost_one_look_each_and_are_read_once(tmp_path, monkeypatch):
    from simct.runs import listing

    for number in range(1000):
        folder = tmp_path / f"run-{number:04}"
        folder.mkdir()
        (folder / "status.json").write_text(f'{{"state": "finished", "created_at": {number}}}')
    reads = []
    read = listing.read_status
    monkeypatch.setattr(listing, "read_status", lambda path: reads.append(path) or read(path))
    assert [run.id for run, _ in list_statuses(tmp_path)[:2]] == ["run-0999", "run-0998"]
    assert len(reads) == 1000
    list_statuses(tmp_path)
    assert queue.advance(tmp_path) == []  # looks no further where nothing is active
    assert len(reads) == 1000
    RunFolder(tmp_path / "run-0500").set_status(message="news")
    reads.clear()
    assert dict((run.id, got) for run, got in list_statuses(tmp_path))["run-0500"].message == "news"
    assert len(reads) == 1


def test_long_silence_is_reported_and_a_run_of_another_machine_is_judged_by_it(runs_dir):
    run = new(runs_dir)
    run.set_status(state="running", queued_at=None, started_at=1.0, host="elsewhere", pid=1)
    assert local_job.refresh(run).state == "running" and local_job.silence(run, run.status()) is None
    got = replace(run.status(), heartbeat=time.time() - 400)
    assert local_job.silence(run, got) == pytest.approx(400, abs=5)
    run.append("metrics.jsonl", {"step": 1, "loss": 1.0, "seconds": 100.0})
    assert local_job.silence(run, got) is None  # its steps are that long
    (run.path / "status.json").write_text((run.path / "status.json").read_text().replace(
        str(run.status().heartbeat), str(time.time() - local_job.ELSEWHERE_SECONDS - 1)
    ))  # fmt: skip
    assert local_job.refresh(run).state == "failed"


def test_a_waiting_run_starts_with_the_token_of_the_latest_sign_in(runs_dir, monkeypatch):
    monkeypatch.setattr(queue, "devices", lambda: ())
    run, keyed = new(runs_dir, "ann"), new(runs_dir, "bob")
    queue.submit(run, token="hf_expired")
    queue.provide_token(run, "hf_latest")
    assert queue._tokens[run.path] == "hf_latest"
    # it was queued with only the key of a server, and gets no token
    keyed.set_status(lent=True)
    monkeypatch.setitem(queue._tokens, keyed.path, None)
    queue.provide_token(keyed, "hf_other")
    assert queue._tokens[keyed.path] is None


def test_the_token_of_a_run_that_no_longer_waits_is_forgotten(runs_dir, monkeypatch):
    monkeypatch.setattr(queue, "devices", lambda: ())
    stopped, waiting = new(runs_dir, "ann"), new(runs_dir, "ann")
    for run in (stopped, waiting):
        queue.submit(run, token="hf_lent")
    local_job.withdraw(stopped)
    queue.advance(runs_dir)
    assert waiting.path in queue._tokens and stopped.path not in queue._tokens
    local_job.withdraw(waiting)
    waiting.delete()
    queue.advance(runs_dir)
    assert waiting.path not in queue._tokens


def test_the_reason_for_a_failure_holds_no_token(runs_dir):
    run = new(runs_dir)
    run.log_path.write_text("HTTPError: refused for hf_abcdefghijklmnopqrstuvwx\n")
    assert local_job.last_error(run) == "HTTPError: refused for hf_…"


LAUNCHER = """Traceback (most recent call last):
  File "torch/distributed/launcher/api.py", line 383, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
simct.train FAILED
"""


def test_the_log_of_several_processes_ends_with_the_reason_and_not_with_the_launcher_s_own(runs_dir, capsys):
    run = new(runs_dir)
    run.log_path.write_text(f"step 1/9\n{LAUNCHER}")
    assert local_job.last_error(run) is None  # they were killed
    run.log_path.write_text(f"ValueError: too long\n{LAUNCHER}")
    assert local_job.last_error(run) == "ValueError: too long"
    end_log(run, run.set_status(state="failed", error="The disk is full."))
    assert capsys.readouterr().out == "The disk is full.\n"
    run.log_path.write_text("step 1/9\nThe disk is full.\n")
    end_log(run, run.status())
    end_log(run, run.set_status(state="stopped"))
    assert not capsys.readouterr().out


def test_a_run_that_finishes_while_it_is_being_stopped_stays_finished(runs_dir, monkeypatch):
    run = new(runs_dir)
    trainer = subprocess.Popen(["sleep", "60"])
    started = process.start_time(trainer.pid)
    run.set_status(state="running", queued_at=None, pid=trainer.pid, pid_started=started)

    def finish(run):
        found = run.status()
        run.set_status(state="finished", message="Finished")
        return found

    monkeypatch.setattr(local_job, "_started", finish)
    assert "just ended" in actions.stop(run)
    assert (run.status().state, run.status().message) == ("finished", "Finished") and trainer.poll() is None
    trainer.kill()
    trainer.wait()
