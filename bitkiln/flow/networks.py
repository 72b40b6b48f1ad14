"""``bitkiln run``: trained networks, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..config import Resolved, load_design
from ..engines import engine as find_engine
from ..models.errors import BitkilnError
from .layers import Assignment, parse_assignment, read_layers

__all__ = ["NetworkRun", "Table", "digits", "g2p", "on_core"]

CORE = "matmul_core"
Table = tuple[str, list[str], list[list[Any]], tuple[int, ...]]
"""Title, columns, rows, and which columns are set to the right."""


@dataclass(frozen=True)
class NetworkRun:
    """Result tables and whether everything agreed; ``facts`` is their JSON."""

    tables: list[Table]
    passed: bool
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return self.facts


def digits(resolved: Resolved, *, images: int, progress: Callable[[str], None],
           chosen: Sequence[str] = ("mlp", "cnn")) -> NetworkRun:
    """Digits networks through the RTL dot unit, compared with the golden model bit for bit."""
    from ..sim.batch import BatchModel
    from ..sim.digits import run_digits

    design = resolved.design
    progress(f"building {resolved.name}")
    model = BatchModel(design)
    rows, results = [], []
    for network in chosen:
        progress(f"digits {network}: {images} images through the RTL")
        result = run_digits(design, network, images, model=model)
        results.append(result)
        for layer in result.layers:
            rows.append([network, layer.name, None, None, None, f"{layer.dot_products:,}", f"{layer.mismatches:,}",
                         f"{layer.macs:,}", f"{layer.cycles:,}", f"{layer.macs / layer.cycles:.2f}"])
        rows.append([network, "whole network", f"{result.float_accuracy:.2%}", f"{result.golden_accuracy:.2%}",
                     f"{result.rtl_accuracy:.2%}", f"{result.dot_products:,}", f"{result.mismatches:,}",
                     f"{result.macs:,}", f"{result.cycles:,}", f"{result.macs_per_cycle:.2f}"])
    passed = all(result.ok for result in results)
    facts = {"design": {"name": resolved.name, "config": resolved.config, "digest": resolved.digest},
             "passed": passed, "networks": [result.as_dict() for result in results]}
    columns = ["network", "layer", "float", "golden", "RTL", "dot products", "mismatches", "MACs", "cycles",
               "MACs/cycle"]
    title = f"digits on {resolved.name}: {images} images, {'every bit equal' if passed else 'DIFFERENT'}"
    return NetworkRun([(title, columns, rows, tuple(range(2, 10)))], passed, facts)


def g2p(resolved: Resolved, *, words: int, seed: int, progress: Callable[[str], None]) -> NetworkRun:
    """The grapheme-to-phoneme GRU with weights in the PE's weight format, and with both operands quantised."""
    from ..models.workloads.g2p import run_g2p

    design = resolved.design
    scores: list[Any] = []
    for activations in dict.fromkeys(["float32", design.activation.name]):
        progress(f"g2p: {words} words, activations {activations}")
        both = "same" if activations == design.weight.name else activations
        found = run_g2p([design.weight.name], words, seed, activations=both)
        scores += found if not scores else found[1:]
    rows = [[score.weights, score.activations, f"{score.word_accuracy:.2%}", f"{score.phoneme_error_rate:.2%}"]
            for score in scores]
    facts = {"words": words, "seed": seed, "results": [asdict(score) for score in scores],
             "units": {"word_accuracy": "share of words", "phoneme_error_rate": "errors per phoneme"}}
    title = f"g2p on {words} words of CMUdict (seed {seed}, golden model)"
    columns = ["weights", "activations", "word accuracy", "phoneme errors"]
    return NetworkRun([(title, columns, rows, (2, 3))], True, facts)


# On the core ---------------------------------------------------------------------------------------

