"""Maps between a level and the one above it, which the masks of the upper one hold already.

::

    start {op, level, count} ──► rank ──► walk memory ──► mask of the next node ──► children to come
                                   ▲                               ▲                     │ lowest first
                                   └─────────── next node ─────────┴────── last child ◄──┤
                                                                                         ▼
                                                            rank of the node, running child ──► o {out, k, in}

A node of level ``level + 1`` with its children ``level`` is all that a 2^3 convolution of stride 2 needs, in both
directions: a pair for each child. Generative: every node of ``level`` has all eight children.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .layouts import bits, item_layout

__all__ = ["LevelMap", "LevelOp"]


class LevelOp(enum.Enum, shape=2):
    """Which map.

    ``DOWN``: 2^3 convolution of stride 2, a row for each node of ``level + 1``. ``INVERSE``: back to the nodes of
    ``level``, one pair for each. ``GENERATIVE``: to all children of the nodes of ``level``, ``out = 8 * in + k``.
    """

    DOWN = 0
    INVERSE = 1
    GENERATIVE = 2


class LevelMap(wiring.Component):
    """Pairs of a 2^3 convolution of stride 2, its inverse and the generative transposed one.

    One pair a cycle, none lost between nodes: P pairs come in the cycles 4 .. P + 3 after that of ``start``. A job
    without any gives one item without ``pair``, in cycle 4.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    start : In(1)
        Begin; not while ``busy``. The inputs below are taken in this cycle.
    op : In(LevelOp)
    level : In(level_bits)
        The finer level, t; that of the inputs if generative. Else at most ``depth - 1``.
    count : In(count_bits)
        Nodes of level t + 1 in the tree; if generative of level t.
    walk_leaf_address, walk_upper_address, walk_leaf_read, walk_upper_read : Out
    walk_leaf_mask, walk_upper_mask : In(8)
        Of `TreeStore`.
    o : Out(stream of item_layout)
        ``level`` is t. ``k`` is the child's digit.
    busy : Out(1)
        From the cycle after ``start`` until the last item is taken.
    """

    latency = 4

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({"start": In(1), "op": In(LevelOp), "level": In(design.level_bits),
                          "count": In(design.count_bits),
                          "walk_leaf_address": Out(bits(design.held(1))), "walk_leaf_read": Out(1),
                          "walk_leaf_mask": In(8), "walk_upper_address": Out(bits(design.walk_words)),
                          "walk_upper_read": Out(1), "walk_upper_mask": In(8),
                          "o": Out(stream.Signature(item_layout(design))), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"level_map_{self.design.name}"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"depth": d.depth, "capacity": d.capacity, "levels": list(d.levels)}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, o = self.design, self.o
        op, level = Signal(LevelOp, reset_less=True), Signal(design.level_bits, reset_less=True)
        begun, empty = Signal(), Signal(reset_less=True)
        address = Signal(range(max(design.held(1), design.walk_words)), reset_less=True)
        first = Signal.like(address, name="first")
        with m.Switch(self.level):
            for each in range(1, design.depth):
                with m.Case(each):
                    m.d.comb += first.eq(design.walk_base(each + 1))

        # Masks. There: the next one is at the port, where it stays until it is loaded. In that cycle the one after it
        # is read.
        there, load, fetch = Signal(), Signal(), Signal()
        left = Signal(design.count_bits, reset_less=True)        # nodes that have not been loaded
        leaf = level == 0
        m.d.comb += [fetch.eq(begun | load & (left != 1)), self.walk_leaf_address.eq(address),
                     self.walk_upper_address.eq(address), self.walk_leaf_read.eq(fetch & leaf),
                     self.walk_upper_read.eq(fetch & ~leaf)]
        with m.If(fetch):
            m.d.sync += [address.eq(address + 1), there.eq(1)]
        with m.Elif(load):
            m.d.sync += there.eq(0)

        # Children of the node, lowest first. A job without nodes has one of one child, which is no pair.
        active, final, step, single = Signal(), Signal(reset_less=True), Signal(), Signal()
        rest, lowest = Signal(8, reset_less=True), Signal(8)
        node, child = Signal(design.count_bits, reset_less=True), Signal(design.out_bits, reset_less=True)
        generative = Signal(reset_less=True)
        mask = Mux(leaf, self.walk_leaf_mask, self.walk_upper_mask)
        m.d.comb += [step.eq(active & (~o.valid | o.ready)), single.eq((rest & ~lowest) == 0),
                     load.eq(there & (~active | step & single)),
                     lowest.eq(Cat(rest[bit] & ~rest[:bit].any() for bit in range(8)))]
        with m.If(load):
            m.d.sync += [active.eq(1), final.eq(left == 1), left.eq(left - 1),
                         rest.eq(Mux(empty, 1, mask | generative.replicate(8)))]
        with m.Elif(step):
            m.d.sync += [active.eq(~single), rest.eq(rest & ~lowest)]
        with m.If(step):
            m.d.sync += [child.eq(child + 1), node.eq(node + single)]

        down = op == LevelOp.DOWN
        k = Cat(Cat(lowest[digit] for digit in range(8) if digit >> bit & 1).any() for bit in range(3))
        with m.If(step):
            m.d.sync += [o.valid.eq(1), o.payload.out.eq(Mux(down, node, child)), o.payload.k.eq(k),
                         o.payload["in"].eq(Mux(down, child, node)), o.payload.level.eq(level),
                         o.payload.pair.eq(~empty), o.payload.row_last.eq((single | ~down) & ~empty),
                         o.payload.last.eq(single & final)]
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)

        m.d.sync += begun.eq(self.start)
        with m.If(self.start):
            m.d.sync += [op.eq(self.op), level.eq(self.level), address.eq(first), left.eq(self.count),
                         generative.eq(self.op == LevelOp.GENERATIVE), node.eq(0), child.eq(0), self.busy.eq(1)]
        with m.Elif(o.valid & o.ready & o.payload.last):
            m.d.sync += self.busy.eq(0)
        with m.If(begun):
            m.d.sync += [empty.eq(left == 0), left.eq(left | (left == 0))]
        return m
