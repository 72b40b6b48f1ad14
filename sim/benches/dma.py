"""cocotb bench of the core's master: random jobs in a random memory, random stalls on every channel.

The bench stands for the core and for its registers. What the operand streams must give comes from the memory by the
rule of the streams (rows of tiles in order, whole beats); what the memory must hold comes from the results that the
bench sends.
"""

from __future__ import annotations

import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiSlave, Region

from bitkiln.hw.mac.descriptors import record_layout
from bitkiln.models.design import Job, MatmulDesign
from bitkiln.models.design.registers import DESCRIPTOR_BYTES, core_registers, decode, descriptor, job_registers
from bitkiln.models.formats import get_group_format
from bitkiln.sim.bench_report import parameters, report

MEMORY_BYTES = 1 << 18
RECORD_BYTES = 16
TIMEOUT_CYCLES = 5000


class Memory(Region):
    """Bytes; an access that touches a poisoned address fails."""

    def __init__(self, rng: random.Random):
        super().__init__(MEMORY_BYTES)
        self.data = bytearray(rng.randbytes(MEMORY_BYTES))
        self.poison: set[int] = set()
        self.free = 0

    def _check(self, address: int, length: int) -> None:
        if any(address <= bad < address + length for bad in self.poison):
            raise ValueError("poisoned")
        assert address + length <= MEMORY_BYTES

    async def _read(self, address: int, length: int, **_) -> bytes:
        self._check(address, length)
        return bytes(self.data[address:address + length])

    async def _write(self, address: int, data: bytes, **_) -> None:
        self._check(address, len(data))
        self.data[address:address + len(data)] = data


