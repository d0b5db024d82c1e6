"""What keeps people from using a page: what axe-core finds, controls too small to touch, and text that is cut off."""

from pathlib import Path

from playwright.sync_api import Page

# installed by tests/install_browser.sh
AXE = Path(__file__).parents[2] / ".venv" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
MISSING = "no axe-core on this machine (tests/install_browser.sh installs it where there is npm)"
SMALLEST = 40  # px

# all rules that are on by default, and the size of targets, which is not
RUN = """async () => {
  const found = await axe.run(document, {
    resultTypes: ['violations'], rules: {'target-size': {enabled: true}},
  });
  return found.violations.flatMap(rule => rule.nodes.map(node => {
    const why = [...node.any, ...node.all, ...node.none].map(check => check.message).join(' ');
    return `${rule.id}: ${node.target.join(' ')} (${why}) ${node.html.slice(0, 200)}`;
  }));
}"""

# A check box or radio button is touched by its label, a help button by what surrounds it. Links within a text are as
# high as its lines.
SMALL = """(smallest) => {
  const controls = 'button, a[href], input, select, textarea, summary, [role=tab], [role=button], [role=slider], '
    + '[role=switch], [tabindex="0"]';
  const exempt = 'p a, li a, td a, :disabled, [type=file], [aria-hidden=true]';
  const wrong = [];
  for (const element of document.querySelectorAll(controls)) {
    const seen = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!seen && element.type !== 'radio') continue;
    if (element.closest('[inert]') || element.matches(exempt)) continue;
    const target = element.matches('[type=checkbox], [type=radio]') ? element.closest('label') ?? element : element;
    let {width, height} = target.getBoundingClientRect();
    if (width < 2 || height < 2) continue;
    const around = getComputedStyle(target, '::after');
    if (around.content !== 'none' && around.position === 'absolute') {
      width = Math.max(width, parseFloat(around.width) || 0);
      height = Math.max(height, parseFloat(around.height) || 0);
    }
    if (Math.min(width, height) >= smallest - 0.5) continue;
    const name = (element.getAttribute('aria-label') || element.innerText || '').trim().slice(0, 40);
    const place = element.closest('[id]')?.id ?? '';
    wrong.push(`${target.tagName.toLowerCase()}.${String(target.className).slice(0, 60)} "${name}" in #${place}: `
      + `${Math.round(width)} x ${Math.round(height)}`);
  }
  return wrong;
}"""

# An ellipsis says itself that there is more, but the name of a tab is read whole.
CUT = """() => {
  const wrong = [];
  const hides = (element) => ['hidden', 'clip'].includes(getComputedStyle(element).overflowY);
  for (const element of document.querySelectorAll('button:not(.help), summary, input:not([type=range], [type=file])')) {
    const seen = element.checkVisibility({visibilityProperty: true, opacityProperty: true});
    if (!seen || element.closest('[inert], .visually-hidden')) continue;
    const {width, bottom} = element.getBoundingClientRect();
    if (width < 2) continue;
    const shortened = getComputedStyle(element).textOverflow === 'ellipsis' && !element.matches('[role=tab]');
    const ellipsis = element.matches('input') || shortened;
    const narrow = !ellipsis && element.scrollWidth > element.clientWidth + 1;
    const low = hides(element.parentElement) && bottom > element.parentElement.getBoundingClientRect().bottom + 2;
    const place = element.closest('[id]')?.id ?? '';
    const name = (element.getAttribute('aria-label') || element.innerText || '').trim().slice(0, 40);
    if (narrow || low) wrong.push(`${element.tagName.toLowerCase()} "${name}" in #${place}`);
  }
  return wrong;
}"""


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page as it is now, each as "rule: selector (why)"."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    return page.evaluate(RUN)


def small_targets(page: Page) -> list[str]:
    """Visible controls that are less than SMALLEST px wide or high."""
    return page.evaluate(SMALL, SMALLEST)


def cut_off(page: Page) -> list[str]:
    """Visible buttons and fields whose text does not fit in them, or that do not fit in what is around them."""
    return page.evaluate(CUT)
