"""The register map of the matmul core: the one source of the RTL, the headers, the documentation and the drivers.

A `RegisterMap` lists 32-bit registers of named bit fields. `core_registers` makes the map of a build, with only
what the build has; `job_registers` and `decode` translate between a `Job` and the values of its registers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from ..errors import BitkilnError, nearest
from .matmul import MAX_SHAPE, RECORD_BITS, RULES, Job, MatmulDesign

__all__ = ["ACCESS", "ADDRESS_BITS", "DESCRIPTOR_BYTES", "DESCRIPTOR_REGISTERS", "ERRORS", "FEATURES", "Field", "ID",
           "IRQS", "Register", "RegisterMap", "VERSION", "WORD_BYTES", "clamp_codes", "core_registers", "decode",
           "descriptor", "job_registers"]

ADDRESS_BITS = 12    # of the AXI4-Lite port: 4 KiB, the least an interconnect gives
WORD_BYTES = 4
DATA_BITS = 8 * WORD_BYTES
ID = 0x42544B4C      # the bytes 4C 4B 54 42 in memory
VERSION = (1, 0)     # major: a driver of another one must refuse; minor: only additions

# Hardware's view. ro: the hardware's value, or a constant. rw: software's value. wo: a strobe of one cycle for each
# written field, reads 0. w1c: sticky bits that the hardware sets and a written 1 clears. wc: a value that the
# hardware captures while the register is zero, and that any write clears.
ACCESS = ("ro", "rw", "wo", "w1c", "wc")

# Bits of FEATURES.
FEATURES = ("raw", "integer", "float", "bias", "accumulate", "block", "descriptors", "fp32_sums", "int32_sums")
# Values of ERROR.code.
ERRORS = {
    "none": 0, "queue_full": 1, "mode": 2, "shape": 3, "rule": 4, "output": 5, "block": 6, "flags": 7, "address": 8,
    "bus": 9, "descriptor": 10,
}
# Bits of IRQ and IRQ_ENABLE.
IRQS = {
    "done": "a job has finished",
    "error": "ERROR holds a code",
    "invalid": "NaN met a format without NaN (or, with rule integer, an infinity an integer)",
    "overflow": "a 32-bit sum wrapped or saturated",
}
DESCRIPTOR_BYTES = 128
# The words of a descriptor, in the registers' order. Word 31 is the address of the next descriptor.
DESCRIPTOR_REGISTERS = (
    "JOB_MODE", "JOB_M", "JOB_K", "JOB_N", "JOB_FLAGS", "JOB_SCALE", "JOB_SHIFT", "JOB_ZERO", "JOB_CLAMP_LOW",
    "JOB_CLAMP_HIGH", "JOB_TAG", "A_ADDR", "A_ADDR_HI", "A_STRIDE", "A_SCALE_ADDR", "A_SCALE_ADDR_HI",
    "A_SCALE_STRIDE", "W_ADDR", "W_ADDR_HI", "W_STRIDE", "W_SCALE_ADDR", "W_SCALE_ADDR_HI", "W_SCALE_STRIDE",
    "RECORD_ADDR", "RECORD_ADDR_HI", "C_ADDR", "C_ADDR_HI", "C_STRIDE", "O_ADDR", "O_ADDR_HI", "O_STRIDE",
)
NEXT_WORD = DESCRIPTOR_BYTES // WORD_BYTES - 1


# Description ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """Some bits of a register.

    Parameters
    ----------
    name : str
        Lower case; ``value`` where the register has no other field.
    low, bits : int
        Least significant bit and width.
    access : str
        ``ro``, ``rw``, ``wo``, ``w1c`` or ``wc`` (see `ACCESS`).
    description : str
        One line.
    signed : bool
        Two's complement.
    enum : mapping of str to int, optional
        Names of values; kept as a tuple of pairs.
    constant : int, optional
        What an ``ro`` field always reads; it has no port then.
    """

    name: str
    low: int
    bits: int
    access: str
    description: str
    signed: bool = False
    enum: tuple[tuple[str, int], ...] | None = None
    constant: int | None = None

    def __post_init__(self):
        where = f"field {self.name}"
        if not self.name.isidentifier() or self.name != self.name.lower():
            raise BitkilnError("illegal name", where=where, got=self.name, expected="a lower-case identifier")
        if self.access not in ACCESS:
            raise BitkilnError("unknown access", where=where, got=self.access, expected=" or ".join(ACCESS),
                               help=nearest(self.access, ACCESS))
        if self.bits < 1 or self.low < 0 or self.low + self.bits > DATA_BITS:
            raise BitkilnError("field outside its register", where=where, got=f"{self.high}:{self.low}",
                               expected=f"within {DATA_BITS - 1}:0")
        if isinstance(self.enum, Mapping):
            object.__setattr__(self, "enum", tuple(self.enum.items()))
        values = [("constant", self.constant)] if self.constant is not None else []
        for name, value in (*values, *(self.enum or ())):
            if not 0 <= value < 1 << self.bits:
                raise BitkilnError("value does not fit its field", where=f"{where} {name}", got=value,
                                   expected=f"{self.bits} bits")
        if self.constant is not None and self.access != "ro":
            raise BitkilnError("contradictory options", where=where, got=self.access, expected="ro with a constant")

    @property
    def high(self) -> int:
        return self.low + self.bits - 1

    @property
    def mask(self) -> int:
        """The field's bits in its register."""
        return ((1 << self.bits) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A 32-bit register of fields that do not overlap, lowest first.

    Parameters
    ----------
    name : str
        Upper case.
    offset : int
        Byte address, a multiple of 4.
    fields : sequence of Field
    description : str
    """

    name: str
    offset: int
    fields: tuple[Field, ...]
    description: str

    def __post_init__(self):
        object.__setattr__(self, "fields", tuple(self.fields))
        where = f"register {self.name}"
        if not self.name.isidentifier() or self.name != self.name.upper():
            raise BitkilnError("illegal name", where=where, got=self.name, expected="an upper-case identifier")
        if self.offset % WORD_BYTES or not 0 <= self.offset < 1 << ADDRESS_BITS:
            raise BitkilnError("illegal offset", where=where, got=hex(self.offset),
                               expected=f"a multiple of {WORD_BYTES} below {1 << ADDRESS_BITS:#x}")
        if not self.fields:
            raise BitkilnError("no fields", where=where)
        for one, two in zip(self.fields, self.fields[1:], strict=False):
            if two.low <= one.high:
                raise BitkilnError("fields overlap", where=where, got=f"{one.name} and {two.name}",
                                   expected="lowest first, apart")
        if len({f.name for f in self.fields}) < len(self.fields):
            raise BitkilnError("field named twice", where=where)
        kinds = {f.access for f in self.fields}
        if len(kinds) > 1:
            raise BitkilnError("fields of different access", where=where, got=" and ".join(sorted(kinds)),
                               expected="one access for a register")

    @property
    def access(self) -> str:
        """The access of every field."""
        return self.fields[0].access

    @property
    def constant(self) -> int | None:
        """What the register always reads, where every field is constant."""
        if any(f.constant is None for f in self.fields):
            return None
        return sum(f.constant << f.low for f in self.fields)

    def field(self, name: str) -> Field:
        """A field by name."""
        for found in self.fields:
            if found.name == name:
                return found
        raise BitkilnError("no such field", where=f"register {self.name}", got=name,
                           help=nearest(name, [f.name for f in self.fields]))

    def flat(self, name: str) -> str:
        """Name of a field in the whole map: ``status_busy``; the register's alone for a field ``value``."""
        return self.name.lower() if name == "value" else f"{self.name.lower()}_{name}"

    def pack(self, **values: int) -> int:
        """The register's value; fields that are not given are 0 (or their constant)."""
        unknown = set(values) - {f.name for f in self.fields}
        if unknown:
            self.field(sorted(unknown)[0])
        word = 0
        for f in self.fields:
            value = int(values.get(f.name, f.constant or 0))
            low, high = (-(1 << (f.bits - 1)), (1 << (f.bits - 1)) - 1) if f.signed else (0, (1 << f.bits) - 1)
            if not low <= value <= high:
                raise BitkilnError("value does not fit its field", where=f"{self.name}.{f.name}", got=value,
                                   expected=f"{low} to {high}")
            word |= (value & ((1 << f.bits) - 1)) << f.low
        return word

    def unpack(self, word: int) -> dict[str, int]:
        """Every field's value, signed where the field is."""
        found = {}
        for f in self.fields:
            value = (word >> f.low) & ((1 << f.bits) - 1)
            found[f.name] = value - (1 << f.bits) if f.signed and value >> (f.bits - 1) else value
        return found


@dataclass(frozen=True)
class RegisterMap:
    """Registers of one slave, ascending.

    Parameters
    ----------
    name : str
        Of the block, in headers and documents.
    registers : sequence of Register
    """

    name: str
    registers: tuple[Register, ...] = field(default_factory=tuple)

    def __post_init__(self):
        object.__setattr__(self, "registers", tuple(self.registers))
        for one, two in zip(self.registers, self.registers[1:], strict=False):
            if two.offset <= one.offset:
                raise BitkilnError("registers overlap", where=f"register {two.name}", got=hex(two.offset),
                                   expected=f"above {one.offset:#x}, the offset of {one.name}")
        names = [register.name for register in self.registers]
        if len(set(names)) < len(names):
            raise BitkilnError("register named twice", where=self.name,
                               got=next(name for name in names if names.count(name) > 1))
        flat = [register.flat(f.name) for register in self.registers for f in register.fields]
        if len(set(flat)) < len(flat):
            raise BitkilnError("two fields of one flat name", where=self.name,
                               got=next(name for name in flat if flat.count(name) > 1))

    @cached_property
    def _by_name(self) -> dict[str, Register]:
        return {register.name: register for register in self.registers}

    def __getitem__(self, name: str) -> Register:
        if name not in self._by_name:
            raise BitkilnError("no such register", where=self.name, got=name, help=nearest(name, self._by_name))
        return self._by_name[name]

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self):
        return iter(self.registers)

    def get(self, name: str) -> Register | None:
        """A register by name, or None where the build lacks it."""
        return self._by_name.get(name)

    def at(self, offset: int) -> Register | None:
        """The register at a byte offset."""
        return next((register for register in self.registers if register.offset == offset), None)

    @cached_property
    def flat(self) -> dict[str, tuple[Register, Field]]:
        """Every field by its flat name (see `Register.flat`)."""
        return {register.flat(f.name): (register, f) for register in self.registers for f in register.fields}


