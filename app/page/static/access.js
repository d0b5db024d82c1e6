'use strict';

// Accessibility that Gradio's components lack. Areas that scroll are in the tab order, so they can be scrolled with the
// keyboard. A drop area for files gets its text as its name.
{
  const PLACES = '#steps :is(.html-container, .scroll, .lanes, .read, .cm-scroller, pre, .prose table)';
  const scrolls = (place) => {
    const {overflowX, overflowY} = getComputedStyle(place);
    const may = (overflow) => overflow === 'auto' || overflow === 'scroll';
    return (may(overflowX) && place.scrollWidth > place.clientWidth + 1)
      || (may(overflowY) && place.scrollHeight > place.clientHeight + 1);
  };
  const mark = () => {
    for (const place of document.querySelectorAll(PLACES)) {
      const ours = place.hasAttribute('data-scrolls');
      if (scrolls(place) === ours) continue;
      place.toggleAttribute('data-scrolls', !ours);
      if (ours) place.removeAttribute('tabindex');
      else place.tabIndex = 0;
    }
    for (const button of document.querySelectorAll('button.upload-container[aria-label]')) {
      if (button.textContent.trim()) button.removeAttribute('aria-label');
    }
  };
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      mark();
    }, 200);
  };
  const shape = {childList: true, subtree: true, attributes: true, attributeFilter: ['class', 'style', 'hidden', 'open']};
  new MutationObserver(later).observe(document.documentElement, shape);
  window.addEventListener('resize', later);
}
