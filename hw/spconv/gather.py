# amaranth: UnusedElaboratable=no
"""Gather-MAC-scatter: output rows of a sparse convolution, without the channels that are zero.

::

    i ──► GatherFront ──► queue ──► ItemIssue or RowIssue ──► FeatureStore ─┐   each lane its own word
            ▲ masks                        ▲           └────► WeightStore ──┤
            │                              │ run                            ▼
          FeatureStore                     │                           GatherArray
                                         room? ◄── queue ◄── sums ◄─────────┘
    o ◄────────────────────────────────────────────┘

Lane ``j`` multiplies channels ``j``, ``j + lanes``, ... only, so no crossbar stands between memories and products; what
that costs against lanes that could take any channel is in `models.cost.spconv.gather`.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import GatherDesign

from ..dequant.queue import Queue
from ..emit import shared
from .features import FeatureStore, row_bits, word_bits
from .gather_array import array_for
from .gather_counters import COUNTERS, GatherCounters
from .gather_front import GatherFront, job_members
from .gather_issue import ItemIssue
from .gather_layouts import pair_layout, step_layout, sum_layout
from .gather_rows import RowIssue
from .gather_sums import ItemSums, RowSums
from .layouts import work_layout
from .weights import WeightStore, weight_bits

__all__ = ["GatherCore", "GatherMac", "sum_layout"]

ROWS = 16     # complete output rows that can wait for ``o``, those on their way included
PAIRS = 16    # that can wait for the lanes
MEMORY = 1    # edges from an address to what is there


def _outside(design: GatherDesign) -> dict:
    """What the unit shows beside its memories."""
    return {"i": In(stream.Signature(work_layout(design))), **job_members(design),
            "o": Out(stream.Signature(sum_layout(design))), "released": Out(1), "busy": Out(1), "clear": In(1),
            **{name: Out(bits) for name, bits in COUNTERS.items()}}


class GatherMac(wiring.Component):
    """The unit without its memories.

    An item that is taken in cycle ``n`` has its first step in ``n + 4`` at the earliest; a row whose last step is in
    cycle ``n`` is on ``o`` in ``n + latency``. `models.cost.spconv.gather` has the exact cycles.

    Parameters
    ----------
    design : GatherDesign

    Members
    -------
    i : In(stream of work_layout)
        With ``pack`` row the items of an output row come one after the other, and end with ``final``.
    groups, in_base, in_stride, mask_base : In
        `gather_front.job_members`; they may change while ``busy`` is 0.
    o : Out(stream of sum_layout)
        A row when its ``final`` item is done, in this order; an item with ``last`` and without ``final`` gives one
        with ``row`` 0.
    released : Out(1)
        For each item with ``release``, in order: nothing more is read for it or those before it.
    busy : Out(1)
        An item or a row is inside.
    clear : In(1)
        Counters to zero.
    items, dropped, issued, skipped, idle, cycles, stalls : Out
        `gather_counters.COUNTERS`.
    mask_en, mask_row : Out; mask : In
    read_en, read_word : Out; features : In
    weight_en, read_weight : Out; weights : In
        Read ports of `FeatureStore` and `WeightStore`.
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        d, lanes = design, design.lanes
        self.array = array_for(d)
        # Step, address, memory, array, queue.
        self.latency = 2 + MEMORY + self.array.latency
        codes = data.ArrayLayout(d.weight.bits, d.outputs)
        super().__init__({
            **_outside(d), "mask_en": Out(1), "mask_row": Out(row_bits(d)), "mask": In(d.channels),
            "read_en": Out(lanes), "read_word": Out(data.ArrayLayout(word_bits(d), lanes)),
            "features": In(data.ArrayLayout(d.activation.bits, lanes)), "weight_en": Out(lanes),
            "read_weight": Out(data.ArrayLayout(weight_bits(d), lanes)), "weights": In(data.ArrayLayout(codes, lanes))})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"activation": d.activation.name, "weight": d.weight.name, "lanes": d.lanes, "outputs": d.outputs,
                "channels": d.channels, "pack": d.pack, "window": d.window, "slots": d.slots,
                "feature_words": d.feature_words, "mask_rows": d.mask_rows, "weight_tiles": d.weight_tiles,
                "index_bits": d.index_bits, "pipeline": d.pipeline, "multiplier": d.multiplier,
                "sum_bits": d.sum_bits, "exponent": d.dot.product_exponent}

    def elaborate(self, platform) -> Module:
        m = Module()
        d = self.design
        m.submodules.front = front = GatherFront(d)
        m.submodules.issue = issue = ItemIssue(d) if d.pack == "item" else RowIssue(d)
        wiring.connect(m, wiring.flipped(self.i), front.i)
        m.submodules.pairs = pairs = shared(Queue(pair_layout(d), PAIRS))
        wiring.connect(m, front.o, pairs.i)
        wiring.connect(m, pairs.o, issue.i)
        m.d.comb += [getattr(front, name).eq(getattr(self, name)) for name in job_members(d)]
        m.d.comb += [self.mask_en.eq(front.mask_en), self.mask_row.eq(front.mask_row), front.mask.eq(self.mask)]

        # Addresses of this step's activations, and later of its weights.
        valid, step = Signal(), Signal(step_layout(d), name="addresses", reset_less=True)
        m.d.sync += [valid.eq(issue.valid), step.eq(issue.o)]
        active = Signal(d.lanes)
        m.d.comb += [active.eq(step.active & valid.replicate(d.lanes)), self.read_en.eq(active),
                     self.read_word.eq(step.words)]
        reads, weights = [active], step.weights
        for edge in range(self.array.lag):
            later = Signal(d.lanes, name=f"reads{edge}")
            weights_later = Signal(weights.shape(), name=f"weights{edge}", reset_less=True)
            m.d.sync += [later.eq(reads[-1]), weights_later.eq(weights)]
            reads, weights = [*reads, later], weights_later
        m.d.comb += [self.weight_en.eq(reads[-1]), self.read_weight.eq(weights)]
        m.submodules.array = array = self.array
        m.d.comb += [array.a.eq(self.features), array.w.eq(self.weights), array.active.eq(reads[MEMORY])]

        m.submodules.sums = sums = (ItemSums if d.pack == "item" else RowSums)(d, array.value_bits)
        # The sums want their token two edges ahead of the totals.
        sums_valid, token, underway = valid, step.token, [valid]
        for edge in range(MEMORY + array.latency - sums.lead):
            later = Signal(name=f"valid{edge}")
            token_later = Signal(token.shape(), name=f"token{edge}", reset_less=True)
            m.d.sync += [later.eq(sums_valid), token_later.eq(token)]
            sums_valid, token = later, token_later
            underway.append(later)
        m.d.comb += [sums.valid.eq(sums_valid), sums.token.eq(token), sums.totals.eq(array.totals)]

        # A row has a place in the queue before its last step.
        m.submodules.queue = queue = shared(Queue(sum_layout(d), ROWS))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        m.d.comb += [queue.i.valid.eq(sums.o_valid), queue.i.payload.eq(sums.o)]
        inside, run, leaves = Signal(range(ROWS + 1)), Signal(), Signal()
        # Those of the two steps before are not counted in it.
        m.d.comb += [leaves.eq(valid & step.token.end & step.token.leave), issue.run.eq(run)]
        m.d.sync += [run.eq(inside < ROWS - 2), inside.eq(inside + leaves - (self.o.valid & self.o.ready))]

        # Behind the edge that reads: nobody may write there before.
        released = Signal(2 + self.array.lag)
        m.d.sync += released.eq(Cat(issue.released, released))
        m.d.comb += [self.released.eq(released[-1]),
                     self.busy.eq(front.busy | pairs.o.valid | issue.busy | Cat(*underway, *released).any() | sums.busy
                                  | (inside != 0))]
        m.submodules.counters = counters = GatherCounters(d)
        m.d.comb += [counters.clear.eq(self.clear), counters.pair.eq(front.pair), counters.empty.eq(front.empty),
                     counters.groups.eq(self.groups), counters.step.eq(valid), counters.active.eq(active),
                     counters.stall.eq(issue.stall),
                     *[getattr(self, name).eq(getattr(counters, name)) for name in COUNTERS]]
        return m


