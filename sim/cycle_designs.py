"""Random small builds of every engine but the matmul core (`core_designs`), for checks that need many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.bitserial import ACTIVATIONS, SCALES, BitSerialDesign
from bitkiln.models.design.codebook import CodebookDesign
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import BitkilnError

from .core_designs import random_design as random_core

__all__ = ["DRAWS", "draw"]

T = TypeVar("T")
SIDES = (1, 2, 3, 4)
DOTS = ("fp4", "int4", "int8", "ternary", "int8xfp4", "fp8_e4m3", "fp8_e4m3xint4", "posit8_0", "int8xternary", "bf16")
# Every one of them has 1 and 2.
MODES = ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "int8", "int8xfp4", "int16xint8", "posit16_1")
FLOAT_MODES = ("fp4", "int8", "bf16", "fp16", "bf16xint4")
WEIGHTS = ("bitmod4", "bitmod3", "fp4", "fp3", "int8", "int6", "int5", "int4", "int3", "int2", "ternary", "binary",
           "fp6_e2m3", "fp6_e3m2", "flint4")
OUTPUTS = ("fp32", "fp32", "fp16", "int8", "fp8_e4m3")
CODEBOOK_SCALES = ("none", "fp32", "uint8", "int8", "table8")
LARGEST_CORE = 8    # PEs


def one(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def some(rng: np.random.Generator, choices: Sequence[T], most: int) -> tuple[T, ...]:
    count = int(rng.integers(1, most + 1))
    return tuple(choices[int(at)] for at in rng.permutation(len(choices))[:count])


def _dot(rng: np.random.Generator) -> DotDesign:
    return DotDesign.from_pe(one(rng, DOTS), lanes=one(rng, (1, 2, 3, 4, 8)), pipeline=int(rng.integers(7)))


def _pe(rng: np.random.Generator) -> MorphableDesign:
    kind = one(rng, ("exact", "exact", "fp32", "int32"))
    modes = {"exact": MODES, "fp32": FLOAT_MODES, "int32": ("int4", "int8", "int8xint4")}[kind]
    return MorphableDesign(some(rng, modes, 3), Accumulator(kind, one(rng, (64, 256, 1024))),
                           pipeline=int(rng.integers(5)))


def _array(rng: np.random.Generator) -> ArrayDesign:
    return ArrayDesign(one(rng, SIDES), one(rng, SIDES), _pe(rng), one(rng, ("output", "weight")),
                       one(rng, ("broadcast", "systolic")))


def _core(rng: np.random.Generator) -> MatmulDesign:
    while True:
        design = random_core(rng)
        if design.rows * design.columns <= LARGEST_CORE and len(design.pe.modes) <= 2 and design.bus_bits <= 256:
            return design.with_options(counters=True)


def _memory_core(rng: np.random.Generator) -> MatmulDesign:
    while True:
        design = random_core(rng, descriptors=True)
        if design.rows * design.columns <= LARGEST_CORE and len(design.pe.modes) <= 2 and design.bus_bits <= 128:
            return design.with_options(counters=True)


def _bitserial(rng: np.random.Generator, **fixed) -> BitSerialDesign:
    activation = one(rng, ACTIVATIONS)
    options = {"activation": activation, "lanes": one(rng, (1, 2, 4, 8)), "rows": one(rng, SIDES),
               "columns": one(rng, SIDES), "accumulate": one(rng, (None, None, "exact", "aligned", "floating")),
               "scale": one(rng, SCALES), "group": one(rng, (8, 16, 32, 64)), "groups": one(rng, (1, 4, 16)),
               "zero_point": one(rng, (0, 0, 4)), "dual_scale": bool(rng.random() < 0.3),
               "zero_skip": bool(rng.random() < 0.4), "pipeline": int(rng.integers(3)),
               "output": one(rng, ("fp32", "fp32", "raw"))}
    return BitSerialDesign(some(rng, WEIGHTS, 3), **(options | fixed))


def _dequant(rng: np.random.Generator) -> DequantDesign:
    return DequantDesign(_bitserial(rng, output="fp32"), bus_bytes=one(rng, (None, 4, 8, 16)),
                         k_chunks=one(rng, (16, 64)), output=one(rng, OUTPUTS))


def _codebook(rng: np.random.Generator) -> CodebookDesign:
    lanes, output = one(rng, (1, 2, 4, 8)), one(rng, ("fp16", "int8", "fp8_e4m3", "fp4"))
    chunk = lanes * {"fp16": 16, "int8": 8, "fp8_e4m3": 8, "fp4": 4}[output]
    scale = one(rng, CODEBOOK_SCALES)
    return CodebookDesign(output, lanes, one(rng, (3, 4)), one(rng, (1, 2, 5)), scale,
                          scale in CODEBOOK_SCALES[2:] and bool(rng.random() < 0.5), chunk * one(rng, (1, 1, 2, 4)),
                          one(rng, ("lutram", "registers")))


def _codebook_array(rng: np.random.Generator) -> CodebookArrayDesign:
    activation, weight = one(rng, (("fp8_e4m3", "fp8_e4m3"), ("int8", "int8"), ("int8", "fp4"), ("fp16", "fp16"),
                                   ("bf16", "fp8_e4m3")))
    scale = one(rng, CODEBOOK_SCALES)
    return CodebookArrayDesign(activation, weight, one(rng, SIDES), one(rng, SIDES), one(rng, (3, 4)),
                               one(rng, (1, 2)), scale, scale in CODEBOOK_SCALES[2:] and bool(rng.random() < 0.5),
                               block=one(rng, (16, 64)), links=one(rng, ("broadcast", "systolic")),
                               pipeline=int(rng.integers(4)), store=one(rng, ("lutram", "registers")))


def _sparse(rng: np.random.Generator) -> SparseDesign:
    lanes = one(rng, (1, 2, 4, 8))
    return SparseDesign(one(rng, ("fp16", "fp8_e4m3", "int8")), one(rng, ("fp16", "int16", "int8")), 0, lanes,
                        one(rng, SIDES), one(rng, SIDES), lanes * one(rng, (2, 4, 8, 16)), one(rng, (64, 1024)),
                        one(rng, (2, 4, 16)))


def _maps(rng: np.random.Generator) -> MapDesign:
    return MapDesign(one(rng, (2, 3, 4, 5)), int(rng.integers(3)), one(rng, (64, 256, 512)), None,
                     one(rng, ("parity", "compact")), one(rng, (2, 4, 16)), one(rng, (2, 8, 32)))


DRAWS: dict[str, Callable] = {
    "dot_unit": _dot, "morphable_pe": _pe, "matmul_array": _array, "matmul_core": _core,
    "matmul_core_dma": _memory_core, "bitserial_array": _bitserial, "dequant_core": _dequant,
    "codebook_dequantiser": _codebook, "codebook_array": _codebook_array, "sparse_side": _sparse, "map_search": _maps}


def draw(engine: str, rng: np.random.Generator):
    """A legal small build of an engine of `DRAWS`; combinations that the engine refuses are drawn again."""
    while True:
        try:
            return DRAWS[engine](rng)
        except BitkilnError:
            continue
