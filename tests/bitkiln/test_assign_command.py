"""``bitkiln assign``: equals brute force, verified by the golden model, refuses what cannot be."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from bitkiln.flow.assign import assign_network, equal_width, layers_yaml
from bitkiln.flow.assign_problem import AssignCore, Problem, budget_of, problem_of
from bitkiln.flow.layers import read_layers
from bitkiln.models.cost.area.area import metrics_of, technology
from bitkiln.models.cost.area.area_blocks import design_blocks
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.cost.estimate import estimate
from bitkiln.models.cost.schedule.assign import brute_force
from bitkiln.models.errors import USAGE, BitkilnError
from bitkiln.models.workloads import digits, mixed
from bitkiln.models.workloads.layers import Layer, Network
from bitkiln.models.workloads.shapes_registry import get_workload
from bitkiln.models.workloads.subjects import network_subject, onnx_subject, subject

MODES = ("fp4", "int4", "int8")


@cache
def problem(kind: str = "bytes", network: str = "digits-cnn") -> Problem:
    return problem_of(subject(network), MODES, kind)


def budgets(found: Problem, count: int = 5) -> list[float]:
    least, most = (sum(pick(choice.cost for choice in layer.choices) for layer in found.layers) for pick in (min, max))
    return [least + (most - least) * number / (count - 1) for number in range(count)]


@pytest.mark.parametrize("kind", ["bytes", "cycles"])
def test_choice_equals_brute_force_and_no_uniform_one_is_better(kind):
    found = problem(kind)
    for limit in budgets(found):
        facts = assign_network(found, limit)
        best = brute_force(found.layers, found.budget(limit))
        modes = facts["integer_program"]["modes"]
        assert sum(found.sensitivities.error(*each) for each in modes.items()) == pytest.approx(best.error, abs=1e-15)
        assert facts["chosen"]["cost"] <= limit * (1 + 1e-9)
        for mode in MODES:
            cost = sum(layer.by_format[mode].cost for layer in found.layers)
            if cost <= limit:
                assert facts["chosen"]["nmse"]["measured"] <= found.sensitivities.uniform[mode]


def test_prediction_is_measured_where_one_layer_changes_and_close_elsewhere():
    found = problem()
    names, best = found.scorer.names, found.sensitivities.best
    for layer in names:
        for mode in MODES:
            modes = {name: mode if name == layer else best for name in names}
            assert found.sensitivities.predicted(modes) == pytest.approx(found.scorer.nmse(list(modes.values())))
            assert found.sensitivities.error(layer, mode) >= 0
    both = dict.fromkeys(names, "int4")
    assert found.sensitivities.predicted(both) == pytest.approx(found.sensitivities.uniform["int4"], rel=0.5)


def test_errors_are_those_of_the_scores():
    found, data = problem(), digits.load()
    images = digits.scale_images(data.calibration)
    exact, _ = data.network("cnn").forward(images)
    modes = {"cnn.conv1": "fp4", "cnn.conv2": "int8", "cnn.scores": "int4"}
    got = mixed.run(data.network("cnn"), modes, images, images, found.core.design(MODES)).scores
    assert found.scorer.nmse(list(modes.values())) == pytest.approx(np.sum((got - exact) ** 2) / np.sum(exact ** 2))


def test_costs_are_the_estimate_s_and_the_run_s():
    modes, batch = ("int8xfp4", "fp4", "int8"), 3
    cycles, size = (problem_of(subject("digits-mlp"), modes, kind, batch=batch) for kind in ("cycles", "bytes"))
    for mode in modes:
        whole = estimate(cycles.core.design(modes), get_workload("digits-mlp", batch=batch), assignment=mode,
                         technology=None)
        assert [layer.by_format[mode].cost for layer in cycles.layers] == [layer.cycles for layer in whole.layers]
        run, _ = mixed.run_digits("mlp", mode, images=1)
        assert [layer.by_format[mode].cost for layer in size.layers] == [layer.weight_bytes for layer in run.layers]
    shapes = [(layer.name, layer.m, layer.k, layer.n) for layer in subject("digits-cnn").layers]
    assert shapes == [(layer.name, layer.m, layer.k, layer.n) for layer in get_workload("digits-cnn").layers]


def test_file_runs_and_gives_the_accuracy_that_was_printed(run, capsys, own_folder):
    assert run("assign", "digits-mlp", "--budget-bytes", "1400", "--modes", "fp4,int4,int8", "--rows", "2",
               "--frontier", "4", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["schema"] == "bitkiln.assign/1"
    assignment = read_layers(own_folder / facts["file"], ["mlp"])
    modes = {name: plan.mode for name, plan in assignment.plans["mlp"].items()}
    assert modes == facts["chosen"]["modes"]
    _, accuracy = mixed.run_digits("mlp", assignment.layers("mlp"))
    assert accuracy == pytest.approx(100 * facts["chosen"]["accuracy"]["value"])
    assert facts["core"]["config"]["array"]["rows"] == 2
    costs = [point["cost"] for point in facts["frontier"]]
    predicted = [point["nmse"]["predicted"] for point in facts["frontier"]]
    assert len(costs) >= 2 and costs == sorted(costs) and predicted == sorted(predicted, reverse=True)
    assert run("assign", "digits-mlp", "--budget-bytes", "1400") == 0
    assert "best uniform within the budget" in capsys.readouterr().out


def test_too_small_a_budget_names_the_least(run, capsys):
    assert run("assign", "digits-mlp", "--budget-bytes", "10", "--modes", "fp4,int8") == USAGE
    least = sum(layer.by_format["fp4"].cost for layer in problem(network="digits-mlp").layers)
    assert f"expected {least:g} bytes or more" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    ((), "one budget is needed"),
    (("--budget-bytes", "1", "--budget-cycles", "1"), "several budgets"),
    (("--budget-bytes", "9999", "--modes", "int8"), "number of modes"),
    (("--budget-bytes", "9999", "--modes", "int8,int5"), "int5"),
    (("--budget-bytes", "9999", "--set", "modes=[int8]"), "set elsewhere"),
    (("--budget-bytes", "9999", "--data", "x.npz"), "contradictory options"),
])
def test_wrong_arguments(run, capsys, arguments, message):
    assert run("assign", "digits-mlp", *arguments) == USAGE
    assert message in capsys.readouterr().err


def test_unknown_network(run, capsys):
    assert run("assign", "digit-mlp", "--budget-bytes", "9999") == USAGE
    assert "digits-mlp" in capsys.readouterr().err
    with pytest.raises(BitkilnError, match="unknown budget"):
        problem_of(subject("digits-mlp"), MODES, "byte")
    assert budget_of(None, 5.0, None) == ("bytes", 5.0)


def test_uniform_is_taken_where_errors_do_not_add():
    """Errors of two fp4 layers that cancel: the sum over layers overrates them, the measurement does not."""
    real, reference = subject("digits-mlp"), np.full((2, 2), 10.0)

    def scores(modes, design):
        return reference + (5.0 if len(set(modes.values())) > 1 else 1.0 if "fp4" in modes.values() else 0.0)

    found = problem_of(replace(real, reference=reference, scores=scores), ("fp4", "int8"), "bytes")
    least, most = budgets(found, 2)
    facts = assign_network(found, most - 1)
    assert len(set(facts["integer_program"]["modes"].values())) == 2
    assert set(facts["chosen"]["modes"].values()) == {"fp4"} and facts["chosen_by"].startswith("uniform")
    assert assign_network(found, most)["chosen_by"] == "integer program" and least < most


# Area, integer or float --------------------------------------------------------------------------------


@pytest.fixture
def made_up(tmp_path):
    """A technology in which every count of a core costs one: larger cores cost more."""
    sets = [modes for count in range(1, 4) for modes in combinations(MODES, count)]
    blocks = [block for modes in sets for block in design_blocks(AssignCore().design(modes))]
    counts, kinds = {name for block in blocks for name in block.counts}, {key for block in blocks
                                                                          for key, _ in block.kinds}
    models = {metric: LinearModel(dict.fromkeys(counts, 1.0), dict.fromkeys(kinds, 0.0)).as_dict()
              for metric in metrics_of("ecp5")}
    path = tmp_path / "made_up.json"
    path.write_text(json.dumps({"schema": "bitkiln.tech/2", "name": "made_up", "device": "none", "unit": "cells",
                                "weights": {"lut": 1, "carry": 2}, "models": models, "errors": {},
                                "provenance": {"table": "nothing"}}))
    return str(path)


def test_area_budget_chooses_among_cores_with_just_the_modes_in_use(made_up):
    assert technology(made_up).name == "made_up"
    found = problem_of(subject("digits-mlp"), MODES, "area", tech=made_up)
    areas = {pe.name: pe.area for pe in found.pes}
    assert len(areas) == 7 and areas["fp4+int4+int8"] == max(areas.values())
    for limit in sorted(areas.values()):
        facts = assign_network(found, limit, points=3)
        assert facts["integer_program"]["cost"] <= limit
        assert set(facts["integer_program"]["modes"].values()) <= set(facts["integer_program"]["core"].split("+"))
        best = brute_force(found.layers, found.budget(limit))
        assert sum(found.sensitivities.error(*each) for each in facts["integer_program"]["modes"].items()) == \
            pytest.approx(best.error, abs=1e-15)
    with pytest.raises(BitkilnError, match="the budget is too small"):
        problem_of(subject("digits-mlp"), MODES, "area", limit=min(areas.values()) / 2, tech=made_up)


def two_kinds() -> Network:
    """One layer of even weights, one with a few weights far out in every row, for inputs that are small."""
    rng = np.random.default_rng(5)
    even, wild = rng.uniform(-1, 1, (24, 16)), rng.normal(0, 1, (6, 24))
    even[::8] /= 2000
    wild[:, ::8] *= 200
    return Network("two", (Layer("even", even, np.zeros(24)), Layer("wild", wild, np.zeros(6), relu=False)))


def test_integer_or_float_depends_on_the_layer():
    rng, network = np.random.default_rng(6), two_kinds()
    x = rng.uniform(-1, 1, (60, 16))
    labels = network.forward(x)[0].argmax(1)
    found = problem_of(network_subject(network, x[:30], x[30:], labels[30:]), ("int8", "fp8_e4m3"), "bytes")
    pair, = equal_width(found)
    assert pair["modes"] == ["int8", "fp8_e4m3"] and pair["mixed"]
    assert pair["better"] == {"even": "int8", "wild": "fp8_e4m3"}
    for layer, errors in pair["nmse"].items():
        assert errors[pair["better"][layer]] == min(errors.values())
    assert list(pair["areas"]) == ["int8", "fp8_e4m3", "int8+fp8_e4m3"]
    # Both have the same bytes: the choice is free, and is the better one of each layer.
    facts = assign_network(found, budgets(found)[0])
    assert facts["chosen"]["modes"] == pair["better"]
    assert facts["chosen"]["nmse"]["measured"] < min(found.sensitivities.uniform.values())
    assert "even: int8" in layers_yaml(facts, "test")


# ONNX --------------------------------------------------------------------------------------------------


@pytest.fixture
def classifier(tmp_path):
    """Conv, Relu, Flatten, Gemm and its own answers as classes; a function makes variants."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'bitkiln[onnx]'")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rng = np.random.default_rng(0)
    arrays = {"w1": rng.normal(0, 1, (4, 1, 3, 3)), "b1": rng.normal(0, .1, 4),
              "w2": rng.normal(0, 1, (5, 4 * 3 * 3)), "b2": rng.normal(0, .1, 5)}

    def make(extra=(), **conv):
        nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["c"], name="conv", **({"strides": [2, 2]} | conv)),
                 helper.make_node("Relu", ["c"], ["r"]), *extra, helper.make_node("Flatten", ["r"], ["f"]),
                 helper.make_node("Gemm", ["f", "w2", "b2"], ["g"], name="fc", transB=1),
                 helper.make_node("Softmax", ["g"], ["y"])]
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, ["n", 1, 7, 7])],
                                  [helper.make_tensor_value_info("y", kind, None)],
                                  [numpy_helper.from_array(each.astype(np.float32), name)
                                   for name, each in arrays.items()])
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
        return path

    x = rng.uniform(0, 1, (80, 1, 7, 7)).astype(np.float32)
    from onnx.reference import ReferenceEvaluator
    y = ReferenceEvaluator(str(make())).run(None, {"x": x})[0].argmax(1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return make, tmp_path / "data.npz", helper


def test_onnx_classifier(classifier, run, capsys):
    make, data, _ = classifier
    path = make()
    found = onnx_subject(path, data)
    assert [layer.name for layer in found.layers] == ["conv", "fc"]
    assert [(layer.m, layer.k, layer.n) for layer in found.layers] == [(9, 9, 4), (1, 36, 5)]
    assert found.float_accuracy.value == 1.0        # the classes are the network's own answers
    assert run("assign", str(path), "--data", str(data), "--budget-bytes", "150", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert 0 < facts["chosen"]["accuracy"]["value"] <= 1 and facts["chosen"]["cost"] <= 150


def test_onnx_that_is_no_sequential_classifier(classifier, run, capsys):
    make, data, helper = classifier
    sigmoid, aside = helper.make_node("Sigmoid", ["r"], ["s"]), helper.make_node("Identity", ["x"], ["i"])
    for variant, message in (({"extra": [sigmoid]}, "got 'Sigmoid'"), ({"extra": [aside]}, "not a sequential network"),
                             ({"strides": [2, 1], "pads": [0, 2, 0, 0]}, "convolution that is not square")):
        assert run("assign", str(make(**variant)), "--data", str(data), "--budget-bytes", "150") == USAGE
        assert message in capsys.readouterr().err


def test_samples_that_do_not_fit(classifier, tmp_path):
    make, data, _ = classifier
    path, given = make(), dict(np.load(data))
    for change, message in (({"y": given["y"][:-1]}, "do not fit"), ({"y": given["y"] + 5}, "unknown class"),
                            ({"x": given["x"][:, :, :5]}, "inputs do not fit"), ({"x": given["x"] * np.nan}, "finite")):
        np.savez(tmp_path / "wrong.npz", **(given | change))
        with pytest.raises(BitkilnError, match=message):
            onnx_subject(path, tmp_path / "wrong.npz")
    np.savez(tmp_path / "wrong.npz", x=given["x"])
    with pytest.raises(BitkilnError, match="missing array"):
        onnx_subject(path, tmp_path / "wrong.npz")


@pytest.mark.slow
def test_g2p():
    """A network of other data: the decoder is steered, so all assignments are scored on the same symbols."""
    found = problem_of(subject("g2p"), ("fp4", "int8"), "bytes")
    assert found.scorer.nmse(["int8"] * 5) < found.scorer.nmse(["fp4"] * 5)
    facts = assign_network(found, budgets(found)[2])
    assert facts["chosen"]["nmse"]["measured"] < found.sensitivities.uniform["fp4"]
    assert facts["chosen"]["accuracy"]["value"] > 0.3
