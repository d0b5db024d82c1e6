"""One interface for runs here and on Jobs, and one way to act on them."""

import inspect
import os
import re
from pathlib import Path

import pytest

from simct.errors import RunError
from simct.files import acquire_lock
from simct.jobs import actions
from simct.jobs.backend import Backend
from simct.jobs.hf import backend as hugging_face_jobs
from simct.jobs.local import backend as this_machine
from simct.jobs.local import job as local_job
from simct.runs.folder import PUBLISHING_LOCK, RunFolder
from tests.support.stand_in_runs import config

ROOT = Path(__file__).parents[2]
PARTS = re.compile(r"(from|import) simct\.jobs\.(local|hf)(\.| import )(job|backend|runner|supervise)\b")
FUNCTIONS = [name for name, each in vars(Backend).items() if inspect.isfunction(each) and not name.startswith("_")]


@pytest.mark.parametrize("backend", [this_machine, hugging_face_jobs], ids=lambda module: module.__name__)
def test_both_backends_have_every_function(backend):
    assert len(FUNCTIONS) == 10
    for name in FUNCTIONS:
        expected = inspect.signature(getattr(Backend, name)).parameters
        found = inspect.signature(getattr(backend, name)).parameters
        assert list(found) == list(expected)[1:], name
        assert [each.default for each in found.values()] == [each.default for each in expected.values()][1:], name


def test_a_run_is_where_its_status_says(tmp_path):
    here = RunFolder.create(tmp_path, config())
    assert actions.backend_of(here) is this_machine and actions.rental_of(here) is None
    there = RunFolder.create(tmp_path, config(), backend="hf", flavor="t4-small", hours=2.0, price=0.4)
    assert actions.backend_of(there) is hugging_face_jobs
    assert actions.rental_of(there).line() == "t4-small for at most 2.0 h, $0.80"


def test_nothing_else_asks_where_a_run_is_by_name():
    for folder in ("simct", "app"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if path != ROOT / "simct/runs/status.py":
                assert not re.search(r"""[!=]= *["']hf["']""", text), path


def test_the_command_and_the_studio_act_through_actions():
    for folder in ("simct/cli", "app"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "demo.py":  # it shows the parts
                assert not PARTS.search(path.read_text(encoding="utf-8")), path


def test_a_run_whose_process_still_trains_is_not_deleted_although_its_status_is_damaged(tmp_path):
    run = RunFolder.create(tmp_path, config())
    (run.path / "status.json").write_text("damaged")
    lock = local_job.acquire(run)
    with pytest.raises(RunError, match="still training"):
        actions.delete(run)
    os.close(lock)
    assert actions.delete(run) == f"Deleted {run.id}." and not run.path.exists()


def test_a_run_that_is_being_published_is_not_deleted(tmp_path):
    run = RunFolder.create(tmp_path, config())
    run.set_status(state="finished")
    run.set_publishing(state="publishing", repo_id="ann/student", pid=os.getpid(), pid_started=None)
    with pytest.raises(RunError, match="is being published"):
        actions.delete(run)
    # by the command, whose process is not recorded
    run.set_publishing(pid=None)
    lock = acquire_lock(run.path / PUBLISHING_LOCK)
    with pytest.raises(RunError, match="is being published"):
        actions.delete(run)
    os.close(lock)
    assert actions.delete(run) == f"Deleted {run.id}." and not run.path.exists()
