"""The dot unit's own checks find what is wrong, and pass what is right."""

import numpy as np
import pytest

from bitkiln.hw.emit import prepare
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.dot_check import check_dot, check_many, extreme_codes
from bitkiln.sim.runner import run_bench


def test_exhaustive_check_counts_every_pair():
    result = check_dot(DotDesign.from_pe("fp4"), seed=7)
    assert result.exhaustive and result.mismatches == 0 and result.first is None
    assert result.parts["all pairs"] >= 4 * 256 and result.pairs >= 4 * 4 * 256
    assert result.vectors == sum(result.parts.values()) and result.seed == 7
    result.raise_on_mismatch()


def test_variants_agree_with_the_golden_model():
    designs = [
        DotDesign("int4", "int4", lanes=1, pipeline=2),
        DotDesign("fp6_e3m2", "ternary", lanes=3, output="fp8_e5m2"),
        DotDesign("int8", "fp4", lanes=2, accumulator=Accumulator(bits=12)),
        DotDesign("posit4_1", "posit4_1", lanes=5, pipeline=1, output="fp6_e2m3"),
        DotDesign("fp8_e5m2", "fp4", lanes=2, accumulator=Accumulator(kind="fp32")),
    ]
    for result in check_many(designs, seed=2, pairs=2000):
        result.raise_on_mismatch()
        assert result.vectors > 2000 / 5 and not result.exhaustive


def test_wrong_netlist_is_found():
    design = DotDesign.from_pe("fp4")
    prepared = prepare(DotUnit(design))
    text = prepared.verilog()
    broken = text.replace("clear ?", "1'b0 ?") if "clear ?" in text else text.replace("clear)", "1'b0)")
    assert broken != text
    result = check_dot(design, model=BatchModel.from_verilog(broken, prepared.top, prepared.ports))
    assert result.mismatches > 0 and "expected" in result.first
    with pytest.raises(BitkilnError) as caught:
        result.raise_on_mismatch()
    assert caught.value.exit_code == 1 and "RTL and golden model differ at dot_fp4_l4" in str(caught.value)


def test_extreme_codes_contain_all_kinds():
    e5m2 = DotDesign.from_pe("fp8_e5m2").activation
    codes = extreme_codes(e5m2)
    values = e5m2.decode(codes)
    assert np.isnan(values).any() and np.isposinf(values).any() and np.isneginf(values).any()
    assert e5m2.max in values and -e5m2.max in values and e5m2.min_positive in values and 0 in values


@pytest.mark.parametrize("design", [DotDesign.from_pe("fp4"),
                                    DotDesign.from_pe("fp8_e5m2", pipeline=2, output="fp8_e5m2")],
                         ids=lambda design: design.name)
def test_cocotb_bench(design):
    result = run_bench(DotUnit(design), "bitkiln.sim.benches.dot", seed=11,
                       parameters={"design": design, "cycles": 1500, "seed": 11})
    assert (result.tests, result.vectors, result.cycles) == (1, 1500, 1500)
    assert result.facts["seed"] == 11


def test_cocotb_bench_finds_a_wrong_expectation():
    design = DotDesign.from_pe("fp4")
    other = DotDesign("int4", "int4", accumulator=Accumulator(bits=design.accumulator_bits))
    with pytest.raises(BitkilnError) as caught:
        run_bench(DotUnit(design), "bitkiln.sim.benches.dot",
                  parameters={"design": other, "cycles": 200, "seed": 1})
    assert caught.value.exit_code == 1 and "bench tests failed" in str(caught.value)
