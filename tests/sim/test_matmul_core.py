"""The matmul core as a whole: random jobs through the C++ path, both drivers, and the cocotb benches."""

import dataclasses
import itertools

import numpy as np
import pytest

from bitkiln.flow.registers import c_header, core_constants
from bitkiln.host.driver import Core
from bitkiln.hw.mac.core import MatmulCore
from bitkiln.models.design import Accumulator, ArrayDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.registers import DESCRIPTOR_BYTES, ERRORS, core_registers, descriptor
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.matmul import matmul
from bitkiln.sim.core_designs import random_design
from bitkiln.sim.core_run import (
    CHANNELS,
    CoreModel,
    JobCase,
    SimTransport,
    finish_job,
    place_job,
    random_job,
    run_c_driver,
    run_job,
    start_job,
)
from bitkiln.sim.runner import run_bench

SEED = 4107


def core(*modes, rows=2, columns=2, kind="exact", depth=256, implementation=None, pipeline=0, **options):
    pe = MorphableDesign(modes, Accumulator(kind=kind, depth=depth), implementation, pipeline)
    return MatmulDesign(ArrayDesign(rows, columns, pe), **{"k_words": 32, **options})


# Small ones that build in seconds; between them every rule and kind of sum.
INTEGERS = core("int8", "int8xint4", bus_bits=32, rules=("raw", "integer"), outputs=("int8", "int4"))
FLOATS = core("fp4", "posit8_0", rows=3, columns=4, bus_bits=64, rules=("raw", "float"), block=("mxfp4",))
MASTER = core("int8", "fp4", columns=4, bus_bits=64, rules=("raw", "float"), outputs=("fp4", "int8"), descriptors=True)
# What the long tests build.
LARGE = [
    core("fp4", "posit4_1", "posit8_0", "posit16_1", rows=4, columns=4, bus_bits=128),
    core("fp4", "int4", "int8", "fp8_e4m3", rows=8, columns=8, bus_bits=256, block=("mxfp4", "nvfp4", "mxfp8_e4m3")),
    core("int8", "int4", "int16", "int8xfp4", rows=3, columns=5, bus_bits=32, queue=1),
    core("bf16", "fp8_e5m2", rows=2, columns=4, kind="fp32"),
    core("int8", "int4", rows=4, columns=8, kind="int32", bus_bits=512, output_lanes=2),
    core("posit8_0", rows=1, columns=1, rules=("raw",), bias=False, accumulate=False),
    core("fp4", "int4", "fp8_e4m3", "int8xfp4", "int8", rows=4, columns=4, bus_bits=64, implementation="packed",
         pipeline=3, block=("mxfp4", "mxfp8_e4m3")),
]
MASTERS = [
    core("fp4", "posit8_0", "int8", rows=4, columns=4, descriptors=True, address_bits=40, block=("mxfp4",)),
    core("int8", "int16", rows=2, columns=8, bus_bits=256, descriptors=True, rules=("raw", "integer")),
    core("int4", rows=2, columns=2, bus_bits=32, queue=1, descriptors=True, accumulate=False),
]


def mixed_stalls(rng):
    """A probability for each channel; none at all now and then."""
    return dict.fromkeys(CHANNELS, 0.0) if rng.random() < 0.3 else {
        channel: float(rng.choice([0, 0.1, 0.5, 0.9])) for channel in CHANNELS}


def random_jobs(design, count, size, seed=SEED):
    """Jobs through the C++ path, up to three at a time; results compared."""
    print("seed", seed)
    rng, model, checked = np.random.default_rng(seed), CoreModel(design, seed=seed), 0
    while checked < count:
        model.stall(mixed_stalls(rng))
        batch = [random_job(design, rng, size=size) for _ in range(int(rng.integers(1, min(3, design.queue + 1) + 1)))]
        for case in batch:
            start_job(model, case)
        for case in batch:
            finish_job(model, case)
        checked += len(batch)
    model.step(200)
    assert model.arrived == 0
    model.check_protocol()


@pytest.mark.parametrize("design", [INTEGERS, FLOATS], ids=["integers", "floats"])
def test_random_jobs(design):
    random_jobs(design, 150, 40)


def test_reset_and_abort_in_the_middle():
    rng, model = np.random.default_rng(SEED), CoreModel(INTEGERS, seed=SEED)
    ctrl = core_registers(INTEGERS)["CTRL"]
    for turn in range(40):
        model.stall(mixed_stalls(rng))
        start_job(model, random_job(INTEGERS, rng, size=30))
        model.step(int(rng.integers(1, 400)))
        if turn % 2:
            model.reset(int(rng.integers(1, 4)))
        else:
            model.flush()
            assert model.write(ctrl.offset, ctrl.pack(abort=1)) == 0
            model.step(200)
            model.flush()
        run_job(model, random_job(INTEGERS, rng, size=30))
    model.check_protocol()


