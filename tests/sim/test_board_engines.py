"""The dequantising and the sparse-convolution core on a board, simulated down to its serial pins, with the drivers."""

from dataclasses import replace

import numpy as np
import pytest

from bitkiln.boards.board import board
from bitkiln.boards.top import identity_of
from bitkiln.flow.bitstream import board_design
from bitkiln.host import dequant_driver
from bitkiln.host.board import BoardTransport
from bitkiln.host.dequant import job_beats
from bitkiln.host.dequant_driver import DequantDriver
from bitkiln.host.line import NoisyLine
from bitkiln.host.link import Link
from bitkiln.host.spconv import compile_network
from bitkiln.host.spconv_driver import SpConvDriver
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dequant import dequant_matmul
from bitkiln.models.workloads.spconv_nets import encoder_decoder
from bitkiln.sim.board_run import BoardModel, SimLine
from bitkiln.sim.dequant_check import random_job, random_specials
from bitkiln.sim.spconv_check import edge_network, network_on, small_network

ULX3S = board("ulx3s")
BAUD = 10_000_000            # five cycles a bit: a simulated line can be that fast
# The smallest that still have tiles, groups and passes.
DEQUANT = {"engine": "dequant_core", "weights": ["bitmod3", "ternary"], "activation": "int8", "lanes": 2,
           "array.rows": 2, "array.columns": 2, "group.size": 16}
SPCONV = {"engine": "spconv", "array.lanes": 2, "array.outputs": 2, "channels": 4, "output_lanes": 1, "trees": 1,
          "tree.depth": 3, "tree.capacity": 64, "tree.batch_bits": 0, "cache.pinned": 2, "cache.tile_rows": 8,
          "memory.feature_words": 1024, "memory.mask_rows": 512, "queue": 2}


def resolved(settings):
    return board_design(ULX3S, cli={key: (value, "test") for key, value in settings.items()})


def transport_of(settings, *, noise: float = 0.0, seed: int = 0):
    """Design and transport of a board fresh from reset."""
    found = resolved(settings)
    line = SimLine(BoardModel(found.design, identity_of(ULX3S, found.design, found.digest, baud=BAUD), seed=seed))
    if noise:
        line = NoisyLine(line, seed, drop=noise, repeat=noise, corrupt=noise)
    return found.design, BoardTransport(Link(line), found.digest)


# Dequantising core ------------------------------------------------------------------------------------


def dequant_jobs(settings, *, noise: float, count: int, seed: int, **sizes) -> int:
    """Random jobs, three under way at a time, with tables of special values in between; results compared."""
    design, transport = transport_of(settings, noise=noise, seed=seed)
    driver, rng, tables, compared = DequantDriver(transport, design), np.random.default_rng(seed), {}, 0
    for first in range(0, count, 3):
        cases = [random_job(design, rng, **sizes) for _ in range(3)]
        for case in cases:
            driver.submit(case.job, case.activations, case.weights)
        for case in cases:
            found = driver.collect()
            wanted = dequant_matmul(design, case.job, case.activations, case.weights, tables)
            assert np.array_equal(found, wanted), f"{case.job}, after job {first}"
            compared += wanted.size
        tables = random_specials(design, rng)
        driver.write_specials(tables)
    assert driver.status()["busy"] == driver.status()["mismatch"] == 0
    if noise:
        assert min(transport.link.line.injected.values()) > 0 and transport.link.counts["repeated"] > 0
    return compared


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_dequant_jobs(noise):
    assert dequant_jobs(DEQUANT, noise=noise, count=6, seed=4, most_k=60, most_channels=9) > 30


