"""A trained network with NF4 weights, every product of its layers made by the RTL of the codebook array."""

from __future__ import annotations

import numpy as np

from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.golden.codebook_array import product_stream, results_of
from bitkiln.models.workloads import digits

from .codebook_array_check import check_array, nf4_product
from .streams import StreamModel

__all__ = ["RtlProduct", "run_array_digits"]

BLOCK = 64


class RtlProduct:
    """Matrix products by the RTL, each compared with the golden model in bits and cycles.

    Attributes
    ----------
    results, cycles, stalls : int
        So far.
    """

    def __init__(self, design: CodebookArrayDesign, model: StreamModel):
        self.design, self.model = design, model
        self.results = self.cycles = self.stalls = 0

    def __call__(self, x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``x @ q.T`` for real activations (M, K) and weights (N, K); also the quantised weights ``q``."""
        design, fmt = self.design, self.design.activation
        # Formats with a large range are used around 1, where most of them are finest.
        largest = fmt.max if fmt.family in ("int", "fixed") or fmt.bits == 4 else 1.0
        unit = np.abs(x).max() / largest or 1.0
        a = fmt.encode(x / unit, overflow="saturate").astype(np.int64)
        books, product, quantised = nf4_product(design, a, weights, min(BLOCK, weights.shape[1], design.block))
        run, values = check_array(design, self.model, books, product_stream(design, product))
        self.results += values.size
        self.cycles += int(run.cycles["o"][-1]) + 1
        self.stalls += int(run.ports["stalls"])
        return results_of(design, product, values).view(np.float32).astype(np.float64) * unit, quantised


def run_array_digits(design: CodebookArrayDesign, product: RtlProduct, images: int) -> tuple[float, float, float]:
    """Accuracy of the digits MLP: float, float activations with quantised weights, through the RTL."""
    data = digits.load()
    network = data.network("mlp")
    x, labels = digits.scale_images(data.images[:images]), data.labels[:images]
    through = plain = x.reshape(len(x), -1)
    for layer in network.layers:
        found, quantised = product(through, layer.weight)
        through, plain = found + layer.bias, plain @ quantised.T + layer.bias
        if layer.relu:
            through, plain = np.maximum(through, 0), np.maximum(plain, 0)
    scores = (network.forward(x)[0], plain, through)
    exact, quantised_accuracy, rtl = (float(np.mean(score.argmax(axis=1) == labels)) for score in scores)
    return exact, quantised_accuracy, rtl
