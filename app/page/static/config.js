'use strict';

// The page's configuration never changes, so this keeps Svelte from watching it, as it would watch plain objects:
// Gradio reads all of it again and again before it draws anything. Also, an event that follows another one has no
// component to look up.
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
