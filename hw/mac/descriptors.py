"""The core's own access to memory: operands and results by address, jobs by descriptors.

::

    record ─► ring ─┬─► PanelReader A ─► runs ─► bursts ─┐                   ┌─► a
                    ├─► PanelReader W ─► runs ─► bursts ─┤                   ├─► w
                    ├─► TileRows C ────► runs ─► bursts ─┼─► ReadPort ◄► AXI ┼─► c
          fetch ─► DescriptorFetch ────► runs ─► bursts ─┘                   └─► words ─► registers, start
                    └─► TileRows O ────► rows ──────────────► RowWriter ◄► AXI ◄── result

The operand streams are the same as those of a core without master: `PanelReader` gives the addresses of the rows in
the order in which the core's loaders take them.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.matmul import RECORD_BITS
from bitkiln.models.design.registers import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_REGISTERS,
    NEXT_WORD,
    WORD_BYTES,
    core_registers,
)
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_group_format

from ..bus.axi import Axi4, BurstSplitter, ReadPort, RowWriter, row_layout, run_layout
from ..bus.axilite import LOAD, RegisterFile
from ..bus.axistream import beat_layout
from .jobs import by_index, job_layout

__all__ = ["DescriptorEngine", "DescriptorFetch", "PanelReader", "TileRows", "address_error", "connect_record",
           "record_layout"]

SCALE_BITS = 8
BURST = 16
QUEUE_BURSTS = 4   # of an operand's queue
STRIDE_BITS = 32
OUTSTANDING = 16   # bursts under way, each way
MAX_UNFINISHED = 32   # jobs that left the ring and whose results are not in memory: fewer than bursts


def address_fields(design: MatmulDesign) -> dict[str, int]:
    """Addresses and strides that this build has, by lower-case name, with their widths."""
    fields = {}
    for register in core_registers(design):
        name = register.name.lower()
        if name.endswith("_addr") and name != "desc_addr":
            fields[name] = design.address_bits
        elif name.endswith("_stride"):
            fields[name] = min(STRIDE_BITS, design.address_bits)
    return fields


def longest_row(design: MatmulDesign) -> int:
    """Beats of the longest row of anything that goes over the bus."""
    widest = max([design.raw_bits, *(design.output_format(name).bits for name in design.outputs)])
    # Scales are fewer bits than their elements.
    return max(design.k_words // design.words_per_beat, -(-design.columns * widest // design.bus_bits),
               RECORD_BITS // design.bus_bits, DESCRIPTOR_BYTES * 8 // design.bus_bits)


def record_layout(design: MatmulDesign) -> data.StructLayout:
    """A job and where its matrices are: ``job`` (`job_layout`), ``a_addr``, ``a_stride``, ..., and ``wait``: it reads
    what earlier jobs write."""
    return data.StructLayout({"job": job_layout(design), **address_fields(design), "wait": 1})


def connect_record(m: Module, design: MatmulDesign, registers: RegisterFile, record: data.View) -> None:
    """Set all of a record but ``job`` from the registers."""
    m.d.comb += record.wait.eq(registers.job_flags_wait)
    for name in address_fields(design):
        low = getattr(registers, name)
        m.d.comb += record[name].eq(Cat(low, getattr(registers, f"{name}_hi", Const(0, 0))))


def address_error(design: MatmulDesign, record: data.View) -> Value:
    """Whether an address or stride that the job uses is not a multiple of the bus width."""
    low = (design.bus_bits // 8).bit_length() - 1
    job = record.job

    def misaligned(*names: str) -> Value:
        return Cat(record[name][:low] for name in names).any()

    error = misaligned("a_addr", "a_stride", "w_addr", "w_stride")
    if design.block:
        error |= (job.block != 0) & misaligned("a_scale_addr", "a_scale_stride", "w_scale_addr", "w_scale_stride")
    if "record_addr" in address_fields(design):
        record_low = max(low, (RECORD_BITS // 8).bit_length() - 1)
        error |= job.per_channel & record.record_addr[:record_low].any()
    if design.accumulate:
        error |= job.accumulate & misaligned("c_addr", "c_stride")
    return error


class _Ring(wiring.Component):
    """Records that stages read at their own pace; one is freed when all are done. Each stage stores what it reads.

    A stage does not see a record with ``wait`` before everything is finished that was pushed before it.

    Members
    -------
    i : In(stream of record_layout)
    <stage> : Out(its part of the record), <stage>_valid : Out(1), <stage>_done : In(1)
    finished : In(1)
        The results of a record are in memory.
    """

    def __init__(self, design: MatmulDesign, stages: dict[str, data.StructLayout]):
        self.design, self.stages, self.depth = design, stages, design.queue + 1
        members = {"i": In(stream.Signature(record_layout(design))), "finished": In(1)}
        for stage, layout in stages.items():
            members |= {stage: Out(layout), f"{stage}_valid": Out(1), f"{stage}_done": In(1)}
            setattr(self, f"pending_{stage}", Signal(range(self.depth + 1), name=f"pending_{stage}"))
        super().__init__(members)

    def elaborate(self, platform) -> Module:
        m = Module()
        at = Signal(range(self.depth))
        push = self.i.valid & self.i.ready
        room = []
        unfinished = Signal(range(self.depth + MAX_UNFINISHED))
        m.d.sync += unfinished.eq(unfinished + push - self.finished)

        def following(pointer: Signal) -> Value:
            return Mux(pointer == self.depth - 1, 0, pointer + 1)

        with m.If(push):
            m.d.sync += at.eq(following(at))
        for stage, layout in self.stages.items():
            m.submodules[f"memory_{stage}"] = memory = Memory(shape=layout.size, depth=self.depth, init=[])
            write, read = memory.write_port(), memory.read_port(domain="comb")
            pointer = Signal(range(self.depth), name=f"at_{stage}")
            pending = getattr(self, f"pending_{stage}")
            done = getattr(self, f"{stage}_done")
            stored = Signal(layout, name=f"stored_{stage}")
            for name in layout.members:
                source = self.i.payload if name in self.i.payload.shape().members else self.i.payload.job
                m.d.comb += stored[name].eq(source[name])
            m.d.comb += [write.addr.eq(at), write.data.eq(stored.as_value()), write.en.eq(push),
                         read.addr.eq(pointer), getattr(self, stage).as_value().eq(read.data)]
            held = 0
            if "wait" in layout.members:
                # No more are unfinished than this stage has before it: none of them is earlier.
                held = getattr(self, stage).wait & (unfinished > pending)
            m.d.comb += getattr(self, f"{stage}_valid").eq((pending != 0) & ~Value.cast(held))
            m.d.sync += pending.eq(pending + push - done)
            with m.If(done):
                m.d.sync += pointer.eq(following(pointer))
            room.append(pending != self.depth)
        m.d.comb += self.i.ready.eq(Cat(*room).all())
        return m


def _parts(design: MatmulDesign, job: tuple[str, ...], addresses: tuple[str, ...], reads: bool) -> data.StructLayout:
    jobs, everywhere = job_layout(design), address_fields(design)
    return data.StructLayout({**{name: jobs[name].shape for name in job},
                              **{name: everywhere[name] for name in addresses if name in everywhere},
                              **({"wait": 1} if reads else {})})


def _run(design: MatmulDesign) -> data.StructLayout:
    return run_layout(design.address_bits, design.bus_bits, longest_row(design))


def panel_part(design: MatmulDesign, side: str) -> data.StructLayout:
    """What a `PanelReader` needs of a record."""
    names = tuple(f"{side}_{name}" for name in ("addr", "stride", "scale_addr", "scale_stride"))
    extra = ("record_addr",) if side == "w" else ()
    return _parts(design, ("mode", "m", "k", "n", "order", *(("block",) if design.block else ()),
                           *(("per_channel",) if side == "w" else ())), names + extra, True)


def tile_part(design: MatmulDesign, side: str) -> data.StructLayout:
    """What a `TileRows` needs of a record."""
    return _parts(design, ("m", "n", "order", *(("output", "rule") if side == "o" else ("accumulate",))),
                  (f"{side}_addr", f"{side}_stride"), side == "c")


class PanelReader(wiring.Component):
    """Where the rows of one operand are, in the order in which the core takes them: one row each cycle.

    Parameters
    ----------
    design : MatmulDesign
    side : str
        ``a`` or ``w``.

    Members
    -------
    job : In(`panel_part`), valid : In(1), done : Out(1)
    o : Out(stream of `run_layout`)
    """

    def __init__(self, design: MatmulDesign, side: str):
        self.design, self.side = design, side
        super().__init__({"job": In(panel_part(design, side)), "valid": In(1), "done": Out(1),
                          "o": Out(stream.Signature(_run(design)))})

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, bus = self.design, self.job, self.design.bus_bits
        tile, other_tile = design.rows, design.columns
        mine, other, held = job.m, job.n, job.order == 0
        if self.side == "w":
            tile, other_tile, mine, other, held = other_tile, tile, other, mine, job.order == 1
        low = (bus // 8).bit_length() - 1
        bits = [mode.activation.bits if self.side == "a" else mode.weight.bits for mode in design.pe.modes]
        size_log2 = by_index(job.mode, [width.bit_length() - 1 for width in bits])

        # Phases of a panel: length of a row in beats, first address, stride; whether the job has it.
        phases = {}
        if "record_addr" in job.shape().members:
            record = max(RECORD_BITS, bus)
            phases["records"] = (record // bus, job.record_addr, record // 8, job.per_channel)
        if design.block:
            # Elements whose scales fill a beat, as a power of two.
            spans = [get_group_format(name).block_size * (bus // SCALE_BITS) for name in design.block]
            scales = ((job.k - 1) >> by_index(job.block, [0, *(span.bit_length() - 1 for span in spans)])) + 1
            phases["scales"] = (scales, job[f"{self.side}_scale_addr"], job[f"{self.side}_scale_stride"],
                                job.block != 0)
        data_beats = Signal(longest_row(design).bit_length())
        m.d.comb += data_beats.eq(((job.k << size_log2) + bus - 1) >> (bus.bit_length() - 1))
        phases["data"] = (data_beats, job[f"{self.side}_addr"], job[f"{self.side}_stride"], Const(1, 1))
        names = list(phases)

        # Rows that are left of the operand in this pass, and of the other one in this job.
        left, other_left, row = Signal(16), Signal(16), Signal(range(tile))
        last_row = Mux(left <= tile, left - 1, tile - 1)
        own_end, other_end = left <= tile, other_left <= other_tile
        transfer = self.o.valid & self.o.ready

        def begin(at: int) -> None:
            """To the first phase from ``at`` on that the job has."""
            for number, name in enumerate(names[at:]):
                with m.If(phases[name][3]) if not number else m.Elif(phases[name][3]):
                    m.next = name

        places = {name: Signal(design.address_bits - low, name=f"at_{name}") for name in names}
        with m.FSM(name="phase"):
            with m.State("job"):
                m.d.sync += other_left.eq(other)
                with m.If(self.valid):
                    m.next = "pass"
            with m.State("pass"):
                for name, (_, address, _, _) in phases.items():
                    m.d.sync += places[name].eq(address >> low)
                m.d.sync += left.eq(mine)
                begin(0)
            for at, name in enumerate(names):
                beats, _, stride, _ = phases[name]
                with m.State(name):
                    m.d.comb += [self.o.valid.eq(1), self.o.payload.address.eq(places[name]),
                                 self.o.payload.beats.eq(beats)]
                    with m.If(transfer):
                        step = Const(stride >> low) if isinstance(stride, int) else stride >> low
                        m.d.sync += [places[name].eq(places[name] + step), row.eq(row + 1)]
                        with m.If(row == last_row):
                            m.d.sync += row.eq(0)
                            begin((at + 1) % len(names))
                            if name == "data":
                                m.d.sync += left.eq(left - tile)
                                with m.If(own_end):
                                    m.d.sync += other_left.eq(other_left - other_tile)
                                    m.next = "pass"
                                    with m.If(held | other_end):
                                        m.d.comb += self.done.eq(1)
                                        m.next = "job"
        return m


class TileRows(wiring.Component):
    """Where the rows of results or of partial sums are, tile by tile: one row each cycle, one more for each tile.

    Parameters
    ----------
    design : MatmulDesign
    side : str
        ``o`` (results) or ``c`` (partial sums).

    Members
    -------
    job : In(`tile_part`), valid : In(1), done : Out(1)
    o : Out(stream of `row_layout`)
    """

    def __init__(self, design: MatmulDesign, side: str):
        self.design, self.side = design, side
        super().__init__({"job": In(tile_part(design, side)), "valid": In(1), "done": Out(1),
                          "o": Out(stream.Signature(row_layout(design.address_bits, longest_row(design))))})

    def elaborate(self, platform) -> Module:
        m = Module()
        design, job, bus = self.design, self.job, self.design.bus_bits
        rows, columns = design.rows, design.columns
        if self.side == "o":
            formats = [design.output_format(name).bits for name in design.outputs]
            choices = [*([design.raw_bits] if "raw" in design.rules else []),
                       *(formats if set(design.rules) != {"raw"} else [])]
            raw = job.rule == 0
            index = Mux(raw, 0, job.output + int("raw" in design.rules))
            widths = choices
        else:
            index, widths = Const(0, 1), [design.raw_bits]
        tile_bytes = by_index(index, [columns * width // 8 for width in widths])

        rows_left, columns_left, at = Signal(16), Signal(16), Signal(range(rows))
        row_end, column_end = rows_left <= rows, columns_left <= columns
        last_row = Mux(row_end, rows_left - 1, rows - 1)
        count = Mux(column_end, columns_left, columns)
        beats = [[-(-number * width // bus) for number in range(columns + 1)] for width in widths]
        first_column = Signal()
        # row: the present one. tile: the first row of this tile (order a) or of this column of tiles (order w).
        # following: the row below this row of tiles, in column 0; at first the row of the job.
        row, tile, following = (Signal(design.address_bits, name=name) for name in ("row", "tile", "following"))
        address, stride = job[f"{self.side}_addr"], job[f"{self.side}_stride"]
        moving, restart = Signal(), Signal()   # to another tile than the one below; from `following`
        total = Signal(design.address_bits)
        m.d.comb += [total.eq(Mux(moving, tile, row) + Mux(moving, tile_bytes, stride)),
                     self.o.payload.address.eq(row),
                     self.o.payload.beats.eq(by_index(index, [by_index(count, numbers) for numbers in beats])),
                     self.o.payload.last.eq((at == last_row) & row_end & column_end)]
        wanted = job.accumulate if self.side == "c" else Const(1, 1)
        with m.FSM(name="state"):
            with m.State("job"):
                m.d.sync += [following.eq(address), rows_left.eq(job.m), columns_left.eq(job.n), restart.eq(1),
                             first_column.eq(1)]
                with m.If(self.valid):
                    with m.If(wanted):
                        m.next = "tile"
                    with m.Else():
                        m.d.comb += self.done.eq(1)
            with m.State("tile"):
                m.d.comb += moving.eq(1)
                m.d.sync += [row.eq(Mux(restart, following, total)), tile.eq(Mux(restart, following, total)),
                             at.eq(0)]
                m.next = "rows"
            with m.State("rows"):
                m.d.comb += self.o.valid.eq(1)
                with m.If(self.o.ready):
                    m.d.sync += [at.eq(at + 1), row.eq(total)]
                    with m.If(at == last_row):
                        m.d.sync += [at.eq(0), restart.eq(0)]
                        m.next = "tile"
                        with m.If(job.order == 0):
                            m.d.sync += [columns_left.eq(columns_left - columns), first_column.eq(0)]
                            with m.If(first_column):
                                m.d.sync += following.eq(total)
                            with m.If(column_end):
                                m.d.sync += [columns_left.eq(job.n), rows_left.eq(rows_left - rows), restart.eq(1),
                                             first_column.eq(1)]
                        with m.Else():
                            m.d.sync += rows_left.eq(rows_left - rows)
                            with m.If(row_end):
                                m.d.sync += [rows_left.eq(job.m), columns_left.eq(columns_left - columns)]
                            with m.Else():
                                m.next = "rows"
                        with m.If(row_end & column_end):
                            m.d.comb += self.done.eq(1)
                            m.next = "job"
        return m


class DescriptorFetch(wiring.Component):
    """Runs a chain of descriptors: loads each into the registers, then starts it like a job of the software.

    Members
    -------
    go : In(1), address : In(address_bits)
        Run the chain that begins there; ignored while one runs.
    run : Out(stream of `run_layout`), words : In(stream of bus_bits)
        To memory.
    load : Out(stream of {index, data})
        To the registers.
    start : Out(1); started, refused : In(1)
        Asks for a start of what the registers hold until one of the answers; ``refused`` ends the chain.
    failed : In(1)
        An error on the bus (of a beat of ``words``: said before the beat comes); the chain ends.
    wrong : Out(1)
        The address of a descriptor is not a multiple of its size (one cycle); the chain ends.
    busy : Out(1)
    """

    def __init__(self, design: MatmulDesign):
        self.design = design
        super().__init__({
            "go": In(1), "address": In(design.address_bits),
            "run": Out(stream.Signature(_run(design))),
            "words": In(stream.Signature(design.bus_bits)), "load": Out(stream.Signature(LOAD)), "start": Out(1),
            "started": In(1), "refused": In(1), "failed": In(1), "wrong": Out(1), "busy": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        low, beat_low = DESCRIPTOR_BYTES.bit_length() - 1, (design.bus_bits // 8).bit_length() - 1
        at, following = Signal(design.address_bits), Signal(min(32, design.address_bits))
        word, broken = Signal(range(NEXT_WORD + 1)), Signal()
        per_beat = design.bus_bits // (8 * WORD_BYTES)
        words = [self.words.payload.word_select(n, 8 * WORD_BYTES) for n in range(per_beat)]
        value = by_index(word[:(per_beat - 1).bit_length()], words) if per_beat > 1 else words[0]
        # The registers of a descriptor are two runs of words.
        registers = {r.name: r.offset // WORD_BYTES for r in core_registers(design)}
        jobs = next(n for n, name in enumerate(DESCRIPTOR_REGISTERS) if not name.startswith("JOB_"))
        first, second = registers["JOB_MODE"], registers["A_ADDR"] - jobs
        m.d.comb += [self.run.payload.address.eq(at >> beat_low),
                     self.run.payload.beats.eq(DESCRIPTOR_BYTES * 8 // design.bus_bits),
                     self.load.payload.data.eq(value),
                     self.load.payload.index.eq(word + Mux(word < jobs, first, second))]
        used = Signal()
        m.d.comb += self.words.ready.eq(used & (word[:(per_beat - 1).bit_length()].all() if per_beat > 1 else 1))

        with m.FSM(name="state") as state:
            m.d.comb += self.busy.eq(~state.ongoing("idle"))
            with m.State("idle"):
                m.d.sync += [at.eq(self.address), broken.eq(0)]
                with m.If(self.go):
                    m.next = "check"
            with m.State("check"):
                m.next = "ask"
                with m.If(broken):
                    m.next = "idle"
                with m.Elif(at[:low].any()):
                    m.d.comb += self.wrong.eq(1)
                    m.next = "idle"
            with m.State("ask"):
                m.d.comb += self.run.valid.eq(1)
                with m.If(self.run.ready):
                    m.next = "words"
            with m.State("words"):
                with m.If(word == NEXT_WORD):
                    m.d.comb += used.eq(self.words.valid)
                    with m.If(used):
                        m.d.sync += following.eq(value)
                        m.next = "start"
                with m.Else():
                    # A beat with an error is not loaded: its words may be anything.
                    m.d.comb += [self.load.valid.eq(self.words.valid & ~broken),
                                 used.eq(self.words.valid & (broken | self.load.ready))]
                with m.If(used):
                    m.d.sync += word.eq(word + 1)
            with m.State("start"):
                m.d.comb += self.start.eq(~broken)
                with m.If(broken | self.refused):
                    m.next = "idle"
                with m.Elif(self.started):
                    m.d.sync += at.eq(Cat(following, at[len(following):]))
                    m.next = "check"
                    with m.If(following == 0):
                        m.next = "idle"
        with m.If(self.failed):
            m.d.sync += broken.eq(1)
        return m


class DescriptorEngine(wiring.Component):
    """The master of a core: reads operands and partial sums, writes results, runs chains of descriptors.

    It knows the order in which the core takes and gives everything; the core pushes each job that it accepts.

    Parameters
    ----------
    design : MatmulDesign
        With ``descriptors``.

    Members
    -------
    bus : Out(Axi4)
    record : In(stream of `record_layout`)
        Jobs, checked (`address_error`), in the order in which they run.
    a, w, c : Out(stream of bus_bits)
        Operand streams of the core; ``c`` only with partial sums.
    result : In(stream of `beat_layout`)
    done : Out(1)
        A job's results are in memory (one cycle each, in the jobs' order).
    fetch : In(1), fetch_address : In(address_bits)
        Run a chain of descriptors.
    load : Out(stream of {index, data}), start : Out(1), started, refused : In(1)
        See `DescriptorFetch`.
    fetching : Out(1)
    failed : Out(1), wrong : Out(1)
        An AXI response was an error; the address of a descriptor is illegal (one cycle each).
    flush : In(1)
        Forget all jobs. Bursts that are under way run to their end; keep it high until ``quiet``.
    quiet : Out(1)
        Nothing is under way on the bus.
    """

    def __init__(self, design: MatmulDesign, *, burst: int = BURST):
        self.design, self.burst = design, burst
        bus = design.bus_bits
        if not design.descriptors:
            raise BitkilnError("this core was built without it", where="descriptors", got="false", expected="true")
        beats = DESCRIPTOR_BYTES * 8 // bus
        self.readers = {"a": QUEUE_BURSTS * burst, "w": QUEUE_BURSTS * burst,
                        **({"c": 2 * burst} if design.accumulate else {}), "words": max(burst, beats)}
        operands = {name: Out(stream.Signature(bus)) for name in self.readers if name != "words"}
        super().__init__({
            "bus": Out(Axi4(design.address_bits, bus)), "record": In(stream.Signature(record_layout(design))),
            **operands, "result": In(stream.Signature(beat_layout(bus))), "done": Out(1),
            "fetch": In(1), "fetch_address": In(design.address_bits), "load": Out(stream.Signature(LOAD)),
            "start": Out(1), "started": In(1), "refused": In(1), "fetching": Out(1), "failed": Out(1),
            "wrong": Out(1), "flush": In(1), "quiet": Out(1)})

    @property
    def module_name(self) -> str:
        return f"dma_{self.design.name}_x{self.burst}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, width = self.design, self.design.address_bits
        reset = ResetInserter(self.flush)
        m.submodules.read = read = ReadPort(width, design.bus_bits, self.readers, burst=self.burst,
                                           outstanding=OUTSTANDING)
        m.submodules.write = write = RowWriter(width, design.bus_bits, longest_row(design), burst=self.burst,
                                              outstanding=OUTSTANDING)
        stages = {"a": panel_part(design, "a"), "w": panel_part(design, "w")}
        if design.accumulate:
            stages["c"] = tile_part(design, "c")
        stages["o"] = tile_part(design, "o")
        ring, fetch = _Ring(design, stages), DescriptorFetch(design)
        m.submodules.ring, m.submodules.chain = reset(ring), reset(fetch)
        connect(m, flipped(self.record), ring.i)
        m.d.comb += ring.finished.eq(write.done)

        low = (design.bus_bits // 8).bit_length() - 1
        for stage in stages:
            unit = PanelReader(design, stage) if stage in ("a", "w") else TileRows(design, stage)
            m.submodules[f"rows_{stage}"] = reset(unit)
            done = getattr(ring, f"{stage}_done")
            m.d.comb += [unit.job.eq(getattr(ring, stage)), unit.valid.eq(getattr(ring, f"{stage}_valid")),
                         done.eq(unit.done)]
            if stage == "o":
                connect(m, unit.o, write.row)
                continue
            splitter = BurstSplitter(width, design.bus_bits, longest_row(design), burst=self.burst)
            m.submodules[f"bursts_{stage}"] = reset(splitter)
            address = unit.o.payload.address if stage != "c" else unit.o.payload.address >> low
            m.d.comb += [splitter.i.payload.address.eq(address), splitter.i.payload.beats.eq(unit.o.payload.beats),
                         splitter.i.valid.eq(unit.o.valid), unit.o.ready.eq(splitter.i.ready)]
            connect(m, splitter.o, getattr(read, f"request_{stage}"))
            connect(m, getattr(read, f"data_{stage}"), flipped(getattr(self, stage)))

        words = BurstSplitter(width, design.bus_bits, longest_row(design), burst=self.burst)
        m.submodules.bursts_words = reset(words)
        connect(m, fetch.run, words.i)
        connect(m, words.o, read.request_words)
        connect(m, read.data_words, fetch.words)
        connect(m, fetch.load, flipped(self.load))
        m.d.comb += [fetch.go.eq(self.fetch), fetch.address.eq(self.fetch_address), self.fetching.eq(fetch.busy),
                     self.start.eq(fetch.start & ~self.flush), fetch.started.eq(self.started),
                     fetch.refused.eq(self.refused), fetch.failed.eq(self.failed), self.wrong.eq(fetch.wrong)]

        connect(m, flipped(self.result), write.i)
        failed = [getattr(read, f"failed_{name}") for name in self.readers]
        m.d.comb += [self.done.eq(write.done), self.failed.eq(Cat(*failed, write.failed).any()),
                     read.flush.eq(self.flush), write.flush.eq(self.flush), self.quiet.eq(read.quiet & write.quiet)]
        # One bus, each half driven by one of the two.
        for name, member in self.bus.signature.members.items():
            side = write if name[0] in "bw" or name.startswith("aw") else read
            inside, outside = getattr(side.bus, name), getattr(self.bus, name)
            m.d.comb += outside.eq(inside) if member.flow == Out else inside.eq(outside)
        return m