def on_core(networks: Sequence[str], layers: Path | None, *, engine: str | None, config: Path | None,
            preset: str | None, samples: dict[str, int], seed: int, progress: Callable[[str], None]) -> NetworkRun:
    """Networks as jobs of the simulated core, each layer in its own mode.

    Parameters
    ----------
    networks : sequence of str
        ``mlp``, ``cnn``, ``g2p``; those that the file gives whole are run.
    layers : Path, optional
        File with a mode for each layer; without, all layers run in the core's first mode.
    engine : str, optional
        As the command line names it; only ``matmul_core`` runs jobs.
    config : Path, optional
        Design description of the core.
    preset : str, optional
        Preset of the core. Without both, it is the engine's default with the modes of the layers.
    samples : dict of str to int
        Images or words by network.
    """
    assignment = None if layers is None else read_layers(layers, list(networks))
    resolved = _core(assignment, engine, config, preset)
    if assignment is None:
        assignment = parse_assignment({"default": resolved.design.pe.modes[0].name}, list(networks))
    assignment.check(resolved.design)
    from ..sim import core_networks
    from ..sim.core_run import CoreModel

    progress(f"building {resolved.name}")
    model = CoreModel(resolved.design, seed=seed)
    results, tables = [], []
    for network in assignment.plans:
        count = samples[network]
        progress(f"{network}: {count} {'words' if network == 'g2p' else 'images'} through the simulated core")
        try:
            if network == "g2p":
                result = core_networks.run_g2p(model, assignment.layers(network), words=count, seed=seed)
            else:
                result = core_networks.run_digits(model, network, assignment.layers(network), images=count)
        except BitkilnError as error:
            raise assignment.located(error) from None
        model.check_protocol()
        results.append(result)
        tables += _core_tables(resolved, result)
    passed = bool(results) and all(result.ok for result in results)
    facts = {"design": {"name": resolved.name, "config": resolved.config, "digest": resolved.digest},
             "passed": passed, "networks": [result.as_dict() for result in results]}
    return NetworkRun(tables, passed, facts)


def _core(assignment: Assignment | None, engine: str | None, config: Path | None, preset: str | None) -> Resolved:
    """The core's design; modes come from the layers where nothing else describes it."""
    if engine is not None and find_engine(engine, "--engine").name != CORE:
        raise _no_jobs("--engine", engine)
    cli: dict[str, tuple[Any, str]] = {}
    if engine is not None or config is None and preset is None:
        cli["engine"] = (engine or CORE, "--engine")
    if config is None and preset is None:
        cli["modes"] = (["int8"] if assignment is None else assignment.modes, "--layers")
    resolved = load_design(config, preset=preset, cli=cli)
    if resolved.engine.name != CORE:
        raise _no_jobs(str(config or "--preset"), resolved.engine.name)
    return resolved


def _no_jobs(where: str, engine: str) -> BitkilnError:
    return BitkilnError("this engine runs no jobs", where=where, got=engine, expected=CORE,
                        help="a dot unit is named by --pe")


def _core_tables(resolved: Resolved, result: Any) -> list[Table]:
    """Per layer, and accuracy beside the plain assignments."""
    unit = "words" if result.network == "g2p" else "images"

    def row(name: str, layer: Any, mode: str = "", output: str = "", shape: str = "") -> list[Any]:
        expected = layer.expected_cycles
        closed = None if expected is None else "equal" if expected == layer.cycles else f"{expected:,}"
        return [name, mode, output, shape, f"{layer.macs:,}", f"{layer.weight_bytes:,}", f"{layer.jobs:,}",
                f"{layer.cycles:,}", closed, f"{layer.utilisation:.1%}", f"{layer.results:,}", f"{layer.mismatches:,}"]

    rows = [row(layer.name, layer, layer.mode, f"{layer.rule} {layer.output or ''}".strip(),
                f"{layer.m} x {layer.k} x {layer.n}") for layer in result.layers]
    rows.append(row("whole network", result))
    verdict = "every bit equal" if result.ok else f"DIFFERENT, first: {result.first or 'the cycles'}"
    title = f"{result.network} on {resolved.name}: {result.samples} {unit}, {verdict}"
    columns = ["layer", "mode", "output", "M x K x N", "MACs", "weight bytes", "jobs", "cycles", "closed form",
               "utilisation", "results", "mismatches"]
    assigned = " + ".join(dict.fromkeys(layer.mode for layer in result.layers))
    float_bytes = 4 * sum(layer.k * layer.n for layer in result.layers)
    compared = [[f"this one: {assigned}", f"{result.weight_bytes:,}", f"{result.accuracy['core']:.2%}", "RTL"],
                ["all int8", f"{result.int8_weight_bytes:,}", f"{result.accuracy['int8']:.2%}", "golden model"],
                ["float32", f"{float_bytes:,}", f"{result.accuracy['float']:.2%}", "float64 arithmetic"]]
    return [(title, columns, rows, tuple(range(4, 12))),
            (f"{result.network}: accuracy on {result.samples} {unit}",
             ["assignment", "weight bytes", "accuracy", "computed by"], compared, (1, 2))]
