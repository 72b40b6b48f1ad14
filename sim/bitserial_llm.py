"""One block of a language model through the bit-serial array's RTL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.bitserial import EngineMatrix
from bitkiln.models.workloads.smollm_net import Llama, Product, logits
from bitkiln.models.workloads.smollm_serial import SerialLlama, serial_design

from .bitserial_network import RtlProduct

__all__ = ["BlockRun", "block_activations", "run_block"]


@dataclass(frozen=True)
class BlockRun:
    """What one matrix took; every result was compared with the golden model."""

    name: str
    shape: tuple[int, int]
    tokens: int
    results: int
    products: int
    cycles: int


class _Enough(Exception):
    """The block's activations have been seen."""


def block_activations(net: Llama, tokens: np.ndarray, block: int, product: Product,
                      codes: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Codes (T, K) of what each matrix of a block is multiplied with, in the order of use.

    Parameters
    ----------
    tokens : ndarray (T,)
    product : callable
        Of all matrices up to the block's last.
    codes : callable
        Rows of float32 activations to codes.
    """
    if not 0 <= block < net.config.blocks:
        raise BitkilnError("no such block", where="block", got=block, expected=f"0 to {net.config.blocks - 1}")
    seen: dict[str, np.ndarray] = {}
    prefix, after = f"blk.{block}.", f"blk.{block + 1}."

    def watched(name: str, x: np.ndarray) -> np.ndarray:
        if name.startswith(after) or not name.startswith("blk."):
            raise _Enough
        if name.startswith(prefix):
            seen[name] = codes(x.reshape(-1, x.shape[-1]))
        return product(name, x)

    with contextlib.suppress(_Enough):
        logits(net, tokens, watched)
    return seen


def run_block(net: Llama, tokens: np.ndarray, weights: str, block: int, rows: int, columns: int) -> list[BlockRun]:
    """The seven matrices of a block with the activations that they see for some tokens.

    Parameters
    ----------
    tokens : ndarray (T,)
    weights : str
        A key of ``models.workloads.smollm_serial.WEIGHTS``.
    block : int
    rows, columns : int
        Of the simulated array.

    Raises
    ------
    BitkilnError
        Exit code 1 where RTL and golden model differ.
    """
    serial = SerialLlama(net, weights)
    seen = block_activations(net, tokens, block, serial, serial.codes)
    matrices = {name: serial.matrix(name) for name in seen}
    design = serial_design(list(matrices.values())).with_options(rows=rows, columns=columns)
    rtl, found = RtlProduct.of(design), []
    for name, matrix in matrices.items():
        before = (rtl.results, rtl.products, rtl.cycles)
        rtl.matmul(EngineMatrix(design, matrix.quantised), seen[name], name)
        done = [now - then for now, then in zip((rtl.results, rtl.products, rtl.cycles), before, strict=True)]
        found.append(BlockRun(name, matrix.shape, len(tokens), *done))
    return found
