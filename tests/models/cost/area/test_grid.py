"""Grids of dot units give the numbers of one estimate at a time."""

import numpy as np
import pytest

from bitkiln.models.cost.area.area import Technology, area_estimate
from bitkiln.models.cost.area.area_features import unit_blocks
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.cost.area.grid import unit_grid
from bitkiln.models.cost.mapping import map_layer
from bitkiln.models.design import Accumulator, DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes_registry import get_workload

PAIRS = ("int3", "uint4", "int8", "int8xternary", "fp4", "fp8_e5m2", "posit8_1", "fp8_e4m3xint4", "e3m0")
LANES, DEPTHS, PIPELINES = (1, 2, 3, 5, 8, 16), (3, 64, 1000, 16384), (0, 1, 2, 3, 4, 5, 6)
NEVER_FITTED = "decode:posit_exponent"


def made_up(metrics: tuple[str, ...] = ("lut", "carry", "ff")) -> Technology:
    """Coefficients drawn for all counts but one; only half of the units' sizes were seen, one pair never."""
    random = np.random.default_rng(3)
    units = [DotDesign.from_pe(pair, lanes=lanes, pipeline=pipeline) for pair in PAIRS for lanes in (1, 4)
             for pipeline in PIPELINES]
    blocks = [block for unit in units for block in unit_blocks(unit)]
    names = sorted({name for block in blocks for name in block.counts} - {NEVER_FITTED})
    kinds = sorted({kind for block in blocks for kind, _ in block.kinds if "e3m0" not in kind})
    models = {}
    for metric in metrics:
        largest = {name: max(block.counts.get(name, 0.0) for block in blocks) for name in names}
        models[metric] = LinearModel({name: float(random.random()) for name in names},
                                     {kind: float(random.normal(0, 0.2)) for kind in kinds}, largest, 0.07, 0.31)
    weights = {name: 1 + at for at, name in enumerate(metrics[:2])}
    return Technology("made up", "none", "cells", weights, models, {}, {"table": "none"})


@pytest.mark.parametrize("metrics", [("lut", "carry", "ff"), ("lut", "carry", "ff", "srl")])
def test_grid_equals_single_estimates(metrics):
    tech, workload = made_up(metrics), get_workload("digits-cnn")
    grid = unit_grid(tech, PAIRS, LANES, DEPTHS, PIPELINES, workload)
    assert grid["area"].shape == (len(PAIRS), len(LANES), len(DEPTHS), len(PIPELINES))
    random = np.random.default_rng(1)
    refused = unseen = 0
    for _ in range(150):
        at = tuple(int(random.integers(size)) for size in grid["area"].shape)
        unit = DotDesign.from_pe(PAIRS[at[0]], lanes=LANES[at[1]], accumulator=Accumulator(depth=DEPTHS[at[2]]),
                                 pipeline=PIPELINES[at[3]])
        cycles = sum(map_layer(unit, layer).cycles for layer in workload.layers)
        assert grid["cycles"][at] == cycles
        one = area_estimate(unit, tech)
        if one.value is None:
            refused += 1
            assert all(np.isnan(grid[name][at]) for name in ("area", "low", "high", "lut", "ff", "area_cycles"))
            assert not grid["known"][at]
            continue
        unseen += not one.known
        expected = {"area": one.value, "low": one.low, "high": one.high, "area_cycles": one.value * cycles}
        for name, value in (expected | one.metrics).items():
            assert grid[name][at] == pytest.approx(value, rel=1e-9), (unit.name, name)
        assert grid["known"][at] == one.known
    assert refused and unseen       # both cases were among them


def test_without_a_workload_there_are_no_cycles():
    grid = unit_grid(made_up(("logic", "registers")), ("int8",), (1, 2), (64,), (0,))
    assert set(grid) == {"area", "low", "high", "known", "logic", "registers"}


@pytest.mark.parametrize("wrong", [{"pairs": ("int8z",)}, {"lanes": (0,)}, {"depths": (0,)}, {"pipelines": (7,)}])
def test_wrong_values_are_refused(wrong):
    given = {"pairs": ("int8",), "lanes": (1,), "depths": (64,), "pipelines": (0,)} | wrong
    with pytest.raises(BitkilnError):
        unit_grid(made_up(), **given)
