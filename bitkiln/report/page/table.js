// The table of the points shown. Only the rows in sight exist, so thousands of points scroll smoothly.

const ROW = 32,
  SPARE_ROWS = 12;
const table = { columns: [], rows: [], sort: null, down: false, first: -1 };

function setupTable() {
  const { metrics } = page.sweep;
  table.columns = [
    { key: "name", title: "Name", text: (point) => point.name, cell: (point) => [swatch(point.family), point.name] },
    { key: "engine", title: "Engine", text: (point) => point.engine },
  ];
  for (const metric of metrics) {
    const unit = unitOf(metric),
      { name } = metric;
    const letters = (text) => page.points.reduce((most, point) => Math.max(most, text(point).length), 0);
    const rooms = [
      letters((point) => number(valueOf(point, name))),
      0.9 * letters((point) => interval(point, name)),
      letters((point) => entryOf(point, name).kind || ""),
    ];
    const [valueRoom, intervalRoom, kindRoom] = rooms.map((room) => `width:${room}ch`);
    table.columns.push({
      key: name,
      title: metric.title,
      unit,
      number: (point) => valueOf(point, name),
      hint: (point) => entryOf(point, name).source,
      text: (point) => number(valueOf(point, name)),
      size: 6 + rooms.reduce((sum, room) => sum + room, 0),
      cell: (point) => [
        el("span", { class: "value", style: valueRoom }, number(valueOf(point, name))),
        el("span", { class: "interval", style: intervalRoom }, interval(point, name)),
        el("span", { class: "kind-room", style: kindRoom }, kindMark(entryOf(point, name).kind)),
      ],
    });
    if (page.points.some((point) => errorOf(point, name) !== null))
      table.columns.push({
        key: `${name}/error`,
        title: "error",
        unit: "of measured",
        number: (point) => errorOf(point, name),
        text: (point) => percent(errorOf(point, name)),
        hint: (point) =>
          point.measured[name]
            ? `measured ${withUnit(measuredOf(point, name), metric)}: ${point.measured[name].source ?? ""}`
            : null,
      });
  }
  table.columns.push(
    {
      key: "fronts",
      title: "Fronts",
      number: (point) => point.fronts.length || null,
      text: (point) => (point.fronts.length ? `${point.fronts.length} of ${page.data.pairs.length}` : ""),
      hint: (point) => point.fronts.join(", "),
    },
    { key: "config", title: "Configuration", text: configText, hint: configText },
  );
  const head = byId("table").tHead,
    columns = byId("table").querySelector("colgroup");
  head.replaceChildren(
    el(
      "tr",
      {},
      ...table.columns.map((column) =>
        el(
          "th",
          {
            scope: "col",
            class: column.number && !column.size ? "numeric" : null,
            "data-key": column.key,
          },
          el(
            "button",
            { onclick: () => sortBy(column) },
            el("span", {}, column.title, el("span", { class: "arrow" })),
            column.unit ? el("span", { class: "unit" }, column.unit) : null,
          ),
        ),
      ),
    ),
  );
  columns.replaceChildren(...table.columns.map((column) => el("col", { style: `width:${width(column)}ch` })));
  const frame = byId("table-frame");
  frame.addEventListener("scroll", () => {
    if (windowStart() !== table.first) fillTable();
  });
  frame.addEventListener("keydown", stepSelection);
}

function width(column) {
  if (column.size) return Math.max(column.size, column.title.length + 3);
  let most = Math.max(column.title.length, (column.unit || "").length) + 3;
  for (const point of page.points) most = Math.max(most, column.text(point).length + (column.key === "name" ? 5 : 3));
  return Math.min(most, column.key === "config" ? 60 : 36);
}

function sortBy(column) {
  if (table.sort === column) table.down = !table.down;
  else [table.sort, table.down] = [column, Boolean(page.metrics.get(column.key)?.higher_is_better)];
  drawTable();
}

// Points without a value come last in both directions.
function sorted(points) {
  if (!table.sort) return [...points];
  const { number: value, text } = table.sort,
    sign = table.down ? -1 : 1;
  const order = value
    ? (a, b) => {
        const [left, right] = [value(a), value(b)];
        if (left === null || right === null) return (left === null) - (right === null);
        return sign * (left - right);
      }
    : (a, b) => sign * text(a).localeCompare(text(b), "en", { numeric: true });
  return [...points].sort((a, b) => order(a, b) || a.index - b.index);
}

function drawTable() {
  table.rows = sorted(page.shown);
  for (const head of byId("table").tHead.rows[0].cells) {
    const mine = table.sort?.key === head.dataset.key;
    head.setAttribute("aria-sort", mine ? (table.down ? "descending" : "ascending") : "none");
    head.querySelector(".arrow").textContent = mine ? (table.down ? " ▼" : " ▲") : "";
  }
  fillTable();
}

const windowStart = () =>
  Math.max(0, Math.floor(byId("table-frame").scrollTop / ROW / SPARE_ROWS) * SPARE_ROWS - SPARE_ROWS);

function fillTable() {
  const frame = byId("table-frame"),
    body = byId("table").tBodies[0],
    { rows, columns } = table;
  table.first = windowStart();
  const last = Math.min(rows.length, table.first + Math.ceil(frame.clientHeight / ROW) + 3 * SPARE_ROWS);
  const gap = (count) =>
    el(
      "tr",
      { class: "gap", "aria-hidden": "true" },
      el("td", { colspan: columns.length, style: `height:${count * ROW}px` }),
    );
  const inSight = rows.slice(table.first, last).map((point) =>
    el(
      "tr",
      {
        "data-id": point.id,
        class: point === page.selected ? "selected" : null,
        "aria-selected": point === page.selected ? "true" : "false",
        onclick: () => select(point),
      },
      ...columns.map((column) =>
        el(
          "td",
          { class: column.number && !column.size ? "numeric" : null, title: column.hint?.(point) || null },
          ...(column.cell ? column.cell(point) : [column.text(point)]),
        ),
      ),
    ),
  );
  if (!rows.length)
    inSight.push(el("tr", { class: "gap" }, el("td", { colspan: columns.length, class: "none" }, emptyReason())));
  body.replaceChildren(gap(table.first), ...inSight, gap(rows.length - last));
}

function showSelectedRow() {
  const frame = byId("table-frame"),
    at = table.rows.indexOf(page.selected);
  if (at >= 0) {
    const top = at * ROW,
      head = byId("table").tHead.offsetHeight;
    if (top < frame.scrollTop) frame.scrollTop = top;
    else if (top + ROW + head > frame.scrollTop + frame.clientHeight)
      frame.scrollTop = top + ROW + head - frame.clientHeight + 2;
  }
  fillTable();
}

function stepSelection(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !table.rows.length) return;
  event.preventDefault();
  const at = table.rows.indexOf(page.selected);
  select(table.rows[at < 0 ? 0 : Math.min(table.rows.length - 1, Math.max(0, at + step))]);
}
