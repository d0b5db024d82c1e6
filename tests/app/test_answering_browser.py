"""How the page answers, in a real browser: nothing that was typed is lost while a step opens, and no update is sent
twice or for nothing.
"""

import json
import os
import shutil

import pytest

from simct import demo
from simct.jobs.local.process import start_time
from simct.presets import load_preset
from simct.runs.labels import RunLabel, read_label, save_label
from tests.support.run_folders import made_up_run, step_record

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
# notes whether a field could be used in the first frame in which it is there
FIRST_SEEN = """
window.firstSeen = {};
new MutationObserver(() => {
  for (const selector of ['#training-steps input', '#system-text textarea, #system-text input']) {
    const field = document.querySelector(selector);
    if (!field || selector in window.firstSeen) continue;
    window.firstSeen[selector] = 'seen';
    requestAnimationFrame(() => { window.firstSeen[selector] = field.closest('[inert]') ? 'disabled' : 'enabled'; });
  }
}).observe(document, {childList: true, subtree: true});
"""
# notes whether an answer could be asked for while there was no model to answer
EARLY = """
window.early = [];
const look = () => {
  for (const [ask, models] of [['#compare-ask', '#compare-sides input'], ['#set-ask', '#set-sides input']]) {
    const button = document.querySelector(ask);
    if (button && !button.disabled && !document.querySelector(models)) window.early.push(ask);
  }
  requestAnimationFrame(look);
};
look();
"""
# the versions of the form whose estimates were drawn
ESTIMATES = """
() => {
  window.estimates = [];
  const note = () => {
    const edit = document.querySelector('#train-estimate [data-edit]')?.dataset.edit;
    if (edit && window.estimates.at(-1) !== edit) window.estimates.push(edit);
  };
  note();
  new MutationObserver(note).observe(document.getElementById('train-estimate'), {childList: true, subtree: true});
}
"""


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


@pytest.fixture
def run(runs_dir, address):
    """A run that counts as one that trains: its process is the test's own."""
    run = made_up_run(runs_dir)
    shutil.copytree(demo.STUDENT, run.model_dir)
    # so that the studio does not make one, which would be shown
    (run.path / "estimate.json").write_text('{"peak": 1073741824}')
    run.set_status(state="running", total_steps=100, pid=os.getpid(), pid_started=start_time(os.getpid()))
    yield run
    run.set_status(state="stopped", pid=None)
    run.delete()


def asked(studio: studio_page.Studio) -> list[dict]:
    """The events of the page that are sent to the server from now on, as the page's configuration has them."""
    by_id = {each["id"]: each for each in studio.page.evaluate("window.gradio_config.dependencies")}
    sent: list[dict] = []

    def note(request) -> None:
        if "/queue/join" in request.url:
            sent.append(by_id[json.loads(request.post_data)["fn_index"]])

    studio.page.on("request", note)
    return sent


@pytest.mark.long
def test_a_number_typed_as_soon_as_train_opens_is_kept(studio):
    studio.page.add_init_script(FIRST_SEEN)
    studio.page.goto(studio.url)
    train = studio.page.get_by_role("tab", name="Train")
    train.click()
    studio.set("Steps", "4321")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 4321")
    expect(studio.at("#train-estimate")).to_contain_text("4,321 steps")
    expect(studio.at("#training-steps input")).to_have_value("4321")
    studio.step("Data")
    system = studio.at("#system-text textarea, #system-text input")
    system.fill("Be brief.")
    system.press("Tab")
    studio.step("Train")
    expect(studio.at("#run-yaml")).to_contain_text("Be brief.")
    expect(studio.at("#training-steps input")).to_have_value("4321")
    assert set(studio.page.evaluate("Object.values(window.firstSeen)")) == {"disabled"}
    # what the browser kept does not replace what is typed before it is there
    studio.page.goto(studio.url)
    train.click()
    studio.set("Steps", "1234")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 1234")
    expect(studio.at("#training-steps input")).to_have_value("1234")
    expect(studio.at("#run-yaml")).to_contain_text("Be brief.")


