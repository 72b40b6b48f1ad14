# amaranth: UnusedElaboratable=no
"""Features into memory and out of it, weights and records into theirs."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv_core import RECORDS_REQUEST, REQUEST_FIELDS, TAG_BITS, SpConvDesign

from ..dequant.queue import Queue
from ..emit import shared
from .layouts import bits, kept_layout
from .output import feature_write_layout, record_layout, tensor_layout

__all__ = ["FeatureLoader", "FeatureReader", "WeightLoader", "request_layout", "word_stream_layout"]


def request_layout() -> data.StructLayout:
    """What the core asks of the memory behind: the weight tile of offset ``k`` in pass ``part`` of job ``tag``.

    ``k`` `RECORDS_REQUEST`: the records of the pass. Weights of a tile come channel by channel, ``outputs`` codes a
    beat; records one a beat, {bias, scale, shift in 32 bits, 0}.
    """
    return data.StructLayout(REQUEST_FIELDS)


def word_stream_layout(design: SpConvDesign) -> data.StructLayout:
    """One word of features on a stream of features; ``last`` ends a tensor."""
    return data.StructLayout({"data": design.feature_bits, "last": 1})


class FeatureLoader(wiring.Component):
    """Features of the voxels that were kept, to rows 0, 1, ... of a tensor; those of others are dropped.

    Every item of the stream of voxels has ``groups`` words, also one that is no voxel (``mask`` 0).

    Members
    -------
    start : In(1)
        In the cycle before the first voxel.
    groups : In(8)
        Words of a voxel; 0: there are no features.
    tensor : In(tensor_layout)
    kept : In(stream of kept_layout)
    i : In(stream of words)
    write : Out(1), feature : Out(feature_write_layout)
    finished : Out(1)
        In the cycle after all of the last voxel was taken.
    """

    def __init__(self, design: SpConvDesign):
        self.design = design
        super().__init__({"start": In(1), "groups": In(8), "tensor": In(tensor_layout(design)),
                          "kept": In(stream.Signature(kept_layout(design.map))),
                          "i": In(stream.Signature(design.feature_bits)), "write": Out(1),
                          "feature": Out(feature_write_layout(design)), "finished": Out(1)})

    @property
    def module_name(self) -> str:
        return f"feature_loader_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        g, kept = self.design.gather, self.kept.payload
        group, word, row = Signal(8), Signal(tensor_layout(self.design)["base"].shape), Signal(
            tensor_layout(self.design)["mask"].shape)
        # Where there are no features a voxel passes at once.
        real, ends, moves, bare = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [bare.eq(self.groups == 0), ends.eq(bare | (group + 1 == self.groups)),
                     real.eq(self.kept.valid & ~bare), self.i.ready.eq(real), moves.eq(self.kept.valid & (
                         bare | self.i.valid)), self.kept.ready.eq(ends & moves),
                     self.write.eq(real & self.i.valid & kept.keep),
                     self.feature.word.eq(word + group), self.feature.codes.as_value().eq(self.i.payload),
                     self.feature.row.eq(row), self.feature.group.eq(group)]
        assert g.lanes * g.activation.bits <= self.design.feature_bits
        m.d.sync += self.finished.eq(self.kept.ready & self.kept.valid & kept.last)
        with m.If(self.start):
            m.d.sync += [group.eq(0), word.eq(self.tensor.base), row.eq(self.tensor.mask)]
        with m.Elif(moves):
            m.d.sync += group.eq(group + 1)
            with m.If(ends):
                m.d.sync += group.eq(0)
                with m.If(kept.keep):
                    m.d.sync += [word.eq(word + self.tensor.stride), row.eq(row + 1)]
        return m


class FeatureReader(wiring.Component):
    """Rows 0, 1, ... of a tensor out of memory, one word a cycle.

    Members
    -------
    start : In(1); busy : Out(1)
    groups : In(8), rows : In
        Words of a row, and rows; none give one word with ``mask`` 0.
    tensor : In(tensor_layout)
    read : Out(1), address : Out
        The word one edge later, in ``data`` (all lanes).
    data : In(feature_bits)
    o : Out(stream of {data, mask, last})
    """

    def __init__(self, design: SpConvDesign):
        self.design = design
        self.row_bits = design.map.out_bits + 1
        beat = data.StructLayout({"data": design.feature_bits, "mask": 1, "last": 1})
        super().__init__({"start": In(1), "busy": Out(1), "groups": In(8), "rows": In(self.row_bits),
                          "tensor": In(tensor_layout(design)), "read": Out(1),
                          "address": Out(tensor_layout(design)["base"].shape), "data": In(design.feature_bits),
                          "o": Out(stream.Signature(beat))})

    @property
    def module_name(self) -> str:
        return f"feature_reader_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        beat = self.o.payload.shape()
        m.submodules.queue = queue = shared(Queue(beat, 4))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        running, came, mask, last = Signal(), Signal(), Signal(), Signal()
        group, row = Signal(8), Signal(self.row_bits)
        base = Signal(tensor_layout(self.design)["base"].shape)
        # At most one word is on its way: room for it and for the next.
        goes, ends, empty = Signal(), Signal(), Signal()
        m.d.comb += [empty.eq(self.rows == 0), goes.eq(running & (queue.level < 3)),
                     ends.eq(empty | ((group + 1 == self.groups) & (row + 1 == self.rows))),
                     self.read.eq(goes), self.address.eq(base + group),
                     queue.i.valid.eq(came), queue.i.payload.data.eq(self.data), queue.i.payload.mask.eq(mask),
                     queue.i.payload.last.eq(last), self.busy.eq(running | came | queue.o.valid)]
        m.d.sync += [came.eq(goes), mask.eq(~empty), last.eq(ends)]
        with m.If(self.start):
            m.d.sync += [running.eq(1), group.eq(0), row.eq(0), base.eq(self.tensor.base)]
        with m.Elif(goes):
            m.d.sync += group.eq(group + 1)
            with m.If(group + 1 == self.groups):
                m.d.sync += [group.eq(0), row.eq(row + 1), base.eq(base + self.tensor.stride)]
            with m.If(ends):
                m.d.sync += running.eq(0)
        return m


class WeightLoader(wiring.Component):
    """Asks for records and weight tiles, and writes what comes.

    Members
    -------
    start : In(1)
        Ask for the records of a pass and take them before any tile.
    part : In(8), tag : In, channels : In
        Of the pass; input channels of a tile.
    fetch : In(stream of {k, slot})
        Tiles that the cache wants.
    loaded : Out(1)
        The oldest tile that was asked for is complete (the cycle of its last write).
    ready : Out(1)
        The records are there.
    request : Out(stream of request_layout)
    i : In(stream of weight_bits)
    record_write, record_at, record : Out
    weight_write : Out(1), weight_lane, weight_slot, weight_group : Out, weight_codes : Out
    """

    def __init__(self, design: SpConvDesign, fetch_layout):
        self.design, self.fetch_layout = design, fetch_layout
        g = design.gather
        self.channel_bits = g.channels.bit_length()
        super().__init__({
            "start": In(1), "part": In(8), "tag": In(TAG_BITS), "channels": In(self.channel_bits),
            "fetch": In(stream.Signature(fetch_layout)), "loaded": Out(1), "ready": Out(1),
            "request": Out(stream.Signature(request_layout())), "i": In(stream.Signature(design.weight_bits)),
            "record_write": Out(1), "record_at": Out(bits(g.outputs)), "record": Out(record_layout()),
            "weight_write": Out(1), "weight_lane": Out(bits(g.lanes)), "weight_slot": Out(bits(g.weight_tiles)),
            "weight_group": Out(bits(g.groups)), "weight_codes": Out(g.outputs * g.weight.bits)})

    @property
    def module_name(self) -> str:
        return f"weight_loader_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        g = self.design.gather
        lane_bits = (g.lanes - 1).bit_length()
        m.submodules.waiting = waiting = shared(Queue(len(self.weight_slot), 2))
        asked, taking = Signal(init=1), Signal()    # the records were asked for; they come
        count = Signal(range(max(g.channels, g.outputs)))
        request = self.request.payload
        m.d.comb += [request.part.eq(self.part), request.tag.eq(self.tag), self.ready.eq(asked & ~taking)]
        with m.If(~asked):
            m.d.comb += [self.request.valid.eq(1), request.k.eq(RECORDS_REQUEST)]
            with m.If(self.request.ready):
                m.d.sync += asked.eq(1)
        with m.Else():
            # A request leaves with its place in the queue, or not at all.
            m.d.comb += [self.request.valid.eq(self.fetch.valid & waiting.i.ready), request.k.eq(self.fetch.payload.k),
                         self.fetch.ready.eq(self.request.ready & waiting.i.ready),
                         waiting.i.valid.eq(self.fetch.valid & self.request.ready),
                         waiting.i.payload.eq(self.fetch.payload.slot)]
        tile, last = Signal(), Signal()
        m.d.comb += [tile.eq(waiting.o.valid & ~taking), self.i.ready.eq(taking | tile),
                     last.eq(count + 1 == Mux(taking, g.outputs, self.channels)),
                     self.record_write.eq(taking & self.i.valid), self.record_at.eq(count),
                     self.record.bias.eq(self.i.payload[:32]), self.record.scale.eq(self.i.payload[32:64]),
                     self.record.shift.eq(self.i.payload[64:70]),
                     self.weight_write.eq(tile & self.i.valid), self.weight_lane.eq(count[:lane_bits]),
                     self.weight_group.eq(count[lane_bits:]), self.weight_slot.eq(waiting.o.payload),
                     self.weight_codes.eq(self.i.payload), self.loaded.eq(self.weight_write & last),
                     waiting.o.ready.eq(self.loaded)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += count.eq(count + 1)
            with m.If(last):
                m.d.sync += [count.eq(0), taking.eq(0)]
        with m.If(self.start):
            m.d.sync += [asked.eq(0), taking.eq(1), count.eq(0)]
        return m

