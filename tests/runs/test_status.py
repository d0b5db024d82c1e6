"""Statuses of any age and in any condition load; what is damaged is shown, and never loses or stops anything else."""

import json
import os

import pytest

from simct.cli.main import main
from simct.config import config_from_dict
from simct.errors import RunError
from simct.jobs import actions
from simct.jobs.local import queue
from simct.runs.folder import RunFolder
from simct.runs.listing import list_statuses
from simct.runs.status import PublishingStatus, RunStatus

DAMAGED = {
    "empty": b"",
    "cut short": b'{"state": "runn',
    "a list": b'[{"state": "running"}]',
    "text": b'"running"',
    "binary": bytes(range(256)),
    "deep": b'{"state": "running", "note": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "fairly deep": b'{"state": "running", "note": ' + b"[" * 300 + b"]" * 300 + b"}",
    "deep in a known field": b'{"state": "queued", "reported": ' + b'{"a": ' * 300 + b"1" + b"}" * 301,
    "huge": b'{"state": "running", "note": "' + b"x" * 2_000_000 + b'"}',
    "no state": b'{"step": 3}',
    "state unknown": b'{"state": "done"}',
    "state unreadable": b'{"state": "unreadable"}',
    "state not text": b'{"state": ["running"]}',
    "step as text": b'{"state": "running", "step": "three"}',
    "step as flag": b'{"state": "running", "step": true}',
    "step huge": b'{"state": "running", "step": 1' + b"0" * 400 + b"}",
    "step negative": b'{"state": "running", "step": -1}',
    "time as text": b'{"state": "finished", "created_at": "yesterday"}',
    "time not a number": b'{"state": "finished", "created_at": NaN}',
    "time without end": b'{"state": "finished", "created_at": Infinity}',
    "time far off": b'{"state": "finished", "created_at": 1e300}',
    "message as object": b'{"state": "finished", "message": {"a": 1}}',
    "devices": b'{"state": "queued", "queued_at": 1, "devices": [1, 2]}',
    "gpus": b'{"state": "queued", "queued_at": 1, "gpus": "all"}',
    "process": b'{"state": "running", "pid": 0, "group": -1}',
}


def damaged_run(runs_dir, content: bytes, name: str = "damaged") -> RunFolder:
    run = RunFolder(runs_dir / name)
    run.path.mkdir(parents=True)
    (run.path / "status.json").write_bytes(content)
    return run


def config():
    return config_from_dict({"teacher": "t", "student": "s", "data": {"prompts": "p"}})


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_status_is_shown_and_breaks_nothing_else(tmp_path, capsys, name):
    run = damaged_run(tmp_path, DAMAGED[name])
    sound = RunFolder.create(tmp_path, config())
    sound.set_status(state="finished")
    status = run.status()
    assert status.state == "unreadable" and not status.active and not status.waiting and not status.started
    assert "\n" not in status.message and len(status.message) < 200 and status.message.startswith("status.json is")
    assert {each.id: found.state for each, found in list_statuses(tmp_path)} == {
        "damaged": "unreadable", sound.id: "finished"
    }  # fmt: skip
    assert queue.advance(tmp_path) == [] and queue.in_order(list_statuses(tmp_path)) == []
    assert main(["jobs", "--runs", str(tmp_path)]) == 0
    assert main(["jobs", "--json", "--runs", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "unreadable" in printed and status.message in printed and sound.id in printed
    for action in ("stop", "kill", "resume"):
        assert main(["jobs", action, "damaged", "--runs", str(tmp_path)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert actions.known_status(run) == status == actions.refresh(run)
    assert (run.path / "status.json").read_bytes() == DAMAGED[name]
    assert main(["jobs", "delete", "damaged", "--runs", str(tmp_path)]) == 0 and not run.path.exists()


def test_the_studio_shows_a_damaged_run_and_the_others(tmp_path):
    from app.runs import names
    from app.runs import view as run_view
    from app.runs.actions import allowed_actions

    for number, content in enumerate(DAMAGED.values()):
        run = damaged_run(tmp_path, content, f"damaged-{number}")
        assert names.label(run).startswith("? unreadable")
        assert "note-error" in run_view.head(run, [])
        allowed = allowed_actions(run, run.status())
        assert allowed["delete"] and not allowed["stop"] and not allowed["resume"] and not allowed["publish"]


def test_a_special_file_in_place_of_a_status_is_passed_by(tmp_path):
    for name, make in (("pipe", os.mkfifo), ("folder", os.mkdir)):
        (tmp_path / name).mkdir()
        make(tmp_path / name / "status.json")
    assert list_statuses(tmp_path) == []


@pytest.mark.parametrize("state", ["done", "unreadable", "", None, 3])
def test_a_state_that_does_not_exist_is_not_written(tmp_path, state):
    run = RunFolder.create(tmp_path, config())
    with pytest.raises(RunError, match="cannot be"):
        run.set_status(state=state)
    assert run.status().state == "queued"


@pytest.mark.parametrize("fields", [{"stepp": 3}, {"step": "3"}, {"step": -1}, {"created_at": float("nan")}])
def test_a_field_or_value_that_a_status_cannot_have_is_refused(tmp_path, fields):
    run = RunFolder.create(tmp_path, config())
    before = (run.path / "status.json").read_bytes()
    with pytest.raises(RunError, match=next(iter(fields))):
        run.set_status(**fields)
    assert (run.path / "status.json").read_bytes() == before


def test_unknown_keys_stay_and_a_write_repairs_what_is_damaged(tmp_path):
    old = {"state": "running", "step": "three", "from_the_future": {"a": [1]}, "total_steps": 9, "owner": None}
    run = damaged_run(tmp_path, json.dumps(old).encode())
    assert run.status().extra == {"from_the_future": {"a": [1]}} and run.status().total_steps == 9
    status = run.set_status(step=4)
    assert (status.state, status.step, status.total_steps) == ("running", 4, 9)
    assert json.loads((run.path / "status.json").read_text())["from_the_future"] == {"a": [1]}


def test_a_write_does_not_invent_the_state_of_a_damaged_status(tmp_path):
    run = damaged_run(tmp_path, b"not JSON")
    with pytest.raises(RunError, match="which state"):
        run.set_status(step=4)
    assert run.set_status(state="failed", error="out of memory").error == "out of memory"


def test_text_that_cannot_be_shown_is_replaced(tmp_path):
    run = RunFolder.create(tmp_path, config())
    run.set_status(error="cannot read a\udcffb")
    assert run.status().error == "cannot read a?b"
    run.status().error.encode()


def test_statuses_of_older_versions_load_as_they_are():
    local = {
        "state": "finished", "step": 9, "total_steps": 9, "created_at": 1.5, "owner": None, "message": "Finished",
        "method": "simct", "teacher": "t", "student": "s", "heartbeat": 3, "pid": None, "pid_started": 123456.0,
        "group": 71, "host": "a", "devices": ["cpu"], "starts": 1, "lent": False, "gpus": 1, "backend": None,
    }  # fmt: skip
    status = RunStatus.from_dict(local)
    assert (status.state, status.remote, status.machine, status.heartbeat) == ("finished", False, "", 3.0)
    # before there was a queue, or a list that reads no run.yaml
    assert RunStatus.from_dict({"state": "stopped", "step": 2}).total_steps is None
    job = RunStatus.from_dict({"state": "queued", "backend": "hf", "queued_at": 1.0, "job_id": "1", "hours": 2})
    assert job.remote and job.active and not job.waiting and not job.active_here and job.machine == "Jobs"


def test_a_damaged_record_of_publishing_counts_as_failed(tmp_path):
    run = RunFolder.create(tmp_path, config())
    for content in (b"[]", b"{", b'{"state": "gone"}', b'{"state": "published", "sent": "all"}', b"[" * 200_000):
        (run.path / "publish.json").write_bytes(content)
        status = run.publishing()
        assert (status.state, status.active) == ("failed", False) and "Publish again" in status.error
    run.set_publishing(state="published", url="https://x/y")
    assert run.publishing() == PublishingStatus("published", url="https://x/y", updated_at=run.publishing().updated_at)
