"""Nodes that wait in the compact map search, and those whose children are the outputs.

::

    nodes ──► by rank ──► the next node ──► its children, one a cycle ──► rows of the map
    (memory)                  ▲
    released up to rank ──────┘
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan

from .compact_window import window_bits
from .layouts import bits

__all__ = ["LeafNodes", "by_halves", "lowest", "node_layout", "number_of", "of_hot", "rank_bits", "several"]


def rank_bits(design: MapDesign) -> int:
    """Of a rank modulo the nodes of a level that can wait."""
    return bits(WindowPlan.of(design).waiting)


def node_layout(design: MapDesign) -> data.StructLayout:
    """A node that waits until its children are passed on.

    ``mask``: its children. ``there``: octants around it that have nodes in its window, by parity. ``digit``: of the
    node in its octant; ``parity``: digit of the octant. ``window``: where the nodes around it are. ``begins``: the
    first one of its window. ``ends``: the last one of its octant, so the children of the node after it begin a window.
    ``last``: of its level.
    """
    return data.StructLayout({"mask": 8, "there": 8, "digit": 3, "parity": 3, "window": window_bits(design),
                              "begins": 1, "ends": 1, "last": 1})


def lowest(mask: Value) -> Value:
    """The lowest bit set among eight."""
    return Cat(mask[at] & ~mask[:at].any() for at in range(8))


def by_halves(mask: Value) -> Value:
    """Of each half of eight bits, whether any is set and whether more than one is: shallow logic behind a memory."""
    return Cat(part for half in (mask[:4], mask[4:])
               for part in (half.any(), Cat(half[at] & half[:at].any() for at in range(1, 4)).any()))


def several(halves: Value) -> Value:
    """Whether more than one bit is set."""
    return halves[1] | halves[3] | (halves[0] & halves[2])


def number_of(hot: Value) -> Value:
    """Which of eight bits is set."""
    return Cat(Cat(hot[at] for at in range(8) if at >> bit & 1).any() for bit in range(3))


def of_hot(hot: Value, values: list[Value]) -> Value:
    """The value whose bit is set, 0 without any."""
    chosen: Value = Const(0, max(len(value) for value in values))
    for at, value in enumerate(values):
        chosen = chosen | (value & hot[at].replicate(len(value)))
    return chosen


class LeafNodes(wiring.Component):
    """Nodes whose children are the outputs: one level, in order.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    begin : In(1)
    put : In(1), put_rank : In, put_node : In(node_layout)
        A node waits.
    release : In(1), release_rank : In
        All nodes up to this one have their surroundings in the window, or soon enough.
    ready : In(1)
        The next child may go.
    go : Out(1), child : Out(3), done : Out(1), node : Out(node_layout)
        A child of a node; its last one.
    taken : Out(1), begins : Out(1)
        A node has left its place; it is the first one of its window.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({"begin": In(1), "put": In(1), "put_rank": In(rank_bits(design)),
                          "put_node": In(node_layout(design)), "release": In(1), "release_rank": In(rank_bits(design)),
                          "ready": In(1), "go": Out(1), "child": Out(3), "done": Out(1),
                          "node": Out(node_layout(design)), "taken": Out(1), "begins": Out(1)})

    @property
    def module_name(self) -> str:
        return f"leaf_nodes_{node_layout(self.design).size}x{WindowPlan.of(self.design).waiting}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.nodes = memory = Memory(shape=node_layout(self.design).size, depth=1 << rank_bits(self.design),
                                             init=[], attrs={"ram_style": "block", "no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        next_node = data.View(node_layout(self.design), read.data)
        head, known = (Signal(rank_bits(self.design), name=name) for name in ("head", "known"))
        fetch, waits, valid, load = Signal(), Signal(), Signal(), Signal()
        rest, halves = Signal(8, reset_less=True), Signal(4, reset_less=True)
        first, single = lowest(rest), ~several(halves)
        m.d.comb += [write.en.eq(self.put), write.addr.eq(self.put_rank), write.data.eq(self.put_node.as_value()),
                     load.eq(waits & (~valid | self.done)), fetch.eq((head != known) & (~waits | load)),
                     read.en.eq(fetch), read.addr.eq(head), self.go.eq(valid & self.ready),
                     self.child.eq(number_of(first)), self.done.eq(self.go & single), self.taken.eq(load),
                     self.begins.eq(next_node.begins)]
        with m.If(load):
            m.d.sync += [self.node.eq(next_node), rest.eq(next_node.mask), halves.eq(by_halves(next_node.mask))]
        with m.Elif(self.go):
            m.d.sync += [rest.eq(rest & ~first), halves.eq(by_halves(rest & ~first))]
        # The last words of a node are in the window three edges after it is released, and read at the fourth.
        m.d.sync += [valid.eq(load | (valid & ~self.done)), waits.eq(fetch | (waits & ~load))]
        with m.If(self.begin):
            m.d.sync += [head.eq(0), known.eq(0)]
        with m.Else():
            with m.If(fetch):
                m.d.sync += head.eq(head + 1)
            with m.If(self.release):
                m.d.sync += known.eq(self.release_rank + 1)
        return m
