# amaranth: UnusedElaboratable=no
"""The run-time-switchable PE: a data path that knows the modes, before one accumulator that does not.

::

    a, w ─► OperandEdge ─► PeDataPath ─► value, carry (shift), events ─► accumulator, flags ─► acc, flags
    mode ──────┴──────────────┘                                                │
    en, clear, last ─────────── registers of the pipeline ─────────────────────┴─► result register ─► o
                                                                                 shift, i ──────┘

Three data paths have this interface: `parallel` (dedicated lanes for each mode), `merged` (one multiplier, one
shifter) and `packed` (two DSP blocks). An edge is the part of the path that needs one operand only (decoding, gating),
so that an array can have it once for each row and column instead of once for each PE.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.morphable import WORD_BITS, MorphableDesign

from ..arith.fp32_step import Fp32Step
from ..emit import Shared, shared

__all__ = ["MorphablePe", "OperandEdge", "PeDataPath", "data_path", "delayed", "edge_bits", "events_of",
           "next_sum", "result_layout"]


def events_of(design: MorphableDesign) -> tuple[str, ...]:
    """Event ports of a data path: what a product of any mode can be besides a number."""
    dots = [design.dot(mode) for mode in design.modes]
    nan, infinite = any(dot.nan_possible for dot in dots), any(dot.inf_possible for dot in dots)
    illegal = any(dot.has_illegal for dot in dots)
    return ("nan",) * nan + ("inf_pos", "inf_neg") * infinite + ("illegal",) * illegal


def result_layout(design: MorphableDesign) -> data.StructLayout:
    """A drained result: ``acc`` in the low bits, then the design's flags."""
    acc = unsigned(32) if design.accumulator.kind == "fp32" else signed(design.accumulator_bits)
    return data.StructLayout({"acc": acc, **dict.fromkeys(design.flags, 1)})


def delayed(m: Module, value: Value, name: str, cycles: int, reset_less: bool = True) -> Value:
    """The value behind a chain of registers."""
    for stage in range(cycles):
        held = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += held.eq(value)
        value = held
    return value


class OperandEdge(wiring.Component):
    """What becomes of one operand word before it meets the other; combinational, or with one register inside where the
    data path has ``edge_register``.

    Parameters
    ----------
    design : MorphableDesign
    bits : int
        Width of what the data path takes.

    Members
    -------
    code : In(16)
        Operand word, lane 0 in the least significant bits.
    mode : In(mode_bits)
    o : Out(bits)
    """

    reset_less = True

    def __init__(self, design: MorphableDesign, bits: int):
        self.design, self.bits = design, bits
        super().__init__({"code": In(WORD_BITS), "mode": In(design.mode_bits), "o": Out(bits)})


class PeDataPath(wiring.Component):
    """Base of the data paths: operands that passed their edges to one addend, each cycle, no state but registers.

    What arrives at an edge on ``a``, ``w`` and ``mode`` is on all outputs ``design.pipeline`` clock edges later
    (0: combinational). With ``edge_register`` the first of these registers is in the operand edges: ``a`` and ``w``
    come one clock edge after their ``mode``.

    Parameters
    ----------
    design : MorphableDesign
    edges : pair of OperandEdge
        For ``a`` and ``w``; the PE (or the array) puts them in front. Each PE needs objects of its own.
    value_bits : int
        Width of ``value``: at most ``design.accumulator_bits`` for exact sums, otherwise what the widest sum of a
        cycle needs.
    starts : tuple of int
        Lowest bits of the sections that a carry goes to, ascending from 0: the union of ``design.sections(mode)``.
    unit, shift_bits : int
        fp32 accumulators only: the cycle's sum is ``(value + carry) * 2**(unit + shift)``.

    Members
    -------
    a, w : In(edge.bits)
    mode : In(mode_bits)
    value : Out(signed(value_bits))
        Exact and int32: the addend in units of the mode's product, its least bit at bit 0 of the accumulator; in modes
        with sections one field for each, placed at its section's lowest bit and filled with its sign up to the next.
        Arbitrary where nan or an infinity is set.
    carry : Out(len(starts))
        Bit ``n`` is a plus one at bit ``starts[n]``; 0 in modes without a section there.
    shift : Out(shift_bits)
        fp32 only, 0 bits wide where nothing needs it.
    nan, inf_pos, inf_neg, illegal : Out(1)
        Events of this cycle, as `events_of` says.
    """

    reset_less = True
    edge_register = False

    def __init__(self, design: MorphableDesign, edges: tuple[OperandEdge, OperandEdge], value_bits: int, *,
                 starts: tuple[int, ...] = (0,), unit: int = 0, shift_bits: int = 0):
        self.design, self.edges, self.value_bits = design, edges, value_bits
        self.starts, self.unit, self.shift_bits = starts, unit, shift_bits
        self.events = events_of(design)
        members = {"a": In(edges[0].bits), "w": In(edges[1].bits), "mode": In(design.mode_bits),
                   "value": Out(signed(value_bits)), "carry": Out(len(starts))}
        if design.accumulator.kind == "fp32":
            members["shift"] = Out(shift_bits)
        members.update({event: Out(1) for event in self.events})
        super().__init__(members)


