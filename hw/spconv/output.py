# amaranth: UnusedElaboratable=no
"""From sums to features: requantised a few channels a cycle, put together to words, written to their row.

::

    sums ──► choose ──► OutputLane x lanes ──► word ──► write
     row        ▲ records                                 ▲
      └─────────┴──► delay ──► row * stride + base ───────┘
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.matmul import RULES
from bitkiln.models.design.spconv_core import MAX_GROUPS, SpConvDesign

from ..arith.delay import DelayLine
from ..emit import shared
from ..mac.output import OutputLane
from .gather_layouts import sum_layout
from .layouts import bits

__all__ = ["RowOutput", "feature_write_layout", "record_layout", "tensor_layout"]

STRIDE_BITS = MAX_GROUPS.bit_length()
ADDRESS_EDGES = 3   # row times stride, plus base, write


def record_layout() -> data.StructLayout:
    """What scales one output channel, as it travels (128 bits)."""
    return data.StructLayout({"bias": 32, "scale": 32, "shift": 6})


def tensor_layout(design: SpConvDesign) -> data.StructLayout:
    """A tensor on the chip: first word, words from row to row, word within the row, first mask row."""
    g = design.gather
    return data.StructLayout({"base": bits(g.feature_words), "stride": STRIDE_BITS, "group": STRIDE_BITS,
                              "mask": bits(g.mask_rows)})


def feature_write_layout(design: SpConvDesign) -> data.StructLayout:
    """One word of features on its way into memory: address, codes by lane; mask row and word within it."""
    g, tensor = design.gather, tensor_layout(design)
    return data.StructLayout({"word": tensor["base"].shape, "codes": data.ArrayLayout(g.activation.bits, g.lanes),
                              "row": tensor["mask"].shape, "group": bits(g.groups)})


class RowOutput(wiring.Component):
    """Sums of output rows, in any order, to codes in the memory of features.

    A row takes ``outputs / output_lanes`` cycles; its last word is written `latency` edges after its last sums.

    Parameters
    ----------
    design : SpConvDesign

    Members
    -------
    i : In(stream of sum_layout)
        What is no ``row`` is taken and forgotten.
    tensor : In(tensor_layout)
        Of the outputs; ``group`` that of the pass.
    clamp, clamp_low, clamp_high : In
        As of the matmul core.
    record_write : In(1), record_at : In, record : In(record_layout)
        Records of the pass, by output channel.
    write : Out(1), feature : Out(feature_write_layout)
    finished : Out(1)
        The last word of the row with ``last`` is written in this cycle.
    invalid : Out(1)
        A sum that is no number met a format without one.
    """

    def __init__(self, design: SpConvDesign):
        self.design = design
        g = design.gather
        self.steps = g.outputs // design.output_lanes
        self.lane = OutputLane(design.output)
        self.latency = 1 + self.lane.latency + ADDRESS_EDGES
        super().__init__({"i": In(stream.Signature(sum_layout(g))), "tensor": In(tensor_layout(design)),
                          "clamp": In(1), "clamp_low": In(32), "clamp_high": In(32), "record_write": In(1),
                          "record_at": In(bits(g.outputs)), "record": In(record_layout()),
                          "write": Out(1), "feature": Out(feature_write_layout(design)), "finished": Out(1),
                          "invalid": Out(1)})

    @property
    def module_name(self) -> str:
        g = self.design.gather
        sizes = f"{g.outputs}x{g.lanes}_f{g.feature_words}_m{g.mask_rows}_c{g.channels}_a{g.index_bits}"
        return f"row_output_{g.dot.pe_name}_{sizes}_o{self.design.output_lanes}"

    def elaborate(self, platform) -> Module:
        m = Module()
        design, g, lanes = self.design, self.design.gather, self.design.output_lanes
        steps, sums = self.steps, self.i.payload
        step_bits = bits(steps)

        # One step a cycle while a row is there.
        step, following, ends = Signal(step_bits), Signal(step_bits), Signal()
        m.d.comb += [ends.eq(step == steps - 1), self.i.ready.eq(ends | ~sums.row), following.eq(step)]
        with m.If(self.i.valid & sums.row):
            m.d.comb += following.eq(step + 1)
            with m.If(ends):
                m.d.comb += following.eq(0)
        m.d.sync += step.eq(following)

        width = record_layout().size
        m.submodules.records = memory = Memory(shape=data.ArrayLayout(width, lanes), depth=max(steps, 2), init=[])
        put, get = memory.write_port(granularity=1), memory.read_port()
        lane_bits = (lanes - 1).bit_length()
        lane_at = self.record_at[:lane_bits] if lane_bits else Const(0, 1)
        m.d.comb += [put.addr.eq(self.record_at[lane_bits:]), get.addr.eq(following),
                     put.en.eq(self.record_write << lane_at)]
        m.d.comb += [put.data[lane].eq(self.record.as_value()) for lane in range(lanes)]

        codes, invalid = [], []
        fmt = design.gather.activation
        for lane in range(lanes):
            m.submodules[f"lane{lane}"] = unit = shared(self.lane if lane == 0 else OutputLane(design.output))
            record = data.View(record_layout(), get.data[lane])
            chosen = Signal(g.sum_bits, name=f"sum{lane}", reset_less=True)
            parameters = Signal(record_layout(), name=f"record{lane}", reset_less=True)
            m.d.sync += parameters.eq(record)
            flags = [Signal(name=f"{flag}{lane}", reset_less=True) for flag in g.dot.flags]
            with m.Switch(step):
                for at in range(steps):
                    with m.Case(at):
                        m.d.sync += chosen.eq(sums.sums[at * lanes + lane])
                        m.d.sync += [held.eq(sums[flag][at * lanes + lane])
                                     for held, flag in zip(flags, g.dot.flags, strict=True)]
            m.d.comb += [unit.en.eq(1), unit.i.acc.eq(chosen.as_signed()), unit.i.bias.eq(parameters.bias),
                         unit.i.scale.eq(parameters.scale), unit.i.shift.eq(parameters.shift),
                         unit.job.rule.eq(RULES.index(design.rule)), unit.job.bias.eq(1),
                         unit.job.clamp.eq(self.clamp), unit.job.clamp_low.eq(self.clamp_low),
                         unit.job.clamp_high.eq(self.clamp_high)]
            if flags:
                m.d.comb += unit.i.flags.eq(Cat(*flags))
            codes.append(unit.o[:fmt.bits])
            invalid.append(unit.invalid)

        # What belongs to a step, beside the lanes; a word is complete every `per_word` steps.
        per_word, words = g.lanes // lanes, design.words_per_pass
        edges = 1 + self.lane.latency
        went = Signal(edges)
        m.d.sync += went.eq(Cat(self.i.valid & sums.row, went))
        beside = Cat(sums.out, step, sums.last & ends)
        m.submodules.beside = line = shared(DelayLine(len(beside), edges))
        m.d.comb += [line.en.eq(1), line.i.eq(beside)]
        out = line.o[:len(sums.out)]
        at = line.o[len(sums.out):len(sums.out) + step_bits]
        done = line.o[-1]
        complete, now = Signal(), went[-1]
        part = at[:(per_word - 1).bit_length()]
        m.d.comb += complete.eq(now & (part == per_word - 1) if per_word > 1 else now)
        with m.If(now & Cat(*invalid).any()):
            m.d.sync += self.invalid.eq(1)
        with m.Else():
            m.d.sync += self.invalid.eq(0)

        # The word: earlier parts wait for the last.
        waiting: list = []
        if per_word > 1:
            held = Signal((per_word - 1) * lanes * fmt.bits, reset_less=True)
            with m.If(now):
                m.d.sync += held.eq(Cat(held, *codes)[lanes * fmt.bits:])
            waiting = [held]
        word = Signal(g.lanes * fmt.bits, reset_less=True)
        row, place, last = (Signal(len(sums.out), reset_less=True), Signal(range(max(words, 2)), reset_less=True),
                            Signal(reset_less=True))
        product = Signal(len(sums.out) + STRIDE_BITS, reset_less=True)
        valid = Signal(ADDRESS_EDGES)
        m.d.sync += [word.eq(Cat(*waiting, *codes)), row.eq(out), last.eq(done), valid.eq(Cat(complete, valid)),
                     place.eq(at >> (per_word - 1).bit_length() if words > 1 else 0)]
        word_2, row_2, last_2 = (Signal.like(each, name=f"{each.name}_2") for each in (word, row, last))
        place_2 = Signal.like(place, name="place_2")
        m.d.sync += [product.eq(row * self.tensor.stride), word_2.eq(word), row_2.eq(row), last_2.eq(last),
                     place_2.eq(place)]
        feature = Signal.like(self.feature, name="written", reset_less=True)
        ended = Signal(reset_less=True)
        group = self.tensor.group + place_2
        m.d.sync += [feature.word.eq(product + self.tensor.base + group), feature.codes.as_value().eq(word_2),
                     feature.row.eq(self.tensor.mask + row_2), feature.group.eq(group), ended.eq(last_2)]
        m.d.comb += [self.feature.eq(feature), self.write.eq(valid[-1]), self.finished.eq(valid[-1] & ended)]
        return m
