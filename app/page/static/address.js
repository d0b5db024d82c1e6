'use strict';

// What is restored after a reload: project, pair, step and run come from the address bar; prompts and settings come
// from what this browser tab kept for the project (storage.js).
{
  const AGAIN_MS = 3000;

  // Nothing that the page shows is saved before the page has been restored.
  let restored = false;

  // The current address. The address of an earlier step in the history may name earlier choices.
  let now = null;

  const change = (edit, entry = false) => {
    if (!restored) return;
    const url = new URL(now ?? window.location);
    edit(url);
    if (entry) window.history.pushState(null, '', url);
    else window.history.replaceState(null, '', url);
    now = url.href;
  };
  const stepOf = (url) => new URL(url).searchParams.get('step') ?? 'pair';
  const setParameter = (url, name, value) => {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  };
  // On a narrow screen, some of the tabs are in a menu.
  const openStep = (step) => {
    const row = document.querySelector('#steps > .tab-wrapper');
    const isShown = (element) => element.getClientRects().length > 0 && getComputedStyle(element).visibility !== 'hidden';
    const tab = [...row.querySelectorAll('[role=tab]')].find(each => each.dataset.tabId === step && isShown(each));
    if (tab) {
      tab.click();
      return;
    }
    row.querySelector('.overflow-menu > button')?.click();
    requestAnimationFrame(() => {
      const items = [...row.querySelectorAll('.overflow-dropdown button')];
      items.find(each => each.textContent.trim().toLowerCase() === step)?.click();
    });
  };

  // Back and Forward move between steps; the visitor's choices stay as they are.
  window.addEventListener('popstate', () => {
    const step = stepOf(window.location);
    if (!restored || step === stepOf(now ?? window.location)) return;
    change(url => url.searchParams.set('step', step));
    openStep(step);
  });

  // Text goes into the fragment, which no server sees, unless it is too long: chat programs cut long addresses,
  // and some servers refuse them.
  const MOST_ENCODED = 6000;
  const encode = async (text) => {
    const stream = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate-raw'));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    if (bytes.length > MOST_ENCODED) return null;
    const code = btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
    return code.length > MOST_ENCODED ? null : code;
  };
  // A malicious link could decompress into gigabytes.
  const MOST_DECODED = 1000000;
  const decode = async (code) => {
    const bytes = Uint8Array.from(atob(code.replace(/-/g, '+').replace(/_/g, '/')), char => char.charCodeAt(0));
    const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (let part = await reader.read(); !part.done && text.length < MOST_DECODED; part = await reader.read()) {
      text += decoder.decode(part.value, {stream: true});
    }
    return text + decoder.decode();
  };

  const note = (kind, mark, text) =>
    `<p class="note note-${kind}" role="status"${kind === 'ok' ? ` data-expires="8" data-at="${Date.now()}"` : ''}>`
    + `<span aria-hidden="true">${mark}</span>${text}</p>`;

  let typed = 0;

  window.studio ??= {};
  Object.assign(window.studio, {
    // Loads the page again, at a slightly different time than other pages that were refused at the same moment.
    restoreAgain: () => {
      document.querySelector('#where .where').textContent = 'The studio is busy. Trying again…';
      setTimeout(() => { window.location.reload(); }, AGAIN_MS * (1 + Math.random()));
    },

    // Returns the label of the button for notifications; the browser also keeps whether they are on.
    startRemembering: () => {
      restored = true;
      window.studioRestored = true;
      now = window.location.href;
      window.studio.useProject();
      window.studio.rememberProject();
      window.studio.resumeTour();
      return window.studio.notifyLabel();
    },

    openStep,

    stepToOpen: (step) => ({__type__: 'update', selected: step}),

    rememberProject: () => change(url => setParameter(url, 'project', window.studio.project())),

    rememberPair: (teacher, student, run) => {
      // A typed address will be used as that of a server; it may contain a password.
      if (/^\s*https?:/i.test(`${teacher}`) || /^\s*https?:/i.test(`${student}`)) return;
      change(url => {
        for (const [name, value] of Object.entries({teacher, student, run})) setParameter(url, name, value);
      });
      if (restored) window.studio.keepInProject('pair', {teacher, student});
    },

    // Gradio reports late which step was opened. Another may have been opened since, and a new history entry for this
    // one would erase those that Forward leads to. Returns the timer of the runs, which are watched while they are
    // shown.
    openedStep: (step) => {
      const selected = document.querySelector('#steps > .tab-wrapper [role=tab][aria-selected=true]')?.dataset.tabId;
      if (restored && (!selected || selected === step)) {
        change(url => url.searchParams.set('step', step), step !== stepOf(now ?? window.location));
        window.scrollTo({top: 0});
      }
      return {__type__: 'update', active: step === 'runs'};
    },

    rememberPlace: (part, unit) => change(url => {
      url.searchParams.set('part', part);
      setParameter(url, 'at', unit);
    }),

    // Not gr.BrowserState: it may or may not have been read when the page loads.
    keep: (name, value) => {
      if (restored) window.studio.keepInProject(name, value);
    },

    // Returns the address as a dictionary with the project and the names of all projects, then each value kept under
    // `names`: null if there is none or it cannot be read; and the text of the link, or else the page's own `text`.
    recall: async (names, ...inputs) => {
      const query = Object.fromEntries(new URLSearchParams(window.location.search));
      const project = window.studio.recallProject(query);
      // the tour starts fresh each time
      const kept = (name) => window.studio.isTour() ? null : window.studio.keptInProject(name);
      const pair = query.teacher || query.student ? null : kept('pair');
      const code = new URLSearchParams(window.location.hash.slice(1)).get('text');
      const found = code === null ? null : await decode(code).catch(() => null);
      const damaged = code !== null && found === null;
      return [
        {...pair, ...query, project, projects: window.studio.projects(), damaged}, ...names.split(' ').map(kept),
        found ?? inputs.at(-1),
      ];
    },

    // Updates the address while the visitor types; a text that is too long is left out.
    rememberText: async (text) => {
      typed += 1;
      const turn = typed;
      if (!restored) return;
      const code = text && text.length < 200000 ? await encode(text) : null;
      if (turn === typed) change(url => { url.hash = code ? `text=${code}` : ''; });
    },

    // Returns the line that says what the link restores, as HTML.
    copyLink: async (teacher, student, part, unit, text) => {
      const url = new URL(window.location);
      url.search = '';
      const place = {step: 'inspect', teacher, student, part, at: unit};
      for (const [name, value] of Object.entries(place)) if (value) url.searchParams.set(name, value);
      const code = text ? await encode(text) : '';
      url.hash = code ? `text=${code}` : '';
      window.history.replaceState(null, '', url);
      now = url.href;
      const contents = code === null
        ? `It does not include the text: ${text.length.toLocaleString()} characters are too many for a link.`
        : 'It restores the pair, the text and the position.';
      try {
        await navigator.clipboard.writeText(url.href);
      } catch {
        return note('warn', '!', `The link is in the address bar: copy it from there. ${contents}`);
      }
      return note(code === null ? 'warn' : 'ok', code === null ? '!' : '✓', `Link copied. ${contents}`);
    },
  });
}
