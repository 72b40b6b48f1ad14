"""The quantisers once more, straight from their definitions: exact fractions, one weight at a time.

Grids are written out here, in the order of their codes. Every function takes a matrix (list of rows of floats) and
returns the matrix of exact weights (fractions) that the stored codes and scales stand for.
"""

from fractions import Fraction
from math import floor

import numpy as np

FP3 = (0, 1, 2, 4)
FP4 = (0, Fraction(1, 2), 1, Fraction(3, 2), 2, 3, 4, 6)
FP6_E2M3 = tuple(Fraction(m if e == 0 else (8 + m) << (e - 1), 8) for e in range(4) for m in range(8))
FP6_E3M2 = tuple(Fraction(m if e == 0 else (4 + m) << (e - 1), 16) for e in range(8) for m in range(4))
E2M2 = tuple(Fraction(m if e == 0 else (4 + m) << (e - 1), 4) for e in range(4) for m in range(4))
E3M0 = (0, *(Fraction(2) ** (e - 3) for e in range(1, 8)))
FLINT4 = (0, 1, 2, 3, 16, 8, 4, 6)
NF4 = [Fraction(float(np.float32(v))) for v in (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)]
NF3 = [Fraction(float(np.float32(v))) for v in (
    -1.0, -0.5350227355957031, -0.2469314038753510, 0.0, 0.1833375245332718, 0.3819939494132996, 0.6229856610298157,
    1.0)]


def signed(magnitudes, special=None):
    """Values of sign-magnitude codes; ``special`` stands where minus zero would."""
    negative = [-v for v in magnitudes]
    if special is not None:
        negative[0] = special
    return [Fraction(v) for v in (*magnitudes, *negative)]


def integers(bits):
    """Values of two's complement codes."""
    return [Fraction(c - (1 << bits) if c >> (bits - 1) else c) for c in range(1 << bits)]


GRIDS = {"fp3": signed(FP3), "fp4": signed(FP4), "e2m2": signed(E2M2), "fp6_e2m3": signed(FP6_E2M3),
         "fp6_e3m2": signed(FP6_E3M2), "e3m0": signed(E3M0), "flint4": signed(FLINT4), "nf4": NF4, "nf3": NF3,
         **{f"int{bits}": integers(bits) for bits in range(2, 9)}}
BITMOD = {3: [signed(FP3, special) for special in (3, -3, 6, -6)],
          4: [signed(FP4, special) for special in (5, -5, 8, -8)]}


def nearest_code(grid, value):
    """Code of the nearest value; midway the even code, between codes of equal parity the smaller magnitude."""
    distance = min(abs(v - value) for v in grid)
    equal = {}
    for code, v in enumerate(grid):
        if abs(v - value) == distance:
            equal.setdefault(v, code)   # the lowest code of equal values (no minus zero)
    even = [code for code in equal.values() if code % 2 == 0]
    choices = even if len(even) == 1 else list(equal.values())
    return min(choices, key=lambda code: abs(grid[code]))


def nearest(grid, value, scale):
    """Nearest ``grid value * scale``; with a scale of zero, zero."""
    return grid[nearest_code(grid, Fraction(value) / scale)] * scale if scale else Fraction(0)


def half_even(x):
    """Nearest integer of a fraction."""
    low = floor(x)
    rest = x - low
    return low if rest < Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 0) else low + 1


def spans(columns, group):
    """(start, stop) of each group."""
    group = group or columns
    return [(start, min(start + group, columns)) for start in range(0, columns, group)]


def split(matrix, group):
    """matrix[row][group] -> list of weights."""
    return [[row[a:b] for a, b in spans(len(row), group)] for row in matrix]


def join(groups):
    return [[w for group in row for w in group] for row in groups]


# Scales ------------------------------------------------------------------------------------------------

def store_uint(rows, bits=8):
    """Codes and exact effective scales of float scales, a row a channel; ``rows`` may hold several arrays' scales."""
    codes, exact = [], []
    for row in rows:
        step = max(row) / (2 ** bits - 1)
        channel = Fraction(float(np.float32(step)))
        codes.append([round(s / step) if step and channel else 0 for s in row])
        exact.append([code * channel for code in codes[-1]])
    return codes, exact


def store_float(rows, kind):
    """Exact scales rounded to a NumPy float type."""
    return [[Fraction(float(kind(s))) for s in row] for row in rows]


def error(weights, found):
    """Exact squared error."""
    return sum((Fraction(w) - f) ** 2 for w, f in zip(weights, found, strict=True))


def first_least(errors):
    """Index of the least error; errors within 2**-40 of each other are equal, and the first of them counts."""
    best = 0
    for index, value in enumerate(errors):
        if value < errors[best] * (1 - Fraction(1, 2 ** 40)):
            best = index
    return best


