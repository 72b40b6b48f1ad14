"""Golden sparse convolution against dense convolution in torch, spconv's CPU kernels and ocnn's neighbour tables.

Optional: none of the packages is needed for anything else. All of them run with one thread: with more, spconv 2.3.8's
CPU kernels of 3^3 lose additions at random. Features and weights are integers whose sums float32 holds exactly.
"""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from bitkiln.models.golden.spconv import (
    Cloud,
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
from bitkiln.models.golden.spconv_features import feature_sums
from bitkiln.models.workloads.pointcloud import read_points

torch = pytest.importorskip("torch", reason="torch is not installed (an optional oracle)")

SEED = 331
DEPTH, BATCHES = 5, 2
SHAPES = {"odd": (21, 17, 9), "even": (20, 18, 8)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    print(f"seed {SEED}")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spconv():
    return pytest.importorskip("spconv.pytorch", reason="spconv is not installed (an optional oracle)")


@pytest.fixture
def ocnn(monkeypatch: pytest.MonkeyPatch):
    """Its networks want one class of torchvision, whose wheels do not load beside a CPU-only torch."""
    models = types.ModuleType("torchvision.models")
    models.resnet18 = None
    vision = types.ModuleType("torchvision")
    vision.models = models
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return pytest.importorskip("ocnn", reason="ocnn is not installed (an optional oracle)")


def cloud_of(shape, density: float = 0.12, seed: int = SEED) -> Cloud:
    indices = np.argwhere(np.random.default_rng(seed).random((BATCHES, *shape)) < density)
    return canonicalise(indices, shape, BATCHES, depth=DEPTH)


def operands(map: ConvMap, inputs: int = 5, outputs: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """INT8 values, 40 % of the features zero."""
    rng = np.random.default_rng(SEED)
    x = np.where(rng.random((map.inputs, inputs)) < 0.4, 0, rng.integers(-128, 128, (map.inputs, inputs)))
    return x, rng.integers(-128, 128, (outputs, *[map.kernel] * 3, inputs))


def sums_of(map: ConvMap, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return feature_sums(map, x & 255, w & 255, "int8", "int8", 32).exact.integers()


# Dense -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ("submanifold", "down2_drop", "stride3", "stride3_parents", "inverse2", "generative2"))
def test_features_equal_dense_convolution(name: str, shape) -> None:
    cloud = cloud_of(shape)
    keys, depth = cloud.keys, DEPTH
    map, out_depth, options = {
        "submanifold": lambda: (submanifold(keys, depth), depth, {"padding": 1}),
        "down2_drop": lambda: (down2(keys, depth, shape, edge="drop"), depth - 1, {"stride": 2}),
        "stride3": lambda: (stride3(keys, depth, spatial_shape=shape), depth - 1, {"stride": 2, "padding": 1}),
        "stride3_parents": lambda: (stride3(keys, depth, "parents"), depth - 1, {"stride": 2, "padding": 1}),
        "inverse2": lambda: (inverse2(keys), depth, {"stride": 2}),
        "generative2": lambda: (generative2(keys), depth + 1, {"stride": 2}),
    }[name]()
    x, w = operands(map)
    transposed = name in ("inverse2", "generative2")
    indices = decode_keys(np.unique(keys >> 3), depth - 1) if name == "inverse2" else cloud.indices
    sides = tuple((side + 1) // 2 for side in shape) if name == "inverse2" else shape
    grid = torch.zeros((BATCHES, *sides, x.shape[1]), dtype=torch.float64)
    grid[tuple(indices.T)] = torch.from_numpy(x.astype(np.float64))
    weight = torch.from_numpy(w.astype(np.float64))
    if transposed:
        dense = torch.nn.functional.conv_transpose3d(grid.movedim(-1, 1), weight.permute(4, 0, 1, 2, 3), **options)
    else:
        dense = torch.nn.functional.conv3d(grid.movedim(-1, 1), weight.permute(0, 4, 1, 2, 3), **options)
    wanted = dense.movedim(1, -1).numpy()[tuple(decode_keys(map.out_keys, out_depth).T)]
    assert np.array_equal(sums_of(map, x, w), wanted) and map.rows > 100
    # Where the map has no row the dense result is zero: nothing is missing (but parents, which are fewer).
    if name in ("stride3", "down2_drop", "generative2"):
        assert np.count_nonzero(dense.numpy()) == np.count_nonzero(wanted)


# spconv ------------------------------------------------------------------------------------------------


def sparse_tensor(spconv, cloud: Cloud, x: np.ndarray):
    return spconv.SparseConvTensor(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(cloud.indices),
                                   list(cloud.spatial_shape), cloud.batch_size)


def with_weights(layer, w: np.ndarray):
    assert tuple(layer.weight.shape) == w.shape
    layer.weight.data = torch.from_numpy(w.astype(np.float32))
    return layer


def canonical(tensor, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys and features in canonical order: spconv numbers strided outputs in the order of their first pair."""
    keys = encode_keys(tensor.indices.numpy(), depth)
    order = np.argsort(keys)
    return keys[order], tensor.features.detach().numpy()[order]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ("submanifold", "down2", "stride3", "generative2"))
def test_features_equal_spconv(spconv, name: str, shape) -> None:
    cloud = cloud_of(shape)
    keys = cloud.keys
    map, depth, layer = {
        "submanifold": lambda: (submanifold(keys, DEPTH), DEPTH, spconv.SubMConv3d(5, 6, 3, bias=False)),
        "down2": lambda: (down2(keys, DEPTH, shape, edge="drop"), DEPTH - 1,
                          spconv.SparseConv3d(5, 6, 2, stride=2, bias=False)),
        "stride3": lambda: (stride3(keys, DEPTH, spatial_shape=shape), DEPTH - 1,
                            spconv.SparseConv3d(5, 6, 3, stride=2, padding=1, bias=False)),
        "generative2": lambda: (generative2(keys), DEPTH + 1,
                                spconv.SparseConvTranspose3d(5, 6, 2, stride=2, bias=False)),
    }[name]()
    x, w = operands(map)
    out_keys, features = canonical(with_weights(layer, w)(sparse_tensor(spconv, cloud, x)), depth)
    assert np.array_equal(out_keys, map.out_keys) and map.rows > 100
    assert np.array_equal(features, sums_of(map, x, w))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_inverse_convolution_equals_spconv(spconv, shape) -> None:
    """Down and up again: back to the rows of before, and zeros where the odd edge was dropped."""
    cloud = cloud_of(shape)
    down = down2(cloud.keys, DEPTH, shape, edge="drop")
    up = inverse2(cloud.keys, down.out_keys)
    rng = np.random.default_rng(SEED)
    x = np.where(rng.random((down.inputs, 3)) < 0.4, 0, rng.integers(-8, 8, (down.inputs, 3)))
    first, second = rng.integers(-8, 8, (4, 2, 2, 2, 3)), rng.integers(-8, 8, (5, 2, 2, 2, 4))
    coarse = with_weights(spconv.SparseConv3d(3, 4, 2, stride=2, bias=False, indice_key="down"), first)(
        sparse_tensor(spconv, cloud, x))
    fine = with_weights(spconv.SparseInverseConv3d(4, 5, 2, indice_key="down", bias=False), second)(coarse)
    middle = sums_of(down, x, first)
    wanted = feature_sums(up, middle & 0xFFFF, second & 255, "int16", "int8").exact.integers()
    assert np.array_equal(canonical(coarse, DEPTH - 1)[1], middle)
    assert np.array_equal(fine.indices.numpy(), cloud.indices)
    assert np.array_equal(fine.features.detach().numpy(), wanted)
    assert (up.pairs < up.rows) == (shape == SHAPES["odd"])


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ("submanifold", "down2", "stride3", "generative2"))
def test_rulebooks_equal_spconv(spconv, name: str, shape) -> None:
    from spconv.core import ConvAlgo
    cloud = cloud_of(shape)
    keys, depth = cloud.keys, {"submanifold": DEPTH, "generative2": DEPTH + 1}.get(name, DEPTH - 1)
    map, kernel, stride, padding = {
        "submanifold": lambda: (submanifold(keys, DEPTH), 3, 1, 1),
        "down2": lambda: (down2(keys, DEPTH, shape, edge="drop"), 2, 2, 0),
        "stride3": lambda: (stride3(keys, DEPTH, spatial_shape=shape), 3, 2, 1),
        "generative2": lambda: (generative2(keys), 2, 2, 0),
    }[name]()
    indices, pairs, number = spconv.ops.get_indice_pairs(
        torch.from_numpy(cloud.indices), BATCHES, list(shape), ConvAlgo.Native, [kernel] * 3, [stride] * 3,
        [padding] * 3, [1] * 3, [0] * 3, name == "submanifold", name == "generative2")
    pairs, number = pairs.numpy(), number.numpy()
    mine, my_number = rulebook(map)
    assert pairs.shape == mine.shape
    rank = np.searchsorted(map.out_keys, encode_keys(indices.numpy(), depth))   # of their output rows
    assert len(rank) == map.rows and np.array_equal(np.sort(rank), np.arange(map.rows))

    def book(of: np.ndarray, k: int, some: int, rows: np.ndarray) -> set:
        return set(zip(of[0, k, :some].tolist(), rows[of[1, k, :some]].tolist(), strict=True))

    same = np.arange(map.rows)
    for k in range(map.offsets):
        ours = book(mine, k, my_number[k], same)
        if name == "submanifold" and k >= 13:   # spconv leaves them out: the centre is every row, the rest mirrored
            assert number[k] == 0
            assert ours == {(inp, out) for out, inp in book(pairs, 26 - k, number[26 - k], rank)} if k > 13 else \
                ours == set(zip(same.tolist(), same.tolist(), strict=True))
        else:
            assert number[k] == my_number[k] > 0 and ours == book(pairs, k, number[k], rank)


# ocnn --------------------------------------------------------------------------------------------------


def octree_of(ocnn, cloud: Cloud):
    points = (torch.from_numpy(cloud.indices[:, 1:]).double() + 0.5) / 2 ** (cloud.depth - 1) - 1
    octree = ocnn.octree.Octree(cloud.depth, full_depth=1, batch_size=cloud.batch_size)
    octree.build_octree(ocnn.octree.Points(points, batch_id=torch.from_numpy(cloud.indices[:, :1]),
                                           batch_size=cloud.batch_size))
    octree.construct_all_neigh()
    return octree


def table_of(map: ConvMap) -> np.ndarray:
    """(rows, offsets): input rows, -1 where there is none."""
    table = np.full((map.rows, map.offsets), -1)
    table[map.out, map.k] = map.inp
    return table


def test_keys_equal_ocnn(ocnn) -> None:
    rng = np.random.default_rng(SEED)
    indices = rng.integers(0, 1 << 16, (1000, 4)) % [64, 1 << 16, 1 << 16, 1 << 16]
    theirs = ocnn.octree.xyz2key(*torch.from_numpy(indices[:, [1, 2, 3, 0]]).T, 16)
    assert np.array_equal(encode_keys(indices, 16), theirs.numpy())


def assert_tables_equal(ocnn, cloud: Cloud, levels: int) -> None:
    octree, tree = octree_of(ocnn, cloud), build_tree(cloud.keys, cloud.depth)
    for level in range(levels):
        depth = cloud.depth - level
        keys = tree.levels[level]
        assert len(keys) == int(octree.nnum_nempty[depth])
        assert np.array_equal(decode_keys(keys, depth)[:, 1:], np.stack(octree.xyzb(depth, True)[:3], axis=1))
        wanted = octree.get_neigh(depth, "333", 1, nempty=True).numpy()
        assert np.array_equal(table_of(submanifold(keys, depth)), wanted)
        if level + 1 < levels:
            wanted = octree.get_neigh(depth, "222", 2, nempty=True).numpy()
            assert np.array_equal(table_of(down2(keys, depth)), wanted)
            wanted = octree.get_neigh(depth, "333", 2, nempty=True).numpy()
            assert np.array_equal(table_of(stride3(keys, depth, "parents")), wanted)


@pytest.mark.parametrize("density", (0.01, 0.12, 0.6))
def test_neighbour_tables_equal_ocnn(ocnn, density: float) -> None:
    assert_tables_equal(ocnn, cloud_of((32, 32, 32), density), 4)


@pytest.mark.parametrize("name, side", [("ouster_os1_128.npy", 0.1), ("pcl_office1.pcd", 0.02)])
def test_neighbour_tables_of_real_frames_equal_ocnn(ocnn, name: str, side: float) -> None:
    if "BITKILN_DATA" not in os.environ:
        pytest.skip("BITKILN_DATA does not name a folder of optional data")
    path = Path(os.environ["BITKILN_DATA"]) / "pointclouds" / name
    if not path.exists():
        pytest.skip(f"no {name} in $BITKILN_DATA/pointclouds")
    grid = np.floor(read_points(path).points / side).astype(np.int64)
    grid -= grid.min(axis=0)
    depth = int(grid.max()).bit_length()
    cloud = canonicalise(np.insert(grid, 0, 0, axis=1), grid.max(axis=0) + 1, depth=depth)
    assert len(cloud) > 60_000
    assert_tables_equal(ocnn, cloud, 5)


@pytest.mark.parametrize("name", ("submanifold", "down2", "stride3_parents", "inverse2"))
def test_features_equal_ocnn(ocnn, name: str) -> None:
    cloud = cloud_of((32, 32, 32))
    keys = cloud.keys
    map, kernel, stride = {
        "submanifold": lambda: (submanifold(keys, DEPTH), 3, 1),
        "down2": lambda: (down2(keys, DEPTH), 2, 2),
        "stride3_parents": lambda: (stride3(keys, DEPTH, "parents"), 3, 2),
        "inverse2": lambda: (inverse2(keys), 2, 2),
    }[name]()
    x, w = operands(map)
    layer = (ocnn.nn.OctreeDeconv if name == "inverse2" else ocnn.nn.OctreeConv)(5, 6, [kernel], stride, nempty=True)
    ours = w.reshape(6, map.offsets, 5)
    weights = ours.transpose(1, 0, 2) if name == "inverse2" else ours.transpose(1, 2, 0)
    assert layer.weights.shape == weights.shape
    layer.weights.data = torch.from_numpy(np.ascontiguousarray(weights).astype(np.float32))
    found = layer(torch.from_numpy(x.astype(np.float32)), octree_of(ocnn, cloud), DEPTH - (name == "inverse2"))
    assert np.array_equal(found.detach().numpy(), sums_of(map, x, w)) and map.rows > 100
