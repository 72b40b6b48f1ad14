"""cocotb bench of the matmul core with AXI4-Stream: random jobs under random stalls, resets and aborts on the way.

Parameters: ``design``, ``seed``, ``jobs`` (default 12; the variable ``BITKILN_JOBS`` wins), ``size`` (largest M, K, N).
"""

from __future__ import annotations

import os

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, RisingEdge

from bitkiln.host.packing import beats_of
from bitkiln.models.design import Job, MatmulDesign
from bitkiln.models.design.registers import ERRORS, core_registers, job_registers
from bitkiln.sim.core_run import SIZES, JobCase, compare_beats, random_job

from .axi_bench import AxiBench, AxiResp

DEFAULT_JOBS = 12
PATIENCE = 20_000          # cycles without a word from the core
STALLS = (0.0, 0.1, 0.5, 0.9)


class Bench(AxiBench):
    """The far side of every channel of a matmul core."""

    design: MatmulDesign
    patience, stalls = PATIENCE, STALLS

    def __init__(self, dut):
        super().__init__(dut, core_registers)
        self.jobs = int(os.environ.get("BITKILN_JOBS") or self.given.get("jobs", DEFAULT_JOBS))
        self.size = int(self.given.get("size", SIZES))
        self.rng = np.random.default_rng(self.seed)
        self.promised = 0   # cycles in which the jobs under way must be done
        self.connect()

    def connect(self) -> None:
        """Streams of operands and results."""
        self.add_streams(("a", "w", "c")[:3 if self.design.accumulate else 2], ["m_axis"])
        [self.sink] = self.sinks

    # Jobs -----------------------------------------------------------------------------------------

    async def reset(self, cycles: int = 3) -> None:
        await super().reset(cycles)
        self.forget()

    def forget(self) -> None:
        """Drop what the streams still hold, and packets that were cut off."""
        self.promised = 0
        for stream in (*self.sources.values(), *self.sinks):
            stream.clear()
            stream.assert_reset()

    def random_job(self, **fixed) -> JobCase:
        return random_job(self.design, self.rng, size=self.size, **fixed)

    def offer(self, case: JobCase) -> None:
        """Beats of a job to the streams."""
        for name, beats in case.beats(self.design).items():
            self.sources[name].send_nowait(beats.tobytes())

    async def configure(self, job: Job, **changes: int) -> None:
        for name, value in {**job_registers(self.design, job), **changes}.items():
            await self.write(name, value)

    async def start(self, case: JobCase, offered: bool = False) -> None:
        """Start a job as soon as there is room for it; its operands come before or after."""
        before = offered or self.random.random() < 0.5
        if before and not offered:
            self.offer(case)
        # At worst the jobs before are all still to be done.
        await self.room(PATIENCE + self.promised)
        self.promised += self.longest(case)
        await self.configure(case.job)
        await self.write("CTRL", start=1)
        if not before:
            self.offer(case)

    async def room(self, cycles: int) -> None:
        """Until a job can start: on a small array the one before may take long."""
        since = self.cycles
        while True:
            status = await self.read("STATUS")
            assert not status["error"], f"ERROR is {await self.read('ERROR')}"
            if not status["queue_full"]:
                return
            assert self.cycles - since < cycles, f"no room in {cycles} cycles: {status}"

    def longest(self, case: JobCase) -> int:
        """Cycles in which a job must be done, whatever the stalls."""
        beats = beats_of(self.design, case.job)
        return PATIENCE + 60 * (beats.streamed + beats.c + beats.results)

    async def finish(self, case: JobCase) -> int:
        """Results of the oldest job, compared; their beats."""
        beats, keep, last = case.results(self.design)
        longest = self.longest(case)
        frame = await self.within(self.sink.recv(compact=False), f"results of {case.job}", longest)
        self.promised -= longest
        unit = self.design.bus_bits // 8
        data = np.frombuffer(bytes(frame.tdata), np.uint8).reshape(-1, unit)
        kept = np.array(frame.tkeep, np.uint64).reshape(-1, unit) << np.arange(unit, dtype=np.uint64)
        ends = np.zeros(len(data), bool)
        ends[-1] = True   # a frame ends at tlast
        compare_beats(case, (data, kept.sum(axis=1, dtype=np.uint64), ends), (beats, keep, last))
        return len(beats)

    async def run(self, cases: list[JobCase], offered: bool = False) -> int:
        """Jobs one after the other as fast as the queue takes them; beats compared. ``offered``: the streams have the
        first one's operands already."""
        async def feed():
            for number, case in enumerate(cases):
                await self.start(case, offered and not number)

        feeder = cocotb.start_soon(feed())
        checked = 0
        for case in cases:
            checked += await self.finish(case)
        await self.within(_join(feeder), "starting jobs")
        return checked

    async def idle(self) -> None:
        for _ in range(PATIENCE):
            status = await self.read("STATUS")
            if not status["busy"] and not status["aborting"]:
                return
        raise AssertionError(f"still busy: {status}")

    async def no_more(self, cycles: int = 200) -> None:
        """Nothing comes that nobody asked for."""
        await ClockCycles(self.dut.aclk, cycles)
        assert self.sink.empty() and self.sink.idle(), "a beat too many"

    async def check_counters(self, cases: list[JobCase]) -> None:
        """The counters of these jobs, where the build has any: all useful products, no cycle counted twice."""
        if not self.design.counters:
            return
        macs = sum(case.job.m * case.job.k * case.job.n for case in cases)
        assert (await self.read("MACS"))["value"] == macs & 0xFFFFFFFF
        parts = [(await self.read(name))["value"] for name in ("COMPUTE", "STALL_A", "STALL_W", "STALL_DRAIN")]
        cycles = (await self.read("CYCLES"))["value"]
        assert sum(parts) <= cycles, f"{parts} of {cycles} cycles"


