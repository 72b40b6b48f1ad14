"""cocotb bench of a register file on AXI4-Lite: cycle by cycle against the description, random stalls, resets.

The ports of the hardware's side are driven and read by the bench; the bus by cocotbext-axi.
"""

from __future__ import annotations

import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi.axil_channels import (
    AxiLiteARBus,
    AxiLiteARSource,
    AxiLiteARTransaction,
    AxiLiteAWBus,
    AxiLiteAWSource,
    AxiLiteAWTransaction,
    AxiLiteBBus,
    AxiLiteBSink,
    AxiLiteRBus,
    AxiLiteRSink,
    AxiLiteWBus,
    AxiLiteWSource,
    AxiLiteWTransaction,
)

from bitkiln.models.design.registers import RegisterMap
from bitkiln.sim.bench_report import parameters, report

OKAY, SLVERR = 0, 2
TIMEOUT_CYCLES = 2000


class RegisterModel:
    """What the registers hold, from the description alone."""

    def __init__(self, registers: RegisterMap):
        self.registers = registers
        self.reset()

    def reset(self) -> None:
        self.values = {flat: 0 for flat, (register, f) in self.registers.flat.items() if register.access != "ro"}
        self.strobes = dict.fromkeys((f"{flat}_strobe" for flat, (register, f) in self.registers.flat.items()
                                      if f.access == "wo" and f.bits > 1), 0)

    def read(self, address: int, inputs: dict[str, int]) -> tuple[int, int]:
        register = self.registers.at(address & ~3)
        if register is None:
            return 0, SLVERR
        word = 0
        for f in register.fields:
            flat = register.flat(f.name)
            value = f.constant if f.constant is not None else inputs[flat] if f.access == "ro" else \
                0 if f.access == "wo" else self.values[flat]
            word |= value << f.low
        return word, OKAY

    def step(self, write: tuple[int, int, int] | None, inputs: dict[str, int],
             loading: tuple[int, int] | None = None) -> int:
        """One edge, with the write that is transferred at it (address, data, strobes), or the one of the hardware
        (address, data); the response to the write."""
        target = self.registers.at(write[0] & ~3) if write else None
        after, response = dict(self.values), SLVERR
        self.strobes = dict.fromkeys(self.strobes, 0)
        for register in self.registers:
            written = register is target
            mask = sum(0xFF << 8 * byte for byte in range(4) if written and write[2] >> byte & 1)
            data = write[1] & mask if written else 0
            if register.access == "ro":
                continue
            response = OKAY if written else response
            first = self.values[register.flat(register.fields[0].name)]
            for f in register.fields:
                flat, part, ones = register.flat(f.name), data >> f.low, (1 << f.bits) - 1
                if f.access == "rw":
                    after[flat] = (part | self.values[flat] & ~(mask >> f.low)) & ones
                elif f.access == "wo" and f.bits == 1:
                    after[flat] = part & 1
                elif f.access == "wo" and mask & f.mask:
                    after[flat], self.strobes[f"{flat}_strobe"] = part & ones, 1
                elif f.access == "w1c":
                    after[flat] = self.values[flat] & ~part | inputs[f"{flat}_set"]
                elif f.access == "wc" and inputs[f"{register.name.lower()}_capture"] and (mask or not first):
                    after[flat] = inputs[f"{flat}_next"]
                elif f.access == "wc" and mask:
                    after[flat] = 0
        changed = self.registers.at(loading[0]) if loading else None
        if changed is not None and changed.access == "rw":
            for f in changed.fields:
                after[changed.flat(f.name)] = loading[1] >> f.low & ((1 << f.bits) - 1)
        self.values = after
        return response


