"""A network as plain data: a list of layers, each of them one matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BitkilnError

__all__ = ["Layer", "Network", "im2col"]


def im2col(x: np.ndarray, kernel: int, stride: int = 1, padding: int = 0, zero: object = 0) -> np.ndarray:
    """Windows of a batch of images as rows of a matrix.

    Parameters
    ----------
    x : ndarray, shape (images, channels, height, width)
        Values or codes.
    kernel, stride, padding : int
        Square window, same step in both directions, padding on all four sides.
    zero : scalar
        What padding holds (the code of zero where ``x`` holds codes).

    Returns
    -------
    ndarray, shape (images, rows, columns, channels * kernel * kernel)
        The last axis runs over channel, then window row, then window column.
    """
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)), constant_values=zero)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]
    images, channels, rows, columns = windows.shape[:4]
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(images, rows, columns, channels * kernel * kernel)


@dataclass(frozen=True)
class Layer:
    """``y = x W^T + b`` for every row ``x``; a convolution's rows are its windows.

    Parameters
    ----------
    name : str
    weight : ndarray, shape (outputs, K)
    bias : ndarray, shape (outputs,)
    kernel : int
        0 for a fully connected layer, else the side of the window.
    stride, padding : int
        For convolutions.
    relu : bool
        Whether ``max(y, 0)`` follows.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    kernel: int = 0
    stride: int = 1
    padding: int = 0
    relu: bool = True

    def __post_init__(self):
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise BitkilnError("shape mismatch", where=f"layer {self.name}",
                               got=(self.weight.shape, self.bias.shape),
                               expected="weight (outputs, K) and bias (outputs,)")

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def terms(self) -> int:
        """Products per output value (K)."""
        return self.weight.shape[1]

    def rows(self, x: np.ndarray, zero: object = 0) -> np.ndarray:
        """The matrix of operand rows, shape (rows, K), of activations or activation codes ``x``."""
        if self.kernel:
            x = im2col(x, self.kernel, self.stride, self.padding, zero)
        else:
            x = x.reshape(len(x), -1)
        if x.shape[-1] != self.terms:
            raise BitkilnError("wrong number of inputs", where=f"layer {self.name}", got=x.shape[-1],
                               expected=f"{self.terms}")
        return x.reshape(-1, self.terms)

    def fold(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Rows of results (rows, outputs) back in the layout of the next layer's input.

        ``x`` is this layer's input; a convolution gives (images, outputs, height, width).
        """
        if not self.kernel:
            return y
        side = [(extent + 2 * self.padding - self.kernel) // self.stride + 1 for extent in x.shape[2:]]
        return y.reshape(len(x), *side, self.outputs).transpose(0, 3, 1, 2)


@dataclass(frozen=True)
class Network:
    """Layers in order; the last one's outputs are the class scores."""

    name: str
    layers: tuple[Layer, ...]

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Float64 inference.

        Parameters
        ----------
        x : ndarray, shape (images, channels, height, width)

        Returns
        -------
        scores : ndarray, shape (images, classes)
        inputs : list of ndarray
            What each layer saw, for calibration.
        """
        x, inputs = np.asarray(x, np.float64), []
        for layer in self.layers:
            inputs.append(x)
            y = layer.rows(x) @ layer.weight.astype(np.float64).T + layer.bias
            x = layer.fold(np.maximum(y, 0) if layer.relu else y, x)
        return x, inputs
