"""Leading-zero count and left shift in one: each stage shifts when the bits that it would drop are zero."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

__all__ = ["stages_of", "normalise"]


def stages_of(limit: int) -> list[int]:
    """Stage sizes whose greedy sum reaches every shift 0..limit and never passes ``limit``.

    All but the first are powers of two, so that the taken stages spell the shift in binary.
    """
    if limit <= 0:
        return []
    k = (limit + 1).bit_length() - 1
    first = limit - ((1 << k) - 1)
    return ([first] if first else []) + [1 << i for i in range(k - 1, -1, -1)]


def normalise(m: Module, name: str, value: Value, limit: int) -> tuple[Value, list[tuple[int, Value]]]:
    """``value << min(leading zeros, limit)`` and the (size, taken) of each stage; widths stay."""
    width = len(value)
    taken = []
    for size in stages_of(limit):
        skip = Signal(name=f"{name}_skip{size}_{len(taken)}")
        m.d.comb += skip.eq(~value[max(width - size, 0):].any())
        shifted = Cat(Const(0, min(size, width)), value)[:width]
        following = Signal(width, name=f"{name}_{size}_{len(taken)}")
        m.d.comb += following.eq(Mux(skip, shifted, value))
        taken.append((size, skip))
        value = following
    return value, taken