# The core -----------------------------------------------------------------------------------------------


def _bits(names: Mapping[str, str], access: str) -> tuple[Field, ...]:
    return tuple(Field(name, low, 1, access, text) for low, (name, text) in enumerate(names.items()))


def _value(bits: int, access: str, description: str, **options) -> tuple[Field, ...]:
    return (Field("value", 0, bits, access, description, **options),)


def _number(bits: int, low: int, name: str, constant: int, description: str) -> Field:
    return Field(name, low, bits, "ro", description, constant=constant)


def _identity(design: MatmulDesign) -> list[Register]:
    kind = design.pe.accumulator.kind
    has = {**{rule: rule in design.rules for rule in RULES}, "bias": design.bias, "accumulate": design.accumulate,
           "block": bool(design.block), "descriptors": design.descriptors, "fp32_sums": kind == "fp32",
           "int32_sums": kind == "int32"}
    texts = {"raw": "results can leave as exact sums", "integer": "integer requantisation",
             "float": "float requantisation", "bias": "per-channel bias", "accumulate": "partial sums C",
             "block": "block scales", "descriptors": "AXI4 master and descriptors", "fp32_sums": "float32 accumulators",
             "int32_sums": "32-bit integer accumulators"}
    modes, outputs = len(design.pe.modes), len(design.outputs)
    for what, number in (("modes", modes), ("outputs", outputs)):
        if number > 15:
            raise BitkilnError("too many for the register map", where=what, got=number, expected="at most 15")
    return [
        Register("ID", 0x00, (_number(32, 0, "value", ID, "identifies this kind of core"),),
                 "The bytes 4C 4B 54 42 in memory order."),
        Register("VERSION", 0x04, (_number(16, 0, "minor", VERSION[1], "grows with additions"),
                                   _number(16, 16, "major", VERSION[0], "grows with what old drivers cannot use")),
                 "Version of the register map."),
        Register("SHAPE", 0x08, (_number(8, 0, "rows", design.rows, "rows of the array"),
                                 _number(8, 8, "columns", design.columns, "columns of the array"),
                                 _number(8, 16, "output_lanes", design.output_lanes, "results finished per cycle"),
                                 _number(8, 24, "queue", design.queue, "jobs that wait while one computes")),
                 "Shape of the core."),
        Register("LIMITS", 0x0C, (_number(16, 0, "k_words", design.k_words, "16-bit words of an operand row"),
                                  _number(4, 16, "bus_log2", design.bus_bits.bit_length() - 1,
                                          "log2 of the data width of streams or master"),
                                  _number(4, 20, "raw_log2", design.raw_bits.bit_length() - 1,
                                          "log2 of the width of a raw result"),
                                  _number(4, 24, "mode_count", modes, "modes, numbered from 0"),
                                  _number(4, 28, "output_count", outputs, "output formats, numbered from 0")),
                 "Limits of a job."),
        Register("FEATURES", 0x10, tuple(_number(1, n, name, int(has[name]), texts[name])
                                         for n, name in enumerate(FEATURES)), "What this build has."),
    ]


