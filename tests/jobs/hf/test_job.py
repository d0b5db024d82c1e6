"""Runs on Hugging Face Jobs, by the real client against the loopback Hub, whose jobs really run as processes."""

import io
import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import yaml
from huggingface_hub import CommitOperationAdd, constants

from simct.config import config_from_dict
from simct.errors import ConfigError, HubError, RunError
from simct.hub import retry as hf_retry
from simct.hub.client import hub_api
from simct.hub.redact import KEY_VARIABLE
from simct.jobs.hf import fetching, reports, spending
from simct.jobs.hf import hardware as hf_hardware
from simct.jobs.hf import history as hf_history
from simct.jobs.hf import job as hf_job
from simct.models import server_keys
from simct.models.server_keys import keep_key
from simct.publishing.push import publish_run
from simct.runs.folder import RunFolder
from tests.support.hub_server import TOKEN
from tests.support.tiny_models import save_tiny_model
from tests.support.waiting import until


def new_run(tmp_path, **settings) -> RunFolder:
    config = {
        "teacher": {"model": "acme/teacher"},
        "student": {"model": "acme/student"},
        "data": {"prompts": "acme/prompts"},
        **settings,
    }
    return RunFolder.create(tmp_path / "runs", config_from_dict(config))


def test_hardware_that_fits_cheapest_first(hub, monkeypatch):
    machines = hf_hardware.list_hardware()
    assert [machine.price for machine in machines] == sorted(machine.price for machine in machines)
    fitting = hf_hardware.list_hardware(gpu_memory=20)
    assert [machine.name for machine in fitting] == ["a10g-large", "h200", "a100x4"]
    machine = fitting[0]
    assert (machine.gpu, machine.gpus, machine.gpu_memory, machine.memory) == ("A10G", 1, 24.0, 46.0)
    assert machine.price == pytest.approx(1.5) and machine.cost(3) == pytest.approx(4.5)
    assert spending.hours_for(machine, 6.0) == pytest.approx(4.0)
    with pytest.raises(ConfigError, match="more than 0"):
        spending.hours_for(machine, 0)
    hub.fail("jobs/hardware", 503)
    assert hf_hardware.list_hardware() == machines  # asked again
    monkeypatch.setattr(hf_retry, "PATIENCE", 0.0)
    hub.fail("jobs/hardware", 503)
    with pytest.raises(HubError, match="having problems"):
        hf_hardware.list_hardware()


def test_what_is_sent_to_start_a_job(hub, tmp_path):
    hub.run_jobs = False
    hub.add_user("tester", TOKEN, orgs=("lab",))
    (tmp_path / "mine.jsonl").write_text('{"prompt": "x"}\n')
    run = new_run(tmp_path, data={"prompts": str(tmp_path / "mine.jsonl")})
    job_id = hf_job.launch(run, "a10g-large", hours=2.5, namespace="lab")
    spec = hub.jobs[job_id].spec
    assert spec["flavor"] == "a10g-large" and spec["timeoutSeconds"] == 9000 and hub.jobs[job_id].namespace == "lab"
    assert spec["labels"].items() >= {"app": "simct-studio", "simct-run": run.id}.items()
    assert spec["secrets"] == {"HF_TOKEN": TOKEN}
    assert TOKEN not in json.dumps({key: value for key, value in spec.items() if key != "secrets"})
    assert f"torch=={__import__('torch').__version__.split('+')[0]}" in spec["environment"]["SIMCT_PACKAGES"].split()
    repo = hub.repos[f"lab/simct-run-{run.id}"]
    assert repo.private
    sent = yaml.safe_load(repo.files["run.yaml"])
    assert sent["data"]["prompts"] == "inputs/prompts.jsonl" and sent["teacher"]["model"] == "acme/teacher"
    assert repo.files["inputs/prompts.jsonl"] == b'{"prompt": "x"}\n'
    names = zipfile.ZipFile(io.BytesIO(repo.files["simct-src.zip"])).namelist()
    assert {"simct/train.py", "simct/jobs/hf/runner.py", "simct/demo/eval.jsonl"} <= set(names)
    assert not [name for name in names if name.endswith((".safetensors", ".pyc"))]
    for data in repo.files.values():
        assert str(tmp_path).encode() not in data and TOKEN.encode() not in data
    status = run.status()
    assert (status.state, status.backend, status.job_id) == ("queued", "hf", job_id)
    assert TOKEN not in (run.path / "status.json").read_text()
    with pytest.raises(RunError, match="already on Jobs"):
        hf_job.launch(run, "a10g-large", hours=1)


