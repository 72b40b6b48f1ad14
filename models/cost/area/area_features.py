"""What a unit is made of, counted from its parameters: the quantities that an area model is linear in.

Each count belongs to one component (decode, multiply, align, add, accumulate, encode, control) and says how much of
one kind of logic it has: bits of adders, bits of multiplexers, bits of gates, flip-flops. The counts follow the
generators (docs/microarchitecture.md); what a count costs on a target is fitted to synthesis runs (`area`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import ceil, log2

from ...design import DotDesign
from ...formats import Format
from .fit import Block, Counts

__all__ = ["CUTS", "HELD", "Operand", "fused_fp32", "lane_block", "operand", "shifts", "sum_counts",
           "unit_blocks"]

HELD = "shifted"      # counts with this ending: registers that shift registers take the place of
SHIFT_STAGES = 3      # registers in a row, nothing between them, that synthesis makes a shift register of
SHORT_CHAIN = 4    # adders of so few bits get no carry cells
TINY_BITS = 8      # operands of so few bits together are not kept apart by the generator


@dataclass(frozen=True)
class Operand:
    """An operand as the multiplier and the aligner see it.

    Attributes
    ----------
    kind : str
        Decoder: ``none`` (integers), ``minifloat``, ``linear`` (posits with es = 0), ``posit`` or ``table``.
    bits : int
        Of the code.
    significand : int
        Width, sign included where ``signed``.
    signed, sign : bool
        Two's complement significand; a sign beside it.
    shift_bits, max_shift, min_shift : int
    subnormal : bool
        A place is added for exponent field 0.
    specials : int
        Number of events that are decoded (NaN, infinity, illegal code).
    """

    kind: str
    bits: int
    significand: int
    signed: bool
    sign: bool
    shift_bits: int
    max_shift: int
    min_shift: int
    subnormal: bool
    specials: int


@cache
def operand(fmt: Format) -> Operand:
    """The decoded form that the generators choose for a format."""
    specials = int(fmt.has_nan) + int(fmt.has_inf) + int(fmt.has_illegal)
    if fmt.family in ("int", "fixed"):
        return Operand("none", fmt.bits, fmt.bits, fmt.signed, False, 0, 0, 0, False, specials)
    if fmt.family == "minifloat":
        highest = max((1 << fmt.exponent_bits) - 1 - fmt.has_inf, 1)
        from_zero = fmt.exponent_bits <= 2
        low, high = (0, highest - 1) if from_zero else (1, highest)
        bits = 0 if low == high else high.bit_length() if from_zero else fmt.exponent_bits
        return Operand("minifloat", fmt.bits, fmt.mantissa_bits + 1, False, fmt.signed, bits, high, low,
                       not from_zero and high > low, specials)
    if fmt.family == "posit" and fmt.es == 0 and fmt.bits >= 4:
        high = 2 * (fmt.bits - 3) + 1
        return Operand("linear", fmt.bits, fmt.bits - 2, False, True, high.bit_length(), high, 0, False, specials)
    if fmt.family == "posit" and fmt.bits - 3 - fmt.es >= 1:
        fraction = fmt.bits - 3 - fmt.es
        high = (fmt.bits - 2) << (fmt.es + 1)
        return Operand("posit", fmt.bits, fraction + 2, True, False, high.bit_length(), high, 0, False, specials)
    units = [abs(int(value)) for value in fmt.units(range(1 << fmt.bits))]
    powers = all(value & (value - 1) == 0 for value in units) and max(units) > 1
    top = max(units).bit_length()
    high = top - 1 if powers else 0
    return Operand("table", fmt.bits, 1 if powers else top, False, fmt.signed, high.bit_length(), high, 0, False,
                   specials)


def _chain(width: int) -> float:
    """Carry cells of an adder, two bits each; short ones are made of LUTs."""
    return ceil(width / 2) if width > SHORT_CHAIN else 0


def _short(width: int) -> float:
    """Bits of an adder that gets no carry cells."""
    return width if width <= SHORT_CHAIN else 0


@cache
def _decode(x: Operand, fmt: Format) -> Counts:
    if x.kind == "none":
        return {}
    found = {f"decode:{x.kind}": 1.0, "decode:specials": float(x.specials)}
    if x.kind == "minifloat":
        found["decode:exponent"] = float(fmt.exponent_bits)
        found["decode:specials_bits"] = float(x.specials * fmt.bits)
    elif x.kind == "table":
        outputs = x.significand + x.shift_bits + x.sign
        found["decode:table_outputs"] = float(outputs * (fmt.bits > 2))
        found["decode:table_rows"] = outputs * 2.0 ** max(fmt.bits - 4, 0)
    else:
        found[f"decode:{x.kind}_bits"] = float(fmt.bits)
        found[f"decode:{x.kind}_count"] = fmt.bits * log2(fmt.bits)
        if x.kind == "posit":
            found["decode:posit_exponent"] = float(fmt.bits * fmt.es)
            found["decode:posit_add"] = float(x.shift_bits)
    return found


LANE_CUTS = frozenset({"decode", "rows", "multiply", "align"})     # in every lane; the others are behind the tree
CUTS = {0: frozenset(), 1: frozenset({"multiply"}), 2: frozenset({"multiply", "align"}),
        3: frozenset({"decode", "multiply", "align"}), 4: frozenset({"decode", "rows", "multiply", "align"}),
        5: frozenset({"decode", "rows", "multiply", "align", "sum"}),
        6: frozenset({"decode", "rows", "multiply", "align", "tree", "sum"})}


@dataclass(frozen=True)
class _Lane:
    """Widths inside one lane."""

    a: Operand
    w: Operand
    product: int
    value: int
    shift: int
    signed: bool
    sign: bool
    shifted: bool
    flat: bool


def _lane(design: DotDesign, cuts: frozenset[str]) -> _Lane:
    a, w = operand(design.activation), operand(design.weight)
    decoded = a.kind != "none" or w.kind != "none"
    tiny = a.bits + w.bits <= TINY_BITS and decoded
    return _Lane(a, w, a.significand + w.significand, design.max_product.bit_length() + 1,
                 (a.max_shift + w.max_shift).bit_length(), a.signed or w.signed, a.sign or w.sign,
                 a.shift_bits + w.shift_bits > 0, bool(cuts) or tiny)


@dataclass(frozen=True)
class _Product:
    """What a multiplier has: counts, widths of its adders, and bits that its own registers hold."""

    counts: Counts
    chains: tuple[int, ...]
    inside: dict[str, int]       # cut -> bits registered inside
    carry: bool                  # owes a plus one
    width: int                   # bits of the product that are not constant or equal


def _tree(rows: list[tuple[int, bool, int]], width: int, cuts: frozenset[str], signed: bool) -> tuple[list[int], dict]:
    """Adders of a balanced tree over rows of (width, carry, place), as the generator pairs them."""
    inside: dict[str, int] = {}

    def bits() -> int:
        return sum(row + carry for row, carry, _ in rows)

    early = "decode" in cuts
    if early:
        inside["decode"] = bits()
    chains, level, registered = [], 0, "rows" not in cuts
    while len(rows) > 1:
        if not registered and (level == 1 or (len(rows) == 2 and not early)):
            inside["rows"], registered = bits(), True
        following = []
        for i in range(0, len(rows) - 1, 2):
            (x, carry, low), (y, _, high) = rows[i:i + 2]
            step = high - low
            total = min(max(x - step, y) + 1, width - high)
            chains.append(total)
            following.append((step + total, carry, low))
        rows = following + rows[len(rows) - len(rows) % 2:]
        level += 1
    if not registered:
        inside["rows"] = bits()
    return chains, inside


def _multiply(lane: _Lane, cuts: frozenset[str]) -> _Product:
    x, y = lane.a, lane.w
    small, large = sorted((x.significand, y.significand))
    if small == 1:
        return _Product({"and": float(large)}, (), {}, False, large)
    width = x.significand + y.significand
    fast, cuts = bool(cuts), cuts & {"decode", "rows"}
    if lane.a.kind != "none" or lane.w.kind != "none":
        cuts -= {"decode"}
    if lane.signed:
        row = x.significand + (not x.signed)
        digits = ceil((y.significand + (not y.signed)) / 2)
        counts = {"radix_rows": float((digits - 1) * (row + 1)), "radix_top": float(row + 1),
                  "radix_digits": float(digits)}
        if fast:
            chains, inside = _tree([(row + 1, True, 2 * d) for d in range(digits)], width, cuts, True)
            return _Product(counts, tuple(chains), inside, True, row + 1 if digits == 1 else width)
        chains = tuple(min(row + 2, width - 2 * d) for d in range(1, digits))
        return _Product(counts, chains, {}, True, row + 1 if digits == 1 else width)
    if fast and width > 6:
        chains, inside = _tree([(x.significand, False, j) for j in range(y.significand)], width, cuts, False)
        return _Product({"products": float(small * large)}, tuple(chains), inside, False, width)
    chained = (5,) if small == large == 4 and not fast else ()
    rows = y.significand - 1 - len(chained)
    return _Product({"cells": float(rows * x.significand), "cell_rows": float(rows)}, chained, {}, False, width)


def _align(lane: _Lane, design: DotDesign) -> Counts:
    if not lane.shifted:
        return {"align:fold": float(lane.value)} if lane.sign else {}
    stages = max(lane.a.max_shift + lane.w.max_shift, 1).bit_length()
    kind = "signed" if lane.signed else "unsigned"
    found = {f"align:{kind}_place": float(lane.value), f"align:{kind}": 1.0,
             f"align:{kind}_fine": float(min(stages, 3) * lane.product), "align:shift_sum": float(stages)}
    if lane.signed:
        found["align:signed_stages"] = float(stages * lane.product)
        found["align:signed_wide"] = lane.value * log2(1 + lane.value / lane.product)
    else:
        found["align:unsigned_blocks"] = lane.value / 8
        found["align:unsigned_reach"] = lane.value * log2(1 + lane.value / max(lane.product, 1))
    if lane.a.subnormal or lane.w.subnormal:
        found["align:shift_chain"] = _chain(stages)
    return found


def _events(design: DotDesign) -> int:
    """Bits of events that travel beside a product."""
    float32 = design.accumulator.kind == "fp32"
    return (design.has_nan or (float32 and design.nan_possible)) + design.has_illegal + 2 * (
        design.has_inf or (float32 and design.inf_possible))


def _lane_registers(lane: _Lane, product: _Product, design: DotDesign, cuts: frozenset[str]) -> int:
    """Flip-flops in one lane's pipeline."""
    held, events = 0, _events(design)
    carry = product.carry and not lane.sign and not lane.shifted
    decoded = [x for x in (lane.a, lane.w) if x.shift_bits]
    for cut in cuts & LANE_CUTS:
        held += events + lane.sign
        bits = product.width
        if cut == "decode":
            bits = product.inside.get("decode", lane.a.significand + lane.w.significand)
        elif cut == "rows":
            bits = product.inside.get("rows", product.width + (product.carry and not lane.sign))
        elif cut == "multiply":
            bits += carry
        elif cut == "align" and design.accumulator.kind == "fp32":
            bits += lane.shift + carry
        elif cut == "align":
            # The top bit of a one's complement is its sign, which is there already; products of naturals have none.
            bits = lane.value - (not lane.signed) + carry
        held += bits
        if lane.shifted and cut == "decode":
            held += sum(x.shift_bits for x in decoded)
        elif lane.shifted and cut != "align":
            held += lane.shift
    return held


