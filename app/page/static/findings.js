'use strict';

// Warnings about prompts: the button next to a warning leaves out the prompts in question or changes the right setting.
window.studio ??= {};
Object.assign(window.studio, {
  findings: (element, trigger) => {
    element.addEventListener('click', event => {
      const button = event.target.closest('[data-change]');
      if (!button) {
        window.studio.leadToField(event, trigger, 'data');
        return;
      }
      // the warnings are drawn again after the change; another change until then would undo this one
      for (const each of element.querySelectorAll('[data-change]')) each.disabled = true;
      trigger('select', {change: JSON.parse(button.dataset.change)});
    });
  },
});
