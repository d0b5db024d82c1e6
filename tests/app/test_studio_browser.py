"""The studio in a real browser, against a loopback Hub: the whole way, and what goes wrong on it."""

import json
import re

import pytest

from simct import demo
from simct.config import load_config, save_config
from simct.data.templates import prompt_ids
from simct.inspection.coverage import inspect_pair, show_units
from simct.presets import load_preset
from tests.support.hostile import HOSTILE
from tests.support.hub_server import HubServer
from tests.support.run_folders import runs_in

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
TRAINING = 120 * studio_page.SECONDS

ROWS = [
    {"question": f"Say it plainly: The {who} may purchase the {what}.", "reply": f"The {plain} may buy the {what}."}
    for who, plain in (("adolescent", "teenager"), ("infant", "baby"), ("companion", "friend"), ("cook", "cook"))
    for what in ("blue box", "heavy chair", "light key", "red door", "old lamp")
]
ROWS.append(ROWS[0])


def license(name: str) -> dict[str, bytes]:
    front = f"license: {name}\nlibrary_name: transformers\npipeline_tag: text-generation"
    return {"README.md": f"---\n{front}\n---\n".encode()}


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        server.add_model("acme/wordy-teacher", demo.TEACHER, files=license("apache-2.0"), downloads=900)
        server.add_model("acme/tiny-student", demo.STUDENT, files=license("mit"), downloads=800)
        server.add_model("acme/locked", demo.TEACHER, gated="manual")
        rows = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
        about = b"---\nlicense: cc-by-4.0\n---\n"
        server.add_dataset("acme/plain-words", files={"train.jsonl": rows, "README.md": about})
        yield server


