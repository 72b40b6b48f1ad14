"""Gate-level netlists and their simulation: bit-equal to the golden model, hazards where there are some."""

import numpy as np
import pytest
from gate_netlists import LIBERTY, LIBRARY, bits, netlist

from bitkiln.flow.gate_sim import GateSimulator, pack_bits, unpack_bits
from bitkiln.flow.gates import GateNetlist, gate_netlist
from bitkiln.flow.power import dot_stimulus
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.mac.dot import DotUnit
from bitkiln.models.cost.energy.liberty import parse_library
from bitkiln.models.cost.energy.traces import Trace
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dot import trace


@pytest.mark.parametrize("pe, options", [
    ("int4", {"lanes": 2}), ("fp4", {"lanes": 2, "pipeline": 2}),
    ("int8xternary", {"lanes": 4, "pipeline": 1}),
])
def test_gates_equal_the_golden_model(pe, options):
    design = DotDesign.from_pe(pe, **options)
    mapped = gate_netlist(to_verilog(DotUnit(design), design.name), design.name, [LIBERTY])
    assert mapped.area > 0 and {kind for kind, _ in mapped.cells} <= set(LIBRARY.cells)
    stimulus, a, w = dot_stimulus(design, Trace("uniform"), Trace.parse("sparse(0.3)"), 24, 64, seed=5)
    simulator = GateSimulator(mapped, LIBRARY)
    history = simulator.run(stimulus)
    acc = unpack_bits(history[:, mapped.outputs["acc"]])
    enable = np.ones(24, bool)
    for stream in range(64):
        clear = np.arange(24) == 0
        golden = trace(design, a[:, stream], w[:, stream], enable, clear)
        expected = golden.acc.astype(np.int64) & ((1 << design.accumulator_bits) - 1)
        assert np.array_equal(acc[1:, stream], expected[:-1])
    settled = np.bitwise_count(history[1:] ^ history[:-1]).sum(axis=(0, 2), dtype=np.int64)
    transitions = simulator.transitions(history)
    assert (transitions >= settled).all() and transitions.sum() > settled.sum()
    assert ((transitions - settled) % 2 == 0).all()                 # a hazard comes and goes


def test_netlist_is_kept(monkeypatch):
    text = "module m(input a, b, output y); assign y = a ^ b; endmodule"
    first = gate_netlist(text, "m", [LIBERTY])
    monkeypatch.setattr("bitkiln.flow.gates.run_yosys", lambda *_: pytest.fail("ran again"))
    assert gate_netlist(text, "m", [LIBERTY]) == first
    assert GateNetlist.from_dict(first.as_dict()) == first


def test_a_static_hazard_shows_only_with_delays():
    """`!(a & !a)` is 1, but a rising `a` arrives before its inverse falls."""
    mapped, names = netlist([("INV", {"A": "a", "Y": "n"}), ("NAND2", {"A": "a", "B": "n", "Y": "y"})], ["a"])
    simulator = GateSimulator(mapped, LIBRARY)
    history = simulator.run({"a": bits(0, 1, 0, 1, 1)})
    y, n, a = names["y"], names["n"], names["a"]
    assert (history[:, y] == np.uint64(2 ** 64 - 1)).all()
    found = simulator.transitions(history)
    assert found[y] == 64 * 2 * 2 and found[n] == found[a] == 64 * 3       # two rises of a, none for its fall


def test_waves_of_a_chain():
    """A parity chain: an input that changes with one later in the chain toggles the end twice or not at all."""
    cells = [("XOR2", {"A": "a", "B": "b", "Y": "p"}), ("XOR2", {"A": "p", "B": "c", "Y": "q"})]
    mapped, names = netlist(cells, ["a", "b", "c"])
    simulator = GateSimulator(mapped, LIBRARY)
    history = simulator.run({"a": bits(0, 1, 1), "b": bits(0, 0, 1), "c": bits(0, 1, 1)})
    found = simulator.transitions(history)
    # Edge 1: a and c change: q goes up with c, down a step later with p. Edge 2: b alone: p and q once.
    assert found[names["p"]] == 64 * 2 and found[names["q"]] == 64 * 3


