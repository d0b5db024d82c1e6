'use strict';

// A log that follows new lines until the reader scrolls up, and shows only lines that contain all words of the filter.
window.studio ??= {};
Object.assign(window.studio, {
  log: (element, _trigger, watch, props) => {
    const pre = element.querySelector('pre'), filter = element.querySelector('input[type=search]');
    const follow = element.querySelector('input[type=checkbox]'), count = element.querySelector('output');
    const NEAR_END = 24;
    const atEnd = () => pre.scrollTop + pre.clientHeight >= pre.scrollHeight - NEAR_END;
    const kind = (line) => {
      if (/\b(error|failed|traceback|exception)\b/i.test(line)) return 'log-error';
      return /\bwarning\b/i.test(line) ? 'log-warning' : '';
    };
    let drawing = false, top = 0;
    const draw = () => {
      const lines = (props.value || '').split('\n');
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = lines.filter(line => words.every(word => line.toLowerCase().includes(word)));
      drawing = true;
      pre.replaceChildren(...shown.map(text => {
        const line = document.createElement('span');
        line.className = kind(text);
        line.textContent = `${text}\n`;
        return line;
      }));
      if (!props.value) pre.textContent = 'Nothing has been written yet.';
      count.textContent = words.length ? `${shown.length} of ${lines.length} lines` : '';
      if (follow.checked) pre.scrollTop = pre.scrollHeight;
      requestAnimationFrame(() => { drawing = false; });
    };
    filter.addEventListener('input', draw);
    follow.addEventListener('change', draw);
    pre.addEventListener('scroll', () => {
      const before = top;
      top = pre.scrollTop;
      if (drawing || !pre.clientHeight) return;
      if (atEnd()) follow.checked = true;
      else if (top < before) follow.checked = false;
    });
    // a collapsed log cannot be scrolled
    new ResizeObserver(() => { if (follow.checked) pre.scrollTop = pre.scrollHeight; }).observe(pre);
    watch('value', draw);
    draw();
  },
});
