"""Fields in a browser: what is typed and entered counts, a wrong number is said beside its field, a file is removed."""

import re
import shutil

import pytest

from simct import demo

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


def enter(studio: studio_page.Studio, selector: str, text: str, *keys: str) -> None:
    """Type a text over what a field holds, press the keys, and then Enter."""
    field = studio.at(f"{selector} input")
    field.click()
    field.press("Control+a")
    field.press_sequentially(text, delay=15)
    for key in (*keys, "Enter"):
        field.press(key)


def test_enter_takes_what_was_typed_and_not_a_longer_name_of_the_list(studio, tmp_path):
    for name in ("model-large", "model"):
        shutil.copytree(demo.TEACHER, tmp_path / name)
    studio.open()
    field = studio.at("#teacher input")
    for name in ("model-large", "model"):
        enter(studio, "#teacher", str(tmp_path / name))
        expect(studio.at("#where")).to_contain_text(f"{name} →")
        expect(field).to_have_value(str(tmp_path / name))
    # an arrow key chooses from the list
    enter(studio, "#teacher", str(tmp_path / "mod"), "ArrowDown")
    expect(field).to_have_value(str(tmp_path / "model"))
    # a word chooses what is marked in it
    enter(studio, "#teacher", "Embedded")
    expect(field).to_have_value("Embedded teacher")

    for name in ("Alpha and more", "Alpha"):
        enter(studio, "#project", name)
        expect(studio.page).to_have_url(re.compile(rf"project={name.replace(' ', '.')}$"))
    expect(studio.at("#project input")).to_have_value("Alpha")


def test_a_number_that_is_not_allowed_is_said_and_blocks_nothing(studio):
    studio.open("?step=data")
    note = studio.at("#prompt-note")
    expect(note.locator(".note-ok")).to_contain_text("2,000 prompts")
    studio.set("Use at most", "0")
    expect(note).to_contain_text("“Use at most” is 0")
    studio.step("Train")
    expect(studio.at("#checklist .check-error")).to_contain_text("“Use at most” is 0")
    expect(studio.page.get_by_role("button", name="Launch on this machine")).to_be_disabled()
    studio.at("#checklist .to-field").click()
    expect(studio.at("#limit input")).to_be_focused()
    studio.at("#system-text textarea, #system-text input").first.fill("Be brief.")
    studio.set("Use at most", "100")
    expect(note.locator(".note-ok")).to_contain_text("100 prompts")
    expect(studio.at("#data-readings")).to_contain_text("Be·brief.")
    assert studio.at(".toast-body").count() == 0


def test_a_file_that_is_removed_and_a_text_that_is_deleted_are_not_used(studio, tmp_path):
    (tmp_path / "mine.csv").write_text("prompt\nOne\nTwo\nThree\n")
    studio.open("?step=data")
    note, where = studio.at("#prompt-note"), studio.at("#where")
    studio.page.get_by_label("Upload a file").check()
    studio.at("#prompt-file input[type=file]").set_input_files(tmp_path / "mine.csv")
    expect(note.locator(".note-ok")).to_contain_text("3 prompts")
    studio.at("#prompt-file").get_by_label("Clear").click()
    expect(note.locator(".note-error")).to_contain_text("There are no prompts")
    expect(where).to_contain_text("no prompts yet")

    studio.page.get_by_label("Write or paste").check()
    text = studio.at("#prompt-text textarea")
    text.fill("One\nTwo")
    text.press("Tab")
    expect(note.locator(".note-ok")).to_contain_text("2 prompts")
    studio.page.reload()
    expect(text).to_have_value("One\nTwo")
    expect(note.locator(".note-ok")).to_contain_text("2 prompts")
    text.fill("")
    text.press("Tab")
    expect(note.locator(".note-error")).to_contain_text("There are no prompts")
