# amaranth: UnusedElaboratable=no
"""Block diagrams of the switchable PE, of an array of them and of the core around it."""

from __future__ import annotations

from ...hw.mac.loader import DATA_SLOTS
from ...hw.mac.morphable import data_path, result_layout
from ...models.design import ArrayDesign, MatmulDesign, MorphableDesign
from ...models.design.matmul import RECORD_BITS
from ...models.design.morphable import WORD_BITS, Mode
from .canvas import RULE, Diagram, bits, count
from .dot import accumulator_notes
from .lettering import NOTE_SIZE, shorten

__all__ = ["array_diagram", "core_diagram", "grid_of", "pe_diagram"]

SHOWN = 4           # lines of a grid, at most
WIDE = 250.0        # a list of names in a block, before "and n more"


def grid_of(rows: int, columns: int) -> tuple[int, int]:
    """Cells to draw for an array."""
    return min(rows, SHOWN), min(columns, SHOWN)


def _modes(modes: tuple[Mode, ...]) -> str:
    return shorten([mode.name for mode in modes], NOTE_SIZE, WIDE)


def _sum_notes(design: MorphableDesign) -> list[str]:
    wanted = design.accumulator
    lost = ""
    if wanted.kind == "int32":
        lost = "saturates, with a flag" if wanted.overflow == "saturate" else "wraps, with a flag"
    return accumulator_notes(wanted.kind, wanted.depth, design.accumulator_bits, lost)


def _sections(design: MorphableDesign) -> list[str]:
    found = [f"{mode.name} from bits {', '.join(map(str, design.sections(mode)))}" for mode in design.modes
             if len(design.sections(mode)) > 1]
    return [f"Lanes add up in sections of the accumulator: {'; '.join(found)}."] if found else []


def pe_diagram(design: MorphableDesign) -> Diagram:
    """Operand words, the implementation's multipliers, one accumulator."""
    path, last = data_path(design), len(design.modes) - 1
    drawn = Diagram(f"Switchable PE, {count(len(design.modes), 'mode')}, {design.implementation}", design.name, [
        f"Latency {count(design.latency, 'clock edge')}; one operand word a cycle. What a mode does not use sees no "
        "changing inputs.", *_sections(design)])
    middle = max(last, 1) + 1 if design.implementation == "parallel" else 2
    for row, port in enumerate("aw"):
        drawn.port(port, 0, row, WORD_BITS, "activations" if port == "a" else "weights")
    edges = [edge.bits for edge in path.edges]
    if design.implementation == "parallel":
        drawn.block("edge", 1, 0, "pass words", "to one mode", notes=[f"a: {bits(edges[0])}", f"w: {bits(edges[1])}",
                                                                      "others get 0"], rows=middle)
        drawn.wire("a", "edge")
        drawn.wire("w", "edge")
        for row, mode in enumerate(design.modes):
            product = mode.dot().product_bits + 1
            drawn.block(mode.name, 2, row, mode.name, notes=[
                f"{count(mode.lanes, 'lane')}, products of {product} bits"], copies=mode.lanes > 1)
            drawn.wire("edge", mode.name, f"{mode.lanes} x {mode.activation.bits} bits")
            drawn.wire(mode.name, "join", bits((mode.lanes * mode.dot().max_product).bit_length() + 1))
        drawn.block("join", 3, 0, "or", rows=middle, shape="tree")
    else:
        names = [f"{mode.name}: {mode.lanes} x {mode.activation.bits} bits" for mode in design.modes]
        for row, port in enumerate("aw"):
            drawn.block(f"edge {port}", 1, row, f"decode {port}, place digits" if design.implementation == "merged"
                        else f"decode and pack {port}", notes=names if row == 0 else ["as a's" if all(
                            mode.weight.name == mode.activation.name for mode in design.modes) else
                            shorten([mode.weight.name for mode in design.modes], NOTE_SIZE, WIDE)])
            drawn.wire(port, f"edge {port}", bits(WORD_BITS))
            drawn.wire(f"edge {port}", "multiply", bits(edges[row]))
        shared = ["shared by all modes"]
        if design.implementation == "merged":
            drawn.block("multiply", 2, 0, "one multiplier,", "one shifter", notes=shared, rows=2)
            drawn.block("join", 3, 0, "place", notes=["a section", "for each lane"], rows=2)
        else:
            drawn.block("multiply", 2, 0, "two multipliers", notes=["for DSP blocks,", *shared], rows=2)
            drawn.block("join", 3, 0, "cut and add", rows=2)
        drawn.wire("multiply", "join")
    drawn.block("sum", 4, 0, *{"exact": ("exact", "accumulator"), "fp32": ("float32", "accumulator"),
                               "int32": ("32-bit", "accumulator")}[design.accumulator.kind],
                notes=_sum_notes(design), rows=middle)
    drawn.wire("join", "sum", bits(path.value_bits))
    drawn.port("acc", 5, 0, design.accumulator_bits, "float32" if design.accumulator.kind == "fp32" else "signed")
    drawn.wire("sum", "acc", bits(design.accumulator_bits))
    drawn.port("mode", 0, middle, design.mode_bits)
    drawn.wire("mode.r", "edge.b" if design.implementation == "parallel" else "edge w.b", control=True)
    drawn.port("en, clear", 0, middle + 1)
    drawn.wire("en, clear.r", "sum.b", control=True)
    if design.flags:
        drawn.port("flags", 5, 1, name=", ".join(design.flags), note="sticky")
        drawn.wire("sum", "flags", control=True)
    return drawn


