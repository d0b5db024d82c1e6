'use strict';

// A click on a heading sorts a table by it: numbers largest first, names from A; rows with an error stay last.
window.studio ??= {};
Object.assign(window.studio, {
  sortable: (element) => {
    element.addEventListener('click', event => {
      const button = event.target.closest('button[data-sort]');
      if (!button) return;
      const heading = button.closest('th'), body = element.querySelector('tbody');
      const byName = button.dataset.sort === 'text';
      const again = heading.getAttribute('aria-sort') === (byName ? 'ascending' : 'descending');
      const direction = byName !== again ? 1 : -1;
      const value = row => row.children[heading.cellIndex].dataset.value;
      const order = (a, b) => {
        if (value(a) === '' || value(b) === '') return (value(a) === '') - (value(b) === '');
        return direction * (byName ? value(a).localeCompare(value(b)) : value(a) - value(b));
      };
      for (const row of [...body.rows].sort(order)) body.append(row);
      for (const other of element.querySelectorAll('th')) other.removeAttribute('aria-sort');
      heading.setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
    });
  },
});
