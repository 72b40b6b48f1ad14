"""The digits data file, its float networks and their quantised golden runs."""

import hashlib

import numpy as np
import pytest

from bitkiln.models.design.dot import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import digits
from bitkiln.models.workloads.layers import Layer, Network, im2col
from bitkiln.models.workloads.matmul import matmul_by_dot
from bitkiln.models.workloads.quantised import quantise_network

SHA256 = "312ea99bd21ce0c89e4583e2f8077b1ea67360f80c389460dc026cd9079865a3"
DATA = digits.load()
IMAGES, CALIBRATION = digits.scale_images(DATA.images), digits.scale_images(DATA.calibration)


def accuracy(scores):
    return 100 * np.mean(scores.argmax(axis=1) == DATA.labels)


def test_data_file():
    assert hashlib.sha256(digits.DATA.read_bytes()).hexdigest() == SHA256
    assert DATA.images.shape == (360, 8, 8) and DATA.images.dtype == np.uint8 and DATA.images.max() == 16
    assert sorted(set(DATA.labels)) == list(range(10))
    assert digits.DATA.with_name("SOURCE").read_text().count("CC BY 4.0") == 1


def test_training_makes_the_same_file(tmp_path):
    pytest.importorskip("sklearn", reason="the train extra is not installed")
    from bitkiln.models.workloads.train_digits import main

    main(tmp_path / "digits.npz")
    assert hashlib.sha256((tmp_path / "digits.npz").read_bytes()).hexdigest() == SHA256


def test_gradients_are_derivatives():
    from bitkiln.models.workloads.train_digits import gradients

    x, labels = IMAGES[:5], DATA.labels[:5]
    for name in digits.NETWORKS:
        arrays = {}
        for layer in DATA.networks[name].layers:
            arrays[f"{layer.name}.weight"] = layer.weight.astype(np.float64)
            arrays[f"{layer.name}.bias"] = layer.bias.astype(np.float64)

        def loss(arrays=arrays, name=name):
            scores, _ = digits.network(name, arrays).forward(x)
            scores = scores - scores.max(axis=1, keepdims=True)
            return np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(5), labels])

        found = gradients(digits.network(name, arrays), x, labels)
        for (key, array), gradient in zip(arrays.items(), found, strict=True):
            at = np.unravel_index(np.abs(gradient).argmax(), array.shape)
            before = array[at]
            array[at] = before + 1e-5
            above = loss()
            array[at] = before - 1e-5
            below = loss()
            array[at] = before
            assert (above - below) / 2e-5 == pytest.approx(gradient[at], rel=1e-3, abs=1e-7), key


@pytest.mark.parametrize(("name", "least"), [("mlp", 96), ("cnn", 97)])
def test_float_accuracy(name, least):
    assert accuracy(DATA.network(name).forward(IMAGES)[0]) >= least


# Measured on all 360 images, minus one or two points.
@pytest.mark.parametrize(("pe", "mlp", "cnn"), [
    ("int8", 96.5, 97), ("int4", 94.5, 96), ("fp4", 94.5, 94.5), ("fp8_e4m3", 96.5, 96.5),
    ("fp8_e5m2", 96, 97), ("posit8_0", 96.5, 97), ("posit16_1", 96.5, 97), ("posit4_1", 88, 90),
    ("int8xfp4", 96, 96), ("bf16xint4", 96, 96), ("int2", 55, 30), ("ternary", 45, 25)])
def test_golden_accuracy(pe, mlp, cnn):
    design = DotDesign.from_pe(pe)
    for name, least in (("mlp", mlp), ("cnn", cnn)):
        scores, runs = quantise_network(DATA.network(name), design, CALIBRATION).forward(IMAGES)
        assert accuracy(scores) >= least, name
        if pe == "int8":
            exact, _ = DATA.network(name).forward(IMAGES)
            assert abs(accuracy(scores) - accuracy(exact)) <= 2
        assert [run.macs for run in runs] == [
            run.codes.shape[0] * run.codes.shape[1] * run.result.acc.shape[1] for run in runs]


@pytest.mark.parametrize("pe", ["fp4", "posit16_1", "bf16xint4"])
def test_slow_and_fast_paths_agree(pe):
    """Every accumulator of a few images through golden.dot alone."""
    for name in digits.NETWORKS:
        quantised = quantise_network(DATA.network(name), DotDesign.from_pe(pe), CALIBRATION)
        scores, runs = quantised.forward(IMAGES[:3])
        slow_scores, slow_runs = quantised.forward(IMAGES[:3], matmul_by_dot)
        assert np.array_equal(scores, slow_scores)
        for run, slow in zip(runs, slow_runs, strict=True):
            assert np.array_equal(run.codes, slow.codes)
            assert np.array_equal(run.result.acc, slow.result.acc)


def test_lanes_do_not_change_exact_results():
    one, eight = (quantise_network(DATA.network("cnn"), DotDesign.from_pe("fp6_e3m2", lanes=n), CALIBRATION)
                  .forward(IMAGES[:20])[0] for n in (1, 8))
    assert np.array_equal(one, eight)


def test_convolution_by_hand():
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 27))
    layer = Layer("c", weight, np.zeros(4), kernel=3, stride=2, padding=1, relu=False)
    y, _ = Network("n", (layer,)).forward(x)
    assert y.shape == (2, 4, 3, 3)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for i in range(3):
        for j in range(3):
            window = padded[:, :, 2 * i:2 * i + 3, 2 * j:2 * j + 3].reshape(2, 27)
            assert np.allclose(y[:, :, i, j], window @ weight.T)
    corner = im2col(np.zeros((1, 1, 2, 2), int), 3, padding=1, zero=7)[0, 0, 0]
    assert corner.tolist() == [7, 7, 7, 7, 0, 0, 7, 0, 0]


def message(function, *arguments):
    with pytest.raises(BitkilnError) as caught:
        function(*arguments)
    return str(caught.value)


def test_refusals(tmp_path):
    assert message(DATA.network, "cmn") == (
        "error: unknown network at network: got 'cmn', expected mlp or cnn\nhelp: did you mean cnn?")
    mlp = DATA.network("mlp")
    shallow = DotDesign.from_pe("int8", accumulator=Accumulator(depth=32))
    assert message(quantise_network, mlp, shallow, CALIBRATION) == (
        "error: accumulator too shallow at layer mlp.hidden: got 32, "
        "expected a depth of at least 64 products\n"
        "help: raise accumulator.depth")
    spoiled = mlp.layers[0].weight.copy()
    spoiled[3, 4] = np.nan
    network = Network("mlp", (Layer("mlp.hidden", spoiled, mlp.layers[0].bias),))
    assert message(quantise_network, network, DotDesign("fp4", "fp4"), CALIBRATION) == (
        "error: NaN or Inf in tensor at mlp.hidden.weight[3, 4]: got nan, "
        "expected finite values (1 of 2048 are not)")
    assert message(Layer, "l", np.zeros((2, 3)), np.zeros(3)) == (
        "error: shape mismatch at layer l: got ((2, 3), (3,)), "
        "expected weight (outputs, K) and bias (outputs,)")
    assert message(mlp.layers[0].rows, np.zeros((2, 5))) == (
        "error: wrong number of inputs at layer mlp.hidden: got 5, expected 64")
