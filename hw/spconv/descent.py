# amaranth: UnusedElaboratable=no
"""Map search by octree descent on parity rows: the surroundings of every node come from those of its parent.

::

    roots ──► schedule ──► frame of a ──► octants around ──► upper search ──► words ──┬─► frame of the child ──┐
              ▲   ▲        node           the child          memory   ranks ──────────┘                        │
              │   │        ▲                                                                                   │
              │   │        └────────────────────────── queue of each level ◄── above level 1 ──────────────────┤
              │   └─ its children ◄── walk memory                                                              │
              └─ room                                                                                          │
    children ──► frame of a ──► octants around ──► leaf search ──► words ──► row of a voxel ──► o              │
    of level 1   node           the voxel          memory                                                      │
                 ▲                                                                                             │
                 └──────────────────────────────────── queue of level 1 ◄──────────────────────────────────────┘

Two engines: the upper one visits a node above the voxels each cycle, the leaf one a voxel each cycle. A step takes
several cycles, which the queues hide. Nodes of a level keep their order, so the children of a visited node are found
by counting the nodes of its level.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from ..arith.pipeline import Pipeline
from .descent_ports import Descent
from .descent_schedule import Children, DescentSchedule, counted
from .descent_step import children_before, frame_layout, octants_around, sides_of
from .layouts import bits, row_layout, word_layout
from .row_queue import RowQueue

__all__ = ["ParityDescent"]


class ParityDescent(Descent):
    """Map search of one tree. `models.cost.spconv.map_search` has the exact cycles.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    leaf_rows, upper_rows : Out(8 rows); leaf_read, upper_read : Out(1); leaf_words, upper_words : In(8 words)
        As `TreeStore` has them. The others are those of `Descent`.
    """

    def __init__(self, design: MapDesign):
        search: dict[str, wiring.Member] = {}
        for name, rows in (("leaf", design.leaf_rows), ("upper", design.upper_rows)):
            search |= {f"{name}_rows": Out(data.ArrayLayout(bits(rows), 8)), f"{name}_read": Out(1),
                       f"{name}_words": In(data.ArrayLayout(word_layout(design), 8))}
        super().__init__(design, search)

    @property
    def module_name(self) -> str:
        return f"parity_descent_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe, self.writes = Pipeline(m, Const(1, 1)), {}
        begin = Signal()
        m.d.comb += [begin.eq(self.start & ~self.busy), self.walk_tree.eq(self.offset)]
        schedule = self._schedule(m, pipe, begin)
        self._walk(m, pipe, schedule)
        room = Signal()
        self._leaf(m, pipe, schedule, begin, room)
        self._upper(m, pipe, schedule)
        self._rows(m, pipe, schedule, begin, room)
        return m

    # Stage 1: a step of a level --------------------------------------------------------------------

    def _schedule(self, m: Module, pipe: Pipeline, begin: Value) -> DescentSchedule:
        design = self.design
        m.submodules.schedule = schedule = DescentSchedule(design)
        # What is asked for, by level. Only roots go in the first cycles.
        deepest = pipe.hold((self.target - 1)[:len(self.target)], "deepest")
        for at in range(design.depth):
            above = self.every & (self.target <= at) & (at < design.depth - 1)
            m.d.sync += [schedule.stays[at].eq(deepest == at), schedule.rows[at].eq((deepest == at) | above)]
        m.d.comb += schedule.begin.eq(begin)

        # Roots, one after the other.
        pending, root, opening = Signal(design.batches), Signal(max(design.batch_bits, 1)), Signal()
        m.d.comb += schedule.root.eq(pending[0])
        with m.If(begin):
            m.d.sync += [pending.eq(Cat(self.present[at] & (self.roots > at) for at in range(design.batches))),
                         root.eq(0), opening.eq(1)]
        with m.Else():
            m.d.sync += opening.eq(0)
            with m.If(schedule.root_taken | ~pending[0]):
                m.d.sync += [pending.eq(pending >> 1), root.eq(root + 1)]
        pipe.put("root", root, 0)
        pipe.put("root_last", ~pending[1:].any(), 0)
        pipe.put("nothing", opening & ~pending.any(), 1)
        pipe.put("go", schedule.go, 1, reset=True)
        pipe.put("at", schedule.at, 1)
        pipe.put("is_root", schedule.is_root, 1)
        pipe.put("slot", schedule.slot, 2)
        pipe.put("done", schedule.done, 2)
        pipe.put("child", schedule.child, 4)
        pipe.put("final", schedule.stay, 1)
        pipe.put("makes", schedule.go & ~schedule.stay, 1, reset=True)
        pipe.put("upper", schedule.row, 1)
        return schedule

    # Stages 1 to 4: the child's rank and its own children ------------------------------------------

    def _walk(self, m: Module, pipe: Pipeline, schedule: DescentSchedule) -> None:
        design, at = self.design, schedule.at
        m.submodules.ranks = memory = Memory(shape=bits(design.held(1)), depth=design.depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        rank = Signal(bits(design.held(1)))
        base = Signal(len(self.walk_upper_address))
        with m.Switch(Cat(at, self.offset)):
            for offset in range(2):
                for place in range(design.depth):
                    if place + 1 - offset > 1:
                        with m.Case(place | offset << len(at)):
                            m.d.comb += base.eq(design.walk_base(place + 1 - offset))
        m.d.comb += [read.addr.eq(at), write.addr.eq(at), write.en.eq(schedule.go), write.data.eq(rank + 1),
                     rank.eq(Mux(schedule.first, 0, read.data)),
                     self.walk_leaf_address.eq(rank), self.walk_leaf_read.eq(schedule.go),
                     self.walk_upper_address.eq(rank + base), self.walk_upper_read.eq(schedule.go)]
        pipe.put("rank", rank, 1)

        # A node without children of its own to visit has one: an output at twice its place.
        single, leaf = (pipe.hold(value, name) for value, name in (
            (self.half & (at == self.target), "single"), (at == self.offset, "leaf_mask")))
        mask = pipe.hold(Mux(single, 1, Mux(leaf, self.walk_leaf_mask, self.walk_upper_mask)), "mask_3")
        others = Cat(mask[child] & mask[:child].any() for child in range(1, 8))
        pipe.put("mask", mask, 3)
        pipe.put("more", children_before(others, 7), 3)
        pipe.put("for_leaf", pipe.at("at", 3) == 0, 3)
        m.d.comb += [schedule.put.eq(pipe.at("makes", 4) & ~pipe.at("for_leaf", 4)),
                     schedule.put_at.eq(pipe.at("at", 4)), schedule.put_slot.eq(pipe.at("rank", 4)),
                     schedule.put_mask.eq(pipe.at("mask", 4)), schedule.put_more.eq(pipe.at("more", 4))]

    # The leaf engine, in step with the upper one from stage 1 --------------------------------------

    def _leaf(self, m: Module, pipe: Pipeline, schedule: DescentSchedule, begin: Value, room: Value) -> None:
        design = self.design
        m.submodules.children = children = Children(1, design.queue)
        put, go, touched = Signal(), Signal(), Signal()
        left = Signal((8 * design.queue - 1).bit_length() + 1, init=-1)     # voxels that can be visited, less 1
        arrived, more = pipe.hold(put, "arrived", reset=True), pipe.hold(pipe.at("more", 4), "arrived_more")
        m.d.comb += [go.eq(~left[-1] & room & ~pipe.at("upper", 1)),
                     put.eq(pipe.at("makes", 4) & pipe.at("for_leaf", 4)), children.put.eq(put),
                     children.put_slot.eq(pipe.at("rank", 4)), children.put_mask.eq(pipe.at("mask", 4)),
                     children.put_more.eq(pipe.at("more", 4)), children.take.eq(go), children.first.eq(~touched)]
        gained = Signal(5)
        m.d.comb += gained.eq(Mux(arrived, more, -1))
        m.d.sync += left.eq(counted(left, gained, ~go))
        voxel = Signal(design.index_bits)
        with m.If(begin):
            m.d.sync += [touched.eq(0), voxel.eq(0)]
        with m.Elif(go):
            m.d.sync += [touched.eq(1), voxel.eq(voxel + 1)]
        pipe.put("leaf", go, 1, reset=True)
        pipe.put("voxel", voxel, 1)
        pipe.put("leaf_slot", children.slot, 2)
        pipe.put("leaf_done", children.done, 2)
        pipe.put("leaf_child", children.child, 4)
        m.d.comb += schedule.freed.eq(pipe.hold(pipe.at("leaf", 2) & children.done, "leaf_freed", reset=True))

        # Stage 5: where to look.
        frame, sides = self._frames(m, pipe, "leaf", design.queue, pipe.at("leaf", 3), pipe.at("leaf_slot", 3),
                                    children.child)
        found = octants_around(m, frame, sides)
        there = Cat(found[b].mask[b] & pipe.at("leaf", 5) for b in range(8))
        m.d.comb += [self.leaf_read.eq(pipe.at("leaf", 5)), *(self.leaf_rows[b].eq(found[b].row) for b in range(8))]
        pipe.put("leaf_there", there, 5)
        pipe.put("leaf_parity", frame.digit, 5)
        pipe.put("leaf_last", frame.last & pipe.at("leaf_done", 5), 5)

    # The upper engine ------------------------------------------------------------------------------

    def _upper(self, m: Module, pipe: Pipeline, schedule: DescentSchedule) -> None:
        design = self.design
        if design.depth > 1:
            frame, sides = self._frames(m, pipe, "upper", (design.depth - 1) << bits(design.queue), pipe.at("go", 3),
                                        Cat(pipe.at("slot", 3), pipe.at("at", 3)), schedule.child)
        else:
            frame, sides = Signal(frame_layout(design, leaf=False)), [[Const(0, 1)] * 2] * 3

        # Stage 5: where to look.
        is_root = pipe.at("is_root", 5)
        found = octants_around(m, frame, sides)
        m.d.comb += [self.upper_read.eq(pipe.at("go", 5)), *(self.upper_rows[b].eq(found[b].row) for b in range(8))]
        pipe.put("there", Cat(found[b].mask[b] & ~is_root for b in range(8)), 5)
        pipe.put("digit", Mux(is_root, 0, pipe.at("child", 5)), 5)
        pipe.put("parity", Mux(is_root, 0, frame.digit), 5)
        pipe.put("last", Mux(is_root, pipe.at("root_last", 5), frame.last & pipe.at("done", 5)), 5)
        for b in range(8):
            pipe.put(f"mask{b}", found[b].mask[:b], 5)
            # A root is the only octant around itself.
            pipe.put(f"base{b}", Mux(is_root, pipe.at("root", 5), found[b].base) if b == 0 else found[b].base, 5)

        # Stage 6: the words, and the ranks of their nodes.
        row_base = Signal(len(self.upper_rows[0]))
        with m.Switch(pipe.at("at", 6)):
            for at in range(1, design.depth):
                with m.Case(at):
                    m.d.comb += row_base.eq(design.row_base(at + 1))
        new = Signal(frame_layout(design))
        m.d.comb += [new[name].eq(pipe.at(name, 6)) for name in ("digit", "parity", "last")]
        for b in range(8):
            word, made, there = self.upper_words[b], new.octants[b], pipe.at("there", 6)[b]
            mask, base = word.mask & there.replicate(8), word.base
            if b == 0:
                mask, base = Mux(pipe.at("is_root", 6), 1, mask), Mux(pipe.at("is_root", 6), pipe.at("root", 6), base)
            before = children_before(pipe.at(f"mask{b}", 6), b)
            m.d.comb += [made.mask.eq(mask), made.base.eq(base),
                         made.row.eq(pipe.at(f"base{b}", 6) + Cat(before, row_base[3:]))]

        # Stage 7: it waits.
        waits, leaf, slot = pipe.hold(new, "frame_7"), pipe.at("for_leaf", 7), pipe.at("rank", 7)
        places = {"leaf": (leaf, slot)}
        if design.depth > 1:
            places["upper"] = (~leaf, Cat(slot[:bits(design.queue)], (pipe.at("at", 7) - 1)[:len(schedule.at)]))
        for name, (wanted, address) in places.items():
            write = self.writes[name]
            m.d.comb += [write.en.eq(pipe.at("makes", 7) & wanted), write.addr.eq(address),
                         write.data.eq(_narrowed(m, waits, frame_layout(design, leaf=name == "leaf")))]

    def _frames(self, m: Module, pipe: Pipeline, name: str, places: int, enable: Value, address: Value,
                child: Value) -> tuple[data.View, list[list[Value]]]:
        """A node that waits, and `sides_of` a child. Read at stage 3, there at stage 5: block memory is slow."""
        layout = frame_layout(self.design, leaf=name == "leaf")
        m.submodules[f"{name}_frames"] = memory = Memory(shape=layout.size, depth=places, init=[],
                                                         attrs={"ram_style": "block", "no_rw_check": 1})
        self.writes[name], read = memory.write_port(), memory.read_port()
        m.d.comb += [read.en.eq(enable), read.addr.eq(address)]
        sides = [[pipe.hold(side, f"{name}_side{axis}_{b}") for b, side in enumerate(both)]
                 for axis, both in enumerate(sides_of(data.View(layout, read.data), child))]
        return data.View(layout, pipe.hold(read.data, f"{name}_frame_5")), sides

    # Rows of the map, of either engine -------------------------------------------------------------

    def _rows(self, m: Module, pipe: Pipeline, schedule: DescentSchedule, begin: Value, room: Signal) -> None:
        design = self.design
        layout = row_layout(design)
        m.submodules.rows = queue = RowQueue(layout, design.rows)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        upper, goes = pipe.at("upper", 1), Signal()
        free, then = (Signal(range(-1, design.rows), init=design.rows - 1, name=name) for name in ("free", "then"))
        taken, ending = self.o.valid & self.o.ready, Signal()
        m.d.comb += [goes.eq(upper | pipe.at("leaf", 1) | pipe.at("nothing", 1)), room.eq(~free[-1]),
                     then.eq(free + taken - goes)]
        # The upper engine decides a cycle before its row takes its place.
        m.d.sync += [free.eq(then), schedule.room.eq(~then[-1] & then[:-1].any())]
        pipe.put("row", goes, 1, reset=True)
        pipe.put("index", Mux(upper, pipe.at("rank", 1), pipe.at("voxel", 1)), 1)
        pipe.put("level", Mux(upper, pipe.at("at", 1) + 1, 0)[:design.level_bits], 1)
        upper = pipe.at("upper", 5)
        pipe.put("row_digit", Mux(upper, pipe.at("child", 5), pipe.at("leaf_child", 5)), 5)
        pipe.put("row_parity", Mux(upper, pipe.at("parity", 5), pipe.at("leaf_parity", 5)), 5)
        pipe.put("row_last", pipe.at("nothing", 5) | Mux(upper, pipe.at("last", 5) & pipe.at("final", 5),
                                                         pipe.at("leaf_last", 5)), 5)
        pipe.put("upper_there", Cat(each & upper for each in pipe.at("there", 5)), 5)
        new = Signal(layout)
        m.d.comb += [new.index.eq(pipe.at("index", 6)), new.level.eq(pipe.at("level", 6)),
                     new.digit.eq(pipe.at("row_digit", 6)), new.parity.eq(pipe.at("row_parity", 6)),
                     new.pair.eq(~pipe.at("nothing", 6)), new.last.eq(pipe.at("row_last", 6))]
        for b in range(8):
            upper_word, leaf_word = self.upper_words[b], self.leaf_words[b]
            m.d.comb += [new.words[b].mask.eq((leaf_word.mask & pipe.at("leaf_there", 6)[b].replicate(8))
                                              | (upper_word.mask & pipe.at("upper_there", 6)[b].replicate(8))),
                         new.words[b].base.eq(Mux(pipe.at("upper", 6), upper_word.base, leaf_word.base))]
        m.d.comb += [queue.put.eq(pipe.at("row", 7)), queue.i.eq(pipe.hold(new, "row_words_7"))]
        with m.If(begin):
            m.d.sync += [self.busy.eq(1), ending.eq(0)]
        with m.Else():
            m.d.sync += [ending.eq(ending | (pipe.at("row", 7) & pipe.at("row_last", 7))),
                         self.busy.eq(self.busy & ~(ending & taken & (free == design.rows - 2)))]


def _narrowed(m: Module, frame: data.View, layout: data.StructLayout) -> Value:
    """The frame in a layout of fewer fields, or fields of fewer bits."""
    narrow = Signal(layout)
    m.d.comb += [narrow[name].eq(frame[name]) for name in ("digit", "parity", "last")]
    m.d.comb += [narrow.octants[b][name].eq(frame.octants[b][name]) for b in range(8)
                 for name in layout["octants"].shape.elem_shape.members]
    return narrow.as_value()
