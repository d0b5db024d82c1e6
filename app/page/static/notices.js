'use strict';

// Runs that ended while the visitor was in another tab: their number in front of the page's title, and a notification
// for each.
{
  const KEY = 'simct-notify';
  const title = document.title;
  let states = null;
  let unseen = 0;

  const looking = () => document.visibilityState === 'visible' && document.hasFocus();
  const badge = (running) => {
    const count = unseen ? `(${unseen}) ` : '';
    const sign = running ? '● ' : '';
    document.title = `${count}${sign}${title || 'SimCT Studio'}`;
  };
  const seen = () => {
    if (!looking() || !unseen) return;
    unseen = 0;
    badge([...(states ?? new Map()).values()].some(active));
  };
  const active = state => ['queued', 'running', 'stopping'].includes(state);
  const wanted = () => 'Notification' in window && Notification.permission === 'granted'
    && localStorage.getItem(KEY) === 'on';
  const words = {finished: 'Run finished', failed: 'Run failed', stopped: 'Run stopped'};

  window.addEventListener('focus', seen);
  document.addEventListener('visibilitychange', seen);

  window.studio ??= {};
  Object.assign(window.studio, {
    noticeRuns: (runs) => {
      const ended = states ? runs.filter(run => !active(run.state) && active(states.get(run.id))) : [];
      states = new Map(runs.map(run => [run.id, run.state]));
      if (!looking()) {
        unseen += ended.length;
        if (wanted()) {
          for (const run of ended) {
            // the same tag in every tab, so that a run is announced once
            new Notification(`${words[run.state] ?? run.state}: ${run.title}`, {body: run.message, tag: run.id});
          }
        }
      }
      badge(runs.some(run => active(run.state)));
    },

    // Returns the button's new text.
    askToNotify: async () => {
      if (!('Notification' in window)) return 'This browser has no notifications';
      if (wanted()) {
        localStorage.removeItem(KEY);
        return 'Notify me when a run ends';
      }
      const allowed = await Notification.requestPermission();
      if (allowed !== 'granted') return 'The browser blocks notifications';
      localStorage.setItem(KEY, 'on');
      return 'Notifications are on';
    },

    notifyLabel: () => (wanted() ? 'Notifications are on' : 'Notify me when a run ends'),
  });
}
