"""The report of a sweep without a browser: table, page text, pictures, and what they refuse."""

import copy
import csv
import importlib.util
import math
import re

import numpy as np
import pytest
from sweep_example import example_sweep

from bitkiln.models.errors import BitkilnError
from bitkiln.report.label_places import place_labels
from bitkiln.report.sweep import write_csv, write_report, write_static
from bitkiln.report.sweep_data import FAMILIES, SPARE, check_sweep, family_styles, front_of, is_log, value_of
from bitkiln.report.sweep_page import page_data, render_page

needs_plotly = pytest.mark.skipif(importlib.util.find_spec("plotly") is None, reason="plotly is not installed")
needs_matplotlib = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None,
                                      reason="matplotlib is not installed")

HOSTILE = '</script><script>alert(1)</script> <b>&amp; "quoted" \'x\' <!-- \u2028 $x^2$ {{data}} \\1'


@pytest.fixture(scope="module")
def sweep():
    return example_sweep()


def dominated(sweep, point, x, y):
    """Straight from the definition: somebody is at least as good in both and better in one."""
    sign = {metric["name"]: -1 if metric["higher_is_better"] else 1 for metric in sweep["metrics"]}
    cost = {p["id"]: (sign[x] * value_of(p, x), sign[y] * value_of(p, y)) for p in sweep["points"]
            if value_of(p, x) is not None and value_of(p, y) is not None}
    mine = cost[point["id"]]
    return any(a <= mine[0] and b <= mine[1] and (a, b) != mine for a, b in cost.values())


@pytest.mark.parametrize("x, y", [("area", "accuracy_digits"), ("accuracy_digits", "area"), ("energy", "cycles"),
                                  ("nmse", "accuracy_digits"), ("cycles", "cycles")])
def test_front_is_exactly_the_points_that_are_not_dominated(sweep, x, y):
    clean = check_sweep(sweep)
    for point in clean["points"]:
        point["fronts"] = []            # so that it is worked out here
    front = front_of(clean, x, y)
    both = [p for p in clean["points"] if value_of(p, x) is not None and value_of(p, y) is not None]
    assert {p["id"] for p in front} == {p["id"] for p in both if not dominated(clean, p, x, y)}
    assert [value_of(p, x) for p in front] == sorted(value_of(p, x) for p in front)
    assert 0 < len(front) < len(both)


def test_listed_front_is_used(sweep):
    clean = check_sweep(sweep)
    for point in clean["points"]:
        point["fronts"] = []
    for point in clean["points"][3:5]:
        point["fronts"] = ["area/accuracy_digits"]
    assert {p["id"] for p in front_of(clean, "area", "accuracy_digits")} == {p["id"] for p in clean["points"][3:5]}


def test_log_axes(sweep):
    """A metric starts on a logarithmic axis where its values span a decade, and never with a zero among them."""
    clean = check_sweep(sweep)
    assert is_log(clean, "area") and not is_log(clean, "accuracy_digits")
    clean["points"][0]["metrics"]["area"]["value"] = 0
    assert not is_log(clean, "area")


def test_families_have_a_colour_and_a_shape_each(sweep):
    styles = [*FAMILIES.values(), *SPARE]
    for column in range(4):
        assert len({style[column] for style in styles}) == len(styles)
    named = copy.deepcopy(sweep)
    named["points"][0]["family"] = "logarithmic"
    assert list(family_styles(check_sweep(named)))[-1] == "logarithmic"


def test_input_is_not_changed_and_infinities_become_null(sweep):
    odd = copy.deepcopy(sweep)
    odd["points"][0]["roofline"]["intensity"] = math.inf
    odd["points"][1]["metrics"]["area"]["value"] = math.nan
    before = repr(odd)
    clean = check_sweep(odd)
    assert repr(odd) == before
    assert clean["points"][0]["roofline"]["intensity"] is None and value_of(clean["points"][1], "area") is None


def _edit(path, value):
    def change(sweep):
        *inner, last = path
        for key in inner:
            sweep = sweep[key]
        if value is KeyError:
            del sweep[last]
        else:
            sweep[last] = value
    return change