def test_same_seed_same_cycles():
    counts = []
    for seed in (1, 1, 2):
        model = CoreModel(INTEGERS, seed=seed, stalls=0.4)
        run_job(model, random_job(INTEGERS, np.random.default_rng(SEED), size=30))
        counts.append(model.cycles)
    assert counts[0] == counts[1] != counts[2]


def test_a_wrong_result_is_found():
    """The comparison sees one wrong code, and a core that computes something else."""
    rng, model = np.random.default_rng(SEED), CoreModel(INTEGERS)
    case = random_job(INTEGERS, rng, size=20, mode="int8", rule="raw")
    codes = case.codes.copy()
    codes[-1, -1] ^= 1
    with pytest.raises(BitkilnError, match="core and golden model differ"):
        run_job(model, dataclasses.replace(case, codes=codes))
    fewer = dataclasses.replace(case, job=dataclasses.replace(case.job, k=case.job.k + 1))
    with pytest.raises(BitkilnError, match="wrong shape"):
        run_job(model, fewer)


def test_python_driver():
    """Quantised products with K split over jobs: the RTL gives what the driver's golden core gives."""
    rng, model = np.random.default_rng(SEED), CoreModel(FLOATS, stalls=0.2)
    driver = Core(SimTransport(model), FLOATS)
    a, w = rng.normal(size=(7, 300)), rng.normal(size=(9, 300))
    bias = rng.normal(size=9)
    for formats, error in (("posit8_0", 0.06), ("fp4", 0.4), ("mxfp4", 0.4)):
        found = driver.matmul(a, w, formats=formats, bias=bias)
        wanted = a @ w.T + bias
        assert np.linalg.norm(found.values - wanted) < error * np.linalg.norm(wanted)
        assert len(found.jobs) > 1 and found.counters["macs"] == a.shape[0] * w.shape[0] * a.shape[1]
        assert found.counters["compute"] <= found.counters["cycles"]
    codes = rng.integers(0, 16, (5, 200)), rng.integers(0, 16, (6, 200))
    raw = driver.matmul(*codes, formats="fp4", rule="raw")
    fp4 = FLOATS.pe.modes[0].activation
    assert (raw.values == fp4.decode(codes[0]) @ fp4.decode(codes[1]).T).all()
    driver.submit(dataclasses.replace(raw.jobs[0], m=5), *(part[:, :raw.jobs[0].k] for part in codes))
    driver.abort()
    assert (driver.matmul(*codes, formats="fp4", rule="raw").codes == raw.codes).all()
    model.check_protocol()


def test_python_driver_with_memory():
    rng, model = np.random.default_rng(SEED), CoreModel(MASTER, stalls=0.2)
    driver = Core(SimTransport(model), MASTER)
    a, w = rng.integers(-128, 128, (9, 150)), rng.integers(-128, 128, (11, 150))
    found = driver.matmul(a, w, formats="int8", rule="raw")
    assert (found.values == a @ w.T).all() and len(found.jobs) == 3
    real = driver.matmul(rng.normal(size=(5, 40)), rng.normal(size=(6, 40)), formats="fp4", output="fp4",
                         output_scale=2.0, bias=np.ones(6), relu=True)
    assert real.values.min() >= 0 and real.values.max() > 0
    model.check_protocol()


def test_python_driver_gives_memory_back():
    """Jobs that overlap for longer than the memory is large, and operands that the core would read past."""
    rng, model = np.random.default_rng(SEED), CoreModel(MASTER, memory=1 << 16)
    driver = Core(SimTransport(model), MASTER)
    cases = [random_job(MASTER, rng, size=12) for _ in range(30)]
    for n, case in enumerate(cases):
        driver.submit(case.job, case.a, case.w, records=case.records, c=case.c)
        if n:
            assert (driver.collect() == cases[n - 1].codes).all(), cases[n - 1].job
    assert (driver.collect() == cases[-1].codes).all()
    case = random_job(MASTER, rng, size=12, per_channel=True, accumulate=True)
    given = {"records": case.records, "c": case.c}
    for wrong in ({"records": None}, {"c": None}, {"c": case.c[:, :0]}):
        with pytest.raises(BitkilnError):
            driver.submit(case.job, case.a, case.w, **given | wrong)
    with pytest.raises(BitkilnError, match="wrong shape"):
        driver.submit(case.job, case.a, case.w[:-1], **given)
    with pytest.raises(BitkilnError, match="memory too small"):
        driver.matmul(np.zeros((100, 100), int), np.zeros((100, 100), int), formats="int8", rule="raw")
    driver.submit(case.job, case.a, case.w, **given)
    assert (driver.collect() == case.codes).all()


