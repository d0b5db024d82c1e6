"""The run page in a real browser: labels, the table of runs, stages, the machine, the log."""

import os
import re

import pytest

from simct.jobs.local.process import start_time
from simct.runs.labels import RunLabel, read_label, save_label
from simct.runs.progress import Reporter
from tests.support.hostile import HOSTILE
from tests.support.run_folders import made_up_run, step_record

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
GIB = 1 << 30


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


@pytest.fixture
def made(runs_dir, address):
    found = []

    def make(**fields):
        found.append(made_up_run(runs_dir, **fields))
        return found[-1]

    yield make
    for run in (each for each in found if each.exists):
        run.set_status(state="stopped", pid=None)
        run.delete()


def running(run) -> None:
    """Let the run count as one that trains: its process is the test's own."""
    run.set_status(state="running", total_steps=100, pid=os.getpid(), pid_started=start_time(os.getpid()))


def test_a_run_is_named_tagged_noted_and_starred_and_keeps_it(studio, made):
    run = made()
    studio.open("?step=runs")
    studio.page.get_by_role("button", name="Name, tags and note").click()
    studio.at("#run-name input, #run-name textarea").fill(f"First {HOSTILE[:40]}")
    studio.at("#run-tags input, #run-tags textarea").fill("baseline, low-rate")
    studio.at("#run-remark textarea").fill("Lower rate next.\n<b>Then</b> the other method.")
    studio.at("#save-label").click()
    expect(studio.at("#run-label-note .note-ok")).to_be_visible()
    expect(studio.at("#run-head .run-title")).to_contain_text(f"First {HOSTILE[:40]}".strip())
    expect(studio.at("#run-head .remark")).to_contain_text("<b>Then</b>")
    expect(studio.at("#run-head .chips i")).to_have_text(["baseline", "low-rate"])
    studio.at("#star").click()
    expect(studio.at("#star")).to_have_text("★ Starred")
    expect(studio.at("#run-list label").first).to_contain_text("★")
    assert read_label(run).starred and read_label(run).tags == ("baseline", "low-rate")
    studio.at("#run-tags input, #run-tags textarea").fill("<b>")
    studio.at("#save-label").click()
    expect(studio.at("#run-label-note .note-error")).to_contain_text("cannot be a tag")
    studio.page.reload()
    expect(studio.at("#run-head .run-title")).to_contain_text("First")
    studio.page.get_by_role("button", name="Name, tags and note").click()
    expect(studio.at("#run-name input, #run-name textarea")).to_have_value(re.compile("^First"))


def test_the_table_sorts_keeps_its_order_and_opens_a_run(studio, made):
    one, two = made(steps=40, method="strict"), made(steps=60)
    save_label(one, RunLabel("Alpha", starred=True))
    save_label(two, RunLabel("Beta"))
    two.set_status(distance={"before": 0.9, "now": 0.7, "best": 0.6, "best_step": 30, "step": 60})
    studio.open("?step=runs")
    studio.at("#run-table .label-wrap").click()
    table = studio.page.get_by_test_id("runs-table")
    links = table.locator(".run-link")
    expect(links).to_have_text(["Beta", "★ Alpha"])
    for words in ("25.0%", "75.0%", "0.600", "0.400", "strict", "60"):
        expect(table).to_contain_text(words)
    heading = table.locator("button[data-sort]", has_text="Best mean distance")
    heading.click()
    expect(links).to_have_text(["Beta", "★ Alpha"])
    heading.click()
    expect(links).to_have_text(["★ Alpha", "Beta"])
    two.set_status(distance={"before": 0.9, "now": 0.7, "best": 0.5, "best_step": 30, "step": 60})
    expect(table).to_contain_text("0.500")
    expect(links).to_have_text(["★ Alpha", "Beta"])
    links.first.click()
    expect(studio.at("#run-head .run-title")).to_contain_text("Alpha")
    expect(studio.page).to_have_url(re.compile(one.id))
    studio.pick("#run-search", "Starred")
    expect(links).to_have_text(["★ Alpha"])


