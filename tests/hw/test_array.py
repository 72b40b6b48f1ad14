# amaranth: UnusedElaboratable=no
"""Arrays against exact integer matrix products: every mode, tiles without a bubble, results drained meanwhile."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bitkiln.hw.emit import prepare, to_verilog
from bitkiln.hw.mac.array import MatmulArray, WeightArray
from bitkiln.hw.mac.morphable import result_layout
from bitkiln.models.design import Accumulator
from bitkiln.models.design.matmul import ArrayDesign
from bitkiln.models.design.morphable import XR_NPE_MODES, MorphableDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dot import dot
from bitkiln.sim.batch import BatchModel, from_ints, pack_lanes, to_ints
from bitkiln.sim.pe_check import lane_codes, ordinary_words, sum_of_sections

SEED = 47
LINKS = ("broadcast", "systolic")
SMALL = ("int4", "fp8_e4m3")  # without and with special values
SEVERAL = ("fp4", "posit8_0", "int8xint4", "posit16_1")


def array(rows: int, columns: int, modes=SMALL, kind: str = "exact", links: str = "broadcast",
          dataflow: str = "output", **options) -> ArrayDesign:
    options = {"implementation": "parallel"} | options
    return ArrayDesign(rows, columns, MorphableDesign(tuple(modes), Accumulator(kind=kind), **options),
                       dataflow=dataflow, links=links)


def words_of(rng, mode, shape, special: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random activation and weight words; some special codes where asked for."""
    count = int(np.prod(shape))
    a, w = ordinary_words(rng, mode, count, rng.random(count) > 0.02 * special)
    return a.reshape(shape), w.reshape(shape)


def expected(pe: MorphableDesign, mode, a: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, dict]:
    """Sums of words a (k, rows) and w (k, columns) as an integer matrix product; flags by the dot unit's model."""
    lanes = [lane_codes(a, mode.activation, mode.lanes), lane_codes(w, mode.weight, mode.lanes)]
    pairs = [np.repeat(lanes[0].transpose(1, 0, 2), w.shape[1], axis=0),
             np.tile(lanes[1].transpose(1, 0, 2), (a.shape[1], 1, 1))]
    golden = dot(pe.dot(mode), *pairs)
    shape = (a.shape[1], w.shape[1])
    flags = {flag: getattr(golden, flag).reshape(shape) for flag in pe.flags}
    if pe.accumulator.kind == "fp32":
        return golden.acc.astype(np.int64).reshape(shape), flags
    left, right = (np.asarray(fmt.units(codes), dtype=object).transpose(1, 0, 2).reshape(codes.shape[1], -1)
                   for fmt, codes in zip((mode.activation, mode.weight), lanes, strict=True))
    return left @ right.T, flags


def results(pe: MorphableDesign, mode, port: np.ndarray, columns: int) -> tuple[np.ndarray, dict]:
    """(rows, columns) sums and flags of rows of the ``result`` port."""
    layout = result_layout(pe)
    width = layout["acc"].width
    whole = [int(v) for v in to_ints(port, 32 * port.shape[-1] if port.ndim == 2 else 64)]
    fields = np.array([[(v >> (c * layout.size)) & ((1 << layout.size) - 1) for c in range(columns)] for v in whole],
                      dtype=object)
    acc = fields & ((1 << width) - 1)
    if pe.accumulator.kind != "fp32":
        acc = np.where(acc >= 1 << (width - 1), acc - (1 << width), acc)
        sections = [*pe.sections(mode), width]
        if len(sections) > 2:
            limbs = from_ints(acc.ravel().tolist(), max(width, 65))
            acc = sum_of_sections(pe, mode, limbs).reshape(acc.shape)
    flags = {flag: (fields >> layout[flag].offset) & 1 for flag in pe.flags}
    return acc, flags


def compare(pe, mode, port, columns, wanted) -> None:
    acc, flags = results(pe, mode, port, columns)
    special = np.zeros(acc.shape, bool)
    for flag, value in wanted[1].items():
        assert (flags[flag].astype(bool) == value).all(), flag
        special |= value & (flag in ("nan", "inf_pos", "inf_neg"))
    assert ((acc == wanted[0]) | special).all()


