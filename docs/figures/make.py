"""The figures of docs/concepts, drawn from the code that they explain.

``python docs/figures/make.py`` writes them anew, always the same bytes; a test compares them with those committed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from svg import BLUE, GREY, INK, LIGHT, ORANGE, Drawing

from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.design.weights import weight_type
from bitkiln.models.formats import get_format
from bitkiln.models.golden import dot
from bitkiln.models.golden.spconv import build_tree, decode_keys, encode_keys

HERE = Path(__file__).parent


def signed(text: str) -> str:
    """With a minus sign where a hyphen stands for it."""
    return text.replace("-", "\N{MINUS SIGN}")


# Formats -----------------------------------------------------------------------------------------------------------

LINE = ("ternary", "int4", "fp4", "bitmod4_ea_pos", "posit4_1", "nf4", "fp6_e3m2", "fp6_e2m3", "posit8_0")


def finite_values(name: str) -> np.ndarray:
    """All different finite values of a format, ascending."""
    fmt = get_format(name)
    values = fmt.decode(np.arange(1 << fmt.bits, dtype=np.uint8))
    return np.unique(values[np.isfinite(values)] + 0.0)


def number_lines() -> Drawing:
    row, left, width = 34, 150, 600
    drawing = Drawing(left + width + 40, row * len(LINE) + 58, "Values of nine number formats, each divided by its "
                      "largest magnitude")

    def at(value: float) -> float:
        return left + width * (value + 1) / 2

    for index, name in enumerate(LINE):
        y = 30 + row * index
        values = finite_values(name)
        drawing.text(left - 16, y + 5, name, anchor="end", mono=True)
        drawing.line(left, y, left + width, y, LIGHT, 2)
        drawing.ticks([at(value) for value in values / np.abs(values).max() if value], y - 9, y + 9, BLUE, 1.6)
        if 0 in values:
            drawing.ticks([at(0)], y - 9, y + 9, ORANGE, 1.6)
    bottom = 30 + row * len(LINE)
    for mark in (-1, -0.5, 0, 0.5, 1):
        drawing.line(at(mark), bottom - 8, at(mark), bottom - 3, GREY)
        drawing.text(at(mark), bottom + 12, signed(f"{mark:g}"), anchor="middle", color=GREY, size=12)
    drawing.text(left + width / 2, bottom + 26, "value / largest magnitude", anchor="middle", color=GREY, size=12)
    return drawing


# Exact accumulation --------------------------------------------------------------------------------------------------

WIDTHS = ("ternary", "fp4", "int4", "int8xfp4", "int8", "posit4_1", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int16",
          "posit16_1")
DEPTH = 1024


def accumulator_widths() -> list[tuple[str, int, int, int]]:
    """(PE, bits of the largest product, bits that the depth adds, all with sign) at depth 1,024."""
    rows = []
    for name in WIDTHS:
        design = DotDesign.from_pe(name, accumulator=Accumulator(depth=DEPTH))
        rows.append((name, design.product_bits, design.exact_bits - 1 - design.product_bits, design.exact_bits))
    return rows


def widths() -> Drawing:
    rows = accumulator_widths()
    row, left, scale = 26, 110, 4.6
    drawing = Drawing(int(left + scale * 130) + 40, row * len(rows) + 70, "Bits of an exact accumulator for 1,024 "
                      "products of each format: bits of the largest product, bits for their number, sign")
    bottom = 24 + row * len(rows)
    drawing.line(left + scale * 24, 10, left + scale * 24, bottom, GREY, 1, "4 3")
    for index, (name, product, depth, total) in enumerate(rows):
        y = 18 + row * index
        drawing.text(left - 10, y + 14, name, anchor="end", mono=True)
        drawing.box(left, y, scale * product, 18, BLUE)
        drawing.box(left + scale * product, y, scale * depth, 18, ORANGE)
        drawing.box(left + scale * (product + depth), y, scale, 18, INK)
        drawing.box(left + scale * total + 3, y, 9 * len(str(total)) + 2, 18, "#ffffff")
        drawing.text(left + scale * total + 6, y + 14, str(total), color=INK)
    drawing.text(left + scale * 24 + 4, bottom + 12, "24 bits: what a float32 keeps", color=GREY, size=12)
    for index, (color, words) in enumerate(((BLUE, "largest product"), (ORANGE, "1,024 of them"), (INK, "sign"))):
        drawing.box(left + 150 * index, bottom + 24, 12, 12, color)
        drawing.text(left + 150 * index + 18, bottom + 35, words, size=12)
    return drawing


ORDERS = 1000


@cache
def order_errors() -> tuple[np.ndarray, float]:
    """(float32 sum - exact sum) / exact sum of the same 1,024 posit16_1 products in 1,000 orders, and the exact sum."""
    rng = np.random.default_rng(7)
    codes = get_format("posit16_1").encode(rng.normal(size=(2, DEPTH)))
    orders = np.array([rng.permutation(DEPTH) for _ in range(ORDERS)])
    a, w = (operand[orders][:, :, np.newaxis] for operand in codes)          # (orders, cycles, one lane)
    design = DotDesign.from_pe("posit16_1", lanes=1, accumulator=Accumulator(depth=DEPTH))
    exact = dot(design, a, w)
    assert len(set(exact.acc.tolist())) == 1, "an exact sum does not depend on the order"
    rounded = dot(design.with_options(accumulator=Accumulator(kind="fp32")), a, w)
    value = float(exact.value(design)[0])
    return (rounded.acc.astype(np.uint32).view(np.float32).astype(float) - value) / value, value


def orders() -> Drawing:
    errors, _ = order_errors()
    limit = float(np.abs(errors).max())
    step = limit / 12.5
    counts = np.bincount(np.rint(errors / step).astype(int) + 13, minlength=27)
    left, width, height, top = 40, 640, 150, 36
    floor, middle, bar = top + height, left + width / 2, width / len(counts)
    drawing = Drawing(left + width + 40, floor + 60, f"Relative errors of {ORDERS:,} float32 sums of the same products "
                      "in different orders; the exact sum has no error")
    for index, count in enumerate(counts):
        tall = height * count / counts.max()
        drawing.box(left + bar * index + 1, floor - tall, bar - 2, tall, BLUE)
    drawing.line(left, floor, left + width, floor, GREY)
    drawing.line(middle, 12, middle, floor, ORANGE, 2)
    drawing.text(middle + 8, 20, f"exact accumulator: all {ORDERS:,} sums", color=ORANGE, size=12)
    for place in (-1, 0, 1):
        words = signed(f"{place * limit:.1e}") if place else "0"
        drawing.text(middle + place * 12.5 * bar, floor + 18, words, anchor="middle", color=GREY, size=12)
    drawing.text(middle, floor + 40, f"relative error of a float32 accumulator, {ORDERS:,} orders of the same "
                 f"{DEPTH:,} products (posit16_1)", anchor="middle", color=GREY, size=12)
    return drawing


# Bit-serial terms ----------------------------------------------------------------------------------------------------


INT8 = (7, 100, 119, -77)


def term_rows() -> list[tuple[str, str, float, tuple, float]]:
    """(type, code, value, terms, unit): positive bitmod4 codes, the special one standing for 5 and 8; some of int8."""
    rows = []
    kind = weight_type("bitmod4")
    unit = kind.real(1)
    for code in range(8):
        rows.append(("bitmod4", f"{code:04b}", kind.real(kind.values[code] or 0), kind.code_terms(code), unit))
    for special in kind.specials:
        if special > 0:
            found = kind.code_terms(kind.special_code, special)
            rows.append(("special", f"{kind.special_code:04b}", kind.real(special), found, unit))
    kind = weight_type("int8")
    for value in INT8:
        rows.append(("int8", f"{value & 255:08b}", value, kind.code_terms(value & 255), kind.real(1)))
    return rows


def terms() -> Drawing:
    rows = term_rows()
    powers = [2.0**shift for shift in range(7, -2, -1)]
    row, left, cell = 26, 200, 46
    drawing = Drawing(left + cell * len(powers) + 90, 44 + row * len(rows) + 30, "Values of BitMoD's 4-bit type as one "
                      "or two powers of two, and integers of 8 bits as up to four signed ones")
    drawing.text(84, 28, "code", color=GREY, size=12)
    drawing.text(left - 14, 28, "value", anchor="end", color=GREY, size=12)
    for index, power in enumerate(powers):
        drawing.text(left + cell * (index + 0.5), 28, f"{power:g}", anchor="middle", color=GREY, size=12)
    y, last = 12, ""
    for name, code, value, found, unit in rows:
        y += row + (12 if last in ("special", "bitmod4") and name == "int8" else 0)
        color = ORANGE if name == "special" else INK
        if name != last:
            drawing.text(12, y + 17, name, color=color, size=12)
        last = name
        drawing.text(84, y + 17, code, mono=True, color=color, size=12)
        drawing.text(left - 14, y + 17, signed(f"{value:g}"), anchor="end", mono=True, color=color, size=12)
        given = {unit * 2.0**term.shift: term for term in found if term is not None}
        for column, power in enumerate(powers):
            term = given.get(power)
            fill = "none" if term is None else ORANGE if term.negative else BLUE
            drawing.box(left + cell * column + 2, y + 2, cell - 4, row - 5, fill, LIGHT, 4)
            if term is not None:
                drawing.text(left + cell * (column + 0.5), y + 17, "\N{MINUS SIGN}" if term.negative else "+",
                             anchor="middle", color="#ffffff")
        drawing.text(left + cell * len(powers) + 12, y + 17, f"{len(given)} term{'s' * (len(given) != 1)}", color=GREY,
                     size=12)
    return drawing


# Octree search -------------------------------------------------------------------------------------------------------

GRID = 3                      # levels: 8 x 8 places
CELLS = ((1, 2), (1, 3), (1, 4), (2, 1), (2, 5), (3, 0), (3, 6), (4, 0), (4, 6), (5, 1), (5, 5), (6, 2), (6, 3))


def drawn_tree():
    """Keys, places and tree of a few voxels of the plane x = 0: what is left of an octree is a quadtree."""
    indices = np.array([(0, 0, y, z) for y, z in CELLS], np.int32)
    keys = np.sort(encode_keys(indices, GRID))
    return keys, decode_keys(keys, GRID)[:, 2:], build_tree(keys, GRID)


def tree() -> Drawing:
    keys, places, built = drawn_tree()
    size, left, top = 34, 24, 40
    drawing = Drawing(900, top + size * 8 + 44, "Thirteen voxels in Morton order, and the words of their tree: mask of "
                      "the children and rank of the first")
    for index in range(9):
        heavy = 2.2 if index % 4 == 0 else 1.4 if index % 2 == 0 else 0.6
        drawing.line(left + size * index, top, left + size * index, top + size * 8, GREY, heavy)
        drawing.line(left, top + size * index, left + size * 8, top + size * index, GREY, heavy)
    middles = [(left + size * (z + 0.5), top + size * (y + 0.5)) for y, z in places.tolist()]
    for x, y in middles:
        drawing.box(x - size / 2 + 2, y - size / 2 + 2, size - 4, size - 4, LIGHT)
    drawing.path(middles, BLUE, 1.6)
    for rank, (x, y) in enumerate(middles):
        drawing.dot(x, y, 9, BLUE)
        drawing.text(x, y + 4, str(rank), anchor="middle", color="#ffffff", size=11)
    drawing.text(left, top - 14, "voxels, numbered by ascending key", size=12, color=GREY)

    right = left + size * 8 + 50
    for depth, level in enumerate(range(GRID, 0, -1)):
        y = top + 8 + 74 * depth
        name = "root" if level == GRID else f"level {level}"
        drawing.text(right, y + 8, name, size=12, color=GREY)
        words = zip(built.masks[level].tolist(), built.bases[level].tolist(), strict=True)
        for index, (mask, base) in enumerate(words):
            x = right + 58 + 54 * index
            drawing.box(x, y - 10, 50, 44, "#eef3fb", INK, 4)
            drawing.text(x + 25, y + 7, f"{mask & 15:04b}", anchor="middle", mono=True, size=12)
            drawing.text(x + 25, y + 26, f"first {base}", anchor="middle", size=11, color=GREY)
    y = top + 8 + 74 * GRID
    drawing.text(right, y + 8, "keys", size=12, color=GREY)
    names = [f"{int(key):03o}" for key in keys]
    half = (len(names) + 1) // 2
    for index, part in enumerate((names[:half], names[half:])):
        drawing.text(right + 58, y + 8 + 18 * index, "  ".join(part), mono=True, size=12)
    drawing.text(right, top + size * 8 + 24, "in octal, a digit for each level; mask bits of the plane x = 0, child 3 "
                 "on the left", size=12, color=GREY)
    return drawing


FIGURES: dict[str, Callable[[], Drawing]] = {
    "number_lines.svg": number_lines, "accumulator_widths.svg": widths, "float32_orders.svg": orders,
    "bitmod_terms.svg": terms, "morton_tree.svg": tree}


def main() -> None:
    for name, draw in FIGURES.items():
        (HERE / name).write_text(draw().svg(), encoding="utf-8")
        print(HERE / name)


if __name__ == "__main__":
    main()
