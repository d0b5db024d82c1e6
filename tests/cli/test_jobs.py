"""`simct jobs`, and where `simct distill` starts runs. Training is stood in for by stand_in; checks are real."""

import json

import pytest

from simct.cli.common import FollowedLog
from simct.cli.jobs import message_line, time_limit
from simct.cli.main import main
from simct.hub import retry as hf_retry
from simct.jobs.hf import job as hf_job
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.listing import open_run
from simct.runs.progress import Reporter
from tests.support.commands import refused
from tests.support.random_pair import save_pair
from tests.support.run_folders import runs_in
from tests.support.stand_in_runs import BOOTSTRAP, all_over, new, turns, weights_after
from tests.support.waiting import until


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    (folder / "prompts.jsonl").write_text('{"prompt": "the cat"}\n{"prompt": "a 12"}\n')
    teacher, student = save_pair(folder)
    named = ["--teacher", teacher, "--student", student, "--prompts", str(folder / "prompts.jsonl")]
    return [*named, "--set", "rollout.max_new_tokens=8"]  # the models read 128 tokens


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setattr(hf_job, "PUSH_SECONDS", 0.3)
    monkeypatch.setattr(hf_job, "BOOTSTRAP", BOOTSTRAP)
    return hub


def call(capsys, *arguments) -> str:
    """What the command prints; it must succeed."""
    assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_a_second_run_waits_tells_its_place_and_is_followed(pair, runs_dir, capsys):
    quick = ["--set", "training.learning_rate=0.05", "--runs", runs_dir]
    got = call(capsys, "distill", *pair, *quick, "--steps", "20", "--detach")
    assert "run folder" in got and "it starts" not in got
    first = runs_in(runs_dir)[0]
    got = call(capsys, "distill", *pair, *quick, "--steps", "3", "--detach")
    assert f"it starts when its turn comes (next in line, behind {first.id})" in got
    got = call(capsys, "distill", *pair, *quick, "--steps", "2")
    assert "Next in line" in got or "Place 2 of 2 in line" in got
    assert "step 2/2" in got and got.strip().endswith(f"({runs_in(runs_dir)[0].path})") and "finished" in got
    assert {run.status().state for run in runs_in(runs_dir)} == {"finished"}
    assert [each["run"] for each in turns(runs_dir)] == [run.id for run in reversed(runs_in(runs_dir))]


def test_every_action_on_a_run(runs_dir, capsys):
    run, behind = new(runs_dir, steps=200, seconds=0.01), new(runs_dir)
    queue.submit(run)
    queue.submit(behind)
    at = ["--runs", runs_dir]
    listed = json.loads(call(capsys, "jobs", *at, "--json"))
    assert {each["id"]: each["place"] for each in listed} == {run.id: None, behind.id: 1}
    assert "Next in line" in call(capsys, "jobs", *at, "--state", "queued")
    assert "queued" in refused(capsys, "jobs", "delete", behind.id, *at)
    assert "Removed from the queue" in call(capsys, "jobs", "stop", behind.id, *at)
    until(lambda: run.status().step >= 3)
    assert "step 3/200" in call(capsys, "jobs", "log", run.id, *at)
    assert call(capsys, "jobs", "log", run.id, "--lines", 1, *at).count("\n") == 1
    assert "already running" in refused(capsys, "jobs", "resume", run.id, *at)
    assert "stopping" in call(capsys, "jobs", "stop", run.id, *at)
    assert "Stopped after step" in call(capsys, "jobs", "watch", run.id, *at)
    assert "nothing to stop" in refused(capsys, "jobs", "stop", run.id, *at)
    assert "from its last checkpoint" in call(capsys, "jobs", "resume", run.id, *at)
    until(lambda: run.status().state == "running")
    assert "Ended immediately. Its last checkpoint" in call(capsys, "jobs", "kill", run.id, *at)
    assert "from the start: there is no checkpoint" in call(capsys, "jobs", "resume", behind.id, *at)
    assert "when its turn comes (next in line, behind" in call(capsys, "jobs", "retry", run.id, *at)
    got = call(capsys, "jobs", "duplicate", run.id, "--set", "training.steps=4", "--set", "training.seed=9", *at)
    copy = RunFolder(runs_dir / got.split("runs/")[1].split(";")[0])
    all_over(runs_dir)
    assert copy.config().training.steps == 4 and copy.config().output == str(copy.path)
    assert (copy.model_dir / "weights").read_text() == weights_after(4, seed=9)
    assert "training.steps" in refused(capsys, "jobs", "duplicate", run.id, "--set", "training.steps=0", *at)
    before = len(runs_in(runs_dir))
    call(capsys, "jobs", "delete", run.id, *at)
    assert not run.path.exists() and len(runs_in(runs_dir)) == before - 1
    assert "needs a run id" in refused(capsys, "jobs", "retry", *at)
    assert "no run" in refused(capsys, "jobs", "watch", run.id, *at)