def run_tiles(design: ArrayDesign, tiles: list[tuple[int, int]], *, gaps: float, special: bool = True,
              model: BatchModel | None = None) -> int:
    """Tiles of (mode, words) one after the other; the cycles from the first word to the last."""
    rng = np.random.default_rng(SEED)
    pe, rows, columns = design.pe, design.rows, design.columns
    unit = MatmulArray(design)
    model = BatchModel(unit) if model is None else model
    # The first PE may take its next result when the last row of the previous tile is on `result`.
    apart = rows + unit.latency - (1 + pe.latency)
    stream, jobs, earliest = [], [], 0
    head = unit.latency + 1
    for index, count in tiles:
        mode = pe.modes[index]
        a, w = words_of(rng, mode, (count, max(rows, columns)), special)
        a, w = a[:, :rows], w[:, :columns]
        for k in range(count):
            while rng.random() < gaps or (k == count - 1 and len(stream) < earliest):
                stream.append((None, None, rng.integers(len(pe.modes)), 0, 0))
            stream.append((a[k], w[k], index, 1, int(k == count - 1)))
        end = len(stream) - 1
        earliest = end + apart
        jobs.append((end, mode, expected(pe, mode, a, w)))
    length = head + len(stream) + unit.latency + rows
    port_a, port_w = rng.integers(0, 1 << 16, (length, rows)), rng.integers(0, 1 << 16, (length, columns))
    mode, en, last = np.zeros(length, np.int64), np.zeros(length, bool), np.zeros(length, bool)
    clear, shift = np.arange(length) < head, np.zeros(length, bool)
    for at, (a, w, index, enable, ends) in enumerate(stream, start=head):
        mode[at], en[at], last[at] = index, enable, ends
        if enable:
            port_a[at], port_w[at] = a, w
    for end, *_ in jobs:
        first = head + end + unit.latency - 1
        shift[first + 1:first + rows] = True
    out = model.run({"a": pack_lanes(port_a, 16), "w": pack_lanes(port_w, 16), "mode": mode, "en": en, "last": last,
                     "clear": clear, "shift": shift})["result"]
    for end, chosen, wanted in jobs:
        first = head + end + unit.latency - 1
        compare(pe, chosen, out[first:first + rows], columns, wanted)
    return len(stream)


