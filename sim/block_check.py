"""Unit checks of single blocks: inputs, and what the outputs must mean.

Every shared unit of a dot unit (decoder, multiplier, lane product, rounder, ...) and the dot unit itself has one
check here, exhaustive where its inputs have at most 20 bits, else seeded random values and every corner. The unit
tests and the mutation runs use the same checks, so a mutant that survives is a hole in the tests.

What is compared is the meaning of the outputs (a decoder's ``significand << shift``, not its raw fields), against
``models.formats`` and plain integer products: nothing here depends on how a block does its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import wiring

from bitkiln.hw.emit import ports_of, shared, units
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format, Special, get_format
from bitkiln.models.golden.dot import trace
from bitkiln.models.golden.integers import to_float64_odd

from .batch import BatchModel, build_many, from_ints, to_ints
from .cache import digest
from .dot_check import port_values, stimuli

__all__ = ["BlockCheck", "Segment", "blocks_of", "build_blocks", "check_block", "check_for", "has_check", "kind_of"]

EXHAUSTIVE_BITS = 20
RANDOM_ROWS = 200_000
LOST = -1 << 4096  # no value of any format
FP32_ROWS = 40_000
FP32_CORNERS = np.array([0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x3F800000], np.int64)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Segment:
    """One run from power-up.

    Attributes
    ----------
    inputs : dict
        Array of each input port.
    expected : dict of str to ndarray
        What the view of the outputs must equal, one row for each input row.
    skip : int
        First rows that are not compared (a pipeline that still holds what it powered up with).
    """

    inputs: Arrays
    expected: Arrays
    skip: int = 0

    @property
    def rows(self) -> int:
        return len(next(iter(self.expected.values())))

    def head(self, rows: int) -> Segment:
        """The first rows alone."""
        return Segment({name: value[:rows] for name, value in self.inputs.items()},
                       {name: value[:rows] for name, value in self.expected.items()}, self.skip)


@dataclass(frozen=True)
class BlockCheck:
    """All vectors of one block.

    Attributes
    ----------
    kind : str
        ``decoder``, ``multiplier``, ``shift sum``, ``shifter``, ``signed shifter``, ``lane product``, ``rounder``,
        ``fp32 step`` or ``dot unit``.
    exhaustive : bool
        Whether the inputs are all that the block can get, and it has no state.
    segments : callable
        Gives the segments; called once for each pass.
    view : callable
        Output arrays to what ``expected`` names.
    """

    kind: str
    exhaustive: bool
    segments: Callable[[], Iterator[Segment]]
    view: Callable[[Arrays], Arrays] = field(default=lambda outputs: outputs)

    def wrong(self, model: BatchModel | _Bundled, segment: Segment, held: dict[str, int] | None = None) -> np.ndarray:
        """Rows (bool) in which ``model`` differs from what is expected; ``held`` sets further inputs."""
        seen = self.view(model.run({**segment.inputs, **(held or {})}))
        bad = np.zeros(segment.rows, bool)
        for name, wanted in segment.expected.items():
            differs = seen[name] != wanted
            bad |= differs.any(axis=1) if differs.ndim == 2 else differs
        bad[:segment.skip] = False
        return bad


def blocks_of(component) -> dict[str, object]:
    """The component and all blocks inside it, by module name, innermost first.

    Blocks are the shared units, except the LUT-sized parts, which belong to the blocks that use them.
    """
    found = {name: unit for name, unit in units(component).items() if not getattr(unit, "part", False)}
    return {**found, component.module_name: component}


class _Bundle(wiring.Component):
    """Blocks side by side, ports prefixed by their place."""

    def __init__(self, blocks: Sequence):
        self.blocks = list(blocks)
        super().__init__({f"b{at}__{name}": member for at, block in enumerate(self.blocks)
                          for name, member in block.signature.members.items()})

    @property
    def module_name(self) -> str:
        return "bundle_" + digest(*(block.module_name for block in self.blocks))[:12]

    def elaborate(self, platform) -> Module:
        m = Module()
        for at, block in enumerate(self.blocks):
            m.submodules[f"b{at}"] = unit = shared(block)
            for name, member in block.signature.members.items():
                inner, outer = getattr(unit, name), getattr(self, f"b{at}__{name}")
                m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


class _Bundled:
    """One block of a bundle, run like a model of its own."""

    def __init__(self, model: BatchModel, at: int):
        self.model, self.prefix = model, f"b{at}__"

    def run(self, inputs: Arrays) -> Arrays:
        given = {self.prefix + name: value for name, value in inputs.items()}
        rest = {name: 0 for name in self.model.inputs if not name.startswith(self.prefix)}
        outputs = [name for name in self.model.outputs if name.startswith(self.prefix)]
        return {name.removeprefix(self.prefix): value
                for name, value in self.model.run({**rest, **given}, outputs).items()}


def build_blocks(blocks: Mapping[str, object], size: int = 8) -> dict[str, BatchModel | _Bundled]:
    """Models of many blocks, ``size`` of them in each verilated build."""
    names = list(blocks)
    groups = [names[at:at + size] for at in range(0, len(names), size)]
    models = build_many([_Bundle([blocks[name] for name in group]) for group in groups])
    return {name: _Bundled(model, at) for group, model in zip(groups, models, strict=True)
            for at, name in enumerate(group)}


def check_block(component, *, seed: int = 1, model: BatchModel | _Bundled | None = None) -> int:
    """Compare a block with its golden function.

    Returns
    -------
    int
        Rows compared.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first wrong row.
    """
    check = check_for(component, seed)
    model = BatchModel(component) if model is None else model
    rows = 0
    for segment in check.segments():
        bad = check.wrong(model, segment)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            seen = check.view(model.run(segment.inputs))
            show = {name: np.asarray(value[row]).tolist() for name, value in (*segment.inputs.items(), *(
                (f"{name} got", value) for name, value in seen.items()), *(
                (f"{name} expected", value) for name, value in segment.expected.items()))}
            raise BitkilnError("block and golden function differ", where=component.module_name,
                               got=f"{int(bad.sum())} of {segment.rows} rows", expected="0",
                               help=f"seed {seed}, row {row}: {show}", exit_code=FAILED)
        rows += segment.rows - segment.skip
    return rows


def check_for(component, seed: int = 1) -> BlockCheck:
    """The check of a block, by its class.

    Raises
    ------
    BitkilnError
        A block without a check: every shared unit must have one.
    """
    make = _makers().get(kind_of(component))
    if make is None:
        raise BitkilnError("block without a check", where=component.module_name, got=type(component).__name__,
                           expected="a class that sim/block_check.py knows", exit_code=FAILED)
    return make(component, seed)


def has_check(component) -> bool:
    """Whether `check_for` knows this block."""
    return kind_of(component) in _makers()


def kind_of(component) -> str:
    """Name of the kind of block; the class name for an unknown one."""
    from bitkiln.hw.arith.fp32 import Fp32Adder, Fp32Fma
    from bitkiln.hw.arith.multiply import Multiplier
    from bitkiln.hw.arith.round import Rounder
    from bitkiln.hw.arith.shift import ShiftSum, SignedShifter, UnsignedShifter
    from bitkiln.hw.formats.decode import Decoder
    from bitkiln.hw.mac.dot import DotUnit
    from bitkiln.hw.mac.product import LaneProduct

    kinds = {Decoder: "decoder", Multiplier: "multiplier", ShiftSum: "shift sum", UnsignedShifter: "shifter",
             SignedShifter: "signed shifter", LaneProduct: "lane product", Rounder: "rounder",
             Fp32Adder: "fp32 step", Fp32Fma: "fp32 step", DotUnit: "dot unit"}
    return next((kind for cls, kind in kinds.items() if isinstance(component, cls)), type(component).__name__)


def _makers() -> dict[str, Callable[[object, int], BlockCheck]]:
    return {"decoder": _decoder, "multiplier": _multiplier, "shift sum": _shift_sum, "shifter": _unsigned_shifter,
            "signed shifter": _signed_shifter, "lane product": _lane_product, "rounder": _rounder,
            "fp32 step": _fp32_step, "dot unit": _dot_unit}


# Inputs ------------------------------------------------------------------------------------------


def _integer_corners(width: int) -> np.ndarray:
    """Unsigned codes where carries and signs live: 0, all ones, powers of two and their neighbours."""
    walking = [1 << bit for bit in range(width)]
    full = 1 << width
    values = {0, full - 1, full // 3, full - 1 - full // 3, *walking, *(v - 1 for v in walking),
              *((full - v) % full for v in walking), *(full - 1 - v for v in walking)}
    return np.array(sorted(values), dtype=np.int64)


def _inputs(component, seed: int) -> tuple[Arrays, bool]:
    """Unsigned codes of every input: all combinations up to 20 bits, else all pairs of corners and random."""
    ports = [port for port in ports_of(component) if port.direction == "input"]
    bits = sum(port.width for port in ports)
    if bits <= EXHAUSTIVE_BITS:
        every, at, arrays = np.arange(1 << bits, dtype=np.int64), 0, {}
        for port in ports:
            arrays[port.name] = (every >> at) & ((1 << port.width) - 1)
            at += port.width
        return arrays, True
    rng = np.random.default_rng(seed)
    corners = np.meshgrid(*(_integer_corners(port.width) for port in ports), indexing="ij")
    return {port.name: np.concatenate([corner.ravel()[:1 << 20], rng.integers(0, 1 << port.width, RANDOM_ROWS)])
            for port, corner in zip(ports, corners, strict=True)}, False


def _signed(codes: np.ndarray, width: int, signed: bool) -> np.ndarray:
    return codes - ((codes >> (width - 1)) << width) if signed else codes


def _with_sign(outputs: Arrays, value: np.ndarray) -> np.ndarray:
    sign = outputs.get("sign")
    return value if sign is None else np.where(sign.astype(bool), -value, value)


def _where_ordinary(outputs: Arrays, value: np.ndarray) -> np.ndarray:
    """0 where a flag says NaN or infinity: the value is arbitrary there, for it never reaches the accumulator."""
    for flag in ("nan", "inf", "inf_pos", "inf_neg"):
        if flag in outputs:
            value = np.where(outputs[flag].astype(bool), 0, value)
    return value


# Blocks ------------------------------------------------------------------------------------------


def _decoder(component, seed: int) -> BlockCheck:
    fmt = component.format
    inputs, exhaustive = _inputs(component, seed)
    codes = inputs["code"]
    special = fmt.unpack(codes).special
    expected = {"value": np.asarray(fmt.units(codes), dtype=object)}
    for flag, kind in (("nan", Special.NAN), ("inf", Special.INF), ("illegal", Special.ILLEGAL)):
        if getattr(component, f"has_{flag}"):
            expected[flag] = special == kind

    def view(outputs: Arrays) -> Arrays:
        significand = outputs["significand"].astype(object)
        if "shift" in outputs:
            shift = outputs["shift"].astype(np.int64)
            if component.has_subnormal:  # exponent field 0 weighs like field 1
                shift += outputs["significand"] >> fmt.mantissa_bits == 0
            significand = _shifted(significand, shift, component.min_shift)
        seen = {"value": _where_ordinary(outputs, _with_sign(outputs, significand))}
        return seen | {flag: outputs[flag].astype(bool) for flag in expected if flag != "value"}

    return BlockCheck("decoder", exhaustive, lambda: iter([Segment(inputs, expected)]), view)


def _multiplier(component, seed: int) -> BlockCheck:
    inputs, exhaustive = _inputs(component, seed)
    shapes = {port.name: port for port in ports_of(component)}
    a, b = (_signed(inputs[name], shapes[name].width, shapes[name].signed) for name in ("a", "b"))
    product, latency = a * b, len(component.cuts)
    if latency:  # row t shows the inputs of row t - latency + 1
        product = np.roll(product, latency - 1)
    return BlockCheck("multiplier", exhaustive and not latency,
                      lambda: iter([Segment(inputs, {"o": product}, max(latency - 1, 0))]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64) + outputs.get("carry", 0)})


def _shift_sum(component, seed: int) -> BlockCheck:
    inputs, exhaustive = _inputs(component, seed)
    wanted = np.zeros(len(inputs["a"]), np.int64)
    for operand in ("a", "b"):
        normal = inputs.get(f"{operand}_normal", np.ones_like(wanted)).astype(bool)
        # A subnormal's exponent field is 0.
        inputs[operand] = np.where(normal, inputs[operand], 0)
        wanted += inputs[operand] + ~normal
    wanted &= (1 << component.total_bits) - 1
    return BlockCheck("shift sum", exhaustive, lambda: iter([Segment(inputs, {"total": wanted})]),
                      lambda outputs: {"total": outputs["total"].astype(np.int64)})


def _shifter_rows(component, seed: int, fits: Callable[[np.ndarray, int], np.ndarray],
                  narrow: Callable[[np.ndarray, int], np.ndarray], shifts: list[int]) -> tuple[Arrays, bool]:
    """All products that occur with each shift where they are few, else corners and random ones made to fit."""
    bits = component.product_bits
    exhaustive = bits + len(shifts).bit_length() <= EXHAUSTIVE_BITS
    rng = np.random.default_rng(seed)
    products, used = [], []
    for shift in shifts:
        if exhaustive:
            codes = np.arange(1 << bits, dtype=np.int64)
            codes = codes[fits(codes, shift)]
        else:
            drawn = rng.integers(0, 1 << bits, RANDOM_ROWS // len(shifts) + 1)
            codes = np.unique(narrow(np.concatenate([_integer_corners(bits), drawn]), shift))
        products.append(codes)
        used.append(np.full(len(codes), shift, np.int64))
    return {"product": np.concatenate(products), "shift": np.concatenate(used)}, exhaustive


def _both(inputs: Arrays, flag: str) -> Arrays:
    """The rows twice, with the flag 0 and 1."""
    rows = len(inputs["shift"])
    return {**{name: np.tile(value, 2) for name, value in inputs.items()}, flag: np.repeat([0, 1], rows)}


def _unsigned_shifter(component, seed: int) -> BlockCheck:
    live = component.live
    rows, exhaustive = _shifter_rows(component, seed, lambda codes, shift: codes & ~live[shift] == 0,
                                     lambda codes, shift: codes & live[shift], sorted(live))
    inputs = _both(rows, "sign")
    wanted = inputs["product"].astype(object) << inputs["shift"].astype(object) >> component.least
    wanted = np.where(inputs["sign"].astype(bool), -wanted, wanted)

    def view(outputs: Arrays) -> Arrays:
        return {"value": to_ints(outputs["value"], component.width, True) + inputs["sign"][:len(outputs["value"])]}

    return BlockCheck("shifter", exhaustive, lambda: iter([Segment(inputs, {"value": wanted})]), view)


def _signed_shifter(component, seed: int) -> BlockCheck:
    reach, bits = component.reach, component.product_bits

    def narrow(codes: np.ndarray, shift: int) -> np.ndarray:
        return _signed(codes & ((1 << reach[shift]) - 1), reach[shift], True) & ((1 << bits) - 1)

    inputs, exhaustive = _shifter_rows(component, seed, lambda codes, shift: narrow(codes, shift) == codes, narrow,
                                       sorted(reach))
    shift = inputs["shift"].astype(object)
    wanted = _signed(inputs["product"], bits, True).astype(object) << shift
    if component.fill_low:
        inputs = _both(inputs, "fill")
        filled = wanted + (np.ones(len(shift), object) << shift) - 1
        wanted = np.concatenate([wanted, filled])
    wanted = wanted >> component.least

    def view(outputs: Arrays) -> Arrays:
        return {"value": to_ints(outputs["value"], component.width, True)}

    return BlockCheck("signed shifter", exhaustive, lambda: iter([Segment(inputs, {"value": wanted})]), view)


def _lane_product(component, seed: int) -> BlockCheck:
    inputs, exhaustive = _inputs(component, seed)
    latency = len(component.cuts)
    activation, weight = component.activation, component.weight
    wide = component.limit.bit_length() > 60
    units = [fmt.units(inputs[port]) for fmt, port in ((activation, "a"), (weight, "w"))]
    product = units[0].astype(object) * units[1].astype(object) if wide else units[0] * units[1]
    expected = {"value": product}
    # The special cases straight from IEEE 754 arithmetic on the decoded values.
    with np.errstate(invalid="ignore"):
        value = activation.decode(inputs["a"]) * weight.decode(inputs["w"])
    kinds = {"nan": np.isnan(value), "inf_pos": value == np.inf, "inf_neg": value == -np.inf,
             "illegal": ((activation.unpack(inputs["a"]).special == Special.ILLEGAL)
                         | (weight.unpack(inputs["w"]).special == Special.ILLEGAL))}
    expected |= {flag: kinds[flag] for flag in component.flags}
    if latency:  # row t shows the inputs of row t - latency + 1
        expected = {name: np.roll(wanted, latency - 1) for name, wanted in expected.items()}

    def view(outputs: Arrays) -> Arrays:
        # Whatever form the block chose: (-1)**sign * value * 2**(shift - drop) + carry.
        shape, shift = component.value_shape, outputs.get("shift")
        value = to_ints(outputs["value"], shape.width, shape.signed) if wide or shift is not None else outputs["value"]
        value = _with_sign(outputs, value.astype(object if wide or shift is not None else np.int64))
        if shift is not None:
            value = _shifted(value, shift, component.drop)
        if "carry" in outputs:
            value = value + outputs["carry"]
        value = _where_ordinary(outputs, value)
        return {"value": value, **{flag: outputs[flag].astype(bool) for flag in component.flags}}

    return BlockCheck("lane product", exhaustive and not latency,
                      lambda: iter([Segment(inputs, expected, max(latency - 1, 0))]), view)


def _shifted(value: np.ndarray, shift: np.ndarray, drop: int) -> np.ndarray:
    """``value * 2**(shift - drop)`` of Python ints; an impossible value where that is no integer."""
    wide = value << shift.astype(object)
    return np.where(wide & ((1 << drop) - 1) != 0, LOST, wide >> drop)


def _rounder(component, seed: int) -> BlockCheck:
    fmt, width, unit = component.format, component.width, component.unit_exponent
    flags = tuple(component.flags)
    exhaustive = width + len(flags) <= EXHAUSTIVE_BITS
    if exhaustive:
        every = np.arange(1 << (width + len(flags)), dtype=np.int64)
        numbers = _signed(every & ((1 << width) - 1), width, True).astype(object)
        raised = {flag: (every >> (width + at) & 1).astype(bool) for at, flag in enumerate(flags)}
    else:
        numbers = _rounding_cases(fmt, width, unit, seed)
        # Mostly without a flag, and each combination now and then.
        combinations = np.random.default_rng(seed + 1).integers(0, 1 << len(flags), len(numbers))
        combinations[np.random.default_rng(seed + 2).random(len(numbers)) < 0.9] = 0
        raised = {flag: (combinations >> at & 1).astype(bool) for at, flag in enumerate(flags)}
    none = np.zeros(len(numbers), bool)
    nan, plus, minus = (raised.get(flag, none) for flag in ("nan", "inf_pos", "inf_neg"))
    value = np.asarray(to_float64_odd(numbers, unit), np.float64)
    value = np.where(value == 0, 0.0, value)
    value = np.where(plus, np.inf, np.where(minus, -np.inf, value))
    value = np.where(nan | (plus & minus), np.nan, value)
    if not fmt.has_nan:
        value = np.where(np.isnan(value), 0.0, value)
    overflow = getattr(component, "overflow", None)
    codes = fmt.encode(value, overflow=overflow) if overflow == "inf_nan" else fmt.encode(value)
    inputs = {"i": _words(numbers, width), **{flag: raised[flag] for flag in flags}}
    return BlockCheck("rounder", exhaustive, lambda: iter([Segment(inputs, {"o": codes.astype(np.int64)})]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64)})


def _rounding_cases(fmt: Format, width: int, unit: int, seed: int) -> np.ndarray:
    """Integers of ``width`` bits (two's complement) at and beside every value, every tie and every power of two,
    and random ones of every magnitude."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    picked = {0, low, high}
    # Twice the units, so that the mean of two neighbours is a whole number. A posit's tie need not be the mean: it is
    # the posit of one more bit between the two.
    codes = np.arange(1 << fmt.bits) if fmt.bits <= 12 else rng.integers(0, 1 << fmt.bits, 8192)
    codes = codes[fmt.unpack(codes).special == Special.NONE]
    place = fmt.unit_exponent - unit
    doubled = sorted({abs(int(v)) * 2 for v in fmt.units(codes)})
    points = [*doubled, *((x + y) // 2 for x, y in zip(doubled, doubled[1:], strict=False))]
    if fmt.family == "posit" and fmt.bits < 16:
        finer = get_format(f"posit{fmt.bits + 1}_{fmt.es}")
        ties = finer.units(np.arange(1, 1 << fmt.bits, 2)).astype(object)
        points += (ties << 1 + finer.unit_exponent - fmt.unit_exponent if finer.unit_exponent >= fmt.unit_exponent - 1
                   else ties >> fmt.unit_exponent - finer.unit_exponent - 1).tolist()
    for point in points:
        near = point << (place - 1) if place >= 1 else point >> (1 - place)
        picked.update(near + step for step in (-2, -1, 0, 1, 2))
        if fmt.bits <= 8 and near:  # each sticky bit alone breaks the tie
            picked.update(near + (1 << bit) for bit in range(near.bit_length()))
    for bit in range(width - 1):
        picked.update((1 << bit) + step for step in (-2, -1, 0, 1, 2))
        picked.update((3 << bit >> 1) + step for step in (-1, 0, 1))
    picked |= {-value for value in picked}
    corners = np.array([*sorted(value for value in picked if low <= value <= high), None], object)[:-1]
    return np.concatenate([corners, _random_integers(rng, RANDOM_ROWS, width - 1, signed=True)])


def _random_integers(rng: np.random.Generator, rows: int, bits: int, *, signed: bool) -> np.ndarray:
    """Python ints (object array) of every magnitude up to ``bits`` bits, each length as likely."""
    size = (bits + 7) // 8
    data = rng.bytes(rows * size)
    lengths = rng.integers(0, bits + 1, rows)
    values = np.empty(rows, object)
    values[:] = [int.from_bytes(data[at * size:(at + 1) * size], "little") >> (8 * size - int(length))
                 for at, length in enumerate(lengths)]
    return np.where(rng.integers(0, 2, rows).astype(bool), -values, values) if signed else values


def _words(values: np.ndarray, width: int) -> np.ndarray:
    """Port array of integers."""
    if width > 64:
        return from_ints(values, width)
    mask = (1 << width) - 1
    return np.array([int(value) & mask for value in values], dtype=np.uint64)


def _fp32_step(component, seed: int) -> BlockCheck:
    """``RNE(acc + term)`` on float32, both as the adder of sums and as the fused multiply-add of one lane."""
    rng = np.random.default_rng(seed)
    rows, shape = FP32_ROWS, component.value_shape
    acc = np.where(rng.random(rows) < 0.2, rng.choice(FP32_CORNERS, rows), rng.integers(0, 1 << 31, rows))
    acc |= rng.integers(0, 2, rows) << 31
    value = _random_integers(rng, rows, shape.width - shape.signed, signed=shape.signed)
    sign = rng.integers(0, 2, rows).astype(bool)
    shift = np.zeros(rows, np.int64)
    inputs: Arrays = {"sign": sign, "value": _words(value, shape.width)}
    unit = getattr(component, "unit_exponent", None)
    if unit is None:  # the fused form; the last shift is the exponent field of infinities and NaN
        unit, inputs["shift"] = component.weight, rng.integers(0, (1 << component.shift_bits) - 1, rows)
        shift = inputs["shift"]
    term = np.where(sign, -value, value) << shift.astype(object)
    # Half of the rows put the accumulator where the term is, so that they cancel.
    with np.errstate(over="ignore"):
        near = to_float64_odd(term, unit).astype(np.float32).view(np.uint32).astype(np.int64) ^ (1 << 31)
    acc = np.where(rng.random(rows) < 0.5, near ^ rng.integers(0, 8, rows), acc)
    inputs["acc"] = acc
    flags = {flag: rng.random(rows) < 0.05 if component.specials else np.zeros(rows, bool)
             for flag in ("nan", "inf_pos", "inf_neg")}
    if component.specials:
        inputs |= flags

    number = acc.astype(np.uint32).view(np.float32)
    finite = np.isfinite(number)
    base = min(unit, -149)
    exact = np.empty(rows, object)
    exact[:] = [(int(float(x) * 2.0 ** 149) << (-149 - base) if known else 0) + (int(t) << (unit - base))
                for x, t, known in zip(number, term, finite, strict=True)]
    with np.errstate(over="ignore"):
        wanted = to_float64_odd(exact, base).astype(np.float32)
    plus, minus = flags["inf_pos"] | np.isposinf(number), flags["inf_neg"] | np.isneginf(number)
    wanted = np.where(plus, np.float32(np.inf), np.where(minus, np.float32(-np.inf), wanted))
    nan = flags["nan"] | np.isnan(number) | (plus & minus)
    codes = np.where(nan, 0x7FC00000, wanted.view(np.uint32)).astype(np.int64)
    return BlockCheck("fp32 step", False, lambda: iter([Segment(inputs, {"o": codes})]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64)})


def _dot_unit(component, seed: int) -> BlockCheck:
    """The vectors of `dot_check.check_dot`, the short parts first."""
    design = component.design
    outputs = {port.name: port for port in ports_of(component) if port.direction == "output"}

    def segments() -> Iterator[Segment]:
        for stimulus in sorted(stimuli(design, seed=seed), key=lambda one: len(one.en)):
            golden = trace(design, stimulus.a, stimulus.w, stimulus.en, stimulus.clear)
            yield Segment(stimulus.ports(design), port_values(golden, outputs), design.latency - 1)

    return BlockCheck("dot unit", False, segments)

