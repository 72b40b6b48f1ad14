# amaranth: UnusedElaboratable=no
"""The checks of a switchable PE, an array of them and the core around it, up to a network with mixed modes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..config import Resolved
from ..models.design import ArrayDesign, MatmulDesign
from ..models.errors import FAILED, BitkilnError
from .simulate import Check, Options, Outcome, no_jobs
from .simulate_dot import run_bench

if TYPE_CHECKING:
    from ..sim.core_run import CoreModel, JobCase
    from ..sim.products import Products

__all__ = ["array_component", "array_steps", "assignments", "bench", "core_steps", "pe_steps"]

JOBS = 24              # random jobs by default
BENCH_JOBS = 6         # of which at most these go through the slower cocotb bench, in each of its tests that count them
BENCH_SIZE = 24        # largest M, K and N there
STALLS = (0.0, 0.3, 0.7)


def array_component(design: ArrayDesign) -> Any:
    """The array of a design's dataflow."""
    from ..hw.mac.array import MatmulArray, WeightArray

    return WeightArray(design) if design.dataflow == "weight" else MatmulArray(design)


def assignments(modes: list[str]) -> list[dict[str, str]]:
    """Modes of the two layers of the digits MLP, so that every mode has a turn."""
    return [{"hidden": modes[at], "scores": modes[(at + 1) % len(modes)]} for at in range(0, len(modes), 2)]


# PE and array --------------------------------------------------------------------------------------

def pe_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``morphable_pe``."""
    from ..sim.batch import BatchModel
    from ..sim.products import PeProducts

    no_jobs(options, "a PE")
    options.progress(f"{resolved.name}: building the model")
    model = BatchModel(resolved.component())
    yield Check("PE", "vectors", functools.partial(_pe, resolved, options.seed, model),
                "operand pairs in every mode against the golden model")
    products = PeProducts(resolved.design, model)
    yield Check("products", "results", functools.partial(_products, products, options.seed), "matrix products")
    yield from _networks(resolved.design.modes, options, functools.partial(_mlp_of_products, products, options.images))


def array_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``matmul_array``."""
    from ..sim.products import products_of

    no_jobs(options, "an array")
    options.progress(f"{resolved.name}: building the model")
    products = products_of(resolved.design)
    yield Check("array", "results", functools.partial(_products, products, options.seed),
                "matrix products in every mode against the golden model")
    yield from _networks(resolved.design.pe.modes, options,
                         functools.partial(_mlp_of_products, products, options.images))


def _pe(resolved: Resolved, seed: int, model: Any) -> Outcome:
    from ..sim.pe_check import check_pe

    result = check_pe(resolved.design, seed=seed, model=model)
    details = (f"{result.pairs:,} operand pairs in {len(resolved.design.modes)} modes, "
               f"{'all in every lane' if result.exhaustive else 'all up to 8 bits, random and extreme beyond'}; "
               "mode switches, lane isolation")
    if result.first:
        details = f"first: {result.first}"
    return Outcome(result.vectors, result.mismatches, details, {"pairs": result.pairs, "parts": result.parts})


def _products(products: Products, seed: int) -> Outcome:
    from ..sim.products import check_products

    before = products.cycles
    result = check_products(products, seed=seed)
    cycles = products.cycles - before
    details = f"{result.pairs:,} MACs, {cycles:,} cycles"
    if result.first:
        details = f"first: {result.first}"
    return Outcome(result.vectors, result.mismatches, details, {"cycles": cycles, "macs": result.pairs,
                                                                "parts": result.parts})


def _networks(modes: Any, options: Options, run: Callable[[dict[str, str]], Outcome]) -> Iterator[Check]:
    for layers in assignments([mode.name for mode in modes]):
        shown = " + ".join(dict.fromkeys(layers.values()))
        yield Check(f"digits mlp, {shown}", "results", functools.partial(run, layers),
                    f"digits mlp, {options.images} images, layers {shown}")


def _mlp_of_products(products: Products, images: int, layers: Mapping[str, str]) -> Outcome:
    """The MLP with the RTL's sums; the core's output rule is the golden model's."""
    from ..models.workloads.mixed import run_digits
    from ..sim.core_networks import Recorder

    recorder = Recorder(products.design, products.execute)
    before = products.cycles
    done, percent = run_digits("mlp", layers, images=images, design=products.design, execute=recorder)
    cycles = products.cycles - before
    lanes = {mode.name: mode.lanes for mode in products.pe.modes}
    # Cycles that full use would take.
    least = sum(layer.macs / (products.peak * lanes[layer.mode]) for layer in done.layers)
    details = f"accuracy {percent:.1f}%; {done.macs:,} MACs, {cycles:,} cycles, utilisation {least / cycles:.0%}"
    if recorder.first:
        details = f"first: {recorder.first}"
    return Outcome(recorder.results, recorder.mismatches, details,
                   {"accuracy": percent / 100, "macs": done.macs, "cycles": cycles, "utilisation": least / cycles})


