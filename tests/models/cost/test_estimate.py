"""Estimates: sums over jobs, roofs below, memories in order, and a unit and a source on every number."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from bitkiln.models.cost.area.area import Technology
from bitkiln.models.cost.area.fit import LinearModel
from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.cost.cycles.mac_cycles import DotJob, array_total, dot_total, pe_total
from bitkiln.models.cost.estimate import estimate
from bitkiln.models.cost.mapping import choices, layer_modes, map_layer, peak_macs
from bitkiln.models.cost.memory.memory import Hierarchy, MemoryTier
from bitkiln.models.cost.memory.memory_tiers import dram_tier, sram_tier
from bitkiln.models.cost.quantity import KINDS, Quantity
from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.shapes import LayerShape, Workload
from bitkiln.models.workloads.shapes_registry import get_workload, workload_names

PE = MorphableDesign(("int8", "fp4"), Accumulator("exact", depth=1024))
ENGINES = {
    "dot": DotDesign.from_pe("int8", lanes=4),
    "dot fp32": DotDesign.from_pe("bf16xint4", lanes=1),
    "dot output": DotDesign.from_pe("posit8_0", lanes=2, output="posit8_0"),
    "pe": PE,
    "array": ArrayDesign(4, 3, PE),
    "array systolic": ArrayDesign(2, 5, PE, links="systolic"),
    "array weight": ArrayDesign(4, 4, PE, dataflow="weight"),
    "core": MatmulDesign(ArrayDesign(4, 4, PE), bus_bits=64, k_words=64, accumulate=True),
    "core wide": MatmulDesign(ArrayDesign(8, 2, PE), bus_bits=256, k_words=256, accumulate=True),
    "serial": BitSerialDesign(("bitmod4", "int8"), rows=2, columns=2, lanes=4, group=16, groups=4),
}
SMALL = [name for name in workload_names() if get_workload(name).macs < 3e9]
MEMORY = Hierarchy((sram_tier("2048x64", 16, "scratchpad"), dram_tier("lpddr4")), 200.0)
SLOW = Hierarchy((MemoryTier("sram", 1 << 14, "assumed", bandwidth_bits_per_cycle=32, energy_pj_per_bit=1.0),
                  MemoryTier("dram", 1 << 44, "assumed", bandwidth_bytes_per_s=1e8, energy_pj_per_bit=8.0)), 200.0)


def random_workload(rng: np.random.Generator, most: int) -> Workload:
    layers = [LayerShape(f"l{i}", *(int(rng.integers(1, most)) for _ in range(3)), int(rng.integers(1, 4)))
              for i in range(int(rng.integers(1, 5)))]
    return Workload("drawn", tuple(layers), "drawn")


def test_there_are_small_workloads():
    assert {"digits-mlp", "digits-cnn", "g2p", "resnet18", "mobilenetv2"} <= set(SMALL)


@pytest.fixture(scope="module")
def workloads():
    return [get_workload(each) for each in SMALL]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("memory", [None, MEMORY, SLOW], ids=["no memory", "default", "slow"])
def test_sums_and_roofs(name, memory, workloads):
    """Of every small workload: compute and stalls are the cycles, and no layer beats its roofline."""
    design = ENGINES[name]
    for workload in workloads:
        found = estimate(design, workload, memory=memory)
        assert found.cycles.value == sum(layer.cycles for layer in found.layers)
        assert found.macs == workload.macs and len(found.layers) == len(workload.layers)
        for layer in found.layers:
            assert layer.compute > 0 and min(layer.stalls.values(), default=1) > 0
            assert layer.compute + sum(layer.stalls.values()) == layer.cycles, (workload.name, layer)
            for roof, bound in layer.bounds.items():
                assert layer.cycles >= bound - 1e-9 * bound, (workload.name, layer.name, roof)
            assert layer.bounds[layer.roof] == max(layer.bounds.values())
        assert found.cycles.value >= found.bound
        assert 0 < found.utilisation <= 1
        assert found.cycles.kind == ("model" if "memory" in found.stalls else "exact")
        for total, part in ((found.stalls, "stalls"), (found.bytes, "bytes")):
            for key, amount in total.items():
                assert amount == sum(getattr(layer, part).get(key, 0) for layer in found.layers)


def test_slow_memories_are_felt():
    """Otherwise the test above would say nothing about them."""
    found = estimate(ENGINES["core wide"], get_workload("resnet18"), memory=SLOW)
    assert found.stalls["memory"] > 0 and found.roof == "dram"


def last_job(m: int, k: int, n: int, order: str) -> Job:
    """The job that ends a sum: codes of the activation's format, each channel with a factor of its own."""
    return Job("int8", m, k, n, order=order, rule="integer", output="int8", scale=1, per_channel=True)


