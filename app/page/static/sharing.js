'use strict';

// Read-only links to a run (app/runs/sharing.py): the run and its key follow the # in the address, which no server
// receives.
window.studio ??= {};
Object.assign(window.studio, {
  linkToRun: (link) => {
    if (!link) return '';
    const url = new URL('run', new URL('.', window.location));
    url.hash = link;
    return url.href;
  },

  // In place of an event's first value.
  linkedRun: (_link, seen) => [decodeURIComponent(window.location.hash.slice(1)), seen],
});