def test_the_key_of_the_teachers_server_travels_as_a_secret(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(server_keys, "_keys", OrderedDict())
    hub.run_jobs = False
    hub.add_user("tester", TOKEN)
    address, key = "https://teacher.example.com", "key-of-the-server"
    monkeypatch.setenv(KEY_VARIABLE, "key-of-this-machine")
    served = new_run(tmp_path, teacher={"model": "acme/teacher", "server": address})

    def sent() -> dict:
        spec = hub.jobs[hf_job.launch(served, "a10g-large", hours=1)].spec
        served.set_status(state="stopped")
        assert key not in json.dumps({name: value for name, value in spec.items() if name != "secrets"})
        return spec["secrets"]

    assert sent() == {"HF_TOKEN": TOKEN, KEY_VARIABLE: "key-of-this-machine"}
    keep_key(None, address, key)
    assert sent() == {"HF_TOKEN": TOKEN, KEY_VARIABLE: key}
    # one of somebody else, and on a Space the Space's own, are not for this run
    server_keys._keys.clear()
    keep_key("ann", address, key)
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    assert sent() == {"HF_TOKEN": TOKEN}


def test_refusals_before_a_job_are_one_line_and_leave_the_run_as_it_was(hub, tmp_path):
    hub.run_jobs = False
    run = new_run(tmp_path)
    before = run.status()
    cases = [
        (dict(flavor="t4-small", hours=1, namespace="somebody"), "may not write to somebody/"),
        (dict(flavor="abacus", hours=1), "Unknown flavor abacus"),
        (dict(flavor="t4-small", hours=1, token="hf_expiredexpiredexpired"), "refused the access token"),
    ]
    for options, expected in cases:
        with pytest.raises(HubError) as error:
            hf_job.launch(run, **options)
        assert expected in str(error.value) and "\n" not in str(error.value)
    hub.fail("/api/jobs/tester", 402, method="POST", message="Pre-paid credit balance is insufficient")
    with pytest.raises(HubError, match="asks for payment: Pre-paid credit"):
        hf_job.launch(run, "t4-small", hours=1)
    with pytest.raises(ConfigError, match="hours"):
        hf_job.launch(run, "t4-small", hours=0)
    hub.add_model(f"tester/simct-run-{new_run(tmp_path).id}")
    assert not hub.jobs and run.status() == before
    for call in (hf_job.refresh, hf_job.cancel, hf_job.stop, hf_job.fetch_model):
        with pytest.raises(RunError, match="never been on"):
            call(run)


def test_working_files_are_never_put_where_all_can_read_them(hub, tmp_path):
    hub.run_jobs = False
    run = new_run(tmp_path)
    public = hub.add_model(f"tester/simct-run-{run.id}")
    with pytest.raises(HubError, match="public"):
        hf_job.launch(run, "t4-small", hours=1)
    assert not public.files and not hub.jobs


def test_logs_failure_cancel_and_history(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_job, "BOOTSTRAP", "print('hello', flush=True); print('second'); raise SystemExit(3)")
    failing = new_run(tmp_path)
    hf_job.launch(failing, "cpu-basic", hours=1)
    assert list(hf_job.log_lines(failing, follow=True)) == ["hello", "second"]
    status = until(lambda: (s := hf_job.refresh(failing)).state == "failed" and s, 20)
    assert "The Job failed: Job failed with exit code: 3." in status.error
    monkeypatch.setattr(hf_job, "BOOTSTRAP", "import time; time.sleep(60)")
    waiting = new_run(tmp_path)
    hf_job.launch(waiting, "cpu-basic", hours=1)
    assert hf_job.refresh(waiting).state == "queued"
    hf_job.cancel(waiting)
    assert waiting.status().state == "stopped"
    timed = new_run(tmp_path)
    hf_job.launch(timed, "cpu-basic", hours=1.2 / 3600)
    status = until(lambda: (s := hf_job.refresh(timed)).state == "failed" and s, 20)
    assert "Job timeout" in status.error
    history = hf_history.list_jobs("tester")
    assert [each.run_id for each in history] == [timed.id, waiting.id, failing.id]
    assert [each.stage for each in history] == ["ERROR", "CANCELED", "ERROR"]
    assert history[0].job_id == timed.status().job_id and history[0].method == "simct"


def test_reports_are_fetched_within_limits_and_leave_nothing_in_the_cache(hub, tmp_path, monkeypatch):
    hub.run_jobs = False
    run = new_run(tmp_path)
    hf_job.launch(run, "cpu-basic", hours=1)
    run_repo = f"tester/simct-run-{run.id}"
    monkeypatch.setattr(reports, "MOST_REPORT", 100)
    api = hub_api(TOKEN)

    def push(**content: bytes) -> None:
        added = [CommitOperationAdd(name.replace("_", "."), data) for name, data in content.items()]
        api.create_commit(run_repo, added, commit_message="Step 1")

    push(metrics_jsonl=b'{"step": 1}\n', rollouts_jsonl=b"x" * 101)
    hf_job.refresh(run)
    assert run.metrics() == [{"step": 1}] and not (run.path / "rollouts.jsonl").exists()
    push(metrics_jsonl=b'{"step": 1}\n{"step": 2}\n', log_txt=b"y" * 101)
    hf_job.refresh(run)
    assert [each["step"] for each in run.metrics()] == [1, 2] and not run.log_path.exists()
    assert not list(Path(constants.HF_HUB_CACHE).rglob("*simct-run-*/snapshots/*/metrics.jsonl"))
    assert not list(run.path.glob(".reports-*"))


def test_no_download_fills_the_disk_or_takes_the_share_of_others(hub, tmp_path, monkeypatch):
    hub.run_jobs = False
    run = new_run(tmp_path, data={"prompts": "inputs/prompts.jsonl"})
    hf_job.launch(run, "cpu-basic", hours=1)
    files = ("model/config.json", "model/model.safetensors", "inputs/prompts.jsonl", "data/a.jsonl", "data/b.jsonl")
    added = [CommitOperationAdd(name, b"x" * 1000) for name in (*files, "metrics.jsonl")]
    hub_api(TOKEN).create_commit(f"tester/simct-run-{run.id}", added, commit_message="Step 1")
    monkeypatch.setattr(reports, "MOST_IN_ALL", 2_500)
    hf_job.refresh(run)
    assert (run.path / "metrics.jsonl").exists() and len(list((run.path / "data").iterdir())) == 1
    monkeypatch.setenv("SPACE_ID", "acme/studio")
    monkeypatch.setattr(fetching, "MOST_BYTES", 1_500)
    with pytest.raises(
        RunError, match=r"^This download has 2.0 kB; a public studio downloads at most 1.5 kB. The file"
    ):
        hf_job.fetch_model(run)
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setattr(fetching, "LEFT_FREE", 10**18)
    with pytest.raises(RunError, match=r"^This download has 1.0 kB; the disk has room for 0 B. "):
        hf_job.fetch_inputs(run)
    assert not run.model_dir.exists() and not (run.path / "inputs").exists()
    monkeypatch.setattr(fetching, "LEFT_FREE", 0)
    hf_job.fetch_inputs(run)
    assert (run.path / "inputs" / "prompts.jsonl").exists() and hf_job.fetch_model(run) == run.model_dir


def test_an_unreachable_hub_changes_nothing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_job, "BOOTSTRAP", "import time; time.sleep(60)")
    run = new_run(tmp_path)
    hf_job.launch(run, "cpu-basic", hours=1)
    before = run.status()
    hub.fail("/api/jobs/", 429, headers={"Retry-After": "9"})
    with pytest.raises(HubError, match="Wait 9 s"):
        hf_job.refresh(run)
    assert run.status() == before
    assert hf_job.refresh(run).state == "queued"


