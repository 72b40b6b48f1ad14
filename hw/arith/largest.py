"""The largest of some unsigned numbers."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value

__all__ = ["largest"]


def largest(m: Module, name: str, values: list[Value]) -> Value:
    """By pairs; each comparison has a signal, for an expression of expressions would double with every one."""
    level = 0
    while len(values) > 1:
        following = []
        for at in range(0, len(values) - 1, 2):
            x, y = values[at:at + 2]
            larger = Signal(max(len(x), len(y)), name=f"{name}{level}_{at}")
            m.d.comb += larger.eq(Mux(x > y, x, y))
            following.append(larger)
        values = following + ([values[-1]] if len(values) % 2 else [])
        level += 1
    return values[0]
