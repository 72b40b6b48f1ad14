"""k-means codebooks and sparse outliers."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.quantize.kmeans import kmeans_rows, nearest_entry
from bitkiln.models.quantize.methods import quantize

RNG = np.random.default_rng(77)
HEAVY = RNG.standard_t(3, (6, 200))


def inertia(values, weights, centres):
    return sum(w * min((v - c) ** 2 for c in centres) for v, w in zip(values, weights, strict=True))


def best_split(values, count):
    """Least inertia of any partition of sorted values into ``count`` runs (the optimum in one dimension)."""
    ordered = sorted(values)
    least = np.inf
    for cuts in combinations(range(1, len(ordered)), count - 1):
        runs = [ordered[a:b] for a, b in zip((0, *cuts), (*cuts, len(ordered)), strict=True)]
        least = min(least, sum(sum((v - sum(run) / len(run)) ** 2 for v in run) for run in runs))
    return least


def test_centres_are_means_of_their_values():
    """Lloyd's condition, weighted: every centre with values is their mean, and every value is with its nearest."""
    weights = RNG.random((6, 200))
    weights[0, ::3] = 0
    centres = kmeans_rows(HEAVY, weights, 8)
    assert centres.shape == (6, 8) and (np.diff(centres, axis=1) >= 0).all()
    assert np.array_equal(centres, kmeans_rows(HEAVY, weights, 8))   # nothing is left to chance
    for values, weight, line in zip(HEAVY, weights, centres, strict=True):
        member = [int(np.argmin(np.abs(line - v))) for v in values]
        for i, centre in enumerate(line):
            mine = [j for j in range(200) if member[j] == i and weight[j] > 0]
            if mine:
                mean = sum(Fraction(values[j]) * Fraction(weight[j]) for j in mine) / sum(
                    Fraction(weight[j]) for j in mine)
                assert centre == pytest.approx(float(mean), rel=1e-9, abs=1e-9)


def test_centres_are_near_the_optimum():
    """Against all partitions of 14 values into 4 runs; two starts find the best of most rows and never miss by far."""
    rows = np.random.default_rng(5).standard_t(3, (25, 14))
    ratios = [inertia(row, np.ones(14), centres) / best_split(row.tolist(), 4)
              for row, centres in zip(rows, kmeans_rows(rows, None, 4), strict=True)]
    assert min(ratios) >= 1 - 1e-9
    assert sum(r < 1 + 1e-9 for r in ratios) >= 15 and max(ratios) < 2


def test_few_different_values_are_met_exactly():
    row = np.array([[3.0, -1.0, 0.5, 3.0, 0.5, -1.0, 7.0, 7.0]])
    centres = kmeans_rows(row, None, 8)
    assert np.array_equal(np.take_along_axis(centres, nearest_entry(row, centres), axis=1), row)


def test_values_without_weight_do_not_pull():
    row = np.array([[0.0, 1.0, 2.0, 100.0]])
    centres = kmeans_rows(row, np.array([[1.0, 1.0, 1.0, 0.0]]), 4)
    assert centres.max() <= 2
    assert kmeans_rows(row, np.zeros((1, 4)), 4).max() == 100    # no weight at all: all count


