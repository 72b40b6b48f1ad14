"""Boolean functions of liberty cells: parsed once, evaluated on bits, on packed words or on whole arrays of them.

Operators by precedence: ``!x`` and ``x'``, ``^``, then ``x & y``, ``x * y`` and ``x y``, then ``x | y`` and ``x + y``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...errors import BitkilnError

__all__ = ["Function", "parse_function"]

TOKEN = re.compile(r"\s*([A-Za-z_][\w.\[\]]*|[01]|[()!'^&*|+~])")


@dataclass(frozen=True)
class Function:
    """A parsed function.

    Attributes
    ----------
    text : str
    tree : tuple
        ``("pin", name)``, ``("const", 0 or 1)``, ``("not", x)`` or ``("and" | "or" | "xor", x, y)``.
    pins : tuple of str
        Names read, in order of appearance.
    """

    text: str
    tree: tuple[Any, ...]
    pins: tuple[str, ...]

    def __call__(self, values: Mapping[str, Any], ones: Any) -> Any:
        """The function of ``values``.

        Parameters
        ----------
        values : mapping of name to int or unsigned ndarray
            Arrays that broadcast against each other; every bit is a case of its own.
        ones : int or unsigned
            All bits set: 1 for single bits, ``np.uint64(2**64 - 1)`` for packed words.
        """
        return _evaluate(self.tree, values, ones)

    def truth(self) -> int:
        """The truth table over ``pins``: bit ``i`` is the value where pin ``k`` is bit ``k`` of ``i``."""
        cases = 1 << len(self.pins)
        ones = (1 << cases) - 1
        columns = {name: sum(1 << case for case in range(cases) if case >> at & 1)
                   for at, name in enumerate(self.pins)}
        return self(columns, ones)


def _evaluate(tree: tuple[Any, ...], values: Mapping[str, Any], ones: Any) -> Any:
    kind = tree[0]
    if kind == "pin":
        return values[tree[1]]
    if kind == "and":
        return _evaluate(tree[1], values, ones) & _evaluate(tree[2], values, ones)
    if kind == "or":
        return _evaluate(tree[1], values, ones) | _evaluate(tree[2], values, ones)
    if kind == "xor":
        return _evaluate(tree[1], values, ones) ^ _evaluate(tree[2], values, ones)
    if kind == "not":
        return _evaluate(tree[1], values, ones) ^ ones
    return ones if tree[1] else ones ^ ones


@cache
def parse_function(text: str, where: str = "function") -> Function:
    """Parse a liberty function.

    Raises
    ------
    BitkilnError
        Not a function: the offending place is shown.
    """
    tokens, at = [], 0
    source = text.strip()
    while at < len(source):
        match = TOKEN.match(source, at)
        if match is None:
            raise BitkilnError("not a boolean function", where=where, got=source[at:at + 20],
                               expected="pins, 0, 1 and the operators ! ' ^ & * | + ( )")
        tokens.append(match[1])
        at = match.end()
    parser = _Parser(tokens, text, where)
    tree = parser.alternatives()
    if parser.at < len(tokens) or not tokens:
        raise parser.error()
    pins = tuple(dict.fromkeys(token for token in tokens if token[0].isalpha() or token[0] == "_"))
    return Function(text, tree, pins)


class _Parser:
    """Recursive descent; each method is one level of precedence."""

    def __init__(self, tokens: list[str], text: str, where: str):
        self.tokens, self.at, self.text, self.where = tokens, 0, text, where

    def error(self) -> BitkilnError:
        rest = " ".join(self.tokens[self.at:]) or "the end"
        return BitkilnError("not a boolean function", where=self.where, got=self.text,
                            expected=f"an operand or operator before {rest!r}")

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def alternatives(self) -> tuple[Any, ...]:
        tree = self.product()
        while self.peek() in ("|", "+"):
            self.at += 1
            tree = ("or", tree, self.product())
        return tree

    def product(self) -> tuple[Any, ...]:
        tree = self.parity()
        while (token := self.peek()) and token not in ("|", "+", ")"):
            self.at += token in ("&", "*")
            tree = ("and", tree, self.parity())
        return tree

    def parity(self) -> tuple[Any, ...]:
        tree = self.operand()
        while self.peek() == "^":
            self.at += 1
            tree = ("xor", tree, self.operand())
        return tree

    def operand(self) -> tuple[Any, ...]:
        token = self.peek()
        self.at += 1
        if token in ("!", "~"):
            return ("not", self.operand())
        if token == "(":
            tree = self.alternatives()
            if self.peek() != ")":
                raise self.error()
            self.at += 1
        elif token in ("0", "1"):
            tree = ("const", int(token))
        elif token and (token[0].isalpha() or token[0] == "_"):
            tree = ("pin", token)
        else:
            self.at -= 1
            raise self.error()
        while self.peek() == "'":
            self.at += 1
            tree = ("not", tree)
        return tree
