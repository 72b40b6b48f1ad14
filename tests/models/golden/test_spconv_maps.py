"""Golden maps of sparse convolution against dense index grids, a KD-tree and brute force, and their corner cases."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from bitkiln.models.golden.spconv import (
    ConvMap,
    build_tree,
    canonicalise,
    decode_keys,
    down2,
    encode_keys,
    generative2,
    inverse2,
    rulebook,
    stride3,
    submanifold,
)
from bitkiln.models.workloads.pointcloud import read_points

SEED = 301
STEPS = list(itertools.product((-1, 0, 1), repeat=3))
OPERATORS = ("submanifold", "down2", "down2_drop", "inverse2", "inverse2_drop", "generative2", "stride3",
             "stride3_parents")


def run(name: str, keys: np.ndarray, depth: int, shape=None) -> ConvMap:
    """One operator; the inverse ones go back to ``keys``."""
    operators = {
        "submanifold": lambda: submanifold(keys, depth),
        "down2": lambda: down2(keys, depth, shape),
        "down2_drop": lambda: down2(keys, depth, shape, edge="drop"),
        "inverse2": lambda: inverse2(keys),
        "inverse2_drop": lambda: inverse2(keys, down2(keys, depth, shape, edge="drop").out_keys),
        "generative2": lambda: generative2(keys),
        "stride3": lambda: stride3(keys, depth, spatial_shape=shape),
        "stride3_parents": lambda: stride3(keys, depth, "parents", shape),
    }
    return operators[name]()


def in_and_out(name: str, map: ConvMap, keys: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the input rows and of the output rows."""
    if name == "inverse2":
        return decode_keys(np.unique(keys >> 3), depth - 1), decode_keys(keys, depth)
    if name == "inverse2_drop":
        return None, decode_keys(keys, depth)
    change = {"submanifold": 0, "generative2": 1}.get(name, -1)
    return decode_keys(keys, depth), decode_keys(map.out_keys, depth + change)


def assert_canonical(map: ConvMap) -> None:
    assert (np.diff(map.out_keys) > 0).all()
    assert (np.diff(map.out * 27 + map.k) > 0).all()
    assert len(map.out) == len(map.k) == len(map.inp) == map.pairs
    for values, size in ((map.out, map.rows), (map.k, map.kernel ** 3), (map.inp, map.inputs)):
        assert not len(values) or (values.min() >= 0 and values.max() < size)


