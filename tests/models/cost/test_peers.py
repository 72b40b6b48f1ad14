"""SCALE-Sim's closed form against runs of SCALE-Sim, and the table of other tools' figures."""

from __future__ import annotations

import pytest

from bitkiln.models.cost.peers import (
    DATAFLOWS,
    FIGURES,
    SETUPS,
    peer_layers,
    scalesim_cycles,
    scalesim_utilisation,
)
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes import LayerShape, linear
from bitkiln.models.workloads.shapes_registry import get_workload

SCALESIM = [figure for figure in FIGURES if figure.tool.startswith("SCALE-Sim")]

# (M, K, N) and the "Total Cycles" of SCALE-Sim 3.0.0 (numpy 1.26, -i gemm, CALC bandwidth) on (rows, columns).
SHAPES = ((5, 9, 7), (20, 40, 30), (33, 16, 17), (100, 50, 48), (1, 1, 1), (1, 128, 64))
RUNS = {(16, 16, "weight"): (50, 395, 157, 1751, 46, 1503), (16, 16, "output"): (38, 279, 275, 1679, 30, 631),
        (16, 16, "input"): (52, 455, 188, 2631, 46, 879), (8, 32, "weight"): (101, 329, 157, 2043, 46, 1503),
        (8, 32, "output"): (46, 233, 269, 2287, 38, 331), (8, 32, "input"): (105, 379, 251, 2631, 46, 1759),
        (32, 8, "input"): (76, 599, 434, 3067, 70, 535)}


@pytest.mark.parametrize("figure", SCALESIM, ids=lambda figure: f"{figure.layer}-{figure.dataflow}")
def test_closed_form_equals_the_runs_of_the_table(figure) -> None:
    layer = peer_layers()[figure.layer]
    assert scalesim_cycles(layer, 16, 16, figure.dataflow) == figure.cycles
    assert scalesim_utilisation(layer, 16, 16, figure.dataflow) == pytest.approx(figure.utilisation, abs=0.0005)


def test_the_table_has_two_dataflows_of_four_layers() -> None:
    assert {(figure.layer, figure.dataflow) for figure in SCALESIM} == {
        (layer, dataflow) for layer in peer_layers() for dataflow in ("weight", "output")}


@pytest.mark.parametrize("array", RUNS, ids=str)
def test_closed_form_equals_runs_where_nothing_divides(array) -> None:
    rows, columns, dataflow = array
    for (m, k, n), cycles in zip(SHAPES, RUNS[array], strict=True):
        assert scalesim_cycles(linear("x", m, k, n), rows, columns, dataflow) == cycles


def test_repeated_products_are_so_many_layers() -> None:
    one, twelve = LayerShape("x", 5, 9, 7), LayerShape("x", 5, 9, 7, 12)
    for dataflow in DATAFLOWS:
        assert scalesim_cycles(twelve, 4, 8, dataflow) == 12 * scalesim_cycles(one, 4, 8, dataflow)


def test_nobody_is_faster_than_all_multipliers_at_once() -> None:
    layers = peer_layers()
    for figure in FIGURES:
        assert figure.tool in SETUPS
        used = layers[figure.layer].macs / 256 / figure.cycles
        assert used <= 1
        if figure.utilisation is not None:
            assert used == pytest.approx(figure.utilisation, abs=0.002)


def test_layers_are_those_of_the_networks_they_are_named_after() -> None:
    layers = peer_layers()
    query = get_workload("bert-base").layer("block0.query")
    first = get_workload("resnet18").layer("layer1.0.conv1")
    for ours, theirs in ((query, layers["bert-qkv"]), (first, layers["resnet18-conv2_1a"])):
        assert (ours.m, ours.k, ours.n, ours.count, ours.conv) == (theirs.m, theirs.k, theirs.n, theirs.count,
                                                                   theirs.conv)


def test_bad_arrays_are_refused() -> None:
    layer = linear("x", 1, 1, 1)
    with pytest.raises(BitkilnError, match="did you mean weight"):
        scalesim_cycles(layer, 4, 4, "weights")
    with pytest.raises(BitkilnError, match="out of range at rows"):
        scalesim_cycles(layer, 0, 4, "weight")
