'use strict';

window.studio ??= {};
Object.assign(window.studio, {
  // What a search field holds now, once: the event's own value may be an earlier key's when several come quickly,
  // and keys that change nothing (arrows, Enter) must not replace the list they move in. What is already chosen is not
  // searched, or a late answer would take the place of what was found out about it.
  typed: (id, chosen, ...rest) => {
    const field = document.querySelector(`#${id} input`);
    const fresh = field === document.activeElement && field.value !== field.dataset.searched && field.value !== chosen;
    field.dataset.searched = field.value;
    return [fresh ? field.value : '', ...rest];
  },

  // What has been typed meanwhile stays.
  keepTyped: (suggested, typed) => typed || suggested,

  empty: () => '',

  // The gallery of recipes: its buttons ask for one.
  recipes: (element, trigger) => {
    element.addEventListener('click', event => {
      const button = event.target.closest('[data-recipe]');
      if (button) trigger('select', {recipe: button.dataset.recipe});
    });
  },
});