def test_a_job_trains_stops_and_resumes_to_a_published_student(hub, tmp_path, monkeypatch):
    """Local tiny models travel to the Job; it is stopped after a checkpoint, taken up by a second Job, and finishes."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(hf_job, "PUSH_SECONDS", 0.5)
    save_tiny_model(tmp_path / "teacher")
    save_tiny_model(tmp_path / "student")
    lines = [json.dumps({"prompt": f"say {n}"}) for n in range(8)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    run = new_run(
        tmp_path,
        teacher={"model": str(tmp_path / "teacher")},
        student={"model": str(tmp_path / "student")},
        data={"prompts": str(tmp_path / "prompts.jsonl")},
        method="strict",
        rollout={"max_new_tokens": 24},
        training={"steps": 60, "batch_size": 2, "micro_batch_size": 2, "checkpoint_every": 5, "learning_rate": 1e-3},
    )
    first = hf_job.launch(run, "cpu-basic", hours=1)
    repo = hub.repos[f"tester/simct-run-{run.id}"]

    def checkpoints() -> set[str]:
        return {path.split("/")[1] for path in repo.head.files if path.startswith("checkpoints/")}

    def ended(job_id: str) -> bool:
        return hub.jobs[job_id].stage not in ("RUNNING", "SCHEDULING")

    until(lambda: checkpoints() or ended(first), 300)
    assert hf_job.refresh(run).state == "running", [line for _, line in hub.jobs[first].lines][-30:]
    hf_job.stop(run)
    assert run.status().state == "stopping"
    until(lambda: ended(first), 300)
    status = hf_job.refresh(run)
    assert status.state == "stopped" and 5 <= status.step < 60
    assert hub.jobs[first].stage == "COMPLETED" and len(checkpoints()) == 1
    stopped_at = status.step
    assert [record["step"] for record in run.metrics()] == list(range(1, stopped_at + 1))

    second = hf_job.launch(run, "cpu-basic", hours=1)
    assert run.status().state == "queued" and "stop" not in repo.head.files
    until(lambda: ended(second), 300)
    status = hf_job.refresh(run)
    assert (status.state, status.step) == ("finished", 60), run.log_tail(30)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 61))  # no step was done twice
    assert not checkpoints()
    model = AutoModelForCausalLM.from_pretrained(hf_job.fetch_model(run))
    assert model.num_parameters() > 0
    publish_run(run, "tester/from-a-job")  # a run that was trained elsewhere is published like any other
    published = hub.repos["tester/from-a-job"].files
    assert published["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()
    card = published["README.md"].decode()
    assert "finished all 60 steps" in card and "| Shared tokens |" in card
    assert "training_curve.png" in published and str(tmp_path) not in card
    for commit in repo.commits.values():
        for blob in commit.files.values():
            assert TOKEN.encode() not in blob.read()
    assert not hub.unknown, hub.unknown
