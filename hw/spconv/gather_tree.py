# amaranth: UnusedElaboratable=no
"""Sums of signed terms by trees of adders, with registers where a pipeline wants them."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value

from ..arith.cells import Adder
from ..emit import shared

__all__ = ["Stages", "Sum", "add", "minus", "signed_bits"]


def signed_bits(low: int, high: int) -> int:
    """Least width of the signed numbers ``low`` to ``high``."""
    return max((~x if x < 0 else x).bit_length() for x in (low, high)) + 1


class Sum(NamedTuple):
    """The number ``value + carry``; ``low`` to ``high`` are those of ``value``, which is signed."""

    value: Value
    carry: Value | None
    low: int
    high: int


def minus(x: Sum) -> Sum:
    """``-x``, of a sum that owes nothing."""
    return Sum((~x.value).as_signed(), Const(1, 1), -x.high - 1, -x.low - 1)


def add(m: Module, name: str, x: Sum, y: Sum, shift: int = 0) -> Sum:
    """``x + (y << shift)``; the carry of ``x`` is left over, or without a shift that of ``y`` where ``y`` has none."""
    carry, left = y.carry, x.carry
    if not shift and carry is None:
        carry, left = left, carry
    low, high = x.low + (y.low << shift), x.high + (y.high + (carry is not None) << shift)
    width = signed_bits(low >> shift, high >> shift)
    bits = [*x.value, *[x.value[-1]] * (shift + 1 - len(x.value))]
    top = Cat(*bits[shift:])
    m.submodules[name] = adder = shared(Adder(len(top), len(y.value), width))
    m.d.comb += [adder.x.eq(top.as_signed()), adder.y.eq(y.value), adder.c.eq(0 if carry is None else carry)]
    return Sum(Cat(*bits[:shift], adder.o).as_signed() if shift else adder.o, left, low, high)


class Stages:
    """Where the registers of a pipeline stand among levels of logic: one at the end, the others evenly between.

    Parameters
    ----------
    registers, levels : int
    """

    def __init__(self, m: Module, registers: int, levels: int):
        self.m, self.level, self.count = m, 0, 0
        self.after = [0] * (levels + 1)
        for k in range(1, registers + 1):
            self.after[k * levels // registers] += 1

    def held(self, sums: list[Sum], levels: int = 0) -> list[Sum]:
        """The sums behind the registers after so many more levels."""
        self.level += levels
        for _ in range(self.after[self.level]):
            sums = [Sum(self._register(each.value), self._register(each.carry), each.low, each.high) for each in sums]
        return sums

    def _register(self, value: Value | None) -> Value | None:
        if value is None or isinstance(value, Const):
            return value
        stage = Signal(value.shape(), name=f"stage{self.count}", reset_less=True)
        self.count += 1
        self.m.d.sync += stage.eq(value)
        return stage

    def trees(self, name: str, groups: list[list[Sum]]) -> list[Sum]:
        """Each group's sum, level by level together; all groups have the same number of terms."""
        while len(groups[0]) > 1:
            following = []
            for at, group in enumerate(groups):
                sums = [add(self.m, f"{name}{at}_{self.level}_{i // 2}", group[i], group[i + 1])
                        for i in range(0, len(group) - 1, 2)]
                following.append(sums + group[len(group) - len(group) % 2:])
            self.level += 1
            groups = [self.held(group) for group in following]
        return [group[0] for group in groups]