def shifts(name: str, chains: Iterable[tuple[float, int]], times: float = 1.0) -> Counts:
    """Shift registers for chains of (bits, registers in a row), and the registers whose place they take."""
    long = [(bits, stages) for bits, stages in chains if stages >= SHIFT_STAGES]
    return {f"{name}shifts": times * sum(bits for bits, _ in long),
            f"{name}{HELD}": times * sum(bits * stages for bits, stages in long)}


def _lane_chains(lane: _Lane, product: _Product, design: DotDesign, cuts: frozenset[str]) -> list[tuple[float, int]]:
    """Bits of one lane that only pass through registers, and how many."""
    stages = cuts & LANE_CUTS
    through = len(stages)
    float32 = design.accumulator.kind == "fp32"
    aligned = through if float32 else len(stages - {"align"})      # what the aligner takes stays behind it
    found = [(_events(design), through), (lane.sign, aligned)]
    decoded = [x.shift_bits for x in (lane.a, lane.w) if x.shift_bits]
    if len(decoded) == 1:
        found.append((decoded[0], aligned))
    elif decoded:
        found.append((lane.shift, aligned - ("decode" in cuts)))   # their sum
    if "decode" in product.inside:
        # Low bits of the first row are those of the product; with two rows, all bits are there behind one level.
        y = lane.w.significand
        place, rows = (2, ceil((y + (not lane.w.signed)) / 2)) if lane.signed else (1, y)
        first = product.width if rows == 1 else place
        found.append((first + product.carry, through))
        if "rows" in cuts:
            found.append(((product.width if rows <= 2 else 2 * place) - first, through - 1))
    return found


