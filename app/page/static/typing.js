'use strict';

// Enter in a field that takes any text (.takes-text). Gradio chooses the first entry of the list that contains the
// text, so that owner/model becomes owner/model-large. Here the typed text counts, unless an arrow key was used to move
// in the list. In a search field (.searched), a word without a slash still chooses the marked entry.
{
  const FIELD = '.takes-text input[role=combobox]';
  const MOVES = ['ArrowUp', 'ArrowDown', 'Home', 'End'];
  const isTyped = (field) => {
    const text = field.value.trim();
    if (!field.closest('.searched') || text.includes('/')) return true;
    const offered = [...document.querySelectorAll(`#${CSS.escape(field.getAttribute('aria-controls') ?? '')} [role=option]`)];
    return offered.some(each => each.getAttribute('aria-label')?.split('\n')[0] === text);
  };
  const fieldOf = (event) => (event.target instanceof Element ? event.target.closest(FIELD) : null);

  window.addEventListener('input', event => {
    const field = fieldOf(event);
    if (field) field.dataset.typed = isTyped(field) ? 'whole' : 'part';
  }, {capture: true});
  window.addEventListener('focusin', event => {
    const field = fieldOf(event);
    if (field) delete field.dataset.typed;
  }, {capture: true});
  window.addEventListener('keydown', event => {
    const field = fieldOf(event);
    if (!field) return;
    if (MOVES.includes(event.key)) delete field.dataset.typed;
    if (event.key !== 'Enter' || event.isComposing || !field.dataset.typed || !field.value.trim() || !isTyped(field)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    field.blur();
  }, {capture: true});
}
