# amaranth: UnusedElaboratable=no
"""Checks of the blocks of the bit-serial array (see `block_check.BlockCheck`), with Python integers.

Term decoders over every code, step and legal special value; edges of rows over every code in every lane, aligned ones
in groups whose exponents grow; processing elements and dequantisers in the order of the array's control, with gaps;
the rounding to float32 at every boundary that its exponent can reach. What is compared is what the outputs mean: a
term's signed power of two, an operand's number, a sum in the cycle in which it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitkiln.hw.arith.fixed_to_fp32 import FixedToFp32
from bitkiln.hw.dequant.activation import ActivationEdge, has_inf, has_nan, operand_layout
from bitkiln.hw.dequant.pe import BitSerialPe, flag_layout
from bitkiln.hw.dequant.scaler import GroupDequantiser, activation_sum_bits
from bitkiln.hw.dequant.terms import TermDecoder, term_layout
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.weights import Term, WeightType
from bitkiln.models.errors import BitkilnError

from .batch import to_ints
from .bitserial_check import bits_of, pack_bits
from .block_check import FP32_INFINITY, FP32_SIGN, Arrays, BlockCheck, Segment, port_array
from .output_check import pack32

__all__ = ["BITSERIAL", "BLOCK_DESIGNS", "bitserial_block", "mutated_blocks"]

ROWS = 20_000
DECODER_ROWS = 1 << 18
FP32_NAN = 0x7FC00000

# Arrays whose blocks have, between them, all that a block can have.
BLOCK_DESIGNS = {
    "exact": BitSerialDesign(("bitmod4", "bitmod3", "int6"), groups=4),
    "zero-point": BitSerialDesign(("fp4", "int4"), "fp8_e4m3", zero_point=4, scale="uint4", lanes=3, group=32, groups=4,
                                  pipeline=2, zero_skip=True),
    "two scales": BitSerialDesign(("fp4", "bitmod3"), "int8", dual_scale=True, scale="uint6", lanes=2, group=16,
                                  groups=2, pipeline=0),
    "aligned": BitSerialDesign("int8", "bf16", rounding="rne", scale="e8m0"),
    "in the pe": BitSerialDesign(("nf4_int8", "fp3"), "fp8_e5m2", scale="ue5m3", placement="pe", pipeline=2, lanes=3,
                                 group=8),
    "floating": BitSerialDesign(("bitmod4", "int6"), accumulate="floating", group=64, scale="uint6"),
    "floating, rne": BitSerialDesign(("fp6_e3m2", "int3"), "bf16", accumulate="floating", guard=2, rounding="rne",
                                     mantissa=12, scale="e8m0", lanes=3, pipeline=2, group=32),
}



def bitserial_block(component, seed: int = 1) -> BlockCheck:
    """Vectors of one block of the bit-serial array."""
    kind, make = BITSERIAL[type(component)]
    return make(component, kind, np.random.default_rng(seed))


# Weights -----------------------------------------------------------------------------------------


def _power(term: Term | None, offset: int) -> int:
    return 0 if term is None else (-1 if term.negative else 1) << (term.shift + offset)


def _steps(design: BitSerialDesign, index: int, terms: tuple[Term | None, ...]) -> list[int]:
    """What a weight is multiplied by in each step, in common units; with ``zero_skip`` zeros close up."""
    powers = [_power(term, design.offset(index)) for term in terms]
    if design.zero_skip:
        powers = [power for power in powers if power]
    return (powers + [0] * design.max_terms)[:design.max_terms]


def _legal_specials(kind: WeightType) -> list[int]:
    """Every value that the special-value table of a type can be given."""
    def fits(value: int) -> bool:
        try:
            kind.check_special(value)
        except BitkilnError:
            return False
        return True

    return [value for value in range(-kind.max_units, kind.max_units + 1) if fits(value)]


def _special_word(design: BitSerialDesign, index: int, value: int) -> int:
    item, word = term_layout(design), 0
    for at, term in enumerate(design.weights[index].check_special(value)):
        fields = int(term.negative) << item["neg"].offset | 1 << item["valid"].offset
        word |= (fields | (term.shift + design.offset(index)) << item["shift"].offset) << at * item.size
    return word


def _powers_of(design: BitSerialDesign, words: np.ndarray) -> np.ndarray:
    """Signed powers of two of packed terms."""
    item = term_layout(design)
    neg, valid = (words >> item[name].offset & 1 for name in ("neg", "valid"))
    shift = words >> item["shift"].offset & ((1 << item["shift"].width) - 1)
    return np.where(valid == 1, np.where(neg == 1, -1, 1) << shift, 0)


def _term_decoder(component: TermDecoder, kind: str, rng: np.random.Generator) -> BlockCheck:
    """Every type, code, step, special value and zero-point together, or as many of them as fit."""
    design, item = component.design, term_layout(component.design)
    bits, steps = design.code_bits, design.max_terms
    points = np.arange(1 << design.zero_point) if component.has_flags and design.zero_point else np.zeros(1, np.int64)
    parts, complete = [], True
    for index, weight in enumerate(design.weights):
        has_special = weight.special_code is not None
        values = _legal_specials(weight) if has_special else [0]
        words = [_special_word(design, index, value) if has_special else 0 for value in values]
        powers = np.array([_steps(design, index, weight.code_terms(code & ((1 << weight.bits) - 1)))
                           for code in range(1 << bits)])
        special = np.array([_steps(design, index, weight.check_special(value) if has_special else ())
                            for value in values])
        shape = (1 << bits, steps, len(values), len(points))
        size = int(np.prod(shape))
        cells = np.arange(size)
        if size > DECODER_ROWS:
            complete = False
            cells = rng.integers(0, size, DECODER_ROWS)
            if has_special:  # these are what the special values are for
                cells[::2] = np.ravel_multi_index((np.full(len(cells[::2]), weight.special_code),
                                                   *(rng.integers(0, n, len(cells[::2])) for n in shape[1:])), shape)
        code, step, entry, point = np.unravel_index(cells, shape)
        chosen = powers[code]
        if has_special:
            is_special = code & ((1 << weight.bits) - 1) == weight.special_code
            chosen = np.where(is_special[:, None], special[entry], chosen)
        parts.append({"code": code, "type": np.full(len(code), index), "step": step, "special": np.array(words)[entry],
                      "zero_point": points[point], "value": chosen[np.arange(len(code)), step],
                      "count": (chosen != 0).sum(axis=1), "units": chosen.sum(axis=1)})
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    inputs = {name: rows[name] for name in ("code", "type", "step", "special", "zero_point")
              if name in component.signature.members}
    expected = {"value": rows["value"]}
    if design.zero_skip:
        expected["count"] = rows["count"]
    if component.has_flags:
        signed = rows["zero_point"] - ((rows["zero_point"] >> max(design.zero_point - 1, 0) << design.zero_point)
                                       if design.zero_point else 0)
        weight_less = rows["units"] - (signed << design.zero_shift)
        expected |= {"zero": weight_less == 0, "negative": weight_less < 0}

    def view(outputs: Arrays) -> Arrays:
        seen = {"value": _powers_of(design, outputs["term"].astype(np.int64) & ((1 << item.size) - 1))}
        if "count" in outputs:
            seen["count"] = outputs["count"].astype(np.int64)
        if "zero" in outputs:  # a weight of zero has no sign
            zero = outputs["zero"].astype(bool)
            seen |= {"zero": zero, "negative": outputs["negative"].astype(bool) & ~zero}
        return seen

    return BlockCheck(kind, complete, lambda: iter([Segment(inputs, expected)]), view)


# Activations -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Activations:
    """Codes (n, lanes) by the definition of their format.

    Attributes
    ----------
    sign, significand, place : ndarray
        ``(-1)**sign * significand * 2**place`` in units of the smallest subnormal; significand 0 for special values.
    nan, inf : bool ndarray
    """

    sign: np.ndarray
    significand: np.ndarray
    place: np.ndarray
    nan: np.ndarray
    inf: np.ndarray


def _activations(design: BitSerialDesign, codes: np.ndarray) -> _Activations:
    fmt, none = design.activation, np.zeros(codes.shape, bool)
    if fmt.family == "int":
        value = codes - ((codes >> 7) << 8)
        return _Activations(codes >> 7, np.abs(value), np.zeros_like(codes), none, none)
    mantissa = codes & ((1 << fmt.mantissa_bits) - 1)
    field = codes >> fmt.mantissa_bits & ((1 << fmt.exponent_bits) - 1)
    top = field == (1 << fmt.exponent_bits) - 1
    nan = inf = none
    if design.specials and fmt.has_inf:
        nan, inf = top & (mantissa > 0), top & (mantissa == 0)
    elif design.specials:
        nan = top & (mantissa == (1 << fmt.mantissa_bits) - 1)
    significand = np.where(nan | inf, 0, mantissa + ((field > 0) << fmt.mantissa_bits))
    return _Activations(codes >> (fmt.bits - 1), significand, np.maximum(field, 1) - 1, nan, inf)


def _operands_of(design: BitSerialDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers of packed operands, (n, lanes) each: magnitude at its place with its sign, and infinities by sign.

    ``floating``: the place on its own, and whether the magnitude is not zero.
    """
    layout, floating = operand_layout(design), design.accumulate == "floating"
    numbers, plus, minus = [], [], []
    own: dict[str, list[np.ndarray]] = {"place": [], "some": []} if floating else {}
    for lane in range(design.lanes):
        base = lane * layout.size
        field = {name: bits_of(words, base + part.offset, part.width) for name, part in layout}
        sign = field["sign"].astype(bool)
        size = field["magnitude"] << field["place"] if "place" in field and not floating else field["magnitude"]
        for name, values in own.items():
            values.append(field[name])
        numbers.append(np.where(sign, -size, size))
        inf = field.get("inf", np.zeros_like(sign)).astype(bool)
        plus.append(inf & ~sign)
        minus.append(inf & sign)
    return {name: np.stack(values, axis=1)
            for name, values in {"number": numbers, "plus": plus, "minus": minus, **own}.items()}


