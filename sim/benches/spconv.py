"""cocotb bench of the sparse-convolution core: networks over AXI under random stalls, errors, resets on the way.

Parameters: ``design``, ``seed``, ``voxels`` (of a cloud, default 60).
"""

from __future__ import annotations

from dataclasses import replace

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles

from bitkiln.host.spconv import (
    Program,
    Step,
    answer_beats,
    beat_bytes,
    compile_network,
    feature_beats,
    unpack_features,
)
from bitkiln.models.design.spconv_core import NO_VOXEL, SpConvDesign, SpConvJob
from bitkiln.models.design.spconv_registers import SPCONV_ERRORS, spconv_job_registers, spconv_registers
from bitkiln.models.golden.spconv import decode_keys
from bitkiln.sim.spconv_check import small_network

from .axi_bench import AxiBench

PATIENCE = 60_000
STALLS = (0.0, 0.1, 0.5)


class Bench(AxiBench):
    """The far side of every channel of a core: a processor, and a memory that answers requests for weights."""

    design: SpConvDesign
    patience, stalls = PATIENCE, STALLS

    def __init__(self, dut):
        super().__init__(dut, spconv_registers)
        self.voxels = int(self.given.get("voxels", 60))
        self.add_streams(("v", "f", "w"), ("m_axis", "m_axis_q"))
        self.sink, self.asked = self.sinks
        self.layers: dict[int, Step] = {}
        cocotb.start_soon(self._memory())

    async def _memory(self) -> None:
        """Answers every request: {k, pass, tag}."""
        while True:
            frame = await self.asked.recv()
            for at in range(0, len(frame.tdata), 4):
                k, part, low, high = frame.tdata[at:at + 4]
                layer = self.layers[low | high << 8].layer
                beats = answer_beats(self.design, layer, k, part)
                self.sources["w"].send_nowait(beat_bytes(beats, self.design.weight_bits))

    async def start(self, job: SpConvJob) -> None:
        """Push a job when there is room."""
        for _ in range(PATIENCE):
            if not (await self.read("STATUS"))["queue_full"]:
                break
        for name, value in spconv_job_registers(self.design, job).items():
            await self.write(name, value)
        await self.write("CTRL", start=1)

    def send_voxels(self, indices: np.ndarray) -> None:
        words = np.asarray(indices, np.int64) if len(indices) else np.array([[NO_VOXEL, 0, 0, 0]])
        self.sources["v"].send_nowait((words & 0xFFFFFFFF).astype("<u4").tobytes())

    def send_features(self, features: np.ndarray) -> None:
        self.sources["f"].send_nowait(beat_bytes(feature_beats(self.design, features), self.design.feature_bits))

    async def run(self, program: Program) -> int:
        """All jobs of a network; features compared."""
        self.layers = {step.job.tag: step for step in program.steps if step.layer is not None}
        for step in program.steps:
            if step.job.kind == "load":
                self.send_voxels(decode_keys(step.keys, step.depth))
                if step.job.in_groups:
                    self.send_features(step.features)
            await self.start(step.job)
        checked = 0
        for step in program.steps:
            if step.job.kind == "store":
                frame = await self.within(self.sink.recv(compact=False), "results", 40 * PATIENCE)
                wanted = program.expected[step.tensor]
                raw = np.frombuffer(bytes(frame.tdata), np.uint8).reshape(-1, self.design.feature_bits // 8)
                found = unpack_features(self.design, raw[:step.job.rows * step.job.in_groups], wanted.shape[1])
                assert (found == wanted).all(), f"{step.tensor}: {(found != wanted).sum()} of {wanted.size} differ"
                checked += wanted.size
        return checked


def _program(bench: Bench, kind: str, seed: int) -> Program:
    return compile_network(bench.design, small_network(bench.design, kind, bench.voxels, seed))


@cocotb.test()
async def networks(dut) -> None:
    """Networks back to back under random stalls on every channel; counters and tree sizes."""
    bench = await Bench.begin(dut)
    kinds = ["encoder-decoder", "dilating encoder"][:bench.design.trees]
    checked = 0
    for at, kind in enumerate(kinds):
        bench.stall()
        program = _program(bench, kind, bench.seed + at)
        checked += await bench.run(program)
        await bench.write("COUNT_SELECT", level=0, tree=0)
        assert (await bench.read("COUNT"))["value"] == len(program.steps[0].keys) or kind != kinds[0]
    assert not (await bench.read("STATUS"))["error"]
    assert (await bench.read("JOBS_DONE"))["value"] > 0
    await bench.write("CTRL", clear_counters=1)
    for name in ("CYCLES", "PAIRS", "ISSUED", "PINNED", "VOXELS"):
        assert (await bench.read(name))["value"] == 0, name
    bench.report(checked)


def _refused(program: Program, design: SpConvDesign, what: str) -> tuple[SpConvJob, np.ndarray]:
    """A load that the core must refuse, and its voxels."""
    load = program.steps[0]
    indices = decode_keys(load.keys, load.depth)
    if what == "unsorted":
        return load.job, indices[::-1]
    if what == "overflow":
        return load.job, decode_keys(np.arange(design.map.capacity + 3), load.depth)
    return replace(load.job, strict=True), np.repeat(indices, 2, axis=0)[:-1]


@cocotb.test()
async def errors(dut) -> None:
    """Clouds that are refused raise ERROR; what follows gives nothing until it is cleared; then all works again."""
    bench = await Bench.begin(dut)
    bench.stall(0.2)
    design, program = bench.design, _program(bench, "encoder-decoder", bench.seed)
    rest = program.steps[1:]
    await bench.write("IRQ_ENABLE", error=1)
    checked = 0
    for tag, what in enumerate(("unsorted", "overflow", "rejected"), 77):
        job, wrong = _refused(program, design, what)
        bench.send_voxels(wrong)
        bench.send_features(np.zeros((len(wrong), job.in_groups * design.gather.lanes), np.int64))
        await bench.start(replace(job, tag=tag))
        for step in rest:
            await bench.start(step.job)
        for _ in range(PATIENCE):
            if not (await bench.read("STATUS"))["busy"]:
                break
        status, error = await bench.read("STATUS"), await bench.read("ERROR")
        assert status["error"] and error == {"code": SPCONV_ERRORS[what], "tag": tag}, (what, status, error)
        assert int(dut.irq.value) == 1
        assert bench.sink.empty() and bench.asked.empty()
        await bench.write("ERROR", 0)
        await bench.write("IRQ", 7)
        await ClockCycles(dut.aclk, 2)
        assert int(dut.irq.value) == 0
        checked += await bench.run(program)
    # More jobs than there is room for.
    store = program.steps[-1].job
    bench.sink.clear_pause_generator()
    bench.sink.pause = True
    for _ in range(4 * design.queue):
        for name, value in spconv_job_registers(design, store).items():
            await bench.write(name, value)
        if (await bench.read("STATUS"))["queue_full"]:
            break
        await bench.write("CTRL", start=1)
    else:
        raise AssertionError("the queue never filled")
    await bench.write("CTRL", start=1)
    assert (await bench.read("ERROR"))["code"] == SPCONV_ERRORS["queue_full"]
    bench.report(checked)


@cocotb.test()
async def resets(dut) -> None:
    """A reset at any time, then a whole network."""
    bench = await Bench.begin(dut)
    checked = 0
    for at in range(2):
        bench.stall(0.3)
        program = _program(bench, "encoder-decoder", bench.seed + at)
        task = cocotb.start_soon(bench.run(program))
        await ClockCycles(dut.aclk, bench.random.randrange(500, 4000))
        task.cancel()
        await bench.reset()
        bench.stall(0.1)
        checked += await bench.run(program)
    bench.report(checked)
