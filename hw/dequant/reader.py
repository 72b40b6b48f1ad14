# amaranth: UnusedElaboratable=no
"""Packed groups of one column, from memory words to chunks of codes.

::

    words ──► two slots of memory ──► following ──► current
                  first piece of the next group ──►  │
                                  {following, current} >> offset ──► window, registered by the core ──► codes

A piece is the part of a word that holds a chunk at least. A chunk lies in two neighbouring pieces at most, and moves
on by one piece at most. The first piece of a group is kept while it is written, so that a group can begin in the cycle
in which the one before ends. Bit planes (6 bits as 4 + 2) have a memory and a window each. Trits are decoded from as
many bytes as a chunk can touch, behind the core's register.
"""

from __future__ import annotations

import math

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.layouts_codes import TRIT_BYTES, TRITS, Packing

from ..emit import shared
from .array import weight_layout

__all__ = ["CodeDecoder", "GroupReader", "TritDecoder", "plane_layout", "window_layout"]


def plane_layout(design: DequantDesign) -> data.ArrayLayout:
    """Byte of a group at which each plane but the first begins."""
    planes = max(len(p.planes) for p in design.layout.packings)
    return data.ArrayLayout((design.record_words * design.bus_bytes - 1).bit_length(), planes - 1)


def window_layout(design: DequantDesign) -> data.StructLayout:
    """Bits of a chunk: of each plane from its first code on, and how many trits of the first byte have gone."""
    lanes = design.array.lanes
    packings = design.layout.packings
    fields = {f"plane{plane}": max(_window_bits(p, plane, lanes) for p in packings)
              for plane in range(max(len(p.planes) for p in packings))}
    trits = any(p.trits for p in packings) and lanes % TRITS
    return data.StructLayout({**fields, "sub": (TRITS - 1).bit_length() if trits else 0})


def by_type(kind: Value, values: list) -> Value:
    """One of the values, by the type selector; a selector beyond them gives the last."""
    chosen = values[-1]
    for index in reversed(range(len(values) - 1)):
        chosen = Mux(kind == index, values[index], chosen)
    return Value.cast(chosen)


