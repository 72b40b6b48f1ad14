"""Test vectors of a dot unit from its golden model."""

from __future__ import annotations

import numpy as np

from ..models.design import DotDesign
from ..models.formats import Format
from ..models.golden.dot import trace
from .vectors import Vectors

__all__ = ["dot_vectors", "operands"]


def _corners(fmt: Format) -> np.ndarray:
    """Codes of the extremes, the smallest magnitudes, zero and every special kind."""
    codes = np.arange(1 << fmt.bits)
    values, special = fmt.decode(codes), fmt.unpack(codes).special
    finite = codes[special == 0]
    order = finite[np.argsort(values[finite], kind="stable")]
    small = finite[np.argsort(np.abs(values[finite]), kind="stable")][:3]
    odd = [codes[special == kind][0] for kind in np.unique(special) if kind]
    return np.unique(np.concatenate([order[:2], order[-2:], small, np.array(odd, codes.dtype)]))


def operands(fmt: Format, shape: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """A third corner cases, the rest any code; specials are rare, since they stick until a clear."""
    codes = random.integers(0, 1 << fmt.bits, shape)
    corners = _corners(fmt)
    codes = np.where(random.random(shape) < 1 / 3, random.choice(corners, shape), codes)
    usual = np.flatnonzero(fmt.unpack(np.arange(1 << fmt.bits)).special == 0)
    rare = (fmt.unpack(codes).special != 0) & (random.random(shape) < 0.95)
    return np.where(rare, random.choice(usual, shape), codes)


def dot_vectors(design: DotDesign, cycles: int, seed: int) -> Vectors:
    """Random operands, enables and clears with corner cases; ``clear`` is held first, as a reset.

    Parameters
    ----------
    design : DotDesign
    cycles : int
        Clock cycles.
    seed : int
    """
    random = np.random.default_rng(seed)
    shape = (cycles, design.lanes)
    a, w = operands(design.activation, shape, random), operands(design.weight, shape, random)
    en = random.random(cycles) < 0.85
    clear = random.random(cycles) < 1 / 48
    clear[: design.latency] = True
    result = trace(design, a, w, en, clear)

    def packed(codes: np.ndarray, bits: int) -> list[int]:
        return [sum(int(code) << (lane * bits) for lane, code in enumerate(row)) for row in codes]

    outputs = {"acc": [int(value) for value in result.acc]}
    for flag, present in (("nan", design.has_nan), ("inf_pos", design.has_inf), ("inf_neg", design.has_inf),
                          ("illegal", design.has_illegal), ("overflow", design.has_overflow)):
        if present:
            outputs[flag] = [int(value) for value in getattr(result, flag)]
    if result.o is not None:
        outputs["o"] = [int(code) for code in result.o]
    inputs = {"a": packed(a, design.activation.bits), "w": packed(w, design.weight.bits),
              "en": [int(value) for value in en], "clear": [int(value) for value in clear]}
    return Vectors(inputs, outputs)
