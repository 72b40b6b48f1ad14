"""The digits MLP through the bit-serial array's RTL, a weight type for each layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.models.workloads import digits
from bitkiln.models.workloads.bitserial import EngineMatrix, matmul, product_of, quantise_for

from .bitserial_network import RtlProduct

__all__ = ["SerialDigits", "run_serial_digits"]


@dataclass(frozen=True)
class SerialDigits:
    """Accuracies (share of images) and what the RTL did; every result and cycle was compared on the way."""

    images: int
    types: tuple[str, ...]
    float_accuracy: float
    golden_accuracy: float
    rtl_accuracy: float
    bits_per_weight: float
    results: int
    cycles: int
    products: int

    @property
    def products_per_cycle(self) -> float:
        return self.products / self.cycles


def run_serial_digits(product: RtlProduct, design, types: tuple[int, int], images: int) -> SerialDigits:
    """Hidden and output layer in the weight types of these indices; biases and ReLU between them in float64.

    Raises
    ------
    BitkilnError
        Exit code 1 where RTL and golden model differ.
    """
    data = digits.load()
    network = data.network("mlp")
    x, labels = digits.scale_images(data.images[:images]), data.labels[:images]
    layers = [(layer, EngineMatrix(design, quantise_for(design, index, layer.weight, layer.name)))
              for layer, index in zip(network.layers, (types * len(network.layers))[:len(network.layers)], strict=True)]
    before = (product.results, product.cycles, product.products)

    def forward(multiply) -> np.ndarray:
        values = x.reshape(len(x), -1)
        # int8 activations need a scale of their own; floats take the values as they are.
        for layer, matrix in layers:
            integer = design.activation.family == "int"
            scale = np.abs(values).max() / 127 if integer else 1.0
            codes = design.activation.encode(values / scale).astype(np.int64)
            y = product_of(matrix, codes, multiply(matrix, codes, layer.name)) * scale + layer.bias
            values = np.maximum(y, 0) if layer.relu else y
        return values

    accuracy = [float(np.mean(scores.argmax(axis=1) == labels)) for scores in (
        network.forward(x)[0], forward(lambda m, codes, name: matmul(m, codes)), forward(product.matmul))]
    weights = sum(matrix.quantised.codes.size for _, matrix in layers)
    stored = sum(sum(matrix.quantised.bits.values()) for _, matrix in layers)
    done = [after - start for after, start in zip((product.results, product.cycles, product.products), before,
                                                  strict=True)]
    return SerialDigits(images, tuple(design.weights[i].name for i in types), *accuracy, stored / weights, *done)
