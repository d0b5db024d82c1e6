// Gradio prepares the components of all steps before it draws the first one. There it searches all events or all
// components several hundred times; this code uses an index instead, and does once what Gradio does twice. The results
// are the same. The names from Gradio's code belong to the version in app/server/opening.py.
import {AppTree} from './assets/CORE';

const {get_state, reload} = AppTree.prototype;

// The names of each component's events, cached for each list of all events.
const attached = new WeakMap();
const attachedBy = (events) => {
  const names = new Map();
  for (const {targets} of events) {
    const own = new Set();
    for (const [component, name] of targets) {
      if (own.has(component)) continue;
      own.add(component);
      if (!names.has(component)) names.set(component, []);
      if (name) names.get(component).push(name);
    }
  }
  return names;
};
AppTree.prototype.find_attached_events = (node, events) => {
  if (!attached.has(events)) attached.set(events, attachedBy(events));
  node.props.shared_props.attached_events = attached.get(events).get(node.id) ?? [];
  return node;
};

// The nodes by component, cached for each root of a tree.
const nodes = new WeakMap();
const nodesOf = (root) => {
  const found = new Map();
  const note = (node) => {
    found.set(node.id, node);
    for (const child of node.children) note(child);
  };
  note(root);
  return found;
};
// Before the first components exist, the value of each is that of its node.
AppTree.prototype.get_state = async function (id) {
  if (this.resolved) return get_state.call(this, id);
  const {root} = this;
  if (!nodes.has(root)) nodes.set(root, nodesOf(root));
  const node = nodes.get(root).get(id);
  return node ? {value: node.props.props.value} : get_state.call(this, id);
};

// Gradio builds a new tree a second time from the same components.
const built = new WeakSet();
AppTree.prototype.reload = function (components, ...rest) {
  const isNew = !built.has(this);
  built.add(this);
  const isSame = components.length === this.component_ids.length
    && components.every(({id}, place) => id === this.component_ids[place]);
  if (!isNew || !isSame) reload.call(this, components, ...rest);
};
