// Scatter of any two metrics: error bars, the front as a staircase, measured beside predicted, the selection.

const MANY = 600; // points from which on only the front shows its intervals at first

function setupPareto() {
  for (const axisName of ["x", "y"]) {
    const chooser = byId(`axis-${axisName}`);
    chooser.replaceChildren(
      ...page.sweep.metrics.map((metric) => el("option", { value: metric.name }, metric.title)),
    );
    chooser.addEventListener("change", () => choose(axisName, chooser.value));
    byId(`log-${axisName}`).addEventListener("change", drawPareto);
  }
  byId("bars").value = page.points.length > MANY ? "front" : "all";
  byId("bars").addEventListener("change", drawPareto);
  byId("front-of").addEventListener("change", (event) => {
    page.frontOf = event.target.value;
    drawPareto();
  });
  const presets = page.data.pairs.map(([x, y]) =>
    el(
      "button",
      {
        class: "preset",
        "data-pair": `${x}/${y}`,
        onclick: () => {
          choose("x", x, false);
          choose("y", y);
        },
      },
      `${page.metrics.get(y).title} / ${page.metrics.get(x).title}`,
    ),
  );
  if (presets.length > 1) byId("presets").replaceChildren(el("span", { class: "caption" }, "Fronts"), ...presets);
  const [x, y] = page.data.pairs[0];
  choose("x", x, false);
  choose("y", y, false);
}

function choose(axisName, metric, drawNow = true) {
  page[axisName] = metric;
  byId(`axis-${axisName}`).value = metric;
  byId(`log-${axisName}`).checked = page.data.log.includes(metric);
  if (drawNow) drawPareto();
}

function drawPareto() {
  const { x, y } = page,
    logX = byId("log-x").checked,
    logY = byId("log-y").checked;
  const drawable = (point) =>
    [
      [x, logX],
      [y, logY],
    ].every(([name, isLog]) => valueOf(point, name) !== null && (!isLog || valueOf(point, name) > 0));
  const points = page.shown.filter(drawable);
  const front = currentFront().filter(drawable);
  const onFront = new Set(front);
  const traces = Object.keys(page.data.families)
    .map((family) =>
      familyTrace(
        family,
        points.filter((point) => point.family === family),
        onFront,
      ),
    )
    .filter((trace) => trace.x.length);
  traces.push(...frontTraces(front), ...measuredTraces(points, logX, logY), selectionTrace());
  for (const button of document.querySelectorAll(".preset"))
    button.setAttribute("aria-pressed", button.dataset.pair === `${x}/${y}`);
  const values = (name) => points.map((point) => valueOf(point, name));
  byId("pareto-note").textContent = paretoNote(points, front, logX || logY); // first: it takes room from the plot
  draw("pareto", traces, {
    xaxis: axis(axisTitle(x), points.length ? ticks(values(x), logX) : {}),
    yaxis: axis(axisTitle(y), points.length ? ticks(values(y), logY) : {}),
    ...(points.length ? {} : emptyNote(emptyReason())),
  });
  listen("pareto", (point) => `${valueOf(point, page.x)}/${valueOf(point, page.y)}`);
}

function emptyReason() {
  if (!page.points.length) return "This sweep has no points.";
  return page.shown.length ? "No point shown has both values." : "The filter hides every point.";
}

function familyTrace(family, points, onFront) {
  const { x, y } = page,
    base = colour(family),
    bars = byId("bars").value;
  const big = page.points.length > MANY ? [10, 5] : [13, 9];
  const bar = (name) => {
    const seen = (point) => bars === "all" || (bars === "front" && onFront.has(point));
    const length = (point, key) =>
      seen(point) && isNumber(entryOf(point, name)[key])
        ? Math.abs(entryOf(point, name)[key] - valueOf(point, name))
        : NaN;
    return {
      type: "data",
      symmetric: false,
      array: points.map((point) => length(point, "high")),
      visible: bars !== "none",
      arrayminus: points.map((point) => length(point, "low")),
      color: faint(base, 0.55),
      thickness: 1.2,
      width: 3,
    };
  };
  return {
    type: "scatter",
    mode: "markers",
    name: plain(family),
    showlegend: false,
    hoverinfo: "none",
    x: points.map((point) => valueOf(point, x)),
    y: points.map((point) => valueOf(point, y)),
    customdata: points.map((point) => point.index),
    error_x: bar(x),
    error_y: bar(y),
    marker: {
      symbol: page.data.families[family].symbol,
      size: points.map((point) => big[onFront.has(point) ? 0 : 1]),
      color: base,
      opacity: points.map((point) => (onFront.has(point) ? 1 : 0.6)),
      line: {
        width: points.map((point) => (onFront.has(point) ? 1.4 : 0.6)),
        color: points.map((point) => (onFront.has(point) ? ink("text") : ink("back"))),
      },
    },
  };
}