async def _join(task):
    return await task


@cocotb.test()
async def random_jobs(dut) -> None:
    """Batches of random jobs back to back, with other stalls in each batch."""
    bench = await Bench.begin(dut)
    checked, done, left = 0, 0, bench.jobs
    while left:
        bench.stall()
        batch = [bench.random_job() for _ in range(min(left, bench.random.randint(1, 6)))]
        left -= len(batch)
        await bench.write("CTRL", clear_counters=1)
        await bench.write("IRQ", 0xF)
        checked += await bench.run(batch)
        await bench.idle()
        done += len(batch)
        irq = await bench.read("IRQ")
        wanted = {"done": 1, "error": 0, "invalid": int(any(case.invalid for case in batch)),
                  "overflow": int(any(case.overflow for case in batch))}
        assert irq == wanted, f"IRQ {irq}, expected {wanted}"
        assert (await bench.read("JOBS_DONE"))["value"] == done
        assert (await bench.read("LAST_TAG"))["value"] == batch[-1].job.tag
        await bench.check_counters(batch)
    bench.stall(0)
    await bench.no_more()
    bench.report(checked)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset at any time forgets everything; the next job is whole."""
    bench = await Bench.begin(dut)
    checked = 0
    for _ in range(max(3, bench.jobs // 4)):
        bench.stall()
        lost, case = (bench.random_job() for _ in range(2))
        feeder = cocotb.start_soon(bench.start(lost))
        await ClockCycles(dut.aclk, bench.random.randint(1, 1500))
        feeder.cancel()
        await bench.reset(bench.random.randint(1, 4))
        if early := bench.random.random() < 0.5:
            bench.offer(case)         # in the first cycle after the reset
        assert (await bench.read("JOBS_DONE"))["value"] == 0
        assert not (await bench.read("STATUS"))["busy"]
        checked += await bench.run([case], offered=early)
    bench.stall(0)
    await bench.no_more()
    bench.report(checked)


@cocotb.test()
async def abort_in_the_middle(dut) -> None:
    """An abort drops the running job and those that wait; the next job is whole."""
    bench = await Bench.begin(dut)
    checked = 0
    for _ in range(max(3, bench.jobs // 4)):
        bench.stall()
        cases = [bench.random_job() for _ in range(bench.random.randint(1, 1 + bench.design.queue))]
        for case in cases:
            await bench.configure(case.job)
            await bench.write("CTRL", start=1)
            bench.offer(case)
        await ClockCycles(dut.aclk, bench.random.randint(1, 1500))
        bench.forget()                # the sources stop first
        await bench.write("CTRL", abort=1)
        await bench.idle()
        bench.forget()                # beats that had left the core: none comes any more
        assert (await bench.read("STATUS"))["queued"] == 0
        bench.stall()
        checked += await bench.run([bench.random_job()])
    bench.stall(0)
    await bench.no_more()
    bench.report(checked)


def wrong_registers(design: MatmulDesign, job: Job) -> list[tuple[str, dict[str, int]]]:
    """Name of the error and changes of registers that turn a legal raw job into an illegal one."""
    registers = core_registers(design)
    plain = job_registers(design, job)
    mode, flags = registers["JOB_MODE"], registers["JOB_FLAGS"]
    wrong = [("mode", {"JOB_MODE": len(design.pe.modes)}), ("mode", {"JOB_MODE": 15})]
    wrong += [("shape", {f"JOB_{key}": 0}) for key in "MKN"]
    wrong += [("shape", {"JOB_K": design.max_k(job.mode) + 1}), ("rule", {"JOB_FLAGS": 3})]

    def flag(**fields: int) -> dict[str, int]:
        return {"JOB_FLAGS": flags.pack(**fields)}

    for number, rule in enumerate(("raw", "integer", "float")):
        if rule not in design.rules:
            wrong.append(("rule", flag(rule=number)))
    names = {f.name for f in mode.fields}
    if "output" in names and "float" in design.rules:
        wrong.append(("output", {"JOB_MODE": plain["JOB_MODE"] | len(design.outputs) << mode.field("output").low,
                                 **flag(rule=2)}))
    if "block" in names:
        wrong.append(("block", {"JOB_MODE": plain["JOB_MODE"] | (len(design.block) + 1) << mode.field("block").low}))
    if design.bias:
        wrong.append(("flags", flag(bias=1)))
    if "integer" in design.rules and "fp32" in design.outputs:
        output = design.outputs.index("fp32") << mode.field("output").low
        wrong.append(("rule", {"JOB_MODE": plain["JOB_MODE"] | output, **flag(rule=1)}))
    return wrong


@cocotb.test()
async def illegal_jobs(dut) -> None:
    """What the core cannot do sets ERROR and starts nothing."""
    bench = await Bench.begin(dut)
    design, dut = bench.design, bench.dut
    checked = 0
    good = Job(design.pe.modes[0].name, 2, 3, 2, tag=77)
    rule = design.rules[0]
    case = random_job(design, bench.rng, size=8, mode=good.mode, rule=rule)
    await bench.write("IRQ_ENABLE", error=1)
    if "raw" in design.rules:
        bench.stall(0.3)
        for name, changes in wrong_registers(design, good):
            await bench.configure(good, **changes)
            await bench.write("CTRL", start=1)
            status = await bench.read("STATUS")
            assert status["error"] and not status["busy"], f"{name}, {changes}: {status}"
            error = await bench.read("ERROR")
            assert error == {"code": ERRORS[name], "tag": 77}, f"{name}, {changes}: {error}"
            assert int(dut.irq.value) == 1
            # The first error stays.
            await bench.configure(good, JOB_M=0, JOB_TAG=78)
            await bench.write("CTRL", start=1)
            assert (await bench.read("ERROR")) == error
            await bench.write("ERROR", 0)
            assert (await bench.read("ERROR"))["code"] == 0 and not (await bench.read("STATUS"))["error"]
            assert (await bench.read("IRQ"))["error"] == 1
            await bench.write("IRQ", error=1)
            assert (await bench.read("IRQ"))["error"] == 0
            await ClockCycles(dut.aclk, 2)
            assert int(dut.irq.value) == 0
            checked += 1
    # More jobs than there is room for: one runs, `queue` wait.
    await bench.configure(case.job)
    for _ in range(design.queue + 1):
        await bench.write("CTRL", start=1)
    status = await bench.read("STATUS")
    assert status["queue_full"] and status["busy"] and status["queued"] == design.queue and not status["error"], status
    await bench.write("CTRL", start=1)
    assert (await bench.read("ERROR"))["code"] == ERRORS["queue_full"]
    await bench.write("ERROR", 0)
    await bench.write("IRQ", 0xF)
    for _ in range(design.queue + 1):
        bench.offer(case)
    for _ in range(design.queue + 1):
        checked += await bench.finish(case)
    await bench.idle()
    assert (await bench.read("JOBS_DONE"))["value"] == design.queue + 1
    await bench.no_more()
    bench.report(checked)


@cocotb.test()
async def registers(dut) -> None:
    """Constants, read-only and unmapped addresses, byte strobes, write-1-to-clear, and the interrupt line."""
    bench = await Bench.begin(dut)
    bench.stall(0.2)
    mapped, checked = {register.offset: register for register in bench.registers}, 0
    for offset in [*range(0, 0x180, 4), 0x400, 0xFFC]:
        register = mapped.get(offset)
        answer = await bench.within(bench.axil.read(offset, 4), f"reading {offset:#x}")
        value = int.from_bytes(answer.data, "little")
        if register is None:
            assert (value, answer.resp) == (0, AxiResp.SLVERR), f"{offset:#x}: {value:#x}, {answer.resp!r}"
        else:
            assert answer.resp == AxiResp.OKAY
            if register.constant is not None:
                assert value == register.constant, f"{register.name}: {value:#x}, expected {register.constant:#x}"
        if register is None or register.access == "ro":
            answer = await bench.within(bench.axil.write(offset, b"\xff" * 4), f"writing {offset:#x}")
            assert answer.resp == AxiResp.SLVERR, f"{offset:#x}"
            if register is not None and register.constant is not None:
                answer = await bench.within(bench.axil.read(offset, 4), f"reading {offset:#x}")
                assert int.from_bytes(answer.data, "little") == register.constant
        checked += 1
    for register in bench.registers:
        if register.access != "rw":
            continue
        mask = sum(f.mask for f in register.fields)
        value = bench.random.getrandbits(32)
        await bench.write(register.name, value)
        byte = bench.random.randrange(4)
        answer = await bench.within(bench.axil.write(register.offset + byte, b"\xa5"), "writing a byte")
        assert answer.resp == AxiResp.OKAY
        wanted = (value & ~(0xFF << 8 * byte) | 0xA5 << 8 * byte) & mask
        answer = await bench.within(bench.axil.read(register.offset, 4), "reading")
        found = int.from_bytes(answer.data, "little")
        assert found == wanted, f"{register.name}: {found:#x}, expected {wanted:#x}"
        checked += 1
    # The interrupt rises with the end of a job and falls with the flag.
    await bench.write("IRQ_ENABLE", done=1)
    case = bench.random_job()
    await bench.write("IRQ", 0xF)
    assert int(dut.irq.value) == 0
    rising = cocotb.start_soon(_join_edge(dut.irq))
    checked += await bench.run([case])
    await bench.within(_join(rising), "interrupt", 50)
    assert (await bench.read("IRQ"))["done"] == 1
    await bench.write("IRQ", done=1)
    await ClockCycles(dut.aclk, 2)
    assert int(dut.irq.value) == 0
    bench.report(checked)


async def _join_edge(signal) -> None:
    await RisingEdge(signal)
