"""cocotb bench of the matmul core with an AXI4 master: jobs by registers and by chains of descriptors, operands and
results in a memory that stalls at random.

Parameters as in `bitkiln.sim.benches.matmul_core`.
"""

from __future__ import annotations

import warnings

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from bitkiln.models.design.registers import DESCRIPTOR_BYTES, DESCRIPTOR_REGISTERS, ERRORS, descriptor
from bitkiln.sim.core_run import JobCase, Placement, place_job

from .matmul_core import PATIENCE, Bench, wrong_registers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cocotbext.axi import AxiBus, AxiRam

MEMORY_BYTES = 1 << 20
CHAIN = 5
JOB_CYCLES = 40 * PATIENCE   # in which a job must be done, whatever the stalls


class MemoryBench(Bench):
    """A core and its memory. Addresses from `MEMORY_BYTES` on answer with an error."""

    def connect(self) -> None:
        self.ram = AxiRam(AxiBus.from_prefix(self.dut, "m_axi"), **self.domain, size=MEMORY_BYTES)
        self.next = 0
        self.done = 0
        read, write = self.ram.read_if._read, self.ram.write_if._write

        async def checked_read(address: int, length: int) -> bytes:
            assert address + length <= MEMORY_BYTES, "outside the memory"   # becomes SLVERR
            return await read(address, length)

        async def checked_write(address: int, data: bytes) -> None:
            assert address + len(data) <= MEMORY_BYTES, "outside the memory"
            await write(address, data)

        self.ram.read_if._read, self.ram.write_if._write = checked_read, checked_write

    def channels(self) -> list:
        write, read = self.ram.write_if, self.ram.read_if
        return [*super().channels(), write.aw_channel, write.w_channel, write.b_channel, read.ar_channel,
                read.r_channel]

    def place(self, case: JobCase) -> Placement:
        """Into memory, beside the jobs that still run."""
        placed = place_job(self.design, case, self.next, self.rng)
        if placed.end > MEMORY_BYTES - DESCRIPTOR_BYTES * CHAIN:
            placed = place_job(self.design, case, 0, self.rng)
        self.next = placed.end
        for address, data in placed.pieces:
            self.ram.write(address, data.tobytes())
        return placed

    async def poke(self, address: int, value: int) -> None:
        await self.within(self.axil.write(address, value.to_bytes(4, "little")), f"writing {address:#x}")

    async def configure_placed(self, placed: Placement, **changes: int) -> None:
        for address, value in placed.writes(self.design):
            await self.poke(address, value)
        for name, value in changes.items():
            await self.write(name, value)

    async def start_placed(self, placed: Placement) -> None:
        """By registers, as soon as there is room."""
        await self.room(JOB_CYCLES)
        await self.configure_placed(placed)
        await self.write("CTRL", start=1)

    def write_chain(self, placed: list[Placement]) -> int:
        """Descriptors of some jobs; address of the first."""
        base = MEMORY_BYTES - DESCRIPTOR_BYTES * CHAIN
        places = [base + DESCRIPTOR_BYTES * int(n) for n in self.rng.permutation(CHAIN)[:len(placed)]]
        for job, at, following in zip(placed, places, [*places[1:], 0], strict=True):
            values = {name: value for name, value in job.registers.items() if name in DESCRIPTOR_REGISTERS}
            self.ram.write(at, descriptor(self.design, values, following))
        return places[0]

    async def until_done(self, jobs: int) -> None:
        """So many jobs have finished since reset."""
        before, since = -1, self.cycles
        while True:
            found = (await self.read("JOBS_DONE"))["value"]
            status = await self.read("STATUS")
            assert not status["error"], f"{await self.read('ERROR')} after {found} jobs"
            if found >= jobs:
                assert found == jobs, f"{found} jobs done, expected {jobs}"
                return
            if found != before:
                before, since = found, self.cycles
            assert self.cycles - since < JOB_CYCLES, f"{found} of {jobs} jobs done, {status}"
            await ClockCycles(self.dut.aclk, 50)

    def compare(self, case: JobCase, placed: Placement) -> int:
        """Results and what lies between them, byte by byte."""
        address, wanted = placed.results
        found = np.frombuffer(bytes(self.ram.read(address, len(wanted))), np.uint8)
        wrong = np.flatnonzero(found != wanted)
        place = f"results from {placed.registers['O_ADDR']:#x} on, stride {placed.registers['O_STRIDE']}"
        assert not len(wrong), (f"{len(wrong)} bytes differ, the first at {address + int(wrong[0]):#x}: "
                                f"{found[wrong[0]]:#04x}, expected {wanted[wrong[0]]:#04x}, {place}, {case.job}")
        return case.codes.size

    async def run_placed(self, cases: list[JobCase], chain: bool) -> int:
        """Jobs by registers or as a chain; elements compared."""
        before = (await self.read("JOBS_DONE"))["value"]
        placed = [self.place(case) for case in cases]
        if chain:
            await self.poke(self.registers["DESC_ADDR"].offset, self.write_chain(placed))
            await self.write("CTRL", fetch=1)
        else:
            for one in placed:
                await self.start_placed(one)
        await self.until_done(before + len(cases))
        return sum(self.compare(case, one) for case, one in zip(cases, placed, strict=True))


