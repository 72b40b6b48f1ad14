"""Layer shapes: totals against published figures, sizes against a count by hand, names and options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.cost.llm.llm_shapes import LLMS, get_llm
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import digits, g2p
from bitkiln.models.workloads.layers import im2col
from bitkiln.models.workloads.shapes import ConvGeometry, LayerShape, Workload, attention, conv, linear
from bitkiln.models.workloads.shapes_registry import get_workload, workload_names, workload_options

# GMACs and checkpoint sizes that torchvision's documentation gives for its models (rounded there to 0.01 G); ResNet-50
# v1 and the CIFAR ResNet-18 are papers' and a public repository's: 3.8 G (arXiv 1512.03385, table 1, which rounds),
# 11,173,962 parameters (kuangliu/pytorch-cifar).
PUBLISHED = (("resnet18", {}, 1.81, 11_689_512), ("resnet50", {}, 4.09, 25_557_032),
             ("mobilenetv2", {}, 0.30, 3_504_872), ("vit-b", {}, 17.56, 86_567_656))


def norms_and_biases(workload: Workload) -> int:
    """Two numbers of batch normalisation for each filter, and the classifier's bias."""
    filters = sum(layer.n * layer.count for layer in workload.layers if layer.kind in ("conv", "depthwise"))
    return 2 * filters + workload.layers[-1].n


@pytest.mark.parametrize(("name", "options", "gmacs", "parameters"), PUBLISHED)
def test_published_products_and_parameters(name, options, gmacs, parameters) -> None:
    workload = get_workload(name, **options)
    assert abs(workload.macs / 1e9 - gmacs) <= 0.005 + 1e-9
    if name == "vit-b":     # biases everywhere, two norms a block and one after, class token, 197 positions
        rest = 768 + 12 * (4 * 768 + 3072 + 768 + 4 * 768) + 2 * 768 + 1000 + 768 + 197 * 768
    else:
        rest = norms_and_biases(workload)
    assert workload.weights + rest == parameters


def test_resnet50_of_the_paper_strides_in_the_first_1x1() -> None:
    paper, trained = get_workload("resnet50", variant="v1"), get_workload("resnet50")
    assert 3.8e9 <= paper.macs < 3.9e9 < trained.macs       # "3.8 x 10^9", arXiv 1512.03385, table 1
    assert paper.weights == trained.weights


def test_resnet18_for_cifar() -> None:
    workload = get_workload("resnet18-cifar")
    assert workload.weights + norms_and_biases(workload) == 11_173_962
    assert workload.layers[0].m == 32 * 32


def test_bert_base_is_its_checkpoint_without_embeddings() -> None:
    workload = get_workload("bert-base")
    blocks = 12 * (4 * 768 + 3072 + 768 + 2 * 2 * 768)      # biases, two norms of two vectors
    embeddings = (30522 + 512 + 2 + 2) * 768                # words, positions, segments, one norm
    assert workload.weights + blocks + 768 + embeddings == 109_482_240      # bert-base-uncased
    pooler = workload.layer("pooler")
    # 22.5 GFLOPs at 128 tokens: MobileBERT, arXiv 2004.02984, table 4
    assert abs(2 * (workload.macs - pooler.macs) / 22.5e9 - 1) < 0.01
    linear_part = 12 * 12 * 768 ** 2 * 128
    assert workload.macs - pooler.macs == linear_part + 12 * 2 * 128 ** 2 * 768


def test_xr_networks_have_the_parameters_they_report() -> None:
    vio = get_workload("ul-vio-like")
    norms = 2 * (64 + 128 + 256 + 512) + 2 * (1024 + 128 + 256 + 512 + 512 + 256 + 128)
    biased = [layer for layer in vio.layers if layer.kind == "linear" and not layer.name.startswith("fusion")]
    assert vio.weights + norms + sum(layer.n for layer in biased) == 11_516_429     # printed by the notebook
    gaze = get_workload("gaze-lle-like")
    decoder = sum(layer.weights for layer in gaze.layers
                  if layer.name.startswith(("gaze", "project", "heatmap")) and layer.has_weights)
    assert 2.8e6 < decoder < 2.95e6     # 2.8 M learnable parameters with the smaller ViT-B, arXiv 2412.09586
    larger = get_workload("gaze-lle-like", image=448)
    assert larger.layer("patches").m == 32 * 32 and larger.weights == gaze.weights


