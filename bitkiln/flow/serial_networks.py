"""``bitkiln run g2p --weights``: low-bit weight formats on the bit-serial engine, as tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..models.workloads.g2p import load_checkpoint
from ..models.workloads.g2p_serial import (
    FLOAT,
    QuantisedG2p,
    SerialScore,
    paired,
    recipe,
    row_names,
    score_serial,
)
from ..models.workloads.words import Word, read_words, sample_words
from .networks import NetworkRun, Table

__all__ = ["g2p_weights"]

UNITS = {"bits_per_weight": "bits, metadata included", "nmse": "squared error over squared weight, all matrices",
         "terms": "cycles for one weight a lane", "word_accuracy": "share of words",
         "standard_error": "share of words", "phoneme_error_rate": "errors per phoneme"}


def g2p_weights(weights: str, *, words: int, rtl_words: int, seed: int,
                progress: Callable[[str], None]) -> NetworkRun:
    """The grapheme-to-phoneme GRU in every weight format, and a sample of words through the RTL.

    Parameters
    ----------
    weights : str
        The row that comes first after float32, and whose weights the RTL gets.
    words, seed : int
        Size of the sample, and which.
    rtl_words : int
        The first of them that the simulated array pronounces; 0 for none.
    progress : callable

    Raises
    ------
    BitkilnError
        Unknown row; exit code 3 without the network or the words, 1 where RTL and golden model differ.
    """
    chosen = recipe(weights, "--weights")
    picked = FLOAT if chosen is None else chosen.name
    net, sample = load_checkpoint(), sample_words(read_words(), words, seed)
    scores = []
    for name in dict.fromkeys((FLOAT, picked, *row_names())):
        progress(f"g2p: {words} words, weights {name}")
        scores.append(score_serial(net, name, sample))
    quantised = None if chosen is None else QuantisedG2p(net, chosen)
    tables = [_table(scores, picked, words, seed)]
    rtl, why = _on_rtl(quantised, sample[:rtl_words], progress)
    # A difference of a bit or a cycle would have ended the run with an error.
    verdict = ": every dot product equal to the golden model, every cycle to the event model" if rtl else ""
    tables.append((f"{picked} through the RTL{verdict}", *_rtl_table(rtl, why)))
    passed = rtl is None or rtl["equal"]
    facts = {"weights": picked, "words": words, "seed": seed, "passed": passed,
             "results": [{**score.as_dict(), "against": _against(scores, picked, score)} for score in scores],
             "rtl": rtl if rtl is not None else {"words": 0, "why": why}, "units": UNITS}
    return NetworkRun(tables, passed, facts)


def _against(scores: list[SerialScore], picked: str, score: SerialScore) -> dict[str, Any]:
    """How much better the picked row is on the same words, with the standard error of that."""
    best = next(each for each in scores if each.name == picked)
    return {"row": picked, **paired(best, score)._asdict()}


def _table(scores: list[SerialScore], picked: str, words: int, seed: int) -> Table:
    rows = []
    for score in scores:
        of_engine = score.terms is not None
        better = _against(scores, picked, score)
        rows.append([("> " if score.name == picked else "") + score.name, score.method or None, score.group,
                     f"{score.bits_per_weight:.4f}", f"{score.terms:g}" if of_engine else None,
                     None if score.name == FLOAT else f"{score.nmse:.5f}",
                     f"{score.word_accuracy:.2%}", f"{100 * score.standard_error:.2f}",
                     f"{score.phoneme_error_rate:.2%}",
                     None if score.name == picked else
                     f"{100 * better['value']:+.2f} ± {100 * better['standard_error']:.2f}", score.products])
    columns = ["weights", "method", "group", "bits/weight", "cycles", "NMSE", "words right", "± s.e.",
               "phoneme errors", f"{picked} better by", "products"]
    title = (f"g2p on {words} words of CMUdict (seed {seed}): fp16 activations, exact sums where products are the "
             "engine's")
    return title, columns, rows, tuple(range(2, 10))


def _on_rtl(quantised: QuantisedG2p | None, sample: list[Word],
            progress: Callable[[str], None]) -> tuple[dict[str, Any] | None, str]:
    """What the RTL did, or why it did nothing."""
    if quantised is None:
        return None, "float32 weights are not the engine's"
    if not quantised.on_engine:
        return None, quantised.why_not or ""
    if not sample:
        return None, "no words asked for"
    from ..sim.bitserial_g2p import run_serial_g2p

    return run_serial_g2p(quantised, [word.text for word in sample],
                          lambda text: progress(f"g2p: {text}")).as_dict(), ""


def _rtl_table(rtl: dict[str, Any] | None, why: str) -> tuple[list[str], list[list[Any]], tuple[int, ...]]:
    if rtl is None:
        return ["words", "why"], [["0", why]], (0,)
    columns = ["design", "words", "dot products", "cycles", "cycles/word", "MACs/cycle", "of peak", "pronunciations"]
    row = [rtl["design"], str(rtl["words"]), f"{rtl['results']:,}", f"{rtl['cycles']:,}",
           f"{rtl['cycles_per_word']:,.0f}", f"{rtl['products_per_cycle']:.2f}", f"{rtl['utilisation']:.1%}",
           "equal" if rtl["equal"] else "DIFFERENT"]
    return columns, [row], tuple(range(1, 7))