def _control(design: MatmulDesign) -> list[Register]:
    orders = {"start": "push the JOB registers as a job", "abort": "end the running job and drop those that wait",
              "clear_counters": "zero the counters"}
    if design.descriptors:
        orders["fetch"] = "run the chain of descriptors at DESC_ADDR"
    return [
        Register("CTRL", 0x14, _bits(orders, "wo"), "Commands; several may be given at once."),
        Register("STATUS", 0x18, (*_bits({"busy": "a job runs or waits", "queue_full": "start would be refused",
                                          "aborting": "an abort is under way", "error": "ERROR holds a code"}, "ro"),
                                  Field("queued", 4, 4, "ro", "jobs that wait"),
                                  Field("tag", 8, 16, "ro", "of the running job")), "State."),
        Register("ERROR", 0x1C, (Field("code", 0, 8, "wc", "0 when there is none", enum=ERRORS),
                                 Field("tag", 8, 16, "wc", "of the job")),
                 "The first error since the last write to this register."),
        Register("IRQ", 0x20, _bits(IRQS, "w1c"), "Events; the interrupt is high while one that is enabled is set."),
        Register("IRQ_ENABLE", 0x24, _bits(IRQS, "rw"), "Events that raise the interrupt."),
        Register("JOBS_DONE", 0x28, _value(32, "ro", "finished jobs since reset, wraps"), "Progress."),
        Register("LAST_TAG", 0x2C, _value(16, "ro", "tag of the job that finished last"), "Progress."),
    ]


