// The card under the pointer and the panel of the selected point: the same facts, the panel with sources.

function metricRows(point, withSources) {
  const rows = [];
  for (const metric of page.sweep.metrics) {
    const entry = entryOf(point, metric.name);
    rows.push(
      el(
        "tr",
        {},
        el("th", { scope: "row" }, metric.title),
        el("td", { class: "value" }, withUnit(valueOf(point, metric.name), metric)),
        el("td", { class: "interval" }, interval(point, metric.name)),
        el("td", {}, kindMark(entry.kind)),
      ),
    );
    const seen = measuredOf(point, metric.name);
    if (seen !== null) {
      const error = errorOf(point, metric.name);
      rows.push(
        el(
          "tr",
          { class: "measured" },
          el("th", { scope: "row" }, "measured"),
          el("td", { class: "value" }, withUnit(seen, metric)),
          el("td", { class: "interval" }, error === null ? "" : `error ${percent(error)}`),
          el("td", {}, kindMark("measured")),
        ),
      );
    }
    if (!withSources) continue;
    for (const source of [entry.source, seen === null ? null : point.measured[metric.name].source]) {
      if (source) rows.push(el("tr", { class: "source" }, el("td", { colspan: 4 }, source)));
    }
  }
  return el("table", { class: "metrics" }, el("tbody", {}, ...rows));
}

function kindMark(kind) {
  return kind ? el("span", { class: `kind kind-${kind}`, title: page.data.kinds[kind] || null }, kind) : "";
}

function configList(point) {
  const entries = Object.entries(point.config);
  if (!entries.length) return null;
  return el(
    "dl",
    { class: "config" },
    ...entries.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, show(value))]),
  );
}

function pointHead(point) {
  return el(
    "div",
    { class: "point-head" },
    swatch(point.family),
    el(
      "div",
      {},
      el("strong", {}, point.name),
      el("div", { class: "sub" }, [point.family, point.engine, point.id].filter(Boolean).join(" · ")),
    ),
  );
}

function frontsText(point) {
  const titles = point.fronts.map((pair) =>
    pair
      .split("/")
      .map((name) => page.metrics.get(name)?.title ?? name)
      .join(" / "),
  );
  return titles.length ? el("p", { class: "fronts" }, `On the front of ${titles.join("; ")}`) : null;
}

function showCard(point, event, others) {
  const card = byId("hover");
  card.replaceChildren(
    ...[
      pointHead(point),
      configList(point),
      metricRows(point, false),
      point.command ? el("code", { class: "command" }, point.command) : null,
      others > 0
        ? el(
            "p",
            { class: "note" },
            `${plural(others, "other point")} at the same place; ` + "clicks go through them.",
          )
        : null,
    ].filter(Boolean),
  );
  card.hidden = false;
  const gap = 16,
    box = card.getBoundingClientRect();
  const left = event.clientX + gap + box.width < innerWidth ? event.clientX + gap : event.clientX - gap - box.width;
  const top = Math.min(event.clientY + gap, innerHeight - box.height - 8);
  card.style.left = `${Math.max(8, left)}px`;
  card.style.top = `${Math.max(8, top)}px`;
}

function hideCard() {
  byId("hover").hidden = true;
}

function drawDetails() {
  const point = page.selected,
    panel = byId("details");
  if (!point) {
    panel.replaceChildren(
      el("h2", {}, "Selected point"),
      el(
        "p",
        { class: "hint" },
        page.points.length
          ? "Click a point or a row: its configuration, numbers, sources and command stay here."
          : "This sweep has no points.",
      ),
    );
    return;
  }
  const parts = [
    el(
      "div",
      { class: "panel-title" },
      el("h2", {}, "Selected point"),
      el("button", { class: "quiet", title: "Clear the selection", onclick: () => select(null) }, "clear"),
    ),
    pointHead(point),
    configList(point),
    metricRows(point, true),
    frontsText(point),
  ];
  if (point.command) {
    const copy = el("button", { class: "quiet", onclick: () => copyText(point.command, copy) }, "copy");
    parts.push(
      el("div", { class: "panel-title" }, el("h3", {}, "Command that reproduces it"), copy),
      el("code", { class: "command" }, point.command),
    );
  }
  if (!page.shown.includes(point)) parts.push(el("p", { class: "hint" }, "The filter hides this point."));
  panel.replaceChildren(...parts.filter(Boolean));
}

async function copyText(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(document.querySelector("#details .command")); // the user's own Ctrl+C
    button.textContent = "press Ctrl+C";
  }
  setTimeout(() => {
    button.textContent = "copy";
  }, 1500);
}
