"""Golden model of the codebook dequantiser against rational arithmetic, NumPy's float16 and published figures."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from bitkiln.models.cost.cycles.codebook import codebook_cycles, wait_cycles
from bitkiln.models.design.codebook import CodebookDesign, dynamic_levels
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.codebook import Codebooks, chunks_of, dequantise, second_level, table_codes

SEED = 73
NF4 = get_format("nf4").decode(np.arange(16))


def rounded(value: Fraction) -> Fraction:
    """Nearest float32 of a rational number, ties to even; subnormals kept, no overflow."""
    if not value:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    exponent += size >= Fraction(2) ** exponent
    unit = Fraction(2) ** max(exponent - 24, -149)
    whole, rest = divmod(size, unit)
    whole += rest * 2 > unit or (rest * 2 == unit and whole % 2)
    return whole * unit * (1 if value > 0 else -1)


def bits(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).view(np.uint32)


def test_nf4_entries_of_several_formats() -> None:
    half = table_codes(CodebookDesign("fp16"), NF4[None])
    assert np.array_equal(half[0], NF4.astype(np.float16).view(np.uint16))
    assert np.array_equal(table_codes(CodebookDesign("int8"), NF4[None] * 127)[0].astype(np.int8), np.rint(NF4 * 127))
    # Both halves of a 4-bit table mean the same where it is one of 3 bits.
    nf3 = get_format("nf3").decode(np.arange(8))
    both = table_codes(CodebookDesign("fp16"), nf3[None])
    assert np.array_equal(both[0, :8], nf3.astype(np.float16).view(np.uint16))
    assert np.array_equal(both[0, 8:], both[0, :8])
    assert table_codes(CodebookDesign("fp16", code_bits=3), nf3[None]).shape == (1, 8)
    # Saturating, not infinite.
    assert table_codes(CodebookDesign("fp16", code_bits=3), np.full((1, 8), 1e9)).tolist() == [[0x7BFF] * 8]


@pytest.mark.parametrize("scale, offset", [("uint8", False), ("int8", True), ("table8", True), ("table8", False)])
def test_second_level_rounds_each_operation_once(scale: str, offset: bool) -> None:
    design = CodebookDesign(scale=scale, offset=offset)
    rng = np.random.default_rng(SEED)
    count = 2000
    codes = rng.integers(0, 256, count)
    # Every size, also products and sums that are subnormal.
    step, add = (np.ldexp(rng.normal(0, 1, count), exponents).astype(np.float32)
                 for exponents in (rng.integers(-149, 60, count), rng.integers(-149, 60, count)))
    near = rng.random(count) < 0.5
    add = np.where(near, step * np.float32(-37.25), add)
    levels = dynamic_levels()
    found = second_level(design, codes, bits(step), bits(add), levels).view(np.float32)
    for n in range(count):
        code = int(codes[n])
        value = Fraction(float(levels[code])) if scale == "table8" else \
            Fraction(code - 256 * (scale == "int8" and code > 127))
        exact = rounded(value * Fraction(float(step[n])))
        if offset:
            exact = rounded(exact + Fraction(float(add[n])))
        assert Fraction(float(found[n])) == exact, n
    assert (found == 0).sum() < count / 4


def test_second_level_of_special_numbers() -> None:
    inf, nan, one = 0x7F800000, 0x7FC00000, 0x3F800000
    design = CodebookDesign(scale="uint8", offset=True)

    def scale(code: int, step: int, offset: int) -> int:
        return int(second_level(design, np.array([code]), np.array([step]), np.array([offset]))[0])

    assert scale(0, inf, one) == nan and scale(3, inf, one) == inf and scale(3, inf, 0xFF800000) == nan
    assert scale(3, 0x7F812345, one) == nan and scale(3, one, 0xFFC00001) == nan
    assert scale(255, 0x7F7FFFFF, 0) == inf and scale(0, 0x80000000, 0x80000000) == 0x80000000
    assert scale(0, one, 0x80000000) == 0
    signed = design.with_options(scale="int8", offset=False)
    assert second_level(signed, np.array([128, 127]), np.array([one, one])).view(np.float32).tolist() == [-128, 127]


def test_dynamic_tree_code() -> None:
    levels = dynamic_levels().astype(np.float64)
    assert len(levels) == 256 and (np.diff(levels) > 0).all() and levels[-1] == 1
    positive = levels[(levels > 0) & (levels < 1)]
    assert np.array_equal(-levels[levels < 0][::-1], positive) and (levels == 0).sum() == 1
    decades = np.histogram(positive, [10.0 ** -n for n in range(7, -1, -1)])[0]
    assert decades.tolist() == [1, 2, 4, 8, 16, 32, 64]
    assert positive[0] == np.float32(5.5e-7) and positive[-1] == np.float32(0.99296875)


def test_blocks_become_words() -> None:
    design = CodebookDesign("int8", lanes=2, tables=2, scale="uint8", word_bits=32)
    books = Codebooks(np.arange(32).reshape(2, 16))
    stream = chunks_of(design, np.array([1, 2, 3, 4, 5, 6]), np.array([5, 1]), np.array([0, 1]), np.array([2, 3]),
                       np.array([True, False]), np.array([[0x40000000, 0]], np.uint32))
    assert stream.codes.tolist() == [[1, 2], [3, 4], [5, 15], [6, 15]] and stream.mask[2].tolist() == [True, False]
    words = dequantise(design, books, stream)
    assert words.entries.tolist() == [[1, 2, 3, 4], [5, 0, 0, 0], [22, 0, 0, 0]]
    assert words.first.tolist() == [True, False, True] and words.last.tolist() == [False, True, True]
    assert words.scale.view(np.float32).tolist() == [4, 4, 6] and not words.illegal
    assert words.chunk.tolist() == [1, 2, 3]
    accepted, leaves = codebook_cycles(design, stream.first, words.chunk)
    wait = wait_cycles(design)
    assert accepted.tolist() == [0, 1, 2, 3] and leaves.tolist() == [wait + 2, wait + 3, wait + 4]
    # A stream that stops within a word has not given it.
    some = chunks_of(design, np.zeros(5, int), np.array([5]), scale=1)
    assert len(dequantise(design, books, some).last) == 2
    assert len(dequantise(design, books, replace(some, last=np.zeros(3, bool))).last) == 1
    none = chunks_of(design, np.zeros(0, int), np.zeros(0, int))
    assert dequantise(design, books, none).entries.shape == (0, 4)


def test_double_quantisation_costs_what_the_paper_says() -> None:
    """Bits in the streams: 4.127 a weight at blocks of 64, scales of 256 blocks; 4.5 with float32 scales."""
    weights = 64 * 256 * 4
    blocks = weights // 64
    design = CodebookDesign(scale="table8", offset=True)
    stream = chunks_of(design, np.zeros(weights, int), np.full(blocks, 64), renew=np.arange(blocks) % 256 == 0,
                       second=np.zeros((4, 2)))
    # The offset is one for the tensor.
    total = stream.mask.sum() * 4 + stream.first.sum() * design.scale_bits + stream.renew.sum() * 32 + 32
    assert round(total / weights, 3) == 4.127
    plain = stream.mask.sum() * 4 + stream.first.sum() * CodebookDesign(scale="fp32").scale_bits
    assert plain / weights == 4.5


ERRORS = {
    "a format without entries": (lambda: CodebookDesign("nf4"), "error: no table entries of this format at output: "
                                 "got 'nf4', expected an int, fixed, minifloat or posit format of 4 to 16 bits"),
    "too narrow": (lambda: CodebookDesign("int2"), "error: no table entries of this format at output: got 'int2', "
                   "expected an int, fixed, minifloat or posit format of 4 to 16 bits"),
    "too many tables": (lambda: CodebookDesign(tables=9), "error: out of range at tables: got 9, expected 1 to 8"),
    "code bits": (lambda: CodebookDesign(code_bits=5), "error: out of range at code_bits: got 5, expected 3 to 4"),
    "scale": (lambda: CodebookDesign(scale="uint4"), "error: unknown scale at scale: got 'uint4', expected none, fp32, "
              "uint8, int8, table8\nhelp: did you mean uint8, int8?"),
    "store": (lambda: CodebookDesign(store="ram"), "error: unknown store at store: got 'ram', expected lutram, "
              "registers\nhelp: did you mean lutram?"),
    "offset of nothing": (lambda: CodebookDesign(offset=True), "error: contradictory options at offset: got 'true', "
                          "expected false but with scale uint8, int8 or table8"),
    "broken word": (lambda: CodebookDesign(word_bits=96), "error: a word of broken chunks at word_bits: got 96, "
                    "expected a multiple of lanes times entry: 64"),
    "shape of values": (lambda: table_codes(CodebookDesign(), NF4), "error: not tables of this design at values: got "
                        "'(16,)', expected (tables, 16) or (tables, 8)"),
    "entries of codes": (lambda: table_codes(CodebookDesign(code_bits=3), NF4[None]), "error: not tables of this "
                         "design at values: got '(1, 16)', expected (tables, 8)"),
    "shape of entries": (lambda: dequantise(CodebookDesign(tables=2), Codebooks(np.zeros((1, 16), int)),
                                            chunks_of(CodebookDesign(tables=2), np.zeros(1, int), np.array([1]))),
                         "error: not tables of this design at entries: got '(1, 16)', expected (2, 16)"),
    "lengths": (lambda: chunks_of(CodebookDesign(), np.zeros(4, int), np.array([1, 2])), "error: lengths do not fit "
                "the codes at lengths: got 3, expected positive numbers that add up to 4"),
    "no levels": (lambda: second_level(CodebookDesign(scale="table8"), np.array([1]), np.array([1])),
                  "error: no table of scales at levels: got 'none', expected 256 float32"),
    "scale codes": (lambda: second_level(CodebookDesign(scale="uint8"), np.array([256]), np.array([1])),
                    "error: scale code out of range at codes: got '256 to 256', expected 0 to 255"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    call, message = ERRORS[name]
    with pytest.raises(BitkilnError) as caught:
        call()
    assert str(caught.value) == message
