'use strict';

// Gradio compares each component of the page with each of its events, and looks up the target of each event among all
// components, before it draws anything. Both are quick for events that Svelte does not watch for changes, as it does
// with plain objects: events never change. And an event that follows another one has no target to be looked up.
{
  class Event {}
  for (const event of window.gradio_config?.dependencies ?? []) {
    Object.setPrototypeOf(event, Event.prototype);
    event.targets = event.targets.filter(([component]) => component !== null);
  }
}