class Bench:
    """Channels, monitor and model."""

    def __init__(self, dut, registers: RegisterMap, rng: random.Random):
        self.dut, self.rng, self.registers = dut, rng, registers
        self.model = RegisterModel(registers)
        reset = (dut.aclk, dut.aresetn, False)
        self.aw = AxiLiteAWSource(AxiLiteAWBus.from_prefix(dut, "s_axil"), *reset)
        self.w = AxiLiteWSource(AxiLiteWBus.from_prefix(dut, "s_axil"), *reset)
        self.b = AxiLiteBSink(AxiLiteBBus.from_prefix(dut, "s_axil"), *reset)
        self.ar = AxiLiteARSource(AxiLiteARBus.from_prefix(dut, "s_axil"), *reset)
        self.r = AxiLiteRSink(AxiLiteRBus.from_prefix(dut, "s_axil"), *reset)
        self.channels = (self.aw, self.w, self.b, self.ar, self.r)
        self.inputs: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        for register in registers:
            for f in register.fields:
                flat = register.flat(f.name)
                if f.access == "ro" and f.constant is None:
                    self.widths[flat] = f.bits
                elif f.access == "w1c":
                    self.widths[f"{flat}_set"] = f.bits
                elif f.access == "wc":
                    self.widths[f"{flat}_next"] = f.bits
                    self.widths[f"{register.name.lower()}_capture"] = 1
        self.owed_b: deque = deque()
        self.owed_r: deque = deque()
        self.got = {"b": 0, "r": 0}
        self.transfers = {"aw": 0, "w": 0}
        self.checks = self.cycles = 0
        self.loads = hasattr(dut, "load_valid")   # the hardware writes registers too
        self.load: tuple[int, int] | None = None
        self.loaded = 0

    def stall(self, chance: dict[str, float]) -> None:
        def generator(p: float):
            while True:
                yield self.rng.random() < p

        for channel, name in zip(self.channels, ("aw", "w", "b", "ar", "r"), strict=True):
            channel.set_pause_generator(generator(chance.get(name, 0.0)))

    def drive(self) -> None:
        for name, bits in self.widths.items():
            # Events are rare; values move all the time.
            quiet = name.endswith(("_set", "_capture")) and self.rng.random() < 0.9
            self.inputs[name] = 0 if quiet else self.rng.getrandbits(bits)
            getattr(self.dut, name).value = self.inputs[name]
        if self.loads:
            if self.load is None and self.rng.random() < 0.1:
                self.load = (self.address() & ~3, self.rng.getrandbits(32))
                self.dut.load_payload.value = self.load[0] // 4 | self.load[1] << 10
            self.dut.load_valid.value = int(self.load is not None)

    async def reset(self) -> None:
        self.dut.aresetn.value = 0
        self.load = None
        self.drive()
        for _ in range(3):
            await RisingEdge(self.dut.aclk)
        for channel in self.channels:
            channel.clear()
        self.model.reset()
        self.owed_b.clear()
        self.owed_r.clear()
        self.dut.aresetn.value = 1

    async def cycle(self) -> None:
        """One edge: what the ports show before it, and what it changes."""
        dut = self.dut
        await RisingEdge(dut.aclk)
        self.cycles += 1

        def seen(name: str) -> int:
            return int(getattr(dut, f"s_axil_{name}").value)

        for name, value in {**self.model.values, **self.model.strobes}.items():
            if not self.model.strobes.get(f"{name}_strobe", 1):
                continue  # a value that counts with its strobe only
            got = int(getattr(dut, name).value)
            assert got == value, f"{name}: got {got:#x}, expected {value:#x}"
            self.checks += 1
        moved = {name: bool(seen(f"{name}valid") and seen(f"{name}ready")) for name in ("aw", "w", "b", "ar", "r")}
        for name, owed in (("b", self.owed_b), ("r", self.owed_r)):
            assert owed or not seen(f"{name}valid"), f"a response on {name} that nobody asked for"
        if seen("bvalid"):
            assert seen("bresp") == self.owed_b[0], "bresp"
        if seen("rvalid"):
            got, wanted = (seen("rdata"), seen("rresp")), self.owed_r[0]
            assert got == wanted, f"r: got {got[0]:#x}, {got[1]}, expected {wanted[0]:#x}, {wanted[1]}"
        for name, owed in (("b", self.owed_b), ("r", self.owed_r)):
            if moved[name]:
                owed.popleft()
                self.got[name] += 1
                self.checks += 1
        if moved["ar"]:
            self.owed_r.append(self.model.read(seen("araddr"), self.inputs))
        assert moved["aw"] == moved["w"], "address and data are taken together"
        write = (seen("awaddr"), seen("wdata"), seen("wstrb")) if moved["aw"] else None
        loading = self.load if self.loads and int(dut.load_valid.value) and int(dut.load_ready.value) else None
        assert not (loading and write), "two writes at once"
        if loading:
            self.load, self.loaded = None, self.loaded + 1
        response = self.model.step(write, self.inputs, loading)
        if write:
            self.owed_b.append(response)
        self.drive()

    def address(self) -> int:
        if self.rng.random() < 0.15:
            return self.rng.getrandbits(12)
        return self.rng.choice(self.registers.registers).offset + self.rng.choice((0, 0, 0, 1, 2, 3))

    async def traffic(self, count: int) -> None:
        before = dict(self.got)
        for _ in range(count):
            self.aw.send_nowait(AxiLiteAWTransaction(awaddr=self.address(), awprot=self.rng.getrandbits(3)))
            strobes = self.rng.choice((15, 15, 15, self.rng.getrandbits(4)))
            self.w.send_nowait(AxiLiteWTransaction(wdata=self.rng.getrandbits(32), wstrb=strobes))
            self.ar.send_nowait(AxiLiteARTransaction(araddr=self.address(), arprot=self.rng.getrandbits(3)))
        idle, last = 0, None
        while self.got["b"] - before["b"] < count or self.got["r"] - before["r"] < count:
            await self.cycle()
            idle = idle + 1 if last == self.got else 0
            last = dict(self.got)
            assert idle < TIMEOUT_CYCLES, f"stuck after {self.got}"


