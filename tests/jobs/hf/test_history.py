"""The history of Jobs, rebuilt from the API alone on a machine that knows nothing of them."""

import pytest

from simct.jobs import actions
from simct.jobs.backend import Rental
from simct.jobs.hf import history as hf_history
from simct.jobs.hf import job as hf_job
from simct.runs.folder import RunFolder
from simct.runs.listing import open_run
from tests.support.run_folders import runs_in
from tests.support.stand_in_runs import config, new

RENTAL = Rental("t4-small", 2.0, 0.4, "tester")


@pytest.fixture
def hub(hub):
    hub.run_jobs = False
    return hub


def push(hub, run: RunFolder, **files: str) -> None:
    """Reports as a Job would push them."""
    import json

    status = {"state": "running", "step": 3, "message": "Training", "attempt": run.status().attempt}
    content = {"status.json": json.dumps(status), "metrics.jsonl": '{"step": 3, "loss": 0.5}\n', **files}
    repo_id = f"tester/simct-run-{run.id}"
    api = hf_job.hub_api(None)
    for name, text in content.items():
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=name, repo_id=repo_id)


def test_an_empty_folder_gets_every_job_with_its_reports_and_can_act_on_them(hub, tmp_path):
    first = actions.start_on_jobs(tmp_path / "one", config(), RENTAL)
    second = actions.start_on_jobs(tmp_path / "one", config(steps=7), RENTAL)
    push(hub, second)
    hub.jobs[second.status().job_id].stage = "RUNNING"
    hub.jobs[first.status().job_id].stage = "CANCELED"
    made = hf_history.rebuild(tmp_path / "two", hf_history.namespaces_of())
    assert {run.id for run in made} == {first.id, second.id}
    there = open_run(tmp_path / "two", second.id)
    got, known = there.status(), second.status()
    assert (got.state, got.step, got.total_steps) == ("running", 3, 7)
    for name in ("job_id", "attempt", "namespace", "flavor", "job_url", "backend", "method", "teacher", "student"):
        assert getattr(got, name) == getattr(known, name), name
    assert there.metrics() == [{"step": 3, "loss": 0.5}]
    assert there.config().training.steps == 7 and there.config().output == str(there.path)
    assert open_run(tmp_path / "two", first.id).status().state == "stopped"
    assert hf_history.rebuild(tmp_path / "two", ["tester"]) == []  # all are here now
    actions.stop(there)
    assert hub.repos[f"tester/simct-run-{second.id}"].files["stop"].decode() == known.job_id
    actions.kill(there)
    assert hub.jobs[known.job_id].stage == "CANCELED" and there.status().state == "stopped"
    assert hf_job.refresh(second).state == "stopped"  # the first machine hears of it


def test_names_in_labels_cannot_leave_the_runs_folder_or_take_over_another_s_run(hub, tmp_path):
    run = actions.start_on_jobs(tmp_path / "one", config(), RENTAL, owner="ann")
    job = hub.jobs[run.status().job_id]
    theirs = RunFolder.create(tmp_path / "two", config(), owner="bob")
    theirs.set_status(state="finished")
    before = theirs.status()
    for name in ("..", "-rf", ".hidden", theirs.id):
        job.spec["labels"]["simct-run"] = name
        hub.repos[f"tester/simct-run-{name}"] = hub.repos[f"tester/simct-run-{run.id}"]
        assert hf_history.rebuild(tmp_path / "two", ["tester"], owner="ann") == []
    assert theirs.status() == before and [found.id for found in runs_in(tmp_path / "two")] == [theirs.id]


def test_a_job_without_its_repository_is_no_run(hub, tmp_path):
    run = actions.start_on_jobs(tmp_path / "one", config(), RENTAL)
    del hub.repos[f"tester/simct-run-{run.id}"]
    assert hf_history.rebuild(tmp_path / "two", ["tester"]) == [] and runs_in(tmp_path / "two") == []


def test_a_run_resumed_elsewhere_is_followed_to_its_new_job(hub, tmp_path):
    first = actions.start_on_jobs(tmp_path / "one", config(), RENTAL)
    [copy] = hf_history.rebuild(tmp_path / "two", ["tester"])
    hub.jobs[first.status().job_id].stage = "ERROR"
    assert hf_job.refresh(copy).state == hf_job.refresh(first).state == "failed"
    actions.resume(copy, rental=RENTAL)
    hf_history.rebuild(tmp_path / "one", ["tester"])
    assert first.status().job_id == copy.status().job_id and first.status().state == "queued"


def test_a_run_whose_job_was_never_started_is_given_up_in_time(hub, tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path, config(), backend="hf")
    here = new(tmp_path)
    hf_history.rebuild(tmp_path, ["tester"])
    assert run.status().state == "queued"
    monkeypatch.setattr(hf_history, "STARTING_SECONDS", -1.0)
    hf_history.rebuild(tmp_path, ["tester"])
    assert run.status().state == "failed" and "before its Job started" in run.status().error
    assert here.status().state == "queued"
    assert run.status().state == "failed"


def test_namespaces_are_the_account_and_its_organizations(hub):
    from tests.support.hub_server import TOKEN

    hub.add_user("tester", TOKEN, orgs=("lab", "club"))
    assert hf_history.namespaces_of() == ["tester", "lab", "club"]


@pytest.mark.parametrize(
    "path",
    ["SECRET", "../../SECRET", "inputs/../../other/rollouts.jsonl", "inputs/../SECRET", "~/x", "file:///etc/passwd",
     "inputs/x", "a/../b", "inputs/prompts.jsonl/../../../x"],
)  # fmt: skip
def test_a_run_from_a_job_names_no_file_of_this_machine(tmp_path, path):
    """Whoever can start a Job in the namespace writes its run.yaml: what is resumed from it is uploaded."""
    from simct.config import config_from_dict
    from simct.errors import ConfigError
    from simct.jobs import actions
    from simct.jobs.hf.inputs import as_data, portable_config
    from simct.runs.folder import RunFolder

    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"prompt": "not yours", "answer": "x"}\n')
    path = path.replace("SECRET", str(secret))
    described = {"teacher": path, "student": path, "data": {"prompts": path, "held_out_prompts": path}}
    config = config_from_dict({**described, "evaluation": {"tasks": ["demo", path]}, "output": "/x"})
    config.teacher.scores = path
    config = as_data(config)
    assert config.teacher.scores == "inputs/scores"
    config.teacher.scores = None
    assert config.output is None and config.evaluation.tasks == ["demo"]
    named = [config.teacher.model, config.student.model, config.data.prompts, config.data.held_out_prompts]
    assert named == ["inputs/teacher", "inputs/student", "inputs/prompts", "inputs/held-out"]
    run = RunFolder.create(tmp_path / "runs", config, backend="hf")
    assert portable_config(run.config())[1] == {}
    with pytest.raises(ConfigError, match="another machine"):
        actions.duplicate(run)


def test_what_a_job_was_given_stays_its_own(tmp_path):
    from simct.config import config_from_dict
    from simct.jobs.hf.inputs import as_data

    described = {"teacher": "acme/model", "student": "inputs/student", "data": {"prompts": "inputs/prompts.jsonl.gz"}}
    config = as_data(config_from_dict({**described, "evaluation": {"tasks": ["demo", "gsm8k", "inputs/task-2.jsonl"]}}))
    assert (config.teacher.model, config.student.model) == ("acme/model", "inputs/student")
    assert config.data.prompts == "inputs/prompts.jsonl.gz"
    assert config.evaluation.tasks == ["demo", "gsm8k", "inputs/task-2.jsonl"]