def test_a_fresh_user_goes_from_two_models_on_the_hub_to_a_published_student(studio, hub, runs_dir, pair):
    studio.open()
    expect(studio.at("#teacher-note")).to_contain_text("embedded")
    studio.search("teacher", "wordy", "acme/wordy-teacher")
    expect(studio.at("#teacher-note .note-ok")).to_contain_text("apache-2.0")
    studio.search("student", "acme", "acme/tiny-student")
    expect(studio.at("#student-note .note-ok")).to_contain_text("mit")
    expect(studio.at("#where")).to_contain_text("acme/wordy-teacher → acme/tiny-student · embedded prompts")
    expect(studio.at("#pair-summary .tile").first).to_contain_text(f"{pair.shared_tokens:,}")
    studio.shot("1-pair")

    studio.page.get_by_role("button", name="Inspect this pair").click()
    text = "Say it plainly: the adolescent should purchase documentation."
    studio.at("#inspect-text textarea").fill(text)
    report = inspect_pair(pair, [text])
    expect(studio.at("#inspect-numbers")).to_contain_text(f"{report.student_strict_coverage:.1%}")
    expect(studio.at("#inspect-numbers")).to_contain_text(f"{report.student_recovered_coverage:.1%}")
    units = sum(report.unit_shapes.values())
    recovered = units - report.unit_shapes["1x1"]
    assert recovered > 0
    expect(studio.at("#inspect-lanes .unit.recovered")).to_have_count(recovered)
    studio.shot("2-inspect")

    studio.step("Data")
    studio.page.get_by_label("Hub dataset").check()
    studio.search("prompt-dataset", "plain", "acme/plain-words")
    expect(studio.at("#dataset-note .note-ok")).to_contain_text("cc-by-4.0")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text(f"{len(ROWS)} prompts")
    studio.pick("#answer-column", "reply")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text("prompt: question, answer: reply")
    expect(studio.at("#data-notices")).to_contain_text("1 prompt is there more than once")
    expect(studio.at("#data-rows tbody tr").first).to_contain_text(ROWS[0]["question"])
    messages = [{"role": "user", "content": ROWS[0]["question"]}]
    for side in ("student", "teacher"):
        ids = prompt_ids(getattr(pair, side).tokenizer, messages)
        column = studio.at("#data-readings section").nth(("student", "teacher").index(side))
        expect(column.locator(".read i")).to_have_count(len(ids))
    studio.shot("3-data")

    studio.page.get_by_role("button", name="Set up training").locator("visible=true").click()
    studio.set("Steps", "4")
    for got in ("acme/wordy-teacher", "acme/plain-words", "steps: 4"):
        expect(studio.at("#run-yaml")).to_contain_text(got)
    expect(studio.at("#train-estimate")).to_contain_text("4 steps")
    expect(studio.at("#method-verdict")).to_contain_text("not been measured yet")
    studio.shot("4-train")
    studio.page.get_by_role("button", name="Measure it").click()
    expect(studio.at("#reliability-measure")).to_be_visible()
    studio.step("Train")
    studio.page.get_by_role("button", name="Launch on this machine").click()

    expect(studio.at("#run-head .pill")).to_have_text("finished", timeout=TRAINING)
    expect(studio.at("#run-head")).to_contain_text("acme/wordy-teacher → acme/tiny-student")
    [run] = runs_in(runs_dir)
    config = run.config()
    assert config.student.revision == hub.repos["acme/tiny-student"].head.sha
    assert config.data.revision == hub.repos["datasets/acme/plain-words"].head.sha
    assert (config.teacher.model, config.data.prompts, config.training.steps) == (
        "acme/wordy-teacher",
        "acme/plain-words",
        4,
    )
    assert len([record["loss"] for record in run.metrics()]) == 4
    expect(studio.at("#run-results")).to_contain_text(f"{run.evaluation()['after']['demo']['score']:.1%}")
    studio.shot("5-runs")

    studio.page.get_by_role("button", name="Compare with the teacher").click()
    expect(studio.at("#compare-results")).to_contain_text(f"{run.evaluation()['after']['demo']['score']:.1%}")
    for side in ("Student before", "Teacher"):
        # weights of the Hub are asked for by hand
        expect(studio.at("#compare-sides").get_by_label(side)).not_to_be_checked()
        studio.at("#compare-sides").get_by_label(side).check()
    studio.at("#compare-prompt textarea").fill(ROWS[0]["question"])
    studio.page.get_by_role("button", name="Answer", exact=True).click()
    expect(studio.at(".answer[data-side=after] .said i").first).to_be_visible(timeout=TRAINING)
    expect(studio.at(".answer[data-side=before] .said i").first).to_be_visible()
    expect(studio.at(".answer[data-side=teacher] .said")).to_contain_text(".")
    studio.shot("6-compare")

    studio.page.reload()
    expect(studio.at("#compare-run input")).to_have_value(re.compile("finished"))
    studio.page.get_by_role("button", name="Publish →").locator("visible=true").click()
    studio.page.locator("#publish-repo").locator("input, textarea").fill("tester/plain-student")
    expect(studio.at("#card")).to_contain_text("tester/plain-student")
    studio.page.locator("#publish-now-private input").check()
    studio.page.get_by_role("button", name="Publish", exact=True).click()
    link = studio.at("#publish-note a").first
    expect(link).to_have_text("tester/plain-student", timeout=90 * studio_page.SECONDS)
    assert link.get_attribute("href") == f"{hub.url}/tester/plain-student"
    studio.shot("7-publish")

    published = hub.repos["tester/plain-student"]
    assert published.private
    files = published.files
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(files)
    assert files["model.safetensors"] == (run.model_dir / "model.safetensors").read_bytes()
    card = files["README.md"].decode()
    assert "acme/wordy-teacher" in card and "acme/tiny-student" in card


def past(studio: studio_page.Studio, step: int) -> None:
    """Wait until the progress bar has passed `step`."""
    bar = "document.querySelector('#run-head [role=progressbar]')"
    studio.page.wait_for_function(f"step => Number({bar}?.ariaValueNow) > step", arg=step, timeout=TRAINING)


