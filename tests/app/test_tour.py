"""The start of the Pair page in a browser: the tour runs to its end by itself, and a recipe fills three pages."""

import re

import gradio as gr
import pytest

from app.start import tour
from app.start.gallery import Gallery
from simct.presets.recipes import RECIPES
from tests.support.run_folders import runs_in
from tests.support.shared_studio import SharedStudio, Visitor
from tests.support.waiting import until

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

in_browser = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect
TRAINING = 240 * studio_page.SECONDS
# what Gradio's own page asks for on a Space: its fonts, which the studio's policy forbids, and the Hub about the Space,
# which is not there
OF_A_SPACE = (
    "https://fonts.googleapis.com/", "https://huggingface.co/api/spaces/", "ERR_NAME_NOT_RESOLVED", "Space not found",
)  # fmt: skip


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


def test_a_space_without_hardware_has_a_tour_that_ends_before_the_launch(public, local):
    assert [stop.step for stop in tour.stops(public)] == ["pair", "inspect", "train"]
    assert all("launch" not in (stop.next_presses or "") for stop in tour.stops(public))
    steps = [stop.step for stop in tour.stops(local)]
    assert steps == ["pair", "inspect", "train", "runs", "compare", "publish"]
    assert "toy" in tour.stops(local)[0].text and "</" not in tour.script(local).removesuffix("</script>")


def test_recipes_of_a_space_have_prompts_that_visitors_can_read(public, local):
    with gr.Blocks():
        here, there = Gallery(local), Gallery(public)
    assert set(here.recipes) == {recipe.preset for recipe in RECIPES}
    assert set(there.recipes) == {"demo-cpu", "gpu-16gb", "gpu-24gb", "gpu-80gb"}
    for recipe in RECIPES:
        assert recipe.expected in here.panel.value and recipe.source in here.panel.value
    assert here.panel.value.count("estimated") == 2 * sum(recipe.hours is not None for recipe in RECIPES)
    asked = [gr.EventData(None, {"recipe": name}) for name in ("gpu-16gb", "../x", 3, None)]
    assert [here.recipe_of(event) for event in asked] == ["gpu-16gb", None, None, None]


@in_browser
def test_a_recipe_fills_pair_data_and_train(studio):
    studio.open()
    expect(studio.at("#student-note .note-ok")).to_be_visible()
    studio.at("#recipes button.label-wrap").click()
    card = studio.at(".recipe").filter(has_text="SmolLM2-360M-Instruct")
    expect(card).to_contain_text("one T4, 16 GB")
    studio.shot("recipes")
    card.get_by_role("button").press("Enter")
    expect(studio.at("#recipe-note")).to_contain_text("SmolLM2-360M-Instruct")
    expect(studio.at("#where")).to_contain_text("Qwen/Qwen2.5-1.5B-Instruct → HuggingFaceTB/SmolLM2-360M-Instruct")
    expect(studio.at("#where")).to_contain_text("openai/gsm8k")
    studio.step("Train")
    for got in ("method: marginal", "mixed_precision: fp16", "openai/gsm8k", "SmolLM2-360M-Instruct"):
        expect(studio.at("#run-yaml")).to_contain_text(got)
    expect(studio.at("#preset input")).to_have_value(re.compile("16 GB"))


def at_stop(studio, number: int, title: str):
    """The bar, once it is at the stop."""
    bar = studio.page.get_by_role("region", name="Tour")
    expect(bar.get_by_role("heading")).to_have_text(re.compile(rf"^{number} of 6 .*{title}"))
    return bar


