# amaranth: UnusedElaboratable=no
"""Packed groups of one column, from memory words to chunks of codes.

::

    words ──► two slots of LUT RAM, even and odd words apart ──► {word, next word} >> place ──► codes of the lanes

A chunk lies in two neighbouring words at most; with even and odd words in two memories both are read at once, at any
place. Bit planes (6 bits as 4 + 2) have such a window each. Trits are decoded from as many bytes as a chunk can touch.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.layouts_codes import TRITS, trit_codes

from ..emit import shared
from .array import weight_layout

__all__ = ["GroupReader", "TritDecoder"]


class TritDecoder(wiring.Component):
    """A byte of five trits to their codes, two bits each; bytes without a meaning give zeros."""

    module_name = "trits"

    def __init__(self):
        self.parameters = {"trits": TRITS}
        super().__init__({"byte": In(8), "codes": Out(2 * TRITS)})

    def elaborate(self, platform) -> Module:
        m = Module()
        with m.Switch(self.byte):
            for byte in range(256):
                codes = trit_codes(byte)
                if codes is not None:
                    with m.Case(byte):
                        m.d.comb += self.codes.eq(sum(code << 2 * at for at, code in enumerate(codes)))
        return m


class GroupReader(wiring.Component):
    """Buffer and window of one column.

    Members
    -------
    write : In(1), word : In(8 * bus_bytes), last : In(1)
        A word of a group, and whether it is its last one; only while ``room``.
    length : In
        Weights of the group that is being read; stays for the whole group.
    next : In(1), done : In(1)
        Go on to the next chunk; the group is finished.
    room : Out(1), full : Out(1)
        A slot can be written; one can be read.
    codes : Out(code_bits * lanes), group : Out
        Of the current chunk; metadata of the current group (an element of ``weight_layout(...)["groups"]``).
    """

    def __init__(self, design: DequantDesign):
        self.design = design
        array = design.array
        self.word_bits = 8 * design.bus_bytes
        self.group_shape = weight_layout(array)["groups"].shape.elem_shape
        super().__init__({"write": In(1), "word": In(self.word_bits), "last": In(1),
                          "length": In(range(array.group + 1)), "next": In(1), "done": In(1), "room": Out(1),
                          "full": Out(1), "codes": Out(array.code_bits * array.lanes), "group": Out(self.group_shape)})

    @property
    def module_name(self) -> str:
        return f"reader_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, array = self.design, self.design.array
        words = -(-design.record_words // 2) * 2 + 2      # a window may reach one word beyond the group
        depth = 1 << (words // 2 - 1).bit_length()
        level, write_slot, read_slot = Signal(2), Signal(), Signal()
        at = Signal(range(2 * depth))
        m.d.comb += [self.room.eq(level != 2), self.full.eq(level != 0)]
        with m.If(self.write):
            m.d.sync += at.eq(Mux(self.last, 0, at + 1))
            with m.If(self.last):
                m.d.sync += write_slot.eq(~write_slot)
        with m.If(self.done):
            m.d.sync += read_slot.eq(~read_slot)
        m.d.sync += level.eq(level + (self.write & self.last) - self.done)

        windows = max(len(p.planes) for p in design.layout.packings)
        self._banks = []
        for parity in range(2):
            m.submodules[f"bank{parity}"] = bank = Memory(shape=self.word_bits, depth=2 * depth, init=[])
            port = bank.write_port()
            m.d.comb += [port.addr.eq(Cat(at[1:], write_slot)), port.data.eq(self.word),
                         port.en.eq(self.write & (at[0] == parity))]
            self._banks.append(bank)
        # The header stands in the group's first word, which is kept: the windows move on.
        header = self._read(m, "header", Const(0, 1), read_slot, depth)[0]
        kind = self._header(m, header)
        places, views = [], []
        for plane in range(windows):
            place, view = self._window(m, plane, kind, read_slot, depth)
            places.append(place)
            views.append(view)
        m.d.comb += self.codes.eq(self._codes(m, kind, places, views))
        assert array.code_bits
        return m

    def _read(self, m: Module, name: str, index: Value, slot: Value, depth: int) -> tuple[Value, Value]:
        """Words ``index`` and ``index + 1`` of a slot."""
        even, odd = self._banks[0].read_port(domain="comb"), self._banks[1].read_port(domain="comb")
        row = Signal(range(depth), name=f"{name}_row")
        following = Signal(range(depth), name=f"{name}_following")
        odd_first = index[0]
        m.d.comb += [row.eq(index[1:]), following.eq(row + odd_first), even.addr.eq(Cat(following, slot)),
                     odd.addr.eq(Cat(row, slot))]
        return Mux(odd_first, odd.data, even.data), Mux(odd_first, even.data, odd.data)

    def _header(self, m: Module, word: Value) -> Value:
        """Drives ``group``; returns the type selector."""
        fields = {f.name: word[f.bit:f.bit + f.width] for f in self.design.layout.header}
        names = {"type": "type", "special": "special", "scale": "scale", "scale_negative": "negative", "zero": "zero"}
        for name, field in self.group_shape:
            source = fields.get(names[name])
            if source is not None:
                m.d.comb += self.group[name].eq(source[:field.width])
        return fields["type"][:field_bits(self.group_shape, "type")] if "type" in fields else Const(0, 1)

    def _by_type(self, kind: Value, values: list) -> Value:
        """One of the values, by the type selector."""
        if all(isinstance(v, int) and v == values[0] for v in values):
            return Const(values[0], max(values[0].bit_length(), 1))
        chosen = values[-1]
        for index in reversed(range(len(values) - 1)):
            chosen = Mux(kind == index, values[index], chosen)
        return chosen

    def _window(self, m: Module, plane: int, kind: Value, slot: Value, depth: int) -> tuple[Value, Value]:
        """Place in trits (of a byte) and the bits from the current chunk on."""
        design, packings = self.design, self.design.layout.packings
        lanes = design.array.lanes
        head = 8 * design.layout.header_bytes
        total = 2 * depth * self.word_bits
        moved = Signal(range(total), name=f"moved{plane}")       # bits since the plane's beginning
        sub = Signal(range(TRITS), name=f"sub{plane}")
        # Where the plane begins: behind the header, and behind the planes before it.
        starts: list = []
        for p in packings:
            start: Value | int = head
            for width in p.planes[:plane] if plane < len(p.planes) and not p.trits else ():
                bits = Signal(range(design.array.group * 8 + 8), name=f"plane{plane}_of_{len(starts)}")
                m.d.comb += bits.eq(self.length * width + 7)
                start = start + Cat(Const(0, 3), bits[3:])
            starts.append(start)
        begin = Signal(range(total), name=f"begin{plane}")
        m.d.comb += begin.eq(self._by_type(kind, starts))
        steps: list = []
        for p in packings:
            if p.trits:
                steps.append(Mux(sub + (lanes % TRITS) >= TRITS, 8 * (lanes // TRITS + 1), 8 * (lanes // TRITS)))
            else:
                steps.append(lanes * p.planes[plane] if plane < len(p.planes) else 0)
        with m.If(self.done):
            m.d.sync += [moved.eq(0), sub.eq(0)]
        with m.Elif(self.next):
            m.d.sync += moved.eq(moved + self._by_type(kind, steps))
            rest = lanes % TRITS
            m.d.sync += sub.eq(Mux(sub + rest >= TRITS, sub + rest - TRITS, sub + rest))
        place = Signal(range(total), name=f"place{plane}")
        m.d.comb += place.eq(begin + moved)
        low_bits = (self.word_bits - 1).bit_length()
        word, following = self._read(m, f"window{plane}", place[low_bits:], slot, depth)
        width = max([8 * _trit_bytes(lanes)] * any(p.trits for p in packings)
                    + [lanes * p.planes[plane] for p in packings if plane < len(p.planes) and not p.trits])
        window = Signal(width, name=f"bits{plane}")
        m.d.comb += window.eq(Cat(word, following) >> place[:low_bits])
        return sub, window

    def _codes(self, m: Module, kind: Value, subs: list, windows: list) -> Value:
        design = self.design
        lanes, bits = design.array.lanes, design.array.code_bits
        by_type = []
        for index, p in enumerate(design.layout.packings):
            codes = Signal(data.ArrayLayout(bits, lanes), name=f"codes{index}")
            if p.trits:
                decoded = []
                for byte in range(_trit_bytes(lanes)):
                    m.submodules[f"trits{index}_{byte}"] = decoder = shared(TritDecoder())
                    m.d.comb += decoder.byte.eq(windows[0].word_select(byte, 8))
                    decoded += [decoder.codes.word_select(at, 2) for at in range(TRITS)]
                for lane in range(lanes):
                    m.d.comb += codes[lane].eq(Array([decoded[lane + s] for s in range(TRITS)])[subs[0]])
            else:
                for lane in range(lanes):
                    parts = [windows[plane][lane * width:(lane + 1) * width] for plane, width in enumerate(p.planes)]
                    m.d.comb += codes[lane].eq(Cat(*parts))
            by_type.append(codes.as_value())
        return self._by_type(kind, by_type)


def _trit_bytes(lanes: int) -> int:
    """Bytes that a chunk of trits can touch."""
    return (lanes + TRITS - 1 + TRITS - 1) // TRITS


def field_bits(layout: data.StructLayout, name: str) -> int:
    """Width of a field."""
    return layout[name].width
