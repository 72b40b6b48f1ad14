"""What travels between the parts of the gather unit."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data

from bitkiln.models.design.spconv import GatherDesign

from .features import word_bits
from .layouts import work_layout
from .weights import weight_bits

__all__ = ["STRIDE_BITS", "pair_layout", "step_layout", "sum_layout", "token_layout", "total_layout"]

STRIDE_BITS = 8


def sum_layout(design: GatherDesign) -> data.StructLayout:
    """A complete output row: sums in units of ``2**design.dot.product_exponent``, and for each its flags.

    A sum with ``nan``, ``inf_pos`` or ``inf_neg`` means nothing else. ``row`` 0: no row (a job that does not end with
    one needs an item to end with).
    """
    bits = data.ArrayLayout(1, design.outputs)
    return data.StructLayout({"out": work_layout(design)["out"].shape,
                              "sums": data.ArrayLayout(signed(design.sum_bits), design.outputs),
                              **dict.fromkeys(design.dot.flags, bits), "row": 1, "last": 1})


def pair_layout(design: GatherDesign) -> data.StructLayout:
    """A work item with its masks (by lane: which words of its row are not zero there) and addresses.

    ``word``: of its first features. ``weight``: of the first weights of its tile.
    """
    work = work_layout(design)
    return data.StructLayout({"masks": data.ArrayLayout(design.groups, design.lanes), "word": word_bits(design),
                              "weight": weight_bits(design),
                              **{name: work[name].shape for name in ("slot", "out", "first", "final", "release",
                                                                     "last")}})


def token_layout(design: GatherDesign) -> data.StructLayout:
    """What accompanies the products of one cycle.

    ``start``, ``end``: of a pair (pack ``item``) or of an output row (``row``). ``leave``: with its end something goes
    to the output, a complete row if ``row``. ``first``: the sum starts from zero.
    """
    work = work_layout(design)
    return data.StructLayout({"start": 1, "end": 1, "first": 1, "leave": 1, "row": 1, "last": 1,
                              "slot": work["slot"].shape, "out": work["out"].shape})


def step_layout(design: GatherDesign) -> data.StructLayout:
    """One cycle of the lanes: which of them multiply, and what."""
    lanes = design.lanes
    return data.StructLayout({"active": lanes, "words": data.ArrayLayout(word_bits(design), lanes),
                              "weights": data.ArrayLayout(weight_bits(design), lanes),
                              "token": token_layout(design)})


def total_layout(design: GatherDesign, value: int) -> data.StructLayout:
    """The products of all lanes for one output: ``value + carry``, and whether one of them is special."""
    return data.StructLayout({"value": signed(value), "carry": 1, **dict.fromkeys(design.dot.flags, 1)})
