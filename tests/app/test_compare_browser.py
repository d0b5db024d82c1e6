"""Compare in a browser: a chat with several models, a blind vote, a set of prompts, and code to copy."""

import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from app.train import form  # noqa: E402  (after playwright is known to be there)
from simct import demo  # noqa: E402
from simct.evaluation.votes import votes_of  # noqa: E402
from simct.runs.folder import RunFolder  # noqa: E402
from tests.support import studio_page  # noqa: E402

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
PROMPT = "Say it plainly: The constable may sell the light key on Saturday."


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def run(runs_dir) -> RunFolder:
    """A finished run on the embedded pair, whose student is the embedded one."""
    run = RunFolder.create(runs_dir, form.starting_config())
    shutil.copytree(demo.STUDENT, run.model_dir)
    run.set_status(state="finished", step=1, model_step=1)
    return run


def test_the_models_of_a_run_are_tried_in_every_view(run, studio):
    studio.open("?step=compare")
    view = studio.page.get_by_role("tab", name="Chat")
    expect(studio.at("#compare-sides").get_by_label("Student after")).to_be_checked()
    picked, prompt = studio.at("#compare-picked input"), studio.at("#compare-prompt textarea")
    picked.click()
    for key in ("ArrowDown", "Enter"):
        studio.page.keyboard.press(key)
    expect(prompt).not_to_have_value("")
    prompt.fill("Edited.")
    # Gradio reports a list that is left unchanged as a choice
    picked.focus()
    expect(studio.page.get_by_role("listbox")).to_have_count(1)
    studio.page.keyboard.press("Tab")
    expect(studio.page.get_by_role("listbox")).to_have_count(0)
    view.click()
    studio.pick("#chat-model", "Teacher")
    studio.at("#chat-message textarea").fill(PROMPT)
    studio.page.keyboard.press("Enter")
    answers = studio.at("#chat-talk .turn-assistant .said")
    expect(answers).to_contain_text("officer", timeout=120_000)
    expect(studio.at("#chat-note")).to_contain_text("tokens")
    studio.pick("#chat-model", "Student after")
    studio.at("#chat-message textarea").fill("And once more?")
    studio.at("#chat-send").click()
    expect(answers).to_have_count(2)
    expect(studio.at("#chat-talk .turn h3").last).to_have_text("Student after")
    studio.shot("compare-chat")

    studio.page.get_by_role("tab", name="Blind test").click()
    studio.at("#blind-prompt textarea").fill(PROMPT)
    studio.at("#blind-ask").click()
    expect(studio.at("#blind-left")).to_be_enabled(timeout=120_000)
    assert "Student" not in studio.at("#blind-answers").inner_text()
    studio.at("#blind-left").press("Enter")
    expect(studio.at("#blind-draw")).to_be_focused()
    expect(studio.at("#blind-answers")).to_contain_text("Left: Student")
    expect(studio.at("#blind-tally tbody tr")).to_have_count(1)
    assert [vote.choice for vote in votes_of(run)] == ["left"]
    studio.shot("compare-blind")

    studio.page.get_by_role("tab", name="Prompt set").click()
    studio.at("#set-prompts textarea").fill(f"{PROMPT}\nSay it plainly: one.")
    studio.at("#set-ask").click()
    expect(studio.at("#set-table tbody tr")).to_have_count(2)
    expect(studio.at("#set-table")).to_contain_text("officer", timeout=120_000)
    studio.shot("compare-prompts")

    studio.page.get_by_role("tab", name="Side by side").click()
    expect(prompt).to_have_value("Edited.")
    studio.page.get_by_role("button", name="Publish →").locator("visible=true").click()
    studio.at("#publish-repo input, #publish-repo textarea").first.fill("me/my-student")
    studio.at("#usage button").first.click()
    expect(studio.at("#usage-transformers")).to_contain_text('model_id = "me/my-student"')
    studio.shot("publish-usage")
    assert not studio.complaints
