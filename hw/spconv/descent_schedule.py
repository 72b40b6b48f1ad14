"""Which child of which waiting node comes next.

::

    of each level        children left ─┐
    (registers)          free places   ─┴─► deepest that can go ──► level ──► node's mask: what is left of it (memory)
                              ▲ ▲                                      │           or of the next node (memory)
                  arrivals ───┘ └─── nodes without children left       └─────────► child, place of the node's frame
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from ..arith.pipeline import Pipeline
from .descent_step import children_before
from .layouts import bits

__all__ = ["Children", "DescentSchedule", "counted"]


def nth_child(m: Module, pipe: Pipeline, mask: Value, number: Value) -> Value:
    """Which bit of eight is the one after ``number`` others that are set: its half, an edge later its place there."""
    low, high = mask[:4], mask[4:]
    before = children_before(Cat(low, Const(0, 4)), 7)
    above, half, after = Signal(), Signal(4), Signal(2)
    m.d.comb += [above.eq(number >= before), half.eq(Mux(above, high, low)), after.eq(number - Mux(above, before, 0))]
    digit = Signal(2)
    with m.Switch(Cat(pipe.hold(half, "half"), pipe.hold(after, "after"))):
        for value in range(16):
            for at, bit in enumerate(bit for bit in range(4) if value >> bit & 1):
                with m.Case(value | at << 4):
                    m.d.comb += digit.eq(bit)
    return Cat(digit, pipe.hold(above, "above"))


class Children(wiring.Component):
    """Children of the first waiting node of each level, one after the other.

    Parameters
    ----------
    levels : int
    queue : int
        Nodes of each level.

    Members
    -------
    put : In(1), put_level : In, put_slot : In, put_mask : In(8), put_more : In(3)
        A node begins to wait: its children, and how many besides one.
    take : In(1), level : In
        The next child of the level, from the cycle after its node was put.
    first : In(1)
        With ``take``: the first child of the level's first node, which is at slot 0.
    slot : Out, done : Out(1)
        One edge later: which node's child, and whether it is the last one.
    child : Out(3)
        Three edges later: which child.
    """

    def __init__(self, levels: int, queue: int):
        self.levels, self.queue = levels, queue
        at, slot = bits(levels), bits(queue)
        super().__init__({"put": In(1), "put_level": In(at), "put_slot": In(slot), "put_mask": In(8), "put_more": In(3),
                          "take": In(1), "level": In(at), "first": In(1), "slot": Out(slot), "done": Out(1),
                          "child": Out(3)})

    @property
    def module_name(self) -> str:
        return f"children_{self.levels}x{self.queue}"

    def elaborate(self, platform) -> Module:
        m = Module()
        # The level's node and child, also of the step just before.
        state = data.StructLayout({"number": 3, "slot": len(self.slot)})
        before, now, then = Signal(state), Signal(state, reset_less=True), Signal(state)
        take, level = Signal(), Signal(len(self.level), reset_less=True)
        if self.levels > 1:
            m.submodules.states = states = Memory(shape=state.size, depth=self.levels, init=[])
            write, read = states.write_port(), states.read_port(domain="comb")
            m.d.comb += [write.addr.eq(level), write.en.eq(take), write.data.eq(then), read.addr.eq(self.level),
                         before.eq(read.data)]
        else:
            with m.If(take):
                m.d.sync += before.eq(then)
        again = take & (level == self.level)
        m.d.sync += [take.eq(self.take), level.eq(self.level), now.eq(Mux(self.first, 0, Mux(again, then, before)))]

        place, number = Cat(now.slot, level), now.number
        more = self._waiting(m, "more", self.put_more, place)
        m.d.comb += [self.slot.eq(now.slot), self.done.eq(number == more),
                     then.number.eq(Mux(self.done, 0, number + 1)), then.slot.eq(now.slot + self.done)]
        pipe = Pipeline(m, Const(1, 1))
        mask = pipe.hold(self._waiting(m, "masks", self.put_mask, place), "mask")
        m.d.comb += self.child.eq(nth_child(m, pipe, mask, pipe.hold(number, "number")))
        return m

    def _waiting(self, m: Module, name: str, value: Value, place: Value) -> Value:
        """What was put with the node at a place."""
        m.submodules[name] = memory = Memory(shape=len(value), depth=self.levels << len(self.slot), init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [write.addr.eq(Cat(self.put_slot, self.put_level)), write.data.eq(value), write.en.eq(self.put),
                     read.addr.eq(place)]
        return read.data


class DescentSchedule(wiring.Component):
    """Steps of the levels above 1: one child a cycle, of the deepest level that has one and can take it.

    A level is told by ``at``: the child's level less 1. ``at`` 0 are nodes of level 1, which wait elsewhere; the
    highest one are the roots. Decided in one cycle, known in the next one (``go``).

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    begin : In(1)
        Levels have not been touched.
    root : In(1)
        There is a root; ``root_taken``: it goes.
    stays : In(depth)
        Children at these levels do not wait for children of their own.
    rows : In(depth)
        Children at these levels are rows of the map; only ``room`` lets them go.
    room : In(1)
    freed : In(1)
        A node of level 1 has no children left.
    put : In(1), put_at : In, put_slot : In, put_mask : In(8), put_more : In(3)
        A node above level 1 waits, one edge after these say so, with so many children besides one.
    go : Out(1), at : Out, first : Out(1), is_root : Out(1), stay : Out(1), row : Out(1)
        A step; ``first`` of its level; the child stays, and is a row.
    slot : Out, done : Out(1), child : Out(3)
        Of ``go``, one edge later: which waiting node's child, its last one; two edges later still, which child.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        at, slot = bits(design.depth), bits(design.queue)
        super().__init__({"begin": In(1), "root": In(1), "root_taken": Out(1), "stays": In(design.depth),
                          "rows": In(design.depth), "room": In(1), "freed": In(1), "put": In(1), "put_at": In(at),
                          "put_slot": In(slot), "put_mask": In(8), "put_more": In(3), "go": Out(1), "at": Out(at),
                          "first": Out(1), "is_root": Out(1), "stay": Out(1), "row": Out(1),
                          "child": Out(3), "slot": Out(slot), "done": Out(1)})

    @property
    def module_name(self) -> str:
        return f"descent_schedule_{self.design.depth}x{self.design.queue}"

    def elaborate(self, platform) -> Module:
        m = Module()
        depth, queue = self.design.depth, self.design.queue
        top = depth - 1                                     # the roots' place
        # Children left of each level's waiting nodes, and free places of the level: less 1, so that the sign tells.
        left = [Signal((8 * queue - 1).bit_length() + 1, init=-1, name=f"left{at}") for at in range(top)]
        free = [Signal((queue - 1).bit_length() + 1, init=queue - 1, name=f"free{at}") for at in range(depth)]
        can, issue, touched = Signal(depth), Signal(depth), Signal(depth)
        for at in range(depth):
            waits = ~left[at][-1] & (~self.rows[at] | self.room) if at < top else self.root
            m.d.comb += [can[at].eq(waits & ~free[at][-1]), issue[at].eq(can[at] & ~can[:at].any())]
        for at in range(top):
            arrives = self.put & (self.put_at == at + 1)
            gained = Signal(5, name=f"gained{at}")
            m.d.comb += gained.eq(Mux(arrives, self.put_more, -1))
            m.d.sync += left[at].eq(counted(left[at], gained, ~issue[at]))
        freed = Signal(depth)
        for at in range(depth):
            taken = issue[at] & ~self.stays[at]
            m.d.sync += free[at].eq(counted(free[at], ~freed[at], ~taken))
        with m.If(self.begin):
            m.d.sync += touched.eq(0)
        with m.Else():
            m.d.sync += touched.eq(touched | issue)
        code = Cat(Cat(issue[at] for at in range(depth) if at >> bit & 1).any() for bit in range(len(self.at)))
        m.d.comb += self.root_taken.eq(issue[top])
        m.d.sync += [self.go.eq(can.any()), self.at.eq(code), self.first.eq(~(issue & touched).any()),
                     self.is_root.eq(issue[top]), self.stay.eq((issue & self.stays).any()),
                     self.row.eq((issue & self.rows).any())]
        if not top:
            m.d.comb += freed[0].eq(self.freed)
            return m

        # The step itself.
        m.submodules.children = children = Children(top, queue)
        hold = Pipeline(m, Const(1, 1)).hold
        exhausted, above = Signal(), Signal(range(depth), reset_less=True)
        takes = self.go & ~self.is_root
        m.d.comb += [children.put.eq(self.put), children.put_level.eq(self.put_at - 1),
                     children.put_slot.eq(self.put_slot), children.put_mask.eq(self.put_mask),
                     children.put_more.eq(self.put_more),
                     children.take.eq(takes), children.level.eq(self.at), children.first.eq(self.first),
                     self.child.eq(children.child), self.slot.eq(children.slot), self.done.eq(children.done)]
        taken, at = hold(takes, "taken", reset=True), hold(self.at, "taken_at")
        m.d.sync += [exhausted.eq(taken & children.done), above.eq(at + 1)]
        m.d.comb += freed.eq(Cat(self.freed, *(exhausted & (above == at) for at in range(1, depth))))
        return m


def counted(number: Value, gained: Value, carry: Value) -> Value:
    """``number + gained + carry`` on one chain, ``gained`` signed; the carry may come late."""
    gained = Cat(gained, gained[-1].replicate(max(len(number) - len(gained), 0)))[:len(number)]
    wide = Cat(Const(1, 1), number) + Cat(carry, gained)
    return wide[1:len(number) + 1]
