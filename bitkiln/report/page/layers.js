// Layers of one point: cycles by cause, bytes by tier, and the numbers as a table.

// Paul Tol's "muted" colours, told apart with any common colour blindness; patterns repeat the difference.
const PARTS = ["#332288", "#DDCC77", "#117733", "#CC6677", "#88CCEE", "#AA4499", "#999933", "#882255", "#44AA99"];
const PARTS_DARK = [
  "#8F86E0",
  "#DDCC77",
  "#3FB36B",
  "#E08A98",
  "#88CCEE",
  "#D17CC2",
  "#B8B84F",
  "#C05A8A",
  "#5FD0BD",
];
const PATTERNS = ["", "/", "", "\\", "", "x", ".", "-", "+"];

function partStyle(at) {
  const list = theme() === "dark" ? PARTS_DARK : PARTS;
  return {
    color: list[at % list.length],
    line: { width: 0.5, color: ink("back") },
    pattern: {
      shape: PATTERNS[at % PATTERNS.length],
      size: 6,
      solidity: 0.22,
      fgcolor: ink("back"),
      fillmode: "overlay",
    },
  };
}

function setupLayers() {
  const chooser = byId("layers-point");
  chooser.addEventListener("change", () => {
    select(page.points.find((point) => point.id === chooser.value) ?? null);
  });
  byId("layers-scale").addEventListener("change", drawLayers);
}

const hasLayers = (point) => point.layers.length > 0;

// The selected point, else the first of the front, else the first with layers.
function layersPoint() {
  if (page.selected) return page.selected;
  return currentFront().find(hasLayers) ?? page.shown.find(hasLayers) ?? page.points.find(hasLayers) ?? null;
}

function drawLayers() {
  const point = layersPoint(),
    front = currentFront().filter(hasLayers);
  const rest = page.shown.filter((each) => hasLayers(each) && !front.includes(each)).slice(0, 500);
  const option = (each) => el("option", { value: each.id, selected: each === point }, each.name);
  const extra = point && !front.includes(point) && !rest.includes(point) ? [option(point)] : [];
  byId("layers-point").replaceChildren(
    ...extra,
    ...[
      ["On the front", front],
      ["Others", rest],
    ]
      .filter(([, list]) => list.length)
      .map(([label, list]) => el("optgroup", { label }, ...list.map(option))),
  );
  const layers = point ? point.layers : [];
  drawCycles(layers);
  drawBytes(layers);
  byId("layers-note").textContent = point ? layersNote(point) : "";
  byId("layers-table").replaceChildren(...(layers.length ? [layersTable(layers)] : []));
}

const stalls = (layer) => Object.entries(layer.stalls || {}).filter(([, cycles]) => isNumber(cycles) && cycles > 0);
const otherCycles = (layer) =>
  Math.max(
    0,
    (layer.cycles ?? 0) - (layer.compute ?? 0) - stalls(layer).reduce((sum, [, cycles]) => sum + cycles, 0),
  );

function causesOf(layers) {
  return [...new Set(layers.flatMap((layer) => stalls(layer).map(([cause]) => cause)))];
}

// Bars in the order of the network from the top; names may repeat, so the axis counts and the labels name.
function layerAxis(layers) {
  const at = layers.map((_, index) => index);
  return axis("", {
    tickvals: at,
    ticktext: layers.map((layer) => plain(short(layer.name, 26)) + " "),
    ...rowRange(layers),
    showgrid: false,
    ticks: "",
  });
}

const rowRange = (rows) => ({ range: [Math.max(1, rows.length) - 0.5, -0.5], autorange: false });
const barHeight = (count, series) => Math.max(210, 110 + series + 26 * count);