class GatherCore(wiring.Component):
    """The unit with its memories.

    Members
    -------
    i, groups, in_base, in_stride, mask_base, o, released, busy, clear, counters
        As of `GatherMac`.
    feature_en, feature_word, feature_codes, feature_row, feature_group : In
        Write port of `FeatureStore`.
    weight_en, weight_lane, weight_address, weight_codes : In
        Write port of `WeightStore`.
    """

    def __init__(self, design: GatherDesign):
        self.design = design
        self.unit, self.store, self.weights = GatherMac(design), FeatureStore(design), WeightStore(design)
        self.latency = self.unit.latency
        self.writes: dict[str, tuple[wiring.Component, str]] = {
            **{f"feature_{name}": (self.store, f"write_{name}") for name in ("en", "word", "codes", "row", "group")},
            **{f"weight_{name}": (self.weights, f"write_{name}") for name in ("en", "lane", "address", "codes")}}
        super().__init__({**_outside(design), **{name: part.signature.members[port]
                                                 for name, (part, port) in self.writes.items()}})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_core"

    @property
    def parameters(self) -> dict:
        return self.unit.parameters

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.unit, m.submodules.features, m.submodules.weights = self.unit, self.store, self.weights
        unit, store, weights = self.unit, self.store, self.weights
        m.d.comb += [
            store.mask_en.eq(unit.mask_en), store.mask_row.eq(unit.mask_row), unit.mask.eq(store.mask),
            store.read_en.eq(unit.read_en), store.read_word.eq(unit.read_word), unit.features.eq(store.codes),
            weights.read_en.eq(unit.weight_en), weights.read_address.eq(unit.read_weight),
            unit.weights.eq(weights.codes),
            *[getattr(part, port).eq(getattr(self, name)) for name, (part, port) in self.writes.items()]]
        for name, member in _outside(self.design).items():
            if name in ("i", "o"):
                continue
            mine, theirs = getattr(self, name), getattr(unit, name)
            m.d.comb += theirs.eq(mine) if member.flow == In else mine.eq(theirs)
        wiring.connect(m, wiring.flipped(self.i), unit.i)
        wiring.connect(m, unit.o, wiring.flipped(self.o))
        return m
