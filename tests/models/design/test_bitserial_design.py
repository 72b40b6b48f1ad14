"""Parameters of the bit-serial engine: refusals, defaults, names, and widths against the worst vectors there are."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from bitkiln.models.design.bitserial import ACTIVATIONS, SCALES, BitSerialDesign
from bitkiln.models.design.weights import WeightType, weight_type, weight_type_names
from bitkiln.models.errors import BitkilnError

SEED = 31

# Refusals ----------------------------------------------------------------------------------------

CONTRADICTION = "error: contradictory options at"


@pytest.mark.parametrize("options, message", [
    ({"weights": ()}, "error: missing weight type at weights: got '', expected one or more different types"),
    ({"weights": ("fp4", "int4", "fp4")},
     "error: weight type named twice at weights: got 'fp4, int4, fp4', expected one or more different types"),
    ({"weights": tuple(weight_type_names()[:9])}, "error: too many weight types at weights: got 9, expected at most 8"),
    ({"weights": ("fp4", "bitmod6")}, "error: unknown weight type at weights[1]: got 'bitmod6', expected a weight "
                                      "type\nhelp: did you mean bitmod4, bitmod3, bitmod4_er_pos?"),
    ({"activation": "fp17"}, "error: unknown format at activation: got 'fp17', expected a format name\n"
                             "help: did you mean fp16, fp4, fp3?"),
    ({"activation": "int16"}, "error: no bit-serial PE for this activation at activation: got 'int16', expected fp16, "
                              "bf16, fp8_e4m3, fp8_e5m2, int8\nhelp: did you mean int8?"),
    ({"accumulate": "exakt"}, "error: unknown accumulate at accumulate: got 'exakt', expected exact, aligned, "
                              "floating\nhelp: did you mean exact?"),
    ({"rounding": "up"}, "error: unknown rounding at rounding: got 'up', expected trunc, rne\n"
                         "help: choices: trunc, rne"),
    ({"scale": "uint7"}, "error: unknown scale at scale: got 'uint7', expected uint8, uint6, uint4, none, e8m0, ue4m3, "
                         "ue5m3\nhelp: did you mean uint8, uint6, uint4?"),
    ({"output": "fp16"}, "error: unknown output at output: got 'fp16', expected fp32, raw\nhelp: did you mean fp32?"),
    ({"placement": "row"}, "error: unknown placement at placement: got 'row', expected edge, pe\n"
                           "help: choices: edge, pe"),
    ({"placement": "pe", "activation": "int8"}, f"{CONTRADICTION} placement: got 'pe', expected edge, but for exact "
                                                "sums of activations with exponents"),
    ({"placement": "pe", "accumulate": "aligned"}, f"{CONTRADICTION} placement: got 'pe', expected edge, but for exact "
                                                   "sums of activations with exponents"),
    ({"lanes": 0}, "error: out of range at lanes: got 0, expected 1 to 16"),
    ({"lanes": 17}, "error: out of range at lanes: got 17, expected 1 to 16"),
    ({"lanes": 4.0}, "error: not an integer at lanes: got 4.0, expected an integer 1 to 16"),
    ({"lanes": True}, "error: not an integer at lanes: got True, expected an integer 1 to 16"),
    ({"rows": 65}, "error: out of range at rows: got 65, expected 1 to 64"),
    ({"columns": 0}, "error: out of range at columns: got 0, expected 1 to 64"),
    ({"guard": 17}, "error: out of range at guard: got 17, expected 0 to 16"),
    ({"guard": -1}, "error: out of range at guard: got -1, expected 0 to 16"),
    ({"group": 0}, "error: out of range at group: got 0, expected 1 to 1024"),
    ({"group": 1025}, "error: out of range at group: got 1025, expected 1 to 1024"),
    ({"groups": 65537}, "error: out of range at groups: got 65537, expected 1 to 65536"),
    ({"zero_point": 9}, "error: out of range at zero_point: got 9, expected 0 to 8"),
    ({"pipeline": 3}, "error: out of range at pipeline: got 3, expected 0 to 2"),
    ({"accumulate": "aligned", "activation": "int8"},
     f"{CONTRADICTION} accumulate: got 'aligned', expected exact with int8 activations: they have no exponent to "
     "align"),
    ({"accumulate": "aligned", "zero_point": 4}, f"{CONTRADICTION} zero_point: got 4, expected none with accumulate: "
                                                 "aligned\nhelp: the exact accumulator has it"),
    ({"accumulate": "aligned", "dual_scale": True}, f"{CONTRADICTION} dual_scale: got True, expected none with "
                                                    "accumulate: aligned\nhelp: the exact accumulator has it"),
    ({"activation": "bf16", "accumulate": "exact"}, "error: accumulator too wide at accumulate: got 'exact with bf16 "
                                                    "(about 300 bits)', expected aligned or floating"),
    *(({"scale": scale, **option}, f"{CONTRADICTION} scale: got '{scale}', expected uint8, uint6 or uint4: zero_point "
                                   "and dual_scale act in its phase")
      for scale in SCALES if not scale.startswith("uint") for option in ({"zero_point": 2}, {"dual_scale": True})),
    ({"zero_point": 4, "dual_scale": True}, f"{CONTRADICTION} dual_scale: got 'true', expected false with a "
                                            "zero_point"),
], ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items())[:50] if isinstance(value, dict) else "")
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(BitkilnError) as caught:
        BitSerialDesign(**{"weights": ("bitmod4",), **options})
    assert str(caught.value) == message and caught.value.exit_code == 2


# Defaults and names ------------------------------------------------------------------------------


def test_defaults() -> None:
    design = BitSerialDesign("bitmod4")
    assert design.weights == (weight_type("bitmod4"),) and design.activation.name == "fp16"
    assert (design.lanes, design.accumulate, design.scale, design.group) == (4, "exact", "uint8", 128)
    assert BitSerialDesign("int4", "bf16").accumulate == "aligned"
    assert BitSerialDesign(["int4", weight_type("fp4")]).code_bits == 4


def test_where_activations_are_placed_by_default() -> None:
    """In the PE where a term moves an exponent's worth of places anyway; else once a row."""
    chosen = {("int8",): "pe", ("bitmod4",): "edge", ("bitmod4", "fp6_e3m2"): "pe"}
    for weights, placement in chosen.items():
        assert BitSerialDesign(weights).placement == placement
    assert BitSerialDesign("int8", "int8").placement == "edge" == BitSerialDesign("int8", "bf16").placement
    wide = BitSerialDesign("int8")
    assert wide.with_options(weights=("bitmod4",)).placement == "edge"
    assert wide.with_options(weights=("bitmod4",), placement="pe").placement == "pe"


