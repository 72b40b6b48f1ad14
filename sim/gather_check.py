# amaranth: UnusedElaboratable=no
"""Random sparse convolutions through the gather unit at full simulation speed, against golden and event model."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.spconv.gather import GatherCore, sum_layout
from bitkiln.hw.spconv.layouts import work_layout
from bitkiln.models.cost.spconv.gather import GatherCycles, gather_cycles, lane_loads
from bitkiln.models.design.spconv import GatherDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format
from bitkiln.models.golden.gather import GatherSums, WorkStream, gather, something

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["GatherBench", "check_gather", "check_stuck", "compare_counters", "compare_cycles", "compare_sums",
           "interleaved_work", "load", "pack_work", "random_features", "random_weights", "random_work", "tiled_work"]

COUNTED = ("items", "dropped", "issued", "skipped", "idle", "cycles")


class GatherBench(wiring.Component):
    """The unit with its memories, which are written through streams."""

    def __init__(self, design: GatherDesign):
        self.design = design
        self.core = GatherCore(design)
        members = self.core.signature.members
        self.writes = {part: [name for name in self.core.writes if name.startswith(f"{part}_") and name[-3:] != "_en"]
                       for part in ("feature", "weight")}
        self.plain = [name for name in members if name not in ("i", "o", *self.core.writes)]
        streams = {part: In(stream.Signature(data.StructLayout({name: members[name].shape for name in names})))
                   for part, names in self.writes.items()}
        super().__init__({**streams, "i": members["i"], "o": members["o"],
                          **{name: members[name] for name in self.plain}, "releases": Out(32)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_bench"

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        for part, names in self.writes.items():
            port = getattr(self, part)
            m.d.comb += [port.ready.eq(1), getattr(core, f"{part}_en").eq(port.valid),
                         *[getattr(core, name).eq(port.payload[name]) for name in names]]
        for name in self.plain:
            mine, theirs = getattr(self, name), getattr(core, name)
            m.d.comb += theirs.eq(mine) if core.signature.members[name].flow == In else mine.eq(theirs)
        wiring.connect(m, wiring.flipped(self.i), core.i)
        wiring.connect(m, core.o, wiring.flipped(self.o))
        m.d.sync += self.releases.eq(self.releases + core.released)
        return m


def random_features(fmt: Format, rows: int, channels: int, rng: np.random.Generator, *, zeros: float = 0.5,
                    empty: float = 0.1, specials: float = 0.0) -> np.ndarray:
    """Codes (rows, channels): zeros (of both signs), whole rows of zeros, extreme values, NaN and infinities rarely."""
    codes = _random_codes(fmt, (rows, channels), rng, specials)
    none = (rng.random(codes.shape) < zeros) | (rng.random((rows, 1)) < empty)
    nothing = np.flatnonzero(~something(fmt, np.arange(1 << fmt.bits)))
    return np.where(none, rng.choice(nothing, codes.shape), codes)


def random_weights(design: GatherDesign, rng: np.random.Generator, *, specials: float = 0.0) -> np.ndarray:
    """Codes (weight_tiles, outputs, channels)."""
    return _random_codes(design.weight, (design.weight_tiles, design.outputs, design.channels), rng, specials)


def _random_codes(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, specials: float) -> np.ndarray:
    codes = rng.integers(0, 1 << fmt.bits, shape)
    u = fmt.unpack(np.arange(1 << fmt.bits))
    ordinary = np.flatnonzero(u.special == 0)
    largest = ordinary[np.argsort(-np.abs(fmt.decode(ordinary)), kind="stable")[:2]]
    codes = np.where(rng.random(shape) < 0.15, rng.choice(largest, shape), codes)
    special = (u.special != 0)[codes]
    return np.where(special & (rng.random(shape) >= specials), rng.choice(ordinary, shape), codes)


def random_work(design: GatherDesign, rows: int, sources: int, rng: np.random.Generator, *, pairs: float = 5.0,
                tile: int | None = None) -> WorkStream:
    """Output rows with 0 to 27 pairs each, by rows or (pack ``item``) by kernel offsets in tiles of rows.

    Parameters
    ----------
    rows, sources : int
        Output and input rows.
    pairs : float
        Mean number of pairs of a row.
    tile : int, optional
        Rows of a tile, at most ``design.slots``; 1 orders by rows.
    """
    count = np.minimum(rng.poisson(pairs, rows), min(27, design.weight_tiles))
    out = np.repeat(np.arange(rows), np.maximum(count, 1))
    offset = np.concatenate([np.sort(rng.permutation(design.weight_tiles)[:max(each, 1)]) for each in count]
                            or [np.zeros(0, np.int64)])
    pair = np.repeat(count > 0, np.maximum(count, 1))
    source = rng.integers(0, sources, len(out))
    return tiled_work(design, out, offset, source, pair, design.slots if tile is None else tile)


def tiled_work(design: GatherDesign, out: np.ndarray, offset: np.ndarray, source: np.ndarray, pair: np.ndarray,
               tile: int) -> WorkStream:
    """A stream of pairs that are ascending by output row, then offset; every row has an item."""
    order = np.lexsort((out, offset, out // tile))
    out, offset, source, pair = (each[order] for each in (out, offset, source, pair))
    index = np.arange(len(out))
    first, final = np.zeros(len(out), bool), np.zeros(len(out), bool)
    first[np.unique(out, return_index=True)[1]] = True
    final[len(out) - 1 - np.unique(out[::-1], return_index=True)[1]] = True
    # The last item of an offset in a tile of rows releases its weights.
    group = out // tile * design.weight_tiles + offset
    release = np.append(group[1:] != group[:-1], np.ones(min(len(out), 1), bool)).astype(bool)
    slot = out % tile if design.pack == "item" else np.zeros_like(out)
    return WorkStream(source, out, offset, slot, first, final, pair, release, index == len(out) - 1)


def interleaved_work(design: GatherDesign, count: int, sources: int, rng: np.random.Generator) -> WorkStream:
    """Items whose slots come back after one, two, three ... items, for pack ``item``; rows of 1 to about 10 items."""
    fields: list[tuple] = []
    rows: dict[int, int] = {}
    number, recent = 0, [0]
    while len(fields) < count or rows:
        ending = len(fields) >= count
        if ending:
            slot = next(iter(rows))
        elif rng.random() < 0.7:
            slot = recent[-min(len(recent), int(rng.integers(1, 4)))]
        else:
            slot = int(rng.integers(design.slots))
        first = slot not in rows
        if first:
            rows[slot], number = number, number + 1
        final = ending or rng.random() < 0.25
        fields.append((int(rng.integers(sources)), rows[slot], int(rng.integers(design.weight_tiles)), slot, first,
                       final, rng.random() < 0.9, rng.random() < 0.1, False))
        if final:
            del rows[slot]
        recent = [*recent[-2:], slot]
    columns = [np.array(column) for column in zip(*fields, strict=True)]
    columns[-1][-1] = True
    return WorkStream(*columns)


def load(design: GatherDesign, features: np.ndarray, weights: np.ndarray, *, base: int = 0, stride: int | None = None,
         mask_base: int = 0) -> dict[str, np.ndarray]:
    """Items of the streams that write the memories."""
    rows, channels = features.shape
    groups, lanes = channels // design.lanes, design.lanes
    stride = groups if stride is None else stride
    row, group = np.repeat(np.arange(rows), groups), np.tile(np.arange(groups), rows)
    core = GatherCore(design)
    members = core.signature.members

    def width(name: str) -> int:
        return data.StructLayout({name: members[name].shape}).size

    words = (base + row * stride + group) % design.feature_words
    codes = features.reshape(-1, lanes)
    feature = pack_bits([(words, width("feature_word")), (codes, design.activation.bits),
                         (mask_base + row, width("feature_row")), (group, width("feature_group"))])
    tiles = design.weight_tiles
    lane, tile, part = (each.ravel() for each in np.meshgrid(np.arange(lanes), np.arange(tiles),
                                                             np.arange(design.groups), indexing="ij"))
    weight = pack_bits([(lane, width("weight_lane")), (tile * design.groups + part, width("weight_address")),
                        (weights[tile, :, part * lanes + lane], design.weight.bits)])
    return {"feature": feature, "weight": weight}


def pack_work(design: GatherDesign, work: WorkStream) -> np.ndarray:
    """Items of ``i``."""
    return pack_bits([(getattr(work, "source" if name == "in" else name), field.width)
                      for name, field in work_layout(design)])


def compare_sums(design: GatherDesign, wanted: GatherSums, words: np.ndarray, note: str = "") -> None:
    """Raise where rows, sums or flags differ from the golden ones; sums beside special values do not count."""
    layout = sum_layout(design)
    count = len(wanted.out)
    special = wanted.nan | wanted.inf_pos | wanted.inf_neg
    for name, field in layout:
        expected = getattr(wanted, "value" if name == "sums" else name)
        each = design.sum_bits if name == "sums" else field.width if expected.ndim == 1 else 1
        columns = [bits_of(words, field.offset + n * each, each, name == "sums") for n in range(field.width // each)]
        seen = np.stack(columns, axis=1).reshape(-1, *expected.shape[1:])
        if len(seen) != count:
            raise BitkilnError("RTL and golden model differ", where=design.name, got=f"{len(seen)} rows",
                               expected=str(count), help=note or None, exit_code=FAILED)
        known = np.ones(expected.shape, bool)
        if name == "sums":
            known = wanted.row[:, None] & ~special
        elif expected.ndim == 2:
            known = np.broadcast_to(wanted.row[:, None], expected.shape)
        elif name == "out":
            known = wanted.row
        bad = np.argwhere((seen != expected) & known)
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} {name}{list(at)}",
                               got=f"{seen[at]} ({len(bad)} of {seen.size} differ)", expected=str(expected[at]),
                               help=note or None, exit_code=FAILED)


def compare_counters(design: GatherDesign, cycles: GatherCycles, run: StreamRun, note: str = "") -> None:
    """Raise where a counter differs from the event model's."""
    for name in COUNTED:
        if run.ports[name] != getattr(cycles, name):
            raise BitkilnError("RTL and event model differ", where=f"{design.name} {name}", got=run.ports[name],
                               expected=str(getattr(cycles, name)), help=note or None, exit_code=FAILED)