def data_path(design: MorphableDesign, decoded: bool = False) -> PeDataPath:
    """A new data path of the design's implementation. ``decoded``: operands pass edges that its user has apart; a
    register behind the decoders may then be spent inside the edges (``edge_register``)."""
    # All build on the classes above.
    if design.implementation == "merged":
        from .merged import MergedPath

        return MergedPath(design, decoded)
    if design.implementation == "packed":
        from .packed import PackedPath

        return PackedPath(design, decoded)
    from .parallel import ParallelPath

    return ParallelPath(design)


def next_sum(m: Module, path: Shared, acc: Value, mode: Value,
             late: Callable[[Value, str], Value]) -> tuple[Value, dict[str, Value]]:
    """``acc`` plus what a data path gives, and the events of this cycle, ``overflow`` among them where it can be.

    Parameters
    ----------
    mode : Value
        As the data path gets it; ``late(value, name)`` is a value behind the registers of the pipeline.
    """
    design = path.design
    events = {event: getattr(path, event) for event in path.events}
    if design.accumulator.kind == "fp32":
        return _fp32_sum(m, path, acc), events
    if design.accumulator.kind == "int32":
        following, events["overflow"] = _int32_sum(m, path, acc)
        return following, events
    return _exact_sum(m, path, acc, mode, late), events


def _exact_sum(m: Module, path: Shared, acc: Value, mode: Value, late: Callable[[Value, str], Value]) -> Value:
    """One carry chain. Where a section may begin, a bit of its own takes the carry in: both addends are the section's
    carry-in there, or 1 and 0 where the chain has to pass."""
    design = path.design
    wide = Signal(signed(len(acc)))
    m.d.comb += wide.eq(path.value)
    if len(path.starts) == 1:
        return (acc + wide + path.carry)[:len(acc)].as_signed()
    x, y, kept, at = [], [], [], 0
    ends = [*path.starts[1:], len(acc)]
    for n, (start, end) in enumerate(zip(path.starts, ends, strict=True)):
        if n:
            cut = Signal(name=f"cut_{start}")
            modes = [index for index, one in enumerate(design.modes) if start in design.sections(one)]
            m.d.comb += cut.eq(Cat(mode == index for index in modes).any())
            x.append(~late(cut, f"cut_{start}") | path.carry[n])
            y.append(path.carry[n])
            at += 1
        x.append(acc[start:end])
        y.append(wide[start:end])
        kept.append((at, end - start))
        at += end - start
    total = Signal(at)
    m.d.comb += total.eq(Cat(*x) + Cat(*y) + path.carry[0])
    return Cat(total[low:low + width] for low, width in kept).as_signed()


def _int32_sum(m: Module, path: Shared, acc: Value) -> tuple[Value, Value]:
    wide = Signal(signed(max(32, len(path.value)) + 1))
    m.d.comb += wide.eq(acc + path.value + path.carry)
    overflow = Signal()
    m.d.comb += overflow.eq(wide != wide[:32].as_signed())
    if path.design.accumulator.overflow == "saturate":
        return Mux(overflow, Mux(wide[-1], -(1 << 31), (1 << 31) - 1), wide[:32].as_signed()), overflow
    return wide[:32].as_signed(), overflow


def _fp32_sum(m: Module, path: Shared, acc: Value) -> Value:
    step = Fp32Step(path.value_bits, path.shift_bits, path.unit,
                    tuple(event for event in path.events if event != "illegal"))
    m.submodules.add = unit = shared(step)
    m.d.comb += [unit.acc.eq(acc), unit.value.eq(path.value), unit.carry.eq(path.carry), unit.shift.eq(path.shift)]
    for event in step.events:
        m.d.comb += getattr(unit, event).eq(getattr(path, event))
    return unit.o


@lru_cache(maxsize=256)
def edge_bits(design: MorphableDesign) -> tuple[int, int]:
    """Widths of ``a`` and ``w`` behind the edges."""
    a, w = data_path(design).edges
    return a.bits, w.bits