@pytest.mark.long
def test_a_returning_user_finds_everything_after_the_studio_was_restarted_in_mid_run(browser, hub, tmp_path):
    runs_dir = tmp_path / "runs"
    port = studio_page.free_port()
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"question": row["question"]}) + "\n" for row in ROWS))
    with studio_page.running_studio(runs_dir, hub.env(), port) as url:
        studio = studio_page.visitor(browser, url).open("?step=data")
        studio.page.get_by_label("Upload a file").check()
        studio.at("#prompt-file input[type=file]").set_input_files(tmp_path / "mine.jsonl")
        expect(studio.at("#prompt-note .note-ok")).to_contain_text(f"{len(ROWS)} prompts")
        studio.step("Train")
        studio.set("Steps", "400")
        studio.set("Learning rate", "0.0002")
        studio.at("#evaluation-tasks .token-remove").first.click()
        for got in ("steps: 400", "learning_rate: 0.0002"):
            expect(studio.at("#run-yaml")).to_contain_text(got)
        expect(studio.at("#run-yaml")).not_to_contain_text("tasks:")
        studio.page.get_by_role("button", name="Launch on this machine").click()
        expect(studio.at("#run-head .pill")).to_have_text("running", timeout=TRAINING)
        place = studio.page.url
        assert re.search("step=runs.*run=", place)
        studio.page.goto("about:blank")
    with studio_page.running_studio(runs_dir, hub.env(), port):
        studio.page.goto(place)
        expect(studio.at("#run-head .pill")).to_have_text("running")
        past(studio, 1)
        studio.step("Train")
        expect(studio.at("#training-steps input")).to_have_value("400")
        expect(studio.at("#training-learning-rate input")).to_have_value("0.0002")
        expect(studio.at("#where")).to_contain_text("mine.jsonl")
        studio.step("Data")
        expect(studio.at("#prompt-note .note-ok")).to_contain_text(f"{len(ROWS)} prompts")
        studio.shot("8-returned")
        studio.step("Runs")
        studio.page.get_by_role("button", name="Stop", exact=True).locator("visible=true").click()
        expect(studio.at("#run-head .pill")).to_have_text("stopped", timeout=TRAINING)
        [run] = runs_in(runs_dir)
        assert run.config().training.learning_rate == 0.0002 and run.config().evaluation.tasks == []
        stopped_at = run.status().step
        assert 0 < stopped_at < 400 and run.latest_checkpoint() is not None
        studio.page.get_by_role("button", name="Resume").click()
        expect(studio.at("#run-head .pill")).to_have_text("running", timeout=TRAINING)
        past(studio, stopped_at)
        studio.page.get_by_role("button", name="Force stop").click()
        studio.at("#confirm-really").click()
        expect(studio.at("#run-head .pill")).to_have_text("stopped")
        studio.close()


@pytest.mark.parametrize(
    ("model", "got"),
    [
        ("acme/nothing-here", "no model acme/nothing-here"),
        ("acme/locked", "gated"),
        ("/no/such/folder", "no folder '/no/such/folder'"),
    ],
)
def test_a_model_that_cannot_be_read_is_reported_beside_its_field(studio, model, got):
    studio.open()
    expect(studio.at("#teacher-note .note-ok")).to_be_visible()
    studio.name_model("teacher", model)
    line = studio.at("#teacher-note .note-error")
    expect(line).to_contain_text(got)
    assert line.inner_text().count("Traceback") == 0
    expect(studio.at("#student-note .note-ok")).to_be_visible()
    expect(studio.page.get_by_role("button", name="Inspect this pair")).to_be_disabled()
    studio.step("Inspect")
    expect(studio.at("#inspect-note .note-error")).to_be_visible()


def test_a_model_is_said_to_be_read_and_a_word_that_is_none_does_not_replace_it(studio, hub):
    studio.open()
    expect(studio.at("#teacher-note .note-ok")).to_be_visible()
    field = studio.at("#teacher input")
    hub.fail("/api/models/acme/wordy-teacher", status=503, method="GET", times=2, delay=2)
    studio.name_model("teacher", "acme/wordy-teacher")
    expect(studio.at("#teacher-note .note-busy")).to_contain_text("acme/wordy-teacher")
    expect(field).to_have_value("acme/wordy-teacher")
    hub.faults.clear()
    studio.name_model("teacher", "acme/tiny-student")
    expect(studio.at("#teacher-note .note-ok")).to_contain_text("mit")
    expect(studio.page.get_by_role("button", name="Inspect this pair")).to_be_enabled()
    for word in ("wordy", "not a name!"):
        studio.name_model("teacher", word)
        expect(studio.at("#teacher-note .note-error")).to_contain_text("still acme/tiny-student")
        expect(field).to_have_value("acme/tiny-student")
        expect(studio.at("#where")).to_contain_text("acme/tiny-student →")
        expect(studio.page.get_by_role("button", name="Inspect this pair")).to_be_enabled()


def test_back_and_forward_move_between_steps_and_keep_what_was_chosen(studio):
    studio.open()
    expect(studio.at("#student-note .note-ok")).to_be_visible()
    studio.step("Data")
    expect(studio.page).to_have_url(re.compile("step=data"))
    studio.step("Train")
    expect(studio.page).to_have_url(re.compile("step=train"))
    studio.page.go_back()
    expect(studio.at("#steps [role=tab][aria-selected=true]").first).to_have_text("Data")
    studio.page.go_back()
    expect(studio.at("#pair-summary")).to_be_visible()
    studio.search("student", "acme", "acme/tiny-student")
    expect(studio.page).to_have_url(re.compile("student=acme"))
    studio.page.go_forward()
    expect(studio.page).to_have_url(re.compile("student=acme.*step=|step=data.*student=acme"))
    expect(studio.at("#steps [role=tab][aria-selected=true]").first).to_have_text("Data")
    expect(studio.at("#where")).to_contain_text("acme/tiny-student")


