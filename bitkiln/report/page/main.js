// Reading the data, tabs, filters, and the start.

const views = {
  pareto: { draw: drawPareto, selected: moveSelection },
  table: { draw: drawTable, selected: showSelectedRow },
  roofline: { draw: drawRoofline, selected: drawRoofline },
  layers: { draw: drawLayers, selected: drawLayers },
  area: { draw: drawArea, selected: drawArea },
  about: { draw: drawAbout },
};

function redraw() {
  hideCard();
  drawDetails();
  views[page.tab].draw();
}

function openTab(name) {
  page.tab = name;
  for (const each of Object.keys(views)) {
    const mine = each === name,
      tab = byId(`tab-${each}`);
    byId(`view-${each}`).hidden = !mine;
    tab.setAttribute("aria-selected", mine);
    tab.tabIndex = mine ? 0 : -1;
  }
  redraw();
  for (const plot of byId(`view-${name}`).querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(plot);
  if (name === "table") showSelectedRow();
  remember();
}

function setupTabs() {
  const names = Object.keys(views);
  names.forEach((name, at) => {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => openTab(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: names.length - 1 }[event.key];
      if (!step) return;
      const next = names[(at + step) % names.length];
      openTab(next);
      byId(`tab-${next}`).focus();
    });
  });
}

function setupFilters() {
  drawFamilies();
  byId("search").addEventListener("input", (event) => {
    page.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    applyFilter();
  });
  byId("clear").addEventListener("click", () => {
    page.hidden.clear();
    page.words = [];
    byId("search").value = "";
    drawFamilies();
    applyFilter();
  });
}

function drawFamilies() {
  byId("families").replaceChildren(
    ...Object.keys(page.data.families).map((family) => {
      const count = page.points.filter((point) => point.family === family).length;
      const box = el("input", {
        type: "checkbox",
        "data-family": family,
        onchange: () => {
          if (box.checked) page.hidden.delete(family);
          else page.hidden.add(family);
          applyFilter();
        },
      });
      box.checked = !page.hidden.has(family);
      return el(
        "label",
        { class: "family" },
        box,
        swatch(family),
        `${family} `,
        el("span", { class: "sub" }, count.toLocaleString("en-US")),
      );
    }),
  );
}

async function readData() {
  const packed = atob(byId("sweep-data").textContent);
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function prepare(data) {
  page.data = data;
  page.sweep = data.sweep;
  page.metrics = new Map(data.sweep.metrics.map((metric) => [metric.name, metric]));
  page.points = data.sweep.points;
  page.points.forEach((point, index) => {
    point.index = index;
    point.searchText = [point.id, point.name, point.family, point.engine, configText(point), point.command]
      .join(" ")
      .toLowerCase();
  });
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    byId("subtitle").textContent =
      "This page needs a browser of 2023 or later; the CSV beside it has the same numbers.";
    return;
  }
  prepare(await readData());
  const { sweep } = page;
  byId("subtitle").textContent = [
    sweep.name,
    plural(page.points.length, "point"),
    sweep.digest ? `digest ${short(sweep.digest, 17)}` : null,
  ]
    .filter(Boolean)
    .join(" · ");
  setupTabs();
  setupFilters();
  setupPareto();
  setupTable();
  setupRoofline();
  setupLayers();
  setupArea();
  const wanted = new URLSearchParams(location.hash.slice(1));
  page.selected = page.points.find((point) => point.id === wanted.get("point")) ?? null;
  page.tab = Object.hasOwn(views, wanted.get("tab") ?? "") ? wanted.get("tab") : "pareto";
  filterPoints();
  openTab(page.tab);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    drawFamilies();
    redraw();
  });
  requestAnimationFrame(() => requestAnimationFrame(() => (document.body.dataset.ready = "yes")));   // drawn
}

start();
