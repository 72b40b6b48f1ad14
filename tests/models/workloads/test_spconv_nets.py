"""Sparse networks: what a stage may be, and the shapes that follow."""

from __future__ import annotations

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.spconv_nets import NETWORKS, Layer, SparseNetwork, network


def test_second_way_down_from_a_stage_is_refused() -> None:
    """Both would name the voxels of the next stage, which differ."""
    def net(op: str, edge: str) -> SparseNetwork:
        return SparseNetwork("fork", "two ways down", (Layer("a", "down2", "points", "x", 4, 4, 0),
                                                       Layer("b", op, "points", "y", 4, 4, 0, edge)), 4)

    assert net("down2", "keep").stages == 1
    for op, edge in (("down2", "drop"), ("stride3", "keep")):
        with pytest.raises(BitkilnError, match="two ways down from one stage") as found:
            net(op, edge)
        assert "layer b" in str(found.value) and f"{op} with edge={edge}" in str(found.value)
        assert "as layer a" in str(found.value)


def test_every_network_feeds_each_layer_what_it_expects() -> None:
    for net in NETWORKS.values():
        width, stage = {"points": net.inputs}, {"points": 0}
        for layer in net.layers:
            parts = layer.source.split("+")
            assert sum(width[part] for part in parts) == layer.inputs
            assert {stage[part] for part in parts} == {layer.stage + (layer.op == "inverse2")}
            width[layer.target] = layer.outputs
            stage[layer.target] = layer.stage + layer.halves


def test_unknown_network_names_the_nearest() -> None:
    with pytest.raises(BitkilnError, match="minkunet-small"):
        network("minkunet-smal")
