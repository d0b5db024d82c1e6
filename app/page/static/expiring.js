'use strict';

// Messages that are no longer news. Success messages disappear after as many seconds as [data-expires] says; a message
// under the pointer or with the focus stays until the pointer or the focus leaves it. `data-at` tells a message from the
// next one, which Gradio may write into the same element.
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
  // A line about a bad link has been read once the visitor does anything on a step; a script's own clicks do not count.
  const leave = (event) => {
    if (!event.isTrusted || !event.target.closest?.('#steps :is(a, button, input, textarea, label, [role])')) return;
    for (const message of document.querySelectorAll('[data-until-next]')) message.classList.add('expired');
  };
  for (const name of ['click', 'input']) document.addEventListener(name, leave, true);
  new MutationObserver(start).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ['data-at'],
  });
}
