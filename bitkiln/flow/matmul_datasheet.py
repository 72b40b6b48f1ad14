"""Datasheet sections of a switchable PE, an array of them and the core around it."""

from __future__ import annotations

from ..models.design import ArrayDesign, MatmulDesign, MorphableDesign
from ..models.design.registers import core_registers
from ..models.formats import get_format
from .datasheet import FLAGS, Datasheet, count, format_table
from .registers import markdown

__all__ = ["array_datasheet", "core_datasheet", "pe_datasheet"]

ACCUMULATORS = {
    "exact": "Products are added without any rounding: the sum of up to {depth:,} products of any mode never "
             "overflows, in any order.",
    "fp32": "Each cycle the exact sum of the lanes' products is added to a float32 accumulator with one rounding to "
            "nearest even (subnormals kept, NaN is 0x7FC00000).",
    "int32": "Products are added in 32 bits; past their range the sum {overflow}, and the sticky flag `overflow` "
             "tells.",
}
RULES = {
    "raw": "`raw`: the sum itself, {raw_bits} bits. {specials}",
    "integer": "`integer`: `clamp(RNE((S + bias) * m * 2^-s) + zero_point)`, m unsigned 31 bits, s 0 to 62, saturated "
               "in the output format.",
    "float": "`float`: the sum to float32 once, times a float32 scale, clamped, encoded in the output format (RNE, "
             "saturating).",
}


def _modes(design: MorphableDesign) -> str:
    """A table of modes with what the ``mode`` port (or JOB_MODE) selects."""
    lines = ["| mode | name | products per cycle | activations | weights | unit of the sum |",
             "|---|---|---|---|---|---|"]
    for index, mode in enumerate(design.modes):
        unit = "float32" if design.accumulator.kind == "fp32" else f"2^{design.dot(mode).product_exponent}"
        lines.append(f"| {index} | {mode.name} | {mode.lanes} | {mode.lanes} x {mode.activation.bits} bits | "
                     f"{mode.lanes} x {mode.weight.bits} bits | {unit} |")
    formats = {fmt.name: fmt for mode in design.modes for fmt in (mode.activation, mode.weight)}
    return "\n".join([*lines, "", format_table("", [("", fmt) for fmt in formats.values()])])


def _accumulator(design: MorphableDesign) -> str:
    wanted = design.accumulator
    rule = "saturates" if wanted.overflow == "saturate" else "wraps"
    return ACCUMULATORS[wanted.kind].format(depth=wanted.depth, overflow=rule)


def _sections(design: MorphableDesign) -> str:
    if design.accumulator.kind != "exact":
        return ""
    parts = [f"{mode.name}: {', '.join(map(str, design.sections(mode)))}" for mode in design.modes
             if len(design.sections(mode)) > 1]
    if not parts:
        return (f" `acc` is a two's complement integer of {design.accumulator_bits} bits, in units of the table above.")
    return (f" `acc` has {design.accumulator_bits} bits. In some modes lanes add up in sections of their own, and the "
            "sum is the sum of the sections, each a two's complement integer that ends where the next one begins; "
            f"their lowest bits are {'; '.join(parts)}.")


def _pe_text(design: MorphableDesign) -> str:
    kind = {"merged": "one shared multiplier, shifter and accumulator",
            "parallel": "dedicated lanes for each mode before one accumulator",
            "packed": "two multipliers, meant for DSP blocks, for the products of all modes"}[design.implementation]
    return (f"The number format is chosen at run time, by `mode`, every cycle if need be: {len(design.modes)} "
            f"mode{'s' * (len(design.modes) > 1)} in one 16-bit operand word, built as `{design.implementation}` "
            f"({kind}). What a mode does not use sees no changing inputs.")


def _glance(design: MorphableDesign, pes: int = 1) -> dict[str, str]:
    """Modes and sums of a PE; products of so many of them."""
    kind = design.accumulator.kind
    sums = {"fp32": "float32, rounded each cycle", "int32": "32 bits, with an overflow flag",
            "exact": f"{design.accumulator_bits} bits, {count(design.accumulator.depth, 'product')} without rounding"}
    return {"Modes": ", ".join(mode.name for mode in design.modes), "PE": design.implementation, "Sum": sums[kind],
            "Products a cycle": ", ".join(f"{pes * mode.lanes:,} {mode.name}" for mode in design.modes)}


def _pe_flags(design: MorphableDesign) -> str:
    return "\n".join(f"- `{flag}`: {FLAGS[flag]}. Sticky until `clear`." for flag in design.flags) or "None."


