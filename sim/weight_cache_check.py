# amaranth: UnusedElaboratable=no
"""Order of work and weight cache at full simulation speed, against the sorted items, the trace and the event model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.cache import WeightCache, demand_layout, fetch_layout, grant_layout
from bitkiln.hw.spconv.layouts import item_layout, work_layout
from bitkiln.hw.spconv.order import RowOrder, TileOrder
from bitkiln.models.cost.spconv.tile_order import NO_WEIGHTS, OrderCycles, order_cycles
from bitkiln.models.cost.spconv.weight_cache import Trace, pin_mask, trace
from bitkiln.models.design.spconv import KERNEL_OFFSETS, CacheDesign, GatherDesign, MapDesign
from bitkiln.models.errors import FAILED, BitkilnError

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["CacheBench", "Items", "OrderBench", "RowBench", "check_cache", "check_order", "check_order_cycles",
           "check_rows", "differs", "items_of", "map_design", "pack_items", "random_items", "unpack", "work_in_order"]

TIME_BITS = 12


def map_design(cache: CacheDesign) -> MapDesign:
    """Some map whose items fit."""
    return MapDesign(depth=4, batch_bits=0, capacity=1 << cache.index_bits)


class _Loader:
    """Loads what was fetched, in order: each takes ``load_cycles`` at least, and one item of ``token``."""

    @staticmethod
    def ports() -> dict:
        return {"go": In(stream.Signature(0)), "token": In(stream.Signature(0)), "load_cycles": In(TIME_BITS),
                "pinned": In(KERNEL_OFFSETS)}

    @staticmethod
    def add(m: Module, bench, cache: WeightCache) -> None:
        waiting, spent, loaded = Signal(6), Signal(TIME_BITS), Signal()
        fetched = bench.o_fetch.valid & bench.o_fetch.ready
        wiring.connect(m, cache.o_fetch, wiring.flipped(bench.o_fetch))
        m.d.comb += [bench.token.ready.eq((waiting != 0) & (spent >= bench.load_cycles - 1)),
                     loaded.eq(bench.token.valid & bench.token.ready), cache.i_loaded.valid.eq(loaded),
                     bench.go.ready.eq(1), cache.start.eq(bench.go.valid), cache.pinned.eq(bench.pinned)]
        m.d.sync += [waiting.eq(waiting + fetched - loaded),
                     spent.eq(Mux(loaded | (waiting == 0), 0, Mux(spent >= bench.load_cycles, spent, spent + 1)))]


def _items_after_start(m: Module, bench, order: TileOrder | RowOrder) -> None:
    """Items wait for the start, and those of the next job for theirs."""
    started, taken = Signal(), Signal()
    m.d.comb += [order.i.payload.eq(bench.i.payload), order.i.valid.eq(bench.i.valid & started),
                 bench.i.ready.eq(order.i.ready & started), taken.eq(bench.i.valid & bench.i.ready)]
    with m.If(bench.go.valid):
        m.d.sync += started.eq(1)
    with m.Elif(taken & bench.i.payload.last):
        m.d.sync += started.eq(0)


_COUNTERS = ("pinned_hits", "buffer_hits", "misses", "fetches")


class CacheBench(wiring.Component):
    """The cache alone: demands in, grants out; an item of ``done`` releases the oldest grant."""

    def __init__(self, design: CacheDesign):
        self.design = design
        super().__init__({**_Loader.ports(), "i": In(stream.Signature(demand_layout())),
                          "o": Out(stream.Signature(grant_layout(design))),
                          "o_fetch": Out(stream.Signature(fetch_layout(design))), "done": In(stream.Signature(0)),
                          **{name: Out(32) for name in _COUNTERS}, "busy": Out(1), "loaded": Out(1)})

    @property
    def module_name(self) -> str:
        return f"bench_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.cache = cache = WeightCache(self.design)
        _Loader.add(m, self, cache)
        wiring.connect(m, wiring.flipped(self.i), cache.i_demand)
        wiring.connect(m, cache.o, wiring.flipped(self.o))
        granted = Signal(8)
        m.d.comb += [self.done.ready.eq(granted != 0), cache.released.eq(self.done.valid & self.done.ready),
                     self.busy.eq(cache.busy), *(getattr(self, name).eq(getattr(cache, name)) for name in _COUNTERS)]
        m.d.sync += granted.eq(granted + (self.o.valid & self.o.ready) - cache.released)
        return m


class OrderBench(wiring.Component):
    """Order of work and cache together; a work item is taken every ``pace`` cycles and issued ``lag`` cycles later."""

    LAG_BITS = 3

    def __init__(self, design: CacheDesign):
        self.design = design
        self.map = map_design(design)
        self.order = TileOrder(self.map, design)
        super().__init__({**_Loader.ports(), "i": In(stream.Signature(item_layout(self.map))),
                          "o": Out(stream.Signature(work_layout(self.order.gather))),
                          "o_fetch": Out(stream.Signature(fetch_layout(design))), "pace": In(TIME_BITS),
                          "lag": In(self.LAG_BITS), **{name: Out(32) for name in (*_COUNTERS, "waits")},
                          "busy": Out(1), "cache_busy": Out(1)})

    @property
    def module_name(self) -> str:
        return f"order_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.order = order = self.order
        m.submodules.cache = cache = WeightCache(self.design)
        _Loader.add(m, self, cache)
        wiring.connect(m, order.o_demand, cache.i_demand)
        wiring.connect(m, cache.o, order.i_grant)
        _items_after_start(m, self, order)
        gap, moved = Signal(TIME_BITS), Signal()
        m.d.comb += [self.o.payload.eq(order.o.payload), self.o.valid.eq(order.o.valid & (gap == 0)),
                     order.o.ready.eq(self.o.ready & (gap == 0)), moved.eq(self.o.valid & self.o.ready)]
        m.d.sync += gap.eq(Mux(moved, self.pace - 1, Mux(gap == 0, 0, gap - 1)))
        late = Signal(1 << self.LAG_BITS)
        released = moved & self.o.payload.release
        m.d.sync += late.eq(late << 1 | released << 1)
        m.d.comb += [cache.released.eq(Mux(self.lag == 0, released, late.bit_select(self.lag, 1))),
                     self.busy.eq(order.busy), self.cache_busy.eq(cache.busy), self.waits.eq(order.waits),
                     *(getattr(self, name).eq(getattr(cache, name)) for name in _COUNTERS)]
        return m


class RowBench(wiring.Component):
    """Pairs as they come, and the cache that fetches their weights."""

    def __init__(self, design: CacheDesign):
        self.design = design
        self.map = map_design(design)
        self.order = RowOrder(self.map, design)
        super().__init__({**_Loader.ports(), "i": In(stream.Signature(item_layout(self.map))),
                          "o": Out(stream.Signature(work_layout(self.order.gather))),
                          "o_fetch": Out(stream.Signature(fetch_layout(design))), "waits": Out(32), "busy": Out(1),
                          "cache_busy": Out(1), "illegal": Out(1)})

    @property
    def module_name(self) -> str:
        return f"rows_{self.design.name}"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.order = order = self.order
        m.submodules.cache = cache = WeightCache(self.design)
        _Loader.add(m, self, cache)
        _items_after_start(m, self, order)
        wiring.connect(m, order.o, wiring.flipped(self.o))
        m.d.comb += [order.start.eq(cache.start), order.pinned.eq(cache.pinned), order.resident.eq(cache.resident),
                     self.busy.eq(order.busy), self.cache_busy.eq(cache.busy), self.waits.eq(order.waits),
                     self.illegal.eq(order.illegal)]
        return m


# Items -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Items:
    """Of one job, in order.

    Attributes
    ----------
    row, k, inp : ndarray (N,)
        Output row (0, 1, ...), kernel offset, input row.
    pair, row_last, last : bool ndarray (N,)
    """

    row: np.ndarray
    k: np.ndarray
    inp: np.ndarray
    pair: np.ndarray
    row_last: np.ndarray
    last: np.ndarray


def items_of(rows: int, out: np.ndarray, k: np.ndarray, inp: np.ndarray) -> Items:
    """Of a map: pairs by ascending row, then offset; rows without pairs get an item."""
    bare = np.setdiff1d(np.arange(rows), out)
    row = np.concatenate([out, bare]).astype(np.int64)
    turn = np.lexsort((np.concatenate([k, bare * 0]), row))
    row = row[turn]
    k, inp = (np.concatenate([each, bare * 0])[turn].astype(np.int64) for each in (k, inp))
    pair = np.append(np.ones(len(out), bool), np.zeros(len(bare), bool))[turn]
    row_last = np.append(row[1:] != row[:-1], [True] * min(len(row), 1))
    last = np.arange(len(row)) == len(row) - 1
    if not len(row):        # an empty job
        none = np.zeros(1, np.int64)
        return Items(none, none, none, none > 0, none > 0, none == 0)
    return Items(row, k, inp, pair, row_last, last)


def random_items(design: CacheDesign, rows: int, density: float, rng: np.random.Generator, *, bare: float = 0.0,
                 skew: float = 0.0) -> Items:
    """Pairs at random: each offset with a chance of its own around ``density``.

    Parameters
    ----------
    bare : float
        Share of rows without pairs.
    skew : float
        How much less the planes above and below the centre have.
    """
    chance = density * rng.uniform(0.4, 1.6, KERNEL_OFFSETS) * np.where(np.arange(KERNEL_OFFSETS) % 3 == 1, 1, 1 - skew)
    used = rng.random((rows, KERNEL_OFFSETS)) < chance
    used[:, KERNEL_OFFSETS // 2] = True
    used[rng.random(rows) < bare] = False
    out, k = np.nonzero(used)
    return items_of(rows, out, k, rng.integers(0, 1 << design.index_bits, len(out)))


def pack_items(design: CacheDesign, items: Items) -> np.ndarray:
    values = {"out": items.row, "k": items.k, "in": items.inp, "level": items.row % 3, "pair": items.pair,
              "row_last": items.row_last, "last": items.last}
    return pack_bits([(values[name], field.width) for name, field in item_layout(map_design(design))])


def _rows(items: Items) -> np.ndarray:
    """Rows are counted; an item that only ends the job has the number of the row that would come."""
    return np.cumsum(np.append(0, items.row_last[:-1]))


def _lists(design: CacheDesign, items: Items) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order of work: the items by tile, list, row; and tile and list of each."""
    row = _rows(items)
    tile, k = row // design.tile_rows, np.where(items.pair, items.k, NO_WEIGHTS)
    turn = np.lexsort((row, k, tile))
    return turn, tile[turn], k[turn]