def test_each_tab_of_the_browser_keeps_its_own_settings_and_a_new_one_offers_the_last(studio, address):
    studio.open("?step=train")
    studio.set("Steps", "11")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 11")
    other = studio_page.Studio(studio.page.context.new_page(), address)
    other.open("?step=train")
    expect(other.at("#training-steps input")).to_have_value("11")
    other.set("Steps", "22")
    expect(other.at("#run-yaml")).to_contain_text("steps: 22")
    studio.page.reload()
    expect(studio.at("#training-steps input")).to_have_value("11")
    other.page.goto("about:blank")
    other.page.goto(address + "?step=train")
    expect(other.at("#training-steps input")).to_have_value("22")


def test_a_hub_that_does_not_answer_is_reported_while_searching(studio, hub):
    studio.open()
    expect(studio.at("#student-note .note-ok")).to_be_visible()
    hub.fail("/api/models", status=503, method="GET", times=20)
    field = studio.at("#student input")
    field.click()
    field.fill("")
    field.press_sequentially("tiny", delay=25)
    expect(studio.at("#student-note .note-warn")).to_contain_text("having problems")
    hub.faults.clear()


def test_text_is_shown_as_text_and_empty_text_is_refused(studio, pair):
    studio.open("?step=inspect")
    expect(studio.at("#inspect-lanes .unit").first).to_be_visible()
    field = studio.page.get_by_label("Text", exact=True)
    field.fill(HOSTILE)
    expect(studio.at("#inspect-lanes .unit")).to_have_count(len(show_units(pair, HOSTILE)))
    assert studio.at("#inspect-lanes img").count() == 0 and studio.at("#inspect-table img").count() == 0
    assert studio.page.evaluate("window.hacked") is None
    field.fill("  ")
    expect(studio.at("#inspect-note .note-error")).to_contain_text("no text")
    expect(studio.at("#inspect-lanes .unit")).to_have_count(0)


def test_units_are_walked_by_keyboard(studio):
    studio.open("?step=inspect")
    first = studio.at(".unit").first
    first.focus()
    expect(studio.at(".unit-line")).to_have_text(first.get_attribute("data-about"))
    studio.page.keyboard.press("ArrowRight")
    second = studio.at(".unit").nth(1)
    expect(second).to_be_focused()
    expect(studio.at(".unit-line")).to_have_text(second.get_attribute("data-about"))
    studio.page.keyboard.press("End")
    expect(studio.at(".unit").last).to_be_focused()


def test_prompts_that_cannot_be_used_are_reported_and_nothing_is_launched(studio, runs_dir, tmp_path):
    before = len(runs_in(runs_dir))
    studio.open("?step=data")
    studio.page.get_by_label("Upload a file").check()
    expect(studio.at("#prompt-note .note-error")).to_contain_text("no prompts")
    field = studio.at("#prompt-file input[type=file]")
    for name, content, got in (
        ("empty.jsonl", "", "empty"),
        ("broken.jsonl", "{nonsense\n", "load"),
        ("wrong.jsonl", '{"color": "red"}\n', "color"),
    ):
        (tmp_path / name).write_text(content)
        field.set_input_files(tmp_path / name)
        expect(studio.at("#prompt-note .note-error")).to_contain_text(got)
        studio.at("#prompt-file").get_by_label("Clear").click()
    field.set_input_files(tmp_path / "wrong.jsonl")
    expect(studio.at("#prompt-note .note-error")).to_contain_text("wrong.jsonl")
    expect(studio.at("#data-rows")).to_contain_text("red")
    studio.step("Train")
    expect(studio.at("#checklist .check-error")).to_contain_text("color")
    expect(studio.at("#launch")).to_be_disabled()
    assert len(runs_in(runs_dir)) == before
    studio.at("#checklist [data-field=prompt-source]").click()
    studio.pick("#prompt-column", "color")
    expect(studio.at("#prompt-note .note-ok")).to_contain_text("1 prompt, no answers")


