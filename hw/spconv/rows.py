"""Pairs of a row of the map: which of the 27 neighbours there are, and their ranks.

::

    i row ──► row ──► swap by parity, window by digit ──► 27 bits ──► lowest of them ──► its octant ──► rank ──► o item
              words ───────────────────────────────────► words ────► words ────────────► one word
                                                          next row     this row

A neighbour lies along each axis in the voxel's own octant or in the one on the voxel's side, so each of the 27 bits is
one of a few bits of the eight masks.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import KERNEL_OFFSETS, OFFSET_BITS, MapDesign

from .descent_step import children_before
from .layouts import item_layout, row_layout, word_layout

__all__ = ["RowItems"]

AXES = (2, 1, 0)
STRIDE = {2: 9, 1: 3, 0: 1}                 # of an axis in a kernel offset
COUNTER_BITS = 32


class RowItems(wiring.Component):
    """Rows of the map to its pairs.

    A pair each cycle, none lost between rows. A row without pairs gives one item without ``pair``; a row that is none
    (``pair`` 0) gives one item without ``pair`` and ``row_last``, with ``last``. The first item comes ``latency`` edges
    after its row.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    i : In(stream of row_layout)
    kernel : In(1)
        0: all 27 neighbours; 1: only the voxel itself and those one further, as kernel offset ``4*kx + 2*ky + kz``.
        Constant while rows are inside, as is the next one.
    half_map : In(1)
        Only the 13 neighbours before the voxel: the others are the same pairs turned round.
    o : Out(stream of item_layout)
        Rows as they come, offsets of a row ascending.
    clear : In(1)
        Counters start from 0.
    rows, pairs : Out(32)
        Output rows and pairs that have been taken; they wrap.
    """

    latency = 5

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(row_layout(design))), "kernel": In(1), "half_map": In(1),
                          "o": Out(stream.Signature(item_layout(design))), "clear": In(1),
                          "rows": Out(COUNTER_BITS), "pairs": Out(COUNTER_BITS)})

    @property
    def module_name(self) -> str:
        return f"row_items_{self.design.name}"

    @property
    def parameters(self) -> dict:
        return {"depth": self.design.depth, "capacity": self.design.capacity}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, o = self.design, self.o
        words = data.ArrayLayout(word_layout(design), 8)
        about = data.StructLayout({"index": design.index_bits, "level": design.level_bits, "digit": 3, "parity": 3,
                                   "pair": 1, "last": 1})
        kept = data.StructLayout({"words": words, "about": about})

        # The row as it comes: block memory is slow. Then the next row with its neighbours, then this row.
        arrived, following, current = (Signal(kept, name=name, reset_less=True)
                                       for name in ("arrived", "following", "current"))
        has_arrived, has_next, active = Signal(), Signal(), Signal()
        turns, step = Signal(), Signal()        # the next row becomes this one; an item leaves this row
        moves = Signal()
        m.d.comb += [moves.eq(has_arrived & (~has_next | turns)), self.i.ready.eq(~has_arrived | moves)]
        with m.If(self.i.ready):
            m.d.sync += [has_arrived.eq(self.i.valid), arrived.words.eq(self.i.payload.words),
                         *(arrived.about[name].eq(self.i.payload[name]) for name in about.members)]
        neighbours = Signal(KERNEL_OFFSETS, reset_less=True)
        with m.If(moves):
            m.d.sync += [following.eq(arrived), neighbours.eq(Cat(self._neighbours(arrived)))]
        m.d.sync += has_next.eq(moves | (has_next & ~turns))

        # This row: neighbours behind the current one, and the current one along each axis (0, 1, 2).
        left, ends = Signal(KERNEL_OFFSETS, reset_less=True), Signal()
        place = [Signal(2, name=f"place{axis}", reset_less=True) for axis in range(3)]
        found = Signal(reset_less=True)
        m.d.comb += turns.eq(has_next & (~active | (step & ends)))
        chosen = Signal(KERNEL_OFFSETS)
        m.d.comb += chosen.eq(Mux(~active | ends, neighbours, left))
        others = (chosen & (chosen - 1))[:KERNEL_OFFSETS]
        lowest = chosen & ~others
        with m.If(turns):
            m.d.sync += current.eq(following)
        with m.If(turns | step):
            m.d.sync += [left.eq(others), ends.eq(~others.any()), found.eq(chosen.any())]
            for axis in range(3):
                m.d.sync += place[axis].eq(Cat(
                    Cat(lowest[k] for k in range(KERNEL_OFFSETS) if k // STRIDE[axis] % 3 == third).any()
                    for third in (1, 2)))
        m.d.sync += active.eq(turns | (active & ~(step & ends)))

        # Its octant and word.
        flows = Signal()
        m.d.comb += [flows.eq(~o.valid | o.ready), step.eq(active & flows)]
        digit = current.about.digit
        side = Cat(current.about.parity[axis] ^ Mux(digit[axis], place[axis][1], ~place[axis].any())
                   for axis in range(3))
        child = Cat(digit[axis] ^ ~place[axis][0] for axis in range(3))
        chain: list[Value] = [current.words[j].as_value() for j in range(8)]
        for axis in AXES:
            half = len(chain) // 2
            chain = [Mux(side[axis], chain[at + half], chain[at]) for at in range(half)]
        word, which = Signal(word_layout(design), reset_less=True), Signal(3, reset_less=True)
        marks = data.StructLayout({"out": design.index_bits, "level": design.level_bits, "place": 6, "pair": 1,
                                   "row_last": 1, "last": 1})
        mark, valid = Signal(marks, reset_less=True), Signal()
        with m.If(flows):
            m.d.sync += [valid.eq(active), word.eq(chain[0]), which.eq(child), mark.out.eq(current.about.index),
                         mark.level.eq(current.about.level), mark.place.eq(Cat(*place)),
                         mark.pair.eq(found & current.about.pair), mark.row_last.eq(ends & current.about.pair),
                         mark.last.eq(ends & current.about.last)]

        # Its rank.
        low = Cat(word.mask[at] & (which > at) for at in range(7))
        z, y, x = (mark.place.word_select(axis, 2) for axis in range(3))
        k = Signal(OFFSET_BITS)
        with m.Switch(mark.place):
            for number in range(KERNEL_OFFSETS):
                thirds = number // 9, number // 3 % 3, number % 3
                with m.Case(sum(third << 2 * axis for third, axis in zip(thirds, AXES, strict=True))):
                    m.d.comb += k.eq(number)
        with m.If(flows):
            m.d.sync += [o.valid.eq(valid), o.payload.out.eq(mark.out), o.payload.level.eq(mark.level),
                         o.payload.pair.eq(mark.pair), o.payload.row_last.eq(mark.row_last),
                         o.payload.last.eq(mark.last), o.payload["in"].eq(word.base + children_before(low, 7)),
                         o.payload.k.eq(Mux(self.kernel, Cat(z[1], y[1], x[1]), k))]
        taken = o.valid & o.ready
        with m.If(self.clear):
            m.d.sync += [self.rows.eq(0), self.pairs.eq(0)]
        with m.Else():
            m.d.sync += [self.rows.eq(self.rows + (taken & o.payload.row_last)),
                         self.pairs.eq(self.pairs + (taken & o.payload.pair))]
        return m

    def _neighbours(self, row: data.View) -> list[Value]:
        """For each kernel offset, whether that neighbour is there and asked for."""
        # By axis: octant and child, until along that axis it is known which of the three neighbours it is.
        known: dict[tuple, Value] = {}
        for j in range(8):
            for c in range(8):
                known[tuple((j >> axis & 1, c >> axis & 1) for axis in AXES)] = row.words[j].mask[c]
        for at, axis in enumerate(AXES):
            known = _along(known, at, row.about.digit[axis], row.about.parity[axis])
        there = []
        for k in range(KERNEL_OFFSETS):
            thirds = k // 9, k // 3 % 3, k % 3
            unwanted = [*([self.half_map] if k >= KERNEL_OFFSETS // 2 else []), *([self.kernel] if 0 in thirds else [])]
            there.append(known[thirds] & ~Cat(unwanted).any())
        return there


def _along(known: dict[tuple, Value], at: int, digit: Value, parity: Value) -> dict[tuple, Value]:
    """Bits by three neighbours instead of octant and child, along the axis at a place of the keys."""
    found: dict[tuple, Value] = {}
    for key in sorted({(*key[:at], *key[at + 1:]) for key in known}, key=str):
        # [child][side]: 0 the voxel's own octant, which is that of its parity.
        own = [[Mux(parity, known[(*key[:at], (1 - side, child), *key[at:])],
                    known[(*key[:at], (side, child), *key[at:])]) for side in range(2)] for child in range(2)]
        for third, (low, high) in enumerate(((own[1][1], own[0][0]), (own[0][0], own[1][0]), (own[1][0], own[0][1]))):
            found[(*key[:at], third, *key[at:])] = Mux(digit, high, low)
    return found
