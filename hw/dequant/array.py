# amaranth: UnusedElaboratable=no
"""Rows and columns of bit-serial PEs with their dequantisers, behind streams.

::

    w {codes, group} ──► chunk register ──► TermDecoder x lanes x columns ──► terms ─────┐ down the columns
    a {codes}        ──► chunk register ──► ActivationEdge x rows ──► operands ──► PE ──► GroupDequantiser
                                                                     along the rows         │ capture
    o {value x columns} ◄── queue ◄── FixedToFp32 x columns ◄── rows, one after the other ◄─┘

A chunk is one activation and one weight a lane. It stays in its register for as many steps as its weights have terms.
A group's last step is held back until the dequantisers are free, and that of a channel until the queue has room for
all its rows: nothing behind that point ever has to wait.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant_streams import special_fields, special_terms
from bitkiln.models.design.weights import SPECIALS

from ..arith.fixed_to_fp32 import FixedToFp32
from ..arith.largest import largest
from ..emit import shared
from .activation import ActivationEdge, has_inf, has_nan
from .pe import BitSerialPe, flag_layout
from .scaler import GroupDequantiser, activation_sum_bits
from .terms import TermDecoder, special_layout, term_layout

__all__ = ["BitSerialArray", "activation_layout", "result_layout", "special_write_layout", "weight_layout"]


def weight_layout(design: BitSerialDesign) -> data.StructLayout:
    """A chunk of weights: codes by column and lane, and in a group's first chunk what holds for the group.

    ``emit`` goes with ``last``: the channel ends with this group (every group, where results are not summed).
    """
    group = {"type": max((len(design.weights) - 1).bit_length(), 1)}
    if special_terms(design):
        group["special"] = (SPECIALS - 1).bit_length()
    if design.scale_code_bits:
        group["scale"] = design.scale_code_bits
    if design.dual_scale:
        group["scale_negative"] = design.scale_code_bits
    if design.zero_point:
        group["zero"] = design.zero_point
    lanes = data.ArrayLayout(design.code_bits, design.lanes)
    return data.StructLayout({"codes": data.ArrayLayout(lanes, design.columns), "mask": design.lanes, "first": 1,
                              "last": 1, "emit": 1,
                              "groups": data.ArrayLayout(data.StructLayout(group), design.columns)})


def activation_layout(design: BitSerialDesign) -> data.ArrayLayout:
    """A chunk of activations: codes by row and lane."""
    return data.ArrayLayout(data.ArrayLayout(design.activation.bits, design.lanes), design.rows)


def result_layout(design: BitSerialDesign) -> data.StructLayout:
    """A row of results, row 0 first; ``last`` with the last row.

    ``raw``: the integer, the exponent (of two, beyond ``design.result_exponent``) where it varies, and flags.
    """
    if design.output == "fp32":
        value: data.Layout | int = 32
    else:
        fields = {"value": signed(design.result_bits)}
        if exponent_bits(design):
            fields["exponent"] = signed(exponent_bits(design))
        fields["flags"] = flag_layout(design)
        if design.floating_scale and design.specials:
            fields["scale_nan"] = 1
        value = data.StructLayout(fields)
    return data.StructLayout({"values": data.ArrayLayout(value, design.columns), "last": 1})


def special_write_layout(design: BitSerialDesign) -> data.StructLayout:
    """An entry of the special-value table of a type."""
    return data.StructLayout({**special_fields(design), "terms": special_layout(design)})


def exponent_bits(design: BitSerialDesign) -> int:
    """Signed width of the exponent that results have at run time; 0 for none."""
    # The top code of e8m0 is NaN: its exponent counts where specials are off, and shows where results are raw.
    e8m0 = 127 if design.specials and design.output == "fp32" else 128
    scale = {"e8m0": e8m0, "ue4m3": 8, "ue5m3": 16}.get(design.scale, 0)
    place = design.max_place
    return (scale + place).bit_length() + 1 if scale + place else 0


class BitSerialArray(wiring.Component):
    """The array.

    Latency: `latency` edges from a group's last step to its first row on ``o``; a chunk takes its terms' number of
    cycles, and the last step of a group waits for `design.scale_cycles` since the group before, that of a channel for
    ``rows`` since the channel before (`models.cost.cycles.bitserial` has the exact cycles).

    Parameters
    ----------
    design : BitSerialDesign

    Members
    -------
    w : In(stream of weight_layout), a : In(stream of activation_layout)
        Taken together.
    special : In(stream of special_write_layout), with types that have special values
        Taken only while ``busy`` is 0.
    o : Out(stream of result_layout)
    busy : Out(1)
        A channel has begun and its last result has not been taken yet.
    stalls : Out(32)
        Cycles in which a last step was held back.
    """

    def __init__(self, design: BitSerialDesign):
        self.design = design
        self.row = ActivationEdge(design)
        self.front = self.row.latency + design.pipeline   # edges from a step to its sum
        self.convert = FixedToFp32(design.result_bits, design.result_exponent, design.result_exponents) \
            if design.output == "fp32" else None
        behind = self.convert.latency if self.convert else 0
        # From a last step to the cycle in which its results stand at the dequantisers' outputs.
        self.capture_at = self.front + design.scale_cycles + 1
        self.latency = self.capture_at + (design.rows > 1) + behind + 2
        # Room for all results that can be under way at full rate, so that they never wait for each other.
        period = max(design.scale_cycles, design.rows, 1)
        under_way = -(-(self.latency + design.rows + 1) // period) + 1
        self.depth = 1 << (design.rows * under_way - 1).bit_length()
        members = {"w": In(stream.Signature(weight_layout(design))),
                   "a": In(stream.Signature(activation_layout(design))),
                   "o": Out(stream.Signature(result_layout(design))), "busy": Out(1), "stalls": Out(32)}
        if special_terms(design):
            members["special"] = In(stream.Signature(special_write_layout(design)))
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_array"

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"weights": [t.name for t in d.weights], "activation": d.activation.name, "lanes": d.lanes,
                "rows": d.rows, "columns": d.columns, "accumulate": d.accumulate, "scale": d.scale, "group": d.group,
                "groups": d.groups, "zero_point": d.zero_point, "dual_scale": d.dual_scale, "zero_skip": d.zero_skip,
                "specials": d.specials, "pipeline": d.pipeline, "output": d.output, "result_bits": d.result_bits,
                "result_exponent": d.result_exponent, "queue": self.depth}

    # Helpers -------------------------------------------------------------------------------------

    @staticmethod
    def _delay(m: Module, value: Value, edges: int, name: str, reset_less: bool = True) -> Value:
        for stage in range(edges):
            held = Signal(value.shape(), name=f"{name}_{stage + 1}", reset_less=reset_less)
            m.d.sync += held.eq(value)
            value = held
        return value

    def elaborate(self, platform) -> Module:
        m = Module()
        self._control(m)
        self._columns(m)
        self._rows(m)
        self._phases(m)
        self._results(m)
        return m

    def _control(self, m: Module) -> None:
        """Chunk registers, steps, and what a last step has to wait for."""
        design = self.design
        layout = weight_layout(design)
        self.chunk = chunk = Signal(data.StructLayout({n: layout[n].shape for n in ("codes", "mask", "first", "last",
                                                                                     "emit")}), reset_less=True)
        self.groups = groups = Signal(layout["groups"].shape, reset_less=True)
        self.codes = codes = Signal(activation_layout(design), reset_less=True)
        self.full = full = Signal()
        self.step = step = Signal(range(max(design.max_terms, 2)), reset_less=True)
        self.steps = Signal(range(design.max_terms + 1))          # of this chunk; driven by the columns
        self.ends = ends = Signal()                                # last step, and it happens
        hold, final = Signal(), Signal()
        self.go = go = Signal()
        m.d.comb += [final.eq(step + 1 == self.steps), hold.eq(final & chunk.last & self._blocked(m)),
                     go.eq(full & ~hold), ends.eq(go & final)]
        room = ~full | ends
        m.d.comb += [self.w.ready.eq(room & self.a.valid), self.a.ready.eq(room & self.w.valid)]
        take = self.w.valid & self.a.valid & room
        with m.If(take):
            m.d.sync += [chunk[name].eq(self.w.payload[name]) for name in ("codes", "mask", "first", "last", "emit")]
            m.d.sync += [codes.eq(self.a.payload), step.eq(0), full.eq(1)]
            with m.If(self.w.payload.first):
                m.d.sync += groups.eq(self.w.payload.groups)
        with m.Elif(ends):
            m.d.sync += full.eq(0)
        with m.If(go & ~final):
            m.d.sync += step.eq(step + 1)
        self.group_ends, self.channel_ends = Signal(), Signal()
        # A group, or a channel whose groups are summed, has begun and not ended.
        self.open = Signal()
        with m.If(take):
            m.d.sync += self.open.eq(1)
        with m.Elif(self.channel_ends):
            m.d.sync += self.open.eq(0)
        emit = chunk.emit if design.sums_channel else Const(1, 1)
        m.d.comb += [self.group_ends.eq(ends & chunk.last), self.channel_ends.eq(self.group_ends & emit)]
        with m.If(full & hold):
            m.d.sync += self.stalls.eq(self.stalls + 1)

    def _blocked(self, m: Module) -> Value:
        """Why a last step would have to wait: dequantisers at work, rows still leaving, no room for results."""
        design = self.design
        blocked: Value = Const(0, 1)
        self.waits = []
        emits = self.chunk.emit if design.sums_channel else Const(1, 1)
        for name, cycles, gate in (("scale", design.scale_cycles, Const(1, 1)), ("rows", design.rows, emits)):
            if cycles > 1:
                left = Signal(range(cycles), name=f"{name}_left")
                with m.If(left != 0):
                    m.d.sync += left.eq(left - 1)
                self.waits.append((left, cycles, gate))
                blocked = blocked | ((left != 0) & gate)
        self.promised = Signal(range(self.depth + 1))   # rows under way or in the queue
        blocked = blocked | ((self.promised > self.depth - design.rows) & emits)
        return blocked

    def _columns(self, m: Module) -> None:
        """Term decoders and what a column keeps for its group."""
        design = self.design
        edge = self.row.latency
        self.terms, self.zero, self.negative = [], [], []
        counts: list[Value] = []
        table = None
        if special_terms(design):
            table = self._special_table(m)
        for column in range(design.columns):
            group = self.groups[column]
            terms = Signal(data.ArrayLayout(term_layout(design), design.lanes), name=f"terms{column}")
            zero, negative = Signal(design.lanes, name=f"zero{column}"), Signal(design.lanes, name=f"negative{column}")
            special = None
            if table is not None:
                special = Signal(special_layout(design), name=f"special{column}")
                m.d.comb += special.eq(Array(table)[Cat(group.special, group.type)])
            for lane in range(design.lanes):
                m.submodules[f"terms{column}_{lane}"] = decoder = shared(TermDecoder(design))
                m.d.comb += [decoder.code.eq(self.chunk.codes[column][lane]), decoder.type.eq(group.type),
                             decoder.step.eq(self.step), terms[lane].eq(decoder.term),
                             terms[lane].valid.eq(decoder.term.valid & self.chunk.mask[lane] & self.go)]
                if table is not None:
                    m.d.comb += decoder.special.eq(special)
                if design.zero_skip:
                    counts.append(decoder.count & self.chunk.mask[lane].replicate(len(decoder.count)))
                if decoder.has_flags:
                    if design.zero_point:
                        m.d.comb += decoder.zero_point.eq(group.zero)
                    nothing: Value = decoder.zero
                    if design.dual_scale:
                        nothing = nothing | Mux(decoder.negative, group.scale_negative == 0, group.scale == 0)
                    elif design.scale_bits:
                        nothing = nothing | (group.scale == 0)
                    m.d.comb += [zero[lane].eq(nothing), negative[lane].eq(decoder.negative)]
            self.terms.append(self._delay(m, terms.as_value(), edge, f"terms{column}"))
            self.zero.append(self._delay(m, zero, edge, f"zero{column}"))
            self.negative.append(self._delay(m, negative, edge, f"negative{column}"))
        if design.zero_skip:
            m.d.comb += self.steps.eq(largest(m, "count", [Const(1, 1), *counts]))
        else:
            needs: list[Value] = []
            for column in range(design.columns):
                need: Value = Const(design.weights[-1].terms)
                for index in reversed(range(len(design.weights) - 1)):
                    need = Mux(self.groups[column].type == index, design.weights[index].terms, need)
                needs.append(need)
            m.d.comb += self.steps.eq(largest(m, "need", needs))

    def _special_table(self, m: Module) -> list[Signal]:
        """Registers of the special values, by type and entry; written while nothing is under way."""
        design = self.design
        table = []
        for index, weight in enumerate(design.weights):
            for entry in range(SPECIALS):
                value = weight.specials[entry] if entry < len(weight.specials) else 0
                word = 0
                if weight.special_code is not None:
                    layout = term_layout(design)
                    for at, term in enumerate(weight.check_special(value)):
                        fields = 1 << layout["valid"].offset | term.negative << layout["neg"].offset \
                            | (term.shift + design.offset(index)) << layout["shift"].offset
                        word |= fields << at * layout.size
                    register = Signal(special_layout(design), init=special_layout(design).from_bits(word),
                                      name=f"special_{index}_{entry}")
                    write = self.special.payload
                    with m.If(self.special.valid & self.special.ready & (write.type == index)
                              & (write.entry == entry)):
                        m.d.sync += register.eq(write.terms)
                    table.append(register)
                else:
                    table.append(Const(0, special_layout(design).size))
        m.d.comb += self.special.ready.eq(~self.busy)
        return table

    def _rows(self, m: Module) -> None:
        """Edges of the rows, PEs and dequantisers."""
        design, edge, front = self.design, self.row.latency, self.front
        first_step = self.step == 0
        self.load = self._delay(m, self.group_ends, front, "load", False)
        self.channel_load = self._delay(m, self.channel_ends, front, "channel_load", False)
        en = self._delay(m, self.go, front, "en", False)
        # Without scales the sum goes on until the channel ends.
        last = self.channel_load if design.scale == "none" and design.sums_channel else self.load
        check = self._delay(m, self.go & first_step, edge, "check", False)
        self.dequantisers, self.sums, self.places = [], [], []
        for r in range(design.rows):
            m.submodules[f"row{r}"] = row = shared(ActivationEdge(design))
            m.d.comb += [row.a.eq(self.codes[r].as_value()), row.mask.eq(self.chunk.mask),
                         row.first.eq(self.chunk.first), row.en.eq(self.go & first_step)]
            operands = row.operands
            drop = self._delay(m, row.drop, design.pipeline, f"drop{r}") if row.aligned else None
            if row.aligned:
                self.places.append([self._delay(m, row.place, design.pipeline, f"place{r}")])
            if design.zero_point:
                self.sums.append(self._activation_sum(m, r, row, check))
            line, places = [], []
            for c in range(design.columns):
                m.submodules[f"pe{r}_{c}"] = pe = shared(BitSerialPe(design))
                m.submodules[f"scale{r}_{c}"] = scaler = shared(GroupDequantiser(design))
                m.d.comb += [pe.operands.eq(operands), pe.terms.eq(self.terms[c]), pe.en.eq(en), pe.last.eq(last),
                             scaler.load.eq(self.load), scaler.sum.eq(pe.sum)]
                if drop is not None:
                    m.d.comb += pe.drop.eq(drop)
                if has_nan(design):
                    m.d.comb += [pe.nan.eq(row.nan), pe.check.eq(check), scaler.flags.eq(pe.flags)]
                if has_inf(design):
                    m.d.comb += pe.zero.eq(self.zero[c])
                if has_inf(design) or design.dual_scale:
                    m.d.comb += pe.negative.eq(self.negative[c])
                if design.dual_scale:
                    m.d.comb += scaler.sum_negative.eq(pe.sum_negative)
                line.append(scaler)
                if design.accumulate == "floating":
                    places.append(pe.place)
            self.dequantisers.append(line)
            if places:
                self.places.append(places)

    def _activation_sum(self, m: Module, r: int, row, check: Value) -> Value:
        """Sum of a row's activations over the group; at ``load`` it goes to the scale phase and moves up there."""
        design = self.design
        total = Signal(signed(row.total_bits), name=f"total{r}")
        m.d.comb += total.eq(Mux(check, row.total, 0))
        # A part that is under way goes with a reset: it would be added to the first group behind it.
        part = self._delay(m, total, design.pipeline, f"total{r}", False)
        width = 1 + (design.max_operand * design.group).bit_length()
        held = Signal(signed(width), name=f"activations{r}")
        new = Signal(signed(width), name=f"activations{r}_new")
        m.d.comb += new.eq(held + part)
        m.d.sync += held.eq(Mux(self.load, 0, new))
        moving = Signal(signed(activation_sum_bits(design)), name=f"moving{r}", reset_less=True)
        with m.If(self.load):
            m.d.sync += moving.eq(new << design.zero_shift)
        with m.Else():
            m.d.sync += moving.eq(moving << 1)
        return moving

    def _phases(self, m: Module) -> None:
        """Bits of zero-points and scales, the same phase in all dequantisers."""
        design = self.design
        self.group_line = groups = self._delay(m, self.groups.as_value(), self.front, "groups")
        done = self._delay(m, self.channel_load, design.scale_cycles + 1, "done", False)
        self.captured = done
        if not design.scale_bits:
            return
        cycles = design.scale_cycles
        place = Signal(range(cycles + 1))   # phase cycles left
        with m.If(self.load):
            m.d.sync += place.eq(cycles)
        with m.Elif(place != 0):
            m.d.sync += place.eq(place - 1)
        start, zeroing, scaling = Signal(), Signal(), Signal()
        m.d.comb += [start.eq(place == cycles), scaling.eq((place != 0) & ~zeroing)]
        if design.zero_point:
            m.d.comb += zeroing.eq(place > cycles - design.zero_point)
        # Where the group that starts is the channel's last, the next one begins a new channel.
        ending, fresh = self._delay(m, self.channel_load, 1, "ending", False), Signal(init=1)
        with m.If(start):
            m.d.sync += fresh.eq(ending)
        for c in range(design.columns):
            bits = Signal(cycles, name=f"bits{c}", reset_less=True)
            parts = []
            group = data.View(self.groups.shape(), groups)[c]
            if design.zero_point:
                parts.append(group.zero)
            parts.append(self._significand(group.scale))
            if design.dual_scale:
                parts.append(group.scale_negative)
            with m.If(self.load):
                m.d.sync += bits.eq(Cat(*parts))
            with m.Else():
                m.d.sync += bits.eq(bits >> 1)
            for line in self.dequantisers:
                scaler = line[c]
                m.d.comb += [scaler.bit.eq(bits[0]), scaler.scaling.eq(scaling), scaler.start.eq(start)]
                if scaler.form == "accumulate":
                    m.d.comb += scaler.fresh.eq(fresh)
                if design.zero_point:
                    last_zero = place == cycles - design.zero_point + 1
                    m.d.comb += [scaler.zeroing.eq(zeroing), scaler.last_zero.eq(last_zero)]
                if design.dual_scale:
                    m.d.comb += scaler.second.eq(place == design.scale_bits + 1)
        if design.zero_point:
            for r, line in enumerate(self.dequantisers):
                for scaler in line:
                    m.d.comb += scaler.activations.eq(self.sums[r])

    def _significand(self, scale: Value) -> Value:
        """What is multiplied: an integer scale itself, of a floating one the significand."""
        if not self.design.floating_scale:
            return scale
        return Cat(scale[:3], scale[3:].any())

    def _scale_exponent(self, scale: Value) -> Value:
        """Exponent of a floating scale, its significand being an integer of eighths."""
        if self.design.scale == "e8m0":
            return (scale - 127).as_signed()
        field, bias = scale[3:], {"ue4m3": 7, "ue5m3": 15}[self.design.scale]
        return (Mux(field.any(), field, 1) - bias).as_signed()

    def _scale_nan(self, scale: Value) -> Value:
        return scale.all()

    def _results(self, m: Module) -> None:
        """Rows leave one after the other, are rounded, and wait in the queue."""
        design = self.design
        rows, columns = design.rows, design.columns
        flags = flag_layout(design)
        # What a row sends: integer, flags, and the row's place.
        fields = {"value": signed(design.result_bits), "flags": flags}
        item = data.StructLayout(fields)
        line = data.StructLayout({"items": data.ArrayLayout(item, columns), "places": data.ArrayLayout(
            design.max_place.bit_length(), len(self.places[0]) if self.places else 0)})
        # Places and scale exponents, from the load to the capture, as the phase goes by.
        behind = design.scale_cycles
        sources = []
        for r in range(rows):
            source = Signal(line, name=f"source{r}")
            for c in range(columns):
                scaler = self.dequantisers[r][c]
                m.d.comb += source.items[c].value.eq(scaler.result)
                if has_nan(design):
                    m.d.comb += source.items[c].flags.eq(scaler.result_flags)
            for i, place in enumerate(self.places[r] if self.places else ()):
                m.d.comb += source.places[i].eq(self._since_load(m, place, f"place{r}_{i}", behind))
            sources.append(source)
        exponents: list[Value] = []
        nans: list[Value] = []
        if design.floating_scale:
            for c in range(columns):
                scale = self._since_load(m, data.View(self.groups.shape(), self.group_line)[c].scale, f"scale{c}",
                                         behind)
                exponents.append(self._scale_exponent(scale))
                nans.append(self._scale_nan(scale) if design.specials else Const(0, 1))
        valid: Value = self.captured
        last: Value = Const(1, 1)
        if rows > 1:
            chain = [Signal(line, name=f"chain{r}", reset_less=True) for r in range(rows)]
            left = Signal(range(rows + 1))
            with m.If(self.captured):
                m.d.sync += left.eq(rows)
                m.d.sync += [register.eq(source) for register, source in zip(chain, sources, strict=True)]
            with m.Else():
                m.d.sync += [register.eq(following) for register, following in zip(chain, chain[1:], strict=False)]
                with m.If(left != 0):
                    m.d.sync += left.eq(left - 1)
            head: Value = chain[0]
            valid, last = left != 0, left == 1
            held_exponents, held_nans = [], []
            for c, (exponent, nan) in enumerate(zip(exponents, nans, strict=True)):
                for name, value, into in (("exponent", exponent, held_exponents), ("scale_nan", nan, held_nans)):
                    register = Signal(value.shape(), name=f"{name}{c}", reset_less=True)
                    with m.If(self.captured):
                        m.d.sync += register.eq(value)
                    into.append(register)
            exponents, nans = held_exponents, held_nans
        else:
            head = sources[0]
        self._round_and_queue(m, head, exponents, nans, valid, last)

    def _since_load(self, m: Module, value: Value, name: str, behind: int) -> Value:
        """What ``value`` was in the load cycle, in the capture cycle."""
        held = Signal(value.shape(), name=f"{name}_loaded", reset_less=True)
        with m.If(self.load):
            m.d.sync += held.eq(value)
        if not behind:
            return held
        # The next load may come in the last cycle of the phase.
        kept = Signal(value.shape(), name=f"{name}_kept", reset_less=True)
        m.d.sync += kept.eq(held)
        return kept

    def _round_and_queue(self, m: Module, head, exponents: list, nans: list, valid: Value, last: Value) -> None:
        design = self.design
        layout = result_layout(design)
        word = Signal(layout, name="word")
        for c in range(design.columns):
            item = head.items[c]
            exponent: Value = exponents[c] if exponents else Const(0, 1)
            if self.places:
                exponent = exponent + head.places[c if len(head.places) > 1 else 0]
            if self.convert is None:
                m.d.comb += word.values[c].value.eq(item.value)
                if exponent_bits(design):
                    m.d.comb += word.values[c].exponent.eq(exponent)
                if has_nan(design):
                    m.d.comb += word.values[c].flags.eq(item.flags)
                if design.floating_scale and design.specials:
                    m.d.comb += word.values[c].scale_nan.eq(nans[c])
                continue
            m.submodules[f"convert{c}"] = convert = shared(
                FixedToFp32(design.result_bits, design.result_exponent, design.result_exponents))
            m.d.comb += [convert.i.eq(item.value), word.values[c].eq(convert.o)]
            if exponent_bits(design):
                m.d.comb += convert.exponent.eq(exponent)
            nan: Value = nans[c] if nans else Const(0, 1)
            if has_nan(design):
                nan = nan | item.flags.nan
            m.d.comb += convert.nan.eq(nan)
            if has_inf(design):
                m.d.comb += [convert.pos.eq(item.flags.pos), convert.neg.eq(item.flags.neg)]
        edges = self.convert.latency if self.convert else 0
        arrives = self._delay(m, valid, edges, "arrives", False)
        m.d.comb += word.last.eq(self._delay(m, last, edges, "last"))
        self._queue(m, word, arrives)

    def _queue(self, m: Module, word: Signal, arrives: Value) -> None:
        """Results wait in a memory; the one on ``o`` in a register."""
        depth = self.depth
        take = self.o.valid & self.o.ready
        m.submodules.queue = memory = Memory(shape=len(word.as_value()), depth=depth, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        head, tail, level = Signal(range(depth)), Signal(range(depth)), Signal(range(depth + 1))
        fill = Signal()
        m.d.comb += [write.addr.eq(tail), write.data.eq(word.as_value()), write.en.eq(arrives), read.addr.eq(head),
                     fill.eq((level != 0) & (~self.o.valid | self.o.ready))]
        with m.If(arrives):
            m.d.sync += tail.eq(tail + 1)
        with m.If(fill):
            m.d.sync += [head.eq(head + 1), self.o.valid.eq(1), self.o.payload.eq(read.data)]
        with m.Elif(take):
            m.d.sync += self.o.valid.eq(0)
        m.d.sync += level.eq(level + arrives - fill)
        m.d.sync += self.promised.eq(self.promised + Mux(self.channel_ends, self.design.rows, 0) - take)
        m.d.comb += self.busy.eq(self.open | (self.promised != 0))
        for left, cycles, gate in self.waits:
            with m.If(self.group_ends & gate):
                m.d.sync += left.eq(cycles - 1)