def test_a_link_to_a_run_that_is_gone_and_a_star_that_cannot_be_saved_say_so(studio, made):
    run, other = made(), made()
    studio.open("?step=runs&run=20200101-000000-simct-abcdef&project=Gone&part=nowhere")
    note = studio.at("#project-note .note-warn")
    expect(note).to_contain_text("Run '20200101-000000-simct-abcdef' is not here.")
    expect(note).to_contain_text("This browser had no project 'Gone'")
    expect(note).to_contain_text("Inspect has no view 'nowhere'.")
    expect(studio.at("#run-head")).to_contain_text(other.id)
    # the name of the file is taken, so that the star cannot be saved
    (other.path / "label.json").unlink(missing_ok=True)
    (other.path / "label.json").mkdir()
    studio.at("#star").click()
    expect(studio.at("#run-note .note-error")).to_be_in_viewport()
    expect(note).to_be_hidden()
    (other.path / "label.json").rmdir()
    # in another tab, or by the command
    other.delete()
    expect(studio.at("#run-note .note-warn")).to_contain_text(f"Run '{other.id}' is no longer here.")
    expect(studio.at("#run-head")).to_contain_text(run.id)
    studio.open(f"?step=runs&run={run.id}&project=Gone")
    expect(studio.at("#run-head")).to_contain_text(run.id)
    expect(studio.at("#project-note")).to_be_empty()


def test_a_question_closes_with_escape_and_gives_the_focus_back(studio, made):
    run, other = made(), made()
    studio.open(f"?step=runs&run={other.id}&project=Maths")
    keyboard = studio.page.keyboard
    expect(studio.at("#delete")).to_be_enabled()
    for way in ("Escape", "Cancel", "Escape inside"):
        studio.at("#delete").press("Enter")
        expect(studio.at("#confirm-keep")).to_be_visible()
        if way != "Escape":
            studio.at("#confirm-keep").focus()
        keyboard.press("Enter" if way == "Cancel" else "Escape")
        expect(studio.at("#confirm-keep")).to_be_hidden()
        expect(studio.at("#delete")).to_be_focused()
    studio.at("#delete").press("Enter")
    studio.at("#confirm-really").press("Enter")
    expect(studio.at("#run-head")).to_contain_text(run.id)
    assert not other.exists and studio.page.evaluate("document.activeElement !== document.body")

    studio.at("#project-edit").press("Enter")
    studio.at("#project-name").locator("input, textarea").focus()
    studio.at("#project-delete").press("Enter")
    expect(studio.at("#project-keep")).to_be_visible()
    studio.at("#project-keep").focus()
    for hidden in ("#project-keep", "#project-close"):
        keyboard.press("Escape")
        expect(studio.at(hidden)).to_be_hidden()
    expect(studio.at("#project-edit")).to_be_focused()


def test_a_stage_shows_how_far_it_is(studio, made):
    run = made()
    running(run)
    reporter = Reporter(run)
    reporter.stage("Downloading the teacher", 4_000_000_000, "bytes")
    studio.open("?step=runs")
    expect(studio.at("#run-head .note-busy")).to_contain_text("Downloading the teacher: 0 B of 4.0 GB")
    reporter._began -= 10
    reporter._written -= 10
    reporter.update(1_000_000_000)
    expect(studio.at("#run-head .note-busy")).to_contain_text("1.0 GB of 4.0 GB")
    expect(studio.at("#run-head .note-busy")).to_contain_text("MB/s, about")
    expect(studio.page.get_by_role("progressbar", name="Downloading the teacher")).to_be_visible()
    run.set_status(progress=None, message="Training, step 60 of 100")
    expect(studio.at("#run-head .note-busy")).to_contain_text("Training, step 60")
    expect(studio.page.get_by_role("progressbar", name="Downloading the teacher")).to_have_count(0)


