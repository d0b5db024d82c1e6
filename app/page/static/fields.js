'use strict';

{
  const UNCHANGED = {__type__: 'update'};
  // The last suggested repository.
  let suggested = null;

  // Whether the visitor is in a field and may be about to type; nothing is filled in then.
  const isEdited = (id) => document.activeElement?.closest(`#${id}`) != null;

  // A text that is empty may be one that has not been filled in yet.
  window.addEventListener('input', event => {
    if (event.target instanceof HTMLTextAreaElement) event.target.dataset.edited = 'true';
  }, {capture: true});

  window.studio ??= {};
  Object.assign(window.studio, {
    // The current text of a search field, once per text. When several keys are pressed quickly, the event's own value
    // may belong to an earlier key, and keys that change nothing (arrows, Enter) must not replace the list in which
    // they move. A value that is already chosen is not searched, because a late result would replace what is known
    // about it. Nor is a value that was confirmed with Enter, after which the field is left before the next frame.
    typed: async (id, chosen, ...rest) => {
      const field = document.querySelector(`#${id} input`);
      await new Promise(resolve => { requestAnimationFrame(resolve); });
      const {value, dataset} = field;
      const fresh = field === document.activeElement && value !== dataset.searched && value !== chosen;
      dataset.searched = value;
      return [fresh ? value : '', ...rest];
    },

    // Keep text that was typed in the meantime.
    keepTyped: (id, suggestion, typed) => typed || isEdited(id) ? UNCHANGED : suggestion,

    // The repository to publish to: the suggested one, unless another one was typed.
    suggestRepository: (id, publishes, named, suggestion) => {
      const replaced = publishes && !isEdited(id) && (!named?.trim() || named === suggested);
      suggested = suggestion;
      return replaced ? suggestion : UNCHANGED;
    },

    // Fills in a text as a person would.
    fillIn: (field, text) => {
      field.value = text;
      field.dispatchEvent(new Event('input', {bubbles: true}));
    },

    // The values of an event, the first of which is filled into a field at once: what is typed there while the server
    // answers stays.
    filledIn: (id, text, ...rest) => {
      const field = document.querySelector(`#${id} textarea`);
      field.dataset.filled = text ?? '';
      window.studio.fillIn(field, field.dataset.filled);
      return [text, ...rest];
    },

    // As filledIn, but a text that was filled in before is left as the visitor has edited it.
    filledInIfNew: (id, text, ...rest) => {
      const {filled = ''} = document.querySelector(`#${id} textarea`).dataset;
      return (text ?? '') === filled ? [text, ...rest] : window.studio.filledIn(id, text, ...rest);
    },

    empty: () => '',

    given: (value) => value,

    // The values of an event that changes the prompts. The first becomes its number, the second whether the visitor has
    // deleted the text of a field.
    changesData: (id, _number, _emptied, ...rest) => {
      const text = document.querySelector(`#${id} textarea`);
      const emptied = text?.dataset.edited && !text.value.trim();
      return [window.studio.beginChange(), emptied ? 'yes' : '', ...rest];
    },

    emptyBoth: () => ['', ''],

    // Counts how often the same preset was chosen again, because that changes no value.
    chosenAgain: (name, taken, times) => name === taken ? String(Number(times) + 1) : times,

    // Updates that disable as many buttons as there are values.
    disabled: (...buttons) => buttons.map(() => ({__type__: 'update', interactive: false})),

    // The buttons in the gallery of recipes load a recipe.
    recipes: (element, trigger) => {
      element.addEventListener('click', event => {
        const button = event.target.closest('[data-recipe]');
        if (button) trigger('select', {recipe: button.dataset.recipe});
      });
    },
  });
}
