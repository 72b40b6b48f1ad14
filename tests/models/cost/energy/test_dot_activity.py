"""Activity of a dot unit's numbers against the golden model and against counting by hand."""

import numpy as np
import pytest

from bitkiln.models.cost.energy.dot_activity import dot_activity
from bitkiln.models.cost.energy.traces import trace_codes
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.dot import trace


def operands(design, cycles=20, streams=6, kind="uniform"):
    return [trace_codes(fmt, kind, cycles, streams, design.lanes, seed=seed)
            for seed, fmt in enumerate((design.activation, design.weight))]


def transitions(values, bits):
    mask = (1 << bits) - 1
    return sum(((int(new) ^ int(old)) & mask).bit_count() for old, new in zip(values, values[1:], strict=False))


@pytest.mark.parametrize("pe, options", [
    ("int4", {"lanes": 2}), ("fp8_e4m3", {"lanes": 1}), ("posit8_0", {"lanes": 4}), ("fp8_e5m2", {"lanes": 1}),
    ("int8", {"lanes": 1, "accumulator": Accumulator(bits=17)}),
])
def test_accumulator_is_that_of_the_golden_model(pe, options):
    design = DotDesign.from_pe(pe, **options)
    a, w = operands(design)
    found = dot_activity(design, a, w)
    steps = a.shape[0] - 1
    golden = [trace(design, a[:, stream], w[:, stream], np.ones(20, bool), np.zeros(20, bool)).acc
              for stream in range(6)]
    expected = np.mean([transitions(acc, design.accumulator_bits) / steps for acc in golden])
    assert found.accumulator == pytest.approx(expected)


def test_products_sums_and_signs_by_hand():
    design = DotDesign.from_pe("int4", lanes=2)
    a = np.array([[1, 15], [15, 0], [3, 0]])[:, None, :]             # 1, -1 / -1, 0 / 3, 0
    w = np.array([[2, 1], [2, 1], [2, 7]])[:, None, :]
    found = dot_activity(design, a, w)
    # Products 2, -1 / -2, 0 / 6, 0; with 8 bits (|product| to 64, sign): 00000010 > 11111110 > 00000110.
    assert design.product_bits == 7
    lane0, lane1 = (6 + 5) / 2, 8 / 2
    assert found.product == pytest.approx(lane0 + lane1)
    assert found.lane_sum == pytest.approx((transitions([1, -2, 6], 9)) / 2)
    assert found.sign == pytest.approx((2 + 1) / 2) and found.nonzero == pytest.approx(4 / 6)
    assert found.activation_zeros == pytest.approx(2 / 6)
    assert found.activation == pytest.approx((3 + 4 + 2 + 0) / 16)
    assert found.weight == pytest.approx((0 + 0 + 0 + 2) / 16)


def test_partial_products_by_counting():
    design = DotDesign.from_pe("int8xfp4", lanes=2)
    a, w = operands(design, cycles=5, streams=2)
    found = dot_activity(design, a, w)
    total = 0
    for step in range(4):
        rows = (a[step], a[step + 1], w[step], w[step + 1])
        for old_a, new_a, old_w, new_w in zip(*(codes.ravel() for codes in rows), strict=True):
            total += sum((old_a >> i & old_w >> j & 1) != (new_a >> i & new_w >> j & 1)
                         for i in range(8) for j in range(4))
    assert found.partial_products == pytest.approx(total / 4 / 2)


def test_still_operands_are_still():
    design = DotDesign.from_pe("int8", lanes=1)
    a, w = operands(design, kind="uniform@20")
    found = dot_activity(design, a, w)
    assert found.activation == found.weight == found.product == found.partial_products == 0
    assert found.accumulator > 0


def test_refusals():
    design = DotDesign.from_pe("bf16")
    codes = trace_codes(get_format("bf16"), "gaussian", 4, 2)
    with pytest.raises(BitkilnError, match="no activity model at accumulator.kind: got 'fp32'"):
        dot_activity(design, codes, codes)
    with pytest.raises(BitkilnError, match="wrong shape at operands"):
        dot_activity(DotDesign.from_pe("int8", lanes=2), codes, codes)