def test_cycles_are_those_of_the_jobs():
    rng = np.random.default_rng(3)
    for _ in range(60):
        layer = LayerShape("x", int(rng.integers(1, 40)), int(rng.integers(1, 200)), int(rng.integers(1, 40)),
                           int(rng.integers(1, 4)))
        mode = str(rng.choice(("int8", "fp4")))
        job = Job(mode, layer.m, layer.k, layer.n)
        array, core, dot = ENGINES["array"], ENGINES["core wide"], ENGINES["dot"]
        assert map_layer(array, layer, mode).cycles == layer.count * array_total(array, job)
        assert map_layer(PE, layer, mode).cycles == layer.count * pe_total(PE, job)
        sums = DotJob((layer.k,) * (layer.m * layer.n))
        assert map_layer(dot, layer).cycles == layer.count * dot_total(dot, sums)
        both = [matmul_cycles(core, last_job(layer.m, layer.k, layer.n, order)).cycles for order in ("a", "w")]
        found = map_layer(core, layer, "int8")
        assert found.cycles == layer.count * min(both) and found.jobs == layer.count


def test_long_sums_go_over_several_jobs():
    """Each job holds `max_k` products, later ones take the sums of those before."""
    core = ENGINES["core"]
    longest = core.max_k("int8")
    for steps, rest in ((2, 1), (3, longest), (5, 7)):
        layer = LayerShape("long", 5, (steps - 1) * longest + rest, 6)
        found = map_layer(core, layer, "int8")
        order = found.detail.split()[-1]
        first = Job("int8", 5, longest, 6, order=order)
        jobs = [first, *[replace(first, accumulate=True)] * (steps - 2),
                replace(last_job(5, rest, 6, order), accumulate=True)]
        assert (found.jobs, found.cycles) == (steps, sum(matmul_cycles(core, job).cycles for job in jobs))
        assert found.ports["c"] == (steps - 1) * -(-5 * 6 * core.raw_bits // 8)
    whole = map_layer(core, LayerShape("short", 5, longest, 6), "int8")
    assert whole.jobs == 1 and "c" not in whole.ports
    alone = core.with_options(accumulate=False)
    with pytest.raises(BitkilnError, match="K too long for one job at layer long"):
        map_layer(alone, LayerShape("long", 5, longest + 1, 6), "int8")


def test_faster_and_larger_memories_never_cost_more():
    rng = np.random.default_rng(5)
    sizes, speeds = (1 << 12, 1 << 16, 1 << 20, 1 << 24), (1e8, 1e9, 1e10)
    felt = 0
    for name in ("dot", "array", "core", "core wide", "serial"):
        for _ in range(4):
            workload = random_workload(rng, 120)
            grid = {}
            for size in sizes:
                for speed in speeds:
                    tiers = (MemoryTier("sram", size, "assumed", bandwidth_bits_per_cycle=64, energy_pj_per_bit=1.0),
                             MemoryTier("dram", 1 << 44, "assumed", bandwidth_bytes_per_s=speed, energy_pj_per_bit=8.0))
                    found = estimate(ENGINES[name], workload, memory=Hierarchy(tiers, 200.0))
                    parts = sum(found.energy[tier.name].value for tier in tiers)
                    grid[size, speed] = (found.cycles.value, parts)
            for size, larger in zip(sizes, sizes[1:], strict=False):
                for speed in speeds:
                    assert grid[larger, speed] <= grid[size, speed]
                    assert grid[larger, speed][1] <= grid[size, speed][1]
                    felt += grid[larger, speed] != grid[size, speed]
            for speed, faster in zip(speeds, speeds[1:], strict=False):
                for size in sizes:
                    assert grid[size, faster][0] <= grid[size, speed][0]
                    assert grid[size, faster][1] == grid[size, speed][1]     # bytes do not depend on the speed
                    felt += grid[size, faster] != grid[size, speed]
    assert felt > 20


# Modes of layers -----------------------------------------------------------------------------------------

LAYERS = (LayerShape("in", 4, 8, 8, layer_class="first"), LayerShape("mid", 4, 8, 8), LayerShape("deep", 4, 8, 8),
          LayerShape("out", 4, 8, 2, layer_class="last"))


@pytest.mark.parametrize("assignment, modes", [
    (None, "int8 int8 int8 int8"), ("fp4", "fp4 fp4 fp4 fp4"), ({"default": "fp4"}, "fp4 fp4 fp4 fp4"),
    ({"body": "fp4"}, "int8 fp4 fp4 int8"), ({"first": "int8", "default": "fp4"}, "int8 fp4 fp4 fp4"),
    ({"body": "fp4", "deep": "int8"}, "int8 fp4 int8 int8"), ({"deep": "fp4", "body": "int8"}, "int8 int8 fp4 int8")])
def test_a_layers_name_goes_before_its_class(assignment, modes):
    workload = Workload("four", LAYERS, "test")
    found = [mode for _, mode in layer_modes(PE, LAYERS, assignment)]
    assert found == modes.split()
    whole = estimate(ENGINES["core"], workload, assignment=assignment)
    assert [layer.mode for layer in whole.layers] == found
    assert whole.cycles.value == sum(map_layer(ENGINES["core"], layer, mode).cycles
                                     for layer, mode in zip(LAYERS, found, strict=True))


@pytest.mark.parametrize("assignment, message, help", [
    ({"frist": "fp4"}, "no such layer or layer class at assignment: got 'frist'", "first"),
    ({"deep": "fp5"}, "the design has no such mode at layer deep: got 'fp5', expected int8 or fp4", "fp4"),
    ("int4", "the design has no such mode at layer in: got 'int4'", "int8")])
def test_unknown_layers_and_modes(assignment, message, help):
    with pytest.raises(BitkilnError) as caught:
        estimate(ENGINES["core"], Workload("four", LAYERS, "test"), assignment=assignment)
    assert message in str(caught.value) and help in caught.value.help


def test_engine_without_a_mapping():
    with pytest.raises(BitkilnError, match="no workload mapping for this engine"):
        estimate(object(), get_workload("digits-mlp"))


@pytest.mark.parametrize("name", ENGINES)
def test_every_mode_has_a_peak(name):
    for mode in choices(ENGINES[name]):
        assert peak_macs(ENGINES[name], mode) > 0


# What the numbers say about themselves ---------------------------------------------------------------------

def made_up_technology(design) -> Technology:
    """A cost of 1 for everything in a design."""
    from bitkiln.models.cost.area.area import for_metric, metrics_of
    from bitkiln.models.cost.area.area_blocks import design_blocks

    models = {metric: LinearModel({name: 1.0 for block in for_metric(design_blocks(design), metric)
                                   for name in block.counts}, error_known=0.1, error_new=0.2)
              for metric in metrics_of("ecp5")}
    return Technology("ecp5", "none", "cells", {"lut": 1, "carry": 2}, models, {}, {"table": "made up"})


# Plain numbers whose key says the unit, or that have the unit of the total beside them.
NAMED = {"macs", "peak_macs_per_cycle", "utilisation", "bytes", "stalls", "metrics", "parts", "bound_cycles", "config",
         "cycles", "compute", "bounds", "energy_pj", "known"}


def numbers(tree, path=()):
    """Paths of plain numbers; a quantity stands for its own."""
    if isinstance(tree, dict) and "value" in tree:
        assert set(tree) == {"value", "unit", "kind", "source", "low", "high"}, path
        assert tree["unit"] and tree["kind"] in KINDS and tree["source"], path
        if None not in (tree["value"], tree["low"], tree["high"]):
            assert tree["low"] <= tree["value"] <= tree["high"], path
    elif isinstance(tree, dict):
        for key, each in tree.items():
            yield from numbers(each, (*path, key))
    elif isinstance(tree, list):
        for each in tree:
            yield from numbers(each, path)
    elif isinstance(tree, (int, float)):
        yield path


@pytest.mark.parametrize("name", ["dot", "dot output", "pe", "array", "core"])
def test_every_number_has_unit_and_source(name):
    design = ENGINES[name]
    energies = {mode: Quantity(1.5, "pJ", "model", "made up", 1.0, 2.0) for mode in choices(design)}
    found = estimate(design, get_workload("digits-mlp"), technology=made_up_technology(design), memory=MEMORY,
                     mac_energy=energies)
    tree = found.as_dict()
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree
    for path in numbers(tree):
        assert NAMED & set(path), path
    assert tree["cycles"]["unit"] == "cycles" and tree["area"]["total"]["unit"] == "cells"
    assert {each["unit"] for each in tree["energy"].values()} == {"pJ"}
    energy = tree["energy"]
    assert energy["total"]["value"] == pytest.approx(sum(energy[part]["value"] for part in energy if part != "total"))
    assert energy["arithmetic"]["value"] == pytest.approx(1.5 * found.macs)


def test_an_unknown_part_makes_the_total_unknown():
    found = estimate(ENGINES["dot"], get_workload("digits-mlp"), memory=MEMORY)
    assert found.energy["total"].value is None and "arithmetic" in found.energy["total"].source
    assert found.energy["lpddr4"].value > 0 and found.area is None


def test_the_peak_of_several_modes_is_that_of_the_products():
    """FP4 has four products a cycle in each PE where INT8 has two: utilisation is products over peak and cycles."""
    core = MatmulDesign(ArrayDesign(4, 4, MorphableDesign(("fp4", "int8"))), k_words=256, bus_bits=256)
    found = estimate(core, get_workload("resnet18"), assignment={"default": "fp4", "first": "int8"})
    alone = [estimate(core, get_workload("resnet18"), assignment=mode).peak for mode in ("fp4", "int8")]
    assert alone == [64, 32] and 32 < found.peak < 64
    assert found.macs / (found.peak * found.cycles.value) == pytest.approx(found.utilisation)
    assert found.macs / found.cycles.value <= found.peak
