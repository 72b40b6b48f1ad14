"""Which points of a large space are evaluated: a sample, or those that a genetic search tries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..config_sweep import METRICS, Point, Space
from ..models.design.dot import parse_pe
from ..models.errors import MISSING_TOOL, BitkilnError

__all__ = ["nsga2", "sample"]

GENETIC = 0.5       # share of the evaluations by the genetic search
UNKNOWN = 1e30      # cost of what has none


def sample(points: Sequence[Point], count: int, seed: int) -> list[Point]:
    """``count`` of the points (all where there are fewer), in their own order."""
    chosen = np.random.default_rng(seed).choice(len(points), min(count, len(points)), replace=False)
    return [points[int(at)] for at in np.sort(chosen)]


def nsga2(space: Space, evaluate: Callable[[Point], dict[str, Any]], axes: Sequence[tuple[str, str]]) -> list[Point]:
    """NSGA-II (K. Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002) over the values of the grids, by pymoo, then a
    Pareto local search from what it found (L. Paquete et al., Metaheuristics for Multiobjective Optimisation, 2004).

    Objectives are the metrics of all axes. Points are tried at most ``search.points`` times, each once: a share of
    them by NSGA-II, the others are those that differ in one value from a point on a front, nearest values first.

    Returns
    -------
    list of Point
        Those that were tried, in the order of the space.

    Raises
    ------
    BitkilnError
        Exit code 3 without pymoo.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.problem import Problem
        from pymoo.operators.crossover.pntx import TwoPointCrossover
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling
        from pymoo.optimize import minimize
    except ImportError:
        raise BitkilnError("pymoo is not installed", where="search.method", got="nsga2", exit_code=MISSING_TOOL,
                           help="pip install 'bitkiln[search]'") from None
    columns, genes = _genes(space.points)
    by_gene = {tuple(row): point for row, point in zip(genes.tolist(), space.points, strict=True)}
    names = list(dict.fromkeys(name for pair in axes for name in pair))
    search = space.config.search
    limit = max(int(search.points * GENETIC), 1)
    tried: dict[str, list[float]] = {}

    def costs(gene: Sequence[float]) -> list[float]:
        point = by_gene.get(tuple(int(round(value)) for value in gene))
        if point is None or (point.digest not in tried and len(tried) >= limit):
            return [UNKNOWN] * len(names)
        if point.digest not in tried:
            metrics = evaluate(point)["metrics"]
            values = [metrics[name]["value"] for name in names]
            tried[point.digest] = [UNKNOWN if value is None else -value if METRICS[name][2] else value
                                   for name, value in zip(names, values, strict=True)]
        return tried[point.digest]

    class Grid(Problem):
        def __init__(self) -> None:
            super().__init__(n_var=genes.shape[1], n_obj=len(names), xl=np.zeros(genes.shape[1]),
                             xu=np.array([len(values) - 1 for values in columns]), vtype=int)

        def _evaluate(self, x: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            out["F"] = np.array([costs(row) for row in x])

    size = min(search.population, max(limit // 4, 4))
    minimize(Grid(), NSGA2(pop_size=size, sampling=IntegerRandomSampling(), crossover=TwoPointCrossover(),
                           mutation=PM(vtype=float, repair=RoundingRepair()), eliminate_duplicates=True),
             ("n_gen", max(2 * limit // size, 4)), seed=search.seed, verbose=False)
    limit = search.points
    _improve(by_gene, tried, costs, limit, [(names.index(x), names.index(y)) for x, y in axes])
    return [point for point in space.points if point.digest in tried]


def _improve(by_gene: dict[tuple[int, ...], Point], tried: dict[str, list[float]],
             costs: Callable[[Sequence[float]], list[float]], limit: int, axes: Sequence[tuple[int, int]]) -> None:
    """Try what differs in one gene from a point on a front, until all of these are tried or ``limit`` points are."""
    genes = list(by_gene)
    table = np.array(genes)
    while len(tried) < limit:
        known = {gene: tried[point.digest] for gene, point in by_gene.items() if point.digest in tried}
        away = np.full(len(genes), np.inf)      # steps from the nearest front point along one gene
        for gene in _fronts(known, axes):
            steps = np.abs(table - np.array(gene))
            single = (steps > 0).sum(1) == 1
            away[single] = np.minimum(away[single], steps.sum(1)[single])
        away[[gene in known for gene in genes]] = np.inf
        if not np.isfinite(away).any():
            return
        for at in np.flatnonzero(away == away.min())[:limit - len(tried)]:
            costs(genes[at])


def _fronts(known: dict[tuple[int, ...], list[float]], axes: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Genes on the front of any pair of costs."""
    found: dict[tuple[int, ...], None] = {}
    for x, y in axes:
        least = UNKNOWN
        for gene in sorted(known, key=lambda gene: (known[gene][x], known[gene][y], gene)):
            if known[gene][y] < least:
                least = known[gene][y]
                found[gene] = None
    return list(found)


def _genes(points: Sequence[Point]) -> tuple[list[list[Any]], np.ndarray]:
    """Values of each key that differs, like ones beside each other, and the index of each point's value."""
    keys = list(dict.fromkeys(key for point in points for key in point.keys)) + ["assignment", "technology"]

    def value(point: Point, key: str) -> Any:
        return getattr(point, key) if key in ("assignment", "technology") else point.keys.get(key)

    columns = {key: _ordered({repr(value(point, key)): value(point, key) for point in points}) for key in keys}
    chosen = [key for key in keys if len(columns[key]) > 1] or keys[:1]
    genes = np.array([[columns[key].index(repr(value(point, key))) for key in chosen] for point in points])
    return [columns[key] for key in chosen], genes


def _ordered(values: dict[str, Any]) -> list[str]:
    """Numbers by size, formats by their bits, others as they come."""
    def width(pe: Any) -> int:
        activation, weight = parse_pe(pe)
        return activation.bits + weight.bits

    try:
        if all(isinstance(value, str) for value in values.values()):
            return sorted(values, key=lambda shown: width(values[shown]))
        return sorted(values, key=lambda shown: values[shown])
    except (BitkilnError, TypeError):
        return list(values)
