'use strict';

// The tour of app/start/tour.py: a caption bar at the bottom of the page. It opens steps, presses buttons and waits, as
// a person would. It is active while the address says so; the rest of its state is kept in this tab, so it survives a
// reload.
{
  const KEY = 'simct-tour';
  const EVERY_MS = 250;
  const LEAVE_MS = 8000;
  // after this time, a line about trouble is no longer about an earlier attempt
  const FRESH_MS = 2000;
  // the visitor's own choices, which the tour does not change
  const DECIDED = ['teacher', 'student', 'run', 'part', 'at', 'project'];

  const stops = () => window.studio.tourStops ?? [];
  const isTour = () => new URLSearchParams(window.location.search).has('tour');
  const shown = (selector) => [...document.querySelectorAll(selector)].find(each => each.getClientRects().length > 0);
  const load = () => {
    try {
      return JSON.parse(sessionStorage.getItem(KEY));
    } catch {
      return null;
    }
  };
  const save = (state) => sessionStorage.setItem(KEY, JSON.stringify(state));

  const bar = document.createElement('section');
  bar.id = 'tour';
  bar.setAttribute('aria-label', 'Tour');
  bar.hidden = true;
  bar.innerHTML = '<div class="tour-text" aria-live="polite"><h2 tabindex="-1"></h2><p></p></div>'
    + '<p class="tour-wait" role="status"></p><progress aria-label="Progress of the run" hidden></progress>'
    + '<div class="tour-buttons"><button type="button" class="tour-next"></button>'
    + '<button type="button" class="tour-stop">Stop the tour</button></div>';
  const part = (selector) => bar.querySelector(selector);

  let state = null;
  let stop = null;
  let acted = false;
  // when the button that leads to the next stop was pressed, and the run that was shown at that time
  let pressed = null;
  let before = null;
  let leaving = false;
  let looked = null;

  const setText = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const look = (selector) => {
    const found = selector && shown(selector);
    if (found === looked && found?.classList.contains('tour-look')) return;
    looked?.classList.remove('tour-look');
    found?.classList.add('tour-look');
    if (found && found !== looked) found.scrollIntoView({block: 'nearest'});
    looked = found ?? null;
  };

  const parameter = (name) => new URLSearchParams(window.location.search).get(name);
  const arrive = () => {
    stop = stops()[state.stop];
    acted = false;
    pressed = null;
    save(state);
    if (parameter('step') !== stop.step) window.studio.openStep(stop.step);
    setText(part('h2'), `${state.stop + 1} of ${stops().length} · ${stop.title}`);
    setText(part('.tour-text p'), stop.text);
    const isLast = state.stop + 1 === stops().length;
    setText(part('.tour-next'), isLast ? 'End the tour' : stop.next);
    part('.tour-stop').hidden = isLast;
    part('.tour-next').disabled = true;
    part('h2').focus({preventScroll: true});
  };

  const fill = ([selector, text]) => {
    const field = shown(selector);
    if (field) window.studio.fillIn(field, text);
  };
  const act = () => {
    const button = stop.press && !acted && shown(stop.press);
    if (!button) return;
    acted = true;
    if (stop.fill) fill(stop.fill);
    // the text that was filled in takes effect with the next frame
    setTimeout(() => button.click(), 300);
  };

  // The progress of the run is copied from the page.
  const follow = (ready) => {
    const meter = part('progress'), source = stop.step === 'runs' && !ready && shown('#run-head [role=progressbar]');
    meter.hidden = !source;
    if (source) {
      meter.max = Number(source.getAttribute('aria-valuemax')) || 1;
      meter.value = Number(source.getAttribute('aria-valuenow')) || 0;
    }
    const line = stop.step === 'runs' && shown('#run-head .note');
    return line ? line.textContent.trim().replace(/^[✓!✕…·]/u, '') : stop.waiting;
  };

  // A list of runs shows the previous newest run before it shows the one that was just launched.
  const isOther = () => stop.step === 'runs' && shown('#run-head code')?.textContent !== parameter('run');
  // The page opens the next step by itself once the action of the pressed button has succeeded.
  const pass = (trouble) => {
    if (pressed === null) return;
    if (parameter('step') === stops()[state.stop + 1].step && parameter('run') !== before) {
      state.stop += 1;
      arrive();
    } else if (trouble && Date.now() - pressed > FRESH_MS) pressed = null;
  };

  const tick = () => {
    if (!state || leaving) return;
    pass(stop.trouble && shown(stop.trouble));
    act();
    const trouble = pressed === null && !isOther() && stop.trouble && shown(stop.trouble);
    const ready = pressed === null && !isOther() && Boolean(shown(stop.ready));
    part('.tour-next').disabled = !ready;
    bar.setAttribute('aria-busy', String(!ready && !trouble));
    const waiting = follow(ready || trouble);
    setText(part('.tour-wait'), trouble ? stop.in_trouble : ready ? '' : waiting);
    part('.tour-wait').classList.toggle('trouble', Boolean(trouble));
    look(stop.look);
    document.body.style.paddingBottom = `${bar.offsetHeight}px`;
  };

  const leave = () => {
    const {back} = state;
    sessionStorage.removeItem(KEY);
    window.location.assign(back);
  };
  // Before the page is left, stop a run of the tour that is active or about to start, as a person would.
  const end = () => {
    if (leaving) return;
    if (pressed === null && (stop.step !== 'runs' || shown(stop.ready))) return leave();
    leaving = true;
    for (const button of bar.querySelectorAll('button')) button.disabled = true;
    setText(part('.tour-wait'), 'Stopping the run…');
    const until = Date.now() + LEAVE_MS;
    const wait = () => {
      pass(stop.trouble && shown(stop.trouble));
      const here = pressed === null && stop.step === 'runs' && !isOther();
      const ended = here && shown('#run-head :is(.pill-stopping, .pill-stopped, .pill-finished, .pill-failed)');
      if (ended || Date.now() > until || (pressed === null && stop.step !== 'runs')) return leave();
      if (here) shown('#stop:not(:disabled)')?.click();
      setTimeout(wait, EVERY_MS);
    };
    wait();
  };
  const next = () => {
    if (state.stop + 1 >= stops().length) return end();
    if (stop.next_presses) {
      pressed = Date.now();
      before = parameter('run');
      shown(stop.next_presses)?.click();
      tick();
      return;
    }
    state.stop += 1;
    arrive();
  };

  part('.tour-next').addEventListener('click', next);
  part('.tour-stop').addEventListener('click', end);
  bar.addEventListener('keydown', event => {
    if (event.key === 'Escape') end();
  });

  window.studio ??= {};
  Object.assign(window.studio, {
    isTour,

    startTour: () => {
      sessionStorage.removeItem(KEY);
      const url = new URL(window.location);
      const back = url.href;
      for (const name of DECIDED) url.searchParams.delete(name);
      url.searchParams.set('step', 'pair');
      url.searchParams.set('tour', '1');
      url.hash = '';
      save({stop: 0, back});
      window.location.assign(url);
    },

    // Once the page has been restored.
    resumeTour: () => {
      if (!isTour() || !stops().length) return;
      const home = new URL(window.location);
      for (const name of [...DECIDED, 'tour', 'step']) home.searchParams.delete(name);
      const kept = load();
      state = kept && kept.stop < stops().length ? kept : {stop: 0, back: home.href};
      document.body.append(bar);
      bar.hidden = false;
      arrive();
      setInterval(tick, EVERY_MS);
    },
  });
}
