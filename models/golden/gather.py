"""What the gather unit gives: exact sums of a stream of work items.

The order of products cannot show, for nothing is rounded. Only channels that are not zero count: a zero times an
infinite or missing weight is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..design.spconv import GatherDesign
from ..errors import BitkilnError
from ..formats import Format, Special
from .wide import exact_product

__all__ = ["GatherSums", "WorkStream", "gather", "rows_of", "something"]

WORK_FIELDS = ("source", "out", "weight", "slot", "first", "final", "pair", "release", "last")


@dataclass(frozen=True)
class WorkStream:
    """Work items, each field an ndarray (N,).

    Attributes
    ----------
    source, out, weight, slot : int
        Input row, output row, weight tile, place of the sum.
    first, final, pair, release, last : bool
        As of the unit's ``work_layout``.
    """

    source: np.ndarray
    out: np.ndarray
    weight: np.ndarray
    slot: np.ndarray
    first: np.ndarray
    final: np.ndarray
    pair: np.ndarray
    release: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def part(self, at: slice | np.ndarray) -> WorkStream:
        """Some of the items."""
        return replace(self, **{name: getattr(self, name)[at] for name in WORK_FIELDS})


@dataclass(frozen=True)
class GatherSums:
    """Complete output rows in the order in which they leave.

    Attributes
    ----------
    out : ndarray (R,)
    value : ndarray (R, outputs)
        Integers in units of ``2**design.dot.product_exponent``, int64 where they fit; without special products.
    nan, inf_pos, inf_neg, illegal : bool ndarray (R, outputs)
        Special products among them. Where one of the first three is set, the unit's ``value`` means nothing.
    row : bool ndarray (R,)
        False: no row, only the end of a job.
    last : bool ndarray (R,)
    """

    out: np.ndarray
    value: np.ndarray
    nan: np.ndarray
    inf_pos: np.ndarray
    inf_neg: np.ndarray
    illegal: np.ndarray
    row: np.ndarray
    last: np.ndarray


def something(fmt: Format, codes: np.ndarray) -> np.ndarray:
    """bool: the code is not zero. Codes without a value count, -0 does not."""
    u = fmt.unpack(codes)
    return (u.special != Special.NONE) | (u.significand != 0)


def rows_of(design: GatherDesign, work: WorkStream) -> np.ndarray:
    """(N,) which of the outputs each item belongs to; -1: none that leaves.

    Raises
    ------
    BitkilnError
        With pack ``item``: an item adds to a sum that has not begun, or is complete.
    """
    leaves = work.final | work.last
    number = np.cumsum(leaves) - leaves
    if design.pack == "row":
        return np.where(number < leaves.sum(), number, -1)
    turn = np.lexsort((np.arange(len(work)), work.slot))      # by slot, then in their order
    slot, first, final = work.slot[turn], work.first[turn], work.final[turn]
    fresh = np.diff(slot, prepend=-1) != 0
    ended = np.append(True, final[:-1]) | fresh
    lost = ended & ~first & (work.pair[turn] | final)
    if lost.any():
        raise BitkilnError("a sum without a beginning", where=f"work[{turn[np.argmax(lost)]}]", got="first 0",
                           expected="first with the first item of an output row")
    session = np.cumsum(fresh | first) - 1
    result = np.full(int(session[-1]) + 1 if len(session) else 0, -1, np.int64)
    result[session[final]] = number[turn][final]
    rows = np.empty(len(work), np.int64)
    rows[turn] = result[session] if len(session) else 0
    return rows


def gather(design: GatherDesign, work: WorkStream, features: np.ndarray, weights: np.ndarray) -> GatherSums:
    """Sums of a stream.

    Parameters
    ----------
    work : WorkStream
    features : ndarray (rows, channels)
        Codes; as many channels as the job has.
    weights : ndarray (tiles, outputs, channels or more)
        Codes.
    """
    activation, weight = design.dot.activation, design.dot.weight
    channels = features.shape[1]
    leaves = work.final | work.last
    rows = rows_of(design, work)
    shape = (int(leaves.sum()), design.outputs)
    bits = 64 if design.sum_bits <= 62 else -(-design.sum_bits // 64) * 64 + 64
    value = np.zeros(shape, np.int64 if bits == 64 else object)
    events = {name: np.zeros(shape, np.int64) for name in ("nan", "inf_pos", "inf_neg", "illegal")}
    counts = work.pair & (rows >= 0)
    for tile in np.unique(work.weight[counts]):
        at = np.flatnonzero(counts & (work.weight == tile))
        a, w = features[work.source[at]], weights[tile][:, :channels]
        a_units = np.where(activation.unpack(a).special == Special.NONE, activation.units(a), 0)
        w_units = np.where(weight.unpack(w).special == Special.NONE, weight.units(w), 0)
        np.add.at(value, rows[at], exact_product(a_units, w_units, bits).integers())
        for name, found in _events(activation, weight, a, w).items():
            np.add.at(events[name], rows[at], found)
    flags = {name: found > 0 for name, found in events.items()}
    return GatherSums(work.out[leaves], value, **flags, row=work.final[leaves], last=work.last[leaves])


def _events(activation: Format, weight: Format, a: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    """How many special products of activations (M, K) and weights (N, K) there are, by kind, each (M, N)."""
    kinds = []
    for fmt, codes in ((activation, a), (weight, w)):
        u = fmt.unpack(codes)
        minus, infinite = u.sign.astype(bool), u.special == Special.INF
        finite = (u.special == Special.NONE) & (u.significand != 0)
        illegal = u.special == Special.ILLEGAL
        kinds.append({"nan": u.special == Special.NAN, "illegal": illegal, "inf": infinite,
                      "zero": illegal | ((u.special == Special.NONE) & ~finite), "plus": finite & ~minus,
                      "minus": finite & minus, "inf_plus": infinite & ~minus, "inf_minus": infinite & minus,
                      "some": something(fmt, codes), "any": np.ones(codes.shape, bool)})

    def both(left: str, right: str) -> np.ndarray:
        x, y = kinds[0][left], kinds[1][right]
        return (x.astype(np.float32) @ y.T.astype(np.float32)).astype(np.int64)   # counts below 2**24

    found = {"nan": both("nan", "any") + both("some", "nan") + both("inf", "zero") + both("illegal", "inf"),
             "illegal": both("illegal", "any") + both("some", "illegal")}
    for name, (same, other) in (("inf_pos", ("plus", "minus")), ("inf_neg", ("minus", "plus"))):
        found[name] = sum(both(*pair) for pair in (
            ("inf_plus", same), ("inf_minus", other), ("plus", f"inf_{same}"), ("minus", f"inf_{other}"),
            ("inf_plus", f"inf_{same}"), ("inf_minus", f"inf_{other}")))
    return found
