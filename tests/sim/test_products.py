"""Matrix products through simulated PEs and arrays: right, counted, and able to notice a wrong bit."""

import numpy as np
import pytest

from bitkiln.models.design import Accumulator, ArrayDesign, MorphableDesign
from bitkiln.models.workloads.mixed import run_digits
from bitkiln.sim.core_networks import Recorder
from bitkiln.sim.products import check_products, products_of

SEED = 5


def pe(*modes: str, kind: str = "exact", **options) -> MorphableDesign:
    return MorphableDesign(modes, Accumulator(kind), **{"implementation": "parallel", **options})


DESIGNS = {
    "pe": pe("fp4", "int8", pipeline=1),
    "pe, fp32 sums": pe("int8", "bf16", kind="fp32"),
    "output-stationary": ArrayDesign(2, 3, pe("fp4", "int8", "fp8_e5m2")),
    "weight-stationary": ArrayDesign(3, 2, pe("fp4", "int8"), dataflow="weight"),
}


@pytest.fixture(scope="module", params=DESIGNS)
def products(request):
    return products_of(DESIGNS[request.param])


def test_random_products_equal_the_golden_model(products):
    result = check_products(products, seed=SEED, count=12, size=16)
    assert result.mismatches == 0, (SEED, result.first)
    assert result.vectors > 300 and set(result.parts) == {mode.name for mode in products.pe.modes}
    assert products.cycles > 0


def test_a_wrong_sum_is_noticed(products, monkeypatch):
    real = type(products).sums

    def wrong(self, mode, a, w):
        acc, flags = real(self, mode, a, w)
        acc = np.array(acc)
        acc[-1, -1] ^= 1
        return acc, {flag: np.zeros_like(value) for flag, value in flags.items()}

    monkeypatch.setattr(type(products), "sums", wrong)
    assert check_products(products, seed=SEED, count=4, size=6).mismatches >= 3


def test_a_network_with_a_mode_for_each_layer(products):
    modes = [mode.name for mode in products.pe.modes]
    recorder = Recorder(products.design, products.execute)
    _, percent = run_digits("mlp", {"hidden": modes[0], "scores": modes[1]}, images=12, design=products.design,
                            execute=recorder)
    assert (recorder.jobs, recorder.results, recorder.mismatches) == (2, 12 * 42, 0), recorder.first
    assert percent > 60
