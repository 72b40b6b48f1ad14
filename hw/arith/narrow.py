"""Shifters whose window narrows: a stage only makes the bits that a later stage can still bring into the result.

The bits that fall out on the way leave their trace in a sticky bit. Both run from the largest shift to the smallest,
so that most multiplexers are in the stages that are narrow already: 128 bits normalised to 26 take 300 multiplexers
instead of 900.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from .normalise import stages_of

__all__ = ["leading_window", "shifted_window"]


def _cut(value: Value, low: int, high: int, fill: Value) -> Value:
    """Bits ``low`` to ``high`` (exclusive); zeros below bit 0, ``fill`` above the top."""
    width = len(value)
    below = Const(0, max(min(-low, high - low), 0))
    above = fill.replicate(max(min(high - width, high - low), 0))
    return Cat(below, value[max(low, 0):max(min(high, width), 0)], above)


def leading_window(m: Module, name: str, value: Value, sign: Value, keep: int, limit: int,
                   hold: Callable[[Value, str], Value], cuts: frozenset[int] = frozenset()
                   ) -> tuple[Value, Value, list[tuple[int, Value]], Value]:
    """The top ``keep`` bits of ``value << n``, ``n`` being the number of leading bits equal to ``sign`` (<= limit).

    Parameters
    ----------
    value : Value
        Unsigned: a two's complement number without its sign bit.
    hold : callable
        Register of a value.
    cuts : frozenset of int
        Stages with registers in front of them.

    Returns
    -------
    window : Value
    sticky : Value
        Whether a bit below the window is set.
    taken : list of (size, taken)
        Their sum over the taken stages is ``n``.
    sign : Value
        At the same stage as the window.
    """
    sizes = stages_of(limit)
    sticky: Value = Const(0, 1)
    taken: list[tuple[int, Value]] = []
    for at, size in enumerate(sizes):
        if at in cuts:
            tag = f"{name}{at}"
            value, sign, sticky = hold(value, f"{tag}_value"), hold(sign, f"{tag}_sign"), hold(sticky, f"{tag}_sticky")
            taken = [(step, hold(skip, f"{tag}_skip{i}")) for i, (step, skip) in enumerate(taken)]
        width, room = len(value), keep + sum(sizes[at + 1:])
        skip = Signal(name=f"{name}_skip{size}_{at}")
        m.d.comb += skip.eq(~(value[max(width - size, 0):] ^ sign.replicate(min(size, width))).any())
        zero = Const(0, 1)
        following = Signal(room, name=f"{name}_window{size}_{at}")
        m.d.comb += following.eq(Mux(skip, _cut(value, width - size - room, width - size, zero),
                                     _cut(value, width - room, width, zero)))
        below = [value[:max(width - room, 0)], value[:max(width - size - room, 0)]]
        if len(below[0]):
            dropped = Signal(name=f"{name}_sticky{size}_{at}")
            m.d.comb += dropped.eq(sticky | below[1].any() | (~skip & below[0][len(below[1]):].any()))
            sticky = dropped
        taken.append((size, skip))
        value = following
    if len(value) > keep:
        sticky = sticky | value[:len(value) - keep].any()
        value = value[len(value) - keep:]
    elif len(value) < keep:
        value = Cat(Const(0, keep - len(value)), value)
    return value, sticky, taken, sign


def shifted_window(m: Module, name: str, value: Value, amount: Value, keep: int, fill: Value
                   ) -> tuple[Value, Value, Value]:
    """The low ``keep`` bits of ``value >> amount``, filled from above with ``fill``.

    Returns
    -------
    window : Value
    sticky : Value
        Whether a bit that was shifted out below is set.
    above : Value
        Whether a bit above the window differs from ``fill``.
    """
    sticky: Value = Const(0, 1)
    above: Value = Const(0, 1)
    for bit in reversed(range(len(amount))):
        size, room, select = 1 << bit, keep + (1 << bit) - 1, amount[bit]
        following = Signal(room, name=f"{name}_window{size}")
        m.d.comb += following.eq(Mux(select, _cut(value, size, size + room, fill), _cut(value, 0, room, fill)))
        out = Signal(name=f"{name}_sticky{size}")
        m.d.comb += out.eq(sticky | (select & value[:size].any()))
        high = [value[room:], value[size + room:]]
        if len(high[0]):
            differs = [(part ^ fill.replicate(len(part))).any() if len(part) else Const(0, 1)
                       for part in (high[0][:size], high[1])]
            over = Signal(name=f"{name}_above{size}")
            m.d.comb += over.eq(above | differs[1] | (~select & differs[0]))
            above = over
        sticky, value = out, following
    if len(value) < keep:
        value = _cut(value, 0, keep, fill)
    elif len(value) > keep:
        above = above | (value[keep:] ^ fill.replicate(len(value) - keep)).any()
        value = value[:keep]
    return value, sticky, above
