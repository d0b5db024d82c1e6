'use strict';

// A click on a heading sorts a table by it: numbers from the largest, names from A; rows with an error stay last. The
// order stays when the server updates the table. A click on the name of a run is sent to the server.
window.studio ??= {};
Object.assign(window.studio, {
  sortable: (element, trigger, watch) => {
    let chosen = null;
    const sort = () => {
      const heading = chosen && element.querySelectorAll('th')[chosen.column], body = element.querySelector('tbody');
      if (!heading || !body) return;
      const byName = heading.querySelector('button[data-sort]')?.dataset.sort === 'text';
      const value = row => row.children[chosen.column]?.dataset.value ?? '';
      const order = (a, b) => {
        if (value(a) === '' || value(b) === '') return (value(a) === '') - (value(b) === '');
        return chosen.direction * (byName ? value(a).localeCompare(value(b)) : value(a) - value(b));
      };
      for (const row of [...body.rows].sort(order)) body.append(row);
      for (const other of element.querySelectorAll('th')) other.removeAttribute('aria-sort');
      heading.setAttribute('aria-sort', chosen.direction > 0 ? 'ascending' : 'descending');
    };
    element.addEventListener('click', event => {
      const run = event.target.closest('button[data-run]');
      if (run) trigger('select', {run: run.dataset.run});
      const button = event.target.closest('button[data-sort]');
      if (!button) return;
      const column = button.closest('th').cellIndex, first = button.dataset.sort === 'text' ? 1 : -1;
      chosen = {column, direction: chosen?.column === column ? -chosen.direction : first};
      sort();
    });
    watch('value', sort);
  },
});
