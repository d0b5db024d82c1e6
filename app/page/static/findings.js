'use strict';

// Warnings about prompts: the button next to a warning leaves out the prompts that it is about, or sets what solves it.
window.studio ??= {};
Object.assign(window.studio, {
  findings: (element, trigger) => {
    element.addEventListener('click', event => {
      const button = event.target.closest('[data-change]');
      if (!button) {
        window.studio.leadToField(event, trigger, 'data');
        return;
      }
      button.disabled = true;
      trigger('select', {change: JSON.parse(button.dataset.change)});
    });
  },
});
