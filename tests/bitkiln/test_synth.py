"""Synthesis and place and route: counts on every family, area and delay with a liberty file, caching."""

import gzip
import json
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.flow.metrics import Metric, Metrics
from bitkiln.flow.pnr import DENSE_CELLS, chosen_routing, place_and_route, wrapper
from bitkiln.flow.synth import read_liberty, synthesise
from bitkiln.flow.targets import TARGETS, get_target
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.toolchain import find

LIBERTY = Path(__file__).parent / "data" / "tiny.lib"

# Eight bits of sum in a module of its own, and a register with enable and clear around it.
COUNTER = """
module counter(input clk, input en, input clear, input [7:0] a, output reg [7:0] q);
  wire [7:0] s;
  add u (.x(q), .y(a), .s(s));
  always @(posedge clk) if (clear) q <= 8'd0; else if (en) q <= s;
endmodule
(* keep_hierarchy *) module add(input [7:0] x, input [7:0] y, output [7:0] s); assign s = x + y; endmodule
"""


@pytest.mark.parametrize("target, lut, carry, ff", [
    ("ecp5", 0, 4, 8), ("ice40", 8, 7, 8), ("gowin", 0, 8, 8), ("xilinx", 8, 2, 8)])
def test_counts_over_the_hierarchy(target, lut, carry, ff):
    metrics = synthesise(COUNTER, "counter", target)
    assert metrics["ff"] == ff
    assert metrics["carry"] == pytest.approx(carry, abs=1)         # one more where carry-in needs a cell
    assert metrics["lut"] == pytest.approx(lut, abs=10)            # control of the registers
    assert metrics["dsp"] == 0
    assert metrics.tools["yosys"] and TARGETS[target].synth.split()[0] in metrics.command
    assert "add" not in metrics.cells


def test_dsp_blocks_only_when_asked():
    product = "module p(input signed [3:0] a, b, output signed [7:0] o); assign o = a * b; endmodule"
    assert synthesise(product, "p", "ecp5")["dsp"] == 0
    assert synthesise(product, "p", "ecp5", dsp=True)["dsp"] == 1


def test_liberty():
    metrics = synthesise(COUNTER, "counter", "asic", liberty=LIBERTY)
    assert metrics["area_sequential"] == 8 * 8
    assert metrics["area"] > 64 + 8 * 4
    assert metrics["cells"] == sum(metrics.cells.values()) > 16
    assert 100 < metrics["delay"] < 3000                           # some ten cells of 20 to 50 ps and their loads
    assert metrics["area_at_delay"] >= 64
    assert metrics.device == "tiny"


def test_large_memories_are_macros():
    """Beside a small memory and the logic around both, which stay."""
    text = """
    module m(input clk, en, input [5:0] wa, ra, input [7:0] d, output reg [7:0] q, output [7:0] x);
      reg [7:0] large[63:0]; reg [7:0] small[3:0]; reg [7:0] p;
      always @(posedge clk) begin
        if (en) begin large[wa] <= d + 8'd1; small[wa[1:0]] <= d; end
        q <= large[ra]; p <= small[ra[1:0]];
      end
      assign x = p ^ q;
    endmodule"""
    found = {words: synthesise(text, "m", "asic", liberty=LIBERTY, sram_words=words) for words in (0, 64, 65)}
    # The register behind the large memory is the macro's own.
    assert found[64]["area_sequential"] == 8 * (4 * 8 + 8) and found[64]["cells"] > 40
    assert (found[64]["sram"], found[64]["sram_macros"]) == (64 * 8, 1) and "SRAM" not in found[64].cells
    assert found[65]["area"] == found[0]["area"] > 10 * found[64]["area"] and found[65]["sram"] == 0
    assert "sram" not in {metric.name for metric in found[0].metrics}


def test_packed_liberty_gives_the_same(tmp_path):
    packed = tmp_path / "tiny.lib.gz"
    packed.write_bytes(gzip.compress(LIBERTY.read_bytes()))
    assert read_liberty(packed) == read_liberty(LIBERTY)


def test_booth_changes_a_multiplier():
    product = "module p(input [7:0] a, b, output [15:0] o); assign o = a * b; endmodule"
    plain = synthesise(product, "p", "asic", liberty=LIBERTY)
    booth = synthesise(product, "p", "asic", liberty=LIBERTY, booth=True)
    assert plain["area"] != booth["area"]
    assert plain["area_sequential"] in (0, None)


def test_library_without_a_buffer_is_explained(tmp_path):
    text = LIBERTY.read_text()
    start, end = text.index("  cell (BUF)"), text.index("  cell (INV)")
    other = tmp_path / "other.lib"
    other.write_text(text[:start] + text[end:])
    with pytest.raises(BitkilnError, match="ABC cannot map onto this library at tiny: expected an inverter, a buffer"):
        synthesise(COUNTER, "counter", "asic", liberty=other)


def test_second_run_is_cached(monkeypatch):
    first = synthesise(COUNTER, "counter", "ecp5")
    monkeypatch.setattr("bitkiln.flow.synth.run_yosys", lambda *_: pytest.fail("ran again"))
    assert synthesise(COUNTER, "counter", "ecp5").as_dict() == first.as_dict()