def test_a_setting_out_of_range_is_reported_beside_its_field(studio):
    studio.open("?step=train")
    studio.set("Steps", "0")
    expect(studio.at("#training-steps.wrong")).to_contain_text("It must be 1 or more")
    problem = studio.at("#checklist .check-error")
    expect(problem).to_have_count(1)
    assert "training.steps" not in studio.at("#train-form").inner_text()
    # the reason is gone with the first key, whatever the server says later
    studio.at("#training-steps input").press("5")
    expect(studio.at("#training-steps.wrong:not(.corrected)")).to_have_count(0)
    studio.set("Steps", "5")
    expect(studio.at("#training-steps.wrong")).to_have_count(0)
    expect(problem).to_have_count(0)
    expect(studio.at("#train-estimate")).to_contain_text("5 steps")


def test_everything_beside_the_form_belongs_to_one_version(studio):
    studio.open("?step=train")
    outdated = studio.at("#train-outcome [data-outdated]")
    expect(studio.at("#launch")).to_be_enabled()
    expect(outdated).to_have_count(0)
    # dimmed by the page itself, before the server has heard of it
    field = studio.at("#training-epochs input")
    studio.page.evaluate(
        "new MutationObserver(list => list.forEach(each => window.dimmed ??= each.target.id === 'launch'"
        " && each.target.inert || undefined))"
        ".observe(document.body, {attributes: true, attributeFilter: ['data-outdated'], subtree: true});"
        # it already is while the page reads what it was opened with
        "addEventListener('input', () => window.dimmed ??= document.getElementById('launch').inert || undefined)"
    )
    field.fill("1")
    field.press("Tab")
    assert studio.page.evaluate("window.dimmed") is True
    expect(outdated).to_have_count(0)
    steps = studio.at("#training-steps input")
    expect(steps).to_be_disabled()
    expect(studio.at("#training-steps")).to_contain_text("1 epoch = ")
    shown = studio.at("#training-steps").inner_text().rpartition("= ")[2].rstrip(".\n")
    expect(studio.at("#train-estimate")).to_contain_text(shown)
    expect(studio.at("#run-yaml")).to_contain_text("epochs: 1")
    field.fill("")
    field.press("Tab")
    expect(steps).to_be_enabled()
    expect(outdated).to_have_count(0)
    studio.at("#training-learning-rate input").fill("0.0001")
    studio.page.keyboard.press("ArrowUp")
    expect(studio.at("#training-learning-rate input")).to_have_value("0.00011")

    # a rule between two settings: the folded group opens, and one click solves it
    studio.set("Max new tokens", "4096")
    problem = studio.at("#checklist .check-error").filter(has=studio.at("[data-setting='training.max_length']"))
    expect(problem).to_have_count(1)
    expect(studio.at("#training-max-length.wrong")).to_be_visible()
    studio.shot("form-problem")
    expect(outdated).to_have_count(0)
    problem.locator("[data-fix]").click()
    expect(studio.at("#training-max-length input")).to_have_value("8192")
    expect(problem).to_have_count(0)
    expect(studio.at("#training-max-length.wrong")).to_have_count(0)


def test_launch_waits_for_the_checklist_which_leads_to_what_has_to_be_fixed(studio, runs_dir):
    studio.open("?step=train")
    launch, checklist = studio.at("#launch"), studio.at("#checklist")
    expect(launch).to_be_enabled()
    expect(checklist.locator(".note-ok")).to_be_visible()
    studio.at("#steps button.label-wrap").filter(has_text=re.compile("^Optimizer")).click()
    optimizer = studio.at("#training-optimizer :is(input, textarea)")
    optimizer.fill("Adamm")
    optimizer.press("Tab")
    problem = checklist.locator(".check-error")
    expect(problem).to_contain_text("torch.optim has no such optimizer")
    expect(problem).to_contain_text("“Optimizer”")
    expect(launch).to_be_disabled()
    studio.at("#steps button.label-wrap").filter(has_text=re.compile("^Optimizer")).click()
    expect(studio.at("#training-optimizer")).to_be_hidden()
    # a list that is about an earlier version of the form takes no focus
    expect(studio.at("#checklist:not([data-outdated])")).to_be_visible()
    problem.locator("[data-field]").focus()
    studio.page.keyboard.press("Enter")
    expect(optimizer).to_be_focused()
    optimizer.fill("AdamW")
    optimizer.press("Tab")
    expect(launch).to_be_enabled()
    expect(checklist.locator(".check-error")).to_have_count(0)

    studio.step("Pair")
    studio.name_model("teacher", "acme/locked")
    expect(studio.at("#teacher-note .note-error")).to_contain_text("gated")
    studio.step("Train")
    expect(problem).to_contain_text("gated")
    expect(launch).to_be_disabled()
    problem.locator("[data-field=teacher]").click()
    expect(studio.at("#teacher input")).to_be_focused()


