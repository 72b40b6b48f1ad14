"""Accuracy of the runnable networks under a choice of number formats, by the golden model of the engine.

``digits-mlp`` and ``digits-cnn`` classify the 360 shipped test images, ``g2p`` pronounces words of a dictionary (its
data come with two packages). Weights and activations are rounded to nearest, every dot product is exact, as in a unit
whose accumulator is wide enough: lanes, pipeline and array do not change these results.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from ..design import DotDesign
from ..design.dot import parse_pe
from ..errors import BitkilnError, nearest
from . import digits, mixed
from .quantised import quantise_network

__all__ = ["Accuracy", "NETWORKS", "WORDS", "accuracy", "float_accuracy"]

NETWORKS = ("digits-mlp", "digits-cnn", "g2p")
WORDS = 200
SEED = 1
Z95 = 1.96


@dataclass(frozen=True)
class Accuracy:
    """A share of right answers.

    Attributes
    ----------
    network, formats : str
    right, total : int
    what : str
        What is counted.
    """

    network: str
    formats: str
    right: int
    total: int
    what: str

    @property
    def value(self) -> float:
        """0..1."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence limits of the share in all data like these (Wilson, 1927), not of the measured number."""
        share, n = self.value, self.total
        middle = (share + Z95 ** 2 / (2 * n)) / (1 + Z95 ** 2 / n)
        half = Z95 / (1 + Z95 ** 2 / n) * float(np.sqrt(share * (1 - share) / n + Z95 ** 2 / (4 * n * n)))
        return max(middle - half, 0.0), min(middle + half, 1.0)


def _check(network: str) -> None:
    if network not in NETWORKS:
        raise BitkilnError("unknown network", where="accuracy", got=network, expected=" or ".join(NETWORKS),
                           help=nearest(network, NETWORKS))


def accuracy(network: str, formats: str | Mapping[str, str], *, words: int = WORDS, seed: int = SEED) -> Accuracy:
    """Share of right answers.

    Parameters
    ----------
    network : str
        Of `NETWORKS`.
    formats : str or mapping
        A PE name (activation x weight) for all layers, or one for each layer (of 4, 8 or 16 bits, as the matmul core
        runs them: `mixed`).
    words, seed : int
        Of g2p's sample.

    Raises
    ------
    BitkilnError
        Unknown network or format; exit code 3 where a package with data is missing.
    """
    _check(network)
    if isinstance(formats, str):
        return _uniform(network, "x".join(fmt.name for fmt in parse_pe(formats)), words, seed)
    return _mixed(network, tuple(sorted(formats.items())), words, seed)


@lru_cache(maxsize=1024)
def _uniform(network: str, pair: str, words: int, seed: int) -> Accuracy:
    activation, weight = parse_pe(pair)
    if network == "g2p":
        from .g2p import run_g2p

        found = run_g2p([weight.name], words, seed, activations=activation.name)[-1]
        return Accuracy(network, pair, round(found.word_accuracy * words), words, "words pronounced right")
    data = digits.load()
    images = digits.scale_images(data.images)
    design = DotDesign(activation, weight, lanes=1)
    net = quantise_network(data.network(network.removeprefix("digits-")), design,
                           digits.scale_images(data.calibration))
    scores, _ = net.forward(images)
    right = int((scores.argmax(1) == data.labels).sum())
    return Accuracy(network, pair, right, len(data.labels), "images classified right")


@lru_cache(maxsize=1024)
def _mixed(network: str, formats: tuple[tuple[str, str], ...], words: int, seed: int) -> Accuracy:
    layers = dict(formats)
    text = ", ".join(f"{layer}: {mode}" for layer, mode in formats)
    if network == "g2p":
        found, _ = mixed.run_g2p(layers, words, seed)
        return Accuracy(network, text, round(found.word_accuracy * words), words, "words pronounced right")
    data = digits.load()
    run, _ = mixed.run_digits(network.removeprefix("digits-"), layers)
    return Accuracy(network, text, int((run.scores.argmax(1) == data.labels).sum()), len(data.labels),
                    "images classified right")


@cache
def float_accuracy(network: str, words: int = WORDS, seed: int = SEED) -> Accuracy:
    """The same in floating point, unrounded: what quantisation is measured against."""
    _check(network)
    if network == "g2p":
        from .g2p import run_g2p

        found = run_g2p([], words, seed)[0]
        return Accuracy(network, "float32", round(found.word_accuracy * words), words, "words pronounced right")
    data = digits.load()
    scores, _ = data.network(network.removeprefix("digits-")).forward(digits.scale_images(data.images))
    return Accuracy(network, "float64", int((scores.argmax(1) == data.labels).sum()), len(data.labels),
                    "images classified right")
