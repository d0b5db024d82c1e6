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


@pytest.mark.long
def test_a_server_is_typed_where_the_teacher_is_chosen_and_trains_a_student(studio, server, runs_dir):
    server.key = KEY
    studio.open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    studio.name_model("teacher", f"{server.url}/v1")
    # the teacher stays the model whose tokenizer is read
    expect(studio.at("#teacher input")).to_have_value("Embedded teacher")
    expect(studio.at("#teacher-server textarea")).to_have_value(f"{server.url}/v1")
    expect(note(studio).locator(".note-error")).to_contain_text("wants a key")
    expect(note(studio)).to_contain_text("under “Key of the server”")
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

    # there are no weights of this teacher to load
    studio.step("Compare")
    expect(studio.at("#compare-served")).to_contain_text("is on a server, so it has no weights here")
    expect(studio.at("#compare-sides").get_by_label("Student after")).to_be_visible()
    expect(studio.at("#compare-sides").get_by_label("Teacher")).to_have_count(0)
    studio.step("Inspect")
    expect(studio.at("#inspect-score")).to_be_disabled()
    studio.at("#inspect-look").click()
    expect(studio.at("#position-note")).to_contain_text("Reliability measures this pair through the server")
    expect(studio.at("#position-load")).to_be_disabled()

    # what the browser keeps brings the server back, and the studio still has its key
    studio.open()
    assert KEY not in studio.page.evaluate(KEPT)
    expect(studio.at("#teacher-server textarea")).to_have_value(f"{server.url}/v1")
    expect(note(studio).locator(".note-ok")).to_contain_text("lists 64 tokens")
    studio.at("#server-none").click()
    expect(studio.at("#teacher-server textarea")).to_have_value("")
    expect(note(studio)).to_be_empty()
    assert {"Authorization" in json.dumps(body) for body in server.asked} == {False}


def test_what_is_wrong_with_a_server_is_said_beside_it(studio, server, address):
    server.max_logprobs = 20
    studio.open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    studio.name_model("teacher", server.url)
    expect(note(studio).locator(".note-error")).to_contain_text("max allowed: 20")
    listed = studio.at("#teacher-top-logprobs input")
    listed.fill("16")
    listed.press("Tab")
    expect(note(studio).locator(".note-ok")).to_contain_text("lists 16 tokens")

    # a page that is no such server: the studio's own
    studio.name_model("teacher", address)
    expect(note(studio).locator(".note-error")).to_contain_text("no completions endpoint")

    for secret in ("https://me:secret-word@example.com", "https://example.com/?key=secret-word"):
        studio.name_model("teacher", secret)
        expect(note(studio).locator(".note-error")).to_contain_text("without a name, password or query")
        # the address is taken from the field, which then holds a model again, and is kept nowhere
        studio.page.wait_for_function(f"!({VALUES} + location.href).includes('secret-word')")

    # a model of another tokenizer, under a name that says nothing
    with TeacherServer(demo.STUDENT) as other:
        other.names = ["model"]
        studio.name_model("teacher", other.url)
        expect(note(studio).locator(".note-error")).to_contain_text("tokens are not those of Embedded teacher")
        # its own name is the model's, and is chosen
        other.names = [str(demo.STUDENT)]
        studio.name_model("teacher", other.url + "/")
        expect(studio.at("#teacher input")).to_have_value("Embedded student")
        expect(note(studio).locator(".note-ok")).to_contain_text("Its tokens are those of Embedded student")

    studio.name_model("student", server.url)
    expect(studio.at("#student-note .note-error")).to_contain_text("Only a teacher can be on a server")
    expect(studio.at("#student input")).to_have_value("Embedded student")
