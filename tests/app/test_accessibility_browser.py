"""Everybody can use the page: axe-core finds nothing, controls are large enough to touch, the keyboard is enough."""

import re

import pytest

from tests.support.hub_runs import finished_run
from tests.support.hub_server import HubServer

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import accessibility, studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
needs_axe = pytest.mark.skipif(not accessibility.AXE.is_file(), reason=accessibility.MISSING)
expect = playwright.expect

SHOWN = {
    "Pair": "#pair-summary .tile",
    "Inspect": ".unit",
    "Data": "#data-readings .read i",
    "Train": "#train-estimate .tile",
    "Runs": "#run-head .pill",
    "Compare": "#compare-ask",
    "Publish": "#publish",
    "Help": "#documentation h1",
}


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        yield server


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    """A run to look at, with metrics, samples and scores."""
    return finished_run(tmp_path_factory.mktemp("studio") / "runs" / "a-run").path.parent


def parts(studio: studio_page.Studio, step: str) -> list:
    """The tabs within a step, or none."""
    return studio.at("#inspect-parts [role=tab]").locator("visible=true").all() if step == "Inspect" else [None]


def unfold(studio: studio_page.Studio) -> None:
    """Open every group of the step."""
    heads = studio.at("#steps button.label-wrap:not(.open)").locator("visible=true")
    while heads.count():
        heads.first.click()


def every_page(studio: studio_page.Studio):
    """Each step, and each part of a step, with all groups open; gives its name."""
    studio.open()
    for step, selector in SHOWN.items():
        studio.step(step)
        expect(studio.at(selector).locator("visible=true").first).to_be_visible()
        for part in parts(studio, step):
            if part is not None:
                part.click()
            unfold(studio)
            studio.page.mouse.move(0, 0)
            # nothing lies under the header
            studio.page.evaluate("scrollTo(0, 0)")
            expect(studio.at("[data-outdated], .note-busy").locator("visible=true")).to_have_count(0)
            studio.page.wait_for_timeout(500)
            yield f"{step} {part.inner_text()}" if part is not None else step


@needs_axe
@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1400),
        # each look takes a minute and more
        pytest.param("dark", 390, marks=pytest.mark.long),
        pytest.param("light", 390, marks=pytest.mark.long),
        pytest.param("dark", 1400, marks=pytest.mark.long),
    ],
)
def test_axe_finds_nothing_on_any_page(browser, address, scheme, width):
    studio = studio_page.visitor(browser, address, width, 900, scheme)
    found = [f"{name}: {line}" for name in every_page(studio) for line in accessibility.violations(studio.page)]
    assert not found, "\n".join(found)
    studio.close()


def test_every_control_of_a_phone_is_large_enough_to_touch_and_to_read(browser, address):
    studio = studio_page.visitor(browser, address, 390, 844)
    found = []
    for name in every_page(studio):
        lines = accessibility.small_targets(studio.page) + accessibility.cut_off(studio.page)
        found += [f"{name}: {line}" for line in lines]
    assert not found, "\n".join(found)
    studio.close()


def test_the_header_stays_and_scroll_bars_follow_the_scheme(browser, address):
    for scheme in ("light", "dark"):
        studio = studio_page.visitor(browser, address, 1280, 700, scheme).open("?step=train")
        expect(studio.at("#train-estimate .tile").first).to_be_visible()
        studio.page.evaluate("scrollTo(0, 500)")
        assert studio.page.evaluate("scrollY") > 300
        assert 0 <= studio.at("#steps > .tab-wrapper").bounding_box()["y"] < 10
        bars = studio.page.evaluate("getComputedStyle(document.documentElement).colorScheme")
        assert ("dark" in bars) == (scheme == "dark")
        studio.close()


def tab_to(studio: studio_page.Studio, selector: str, most: int = 150) -> None:
    """Press Tab until what `selector` names has the focus; it must then be seen, and not lie under the header."""
    for _ in range(most):
        studio.page.keyboard.press("Tab")
        if studio.page.evaluate("selector => !!document.activeElement.closest(selector)", selector):
            break
    else:
        raise AssertionError(f"Tab does not lead to {selector}.")
    seen = studio.page.wait_for_function(
        """() => {
          const {left, top, width, height} = document.activeElement.getBoundingClientRect();
          const found = document.elementFromPoint(left + width / 2, top + height / 2);
          return found && (document.activeElement.contains(found) || found.contains(document.activeElement));
        }"""
    )
    assert seen


