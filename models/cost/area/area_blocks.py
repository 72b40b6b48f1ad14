"""The parts of arrays and cores: the lanes of their PEs as in a dot unit, and what stands around them."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from ...design import ArrayDesign, DotDesign, MatmulDesign, MorphableDesign
from ...design.morphable import WORD_BITS
from ...errors import BitkilnError
from ...formats import get_format
from .area_features import lane_block, shifts, sum_counts, unit_blocks
from .fit import Block, Counts

__all__ = ["design_blocks"]

# Registers of dedicated lanes for each pipeline depth (hw.mac.parallel): one behind the joined sum.
PARALLEL_CUTS = {0: frozenset(), 1: frozenset({"multiply"}), 2: frozenset({"multiply", "sum"}),
                 3: frozenset({"decode", "multiply", "sum"}), 4: frozenset({"decode", "rows", "multiply", "sum"})}


@singledispatch
def design_blocks(design: object) -> list[Block]:
    """The parts of a design, as an area model takes them.

    Raises
    ------
    BitkilnError
        An engine without a model.
    """
    raise BitkilnError("no area model for this engine", where="design", got=type(design).__name__,
                       expected="dot_unit, morphable_pe, matmul_array or matmul_core",
                       help="`bitkiln synth` measures it")


@design_blocks.register
def _(design: DotDesign) -> list[Block]:
    return unit_blocks(design)


def _names(design: MorphableDesign) -> str:
    return f"{design.implementation} {'+'.join(sorted(mode.name for mode in design.modes))}"


def _edge(design: MorphableDesign) -> Counts:
    """What stands between one operand word and the lanes: gates of each mode, or decoders of a shared path."""
    if design.implementation != "parallel":
        return {f"edge:{_names(design)}": 1.0, f"edge:{_names(design)} chain": 1.0}
    if len(design.modes) == 1:
        return {}
    return {"edge:gates": _word_bits(design)}


def _word_bits(design: MorphableDesign) -> float:
    """Bits of an operand word behind its edge (on average over both sides)."""
    return sum(mode.lanes * (mode.activation.bits + mode.weight.bits) for mode in design.modes) / 2


def _pe_blocks(design: MorphableDesign, *, drain: bool, edges: bool) -> list[Block]:
    """One PE; ``edges`` says whether its operand words pass their edges inside."""
    flags = len(design.flags)
    result = design.result_bits + flags
    own: Counts = {"control:pe": 1.0}
    if edges:
        own |= {name: 2 * amount for name, amount in _edge(design).items()}
    if drain:
        own |= {"drain:result": float(result), "drain:registers": float(result)}
    if design.implementation != "parallel":
        # One shared data path: what it takes is known for the sets of modes that were sampled.
        names = _names(design)
        own |= {f"path:{names}": 1.0, f"path:{names} fast": float(design.pipeline > 0),
                f"path:{names} registers": float(design.pipeline), "path:accumulator": float(design.accumulator_bits),
                "path:chain": design.accumulator_bits / 2, f"path:{names} chain": 1.0,
                "accumulate:registers": float(design.accumulator_bits + flags), "control:flags": float(flags)}
        return [Block({name: amount for name, amount in own.items() if amount})]
    cuts = PARALLEL_CUTS[design.pipeline]
    lanes = [lane_block(design.dot(mode), cuts - {"sum"}) for mode in design.modes]
    kinds = ((f"modes {_names(design)}", 0.1), (f"modes {_names(design)} {'dissolved' if cuts else 'kept'}", 0.08))
    blocks = [Block(block.counts, (*block.kinds, *kinds)) for block in lanes]
    widest = max((design.dot(mode) for mode in design.modes), key=lambda dot: dot.accumulator_bits)
    total = max((mode.lanes * design.dot(mode).max_product).bit_length() + 1 for mode in design.modes)
    own |= sum_counts(widest, 0, flags)
    own["control:sum_registers"] = float(total + 1) * ("sum" in cuts)
    if len(design.modes) > 1:
        own["control:join"] = float((len(design.modes) - 1) * total)
    return [*blocks, Block({name: amount for name, amount in own.items() if amount})]


def _control(design: MorphableDesign) -> float:
    """Bits that travel through a PE's pipeline beside the data."""
    return (2.0 + design.mode_bits * (len(design.modes) > 1)) * len(PARALLEL_CUTS[design.pipeline])


