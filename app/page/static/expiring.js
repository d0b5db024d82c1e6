'use strict';

// Messages that say that something was done ([data-expires]: for how many seconds) go when they have been read; one
// that the pointer or the focus is on stays until it is left. `data-at` tells one message from the next, as Gradio may
// write the next into the same element.
{
  const known = new WeakMap();
  const expire = (message, at) => {
    if (message.dataset.at !== at) return;
    if (message.matches(':hover, :focus-within')) setTimeout(() => expire(message, at), 1000);
    else message.classList.add('expired');
  };
  const start = () => {
    for (const message of document.querySelectorAll('[data-expires]')) {
      const {at, expires} = message.dataset;
      if (known.get(message) === at) continue;
      known.set(message, at);
      setTimeout(() => expire(message, at), 1000 * Number(expires));
    }
  };
  new MutationObserver(start).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ['data-at'],
  });
}