class TritDecoder(wiring.Component):
    """A byte of five trits to their codes, two bits each; bytes without a meaning give zeros.

    Four divisions by three, one behind the other, two bits of the dividend at a time: a remainder and two bits are
    four inputs, so a step is one lookup table for each bit of quotient and remainder (ECP5: 70 LUT4; a table of all
    256 bytes is 299).
    """

    module_name = "trits"

    def __init__(self):
        self.parameters = {"trits": TRITS}
        super().__init__({"byte": In(8), "codes": Out(2 * TRITS)})

    def elaborate(self, platform) -> Module:
        m = Module()
        illegal = Signal()
        m.d.comb += illegal.eq(self.byte[4:].all() & (self.byte[2:4].any() | self.byte[:2].all()))   # 243 or more
        number, most = self.byte, TRIT_BYTES - 1
        for trit in range(TRITS):
            digit: Value = number
            if trit < TRITS - 1:
                most //= 3
                number, digit = self._divide(m, number, trit, most)
            m.d.comb += self.codes.word_select(trit, 2).eq(Mux(illegal, 0, Cat(digit.any(), digit[1])))
        return m

    @staticmethod
    def _divide(m: Module, number: Value, trit: int, most: int) -> tuple[Value, Value]:
        """Quotient, at most ``most``, and remainder of a division by three."""
        rest: Value = Const(0, 2)
        quotient: list[Value] = []
        for low in reversed(range(0, len(number), 2)):
            dividend, step = Signal(4, name=f"dividend{trit}_{low}"), Signal(4, name=f"step{trit}_{low}")
            both = number[low:low + 2]
            m.d.comb += dividend.eq(Cat(both, Const(0, 2 - len(both)), rest))
            with m.Switch(dividend):
                for value in range(12):
                    with m.Case(value):
                        m.d.comb += step.eq(value // 3 | value % 3 << 2)
            quotient.insert(0, step[:2])
            rest = step[2:]
        return Cat(*quotient)[:most.bit_length()], rest


class CodeDecoder(wiring.Component):
    """A chunk's codes from its windows; combinational.

    Members
    -------
    i : In(window_layout), type : In
    codes : Out(code_bits * lanes)
    """

    def __init__(self, design: DequantDesign):
        self.design = design
        array = design.array
        super().__init__({"i": In(window_layout(design)), "type": In((len(array.weights) - 1).bit_length()),
                          "codes": Out(array.code_bits * array.lanes)})

    @property
    def module_name(self) -> str:
        return f"codes_{self.design.name}"

    def elaborate(self, platform) -> Module:
        """Types that have a part of a code in common share it."""
        m = Module()
        lanes, bits = self.design.array.lanes, self.design.array.code_bits
        packings = self.design.layout.packings
        users: dict[tuple[int, int, int], list[int]] = {}     # plane, width (0: trits), lowest bit of the code
        for index, p in enumerate(packings):
            low = 0
            for plane, width in enumerate(p.planes):
                users.setdefault((plane, 0 if p.trits else width, low), []).append(index)
                low += width
        codes: list[Value] = [Const(0, bits) for _ in range(lanes)]
        for (plane, width, low), kinds in users.items():
            used = Signal(name=f"used{plane}_{width}_{low}")
            m.d.comb += used.eq(1 if len(kinds) == len(packings) else Cat(self.type == kind for kind in kinds).any())
            window = self.i[f"plane{plane}"]
            parts = [window[lane * width:(lane + 1) * width] for lane in range(lanes)] if width \
                else self._trits(m, window)
            codes = [code | Cat(Const(0, low), part & used.replicate(len(part)))
                     for code, part in zip(codes, parts, strict=True)]
        m.d.comb += self.codes.eq(Cat(code[:bits] for code in codes))
        return m

    def _trits(self, m: Module, window: Value) -> list[Value]:
        lanes = self.design.array.lanes
        decoded: list[Value] = []
        for byte in range(_trit_bytes(lanes)):
            m.submodules[f"trits{byte}"] = decoder = shared(TritDecoder())
            m.d.comb += decoder.byte.eq(window.word_select(byte, 8))
            decoded += [decoder.codes.word_select(at, 2) for at in range(TRITS)]
        if not lanes % TRITS:
            return decoded
        return [Array(decoded[lane:lane + TRITS])[self.i.sub] for lane in range(lanes)]


class GroupReader(wiring.Component):
    """Buffer and windows of one column.

    Members
    -------
    write : In(1), word : In(8 * bus_bytes), last : In(1), planes : In(plane_layout)
        A word of a group, whether it is its last one, and where the group's planes begin; only while ``room``.
    next : In(1), done : In(1)
        Go on to the next chunk; the group is finished. Only while ``full``.
    room : Out(1), full : Out(1)
        A slot can be written; a group can be read: two cycles after its last word came, but not before the cycle
        after the ``done`` of the group before.
    window : Out(window_layout), group : Out
        Of the current chunk; metadata of the current group (an element of ``weight_layout(...)["groups"]``).
    """

    def __init__(self, design: DequantDesign):
        self.design = design
        array = design.array
        self.word_bits = 8 * design.bus_bytes
        self.depth = max(1 << (design.record_words - 1).bit_length(), 2)      # words of a slot
        self.group_shape = weight_layout(array)["groups"].shape.elem_shape
        super().__init__({"write": In(1), "word": In(self.word_bits), "last": In(1), "planes": In(plane_layout(design)),
                          "next": In(1), "done": In(1), "room": Out(1), "full": Out(1),
                          "window": Out(window_layout(design)), "group": Out(self.group_shape)})

    @property
    def module_name(self) -> str:
        return f"reader_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        self.at = at = Signal(range(self.depth))              # word of the group that is written
        self.slot = slot = Signal()                           # that begins next; the other one is read
        self.start = start = Signal()
        write_slot, active, waiting, complete = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [complete.eq(self.write & self.last), start.eq(waiting & (~active | self.done)),
                     self.room.eq(~(active & waiting)), self.full.eq(active)]
        m.d.sync += [active.eq(start | (active & ~self.done)), waiting.eq(complete | (waiting & ~start)),
                     slot.eq(slot ^ start), write_slot.eq(write_slot ^ complete)]
        with m.If(self.write):
            m.d.sync += at.eq(Mux(self.last, 0, at + 1))
        self.write_address = Cat(at, write_slot)

        self.kind = self._header(m)
        self.sub, self.carry = Signal(range(TRITS)), Signal()     # trits of the window's first byte that have gone
        moved = self.sub + self.design.array.lanes % TRITS
        m.d.comb += self.carry.eq(moved >= TRITS)
        with m.If(start):
            m.d.sync += self.sub.eq(0)
        with m.Elif(self.next):
            m.d.sync += self.sub.eq(Mux(self.carry, moved - TRITS, moved))
        m.d.comb += self.window.sub.eq(self.sub)
        for plane in range(len(self.planes) + 1):
            m.d.comb += self.window[f"plane{plane}"].eq(self._window(m, plane))
        return m

    def _header(self, m: Module) -> Value:
        """Drives ``group``; returns the type selector."""
        fields = {f.name: f for f in self.design.layout.header}
        names = {"type": "type", "special": "special", "scale": "scale", "scale_negative": "negative", "zero": "zero"}
        for name, field in self.group_shape:
            source = fields.get(names[name])
            if source is not None:
                bits = self.word[source.bit:source.bit + field.width]
                m.d.comb += self.group[name].eq(self._begin(m, bits, self.at == 0, f"group_{name}"))
        return self.group["type"] if "type" in fields else Const(0, 1)

    def _begin(self, m: Module, value: Value, when: Value, name: str) -> Value:
        """What ``value`` was when it was written for the group that is read."""
        given = self._given(m, value, when, name)
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(self.start):
            m.d.sync += held.eq(given)
        return held

    def _given(self, m: Module, value: Value, when: Value, name: str) -> Signal:
        """The same for the group that begins next."""
        given = Signal(len(value), name=f"{name}_given", reset_less=True)
        with m.If(self.write & when):
            m.d.sync += given.eq(value)
        return given

    def _window(self, m: Module, plane: int) -> Value:
        """The bits of a plane from the current chunk on."""
        lanes, bus = self.design.array.lanes, self.design.bus_bytes
        packings = [p if plane < len(p.planes) else None for p in self.design.layout.packings]
        trits = [p is not None and p.trits for p in packings]
        steps = [0 if p is None else 8 * (lanes // TRITS) if p.trits else lanes * p.planes[plane] for p in packings]
        width = len(self.window[f"plane{plane}"])
        piece = max(1 << (width - 1).bit_length(), 8)
        pieces = self.word_bits // piece
        # Offsets are counted in the largest units that all places of the plane have in common. Where they are smaller
        # than a chunk, it may lie in two pieces.
        head = 8 if plane else 8 * self.design.layout.header_bytes
        unit = math.gcd(piece, head, *(8 if t else step for step, t in zip(steps, trits, strict=True)))
        crosses = unit < width
        offset = Signal((piece // unit - 1).bit_length(), name=f"offset{plane}")
        place = Signal(len(offset) + 1, name=f"place{plane}")
        m.d.comb += place.eq(offset + by_type(self.kind, [
            Mux(self.carry, (step + 8) // unit, step // unit) if t else step // unit
            for step, t in zip(steps, trits, strict=True)]))

        # Where the plane begins: piece and unit of the group that is next, and of the one that is written.
        low, middle = (piece // 8 - 1).bit_length(), (bus - 1).bit_length()
        begin = self.planes[plane - 1] if plane else Const(self.design.layout.header_bytes, middle)
        given = self._given(m, begin, self.last, f"begin{plane}") if plane else begin
        begin_piece, begin_unit = given[low:], Cat(Const(0, 3), given[:low])[(unit - 1).bit_length():]
        with m.If(self.start):
            m.d.sync += offset.eq(begin_unit)
        with m.Elif(self.next):
            m.d.sync += offset.eq(place[:-1])

        m.submodules[f"memory{plane}"] = memory = Memory(shape=self.word_bits, depth=2 * self.depth, init=[],
                                                                  attrs={"no_rw_check": 1})
        write, read = memory.write_port(), memory.read_port()
        bits = (pieces - 1).bit_length()
        ahead = Signal(range(self.depth * pieces), name=f"ahead{plane}")      # the piece that is read next
        number = Signal.like(ahead, name=f"piece{plane}")
        m.d.comb += [number.eq(Mux(self.start, begin_piece + crosses, ahead)),
                     write.addr.eq(self.write_address), write.data.eq(self.word), write.en.eq(self.write),
                     read.en.eq(self.start | (self.next & place[-1])),
                     read.addr.eq(Cat(number[bits:], self.slot ^ ~self.start))]
        part = Signal(bits, name=f"part{plane}")
        with m.If(read.en):
            m.d.sync += [ahead.eq(number + 1), part.eq(number)]
        following = read.data.word_select(part, piece) if bits else read.data
        reach: Value = following
        if crosses:
            here = self.word.word_select(begin[low:middle], piece) if bits else self.word
            first = self._given(m, here, self.at == begin[middle:], f"first{plane}")
            current = Signal(piece, name=f"current{plane}", reset_less=True)
            with m.If(read.en):
                m.d.sync += current.eq(Mux(self.start, first, following))
            reach = Cat(current, following)
        return (reach >> Cat(Const(0, (unit - 1).bit_length()), offset))[:width]


def _trit_bytes(lanes: int) -> int:
    """Bytes that a chunk of trits can touch."""
    return -(-(lanes + (TRITS - 1 if lanes % TRITS else 0)) // TRITS)


def _window_bits(packing: Packing, plane: int, lanes: int) -> int:
    if packing.trits:
        return 0 if plane else 8 * _trit_bytes(lanes)
    return lanes * packing.planes[plane] if plane < len(packing.planes) else 0
