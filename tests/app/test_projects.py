"""Named projects: in the address, apart from each other in the browser, and carried by the runs launched in them."""

import json
import re

import gradio as gr
import pytest

from app import projects
from app.projects import ProjectEditor
from app.runs import listing, table, view
from app.server.visitor import Visitor
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
        for chosen in (listing.THIS, f"{listing.NAMED}{project}" if project else listing.NONE):
            wanted = listing.filtered_project(chosen, project)
            assert [each for each, _ in listing.filtered(listed, "", "Stopped", wanted)] == [run]
    assert [run for run, _ in listing.filtered(listed, "maths", "All runs")] == [runs["Maths"]]
    wanted = listing.filtered_project(listing.ANY, "Maths")
    assert len(listing.filtered(listed, "", "Stopped", wanted)) == 2
    assert "project Maths" in view.head(runs["Maths"], []) and "project" not in view.head(runs[None], [])


def test_the_filter_of_projects_offers_those_of_the_runs():
    names = ["Algebra", "Maths"]
    field = listing.project_filter(names, f"{listing.NAMED}Maths")
    assert field.visible and "value" not in field.constructor_args
    assert [name for name, _ in field.choices] == ["All projects", "This project", *names, "No project"]
    # a project that is gone
    assert listing.project_filter(names, f"{listing.NAMED}Old").value == listing.ANY
    assert not listing.project_filter([]).visible


def test_the_table_names_the_projects_where_there_are_any(local):
    runs = [RunFolder.create(local.runs_dir, load_preset("demo-cpu")) for _ in range(2)]
    assert "Project" not in table.table(local, listing.visible(local, local.nobody), None)
    runs[0].set_status(project=HOSTILE[:40])
    html = table.table(local, listing.visible(local, local.nobody), None)
    assert ">Project<" in html and "&lt;" in html and "<script" not in html and "<img" not in html


def test_a_run_that_is_started_again_stays_in_its_project(monkeypatch, tmp_path):
    run = RunFolder.create(tmp_path / "runs", load_preset("demo-cpu"))
    run.set_status(state="stopped", project="Maths")
    monkeypatch.setattr(
        "simct.jobs.local.backend.start", lambda runs_dir, config, *_: RunFolder.create(runs_dir, config)
    )
    assert actions.retry(run).status().project == "Maths"


ANN, NOBODY = Visitor("hf_ann", "ann"), Visitor(False, None)


@pytest.fixture
def editor(public):
    with gr.Blocks():
        return ProjectEditor(public, projects.field(), gr.Button())


@pytest.fixture
def run_of(public):
    """Makes a run of an account in a project of a public studio."""

    def make(owner: str | None, project: str) -> RunFolder:
        run = RunFolder.create(public.runs_dir, load_preset("demo-cpu"), owner)
        run.set_status(state="stopped", project=project)
        return run

    return make


def test_renaming_a_project_renames_it_in_the_runs_of_its_owner_alone(editor, run_of):
    mine, other, bens, nobodys = (
        run_of("ann", "Maths"),
        run_of("ann", "Else"),
        run_of("ben", "Maths"),
        run_of(None, "Maths"),
    )
    known = {"project": "Maths", "projects": ["Else", "Maths"]}
    done = editor._rename(ANN, known, "  Plain   algebra ")
    assert done[editor.project].value == "Plain algebra" and "with its 1 run" in done[editor.note]
    assert [name for name, _ in done[editor.project].choices] == ["No project", "Else", "Plain algebra"]
    assert json.loads(done[editor.changed]) == ["rename", "Maths", "Plain algebra"]
    assert [run.status().project for run in (mine, other, bens, nobodys)] == ["Plain algebra", "Else", "Maths", "Maths"]
    assert mine.status().state == "stopped"


@pytest.mark.parametrize(("name", "why"), [(" ", "needs a name"), ("Else", "already"), ("x" * 61, "60 characters")])
def test_a_name_that_cannot_be_is_refused_and_nothing_changes(editor, run_of, name, why):
    run = run_of("ann", "Maths")
    refused = editor._rename(ANN, {"project": "Maths", "projects": ["Else", "Maths"]}, name)
    assert why in refused[editor.note] and refused[editor.changed] == ""
    assert run.status().project == "Maths"
    for known in (None, {}, {"project": 3, "projects": "ab"}):
        assert editor._rename(ANN, known, "Another")[editor.changed] == ""