// Between two points of the front the worse of the two levels holds, so the step's corner depends on the x direction.
function frontTraces(front) {
  return [
    {
      type: "scatter",
      mode: "lines",
      name: `front (${front.length})`,
      hoverinfo: "skip",
      showlegend: front.length > 0,
      x: front.map((point) => valueOf(point, page.x)),
      y: front.map((point) => valueOf(point, page.y)),
      line: { shape: page.metrics.get(page.x).higher_is_better ? "vh" : "hv", color: ink("text"), width: 1.6 },
    },
  ];
}

function measuredTraces(points, logX, logY) {
  const { x, y } = page;
  const measured = points.filter((point) => measuredOf(point, x) !== null || measuredOf(point, y) !== null);
  const ends = measured.map((point) => [
    measuredOf(point, x) ?? valueOf(point, x),
    measuredOf(point, y) ?? valueOf(point, y),
  ]);
  const kept = ends.map(([a, b]) => (!logX || a > 0) && (!logY || b > 0));
  const only = (list) => list.filter((_, at) => kept[at]);
  const lines = { x: [], y: [] };
  only(measured).forEach((point, at) => {
    lines.x.push(valueOf(point, x), only(ends)[at][0], null);
    lines.y.push(valueOf(point, y), only(ends)[at][1], null);
  });
  return [
    {
      type: "scatter",
      mode: "lines",
      ...lines,
      hoverinfo: "skip",
      showlegend: false,
      line: { color: ink("accent"), width: 2 },
    },
    {
      type: "scatter",
      mode: "markers",
      name: `measured (${only(measured).length})`,
      hoverinfo: "none",
      showlegend: only(measured).length > 0,
      x: only(ends).map((end) => end[0]),
      y: only(ends).map((end) => end[1]),
      customdata: only(measured).map((point) => point.index),
      marker: { symbol: "x-thin", size: 8, line: { width: 1.8, color: ink("accent") } },
    },
  ];
}

function selectionTrace() {
  const point = page.selected,
    at = (name) => (point ? valueOf(point, name) : null);
  const visible = point !== null && at(page.x) !== null && at(page.y) !== null;
  return {
    type: "scatter",
    mode: "markers",
    name: "selected",
    hoverinfo: "skip",
    showlegend: visible,
    x: visible ? [at(page.x)] : [],
    y: visible ? [at(page.y)] : [],
    meta: "selection",
    marker: { symbol: "circle-open", size: 24, color: ink("select"), line: { width: 3, color: ink("select") } },
  };
}

function moveSelection() {
  const plot = byId("pareto"),
    at = plot.data.findIndex((trace) => trace.meta === "selection");
  const { x, y, showlegend } = selectionTrace();
  Plotly.restyle(plot, { x: [x], y: [y], showlegend }, [at]);
}

function paretoNote(points, front, anyLog) {
  const missing = page.shown.length - points.length;
  const metrics = [page.x, page.y].map((name) => page.metrics.get(name));
  const errors = metrics.map((metric) => {
    const all = points.map((point) => errorOf(point, metric.name)).filter((error) => error !== null);
    if (!all.length) return null;
    const mean = all.reduce((sum, error) => sum + Math.abs(error), 0) / all.length;
    const worst = all.reduce((most, error) => (Math.abs(error) > Math.abs(most) ? error : most), 0);
    return (
      `${metric.title} predicted against measured on ${plural(all.length, "point")}: ` +
      `mean error ${mean.toFixed(1)} %, worst ${percent(worst)}.`
    );
  });
  return [
    missing
      ? `${plural(missing, "point")} not drawn: no value${anyLog ? ", or not above 0 on a logarithmic axis" : ""}.`
      : null,
    ...errors,
    points.length ? "Bars are the interval of each number; hover shows where the number comes from." : null,
  ]
    .filter(Boolean)
    .join(" ");
}