@cocotb.test()
async def random_jobs(dut) -> None:
    """Batches by registers and chains by descriptors, with other stalls in each."""
    bench = await MemoryBench.begin(dut)
    checked, left = 0, bench.jobs
    while left:
        bench.stall()
        batch = [bench.random_job() for _ in range(min(left, bench.random.randint(1, CHAIN)))]
        left -= len(batch)
        await bench.write("CTRL", clear_counters=1)
        await bench.write("IRQ", 0xF)
        checked += await bench.run_placed(batch, chain=bench.random.random() < 0.5)
        await bench.idle()
        irq = await bench.read("IRQ")
        assert irq == {"done": 1, "error": 0, "invalid": int(any(case.invalid for case in batch)),
                       "overflow": int(any(case.overflow for case in batch))}, irq
        assert (await bench.read("LAST_TAG"))["value"] == batch[-1].job.tag
        await bench.check_counters(batch)
    bench.report(checked)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset of core and memory at any time; the next job is whole."""
    bench = await MemoryBench.begin(dut)
    checked = 0
    for _ in range(max(3, bench.jobs // 4)):
        bench.stall()
        placed = bench.place(bench.random_job())
        await bench.start_placed(placed)
        await ClockCycles(dut.aclk, bench.random.randint(1, 1500))
        await bench.reset(bench.random.randint(1, 4))
        assert (await bench.read("JOBS_DONE"))["value"] == 0
        checked += await bench.run_placed([bench.random_job()], chain=bench.random.random() < 0.5)
    bench.report(checked)


@cocotb.test()
async def abort_in_the_middle(dut) -> None:
    """An abort ends jobs and chains; bursts under way end properly, and the next job is whole."""
    bench = await MemoryBench.begin(dut)
    checked = 0
    for _ in range(max(3, bench.jobs // 4)):
        bench.stall()
        placed = [bench.place(bench.random_job()) for _ in range(bench.random.randint(1, 1 + bench.design.queue))]
        if bench.random.random() < 0.5:
            await bench.poke(bench.registers["DESC_ADDR"].offset, bench.write_chain(placed))
            await bench.write("CTRL", fetch=1)
        else:
            for one in placed:
                await bench.start_placed(one)
        await ClockCycles(dut.aclk, bench.random.randint(1, 1500))
        await bench.write("CTRL", abort=1)
        await bench.idle()
        bench.stall()
        checked += await bench.run_placed([bench.random_job()], chain=bench.random.random() < 0.5)
    bench.report(checked)


@cocotb.test()
async def errors(dut) -> None:
    """Illegal jobs, addresses, descriptors and responses set ERROR; the next job is whole."""
    bench = await MemoryBench.begin(dut)
    design, beat = bench.design, bench.design.bus_bits // 8
    checked = 0

    async def refused(name: str, tag: int) -> None:
        for _ in range(PATIENCE):
            error = await bench.read("ERROR")
            if error["code"]:
                break
        assert error == {"code": ERRORS[name], "tag": tag}, f"{name}: {error}"
        await bench.idle()
        await bench.write("ERROR", 0)
        await bench.write("IRQ", 0xF)

    bench.stall(0.2)
    good = bench.random_job()
    placed = bench.place(good)
    tag = good.job.tag
    for name in ("A_ADDR", "A_STRIDE", "W_ADDR", "W_STRIDE"):
        await bench.configure_placed(placed, **{name: placed.registers[name] + beat // 2})
        await bench.write("CTRL", start=1)
        await refused("address", tag)
        assert not (await bench.read("STATUS"))["busy"]
        checked += 1
    if "raw" in design.rules:
        plain = bench.random_job(rule="raw", accumulate=False, per_channel=False, bias=False, block=None)
        raw = bench.place(plain)
        for name, changes in wrong_registers(design, plain.job)[:4]:
            await bench.configure_placed(raw, **changes)
            await bench.write("CTRL", start=1)
            await refused(name, plain.job.tag)
            checked += 1
    # A chain that is not aligned, and one whose second job is illegal: the first runs.
    await bench.write("DESC_ADDR", MEMORY_BYTES - DESCRIPTOR_BYTES + 4)
    await bench.write("CTRL", fetch=1)
    for _ in range(PATIENCE):
        error = await bench.read("ERROR")
        if error["code"]:
            break
    assert error["code"] == ERRORS["descriptor"], error
    await bench.write("ERROR", 0)
    first, second = bench.random_job(), bench.random_job()
    places = [bench.place(first), bench.place(second)]
    places[1].registers["JOB_M"] = 0
    before = (await bench.read("JOBS_DONE"))["value"]
    await bench.poke(bench.registers["DESC_ADDR"].offset, bench.write_chain(places))
    await bench.write("CTRL", fetch=1)
    for _ in range(PATIENCE):
        if (await bench.read("ERROR"))["code"]:
            break
    assert (await bench.read("ERROR")) == {"code": ERRORS["shape"], "tag": second.job.tag}
    await bench.idle()
    await bench.write("ERROR", 0)
    await bench.until_done(before + 1)
    checked += bench.compare(first, places[0])
    # The memory answers with an error.
    for name in ("A_ADDR", "W_ADDR"):
        await bench.configure_placed(placed, **{name: MEMORY_BYTES + 64 * beat})
        await bench.write("CTRL", start=1)
        for _ in range(PATIENCE):
            error = await bench.read("ERROR")
            if error["code"]:
                break
        assert error["code"] == ERRORS["bus"], error
        await bench.write("CTRL", abort=1)
        await bench.idle()
        await bench.write("ERROR", 0)
        checked += await bench.run_placed([bench.random_job()], chain=False)
    bench.report(checked)


@cocotb.test()
async def interrupt(dut) -> None:
    """The interrupt of a finished job means that its results are in memory."""
    bench = await MemoryBench.begin(dut)
    checked = 0
    await bench.write("IRQ_ENABLE", done=1)
    for _ in range(3):
        bench.stall()
        await bench.write("IRQ", 0xF)
        case = bench.random_job()
        placed = bench.place(case)
        await bench.start_placed(placed)
        if not int(dut.irq.value):
            await bench.within(_rise(dut.irq), "interrupt", JOB_CYCLES)
        checked += bench.compare(case, placed)
        await bench.idle()
    bench.report(checked)


async def _rise(signal) -> None:
    await RisingEdge(signal)