def pe_datasheet(design: MorphableDesign) -> Datasheet:
    """README of a PE."""
    edges = f"{design.latency} clock edge{'s' * (design.latency > 1)}"
    timing = (f"- Latency: {edges} from operands with `en` to their sum on `acc`.\n"
              "- Throughput: one operand word each cycle.\n"
              "- Reset: there is no reset port. `clear` sets accumulator and flags to zero at a clock edge and wins "
              f"over `en`; hold it for {design.latency} cycle{'s' * (design.latency > 1)} after power-up. "
              "`mode`, `en` and `clear` travel through the pipeline with the operands.\n"
              "- A sum means something within one mode only: `clear` between modes.\n"
              "- Packing: lane 0 is in the least significant bits of `a` and `w`; narrower weights leave the upper "
              "bits of their word zero; unused lanes must be zero.")
    return Datasheet({
        "Function": f"Each clock cycle with `en`, the products of all lanes are added to one accumulator. "
                    f"{_pe_text(design)}",
        "Modes": _modes(design),
        "Accumulator": _accumulator(design) + _sections(design),
        "Timing": timing,
        "Flags": _pe_flags(design),
    }, {"a": "activation word", "w": "weight word", "mode": "index of the mode", "en": "accumulate this cycle",
        "clear": "zero the accumulator, wins over en", "acc": "accumulator", **dict.fromkeys(FLAGS, "flag")},
        {**_glance(design), "Latency": count(design.latency, "clock edge")})


def array_datasheet(design: ArrayDesign) -> Datasheet:
    """README of an array."""
    from .simulate_matmul import array_component

    pe, unit = design.pe, array_component(design)
    links = "one register for each row and column reaches all PEs at once" if design.links == "broadcast" else \
        "operands move from PE to PE, one row or column a cycle"
    result = (f"`result` holds one row: for each column, column 0 in the low bits, {unit.result_bits} bits: the sum, "
              f"then the flags {', '.join(f'`{flag}`' for flag in pe.flags) or '(none)'}.")
    ports = {"a": "activation words, row 0 in the low bits", "w": "weight words, column 0 in the low bits",
             "mode": "index of the mode", "en": "a word for every row and column", "result": "sums and flags of a row"}
    if design.dataflow == "output":
        function = (f"{design.rows} x {design.columns} PEs, output-stationary: `result[i][j]` is the sum over k of "
                    "`a[k][i] * w[k][j]`, one k-word a cycle.")
        timing = (f"- `last`, with `en`, ends every sum; the next sums may begin in the next cycle.\n"
                  f"- Row 0 is on `result` {unit.latency} clock edges after its `last` word; each `shift` brings the "
                  "next row there.\n- A new `last` only when the rows of the one before have been taken.\n"
                  "- Reset: none; `clear` for one cycle zeroes all sums and flags.")
        ports |= {"last": "every sum ends with this word", "clear": "zero all sums, wins over en",
                  "shift": "the next row moves to result"}
    else:
        function = (f"{design.rows} x {design.columns} PEs, weight-stationary: `result[j]` is `i[j]` plus the sum over "
                    "the rows r of `a[r] * weight[r][j]`, one vector a cycle. K beyond one pass: feed the sums of a "
                    "pass back on `i`.")
        timing = (f"- Sums are on `result`, with `valid`, {unit.latency} clock edges after their vector.\n"
                  "- Weights arrive row after row on `w` with `load`, the last row first, while vectors still run with "
                  "the previous ones; a vector with `swap` is the first that uses them.\n- Reset: none.")
        ports |= {"swap": "from this vector on, the weights that were loaded last", "load": "a row of weights",
                  "i": "sums to start from", "valid": "result holds sums"}
    return Datasheet({
        "Function": f"{function} {links[0].upper()}{links[1:]}. {_pe_text(pe)}",
        "Modes": _modes(pe),
        "Accumulator": _accumulator(pe) + _sections(pe).replace("`acc`", "A sum") + " " + result,
        "Timing": timing,
        "Flags": "\n".join(f"- `{flag}`: {FLAGS[flag]}." for flag in pe.flags) or "None.",
    }, ports, {"Array": f"{design.rows} x {design.columns} PEs, {design.dataflow}-stationary, {design.links} links",
               **_glance(pe, design.rows * design.columns), "Latency": count(unit.latency, "clock edge")})


