"""Networks through the simulated core, job by job, each compared with the golden model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from bitkiln.host.driver import Core
from bitkiln.host.packing import best_order
from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.design import Job, MatmulDesign
from bitkiln.models.golden.matmul import Records
from bitkiln.models.workloads import digits
from bitkiln.models.workloads.g2p import predict
from bitkiln.models.workloads.mixed import Execute, LayerRun, golden_execute, prepare, prepare_g2p
from bitkiln.models.workloads.words import read_words, sample_words, score

from .core_run import CoreModel, SimTransport

__all__ = ["CoreExecute", "LayerResult", "NetworkResult", "Recorder", "run_digits", "run_g2p"]


class Recorder:
    """Runs jobs on something and on the golden model, and notes where they differ.

    Parameters
    ----------
    design : MatmulDesign
    execute : callable
        What is checked (``models.workloads.mixed.Execute``).

    Attributes
    ----------
    jobs, results, mismatches : int
    first : str or None
        The first difference.
    """

    def __init__(self, design: MatmulDesign, execute: Execute):
        self.design, self.execute, self.golden = design, execute, golden_execute(design)
        self.jobs = self.results = self.mismatches = 0
        self.first: str | None = None

    def __call__(self, job: Job, a: np.ndarray, w: np.ndarray, records: Records | None,
                 c: np.ndarray | None) -> np.ndarray:
        got, wanted = self.execute(job, a, w, records, c), self.golden(job, a, w, records, c)
        differs = np.asarray(np.asarray(got) != wanted, bool)
        if self.first is None and differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            self.first = f"{job.mode}, {job.m} x {job.k} x {job.n}, element {at}: {got[at]}, expected {wanted[at]}"
        self.jobs, self.results = self.jobs + 1, self.results + differs.size
        self.mismatches += int(differs.sum())
        return got


class CoreExecute:
    """Jobs on a simulated core, one at a time.

    Parameters
    ----------
    model : CoreModel

    Attributes
    ----------
    cycles : int
        By the core's counter, from the start of a job to its last beat; by the clock, registers included, where the
        core has no counters.
    expected : int or None
        What the closed form says; None for a core with descriptors, whose bus it does not know, and without counters.
    """

    def __init__(self, model: CoreModel):
        self.model, self.design = model, model.design
        self.core = Core(SimTransport(model), model.design)
        self.cycles = 0
        known = model.design.counters and not model.design.descriptors
        self.expected: int | None = 0 if known else None

    def __call__(self, job: Job, a: np.ndarray, w: np.ndarray, records: Records | None,
                 c: np.ndarray | None) -> np.ndarray:
        job = replace(job, order=best_order(self.design, job))
        started = self.model.cycles
        if self.design.counters:
            self.core.clear_counters()
        codes = self.core.run(job, a, w, records=records, c=c)
        self.cycles += self.core.counters()["cycles"] if self.design.counters else self.model.cycles - started
        if self.expected is not None:
            self.expected += matmul_cycles(self.design, job).cycles
        return codes


@dataclass(frozen=True)
class LayerResult:
    """One layer.

    Attributes
    ----------
    m, k, n : int
        Shape of the matrix product (all samples together).
    macs : int
        Products that the network needs.
    weight_bytes : int
        Weight codes, tightly packed.
    jobs, results, mismatches : int
    cycles : int
        Of all jobs, one after the other.
    expected_cycles : int or None
        By the closed form.
    utilisation : float
        ``macs`` by what the array could do in ``cycles``, 0..1; filling and draining included.
    """

    name: str
    mode: str
    rule: str
    output: str | None
    m: int
    k: int
    n: int
    macs: int
    weight_bytes: int
    jobs: int
    results: int
    mismatches: int
    cycles: int
    expected_cycles: int | None
    utilisation: float


@dataclass(frozen=True)
class NetworkResult:
    """A network on the core.

    Attributes
    ----------
    accuracy : dict of str to float
        Shares of right answers, 0..1, of ``core`` (the assignment, by the RTL), ``int8`` (all layers int8, golden
        model) and ``float``; g2p: of words.
    first : str or None
        The first difference from the golden model.
    """

    network: str
    samples: int
    layers: tuple[LayerResult, ...]
    accuracy: dict[str, float]
    int8_weight_bytes: int
    first: str | None
    seconds: float
    facts: dict = field(default_factory=dict)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def jobs(self) -> int:
        return sum(layer.jobs for layer in self.layers)

    @property
    def results(self) -> int:
        return sum(layer.results for layer in self.layers)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)

    @property
    def expected_cycles(self) -> int | None:
        """By the closed form."""
        each = [layer.expected_cycles for layer in self.layers]
        return None if None in each else sum(each)

    @property
    def utilisation(self) -> float:
        """Share of the array's products that were needed."""
        full = sum(layer.macs / layer.utilisation for layer in self.layers)
        return self.macs / full

    @property
    def cycles_equal(self) -> bool:
        """Every layer took as many cycles as the closed form says, where it says anything."""
        return all(layer.expected_cycles in (None, layer.cycles) for layer in self.layers)

    @property
    def ok(self) -> bool:
        """All bits and cycles equal, and something was compared."""
        return self.results > 0 and not self.mismatches and self.cycles_equal

    def as_dict(self) -> dict:
        """For JSON."""
        totals = {name: getattr(self, name) for name in ("macs", "cycles", "weight_bytes", "jobs", "results",
                                                         "mismatches", "expected_cycles", "cycles_equal", "utilisation",
                                                         "ok")}
        return {**asdict(self), **totals}