# how what has the focus, and what is around it, looks; the end of a transition, not a moment of it
LOOK = """element => {
  const looks = [];
  for (let each = element; each && looks.length < 20; each = each.parentElement) {
    for (const transition of each.getAnimations()) transition.finish();
    const {outlineStyle, outlineColor, borderColor, boxShadow, backgroundColor} = getComputedStyle(each);
    looks.push(outlineStyle === 'none' ? '' : outlineColor, borderColor, boxShadow, backgroundColor);
  }
  return looks.join();
}"""


@pytest.mark.parametrize("step", ["data", "train", "runs", "compare", "publish", "help"])
def test_what_has_the_focus_looks_different(studio, step):
    """Radio buttons, checkboxes and sliders looked the same with the focus as without it."""
    studio.open(f"?step={step}")
    expect(studio.at(SHOWN[step.capitalize()]).locator("visible=true").first).to_be_visible()
    expect(studio.at("[data-outdated], .note-busy").locator("visible=true")).to_have_count(0)
    studio.at("#steps > .tab-wrapper [role=tab][aria-selected=true]").focus()
    kinds, unseen = set(), []
    for _ in range(80):
        studio.page.keyboard.press("Tab")
        focused = studio.page.evaluate_handle("document.activeElement").as_element()
        if focused.evaluate("element => element === document.body"):
            break
        before = focused.evaluate(LOOK)
        # Tab continues from here
        focused.evaluate("element => element.blur()")
        name = focused.evaluate("element => `${element.closest('[id]').id} ${element.type ?? element.tagName}`")
        kinds.add(name.rpartition(" ")[2])
        if before == focused.evaluate(LOOK):
            unseen.append(name)
    assert "button" in kinds and not unseen, unseen


def test_the_keyboard_leads_from_the_pair_to_a_launched_run(studio):
    studio.open()
    keyboard = studio.page.keyboard
    expect(studio.at("#pair-summary .tile").first).to_be_visible()
    tab_to(studio, "#student input")
    # open the list, and close it without a change
    keyboard.press("ArrowDown")
    keyboard.press("Escape")
    for button in ("Inspect this pair", "Choose the data", "Set up training"):
        target = studio.page.get_by_role("button", name=button).locator("visible=true")
        expect(target).to_be_enabled()
        target.evaluate("element => element.dataset.wanted = ''")
        tab_to(studio, "[data-wanted]")
        target.evaluate("element => delete element.dataset.wanted")
        keyboard.press("Enter")
    expect(studio.at("#train-estimate .tile").first).to_be_visible()
    expect(studio.at("#launch")).to_be_enabled()
    studio.at("#where").evaluate("element => element.ownerDocument.activeElement.blur()")
    tab_to(studio, "#training-steps input")
    keyboard.press("ControlOrMeta+a")
    keyboard.type("2")
    tab_to(studio, "#training-epochs input")
    expect(studio.at("#train-estimate")).to_contain_text("2 steps")
    expect(studio.at("#launch")).to_be_enabled()
    tab_to(studio, "#launch")
    keyboard.press("Enter")
    expect(studio.at("#run-head .pill")).to_be_visible()
    expect(studio.page).to_have_url(re.compile("step=runs"))
    for button in ("#kill", "#confirm-really"):
        tab_to(studio, button)
        keyboard.press("Enter")
    expect(studio.at("#run-head .pill")).to_have_text(re.compile("stopped|finished"))


@pytest.mark.long
def test_a_message_that_something_was_done_goes_by_itself_and_can_come_again(studio):
    studio.open("?step=inspect")
    expect(studio.at(".unit").first).to_be_visible()
    for _ in range(2):
        studio.at("#inspect-link").click()
        message = studio.at("#inspect-linked .note")
        expect(message).to_be_visible()
        studio.page.mouse.move(0, 0)
        expect(message).to_be_hidden()
