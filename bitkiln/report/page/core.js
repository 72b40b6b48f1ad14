"use strict";
// State, formats and small tools that every view uses. Text of a sweep reaches the page as text nodes only.

const page = {
  sweep: null,
  data: null,
  metrics: new Map(),
  points: [],
  shown: [],
  selected: null,
  hidden: new Set(),
  words: [],
  tab: "pareto",
  x: null,
  y: null,
  frontOf: "all",
};
const byId = (id) => document.getElementById(id);

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const SHAPES = {
  circle: "M8 2.5a5.5 5.5 0 1 0 .01 0z",
  square: "M3 3h10v10H3z",
  diamond: "M8 1.5 14.5 8 8 14.5 1.5 8z",
  "triangle-up": "M8 2 14.5 13.5h-13z",
  cross: "M5.8 2h4.4v3.8H14v4.4h-3.8V14H5.8v-3.8H2V5.8h3.8z",
  star: "m8 1 2.1 4.7 5 .5-3.800 3.400 1.100 5L8 12l-4.400 2.600 1.100-5L.9 6.200l5-.5z",
  "triangle-down": "M8 14 1.500 2.500h13z",
  hexagon: "M8 1.500 13.600 4.750v6.500L8 14.500 2.400 11.250v-6.500z",
  pentagon: "m8 1.500 6.200 4.500-2.400 7.300H4.200L1.800 6z",
};

function swatch(family) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const style = page.data.families[family];
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", SHAPES[style.symbol]);
  path.setAttribute("fill", style[theme()]);
  svg.append(path);
  return svg;
}

const theme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colour = (family) => page.data.families[family][theme()];

function faint(hex, alpha) {
  const part = (at) => parseInt(hex.slice(at, at + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${alpha})`;
}

// Numbers

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const unitOf = (metric) => page.data.units[metric.unit] ?? metric.unit;

function number(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e12)) return value.toExponential(3);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const digits = Math.max(0, 3 - Math.floor(Math.log10(size)));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(digits, 6) });
}

function withUnit(value, metric) {
  const unit = unitOf(metric);
  return isNumber(value) && unit ? `${number(value)}${unit === "%" ? " %" : " " + unit}` : number(value);
}

function percent(error) {
  if (!isNumber(error)) return "–";
  const size = Math.abs(error).toFixed(Math.abs(error) < 10 ? 1 : 0);
  return `${Number(size) === 0 ? "" : error < 0 ? "−" : "+"}${size} %`;
}

const entryOf = (point, name) => point.metrics[name] || {};
const valueOf = (point, name) => (isNumber(entryOf(point, name).value) ? entryOf(point, name).value : null);
const measuredOf = (point, name) => {
  const seen = point.measured[name];
  return seen && isNumber(seen.value) ? seen.value : null;
};

function errorOf(point, name) {
  const predicted = valueOf(point, name),
    seen = measuredOf(point, name);
  return predicted === null || !seen ? null : (100 * (predicted - seen)) / seen;
}

function interval(point, name) {
  const { low, high } = entryOf(point, name);
  if (!isNumber(low) && !isNumber(high)) return "";
  return low === high ? "" : `${number(low)} to ${number(high)}`;
}

function axisTitle(name) {
  const metric = page.metrics.get(name),
    unit = unitOf(metric);
  const repeats = unit.toLowerCase() === metric.title.toLowerCase();
  return plain(
    `${metric.title}${unit && !repeats ? ` (${unit})` : ""}, ${metric.higher_is_better ? "higher" : "lower"} is better`,
  );
}

const show = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
const configText = (point) =>
  Object.entries(point.config)
    .map(([key, value]) => `${key}=${show(value)}`)
    .join(" ");
const plural = (count, word) => `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;

// plotly.js reads a few tags in its labels; a sweep's text must not be taken for them.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

// Filter and selection

function applyFilter() {
  filterPoints();
  redraw();
}

function filterPoints() {
  page.shown = page.points.filter(
    (point) => !page.hidden.has(point.family) && page.words.every((word) => point.searchText.includes(word)),
  );
  const all = page.shown.length === page.points.length;
  byId("count").textContent = all
    ? plural(page.points.length, "point")
    : `${page.shown.length.toLocaleString("en-US")} of ${plural(page.points.length, "point")} shown`;
  byId("clear").hidden = all && !page.words.length;
}

function select(point) {
  page.selected = point;
  drawDetails();
  views[page.tab].selected?.();
  remember();
}

function remember() {
  const selected = page.selected ? `&point=${encodeURIComponent(page.selected.id)}` : "";
  history.replaceState(null, "", `#tab=${page.tab}${selected}`);
}

// Non-dominated points of a pair of metrics, by rising x. The sweep's own fronts where it lists them.
function frontOf(points, x, y) {
  const both = points.filter((point) => valueOf(point, x) !== null && valueOf(point, y) !== null);
  const listed = points === page.points ? both.filter((point) => point.fronts.includes(`${x}/${y}`)) : [];
  return (listed.length ? listed : notDominated(both, x, y)).sort(
    (a, b) => valueOf(a, x) - valueOf(b, x) || valueOf(a, y) - valueOf(b, y),
  );
}

function notDominated(points, x, y) {
  const sign = (name) => (page.metrics.get(name).higher_is_better ? -1 : 1);
  const atX = (point) => sign(x) * valueOf(point, x),
    atY = (point) => sign(y) * valueOf(point, y);
  const kept = [];
  for (const point of [...points].sort((a, b) => atX(a) - atX(b) || atY(a) - atY(b))) {
    const last = kept[kept.length - 1];
    if (!last || atY(point) < atY(last) || (atX(point) === atX(last) && atY(point) === atY(last))) kept.push(point);
  }
  return kept;
}

const currentFront = () => frontOf(page.frontOf === "all" ? page.points : page.shown, page.x, page.y);

// Plots

function axis(title, more) {
  return {
    title: { text: title, standoff: 10, font: { size: 13 } },
    gridcolor: ink("grid"),
    linecolor: ink("line"),
    zeroline: false,
    ticks: "outside",
    tickcolor: ink("line"),
    automargin: true,
    showline: true,
    ...more,
  };
}

const logAxis = { type: "log", dtick: null, minor: { showgrid: false }, exponentformat: "power" };

// Fewer numbers a decade the more decades there are, so that they do not touch.
function ticks(values, isLog) {
  if (!isLog) return { tickformat: ",~r", nticks: 9 };
  const decades = Math.log10(Math.max(...values) / Math.min(...values));
  return { ...logAxis, dtick: decades > 3 ? 1 : decades > 0.6 ? "D2" : "D1", tickformat: ",~r" };
}

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 70, r: 24, t: 40, b: 60 },
    font: { family: "system-ui, 'Liberation Sans', Arial, sans-serif", size: 13, color: ink("text") },
    hovermode: "closest",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("line"), activecolor: ink("text") },
    hoverlabel: { align: "left" },
    showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
    ...more,
  };
}

