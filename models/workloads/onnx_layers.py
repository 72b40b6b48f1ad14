"""ONNX operators with matrix products, each as a layer shape with its weights. The package ``onnx`` is not imported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from ..errors import BitkilnError
from .shapes import ConvGeometry, LayerShape, conv

__all__ = ["LAYERS", "PASSED", "NodeLayer", "NotUnderstood", "Tensors"]

# Operators without products of activations and weights: element by element, pooling, moves, sums along an axis.
_PASSED = """
Abs Acos Add And ArgMax ArgMin Atan AveragePool BatchNormalization BitShift Cast CastLike Ceil Celu Clip Concat
Constant ConstantOfShape Cos CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp
Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN LRN LayerNormalization
LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization LpPool Max MaxPool Mean Min Mish Mod Mul Neg NonZero Not
OneHot Or PRelu Pad Pow QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Size
Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose
Trilu Unsqueeze Upsample Where Xor
"""
PASSED = frozenset(_PASSED.split())


class NotUnderstood(Exception):
    """An operator that is not counted; the text says why."""


class Tensors(Protocol):
    """What a layer needs of the graph around it."""

    def constant(self, name: str) -> np.ndarray | None: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def attribute(self, node: Any, name: str, default: Any = None) -> Any: ...


@dataclass(frozen=True)
class NodeLayer:
    """A layer with its weights ((n, k) or (count, n, k)) and bias, None where it has none."""

    shape: LayerShape
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None


def _weights(node: Any, tensors: Tensors, place: int = 1) -> np.ndarray:
    found = tensors.constant(node.input[place])
    if found is None:
        raise NotUnderstood("weights are no constant")
    return found


def _bias(node: Any, tensors: Tensors, place: int = 2) -> np.ndarray | None:
    if len(node.input) <= place or not node.input[place]:
        return None
    found = tensors.constant(node.input[place])
    return None if found is None else found.reshape(-1)


def _planes(values: Sequence[int], default: int) -> tuple[int, int]:
    """Attribute of one or two axes as (rows, columns)."""
    values = list(values) if values else []
    return (default, values[0]) if len(values) == 1 else (values[0], values[1]) if values else (default, default)


def _padding(node: Any, tensors: Tensors, size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int],
             dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    auto = tensors.attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        before, after = [], []
        for side, taps, step, gap in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-side // step) - 1) * step + gap * (taps - 1) + 1 - side, 0)
            less, more = total // 2, total - total // 2
            before.append(less if auto == "SAME_UPPER" else more)
            after.append(more if auto == "SAME_UPPER" else less)
        return before[0], before[1], after[0], after[1]
    pads = [] if auto == "VALID" else list(tensors.attribute(node, "pads") or [])
    if len(pads) == 2:
        return 0, pads[0], 0, pads[1]
    if any(pad < 0 for pad in pads):
        raise NotUnderstood("negative padding")
    return (pads[0], pads[1], pads[2], pads[3]) if pads else (0, 0, 0, 0)


def _conv(name: str, node: Any, tensors: Tensors) -> NodeLayer:
    weights, shape = _weights(node, tensors), tensors.shape(node.input[0])
    if len(shape) not in (3, 4):
        raise NotUnderstood(f"{len(shape) - 2}-dimensional convolution")
    images, channels, *sides = shape
    size = (1, sides[0]) if len(sides) == 1 else (sides[0], sides[1])
    kernel = _planes(weights.shape[2:], 1)
    stride = _planes(tensors.attribute(node, "strides"), 1)
    dilation = _planes(tensors.attribute(node, "dilations"), 1)
    groups = tensors.attribute(node, "group", 1)
    try:
        geometry = ConvGeometry(*size, channels, weights.shape[0], kernel, stride,
                                _padding(node, tensors, size, kernel, stride, dilation), dilation, groups)
    except BitkilnError as error:
        raise NotUnderstood(error.render().removeprefix("error: ")) from None
    terms = prod(weights.shape[1:])
    rows = weights.reshape((groups, -1, terms) if groups > 1 else (-1, terms))
    return NodeLayer(conv(name, geometry, batch=images), rows, _bias(node, tensors))


def _conv_transpose(name: str, node: Any, tensors: Tensors) -> NodeLayer:
    """Every input pixel times every filter tap; sums of overlapping taps are additions, no products."""
    weights, sizes = _weights(node, tensors), tensors.shape(node.input[0])
    images, channels, *sides = sizes
    groups = tensors.attribute(node, "group", 1)
    each = channels // groups
    filters = weights.shape[1]
    rows = weights.reshape(groups, each, -1).transpose(0, 2, 1)     # (groups, filters x taps, channels)
    pixels = images * prod(sides)
    shape = LayerShape(name, pixels, each, rows.shape[1], groups, "conv", inputs=pixels * channels,
                       outputs=_outputs(node, tensors, pixels * filters * groups))
    return NodeLayer(shape, rows if groups > 1 else rows[0], _bias(node, tensors))


def _outputs(node: Any, tensors: Tensors, default: int) -> int:
    try:
        return prod(tensors.shape(node.output[0]))
    except NotUnderstood:
        return default


def _gemm(name: str, node: Any, tensors: Tensors) -> NodeLayer:
    left = tensors.shape(node.input[0])
    rows, terms = left[::-1] if tensors.attribute(node, "transA", 0) else left
    transposed = tensors.attribute(node, "transB", 0)
    weights = tensors.constant(node.input[1])
    if weights is None:
        right = tensors.shape(node.input[1])
        outputs = right[0] if transposed else right[1]
        return NodeLayer(LayerShape(name, rows, terms, outputs, 1, "attention", "attention"))
    weights = weights if transposed else weights.T
    alpha, beta = tensors.attribute(node, "alpha", 1.0), tensors.attribute(node, "beta", 1.0)
    bias = _bias(node, tensors)
    return NodeLayer(LayerShape(name, rows, terms, weights.shape[0]), weights if alpha == 1 else weights * alpha,
                     bias if bias is None or beta == 1 else bias * beta)


def _matmul(name: str, node: Any, tensors: Tensors) -> NodeLayer:
    """Products of the last two axes; the constant side is stationary, wherever it stands."""
    left, right = (tensors.shape(node.input[side]) for side in (0, 1))
    left = left if len(left) > 1 else (1, *left)
    right = right if len(right) > 1 else (*right, 1)
    rows, terms, outputs = left[-2], left[-1], right[-1]
    try:
        count = prod(np.broadcast_shapes(left[:-2], right[:-2]))
    except ValueError:
        raise NotUnderstood(f"shapes {left} and {right} do not fit") from None
    first, second = (tensors.constant(node.input[side]) for side in (0, 1))
    if second is not None:
        weights, moving, m, n = np.swapaxes(second.reshape(right), -1, -2), left, rows, outputs
    elif first is not None:     # W @ x is (x^T W^T)^T: the rows of the constant are the outputs
        weights, moving, m, n = first.reshape(left), right, outputs, rows
    else:
        shape = LayerShape(name, rows, terms, outputs, count, "attention", "attention", inputs=prod(left),
                           weights=prod(right))
        return NodeLayer(shape)
    products = prod(weights.shape[:-2])
    if products not in (1, count):
        raise NotUnderstood("weights shared by some of the products")
    weights = weights.reshape(n, terms) if products == 1 else weights.reshape(count, n, terms)
    shape = LayerShape(name, m * (count // products), terms, n, products, inputs=prod(moving))
    return NodeLayer(shape, weights)


LAYERS: dict[str, Callable[[str, Any, Tensors], NodeLayer]] = {
    "Conv": _conv, "ConvTranspose": _conv_transpose, "Gemm": _gemm, "MatMul": _matmul}
