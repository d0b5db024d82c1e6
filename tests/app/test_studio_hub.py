"""Choosing a pair on the Hub and publishing to it, in a real browser against the loopback Hub."""

import json
import re
import struct

import pytest

from simct import demo
from tests.support.hub_runs import finished_run
from tests.support.hub_server import HubServer

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect


def card(license: str, more: str = "") -> dict[str, bytes]:
    front = f"license: {license}\nlibrary_name: transformers\npipeline_tag: text-generation\n{more}"
    return {"README.md": f"---\n{front}\n---\n# A model\n".encode()}


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        server.add_model("acme/wordy-teacher", demo.TEACHER, files=card("apache-2.0"), downloads=9_400_000)
        server.add_model("acme/old-teacher", demo.TEACHER, files=card("llama3"), downloads=10)
        server.add_model("acme/locked-teacher", demo.TEACHER, gated="manual", downloads=20)
        student = server.add_model("acme/tiny-student", demo.STUDENT, files=card("mit"), downloads=800)
        for number in range(20):
            server.add_model(f"acme/many-{number}", demo.TEACHER, files=card("apache-2.0"), downloads=1)
        student.commit("next", {**student.head.files}, "Try something", "acme")
        yield server


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with weights that take some seconds to send."""
    run = finished_run(tmp_path_factory.mktemp("studio") / "runs" / "a-run", student={"model": "acme/tiny-student"})
    count = 6_000_000
    header = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    (run.model_dir / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * count))
    return run


@pytest.fixture(scope="module")
def runs_dir(run):
    return run.path.parent


@pytest.fixture
def studio(studio):
    return studio.open()


def type_into(studio, side: str, text: str) -> None:
    field = studio.at(f"#{side} input")
    field.click()
    field.fill("")
    field.press_sequentially(text, delay=25)


def test_results_tell_what_helps_to_choose_and_filters_narrow_them(studio):
    expect(studio.at("#teacher-note")).to_contain_text("embedded")
    type_into(studio, "teacher", "teacher")
    options = studio.page.get_by_role("option")
    first = options.filter(has_text="acme/wordy-teacher")
    expect(first).to_contain_text(re.compile(r"530k parameters · apache-2\.0 · 9\.4M downloads · llama"))
    expect(options.filter(has_text="acme/locked-teacher")).to_contain_text("gated: ask for access")
    studio.shot("pair-results")
    studio.page.keyboard.press("Escape")
    studio.page.get_by_role("button", name="Filters").click()
    studio.page.get_by_label("Access", exact=True).click()
    studio.page.get_by_role("option", name="Gated", exact=True).click()
    expect(studio.at("#teacher-note")).to_contain_text("1 found")
    type_into(studio, "teacher", "acme teacher")  # two words that stand apart in the id
    expect(options.filter(has_text="acme/locked-teacher")).to_be_visible()
    expect(options.filter(has_text="acme/wordy-teacher")).to_have_count(0)


def test_a_name_typed_to_its_end_is_chosen_though_each_key_leaves_fewer_results(studio):
    expect(studio.at("#teacher-note")).to_contain_text("embedded")
    for side, name in (("teacher", "many-17"), ("student", "many-18")):
        field = studio.at(f"#{side} input")
        field.click()
        field.fill("")
        for key in name:
            field.press_sequentially(key)
            studio.page.wait_for_timeout(60)
        expect(studio.at(f"#{side}-note")).to_contain_text("1 found")
        studio.page.get_by_role("option").filter(has_text=f"acme/{name}").first.click()
        expect(studio.at(f"#{side}-note .note-ok")).to_contain_text("apache-2.0")


def test_what_must_be_asked_for_is_a_link_and_licenses_are_reported(studio, hub):
    expect(studio.at("#teacher-note")).to_contain_text("embedded")
    studio.name_model("teacher", "acme/locked-teacher")
    link = studio.at("#teacher-note .note-error a")
    expect(link).to_have_attribute("href", f"{hub.url}/acme/locked-teacher")
    studio.search("teacher", "old", "acme/old-teacher")
    studio.search("student", "tiny", "acme/tiny-student")
    expect(studio.at("#pair-summary")).to_contain_text("forbids using its outputs")
    expect(studio.at("#pair-summary")).to_contain_text("Not legal advice")
    expect(studio.at("#teacher input")).to_have_value("acme/old-teacher")


def test_a_revision_is_chosen_and_kept(studio, hub):
    repo = hub.repos["acme/tiny-student"]
    studio.search("student", "tiny", "acme/tiny-student")
    expect(studio.at("#pair-summary")).to_contain_text(repo.head.sha[:12])
    studio.at("#student-revisions button").first.click()
    studio.at("#student-revision input").click()
    studio.page.get_by_role("option", name=re.compile("branch next")).click()
    expect(studio.at("#pair-summary")).to_contain_text(repo.refs["next"][:12])
    expect(studio.page).to_have_url(re.compile("tiny-student%40next"))
    studio.step("Train")
    expect(studio.at("#run-yaml")).to_contain_text("revision: next")


@pytest.mark.long
def test_a_card_is_edited_and_published_although_the_tab_is_closed(browser, address, hub, run):
    studio = studio_page.visitor(browser, address).open("?step=publish")
    expect(studio.at("#publish-repo :is(input, textarea)")).to_have_value("tester/tiny-student-simct")
    expect(studio.at("#card img[alt]")).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    assert studio.page.evaluate("[...document.querySelectorAll('#card img')].every(each => each.naturalWidth > 0)")
    studio.page.get_by_role("button", name="Edit", exact=True).click()
    editor = studio.at("#card-editor textarea")
    evil = '<img src="http://e.vil/x.png" onerror="window.hacked=1"> ![x](http://e.vil/y.png)'
    editor.fill(
        editor.input_value().replace("license: mit", "license: mitt").replace("## Limits", f"## Mine\n\n{evil}\n")
    )
    studio.page.get_by_role("button", name="Done").click()
    expect(studio.at("#card-note .note-error")).to_contain_text("license is 'mitt'")
    expect(studio.at("#card")).to_contain_text("Mine")
    studio.page.get_by_role("button", name="Publish", exact=True).click()
    expect(studio.at("#publish-note .note-error")).to_contain_text("license is 'mitt'")
    studio.page.get_by_role("button", name="Edit", exact=True).click()
    editor.fill(editor.input_value().replace("license: mitt", "license: mit"))
    studio.page.get_by_role("button", name="Done").click()
    expect(studio.at("#card-note .note-error")).to_have_count(0)
    assert studio.page.evaluate("window.hacked") is None
    hub.rate = 400_000
    studio.page.get_by_role("button", name="Publish", exact=True).click()
    expect(studio.at("#publish-note")).to_contain_text(re.compile(r"Sending model.safetensors.* of 24\.\d MB"))
    studio.shot("publish-progress")
    studio.close()
    studio = studio_page.visitor(browser, address).open("?step=publish")
    expect(studio.at("#publish-note [role=progressbar]")).to_be_visible()
    hub.rate = None
    link = studio.at("#publish-note a").first
    expect(link).to_have_attribute("href", f"{hub.url}/tester/tiny-student-simct")
    published = hub.repos["tester/tiny-student-simct"].files
    assert "## Mine" in published["README.md"].decode()
    assert published["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()
    studio.page.get_by_role("button", name="Reset to generated").click()
    expect(studio.at("#card")).not_to_contain_text("Mine")
    hub.fail("/commit/", 403, message="Storage limit reached")
    studio.page.get_by_role("button", name="Publish again").click()
    expect(studio.at("#publish-note .note-error")).to_contain_text("no room")
    expect(studio.at("#publish-note")).to_contain_text("still there")
    studio.page.get_by_role("button", name="Try again").click()
    expect(studio.at("#publish-note .note-ok")).to_contain_text("Published")
    assert "## Mine" not in hub.repos["tester/tiny-student-simct"].files["README.md"].decode()
    studio.close()