@pytest.mark.parametrize("change, message", [
    (_edit(["schema"], "bitkiln.sweep/9"), "not a sweep at schema: got 'bitkiln.sweep/9'"),
    (_edit(["metrics"], KeyError), "a key is missing at metrics"),
    (_edit(["metrics"], []), "no metrics at metrics"),
    (_edit(["axes", 1, "x"], "aera"), r"unknown metric at axes\[1\].x: got 'aera'.*\n.*did you mean area"),
    (_edit(["points", 2, "id"], KeyError), r"a key is missing at points\[2\].id"),
    (_edit(["points", 2, "metrics", "energi"], {"value": 1}), r"unknown metric at points\[2\].metrics: got 'energi'"),
    (_edit(["points", 2, "measured", "area"], {"source": "x"}), r"a key is missing at points\[2\].measured.area.value"),
    (_edit(["points", 2, "metrics", "area"], 3.0), r"wrong kind of value at points\[2\].metrics.area: got 'float'"),
    (_edit(["metrics", 1, "name"], "cycles"), r"used twice at metrics\[2\].name: got 'cycles'"),
])
def test_what_breaks_the_schema_is_refused(sweep, change, message):
    broken = copy.deepcopy(sweep)
    change(broken)
    with pytest.raises(BitkilnError, match=message):
        check_sweep(broken)


def test_repeated_id_is_refused(sweep):
    broken = copy.deepcopy(sweep)
    broken["points"][7]["id"] = broken["points"][3]["id"]
    with pytest.raises(BitkilnError, match=r"used twice at points\[7\].id"):
        check_sweep(broken)


def test_csv_round_trip(sweep, own_folder):
    path = write_csv(sweep, own_folder / "out" / "points.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(sweep["points"])
    for row, point in zip(rows, sweep["points"], strict=True):
        assert (row["id"], row["name"], row["command"]) == (point["id"], point["name"], point["command"])
        assert row["config_pe"] == point["config"]["pe"] and int(row["config_lanes"]) == point["config"]["lanes"]
        for column, metric, key in [("area_cells", "area", "value"), ("area_low_cells", "area", "low"),
                                    ("accuracy_digits_percent", "accuracy_digits", "value"), ("nmse", "nmse", "value"),
                                    ("energy_high_pJ", "energy", "high")]:
            expected = point["metrics"][metric][key]
            assert row[column] == "" if expected is None else float(row[column]) == expected
        assert row["area_kind"] == "model" and row["fronts"].split(";") == (point["fronts"] or [""])
        assert float(row["area_part_multiply_cells"]) == point["area_parts"]["multiply"]
        assert float(row["roofline_peak_macs_per_cycle"]) == point["roofline"]["peak"]
        if point["measured"]:
            predicted, measured = point["metrics"]["area"]["value"], point["measured"]["area"]["value"]
            assert float(row["area_measured_cells"]) == measured
            assert float(row["area_error_percent"]) == pytest.approx(100 * (predicted / measured - 1))
        else:
            assert row["area_measured_cells"] == row["area_error_percent"] == ""
    assert {row["energy_pJ"] == "" for row in rows} == {True, False}


def test_csv_of_awkward_text(sweep, own_folder):
    odd = copy.deepcopy(sweep)
    odd["points"][0].update(name=HOSTILE + "\n,second line", config={"nested": {"a": [1, 2]}, "flag": True})
    with write_csv(odd, own_folder / "odd.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert row["name"] == HOSTILE + "\n,second line"
    assert row["config_nested"] == '{"a": [1, 2]}' and row["config_flag"] == "true" and row["config_pe"] == ""


def test_csv_without_points(own_folder):
    lines = write_csv(example_sweep(0), own_folder / "none.csv").read_text().splitlines()
    assert len(lines) == 1 and lines[0].startswith("id,name,engine,family,")


@needs_plotly
def test_page_carries_the_sweep_and_nothing_from_elsewhere(sweep, own_folder):
    page = write_report(sweep, own_folder / "report.html").read_text(encoding="utf-8")
    assert page_data(page)["sweep"] == check_sweep(sweep)
    frame = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href|action)\s*=\s*(?!["']?data:,)|url\(|@import""", frame)
    assert not re.search(r"<script[^>]*\ssrc", page) and "{{" not in frame
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert "default-src 'none'" in policy and "form-action 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1] and "http" not in policy


@needs_plotly
def test_page_is_the_same_byte_for_byte(sweep, own_folder, monkeypatch):
    first = write_report(sweep, own_folder / "a.html").read_bytes()
    monkeypatch.setattr("time.time", lambda: 86_400.0)       # on another day
    assert write_report(copy.deepcopy(sweep), own_folder / "b.html").read_bytes() == first
    assert sorted(path.name for path in own_folder.iterdir()) == ["a.html", "b.html"]


@needs_plotly
def test_hostile_text_stays_text(sweep):
    odd = copy.deepcopy(sweep)
    odd["title"] = odd["points"][0]["name"] = odd["points"][0]["command"] = odd["metrics"][0]["title"] = HOSTILE
    plain, page = (render_page(check_sweep(each)) for each in (sweep, odd))
    assert page.lower().count("<script") == plain.lower().count("<script")
    assert page.lower().count("</script") == plain.lower().count("</script")
    assert "<b>&amp;" not in page and page_data(page)["sweep"]["points"][0]["name"] == HOSTILE
    with pytest.raises(BitkilnError, match="not a sweep report"):
        page_data("<html></html>")


@needs_plotly
@pytest.mark.parametrize("count", [0, 1])
def test_page_of_few_points(count):
    data = page_data(render_page(check_sweep(example_sweep(count))))
    assert len(data["sweep"]["points"]) == count and len(data["families"]) == count


@needs_plotly
def test_page_of_many_points_stays_small():
    many = check_sweep(example_sweep(5000))
    assert len(many["points"]) == 5000 and len(render_page(many).encode()) < 12e6


def test_missing_packages_are_named(sweep, monkeypatch, own_folder):
    import sys
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BitkilnError, match=r"no plotly[\s\S]*bitkiln\[explore\]") as page:
        write_report(sweep, own_folder / "report.html")
    with pytest.raises(BitkilnError, match=r"no matplotlib[\s\S]*bitkiln\[plots\]") as picture:
        write_static(sweep, own_folder)
    assert page.value.exit_code == picture.value.exit_code == 3 and not list(own_folder.iterdir())


@needs_matplotlib
def test_pictures_are_the_same_byte_for_byte(sweep, own_folder):
    import matplotlib
    sweep = {**sweep, "axes": sweep["axes"][:1]}
    first = [path.read_bytes() for path in write_static(sweep, own_folder / "a")]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 31}):    # a user's own style
        second = write_static(sweep, own_folder / "b")
    assert [path.name for path in second] == ["pareto.png", "pareto.svg"]
    assert [path.read_bytes() for path in second] == first
    assert first[0].startswith(b"\x89PNG") and b"<dc:date>" not in first[1]


