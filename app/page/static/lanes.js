// One unit is in the tab order; arrows move between units, and the line under the lanes is about the one in hand.
// Choosing one (click, Enter) is sent to the server, which does not draw the lanes anew for it.
/* global element, trigger, watch */
const describe = (unit) => {
  const line = element.querySelector('.unit-line');
  if (!unit || !line) return;
  line.textContent = unit.title = unit.dataset.about;
};
const now = () => element.querySelector('.unit.now');
const choose = (unit) => {
  if (!unit) return;
  element.querySelectorAll('.unit.now').forEach(other => {
    other.classList.remove('now');
    other.removeAttribute('aria-current');
    other.tabIndex = -1;
  });
  unit.classList.add('now');
  unit.setAttribute('aria-current', 'true');
  unit.tabIndex = 0;
  trigger('select', {unit: Number(unit.dataset.unit)});
};
const show = () => {
  const lanes = element.querySelector('.lanes'), unit = now();
  if (!lanes || !unit) return;
  describe(unit);
  const box = lanes.getBoundingClientRect(), at = unit.getBoundingClientRect();
  if (at.top < box.top || at.bottom > box.bottom) lanes.scrollTop += at.top - box.top - box.height / 3;
};
element.addEventListener('mouseover', event => describe(event.target.closest('.unit')));
element.addEventListener('mouseleave', () => describe(now()));
element.addEventListener('focusin', event => describe(event.target.closest('.unit')));
element.addEventListener('click', event => choose(event.target.closest('.unit')));
element.addEventListener('keydown', event => {
  const unit = event.target.closest('.unit');
  if (!unit) return;
  if (event.key === 'Enter' || event.key === ' ') {
    event.preventDefault();
    return choose(unit);
  }
  const all = [...element.querySelectorAll('.unit')];
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  const edge = {Home: 0, End: all.length - 1}[event.key];
  const next = all[edge !== undefined ? edge : step ? all.indexOf(unit) + step : -1];
  if (!next) return;
  event.preventDefault();
  unit.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});
watch('value', show);
