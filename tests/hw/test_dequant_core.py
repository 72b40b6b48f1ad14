"""The dequantising core: every packing, bus, scale and output against the golden model; named corner cases; cycles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from bitkiln.host.dequant import weight_stream
from bitkiln.host.weights_groups import unpack_groups
from bitkiln.hw.dequant.core import DequantCore
from bitkiln.hw.dequant.reader import TritDecoder
from bitkiln.models.cost.cycles.dequant import chunk_steps, job_cycles, weights_keep_up
from bitkiln.models.design.bitserial import SCALES, BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.design.layouts_codes import TRIT_BYTES, trit_codes
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.batch import BatchModel
from bitkiln.sim.bitserial_check import random_activations, special_write
from bitkiln.sim.dequant_check import (
    CoreJob,
    check_jobs,
    check_results,
    job_streams,
    random_job,
    random_weights,
    run_jobs,
)
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 83
INPUTS = ("job", "weight", "activation")
BUSY = {"weight": 0.3, "activation": 0.3, "o": 0.4, "job": 0.5}


def core(weights: tuple[str, ...], activation: str = "int8", packings: tuple[str | None, ...] = (), *,
         bus: int | None = None, k_chunks: int = 64, output: str = "fp32", channel_scale: bool | None = None,
         **options) -> DequantDesign:
    return DequantDesign(BitSerialDesign(weights, activation, **options), packings, bus and bus // 8, k_chunks, output,
                         channel_scale)


DESIGNS = {
    "every width": core(("binary", "int2", "int3", "int4", "int5", "int6", "int7", "int8"), output="posit8_0",
                        columns=2, lanes=2, group=20, groups=6),
    "planes": core(("ternary", "fp6_e3m2", "int3", "bitmod4"), "int8", (None, "4+2", "2+1", "1+2+1"), bus=64,
                   k_chunks=20, output="fp16", rows=2, columns=2, lanes=3, group=17, groups=4, scale="uint4"),
    "zero-point": core(("int4", "int2"), bus=128, rows=2, columns=3, group=32, groups=8, zero_point=4),
    "two scales": core(("fp4", "bitmod3", "seq2"), "fp8_e5m2", output="bf16", columns=2, lanes=1, group=9, groups=5,
                       scale="uint6", dual_scale=True, zero_skip=True),
    "aligned": core(("bitmod4", "int8"), "bf16", bus=256, k_chunks=40, output="fp8_e4m3", rows=2, lanes=2, group=24,
                    scale="e8m0", rounding="rne"),
    "ue4m3": core(("fp4",), "fp8_e4m3", bus=32, columns=2, lanes=8, group=16, scale="ue4m3", accumulate="floating"),
    "ue5m3": core(("int4", "fp6_e2m3"), "fp16", ("2+2", "4+2"), bus=64, k_chunks=16, output="int8",
                  channel_scale=True, rows=3, lanes=2, group=10, scale="ue5m3", placement="edge"),
    "no scale": core(("ternary",), columns=3, lanes=5, group=40, groups=4, scale="none"),
}
SPECIALS = [name for name, d in DESIGNS.items() if any(t.special_code is not None for t in d.array.weights)]


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    """Built side by side; kept by content, so that only the first run takes long."""
    return dict(zip(DESIGNS, build_streams([DequantCore(design) for design in DESIGNS.values()]), strict=True))


def made(name: str, seed: int, k: int, group: int, channels: int, rows: int, **fixed: np.ndarray | int) -> CoreJob:
    """A job of a shape; metadata by name instead of random ones."""
    design, rng = DESIGNS[name], np.random.default_rng(seed)
    job = DequantJob(k, group, channels, rows).check(design)
    weights = random_weights(design, job, rng, fixed.pop("types", None))
    weights = replace(weights, **{key: np.broadcast_to(value, getattr(weights, key).shape)
                                  for key, value in fixed.items()})
    return CoreJob(job, random_activations(design.array, (rows, k), rng, 0.002), weights)


def several(name: str, count: int, seed: int, **options) -> list[CoreJob]:
    rng = np.random.default_rng(seed)
    return [random_job(DESIGNS[name], rng, **options) for _ in range(count)]


def test_designs_cover_every_option():
    designs = DESIGNS.values()
    assert {d.bus_bytes for d in designs} == {4, 8, 16, 32}
    assert {d.array.scale for d in designs} == set(SCALES)
    assert {d.output.name for d in designs} == {"fp32", "fp16", "bf16", "fp8_e4m3", "int8", "posit8_0"}
    assert {d.array.activation.name for d in designs} == {"fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "int8"}
    dense = {p.bits for d in designs for p in d.layout.packings if p.name == "dense"}
    assert dense == set(range(1, 9))
    assert {p.name for d in designs for p in d.layout.packings} == {"dense", "trits", "4+2", "2+1", "2+2", "1+2+1"}
    assert {len(d.layout.header) and d.layout.header_bytes for d in designs} == {0, 1, 2, 3}
    assert {d.array.rows for d in designs} == {d.array.columns for d in designs} == {1, 2, 3}
    assert {d.channel_scale for d in designs} == {True, False} == {d.array.sums_channel for d in designs}
    assert any(d.k_chunks & (d.k_chunks - 1) for d in designs)


# Results --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("stalls", [None, BUSY], ids=["ready", "stalls"])
def test_random_jobs(models, name, stalls):
    print(f"seed {SEED}")
    found = sum(check_jobs(DESIGNS[name], several(name, 12, SEED + turn), model=models[name], stalls=stalls, seed=turn)
                for turn in range(3))
    assert found > 300


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_many_random_jobs(models, name):
    """2,000 over the designs, stalls of every kind."""
    rng, jobs = np.random.default_rng(SEED), 0
    for turn in range(17):
        stalls = {stream: float(rng.choice([0, 0.2, 0.6, 0.9])) for stream in (*INPUTS, "o")}
        check_jobs(DESIGNS[name], several(name, 15, 1000 * SEED + turn, most_k=400), model=models[name],
                   stalls=stalls if turn else None, seed=turn)
        jobs += 15
    assert jobs * len(DESIGNS) >= 2000


def longest(name: str) -> CoreJob:
    """As many chunks as the buffer holds, or as many groups as a channel may have."""
    design = DESIGNS[name]
    array = design.array
    per_group = -(-array.group // array.lanes)
    k = design.k_chunks // per_group * array.group + design.k_chunks % per_group * array.lanes
    if array.sums_channel:
        k = min(k, array.group * array.groups)
    job = made(name, SEED, k, array.group, 2, array.rows)
    assert job.job.chunks(array.lanes) == design.k_chunks or len(job.job.lengths) == array.groups
    return job


def ragged(name: str) -> CoreJob:
    group = DESIGNS[name].array.group
    return made(name, SEED, 2 * group + group // 2 + 1, group, 3, 1)


CASES: dict[str, Callable[[str], list[CoreJob]]] = {
    "one_weight_job": lambda name: [made(name, seed, 1, 1, 1, 1) for seed in range(6)],
    "one_channel_job": lambda name: [made(name, SEED, 3 * DESIGNS[name].array.group, DESIGNS[name].array.group, 1, 1)],
    "ragged_last_tile": lambda name: [made(name, SEED, 20, 9, 2 * DESIGNS[name].array.columns + 1, 1)],
    "ragged_last_group": lambda name: [ragged(name)],
    "group_of_one": lambda name: [made(name, SEED, 4, 1, 5, 1)],
    "longest_k": lambda name: [longest(name), made(name, SEED, 2, 2, 1, 1), longest(name)],
    "jobs_back_to_back_of_different_shape": lambda name: [
        made(name, 0, 1, 1, 1, 1), longest(name), made(name, 1, 5, 4, 9, DESIGNS[name].array.rows), ragged(name),
        made(name, 2, 2, 1, 1, 1), made(name, 3, 8, 8, 3, DESIGNS[name].array.rows)],
}


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("case", CASES)
def test_corner(models, case, name):
    jobs = CASES[case](name)
    for stalls in (None, BUSY):
        assert check_jobs(DESIGNS[name], jobs, model=models[name], stalls=stalls, seed=SEED) > 0


@pytest.mark.parametrize("name", [name for name, d in DESIGNS.items() if d.array.rows > 1])
def test_fewer_rows_than_the_array(models, name):
    design = DESIGNS[name]
    jobs = [made(name, rows, 20, 7, 4, rows) for rows in [*range(1, design.array.rows + 1)] * 2]
    assert check_jobs(design, jobs, model=models[name]) == 2 * 4 * sum(range(1, design.array.rows + 1))


@pytest.mark.parametrize("name", DESIGNS)
@pytest.mark.parametrize("late", [*INPUTS, "o"])
def test_one_stream_late(models, late, name):
    check_jobs(DESIGNS[name], several(name, 4, SEED, most_k=60, most_channels=6), model=models[name],
               stalls={late: 0.95}, seed=SEED)


@pytest.mark.parametrize("name", DESIGNS)
def test_next_jobs_operands_arrive_early(models, name):
    """While the first job's results wait, the second one's activations and some of its weights are taken, not more."""
    design = DESIGNS[name]
    jobs = [made(name, seed, 12, 6, 2 * design.array.columns, design.array.rows) for seed in range(3)]
    run, _ = run_jobs(design, jobs, model=models[name], stalls={"o": 0.97}, seed=SEED)
    check_results(design, jobs, run.outputs["o"])
    size = jobs[0].job.rows * jobs[0].job.channels
    words = len(weight_stream(design, jobs[0].job, jobs[0].weights)) // design.bus_bytes
    chunks = jobs[0].job.chunks(design.array.lanes) * design.array.rows
    first_job_ends = run.cycles["o"][size - 1]
    assert run.cycles["activation"][2 * chunks - 1] < first_job_ends
    assert run.cycles["weight"][words] < first_job_ends
    # Two buffers: the third job's activations wait until the first one has been read.
    last_word = run.cycles["weight"][words - 1]
    assert run.cycles["activation"][2 * chunks] > last_word


@pytest.mark.parametrize("name", DESIGNS)
def test_results_never_taken_for_long(models, name):
    """Everything comes to rest, and goes on as if nothing had been."""
    design, model = DESIGNS[name], models[name]
    jobs = several(name, 12, SEED)
    inputs, count = job_streams(design, jobs)
    run = model.run(inputs, {"o": count}, stalls={"o": 1.0}, timeout=2000, partial=True)
    assert run.deadlock and run.violation is None and len(run.outputs["o"]) == 0
    rest = {name: items[len(run.cycles[name]) if name in run.cycles else 0:] for name, items in inputs.items()}
    assert len(rest["weight"])
    run = model.run(rest, {"o": count}, resume=True).check()
    check_results(design, jobs, run.outputs["o"])


@pytest.mark.parametrize("name", DESIGNS)
def test_reset_mid_job(models, name):
    """In whatever a reset falls, the job behind it is right."""
    design, model = DESIGNS[name], models[name]
    before, after = several(name, 4, SEED), several(name, 1, SEED + 1)
    inputs, count = job_streams(design, before)
    whole = model.run(inputs, {"o": count}, stalls=BUSY).total
    for cycle in np.linspace(3, whole - 70, 40).astype(int):
        cut = model.run(inputs, {"o": count}, stalls=BUSY, limit=int(cycle), partial=True)
        assert cut.deadlock
        again, expected = job_streams(design, after)
        run = model.run(again, {"o": expected}, reset_at=[0], resume=True).check()
        check_results(design, after, run.outputs["o"])
        assert not run.ports["mismatch"] and not run.ports["busy"]


def test_the_check_sees_a_wrong_weight(models):
    name = "zero-point"
    job = made(name, SEED, 20, 20, 3, 1, types=0, scale=9)
    activations = job.activations.copy()
    activations[0, 4] = 1
    run, _ = run_jobs(DESIGNS[name], [replace(job, activations=activations)], model=models[name])
    check_results(DESIGNS[name], [replace(job, activations=activations)], run.outputs["o"])
    wrong = job.weights.codes.copy()
    wrong[1, 4] ^= 1
    with pytest.raises(BitkilnError, match=r"RTL and golden model differ at .*\[0, 1\]: .*\(1 of 3 differ\)"):
        check_results(DESIGNS[name], [CoreJob(job.job, activations, replace(job.weights, codes=wrong))],
                      run.outputs["o"])


# Special values, trits, activations that do not fit ---------------------------------------------------

@pytest.mark.parametrize("name", SPECIALS)
def test_special_values_written_between_jobs(models, name):
    """Writes wait for the end of a job, and count for the next one."""
    design, model = DESIGNS[name], models[name]
    index = next(i for i, t in enumerate(design.array.weights) if t.special_code is not None)
    weight = design.array.weights[index]
    one = int(design.array.activation.encode(np.ones(1))[0])
    jobs = [replace(made(name, seed, 18, 9, 5, 1, types=index, codes=weight.special_code),
                    activations=np.full((1, 18), one)) for seed in range(3)]
    values = tuple(v // 2 for v in weight.specials)
    assert values != weight.specials
    words = np.array([special_write(design.array, index, entry, value) for entry, value in enumerate(values)],
                     np.uint64)

    first, count = job_streams(design, jobs[:1])
    # Writes are offered in the middle of the first job; the second job only behind them.
    started = model.run(first, {"o": count}, limit=12, partial=True)
    assert started.deadlock and len(started.cycles["job"]) == 1
    rest = {stream: items[len(started.cycles[stream]):] for stream, items in first.items()}
    run = model.run({**rest, "special": words}, {"o": count - len(started.outputs["o"])}, resume=True).check()
    check_results(design, jobs[:1], np.concatenate((started.outputs["o"], run.outputs["o"])))
    assert run.cycles["special"][0] > run.cycles["o"][-1]
    second, count = job_streams(design, jobs[1:])
    run = model.run(second, {"o": count}, resume=True).check()
    check_results(design, jobs[1:], run.outputs["o"], {index: values})
    with pytest.raises(BitkilnError, match="RTL and golden model differ"):
        check_results(design, jobs[1:], run.outputs["o"])


@pytest.mark.parametrize("name", [name for name, d in DESIGNS.items() if any(p.trits for p in d.layout.packings)])
def test_illegal_trit_bytes_are_zeros(models, name):
    design = DESIGNS[name]
    job = made(name, SEED, 34, 17, 2, 1, types=0)
    inputs, count = job_streams(design, [job])
    layout, bus = design.layout, design.bus_bytes
    data = weight_stream(design, job.job, job.weights).copy()
    codes = job.weights.codes.copy()
    rng, at, changed = np.random.default_rng(SEED), 0, 0
    at += 2 * bus * design.channel_scale
    for g, length in enumerate(job.job.lengths):
        for channel in range(2):
            for byte in range(-(-length // 5)):
                if rng.random() < 0.5:
                    data[at + layout.header_bytes + byte] = rng.integers(TRIT_BYTES, 256)
                    start = g * 17 + 5 * byte
                    codes[channel, start:min(start + 5, g * 17 + length)] = 0
                    changed += 1
            at += layout.group_bytes(length, 0)
    assert at == len(data) and changed > 3
    inputs["weight"] = data.view(f"<u{bus}").astype(np.uint64)
    run = models[name].run(inputs, {"o": count}).check()
    check_results(design, [replace(job, weights=replace(job.weights, codes=codes))], run.outputs["o"])


def test_every_trit_byte():
    found = BatchModel(TritDecoder()).run({"byte": np.arange(256)})["codes"]
    wanted = [sum(code << 2 * at for at, code in enumerate(trit_codes(byte) or (0,) * 5)) for byte in range(256)]
    assert found.tolist() == wanted and sum(trit_codes(byte) is None for byte in range(256)) == 13


def with_activations(design: DequantDesign, inputs: dict[str, np.ndarray], words: np.ndarray) -> dict[str, np.ndarray]:
    """Inputs with some activation words instead, ``last`` with the final one."""
    last = np.uint64(1) << np.uint64(design.array.lanes * design.array.activation.bits)
    words = words & (last - np.uint64(1))
    words[-1] |= last
    return {**inputs, "activation": words}


@pytest.mark.parametrize("change", [-5, -2, -1, 1, 2, 7, 64, 640])
def test_wrong_activation_count_raises_mismatch(models, change):
    """Too few and too many words, by whole chunks, by rows of one, and by whole buffers; the next job is right."""
    name = "planes"
    design, model = DESIGNS[name], models[name]
    job, good = made(name, 1, 30, 15, 3, 2), made(name, 2, 20, 10, 3, 1)
    inputs, count = job_streams(design, [job])
    words = inputs["activation"]
    wrong = with_activations(design, inputs, np.resize(words, len(words) + change))
    run = model.run(wrong, {"o": count}).check()
    assert run.ports["mismatch"] == 1 and not run.ports["busy"]
    inputs, count = job_streams(design, [good])
    run = model.run(inputs, {"o": count}, resume=True).check()
    check_results(design, [good], run.outputs["o"])
    assert run.ports["mismatch"] == 1                    # sticky


@pytest.mark.parametrize("name", DESIGNS)
def test_packed_weights_are_those_of_the_host(name):
    """What the core reads is what `host.weights_groups` packs, groups begin on bus words, and it unpacks again."""
    design = DESIGNS[name]
    for job in several(name, 5, SEED):
        columns, shape = design.array.columns, job.job
        data, at = weight_stream(design, shape, job.weights), 0
        lengths = np.array(shape.lengths)
        for first in range(0, shape.channels, columns):
            width = min(columns, shape.channels - first)
            if design.channel_scale:
                scales = data[at:at + width * design.bus_bytes].reshape(width, -1)
                assert scales[:, :4].copy().view("<f4")[:, 0].tolist() == \
                    job.weights.channel_scale[first:first + width].tolist()
                at += width * design.bus_bytes
            types = job.weights.types[first:first + width].T.reshape(-1)
            place = design.layout.offsets(np.repeat(lengths, width), types)
            assert not (place.headers % design.bus_bytes).any()
            groups = unpack_groups(design.layout, data[at:at + place.total], np.repeat(lengths, width))
            codes = np.concatenate([groups.codes[g * width:(g + 1) * width, :n] for g, n in enumerate(lengths)], axis=1)
            assert np.array_equal(codes, job.weights.codes[first:first + width])
            assert np.array_equal(groups.types, types)
            at += place.total
        assert at == len(data)


# Cycles ---------------------------------------------------------------------------------------------

def compare_cycles(name: str, model: StreamModel, job: CoreJob) -> tuple[bool, int]:
    """The RTL against the model; whether the weights should keep up, and the cycles starved behind the first chunk."""
    design, weights = DESIGNS[name], job.weights
    run, _ = run_jobs(design, [job], model=model)
    steps = chunk_steps(design, job.job, weights.types, weights.codes, weights.special)
    wanted = job_cycles(design, job.job, weights.types, steps)
    assert run.cycles["o"].tolist() == wanted.results.tolist(), job.job
    assert (run.ports["starved"], run.ports["stalls"]) == (wanted.starved, wanted.stalls), job.job
    assert wanted.total == run.cycles["o"][-1] + 1 and run.cycles["job"][0] == 0
    return weights_keep_up(design, job.job, weights.types, steps), wanted.starved - wanted.first


@pytest.mark.parametrize("name", DESIGNS)
def test_cycles_equal_the_model(models, name):
    """Every transfer and counter of jobs of any shape; where weights keep up, the array never waits."""
    found = [compare_cycles(name, models[name], job)
             for job in [*several(name, 20, SEED), *several(name, 10, SEED + 1, most_channels=3), longest(name)]]
    assert not any(starved for keeps_up, starved in found if keeps_up)
    assert any(keeps_up for keeps_up, _ in found)
    if name in ("ue4m3", "no scale"):
        assert sum(starved > 0 for _, starved in found) > 5
    if name == "no scale":          # nothing else ever holds this array back: the condition is exact
        assert all(starved > 0 for keeps_up, starved in found if not keeps_up)


def equal_groups(name: str, group: int, groups: int, types: np.ndarray | int, channels: int | None = None) -> CoreJob:
    design = DESIGNS[name]
    return made(name, SEED, group * groups, group, channels or 3 * design.array.columns, 1, types=types)


def test_mixed_precision_groups_without_bubbles(models):
    """F17, F18: 4- and 2-bit (and 1-bit) groups side by side; every group takes its chunks' steps, nothing more."""
    for name, kinds in (("zero-point", (0, 1)), ("every width", (3, 1, 0))):
        design = DESIGNS[name]
        array = design.array
        types = np.random.default_rng(SEED).choice(kinds, (3 * array.columns, 6))
        job = equal_groups(name, array.group, 6, types)
        keeps_up, starved = compare_cycles(name, models[name], job)
        assert keeps_up and starved == 0
        cycles = job_cycles(design, job.job, types)
        steps = chunk_steps(design, job.job, types)
        of_group = np.maximum(steps.reshape(3, 6, -1).sum(axis=2), array.scale_cycles)
        fill = job_cycles(design, DequantJob(array.group, array.group, array.columns, 1).check(design),
                          types[:array.columns, :1])
        # Array and dequantisers side by side, behind the words: their longer time for each group, and filling once.
        assert cycles.total <= cycles.first + of_group.sum() + fill.total
        # The serial version would take their sum.
        assert cycles.total < cycles.first + of_group.sum() + 18 * array.scale_cycles