def test_names_tell_designs_apart() -> None:
    base = BitSerialDesign("bitmod4")
    other = [{"weights": ("bitmod3",)}, {"weights": ("bitmod4", "int8")}, {"activation": "fp8_e4m3"}, {"lanes": 2},
             {"rows": 2}, {"columns": 2}, {"accumulate": "aligned"}, {"accumulate": "aligned", "guard": 4},
             {"accumulate": "aligned", "rounding": "rne"}, {"scale": "uint6"}, {"group": 64}, {"groups": 8},
             {"zero_point": 4}, {"dual_scale": True}, {"zero_skip": True}, {"specials": False}, {"placement": "pe"},
             {"pipeline": 0}, {"output": "raw"},
             {"weights": (base.weights[0].with_specials((7, -7)),)},
             {"weights": (base.weights[0].with_specials((5, -5, 8, -8), max_terms=3),)}]
    names = [base.name, *(base.with_options(**{"placement": "edge", **options}).name for options in other)]
    assert len(set(names)) == len(names)
    assert names[0] == "bitserial_fp16_bitmod4_1x1_l4_exact_suint8_g128x64_p1"
    assert all(name.replace("_", "").isalnum() and name.islower() for name in names)


# Units -------------------------------------------------------------------------------------------


def test_common_units_of_several_types() -> None:
    design = BitSerialDesign(("int4", "bitmod4", "seq2"))
    assert design.weight_exponent == -2 and [design.offset(i) for i in range(3)] == [2, 1, 0]
    assert design.product_exponent == -24 - 2 and design.zero_shift == 2
    assert design.max_weight == 12 * 4 and design.max_shift == 5 and design.max_terms == 2