def compare_cycles(design: GatherDesign, cycles: GatherCycles, run: StreamRun, note: str = "") -> None:
    """Raise where the cycle of a transfer differs from the event model's."""
    for name in ("i", "o"):
        seen, wanted = run.cycles[name].astype(np.int64), getattr(cycles, name)
        if not np.array_equal(seen, wanted):
            at = int(np.flatnonzero(seen != wanted)[0]) if len(seen) == len(wanted) else -1
            raise BitkilnError("RTL and event model differ", where=f"{design.name} stream {name}[{at}]",
                               got=f"cycle {seen[at]}", expected=str(wanted[at]), help=note or None, exit_code=FAILED)


def check_gather(design: GatherDesign, model: StreamModel | None, work: WorkStream, features: np.ndarray,
                 weights: np.ndarray, *, stalls: dict[str, float] | None = None, seed: int = 0, base: int = 0,
                 stride: int | None = None, mask_base: int = 0) -> tuple[StreamRun, GatherCycles]:
    """Fill the memories of a fresh unit and run a stream; compare sums, counters and (without stalls) every cycle.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(GatherBench(design)) if model is None else model
    groups = features.shape[1] // design.lanes
    stride = groups if stride is None else stride
    job = {"groups": groups, "in_base": base, "in_stride": stride, "mask_base": mask_base, "clear": 0}
    model.run(load(design, features, weights, base=base, stride=stride, mask_base=mask_base), held=job).check()
    wanted = gather(design, work, features, weights)
    cycles = gather_cycles(design, work, lane_loads(design, work, features), groups)
    run = model.run({"i": pack_work(design, work)}, {"o": len(wanted.out)}, stalls=stalls or {}, seed=seed, held=job,
                    sample={"i": ["busy"]}, resume=True).check()
    note = f"seed {seed}"
    if design.pack == "row" and not run.samples["i"]["busy"][1:][~work.final[:-1]].all():
        raise BitkilnError("not busy in a row", where=design.name, help=note, exit_code=FAILED)
    compare_sums(design, wanted, run.outputs["o"], note)
    if not stalls:
        compare_cycles(design, cycles, run, note)
        compare_counters(design, cycles, run, note)
    elif any(run.ports[name] != getattr(cycles, name) for name in ("items", "dropped", "issued", "skipped")):
        compare_counters(design, cycles, run, note)
    if not (stalls or {}).get("o") and run.ports["stalls"]:
        raise BitkilnError("stalls without a reason", where=design.name, got=run.ports["stalls"], expected="0",
                           help=note, exit_code=FAILED)
    if run.ports["releases"] != work.release.sum() or run.ports["busy"]:
        raise BitkilnError("releases or end missing", where=design.name, got=run.ports["releases"],
                           expected=str(int(work.release.sum())), help=note, exit_code=FAILED)
    return run, cycles


def check_stuck(design: GatherDesign, model: StreamModel, work: WorkStream, features: np.ndarray,
                weights: np.ndarray) -> StreamRun:
    """Nobody takes a sum: the lanes stop, and every cycle is a stall; then all sums come, and ``clear`` forgets the
    counters.

    Returns the run in which nothing was taken.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    groups = features.shape[1] // design.lanes
    job = {"groups": groups, "in_base": 0, "in_stride": groups, "mask_base": 0, "clear": 0}
    rows = int(work.final.sum())
    model.run(load(design, features, weights), held=job).check()
    stuck = run = model.run({"i": pack_work(design, work)}, {"o": rows}, stalls={"o": 1.0}, held=job, limit=800,
                            partial=True, resume=True)
    rest = pack_work(design, work.part(slice(len(stuck.cycles["i"]), None)))
    for cycles in (1, 2, 40):
        before = run.ports["stalls"]
        run = model.run({"i": rest}, {"o": rows}, stalls={"o": 1.0}, held=job, limit=cycles, partial=True, resume=True)
        if run.ports["stalls"] - before != cycles or not run.ports["busy"] or len(run.cycles["i"]):
            raise BitkilnError("stalls miscounted", where=design.name, got=run.ports["stalls"],
                               expected=str(before + cycles), exit_code=FAILED)
    run = model.run({"i": rest}, {"o": rows}, held=job, resume=True).check()
    compare_sums(design, gather(design, work, features, weights), run.outputs["o"])
    cleared = model.run({}, None, held=job | {"clear": 1}, resume=True).ports
    if left := [name for name in (*COUNTED, "stalls") if cleared[name]]:
        raise BitkilnError("not cleared", where=f"{design.name} {left[0]}", got=cleared[left[0]], expected="0",
                           exit_code=FAILED)
    return stuck
