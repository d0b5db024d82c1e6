"""Runs that end while the visitor looks elsewhere: a number in the title and a browser notification, once each."""

import os

import pytest
from playwright.sync_api import expect

from app.runs.notices import line
from simct.jobs.local import job as local_job
from simct.runs.status import RunStatus
from tests.support.hub_runs import finished_run

# a page that nobody looks at, on a browser that keeps what it would announce
ELSEWHERE = """
window.announced = [];
window.Notification = class {
  static permission = 'default';
  static async requestPermission() { this.permission = 'granted'; return 'granted'; }
  constructor(title, options) { window.announced.push([title, options.body]); }
};
document.hasFocus = () => window.here ?? false;
"""


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


@pytest.mark.long
def test_a_run_that_ends_is_announced_once(studio, runs_dir):
    run = finished_run(runs_dir / "noticed")
    # nobody looks after a run whose process lives
    lock = local_job.acquire(run)
    run.set_status(state="running", pid=os.getpid())
    studio.page.add_init_script(ELSEWHERE)
    studio.open("?step=runs")
    studio.at("#notify").click()
    expect(studio.at("#notify")).to_have_text("Notifications are on")
    expect(studio.page).to_have_title("● SimCT Studio")
    run.set_status(state="failed", error="The disk is full.")
    os.close(lock)
    expect(studio.page).to_have_title("(1) SimCT Studio")
    (announced,) = studio.page.evaluate("window.announced")
    assert announced[0].startswith("Run failed: ") and announced[1] == "The disk is full."
    # whoever comes back has seen it
    studio.page.evaluate("window.here = true; window.dispatchEvent(new Event('focus'))")
    expect(studio.page).to_have_title("SimCT Studio")


def test_a_run_at_work_has_nothing_to_announce():
    assert line(RunStatus(state="running", message="Training")) == ""
    assert line(RunStatus(state="finished", message="Finished")) == "Finished"
    assert line(RunStatus(state="failed", message="Failed", error="The disk is full.")) == "The disk is full."
