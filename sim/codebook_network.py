"""NF4 weights of a trained layer through the codebook dequantiser's RTL, as a MAC engine behind it would get them."""

from __future__ import annotations

import numpy as np

from bitkiln.models.design.codebook import CodebookDesign
from bitkiln.models.formats import get_format
from bitkiln.models.golden.codebook import Codebooks, chunks_of, table_codes
from bitkiln.models.quantize.methods import quantize
from bitkiln.models.workloads import digits

from .codebook_check import check_chunks, random_books, unpack_words
from .streams import StreamModel

__all__ = ["run_codebook_digits"]


def run_codebook_digits(design: CodebookDesign, model: StreamModel, images: int) -> tuple[float, float, int, int]:
    """Accuracy of the digits MLP in float and with weights that came out of the RTL; weights and cycles.

    Codes and float scales are NF4's or NF3's (QLoRA, arXiv 2305.14314), in blocks of 64; entries are rounded to the
    design's output format once, as its driver would write them.
    """
    data = digits.load()
    network = data.network("mlp")
    x, labels = digits.scale_images(data.images[:images]), data.labels[:images]
    book = get_format(f"nf{design.code_bits}")
    values = np.tile(book.decode(np.arange(design.entries)), (design.tables, 1))
    entries = table_codes(design, values)
    books = Codebooks(entries, random_books(design, 0).levels)
    hidden, total, cycles = x.reshape(len(x), -1), 0, 0
    for layer in network.layers:
        found = quantize("nf", layer.weight, design.code_bits, min(64, layer.weight.shape[1]), name=layer.name)
        lengths = np.tile(found.sizes, len(layer.weight))
        second = np.array([[0x3F800000, 0]], np.uint32) if design.coded_scale else None
        renew = np.arange(len(lengths)) == 0
        stream = chunks_of(design, found.codes.reshape(-1).astype(np.int64), lengths, scale=1 if design.coded_scale
                           else 0, renew=renew & design.coded_scale, second=second)
        run = check_chunks(design, model, books, stream)
        words = unpack_words(design, run.outputs["o"])["entries"]
        # Whole chunks fill a word; what lies beyond a block's end is not a weight.
        per_block = -(-lengths // (design.lanes * design.chunks)) * design.lanes * design.chunks
        starts = np.cumsum(per_block) - per_block
        at = np.concatenate([start + np.arange(length) for start, length in zip(starts, lengths, strict=True)])
        weights = design.output.decode(words.reshape(-1)[at]).reshape(layer.weight.shape)
        weights = weights * np.repeat(found.scale, found.sizes, axis=1)
        hidden = hidden @ weights.T + layer.bias
        hidden = np.maximum(hidden, 0) if layer.relu else hidden
        total, cycles = total + weights.size, cycles + int(run.cycles["o"][-1]) + 1
    accuracy = [float(np.mean(scores.argmax(axis=1) == labels)) for scores in (network.forward(x)[0], hidden)]
    return (*accuracy, total, cycles)
