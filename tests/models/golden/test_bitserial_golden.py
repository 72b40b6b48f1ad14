"""The golden bit-serial engine against fractions that follow the definitions one element at a time."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.design.bitserial import SCALES, BitSerialDesign
from bitkiln.models.design.weights import WeightType, booth_terms, signed_digits, weight_type
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.bitserial import GroupStream, aligned_error_bound, bitserial
from bitkiln.models.golden.bitserial_floating import floating_error_bound

SEED = 47
NAN, INF = "nan", "inf"
FP32_NAN = 0x7FC00000
TWO = Fraction(2)


# Definitions -------------------------------------------------------------------------------------


def parts(design: BitSerialDesign, code: int) -> tuple[int, int, int, str | None]:
    """Sign (+1 or -1), significand, place (of field 1: 0) and NaN or infinity of an activation code."""
    fmt = design.activation
    if fmt.name == "int8":
        value = code - 256 if code >= 128 else code
        return (-1 if value < 0 else 1), abs(value), 0, None
    exponent_bits, mantissa_bits = {"fp16": (5, 10), "bf16": (8, 7), "fp8_e4m3": (4, 3), "fp8_e5m2": (5, 2)}[fmt.name]
    sign = -1 if code >> (exponent_bits + mantissa_bits) else 1
    field, mantissa = code >> mantissa_bits & ((1 << exponent_bits) - 1), code & ((1 << mantissa_bits) - 1)
    top = field == (1 << exponent_bits) - 1
    if design.specials and top and fmt.name == "fp8_e4m3" and mantissa == 7:
        return sign, 0, 0, NAN
    if design.specials and top and fmt.name != "fp8_e4m3":
        return sign, 0, 0, NAN if mantissa else INF
    return sign, mantissa | (field > 0) << mantissa_bits, max(field, 1) - 1, None


LEAST = {"fp16": -24, "bf16": -133, "fp8_e4m3": -9, "fp8_e5m2": -16, "int8": 0}  # exponents of the smallest values


def weight_value(design: BitSerialDesign, stream: GroupStream, tables: dict, column: int, group: int, code: int
                 ) -> Fraction:
    """Real number of a code in its group; a narrower type reads the low bits of the field."""
    index = int(stream.types[column, group])
    kind = design.weights[index]
    code &= (1 << kind.bits) - 1
    units = kind.values[code] or 0
    if kind.special_code == code:
        table = tables.get(index, kind.specials)
        entry = int(stream.special[column, group])
        units = table[entry] if entry < len(table) else 0
    return units * TWO ** kind.unit_exponent


def scale_value(design: BitSerialDesign, code: int) -> Fraction | str:
    if design.scale == "none":
        return Fraction(1)
    if design.scale.startswith("uint"):
        return Fraction(code)
    if design.scale == "e8m0":
        return NAN if design.specials and code == 255 else TWO ** (code - 127)
    bias, top = {"ue4m3": (7, 127), "ue5m3": (15, 255)}[design.scale]
    if design.specials and code == top:
        return NAN
    field, fraction = divmod(code, 8)
    return Fraction(fraction + 8 * (field > 0), 8) * TWO ** (max(field, 1) - bias)


def aligned_sum(design: BitSerialDesign, acts: list[tuple[int, int, int, str | None]], weights: list[Fraction]
                ) -> tuple[Fraction, int]:
    """Sum of one group with the activations cut at the guard bits of the largest exponent so far; and that exponent.

    Chunk after chunk: where an activation that is not zero has a larger exponent than all before, the sum falls by the
    difference, rounded down; then each activation, cut or rounded to its place below the largest, is multiplied.
    """
    total, largest = 0, None
    common = TWO ** design.weight_exponent
    for start in range(0, len(acts), design.lanes):
        chunk = list(zip(acts, weights, strict=True))[start:start + design.lanes]
        places = [place for (_, significand, place, _), _ in chunk if significand]
        if places and (largest is None or max(places) > largest):
            if largest is not None:
                total = (Fraction(total) / 2 ** (max(places) - largest)).__floor__()
            largest = max(places)
        for (sign, significand, place, _), weight in chunk:
            if not significand:
                continue
            exact = Fraction(significand) * 2 ** design.guard / 2 ** (largest - place)
            kept = round(exact) if design.rounding == "rne" else exact.__floor__()  # Python rounds to nearest even
            total += sign * kept * int(weight / common)
    return total * common / 2 ** design.guard, largest or 0


def floating_sum(design: BitSerialDesign, acts: list[tuple[int, int, int, str | None]], terms: list[tuple]
                 ) -> tuple[Fraction, int, int]:
    """Sum of one group as the floating PE adds it, its place, and the terms that were added.

    Cycle after cycle: each lane's product with one power of two is cut (or rounded) to the guard bits of the largest
    product; sum and step meet at the larger place, what falls is rounded down, and a sum that is too long falls on.
    """
    total, place, added = 0, 0, 0
    limit = 2 ** (design.mantissa - 1)
    for start in range(0, len(acts), design.lanes):
        chunk = list(zip(acts, terms, strict=True))[start:start + design.lanes]
        for step in range(max(len(terms) for _, terms in chunk)):
            products = [(sign * (-1 if terms[step].negative else 1), significand, place + terms[step].shift)
                        for (sign, significand, place, _), terms in chunk
                        if step < len(terms) and terms[step] is not None and significand]
            largest = max((at for _, _, at in products), default=0)
            value = 0
            for sign, significand, at in products:
                exact = Fraction(significand) * 2 ** design.guard / 2 ** (largest - at)
                value += sign * (round(exact) if design.rounding == "rne" else exact.__floor__())
            added += len(products)
            if not value:
                continue
            meet = max(place, largest)
            total = (Fraction(total) / 2 ** (meet - place)).__floor__() + \
                (Fraction(value) / 2 ** (meet - largest)).__floor__()
            while not -limit < total < limit:
                total, meet = total // 2, meet + 1
            place = meet
    return total * TWO ** design.weight_exponent / 2 ** design.guard, place, added


def weight_terms(design: BitSerialDesign, stream: GroupStream, tables: dict, column: int, group: int, code: int
                 ) -> tuple:
    """Signed powers of two of a weight by step, in common units."""
    index = int(stream.types[column, group])
    kind = design.weights[index]
    units = weight_value(design, stream, tables, column, group, code) / TWO ** kind.unit_exponent
    terms = booth_terms(int(units), kind.bits) if kind.booth else signed_digits(int(units))
    moved = tuple(None if term is None else term._replace(shift=term.shift + design.offset(index)) for term in terms)
    return tuple(term for term in moved if term is not None) if design.zero_skip else moved


def slow(design: BitSerialDesign, stream: GroupStream, tables: dict | None = None) -> list[list[list]]:
    """[result][row][column]: a fraction, or NAN, or +-inf as a float."""
    tables = tables or {}
    rows, columns = len(stream.activations), len(stream.codes)
    out, starts = [], np.concatenate(([0], np.cumsum(stream.lengths)))
    sums = design.accumulate == "exact" and design.scale in ("uint8", "uint6", "uint4", "none")
    total = [[Fraction(0)] * columns for _ in range(rows)]
    events = [[set() for _ in range(columns)] for _ in range(rows)]
    for g, length in enumerate(stream.lengths):
        at = range(starts[g], starts[g] + length)
        for r in range(rows):
            acts = [parts(design, int(stream.activations[r, k])) for k in at]
            for c in range(columns):
                weights = [weight_value(design, stream, tables, c, g, int(stream.codes[c, k])) for k in at]
                if design.zero_point:
                    weights = [weight - int(stream.zero[c, g]) for weight in weights]
                scale = scale_value(design, int(stream.scale[c, g]))
                below = scale_value(design, int(stream.scale_negative[c, g])) if design.dual_scale else scale
                if scale == NAN:
                    events[r][c].add(NAN)
                    scale = below = Fraction(1)
                for (sign, _, _, special), weight in zip(acts, weights, strict=True):
                    product = sign * weight * (below if weight < 0 else scale)
                    if special == NAN or (special == INF and product == 0):
                        events[r][c].add(NAN)
                    elif special == INF:
                        events[r][c].add(float("inf") if product > 0 else float("-inf"))
                if design.accumulate == "aligned":
                    value, place = aligned_sum(design, acts, weights)
                    value = value * TWO ** (LEAST[design.activation.name] + place) * scale
                elif design.accumulate == "floating":
                    terms = [weight_terms(design, stream, tables, c, g, int(stream.codes[c, k])) for k in at]
                    value, place, _ = floating_sum(design, acts, terms)
                    value = value * TWO ** (LEAST[design.activation.name] + place) * scale
                else:
                    unit = TWO ** LEAST[design.activation.name]
                    value = sum((sign * significand * 2 ** place * unit * weight * (below if weight < 0 else scale)
                                 for (sign, significand, place, _), weight in zip(acts, weights, strict=True)),
                                Fraction(0))
                total[r][c] += value
        if not sums or stream.emit[g]:
            out.append([[_outcome(total[r][c], events[r][c]) for c in range(columns)] for r in range(rows)])
            total = [[Fraction(0)] * columns for _ in range(rows)]
            events = [[set() for _ in range(columns)] for _ in range(rows)]
    return out


def _outcome(value: Fraction, events: set) -> Fraction | str | float:
    if NAN in events or len(events) > 1:
        return NAN
    return events.pop() if events else value


def fp32_code(value: Fraction | str | float) -> int:
    """float32 by its definition: of the two representable neighbours the nearer, of two as near the even one."""
    if value == NAN:
        return FP32_NAN
    sign = 0x80000000 if value < 0 else 0
    if isinstance(value, float):
        return sign | 0x7F800000
    size = abs(value)
    exponent = max(size.numerator.bit_length() - size.denominator.bit_length() - 1, -126)
    while size >= TWO ** (exponent + 1):
        exponent += 1
    steps = size / TWO ** (exponent - 23)
    whole = steps.__floor__()
    rest = steps - whole
    if rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2):
        whole += 1
    if whole == 1 << 24:
        whole, exponent = 1 << 23, exponent + 1
    if exponent > 127:
        return sign | 0x7F800000
    field = exponent + 127 if whole >= 1 << 23 else 0
    return sign | field << 23 | (whole & 0x7FFFFF)


# Random data -------------------------------------------------------------------------------------


def random_groups(design: BitSerialDesign, groups: int, seed: int, longest: int = 9) -> GroupStream:
    """Any codes; some activations NaN or infinite, more of them zero, subnormal or the largest."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, min(longest, design.group) + 1, groups)
    total, rows, columns = int(lengths.sum()), design.rows, design.columns
    acts = rng.integers(0, 1 << design.activation.bits, (rows, total))
    if design.activation.name != "int8":
        mantissa = design.activation.mantissa_bits
        top = ((1 << design.activation.exponent_bits) - 1) << mantissa
        sign = acts & 1 << (design.activation.bits - 1)
        kind = rng.random(acts.shape)
        acts = np.where(kind < 0.1, sign, np.where(kind < 0.25, acts & ~top, acts))
        # Few groups with special values: most results are numbers.
        calm = np.repeat(rng.random(groups) < 0.8, lengths)
        acts = np.where(calm & (acts & top == top), acts & ~(1 << mantissa), acts)
        special = rng.choice([127] if design.activation.name == "fp8_e4m3" else [top, top, top | 1], acts.shape)
        acts = np.where((kind > 0.9) & ~calm, sign | special, acts)
    columns_groups = (columns, groups)
    types = rng.integers(0, len(design.weights), columns_groups)
    scale = rng.integers(0, 1 << design.scale_code_bits, (2, *columns_groups))
    scale = np.where(rng.random(scale.shape) < 0.1, 0, scale)
    scale = np.where(rng.random(scale.shape) < 0.05, (1 << design.scale_code_bits) - 1, scale)
    half = 1 << (design.zero_point - 1) if design.zero_point else 0
    zero = rng.integers(-half, max(half, 1), columns_groups)
    emit = rng.random(groups) < 0.5
    emit[design.groups - 1::design.groups] = True
    emit[-1] = True
    return GroupStream(acts, rng.integers(0, 1 << design.code_bits, (columns, total)), lengths, types,
                       rng.integers(0, 4, columns_groups), scale[0], scale[1], zero, emit)


