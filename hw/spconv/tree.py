# amaranth: UnusedElaboratable=no
"""Memories of the octree: what the builder writes, what walk and search read.

::

                 ┌► walk leaf    held(1) x 8                child masks in rank order, level 1
    leaf write ──┤                                                                           ──► mask
                 └► search leaf  8 banks of rows x word     words of level 1, by parent and digit
                                                                                             ──► eight words
                 ┌► walk upper   walk_words x 8             levels 2 .. depth, one after another
    upper write ─┤
                 └► search upper 8 banks of rows x word

With compact search, words lie in rank order too, word ``rank % 8`` of row ``rank // 8``, all levels in one address
space. Each bank is two memories even then, of level 1 and of the levels above, so that both can be written at once.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .layouts import bits, node_write_layout, word_layout

__all__ = ["TreeStore"]

BANKS = 8


class TreeStore(wiring.Component):
    """The tree of one cloud.

    What is read comes one edge after its address, and stays while the port's ``_read`` is low. Before a port's first
    read its data is undefined. Nothing is read from a memory in the cycle of a write of its kind (of level 1, or of the
    levels above): a tree is written first and read then, and so no memory needs logic for both at once. Words of nodes
    that do not exist are never written and hold anything.

    Parameters
    ----------
    design : MapDesign

    Members
    -------
    leaf_en : In(1); leaf : In(node_write_layout(leaf=True))
        A node of level 1.
    upper_en : In(1); upper : In(node_write_layout(leaf=False))
        A node of a level above.
    walk_leaf_address, walk_upper_address : In; walk_leaf_read, walk_upper_read : In(1)
        Rank of a node of level 1; ``walk_base(level)`` plus rank of a node above.
    walk_leaf_mask, walk_upper_mask : Out(8)
        Its children.
    leaf_rows, upper_rows : In(8 rows); leaf_read, upper_read : In(1)
        With parity search. Row of each bank: rank of the parent of the node that is asked for, above level 1 plus
        ``row_base(level)``. The bank is the node's digit.
    leaf_words, upper_words : Out(8 words of word_layout)
    words_rows : In(8 rows); words_read : In(1); words : Out(8 words of word_layout)
        With compact search. Row of each bank: ``compact_base(level) + rank // 8``; the bank is ``rank % 8``.
    """

    def __init__(self, design: MapDesign):
        self.design = design
        members = {"leaf_en": In(1), "leaf": In(node_write_layout(design, leaf=True)),
                   "upper_en": In(1), "upper": In(node_write_layout(design, leaf=False))}
        for name, words in (("walk_leaf", design.held(1)), ("walk_upper", design.walk_words)):
            members |= {f"{name}_address": In(bits(words)), f"{name}_read": In(1), f"{name}_mask": Out(8)}
        searches = (("words", design.compact_rows),) if design.search == "compact" else (
            ("leaf", design.leaf_rows), ("upper", design.upper_rows))
        for name, rows in searches:
            members |= {f"{name}_rows": In(data.ArrayLayout(bits(rows), BANKS)), f"{name}_read": In(1),
                        "words" if name == "words" else f"{name}_words":
                        Out(data.ArrayLayout(word_layout(design), BANKS))}
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"tree_{self.design.name}"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"depth": d.depth, "levels": list(d.levels), "search": d.search, "word_bits": d.word_bits,
                "memory_bits": d.memory_bits}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        for name, words in (("leaf", design.held(1)), ("upper", design.walk_words)):
            node, enable = getattr(self, name), getattr(self, f"{name}_en")
            address, read, mask = (getattr(self, f"walk_{name}_{port}") for port in ("address", "read", "mask"))
            self._memory(m, f"walk_{name}", 8, words, enable, node.walk, node.mask, address, read & ~enable, mask)
        if design.search == "compact":
            self._compact(m)
            return m
        for name, rows in (("leaf", design.leaf_rows), ("upper", design.upper_rows)):
            node, wanted, read = getattr(self, name), getattr(self, f"{name}_rows"), getattr(self, f"{name}_read")
            words = [self._bank(m, name, bank, rows, node.row, wanted[bank], read) for bank in range(BANKS)]
            m.d.comb += getattr(self, f"{name}_words").as_value().eq(Cat(words))
        return m

    def _compact(self, m: Module) -> None:
        design = self.design
        split, words = design.compact_base(2), []
        for bank in range(BANKS):
            wanted = self.words_rows[bank]
            word = self._bank(m, "leaf", bank, split, self.leaf.row, wanted, self.words_read)
            if design.depth > 1:
                here, row = _above(wanted, split)
                upper = self._bank(m, "upper", bank, design.compact_rows - split, _above(self.upper.row, split)[1], row,
                                   self.words_read)
                above = Signal(name=f"above{bank}", reset_less=True)
                with m.If(self.words_read):
                    m.d.sync += above.eq(here)
                word = Mux(above, upper, word)
            words.append(word)
        m.d.comb += self.words.as_value().eq(Cat(words))

    def _bank(self, m: Module, name: str, bank: int, rows: int, row: Value, wanted: Value, read: Value) -> Signal:
        """Words of one bank, of level 1 or of those above."""
        node, enable = getattr(self, name), getattr(self, f"{name}_en")
        write, word = Signal(name=f"{name}{bank}_write"), Signal(self.design.word_bits, name=f"{name}{bank}_word")
        m.d.comb += write.eq(enable & (node.bank == bank))
        self._memory(m, f"{name}{bank}", self.design.word_bits, rows, write, row, Cat(node.mask, node.base), wanted,
                     read & ~enable, word)
        return word

    def _memory(self, m: Module, name: str, width: int, depth: int, enable: Value, address: Value, new: Value,
                wanted: Value, read: Value, found: Value) -> None:
        m.submodules[name] = memory = Memory(shape=width, depth=depth, init=[])
        write_port, read_port = memory.write_port(), memory.read_port()
        m.d.comb += [write_port.en.eq(enable), write_port.addr.eq(address), write_port.data.eq(new),
                     read_port.en.eq(read), read_port.addr.eq(wanted), found.eq(read_port.data)]


def _above(row: Value, split: int) -> tuple[Value, Value]:
    """Whether a row lies at ``split`` or above, and how far; the zeros at the end of ``split`` need no logic."""
    low = (split & -split).bit_length() - 1
    high = row[low:]
    return high >= split >> low, Cat(row[:low], (high - (split >> low))[:len(high)])
