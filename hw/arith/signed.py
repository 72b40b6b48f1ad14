"""Signed terms without negation.

A term is the number ``value + carry``: a negative product is the one's complement of its magnitude with the
carry set, so that it needs neither an increment nor a carry chain of its own. Every adder has one free
carry-in, and a tree over n terms followed by an accumulator has n adders: each carry finds a place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from amaranth.hdl import Module, Shape, Value, signed
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import Part

__all__ = ["Term", "TermAdder", "add_term", "sum_terms"]


class Term(NamedTuple):
    """The number ``value + sum(carries)``, whose magnitude is at most ``limit``."""

    value: Value
    carries: tuple[Value, ...]
    limit: int


def _bits(limit: int) -> int:
    # One's complement of a magnitude reaches one below its negative: two's complement range is enough.
    return limit.bit_length() + 1


def add_term(total: Value, x: Term) -> Value:
    """``total + x`` as one carry chain; ``x`` may have one carry left."""
    if len(x.carries) > 1:
        raise ValueError(f"{len(x.carries)} carries do not fit one adder")
    return total + x.value + x.carries[0] if x.carries else total + x.value


class TermAdder(Part):
    """``total = x + y + carry`` as one carry chain.

    Always kept: a flattened tree is fused by Yosys into one many-operand sum (``$macc``), whose 3:2 compressors cost
    two LUT4 a bit where a chain costs half a CCU2C (four E4M3 lanes: 690 LUT4 fused, 429 apart).
    """

    def __init__(self, x: Shape, y: Shape, total: Shape):
        label = f"add_s{x.width}_s{y.width}_s{total.width}"
        super().__init__({"x": In(x), "y": In(y), "carry": In(1), "total": Out(total)}, label, True)

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.total.eq(self.x + self.y + self.carry)
        return m


def sum_terms(m: Module, terms: list[Term], held: Callable[[Value, str], Value] | None = None) -> Term:
    """A balanced tree; at most one carry is left for the accumulator.

    ``held(value, name)`` gives a value's register halfway, before the later half of the levels.
    """
    level, levels = 0, (len(terms) - 1).bit_length()
    while len(terms) > 1 or held:
        if held and level == levels // 2:
            terms = [Term(held(x.value, f"half{i}"),
                          tuple(held(c, f"half_carry{i}_{j}") for j, c in enumerate(x.carries)), x.limit)
                     for i, x in enumerate(terms)]
            held = None
            continue
        following = []
        for i in range(0, len(terms) - 1, 2):
            x, y = terms[i], terms[i + 1]
            limit, carries = x.limit + y.limit, x.carries + y.carries
            adder = shared(TermAdder(x.value.shape(), y.value.shape(), signed(_bits(limit))))
            m.submodules[f"sum{level}_{i // 2}"] = adder
            m.d.comb += [adder.x.eq(x.value), adder.y.eq(y.value), adder.carry.eq(carries[0] if carries else 0)]
            following.append(Term(adder.total, carries[1:], limit))
        terms = following + terms[len(terms) - len(terms) % 2:]
        level += 1
    return terms[0]
