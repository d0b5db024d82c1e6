"""The Train step in a browser: the switch that publishes, and a warning about prompts that leads to its setting."""

import re

import pytest

from simct.runs.folder import RunFolder
from tests.support.hub_server import HubServer
from tests.support.run_folders import runs_in

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


def launched(runs_dir) -> RunFolder:
    [run] = runs_in(runs_dir)
    return run


@pytest.mark.long
def test_a_switch_publishes_the_student_when_the_run_has_finished(studio, hub, runs_dir):
    studio.open("?step=train")
    switch = studio.at("#publish-when-finished input")
    repository = studio.at("#publish-repo-id").locator("input, textarea")
    yaml = studio.at("#run-yaml")
    expect(yaml).to_contain_text("method: simct")
    expect(switch).not_to_be_checked()
    expect(repository).to_be_hidden()
    assert "publish" not in yaml.inner_text()

    switch.check()
    expect(repository).to_have_value(re.compile("-simct$"))
    expect(yaml).to_contain_text("repo_id: ")
    expect(studio.at("#publish-repo-id.wrong")).to_have_count(0)
    # the suggestion follows the method until another name is typed
    studio.pick("#method", "Strict")
    expect(repository).to_have_value(re.compile("-strict$"))
    repository.fill("")
    repository.press("Tab")
    expect(studio.at("#publish-repo-id.wrong")).to_contain_text("Name a repository")
    expect(studio.at("#launch")).to_be_disabled()
    repository.fill("tester/by-itself")
    repository.press("Tab")
    expect(studio.at("#publish-repo-id.wrong")).to_have_count(0)
    expect(studio.at("#checklist")).to_contain_text("Ready to launch")

    # without the switch, the name has no effect, and it is still there when the switch is used again
    switch.uncheck()
    expect(repository).to_be_hidden()
    expect(yaml).not_to_contain_text("repo_id: ")
    switch.check()
    expect(repository).to_have_value("tester/by-itself")
    expect(yaml).to_contain_text("repo_id: tester/by-itself")
    studio.set("Steps", "1")
    expect(yaml).to_contain_text("steps: 1")
    studio.page.reload()
    expect(switch).to_be_checked()
    expect(repository).to_have_value("tester/by-itself")
    expect(yaml).to_contain_text("repo_id: tester/by-itself")
    studio.shot("publish-when-finished")
    studio.at("#launch").click()
    expect(studio.at("#run-head .pill")).to_have_text("finished")
    expect(studio.at("#run-head")).to_contain_text("Published: tester/by-itself")
    # what the page only holds stays hidden, in steps that were updated before they were opened, too
    expect(studio.at("#steps .held").first).to_be_attached()
    expect(studio.at("#steps .held").locator("visible=true")).to_have_count(0)
    assert "model.safetensors" in hub.repos["tester/by-itself"].files
    assert launched(runs_dir).config().publish.private


def test_a_warning_about_prompts_adds_a_column_or_leads_to_the_setting(studio, tmp_path):
    rows = [f"Say {n}.,Please {n}.,x" for n in range(9)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,notes,answer", *rows]) + "\n")
    studio.open("?step=train")
    # more than the embedded models can read
    studio.set("Max new tokens", "1000")
    expect(studio.at("#run-yaml")).to_contain_text("max_new_tokens: 1000")
    studio.step("Data")
    studio.page.get_by_label("Upload a file").check()
    studio.at("#prompt-file input[type=file]").set_input_files(tmp_path / "rows.csv")
    notices = studio.at("#data-notices")
    expect(notices).to_contain_text("“Prompt template”")
    notices.get_by_role("button", name="Add notes to the prompt").click()
    expect(studio.at("#data-preview")).to_contain_text("Please 0.")
    expect(studio.at("#prompt-template").locator("input, textarea")).to_have_value("{question}\n\n{notes}")
    expect(notices).not_to_contain_text("Nothing uses")
    expect(notices.locator(".note-error")).to_contain_text("leave room for an answer")
    notices.get_by_role("button", name="Go to Max new tokens").click()
    expect(studio.at("#rollout-max-new-tokens input")).to_be_focused()
