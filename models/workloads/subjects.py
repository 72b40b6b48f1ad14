"""Runnable networks as `sensitivity` and `bitkiln assign` take them: layers, shapes, scores and accuracy.

Scores are taken from calibration inputs, accuracy from others (the test data), both by the golden model of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..design import MatmulDesign
from ..errors import BitkilnError, nearest
from . import archive, digits, mixed
from .accuracy import NETWORKS, WORDS, Accuracy, float_accuracy
from .layers import Network
from .shapes import LayerShape
from .shapes_small import g2p as g2p_shapes

__all__ = ["Subject", "network_subject", "onnx_subject", "subject"]

CALIBRATION_WORDS, CALIBRATION_SEED = 16, 2     # accuracy counts other words (seed 1)
CALIBRATION_SHARE = 0.25                        # of a user's samples


@dataclass(frozen=True)
class Subject:
    """A network whose layers are given modes.

    Attributes
    ----------
    name : str
    layers : tuple of LayerShape
        In order, of one input; their names are those of an assignment.
    reference : ndarray
        Scores of the calibration inputs in floating point.
    scores, accuracy : callable
        ``(mode by layer, core) -> ndarray`` shaped as ``reference``, and ``-> Accuracy``.
    float_accuracy : Accuracy
    data : str
        What both are measured on.
    """

    name: str
    layers: tuple[LayerShape, ...]
    reference: np.ndarray
    scores: Callable[[Mapping[str, str], MatmulDesign], np.ndarray]
    accuracy: Callable[[Mapping[str, str], MatmulDesign], Accuracy]
    float_accuracy: Accuracy
    data: str


def _text(modes: Mapping[str, str]) -> str:
    return ", ".join(f"{layer}: {mode}" for layer, mode in modes.items())


def _shapes(network: Network, one: np.ndarray) -> tuple[LayerShape, ...]:
    """Layers on one input."""
    _, inputs = network.forward(one)
    last = len(network.layers) - 1
    return tuple(LayerShape(layer.name, len(layer.rows(x)), layer.terms, layer.outputs,
                            kind="conv" if layer.kernel else "linear",
                            layer_class="first" if place == 0 else "last" if place == last else "body")
                 for place, (layer, x) in enumerate(zip(network.layers, inputs, strict=True)))


def network_subject(network: Network, calibration: np.ndarray, x: np.ndarray, labels: np.ndarray, *,
                    name: str | None = None, data: str = "") -> Subject:
    """A classifier.

    Parameters
    ----------
    network : Network
    calibration : ndarray (samples, ...)
        Scales of activations and scores come from these.
    x : ndarray (samples, ...)
        Test inputs.
    labels : ndarray (samples,)
    """
    name = name or network.name
    reference, _ = network.forward(calibration)

    def run(modes: Mapping[str, str], design: MatmulDesign, inputs: np.ndarray) -> np.ndarray:
        return mixed.run(network, modes, calibration, inputs, design).scores

    def right(scores: np.ndarray, formats: str) -> Accuracy:
        return Accuracy(name, formats, int((scores.argmax(1) == labels).sum()), len(labels), "inputs classified right")

    return Subject(name, _shapes(network, calibration[:1]), reference,
                   lambda modes, design: run(modes, design, calibration),
                   lambda modes, design: right(run(modes, design, x), _text(modes)),
                   right(network.forward(x)[0], "float64"), data)


def subject(name: str) -> Subject:
    """One of the networks that come with the tool.

    Raises
    ------
    BitkilnError
        Unknown network; exit code 3 where a package with data is missing.
    """
    if name not in NETWORKS:
        raise BitkilnError("unknown network", where="network", got=name, expected=" or ".join((*NETWORKS, "FILE.onnx")),
                           help=nearest(name, NETWORKS))
    if name == "g2p":
        return _g2p()
    data = digits.load()
    return network_subject(data.network(name.removeprefix("digits-")), digits.scale_images(data.calibration),
                           digits.scale_images(data.images), data.labels, name=name,
                           data=f"scores of {len(data.calibration)} calibration images, accuracy on "
                                f"{len(data.images)} test images")


def onnx_subject(path: str | Path, data: str | Path) -> Subject:
    """A sequential ONNX classifier with a user's samples.

    Parameters
    ----------
    path : str or Path
        See `onnx_sequential`.
    data : str or Path
        ``.npz`` with ``x`` (samples, ...) and ``y`` (samples,), the right classes. The first quarter calibrates.
    """
    from .onnx_sequential import sequential_network

    arrays = archive.read(data)
    for key in ("x", "y"):
        if key not in arrays:
            raise BitkilnError("missing array", where=str(data), got=", ".join(sorted(arrays)), expected="x and y",
                               help="numpy.savez(file, x=inputs, y=classes)")
    x, y = arrays["x"], arrays["y"]
    if y.ndim != 1 or len(x) != len(y) or len(y) < 8 or y.dtype.kind not in "iu" or x.dtype.kind not in "fiu":
        raise BitkilnError("samples and classes do not fit", where=str(data), got=f"x {x.shape} {x.dtype}, "
                           f"y {y.shape} {y.dtype}", expected="numbers x (samples, ...) and integers y (samples,), 8 "
                           "or more")
    if not np.isfinite(x).all():
        raise BitkilnError("samples that are not finite", where=f"{data} x", expected="finite numbers")
    x = np.asarray(x, np.float64)
    network = sequential_network(path, x)
    classes = network.layers[-1].outputs
    if y.min() < 0 or y.max() >= classes:
        raise BitkilnError("unknown class", where=f"{data} y", got=int(y.max() if y.max() >= classes else y.min()),
                           expected=f"0 to {classes - 1}")
    first = max(4, int(len(x) * CALIBRATION_SHARE))
    return network_subject(network, x[:first], x[first:], y[first:], data=f"scores of the first {first} samples, "
                           f"accuracy on the other {len(x) - first}")


class _Forced:
    """Products for `g2p.predict` that keep the scores and steer every choice to that of the float network, so that
    all assignments see the same symbols."""

    def __init__(self, product: Callable[[str, np.ndarray], np.ndarray], steps: list[np.ndarray] | None = None):
        self.product, self.steps = product, steps
        self.scores: list[np.ndarray] = []

    def __call__(self, name: str, rows: np.ndarray) -> np.ndarray:
        found = self.product(name, rows)
        if name != "fc_w":
            return found
        self.scores.append(np.asarray(found, np.float64))
        return found if self.steps is None else self.steps[len(self.scores) - 1]


@cache
def _g2p() -> Subject:
    from .g2p import load_checkpoint, predict
    from .words import read_words, sample_words

    net = load_checkpoint()
    texts = [word.text for word in sample_words(read_words(None), CALIBRATION_WORDS, CALIBRATION_SEED)]
    free = _Forced(lambda name, rows: rows @ net.arrays[name].T)
    predict(net, texts, free)

    def scores(modes: Mapping[str, str], design: MatmulDesign) -> np.ndarray:
        forced = _Forced(mixed.MixedG2p(net, modes, design), free.scores)
        predict(net, texts, forced)
        return np.concatenate(forced.scores)

    def accuracy(modes: Mapping[str, str], design: MatmulDesign) -> Accuracy:
        found, _ = mixed.run_g2p(modes, WORDS, design=design)
        return Accuracy("g2p", _text(modes), round(found.word_accuracy * WORDS), WORDS, "words pronounced right")

    return Subject("g2p", g2p_shapes().layers, np.concatenate(free.scores), scores, accuracy, float_accuracy("g2p"),
                   f"scores of {CALIBRATION_WORDS} words (the decoder is fed the float network's phonemes), accuracy "
                   f"on {WORDS} others")