@pytest.mark.parametrize("scale, bits, code_bits, cycles", [
    ("uint8", 8, 8, 8), ("uint6", 6, 6, 6), ("uint4", 4, 4, 4), ("none", 0, 0, 0), ("e8m0", 0, 8, 0),
    ("ue4m3", 4, 7, 4), ("ue5m3", 4, 8, 4)])
def test_scales(scale: str, bits: int, code_bits: int, cycles: int) -> None:
    """Reference 5.4: a cycle for each bit of an integer, or of a significand."""
    design = BitSerialDesign("bitmod4", scale=scale)
    assert (design.scale_bits, design.scale_code_bits, design.scale_cycles) == (bits, code_bits, cycles)
    assert design.sums_channel == (scale in ("uint8", "uint6", "uint4", "none"))
    assert not design.with_options(accumulate="aligned").sums_channel


def test_two_scales_and_zero_points_take_cycles() -> None:
    assert BitSerialDesign("fp4", dual_scale=True).scale_cycles == 16
    assert BitSerialDesign("fp4", scale="uint6", zero_point=5).scale_cycles == 11


@pytest.mark.parametrize("activation, significand, exponent, largest", [
    ("fp16", 11, 29, 65504 * 2**24), ("fp8_e4m3", 4, 14, 448 * 2**9), ("fp8_e5m2", 3, 29, 57344 * 2**16),
    ("int8", 8, 0, 128)])
def test_activations_in_units(activation: str, significand: int, exponent: int, largest: int) -> None:
    """Largest values of IEEE 754 and OCP FP8, in units of the smallest subnormal."""
    design = BitSerialDesign("int4", activation)
    assert (design.significand_bits, design.max_exponent, design.max_activation) == (significand, exponent, largest)


def test_without_specials_the_top_exponent_is_finite() -> None:
    fp16 = BitSerialDesign("int4", specials=False)
    assert fp16.max_exponent == 30 and fp16.max_activation == 2047 << 30
    assert BitSerialDesign("int4", "fp8_e4m3", specials=False).max_activation == 480 * 2**9


# Widths ------------------------------------------------------------------------------------------


def test_widths_of_the_reference() -> None:
    """Reference 5.5: G = 128, |a| < 2**40. FP4 in half steps up to 2**4 52 bits, INT8 55; an 8-bit scale makes 60, 63.

    There 2**40 stands for 2047 * 2**29; a special value of 12 (24 half steps) takes one bit more.
    """
    plain = WeightType("eights", 4, (*range(8), 16, *range(-1, -8, -1)), -1)
    assert BitSerialDesign(plain, groups=1).sum_bits == 52
    assert BitSerialDesign("int8", groups=1).sum_bits == 55
    assert BitSerialDesign(plain, groups=1).result_bits == 60 and BitSerialDesign("int8", groups=1).result_bits == 63
    assert BitSerialDesign("bitmod4", groups=1).sum_bits == 53


@cache
def activation_extremes(name: str, specials: bool) -> tuple[int, int]:
    """Least and largest activation, from all codes, in units of the least significand bit of field 0 or 1."""
    fmt = BitSerialDesign("int4", name, specials=specials).activation
    if fmt.family == "int":
        return -128, 127
    found = []
    for code in range(1 << fmt.bits):
        field = code >> fmt.mantissa_bits & ((1 << fmt.exponent_bits) - 1)
        mantissa = code & ((1 << fmt.mantissa_bits) - 1)
        if specials and not np.isfinite(fmt.decode(np.array([code]))[0]):
            continue
        value = (mantissa | (field > 0) << fmt.mantissa_bits) << max(field, 1) - 1
        found.append(-value if code >> (fmt.bits - 1) else value)
    return min(found), max(found)


