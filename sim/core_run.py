"""The matmul core at full simulation speed: a C++ host side around the verilated core, driven from Python.

>>> model = CoreModel(design)
>>> core = Core(SimTransport(model), design)       # the driver of bitkiln.host
>>> core.matmul(a, w, formats="int8").values

`random_job` makes the jobs that this path and the cocotb bench run, with the golden model's results.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bitkiln.host.packing import (
    beats_of,
    keep_bytes,
    pack_a,
    pack_c,
    pack_results,
    pack_rows,
    pack_w,
    record_rows,
    result_bits,
)
from bitkiln.host.transport import STREAMS, Transport
from bitkiln.hw.emit import Port
from bitkiln.models.design import Job, MatmulDesign
from bitkiln.models.design.matmul import INTEGER_BITS
from bitkiln.models.design.registers import core_registers, job_registers
from bitkiln.models.errors import FAILED, BitkilnError, nearest
from bitkiln.models.formats import Format, Special, get_format, get_group_format
from bitkiln.models.golden.matmul import Records, matmul

from . import verilate
from .cache import cached, digest

__all__ = ["CHANNELS", "CoreModel", "JobCase", "Placement", "SimTransport", "finish_job", "job_writes",
           "place_job", "random_job", "run_c_driver", "run_job", "start_job"]

# Modules that are used several times stay functions: a 3x4 core compiles in two fifths of the time and runs a third
# faster than with Verilator's own choice, which inlines every PE.
ARGUMENTS = ("-O3", "--x-assign", "fast", "--x-initial", "unique", "--noassert", "--inline-mult", "1")
FILES = ("core_shim.cpp", "core_shim.h")
# In the order of enum core_channel in core_shim.h.
CHANNELS = ("aw", "w", "b", "ar", "r", "stream_a", "stream_w", "stream_c", "out", "m_aw", "m_w", "m_b", "m_ar", "m_r")
REGISTER_PATIENCE = 10_000
PATIENCE = 100_000     # cycles without any transfer, after which a simulated core is called dead
MEMORY_BYTES = 1 << 24
RESULTS, IRQ, TIMEOUT = range(3)
JOB_REGISTERS = ("JOB_MODE", "JOB_M", "JOB_K", "JOB_N", "JOB_FLAGS", "JOB_SCALE", "JOB_SHIFT", "JOB_ZERO",
                 "JOB_CLAMP_LOW", "JOB_CLAMP_HIGH", "JOB_TAG")
OKAY, DEAD = 0, -1


class CoreModel:
    """A simulated core and the far side of its channels.

    Parameters
    ----------
    design : MatmulDesign
    seed : int
        Of the stalls.
    stalls : float or mapping of channel to float
        Probability that a channel of `CHANNELS` holds still in a cycle.
    memory : int
        Bytes behind the AXI4 master, from address 0.

    Notes
    -----
    The core comes out of reset. Time passes only inside the methods.
    """

    def __init__(self, design: MatmulDesign, *, seed: int = 0, stalls: float | Mapping[str, float] = 0.0,
                 memory: int = MEMORY_BYTES):
        self._setup(design, _library_of(design), seed, stalls, memory)

    @classmethod
    def from_verilog(cls, design: MatmulDesign, text: str, top: str, ports: Sequence[Port], *, seed: int = 0,
                     stalls: float | Mapping[str, float] = 0.0, memory: int = MEMORY_BYTES) -> CoreModel:
        """A model of a Verilog text with the ports of the design's core (a mutant, a netlist)."""
        model = cls.__new__(cls)
        model._setup(design, build(text, top, ports, design), seed, stalls, memory)
        return model

    def _setup(self, design: MatmulDesign, library: Path, seed: int, stalls: float | Mapping[str, float],
               memory: int) -> None:
        self.design, self.library = design, library
        self._c = _load(library)
        self._core = self._c.core_new(seed)
        self.memory_bytes = memory if design.descriptors else 0
        self._c.core_memory(self._core, self.memory_bytes)
        self.stall(stalls)
        self.reset()

    def __del__(self):
        if getattr(self, "_core", None):
            self._c.core_free(self._core)
            self._core = None

    def stall(self, stalls: float | Mapping[str, float]) -> None:
        """Set the probabilities; channels that a mapping does not name keep theirs."""
        chosen = stalls if isinstance(stalls, Mapping) else dict.fromkeys(CHANNELS, stalls)
        for name, probability in chosen.items():
            if name not in CHANNELS:
                raise BitkilnError("unknown channel", where="stalls", got=name, expected=", ".join(CHANNELS),
                                   help=nearest(name, CHANNELS))
            if not 0 <= probability < 1:
                raise BitkilnError("out of range", where=f"stalls.{name}", got=probability, expected="0 up to below 1")
            self._c.core_stall(self._core, CHANNELS.index(name), int(probability * 65536))

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        return self._c.core_cycles(self._core)

    @property
    def irq(self) -> bool:
        return bool(self._c.core_irq(self._core))

    def reset(self, cycles: int = 2) -> None:
        """Hold the reset; everything under way outside the core is forgotten too."""
        self._c.core_reset(self._core, cycles)

    def step(self, cycles: int) -> None:
        self._c.core_step(self._core, cycles)

    def read(self, address: int) -> tuple[int, int]:
        """AXI response (-1: none came) and value of a register."""
        value = ctypes.c_uint32()
        response = self._c.core_read32(self._core, address, ctypes.byref(value), REGISTER_PATIENCE)
        return response, value.value

    def write(self, address: int, value: int, strobes: int = 15) -> int:
        """AXI response (-1: none came) of a write."""
        return self._c.core_write32(self._core, address, value & 0xFFFFFFFF, strobes, REGISTER_PATIENCE)

    def send(self, stream: str, beats: np.ndarray) -> None:
        """Queue beats for a stream (``a``, ``w`` or ``c``)."""
        beats = np.ascontiguousarray(beats, np.uint8)
        if beats.ndim != 2 or beats.shape[1] != self.design.bus_bits // 8:
            raise BitkilnError("wrong beats", where=f"stream {stream}", got=beats.shape,
                               expected=f"(beats, {self.design.bus_bits // 8})")
        self._c.core_send(self._core, STREAMS.index(stream), beats.ctypes.data, len(beats))

    def waiting(self, stream: str) -> int:
        """Beats of a stream that the core has not taken."""
        return self._c.core_waiting(self._core, STREAMS.index(stream))

    def run(self, results: int = 0, *, irq: bool = False, patience: int = PATIENCE) -> int:
        """Until so many beats have arrived (`RESULTS`), the interrupt is high (`IRQ`), or nothing moved for
        ``patience`` cycles (`TIMEOUT`)."""
        return self._c.core_run(self._core, results, irq, patience)

    @property
    def arrived(self) -> int:
        """Result beats that can be taken."""
        return self._c.core_arrived(self._core)

    def take(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At most ``count`` result beats: data (uint8), byte mask (uint64) and last (bool) of each."""
        count = min(count, self.arrived)
        beats = np.empty((count, self.design.bus_bits // 8), np.uint8)
        keep, last = np.empty(count, np.uint64), np.empty(count, bool)
        self._c.core_take(self._core, beats.ctypes.data, keep.ctypes.data, last.ctypes.data, count)
        return beats, keep, last

    def flush(self) -> None:
        """Forget beats that wait on either side. A beat that is offered is withdrawn."""
        self._c.core_flush(self._core)

    def memory_write(self, address: int, data: np.ndarray) -> None:
        data = np.ascontiguousarray(data, np.uint8)
        if self._c.core_memory_write(self._core, address, data.ctypes.data, data.size):
            raise BitkilnError("outside the memory", where="memory", got=address, expected=f"0 to {self.memory_bytes}")

    def memory_read(self, address: int, count: int) -> np.ndarray:
        data = np.empty(count, np.uint8)
        if self._c.core_memory_read(self._core, address, data.ctypes.data, count):
            raise BitkilnError("outside the memory", where="memory", got=address, expected=f"0 to {self.memory_bytes}")
        return data

    def check_protocol(self) -> None:
        """Raise BitkilnError where the core broke a rule of a channel."""
        if count := self._c.core_violations(self._core):
            raise BitkilnError("broken protocol", where=self.design.name, got=f"{count} times",
                               expected="0", help=self._c.core_first_violation(self._core).decode(), exit_code=FAILED)


class SimTransport(Transport):
    """The transport of a simulated core."""

    def __init__(self, model: CoreModel):
        self.model = model
        self.memory = range(model.memory_bytes)

    def read32(self, address: int) -> int:
        response, value = self.model.read(address)
        self._check(response, f"read of {address:#05x}")
        return value

    def write32(self, address: int, value: int) -> None:
        self._check(self.model.write(address, value), f"write to {address:#05x}")

    def wait(self) -> bool:
        return self.model.run(irq=True, patience=256) == IRQ

    def send(self, stream: str, beats: np.ndarray) -> None:
        self.model.send(stream, beats)

    def receive(self, count: int) -> np.ndarray:
        if self.model.run(count) != RESULTS:
            waiting = ", ".join(f"{name} {self.model.waiting(name)}" for name in STREAMS)
            raise BitkilnError("results do not come", where=f"cycle {self.model.cycles}", got=self.model.arrived,
                               expected=f"{count} beats", help=f"beats not taken: {waiting}", exit_code=FAILED)
        return self.model.take(count)[0]

    def flush(self) -> None:
        self.model.flush()

    def memory_read(self, address: int, count: int) -> np.ndarray:
        return self.model.memory_read(address, count)

    def memory_write(self, address: int, data: np.ndarray) -> None:
        self.model.memory_write(address, data)

    def _check(self, response: int, where: str) -> None:
        if response != OKAY:
            raise BitkilnError("no answer" if response == DEAD else "the core answers with an error", where=where,
                               got=response, expected=str(OKAY), exit_code=FAILED)


# Building ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=32)
def _library_of(design: MatmulDesign) -> Path:
    from bitkiln.hw.mac.core import MatmulCore

    prepared, text = verilate.verilog_text(MatmulCore(design))
    return build(text, prepared.top, prepared.ports, design)


def build(text: str, top: str, ports: Sequence[Port], design: MatmulDesign) -> Path:
    """The shared library (core_shim.h) of a core's Verilog, from the cache where it was built before."""
    verilator, cxx = verilate.simulation_tools()
    names = {port.name for port in ports}
    macros = {"CORE_BUS_BYTES": design.bus_bits // 8, "CORE_HAS_STREAMS": int("m_axis_tdata" in names),
              "CORE_HAS_C": int("s_axis_c_tdata" in names), "CORE_HAS_MASTER": int("m_axi_awaddr" in names)}
    sources = {name: (Path(__file__).parent / name).read_text() for name in FILES}
    key = digest(text, top, macros, ARGUMENTS, verilate.OPTIMISE, sources, Path(__file__).read_bytes(),
                 Path(verilate.__file__).read_bytes(), verilator.identity, cxx.identity)

    def make(folder: Path) -> None:
        made = verilate.verilate(text, top, folder, ARGUMENTS, verilator=verilator)
        for name, source in sources.items():
            (folder / name).write_text(source)
        entry = folder / "entry.cpp"
        entry.write_text("".join(f"#define {name} {value}\n" for name, value in macros.items())
                         + '#include "core_shim.cpp"\n')
        verilate.compile_sources([*made, entry], folder / "libcore.so", verilator=verilator, cxx=cxx, where=top,
                                 shared=True)
        for path in folder.iterdir():
            if path.name not in ("libcore.so", "core_shim.h"):
                path.unlink()

    return cached("cores", key, make) / "libcore.so"


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    core, word, count, bytes_of = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p
    for name, result, arguments in (
            ("core_new", core, (count,)), ("core_free", None, (core,)), ("core_reset", None, (core, word)),
            ("core_step", None, (core, count)), ("core_cycles", count, (core,)),
            ("core_write32", ctypes.c_int, (core, word, word, word, word)),
            ("core_read32", ctypes.c_int, (core, word, ctypes.c_void_p, word)),
            ("core_stall", None, (core, ctypes.c_int, word)),
            ("core_send", None, (core, ctypes.c_int, bytes_of, count)),
            ("core_waiting", count, (core, ctypes.c_int)), ("core_arrived", count, (core,)),
            ("core_take", count, (core, bytes_of, bytes_of, bytes_of, count)), ("core_flush", None, (core,)),
            ("core_run", ctypes.c_int, (core, count, ctypes.c_int, count)), ("core_irq", ctypes.c_int, (core,)),
            ("core_memory", None, (core, count)),
            ("core_memory_write", ctypes.c_int, (core, count, bytes_of, count)),
            ("core_memory_read", ctypes.c_int, (core, count, bytes_of, count)),
            ("core_violations", count, (core,)), ("core_first_violation", ctypes.c_char_p, (core,))):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


# Jobs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobCase:
    """A job with its operands and what the golden model says.

    Attributes
    ----------
    job : Job
    a, w : integer ndarray (M, K), (N, K)
    c : ndarray (M, N) or None
    records : Records or None
    a_scales, w_scales : ndarray or None
    codes : ndarray (M, N)
        Expected results.
    invalid, overflow : bool
        Expected events.
    """

    job: Job
    a: np.ndarray
    w: np.ndarray
    c: np.ndarray | None
    records: Records | None
    a_scales: np.ndarray | None
    w_scales: np.ndarray | None
    codes: np.ndarray
    invalid: bool
    overflow: bool

    def beats(self, design: MatmulDesign) -> dict[str, np.ndarray]:
        """Beats of each input stream that the job uses."""
        found = {"a": pack_a(design, self.job, self.a, self.a_scales),
                 "w": pack_w(design, self.job, self.w, self.records, self.w_scales)}
        if self.c is not None:
            found["c"] = pack_c(design, self.job, self.c)
        return found

    def results(self, design: MatmulDesign) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Result beats, their byte masks and last marks, as `CoreModel.take` gives them."""
        beats = pack_results(design, self.job, self.codes)
        kept = keep_bytes(design, self.job).astype(object)
        last = np.zeros(len(beats), bool)
        last[-1] = True
        return beats, ((1 << kept) - 1).astype(np.uint64), last


@dataclass(frozen=True)
class Placement:
    """A job in the memory of a core with a master.

    Attributes
    ----------
    registers : dict of str to int
        Values of the JOB, address and stride registers (addresses whole, not split in halves).
    pieces : list of (int, ndarray)
        Address and bytes of everything that the job reads, and of what lies where its results go.
    results : (int, ndarray)
        Address and bytes of the whole place of the results afterwards, gaps included.
    end : int
        First byte after all of it.
    """

    registers: dict[str, int]
    pieces: list[tuple[int, np.ndarray]]
    results: tuple[int, np.ndarray]
    end: int

    def writes(self, design: MatmulDesign) -> list[tuple[int, int]]:
        """Address and value of each register write."""
        found, registers = [], core_registers(design)
        for name, value in self.registers.items():
            found.append((registers[name].offset, value & 0xFFFFFFFF))
            if f"{name}_HI" in registers:
                found.append((registers[f"{name}_HI"].offset, value >> 32))
        return found


def place_job(design: MatmulDesign, case: JobCase, base: int, rng: np.random.Generator) -> Placement:
    """Put a job into memory from ``base`` on, with random gaps between rows and around matrices."""
    job, unit = case.job, design.bus_bits // 8
    mode = design.pe.modes[design.pe.index(job.mode)]
    registers, pieces = job_registers(design, job), []
    parts = [("A", case.a, mode.activation.bits), ("W", case.w, mode.weight.bits), ("A_SCALE", case.a_scales, 8),
             ("W_SCALE", case.w_scales, 8), ("C", case.c, design.raw_bits)]
    at = base
    for name, codes, bits in parts:
        if codes is None:
            continue
        rows = pack_rows(np.asarray(codes), bits, 1)
        stride = (-(-rows.shape[1] // unit) + int(rng.integers(3))) * unit
        at = (-(-at // unit) + int(rng.integers(40))) * unit
        data = rng.integers(0, 256, (len(rows), stride), np.uint8)   # what must not matter
        data[:, :rows.shape[1]] = rows
        pieces.append((at, data.reshape(-1)))
        registers |= {f"{name}_ADDR": at, f"{name}_STRIDE": stride}
        at += data.size
    if case.records is not None:
        at = (-(-at // 64) + int(rng.integers(40))) * 64
        data = record_rows(job, case.records, unit).reshape(-1)
        pieces.append((at, data))
        registers["RECORD_ADDR"] = at
        at += data.size
    rows = pack_rows(np.asarray(case.codes), result_bits(design, job), 1)
    stride = rows.shape[1] + int(rng.choice([0, int(rng.integers(20)), -rows.shape[1] % unit]))
    before = rng.integers(0, 256, 64 + job.m * stride + 64, np.uint8)
    registers |= {"O_ADDR": at + 64 + int(rng.integers(unit)), "O_STRIDE": stride}
    pieces.append((at, before))
    after, first = before.copy(), registers["O_ADDR"] - at
    for number, row in enumerate(rows):
        start = first + number * stride
        after[start:start + len(row)] = row
    return Placement(registers, pieces, (at, after), at + before.size)


def job_writes(design: MatmulDesign, job: Job) -> list[tuple[int, int]]:
    """Address and value of each register write that starts a job."""
    registers = core_registers(design)
    writes = [(registers[name].offset, value) for name, value in job_registers(design, job).items()]
    return [*writes, (registers["CTRL"].offset, registers["CTRL"].pack(start=1))]


def run_job(model: CoreModel, case: JobCase) -> None:
    """Run one job and compare every beat; raises BitkilnError at the first difference."""
    start_job(model, case)
    finish_job(model, case)


def start_job(model: CoreModel, case: JobCase) -> None:
    """Offer the operands and start."""
    for stream, beats in case.beats(model.design).items():
        model.send(stream, beats)
    for address, value in job_writes(model.design, case.job):
        if model.write(address, value) != OKAY:
            raise BitkilnError("register write refused", where=f"{address:#05x}", got=value, exit_code=FAILED)


def finish_job(model: CoreModel, case: JobCase) -> None:
    """Take the results of the oldest job and compare them."""
    wanted = case.results(model.design)
    count = beats_of(model.design, case.job).results
    if model.run(count) != RESULTS:
        waiting = {name: model.waiting(name) for name in STREAMS}
        raise BitkilnError("results do not come", where=f"{case.job}", got=f"{model.arrived}, not taken: {waiting}",
                           expected=f"{count} beats", exit_code=FAILED)
    compare_beats(case, model.take(count), wanted)


def compare_beats(case: JobCase, got: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> None:
    """Raise BitkilnError at the first beat that differs in data, byte mask or last mark."""
    for what, one, two in zip(("data", "keep", "last"), got, wanted, strict=True):
        if len(one) != len(two):
            raise BitkilnError("wrong number of result beats", where=f"{case.job}", got=len(one),
                               expected=str(len(two)), exit_code=FAILED)
        differs = (one != two).reshape(len(one), -1).any(axis=1)
        if differs.any():
            at = int(np.flatnonzero(differs)[0])
            texts = (value.tobytes()[::-1].hex() for value in (one[at:at + 1], two[at:at + 1]))
            raise BitkilnError("core and golden model differ", where=f"{what} of beat {at} of {len(one)}, {case.job}",
                               got=f"{next(texts)} ({int(differs.sum())} beats differ)", expected=next(texts),
                               exit_code=FAILED)


SIZES = 70                  # largest M, K and N of random jobs
SPECIAL_CHANCE = 0.3        # jobs with special codes among their operands
EDGE_CHANCE = 0.15          # elements that are extreme codes


def random_job(design: MatmulDesign, rng: np.random.Generator, *, size: int = SIZES, mode: str | None = None,
               rule: str | None = None, **fixed) -> JobCase:
    """A random legal job with operands and expected results.

    Parameters
    ----------
    design : MatmulDesign
    rng : numpy Generator
    size : int
        Largest M, K and N.
    mode, rule : str, optional
        Fixed instead of random.
    **fixed
        Other fields of the `Job` that must be so.
    """
    pe = design.pe
    chosen = pe.modes[pe.index(mode)] if mode else pe.modes[rng.integers(len(pe.modes))]
    m, n, k = (_length(rng, size, tile) for tile in (design.rows, design.columns, chosen.lanes * 4))
    k = min(k, design.max_k(chosen))
    blocks = [name for name in design.block if get_group_format(name).element.name == chosen.name]
    block = str(rng.choice(blocks)) if blocks and rng.random() < 0.6 else None
    floating = design.floating or block is not None
    integers = [name for name in design.outputs if get_format(name).family == "int"]
    rules = [name for name in design.rules if name != "integer" or (
        integers and not floating and pe.dot(chosen).accumulator_bits <= INTEGER_BITS)]
    rule = rule or str(rng.choice(rules))
    output = None if rule == "raw" else str(rng.choice(integers if rule == "integer" else design.outputs))
    per_channel = bool(rng.random() < 0.5) and (rule != "raw" or design.bias)
    options = {"m": m, "k": k, "n": n, "rule": rule, "output": output, "block": block,
               "order": str(rng.choice(["a", "w"])), "per_channel": per_channel,
               "bias": per_channel and design.bias and bool(rng.random() < 0.7),
               "accumulate": design.accumulate and bool(rng.random() < 0.4), "tag": int(rng.integers(1 << 16))}
    options |= fixed
    job = Job(chosen.name, **options)
    # The golden model needs long for float32 sums with specials.
    special = rng.random() < (SPECIAL_CHANCE / 3 if design.floating else SPECIAL_CHANCE)
    a = _random_codes(rng, chosen.activation, (job.m, job.k), special)
    w = _random_codes(rng, chosen.weight, (job.n, job.k), special)
    a_scales, w_scales = (None, None) if job.block is None else (
        _scale_codes(rng, get_group_format(job.block), rows, job.k) for rows in (job.m, job.n))
    unit, typical = _magnitude(design, job, a, w, a_scales, w_scales)
    if rule != "raw":
        job = replace(job, **_epilogue(rng, job, unit, typical))
    if job.bias and not (design.floating or job.block):
        width = max(1, int(np.log2(max(typical, 1.0) * 8)) + 1)
        job = replace(job, bias_shift=int(np.clip(-(-(width - 31) // 8) + rng.integers(2), 0, 15)))
    job = job.check(design)
    records = _records(rng, design, job, unit, typical) if job.per_channel else None
    c = _partial_sums(rng, design, job, typical) if job.accumulate else None
    result = matmul(design, job, a, w, c=c, records=records, a_scales=a_scales, w_scales=w_scales)
    return JobCase(job, a, w, c, records, a_scales, w_scales, result.codes, bool(result.invalid.any()),
                   bool(result.overflow.any()))


def _length(rng: np.random.Generator, size: int, tile: int) -> int:
    """1 to ``size``; half of them at or beside a multiple of ``tile``."""
    if rng.random() < 0.5:
        return int(rng.integers(1, size + 1))
    near = tile * int(rng.integers(1, max(2, size // tile + 1))) + int(rng.integers(-1, 2))
    return int(np.clip(near, 1, size))


def _random_codes(rng: np.random.Generator, fmt: Format, shape: tuple[int, int], special: bool) -> np.ndarray:
    """Codes: mostly any, some extreme, hardly any special."""
    every = np.arange(1 << fmt.bits)
    kinds = fmt.unpack(every).special
    calm, rest = every[kinds == Special.NONE], every[kinds != Special.NONE]
    values = fmt.decode(calm)
    edges = calm[[values.argmax(), values.argmin(), np.abs(values).argmin(),
                  np.where(values > 0, values, np.inf).argmin()]]
    codes = rng.choice(calm, shape)
    if rng.random() < 0.5:   # small numbers, so that sums do not all overflow or vanish beside one
        order = calm[np.argsort(np.abs(values), kind="stable")]
        codes = order[(rng.random(shape) ** 3 * len(order)).astype(np.int64)]
    codes = np.where(rng.random(shape) < EDGE_CHANCE, rng.choice(edges, shape), codes)
    if special and len(rest):
        codes = np.where(rng.random(shape) < 0.5 / shape[1], rng.choice(rest, shape), codes)
    return codes


def _scale_codes(rng: np.random.Generator, group, rows: int, k: int) -> np.ndarray:
    """Block scales around 1, a few of them anything."""
    fmt, shape = group.scale, (rows, -(-k // group.block_size))
    middle = int(fmt.encode(np.ones(1))[0])
    codes = middle + rng.integers(-12, 13, shape)
    return np.where(rng.random(shape) < 0.03, rng.integers(0, 1 << fmt.bits, shape),
                    np.clip(codes, 0, (1 << fmt.bits) - 2))


def _magnitude(design: MatmulDesign, job: Job, a: np.ndarray, w: np.ndarray, a_scales: np.ndarray | None,
               w_scales: np.ndarray | None) -> tuple[float, float]:
    """Value of a sum's unit, and a typical magnitude of the sums in units."""
    mode = design.pe.modes[design.pe.index(job.mode)]
    values = [np.nan_to_num(fmt.decode(codes), posinf=0.0, neginf=0.0)
              for fmt, codes in ((mode.activation, a), (mode.weight, w))]
    if job.block:
        group = get_group_format(job.block)
        for at, codes in enumerate((a_scales, w_scales)):
            scale = np.repeat(np.nan_to_num(group.scale.decode(codes)), group.block_size, axis=1)
            values[at] = values[at] * scale[:, :job.k]
    unit = 1.0 if design.floating or job.block else 2.0 ** mode.dot().product_exponent
    mean = float(np.abs(values[0] @ values[1].T).mean()) / unit
    return unit, min(mean, 1e38) if mean > 0 else 1.0


def _epilogue(rng: np.random.Generator, job: Job, unit: float, typical: float) -> dict:
    """Scale, shift, zero-point and clamp that leave some results inside the output's range."""
    fmt = get_format(job.output)
    integer = fmt.family == "int"
    wanted = float(fmt.max) if fmt.name != "fp32" and fmt.max < 1e6 else 100.0
    ratio = wanted / (typical * unit) * 2.0 ** rng.uniform(-5, 1)
    options: dict = {"zero_point": int(rng.integers(-40, 41)) if integer and rng.random() < 0.5 else 0}
    if job.rule == "integer":
        options["scale"], options["shift"] = _multiplier(rng, ratio * unit)
        low, high = sorted(int(x) for x in rng.integers(-2 * int(fmt.max), 2 * int(fmt.max) + 1, 2))
    else:
        options["scale"] = _float_scale(rng, ratio)
        low, high = sorted(float(np.float32(x)) for x in rng.normal(0, wanted, 2))
        if rng.random() < 0.3:
            low, high = 0.0, float("inf")   # ReLU
    if rng.random() < 0.5:
        options["clamp"] = (low, high)
    return options


def _multiplier(rng: np.random.Generator, ratio: float) -> tuple[int, int]:
    if rng.random() < 0.1:
        return int(rng.choice([0, 1, (1 << 31) - 1])), int(rng.choice([0, 1, 30, 62]))
    fraction, exponent = np.frexp(ratio)
    bits = int(rng.integers(8, 32))
    shift = int(np.clip(bits - exponent, 0, 62))
    return int(np.clip(np.ldexp(fraction, shift + int(exponent)), 0, (1 << 31) - 1)), shift


def _float_scale(rng: np.random.Generator, ratio: float) -> float:
    kind = rng.random()
    if kind < 0.06:
        return float(rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3.4e38]))
    scale = float(np.float32(ratio))
    return -scale if kind < 0.2 else float(np.float32(2.0 ** np.round(np.log2(ratio)))) if kind < 0.4 else scale


