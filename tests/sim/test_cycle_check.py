"""Cycle models of all engines against their RTL, by one face; more designs: `benchmarks.cycle_error`."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitkiln.models.cost.cycles.engine_cycles import cycles_of
from bitkiln.models.cost.cycles.mac_cycles import DotJob
from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.core_run import CoreModel
from bitkiln.sim.cycle_check import ENGINES, check_engine
from bitkiln.sim.cycle_mac import array_runs, core_run, dot_runs, pe_runs
from bitkiln.sim.cycle_record import CycleRun, assert_rooflines, load_runs, save_runs
from bitkiln.sim.cycle_serial import sparse_runs

SEED = 29
INT8 = MorphableDesign(("int8", "int8xint4"), Accumulator("exact"))
FP4 = MorphableDesign(("fp4",))
# The build of test_core_cycles: made once.
CORE = MatmulDesign(ArrayDesign(2, 2, INT8), k_words=16, bus_bits=32)
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def exact(runs: list[CycleRun]) -> None:
    assert runs
    for run in runs:
        assert (run.error, run.wrong_counters) == (0, 0), run
    assert assert_rooflines(runs) == len(runs)


@pytest.fixture(scope="module")
def core() -> CoreModel:
    return CoreModel(CORE)


@EXAMPLES
@given(m=st.integers(1, 20), k=st.integers(1, 32), n=st.integers(1, 20), order=st.sampled_from(["a", "w"]),
       mode=st.sampled_from(["int8", "int8xint4"]), accumulate=st.booleans())
def test_core_takes_the_predicted_cycles_for_any_shape(core: CoreModel, **shape: object) -> None:
    exact([core_run(core, np.random.default_rng(SEED), **shape)])


@pytest.mark.parametrize(("runs", "design"), [
    (dot_runs, DotDesign.from_pe("fp4", lanes=3, pipeline=2)),
    (pe_runs, FP4.with_options(pipeline=1)),
    (array_runs, ArrayDesign(2, 2, FP4, links="systolic")),
    (array_runs, ArrayDesign(2, 1, FP4, dataflow="weight")),
    (sparse_runs, SparseDesign("int8", "int8", lanes=2, rows=2, columns=1, tile=8, queue=2)),
], ids=["dot_unit", "morphable_pe", "output-stationary", "weight-stationary", "sparse_side"])
def test_small_engines_take_the_predicted_cycles(runs, design) -> None:
    exact(list(runs(design, np.random.default_rng(SEED), 12)))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_random_designs_take_the_predicted_cycles(engine: str) -> None:
    exact(check_engine(engine, seed=SEED, designs=3, jobs=12))


def test_the_measurement_is_the_rtls_own(core: CoreModel) -> None:
    """Beside the model of another build, or of another shape, the same run differs."""
    run = core_run(core, np.random.default_rng(SEED), m=9, k=20, n=9, mode="int8", rule="raw", accumulate=False)
    job = Job("int8", 9, 20, 9, order="a")
    assert cycles_of(CORE.with_options(bus_bits=64), job).cycles != run.simulated
    assert cycles_of(CORE, Job("int8", 9, 21, 9)).cycles != run.simulated
    design = DotDesign.from_pe("fp4", lanes=3, pipeline=2)
    for dots in dot_runs(design, np.random.default_rng(SEED), 3):
        assert dots.error == 0
        lengths = tuple(int(each) for each in dots.job.strip("(,)").split(","))
        assert cycles_of(design.with_options(pipeline=3), DotJob(lengths)).cycles == dots.simulated + 1


def test_recorded_runs_are_read_again_and_checked(core: CoreModel, tmp_path) -> None:
    runs = [core_run(core, np.random.default_rng(at), size=12) for at in range(4)]
    path = tmp_path / "runs.json"
    save_runs(runs, path, seed=SEED)
    assert load_runs(path) == runs
    assert assert_rooflines(load_runs(path)) == 4
    bound = runs[0].roofline.cycles
    with pytest.raises(BitkilnError, match="beats its roofline"):
        assert_rooflines([replace(runs[0], simulated=bound - 1)])
    assert Fraction(runs[0].peak) * runs[0].simulated >= runs[0].work
    path.write_text("[]")
    with pytest.raises(BitkilnError, match="not recorded runs"):
        load_runs(path)
    with pytest.raises(BitkilnError, match="no recorded runs"):
        load_runs(tmp_path / "none.json")


def test_unknown_engine() -> None:
    with pytest.raises(BitkilnError, match="unknown engine") as caught:
        check_engine("matmul_cor")
    assert "matmul_core" in caught.value.help