@cache
def reachable(kind: WeightType) -> tuple[int, int]:
    """Least and largest weight of a type, values that the special-value table can be given included."""
    values = [value or 0 for value in kind.values]
    if kind.special_code is not None:
        for value in range(-256, 257):
            try:
                kind.check_special(value)
            except BitkilnError:
                continue
            values.append(value)
    return min(values), max(values)


def bits_for(low: int, high: int) -> int:
    """Two's complement bits that hold both."""
    return max(1 + (value if value >= 0 else ~value).bit_length() for value in (low, high))


def worst(design: BitSerialDesign, zero: bool) -> tuple[int, int]:
    """Least and largest product of an activation and a weight (less a zero-point), in their units."""
    extremes = [reachable(kind) for kind in design.weights]
    weights = [value << design.offset(at) for at, pair in enumerate(extremes) for value in pair]
    points = [0]
    if zero and design.zero_point:
        half = 1 << (design.zero_point - 1)
        points = [-half << design.zero_shift, half - 1 << design.zero_shift]
    acts = activation_extremes(design.activation.name, design.specials)
    if design.accumulate == "aligned":
        # The significand of the largest activation with its guard bits; rounding a smaller one never exceeds it.
        acts = tuple(sign * (((1 << design.significand_bits) - 1) << design.guard) for sign in (-1, 1))
    products = [a * (w - p) for a in acts for w in weights for p in points]
    return min(products), max(products)


def designs(count: int):
    """Random designs that are allowed."""
    rng, made = random.Random(SEED), 0
    while made < count:
        options = {"weights": tuple(rng.sample(weight_type_names(), rng.choice((1, 1, 2)))),
                   "activation": rng.choice(ACTIVATIONS), "accumulate": rng.choice((None, "aligned")),
                   "guard": rng.choice((0, 3, 16)), "rounding": rng.choice(("trunc", "rne")),
                   "scale": rng.choice(SCALES), "group": rng.choice((1, 2, 3, 7, 32, 100, 128, 1024)),
                   "groups": rng.choice((1, 2, 5, 64, 65536)), "zero_point": rng.choice((0, 0, 1, 2, 4, 8)),
                   "dual_scale": rng.random() < 0.2, "specials": rng.random() < 0.7}
        try:
            design = BitSerialDesign(**options)
        except BitkilnError:
            continue
        made += 1
        yield design


def test_widths_are_sufficient_and_no_bit_wider() -> None:
    """Of 800 random designs: the worst group and channel fit, and reach the top bit."""
    sides = {True: 0, False: 0}
    for design in designs(800):
        low, high = worst(design, zero=False)
        length = design.group * (design.groups if design.scale == "none" and design.sums_channel else 1)
        assert design.sum_bits == bits_for(low * length, high * length), design.name
        low, high = worst(design, zero=True)
        channel = design.group * (design.groups if design.sums_channel else 1)
        steps = (1 << design.scale_bits) - 1 if design.scale_bits else 1
        assert design.result_bits == bits_for(low * channel * steps, high * channel * steps), design.name
        sides[design.accumulate == "exact"] += 1
    assert min(sides.values()) > 100


@pytest.mark.parametrize("rounding", ["trunc", "rne"])
@pytest.mark.parametrize("activation", ["fp16", "bf16", "fp8_e4m3", "fp8_e5m2"])
def test_aligned_operands_never_exceed_the_largest_significand(activation: str, rounding: str) -> None:
    """Every significand at every distance below the largest exponent, by exact rounding."""
    design = BitSerialDesign("int4", activation, accumulate="aligned", guard=2, rounding=rounding)
    most = 0
    for significand in range(1 << design.significand_bits):
        wide = significand << design.guard
        for below in range(design.significand_bits + design.guard + 3):
            kept, rest = divmod(wide, 1 << below)
            if rounding == "rne":
                kept += 2 * rest > 1 << below or (2 * rest == 1 << below and kept & 1)
            most = max(most, kept)
    assert most == design.max_operand and most.bit_length() == design.operand_bits