def test_dequant_activations_that_are_too_few(monkeypatch):
    """The core counts them; the driver says so, begins anew, and the next job is exact."""
    design, transport = transport_of(DEQUANT)
    driver, rng = DequantDriver(transport, design), np.random.default_rng(1)
    case = random_job(design, rng, most_k=40)
    while len(case.job.lengths) < 2:
        case = random_job(design, rng, most_k=40)
    beats_of = dequant_driver.activation_beats

    def short(*arguments):
        beats = beats_of(*arguments)
        return np.concatenate([beats[:-2 * design.array.rows], beats[-design.array.rows:]])

    with monkeypatch.context() as patch, pytest.raises(
            BitkilnError, match="activations were not as many as the job needs at status: got 'mismatch 1'"):
        patch.setattr(dequant_driver, "activation_beats", short)
        driver.run(case.job, case.activations, case.weights)
    found = driver.run(case.job, case.activations, case.weights)
    assert np.array_equal(found, dequant_matmul(design, case.job, case.activations, case.weights))


def test_dequant_wrong_inputs():
    design, transport = transport_of(DEQUANT)
    driver = DequantDriver(transport, design)
    case = random_job(design, np.random.default_rng(0), most_k=40)
    job, acts, weights = case.job, case.activations, case.weights
    for given, words in (
            ((replace(job, rows=3), acts, weights), "rows"),
            ((job, acts[:, 1:], weights), "wrong shape at activations"),
            ((job, acts + 256, weights), r"not codes at activations: got '\d+..\d+', expected 0..255"),
            ((job, acts, replace(weights, codes=weights.codes[1:])), "wrong shape at weights.codes"),
            ((job, acts, replace(weights, scale=weights.scale[:, :0])), "wrong shape at weights.scale"),
            ((job, acts, replace(weights, channel_scale=weights.channel_scale[:0])), "wrong shape at weights.channel")):
        with pytest.raises(BitkilnError, match=words):
            driver.submit(*given)
    with pytest.raises(BitkilnError, match="no job to collect"):
        driver.collect()
    with pytest.raises(BitkilnError, match=r"no special values at weights\[1\]: got 'ternary'"):
        driver.write_specials({1: (1, 2)})
    with pytest.raises(BitkilnError, match="no such place in the tables at special values: got 'type 2, 1 values'"):
        driver.write_specials({2: (1,)})
    with pytest.raises(BitkilnError, match="special value out of range|terms"):
        driver.write_specials({0: (1 << 20,)})
    assert np.array_equal(driver.run(job, acts, weights), dequant_matmul(design, job, acts, weights))
    driver.submit(job, acts, weights)
    with pytest.raises(BitkilnError, match="results wait to be collected"):
        driver.write_specials({0: (1,)})


def test_dequant_core_that_takes_no_special_values(monkeypatch):
    """A job without operands keeps the core busy, and a busy core's tables shut."""
    design, transport = transport_of(DEQUANT)
    driver, case = DequantDriver(transport, design), random_job(design, np.random.default_rng(0))
    transport.send("j", job_beats(design, [case.job]))
    monkeypatch.setattr(dequant_driver, "PATIENCE", 1e-3)
    with pytest.raises(BitkilnError, match="the core does not take special values at stream s: got '4 left', "
                                           "expected 0\nhelp: its status: {'busy': 1,"):
        driver.write_specials({0: (1, -1)})
    driver.reset()
    assert np.array_equal(driver.run(case.job, case.activations, case.weights),
                          dequant_matmul(design, case.job, case.activations, case.weights))


# Sparse convolution -----------------------------------------------------------------------------------


def network(design, voxels: int, seed: int, **options):
    """An encoder and decoder on random voxels of half the grid, and its program."""
    indices = np.random.default_rng(seed).integers(0, (1, 4, 4, 8), (voxels, 4))
    run = network_on(design, encoder_decoder("small", (2, 4), 2), indices, seed)
    return run, compile_network(design, run, **options)


def exact(driver: SpConvDriver, program, *told) -> int:
    found = driver.run(program, *told)
    assert found.keys() == program.expected.keys()
    for name, wanted in program.expected.items():
        assert np.array_equal(found[name], wanted), name
    return sum(wanted.size for wanted in program.expected.values())