@pytest.mark.long
@in_browser
def test_the_tour_goes_the_whole_way_and_gives_the_page_back(studio, runs_dir):
    before = {run.id for run in runs_in(runs_dir)}
    studio.open("?step=train")
    studio.set("Steps", "17")
    expect(studio.at("#run-yaml")).to_contain_text("steps: 17")
    studio.step("Pair")
    studio.page.get_by_role("button", name="Try it (about a minute)").click()

    bar = at_stop(studio, 1, "A teacher and a student")
    expect(bar).to_contain_text("toy")
    following = bar.get_by_role("button", name="Next")
    expect(following).to_be_enabled()
    expect(studio.at("#project input")).to_have_value("Tour")
    studio.shot("tour-1", full=False)
    # by keyboard: the bar has the focus, and its first button is the next stop of Tab
    expect(bar.get_by_role("heading")).to_be_focused()
    studio.page.keyboard.press("Tab")
    expect(following).to_be_focused()
    studio.page.keyboard.press("Enter")
    bar = at_stop(studio, 2, "tokenizers disagree")
    expect(studio.at("#inspect-lanes .unit").first).to_be_visible()
    expect(following).to_be_enabled()
    studio.shot("tour-2", full=False)
    following.click()
    bar = at_stop(studio, 3, "Settings")
    expect(studio.at("#training-steps input")).to_have_value("60")
    launch = bar.get_by_role("button", name="Launch the run")
    expect(launch).to_be_enabled()
    launch.click()
    bar = at_stop(studio, 4, "The run")
    expect(studio.at("#run-head .pill")).to_be_visible()
    # a reload in the middle changes nothing
    studio.page.reload()
    bar = at_stop(studio, 4, "The run")
    expect(bar.get_by_role("progressbar")).to_be_visible(timeout=TRAINING)
    studio.shot("tour-4", full=False)
    expect(following).to_be_enabled(timeout=TRAINING)
    [run] = [each for each in runs_in(runs_dir) if each.id not in before]
    assert run.status().project == "Tour" and run.status().step == 60
    following.click()
    bar = at_stop(studio, 5, "Before and after")
    expect(following).to_be_enabled(timeout=TRAINING)
    expect(studio.at(".answer[data-side=after] .said")).to_contain_text("doctor")
    studio.shot("tour-5", full=False)
    following.click()
    bar = at_stop(studio, 6, "The model card")
    last = bar.get_by_role("button", name="End the tour")
    expect(last).to_be_enabled()
    studio.shot("tour-6", full=False)
    last.click()

    expect(bar).to_have_count(0)
    studio.page.wait_for_function("window.studioRestored === true")
    expect(studio.at("#project input")).to_have_value("No project")
    studio.step("Train")
    expect(studio.at("#training-steps input")).to_have_value("17")


@in_browser
def test_on_a_phone_the_caption_has_the_width_of_the_screen(browser, address):
    studio = studio_page.visitor(browser, address, 390, 800).open("?step=pair")
    studio.page.get_by_role("button", name="Try it (about a minute)").click()
    bar = at_stop(studio, 1, "A teacher and a student")
    assert bar.locator(".tour-text").bounding_box()["width"] > 340
    assert bar.bounding_box()["height"] < 300
    bar.get_by_role("button", name="Stop the tour").click()
    studio.close()


@in_browser
def test_a_tour_that_is_stopped_stops_its_run(studio, runs_dir):
    before = {run.id for run in runs_in(runs_dir)}
    studio.open("?tour=1")
    bar = at_stop(studio, 1, "A teacher")
    for number, name in ((2, "Next"), (3, "Next"), (4, "Launch the run")):
        button = bar.get_by_role("button", name=name)
        expect(button).to_be_enabled()
        button.click()
        at_stop(studio, number, "")
    expect(studio.at("#run-head :is(.pill-queued, .pill-running)")).to_be_visible()
    bar.press("Escape")
    expect(bar).to_have_count(0)
    [run] = [each for each in runs_in(runs_dir) if each.id not in before]
    expect(studio.at("#project input")).to_have_value("No project")
    until(lambda: not run.status().active, 120, 0.5)
    assert run.status().state == "stopped" and run.status().step < 60


def to_launch(studio) -> None:
    """Take the tour up to its button that launches the run, and press it."""
    studio.open("?tour=1")
    bar = studio.page.get_by_role("region", name="Tour")
    for number, name in ((2, "Next"), (3, "Next"), (0, "Launch the run")):
        button = bar.get_by_role("button", name=name)
        expect(button).to_be_enabled(timeout=TRAINING)
        button.click()
        if number:
            at_stop(studio, number, "")


@in_browser
@pytest.mark.long
def test_the_tour_of_a_space_needs_an_account_and_takes_its_turn(browser, tmp_path):
    with SharedStudio(tmp_path / "runs") as space:
        stranger = studio_page.visitor(browser, space.url)
        to_launch(stranger)
        bar = stranger.page.get_by_role("region", name="Tour")
        expect(bar).to_contain_text("This run cannot start")
        expect(stranger.at("#train-note .note-error")).to_contain_text("Sign in")
        assert runs_in(tmp_path / "runs") == []
        stranger.page.context.close()

        studios = {}
        for name in ("ann", "bob"):
            session = Visitor(space.url, name, f"hf_tokenof{name}").http.headers["Cookie"].partition("=")[2]
            studios[name] = studio_page.visitor(browser, space.url)
            studios[name].page.context.add_cookies([{"name": "session", "value": session, "url": space.url}])
            to_launch(studios[name])
            at_stop(studios[name], 4, "The run")
        owners = {run.status().owner: run for run in runs_in(tmp_path / "runs")}
        assert set(owners) == {"ann", "bob"} and all(run.status().project == "Tour" for run in owners.values())
        for name, studio in studios.items():
            expect(studio.at("#run-head code")).to_have_text(owners[name].id)
            # the runs are not trained for real, so that there is nothing to compare
            studio.page.context.close()
        for visitor in (stranger, *studios.values()):
            for seen in (visitor.strays, visitor.complaints):
                seen[:] = [each for each in seen if not any(part in each for part in OF_A_SPACE)]