def test_flip_flops_take_what_was_there():
    mapped, names = netlist([("DFF", {"CK": "clk", "D": "d", "Q": "q"}), ("DFF", {"CK": "clk", "D": "q", "Q": "r"})],
                            ["clk", "d"])
    history = GateSimulator(mapped, LIBRARY).run({"d": bits(1, 0, 1, 1, 0)})
    assert unpack_bits(history[:, [names["q"]]])[:, 0].tolist() == [0, 1, 0, 1, 1]
    assert unpack_bits(history[:, [names["r"]]])[:, 0].tolist() == [0, 0, 1, 0, 1]


def test_packing_round_trip():
    random = np.random.default_rng(3)
    codes = random.integers(0, 1 << 20, (3, 128, 4))
    words = pack_bits(codes, 20)
    assert words.shape == (3, 80, 2)
    expected = sum(codes[..., lane].astype(object) << (20 * lane) for lane in range(4))
    assert np.array_equal(unpack_bits(words), expected)
    with pytest.raises(BitkilnError, match="multiple of 64 streams"):
        pack_bits(codes[:, :100], 20)


def test_netlists_that_cannot_be_simulated():
    loop, _ = netlist([("INV", {"A": "y", "Y": "x"}), ("INV", {"A": "x", "Y": "y"})], [])
    with pytest.raises(BitkilnError, match="combinational loop at hand"):
        GateSimulator(loop, LIBRARY)
    gated, _ = netlist([("NAND2", {"A": "clk", "B": "e", "Y": "g"}), ("DFF", {"CK": "g", "D": "d", "Q": "q"})],
                       ["clk", "e", "d"])
    with pytest.raises(BitkilnError, match="flip-flop without the clock"):
        GateSimulator(gated, LIBRARY)
    text = LIBERTY.read_text()
    cleared = parse_library(text.replace('next_state : "D";', 'next_state : "D"; clear : "!D";'))
    plain, _ = netlist([("DFF", {"CK": "clk", "D": "d", "Q": "q"})], ["clk", "d"])
    with pytest.raises(BitkilnError, match="asynchronous set or reset at hand cell DFF: got '!D'"):
        GateSimulator(plain, cleared)
    latch = parse_library(text.replace("ff (IQ, IQN)", "latch (IQ, IQN)").replace("clocked_on", "enable")
                          .replace("next_state", "data_in"))
    with pytest.raises(BitkilnError, match="latch in the netlist"):
        GateSimulator(plain, latch)
    with pytest.raises(BitkilnError, match="wrong ports at hand: got 'e', expected d"):
        GateSimulator(plain, LIBRARY).run({"e": bits(0)})
    with pytest.raises(BitkilnError, match="wrong shape at hand"):
        GateSimulator(plain, LIBRARY).run({"d": pack_bits(np.zeros((2, 64), int), 2)})
    other, _ = netlist([("AND9", {"A": "a"})], ["a"])
    with pytest.raises(BitkilnError, match="no such cell at tiny: got 'AND9'"):
        GateSimulator(other, LIBRARY)


def test_tied_off_reset_and_complement_output():
    text = LIBERTY.read_text().replace('next_state : "D";', 'next_state : "!D"; clear : "!R";')
    text = text.replace('function : "IQ";', 'function : "IQN";').replace(
        "pin (D) {", "pin (R) { direction : input; capacitance : 0.001; }\n    pin (D) {")
    library = parse_library(text)
    for tied, seen in (("1", [1, 1, 0, 1]), ):
        mapped, names = netlist([("DFF", {"CK": "clk", "D": "d", "R": tied, "Q": "q"})], ["clk", "d"])
        history = GateSimulator(mapped, library).run({"d": bits(1, 0, 1, 0)})
        assert unpack_bits(history[:, [names["q"]]])[:, 0].tolist() == seen
    mapped, _ = netlist([("DFF", {"CK": "clk", "D": "d", "R": "0", "Q": "q"})], ["clk", "d"])
    with pytest.raises(BitkilnError, match="asynchronous set or reset"):
        GateSimulator(mapped, library)
