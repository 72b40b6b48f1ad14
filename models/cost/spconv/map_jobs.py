"""Cycles of the map search as an engine of its own, equal to the RTL: clouds that are loaded, maps of the last one.

A job lasts from the cycle in which it is first offered to an idle engine to the one in which it is taken: with the last
pair, or when the tree is written. Voxels are always there, pairs and tokens always taken, no voxel is out of order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...design.checks import check_choice, check_integer
from ...design.spconv import MapDesign
from ...design.spconv_core import OPS
from ...errors import BitkilnError
from ...golden.spconv import ConvMap, Tree, down2, generative2, inverse2, stride3, submanifold
from .map_compact import compact_cycles
from .map_search import SearchCycles, descent_cycles
from .octree import build_cycles, level_map_cycles

__all__ = ["SEARCHED", "MapJob", "MapLoad", "job_map", "map_job_cycles", "map_load_cycles", "searched_cycles"]

SEARCHED = ("submanifold", "stride3")     # maps that descend the tree; the others read its masks
BEGINS = 3      # cycles until a search begins, its own first one counted
LOADS = 4       # cycles of a load beyond those of the builder: job, encoder, the end seen and told


@dataclass(frozen=True)
class MapLoad:
    """A cloud that becomes a tree.

    Attributes
    ----------
    keys : int64 ndarray (N,)
        Of the voxels as they come, ascending where in range; one at least.
    mask : bool ndarray (N,)
        In range.
    """

    keys: np.ndarray
    mask: np.ndarray


@dataclass(frozen=True)
class MapJob:
    """A map of a loaded tree.

    Attributes
    ----------
    tree : Tree
    op : str
        ``submanifold`` (3x3x3), ``down2`` (2x2x2 with stride 2), its inverse ``inverse2``, ``generative2``, ``stride3``
        (3x3x3 with stride 2 to the parents).
    level : int
        Of the finer side.
    """

    tree: Tree
    op: str = "submanifold"
    level: int = 0

    def check(self, design: MapDesign) -> MapJob:
        """Itself, or an error that says what the engine does not have."""
        check_choice(self.op, "job.op", OPS)
        check_integer(self.level, "job.level", 0, design.depth - 1)
        if len(self.tree.levels) != design.depth + 1:
            raise BitkilnError("tree of another depth", where="job.tree", got=len(self.tree.levels) - 1,
                               expected=str(design.depth))
        return self


def job_map(design: MapDesign, job: MapJob) -> ConvMap:
    """The map that a job gives."""
    keys, depth = job.tree.levels[job.level], design.depth - job.level
    if job.op == "submanifold":
        return submanifold(keys, depth)
    if job.op == "stride3":
        return stride3(keys, depth, "parents")
    if job.op == "down2":
        return down2(keys, depth)
    return inverse2(keys) if job.op == "inverse2" else generative2(keys)


def searched_cycles(design: MapDesign, job: MapJob, conv: ConvMap) -> SearchCycles:
    """The descent of a searched map (``conv``) whose pairs are always taken."""
    items = np.bincount(conv.out, minlength=conv.rows).tolist()
    follow = compact_cycles if design.search == "compact" else descent_cycles
    return follow(design, job.tree, job.level, half=job.op == "stride3", items=items)


def map_job_cycles(design: MapDesign, job: MapJob) -> int:
    """Cycles of a map.

    Parameters
    ----------
    design : MapDesign
    job : MapJob
    """
    conv = job_map(design, job.check(design))
    if job.op in SEARCHED:
        return BEGINS + searched_cycles(design, job, conv).last_item
    return BEGINS + level_map_cycles(conv.pairs)


def map_load_cycles(design: MapDesign, load: MapLoad) -> int:
    """Cycles of a load.

    Parameters
    ----------
    design : MapDesign
    load : MapLoad
    """
    return LOADS + build_cycles(design, load.keys, load.mask).done
