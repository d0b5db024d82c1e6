'use strict';

// The answers to fixed prompts over a run's evaluations; the slider selects one evaluation. Once moved, the slider
// stays where it is when newer evaluations arrive; otherwise it shows the newest.
window.studio ??= {};
Object.assign(window.studio, {
  timeline: (element, _trigger, watch) => {
    let chosen = null;
    const slider = () => element.querySelector('.timeline input');
    const show = () => {
      const input = slider();
      if (!input) return;
      const step = input.dataset.steps.split(' ')[input.value];
      element.querySelector('.timeline output').textContent = Number(step).toLocaleString('en-US');
      input.setAttribute('aria-valuetext', `step ${step}`);
      for (const said of element.querySelectorAll('[data-place]')) said.hidden = said.dataset.place !== input.value;
    };
    element.addEventListener('input', event => {
      if (event.target !== slider()) return;
      chosen = event.target.value === event.target.max ? null : event.target.dataset.steps.split(' ')[event.target.value];
      show();
    });
    watch('value', () => {
      const input = slider();
      if (!input) return;
      const place = input.dataset.steps.split(' ').indexOf(chosen);
      if (place >= 0) input.value = place;
      show();
    });
  },
});
