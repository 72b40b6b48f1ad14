"""One face of all cycle models: sums, kinds of jobs, refusals. Against the RTL: tests/sim/test_cycle_check.py."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.models.cost.cycles.bitserial import closed_form, event_cycles, stream_chunks
from bitkiln.models.cost.cycles.codebook import word_ends
from bitkiln.models.cost.cycles.cycles import matmul_cycles
from bitkiln.models.cost.cycles.dequant import job_cycles
from bitkiln.models.cost.cycles.dma import MemoryJob
from bitkiln.models.cost.cycles.engine_adapters_serial import DequantWork
from bitkiln.models.cost.cycles.engine_cycles import EngineCycles, cycles_of
from bitkiln.models.cost.cycles.mac_cycles import DotJob
from bitkiln.models.cost.spconv.map_jobs import MapJob, MapLoad
from bitkiln.models.cost.spconv.map_rows import RowTaker
from bitkiln.models.design import Accumulator, ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.codebook import CodebookDesign
from bitkiln.models.design.codebook_array import CodebookArrayDesign
from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.bitserial import GroupStream
from bitkiln.models.golden.codebook import Codebooks, chunks_of, dequantise
from bitkiln.models.golden.codebook_array import ArrayStream
from bitkiln.models.golden.sparse import SparseStream
from bitkiln.models.golden.spconv import build_tree, encode_keys

SEED = 17
PE = MorphableDesign(("int8", "fp4"), Accumulator("exact"))
CORE = MatmulDesign(ArrayDesign(4, 4, PE), bus_bits=64, k_words=64)
SERIAL = BitSerialDesign(("bitmod4", "int8"), rows=2, columns=2, lanes=4, group=16, groups=4)
MAPS = MapDesign(depth=4, batch_bits=0, capacity=256, queue=4, rows=8)


def groups(design: BitSerialDesign, count: int, length: int, kind: int) -> GroupStream:
    """Equal groups, each a result of its own."""
    rng, shape = np.random.default_rng(SEED), (design.columns, count)
    none = np.zeros(shape, np.int64)
    return GroupStream(np.zeros((design.rows, count * length), np.int64),
                       rng.integers(0, 1 << design.weights[kind].bits, (design.columns, count * length)),
                       np.full(count, length), none + kind, none, none + 1, none + 1, none, np.ones(count, bool))


def tree():
    rng = np.random.default_rng(SEED)
    keys = np.unique(encode_keys(np.column_stack([np.zeros(90, int), rng.integers(0, 16, (90, 3))]), MAPS.depth))
    return keys, build_tree(keys, MAPS.depth)


def memory_core() -> tuple[MatmulDesign, MemoryJob]:
    design = CORE.with_options(descriptors=True, accumulate=False)
    return design, MemoryJob(Job("int8", 9, 40, 7, rule="raw"), {
        "A_ADDR": 0, "A_STRIDE": 64, "W_ADDR": 4096, "W_STRIDE": 40, "O_ADDR": 8195, "O_STRIDE": 100})


def cases() -> dict[str, tuple]:
    array = CodebookArrayDesign("int8", "int8", 2, 2, block=16)
    first = np.arange(12) % 4 == 0
    last = np.arange(12) % 4 == 3
    some = np.zeros((12, 2), np.int64)
    sparse = SparseDesign(lanes=2, rows=2, columns=2, tile=8)
    keys, voxels = tree()
    return {
        "dot_unit": (DotDesign.from_pe("fp4", lanes=4, pipeline=2), DotJob((1, 4, 5, 30))),
        "morphable_pe": (PE, Job("fp4", 3, 9, 2)),
        "matmul_array": (ArrayDesign(3, 2, PE), Job("int8", 7, 5, 9)),
        "matmul_array, weights stay": (ArrayDesign(3, 2, PE, dataflow="weight"), Job("int8", 7, 5, 9)),
        "matmul_core": (CORE, Job("int8", 33, 70, 21)),
        "matmul_core from memory": memory_core(),
        "bitserial_array": (SERIAL, groups(SERIAL, 5, 13, 1)),
        "dequant_core": (DequantDesign(SERIAL), DequantJob(40, 16, 5, 2)),
        "codebook_dequantiser": (CodebookDesign(lanes=2, word_bits=64),
                                 chunks_of(CodebookDesign(lanes=2), np.zeros(21, int), np.array([3, 10, 8]))),
        "codebook_array": (array, ArrayStream(np.zeros((12, 2, 2), int), np.zeros((12, 2, 2), int),
                                              np.ones((12, 2), bool), first, last, last, first, some, some,
                                              np.zeros((0, 2, 2), np.uint32))),
        "sparse_side": (sparse, SparseStream(np.zeros((2, 16), int), np.array([4, 4]), np.array([False, True]),
                                             np.array([0, 0, 1]), np.array([0, 3, 1]), np.array([0, 1, 1]),
                                             np.array([0, 1, 0]), np.array([1, 1, 1]), np.ones(3, bool))),
        "map_search, a load": (MAPS, MapLoad(keys, np.ones(len(keys), bool))),
        "map_search, a map": (MAPS, MapJob(voxels)),
        "map_search, a level's map": (MAPS, MapJob(voxels, "down2", 1)),
        "map_search, compact": (MAPS.with_options(search="compact"), MapJob(voxels, "stride3")),
    }


@pytest.mark.parametrize("name", cases())
def test_cycles_add_up_and_stay_under_the_roofs(name: str) -> None:
    design, job = cases()[name]
    found = cycles_of(design, job)
    assert isinstance(found, EngineCycles)
    assert found.compute + sum(found.stalls.values()) == found.cycles
    assert min(found.stalls.values()) >= 0
    assert 0 < found.utilisation <= 1
    assert found.macs == (found.work if found.unit == "MAC" else 0)
    assert set(found.traffic) == set(found.widths)
    assert found.cycles >= found.roofline.cycles


def test_adapters_give_what_the_models_give() -> None:
    job = Job("fp4", 40, 60, 9, order="w")
    wanted, found = matmul_cycles(CORE, job), cycles_of(CORE, job)
    assert (found.cycles, found.compute, found.stalls["a"], found.stalls["w"], found.stalls["results"], found.macs) == (
        wanted.cycles, wanted.compute, wanted.stall_a, wanted.stall_w, wanted.stall_drain, wanted.macs)
    shape, rng = DequantJob(60, 16, 5, 2), np.random.default_rng(SEED)
    types = rng.integers(0, 2, (5, 4))
    assert cycles_of(DequantDesign(SERIAL), DequantWork(shape, types)).cycles == \
        job_cycles(DequantDesign(SERIAL), shape, types).total
    assert cycles_of(DequantDesign(SERIAL), shape).cycles == job_cycles(DequantDesign(SERIAL), shape).total


@pytest.mark.parametrize("kind", [0, 1])
def test_groups_take_what_the_closed_form_says(kind: int) -> None:
    design = SERIAL.with_options(groups=1)
    stream, terms = groups(design, 6, 14, kind), design.weights[kind].terms
    assert cycles_of(design, stream).cycles == closed_form(design, 6, 14, terms) + 1


def test_zero_skipping_counts_the_terms_of_the_worst_weight() -> None:
    design = BitSerialDesign(("int4",), lanes=2, group=8, zero_skip=True)
    codes = np.array([[0, 0, 1, 0, 7, 1, 0]])
    zero = np.zeros((1, 1), np.int64)
    stream = GroupStream(np.zeros((1, 7), int), codes, np.array([7]), zero, zero, zero, zero, zero, np.ones(1, bool))
    terms = [sum(t is not None for t in design.weights[0].code_terms(code)) for code in range(16)]
    steps, last, emit = stream_chunks(design, stream)
    assert steps.tolist() == [1, max(terms[1], 1), terms[7], 1]
    assert last.tolist() == emit.tolist() == [False, False, False, True]
    assert event_cycles(design, steps, last, emit)[0].tolist() == np.cumsum([0, *steps[:-1]]).tolist()


@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_words_end_where_the_golden_model_ends_them(chunks: int) -> None:
    rng = np.random.default_rng(SEED)
    design = CodebookDesign("int8", 2, word_bits=16 * chunks)
    stream = chunks_of(design, rng.integers(0, 16, 60), np.array([1, 2, 17, 8, 30, 2]))
    books = Codebooks(np.zeros((1, 16), np.int64))
    assert word_ends(design, stream.last).tolist() == dequantise(design, books, stream).chunk.tolist()


def test_rows_wait_for_their_pairs() -> None:
    """A row of 5 pairs holds the ones behind it back, two of which are inside; with rows of one pair none waits."""
    taker = RowTaker([5, 1, 1, 1, 1])
    taken = [taker.take(at) for at in range(5)]
    assert taken == [0, 1, 2, 7, 8]
    assert taker.last_item == 2 + 5 + 4 + 2
    single, none = RowTaker([1] * 3), RowTaker()
    assert [single.take(at) for at in (3, 4, 9)] == [none.take(at) for at in (3, 4, 9)] == [3, 4, 9]


def test_a_map_takes_at_least_its_pairs_and_no_fewer_rows() -> None:
    keys, voxels = tree()
    for op in ("submanifold", "stride3"):
        for level in range(MAPS.depth):
            found = cycles_of(MAPS, MapJob(voxels, op, level))
            assert found.cycles > found.work >= len(voxels.levels[level + (op == "stride3")])


def test_memory_adds_to_the_cycles_of_streams() -> None:
    design, memory = memory_core()
    streams = cycles_of(CORE, memory.job)
    found = cycles_of(design, memory)
    assert found.compute == streams.compute
    assert found.cycles > streams.cycles
    assert found.traffic["r"] == streams.traffic["a"] + streams.traffic["w"]
    # Results at an odd address spill into one more beat a row.
    assert found.traffic["w"] > streams.traffic["o"]


@pytest.mark.parametrize(("design", "job", "what"), [
    (CORE, DotJob((3,)), "job of another engine"),
    (DotDesign.from_pe("fp4"), Job("fp4", 1, 1, 1), "job of another engine"),
    (SERIAL, DequantJob(4, 4, 1, 1), "job of another engine"),
    (object(), Job("fp4", 1, 1, 1), "no cycle model"),
    (CORE, Job("int4", 1, 1, 1), "this PE has no such mode"),
    (DequantDesign(SERIAL), DequantJob(5, 40, 1, 1), "out of range"),
    (MAPS, MapJob(build_tree(np.array([3]), 2)), "tree of another depth"),
    (MAPS, MapJob(build_tree(np.array([3]), 4), "stride4"), "unknown choice"),
])
def test_what_no_model_takes_is_refused(design: object, job: object, what: str) -> None:
    with pytest.raises(BitkilnError, match=what):
        cycles_of(design, job)


def test_missing_address_is_named() -> None:
    design, memory = memory_core()
    places = {name: value for name, value in memory.places.items() if name != "W_STRIDE"}
    with pytest.raises(BitkilnError, match="missing address") as caught:
        cycles_of(design, MemoryJob(memory.job, places))
    assert caught.value.expected == "W_STRIDE"


def test_dot_jobs_need_lengths() -> None:
    with pytest.raises(BitkilnError, match="no dot products"):
        DotJob(())
    with pytest.raises(BitkilnError, match="out of range"):
        DotJob((0,))
