"""Unit checks of single blocks: inputs, and what the outputs must mean.

Every shared unit of a dot unit (decoder, multiplier, lane product, rounder, ...) and the dot unit itself has one
check here, exhaustive where its inputs have at most 20 bits, else seeded random values and every corner; so have the
output lane, its parts (`output_check`) and the switchable PE (`pe_check`). The unit tests and the mutation runs use the
same checks, so a mutant that survives is a hole in the tests.

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

__all__ = ["BlockCheck", "Segment", "blocks_of", "build_blocks", "check_block", "check_for", "has_check", "kind_of",
           "port_array", "random_floats"]

EXHAUSTIVE_BITS = 20
RANDOM_ROWS = 200_000
LOST = -1 << 4096  # no value of any format
LOST_PAIR = 1 << 62  # nor of those of a posit pair
FP32_ROWS = 100_000
FP32_SIGN, FP32_INFINITY = 1 << 31, 0x7F800000
FP32_CORNERS = (0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x7F7FFFFF, 0x7F800000,
                0x7FC00000)
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Segment:
    """One run from power-up.

    Attributes
    ----------
    inputs : dict
        Array of each input port, or a number that is held.
    expected : dict of str to ndarray
        What the view of the outputs must equal, one row for each input row.
    skip : int
        First rows that are not compared (a pipeline that still holds what it powered up with).
    care : ndarray of bool, optional
        Rows that are compared; without it all.
    """

    inputs: Arrays
    expected: Arrays
    skip: int = 0
    care: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.expected.values())))

    @property
    def compared(self) -> int:
        """Rows that are compared."""
        return self.rows - self.skip if self.care is None else int(self.care[self.skip:].sum())

    def head(self, rows: int) -> Segment:
        """The first rows alone."""
        return Segment({name: value[:rows] if np.ndim(value) else value for name, value in self.inputs.items()},
                       {name: value[:rows] for name, value in self.expected.items()}, self.skip,
                       None if self.care is None else self.care[:rows])


@dataclass(frozen=True)
class BlockCheck:
    """All vectors of one block.

    Attributes
    ----------
    kind : str
        As `kind_of` names it.
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
        return bad if segment.care is None else bad & segment.care

    def row(self, model: BatchModel | _Bundled, segment: Segment, row: int) -> dict[str, object]:
        """Inputs, outputs and what is expected of one row."""
        seen = self.view(model.run(segment.inputs))
        shown = {**segment.inputs, **{f"{name} got": value for name, value in seen.items()},
                 **{f"{name} expected": value for name, value in segment.expected.items()}}
        return {name: np.asarray(value[row] if np.ndim(value) else value).tolist() for name, value in shown.items()}


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
            raise BitkilnError("block and golden function differ", where=component.module_name,
                               got=f"{int(bad.sum())} of {segment.rows} rows", expected="0",
                               help=f"seed {seed}, row {row}: {check.row(model, segment, row)}", exit_code=FAILED)
        rows += segment.compared
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
    from bitkiln.hw.arith.delay import DelayLine
    from bitkiln.hw.arith.fixed_to_fp32 import FixedToFp32
    from bitkiln.hw.arith.float_add import FloatAdd
    from bitkiln.hw.arith.float_clamp import FloatClamp
    from bitkiln.hw.arith.float_convert import FixedToFloat, FloatUnpack
    from bitkiln.hw.arith.fp32 import Fp32Adder, Fp32Fma
    from bitkiln.hw.arith.fp32_step import Fp32Step
    from bitkiln.hw.arith.multiply import Multiplier
    from bitkiln.hw.arith.round import Rounder
    from bitkiln.hw.arith.scale import PipelinedMultiplier, Scaler
    from bitkiln.hw.arith.shift import ShiftSum, SignedShifter, UnsignedShifter
    from bitkiln.hw.dequant.activation import ActivationEdge
    from bitkiln.hw.dequant.pe import BitSerialPe
    from bitkiln.hw.dequant.scaler import GroupDequantiser
    from bitkiln.hw.dequant.terms import TermDecoder
    from bitkiln.hw.formats.decode import Decoder
    from bitkiln.hw.formats.encode import Encoder
    from bitkiln.hw.mac.dot import DotUnit
    from bitkiln.hw.mac.merged_decode import PositPairDecoder
    from bitkiln.hw.mac.morphable import MorphablePe
    from bitkiln.hw.mac.output import OutputLane
    from bitkiln.hw.mac.pins import PinsPe
    from bitkiln.hw.mac.product import LaneProduct

    kinds = {Decoder: "decoder", Multiplier: "multiplier", ShiftSum: "shift sum", UnsignedShifter: "shifter",
             SignedShifter: "signed shifter", LaneProduct: "lane product", Rounder: "rounder",
             Fp32Adder: "fp32 step", Fp32Fma: "fp32 step", Fp32Step: "fp32 step", DotUnit: "dot unit",
             PositPairDecoder: "posit pair decoder", MorphablePe: "switchable pe", FixedToFloat: "fixed to float",
             FloatUnpack: "float unpack", FloatAdd: "float add", FloatClamp: "float clamp",
             PipelinedMultiplier: "pipelined multiplier", Scaler: "scaler", Encoder: "encoder", DelayLine: "delay",
             OutputLane: "output lane", TermDecoder: "term decoder", ActivationEdge: "activation edge",
             BitSerialPe: "bit-serial pe", GroupDequantiser: "group dequantiser", FixedToFp32: "fixed to fp32",
             PinsPe: "pins"}
    return next((kind for cls, kind in kinds.items() if isinstance(component, cls)), type(component).__name__)