# Methods -----------------------------------------------------------------------------------------------

def on_grid(matrix, group, grid, scales=None):
    """Absmax scales stored as uint8, nearest values."""
    top = float(max(grid))
    groups = split(matrix, group)
    if scales is None:
        scales = store_uint([[max(map(abs, g)) / top for g in row] for row in groups])[1]
    return join([[[nearest(grid, w, s) for w in g] for g, s in zip(row, line, strict=True)]
                 for row, line in zip(groups, scales, strict=True)])


def asymmetric_group(weights, scale, low, bits):
    """Weights of one group with an exact scale; the zero-point from the low end of the range."""
    top = 2 ** bits - 1
    if not scale:
        return [Fraction(0)] * len(weights)
    zero = min(max(half_even(Fraction(-low) / scale), 0), top)
    return [(min(max(half_even(Fraction(w) / scale) + zero, 0), top) - zero) * scale for w in weights]


def asymmetric(matrix, group, bits, ranges=None):
    """Integers with a zero-point; ``ranges[row][group]`` is (low, high), by default the data's with zero."""
    groups = split(matrix, group)
    ranges = ranges or [[(min(*g, 0.0), max(*g, 0.0)) for g in row] for row in groups]
    scales = store_uint([[(high - low) / (2 ** bits - 1) for low, high in row] for row in ranges])[1]
    return join([[asymmetric_group(g, s, low, bits) for g, s, (low, _) in zip(row, line, span, strict=True)]
                 for row, line, span in zip(groups, scales, ranges, strict=True)])


def bitmod(matrix, group, bits, scale_bits=8):
    """Weights, special values (row by row) and scale codes."""
    groups, chosen, ideal = split(matrix, group), [], []
    for row in groups:
        chosen.append([]), ideal.append([])
        for g in row:
            amax = max(map(abs, g))
            scales = [amax / float(max(map(abs, grid))) for grid in BITMOD[bits]]
            errors = [error(g, [nearest(grid, w, Fraction(s)) for w in g])
                      for grid, s in zip(BITMOD[bits], scales, strict=True)]
            best = first_least(errors)
            chosen[-1].append(best), ideal[-1].append(scales[best])
    codes, exact = store_uint(ideal, scale_bits)
    weights = join([[[nearest(BITMOD[bits][c], w, s) for w in g] for g, c, s in zip(row, line, scale, strict=True)]
                    for row, line, scale in zip(groups, chosen, exact, strict=True)])
    return weights, chosen, codes


def bitmod_released(weights, bits):
    """One group as the released program computes it, in scalars of float16: its weights, or all zero."""
    half = np.float16
    w = [half(v) for v in weights]
    least, best = half(1e3), [half(0)] * len(w)
    step = 1 if bits == 3 else 2
    for values in BITMOD[bits]:
        grid = sorted({float(v * step) for v in values})
        scale = half(max(abs(v) for v in w)) / half(max(map(abs, grid)))
        scale = min(max(scale, half(1e-5)), half(1e4))
        found, total = [], np.float32(0)
        for value in w:
            x = value / scale
            place = sum(float(x) > (a + b) / 2 for a, b in zip(grid, grid[1:], strict=False))
            found.append(half(grid[place]) * scale)
            with np.errstate(over="ignore"):
                total += np.float32((found[-1] - value) ** half(2))
        mean = half(total / np.float32(len(w)))
        if mean < least:
            least, best = mean, found
    return best


def two_sided(matrix, group, grid, ranges=None):
    """A scale for each sign, both stored as uint8 of one channel scale."""
    groups, top = split(matrix, group), float(max(grid))
    bottom = -float(min(grid))
    ranges = ranges or [[(min(*g, 0.0), max(*g, 0.0)) for g in row] for row in groups]
    both = [[high / top for _, high in row] + [-low / bottom for low, _ in row] for row in ranges]
    exact = store_uint(both)[1]
    return join([[[nearest(grid, w, line[len(row) + i] if w < 0 else line[i]) for w in g] for i, g in enumerate(row)]
                 for row, line in zip(groups, exact, strict=True)])


def clipped_ranges(matrix, group, measure):
    """Best (low, high) of each group among 10 x 10 clippings; ``measure(weights, low, high)`` is an exact error."""
    found = []
    for row in split(matrix, group):
        found.append([])
        for g in row:
            low, high = min(*g, 0.0), max(*g, 0.0)
            tried = [(low * (1 - j / 20), high * (1 - i / 20)) for i in range(10) for j in range(10)]
            found[-1].append(tried[first_least([measure(g, *pair) for pair in tried])])
    return found