def cube(side: int, at: int = 0, batch: int = 0) -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(at, at + side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return np.concatenate([np.full((len(grid), 1), batch), grid], axis=1)


def scattered(shape, batches: int, density: float, seed: int = SEED) -> np.ndarray:
    indices = np.argwhere(np.random.default_rng(seed).random((batches, *shape)) < density)
    return np.random.default_rng(seed + 1).permutation(indices)


def surface(side: int) -> np.ndarray:
    """A wavy sheet: many neighbours along two axes."""
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    z = np.rint(side / 2 + 3 * np.sin(x / 3) + 2 * np.cos(y / 4)).astype(int)
    return np.stack([np.zeros_like(x), x, y, z], -1).reshape(-1, 4)


# Reference: grids of row numbers -----------------------------------------------------------------------


def dense(indices: np.ndarray, shape, batches: int) -> np.ndarray:
    """Row number at each place of the grid, -1 where there is none."""
    grid = np.full((batches, *shape), -1)
    grid[tuple(indices.T)] = np.arange(len(indices))
    return grid


def padded(grid: np.ndarray, low: int, high) -> np.ndarray:
    return np.pad(grid, ((0, 0), *[(low, each) for each in np.broadcast_to(high, 3)]), constant_values=-1)


def reference(name: str, indices: np.ndarray, shape, batches: int) -> tuple[set, set]:
    """Output voxels and pairs ``(*output voxel, k, input row)``; input rows of inverse ones are octants."""
    grid = dense(indices, shape, batches)
    voxels, pairs = set(), set()

    def take(k: int, seen: np.ndarray) -> None:
        at = np.argwhere(seen >= 0)
        pairs.update(zip(*at.T.tolist(), [k] * len(at), seen[seen >= 0].tolist(), strict=True))

    if name == "submanifold":
        around = padded(grid, 1, 1)
        for k, (dx, dy, dz) in enumerate(STEPS):
            seen = around[:, 1 + dx:, 1 + dy:, 1 + dz:][:, :shape[0], :shape[1], :shape[2]]
            take(k, np.where(grid >= 0, seen, -1))
        voxels = set(map(tuple, indices.tolist()))
    elif name.startswith("down2"):
        if name == "down2":
            even = padded(grid, 0, np.array(shape) % 2)
        else:
            even = grid[:, :shape[0] // 2 * 2, :shape[1] // 2 * 2, :shape[2] // 2 * 2]
        for k, (x, y, z) in enumerate(itertools.product((0, 1), repeat=3)):
            take(k, even[:, x::2, y::2, z::2])
        voxels = {pair[:4] for pair in pairs}
    elif name.startswith("inverse2"):
        coarse, down = reference(name.replace("inverse2", "down2"), indices, shape, batches)
        octants = sorted(coarse, key=lambda voxel: encode_keys(np.array([voxel]), 10)[0])
        number = {octant: row for row, octant in enumerate(octants)}
        pairs = {(*indices[row].tolist(), k, number[octant]) for *octant, k, row in down for octant in [tuple(octant)]}
        voxels = set(map(tuple, indices.tolist()))
    elif name == "generative2":
        for row, (b, x, y, z) in enumerate(indices.tolist()):
            for k, (dx, dy, dz) in enumerate(itertools.product((0, 1), repeat=3)):
                pairs.add((b, 2 * x + dx, 2 * y + dy, 2 * z + dz, k, row))
        voxels = {pair[:4] for pair in pairs}
    else:
        half = [(side - 1) // 2 + 1 for side in shape]
        around = padded(grid, 1, 2)
        for k, (dx, dy, dz) in enumerate(STEPS):
            take(k, around[:, 1 + dx::2, 1 + dy::2, 1 + dz::2][:, :half[0], :half[1], :half[2]])
        if name == "stride3_parents":
            voxels = {(b, x // 2, y // 2, z // 2) for b, x, y, z in indices.tolist()}
            pairs = {pair for pair in pairs if pair[:4] in voxels}
        else:
            voxels = {pair[:4] for pair in pairs}
    return voxels, pairs


CLOUDS = {
    "random": (scattered((16, 16, 16), 1, 0.1), (16, 16, 16), 1, 4),
    "dense": (scattered((8, 8, 8), 2, 0.6), (8, 8, 8), 2, 3),
    "odd": (scattered((13, 7, 9), 3, 0.2), (13, 7, 9), 3, 4),
    "surface": (surface(24), (24, 24, 24), 1, 5),
    "flat": (scattered((15, 16, 1), 2, 0.3), (15, 16, 1), 2, 4),
    "tiny": (scattered((2, 2, 2), 2, 0.7), (2, 2, 2), 2, 1),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_maps_equal_dense_index_grids(cloud: str, name: str) -> None:
    print(f"seed {SEED}")
    indices, shape, batches, depth = CLOUDS[cloud]
    found = canonicalise(indices, shape, batches, depth=depth)
    assert len(found) == len(indices) > 0
    map = run(name, found.keys, depth, shape)
    assert_canonical(map)
    voxels, pairs = reference(name, found.indices, shape, batches)
    out = in_and_out(name, map, found.keys, depth)[1]
    assert set(zip(*out.T.tolist(), strict=True)) == voxels and map.rows == len(voxels)
    mine = set(zip(*out[map.out].T.tolist(), map.k.tolist(), map.inp.tolist(), strict=True))
    assert mine == pairs and map.pairs == len(pairs)


@pytest.mark.parametrize("seed", range(3))
def test_submanifold_equals_the_kd_tree(seed: int) -> None:
    print(f"seed {SEED + seed}")
    rng = np.random.default_rng(SEED + seed)
    indices = np.concatenate([rng.integers(0, 3, (6000, 1)), np.rint(rng.normal(64, 9, (6000, 3)))], 1).astype(int)
    cloud = canonicalise(indices, (128,) * 3, 3, depth=7)
    assert kd_pairs(cloud.indices) == map_pairs(submanifold(cloud.keys, 7)) and cloud.duplicates


def kd_pairs(indices: np.ndarray) -> set:
    """Rows (a, b), a < b, at most 1 apart along each axis, batch by batch."""
    found = set()
    for batch in np.unique(indices[:, 0]):
        rows = np.flatnonzero(indices[:, 0] == batch)
        near = rows[cKDTree(indices[rows, 1:]).query_pairs(1.01, p=np.inf, output_type="ndarray")]
        found.update(zip(*np.sort(near, axis=1).T.tolist(), strict=True))
    return found


def map_pairs(map: ConvMap) -> set:
    """The pairs of different rows, each once; asserts that the map has both directions and every centre."""
    centre = map.k == 13
    assert np.array_equal(map.out[centre], map.inp[centre]) and centre.sum() == map.rows
    up, down = map.inp > map.out, map.inp < map.out
    pairs = set(zip(map.out[up].tolist(), map.inp[up].tolist(), strict=True))
    assert pairs == set(zip(map.inp[down].tolist(), map.out[down].tolist(), strict=True))
    assert up.sum() == down.sum() == len(pairs)
    return pairs


# Corner cases of every operator ------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_empty_cloud(name: str) -> None:
    cloud = canonicalise(np.zeros((0, 4), int), (5, 5, 5), 2, depth=3)
    assert len(cloud) == cloud.dropped == 0 and cloud.indices.shape == (0, 4)
    map = run(name, cloud.keys, 3, (5, 5, 5))
    assert (map.rows, map.pairs, map.inputs, map.neighbours_per_row) == (0, 0, 0, 0.0)
    assert_canonical(map)
    pairs, number = rulebook(map)
    assert pairs.shape == (2, map.offsets, 0) and not number.any() and len(number) == map.offsets
    tree = build_tree(cloud.keys, 3)
    assert tree.counts == (0, 0, 0, 0) and [len(mask) for mask in tree.masks] == [0] * 4


@pytest.mark.parametrize("name", OPERATORS)
def test_single_voxel(name: str) -> None:
    indices = np.array([[1, 5, 2, 3]])
    cloud = canonicalise(indices, (8, 8, 8), 2, depth=3)
    map = run(name, cloud.keys, 3, (8, 8, 8))
    assert_canonical(map)
    digit, triples = 4 + 0 + 1, list(zip(map.out.tolist(), map.k.tolist(), map.inp.tolist(), strict=True))
    if name == "submanifold":
        assert triples == [(0, 13, 0)]
    elif name == "generative2":
        assert triples == [(k, k, 0) for k in range(8)]
        assert decode_keys(map.out_keys, 4)[0].tolist() == [1, 10, 4, 6]
    elif name == "stride3":     # x and z odd: two outputs along each
        assert decode_keys(map.out_keys, 2).tolist() == [[1, 2, 1, 1], [1, 3, 1, 1], [1, 2, 1, 2], [1, 3, 1, 2]]
        assert triples == [(0, 23, 0), (1, 5, 0), (2, 21, 0), (3, 3, 0)]
    elif name == "stride3_parents":
        assert triples == [(0, 23, 0)] and decode_keys(map.out_keys, 2).tolist() == [[1, 2, 1, 1]]
    else:
        assert triples == [(0, digit, 0)] and map.rows == 1
        down = name.startswith("down2")
        assert decode_keys(map.out_keys, 2 if down else 3).tolist() == [[1, 2, 1, 1] if down else [1, 5, 2, 3]]


def test_full_cube_97336_pairs() -> None:
    for depth, at in ((4, 0), (5, 16), (5, 7)):     # the whole grid, an octant, across octants
        cloud = canonicalise(cube(16, at), (1 << depth,) * 3, depth=depth)
        map = submanifold(cloud.keys, depth)
        assert map.pairs == 46 ** 3 == 97_336 and map.rows == 4096
        number = np.bincount(map.out)
        assert dict(zip(*np.unique(number, return_counts=True), strict=True)) == {
            8: 8, 12: 12 * 14, 18: 6 * 14 ** 2, 27: 14 ** 3}
        ends = np.isin(cloud.indices[:, 1:] - at, (0, 15)).all(axis=1)
        assert (number[ends] == 8).all() and ends.sum() == 8


@pytest.mark.parametrize("name, rows, pairs", [
    ("submanifold", 4096, 46 ** 3), ("down2", 512, 4096), ("down2_drop", 512, 4096), ("inverse2", 4096, 4096),
    ("inverse2_drop", 4096, 4096), ("generative2", 32768, 32768), ("stride3", 512, 23 ** 3),
    ("stride3_parents", 512, 23 ** 3)])
def test_full_grid(name: str, rows: int, pairs: int) -> None:
    map = run(name, np.arange(4096), 4, (16, 16, 16))
    assert (map.rows, map.pairs) == (rows, pairs) and map.neighbours_per_row == pairs / rows


@pytest.mark.parametrize("depth", (1, 4, 16))
def test_grid_corners_do_not_wrap(depth: int) -> None:
    """Voxels that would meet if a coordinate wrapped, and only then (depth 1: neighbours anyway)."""
    end = (1 << depth) - 1
    corners = np.array([[b, *corner] for b in (0, 1) for corner in itertools.product((0, end), repeat=3)])
    cloud = canonicalise(corners, (end + 1,) * 3, 2, depth=depth)
    assert len(cloud) == 16
    assert submanifold(cloud.keys, depth).pairs == (16 if depth > 1 else 16 * 8)
    assert [down2(cloud.keys, depth).rows, inverse2(cloud.keys).inputs] == [16 if depth > 1 else 2] * 2
    map = stride3(cloud.keys, depth)
    out = decode_keys(map.out_keys, depth - 1)
    # Output 2**(depth-1) along an axis is outside.
    assert map.rows == map.pairs == 16 if depth > 1 else (map.rows, map.pairs) == (2, 16)
    assert np.isin(out[:, 1:], (0, end // 2)).all()
    full = canonicalise(cube(3, max(end - 2, 0)), (end + 1,) * 3, depth=depth)
    number = np.bincount(submanifold(full.keys, depth).out)
    corner = (full.indices[:, 1:] == end).all(axis=1)
    assert number[corner].tolist() == [8]


@pytest.mark.parametrize("name", OPERATORS)
def test_batches_never_meet(name: str) -> None:
    shape, depth = (8, 8, 8), 3     # the whole grid: a batch ends where the next begins
    one = cube(8)
    cloud = canonicalise(np.concatenate([one + [b, 0, 0, 0] for b in (0, 1, 3)]), shape, 4, depth=depth)
    map = run(name, cloud.keys, depth, shape)
    single = run(name, canonicalise(one, shape, depth=depth).keys, depth, shape)
    assert (map.rows, map.pairs, map.inputs) == (3 * single.rows, 3 * single.pairs, 3 * single.inputs)
    for i in range(3):
        part = slice(i * single.pairs, (i + 1) * single.pairs)
        assert np.array_equal(map.out[part], single.out + i * single.rows)
        assert np.array_equal(map.inp[part], single.inp + i * single.inputs)
        assert np.array_equal(map.k[part], single.k)


def test_odd_shape_edge_keep_and_drop() -> None:
    cloud = canonicalise(cube(5), (5, 5, 5), depth=3)
    keep, drop = down2(cloud.keys, 3, (5, 5, 5)), down2(cloud.keys, 3, (5, 5, 5), edge="drop")
    assert (keep.rows, keep.pairs, drop.rows, drop.pairs) == (27, 125, 8, 64)
    assert decode_keys(keep.out_keys, 2).max() == 2 and decode_keys(drop.out_keys, 2).max() == 1
    assert keep.inputs == drop.inputs == 125
    even = down2(cloud.keys, 3, (6, 6, 6), edge="drop")
    assert np.array_equal(even.out_keys, keep.out_keys) and even.pairs == 125
    mixed = down2(cloud.keys, 3, (5, 6, 8), edge="drop")    # only along x
    assert (mixed.rows, mixed.pairs) == (18, 100)
    # Back again: what was left out has no pair.
    back = inverse2(cloud.keys, drop.out_keys)
    assert (back.rows, back.pairs, back.inputs) == (125, 64, 8)
    assert np.array_equal(back.out, drop.inp) and np.array_equal(back.k, drop.k) and np.array_equal(back.inp, drop.out)
    whole = inverse2(cloud.keys)
    assert (whole.rows, whole.pairs, whole.inputs) == (125, 125, 27)
    for name in ("dilate", "parents"):
        assert stride3(cloud.keys, 3, name, (5, 5, 5)).rows == 27


def test_stride_drops_everything() -> None:
    cloud = canonicalise(np.array([[0, 4, 1, 1], [0, 4, 2, 2], [1, 0, 0, 4]]), (5, 5, 5), 2, depth=3)
    drop = down2(cloud.keys, 3, (5, 5, 5), edge="drop")
    assert (drop.rows, drop.pairs, drop.inputs) == (0, 0, 3)
    for name in OPERATORS:      # and what follows takes it
        after = run(name, drop.out_keys, 2, (2, 2, 2))
        assert (after.rows, after.pairs) == (0, 0)
    back = inverse2(cloud.keys, drop.out_keys)
    assert (back.rows, back.pairs, back.inputs) == (3, 0, 0)


def test_dilated_outputs_stay_in_the_dense_output_shape() -> None:
    for side, rows in ((8, 4), (7, 4), (6, 3), (5, 3)):
        keys = canonicalise(np.array([[0, side - 1, 0, 0]]), (side,) * 3, depth=3).keys
        found = decode_keys(stride3(keys, 3, spatial_shape=(side,) * 3).out_keys, 2)
        assert found.tolist() == [[0, rows - 1, 0, 0]]
    # Without a shape the grid of the keys is the limit.
    assert decode_keys(stride3(encode_keys(np.array([[0, 5, 0, 0]]), 3), 3).out_keys, 2)[:, 1].tolist() == [2, 3]


# Rulebook, order, speed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_rulebook_lists_every_pair(name: str) -> None:
    indices, shape, batches, depth = CLOUDS["odd"]
    map = run(name, canonicalise(indices, shape, batches, depth=depth).keys, depth, shape)
    pairs, number = rulebook(map)
    assert pairs.shape == (2, map.offsets, map.inputs) and number.sum() == map.pairs > 0
    assert pairs.dtype == number.dtype == np.int32
    place = np.arange(map.inputs) < number[:, None]
    assert ((pairs >= 0) == place).all() and (pairs[:, ~place] == -1).all()
    k = np.broadcast_to(np.arange(map.offsets)[:, None], place.shape)[place]
    order = np.lexsort((k, pairs[1][place]))
    for mine, theirs in ((map.out, pairs[1][place]), (map.k, k), (map.inp, pairs[0][place])):
        assert np.array_equal(mine, theirs[order])
    for row, some in zip(pairs[1], number, strict=True):
        assert (np.diff(row[:some]) > 0).all()


voxels = st.lists(st.tuples(st.integers(0, 1), *[st.integers(0, 7)] * 3), max_size=60, unique=True)


@settings(max_examples=40, deadline=None)
@given(voxels, st.randoms(use_true_random=False), st.sampled_from(OPERATORS))
def test_input_order_does_not_show(rows: list, random, name: str) -> None:
    indices = np.array(rows, np.int64).reshape(-1, 4)
    turn = np.array(random.sample(range(len(rows)), len(rows)), np.int64)
    first = canonicalise(indices, (8, 8, 7), 2, depth=3)
    second = canonicalise(indices[turn], (8, 8, 7), 2, depth=3)
    assert (np.diff(first.keys) > 0).all() and len(first) + first.dropped == len(rows) and not first.duplicates
    assert np.array_equal(first.keys, second.keys) and np.array_equal(first.perm, turn[second.perm])
    one, two = run(name, first.keys, 3, (8, 8, 7)), run(name, second.keys, 3, (8, 8, 7))
    assert_canonical(one)
    assert all(np.array_equal(getattr(one, key), getattr(two, key)) for key in ("out", "k", "inp", "out_keys"))


def test_100k_voxels_in_time() -> None:
    x, y = np.meshgrid(np.arange(330), np.arange(330), indexing="ij")
    z = np.rint(200 + 40 * np.sin(x / 30) + 30 * np.cos(y / 20)).astype(int)
    indices = np.stack([np.zeros_like(x), x, y, z], -1).reshape(-1, 4)
    cloud = canonicalise(indices, (512,) * 3, depth=9)
    start = time.process_time()
    map = submanifold(cloud.keys, 9)
    taken = time.process_time() - start
    assert map.rows > 100_000 and map.neighbours_per_row > 5
    assert taken < 2, f"{taken:.2f} s of CPU"      # about 0.1 s on the machine it was written on


# Real frames -------------------------------------------------------------------------------------------


# Frame, voxel side in metres, nodes of the levels up to a single root (counted once with other software).
FRAMES = [("ouster_os1_128.npy", 0.1, (77741, 44684, 20408, 8029, 2970, 1045, 326, 107, 37, 17, 5, 2, 1), 5.19),
          ("ouster_os1_128.npy", 0.05, (103091,), 2.98),
          ("pcl_office1.pcd", 0.02, (67104, 23684, 7683, 1888, 472, 122, 28, 8, 1), 8.02)]


@pytest.mark.parametrize("name, side, counts, mean", FRAMES)
def test_real_frames(name: str, side: float, counts: tuple[int, ...], mean: float) -> None:
    if "BITKILN_DATA" not in os.environ:
        pytest.skip("BITKILN_DATA does not name a folder of optional data")
    path = Path(os.environ["BITKILN_DATA"]) / "pointclouds" / name
    if not path.exists():
        pytest.skip(f"no {name} in $BITKILN_DATA/pointclouds")
    points = read_points(path).points
    if name.endswith(".pcd"):
        points = points[:, [0, 2, 1]]       # camera frame: the vertical axis last
    grid = np.floor(points / side).astype(np.int64)
    grid -= grid.min(axis=0)
    depth = int(grid.max()).bit_length()
    cloud = canonicalise(np.insert(grid, 0, 0, axis=1), grid.max(axis=0) + 1, depth=depth)
    assert build_tree(cloud.keys, depth).counts[:len(counts)] == counts
    assert cloud.dropped == 0 and cloud.duplicates == len(points) - len(cloud)
    map = submanifold(cloud.keys, depth)
    assert round(map.neighbours_per_row, 2) == mean
    assert kd_pairs(cloud.indices) == map_pairs(map)
    assert down2(cloud.keys, depth).rows == build_tree(cloud.keys, depth).counts[1]
