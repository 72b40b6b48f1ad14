# amaranth: UnusedElaboratable=no
"""Octree of a stream of ascending keys.

::

    i {key} ──► key ──► compare with the key before ──► open path ──closing──► level 1 ──────────► leaf write
                        digits that differ, smaller     mask of each level     levels 2 .. depth
                                                        number of nodes          one waiting word each
                                                               │                          │ lowest first, one a cycle
                                                               ▼                          ▼
                                                        o {index, keep}   walk, row, base of its level ──► upper write

The highest digit that differs closes the nodes of all levels below. Of the node of each level that is open only the
mask is held. Place and first child of a closed one follow from how many of its level were written before it and how
many children those had, so a small memory of three numbers for each level does for all of them.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .encoder import COUNTER_BITS, saturating
from .layouts import kept_layout, key_layout, node_write_layout

__all__ = ["OctreeBuilder"]


class OctreeBuilder(wiring.Component):
    """The tree of one cloud.

    A key each cycle. From the first key taken to ``done`` a cloud of N keys takes ``N + depth + 3`` cycles (``N + 3``
    at depth 1) where no word waits for another of its own level; `models.cost.spconv.octree` has the exact cycles of
    any cloud. Every key gives one token on ``o``, two edges later: whether it is a row, and which. A key without
    ``mask`` is no row, nor is one equal to the key before it.

    After an error (``unsorted``, ``overflow``, ``rejected``; they stay until ``clear``) no further key is a row, and
    the tree stays as it is: the key that raised it is the first that is left out. Nothing is ever written beyond the
    memories.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    i : In(stream of key_layout)
        Ascending keys. After ``last`` none is taken until ``clear``.
    o : Out(stream of kept_layout)
    strict : In(1)
        A key that was ``dropped`` for its range, or that is there twice, is an error. Constant while a cloud comes.
    clear : In(1)
        Forget the cloud (a token that is offered stays). Needed between two clouds.
    leaf_en, upper_en : Out(1); leaf, upper : Out(node_write_layout)
        A node of level 1; of a level above.
    counts : Out(depth + 1 numbers of count_bits)
        Voxels and nodes of each level, level 0 first.
    duplicates : Out(32)
        Keys left out because they equal the one before; stops at its maximum.
    unsorted : Out(1)
        A key was smaller than the one before.
    overflow : Out(1)
        A key needed a voxel or a node more than a level holds.
    rejected : Out(1)
        With ``strict``: a key was out of range or there twice.
    done : Out(1)
        The tree is written; until ``clear``.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(key_layout(design))),
                          "o": Out(stream.Signature(kept_layout(design))), "strict": In(1), "clear": In(1),
                          "leaf_en": Out(1), "leaf": Out(node_write_layout(design, leaf=True)),
                          "upper_en": Out(1), "upper": Out(node_write_layout(design, leaf=False)),
                          "counts": Out(data.ArrayLayout(design.count_bits, design.depth + 1)),
                          "duplicates": Out(COUNTER_BITS), "unsorted": Out(1), "overflow": Out(1), "rejected": Out(1),
                          "done": Out(1)})

    @property
    def module_name(self) -> str:
        return f"octree_builder_{self.design.name}"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"depth": d.depth, "batch_bits": d.batch_bits, "capacity": d.capacity, "levels": list(d.levels),
                "search": d.search}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, depth = self.design, self.design.depth
        i, o = self.i, self.o
        levels = range(1, depth + 1)

        # The key, and how it differs from the one before: of levels 0 .. depth, which node is another one.
        valid, mask, last, dropped = Signal(), Signal(), Signal(), Signal()
        key, less, differs = Signal(design.key_bits, reset_less=True), Signal(), Signal(depth + 1)
        seen, closed, ending, ended = Signal(), Signal(), Signal(), Signal()
        run, go, lost = Signal(), Signal(), Signal()
        take, new_key = Signal(), i.payload.key
        m.d.comb += [i.ready.eq((~valid | run) & (~closed & ~self.clear)), take.eq(i.valid & i.ready)]
        digits = [new_key[3 * d:3 * d + 3] != key[3 * d:3 * d + 3] for d in range(depth)]
        digits.append(new_key[3 * depth:] != key[3 * depth:] if design.batch_bits else Const(0, 1))
        above = Cat(Cat(digits[level:]).any() | ~seen for level in range(depth + 1))
        with m.If(take):
            m.d.sync += [valid.eq(1), mask.eq(i.payload.mask), last.eq(i.payload.last),
                         dropped.eq(i.payload.dropped), closed.eq(i.payload.last), seen.eq(seen | i.payload.mask),
                         less.eq(i.payload.mask & seen & (new_key < key)),
                         differs.eq(above & i.payload.mask.replicate(depth + 1))]
            with m.If(i.payload.mask):
                m.d.sync += key.eq(new_key)
        with m.Elif(go):
            m.d.sync += valid.eq(0)

        # Whether the key is a row.
        full, begun, error = Signal(depth + 1), Signal(), Signal()
        beyond, row, twice = Signal(), Signal(), Signal()
        m.d.comb += [run.eq((~o.valid | o.ready) & ~lost), go.eq(run & valid),
                     error.eq(self.unsorted | self.overflow | self.rejected), beyond.eq((differs & full).any()),
                     twice.eq(mask & ~differs[0]), row.eq(valid & differs[0] & ~(less | beyond | error))]
        opens = [Signal(name=f"open{level}") for level in range(depth + 1)]
        closes = [None, *(Signal(name=f"close{level}") for level in levels)]
        m.d.comb += [opens[level].eq(run & (row & differs[level])) for level in range(depth + 1)]
        m.d.comb += [closes[level].eq(run & (begun & (row | ending) & differs[level])) for level in levels]
        saturating(m, self.duplicates, go & twice & ~error)
        with m.If(go & ~error):
            m.d.sync += [self.unsorted.eq(less), self.overflow.eq(beyond & ~less),
                         self.rejected.eq(self.strict & (dropped | twice))]
        with m.If(opens[0]):
            m.d.sync += begun.eq(1)
        with m.If(go & last):
            # Like a key that differs in everything, but none comes.
            m.d.sync += [ending.eq(1), differs.eq(~0)]
        with m.If(run & ending):
            m.d.sync += [ending.eq(0), ended.eq(1)]

        counts = [Signal(range(design.held(level) + 1), name=f"count{level}") for level in range(depth + 1)]
        for level, count in enumerate(counts):
            m.d.comb += self.counts[level].eq(count)
            with m.If(opens[level]):
                m.d.sync += count.eq(count + 1)
                if design.held(level) < design.batches << 3 * (depth - level):  # else the whole grid has room
                    m.d.sync += full[level].eq(count == design.held(level) - 1)
        with m.If(go):
            m.d.sync += [o.valid.eq(1), o.payload.index.eq(counts[0]), o.payload.keep.eq(row), o.payload.last.eq(last)]
        with m.Elif(o.ready):
            m.d.sync += o.valid.eq(0)

        # The open path: children of each level's node so far, and the digits of the nodes themselves.
        masks = [None, *(Signal(8, name=f"mask{level}", reset_less=True) for level in levels)]
        path = Signal(3 * depth, reset_less=True)
        for level in levels:
            hot = (Const(1, 8) << key[3 * level - 3:3 * level])[:8]
            with m.If(opens[level - 1]):
                m.d.sync += masks[level].eq(hot | Mux(opens[level], 0, masks[level]))
        with m.If(opens[0]):
            m.d.sync += path.eq(key)
        own = [path[3 * level:3 * level + 3] if level < depth else Const(0, 3) for level in range(depth + 1)]
        self._leaf(m, counts, opens, closes[1], masks[1], own[1])
        resets = [valid, seen, closed, ending, ended, begun, full, *counts, self.duplicates, self.unsorted,
                  self.overflow, self.rejected, self.done, self.leaf_en]
        if depth == 1:
            m.d.sync += self.done.eq(ended)
        else:
            resets += self._upper(m, closes, differs, masks, own, lost, ended)
        with m.If(self.clear):
            m.d.sync += [register.eq(0) for register in resets]
        return m

    def _leaf(self, m: Module, counts: list, opens: list, closing: Value, mask: Value, digit: Value) -> None:
        """The node of level 1: written as it closes."""
        design, leaf = self.design, self.leaf
        rank, base = Signal(design.index_bits, reset_less=True), Signal(design.index_bits, reset_less=True)
        with m.If(opens[1]):
            m.d.sync += [rank.eq(counts[1]), base.eq(counts[0])]
        if design.search == "compact":
            bank, row = rank[:3], rank[3:]
        elif design.depth == 1:
            bank, row = Const(0, 3), rank
        else:
            bank, row = digit, Signal(design.index_bits, name="parent", reset_less=True)
            with m.If(opens[2]):
                m.d.sync += row.eq(counts[2])
        m.d.sync += [self.leaf_en.eq(closing), leaf.walk.eq(rank), leaf.bank.eq(bank), leaf.row.eq(row),
                     leaf.mask.eq(mask), leaf.base.eq(base)]

    def _upper(self, m: Module, closes: list, differs: Value, masks: list, own: list, lost: Value,
               ended: Value) -> list[Signal]:
        """Nodes of the levels above: one of each can wait, and one a cycle is written."""
        design, upper = self.design, self.upper
        levels = range(2, design.depth + 1)
        # One node of each level can wait. Chosen is the lowest that does, ``others`` the rest, of level 3 and up. A key
        # that closes some of these levels closes level 2.
        chosen, some, others = Signal(len(levels)), Signal(), Signal(len(levels) - 1)
        lowest = Cat(others[at] & ~others[:at].any() for at in range(len(others)))
        m.d.comb += lost.eq((differs[3:] & others).any())
        with m.If(closes[2]):
            m.d.sync += [chosen.eq(1), some.eq(1), others.eq(others | Cat(closes[3:]))]
        with m.Else():
            m.d.sync += [chosen.eq(Cat(0, lowest)), some.eq(others.any()), others.eq(others & ~lowest)]
        word = data.StructLayout({"mask": 8, "digit": 3, "step": 1})
        words = [Signal(word, name=f"word{level}", reset_less=True) for level in levels]
        for at, level in enumerate(levels):
            with m.If(closes[level]):
                # The next node of the level has the next place if its parent is another one. Each root has its own.
                step = differs[level + 1] if level < design.depth and design.search == "parity" else Const(1, 1)
                m.d.sync += words[at].eq(Cat(masks[level], own[level], step))

        # The word that goes next, and whether it is the first of its level.
        goes, first, touched = Signal(), Signal(reset_less=True), Signal(len(levels))
        index, held = Signal(range(len(levels)), reset_less=True), Signal(word, reset_less=True)
        picked = Const(0, word.size)
        for at in range(len(levels)):
            picked = picked | (words[at].as_value() & chosen[at].replicate(word.size))
        code = [Cat(chosen[at] for at in range(len(levels)) if at >> bit & 1).any() for bit in range(len(index))]
        m.d.sync += [goes.eq(some), first.eq(~(chosen & touched).any()), touched.eq(touched | chosen),
                     index.eq(Cat(code)), held.eq(picked)]

        # What is known of each level: where its next node lies, and that node's first child.
        compact = design.search == "compact"
        start = {level: (design.walk_base(level), 8 * design.compact_base(level) if compact else design.row_base(level))
                 for level in levels}
        place_bits = len(upper.row) + (3 if compact else 0)
        state = data.StructLayout({"walk": len(upper.walk), "place": place_bits, "base": design.index_bits})
        m.submodules.state = memory = Memory(shape=state.size, depth=1 << len(index), init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        fresh, now, then = (Signal(state, name=name) for name in ("fresh", "now", "then"))
        with m.Switch(index):
            for at, level in enumerate(levels):
                with m.Case(at):
                    m.d.comb += [fresh.walk.eq(start[level][0]), fresh.place.eq(start[level][1])]
        low, high = (held.mask[4 * half:4 * half + 4] for half in range(2))
        children = self._ones(m, low, "low") + self._ones(m, high, "high")
        m.d.comb += [read.addr.eq(index), write.addr.eq(index), write.en.eq(goes), write.data.eq(then.as_value()),
                     now.eq(Mux(first, fresh.as_value(), read.data)), then.walk.eq(now.walk + 1),
                     then.place.eq(now.place + held.step), then.base.eq(now.base + children)]
        bank, row = (now.place[:3], now.place[3:]) if compact else (held.digit, now.place)
        m.d.sync += [self.upper_en.eq(goes), upper.walk.eq(now.walk), upper.bank.eq(bank), upper.row.eq(row),
                     upper.mask.eq(held.mask), upper.base.eq(now.base),
                     self.done.eq(ended & ~some & ~goes)]
        return [chosen, others, some, goes, touched, self.upper_en]

    @staticmethod
    def _ones(m: Module, bits: Value, name: str) -> Signal:
        """How many of four bits are set: three LUT4."""
        count = Signal(3, name=f"ones_{name}")
        with m.Switch(bits):
            for value in range(16):
                with m.Case(value):
                    m.d.comb += count.eq(value.bit_count())
        return count
