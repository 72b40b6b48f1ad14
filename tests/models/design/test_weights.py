"""Term tables of the weight types against a search for the fewest signed powers of two."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.design.weights import (
    BITMOD_TYPES,
    Term,
    WeightType,
    booth_terms,
    signed_digits,
    weight_type,
    weight_type_names,
)
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format

BITS = 16  # of a grid value
FORMAT_TYPES = [name for name in weight_type_names() if name not in BITMOD_TYPES and not name.endswith("_int8")]
# Signed digits that each type takes, counted by hand from its values (for example 13 = 8 + 4 + 1 of fp6_e2m3).
TERMS = {"bitmod3": 2, "bitmod4": 2, "ternary": 1, "binary": 1, "seq2": 2, "int2": 1, "int3": 2, "int4": 2, "int5": 3,
         "int6": 3, "int7": 4, "int8": 4, "fp3": 1, "fp4": 2, "fp6_e2m3": 3, "fp6_e3m2": 2, "e2m2": 2, "e3m1": 2,
         "flint4": 2, "nf4_int8": 4, "nf3_int8": 3}


@cache
def fewest() -> np.ndarray:
    """``fewest()[v + offset]``: powers of two, added or subtracted, that make v; every sum of n is tried before n + 1.

    Terms of up to 2**(BITS + 1), sums within +-2**(BITS + 2): a shortest form, its terms by falling size, stays there.
    """
    offset = 1 << (BITS + 2)
    count = np.full(2 * offset + 1, 99)
    count[offset] = 0
    reached = count == 0
    for terms in range(1, BITS + 1):
        following = reached.copy()
        for shift in range(BITS + 2):
            step = 1 << shift
            following[step:] |= reached[:-step]
            following[:-step] |= reached[step:]
        count[following & ~reached] = terms
        reached = following
    return count


def fewest_terms(value: int) -> int:
    return int(fewest()[value + (len(fewest()) >> 1)])


def value_of(terms: tuple[Term | None, ...]) -> int:
    return sum((-1) ** term.negative * (1 << term.shift) for term in terms if term is not None)


def falling(terms: tuple[Term | None, ...]) -> bool:
    shifts = [term.shift for term in terms if term is not None]
    return all(high > low for high, low in zip(shifts, shifts[1:], strict=False))


# Digits ------------------------------------------------------------------------------------------


def test_the_search_knows_what_is_known() -> None:
    assert [fewest_terms(value) for value in (0, 1, 3, 7, 11, -13, 23, 43, 0b101010101010101, 65535)] \
        == [0, 1, 2, 2, 3, 3, 3, 4, 8, 2]


def test_signed_digits_are_right_and_the_fewest_for_every_integer() -> None:
    every = np.arange(-(1 << BITS) + 1, 1 << BITS)
    wanted = fewest()[every + (len(fewest()) >> 1)]
    for value, count in zip(every.tolist(), wanted.tolist(), strict=True):
        terms = signed_digits(value)
        assert len(terms) == count and value_of(terms) == value and falling(terms) and None not in terms, value
    assert signed_digits(0) == ()


@pytest.mark.parametrize("value, shifts", [(3, [1, 0]), (6, [2, 1]), (5, [2, 0]), (7, [3, 0]), (-7, [3, 0]),
                                           (14, [4, 1]), (11, [3, 1, 0]), (13, [3, 2, 0]), (127, [7, 0])])
def test_plain_bits_where_they_are_as_short(value: int, shifts: list[int]) -> None:
    assert [term.shift for term in signed_digits(value)] == shifts


@pytest.mark.parametrize("bits", range(1, 9))
def test_booth_digits(bits: int) -> None:
    """One digit -2..2 for each two bits, from the most significant; every two's complement number of these bits."""
    for value in range(-(1 << bits) // 2, (1 << bits) // 2) if bits > 1 else (-1, 0):
        terms = booth_terms(value, bits)
        assert len(terms) == -(-bits // 2) and value_of(terms) == value and falling(terms)
        for place, term in zip(reversed(range(0, bits, 2)), terms, strict=True):
            assert term is None or term.shift - place in (0, 1)


# Types -------------------------------------------------------------------------------------------


def test_every_type_is_in_the_table() -> None:
    assert set(TERMS) == set(weight_type_names())


@pytest.mark.parametrize("name", weight_type_names())
def test_every_code_of_every_type(name: str) -> None:
    kind = weight_type(name)
    shifts = []
    for code, value in enumerate(kind.values):
        terms = kind.code_terms(code)
        assert value_of(terms) == (value or 0), f"code {code}"
        assert falling(terms) and len(terms) <= kind.terms
        if not kind.booth:
            assert len(terms) == fewest_terms(value or 0) and None not in terms
        shifts += [term.shift for term in terms if term is not None]
    for value in kind.specials:
        assert kind.check_special(value) == kind.code_terms(kind.special_code, value) == signed_digits(value)
        assert len(signed_digits(value)) == fewest_terms(value) <= kind.terms
        shifts += [term.shift for term in signed_digits(value)]
    assert kind.terms == TERMS[name]
    if kind.booth:
        assert kind.terms == -(-kind.bits // 2)
    else:
        assert kind.terms == max(fewest_terms(v or 0) for v in (*kind.values, *kind.specials))
    assert kind.shifts == max(shifts)


@pytest.mark.parametrize("name", FORMAT_TYPES)
def test_values_are_those_of_the_number_format(name: str) -> None:
    kind, fmt = weight_type(name), get_format(name)
    codes = np.arange(1 << fmt.bits)
    np.testing.assert_array_equal(kind.decode(codes), fmt.decode(codes))
    assert kind.bits == fmt.bits and kind.booth == name.startswith("int")


@pytest.mark.parametrize("name, steps", [("nf4", 127), ("nf3", 127)])
def test_rounded_codebooks_keep_the_nearest_entries(name: str, steps: int) -> None:
    kind, fmt = weight_type(f"{name}_int8"), get_format(name)
    exact = fmt.decode(np.arange(1 << fmt.bits)) * steps
    assert np.abs(np.array(kind.values) - exact).max() <= 0.5
    assert (np.diff(kind.values) > 0).all() and kind.max_units == steps


def test_bitmod_types_are_those_of_the_paper() -> None:
    """arXiv 2411.11745, table IV: minus zero stands for one of +-3, +-6 beside FP3, of +-5, +-8 beside FP4."""
    three, four = weight_type("bitmod3"), weight_type("BitMoD4 ")
    assert three.decode(np.arange(8)).tolist() == [0, 1, 2, 4, 0, -1, -2, -4]
    assert four.decode(np.arange(16)).tolist() == [0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6]
    assert [three.real(v) for v in three.specials] == [3, -3, 6, -6]
    assert [four.real(v) for v in four.specials] == [5, -5, 8, -8]
    assert (three.special_code, four.special_code, three.terms, four.terms) == (4, 8, 2, 2)
    selected = np.array([4, 4, 4, 1]), np.array(three.specials)[[0, 3, 2, 0]]
    assert three.units(*selected).tolist() == [3, -6, 6, 1]
    assert three.units(selected[0], -3).tolist() == [-3, -3, -3, 1]


def test_without_a_meaning_or_a_special_value_a_code_is_zero() -> None:
    assert weight_type("ternary").units(np.arange(4)).tolist() == [0, 1, 0, -1]
    assert weight_type("ternary").code_terms(2) == () and weight_type("bitmod4").code_terms(8) == ()


def test_largest_magnitude_counts_values_that_can_be_written_later() -> None:
    """bitmod4's shifter reaches 16 half steps and it has two terms: 16 + 8."""
    kind = weight_type("bitmod4")
    assert kind.max_units == 24 and kind.check_special(24) == (Term(False, 4), Term(False, 3))
    allowed = [value for value in range(-40, 41) if _fits(kind, value)]
    assert max(allowed) == 24 == -min(allowed)
    assert weight_type("fp4").max_units == 12 and weight_type("int4").max_units == 8


def _fits(kind: WeightType, value: int) -> bool:
    try:
        kind.check_special(value)
    except BitkilnError:
        return False
    return True


def test_half_steps_up_to_eight_fit_but_two() -> None:
    """Reference 1.3: two terms make every multiple of 0.5 up to 8 but 5.5 and 6.5."""
    refused = []
    for halves in range(-16, 17):
        try:
            made = weight_type("bitmod4").with_specials((halves / 2,))
            assert made.specials == (halves,) and made.terms == 2
        except BitkilnError:
            refused.append(halves / 2)
    assert refused == [-6.5, -5.5, 5.5, 6.5]


def test_more_terms_by_request() -> None:
    kind = weight_type("bitmod4").with_specials((5.5, -6.5), max_terms=3)
    assert kind.terms == 3 and [len(kind.check_special(v)) for v in kind.specials] == [3, 3]
    assert weight_type("bitmod3").with_specials((7,)).shifts == 3  # 8 - 1
    assert weight_type("bitmod4").with_specials(()).terms == 2     # room for what is written later


# Refusals ----------------------------------------------------------------------------------------

CODEBOOK = ("help: a codebook of arbitrary values runs on the codebook_dequantiser, or rounded to 8-bit entries "
            "(nf4_int8)")
TOO_MANY = "error: special value has too many terms at"
FINITE = "expected a finite format of 8 bits or less and small range"
LISTED = "help: list it among the special values of the design: its shifter is then built for it"


@pytest.mark.parametrize("make, message", [
    (lambda: weight_type("bitmod4").with_specials((5.5,)),
     f"{TOO_MANY} bitmod4 special value: got '5.5 = 3 signed powers of two', expected at "
     "most 2\nhelp: the nearest that fit are 5 and 6; or configure special_terms: 3"),
    (lambda: weight_type("bitmod4").with_specials((5, 6.5)),
     f"{TOO_MANY} bitmod4 special value: got '6.5 = 3 signed powers of two', expected at "
     "most 2\nhelp: the nearest that fit are 6 and 7; or configure special_terms: 3"),
    (lambda: weight_type("bitmod4").with_specials((-6.5,)),
     f"{TOO_MANY} bitmod4 special value: got '-6.5 = 3 signed powers of two', expected at "
     "most 2\nhelp: the nearest that fit are -7 and -6; or configure special_terms: 3"),
    (lambda: weight_type("bitmod3").with_specials((43,)),
     f"{TOO_MANY} bitmod3 special value: got '43 = 4 signed powers of two', expected at "
     "most 2\nhelp: the nearest that fit are 40 and 48; or configure special_terms: 4"),
    (lambda: weight_type("bitmod3").check_special(11),
     f"{TOO_MANY} bitmod3 special value: got '11 = 3 signed powers of two', expected at "
     "most 2\nhelp: the nearest that fit are 10 and 12; or configure special_terms: 3"),
    (lambda: WeightType("edge", 1, (0, 1), special_code=0, specials=(49152,), max_terms=1),
     f"{TOO_MANY} edge special value: got '49152 = 2 signed powers of two', expected at "
     "most 1\nhelp: the nearest that fit are 32768; or configure special_terms: 2"),
    (lambda: weight_type("bitmod3").check_special(7),
     f"error: special value out of range at bitmod3 special value: got '7', expected terms of at most 4\n{LISTED}"),
    (lambda: weight_type("bitmod4").check_special(-32),
     f"error: special value out of range at bitmod4 special value: got '-16', expected terms of at most 8\n{LISTED}"),
    (lambda: weight_type("bitmod4").with_specials((2.3,)),
     "error: special value is not on the grid at bitmod4 special value: got 2.3, expected a multiple of 0.5"),
    (lambda: weight_type("bitmod3").with_specials((1.5,)),
     "error: special value is not on the grid at bitmod3 special value: got 1.5, expected a multiple of 1"),
    (lambda: weight_type("bitmod4").with_specials((float("nan"),)),
     "error: not a usable number at bitmod4 special value: got 'nan', expected a finite number"),
    (lambda: weight_type("bitmod4").with_specials((float("-inf"),)),
     "error: not a usable number at bitmod4 special value: got '-inf', expected a finite number"),
    (lambda: weight_type("bitmod4").with_specials((1e6,)),
     "error: grid does not fit the engine at weight type bitmod4: got 'largest magnitude 2000000 units', expected 1 to "
     f"65535 units of its least step\n{CODEBOOK}"),
    (lambda: weight_type("bitmod4").with_specials((1, 2, 3, 4, 5)),
     "error: too many special values at weight type bitmod4: got 5, expected at most 4"),
    (lambda: WeightType("zeros", 1, (0, None)),
     "error: grid does not fit the engine at weight type zeros: got 'largest magnitude 0 units', expected 1 to 65535 "
     f"units of its least step\n{CODEBOOK}"),
    (lambda: WeightType("wide", 1, (0, 65536)),
     "error: grid does not fit the engine at weight type wide: got 'largest magnitude 65536 units', expected 1 to "
     f"65535 units of its least step\n{CODEBOOK}"),
    (lambda: WeightType("short", 2, (0, 1)),
     "error: wrong number of values at weight type short: got 2, expected 2**bits values, bits 1 to 8"),
    (lambda: WeightType("long", 9, (1,) * 512),
     "error: wrong number of values at weight type long: got 512, expected 2**bits values, bits 1 to 8"),
    (lambda: WeightType("none", 0, (1,)),
     "error: wrong number of values at weight type none: got 1, expected 2**bits values, bits 1 to 8"),
    (lambda: WeightType("alone", 1, (0, 1), specials=(1,)),
     "error: special values without a code at weight type alone: got '(1,)', expected special_code"),
    (lambda: WeightType("digits", 2, (0, 1, -2, -1), booth=True, special_code=2),
     "error: no place for a special value at weight type digits: got 'special_code 2', expected a code of 2 bits, of a "
     "type without Booth digits"),
    (lambda: WeightType("beyond", 1, (0, 1), special_code=2),
     "error: no place for a special value at weight type beyond: got 'special_code 2', expected a code of 1 bits, of a "
     "type without Booth digits"),
    (lambda: WeightType("Bad name", 1, (0, 1)),
     "error: not a format name at format name: got 'Bad name', expected a lower-case letter, then up to 39 letters, "
     "digits and single _"),
    (lambda: weight_type("bitmod5", where="weights[0]"),
     "error: unknown weight type at weights[0]: got 'bitmod5', expected a weight type\n"
     "help: did you mean bitmod4, bitmod3, bitmod4_er_pos?"),
    (lambda: weight_type("posit16_1"),
     f"error: not a weight type of the bit-serial engine at weights: got 'posit16_1', {FINITE}\nhelp: choices: "
     "bitmod3, bitmod4, ternary, binary, seq2, int2, int3, int4, int5, int6, int7, int8, ..."),
    (lambda: weight_type("fp8_e4m3"),
     f"error: not a weight type of the bit-serial engine at weights: got 'fp8_e4m3', {FINITE}\n"
     "help: did you mean fp6_e2m3, fp6_e3m2, fp4?"),
    (lambda: weight_type("nf4"),
     f"error: not a weight type of the bit-serial engine at weights: got 'nf4', {FINITE}\n"
     "help: did you mean fp4, int4, nf4_int8?"),
    (lambda: weight_type("int16"),
     f"error: not a weight type of the bit-serial engine at weights: got 'int16', {FINITE}\n"
     "help: did you mean int6, int8, int7?"),
    (lambda: weight_type(4),
     "error: not a format name at weights: got '4 (int)', expected a string"),
])
def test_refusals(make, message: str) -> None:
    with pytest.raises(BitkilnError) as caught:
        make()
    assert str(caught.value) == message and caught.value.exit_code == 2


# Any grid ----------------------------------------------------------------------------------------


@st.composite
def grids(draw) -> WeightType:
    """Types of 1 to 5 bits over any integers, some with special values."""
    bits = draw(st.integers(1, 5))
    number = st.integers(-(1 << BITS) + 1, (1 << BITS) - 1)
    values = draw(st.lists(st.none() | number, min_size=1 << bits, max_size=1 << bits).filter(any))
    special = draw(st.none() | st.integers(0, (1 << bits) - 1))
    specials = tuple(draw(st.lists(number, max_size=4))) if special is not None else ()
    return WeightType("grid", bits, tuple(values), draw(st.integers(-8, 3)), special, specials)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grids())
def test_terms_of_any_grid(kind: WeightType) -> None:
    numbers = [value or 0 for value in kind.values]
    assert kind.terms == max(1, *(fewest_terms(value) for value in (*numbers, *kind.specials)))
    for code, value in enumerate(numbers):
        terms = kind.code_terms(code)
        assert value_of(terms) == value and len(terms) == fewest_terms(value) and falling(terms)
        assert all(term.shift <= kind.shifts for term in terms)
    for value in kind.specials:
        assert value_of(kind.code_terms(kind.special_code, value)) == value
        assert kind.check_special(value) == signed_digits(value)
    assert kind.max_units >= max(map(abs, (*numbers, *kind.specials)))
    assert kind.units(np.arange(len(numbers))).tolist() == numbers
    np.testing.assert_array_equal(kind.decode(np.arange(len(numbers))),
                                  np.array(numbers, float) * 2.0 ** kind.unit_exponent)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(-(1 << 12), 1 << 12), st.integers(1, 4))
def test_a_special_value_is_refused_exactly_when_its_terms_are_too_many(value: int, limit: int) -> None:
    base = WeightType("grid", 1, (0, 1), special_code=0, max_terms=limit)
    try:
        made = base.with_specials((value,))
    except BitkilnError as error:
        assert fewest_terms(value) > limit and error.what == "special value has too many terms"
        below, above = (int(word) for word in error.help.split(";")[0].removeprefix("the nearest that fit are ")
                        .split(" and "))
        assert below < value < above and fewest_terms(below) <= limit and fewest_terms(above) <= limit
        between = [other for other in range(below + 1, above) if fewest_terms(other) <= limit]
        assert between == []
    else:
        assert fewest_terms(value) <= limit and made.terms == limit and made.specials == (value,)
