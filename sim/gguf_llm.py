"""One block of a language model through the dequantising core's RTL, with the weights of its GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitkiln.models.design.gguf import gguf_design
from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.gguf import GgufFile, TensorInfo
from bitkiln.models.workloads.smollm_file import FileLlama, quantised_types, stored_bits
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes

from .bitserial_llm import BlockRun, block_activations
from .gguf_check import GgufProduct

__all__ = ["FileBlockRun", "random_file", "run_file_block"]


@dataclass(frozen=True)
class FileBlockRun(BlockRun):
    """``results`` are those of the core's jobs, each equal to the golden model.

    Attributes
    ----------
    type : str
        Of the tensor in the file.
    core : str
        Module name of the core.
    jobs, starved, stalls : int
        Jobs, and the core's counters of cycles.
    bits_stored, bits_streamed : float
        Of a weight, in the file and in the core's weight stream of one tile of activations.
    """

    type: str
    core: str
    jobs: int
    starved: int
    stalls: int
    bits_stored: float
    bits_streamed: float

def random_file(config: LlamaConfig, types: Mapping[str, str], seed: int = 7) -> tuple[Llama, GgufFile]:
    """A network of random blocks with small factors, and the file that it would be from.

    Parameters
    ----------
    types : mapping of str to str
        Tensor type by the last part of a tensor's name (``attn_q``); ``f32`` for all others.
    """
    rng, tensors, parts, offset = np.random.default_rng(seed), {}, [], 0
    for name, shape in array_shapes(config).items():
        kind = types.get(name.split(".")[-2], "f32")
        if kind in BLOCKS:
            layout = BLOCKS[kind]
            raw = rng.integers(0, 256, (int(np.prod(shape)) // layout.weights, layout.bytes), dtype=np.uint8)
            for field in sorted({"d", "dmin", "m"} & layout.fields.keys()):
                at = layout.fields[field][0].bits[0] // 8
                raw[:, at:at + 2] = rng.normal(0, 1e-3, (len(raw), 1)).astype("<f2").view(np.uint8)
        else:
            values = rng.standard_normal(shape) * 0.1 + (len(shape) == 1)
            raw = values.astype("<f2" if kind == "f16" else "<f4").view(np.uint8)
        tensors[name] = TensorInfo(name, kind, shape, offset, raw.size)
        parts.append(raw.reshape(-1))
        offset += raw.size
    file = GgufFile(Path("random.gguf"), 3, 32, {}, tensors, np.concatenate(parts))
    return Llama(config, {name: file.tensor(name) for name in tensors}), file


def run_file_block(model: FileLlama, tokens: np.ndarray, block: int, rows: int, columns: int) -> list[FileBlockRun]:
    """The quantised matrices of a block with the activations that they see for some tokens.

    Parameters
    ----------
    tokens : ndarray (T,)
    block : int
    rows, columns : int
        Of the simulated core, which is built for the types of the block's matrices.

    Raises
    ------
    BitkilnError
        No such block, a block without quantised matrices, or (exit code 1) RTL and golden model differ.
    """
    seen = {name: codes for name, codes in block_activations(model.net, tokens, block, model, model.codes).items()
            if model.quantised(name)}
    types = quantised_types(model.file, seen)
    if not types:
        raise BitkilnError("block has no quantised matrix", where="block", got=block, expected="a block with one")
    rtl, found = GgufProduct.of(gguf_design(types, rows=rows, columns=columns)), []
    for name, codes in seen.items():
        rtl.reset()
        matrix = model.matrix(name, rtl.design)
        rtl.matmul(matrix, codes, name)
        found.append(FileBlockRun(name, matrix.shape, len(tokens), rtl.results, rtl.products, rtl.cycles, matrix.type,
                                  rtl.design.name, rtl.jobs, rtl.starved, rtl.stalls,
                                  stored_bits(model.file, [name]),
                                  8 * matrix.stream_bytes / matrix.blocks.codes.size))
    return found
