'use strict';

// Text that is typed into a field before the page fills that field would be overwritten. So the fields of a step are
// disabled until the page has been restored and the step has been drawn: Gradio fills a step or a folded group in the
// frames after it is first opened.
{
  const PLACES = '#project, #steps [role=tabpanel], #steps [data-testid=accordion-content]';
  const FIELDS = 'input, textarea, select';
  // after this many frames without a new field, a place counts as drawn
  const QUIET_FRAMES = 3;

  const begun = new WeakSet();
  const frame = () => new Promise(resolve => { requestAnimationFrame(resolve); });

  const disable = (place, disabled) => {
    place.inert = disabled;
    for (const name of ['aria-disabled', 'aria-busy']) {
      if (disabled) place.setAttribute(name, 'true');
      else place.removeAttribute(name);
    }
  };

  const fill = async (place) => {
    begun.add(place);
    disable(place, true);
    let known = -1;
    let quiet = 0;
    while (quiet < QUIET_FRAMES || !window.studioRestored) {
      await frame();
      const count = place.querySelectorAll(FIELDS).length;
      quiet = count === known ? quiet + 1 : 0;
      known = count;
    }
    disable(place, false);
  };

  const placesOf = (element) => {
    const inside = [...element.querySelectorAll(PLACES)];
    for (let place = element.closest(PLACES); place; place = place.parentElement?.closest(PLACES)) inside.push(place);
    return inside;
  };

  new MutationObserver(changes => {
    for (const {addedNodes} of changes) {
      for (const node of addedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE) continue;
        if (!node.matches(FIELDS) && !node.querySelector(FIELDS)) continue;
        for (const place of placesOf(node)) {
          if (!begun.has(place) && place.querySelector(FIELDS)) fill(place);
        }
      }
    }
  }).observe(document.documentElement, {childList: true, subtree: true});
}