// plotly.js offers by default to upload a plot to its makers' server; this page sends nothing to anybody.
const CONFIG = {
  responsive: true,
  showSendToCloud: false,
  plotlyServerURL: "",
  displaylogo: false,
  displayModeBar: "hover",
  modeBarButtonsToRemove: ["lasso2d", "select2d", "toggleSpikelines"],
};

function draw(id, traces, { height, ...more }) {
  if (height) byId(id).style.height = `${height}px`;
  const name = `${page.sweep.name}_${id}`.replace(/[^\w-]+/g, "_");
  return Plotly.react(byId(id), traces, layout(more), {
    ...CONFIG,
    toImageButtonOptions: { format: "svg", filename: name },
  });
}

const emptyNote = (text) => ({
  xaxis: { visible: false },
  yaxis: { visible: false },
  annotations: [
    { text, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5, font: { size: 16, color: ink("muted") } },
  ],
});

// Points of a plot answer to the pointer: the card on hover, the selection on click. Of points at the same place,
// which `place` tells, each click takes the next.
function listen(id, place) {
  const plot = byId(id);
  if (plot.dataset.listens) return;
  plot.dataset.listens = "yes";
  const pointOf = (event) => page.points[event.points[0]?.customdata];
  const here = (point) => page.shown.filter((each) => place(each) === place(point));
  plot.on("plotly_hover", (event) => {
    const point = pointOf(event);
    if (point) showCard(point, event.event, here(point).length - 1);
  });
  plot.on("plotly_unhover", hideCard);
  plot.on("plotly_click", (event) => {
    const point = pointOf(event);
    if (!point) return;
    const all = here(point),
      at = all.indexOf(page.selected);
    select(at < 0 ? point : all[(at + 1) % all.length]);
  });
}
