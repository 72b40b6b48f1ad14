"""Off-chip bytes of the scheduler's plans against listed order + LRU and + Belady, beyond those that any plan moves.

Capacities are multiples of the least one that each network needs (its largest operator). All plans, the baselines' too,
are replayed by the checker. Published for COSMA (arXiv 2311.18246): 84 % fewer non-compulsory accesses on average, 85 %
by divide and conquer on searched networks; its networks, capacities and baselines are others.
"""

from __future__ import annotations

import time

from bitkiln.models.cost.schedule.schedule import POLICIES, Graph, baseline, check_plan, schedule
from bitkiln.models.workloads.operator_graphs import GRAPHS
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=pareto ONLY=schedule_spills"
ROOMS = (1.0, 1.1, 1.25, 1.5)
PUBLISHED = 84.0       # % saved by COSMA, mean
SECONDS = 30.0


def spills(graph: Graph, room: float) -> tuple[dict[str, int], bool, float]:
    """Bytes beyond the compulsory of each method, whether ours is proven to be the least, and its seconds."""
    capacity = int(graph.least_capacity * room)
    plans = {policy: baseline(graph, capacity, policy) for policy in POLICIES}
    began = time.perf_counter()
    plans["ours"] = plan = schedule(graph, capacity, time_limit_s=SECONDS)
    seconds = time.perf_counter() - began
    extra = {name: check_plan(graph, each).traffic_bytes - graph.compulsory_bytes for name, each in plans.items()}
    return extra, plan.optimal, seconds


def run() -> list[Row]:
    rows, saved, longest = [], {policy: [] for policy in POLICIES}, 0.0
    for name, build in GRAPHS.items():
        graph = build()
        for room in ROOMS:
            extra, optimal, seconds = spills(graph, room)
            longest = max(longest, seconds)
            note = (f"{len(graph.operators)} operators, {int(graph.least_capacity * room):,} bytes of scratchpad, "
                    f"{graph.compulsory_bytes:,} compulsory; beyond them LRU {extra['lru']:,}, Belady "
                    f"{extra['belady']:,}, ours {extra['ours']:,} ({'proven least' if optimal else 'not proven'}, "
                    f"{seconds:.1f} s)")
            for policy in POLICIES:
                if extra[policy]:
                    saved[policy].append(100 * (1 - extra["ours"] / extra[policy]))
            worst = max(extra[policy] for policy in POLICIES)
            least = min(extra[policy] for policy in POLICIES)
            rows.append(Row(f"{name}, {room:g} x: bytes fewer than the better baseline", least - extra["ours"], "bytes",
                            0, "higher", COMMAND, note if worst else f"{note}; nothing to save"))
    for policy, values in saved.items():
        rows.append(Row(f"non-compulsory bytes saved against {policy}, mean", round(sum(values) / len(values), 1), "%",
                        PUBLISHED if policy == "lru" else None, "higher", COMMAND,
                        f"{len(values)} cases where it moves any; least {min(values):.1f} %"
                        + ("; the target is COSMA's mean against baselines of its own" if policy == "lru" else "")))
    rows.append(Row("longest schedule", round(longest, 1), "s", 2 * SECONDS, command=COMMAND))
    return rows


if __name__ == "__main__":
    from bitkiln.report.table import print_targets

    print_targets(run(), title="scratchpad schedules")
