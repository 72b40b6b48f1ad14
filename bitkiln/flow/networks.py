"""``bitkiln run``: trained networks, as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..config import Resolved

__all__ = ["NetworkRun", "digits", "g2p"]


@dataclass(frozen=True)
class NetworkRun:
    """A result table and whether everything agreed; ``facts`` is its JSON."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    passed: bool
    facts: dict[str, Any]
    right: tuple[int, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        return self.facts


def digits(resolved: Resolved, *, images: int, progress: Callable[[str], None]) -> NetworkRun:
    """Both digits networks through the RTL dot unit, compared with the golden model bit for bit."""
    from ..sim.batch import BatchModel
    from ..sim.digits import run_digits

    design = resolved.design
    progress(f"building {resolved.name}")
    model = BatchModel(design)
    rows, results = [], []
    for network in ("mlp", "cnn"):
        progress(f"digits {network}: {images} images through the RTL")
        result = run_digits(design, network, images, model=model)
        results.append(result)
        for layer in result.layers:
            rows.append([network, layer.name, None, None, None, f"{layer.dot_products:,}", f"{layer.mismatches:,}",
                         f"{layer.macs:,}", f"{layer.cycles:,}", f"{layer.macs / layer.cycles:.2f}"])
        rows.append([network, "whole network", f"{result.float_accuracy:.2%}", f"{result.golden_accuracy:.2%}",
                     f"{result.rtl_accuracy:.2%}", f"{result.dot_products:,}", f"{result.mismatches:,}",
                     f"{result.macs:,}", f"{result.cycles:,}", f"{result.macs_per_cycle:.2f}"])
    passed = all(result.ok for result in results)
    facts = {"design": {"name": resolved.name, "config": resolved.config, "digest": resolved.digest},
             "passed": passed, "networks": [result.as_dict() for result in results]}
    columns = ["network", "layer", "float", "golden", "RTL", "dot products", "mismatches", "MACs", "cycles",
               "MACs/cycle"]
    title = f"digits on {resolved.name}: {images} images, {'every bit equal' if passed else 'DIFFERENT'}"
    return NetworkRun(title, columns, rows, passed, facts, right=tuple(range(2, 10)))


def g2p(resolved: Resolved, *, words: int, seed: int, progress: Callable[[str], None]) -> NetworkRun:
    """The grapheme-to-phoneme GRU with weights in the PE's weight format, and with both operands quantised."""
    from ..models.workloads.g2p import run_g2p

    design = resolved.design
    scores: list[Any] = []
    for activations in dict.fromkeys(["float32", design.activation.name]):
        progress(f"g2p: {words} words, activations {activations}")
        both = "same" if activations == design.weight.name else activations
        found = run_g2p([design.weight.name], words, seed, activations=both)
        scores += found if not scores else found[1:]
    rows = [[score.weights, score.activations, f"{score.word_accuracy:.2%}", f"{score.phoneme_error_rate:.2%}"]
            for score in scores]
    facts = {"words": words, "seed": seed, "results": [asdict(score) for score in scores],
             "units": {"word_accuracy": "share of words", "phoneme_error_rate": "errors per phoneme"}}
    return NetworkRun(f"g2p on {words} words of CMUdict (seed {seed}, golden model)",
                      ["weights", "activations", "word accuracy", "phoneme errors"], rows, True, facts, right=(2, 3))