class Work:
    """One job: where everything is, what the streams carry, what the memory holds afterwards."""

    def __init__(self, design: MatmulDesign, job: Job, rng: random.Random, memory: Memory):
        self.design, self.job, self.rng = design, job, rng
        self.bus = design.bus_bits // 8
        self.values = job_registers(design, job)
        mode = design.pe.modes[design.pe.index(job.mode)]
        self.row_beats = {"a": self.beats(job.k * mode.activation.bits), "w": self.beats(job.k * mode.weight.bits)}
        self.height = {"a": job.m, "w": job.n}
        self.addresses = {}
        for side in "aw":
            self.addresses |= self.place(side, self.row_beats[side] * self.bus, self.height[side], self.bus, memory)
            if job.block:
                blocks = -(-job.k // get_group_format(job.block).block_size)
                self.scale_beats = self.beats(8 * blocks)
                self.addresses |= self.place(f"{side}_scale", self.scale_beats * self.bus, self.height[side], self.bus,
                                             memory)
        self.record = max(RECORD_BYTES, self.bus)
        if job.per_channel:
            self.addresses["record_addr"] = memory.free
            memory.free += self.record * job.n
        self.raw = design.raw_bits
        self.bits = self.raw if job.rule == "raw" else design.output_format(job.output).bits
        if job.accumulate:
            self.addresses |= self.place("c", -(-job.n * self.raw // 8), job.m, self.bus, memory)
        width = -(-job.n * self.bits // 8)
        self.addresses |= self.place("o", width, job.m, 1, memory)
        self.wait = False
        self.values |= {name.upper(): value for name, value in self.addresses.items()}

    def beats(self, bits: int) -> int:
        return -(-bits // self.design.bus_bits)

    def place(self, name: str, row_bytes: int, rows: int, align: int, memory: Memory) -> dict[str, int]:
        """A free piece of memory, with some room between rows, so that rows often cross 4 KiB."""
        start = memory.free + self.rng.choice((0, self.rng.randrange(200)))
        start += -start % align
        stride = row_bytes + self.rng.choice((0, 0, align, self.rng.randrange(64)))
        stride += -stride % align
        memory.free = start + stride * rows + 64
        memory.free += -memory.free % 64
        assert memory.free <= MEMORY_BYTES, "the bench's memory is full"
        return {f"{name}_addr": start, f"{name}_stride": stride}

    def tiles(self) -> list[tuple[range, range]]:
        """Rows and columns of every tile, in the order of the results."""
        rows = [range(at, min(at + self.design.rows, self.job.m)) for at in range(0, self.job.m, self.design.rows)]
        columns = [range(at, min(at + self.design.columns, self.job.n))
                   for at in range(0, self.job.n, self.design.columns)]
        if self.job.order == "a":
            return [(r, c) for r in rows for c in columns]
        return [(r, c) for c in columns for r in rows]

    def _split(self, data: bytes) -> list[int]:
        assert len(data) % self.bus == 0
        return [int.from_bytes(data[at:at + self.bus], "little") for at in range(0, len(data), self.bus)]

    def _row(self, memory: bytes | bytearray, name: str, row: int, beats: int) -> list[int]:
        at = self.addresses[f"{name}_addr"] + row * self.addresses[f"{name}_stride"]
        return self._split(bytes(memory[at:at + beats * self.bus]))

    def panel(self, memory: bytes | bytearray, side: str, rows: range) -> list[int]:
        found = []
        if side == "w" and self.job.per_channel:
            for row in rows:
                at = self.addresses["record_addr"] + row * self.record
                found += self._split(bytes(memory[at:at + self.record]))
        if self.job.block:
            for row in rows:
                found += self._row(memory, f"{side}_scale", row, self.scale_beats)
        for row in rows:
            found += self._row(memory, side, row, self.row_beats[side])
        return found

    def operands(self, memory: bytes | bytearray) -> dict[str, list[int]]:
        """Beats of every operand stream."""
        streams: dict[str, list[int]] = {"a": [], "w": [], "c": []}
        held, other = ("a", "w") if self.job.order == "a" else ("w", "a")
        before = None
        for rows, columns in self.tiles():
            mine = {"a": rows, "w": columns}
            if mine[held] != before:
                streams[held] += self.panel(memory, held, mine[held])
                before = mine[held]
            streams[other] += self.panel(memory, other, mine[other])
            if self.job.accumulate:
                for row in rows:
                    size = -(-len(columns) * self.raw // 8)
                    at = self.addresses["c_addr"] + row * self.addresses["c_stride"] + columns[0] * self.raw // 8
                    beats = self.beats(8 * size)
                    streams["c"] += self._split(bytes(memory[at:at + beats * self.bus]))
        return streams

    def results(self) -> tuple[list[tuple[int, int, int]], dict[int, bytes]]:
        """Random results as (data, keep, last) of each beat, and where their bytes belong."""
        found, places = [], {}
        for rows, columns in self.tiles():
            for row in rows:
                size = -(-len(columns) * self.bits // 8)
                data = self.rng.randbytes(size)
                at = self.addresses["o_addr"] + row * self.addresses["o_stride"] + columns[0] * self.bits // 8
                places[at] = data
                for part in range(0, size, self.bus):
                    piece = data[part:part + self.bus]
                    found.append((int.from_bytes(piece, "little"), (1 << len(piece)) - 1, 0))
        found[-1] = (*found[-1][:2], 1)
        return found, places


def random_job(design: MatmulDesign, rng: random.Random, largest: int = 40) -> Job:
    """A legal job of a random shape and mode."""
    def size() -> int:
        return rng.choice((1, 2, rng.randint(1, 8), rng.randint(1, largest)))

    rule = rng.choice(design.rules)
    block = rng.choice(design.block) if design.block and rule != "integer" and rng.random() < 0.4 else None
    mode = get_group_format(block).element.name if block else rng.choice(design.pe.modes).name
    integers = [name for name in design.outputs if design.output_format(name).family == "int"]
    if rule == "integer" and (not integers or design.pe.dot(mode).accumulator_bits > 48):
        rule = "float"
    output = {"raw": None, "integer": rng.choice(integers or [None]), "float": rng.choice(design.outputs)}[rule]
    per_channel = "job_flags_per_channel" in core_registers(design).flat and rng.random() < 0.5
    return Job(mode, size(), rng.choice((size(), rng.randint(1, min(600, design.max_k(mode))))), size(), rule=rule,
               output=output, order=rng.choice("aw"), per_channel=per_channel,
               accumulate=design.accumulate and rng.random() < 0.5, block=block, tag=rng.getrandbits(16))


class Bench:
    """The core's side of the engine, cycle by cycle, and AXI memory behind it."""

    def __init__(self, dut, design: MatmulDesign, rng: random.Random):
        self.dut, self.design, self.rng = dut, design, rng
        self.registers = core_registers(design)
        self.offsets = {register.offset // 4: register for register in self.registers}
        self.memory = Memory(rng)
        self.slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, dut.aresetn, reset_active_level=False,
                              target=self.memory)
        write, read = self.slave.write_if, self.slave.read_if
        self.channels = {"aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel, "ar": read.ar_channel,
                         "r": read.r_channel}
        for channel in self.channels.values():
            channel.log.setLevel("ERROR")
        write.log.setLevel("ERROR")
        read.log.setLevel("ERROR")
        self.layout = record_layout(design)
        self.inputs = [name for name in ("a", "w", "c") if name != "c" or design.accumulate]
        self.wanted: dict[str, deque] = {name: deque() for name in self.inputs}
        self.results: deque = deque()
        self.records: deque = deque()
        self.done: deque = deque()          # where the results of each job belong, in order
        self.chance: dict[str, float] = {}
        self.ready = dict.fromkeys(self.inputs, False)
        self.kept: dict[str, int | None] = dict.fromkeys(self.inputs)
        self.offered_result = False
        self.offered_record = False
        self.loaded: dict[str, int] = {}
        self.load_ready = False
        self.expect_starts: deque = deque()
        self.answer: str | None = None
        self.counts = {"beats": 0, "jobs": 0, "failed": 0, "wrong": 0, "starts": 0}
        self.cycles = 0
        self.burst_left = 0
        self.image = bytearray(self.memory.data)
        self.check_streams = True
        self.held: dict[str, tuple] = {}

    def stall(self, chance: dict[str, float]) -> None:
        """Chance of a stall on each AXI channel and of each stream."""
        def generator(p: float):
            while True:
                yield self.rng.random() < p

        self.chance = chance
        for name, channel in self.channels.items():
            channel.set_pause_generator(generator(chance.get(name, 0.0)))

    async def reset(self) -> None:
        dut = self.dut
        for name in ("record_valid", "result_valid", "fetch", "started", "refused", "flush", "load_ready",
                     *(f"{name}_ready" for name in self.inputs)):
            getattr(dut, name).value = 0
        dut.aresetn.value = 0
        for _ in range(4):
            await RisingEdge(dut.aclk)
        dut.aresetn.value = 1
        self.offered_result = self.offered_record = False
        self.kept = dict.fromkeys(self.inputs)
        self.held.clear()
        self.burst_left = 0
        for _ in range(2):
            await RisingEdge(dut.aclk)

    def payload(self, work: Work) -> int:
        job = {"mode": work.design.pe.index(work.job.mode), "m": work.job.m, "k": work.job.k, "n": work.job.n,
               "order": int(work.job.order == "w"), "per_channel": int(work.job.per_channel),
               "accumulate": int(work.job.accumulate), "rule": ("raw", "integer", "float").index(work.job.rule),
               "output": work.design.outputs.index(work.job.output) if work.job.output else 0,
               "block": work.design.block.index(work.job.block) + 1 if work.job.block else 0}
        return self.layout.const({"job": job, **work.addresses, "wait": int(work.wait)}).as_bits()

    def push(self, work: Work, *, record: bool = True) -> None:
        """A job that the core has accepted; from now on its streams are expected."""
        if record:
            self.records.append(self.payload(work))
        for name, beats in work.operands(self.image).items():
            if name in self.wanted:
                self.wanted[name].extend(beats)
        beats, places = work.results()
        self.results.extend(beats)
        self.done.append(places)
        for at, data in places.items():
            self.image[at:at + len(data)] = data

    def _handshakes(self) -> None:
        """What is offered on the bus stays; bursts keep to their pages; data of a burst come without a gap."""
        def seen(name: str) -> int:
            return int(getattr(self.dut, f"m_axi_{name}").value)

        for kind in ("aw", "ar"):
            valid, ready = seen(f"{kind}valid"), seen(f"{kind}ready")
            facts = (seen(f"{kind}addr"), seen(f"{kind}len")) if valid else ()
            if kind in self.held:
                assert facts == self.held[kind], f"{kind} changed while waiting"
            self.held.pop(kind, None)
            if valid and not ready:
                self.held[kind] = facts
            if valid and ready:
                address, beats = facts[0], facts[1] + 1
                size = self.design.bus_bits // 8
                assert address % size == 0 and 1 << seen(f"{kind}size") == size and seen(f"{kind}burst") == 1
                assert address // 4096 == (address + beats * size - 1) // 4096, f"{kind} crosses 4 KiB"
        valid, ready = seen("wvalid"), seen("wready")
        assert valid or not self.burst_left, "a gap in the data of a burst"
        if valid and ready:
            self.burst_left = int(not seen("wlast"))
        assert seen("rready") and seen("bready")

    async def cycle(self) -> None:
        """One edge."""
        dut, rng = self.dut, self.rng
        await RisingEdge(dut.aclk)
        self.cycles += 1
        self._handshakes()

        def bit(name: str) -> bool:
            return bool(int(getattr(dut, name).value))

        for name in self.inputs:
            valid = bit(f"{name}_valid")
            if self.kept[name] is not None and self.check_streams:
                assert valid and int(getattr(dut, f"{name}_payload").value) == self.kept[name], f"{name} changed"
            self.kept[name] = None
            if valid and self.check_streams:
                got = int(getattr(dut, f"{name}_payload").value)
                assert self.wanted[name], f"a beat too many on {name}"
                assert got == self.wanted[name][0], f"{name}: got {got:#x}, expected {self.wanted[name][0]:#x}"
                if self.ready[name]:
                    self.wanted[name].popleft()
                    self.counts["beats"] += 1
                else:
                    self.kept[name] = got
            self.ready[name] = rng.random() >= self.chance.get(name, 0.0)
            getattr(dut, f"{name}_ready").value = int(self.ready[name])

        if self.offered_result and bit("result_ready"):
            self.results.popleft()
            self.offered_result = False
            self.counts["beats"] += 1
        if not self.offered_result and self.results and rng.random() >= self.chance.get("result", 0.0):
            data, keep, last = self.results[0]
            size = self.design.bus_bits
            dut.result_payload.value = data | keep << size | last << (size + size // 8)
            self.offered_result = True
        dut.result_valid.value = int(self.offered_result)

        if self.offered_record and bit("record_ready"):
            self.records.popleft()
            self.offered_record = False
        if self.records and not self.offered_record:
            dut.record_payload.value = self.records[0]
            self.offered_record = True
        dut.record_valid.value = int(self.offered_record)

        if bit("done"):
            for at, data in self.done.popleft().items():
                assert self.memory.data[at:at + len(data)] == data, f"results at {at:#x} when the job is done"
            self.counts["jobs"] += 1
        self.counts["failed"] += bit("failed")
        self.counts["wrong"] += bit("wrong")
        self._chain(bit)

    def _chain(self, bit) -> None:
        """The registers, and the core's answer to a start."""
        dut, rng = self.dut, self.rng
        if bit("load_valid") and self.load_ready:
            index, value = (lambda p: (p & 1023, p >> 10))(int(dut.load_payload.value))
            if index in self.offsets:
                register = self.offsets[index]
                assert register.access == "rw", register.name
                self.loaded[register.name] = register.pack(**register.unpack(
                    value & sum(f.mask for f in register.fields)))
        self.load_ready = rng.random() < 0.5
        dut.load_ready.value = int(self.load_ready)
        if self.answer:
            getattr(dut, self.answer).value = 0
            self.answer = None
        elif bit("start") and rng.random() < 0.2 and not self.records:
            assert self.expect_starts, "a start too many"
            work, refused = self.expect_starts.popleft()
            known = {name: value for name, value in self.loaded.items() if name in work.values or value}
            expected = {name: value for name, value in work.values.items() if name in work.values}
            assert {name: known.get(name, 0) for name in expected} == expected
            assert decode(self.design, self.loaded) == work.job
            self.answer = "refused" if refused else "started"
            getattr(dut, self.answer).value = 1
            self.counts["starts"] += 1
            if not refused:
                self.push(work)

    async def drain(self) -> None:
        """Until everything that is expected has come, and a while longer."""
        idle, before = 0, None
        while self.done or self.expect_starts or idle < 40 or any(self.wanted.values()):
            await self.cycle()
            state = dict(self.counts)
            idle = idle + 1 if state == before else 0
            before = state
            left = {name: len(queue) for name, queue in self.wanted.items()}
            assert idle < TIMEOUT_CYCLES, f"stuck: {left}, {len(self.results)} results, {len(self.done)} jobs"
        self.same()

    def same(self) -> None:
        """The whole memory holds what it should."""
        if self.memory.data != self.image:
            at = next(n for n, pair in enumerate(zip(self.memory.data, self.image, strict=True)) if pair[0] != pair[1])
            raise AssertionError(f"memory at {at:#x}: got {self.memory.data[at]:#x}, expected {self.image[at]:#x}")


async def _start(dut) -> tuple[Bench, int]:
    given = parameters()
    seed = int(given["seed"])
    dut._log.info("seed %d", seed)
    Clock(dut.aclk, 2, unit="step").start()
    bench = Bench(dut, given["design"], random.Random(seed))
    await bench.reset()
    return bench, int(given["jobs"])


ALL = ("aw", "w", "b", "ar", "r", "a", "w", "c", "result")


@cocotb.test()
async def random_jobs(dut) -> None:
    """Jobs back to back, with every mixture of slow and fast channels."""
    bench, jobs = await _start(dut)
    mixtures = [{}, dict.fromkeys(ALL, 0.5), {"r": 0.8, "w": 0.8}, {"a": 0.9, "result": 0.9}, {"w": 0.9, "c": 0.9},
                {"b": 0.95, "aw": 0.8}, {"ar": 0.9}]
    for chance in mixtures:
        bench.stall(chance)
        bench.memory.free = 0
        for _ in range(max(1, jobs // len(mixtures))):
            bench.push(Work(bench.design, random_job(bench.design, bench.rng), bench.rng, bench.memory))
        await bench.drain()
    assert bench.counts["failed"] == bench.counts["wrong"] == 0
    report(vectors=bench.counts["beats"] + bench.counts["jobs"], cycles=bench.cycles)


@cocotb.test()
async def chains(dut) -> None:
    """Chains of descriptors start what they hold; a refused job and an illegal address end them."""
    bench, _ = await _start(dut)
    design, memory, rng = bench.design, bench.memory, bench.rng
    bench.stall(dict.fromkeys(ALL, 0.2))
    for length, end in ((1, "end"), (4, "end"), (3, "refused"), (3, "wrong"), (2, "end"), (1, "poison"), (2, "end")):
        memory.free = DESCRIPTOR_BYTES * 8
        places = [DESCRIPTOR_BYTES * at for at in rng.sample(range(1, 8), length)]
        works = [Work(design, random_job(design, rng, 12), rng, memory) for _ in range(length)]
        for n, work in enumerate(works):
            last = n == length - 1
            following = 0 if last and end != "wrong" else places[(n + 1) % length]
            text = bytearray(descriptor(design, work.values, following))
            if last and end == "wrong":
                text[124:128] = (places[0] + 64).to_bytes(4, "little")
            for image in (memory.data, bench.image):
                image[places[n]:places[n] + DESCRIPTOR_BYTES] = text
            if end != "poison":
                bench.expect_starts.append((work, last and end == "refused"))
        if end == "poison":
            memory.poison.add(places[0] + rng.randrange(DESCRIPTOR_BYTES))
        before = dict(bench.counts)
        dut.fetch.value, dut.fetch_address.value = 1, places[0]
        await bench.cycle()
        dut.fetch.value = 0
        await bench.cycle()
        await bench.drain()
        for _ in range(TIMEOUT_CYCLES):
            if not int(dut.fetching.value):
                break
            await bench.cycle()
        assert not int(dut.fetching.value)
        memory.poison.clear()
        changes = {name: bench.counts[name] - before[name] for name in ("starts", "wrong", "jobs")}
        assert changes == {"starts": 0 if end == "poison" else length, "wrong": int(end == "wrong"),
                           "jobs": 0 if end == "poison" else length - (end == "refused")}
        assert (bench.counts["failed"] > before["failed"]) == (end == "poison")
    # A chain that begins at no descriptor.
    dut.fetch.value, dut.fetch_address.value = 1, 8
    await bench.cycle()
    dut.fetch.value = 0
    wrong = bench.counts["wrong"]
    for _ in range(10):
        await bench.cycle()
    assert bench.counts["wrong"] == wrong + 1 and not int(dut.fetching.value)
    report(vectors=bench.counts["beats"] + bench.counts["starts"], cycles=bench.cycles)


@cocotb.test()
async def results_as_operands(dut) -> None:
    """A job that waits reads what the one before it has written."""
    bench, _ = await _start(dut)
    design, rng = bench.design, bench.rng
    first = Job(design.pe.modes[0].name, design.rows + 1, 8, 2 * design.columns, rule="raw", order=rng.choice("aw"))
    for _ in range(12):
        bench.stall(dict.fromkeys(ALL, rng.choice((0.0, 0.4))))
        bench.memory.free = 0
        for _ in range(3):
            one = Work(design, first, rng, bench.memory)
            one.addresses["o_addr"] += -one.addresses["o_addr"] % one.bus
            bench.memory.free += one.bus
            two = Work(design, Job(first.mode, 2, 16, 3, rule="raw"), rng, bench.memory)
            two.addresses |= {"a_addr": one.addresses["o_addr"], "a_stride": two.row_beats["a"] * two.bus}
            two.wait = True
            bench.push(one)
            bench.push(two)
        await bench.drain()
    report(vectors=bench.counts["beats"], cycles=bench.cycles)


@cocotb.test()
async def abort(dut) -> None:
    """A flush ends every burst, forgets all jobs and writes nothing that is not a result; the next jobs are whole."""
    bench, _ = await _start(dut)
    for _ in range(16):
        bench.stall(dict.fromkeys(ALL, bench.rng.choice((0.0, 0.3, 0.7))))
        bench.memory.free = 0
        before = bytes(bench.image)
        for _ in range(3):
            bench.push(Work(bench.design, random_job(bench.design, bench.rng), bench.rng, bench.memory))
        for _ in range(bench.rng.randrange(1, 300)):
            await bench.cycle()
        dut.flush.value = 1
        bench.check_streams = False
        bench.records.clear()
        bench.results.clear()
        bench.offered_record = bench.offered_result = False
        dut.record_valid.value = dut.result_valid.value = 0
        for waited in range(TIMEOUT_CYCLES):
            await bench.cycle()
            if waited > 2 and int(dut.quiet.value):
                break
        assert int(dut.quiet.value), "an abort that does not end"
        dut.flush.value = 0
        await bench.cycle()
        for queue in (*bench.wanted.values(), bench.done):
            queue.clear()
        assert all(now in (old, new) for now, old, new in zip(bench.memory.data, before, bench.image, strict=True)), \
            "something else was written"
        bench.image[:] = bench.memory.data
        bench.kept = dict.fromkeys(bench.inputs)
        bench.check_streams = True
        bench.memory.free = 0
        bench.push(Work(bench.design, random_job(bench.design, bench.rng, 12), bench.rng, bench.memory))
        await bench.drain()
    report(vectors=bench.counts["beats"], cycles=bench.cycles)


@cocotb.test()
async def errors_of_the_bus(dut) -> None:
    """An error response is told, and the streams go on."""
    bench, _ = await _start(dut)
    for side in ("a", "w", "o"):
        bench.memory.free = 0
        job = Job(bench.design.pe.modes[0].name, 9, 40, 9, rule=bench.design.rules[0],
                  output=None if bench.design.rules[0] == "raw" else bench.design.outputs[0])
        work = Work(bench.design, job, bench.rng, bench.memory)
        bench.push(work)
        bench.memory.poison = {work.addresses[f"{side}_addr"] + work.addresses[f"{side}_stride"] * 2}
        bench.check_streams = False
        bench.done[-1] = {}
        jobs, failed = bench.counts["jobs"], bench.counts["failed"]
        for _ in range(700):
            await bench.cycle()
        assert bench.counts["jobs"] == jobs + 1 and bench.counts["failed"] > failed
        bench.memory.poison.clear()
        for queue in bench.wanted.values():
            queue.clear()
        bench.image[:] = bench.memory.data
        bench.check_streams = True
        bench.push(Work(bench.design, job, bench.rng, bench.memory))
        await bench.drain()
    report(vectors=bench.counts["jobs"], cycles=bench.cycles)


@cocotb.test()
async def throughput(dut) -> None:
    """Long rows come at nearly a beat each cycle, operands and results together."""
    bench, _ = await _start(dut)
    mode = max(bench.design.pe.modes, key=bench.design.max_k)
    job = Job(mode.name, bench.design.rows * 2, bench.design.max_k(mode), bench.design.columns * 2,
              rule=bench.design.rules[0], output=None if bench.design.rules[0] == "raw" else bench.design.outputs[0])
    work = Work(bench.design, job, bench.rng, bench.memory)
    bench.push(work)
    beats = sum(len(queue) for queue in bench.wanted.values())
    start = bench.cycles
    while any(bench.wanted.values()):
        await bench.cycle()
    rate = beats / (bench.cycles - start)
    await bench.drain()
    assert rate > 0.8, f"{rate:.2f} beats a cycle"
    report(vectors=bench.counts["beats"], cycles=bench.cycles, read_beats_per_cycle=rate)