@needs_matplotlib
def test_picture_changes_with_a_value_and_bears_odd_input(sweep, own_folder):
    from bitkiln.report.sweep_figure import draw_fronts
    one = example_sweep(1)
    one["axes"], one["points"][0]["name"] = one["axes"][:1], HOSTILE
    before = draw_fronts(check_sweep(one), ["svg"])["svg"]
    one["points"][0]["metrics"]["area"]["high"] *= 1.5
    assert draw_fronts(check_sweep(one), ["svg"])["svg"] != before
    one["points"][0]["metrics"]["area"]["value"] = None
    assert draw_fronts(check_sweep(one), ["png"])["png"].startswith(b"\x89PNG")
    assert draw_fronts(check_sweep(example_sweep(0)), ["png"])["png"].startswith(b"\x89PNG")


def test_labels_cover_neither_each_other_nor_the_border():
    dice = np.random.default_rng(1)
    dots = dice.uniform(0, 1000, (300, 2))
    anchors, sizes, border = dots[:25], [(90.0, 12.0)] * 25, (0.0, 0.0, 1000.0, 1000.0)
    places = place_labels(anchors, sizes, dots, np.zeros((0, 2)), border, gap=8.0)
    boxes = [(*place[0], place[0][0] + 90.0, place[0][1] + 12.0) for place in places if place is not None]
    assert len(boxes) == 25
    for at, one in enumerate(boxes):
        assert one[0] >= 0 and one[1] >= 0 and one[2] <= 1000 and one[3] <= 1000
        assert not any(one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
                       for two in boxes[at + 1:])
    covered = sum(bool(np.all((dots > box[:2]) & (dots < box[2:]), axis=1).any()) for box in boxes)
    beside = sum(bool(np.all((dots > at + 8) & (dots < at + 8 + np.array([90, 12])), axis=1).any()) for at in anchors)
    assert covered < beside         # better than always to the upper right


def test_a_label_without_room_is_left_out():
    crowd = np.full((40, 2), 50.0)
    places = place_labels(crowd, [(60.0, 12.0)] * 40, crowd, np.zeros((0, 2)), (0, 0, 100, 100), gap=5.0)
    assert 1 < sum(place is not None for place in places) < 40