def array_diagram(design: ArrayDesign) -> Diagram:
    """Rows and columns of PEs with what surrounds them."""
    pe, result = design.pe, result_layout(design.pe).size
    output = design.dataflow == "output"
    links = "reach all PEs of a row or column at once" if design.links == "broadcast" else \
        "move from PE to PE, a row or column a cycle"
    drawn = Diagram(f"Array of {design.rows} x {design.columns} PEs, "
                    f"{'output' if output else 'weight'}-stationary", design.name, [
        f"Operands {links}. " + (f"Row 0 is there {count(design.latency, 'clock edge')} after a sum's last word."
                                 if output else f"A pass covers {count(design.rows, 'word')} of K."),
        f"Modes of a PE, chosen at run time ({pe.implementation}): {', '.join(mode.name for mode in pe.modes)}.",
        *_sections(pe)])
    words = {"a": f"{design.rows} x {bits(WORD_BITS)}", "w": f"{design.columns} x {bits(WORD_BITS)}"}
    drawn.port("a", 0, 1, design.rows * WORD_BITS, words["a"])
    drawn.block("rows", 1, 1, "row registers", notes=[words["a"]], rows=2)
    drawn.wire("a", "rows")
    width = "float32" if pe.accumulator.kind == "fp32" else f"{pe.accumulator_bits}-bit"
    drawn.block("pes", 2, 1, f"{design.rows} x {design.columns} PEs",
                notes=[f"each with {width} sums"] if output else ["each with its weights,", f"{width} sums move down"],
                rows=2, shape="grid", grid=grid_of(design.rows, design.columns))
    drawn.wire("rows", "pes")
    last, sums = 3 if output else 4, f"{design.columns} x {bits(result)}"
    drawn.block("columns", 2, 0 if output else 3, "column registers" if output else "weights to come",
                notes=[words["w"]])
    drawn.port("w", 0, 0 if output else 3, design.columns * WORD_BITS, words["w"])
    drawn.wire("w", "columns")
    drawn.wire("columns.b" if output else "columns.t", "pes.t" if output else "pes.b")
    control = "mode, en, last, clear" if output else "mode, en, swap, load"
    drawn.port(control, 0, last)
    drawn.wire(f"{control}.r", "pes.b" if output else "rows.b", control=True)
    if not output:
        drawn.port("i", 0, 0, design.columns * result, "sums to start from")
        drawn.wire("i.r", "pes.t")
        drawn.port("result", 3, 1, design.columns * result, sums)
        drawn.wire("pes", "result", bits(design.columns * result))
        drawn.port("valid", 3, 2)
        drawn.wire("pes", "valid", control=True)
        return drawn
    drawn.block("results", 3, 1, "result registers", notes=[f"{design.rows} x {design.columns} of {bits(result)}",
                                                            "a row leaves by shift"])
    drawn.wire("pes", "results")
    drawn.port("shift", 4, 2)
    drawn.wire("shift.l", "results.b", control=True)
    drawn.port("result", 4, 1, design.columns * result, sums)
    drawn.wire("results", "result", bits(design.columns * result))
    return drawn


def _slots(name: str) -> list[str]:
    """Lines of a tile memory."""
    lines: list[str] = []
    for slot in range(DATA_SLOTS):
        lines += ([RULE] if slot else []) + [f"tile {name}, slot {slot}"]
    return lines