def test_nearest_entry_takes_the_lower_midway():
    assert nearest_entry(np.array([[0.5, 1.5, -9.0, 9.0, 0.500001]]), np.array([[0.0, 1.0, 2.0]])).tolist() == \
        [[0, 1, 0, 2, 1]]


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("outliers", [0.0, 0.45, 5.0])
def test_squeezellm(bits, outliers):
    """Stored fp16 entries, nearest codes, and the largest weights exact but for fp16."""
    q = quantize("squeezellm", HEAVY, bits, outliers=outliers)
    count = int(outliers * HEAVY.size / 100)
    largest = set(np.argsort(-np.abs(HEAVY).ravel(), kind="stable")[:count].tolist())
    assert q.codebook.shape == (6, 1 << bits) and q.codebook.dtype == np.float16 and q.types == ()
    found = q.dequantise()
    sparse = {} if count == 0 else {
        int(r) * 200 + int(c): float(v)
        for r, c, v in zip(q.outlier_row, q.outlier_column, q.outlier_value, strict=True)}
    assert set(sparse) == largest
    for index, w in enumerate(HEAVY.ravel().tolist()):
        entries = q.codebook[index // 200].astype(float).tolist()
        dense = min(entries, key=lambda e: abs(e - (0.0 if index in largest else w)))
        assert entries[q.codes.ravel()[index]] == dense
        if index in largest:
            assert sparse[index] == float(np.float16(w - dense))
        assert found.ravel()[index] == dense + sparse.get(index, 0.0)
    parts = {"codes": bits * 1200, "codebooks": 6 * 16 * (1 << bits), "outlier values": 16 * count,
             "outlier columns": 16 * count, "outlier rows": 32 * 7}
    assert q.bits == {key: bits for key, bits in parts.items() if count or not key.startswith("outlier")}


def test_sensitivity_moves_the_codebook():
    """Weights that matter get the entries; the weighted error falls, the plain one rises."""
    values = np.random.default_rng(1).standard_normal((4, 300))
    sensitivity = np.where(values > 0.5, 100.0, 0.01)
    plain, weighted = (quantize("squeezellm", values, 3, outliers=0.0, sensitivity=s) for s in (None, sensitivity))

    def lost(q):
        return np.sum(sensitivity * (q.dequantise() - values) ** 2)
    assert lost(weighted) < 0.3 * lost(plain) and weighted.nmse(values) > plain.nmse(values)


@pytest.mark.parametrize("base", ["rtn_sym", "rtn_asym", "bitmod"])
def test_dense_sparse_is_the_base_without_outliers(base):
    q = quantize("dense_sparse", HEAVY, 3, 64, base=base, outliers=1.0)
    border = np.sort(np.abs(HEAVY).ravel())[-12]
    mask = np.abs(HEAVY) >= border
    assert mask.sum() == 12 == len(q.outlier_value)
    inner = quantize(base, np.where(mask, 0, HEAVY), 3, 64)
    assert np.array_equal(inner.codes, q.codes)
    dense = inner.dequantise()
    assert np.array_equal(q.dequantise()[~mask], dense[~mask])
    assert np.array_equal(q.dequantise()[mask], dense[mask] + (HEAVY - dense)[mask].astype(np.float16))
    assert q.method == f"dense_sparse({base})"
    assert q.bits == inner.bits | {"outlier values": 16 * 12, "outlier columns": 16 * 12, "outlier rows": 32 * 7}


def test_equal_magnitudes_give_the_first_outliers():
    q = quantize("dense_sparse", np.ones((2, 10)) * [[1], [-1]], 4, outliers=30.0)
    assert q.outlier_row.tolist() == [0] * 6 and q.outlier_column.tolist() == [0, 1, 2, 3, 4, 5]
    few = quantize("dense_sparse", np.eye(1, 20), 4, outliers=50.0)
    assert few.outlier_column.tolist() == [0]     # zeros are no outliers


@pytest.mark.parametrize(("options", "message"), [
    ({"outliers": -1.0}, "out of range at outliers: got '-1.0', expected 0 to 50 per cent"),
    ({"outliers": 51}, "out of range at outliers: got '51', expected 0 to 50 per cent"),
    ({"outliers": "many"}, "out of range at outliers: got 'many', expected 0 to 50 per cent"),
    ({"sensitivity": np.ones((6, 4))}, "sensitivity does not fit the weights at sensitivity: got '(6, 4)', "
                                       "expected shape (6, 200), no negative number"),
    ({"sensitivity": -np.ones((6, 200))}, "sensitivity does not fit the weights at sensitivity: got '(6, 200)', "
                                          "expected shape (6, 200), no negative number"),
    ({"sensitivity": np.full((6, 200), np.nan)}, "NaN or Inf in tensor at sensitivity[0, 0]: got nan, expected "
                                                 "finite values (1200 of 1200 are not)"),
    ({"group": 128}, "group without meaning at group: got '128', expected none: a codebook a row\n"
                     "help: leave the group out"),
])
def test_bad_options(options, message):
    with pytest.raises(BitkilnError) as caught:
        quantize("squeezellm", HEAVY, 3, **options)
    assert str(caught.value) == f"error: {message}"