def _job(design: MatmulDesign) -> list[Register]:
    modes = {mode.name: n for n, mode in enumerate(design.pe.modes)}
    integer, scaled = "integer" in design.rules, set(design.rules) != {"raw"}
    mode_fields = [Field("mode", 0, 4, "rw", "number format of the operands", enum=modes)]
    if scaled:
        mode_fields.append(Field("output", 8, 4, "rw", "format of the results (rules integer and float)",
                                 enum={name: n for n, name in enumerate(design.outputs)}))
    if design.block:
        mode_fields.append(Field("block", 16, 4, "rw", "block scales",
                                 enum={"none": 0, **{name: n + 1 for n, name in enumerate(design.block)}}))
    flags = [Field("rule", 0, 2, "rw", "what becomes of the sums",
                   enum={rule: RULES.index(rule) for rule in RULES if rule in design.rules}),
             Field("order", 2, 1, "rw", "operand that is held while the other streams by", enum={"a": 0, "w": 1})]
    if design.bias or scaled:
        flags.append(Field("per_channel", 3, 1, "rw", "bias, scale and shift come in records with W"))
    if design.bias:
        flags.append(Field("bias", 4, 1, "rw", "add the records' bias (with per_channel)"))
    if design.accumulate:
        flags.append(Field("accumulate", 5, 1, "rw", "add partial sums C"))
    if scaled:
        flags.append(Field("clamp", 6, 1, "rw", "clamp results to JOB_CLAMP_LOW and JOB_CLAMP_HIGH"))
    if design.descriptors:
        flags.append(Field("wait", 7, 1, "rw", "read nothing before the results of all earlier jobs are in memory"))

    registers = [Register("JOB_MODE", 0x40, mode_fields, "Formats.")]
    for n, (name, text) in enumerate({"M": "rows of A and of the result", "K": "columns of A and of W",
                                      "N": "rows of W, columns of the result"}.items()):
        registers.append(Register(f"JOB_{name}", 0x44 + 4 * n, _value(16, "rw", f"{text}, 1 to {MAX_SHAPE}"), "Shape."))
    registers.append(Register("JOB_FLAGS", 0x50, flags, "Options."))
    if scaled:
        registers.append(Register("JOB_SCALE", 0x54, _value(
            32, "rw", "rule integer: multiplier of 31 bits; rule float: float32"), "Scale of all channels."))
    if integer or design.bias:
        shifts = [Field("shift", 0, 6, "rw", "right shift after the multiplier, 0 to 62 (rule integer)")] * integer
        shifts += [Field("bias_shift", 8, 4, "rw", "a bias weighs 2**(8 * bias_shift) units")] * design.bias
        registers.append(Register("JOB_SHIFT", 0x58, shifts, "Shifts."))
    if scaled:
        bound = "Clamp. Rule integer: signed, zero-point included; rule float: float32, before encoding."
        registers += [
            Register("JOB_ZERO", 0x5C, _value(16, "rw", "zero-point of integer results", signed=True), "Zero-point."),
            Register("JOB_CLAMP_LOW", 0x60, _value(32, "rw", "least result"), bound),
            Register("JOB_CLAMP_HIGH", 0x64, _value(32, "rw", "greatest result"), bound),
        ]
    registers.append(Register("JOB_TAG", 0x68, _value(16, "rw", "a name for the job, returned by STATUS and LAST_TAG"),
                              "Tag."))
    return registers