FP32_LEAST = -149      # exponent of float32's least bit


def fused_fp32(design: DotDesign) -> bool:
    """Whether a float32 sum takes the narrow form (hw.mac.dot): one lane, products that float32 can hold."""
    lane = _lane(design, frozenset())
    return design.accumulator.kind == "fp32" and design.lanes == 1 and lane.shifted \
        and lane.product - lane.signed <= 24 and design.product_exponent >= FP32_LEAST


def _encode(design: DotDesign) -> Counts:
    if design.output is None or design.accumulator.kind == "fp32":
        return {}
    fmt, width = design.output, design.accumulator_bits
    found = {f"encode:{fmt.family}": 1.0, f"encode:{fmt.family}_width": float(width),
             "encode:flags": float(design.has_nan + 2 * design.has_inf)}
    if fmt.family == "int":
        # One rounding adder where bits are dropped, and two comparisons of what lies above the code's own bits.
        drop = max(-design.product_exponent, 0)
        kept = max(width - drop, 1) + (drop > 0)
        found |= {"encode:int_kept": float(max(width - drop, fmt.bits)),
                  "encode:int_round": float(_chain(kept) * (drop > 0)),
                  "encode:int_compare": float(2 * _chain(kept - fmt.bits + 1))}
    elif fmt.family == "posit":
        # Magnitude classes of the sum that have codes of their own, and the network that places their bits.
        scale, unit = (fmt.bits - 2) << fmt.es, design.product_exponent
        classes = max(min(unit + width - 1, scale) - max(unit, -scale) + 1, 1)
        found |= {"encode:posit_classes": float(classes), "encode:posit_network": float(classes * fmt.bits),
                  "encode:posit_shift": classes * log2(classes), "encode:posit_code": float(fmt.bits)}
    else:
        found |= {f"encode:{fmt.family}_shift": width * log2(width), f"encode:{fmt.family}_code": float(fmt.bits),
                  f"encode:{fmt.family}_stages": fmt.bits * log2(width)}
    return found


