# amaranth: UnusedElaboratable=no
"""Checks of the output stage and its parts, with Python integers: nothing here depends on how the hardware works.

`part_check` gives the vectors of one part (see `block_check.BlockCheck`), `check_lane` runs random jobs through a whole
`OutputLane`: sums at and beside every rounding boundary, special values, block sums in several slots, stalls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bitkiln.hw.arith.delay import DelayLine
from bitkiln.hw.arith.float_add import FloatAdd
from bitkiln.hw.arith.float_clamp import FloatClamp
from bitkiln.hw.arith.float_convert import FixedToFloat, FloatUnpack
from bitkiln.hw.arith.scale import PipelinedMultiplier, Scaler
from bitkiln.hw.formats.encode import Encoder
from bitkiln.hw.mac.output import OutputLane, output_job_layout, output_layout, slot_count
from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.matmul import INTEGER_BITS
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format, Special, get_format, get_group_format

from .batch import BatchModel, to_ints
from .block_check import FP32_INFINITY as INFINITY
from .block_check import FP32_SIGN as SIGN
from .block_check import BlockCheck, Segment, kind_of, port_array, random_floats

__all__ = ["PARTS", "add32", "check_lane", "encode32", "lane_block", "multiply32", "pack32", "part_check",
           "scaled_integer"]

ROWS = 40_000
JOB_ROWS = 25      # before the static inputs of a part change
LANE_ROWS = 600    # sums of a job in `lane_block`
LIMIT_LEAD = 2     # rows before the limits of an encoder count
NAN = 0x7FC00000


# float32 in integers -----------------------------------------------------------------------------


def pack32(number: int, exponent: int) -> int:
    """Code of ``number * 2**exponent`` rounded to nearest even; zero is +0."""
    if number == 0:
        return 0
    size, sign = abs(number), SIGN if number < 0 else 0
    unit = max(size.bit_length() + exponent - 24, -149)
    drop = unit - exponent
    if drop <= 0:
        whole = size << -drop
    else:
        whole, rest = size >> drop, size & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        whole += rest > half or (rest == half and whole & 1)
    # 2**24 units carry into the exponent field by themselves, as does the least normal number.
    code = whole if unit == -149 else ((unit + 149) << 23) + whole
    return sign | min(code, INFINITY)


def unpack32(code: int) -> tuple[int, int]:
    """(number, exponent) of a finite code."""
    exponent, mantissa = code >> 23 & 255, code & 0x7FFFFF
    number = mantissa | (exponent > 0) << 23
    return (-number if code & SIGN else number), max(exponent, 1) - 150


def is_nan(code: int | np.ndarray) -> bool | np.ndarray:
    return code & ~SIGN > INFINITY


def is_infinite(code: int | np.ndarray) -> bool | np.ndarray:
    return code & ~SIGN == INFINITY


def add32(code: int, number: int, exponent: int) -> int:
    """A finite code plus an exact number, rounded once; an exact zero is +0."""
    mine, unit = unpack32(code)
    least = min(unit, exponent)
    return pack32((mine << (unit - least)) + (number << (exponent - least)), least)


def sum32(a: int, b: int) -> int:
    """Sum of two codes."""
    if is_nan(a) or is_nan(b) or (is_infinite(a) and is_infinite(b) and a != b):
        return NAN
    if is_infinite(a) or is_infinite(b):
        return a if is_infinite(a) else b
    return add32(a, *unpack32(b))


def multiply32(a: int, b: int) -> int:
    """Product of two codes."""
    sign = (a ^ b) & SIGN
    zero = not a & ~SIGN or not b & ~SIGN
    if is_nan(a) or is_nan(b) or ((is_infinite(a) or is_infinite(b)) and zero):
        return NAN
    if is_infinite(a) or is_infinite(b):
        return INFINITY | sign
    (x, e), (y, f) = unpack32(a), unpack32(b)
    return pack32(abs(x * y), e + f) | sign


def key32(code: int) -> int:
    """Order of numbers; both zeros are one."""
    return -(code & ~SIGN) if code & SIGN else code


def clamp32(code: int, low: int, high: int) -> int:
    if not is_nan(code) and not is_nan(low) and key32(code) < key32(low):
        code = low
    if not is_nan(code) and not is_nan(high) and key32(code) > key32(high):
        code = high
    return code


def scaled_integer(number: int, multiplier: int, shift: int) -> int:
    """``number * multiplier * 2**-shift`` rounded to nearest even."""
    floor, rest = divmod(number * multiplier, 1 << shift)
    return floor + (2 * rest > 1 << shift or (2 * rest == 1 << shift and floor & 1))


def limits(fmt: Format) -> tuple[int, int]:
    return (-1 << (fmt.bits - 1), (1 << (fmt.bits - 1)) - 1) if fmt.signed else (0, (1 << fmt.bits) - 1)


def encode32(fmt: Format, codes: np.ndarray, zero_point: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes and ``invalid`` of float32 codes in an output format."""
    codes = np.asarray(codes, np.int64)
    nan = is_nan(codes)
    value = np.where(nan, 0, codes).astype(np.uint32).view(np.float32).astype(np.float64)
    if fmt.family == "int":
        whole = np.rint(np.clip(value, -2.0 ** 40, 2.0 ** 40)).astype(np.int64) + zero_point
        return np.clip(whole, *limits(fmt)) & ((1 << fmt.bits) - 1), nan
    value = np.where(np.isinf(value), np.copysign(fmt.max, value), value)
    out = fmt.encode(value, overflow="saturate").astype(np.int64)
    if not fmt.has_nan:
        return np.where(nan, 0, out), nan
    return np.where(nan, fmt.nan_code, out), np.zeros(len(codes), bool)