def compare(design: BitSerialDesign, stream: GroupStream, tables: dict | None = None) -> dict[str, int]:
    """Every result against the slow model: integer, flags and float32 code; how many of which kind there were."""
    found, wanted = bitserial(design, stream, tables), slow(design, stream, tables)
    assert found.fp32.shape == (len(wanted), design.rows, design.columns) and len(wanted)
    counts = dict.fromkeys(("number", "zero", "nan", "inf"), 0)
    for at in np.ndindex(found.fp32.shape):
        value = wanted[at[0]][at[1]][at[2]]
        assert int(found.fp32[at]) == fp32_code(value), f"{design.name} {at}: {value}"
        nan = bool(found.nan[at] | (found.pos[at] & found.neg[at]) | found.scale_nan[at[0], at[2]])
        assert nan == (value == NAN)
        if isinstance(value, float):
            assert (bool(found.pos[at]), bool(found.neg[at])) == (value > 0, value < 0)
        elif value != NAN:
            assert not found.pos[at] and not found.neg[at]
            exponent = design.result_exponent + int(found.exponent[at])
            assert int(found.value[at]) * TWO ** exponent == value
            assert abs(int(found.value[at])) < 1 << (design.result_bits - 1)
        kind = "nan" if nan else "inf" if isinstance(value, float) else "number" if value else "zero"
        counts[kind] += 1
    return counts


