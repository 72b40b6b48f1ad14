"""Which child of which node comes next in the compact map search.

::

    of each level       nodes that wait, nodes on their way, windows ──► deepest that can go
    (registers)                                                              │
    nodes that wait ────────────────────────────────────────────────► node ──► its children, one a cycle
    (memory)                                                           │
         a node that needs a window that is not there yet goes back ◄──┘

A node waits at the place of its rank, so a level needs only two counters: how many have become ready, how many have
gone.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan

from .compact_window import window_bits
from .descent_step import bits

__all__ = ["CompactSchedule", "LeafNodes", "lowest", "node_layout", "number_of",
           "rank_bits", "several"]


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


def several(mask: Value) -> Value:
    """Whether more than one of eight bits is set; by halves, as the answer is needed early."""
    halves = [mask[:4], mask[4:]]
    more = [Cat(half[at] & half[:at].any() for at in range(1, 4)).any() for half in halves]
    return more[0] | more[1] | (halves[0].any() & halves[1].any())


def number_of(hot: Value) -> Value:
    """Which of eight bits is set."""
    return Cat(Cat(hot[at] for at in range(8) if at >> bit & 1).any() for bit in range(3))


def _of_hot(hot: Value, values: list[Value]) -> Value:
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
        rest, single = Signal(8, reset_less=True), Signal(reset_less=True)
        first = lowest(rest)
        m.d.comb += [write.en.eq(self.put), write.addr.eq(self.put_rank), write.data.eq(self.put_node.as_value()),
                     load.eq(waits & (~valid | self.done)), fetch.eq((head != known) & (~waits | load)),
                     read.en.eq(fetch), read.addr.eq(head), self.go.eq(valid & self.ready), self.child.eq(number_of(first)),
                     self.done.eq(self.go & single), self.taken.eq(load), self.begins.eq(next_node.begins)]
        with m.If(load):
            m.d.sync += [self.node.eq(next_node), rest.eq(next_node.mask), single.eq(~several(next_node.mask))]
        with m.Elif(self.go):
            m.d.sync += [rest.eq(rest & ~first), single.eq(~several(rest & ~first))]
        # The last words of a node are in the window three edges after it is released, and read three edges after that.
        m.d.sync += [valid.eq(load | (valid & ~self.done)), waits.eq(fetch | (waits & ~load))]
        with m.If(self.begin):
            m.d.sync += [head.eq(0), known.eq(0)]
        with m.Else():
            with m.If(fetch):
                m.d.sync += head.eq(head + 1)
            with m.If(self.release):
                m.d.sync += known.eq(self.release_rank + 1)
        return m


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
        super().__init__({"begin": In(1), "roots": In(design.batch_bits + 1), "present": In(design.batches),
                          "outputs_at": In(design.depth), "put": In(1), "put_level": In(level), "put_rank": In(rank),
                          "put_node": In(node_layout(design)), "release": In(1), "release_level": In(level),
                          "release_rank": In(rank), "leaf_taken": In(1), "leaf_begins": In(1), "ready": In(1),
                          "go": Out(1), "level": Out(level), "at": Out(bits(design.depth)), "hot": Out(design.depth), "child": Out(3), "node": Out(node_layout(design)),
                          "window": Out(window_bits(design)), "begins": Out(1), "ends": Out(1), "last": Out(1),
                          "leaf": Out(1), "is_root": Out(1), "root": Out(self.root_bits), "none": Out(1)})

    @property
    def module_name(self) -> str:
        return f"compact_schedule_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, depth = self.design, self.design.depth
        node = Signal(node_layout(design))
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
        self._waiting(m, ready_nodes, pick, back, chosen, here_moves, load, node)
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
        rest, single = Signal(8, reset_less=True), Signal(reset_less=True)
        first = lowest(rest)
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
                         hot.eq(here), self.at.eq(_of_hot(here, [Const(at, len(self.at)) for at in range(depth)])),
                         self.node.eq(node), rest.eq(node.mask), single.eq(~several(node.mask)), fresh.eq(1),
                         self.level.eq(_of_hot(here, [Const(at + 1, len(self.level)) for at in range(depth)])),
                         self.root.eq(root)]
        with m.Elif(self.go):
            m.d.sync += [rest.eq(rest & ~first), single.eq(~several(rest & ~first)), fresh.eq(0)]
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
        number = _of_hot(chosen, [Const(at, places) for at in range(depth - 1)])
        address = _of_hot(chosen, lasts)
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
            with m.If(taken[-1] | ~pending[0]):
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
        chosen = [Mux(self.leaf, leaf[which], _of_hot(hot[1:], windows) if depth > 1 else 0)
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
