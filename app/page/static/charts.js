'use strict';

// Line charts (app/page/charts.py), drawn by Plotly once they are in view. Charts with the same key share the crosshair,
// the zoom along the steps, and the controls; a chart's legend shows its values at the crosshair.
{
  const KEPT = 'simct-charts';
  const DASHES = ['solid', 'solid', 'dash', 'dot', 'longdash', 'dashdot'];
  const SIZE = {width: 900, height: 480};
  const places = new Set();
  let settings = {smoothing: 0.6, log: false};
  let loading = null;
  let crosshair = {key: null, step: null};
  let resets = 0;

  const remember = (changes) => {
    settings = {...settings, ...changes};
    try {
      localStorage.setItem(KEPT, JSON.stringify(settings));
    } catch { /* the browser stores nothing */ }
  };
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT) ?? '{}');
    if (kept.smoothing >= 0 && kept.smoothing < 1) settings.smoothing = kept.smoothing;
    settings.log = kept.log === true;
  } catch { /* damaged: the defaults */ }

  const load = () => {
    loading ??= import(new URL(window.studio.plotly, document.baseURI).href).then(() => window.Plotly);
    return loading;
  };
  const make = (parent, tag, properties = {}) => parent.appendChild(Object.assign(document.createElement(tag), properties));
  const colors = (element) => {
    const style = getComputedStyle(element);
    const of = (name) => style.getPropertyValue(name).trim();
    return {
      ink: of('--ink'), dim: of('--dim'), line: of('--line'), paper: of('--background-fill-primary') || '#fff',
      series: [0, 1, 2, 3, 4, 5].map(index => of(`--series-${index}`)), font: style.fontFamily,
    };
  };
  const parts = (hex) => {
    const long = hex.length === 4 ? `#${[...hex.slice(1)].map(each => each + each).join('')}` : hex;
    return [1, 3, 5].map(start => Number.parseInt(long.slice(start, start + 2), 16));
  };
  const translucent = (color, share) => `rgba(${parts(color).join(', ')}, ${share})`;

  // Values

  const smooth = (values, weight) => {
    let average = 0, scale = 0;
    return values.map(value => {
      average = weight * average + (1 - weight) * value;
      scale = weight * scale + (1 - weight);
      // without the noise in the last digits, which the axis would show if all values are equal
      return Number((average / scale).toPrecision(8));
    });
  };
  const isSmoothed = (chart, line) => chart.noisy && settings.smoothing > 0 && line.x.length > 2;
  const shown = (chart, line) => (isSmoothed(chart, line) ? smooth(line.y, settings.smoothing) : line.y);
  const written = (chart, value) => {
    if (value === undefined) return '–';
    if (chart.percent) return `${Number((100 * value).toPrecision(3))}%`;
    const size = Math.abs(value);
    if (size && (size < 0.001 || size >= 1e6)) return value.toExponential(2);
    return Number(value.toPrecision(4)).toLocaleString('en-US', {maximumFractionDigits: 6});
  };
  const nearest = (steps, step) => {
    let low = 0, high = steps.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle] < step) low = middle + 1;
      else high = middle;
    }
    return low > 0 && step - steps[low - 1] < steps[low] - step ? low - 1 : low;
  };
  const isLog = (chart) => settings.log && chart.lines.some(line => line.y.some(value => value > 0));

  // One chart

  const traces = (view) => {
    const {chart, figure} = view, look = colors(figure), found = [];
    for (const line of chart.lines) {
      const color = look.series[line.color % look.series.length];
      const common = {hoverinfo: 'none', showlegend: false, legendgroup: line.name};
      if (line.band) {
        const [x, low, high] = line.band, edge = {...common, x, mode: 'lines', line: {width: 0}, hoverinfo: 'skip'};
        found.push({...edge, y: low}, {...edge, y: high, fill: 'tonexty', fillcolor: translucent(color, 0.16)});
      }
      const smoothed = isSmoothed(chart, line);
      if (smoothed) {
        const faint = {color: translucent(color, 0.35), width: 1};
        found.push({...common, x: line.x, y: line.y, mode: 'lines', line: faint, hoverinfo: 'skip'});
      }
      const few = line.x.length < 2 || (line.x.length <= 30 && !smoothed);
      found.push({
        ...common, name: line.name, x: line.x, y: shown(chart, line), showlegend: true,
        mode: few ? 'lines+markers' : 'lines', marker: {color, size: 5},
        line: {color, width: 2, dash: DASHES[line.color % DASHES.length]},
      });
    }
    return found;
  };
  // Steps are whole numbers: a few have a tick each, and one has nothing on either side.
  const stepAxis = (view) => {
    const ends = view.range ?? view.chart.lines.filter(line => line.x.length).flatMap(line => [line.x[0], line.x.at(-1)]);
    const low = Math.min(...ends), high = Math.max(...ends);
    const ticks = high - low < 6 ? {tick0: 0, dtick: 1} : {nticks: 6};
    if (view.range) return {...ticks, range: [...view.range], autorange: false};
    return low === high ? {...ticks, range: [low - 0.5, low + 0.5], autorange: false} : {...ticks, autorange: true};
  };
  const layout = (view) => {
    const {chart, figure, place} = view, look = colors(figure), log = isLog(chart);
    const revision = `${place.value.key} ${resets}`;
    const steps = stepAxis(view);
    const axis = {gridcolor: look.line, linecolor: look.line, zeroline: false, color: look.dim};
    const title = (text) => ({text, standoff: 6, font: {size: 11, color: look.dim}});
    const span = chart.bounds && !log ? {range: [chart.bounds[0], chart.bounds[1]], autorange: false} : {autorange: true};
    return {
      uirevision: revision, autosize: true, showlegend: false, dragmode: coarse() ? false : 'zoom',
      hovermode: 'x', hoverdistance: -1, spikedistance: -1, margin: {l: 58, r: 12, t: 8, b: 38},
      paper_bgcolor: look.paper, plot_bgcolor: look.paper, font: {family: look.font, size: 11, color: look.dim},
      xaxis: {
        ...axis, title: title('step'), showspikes: true, spikemode: 'across', spikesnap: 'hovered data',
        spikethickness: 1, spikedash: 'solid', spikecolor: look.dim, tickformat: ',d', ...steps,
      },
      yaxis: {
        ...axis, title: title(chart.axis), type: log ? 'log' : 'linear', uirevision: `${revision} ${log}`,
        tickformat: chart.percent ? '.3~%' : '.4~g', nticks: 5, exponentformat: 'power', ...span,
      },
    };
  };
  const coarse = () => window.matchMedia('(pointer: coarse)').matches;

  const legend = (view, step) => {
    const {chart} = view;
    view.keys.replaceChildren();
    let at = null;
    for (const line of chart.lines) {
      const place = step === null ? line.x.length - 1 : nearest(line.x, step);
      at ??= line.x[place];
      const key = make(view.keys, 'span', {className: 'key'});
      const mark = make(key, 'i');
      mark.style.setProperty('--of-line', `var(--series-${line.color % 6})`);
      mark.style.borderTopStyle = {solid: 'solid', dot: 'dotted'}[DASHES[line.color % 6]] ?? 'dashed';
      key.append(`${line.name} `);
      make(key, 'b', {textContent: written(chart, shown(chart, line)[place])});
    }
    if (at !== null) make(view.keys, 'output', {className: 'at', textContent: `step ${at.toLocaleString('en-US')}`});
    if (step !== null) return;
    const values = chart.lines.map(line => `${line.name} ${written(chart, shown(chart, line).at(-1))}`).join(', ');
    view.plot.setAttribute('aria-label', `${chart.title}, ${chart.axis} by step: ${values}`);
  };

  const together = (view) => [...places]
    .filter(place => place.value.key === view.place.value.key)
    .flatMap(place => [...place.views.values()]);

  const stepOf = (view) => (crosshair.key === view.place.value.key ? crosshair.step : null);
  // A chart that is still being drawn has no axes for a crosshair yet; it gets the crosshair afterward.
  const mark = (view) => {
    const step = stepOf(view);
    if (!view.drawn || view.busy) return;
    if (step === null) window.Plotly.Fx.unhover(view.plot);
    else window.Plotly.Fx.hover(view.plot, {xval: step}, 'xy');
  };
  // Move the crosshair of all charts to a step; null removes it. Under the mouse Plotly has already drawn it.
  const point = (view, step, underMouse) => {
    crosshair = {key: view.place.value.key, step};
    for (const other of together(view)) {
      legend(other, step);
      if (other !== view || !underMouse) mark(other);
    }
  };

  // Plotly keeps the range of the zoomed chart while its uirevision stays; the others are drawn with the same range.
  const reset = (view) => {
    resets += 1;
    for (const other of together(view)) {
      Object.assign(other, {range: null}).reset.hidden = true;
      draw(other);
    }
  };
  const zoomed = (view, change) => {
    const range = change['xaxis.range'] ?? [change['xaxis.range[0]'], change['xaxis.range[1]']];
    if (change['xaxis.autorange'] === true) reset(view);
    else if (range.every(Number.isFinite)) {
      for (const other of together(view)) {
        Object.assign(other, {range: [...range]}).reset.hidden = false;
        if (other !== view) draw(other);
      }
    }
  };

  const draw = async (view) => {
    if (!view.seen || !view.figure.isConnected) return;
    try {
      await load();
    } catch {
      view.plot.textContent = 'The charts could not be loaded. Reload the page.';
      return;
    }
    const options = {displayModeBar: false, responsive: true, doubleClick: 'reset+autosize', scrollZoom: false};
    const isNew = !view.drawn;
    view.busy += 1;
    view.drawn = true;
    try {
      await window.Plotly.react(view.plot, traces(view), layout(view), options);
    } finally {
      view.busy -= 1;
    }
    view.figure.dataset.drawn = 'true';
    if (stepOf(view) !== null) mark(view);
    if (!isNew) return;
    view.plot.on('plotly_hover', event => event.points?.length && point(view, event.points[0].x, true));
    view.plot.on('plotly_unhover', () => point(view, null, true));
    view.plot.on('plotly_relayout', change => zoomed(view, change));
  };

  const renew = (view) => {
    legend(view, stepOf(view));
    draw(view);
  };

  const keyed = (view, event) => {
    const moves = {ArrowLeft: -1, ArrowRight: 1, Home: Number.NEGATIVE_INFINITY, End: Number.POSITIVE_INFINITY};
    const steps = view.chart.lines[0]?.x ?? [];
    if (event.key === 'Escape') point(view, null);
    if (!(event.key in moves) || !steps.length) return;
    event.preventDefault();
    const from = stepOf(view) === null ? steps.length - 1 : nearest(steps, stepOf(view));
    point(view, steps[Math.min(steps.length - 1, Math.max(0, from + moves[event.key]))]);
  };

  // Files

  const fileName = (view) => view.chart.title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'chart';
  const cell = (text) => {
    const safe = /^[=+\-@]/.test(text) ? `'${text}` : text;
    return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (chart) => {
    const steps = [...new Set(chart.lines.flatMap(line => line.x))].sort((a, b) => a - b);
    const columns = chart.lines.map(line => new Map(line.x.map((x, i) => [x, line.y[i]])));
    const rows = steps.map(step => [step, ...columns.map(column => column.get(step) ?? '')].join(','));
    return `${[['step', ...chart.lines.map(line => cell(line.name))].join(','), ...rows].join('\n')}\n`;
  };
  const save = async (view, format) => {
    const {chart, figure} = view;
    if (format === 'csv') return window.studio.saveText(`${fileName(view)}.csv`, 'text/csv', csv(chart));
    await load();
    const look = colors(figure);
    const whole = {
      ...layout(view), ...SIZE, autosize: false,
      title: {text: chart.title.replaceAll('<', '&lt;'), x: 0.02, xanchor: 'left', font: {size: 16, color: look.ink}},
      margin: {l: 60, r: 20, t: 76, b: 50}, showlegend: true, legend: {orientation: 'h', x: 0, y: 1.12},
    };
    for (const axis of ['xaxis', 'yaxis']) {
      const range = view.plot._fullLayout?.[axis]?.range;
      if (range) whole[axis] = {...whole[axis], range: [...range], autorange: false};
    }
    const lines = traces(view).map(line => (line.name ? {...line, name: line.name.replaceAll('<', '&lt;')} : line));
    const made = await window.Plotly.toImage({data: lines, layout: whole}, {format, ...SIZE, scale: 2});
    window.studio.saveBlob(await (await fetch(made)).blob(), `${fileName(view)}.${format}`);
  };

  // A place with charts

  const seen = new IntersectionObserver(entries => {
    for (const {target, isIntersecting} of entries) {
      const view = target.chartView;
      view.seen = isIntersecting;
      if (isIntersecting) draw(view);
    }
  }, {rootMargin: '200px'});

  const build = (place, chart) => {
    const figure = make(place.grid, 'figure', {className: 'chart'});
    figure.dataset.testid = 'line-chart';
    const caption = make(figure, 'figcaption');
    make(caption, 'b', {textContent: chart.title});
    const buttons = make(caption, 'span', {className: 'save'});
    const view = {place, chart, figure, seen: false, drawn: false, busy: 0, range: null};
    view.reset = make(buttons, 'button', {type: 'button', textContent: 'Reset zoom', hidden: true});
    view.reset.addEventListener('click', () => reset(view));
    for (const format of ['png', 'svg', 'csv']) {
      const button = make(buttons, 'button', {type: 'button', textContent: format.toUpperCase()});
      button.setAttribute('aria-label', `Save ${chart.title} as ${format.toUpperCase()}`);
      button.addEventListener('click', () => save(view, format));
    }
    view.keys = make(figure, 'div', {className: 'keys'});
    view.plot = make(figure, 'div', {className: 'plot', tabIndex: 0});
    view.plot.setAttribute('role', 'img');
    view.plot.addEventListener('keydown', event => keyed(view, event));
    view.plot.addEventListener('blur', () => point(view, null));
    figure.chartView = view;
    seen.observe(figure);
    return view;
  };

  const controls = (place) => {
    const tools = make(place.root, 'div', {className: 'chart-tools'});
    const range = make(tools, 'label', {textContent: 'Smoothing '});
    place.range = make(range, 'input', {type: 'range', min: '0', max: '0.98', step: '0.02'});
    place.range.dataset.testid = 'smoothing';
    place.amount = make(range, 'output');
    const box = make(tools, 'label');
    place.box = make(box, 'input', {type: 'checkbox'});
    place.box.dataset.testid = 'log-axis';
    box.append(' Logarithmic axis');
    make(tools, 'span', {textContent: coarse() ? 'Tap a chart to read its values.' : 'Drag over a chart to zoom in.'});
    const changed = () => {
      remember({smoothing: Number(place.range.value), log: place.box.checked});
      for (const other of places) refresh(other);
    };
    place.range.addEventListener('input', changed);
    place.box.addEventListener('change', changed);
    return tools;
  };

  const refresh = (place) => {
    place.range.value = settings.smoothing;
    place.amount.textContent = settings.smoothing ? settings.smoothing.toFixed(2) : 'off';
    place.box.checked = settings.log;
    for (const view of place.views.values()) renew(view);
  };

  const update = (place, value) => {
    const other = value.key !== place.value.key;
    place.value = value;
    place.tools.hidden = !value.tools || !value.charts.length;
    place.note.textContent = value.charts.length ? '' : value.empty;
    place.note.hidden = !place.note.textContent;
    place.grid.hidden = !value.charts.length;
    const titles = new Set(value.charts.map(chart => chart.title));
    for (const [title, view] of place.views) {
      if (titles.has(title)) continue;
      seen.unobserve(view.figure);
      if (view.drawn) window.Plotly.purge(view.plot);
      view.figure.remove();
      place.views.delete(title);
    }
    for (const [index, chart] of value.charts.entries()) {
      const view = place.views.get(chart.title) ?? build(place, chart);
      place.views.set(chart.title, view);
      view.chart = chart;
      if (other) Object.assign(view, {range: null}).reset.hidden = true;
      if (place.grid.children[index] !== view.figure) place.grid.insertBefore(view.figure, place.grid.children[index]);
    }
    refresh(place);
  };

  // The colors depend on the theme.
  const watchTheme = () => new MutationObserver(() => places.forEach(refresh))
    .observe(document.body, {attributes: true, attributeFilter: ['class']});
  if (document.body) watchTheme();
  else document.addEventListener('DOMContentLoaded', watchTheme);

  window.studio ??= {};
  Object.assign(window.studio, {
    charts: (element, _trigger, watch, props) => {
      const place = {root: element.querySelector('.lines'), views: new Map(), value: {key: null}};
      place.tools = controls(place);
      place.note = make(place.root, 'p', {className: 'empty'});
      place.grid = make(place.root, 'div', {className: 'charts'});
      places.add(place);
      const take = () => update(place, props.value ?? {key: '', tools: false, empty: '', charts: []});
      watch('value', take);
      take();
    },
  });
}
