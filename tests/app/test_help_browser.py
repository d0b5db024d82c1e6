"""The page explains itself: whatever a step shows has a "?" that opens by keyboard and mouse; a pair has a verdict."""

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
expect = playwright.expect

STEPS = ("Pair", "Inspect", "Data", "Train", "Runs", "Compare", "Publish")
# what a step shows without help: labels that are seen, numbers, charts and headings of columns
WITHOUT_HELP = """() => {
  const seen = (element) => element.getClientRects().length > 0 && element.offsetWidth > 1;
  const has = (element) => [...element.children].some(child => child.dataset.testid === 'help');
  const text = (element) => element.textContent.trim();
  const missing = [];
  for (const label of document.querySelectorAll('#steps [data-testid="block-info"], #steps .checkbox-container')) {
    const block = label.closest('div.block, fieldset.block');
    if (seen(label) && !has(block)) missing.push(`field ${block.id} ${text(label)}`);
  }
  const drawn = '#steps .tile, #steps figure.chart > figcaption, #steps table.grid th';
  for (const each of document.querySelectorAll(drawn)) {
    if (seen(each) && text(each) && !has(each)) missing.push(`${each.tagName} ${text(each)}`);
  }
  return missing;
}"""


@pytest.fixture(scope="module")
def hub():
    from tests.support.hub_server import HubServer

    with HubServer() as server:
        yield server


def unfold(studio) -> None:
    """Open every group of the step."""
    heads = studio.at("#steps button.label-wrap:not(.open)").locator("visible=true")
    while heads.count():
        heads.first.click()


def test_everything_on_every_step_has_help(studio):
    studio.open()
    expect(studio.at("#pair-summary .tile")).to_have_count(3)
    for step in STEPS:
        studio.step(step)
        expect(studio.at("[data-testid=docs]").locator("visible=true")).to_have_count(1)
        unfold(studio)
        views = studio.at("#inspect-parts [role=tab]").locator("visible=true").all() if step == "Inspect" else [None]
        for view in views:
            if view is not None:
                view.click()
                unfold(studio)
            studio.page.wait_for_timeout(300)
            assert studio.page.evaluate(WITHOUT_HELP) == [], step
        assert studio.at("[data-testid=help]").locator("visible=true").count() or step == "Runs"
        studio.shot(f"help-{step.lower()}")
    studio.step("Train")
    button = studio.at("#training-steps [data-testid=help]")
    button.focus()
    studio.page.keyboard.press("Enter")
    expect(studio.page.get_by_test_id("help-text")).to_contain_text("training.steps")
    expect(button).to_have_attribute("aria-expanded", "true")
    studio.page.keyboard.press("Escape")
    expect(studio.page.get_by_test_id("help-text")).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    expect(studio.page.get_by_test_id("help-text")).to_be_visible()
    studio.shot("help-open", full=False)
    studio.at("h1").click()
    expect(studio.page.get_by_test_id("help-text")).to_be_hidden()


def test_a_step_leads_to_its_section_of_the_documentation(studio):
    studio.open("?step=train")
    studio.at("[data-testid=docs]").locator("visible=true").click()
    expect(studio.at("#documentation h2").filter(has_text="Settings worth knowing")).to_be_focused()
    studio.at("#documentation a[href*='method.md']").first.click()
    expect(studio.at("#documentation h1")).to_contain_text("methods")


def test_the_pair_page_measures_and_leads_to_training(studio):
    studio.open()
    expect(studio.page.get_by_test_id("meaning").locator(".note-ok")).to_be_visible()
    light = studio.page.get_by_test_id("light")
    expect(light).to_have_attribute("data-color", "green")
    expect(studio.at("#pair-verdict-note")).to_contain_text("in advance")
    studio.shot("verdict-pair")
    studio.at("#pair-measure").click()
    expect(studio.at("#pair-verdict-note")).to_be_empty(timeout=90_000)
    expect(studio.at("#pair-measure")).to_be_enabled()
    expect(light).to_have_attribute("data-color", "green")
    studio.at("#pair-train").click()
    expect(studio.at("#method-verdict")).to_be_visible()
    studio.step("Pair")
    for side in ("teacher", "student"):
        studio.pick(f"#{side}", "Embedded student")
    expect(studio.page.get_by_test_id("meaning").locator(".note-warn")).to_be_visible()
    # another small pair on this machine is measured without being asked
    expect(light).to_have_attribute("data-color", "yellow", timeout=90_000)