def _activation_edge(component: ActivationEdge, kind: str, rng: np.random.Generator) -> BlockCheck:
    return _aligned_edge(component, kind, rng) if component.aligned else _exact_edge(component, kind, rng)


def _edge_view(component: ActivationEdge) -> Callable[[Arrays], Arrays]:
    design = component.design

    def view(outputs: Arrays) -> Arrays:
        seen = _operands_of(design, outputs["operands"])
        if "nan" in outputs:
            seen["nan"] = outputs["nan"].astype(bool)
        if "total" in outputs:
            seen["total"] = to_ints(outputs["total"], component.total_bits, True)
        if "drop" in outputs:  # beyond its width a sum is its sign
            seen |= {"drop": np.minimum(outputs["drop"].astype(np.int64), design.sum_bits),
                     "place": outputs["place"].astype(np.int64)}
        return seen

    return view


def _exact_edge(component: ActivationEdge, kind: str, rng: np.random.Generator) -> BlockCheck:
    """Each lane gets every code; masked lanes any."""
    design, lanes, bits = component.design, component.design.lanes, component.design.activation.bits
    repeat = max(ROWS >> bits, 1)
    codes = np.stack([np.concatenate([rng.permutation(1 << bits) for _ in range(repeat)]) for _ in range(lanes)],
                     axis=1)
    codes = np.concatenate([codes, _lone_specials(design, rng, 1000)])
    rows = len(codes)
    mask = rng.random((rows, lanes)) < np.where(rng.random(rows) < 0.5, 1, 0.5)[:, None]
    mask[-1000:] = True
    acts = _activations(design, codes * mask)
    floating = design.accumulate == "floating"
    number = np.where(acts.sign == 1, -1, 1) * (acts.significand << (0 if floating else acts.place))
    expected = {"number": number, "plus": acts.inf & (acts.sign == 0), "minus": acts.inf & (acts.sign == 1)}
    if floating:
        expected |= {"some": number != 0, "place": acts.place}
    if has_nan(design):
        expected["nan"] = acts.nan.any(axis=1)
    if design.zero_point:
        expected["total"] = number.astype(object).sum(axis=1)
    inputs = {"a": pack_bits([(codes, bits)]), "mask": pack_bits([(mask, 1)]), "first": rng.integers(0, 2, rows),
              "en": rng.integers(0, 2, rows)}
    return BlockCheck(kind, False, lambda: iter([Segment(inputs, expected)]), _edge_view(component))


