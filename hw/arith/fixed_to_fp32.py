"""An integer times a power of two known at run time, rounded to float32 once.

::

    i ─────────► one's complement ─► << 32 ─► << 16 ─► ... ─► << 1 ─► significand, guard ─► + up ─► o
    exponent ──► places until the field is 0 ──┴─ left ┴─ ... ──┴───► field ──────────────┘

The normalising shift ends where the exponent field does: a subnormal number arrives as it is to be rounded, with
neither a second shifter nor a second rounding. What the complement of a negative number lacks rides in the increment.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .float_convert import BIAS, FLOAT_NAN, SIGNIFICAND_BITS
from .pipeline import Pipeline

__all__ = ["FixedToFp32"]

KEEP = SIGNIFICAND_BITS + 1   # and the guard bit
INFINITY = 0xFF << 23
GROUP = 2                     # stages between two registers; up to twice as many, of the smallest, before the last


def _stages(limit: int, exact: bool) -> list[int]:
    """Shifts whose greedy sum reaches every number of places up to ``limit`` (``exact``: and none beyond), the widest
    first. Where one is no power of two it stands among its like: in front of them all it would be as wide as the
    number."""
    sizes = [1 << bit for bit in reversed(range(limit.bit_length()))]
    if exact and sizes:
        sizes = sorted([*sizes[1:], limit - sum(sizes[1:])], reverse=True)
    return sizes


def _sum(taken: list[tuple[int, Value]]) -> Value:
    """Of the stages that were taken: in binary, and what is no power of two of its own on top."""
    binary, rest = {}, []
    for size, bit in taken:
        if size & (size - 1) or size in binary:
            rest.append(Mux(bit, size, 0))
        else:
            binary[size] = bit
    total: Value = Cat(binary.get(1 << place, Const(0, 1)) for place in range(max(binary, default=0).bit_length()))
    return sum(rest, total) if binary else Const(0, 1)


class FixedToFp32(wiring.Component):
    """``o = RNE(i * 2**(base + exponent))`` in float32, subnormals kept; a result each cycle.

    Overflow gives infinity; zero is +0, a negative number that rounds to zero -0 (IEEE 754).

    Parameters
    ----------
    width : int
        Of the integer.
    base : int
        Constant part of the exponent.
    exponents : (int, int)
        Least and largest value of the part known at run time. There is no logic for what it cannot reach: overflow,
        subnormals.

    Members
    -------
    i : In(signed(width))
    exponent : In(signed(exponent_bits)), where it varies
        Beyond ``exponents`` only where a flag overrides the number.
    nan, pos, neg : In(1)
        Override the integer: NaN, or an infinity (both infinities: NaN).
    o : Out(32)

    Attributes
    ----------
    exponent_bits : int
        0 where the exponent does not vary.
    latency : int
        Clock edges.
    """

    reset_less = True

    def __init__(self, width: int, base: int, exponents: tuple[int, int] = (0, 0)):
        low, high = self.exponents = exponents
        if low > high:
            raise ValueError(f"Exponents {exponents!r}: the least one first")
        self.width, self.base = width, base
        self.exponent_bits = 1 + max((~low if low < 0 else low).bit_length(), high.bit_length()) if low < high else 0
        # Room: places that the number can move up until its top place has the field 1, with exponent 0. Signs in
        # front of it make the least room 0: only what is less than half the least subnormal needs more of them.
        room = base + width - 2 + BIAS - 1
        if low == high:
            room, low, high = room + low, 0, 0
        self.signs = min(max(-(room + low), 0), KEEP)
        self.room = room + self.signs
        length = width - 1 + self.signs
        self.limit = min(length, max(self.room + high, 0))
        # Whether the room may end before the number's leading bit is on top.
        self.checked = max(self.room + low, 0) < self.limit
        self.stages = _stages(self.limit, not self.checked)
        self.groups = max((len(self.stages) - 1) // GROUP, 1)
        self.latency = self.groups + 1
        # With a carry a field of 253 becomes the code of infinity by itself.
        self.overflows = self.room + high + 2 >= 255
        members = {"i": In(signed(width)), "nan": In(1), "pos": In(1), "neg": In(1), "o": Out(32)}
        if self.exponent_bits:
            members["exponent"] = In(signed(self.exponent_bits))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        numbers = [f"{'m' if n < 0 else 'p'}{abs(n)}" for n in (self.base, *self.exponents)]
        return f"fixed{self.width}_{numbers[0]}_e{'_'.join(numbers[1:])}_to_fp32"

    def elaborate(self, platform) -> Module:
        m = Module()
        hold = Pipeline(m, Const(1, 1)).hold
        window, lost, sign, room, left, shift, nan, inf = self._normalise(m, hold)

        # Half a unit of the last place is left, less than it or more; of a negative number's complement one is missing.
        top, guard = window[1:], window[0]
        up = Signal()
        m.d.comb += up.eq(Mux(sign, guard | (~lost & top[0]), guard & (lost | top[0])))
        field = Signal(len(room))
        m.d.comb += field.eq(room - shift)
        # The hidden bit adds one to the field, a carry out of the significand another one.
        hidden = top[-1]
        code = Signal(31)
        m.d.comb += code.eq(Cat(top[:-1], field) + Cat(up, Const(0, 22), hidden))
        special: Value = nan | inf
        if self.overflows:
            special = special | (hidden & (field >= 254))
        o = Signal(32, name="o_q", reset_less=True)
        m.d.sync += o.eq(Cat(code, sign))
        # A zero has room left.
        if self.exponent_bits or self.limit < self.room:
            with m.If(~hidden & left):
                m.d.sync += o[23:31].eq(0)
        with m.If(special):
            m.d.sync += o[:31].eq(INFINITY)
        with m.If(nan):
            m.d.sync += o.eq(FLOAT_NAN)
        m.d.comb += self.o.eq(o)
        return m

    def _room(self, m: Module) -> tuple[Value, Value]:
        """Places that the number may move up, and whether these are more than the stages have together."""
        low, high = self.exponents
        if not self.exponent_bits:
            return Const(max(self.room, 0), max(self.room.bit_length(), 1)), Const(1, 1)
        total = Signal(signed(2 + max(abs(self.room + low), self.room + high).bit_length()))
        room = Signal(max((self.room + high).bit_length(), 1))
        m.d.comb += total.eq(self.exponent + self.room)
        m.d.comb += room.eq(Mux(total[-1], 0, total) if self.room + low < 0 else total)
        return room, room[len(self.stages):].any() if self.checked else Const(1, 1)

    def _normalise(self, m: Module, hold) -> tuple[Value, ...]:
        """Behind a register: the window of significand and guard bit in one's complement, whether a bit below it was
        lost, sign, room, whether some of it is left, the shift, NaN, infinity."""
        sign = self.i[-1]
        nan, inf = self.nan | (self.pos & self.neg), self.pos | self.neg
        # An infinity's sign takes the number's place behind the first stages, where nothing else counts of it.
        sign_after = Mux(inf, self.neg, sign)
        lost: Value = Const(0, 1)
        room, left = self._room(m)
        places = room[:len(self.stages)]
        taken: list[tuple[int, Value]] = []
        # One zero below: where -2**k has to be recognised, one place lower than 2**k.
        value: Value = Cat(Const(0, 1), self.i[:-1], sign.replicate(self.signs))
        raw = True   # not a complement yet: the first stage's multiplexers make it
        for at, size in enumerate(self.stages):
            if at and at % GROUP == 0 and at // GROUP < self.groups:
                value, lost, sign = hold(value, f"value{at}"), hold(lost, f"lost{at}"), hold(sign_after, f"sign{at}")
                sign_after, room, left = sign, hold(room, f"room{at}"), hold(left, f"left{at}")
                places = room[:len(places)] if self.checked else places
                nan, inf = hold(nan, f"nan{at}"), hold(inf, f"inf{at}")
                taken = [(n, hold(bit, f"taken{at}_{n}_{i}")) for i, (n, bit) in enumerate(taken)]
            signs = sign.replicate(len(value))
            flipped = value ^ signs
            digits, own = (flipped, value) if raw else (value, flipped)   # zeros in front; as they came
            width, wanted = len(value), KEEP + sum(self.stages[at + 1:])
            none, take = Signal(name=f"none{size}_{at}"), Signal(name=f"take{size}_{at}")
            m.d.comb += none.eq(~digits[max(width - size, 0):].any())
            if self.checked:
                # Sizes are powers of two: what is left beyond the later ones' sum needs no subtraction.
                enough = Signal(name=f"left{size}_{at}")
                place = size.bit_length() - 1
                m.d.comb += [take.eq(none & (left | places[place])), enough.eq(left | (places[place] & ~none))]
                left, places = enough, places[:place]
            else:
                m.d.comb += take.eq(none)
            keep = min(wanted, width)
            following = Signal(keep, name=f"window{size}_{at}")
            above = max(width - size, 0)
            moved = Cat(sign.replicate(max(keep - above, 0)), digits[max(above - keep, 0):above])
            m.d.comb += following.eq(Mux(take, moved, digits[width - keep:]))
            if width > keep:
                below = Signal(name=f"lost{size}_{at}")
                always, else_lost = own[:max(above - keep, 0)], own[max(above - keep, 0):width - keep]
                m.d.comb += below.eq(lost | always.any() | (~take & else_lost.any()))
                lost = below
            value, raw = following, False
            taken.append((size, take))
        if raw:
            value = value ^ sign.replicate(len(value))
        if len(value) > KEEP:
            rest = value[:len(value) - KEEP]
            lost, value = lost | (rest ^ sign.replicate(len(rest))).any(), value[len(value) - KEEP:]
        else:
            value = Cat(sign.replicate(KEEP - len(value)), value)
        parts = [hold(part, name) for part, name in (
            (value, "window"), (lost, "lost"), (sign_after, "sign"), (room, "room"), (left, "left"))]
        shift = _sum([(size, hold(bit, f"taken{size}_{i}")) for i, (size, bit) in enumerate(taken)])
        return *parts, shift, hold(nan, "nan_q"), hold(inf, "inf_q")
