"""How the page opens, in a real browser: the module that lets it open sooner changes nothing that a visitor sees."""

import re

import pytest

playwright = pytest.importorskip("playwright.sync_api")
from tests.support import studio_page  # noqa: E402  (needs playwright)

pytestmark = pytest.mark.skipif(studio_page.CHROMIUM is None, reason="no Chromium on this machine")
STEPS = ("Inspect", "Data", "Train", "Runs", "Compare", "Publish", "Help", "Pair")
MODULE = re.compile(r'<script type="module">.*?</script>', re.S)
# whether Gradio's class of the tree is as Gradio made it
IS_CHANGED = """async () => {
  const core = document.documentElement.outerHTML.match(/assets\\/core-[\\w-]+\\.js/)[0];
  const {AppTree} = await import(new URL(core, document.baseURI));
  return AppTree.prototype.find_attached_events.length === 2
    && !AppTree.prototype.find_attached_events.toString().includes('.filter(');
}"""
# what a visitor sees and can use: texts, and each field with its name and whether it can be used
SEEN = """() => {
  const shown = [...document.querySelectorAll('gradio-app *')].filter(each => each.getClientRects().length);
  const fields = shown.filter(each => each.matches('input, textarea, select, button, [role]')).map(each =>
    [each.tagName, each.type ?? '', each.getAttribute('role') ?? '', each.getAttribute('aria-label') ?? '',
     each.value ?? '', Boolean(each.disabled), each.closest('[id]:not([id^=html-])')?.id ?? ''].join('|'));
  return {text: document.querySelector('gradio-app').innerText, count: shown.length, fields};
}"""
IS_BUSY = "Boolean(document.querySelector('[data-outdated], .note-busy'))"


@pytest.fixture(scope="module")
def hub():
    return studio_page.NoHub()


def without_the_module(route) -> None:
    answer = route.fetch()
    route.fulfill(response=answer, body=MODULE.sub("", answer.text(), count=1))


def all_steps(studio: studio_page.Studio, steps=STEPS) -> dict[str, dict]:
    """What each step shows once it no longer changes."""
    found = {}
    for step in steps:
        studio.step(step)
        before = None
        for _ in range(40):
            studio.page.wait_for_timeout(250)
            seen = studio.page.evaluate(SEEN)
            if seen == before and not studio.page.evaluate(IS_BUSY):
                break
            before = seen
        found[step] = seen
    return found


@pytest.mark.long
def test_every_step_is_the_one_of_a_page_without_the_module(browser, address):
    quick, slow = studio_page.visitor(browser, address), studio_page.visitor(browser, address)
    slow.page.route(address, without_the_module)
    assert [studio.open().page.evaluate(IS_CHANGED) for studio in (quick, slow)] == [True, False]
    expected, got = all_steps(slow), all_steps(quick)
    late = [step for step in STEPS if got[step] != expected[step]]
    # an answer that came after the look at a step is there at the next one; a difference stays
    assert all_steps(quick, late) == all_steps(slow, late)
    quick.close()
    slow.close()


def test_the_module_is_there_before_gradio_builds_the_page(studio):
    """Otherwise it would come too late to make anything quicker."""
    session = studio.page.context.new_cdp_session(studio.page)
    session.send("Profiler.enable")
    session.send("Profiler.startPreciseCoverage", {"callCount": True, "detailed": False})
    studio.open()
    scripts = session.send("Profiler.takePreciseCoverage")["result"]
    ours = [
        {each["functionName"].rpartition(".")[2]: each["ranges"][0]["count"] for each in script["functions"]}
        for script in scripts
        if any(each["functionName"] == "AppTree.reload" for each in script["functions"])
    ]
    components = studio.page.evaluate("window.gradio_config.components.length")
    [called] = ours
    # once for each component and the root, as the tree is built once
    assert called["find_attached_events"] == components + 1
    assert called["reload"] == 1 and called["get_state"] > 100