def _add(into: Counts, part: Counts, times: float = 1.0, mark: str = "") -> None:
    for name, amount in part.items():
        if amount:
            into[name + mark] = into.get(name + mark, 0.0) + amount * times


def lane_block(design: DotDesign, cuts: frozenset[str]) -> Block:
    """The lanes of a unit and their adder tree, with the registers at ``cuts``."""
    lane, n, found = _lane(design, cuts), design.lanes, {}
    mark = "/flat" if lane.flat else ""
    for x, fmt in ((lane.a, design.activation), (lane.w, design.weight)):
        _add(found, _decode(x, fmt), n, mark)
        if x.kind == "posit":
            _add(found, {"decode:chain": _chain(x.shift_bits)}, n)
    product = _multiply(lane, cuts)
    _add(found, {f"multiply:{name}": amount for name, amount in product.counts.items()}, n, mark)
    if "decode" in product.inside:
        # The same once more: what registers between the rows and their adders add, since no cell reaches through them.
        _add(found, {f"multiply:{name}": amount for name, amount in product.counts.items()}, n, "/registered")
    _add(found, {"multiply:chain": float(sum(_chain(width) for width in product.chains)),
                 "multiply:chain_bits": float(sum(product.chains)),
                 "multiply:short": float(sum(_short(width) for width in product.chains)),
                 "multiply:chains": float(len(product.chains))}, n)
    if product.carry and (lane.sign or lane.shifted):
        _add(found, {"multiply:owed_chain": _chain(lane.product), "multiply:owed": float(lane.product)}, n)
    if design.accumulator.kind != "fp32":
        _add(found, _align(lane, design), n, mark)
    limits = [design.max_product] * n
    while len(limits) > 1:
        sums = [limits[i] + limits[i + 1] for i in range(0, len(limits) - 1, 2)]
        for each in sums:
            width = each.bit_length() + 1
            _add(found, {"add:bits": float(width), "add:chain": _chain(width), "add:short": _short(width),
                         "add:count": 1.0})
        limits = sums + limits[len(limits) - len(limits) % 2:]
    registers = _lane_registers(lane, product, design, cuts) * n
    total = lane.value + ceil(log2(n))
    registers += total * (len(cuts & {"sum"}) + 2 * len(cuts & {"tree"}))
    _add(found, {"control:lane_flags": float(n * (lane.a.specials + lane.w.specials)),
                 "control:lane_registers": float(registers)})
    _add(found, shifts("control:lane_", _lane_chains(lane, product, design, cuts), n))
    state = "kept" if not cuts else "registered" if "align" in cuts else "dissolved"
    return Block(found, ((f"pair {design.pe_name}", 0.12), (f"pair {design.pe_name} {state}", 0.08)))


