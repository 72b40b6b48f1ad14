"""The golden model of the codebook array against plain fractions, and its product against its streams."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from bitkiln.models.cost.cycles.codebook_array import array_cycles, block_cycles, never_waits
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.codebook import Codebooks, table_codes
from bitkiln.models.golden.codebook_array import Product, array_results, product_stream, results_of
from bitkiln.models.quantize.normal_float import nf

SEED = 91


def nearest32(value: Fraction) -> np.float32:
    """Nearest even, by trying the neighbours."""
    guess = np.float32(float(value))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    best = min(abs(Fraction(float(x)) - value) for x in near)
    ties = [x for x in near if abs(Fraction(float(x)) - value) == best]
    return next((x for x in ties if not int(np.float32(x).view(np.uint32)) & 1), ties[0])


@pytest.mark.parametrize("scale", ["fp32", "uint8", "none"])
@pytest.mark.parametrize("formats", [("fp8_e4m3", "fp8_e4m3"), ("int8", "int4"), ("posit8_0", "posit8_0")])
def test_every_rounding_by_fractions(formats: tuple[str, str], scale: str) -> None:
    rng = np.random.default_rng(SEED)
    design = CodebookArrayDesign(*formats, 2, 3, tables=2, scale=scale, block=20)
    m, n, k, block = 3, 4, 47, 20
    blocks = -(-k // block)
    books = Codebooks(table_codes(design.codebook, rng.normal(0, 2, (2, 16))))
    # No NaR among the activations.
    a = design.activation.encode(rng.normal(0, 3, (m, k)), overflow="saturate").astype(np.int64)
    floats = rng.normal(0, 1, (n, blocks)).astype(np.float32)
    codes = floats.view(np.uint32).astype(np.int64) if scale == "fp32" else rng.integers(0, 256, (n, blocks))
    steps = rng.normal(0, 1, (n, blocks, 2)).astype(np.float32)
    product = Product(a, rng.integers(0, 16, (n, k)), block, rng.integers(0, 2, (n, blocks)),
                      codes if scale != "none" else codes * 0, steps.view(np.uint32))
    values, illegal = array_results(design, books, product_stream(design, product))
    found = results_of(design, product, values).view(np.float32)
    assert not illegal and values.shape == (4, 2, 3) and found.shape == (m, n)
    x = design.activation.decode(a)
    entries = design.weight.decode(books.entries)
    for i in range(m):
        for j in range(n):
            total = np.float32(0)
            for b in range(blocks):
                at = range(b * block, min((b + 1) * block, k))
                exact = sum((Fraction(float(x[i, c])) * Fraction(float(entries[product.table[j, b], product.w[j, c]]))
                             for c in at), Fraction(0))
                value = nearest32(exact)
                if scale != "none":
                    factor = floats[j, b] if scale == "fp32" else \
                        nearest32(int(codes[j, b]) * Fraction(float(steps[j, b, 0])))
                    value = nearest32(Fraction(float(value)) * Fraction(float(factor)))
                total = nearest32(Fraction(float(total)) + Fraction(float(value)))
            assert found[i, j] == total


def test_streams_of_a_product() -> None:
    """Blocks ascending, tiles of columns outside; what lies beyond an edge does not count; steps renewed as they
    change."""
    design = CodebookArrayDesign("fp8_e4m3", "fp8_e4m3", 2, 2, scale="uint8", block=64)
    weights = np.random.default_rng(SEED).normal(0, 1, (3, 150))
    q = nf(weights, 4, 64, double=True)
    second = np.zeros((3, 3, 2), np.uint32)
    second[..., 0] = q.channel_scale.view(np.uint32)[np.arange(9) // q.scale_block].reshape(3, 3)
    product = Product(np.arange(3 * 150).reshape(3, 150) % 120, q.codes.astype(int), 64, np.zeros((3, 3), int),
                      q.scale_codes.astype(int), second)
    stream = product_stream(design, product)
    assert len(stream.first) == 4 * 75 and stream.first.sum() == stream.last.sum() == 12 and stream.emit.sum() == 4
    assert (stream.mask.sum() == 4 * 150) and not stream.emit[~stream.last].any()
    # A step stands until another comes: the column beyond the edge has none.
    assert stream.renew.sum() == 2 == len(stream.second)
    assert (stream.activations[:75].transpose(1, 0, 2).reshape(2, 150) == product.a[:2]).all()
    assert (stream.codes[75:150].transpose(1, 0, 2).reshape(2, 150) == product.w[:2]).all()
    assert not stream.activations[75:150, 1].any() and not stream.codes[150:, 1].any()
    only = array_results(design, Codebooks(np.arange(16)[None]), replace(stream, emit=stream.emit & False))
    assert only[0].shape == (0, 2, 2)


def test_blocks_that_never_wait() -> None:
    """The closed form against the events, around its limit."""
    for options in ({}, {"rows": 3, "columns": 4, "result_lanes": 2}, {"links": "systolic", "pipeline": 0},
                    {"rows": 1, "columns": 1, "pipeline": 0, "scale": "none"}):
        design = CodebookArrayDesign(**({"rows": 2, "columns": 2} | options))
        limit = block_cycles(design)
        for chunks in (limit - 1, limit, limit + 3):
            place = np.arange(20 * chunks) % chunks
            ends = place == chunks - 1
            cycles = array_cycles(design, place == 0, ends, ends)
            assert (cycles.stalls == 0) == never_waits(design, chunks * design.lanes) == (chunks >= limit)
            assert (cycles.stalls == 0) == (cycles.a[-1] - cycles.a[0] == 20 * chunks - 1)


def test_designs_that_do_not_exist() -> None:
    for options, message in (({"store": "ram"}, "unknown store at store: got 'ram', expected lutram or registers"),
                             ({"accumulator": "int32"}, "unknown accumulator at accumulator: got 'int32'"),
                             ({"rows": 0}, "out of range at array.rows: got 0, expected 1 to 64"),
                             ({"block": True}, "not an integer at block"),
                             ({"columns": 4, "result_lanes": 3}, "does not divide the columns at result_lanes: got 3")):
        with pytest.raises(BitkilnError, match=message):
            CodebookArrayDesign(**options)
