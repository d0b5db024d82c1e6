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

  // In place of an event's first value. An address that was cut off in the middle of a character cannot be decoded.
  linkedRun: (_link, seen) => {
    const link = window.location.hash.slice(1);
    try {
      return [decodeURIComponent(link), seen];
    } catch {
      return [link, seen];
    }
  },
});
