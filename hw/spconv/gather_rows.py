# amaranth: UnusedElaboratable=no
"""A whole output row at a time: a lane that has finished a pair goes on with the next one of the same row.

::

    pair ──► lane 0: queue of {mask, word, weight} ──► its next channel that is not zero ──┐
        ──► lane 1: queue                          ──► ...                                 ├─► step
        ──► ends of rows: how far each lane goes ──► all lanes there? the next row ────────┘

A lane's queue holds only pairs in which it has something to do. Nothing is marked in it: where a row ends is known as a
place in each queue, when the row's last pair has come.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from ..dequant.queue import Queue
from ..emit import shared
from .features import word_bits
from .gather_issue import Issue, offset_by, place_of
from .layouts import work_layout
from .weights import weight_bits

__all__ = ["LaneQueue", "RowIssue"]

RELEASES = 255    # items that wait until they may release their tile


class LaneQueue(wiring.Component):
    """The pairs of one lane, and its next channel that is not zero.

    Members
    -------
    push : In(1); mask, word, weight : In
        A pair; only with ``room``.
    room : Out(1)
    tail : Out
        Place behind the last pair.
    bounded : In(1); bound : In
        The row ends before this place; otherwise it goes on.
    run : In(1)
    active : Out(1); read_word, read_weight : Out
        A product in this cycle.
    head : Out
        Place of the oldest pair that is not done.
    done : Out(1)
        With this cycle the lane is through with the row that ends at ``bound``.
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        places = 2 * design.window
        super().__init__({
            "push": In(1), "mask": In(design.groups), "word": In(word_bits(design)), "weight": In(weight_bits(design)),
            "room": Out(1), "tail": Out(range(places)), "bounded": In(1), "bound": In(range(places)), "run": In(1),
            "active": Out(1), "read_word": Out(word_bits(design)), "read_weight": Out(weight_bits(design)),
            "head": Out(range(places)), "done": Out(1)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_lane"

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        layout = data.StructLayout({"mask": d.groups, "word": word_bits(d), "weight": weight_bits(d)})
        m.submodules.memory = memory = Memory(shape=layout, depth=d.window, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head, tail, following = Signal.like(self.head), Signal.like(self.tail), Signal.like(self.head)
        taken, mask, at_end = Signal(d.groups), Signal(d.groups), Signal()
        m.d.comb += [write.en.eq(self.push), write.addr.eq(tail), write.data.mask.eq(self.mask),
                     write.data.word.eq(self.word), write.data.weight.eq(self.weight), read.addr.eq(head),
                     mask.eq(read.data.mask & ~taken), following.eq(head + 1), self.head.eq(head), self.tail.eq(tail),
                     self.room.eq((tail ^ head) != d.window), at_end.eq(self.bounded & (head == self.bound)),
                     self.active.eq(self.run & (head != tail) & ~at_end)]
        place, rest, single = place_of(m, mask, "next")
        m.d.comb += [self.read_word.eq(read.data.word + place),
                     self.read_weight.eq(offset_by(read.data.weight, place, d.groups)),
                     self.done.eq(at_end | (self.active & single & (following == self.bound)))]
        with m.If(self.push):
            m.d.sync += tail.eq(tail + 1)
        with m.If(self.active):
            m.d.sync += taken.eq(~rest)
            with m.If(single):
                m.d.sync += [head.eq(following), taken.eq(0)]
        return m


class RowIssue(Issue):
    """Steps of the lanes with ``pack`` row.

    A row ends in the cycle in which its slowest lane does, at the earliest in the cycle after its last pair came (two
    after it, where that came as the row before ended); the next row goes on in the next cycle. ``first`` and
    ``slot`` of a pair mean nothing: a row begins where the last one ended.
    """

    def elaborate(self, platform) -> Module:
        m = Module()
        d, pair, token = self.design, self.i.payload, self.o.token
        place = range(2 * d.window)
        end = data.StructLayout({"bounds": data.ArrayLayout(len(Signal(place)), d.lanes),
                                 "out": work_layout(d)["out"].shape, "row": 1, "last": 1})
        m.submodules.ends = ends = Queue(end, d.window)
        # The end of this row, if it is known, is in a register.
        known, present = Signal(), Signal(end, reset_less=True)
        lanes = []
        for lane in range(d.lanes):
            m.submodules[f"lane{lane}"] = unit = shared(LaneQueue(d))
            lanes.append(unit)
        push, closes, reached, room, free, straight = (Signal(name=name) for name in (
            "push", "closes", "reached", "room", "free", "straight"))
        coming = Signal(end)
        waiting = Signal(range(RELEASES + 1))
        m.d.comb += [closes.eq(pair.final | pair.last),
                     room.eq(Cat(unit.room for unit in lanes).all() & (~closes | ends.i.ready)
                             & (~pair.release | (waiting != RELEASES))),
                     self.i.ready.eq(room), push.eq(self.i.valid & room),
                     ends.i.valid.eq(push & closes & ~straight), ends.o.ready.eq(free),
                     coming.out.eq(pair.out), coming.row.eq(pair.final), coming.last.eq(pair.last),
                     ends.i.payload.eq(coming), free.eq(~known | reached), straight.eq(~known & ~ends.o.valid),
                     reached.eq(self.run & known & Cat(unit.done for unit in lanes).all()),
                     self.valid.eq(self.o.active.any() | reached), token.end.eq(reached), token.leave.eq(reached),
                     token.row.eq(present.row), token.last.eq(present.last), token.out.eq(present.out)]
        with m.If(free):
            m.d.sync += [known.eq(ends.o.valid | (straight & push & closes)),
                         present.eq(Mux(ends.o.valid, ends.o.payload, coming))]
        begun = Signal()
        with m.If(self.valid):
            m.d.sync += begun.eq(~reached)
        m.d.comb += [token.start.eq(~begun), token.first.eq(1)]
        for lane, unit in enumerate(lanes):
            mask = pair.masks[lane]
            m.d.comb += [unit.push.eq(push & mask.any()), unit.mask.eq(mask), unit.word.eq(pair.word),
                         unit.weight.eq(pair.weight), unit.bounded.eq(known),
                         unit.bound.eq(present.bounds[lane]), unit.run.eq(self.run),
                         coming.bounds[lane].eq(unit.tail + unit.push), self.o.active[lane].eq(unit.active),
                         self.o.words[lane].eq(unit.read_word), self.o.weights[lane].eq(unit.read_weight)]
        some = Cat(unit.head != unit.tail for unit in lanes).any() | known
        m.d.comb += [self.busy.eq(some | begun | (waiting != 0)), self.stall.eq(some & ~self.run)]
        self._release(m, lanes, push & pair.release, waiting)
        return m

    def _release(self, m: Module, lanes: list, request: Value, waiting: Signal) -> None:
        """Releases wait until every lane is where its queue ended when their mark was set.

        One mark at a time, for all that have come until then: the pairs before it are done when it is reached, however
        far ahead some lanes are.
        """
        marked, owed, covered = Signal(), Signal.like(waiting, name="owed"), Signal.like(waiting, name="covered")
        there, seen = Signal(len(lanes)), Signal(len(lanes))
        marks = [Signal.like(unit.tail, name=f"mark{lane}", reset_less=True) for lane, unit in enumerate(lanes)]
        m.d.comb += [self.released.eq(owed != 0),
                     seen.eq(there | Cat(unit.head == mark for unit, mark in zip(lanes, marks, strict=True)))]
        m.d.sync += [waiting.eq(waiting + request - self.released), owed.eq(owed - self.released), there.eq(seen)]
        with m.If(marked & seen.all()):
            m.d.sync += [marked.eq(0), owed.eq(covered)]
        with m.Elif(~marked & (owed == 0) & (waiting != 0)):
            m.d.sync += [marked.eq(1), there.eq(0), covered.eq(waiting),
                         *[mark.eq(unit.tail) for unit, mark in zip(lanes, marks, strict=True)]]
