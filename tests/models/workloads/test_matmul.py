"""The fast matrix product equals ``golden.dot`` bit for bit."""

import dataclasses

import numpy as np
import pytest

from bitkiln.models.design.dot import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Codebook
from bitkiln.models.workloads.matmul import lane_groups, matmul, matmul_by_dot, zero_code

PES = ("fp4", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "posit4_1", "posit8_0", "posit16_1", "int2",
       "int4", "int8", "int16", "ternary", "int8xfp4", "int8xternary", "fp8_e4m3xfp4", "bf16xint4", "nf4",
       "fp16", "bf16")


def finite_codes(fmt, rng, shape):
    codes = np.arange(1 << fmt.bits)
    return rng.choice(codes[fmt.unpack(codes).special == 0], shape)


def check_equal(design, a, w):
    fast, slow = matmul(design, a, w), matmul_by_dot(design, a, w)
    for field in dataclasses.fields(fast):
        one, other = getattr(fast, field.name), getattr(slow, field.name)
        if other is None:
            assert one is None
            continue
        assert one.shape == other.shape == (len(a), len(w)), field.name
        assert np.array_equal(one, other), field.name
    assert np.array_equal(fast.value(design), slow.value(design), equal_nan=True)
    return fast


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize("pe", PES)
def test_equals_dot(pe, lanes):
    design = DotDesign.from_pe(pe, lanes=lanes)
    rng = np.random.default_rng([len(pe), *pe.encode()])
    a, w = finite_codes(design.activation, rng, (7, 21)), finite_codes(design.weight, rng, (5, 21))
    check_equal(design, a, w)


@pytest.mark.parametrize("pe", ["posit16_1", "fp8_e5m2", "int16", "fp8_e4m3"])
def test_extremes_of_a_full_accumulator(pe):
    """1,024 products of the largest values: the widest sums there are."""
    design = DotDesign.from_pe(pe)
    top = design.activation.encode(np.array([design.activation.max, -1e30, design.activation.min_positive]))
    a = np.repeat(top[:, None], 1024, axis=1)
    result = check_equal(design, a, a)
    assert int(result.acc[0, 0]) == 1024 * design.max_product or pe == "int16"


@pytest.mark.parametrize("pe", ["fp8_e4m3", "fp8_e5m2", "posit8_0", "ternary", "bf16xint4", "fp16"])
def test_special_codes(pe):
    design = DotDesign.from_pe(pe, lanes=2)
    rng = np.random.default_rng(5)
    a = rng.integers(0, 1 << design.activation.bits, (9, 6))
    w = rng.integers(0, 1 << design.weight.bits, (8, 6))
    special = design.activation.unpack(np.arange(1 << design.activation.bits)).special
    a[0, 0], w[0, 0] = np.argmax(special > 0), 1
    check_equal(design, a, w)


@pytest.mark.parametrize("accumulator", [Accumulator(bits=9), Accumulator(kind="int32"),
                                         Accumulator(kind="int32", overflow="saturate"),
                                         Accumulator(kind="fp32"), Accumulator(bits=40)])
@pytest.mark.parametrize("pe", ["int4", "int16"])
def test_accumulator_kinds(pe, accumulator):
    rng = np.random.default_rng(6)
    design = DotDesign.from_pe(pe, accumulator=accumulator, lanes=3)
    a = finite_codes(design.activation, rng, (6, 30))
    check_equal(design, a, a)
    check_equal(design, a // 64, a // 64)  # small enough not to overflow


def test_output_format():
    design = DotDesign.from_pe("fp4", output="fp8_e4m3")
    rng = np.random.default_rng(8)
    a = rng.integers(0, 16, (5, 12))
    assert check_equal(design, a, a).o.shape == (5, 5)


def test_rows_are_filled_with_zeros():
    design = DotDesign.from_pe("fp16xnf4", lanes=4)
    assert zero_code(design.weight) == 7 and zero_code(design.activation) == 0
    a, w = lane_groups(design, np.ones((2, 5), int), np.ones((3, 5), int))
    assert a.shape == (2, 2, 4) and w.shape == (3, 2, 4)
    assert a[0, 1].tolist() == [1, 0, 0, 0] and w[0, 1].tolist() == [1, 7, 7, 7]


def test_refusals():
    design = DotDesign.from_pe("int4", lanes=4)
    with pytest.raises(BitkilnError) as caught:
        matmul(design, np.zeros((2, 5), int), np.zeros((2, 6), int))
    assert str(caught.value) == (
        "error: shape mismatch at a and w: got ((2, 5), (2, 6)), expected (M, K) and (N, K)")
    signs = Codebook("signs", (-1.0, 1.0))
    with pytest.raises(BitkilnError) as caught:
        matmul(DotDesign(signs, signs, lanes=4), np.zeros((2, 5), int), np.zeros((2, 5), int))
    assert str(caught.value) == ("error: no zero to fill unused lanes with at signs matrix product: got 5, "
                                 "expected a multiple of 4 lanes as K")
