"""Area and cycles of whole grids of dot units at once: pairs of formats x lanes x accumulator depths x pipelines.

The same numbers as `area_estimate` and `map_layer` give one by one. What a lane is made of is counted once for each
pair and pipeline; lanes multiply it; the adder tree depends on pair and lanes, the accumulator on depth too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from ...design import Accumulator, DotDesign, parse_pe
from ...workloads.shapes import Workload
from ..mapping import map_layer
from .area import Technology, for_metric
from .area import technology as read_technology
from .area_features import CUTS, lane_block, sum_counts
from .fit import REACH, Block, Counts

__all__ = ["unit_grid"]

REGISTERS, TREE = "control:lane_registers", "add:"
Arrays = dict[str, np.ndarray]


def unit_grid(technology: Technology | str, pairs: Sequence[str], lanes: Sequence[int], depths: Sequence[int],
              pipelines: Sequence[int], workload: Workload | None = None) -> Arrays:
    """Estimates of every combination, with exact accumulators.

    Parameters
    ----------
    technology : Technology or str
    pairs : sequence of str
        PE names (``int8``, ``int8xfp4``).
    lanes, depths, pipelines : sequence of int
    workload : Workload, optional
        Gives cycles.

    Returns
    -------
    dict of str to float ndarray (pairs, lanes, depths, pipelines)
        ``area``, ``low``, ``high`` in the technology's unit, and each of its metrics (``lut``, ``carry``, ``ff``,
        ``srl`` or ``logic``, ``registers``); ``known`` (bool); with a workload ``cycles`` and ``area_cycles``. NaN
        where the model was never fitted to a part.

    Raises
    ------
    BitkilnError
        Unknown technology or PE, values out of range.
    """
    tech = technology if isinstance(technology, Technology) else read_technology(technology)
    shape = (len(pairs), len(lanes), len(depths), len(pipelines))
    totals = ("area", "low", "high")
    found: Arrays = {name: np.zeros(shape) for name in dict.fromkeys((*totals, *tech.models))}
    found["known"] = np.ones(shape, bool)
    for i, pair in enumerate(pairs):
        for at, metrics in _pair(tech, pair, lanes, depths, pipelines):
            for metric, each in metrics.items():
                weight = tech.weights.get(metric, 0)
                found[metric][i, ..., at] = each.value
                found["known"][i, ..., at] &= each.known
                for name, values in zip(totals, (each.value, each.low, each.high), strict=True):
                    found[name][i, ..., at] += weight * values
    bad = np.isnan(sum(found[metric] for metric in tech.models))
    for name in (*totals, *tech.models):
        found[name][bad] = np.nan
    found["known"] &= ~bad
    if workload is not None:
        cycles = np.array([[_cycles(workload, count, pipeline) for pipeline in pipelines] for count in lanes], float)
        found["cycles"] = np.broadcast_to(cycles[None, :, None, :], shape).copy()
        found["area_cycles"] = found["area"] * found["cycles"]
    return found


@dataclass(frozen=True)
class _Metric:
    """A metric of all lanes and depths: arrays (lanes, depths)."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    known: np.ndarray


def _pair(tech: Technology, pair: str, lanes: Sequence[int], depths: Sequence[int], pipelines: Sequence[int]
          ) -> Iterator[tuple[int, dict[str, _Metric]]]:
    """Metrics of each pipeline."""
    activation, weight = parse_pe(pair)
    units = [[DotDesign(activation, weight, count, Accumulator(depth=depth)) for depth in depths] for count in lanes]
    trees = [{name: amount for name, amount in lane_block(row[0], frozenset()).counts.items() if name.startswith(TREE)}
             for row in units]
    one = DotDesign(activation, weight, 1, Accumulator(depth=depths[0]))
    flags = len(one.flags)
    still = _columns([sum_counts(unit, 0, flags) for row in units for unit in row])
    none = sum_counts(one, 0, flags)
    for at, pipeline in enumerate(pipelines):
        cuts = CUTS[one.with_options(pipeline=pipeline).pipeline]
        block = lane_block(one, cuts)
        # What the stages of the control add is the same for all.
        added = sum_counts(one, len(cuts), flags)
        sums = {name: (amount + added.get(name, 0.0) - none.get(name, 0.0)).reshape(len(lanes), len(depths))
                for name, amount in still.items()}
        counts = _lanes(one, block.counts, cuts, lanes) | _columns(trees)
        yield at, {metric: _metric(tech, metric, counts, block, sums) for metric in tech.models}


def _columns(counts: Sequence[Counts]) -> Arrays:
    """Counts of several units, as arrays; 0 where one has none."""
    return {name: np.array([each.get(name, 0.0) for each in counts])
            for name in dict.fromkeys(name for each in counts for name in each)}


def _lanes(unit: DotDesign, counts: Counts, cuts: frozenset[str], lanes: Sequence[int]) -> Arrays:
    """Counts of so many lanes, the adder tree apart: that of one, but for the registers behind the tree."""
    count = np.array(lanes, float)
    found = {name: amount * count for name, amount in counts.items() if not name.startswith(TREE)}
    if REGISTERS in found:
        width = unit.max_product.bit_length() + 1
        stages = len(cuts & {"sum"}) + 2 * len(cuts & {"tree"})
        levels = np.array([ceil(log2(each)) for each in lanes])
        found[REGISTERS] = (counts[REGISTERS] - width * stages) * count + (width + levels) * stages
    return found


def _metric(tech: Technology, metric: str, counts: Arrays, block: Block, sums: Arrays) -> _Metric:
    """`LinearModel.predict` of all of them."""
    model = tech.models[metric]
    shares = [model.deviations.get(kind) for kind, _ in block.kinds]
    seen = model.error_new if None in shares else model.error_known
    factor = max(1.0 + sum(share or 0.0 for share in shares), 0.0)
    value, spread, furthest = np.zeros((3, *next(iter(sums.values())).shape))
    lanes = {name: amount.reshape(-1, 1) for name, amount in counts.items()}        # the same for all depths
    for scale, each in ((factor, lanes), (1.0, sums)):
        for name, amount in _chosen(each, metric, tech.models).items():
            coefficient, largest = model.coefficients.get(name), model.largest.get(name)
            cost = scale * (np.where(amount > 0, np.nan, 0.0) if coefficient is None else amount * coefficient)
            over = amount / largest / REACH if largest else np.zeros_like(amount)
            value += cost
            spread += cost * np.where(over <= 1, seen, model.error_new * over)
            furthest = np.maximum(furthest, over)
    return _Metric(value, np.maximum(value - spread, 0.0), value + spread, (None not in shares) & (furthest <= 1))


def _chosen(counts: Arrays, metric: str, metrics: Iterable[str]) -> Mapping[str, np.ndarray]:
    """The counts that a metric can depend on."""
    return for_metric([Block(counts)], metric, metrics)[0].counts      # type: ignore[arg-type]


def _cycles(workload: Workload, lanes: int, pipeline: int) -> int:
    """Of units of any formats: cycles depend on lanes and latency alone."""
    design = DotDesign.from_pe("int2", lanes=lanes, pipeline=pipeline)
    return sum(map_layer(design, layer).cycles for layer in workload.layers)
