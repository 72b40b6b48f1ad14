"""One step of the octree descent: from a node's surroundings to those of one of its children.

::

    frame of a node             child c           eight nodes around the child, of eight parities
    8 octants {mask, row, base} ──► 3 x 8 pairs ──┬─ row ───► bank b of the search memory ──► word b ─┐
    by their parity              of multiplexers  ├─ mask ──► is there; children before ─┐            ▼
                                                  └─ base ─────────────────────────► + ──► rank   octant b of the
                                                                                                  child's frame

All 27 neighbours of a node lie in 8 octants of 8 distinct parities: along each axis in its own octant and in the one on
its side. The 27 neighbours of a child lie under 8 nodes around it: along each axis under its parent and under the
parent's neighbour on the child's side. Those of digit bit b are, where b is the parent's own digit bit, the parent
itself, which lies in its own octant; else the neighbour, which lies in the other octant only if the child is on
that side of the parent on which the parent is in its octant.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from bitkiln.models.design.spconv import MapDesign

from .layouts import bits

__all__ = ["children_before", "frame_layout", "octants_around", "sides_of"]

AXES = (2, 1, 0)


def frame_layout(design: MapDesign, leaf: bool | None = None) -> data.StructLayout:
    """A node of level 1 (``leaf``), above, or of any level (None), and where to look for the nodes around its children.

    ``octants[j]``: the octant of parity ``j`` among the node's own and its seven neighbours on the node's side:
    ``mask`` of its children (0: it is not there), ``row`` of the search memory that holds their words, and ``base``,
    the rank of its first child (a leaf frame's children have none). ``digit``: of the node in its octant; ``parity``:
    digit of the octant. ``last``: of its level.
    """
    rows = {True: design.leaf_rows, False: design.upper_rows, None: max(design.leaf_rows, design.upper_rows)}
    octant = {"mask": 8, "row": bits(rows[leaf])}
    if not leaf:
        octant["base"] = bits(design.held(2))
    return data.StructLayout({"octants": data.ArrayLayout(data.StructLayout(octant), 8), "digit": 3, "parity": 3,
                              "last": 1})


def sides_of(frame: data.View, child: Value) -> list[list[Value]]:
    """``[axis][b]``: the parity of the octant along an axis that holds the nodes of digit bit b around a child."""
    return [[frame.parity[axis] ^ ((frame.digit[axis] != b) & (frame.digit[axis] == child[axis])) for b in range(2)]
            for axis in range(3)]


def octants_around(m: Module, frame: data.View, sides: list[list[Value]]) -> list[data.View]:
    """For each digit b, the octant that holds the node of digit b around a child: 24 multiplexers."""
    octant = frame.octants.shape().elem_shape
    found = [each.as_value() for each in frame.octants]
    for axis in AXES:
        chosen = [Signal(octant.size, name=f"octant{axis}_{at}") for at in range(8)]
        m.d.comb += [chosen[at].eq(Mux(sides[axis][at >> axis & 1], found[at | 1 << axis], found[at & ~(1 << axis)]))
                     for at in range(8)]
        found = chosen
    return [data.View(octant, each) for each in found]


def _add(*terms: Value) -> tuple[Value, Value]:
    """Sum and carry of three bits."""
    a, b, c = terms
    return a ^ b ^ c, (a & b) | (c & (a | b))


def children_before(mask: Value, child: int) -> Value:
    """How many bits below a given one are set, in three bits; without a carry chain."""
    terms = [list(mask[:child])]
    total = []
    while terms and len(terms[0]):
        ones, carries = terms[0], []
        while len(ones) > 1:
            low, high = _add(*ones[:3]) if len(ones) > 2 else (ones[0] ^ ones[1], ones[0] & ones[1])
            ones, carries = [*ones[3:], low], [*carries, high]
        total.append(ones[0])
        terms = [[*carries, *(terms[1] if len(terms) > 1 else [])]]
    return Cat(*total, *[Const(0, 1)] * 3)[:3]