async def _start(dut) -> tuple[Bench, int]:
    given = parameters()
    seed = int(given["seed"])
    dut._log.info("seed %d", seed)
    Clock(dut.aclk, 2, unit="step").start()
    bench = Bench(dut, given["registers"], random.Random(seed))
    await bench.reset()
    return bench, int(given["accesses"])


@cocotb.test()
async def random_accesses(dut) -> None:
    """Every mixture of slow and fast channels, address before data and after it."""
    bench, accesses = await _start(dut)
    mixtures = [{}, {"aw": 0.9}, {"w": 0.9}, {"b": 0.9}, {"r": 0.9}, {"ar": 0.8, "aw": 0.5},
                dict.fromkeys(("aw", "w", "b", "ar", "r"), 0.5)]
    for chance in mixtures:
        bench.stall(chance)
        await bench.traffic(accesses // len(mixtures))
    assert (bench.loaded > 50) == bench.loads
    report(vectors=bench.checks, cycles=bench.cycles)


@cocotb.test()
async def a_blocked_channel_does_not_stop_the_other(dut) -> None:
    """Reads go on while a write response is not taken, and the other way round."""
    bench, _ = await _start(dut)
    for blocked, free in (("b", "r"), ("r", "b")):
        bench.stall({blocked: 1.0})
        for _ in range(8):
            bench.aw.send_nowait(AxiLiteAWTransaction(awaddr=bench.address()))
            bench.w.send_nowait(AxiLiteWTransaction(wdata=bench.rng.getrandbits(32), wstrb=15))
            bench.ar.send_nowait(AxiLiteARTransaction(araddr=bench.address()))
        before = dict(bench.got)
        for _ in range(100):
            await bench.cycle()
        assert bench.got[blocked] == before[blocked] and bench.got[free] == before[free] + 8
        bench.stall({})
        for _ in range(60):
            await bench.cycle()
        assert bench.got[blocked] == before[blocked] + 8
    report(vectors=bench.checks, cycles=bench.cycles)


@cocotb.test()
async def throughput(dut) -> None:
    """A read or a write alone takes three cycles, with its response."""
    bench, _ = await _start(dut)
    for _ in range(50):
        bench.ar.send_nowait(AxiLiteARTransaction(araddr=bench.address()))
    for _ in range(155 + 155 * bench.loads):
        await bench.cycle()
    assert bench.got["r"] == 50 and (bench.loaded > 0) == bench.loads
    report(vectors=bench.checks, cycles=bench.cycles)


@cocotb.test()
async def reset_in_the_middle(dut) -> None:
    """A reset forgets what is under way and zeroes every register."""
    bench, _ = await _start(dut)
    for _ in range(20):
        bench.stall(dict.fromkeys(("aw", "w", "b", "ar", "r"), 0.3))
        for _ in range(12):
            bench.aw.send_nowait(AxiLiteAWTransaction(awaddr=bench.address()))
            bench.w.send_nowait(AxiLiteWTransaction(wdata=bench.rng.getrandbits(32), wstrb=15))
            bench.ar.send_nowait(AxiLiteARTransaction(araddr=bench.address()))
        for _ in range(bench.rng.randrange(1, 30)):
            await bench.cycle()
        await bench.reset()
    await bench.traffic(20)
    report(vectors=bench.checks, cycles=bench.cycles)
