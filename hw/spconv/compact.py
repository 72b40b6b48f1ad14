# amaranth: UnusedElaboratable=no
"""Map search by octree descent on compact memory: eight banks by rank, and windows of what was fetched.

::

                        ┌──────────────── nodes that wait ◄────────────────┐ children, by walk memory
    roots ──► schedule ─┴► child ──► words around it ──► octants to fetch ─┴──► fetch ──► compact memory
                              place │  ▲                 (those not in the        │ │
                                    ▼  │                  window yet)             │ └─► released
                             windows of the upper levels ◄────────────────────────┤
                             windows of the leaf nodes   ◄────────────────────────┘
                                    ▲  │
                              place │  ▼
    leaf nodes ─────────────► child ──► words around it ──► row ──► queue ──► o

The 27 neighbours of a node lie in eight octants of eight parities. Their words are fetched octant by octant, and once
for all the 64 grandchildren of a node together: these lie close enough that their neighbours fit a window of 6x6x6
words. Out of it come, one child a cycle, the eight words around that child: a row of the map, or the octants around a
node of the level below.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan

from ..arith.delay import late
from ..emit import shared
from .compact_fetch import FRAMES, OctantFetch, frame_layout, window_word
from .compact_leaves import LeafNodes, node_layout
from .compact_schedule import CompactSchedule
from .compact_window import WindowMemory, child_places, nodes_there, octant_halves, octants_wanted, window_bits
from .descent_ports import Descent
from .layouts import bits, row_layout, word_layout
from .row_queue import RowQueue

__all__ = ["CompactDescent"]


class CompactDescent(Descent):
    """Map search of one tree. `models.cost.spconv.map_compact` has the exact cycles.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    words_rows : Out(8 rows); words_read : Out(1); words : In(8 words)
        As `TreeStore` has them. The others are those of `Descent`.
    """

    def __init__(self, design: MapDesign):
        words = data.ArrayLayout(word_layout(design), 8)
        super().__init__(design, {"words_rows": Out(data.ArrayLayout(bits(design.compact_rows), 8)),
                                  "words_read": Out(1), "words": In(words)})

    @property
    def module_name(self) -> str:
        return f"compact_descent_{self.design.name}"

    @property
    def parameters(self) -> dict:
        plan = WindowPlan.of(self.design)
        return super().parameters | {"upper_windows": plan.upper_windows, "leaf_windows": plan.leaf_windows}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        begin = self.begin = Signal()
        m.d.comb += [begin.eq(self.start & ~self.busy), self.walk_tree.eq(self.offset)]
        with m.If(begin):
            m.d.sync += self.busy.eq(1)
        with m.Elif(self.o.valid & self.o.ready & self.o.payload.last):
            m.d.sync += self.busy.eq(0)
        m.submodules.schedule = schedule = self.schedule = CompactSchedule(design)
        m.submodules.leaves = leaves = self.leaves = LeafNodes(design)
        m.submodules.fetch = fetch = self.fetch = OctantFetch(design)
        word = window_word(design)
        windows, plan = {}, WindowPlan.of(design)
        for name, count in (("upper", plan.upper_windows), ("leaf", plan.leaf_windows)):
            if not count:
                continue
            m.submodules[f"{name}_windows"] = memory = windows[name] = shared(WindowMemory(word.size, count))
            m.d.comb += [memory.write.eq(fetch.write & (fetch.leaf ^ (name == "upper")).replicate(8)),
                         memory.write_window.eq(fetch.window), memory.write_places.eq(fetch.places), memory.read.eq(1),
                         *(memory.words[j].eq(fetch.found[j].as_value()) for j in range(8))]
        outputs_at = Signal(design.depth, reset_less=True)
        m.d.sync += outputs_at.eq(Cat(self.target == at for at in range(design.depth)))
        m.d.comb += [schedule.begin.eq(begin), schedule.roots.eq(self.roots), schedule.present.eq(self.present),
                     schedule.outputs_at.eq(outputs_at), schedule.leaf_taken.eq(leaves.taken),
                     schedule.leaf_begins.eq(leaves.begins), leaves.begin.eq(begin),
                     schedule.release.eq(fetch.release & ~fetch.release_leaf),
                     schedule.release_level.eq(fetch.release_level), schedule.release_rank.eq(fetch.release_rank),
                     leaves.release.eq(fetch.release & fetch.release_leaf), leaves.release_rank.eq(fetch.release_rank),
                     fetch.words.eq(self.words), self.words_rows.eq(fetch.words_rows),
                     self.words_read.eq(fetch.words_read)]

        # Stage 1: a child, and where the nodes around it are.
        around = {}
        for name, source in (("upper", schedule), ("leaf", leaves)):
            node, child = source.node, source.child
            there = nodes_there(node.there, node.digit, node.parity, child)
            there = late(m, there & source.go.replicate(8), f"{name}_there2", False)
            if name in windows:
                memory = windows[name]
                m.d.comb += [memory.read_window.eq(node.window),
                             *(memory.read_places[j].eq(place)
                               for j, place in enumerate(child_places(m, name, node.digit, node.parity, child)))]
                found = [data.View(word, memory.found[j]) for j in range(8)]
                around[name] = [(found[j].mask, found[j].base, there[j] & found[j].there) for j in range(8)]
        self.some_room = Signal()
        rank = self._rank(m)
        self._upper(m, around, rank)
        self._rows(m, around, rank)
        return m

    # Rows of the map -------------------------------------------------------------------------------

    def _rows(self, m: Module, around: dict, upper_rank: Signal) -> None:
        design, schedule, leaves = self.design, self.schedule, self.leaves
        layout = row_layout(design)
        m.submodules.rows = queue = RowQueue(layout, design.rows)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        upper, goes, free = Signal(), Signal(), Signal(range(-1, design.rows), init=design.rows - 1)    # room less 1
        m.d.comb += [self.some_room.eq(~free[-1]), upper.eq(schedule.go & self.every & ~schedule.is_root),
                     goes.eq(upper | leaves.go | schedule.none),
                     leaves.ready.eq(self.some_room & ~upper)]
        m.d.sync += free.eq(free + (self.o.valid & self.o.ready) - goes)
        rank = Signal(design.index_bits)
        with m.If(self.begin):
            m.d.sync += rank.eq(0)
        with m.Elif(leaves.go):
            m.d.sync += rank.eq(rank + 1)

        new = Signal(layout)
        upper2 = late(m, upper, "upper2")
        about = {"digit": Mux(upper, schedule.child, leaves.child), "level": Mux(upper, schedule.level, self.target),
                 "parity": Mux(upper, schedule.node.digit, leaves.node.digit), "pair": ~schedule.none,
                 "index": Mux(upper, upper_rank, rank),
                 "last": schedule.none | (~upper & leaves.node.last & leaves.done)}
        m.d.comb += [new[name].eq(late(m, late(m, value, f"row2_{name}"), f"row3_{name}"))
                     for name, value in about.items()]
        for j in range(8):
            mask, base, there = around["leaf"][j]
            mask &= there.replicate(8)
            if "upper" in around:
                other, other_base, there = around["upper"][j]
                mask |= other & (there & upper2).replicate(8)
                base = Mux(upper2, other_base, base)
            m.d.comb += [new.words[j].mask.eq(late(m, mask, f"row_mask3_{j}")),
                         new.words[j].base.eq(late(m, base, f"row_base3_{j}"))]
        m.d.comb += [queue.put.eq(late(m, late(m, goes, "goes2", False), "goes3", False)), queue.i.eq(new)]

    # Nodes above the outputs -----------------------------------------------------------------------

    def _rank(self, m: Module) -> Signal:
        """Of the child: nodes of a level come in order."""
        design, schedule = self.design, self.schedule
        m.submodules.ranks = memory = Memory(shape=design.index_bits, depth=design.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        touched, rank = Signal(design.depth), Signal(design.index_bits, name="rank1")
        m.d.comb += [read.addr.eq(schedule.at), rank.eq(Mux((schedule.hot & touched).any(), read.data, 0)),
                     write.addr.eq(schedule.at), write.data.eq(rank + 1), write.en.eq(schedule.go)]
        with m.If(self.begin):
            m.d.sync += touched.eq(0)
        with m.Elif(schedule.go):
            m.d.sync += touched.eq(touched | schedule.hot)
        return rank

    def _upper(self, m: Module, around: dict, rank: Signal) -> None:
        design, schedule, fetch = self.design, self.schedule, self.fetch
        room = Signal(range(-1, FRAMES), init=FRAMES - 1)       # less 1
        m.d.comb += schedule.ready.eq(~room[-1] & (~self.every | self.some_room))
        m.d.sync += room.eq(room + fetch.release - schedule.go)

        # Stage 2: the words come; the child's own children are asked for.
        child = data.StructLayout({"level": design.level_bits, "rank": design.index_bits, "digit": 3, "parity": 3,
                                   "window": window_bits(design), "begins": 1, "ends": 1, "last": 1, "leaf": 1})
        child1 = Signal(child)
        m.d.comb += [getattr(child1, name).eq(getattr(schedule, name))
                     for name in ("level", "window", "begins", "ends", "last", "leaf")]
        m.d.comb += [child1.rank.eq(rank), child1.digit.eq(schedule.child), child1.parity.eq(schedule.node.digit)]
        child2, valid2 = late(m, child1, "child2"), late(m, schedule.go, "valid2", False)
        is_root, root = late(m, schedule.is_root, "is_root2"), late(m, schedule.root, "root2")
        base = Signal(len(self.walk_upper_address))
        with m.Switch(Cat(child2.level, self.offset)):
            for offset in range(2):
                for level in range(2 + offset, design.depth + 1):
                    with m.Case(level | offset << design.level_bits):
                        m.d.comb += base.eq(design.walk_base(level - offset))
        m.d.comb += [self.walk_leaf_address.eq(child2.rank), self.walk_leaf_read.eq(valid2),
                     self.walk_upper_address.eq(child2.rank + base), self.walk_upper_read.eq(valid2)]
        words2 = []
        for j in range(8):
            mask, below, there = around["upper"][j] if "upper" in around else (Const(0, 8), Const(0, 1), Const(0, 1))
            mask &= there.replicate(8)
            words2.append((Mux(is_root, int(j == 0), mask), Mux(is_root, root, below) if j == 0 else below))

        # Stage 3: which octants around the child have nodes in its window, and which of them are not there yet.
        child3, valid3 = late(m, child2, "child3"), late(m, valid2, "valid3", False)
        leaf_walk = late(m, child2.level == 1 + self.offset, "leaf_walk3")
        single = late(m, self.half & child2.leaf, "single3")
        masks = [late(m, mask, f"mask3_{j}") for j, (mask, _) in enumerate(words2)]
        bases = [late(m, below, f"base3_{j}") for j, (_, below) in enumerate(words2)]
        halves2 = octant_halves(child2.digit, child2.parity)
        halves = [late(m, half, f"halves3_{axis}") for axis, half in enumerate(halves2)]
        seen = late(m, self._seen(m, child2, valid2, halves2), "seen3")
        wanted = octants_wanted(masks, halves)
        node, frame = Signal(node_layout(design)), Signal(frame_layout(design))
        m.d.comb += [node.mask.eq(Mux(single, 1, Mux(leaf_walk, self.walk_leaf_mask, self.walk_upper_mask))),
                     node.there.eq(wanted), frame.wanted.eq(wanted & ~seen), frame.rank.eq(child3.rank)]
        m.d.comb += [node[name].eq(child3[name]) for name in ("digit", "parity", "window", "begins", "ends", "last")]
        m.d.comb += [frame[name].eq(child3[name]) for name in ("digit", "parity", "level", "window", "leaf")]
        m.d.comb += [part for j in range(8)
                     for part in (frame.words[j].mask.eq(masks[j]), frame.words[j].base.eq(bases[j]))]
        m.d.comb += [fetch.put.eq(valid3), fetch.i.eq(frame)]

        # Stage 4: it waits.
        node4, child4, valid4 = (late(m, value, f"{name}4", name != "valid") for name, value in (
            ("node", node), ("child", child3), ("valid", valid3)))
        for unit, mine in ((schedule, ~child4.leaf), (self.leaves, child4.leaf)):
            m.d.comb += [unit.put.eq(valid4 & mine), unit.put_rank.eq(child4.rank), unit.put_node.eq(node4)]
        m.d.comb += schedule.put_level.eq(child4.level)

    def _seen(self, m: Module, child: data.View, valid: Value, halves: list[Value]) -> Value:
        """Octants around a child that another child of its window has asked for; of each level's newest window."""
        design = self.design
        m.submodules.seen = memory = Memory(shape=64, depth=design.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        at = (child.level - 1)[:bits(design.depth)]
        before, mine = Signal(64), Signal(64)
        seen = []
        for j in range(8):
            number = Cat(halves[axis][j >> axis & 1] for axis in range(3))
            m.d.comb += mine[8 * j:8 * j + 8].eq(Cat(number == place for place in range(8)))
            seen.append(before.word_select(j, 8).bit_select(number, 1))
        m.d.comb += [read.addr.eq(at), before.eq(Mux(child.begins, 0, read.data)), write.addr.eq(at),
                     write.data.eq(before | mine), write.en.eq(valid)]
        return Cat(seen)