@pytest.mark.parametrize("name", LLMS)
def test_language_models_are_all_matrices_of_the_checkpoint(name) -> None:
    model, tokens, context = get_llm(name), 5, 33
    tables = (model.positions + (0 if model.tied else model.vocabulary)) * model.hidden
    prefill = get_workload(f"{name}:prefill", tokens=tokens)
    decode = get_workload(f"{name}:decode", context=context, batch=3)
    for workload, new, keys, batch in ((prefill, tokens, tokens, 1), (decode, 1, context, 3)):
        assert workload.weights == model.parameters - tables
        assert abs(workload.weights + tables - model.published) < 1e-3 * model.published
        by_hand = batch * new * (workload.weights + 2 * model.layers * model.hidden * keys)
        assert workload.macs == by_hand
    last = get_workload(f"{name}:prefill", tokens=tokens, logits="last")
    assert prefill.macs - last.macs == (tokens - 1) * model.vocabulary * model.hidden
    cache = sum(layer.weights for layer in decode.layers if not layer.has_weights)
    assert cache == 3 * 2 * model.layers * model.kv_width * context


@pytest.mark.parametrize("name", digits.NETWORKS)
def test_digits_are_the_rows_of_the_network_that_runs(name) -> None:
    data, workload = digits.load(), get_workload(f"digits-{name}", batch=3)
    net = data.network(name)
    _, inputs = net.forward(digits.scale_images(data.images[:3]))
    assert len(workload.layers) == len(net.layers)
    for shape, layer, x in zip(workload.layers, net.layers, inputs, strict=True):
        assert (shape.m, shape.k) == layer.rows(x).shape and shape.n == layer.outputs
        assert shape.weights == layer.weight.size
    assert [layer.layer_class for layer in workload.layers][::len(net.layers) - 1] == ["first", "last"]


def test_g2p_counts_the_products_of_a_run() -> None:
    rng = np.random.default_rng(0)
    shapes = {"enc_emb": (len(g2p.GRAPHEMES), 256), "dec_emb": (len(g2p.PHONEMES), 256),
              "fc_w": (len(g2p.PHONEMES), 256), "fc_b": (len(g2p.PHONEMES),)}
    shapes |= {f"{side}_w_{part}": (768, 256) for side in ("enc", "dec") for part in ("ih", "hh")}
    shapes |= {f"{side}_b_{part}": (768,) for side in ("enc", "dec") for part in ("ih", "hh")}
    net = g2p.G2p({name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()})
    net.arrays["fc_b"][g2p.END] = -1e9      # never the end: as many phonemes as the package allows
    rows = dict.fromkeys(g2p.MATRICES, 0)

    def product(name: str, x: np.ndarray) -> np.ndarray:
        rows[name] += len(x)
        return x @ net.arrays[name].T

    spoken = g2p.predict(net, ["kilns", "bricks"], product)
    assert {len(word) for word in spoken} == {g2p.STEPS}
    for letters, words in ((5, 1), (6, 1)):
        workload = get_workload("g2p", letters=letters, phonemes=g2p.STEPS - 1, batch=words)
        for layer in workload.layers:
            rows[layer.name] -= layer.m * layer.count
            assert (layer.n, layer.k) == shapes[layer.name] and layer.weights == layer.n * layer.k
    assert not any(rows.values())


# Single shapes -------------------------------------------------------------------------------------

SIDES = st.integers(1, 9)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(height=SIDES, width=SIDES, kernel=st.integers(1, 4), stride=st.integers(1, 4), padding=st.integers(0, 2),
       dilation=st.integers(1, 3), groups=st.integers(1, 3), filters=st.integers(1, 3))
