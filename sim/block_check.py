"""Unit checks of single blocks: inputs, and what the outputs must mean.

Every shared unit of a dot unit (decoder, multiplier, lane product, rounder, ...) and the dot unit itself has one
check here, exhaustive where its inputs have at most 20 bits, else seeded random values and every corner. The unit
tests and the mutation runs use the same checks, so a mutant that survives is a hole in the tests.

What is compared is the meaning of the outputs (a decoder's ``significand << shift``, not its raw fields), against
``models.formats`` and plain integer products: nothing here depends on how a block does its work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bitkiln.hw.emit import ports_of, units
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format, Special
from bitkiln.models.golden.dot import trace
from bitkiln.models.golden.integers import to_float64_odd

from .batch import BatchModel, from_ints, to_ints
from .dot_check import port_values, stimuli

__all__ = ["BlockCheck", "Segment", "blocks_of", "check_block", "check_for", "has_check", "kind_of"]

EXHAUSTIVE_BITS = 20
RANDOM_ROWS = 200_000
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
        ``decoder``, ``multiplier``, ``lane product``, ``rounder``, ``fp32 adder`` or ``dot unit``.
    exhaustive : bool
        Whether the inputs are all there are, and the block has no state.
    segments : callable
        Gives the segments; called once for each pass.
    view : callable
        Output arrays to what ``expected`` names.
    """

    kind: str
    exhaustive: bool
    segments: Callable[[], Iterator[Segment]]
    view: Callable[[Arrays], Arrays] = field(default=lambda outputs: outputs)

    def wrong(self, model: BatchModel, segment: Segment, held: dict[str, int] | None = None) -> np.ndarray:
        """Rows (bool) in which ``model`` differs from what is expected; ``held`` sets further inputs."""
        seen = self.view(model.run({**segment.inputs, **(held or {})}))
        bad = np.zeros(segment.rows, bool)
        for name, wanted in segment.expected.items():
            differs = seen[name] != wanted
            bad |= differs.any(axis=1) if differs.ndim == 2 else differs
        bad[:segment.skip] = False
        return bad


def blocks_of(component) -> dict[str, object]:
    """The component and all shared units inside it, by module name, innermost first."""
    return {**units(component), component.module_name: component}


def check_block(component, *, seed: int = 1, model: BatchModel | None = None) -> int:
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
    from bitkiln.hw.arith.fp32 import Fp32Adder
    from bitkiln.hw.arith.multiply import Multiplier
    from bitkiln.hw.arith.round import Rounder
    from bitkiln.hw.formats.decode import Decoder
    from bitkiln.hw.mac.dot import DotUnit
    from bitkiln.hw.mac.product import LaneProduct

    kinds = {Decoder: "decoder", Multiplier: "multiplier", LaneProduct: "lane product", Rounder: "rounder",
             Fp32Adder: "fp32 adder", DotUnit: "dot unit"}
    return next((kind for cls, kind in kinds.items() if isinstance(component, cls)), type(component).__name__)


def _makers() -> dict[str, Callable[[object, int], BlockCheck]]:
    return {"decoder": _decoder, "multiplier": _multiplier, "lane product": _lane_product, "rounder": _rounder,
            "fp32 adder": _fp32_adder, "dot unit": _dot_unit}


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
        # A shift below min_shift would be a fraction of the unit: scale both sides instead of losing bits.
        significand = outputs["significand"].astype(object)
        shift = outputs.get("shift")
        if shift is not None:
            significand = significand << shift.astype(object)
            lost = significand & ((1 << component.min_shift) - 1)
            significand = np.where(lost != 0, -1 << 200, significand >> component.min_shift)
        seen = {"value": _with_sign(outputs, significand)}
        return seen | {flag: outputs[flag].astype(bool) for flag in expected if flag != "value"}

    return BlockCheck("decoder", exhaustive, lambda: iter([Segment(inputs, expected)]), view)


def _multiplier(component, seed: int) -> BlockCheck:
    inputs, exhaustive = _inputs(component, seed)
    shapes = {port.name: port for port in ports_of(component)}
    a, b = (_signed(inputs[name], shapes[name].width, shapes[name].signed) for name in ("a", "b"))
    product = a * b
    return BlockCheck("multiplier", exhaustive, lambda: iter([Segment(inputs, {"o": product})]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64)})


def _lane_product(component, seed: int) -> BlockCheck:
    inputs, exhaustive = _inputs(component, seed)
    latency = len(component.cuts)
    activation, weight = component.activation, component.weight
    product = activation.units(inputs["a"]).astype(object) * weight.units(inputs["w"]).astype(object)
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
        seen = {"value": _with_sign(outputs, _exact(outputs["value"], component.value_shape))}
        return seen | {flag: outputs[flag].astype(bool) for flag in component.flags}

    return BlockCheck("lane product", exhaustive and not latency,
                      lambda: iter([Segment(inputs, expected, max(latency - 1, 0))]), view)


