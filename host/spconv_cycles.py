"""Cycles of a program of the sparse-convolution core, job by job, equal to the RTL (`cost.spconv.spconv_events`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitkiln.models.cost.spconv.spconv_events import JobCycles, convolution_cycles, load_cycles, store_cycles
from bitkiln.models.design.spconv import KERNEL_OFFSETS
from bitkiln.models.design.spconv_core import SpConvDesign, SpConvJob
from bitkiln.models.golden.spconv import Tree, build_tree, decode_keys, encode_keys
from bitkiln.models.golden.spconv_cloud import inside

from .spconv import Program

__all__ = ["ProgramCycles", "program_cycles"]


@dataclass(frozen=True)
class ProgramCycles:
    """Jobs in their order.

    Attributes
    ----------
    jobs : list of JobCycles
    """

    jobs: list[JobCycles]

    @property
    def cycles(self) -> int:
        """What the core's counter CYCLES shows behind the last job."""
        return sum(each.cycles for each in self.jobs)

    @property
    def search(self) -> int:
        """Of the counter SEARCH."""
        return sum(each.search for each in self.jobs)

    @property
    def steps(self) -> int:
        """Of the lanes: the counter ISSUED and the counter IDLE are so many times the lanes."""
        return sum(each.steps for each in self.jobs)


def program_cycles(design: SpConvDesign, program: Program, *,
                   voxels: Sequence[np.ndarray] | None = None) -> ProgramCycles:
    """Exact cycles of a program that begins with the reset, where streams never wait.

    Parameters
    ----------
    design : SpConvDesign
    program : Program
        Each load before the convolutions of its tree.
    voxels : sequence of integer ndarray (N, 4), optional
        Of each load, as they are sent; by default those of the program.
    """
    sent = iter(voxels or ())
    trees: dict[int, Tree] = {}
    jobs: list[JobCycles] = []
    now = 1     # the first job waits in the queue
    for step in program.steps:
        job = step.job
        if job.kind == "load":
            own = decode_keys(step.keys, step.depth).astype(np.int64)
            trees[job.tree] = build_tree(encode_keys(own, design.map.depth), design.map.depth)
            found = load_cycles(design, *_keys(design, job, next(sent, own)), job.in_groups)
        elif job.kind == "store":
            found = store_cycles(job.rows, job.in_groups)
        else:
            pinned = np.array([bool(job.pinned >> k & 1) for k in range(KERNEL_OFFSETS)])
            found = convolution_cycles(
                design, job.op, step.layer.map, step.layer.inputs, step.layer.layer.outputs, pinned, trees[job.tree],
                level=job.level, other=trees[1 - job.tree] if job.cross else None, since_reset=now)
        jobs.append(found)
        now += found.cycles
    return ProgramCycles(jobs)


def _keys(design: SpConvDesign, job: SpConvJob, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the voxels of a load in the grid of the core, and which are in range."""
    good = inside(indices, job.shape) & (indices[:, 0] >= 0) & (indices[:, 0] < job.batches)
    return encode_keys(np.where(good[:, None], indices, 0), design.map.depth), good
