"""Hugging Face Jobs on bad days: refusals, cut connections, time that runs out. The runner is real, and so are its
processes; training is stood in for by tests/support/stand_in."""

import json
from pathlib import Path

import pytest

from simct.config import save_config
from simct.errors import HubError, RunError
from simct.hub import retry as hf_retry
from simct.jobs import actions
from simct.jobs.backend import Rental
from simct.jobs.hf import job as hf_job
from simct.jobs.hf import runner as hf_job_runner
from simct.jobs.local import job as local_job
from simct.runs.folder import RunFolder
from tests.support.hub_server import TOKEN
from tests.support.run_folders import runs_in
from tests.support.stand_in_runs import BOOTSTRAP, config, weights_after
from tests.support.waiting import until

RENTAL = Rental("cpu-basic", 1.0, 0.01, "tester")


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setattr(hf_retry, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(hf_job, "PUSH_SECONDS", 0.3)
    monkeypatch.setattr(hf_job, "BOOTSTRAP", BOOTSTRAP)
    return hub


def ended(hub, run: RunFolder) -> bool:
    return hub.jobs[run.status().job_id].stage not in ("RUNNING", "SCHEDULING")


def test_a_launch_gets_through_refusals_and_starts_one_job(hub, tmp_path):
    hub.run_jobs = False
    hub.fail("whoami", 503)
    hub.fail("repos/create", 429, headers={"Retry-After": "0"}, times=2)
    hub.fail("/commit/", 500)
    hub.fail("/api/jobs/tester$", 502, method="POST")  # refused before it was started
    hub.fail("/api/jobs/tester$", cut_after=20, method="POST")  # started, and the answer lost
    run = actions.start_on_jobs(tmp_path, config(), Rental("cpu-basic", 1.0, 0.01))
    assert len(hub.jobs) == 1 and run.status().job_id in hub.jobs


def test_a_launch_that_is_refused_for_good_leaves_nothing_and_one_in_doubt_leaves_a_trace(hub, tmp_path, monkeypatch):
    hub.run_jobs = False
    with pytest.raises(HubError, match="may not write to somebody/"):
        actions.start_on_jobs(tmp_path, config(), Rental("cpu-basic", 1.0, 0.01, "somebody"))
    assert runs_in(tmp_path) == []
    monkeypatch.setattr(hf_retry, "PATIENCE", 0.0)
    hub.fail("/api/jobs/tester$", cut_after=20, method="POST")
    with pytest.raises(HubError, match="Cannot reach the Hub"):
        actions.start_on_jobs(tmp_path, config(), RENTAL)
    [run] = runs_in(tmp_path)
    assert run.status().state == "queued" and "did not confirm" in run.status().message
    from simct.jobs.hf import history as hf_history

    hf_history.rebuild(tmp_path, ["tester"])
    assert run.status().job_id in hub.jobs  # the Job it did start is found by its labels


def test_a_run_without_a_machine_on_record_is_not_started_anew_on_a_guess(tmp_path):
    run = RunFolder.create(tmp_path, config(), backend="hf")
    run.set_status(state="failed")
    for again in (actions.resume, actions.retry):
        with pytest.raises(RunError, match="does not say which machine on Jobs"):
            again(run)
    assert len(runs_in(tmp_path)) == 1


def test_machines_are_weighed_with_the_visitor_s_access_only(hub, monkeypatch):
    """False is a visitor without a token, who must not see by the token of this machine."""
    from simct.estimate import memory
    from simct.jobs.hf import hardware as hf_hardware

    asked = []

    def refused(model, token):
        asked.append(token)
        raise HubError("gated")

    monkeypatch.setattr(memory, "load_shape_config", refused)
    assert all(offer.why == "gated" for offer in hf_hardware.offers(config(), False))
    assert asked == [False]


def test_a_long_wait_that_the_hub_asks_for_is_reported_at_once(hub):
    from simct.jobs.hf.hardware import list_hardware

    hub.fail("jobs/hardware", 429, headers={"Retry-After": "600"})
    with pytest.raises(HubError, match="Wait 600 s"):
        list_hardware()
    assert len([request for request in hub.requests if request.path.endswith("jobs/hardware")]) == 1


def test_back_off_doubles_and_comes_back(hub):
    pace = hf_retry.BackOff(5.0)
    assert pace.due()
    waits = []
    for _ in range(9):
        pace.failed(OSError())
        waits.append(pace.wait)
    assert waits[:4] == [10.0, 20.0, 40.0, 80.0] and waits[-1] == 300.0 and not pace.due()
    pace.succeeded()
    assert pace.wait == 5.0


@pytest.mark.long
def test_a_job_pushes_through_trouble_stops_before_its_time_is_up_and_goes_on_in_another(hub, tmp_path):
    """Commits of the Job are refused twice; its 25 seconds run out in the middle; nothing of it is lost."""
    hub.fail("/commit/", 503, times=0)  # its turn comes below
    run = actions.start_on_jobs(tmp_path, config(600, 0.05, checkpoint_every=10), Rental("cpu-basic", 25 / 3600, 0.01))
    hub.faults[0].times = 2
    until(lambda: ended(hub, run), 60)
    got = hf_job.refresh(run)
    assert got.state == "stopped", [line for _, line in hub.jobs[got.job_id].lines]
    assert "time limit after step" in got.message
    assert hub.jobs[got.job_id].stage == "COMPLETED" and 0 < got.step < 600
    assert got.remote_checkpoint == f"step-{got.step}"
    assert [record["step"] for record in run.metrics()] == list(range(1, got.step + 1))
    assert "Could not push" in "".join(hf_job.log_lines(run))

    faster = run.config()
    faster.training.learning_rate = 0.001
    save_config(faster, run.path / "run.yaml")
    assert "Resumes in a new Job" in actions.resume(run, rental=RENTAL)
    with pytest.raises(RunError, match="already queued"):
        actions.resume(run, rental=RENTAL)
    until(lambda: ended(hub, run), 60)
    assert hf_job.refresh(run).state == "finished" and hf_job.refresh(run).step == 600
    assert hub.repos[f"tester/simct-run-{run.id}"].files["model/weights"].decode() == weights_after(600)
    assert [record["step"] for record in run.metrics()] == list(range(1, 601))
    assert actions.delete(run) and f"tester/simct-run-{run.id}" not in hub.repos and runs_in(tmp_path) == []


def test_the_job_s_own_output_is_followed_over_cut_connections_line_by_line(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(
        hf_job, "BOOTSTRAP", "import time\nfor n in range(30): print(f'line {n}', flush=True); time.sleep(0.05)"
    )
    run = actions.start_on_jobs(tmp_path, config(), RENTAL)
    hub.fail("/logs", 503)
    for _ in range(10):
        try:
            hf_job.follow_log(run, None, wanted=lambda: True)
        except HubError:
            continue
        if ended(hub, run):
            break
    text = (run.path / hf_job.JOB_LOG).read_text()
    assert text.split("\n") == [*(f"line {n}" for n in range(30)), ""]
    assert TOKEN not in text


def test_a_warm_up_s_answers_and_data_are_pushed_and_brought_home(hub, tmp_path):
    hub.run_jobs = False
    run = actions.start_on_jobs(tmp_path / "here", config(), RENTAL)
    there = RunFolder.create(tmp_path / "there", config())
    for name in ("samples/0.jsonl", "data/train.jsonl", "data/README.md", "data/.hidden"):
        (there.path / name).parent.mkdir(exist_ok=True)
        (there.path / name).write_text(f'{{"at": "{name}"}}\n')
    repo_id = f"tester/simct-run-{run.id}"
    pusher = hf_job_runner.Pusher(hf_job.hub_api(None), there, repo_id, run.status().attempt, 1.0)
    pusher.push()
    hf_job.refresh(run)
    assert (run.path / "samples" / "0.jsonl").read_text() == '{"at": "samples/0.jsonl"}\n'
    assert (run.path / "data" / "train.jsonl").exists() and not (run.path / "data" / ".hidden").exists()
    commits = len(hub.repos[repo_id].commits)
    pusher.push()
    assert len(hub.repos[repo_id].commits) == commits  # nothing new, no commit
    resumed, _ = hf_job_runner.fetch_run(hf_job.hub_api(None), repo_id, tmp_path / "again")
    assert (resumed.path / "samples" / "0.jsonl").exists()


def test_the_last_push_gives_up_on_what_waiting_does_not_mend(hub, tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path, config())
    monkeypatch.setattr(hf_job_runner.time, "sleep", lambda seconds: None)
    began = len(hub.requests)
    with pytest.raises(Exception, match="404"):
        hf_job_runner.Pusher(hf_job.hub_api(None), run, "tester/gone", "x", 1.0).push_to_the_end()
    assert len(hub.requests) - began < 20


@pytest.mark.parametrize(("parallel", "preset"), [("ddp", "multi_gpu.yaml"), ("fsdp2", "fsdp2.yaml")])
def test_several_gpus_take_a_preset_of_accelerate(tmp_path, parallel, preset):
    run = RunFolder.create(tmp_path, config(parallel=parallel))
    command = local_job.training_command(run, resume=True, gpus=4)
    place = command.index("--config_file") + 1
    assert command[place].endswith(preset) and (tmp_path / command[place]).exists()
    assert command[command.index("--num_processes") + 1] == "4" and command[-1] == "--resume"
    assert "--config_file" not in local_job.training_command(run, gpus=1)


def test_what_the_run_s_settings_need_is_installed_in_the_job(tmp_path):
    from simct.jobs.hf.inputs import pinned_packages

    plain = pinned_packages(config())
    assert all("==" in package for package in plain)
    assert not any(name in package for package in plain for name in ("bitsandbytes", "lm_eval"))
    special = config(parallel="zero2")
    special.teacher.quantization = "8bit"
    special.evaluation.tasks = ["demo", "gsm8k"]
    names = {package.split("==")[0] for package in pinned_packages(special)}
    assert {"bitsandbytes", "deepspeed", "lm_eval[math]", "torch"} <= names


def test_inputs_that_a_job_got_elsewhere_come_along_when_it_is_started_anew(hub, tmp_path):
    from simct.jobs.hf import history as hf_history

    hub.run_jobs = False
    (tmp_path / "mine.jsonl").write_text('{"prompt": "x"}\n')
    described = config()
    described.data.prompts = str(tmp_path / "mine.jsonl")
    first = actions.start_on_jobs(tmp_path / "one", described, RENTAL)
    [found] = hf_history.rebuild(tmp_path / "other", ["tester"])
    assert found.id == first.id and found.config().data.prompts == "inputs/prompts.jsonl"
    again = actions.duplicate(found, {"training.steps": "9"})
    assert again.training.steps == 9 and again.output is None
    assert json.loads(Path(again.data.prompts).read_text()) == {"prompt": "x"}
