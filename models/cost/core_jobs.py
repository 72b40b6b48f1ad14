"""The jobs that a layer becomes on the matrix-multiplication core."""

from __future__ import annotations

from dataclasses import replace

from ..design import Job, MatmulDesign
from ..design.matmul import MAX_SHAPE
from ..errors import BitkilnError
from ..workloads.shapes import LayerShape

__all__ = ["chunks", "layer_jobs"]


def _last_job(design: MatmulDesign, mode: str) -> Job:
    """What the job that ends a sum does: a code of the activation's format by the cheapest rule that can."""
    activation = design.pe.modes[design.pe.index(mode)].activation
    names = [name for name in (activation.name, *design.outputs) if name in design.outputs]
    for rule in ("integer", "float"):
        if rule not in design.rules:
            continue
        for output in dict.fromkeys(names):
            scale = 1 if rule == "integer" else 1.0
            job = Job(mode, 1, 1, 1, rule=rule, output=output, scale=scale, per_channel=True)
            try:
                return job.check(design)
            except BitkilnError:
                continue
    return Job(mode, 1, 1, 1)


def chunks(total: int, most: int) -> list[tuple[int, int]]:
    """(size, how many) of equal pieces and the rest."""
    full, rest = divmod(total, most)
    return [(size, count) for size, count in ((most, full), (rest, 1)) if size and count]


def layer_jobs(design: MatmulDesign, layer: LayerShape, mode: str, order: str) -> list[tuple[Job, int]]:
    """Jobs of a layer, each with how many times it runs."""
    last = replace(_last_job(design, mode), order=order)
    longest = design.max_k(mode)
    lanes = design.pe.modes[design.pe.index(mode)].lanes
    longest -= longest % lanes if longest > lanes else 0
    if layer.k > longest and not design.accumulate:
        raise BitkilnError("K too long for one job", where=f"layer {layer.name}", got=layer.k,
                           expected=f"at most {longest}", help="output.accumulate lets a sum go over several jobs")
    jobs: list[tuple[Job, int]] = []
    steps = -(-layer.k // longest)
    for m, m_count in chunks(layer.m, MAX_SHAPE):
        for n, n_count in chunks(layer.n, MAX_SHAPE):
            times = m_count * n_count * layer.count
            end = layer.k - (steps - 1) * longest
            jobs.append((replace(last, m=m, n=n, k=end, accumulate=steps > 1), times))
            if steps > 1:
                first = Job(mode, m, longest, n, order=order)
                jobs.append((first, times))
                if steps > 2:
                    jobs.append((replace(first, accumulate=True), times * (steps - 2)))
    return jobs