def test_flags_and_names_that_an_action_does_not_read_are_refused(runs_dir, capsys):
    at = ["--runs", runs_dir]
    assert "There are no runs in" in call(capsys, "jobs", *at)
    assert call(capsys, "jobs", *at, "--json") == "[]\n"
    run = new(runs_dir)
    assert "There is no such run in" in call(capsys, "jobs", *at, "--state", "failed")
    assert "invalid choice: 'running now'" in refused(capsys, "jobs", *at, "--state", "running now")
    assert "takes no run, got" in refused(capsys, "jobs", "list", run.id, *at)
    for action, flag in (
        ("resume", ["--set", "training.steps=9"]), ("stop", ["--json"]), ("delete", ["--tag", "x"]),
        ("kill", ["--lines", "3"]), ("list", ["--set", "a=b"]), ("log", ["--unstar"]), ("watch", ["--flavor", "t4"]),
    ):  # fmt: skip
        line = refused(capsys, "jobs", action, *([] if action == "list" else [run.id]), *flag, *at)
        assert f"{flag[0]} is not read by `simct jobs {action}`" in line
    for action in ("resume", "retry", "duplicate"):
        line = refused(capsys, "jobs", action, run.id, "--flavor", "t4-small", *at)
        assert "--flavor is about a run on Hugging Face Jobs" in line
    assert "★" in call(capsys, "jobs", "label", run.id, "--star", *at)
    assert "★" not in call(capsys, "jobs", "label", run.id, "--unstar", *at)


def test_a_run_goes_to_jobs_only_with_a_machine_and_a_limit(pair, runs_dir, hub, capsys):
    hub.run_jobs = False
    arguments = ["distill", *pair, "--on", "hf-jobs", "--steps", "5", "--runs", runs_dir]
    assert main([*map(str, arguments)]) == 2
    got = capsys.readouterr()
    assert "t4-small · 1 × T4, 16 GB · $0.40 an hour · about" in got.out and "--flavor" in got.err
    assert "Set the most it may cost with --spend-limit" in refused(capsys, *arguments, "--flavor", "t4-small")
    assert "no machine 'abacus'" in refused(capsys, *arguments, "--flavor", "abacus", "--spend-limit", 1)
    huge = ["--set", "rollout.max_new_tokens=200000", "--set", "training.max_length=200100"]
    assert "does not fit" in refused(
        capsys, *arguments, *huge, "--no-check", "--flavor", "t4-small", "--spend-limit", 1
    )
    odd = ["--set", "training.batch_size=6"]
    assert "a multiple of its 4 GPUs" in refused(capsys, *arguments, *odd, "--flavor", "a100x4", "--spend-limit", 1)
    assert runs_in(runs_dir) == [] and not hub.jobs
    chosen = ["--flavor", "t4-small", "--namespace", "tester", "--timeout", "90m", "--spend-limit", "0.4", "--detach"]
    printed = call(capsys, *arguments, *chosen)
    assert "t4-small for at most 60 min, $0.40" in printed and "--timeout 90m is 1.5 h" in printed
    [job] = hub.jobs.values()
    assert job.spec["timeoutSeconds"] == pytest.approx(3600, abs=1) and job.namespace == "tester"
    assert "'soon' is not a duration" in refused(capsys, *arguments, "--timeout", "soon")