EXACT = {
    "fp16, bitmod types": BitSerialDesign(("bitmod4", "bitmod3", "int6")),
    "fp16, zero-point": BitSerialDesign(("fp4", "int4", "seq2"), scale="uint6", zero_point=4),
    "fp16, two scales": BitSerialDesign(("fp4", "bitmod3"), scale="uint4", dual_scale=True),
    "fp16, e8m0": BitSerialDesign("fp4", scale="e8m0"),
    "fp16, ue5m3": BitSerialDesign(("fp6_e2m3", "flint4"), scale="ue5m3"),
    "fp16, all finite": BitSerialDesign(("int8", "ternary"), scale="none", specials=False, groups=3),
    "e4m3, ue4m3": BitSerialDesign(("fp4", "nf4_int8"), "fp8_e4m3", scale="ue4m3"),
    "e4m3, all finite": BitSerialDesign("binary", "fp8_e4m3", zero_point=1, specials=False),
    "e4m3, e8m0, all finite": BitSerialDesign("bitmod3", "fp8_e4m3", scale="e8m0", specials=False),
    "e5m2, zero-point": BitSerialDesign(("int5", "fp6_e3m2"), "fp8_e5m2", zero_point=8, lanes=3),
    "e5m2, ue5m3, all finite": BitSerialDesign("e3m1", "fp8_e5m2", scale="ue5m3", specials=False),
    "int8, two scales": BitSerialDesign(("int3", "bitmod4"), "int8", dual_scale=True, groups=2),
    "fp16, more than 64 bits": BitSerialDesign("int8", scale="none", group=1024, groups=4096),
    "int8, none": BitSerialDesign(("int2", "nf3_int8"), "int8", scale="none", group=5),
}
ALIGNED = {
    "bf16": BitSerialDesign(("bitmod4", "int6"), "bf16"),
    "bf16, rne, no guard": BitSerialDesign("int8", "bf16", guard=0, rounding="rne", scale="none", lanes=3),
    "bf16, rne, e8m0": BitSerialDesign("bitmod3", "bf16", guard=8, rounding="rne", scale="e8m0", lanes=1),
    "bf16, all finite": BitSerialDesign("fp4", "bf16", guard=1, specials=False, scale="uint4", lanes=2),
    "fp16": BitSerialDesign(("fp6_e2m3", "ternary"), accumulate="aligned", lanes=2, scale="ue4m3"),
    "fp16, rne": BitSerialDesign("int4", accumulate="aligned", rounding="rne", scale="ue5m3", lanes=8),
    "e4m3, rne": BitSerialDesign("fp4", "fp8_e4m3", accumulate="aligned", rounding="rne", guard=2, scale="uint6"),
    "e5m2": BitSerialDesign("flint4", "fp8_e5m2", accumulate="aligned", guard=5, lanes=3),
}