def _memory(design: MatmulDesign) -> list[Register]:
    """Addresses of the variant with a master. What a build cannot use leaves a hole."""
    beat = f"a multiple of {design.bus_bits // 8}"
    scaled = set(design.rules) != {"raw"}
    record = max(RECORD_BITS, design.bus_bits) // 8   # a record has beats of its own, as on the stream
    plan = [("A", 0x80, True, f"A, {beat}"), ("A_SCALE", 0x8C, bool(design.block), f"block scales of A, {beat}"),
            ("W", 0x98, True, f"W, {beat}"), ("W_SCALE", 0xA4, bool(design.block), f"block scales of W, {beat}"),
            ("RECORD", 0xB0, design.bias or scaled,
             f"per-channel records, {record} bytes a column, a multiple of {record}"),
            ("C", 0xB8, design.accumulate, f"partial sums C, {beat}"), ("O", 0xC4, True, "results, any byte"),
            ("DESC", 0xD0, True, f"first descriptor, a multiple of {DESCRIPTOR_BYTES}")]
    wide = design.address_bits
    registers = []
    for name, offset, there, text in plan:
        if not there:
            continue
        registers.append(Register(f"{name}_ADDR", offset, _value(min(32, wide), "rw", f"byte address of {text}"),
                                  "Address."))
        if wide > 32:
            registers.append(Register(f"{name}_ADDR_HI", offset + 4, _value(wide - 32, "rw", "bits from 32 on"),
                                      "Address."))
        if name not in ("RECORD", "DESC"):
            words = "any byte" if name == "O" else beat
            registers.append(Register(f"{name}_STRIDE", offset + 8, _value(
                min(32, wide), "rw", f"bytes from one row to the next, {words}"), "Stride."))
    return registers


