// Area by part, stacked: the points of the front, or those shown.

const MOST_BARS = 40;

function setupArea() {
  for (const id of ["area-points", "area-scale"]) byId(id).addEventListener("change", drawArea);
}

const partsTotal = (point) => Object.values(point.area_parts).reduce((sum, part) => sum + (part || 0), 0);

function areaPoints() {
  const hasParts = (point) => partsTotal(point) > 0;
  const list =
    byId("area-points").value === "front"
      ? currentFront().filter((point) => page.shown.includes(point))
      : [...page.shown];
  const points = list.filter(hasParts);
  if (page.selected && hasParts(page.selected) && !points.includes(page.selected)) points.push(page.selected);
  points.sort((a, b) => partsTotal(a) - partsTotal(b));
  const kept = points.slice(0, MOST_BARS);
  if (page.selected && points.includes(page.selected) && !kept.includes(page.selected))
    kept[MOST_BARS - 1] = page.selected;
  return { kept, all: points.length };
}

function drawArea() {
  const { kept, all } = areaPoints(),
    share = byId("area-scale").value === "share";
  const metric = page.metrics.get("area") ?? { title: "Area", unit: "" },
    unit = unitOf(metric);
  const at = kept.map((_, row) => row),
    parts = [...new Set(kept.flatMap((point) => Object.keys(point.area_parts)))];
  const traces = parts.map((part, index) => ({
    type: "bar",
    orientation: "h",
    name: plain(part),
    y: at,
    marker: partStyle(index),
    x: kept.map((point) => (share ? 100 / partsTotal(point) : 1) * (point.area_parts[part] || 0)),
    customdata: kept.map((point) => [
      plain(point.name),
      number(point.area_parts[part] ?? 0),
      ((100 * (point.area_parts[part] || 0)) / partsTotal(point)).toFixed(1),
    ]),
    hovertemplate:
      `<b>%{customdata[0]}</b><br>${plain(part)}: %{customdata[1]} ${plain(unit)}, ` +
      "%{customdata[2]} %<extra></extra>",
  }));
  if (!share && kept.length) traces.push(...areaMarks(kept, metric));
  draw("area", traces, {
    barmode: "stack",
    bargap: 0.28,
    height: barHeight(kept.length, 30),
    legend: legendAbove(),
    margin: { l: 70, r: 40, t: 60, b: 55 },
    xaxis: axis(share ? "Share of the design (%)" : `Area by part${unit ? ` (${plain(unit)})` : ""}`, {
      tickformat: ",~r",
      rangemode: "tozero",
    }),
    yaxis: axis("", {
      tickvals: at,
      ...rowRange(kept),
      showgrid: false,
      ticks: "",
      ticktext: kept.map((point) =>
        point === page.selected ? `<b>▸ ${plain(short(point.name, 34))}</b> ` : `${plain(short(point.name, 34))} `,
      ),
    }),
    ...(kept.length ? {} : emptyNote(page.shown.length ? "No point here has its area by part." : emptyReason())),
  });
  listenArea(kept);
  byId("area-note").textContent = areaNote(kept, all, metric);
}

// The predicted whole with its interval, and the measured whole.
function areaMarks(kept, metric) {
  const rows = (list) => list.map((point) => kept.indexOf(point));
  const predicted = kept.filter((point) => valueOf(point, "area") !== null);
  const measured = kept.filter((point) => measuredOf(point, "area") !== null);
  const off = (point, key) =>
    isNumber(entryOf(point, "area")[key]) ? Math.abs(entryOf(point, "area")[key] - valueOf(point, "area")) : NaN;
  const label = (list, read) => list.map((point) => `${plain(point.name)}<br>${plain(read(point))}`);
  return [
    {
      type: "scatter",
      mode: "markers",
      name: "predicted whole and interval",
      x: predicted.map((point) => valueOf(point, "area")),
      y: rows(predicted),
      text: label(
        predicted,
        (point) => `${withUnit(valueOf(point, "area"), metric)} (${interval(point, "area") || "no interval"})`,
      ),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: predicted.length > 0,
      error_x: {
        type: "data",
        symmetric: false,
        array: predicted.map((point) => off(point, "high")),
        thickness: 1.4,
        width: 4,
        arrayminus: predicted.map((point) => off(point, "low")),
        color: ink("text"),
      },
      marker: { symbol: "line-ns", size: 13, line: { width: 2, color: ink("text") } },
    },
    {
      type: "scatter",
      mode: "markers",
      name: "measured",
      x: measured.map((point) => measuredOf(point, "area")),
      y: rows(measured),
      text: label(
        measured,
        (point) =>
          `measured ${withUnit(measuredOf(point, "area"), metric)}, error ${percent(errorOf(point, "area"))}`,
      ),
      hovertemplate: "%{text}<extra></extra>",
      showlegend: measured.length > 0,
      marker: { symbol: "x-thin", size: 9, line: { width: 2.2, color: ink("accent") } },
    },
  ];
}

function listenArea(kept) {
  const plot = byId("area");
  plot.removeAllListeners("plotly_click");
  plot.on("plotly_click", (event) => {
    const point = kept[event.points[0]?.y];
    if (point) select(point);
  });
}

function areaNote(kept, all, metric) {
  const off = kept
    .filter((point) => isNumber(valueOf(point, "area")))
    .map((point) => ({ point, gap: Math.abs(partsTotal(point) - valueOf(point, "area")) / valueOf(point, "area") }))
    .filter(({ gap }) => gap > 0.005);
  return [
    all > kept.length ? `The first ${kept.length} of ${plural(all, "point")}.` : null,
    kept.length ? "A click on a bar selects the point." : null,
    off.length
      ? `The parts of ${plural(off.length, "point")} do not add up to the predicted ${metric.title.toLowerCase()}: ` +
        `${off
          .slice(0, 3)
          .map(({ point, gap }) => `${point.name} by ${(100 * gap).toFixed(1)} %`)
          .join(", ")}.`
      : null,
  ]
    .filter(Boolean)
    .join(" ");
}
