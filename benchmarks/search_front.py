"""How much of the exhaustive front the genetic search finds with few evaluations, beside a random sample of that size.

The space is a dot unit in 37 formats and many shapes, its area against the accuracy of a network of digits. All points
are evaluated once; the searches then look their costs up, so that only how many different points they ask for counts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from bitkiln.config_sweep import Point, Space, load_space
from bitkiln.flow.search import nsga2, sample
from bitkiln.flow.sweep import formats_of
from bitkiln.models.cost.area.area import Technology, area_estimate, technology
from bitkiln.models.workloads.accuracy import accuracy
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=search_front"
NETWORK = "digits-mlp"
AXES = ("area", f"accuracy_{NETWORK}")
FEWER = (3, 10, 20, 50)
WANTED = 10        # evaluations saved
SEEDS = 5
SPACE = f"""\
name: search
spaces:
  - engine: dot_unit
    grid:
      pe: [int3, int4, int5, int6, int7, int8, e2m0, e1m2, fp4, e3m0, e1m3, e2m2, e3m1, fp6_e2m3, fp6_e3m2, e4m1,
           e2m4, e3m3, e4m2, fp8_e4m3, fp8_e5m2, fp8_e3m4, e2m5, posit4_1, posit5_0, posit6_0, posit6_1, posit7_0,
           posit8_0, posit8_1, posit8_2, posit16_1, int8xint4, int8xfp4, int8xternary, fp8_e4m3xfp4, int16]
      lanes: [1, 2, 3, 4, 6, 8]
      pipeline: [0, 1, 2, 3, 4]
      accumulator.depth: [64, 256, 1024, 4096]
workload: {NETWORK}
accuracy: [{NETWORK}]
"""

Costs = dict[str, tuple[float, float]]


def all_costs(space: Space, tech: Technology) -> Costs:
    """Area and accuracy of every point whose area is known."""
    scores: dict[str, float] = {}
    found: Costs = {}
    for point in space.points:
        resolved = point.resolve()
        area = area_estimate(resolved.design, tech).value
        formats = formats_of(resolved, None, NETWORK).strip('"')
        if formats not in scores:
            scores[formats] = accuracy(NETWORK, formats).value
        if area is not None:
            found[point.digest] = (area, scores[formats])
    return found


def front(costs: Iterable[tuple[float, float]]) -> set[tuple[float, float]]:
    """Those that no other one beats."""
    best, found = -1.0, set()
    for area, score in sorted(costs, key=lambda each: (each[0], -each[1])):
        if score > best:
            best = score
            found.add((area, score))
    return found


def volume(costs: Iterable[tuple[float, float]], most: float) -> float:
    """Part of the plane below ``most`` that the points beat."""
    best = total = 0.0
    for area, score in sorted(front(costs)):
        total += (most - area) * (score - best)
        best = score
    return total


def shares(space: Space, costs: Costs, budget: int, seed: int) -> dict[str, tuple[float, float, int]]:
    """Of each search: share of the front, of its volume, and points asked for."""
    settings = space.config.search.model_copy(update={"method": "nsga2", "points": budget, "seed": seed})
    chosen = replace(space, config=space.config.model_copy(update={"search": settings}))

    def look_up(point: Point) -> dict:
        return {"metrics": {name: {"value": value} for name, value in zip(AXES, costs[point.digest], strict=True)}}

    most = max(area for area, _ in costs.values())
    whole, full = front(costs.values()), volume(costs.values(), most)
    found = {}
    for name, points in (("search", nsga2(chosen, look_up, [AXES])), ("chance", sample(space.points, budget, seed))):
        mine = [costs[point.digest] for point in points]
        found[name] = (len(front(mine) & whole) / len(whole), volume(mine, most) / full, len(points))
    return found


def run(tech: Technology | None = None) -> list[Row]:
    tech = tech or technology("ecp5")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "search.yaml"
        path.write_text(SPACE, encoding="utf-8")
        space = load_space(path)
    costs = all_costs(space, tech)
    space = replace(space, points=tuple(point for point in space.points if point.digest in costs))
    size, whole = len(costs), front(costs.values())
    rows = []
    for fewer in FEWER:
        runs = [shares(space, costs, size // fewer, seed) for seed in range(SEEDS)]
        share, spread, asked = (np.array([each["search"][at] for each in runs]) for at in range(3))
        chance, by_chance = (np.array([each["chance"][at] for each in runs]) for at in range(2))
        note = (f"{size} points, {len(whole)} on the front; at most {asked.max():.0f} asked for; {SEEDS} seeds, worst "
                f"{100 * share.min():.0f} %; by chance {100 * chance.mean():.0f} %; {tech.name}")
        rows.append(Row(f"front found with {fewer} times fewer evaluations", round(100 * float(share.mean()), 1), "%",
                        100 if fewer <= WANTED else None, "higher", COMMAND, note))
        rows.append(Row(f"area under the front with {fewer} times fewer", round(100 * float(spread.mean()), 3), "%",
                        None, "higher", COMMAND, f"by chance {100 * by_chance.mean():.3f} %"))
    return rows


if __name__ == "__main__":
    from bitkiln.report.table import print_targets

    print_targets(run(), title="searching a design space")
