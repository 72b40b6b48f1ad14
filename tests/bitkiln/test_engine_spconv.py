"""`map_search` and `spconv` for a user: descriptions and their errors, generated files, other tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_files import check_refused, check_tools

from bitkiln.cli import run_cli
from bitkiln.config import json_schema, load_design
from bitkiln.flow.generate import generate

CORE = {"engine": "spconv", "array.lanes": 2, "array.outputs": 2, "channels": 8, "tree.depth": 4, "tree.capacity": 128,
        "tree.queue": 2, "tree.rows": 2, "trees": 2, "cache.pinned": 3, "cache.tile_rows": 4,
        "memory.feature_words": 256, "memory.mask_rows": 128, "output_lanes": 1, "queue": 2, "name": "conv"}


def described(text: str):
    Path("d.yaml").write_text(f"engine: spconv\n{text}")
    return load_design(Path("d.yaml"))


def test_defaults_and_what_the_design_decides():
    resolved = described("")
    design = resolved.design
    assert (design.gather.lanes, design.gather.outputs, design.gather.pack, design.pinned) == (16, 16, "item", 27)
    assert resolved.config["tree"]["levels"] == list(design.map.levels)
    assert design.cache.slots == design.gather.weight_tiles == 29
    row = described("pack: row\n").design
    assert (row.gather.slots, row.gather.window) == (1, 8)
    Path("again.yaml").write_text(json.dumps(resolved.config))
    assert load_design(Path("again.yaml")).digest == resolved.digest
    assert set(json_schema("map_search")["properties"]) >= {"tree", "target"}
    assert described("format: posit8_0\n").design.rule == "float"


ERRORS = {
    "format": ("format: int9x\n", "error: unknown format at d.yaml:2 format: got 'int9x', expected a format name\n"
               "help: did you mean int9, uint9, int8?"),
    "lanes": ("array: {lanes: 12}\n", "error: not a power of two at d.yaml:2 array.lanes: got 12, expected 1, 2, 4, 8, "
              "..."),
    "channels": ("channels: 40\n", "error: a broken word of channels at d.yaml:2 channels: got 40, expected a multiple "
                 "of the 16 lanes"),
    "outputs": ("array: {outputs: 8}\n", "error: outputs do not fill words of features at d.yaml:2 array.outputs: got "
                "8, expected a multiple of the 16 lanes"),
    "pinned": ("pack: row\ncache: {pinned: 3}\n", "error: contradictory options at d.yaml:3 cache.pinned: got 3, "
               "expected 27 with pack row: all offsets of an output row at once"),
    "search": ("tree: {search: hash}\n", "error: unknown choice at d.yaml:2 tree.search: got 'hash', expected parity "
               "or compact\nhelp: choices: parity, compact"),
    "levels": ("tree: {depth: 3, levels: [4, 4]}\n", "error: wrong number of levels at d.yaml:2 tree.levels: got 2, "
               "expected 3, one for each level above the voxels"),
    "depth": ("tree: {depth: 17}\n", "error: out of range at d.yaml:2 tree.depth: got 17, expected at most 16"),
    "key": ("tiles: 3\n", None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name, capsys):
    text, message = ERRORS[name]
    if message is None:
        Path("d.yaml").write_text(f"engine: spconv\n{text}")
        assert run_cli(["generate", "d.yaml", "-o", "out"]) == 2
        assert "error: unknown key at d.yaml:2 tiles" in capsys.readouterr().err
        return
    check_refused(described, text, message, capsys)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    resolved = load_design(cli={key: (value, key) for key, value in CORE.items()})
    return resolved, generate(resolved, tmp_path_factory.mktemp("conv"))


def test_core_files(generated):
    resolved, files = generated
    names = {path.name for path in files.folder.iterdir()}
    assert names == {"conv.v", "conv.json", "README.md", "conv.html", "conv.svg", "conv_registers.h",
                     "conv_registers.py", "conv_registers.md", "conv.rdl"}
    facts = json.loads(files.paths["sidecar"].read_text())
    assert facts["config"] == resolved.config
    ports = {port["name"] for port in facts["ports"]}
    assert {"aclk", "aresetn", "s_axil_awaddr", "s_axis_v_tdata", "s_axis_f_tdata", "s_axis_w_tdata", "m_axis_q_tdata",
            "m_axis_tlast", "irq"} <= ports
    text = files.paths["datasheet"].read_text()
    for word in ("## Registers", "## Timing", "submanifold 3x3x3", "voxels of the other tree", "JOB_PINNED"):
        assert word in text
    for port in facts["ports"]:
        row = next(line for line in text.splitlines() if line.startswith(f"| `{port['name']}` |"))
        assert not row.endswith("|  |"), row


def test_other_tools_accept_the_core(generated):
    check_tools(generated[1], "conv")


def test_map_search_files():
    options = {"engine": "map_search", "tree.depth": 4, "tree.capacity": 128, "tree.search": "compact", "name": "maps"}
    files = generate(load_design(cli={key: (value, key) for key, value in options.items()}), Path("out"))
    facts = json.loads(files.paths["sidecar"].read_text())
    assert {"job__payload", "voxel__payload", "kept__payload", "item__payload"} <= {p["name"] for p in facts["ports"]}
    assert "submanifold" in files.paths["datasheet"].read_text()
    check_tools(files, "maps")


def test_no_jobs_of_the_core(capsys):
    for engine in ("map_search", "spconv"):
        assert run_cli(["sim", "--engine", engine, "--jobs", "3"]) == 2
        assert "error: option does not apply at --jobs: got 3" in capsys.readouterr().err