def _records(rng: np.random.Generator, design: MatmulDesign, job: Job, unit: float, typical: float) -> Records:
    n, floating = job.n, design.floating or job.block is not None
    if floating:
        bias = _singles(rng.normal(0, typical, n))
        bias[rng.random(n) < 0.03] = rng.choice(np.float32([0.0, -0.0, np.inf, np.nan, 1e-45]))
    else:
        limit = min(2.0 ** 31 - 1, max(4.0, 2 * typical / 256.0 ** job.bias_shift))
        bias = rng.integers(-int(limit), int(limit) + 1, n)
        bias = np.where(rng.random(n) < 0.05, rng.choice([-(1 << 31), (1 << 31) - 1, 0, -1], n), bias)
    scale: np.ndarray | int = 0
    shift: np.ndarray | int = 0
    if job.rule != "raw":
        drawn = [_epilogue(rng, job, unit, typical) for _ in range(n)]
        if job.rule == "integer":
            scale, shift = (np.array([one[key] for one in drawn]) for key in ("scale", "shift"))
        else:
            scale = np.array([one["scale"] for one in drawn], np.float32)
    return Records.of(n, bias, scale, shift)


def _singles(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -3e38, 3e38).astype(np.float32)


def _partial_sums(rng: np.random.Generator, design: MatmulDesign, job: Job, typical: float) -> np.ndarray:
    shape, bits = (job.m, job.n), design.raw_bits
    if design.floating or job.block is not None:
        values = _singles(rng.normal(0, typical, shape))
        values[rng.random(shape) < 0.01] = rng.choice(np.float32([np.inf, -np.inf, np.nan, -0.0, 1e-45]))
        return values.view(np.uint32).astype(np.uint64)
    flat = [int(x * min(typical, 2.0 ** 52) * 2) * (1 << max(0, int(np.log2(typical)) - 52))
            for x in rng.normal(0, 1, job.m * job.n)]
    half = 1 << (bits - 1)
    edges = [half, half - 1, half + 1, 2 * half - 1, half - 2, half + 2, 0]
    picks, which = rng.random(len(flat)) < 0.01, rng.integers(0, len(edges), len(flat))
    codes = np.empty(len(flat), object)
    codes[:] = [edges[which[i]] if picks[i] else value % (2 * half) for i, value in enumerate(flat)]
    return codes.reshape(shape) if bits > 64 else codes.astype(np.uint64).reshape(shape)