def _counters(design: MatmulDesign) -> list[Register]:
    plan = {"CYCLES": "cycles with a job in the core", "COMPUTE": "cycles in which the array takes operands",
            "STALL_A": "cycles in which the array waits for A", "STALL_W": "cycles in which the array waits for W",
            "STALL_DRAIN": "cycles in which the array waits for room for its results",
            "STALL_C": "cycles in which results wait for C",
            "STALL_OUT": "cycles in which results wait for their receiver",
            "MACS": "useful products: edges and padding are not counted"}
    registers = []
    for n, (name, text) in enumerate(plan.items()):
        if name == "STALL_C" and not design.accumulate:
            continue
        offset = 0x100 + 8 * n
        registers += [Register(name, offset, _value(32, "ro", f"{text}, bits 31:0"), "Counter."),
                      Register(f"{name}_HI", offset + 4, _value(32, "ro", "bits 47:32, zeros above"), "Counter.")]
    return registers


@lru_cache(maxsize=64)
def core_registers(design: MatmulDesign) -> RegisterMap:
    """The register map of a build: only what it has, at offsets that are the same in every build."""
    registers = _identity(design) + _control(design) + _job(design)
    registers += _memory(design) if design.descriptors else []
    registers += _counters(design) if design.counters else []
    return RegisterMap("matmul", tuple(registers))


# Jobs ---------------------------------------------------------------------------------------------------


def _fp32(value: float) -> int:
    """Code of the nearest float32; infinity beyond its range, the canonical NaN."""
    if value != value:
        return 0x7FC00000
    try:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        return 0x7F800000 | (value < 0) << 31


def _from_fp32(code: int) -> float:
    return struct.unpack("<f", struct.pack("<I", code))[0]


def clamp_codes(clamp: tuple[float, float] | None, integer: bool) -> tuple[int, int]:
    """32-bit codes of a job's limits: two's complement, or float32. Zeros without any."""
    low, high = clamp or (0, 0)
    return (int(low) & 0xFFFFFFFF, int(high) & 0xFFFFFFFF) if integer else (_fp32(low), _fp32(high))


def _signed(code: int, bits: int) -> int:
    return code - (1 << bits) if code >> (bits - 1) else code


def job_registers(design: MatmulDesign, job: Job) -> dict[str, int]:
    """Values of the build's JOB registers for a job (what the job's rule does not use is 0).

    Parameters
    ----------
    design : MatmulDesign
    job : Job
        Checked first, so that no value here is one that the core refuses.

    Returns
    -------
    dict of str to int
        Register name to value, in ascending order of offset.
    """
    job.check(design)
    registers = core_registers(design)
    scaled, integer = job.rule != "raw", job.rule == "integer"
    low, high = clamp_codes(job.clamp if scaled else None, integer)
    values: dict[str, dict[str, int]] = {
        "JOB_MODE": {"mode": design.pe.index(job.mode), "output": design.outputs.index(job.output) if scaled else 0,
                     "block": design.block.index(job.block) + 1 if job.block else 0},
        "JOB_M": {"value": job.m}, "JOB_K": {"value": job.k}, "JOB_N": {"value": job.n},
        "JOB_FLAGS": {"rule": RULES.index(job.rule), "order": int(job.order == "w"),
                      "per_channel": int(job.per_channel), "bias": int(job.bias), "accumulate": int(job.accumulate),
                      "clamp": int(scaled and job.clamp is not None)},
        "JOB_SCALE": {"value": (int(job.scale) if integer else _fp32(job.scale)) if scaled else 0},
        "JOB_SHIFT": {"shift": job.shift if integer else 0, "bias_shift": job.bias_shift},
        "JOB_ZERO": {"value": job.zero_point if scaled else 0},
        "JOB_CLAMP_LOW": {"value": low}, "JOB_CLAMP_HIGH": {"value": high},
        "JOB_TAG": {"value": job.tag},
    }
    found = {}
    for name, fields in values.items():
        register = registers.get(name)
        present = {f.name for f in register.fields} if register else set()
        lost = {key for key, value in fields.items() if value and key not in present}
        if lost:
            raise BitkilnError("this core has no register for it", where=f"job, {name}.{sorted(lost)[0]}",
                               got=fields[sorted(lost)[0]], expected="0")
        if register:
            found[name] = register.pack(**{key: value for key, value in fields.items() if key in present})
    return found


