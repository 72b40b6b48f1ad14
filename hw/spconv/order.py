# amaranth: UnusedElaboratable=no
"""Order of work: pairs of a tile of output rows by kernel offset, so that each weight tile is needed once.

::

             ┌──► ring of each offset: {in, row, first, final} ────────────────────────────┐
    i item ──┼──► rows of the tile: out                                                    │
             └──► offsets of the tile ──► lowest first ──► waiting ──► and its slot ──► pair by pair ──► o work
                                              └─► o_demand {k} ─► WeightCache ─► i_grant ─┘

Pairs come row by row and leave offset by offset; within an offset rows ascend, so each ring has them in order and
nothing is sorted. The next tiles come in while one leaves, as far as the rings go: each has room for the pairs of two
tiles, and few offsets have a pair in every row, so in time long tiles make up for short ones. Demands for weights leave
as soon as a tile is complete, while the pairs before them are still under way.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import KERNEL_OFFSETS, OFFSET_BITS, CacheDesign, GatherDesign, MapDesign
from bitkiln.models.errors import BitkilnError

from ..dequant.queue import Queue
from .cache import COUNTER_BITS, PinTable, demand_layout, grant_layout
from .layouts import item_layout, work_layout

__all__ = ["RowOrder", "TileOrder"]

# The list of what needs no weights: rows without pairs, and the end of a job that ends with no row.
NO_WEIGHTS = KERNEL_OFFSETS
LISTS = KERNEL_OFFSETS + 1
WAITING = 32        # offsets whose lists have not begun to leave
# Never read where it is written in the same cycle, so Yosys need not make that give the old value.
APART = {"no_rw_check": 1}


def _checked(items: MapDesign, cache: CacheDesign, gather: GatherDesign | None, slots: int) -> GatherDesign:
    if gather is None:
        pack = {"pack": "item", "slots": slots} if slots > 1 else {"pack": "row", "slots": 1}
        gather = GatherDesign(weight_tiles=cache.slots, index_bits=cache.index_bits, **pack)
    for where, got, expected in (("map.index_bits", items.index_bits, cache.index_bits),
                                 ("gather.index_bits", gather.index_bits, cache.index_bits),
                                 ("gather.slots", gather.slots, slots),
                                 ("gather.weight_tiles", gather.weight_tiles, cache.slots)):
        if got != expected:
            raise BitkilnError("parts do not fit", where=where, got=got, expected=f"{expected}, as of the cache")
    return gather


def _lowest(bits: list[Value]) -> tuple[Value, list[Value]]:
    """Whether any bit is set, and the number of the lowest one, least significant bit first; a power of two."""
    if len(bits) == 1:
        return bits[0], []
    half = len(bits) // 2
    (low, low_at), (high, high_at) = _lowest(bits[:half]), _lowest(bits[half:])
    return low | high, [*(Mux(low, a, b) for a, b in zip(low_at, high_at, strict=True)), ~low]


class TileOrder(wiring.Component):
    """Pairs by (tile, offset, row).

    One item in and one out each cycle; a tile's first work item leaves `latency` cycles after its last item came in, if
    nothing is before it. `models.cost.spconv.tile_order` has the exact cycles. After a reset nothing is taken for 32
    cycles.

    Parameters
    ----------
    items : MapDesign
        Of the items.
    cache : CacheDesign
        ``tile_rows`` and the answers.
    gather : GatherDesign, optional
        Of the work items: ``slots`` is ``tile_rows``, ``weight_tiles`` is ``cache.slots``.

    Members
    -------
    i : In(stream of item_layout)
        A row without pairs is an item without ``pair``, with ``row_last``. One without ``row_last`` only ends the job.
    o_demand : Out(stream of demand_layout); i_grant : In(stream of grant_layout)
        One for each tile and offset used in it, and its answer.
    o : Out(stream of work_layout)
        ``slot``: row within the tile. Rows without pairs come last in their tile, once, with ``first`` and ``final``.
        ``release``: last pair of its offset in the tile.
    busy : Out(1)
    waits : Out(32)
        Cycles, until reset, in which pairs could have left and their weights were not there (one where only the
        cache's own latency shows).
    """

    latency = 8

    def __init__(self, items: MapDesign, cache: CacheDesign, gather: GatherDesign | None = None):
        self.items, self.design = items, cache
        self.gather = _checked(items, cache, gather, cache.tile_rows)
        super().__init__({"i": In(stream.Signature(item_layout(items))), "busy": Out(1), "waits": Out(COUNTER_BITS),
                          "o_demand": Out(stream.Signature(demand_layout())),
                          "i_grant": In(stream.Signature(grant_layout(cache))),
                          "o": Out(stream.Signature(work_layout(self.gather)))})

    @property
    def module_name(self) -> str:
        return f"tile_order_{self.design.slots}_t{self.design.tile_rows}_a{self.design.index_bits}" \
               f"_l{self.items.level_bits}"

    @property
    def parameters(self) -> dict:
        return {"tile_rows": self.design.tile_rows, "slots": self.design.slots, "index_bits": self.design.index_bits,
                "level_bits": self.items.level_bits}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        row_bits, ring_bits = (design.tile_rows - 1).bit_length(), (design.ring - 1).bit_length()
        self.word = data.StructLayout({"in": design.index_bits, "row": row_bits, "first": 1, "final": 1})
        m.submodules.waiting = waiting = Queue(data.StructLayout(
            {"k": OFFSET_BITS, "start": ring_bits, "more": row_bits, "bare": 1, "ends": 1, "last": 1}), WAITING)
        pairs = Memory(shape=self.word.size, depth=design.ring << OFFSET_BITS, init=[], attrs=APART)
        outs = Memory(shape=self.items.out_bits, depth=design.open_tiles * design.tile_rows, init=[], attrs=APART)
        m.submodules.pairs, m.submodules.outs = pairs, outs
        # Of each ring the place that was read last, and the one to be written next: equal when it is full.
        heads, tails = (Memory(shape=ring_bits, depth=1 << OFFSET_BITS, init=[]) for _ in range(2))
        m.submodules.heads, m.submodules.tails = heads, tails
        # First and last place of each list, of the tile that comes in and of the one before.
        self.bounds = [Memory(shape=ring_bits, depth=2 << OFFSET_BITS, init=[]) for _ in range(2)]
        m.submodules.starts, m.submodules.ends = self.bounds
        # Complete tiles; one is read to its end; cycles since the reset, in which all rings become empty.
        self.complete, self.gone = Signal(range(design.open_tiles)), Signal()
        self.fresh = Signal(OFFSET_BITS + 1)
        m.d.sync += self.fresh.eq(self.fresh + ~self.fresh[-1])
        self._take(m, pairs.write_port(), outs.write_port(), heads, tails)
        self._scan(m, waiting.i)
        active = self._give(m, waiting.o, pairs.read_port(), outs.read_port(), heads.write_port())
        m.d.comb += self.busy.eq(self.inside | self.complete.any() | active | self.o.valid)
        return m

    def _take(self, m: Module, pairs, outs, heads: Memory, tails: Memory) -> None:
        """Items into the rings."""
        design, item, fresh = self.design, self.i.payload, self.fresh[-1]
        tile, row, begun = Signal(range(design.open_tiles)), Signal(self.word["row"].width), Signal()
        take, row_ends, ends, k = Signal(), Signal(), Signal(), Signal(OFFSET_BITS)
        # Offsets used in the tile; with `whole` that is complete, and the scanner has not yet taken them.
        self.used, self.whole, self.job_ends = Signal(LISTS), Signal(), Signal(reset_less=True)
        self.idle, self.scan, self.bank, self.inside = Signal(), Signal(), tile[0], begun | self.used.any()
        put, self.stalled = Signal(), Signal()
        # One tile comes in, and of one more the last pair may still be on its way out.
        most = design.open_tiles - 2
        m.d.comb += [
            self.i.ready.eq(~self.stalled & (~self.whole | self.idle) & (self.complete != most) & fresh),
            take.eq(self.i.valid & self.i.ready), k.eq(Mux(item.pair, item.k, NO_WEIGHTS)),
            row_ends.eq(item.row_last | item.last),
            ends.eq(item.last | (item.row_last & (row == design.tile_rows - 1))),
            # Again and again until the row is complete.
            outs.en.eq(1), outs.addr.eq(Cat(row, tile)), outs.data.eq(item.out)]
        with m.If(take):
            m.d.sync += [self.used.eq(Mux(self.whole, 0, self.used) | (1 << k)[:LISTS]), self.whole.eq(ends),
                         begun.eq(~row_ends), row.eq(Mux(ends, 0, row + item.row_last)), tile.eq(tile + ends)]
            with m.If(ends):
                m.d.sync += self.job_ends.eq(item.last)
        with m.Elif(self.scan):
            m.d.sync += [self.used.eq(0), self.whole.eq(0)]
        m.d.sync += self.complete.eq(self.complete + (take & ends) - self.gone)

        # A cycle later into its ring. Stalled: that is full, or would be if the item before takes the last place, which
        # the next cycle tells. Then it has pairs of complete tiles, so it will have room.
        of, bank, more = (Signal(bits, reset_less=True) for bits in (OFFSET_BITS, 1, 1))
        word, real = Signal(self.word, reset_less=True), item.pair | item.row_last
        with m.If(~self.stalled):
            m.d.sync += [put.eq(take), of.eq(k), bank.eq(self.bank), more.eq(self.used.bit_select(k, 1) & ~self.whole),
                         word["in"].eq(item["in"]), word.row.eq(row), word.first.eq(~begun & real),
                         word.final.eq(row_ends & real)]
        head, behind, tail = heads.read_port(domain="comb"), *(tails.read_port(domain="comb") for _ in range(2))
        write, goes, look, room = tails.write_port(), Signal(), Mux(self.stalled, of, k), Signal(len(tail.data))
        m.d.comb += [head.addr.eq(look), behind.addr.eq(look), room.eq(head.data - behind.data),
                     goes.eq(put & ~self.stalled), tail.addr.eq(of), write.en.eq(goes | ~fresh),
                     write.addr.eq(Mux(fresh, of, self.fresh)), write.data.eq(Mux(fresh, tail.data + 1, 0)),
                     # The place of the tail is always free.
                     pairs.en.eq(put), pairs.addr.eq(Cat(tail.data, of)), pairs.data.eq(word)]
        m.d.sync += self.stalled.eq((room[1:] == 0) & Mux(self.stalled, ~room[0], take))
        for places, when in zip(self.bounds, (goes & ~more, goes), strict=True):
            write = places.write_port()
            m.d.comb += [write.addr.eq(Cat(of, bank)), write.data.eq(tail.data), write.en.eq(when)]

    def _scan(self, m: Module, waiting) -> None:
        """Offsets of a complete tile, lowest first: one demand each."""
        demand, left, bank, last = self.o_demand, Signal(LISTS), Signal(reset_less=True), Signal(reset_less=True)
        some, lowest = _lowest([*left, *[Const(0, 1)] * ((1 << OFFSET_BITS) - LISTS)])
        found, k, step = Signal(), Signal(OFFSET_BITS, reset_less=True), Signal()
        start, end = (places.read_port(domain="comb") for places in self.bounds)
        bare, entry = k == NO_WEIGHTS, waiting.payload
        m.d.comb += [
            start.addr.eq(Cat(k, bank)), end.addr.eq(Cat(k, bank)), demand.payload.k.eq(k),
            demand.valid.eq(found & waiting.ready & ~bare), waiting.valid.eq(found & (demand.ready | bare)),
            entry.k.eq(k), entry.start.eq(start.data), entry.more.eq(end.data - start.data), entry.bare.eq(bare),
            entry.ends.eq(~some), entry.last.eq(last), step.eq(~found | (waiting.valid & waiting.ready)),
            self.idle.eq(~some & step), self.scan.eq(self.whole & self.idle & ~self.stalled)]
        with m.If(self.scan):
            m.d.sync += [left.eq(self.used), bank.eq(~self.bank), last.eq(self.job_ends)]
        with m.Elif(step):
            m.d.sync += left.eq(left & (left - 1))
        with m.If(step):
            m.d.sync += [found.eq(some), k.eq(Cat(*lowest))]

    def _give(self, m: Module, waiting, pairs, outs, heads) -> Value:
        """Lists, pair by pair, each when its weights are there. Returns whether one is under way."""
        o, grant, entry, fresh = self.o, self.i_grant, waiting.payload, self.fresh[-1]
        weight_bits = len(grant.payload.slot)
        active, tile = Signal(), Signal(range(self.design.open_tiles))
        now, at = Signal(entry.shape(), reset_less=True), Signal(len(heads.data), reset_less=True)
        weight, ends = Signal(weight_bits, reset_less=True), Signal(reset_less=True)
        step, load, there = Signal(), Signal(), Signal()
        m.d.comb += [
            step.eq(~o.valid | o.ready), load.eq(waiting.valid & (~active | (step & ends))),
            there.eq(grant.valid | entry.bare), waiting.ready.eq(load & there), grant.ready.eq(load & ~entry.bare),
            pairs.en.eq(step), pairs.addr.eq(Cat(at, now.k)), self.gone.eq(active & step & ends & now.ends),
            heads.addr.eq(Mux(fresh, now.k, self.fresh)), heads.data.eq(Mux(fresh, at, -1)),
            heads.en.eq((active & step) | ~fresh)]
        with m.If(load & there):
            m.d.sync += [active.eq(1), now.eq(entry), at.eq(entry.start), ends.eq(entry.more == 0),
                         weight.eq(Mux(entry.bare, 0, grant.payload.slot))]
        with m.Elif(step):
            m.d.sync += [active.eq(active & ~ends), at.eq(at + 1), now.more.eq(now.more - 1), ends.eq(now.more == 1)]
        with m.If(load & ~there):
            m.d.sync += self.waits.eq(self.waits + 1)
        m.d.sync += tile.eq(tile + self.gone)

        # The pair itself, then its output row.
        valid = Signal()
        marks = Signal(data.StructLayout({"weight": weight_bits, "pair": 1, "release": 1, "last": 1}), reset_less=True)
        of, word = Signal.like(tile, name="of", reset_less=True), Signal(self.word)
        m.d.comb += [word.eq(pairs.data), outs.en.eq(step), outs.addr.eq(Cat(word.row, of)),
                     o.payload.out.eq(outs.data)]
        with m.If(step):
            m.d.sync += [valid.eq(active), of.eq(tile), marks.weight.eq(weight), marks.pair.eq(~now.bare),
                         marks.release.eq(~now.bare & ends), marks.last.eq(now.last & now.ends & ends),
                         o.valid.eq(valid), o.payload.slot.eq(word.row), o.payload["in"].eq(word["in"]),
                         o.payload.first.eq(word.first), o.payload.final.eq(word.final),
                         *(o.payload[name].eq(marks[name]) for name in ("weight", "pair", "release", "last"))]
        return active | valid


class RowOrder(wiring.Component):
    """Pairs as they come, when all weights stay on the chip.

    One item each cycle; a work item leaves one cycle after its item came in.

    Parameters
    ----------
    items : MapDesign
        Of the items.
    cache : CacheDesign
        Its pinned tiles are all there are.
    gather : GatherDesign, optional
        Of the work items: one slot, ``weight_tiles`` is ``cache.slots``.

    Members
    -------
    start, pinned : In
        As of the `WeightCache` that fetches the tiles, in the same cycle.
    resident : In(range(tiles + 1))
        As of the `WeightCache`: pinned tiles that are there.
    i : In(stream of item_layout)
        As of `TileOrder`.
    o : Out(stream of work_layout)
        ``slot`` and ``release`` are 0.
    busy : Out(1)
    illegal : Out(1)
        Until reset: an offset is not pinned. Its pairs do not count.
    waits : Out(32)
        Cycles, until reset, in which a pair could have left and its weights were not there.
    """

    latency = 1

    def __init__(self, items: MapDesign, cache: CacheDesign, gather: GatherDesign | None = None):
        self.items, self.design = items, cache
        self.gather = _checked(items, cache, gather, 1)
        super().__init__({"start": In(1), "pinned": In(KERNEL_OFFSETS), "resident": In(range(cache.tiles + 1)),
                          "i": In(stream.Signature(item_layout(items))), "busy": Out(1), "illegal": Out(1),
                          "waits": Out(COUNTER_BITS), "o": Out(stream.Signature(work_layout(self.gather)))})

    @property
    def module_name(self) -> str:
        return f"row_order_{self.design.slots}_a{self.design.index_bits}_l{self.items.level_bits}"

    @property
    def parameters(self) -> dict:
        return {"slots": self.design.slots, "index_bits": self.design.index_bits, "level_bits": self.items.level_bits}

    def elaborate(self, platform) -> Module:
        m = Module()
        i, o, item = self.i, self.o, self.i.payload
        m.submodules.pins = pins = PinTable(self.design)
        begun, step, there, needs = Signal(), Signal(), Signal(), Signal()
        real = item.pair | item.row_last
        m.d.comb += [
            pins.start.eq(self.start), pins.pinned.eq(self.pinned), pins.step.eq(1), pins.k.eq(item.k),
            needs.eq(item.pair & pins.stays), step.eq(~o.valid | o.ready),
            there.eq(~item.pair | (pins.known & (~pins.stays | (pins.found < self.resident)))),
            i.ready.eq(step & there), self.busy.eq(begun | o.valid)]
        with m.If(i.valid & step & ~there):
            m.d.sync += self.waits.eq(self.waits + 1)
        with m.If(i.valid & i.ready):
            m.d.sync += [o.valid.eq(1), begun.eq(~(item.row_last | item.last)), o.payload["in"].eq(item["in"]),
                         o.payload.out.eq(item.out), o.payload.weight.eq(Mux(needs, pins.found, 0)),
                         o.payload.first.eq(~begun & real), o.payload.final.eq((item.row_last | item.last) & real),
                         o.payload.pair.eq(needs), o.payload.last.eq(item.last)]
            with m.If(item.pair & ~pins.stays):
                m.d.sync += self.illegal.eq(1)
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)
        return m
