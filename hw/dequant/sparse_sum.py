# amaranth: UnusedElaboratable=no
"""Dense and sparse results together: exact, in common units, rounded once at most.

::

    dense {values x columns} ──► column ──► << ─┐
                                                ├─► + ──► (FixedToFp32) ──► queue ──► o {value, last}
    side {value} ──────────────────────────► << ┘
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.sparse import SumDesign

from ..arith.cells import Adder
from ..arith.fixed_to_fp32 import FixedToFp32
from ..emit import shared
from .array import result_layout
from .queue import Queue
from .sparse import sum_layout

__all__ = ["SparseSum", "total_layout"]


def total_layout(design: SumDesign) -> data.StructLayout:
    """A result: the code of a float32, or an integer in units of ``2**design.exponent`` and its flags."""
    if design.output == "fp32":
        return data.StructLayout({"value": 32, "last": 1})
    return data.StructLayout({"value": signed(design.sum_bits), **dict.fromkeys(design.flags, 1), "last": 1})


class SparseSum(wiring.Component):
    """Adds the sums of a `SparseSide` to the raw results of a `BitSerialArray`.

    One result each cycle, `latency` edges after its parts came; a row of the array is taken with its last column.

    Parameters
    ----------
    design : SumDesign

    Members
    -------
    dense : In(stream of array.result_layout); side : In(stream of sparse.sum_layout)
    o : Out(stream of total_layout)
        Row 0 first, in each row column 0 first; ``last`` with the last one.
    """

    def __init__(self, design: SumDesign):
        self.design = design
        self.convert = FixedToFp32(design.sum_bits, design.exponent) if design.output == "fp32" else None
        edges = 1 + (self.convert.latency if self.convert else 0)
        self.latency = edges + 1
        # Room for all that can be under way at full rate.
        self.depth = 1 << self.latency.bit_length()
        super().__init__({"dense": In(stream.Signature(result_layout(design.dense))),
                          "side": In(stream.Signature(sum_layout(design.sparse))),
                          "o": Out(stream.Signature(total_layout(design)))})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"dense": d.dense.name, "sparse": d.sparse.name, "output": d.output, "sum_bits": d.sum_bits,
                "exponent": d.exponent, "queue": self.depth}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, columns = self.design, self.design.dense.columns
        m.submodules.queue = queue = shared(Queue(total_layout(design), self.depth))
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        column, promised = Signal(range(columns)), Signal(range(self.depth + 1))
        final, go, take = column == columns - 1, Signal(), self.o.valid & self.o.ready
        room = promised != self.depth
        m.d.comb += [go.eq(self.dense.valid & self.side.valid & room),
                     self.side.ready.eq(self.dense.valid & room),
                     self.dense.ready.eq(self.side.valid & room & final)]
        m.d.sync += promised.eq(promised + go - take)
        with m.If(go):
            m.d.sync += column.eq(Mux(final, 0, column + 1))

        item_layout = result_layout(design.dense)["values"].shape.elem_shape
        item = Signal(item_layout, name="item")
        m.d.comb += item.eq(self.dense.payload["values"].as_value().word_select(column, item_layout.size))
        side = self.side.payload
        m.submodules.add = adder = shared(Adder(design.sum_bits, design.sum_bits, design.sum_bits))
        m.d.comb += [adder.x.eq(item.value << design.dense_shift), adder.y.eq(side.value << design.side_shift)]
        total = Signal(signed(design.sum_bits), name="total", reset_less=True)
        flags: dict[str, Signal] = {}
        for flag in design.flags:
            found = [side[flag]] if flag in design.sparse.flags else []
            found += [item.flags[flag.removeprefix("inf_")]] if flag in design.dense_flags else []
            flags[flag] = Signal(name=flag, reset_less=True)
            m.d.sync += flags[flag].eq(Cat(*found).any())
        last = Signal(name="last", reset_less=True)
        m.d.sync += [total.eq(adder.o), last.eq(self.dense.payload.last & final)]

        word = Signal(total_layout(design), name="word")
        edges = self.latency - 1
        arrives: Value = go
        for edge in range(edges):
            held = Signal(name=f"arrives_{edge + 1}")
            m.d.sync += held.eq(arrives)
            arrives = held
        ends: Value = last
        for edge in range(1, edges):
            held = Signal(name=f"last_{edge + 1}", reset_less=True)
            m.d.sync += held.eq(ends)
            ends = held
        if self.convert:
            m.submodules.convert = convert = shared(self.convert)
            m.d.comb += [convert.i.eq(total), word.value.eq(convert.o),
                         *(port.eq(flags[name]) for name, port in (("nan", convert.nan), ("inf_pos", convert.pos),
                                                                   ("inf_neg", convert.neg)) if name in flags)]
        else:
            m.d.comb += [word.value.eq(total), *(word[name].eq(value) for name, value in flags.items())]
        m.d.comb += [word.last.eq(ends), queue.i.valid.eq(arrives), queue.i.payload.eq(word)]
        return m
