# amaranth: UnusedElaboratable=no
"""Dequantising matrix core: packed weights and activations in, results out.

::

    weight (bus words) ──► distributor ──► GroupReader x columns ──┐
                               │ channel scales                    ├─► chunks ──► BitSerialArray ──► ResultStage ──► o
    activation (L codes) ──► two buffers x rows ───────────────────┘                                    ▲
    job {k, group, channels, rows} ──► distributor, sequencer ──────────────────────── visits ──────────┘

The weight stream of a job, channel tile by channel tile (as many channels as the array has columns, fewer in the last
one): the channels' float32 scales, a bus word each, then for each group of K, channel by channel, the packed group
(`models.design.layouts`). Activations are given once a job: chunk by chunk, row by row, the lanes' codes; every group
begins a new chunk, filled up at its end with anything. ``last`` stands with a job's last word.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.dequant_streams import STATUS, activation_fields, special_terms

from ..emit import shared
from .array import BitSerialArray, special_write_layout
from .queue import Queue
from .reader import CodeDecoder, GroupReader, plane_layout, window_layout
from .results import ResultStage, output_layout, visit_layout
from .walk import Walk, job_layout

__all__ = ["DequantCore", "activation_word_layout"]

SCALES = 4   # tiles of channel scales that wait


def _power(size: int) -> int:
    """Of two, 2 or more."""
    return 1 << max((size - 1).bit_length(), 1)


def activation_word_layout(design: DequantDesign) -> data.StructLayout:
    """A row's codes of one chunk, lane 0 lowest; ``last`` with the job's last one."""
    return data.StructLayout(activation_fields(design))


class DequantCore(wiring.Component):
    """The core.

    Parameters
    ----------
    design : DequantDesign

    Members
    -------
    job : In(stream of job_layout)
        One runs, the next one may wait; its weights and activations can be given at once.
    weight : In(stream of 8 * bus_bytes bits), activation : In(stream of activation_word_layout)
    special : In(stream of special_write_layout), with types that have special values
        Taken only between jobs.
    o : Out(stream of output_layout)
        Tile by tile, row by row, channel by channel.
    busy : Out(1)
        A job is under way.
    mismatch : Out(1)
        A job's activations were not as many as it has chunks times rows (sticky; results are then worthless).
    stalls, starved : Out(32)
        Cycles in which the array held a step back, in which it waited for weights or activations.
    """

    def __init__(self, design: DequantDesign):
        self.design = design
        self.array = BitSerialArray(design.array)
        members = {"job": In(stream.Signature(job_layout(design))),
                   "weight": In(stream.Signature(8 * design.bus_bytes)),
                   "activation": In(stream.Signature(activation_word_layout(design))),
                   "o": Out(stream.Signature(output_layout(design))),
                   **{name: Out(bits) for name, bits in STATUS.items()}}
        if special_terms(design.array):
            members["special"] = In(stream.Signature(special_write_layout(design.array)))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_core"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {**self.array.parameters, "bus_bytes": d.bus_bytes, "k_chunks": d.k_chunks, "output": d.output.name,
                "packings": [p.name for p in d.layout.packings], "channel_scale": d.channel_scale}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        self.distributor, self.sequencer = Walk(m, design, "distributor"), Walk(m, design, "sequencer")
        m.submodules.array = self.inner = inner = shared(self.array)
        m.submodules.results = results = shared(ResultStage(design))
        self.readers = []
        for c in range(design.array.columns):
            m.submodules[f"reader{c}"] = reader = shared(GroupReader(design))
            self.readers.append(reader)
        self._jobs(m)
        self._distribute(m, results)
        ready, buffer, chunk, taken = self._buffers(m)
        self._sequence(m, results, ready, buffer, chunk, taken)
        m.d.comb += [results.i.payload.eq(inner.o.payload), results.i.valid.eq(inner.o.valid),
                     inner.o.ready.eq(results.i.ready), self.o.payload.eq(results.o.payload),
                     self.o.valid.eq(results.o.valid), results.o.ready.eq(self.o.ready),
                     self.stalls.eq(inner.stalls)]
        idle = ~self.distributor.busy & ~self.sequencer.busy & ~inner.busy & results.idle
        m.d.comb += self.busy.eq(~idle | self.visits.o.valid)
        if special_terms(design.array):
            m.d.comb += [inner.special.payload.eq(self.special.payload),
                         inner.special.valid.eq(self.special.valid & ~self.busy),
                         self.special.ready.eq(inner.special.ready & ~self.busy)]
        return m

    def _jobs(self, m: Module) -> None:
        """A job goes to distributor and sequencer, to each when it is free."""
        given = Signal()      # the distributor has it already
        to_distributor, to_sequencer = Signal(), Signal()
        m.d.comb += [to_distributor.eq(self.job.valid & ~given & ~self.distributor.busy),
                     to_sequencer.eq(self.job.valid & (given | to_distributor) & ~self.sequencer.busy),
                     self.job.ready.eq(to_sequencer)]
        with m.If(to_sequencer):
            m.d.sync += given.eq(0)
            self.sequencer.start(self.job.payload)
        with m.Elif(to_distributor):
            m.d.sync += given.eq(1)
        with m.If(to_distributor):
            self.distributor.start(self.job.payload)
        self.starts = to_distributor

    def _distribute(self, m: Module, results) -> None:
        """Channel scales to their queue, the words of each group to its column."""
        design, walk = self.design, self.distributor
        columns = design.array.columns
        column = Signal(range(columns))
        word = Signal(range(design.record_words))
        scales = Signal(init=int(design.channel_scale))      # the tile's scales come first
        take = Signal()
        m.d.comb += [take.eq(self.weight.valid & self.weight.ready)]
        if design.channel_scale:
            m.submodules.scales = queue = shared(Queue(32, _power(SCALES * columns)))
            m.d.comb += [queue.i.payload.eq(self.weight.payload[:32]),
                         queue.i.valid.eq(self.weight.valid & walk.busy & scales),
                         results.scale.payload.eq(queue.o.payload), results.scale.valid.eq(queue.o.valid),
                         queue.o.ready.eq(results.scale.ready)]
            scale_ready: Value = queue.i.ready
        else:
            scale_ready = Const(0, 1)
        room = Array([reader.room for reader in self.readers])[column]
        # Sizes of groups follow their length a cycle later.
        settled = Signal()
        m.d.sync += settled.eq(~self.starts)
        m.d.comb += self.weight.ready.eq(walk.busy & Mux(scales, scale_ready, room & settled))
        # Words of the group: by its type, which stands in its first word.
        kind = self._kind(m, word)
        final, planes = self._places(m, walk.length, kind)
        last_word = word == final
        last_column = column + 1 == walk.columns
        for c, reader in enumerate(self.readers):
            m.d.comb += [reader.word.eq(self.weight.payload), reader.last.eq(last_word), reader.planes.eq(planes),
                         reader.write.eq(take & ~scales & (column == c))]
        with m.If(take & scales):
            m.d.sync += column.eq(Mux(last_column, 0, column + 1))
            with m.If(last_column):
                m.d.sync += scales.eq(0)
        with m.Elif(take):
            m.d.sync += word.eq(Mux(last_word, 0, word + 1))
            with m.If(last_word):
                m.d.sync += column.eq(Mux(last_column, 0, column + 1))
                with m.If(last_column):
                    walk.next_group()
                    m.d.sync += settled.eq(~walk.changes)
                    if design.channel_scale:
                        with m.If(walk.last_group):
                            m.d.sync += scales.eq(1)

    def _kind(self, m: Module, word: Value) -> Value:
        fields = {f.name: f for f in self.design.layout.header}
        if "type" not in fields:
            return Const(0, 1)
        field, held = fields["type"], Signal(fields["type"].width, name="kind_held", reset_less=True)
        now = self.weight.payload[field.bit:field.bit + field.width]
        kind = Signal(field.width, name="kind")
        m.d.comb += kind.eq(Mux(word == 0, now, held))
        m.d.sync += held.eq(kind)
        return kind

    def _places(self, m: Module, length: Value, kind: Value) -> tuple[Signal, Signal]:
        """The last bus word of a group of ``length`` codes of a type, and the bytes where its planes begin; a cycle
        after the length."""
        layout, bus = self.design.layout, self.design.bus_bytes
        last, planes = Signal(range(self.design.record_words)), Signal(plane_layout(self.design))
        lasts: list[tuple[int, Signal]] = []
        begins: list[list[tuple[int, Signal]]] = [[] for _ in planes]

        def held(value: Value, like: Value, name: str) -> Signal:
            register = Signal(len(like), name=name, reset_less=True)
            m.d.sync += register.eq(value)
            return register

        for index, p in enumerate(layout.packings):
            size: Value = Const(layout.header_bytes)
            if p.trits:
                # Exact for lengths up to 1,024 + 4: (n + 4) * 3277 >> 14 is the quotient by five.
                size = size + (((length + 4) * 3277) >> 14)
            else:
                for plane, width in enumerate(p.planes):
                    if plane:
                        begins[plane - 1].append((index, held(size, planes[plane - 1], f"begin{index}_{plane}")))
                    size = size + ((length * width + 7) >> 3)
            lasts.append((index, held((size - 1) >> (bus - 1).bit_length(), last, f"last{index}")))
        for target, values in ((last, lasts), *zip(planes, begins, strict=True)):
            chosen: Value = values[-1][1]
            for index, value in reversed(values[:-1]):
                chosen = Mux(kind == index, value, chosen)
            m.d.comb += target.eq(chosen)
        return last, planes

    def _buffers(self, m: Module):
        """Two buffers of activations for each row: one is read, the other one filled."""
        design, array = self.design, self.design.array
        chunks = 1 << (design.k_chunks - 1).bit_length()
        level, fill, read = Signal(2), Signal(), Signal()
        row, at = Signal(range(array.rows)), Signal(range(chunks))
        counts = [Signal(range(chunks + 1), name=f"chunks{i}", reset_less=True) for i in range(2)]
        over = Signal()                                  # more chunks than a buffer holds have come
        take, done = Signal(), Signal()
        last_row = row == array.rows - 1
        m.d.comb += [self.activation.ready.eq(level != 2), take.eq(self.activation.valid & self.activation.ready)]
        with m.If(take):
            m.d.sync += row.eq(Mux(last_row | self.activation.payload.last, 0, row + 1))
            with m.If(last_row | self.activation.payload.last):
                m.d.sync += [at.eq(at + 1), over.eq(over | (at == chunks - 1))]
            with m.If(self.activation.payload.last):
                m.d.sync += [at.eq(0), fill.eq(~fill), over.eq(0)]
                for i in range(2):
                    with m.If(fill == i):
                        # A job that ends inside a chunk's rows is told apart by a count that no job has.
                        m.d.sync += counts[i].eq(Mux(last_row & ~over, at + 1, 0))
        with m.If(done):
            m.d.sync += read.eq(~read)
        m.d.sync += level.eq(level + (take & self.activation.payload.last) - done)
        address, en = Signal(range(chunks)), Signal()
        ports = []
        for r in range(array.rows):
            m.submodules[f"activations{r}"] = memory = Memory(shape=array.lanes * array.activation.bits,
                                                              depth=2 * chunks, init=[], attrs={"no_rw_check": 1})
            write, port = memory.write_port(), memory.read_port()
            m.d.comb += [write.addr.eq(Cat(at, fill)), write.data.eq(self.activation.payload.codes),
                         write.en.eq(take & (row == r)), port.addr.eq(Cat(address, read)), port.en.eq(en)]
            ports.append(port)
        have = Mux(read, counts[1], counts[0])
        return level != 0, (ports, address, en, done), have, take

    def _sequence(self, m: Module, results, ready: Value, buffer, have: Value, taken: Value) -> None:
        """Chunks of all columns, one after the other, to the array; and word of each emission to the results."""
        design, array, walk = self.design, self.design.array, self.sequencer
        ports, address, en, done = buffer
        lanes = array.lanes
        used = Signal(range(array.group + 1))          # weights of the group that have gone
        chunk = Signal.like(address, name="chunk")
        left = Signal(range(array.group + 1))
        m.d.comb += left.eq(walk.length - used)
        last_chunk = left <= lanes
        emits = last_chunk & (walk.last_group if array.sums_channel else Const(1, 1))
        full = Cat(~(c < walk.columns) | reader.full for c, reader in enumerate(self.readers)).all()
        # The visit tells the result stage; its queue has room for all that the array can have under way.
        m.submodules.visits = self.visits = visits = shared(Queue(
            visit_layout(design).size, _power(self.array.depth // array.rows + 4)))
        visit = Signal(visit_layout(design), name="visit")
        first_group = Signal(init=1)
        m.d.comb += [visit.rows.eq(walk.job.rows), visit.columns.eq(walk.columns), visit.first.eq(first_group),
                     visit.final.eq(walk.last_group), visit.last.eq(walk.last_group & walk.last_tile),
                     visits.i.payload.eq(visit.as_value()), results.visit.payload.eq(visits.o.payload),
                     results.visit.valid.eq(visits.o.valid), visits.o.ready.eq(results.visit.ready)]
        held = Signal()                                  # the register of a chunk is full
        room = ~held | self.inner.w.ready
        go = Signal()
        wanting = walk.busy & room
        m.d.comb += [go.eq(wanting & ready & full & (~emits | visits.i.ready)), visits.i.valid.eq(go & emits),
                     en.eq(go), address.eq(chunk)]
        with m.If(wanting & ~go):
            m.d.sync += self.starved.eq(self.starved + 1)
        with m.If(go):
            m.d.sync += held.eq(1)
        with m.Elif(self.inner.w.ready):
            m.d.sync += held.eq(0)
        word = Signal(self.array.signature.members["w"].signature.members["payload"].shape)
        held_word = Signal(data.StructLayout({name: word.shape()[name].shape for name in ("mask", "first", "last",
                                                                                           "emit", "groups")}),
                           name="held_word", reset_less=True)
        with m.If(go):
            m.d.sync += [held_word.mask.eq(Cat(lane < left for lane in range(lanes))), held_word.first.eq(used == 0),
                         held_word.last.eq(last_chunk), held_word.emit.eq(walk.last_group)]
        m.d.comb += [word[name].eq(held_word[name]) for name, _ in held_word.shape()]
        for c, reader in enumerate(self.readers):
            # A column that the tile does not have repeats column 0, as far as that decides how many steps chunks take.
            there, other = c < walk.columns, self.readers[0]
            window = Signal(window_layout(design), name=f"window{c}", reset_less=True)
            shown, group = reader.window.as_value(), reader.group.as_value()
            if array.zero_skip:
                shown, group = Mux(there, shown, other.window), Mux(there, group, other.group)
            m.submodules[f"codes{c}"] = codes = shared(CodeDecoder(design))
            m.d.comb += [codes.i.eq(window), codes.type.eq(held_word.groups[c].type),
                         word.codes[c].as_value().eq(codes.codes)]
            with m.If(go):
                m.d.sync += [window.eq(shown), held_word.groups[c].eq(group),
                             held_word.groups[c].type.eq(Mux(there, reader.group.type, other.group.type))]
        for c, reader in enumerate(self.readers):
            there = c < walk.columns
            m.d.comb += [reader.next.eq(go & ~last_chunk & there), reader.done.eq(go & last_chunk & there)]
        with m.If(go):
            m.d.sync += [used.eq(Mux(last_chunk, 0, used + lanes)), chunk.eq(chunk + 1)]
            with m.If(last_chunk):
                m.d.sync += first_group.eq(walk.last_group)
                walk.next_group()
                with m.If(walk.last_group):
                    m.d.sync += chunk.eq(0)
                    with m.If(chunk + 1 != have):
                        m.d.sync += self.mismatch.eq(1)
        m.d.comb += done.eq(go & last_chunk & walk.last_group & walk.last_tile)
        m.d.comb += [self.inner.w.valid.eq(held), self.inner.a.valid.eq(held), self.inner.w.payload.eq(word)]
        m.d.comb += [self.inner.a.payload[r].as_value().eq(port.data) for r, port in enumerate(ports)]
