"""Voxels: against a dictionary, order of keys, features in range, statistics against SciPy and the published rows."""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.pointcloud import PointCloud, read_points
from bitkiln.models.workloads.voxelise import (
    FEATURES,
    cloud_statistics,
    morton_keys,
    voxel_features,
    voxelise,
)


def cloud(seed, count=500, spread=3.0, intensity=True):
    random = np.random.default_rng(seed)
    points = random.normal(0, spread, (count, 3))
    return PointCloud(points, random.uniform(0, 255, count) if intensity else None, f"seed {seed}")


def slow_key(row):
    key = int(row[0])
    for bit in reversed(range(16)):
        for axis in (1, 2, 3):
            key = key * 2 + (int(row[axis]) >> bit & 1)
    return key


# Keys ----------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.tuples(st.integers(0, 63), *[st.integers(0, 65535)] * 3))
def test_keys(row):
    assert int(morton_keys(np.array([row], np.int32))[0]) == slow_key(row)


def test_keys_of_single_bits():
    rows = [(0, *(1 << bit if at == axis else 0 for at in range(3))) for bit in range(16) for axis in range(3)]
    keys = morton_keys(np.array(rows))
    assert [int(key) for key in keys] == [1 << 3 * bit + 2 - axis for bit in range(16) for axis in range(3)]
    assert morton_keys(np.zeros((0, 4), np.int32)).shape == (0,)


@pytest.mark.parametrize("row", [(-1, 0, 0, 0), (64, 0, 0, 0), (0, -1, 0, 0), (0, 0, 65536, 0)])
def test_keys_out_of_range(row):
    with pytest.raises(BitkilnError, match="voxel out of range at indices: got .*, expected batch below 64"):
        morton_keys(np.array([row]))
    with pytest.raises(BitkilnError, match=r"wrong shape of voxels at indices: got \(3,\)"):
        morton_keys(np.array(row[1:]))


# Voxels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size, axes", [(0.5, "xyz"), ((0.25, 0.5, 1.0), "zxy"), (0.3, "xz-y"), (8.0, "-x-y-z")])
def test_against_a_dictionary(size, axes):
    given_cloud = cloud(1)
    voxels = voxelise(given_cloud, size, axes=axes, batch=3)
    sizes = np.broadcast_to(size, 3)
    names = axes.replace("-x", "X").replace("-y", "Y").replace("-z", "Z")
    turned = np.stack([given_cloud.points[:, "xyz".index(name.lower())] * (-1 if name.isupper() else 1)
                       for name in names], 1)
    places = np.floor(turned / sizes).astype(int)
    low = places.min(0)
    found = defaultdict(list)
    for at, place in enumerate(places):
        found[(3, *(place - low).tolist())].append(at)
    ordered = sorted(found, key=slow_key)
    assert voxels.indices.dtype == voxels.point_indices.dtype == np.int32
    np.testing.assert_array_equal(voxels.indices, ordered)
    np.testing.assert_array_equal(voxels.point_indices[:, 1:], places - low)
    np.testing.assert_array_equal(voxels.counts, [len(found[row]) for row in ordered])
    np.testing.assert_allclose(voxels.intensity, [given_cloud.intensity[found[row]].mean() for row in ordered])
    centres = voxels.origin + (voxels.indices[:, 1:] + 0.5) * sizes
    means = np.array([turned[found[row]].mean(0) for row in ordered])
    np.testing.assert_allclose(centres + voxels.offsets * sizes, means, atol=1e-9)
    assert np.abs(voxels.offsets).max() <= 0.5 + 1e-9
    assert voxels.spatial_shape == tuple(places.max(0) - low + 1) and voxels.outside == 0
    np.testing.assert_allclose(voxels.origin, low * sizes)
    assert 1 << voxels.depth >= max(voxels.spatial_shape) and len(voxels) == len(ordered) > 15


def test_shifted_clouds_share_their_borders():
    """The grid lies on multiples of the voxel size, wherever the cloud begins."""
    points = cloud(2).points
    whole, part = voxelise(points, 0.25), voxelise(points[points[:, 0] > 1.0], 0.25)
    inside = {tuple(row) for row in np.round(whole.origin / 0.25).astype(int) + whole.indices[:, 1:]}
    assert inside >= {tuple(row) for row in np.round(part.origin / 0.25).astype(int) + part.indices[:, 1:]}


