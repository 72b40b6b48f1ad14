"""Keys, canonical order and tree of sparse convolution, and the operands that are refused."""

import itertools

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.spconv import (
    build_tree,
    canonicalise,
    decode_keys,
    down2,
    encode_keys,
    generative2,
    stride3,
    submanifold,
)
from bitkiln.models.golden.spconv_cloud import moved

SEED = 311


def cube(side: int, batch: int = 0) -> np.ndarray:
    return np.array([(batch, *voxel) for voxel in itertools.product(range(side), repeat=3)])


@pytest.mark.parametrize("depth", (1, 5, 11, 16, 19))
def test_keys_interleave_with_x_first(depth: int) -> None:
    rng = np.random.default_rng(SEED)
    indices = np.concatenate([rng.integers(0, 64, (50, 1)), rng.integers(0, 1 << depth, (50, 3))], axis=1)
    indices[:2] = [[0, 0, 0, 0], [63, *[(1 << depth) - 1] * 3]]
    keys = encode_keys(indices, depth)
    for (batch, x, y, z), key in zip(indices.tolist(), keys.tolist(), strict=True):
        digits = "".join(f"{x >> i & 1}{y >> i & 1}{z >> i & 1}" for i in reversed(range(depth)))
        assert key == int(f"{batch:b}{digits}", 2)
    assert np.array_equal(decode_keys(keys, depth), indices) and decode_keys(keys, depth).dtype == np.int32


def test_moved_keys_equal_moved_coordinates() -> None:
    indices = np.concatenate([cube(4, batch=b) for b in (0, 1, 5)])
    keys = encode_keys(indices, 2)
    for step in itertools.product((-1, 0, 1), repeat=3):
        found, inside = moved(keys, 2, step)
        wanted = indices + [0, *step]
        assert np.array_equal(inside, ((wanted[:, 1:] >= 0) & (wanted[:, 1:] < 4)).all(axis=1))
        assert np.array_equal(decode_keys(found[inside], 2), wanted[inside])


def test_duplicates_keep_first() -> None:
    indices = np.array([[0, 3, 1, 2], [0, 0, 0, 1], [0, 3, 1, 2], [0, 0, 0, 0], [0, 0, 0, 1], [0, 3, 1, 2]])
    cloud = canonicalise(indices, (4, 4, 4), depth=2)
    assert cloud.indices.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 3, 1, 2]]
    assert cloud.perm.tolist() == [3, 1, 0] and cloud.inverse.tolist() == [2, 1, -1, 0, -1, -1]
    assert (cloud.dropped, cloud.duplicates, len(cloud)) == (0, 3, 3)
    assert submanifold(cloud.keys, 2).out_keys.tolist() == [0, 1, 46]
    with pytest.raises(BitkilnError, match=r"voxel given twice at indices\[2\]: got '\[0, 3, 1, 2\]'"):
        canonicalise(indices, (4, 4, 4), depth=2, strict=True)


def test_out_of_range_dropped_and_counted() -> None:
    good = [[0, 0, 0, 0], [1, 4, 2, 3]]
    bad = [[0, 5, 0, 0], [0, 0, 3, 0], [0, 0, 0, 4], [0, -1, 0, 0], [0, 0, 0, -2 ** 40], [-1, 0, 0, 0], [2, 0, 0, 0],
           [0, 2 ** 40, 0, 0], [2 ** 62, 0, 0, 0]]
    for turn in itertools.permutations(range(3)):
        rows = [[bad, good, good[:1]][i] for i in turn]
        indices = np.array(sum(rows, []), np.int64)
        cloud = canonicalise(indices, (5, 3, 4), 2, depth=3)
        assert cloud.indices.tolist() == good and (cloud.dropped, cloud.duplicates) == (len(bad), 1)
        assert np.array_equal(indices[cloud.perm], good) and np.array_equal(cloud.inverse[cloud.perm], [0, 1])
        assert (cloud.inverse < 0).sum() == len(bad) + 1
    for row in bad:
        with pytest.raises(BitkilnError, match=r"voxel out of range at indices\[2\]: got '\["):
            canonicalise(np.array([*good, row]), (5, 3, 4), 2, depth=3, strict=True)
    huge = np.array([[0, 0, 0, (1 << 64) - 1]], np.uint64)
    assert canonicalise(huge, (8, 8, 8), depth=3).dropped == 1
    assert canonicalise(np.array(good, np.uint8), (5, 3, 4), 2, depth=3, strict=True).dropped == 0