def core_diagram(design: MatmulDesign) -> Diagram:
    """Registers, job ring, loaders, tile memories, array, drain; streams or the master around them."""
    pe, bus = design.pe, design.bus_bits
    kib = DATA_SLOTS * (design.rows + design.columns) * design.k_words * WORD_BITS / 8192
    output = ", ".join(design.rules)
    if set(design.rules) != {"raw"}:
        output += f"; formats {', '.join(design.outputs)}"
    if design.block:
        output += f"; block scales {', '.join(design.block)}"
    drawn = Diagram("Matmul core" + (" with its own access to memory" if design.descriptors else ""), design.name, [
        f"Dark: data; light: control. Modes ({pe.implementation} PEs): {', '.join(mode.name for mode in pe.modes)}.",
        f"Tile memories hold {kib:g} KiB. Output: {output}. The next tile loads while one computes and another "
        "drains."])
    drawn.port("s_axil", 0, 0, note="AXI4-Lite", name="s_axil")
    drawn.block("registers", 1, 0, "registers,", "check of jobs")
    drawn.wire("s_axil", "registers")
    drawn.block("ring", 2, 0, "job ring", notes=[f"{count(design.queue, 'job')} can wait"])
    drawn.wire("registers", "ring")
    drawn.block("stages", 3, 0, "job of each stage:", "load A, load W, compute, drain", columns=2)
    drawn.wire("ring", "stages")
    drawn.port("irq", 6, 0, 1)
    drawn.wire("registers.t", "irq", control=True, via="h0 v6")
    drawn.block("sequencer", 2, 1, "sequencer")
    drawn.wire("stages.b@0.12", "sequencer.r", control=True)
    drawn.wire("sequencer.b", "tile a.t", control=True)
    for row, (side, sides) in enumerate((("a", design.rows), ("w", design.columns)), 2):
        drawn.block(f"tile {side}", 2, row, *_slots(side.upper()), notes=[f"{sides} x {design.k_words} words",
                                                                          f"of {bits(WORD_BITS)}"])
        drawn.block(f"load {side}", 1, row, f"panel loader {side.upper()}")
        drawn.wire(f"load {side}", f"tile {side}", bits(bus))
        drawn.wire(f"tile {side}", "array", f"{sides} x {bits(WORD_BITS)}")
        if not design.descriptors:
            drawn.port(f"s_axis_{side}", 0, row, bus)
            drawn.wire(f"s_axis_{side}", f"load {side}")
    width = "float32" if pe.accumulator.kind == "fp32" else f"{pe.accumulator_bits} bits"
    drawn.block("array", 3, 2, f"{design.rows} x {design.columns} PEs", notes=[f"sums of {width}"], rows=2,
                shape="grid", grid=grid_of(design.rows, design.columns))
    drawn.block("lanes", 4, 2, "output lanes" if design.output_lanes > 1 else "output lane",
                notes=[", ".join(design.rules), f"{design.output_lanes} a cycle"], copies=design.output_lanes > 1)
    drawn.wire("array", "lanes", f"{design.columns} x {bits(result_layout(pe).size)}")
    drawn.wire("stages.b", "lanes.t", "rule, format, scale", control=True)
    drawn.block("packer", 5, 2, "packer", "to beats")
    drawn.wire("lanes", "packer")
    if set(design.rules) != {"raw"} or design.bias or design.block:
        drawn.block("records", 4, 3, "records" + (", scales" if design.block else ""),
                    notes=[f"{design.columns} x {bits(RECORD_BITS)}", "bias, scale, shift" if design.bias else
                           "scale, shift"])
        drawn.wire("records.t", "lanes.b")
        drawn.wire("load w.b", "records.l", via="h4 v4+1")
    low = 4
    if design.accumulate:
        drawn.block("c", 4, low, "C reader", notes=[f"partial sums of {design.raw_bits} bits"])
        drawn.wire("c.r", "lanes.r@0.75", via="v5-1")
    if not design.descriptors:
        drawn.port("m_axis", 6, 2, bus)
        drawn.wire("packer", "m_axis")
        if design.accumulate:
            drawn.port("s_axis_c", 0, low, bus)
            drawn.wire("s_axis_c", "c")
        return drawn
    # One master moves everything: its reads feed the loaders, its writes take the packer's beats.
    bottom = low + 1
    drawn.block("master", 1, bottom, "AXI4 master: panels, " + "partial sums, " * design.accumulate
                + "descriptors in, results out",
                notes=[f"{bits(bus)} wide, addresses of {bits(design.address_bits)}"], columns=5)
    drawn.port("m_axi", 6, bottom, bus, name="m_axi")
    drawn.wire("master", "m_axi")
    drawn.wire("master.t@0.03", "load w.l", via="h5 v1")
    drawn.wire("master.t@0.03", "load a.l", via="h5 v1")
    if design.accumulate:
        drawn.wire("master.t", "c.b")
    drawn.wire("packer.b", "master.t@0.93")
    return drawn