# Core ----------------------------------------------------------------------------------------------

def core_steps(resolved: Resolved, options: Options) -> Iterator[Check]:
    """Checks of `bitkiln sim` for ``matmul_core``."""
    from ..sim.core_run import CoreModel

    jobs = JOBS if options.jobs is None else options.jobs
    few = min(jobs, BENCH_JOBS)
    yield Check("cocotb bench", "beats", functools.partial(bench, resolved, options.seed, few),
                f"cocotb bench, {few} random jobs, stalls on every channel, reset, abort, illegal jobs")
    options.progress(f"{resolved.name}: building the fast model")
    model = CoreModel(resolved.design, seed=options.seed)
    yield Check("random jobs", "jobs", functools.partial(_random_jobs, model, options.seed, jobs),
                f"{jobs} random jobs")
    yield from _networks(resolved.design.pe.modes, options,
                         functools.partial(_mlp_on_core, model, options.images))


def bench(resolved: Resolved, seed: int, jobs: int = BENCH_JOBS) -> Outcome:
    """The cocotb bench of a core."""
    module = resolved.engine.bench + "_dma" * resolved.design.descriptors
    parameters = {"design": resolved.design, "seed": seed, "jobs": jobs, "size": BENCH_SIZE}
    return run_bench(resolved, module, parameters, seed)


def _random_jobs(model: CoreModel, seed: int, count: int) -> Outcome:
    """Jobs of all modes and output rules, with and without stalls, beat by beat."""
    import numpy as np

    from ..sim.core_run import random_job

    rng = np.random.default_rng(seed)
    design: MatmulDesign = model.design
    run = _job_from_memory if design.descriptors else _job_on_streams
    started, done, macs = model.cycles, 0, 0
    wrong: list[str] = []
    for index in range(count):
        model.stall(STALLS[index % len(STALLS)])
        case = random_job(design, rng, mode=design.pe.modes[index % len(design.pe.modes)].name)
        macs += case.job.m * case.job.k * case.job.n
        try:
            run(model, case)
        except BitkilnError as error:
            wrong.append(error.render().splitlines()[0].removeprefix("error: "))
            model.reset()
        done += 1
    model.stall(0.0)
    model.check_protocol()
    cycles = model.cycles - started
    details = f"first: {wrong[0]}" if wrong else f"{macs:,} MACs, {cycles:,} cycles, stalls on every channel"
    return Outcome(done, len(wrong), details, {"jobs": done, "cycles": cycles, "macs": macs})


def _job_on_streams(model: CoreModel, case: JobCase) -> None:
    from ..sim.core_run import run_job

    run_job(model, case)


def _job_from_memory(model: CoreModel, case: JobCase) -> None:
    import numpy as np

    from ..host.driver import Core
    from ..sim.core_run import SimTransport

    got = Core(SimTransport(model), model.design).run(
        case.job, case.a, case.w, a_scales=case.a_scales, w_scales=case.w_scales, records=case.records, c=case.c)
    differs = np.asarray(got != case.codes, bool)
    if differs.any():
        at = tuple(int(i) for i in np.argwhere(differs)[0])
        raise BitkilnError("core and golden model differ", where=f"element {at}, {case.job}", got=got[at],
                           expected=str(case.codes[at]), exit_code=FAILED)


def _mlp_on_core(model: CoreModel, images: int, layers: Mapping[str, str]) -> Outcome:
    from ..sim.core_networks import run_digits

    result = run_digits(model, "mlp", layers, images=images)
    model.check_protocol()
    details = (f"accuracy {result.accuracy['core']:.1%} (all int8 {result.accuracy['int8']:.1%}); "
               f"{result.jobs} jobs, {result.cycles:,} cycles, utilisation {result.utilisation:.0%}")
    if result.first:
        details = f"first: {result.first}"
    elif not result.cycles_equal:
        details = f"{result.cycles:,} cycles, {result.expected_cycles:,} by the closed form"
    return Outcome(result.results, result.mismatches + (not result.cycles_equal), details, result.as_dict())