def test_deleting_a_project_is_asked_about_and_never_deletes_a_run(editor, run_of):
    mine, bens = run_of("ann", "Maths"), run_of("ben", "Maths")
    asked = editor._ask(ANN, {"project": "Maths", "projects": ["Maths"]})
    assert "Its 1 run will stay, in no project." in asked[editor.question] and asked[editor.confirm].visible
    assert "No run belongs to it." in editor._ask(NOBODY, {"project": "Maths"})[editor.question]
    assert editor._ask(ANN, {"project": ""}) == {}
    assert mine.status().project == "Maths"
    done = editor._delete(ANN, asked[editor.asked])
    assert json.loads(done[editor.changed]) == ["delete", "Maths", ""]
    assert mine.exists and mine.status().project is None and bens.status().project == "Maths"
    # who has not signed in has no runs
    editor._delete(NOBODY, "Maths")
    assert bens.status().project == "Maths"


def test_a_tab_says_what_another_tab_did_to_its_project(editor):
    followed = editor._follow({"project": "Algebra", "projects": ["Algebra"], "was": "Maths"})
    assert followed[editor.project].value == "Algebra" and "It was renamed in another tab" in followed[editor.note]
    gone = editor._follow({"project": "", "projects": [], "was": "Maths"})
    assert gone[editor.project].value == "" and "was deleted in another tab" in gone[editor.note]
    assert "<b>" not in editor._follow({"project": "", "was": "<b>x"})[editor.note]
    # there is nothing to edit of no project, and of the tour's
    for known, seen in (({"project": "a"}, True), ({"project": ""}, False), ({"project": "a", "tour": True}, False)):
        assert editor._switched(known)[editor.edit].visible is seen


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


@pytest.mark.long
@in_browser
def test_a_project_is_renamed_and_deleted_and_every_tab_follows(browser, address, runs_dir):
    run = RunFolder.create(runs_dir, load_preset("demo-cpu"))
    run.set_status(state="stopped", project="Maths")
    one = studio_page.visitor(browser, address, width=390)
    one.open("?step=train&project=Maths")
    one.set("Steps", "21")
    expect(one.at("#run-yaml")).to_contain_text("steps: 21")
    two = studio_page.Studio(one.page.context.new_page(), address)
    two.open("?step=train&project=Maths")
    expect(two.at("#training-steps input")).to_have_value("21")

    # by keyboard alone
    one.at("#project-edit").press("Enter")
    name = one.at("#project-name").locator("input, textarea")
    expect(name).to_have_value("Maths")
    name.fill("Algebra")
    name.press("Enter")
    expect(one.at("#project-note")).to_contain_text("renamed with its 1 run")
    for tab in (one, two):
        chosen(tab, "Algebra")
        expect(tab.page).to_have_url(re.compile("project=Algebra"))
    expect(two.at("#project-note")).to_contain_text("renamed in another tab")
    assert run.status().project == "Algebra"
    two.set("Steps", "22")
    expect(two.at("#run-yaml")).to_contain_text("steps: 22")
    # an earlier address leads to it
    old = studio_page.Studio(one.page.context.new_page(), address)
    old.open("?step=runs&project=Maths")
    chosen(old, "Algebra")
    expect(old.at("#run-head")).to_contain_text("project Algebra")
    old.pick("#run-project", "No project")
    expect(old.at("#run-none")).to_contain_text("out of 1")
    old.pick("#run-project", "Algebra")
    expect(old.at("#run-list label")).to_have_count(1)
    old.page.close()

    one.at("#project-edit").click()
    one.at("#project-delete").click()
    expect(one.at("#project-confirm")).to_contain_text("Its 1 run will stay, in no project")
    one.at("#project-keep").click()
    expect(one.at("#project-confirm")).to_be_hidden()
    one.at("#project-delete").click()
    one.at("#project-really").click()
    chosen(one, "No project")
    expect(one.at("#training-steps input")).to_have_value(str(load_preset("demo-cpu").training.steps))
    assert run.exists and run.status().project is None

    # the other tab keeps what it shows to itself until that has a name
    expect(two.at("#project-note")).to_contain_text("deleted in another tab")
    chosen(two, "No project")
    two.set("Steps", "23")
    expect(two.at("#run-yaml")).to_contain_text("steps: 23")
    kept = two.page.evaluate("JSON.stringify(localStorage)")
    assert "Algebra" not in kept and "23" not in json.loads(kept).get("simct-run", "")
    field = chosen(two, "No project")
    field.fill("Geometry")
    field.press("Enter")
    expect(two.page).to_have_url(re.compile("project=Geometry"))
    assert '"steps":23' in two.page.evaluate("localStorage['simct-run:Geometry']")
    one.close()
    run.delete()
