"""BitMoD (arXiv 2411.11745, HPCA 2025): FP3 and FP4 whose minus zero is a special value, chosen by each group."""

from __future__ import annotations

import numpy as np

from ..formats.checks import check_integer
from .grids import SPECIAL_TYPES, element, levels
from .grouped import Grouped, check_bits
from .groups import GroupQuantized
from .scales import check_scale_format, store
from .search import Measure, Search, grid_error
from .symmetric import assemble, grid_codes

__all__ = ["bitmod", "bitmod_compat"]

WIDTHS = (3, 4)
CLAMP = (1e-5, 1e4)     # released code: limits of the fp16 scale
START = 1e3             # released code: the error that the first candidate has to beat
HALF_STEPS = {3: 1, 4: 2}  # the released grid of FP4 is in half steps


def bitmod(tensor: np.ndarray, bits: int, group: int | None = 128, *, scale_bits: int | None = 8,
           calibration: np.ndarray | None = None, name: str = "tensor") -> GroupQuantized:
    """Algorithm 1 of the paper: for each special value scale, round and measure; keep the one of least error.

    For each of the four special values (extra resolution +-3 or +-5, extra range +-6 or +-8): ``scale = max|w| /
    max|grid|``, nearest value, float64 squared error; the first of equals wins. Then the scales of an output channel
    are stored as integers times one float32 (``code = RNE(scale / (largest / 255))``), and codes are chosen anew as
    the nearest under the stored scale; the special value stays.

    Parameters
    ----------
    bits : int
        3 or 4.
    scale_bits : int or None
        2 to 8; None stores an fp16 scale for each group.
    calibration : ndarray (rows, K), optional
        Activations: the error is then of the layer's outputs, group by group.
    tensor, group, name
        As for ``rtn_sym``.

    Returns
    -------
    GroupQuantized
        Type ``bitmod3`` or ``bitmod4``; ``special_index`` 0..3 is the order above, plus before minus. A group of zeros
        has scale code 0, codes 0 and index 0.
    """
    bits = check_bits(bits, WIDTHS, "bitmod")
    if scale_bits is not None:
        check_integer(scale_bits, "scale_bits", 2, 8, help="none stores fp16 scales")
    grouped = Grouped(tensor, group, name)
    kind, measure, search = f"bitmod{bits}", Measure(grouped, calibration), Search()
    for special in range(len(SPECIAL_TYPES[kind])):
        scale = grouped.amax / np.abs(levels(kind, special)).max()
        search.offer(grid_error(measure, element(kind, special), scale), scale=scale, special=special)
    chosen = search.best["special"].astype(np.uint8)
    stored = store(check_scale_format(None, "fp16" if scale_bits is None else f"uint{scale_bits}"),
                   grouped.real(search.best["scale"]))
    codes = grid_codes(grouped, (kind,), stored.values(), special_index=chosen)
    return assemble("bitmod", grouped, (kind,), stored, codes, special_index=chosen)


def bitmod_compat(tensor: np.ndarray, bits: int, group: int | None = 128, *, name: str = "tensor") -> GroupQuantized:
    """What the authors' released program computes, quirks included (BitMoD-HPCA-25, behaviour as documented here).

    Weights, scales, quotients, products and squared errors are fp16; the scale is clamped to 1e-5 .. 1e4 (on the
    doubled FP4 grid); a value midway goes to the lower neighbour; a candidate must have a mean squared error below
    1e3 and below all before, else the group is all zeros. ``dequantise`` gives exact products; rounded to fp16 they
    are the released program's weights. Weights beyond fp16 saturate here, where the original would give Inf or NaN.

    Parameters
    ----------
    As for ``bitmod``; scales are fp16.
    """
    bits = check_bits(bits, WIDTHS, "bitmod_compat")
    grouped = Grouped(tensor, group, name)
    limit = float(np.finfo(np.float16).max)
    half = np.clip(grouped.rows, -limit, limit).astype(np.float16)
    kind = f"bitmod{bits}"
    amax = grouped.reduce(np.maximum, np.abs(half))
    least = np.full(grouped.count, START, np.float16)
    scales = np.full(grouped.count, CLAMP[0]).astype(np.float16)
    specials = np.zeros(grouped.count, np.uint8)
    codes = np.zeros(half.shape, np.uint8)
    for special in range(len(SPECIAL_TYPES[kind])):
        grid = levels(kind, special) * HALF_STEPS[bits]
        order = np.argsort(grid, kind="stable")
        with np.errstate(over="ignore", under="ignore"):
            scale = (amax / np.float16(np.abs(grid).max())).astype(np.float16)
            scale = np.clip(scale, np.float16(CLAMP[0]), np.float16(CLAMP[1]))
            for rows in grouped.slabs():
                wide = grouped.expand(scale[rows])
                # side="left": a midpoint belongs to the lower of its neighbours.
                place = np.searchsorted((grid[order][1:] + grid[order][:-1]) / 2, half[rows] / wide, side="left")
                value = grid[order][place].astype(np.float16) * wide
                square = (value - half[rows]) ** np.float16(2)
                mean = grouped.reduce(np.add, square.astype(np.float32)) / grouped.sizes.astype(np.float32)
                better = mean.astype(np.float16) < least[rows]
                least[rows] = np.where(better, mean.astype(np.float16), least[rows])
                scales[rows] = np.where(better, scale[rows], scales[rows])
                specials[rows] = np.where(better, special, specials[rows])
                codes[rows] = np.where(grouped.expand(better), order[place], codes[rows])
    # Half steps back to steps: twice the scale, exact in fp16 up to 2e4.
    stored = store("fp16", scales.astype(np.float64) * HALF_STEPS[bits])
    return assemble("bitmod_compat", grouped, (kind,), stored, codes, special_index=specials)
