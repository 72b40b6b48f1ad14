# amaranth: UnusedElaboratable=no
"""The banked voxel table of a window, after SpOctA's search core: the published method as a baseline.

::

    i --> command --> row of each bank --> 8 banks --> epoch? --> o: up to 8 pairs of one output row
          (x, y, z)   base +- 1, side, side**2         index

A voxel lies in the bank of its three low coordinate bits. Of the 27 neighbours of a voxel, bank ``j`` holds those
that are odd relative to it along exactly the axes in which ``j`` and its own bank differ: 1, 2, 2, 2, 4, 4, 4 and 8 of
them, so a query takes 8 cycles; 1, 1, 1, 2, 2, 2 and 4 of the 13 before the centre, so 4 cycles. The bits of the cycle
are the directions (0: minus) along the differing axes, and a bank rests while a bit that it has no use for is 1: the
schedule needs no table, and each bank finds its pairs in the order of ascending k.

Each word carries the number of the window that wrote it, so a new window finds no old voxels; only when the numbers
are used up, and after a reset, the memory is cleared.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import OFFSET_BITS, TableDesign

from .layouts import command_layout, hits_layout

__all__ = ["VoxelTable"]

BANKS = 8


class VoxelTable(wiring.Component):
    """Voxel table of one window after the other.

    A stored voxel takes one cycle, a query ``design.beats``, a command without a voxel one; clearing takes
    ``design.rows`` cycles after a reset and after each ``design.epochs`` windows. A pair leaves `latency` edges after
    the cycle of its query in which its bank was read. `models.cost.spconv.map_baselines.table_cycles` has all cycles.

    Parameters
    ----------
    design : TableDesign

    Members
    -------
    i : In(stream of command_layout)
        Voxels of a window and of its border that its queries shall find, and queries (of voxels inside, stored or
        not); a query finds what was stored before it. A voxel stored again replaces its index.
    o : Out(stream of hits_layout)
        Output rows in the order of their queries.
    busy : Out(1)
        A command is under way, or pairs have not been taken.
    """

    # Edges from the cycle in which the banks are read: their data; a register, as memories are slow; the pairs.
    latency = 3

    def __init__(self, design: TableDesign):
        self.design = design
        super().__init__({"i": In(stream.Signature(command_layout(design))),
                          "o": Out(stream.Signature(hits_layout(design))), "busy": Out(1)})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"size": d.size, "index_bits": d.index_bits, "half": d.half, "epoch_bits": d.epoch_bits, "rows": d.rows}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, o = self.design, self.o
        index_bits, row_bits = design.index_bits, (design.rows - 1).bit_length()

        # The command under way, and the cycle of its query.
        full, held = Signal(), Signal(command_layout(design), reset_less=True)
        base = Signal(row_bits, reset_less=True)
        beat = Signal(range(design.beats))
        clearing, clear_row, epoch = Signal(init=1), Signal(row_bits), Signal(design.epoch_bits, init=1)
        moves, step, done = Signal(), Signal(), Signal()
        looks, waits = held.query & held.mask, full
        m.d.comb += [step.eq(full & ~clearing & (moves | ~(looks | held.last))),
                     done.eq(step & (~looks | beat.all())), self.i.ready.eq(~full | done)]
        with m.If(step & looks):
            m.d.sync += beat.eq(beat + 1)
        with m.If(self.i.ready):
            m.d.sync += [full.eq(self.i.valid), held.eq(self.i.payload), base.eq(self._base())]

        with m.If(clearing):
            m.d.sync += clear_row.eq(clear_row + 1)
            with m.If(clear_row == design.rows - 1):
                m.d.sync += [clearing.eq(0), clear_row.eq(0)]
        with m.If(done & held.window):
            m.d.sync += epoch.eq(epoch + 1)
            with m.If(epoch.all()):
                m.d.sync += [epoch.eq(1), clearing.eq(1)]

        # What goes beside the words of the banks, to their register and to the register behind: memories are slow.
        own = Cat(held.z[0], held.y[0], held.x[0])
        flags, beside = Cat(step & looks, done & looks, done & held.last), Cat(own, beat, epoch, held.index)
        for edge in range(2):
            flags_q, beside_q = Signal(3, name=f"flags{edge}"), Signal(len(beside), name=f"beside{edge}",
                                                                      reset_less=True)
            with m.If(moves):
                m.d.sync += [flags_q.eq(flags), beside_q.eq(beside)]
            flags, beside = flags_q, beside_q
            waits = waits | flags.any()
        own_q, beat_q, epoch_q, out = (beside[low:high] for low, high in pairwise(accumulate(
            (0, len(own), len(beat), len(epoch), index_bits))))

        # Never both, which spares the logic that decides what a read sees of a write.
        stores, reads = step & held.mask & ~held.query, moves & looks & ~clearing
        hits, ends = Signal(BANKS), Signal(2)
        for bank in range(BANKS):
            m.submodules[f"bank{bank}"] = memory = Memory(shape=index_bits + design.epoch_bits, depth=design.rows,
                                                          init=[])
            write, word = memory.write_port(), memory.read_port()
            found = Signal(len(word.data), name=f"found{bank}", reset_less=True)
            serves, k = self._offset(bank, own_q, beat_q)
            m.d.comb += [write.en.eq(clearing | stores & (own == bank)), write.addr.eq(Mux(clearing, clear_row, base)),
                         write.data.eq(Mux(clearing, 0, Cat(held.index, epoch))), word.en.eq(reads),
                         word.addr.eq(self._row(m, bank, base, own, beat))]
            with m.If(moves):
                m.d.sync += [found.eq(word.data), o.payload.k[bank].eq(k),
                             o.payload["in"][bank].eq(found[:index_bits]),
                             hits[bank].eq(flags[0] & serves & (found[index_bits:] == epoch_q))]
        with m.If(moves):
            m.d.sync += [ends.eq(flags[1:]), o.payload.out.eq(out)]
        m.d.comb += [o.payload.mask.eq(hits), o.payload.row_last.eq(ends[0]), o.payload.last.eq(ends[1]),
                     o.valid.eq(hits.any() | ends.any()), moves.eq(~o.valid | o.ready), self.busy.eq(waits | o.valid)]
        return m

    def _base(self) -> Value:
        """Row of a voxel in its bank."""
        side, command = self.design.side, self.i.payload
        return (command.x[1:] + side * (command.y[1:] + side * command.z[1:]))[:(self.design.rows - 1).bit_length()]

    def _minus(self, bank: int, own: Value, beat: Value) -> tuple[list[Value], list[Value]]:
        """For x, y and z: whether the neighbour that a bank is read for is not beside the own voxel but before or
        behind it, and which of the two."""
        differs = [own[2 - axis] ^ (bank >> 2 - axis & 1) for axis in range(3)]
        if not self.design.half:
            return differs, [~beat[2], ~beat[1], ~beat[0]]
        # The first differing axis leads backwards.
        return differs, [Const(1, 1), ~(beat[1] & differs[0]), ~(beat[0] & (differs[0] | differs[1]))]

    def _offset(self, bank: int, own: Value, beat: Value) -> tuple[Value, Value]:
        """Whether a bank is read for a neighbour, and its kernel offset."""
        differs, minus = self._minus(bank, own, beat)
        if self.design.half:
            free = [differs[2] & (differs[0] | differs[1]), differs[1] & differs[0]]
            serves = ~(beat & ~Cat(*free)).any() & Cat(*differs).any()
        else:
            serves = ~(beat & ~Cat(*reversed(differs))).any()
        x, y, z = (Mux(differ, Mux(before, 0, 2), 1) for differ, before in zip(differs, minus, strict=True))
        return serves, (9 * x + 3 * y + z)[:OFFSET_BITS]

    def _row(self, m: Module, bank: int, base: Value, own: Value, beat: Value) -> Value:
        """Row of that neighbour: at most one to a side along each axis."""
        minus = self._minus(bank, own, beat)[1]
        # Up from an odd place to the bank of even ones, down from an even place to that of odd ones.
        steps = [-1 if bank >> 2 - axis & 1 else 1 for axis in range(3)]
        moves = Cat(~own[2 - axis] & minus[axis] if steps[axis] < 0 else own[2 - axis] & ~minus[axis]
                    for axis in range(3))
        shift = Signal(len(base), name=f"shift{bank}")
        with m.Switch(moves):
            for value in range(8):
                by = sum(steps[axis] * self.design.side ** axis for axis in range(3) if value >> axis & 1)
                with m.Case(value):
                    m.d.comb += shift.eq(by % (1 << len(base)))
        return (base + shift)[:len(base)]
