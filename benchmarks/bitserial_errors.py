"""What ``aligned`` and ``floating`` sums lose by group, beside an FP16 MAC chain: error / sum |activation * weight|.

Sums of groups, before scale and final rounding. ``exact`` has no error by construction; that it is the exact rational
sum is checked here against Python integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.golden.bitserial import GroupStream, bitserial
from bitkiln.models.quantize.methods import quantize
from bitkiln.models.workloads.bitserial import EngineMatrix
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=bitserial ONLY=bitserial_errors"
SEED, SIDE, GROUPS, GROUP = 5, 16, 40, 128
DATA = {"N(0, 1)": lambda rng, shape: rng.standard_normal(shape),
        "Student t, 3 degrees": lambda rng, shape: rng.standard_t(3, shape)}
# A model of the published PE, FP4 weights, groups of 128 (reference, section 1.6); the lower of its heavy-tailed means.
PAPER = {"N(0, 1)": (2e-4, "FP16 chain there: 1.5e-4"),
         "Student t, 3 degrees": (4e-4, "4e-4 to 5e-4 with heavy tails; FP16 chain there: 3.2e-4")}


@dataclass(frozen=True)
class Samples:
    """Groups of activations and BitMoD FP4 weights, as the engine takes them."""

    stream: GroupStream
    activations: np.ndarray    # float64 (rows, groups * 128), the codes' values
    weights: np.ndarray        # float64, likewise, without scales
    types: tuple[str, ...] = ("bitmod4",)

    @classmethod
    def of(cls, kind: str) -> Samples:
        rng = np.random.default_rng(SEED)
        shape = (SIDE, GROUPS * GROUP)
        design = BitSerialDesign(cls.types, group=GROUP, groups=GROUPS)
        matrix = EngineMatrix(design, quantize("bitmod", rng.standard_normal(shape), 4, GROUP))
        codes = design.activation.encode(DATA[kind](rng, shape)).astype(np.int64)
        every = np.arange(SIDE)
        stream = matrix.tile(codes, every, every)
        each = GroupStream(**{**vars(stream), "emit": np.ones(GROUPS, bool)})
        return cls(each, design.activation.decode(codes), np.ldexp(matrix.units, design.weight_exponent))

    def sums(self, **options) -> np.ndarray:
        """float64 (groups, rows, columns): group sums of the golden model; all fit float64."""
        design = BitSerialDesign(self.types, rows=SIDE, columns=SIDE, scale="none", group=GROUP, groups=1,
                                 specials=False, output="raw", **options)
        found = bitserial(design, self.stream)
        return np.ldexp(found.value.astype(np.float64), design.result_exponent + found.exponent)

    def fp16_chain(self) -> np.ndarray:
        """The same by a fused FP16 multiply-add after the other, in the order of the elements."""
        found = np.zeros((GROUPS, SIDE, SIDE), np.float16)
        a, w = (values.reshape(SIDE, GROUPS, GROUP) for values in (self.activations, self.weights))
        for k in range(GROUP):
            # Exact in float64: 11 + 5 bits of a product, and an accumulator within 40 binades of it.
            product = np.einsum("rg,cg->grc", a[:, :, k], w[:, :, k])
            found = (found.astype(np.float64) + product).astype(np.float16)
        return found.astype(np.float64)

    def magnitude(self) -> np.ndarray:
        a, w = (np.abs(values).reshape(SIDE, GROUPS, GROUP) for values in (self.activations, self.weights))
        return np.einsum("rgk,cgk->grc", a, w)

    def rational(self) -> np.ndarray:
        """The exact sums by Python integers, rounded to float64 once."""
        a, w = (np.ldexp(values, places).astype(np.int64).astype(object).reshape(SIDE, GROUPS, GROUP)
                for values, places in ((self.activations, 24), (self.weights, 1)))
        total = np.einsum("rgk,cgk->grc", a, w)
        return np.ldexp(total.astype(np.float64), -25)


def run() -> list[Row]:
    rows = []
    for kind in DATA:
        samples = Samples.of(kind)
        exact, scale = samples.sums(), samples.magnitude()
        count = f"{exact.size:,} groups of {GROUP} BitMoD FP4 weights, seed {SEED}"
        rows.append(Row(f"{kind}: exact, group sums that are not the exact rational", int(np.sum(
            exact != samples.rational())), "sums", 0, command=COMMAND, note=count))
        found = {f"aligned, guard {guard}, {rounding}": samples.sums(accumulate="aligned", guard=guard,
                                                                     rounding=rounding)
                 for guard in (0, 3, 6) for rounding in ("trunc", "rne")}
        found |= {f"floating, guard {guard}, {mantissa} bits, {rounding}": samples.sums(
            accumulate="floating", guard=guard, mantissa=mantissa, rounding=rounding)
            for guard, mantissa, rounding in ((3, 15, "trunc"), (3, 15, "rne"), (6, 18, "trunc"))}
        found["FP16 multiply-add chain"] = samples.fp16_chain()
        for name, sums in found.items():
            error = np.abs(sums - exact) / scale
            default = name == "aligned, guard 3, trunc"
            target, there = PAPER[kind]
            note = f"largest {error.max():.2g}, mean with its sign {np.mean((sums - exact) / scale):.2g}"
            note += f"; target: the published PE, {there}" if default else ""
            note += f"; the published PE: {target:g}, {there}" if name.startswith("floating, guard 3") else ""
            rows.append(Row(f"{kind}: {name}: mean error / sum |a w|", float(f"{error.mean():.3g}"), "",
                            target if default else None, command=COMMAND, note=note))
    return rows