@pytest.mark.long
def test_a_preset_and_a_run_yaml_fill_the_form(studio, tmp_path):
    studio.open("?step=train")
    expect(studio.at("#run-yaml")).to_contain_text("method: simct")
    studio.pick("#preset", "One GPU of 24 GB")
    expect(studio.at("#run-yaml")).to_contain_text("rank: 32")
    expect(studio.at("#preset-note")).to_contain_text("Made for Qwen/Qwen2.5-3B-Instruct")
    expect(studio.at("#run-yaml")).not_to_contain_text("Qwen")
    config = load_preset("demo-cpu")
    config.teacher.model, config.student.model = "acme/wordy-teacher", "acme/tiny-student"
    config.training.steps, config.training.freeze, config.data.system = 7, ["embed_tokens"], "Be brief."
    save_config(config, tmp_path / "run.yaml")
    with studio.page.expect_file_chooser() as chooser:
        studio.at("#load-yaml").click()
    chooser.value.set_files(tmp_path / "run.yaml")
    for got in ("acme/wordy-teacher", "steps: 7", "embed_tokens", "Be brief."):
        expect(studio.at("#run-yaml")).to_contain_text(got)
    expect(studio.at("#where")).to_contain_text("acme/wordy-teacher → acme/tiny-student")
    with studio.page.expect_download() as download:
        studio.at("#save-yaml").click()
    assert download.value.suggested_filename == "run.yaml"
    assert load_config(download.value.path()) == config


def test_a_page_that_is_refused_says_so_and_tries_again(studio):
    refused = []

    def refuse_first(route):
        if refused:
            route.continue_()
        else:
            refused.append(route.request.url)
            route.fulfill(status=503, json={"detail": "You already have 32 requests waiting."})

    studio.page.route("**/queue/join?*", refuse_first)
    studio.page.goto(studio.url)
    expect(studio.at("#where")).to_contain_text("The studio is busy")
    studio.page.wait_for_function("window.studioRestored === true")
    expect(studio.at("#where")).to_contain_text("Embedded student")
    # Gradio's client reports a refusal, and what the reload cuts short, in several ways
    studio.complaints.clear()


def test_nothing_jumps_while_the_page_fills(browser, address):
    studio_page.visitor(browser, address).open().close()
    studio = studio_page.visitor(browser, address)
    studio.page.add_init_script(
        "window.shifted = 0; new PerformanceObserver(list => list.getEntries().forEach(entry => {"
        " if (!entry.hadRecentInput) window.shifted += entry.value; })).observe({type: 'layout-shift', buffered: true})"
    )
    studio.open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    assert studio.page.evaluate("window.shifted") < 0.2
    studio.close()


def test_pair_step_and_run_come_back_after_a_reload(studio):
    studio.open()
    studio.search("student", "acme", "acme/tiny-student")
    expect(studio.at("#student-note .note-ok")).to_contain_text("Hub")
    studio.step("Train")
    expect(studio.page).to_have_url(re.compile("step=train"))
    studio.page.reload()
    expect(studio.at("#run-yaml")).to_contain_text("acme/tiny-student")
    studio.step("Pair")
    expect(studio.at("#student input")).to_have_value("acme/tiny-student")


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 390), ("dark", 820), pytest.param("dark", 390, marks=pytest.mark.long)]
)
def test_every_step_fits_its_screen(browser, address, width, scheme):
    studio = studio_page.visitor(browser, address, width, 844, scheme).open()
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    assert ("dark" in studio.page.evaluate("document.body.className")) == (scheme == "dark")
    shown = {
        "Pair": "#pair-summary",
        "Inspect": ".unit",
        "Data": "#data-readings .read i",
        "Train": "#train-estimate .tile",
        "Runs": "#run-head .pill, #run-none",
        "Compare": "#compare-ask",
        "Publish": "#publish",
    }
    for name, selector in shown.items():
        studio.step(name)
        expect(studio.at(selector).locator("visible=true").first).to_be_visible()
        assert studio.page.evaluate("document.documentElement.scrollWidth") <= width, name
        studio.shot(f"{scheme}-{width}-{name.lower()}")
    studio.close()