def random_tiles(pe: MorphableDesign, count: int, most: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(SEED + 1)
    return [(int(rng.integers(len(pe.modes))), int(rng.integers(1, most + 1))) for _ in range(count)]


@pytest.mark.parametrize("links", LINKS)
def test_tiles_equal_matrix_products(links: str) -> None:
    design = array(2, 3, links=links, pipeline=1)
    model = BatchModel(MatmulArray(design))
    run_tiles(design, random_tiles(design.pe, 40, 12), gaps=0.2, model=model)
    # Long enough tiles follow each other without a bubble: a word in every cycle.
    apart = design.rows * 2 + design.columns
    tiles = [(tile % len(SMALL), apart + tile) for tile in range(12)]
    assert run_tiles(design, tiles, gaps=0, model=model) == sum(words for _, words in tiles)


@pytest.mark.parametrize("implementation, multiplier, links, modes, early", [
    ("merged", "chains", "broadcast", ("int4", "int16"), True),
    ("merged", "chains", "systolic", ("int4", "int16"), False),
    ("merged", "chains", "systolic", ("int4",), True), ("merged", "operator", "broadcast", XR_NPE_MODES, True),
    ("packed", "chains", "broadcast", ("fp4", "int4", "int8", "fp8_e4m3"), True)])
def test_edges_of_deep_pipelines_have_a_register(implementation: str, multiplier: str, links: str,
                                                 modes: tuple[str, ...], early: bool) -> None:
    """That behind the decoders of a merged or packed PE is spent once for each row and column."""
    options = {"links": links, "pipeline": 3, "implementation": implementation, "multiplier": multiplier}
    design = array(2, 3, modes, **options)
    assert ("weight_edge_registered" in to_verilog(MatmulArray(design))) == early
    run_tiles(design, random_tiles(design.pe, 40, 12), gaps=0.2)
    run_weights(array(2, 3, modes, dataflow="weight", **options), passes=4)


def test_rounding_accumulators_in_an_array() -> None:
    design = array(2, 1, ("int8", "bf16"), "fp32")
    run_tiles(design, random_tiles(design.pe, 20, 6), gaps=0.1)


@pytest.mark.parametrize("links", LINKS)
def test_weight_stationary_tiles(links: str) -> None:
    run_weights(array(3, 2, ("int4", "fp4"), links=links, dataflow="weight", pipeline=1), passes=12)


def run_weights(design: ArrayDesign, passes: int) -> None:
    """Passes of random length whose sums start from those of another pass; weights are loaded meanwhile."""
    rng = np.random.default_rng(SEED)
    pe, rows, columns = design.pe, design.rows, design.columns
    unit = WeightArray(design)
    lag = rows - 1 + (columns - 1 if design.links == "systolic" else 0)
    starts, at = [], rows
    for _ in range(passes):
        count = int(rng.integers(1, 6)) + rows + lag
        starts.append((at, count))
        at += count
    length = at + unit.latency
    a, w = rng.integers(0, 1 << 16, (length, rows)), rng.integers(0, 1 << 16, (length, columns))
    mode, swap, load = np.zeros(length, np.int64), np.zeros(length, bool), np.zeros(length, bool)
    en = np.zeros(length, bool)
    layout = result_layout(pe)
    given = np.zeros((length, columns), object)
    wanted = []
    for start, count in starts:
        index = int(rng.integers(len(pe.modes)))
        one = pe.modes[index]
        activations, _ = words_of(rng, one, (rows, count), False)
        _, weights = words_of(rng, one, (rows, columns), False)
        body = slice(start, start + count)
        a[body], mode[body], en[body], swap[start] = activations.T, index, True, True
        en[start + 1:start + count] = rng.random(count - 1) < 0.8
        # The last row first, ending just before the first vector that uses them.
        w[start - rows:start], load[start - rows:start] = weights[::-1], True
        sums, _ = expected(pe, one, activations, weights)
        carried = rng.integers(-1000, 1000, (count, columns)).astype(object)
        if pe.accumulator.kind == "fp32" or pe.sectioned:   # a sum in sections is no number
            carried *= 0
        given[body] = carried
        wanted.append((start, count, one, sums + carried))
    mask = (1 << layout["acc"].width) - 1
    port_i = [sum((int(v) & mask) << (c * layout.size) for c, v in enumerate(row)) for row in given]
    width = columns * layout.size
    inputs = {"a": pack_lanes(a, 16), "w": pack_lanes(w, 16), "mode": mode, "en": en, "swap": swap, "load": load,
              "i": from_ints(port_i, width) if width > 64 else np.array(port_i, np.uint64)}
    out = BatchModel(unit).run(inputs)
    late = unit.latency - 1
    assert (out["valid"][late:].astype(bool) == en[:length - late]).all()
    for start, count, one, sums in wanted:
        rows_out = np.flatnonzero(en[start:start + count])
        acc, flags = results(pe, one, out["result"][start + late:start + late + count], columns)
        assert (acc[rows_out] == sums[rows_out]).all()
        assert not any(flag[rows_out].any() for flag in flags.values())


def test_a_large_array_is_emitted_once_and_fast() -> None:
    started = time.process_time()
    text = to_verilog(MatmulArray(array(16, 16, XR_NPE_MODES)))
    assert time.process_time() - started < 30  # of this process: the machine may be busy with others
    assert sum(line.startswith("module") and "_drain_core(" in line for line in text.splitlines()) == 1
    assert text.count("_drain_core pe_") == 256 and len(text) < 1_000_000


def test_arrays_have_no_reset_and_refuse_the_other_dataflow() -> None:
    assert prepare(MatmulArray(array(2, 2))).resets == ()
    assert prepare(WeightArray(array(2, 2, dataflow="weight"))).resets == ()
    with pytest.raises(BitkilnError, match="output-stationary"):
        MatmulArray(array(2, 2, dataflow="weight"))
    with pytest.raises(BitkilnError, match="weight-stationary"):
        WeightArray(array(2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 4)])
def test_random_shapes(links: str, shape: tuple[int, int]) -> None:
    design = array(*shape, links=links)
    run_tiles(design, random_tiles(design.pe, 100, 40), gaps=0.1)
    run_weights(array(*shape, SMALL, links=links, dataflow="weight"), passes=20)


@pytest.mark.slow
@pytest.mark.parametrize("links", LINKS)
@pytest.mark.parametrize("pipeline", [0, 4])
def test_wide_sums_and_lanes_of_every_width(links: str, pipeline: int) -> None:
    design = array(2, 2, SEVERAL, links=links, pipeline=pipeline)
    run_tiles(design, random_tiles(design.pe, 100, 40), gaps=0.1)
    run_weights(array(2, 2, SEVERAL, links=links, dataflow="weight", pipeline=pipeline), passes=20)


@pytest.mark.slow
@pytest.mark.parametrize("links", LINKS)
def test_weight_stationary_rounding_accumulators(links: str) -> None:
    run_weights(array(3, 2, ("int8", "bf16"), "fp32", links=links, dataflow="weight"), passes=8)
