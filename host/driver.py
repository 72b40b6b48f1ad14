"""Python driver of the matmul core: quantise, tile, run, collect.

>>> core = Core(transport, design)
>>> core.matmul(a, w, formats="int8", bias=bias, relu=True).values
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from bitkiln.models.design import Job, MatmulDesign, Mode
from bitkiln.models.design.matmul import MAX_SHAPE, MAX_SHIFT, MULTIPLIER_BITS
from bitkiln.models.design.registers import ERRORS, core_registers, job_registers
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Blocks, Format, get_format, get_group_format
from bitkiln.models.golden.matmul import Records, raw_values
from bitkiln.models.quantize import Quantized, rtn

from .packing import (
    beats_of,
    best_order,
    operand_rows,
    pack_a,
    pack_c,
    pack_w,
    result_bits,
    unpack_results,
    unpack_rows,
)
from .transport import Transport, check_identity

__all__ = ["Core", "Product", "error_text", "fixed_multiplier"]

MEANINGS = {
    "none": "no error",
    "queue_full": "a job was started while the queue was full",
    "mode": "the core has no such mode",
    "shape": "M, K or N is zero, or K is longer than an operand tile or the accumulator holds",
    "rule": "the core has no such output rule, or it does not apply to these sums",
    "output": "the core has no such output format, or the rule cannot produce it",
    "block": "the core has no such block format, or the mode is not its element",
    "flags": "the core was built without bias or accumulate, or the flags contradict each other",
    "address": "an address or a stride is not aligned",
    "bus": "the memory answered with an error",
    "descriptor": "a descriptor is not aligned or cannot be read",
}
POLLS = 1_000_000   # without progress; a transport's own patience ends earlier
ALIGN = 4096        # operands in memory: no burst of a row crosses more pages than it must


def error_text(code: int) -> str:
    """Meaning of ERROR.code."""
    names = {number: name for name, number in ERRORS.items()}
    return MEANINGS.get(names.get(code, ""), "unknown error")


def fixed_multiplier(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """31-bit multipliers and shifts with ``multiplier * 2.0**-shift`` next to ``ratio``.

    Parameters
    ----------
    ratio : ndarray of float
        0 or more, below 2**31.

    Returns
    -------
    multiplier, shift : ndarray of int64
    """
    ratio = np.asarray(ratio, np.float64)
    if not (np.isfinite(ratio) & (ratio >= 0) & (ratio < 2.0 ** MULTIPLIER_BITS - 0.5)).all():
        raise BitkilnError("scale out of range", where="integer requantisation", got=float(np.max(ratio)),
                           expected=f"0 to 2**{MULTIPLIER_BITS}", help="use rule float")
    fraction, exponent = np.frexp(ratio)
    shift = np.minimum(MULTIPLIER_BITS - exponent, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(ratio, shift)).astype(np.int64)
    full = multiplier >> MULTIPLIER_BITS != 0   # rounded up to the next power of two
    multiplier, shift = np.where(full, multiplier >> 1, multiplier), np.where(full, shift - 1, shift)
    return multiplier, np.where(fraction == 0, 0, shift).astype(np.int64)


@dataclass(frozen=True)
class Product:
    """What `Core.matmul` gives.

    Attributes
    ----------
    codes : ndarray (M, N)
        As the core gave them: codes of the output format, or raw sums (`packing.unpack_results`).
    values : ndarray (M, N) of float64
        The real numbers that they stand for.
    scale : ndarray
        ``values`` is the codes' own value (less the zero-point) times this.
    jobs : tuple of Job
        In the order in which they ran.
    counters : dict of str to int
        Of these jobs together: ``cycles``, ``compute``, ``macs`` and stalls.
    invalid, overflow : bool
        A result did not fit its format; a 32-bit sum wrapped or saturated.
    """

    codes: np.ndarray
    values: np.ndarray
    scale: np.ndarray
    jobs: tuple[Job, ...]
    counters: dict[str, int] = field(default_factory=dict)
    invalid: bool = False
    overflow: bool = False


class _Running(NamedTuple):
    job: Job
    values: dict[str, int]
    place: range               # in memory (cores with a master)


@dataclass(frozen=True)
class _Operand:
    """Codes (rows, K), what one unit of them is worth for each row, and block scale codes."""

    codes: np.ndarray
    scale: np.ndarray                 # () or (rows,)
    blocks: np.ndarray | None = None

    def part(self, rows: slice, columns: slice, block: int) -> tuple[np.ndarray, np.ndarray | None]:
        scales = None
        if self.blocks is not None:
            stop = -(-min(columns.stop, self.codes.shape[1]) // block)
            scales = self.blocks[rows, columns.start // block:stop]
        return self.codes[rows, columns], scales


class Core:
    """A matmul core behind a transport.

    Parameters
    ----------
    transport : Transport
    design : MatmulDesign
        What the core was built from; compared with its identification registers.

    Raises
    ------
    BitkilnError
        The core is another one.
    """

    def __init__(self, transport: Transport, design: MatmulDesign):
        self.transport, self.design = transport, design
        self.registers = core_registers(design)
        self._running: deque[_Running] = deque()
        self.check_identity()
        self._begin()

    # Registers ------------------------------------------------------------------------------------

    def read(self, name: str) -> dict[str, int]:
        """Fields of a register."""
        register = self.registers[name]
        return register.unpack(self.transport.read32(register.offset))

    def write(self, name: str, value: int | None = None, **fields: int) -> None:
        """Write a register as a whole, or from its fields (others become 0)."""
        register = self.registers[name]
        self.transport.write32(register.offset, register.pack(**fields) if value is None else value)

    def check_identity(self) -> None:
        """Raise BitkilnError unless the core behind the transport is the design."""
        check_identity(self.transport, self.registers, self.design.name)

    def check_error(self) -> None:
        """Raise BitkilnError where the core has set its error register; clears it."""
        error = self.read("ERROR")
        if error["code"]:
            self.write("ERROR", 0)
            raise BitkilnError("the core refused or ended a job", where=f"ERROR, tag {error['tag']}", got=error["code"],
                               expected="0", help=error_text(error["code"]), exit_code=FAILED)

    def counters(self) -> dict[str, int]:
        """All counters, by their names in lower case; empty where the build has none."""
        found: dict[str, int] = {}
        for register in self.registers:
            high = self.registers.get(f"{register.name}_HI")
            if register.offset < 0x100 or high is None:
                continue
            upper, again = None, self.transport.read32(high.offset)
            while upper != again:   # the lower half may have wrapped between the reads
                upper = again
                lower = self.transport.read32(register.offset)
                again = self.transport.read32(high.offset)
            found[register.name.lower()] = lower | upper << 32
        return found

    def clear_counters(self) -> None:
        self.write("CTRL", clear_counters=1)

    def abort(self) -> None:
        """End the running job, drop those that wait, and forget their beats."""
        self.transport.flush()   # what came after the abort would count as the next job's
        self.write("CTRL", abort=1)
        for _ in range(POLLS):
            status = self.read("STATUS")
            if not status["aborting"] and not status["busy"]:
                break
            self.transport.wait()
        else:
            raise BitkilnError("the abort does not end", where="STATUS", got=status, exit_code=FAILED)
        self.transport.wait()    # a beat or two that had left the core already
        self.transport.flush()
        self._running.clear()
        self._begin()

    def _begin(self) -> None:
        """Take over an idle core: what went wrong with earlier jobs is not the next one's error."""
        # Tags go on from the last job's, whoever gave it: a job is done when LAST_TAG has reached its tag.
        self._tag = self.read("LAST_TAG")["value"]
        self.write("ERROR", 0)
        self.write("IRQ", 0xF)

    # Jobs -----------------------------------------------------------------------------------------

    def submit(self, job: Job, a: np.ndarray, w: np.ndarray, *, a_scales: np.ndarray | None = None,
               w_scales: np.ndarray | None = None, records: Records | None = None, c: np.ndarray | None = None) -> None:
        """Start a job, as soon as the queue has room for it. `collect` gives its results.

        Parameters
        ----------
        job : Job
        a, w : integer ndarray (M, K), (N, K)
            Codes.
        a_scales, w_scales : integer ndarray (rows, blocks), optional
            Scale codes of block jobs.
        records : Records, optional
            Of per-channel jobs.
        c : integer ndarray (M, N), optional
            Partial sums of jobs that accumulate; on a core with streams `send_c` may bring them later.
        """
        self._tag = (self._tag + 1) & 0xFFFF
        job = replace(job, tag=self._tag)
        values = job_registers(self.design, job)
        self._wait_for("queue_full", 0)
        place = range(0)
        if self.design.descriptors:
            addresses, place = self._store(job, a, w, a_scales, w_scales, records, c)
            values |= addresses
        else:
            self.transport.send("a", pack_a(self.design, job, a, a_scales))
            self.transport.send("w", pack_w(self.design, job, w, records, w_scales))
            if c is not None:
                self.send_c(job, c)
        control = self.registers["CTRL"]
        # All at once: over a line each access costs as much as a hundred of them.
        self.transport.write_many([*((self.registers[name].offset, value) for name, value in values.items()),
                                   (control.offset, control.pack(start=1))])
        if self.read("STATUS")["error"]:
            if not self._running:
                self.transport.flush()
            self.check_error()
        self._running.append(_Running(job, values, place))

    def send_c(self, job: Job, c: np.ndarray) -> None:
        """Partial sums of a job that was submitted without (cores with streams)."""
        self.transport.send("c", pack_c(self.design, job, c))

    def collect(self) -> np.ndarray:
        """Results of the oldest job that was not collected: (M, N), see `packing.unpack_results`."""
        if not self._running:
            raise BitkilnError("no job to collect", where="collect", expected="a job submitted before")
        job, values, _ = self._running[0]
        if self.design.descriptors:
            done = self._collect_from_memory(job, values)
        else:
            try:
                beats = self.transport.receive(beats_of(self.design, job).results)
            except BitkilnError:
                self.check_error()   # says more, where it is set
                raise
            done = unpack_results(self.design, job, beats)
        self._running.popleft()
        return done

    def run(self, job: Job, a: np.ndarray, w: np.ndarray, **options) -> np.ndarray:
        """`submit`, then `collect`."""
        self.submit(job, a, w, **options)
        return self.collect()

    def _wait_for(self, name: str, value: int) -> None:
        for _ in range(POLLS):
            status = self.read("STATUS")
            if status["error"]:
                self.check_error()
            if status[name] == value:
                return
            self.transport.wait()
        raise BitkilnError("the core does not go on", where=f"STATUS.{name}", got=status[name], expected=str(value),
                           exit_code=FAILED)

    # Memory (cores with a master) -------------------------------------------------------------------

    def _store(self, job: Job, a: np.ndarray, w: np.ndarray, a_scales: np.ndarray | None, w_scales: np.ndarray | None,
               records: Records | None, c: np.ndarray | None) -> tuple[dict[str, int], range]:
        """Operands to memory; values of the address registers, and the bytes that the job takes."""
        design, unit = self.design, self.design.bus_bits // 8
        # Refuses what the core would read past the end of, or from the addresses of an earlier job.
        parts = operand_rows(design, job, a, w, a_scales, w_scales, records, c)
        stride = -(-job.n * result_bits(design, job) // (8 * unit)) * unit
        sizes = {name: (rows.size, rows.shape[1]) for name, rows in parts.items()} | {"O": (job.m * stride, stride)}
        taken = {name: -(-size // ALIGN) * ALIGN for name, (size, _) in sizes.items()}
        place = self._room(sum(taken.values()))
        address, values = place.start, {}
        for name, (_, step) in sizes.items():
            values |= {f"{name}_ADDR": address & 0xFFFFFFFF, f"{name}_ADDR_HI": address >> 32, f"{name}_STRIDE": step}
            address += taken[name]
        for name, rows in parts.items():
            self.transport.memory_write(self._address(values, name), rows.reshape(-1))
        return {key: value for key, value in values.items() if key in self.registers}, place

    def _room(self, size: int) -> range:
        """Addresses that no job uses: behind the newest one's, or again from the start of the memory."""
        memory = self.transport.memory
        used = [job.place for job in self._running]
        if not used:
            gaps = [memory]
        elif used[-1].stop > used[0].start:
            gaps = [range(used[-1].stop, memory.stop), range(memory.start, used[0].start)]
        else:
            gaps = [range(used[-1].stop, used[0].start)]
        for gap in gaps:
            if size <= len(gap):
                return range(gap.start, gap.start + size)
        raise BitkilnError("memory too small", where="operands and results", got=len(memory),
                           expected=f"{size} bytes beside {sum(map(len, used))} of jobs not collected",
                           exit_code=FAILED)

    @staticmethod
    def _address(values: dict[str, int], name: str) -> int:
        return values[f"{name}_ADDR"] | values.get(f"{name}_ADDR_HI", 0) << 32

    def _collect_from_memory(self, job: Job, values: dict[str, int]) -> np.ndarray:
        for _ in range(POLLS):
            if self.read("STATUS")["error"]:
                self.check_error()
            # Jobs end in the order of their tags; the running one is the oldest.
            if (self.read("LAST_TAG")["value"] - job.tag) & 0xFFFF < 0x8000:
                break
            self.transport.wait()
        else:
            raise BitkilnError("the job does not end", where=f"job {job.tag}", exit_code=FAILED)
        stride = values["O_STRIDE"]
        data = self.transport.memory_read(self._address(values, "O"), job.m * stride).reshape(job.m, stride)
        bits = result_bits(self.design, job)
        out = unpack_rows(data, job.n, bits)
        return out.astype(np.uint64) if job.rule == "raw" and bits <= 64 else out

    # Products -------------------------------------------------------------------------------------

    def matmul(self, a, w, *, formats: str | None = None, scales: tuple | None = None, bias: np.ndarray | None = None,
               rule: str | None = None, output: str | None = None, output_scale: float = 1.0, zero_point: int = 0,
               relu: bool = False, clamp: tuple[float, float] | None = None, order: str = "auto",
               method: str = "auto") -> Product:
        """``a @ w.T`` in low precision.

        Parameters
        ----------
        a : ndarray (M, K) or Quantized or Blocks
            Real numbers are quantised (one scale), integers are codes.
        w : ndarray (N, K) or Quantized or Blocks
            Real numbers are quantised (one scale for each row), integers are codes.
        formats : str, optional
            A mode of the core (``int8``, ``int8xfp4``) or one of its block formats (``mxfp4``). The first mode by
            default.
        scales : (a_scale, w_scale), optional
            What the code 1 is worth: a number, and a number or N of them. Chosen by `rtn` for real numbers without,
            1 for codes without. None within the pair leaves that one open.
        bias : ndarray (N,), optional
            Real numbers, added to the product.
        rule : str, optional
            ``raw``, ``integer`` or ``float``; by default float where the core has it.
        output : str, optional
            Format of the results of rules integer and float; by default fp32, or the first that the core has.
        output_scale : float
            What the output code 1 is to be worth.
        zero_point : int
            Of integer outputs.
        relu : bool
            Results below 0 become 0.
        clamp : (low, high), optional
            Real bounds of the results.
        order : str
            ``a``, ``w``, or ``auto``: the one that streams fewer beats.
        method : str
            How `rtn` chooses scales.

        Returns
        -------
        Product

        Notes
        -----
        K beyond what one job holds is split over jobs that hand on exact sums (float32 ones where the core sums in
        float32 or the operands have block scales).
        """
        design = self.design
        block = formats if formats in design.block else None
        mode = design.pe.modes[0] if formats is None else design.pe.modes[design.pe.index(
            get_group_format(block).element.name if block else formats, "formats")]
        a_scale, w_scale = scales if scales is not None else (None, None)
        left = _operand(a, mode.activation, a_scale, block, "a", method, None)
        right = _operand(w, mode.weight, w_scale, block, "w", method, 0)
        if left.codes.shape[1] != right.codes.shape[1]:
            raise BitkilnError("K differs", where="a and w", got=(left.codes.shape, right.codes.shape),
                               expected="(M, K) and (N, K)")
        n = len(right.codes)
        template, records, scale = self._epilogue(mode, block, left.codes.shape[1], n, left.scale, right.scale, bias,
                                                  rule, output, output_scale, zero_point, relu, clamp)
        self.clear_counters()
        self.write("IRQ", 0xF)
        jobs: list[Job] = []
        rows, columns = (MAX_SHAPE // size * size for size in (design.rows, design.columns))
        codes = np.concatenate([np.concatenate([
            self._chain(mode, template, records, left, right, slice(i, i + rows), slice(j, j + columns), order, jobs)
            for j in range(0, n, columns)], axis=1) for i in range(0, len(left.codes), rows)])
        irq = self.read("IRQ")
        values = self._values(template, codes) * scale
        return Product(codes, values, scale, tuple(jobs), self.counters(), bool(irq["invalid"]), bool(irq["overflow"]))

    def _chain(self, mode: Mode, template: Job, records: Records | None, left: _Operand, right: _Operand, rows: slice,
               columns: slice, order: str, jobs: list[Job]) -> np.ndarray:
        """One block of the result: as many jobs as K needs, each loading while the one before computes."""
        design, k = self.design, left.codes.shape[1]
        group = get_group_format(template.block).block_size if template.block else 1
        largest_k, unit = design.max_k(mode), max(group, mode.lanes)
        step = k if k <= largest_k else largest_k // unit * unit   # parts end at a word, and at a block
        if k > step and not (design.accumulate and "raw" in design.rules and step):
            raise BitkilnError("K too large for this core", where="a and w", got=k, expected=f"at most {largest_k}",
                               help="longer sums need a core with accumulate and rule raw")
        if k > step and not (design.floating or template.block):
            largest = k * mode.dot().max_product
            if largest >> (design.raw_bits - 1):
                raise BitkilnError("K too large for raw sums", where="a and w", got=k,
                                   expected=f"sums below 2**{design.raw_bits - 1} units")
        part = None if records is None else records.columns(columns.start, columns.stop)
        for start in range(0, k, step):
            stop = min(start + step, k)
            a_codes, a_scales = left.part(rows, slice(start, stop), group)
            w_codes, w_scales = right.part(columns, slice(start, stop), group)
            shape = {"m": len(a_codes), "k": stop - start, "n": len(w_codes), "accumulate": start > 0}
            last = stop == k
            job = replace(template, **shape) if last else Job(mode.name, rule="raw", block=template.block, **shape)
            job = replace(job, order=best_order(design, job) if order == "auto" else order)
            options = {"a_scales": a_scales, "w_scales": w_scales, "records": part if last else None}
            if start and design.descriptors:
                options["c"] = self.collect()
            self.submit(job, a_codes, w_codes, **options)
            if start and not design.descriptors:
                self.send_c(job, self.collect())
            jobs.append(job)
        return self.collect()

    def _epilogue(self, mode: Mode, block: str | None, k: int, n: int, a_scale: np.ndarray, w_scale: np.ndarray,
                  bias: np.ndarray | None, rule: str | None, output: str | None, output_scale: float, zero_point: int,
                  relu: bool, clamp: tuple[float, float] | None) -> tuple[Job, Records | None, np.ndarray]:
        """The job without its shape, its records, and the scale of the results."""
        design = self.design
        floating = design.floating or block is not None
        rule = rule or ("float" if "float" in design.rules else design.rules[0])
        unit = np.asarray(a_scale * w_scale, np.float64)          # what 1 in a sum's own value is worth
        exponent = mode.dot().product_exponent
        options: dict = {"rule": rule, "block": block}
        scale, shift, codes = 0, 0, 0
        if rule == "raw":
            if relu or clamp is not None or output not in (None, "fp32" if floating else None) or output_scale != 1:
                raise BitkilnError("raw results are the sums themselves", where="rule", got="raw",
                                   expected="no relu, clamp, output or output_scale", help="use rule float")
            result_scale = unit
        else:
            output = output or ("fp32" if rule == "float" and "fp32" in design.outputs else design.outputs[0])
            fmt = get_format(output, where="output")
            if output_scale <= 0 or not np.isfinite(output_scale):
                raise BitkilnError("out of range", where="output_scale", got=output_scale, expected="above 0")
            low, high = clamp if clamp is not None else (-np.inf, np.inf)
            low, high = (max(low, 0.0), max(high, 0.0)) if relu else (low, high)
            bounded = relu or clamp is not None
            options |= {"output": fmt.name, "zero_point": zero_point}
            ratio = np.broadcast_to(unit / output_scale, (n,) if unit.ndim else ())
            if rule == "integer":
                multiplier, shift = fixed_multiplier(np.ldexp(ratio, exponent))
                if bounded:
                    limits = (np.rint(bound / output_scale) + zero_point for bound in (low, high))
                    options["clamp"] = tuple(int(np.clip(bound, -(1 << 31), (1 << 31) - 1)) for bound in limits)
                options |= {} if ratio.ndim else {"scale": int(multiplier), "shift": int(shift)}
                scale, shift = np.broadcast_to(multiplier, n), np.broadcast_to(shift, n)
            else:
                single = ratio.astype(np.float32)
                if bounded:
                    options["clamp"] = tuple(float(np.float32(bound / output_scale)) for bound in (low, high))
                options |= {} if ratio.ndim else {"scale": float(single)}
                scale = np.broadcast_to(single, n)
            result_scale = np.asarray(output_scale, np.float64)
            options["per_channel"] = bool(ratio.ndim)
        if bias is not None:
            if np.shape(bias) != (n,):
                raise BitkilnError("wrong shape", where="bias", got=np.shape(bias), expected=f"({n},)")
            wanted = np.asarray(bias, np.float64) / unit
            if floating:
                codes = wanted.astype(np.float32)
            else:
                units = np.ldexp(wanted, -exponent)
                top = float(np.abs(units).max())
                steps = next((s for s in range(16) if top / 256.0 ** s < 2.0 ** 31 - 1), None)
                # int32 sums wrap or saturate by themselves, with a flag; exact ones must hold the bias too.
                sums = k * mode.dot().max_product if design.pe.accumulator.kind == "exact" else 0
                if steps is None or top + sums >= 2.0 ** (design.raw_bits - 1):
                    raise BitkilnError("out of range", where="bias", got=float(np.abs(bias).max()),
                                       expected=f"below 2**{design.raw_bits - 1} units together with the sums")
                codes = np.rint(units / 256.0 ** steps).astype(np.int64)
                options["bias_shift"] = steps
            options |= {"bias": True, "per_channel": True}
        job = Job(mode.name, 1, 1, 1, **options).check(design)
        records = Records.of(n, codes, scale, shift) if job.per_channel else None
        return job, records, result_scale

    def _values(self, job: Job, codes: np.ndarray) -> np.ndarray:
        """Real values of codes before the scale."""
        if job.rule == "raw":
            return raw_values(self.design, job, codes)
        fmt = get_format(job.output)
        return fmt.decode(codes) - (job.zero_point if fmt.family == "int" else 0)


def _operand(given, fmt: Format, scale, block: str | None, name: str, method: str, axis: int | None) -> _Operand:
    """Codes and scales of an operand in any of the forms that `Core.matmul` takes."""
    if isinstance(given, Quantized):
        if given.format.name != fmt.name or given.group is not None:
            raise BitkilnError("quantised for something else", where=name, got=given.format.name, expected=fmt.name)
        worth = given.scale if scale is None else scale
        return _Operand(_codes(given.codes, fmt, name), _worth(worth, len(given.codes), axis, name))
    if block is not None:
        group = get_group_format(block)
        if not isinstance(given, Blocks):
            matrix = _real(given, name)
            k = matrix.shape[1]
            given = group.encode(matrix, pad=True)
            given = given._replace(codes=given.codes[:, :k])   # the core masks what is beyond K
        worth = (1.0 if given.tensor_scale is None else float(given.tensor_scale)) * (1.0 if scale is None else scale)
        return _Operand(_codes(given.codes, group.element, name), _worth(worth, len(given.codes), axis, name),
                        np.asarray(given.scale_codes))
    array = np.asarray(given)
    if array.dtype.kind in "iu":
        return _Operand(_codes(array, fmt, name), _worth(1.0 if scale is None else scale, len(array), axis, name))
    matrix = _real(given, name)
    if scale is None:
        quantized = rtn(matrix, fmt, axis=axis, method=method, name=name)
        return _Operand(quantized.codes, _worth(quantized.scale, len(matrix), axis, name))
    worth = _worth(scale, len(matrix), axis, name)
    return _Operand(fmt.encode(matrix / (worth[:, None] if worth.ndim else worth)), worth)


def _real(given, name: str) -> np.ndarray:
    matrix = np.asarray(given)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or matrix.size == 0:
        raise BitkilnError("not a matrix", where=name, got=f"{matrix.dtype} {matrix.shape}",
                           expected="two dimensions of real numbers or codes")
    return matrix


def _codes(codes: np.ndarray, fmt: Format, name: str) -> np.ndarray:
    codes = _real(codes, name)
    low = -(1 << (fmt.bits - 1)) if fmt.family == "int" and fmt.signed else 0
    if codes.dtype.kind not in "iu" or int(codes.min()) < low or int(codes.max()) >> fmt.bits > 0:
        raise BitkilnError("not codes", where=name, got=f"{codes.min()} to {codes.max()} ({codes.dtype})",
                           expected=f"integers {low} to {(1 << fmt.bits) - 1} of {fmt.name}")
    return codes & ((1 << fmt.bits) - 1)


def _worth(scale, rows: int, axis: int | None, name: str) -> np.ndarray:
    """Scale as () or (rows,)."""
    scale = np.asarray(scale, np.float64)
    scale = scale.reshape(-1) if scale.ndim else scale
    if scale.size == 1:
        scale = scale.reshape(())
    if scale.ndim and (axis is None or len(scale) != rows):
        raise BitkilnError("wrong number of scales", where=f"scale of {name}", got=scale.size,
                           expected="1" if axis is None else f"1 or {rows}")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise BitkilnError("out of range", where=f"scale of {name}", got=float(np.min(scale)), expected="above 0")
    return scale
