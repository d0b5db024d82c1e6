"""The Data step in a browser: a template that is typed, warnings that are excluded, prompts that are written."""

import json
import re

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect

ROWS = [{"question": f"Say it plainly {n % 12}.", "context": "Please.", "reply": f"R{n}"} for n in range(40)]
ROWS += [{"question": " "}, {"question": "word " * 600, "reply": "x"}]


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


def test_a_file_that_cannot_be_read_is_refused_in_one_line(studio, tmp_path):
    """Gradio refused a file without an ending before the studio saw it, without a word on the page."""
    studio.open("?step=data")
    studio.page.get_by_label("Upload a file").check()
    for name, line in (("prompts", "'prompts' has no ending"), ("book.xlsx", "'book.xlsx' is not JSONL")):
        (tmp_path / name).write_text("Say it plainly.\n")
        studio.at("#prompt-file input[type=file]").set_input_files(tmp_path / name)
        expect(studio.at("#prompt-note .note-error")).to_contain_text(line)
        studio.at("#prompt-file").get_by_label("Clear").or_(studio.at("#prompt-file [aria-label*=emove]")).first.click()
        expect(studio.at("#prompt-file input[type=file]")).to_have_count(1)


def test_columns_are_joined_warnings_excluded_and_prompts_edited(studio, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    studio.open("?step=data")
    studio.page.get_by_label("Upload a file").check()
    studio.at("#prompt-file input[type=file]").set_input_files(tmp_path / "rows.jsonl")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text("41 prompts")
    expect(studio.at("#data-parts tbody tr").first).to_contain_text("question")

    # the preview follows every key, before anything else is read again
    template = studio.at("#prompt-template").locator("input, textarea")
    template.click()
    template.press_sequentially("{context} {question}", delay=10)
    expect(studio.at("#data-preview tbody tr").first).to_contain_text("Please. Say it plainly 0.")
    template.press("Tab")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text("context + question")

    buttons = studio.page.get_by_test_id("exclude")
    expect(buttons).to_have_count(3)
    for left in (2, 1, 0):
        buttons.first.click()
        expect(buttons).to_have_count(left)
    expect(studio.at("#prompt-note")).to_contain_text("28 duplicates")
    studio.shot("data-studio")
    studio.step("Train")
    for line in ("deduplicate: exact", "exclude_rows:", "max_tokens: ", "template: '{context} {question}'"):
        expect(studio.at("#run-yaml")).to_contain_text(line)

    studio.step("Data")
    studio.at("#edit-prompts").click()
    text = studio.at("#prompt-text textarea")
    expect(text).to_have_value(re.compile("Please. Say it plainly 0."))
    text.fill("First?\nSecond?\nFirst?")
    text.press("Tab")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text("2 prompts")
    expect(studio.at("#where")).to_contain_text("written prompts")

    # Launch waits for the answer to the last change, so that no run has the prompts before it
    launch = studio.at("#launch")
    studio.page.evaluate("studio.beginChange()")
    studio.step("Train")
    expect(launch).to_have_attribute("data-outdated", "")
    studio.step("Data")
    text.focus()
    text.press("Tab")
    studio.step("Train")
    expect(launch).not_to_have_attribute("data-outdated", "")
    expect(launch).to_be_enabled()
    studio.step("Data")
    # a reload opens the step that the address names
    expect(studio.page).to_have_url(re.compile("step=data"))
    studio.page.reload()
    expect(text).to_have_value("First?\nSecond?\nFirst?")
