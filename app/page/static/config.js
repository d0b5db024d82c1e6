'use strict';

// The page's configuration never changes: Svelte need not watch it, as it does with plain objects, while Gradio reads all
// of it again and again before it draws anything. And an event that follows another one has no component to be looked up.
{
  class Fixed {}
  const fix = (...objects) => {
    for (const each of objects) Object.setPrototypeOf(each, Fixed.prototype);
  };
  const fixLayout = (node) => {
    fix(node);
    for (const child of node.children ?? []) fixLayout(child);
  };
  const {components = [], dependencies = [], layout} = window.gradio_config ?? {};
  for (const component of components) fix(component, component.props);
  for (const event of dependencies) {
    fix(event);
    event.targets = event.targets.filter(([component]) => component !== null);
  }
  if (layout) fixLayout(layout);
}
