"""Signed terms without negation: the sign travels beside the magnitude and folds into the next adder.

``sign ? x - y : x + y`` is one carry chain (Yosys merges the two into one ``$alu`` whose B inversion is the
sign), while negating first would cost a LUT for each bit and a carry for the plus one.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Module, Mux, Shape, Signal, Value

__all__ = ["Term", "add_terms", "sum_terms", "apply"]


class Term(NamedTuple):
    """The number ``-value if sign else value``; ``limit`` bounds its magnitude."""

    sign: Value
    value: Value
    limit: int


def _signed_for(limit: int) -> Shape:
    return Shape(limit.bit_length() + 1, signed=True)


def add_terms(m: Module, name: str, x: Term, y: Term) -> Term:
    """``x + y`` with the sign of ``x`` put off: ``sign_x ? -(x.value -+ y.value) : ...``."""
    limit = x.limit + y.limit
    total = Signal(_signed_for(limit), name=name)
    opposite = x.sign ^ y.sign
    m.d.comb += total.eq(Mux(opposite, x.value - y.value, x.value + y.value))
    return Term(x.sign, total, limit)


def sum_terms(m: Module, terms: list[Term]) -> Term:
    """A balanced tree over any number of terms."""
    level = 0
    while len(terms) > 1:
        pairs = [add_terms(m, f"sum{level}_{i}", terms[i], terms[i + 1]) for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[len(terms) - len(terms) % 2:]
        level += 1
    return terms[0]


def apply(total: Value, term: Term) -> Value:
    """``total + term`` as an expression that becomes one carry chain."""
    return Mux(term.sign, total - term.value, total + term.value)