def test_the_machine_is_shown_beside_the_estimate_and_health_marks_come_with_advice(studio, made):
    run = made()
    for step in range(31, 61):
        run.append("metrics.jsonl", step_record(step) | {"eos_rate": 0.3})
    run.set_status(
        usage={
            "cpu": 0.5, "memory": 2 * GIB, "memory_peak": 3 * GIB, "memory_total": 16 * GIB, "gpu": 0.87,
            "gpu_name": "NVIDIA H100", "gpu_memory": 40 * GIB, "gpu_memory_peak": 30 * GIB,
            "gpu_memory_total": 80 * GIB,
        }
    )  # fmt: skip
    (run.path / "estimate.json").write_text('{"peak": 32212254720}')
    studio.open("?step=runs")
    tiles = studio.at("#run-machine .tile")
    expect(tiles.filter(has_text="Tokens per second")).to_contain_text("760")
    expect(tiles.filter(has_text="Peak GPU memory, 30 GiB estimated")).to_contain_text("30 GiB")
    expect(tiles.filter(has_text="GPU in use")).to_contain_text("87.0%")
    expect(tiles.filter(has_text="Processor in use")).to_contain_text("50.0%")
    expect(studio.at("#run-machine")).to_contain_text("NVIDIA H100")
    expect(studio.at("#run-results .note-warn")).to_contain_text("training.learning_rate")


def test_the_log_follows_its_end_and_filters(studio, made):
    run = made()
    running(run)
    lines = [f"step {step}/400  loss 0.5" for step in range(1, 401)]
    lines[200] = f"warning: the rate is high {HOSTILE}"
    run.log_path.write_text("\n".join(lines) + "\n")
    studio.open("?step=runs")
    studio.page.get_by_role("button", name=re.compile("^Log")).click()
    log = studio.at("#run-log .log")
    expect(log).to_contain_text("step 400/400")
    at_end = "document.querySelector('#run-log .log').scrollTop + document.querySelector('#run-log .log').clientHeight"
    end = f"{at_end} >= document.querySelector('#run-log .log').scrollHeight - 30"
    studio.page.wait_for_function(end)
    with open(run.log_path, "a") as file:
        file.write("step 401/401  loss 0.4\n")
    expect(log).to_contain_text("step 401/401")
    studio.page.wait_for_function(end)
    studio.page.evaluate("document.querySelector('#run-log .log').scrollTop = 0")
    expect(studio.page.get_by_test_id("log-follow")).not_to_be_checked()
    with open(run.log_path, "a") as file:
        file.write("step 402/402  loss 0.4\n")
    expect(log).to_contain_text("step 402/402")
    assert studio.page.evaluate("document.querySelector('#run-log .log').scrollTop") == 0
    studio.page.get_by_test_id("log-filter").fill("WARNING rate")
    expect(log.locator("span")).to_have_count(1)
    expect(log.locator(".log-warning")).to_contain_text("<img")
    expect(studio.at("#run-log output")).to_contain_text("1 of ")


@pytest.mark.parametrize(("scheme", "width"), [("light", 390)])
def test_the_run_page_fits_a_phone(browser, address, made, scheme, width):
    run = made()
    save_label(run, RunLabel("A rather long name of a run that has to be broken somewhere", "x" * 200, ("a", "b")))
    studio = studio_page.visitor(browser, address, width, 844, scheme).open("?step=runs")
    studio.at("#run-table .label-wrap").click()
    expect(studio.page.get_by_test_id("runs-table")).to_be_visible()
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= width
    studio.close()


def test_a_name_without_spaces_is_not_cut_off_in_the_list_and_the_table(address, browser, made):
    run = made()
    save_label(run, RunLabel("W" * 80, "", ("t" * 30,)))
    studio = studio_page.visitor(browser, address, 390, 800).open("?step=runs")
    expect(studio.at("#run-head .run-title")).to_contain_text("W" * 80)
    studio.at("#run-table button.label-wrap").click()
    expect(studio.at("#run-table-rows .run-link").first).to_contain_text("W" * 80)
    for place in ("#run-list label", "#run-table-rows .run-link", "#run-head"):
        shown = studio.at(place).first
        assert shown.evaluate("each => each.scrollWidth - each.clientWidth") <= 1, place
    assert studio.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    studio.close()
