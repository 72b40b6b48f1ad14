"""Trains the digits networks and writes ``data/digits.npz``.

Run ``python -m bitkiln.models.workloads.train_digits [path]``; needs the ``train`` extra for the images.
Plain NumPy: softmax cross-entropy, Adam, some images shifted by up to one pixel, weight decay.

Weights and moments are rounded to multiples of 2**-20 after each step. So the last-bit differences between
BLAS libraries and processors are wiped out before they can grow, and the file comes out the same elsewhere.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

from ..errors import MISSING_TOOL, BitkilnError
from . import archive
from .digits import ARCHITECTURES, DATA, network, scale_images
from .layers import Network

SEED = 20240229
EPOCHS = {"mlp": 120, "cnn": 60}
BATCH = 48
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
SHIFTED = 0.3              # share of the images that move
CALIBRATION_IMAGES = 128
GRID = 2.0 ** 20


def snap(x: np.ndarray) -> np.ndarray:
    """Nearest multiple of 2**-20."""
    return np.round(x * GRID) / GRID


def images_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """The 1,797 images (uint8, 0..16, shape (n, 8, 8)) and their labels."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise BitkilnError("missing package", where="scikit-learn", expected="scikit-learn 1.5 or newer",
                           help="pip install 'bitkiln[train]'", exit_code=MISSING_TOOL) from error
    data = load_digits()
    return data.images.astype(np.uint8), data.target.astype(np.uint8)


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some images moved by -1, 0 or 1 pixel in both directions; zeros come in."""
    dy, dx = rng.integers(-1, 2, (2, len(x))) * (rng.random(len(x)) < SHIFTED)
    rows = np.arange(8)[None] - dy[:, None] + 1
    columns = np.arange(8)[None] - dx[:, None] + 1
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    index = np.arange(len(x))[:, None, None]
    return padded[index, 0, rows[:, :, None], columns[:, None, :]][:, None]


def scatter(d_rows: np.ndarray, layer, shape: tuple[int, ...]) -> np.ndarray:
    """Gradient of ``im2col``: adds the window gradients back onto an input of ``shape``."""
    images, channels, height, width = shape
    k, s, p = layer.kernel, layer.stride, layer.padding
    out = np.zeros((images, channels, height + 2 * p, width + 2 * p))
    rows, columns = (height + 2 * p - k) // s + 1, (width + 2 * p - k) // s + 1
    d_rows = d_rows.reshape(images, rows, columns, channels, k, k)
    for i in range(k):
        for j in range(k):
            out[:, :, i:i + s * rows:s, j:j + s * columns:s] += d_rows[..., i, j].transpose(0, 3, 1, 2)
    return out[:, :, p:p + height, p:p + width]


def gradients(net: Network, x: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Gradients of the mean cross-entropy: weight and bias of each layer in order."""
    scores, inputs = net.forward(x)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    d = scores / scores.sum(axis=1, keepdims=True)
    d[np.arange(len(x)), labels] -= 1
    d /= len(x)
    found: list[np.ndarray] = []
    for at in reversed(range(len(net.layers))):
        layer, entry = net.layers[at], inputs[at]
        if layer.kernel:
            d = d.transpose(0, 2, 3, 1)
        d = d.reshape(-1, layer.outputs)
        found[:0] = [d.T @ layer.rows(entry), d.sum(axis=0)]
        if at:
            d = d @ layer.weight
            d = scatter(d, layer, entry.shape) if layer.kernel else d.reshape(entry.shape)
            d = d * (entry > 0)              # every hidden layer has a ReLU
    return found


def train(name: str, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Trained parameters of network ``name`` as float32 arrays by their names in the archive."""
    rng = np.random.default_rng([SEED, len(name), *name.encode()])
    names, parameters = [], []
    for spec in ARCHITECTURES[name]:
        deviation = np.sqrt(2 / spec["terms"])
        names += [f"{name}.{spec['name']}.weight", f"{name}.{spec['name']}.bias"]
        parameters += [snap(deviation * rng.standard_normal((spec["outputs"], spec["terms"]))),
                       np.zeros(spec["outputs"])]
    first = [np.zeros_like(p) for p in parameters]
    second = [np.zeros_like(p) for p in parameters]
    steps, step = EPOCHS[name] * (len(x) // BATCH), 0
    for _ in range(EPOCHS[name]):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            batch = order[start:start + BATCH]
            net = network(name, dict(zip(names, parameters, strict=True)))
            step += 1
            rate = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            for i, g in enumerate(gradients(net, shifted(x[batch], rng), labels[batch])):
                first[i] = snap(0.9 * first[i] + 0.1 * g)
                second[i] = snap(0.999 * second[i] + 0.001 * (g * GRID ** 0.5) ** 2)
                update = (first[i] / (1 - 0.9 ** step)) / (
                    np.sqrt(second[i] / GRID / (1 - 0.999 ** step)) + 1e-5)
                parameters[i] = snap(parameters[i] - rate * (update + WEIGHT_DECAY * parameters[i]))
    return {n: p.astype(np.float32) for n, p in zip(names, parameters, strict=True)}


def build() -> dict[str, np.ndarray]:
    """All arrays of the data file. Every fifth image is for testing."""
    images, labels = images_and_labels()
    test = np.arange(len(images)) % 5 == 0
    x, y = scale_images(images[~test]), labels[~test]
    arrays = {"test.images": images[test], "test.labels": labels[test],
              "calibration.images": images[~test][:CALIBRATION_IMAGES]}
    for name in ARCHITECTURES:
        arrays |= train(name, x, y)
    return arrays


def main(path: str | Path = DATA) -> None:
    """Train, write and print the accuracies on the test images and the digest of the file."""
    arrays = build()
    archive.write(path, arrays)
    x, labels = scale_images(arrays["test.images"]), arrays["test.labels"]
    for name in ARCHITECTURES:
        scores, _ = network(name, arrays).forward(x)
        print(f"{name}: {100 * np.mean(scores.argmax(axis=1) == labels):.2f} % of {len(x)} test images")
    print(f"sha256 {hashlib.sha256(Path(path).read_bytes()).hexdigest()}  {path}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except BitkilnError as problem:
        print(problem, file=sys.stderr)
        sys.exit(problem.exit_code)