def test_origin_and_extent():
    points = np.array([[0.05, 0.0, 0.0], [0.95, 0.5, 0.0], [1.0, 0, 0], [-0.001, 0, 0], [70.39, 0, 0.99]])
    voxels = voxelise(points, 0.1, extent=(0, 0, 0, 1, 1, 1))
    assert voxels.spatial_shape == (10, 10, 10) and voxels.outside == 3
    np.testing.assert_array_equal(voxels.indices[:, 1:], [(0, 0, 0), (9, 5, 0)])
    np.testing.assert_array_equal(voxels.point_indices[2:4, 1], [10, -1])
    assert voxelise(points, 0.05, extent=(0, -40, -3, 70.4, 40, 1)).spatial_shape == (1408, 1600, 80)
    voxels = voxelise(points, (1, 1, 0.5), origin=(0.5, -1, 0))
    assert voxels.outside == 2 and voxels.spatial_shape == (70, 2, 2)
    far = voxelise([[0.5, 0.5, 0.5], [1e30, 0, -1e30]], 1, extent=(0, 0, 0, 2, 2, 2))
    np.testing.assert_array_equal(far.point_indices[1], [0, 2**31 - 1, 0, -2**31])
    assert len(far) == 1 and far.outside == 1


@pytest.mark.parametrize("options, what", [
    ({"voxel_size": 0}, "out of range at voxel_size"), ({"voxel_size": (1, 2)}, "expected 3 finite numbers"),
    ({"voxel_size": float("nan")}, "wrong numbers at voxel_size"), ({"voxel_size": "wide"}, "wrong numbers"),
    ({"axes": "xxy"}, "wrong axes"), ({"axes": "xy"}, "wrong axes"), ({"axes": 3}, "wrong axes"),
    ({"origin": (0, 0)}, "wrong numbers at origin"), ({"extent": (0, 0, 0)}, "expected 6 finite numbers"),
    ({"extent": (0, 0, 0, 1, 0, 1)}, "lower corner, then upper corner"),
    ({"extent": (0, 0, 0, 1, 1, 1), "origin": (0, 0, 0)}, "origin or extent, not both"),
    ({"origin": (99, 0, 0)}, "no points inside of the grid at origin"),
    ({"extent": (50, 50, 50, 51, 51, 51)}, "no points inside of the grid at extent"),
    ({"voxel_size": 1e-4}, "grid too large at voxel_size"), ({"voxel_size": 1e-320}, "grid too large"),
    ({"voxel_size": 1e-4, "extent": (-9, -9, -9, 9, 9, 9)}, "at most 65536 voxels along an axis"),
    ({"batch": -1}, "out of range at batch"), ({"batch": 64}, "out of range at batch"),
])
def test_wrong_arguments(options, what):
    options = {"voxel_size": 0.5, **options}
    with pytest.raises(BitkilnError) as caught:
        voxelise(cloud(4), options.pop("voxel_size"), **options)
    assert what in str(caught.value)


def test_wrong_points():
    for points in (np.zeros((0, 3)), np.zeros((3, 4)), np.full((2, 3), np.inf)):
        with pytest.raises(BitkilnError, match="wrong points at points"):
            voxelise(points, 1.0)


# Features ------------------------------------------------------------------------------------------


def test_features():
    voxels = voxelise(cloud(5), 1.0)
    features = voxel_features(voxels, len(FEATURES))
    assert features.shape == (len(voxels), 6) and np.abs(features).max() <= 1
    np.testing.assert_allclose(features[:, :3], 2 * voxels.offsets, atol=1e-6)
    np.testing.assert_allclose((features[:, 3] + 1) / 2 * voxels.spatial_shape[2],
                               voxels.indices[:, 3] + 0.5 + voxels.offsets[:, 2], atol=1e-4)
    for column, values in ((4, voxels.intensity), (5, voxels.counts)):
        assert (np.sign(np.diff(features[np.argsort(values, kind="stable"), column])) >= 0).all()
        assert features[:, column].min() == -1 and features[:, column].max() == 1
    np.testing.assert_array_equal(voxel_features(voxels), features[:, :4])
    plain = voxel_features(voxelise([[0.0, 0, 0], [5, 5, 5]], 1.0), 6)    # nothing to tell apart
    np.testing.assert_array_equal(plain[:, 4:], 0)
    for channels in (0, 7, 2.0):
        with pytest.raises(BitkilnError, match="out of range at channels"):
            voxel_features(voxels, channels)