def _makers() -> dict[str, Callable[..., BlockCheck]]:
    # They build on this module.
    from .bitserial_blocks import BITSERIAL, bitserial_block
    from .output_check import PARTS, lane_block, part_check
    from .pe_check import pe_block
    from .pins_check import pins_block

    return {"decoder": _decoder, "multiplier": _multiplier, "shift sum": _shift_sum, "shifter": _unsigned_shifter,
            "signed shifter": _signed_shifter, "lane product": _lane_product, "rounder": _rounder,
            "fp32 step": _fp32_step, "dot unit": _dot_unit, "posit pair decoder": _posit_pair,
            "switchable pe": pe_block, "pins": pins_block, "output lane": lane_block,
            **dict.fromkeys(PARTS, part_check), **{kind: bitserial_block for kind, _ in BITSERIAL.values()}}


# Inputs ------------------------------------------------------------------------------------------


def port_array(values: Sequence[int] | np.ndarray, width: int) -> np.ndarray:
    """Integers of any sign as the array of a port."""
    mask = (1 << width) - 1
    return from_ints(values, width) if width > 64 else np.array([int(value) & mask for value in values], np.uint64)


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
    inputs = {"i": port_array(numbers, width), **{flag: raised[flag] for flag in flags}}
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


def random_floats(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Codes of all kinds: corners, NaN of one bit, all exponents, exponents about 0, subnormals of every length, short
    significands and such of one or two bits."""
    codes = rng.integers(0, 1 << 32, rows)
    kind, bit = rng.random(rows), rng.integers(0, 23, rows)
    codes = np.where(kind < 0.15, rng.choice(FP32_CORNERS, rows) | (codes & FP32_SIGN), codes)
    codes = np.where((kind > 0.15) & (kind < 0.2), (codes & FP32_SIGN) | FP32_INFINITY | 1 << bit, codes)
    codes = np.where((kind > 0.2) & (kind < 0.5), (codes & 0x807FFFFF) | rng.integers(104, 150, rows) << 23, codes)
    codes = np.where((kind > 0.5) & (kind < 0.6), (codes & FP32_SIGN) | (codes & 0xFFFFFF) >> bit, codes)
    codes = np.where(kind > 0.85, codes & 0xFFF80000, codes)
    codes = np.where(kind > 0.91, codes & 0xFF800000, codes)
    return np.where(kind > 0.95, codes | 1 << bit, codes)


def _random_integers(rng: np.random.Generator, rows: int, bits: int, *, signed: bool) -> np.ndarray:
    """Python ints (object array) of every magnitude up to ``bits`` bits, each length as likely.

    Now and then a power of two or beside one, or half a place of float32's 24th bit, with at most one bit below.
    """
    size = (bits + 7) // 8
    data = rng.bytes(rows * size)
    lengths = rng.integers(0, bits + 1, rows)
    values = np.empty(rows, object)
    values[:] = [int.from_bytes(data[at * size:(at + 1) * size], "little") >> (8 * size - int(length))
                 for at, length in enumerate(lengths)]
    # Place of the lowest bit, counted from 1; often none.
    lowest = np.maximum((rng.random(rows) * 2 - 1) * (lengths + 1), 0).astype(np.int64).astype(object)
    powers = 1 << lengths.astype(object) >> 1
    powers = np.where(rng.random(rows) < 0.5, powers + rng.integers(-1, 2, rows), powers | 1 << lowest >> 1)
    cut = np.maximum(lengths - 25, 0).astype(object)
    ties = (values >> cut | 1) << cut | 1 << lowest >> 1
    kind = rng.random(rows)
    values = np.where(kind < 0.2, np.maximum(powers, 0), np.where((kind < 0.4) & (lengths > 25), ties, values))
    return np.where(rng.integers(0, 2, rows).astype(bool), -values, values) if signed else values


def _fp32_step(component, seed: int) -> BlockCheck:
    """``RNE(acc + term)`` on float32: the adder of sums, the fused multiply-add of one lane, and the step whose sum has
    a place of its own."""
    rng = np.random.default_rng(seed)
    rows, members = FP32_ROWS, component.signature.members
    acc = random_floats(rng, rows)
    shape = component.value.shape()
    value = _random_integers(rng, rows, shape.width - shape.signed, signed=shape.signed)
    inputs: Arrays = {"value": port_array(value, shape.width)}
    if "carry" in members:
        carry = rng.integers(0, 2, rows)
        # The sum is in the range of the value.
        carry = np.where(value == (1 << shape.width - 1) - 1, 0, carry)
        inputs["carry"], term = carry, value + carry
    else:
        inputs["sign"] = rng.integers(0, 2, rows).astype(bool)
        term = np.where(inputs["sign"], -value, value)
    unit = next(getattr(component, name) for name in ("unit", "unit_exponent", "weight") if hasattr(component, name))
    if "shift" in members and component.shift_bits:
        # In the fused form the last one is the exponent field of infinities and NaN.
        inputs["shift"] = rng.integers(0, (1 << component.shift_bits) - ("sign" in members), rows)
        term = term << inputs["shift"].astype(object)
    # Most rows put the accumulator where the term is, so that they cancel, some places beside it, or where one of them
    # begins at half a place of the other.
    with np.errstate(over="ignore"):
        near = to_float64_odd(term, unit).astype(np.float32).view(np.uint32).astype(np.int64) ^ (1 << 31)
    places = np.where(rng.random(rows) < 0.5, rng.integers(-shape.width - 50, 31, rows),
                      rng.choice([-25, -24, 24, 25], rows))
    beside = np.clip((near >> 23 & 255) + places, 0, 254) << 23 | acc & 0x807FFFFF
    kind = rng.random(rows)
    acc = np.where(kind < 0.4, near ^ rng.integers(0, 8, rows), np.where(kind < 0.7, beside, acc))
    if "carry" in members:
        acc = _multiples(acc, unit)
    inputs["acc"] = acc
    raised = {flag: rng.random(rows) < 0.05 if flag in members else np.zeros(rows, bool)
              for flag in ("nan", "inf_pos", "inf_neg")}
    inputs |= {flag: raised[flag] for flag in raised if flag in members}

    number = acc.astype(np.uint32).view(np.float32)
    finite = np.isfinite(number)
    base = min(unit, -149)
    exact = np.empty(rows, object)
    exact[:] = [(int(float(x) * 2.0 ** 149) << (-149 - base) if known else 0) + (int(t) << (unit - base))
                for x, t, known in zip(number, term, finite, strict=True)]
    with np.errstate(over="ignore"):
        wanted = to_float64_odd(exact, base).astype(np.float32)
    plus, minus = raised["inf_pos"] | np.isposinf(number), raised["inf_neg"] | np.isneginf(number)
    wanted = np.where(plus, np.float32(np.inf), np.where(minus, np.float32(-np.inf), wanted))
    nan = raised["nan"] | np.isnan(number) | (plus & minus)
    codes = np.where(nan, 0x7FC00000, wanted.view(np.uint32)).astype(np.int64)
    return BlockCheck("fp32 step", False, lambda: iter([Segment(inputs, {"o": codes})]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64)})


def _multiples(codes: np.ndarray, unit: int) -> np.ndarray:
    """Float32 codes cut to multiples of ``2**unit``; a zero is +0, NaN and infinities stay."""
    field = codes >> 23 & 255
    lost = np.clip(unit + 150 - np.maximum(field, 1), 0, 24)
    cut = np.where(lost == 24, 0, codes & ~((1 << lost) - 1))
    return np.where(field == 255, codes, np.where(cut & 0x7FFFFFFF == 0, 0, cut))


def _posit_pair(component, seed: int) -> BlockCheck:
    """One posit of 16 bits or two of 8: every code."""
    code, narrow = (grid.ravel() for grid in np.meshgrid(np.arange(1 << 16), (0, 1), indexing="ij"))
    whole, half = get_format("posit16_1"), get_format("posit8_0")
    halves = code & 255, code >> 8
    nan = np.where(narrow, *(fmt.unpack(codes).special == Special.NAN
                             for fmt, codes in ((half, halves[0]), (whole, code))))
    nan |= (narrow == 1) & (half.unpack(halves[1]).special == Special.NAN)
    expected = {"nan": nan, "wide": np.where(narrow | nan, 0, whole.units(code))}
    expected |= {f"narrow{n}": np.where(narrow & ~nan, half.units(part), 0) for n, part in enumerate(halves)}

    def view(outputs: Arrays) -> Arrays:
        number, shift = outputs["significand"].astype(np.int64), (outputs["shift0"], outputs["shift1"])
        # The upper shift is the lower bits of the same one.
        same = (shift[0] ^ shift[1]) & (1 << component.shift1.shape().width) - 1 == 0
        ordinary = ~outputs["nan"].astype(bool)
        wide = np.where(same | (number == 0), _signed(number, 16, True) << shift[0].astype(np.int64), LOST_PAIR)
        seen = {"nan": outputs["nan"].astype(bool), "wide": np.where(narrow[:len(number)] | ~ordinary, 0, wide)}
        for n in range(2):
            value = _signed(number >> 8 * n & 255, 8, True) << shift[n].astype(np.int64)
            seen[f"narrow{n}"] = np.where(narrow[:len(number)] & ordinary, value, 0)
        return seen

    return BlockCheck("posit pair decoder", True, lambda: iter([Segment({"code": code, "narrow": narrow}, expected)]),
                      view)


def _dot_unit(component, seed: int) -> BlockCheck:
    """The vectors of `dot_check.check_dot`, the short parts first."""
    design = component.design
    outputs = {port.name: port for port in ports_of(component) if port.direction == "output"}

    def segments() -> Iterator[Segment]:
        for stimulus in sorted(stimuli(design, seed=seed), key=lambda one: len(one.en)):
            golden = trace(design, stimulus.a, stimulus.w, stimulus.en, stimulus.clear)
            yield Segment(stimulus.ports(design), port_values(golden, outputs), design.latency - 1)

    return BlockCheck("dot unit", False, segments)