@dataclass(frozen=True)
class _Cost:
    """What one job was, and whose."""

    results: int
    mismatches: int
    cycles: int
    expected: int
    layer: str | None


class _Ledger:
    """Runs jobs on the core and keeps what each one cost.

    Attributes
    ----------
    layer : str or None
        Whose jobs come next, where that is known beforehand.
    """

    def __init__(self, model: CoreModel):
        self.execute = CoreExecute(model)
        self.recorder = Recorder(model.design, self.execute)
        self.costs: list[_Cost] = []
        self.layer: str | None = None

    def __call__(self, job: Job, a: np.ndarray, w: np.ndarray, records: Records | None,
                 c: np.ndarray | None) -> np.ndarray:
        before = self._state()
        codes = self.recorder(job, a, w, records, c)
        self.costs.append(_Cost(*(new - old for new, old in zip(self._state(), before, strict=True)), self.layer))
        return codes

    def _state(self) -> tuple[int, int, int, int]:
        return (self.recorder.results, self.recorder.mismatches, self.execute.cycles, self.execute.expected or 0)

    def result(self, layer: LayerRun, costs: Sequence[_Cost]) -> LayerResult:
        design = self.execute.design
        peak = design.rows * design.columns * design.pe.modes[design.pe.index(layer.mode)].lanes
        cycles = sum(cost.cycles for cost in costs)
        return LayerResult(
            layer.name, layer.mode, layer.rule, layer.output, layer.m, layer.k, layer.n, layer.macs,
            layer.weight_bytes, len(costs), sum(cost.results for cost in costs), sum(cost.mismatches for cost in costs),
            cycles, None if self.execute.expected is None else sum(cost.expected for cost in costs),
            layer.macs / (peak * cycles))


def run_digits(model: CoreModel, network: str, layers: Mapping[str, object] | str, *,
               images: int | None = None) -> NetworkResult:
    """The digits network ``mlp`` or ``cnn`` on the simulated core.

    Parameters
    ----------
    model : CoreModel
    network : str
    layers : mapping or str
        A mode for each layer (``models.workloads.mixed``).
    images : int, optional
        The first so many test images; all by default.
    """
    started = time.perf_counter()
    data = digits.load()
    trained, labels = data.network(network), data.labels[:images]
    calibration, x = (digits.scale_images(given) for given in (data.calibration, data.images[:images]))
    ledger = _Ledger(model)
    done = prepare(trained, layers, calibration, model.design).run(x, ledger)
    results, at = [], 0
    for layer in done.layers:
        results.append(ledger.result(layer, ledger.costs[at:at + len(layer.jobs)]))
        at += len(layer.jobs)
    plain = prepare(trained, "int8", calibration).run(x)
    accuracy = {"core": done.accuracy(labels) / 100, "int8": plain.accuracy(labels) / 100,
                "float": float(np.mean(trained.forward(x)[0].argmax(axis=1) == labels))}
    return NetworkResult(network, len(x), tuple(results), accuracy, plain.weight_bytes, ledger.recorder.first,
                         time.perf_counter() - started)


def run_g2p(model: CoreModel, layers: Mapping[str, object] | str, *, words: int, seed: int = 1) -> NetworkResult:
    """The grapheme-to-phoneme GRU on the simulated core; ``accuracy`` is that of words.

    Parameters
    ----------
    model, layers :
        As in `run_digits`.
    words : int
        Size of the sample.
    seed : int
        Which words.
    """
    started = time.perf_counter()
    sample = sample_words(read_words(None), words, seed)
    texts = [word.text for word in sample]
    ledger = _Ledger(model)
    net, products = prepare_g2p(layers, design=model.design, execute=ledger)

    def product(name: str, rows: np.ndarray) -> np.ndarray:
        ledger.layer = name
        return products(name, rows)

    spoken = {"core": predict(net, texts, product), "float": predict(net, texts)}
    _, plain = prepare_g2p("int8")
    spoken["int8"] = predict(net, texts, plain)
    results = [ledger.result(layer, [cost for cost in ledger.costs if cost.layer == layer.name])
               for layer in products.layer_runs()]
    scores = {name: score(sample, said) for name, said in spoken.items()}
    return NetworkResult("g2p", words, tuple(results), {name: scores[name][0] for name in ("core", "int8", "float")},
                         sum(layer.weight_bytes for layer in plain.layer_runs()), ledger.recorder.first,
                         time.perf_counter() - started,
                         {"phoneme_error_rate": {name: found[1] for name, found in scores.items()}})