def core_datasheet(design: MatmulDesign) -> Datasheet:
    """README of a core."""
    pe, bus = design.pe, design.bus_bits
    operands = "fetches jobs, operands and partial sums from memory by descriptors and stores the results" \
        if design.descriptors else "takes operands and gives results on AXI4-Streams"
    function = (f"`C[M, N] = A[M, K] x W[N, K]^T`, any M and N, in a {design.rows} x {design.columns} array. A program "
                f"writes the registers of a job and starts it; the core {operands}. Up to {design.queue} "
                f"job{'s wait' if design.queue > 1 else ' waits'} while one computes. {_pe_text(pe)}")
    longest = "\n".join(f"- {mode.name}: {design.max_k(mode):,}" for mode in pe.modes)
    split = "Longer sums are split over jobs whose raw results come back as partial sums (C)." \
        if design.accumulate else "This build cannot add partial sums."
    specials = {"exact": "NaN is the most negative code, +inf the largest, -inf the most negative plus one.",
                "fp32": "A float32 code.", "int32": "Two's complement."}[pe.accumulator.kind]
    rules = [RULES[rule].format(raw_bits=design.raw_bits, specials=specials) for rule in design.rules]
    outputs = ", ".join(f"`{name}` ({get_format(name).bits} bits)" for name in design.outputs)
    output = "\n".join([*(f"- {text}" for text in rules), "", f"Output formats: {outputs}.", "",
                        f"Bias for each column: {'yes' if design.bias else 'not built in'}. Partial sums C: "
                        f"{'yes' if design.accumulate else 'not built in'}. Block scales: "
                        f"{', '.join(design.block) or 'not built in'}."])
    sections = {
        "Function": function,
        "Modes": _modes(pe),
        "Sums": f"{_accumulator(pe)} Longest K of one job:\n\n{longest}\n\n{split}",
        "Output": output,
        "Operands": _descriptors() if design.descriptors else _streams(design),
        "Rate": _rate(design),
        "Software": _software(design),
        "Register map": markdown(core_registers(design), 3),
    }
    return Datasheet(sections, {
        "s_axil_": "registers, AXI4-Lite", "s_axis_a_": f"activations, AXI4-Stream of {bus} bits",
        "s_axis_w_": "weights, scales and per-channel records, AXI4-Stream", "s_axis_c_": "partial sums, AXI4-Stream",
        "m_axis_": "results, AXI4-Stream", "m_axi_": "memory, AXI4 master", "irq": "interrupt, level"},
        {"Array": f"{design.rows} x {design.columns} PEs", **_glance(pe, design.rows * design.columns),
         "Operands": f"AXI4{'' if design.descriptors else '-Stream'} of {bus} bits"
                     + (", jobs by descriptors" if design.descriptors else ""),
         "Longest K": ", ".join(f"{design.max_k(mode):,} {mode.name}" for mode in pe.modes),
         "Output": ", ".join(design.rules) + (f" ({', '.join(design.outputs)})" if set(design.rules) != {"raw"}
                                              else "")})


LAYOUT = """A is M x K and W is N x K, both with K along a row; elements are packed tight, the first in the low bits,
and each row is padded with zeros to whole beats (the core masks what is beyond K)."""


def _streams(design: MatmulDesign) -> str:
    rows, columns = design.rows, design.columns
    lines = [f"{' '.join(LAYOUT.split())}", "",
             f"- A panel: the rows of a row tile ({rows} rows, fewer at the edge), one after the other.",
             f"- W panel: the rows of a column tile ({columns} columns, fewer at the edge). With per-channel "
             "parameters, first one 128-bit record for each column: bias (bits 31:0), scale (63:32), shift (71:64)."]
    if design.block:
        lines.append("- With block scales, scale rows (8 bits a block) come before the data rows of a panel.")
    lines += ["- Order `a`: for each row tile its A panel once, then for each column tile the W panel. Order `w`: for "
              "each column tile its W panel once, then for each row tile the A panel.",
              "- Results, and C: tiles in the same order; in a tile the rows, each padded to whole beats. `tkeep` "
              "marks bytes with data, `tlast` the last beat of a job. `tlast` of inputs is ignored."]
    return "\n".join(lines)


MEMORY = """A_ADDR, W_ADDR, C_ADDR and O_ADDR point to the first rows, the STRIDE registers are bytes between rows;
all are multiples of a beat. RECORD_ADDR points to 16 bytes for each column: bias (bytes 0-3), scale (4-7), shift (8).
A chain of jobs starts at DESC_ADDR with CTRL.fetch: a descriptor holds a job's registers word by word
(`matmul_registers.h` has the offsets), and in its last word the address of the next one, 0 at the end."""


def _descriptors() -> str:
    return " ".join(f"{LAYOUT} {MEMORY}".split())


def _rate(design: MatmulDesign) -> str:
    lines = ["| mode | MACs per cycle at full use | K (elements) of a row per beat |", "|---|---|---|"]
    for mode in design.pe.modes:
        beats = [design.bus_bits // fmt.bits for fmt in (mode.activation, mode.weight)]
        lines.append(f"| {mode.name} | {design.rows * design.columns * mode.lanes} | A {beats[0]}, W {beats[1]} |")
    return "\n".join([*lines, "", "Loading, computing and draining overlap, within a job and between jobs. In a long "
                      "run of tiles one tile takes the largest of: its K words, the beats of each panel that it loads "
                      f"plus 1, and the cycles of its results plus {design.array_delay + 2}. "
                      + ("The counters tell what it was." if design.counters else "")]).rstrip()


def _software(design: MatmulDesign) -> str:
    lines = ["- `bitkiln_matmul.c`, `bitkiln_matmul.h`: freestanding C99 driver without allocation; it includes "
             "`matmul_registers.h`, the constants of this build.",
             "- `*_registers.h`, `*_registers.py`: the same constants with this module's name, for C and Python.",
             "- `*.rdl`: SystemRDL 2.0; `*_registers.md`: the register map below as a file of its own.",
             "- Python: `bitkiln.host.driver.Core`, over a transport of yours (registers, streams"
             f"{', memory' if design.descriptors else ''})."]
    return "\n".join(lines)
