"""Sums of a work stream against the dot unit's golden model, row by row, zeros left out."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.design.dot import DotDesign
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import Format, Special
from bitkiln.models.golden.dot import dot
from bitkiln.models.golden.gather import WorkStream, gather, rows_of, something

SEED = 89
FORMATS = [("int8", "int8"), ("fp8_e4m3", "fp8_e4m3"), ("fp8_e5m2", "fp8_e4m3"), ("fp8_e5m2", "fp8_e5m2"),
           ("posit8_0", "posit8_0"), ("int8", "ternary"), ("ternary", "fp8_e5m2"), ("posit16_1", "fp16")]


def stream(design: GatherDesign, rows: int, sources: int, rng: np.random.Generator) -> WorkStream:
    """Rows of one to six pairs in turn, as many at a time as there are slots."""
    left, fields, begun = rng.integers(1, 7, rows), [], set()
    waiting = list(range(rows))
    slots = {slot: waiting.pop(0) for slot in range(design.slots)}
    while slots:
        slot = int(rng.choice(list(slots)))
        out = slots[slot]
        left[out] -= 1
        fields.append((rng.integers(sources), out, rng.integers(design.weight_tiles), slot, out not in begun,
                       left[out] == 0, rng.random() < 0.9, False, False))
        begun.add(out)
        if not left[out]:
            del slots[slot]
            if waiting:
                slots[slot] = waiting.pop(0)
    columns = [np.array(each) for each in zip(*fields, strict=True)]
    columns[-1][-1] = True
    return WorkStream(*columns)


def any_codes(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, specials: float) -> np.ndarray:
    """Codes of numbers, and so many others where the format has them."""
    u = fmt.unpack(np.arange(1 << fmt.bits))
    numbers, others = np.flatnonzero(u.special == 0), np.flatnonzero(u.special != 0)
    codes = rng.choice(numbers, shape)
    infinite = np.flatnonzero(u.special == Special.INF)
    for some in (others, infinite):
        if len(some):
            codes = np.where(rng.random(shape) < specials / 2, rng.choice(some, shape), codes)
    return codes


@pytest.mark.parametrize("activation, weight", FORMATS)
def test_every_row_is_a_dot_product_of_what_is_not_zero(activation: str, weight: str) -> None:
    rng = np.random.default_rng(SEED)
    design = GatherDesign(activation, weight, lanes=2, outputs=2, channels=6, slots=4, weight_tiles=5)
    unit = DotDesign(design.activation, design.weight, lanes=1)
    rows, found = 0, dict.fromkeys(design.dot.flags, 0)
    for specials in (0.0, 0.15):
        features = any_codes(design.activation, (30, 6), rng, specials)
        weights = any_codes(design.weight, (5, 2, 6), rng, specials)
        features = np.where(rng.random(features.shape) < 0.4, 0, features)
        work = stream(design, 40, 30, rng)
        result = gather(design, work, features, weights)
        assert result.row.all() and sorted(result.out) == list(range(40)) and result.last.sum() == 1
        for n, out in enumerate(result.out):
            mine = np.flatnonzero((work.out == out) & work.pair)
            a = features[work.source[mine]].ravel()
            keep = something(design.activation, a)
            for output in range(2):
                w = weights[work.weight[mine], output].ravel()
                one = dot(unit, a[keep, None], w[keep, None])
                assert result.value[n, output] == one.acc[0]
                for flag in design.dot.flags:
                    assert getattr(result, flag)[n, output] == getattr(one, flag)[0]
                    found[flag] += int(getattr(one, flag)[0])
                rows += 1
    assert rows == 160 and all(found.values())


def test_items_and_the_rows_that_they_belong_to() -> None:
    design = GatherDesign(slots=2, lanes=1, outputs=1, channels=1)

    def work(slot: list[int], first: list[int], final: list[int], last: int = -1) -> WorkStream:
        count = len(slot)
        zero, yes = np.zeros(count, np.int64), np.ones(count, bool)
        ends = np.zeros(count, bool)
        ends[last] = True
        return WorkStream(zero, np.arange(count), zero, np.array(slot), np.array(first, bool), np.array(final, bool),
                          yes, ~yes, ends)

    assert rows_of(design, work([0, 1, 1, 0, 0], [1, 1, 0, 0, 1], [0, 0, 1, 1, 1])).tolist() == [1, 0, 0, 1, 2]
    # Never completed; begun anew, so that what was there is lost.
    assert rows_of(design, work([0, 1, 1], [1, 1, 0], [0, 0, 1])).tolist() == [-1, 0, 0]
    assert rows_of(design, work([0, 0, 0], [1, 1, 0], [0, 0, 1])).tolist() == [-1, 0, 0]
    rows = design.with_options(pack="row", slots=1)
    assert rows_of(rows, work([0] * 4, [0] * 4, [0, 1, 0, 1])).tolist() == [0, 0, 1, 1]
    assert rows_of(rows, work([0] * 4, [0] * 4, [0, 1, 0, 0], 2)).tolist() == [0, 0, 1, -1]
    for wrong in (work([0, 0], [0, 0], [0, 1]), work([0, 0, 0], [1, 0, 0], [0, 1, 0])):
        with pytest.raises(BitkilnError, match="a sum without a beginning"):
            rows_of(design, wrong)


def test_no_items_no_rows() -> None:
    design = GatherDesign(lanes=1, outputs=4, channels=1)
    none = np.zeros(0, np.int64)
    empty = WorkStream(none, none, none, none, *[none.astype(bool)] * 5)
    result = gather(design, empty, np.zeros((1, 1), np.int64), np.zeros((1, 4, 1), np.int64))
    assert result.value.shape == (0, 4) and len(result.out) == 0
