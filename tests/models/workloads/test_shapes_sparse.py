"""Sparse layer shapes: weights against published sizes, pairs against the maps of the same cloud."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import canonicalise
from bitkiln.models.workloads.scenes import lidar_scene
from bitkiln.models.workloads.shapes_registry import get_workload
from bitkiln.models.workloads.shapes_sparse import CLOUDS, CloudStatistics, measure
from bitkiln.models.workloads.spconv_nets import NETWORKS, run_network
from bitkiln.models.workloads.voxelise import voxelise

GRIDS = {"lidar-5cm": ((0.05,), {}), "lidar-front": (((0.05, 0.05, 0.1),), {"extent": (0, -40, -3, 70.4, 40, 1)})}


@pytest.mark.parametrize("name", CLOUDS)
def test_stored_counts_are_those_of_the_scene_they_name(name) -> None:
    stored, (size, options) = CLOUDS[name], GRIDS[name]
    voxels = voxelise(lidar_scene(0), *size, **options)
    cloud = canonicalise(voxels.indices, voxels.spatial_shape, depth=voxels.depth)
    assert measure(name, cloud, len(stored.voxels), stored.halving, stored.source) == stored


# mit-han-lab/spvnas, model zoo: millions of parameters and GMACs on SemanticKITTI frames.
@pytest.mark.parametrize(("width", "millions", "gmacs"), [(0.5, 5.5, 28.5), (0.64, 8.8, 45.9), (1.0, 21.7, 113.9)])
def test_minkunet_has_the_published_size(width, millions, gmacs) -> None:
    workload = get_workload("minkunet", width=width)
    assert workload.weights / 1e6 == pytest.approx(millions, rel=0.015)     # norms and rounding
    # Another cloud, so only the order of size must agree.
    assert 0.7 < workload.macs / 1e9 / gmacs < 1.3


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_the_maps_of_a_run(name) -> None:
    net = NETWORKS[name]
    rng = np.random.default_rng(7)
    indices = np.concatenate([np.zeros((300, 1), np.int64), rng.integers(0, 16, (300, 3))], axis=1)
    cloud = canonicalise(indices, (16, 16, 16), depth=4)
    design = SpConvDesign()
    features = rng.integers(0, 3, (len(cloud.keys), net.inputs))
    run = run_network(design, net, cloud, features)
    halving = "stride3" if any(layer.op == "stride3" for layer in net.layers) else "down2"
    counted = measure("random", cloud, net.stages + 1, halving, "300 random voxels")
    workload = get_workload(name, cloud=counted)
    for shape, each in zip(workload.layers, run.layers, strict=True):
        assert shape.m == each.map.pairs
        assert shape.inputs == each.inputs.size and shape.outputs == each.codes.size
        assert shape.weights == each.weights.size
    assert "statistical" in workload.source and "300 random voxels" in workload.source


def test_scaled_clouds_keep_their_density() -> None:
    base, half = get_workload("second"), get_workload("second", voxels=CLOUDS["lidar-front"].voxels[0] // 2)
    assert half.macs / base.macs == pytest.approx(0.5, rel=1e-3)
    assert half.weights == base.weights and "scaled to" in half.source


def test_wrong_clouds_are_refused() -> None:
    with pytest.raises(BitkilnError, match="cloud halved in another way"):
        get_workload("minkunet", cloud="lidar-front")
    with pytest.raises(BitkilnError, match="did you mean lidar-5cm"):
        get_workload("minkunet", cloud="lidar-6cm")
    short = CloudStatistics("short", "down2", (9, 4), (20, 8), (9,), "test")
    with pytest.raises(BitkilnError, match="too few stages at cloud short: got 2, expected 3 or more, for layer down2"):
        get_workload("minkunet", cloud=short)
    with pytest.raises(BitkilnError, match="counts do not match"):
        CloudStatistics("bad", "down2", (9, 4), (20, 8), (9, 4), "test")
    with pytest.raises(BitkilnError, match="out of range at width"):
        get_workload("minkunet", width=9)