def test_spconv_network():
    """More jobs than the core's queue holds; the core counts what it should."""
    design, transport = transport_of(SPCONV)
    driver, told = SpConvDriver(transport, design), []
    driver.clear_counters()
    run, program = network(design, 30, 5, keep=("e0",))
    assert len(program.steps) > design.queue and len(program.expected) == 2
    assert exact(driver, program, told.append) > 100
    assert len(told) == len(program.steps) and "load points" in told[0]
    counters = driver.counters()
    pairs = sum(step.job.passes * len(step.layer.map.k) for step in program.steps if step.layer is not None)
    assert counters["voxels"] == len(run.clouds[0]) and counters["pairs"] == pairs > 300


def test_spconv_network_with_noise():
    design, transport = transport_of(SPCONV, noise=1e-3, seed=2)
    assert exact(SpConvDriver(transport, design), network(design, 16, 6)[1]) > 20
    assert min(transport.link.line.injected.values()) > 0 and transport.link.counts["repeated"] > 0


def test_spconv_clouds_of_no_and_of_one_voxel():
    design, transport = transport_of(SPCONV)
    driver, net = SpConvDriver(transport, design), edge_network(2)
    for indices in (np.zeros((0, 4), np.int64), np.array([[0, 3, 7, 1]])):
        program = compile_network(design, network_on(design, net, indices), keep=("a",))
        assert exact(driver, program) == 2 * len(indices) * (1 + len(program.expected["c"]))


def test_spconv_errors_and_what_follows():
    """Voxels that are not in order are refused by the core, and the next network is exact."""
    design, transport = transport_of(SPCONV)
    driver = SpConvDriver(transport, design)
    _, program = network(design, 8, 1)
    load = program.steps[0]
    wrong = replace(program, steps=[replace(load, keys=load.keys[::-1]), *program.steps[1:]])
    with pytest.raises(BitkilnError, match=r"the core refused a job at ERROR, tag 0: got 1, expected 0\n"
                                           "help: voxels were not in canonical order"):
        driver.run(wrong)
    exact(driver, program)
    # A layer that nobody has weights of.
    asks = next(step for step in program.steps if step.layer is not None)
    renamed = [replace(step, job=replace(step.job, tag=9), layer=None) if step is asks else step
               for step in program.steps]
    with pytest.raises(BitkilnError, match="the core asks for weights that there are none of at job 9"):
        driver.run(replace(program, steps=renamed))
    exact(driver, program)


def test_spconv_core_that_does_not_go_on():
    """Fewer features than voxels: the core waits, the driver does not wait for ever."""
    design, transport = transport_of(SPCONV)
    driver = SpConvDriver(transport, design, patience=2e-3)
    _, program = network(design, 8, 1)
    load = program.steps[0]
    short = replace(program, steps=[replace(load, features=load.features[1:]), *program.steps[1:]])
    with pytest.raises(BitkilnError, match=r"results do not come at simulated board: got 0, expected \d+ words and "
                                           r"\d+ jobs, 0 are done\nhelp: beats not taken: v \d+, f 0, w 0"):
        driver.run(short)
    exact(driver, program)


def test_another_core():
    design, transport = transport_of(SPCONV)
    with pytest.raises(BitkilnError, match=r"this is another core at CAPACITY.pinned: got 2, expected 3"):
        SpConvDriver(transport, design.with_options(pinned=3))


# The examples of the registry -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 5e-4])
def test_dequant_example(noise):
    assert dequant_jobs({"engine": "dequant_core"}, noise=noise, count=60, seed=7) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 5e-4])
def test_spconv_example(noise):
    """Clouds of several times what the board's queues hold; convolutions between two trees."""
    design, transport = transport_of({"engine": "spconv"}, noise=noise, seed=3)
    driver = SpConvDriver(transport, design)
    for seed, kind in enumerate(("encoder-decoder", "dilating encoder")):
        run = small_network(design, kind, 400, seed)
        assert len(run.clouds[0]) > 200
        assert exact(driver, compile_network(design, run)) > 600