FLOATING = {
    "fp16": BitSerialDesign(("bitmod4", "bitmod3", "int6"), accumulate="floating"),
    "fp16, zero skipping": BitSerialDesign(("int8", "fp3"), accumulate="floating", zero_skip=True, lanes=2, guard=0,
                                           mantissa=8, scale="ue5m3"),
    "bf16, rne": BitSerialDesign(("int5", "fp6_e3m2"), "bf16", accumulate="floating", rounding="rne", mantissa=12,
                                 scale="e8m0"),
    "e4m3, rne, all finite": BitSerialDesign("nf4_int8", "fp8_e4m3", accumulate="floating", rounding="rne", guard=6,
                                             mantissa=32, specials=False, scale="uint6", lanes=8),
    "e5m2, no scale": BitSerialDesign(("ternary", "fp4"), "fp8_e5m2", accumulate="floating", guard=1, mantissa=9,
                                      scale="none", lanes=3),
}


def sized(design: BitSerialDesign) -> BitSerialDesign:
    return design.with_options(rows=2, columns=2, placement=design.placement)


@pytest.mark.parametrize("name", EXACT)
def test_exact_results_equal_fractions(name: str) -> None:
    design = sized(EXACT[name])
    counts = compare(design, random_groups(design, 60, SEED))
    assert counts["number"] > 40 and (counts["zero"] or design.scale in ("none", "e8m0"))
    if design.specials and design.activation.name != "int8":
        assert counts["nan"]
        assert counts["inf"] or not design.activation.has_inf


@pytest.mark.parametrize("name", ALIGNED)
def test_aligned_results_equal_the_definition(name: str) -> None:
    design = sized(ALIGNED[name])
    counts = compare(design, random_groups(design, 60, SEED + 1, longest=14))
    assert counts["number"] > 100
    assert (counts["nan"] > 0) == design.specials


@pytest.mark.parametrize("name", FLOATING)
def test_floating_results_equal_the_definition(name: str) -> None:
    design = sized(FLOATING[name])
    counts = compare(design, random_groups(design, 60, SEED + 6, longest=14))
    assert counts["number"] > 100
    assert (counts["nan"] > 0) == design.specials


def test_floating_sums_of_written_special_values_and_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    design = BitSerialDesign(("bitmod4", "bitmod3"), accumulate="floating", columns=2, lanes=3)
    stream = random_groups(design, 40, SEED + 7)
    tables = {0: (7, -24, 0, 6), 1: (5, -5)}
    assert compare(design, stream, tables)["number"] > 30
    whole = bitserial(design, stream, tables)
    monkeypatch.setattr("bitkiln.models.golden.bitserial_floating.BLOCK", 50)
    assert (bitserial(design, stream, tables).fp32 == whole.fp32).all()


def test_floating_sums_reach_and_keep_their_largest_place() -> None:
    """The largest products of either sign, group after group; the place stays within its field."""
    for mantissa, kind in ((8, "int8"), (15, "bitmod4"), (32, "int2")):
        design = BitSerialDesign(kind, "fp16", accumulate="floating", mantissa=mantissa, scale="none", group=128)
        weight = design.weights[0]
        codes = [int(np.argmax([v or 0 for v in weight.values])), int(np.argmin([v or 0 for v in weight.values]))]
        acts = np.full((2, 128), 30 << 10 | 1023)
        found = bitserial(design, calm_groups(design, acts, np.repeat(codes, 128).reshape(2, 128)))
        least = design.max_exponent + design.max_shift + 7 + 13 - mantissa
        assert (least <= found.exponent).all() and (found.exponent <= design.max_place).all()
        assert (np.abs(found.value.astype(np.int64)) < 1 << mantissa - 1).all()


def test_every_activation_and_every_scale_was_there() -> None:
    both = [*EXACT.values(), *ALIGNED.values(), *FLOATING.values()]
    assert {design.activation.name for design in both} == set(LEAST)
    assert {design.scale for design in both} == set(SCALES)


def test_written_special_values() -> None:
    """Tables of both types changed; an entry that was not listed is 0."""
    design = BitSerialDesign(("bitmod4", "bitmod3"), "int8", columns=2)
    stream = random_groups(design, 80, SEED + 2)
    other = {0: (7, -24, 0, 6), 1: (5, -5)}
    assert compare(design, stream, other)["number"] > 40
    changed = bitserial(design, stream, other).value != bitserial(design, stream).value
    assert 0 < changed.sum() < changed.size


def test_by_hand() -> None:
    """(2 * 1.5 + -3 * 5 + 0.5 * -2) * 10 + (4 * -8) * 3 = -226, FP16 by BitMoD FP4 with special values 5 and -8."""
    design = BitSerialDesign("bitmod4")
    acts = get_format("fp16").encode(np.array([[2.0, -3.0, 0.5, 4.0]])).astype(np.int64)
    codes = np.array([[3, 8, 12, 8]])
    one = np.zeros((1, 2), np.int64)
    stream = GroupStream(acts, codes, np.array([3, 1]), one, np.array([[0, 3]]), np.array([[10, 3]]), one, one,
                         np.array([False, True]))
    found = bitserial(design, stream)
    assert found.fp32.tolist() == [[[int(np.float32(-226).view(np.uint32))]]]
    assert found.value.tolist() == [[[-226 * 2 ** 25]]] and design.result_exponent == -25


