'use strict';

// A chart is saved by the visitor's own browser, as SVG or PNG, with its title, its key and the line under it.
{
  const STYLES = ['fill', 'fill-opacity', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linejoin',
    'stroke-linecap', 'opacity', 'font-family', 'font-size', 'font-weight', 'text-anchor'];
  const TITLE_HEIGHT = 46, SVG = 'http://www.w3.org/2000/svg';

  const append = (parent, tag, attributes, text) => {
    const node = parent.appendChild(document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
  };

  // What a stylesheet gave a drawing is written into it, or the saved file would be black on black.
  const withStyles = (svg) => {
    const copy = svg.cloneNode(true), copies = [copy, ...copy.querySelectorAll('*')];
    [svg, ...svg.querySelectorAll('*')].forEach((node, i) => {
      const style = getComputedStyle(node);
      copies[i].setAttribute('style', STYLES.map(name => `${name}:${style.getPropertyValue(name)}`).join(';'));
    });
    return copy;
  };

  const drawing = (figure) => {
    const svg = figure.querySelector('svg'), copy = withStyles(svg);
    const [x, y, width, height] = svg.getAttribute('viewBox').split(' ').map(Number);
    const colors = getComputedStyle(figure);
    const whole = document.createElementNS(SVG, 'svg');
    const under = figure.querySelector('.under')?.textContent || '';
    const size = {
      width: Math.max(width, 5.8 * under.length) + 24,
      height: height + TITLE_HEIGHT + (under ? 34 : 16),
    };
    whole.setAttribute('xmlns', SVG);
    whole.setAttribute('width', size.width);
    whole.setAttribute('height', size.height);
    whole.setAttribute('viewBox', `${x - 12} ${y - TITLE_HEIGHT} ${size.width} ${size.height}`);
    const background = {x: x - 12, y: y - TITLE_HEIGHT, width: '100%', height: '100%'};
    append(whole, 'rect', {...background, fill: colors.backgroundColor});
    const write = (attributes, text, weight, px) => append(whole, 'text', {
      fill: colors.color, style: `font: ${weight} ${px}px system-ui, sans-serif`, ...attributes}, text);
    write({x, y: y - TITLE_HEIGHT + 20}, figure.querySelector('figcaption b').textContent, 600, 14);
    let left = x;
    for (const key of figure.querySelectorAll('.key')) {
      const mark = getComputedStyle(key.querySelector('i'));
      const label = key.textContent.trim().replace(/\s+/g, ' ');
      const color = mark.borderTopWidth === '0px' ? mark.backgroundColor : mark.borderTopColor;
      append(whole, 'rect', {x: left, y: y - 16, width: 12, height: 4, fill: color});
      write({x: left + 16, y: y - 10}, label, 400, 11);
      left += 28 + 6.2 * label.length;
    }
    if (under) write({x, y: y + height + 16}, under, 400, 11);
    while (copy.firstChild) whole.append(copy.firstChild);
    return {text: new XMLSerializer().serializeToString(whole), ...size};
  };

  const savePng = (made, name) => {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement('canvas');
      canvas.width = 2 * made.width;
      canvas.height = 2 * made.height;
      canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(png => studio.saveBlob(png, `${name}.png`), 'image/png');
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(made.text)}`;
  };

  document.addEventListener('click', event => {
    const button = event.target.closest?.('button[data-save]');
    if (!button) return;
    const figure = button.closest('figure'), made = drawing(figure);
    const name = figure.dataset.name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'chart';
    if (button.dataset.save === 'svg') studio.saveBlob(new Blob([made.text], {type: 'image/svg+xml'}), `${name}.svg`);
    else savePng(made, name);
  });
}