@pytest.mark.parametrize(
    ("text", "hours", "line"),
    [
        ("3600", 1, "--timeout 3600 is 1 h"),
        ("90", 0.025, "--timeout 90 is 1.5 min"),
        ("45s", 0.0125, "--timeout 45s is 45 s"),
        ("90m", 1.5, "--timeout 90m is 1.5 h"),
        ("1.5h", 1.5, "--timeout 1.5h is 1.5 h"),
        ("2d", 48, "--timeout 2d is 2 d"),
        ("4", 4 / 3600, "--timeout 4 is 4 s"),
    ],
)
def test_timeouts_read_as_hf_jobs_reads_them(text, hours, line):
    """A bare number is seconds there, and was hours here."""
    limit = time_limit(text)
    assert limit == pytest.approx(hours) and limit.line() == line


def test_a_job_is_followed_listed_stopped_and_found_again_by_the_command(pair, runs_dir, hub, capsys, monkeypatch):
    monkeypatch.setattr("simct.cli.common.REMOTE_SECONDS", 0.3)
    monkeypatch.setattr(hf_retry, "FIRST_WAIT", 0.01)
    at = ["--runs", runs_dir]
    rented = ["--flavor", "cpu-basic", "--spend-limit", "0.01"]
    slow = ["--set", "training.learning_rate=0.05", "--set", "training.checkpoint_every=2"]
    call(capsys, "distill", *pair, "--on", "hf-jobs", *rented, *slow, "--steps", "3000", "--detach", *at)
    [run] = runs_in(runs_dir)
    until(lambda: "running" in call(capsys, "jobs", *at), 120)
    got = json.loads(call(capsys, "jobs", "--json", *at))[0]
    assert (got["on"], got["flavor"], got["namespace"], got["state"]) == (
        "hf-jobs", "cpu-basic", "tester", "running"
    )  # fmt: skip
    assert "the Job writes and pushes a checkpoint first" in call(capsys, "jobs", "stop", run.id, *at)
    hub.fail("/api/jobs/", 503, times=3)
    assert "stopped: Stopped after step" in call(capsys, "jobs", "watch", run.id, *at)
    assert "step " in call(capsys, "jobs", "log", run.id, *at)
    assert "Set the most it may cost" in refused(capsys, "jobs", "resume", run.id, *at)
    other = runs_dir.parent / "other"
    assert "1 run created from the Jobs of tester" in call(capsys, "jobs", "sync", "--runs", other)
    assert open_run(other, run.id).status().state == "stopped"
    hub.run_jobs = False
    assert "Resumes in a new Job on cpu-basic" in call(
        capsys, "jobs", "resume", run.id, "--spend-limit", "0.01", "--runs", other
    )
    assert "canceled" in call(capsys, "jobs", "kill", run.id, "--runs", other)
    hub.fail("", 503, times=99)
    monkeypatch.setattr(hf_retry, "PATIENCE", 0.0)
    assert "having problems" in refused(capsys, "jobs", "delete", run.id, "--runs", other)
    assert open_run(other, run.id)
    hub.faults.clear()
    call(capsys, "jobs", "delete", run.id, "--runs", other)
    assert f"tester/simct-run-{run.id}" not in hub.repos


def test_watching_prints_each_stage_when_it_begins(tmp_path, capsys):
    run = new(tmp_path)
    run.set_status(state="running", queued_at=None)
    log, reporter = FollowedLog(run), Reporter(run)
    for text in ("Downloading the teacher", "Loading the teacher"):
        reporter.stage(text, 10, "bytes")
        for _ in range(2):
            log._show_stage()
    run.set_status(progress=None, message="Training, step 1 of 3")
    log._show_stage()
    assert capsys.readouterr().out == "Downloading the teacher\nLoading the teacher\n"
    assert message_line(run, run.status()) == "Training, step 1 of 3"
    reporter.stage("Scoring the student", 10, "prompts")
    assert message_line(run, run.status()) == "Scoring the student: 0 of 10 prompts"
