"""Workloads from plain data and CSV, and as files of other tools."""

from __future__ import annotations

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes import ConvGeometry, Workload, attention, conv, linear
from bitkiln.models.workloads.shapes_export import scalesim_csv, zigzag_yaml
from bitkiln.models.workloads.shapes_files import workload_from_csv, workload_from_dict
from bitkiln.models.workloads.shapes_registry import get_workload

DATA = {"name": "mine", "batch": 2, "layers": [
    {"name": "stem", "conv": {"height": 9, "width": 7, "channels": 3, "filters": 8, "kernel": 3, "stride": 2,
                              "padding": 1}, "layer_class": "first"},
    {"name": "wide", "conv": {"height": 1, "width": 20, "channels": 4, "filters": 4, "kernel": [1, 5],
                              "padding": [0, 2, 0, 1], "groups": 4}, "count": 3},
    {"name": "scores", "m": 5, "k": 8, "n": 6, "count": 4, "kind": "attention"},
    {"name": "head", "m": 1, "k": 40, "n": 10, "layer_class": "last"}]}


def changed(path: tuple, value: object) -> dict:
    """`DATA` with one value changed, or deleted where it is ``...``."""
    def copy(data: object) -> object:
        if isinstance(data, dict):
            return {key: copy(each) for key, each in data.items()}
        return [copy(each) for each in data] if isinstance(data, list) else data

    data = copy(DATA)
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return data


def test_plain_data_gives_the_shapes_it_says() -> None:
    workload = workload_from_dict(DATA)
    stem, wide, scores, head = workload.layers
    assert (stem.m, stem.k, stem.n, stem.kind, stem.layer_class) == (2 * 5 * 4, 27, 8, "conv", "first")
    assert stem.inputs == 2 * 9 * 7 * 3
    assert (wide.m, wide.k, wide.n, wide.count, wide.kind) == (2 * 19, 5, 1, 12, "depthwise")
    assert wide.inputs == 2 * 3 * 20 * 4 and wide.outputs == 2 * 3 * 19 * 4
    assert wide.weights == 3 * 4 * 5 and wide.conv.padding == (0, 2, 0, 1)
    assert (scores.m, scores.count, scores.kind, scores.layer_class) == (5, 8, "attention", "attention")
    assert (head.m, head.layer_class) == (2, "last")
    assert workload.batch == 2 and workload.source == "given by the user"
    assert workload.weights == 27 * 8 + 3 * 4 * 5 + 400


@pytest.mark.parametrize(("path", "value", "message"), [
    (("layer",), [], r"unknown key at mine.yaml layer: .*\n.*did you mean layers"),
    (("name",), ..., r"missing key at mine.yaml: .*expected name"),
    (("batch",), 0, r"not a size at mine.yaml batch"),
    (("layers",), [], r"not a list of layers at mine.yaml layers: got 0"),
    (("layers",), {"name": "x"}, r"not a list of layers at mine.yaml layers"),
    (("layers", 2), 7, r"not a mapping at mine.yaml layers\[2\]: got 7"),
    (("layers", 2, "M"), 7, r"unknown key at mine.yaml layers\[2\].M"),
    (("layers", 3, "k"), ..., r"missing key at mine.yaml layers\[3\]: .*expected k"),
    (("layers", 3, "k"), 4.0, r"not a size at mine.yaml layers\[3\].k: got 4.0"),
    (("layers", 3, "m"), True, r"not a size at mine.yaml layers\[3\].m"),
    (("layers", 3, "name"), "stem", r"two layers of one name at mine.yaml layers\[3\].name: .*layers\[0\]"),
    (("layers", 3, "kind"), "conv", r"unknown choice at mine.yaml layers\[3\].kind"),
    (("layers", 3, "layer_class"), "lats", r"layers\[3\].layer_class: .*\n.*did you mean last"),
    (("layers", 0, "m"), 3, r"unknown key at mine.yaml layers\[0\].m"),
    (("layers", 0, "conv", "kernel"), ..., r"missing key at mine.yaml layers\[0\].conv: .*expected kernel"),
    (("layers", 0, "conv", "kernel"), [3, 3, 3], r"wrong number of values at mine.yaml layers\[0\].conv.kernel"),
    (("layers", 0, "conv", "kernel"), [3, -3], r"not a size at mine.yaml layers\[0\].conv.kernel\[1\]"),
    (("layers", 0, "conv", "kernel"), 99, r"kernel larger than its input at mine.yaml layers\[0\].conv.kernel"),
    (("layers", 1, "conv", "groups"), 3, r"groups do not divide at mine.yaml layers\[1\].conv.groups"),
    (("layers", 0, "conv", "strides"), 1, r"layers\[0\].conv.strides: .*\n.*did you mean stride"),
])
def test_wrong_data_is_refused_with_its_place(path, value, message) -> None:
    with pytest.raises(BitkilnError, match=message):
        workload_from_dict(changed(path, value), "mine.yaml")


