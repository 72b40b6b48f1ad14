"""The checks of the codebook dequantiser: random blocks, and a trained layer's NF4 weights through the RTL."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ..config import Resolved
from ..models.errors import BitkilnError
from .simulate import Check, Options, Outcome

__all__ = ["codebook_steps"]

BLOCKS = 2000
STALLS = {"i": 0.3, "o": 0.4, "second": 0.5, "table": 0.3}


def codebook_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``codebook_dequantiser``."""
    from ..hw.dequant.codebook import CodebookDequantiser
    from ..sim.streams import StreamModel

    if options.jobs is not None:
        raise BitkilnError("option does not apply", where="--jobs", got=options.jobs,
                           expected="none: a dequantiser runs no jobs", help="for example --engine matmul_core")
    design = resolved.design
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(CodebookDequantiser(design))
    for name, stalls in (("blocks", {}), ("blocks, stalls", STALLS)):
        yield Check(name, "words", functools.partial(_blocks, design, options.seed, model, stalls),
                    f"{BLOCKS} random blocks{', stalls on every stream' if stalls else ', every cycle predicted'}")
    yield Check(f"digits mlp, nf{design.code_bits}", "weights",
                functools.partial(_digits, design, model, options.images), "digits mlp, its weights through the RTL")


def _blocks(design: Any, seed: int, model: Any, stalls: dict[str, float]) -> Outcome:
    from ..sim.codebook_check import check_chunks, random_books, random_chunks

    stream = random_chunks(design, BLOCKS, seed)
    stalls = {name: chance for name, chance in stalls.items() if name in (*model.inputs, *model.outputs)}
    run = check_chunks(design, model, random_books(design, seed), stream, stalls=stalls, seed=seed)
    details = f"{BLOCKS} blocks, {len(stream.first):,} chunks"
    details += "; stalls on every stream" if stalls else "; cycles equal to the model"
    return Outcome(len(run.outputs["o"]), 0, details, {"blocks": BLOCKS, "chunks": len(stream.first)})


def _digits(design: Any, model: Any, images: int) -> Outcome:
    from ..sim.codebook_network import run_codebook_digits

    exact, found, weights, cycles = run_codebook_digits(design, model, images)
    details = (f"accuracy float {exact:.1%}, weights from the RTL {found:.1%}; {weights / cycles:.2f} weights a cycle")
    return Outcome(weights, 0, details, {"float_accuracy": exact, "accuracy": found, "cycles": cycles})
