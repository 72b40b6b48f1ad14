"""Handwritten digits: an MLP and a CNN of about 2,000 weights each, trained by ``train_digits``.

Everything needed to run them (weights, 360 test images, 128 calibration images) is in ``data/digits.npz``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import BitkilnError, nearest
from . import archive
from .layers import Layer, Network

__all__ = ["ARCHITECTURES", "DATA", "NETWORKS", "Digits", "load", "network", "scale_images"]

DATA = Path(__file__).with_name("data") / "digits.npz"

# Images are 1 x 8 x 8. The CNN: 8 x 6 x 6 -> 16 x 3 x 3 -> 10.
ARCHITECTURES: dict[str, tuple[dict, ...]] = {
    "mlp": (
        {"name": "hidden", "outputs": 32, "terms": 64},
        {"name": "scores", "outputs": 10, "terms": 32, "relu": False},
    ),
    "cnn": (
        {"name": "conv1", "outputs": 8, "terms": 9, "kernel": 3},
        {"name": "conv2", "outputs": 16, "terms": 72, "kernel": 3, "stride": 2, "padding": 1},
        {"name": "scores", "outputs": 10, "terms": 144, "relu": False},
    ),
}
NETWORKS = tuple(ARCHITECTURES)


@dataclass(frozen=True)
class Digits:
    """The data file.

    Attributes
    ----------
    images : ndarray, shape (360, 8, 8), uint8 0..16
        Test images.
    labels : ndarray, shape (360,), uint8 0..9
    calibration : ndarray, shape (128, 8, 8), uint8
        Training images from which activation scales are taken.
    networks : dict of str to Network
    """

    images: np.ndarray
    labels: np.ndarray
    calibration: np.ndarray
    networks: dict[str, Network]

    def network(self, name: str) -> Network:
        """The network ``mlp`` or ``cnn``."""
        if name not in self.networks:
            raise BitkilnError("unknown network", where="network", got=name, expected=" or ".join(NETWORKS),
                               help=nearest(name, NETWORKS))
        return self.networks[name]


def scale_images(images: np.ndarray) -> np.ndarray:
    """uint8 0..16, shape (n, 8, 8), to float64 0..1, shape (n, 1, 8, 8)."""
    return np.asarray(images, np.float64).reshape(-1, 1, 8, 8) / 16


def network(name: str, arrays: Mapping[str, np.ndarray]) -> Network:
    """Network ``name`` with the parameters ``<name>.<layer>.weight`` and ``.bias`` of ``arrays``."""
    layers = []
    for spec in ARCHITECTURES[name]:
        options = {key: value for key, value in spec.items() if key not in ("name", "outputs", "terms")}
        weight, bias = (arrays[f"{name}.{spec['name']}.{part}"] for part in ("weight", "bias"))
        if weight.shape != (spec["outputs"], spec["terms"]):
            raise BitkilnError("shape mismatch", where=f"{name}.{spec['name']}.weight", got=weight.shape,
                               expected=f"({spec['outputs']}, {spec['terms']})")
        layers.append(Layer(f"{name}.{spec['name']}", weight, bias, **options))
    return Network(name, tuple(layers))


@cache
def load(path: str | Path = DATA) -> Digits:
    """The images and trained networks of a data file."""
    expected = {"test.images": 3, "test.labels": 1, "calibration.images": 3}
    for name, specs in ARCHITECTURES.items():
        for spec in specs:
            expected |= {f"{name}.{spec['name']}.weight": 2, f"{name}.{spec['name']}.bias": 1}
    arrays = archive.read(path, expected)
    return Digits(arrays["test.images"], arrays["test.labels"], arrays["calibration.images"],
                  {name: network(name, arrays) for name in ARCHITECTURES})