@design_blocks.register
def _(design: MorphableDesign) -> list[Block]:
    stages = len(PARALLEL_CUTS[design.pipeline])
    control = {"control:registers": _control(design)} | shifts("control:", [(1, stages), (1, stages)])
    return [*_pe_blocks(design, drain=False, edges=True), Block(control)]


@design_blocks.register
def _(design: ArrayDesign) -> list[Block]:
    rows, columns, pe = design.rows, design.columns, design.pe
    lines = rows + columns
    systolic = design.links == "systolic"
    # Broadcast operands pass their edges once for each row and column, and all PEs have the same control.
    hoisted = not systolic and (pe.implementation != "parallel" or len(pe.modes) > 1)
    control = pe.mode_bits * (len(pe.modes) > 1) + 3
    word = _word_bits(pe) if hoisted else WORD_BITS
    registers = word * lines + control
    copies = lines - 1 if systolic else 1
    if systolic:
        skew = rows * (rows - 1) // 2 + columns * (columns - 1) // 2
        moved = rows * (columns - 1) + columns * (rows - 1)
        registers += WORD_BITS * (skew + moved) + control * (copies - 1)
    edges: Counts = {"edge:registers": float(registers), "control:registers": _control(pe) * copies}
    # Row and column n wait n cycles more; enable, clear and last go on through the first PE's pipeline (taken off the
    # edges' registers, of which there are enough).
    waits = [n + 1 for count in (rows, columns) for n in range(count)] if systolic else []
    edges |= shifts("edge:", [*((WORD_BITS, stages) for stages in waits), (3, 1 + len(PARALLEL_CUTS[pe.pipeline]))])
    line = {name: amount / lines for name, amount in edges.items()}
    if hoisted:
        line |= _edge(pe)
        if pe.implementation != "parallel":
            line[f"edge:{_names(pe)} registers"] = 1.0
    pes = _pe_blocks(pe, drain=True, edges=not hoisted)
    return [*(replace(block, copies=rows * columns) for block in pes), Block({"edge:array": 1.0}),
            Block(line, copies=lines)]


@design_blocks.register
def _(design: MatmulDesign) -> list[Block]:
    lanes, pe, rows, columns = design.output_lanes, design.pe, design.rows, design.columns
    float_outputs = sum(get_format(name).family != "int" for name in design.outputs)
    posit_outputs = sum(get_format(name).family == "posit" for name in design.outputs)
    beats = design.bus_bits // WORD_BITS
    float_rules, integer_rules = "float" in design.rules, "integer" in design.rules
    one: Counts = {"control:core": 1.0, "control:queue": float(design.queue), "load:bus": float(design.bus_bits),
                   "output:bus": float(design.bus_bits), "control:core_registers": 1.0, "control:core_shifts": 1.0,
                   "load:bus_registers": float(design.bus_bits)}
    line: Counts = {"load:tiles": 1.0, "load:words": float(beats), "load:tile_registers": 1.0}
    column: Counts = {"drain:columns": float(pe.result_bits)}
    lane: Counts = {
        "drain:select": columns * pe.result_bits / lanes**2,
        "output:lanes": 1.0, "output:sums": float(pe.result_bits), "output:float": float(float_rules),
        "output:float_sums": float(float_rules * pe.result_bits), "output:integer": float(integer_rules),
        "output:floats": float(float_outputs), "output:posits": float(posit_outputs),
        "output:bias": float(design.bias * pe.result_bits),
        "output:accumulate": float(design.accumulate * design.raw_bits),
        "output:lane_registers": 1.0, "output:sum_registers": float(pe.result_bits),
        "output:float_registers": float(float_rules), "output:integer_registers": float(integer_rules),
        "output:bias_registers": float(design.bias * 32),
        # Fitted, unlike the shift registers of units and links: what the rounding's pipeline passes on.
        "output:lane_shifts": 1.0, "output:float_shifts": float(float_rules),
        "output:integer_shifts": float(integer_rules), "output:bias_shifts": float(design.bias),
        "output:accumulate_shifts": float(design.accumulate),
    }
    parts = ((one, 1), (line, rows + columns), (column, columns), (lane, lanes))
    return [*design_blocks(design.array), *(Block({name: amount for name, amount in counts.items() if amount},
                                                  copies=copies) for counts, copies in parts)]
