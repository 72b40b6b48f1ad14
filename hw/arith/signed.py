"""Signed terms without negation.

A term is the number ``value + carry``: a negative product is the one's complement of its magnitude with the
carry set, so that it needs neither an increment nor a carry chain of its own. Every adder has one free
carry-in, and a tree over n terms followed by an accumulator has n adders: each carry finds a place.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Const, Module, Signal, Value, signed

__all__ = ["Term", "add_term", "sum_terms"]


class Term(NamedTuple):
    """The number ``value + sum(carries)``, whose magnitude is at most ``limit``."""

    value: Value
    carries: tuple[Value, ...]
    limit: int


def _bits(limit: int) -> int:
    # One's complement of a magnitude reaches one below its negative: two's complement range is enough.
    return limit.bit_length() + 1


def _is_zero(carry: Value) -> bool:
    return isinstance(carry, Const) and carry.value == 0


def term(value: Value, carry: Value, limit: int) -> Term:
    """One product as a term."""
    return Term(value, () if _is_zero(carry) else (carry,), limit)


def add_term(total: Value, x: Term) -> Value:
    """``total + x`` as one carry chain; ``x`` may have one carry left."""
    if len(x.carries) > 1:
        raise ValueError(f"{len(x.carries)} carries do not fit one adder")
    return total + x.value + x.carries[0] if x.carries else total + x.value


def sum_terms(m: Module, terms: list[Term]) -> Term:
    """A balanced tree; at most one carry is left for the accumulator."""
    level = 0
    while len(terms) > 1:
        following = []
        for i in range(0, len(terms) - 1, 2):
            x, y = terms[i], terms[i + 1]
            limit, carries = x.limit + y.limit, x.carries + y.carries
            total = Signal(signed(_bits(limit)), name=f"sum{level}_{i // 2}")
            m.d.comb += total.eq(x.value + y.value + (carries[0] if carries else 0))
            following.append(Term(total, carries[1:], limit))
        terms = following + terms[len(terms) - len(terms) % 2:]
        level += 1
    return terms[0]
