"""``bitkiln perplexity``: a language model's perplexity on the bit-serial engine, and one block through its RTL."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.errors import BitkilnError, nearest
from .networks import NetworkRun, Table

if TYPE_CHECKING:
    import numpy as np

    from ..models.workloads.smollm import SmolLm
    from ..models.workloads.smollm_file import FileLlama
    from ..models.workloads.smollm_net import Llama

__all__ = ["FILE", "language_model"]

FILE = "file"       # the weights as the GGUF file has them
ROWS, COLUMNS = 2, 4


def language_model(text: Path, weights: Sequence[str], *, windows: int, context: int, block: int | None,
                   tokens: int, progress: Callable[[str], None], path: Path | None = None,
                   minima: str = "core") -> NetworkRun:
    """Perplexity of a text as the file's weights are, and with each of ``weights`` through the engine's golden model.

    Parameters
    ----------
    text : Path
        UTF-8 text.
    weights : sequence of str
        Keys of ``models.workloads.smollm_serial.WEIGHTS``, or ``FILE``; the first one's block goes through the RTL.
    windows, context : int
        Pieces of the text and tokens of each.
    block : int or None
        Block that goes through the RTL; None for none.
    tokens : int
        Of the text, that go through it.
    path : Path, optional
        A GGUF file of such a network; by default SmolLM2-135M of the installed package.
    minima : str
        Who multiplies by the minima of the file's blocks, ``core`` or ``host``.
    """
    from ..models.workloads.gguf_core import MINIMA
    from ..models.workloads.smollm import load_smollm, perplexity
    from ..models.workloads.smollm_file import FileLlama
    from ..models.workloads.smollm_serial import WEIGHTS, SerialLlama

    names = [FILE, *WEIGHTS]
    for name in weights:
        if name not in names:
            raise BitkilnError("unknown weight format", where="--weights", got=name, expected=", ".join(names),
                               help=nearest(name, names))
    if minima not in MINIMA:
        raise BitkilnError("unknown choice", where="--minima", got=minima, expected=" or ".join(MINIMA))
    try:
        words = text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error)).lower()
        raise BitkilnError("cannot read text", where=str(text), got=reason, expected="a UTF-8 text file") from None
    title = "SmolLM2-135M" if path is None else path.name
    progress(f"{title}: reading the weights")
    model = load_smollm() if path is None else load_smollm(path)
    if block is not None and block >= model.net.config.blocks:
        raise BitkilnError("no such block", where="--block", got=block, expected=f"0 to {model.net.config.blocks - 1}")
    of_file = None
    if FILE in weights:
        if model.file is None:
            raise BitkilnError("no GGUF file", where="--weights", got=FILE, expected="a network that was read from one")
        of_file = FileLlama(model.net, model.file, minima)
    kinds, bits, facts = _shipped(model, of_file)
    facts |= {"text": str(text), "context": context}
    progress(f"{title}: {windows} windows of {context} tokens in float32")
    found = perplexity(model, words, context, windows)
    rows: list[list[Any]] = [[f"as shipped ({kinds}float32)", bits, f"{found.value:.3f}", f"{found.tokens:,}"]]
    facts["perplexity"] = {"shipped": asdict(found)}
    for name in weights:
        progress(f"{title}: {name} on the engine")
        product = of_file if name == FILE and of_file is not None else SerialLlama(model.net, name)
        found = perplexity(model, words, context, windows, product)
        label = f"{name}, fp16 activations, exact sums" + " of blocks" * (name == FILE)
        rows.append([label, f"{product.bits_per_weight:.3f}", f"{found.value:.3f}", f"{found.tokens:,}"])
        facts["perplexity"][name] = {**asdict(found), "bits_per_weight": product.bits_per_weight}
    tables = [(f"{title}: perplexity", ["weights", "bits a weight", "perplexity", "tokens"], rows, (1, 2, 3))]
    if block is not None:
        progress(f"{title}: block {block} through the RTL, {tokens} tokens")
        first = model.tokenizer.encode(words)[:tokens]
        if weights[0] == FILE and of_file is not None:
            table, facts["block"] = _block_of_file(of_file, first, block)
        else:
            table, facts["block"] = _block(model.net, weights[0], first, block)
        tables.append(table)
    return NetworkRun(tables, True, facts)


def _shipped(model: SmolLm, of_file: FileLlama | None) -> tuple[str, str, dict[str, Any]]:
    """Types of the file's matrices, bits of a weight, and where they are from."""
    from ..models.workloads.smollm_file import stored_bits

    if model.file is None:
        return "", "", {}
    names = model.net.matrices
    types = list(dict.fromkeys(model.file.info(name).type for name in names))
    facts: dict[str, Any] = {"model": {"file": model.file.path.name, "types": types,
                                       "parameters": sum(a.size for a in model.net.arrays.values())}}
    if of_file is not None:
        facts["model"]["sha256"] = hashlib.sha256(model.file.data).hexdigest()
    return " and ".join(kind.upper() for kind in types) + ", ", f"{stored_bits(model.file, names):.3f}", facts


def _block(net: Llama, weights: str, tokens: np.ndarray, block: int) -> tuple[Table, dict[str, Any]]:
    """A block with weights that were quantised anew."""
    from ..sim.bitserial_llm import run_block

    runs = run_block(net, tokens, weights, block, ROWS, COLUMNS)
    table = (f"block {block} in {weights}, {ROWS} x {COLUMNS} PEs, {len(tokens)} tokens: every bit equal",
             ["matrix", "shape", "results", "MACs", "cycles", "MACs/cycle"],
             [[r.name, f"{r.shape[0]} x {r.shape[1]}", f"{r.results:,}", f"{r.products:,}", f"{r.cycles:,}",
               f"{r.products / r.cycles:.2f}"] for r in runs], (2, 3, 4, 5))
    return table, {"number": block, "weights": weights, "matrices": [asdict(r) for r in runs]}


def _block_of_file(model: FileLlama, tokens: np.ndarray, block: int) -> tuple[Table, dict[str, Any]]:
    """A block with the weights of the file."""
    from ..sim.gguf_llm import run_file_block

    runs = run_file_block(model, tokens, block, ROWS, COLUMNS)
    table = (f"block {block} as {model.file.path.name} has it, minima by the {model.minima}, dequant_core of {ROWS} x "
             f"{COLUMNS} PEs, {len(tokens)} tokens, measured in RTL simulation: every bit equal",
             ["matrix", "type", "shape", "jobs", "results", "MACs", "cycles", "MACs/cycle", "bits in the file",
              "streamed"],
             [[r.name, r.type, f"{r.shape[0]} x {r.shape[1]}", f"{r.jobs:,}", f"{r.results:,}", f"{r.products:,}",
               f"{r.cycles:,}", f"{r.products / r.cycles:.2f}", f"{r.bits_stored:.2f}", f"{r.bits_streamed:.2f}"]
              for r in runs], tuple(range(3, 10)))
    return table, {"number": block, "weights": FILE, "minima": model.minima, "kind": "measured",
                   "matrices": [asdict(r) for r in runs]}
