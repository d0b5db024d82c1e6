'use strict';

// What the browser keeps of a project: its pair, prompts, settings and verdict. Each tab keeps its own copy, so two tabs
// do not overwrite each other; a new tab begins with what any tab kept last. There is also a project without a name.
{
  const PROJECTS = 'simct-projects';
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
  // names, the project used last first
  const known = () => {
    const names = read(localStorage, PROJECTS);
    return Array.isArray(names) ? names.filter(each => typeof each === 'string') : [];
  };
  const clean = (name) => String(name ?? '').split(/\s+/).filter(Boolean).join(' ').slice(0, LONGEST_NAME);

  let project = '';

  window.studio ??= {};
  Object.assign(window.studio, {
    // Opens the project that an address names, and returns it. The tour has its own project. An address without a project
    // belongs to the project without a name if it names a pair, and otherwise to the last project.
    recallProject: (query) => {
      project = window.studio.isTour() ? TOUR : clean(query.project ?? (query.teacher || query.student ? '' : known()[0]));
      return project;
    },
    project: () => project,
    projects: () => known().filter(Boolean).sort((one, other) => one.localeCompare(other)),

    useProject: (name = project) => {
      project = name;
      // nobody returns to the project of the tour
      if (window.studio.isTour()) return;
      localStorage.setItem(PROJECTS, JSON.stringify([name, ...known().filter(each => each !== name)]));
    },

    keepInProject: (name, value) => {
      for (const storage of [sessionStorage, localStorage]) {
        storage.setItem(keyOf(project, name), JSON.stringify(value));
      }
    },
    keptInProject: (name) => {
      const key = keyOf(project, name);
      return read(sessionStorage, key) ?? read(localStorage, key);
    },

    // A name from the list opens that project in place of this one. A new name creates a project with what is here.
    // Returns the value for the field.
    openProject: (chosen) => {
      const name = clean(chosen);
      if (name === project) return name;
      if (!name || known().includes(name)) {
        const url = new URL(window.location);
        for (const decided of ['teacher', 'student', 'run', 'part', 'at']) url.searchParams.delete(decided);
        url.searchParams.set('project', name);
        url.hash = '';
        window.location.assign(url);
        return name;
      }
      const values = KEPT.map(each => [each, window.studio.keptInProject(each)]);
      window.studio.useProject(name);
      for (const [each, value] of values) if (value !== null) window.studio.keepInProject(each, value);
      window.studio.rememberProject();
      return name;
    },
  });
}
