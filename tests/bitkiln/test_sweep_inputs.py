"""Wrong input of estimate, sweep and calibrate: a line for each error, with file, line, key and nearest choice."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bitkiln.cli import run_cli

SPACE = """\
schema_version: 1
name: tiny
spaces:
  - engine: dot_unit
    base: {pipeline: 1}
    grid:
      pe: [int8, fp4]
      lanes: [1, 2]
workload: digits-mlp
accuracy: [digits-mlp]
technology: ecp5
"""
CORE = """\
schema_version: 1
name: tiny
spaces:
  - engine: matmul_core
    base: {modes: [fp4, int8]}
    grid:
      array.rows: [2, 4]
      assignment: [fp4, {default: fp4, first: int8}]
workload: digits-mlp
accuracy: []
technology: ecp5
"""
TIERS = """\
clock_mhz: 100
tiers:
  - {name: sram, size_bits: 1024, bandwidth_bits_per_cycle: 64, source: assumed}
  - name: dram
    size_bits: 8589934592
    bandwidth_bytes_per_s: 1.0e9
    source: assumed
"""
LAYERS = """\
name: mine
layers:
  - {name: a, m: 4, k: 16, n: 8}
  - {name: b, m: 4, k: 8, n: 2, layer_class: last}
"""


@dataclass
class Case:
    """Edits of a file (text -> other text), and of each error its beginning and a part of its help."""

    name: str
    edits: dict[str, str]
    errors: list[tuple[str, str]] = field(default_factory=list)


GRID = "    grid:\n      pe: [int8, fp4]\n      lanes: [1, 2]\n"
SPACES = [
    Case("unknown key", {"technology:": "tecnology:"}, [("unknown key at s.yaml:11 tecnology", "technology")]),
    Case("unknown key of a space", {"base:": "bse:"}, [("unknown key at s.yaml:5 spaces.0.bse", "base")]),
    Case("unknown key of the search", {"technology: ecp5": "search: {sead: 1}"},
         [("unknown key at s.yaml:11 search.sead", "seed")]),
    Case("unknown key of a grid", {"lanes:": "lane:"}, [("unknown key at s.yaml:8 spaces.0.grid.lane", "lanes")]),
    Case("unknown dotted key", {"lanes:": "accumulator.dept:"},
         [("unknown key at s.yaml:8 spaces.0.grid.accumulator.dept: got 'dept'", "depth")]),
    Case("unknown key of the base", {"pipeline:": "pipelin:"},
         [("unknown key at s.yaml:5 spaces.0.base.pipelin", "pipeline")]),
    Case("key in base and grid", {"pipeline: 1": "lanes: 1"},
         [("key given twice at s.yaml:5 spaces.0.base.lanes", "")]),
    Case("duplicate key", {"technology: ecp5": "technology: ecp5\nname: tiny"},
         [("duplicate key at s.yaml:12 name: got 'a second value (the first is in line 2)'", "")]),
    Case("duplicate key of a grid", {"      lanes: [1, 2]": "      lanes: [1]\n      lanes: [2]"},
         [("duplicate key at s.yaml:9 spaces.0.grid.lanes", "")]),
    Case("unknown PE", {"fp4]": "fp5]"}, [("unknown PE at s.yaml:7 spaces.0.grid.pe.1: got 'fp5'", "fp4")]),
    Case("unknown PEs", {"int8, fp4]": "itn8, fp5]"},
         [("unknown PE at s.yaml:7 spaces.0.grid.pe.0: got 'itn8'", "int8"),
          ("unknown PE at s.yaml:7 spaces.0.grid.pe.1: got 'fp5'", "fp4")]),
    Case("the line of a list's item", {"fp4]": "fp4,\n           fp5]"},
         [("unknown PE at s.yaml:8 spaces.0.grid.pe.2: got 'fp5'", "fp4")]),
    Case("negative size", {"[1, 2]": "[1, -2]"},
         [("out of range at s.yaml:8 spaces.0.grid.lanes.1: got -2, expected at least 1", "")]),
    Case("text for a number", {"[1, 2]": "[1, two]"},
         [("wrong type at s.yaml:8 spaces.0.grid.lanes.1: got 'two' (text), expected an integer", "digits only")]),
    Case("no values", {"[1, 2]": "[]"}, [("no values at s.yaml:8 spaces.0.grid.lanes", "")]),
    Case("a value for a list", {"[1, 2]": "2"},
         [("wrong type at s.yaml:8 spaces.0.grid.lanes: got 2 (an integer), expected a list", "lanes: [2]")]),
    Case("no grid", {GRID: ""}, [("missing key at s.yaml:4 spaces.0.grid", "")]),
    Case("empty grid", {GRID: "    grid: {}\n"}, [("wrong number of values at s.yaml:6 spaces.0.grid: got 0", "")]),
    Case("no spaces", {SPACE[SPACE.index("spaces:"):SPACE.index("workload:")]: "spaces: []\n"},
         [("wrong number of values at s.yaml:3 spaces: got 0, expected at least 1", "")]),
    Case("no name", {"name: tiny\n": ""}, [("missing key at s.yaml:1 name", "")]),
    Case("a path for a name", {"name: tiny": "name: ../x y"},
         [("illegal name at s.yaml:2 name: got '../x y'", "use x_y")]),
    Case("unknown engine", {"dot_unit": "dot_unt"}, [("unknown value at s.yaml:4 spaces.0.engine", "dot_unit")]),
    Case("unknown metric", {"technology: ecp5": "axes: [[area, acuracy_digits-mlp]]"},
         [("unknown metric at s.yaml:11 axes.0.1: got 'acuracy_digits-mlp'", "accuracy_digits-mlp")]),
    Case("metric of no network", {"technology: ecp5": "axes: [[area, accuracy_g2p]]"},
         [("metric is not measured at s.yaml:11 axes.0.1", "")]),
    Case("one metric", {"technology: ecp5": "axes: [[area]]"},
         [("wrong number of values at s.yaml:11 axes.0: got 1, expected at least 2", "")]),
    Case("unknown network", {"[digits-mlp]": "[digit-mlp]"},
         [("unknown network at s.yaml:10 accuracy.0: got 'digit-mlp'", "digits-mlp")]),
    Case("unknown technology", {"ecp5": "ecp6"}, [("unknown technology at s.yaml:11 technology: got 'ecp6'", "ecp5")]),
    Case("unknown technology beside those of a grid", {"technology: ecp5": "technology: ecp6",
                                                       "lanes: [1, 2]": "technology: [ecp5]"},
         [("unknown technology at s.yaml:11 technology: got 'ecp6'", "ecp5")]),
    Case("unknown technology of a grid", {"lanes: [1, 2]": "technology: [ecp5, ecp6]"},
         [("unknown technology at s.yaml:8 spaces.0.grid.technology.1: got 'ecp6'", "ecp5")]),
    Case("unknown workload", {"workload: digits-mlp": "workload: digit-mlp"},
         [("unknown workload at s.yaml:9 workload: got 'digit-mlp'", "digits-mlp")]),
    Case("a number for a workload", {"workload: digits-mlp": "workload: 5"},
         [("wrong type at s.yaml:9 workload: got 5 (an integer)", "")]),
    Case("own workload, negative size",
         {"workload: digits-mlp": "workload:\n  name: x\n  layers:\n    - {name: a, m: 4, k: 16, n: -8}"},
         [("not a size at s.yaml:12 workload.layers[0].n: got -8", "")]),
    Case("own workload, unknown key",
         {"workload: digits-mlp": "workload: {name: x, layers: [{name: a, m: 4, k: 16, N: 8}]}"},
         [("unknown key at s.yaml:9 workload.layers[0].N", "n?")]),
    Case("too many points", {"[1, 2]": str(list(range(1, 400))), "{pipeline: 1}": "{}", "    grid:\n":
                             f"    grid:\n      accumulator.depth: {list(range(1, 400))}\n"},
         [("too many points at s.yaml:6 spaces.0.grid: got 318402, expected at most 100000", "several spaces")]),
    Case("empty space", {"{pipeline: 1}": "{accumulator.kind: int32}", "int8, fp4]": "fp4, posit8_0]"},
         [("empty space: no combination is a legal design at s.yaml:6 spaces.0.grid: got '4 combinations", "")]),
    Case("value of no design", {"{pipeline: 1}": "{accumulator.kind: int32}"},
         [("no combination with this value is a legal design at s.yaml:7 spaces.0.grid.pe.1: got 'fp4'", "")]),
    Case("unknown search", {"technology: ecp5": "search: {method: nsga3}"},
         [("unknown value at s.yaml:11 search.method: got 'nsga3'", "nsga2")]),
    Case("no points", {"technology: ecp5": "search: {points: 0}"},
         [("out of range at s.yaml:11 search.points: got 0, expected at least 1", "")]),
    Case("other version", {"schema_version: 1": "schema_version: 7"},
         [("unknown schema version at s.yaml:1 schema_version: got 7, expected 1", "")]),
    Case("memory as one value", {"technology: ecp5": "memory: 2 MB"},
         [("wrong type at s.yaml:11 memory: got '2 MB' (text), expected keys and values (clock_mhz, tiers)", "")]),
    Case("no tiers", {"technology: ecp5": "memory: {clock_mhz: 1, tiers: []}"},
         [("wrong number of values at s.yaml:11 memory.tiers: got 0, expected at least 1", "")]),
    Case("not YAML", {SPACE: "name: [\n"}, [("not valid YAML at s.yaml:2:1", "")]),
    Case("empty file", {SPACE: ""}, [("empty file at s.yaml: expected a design space", "bitkiln sweep --list")]),
    Case("a list", {SPACE: "- a\n"}, [("wrong top level at s.yaml:1", "bitkiln sweep --list")]),
    Case("several errors, by line", {"technology: ecp5": "technology: ecp6", "fp4]": "fp5]",
                                     "accuracy: [digits-mlp]": "accuracy: [dgits]"},
         [("unknown PE at s.yaml:7", "fp4"), ("unknown network at s.yaml:10", "digits"),
          ("unknown technology at s.yaml:11", "ecp5")]),
]
CORES = [
    Case("array of no rows", {"[2, 4]": "[4, 0]"},
         [("out of range at s.yaml:7 spaces.0.grid.array.rows.1: got 0, expected at least 1", "")]),
    Case("array too large", {"[2, 4]": "[65, 4]"},
         [("out of range at s.yaml:7 spaces.0.grid.array.rows.0: got 65, expected at most 64", "")]),
    Case("unknown mode", {"{modes: [fp4, int8]}": "{modes: [fp5, int8]}"},
         [("unknown PE at s.yaml:5 spaces.0.base.modes: got 'fp5'", "fp4")]),
    Case("no SIMD mode", {"{modes: [fp4, int8]}": "{modes: [int5]}"},
         [("no SIMD mode for this format at s.yaml:5 spaces.0.base.modes: got 'int5'", "")]),
    Case("modes that are no lists", {"{modes: [fp4, int8]}": "{}", "array.rows: [2, 4]": "modes: [fp4, int8]"},
         [("wrong type at s.yaml:7 spaces.0.grid.modes.0: got 'fp4' (text), expected a", "modes: [[fp4], ...]"),
          ("wrong type at s.yaml:7 spaces.0.grid.modes.1: got 'int8' (text), expected a", "modes: [[int8], ...]")]),
    Case("unknown layer", {"first:": "frist:"},
         [("no such layer or layer class at s.yaml:8 spaces.0.grid.assignment.1.frist", "first")]),
    Case("mode of no design", {"first: int8": "first: int9"},
         [("no design of this space has such a mode at s.yaml:8 spaces.0.grid.assignment.1.first: got 'int9'", "8")]),
    Case("number for an assignment", {"[fp4, {": "[3, {"},
         [("wrong type at s.yaml:8 spaces.0.grid.assignment.0: got 3", "default")]),
    Case("areas of two units", {"array.rows: [2, 4]": "technology: [ecp5, sky130hd]"},
         [("areas of different units at s.yaml:7 spaces.0.grid.technology.1: got 'sky130hd (um2)'", "each unit")]),
    Case("a metric against itself", {"accuracy: []": "accuracy: []\naxes: [[area, area]]"},
         [("a metric against itself at s.yaml:11 axes.0: got 'area'", "")]),
    Case("number for a mode", {"first: int8": "first: 8"},
         [("wrong type at s.yaml:8 spaces.0.grid.assignment.1.first: got 8, expected a mode", "")]),
]
MEMORIES = [
    Case("name of a row", {"name: sram": "name: arithmetic"},
         [("reserved name at {}:3 tiers.0.name: got 'arithmetic'", "")]),
    Case("name of a port", {"name: sram": "name: port a"}, [("reserved name at {}:3 tiers.0.name: got 'port a'", "")]),
    Case("endless clock", {"clock_mhz: 100": "clock_mhz: .inf"},
         [("wrong type at {}:1 clock_mhz: got inf (a float), expected", "")]),
    Case("no unit", {"size_bits: 85": "size: 85"}, [("unknown key at {}:5 tiers.1.size: got 'size'", "size_bits")]),
    Case("no unit, a text", {"size_bits: 8589934592": "size: 2 MB"},
         [("unknown key at {}:5 tiers.1.size: got 'size'", "keys carry their unit: size_bits")]),
    Case("unit in the value", {"8589934592": "2 MB"},
         [("wrong type at {}:5 tiers.1.size_bits: got '2 MB' (text), expected an integer", "name of the key")]),
    Case("wrong unit", {"clock_mhz": "clock_ghz"}, [("unknown key at {}:1 clock_ghz", "clock_mhz")]),
    Case("clock with its unit", {"clock_mhz: 100": "clock_mhz: 100 MHz"},
         [("wrong type at {}:1 clock_mhz: got '100 MHz' (text), expected a number", "name of the key")]),
    Case("negative size", {"8589934592": "-5"}, [("out of range at {}:5 tiers.1.size_bits: got -5", "")]),
    Case("no clock", {"clock_mhz: 100": "clock_mhz: 0"},
         [("out of range at {}:1 clock_mhz: got 0, expected above 0", "")]),
    Case("two bandwidths", {"1.0e9": "1.0e9\n    bandwidth_bits_per_cycle: 8"},
         [("bandwidth needs one unit at {}:4 tiers.1", "")]),
    Case("no bandwidth", {"    bandwidth_bytes_per_s: 1.0e9\n": ""},
         [("bandwidth needs one unit at {}:4 tiers.1", "")]),
    Case("infinite bandwidth", {"1.0e9": ".inf"}, [("bad value at {}:6 tiers.1.bandwidth_bytes_per_s: got inf", "")]),
    Case("no number", {"1.0e9": ".nan"}, [("out of range at {}:6 tiers.1.bandwidth_bytes_per_s: got nan", "")]),
    Case("no source", {"    source: assumed\n": ""}, [("missing key at {}:4 tiers.1.source", "")]),
    Case("two of one name", {"name: dram": "name: sram"}, [("tier named twice at {}:4 tiers.1.name: got 'sram'", "")]),
    Case("duplicate key", {"    source: assumed\n": "    source: assumed\n    source: again\n"},
         [("duplicate key at {}:8 tiers.1.source", "")]),
]
WORKLOADS = [
    Case("unknown key", {"k: 16": "K: 16"}, [("unknown key at w.yaml:3 layers[0].K", "k?")]),
    Case("negative size", {"k: 16": "k: -16"}, [("not a size at w.yaml:3 layers[0].k: got -16", "")]),
    Case("text", {"k: 16": "k: sixteen"}, [("not a size at w.yaml:3 layers[0].k: got 'sixteen'", "")]),
    Case("part of a number", {"k: 16": "k: 16.5"}, [("not a size at w.yaml:3 layers[0].k: got 16.5", "")]),
    Case("no size", {"k: 16, ": ""}, [("missing key at w.yaml:3 layers[0]", "")]),
    Case("unknown class", {"last": "lst"}, [("unknown choice at w.yaml:4 layers[1].layer_class: got 'lst'", "last")]),
    Case("one name twice", {"name: b": "name: a"},
         [("two layers of one name at w.yaml:4 layers[1].name: got 'a'", "")]),
    Case("duplicate keys", {"k: 16": "k: 16, k: 3", "k: 8": "k: 8, n: 2"},
         [("duplicate key at w.yaml:3 layers.0.k", ""), ("duplicate key at w.yaml:4 layers.1.n", "")]),
    Case("no layers", {LAYERS[LAYERS.index("layers"):]: ""}, [("missing key at w.yaml:1", "")]),
    Case("empty layers", {LAYERS[LAYERS.index("layers"):]: "layers: []\n"},
         [("not a list of layers at w.yaml:2 layers", "")]),
    Case("empty batch", {LAYERS: LAYERS + "batch: 0\n"}, [("not a size at w.yaml:5 batch: got 0", "")]),
]
CORE_OPTIONS = "estimate --engine matmul_core --modes fp4,int8 --workload digits-mlp"
COMMANDS = [
    ("estimate int8 --set lanes", "not KEY=VALUE at --set: got 'lanes'", "", 2),
    ("estimate int8 --set lanes=", "not KEY=VALUE at --set: got 'lanes='", "", 2),
    ("estimate int8 --set =2", "not KEY=VALUE at --set: got '=2'", "", 2),
    ("estimate int8 --set lane=2", "unknown key at --set: got 'lane'", "lanes", 2),
    ("estimate int8 --set lanes=two", "wrong type at --set lanes: got 'two' (text)", "", 2),
    ("estimate int8 --set 'lanes=[1'", "not a value at --set lanes: got '[1'", "", 2),
    ("estimate int8 --set 'lanes={a: 1, a: 2}'", "not a value at --set lanes", "", 2),
    ("estimate int8 --workload resnet19", "unknown workload at workload: got 'resnet19'", "resnet18", 2),
    ("estimate int8 --workload none.csv", "cannot read workload at none.csv", "", 2),
    ("estimate int8 --workload none.yaml", "no such file at none.yaml", "", 2),
    ("estimate int8 --memory none.yaml", "no such file at none.yaml", "clock_mhz", 2),
    ("estimate int8 --technology ecp6", "unknown technology at --technology: got 'ecp6'", "ecp5", 2),
    ("estimate int8 --technology none.json", "cannot read technology at none.json", "", 2),
    (f"{CORE_OPTIONS} --assign frist=int8", "no such layer or layer class at assignment: got 'frist'", "first", 2),
    (f"{CORE_OPTIONS} --assign first=int9", "the design has no such mode", "int8", 2),
    (f"{CORE_OPTIONS} --assign first", "not LAYER=MODE at --assign: got 'first'", "", 2),
    ("estimate", "missing argument at bitkiln estimate", "bitkiln estimate int8", 2),
    ("estimate --engine map_search", "no workload mapping for this engine", "", 2),
    ("sweep", "missing argument at bitkiln sweep", "bitkiln sweep", 2),
    ("sweep formts", "unknown design space at bitkiln sweep: got 'formts'", "formats", 2),
    ("sweep none.yaml", "no such file at none.yaml", "bitkiln sweep --list", 2),
    ("sweep formats --measure x", "unknown choice at --measure: got 'x', expected none or front", "", 2),
    ("sweep formats --energy x", "unknown choice at --energy: got 'x'", "", 2),
    ("sweep formats -j 0", "invalid value", "bitkiln sweep --help", 2),
    ("sweep formats --liberty none.lib", "contradictory options at --liberty", "", 2),
    ("sweep formats --measure front --liberty none.lib", "cannot read liberty file at none.lib", "", 2),
    ("calibrate --target ecp6", "unknown choice at --target: got 'ecp6'", "ecp5", 2),
    ("calibrate --target asic", "contradictory options at --liberty", "--liberty", 2),
    ("calibrate --target ecp5 --booth", "contradictory options at --booth", "", 2),
    ("calibrate --target ecp5 --liberty x.lib", "contradictory options at --liberty", "", 2),
    ("calibrate --target asic --liberty none.lib", "cannot read liberty file at none.lib", "", 2),
    ("calibrate --target ice40 --seeds 3", "contradictory options at --seeds", "", 2),
    ("calibrate --name ''", "illegal name at --name", "", 2),
    ("estimate --engine map_search", "no workload mapping for this engine at engine: got 'map_search'", "spconv", 2),
    ("calibrate --parts pe,aray", "unknown choice at --parts: got 'aray'", "array", 2),
    ("calibrate --seeds -1", "invalid value at bitkiln calibrate --seeds: got '-1'", "", 2),
    ("calibrate -j 0", "invalid value", "bitkiln calibrate --help", 2),
]


def edited(text: str, edits: dict[str, str]) -> str:
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    return text


def errors_of(arguments: str, capsys, code: int = 2) -> list[tuple[str, str]]:
    """Of each error line what follows ``error: ``, and its help; nothing else on either stream, nothing written."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert run_cli(shlex.split(arguments)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    found: list[tuple[str, str]] = []
    for line in shown.err.splitlines():
        if line.startswith("error: "):
            found.append((line.removeprefix("error: "), ""))
        else:
            assert line.startswith("help: ") and found and not found[-1][1]
            found[-1] = (found[-1][0], line.removeprefix("help: "))
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    assert all(not re.search(r"\b[0-9a-f]{12}\b", line) for line, _ in found)     # no digests of points
    return found


