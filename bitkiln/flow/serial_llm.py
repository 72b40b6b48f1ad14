"""``bitkiln perplexity``: a language model's perplexity on the bit-serial engine, and one block through its RTL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..models.errors import BitkilnError, nearest
from .networks import NetworkRun

__all__ = ["language_model"]

ROWS, COLUMNS = 2, 4


def language_model(text: Path, weights: Sequence[str], *, windows: int, context: int, block: int | None,
                   tokens: int, progress: Callable[[str], None]) -> NetworkRun:
    """Perplexity of a text as the file's weights are, and with each of ``weights`` through the engine's golden model.

    Parameters
    ----------
    text : Path
        UTF-8 text.
    weights : sequence of str
        Keys of ``models.workloads.smollm_serial.WEIGHTS``; the first one's block goes through the RTL.
    windows, context : int
        Pieces of the text and tokens of each.
    block : int or None
        Block that goes through the RTL; None for none.
    tokens : int
        Of the text, that go through it.
    """
    from ..models.workloads.smollm import load_smollm, perplexity
    from ..models.workloads.smollm_serial import WEIGHTS, SerialLlama

    for name in weights:
        if name not in WEIGHTS:
            raise BitkilnError("unknown weight format", where="--weights", got=name, expected=", ".join(WEIGHTS),
                               help=nearest(name, WEIGHTS))
    try:
        words = text.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else (error.strerror or str(error)).lower()
        raise BitkilnError("cannot read text", where=str(text), got=reason, expected="a UTF-8 text file") from None
    progress("smollm: reading the weights")
    model = load_smollm()
    if block is not None and block >= model.net.config.blocks:
        raise BitkilnError("no such block", where="--block", got=block, expected=f"0 to {model.net.config.blocks - 1}")
    progress(f"smollm: {windows} windows of {context} tokens in float32")
    found = perplexity(model, words, context, windows)
    rows: list[list[Any]] = [["as shipped (Q4_1, float32)", "5.00", f"{found.value:.3f}", f"{found.tokens:,}"]]
    facts: dict[str, Any] = {"text": str(text), "context": context, "perplexity": {"shipped": asdict(found)}}
    for name in weights:
        progress(f"smollm: {name} on the engine")
        serial = SerialLlama(model.net, name)
        found = perplexity(model, words, context, windows, serial)
        rows.append([f"{name}, fp16 activations, exact sums", f"{serial.bits_per_weight:.3f}", f"{found.value:.3f}",
                     f"{found.tokens:,}"])
        facts["perplexity"][name] = {**asdict(found), "bits_per_weight": serial.bits_per_weight}
    tables = [("SmolLM2-135M: perplexity", ["weights", "bits a weight", "perplexity", "tokens"], rows, (1, 2, 3))]
    if block is not None:
        from ..sim.bitserial_llm import run_block

        progress(f"smollm: block {block} through the RTL, {tokens} tokens")
        first = model.tokenizer.encode(words)[:tokens]
        runs = run_block(model.net, first, weights[0], block, ROWS, COLUMNS)
        tables.append((f"block {block} in {weights[0]}, {ROWS} x {COLUMNS} PEs, {len(first)} tokens: every bit equal",
                       ["matrix", "shape", "results", "MACs", "cycles", "MACs/cycle"],
                       [[r.name, f"{r.shape[0]} x {r.shape[1]}", f"{r.results:,}", f"{r.products:,}", f"{r.cycles:,}",
                         f"{r.products / r.cycles:.2f}"] for r in runs], (2, 3, 4, 5)))
        facts["block"] = {"number": block, "weights": weights[0], "matrices": [asdict(r) for r in runs]}
    return NetworkRun(tables, True, facts)
