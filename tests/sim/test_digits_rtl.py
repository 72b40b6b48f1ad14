"""The digits networks through simulated dot units: ports of every kind, and that a wrong bit is found."""

import json

import numpy as np
import pytest

from bitkiln.models.design.dot import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.digits import run_digits

DESIGNS = {
    "plain": DotDesign.from_pe("fp4"),
    "one lane, pipelined": DotDesign.from_pe("int8xfp4", lanes=1, pipeline=2),
    "accumulator wider than 64 bits, pipelined": DotDesign.from_pe("posit16_1", lanes=2, pipeline=4),
    "operands wider than 64 bits": DotDesign.from_pe("int4", lanes=20),
    "fp32 accumulator": DotDesign.from_pe("bf16xint4", lanes=2),
    "overflow flag and output": DotDesign.from_pe("int4", accumulator=Accumulator(bits=8), output="fp8_e4m3"),
}


@pytest.fixture(scope="module", params=DESIGNS, ids=lambda name: name.replace(" ", "-"))
def built(request):
    return DESIGNS[request.param], BatchModel(DESIGNS[request.param])


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_every_bit_equals_golden(built, network):
    design, model = built
    result = run_digits(design, network, 40, model=model)
    assert result.ok, result.first_mismatch
    assert result.golden_accuracy == result.rtl_accuracy and result.images == 40
    assert len(result.layers) == {"mlp": 2, "cnn": 3}[network]
    for layer in result.layers:
        steps = -(-layer.terms // design.lanes)
        assert layer.macs == layer.dot_products * layer.terms
        assert layer.cycles == layer.dot_products * (steps + 1) + design.pipeline  # one chunk
    assert 0 < result.macs_per_cycle <= design.lanes
    facts = json.loads(json.dumps(result.as_dict()))
    assert facts["ok"] and facts["macs"] == result.macs and len(facts["layers"]) == len(result.layers)
    assert "all equal" in str(result)


def test_overflow_is_exercised():
    """The narrow accumulator of the list above does overflow, so that its flag is compared in earnest."""
    from bitkiln.models.workloads import digits
    from bitkiln.models.workloads.quantised import quantise_network

    data = digits.load()
    network = quantise_network(data.network("mlp"), DESIGNS["overflow flag and output"],
                               digits.scale_images(data.calibration))
    _, runs = network.forward(digits.scale_images(data.images[:40]))
    overflow = runs[0].result.overflow
    assert overflow.any() and not overflow.all()


def test_small_chunks_give_the_same(monkeypatch):
    design = DESIGNS["one lane, pipelined"]
    model = BatchModel(design)
    whole = run_digits(design, "mlp", 12, model=model)
    monkeypatch.setattr("bitkiln.sim.digits.CHUNK", 10_000)
    pieces = run_digits(design, "mlp", 12, model=model)
    assert pieces.ok and whole.ok and pieces.cycles > whole.cycles  # each chunk drains the pipeline


class Faulty:
    """A model whose ``port`` is wrong in one sample."""

    def __init__(self, model, port):
        self.model, self.port, self.inputs, self.outputs = model, port, model.inputs, model.outputs
        self.calls = 0

    def run(self, inputs, names, every=1):
        found = self.model.run(inputs, names, every=every)
        if self.calls == 0:
            found[self.port][5] ^= 1
        self.calls += 1
        return found


@pytest.mark.parametrize(("design", "port"), [("plain", "acc"), ("overflow flag and output", "overflow"),
                                              ("overflow flag and output", "o")])
def test_one_wrong_bit_is_found(design, port):
    design = DESIGNS[design]
    result = run_digits(design, "mlp", 3, model=Faulty(BatchModel(design), port))
    assert not result.ok and result.mismatches >= 1 and "DIFFER" in str(result)
    assert result.layers[0].mismatches == 1
    assert result.first_mismatch.startswith("mlp.hidden row 0 output 5: RTL ")


def test_choice_of_images():
    design = DESIGNS["plain"]
    model = BatchModel(design)
    every = run_digits(design, "mlp", np.arange(10, 20), model=model)
    assert every.images == 10 and every.ok
    least = "expected at least one index"
    for images, message in ((0, "error: out of range at images: got 0, expected 1 to 360"),
                            (361, "error: out of range at images: got 361, expected 1 to 360"),
                            ([3, 360], "error: out of range at images: got 360, expected indices 0 to 359"),
                            ([-1], "error: out of range at images: got -1, expected indices 0 to 359"),
                            ([], "error: not a list of images at images: got (0,), " + least),
                            ([0.5], "error: not a list of images at images: got (1,), " + least)):
        with pytest.raises(BitkilnError) as caught:
            run_digits(design, "mlp", images, model=model)
        assert str(caught.value) == message
    with pytest.raises(BitkilnError) as caught:
        run_digits(design, "mpl", model=model)
    assert str(caught.value) == ("error: unknown network at network: got 'mpl', expected mlp or cnn\n"
                                 "help: did you mean mlp?")
    with pytest.raises(BitkilnError, match="unknown PE"):
        run_digits("nonsense")
