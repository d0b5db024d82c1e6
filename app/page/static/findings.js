'use strict';

// Warnings about prompts: the button beside one leaves out what it is about.
window.studio ??= {};
Object.assign(window.studio, {
  findings: (element, trigger) => {
    element.addEventListener('click', event => {
      const button = event.target.closest('[data-change]');
      if (!button) return;
      button.disabled = true;
      trigger('select', {change: JSON.parse(button.dataset.change)});
    });
  },
});