def sum_counts(design: DotDesign, cuts: int, flags: int) -> Counts:
    """The accumulator, its flags, and what travels beside the data."""
    found: Counts = {}
    lane = _lane(design, frozenset())
    if design.accumulator.kind == "fp32" and not fused_fp32(design):
        found["accumulate:fp32_range"] = 1.0
    elif design.accumulator.kind == "fp32":
        found |= {"accumulate:fp32": 1.0, "accumulate:fp32_product": float(lane.product),
                  "accumulate:fp32_shift": float(lane.shift)}
    else:
        # Above the operand's sign an adder only carries on, and counts up where nothing is ever negative.
        operand_bits = min((design.max_product * design.lanes).bit_length() + 1, design.accumulator_bits)
        upper = "upper" if design.activation.signed or design.weight.signed else "counter"
        found |= {"accumulate:bits": float(operand_bits),
                  f"accumulate:{upper}": float(design.accumulator_bits - operand_bits),
                  "accumulate:chain": float(_chain(design.accumulator_bits))}
    state = 32 if design.accumulator.kind == "fp32" else design.accumulator_bits
    return found | {"control:unit": 1.0, "control:flags": float(flags), "control:registers": 2.0 * cuts,
                    **shifts("control:", ((1, cuts), (1, cuts))), "accumulate:registers": float(state + flags)}


def unit_blocks(design: DotDesign) -> list[Block]:
    """The parts of a dot unit.

    Parameters
    ----------
    design : DotDesign
    """
    cuts = CUTS[design.pipeline]
    blocks = [lane_block(design, cuts), Block(sum_counts(design, len(cuts), len(design.flags)))]
    encode = _encode(design)
    if encode:
        blocks.append(Block(encode, ((f"output {design.output.name}", 0.1),)))
    return blocks
