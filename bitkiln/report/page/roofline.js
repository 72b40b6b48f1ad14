// Every design under its own roof: achieved MAC per cycle against MAC per byte.

const MOST_ROOFS = 6; // distinct roofs drawn in absolute axes

function setupRoofline() {
  const roofs = distinctRoofs(withRoofline(page.points));
  byId("roofline-axes").value = roofs.length > MOST_ROOFS ? "relative" : "absolute";
  byId("roofline-axes").addEventListener("change", drawRoofline);
}

function withRoofline(points) {
  return points.filter(
    ({ roofline }) =>
      roofline &&
      ["intensity", "macs_per_cycle", "peak", "bandwidth"].every(
        (key) => isNumber(roofline[key]) && roofline[key] > 0,
      ),
  );
}

function distinctRoofs(points) {
  const roofs = new Map();
  for (const { roofline } of points) {
    const key = `${roofline.peak}/${roofline.bandwidth}`;
    roofs.set(key, { peak: roofline.peak, bandwidth: roofline.bandwidth, count: (roofs.get(key)?.count ?? 0) + 1 });
  }
  return [...roofs.values()].sort((a, b) => b.count - a.count || b.peak - a.peak || b.bandwidth - a.bandwidth);
}

const roofAt = ({ intensity, peak, bandwidth }) => Math.min(peak, intensity * bandwidth);

function drawRoofline() {
  const points = withRoofline(page.shown),
    relative = byId("roofline-axes").value === "relative";
  const atX = ({ roofline }) =>
    relative ? (roofline.intensity * roofline.bandwidth) / roofline.peak : roofline.intensity;
  const atY = ({ roofline }) => (relative ? roofline.macs_per_cycle / roofline.peak : roofline.macs_per_cycle);
  const selected = withRoofline([page.selected].filter(Boolean))[0];
  let roofs = relative ? [{ peak: 1, bandwidth: 1 }] : distinctRoofs(points).slice(0, MOST_ROOFS);
  const own = selected && !relative ? selected.roofline : null;
  const isOwn = (roof) => own && roof.peak === own.peak && roof.bandwidth === own.bandwidth;
  if (own && !roofs.some(isOwn)) roofs = [...roofs, own];
  const xs = points.map(atX),
    span = [...xs, ...roofs.map((roof) => roof.peak / roof.bandwidth)];
  const low = Math.min(...span) / 1.6,
    high = Math.max(...span) * 1.6;
  const traces = points.length ? roofs.flatMap((roof, at) => roofTraces(roof, low, high, at === 0, isOwn(roof))) : [];
  for (const family of Object.keys(page.data.families)) {
    const mine = points.filter((point) => point.family === family);
    if (mine.length)
      traces.push({
        type: "scatter",
        mode: "markers",
        name: plain(family),
        showlegend: false,
        hoverinfo: "none",
        x: mine.map(atX),
        y: mine.map(atY),
        customdata: mine.map((point) => point.index),
        marker: {
          symbol: page.data.families[family].symbol,
          size: 9,
          color: colour(family),
          opacity: 0.85,
          line: { width: 0.6, color: ink("back") },
        },
      });
  }
  if (selected)
    traces.push({
      type: "scatter",
      mode: "markers",
      name: "selected",
      hoverinfo: "skip",
      x: [atX(selected)],
      y: [atY(selected)],
      marker: { symbol: "circle-open", size: 24, color: ink("select"), line: { width: 3, color: ink("select") } },
    });
  const log = (values) => ticks(values.length ? values : [1, 10], true);
  const heights = points.map(atY).concat(roofs.map((roof) => roof.peak));
  byId("roofline-note").textContent = rooflineNote(points, relative); // first: it takes room from the plot
  draw("roofline", traces, {
    xaxis: axis(
      relative ? "Intensity relative to the ridge (1 = ridge)" : "Arithmetic intensity (MAC/byte)",
      log(span),
    ),
    yaxis: axis(relative ? "Throughput relative to the peak (1 = peak)" : "Throughput (MAC/cycle)", log(heights)),
    ...(points.length ? {} : emptyNote(page.shown.length ? "No point shown has a roofline." : emptyReason())),
  });
  listen("roofline", ({ roofline }) => (roofline ? `${roofline.intensity}/${roofline.macs_per_cycle}` : ""));
}

function roofTraces(roof, low, high, first, own) {
  const ridge = roof.peak / roof.bandwidth;
  const colours = own ? ink("select") : ink("text");
  const name =
    roof.count === undefined && roof.peak === 1 && roof.bandwidth === 1
      ? "roof"
      : `roof: ${number(roof.peak)} MAC/cycle, ${number(roof.bandwidth)} byte/cycle`;
  return [
    {
      type: "scatter",
      mode: "lines",
      name,
      legendgroup: name,
      hoverinfo: "skip",
      showlegend: true,
      x: [low, ridge, high],
      y: [low * roof.bandwidth, roof.peak, roof.peak],
      line: { color: colours, width: own ? 2.6 : 1.6, dash: first || own ? "solid" : "dot" },
    },
    {
      type: "scatter",
      mode: "markers",
      name: "ridge",
      legendgroup: name,
      showlegend: false,
      x: [ridge],
      y: [roof.peak],
      hovertemplate: `ridge at ${number(ridge)} MAC/byte<extra></extra>`,
      marker: { symbol: "line-ns", size: 14, line: { color: colours, width: 2 } },
    },
  ];
}

function rooflineNote(points, relative) {
  if (!points.length) return "";
  const above = points.filter(({ roofline }) => roofline.macs_per_cycle > roofAt(roofline) * (1 + 1e-9));
  const byRoof = new Map();
  for (const { roofline } of points) byRoof.set(roofline.roof, (byRoof.get(roofline.roof) ?? 0) + 1);
  const limits = [...byRoof].map(([roof, count]) => `${count.toLocaleString("en-US")} by ${roof}`).join(", ");
  const roofs = distinctRoofs(points).length;
  return [
    above.length
      ? `${plural(above.length, "point")} above the roof, which cannot be: ${above
          .slice(0, 5)
          .map((point) => point.name)
          .join(", ")}.`
      : `No point is above its roof.`,
    `Limited ${limits}.`,
    !relative && roofs > MOST_ROOFS
      ? `Of ${roofs} roofs the ${MOST_ROOFS} most frequent are drawn, and that of the selected point.`
      : null,
    page.shown.length > points.length
      ? `${plural(page.shown.length - points.length, "point")} without a roofline.`
      : null,
  ]
    .filter(Boolean)
    .join(" ");
}
