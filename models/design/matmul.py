"""Parameters of the matmul array and core, and of one job that the core runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Real

import numpy as np

from ..errors import BitkilnError
from ..formats import Format, get_format, get_group_format
from .checks import check_choice, check_integer, check_power_of_two
from .limits import INTEGER_BITS, MAX_SHAPE, MAX_SHIFT, MULTIPLIER_BITS, RAW_WIDTHS, RECORD_BITS
from .morphable import WORD_BITS, Mode, MorphableDesign
from .output import BLOCK_LOOP, output_latency

__all__ = ["ArrayDesign", "INTEGER_BITS", "Job", "MAX_SHAPE", "MAX_SHIFT", "MULTIPLIER_BITS", "MatmulDesign",
           "RAW_WIDTHS", "RECORD_BITS", "RULES"]

RULES = ("raw", "integer", "float")
ORDERS = ("a", "w")
OUTPUT_FAMILIES = ("int", "minifloat", "posit")
MAX_CHOICES = 15    # modes, outputs, block formats: the registers count them in 4 bits
MAX_NAME = 120
DRAIN_CYCLES = 48


def _names(value: object, where: str) -> tuple[str, ...]:
    """A list of names, each once, that a 4-bit field can count."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise BitkilnError("not a list of names", where=where, got=value, expected=f"a list, such as [{value}]"
                           if isinstance(value, str) else "a list of strings")
    if len(set(value)) < len(value):
        twice = next(name for name in value if list(value).count(name) > 1)
        raise BitkilnError("named twice", where=where, got=twice, expected="each name once")
    if len(value) > MAX_CHOICES:
        raise BitkilnError("too many", where=where, got=len(value), expected=f"at most {MAX_CHOICES}")
    return tuple(value)