def check(found: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> None:
    assert len(found) == len(wanted), found
    for (line, help), (begin, hint) in zip(found, wanted, strict=True):
        assert line.startswith(begin)
        assert hint in help


def named(case: Case) -> str:
    return case.name.replace(" ", "_")


@pytest.mark.parametrize("case", SPACES, ids=named)
def test_space(case, capsys):
    Path("s.yaml").write_text(edited(SPACE, case.edits))
    check(errors_of("sweep s.yaml -j 1", capsys), case.errors)


@pytest.mark.parametrize("case", CORES, ids=named)
def test_space_of_cores(case, capsys):
    Path("s.yaml").write_text(edited(CORE, case.edits))
    check(errors_of("sweep s.yaml -j 1", capsys), case.errors)


@pytest.mark.parametrize("case", MEMORIES, ids=named)
def test_memory_file(case, capsys):
    Path("m.yaml").write_text(edited(TIERS, case.edits))
    check(errors_of("estimate int8 --workload digits-mlp --memory m.yaml", capsys),
          [(begin.format("m.yaml"), hint) for begin, hint in case.errors])


@pytest.mark.parametrize("case", MEMORIES, ids=named)
def test_memory_of_a_space(case, capsys):
    lines = len(SPACE.splitlines()) + 1
    inner = "".join(f"  {line}\n" for line in edited(TIERS, case.edits).splitlines())
    Path("s.yaml").write_text(f"{SPACE}memory:\n{inner}")

    def moved(begin: str) -> str:
        place = re.match(r"(.* at )\{\}:(\d+) (.*)", begin)
        return f"{place[1]}s.yaml:{int(place[2]) + lines} memory.{place[3]}"

    check(errors_of("sweep s.yaml -j 1", capsys), [(moved(begin), hint) for begin, hint in case.errors])


@pytest.mark.parametrize("case", WORKLOADS, ids=named)
def test_workload_file(case, capsys):
    Path("w.yaml").write_text(edited(LAYERS, case.edits))
    check(errors_of("estimate int8 --workload w.yaml", capsys), case.errors)


@pytest.mark.parametrize("arguments, begin, hint, code", COMMANDS, ids=[each[0] for each in COMMANDS])
def test_command_line(arguments, begin, hint, code, capsys):
    check(errors_of(arguments, capsys, code), [(begin, hint)])


def test_no_dask_scheduler(capsys):
    pytest.importorskip("distributed")
    Path("s.yaml").write_text(SPACE)
    check(errors_of("sweep s.yaml --dask nonsense", capsys),
          [("malformed address at --dask: got 'nonsense', expected tcp://HOST:PORT", "")])


def test_what_is_edited_is_right_before(capsys):
    """Otherwise a case may fail for another reason than its own."""
    from bitkiln.config_sweep import load_memory, load_space
    from bitkiln.flow.workloads import load_workload

    for text, points in ((SPACE, 4), (CORE, 4)):
        Path("s.yaml").write_text(text)
        space = load_space("s.yaml")
        assert (len(space.points), space.illegal) == (points, 0)
    Path("m.yaml").write_text(TIERS)
    assert [tier.name for tier in load_memory(Path("m.yaml")).tiers] == ["sram", "dram"]
    Path("w.yaml").write_text(LAYERS)
    assert load_workload("w.yaml").macs == 4 * 16 * 8 + 4 * 8 * 2
