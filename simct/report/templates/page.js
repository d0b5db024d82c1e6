const data = JSON.parse(document.getElementById('data').textContent);
const PAGE = 500;
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

// The lanes: one page of units at a time, one unit in the tab order, arrows between them, details below.
const {units, kinds} = data; // kinds: [class, name]
const lanes = document.querySelector('.lanes'), line = document.querySelector('.unit-line');
let first = 0, now = -1;

const number = (value) => (Math.abs(value) < 0.001 && value !== 0 ? value.toExponential(1) : value.toFixed(3));
const describe = (index) => {
  const [kind, sIds, tIds, sPieces, tPieces, hex, byte, reason, score] = units[index];
  const side = (ids, pieces) => pieces.map((piece, i) => `${piece} ${ids[i]}`).join(' | ');
  const parts = [
    `unit ${index}, byte ${byte}: ${kinds[kind][1]}${reason ? ` (${reason})` : ''}, ${sIds.length}×${tIds.length}`,
    `student: ${side(sIds, sPieces)}`, `teacher: ${side(tIds, tPieces)}`, `bytes ${hex.replace(/..(?=.)/g, '$& ')}`,
  ];
  if (score) {
    const [ours, theirs, kl, mass] = score;
    parts.push(`log p ${number(ours)} student, ${number(theirs)} teacher`);
    parts.push(`p ${number(Math.exp(ours))} and ${number(Math.exp(theirs))}`);
    parts.push(`KL ${number(kl)} nats, Z_T ${number(mass)}`);
  }
  return parts.join(' · ');
};

const draw = (start) => {
  first = Math.max(0, Math.min(start, Math.floor(Math.max(0, units.length - 1) / PAGE) * PAGE));
  lanes.replaceChildren();
  let row = make('div', 'line');
  units.slice(first, first + PAGE).forEach(([kind, , , sPieces, tPieces, hex], offset) => {
    const unit = make('span', `unit ${kinds[kind][0]}`);
    unit.dataset.index = first + offset;
    unit.tabIndex = -1;
    for (const pieces of [sPieces, tPieces]) {
      const lane = make('span', 'lane');
      for (const piece of pieces) lane.append(make('i', '', piece));
      unit.append(lane);
    }
    row.append(unit);
    if (hex.endsWith('0a')) { lanes.append(row); row = make('div', 'line'); }
  });
  lanes.append(row);
  const last = Math.min(first + PAGE, units.length);
  document.getElementById('where').textContent = `units ${units.length ? first : 0} to ${last - 1} of ${units.length}`;
  document.getElementById('back').disabled = first === 0;
  document.getElementById('on').disabled = last >= units.length;
  const entry = lanes.querySelector('.unit');
  if (entry) entry.tabIndex = 0;
};

const choose = (index, focus) => {
  if (index < 0 || index >= units.length) return;
  if (index < first || index >= first + PAGE) draw(Math.floor(index / PAGE) * PAGE);
  for (const unit of lanes.querySelectorAll('.now')) unit.classList.remove('now');
  lanes.querySelectorAll('[tabindex="0"]').forEach(unit => { unit.tabIndex = -1; });
  const unit = lanes.querySelector(`[data-index="${index}"]`);
  now = index;
  unit.classList.add('now');
  unit.tabIndex = 0;
  unit.title = describe(index);
  line.textContent = describe(index);
  if (focus) unit.focus();
};

if (lanes) {
  const at = (event) => { const unit = event.target.closest('.unit'); return unit ? Number(unit.dataset.index) : -1; };
  lanes.addEventListener('mouseover', event => { if (at(event) >= 0) line.textContent = describe(at(event)); });
  lanes.addEventListener('mouseleave', () => { if (now >= 0) line.textContent = describe(now); });
  lanes.addEventListener('focusin', event => { if (at(event) >= 0 && at(event) !== now) choose(at(event), false); });
  lanes.addEventListener('click', event => choose(at(event), true));
  const seek = (from, step) => {
    let index = from + step;
    while (index >= 0 && index < units.length && units[index][0] === 0) index += step;
    return index;
  };
  lanes.addEventListener('keydown', event => {
    const index = at(event);
    if (index < 0) return;
    const keys = {ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: units.length - 1, PageDown: index + PAGE,
                  PageUp: index - PAGE, n: seek(index, 1), p: seek(index, -1)};
    if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(event.key.startsWith('Page') ? Math.max(0, Math.min(units.length - 1, keys[event.key])) : keys[event.key], true);
  });
  document.getElementById('back').onclick = () => draw(first - PAGE);
  document.getElementById('on').onclick = () => draw(first + PAGE);
  document.getElementById('previous').onclick = () => choose(seek(now < 0 ? first : now, -1), true);
  document.getElementById('next').onclick = () => choose(seek(now < 0 ? first - 1 : now, 1), true);
  document.getElementById('go').onchange = (event) => {
    const byte = Number(event.target.value);
    const after = units.findIndex(unit => unit[6] > byte);
    choose(after < 0 ? units.length - 1 : Math.max(0, after - 1), true);
  };
  draw(0);
  if (data.chosen >= 0) choose(data.chosen, false);
}

// What can be saved: tables as CSV, everything as JSON (charts: charts.js).
const offer = (name, blob) => {
  const link = make('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
const csv = (table) => [...table.rows].map(row => [...row.cells].map(cell => {
  const text = cell.dataset.value ?? cell.textContent;
  // a leading formula sign is made text, so that a spreadsheet shows it and does not run it
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}).join(',')).join('\r\n') + '\r\n';

document.addEventListener('click', event => {
  const button = event.target.closest('button[data-save]');
  if (!button) return;
  const part = button.closest('section'), form = button.dataset.save;
  const name = part?.dataset.name ?? 'report';
  if (form === 'csv') offer(`${name}.csv`, new Blob([csv(part.querySelector('table'))], {type: 'text/csv'}));
  if (form === 'json') offer('report.json', new Blob([JSON.stringify(data.report, null, 1)], {type: 'application/json'}));
});
