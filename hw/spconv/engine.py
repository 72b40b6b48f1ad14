# amaranth: UnusedElaboratable=no
"""The sparse-convolution engine: jobs in a row, each a cloud, a convolution or a tensor that leaves.

::

    voxel ─► MapUnit ─items─► TileOrder (RowOrder) ─work─► GatherMac ─sums─► RowOutput ─┐
      kept │                     │ demands, grants            ▲ ▲                       │
           ▼                  WeightCache ─► WeightLoader ────┘ │ codes, masks          │
    feature ─► FeatureLoader ─────────────── request, weight    │                       │
                     └────────────────────────────────► FeatureStore ◄──────────────────┘
                                                            └────► FeatureReader ─► o

A convolution makes one pass over its map for each `outputs` output channels. The map is searched anew in every pass:
that costs no cycles, since it comes faster than its pairs are multiplied, and no memory.
"""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv_core import KINDS, OPS, TAG_BITS, SpConvDesign
from bitkiln.models.design.spconv_registers import COUNTERS, SPCONV_ERRORS

from ..dequant.queue import Queue
from .cache import WeightCache, fetch_layout
from .features import FeatureStore
from .gather import GatherMac
from .jobs import job_layout
from .layouts import voxel_layout
from .loader import FeatureLoader, FeatureReader, WeightLoader, request_layout
from .maps import MapUnit
from .order import RowOrder, TileOrder
from .output import RowOutput
from .weights import WeightStore

__all__ = ["SpConvEngine"]

LOAD, CONVOLVE, STORE = range(len(KINDS))
SUBMANIFOLD, DOWN2, INVERSE2, GENERATIVE2, STRIDE3 = range(len(OPS))
COUNTER_BITS = 32


