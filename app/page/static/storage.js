'use strict';

// What the browser keeps for a project: its pair, prompts, settings and verdict. Each tab keeps its own copy, so two
// tabs do not overwrite each other; a new tab starts with the last copy of any tab. There is also a project without a
// name. If one tab renames a project, the others follow. If one tab deletes it, the others save nothing more of it.
{
  const PROJECTS = 'simct-projects';
  // earlier names, with the present name of each
  const RENAMED = 'simct-renamed';
  const KEPT = ['pair', 'data', 'run', 'verdict'];
  const LONGEST_NAME = 60;
  // app/start/tour.py has the same
  const TOUR = 'Tour';

  const keyOf = (project, name) => project ? `simct-${name}:${project}` : `simct-${name}`;
  const read = (storage, key) => {
    try {
      return JSON.parse(storage.getItem(key));
    } catch {
      // a damaged value counts as absent
      return null;
    }
  };
  // names, with the project used last in front
  const known = () => {
    const names = read(localStorage, PROJECTS);
    return Array.isArray(names) ? names.filter(each => typeof each === 'string') : [];
  };
  const renamed = () => new Map(Object.entries(read(localStorage, RENAMED) ?? {}));
  const saveRenamed = (names) => localStorage.setItem(RENAMED, JSON.stringify(Object.fromEntries(names)));
  const clean = (name) => String(name ?? '').split(/\s+/).filter(Boolean).join(' ').slice(0, LONGEST_NAME);
  const nameNow = (name) => known().includes(name) ? name : renamed().get(name) ?? name;
  const move = (storage, before, after) => {
    for (const name of KEPT) {
      const value = storage.getItem(keyOf(before, name));
      if (value === null) continue;
      if (after !== null) storage.setItem(keyOf(after, name), value);
      storage.removeItem(keyOf(before, name));
    }
  };

  let project = '';
  // Whether the project has been opened and is therefore among the known ones.
  let opened = false;
  // What this tab has of a project that another tab has deleted.
  let held = null;
  // The name before another tab changed it.
  let was = '';
  // Save nothing more of a project that was deleted here.
  let leaving = false;

  const open = (name) => {
    const url = new URL(window.location);
    for (const decided of ['teacher', 'student', 'run', 'part', 'at']) url.searchParams.delete(decided);
    url.searchParams.set('project', name);
    url.hash = '';
    window.location.assign(url);
  };
  // Another tab may have renamed or deleted the project.
  const follow = () => {
    if (!opened || !project || leaving || window.studio.isTour() || known().includes(project)) return;
    was = project;
    const next = nameNow(project);
    if (next !== project && known().includes(next)) {
      move(sessionStorage, project, next);
      project = next;
    } else {
      held = Object.fromEntries(KEPT.map(name => [name, read(sessionStorage, keyOf(project, name))]));
      move(sessionStorage, project, null);
      project = '';
    }
    window.studio.rememberProject();
    document.getElementById('project-followed')?.click();
  };
  window.addEventListener('storage', event => {
    if (event.key === PROJECTS) follow();
  });
  // A sleeping tab gets no such event.
  document.addEventListener('visibilitychange', follow);

  const rename = (before, after) => {
    for (const storage of [sessionStorage, localStorage]) move(storage, before, after);
    const names = renamed();
    for (const [earlier, now] of names) if (now === before) names.set(earlier, after);
    names.set(before, after);
    names.delete(after);
    saveRenamed(names);
    if (project === before) project = after;
    localStorage.setItem(PROJECTS, JSON.stringify(known().map(each => each === before ? after : each)));
    window.studio.rememberProject();
  };
  const forget = (name) => {
    for (const storage of [sessionStorage, localStorage]) move(storage, name, null);
    saveRenamed([...renamed()].filter(([, now]) => now !== name));
    localStorage.setItem(PROJECTS, JSON.stringify(known().filter(each => each !== name)));
    if (project !== name) return;
    leaving = true;
    open('');
  };

  window.studio ??= {};
  Object.assign(window.studio, {
    // Opens the project that an address names, and returns it. The tour has its own project. An address without a project
    // belongs to the project without a name if it names a pair, and otherwise to the last project.
    recallProject: (query) => {
      const named = query.project ?? (query.teacher || query.student ? '' : known()[0]);
      project = window.studio.isTour() ? TOUR : nameNow(clean(named));
      return project;
    },
    project: () => project,
    projects: () => known().filter(Boolean).sort((one, other) => one.localeCompare(other)),

    useProject: (name = project) => {
      project = name;
      opened = true;
      // the project of the tour is never reopened
      if (window.studio.isTour()) return;
      localStorage.setItem(PROJECTS, JSON.stringify([name, ...known().filter(each => each !== name)]));
    },

    keepInProject: (name, value) => {
      follow();
      if (held) held[name] = value;
      else if (!leaving) {
        for (const storage of [sessionStorage, localStorage]) {
          storage.setItem(keyOf(project, name), JSON.stringify(value));
        }
      }
    },
    keptInProject: (name) => {
      if (held) return held[name] ?? null;
      const key = keyOf(project, name);
      return read(sessionStorage, key) ?? read(localStorage, key);
    },

    // A name from the list opens that project instead of this one. A new name creates a project from what is on the
    // page. Returns the value for the field.
    openProject: (chosen) => {
      const name = nameNow(clean(chosen));
      if (name === project && !held) return name;
      if (!name || known().includes(name)) {
        open(name);
        return name;
      }
      const values = KEPT.map(each => [each, window.studio.keptInProject(each)]);
      held = null;
      window.studio.useProject(name);
      for (const [each, value] of values) if (value !== null) window.studio.keepInProject(each, value);
      window.studio.rememberProject();
      return name;
    },

    // What the server needs in order to rename, delete or follow a project, instead of an event's first value.
    knownProjects: (_first, ...rest) => [
      {project, projects: window.studio.projects(), was, tour: window.studio.isTour()},
      ...rest,
    ],

    // Does the browser's part after the server's: ["rename", before, after] or ["delete", name, ""] as JSON.
    changeProject: (done) => {
      if (!done) return;
      const [kind, before, after] = JSON.parse(done);
      if (kind === 'rename') rename(before, after);
      else forget(before);
    },
  });
}
