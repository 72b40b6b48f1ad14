# amaranth: UnusedElaboratable=no
"""Output stage of the matmul core: one lane, from a sum and its parameters to a result code each cycle.

Exact sums::

    acc ─► fold ─► + C + bias ─┬─► FixedToFloat ─┬─► Scaler ─► FloatClamp ─► Encoder ─► o
    c, bias ────────────────┘  └─► delay ────────┘ (one multiplier and one shifter for both rules)
                               └─► delay ────────────────────────────────────────────► raw

float32 sums and blocks (``f`` is the memory of partial sums, one for each slot)::

    acc * scales ─► FixedToFloat ─► FloatAdd(f) ─► FloatAdd(C) ─► FloatAdd(bias) ─► FloatUnpack ─► Scaler ...
                                    f ◄──┘

Only what the design's modes, rules and formats need is there. The latency is the same for every job.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.matmul import INTEGER_BITS
from bitkiln.models.formats import BlockScaled, Format, get_group_format
from bitkiln.models.formats.minifloat import PowerOfTwo

from ..arith.delay import DelayLine
from ..arith.float_add import FloatAdd, addend
from ..arith.float_clamp import FloatClamp
from ..arith.float_convert import BIAS, SIGNIFICAND_BITS, FixedToFloat, FloatUnpack
from ..arith.pipeline import Pipeline
from ..arith.scale import MULTIPLIER_BITS, Scaler
from ..emit import shared
from ..formats.encode import Encoder, choose

__all__ = ["OutputLane", "output_job_layout", "output_layout"]

RAW, INTEGER = 0, 1        # values of the job's rule
LEAST_EXPONENT = -149     # of float32; sums of finer units are rounded at a fixed place
JAM_BITS = SIGNIFICAND_BITS + 2


def slot_count(design: MatmulDesign) -> int:
    """Partial sums of a lane: a row takes a power of two."""
    groups = -(-design.columns // design.output_lanes)
    return design.rows << (groups - 1).bit_length()


def output_layout(design: MatmulDesign) -> data.StructLayout:
    """What accompanies one sum: per-channel parameters, C, block scales and the place of the block's sum."""
    fields: dict[str, object] = {"acc": design.pe.accumulator_bits}
    if design.pe.flags:
        fields["flags"] = len(design.pe.flags)
    if design.accumulate:
        fields["c"] = design.raw_bits
    fields.update(bias=32, scale=32, shift=6)
    if design.block:
        fields.update(sa=8, sw=8, slot=max((slot_count(design) - 1).bit_length(), 1), first=1, last=1)
    return data.StructLayout(fields)


def output_job_layout(design: MatmulDesign) -> data.StructLayout:
    """What is the same for all sums of a job."""
    return data.StructLayout({
        "mode": design.pe.mode_bits, "rule": 2, "output": max((len(design.outputs) - 1).bit_length(), 1), "clamp": 1,
        "bias": 1, "accumulate": 1, "block": max(len(design.block).bit_length(), 1), "bias_shift": 4,
        "zero_point": signed(16), "clamp_low": 32, "clamp_high": 32})


class _Scale:
    """A block scale as ``significand * 2**(field - bias - mantissa bits)``."""

    def __init__(self, fmt: Format, code: Value):
        field = code[fmt.mantissa_bits:fmt.bits]
        mantissa = code[:fmt.mantissa_bits]
        normal = Const(1, 1) if isinstance(fmt, PowerOfTwo) else field.any()
        self.field = Cat(field[0] | ~normal, field[1:])
        self.significand = Cat(mantissa, normal)
        self.nan = code[:fmt.bits] == fmt.nan_code if fmt.specials == "nan" \
            else field.all() if fmt.specials == "ieee" else Const(0, 1)
        self.exponent = -fmt.bias - fmt.mantissa_bits


