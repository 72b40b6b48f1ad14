"""Boolean functions of liberty cells against Python's own operators."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.cost.energy.boolean import parse_function
from bitkiln.models.errors import BitkilnError

NAMES = ("A", "B1", "C_N", "D")
ALL = (1 << 16) - 1


@st.composite
def trees(draw, depth=3):
    """A function in liberty text, in one of its spellings, and the same for Python (~ is masked)."""
    kind = draw(st.sampled_from(("pin", "not", "post", "and", "or", "xor", "const"))) if depth else "pin"
    if kind == "pin":
        name = draw(st.sampled_from(NAMES))
        return name, name
    if kind == "const":
        value = draw(st.sampled_from((0, 1)))
        return str(value), str(ALL * value)
    left, python = draw(trees(depth - 1))
    if kind in ("not", "post"):
        return (f"!({left})" if kind == "not" else f"({left})'"), f"(~({python}) & {ALL})"
    right, other = draw(trees(depth - 1))
    text = draw(st.sampled_from({"and": (" & ", "*", " "), "or": ("|", " + "), "xor": ("^",)}[kind]))
    sign = {"and": "&", "or": "|", "xor": "^"}[kind]
    return f"({left}){text}({right})", f"(({python}) {sign} ({other}))"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(trees())
def test_equals_python(tree):
    text, python = tree
    columns = {name: sum(1 << case for case in range(16) if case >> at & 1) for at, name in enumerate(NAMES)}
    assert parse_function(text)(columns, ALL) == eval(python, {}, columns)


def test_precedence_without_parentheses():
    """Inversion, then exclusive or, then and, then or: `A B ^ C + !D'` is `(A & (B ^ C)) | D`."""
    function = parse_function("A B ^ C + !D'")
    assert function.pins == ("A", "B", "C", "D")
    for case in range(16):
        a, b, c, d = (case >> at & 1 for at in range(4))
        assert function({"A": a, "B": b, "C": c, "D": d}, 1) == (a & (b ^ c)) | d
        assert function.truth() >> case & 1 == (a & (b ^ c)) | d


def test_packed_words():
    words = np.array([[0b1100, 3], [0b1010, 1]], np.uint64)
    ones = np.uint64(2 ** 64 - 1)
    found = parse_function("!(A & B)")({"A": words[0], "B": words[1]}, ones)
    assert found.dtype == np.uint64 and np.array_equal(found, ~(words[0] & words[1]))
    assert parse_function("1")({}, ones) == ones and parse_function("0")({}, ones) == 0


@pytest.mark.parametrize("text", ["", "A &", "(A", "A)", "A # B", "& A", "A (", "!"])
def test_not_a_function(text):
    with pytest.raises(BitkilnError, match="not a boolean function at cell X"):
        parse_function(text, "cell X")