# Statistics ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed, size", [(6, 0.5), (7, 1.0), (8, 2.0)])
def test_statistics_against_a_tree_of_points(seed, size):
    voxels = voxelise(cloud(seed, 1500), size)
    found = cloud_statistics(voxels)
    places = voxels.indices[:, 1:]
    pairs = cKDTree(places).query_pairs(1.01, p=np.inf, output_type="ndarray")
    count = len(places)
    assert found.voxels == count and found.points == 1500 and len(pairs) > 100
    assert found.mean27 == pytest.approx(1 + 2 * len(pairs) / count)
    assert found.isolated == pytest.approx(1 - len(np.unique(pairs)) / count)
    level = (places[pairs[:, 0], 2] == places[pairs[:, 1], 2]).sum()
    assert found.planes[1] == pytest.approx((count + 2 * level) / (count + 2 * len(pairs)))
    assert sum(found.planes) == pytest.approx(1) and found.planes[0] == found.planes[2]
    nodes = [len(np.unique(places >> bits, axis=0)) for bits in range(17)]
    assert found.levels == tuple(nodes[:voxels.depth + 1]) and found.levels[-1] == 1
    assert (found.per_octant, found.per_4, found.per_16) == tuple(count / nodes[bits] for bits in (1, 2, 4))
    assert found.blocks_16 == nodes[4]
    assert found.occupancy == pytest.approx(count / np.prod(voxels.spatial_shape))
    parity = np.bincount((places & 1) @ [4, 2, 1], minlength=8)
    assert found.bank_imbalance == pytest.approx(parity.max() / parity.mean())


def test_statistics_of_batches_and_blocks():
    """No pairs across batches; a full block; a single voxel."""
    block = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), -1).reshape(-1, 3)
    rows = np.concatenate([np.c_[np.full(len(block), batch), block] for batch in (0, 2)])
    found = cloud_statistics(rows, (16, 16, 16))
    assert found.mean27 == 46**3 / 4096 and found.isolated == 0 and found.occupancy == 1 and found.points == 0
    assert found.levels == (8192, 1024, 128, 16, 2) and found.bank_imbalance == 1
    one = cloud_statistics(np.array([[0, 3, 0, 1]]))
    assert (one.mean27, one.isolated, one.planes, one.levels) == (1, 1, (0, 1, 0), (1, 1, 1))
    assert one.spatial_shape == (4, 1, 2) and one.per_16 == 1
    for wrong in (np.zeros((0, 4), int), np.zeros((2, 4), int)):
        with pytest.raises(BitkilnError, match="wrong voxels at indices"):
            cloud_statistics(wrong)


# Real frames ---------------------------------------------------------------------------------------

# size, axes, grid, points, voxels, occupancy, mean27, isolated, middle plane, per octant, 4^3, 16^3, blocks
FRAMES = {
    "ouster_os1_128.npy": [
        (0.05, "xyz", (7955, 2136, 436), 107647, 103091, 1.4e-5, 2.98, 0.42, 0.69, 1.33, 2.3, 13, 8096),
        (0.1, "xyz", (3978, 1069, 219), 107647, 77741, 8.4e-5, 5.19, 0.19, 0.59, 1.74, 3.8, 26, 2970)],
    "pcl_office1.pcd": [
        (0.01, "xzy", (416, 354, 379), 254456, 180936, 3.2e-3, 6.92, 0.01, 0.37, 2.70, 7.6, 96, 1887),
        (0.02, "xzy", (209, 178, 190), 254456, 67104, 9.5e-3, 8.02, 0.01, 0.38, 2.83, 8.7, 142, 472)]}
LEVELS = {77741: (77741, 44684, 20408, 8029, 2970, 1045, 326, 107, 37, 17, 5, 2, 1),
          67104: (67104, 23684, 7683, 1888, 472, 122, 28, 8, 1)}


@pytest.mark.parametrize("name", FRAMES)
def test_real_frames(name):
    path = Path(os.environ.get("BITKILN_DATA", "")) / "pointclouds" / name
    if not os.environ.get("BITKILN_DATA") or not path.exists():
        pytest.skip(f"set BITKILN_DATA to a folder with pointclouds/{name}")
    points = read_points(path)
    assert points.no_return == (52744 if name.endswith("pcd") else 0) and points.dropped == 0
    for size, axes, grid, number, count, *shares, blocks in FRAMES[name]:
        occupancy, mean27, isolated, middle, octant, four, sixteen = shares
        found = cloud_statistics(voxelise(points, size, axes=axes))
        assert (found.spatial_shape, found.points, found.voxels, found.blocks_16) == (grid, number, count, blocks)
        for value, expected, step in ((found.occupancy, occupancy, occupancy / 10), (found.mean27, mean27, 0.01),
                                      (found.isolated, isolated, 0.01), (found.planes[1], middle, 0.01),
                                      (found.per_octant, octant, 0.01), (found.per_4, four, 0.1),
                                      (found.per_16, sixteen, 1)):
            assert abs(value - expected) <= step / 2 * 1.0001
        assert found.levels == LEVELS.get(count, found.levels)
