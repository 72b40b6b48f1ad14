"""The GRU in low-bit formats: the engine's fast products against its golden model, sizes, errors, accuracy."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.golden.bitserial import bitserial
from bitkiln.models.workloads import archive, g2p, g2p_serial, words
from bitkiln.models.workloads import bitserial as engine
from bitkiln.models.workloads.bitserial import EngineMatrix, design_for, matmul
from bitkiln.models.workloads.g2p_serial import FLOAT, RECIPES, QuantisedG2p, compare, engine_weights, paired, recipe

HIDDEN, EMBEDDING = 20, 36
ON_ENGINE = [name for name in RECIPES if name != "nf4"]


def random_net(seed=1):
    rng = np.random.default_rng(seed)
    shapes = {"enc_emb": (29, EMBEDDING), "dec_emb": (74, EMBEDDING), "fc_w": (74, HIDDEN), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * HIDDEN, EMBEDDING), f"{side}_w_hh": (3 * HIDDEN, HIDDEN),
                   f"{side}_b_ih": (3 * HIDDEN,), f"{side}_b_hh": (3 * HIDDEN,)}
    return g2p.G2p({name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})


@pytest.fixture(scope="module")
def net():
    return random_net()


@pytest.fixture(scope="module")
def files(tmp_path_factory, net):
    folder = tmp_path_factory.mktemp("g2p")
    archive.write(folder / "checkpoint.npz", dict(net.arrays))
    (folder / "words.dict").write_text("a AH0\na(2) EY1\nabc EY1 B IY1 S IY1\nbee B IY1\nkiln K IH1 L N\n")
    return {"checkpoint": folder / "checkpoint.npz", "dictionary": folder / "words.dict"}


def activations(fmt, shape, kind, rng):
    """Codes: states of tanh, or anything finite."""
    if kind.startswith("states"):
        return fmt.encode(rng.uniform(-1, 1, shape)).astype(np.int64)
    codes = rng.integers(0, 1 << fmt.bits, shape)
    largest = int(fmt.encode(np.array([fmt.max]))[0])
    return np.where(fmt.unpack(codes).special != 0, largest, codes)


@pytest.mark.parametrize("kind", ["states", "any", "states, in pieces"])
@pytest.mark.parametrize("name", ON_ENGINE)
def test_fast_products_equal_the_golden_model(name, kind, monkeypatch):
    """Several groups, the last one short; bit for bit, on either way of computing them."""
    rng = np.random.default_rng(3)
    rows, channels, columns = 3, 4, 300
    chosen = recipe(name)
    quantised = chosen.quantise("w", rng.standard_t(3, (channels, columns)))
    if chosen.weight_type:
        quantised = g2p_serial._stand_in(quantised, chosen.weight_type)
    matrix = EngineMatrix(design_for(quantised, rows=rows, columns=channels), quantised)
    codes = activations(matrix.design.activation, (rows, columns), kind, rng)
    expected = bitserial(matrix.design, matrix.tile(codes, np.arange(rows), np.arange(channels))).fp32
    taken = []
    short = engine._short
    monkeypatch.setattr(engine, "_short", lambda *given: taken.append(1) or short(*given))
    if kind.endswith("pieces"):
        monkeypatch.setattr(engine, "EXACT", 0)
    found = matmul(matrix, codes)
    if kind != "any" or matrix.design.scale == "uint8":
        assert bool(taken) == (kind == "states")
    seen = np.moveaxis(found, 2, 0) if matrix.design.floating_scale else found[None]
    assert np.array_equal(np.ascontiguousarray(seen).view(np.uint32), expected)
    assert (seen != 0).any()


def test_zero_points_beside_a_finer_type():
    """Half steps as common units: a zero-point is an integer of whole ones."""
    rng = np.random.default_rng(8)
    quantised = RECIPES["int4_asym"].quantise("w", rng.uniform(-1, 3, (3, 40)))
    assert quantised.zero.any()
    design = design_for(quantised, rows=2, columns=3).with_options(weights=("fp4", "int4"))
    matrix = EngineMatrix(design, quantised)
    assert design.zero_shift == 1 and np.array_equal(engine_weights(matrix), quantised.dequantise())
    codes = activations(design.activation, (2, 40), "states", rng)
    expected = bitserial(design, matrix.tile(codes, np.arange(2), np.arange(3))).fp32
    assert np.array_equal(matmul(matrix, codes).view(np.uint32), expected[0])


def test_zero_sums_are_positive():
    quantised = RECIPES["ternary"].quantise("w", np.array([[1.0, -1, 1, -1]]))
    matrix = EngineMatrix(design_for(quantised), quantised)
    code = get_format("fp16").encode(np.array([0.5]))
    found = matmul(matrix, np.vstack([np.tile(code, 4), np.full(4, 0x8000)]).astype(np.int64))
    assert found.view(np.uint32).tolist() == [[0], [0]]


@pytest.mark.parametrize("name", ON_ENGINE)
def test_engine_multiplies_by_the_quantised_weights(net, name):
    network = QuantisedG2p(net, recipe(name))
    assert network.on_engine
    for key, matrix in network.matrices().items():
        expected = network.quantised[key].dequantise()
        if name == "nf4_int8":
            # Each entry moves by half a step of 1/127 at most.
            scale = np.repeat(network.quantised[key].scale, matrix.lengths, axis=1)
            moved = np.abs(engine_weights(matrix) - expected)
            assert moved.max() > 0 and (moved <= scale / 254 * (1 + 1e-6)).all()
            assert network.weights[key].tolist() == engine_weights(matrix).tolist()
        else:
            assert np.array_equal(engine_weights(matrix), expected)
            assert np.array_equal(network.weights[key], expected)


@pytest.mark.parametrize("name", ["bitmod3", "int4_asym", "afpq4", "nvfp4", "nf4_int8"])
def test_products(net, name):
    network = QuantisedG2p(net, recipe(name))
    rows = np.random.default_rng(2).uniform(-1, 1, (6, HIDDEN)).astype(np.float32)
    exact = rows.astype(np.float16).astype(np.float64) @ network.weights["dec_w_hh"].T
    size = np.abs(rows.astype(np.float64)) @ np.abs(network.weights["dec_w_hh"]).T
    found = network.product()("dec_w_hh", rows)
    # Two roundings to float32 and a sum of groups; far below the error of any wrong weight.
    assert (np.abs(found - exact) <= 4 * 2.0 ** -24 * size).all()
    given = []

    def multiply(matrix, codes, key):
        given.append((matrix.design.rows, matrix.design.columns, key))
        return matmul(matrix, codes)

    again = network.product(multiply, rows=3, columns=5)("dec_w_hh", rows)
    assert np.array_equal(again, found) and given == [(3, 5, "dec_w_hh")]


def test_a_format_that_the_engine_has_no_way_for(net):
    network = QuantisedG2p(net, recipe("nf4"))
    assert not network.on_engine and "fp32" in network.why_not and network.terms is None
    rows = np.random.default_rng(2).uniform(-1, 1, (6, HIDDEN)).astype(np.float32)
    floats = network.quantised["fc_w"].dequantise().astype(np.float32)
    assert np.allclose(network.product()("fc_w", rows), rows @ floats.T, rtol=1e-6)
    with pytest.raises(BitkilnError, match="does not take at method nf"):
        network.matrices()
    with pytest.raises(BitkilnError, match="no stand-in at weights nf4_int8"):
        g2p_serial._stand_in(network.quantised["fc_w"], "nf4_int8")


def test_sizes_and_cycles(net):
    """Counted by hand: matrices of 36 and 20 columns have one group of 128 a row, and a float32 for it."""
    weights = 2 * 3 * HIDDEN * (EMBEDDING + HIDDEN) + 74 * HIDDEN
    rows = 4 * 3 * HIDDEN + 74
    for name, bits, group_bits, terms in (("int8", 8, 8, 4), ("int6", 6, 8, 3), ("bitmod4", 4, 8 + 2, 2),
                                          ("bitmod3", 3, 8 + 2, 2), ("int4_asym", 4, 8 + 4, 2), ("fp3", 3, 8, 1),
                                          ("int3_asym", 3, 8 + 3, 2), ("afpq4", 4, 16, 2), ("nf4_int8", 4, 8, 4)):
        network = QuantisedG2p(net, recipe(name))
        assert network.bits_per_weight == pytest.approx(bits + rows * (group_bits + 32) / weights, rel=1e-12), name
        assert network.terms == terms, name
    blocks = 2 * 3 * HIDDEN * (-(-EMBEDDING // 32) + 1) + 74
    assert QuantisedG2p(net, recipe("mxfp4")).bits_per_weight == pytest.approx(4 + 8 * blocks / weights, rel=1e-12)


def test_one_engine_for_all_types_of_a_network(net):
    """ANT chooses a type for each matrix; the engine has all of them, and each matrix its own cycles."""
    network = QuantisedG2p(net, recipe("ant4"))
    types = {quantised.types[0] for quantised in network.quantised.values()}
    assert {t.name for t in network.design.weights} == types
    network = QuantisedG2p(net, RECIPES["int8"])
    network.__dict__["quantised"] = {key: RECIPES["int8" if key == "fc_w" else "ternary"].quantise(key, array)
                                     for key, array in ((key, net.arrays[key]) for key in g2p.MATRICES)}
    share = 74 * HIDDEN / sum(net.arrays[key].size for key in g2p.MATRICES)
    assert network.terms == pytest.approx(4 * share + 1 - share)
    assert len(network.design.weights) == 2


def test_tables_of_embeddings_change_nothing(net):
    texts = ["a", "kiln", "zebra", "bee", ""]
    for name in ("bitmod3", "mxfp4"):
        product = QuantisedG2p(net, recipe(name)).product()
        calls = []

        def counted(key, rows, product=product, calls=calls):
            calls.append((key, len(rows)))
            return product(key, rows)

        assert g2p.predict(net, texts, counted, tabled=True) == g2p.predict(net, texts, product)
        assert [call for call in calls if call[0].endswith("w_ih")] == [("enc_w_ih", 29), ("dec_w_ih", 74)]


def test_scores_of_a_small_network(files):
    told = []
    scores = compare([FLOAT, "bitmod3", "nf4", "int8"], 4, 0, **files, progress=told.append)
    assert told == [score.name for score in scores] == [FLOAT, "bitmod3", "nf4", "int8"]
    assert [score.products for score in scores] == ["float32", "engine", "float32", "engine"]
    assert scores[0].nmse == 0 < scores[3].nmse < scores[1].nmse and scores[0].bits_per_weight == 32
    by_hand = words.score(words.sample_words(words.read_words(files["dictionary"]), 4, 0),
                          g2p.predict(g2p.load_checkpoint(files["checkpoint"]), [
                              word.text for word in words.sample_words(words.read_words(files["dictionary"]), 4, 0)]))
    assert (scores[0].word_accuracy, scores[0].phoneme_error_rate) == by_hand
    assert scores[1].as_dict()["words"] == 4 and "right" not in scores[1].as_dict()


def test_standard_errors():
    def score(right):
        right = np.array(right)
        return g2p_serial.SerialScore("x", "", None, 0, 0, None, "", "", right, ~right + 0, np.ones(len(right)))

    one, two = score([True] * 6 + [False] * 4), score([True] * 3 + [False] * 6 + [True])
    assert one.word_accuracy == 0.6 and one.standard_error == pytest.approx(np.sqrt(0.6 * 0.4 / 10))
    assert one.phoneme_error_rate == 0.4
    # Three words better, one worse: mean 0.2, and the variance about it 0.4 - 0.04.
    assert paired(one, two) == pytest.approx((0.2, np.sqrt(0.36 / 10)))
    assert paired(one, one) == (0, 0)
    with pytest.raises(BitkilnError, match="not the same words"):
        paired(one, score([True]))


def test_unknown_row():
    assert recipe(" BitMoD3 ") is RECIPES["bitmod3"] and recipe("float32") is None
    with pytest.raises(BitkilnError) as caught:
        recipe("int3_sym")
    assert str(caught.value).startswith("error: unknown weights at weights: got 'int3_sym', expected float32, int8,")
    assert "int3_asym" in str(caught.value).splitlines()[1]
    with pytest.raises(BitkilnError, match="unknown weights"):
        compare(["bitmod5"])


# The real network ----------------------------------------------------------------------------------

def reason():
    """Why the real network cannot run here; empty where it can."""
    try:
        g2p.find_checkpoint()
        words.read_words()
    except BitkilnError as error:
        return f"{error.where}: {error.help}"
    return ""


REASON = reason()


@pytest.fixture(scope="module")
def real():
    """Errors of the real matrices."""
    try:
        trained = g2p.load_checkpoint()
    except BitkilnError as error:
        pytest.skip(f"{error.where}: {error.help}")
    return lambda name: QuantisedG2p(trained, recipe(name))


def test_errors_of_the_real_matrices(real):
    """Orderings of arXiv 2411.11745 (bitmod below int-asym, fp and ant of its width), and of widths."""
    nmse = {name: real(name).nmse for name in ("int8", "int6", "bitmod4", "fp4", "int4_asym", "flint4", "bitmod3",
                                               "int3_asym", "fp3", "afpq3", "ternary")}
    for better, others in (("bitmod4", ("fp4", "int4_asym", "flint4")), ("bitmod3", ("int3_asym", "fp3", "afpq3"))):
        assert all(nmse[better] < nmse[other] for other in others), nmse
    assert nmse["int8"] < nmse["int6"] < nmse["bitmod4"] < nmse["bitmod3"] < nmse["ternary"]
    assert real("bitmod3").bits_per_weight == 3 + (8 + 2) / 128 + 32 / 256


@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_words_of_the_real_network():
    """All 2,000 words: float32 68.2, int8 68.3, bitmod4 66.0, bitmod3 57.3, fp3 53.1 % (± 1.1)."""
    scores = {score.name: score for score in compare((FLOAT, "int8", "bitmod4", "bitmod3", "fp3"), 500, 1)}
    right = {name: score.word_accuracy for name, score in scores.items()}
    assert abs(right["int8"] - right[FLOAT]) < 0.02 and right["bitmod4"] > right[FLOAT] - 0.06
    assert right["bitmod4"] > right["bitmod3"] > right["fp3"] > 0.4
    assert scores["bitmod3"].phoneme_error_rate < scores["fp3"].phoneme_error_rate
