// Where every number comes from: kinds, sources, errors, tools, the space that was searched.

function drawAbout() {
  const { sweep } = page,
    provenance = sweep.provenance || {};
  const facts = [
    ["Sweep", sweep.name],
    ["Digest", sweep.digest],
    ["Points", page.points.length.toLocaleString("en-US")],
    ["Seed", provenance.seed],
    ["Command", provenance.command],
  ];
  byId("view-about").replaceChildren(
    el("h2", {}, "What was run"),
    definitions(facts),
    ...(Object.keys(provenance.tools || {}).length
      ? [el("h3", {}, "Tools"), definitions(Object.entries(provenance.tools))]
      : []),
    el("h2", {}, "How each number was made"),
    kindLegend(),
    metricTable(),
    el("h3", {}, "Sources"),
    sourceTable(),
    ...predictionPart(),
    el("h2", {}, "How to read the views"),
    ...howToRead(),
    el("h2", {}, "The space"),
    el("pre", { class: "space" }, JSON.stringify(sweep.space, null, 2)),
  );
}

function definitions(entries) {
  return el(
    "dl",
    { class: "facts" },
    ...entries
      .filter(([, value]) => value !== undefined && value !== null && value !== "")
      .flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, show(value))]),
  );
}

const kindLegend = () =>
  el(
    "dl",
    { class: "facts kinds" },
    ...Object.entries(page.data.kinds).flatMap(([kind, meaning]) => [
      el("dt", {}, kindMark(kind)),
      el("dd", {}, meaning),
    ]),
  );

const cells = (tag, values) =>
  values.map((value, at) =>
    el(
      tag,
      { class: isNumber(value) || (tag === "th" && at > 2) ? "numeric" : null },
      isNumber(value) ? value.toLocaleString("en-US") : value,
    ),
  );

function metricTable() {
  const kinds = Object.keys(page.data.kinds);
  const rows = page.sweep.metrics.map((metric) => {
    const count = (test) => page.points.filter(test).length;
    return [
      metric.title,
      unitOf(metric) || "–",
      metric.higher_is_better ? "higher" : "lower",
      ...kinds.map((kind) =>
        count((point) => valueOf(point, metric.name) !== null && entryOf(point, metric.name).kind === kind),
      ),
      count((point) => valueOf(point, metric.name) === null),
      count((point) => measuredOf(point, metric.name) !== null),
    ];
  });
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "plain" },
      el(
        "thead",
        {},
        el("tr", {}, ...cells("th", ["Metric", "Unit", "Better", ...kinds, "no value", "also measured"])),
      ),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells("td", row)))),
    ),
  );
}

function sourceTable() {
  const counts = new Map();
  const add = (...key) => counts.set(JSON.stringify(key), (counts.get(JSON.stringify(key)) ?? 0) + 1);
  for (const point of page.points)
    for (const metric of page.sweep.metrics) {
      const entry = entryOf(point, metric.name),
        seen = point.measured[metric.name];
      if (valueOf(point, metric.name) !== null)
        add(metric.title, entry.kind ?? "", entry.source ?? "no source given");
      if (seen && isNumber(seen.value)) add(metric.title, "measured", seen.source ?? "no source given");
    }
  const order = page.sweep.metrics.map((metric) => metric.title);
  const all = [...counts]
    .map(([key, count]) => [...JSON.parse(key), count])
    .sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]) || b[3] - a[3]);
  const rows = all.slice(0, 100);
  if (!rows.length) return el("p", { class: "note" }, "There are no numbers in this sweep.");
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      { class: "plain" },
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          el("th", {}, "Metric"),
          el("th", {}, "Kind"),
          el("th", {}, "Source"),
          el("th", { class: "numeric" }, "Points"),
        ),
      ),
      el(
        "tbody",
        {},
        ...rows.map(([title, kind, source, count]) =>
          el(
            "tr",
            {},
            el("td", {}, title),
            el("td", {}, kindMark(kind)),
            el("td", { class: "wrap" }, source),
            el("td", { class: "numeric" }, count.toLocaleString("en-US")),
          ),
        ),
      ),
    ),
    all.length > rows.length
      ? el("p", { class: "note" }, `${plural(all.length - rows.length, "more source")} in the CSV.`)
      : null,
  );
}

function predictionPart() {
  const rows = page.sweep.metrics
    .map((metric) => {
      const points = page.points.filter((point) => errorOf(point, metric.name) !== null);
      if (!points.length) return null;
      const errors = points.map((point) => errorOf(point, metric.name));
      const inside = points.filter((point) => {
        const { low, high } = entryOf(point, metric.name),
          seen = measuredOf(point, metric.name);
        return isNumber(low) && isNumber(high) && low <= seen && seen <= high;
      });
      const ranged = points.filter((point) => interval(point, metric.name));
      const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
      const size = errors.reduce((sum, error) => sum + Math.abs(error), 0) / errors.length;
      const worst = errors.reduce((most, error) => (Math.abs(error) > Math.abs(most) ? error : most), 0);
      return [
        metric.title,
        points.length,
        percent(mean),
        `${size.toFixed(1)} %`,
        percent(worst),
        ranged.length ? `${ranged.filter((point) => inside.includes(point)).length} of ${ranged.length}` : "–",
      ];
    })
    .filter(Boolean);
  if (!rows.length) return [];
  return [
    el("h3", {}, "Predicted against measured"),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "plain" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ...["Metric", "Points", "Mean error", "Mean of sizes", "Worst", "Measured inside the interval"].map(
              (title, at) => el("th", { class: at ? "numeric" : null }, title),
            ),
          ),
        ),
        el(
          "tbody",
          {},
          ...rows.map((row) =>
            el("tr", {}, ...row.map((value, at) => el("td", { class: at ? "numeric" : null }, show(value)))),
          ),
        ),
      ),
    ),
    el("p", { class: "note" }, "Error = (predicted − measured) / measured."),
  ];
}

function howToRead() {
  return [
    "Pareto: a point is on the front when no other point is better in one of the two metrics and at least as good in " +
      "the other. For the pairs that the sweep lists, the front is the sweep's own; for any other pair, or for the " +
      "points shown only, the page works it out. The staircase joins the points of the front; bars are the intervals " +
      "from low to high; crosses are measurements, joined to their prediction.",
    "Roofline: throughput cannot exceed the lower of the peak and intensity × bandwidth; bytes are counted in packed " +
      "bits. 1 MAC is one multiplication and one addition.",
    "Layers: cycles of a layer are computing, stalls by cause, and what is left over, such as filling and draining.",
    "Area parts: the parts of the model beside the predicted whole.",
  ].map((text) => el("p", { class: "wrap" }, text));
}
