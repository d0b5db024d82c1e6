'use strict';

// The lanes of aligned units. One unit is in the tab order; arrow keys move between units, and the line under the lanes
// describes the focused one. Choosing a unit (click, Enter) is sent to the server, which does not redraw the lanes.
window.studio ??= {};
Object.assign(window.studio, {
  lanes: (element, trigger, watch) => {
    const describe = (unit) => {
      const line = element.querySelector('.unit-line');
      if (!unit || !line) return;
      unit.title = unit.dataset.about;
      line.textContent = unit.title;
    };
    const chosen = () => element.querySelector('.unit.now');
    const choose = (unit) => {
      if (!unit) return;
      for (const other of element.querySelectorAll('.unit.now')) {
        other.classList.remove('now');
        other.removeAttribute('aria-current');
        other.tabIndex = -1;
      }
      unit.classList.add('now');
      unit.setAttribute('aria-current', 'true');
      unit.tabIndex = 0;
      trigger('select', {unit: Number(unit.dataset.unit)});
    };
    const show = () => {
      const lanes = element.querySelector('.lanes'), unit = chosen();
      if (!lanes || !unit) return;
      describe(unit);
      const box = lanes.getBoundingClientRect(), place = unit.getBoundingClientRect();
      if (place.top < box.top || place.bottom > box.bottom) lanes.scrollTop += place.top - box.top - box.height / 3;
    };
    const neighbor = (unit, key) => {
      const all = [...element.querySelectorAll('.unit')], at = all.indexOf(unit);
      return all[{ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1}[key]];
    };

    element.addEventListener('mouseover', event => describe(event.target.closest('.unit')));
    element.addEventListener('mouseleave', () => describe(chosen()));
    element.addEventListener('focusin', event => describe(event.target.closest('.unit')));
    element.addEventListener('click', event => choose(event.target.closest('.unit')));
    element.addEventListener('keydown', event => {
      const unit = event.target.closest('.unit');
      if (!unit) return;
      if (event.key === 'Enter' || event.key === ' ') {
        event.preventDefault();
        choose(unit);
        return;
      }
      const next = neighbor(unit, event.key);
      if (!next) return;
      event.preventDefault();
      unit.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    watch('value', show);
  },
});
