'use strict';

// Help: a "?" next to every field, number, chart and column, which opens a popover; and links to the documentation. The
// texts come with the page (app/help/words.py), so no request to a server is needed.
{
  let open = null;
  let box = null;
  const words = () => window.studio.helpWords ?? {};
  const trimmed = (element) => (element?.textContent ?? '').replace(/\s+/g, ' ').trim();

  const place = (button) => {
    const at = button.getBoundingClientRect(), width = Math.min(340, document.documentElement.clientWidth - 16);
    box.style.width = `${width}px`;
    const left = Math.max(8, Math.min(at.left - 12, document.documentElement.clientWidth - width - 8));
    const below = at.bottom + 6 + box.offsetHeight <= window.innerHeight || at.top < box.offsetHeight + 12;
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${(below ? at.bottom + 6 : at.top - box.offsetHeight - 6) + window.scrollY}px`;
  };
  const close = () => {
    if (!open) return;
    open.setAttribute('aria-expanded', 'false');
    open.removeAttribute('aria-describedby');
    open = null;
    box.hidden = true;
  };
  const show = (button) => {
    close();
    if (!box) {
      box = document.createElement('div');
      box.id = 'help-popover';
      box.setAttribute('role', 'status');
      box.dataset.testid = 'help-text';
      document.body.append(box);
    }
    const title = document.createElement('b');
    title.textContent = button.dataset.name;
    const text = document.createElement('p');
    text.textContent = button.dataset.text;
    box.className = document.querySelector('.dark') ? 'dark' : '';
    box.replaceChildren(title, text);
    box.hidden = false;
    open = button;
    button.setAttribute('aria-expanded', 'true');
    button.setAttribute('aria-describedby', box.id);
    place(button);
  };

  const add = (parent, name, text) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'help';
    button.setAttribute('aria-label', `Help: ${name}`);
    button.setAttribute('aria-expanded', 'false');
    button.setAttribute('aria-controls', 'help-popover');
    Object.assign(button.dataset, {testid: 'help', name, text});
    parent.append(button);
  };
  const lacks = (element) => ![...element.children].some(child => child.classList.contains('help'));

  const field = (label) => {
    const block = label.closest('div.block, fieldset.block');
    if (!block || !lacks(block)) return;
    const name = trimmed(label), text = words().fields?.[block.id] ?? words().fields?.[name];
    if (name && text) add(block, name, text);
  };
  const number = (tile) => {
    const name = trimmed(tile.querySelector('span'));
    const text = words().numbers?.[name.toLowerCase()] || tile.title;
    if (text && lacks(tile)) add(tile, name, text);
  };
  const chart = (caption) => {
    const name = trimmed(caption.querySelector('b')), text = words().charts?.[name];
    if (text && lacks(caption)) add(caption, name, text);
  };
  const column = (heading) => {
    const name = trimmed(heading);
    const around = Object.keys(words().places ?? {}).find(id => heading.closest(`#${id}`));
    const text = words().columns?.[name] ?? words().places?.[around];
    if (name && text && lacks(heading)) add(heading, name, text);
  };

  // If the server redraws an element whose help is open, the help stays open at the element's new button.
  const follow = () => {
    if (!open || open.isConnected) return;
    const again = [...document.querySelectorAll('button.help')].find(
      button => button.dataset.name === open.dataset.name && button.dataset.text === open.dataset.text && button.offsetParent);
    const focused = document.activeElement === document.body;
    if (!again) return close();
    show(again);
    if (focused) again.focus({preventScroll: true});
  };
  const LABELS = '#steps .block [data-testid="block-info"], #steps .block [data-testid="block-label"], '
    + '#steps .block .checkbox-container .label-text, #steps .block label:has(> input[type="checkbox"]):only-of-type > span';
  const decorate = () => {
    document.querySelectorAll(LABELS).forEach(field);
    document.querySelectorAll('#steps .tile').forEach(number);
    document.querySelectorAll('#steps figure.chart > figcaption').forEach(chart);
    document.querySelectorAll('#steps table.grid th').forEach(column);
    follow();
  };
  let waiting = false;
  const watch = () => new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      decorate();
    });
  }).observe(document.body, {childList: true, subtree: true});
  if (document.body) watch();
  else document.addEventListener('DOMContentLoaded', watch);

  document.addEventListener('click', event => {
    const button = event.target.closest?.('button.help');
    if (button) {
      event.preventDefault();
      event.stopPropagation();
      if (button === open) close();
      else show(button);
    } else if (open && !box.contains(event.target)) close();
  }, true);
  document.addEventListener('keydown', event => {
    if (event.key !== 'Escape' || !open) return;
    event.stopPropagation();
    open.focus({preventScroll: true});
    close();
  }, true);
  window.addEventListener('resize', () => open && place(open));

  // Links to the documentation: `data-docs` names a page and optionally a section; links between pages do the same.
  let section = '';
  const slug = (text) => text.toLowerCase().replace(/[^\w\s-]/g, '').trim().replace(/\s+/g, '-');
  const wanted = (target) => {
    const link = target.closest?.('[data-docs]');
    if (link) return link.dataset.docs;
    const address = target.closest?.('#documentation a')?.getAttribute('href') ?? '';
    return /^(#|[\w-]+\.md(#|$))/.test(address) ? address.replace('.md', '') : null;
  };
  const showSection = (tries = 20) => {
    const root = document.getElementById('documentation');
    const found = [...(root?.querySelectorAll('h1, h2, h3') ?? [])].find(each => !section || slug(trimmed(each)) === section);
    if (!found?.getClientRects().length || found.closest('[inert]')) {
      if (tries > 0) setTimeout(() => showSection(tries - 1), 100);
      return;
    }
    found.tabIndex = -1;
    found.scrollIntoView({block: 'start'});
    found.focus({preventScroll: true});
  };
  window.studio ??= {};
  Object.assign(window.studio, {
    documentation: (_element, trigger) => {
      document.addEventListener('click', event => {
        const address = wanted(event.target);
        if (address === null) return;
        event.preventDefault();
        const [page, part] = address.split('#');
        section = part ?? '';
        if (page) trigger('select', {page});
        else showSection();
      }, true);
    },
    showSection: () => showSection(),
  });
}