function drawCycles(layers) {
  const share = byId("layers-scale").value === "share",
    at = layers.map((_, index) => index);
  const parts = [
    ["compute", layers.map((layer) => layer.compute ?? 0)],
    ...causesOf(layers).map((cause) => [`stall: ${cause}`, layers.map((layer) => layer.stalls?.[cause] ?? 0)]),
    ["other", layers.map(otherCycles)],
  ].filter(([, cycles]) => cycles.some((count) => count > 0));
  const total = layers.map((layer) => layer.cycles || 1);
  const traces = parts.map(([name, cycles], index) => ({
    type: "bar",
    orientation: "h",
    name: plain(name),
    y: at,
    marker: partStyle(index),
    x: share ? cycles.map((count, row) => (100 * count) / total[row]) : cycles,
    customdata: cycles.map((count, row) =>
      [number(count), percent((100 * count) / total[row]).replace("+", ""), layers[row].bound ?? ""].map(plain),
    ),
    text: layers.map((layer) => plain(layer.name)),
    textposition: "none",
    hovertemplate:
      `<b>%{text}</b><br>${plain(name)}: %{customdata[0]} cycles, %{customdata[1]}` +
      "<br>bound by %{customdata[2]}<extra></extra>",
  }));
  draw("layers-cycles", traces, {
    barmode: "stack",
    bargap: 0.25,
    height: barHeight(layers.length, 20),
    yaxis: layerAxis(layers),
    legend: legendAbove(),
    xaxis: axis(share ? "Share of the layer's cycles (%)" : "Cycles", { tickformat: ",~r", rangemode: "tozero" }),
    ...(layers.length
      ? {
          annotations: layers.map((layer, row) => ({
            x: share ? 100 : (layer.cycles ?? 0),
            y: row,
            xanchor: "left",
            xshift: 4,
            showarrow: false,
            font: { size: 11, color: ink("muted") },
            text: plain(layer.bound ? `${layer.bound}-bound` : ""),
          })),
        }
      : emptyNote("No layers for this point.")),
    margin: { l: 70, r: 110, t: 50, b: 50 },
  });
}

const legendAbove = () => ({
  orientation: "h",
  x: 0,
  xanchor: "left",
  y: 1,
  yanchor: "bottom",
  yref: "paper",
  traceorder: "normal",
});

// Tiers are decades apart, so the axis is logarithmic; on it dots are honest and bars, which have no start, are not.
function drawBytes(layers) {
  const tiers = [...new Set(layers.flatMap((layer) => Object.keys(layer.bytes || {})))];
  const at = layers.map((_, index) => index),
    all = layers.flatMap((layer) => Object.values(layer.bytes || {})).filter((count) => count > 0);
  byId("layers-bytes").hidden = !tiers.length;
  if (!tiers.length) return;
  const traces = tiers.map((tier, index) => ({
    type: "scatter",
    mode: "markers",
    name: plain(tier),
    y: at,
    text: layers.map((layer) => plain(layer.name)),
    x: layers.map((layer) => layer.bytes?.[tier] || null),
    marker: {
      color: partStyle(index + 3).color,
      symbol: Object.keys(SHAPES)[index % Object.keys(SHAPES).length],
      size: 11,
    },
    hovertemplate: `<b>%{text}</b><br>${plain(tier)}: %{x:,} bytes<extra></extra>`,
  }));
  draw("layers-bytes", traces, {
    height: barHeight(layers.length, 20),
    yaxis: { ...layerAxis(layers), showgrid: true },
    legend: legendAbove(),
    margin: { l: 70, r: 110, t: 50, b: 50 },
    xaxis: axis("Bytes moved, in packed bits, logarithmic", ticks(all.length ? all : [1, 10], all.length > 0)),
  });
}

function layersNote(point) {
  const sum = (key) => point.layers.reduce((total, layer) => total + (layer[key] ?? 0), 0);
  if (!point.layers.length) return `${point.name} has no layers in this sweep.`;
  const cycles = sum("cycles"),
    share = cycles ? `, ${((100 * sum("compute")) / cycles).toFixed(1)} % of them computing` : "";
  const layers = plural(point.layers.length, "layer");
  return `${point.name}: ${layers}, ${number(sum("macs"))} MACs, ${number(cycles)} cycles${share}.`;
}

function layersTable(layers) {
  const causes = causesOf(layers),
    tiers = [...new Set(layers.flatMap((layer) => Object.keys(layer.bytes || {})))];
  const energy = layers.some((layer) => isNumber(layer.energy_pj));
  const columns = [
    ["MACs", "", (layer) => layer.macs],
    ["Cycles", "", (layer) => layer.cycles],
    ["MAC/cycle", "", (layer) => (layer.cycles ? layer.macs / layer.cycles : null)],
    ["Compute", "cycles", (layer) => layer.compute],
    ...causes.map((cause) => [`Stall: ${cause}`, "cycles", (layer) => layer.stalls?.[cause] ?? 0]),
    ...tiers.map((tier) => [tier, "bytes", (layer) => layer.bytes?.[tier]]),
    ...(energy ? [["Energy", "pJ", (layer) => layer.energy_pj]] : []),
  ];
  return el(
    "table",
    { class: "plain" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", {}, "Layer"),
        ...columns.map(([title, unit]) =>
          el("th", { class: "numeric" }, title, unit ? el("span", { class: "unit" }, unit) : null),
        ),
        el("th", {}, "Bound by"),
      ),
    ),
    el(
      "tbody",
      {},
      ...layers.map((layer) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, layer.name),
          ...columns.map(([, , read]) => el("td", { class: "numeric" }, number(read(layer)))),
          el("td", {}, layer.bound ?? "–"),
        ),
      ),
    ),
  );
}
