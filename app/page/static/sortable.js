// A click on a heading sorts by it: numbers largest first, names from A; rows with an error stay last.
/* global element */
element.addEventListener('click', event => {
  const head = event.target.closest('button[data-sort]');
  if (!head) return;
  const cell = head.closest('th'), body = element.querySelector('tbody');
  const up = cell.getAttribute('aria-sort') === (head.dataset.sort === 'text' ? 'ascending' : 'descending');
  const turn = (head.dataset.sort === 'text') !== up ? 1 : -1;
  const value = row => row.children[cell.cellIndex].dataset.value;
  const order = (a, b) => {
    if (value(a) === '' || value(b) === '') return (value(a) === '') - (value(b) === '');
    return turn * (head.dataset.sort === 'text' ? value(a).localeCompare(value(b)) : value(a) - value(b));
  };
  [...body.rows].sort(order).forEach(row => body.append(row));
  element.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
  cell.setAttribute('aria-sort', turn > 0 ? 'ascending' : 'descending');
});