# Special values ----------------------------------------------------------------------------------


FP16_INF, FP16_NAN, FP16_ONE = 0x7C00, 0x7E00, 0x3C00


def one_group(design: BitSerialDesign, acts: list[int], codes: list[int], *, scale: int = 1, negative: int = 1,
              zero: int = 0) -> GroupStream:
    each = np.zeros((1, 1), np.int64)
    return GroupStream(np.array([acts]), np.array([codes]), np.array([len(acts)]), each, each, each + scale,
                       each + negative, each + zero, np.array([True]))


@pytest.mark.parametrize("options, acts, codes, metadata, wanted", [
    ({}, [FP16_NAN, FP16_ONE], [0, 2], {}, NAN),                       # a NaN, whatever its weight
    ({}, [FP16_NAN], [2], {"scale": 0}, NAN),
    ({}, [FP16_INF, FP16_ONE], [2, 10], {}, float("inf")),
    ({}, [FP16_INF], [10], {}, float("-inf")),
    ({}, [FP16_INF | 0x8000], [10], {}, float("inf")),
    ({}, [FP16_INF], [0], {}, NAN),                                    # infinity times zero
    ({}, [FP16_INF], [8], {}, NAN),                                    # minus zero of FP4 is zero
    ({}, [FP16_INF], [2], {"scale": 0}, NAN),
    ({}, [FP16_INF, FP16_INF], [2, 10], {}, NAN),                      # infinities of both signs
    ({}, [FP16_INF, FP16_INF], [2, 3], {}, float("inf")),
    ({"zero_point": 3}, [FP16_INF], [2], {"zero": 1}, NAN),            # the weight less its zero-point is 1 - 1
    ({"zero_point": 3}, [FP16_INF], [2], {"zero": 2}, float("-inf")),
    ({"zero_point": 3}, [FP16_INF], [0], {"zero": -1}, float("inf")),
    ({"dual_scale": True}, [FP16_INF], [2], {"negative": 0}, float("inf")),
    ({"dual_scale": True}, [FP16_INF], [10], {"negative": 0}, NAN),
    ({"dual_scale": True}, [FP16_INF], [10], {"scale": 0}, float("-inf")),
    ({"dual_scale": True}, [FP16_INF], [2], {"scale": 0}, NAN),
    ({"scale": "e8m0"}, [FP16_ONE], [2], {"scale": 255}, NAN),
    ({"scale": "e8m0"}, [FP16_ONE], [0], {"scale": 255}, NAN),
    ({"scale": "ue4m3"}, [FP16_ONE], [2], {"scale": 127}, NAN),
    ({"scale": "ue5m3"}, [FP16_INF], [2], {"scale": 255}, NAN),
    ({"scale": "ue5m3"}, [FP16_INF], [2], {"scale": 0}, NAN),
    ({"specials": False}, [FP16_INF], [2], {}, Fraction(65536)),       # exponent field 31 is finite
    ({"specials": False}, [FP16_NAN], [2], {}, Fraction(65536 + 32768)),
    ({"specials": False, "scale": "e8m0"}, [FP16_ONE], [1], {"scale": 255}, TWO ** 127),
    ({"specials": False, "scale": "ue4m3"}, [FP16_ONE], [2], {"scale": 127}, Fraction(480)),
])
def test_special_values(options: dict, acts: list, codes: list, metadata: dict, wanted) -> None:
    design = BitSerialDesign("fp4", **options)
    stream = one_group(design, acts, codes, **metadata)
    assert slow(design, stream)[0][0][0] == wanted
    assert bitserial(design, stream).fp32[0, 0, 0] == fp32_code(wanted)


def test_a_special_value_lasts_for_its_channel_alone() -> None:
    design = BitSerialDesign("fp4")
    stream = one_group(design, [FP16_NAN, FP16_ONE, FP16_ONE, FP16_ONE], [2] * 4)
    ones, none = np.ones((1, 4), np.int64), np.zeros((1, 4), np.int64)
    stream = GroupStream(stream.activations, stream.codes, np.ones(4, np.int64), none, none, ones, ones, none,
                         np.array([False, True, False, True]))
    assert bitserial(design, stream).fp32.ravel().tolist() == [FP32_NAN, fp32_code(Fraction(2))]


# Rounding ----------------------------------------------------------------------------------------


def stream_of_integers(design: BitSerialDesign, numbers: list[int], exponents: list[int]) -> GroupStream:
    """A group for each number below 2**40: four FP16 numbers of 11 bits side by side, each times one unit of FP4."""
    acts = []
    for number in numbers:
        size, sign = abs(number), 0x8000 if number < 0 else 0
        for place in (0, 11, 22, 29):
            bits = size >> place & (2047 if place < 22 else 127 if place == 22 else 2047)
            # bits * 2**place in units of 2**-24, a normal number where the exponent field is one or more
            up = max(place + bits.bit_length() - 11, 0)
            field = up + 1 if bits and place + bits.bit_length() > 10 else 0
            significand = bits << place >> up if bits else 0
            acts.append(sign | field << 10 | (significand & 1023))
    count = len(numbers)
    none = np.zeros((1, count), np.int64)
    scale = none if design.scale == "none" else np.array([exponents]) + 127
    return GroupStream(np.array([acts]), np.ones((1, 4 * count), np.int64), np.full(count, 4), none, none, scale, none,
                       none, np.ones(count, bool))