# The C driver ------------------------------------------------------------------------------------


def run_c_driver(design: MatmulDesign, model: CoreModel, header: str, cases: Sequence[JobCase], folder: Path, *,
                 seed: int = 0, stall: float = 0.0) -> tuple[int, int]:
    """Compile the C driver with `core_shim_main.c`, link it with a model's library, and run jobs through it.

    Parameters
    ----------
    design : MatmulDesign
        A core with streams.
    model : CoreModel
        Its library is used; the program simulates a core of its own.
    header : str
        Text of ``matmul_registers.h`` for the build.
    cases : sequence of JobCase
    folder : Path
        Where the program is made.
    seed, stall
        Of the program's core.

    Returns
    -------
    jobs, cycles : int
        Jobs compared (the cases, and one after an abort) and simulated cycles.

    Raises
    ------
    BitkilnError
        The driver does not compile without a warning, a result differs, or the driver misses an error.
    """
    driver = Path(__file__).parent.parent / "host" / "c"
    compiler = _c_compiler()
    (folder / "matmul_registers.h").write_text(header)
    _write_cases(folder / "cases.bin", design, cases)
    include = [f"-I{folder}", f"-I{driver}", f"-I{Path(__file__).parent}"]
    strict = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    objects = []
    for source, options in ((driver / "bitkiln_matmul.c", ["-ffreestanding"]),
                            (Path(__file__).parent / "core_shim_main.c", [])):
        objects.append(str(folder / f"{source.stem}.o"))
        verilate.run_command([compiler, *strict, *options, *include, "-c", str(source), "-o", objects[-1]],
                             what="compiling the C driver", where=source.name)
    program = folder / "driver"
    verilate.run_command([compiler, *objects, str(model.library), f"-Wl,-rpath,{model.library.parent}", "-o",
                          str(program)], what="linking the C driver", where=design.name)
    printed = verilate.run_command([str(program), str(folder / "cases.bin"), str(seed), str(int(stall * 65536))],
                                   what="the C driver on the simulated core", where=design.name, timeout=600)
    words = printed.split()
    return int(words[1]), int(words[5])