def _lone_specials(design: BitSerialDesign, rng: np.random.Generator, rows: int) -> np.ndarray:
    """Codes (rows, lanes): the top exponent in one lane, with one bit of the mantissa or none, or all but one."""
    fmt = design.activation
    codes = np.zeros((rows, design.lanes), np.int64)
    if fmt.family == "int":
        return codes
    full, one = (1 << fmt.mantissa_bits) - 1, 1 << rng.integers(0, fmt.mantissa_bits, rows)
    mantissa = np.where(rng.random(rows) < 0.5, one, full ^ one)
    mantissa = np.where(rng.random(rows) < 0.2, rng.choice([0, full], rows), mantissa)
    top = rng.integers(0, 2, rows) << (fmt.bits - 1) | ((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits
    codes[np.arange(rows), rng.integers(0, design.lanes, rows)] = top | mantissa
    return codes


def _near_codes(design: BitSerialDesign, rng: np.random.Generator, rows: int, lengths: np.ndarray) -> np.ndarray:
    """Codes (rows, lanes) with exponents close to each other that grow over a group; zeros, subnormals, specials."""
    fmt, lanes = design.activation, design.lanes
    top = (1 << fmt.exponent_bits) - 1
    group = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(rows) - np.repeat(np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    start = np.where(rng.random(len(lengths)) < 0.3, 0, rng.integers(0, top, len(lengths)))
    # Steps of the group's exponent: often none, sometimes far.
    growth = np.where(rng.random(len(lengths)) < 0.8, rng.random(len(lengths)) * 3, rng.integers(0, top, len(lengths)))
    near = start[group] + (growth[group] * inside).astype(np.int64)
    spread = design.significand_bits + design.guard + 4
    field = np.clip(near[:, None] - rng.integers(0, spread, (rows, lanes)) * (rng.random((rows, lanes)) < 0.8), 0, top)
    mantissa = rng.integers(0, 1 << fmt.mantissa_bits, (rows, lanes))
    # Few bits: ties, and exact ones.
    low = rng.integers(0, fmt.mantissa_bits + 1, (rows, lanes))
    mantissa &= np.where(rng.random((rows, lanes)) < 0.3, -1 << low, -1)
    mantissa |= np.where(rng.random((rows, lanes)) < 0.1, (1 << fmt.mantissa_bits) - 1, 0)
    kind = rng.random((rows, lanes))
    field, mantissa = np.where(kind < 0.15, 0, field), np.where(kind < 0.12, 0, mantissa)
    calm = design.specials & (rng.random((rows, lanes)) < 0.9)
    if design.specials and fmt.has_inf:
        field = np.where(calm & (field == top), top - 1, field)
    elif design.specials:
        mantissa = np.where(calm & (field == top), mantissa & -2, mantissa)
    return rng.integers(0, 2, (rows, lanes)) << (fmt.bits - 1) | field << fmt.mantissa_bits | mantissa


def _round_shift(values: np.ndarray, below: np.ndarray, rounding: str) -> np.ndarray:
    below = np.minimum(below, 62)
    kept = values >> below
    if rounding == "trunc":
        return kept
    rest, unit = values - (kept << below), np.int64(1) << below
    return kept + ((2 * rest > unit) | ((2 * rest == unit) & (kept & 1 == 1) & (below > 0)))


def _aligned_edge(component: ActivationEdge, kind: str, rng: np.random.Generator) -> BlockCheck:
    """Groups of chunks; a chunk stands for some cycles, and anything may be there between two chunks."""
    design, lanes, bits = component.design, component.design.lanes, component.design.activation.bits
    lengths = rng.integers(1, 8, ROWS // 8)
    chunks = int(lengths.sum())
    codes = _near_codes(design, rng, chunks, lengths)
    codes = np.where(rng.random(chunks)[:, None] < 0.03, _lone_specials(design, rng, chunks), codes)
    ends = np.cumsum(lengths)
    first = np.zeros(chunks, bool)
    first[ends - lengths] = True
    mask = rng.random((chunks, lanes)) < np.where(rng.random(chunks) < 0.6, 1, 0.5)[:, None]
    acts = _activations(design, codes * mask)
    place, drop = np.zeros(chunks, np.int64), np.zeros(chunks, np.int64)
    group, known = 0, False
    for at, (places, some) in enumerate(zip(acts.place.tolist(), (acts.significand > 0).tolist(), strict=True)):
        if first[at]:
            group, known = 0, False
        largest = max((one for one, there in zip(places, some, strict=True) if there), default=-1)
        if largest >= 0 and (not known or largest > group):
            drop[at] = largest - group if known else 0
            group, known = largest, True
        place[at] = group
    below = np.where(acts.significand > 0, place[:, None] - acts.place, 0)
    size = _round_shift(acts.significand << design.guard, below, design.rounding)
    # Cycles: gaps before a chunk, then the chunk, whose first cycle counts.
    gaps, stay = rng.integers(0, 3, chunks) * (rng.random(chunks) < 0.3), rng.integers(1, 4, chunks)
    begin = np.cumsum(gaps + stay) - stay
    rows = int(begin[-1] + stay[-1]) + 1
    at = np.searchsorted(begin, np.arange(rows), side="right") - 1
    chunk = np.maximum(at, 0)
    live = (at >= 0) & (np.arange(rows) < begin[chunk] + stay[chunk])
    en = np.zeros(rows, bool)
    en[begin] = True
    noise = _near_codes(design, rng, rows, np.ones(rows, np.int64))
    inputs = {"a": pack_bits([(np.where(live[:, None], codes[chunk], noise), bits)]),
              "mask": pack_bits([(np.where(live[:, None], mask[chunk], rng.random((rows, lanes)) < 0.5), 1)]),
              "first": np.where(live, first[chunk], rng.random(rows) < 0.5), "en": en,
              "rst": ~live & (rng.random(rows) < 0.1)}
    number = np.where(acts.sign == 1, -size, size)
    plain = {"number": number, "plus": acts.inf & (acts.sign == 0), "minus": acts.inf & (acts.sign == 1),
             "place": place}
    if has_nan(design):
        plain["nan"] = acts.nan.any(axis=1)
    expected = {name: np.roll(value[chunk], 1, axis=0) for name, value in plain.items()}
    expected["drop"] = np.roll(np.where(en, np.minimum(drop, design.sum_bits)[chunk], 0), 1)
    segment = Segment(inputs, expected, skip=1, care=np.roll(live, 1))
    return BlockCheck(kind, False, lambda: iter([segment]), _edge_view(component))


# Processing element ------------------------------------------------------------------------------


def _delayed(values: np.ndarray, edges: int) -> np.ndarray:
    return np.roll(values, edges, axis=0) if edges else values


@dataclass(frozen=True)
class _Cycles:
    """What a processing element is given, cycle by cycle; all but ``live`` and ``first`` have a column for each lane.

    Attributes
    ----------
    live, last : bool ndarray
        A term counts; it is the group's last.
    step : ndarray
    sign, size, place : ndarray
        Of the operands.
    power : ndarray
        Signed power of two of the terms; 0 for none.
    negative : bool ndarray
        The whole weight is below 0.
    """

    live: np.ndarray
    last: np.ndarray
    step: np.ndarray
    sign: np.ndarray
    size: np.ndarray
    place: np.ndarray
    power: np.ndarray
    negative: np.ndarray


def _pe_cycles(design: BitSerialDesign, rng: np.random.Generator) -> _Cycles:
    """Two groups with the largest sum of either sign, then random ones; idle cycles in which anything is there."""
    lanes, full, terms = design.lanes, -(-design.group // design.lanes), design.max_terms
    longest = min(full, 40)
    lengths = np.concatenate([[full, full], rng.integers(1, longest + 1, ROWS // (terms * (longest + 1)) + 1)])
    chunks, ends = int(lengths.sum()), np.cumsum(lengths)
    group = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(chunks) - (ends - lengths)[group]
    tables = _weight_steps(design)
    largest = int(np.abs(tables.sum(axis=1)).argmax())
    extreme = group[:, None] < 2
    powers = tables[np.where(extreme, largest, rng.integers(0, len(tables), (chunks, lanes)))]
    # Lanes beyond the longest group's end.
    beyond = (inside * lanes)[:, None] + np.arange(lanes) >= design.group
    powers = np.where(beyond[:, :, None], 0, powers)
    sign = np.where(extreme, (group[:, None] == 1) ^ (tables[largest].sum() < 0), rng.random((chunks, lanes)) < 0.5)
    size, place = _operand_values(design, rng, (chunks, lanes))
    size, place = (np.where(extreme, top, each)
                   for top, each in zip(_largest_operand(design), (size, place), strict=True))

    gaps = rng.integers(1, 3, chunks) * (rng.random(chunks) < 0.25)
    begin = np.cumsum(gaps + terms) - terms
    rows = int(begin[-1]) + terms + 4
    at = np.searchsorted(begin, np.arange(rows), side="right") - 1
    chunk = np.maximum(at, 0)
    live = (at >= 0) & (np.arange(rows) < begin[chunk] + terms)
    step = np.where(live, np.arange(rows) - begin[chunk], 0)
    other_size, other_place = _operand_values(design, rng, (rows, lanes))
    noise = {"sign": rng.random((rows, lanes)) < 0.5, "size": other_size, "place": other_place,
             "power": tables[rng.integers(0, len(tables), (rows, lanes)), rng.integers(0, terms, (rows, lanes))],
             "negative": rng.random((rows, lanes)) < 0.5}
    real = {"sign": sign[chunk], "size": size[chunk], "place": place[chunk], "power": powers[chunk, :, step],
            "negative": (powers.sum(axis=2) < 0)[chunk]}
    return _Cycles(live, live & (inside + 1 == lengths[group])[chunk] & (step == terms - 1), step,
                   **{name: np.where(live[:, None], value, noise[name]) for name, value in real.items()})


def _pe(component: BitSerialPe, kind: str, rng: np.random.Generator) -> BlockCheck:
    """Groups of weights, term after term.

    After the edge of row t the accumulator has what was on its way for ``pipeline`` edges, and the output adds what
    comes next.
    """
    design, delay = component.design, component.design.pipeline
    cycles = _pe_cycles(design, rng)
    rows, lanes = cycles.size.shape
    inf = rng.random((rows, lanes)) < 0.04 if has_inf(design) else np.zeros((rows, lanes), bool)
    nan, zero = rng.random(rows) < 0.04, rng.random((rows, lanes)) < 0.3
    negative = cycles.negative if design.dual_scale else rng.random((rows, lanes)) < 0.5
    size = np.where(inf, 0, cycles.size)  # an infinity counts through its flag alone
    place = np.where(inf, design.max_exponent + 1, cycles.place) if design.placement == "pe" else cycles.place
    en, last = (_delayed(one, delay) for one in (cycles.live, cycles.last))
    last |= ~en & (rng.random(rows) < 0.5)  # means nothing there
    reset = rng.random(rows) < 0.002
    reset[:int(np.flatnonzero(last & en)[1]) + 1] = False  # the largest groups stay whole
    inputs: Arrays = {"operands": _pack_operands(design, cycles.sign, size, place, inf), "rst": reset,
                      "terms": _pack_terms(design, cycles.power, rng), "en": en, "last": last}
    drop = np.zeros(rows, np.int64)
    if component.aligned:
        few = np.where(rng.random(rows) < 0.5, 3, (1 << component.drop.shape().width) - 1)
        drop = np.where(rng.random(rows) < 0.3, rng.integers(0, 1 << 16, rows) & few, 0)
        inputs["drop"] = drop
    check = cycles.live & (cycles.step == 0)
    if has_nan(design):
        inputs |= {"nan": nan, "check": check}
    if has_inf(design):
        inputs["zero"] = pack_bits([(zero, 1)])
    if has_inf(design) or design.dual_scale:
        inputs["negative"] = pack_bits([(negative, 1)])

    expected: Arrays
    if design.accumulate == "floating":
        steps = _floating_steps(design, cycles.sign, size, np.where(inf, 0, place), cycles.power)
        expected = _floating_sums(design, *steps, en, last, reset)
    else:
        sums = _fixed_products(cycles, size, np.where(inf, 0, place), negative if design.dual_scale else None)
        expected = {name: _accumulated(design, value, en, last, reset, drop) for name, value in sums.items()}
    if has_nan(design):
        counts, below = inf & ~zero, cycles.sign ^ negative
        flags = {"nan": nan | (inf & zero).any(axis=1), "pos": (counts & ~below).any(axis=1),
                 "neg": (counts & below).any(axis=1)}
        expected |= {name: _collected(check & flags[name], en, last, reset, delay) for name, _ in flag_layout(design)}

    def view(outputs: Arrays) -> Arrays:
        seen = {name: to_ints(outputs[name], design.sum_bits, True) for name in ("sum", "sum_negative")
                if name in outputs}
        if "place" in outputs:
            seen["place"] = outputs["place"].astype(np.int64)
        if "flags" in outputs:
            seen |= {name: (outputs["flags"] >> part.offset & 1).astype(bool) for name, part in flag_layout(design)}
        return seen

    segment = Segment(inputs, expected, skip=delay)
    return BlockCheck(kind, False, lambda: iter([segment]), view)


def _weight_steps(design: BitSerialDesign) -> np.ndarray:
    """Signed powers of two by step of every weight that there can be, (weights, steps)."""
    found = []
    for index, weight in enumerate(design.weights):
        found += [_steps(design, index, weight.code_terms(code)) for code in range(1 << weight.bits)]
        if weight.special_code is not None:
            found += [_steps(design, index, weight.check_special(value)) for value in _legal_specials(weight)]
    return np.array(found)


def _operand_values(design: BitSerialDesign, rng: np.random.Generator, shape: tuple[int, ...]
                    ) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and places: significands of activations at a place, or aligned ones."""
    if design.accumulate == "floating":
        # Products whose exponents are near each other, and the whole range.
        size = rng.integers(0, 1 << design.significand_bits, shape) * (rng.random(shape) < 0.9)
        near = np.repeat(rng.integers(0, design.max_exponent + 1, -(-shape[0] // 6)), 6)[:shape[0], None]
        return size, np.clip(near - rng.integers(0, design.operand_bits + 4, shape), 0, design.max_exponent)
    if design.accumulate == "aligned":
        size = rng.integers(0, design.max_operand + 1, shape) >> rng.integers(0, design.operand_bits, shape)
        return size, np.zeros(shape, np.int64)
    size = rng.integers(0, 1 << design.significand_bits, shape) if design.max_exponent else rng.integers(0, 129, shape)
    place = rng.integers(0, design.max_exponent + 1, shape)
    largest = size << place > design.max_activation
    return np.where(largest | (rng.random(shape) < 0.1), 0, size), place


def _largest_operand(design: BitSerialDesign) -> tuple[int, int]:
    if design.accumulate == "aligned":
        return design.max_operand, 0
    if design.accumulate == "floating":
        return (1 << design.significand_bits) - 1, design.max_exponent
    return design.max_operand >> design.max_exponent, design.max_exponent


def _pack_operands(design: BitSerialDesign, sign: np.ndarray, size: np.ndarray, place: np.ndarray, inf: np.ndarray
                   ) -> np.ndarray:
    fields = []
    for lane in range(design.lanes):
        values = {"sign": sign[:, lane], "inf": inf[:, lane], "some": size[:, lane] != 0}
        if design.placement == "pe":
            values |= {"magnitude": size[:, lane], "place": place[:, lane]}
        else:
            values["magnitude"] = size[:, lane] << place[:, lane]
        fields += [(values[name], part.width) for name, part in operand_layout(design)]
    return pack_bits(fields)


def _pack_terms(design: BitSerialDesign, power: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Terms; where there is none, sign and shift are anything."""
    item, fields = term_layout(design), []
    shift = np.zeros_like(power)
    for bit in range(1, design.max_shift + 1):
        shift = np.where(np.abs(power) >> bit == 1, bit, shift)
    valid = power != 0
    shift = np.where(valid, shift, rng.integers(0, design.max_shift + 1, power.shape))
    neg = np.where(valid, power < 0, rng.random(power.shape) < 0.5)
    for lane in range(design.lanes):
        values = {"neg": neg[:, lane], "valid": valid[:, lane], "shift": shift[:, lane]}
        fields += [(values[name], part.width) for name, part in item]
    return pack_bits(fields)


def _fixed_products(cycles: _Cycles, size: np.ndarray, place: np.ndarray, negative: np.ndarray | None
                    ) -> dict[str, np.ndarray]:
    """What each cycle adds; of negative weights (where they are given) on its own."""
    signed = np.where(cycles.sign, -size, size).astype(object)
    product = (signed << place.astype(object)) * cycles.power.astype(object)
    if negative is None:
        return {"sum": product.sum(axis=1)}
    return {"sum": np.where(negative, 0, product).sum(axis=1),
            "sum_negative": np.where(negative, product, 0).sum(axis=1)}


def _floating_steps(design: BitSerialDesign, sign: np.ndarray, size: np.ndarray, place: np.ndarray, power: np.ndarray
                    ) -> tuple[np.ndarray, np.ndarray]:
    """What each cycle adds, and its place."""
    product = (size != 0) & (power != 0)
    shift = np.array([max(int(each).bit_length() - 1, 0) for each in np.abs(power).ravel()]).reshape(power.shape)
    at = np.where(product, place + shift, 0)
    largest = at.max(axis=1)
    kept = _round_shift(np.where(product, size << design.guard, 0), largest[:, None] - at, design.rounding)
    return np.where(sign ^ (power < 0), -kept, kept).sum(axis=1), largest


def _floating_sums(design: BitSerialDesign, added: np.ndarray, at: np.ndarray, en: np.ndarray, last: np.ndarray,
                   reset: np.ndarray) -> Arrays:
    """What the ports show after each edge; see `_accumulated`."""
    delay, limit = design.pipeline, 1 << design.mantissa - 1

    def plus(held: tuple[int, int], value: int, place: int) -> tuple[int, int]:
        if not value:
            return held
        top = max(held[1], place)
        total = (held[0] >> top - held[1]) + (value >> top - place)
        while abs(total) >= limit:
            total, top = total >> 1, top + 1
        return total, top

    arrives, following = ([_delayed(part, edges).tolist() for part in (added, at)]
                          for edges in (delay, max(delay - 1, 0)))
    held, out = (0, 0), []
    for t in range(len(added)):
        if reset[t] or (en[t] and last[t]):
            held = (0, 0)
        elif en[t]:
            held = plus(held, arrives[0][t], arrives[1][t])
        out.append(plus(held, following[0][t], following[1][t]))
    total, place = zip(*out, strict=True)
    return {"sum": np.array(total, object), "place": np.array(place)}


def _wrap(value: int, bits: int) -> int:
    return (value + (1 << (bits - 1)) & ((1 << bits) - 1)) - (1 << (bits - 1))


def _accumulated(design: BitSerialDesign, added: np.ndarray, en: np.ndarray, last: np.ndarray, reset: np.ndarray,
                 drop: np.ndarray) -> np.ndarray:
    """What the sum port shows after each edge, as signed integers of its width."""
    delay = design.pipeline
    arrives, next_one = _delayed(added, delay), _delayed(added, max(delay - 1, 0))
    held, out = 0, np.empty(len(added), object)
    for t in range(len(added)):
        if reset[t] or (en[t] and last[t]):
            held = 0
        elif en[t]:
            held = _wrap((held >> int(drop[t])) + arrives[t], design.sum_bits)
        out[t] = _wrap((held >> int(drop[t])) + next_one[t], design.sum_bits)
    return out


def _collected(events: np.ndarray, en: np.ndarray, last: np.ndarray, reset: np.ndarray, delay: int) -> np.ndarray:
    """A flag as the port shows it after each edge."""
    arrives, next_one = _delayed(events, delay), _delayed(events, max(delay - 1, 0))
    held, out = False, np.zeros(len(events), bool)
    for t in range(len(events)):
        if reset[t] or (en[t] and last[t]):
            held = False
        elif en[t]:
            held = held or bool(arrives[t])
        out[t] = held or bool(next_one[t])
    return out


# Dequantiser -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loads:
    """Groups that a dequantiser is given, one entry each.

    Attributes
    ----------
    at : ndarray
        Cycle of the load.
    fresh : bool ndarray
        The group begins a channel.
    sums : ndarray (2, n) of object
        Of the weights, and of the negative ones where they have a scale of their own.
    activations, zero : ndarray
        Sum of the activations, zero-point.
    scales : ndarray (2, n)
    """

    at: np.ndarray
    fresh: np.ndarray
    sums: np.ndarray
    activations: np.ndarray
    zero: np.ndarray
    scales: np.ndarray


def _loads(design: BitSerialDesign, rng: np.random.Generator) -> _Loads:
    """A channel of the largest groups of either sign, then random ones, as close as they may be or later."""
    cycles, groups = design.scale_cycles, ROWS // (design.scale_cycles + 3)
    longest = min(design.groups, 12) if design.sums_channel else 1
    at = np.cumsum(max(cycles, 1) + rng.integers(0, 4, groups) * (rng.random(groups) < 0.4))
    fresh = rng.random(groups) < 0.4
    fresh[:2 * longest] = False
    fresh[[0, longest, 2 * longest]] = True
    run = 0
    for g in range(groups):
        run = 1 if fresh[g] else run + 1
        if run > longest:
            fresh[g], run = True, 1
    extreme = np.arange(groups) < 2 * longest
    high = (1 << design.scale_bits) - 1 if design.scale_bits else 1
    scales = rng.integers(0 if design.scale_bits else 1, high + 1, (2, groups))
    scales = np.where(extreme | (rng.random((2, groups)) < 0.1), high, scales)
    # Of two parts with a weight each; the largest are one part.
    weights = _weight_steps(design).sum(axis=1)
    values = np.concatenate([weights, [weights.max(), weights.min()]])
    one, two = values[rng.integers(0, len(values), (2, groups))]
    half = 1 << design.zero_point - 1 if design.zero_point else 0
    zero = rng.integers(-half, max(half, 1), groups)
    zero = np.where(rng.random(groups) < 0.2, rng.choice([-half, max(half - 1, 0)], groups), zero)
    # The largest difference of a weight and a zero-point.
    top, bottom = int(weights.max()) + (half << design.zero_shift), int(weights.min()) - (half - 1 << design.zero_shift)
    one = np.where(extreme, weights.max() if not half or top >= -bottom else weights.min(), one)
    zero = np.where(extreme & (half > 0), -half if top >= -bottom else half - 1, zero)
    largest = design.max_operand * design.group
    if design.accumulate == "floating":
        largest = ((1 << design.mantissa - 1) - 1) // design.max_weight
    most = largest * (design.groups if not design.scale_bits and design.sums_channel else 1)
    parts = np.empty((2, groups), object)
    for g in range(groups):
        size = most if extreme[g] or rng.random() < 0.1 else _magnitude(rng, most)
        rest = 0 if extreme[g] else _magnitude(rng, most - size)
        up = (-1 if g >= longest else 1) * (-1 if one[g] < int(zero[g]) << design.zero_shift else 1)
        signs = (up, 1) if extreme[g] else rng.choice([-1, 1], 2).tolist()
        parts[:, g] = signs[0] * size, signs[1] * rest
    products = parts * np.array([one, two]).astype(object)
    sums = np.array([products.sum(axis=0), np.zeros(groups, object)])
    if design.dual_scale:
        sums = np.array([np.where(np.array([one, two]) > 0, products, 0).sum(axis=0),
                         np.where(np.array([one, two]) < 0, products, 0).sum(axis=0)])
    return _Loads(at, fresh, sums, parts.sum(axis=0), zero, scales)


def _magnitude(rng: np.random.Generator, most: int) -> int:
    """Up to ``most``, each length as likely."""
    length = int(rng.integers(0, most.bit_length() + 1))
    return min(int.from_bytes(rng.bytes(16), "little") >> (128 - length), most) if length else 0


def _phases(design: BitSerialDesign, loads: _Loads, inputs: Arrays, moving: np.ndarray, rng: np.random.Generator
            ) -> np.ndarray:
    """Put bits and controls of every group's phases where they belong; returns the last cycle of each.

    Some phases pause where the next load leaves time for it: a register that toggles is right every other cycle.
    """
    order, ends = np.arange(design.scale_cycles), loads.at.copy()
    for g, load in enumerate(loads.at.tolist()):
        spare = int(loads.at[g + 1]) - load - len(order) if g + 1 < len(ends) else 0
        pause = int(rng.integers(1, max(len(order), 2)))
        cycles = iter((load + 1 + order + int(rng.integers(0, spare + 1)) * (order >= pause)).tolist())
        inputs["start"][load + 1], inputs["fresh"][load + 1] = True, loads.fresh[g]
        for bit in range(design.zero_point):
            at = ends[g] = next(cycles)
            inputs["zeroing"][at], inputs["last_zero"][at] = True, bit == design.zero_point - 1
            inputs["bit"][at] = int(loads.zero[g]) >> bit & 1
            moving[at] = int(loads.activations[g]) << design.zero_shift + bit
        for number in range(1 + design.dual_scale):
            for bit in range(design.scale_bits):
                at = ends[g] = next(cycles)
                inputs["scaling"][at], inputs["bit"][at] = True, int(loads.scales[number, g]) >> bit & 1
                inputs["second"][at] = number == 0 and bit == design.scale_bits - 1
    return ends


def _dequantiser(component: GroupDequantiser, kind: str, rng: np.random.Generator) -> BlockCheck:
    """The result from the end of a group's phases to the next group's; sum and flags are there in the load's cycle
    alone."""
    design, cycles = component.design, component.design.scale_cycles
    loads = _loads(design, rng)
    rows = int(loads.at[-1]) + cycles + 3
    names = ("load", "scaling", "start", "fresh", "zeroing", "last_zero", "second", "bit")
    inputs: Arrays = {name: np.zeros(rows, bool) for name in names}
    inputs["load"][loads.at] = True
    for name in ("bit", "fresh"):
        inputs[name] = rng.random(rows) < 0.5
    for name, values in zip(("sum", "sum_negative"), loads.sums, strict=True):
        every = loads.sums[0][rng.integers(0, len(loads.at), rows)]
        every[loads.at] = values
        inputs[name] = port_array(every.tolist(), design.sum_bits)
    moving = rng.integers(0, 1 << 30, rows).astype(object)
    ends = _phases(design, loads, inputs, moving, rng) if cycles else loads.at
    inputs["activations"] = port_array(moving.tolist(), activation_sum_bits(design))
    layout = flag_layout(design)
    flags = {name: rng.random(rows) < 0.15 for name, _ in layout}
    if flags:
        inputs["flags"] = pack_bits([(flags[name], 1) for name in flags]).astype(np.int64)

    expected: Arrays = {"result": np.zeros(rows, object), **{name: np.zeros(rows, bool) for name in flags}}
    care, total, seen = np.zeros(rows, bool), 0, dict.fromkeys(flags, False)
    for g, load in enumerate(loads.at.tolist()):
        if loads.fresh[g] or component.form != "accumulate":
            total, seen = 0, dict.fromkeys(flags, False)
        point = int(loads.zero[g]) << design.zero_shift
        total += (loads.sums[0, g] - loads.activations[g] * point) * int(loads.scales[0, g])
        total += loads.sums[1, g] * int(loads.scales[1, g])
        seen = {name: value or bool(flags[name][load]) for name, value in seen.items()}
        following = int(loads.at[g + 1]) if g + 1 < len(loads.at) else rows - 1
        shown = slice(int(ends[g]), following + (cycles > 0))
        care[shown], expected["result"][shown] = True, total
        for name, value in seen.items():
            expected[name][shown] = value

    def view(outputs: Arrays) -> Arrays:
        shown = {"result": to_ints(outputs["result"], design.result_bits, True)}
        return shown | {name: (outputs["result_flags"] >> part.offset & 1).astype(bool) for name, part in layout}

    segment = Segment({name: value for name, value in inputs.items() if name in component.signature.members}, expected,
                      care=care)
    return BlockCheck(kind, False, lambda: iter([segment]), view)


# Rounding ----------------------------------------------------------------------------------------


def _fixed_to_fp32(component: FixedToFp32, kind: str, rng: np.random.Generator) -> BlockCheck:
    """Numbers whose leading bit is where float32 begins, becomes subnormal or ends, or anywhere, with what decides the
    rounding right below the last place that is kept; then the three flags."""
    width, base, bits = component.width, component.base, component.exponent_bits
    low, high = component.exponents
    numbers: list[int] = []
    exponents: list[int] = []
    while len(numbers) < ROWS:
        # ``top``: exponent of the leading bit; ``unit``: of the integer's least one.
        top = int(rng.choice([rng.integers(-152, -120), rng.integers(124, 131), rng.integers(-200, 200),
                              rng.integers(base, base + width)]))
        length = int(rng.integers(1, width))
        unit = top - length + 1
        if not low <= unit - base <= high:
            unit = base + int(min(max(unit - base, low), high))
            top = unit + length - 1
        half = max(top - 24, -150) - unit            # place of the bit that is half a unit of the last kept place
        number = 1 << (length - 1) | int.from_bytes(rng.bytes(16), "little") & ((1 << (length - 1)) - 1)
        pattern = rng.random()
        if pattern < 0.1:
            number = (1 << length) - 1               # carries into the next exponent
        elif pattern < 0.7 and half >= 0:
            kept = number >> half + 1 << half + 1
            if pattern < 0.25 and length - 1 > half:
                kept = (1 << length) - (1 << half + 1)
            under = int(rng.choice([0, 1 << int(rng.integers(0, half)) if half else 0, (1 << half) - 1]))
            number = kept | (int(rng.integers(0, 2)) << half) | under
        elif pattern < 0.75:
            number = 1 << (length - 1)
        number = min(number, (1 << (width - 1)) - 1)
        numbers.append(-number if rng.random() < 0.5 else number)
        exponents.append(unit - base)
    corners = [0, 1, -1, (1 << (width - 1)) - 1, -1 << (width - 1), (-1 << (width - 1)) + 1]
    for exponent in sorted({low, high, min(max(0, low), high), *(int(e) for e in rng.integers(low, high + 1, 40))}):
        numbers += corners
        exponents += [exponent] * len(corners)
    rows = len(numbers)
    order = rng.permutation(rows)
    numbers, exponents = [numbers[at] for at in order], [exponents[at] for at in order]
    flags = {name: rng.random(rows) < 0.03 for name in ("nan", "pos", "neg")}
    codes = np.array([pack32(number, base + exponent) for number, exponent in zip(numbers, exponents, strict=True)])
    codes = np.where(flags["pos"], FP32_INFINITY, np.where(flags["neg"], FP32_INFINITY | FP32_SIGN, codes))
    codes = np.where(flags["nan"] | (flags["pos"] & flags["neg"]), FP32_NAN, codes)
    inputs: Arrays = {"i": port_array(numbers, width), **flags}
    if bits:
        inputs["exponent"] = np.array(exponents)
    delay = component.latency - 1
    segment = Segment(inputs, {"o": np.roll(codes, delay)}, skip=delay)
    return BlockCheck(kind, False, lambda: iter([segment]), lambda outputs: {"o": outputs["o"].astype(np.int64)})


BITSERIAL: dict[type, tuple[str, Callable[..., BlockCheck]]] = {
    TermDecoder: ("term decoder", _term_decoder), ActivationEdge: ("activation edge", _activation_edge),
    BitSerialPe: ("bit-serial pe", _pe), GroupDequantiser: ("group dequantiser", _dequantiser),
    FixedToFp32: ("fixed to fp32", _fixed_to_fp32)}


def mutated_blocks() -> list:
    """Blocks of every design, and the rounding with an exponent that reaches all of float32's: else there are gates
    that no number moves."""
    kinds = (TermDecoder, ActivationEdge, BitSerialPe, GroupDequantiser)
    return [*(kind(design) for design in BLOCK_DESIGNS.values() for kind in kinds),
            FixedToFp32(54, -25, (-256, 255)), FixedToFp32(20, -30, (-256, 255))]
