"""What the studio does behind its pages: Jobs are followed with their owner's token only, and nobody waits for the Hub.

The Hub is the loopback one and its Jobs are processes with the real runner; training is stood in for by stand_in.
"""

import time

import pytest

from app.runs import page as runs_page
from app.runs import view as run_view
from app.server import background
from app.server.background import Background
from app.server.studio import Studio
from app.server.visitor import Visitor
from simct.hub import retry as hf_retry
from simct.jobs import actions
from simct.jobs.backend import Rental
from simct.jobs.hf import job as hf_job
from tests.support.run_folders import runs_in
from tests.support.stand_in_runs import BOOTSTRAP, config
from tests.support.waiting import until

ANN, BOB = "hf_annannannannannann", "hf_bobbobbobbobbobbob"


@pytest.fixture
def hub(hub, monkeypatch):
    monkeypatch.setattr(hf_job, "PUSH_SECONDS", 0.3)
    monkeypatch.setattr(hf_job, "BOOTSTRAP", BOOTSTRAP)
    monkeypatch.setattr(background, "JOB_SECONDS", 0.3)
    monkeypatch.setattr(hf_retry, "FIRST_WAIT", 0.01)
    hub.add_user("ann", ANN)
    hub.add_user("bob", BOB)
    return hub


def rented(namespace: str) -> Rental:
    return Rental("cpu-basic", 1.0, 0.01, namespace)


def test_a_job_comes_home_without_a_page_and_is_found_again_by_another_studio(hub, tmp_path):
    studio = Studio(tmp_path / "one", public=False)
    here = Background(studio.runs_dir, studio.public, tokens={None: None})
    run = actions.start_on_jobs(tmp_path / "one", config(30, 0.02), rented("tester"))
    until(lambda: (here.turn(), run.status().state == "finished")[1])
    assert "installing" in (run.path / "job_log.txt").read_text()
    assert [record["step"] for record in run.metrics()] == list(range(1, 31))
    assert "cpu-basic of tester" in run_view.head(run, run.metrics())
    assert runs_page.look(studio, studio.nobody, run.id, "", "All runs", 30).shown["allowed"]["fetch"]

    elsewhere = Background(tmp_path / "two", False, tokens={None: None})
    until(lambda: (elsewhere.turn(), [copy.status().state for copy in runs_in(tmp_path / "two")] == ["finished"])[1])
    [copy] = runs_in(tmp_path / "two")
    assert copy.id == run.id and len(copy.metrics()) == 30


def test_every_visitor_s_jobs_are_asked_about_with_their_own_token_and_shown_to_them_only(hub, tmp_path):
    hub.run_jobs = False
    studio = Studio(tmp_path, public=True)
    anns = actions.start_on_jobs(tmp_path, config(), rented("ann"), ANN, owner="ann")
    bobs = actions.start_on_jobs(tmp_path, config(), rented("bob"), BOB, owner="bob")
    hub.requests.clear()
    behind = studio.background
    behind.meet(studio.nobody)
    behind.turn()
    assert not behind.tokens and not hub.requests  # nobody is signed in: nothing is asked, with no token at all
    behind.meet(Visitor(ANN, "ann"))
    behind.meet(Visitor(BOB, "bob"))
    for run in (anns, bobs):
        hub.jobs[run.status().job_id].stage = "CANCELED"
    until(lambda: (behind.turn(), all(run.status().state == "stopped" for run in (anns, bobs)))[1])
    for request in hub.requests:
        owner = {f"Bearer {ANN}": "ann", f"Bearer {BOB}": "bob"}[request.headers["authorization"]]
        assert "whoami" in request.path or f"/{owner}" in request.path, (owner, request.path)
    assert [run.id for run in runs_page.runs_of(studio, Visitor(ANN, "ann"))] == [anns.id]
    assert runs_page.runs_of(studio, studio.nobody) == []


def test_a_token_is_forgotten_when_its_visitor_has_left_and_no_job_needs_it(hub, tmp_path, monkeypatch):
    hub.run_jobs = False
    run = actions.start_on_jobs(tmp_path, config(), rented("ann"), ANN, owner="ann")
    behind = Background(tmp_path, True)
    behind.meet(Visitor(ANN, "ann"))
    behind.meet(Visitor(BOB, "bob"))
    behind.turn()
    assert behind.tokens == {"ann": ANN, "bob": BOB}
    monkeypatch.setattr(background, "PRESENT_SECONDS", 0.0)
    behind.turn()
    assert behind.tokens == {"ann": ANN}
    run.set_status(state="stopped")
    behind.turn()
    assert not behind.tokens and not behind.met
    run.set_status(state="running")
    behind.meet(Visitor(ANN, "ann"))
    monkeypatch.setattr(background, "TOKEN_SECONDS", 0.0)
    behind.turn()
    assert not behind.tokens


def test_a_hub_that_is_slow_or_down_holds_nobody_up_and_is_asked_less_and_less(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_retry, "PATIENCE", 0.0)
    hub.run_jobs = False
    run = actions.start_on_jobs(tmp_path, config(), rented("tester"))
    behind = Background(tmp_path, False, tokens={None: None})
    hub.fail("/api/", delay=3.0, status=503, times=10**6)
    behind.turn()
    assert behind.trouble.get(None) is None  # it came back before the Hub had answered
    until(lambda: behind.trouble.get(None))
    assert "Trying again in" in behind.trouble[None] and "\n" not in behind.trouble[None]
    assert run.status().state == "queued"
    assert "Trying again" in run_view.head(run, [], trouble=behind.trouble[None])
    for fault in hub.faults:
        fault.delay = 0.0
    waits = []
    for _ in range(40):
        behind.turn()
        waits.append(behind.pace[run.id].wait)
        time.sleep(0.05)
    assert waits[-1] >= 2 * waits[0] and waits[-1] > background.JOB_SECONDS
    hub.faults.clear()
    hub.jobs[run.status().job_id].stage = "CANCELED"
    until(lambda: (behind.turn(), run.status().state == "stopped")[1])
