"""A teacher's server on the Pair step, in a real browser: a good one, what can be wrong with one, and a key that stays
where it is."""

import json
import os
import re

import pytest

from simct import demo
from simct.hub.redact import KEY_VARIABLE
from tests.support.run_folders import runs_in
from tests.support.teacher_server import KEY, TeacherServer

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
TRAINING = 120 * studio_page.SECONDS
KEPT = "JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.documentElement.outerHTML])"
VALUES = "[...document.querySelectorAll('input, textarea')].map(field => field.value).join(' ')"


@pytest.fixture(scope="module")
def address(runs_dir):
    with studio_page.running_studio(runs_dir, {**os.environ, KEY_VARIABLE: ""}) as url:
        yield url


@pytest.fixture
def server():
    with TeacherServer(demo.TEACHER) as running:
        yield running


def note(studio):
    return studio.at("#server-note")


def test_a_server_is_typed_where_the_teacher_is_chosen_and_trains_a_student(studio, server, runs_dir):
    server.key = KEY
    studio.open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    studio.name_model("teacher", f"{server.url}/v1")
    # the teacher stays the model whose tokenizer is read
    expect(studio.at("#teacher input")).to_have_value("Embedded teacher")
    expect(studio.at("#teacher-server textarea")).to_have_value(f"{server.url}/v1")
    expect(note(studio).locator(".note-error")).to_contain_text("wants a key")
    expect(note(studio)).to_contain_text("Enter it under Key of the server")
    key = studio.at("#server-key input")
    assert key.get_attribute("type") == "password"
    key.fill(KEY)
    key.press("Enter")
    expect(note(studio).locator(".note-ok")).to_contain_text("lists 64 tokens at each position")
    expect(note(studio)).to_contain_text(re.compile(r"answers in [\d.]+ s and scores [\d,]+ tokens per second"))
    expect(note(studio)).to_contain_text("Its tokens are those of Embedded teacher")
    expect(key).to_have_value("")
    studio.shot("pair-served")

    studio.step("Train")
    studio.set("Steps", "1")
    studio.set("Max new tokens", "8")
    expect(studio.at("#run-yaml")).to_contain_text(server.url)
    expect(studio.at("#train-estimate")).to_contain_text("Server tokens")
    expect(studio.at("#checklist .note-ok")).to_contain_text("Ready to launch")
    assert KEY not in studio.page.evaluate(KEPT) + studio.page.evaluate(VALUES)
    studio.page.get_by_role("button", name="Launch on this machine").click()
    expect(studio.at("#run-head .pill")).to_have_text("finished", timeout=TRAINING)
    [run] = runs_in(runs_dir)
    assert run.config().teacher.server == f"{server.url}/v1" and run.metrics()[0]["teacher_tokens"] > 0
    written = [path for path in runs_dir.rglob("*") if path.is_file()]
    assert written and not [path for path in written if KEY.encode() in path.read_bytes()]

    # what the browser keeps brings the server back, and the studio still has its key
    studio.open()
    assert KEY not in studio.page.evaluate(KEPT)
    expect(studio.at("#teacher-server textarea")).to_have_value(f"{server.url}/v1")
    expect(note(studio).locator(".note-ok")).to_contain_text("lists 64 tokens")
    studio.at("#server-none").click()
    expect(studio.at("#teacher-server textarea")).to_have_value("")
    expect(note(studio)).to_be_empty()
    assert {"Authorization" in json.dumps(body) for body in server.asked} == {False}