def rounding_cases() -> list[int]:
    """Integers at, half way between and one unit beside numbers of 24 bits and fewer, and powers of two."""
    rng = np.random.default_rng(SEED + 3)
    found = {0, 1, 2, 3}
    for bits in (*range(1, 39), 39):
        power = 1 << bits
        found |= {power - 1, power, power + 1}
        for drop in {1, 2, 3, bits - 23}:
            if 1 <= drop <= bits:
                for whole in (power >> drop, (power >> drop) + 1, int(rng.integers(power >> drop, 2 * power >> drop)),
                              (2 * power >> drop) - 1):
                    middle = (2 * whole + 1) << (drop - 1)
                    found |= {middle - 1, middle, middle + 1, whole << drop}
    return sorted(number for number in found if number < 1 << 40)


def test_the_streams_hold_the_integers() -> None:
    design = BitSerialDesign("fp4", scale="none")
    numbers = rounding_cases()
    numbers += [-number for number in numbers]
    values = bitserial(design, stream_of_integers(design, numbers, [])).value.ravel().tolist()
    assert values == numbers and len(numbers) > 1000


def test_float32_rounding() -> None:
    """Ties, subnormals of every length, the least normal number, overflow, both signs."""
    design = BitSerialDesign("fp4", scale="e8m0")  # units of 2**-25
    numbers, exponents = [], []
    for number in rounding_cases():
        length = number.bit_length()
        # As it is; about the least normal number; about half the least subnormal one; about the largest.
        for exponent in {0, *(-126 + 25 - length + step for step in range(-2, 2)),
                         *(-149 + 25 - length + step for step in range(-1, 3)),
                         *(128 + 25 - length + step for step in range(-1, 2))}:
            if -127 <= exponent <= 127:
                numbers += [number, -number]
                exponents += [exponent, exponent]
    found = bitserial(design, stream_of_integers(design, numbers, exponents)).fp32.ravel()
    wanted = np.array([fp32_code(Fraction(number) * TWO ** (exponent - 25))
                       for number, exponent in zip(numbers, exponents, strict=True)], np.uint32)
    np.testing.assert_array_equal(found, wanted)
    field = wanted >> 23 & 255
    assert ((field == 0) & (wanted & 0x7FFFFF > 0)).sum() > 300 and (field == 255).sum() > 100
    assert {0x00800000, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x80000000, 1} <= set(wanted.tolist())


def test_a_sum_that_cancels_is_plus_zero_and_a_product_that_vanishes_has_its_sign() -> None:
    design = BitSerialDesign("fp4", scale="e8m0")
    acts = [FP16_ONE, FP16_ONE | 0x8000]
    assert bitserial(design, one_group(design, acts, [2, 2], scale=127)).fp32[0, 0, 0] == 0
    assert bitserial(design, one_group(design, [0x8000], [2], scale=127)).fp32[0, 0, 0] == 0
    assert bitserial(design, one_group(design, [0x8001], [1], scale=0)).fp32[0, 0, 0] == 0x80000000


# What an exact sum does not depend on -------------------------------------------------------------


PLAIN4 = WeightType("plain4", 4, weight_type("int4").values)  # INT4 whose terms are not Booth digits


@st.composite
def exact_cases(draw) -> tuple[BitSerialDesign, int]:
    weights = draw(st.sampled_from([("bitmod4", "int4"), ("bitmod3",), ("int8", "fp4"), ("ternary", "seq2")]))
    options = draw(st.sampled_from([{}, {"zero_point": 3}, {"dual_scale": True}, {"scale": "none"}, {"scale": "e8m0"},
                                    {"scale": "ue4m3"}, {"specials": False}]))
    activation = draw(st.sampled_from(["fp16", "fp8_e4m3", "fp8_e5m2", "int8"]))
    return BitSerialDesign(weights, activation, columns=2, **options), draw(st.integers(0, 1 << 30))


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name))
               for name in ("value", "exponent", "nan", "pos", "neg", "scale_nan", "fp32"))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(exact_cases(), st.integers(1, 16), st.integers(0, 2), st.booleans())
def test_exact_results_do_not_depend_on_how_they_are_made(case, lanes: int, pipeline: int, skip: bool) -> None:
    """Lanes, registers, skipping, placement, and room for other types in the same engine."""
    design, seed = case
    stream = random_groups(design, 12, seed)
    wanted = bitserial(design, stream)
    other = design.with_options(lanes=lanes, pipeline=pipeline, zero_skip=skip)
    assert same(bitserial(other, stream), wanted)
    if design.activation.name != "int8":
        swapped = {"edge": "pe", "pe": "edge"}[other.placement]
        assert same(bitserial(other.with_options(placement=swapped), stream), wanted)
    wider = bitserial(design.with_options(weights=(*design.weights, "fp6_e2m3"), group=256), stream)
    np.testing.assert_array_equal(wider.fp32, wanted.fp32)  # in finer units


