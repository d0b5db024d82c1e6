// Saves a chart as SVG or PNG, with its title, key and note, in the HTML report and in the studio.
// What a stylesheet gave a drawing must be written into it, or the saved file would be black on black.
(() => {
  const STYLES = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin',
    'stroke-linecap', 'opacity', 'font-family', 'font-size', 'font-weight', 'text-anchor'];
  const TALL = 46, SVG = 'http://www.w3.org/2000/svg';
  const save = (blob, name) => {
    const link = document.createElement('a');
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 4000);
  };
  const put = (parent, tag, attributes, text) => {
    const node = parent.appendChild(document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
  };
  const drawn = (figure) => {
    const svg = figure.querySelector('svg'), copy = svg.cloneNode(true);
    const styled = [copy, ...copy.querySelectorAll('*')];
    [svg, ...svg.querySelectorAll('*')].forEach((node, i) => {
      const style = getComputedStyle(node);
      styled[i].setAttribute('style', STYLES.map(name => `${name}:${style.getPropertyValue(name)}`).join(';'));
    });
    const [x, y, width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
    const colors = getComputedStyle(figure);
    const whole = document.createElementNS(SVG, 'svg');
    const under = figure.querySelector('.under')?.textContent || '';
    const size = {width: Math.max(width, 5.8 * under.length) + 24, height: height + TALL + (under ? 34 : 16)};
    whole.setAttribute('xmlns', SVG);
    whole.setAttribute('width', size.width);
    whole.setAttribute('height', size.height);
    whole.setAttribute('viewBox', `${x - 12} ${y - TALL} ${size.width} ${size.height}`);
    put(whole, 'rect', {x: x - 12, y: y - TALL, width: '100%', height: '100%', fill: colors.backgroundColor});
    const words = (attributes, content, weight, px) => put(whole, 'text', {
      fill: colors.color, style: `font: ${weight} ${px}px system-ui, sans-serif`, ...attributes}, content);
    words({x, y: y - TALL + 20}, figure.querySelector('figcaption b').textContent, 600, 14);
    let across = x;
    figure.querySelectorAll('.key').forEach(key => {
      const mark = key.querySelector('i'), shown = getComputedStyle(mark);
      const text = key.textContent.trim().replace(/\s+/g, ' ');
      const color = shown.borderTopWidth !== '0px' ? shown.borderTopColor : shown.backgroundColor;
      put(whole, 'rect', {x: across, y: y - 16, width: 12, height: 4, fill: color});
      words({x: across + 16, y: y - 10}, text, 400, 11);
      across += 28 + 6.2 * text.length;
    });
    if (under) words({x, y: y + height + 16}, under, 400, 11);
    while (copy.firstChild) whole.append(copy.firstChild);
    return {text: new XMLSerializer().serializeToString(whole), ...size};
  };
  document.addEventListener('click', event => {
    const button = event.target.closest?.('figure.chart button[data-save]');
    if (!button) return;
    const figure = button.closest('figure'), made = drawn(figure);
    const name = figure.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'chart';
    const blob = new Blob([made.text], {type: 'image/svg+xml'});
    if (button.dataset.save === 'svg') return save(blob, `${name}.svg`);
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement('canvas');
      canvas.width = 2 * made.width;
      canvas.height = 2 * made.height;
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(png => save(png, `${name}.png`), 'image/png');
    };
    image.src = 'data:image/svg+xml;charset=utf-8,' + encodeURIComponent(made.text);
  });
})();
