# amaranth: UnusedElaboratable=no
"""Arrays of switchable PEs: rows take activation words, columns weight words, every PE one pair a cycle.

Output-stationary (`MatmulArray`): sums stay in the PEs and leave through a chain of result registers up each column::

               w column 0    w column 1
                   │             │
    a row 0 ──────[PE]──────────[PE]────     result ◄─ row 0
                   ▲ o           ▲ o
    a row 1 ──────[PE]──────────[PE]────     shift: each row takes the one below

Weight-stationary (`WeightArray`): weights stay, sums move down one row a cycle.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.matmul import ArrayDesign
from bitkiln.models.design.morphable import WORD_BITS, MorphableDesign
from bitkiln.models.errors import BitkilnError

from ..emit import shared
from .morphable import MorphablePe, data_path, delayed, edge_bits, next_sum, result_layout

__all__ = ["MatmulArray", "WeightArray", "WeightPe"]

# Systolic links carry decoded operands only where those are not much wider than the codes.
LINK_BITS = 24


def _hoisted(design: ArrayDesign) -> bool:
    """Whether operand edges stand once for each row and column."""
    return design.links == "broadcast" or max(edge_bits(design.pe)) <= LINK_BITS


class MatmulArray(wiring.Component):
    """Output-stationary array: ``result[i][j] = sum over k of a[k][i] * w[k][j]``, one k-word a cycle.

    ``broadcast`` links: one register for each row, column and control signal, then all PEs at once. ``systolic``
    links: words and control move from PE to PE, one row or column a cycle; only ``shift`` goes to all PEs. The
    next sums may begin in the cycle after ``last``; results are drained meanwhile.

    Parameters
    ----------
    design : ArrayDesign
        With dataflow ``output``.

    Members
    -------
    a : In(rows * 16); w : In(columns * 16)
        Operand words, row or column 0 in the least significant bits.
    mode : In(mode_bits); en : In(1)
    last : In(1)
        Only with ``en``: every sum ends with this word and goes to its result register.
    clear : In(1)
        Clears all sums, wins over ``en``; travels with the words.
    shift : In(1)
        The next row moves to ``result``. Not before all results are there (``latency``), and a new ``last`` only when
        those of the previous one have been taken.
    result : Out(columns * result_bits)
        `result_layout` of each column, column 0 in the least significant bits.

    Attributes
    ----------
    latency : int
        Clock edges from the ``last`` word to row 0 on ``result``.
    result_bits : int
    """

    reset_less = True

    def __init__(self, design: ArrayDesign):
        if design.dataflow != "output":
            raise BitkilnError("not an output-stationary array", where="array.dataflow", got=design.dataflow,
                               expected="output")
        self.design = design
        self.result_bits = result_layout(design.pe).size
        super().__init__({
            "a": In(design.rows * WORD_BITS), "w": In(design.columns * WORD_BITS), "mode": In(design.pe.mode_bits),
            "en": In(1), "last": In(1), "clear": In(1), "shift": In(1),
            "result": Out(design.columns * self.result_bits)})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def latency(self) -> int:
        moves = self.design.rows + self.design.columns - 2 if self.design.links == "systolic" else 0
        return 1 + self.design.pe.latency + moves

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"rows": d.rows, "columns": d.columns, "dataflow": d.dataflow, "links": d.links, "pe": d.pe.name}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, pe = self.design, self.design.pe
        rows, columns = design.rows, design.columns
        hoisted, systolic = _hoisted(design), design.links == "systolic"

        control = {name: delayed(m, getattr(self, name), name, 1) for name in ("mode", "en", "last", "clear")}
        words: dict[str, list[Value]] = {}
        for name, count in (("a", rows), ("w", columns)):
            words[name] = []
            for n in range(count):
                word = getattr(self, name).word_select(n, WORD_BITS)
                if hoisted:
                    edge = data_path(pe, hoisted).edges["aw".index(name)]
                    m.submodules[f"edge_{name}{n}"] = unit = shared(edge)
                    m.d.comb += [unit.code.eq(word), unit.mode.eq(self.mode)]
                    word = unit.o
                # Row and column n start n cycles later, like the words that reach them through the other rows.
                words[name].append(delayed(m, word, f"{name}{n}", 1 + (n if systolic else 0)))

        cells: list[list] = []
        first_column, to_the_right = control, control
        below: list[Value] = [Const(0, self.result_bits)] * columns
        for row in range(rows):
            cells.append([])
            along = words["a"][row]
            if systolic and row:
                first_column = {name: delayed(m, value, f"{name}_{row}", 1) for name, value in first_column.items()}
            to_the_right = first_column
            for column in range(columns):
                if systolic and column:
                    place = f"{row}_{column}"
                    along = delayed(m, along, f"a_{place}", 1)
                    to_the_right = {name: delayed(m, value, f"{name}_{place}", 1)
                                    for name, value in to_the_right.items()}
                if systolic and row:
                    words["w"][column] = delayed(m, words["w"][column], f"w_{row}_{column}", 1)
                m.submodules[f"pe_{row}_{column}"] = cell = shared(MorphablePe(pe, True, hoisted))
                m.d.comb += [cell.a.eq(along), cell.w.eq(words["w"][column]), cell.shift.eq(self.shift),
                             *(getattr(cell, name).eq(value) for name, value in to_the_right.items())]
                cells[row].append(cell)
        for row in reversed(range(rows)):
            for column, cell in enumerate(cells[row]):
                m.d.comb += cell.i.eq(below[column])
                below[column] = cell.o
        m.d.comb += self.result.eq(Cat(below))
        return m


class WeightPe(wiring.Component):
    """PE of a weight-stationary array: ``o = i + sum over the lanes of a * weight``.

    Parameters
    ----------
    design : MorphableDesign
    hoisted : bool
        ``a`` comes through its operand edge already.

    Members
    -------
    a : In(16 or edge bits); mode : In(mode_bits); en : In(1)
    weight : In(16); weight_next : Out(16); load : In(1)
        Chain of the weights that are to come: ``load`` takes ``weight``.
    swap : In(1)
        The weight of the chain becomes the PE's own at the next edge.
    i, o : In(result_bits), Out(result_bits)
        Sum and flags of the rows above; ``i`` is added ``design.pipeline`` edges after its ``a``, ``o`` is registered.
    """

    reset_less = True

    def __init__(self, design: MorphableDesign, hoisted: bool):
        self.design, self.hoisted = design, hoisted
        width = result_layout(design).size
        super().__init__({
            "a": In(edge_bits(design)[0] if hoisted else WORD_BITS), "mode": In(design.mode_bits), "en": In(1),
            "weight": In(WORD_BITS), "weight_next": Out(WORD_BITS), "load": In(1), "swap": In(1),
            "i": In(width), "o": Out(width)})

    @property
    def module_name(self) -> str:
        return f"{self.design.name}_weight" + "_core" * self.hoisted

    def elaborate(self, platform) -> Module:
        m = Module()
        design = self.design
        coming, own = Signal(WORD_BITS, reset_less=True), Signal(WORD_BITS, reset_less=True)
        m.d.comb += self.weight_next.eq(coming)
        with m.If(self.load):
            m.d.sync += coming.eq(self.weight)
        with m.If(self.swap):
            m.d.sync += own.eq(coming)

        m.submodules.path = path = shared(data_path(design))
        m.d.comb += path.mode.eq(self.mode)
        for name, component, code in (("a", path.edges[0], self.a), ("w", path.edges[1], own)):
            operand: Value = code
            if name == "w" or not self.hoisted:
                m.submodules[f"edge_{name}"] = edge = shared(component)
                m.d.comb += [edge.code.eq(code), edge.mode.eq(self.mode)]
                operand = edge.o
            m.d.comb += getattr(path, name).eq(operand)

        def late(value: Value, name: str) -> Value:
            return delayed(m, value, name, design.pipeline)

        layout = result_layout(design)
        acc = self.i[:layout["acc"].width]
        if layout["acc"].shape.signed:
            acc = acc.as_signed()
        following, events = next_sum(m, path, acc, self.mode, late)
        en = late(self.en, "en")
        flags = [self.i[layout[flag].offset] | (events[flag] & en) for flag in design.flags]
        result = Signal(layout.size, reset_less=True)
        with m.If(en):
            m.d.sync += result.eq(Cat(following[:layout["acc"].width], *flags))
        m.d.comb += self.o.eq(result)
        return m


class WeightArray(wiring.Component):
    """Weight-stationary array: ``result[j] = i[j] + sum over row words r of a[r] * weight[r][j]``, one vector a cycle.

    One pass covers K of at most ``rows * lanes``; for more, the sums of a pass come back on ``i`` in the next one.
    Weights arrive row after row on ``w`` with ``load``, the last row first, while vectors still run with the previous
    ones; a vector with ``swap`` is the first that uses them. The next ``load`` may come ``rows - 1`` cycles after it
    (``rows + columns - 2`` with systolic links), when the last PE takes its weight.

    Parameters
    ----------
    design : ArrayDesign
        With dataflow ``weight``. ``broadcast`` links: a row's word reaches all its PEs at once; ``systolic``: it
        moves one column a cycle, and results of the first columns wait for those of the last.

    Members
    -------
    a : In(rows * 16)
        One vector: word r holds k = r * lanes ..., row 0 in the least significant bits.
    mode : In(mode_bits); en : In(1)
        May change from vector to vector together with ``swap``.
    swap : In(1)
        Only with ``en``.
    i : In(columns * result_bits)
        Sums to start from, with their vector; 0 for a new sum.
    w : In(columns * 16); load : In(1)
    result : Out(columns * result_bits); valid : Out(1)
        `result_layout` of each column, ``latency`` edges after the vector. The sum is arbitrary where nan or an
        infinity is set.

    Attributes
    ----------
    latency : int
    """

    reset_less = True

    def __init__(self, design: ArrayDesign):
        if design.dataflow != "weight":
            raise BitkilnError("not a weight-stationary array", where="array.dataflow", got=design.dataflow,
                               expected="weight")
        self.design = design
        self.result_bits = result_layout(design.pe).size
        sums = design.columns * self.result_bits
        super().__init__({
            "a": In(design.rows * WORD_BITS), "mode": In(design.pe.mode_bits), "en": In(1), "swap": In(1),
            "i": In(sums), "w": In(design.columns * WORD_BITS), "load": In(1), "result": Out(sums), "valid": Out(1)})

    @property
    def module_name(self) -> str:
        return self.design.name

    @property
    def latency(self) -> int:
        moves = self.design.columns - 1 if self.design.links == "systolic" else 0
        return 1 + self.design.pe.pipeline + self.design.rows + moves

    @property
    def parameters(self) -> dict:
        d = self.design
        return {"rows": d.rows, "columns": d.columns, "dataflow": d.dataflow, "links": d.links, "pe": d.pe.name}

    def elaborate(self, platform) -> Module:
        m = Module()
        design, pe = self.design, self.design.pe
        hoisted, systolic = _hoisted(design), design.links == "systolic"

        # The sum that starts in row 0 meets its products behind the input register and the pipeline.
        sums = [delayed(m, self.i.word_select(column, self.result_bits), f"i{column}",
                              1 + pe.pipeline + (column if systolic else 0)) for column in range(design.columns)]
        weights: list[Value] = [self.w.word_select(column, WORD_BITS) for column in range(design.columns)]
        control = {"mode": self.mode, "en": self.en, "swap": self.swap}
        for row in range(design.rows):
            # Row r works on a vector r cycles after row 0. `swap` is one edge ahead of the word it comes with.
            control = {name: delayed(m, value, f"{name}_{row}", int(row > 0)) for name, value in control.items()}
            word: Value = self.a.word_select(row, WORD_BITS)
            if hoisted:
                m.submodules[f"edge_{row}"] = edge = shared(data_path(pe).edges[0])
                m.d.comb += [edge.code.eq(word), edge.mode.eq(self.mode)]
                word = edge.o
            word = delayed(m, word, f"a{row}", row)
            passing = control
            for column in range(design.columns):
                place = f"{row}_{column}"
                if systolic and column:
                    passing = {name: delayed(m, value, f"{name}_{place}", 1) for name, value in passing.items()}
                if column == 0 or systolic:
                    word = delayed(m, word, f"a_{place}", 1)
                    mode, en = (delayed(m, passing[name], f"{name}_{place}_here", 1) for name in ("mode", "en"))
                m.submodules[f"pe_{place}"] = cell = shared(WeightPe(pe, hoisted))
                m.d.comb += [cell.a.eq(word), cell.mode.eq(mode), cell.en.eq(en), cell.swap.eq(passing["swap"]),
                             cell.weight.eq(weights[column]), cell.load.eq(self.load), cell.i.eq(sums[column])]
                weights[column], sums[column] = cell.weight_next, cell.o
        late = [delayed(m, total, f"result{column}", design.columns - 1 - column if systolic else 0)
                for column, total in enumerate(sums)]
        m.d.comb += [self.result.eq(Cat(late)), self.valid.eq(delayed(m, self.en, "valid", self.latency))]
        return m