@pytest.mark.parametrize("name, group, kind, keeps_up", [
    ("zero-point", 32, 0, True),        # 3 * 4 * 4 / 2 = 24 of 128 bits
    ("every width", 20, 7, True),       # 2 * 2 * 8 / 4 = 8 of 32 bits, headers: 12 words in 40 cycles
    ("ue4m3", 16, 0, False),            # 2 * 8 * 4 / 2 = 32 of 32 bits, headers beyond: 6 words in 4 cycles
    ("no scale", 40, 0, True),          # 3 * 5 * 1.6 = 24 of 32 bits: 6 words in 8 cycles
    ("no scale", 5, 0, False),          # a byte of trits fills a word: 3 words in 1 cycle
    ("no scale", 15, 0, False),         # 3 words in 3 cycles of one step: a cycle more is needed
    ("no scale", 20, 0, True),          # 3 words in 4 cycles
])
def test_weights_keep_up(models, name, group, kind, keeps_up):
    """Both sides of the condition ``columns * lanes * bits / t <= bus``, with headers and padding."""
    design = DESIGNS[name]
    groups = min(design.array.groups, design.k_chunks // -(-group // design.array.lanes)) \
        if design.array.sums_channel else design.k_chunks // -(-group // design.array.lanes)
    job = equal_groups(name, group, groups, kind, 8 * design.array.columns)
    said, starved = compare_cycles(name, models[name], job)
    assert said == keeps_up == (starved == 0)
    words = design.array.columns * design.layout.group_bytes(group, kind) // design.bus_bytes
    terms = design.array.weights[kind].terms
    steps = -(-group // design.array.lanes) * terms
    assert keeps_up == (words <= steps - (terms == 1))


def test_absent_columns_cost_no_steps(models):
    """A job of one binary channel takes one step a chunk, whatever type the columns beside it would have."""
    name = "every width"
    design = DESIGNS[name]
    for kind, terms in ((0, 1), (7, 4)):
        job = equal_groups(name, 20, 6, kind, 1)
        run, _ = run_jobs(design, [job], model=models[name])
        assert job_cycles(design, job.job, kind).total == run.cycles["o"][-1] + 1
        assert chunk_steps(design, job.job, kind).tolist() == [[terms] * 60]


@cache
def _names() -> list[str]:
    return [design.name for design in DESIGNS.values()]


def test_names_tell_designs_apart():
    assert len(set(_names())) == len(DESIGNS)
    one = core(("fp6_e3m2", "fp6_e2m3"), packings=("4+2", None))
    assert one.name != core(("fp6_e3m2", "fp6_e2m3"), packings=(None, "4+2")).name
    assert one == core(("fp6_e3m2", "fp6_e2m3"), packings=("4+2", "dense"))
