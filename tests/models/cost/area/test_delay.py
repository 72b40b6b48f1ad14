"""Paths of units, the fit of their delays, and what an estimate makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from bitkiln.models.cost.area.area import Technology
from bitkiln.models.cost.area.area_features import unit_blocks
from bitkiln.models.cost.area.delay import critical_path, delay_estimate, fit_delay
from bitkiln.models.cost.area.delay_paths import design_paths, unit_paths
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.cost.estimate import estimate
from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from bitkiln.models.workloads.shapes_registry import get_workload

PAIRS = ("int2", "int4", "int6", "int8", "uint4", "fp4", "e2m2", "fp8_e4m3", "posit6_0", "posit8_1", "int8xfp4")
OUTPUTS = ("int8", "fp8_e4m3", "fp16", "posit8_0")


def units() -> list[DotDesign]:
    return [DotDesign.from_pe(pair, lanes=lanes, pipeline=pipeline, accumulator=Accumulator(depth=depth))
            for pair in PAIRS for lanes, depth in ((1, 64), (1, 4096), (4, 256), (8, 1024)) for pipeline in range(4)]


def names(**options) -> set[str]:
    return {path.name for path in unit_paths(DotDesign.from_pe(**options))}


def test_registers_cut_the_path_where_they_stand():
    assert names(name="fp8_e4m3", lanes=4) == {"decode+multiply+align+add+accumulate",
                                               "decode+shift+align+add+accumulate"}
    assert names(name="fp8_e4m3", lanes=4, pipeline=1) == {"decode+multiply", "decode+shift", "align+add+accumulate"}
    assert names(name="fp8_e4m3", lanes=4, pipeline=2) == {"decode+multiply", "decode+shift", "align", "add+accumulate"}
    assert names(name="fp8_e4m3", lanes=4, pipeline=3) == {"decode", "multiply", "shift", "align", "add+accumulate"}
    assert names(name="int8", lanes=4, pipeline=5) == {"multiply", "add", "accumulate"}
    assert names(name="int8", lanes=1) == {"multiply+accumulate"}
    assert names(name="int8", lanes=1, output="int8") == {"multiply+accumulate", "encode"}


def test_a_path_grows_with_what_is_on_it():
    def total(**options) -> float:
        return max(sum(path.block.counts.values()) for path in unit_paths(DotDesign.from_pe("int8", **options)))

    assert total(lanes=8) > total(lanes=2) > total(lanes=1)
    assert total(lanes=1, accumulator=Accumulator(depth=1 << 16)) > total(lanes=1, accumulator=Accumulator(depth=16))
    assert total(lanes=1, pipeline=3) < total(lanes=1)


def made_up_model(seed: int = 0) -> LinearModel:
    """Some of the counts cost something, drawn."""
    random = np.random.default_rng(seed)
    counts = sorted({name for unit in units() for path in unit_paths(unit) for name in path.block.counts})
    chosen = {name: float(random.uniform(0.5, 2)) for name in
              ("accumulate:bits", "add:widths", "multiply:widths", "multiply:select", "align:bits", "shift:widths")}
    return LinearModel({name: chosen.get(name, 0.0) * 50 for name in counts} | {"control:path": 300.0})


def test_fit_finds_the_slowest_paths_by_itself():
    model, designs = made_up_model(), units()
    random = np.random.default_rng(2)
    slowest = [critical_path(model, unit_paths(unit)) for unit in designs]
    assert len({path.name for path, _ in slowest}) >= 5       # not one kind of path everywhere
    noise = random.normal(1, 0.01, len(designs))
    delays = [each.value * factor for (_, each), factor in zip(slowest, noise, strict=True)]
    check = [at % 5 == 0 for at in range(len(designs))]
    fitted, errors = fit_delay(designs, delays, check)
    assert errors["held_out"]["mean"] < 0.03
    assert errors["held_out"]["designs"] == sum(check)
    assert errors["tenth_left_out"]["mean"] < 0.03
    assert 0 < fitted.error_known <= fitted.error_new
    inside = 0
    for unit, delay in zip(designs, delays, strict=True):
        found = delay_estimate(unit, fitted)
        inside += found.low <= delay <= found.high
    assert inside >= 0.9 * len(designs)


def test_a_slow_rounding_is_found():
    """The path behind the accumulator has few levels and is the slowest: the rounds must begin with it, too."""
    random = np.random.default_rng(5)
    designs = [DotDesign.from_pe(pair, lanes=lanes, pipeline=pipeline, output=str(random.choice(OUTPUTS)),
                                 accumulator=Accumulator(depth=int(random.choice((64, 1024, 16384)))))
               for pair in PAIRS for lanes in (2, 8) for pipeline in (0, 2)] + units()[::3]
    counts = sorted({name for unit in designs for path in unit_paths(unit) for name in path.block.counts})
    slow = {"encode:minifloat": 4000.0, "encode:posit": 6000.0, "encode:int": 3000.0, "encode:bits": 150.0}
    rounding = {name: slow.get(name, 0.0) for name in counts if "encode" in name}
    model = LinearModel(made_up_model().coefficients | rounding)
    found = [critical_path(model, unit_paths(unit)) for unit in designs]
    assert sum(path.name == "encode" for path, _ in found) > 30
    _, errors = fit_delay(designs, [each.value for _, each in found], [at % 5 == 0 for at in range(len(designs))])
    assert errors["held_out"]["mean"] < 0.05


def test_few_runs_are_not_fitted():
    assert fit_delay(units()[:20], [1000.0] * 20, [False] * 20) is None


def test_what_has_no_model_says_so():
    model, merged = made_up_model(), MorphableDesign(("fp4", "posit16_1"))
    assert merged.implementation == "merged"
    rounded = DotDesign.from_pe("int8", output="int8")
    for design, reason in ((merged, "merged"), (object(), "engine"), (rounded, "encode")):
        found = delay_estimate(design, model)
        assert found.value is None and found.fmax == (None, None, None) and reason in found.note
    assert "no delays" in delay_estimate(DotDesign.from_pe("int8"), None).note


def test_arrays_have_their_pe_s_paths_and_a_wider_interval():
    model = replace(made_up_model(), error_known=0.1, error_new=0.1)
    pe = MorphableDesign(("int4",), pipeline=1)
    one, array = delay_estimate(pe, model), delay_estimate(ArrayDesign(2, 2, pe), model)
    assert array.value == one.value and "PE's paths only" in array.note
    assert array.high - array.value == pytest.approx(1.5 * (one.high - one.value))
    paths, note = design_paths(MorphableDesign(("int4", "fp4"), implementation="parallel"))
    assert note == "" and all("control:modes" in path.block.counts for path in paths)


def test_cores_have_no_clock():
    found = delay_estimate(MatmulDesign(ArrayDesign(2, 2, MorphableDesign(("int4",))), bus_bits=64, k_words=64),
                           made_up_model())
    assert found.value is None and found.fmax == (None, None, None) and "output stage" in found.note


def technology(delay: LinearModel | None) -> Technology:
    area = LinearModel({name: 1.0 for unit in units() for block in unit_blocks(unit) for name in block.counts})
    return Technology("made up", "none", "um2", {"logic": 1, "registers": 1}, {"logic": area, "registers": area}, {},
                      {"table": "none.csv"}, delay)


def test_clock_and_time_of_an_estimate():
    model = replace(made_up_model(), error_known=0.1, error_new=0.2)
    unit, workload = DotDesign.from_pe("int8", lanes=4), get_workload("digits-cnn")
    found = estimate(unit, workload, technology=technology(model))
    assert found.fmax.value == pytest.approx(1e6 / found.delay.value)
    assert found.fmax.low < found.fmax.value < found.fmax.high
    assert found.seconds.value == pytest.approx(found.cycles.value * found.delay.value * 1e-12)
    assert found.seconds.low < found.seconds.value < found.seconds.high
    shown = found.as_dict()
    assert shown["fmax"]["unit"] == "MHz" and shown["seconds"]["unit"] == "s" and "none.csv" in shown["delay"]["source"]
    without = estimate(unit, workload, technology=technology(None))
    assert without.fmax.value is None and without.seconds.value is None and "no delays" in without.fmax.source
    assert estimate(unit, workload).seconds.value is None


def test_files_with_and_without_delays():
    for tech in (technology(made_up_model()), technology(None)):
        again = Technology.from_dict(tech.as_dict())
        assert (again.delay is None) == (tech.delay is None)
    old = technology(None).as_dict()
    del old["delay"]
    assert Technology.from_dict(old).delay is None
