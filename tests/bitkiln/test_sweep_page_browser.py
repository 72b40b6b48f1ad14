"""The report of a sweep in a real browser: it opens, and its tabs, hover, filters, rows and axes work."""

import copy
import importlib.util
import shutil
import time

import pytest
from sweep_example import example_sweep

from bitkiln.report.sweep import write_report
from bitkiln.report.sweep_data import check_sweep, front_of

MISSING = [name for name in ("selenium", "plotly") if importlib.util.find_spec(name) is None] \
    + [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1500,950"]
POINTS = "#pareto .scatterlayer .points path.point"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    sweep = example_sweep()
    sweep["points"][13]["name"] = '<b>bold</b></script><img src=x onerror="document.title=1"> &'
    return sweep, write_report(sweep, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def page(browser, report):
    """The page freshly opened, and afterwards a log without a single warning or error."""
    open_page(browser, report[1])
    yield browser
    log = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not log, log


def open_page(browser, path, part=""):
    browser.get("about:blank")
    browser.get(path.as_uri() + part)
    wait(browser, "document.body.dataset.ready === 'yes'")


def wait(browser, condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def find(browser, selector):
    return browser.find_element("css selector", selector)


def hover(browser, name, seconds=30.0):
    """Move the pointer to a point, or off the plot for None, like a hand: in several moves, until it has an effect."""
    from selenium.webdriver.common.action_chains import ActionChains
    end = time.monotonic() + seconds
    while True:
        x, y = place(browser, name) if name else (5, 5)
        for nudge in (3, 1, 0):
            chain = ActionChains(browser, duration=20)
            chain.w3c_actions.pointer_action.move_to_location(int(x) + nudge, int(y))
            chain.perform()
        time.sleep(0.1)
        if browser.execute_script("return byId('hover').hidden") == (name is None):
            return
        assert time.monotonic() < end, f"no effect of hovering over {name}"


def place(browser, name):
    """Pixels of a point of the Pareto view, by its name; the axes of plotly.js turn values into pixels."""
    return browser.execute_script("""
        const plot = byId("pareto"), point = page.points.find((each) => each.name === arguments[0]);
        const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
        return [box.left + xaxis._offset + xaxis.d2p(valueOf(point, page.x)),
                box.top + yaxis._offset + yaxis.d2p(valueOf(point, page.y))];""", name)


def test_opens_without_errors_and_loads_nothing(page, report):
    assert page.title == report[0]["title"] == find(page, "h1").text
    assert "60 points" in find(page, "#subtitle").text
    drawn = page.execute_script("return byId('pareto').data.filter((t) => t.meta !== 'selection' && t.error_x)"
                                ".map((t) => t.x.length)")
    assert sum(drawn) == 60
    loaded = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [name for name in loaded if not name.startswith("data:")]
    context = "byId('pareto')._context"
    assert page.execute_script(f"return [{context}.showSendToCloud, {context}.plotlyServerURL]") == [False, ""]
    assert page.execute_script("return byId('pareto').querySelectorAll('.modebar-btn').length") > 3


def test_policy_forbids_requests_and_foreign_scripts(browser, report):
    open_page(browser, report[1])
    browser.execute_script("""
        const script = document.createElement("script");
        script.textContent = "window.foreign = true";
        document.body.append(script);
        fetch(location.href).then(() => { window.fetched = "yes"; }, () => { window.fetched = "no"; });""")
    wait(browser, "window.fetched")
    assert browser.execute_script("return [window.foreign ?? null, window.fetched]") == [None, "no"]
    assert [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]


def test_hover_shows_configuration_numbers_and_command(page, report):
    clean = check_sweep(report[0])
    point = next(p for p in front_of(clean, "area", "accuracy_digits") if p["measured"])
    hover(page, point["name"])
    card = find(page, "#hover").text
    assert point["name"] in card and point["command"] in card.replace("\n", " ")
    for key, value in point["config"].items():
        assert f"{key}\n{value}" in card
    metric = point["metrics"]["accuracy_digits"]
    assert f"{metric['value']:g} %" in card and f"{metric['low']:g} to {metric['high']:g}" in card
    for text in ("cells", "measured", "model", "exact", "proxy", "error"):
        assert text in card
    hover(page, None)


def test_family_and_text_filter(page, report):
    sweep = report[0]
    before = len(page.find_elements("css selector", POINTS))
    find(page, "input[data-family=posit]").click()
    left = page.execute_script("return page.shown.map((point) => point.family)")
    assert "posit" not in left and len(left) == sum(p["family"] != "posit" for p in sweep["points"])
    assert f"{len(left)} of 60 points shown" in find(page, "#count").text
    assert len(page.find_elements("css selector", POINTS)) < before
    assert not page.execute_script("return byId('pareto').data.some((trace) => trace.name === 'posit')")
    find(page, "#search").send_keys("LANES=4 int8")
    expected = [p["id"] for p in sweep["points"] if p["family"] != "posit" and p["config"]["lanes"] == 4
                and "int8" in p["config"]["pe"]]
    assert page.execute_script("return page.shown.map((point) => point.id)") == expected and len(expected) > 1
    find(page, "#search").send_keys(" nothing-like-it")
    assert "The filter hides every point." in find(page, "#pareto").text
    find(page, "#clear").click()
    assert find(page, "#count").text == "60 points" and find(page, "input[data-family=posit]").is_selected()


def test_row_and_point_are_linked(page, report):
    find(page, "#tab-table").click()
    row = find(page, "#table tbody tr[data-id]:nth-of-type(4)")
    identity = row.get_attribute("data-id")
    row.click()
    assert "selected" in find(page, f"#table tr[data-id='{identity}']").get_attribute("class")
    point = next(p for p in report[0]["points"] if p["id"] == identity)
    details = find(page, "#details").text
    assert point["name"] in details and point["metrics"]["area"]["source"] in details
    find(page, "#tab-pareto").click()
    ring = "byId('pareto').data.find((trace) => trace.meta === 'selection')"
    assert page.execute_script(f"return [{ring}.x[0], {ring}.y[0]]") == [
        point["metrics"]["area"]["value"], point["metrics"]["accuracy_digits"]["value"]]
    other = front_of(check_sweep(report[0]), "area", "accuracy_digits")[0]
    hover(page, other["name"])
    from selenium.webdriver.common.action_chains import ActionChains
    ActionChains(page).click().perform()
    wait(page, f"page.selected?.id === '{other['id']}'")
    find(page, "#tab-table").click()
    assert find(page, "#table tr.selected").get_attribute("data-id") == other["id"]


def test_table_sorts_both_ways_with_missing_values_last(page, report):
    find(page, "#tab-table").click()
    order = {}
    for direction in ("ascending", "descending"):
        page.execute_script("document.querySelector('#table th[data-key=energy] button').click()")
        assert find(page, "#table th[data-key=energy]").get_attribute("aria-sort") == direction
        order[direction] = page.execute_script("return table.rows.map((point) => valueOf(point, 'energy'))")
    values = sorted(p["metrics"]["energy"]["value"] for p in report[0]["points"] if p["metrics"]["energy"]["value"])
    missing = [None] * (60 - len(values))
    assert order == {"ascending": values + missing, "descending": values[::-1] + missing} and missing


def test_axes_logarithms_and_fronts(page, report):
    from selenium.webdriver.support.select import Select
    clean = check_sweep(report[0])
    for point in clean["points"]:
        point["fronts"] = []
    Select(find(page, "#axis-x")).select_by_value("energy")
    Select(find(page, "#axis-y")).select_by_value("nmse")
    layout = "byId('pareto')._fullLayout"
    assert page.execute_script(f"return {layout}.yaxis.type") == "log"      # the errors span decades
    assert page.execute_script(f"return [{layout}.xaxis.title.text, {layout}.xaxis.type]") == [
        "Energy (pJ), lower is better", "linear"]
    assert "10 points not drawn" in find(page, "#pareto-note").text
    find(page, "#log-x").click()
    assert page.execute_script(f"return {layout}.xaxis.type") == "log"
    for x, y in (("energy", "nmse"), ("accuracy_digits", "energy"), ("nmse", "area")):
        ids = page.execute_script("return frontOf(page.points, arguments[0], arguments[1]).map((p) => p.id)", x, y)
        assert ids == [p["id"] for p in front_of(clean, x, y)], (x, y)      # two programs, one definition
    find(page, "button[data-pair='area/cycles']").click()
    assert page.execute_script("return [page.x, page.y]") == ["area", "cycles"]
    line = page.execute_script("return byId('pareto').data.find((t) => t.name.startsWith('front')).line.shape")
    assert line == "hv"
    Select(find(page, "#axis-x")).select_by_value("accuracy_digits")
    assert page.execute_script("return byId('pareto').data.find((t) => t.name.startsWith('front')).line.shape") == "vh"


def test_every_tab_draws(page, report):
    point = next(p for p in report[0]["points"] if any(layer["bound"] == "DRAM" for layer in p["layers"]))
    page.execute_script("select(page.points.find((each) => each.id === arguments[0]))", point["id"])
    shown = {"pareto": "#pareto svg", "table": "#table tbody tr[data-id]", "roofline": "#roofline .points path",
             "layers": "#layers-cycles .bars path", "area": "#area .bars path", "about": "#view-about pre"}
    for tab, selector in shown.items():
        find(page, f"#tab-{tab}").click()
        assert find(page, f"#tab-{tab}").get_attribute("aria-selected") == "true"
        visible = [each.get_attribute("id") for each in page.find_elements("css selector", "#views > section")
                   if each.is_displayed()]
        assert visible == [f"view-{tab}"] and page.find_elements("css selector", selector)
        if tab == "roofline":
            assert "No point is above its roof." in find(page, "#roofline-note").text
        if tab == "layers":
            cycles = page.execute_script("return byId('layers-cycles').data.map((t) => t.x.reduce((a, b) => a + b, 0))")
            assert sum(cycles) == sum(layer["cycles"] for layer in point["layers"])
            text = find(page, "#layers-cycles").text
            assert "stall: DRAM" in text and "DRAM-bound" in text
        if tab == "about":
            text = find(page, "#view-about").text
            for fact in (report[0]["digest"], report[0]["provenance"]["command"], "ecp5 area model of 150 PEs", "0.70",
                         "Predicted against measured"):
                assert fact in text
    assert point["name"] in find(page, "#details").text


def test_hostile_names_are_shown_as_text(page, report):
    name = report[0]["points"][13]["name"]
    page.execute_script("select(page.points[13])")
    for tab in ("pareto", "table", "roofline", "layers", "area", "about"):
        find(page, f"#tab-{tab}").click()
        assert name in find(page, "#details").text
        assert not page.find_elements("css selector", "#views img, #details img, #views b:not([class])")
        if tab == "area":
            assert "<b>bold</b></script>" in find(page, "#area").text
    assert page.title == report[0]["title"]


def test_a_link_opens_tab_and_point(browser, report):
    point = report[0]["points"][20]
    open_page(browser, report[1], f"#tab=table&point={point['id']}")
    assert find(browser, "#table tr.selected").get_attribute("data-id") == point["id"]


def test_dark_page_has_other_colours(page):
    light = page.execute_script("return [ink('back'), byId('pareto').data[0].marker.color]")
    dark_media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark_media)
    try:
        wait(page, f"byId('pareto').data[0].marker.color !== '{light[1]}'")
        assert page.execute_script("return ink('back')") != light[0]
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.mark.parametrize("count", [0, 1])
def test_few_points(browser, tmp_path, count):
    open_page(browser, write_report(example_sweep(count), tmp_path / "few.html"))
    for tab in ("table", "roofline", "layers", "area", "about", "pareto"):
        find(browser, f"#tab-{tab}").click()
    assert ("This sweep has no points." in find(browser, "#pareto").text) == (count == 0)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_point_above_its_roof_is_named(browser, tmp_path, report):
    wrong = copy.deepcopy(report[0])
    wrong["points"][2]["roofline"]["macs_per_cycle"] *= 40
    open_page(browser, write_report(wrong, tmp_path / "wrong.html"), "#tab=roofline")
    note = find(browser, "#roofline-note").text
    assert f"1 point above the roof, which cannot be: {wrong['points'][2]['name']}." in note


@pytest.mark.slow
def test_many_points_open_in_seconds(browser, tmp_path):
    path = write_report(example_sweep(5000), tmp_path / "many.html")
    start = time.monotonic()
    open_page(browser, path)
    assert time.monotonic() - start < 30        # about 4 s on an idle machine; a busy one takes longer
    drawn = browser.execute_script("return byId('pareto').data.map((t) => (t.error_x ? t.x.length : 0))")
    assert sum(drawn) == 5000
    find(browser, "#tab-table").click()
    assert len(browser.find_elements("css selector", "#table tbody tr")) < 120      # only the rows in sight exist
    browser.execute_script("byId('table-frame').scrollTop = 100 * ROW")
    wait(browser, "document.querySelector('#table tbody tr[data-id]').dataset.id === table.rows[table.first].id"
                  " && table.first > 50")
    identity = browser.execute_script("select(page.points[4321]); return page.selected.id")
    assert find(browser, "#table tr.selected").get_attribute("data-id") == identity
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