def test_broken_verilog_is_failed_work():
    with pytest.raises(BitkilnError, match="tool failed at yosys") as caught:
        synthesise("module m(; endmodule", "m")
    assert caught.value.exit_code == 1
    assert "ERROR" in str(caught.value.got)


@pytest.mark.parametrize("serial", [False, True])
def test_wrapper_is_legal_verilog(serial):
    ports = [("clk", "input", 1), ("en", "input", 1), ("clear", "input", 1), ("a", "input", 8), ("q", "output", 8)]
    text = COUNTER + wrapper("counter", ports, serial=serial)
    metrics = synthesise(text, "counter_timed", "ecp5")
    assert metrics["ff"] == 8 + 10 + (16 if serial else 8)         # the unit's, its inputs', its outputs'


def test_wrapper_of_one_bit_and_no_clock():
    ports = [("a", "input", 1), ("o", "output", 1)]
    inverter = "module inv(input a, output o); assign o = ~a; endmodule\n"
    assert synthesise(inverter + wrapper("inv", ports, serial=True), "inv_timed", "ecp5")["ff"] == 3


def test_place_and_route():
    if find("nextpnr-ecp5") is None:
        pytest.skip("no nextpnr-ecp5 here: pip install 'bitkiln[fpga]'")
    metrics = place_and_route(COUNTER, "counter", seeds=(1, 2))
    assert 50 < metrics["fmax"] < 600
    fmax, = metrics.metrics
    assert fmax.unit == "MHz" and fmax.higher_is_better and fmax.error is not None
    assert metrics.seed == [1, 2] and "LFE5U-25F" in metrics.device


def test_routing_follows_the_size(tmp_path):
    """On the large part a design of much logic is routed as a dense one; what is asked for is taken."""
    for luts, carries, parts, wanted in ((DENSE_CELLS - 1, 0, 0, "plain"), (DENSE_CELLS - 10, 5, 0, "dense"),
                                         (10, 0, 2, "plain"), (10, 0, 3, "dense")):
        kinds = ["LUT4"] * luts + ["CCU2C"] * carries + ["kept"] * parts
        kept = ["LUT4"] * (DENSE_CELLS // 3) + ["TRELLIS_FF"] * 100
        netlist = {name: {"cells": {f"c{at}": {"type": kind} for at, kind in enumerate(each)}}
                   for name, each in (("m", kinds), ("kept", kept), ("LUT4", []))}
        (tmp_path / "netlist.json").write_text(json.dumps({"modules": netlist}))
        assert chosen_routing(tmp_path / "netlist.json", "m") == wanted
    with pytest.raises(BitkilnError, match="negotiated") as caught:
        place_and_route(COUNTER, "counter", routing="negotiate")
    assert caught.value.exit_code == 2
    if find("nextpnr-ecp5") is None:
        pytest.skip("no nextpnr-ecp5 here: pip install 'bitkiln[fpga]'")
    plain, dense = (place_and_route(COUNTER, "counter", part="ecp5-85k", seeds=(1,), routing=each)
                    for each in (None, "dense"))
    assert "router2" not in plain.command and "--placer static --router router2" in dense.command
    assert "LFE5U-85F" in dense.device and dense["fmax"] > 50


def test_no_place_and_route_is_null_with_a_reason():
    metrics = place_and_route(COUNTER, "counter", "xilinx")
    assert metrics["fmax"] is None and "no open place and route" in metrics.metrics[0].note


def test_command_writes_metrics(capsys):
    assert run_cli(["synth", "int4", "--lanes", "1", "--seeds", "0", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    path, = Path("build").glob("dot_int4_l1_*/metrics.json")
    assert json.loads(path.read_text()) == shown
    assert shown["schema"] == "bitkiln.metrics/1"
    assert shown["provenance"]["kind"] == "measured" and shown["provenance"]["tools"]["yosys"]
    rows = {row["name"]: row for row in shown["metrics"]}
    assert rows["ff"]["value"] == 18 and rows["fmax"]["value"] is None and "not asked" in rows["fmax"]["note"]
    assert all(row["unit"] for row in shown["metrics"])
    assert shown["design"]["config"]["lanes"] == 1
    # The datasheet then shows them.
    assert run_cli(["generate", "int4", "--lanes", "1"]) == 0
    readme, = Path("build").glob("dot_int4_l1_*/README.md")
    assert "| lut |" in readme.read_text()


def test_command_with_the_files_liberty(capsys):
    Path("cells.lib").write_text(LIBERTY.read_text())
    Path("d.yaml").write_text("engine: dot_unit\npe: fp4\nlanes: 1\ntarget: {asic: {liberty: cells.lib}}\n")
    assert run_cli(["synth", "d.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "on tiny" in shown and "um2" in shown


def test_metrics_round_trip():
    metrics = Metrics("d", {"t": "1"}, "c", [Metric("x", None, "u", note="why"), Metric("y", 1.5, "u", True, 0.1)])
    assert Metrics.from_dict(metrics.as_dict()).as_dict() == metrics.as_dict()
    assert metrics["x"] is None
    with pytest.raises(KeyError):
        metrics["z"]


def test_target_names():
    assert get_target("ECP5-25k").name == "ecp5"
    with pytest.raises(BitkilnError, match="unknown target at target: got 'ecp55'"):
        get_target("ecp55")
