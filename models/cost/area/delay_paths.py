"""Paths between the registers of a unit, counted in levels of its components: what a delay model is linear in.

A path runs from one register to the next, through the components that the generators put in between
(docs/microarchitecture.md); where it forks (multiplier beside shift sum) each way is a path. ``bits`` count what grows
with a width as a carry chain does, ``log`` what grows with its logarithm. Adders one behind the other ripple together,
bit by bit: only the last one's bits count, of the others the levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

from ...design import ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from ...formats import Format
from .area_blocks import PARALLEL_CUTS
from .area_features import CUTS, Operand, fused_fp32, operand
from .fit import Block, Counts

__all__ = ["Path", "design_paths", "pe_of", "unit_paths"]

SPREAD = 0.01         # of a kind's deviation; delays are noisy
TREE_BITS = 6         # unsigned products of so few bits are an array with registers too
# In the order of the data.
CHAINS = ("shift:bits", "multiply:bits", "add:bits", "accumulate:bits")
TINY_BITS = 8         # decoded operands of so few bits together are not kept apart


@dataclass(frozen=True)
class Path:
    """Logic between two registers.

    Attributes
    ----------
    name : str
        Components on it, ``decode+multiply``.
    block : Block
    """

    name: str
    block: Block


class _Line:
    """Segments of the data path in order; cuts make paths of them."""

    def __init__(self, cuts: frozenset[str]):
        self.cuts, self.found, self.now = cuts, [], {}

    def add(self, part: Counts) -> None:
        for name, amount in part.items():
            if name in CHAINS:
                self.now[name] = max(self.now.get(name, 0.0), amount)
            elif amount:
                self.now[name] = self.now.get(name, 0.0) + amount

    def cut(self, name: str) -> None:
        if name in self.cuts:
            self.end()

    def end(self) -> None:
        chains = [name for name in CHAINS if name in self.now]
        for name in chains[:-1]:
            del self.now[name]
        if self.now:
            self.found.append(self.now)
        self.now = {}


def _adder(component: str, width: float, times: float = 1.0) -> Counts:
    return {f"{component}:adders": times, f"{component}:bits": float(width), f"{component}:log": times * log2(width),
            f"{component}:widths": times * width}


def _decode(fmt: Format, kept: bool) -> Counts:
    x = operand(fmt)
    if x.kind == "none":
        return {}
    found = {f"decode:{x.kind}": 1.0, "decode:kept": float(kept)}
    if x.kind in ("posit", "linear"):
        found[f"decode:{x.kind}_log"] = log2(fmt.bits)
        found[f"decode:{x.kind}_bits"] = float(fmt.bits)
    elif x.kind == "table":
        found["decode:table_bits"] = float(max(fmt.bits - 4, 0))
    return found


def _rows(a: Operand, w: Operand, fast: bool) -> tuple[str, int, int]:
    """Structure of the multiplier, its rows, and the width of one."""
    small, large = sorted((a.significand, w.significand))
    if small == 1:
        return "and", 1, large
    if a.signed or w.signed:
        return ("tree" if fast else "radix"), ceil((w.significand + (not w.signed)) / 2), \
            a.significand + (not a.signed) + 1
    if fast and small + large > TREE_BITS:
        return "tree", w.significand, a.significand
    return "array", small, large


def _multiply(line: _Line, a: Operand, w: Operand, kept: bool, decoded: bool) -> None:
    structure, rows, width = _rows(a, w, bool(line.cuts))
    signed, product = a.signed or w.signed, a.significand + w.significand
    select = {"multiply:select": 1.0, "multiply:recode": float(rows * signed), "multiply:kept": float(kept)}
    if structure == "and":
        line.add({"multiply:and": 1.0})
        line.cut("rows")
    elif structure == "array":
        line.add({"multiply:bits": float(rows + width), "multiply:cell_rows": float(rows),
                  "multiply:kept": float(kept * rows)})
        line.cut("rows")
    elif structure == "radix":
        if rows > 1:
            line.add(select | _adder("multiply", product, rows - 1))
        else:
            line.add(select)
        line.cut("rows")
    else:
        line.add(select)
        early = "decode" in line.cuts and not decoded
        if early:
            line.cut("decode")
        levels, registered = ceil(log2(rows)), False
        for level in range(levels):
            if not registered and (level == 1 or (levels == 1 and not early)):
                line.cut("rows")
                registered = True
            line.add(_adder("multiply", min(width + 2 ** (level + 1), product)))
        if not registered:
            line.cut("rows")


def _align(design: DotDesign, a: Operand, w: Operand, kept: bool) -> Counts:
    value = design.max_product.bit_length() + 1
    if not a.shift_bits + w.shift_bits:
        return {"align:fold": 1.0} if a.sign or w.sign else {}
    stages = max(a.max_shift + w.max_shift, 1).bit_length()
    kind = "signed" if a.signed or w.signed else "unsigned"
    return {f"align:{kind}": 1.0, f"align:{kind}_stages": float(stages), "align:log": log2(value),
            "align:bits": float(value), "align:kept": float(kept * stages)}


def _form(design: DotDesign, cuts: frozenset[str]) -> str:
    """What the tool can know of a sum's terms: signs reach every bit above them, registers hide how terms were made."""
    a, w = operand(design.activation), operand(design.weight)
    shifted = a.shift_bits + w.shift_bits > 0
    sign = "twos" if a.signed or w.signed else "ones" if a.sign or w.sign else "unsigned"
    hidden = ("align" if shifted else "multiply") in cuts
    return f"{sign}{'_shifted' * (shifted and sign == 'twos')}{'_hidden' * hidden}"


