"""What the cocotb benches of whole cores have in common: a processor on AXI4-Lite, streams, stalls, resets."""

from __future__ import annotations

import itertools
import logging
import random
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Self

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First
from cocotb.utils import get_sim_time

from bitkiln.models.design.registers import RegisterMap
from bitkiln.sim.bench_report import parameters, report

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamSink, AxiStreamSource
    from cocotbext.axi.constants import AxiResp

__all__ = ["PERIOD", "AxiBench", "AxiResp"]

PERIOD = 2                 # simulator steps of a clock cycle


class AxiBench:
    """The far side of every channel of a core, and its register map.

    Parameters
    ----------
    dut
        With ``aclk``, ``aresetn``, ``s_axil_*``, and streams ``s_axis_*``, ``m_axis_*``.
    registers : callable
        The register map of a design.

    Attributes
    ----------
    given : dict
        Parameters of the bench; ``design`` and ``seed`` are attributes too.
    patience : int
        Cycles without a word from the core.
    stalls : tuple of float
        Probabilities of a pause.
    """

    patience: int
    stalls: tuple[float, ...]

    def __init__(self, dut, registers: Callable[[Any], RegisterMap]):
        warnings.simplefilter("ignore")   # cocotbext-axi uses names that cocotb 2 calls old
        self.dut, self.given = dut, parameters()
        self.design = self.given["design"]
        self.seed = int(self.given["seed"]) if self.given.get("seed") is not None else random.getrandbits(32)
        self.random = random.Random(self.seed)
        self.registers = registers(self.design)
        self.started, self.begun = time.process_time(), get_sim_time("step")
        dut._log.info("seed %d", self.seed)
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)
        dut.aresetn.value = 0
        Clock(dut.aclk, PERIOD, unit="step").start()
        self.domain = {"clock": dut.aclk, "reset": dut.aresetn, "reset_active_level": False}
        self.axil = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), **self.domain)
        self.sources: dict[str, AxiStreamSource] = {}
        self.sinks: list[AxiStreamSink] = []

    @classmethod
    async def begin(cls, dut) -> Self:
        """A bench and a core after reset."""
        bench = cls(dut)
        await bench.reset()
        return bench

    def add_streams(self, sources: Iterable[str], sinks: Iterable[str]) -> None:
        """Sources of the streams ``s_axis_<name>``, sinks of those with these prefixes."""
        for name in sources:
            self.sources[name] = AxiStreamSource(AxiStreamBus.from_prefix(self.dut, f"s_axis_{name}"), **self.domain)
        self.sinks += [AxiStreamSink(AxiStreamBus.from_prefix(self.dut, prefix), **self.domain) for prefix in sinks]

    # Stalls and resets ----------------------------------------------------------------------------

    def channels(self) -> list:
        """Everything that can be paused."""
        write, read = self.axil.write_if, self.axil.read_if
        return [write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel,
                *self.sources.values(), *self.sinks]

    def stall(self, chance: float | None = None) -> None:
        """Random pauses on every channel, by default each with a probability of its own."""
        for channel in self.channels():
            share = self.random.choice(self.stalls) if chance is None else chance
            if share == 0:
                channel.clear_pause_generator()
                channel.pause = False
            else:
                channel.set_pause_generator(self.pauses(share))

    def pauses(self, chance: float) -> Iterator[bool]:
        draw = random.Random(self.random.getrandbits(32)).random
        return (draw() < chance for _ in itertools.count())

    async def reset(self, cycles: int = 3) -> None:
        self.dut.aresetn.value = 0
        for stream in (*self.sources.values(), *self.sinks):
            stream.clear()
        await ClockCycles(self.dut.aclk, cycles)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 1)

    # Registers ------------------------------------------------------------------------------------

    async def read(self, name: str) -> dict[str, int]:
        register = self.registers[name]
        answer = await self.within(self.axil.read(register.offset, 4), f"reading {name}")
        assert answer.resp == AxiResp.OKAY, f"{name}: {answer.resp!r}"
        return register.unpack(int.from_bytes(answer.data, "little"))

    async def write(self, name: str, value: int | None = None, **fields: int) -> None:
        register = self.registers[name]
        value = register.pack(**fields) if value is None else value
        answer = await self.within(self.axil.write(register.offset, value.to_bytes(4, "little")), f"writing {name}")
        assert answer.resp == AxiResp.OKAY, f"{name}: {answer.resp!r}"

    async def within(self, awaitable: Awaitable, what: str, cycles: int | None = None):
        """The awaitable's result; fails where it does not come in time."""
        cycles = self.patience if cycles is None else cycles
        task = cocotb.start_soon(awaitable)
        first = await First(task, ClockCycles(self.dut.aclk, cycles))
        assert task.done(), f"{what}: nothing in {cycles} cycles"
        return first

    # Results --------------------------------------------------------------------------------------

    @property
    def cycles(self) -> int:
        return int(get_sim_time("step") - self.begun) // PERIOD

    def report(self, vectors: int) -> None:
        report(vectors=vectors, cycles=self.cycles, seed=self.seed, cpu_seconds=time.process_time() - self.started)
