"""Cycles of the sparse-convolution engine equal its event model: no pass of any layer begins a cycle early or late."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spconv_core import DESIGNS, SEED

from bitkiln.host.spconv import compile_network
from bitkiln.host.spconv_cycles import program_cycles
from bitkiln.hw.spconv.engine import SpConvEngine
from bitkiln.models.cost.spconv.gather import lane_counts
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.spconv_nets import dilating_encoder, encoder_decoder
from bitkiln.sim.spconv_check import edge_network, network_on, run_program, small_network
from bitkiln.sim.spconv_cycles import check_cycles, random_design, random_programs, with_operator
from bitkiln.sim.streams import StreamModel, build_streams


@lru_cache(maxsize=1)
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([SpConvEngine(design) for design in DESIGNS.values()]), strict=True))


@pytest.mark.parametrize("name", DESIGNS)
def test_networks(name):
    """All designs, all their operators, from a few voxels to a full tree."""
    design, rng = DESIGNS[name], np.random.default_rng(SEED)
    programs = [compile_network(design, small_network(design, "encoder-decoder", voxels, SEED)) for voxels in (20, 400)]
    programs += random_programs(design, rng, 8)
    convolutions = 0
    for at, program in enumerate(programs):
        found = check_cycles(design, program, models()[name], seed=SEED + at, odd=at % 3 == 2)
        convolutions += sum(len(job.passes) for job in found.predicted.jobs)
    print("seed", SEED)
    assert convolutions > 15


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(DESIGNS)), st.sampled_from(["encoder-decoder", "dilating", "edges"]),
       st.sets(st.tuples(st.integers(0, 1), *[st.integers(0, 7)] * 3), max_size=60), st.integers(0, 24),
       st.integers(0, 99))
def test_any_cloud(name, kind, voxels, corner, seed):
    design = DESIGNS[name]
    width = design.gather.outputs
    net = encoder_decoder("any", (width, width), width) if design.trees < 2 or kind == "encoder-decoder" else \
        dilating_encoder("any", (width, 2 * width), width) if kind == "dilating" else edge_network(width)
    side = (1 << design.map.depth) - (kind == "edges")
    indices = np.array(sorted(voxels), np.int64).reshape(-1, 4) + [0, corner, corner, corner]
    program = compile_network(design, network_on(design, net, indices[(indices[:, 1:] < side).all(axis=1)], seed, side))
    check_cycles(design, program, models()[name], seed=seed)


def test_it_is_seen_when_something_waits_or_the_model_is_of_another_core():
    design = DESIGNS["int8"]
    program = compile_network(design, small_network(design, "encoder-decoder", 60, SEED))
    model, predicted = models()["int8"], program_cycles(design, program)
    for stalls in ({"voxel": 0.5}, {"weight": 0.9}, {"o": 0.5}):
        waited = run_program(design, model, program, stalls=stalls, seed=SEED)
        assert waited.counters["CYCLES"] > predicted.cycles
    for other in (design.with_options(gather=design.gather.with_options(pipeline=design.gather.pipeline + 1)),
                  design.with_options(map=design.map.with_options(rows=design.map.rows // 2)),
                  design.with_options(output_lanes=1)):
        with pytest.raises(BitkilnError, match="RTL and cycle model differ"):
            check_cycles(other, program, model)


def test_weights_that_no_pair_needs():
    """A pass ends when all pinned tiles are there."""
    design = DESIGNS["int8"]
    run = network_on(design, encoder_decoder("one", (8,), 16), np.array([[0, 3, 5, 7]]))
    program, passes = compile_network(design, run), []
    for pinned in (1 << 13, 0x1ff << 13, 0x1ff, 0):
        steps = [replace(step, job=replace(step.job, pinned=pinned)) for step in program.steps]
        found = check_cycles(design, replace(program, steps=steps), models()["int8"])
        passes.append(found.predicted.jobs[1].passes)
    needed, more, others, none = (each[0] for each in passes)
    assert all(len(set(each)) == 1 for each in passes) and more > 9 * 16 > needed and others > none


def test_right_behind_the_reset_the_order_of_work_is_not_ready():
    design = DESIGNS["int8"]
    run = network_on(design, encoder_decoder("one", (4,), 4), np.array([[0, 3, 5, 7]]))
    program = with_operator(design, run, compile_network(design, run), "generative2")
    twice = replace(program, steps=2 * program.steps)
    jobs = check_cycles(design, twice, models()["int8"]).predicted.jobs
    assert jobs[1].cycles > jobs[4].cycles and jobs[0] == jobs[3] and jobs[2] == jobs[5]


def test_no_pass_beats_its_units():
    """A step, a pair and a result each take a cycle of one unit."""
    design = DESIGNS["int8"]
    g = design.gather
    program = compile_network(design, small_network(design, "encoder-decoder", 300, SEED))
    for step, job in zip(program.steps, program_cycles(design, program).jobs, strict=True):
        if step.layer is not None:
            conv = step.layer.map
            steps = int(lane_counts(g, step.layer.inputs).max(axis=1)[conv.inp].sum())
            assert min(job.passes) > max(steps, conv.pairs, conv.rows * g.outputs // design.output_lanes)
            assert job.cycles == 1 + sum(job.passes) and len(job.passes) == step.job.passes


@pytest.mark.slow
@pytest.mark.parametrize("pack, seed", [*(("item", seed) for seed in range(8)), *(("row", seed) for seed in range(4))])
def test_random_designs(pack, seed):
    rng = np.random.default_rng(seed)
    design = random_design(rng, pack)
    model = StreamModel(SpConvEngine(design))
    for at, program in enumerate(random_programs(design, rng, 5)):
        check_cycles(design, program, model, seed=seed + at, odd=at == 3)
