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

// Gradio opens a list at any key that is pressed in its field, also at the one that leaves it; the list would stay open
// over the fields below.
document.addEventListener('keydown', event => {
  if (event.key === 'Tab' && event.target.matches?.('input[role=combobox]')) event.stopPropagation();
}, true);

// A question that opens below its button closes with Esc. When it has closed, the focus returns to the button that
// opened it; the browser would otherwise start at the top of the page again.
{
  // the buttons that close them; a question about something in the editor closes before the editor
  const CLOSE = {confirm: 'confirm-keep', 'project-confirm': 'project-keep', 'project-editor': 'project-close'};
  const PLACES = Object.keys(CLOSE).map(id => `#${id}`).join();
  const AFTERWARDS = ['#run-list input:checked', '#steps > .tab-wrapper [role=tab][aria-selected=true]'];
  const shown = (element) => Boolean(element?.isConnected && element.getClientRects().length > 0);
  let opener = null;
  let inside = null;

  document.addEventListener('focusin', ({target}) => {
    inside = target.closest(PLACES);
    if (!inside) opener = target;
  });
  document.addEventListener('keydown', event => {
    const {activeElement} = document;
    if (event.key !== 'Escape' || !(activeElement?.closest(PLACES) || activeElement === opener)) return;
    const open = Object.keys(CLOSE).find(id => shown(document.getElementById(id)));
    if (open) document.getElementById(CLOSE[open])?.click();
  });
  new MutationObserver(() => {
    if (!inside || shown(inside)) return;
    inside = null;
    const places = [opener, ...AFTERWARDS.map(each => document.querySelector(each))];
    if (document.activeElement === document.body) places.find(each => shown(each) && !each.disabled)?.focus();
  }).observe(document.documentElement, {childList: true, subtree: true, attributes: true, attributeFilter: ['class', 'style']});
}

// A button that takes itself away leads to what comes next; the browser would otherwise start at the top of the page.
{
  const vote = '#blind-draw';
  const NEXT = {
    'card-edit': '#card-editor textarea', 'card-done': '#card-edit', 'card-reset': '#card-edit',
    'blind-left': vote, 'blind-tie': vote, 'blind-right': vote,
  };
  const usable = (element) => Boolean(element?.getClientRects().length) && !element.disabled;
  let left = null;

  document.addEventListener('focusin', ({target}) => { left = target; });
  new MutationObserver(() => {
    // a disabled button keeps the focus until the next frame
    if (![document.body, left].includes(document.activeElement) || !(left?.id in NEXT) || usable(left)) return;
    const next = document.querySelector(NEXT[left.id]);
    if (usable(next)) next.focus();
  }).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ['class', 'style', 'disabled'],
  });
}