def _c_compiler() -> str:
    """The C compiler beside the C++ compiler."""
    path = Path(verilate.simulation_tools()[1].path)
    for one, two in (("clang++", "clang"), ("g++", "gcc"), ("c++", "cc")):
        if one in path.name:
            return str(path.with_name(path.name.replace(one, two)))
    return "cc"


def _write_cases(path: Path, design: MatmulDesign, cases: Sequence[JobCase]) -> None:
    """Jobs for ``core_shim_main.c``: register values and widths, rows of each operand as a C program keeps them in
    memory, the expected result rows, and records."""
    parts = [struct.pack("<I", len(cases))]
    for case in cases:
        job, values = case.job, job_registers(design, case.job)
        mode = design.pe.modes[design.pe.index(job.mode)]
        width = result_bits(design, job)
        size = get_group_format(job.block).block_size if job.block else 0
        parts.append(struct.pack("<15I", *(values.get(name, 0) for name in JOB_REGISTERS), mode.activation.bits,
                                 mode.weight.bits, width, size))
        matrices = [None if codes is None else pack_rows(np.asarray(codes), bits, 1) for codes, bits in (
            (case.a, mode.activation.bits), (case.w, mode.weight.bits), (case.a_scales, 8), (case.w_scales, 8),
            (case.c, design.raw_bits), (case.codes, width))]
        matrices.append(None if case.records is None else record_rows(job, case.records, 1))
        for rows in matrices:
            shape = (0, 0) if rows is None else rows.shape
            parts += [struct.pack("<II", *shape), b"" if rows is None else rows.tobytes()]
    path.write_bytes(b"".join(parts))