def test_depth_limit() -> None:
    indices = np.zeros((1, 4), int)
    assert len(canonicalise(indices, (8, 8, 8), depth=3)) == 1
    for shape in ((9, 1, 1), (1, 9, 1), (1, 1, 9)):
        with pytest.raises(BitkilnError, match="grid too large for the keys at spatial_shape.*up to 8 with depth 3"):
            canonicalise(indices, shape, depth=3)
        with pytest.raises(BitkilnError, match="grid too large for the keys"):
            down2(np.array([0]), 3, shape)
    for depth in (-1, 20, 2.0, True):
        with pytest.raises(BitkilnError, match="out of range at depth"):
            canonicalise(indices, (1, 1, 1), depth=depth)
    for operator in (down2, stride3):
        with pytest.raises(BitkilnError, match="out of range at depth: got 0, expected 1 to 19"):
            operator(np.array([0]), 0)


def test_capacity() -> None:
    indices = np.concatenate([cube(2), cube(2), [[0, 9, 9, 9]]])    # duplicates and dropped rows take no room
    assert len(canonicalise(indices, (4, 4, 4), depth=2, capacity=8)) == 8
    with pytest.raises(BitkilnError, match="too many voxels at indices: got 8, expected at most 7"):
        canonicalise(indices, (4, 4, 4), depth=2, capacity=7)


def test_wrong_operands_are_refused() -> None:
    good = np.zeros((1, 4), int)
    for indices, message in ((np.zeros((2, 3), int), r"wrong shape at indices: got \(2, 3\)"),
                             (np.zeros((2, 4)), "wrong dtype at indices: got 'float64'")):
        with pytest.raises(BitkilnError, match=message):
            canonicalise(indices, (1, 1, 1), depth=1)
    for shape in ((1, 1), (1, 1, 0), (1.5, 1, 1), 4):
        with pytest.raises(BitkilnError, match="not a shape at spatial_shape"):
            canonicalise(good, shape, depth=1)
    for batches in (0, 1 << 61, 1.0):
        with pytest.raises(BitkilnError, match="out of range at batch_size"):
            canonicalise(good, (1, 1, 1), batches, depth=1)
    with pytest.raises(BitkilnError, match=r"voxel outside the grid at indices\[0\]: got '\[0, 0, 2, 0\]'"):
        encode_keys(np.array([[0, 0, 2, 0]]), 1)
    for keys in ([2, 1], [1, 1], [-1, 1]):
        with pytest.raises(BitkilnError, match="keys not in canonical order"):
            submanifold(np.array(keys), 2)
    with pytest.raises(BitkilnError, match=r"not keys at keys: got 'float64 \(1,\)'"):
        generative2(np.zeros(1))
    with pytest.raises(BitkilnError, match="unknown choice at edge: got 'crop', expected keep or drop"):
        down2(np.array([0]), 1, edge="crop")
    with pytest.raises(BitkilnError, match="unknown choice at mode: got 'parent'.*\nhelp: did you mean parents"):
        stride3(np.array([0]), 1, "parent")
    with pytest.raises(BitkilnError, match=r"voxels outside the grid at keys: expected coordinates inside \(1, 2, 2\)"):
        down2(np.array([4]), 1, (1, 2, 2))


def test_tree_words_lead_to_every_voxel() -> None:
    rng = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    indices = np.concatenate([cube(9), np.argwhere(rng.random((3, 32, 32, 32)) < 0.003)])
    cloud = canonicalise(indices, (32, 32, 32), 3, depth=5)
    tree = build_tree(cloud.keys, 5)
    assert tree.counts[-1] == 3 and tree.counts[0] == len(cloud) and len(tree.levels) == 6
    for level in range(1, 6):
        nodes, below = tree.levels[level], tree.levels[level - 1]
        assert nodes.tolist() == sorted({key >> 3 * level for key in cloud.keys.tolist()})
        assert len(tree.masks[level]) == len(tree.bases[level]) == len(nodes)
        seen, words = 0, zip(tree.masks[level].tolist(), tree.bases[level].tolist(), strict=True)
        for node, (mask, base) in zip(nodes.tolist(), words, strict=True):
            for c in range(8):
                rank = base + (mask & ((1 << c) - 1)).bit_count()
                there = mask >> c & 1
                assert not there or below[rank] == node << 3 | c
                seen += there
        assert seen == len(below)