def _exact(values: np.ndarray, shape) -> np.ndarray:
    return to_ints(values, shape.width, shape.signed) if values.ndim == 2 else values.astype(object)


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
        # Eight times: with no flag half of them, then with each combination now and then.
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
    mask = (1 << width) - 1
    packed = (from_ints(numbers, width) if width > 64
              else np.array([int(n) & mask for n in numbers], dtype=np.uint64))
    inputs = {"i": packed, **{flag: raised[flag] for flag in flags}}
    return BlockCheck("rounder", exhaustive, lambda: iter([Segment(inputs, {"o": codes.astype(np.int64)})]),
                      lambda outputs: {"o": outputs["o"].astype(np.int64)})


def _rounding_cases(fmt: Format, width: int, unit: int, seed: int) -> np.ndarray:
    """Integers of ``width`` bits (two's complement) at and beside every value, every tie and every power of two,
    and random ones of every magnitude."""
    rng = np.random.default_rng(seed)
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    picked = {0, low, high}
    # Twice the units, so that the mean of two neighbours is a whole number; posit ties need not be the mean: with
    # exponent bits cut off they are found among the powers of two and by the walk below.
    codes = np.arange(1 << fmt.bits) if fmt.bits <= 12 else rng.integers(0, 1 << fmt.bits, 8192)
    codes = codes[fmt.unpack(codes).special == Special.NONE]
    place = fmt.unit_exponent - unit
    doubled = sorted({abs(int(v)) * 2 for v in fmt.units(codes)})
    points = [*doubled, *((x + y) // 2 for x, y in zip(doubled, doubled[1:], strict=False))]
    for point in points:
        near = point << (place - 1) if place >= 1 else point >> (1 - place)
        picked.update(near + step for step in (-2, -1, 0, 1, 2))
    for bit in range(width - 1):
        picked.update((1 << bit) + step for step in (-2, -1, 0, 1, 2))
        picked.update((3 << bit >> 1) + step for step in (-1, 0, 1))
    picked |= {-value for value in picked}
    bits = rng.integers(1, width, RANDOM_ROWS)
    random = [int.from_bytes(rng.bytes((width + 7) // 8), "little") >> int(8 * ((width + 7) // 8) - b) for b in bits]
    signs = rng.integers(0, 2, RANDOM_ROWS)
    numbers = [*sorted(value for value in picked if low <= value <= high),
               *(-value if sign else value for value, sign in zip(random, signs, strict=True))]
    result = np.empty(len(numbers), object)
    result[:] = numbers
    return result


def _fp32_adder(component, seed: int) -> BlockCheck:
    rng = np.random.default_rng(seed)
    rows, unit, shape = 20_000, component.unit_exponent, component.value_shape
    edges = np.array([0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x3F800000], np.int64)
    acc = np.where(rng.random(rows) < 0.2, rng.choice(edges, rows), rng.integers(0, 1 << 31, rows))
    acc |= rng.integers(0, 2, rows) << 31
    size = (shape.width + 7) // 8
    value = np.empty(rows, object)
    value[:] = [int.from_bytes(rng.bytes(size), "little") >> int(8 * size - b)
                for b in rng.integers(0, shape.width - shape.signed + 1, rows)]
    if shape.signed:
        value[:] = [-v if s else v for v, s in zip(value, rng.integers(0, 2, rows), strict=True)]
    sign = rng.integers(0, 2, rows).astype(bool)
    # Half of the rows put the accumulator where the sum is, so that they cancel.
    term = np.where(sign, -value, value)
    near = to_float64_odd(term, unit).astype(np.float32).view(np.uint32).astype(np.int64) ^ (1 << 31)
    acc = np.where(rng.random(rows) < 0.5, near ^ rng.integers(0, 8, rows), acc)
    number = acc.astype(np.uint32).view(np.float32)
    flags = {flag: rng.random(rows) < 0.05 for flag in ("nan", "inf_pos", "inf_neg") if component.specials}
    base = min(unit, -149)
    exact = np.empty(rows, object)
    exact[:] = [(int(float(x) * 2.0 ** 149) << (-149 - base) if np.isfinite(x) else 0) + (int(t) << (unit - base))
                for x, t in zip(number, term, strict=True)]
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = to_float64_odd(exact, base).astype(np.float32)
        wanted = np.where(np.isfinite(number), wanted, number)
        for flag, infinity in (("inf_pos", np.float32(np.inf)), ("inf_neg", np.float32(-np.inf))):
            if flag in flags:
                wanted = np.where(flags[flag], wanted + infinity, wanted)
    nan = np.isnan(wanted) | flags.get("nan", False)
    if component.specials:  # adding both infinities to a finite number that overflowed is NaN all the same
        nan |= flags["inf_pos"] & flags["inf_neg"]
    negative_overflow = np.isinf(wanted) & np.isfinite(number)
    for flag, other in (("inf_pos", -np.inf), ("inf_neg", np.inf)):
        if flag in flags:  # an infinite operand wins over a finite sum that overflows the other way
            settled = flags[flag] & negative_overflow & (wanted == other)
            wanted = np.where(settled, -wanted, wanted)
    codes = np.where(nan, 0x7FC00000, wanted.astype(np.float32).view(np.uint32)).astype(np.int64)
    packed = from_ints(value, shape.width) if shape.width > 64 else np.array(
        [int(v) & ((1 << shape.width) - 1) for v in value], np.uint64)
    inputs = {"acc": acc, "sign": sign, "value": packed, **flags}
    return BlockCheck("fp32 adder", False, lambda: iter([Segment(inputs, {"o": codes})]),
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

