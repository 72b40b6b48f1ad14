"""What both map searches by octree descent have in common: when they begin, what they look for, what they give."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign

from .layouts import bits, row_layout

__all__ = ["Descent"]


class Descent(wiring.Component):
    """Map search of one tree.

    A row of ``o`` has the eight nodes of the level above around an output voxel; rows of a level ascend.

    Parameters
    ----------
    design : MapDesign
    search : dict of str to Member
        Ports of the search memories.

    Members
    -------
    start : In(1)
        Begin; while ``busy`` it has no effect. The other plain inputs are constant from ``start`` until ``busy`` falls.
    busy : Out(1)
        From the cycle after ``start`` until the last row is taken.
    target : In
        Level of the outputs, below ``depth``.
    every : In(1)
        Rows of the levels ``target`` .. ``depth - 1``, each as soon as it is known.
    half : In(1)
        Outputs are nodes ``n`` of the level above ``target`` instead, each with the surroundings of ``2 * n`` at
        ``target``. Not with ``every``.
    offset : In(1)
        Outputs are those of another tree, whose level ``l`` is the searched tree's level ``l + 1``; it has a root for
        each of the batches ``present``. With ``half`` outputs are its nodes of level ``target``; without it,
        ``target`` is 1 or more and outputs are its nodes of level ``target - 1``.
    roots : In
        Of the searched tree.
    present : In(batches)
        With ``offset``, searched roots whose batches have outputs, by rank; else, and if not connected, all.
    walk_tree : Out(1)
        0: walk memories of the searched tree are read; 1: of the other tree.
    walk_leaf_address, walk_upper_address : Out; walk_leaf_read, walk_upper_read : Out(1)
    walk_leaf_mask, walk_upper_mask : In(8)
        As `TreeStore` has them.
    o : Out(stream of row_layout)
        ``last`` with the last row. No output at all: one row with ``pair`` 0.
    """

    def __init__(self, design: MapDesign, search: Mapping[str, wiring.Member]):
        self.design = design
        members = {"start": In(1), "busy": Out(1), "target": In(design.level_bits), "every": In(1), "half": In(1),
                   "offset": In(1), "roots": In(design.batch_bits + 1), "walk_tree": Out(1),
                   "present": In(design.batches, init=(1 << design.batches) - 1), **search,
                   "o": Out(stream.Signature(row_layout(design)))}
        for name, count in (("leaf", design.held(1)), ("upper", design.walk_words)):
            members |= {f"walk_{name}_address": Out(bits(count)), f"walk_{name}_read": Out(1),
                        f"walk_{name}_mask": In(8)}
        super().__init__(members)

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"depth": d.depth, "batch_bits": d.batch_bits, "capacity": d.capacity, "levels": list(d.levels),
                "queue": d.queue, "rows": d.rows}
