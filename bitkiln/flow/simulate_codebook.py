"""The checks of the codebook dequantiser, alone and before an array of MACs: random blocks, and NF4 weights."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from ..config import Resolved
from .simulate import Check, Options, Outcome, no_jobs

__all__ = ["array_steps", "codebook_steps"]

BLOCKS = 2000
STALLS = {"i": 0.3, "o": 0.4, "second": 0.5, "table": 0.3}
ARRAY_BLOCKS, ARRAY_K, LONGEST = 400, 1000, 200
ARRAY_STALLS = {"w": 0.3, "a": 0.3, "o": 0.4, "second": 0.5, "table": 0.3, "level": 0.3}


def codebook_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``codebook_dequantiser``."""
    from ..hw.dequant.codebook import CodebookDequantiser
    from ..sim.streams import StreamModel

    no_jobs(options, "a dequantiser")
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


def array_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``codebook_array``."""
    from ..hw.dequant.codebook_array import CodebookArray
    from ..sim.codebook_array_network import RtlProduct
    from ..sim.streams import StreamModel

    no_jobs(options, "an array")
    design = resolved.design
    options.progress(f"{resolved.name}: building the model")
    model = StreamModel(CodebookArray(design))
    for name, stalls in (("blocks", {}), ("blocks, stalls", ARRAY_STALLS)):
        yield Check(name, "results", functools.partial(_array_blocks, design, options.seed, model, stalls),
                    f"{ARRAY_BLOCKS} random blocks"
                    f"{', stalls on every stream' if stalls else ', every cycle predicted'}")
    kind = f"nf{design.code_bits}"
    yield Check(f"{kind} product", "results", functools.partial(_product, design, options.seed, model),
                f"{kind} weights of the quantiser, every cycle predicted")
    if design.scale != "none":
        yield Check(f"digits mlp, {kind}", "results",
                    functools.partial(_array_digits, design, options.images, RtlProduct(design, model)),
                    f"digits mlp through the RTL, weights {kind}")


def _array_blocks(design: Any, seed: int, model: Any, stalls: dict[str, float]) -> Outcome:
    from ..sim.codebook_array_check import check_array, random_array
    from ..sim.codebook_check import random_books

    stream = random_array(design, ARRAY_BLOCKS, seed, longest=LONGEST)
    stalls = {name: chance for name, chance in stalls.items() if name in (*model.inputs, *model.outputs)}
    _, values = check_array(design, model, random_books(design.codebook, seed), stream, stalls=stalls, seed=seed)
    details = f"{ARRAY_BLOCKS} blocks, {len(stream.first):,} chunks"
    details += "; stalls on every stream" if stalls else "; cycles equal to the model"
    return Outcome(values.size, 0, details, {"blocks": ARRAY_BLOCKS, "chunks": len(stream.first)})


def _product(design: Any, seed: int, model: Any) -> Outcome:
    """A product with edges in every direction, in blocks of 64 where the design's are as long."""
    from ..sim.codebook_array_check import check_product

    block = min(64, design.block)
    found = check_product(design, model, 2 * design.rows + 1, 2 * design.columns + 1, ARRAY_K, block, seed)
    details = (f"blocks of {block}; {found.macs / found.cycles:.2f} of {found.peak} products a cycle, "
               f"{found.stalls} cycles waited")
    return Outcome(found.results, 0, details, {"cycles": found.cycles, "products": found.macs, "stalls": found.stalls,
                                               "block": block})


def _array_digits(design: Any, images: int, product: Any) -> Outcome:
    from ..sim.codebook_array_network import run_array_digits

    exact, quantised, found = run_array_digits(design, product, images)
    details = (f"accuracy float {exact:.1%}, nf{design.code_bits} {quantised:.1%}, RTL {found:.1%}; "
               f"{product.stalls} of {product.cycles:,} cycles waited")
    return Outcome(product.results, 0, details, {"float_accuracy": exact, "quantised_accuracy": quantised,
                                                 "accuracy": found, "cycles": product.cycles,
                                                 "stalls": product.stalls})