def test_a_folded_group_keeps_what_is_typed_as_soon_as_it_opens(studio):
    studio.open("?step=train")
    studio.page.get_by_role("button", name="Checkpoints and metrics").click()
    studio.set("Seed", "77")
    expect(studio.at("#run-yaml")).to_contain_text("seed: 77")
    expect(studio.at("#training-seed input")).to_have_value("77")
    expect(studio.at("#steps [inert] >> visible=true")).to_have_count(0)


def test_a_preset_is_one_update(studio):
    studio.open("?step=train")
    expect(studio.at("#checklist [data-edit]")).to_have_count(1)
    expect(studio.at("[data-outdated]")).to_have_count(0)
    studio.page.evaluate(ESTIMATES)
    sent = asked(studio)
    studio.pick("#preset", "16 GB")
    wanted = load_preset("gpu-16gb").training.batch_size
    expect(studio.at("#training-batch-size input")).to_have_value(str(wanted))
    expect(studio.at("#run-yaml")).to_contain_text(f"batch_size: {wanted}")
    expect(studio.at("[data-outdated]")).to_have_count(0)
    studio.page.wait_for_timeout(1500)
    assert len(studio.page.evaluate("window.estimates")) == 2, "before and after"
    names = [each["api_name"] for each in sent]
    assert len(names) == len(set(names)), names
    assert len(names) <= 6, names


def test_runs_that_do_not_change_are_looked_at_and_not_sent(studio, run):
    studio.open("?step=runs")
    expect(studio.at("#run-head .pill")).to_have_text("running")
    expect(studio.at("#run-charts figure").first).to_be_visible()
    studio.page.wait_for_timeout(3000)
    sent = asked(studio)
    studio.page.wait_for_timeout(5000)
    looks = [each for each in sent if len(each["outputs"]) == 1]
    # it says once a minute for how long the run has been silent
    assert len(looks) > 1 and len(sent) - len(looks) <= 1
    run.append("metrics.jsonl", step_record(61) | {"tokens": 5000})
    run.set_status(step=61)
    expect(studio.at("#run-head")).to_contain_text("step 61 of 100")
    assert max(len(each["outputs"]) for each in sent) > 10


def test_a_note_that_is_being_written_survives_a_star(studio, run):
    save_label(run, RunLabel("First", "kept"))
    studio.open("?step=runs")
    studio.page.get_by_role("button", name="Name, tags and note").click()
    note = studio.at("#run-remark textarea")
    expect(note).to_have_value("kept")
    note.fill("not saved yet")
    studio.at("#star").click()
    expect(studio.at("#star")).to_have_text("★ Starred")
    expect(studio.at("#run-list label").first).to_contain_text("★")
    expect(note).to_have_value("not saved yet")
    assert read_label(run) == RunLabel("First", "kept", (), True)


def test_answers_can_be_asked_for_once_the_models_are_known(studio, run):
    studio.page.add_init_script(EARLY)
    studio.open("?step=compare")
    expect(studio.at("#compare-sides").get_by_label("Student after")).to_be_checked()
    for view, buttons in (
        ("Side by side", ["#compare-ask"]),
        ("Chat", ["#chat-send", "#chat-again"]),
        ("Blind test", ["#blind-ask", "#blind-draw"]),
        ("Prompt set", ["#set-ask"]),
    ):
        studio.page.get_by_role("tab", name=view).click()
        for button in buttons:
            expect(studio.at(button)).to_be_enabled()
    assert studio.page.evaluate("window.early") == []


def test_without_a_run_no_answer_can_be_asked_for(studio):
    studio.open("?step=compare")
    expect(studio.at("#compare-answers")).to_contain_text("once a run has started")
    expect(studio.at("#compare-ask")).to_be_disabled()
    studio.page.get_by_role("tab", name="Chat").click()
    expect(studio.at("#chat-send")).to_be_disabled()
