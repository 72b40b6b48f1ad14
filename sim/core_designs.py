"""Random builds of the matmul core, for tests that meet options in combinations nobody thought of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from bitkiln.models.design import Accumulator, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.matmul import RULES
from bitkiln.models.design.morphable import PACKED_MODES
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_group_format, group_format_names

__all__ = ["random_design"]

MODES = {
    "exact": ("fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "fixed8_6", "int8xfp4",
              "int8xint4", "fp8_e4m3xint4", "posit16_1", "int16", "int16xint4", "int16xint8"),
    "fp32": ("fp4", "int8", "fp8_e5m2", "posit8_0", "bf16", "fp16", "bf16xint4", "int8xint4"),
    "int32": ("int4", "int8", "int8xint4", "int16", "int16xint8"),
}
MAX_PES = 16
T = TypeVar("T")


def random_design(rng: np.random.Generator, *, descriptors: bool = False) -> MatmulDesign:
    """A legal build of at most `MAX_PES` PEs, every option drawn."""
    while True:
        try:
            return _draw(rng, descriptors)
        except BitkilnError:
            continue


def _one(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _some(rng: np.random.Generator, choices: Sequence[T], most: int) -> tuple[T, ...]:
    count = int(rng.integers(1, min(most, len(choices)) + 1))
    return tuple(choices[int(at)] for at in rng.permutation(len(choices))[:count])


def _draw(rng: np.random.Generator, descriptors: bool) -> MatmulDesign:
    kind = _one(rng, ("exact", "exact", "exact", "fp32", "int32"))
    overflow = _one(rng, ("wrap", "saturate")) if kind == "int32" else "wrap"
    accumulator = Accumulator(kind, _one(rng, (7, 64, 100, 256, 1024, 5000)), overflow=overflow)
    implementation = _one(rng, (None, "merged", "parallel", "packed"))
    modes = [mode for mode in MODES[kind] if implementation != "packed" or mode in PACKED_MODES]
    pe = MorphableDesign(_some(rng, modes, 4), accumulator, pipeline=int(rng.integers(5)),
                         implementation=implementation,
                         multiplier=_one(rng, ("chains", "chains", "operator")))
    rows = _one(rng, (1, 2, 3, 4, 5, 9))
    columns = _one(rng, [size for size in (1, 2, 3, 4, 6, 8, 12) if rows * size <= MAX_PES])
    array = ArrayDesign(rows, columns, pe, links=_one(rng, ("broadcast", "systolic")))
    elements = {mode.activation.name for mode in pe.modes if mode.activation.name == mode.weight.name}
    groups = [name for name in group_format_names() if get_group_format(name).element.name in elements]
    outputs = tuple(dict.fromkeys((*(mode.activation.name for mode in pe.modes), "int8", "fp32", "fp4", "posit16_1")))
    return MatmulDesign(
        array, bus_bits=_one(rng, (32, 64, 128, 256, 512)), k_words=_one(rng, (16, 32, 64, 512)),
        output_lanes=_one(rng, (None, *(lanes for lanes in (1, 2, 4, 8) if columns % lanes == 0))),
        queue=int(rng.integers(1, 5)), rules=_one(rng, (None, _some(rng, RULES, 3))),
        outputs=_one(rng, (None, _some(rng, outputs, 3))), bias=bool(rng.random() < 0.7),
        accumulate=bool(rng.random() < 0.7), block=_some(rng, groups, 2) if groups and rng.random() < 0.6 else (),
        descriptors=descriptors, address_bits=_one(rng, (24, 32, 40, 64)) if descriptors else 32,
        counters=bool(rng.random() < 0.8))
