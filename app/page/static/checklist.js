'use strict';

// Buttons in messages that lead to the field to change, and the checklist next to Launch. For a field of another step,
// the server opens that step and then calls focusField.
{
  let wanted = null;
  const shown = (field) => field && field.getClientRects().length > 0;

  const openGroup = (name) => {
    for (const head of document.querySelectorAll('#steps button.label-wrap')) {
      if (head.textContent.trim().startsWith(name) && !head.classList.contains('open')) head.click();
    }
  };

  window.studio ??= {};
  Object.assign(window.studio, {
    // Called repeatedly until the field can be used, because a step or a group takes a moment to open.
    focusField: (tries = 100) => {
      if (!wanted) return;
      const field = document.getElementById(wanted.field);
      if (!shown(field) || field.closest('[inert]')) {
        if (wanted.group && tries % 10 === 0) openGroup(wanted.group);
        if (tries > 0) setTimeout(() => window.studio.focusField(tries - 1), 100);
        return;
      }
      wanted = null;
      field.scrollIntoView({block: 'center'});
      field.querySelector('input, textarea, select, button')?.focus({preventScroll: true});
    },

    // If such a button was clicked, goes to its field; `here` is the step of the button.
    leadToField: (event, trigger, here) => {
      const button = event.target.closest('[data-field]');
      if (!button) return;
      wanted = {field: button.dataset.field, group: button.dataset.group};
      if (button.dataset.step === here) window.studio.focusField();
      else trigger('select', {step: button.dataset.step});
    },

    checklist: (element, trigger) => {
      element.addEventListener('click', event => {
        const fix = event.target.closest('[data-fix]');
        if (fix) trigger('edit', {setting: fix.dataset.setting, fix: Number(fix.dataset.fix)});
        else window.studio.leadToField(event, trigger, 'train');
      });
    },
  });
}