@pytest.mark.parametrize(("given", "meant"), [(2, (2, 2, 2, 2)), ([1, 0], (1, 0, 1, 0)), ([0, 1, 2, 3], (0, 1, 2, 3))])
def test_padding_is_one_or_two_or_four_numbers(given, meant) -> None:
    workload = workload_from_dict(changed(("layers", 0, "conv", "padding"), given))
    assert workload.layers[0].conv.padding == meant


def test_place_may_be_a_line_of_a_document() -> None:
    lines = {("layers", 3, "k"): "mine.yaml:12"}
    with pytest.raises(BitkilnError, match=r"mine.yaml:12 layers\[3\].k"):
        workload_from_dict(changed(("layers", 3, "k"), 0), lambda path: lines.get(path, "mine.yaml:1"))


# CSV -----------------------------------------------------------------------------------------------


def test_products_in_the_order_of_their_header() -> None:
    text = "Layer, M, N, K,\n\ngemm 64, 4, 5, 6,\nheads*12, 1, 2, 3\nbatched, 7, 8, 9, 2,\ndense, 1, 1, 1, 1:1,\n"
    workload = workload_from_csv(text, "list")
    assert [(layer.name, layer.m, layer.n, layer.k, layer.count) for layer in workload.layers] == [
        ("gemm 64", 4, 5, 6, 1), ("heads", 1, 2, 3, 12), ("batched", 7, 8, 9, 2), ("dense", 1, 1, 1, 1)]
    other = workload_from_csv("name,M,K,N\na,4,6,5\n", "list").layers[0]
    assert (other.m, other.n, other.k) == (4, 5, 6)


def test_convolutions_have_their_padding_inside() -> None:
    header = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"
    layer = workload_from_csv(f"{header}\nConv2_1a, 58, 58, 3, 3, 64, 64, 1,\n", "list").layers[0]
    ours = get_workload("resnet18").layer("layer1.0.conv1")
    assert (layer.m, layer.k, layer.n) == (ours.m, ours.k, ours.n)
    assert layer.inputs == 58 * 58 * 64


@pytest.mark.parametrize(("text", "message"), [
    ("", "no layers at list.csv: got 0"), ("name,M,N,K\n", "no layers"),
    ("name,a,b,c\nx,1,2,3\n", "unknown header at list.csv:1"),
    ("name,M,N,K\nx,1,2\n", "row too short at list.csv:2"),
    ("name,M,N,K\nx,1,2,3\ny,1,0,3\n", "not a size at list.csv:3: got '0'"),
    ("name,M,N,K\nx,1,2,3.5\n", "not a size at list.csv:2: got '3.5'"),
    ("name,M,N,K\nx,1,2,3\nx,1,2,3\n", "two layers of one name at list.csv:3"),
    ("name,M,N,K\nx,1,2,3,2:4\n", "column not understood at list.csv:2: got '2:4'"),
    ("a,b,c,d,e,f,g,h\nx,4,4,5,5,1,1,1\n", "kernel larger than its input at list.csv:2")])
