"""Integer or float of one width, by the smaller error."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.quantize.mofq import PAIRS, adapt_layers, choose, choose_layers, mode_noise
from bitkiln.models.workloads import digits
from bitkiln.models.workloads.layers import Layer, Network


def gaussian(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def heavy_tailed(shape, seed=1):
    return np.random.default_rng(seed).standard_t(2, shape)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("axis", [None, 0])
def test_tails_decide(seed, axis):
    """Even steps for values of one magnitude, floating ones where a few values are far out."""
    assert choose(gaussian((64, 256), seed), axis=axis).name == "int8"
    assert choose(heavy_tailed((64, 256), seed), axis=axis).name == "fp8_e4m3"


def test_one_outlier_flips_the_choice():
    tensor = gaussian((64, 64))
    for far, expected in ((1, "int8"), (10, "int8"), (40, "fp8_e4m3"), (200, "fp8_e4m3")):
        tensor[3, 5] = far
        assert choose(tensor).name == expected, far


def test_four_bits():
    assert choose(np.random.default_rng(2).uniform(-1, 1, (64, 64)), PAIRS[1]).name == "int4"
    assert choose(heavy_tailed((64, 64)), PAIRS[1]).name == "fp4"


def test_noise_by_hand():
    choice = choose(np.array([0.3, -1.0, 2.0]), ("int4", "fp4"), method="absmax")
    steps = np.array([0.3, -1.0, 2.0]) / (2 / 7)
    wanted = np.sum((np.round(steps) - steps) ** 2) / np.sum(steps ** 2)
    assert choice.noise["int4"] == pytest.approx(wanted)
    assert choice.noise["fp4"] == pytest.approx((0.3 - 1 / 3) ** 2 / 5.09)    # 0.9, -3 and 6 in steps of 1/3
    assert choose(np.array([7.0, -3, 1]), ("int4", "int8"), method="absmax").name == "int4"   # equal: the first


def test_noise_of_a_mode():
    weight, inputs = gaussian((8, 32)), gaussian((50, 32), 2)
    tensors = mode_noise(weight, inputs, "fp4")
    assert tensors == pytest.approx(mode_noise(weight, None, "fp4") + choose(inputs, ("fp4",)).noise["fp4"])
    assert mode_noise(weight, inputs, "fp4", measure="output") == pytest.approx(tensors, rel=0.3)
    assert mode_noise(weight, inputs, "int8xfp4") < tensors
    assert mode_noise(np.ones((2, 2)), np.zeros((3, 2)), "int8", measure="output") == 0


def network():
    """Three layers: one of even values, one whose inputs have outliers, one whose weights have."""
    rng = np.random.default_rng(3)
    spread = np.ones(32)
    spread[0] = 30    # one output of the first layer is large
    first = Layer("first", rng.standard_normal((32, 32)) * spread[:, None], np.zeros(32), relu=False)
    second = Layer("second", rng.standard_normal((32, 32)) / np.sqrt(32), np.zeros(32), relu=False)
    weight = rng.standard_normal((32, 32))
    weight[:, 5] = 100
    third = Layer("third", weight, np.zeros(32), relu=False)
    return Network("net", (first, second, third))


def test_layers():
    net, inputs = network(), gaussian((200, 32), 4)
    by_weight = {name: choice.name for name, choice in choose_layers(net).items()}
    assert by_weight == {"first": "int8", "second": "int8", "third": "fp8_e4m3"}
    found = choose_layers(net, calibration=inputs)
    assert found["first"].name == "int8" and found["second"].name == "fp8_e4m3"   # its inputs have outliers
    for name, choice in choose_layers(net, calibration=inputs, measure="output").items():
        assert choice.noise[choice.name] == min(choice.noise.values()), name


def test_cheapest_good_enough():
    data = digits.load()
    net, calibration = data.network("cnn"), digits.scale_images(data.calibration)
    modes = ("posit16_1", "posit8_0", "fp4")
    names = [{choice.name for choice in adapt_layers(net, modes, calibration, least_db=db).values()}
             for db in (10, 25, 60, 300)]
    assert names == [{"fp4"}, {"posit8_0"}, {"posit16_1"}, {"posit16_1"}]
    mixed = adapt_layers(net, modes, calibration, least_db=18)
    assert {choice.name for choice in mixed.values()} == {"fp4", "posit8_0"}
    for choice in mixed.values():
        assert choice.noise[choice.name] <= 10 ** -1.8


def test_refusals():
    net = network()
    with pytest.raises(BitkilnError) as caught:
        choose_layers(net, ("int8", "fp4"))
    assert str(caught.value) == ("error: modes of different width at pair: got 'int8, fp4', expected modes of one "
                                 "width\nhelp: adapt_layers weighs widths against each other")
    with pytest.raises(BitkilnError) as caught:
        choose_layers(net, measure="output")
    assert str(caught.value) == "error: no calibration data at calibration: expected inputs, to measure outputs"
    with pytest.raises(BitkilnError) as caught:
        choose_layers(net, measure="outputs")
    assert str(caught.value) == "error: unknown measure at measure: got 'outputs', expected tensors or output"