def _check_number(value: object, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BitkilnError("not a number", where=where, got=value, expected="a float32 value")


@dataclass(frozen=True)
class ArrayDesign:
    """Rows x columns of one PE.

    Parameters
    ----------
    rows, columns : int
        1..64; a row takes one activation word, a column one weight word each cycle.
    pe : MorphableDesign
    dataflow : str
        ``output`` (stationary; sums stay in the PEs) or ``weight`` (stationary; weights stay, sums move).
    links : str
        ``broadcast``: one register for each row and column; ``systolic``: operands move from PE to PE.
    """

    rows: int
    columns: int
    pe: MorphableDesign
    dataflow: str = "output"
    links: str = "broadcast"

    def __post_init__(self):
        check_integer(self.rows, "array.rows", 1, 64)
        check_integer(self.columns, "array.columns", 1, 64)
        check_choice(self.dataflow, "array.dataflow", ("output", "weight"))
        check_choice(self.links, "array.links", ("broadcast", "systolic"))

    @property
    def latency(self) -> int:
        """Clock edges from a tile's last words to its first row on ``result`` (output-stationary)."""
        # One register for each row and column; with systolic links the far corner is that much later.
        skew = self.rows + self.columns - 2 if self.links == "systolic" else 0
        return 1 + self.pe.latency + skew

    @property
    def name(self) -> str:
        """Verilog module name."""
        marks = ("_ws" if self.dataflow == "weight" else "") + ("_systolic" if self.links == "systolic" else "")
        return f"array_{self.rows}x{self.columns}{marks}_{self.pe.name}"


@dataclass(frozen=True)
class MatmulDesign:
    """The matrix-multiplication co-processor: ``C[M, N] = A[M, K] @ W[N, K].T``.

    Parameters
    ----------
    array : ArrayDesign
        Output-stationary.
    k_words : int
        Depth of an operand tile in 16-bit words, a power of two 16..4096. K of a job is at most
        ``k_words * lanes`` (and the accumulator's depth); longer sums are split over jobs with accumulate.
    bus_bits : int
        Data width of every AXI4-Stream: 32, 64, 128, 256 or 512.
    output_lanes : int, optional
        Results requantised per cycle, a power of two that divides ``columns``; by default enough to drain a tile in
        48 cycles, so that tiles of 64 words never wait, and with block scales in one block.
    queue : int
        Jobs that wait while one computes, 1..4.
    rules : sequence of str
        Output rules built in: ``raw``, ``integer``, ``float``; by default all that some job could use.
    outputs : sequence of str
        Output formats of the integer and float rules, by name; ``fp32`` among them for plain float32 results.
        By default the PE's own operand formats and, with the float rule, fp32.
    bias, accumulate : bool
        Per-channel bias; partial sums C that are added on the way out.
    block : sequence of str
        Group formats (``mxfp4``, ``nvfp4``, ...) whose scales the core applies.
    descriptors : bool
        The variant with an AXI4 master that fetches jobs, operands and results by descriptors.
    address_bits : int
        Width of the AXI4 master's addresses.
    counters : bool
        Build the cycle, stall and MAC counters.
    """

    array: ArrayDesign
    k_words: int = 512
    bus_bits: int = 64
    output_lanes: int | None = None
    queue: int = 2
    rules: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    bias: bool = True
    accumulate: bool = True
    block: tuple[str, ...] = ()
    descriptors: bool = False
    address_bits: int = 32
    counters: bool = True

    def __post_init__(self):
        pe, put = self.pe, object.__setattr__
        if self.array.dataflow != "output":
            raise BitkilnError("the core needs an output-stationary array", where="array.dataflow",
                               got=self.array.dataflow, expected="output")
        check_integer(self.k_words, "k_words", 16, 4096)
        check_power_of_two(self.k_words, "k_words", "16, 32, ... 4096")
        if self.bus_bits not in (32, 64, 128, 256, 512):
            raise BitkilnError("unknown bus width", where="bus_bits", got=self.bus_bits,
                               expected="32, 64, 128, 256 or 512")
        if self.k_words * WORD_BITS < self.bus_bits:
            raise BitkilnError("a tile row is shorter than a beat", where="k_words", got=self.k_words,
                               expected=f"at least {self.bus_bits // WORD_BITS} with bus_bits {self.bus_bits}")
        if self.output_lanes is None:
            wanted = math.ceil(self.array.rows * self.array.columns / self._drain_cycles())
            fits = [1 << n for n in range(7) if self.array.columns % (1 << n) == 0]
            put(self, "output_lanes", next((lanes for lanes in fits if lanes >= wanted), fits[-1]))
        check_integer(self.output_lanes, "output_lanes", 1, self.array.columns)
        if self.array.columns % self.output_lanes:
            raise BitkilnError("does not divide the columns", where="output_lanes", got=self.output_lanes,
                               expected=f"a divisor of {self.array.columns}")
        check_power_of_two(self.output_lanes, "output_lanes", "1, 2, 4, ... dividing the columns")
        check_integer(self.queue, "queue", 1, 4)
        if len(pe.modes) > MAX_CHOICES:
            raise BitkilnError("too many", where="array.pe.modes", got=len(pe.modes),
                               expected=f"at most {MAX_CHOICES}")
        for mode in pe.modes:   # a row's last word is filled up with code 0
            filled = mode.activation.decode(np.zeros(1, np.int64)) * mode.weight.decode(np.zeros(1, np.int64))
            if mode.lanes > 1 and filled != 0:
                raise BitkilnError("code 0 is not zero in both formats of the mode", where="array.pe.modes",
                                   got=f"{mode.activation.name}x{mode.weight.name}",
                                   expected="a mode whose padding adds nothing")
        if pe.result_bits > RAW_WIDTHS[-1]:
            raise BitkilnError("sums too wide", where="array.pe.modes", got=pe.result_bits,
                               expected=f"at most {RAW_WIDTHS[-1]} bits", help="use accumulator kind fp32")
        if self.rules is not None:
            put(self, "rules", _names(self.rules, "rules"))
            if not self.rules:
                raise BitkilnError("no output rule", where="rules", got="[]", expected=" or ".join(RULES))
            for rule in self.rules:
                check_choice(rule, "rules", RULES)
        put(self, "block", _names(self.block, "block"))
        for name in self.block:
            group = get_group_format(name, where="block")
            if group.element.name not in {m.activation.name for m in pe.modes if m.activation is m.weight
                                          or m.activation.name == m.weight.name}:
                raise BitkilnError("no mode for this block format", where="block", got=name,
                                   expected=f"{group.element.name} among the modes")
            if group.element.has_inf and group.scale.mantissa_bits:
                raise BitkilnError("no block scale with a zero for elements with infinities", where="block", got=name,
                                   expected="a power-of-two scale (e8m0)")
        if self.block and pe.accumulator.kind != "exact":
            raise BitkilnError("contradictory options", where="block", got=pe.accumulator.kind,
                               expected="an exact accumulator with block scales")
        if self.outputs is None:
            names = dict.fromkeys(mode.activation.name for mode in pe.modes
                                  if mode.activation.family in OUTPUT_FAMILIES)
            put(self, "outputs", (*names, "fp32") if self.rules is None or "float" in self.rules else tuple(names))
        put(self, "outputs", tuple(get_format(name, where="outputs").name for name in _names(self.outputs, "outputs")))
        if not self.outputs and self.rules is not None and set(self.rules) != {"raw"}:
            raise BitkilnError("no output format", where="outputs", got="[]", expected="at least one with these rules")
        for name in self.outputs:
            fmt = get_format(name)
            if fmt.bits not in (4, 8, 16, 32) or fmt.family not in OUTPUT_FAMILIES:
                raise BitkilnError("no output stage for this format", where="outputs", got=name,
                                   expected="int, minifloat or posit of 4, 8 or 16 bits, or fp32")
        integers = [name for name in self.outputs if get_format(name).family == "int"]
        narrow = not self.floating and any(pe.dot(mode).accumulator_bits <= INTEGER_BITS for mode in pe.modes)
        if self.rules is None:
            put(self, "rules", tuple(rule for rule in RULES if rule == "raw" or (
                self.outputs and (rule == "float" or (integers and narrow)))))
        elif "integer" in self.rules and not (integers and narrow):
            raise BitkilnError("integer requantisation does not apply", where="rules", got="integer",
                               expected=f"an int format among the outputs and a mode with sums of at most "
                                        f"{INTEGER_BITS} bits", help="leave it out")
        check_integer(self.address_bits, "address_bits", 16, 64)
        if self.descriptors:
            self._check_tiles_in_memory()

    def _check_tiles_in_memory(self) -> None:
        """Rows of tiles lie side by side in memory."""
        columns, bus = self.array.columns, self.bus_bits
        if set(self.rules) != {"raw"} and columns % 2 and any(get_format(name).bits == 4 for name in self.outputs):
            raise BitkilnError("a tile of 4-bit results does not end at a byte", where="array.columns", got=columns,
                               expected="an even number with descriptors")
        if self.accumulate and columns * self.raw_bits % bus:
            raise BitkilnError("a tile of partial sums does not end at a beat", where="array.columns",
                               got=f"{columns} of {self.raw_bits} bits",
                               expected=f"a multiple of {bus} bits with descriptors and accumulate")

    def _drain_cycles(self) -> int:
        """In how many cycles the default number of output lanes drains a tile (or block)."""
        cycles = DRAIN_CYCLES
        for name in self.block:
            group = get_group_format(name, where="block")
            cycles = min(cycles, group.block_size * group.element.bits // WORD_BITS)
        return max(cycles, 1)

    # Shorthands -----------------------------------------------------------------------------------

    @property
    def pe(self) -> MorphableDesign:
        return self.array.pe

    @property
    def rows(self) -> int:
        return self.array.rows

    @property
    def columns(self) -> int:
        return self.array.columns

    @property
    def floating(self) -> bool:
        """Whether sums that leave the array are float32 (fp32 accumulators)."""
        return self.pe.accumulator.kind == "fp32"

    @property
    def raw_bits(self) -> int:
        """Width of a raw result and of an element of C on the bus."""
        return next(width for width in RAW_WIDTHS if width >= self.pe.result_bits)

    @property
    def words_per_beat(self) -> int:
        return self.bus_bits // WORD_BITS

    def max_k(self, mode: Mode | str) -> int:
        """Longest K of one job: the tile memory and the accumulator hold no more."""
        chosen = self.pe.modes[self.pe.index(mode)]
        held = self.k_words * chosen.lanes
        return min(held, self.pe.accumulator.depth) if self.pe.accumulator.kind == "exact" else held

    @property
    def array_delay(self) -> int:
        """Clock edges from the issue of a tile's last word to its first row out of the array: the tile memory's read
        register, then the array."""
        return 1 + self.array.latency

    @property
    def output_latency(self) -> int:
        """Clock edges from a sum at an output lane to its code."""
        return output_latency(self)

    @property
    def block_loop(self) -> int:
        """Least cycles between two blocks' sums of one result."""
        return BLOCK_LOOP if self.block else 1

    def output_format(self, name: str) -> Format:
        return get_format(name)

    def with_options(self, **options) -> MatmulDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter that changes the netlist."""
        marks = [f"k{self.k_words}", f"b{self.bus_bits}", f"o{self.output_lanes}", f"q{self.queue}",
                 "".join(rule[0] for rule in self.rules)]
        marks += [f"to_{'_'.join(self.outputs)}"] if set(self.rules) != {"raw"} else []
        marks += ["bias"] * self.bias + ["acc"] * self.accumulate + list(self.block)
        marks += [f"dma{self.address_bits}"] * self.descriptors + ["nocount"] * (not self.counters)
        name = "_".join(["matmul", self.array.name.removeprefix("array_"), *marks])
        if len(name) <= MAX_NAME:
            return name
        # Tools make file names of it.
        digest = hashlib.sha256(name.encode()).hexdigest()[:10]
        return f"matmul_{self.rows}x{self.columns}_{len(self.pe.modes)}modes_{digest}"


@dataclass(frozen=True)
class Job:
    """One matrix product ``C[m, n] = A[m, k] @ W[n, k].T`` and what becomes of its sums.

    Parameters
    ----------
    mode : str
        PE name among the design's modes.
    m, k, n : int
    rule : str
        ``raw``: the sum itself; ``integer``: ``clamp(RNE((S + bias) * scale * 2**-shift) + zero_point)``;
        ``float``: sum to float32 once, times a float32 ``scale``, clamp, encode.
    output : str
        Format name among the design's outputs; ignored with rule ``raw``.
    order : str
        ``a``: a row tile of A is held while W streams by (columns inside rows); ``w``: the other way round.
    per_channel : bool
        Bias, scale and shift come in records with W, one for each column; else from the job.
    bias : bool
        With ``per_channel``: add the records' bias.
    bias_shift : int
        Fixed-point bias weighs ``2**(8 * bias_shift)`` units of the sum, 0..15.
    scale : int or float
        Integer rule: 31-bit multiplier; float rule: float32.
    shift : int
        Integer rule, 0..62.
    zero_point : int
        Added after rounding to an integer output, signed 16 bits.
    clamp : (low, high), optional
        In output integers (zero-point included), or float32 values before encoding. ReLU is (zero_point, max)
        or (0, inf).
    accumulate : bool
        Add elements of C, given as raw results.
    block : str, optional
        Group format of both operands.
    """

    mode: str
    m: int
    k: int
    n: int
    rule: str = "raw"
    output: str | None = None
    order: str = "a"
    per_channel: bool = False
    bias: bool = False
    bias_shift: int = 0
    scale: float = 1
    shift: int = 0
    zero_point: int = 0
    clamp: tuple[float, float] | None = None
    accumulate: bool = False
    block: str | None = None
    tag: int = field(default=0, compare=False)

    def check(self, design: MatmulDesign) -> Job:
        """This job, validated for a core; raises BitkilnError on what the core would refuse."""
        mode = design.pe.modes[design.pe.index(self.mode, "job.mode")]
        for key in ("m", "k", "n"):
            check_integer(getattr(self, key), f"job.{key}", 1, MAX_SHAPE)
        if self.k > design.max_k(mode):
            raise BitkilnError("K too large for one job", where="job.k", got=self.k,
                               expected=f"at most {design.max_k(mode)} in mode {mode.name}",
                               help="split K over jobs with accumulate")
        check_choice(self.rule, "job.rule", design.rules)
        check_choice(self.order, "job.order", ORDERS)
        if self.rule != "raw":
            check_choice(self.output, "job.output", design.outputs)
        if self.rule == "integer":
            if design.floating or self.block or get_format(self.output).family != "int" \
                    or design.pe.dot(mode).accumulator_bits > INTEGER_BITS:
                raise BitkilnError("integer requantisation does not apply", where="job.rule", got=self.mode,
                                   expected=f"an integer output and sums of at most {INTEGER_BITS} bits",
                                   help="use rule float")
            check_integer(self.scale, "job.scale", 0, (1 << MULTIPLIER_BITS) - 1)
            check_integer(self.shift, "job.shift", 0, MAX_SHIFT)
            for limit in self.clamp or ():
                check_integer(limit, "job.clamp", -(1 << 31), (1 << 31) - 1)
        elif self.rule == "float":
            for value, where in ((self.scale, "job.scale"), *((limit, "job.clamp") for limit in self.clamp or ())):
                _check_number(value, where)
        if self.clamp is not None and len(self.clamp) != 2:
            raise BitkilnError("not a pair", where="job.clamp", got=self.clamp, expected="(low, high)")
        check_integer(self.zero_point, "job.zero_point", -(1 << 15), (1 << 15) - 1)
        check_integer(self.bias_shift, "job.bias_shift", 0, 15)
        for flag in ("bias", "accumulate"):
            if getattr(self, flag) and not getattr(design, flag):
                raise BitkilnError("this core was built without it", where=f"job.{flag}", got="true", expected="false")
        if self.bias and not self.per_channel:
            raise BitkilnError("contradictory options", where="job.bias", got="true", expected="per_channel with bias")
        if self.block is not None:
            if not design.block:
                raise BitkilnError("this core was built without it", where="job.block", got=self.block,
                                   expected="no block scales")
            check_choice(self.block, "job.block", design.block)
            element = get_group_format(self.block).element.name
            if self.mode != element:
                raise BitkilnError("contradictory options", where="job.block", got=self.mode,
                                   expected=f"mode {element} with {self.block}")
        return self
