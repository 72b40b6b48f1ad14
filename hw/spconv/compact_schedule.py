"""Which child of which node comes next in the compact map search.

::

    of each level       nodes that wait, nodes on their way, windows ──► deepest that can go
    (registers)                                                              │
    nodes that wait ────────────────────────────────────────────────► node ──► its children, one a cycle
    (memory)                                                           │
         a node that needs a window that is not there yet goes back ◄──┘

A node waits at the place of its rank, so a level needs only two numbers: the last one that is ready, and the last one
that was chosen.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan

from .compact_leaves import by_halves, lowest, node_layout, number_of, of_hot, rank_bits, several
from .compact_window import window_bits
from .layouts import bits

__all__ = ["CompactSchedule"]


class CompactSchedule(wiring.Component):
    """Children of the nodes above, from the roots down: of the deepest level that has a node and may go on.

    Lists by level have a bit or number for the children's levels 1 .. depth; the highest ones are the roots.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    begin : In(1), roots : In, present : In(batches)
    outputs_at : In(depth)
        Children of this level are leaf nodes. From the cycle after ``begin``.
    put : In(1), put_level : In, put_rank : In, put_node : In(node_layout)
        A node of ``put_level``, 2 or more, waits.
    release : In(1), release_level : In, release_rank : In
        All nodes of a level up to this one may go.
    leaf_taken, leaf_begins : In(1)
        Of `LeafNodes`.
    ready : In(1)
        The next child may go.
    go : Out(1), child : Out(3), node : Out(node_layout)
        A child of a node.
    level : Out, at : Out, hot : Out(depth)
        The child's level, less 1, and as a bit.
    window : Out, begins : Out(1), ends : Out(1), last : Out(1), leaf : Out(1)
        Of the child: as `node_layout`; it is a leaf node.
    is_root : Out(1), root : Out
        The child is a root, and which.
    none : Out(1)
        There are no roots; in the cycle after ``begin``.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        level, rank = design.level_bits, rank_bits(design)
        self.root_bits = max(design.batch_bits, 1)
        node = node_layout(design)
        super().__init__({"begin": In(1), "roots": In(design.batch_bits + 1), "present": In(design.batches),
                          "outputs_at": In(design.depth), "put": In(1), "put_level": In(level), "put_rank": In(rank),
                          "put_node": In(node), "release": In(1), "release_level": In(level), "release_rank": In(rank),
                          "leaf_taken": In(1), "leaf_begins": In(1), "ready": In(1), "go": Out(1), "child": Out(3),
                          "node": Out(node), "level": Out(level), "at": Out(bits(design.depth)),
                          "hot": Out(design.depth), "window": Out(window_bits(design)), "begins": Out(1),
                          "ends": Out(1), "last": Out(1), "leaf": Out(1), "is_root": Out(1),
                          "root": Out(self.root_bits), "none": Out(1)})

    @property
    def module_name(self) -> str:
        return f"compact_schedule_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, depth = self.design, self.design.depth
        stored, node = Signal(node_layout(design)), Signal(node_layout(design))
        ready_nodes, full, soon_full, room = Signal(depth), Signal(depth), Signal(depth), Signal(depth)
        # A choice becomes the current node in three steps: chosen, read, and it is there. If its children need a window
        # that is not free it goes back, and with it what was chosen of its level.
        can, pick, chosen, here, hot = (Signal(depth, name=name) for name in ("can", "pick", "chosen", "here", "hot"))
        missed, taken, back = Signal(depth), Signal(depth), Signal(depth)
        valid, fresh, load, blocked, opening = (Signal(name=name) for name in (
            "valid", "fresh", "load", "blocked", "opening"))
        here_moves, chosen_moves = Signal(), Signal()
        m.d.comb += [can.eq(ready_nodes & room & ~(missed & full)),
                     pick.eq(Cat(can[at] & ~can[:at].any() for at in range(depth)) & chosen_moves.replicate(depth)),
                     here_moves.eq(~here.any() | load), chosen_moves.eq(~chosen.any() | here_moves),
                     back.eq(hot & blocked.replicate(depth)), taken.eq(hot & (self.go & fresh).replicate(depth))]
        with m.If(chosen_moves):
            m.d.sync += chosen.eq(pick & ~back)
        with m.If(here_moves):
            m.d.sync += here.eq(chosen & ~back)
        m.d.sync += missed.eq((missed | back) & ~taken)
        m.d.comb += node.eq(stored)
        self._waiting(m, ready_nodes, pick, back, chosen, here_moves, load, stored)
        undecided = chosen[-1] | here[-1] | (hot[-1] & valid & fresh)
        root = self._roots(m, ready_nodes, undecided, taken, here, node)

        # The next node to come of each level opens a window.
        opens = Signal(depth, init=-1)
        for at in range(depth - 1):
            with m.If(self.begin | back[at]):
                m.d.sync += opens[at].eq(1)
            with m.Elif(load & here[at]):
                m.d.sync += opens[at].eq(node.ends)

        # The children.
        rest, halves = Signal(8, reset_less=True), Signal(4, reset_less=True)
        first, single = lowest(rest), ~several(halves)
        m.d.comb += [self.go.eq(valid & self.ready & ~blocked), load.eq(~valid | (self.go & single) | blocked),
                     self.child.eq(number_of(first)), self.begins.eq(opening & fresh), self.ends.eq(single),
                     self.leaf.eq((hot & self.outputs_at).any()), self.last.eq(self.node.last & single),
                     self.window.eq(self._windows(m, full, soon_full, hot, taken, self.begins)),
                     self.is_root.eq(hot[-1]), self.hot.eq(hot)]
        comes, will_open = here & ~back, (here & opens).any()
        # When the next node comes, the first child of this one has gone.
        same = (here & hot).any() & valid & fresh & opening
        no_window = (here & opens & Mux(same, soon_full, full)).any()
        with m.If(load):
            m.d.sync += [valid.eq(comes.any()), blocked.eq(comes.any() & no_window), opening.eq(will_open),
                         hot.eq(here), self.at.eq(of_hot(here, [Const(at, len(self.at)) for at in range(depth)])),
                         self.node.eq(node), rest.eq(node.mask), fresh.eq(1),
                         halves.eq(Mux(here[-1], 1, by_halves(stored.mask))),
                         self.level.eq(of_hot(here, [Const(at + 1, len(self.level)) for at in range(depth)])),
                         self.root.eq(root)]
        with m.Elif(self.go):
            m.d.sync += [rest.eq(rest & ~first), halves.eq(by_halves(rest & ~first)), fresh.eq(0)]
        taken_before = Signal(depth)
        m.d.sync += taken_before.eq(taken)
        self._on_their_way(m, room, hot, taken_before)
        return m

    def _waiting(self, m: Module, ready_nodes: Signal, pick: Signal, back: Signal, chosen: Signal, here_moves: Value,
                 load: Value, node: Signal) -> None:
        """Nodes of the levels 2 .. depth, by level and rank, and the one that was chosen."""
        design, depth = self.design, self.design.depth
        if depth == 1:
            return
        rank = rank_bits(design)
        m.submodules.nodes = memory = Memory(shape=node_layout(design).size, depth=(depth - 1) << rank, init=[],
                                             attrs={"ram_style": "block", "no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        rank_here, rank_now, before = (Signal(rank, name=f"rank_{name}", reset_less=True)
                                       for name in ("here", "now", "before"))
        # Of each level the rank of the last node that was chosen, and of the last one that may be.
        lasts = [Signal(rank, name=f"last{at}", init=-1) for at in range(depth - 1)]
        for at, last in enumerate(lasts):
            known = Signal(rank, name=f"known{at}", init=-1)
            m.d.comb += ready_nodes[at].eq(last != known)
            with m.If(self.begin):
                m.d.sync += [last.eq(-1), known.eq(-1)]
            with m.Else():
                with m.If(pick[at] | back[at]):
                    m.d.sync += last.eq(Mux(back[at], before, last + 1))
                with m.If(self.release & (self.release_level == at + 2)):
                    m.d.sync += known.eq(self.release_rank)
        places = bits(depth - 1)
        number = of_hot(chosen, [Const(at, places) for at in range(depth - 1)])
        address = of_hot(chosen, lasts)
        with m.If(here_moves):
            m.d.sync += rank_here.eq(address)
        with m.If(load):
            m.d.sync += rank_now.eq(rank_here)
        m.d.comb += [before.eq(rank_now - 1), write.en.eq(self.put),
                     write.addr.eq(Cat(self.put_rank, (self.put_level - 2)[:places])),
                     write.data.eq(self.put_node.as_value()), read.en.eq(here_moves),
                     read.addr.eq(Cat(address, number)), node.eq(read.data)]

    def _roots(self, m: Module, ready_nodes: Signal, undecided: Value, taken: Signal, here: Signal,
               node: Signal) -> Signal:
        """One root after the other, each the only child of a node that is alone."""
        design = self.design
        pending, root, opening = Signal(design.batches), Signal(self.root_bits), Signal()
        known = Cat(self.present[at] & (self.roots > at) for at in range(design.batches))
        with m.If(self.begin):
            m.d.sync += [pending.eq(known), root.eq(0), opening.eq(1)]
        with m.Else():
            m.d.sync += opening.eq(0)
            with m.If(taken[-1] | (pending.any() & ~pending[0])):
                m.d.sync += [pending.eq(pending >> 1), root.eq(root + 1)]
        m.d.comb += [ready_nodes[-1].eq(pending[0] & ~undecided), self.none.eq(opening & ~pending.any())]
        with m.If(here[-1]):
            m.d.comb += [node.mask.eq(1), node.there.eq(1), node.digit.eq(0), node.parity.eq(0), node.begins.eq(0),
                         node.last.eq(~pending[1:].any() if design.batches > 1 else 1)]
        return root

    def _windows(self, m: Module, full: Signal, soon_full: Signal, hot: Signal, taken: Signal,
                 opens: Value) -> Value:
        """Rings of windows: the newest one is being filled, from the oldest one children are passed on.

        Returns the window of the children of the current node, the next one of their level if it ``opens`` one.
        """
        design, depth = self.design, self.design.depth
        plan = WindowPlan.of(design)

        def ring(name: str, first: int, count: int, opens: Value, begins: Value) -> tuple[Value, ...]:
            newest, oldest = Signal(range(count), name=f"newest_{name}"), Signal(range(count), name=f"oldest_{name}")
            after = (newest + 1)[:len(newest)]
            with m.If(opens):
                m.d.sync += newest.eq(after)
            with m.If(begins):
                m.d.sync += oldest.eq(oldest + 1)
            high = Const(first >> len(newest), max(window_bits(design) - len(newest), 0))
            return after == oldest, (newest + 2)[:len(newest)] == oldest, Cat(newest, high), Cat(after, high)

        leaf_full, leaf_soon, *leaf = ring("leaf", 0, plan.leaf_windows, (taken & self.outputs_at).any() & opens,
                                           self.leaf_taken & self.leaf_begins)
        m.d.comb += [full[0].eq(leaf_full), soon_full[0].eq(leaf_soon)]
        upper = []
        for at in range(1, depth):
            ring_full, ring_soon, *windows = ring(str(at + 1), *plan.ring(at + 1),
                                                  taken[at] & opens & ~self.outputs_at[at],
                                                  taken[at - 1] & self.node.begins)
            m.d.comb += [full[at].eq(Mux(self.outputs_at[at], leaf_full, ring_full)),
                         soon_full[at].eq(Mux(self.outputs_at[at], leaf_soon, ring_soon))]
            upper.append(windows)
        same, following = ([windows[which] for windows in upper] for which in range(2))
        chosen = [Mux(self.leaf, leaf[which], of_hot(hot[1:], windows) if depth > 1 else 0)
                  for which, windows in enumerate((same, following))]
        return Mux(opens, chosen[1], chosen[0])

    def _on_their_way(self, m: Module, room: Signal, hot: Signal, taken: Signal) -> None:
        """Nodes of each level that have been passed on and not yet taken for their own children."""
        depth, plan = self.design.depth, WindowPlan.of(self.design)
        leaf_room = Signal()

        def count(name: str, more: Value, less: Value) -> Value:
            number = Signal(range(plan.waiting), name=f"nodes_{name}")
            m.d.sync += number.eq(number + more - less)
            return number < plan.room

        m.d.comb += [leaf_room.eq(count("leaf", self.go & self.leaf, self.leaf_taken)), room[0].eq(leaf_room)]
        for at in range(1, depth):
            here_room = count(str(at + 1), self.go & hot[at] & ~self.leaf, taken[at - 1])
            m.d.comb += room[at].eq(Mux(self.outputs_at[at], leaf_room, here_room))