def test_wrong_lists_are_refused_with_their_line(text, message) -> None:
    with pytest.raises(BitkilnError, match=message):
        workload_from_csv(text, "list", "list.csv")


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2", "bert-base", "llama-3-8b:decode", "g2p", "second"])
def test_products_survive_scalesims_list(name) -> None:
    workload = get_workload(name)
    text = scalesim_csv(workload)
    assert all(line.endswith(",") for line in text.splitlines())    # SCALE-Sim drops the last field
    again = workload_from_csv(text, name)
    assert [(layer.m, layer.k, layer.n, layer.count) for layer in again.layers] == [
        (layer.m, layer.k, layer.n, layer.count) for layer in workload.layers]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv2", "digits-cnn", "vit-b", "bert-base"])
def test_convolutions_survive_scalesims_list(name) -> None:
    workload = get_workload(name)
    text = scalesim_csv(workload, "conv")
    again = workload_from_csv(text, name)
    assert [(layer.m, layer.k, layer.n, layer.count) for layer in again.layers] == [
        (layer.m, layer.k, layer.n, layer.count) for layer in workload.layers]
    for line in text.splitlines()[1:]:
        height, _, rows, *_, stride = [int(cell) for cell in line.split(",")[1:-1]]
        assert (height - rows) % stride == 0        # so that rounding up is rounding down


def test_names_do_no_harm_in_scalesims_list() -> None:
    layer = linear("DP, a\t\"b\"*3", 2, 3, 4)
    text = scalesim_csv(Workload("w", (layer,), "test"))
    again = workload_from_csv(text, "w").layers[0]
    assert "DP" not in text and (again.m, again.k, again.n, again.count) == (2, 3, 4, 1)


def test_what_scalesims_rows_cannot_say_is_refused() -> None:
    dilated = conv("d", ConvGeometry(9, 9, 1, 1, (3, 3), dilation=(2, 2)))
    for workload in (Workload("w", (dilated,), "test"), get_workload("resnet18", batch=2)):
        with pytest.raises(BitkilnError, match="SCALE-Sim has no such convolution"):
            scalesim_csv(workload, "conv")
        assert scalesim_csv(workload).count("\n") == 1 + len(workload.layers)


# ZigZag --------------------------------------------------------------------------------------------


def test_zigzag_nodes_have_all_products() -> None:
    from ruamel.yaml import YAML
    layers = [conv("c", ConvGeometry(9, 8, 4, 6, (3, 2), (2, 1), (1, 0, 1, 0), (1, 2)), batch=3),
              conv("dw", ConvGeometry(9, 9, 5, 5, (3, 3), groups=5)), linear("l", 4, 8, 16),
              *attention("a", 4, 6, 8, 3)]
    nodes = YAML(typ="safe").load(zigzag_yaml(Workload("w", tuple(layers), "test"), weight_bits=4))
    assert [node["id"] for node in nodes] == list(range(len(layers)))
    for node, layer in zip(nodes, layers, strict=True):
        loops = dict(zip(node["loop_dims"], node["loop_sizes"], strict=True))
        products = 1
        for size in loops.values():
            products *= size
        assert products == layer.macs
        assert loops.get("G", 1) == layer.count and loops["K"] == layer.n
        assert ("[g]" in node["equation"]) == ("G" in loops)
        # every index of the equation is a loop, or follows from two of them
        used = {part.strip("[").upper() for part in node["equation"].split("]") for part in part.split("[")[1:]}
        assert used - {"IX", "IY"} == set(loops)
        assert node["operand_precision"] == {"W": 4, "I": 8, "O": 32, "O_final": 32}
    assert nodes[0]["dimension_relations"] == ["iy=2*oy+1*fy", "ix=1*ox+2*fx"]
    with pytest.raises(BitkilnError, match="operand_precision.W"):
        zigzag_yaml(Workload("w", tuple(layers), "test"), weight_bits=0)