@settings(max_examples=25, deadline=None, derandomize=True)
@given(exact_cases(), st.randoms(use_true_random=False))
def test_exact_results_do_not_depend_on_the_order(case, rng) -> None:
    """Elements of a group in any order; where groups are summed, those of a channel too."""
    design, seed = case
    stream = random_groups(design, 10, seed)
    starts = stream.starts
    order: list[int] = []
    for g in range(len(stream.lengths)):
        inside = list(range(starts[g], starts[g + 1]))
        rng.shuffle(inside)
        order += inside
    shuffled = GroupStream(stream.activations[:, order], stream.codes[:, order], stream.lengths, stream.types,
                           stream.special, stream.scale, stream.scale_negative, stream.zero, stream.emit)
    wanted = bitserial(design, stream)
    assert same(bitserial(design, shuffled), wanted)
    if not design.sums_channel:
        return
    ends = np.flatnonzero(stream.emit) + 1
    groups: list[int] = []
    for first, end in zip(np.concatenate(([0], ends[:-1])), ends, strict=True):
        inside = list(range(first, end))
        rng.shuffle(inside)
        groups += inside
    elements = [k for g in groups for k in range(starts[g], starts[g + 1])]
    moved = GroupStream(stream.activations[:, elements], stream.codes[:, elements], stream.lengths[groups],
                        *(getattr(stream, name)[:, groups]
                          for name in ("types", "special", "scale", "scale_negative", "zero")), stream.emit)
    assert same(bitserial(design, moved), wanted)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(exact_cases(), st.randoms(use_true_random=False))
def test_exact_results_do_not_depend_on_the_chunks(case, rng) -> None:
    """A group cut into two of the same metadata gives the same channel."""
    design, seed = case
    if not design.sums_channel:
        design = design.with_options(scale="uint8")
    stream = random_groups(design, 10, seed)
    lengths: list[int] = []
    source: list[int] = []
    emit: list[bool] = []
    for g, length in enumerate(stream.lengths.tolist()):
        cut = rng.randrange(length)
        for part in ([cut, length - cut] if cut else [length]):
            lengths.append(part)
            source.append(g)
            emit.append(False)
        emit[-1] = bool(stream.emit[g])
    halves = GroupStream(stream.activations, stream.codes, np.array(lengths),
                         *(getattr(stream, name)[:, source]
                           for name in ("types", "special", "scale", "scale_negative", "zero")), np.array(emit))
    assert same(bitserial(design, halves), bitserial(design, stream))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_exact_results_do_not_depend_on_the_term_coder(seed: int) -> None:
    """INT4 by Booth digits, INT4 by the fewest signed digits, and either one's terms added up one at a time."""
    booth, plain = BitSerialDesign("int4", "int8"), BitSerialDesign(PLAIN4, "int8")
    stream = random_groups(booth, 6, seed)
    wanted = bitserial(booth, stream)
    assert same(bitserial(plain, stream), wanted)
    starts = stream.starts
    for kind in (booth.weights[0], PLAIN4):
        value, results = 0, []
        for g in range(len(stream.lengths)):
            for k in range(starts[g], starts[g + 1]):
                sign, size, _, _ = parts(booth, int(stream.activations[0, k]))
                moved = [(-1) ** term.negative * (sign * size << term.shift)
                         for term in kind.code_terms(int(stream.codes[0, k])) if term is not None]
                value += sum(moved) * int(stream.scale[0, g])
            if stream.emit[g]:
                results.append(value)
                value = 0
        assert results == wanted.value.ravel().tolist()


# Error of aligned sums ---------------------------------------------------------------------------


def errors(design: BitSerialDesign, stream: GroupStream) -> tuple[np.ndarray, np.ndarray]:
    """Error of each group's sum and its bound, both in units of ``2**design.product_exponent``."""
    found = bitserial(design, stream)
    starts, off, bounds = stream.starts, [], []
    for g in range(len(stream.lengths)):
        at = range(starts[g], starts[g + 1])
        weights = [weight_value(design, stream, {}, 0, g, int(stream.codes[0, k])) / TWO ** design.weight_exponent
                   for k in at]
        exact = Fraction(0)
        for k, weight in zip(at, weights, strict=True):
            sign, significand, place, _ = parts(design, int(stream.activations[0, k]))
            exact += sign * significand * 2 ** place * weight
        place = int(found.exponent[g, 0, 0])
        aligned = int(found.value[g, 0, 0]) * TWO ** (place - design.guard)
        off.append(abs(aligned - exact))
        bounds.append(aligned_error_bound(design, int(sum(map(abs, weights))), place))
    return np.array(off, object), np.array(bounds, object)