def decode(design: MatmulDesign, values: Mapping[str, int]) -> Job:
    """The job that the JOB registers describe, checked. Names that `values` lacks count as 0.

    Raises
    ------
    BitkilnError
        An index that the build does not have, or what `Job.check` refuses.
    """
    registers = core_registers(design)
    fields: dict[str, int] = {}
    for register in registers:
        if register.name.startswith("JOB_"):
            unpacked = register.unpack(values.get(register.name, 0)) if register.access == "rw" else {}
            fields |= {register.flat(name): value for name, value in unpacked.items()}

    def pick(flat: str) -> str:
        number = fields.get(flat, 0)
        register, f = registers.flat[flat]
        for name, value in f.enum or ():
            if value == number:
                return name
        raise BitkilnError("no such choice in this core", where=f"{register.name}.{f.name}", got=number,
                           expected=" or ".join(str(value) for _, value in f.enum or ()))

    rule = pick("job_flags_rule")
    scaled, integer = rule != "raw", rule == "integer"
    options: dict[str, object] = {}
    if scaled:
        code = fields["job_scale"]
        options |= {"output": pick("job_mode_output"), "zero_point": fields["job_zero"],
                    "scale": code if integer else _from_fp32(code)}
        if fields["job_flags_clamp"]:
            bounds = (fields["job_clamp_low"], fields["job_clamp_high"])
            options["clamp"] = tuple(_signed(b, 32) if integer else _from_fp32(b) for b in bounds)
    if integer:
        options["shift"] = fields["job_shift_shift"]
    block = pick("job_mode_block") if design.block else "none"
    return Job(mode=pick("job_mode_mode"), m=fields["job_m"], k=fields["job_k"], n=fields["job_n"], rule=rule,
               order=pick("job_flags_order"), per_channel=bool(fields.get("job_flags_per_channel", 0)),
               bias=bool(fields.get("job_flags_bias", 0)), bias_shift=fields.get("job_shift_bias_shift", 0),
               accumulate=bool(fields.get("job_flags_accumulate", 0)), block=None if block == "none" else block,
               tag=fields["job_tag"], **options).check(design)


def descriptor(design: MatmulDesign, values: Mapping[str, int], following: int = 0, *, wait: bool = False) -> bytes:
    """A descriptor as it lies in memory: 32 little-endian words.

    Parameters
    ----------
    design : MatmulDesign
    values : mapping of str to int
        Register name to value (`job_registers` and addresses); others are 0. ``A_ADDR`` and its like may hold the
        whole address: bits from 32 on go to ``A_ADDR_HI``.
    following : int
        Byte address of the next descriptor, 0 at the end of the chain. All descriptors of a chain lie in the same
        4 GiB, as only the address's low 32 bits are stored.
    wait : bool
        Set ``JOB_FLAGS.wait``: the job reads what earlier jobs of the chain write.
    """
    known = {**values}
    if wait:
        known["JOB_FLAGS"] = known.get("JOB_FLAGS", 0) | core_registers(design)["JOB_FLAGS"].field("wait").mask
    for name in [name for name in known if name.endswith("_ADDR")]:
        if known[name] >> design.address_bits:
            raise BitkilnError("address too wide", where=name, got=hex(known[name]),
                               expected=f"{design.address_bits} bits")
        high = known[name] >> 32
        if high:
            known[f"{name}_HI"] = high
            known[name] &= 0xFFFFFFFF
    unknown = sorted(set(known) - set(DESCRIPTOR_REGISTERS))
    if unknown:
        raise BitkilnError("not in a descriptor", where=unknown[0], help=nearest(unknown[0], DESCRIPTOR_REGISTERS))
    if following % DESCRIPTOR_BYTES or following >> design.address_bits:
        raise BitkilnError("illegal address of a descriptor", where="following", got=hex(following),
                           expected=f"a multiple of {DESCRIPTOR_BYTES} of {design.address_bits} bits")
    words = [known.get(name, 0) for name in DESCRIPTOR_REGISTERS] + [following & 0xFFFFFFFF]
    return struct.pack(f"<{len(words)}I", *words)