# Random numbers ----------------------------------------------------------------------------------


def random_integer(rng: np.random.Generator, bits: int) -> int:
    """Signed, of any length, often beside a power of two, of two bits alone or beside a rounding boundary of 24."""
    length = int(rng.integers(0, bits))
    value = int.from_bytes(rng.bytes((length + 7) // 8), "little") & ((1 << length) - 1)
    kind = rng.random()
    if kind < 0.1:
        value = (1 << length) + int(rng.integers(-2, 3))
    elif kind < 0.2:
        value = (1 << length) + (1 << int(rng.integers(0, length + 1)))
    elif kind < 0.5 and length > 25:
        # Half a place of the 24th bit, and one unit beside it.
        value = (value >> (length - 25) | 1) << (length - 25)
        value += int(rng.integers(-1, 2))
    value = -value if rng.random() < 0.5 else value
    return min(max(value, -1 << (bits - 1)), (1 << (bits - 1)) - 1)


def random_integers(rng: np.random.Generator, rows: int, bits: int) -> list[int]:
    corners = [0, 1, -1, (1 << (bits - 1)) - 1, -1 << (bits - 1)]
    return (corners + [random_integer(rng, bits) for _ in range(max(rows - len(corners), 0))])[:rows]


# Parts -------------------------------------------------------------------------------------------


def part_check(component, seed: int = 1, rows: int = ROWS) -> BlockCheck:
    """Vectors of one part of the output stage; its pipeline stands still now and then."""
    make = PARTS.get(kind_of(component))
    if make is None:
        raise BitkilnError("part without a check", where=type(component).__name__, exit_code=FAILED)
    return make(component, np.random.default_rng(seed), rows)


@dataclass(frozen=True)
class _Job:
    """Rows of one setting of the static inputs: those, an array of each other input, and of each output."""

    static: dict
    inputs: dict
    expected: dict

    @property
    def rows(self) -> int:
        return len(next(iter(self.expected.values())))


def _paced(rng: np.random.Generator, jobs: Sequence[_Job], latency: int, lead: int = 0) -> Segment:
    """Rows through a pipeline that stands still now and then, its inputs being anything meanwhile.

    An output shows the row taken ``latency - 1`` enabled edges before. Static inputs need ``lead`` rows before they
    count, and stay until the row is out.
    """
    job = np.repeat(np.arange(len(jobs)), [one.rows for one in jobs])
    rows = len(job)
    inputs = {name: np.concatenate([one.inputs[name] for one in jobs]) for name in jobs[0].inputs}
    expected = {name: np.concatenate([one.expected[name] for one in jobs]) for name in jobs[0].expected}
    padded = np.concatenate([np.full(lead, -1), job, np.full(latency - 1, -1)])
    care = (padded[:rows] == job) & (padded[lead + latency - 1:] == job)

    cycle = np.arange(rows) + np.cumsum(rng.integers(1, 4, rows) * (rng.random(rows) < 0.15))
    en = np.zeros(int(cycle[-1]) + 1, bool)
    en[cycle] = True
    taken = rng.integers(0, rows, len(en))
    taken[cycle] = np.arange(rows)
    entered = np.cumsum(en) - 1
    ports = {name: value[taken] for name, value in inputs.items()}
    for name in jobs[0].static:
        ports[name] = np.array([one.static[name] for one in jobs])[job[np.maximum(entered, 0)]]
    shown = entered - (latency - 1)
    row = np.maximum(shown, 0)
    return Segment({"en": en, **ports}, {name: value[row] for name, value in expected.items()},
                   care=care[row] & (shown >= 0))


def _one(kind: str, rng: np.random.Generator, inputs: dict, expected: dict, latency: int,
         view: Callable = lambda outputs: outputs) -> BlockCheck:
    """The check of a part without static inputs."""
    job = _Job({}, inputs, expected)
    return BlockCheck(kind, False, lambda: iter([_paced(rng, [job], latency)]), view)


def _fixed_to_float(component: FixedToFloat, rng: np.random.Generator, rows: int) -> BlockCheck:
    width, keep = component.width, component.keep
    numbers = list(range(-1 << (width - 1), 1 << (width - 1))) if width <= 16 else random_integers(rng, rows, width)
    weight = rng.integers(-900, 900, len(numbers))
    signs, fields, significands = [], [], []
    for number, top in zip(numbers, weight.tolist(), strict=True):
        size = abs(number)
        drop = size.bit_length() - keep
        if drop <= 0:
            whole = size << -drop
        elif component.rounded:
            whole = scaled_integer(size, 1, drop)
        else:
            whole = size >> drop | (size & ((1 << drop) - 1) > 0)
        carried = whole >> keep
        signs.append(number < 0)
        fields.append(top - (width - 2) + size.bit_length() - 1 + carried if number else 0)
        significands.append(whole >> carried)
    expected = {"sign": np.array(signs), "exponent": np.array(fields),
                "significand": port_array(significands, keep)}
    inputs = {"i": port_array(numbers, width), "weight": np.roll(weight, component.weight_stage)}
    return _one("fixed to float", rng, inputs, expected, component.latency)


def _float_unpack(component: FloatUnpack, rng: np.random.Generator, rows: int) -> BlockCheck:
    codes = random_floats(rng, rows)
    unpacked = _unpacked(codes)
    nan, inf = unpacked["nan"], unpacked["inf"]
    special = nan | inf | (unpacked["significand"] == 0)
    expected = unpacked | {"exponent": np.where(special, 0, unpacked["exponent"]),
                           "significand": np.where(nan | inf, 0, unpacked["significand"])}

    def view(outputs: dict) -> dict:
        infinite = (outputs["nan"] | outputs["inf"]).astype(bool)
        hidden = infinite | (outputs["significand"] == 0)
        return {**outputs, "exponent": np.where(hidden, 0, outputs["exponent"]),
                "significand": np.where(infinite, 0, outputs["significand"])}

    return _one("float unpack", rng, {"i": codes}, expected, component.latency, view)


def _unpacked(codes: np.ndarray) -> dict[str, np.ndarray]:
    """Sign, flags, exponent field and normalised significand of float32 codes."""
    numbers = [unpack32(code) for code in codes.tolist()]
    up = np.array([24 - abs(number).bit_length() if number else 0 for number, _ in numbers])
    return {"sign": codes >> 31, "nan": is_nan(codes), "inf": is_infinite(codes),
            "exponent": np.array([exponent + 150 for _, exponent in numbers]) - up,
            "significand": np.array([abs(number) for number, _ in numbers]) << up}


def _float_add(component: FloatAdd, rng: np.random.Generator, rows: int) -> BlockCheck:
    bits = component.bits
    a = random_floats(rng, rows)
    signs = rng.integers(0, 2, rows)
    sizes = [abs(number) for number in random_integers(rng, rows, bits + 1)]
    # Normalised, at an exponent field near that of ``a`` (often the same, so that they cancel) or anywhere.
    sizes = [min(size, (1 << bits) - 1) for size in sizes]
    sizes = [size << (bits - size.bit_length()) if size else 0 for size in sizes]
    fields = np.maximum(a >> 23 & 255, 1) + rng.integers(-3, 4, rows)
    fields = np.where(rng.random(rows) < 0.4, fields + rng.integers(-bits - 30, bits + 30, rows), fields)
    fields = np.where(rng.random(rows) < 0.1, rng.integers(-2047, 2048, rows), fields)
    same = np.flatnonzero(rng.random(rows) < 0.3)
    for row in same.tolist():
        number, exponent = unpack32(int(a[row]))
        if number and abs(number).bit_length() == 24:
            sizes[row] = (abs(number) << (bits - 24)) ^ (int(rng.integers(0, 8)) if rng.random() < 0.7 else 0)
            signs[row], fields[row] = int(a[row] >> 31) ^ 1, exponent + 150
    fields = np.where([size == 0 for size in sizes], np.minimum(fields, 1), fields)
    nan, inf = rng.random(rows) < 0.01, rng.random(rows) < 0.02
    out = []
    for row, size in enumerate(sizes):
        code, sign = int(a[row]), int(signs[row])
        if nan[row]:
            out.append(NAN)
        elif inf[row] or is_nan(code) or is_infinite(code):
            out.append(sum32(code, (INFINITY if inf[row] else 0) | sign << 31))
        elif not size and not code & ~SIGN:
            out.append(code & sign << 31)
        else:
            out.append(add32(code, -size if sign else size, int(fields[row]) - 150 - (bits - 24)))
    inputs = {"a": a, "b_sign": signs, "b_exponent": fields, "b_significand": port_array(sizes, bits),
              "b_nan": nan, "b_inf": inf}
    expected = {"o": np.array(out), "following": np.roll(out, -1)}
    return _one("float add", rng, inputs, expected, component.latency)


def _float_clamp(component: FloatClamp, rng: np.random.Generator, rows: int) -> BlockCheck:
    corners = [(0, INFINITY), (SIGN, 0x40C00000), (0x40C00000, 0xC0C00000), (NAN, 0), (0, NAN), (0, SIGN),
               (INFINITY | SIGN, SIGN), (0xBF800000, 0x3F800000)]
    jobs = []
    for pair in range(max(rows // JOB_ROWS, len(corners))):
        low, high = corners[pair] if pair < len(corners) else (int(code) for code in random_floats(rng, 2))
        if pair % 2:  # one bit alone, or one bit beside the other limit
            low, high = (one ^ 1 << int(rng.integers(0, 32)) for one in (0, low if pair % 4 == 1 else 0))
        codes = random_floats(rng, JOB_ROWS)
        near = rng.choice([low, high, 0, SIGN], JOB_ROWS)
        near = np.where(rng.random(JOB_ROWS) < 0.5, near ^ 1 << rng.integers(0, 32, JOB_ROWS),
                        near + rng.integers(-1, 2, JOB_ROWS) & 0xFFFFFFFF)
        codes = np.where(rng.random(JOB_ROWS) < 0.5, near, codes)
        codes = np.where(is_nan(codes), NAN, codes)
        active = int(pair % 7 != 6)
        wanted = [clamp32(code, low, high) if active else code for code in codes.tolist()]
        jobs.append(_Job({"active": active, "low": low, "high": high}, {"i": codes}, {"o": np.array(wanted)}))
    return BlockCheck("float clamp", False, lambda: iter([_paced(rng, jobs, component.latency)]))


def _multiplier(component: PipelinedMultiplier, rng: np.random.Generator, rows: int) -> BlockCheck:
    a_shape, b_shape = component.a_shape, component.b_shape
    a = random_integers(rng, rows, a_shape.width + (not a_shape.signed))
    a = a if a_shape.signed else [abs(v) & ((1 << a_shape.width) - 1) for v in a]
    b = [abs(v) & ((1 << b_shape.width) - 1) for v in random_integers(rng, rows, b_shape.width + 1)]
    width = component.o_shape.width
    product = [x * y for x, y in zip(a, b, strict=True)]

    def view(outputs: dict) -> dict:
        return {"o": port_array([int(v) for v in to_ints(outputs["o"], width)], width)}

    inputs = {"a": port_array(a, a_shape.width), "b": port_array(b, b_shape.width)}
    return _one("pipelined multiplier", rng, inputs, {"o": port_array(product, width)}, component.latency, view)


def _scaler(component: Scaler, rng: np.random.Generator, rows: int) -> BlockCheck:
    """Both uses, where there are both; the inputs of the other one are anything."""
    inputs: dict[str, np.ndarray] = {}
    if component.integer_bits:
        number = random_integers(rng, rows, component.integer_bits)
        multiplier = rng.integers(0, 1 << 31, rows) >> rng.integers(0, 31, rows)
        # Powers of two make ties.
        multiplier = np.where(rng.random(rows) < 0.4, 1 << rng.integers(0, 31, rows), multiplier)
        shift = rng.integers(0, 63, rows)
        inputs |= {"s": port_array(number, component.integer_bits), "multiplier": multiplier, "shift": shift}
    if component.floating:
        # A sum may be beyond float32.
        a, b = _scaler_operand(rng, rows, 1000), _scaler_operand(rng, rows, 0)
        inputs |= {f"{side}_{name}": value for side, one in (("a", a), ("b", b)) for name, value in one.items()}

    def segments() -> Iterator[Segment]:
        if component.integer_bits:
            wanted = [scaled_integer(n, int(k), int(s)) for n, k, s in zip(number, multiplier, shift, strict=True)]
            floors = [n * int(k) >> int(s) for n, k, s in zip(number, multiplier, shift, strict=True)]
            big = np.array([not -(1 << 17) <= floor < 1 << 17 for floor in floors])
            sign = np.array([floor < 0 for floor in floors])
            fitting = [0 if out else value for out, value in zip(big, wanted, strict=True)]
            result = np.where(big, np.where(sign, -1, 1) << 20, fitting)
            job = _Job({"integer": 1} if component.floating else {}, inputs, {"result": result})
            yield _paced(rng, [job], component.latency)
        if component.floating:
            sign = (a["sign"] ^ b["sign"]).astype(np.int64) << 31
            zero = (a["significand"] == 0) & ~a["inf"] | (b["significand"] == 0) & ~b["inf"]
            inf = a["inf"] | b["inf"]
            product = zip(*(one[name].tolist() for one in (a, b) for name in ("significand", "exponent")),
                          strict=True)
            finite = np.array([pack32(x * y, e + f - 300) for x, e, y, f in product]) | sign
            wanted = np.where(a["nan"] | b["nan"] | inf & zero, NAN, np.where(inf, INFINITY | sign, finite))
            job = _Job({"integer": 0} if component.integer_bits else {}, inputs, {"g": wanted})
            yield _paced(rng, [job], component.latency)

    def view(outputs: dict) -> dict:
        seen = {}
        if "q" in outputs:
            big = outputs["big"].astype(bool)
            seen["result"] = np.where(big, np.where(outputs["negative"], -1, 1) << 20,
                                      outputs["q"].astype(np.int64) + outputs["up"])
        if "g" in outputs:
            seen["g"] = outputs["g"].astype(np.int64)
        return seen

    return BlockCheck("scaler", False, segments, view)


def _scaler_operand(rng: np.random.Generator, rows: int, reach: int) -> dict[str, np.ndarray]:
    """Float32 numbers, now and then with an exponent up to ``reach`` off; NaN and infinities with any significand."""
    one = _unpacked(random_floats(rng, rows))
    moved = rng.integers(-reach, reach + 1, rows) * (rng.random(rows) < 0.3)
    special = (one["nan"] | one["inf"]) & (rng.random(rows) < 0.5)
    one["significand"] = np.where(special, rng.choice([0, 1 << 23, (1 << 24) - 1], rows), one["significand"])
    one["exponent"] += np.where(one["significand"] == 0, 0, moved)
    return one


def float_cases(fmt: Format, rng: np.random.Generator, rows: int) -> np.ndarray:
    """Float32 codes at, beside and one bit from the values and rounding boundaries of a format, and random ones."""
    codes = np.arange(1 << fmt.bits) if fmt.bits <= 8 else rng.integers(0, 1 << fmt.bits, 4096)
    codes = codes[fmt.unpack(codes).special == Special.NONE]
    values = np.unique(fmt.decode(codes))
    with np.errstate(over="ignore"):
        between = [(values[1:] + values[:-1]) / 2]
        if fmt.family == "posit":  # some ties are geometric means
            between.append(np.sign(values[1:]) * np.sqrt(np.abs(values[1:] * values[:-1])))
        points = np.concatenate([values, *between, [fmt.max * 1.5, fmt.min_positive / 2]]).astype(np.float32)
    points = points.view(np.uint32).astype(np.int64)
    bits = 1 << rng.integers(0, 23, (8 if fmt.bits <= 8 else 1, len(points)))
    points = np.concatenate([points, points + 1, points - 1, *(points ^ bits)]) & 0xFFFFFFFF
    return np.concatenate([points, points ^ SIGN, random_floats(rng, rows)])


def _encoder(component: Encoder, rng: np.random.Generator, rows: int) -> BlockCheck:
    """Every format alone, then settings that change every few rows."""
    def job(at: int, zero_point: int, codes: np.ndarray, integer: bool) -> _Job:
        """Float32 codes, or as many scaled integers; the inputs of the other use are anything."""
        fmt, count = component.formats[at], len(codes)
        static = {"index": at, "zero_point": zero_point}
        inputs = {"i": codes} if component.floating else {}
        wanted, invalid = encode32(fmt, codes, zero_point)
        if component.scaled:
            ports, limited, scaled = _scaled_rows(component, fmt, zero_point, rng, count)
            inputs, static = inputs | ports, static | limited
            if component.floating:
                static["integer"] = int(integer)
            if integer:
                wanted, invalid = scaled, ports["nan"]
                inputs |= {name: np.roll(value, component.q_stage) for name, value in ports.items()}
        return _Job(static, inputs, {"o": wanted, "invalid": invalid})

    uses = [integer for integer, here in ((False, component.floating), (True, component.scaled)) if here]
    pairs = [(at, integer) for at, fmt in enumerate(component.formats) for integer in uses
             if not integer or fmt.family == "int"]

    def segments() -> Iterator[Segment]:
        for at, integer in pairs:
            fmt = component.formats[at]
            for zero_point in (0, 5, -(1 << 15), (1 << 15) - 1) if fmt.family == "int" else (0,):
                one = job(at, zero_point, float_cases(fmt, rng, rows // 4), integer)
                yield _paced(rng, [one], component.latency, LIMIT_LEAD)
        jobs = []
        for _ in range(rows // JOB_ROWS):
            at, integer = pairs[rng.integers(len(pairs))]
            zero_point = int(rng.integers(-(1 << 15), 1 << 15)) >> int(rng.integers(0, 15))
            codes = rng.choice(float_cases(component.formats[at], rng, JOB_ROWS), JOB_ROWS)
            jobs.append(job(at, zero_point, codes, integer))
        yield _paced(rng, jobs, component.latency, LIMIT_LEAD)

    return BlockCheck("encoder", False, segments,
                      lambda outputs: {"o": outputs["o"].astype(np.int64), "invalid": outputs["invalid"].astype(bool)})


def _scaled_rows(component: Encoder, fmt: Format, zero_point: int, rng: np.random.Generator,
                 rows: int) -> tuple[dict, dict, np.ndarray]:
    """Scaled integers as `Scaler` gives them, limits, and the codes that an integer format has for them."""
    q = rng.integers(-(1 << 17), 1 << 17, rows) >> rng.integers(0, 17, rows)
    up, nan = rng.integers(0, 2, rows), rng.random(rows) < 0.05
    big, negative = rng.random(rows) < 0.1, rng.integers(0, 2, rows)
    # Limits and numbers beside those of the format and each other, and anywhere.
    ends = [0, *(limits(fmt) if fmt.family == "int" else ())]
    low, high = (_beside(rng, ends, 1, 32)[0] for _ in range(2))
    if rng.random() < 0.3:
        high = _beside(rng, [low], 1, 32)[0]
    close = np.array(_beside(rng, [low, high, *ends], rows, 17)) - zero_point
    q = np.where((rng.random(rows) < 0.5) & (close >= -1 << 17) & (close < 1 << 17), close, q)
    clamp = int(rng.integers(0, 2))
    value = np.where(big, np.where(negative, -(1 << 40), 1 << 40), q + up)
    value = np.where(nan, 0, value) + zero_point
    if clamp:
        value = np.minimum(np.maximum(value, low), high)
    wanted = np.zeros(rows, np.int64) if fmt.family != "int" else \
        np.clip(value, *limits(fmt)) & ((1 << fmt.bits) - 1)
    return ({"q": q, "up": up, "big": big, "negative": negative, "nan": nan},
            {"clamp": clamp, "low": low, "high": high}, wanted)


def _beside(rng: np.random.Generator, values: Sequence[int], count: int, bits: int) -> list[int]:
    """Numbers (signed, at most ``bits`` bits) that differ from one of the values by one or in one bit, and any."""
    half = 1 << (bits - 1)
    found = rng.choice(values, count)
    found = np.where(rng.random(count) < 0.5, found ^ 1 << rng.integers(0, bits - 1, count),
                     found + rng.integers(-1, 2, count))
    anything = rng.integers(-half, half, count) >> rng.integers(0, bits, count)
    return np.clip(np.where(rng.random(count) < 0.3, anything, found), -half, half - 1).tolist()


def _delay(component: DelayLine, rng: np.random.Generator, rows: int) -> BlockCheck:
    values = [int.from_bytes(rng.bytes(64), "little") & ((1 << component.width) - 1) for _ in range(rows)]
    array = port_array(values, component.width)
    return _one("delay", rng, {"i": array}, {"o": array}, component.latency)


PARTS: dict[str, Callable] = {
    "fixed to float": _fixed_to_float, "float unpack": _float_unpack, "float add": _float_add,
    "float clamp": _float_clamp, "pipelined multiplier": _multiplier, "scaler": _scaler, "encoder": _encoder,
    "delay": _delay}


# The lane ------------------------------------------------------------------------------------------


@dataclass
class LaneJob:
    """Fields of a job as the lane takes them, and what goes through it."""

    mode: int
    rule: int
    output: int = 0
    clamp: int = 0
    bias: int = 0
    accumulate: int = 0
    block: int = 0
    bias_shift: int = 0
    zero_point: int = 0
    clamp_low: int = 0
    clamp_high: int = 0
    rows: list[dict] = field(default_factory=list)


def lane_jobs(design: MatmulDesign, rng: np.random.Generator, rows: int) -> Iterator[LaneJob]:
    """Every mode with every rule, output and block; the options at random."""
    pe = design.pe
    for mode in range(len(pe.modes)):
        blocks = [0]
        blocks += [at + 1 for at, name in enumerate(design.block)
                   if get_group_format(name).element.name == pe.modes[mode].name]
        for block in blocks:
            for name in design.rules:
                rule = ("raw", "integer", "float").index(name)
                outputs = range(len(design.outputs)) if name != "raw" else [0]
                for output in outputs:
                    fmt = get_format(design.outputs[output])
                    if name == "integer" and (fmt.family != "int" or design.floating or block
                                              or pe.dot(pe.modes[mode]).accumulator_bits > INTEGER_BITS):
                        continue
                    for bias, accumulate in {(0, 0), (int(design.bias), int(design.accumulate))}:
                        job = LaneJob(mode, rule, output, int(rng.integers(0, 2)), bias, accumulate, block,
                                      int(rng.integers(0, 5)), int(rng.integers(-300, 300)))
                        if name == "float":
                            job.clamp_low, job.clamp_high = sorted((int(c) for c in random_floats(rng, 2)), key=key32)
                        else:
                            job.clamp_low, job.clamp_high = (int(v) for v in np.sort(rng.integers(-300, 300, 2)))
                        job.rows = list(_rows(design, job, rng, rows))
                        yield job


def _rows(design: MatmulDesign, job: LaneJob, rng: np.random.Generator, rows: int) -> Iterator[dict]:
    """Inputs of one lane, row by row; rows with ``valid`` 0, which come now and then, hold anything."""
    slots = slot_count(design) if job.block else 0
    blocks, sums = (3, max(rows // (3 * max(slots, 4)), 1)) if job.block else (1, rows)
    for _ in range(sums):
        for block in range(blocks):
            for slot in range(max(slots, 1)):
                if rng.random() < 0.1:
                    yield _idle(design, job, rng, slots)
                row = _row(design, job, rng)
                if job.block:
                    row |= {"slot": slot, "first": int(block == 0), "last": int(block == blocks - 1)}
                yield row
            for _ in range(max(design.block_loop - slots, 0) if job.block else 0):
                yield _idle(design, job, rng, slots)


def _idle(design: MatmulDesign, job: LaneJob, rng: np.random.Generator, slots: int) -> dict:
    row = _row(design, job, rng) | {"valid": 0}
    if slots:
        row |= {"slot": int(rng.integers(slots)), "first": int(rng.integers(2)), "last": 0}
    return row


def _row(design: MatmulDesign, job: LaneJob, rng: np.random.Generator) -> dict:
    pe, mode = design.pe, design.pe.modes[job.mode]
    row: dict = {"valid": 1}
    if design.floating:
        row["acc"] = int(random_floats(rng, 1)[0])
        row["acc"] = NAN if is_nan(row["acc"]) else row["acc"]
    elif job.block:
        group = get_group_format(design.block[job.block - 1])
        limit = group.block_size * pe.dot(mode).max_product
        row["acc"] = max(-limit, min(limit, random_integer(rng, limit.bit_length() + 1)))
    else:
        row["acc"] = random_integer(rng, pe.accumulator_bits)
    row["flags"] = sum(int(rng.random() < 0.04) << at for at in range(len(pe.flags)))
    row["bias"] = int(random_floats(rng, 1)[0] if design.floating or job.block else rng.integers(0, 1 << 32))
    if design.accumulate:
        top = 1 << (design.raw_bits - 1)
        if design.floating or job.block:
            row["c"] = int(random_floats(rng, 1)[0])
        elif rng.random() < 0.1:  # the codes of NaN and infinities, and such that differ from them in one bit
            row["c"] = int(rng.choice(4)) + top - 1 ^ (int(rng.integers(2)) << int(rng.integers(design.raw_bits)))
        else:
            row["c"] = random_integer(rng, design.raw_bits) % (1 << design.raw_bits)
    if job.rule == 1:
        row["scale"] = int(rng.integers(0, 1 << 31)) >> int(rng.integers(0, 31)) or 1
        # Mostly so that the result is near the format's range.
        size = max((abs(row["acc"]) * row["scale"]).bit_length() - int(rng.integers(2, 20)), 0)
        row["shift"] = min(size, 62) if rng.random() < 0.7 else int(rng.integers(0, 63))
    else:
        scale = int(random_floats(rng, 1)[0])
        if rng.random() < 0.8 and not design.floating:
            weight = abs(row["acc"]).bit_length() + pe.dot(mode).product_exponent
            scale = (scale & 0x807FFFFF) | int(np.clip(127 - weight + rng.integers(-12, 12), 0, 254)) << 23
        row["scale"], row["shift"] = scale, int(rng.integers(0, 63))
    if design.block:
        row |= {"slot": 0, "first": 1, "last": 1, "sa": 0, "sw": 0}
        if job.block:
            scale = get_group_format(design.block[job.block - 1]).scale
            for name in ("sa", "sw"):
                middle = int(rng.normal(1 << (scale.bits - 1), 1 << (scale.bits - 5)))
                code = middle if rng.random() < 0.85 else int(rng.integers(0, 1 << scale.bits))
                row[name] = min(max(code, 0), (1 << scale.bits) - 2)
                if rng.random() < 0.02:  # NaN, and what differs from it in one bit
                    row[name] = (1 << scale.bits) - 1 ^ int(rng.integers(2)) << int(rng.integers(scale.bits))
    return row


def lane_results(design: MatmulDesign, job: LaneJob) -> tuple[list[int], list[bool], list[bool]]:
    """Code, ``invalid`` and whether they mean something, row by row."""
    sums: dict[int, int] = {}
    floats: list[int] = []
    direct: list[tuple[int, bool]] = []
    care = []
    for row in job.rows:
        care.append(bool(row["valid"]) and bool(row.get("last", 1)))
        if design.floating or job.block:
            floats.append(_float_sum(design, job, row, sums))
        else:
            code = _exact_result(design, job, row)
            direct.append(code if isinstance(code, tuple) else (0, False))
            floats.append(0 if isinstance(code, tuple) else code)
    if direct and job.rule < 2:
        return [code for code, _ in direct], [invalid for _, invalid in direct], care
    if job.rule == 0:
        return floats, [False] * len(floats), care
    scaled = [multiply32(f, row["scale"]) for f, row in zip(floats, job.rows, strict=True)]
    if job.clamp:
        scaled = [clamp32(g, job.clamp_low, job.clamp_high) for g in scaled]
    fmt = get_format(design.outputs[job.output])
    if fmt.name == "fp32":
        return scaled, [False] * len(scaled), care
    codes, invalid = encode32(fmt, np.array(scaled), job.zero_point)
    return codes.tolist(), invalid.tolist(), care


def _float_sum(design: MatmulDesign, job: LaneJob, row: dict, sums: dict[int, int]) -> int:
    if job.block:
        group = get_group_format(design.block[job.block - 1])
        value = 0 if row["first"] else sums.get(row["slot"], 0)
        value = _block_sum(design, job, row, group, value)
        if row["valid"]:
            sums[row["slot"]] = value
    else:
        value = row["acc"] % (1 << 32)
    if job.accumulate:
        value = _plus(value, row["c"])
    if job.bias:
        value = _plus(value, row["bias"])
    return value


def _plus(a: int, b: int) -> int:
    total = sum32(a, b)
    return total if total & ~SIGN else 0


def _flags(design: MatmulDesign, row: dict) -> tuple[bool, bool, bool]:
    names = design.pe.flags
    found = {name: bool(row["flags"] >> at & 1) for at, name in enumerate(names)}
    return tuple(found.get(name, False) for name in ("nan", "inf_pos", "inf_neg"))


def _block_sum(design: MatmulDesign, job: LaneJob, row: dict, group, value: int) -> int:
    nan, plus, minus = _flags(design, row)
    scales = group.scale.unpack(np.array([row["sa"], row["sw"]]))
    if nan or (plus and minus) or (scales.special != Special.NONE).any() or is_nan(value):
        return NAN
    if plus or minus:
        return sum32(value, INFINITY | (SIGN if minus else 0))
    if is_infinite(value):
        return value
    number = row["acc"] * int(scales.significand[0]) * int(scales.significand[1])
    exponent = design.pe.dot(design.pe.modes[job.mode]).product_exponent
    return add32(value, number, exponent + int(scales.exponent[0]) + int(scales.exponent[1]))


def _exact_result(design: MatmulDesign, job: LaneJob, row: dict) -> int | tuple[int, bool]:
    """(code, invalid) of the raw and integer rules; the float32 code of the sum for the float rule."""
    pe, bits = design.pe, design.raw_bits
    mode = pe.modes[job.mode]
    acc = row["acc"] % (1 << pe.accumulator_bits)
    places = pe.sections(mode)
    total = 0
    for low, high in zip(places, (*places[1:], pe.accumulator_bits), strict=True):
        part = acc >> low & ((1 << (high - low)) - 1)
        total += part - (part >> (high - low - 1) << (high - low))
    nan, plus, minus = _flags(design, row)
    top = 1 << (bits - 1)
    if job.accumulate:
        total += row["c"]
        if pe.accumulator.kind == "exact":
            nan, plus, minus = nan or row["c"] == top, plus or row["c"] == top - 1, minus or row["c"] == top + 1
    if job.bias:
        bias = row["bias"] - (row["bias"] >> 31 << 32)
        total += bias << (8 * job.bias_shift)
    total = (total + top) % (1 << bits) - top
    nan = nan or (plus and minus)
    if job.rule == 0:
        return (top if nan else top - 1 if plus else top + 1 if minus else total % (1 << bits)), False
    if job.rule == 1:
        fmt = get_format(design.outputs[job.output])
        low, high = limits(fmt)
        half = 1 << (INTEGER_BITS - 1)
        if bits > INTEGER_BITS:
            total = min(max(total, -half), half - 1)
        value = scaled_integer(total, row["scale"], row["shift"]) + job.zero_point
        value = job.zero_point if nan else high if plus else low if minus else value
        if job.clamp:
            value = min(max(value, job.clamp_low), job.clamp_high)
        return min(max(value, low), high) % (1 << fmt.bits), nan or plus or minus
    if nan:
        return NAN
    if plus or minus:
        return INFINITY | (SIGN if minus else 0)
    return pack32(total, pe.dot(mode).product_exponent)


def check_lane(design: MatmulDesign, *, seed: int = 1, rows: int = 300, multiplier: str = "operator",
               model: BatchModel | None = None) -> int:
    """Run random jobs of every kind through a lane, stalled now and then.

    Parameters
    ----------
    rows : int
        Sums of each job.

    Returns
    -------
    int
        Results compared.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first wrong row.
    """
    lane = OutputLane(design, multiplier)
    model = BatchModel(lane) if model is None else model
    check, rng = lane_block(lane), np.random.default_rng(seed)
    compared = 0
    for job in lane_jobs(design, rng, rows):
        segment = _lane_segment(lane, job, rng)
        bad = check.wrong(model, segment)
        if bad.any():
            cycle = int(np.flatnonzero(bad)[0])
            row = int(segment.inputs["en"][:cycle + 1].sum()) - max(lane.latency, 1)
            options = {k: v for k, v in vars(job).items() if k != "rows"}
            seen = {name: value for name, value in check.row(model, segment, cycle).items() if " " in name}
            raise BitkilnError("output lane differs", where=lane.module_name,
                               got=f"{int(bad.sum())} of {segment.compared} rows", expected="0",
                               help=f"seed {seed}, job {options}, row {row}: {job.rows[row]}: {seen}", exit_code=FAILED)
        compared += segment.compared
    return compared


def lane_block(component: OutputLane, seed: int = 1, rows: int = LANE_ROWS) -> BlockCheck:
    """Jobs of every kind as the check of one block."""
    def segments() -> Iterator[Segment]:
        rng = np.random.default_rng(seed)
        for job in lane_jobs(component.design, rng, rows):
            yield _lane_segment(component, job, rng)

    return BlockCheck("output lane", False, segments)


def _lane_segment(lane: OutputLane, job: LaneJob, rng: np.random.Generator) -> Segment:
    """A job; results stay while the lane stands still."""
    inputs = lane_inputs(lane.design, job, rng, lane.latency)
    codes, invalid, care = lane_results(lane.design, job)
    shown = np.cumsum(inputs["en"]) - max(lane.latency, 1)
    row = np.clip(shown, 0, len(job.rows) - 1)
    # Without registers the outputs follow what is on the ports.
    there = (shown == row) & (inputs["en"].astype(bool) | (lane.latency > 0))
    expected = {"o": port_array(codes, lane.code_bits)[row], "invalid": np.array(invalid)[row],
                "overflow": np.array(_overflows(lane.design, job))[row]}
    return Segment(inputs, expected, care=np.array(care)[row] & there)


def _overflows(design: MatmulDesign, job: LaneJob) -> list[bool]:
    if "overflow" not in design.pe.flags:
        return [False] * len(job.rows)
    at = design.pe.flags.index("overflow")
    return [bool(row["flags"] >> at & 1) for row in job.rows]


def lane_inputs(design: MatmulDesign, job: LaneJob, rng: np.random.Generator, latency: int) -> dict[str, np.ndarray]:
    """Port arrays of a job: its rows spread over cycles with ``en``, the pipeline drained behind them."""
    fields = {name: entry.width for name, entry in output_layout(design)}
    count = len(job.rows) + latency
    words = []
    for row in [*job.rows, *[None] * latency]:
        word, at = 0, 0
        for name, width in fields.items():
            value = row[name] if row is not None and name in row else 0
            word |= (value & ((1 << width) - 1)) << at
            at += width
        words.append(word)
    en = np.ones(count, bool)
    cycles = np.arange(count)
    if rng.random() < 0.7:  # some jobs without stalls
        gaps = rng.integers(0, 3, count) * (rng.random(count) < 0.2)
        cycles = np.cumsum(gaps + 1) - 1
        en = np.zeros(int(cycles[-1]) + 1, bool)
        en[cycles] = True
    spread = np.zeros(len(en), np.int64)
    spread[cycles] = np.arange(count)
    # Between the rows anything may be on the ports.
    spread[~en] = rng.integers(0, count, int((~en).sum()))
    total = sum(fields.values())
    valid = np.array([int(row["valid"]) for row in job.rows] + [0] * latency)
    inputs = {"en": en.astype(np.uint8), "i": port_array([words[k] for k in spread.tolist()], total),
              "valid": valid[spread]}
    layout, word, at = output_job_layout(design), 0, 0
    for name, entry in layout:
        word |= (getattr(job, name) & ((1 << entry.width) - 1)) << at
        at += entry.width
    return inputs | {"job": word}
