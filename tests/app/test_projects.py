"""Named projects: in the address, apart from each other in the browser, and carried by the runs launched in them."""

import re

import pytest

from app import projects
from app.runs import listing
from simct.errors import ConfigError
from simct.jobs import actions
from simct.presets import load_preset
from simct.runs.folder import RunFolder
from tests.support.hostile import HOSTILE

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

expect = playwright.expect
in_browser = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


def test_a_project_is_named_by_one_short_line():
    assert projects.checked_name("  Plain   words ") == "Plain words" and projects.checked_name(" ") is None
    for name in ("x" * 61, "a\0b"):
        with pytest.raises(ConfigError, match="60 characters"):
            projects.checked_name(name)


def test_what_an_address_or_a_browser_may_hold_as_projects_does_no_harm():
    field = projects.shown({"project": "b", "projects": ["a", 3, "x" * 99, HOSTILE[:40].replace("\n", " ")]})
    assert field.value == "b" and ("b", "b") in field.choices and ("a", "a") in field.choices
    for query in ({}, {"project": 3, "projects": "ab"}, {"project": "x" * 99}):
        assert projects.shown(query).value == "" and projects.shown(query).choices == [projects.NONE]


def test_runs_carry_their_project_and_are_found_by_it(runs_dir, tmp_path):
    runs = {}
    for name in ("Maths", None):
        runs[name] = RunFolder.create(tmp_path / "runs", load_preset("demo-cpu"))
        runs[name].set_status(state="stopped", project=name)
    listed = [(run, run.status()) for run in runs.values()]
    for project, run in runs.items():
        assert [each for each, _ in listing.filtered(listed, "", listing.IN_PROJECT, project)] == [run]
    assert [run for run, _ in listing.filtered(listed, "maths", "All runs")] == [runs["Maths"]]
    assert len(listing.filtered(listed, "", "Stopped", "Maths")) == 2


def test_a_run_that_is_started_again_stays_in_its_project(monkeypatch, tmp_path):
    run = RunFolder.create(tmp_path / "runs", load_preset("demo-cpu"))
    run.set_status(state="stopped", project="Maths")
    monkeypatch.setattr(
        "simct.jobs.local.backend.start", lambda runs_dir, config, *_: RunFolder.create(runs_dir, config)
    )
    assert actions.retry(run).status().project == "Maths"


def chosen(studio, name: str):
    """The field of the project, with the page opened on it."""
    field = studio.at("#project input")
    expect(field).to_have_value(name)
    return field


@in_browser
def test_projects_are_kept_apart_and_a_bare_address_opens_the_last(studio, address):
    studio.open("?step=train")
    studio.set("Steps", "11")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 11")
    field = chosen(studio, "No project")
    field.fill("Eleven steps")
    field.press("Enter")
    expect(studio.page).to_have_url(re.compile("project=Eleven"))
    # it begins with what was on the page
    expect(studio.at("#training-steps input")).to_have_value("11")
    studio.set("Steps", "12")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 12")

    other = studio_page.Studio(studio.page.context.new_page(), address)
    other.open("?step=train&project=Another")
    chosen(other, "Another")
    expect(other.at("#training-steps input")).to_have_value(str(load_preset("demo-cpu").training.steps))
    other.set("Steps", "13")
    expect(other.at("#run-yaml")).to_contain_text("steps: 13")

    studio.page.reload()
    chosen(studio, "Eleven steps")
    expect(studio.at("#training-steps input")).to_have_value("12")
    last = studio_page.Studio(studio.page.context.new_page(), address)
    last.open()
    chosen(last, "Eleven steps")
    expect(last.page).to_have_url(re.compile("project=Eleven"))

    # the list leads from one to another
    chosen(last, "Eleven steps").click()
    last.page.get_by_role("option").filter(has_text="Another").click()
    expect(last.page).to_have_url(re.compile("project=Another"))
    last.page.wait_for_function("window.studioRestored === true")
    chosen(last, "Another")
    last.step("Train")
    expect(last.at("#training-steps input")).to_have_value("13")
    chosen(last, "Another").click()
    last.page.get_by_role("option").filter(has_text="No project").click()
    expect(last.page).not_to_have_url(re.compile("project=."))
    last.page.wait_for_function("window.studioRestored === true")
    expect(last.at("#training-steps input")).to_have_value("11")


@in_browser
def test_an_address_with_a_pair_and_no_project_leaves_projects_as_they_are(studio, address):
    studio.open("?step=train&project=Mine")
    studio.set("Steps", "14")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 14")
    other = studio_page.Studio(studio.page.context.new_page(), address)
    other.open("?step=train&teacher=acme/one&student=acme/two")
    chosen(other, "No project")
    expect(other.at("#where")).to_contain_text("acme/one → acme/two")
    other.page.goto(address + "?step=train&project=Mine")
    other.page.wait_for_function("window.studioRestored === true")
    expect(other.at("#training-steps input")).to_have_value("14")
    expect(other.at("#where")).to_contain_text("Embedded teacher → Embedded student")