class SpConvEngine(wiring.Component):
    """Runs jobs one after the other.

    Parameters
    ----------
    design : SpConvDesign

    Members
    -------
    job : In(stream of job_layout)
        Waits for room in the queue.
    voxel : In(stream of voxel_layout)
        Of a load.
    feature : In(stream of feature_bits)
        Words of its voxels, each voxel's in turn (also of those that are not kept).
    request : Out(stream of request_layout); weight : In(stream of weight_bits)
        Records and weight tiles, in the order in which they were asked for.
    o : Out(stream of {data, mask, last})
        Rows of a store; of none, one word with ``mask`` 0.
    blocked : In(1)
        Jobs other than loads are dropped: an error waits to be seen.
    busy : Out(1), queued : Out(8), tag : Out(16)
    finished : Out(1)
        A job ends in this cycle (also one that is dropped).
    failed : Out(1), problem : Out(8)
        The job that ends has an error: its code.
    invalid : Out(1)
        A sum that is no number met a format without one.
    count_level, count_tree : In; count : Out
        Nodes of a level of a tree.
    clear_counters : In(1)
    Others : Out(32)
        Counters, as of the register map.
    """

    def __init__(self, design: SpConvDesign):
        self.design = design
        reader = FeatureReader(design)
        super().__init__({
            "job": In(stream.Signature(job_layout(design))), "voxel": In(stream.Signature(voxel_layout())),
            "feature": In(stream.Signature(design.feature_bits)),
            "request": Out(stream.Signature(request_layout())), "weight": In(stream.Signature(design.weight_bits)),
            "o": reader.signature.members["o"], "blocked": In(1), "busy": Out(1), "queued": Out(8),
            "tag": Out(TAG_BITS), "finished": Out(1), "failed": Out(1), "problem": Out(8), "invalid": Out(1),
            "count_level": In(8), "count_tree": In(1), "count": Out(24), "clear_counters": In(1),
            **{name.lower(): Out(COUNTER_BITS) for name in COUNTERS}})
        self.reader = reader

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_engine"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, g = self.design, self.design.gather
        m.submodules.queue = queue = Queue(job_layout(design), design.queue)
        m.submodules.maps = self.maps = maps = MapUnit(design.map, design.trees)
        m.submodules.features = self.features = FeatureStore(g)
        m.submodules.weights = self.weights = WeightStore(g)
        m.submodules.gather = self.gather = GatherMac(g)
        m.submodules.output = self.output = RowOutput(design)
        m.submodules.cache = self.cache = WeightCache(design.cache)
        m.submodules.loader = self.loader = FeatureLoader(design)
        m.submodules.reader = self.reader
        m.submodules.weight_loader = self.fetcher = WeightLoader(design, fetch_layout(design.cache))
        order = (RowOrder if g.pack == "row" else TileOrder)(design.map, design.cache, g)
        m.submodules.order = self.order = order
        wiring.connect(m, wiring.flipped(self.job), queue.i)
        wiring.connect(m, self.reader.o, wiring.flipped(self.o))
        self.running = job = queue.o.payload

        # One job at a time.
        taken, built, moved = Signal(), Signal(), Signal()      # of a load: voxels, tree, features
        part, group = Signal(8), Signal(8)
        nothing, load, begin = Signal(), Signal(), Signal()
        done, error = Signal(), Signal(8)
        m.d.comb += [self.queued.eq(queue.level), self.tag.eq(job.tag), self.busy.eq(queue.o.valid),
                     self.finished.eq(done), queue.o.ready.eq(done), self.failed.eq(done & (error != 0)),
                     self.problem.eq(error), nothing.eq(self._rows(job) == 0)]
        with m.FSM():
            with m.State("idle"):
                # A load still takes its voxels, so that the next one finds its own.
                with m.If(queue.o.valid & self.blocked & (job.kind != LOAD)):
                    m.d.comb += done.eq(1)
                with m.Elif(queue.o.valid):
                    m.d.sync += [part.eq(0), group.eq(job.target.group)]
                    with m.If(job.kind == LOAD):
                        m.d.comb += load.eq(1)
                        m.d.sync += [taken.eq(0), built.eq(0), moved.eq(0)]
                        m.next = "load"
                    with m.Elif(job.kind == STORE):
                        m.d.comb += self.reader.start.eq(1)
                        m.next = "store"
                    with m.Elif(nothing):
                        m.d.comb += done.eq(1)
                    with m.Else():
                        m.next = "pass"
            with m.State("load"):
                m.d.comb += maps.loading.eq(1)
                m.d.sync += [built.eq(maps.built), moved.eq(moved | self.loader.finished)]
                with m.If(self.voxel.valid & self.voxel.ready & self.voxel.payload.last):
                    m.d.sync += taken.eq(1)
                with m.If(taken & built & moved):
                    m.d.comb += [done.eq(1), error.eq(
                        Mux(maps.unsorted, SPCONV_ERRORS["unsorted"], Mux(
                            maps.overflow, SPCONV_ERRORS["overflow"], Mux(
                                maps.rejected, SPCONV_ERRORS["rejected"], 0))))]
                    m.next = "idle"
            with m.State("pass"):
                m.d.comb += begin.eq(1)
                m.next = "run"
            with m.State("run"), m.If(self.output.finished):
                m.next = "next"
            # Pinned tiles that no pair needed may still be on their way.
            with m.State("next"), m.If(~self.cache.busy):
                m.d.sync += [part.eq(part + 1), group.eq(group + design.words_per_pass)]
                m.next = "pass"
                with m.If(part + 1 == job.passes):
                    m.d.comb += done.eq(1)
                    m.next = "idle"
            with m.State("store"), m.If(~self.reader.busy):
                m.d.comb += done.eq(1)
                m.next = "idle"
        self._load(m, job, load, maps.loading & ~taken)
        self._convolve(m, job, begin, part, group)
        self._memory(m, job)
        self._counters(m)
        return m

    def _rows(self, job) -> Value:
        """Output rows of a convolution; zero means zero."""
        up = (job.op == DOWN2) | (job.op == STRIDE3)
        return self._count(Mux(job.cross, 0, job.level + up), job.tree ^ job.cross)

    def _count(self, level: Value, tree: Value) -> Value:
        depth = self.design.map.depth
        counts = [Array([self.maps.counts[at][each] for each in range(depth + 1)])[level]
                  for at in range(self.design.trees)]
        return Mux(tree, counts[1], counts[0]) if len(counts) > 1 else counts[0]

    def _load(self, m: Module, job, load: Value, takes: Value) -> None:
        maps, loader = self.maps, self.loader
        m.d.comb += [maps.load.eq(load), loader.start.eq(load), loader.groups.eq(job.in_groups),
                     loader.tensor.eq(job.target), maps.tree.eq(job.tree), maps.strict.eq(job.strict),
                     maps.batches.eq(job.batches), maps.voxel.payload.eq(self.voxel.payload),
                     maps.voxel.valid.eq(self.voxel.valid & takes), self.voxel.ready.eq(maps.voxel.ready & takes),
                     *[getattr(maps, f"shape_{axis}").eq(getattr(job, f"shape_{axis}")) for axis in "xyz"],
                     self.count.eq(self._count(self.count_level, self.count_tree))]
        wiring.connect(m, maps.kept, loader.kept)
        wiring.connect(m, wiring.flipped(self.feature), loader.i)

    def _convolve(self, m: Module, job, begin: Value, part: Value, group: Value) -> None:
        maps, order, cache, fetcher, output = self.maps, self.order, self.cache, self.fetcher, self.output
        g, gather = self.design.gather, self.gather
        m.d.comb += [
            maps.start.eq(begin), maps.op.eq(job.op), maps.level.eq(job.level), maps.cross.eq(job.cross),
            cache.start.eq(begin), cache.pinned.eq(job.pinned), fetcher.start.eq(begin), fetcher.part.eq(part),
            fetcher.tag.eq(job.tag), fetcher.channels.eq(job.in_groups * g.lanes),
            cache.i_loaded.valid.eq(fetcher.loaded), cache.released.eq(gather.released),
            output.tensor.base.eq(job.target.base), output.tensor.stride.eq(job.target.stride),
            output.tensor.group.eq(group), output.tensor.mask.eq(job.target.mask), output.clamp.eq(job.clamp),
            output.clamp_low.eq(job.clamp_low), output.clamp_high.eq(job.clamp_high),
            output.record_write.eq(fetcher.record_write), output.record_at.eq(fetcher.record_at),
            output.record.eq(fetcher.record), self.invalid.eq(output.invalid),
            gather.groups.eq(job.in_groups), gather.in_base.eq(job.source.base),
            gather.in_stride.eq(job.source.stride), gather.mask_base.eq(job.source.mask),
        ]
        wiring.connect(m, maps.item, order.i)
        wiring.connect(m, order.o, gather.i)
        wiring.connect(m, gather.o, output.i)
        wiring.connect(m, cache.o_fetch, fetcher.fetch)
        wiring.connect(m, fetcher.request, wiring.flipped(self.request))
        wiring.connect(m, wiring.flipped(self.weight), fetcher.i)
        if g.pack == "row":
            m.d.comb += [order.start.eq(begin), order.pinned.eq(job.pinned), order.resident.eq(cache.resident)]
        else:
            wiring.connect(m, order.o_demand, cache.i_demand)
            wiring.connect(m, cache.o, order.i_grant)

    def _memory(self, m: Module, job) -> None:
        """Who reads and writes features; loads, convolutions and stores never overlap."""
        features, weights, gather, fetcher = self.features, self.weights, self.gather, self.fetcher
        loader, output, reader, g = self.loader, self.output, self.reader, self.design.gather
        put = Mux(output.write, output.feature.as_value(), loader.feature.as_value())
        feature = Signal.like(output.feature, name="feature_write")
        m.d.comb += [feature.as_value().eq(put), features.write_en.eq(output.write | loader.write),
                     features.write_word.eq(feature.word), features.write_codes.eq(feature.codes),
                     features.write_row.eq(feature.row), features.write_group.eq(feature.group)]
        stores = job.kind == STORE
        m.d.comb += [features.mask_en.eq(gather.mask_en), features.mask_row.eq(gather.mask_row),
                     gather.mask.eq(features.mask), gather.features.eq(features.codes),
                     features.read_en.eq(Mux(stores, reader.read.replicate(g.lanes), gather.read_en)),
                     reader.data.eq(features.codes.as_value()), reader.groups.eq(job.in_groups),
                     reader.rows.eq(job.rows), reader.tensor.eq(job.source)]
        m.d.comb += [features.read_word[lane].eq(Mux(stores, reader.address, gather.read_word[lane]))
                     for lane in range(g.lanes)]
        m.d.comb += [weights.write_en.eq(fetcher.weight_write), weights.write_lane.eq(fetcher.weight_lane),
                     weights.write_address.eq(fetcher.weight_slot * g.groups + fetcher.weight_group),
                     weights.write_codes.as_value().eq(fetcher.weight_codes), weights.read_en.eq(gather.weight_en),
                     weights.read_address.eq(gather.read_weight), gather.weights.eq(weights.codes)]

    def _counters(self, m: Module) -> None:
        maps, gather, cache = self.maps, self.gather, self.cache
        clear = self.clear_counters
        m.d.comb += [gather.clear.eq(clear), self.pairs.eq(gather.items), self.empty.eq(gather.dropped),
                     self.issued.eq(gather.issued), self.skipped.eq(gather.skipped), self.idle.eq(gather.idle)]
        for counter, event in ((self.cycles, self.busy), (self.search, maps.searching),
                               (self.voxels, self.voxel.valid & self.voxel.ready & self.voxel.payload.mask)):
            m.d.sync += counter.eq(Mux(clear, 0, counter + event))
        # Those of the map unit and of the cache begin anew with every cloud and every pass.
        for counter, now, anew in ((self.dropped, maps.dropped, maps.load),
                                   (self.duplicates, maps.duplicates, maps.load),
                                   (self.pinned, cache.pinned_hits, cache.start),
                                   (self.buffered, cache.buffer_hits, cache.start),
                                   (self.fetched, cache.fetches, cache.start)):
            before = Signal(COUNTER_BITS, name=f"before_{counter.name}")
            m.d.comb += counter.eq(before + now)
            with m.If(clear):
                m.d.sync += before.eq(-now)
            with m.Elif(anew):
                m.d.sync += before.eq(counter)