class MorphablePe(wiring.Component):
    """``acc += sum(a[i] * w[i])`` over the lanes of the current mode, each cycle with ``en``.

    Latency ``design.latency`` edges, one word of operands each cycle. ``mode``, ``en``, ``clear`` and ``last`` travel
    through the pipeline with the operands; ``shift`` does not.

    Parameters
    ----------
    design : MorphableDesign
    drain : bool
        Adds the result register, through which finished sums leave while the next ones are made.
    hoisted : bool
        The operand edges stand outside: ``a`` and ``w`` are what they give.

    Members
    -------
    a, w : In(16)
        Operand words, lane 0 in the least significant bits (hoisted: `edge_bits`).
    mode : In(mode_bits)
        Index in ``design.modes``.
    en : In(1)
    clear : In(1)
        Synchronous clear of sum and flags, wins over ``en``; the only reset.
    acc : Out(accumulator)
        Signed; the sum of its sections (``design.sections``) in units of ``2**product_exponent`` of the mode. The code
        of a float32 for fp32 accumulators.
    nan, inf_pos, inf_neg, illegal, overflow : Out(1)
        Sticky until ``clear``; each only where it can occur.
    last : In(1)
        With ``drain``, only together with ``en``: the sum with this word goes to the result register, and the
        accumulator restarts at zero on the same edge.
    shift : In(1); i : In(result_bits); o : Out(result_bits)
        With ``drain``: the result register (`result_layout`) and a step of the chain through it: ``shift`` makes it
        take ``i``. A sum that ends in the same cycle wins. The sum in ``o`` is arbitrary where nan or an infinity is
        set.
    """

    reset_less = True

    def __init__(self, design: MorphableDesign, drain: bool = False, hoisted: bool = False):
        self.design, self.drain, self.hoisted = design, drain, hoisted
        fp32 = design.accumulator.kind == "fp32"
        bits = edge_bits(design) if hoisted else (WORD_BITS, WORD_BITS)
        members = {"a": In(bits[0]), "w": In(bits[1]), "mode": In(design.mode_bits), "en": In(1), "clear": In(1),
                   "acc": Out(32 if fp32 else signed(design.accumulator_bits))}
        members.update({flag: Out(1) for flag in design.flags})
        if drain:
            width = result_layout(design).size
            members.update(last=In(1), shift=In(1), i=In(width), o=Out(width))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return self.design.name + "_drain" * self.drain + "_core" * self.hoisted

    @property
    def latency(self) -> int:
        return self.design.latency

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"modes": [mode.name for mode in d.modes], "implementation": d.implementation,
                "accumulator": {"kind": d.accumulator.kind, "depth": d.accumulator.depth, "bits": d.accumulator_bits,
                                "overflow": d.accumulator.overflow},
                "pipeline": d.pipeline, "drain": self.drain,
                "product_exponents": {mode.name: d.dot(mode).product_exponent for mode in d.modes},
                "sections": {mode.name: list(d.sections(mode)) for mode in d.modes}}

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        m.submodules.path = path = shared(data_path(design, self.hoisted))
        m.d.comb += path.mode.eq(self.mode)
        for name, component in zip(("a", "w"), path.edges, strict=True):
            given = getattr(self, name)
            if not self.hoisted:
                m.submodules[f"edge_{name}"] = edge = shared(component)
                m.d.comb += [edge.code.eq(given), edge.mode.eq(self.mode)]
                given = edge.o
            m.d.comb += getattr(path, name).eq(given)

        def late(value: Value, name: str) -> Value:
            return delayed(m, value, name, design.pipeline)

        en, clear = late(self.en, "en"), late(self.clear, "clear")
        following, events = next_sum(m, path, self.acc, self.mode, late)
        # A cycle with a NaN or an infinity only sets flags: gating the enable is cheaper than zeroing its terms.
        special = [value for event, value in events.items() if event in ("nan", "inf_pos", "inf_neg")]
        update = en & ~Cat(*special).any() if special and design.accumulator.kind != "fp32" else en
        last = late(self.last, "last") if self.drain else Const(0, 1)
        restart = clear | last if self.drain else clear
        state = Signal(self.acc.shape(), name="state", reset_less=True)
        m.d.comb += self.acc.eq(state)
        with m.If(restart):
            m.d.sync += state.eq(0)
        with m.Elif(update):
            m.d.sync += state.eq(following)
        raised = []
        for flag in design.flags:
            held, event = Signal(name=f"{flag}_flag", reset_less=True), Signal(name=f"{flag}_event")
            m.d.comb += [getattr(self, flag).eq(held), event.eq((update if flag == "overflow" else en) & events[flag])]
            raised.append(held | event)
            with m.If(restart):
                m.d.sync += held.eq(0)
            with m.Elif(event):
                m.d.sync += held.eq(1)
        if self.drain:
            result = Signal(len(self.o), name="result", reset_less=True)
            m.d.comb += self.o.eq(result)
            with m.If(last | self.shift):
                m.d.sync += result.eq(Mux(last, Cat(following, *raised), self.i))
        return m
