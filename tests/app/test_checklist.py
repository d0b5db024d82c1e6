"""The checklist next to Launch without a browser: what it says, for whom, and what a public studio does not read."""

import pytest

from app.studio import build
from app.train import checklist_view as view
from app.train.preflight import place_of, run_preflight
from app.train.where import HERE, JOBS, Place
from simct import demo
from simct.preflight.records import OK, PROBLEM, WARNING, Check, Preflight
from simct.presets import load_preset
from tests.support.hostile import HOSTILE


@pytest.fixture
def config():
    return load_preset("demo-cpu")


def problems(studio, config, token=None, place=None):
    return run_preflight(studio, config, token, place_of(studio, place)).problems


def test_the_embedded_pair_is_ready(local, config):
    found = run_preflight(local, config, None, place_of(local))
    assert found.problems == found.warnings == []
    html = view.checklist(found)
    assert "note-ok" in html and f"{len(found.checks)} checks passed" in html


def test_a_public_studio_reads_no_folders(public, config, tmp_path):
    (tmp_path / "secret.jsonl").write_text('{"prompt": "secret", "answer": "x"}')
    config.teacher.model = str(tmp_path)
    config.data.prompts = config.data.held_out_prompts = str(tmp_path / "secret.jsonl")
    config.evaluation.tasks = ["demo", str(tmp_path / "secret.jsonl")]
    found = problems(public, config, False)
    assert {each.setting for each in found} == {"teacher.model", "data.prompts", "evaluation.tasks"}
    assert all("public studio" in each.message for each in found)
    config.teacher.model, config.data.prompts = str(demo.TEACHER), str(demo.PROMPTS)
    config.data.held_out_prompts, config.evaluation.tasks = None, ["demo"]
    assert problems(public, config, False) == []


def test_a_job_needs_somebody_who_signed_in(public, local, config):
    [found] = problems(public, config, False, Place(JOBS))
    assert "You are not signed in" in found.message
    assert problems(local, config, None, Place(HERE)) == []


def test_problems_come_first_and_lead_to_their_field_by_its_label():
    checks = [
        Check(OK, "Fine."),
        Check(WARNING, "Look at training.max_length.", setting="training.max_length"),
        Check(PROBLEM, f"training.tracker is {HOSTILE}", "Change training.tracker.", "training.tracker"),
        Check(PROBLEM, "There is no model.", setting="teacher.model"),
        Check(PROBLEM, "rollout.vllm_url is odd.", setting="rollout.vllm_url"),
    ]
    html = view.checklist(Preflight(checks))
    assert "Fix 3 problems first." in html and "1 check passed" in html
    assert html.index("check-error") < html.index("check-warn") < html.index("check-ok")
    assert "“Tracker” is" in html and "Change “Tracker”." in html
    assert 'data-field="training-tracker" data-step="train" data-group="Checkpoints and metrics"' in html
    assert 'data-field="teacher" data-step="pair"' in html
    # no field of the page has it
    assert "rollout.vllm_url is odd." in html and html.count("<button") == 3
    assert "<img" not in html and "<script" not in html


def test_a_list_that_is_being_redone_is_dimmed_and_cannot_be_used():
    before = view.checklist(Preflight([Check(PROBLEM, "No.", setting="teacher.model")]))
    html = view.stale(before, "Checking: models…")
    assert "note-busy" in html and 'class="stale" aria-hidden="true" inert' in html and html.count(view.HEAD) == 1
    assert "stale" not in view.stale("", "Checking…")


def test_every_field_that_the_list_leads_to_is_on_the_page(local):
    ids = {component.elem_id for component in build(local).blocks.values()}
    assert {field.elem_id for field in view.FIELDS.by_setting.values()} <= ids