def work_in_order(design: CacheDesign, items: Items, pinned: np.ndarray) -> tuple[dict[str, np.ndarray], Trace]:
    """Fields of the work items, and the trace of their demands."""
    turn, tile, k = _lists(design, items)
    row = _rows(items)
    starts = np.append(True, items.row_last[:-1])
    real = items.pair | items.row_last
    ends = np.append((tile[1:] != tile[:-1]) | (k[1:] != k[:-1]), True)
    begins = np.append(True, ends[:-1])
    pair = items.pair[turn]
    sequence = k[begins & pair]
    found = trace(sequence, pinned)
    weight = np.zeros(len(turn), np.int64)
    which = np.cumsum(begins & pair) - 1
    weight[pair] = found.slots(sequence, design.tiles)[which[pair]]
    return {"in": items.inp[turn], "out": items.row[turn], "weight": weight, "slot": row[turn] % design.tile_rows,
            "first": (starts & real)[turn], "final": (items.row_last & real)[turn], "pair": pair,
            "begin": begins & pair, "release": ends & pair, "last": np.arange(len(turn)) == len(turn) - 1,
            "k": k}, found


def unpack(layout, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of packed payloads."""
    if not len(words):
        return {name: np.zeros(0, np.int64) for name, _ in layout}
    return {name: bits_of(words, field.offset, field.width) for name, field in layout}


def differs(where: str, found: np.ndarray, wanted: np.ndarray, note: str) -> None:
    """Raise where the two are not equal."""
    found, wanted = np.asarray(found).astype(np.int64), np.asarray(wanted).astype(np.int64)
    bad = np.flatnonzero(found != wanted) if found.shape == wanted.shape else np.zeros(1, int)
    if len(bad):
        shapes = found.shape != wanted.shape
        raise BitkilnError("RTL and model differ", where=where if shapes else f"{where}[{bad[0]}]",
                           got=found.shape if shapes else f"{found[bad[0]]} ({len(bad)} differ)",
                           expected=str(wanted.shape if shapes else wanted[bad[0]]), help=note, exit_code=FAILED)


# Checks ------------------------------------------------------------------------------------------


def _fetches(k: np.ndarray, found: Trace, design: CacheDesign) -> tuple[np.ndarray, np.ndarray]:
    """Offset and slot of everything that is fetched."""
    pinned, missing = np.flatnonzero(found.pinned), found.kind == 2
    return (np.concatenate([pinned, k[missing]]),
            np.concatenate([np.arange(len(pinned)), design.tiles + found.side[missing]]))


def _counters(design: CacheDesign, run: StreamRun, found: Trace, note: str) -> None:
    wanted = (*found.counts, int(found.pinned.sum()) + found.misses)
    for name, value in zip(_COUNTERS, wanted, strict=True):
        differs(f"{design.name} {name}", [run.ports[name]], [value], note)


def check_cache(design: CacheDesign, model: StreamModel, k: np.ndarray, pinned: np.ndarray, *, seed: int = 0,
                stalls: dict[str, float] | None = None, load_cycles: int = 1, **options) -> StreamRun:
    """Demands through the cache: hits, misses, slots and fetches are the trace's.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    note, found = f"seed {seed}", trace(k, pinned & (np.cumsum(pinned) <= design.tiles))
    fetch_k, fetch_slot = _fetches(k, found, design)
    # Demands come after the start, as they do where pairs are sorted first.
    model.run({"go": 1}, {}, held={"pinned": pin_mask(pinned), "load_cycles": load_cycles}, drain=0, **options).check()
    run = model.run({"i": pack_bits([(k, 5)]), "token": len(fetch_k), "done": len(k)},
                    {"o": len(k), "o_fetch": len(fetch_k)}, stalls=stalls or {}, seed=seed, resume=True).check()
    grants, fetches = (unpack(layout(design), run.outputs[name])
                       for name, layout in (("o", grant_layout), ("o_fetch", fetch_layout)))
    for name, seen, wanted in (("k", grants["k"], k), ("pinned", grants["pinned"], found.kind == 0),
                               ("hit", grants["hit"], found.kind != 2),
                               ("slot", grants["slot"], found.slots(k, design.tiles)),
                               ("fetch k", fetches["k"], fetch_k), ("fetch slot", fetches["slot"], fetch_slot)):
        differs(f"{design.name} {name}", seen, wanted, note)
    _counters(design, run, found, note)
    _contents(design, run, fetches, run.cycles["o"], run.cycles["done"], grants["slot"], k, note)
    _soon(design, run, found, fetch_k, stalls or {}, note)
    return run


def _soon(design: CacheDesign, run: StreamRun, found: Trace, fetch_k: np.ndarray, stalls: dict[str, float],
          note: str) -> None:
    """Nothing waits longer than it must: pinned tiles are asked for offset by offset, a tile that was missing is used
    in the cycle after it came, and then there is nothing to do."""
    o, there, asked = (run.cycles[name].astype(np.int64) for name in ("o", "token", "o_fetch"))
    pins = int(found.pinned.sum())
    if not stalls.get("o_fetch"):
        differs(f"{design.name} cycles between pinned fetches", np.diff(asked[:pins]),
                np.maximum(np.diff(fetch_k[:pins]), 2), note)
    if not stalls.get("o"):
        missed = np.flatnonzero(found.kind == 2)
        before = np.where(missed, o[missed - 1], 0)
        differs(f"{design.name} cycle of a use", o[missed], np.maximum(before, there[pins:]) + 1, note)
    differs(f"{design.name} busy", [run.ports["busy"]], [0], note)


def _contents(design: CacheDesign, run: StreamRun, fetches: dict[str, np.ndarray], begins: np.ndarray,
              ends: np.ndarray, slot: np.ndarray, k: np.ndarray, note: str) -> None:
    """Whether each use finds its own tile, complete, and nothing comes into its slot before it is done."""
    asked, there = run.cycles["o_fetch"].astype(np.int64), run.cycles["token"].astype(np.int64)
    begins, ends = begins.astype(np.int64), ends.astype(np.int64)
    for each in range(design.slots):
        mine, uses = np.flatnonzero(fetches["slot"] == each), np.flatnonzero(slot == each)
        if not len(uses):
            continue
        at = np.searchsorted(there[mine], begins[uses]) - 1     # the tile that came last
        differs(f"{design.name} use before a tile, slot {each}", at < 0, at * 0, note)
        differs(f"{design.name} tile in slot {each}", fetches["k"][mine][at], k[uses], note)
        following = np.append(asked[mine], np.iinfo(np.int64).max)[at + 1]
        differs(f"{design.name} overwritten in slot {each}", following <= ends[uses], at < -1, note)


def check_order(design: CacheDesign, model: StreamModel, items: Items, pinned: np.ndarray, *, seed: int = 0,
                stalls: dict[str, float] | None = None, load_cycles: int = 1, pace: int = 1, lag: int = 0,
                **options) -> StreamRun:
    """A job through order of work and cache: every field of every work item, and what is fetched.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    note, jobs = f"seed {seed}", _Job(design, items, pinned)
    run = model.run({"go": 1, "i": pack_items(design, items), "token": len(jobs.fetch_k)},
                    {"o": len(jobs.work["k"]), "o_fetch": len(jobs.fetch_k)}, stalls=stalls or {}, seed=seed,
                    held={"pinned": pin_mask(pinned), "load_cycles": load_cycles, "pace": pace, "lag": lag},
                    sample={"i": ["busy"]}, **options).check()
    jobs.compare(run, note)
    _busy(design, run, note)
    fetches = unpack(fetch_layout(design), run.outputs["o_fetch"])
    differs(f"{design.name} fetch k", fetches["k"], jobs.fetch_k, note)
    differs(f"{design.name} fetch slot", fetches["slot"], jobs.fetch_slot, note)
    cycles = run.cycles["o"].astype(np.int64)
    _contents(design, run, fetches, cycles[jobs.begins], cycles[jobs.ends] + lag, jobs.work["weight"][jobs.ends],
              jobs.k, note)
    return run


def check_order_cycles(design: CacheDesign, model: StreamModel, items: Items, pinned: np.ndarray, *,
                       load_cycles: int = 1, pace: int = 1, lag: int = 0) -> tuple[StreamRun, OrderCycles]:
    """A job whose pinned tiles are there, without stalls: work items and all cycles of the event model.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    job, count = _Job(design, items, pinned), int(pinned.sum())
    held = {"pinned": pin_mask(pinned), "load_cycles": load_cycles, "pace": pace, "lag": lag}
    model.run({"go": 1, "token": count}, {"o_fetch": count}, held=held).check()
    run = model.run({"i": pack_items(design, items), "token": job.found.misses},
                    {"o": len(job.work["k"]), "o_fetch": job.found.misses}, resume=True).check()
    job.compare(run, "")
    row, k = _rows(items), np.where(items.pair, items.k, NO_WEIGHTS)
    cycles = order_cycles(design, row, k, pinned, load_cycles=load_cycles, item_cycles=pace, lag=lag)
    ends = np.cumsum(cycles.pairs) - 1
    seen = run.cycles["o"].astype(np.int64)
    differs(f"{design.name} cycle of a list's first item", seen[ends + 1 - cycles.pairs], cycles.first, "")
    differs(f"{design.name} cycle of a list's last item", seen[ends], cycles.last, "")
    differs(f"{design.name} cycle of an item", run.cycles["i"], cycles.taken, "")
    differs(f"{design.name} cycle of a loaded tile", run.cycles["token"], cycles.loaded, "")
    differs(f"{design.name} waits", [run.ports["waits"]], [cycles.waits], "")
    return run, cycles


def check_rows(design: CacheDesign, model: StreamModel, items: Items, pinned: np.ndarray, *, seed: int = 0,
               stalls: dict[str, float] | None = None, load_cycles: int = 1, **options) -> StreamRun:
    """A job in the order of its rows: every field of every work item, none before its weights.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    note, held = f"seed {seed}", {"pinned": pin_mask(pinned), "load_cycles": load_cycles}
    stalls = stalls or {}
    run = model.run({"go": 1, "i": pack_items(design, items), "token": int(pinned.sum())},
                    {"o": len(items.k), "o_fetch": int(pinned.sum())}, stalls=stalls, seed=seed, held=held,
                    sample={"i": ["busy"]}, **options).check()
    pair, real = items.pair & pinned[items.k], items.pair | items.row_last
    begins = np.append(True, items.row_last[:-1])
    slots = np.cumsum(pinned)[items.k] - 1
    wanted = {"in": items.inp * pair, "out": items.row, "weight": slots * pair, "slot": items.k * 0,
              "first": begins & real, "final": items.row_last & real, "pair": pair, "release": items.k * 0,
              "last": items.last}
    gather = GatherDesign(pack="row", slots=1, weight_tiles=design.slots, index_bits=design.index_bits)
    seen = unpack(work_layout(gather), run.outputs["o"])
    for name, values in seen.items():
        differs(f"{design.name} {name}", values * pair if name == "in" else values, wanted[name], note)
    go, i, o, token = (run.cycles[name].astype(np.int64) for name in ("go", "i", "o", "token"))
    differs(f"{design.name} weights too late", o[pair] <= token[slots[pair]], pair[pair] < 0, note)
    if not stalls.get("i") and not stalls.get("o"):
        # Each pair as soon as the one before has left and its weights are there; nothing else waits.
        soon = np.append(go + 1, o[:-1]) + 1
        soon[pair] = np.maximum(soon[pair], token[slots[pair]] + 2)
        known = pair | ~items.pair
        differs(f"{design.name} cycle of an item", o[known], soon[known], note)
        if not options.get("resume"):
            differs(f"{design.name} waits", [run.ports["waits"]], [i[-1] - go[0] - len(i)], note)
    _busy(design, run, note)
    differs(f"{design.name} illegal", [run.ports["illegal"]], [(items.pair & ~pair).any()], note)
    differs(f"{design.name} busy", [run.ports["busy"], run.ports["cache_busy"]], [0, 0], note)
    return run


def _busy(design: CacheDesign, run: StreamRun, note: str) -> None:
    """Raise where the order was not busy with items inside, as further ones came."""
    i, o = run.cycles["i"], run.cycles["o"]
    inside = np.arange(len(i)) > np.searchsorted(o, i)
    differs(f"{design.name} busy with items inside", run.samples["i"]["busy"][inside], inside[inside], note)


class _Job:
    """What a job gives."""

    def __init__(self, design: CacheDesign, items: Items, pinned: np.ndarray):
        self.design = design
        self.work, self.found = work_in_order(design, items, pinned)
        self.begins, self.ends = np.flatnonzero(self.work["begin"]), np.flatnonzero(self.work["release"])
        self.k = self.work["k"][self.ends]
        self.fetch_k, self.fetch_slot = _fetches(self.k, self.found, design)

    def compare(self, run: StreamRun, note: str) -> None:
        design, work = self.design, self.work
        gather = GatherDesign(slots=design.tile_rows, weight_tiles=design.slots, index_bits=design.index_bits)
        for name, values in unpack(work_layout(gather), run.outputs["o"]).items():
            if name == "in":        # without a pair there is no input row
                values, wanted = values * work["pair"], work[name] * work["pair"]
            else:
                wanted = work[name]
            differs(f"{design.name} {name}", values, wanted, note)
        _counters(design, run, self.found, note)
        differs(f"{design.name} busy", [run.ports["busy"], run.ports["cache_busy"]], [0, 0], note)