def test_bus_error_ends_a_chain():
    """The job after the one that fails does not start, ERROR names the job, and an abort clears it for the driver."""
    rng, model = np.random.default_rng(SEED), CoreModel(MASTER)
    driver = Core(SimTransport(model), MASTER)
    plain = {"mode": "int8", "rule": "raw", "accumulate": False, "per_channel": False, "bias": False}
    cases = [random_job(MASTER, rng, size=12, tag=tag, **plain) for tag in (7, 8)]
    first = place_job(MASTER, cases[0], 4096, rng)
    second = place_job(MASTER, cases[1], first.end, rng)
    first.registers["A_ADDR"] = model.memory_bytes + 4096
    at = -(-second.end // 4096) * 4096
    chain = [(at + DESCRIPTOR_BYTES * n, np.frombuffer(descriptor(MASTER, job.registers, following), np.uint8))
             for n, (job, following) in enumerate(((first, at + DESCRIPTOR_BYTES), (second, 0)))]
    for address, data in [*first.pieces, *second.pieces, *chain]:
        model.memory_write(address, data)
    driver.write("JOB_TAG", 99)
    driver.write("DESC_ADDR", at)
    driver.write("CTRL", fetch=1)
    model.step(3000)
    assert driver.read("ERROR") == {"code": ERRORS["bus"], "tag": 7}
    assert driver.read("JOBS_DONE")["value"] == 1 and not driver.read("STATUS")["busy"]
    address, untouched = second.pieces[-1]
    assert (model.memory_read(address, len(untouched)) == untouched).all()
    driver.abort()
    assert driver.read("ERROR")["code"] == 0
    product = driver.matmul(cases[1].a, cases[1].w, formats="int8", rule="raw")
    assert (product.codes == cases[1].codes).all()
    # A chain that comes with an abort is refused, not forgotten.
    driver.write("CTRL", abort=1, fetch=1)
    assert driver.read("ERROR")["code"] == ERRORS["queue_full"]
    driver.abort()
    model.check_protocol()


def test_status_names_the_oldest_job():
    """Until its last result is in memory, however long the memory takes to say so."""
    rng, model = np.random.default_rng(SEED), CoreModel(MASTER, stalls={"m_b": 0.98})
    driver = Core(SimTransport(model), MASTER)
    cases = [random_job(MASTER, rng, size=8, tag=tag) for tag in (5, 9, 6)]
    end, seen = 0, set()
    for case in cases:
        placed = place_job(MASTER, case, end, rng)
        end = placed.end
        for address, data in placed.pieces:
            model.memory_write(address, data)
        for address, value in [*placed.writes(MASTER), (driver.registers["CTRL"].offset, 1)]:
            assert model.write(address, value) == 0
    for _ in range(2000):
        before, status = driver.read("JOBS_DONE")["value"], driver.read("STATUS")
        if driver.read("JOBS_DONE")["value"] == before < len(cases):
            assert status["busy"] and status["tag"] == cases[before].job.tag
            seen.add(status["tag"])
    assert seen == {5, 9, 6} and driver.read("JOBS_DONE")["value"] == 3


@pytest.mark.parametrize("wait", [True, False])
def test_a_job_that_reads_results_of_the_one_before(wait):
    """With JOB_FLAGS.wait it reads them; without, what lay there before."""
    rng, model = np.random.default_rng(SEED), CoreModel(MASTER, stalls={"m_b": 0.95})
    registers = core_registers(MASTER)
    one = random_job(MASTER, rng, size=12, mode="int8", rule="float", output="int8")
    m, k, n = one.job.m, one.job.n, 5
    job, w = Job("int8", m, k, n, rule="raw"), rng.integers(0, 256, (n, k))
    codes = matmul(MASTER, job, one.codes, w).codes
    two = JobCase(job, np.zeros((m, k), int), w, None, None, None, None, codes, False, False)
    first = place_job(MASTER, one, 0, rng)
    second = place_job(MASTER, two, first.end, rng)
    at, stride = -(-second.end // 4096) * 4096, -(-k // 8) * 8
    first.registers.update(O_ADDR=at, O_STRIDE=stride)
    second.registers.update(A_ADDR=at, A_STRIDE=stride)
    second.registers["JOB_FLAGS"] |= registers["JOB_FLAGS"].pack(wait=int(wait))
    for address, data in [*first.pieces, *second.pieces, (at, np.zeros(m * stride, np.uint8))]:
        model.memory_write(address, data)
    for placed in (first, second):
        for address, value in [*placed.writes(MASTER), (registers["CTRL"].offset, 1)]:
            assert model.write(address, value) == 0
    model.step(20_000)
    assert model.read(registers["JOBS_DONE"].offset)[1] == 2 and model.read(registers["ERROR"].offset)[1] == 0
    address, wanted = second.results
    assert (model.memory_read(address, len(wanted)) == wanted).all() == wait


def test_jobs_in_memory():
    random_jobs_in_memory(MASTER, 40, 30)


def random_jobs_in_memory(design, count, size, seed=SEED):
    print("seed", seed)
    rng, model = np.random.default_rng(seed), CoreModel(design, seed=seed)
    registers = core_registers(design)
    for done in range(1, count + 1):
        model.stall(mixed_stalls(rng))
        case = random_job(design, rng, size=size)
        placed = place_job(design, case, int(rng.integers(5000)), rng)
        for address, data in placed.pieces:
            model.memory_write(address, data)
        for address, value in [*placed.writes(design), (registers["CTRL"].offset, 1)]:
            assert model.write(address, value) == 0
        for _ in range(1000):
            model.run(patience=300)
            if model.read(registers["JOBS_DONE"].offset)[1] == done:
                break
        assert model.read(registers["ERROR"].offset)[1] == 0, case.job
        address, wanted = placed.results
        found = model.memory_read(address, len(wanted))
        wrong = np.flatnonzero(found != wanted)[:8] + address
        assert not len(wrong), f"{wrong}, {placed.registers}, {case.job}"
    model.check_protocol()


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_c_driver(stall, tmp_path):
    """The C driver compiles freestanding without a warning and runs random jobs on the simulated core."""
    rng = np.random.default_rng(SEED)
    cases = [random_job(FLOATS, rng, size=30) for _ in range(30)]
    header = c_header(core_registers(FLOATS), extra=core_constants(FLOATS))
    jobs, cycles = run_c_driver(FLOATS, CoreModel(FLOATS), header, cases, tmp_path, seed=3, stall=stall)
    assert jobs == 31 and cycles > 1000


def test_c_driver_finds_a_wrong_result(tmp_path):
    case = random_job(FLOATS, np.random.default_rng(SEED), size=10)
    codes = case.codes.copy()
    codes[0, 0] ^= 1
    header = c_header(core_registers(FLOATS))
    with pytest.raises(BitkilnError, match="the C driver on the simulated core failed"):
        run_c_driver(FLOATS, CoreModel(FLOATS), header, [dataclasses.replace(case, codes=codes)], tmp_path)


def bench(design, module, jobs, size, seed=SEED):
    return run_bench(MatmulCore(design), f"bitkiln.sim.benches.{module}", seed=seed,
                     parameters={"design": design, "seed": seed, "jobs": jobs, "size": size})


def test_cocotb_bench():
    result = bench(INTEGERS, "matmul_core", 8, 20)
    assert result.tests == 5 and result.vectors > 300 and result.facts["seed"] == SEED


def test_cocotb_bench_with_memory():
    result = bench(MASTER, "matmul_core_dma", 6, 20)
    assert result.tests == 5 and result.vectors > 300


# The long forms ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("design", LARGE, ids=lambda design: "_".join(mode.name for mode in design.pe.modes))
def test_many_random_jobs(design):
    random_jobs(design, 500, 70)


@pytest.mark.slow
@pytest.mark.parametrize("design", MASTERS, ids=lambda design: "_".join(mode.name for mode in design.pe.modes))
def test_many_jobs_in_memory(design):
    random_jobs_in_memory(design, 300, 70)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_cores(seed):
    """Builds with every option drawn; a quarter of them fetch by themselves."""
    design = random_design(np.random.default_rng(seed), descriptors=seed % 4 == 3)
    print(design)
    (random_jobs_in_memory if design.descriptors else random_jobs)(design, 60, 40, seed)


@pytest.mark.slow
@pytest.mark.parametrize("design,seed", [*zip(LARGE, itertools.count(1))],
                         ids=lambda value: "_".join(mode.name for mode in value.pe.modes)
                         if isinstance(value, MatmulDesign) else str(value))
def test_cocotb_bench_long(design, seed):
    bench(design, "matmul_core", 90, 70, seed)


@pytest.mark.slow
@pytest.mark.parametrize("design,seed", [*zip(MASTERS, itertools.count(1))],
                         ids=lambda value: "_".join(mode.name for mode in value.pe.modes)
                         if isinstance(value, MatmulDesign) else str(value))
def test_cocotb_bench_with_memory_long(design, seed):
    bench(design, "matmul_core_dma", 60, 70, seed)
