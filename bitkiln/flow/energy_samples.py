"""Dot units and operand traces that the energy model is fitted to: gate-level energies of sampled designs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..models.cost.energy.dot_activity import dot_activity
from ..models.cost.energy.traces import Trace
from ..models.design import Accumulator, DotDesign
from ..store import Store
from .power import dot_stimulus, energy
from .synth import cell_mapping

__all__ = ["CHECK_TRACES", "COLUMNS", "SEED", "TRACES", "check_designs", "energy_table", "sample_designs",
           "sample_energies", "table_text"]

SEED = 2026
PAIRS = ("int2", "int3", "int4", "int5", "int6", "int7", "int8", "uint8", "ternary", "fp4", "e2m2", "e3m1", "fp6_e2m3",
         "fp6_e3m2", "e2m4", "fp8_e4m3", "posit4_1", "posit6_0", "posit8_0", "int8xfp4", "int8xint4", "int8xternary",
         "fp8_e4m3xfp4", "posit8_0xint4")
LANES, DEPTHS, PIPELINES = (1, 2, 4), (64, 1024, 16384), (0, 0, 1, 2, 3)
DRAWS = 2
CYCLES, STREAMS = 128, 128
# Activation and weight; @16: stationary for 16 cycles.
TRACES = (("uniform", "uniform"), ("gaussian", "gaussian"), ("relu", "gaussian"), ("sparse(0.75)", "gaussian"),
          ("relu", "gaussian@16"), ("gaussian@4", "sparse(0.5)"))
# Never fitted: pairs of which some are new, other depths, other traces.
CHECK_PAIRS = ("int4", "int8", "fp4", "fp8_e4m3", "posit8_0", "int8xfp4", "int9", "uint6", "int8xint6", "e1m3", "e3m3",
               "posit5_0", "posit7_0", "fp8_e3m4")
CHECK_DEPTHS = (256, 4096)
CHECK_TRACES = (("uniform@2", "gaussian"), ("sparse(0.5)", "uniform"), ("relu", "gaussian@8"))
HEADER = """\
Gate-level energies of dot units on {device}, made by flow/energy_samples.py (energy_table).
Yosys {yosys}: synth -flatten -noalumacc; dfflibmap; abc -D 1000, cells of power gating excluded.
{cycles} cycles of {streams} streams; slews from one forward pass, ports driven as by an inverter that drives four like
itself; no wires, no clock tree.
part: fit, or check (never fitted). Traces: models/cost/energy/traces.py; seed: of the operands.
*_activity: models/cost/energy/dot_activity.py: transitions per cycle (activation, weight: per bit and cycle), shares.
energy = combinational + sequential + inputs + clock_pins + leakage at 500 MHz [pJ/cycle], zero delay;
*_glitch [pJ/cycle]: with all unit-delay transitions; area, area_sequential [um2]."""
MEASURED = ("energy", "energy_glitch", "combinational", "sequential", "inputs", "clock_pins", "combinational_glitch",
            "sequential_glitch", "area", "area_sequential")
ACTIVITY = ("activation", "weight", "activation_zeros", "weight_zeros", "product", "lane_sum", "accumulator",
            "partial_products", "sign", "nonzero")
COLUMNS = ("part", "design", "pe", "lanes", "depth", "pipeline", "activation_bits", "weight_bits", "product_bits",
           "accumulator_bits", "activation_trace", "weight_trace", "seed", *(f"{name}_activity" for name in ACTIVITY),
           *MEASURED)


def sample_designs() -> list[tuple[str, DotDesign]]:
    """PE name and design of every sample: each pair plain with one lane, and drawn."""
    random = np.random.default_rng(SEED)
    found: dict[str, tuple[str, DotDesign]] = {}
    for pe in PAIRS:
        for draw in range(DRAWS):
            lanes, depth, pipeline = (int(random.choice(each)) for each in (LANES, DEPTHS, PIPELINES))
            if draw == 0:
                lanes, depth, pipeline = lanes, 1024, 0
            design = DotDesign.from_pe(pe, lanes=lanes, pipeline=pipeline, accumulator=Accumulator(depth=depth))
            found.setdefault(design.name, (pe, design))
    return list(found.values())


def check_designs() -> list[tuple[str, DotDesign]]:
    """PE name and design of samples that are never fitted."""
    random = np.random.default_rng(SEED + 1)
    found = []
    for pe in CHECK_PAIRS:
        lanes, depth, pipeline = (int(random.choice(each)) for each in (LANES, CHECK_DEPTHS, PIPELINES))
        found.append((pe, DotDesign.from_pe(pe, lanes=lanes, pipeline=pipeline,
                                            accumulator=Accumulator(depth=depth))))
    return found


def sample_energies(liberty: Sequence[Path], designs: Sequence[tuple[str, DotDesign]] | None = None, *,
                    traces: Sequence[tuple[str, str]] = TRACES, cycles: int = CYCLES, streams: int = STREAMS,
                    part: str = "fit", keep: Store | None = None,
                    progress: Callable[[str], None] = lambda text: None) -> Iterator[dict[str, object]]:
    """Rows of the table, each from the store where it is there.

    Parameters
    ----------
    liberty : sequence of Path
    designs, traces :
        Default: all of `sample_designs` and ``TRACES``.
    cycles, streams : int
        See `power.energy`.
    part : str
        ``fit`` or ``check``, a column of the table.
    progress : callable
        Told the name of each design.
    """
    for number, (pe, design) in enumerate(sample_designs() if designs is None else designs):
        progress(design.name)
        for activation, weight in traces:
            seed = SEED + number
            found = energy(design, activation, weight, liberty=liberty, cycles=cycles, streams=streams, seed=seed,
                           keep=keep)
            _, a_codes, w_codes = dot_stimulus(design, Trace.parse(activation), Trace.parse(weight), cycles, streams,
                                               seed)
            activity = dot_activity(design, a_codes, w_codes).as_dict()
            yield {"part": part, "design": design.name, "pe": pe, "lanes": design.lanes,
                   "depth": design.accumulator.depth, "pipeline": design.pipeline,
                   "activation_bits": design.activation.bits, "weight_bits": design.weight.bits,
                   "product_bits": design.product_bits, "accumulator_bits": design.accumulator_bits,
                   "activation_trace": activation, "weight_trace": weight, "seed": seed,
                   **{f"{name}_activity": round(activity[name], 6) for name in ACTIVITY},
                   **{name: round(float(found[name] or 0.0), 5) for name in MEASURED}}


def energy_table(liberty: Sequence[Path], *, keep: Store | None = None,
                 progress: Callable[[str], None] = lambda text: None) -> str:
    """The whole table as CSV: all samples to fit and to check, what made them in its header."""
    from ..sim.toolchain import require

    mapping = cell_mapping("top", [Path(path) for path in liberty])
    rows = list(sample_energies(liberty, keep=keep, progress=progress))
    rows += sample_energies(liberty, check_designs(), traces=CHECK_TRACES, part="check", keep=keep, progress=progress)
    return table_text(rows, HEADER.format(device=mapping.device, yosys=require("yosys").version, cycles=CYCLES,
                                          streams=STREAMS))


def table_text(rows: Sequence[dict[str, object]], header: str) -> str:
    """The table as CSV; ``header`` becomes comment lines."""
    out = io.StringIO()
    out.writelines(f"# {line}\n" for line in header.splitlines())
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