def floating_errors(design: BitSerialDesign, stream: GroupStream) -> tuple[np.ndarray, np.ndarray]:
    """The same of floating sums."""
    found, starts = bitserial(design, stream), stream.starts
    off, bounds = [], []
    for g in range(len(stream.lengths)):
        at = range(starts[g], starts[g + 1])
        acts = [parts(design, int(stream.activations[0, k])) for k in at]
        terms = [weight_terms(design, stream, {}, 0, g, int(stream.codes[0, k])) for k in at]
        exact = sum(sign * significand * 2 ** place * (-1 if term.negative else 1) * 2 ** term.shift
                    for (sign, significand, place, _), each in zip(acts, terms, strict=True) for term in each if term)
        place = int(found.exponent[g, 0, 0])
        off.append(abs(int(found.value[g, 0, 0]) * TWO ** (place - design.guard) - exact))
        steps = -(-int(stream.lengths[g]) // design.lanes) * design.max_terms
        bounds.append(floating_error_bound(design, floating_sum(design, acts, terms)[2], steps, place))
    return np.array(off, object), np.array(bounds, object)


def calm_groups(design: BitSerialDesign, acts: np.ndarray, codes: np.ndarray) -> GroupStream:
    """Groups (n, length) of finite activations, without scales."""
    groups, length = acts.shape
    none = np.zeros((1, groups), np.int64)
    return GroupStream(acts.reshape(1, -1), codes.reshape(1, -1), np.full(groups, length), none, none, none, none, none,
                       np.ones(groups, bool))


@pytest.mark.parametrize("rounding", ["trunc", "rne"])
@pytest.mark.parametrize("guard", [0, 3, 8])
@pytest.mark.parametrize("activation", ["fp16", "bf16", "fp8_e5m2"])
def test_error_of_aligned_sums_is_bounded(activation: str, guard: int, rounding: str) -> None:
    design = BitSerialDesign("int6", activation, accumulate="aligned", guard=guard, rounding=rounding, scale="none")
    rng = np.random.default_rng(SEED + 4)
    fmt = design.activation
    groups, length = 60, 48
    spread = fmt.encode(rng.normal(0, 1, (groups, length)) * 2.0 ** rng.integers(-8, 8, (groups, length)))
    rising = fmt.encode(np.clip(np.sort(np.abs(rng.standard_cauchy((groups, length))), axis=1), 0, 1000.0))
    acts = np.concatenate([spread, rising]).astype(np.int64)
    off, bound = errors(design, calm_groups(design, acts, rng.integers(0, 64, acts.shape)))
    assert (off <= bound).all() and (off > 0).sum() > 20


@pytest.mark.parametrize("rounding", ["trunc", "rne"])
@pytest.mark.parametrize("guard, mantissa", [(0, 10), (3, 15), (8, 24)])
def test_error_of_floating_sums_is_bounded(guard: int, mantissa: int, rounding: str) -> None:
    design = BitSerialDesign("int6", accumulate="floating", guard=guard, mantissa=mantissa, rounding=rounding,
                             scale="none")
    rng = np.random.default_rng(SEED + 8)
    acts = design.activation.encode(rng.normal(0, 1, (60, 48)) * 2.0 ** rng.integers(-8, 8, (60, 48))).astype(np.int64)
    off, bound = floating_errors(design, calm_groups(design, acts, rng.integers(0, 64, acts.shape)))
    assert (off <= bound).all() and (off > 0).sum() > 20


@pytest.mark.parametrize("rounding, reached", [("trunc", 0.99), ("rne", 0.95)])
def test_the_bound_is_nearly_reached(rounding: str, reached: float) -> None:
    """A large activation first, then only what stands just below the last guard bit (or just below half of it)."""
    design = BitSerialDesign("int6", "fp16", accumulate="aligned", guard=2, rounding=rounding, scale="none", lanes=4)
    length = 128
    acts = np.zeros((1, length), np.int64)
    acts[0, 0] = 30 << 10                             # significand 2**10 at place 29
    acts[0, 1:] = (30 - 13) << 10 | 1023              # 2047 * 4 >> 13: all of it is below the last guard bit
    if rounding == "rne":
        acts[0, 1:] = (30 - 14) << 10 | 1023          # just below one half: rounded away
    codes = np.full((1, length), 31)
    codes[0, 0] = 0
    off, bound = errors(design, calm_groups(design, acts, codes))
    assert reached * bound[0] < off[0] <= bound[0]


def test_falling_sums_lose_less_than_one_place() -> None:
    """Exponents only grow, by 1 to 12 a chunk: no activation is cut, and all floors together lose less than one."""
    design = BitSerialDesign("int6", "fp16", accumulate="aligned", guard=0, scale="none", lanes=1)
    rng = np.random.default_rng(SEED + 5)
    groups, length = 300, 12
    fields = np.minimum(np.cumsum(rng.integers(1, 13, (groups, length)), axis=1), 30)
    signs, codes = rng.integers(0, 2, (groups, length)) << 15, rng.integers(0, 64, (groups, length))
    acts = np.where(np.roll(fields, 1, axis=1) == fields, 0, fields << 10 | rng.integers(0, 1024, fields.shape)) | signs
    stream = calm_groups(design, acts, codes)
    off, bound = errors(design, stream)
    places = bitserial(design, stream).exponent.ravel().tolist()
    lost = np.array([float(one / 2 ** place) for one, place in zip(off, places, strict=True)])
    assert 0.9 < lost.max() < 1 and (off <= bound).all()


# Refusals ----------------------------------------------------------------------------------------


def test_refusals() -> None:
    design = BitSerialDesign("int4", rows=2, group=4, groups=2)
    good = random_groups(design, 3, 1)

    def message(**changes) -> str:
        fields = {name: getattr(good, name) for name in good.__dataclass_fields__} | changes
        with pytest.raises(BitkilnError) as caught:
            bitserial(design, GroupStream(**fields))
        return str(caught.value)

    total = int(good.lengths.sum())
    assert message(activations=good.activations[:1]) == (
        f"error: shape mismatch at activations and codes: got '(1, {total}) and (1, {total})', expected (2, {total}) "
        f"and (1, {total})")
    assert message(lengths=np.array([5, 1, 1]), activations=np.zeros((2, 7), int), codes=np.zeros((1, 7), int)) == (
        "error: group length out of range at lengths: got '1 to 5', expected 1 to 4")
    assert message(lengths=np.array([0, 1, 1]), activations=np.zeros((2, 2), int), codes=np.zeros((1, 2), int)) == (
        "error: group length out of range at lengths: got '0 to 1', expected 1 to 4")
    assert message(emit=np.array([False, False, True])) == (
        "error: too many groups in a channel at emit: got 3, expected at most 2")
