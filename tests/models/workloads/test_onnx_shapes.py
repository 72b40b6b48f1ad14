"""ONNX import: shapes and weights give what the reference evaluator computes; what is not understood is named."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from bitkiln.models.errors import MISSING_TOOL, BitkilnError
from bitkiln.models.workloads.layers import im2col
from bitkiln.models.workloads.onnx_shapes import import_onnx


@pytest.fixture
def onnx():
    return pytest.importorskip("onnx", reason="onnx is not installed: pip install 'bitkiln[onnx]'")


class Builder:
    """A model of a few operators; arrays become initializers."""

    def __init__(self, onnx, path):
        self.onnx, self.path, self.nodes, self.constants = onnx, path, [], {}
        self.rng = np.random.default_rng(3)

    def array(self, name: str, *shape: int) -> str:
        self.constants[name] = self.rng.normal(0, 1, shape).astype(np.float32)
        return name

    def add(self, op: str, *inputs: str, out: str, **attributes) -> str:
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def save(self, inputs: dict[str, tuple], output: str, opset: int = 17):
        helper, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(output, kind, None)],
            [self.onnx.numpy_helper.from_array(array, name) for name, array in self.constants.items()])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        self.onnx.save(model, str(self.path))
        return self.path

    def run(self, **inputs: np.ndarray) -> np.ndarray:
        from onnx.reference import ReferenceEvaluator
        return ReferenceEvaluator(str(self.path)).run(None, inputs)[0]


@pytest.fixture
def build(onnx, tmp_path):
    return Builder(onnx, tmp_path / "net.onnx")


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_with_open_batch(build, groups) -> None:
    weight = build.array("w", 8, 4 // groups, 3, 3)
    build.add("Conv", "x", weight, build.array("b", 8), out="y", strides=[2, 2], pads=[1, 1, 1, 1], group=groups)
    path = build.save({"x": ("batch", 4, 9, 7)}, "y")
    found = import_onnx(path, batch=3)
    (layer,) = found.workload.layers
    assert found.workload.batch == 3 and "batch = 3" in found.workload.source
    assert layer.count == groups and layer.kind == ("depthwise" if groups == 4 else "conv")
    x = np.random.default_rng(0).normal(size=(3, 4, 9, 7)).astype(np.float32)
    expected = build.run(x=x)
    windows = im2col(x, 3, 2, 1)
    assert layer.m == np.prod(windows.shape[:3])
    parts = windows.reshape(layer.m, groups, layer.k)
    weights = found.weights["y"].reshape(groups, layer.n, layer.k)
    ours = np.einsum("mgk,gnk->mgn", parts, weights).reshape(*windows.shape[:3], 8) + found.biases["y"]
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), expected, atol=1e-4)
    assert layer.outputs == expected.size and layer.inputs == x.size


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_padding_has_the_outputs_of_the_standard(build, auto, stride) -> None:
    build.add("Conv", "x", build.array("w", 2, 3, 4, 4), out="y", strides=[stride, stride], auto_pad=auto)
    path = build.save({"x": (1, 3, 10, 11)}, "y")
    (layer,) = import_onnx(path).workload.layers
    x = np.ones((1, 3, 10, 11), np.float32)
    expected = build.run(x=x)
    assert layer.outputs == expected.size
    # where padding lies shows in sums over a window of ones
    geometry, kernel = layer.conv, build.constants["w"]
    padded = np.pad(x, ((0, 0), (0, 0), geometry.padding[::2], geometry.padding[1::2]))
    ours = im2col(padded, 4, stride) @ kernel.reshape(2, -1).T
    np.testing.assert_allclose(ours.transpose(0, 3, 1, 2), expected, atol=1e-4)


def test_one_dimensional_and_transposed_convolutions(build) -> None:
    build.add("Conv", "x", build.array("w1", 6, 5, 3), out="y1", strides=[2], pads=[2, 1])
    build.add("Reshape", "y1", "shape", out="r")
    build.constants["shape"] = np.array([1, 6, 2, 5], np.int64)
    build.add("ConvTranspose", "r", build.array("w2", 6, 3, 2, 2), out="y2", strides=[2, 2])
    found = import_onnx(build.save({"x": (1, 5, 19)}, "y2"))
    first, second = found.workload.layers
    assert (first.m, first.k, first.n) == (10, 15, 6) and not found.unsupported
    x = np.random.default_rng(0).normal(size=(1, 5, 19)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x[0], ((0, 0), (2, 1))), 3, axis=1)[:, ::2]
    middle = (windows.transpose(1, 0, 2).reshape(10, 15) @ found.weights["y1"].T).T
    # rows are pixels; a product of each pixel with all taps lands in its own 2 x 2 place
    taps = (middle.T @ found.weights["y2"].T).reshape(2, 5, 3, 2, 2)
    ours = taps.transpose(2, 0, 3, 1, 4).reshape(1, 3, 4, 10)
    np.testing.assert_allclose(ours, build.run(x=x), atol=1e-4)
    assert first.conv.padding == (0, 2, 0, 1)
    assert (second.m, second.k, second.n, second.outputs) == (10, 6, 12, ours.size)


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 1)])
def test_gemm(build, trans_a, trans_b) -> None:
    build.add("Gemm", "x", build.array("w", *((6, 5) if trans_b else (5, 6))), build.array("b", 6), out="y",
              transA=trans_a, transB=trans_b, alpha=0.5, beta=2.0)
    found = import_onnx(build.save({"x": (5, 4) if trans_a else (4, 5)}, "y"))
    (layer,) = found.workload.layers
    assert (layer.m, layer.k, layer.n, layer.layer_class) == (4, 5, 6, "last")
    x = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    ours = x @ found.weights["y"].T + found.biases["y"]
    np.testing.assert_allclose(ours, build.run(x=x.T if trans_a else x), atol=1e-5)


def test_transformer_like_products(build) -> None:
    query = build.add("MatMul", "x", build.array("wq", 8, 8), out="q")
    build.add("Transpose", query, out="qt", perm=[0, 2, 1])
    build.add("MatMul", query, "qt", out="scores")
    build.add("Softmax", "scores", out="p", axis=-1)
    build.add("MatMul", "p", query, out="v")
    build.add("MatMul", build.array("mix", 7, 5), "v", out="mixed")
    build.add("MatMul", "mixed", build.array("heads", 2, 8, 3), out="y")
    path = build.save({"x": ("batch", "sequence", 8)}, "y")
    found = import_onnx(path, batch=2, dims={"sequence": 5})
    shapes = {layer.name: (layer.m, layer.k, layer.n, layer.count, layer.kind) for layer in found.workload.layers}
    assert shapes == {"q": (10, 8, 8, 1, "linear"), "scores": (5, 8, 5, 2, "attention"),
                      "v": (5, 5, 8, 2, "attention"), "mixed": (16, 5, 7, 1, "linear"), "y": (7, 8, 3, 2, "linear")}
    classes = [layer.layer_class for layer in found.workload.layers]
    assert classes == ["first", "attention", "attention", "body", "last"]
    assert sorted(found.weights) == ["mixed", "q", "y"] and found.weights["y"].shape == (2, 3, 8)
    x = np.random.default_rng(0).normal(0, 0.1, size=(2, 5, 8)).astype(np.float32)
    q = x @ found.weights["q"].T
    p = np.exp(q @ q.transpose(0, 2, 1))
    mixed = found.weights["mixed"] @ (p / p.sum(-1, keepdims=True) @ q)
    ours = np.einsum("bmk,bnk->bmn", mixed, found.weights["y"])
    np.testing.assert_allclose(ours, build.run(x=x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("opset", [17, 21])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weights_behind_operators_on_constants(build, axis, opset) -> None:
    channels = () if axis is None else (4, 5)[axis:axis + 1]
    scale = np.linspace(0.25, 1, 5, dtype=np.float32)[:channels[0]] if channels else np.array(0.25, np.float32)
    build.constants |= {"codes": np.arange(-10, 10, dtype=np.int8).reshape(4, 5), "scale": scale,
                        "zero": np.full(channels, 3, np.int8)}
    build.add("DequantizeLinear", "codes", "scale", "zero", out="values", **({"axis": 0} if axis == 0 else {}))
    build.add("Transpose", "values", out="wt", perm=[1, 0])
    build.add("MatMul", "x", "wt", out="y")
    found = import_onnx(build.save({"x": (2, 5)}, "y", opset))
    steps = scale.reshape(-1, 1) if axis == 0 else scale        # axis 1 is the default
    np.testing.assert_array_equal(found.weights["y"], (np.arange(-10, 10).reshape(4, 5) - 3) * steps)
    assert not found.unsupported and found.workload.layers[0].has_weights


def test_constants_that_cannot_be_evaluated_are_still_weights(build) -> None:
    build.constants |= {"codes": np.zeros((4, 6), np.int8), "scale": np.ones((4, 3), np.float32)}
    build.add("DequantizeLinear", "codes", "scale", out="values", axis=1, block_size=2)
    build.add("MatMul", "x", "values", out="y")
    found = import_onnx(build.save({"x": (2, 4)}, "y", 21))
    assert found.workload.weights == 24 and not found.weights
    assert found.unsupported == ("MatMul (y): shape counted, weights not computed",)


def test_what_is_not_understood_is_named(build) -> None:
    build.add("Relu", "x", out="r")
    build.add("MatMul", "r", build.array("w", 6, 6), out="m")
    build.add("Einsum", "m", build.array("e", 6, 4), out="y", equation="ij,jk->ik")
    found = import_onnx(build.save({"x": (3, 6)}, "y"))
    assert len(found.workload.layers) == 1
    assert found.unsupported == ("Einsum (y): not supported",)
    only = Builder(build.onnx, build.path)
    only.add("Einsum", "x", only.array("e", 6, 4), out="y", equation="ij,jk->ik")
    with pytest.raises(BitkilnError, match=r"no layers at .*Einsum \(y\): not supported"):
        import_onnx(only.save({"x": (3, 6)}, "y"))
    deep = Builder(build.onnx, build.path)
    deep.add("Conv", "x", deep.array("w", 2, 1, 2, 2, 2), out="c")
    deep.add("Flatten", "c", out="f")
    deep.add("Gemm", "f", deep.array("g", 16, 3), out="y")
    found = import_onnx(deep.save({"x": (1, 1, 3, 3, 3)}, "y"))
    assert found.unsupported == ("Conv (c): 3-dimensional convolution",)


def test_sizes_that_a_file_stores_give_way_to_the_chosen_ones(build) -> None:
    build.add("Transpose", "x", out="t", perm=[0, 2, 1])
    build.add("MatMul", "t", build.array("w", 3, 6), out="y")
    path = build.save({"x": ("batch", 3, "length")}, "y")
    model = build.onnx.shape_inference.infer_shapes(build.onnx.load(str(path)))
    assert [value.name for value in model.graph.value_info] == ["t"]
    stored = model.graph.value_info[0].type.tensor_type.shape.dim
    stored[1].dim_value = 4       # a size from an export with other inputs
    build.onnx.save(model, str(path))
    layer = import_onnx(path, batch=2, dims={"length": 7}).workload.layers[0]
    assert (layer.m, layer.k, layer.n) == (14, 3, 6)


def test_names_used_twice_are_numbered(build) -> None:
    for place, name in enumerate(("x", "y0", "y1")):
        build.add("MatMul", name, build.array(f"w{place}", 6, 6), out=f"y{place}")
        build.nodes[-1].name = "same" if place < 2 else ""
    found = import_onnx(build.save({"x": (3, 6)}, "y2"))
    assert [layer.name for layer in found.workload.layers] == ["same", "same#2", "MatMul_2"]
    for place, name in enumerate(("same", "same#2", "MatMul_2")):
        np.testing.assert_array_equal(found.weights[name], build.constants[f"w{place}"].T)


def test_open_dimensions_need_a_size(build) -> None:
    build.add("MatMul", "x", build.array("w", 8, 8), out="y")
    path = build.save({"x": ("batch", "sequence", 8)}, "y")
    with pytest.raises(BitkilnError, match=r'open dimensions .*got \'sequence\'.*\n.*dims=\{"sequence": ...\}'):
        import_onnx(path)
    with pytest.raises(BitkilnError, match="no such open dimension .*got 'sequences'"):
        import_onnx(path, dims={"sequence": 4, "sequences": 4})
    with pytest.raises(BitkilnError, match="out of range at dims sequence"):
        import_onnx(path, dims={"sequence": 0})
    named = import_onnx(path, dims={"sequence": 4, "batch": 6})
    assert named.workload.batch == 6 and named.workload.layers[0].m == 24


def test_weights_in_another_file(build) -> None:
    build.add("MatMul", "x", build.array("w", 64, 64), out="y")
    path = build.save({"x": (3, 64)}, "y")
    model = build.onnx.load(str(path))
    path.unlink()
    build.onnx.save_model(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    np.testing.assert_array_equal(import_onnx(path).weights["y"], build.constants["w"].T)
    (path.parent / "w.bin").unlink()
    with pytest.raises(BitkilnError, match=r"weights in another file.*\n.*weights=False"):
        import_onnx(path)
    shapes = import_onnx(path, weights=False)
    assert shapes.weights == {} and shapes.unsupported == () and shapes.workload.macs == 3 * 64 * 64


def test_what_is_no_onnx_file_is_refused(onnx, tmp_path) -> None:
    with pytest.raises(BitkilnError, match="cannot read"):
        import_onnx(tmp_path / "none.onnx")
    for content in (b"", b"hello, this is no protobuf"):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(BitkilnError, match="not an ONNX file"):
            import_onnx(tmp_path / "bad.onnx")


def test_without_the_package_the_command_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BitkilnError, match=r"pip install 'bitkiln\[onnx\]'") as found:
        import_onnx(tmp_path / "net.onnx")
    assert found.value.exit_code == MISSING_TOOL
