"""The checks of the sparse side path: random outliers, half a per cent of them without a stall, a real layer's."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ..config import Resolved
from .simulate import Check, Options, Outcome, no_jobs

__all__ = ["sparse_steps"]

TILES, WEIGHTS = 400, 4_000_000     # of large tiles only so many that they have as many weights
DENSITY, SPARSE_DENSITY = 0.05, 0.005
STALLS = {"activation": 0.3, "outlier": 0.3, "o": 0.4}


def sparse_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``sparse_side``."""
    from ..hw.dequant.sparse import SparseSide
    from ..sim.streams import StreamModel

    no_jobs(options, "a side path")
    design = resolved.design
    tiles = max(min(TILES, WEIGHTS // (design.tile * design.columns)), 8)
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(SparseSide(design))
    for name, stalls in (("outliers", {}), ("outliers, stalls", STALLS)):
        yield Check(name, "sums", functools.partial(_outliers, design, tiles, options.seed, model, stalls),
                    f"{tiles} random tiles{', stalls on every stream' if stalls else ', every cycle predicted'}")
    yield Check(f"{SPARSE_DENSITY:.1%} of the weights", "sums",
                functools.partial(_half_a_percent, design, tiles, options.seed, model),
                f"{SPARSE_DENSITY:.1%} of the weights beside the fastest dense engine")
    if design.value.name == "fp16":
        yield Check("digits mlp, squeezellm", "sums", functools.partial(_digits, design, model, options.images),
                    "digits mlp, its outliers through the RTL")


def _outliers(design: Any, tiles: int, seed: int, model: Any, stalls: dict[str, float]) -> Outcome:
    from ..sim.sparse_check import check_sparse, random_sparse

    stream = random_sparse(design, tiles, seed, density=DENSITY)
    run = check_sparse(design, model, stream, stalls=stalls, seed=seed)
    outliers = int(stream.mask.sum())
    details = f"{tiles} tiles, {outliers:,} outliers"
    details += "; stalls on every stream" if stalls else "; cycles equal to the event model"
    return Outcome(len(run.outputs["o"]), 0, details, {"tiles": tiles, "outliers": outliers})


def _half_a_percent(design: Any, tiles: int, seed: int, model: Any) -> Outcome:
    from ..sim.sparse_check import check_density

    found = check_density(design, model, tiles, SPARSE_DENSITY, seed)
    rule = f"at most {found.most} in a tile of {found.chunks} chunks"
    details = (f"{found.outliers:,} of {found.weights:,} weights, {rule}; a chunk each cycle, {found.stalls} stalls"
               f"{'' if found.promised else ' (more than the condition allows)'}; "
               f"none in the long run up to {found.sustained:.1%}")
    return Outcome(found.sums, 0, details, {"outliers": found.outliers, "weights": found.weights,
                                            "stalls": found.stalls, "promised": found.promised,
                                            "sustained_density": found.sustained})


def _digits(design: Any, model: Any, images: int) -> Outcome:
    from ..sim.sparse_network import run_sparse_digits

    found = run_sparse_digits(design, model, images)
    details = (f"{found.outliers} of {found.weights:,} weights; accuracy float {found.exact:.1%}, 3-bit tables alone "
               f"{found.dense:.1%}, with the RTL's sums {found.both:.1%}")
    return Outcome(found.sums, 0, details, {"outliers": found.outliers, "weights": found.weights,
                                            "float_accuracy": found.exact, "dense_accuracy": found.dense,
                                            "accuracy": found.both, "stalls": found.stalls})