def _sum(line: _Line, design: DotDesign) -> None:
    """The adder tree, to the accumulator's register."""
    n, levels = design.lanes, ceil(log2(design.lanes))
    for level in range(levels + 1):
        if level == levels // 2:
            line.cut("tree")
        if level < levels:
            line.add(_adder("add", (design.max_product * min(2 << level, n)).bit_length() + 1))
    line.cut("sum")
    if design.accumulator.kind == "fp32":
        fused = fused_fp32(design)
        line.add({"accumulate:fp32" if fused else "accumulate:fp32_range": 1.0,
                  "accumulate:fp32_product": float((design.max_product.bit_length() + 1) * fused)})
    else:
        line.add(_adder("accumulate", design.accumulator_bits))
        low = (design.max_product * n).bit_length() + 1
        form = _form(design, line.cuts)
        line.add({"accumulate:root": low ** 0.5, f"accumulate:{form}": 1.0,
                  f"accumulate:{form}_low_bits": float(min(low, design.accumulator_bits)),
                  f"accumulate:{form}_high_bits": float(max(design.accumulator_bits - low, 0))})
        if design.has_overflow:
            line.add({"accumulate:overflow": 1.0})


def _encode(design: DotDesign) -> Counts:
    if design.output is None or design.accumulator.kind == "fp32":
        return {}
    fmt, width = design.output, design.accumulator_bits
    found = {f"encode:{fmt.family}": 1.0, f"encode:{fmt.family}_log": log2(width), "encode:bits": float(width)}
    if fmt.family != "int":
        found[f"encode:{fmt.family}_code"] = float(fmt.bits)
    return found


def _lines(design: DotDesign, cuts: frozenset[str]) -> list[Counts]:
    a, w = operand(design.activation), operand(design.weight)
    decoded = a.kind != "none" or w.kind != "none"
    kept = not cuts and not (decoded and a.bits + w.bits <= TINY_BITS)
    found: list[Counts] = []
    shifts = [x for x in (a, w) if x.shift_bits]
    formats = dict.fromkeys((design.activation, design.weight))
    for way in ("product", "shift") if shifts else ("product",):
        for fmt in formats:
            if way == "shift" and not operand(fmt).shift_bits:
                continue
            line = _Line(cuts)
            line.add(_decode(fmt, kept))
            if decoded:
                line.cut("decode")
            if way == "product":
                _multiply(line, a, w, kept, decoded)
                if (a.signed or w.signed) and (a.sign or w.sign or shifts) and min(a.significand, w.significand) > 1:
                    line.add({"multiply:owed": 1.0, "multiply:owed_log": log2(a.significand + w.significand)})
            else:
                if len(shifts) == 2:
                    line.add(_adder("shift", max(a.max_shift + w.max_shift, 2).bit_length()))
                line.cut("rows")
            line.cut("multiply")
            if design.accumulator.kind != "fp32" or not fused_fp32(design):
                line.add(_align(design, a, w, kept) | {"align:select": float(way == "shift")})
            line.cut("align")
            _sum(line, design)
            line.end()
            found += line.found
    encode = _encode(design)
    return [*found, encode] if encode else found


def _size(design: DotDesign) -> float:
    """Wires get longer with the number of operand and accumulator bits."""
    return log2(design.lanes * (design.activation.bits + design.weight.bits) + design.accumulator_bits)


@lru_cache(maxsize=4096)
def _paths(design: DotDesign, cuts: frozenset[str], extra: tuple[tuple[str, float], ...]) -> tuple[Path, ...]:
    found: dict[tuple, Path] = {}
    for counts in _lines(design, cuts):
        whole = counts | {"control:path": 1.0, "control:size": _size(design)} | dict(extra)
        parts = "+".join(dict.fromkeys(name.split(":")[0] for name in counts))
        kinds = ((f"output {design.output.name}", SPREAD),) if parts == "encode" and design.output is not None else \
            ((f"pair {design.pe_name}", SPREAD),)
        found[tuple(sorted(whole.items()))] = Path(parts, Block(whole, kinds))
    return tuple(found.values())


def unit_paths(design: DotDesign) -> tuple[Path, ...]:
    """All paths of a dot unit."""
    return _paths(design, CUTS[design.pipeline], ())


def pe_of(design: object) -> MorphableDesign | None:
    """The PE that a PE, an array or a core has; None for other engines."""
    pe = design.array.pe if isinstance(design, MatmulDesign) else getattr(design, "pe", design)
    return pe if isinstance(pe, MorphableDesign) and isinstance(design, (MorphableDesign, ArrayDesign, MatmulDesign)) \
        else None


def design_paths(design: object) -> tuple[tuple[Path, ...], str]:
    """Paths of a design, and what they leave out.

    Arrays have the paths of their PE; of a PE with lanes for each mode, those of each mode. Paths of shared multipliers
    (``merged``, ``packed``), of a core's output stage and of other engines are not known: none.

    Returns
    -------
    tuple of Path, str
    """
    if isinstance(design, DotDesign):
        return unit_paths(design), ""
    if isinstance(design, MatmulDesign):
        return (), "no delay model for a core's output stage"
    pe = pe_of(design)
    if pe is None:
        return (), "no delay model for this engine"
    if pe.implementation != "parallel":
        return (), f"no delay model for {pe.implementation} PEs"
    extra = (("control:modes", log2(len(pe.modes))),) if len(pe.modes) > 1 else ()
    found = [path for mode in pe.modes for path in _paths(pe.dot(mode), PARALLEL_CUTS[pe.pipeline], extra)]
    return tuple(found), "the PE's paths only" if pe is not design else ""
