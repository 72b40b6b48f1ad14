# amaranth: UnusedElaboratable=no
"""Weight cache of one pass: some weight tiles stay, the others go through a double buffer (after SpOctA).

::

    pinned, start ──► PinTable: slot of each pinned offset ──► o_fetch (all pinned ones first)
                          │
    i_demand {k} ──► pinned? in the buffer? ─────────────────► queue ──► its tile is there? ──► o {slot, ...}
                          │ else: into the buffer not used last,                ▲
                          │ once all its work items are issued (`released`)     │
                          └──► o_fetch {k, slot} ──► loader ──► i_loaded ───────┘

Demands are answered in order, but looked up ahead: while work items still use one half of the buffer, the next tile
that is missing comes into the other half, whatever pinned ones lie between. What hits and what misses depends on the
order of demands alone: `models.cost.spconv.weight_cache.trace`.

Nothing can lock up. An answer waits for its tile, and a fetch for the work items of the tile that it replaces: those
of demands before it, whose answers came before. So the oldest demand that is not done always goes on, if the loader
loads what it was asked for, and every work item is issued without waiting for later ones.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import KERNEL_OFFSETS, OFFSET_BITS, CacheDesign

from ..dequant.queue import Queue

__all__ = ["PinTable", "WeightCache", "demand_layout", "fetch_layout", "grant_layout", "slot_bits"]

NUMBER_BITS = 6     # demands looked up whose work items are not all issued: one less than there are numbers
COUNTER_BITS = 32


def slot_bits(design: CacheDesign) -> int:
    """Of the number of a weight tile on the chip."""
    return (design.slots - 1).bit_length()


def demand_layout() -> data.StructLayout:
    """The next work items need the weights of offset ``k``."""
    return data.StructLayout({"k": OFFSET_BITS})


def grant_layout(design: CacheDesign) -> data.StructLayout:
    """The weights of offset ``k`` are in ``slot``. ``pinned``: for good; ``hit``: they were before the demand."""
    return data.StructLayout({"slot": slot_bits(design), "k": OFFSET_BITS, "pinned": 1, "hit": 1})


def fetch_layout(design: CacheDesign) -> data.StructLayout:
    """The weights of offset ``k`` are wanted in ``slot``."""
    return data.StructLayout({"k": OFFSET_BITS, "slot": slot_bits(design)})


class PinTable(wiring.Component):
    """Slots of the pinned offsets: offset by offset they are numbered, then looked up.

    Parameters
    ----------
    design : CacheDesign

    Members
    -------
    start : In(1)
        Begin with offset 0.
    pinned : In(27)
        By offset; set bits beyond the first ``design.tiles`` do not count.
    step : In(1)
        May go on to the next offset.
    at, here, slot : Out
        The offset that comes next, whether it is pinned, and the slot it gets.
    complete, busy : Out(1)
        All offsets are through; some are, not all.
    k : In(5); known, stays, found : Out
        Of any offset in the same cycle: whether it is through, whether it is pinned, and its slot.
    """

    def __init__(self, design: CacheDesign):
        self.design = design
        bits = slot_bits(design)
        super().__init__({"start": In(1), "pinned": In(KERNEL_OFFSETS), "step": In(1), "at": Out(OFFSET_BITS),
                          "here": Out(1), "slot": Out(bits), "complete": Out(1), "busy": Out(1),
                          "k": In(OFFSET_BITS), "known": Out(1), "stays": Out(1), "found": Out(bits)})

    @property
    def module_name(self) -> str:
        return f"pin_table_{self.design.tiles}"

    def elaborate(self, platform) -> Module:
        m = Module()
        bits = slot_bits(self.design)
        m.submodules.table = table = Memory(shape=bits + 1, depth=1 << OFFSET_BITS, init=[])
        write, read = table.write_port(), table.read_port(domain="comb")
        begun, go = Signal(), Signal()
        m.d.comb += [self.complete.eq(self.at == KERNEL_OFFSETS), self.busy.eq(begun & ~self.complete),
                     go.eq(self.busy & self.step), self.here.eq(self.pinned.bit_select(self.at, 1) & self.busy
                                                                & (self.slot != self.design.tiles)),
                     write.addr.eq(self.at), write.en.eq(go), write.data.eq(Cat(self.slot, self.here)),
                     read.addr.eq(self.k), self.known.eq(self.k < self.at), Cat(self.found, self.stays).eq(read.data)]
        with m.If(self.start):
            m.d.sync += [begun.eq(1), self.at.eq(0), self.slot.eq(0)]
        with m.Elif(go):
            m.d.sync += [self.at.eq(self.at + 1), self.slot.eq(self.slot + self.here)]
        return m


class WeightCache(wiring.Component):
    """Where the weights are, and what must be fetched; the weights themselves are in the gather unit.

    Looks up a demand each cycle. A demand taken in cycle ``n`` is answered in ``n + 2`` at the earliest.

    Parameters
    ----------
    design : CacheDesign

    Members
    -------
    start : In(1)
        For one cycle, before the first demand of a job and not while ``busy``: forget all tiles, fetch the pinned
        ones, ascending. Clears the counters.
    pinned : In(27)
        Offsets that stay, by offset; as of `PinTable`. Must not change during a job.
    i_demand : In(stream of demand_layout)
    o : Out(stream of grant_layout)
        One for each demand, in order, once its tile is there.
    o_fetch : Out(stream of fetch_layout)
    i_loaded : In(stream without payload)
        A tile is complete, in the order of ``o_fetch``; always ready.
    released : In(1)
        For one cycle: all work items of a demand have been issued, in order, one for each demand.
    resident : Out(range(tiles + 1))
        Pinned tiles that are there: slots below it.
    busy : Out(1)
        Something is being fetched, or demands are not done.
    pinned_hits, buffer_hits, misses, fetches : Out(32)
        Demands for pinned tiles, for tiles in the buffer, for others; tiles fetched, pinned ones included.
    """

    latency = 2

    def __init__(self, design: CacheDesign):
        self.design = design
        super().__init__({
            "start": In(1), "pinned": In(KERNEL_OFFSETS), "i_demand": In(stream.Signature(demand_layout())),
            "o": Out(stream.Signature(grant_layout(design))), "o_fetch": Out(stream.Signature(fetch_layout(design))),
            "i_loaded": In(stream.Signature(0)), "released": In(1), "resident": Out(range(design.tiles + 1)),
            "busy": Out(1), **{name: Out(COUNTER_BITS) for name in ("pinned_hits", "buffer_hits", "misses",
                                                                    "fetches")}})

    @property
    def module_name(self) -> str:
        return self.design.name

    def elaborate(self, platform) -> Module:
        m = Module()
        design, i, fetch, o = self.design, self.i_demand, self.o_fetch, self.o
        m.submodules.pins = pins = PinTable(design)
        m.submodules.queue = queue = Queue(grant_layout(design), design.ahead)
        tags = [Signal(OFFSET_BITS, name=f"tag{side}", reset_less=True) for side in range(2)]
        filled, recent = Signal(2), Signal(init=1)
        # Demands are numbered; those that are looked up are released in order. A half of the buffer is used until its
        # last user is released.
        number, oldest, used = Signal(NUMBER_BITS), Signal(NUMBER_BITS), Signal(2)
        users = [Signal(NUMBER_BITS, name=f"user{side}", reset_less=True) for side in range(2)]

        # Which slot is it, if it is pinned. One more demand can wait before, so that ready is a register.
        held, held_k, asked, stays = Signal(), Signal(OFFSET_BITS, reset_less=True), Signal(), Signal(reset_less=True)
        k, pin = Signal(OFFSET_BITS, reset_less=True), Signal(slot_bits(design), reset_less=True)
        go, moves = Signal(), Signal()
        m.d.comb += [pins.start.eq(self.start), pins.pinned.eq(self.pinned), i.ready.eq(~held),
                     pins.k.eq(Mux(held, held_k, i.payload.k)), moves.eq(pins.known & (~asked | go))]
        with m.If(moves):
            m.d.sync += [asked.eq(i.valid | held), k.eq(pins.k), stays.eq(pins.stays), pin.eq(pins.found)]
        with m.Elif(go):
            m.d.sync += asked.eq(0)
        m.d.sync += held.eq((held | i.valid) & ~moves)
        with m.If(~held):
            m.d.sync += held_k.eq(i.payload.k)

        # Is it there, or where does it go.
        here, side, miss = Signal(2), Signal(), Signal()
        could = Signal()
        m.d.comb += [
            here.eq(Cat(filled[half] & (tags[half] == k) for half in range(2))),
            side.eq(Mux(here.any(), here[1], ~recent)), miss.eq(~stays & ~here.any()),
            # Behind a pinned tile on its way nothing else can come sooner.
            could.eq(Mux(stays, pin < self.resident, here.any() | (~Mux(recent, used[0], used[1]) & pins.complete
                                                                   & ~fetch.valid))),
            go.eq(asked & could & queue.i.ready & ((number + 1)[:NUMBER_BITS] != oldest)),
            queue.i.valid.eq(go), queue.i.payload.k.eq(k), queue.i.payload.pinned.eq(stays),
            queue.i.payload.hit.eq(~miss), queue.i.payload.slot.eq(Mux(stays, pin, design.tiles + side))]
        takes = Signal(2)
        m.d.comb += takes.eq(Mux(go & ~stays, Mux(side, 0b10, 0b01), 0))
        with m.If(go):
            m.d.sync += number.eq(number + 1)
        with m.If(go & ~stays):
            m.d.sync += recent.eq(side)
        with m.If(self.released):
            m.d.sync += oldest.eq(oldest + 1)
        freed = Cat(self.released & (users[half] == oldest) for half in range(2))
        m.d.sync += [used.eq(used & ~freed | takes), filled.eq(filled | takes)]
        for half in range(2):
            with m.If(takes[half]):
                m.d.sync += [tags[half].eq(k), users[half].eq(number)]

        # Fetch: the pinned ones in a row, then what is missing. They come in the same order.
        wanted = go & miss
        first = pins.here & ~fetch.valid
        m.d.comb += pins.step.eq(~pins.here | ~fetch.valid)
        with m.If(first | wanted):
            m.d.sync += [fetch.valid.eq(1), fetch.payload.k.eq(Mux(pins.here, pins.at, k)),
                         fetch.payload.slot.eq(Mux(pins.here, pins.slot, design.tiles + side))]
        with m.Elif(fetch.ready):
            m.d.sync += fetch.valid.eq(0)
        loading, older, pins_there = Signal(2), Signal(), Signal()
        arrived = self.i_loaded.valid & pins_there
        m.d.comb += [self.i_loaded.ready.eq(1), pins_there.eq(self.resident == pins.slot)]
        with m.If(self.i_loaded.valid & ~pins_there):
            m.d.sync += self.resident.eq(self.resident + 1)
        m.d.sync += loading.eq((loading & ~Mux(arrived, Mux(older, 0b10, 0b01), 0)) | Mux(wanted, takes, 0))
        # Of two on their way the other one came first, and is next when this one is there.
        with m.If(wanted & ~loading.any()):
            m.d.sync += older.eq(side)
        with m.Elif(arrived):
            m.d.sync += older.eq(~older)

        # Answer.
        head = queue.o.payload
        there = head.pinned | ~loading.bit_select(head.slot[0] ^ (design.tiles & 1), 1)
        m.d.comb += [o.payload.eq(head), o.valid.eq(queue.o.valid & there), queue.o.ready.eq(o.ready & there),
                     self.busy.eq((number != oldest) | asked | held | ~pins_there | loading.any() | fetch.valid
                                  | pins.busy)]
        counters = self.pinned_hits, self.buffer_hits, self.misses, self.fetches
        events = go & stays, go & ~stays & ~miss, wanted, fetch.valid & fetch.ready
        for counter, event in zip(counters, events, strict=True):
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
        with m.If(self.start):
            m.d.sync += [recent.eq(1), self.resident.eq(0), filled.eq(0), *(each.eq(0) for each in counters)]
        return m
