"""What each layer's number format costs a network, measured by the golden model one layer at a time.

The measure is the NMSE of the scores: squared error against the floating-point network over the scores' squared size.
It is continuous where accuracy moves in steps of one sample, and rounding errors of different layers are nearly
uncorrelated, so that their squares add. As in OHQ (arXiv 2309.01945) all other layers stay in the best mode::

    NMSE(assignment) ~ NMSE(best everywhere) + sum over layers of NMSE(this layer changed) - NMSE(best everywhere)

A change may be an improvement. `Sensitivities.error` is counted from each layer's best choice, so it is never negative,
and differs from the sum by a constant of each layer: the same assignment is the least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..design import MatmulDesign
from ..errors import BitkilnError
from .subjects import Subject

__all__ = ["MEASURE", "Sensitivities", "Scorer", "measure_sensitivities"]

WORST = 100         # largest error of a score that counts, over their root mean square
MEASURE = "NMSE of the scores, one layer at a time, the others in the best mode"


class Scorer:
    """NMSE of assignments on one core; each is run once.

    Parameters
    ----------
    subject : Subject
    design : MatmulDesign
        With every mode that is asked for.
    """

    def __init__(self, subject: Subject, design: MatmulDesign, progress: Callable[[int], None] = lambda runs: None):
        self.subject, self.design, self.progress = subject, design, progress
        self.names = tuple(layer.name for layer in subject.layers)
        self._power = float(np.sum(subject.reference ** 2))
        self._most = WORST * float(np.sqrt(np.mean(subject.reference ** 2)))
        self._seen: dict[tuple[str, ...], float] = {}
        if not self._power:
            raise BitkilnError("all scores are zero", where=subject.name, expected="a network with an output")

    @property
    def runs(self) -> int:
        """Assignments that were run."""
        return len(self._seen)

    def nmse(self, modes: Sequence[str]) -> float:
        """Of modes in the order of the layers."""
        key = tuple(modes)
        if key not in self._seen:
            scores = self.subject.scores(dict(zip(self.names, key, strict=True)), self.design)
            # A score that is no number (NaR, overflow) spoils the assignment, but must stay comparable.
            error = np.nan_to_num(np.clip(scores - self.subject.reference, -self._most, self._most), nan=self._most)
            self._seen[key] = float(np.sum(error ** 2)) / self._power
            self.progress(len(self._seen))
        return self._seen[key]


@dataclass(frozen=True)
class Sensitivities:
    """Errors of every layer in every mode.

    Attributes
    ----------
    best : str
        The mode of least NMSE where all layers have it.
    base : float
        That NMSE.
    uniform : dict of str to float
        NMSE with one mode everywhere.
    single : dict of str to dict of str to float
        Layer -> mode -> NMSE with this layer alone in it.
    """

    best: str
    base: float
    uniform: Mapping[str, float]
    single: Mapping[str, Mapping[str, float]]

    def error(self, layer: str, mode: str) -> float:
        """Above the layer's best choice, 0 or more."""
        return self.single[layer][mode] - min(self.single[layer].values())

    def predicted(self, modes: Mapping[str, str]) -> float:
        """NMSE of an assignment as the sum says, 0 or more."""
        return max(self.base + sum(self.single[layer][mode] - self.base for layer, mode in modes.items()), 0.0)


def measure_sensitivities(scorer: Scorer, modes: Sequence[str]) -> Sensitivities:
    """Runs ``len(modes) + layers * (len(modes) - 1)`` assignments."""
    names = scorer.names
    uniform = {mode: scorer.nmse([mode] * len(names)) for mode in modes}
    best = min(uniform, key=lambda mode: uniform[mode])
    single = {layer: {mode: scorer.nmse([mode if place == at else best for at in range(len(names))]) for mode in modes}
              for place, layer in enumerate(names)}
    return Sensitivities(best, uniform[best], uniform, single)
