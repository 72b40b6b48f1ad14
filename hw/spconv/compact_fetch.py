"""Octants around nodes: their words come out of the compact memory and go into a window.

::

    frame ──┬► frames with octants to fetch ──► octant ──► rows of 8 banks ──► words by rank ──► butterfly ──► window
            │                                     │ last one                                       by digit
            └► all frames, short ─────────────────┴─► in order ──► released

The existing children of an octant have consecutive ranks, so all of them lie in different banks, and in rows that
differ by one at most: an octant a cycle. Frames whose octants are all in the window already take no time here; they
are only released in their turn.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from ..arith.delay import late
from .compact_leaves import by_halves, lowest, number_of, rank_bits, several
from .compact_window import PLACE_BITS, octant_places, window_bits
from .descent_step import children_before
from .layouts import bits, word_layout

__all__ = ["FRAMES", "OctantFetch", "butterfly_controls", "frame_layout", "window_word"]

# Frames on their way; as deep as distributed memory is anyway.
FRAMES = 16


def frame_layout(design: MapDesign) -> data.StructLayout:
    """A node whose octants are wanted.

    ``words``: the octants around it by parity, ``wanted`` those to fetch. ``digit``, ``parity``: of the node, of its
    octant. ``level``, ``rank``: of the node. ``window``: of its own level, where they go; ``leaf``: its children are
    outputs.
    """
    return data.StructLayout({"words": data.ArrayLayout(word_layout(design), 8), "wanted": 8, "digit": 3, "parity": 3,
                              "level": design.level_bits, "rank": rank_bits(design), "window": window_bits(design),
                              "leaf": 1})


def window_word(design: MapDesign) -> data.StructLayout:
    """A word of a window; ``there``: the node exists."""
    return data.StructLayout({"mask": 8, "base": design.index_bits, "there": 1})


def butterfly_controls(banks: list[Value], mask: Value) -> list[list[Value]]:
    """Stages of a butterfly that brings the word of bank ``banks[child]`` to each existing child.

    The last stage decides by bit 0 of the bank, the first one by bit 2. Ranks of the children are consecutive, so
    of two children that differ in digit bit 0 alone the banks differ in bit 0, and never do two want one line: at
    line ``at`` before the last stage, digit bit 0 is replaced by the bank's, and so on.
    """
    last = [bank[0] for bank in banks]
    # Before the last stage: is the line used, and bits 1 and 2 of the bank it brings.
    used, middle, high = [], [], []
    for at in range(8):
        even, odd = at & ~1, at | 1
        mine = mask[even] & (banks[even][0] == at & 1)
        used.append(mine | (mask[odd] & (banks[odd][0] == at & 1)))
        middle.append(Mux(mine, banks[even][1], banks[odd][1]))
        high.append(Mux(mine, banks[even][2], banks[odd][2]))
    first = []
    for at in range(8):
        even, odd = at & ~2, at | 2
        first.append(Mux(used[even] & (middle[even] == at >> 1 & 1), high[even], high[odd]))
    return [first, middle, last]


class OctantFetch(wiring.Component):
    """Fetches octants, one a cycle.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    put : In(1); i : In(frame_layout)
        Only while fewer than `FRAMES` are inside.
    release : Out(1), release_level : Out, release_rank : Out, release_leaf : Out(1)
        A frame has left: its last octant is in the window three edges later, or sooner.
    words_rows : Out(8 rows), words_read : Out(1), words : In(8 words)
        Of `TreeStore`.
    write : Out(8), window : Out, leaf : Out(1), places : Out(8 places), found : Out(8 words)
        Into a window.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        rows = data.ArrayLayout(bits(design.compact_rows), 8)
        super().__init__({"put": In(1), "i": In(frame_layout(design)), "release": Out(1),
                          "release_level": Out(design.level_bits), "release_rank": Out(rank_bits(design)),
                          "release_leaf": Out(1), "words_rows": Out(rows), "words_read": Out(1),
                          "words": In(data.ArrayLayout(word_layout(design), 8)), "write": Out(8),
                          "window": Out(window_bits(design)), "leaf": Out(1),
                          "places": Out(data.ArrayLayout(PLACE_BITS, 8)),
                          "found": Out(data.ArrayLayout(window_word(design), 8))})

    @property
    def module_name(self) -> str:
        return f"octant_fetch_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design

        # All frames, in order, and those that have octants to fetch.
        turn = data.StructLayout({"level": design.level_bits, "rank": rank_bits(design), "leaf": 1, "skip": 1})
        heavy = data.StructLayout({name: field.shape for name, field in frame_layout(design) if name != "rank"})
        skip, last = ~self.i.wanted.any(), Signal()
        new_turn, new_frame = Signal(turn), Signal(heavy)
        m.d.comb += [*(new_turn[name].eq(self.i[name]) for name in ("level", "rank", "leaf")), new_turn.skip.eq(skip),
                     *(new_frame[name].eq(self.i[name]) for name in heavy.members)]
        turns, this = self._queue(m, "turns", new_turn, self.put, self.release)
        frames, frame = self._queue(m, "frames", new_frame, self.put & ~skip, last)

        # The next octant of the frame; the last one.
        done, left = Signal(8), Signal(8)
        hot, single = lowest(left), ~several(by_halves(left))
        m.d.comb += [left.eq(frame.wanted & ~done), last.eq(frames & single)]
        with m.If(frames):
            m.d.sync += done.eq(Mux(single, 0, done | hot))
        # The turn of a frame comes when it is done, or at once if it has nothing to do.
        finished, released = Signal(range(2 * FRAMES)), Signal(range(2 * FRAMES))
        m.d.comb += [self.release.eq(turns & (this.skip | (finished != released))), self.release_level.eq(this.level),
                     self.release_rank.eq(this.rank), self.release_leaf.eq(this.leaf)]
        with m.If(last):
            m.d.sync += finished.eq(finished + 1)
        with m.If(self.release & ~this.skip):
            m.d.sync += released.eq(released + 1)

        valid = late(m, frames, "valid1", False)
        word: Value = Const(0, design.word_bits)
        for at in range(8):
            word = word | (frame.words[at].as_value() & hot[at].replicate(design.word_bits))
        octant = number_of(hot)
        halves = [Mux(octant[axis], frame.parity[axis] | frame.digit[axis], frame.parity[axis] & frame.digit[axis])
                  for axis in range(3)]
        first = Signal(bits(design.compact_rows))
        with m.Switch(frame.level):
            for level in range(1, design.depth + 1):
                with m.Case(level):
                    m.d.comb += first.eq(design.compact_base(level))
        where = data.StructLayout({"octant": 3, "halves": 3, "window": window_bits(design), "leaf": 1})
        place = Signal(where)
        m.d.comb += [place.octant.eq(octant), place.halves.eq(Cat(halves)), place.window.eq(frame.window),
                     place.leaf.eq(frame.leaf)]
        self._read(m, valid, data.View(word_layout(design), late(m, word, "word1")),
                   late(m, first, "first1"), late(m, place, "place1"))
        return m

    @staticmethod
    def _queue(m: Module, name: str, new: data.View, put: Value, take: Value) -> tuple[Value, data.View]:
        """In distributed memory; whether there is an item, and the first one."""
        layout = new.shape()
        m.submodules[name] = memory = Memory(shape=layout.size, depth=FRAMES, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head, tail = Signal(range(2 * FRAMES), name=f"{name}_head"), Signal(range(2 * FRAMES), name=f"{name}_tail")
        m.d.comb += [write.en.eq(put), write.addr.eq(tail), write.data.eq(new.as_value()), read.addr.eq(head)]
        with m.If(put):
            m.d.sync += tail.eq(tail + 1)
        with m.If(take):
            m.d.sync += head.eq(head + 1)
        return head != tail, data.View(layout, read.data)

    def _read(self, m: Module, valid: Value, octant: data.View, first: Value, place: data.View) -> None:
        """The octant's words out of the memory, and to their digits."""
        design = self.design
        row, low = Signal(bits(design.compact_rows)), octant.base[:3]
        following = Signal.like(row, name="following")
        # The row after it on a carry chain of its own.
        m.d.comb += [row.eq(first + octant.base[3:]), self.words_read.eq(valid),
                     following.eq((Cat(Const(1, 1), first) + Cat(Const(1, 1), octant.base[3:]))[1:]),
                     *(self.words_rows[b].eq(Mux(low > b, following, row) if b < 7 else row) for b in range(8))]
        # Bank of each child.
        banks = [low] + [(low + children_before(octant.mask, child))[:3] for child in range(1, 8)]
        valid2 = late(m, valid, "valid2", False)
        banks2, mask2 = late(m, Cat(banks), "banks2"), late(m, octant.mask, "mask2")
        place2 = late(m, place, "place2")

        # The words come; how they go through the butterfly.
        control = butterfly_controls([banks2.word_select(child, 3) for child in range(8)], mask2)
        write = late(m, valid2, "write", False)
        controls = [late(m, Cat(stage), f"control{at}") for at, stage in enumerate(control)]
        words3 = [late(m, self.words[b].as_value(), f"word3_{b}") for b in range(8)]
        mask3, place3 = late(m, mask2, "mask3"), late(m, place2, "place3")

        moved = words3
        for stage, bit in zip(controls, (2, 1, 0), strict=True):
            moved = [Mux(stage[at], moved[at | 1 << bit], moved[at & ~(1 << bit)]) for at in range(8)]
        places, inside = octant_places(place3.octant, [place3.halves[axis] for axis in range(3)])
        m.d.comb += [self.write.eq(inside & write.replicate(8)), self.window.eq(place3.window),
                     self.leaf.eq(place3.leaf)]
        for child in range(8):
            word = data.View(word_layout(design), moved[child])
            m.d.comb += [self.places[child].eq(places[child]), self.found[child].mask.eq(word.mask),
                         self.found[child].base.eq(word.base), self.found[child].there.eq(mask3[child])]
