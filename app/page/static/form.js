'use strict';

// Versions of the form on Train. Each change begins a new version. Panels of an older version are dimmed, and Launch
// waits, until the server has updated them: an updated panel carries the number of its version in data-edit.
{
  let edits = 0;
  // The version that the server has.
  let written = '';
  const TOGETHER_MS = 40;
  const PANELS = ['train-pair', 'train-estimate', 'checklist'];
  const byId = (id) => document.getElementById(id);
  const isOpen = () => byId('train-outcome')?.getClientRects().length > 0;

  const name = () => {
    if (isOpen()) written = String(edits);
    return written;
  };

  const dim = (element, outdated) => {
    if (!element || element.hasAttribute('data-outdated') === outdated) return;
    element.toggleAttribute('data-outdated', outdated);
    element.inert = outdated;
    element.setAttribute('aria-busy', String(outdated));
  };
  // The number of the last change under Data, which Train does not know before the server has answered it.
  let changes = 0;
  let changed = 0;
  // an answer that never comes must not keep the run from being launched
  const ANSWER_MS = 30000;
  const numberOf = (panel) => panel?.querySelector('[data-edit]')?.dataset.edit;
  // the page takes a moment to begin a version, or to send the next change, after an answer
  const SETTLE_MS = 500;
  let answered = 0;
  let settledAt = 0;
  const waitsForData = () => {
    if (Date.now() > changed + ANSWER_MS) return false;
    if (numberOf(byId('data-answered')) !== String(changes)) return true;
    if (answered !== changes) {
      answered = changes;
      settledAt = Date.now() + SETTLE_MS;
      setTimeout(dimOutdatedSoon, SETTLE_MS + 1);
    }
    return Date.now() < settledAt;
  };

  const isOutdated = (panel) => numberOf(panel) !== String(edits);

  const dimOutdated = () => {
    const panels = PANELS.map(byId).filter(Boolean);
    if (!panels.length) return;
    const outdated = panels.map(isOutdated);
    for (const [index, panel] of panels.entries()) dim(panel, outdated[index]);
    // run.yaml is updated together with the line about the pair
    dim(byId('run-yaml'), outdated[0]);
    dim(byId('launch'), outdated.some(Boolean) || waitsForData());
    if (!outdated[0]) for (const block of document.querySelectorAll('.corrected')) block.classList.remove('corrected');
  };

  let planned = false;
  const dimOutdatedSoon = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      dimOutdated();
    });
  };
  new MutationObserver(dimOutdatedSoon).observe(document.documentElement, {childList: true, subtree: true});

  // The message about a wrong value no longer applies once the value is edited.
  document.addEventListener('input', event => event.target.closest?.('.wrong')?.classList.add('corrected'), true);

  // Arrow keys change a number of unknown scale, such as a learning rate, by a tenth of its magnitude.
  const scale = (event) => {
    const input = event.target;
    if (!input.matches?.('.scaled input[type=number]')) return;
    const value = Math.abs(Number(input.value));
    if (value > 0 && Number.isFinite(value)) input.step = `1e${Math.floor(Math.log10(value) + 1e-9) - 1}`;
  };
  for (const kind of ['focusin', 'pointerdown', 'keydown']) document.addEventListener(kind, scale, true);

  window.studio ??= {};
  Object.assign(window.studio, {
    // Changes that come together, such as those of a preset, become one version once they stop. The server receives it
    // once the step is open.
    edited: async () => {
      edits += 1;
      const edit = edits;
      dimOutdated();
      await new Promise(resolve => setTimeout(resolve, TOGETHER_MS));
      return edit === edits ? name() : written;
    },

    // Returns the number of a change under Data.
    beginChange: () => {
      changes += 1;
      changed = Date.now();
      dimOutdated();
      setTimeout(dimOutdatedSoon, ANSWER_MS);
      return String(changes);
    },

    // Settings that equal the last ones read are not a change, unless some fields had wrong values.
    loadedRun: (run, described) => {
      const last = described ? JSON.parse(described) : {};
      const known = last.readable !== false && JSON.stringify(run) === JSON.stringify(last.run);
      return known ? written : window.studio.edited();
    },

    // A version as one text: its number and the value of each field.
    gathered: (...values) => JSON.stringify(values),

    openForm: () => written = String(edits),

    // Reports that a person has changed something in the form, and reports typing and ticking as an edit. A list only
    // reports that it was left; Gradio reports what was chosen.
    touched: (element, trigger) => {
      const form = element.closest('#train-form');
      const isList = (event) => event.target.matches('[role=combobox]');
      form.addEventListener('input', event => {
        if (!isList(event)) trigger('edit');
      });
      for (const kind of ['input', 'change']) form.addEventListener(kind, () => trigger('input'));
      form.addEventListener('focusout', event => {
        if (isList(event)) trigger('input');
      });
    },
  });
}