def test_convolution_is_its_im2col(height, width, kernel, stride, padding, dilation, groups, filters) -> None:
    channels, reach = 2 * groups, dilation * (kernel - 1) + 1

    def geometry() -> ConvGeometry:
        return ConvGeometry(height, width, channels, filters * groups, (kernel,) * 2, (stride,) * 2, (padding,) * 4,
                            (dilation,) * 2, groups)

    if min(height, width) + 2 * padding < reach:
        with pytest.raises(BitkilnError, match="kernel larger"):
            geometry()
        return
    x = np.arange(1, 1 + channels * height * width).reshape(1, channels, height, width)
    windows = im2col(x, reach, stride, padding)
    _, rows, columns, _ = windows.shape
    windows = windows.reshape(rows * columns, channels, reach, reach)[:, :, ::dilation, ::dilation]
    layer = conv("c", geometry())
    assert (layer.conv.out_height, layer.conv.out_width) == (rows, columns)
    assert (layer.m, layer.n, layer.count) == (rows * columns, filters, groups)
    assert layer.k * groups == windows[0].size
    assert layer.inputs == len(np.setdiff1d(windows, [0]))      # distinct elements, padding left out
    assert layer.weights == kernel * kernel * 2 * filters * groups
    assert layer.outputs == layer.m * filters * groups


def test_batch_multiplies_rows_of_weights_and_products_of_attention() -> None:
    one = [linear("l", 4, 8, 16), *attention("a", 4, 6, 8, 3)]
    five = Workload.of("w", one, "test", 5)
    assert five.macs == 5 * Workload.of("w", one, "test").macs
    assert five.weights == 8 * 16       # keys and values are no weights
    assert (five.layer("l").m, five.layer("l").count) == (20, 1)
    assert (five.layer("a.scores").m, five.layer("a.scores").count) == (4, 15)
    for before, after in zip(one, five.layers, strict=True):
        assert (after.inputs, after.outputs) == (5 * before.inputs, 5 * before.outputs)
    assert five.layer("a.values").weights == 5 * 6 * 8 * 3


@pytest.mark.parametrize(("change", "message"), [
    ({"m": 0}, "layer x m: got 0"), ({"k": 2.0}, "not an integer at layer x k"), ({"n": True}, "not an integer"),
    ({"kind": "sparse"}, "did you mean sparse_conv"), ({"layer_class": "frist"}, "did you mean first"),
    ({"inputs": -1}, "inputs"), ({"name": " "}, "empty name")])
def test_bad_layers_are_refused(change, message) -> None:
    with pytest.raises(BitkilnError, match=message):
        LayerShape(**{"name": "x", "m": 1, "k": 1, "n": 1} | change)


def test_bad_workloads_are_refused() -> None:
    with pytest.raises(BitkilnError, match="no layers at workload w"):
        Workload("w", (), "test")
    with pytest.raises(BitkilnError, match="two layers of one name"):
        Workload("w", (linear("a", 1, 1, 1), linear("a", 1, 1, 1)), "test")
    with pytest.raises(BitkilnError, match="groups do not divide"):
        ConvGeometry(4, 4, 3, 4, (1, 1), groups=2)


# Names ---------------------------------------------------------------------------------------------


def test_every_name_gives_a_workload_and_takes_a_batch() -> None:
    names = workload_names()
    assert len(names) == len(set(names)) >= 27
    for name in names:
        one, two = get_workload(name), get_workload(name.upper(), batch=2)
        assert two.macs == 2 * one.macs and two.weights == one.weights and two.batch == 2
        assert one.source and one.name == name
        assert "batch" in workload_options(name)


def test_unknown_names_and_options_name_the_nearest() -> None:
    with pytest.raises(BitkilnError, match="did you mean resnet18"):
        get_workload("resnet-18")
    with pytest.raises(BitkilnError, match="unknown workload"):
        workload_options("llama")
    with pytest.raises(BitkilnError, match="did you mean tokens"):
        get_workload("bert-base", token=3)
    for name, options, place in (("vit-b", {"image": 8}, "image"), ("bert-base", {"tokens": 0}, "tokens"),
                                 ("llama-2-7b:decode", {"tokens": 4, "context": 3}, "context"),
                                 ("resnet50", {"variant": "v2"}, "variant")):
        with pytest.raises(BitkilnError, match=f"at {place}"):
            get_workload(name, **options)
