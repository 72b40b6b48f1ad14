"""Shapes and constants of an ONNX graph; operators on constants are evaluated. The package ``onnx`` is handed in."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from .onnx_layers import NotUnderstood

__all__ = ["OnnxGraph"]

# Operators whose result is known when their inputs are constants: where exporters put weights through.
FOLDED = ("Cast", "Concat", "DequantizeLinear", "Div", "Identity", "Mul", "Reshape", "Shape", "Slice", "Squeeze",
          "Transpose", "Unsqueeze", "Gather", "Add", "Sub", "Range")
MOST_FOLDED = 1 << 28     # bytes of a folded constant's inputs


class OnnxGraph:
    """Shapes and constants by tensor name; ``opaque`` are constants of which the shape alone is known."""

    def __init__(self, onnx: ModuleType, model: Any):
        self.onnx, self.graph = onnx, model.graph
        self.opsets = list(model.opset_import)
        self.constants: dict[str, np.ndarray] = {each.name: self._array(each) for each in self.graph.initializer}
        self.opaque = {each.name for each in self.graph.initializer if self._is_elsewhere(each)}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for value in (*self.graph.input, *self.graph.value_info, *self.graph.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape"):
                sizes = tuple(dim.dim_value for dim in tensor.shape.dim)
                if all(sizes):
                    self._shapes[value.name] = sizes

    @staticmethod
    def _is_elsewhere(tensor: Any) -> bool:
        return tensor.data_location == tensor.EXTERNAL and not tensor.HasField("raw_data")

    def _array(self, tensor: Any) -> np.ndarray:
        if self._is_elsewhere(tensor):
            return np.broadcast_to(np.float32(0), tuple(tensor.dims))       # shape alone, no memory
        return self.onnx.numpy_helper.to_array(tensor)

    def constant(self, name: str) -> np.ndarray | None:
        return self.constants.get(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor; `NotUnderstood` where they are not known."""
        if name in self.constants:
            return self.constants[name].shape
        if name not in self._shapes:
            raise NotUnderstood(f"shape of {name} not known")
        return self._shapes[name]

    def attribute(self, node: Any, name: str, default: Any = None) -> Any:
        for each in node.attribute:
            if each.name == name:
                value = self.onnx.helper.get_attribute_value(each)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def fold(self, node: Any) -> bool:
        """Evaluate an operator on constants; whether its results are constants now."""
        if node.op_type == "Constant":
            value = self.attribute(node, "value")
            if value is not None:
                self.constants[node.output[0]] = self.onnx.numpy_helper.to_array(value)
            return True
        inputs = [name for name in node.input if name]
        if node.op_type not in FOLDED or not inputs or any(name not in self.constants for name in inputs):
            return False
        results = None
        if not self.opaque.intersection(inputs) and sum(self.constants[name].nbytes for name in inputs) < MOST_FOLDED:
            results = self._evaluate(node, inputs)
        if results is None:     # it is a constant all the same: a layer must not take it for an activation
            try:
                results = [np.broadcast_to(np.float32(0), self.shape(name)) for name in node.output]
            except NotUnderstood:
                return False
            self.opaque.update(node.output)
        self.constants.update(zip(node.output, results, strict=True))
        return True

    def _evaluate(self, node: Any, inputs: list[str]) -> list[np.ndarray] | None:
        values = {name: self.constants[name] for name in inputs}
        if node.op_type == "DequantizeLinear":      # the evaluator knows it from opset 19 only
            return self._dequantised(node, *values.values())
        from onnx.reference import ReferenceEvaluator
        helper = self.onnx.helper
        graph = helper.make_graph([node], "fold", [helper.make_empty_tensor_value_info(name) for name in inputs],
                                  [helper.make_empty_tensor_value_info(name) for name in node.output])
        try:
            found = ReferenceEvaluator(helper.make_model(graph, opset_imports=self.opsets)).run(None, values)
        except Exception:       # whatever the evaluator cannot do
            return None
        return [np.asarray(each) for each in found]

    def _dequantised(self, node: Any, codes: np.ndarray, scale: np.ndarray,
                     zero: np.ndarray | None = None) -> list[np.ndarray] | None:
        if scale.size > 1:
            if scale.ndim != 1 or self.attribute(node, "block_size", 0):
                return None
            along = [1] * codes.ndim
            along[self.attribute(node, "axis", 1)] = -1
            scale, zero = scale.reshape(along), None if zero is None else zero.reshape(along)
        values = codes.astype(np.float32)
        return [((values if zero is None else values - zero.astype(np.float32)) * scale).astype(scale.dtype)]