class OutputLane(wiring.Component):
    """One lane of the output stage; one sum each enabled cycle.

    Parameters
    ----------
    design : MatmulDesign
    multiplier : str
        ``operator``: synthesis may use DSP blocks; ``chains``: carry chains.

    Attributes
    ----------
    latency : int
        Edges from ``i`` to ``o``, the same for every job.
    block_loop : int
        Two sums of one slot are at least so many enabled edges apart.

    Members
    -------
    en : In(1)
        All registers advance with it.
    i : In(output_layout(design))
        ``flags`` in the order of ``design.pe.flags``; ``bias`` and ``scale`` are integers or float32 codes by the
        job's rule and sums.
    valid : In(1)
        Accompanies ``i``; only the partial sums of blocks depend on it.
    job : In(output_job_layout(design))
        Static while a sum of the job is inside; ``block`` is 0 or an index plus 1.
    o : Out
        Result code in the low bits, zeros above. With blocks only that of a slot's last sum means something.
    invalid : Out(1)
        NaN in a format without one, or (integer rule) NaN or an infinity.
    overflow : Out(1)
        The accumulator's overflow flag.

    Notes
    -----
    The integer rule takes 48 bits: all of a sum in every mode that may use it, unless C or the bias drive it further;
    then it saturates there.
    """

    reset_less = True

    def __init__(self, design: MatmulDesign, multiplier: str = "operator"):
        self.design, self.multiplier = design, multiplier
        pe = design.pe
        self.exact = not design.floating
        names = [name for name in design.outputs if name != "fp32"]
        self.floating = "float" in design.rules
        self.groups: list[BlockScaled] = [get_group_format(name) for name in design.block]
        ints = [name for name in names if design.output_format(name).family == "int"]
        modes = [mode for mode in pe.modes if pe.dot(mode).accumulator_bits <= INTEGER_BITS]
        self.scaled = "integer" in design.rules and self.exact and bool(ints) and bool(modes)
        # Formats that the encoder knows, as (index among the outputs, format).
        self.encoded = [(design.outputs.index(name), design.output_format(name))
                        for name in (names if self.floating else ints if self.scaled else ())]
        added = design.accumulate or design.bias
        self.sum_bits = 32 if design.floating else design.raw_bits if added else pe.result_bits
        self.integer_bits = min(self.sum_bits, INTEGER_BITS) if self.scaled else 0
        exponents = [pe.dot(mode).product_exponent for mode in pe.modes]
        self.exponents = exponents
        # Sums that float32's least bit or a block scale may cut are rounded by the adder.
        self.by_adder = self.exact and (bool(self.groups) or (self.floating and min(exponents) < LEAST_EXPONENT))
        self.block_bits = max((1 + (group.block_size * pe.dot(group.element.name).max_product).bit_length()
                               for group in self.groups), default=0)
        self.factor_bits = max((2 * (1 + group.scale.mantissa_bits) for group in self.groups
                                if group.scale.mantissa_bits), default=0)
        self.block_loop = design.block_loop  # read, align, add, round and write
        self.code_bits = max([design.raw_bits] * ("raw" in design.rules)
                             + [design.output_format(name).bits for name in design.outputs]
                             * bool(self.floating or self.scaled))
        super().__init__({"en": In(1), "i": In(output_layout(design)), "valid": In(1),
                          "job": In(output_job_layout(design)), "o": Out(self.code_bits), "invalid": Out(1),
                          "overflow": Out(1)})
        self._plan()

    @property
    def module_name(self) -> str:
        d = self.design
        parts = ["output", d.pe.name, f"s{slot_count(d)}" if d.block else "", "".join(rule[0] for rule in d.rules)]
        parts += ["to", *d.outputs] if self.floating or self.scaled else []
        parts += ["bias"] * d.bias + ["acc"] * d.accumulate + list(d.block) + [self.multiplier[0]]
        return "_".join(part for part in parts if part)

    # Stages ----------------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Number of registers before each part."""
        design = self.design
        folds = any(len(design.pe.sections(mode)) > 1 for mode in design.pe.modes)
        at = int(folds)
        if self.exact and (design.accumulate or design.bias):
            at = 2
        self.sum_at = at
        if self.exact and (self.floating or self.by_adder):
            if self.by_adder:
                at += bool(self.factor_bits)
                width = max(self.sum_bits, self.block_bits + self.factor_bits)
                self.keep = max(JAM_BITS, self.block_bits + self.factor_bits)
                self.convert = FixedToFloat(width, self.keep, rounded=False)
                self.convert_at = at
                at += self.convert.latency
                self.adder_at = at
                at += FloatAdd.latency
            else:
                self.convert = FixedToFloat(self.sum_bits)
                self.convert_at = at
                at += self.convert.latency
        float_adds = not self.exact or bool(self.groups)
        self.c_at = self.bias_at = at
        if float_adds and design.accumulate:
            self.c_at = at
            at += FloatAdd.latency
        if float_adds and design.bias:
            self.bias_at = at
            at += FloatAdd.latency
        self.float_sum_at = at
        if self.floating and (self.by_adder or not self.exact):
            at += FloatUnpack.latency
        self.scale_at = at
        if self.floating or self.scaled:
            self.scaler = Scaler(self.integer_bits, self.floating, self.multiplier)
            at += self.scaler.latency
        self.clamp_at = at
        at += FloatClamp.latency * self.floating
        self.encode_at = at
        if self.encoded:
            self.encoder = Encoder([fmt for _, fmt in self.encoded], self.floating, self.scaled)
            at += self.encoder.latency
        self.latency = at

    def elaborate(self, platform) -> Module:
        m = Module()
        pipe = Pipeline(m, self.en)
        i, job, design = self.i, self.job, self.design
        for name in ("bias", "scale", "shift"):
            pipe.put(name, getattr(i, name), 0)
        if design.accumulate:
            pipe.put("c", i.c, 0)
        # Of a block: its sums take another way than exact ones.
        self.in_block = job.block != 0 if self.groups else Const(0, 1)
        if self.exact:
            self._flags(pipe)
            pipe.put("sum", self._sum(m, pipe), self.sum_at)
        else:
            pipe.put("f", i.acc, 0)
        if self.by_adder:
            self._rounded_sum(m, pipe)
        if not self.exact or self.groups:
            self._float_adds(m, pipe)

        o: Value = Const(0, self.code_bits)
        if self.floating or self.scaled:
            o = self._code(m, pipe)
        if "raw" in design.rules:
            raw = self._raw(m, pipe)
            o = Mux(job.rule == RAW, raw, o) if len(design.rules) > 1 else raw
        m.d.comb += self.o.eq(o)
        if "overflow" in design.pe.flags:
            pipe.put("overflow", self._flag("overflow"), 0)
            m.d.comb += self.overflow.eq(pipe.at("overflow", self.latency))
        return m

    def _later(self, m: Module, pipe: Pipeline, name: str, at: int, bits: int | None = None) -> Value:
        """A wide value (its low bits) much later, out of a memory where that is smaller."""
        start = pipe.first(name)
        line = DelayLine(bits or len(pipe.at(name, start)), at - start)
        if not line.in_memory:
            return pipe.at(name, at)[:line.width]
        m.submodules[f"delay_{name}_{at}"] = unit = shared(line)
        m.d.comb += [unit.en.eq(self.en), unit.i.eq(pipe.at(name, start))]
        return unit.o

    # Exact sums --------------------------------------------------------------------------------------

    def _flag(self, name: str) -> Value:
        """A flag of the PE; 0 where it has none of that name."""
        flags = self.design.pe.flags
        return self.i.flags[flags.index(name)] if name in flags else Const(0, 1)

    def _flags(self, pipe: Pipeline) -> None:
        """NaN and infinities of the PE and of C; at most one is set."""
        nan, plus, minus, at = self._flag("nan"), self._flag("inf_pos"), self._flag("inf_neg"), 0
        if self.design.accumulate and self.design.pe.accumulator.kind == "exact":
            c, active, at = self.i.c, self.job.accumulate & ~self.in_block, 1
            lowest, highest = active & c[-1] & ~c[1:-1].any(), active & ~c[-1] & c[:-1].all()
            nan = pipe.hold(nan | (lowest & ~c[0]), "nan_1")
            plus, minus = pipe.hold(plus | highest, "plus_1"), pipe.hold(minus | (lowest & c[0]), "minus_1")
        nan = nan | (plus & minus)
        for name, flag in (("nan", nan), ("plus", plus & ~nan), ("minus", minus & ~nan)):
            pipe.put(name, flag, at)

    def _sum(self, m: Module, pipe: Pipeline) -> Value:
        """Sections, C and bias added, at `sum_at`."""
        design, job, i, bits = self.design, self.job, self.i, self.sum_bits
        pe = design.pe
        folded: dict[tuple[int, ...], Value] = {}
        for mode in pe.modes:
            places = pe.sections(mode)
            if places not in folded:
                ends = (*places[1:], pe.accumulator_bits)
                parts: list[Value] = [i.acc[low:high].as_signed() for low, high in zip(places, ends, strict=True)]
                while len(parts) > 1:
                    parts = [parts[k] + parts[k + 1] if k + 1 < len(parts) else parts[k]
                             for k in range(0, len(parts), 2)]
                folded[places] = parts[0]
        value = Signal(signed(bits), name="folded")
        m.d.comb += value.eq(choose(job.mode, [folded[pe.sections(mode)] for mode in pe.modes]))
        if self.sum_at:
            value = pipe.hold(value, "folded_1")
        if self.sum_at < 2:
            return value
        terms = []
        if design.accumulate:
            terms.append(i.c & (job.accumulate & ~self.in_block).replicate(bits))
        if design.bias:
            gated = (i.bias & (job.bias & ~self.in_block).replicate(32)).as_signed()
            moved = Signal(signed(bits), name="bias_moved")
            # Whole bytes; nothing is left of what passes the top.
            m.d.comb += moved.eq((gated << Cat(Const(0, 3), job.bias_shift))[:bits].as_signed())
            terms.append(moved)
        other, total = Signal(signed(bits), name="other"), Signal(signed(bits), name="total")
        m.d.comb += other.eq(terms[0] + terms[1] if len(terms) > 1 else terms[0])
        m.d.comb += total.eq(value + pipe.hold(other, "other_1"))
        return pipe.hold(total, "total_2")

    def _raw(self, m: Module, pipe: Pipeline) -> Value:
        """Raw code at the end."""
        bits, at = self.design.raw_bits, self.float_sum_at
        if not self.exact:
            return self._later(m, pipe, "f", self.latency)
        code = Signal(signed(bits), name="raw_sum")
        m.d.comb += code.eq(pipe.at("sum", self.sum_at))
        if self.design.pe.accumulator.kind == "exact":
            top = 1 << (bits - 1)
            for name, special in (("nan", top), ("plus", top - 1), ("minus", top + 1)):
                code = Mux(pipe.at(name, self.sum_at), Const(special, bits), code.as_unsigned())
        pipe.put("raw", code, self.sum_at)
        if self.groups:
            later = self._later(m, pipe, "raw", at)
            pipe.put("raw", Mux(self.in_block, pipe.at("f", at), later), at)
        return self._later(m, pipe, "raw", self.latency)

    # float32 sums ------------------------------------------------------------------------------------

    def _weight(self, extra: Value | int = 0) -> Value:
        """Exponent field of the highest bit of what `convert` takes."""
        top = BIAS + self.convert.width - 2
        return choose(self.job.mode, [top + exponent for exponent in self.exponents]) + extra

    def _rounded_sum(self, m: Module, pipe: Pipeline) -> None:
        """Partial sums of blocks, and all sums that float32 cannot hold to their last bit, rounded by the adder."""
        i, job, at = self.i, self.job, self.adder_at
        m.submodules.convert = convert = shared(self.convert)
        m.submodules.add = add = shared(FloatAdd(self.keep))
        m.d.comb += [convert.en.eq(self.en), add.en.eq(self.en)]
        value, nan = pipe.at("sum", self.sum_at), pipe.at("nan", at)
        exponent: Value = Const(0, 1)
        start: Value = Const(0, 32)
        if self.groups:
            for name in ("sa", "sw", "slot", "first"):
                pipe.put(name, getattr(i, name), 0)
            pipe.put("valid", self.valid, 0)
            # Block 0: none.
            def of_group(values: list[Value | int]) -> Value:
                return choose(job.block, [Const(0, 1), *values])

            def scales(stage: int) -> list[tuple[_Scale, _Scale]]:
                codes = pipe.at("sa", stage), pipe.at("sw", stage)
                return [tuple(_Scale(group.scale, code) for code in codes) for group in self.groups]

            if self.factor_bits:
                factor = Signal(self.factor_bits)
                m.d.comb += factor.eq(of_group([a.significand * w.significand for a, w in scales(self.sum_at)]))
                product = pipe.hold(value[:self.block_bits].as_signed() * factor, "block_product")
                scaled = of_group([int(group.scale.mantissa_bits > 0) for group in self.groups])
                value = Mux(scaled, product, pipe.at("sum", self.sum_at + 1))
            stage = self.convert_at + self.convert.weight_stage
            exponent = of_group([a.field + w.field + 2 * a.exponent for a, w in scales(stage - 1)])
            exponent = pipe.hold(exponent, "block_exponent")
            nan = nan | of_group([a.nan | w.nan for a, w in scales(at)])
            m.submodules.sums = memory = Memory(shape=32, depth=slot_count(self.design), init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [read.addr.eq(pipe.at("slot", at - 1)), read.en.eq(self.en),
                         write.addr.eq(pipe.at("slot", at + 2)), write.data.eq(add.following),
                         write.en.eq(self.en & self.in_block & pipe.at("valid", at + 2))]
            start = Mux(self.in_block & ~pipe.at("first", at), read.data, 0)
        infinite = pipe.at("plus", at) | pipe.at("minus", at)
        m.d.comb += [
            convert.i.eq(value), convert.weight.eq(self._weight(exponent)), add.a.eq(start),
            add.b_sign.eq(Mux(infinite, pipe.at("minus", at), convert.sign & convert.significand[-1])),
            add.b_exponent.eq(convert.exponent), add.b_significand.eq(convert.significand),
            add.b_nan.eq(nan), add.b_inf.eq(infinite)]
        pipe.put("f", add.o, at + add.latency)

    def _float_adds(self, m: Module, pipe: Pipeline) -> None:
        """C and bias added to float32 sums."""
        design, job = self.design, self.job
        for name, here, at in (("c", design.accumulate, self.c_at), ("bias", design.bias, self.bias_at)):
            if not here:
                continue
            asked = job.accumulate if name == "c" else job.bias
            m.submodules[f"add_{name}"] = add = shared(FloatAdd())
            m.d.comb += [add.en.eq(self.en), add.a.eq(pipe.at("f", at))]
            addend(m, add, self._later(m, pipe, name, at, 32), asked & self.in_block if self.exact else asked)
            pipe.put("f", add.o, at + add.latency)

    # Rules -------------------------------------------------------------------------------------------

    def _code(self, m: Module, pipe: Pipeline) -> Value:
        """Scaled, limited, encoded; also drives ``invalid``."""
        design, job, at = self.design, self.job, self.scale_at
        m.submodules.scale = scaler = shared(self.scaler)
        m.d.comb += scaler.en.eq(self.en)
        integer = job.rule == INTEGER if self.floating else Const(1, 1)
        if self.scaled:
            scale = self._later(m, pipe, "scale", at) if not self.floating else pipe.at("scale", at)
            pipe.put("narrow", self._saturated(pipe.at("sum", self.sum_at)), self.sum_at)
            m.d.comb += [scaler.s.eq(pipe.at("narrow", at)), scaler.multiplier.eq(scale[:MULTIPLIER_BITS]),
                         scaler.shift.eq(pipe.at("shift", at))]
        if self.floating:
            self._operands(m, pipe, scaler)
            if self.scaled:
                m.d.comb += scaler.integer.eq(integer)
            m.submodules.clamp = clamp = shared(FloatClamp())
            m.d.comb += [clamp.en.eq(self.en), clamp.i.eq(scaler.g), clamp.active.eq(job.clamp),
                         clamp.low.eq(job.clamp_low), clamp.high.eq(job.clamp_high)]
            pipe.put("g", clamp.o, self.encode_at)
        if not self.encoded:
            return pipe.at("g", self.latency)

        m.submodules.encode = encoder = shared(self.encoder)
        places = [index for index, _ in self.encoded]
        m.d.comb += [encoder.en.eq(self.en), encoder.zero_point.eq(job.zero_point), encoder.index.eq(
            choose(job.output, [places.index(at) if at in places else 0 for at in range(len(design.outputs))]))]
        invalid = encoder.invalid
        if self.scaled:
            entry = self.encode_at + self.encoder.q_stage
            for name in ("q", "up", "big", "negative"):
                pipe.put(name, getattr(scaler, name), self.clamp_at)
            infinite = pipe.at("plus", entry) | pipe.at("minus", entry)
            m.d.comb += [
                encoder.q.eq(pipe.at("q", entry)), encoder.up.eq(pipe.at("up", entry)),
                encoder.big.eq(pipe.at("big", entry) | infinite), encoder.nan.eq(pipe.at("nan", entry)),
                encoder.negative.eq(Mux(infinite, pipe.at("minus", entry), pipe.at("negative", entry))),
                encoder.clamp.eq(job.clamp), encoder.low.eq(job.clamp_low), encoder.high.eq(job.clamp_high)]
            infinite = pipe.at("plus", self.latency) | pipe.at("minus", self.latency)
            invalid = invalid | (integer & infinite)
        code: Value = encoder.o
        if "raw" in design.rules:
            invalid = invalid & (job.rule != RAW)
        if self.floating:
            m.d.comb += encoder.i.eq(pipe.at("g", self.encode_at))
            if self.scaled:
                m.d.comb += encoder.integer.eq(integer)
            if "fp32" in design.outputs:
                plain = job.output == design.outputs.index("fp32")
                code = Mux(plain, pipe.at("g", self.latency), code)
                invalid = invalid & ~plain
        m.d.comb += self.invalid.eq(invalid)
        return code

    def _saturated(self, value: Value) -> Value:
        """A sum as the integer rule takes it; C or a bias may have driven it beyond."""
        bits = self.integer_bits
        if len(value) <= bits:
            return value
        beyond = (value[bits - 1:-1] ^ value[-1].replicate(len(value) - bits)).any()
        limit = Cat((~value[-1]).replicate(bits - 1), value[-1])
        return Mux(beyond, limit, value[:bits]).as_signed()

    def _operands(self, m: Module, pipe: Pipeline, scaler: Scaler) -> None:
        """The float32 sum and its scale, normalised."""
        at = self.scale_at
        m.submodules.unpack_scale = scale = shared(FloatUnpack())
        m.d.comb += [scale.en.eq(self.en), scale.i.eq(self._later(m, pipe, "scale", at - 1))]
        if self.by_adder or not self.exact:
            m.submodules.unpack = unit = shared(FloatUnpack())
            m.d.comb += [unit.en.eq(self.en), unit.i.eq(pipe.at("f", at - 1))]
            sign, nan, infinite = unit.sign, unit.nan, unit.inf
        else:
            m.submodules.convert = unit = shared(self.convert)
            m.d.comb += [unit.en.eq(self.en), unit.i.eq(pipe.at("sum", self.convert_at)),
                         unit.weight.eq(self._weight())]
            plus, minus = pipe.at("plus", at), pipe.at("minus", at)
            nan, infinite = pipe.at("nan", at), plus | minus
            sign = Mux(infinite, minus, unit.sign & unit.significand[-1])
            if BIAS + self.sum_bits - 1 + max(self.exponents) >= 255:
                # Rounded to float32 it is an infinity already, whatever the scale.
                infinite = infinite | (unit.exponent >= 255)
        for name, first, second in (("sign", sign, scale.sign), ("exponent", unit.exponent, scale.exponent),
                                    ("significand", unit.significand, scale.significand),
                                    ("nan", nan, scale.nan), ("inf", infinite, scale.inf)):
            m.d.comb += [getattr(scaler, f"a_{name}").eq(first), getattr(scaler, f"b_{name}").eq(second)]
