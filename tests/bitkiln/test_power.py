"""Energies against sums by hand on small netlists, and of dot units."""

from pathlib import Path

import numpy as np
import pytest
from gate_netlists import LIBERTY, LIBRARY, bits, netlist

from bitkiln.flow.gate_power import switching_energy
from bitkiln.flow.gate_sim import GateSimulator
from bitkiln.flow.gate_slew import fanout_of_four_slew, net_loads, net_slews
from bitkiln.flow.power import energy
from bitkiln.models.cost.energy.liberty import parse_library
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import BitkilnError

PICO = 1e-12
PIN = 0.002 * PICO                                     # every input pin's capacitance
CHARGE = PIN * 1.0 ** 2 / 2                            # energy of a transition on one pin at 1 V


def measured(cells, stimulus, library=LIBRARY, glitches=True):
    mapped, names = netlist(cells, [*stimulus, *(["clk"] if "clk" in str(cells) else [])])
    simulator = GateSimulator(mapped, library)
    history = simulator.run(stimulus)
    return switching_energy(simulator, history, 0.0, glitches), names, simulator


def test_an_inverter_with_a_load():
    found, _, _ = measured([("INV", {"A": "a", "Y": "n"}), ("INV", {"A": "n", "Y": "y"})], {"a": bits(0, 1, 0, 0)})
    # n and y each rise once and fall once; n drives one pin, y none; a changes twice at one pin.
    assert found.cycles == 3 * 64
    assert found.combinational / 64 == pytest.approx(2 * (0.003 + 0.001) * PICO + 2 * CHARGE)
    assert found.inputs / 64 == pytest.approx(2 * CHARGE)
    assert found.sequential == found.clock == 0
    assert found.glitch_combinational == pytest.approx(found.combinational)
    assert found.leakage == pytest.approx(2e-9)


def test_a_transition_costs_what_its_cause_costs():
    """The mean over the inputs that changed, never the sum."""
    def nand(a, b):
        return measured([("NAND2", {"A": "a", "B": "b", "Y": "y"})], {"a": bits(*a), "b": bits(*b)})[0]

    assert nand((0, 1), (1, 1)).combinational / 64 == pytest.approx(0.002 * PICO)          # y falls by A
    assert nand((1, 1), (0, 1)).combinational / 64 == pytest.approx(0.006 * PICO)          # by B
    assert nand((0, 1), (0, 1)).combinational / 64 == pytest.approx(0.004 * PICO)          # by both: the mean
    assert nand((1, 0), (1, 1)).combinational / 64 == pytest.approx(0.004 * PICO)          # y rises by A
    assert nand((0, 1), (0, 0)).combinational == 0


def test_conditions_are_those_of_the_simulated_states():
    def xor(a, b):
        return measured([("XOR2", {"A": "a", "B": "b", "Y": "y"})], {"a": bits(*a), "b": bits(*b)})[0]

    assert xor((0, 1), (1, 1)).combinational / 64 == pytest.approx(0.004 * PICO)           # A with B: y falls
    assert xor((0, 1), (0, 0)).combinational / 64 == pytest.approx(0.010 * PICO)           # A without B: y rises
    assert xor((1, 1), (0, 1)).combinational / 64 == pytest.approx(0.006 * PICO)           # B: no condition
    assert xor((0, 1), (0, 1)).combinational == 0


def test_leakage_follows_the_state():
    found, _, _ = measured([("NAND2", {"A": "a", "B": "b", "Y": "y"})],
                           {"a": bits(0, 0, 1, 1, 1), "b": bits(0, 0, 0, 1, 1)})
    # After each edge: 1 in !A & !B, 2 elsewhere, 4 twice in A & B.
    assert found.leakage == pytest.approx((1 + 2 + 4 + 4) / 4 * 1e-9)


def test_flip_flops_and_their_clock():
    """Clock edges: the rise of a flip-flop that is about to change is in its output's energy (conditions with 0)."""
    found, _, _ = measured([("DFF", {"CK": "clk", "D": "d", "Q": "q"})], {"d": bits(0, 1, 1, 0, 0)})
    # d changes at edges 1 and 3, q at 2 and 4. Rises without a change of q: edges 1 and 3; falls: all four.
    clock = 2 * 0.010 + 4 * 0.004
    data = 2 * (0.002 + 0.004) / 2
    assert found.sequential / 64 == pytest.approx((clock + data + 0.020 + 0.016) * PICO)
    assert found.clock / 64 == pytest.approx(4 * 2 * CHARGE) and found.inputs / 64 == pytest.approx(2 * CHARGE)
    assert found.leakage == pytest.approx(8e-9) and found.combinational == 0


def test_hazards_cost_what_settled_transitions_cost():
    cells = [("INV", {"A": "a", "Y": "n"}), ("NAND2", {"A": "a", "B": "n", "Y": "y"}), ("INV", {"A": "y", "Y": "z"})]
    found, _, _ = measured(cells, {"a": bits(0, 1, 0, 1)})
    inverter = 2 * 0.001 + 0.003
    quiet = (inverter * PICO + 3 * CHARGE)                     # n: falls, rises, falls; drives one pin
    assert found.combinational / 64 == pytest.approx(quiet)
    # y and z: two hazards of two transitions each, at the mean of their tables; y drives one pin.
    tables = 4 * np.mean([0.004, 0.002, 0.008, 0.006]) + 4 * np.mean([0.003, 0.001])
    assert found.glitch_combinational / 64 == pytest.approx(quiet + tables * PICO + 4 * CHARGE)
    assert measured(cells, {"a": bits(0, 1, 0, 1)}, glitches=False)[0].glitch_combinational is None


def test_supplies_add_up():
    text = LIBERTY.read_text()
    line = next(line for line in text.splitlines() if 'rise_power (scalar) { values ("0.003")' in line)
    two = "".join(line.replace('related_pin : "A";', f'related_pin : "A"; related_pg_pin : {supply};')
                  for supply in ("VDD", "VSS"))
    library = parse_library(text.replace(line, two))
    found, _, _ = measured([("INV", {"A": "a", "Y": "y"})], {"a": bits(0, 1, 0)}, library)
    assert found.combinational / 64 == pytest.approx(2 * (0.003 + 0.001) * PICO)


def test_tables_are_read_at_load_and_slew():
    cells = [("BUF", {"A": "a", "Y": "y"}), *(("INV", {"A": "y", "Y": f"z{at}"}) for at in range(3))]
    found, names, simulator = measured(cells, {"a": bits(0, 1)})
    loads = net_loads(simulator)
    assert loads[names["y"]] == pytest.approx(3 * PIN)
    # The table's load axis comes first: 0.001 to 0.101 pF; slew 0.
    internal = 0.001 + (0.006 - 0.001) / 0.1 * 0.001
    assert found.combinational / 64 == pytest.approx((internal + 3 * 0.001) * PICO + 3 * CHARGE)
    slews = net_slews(simulator, loads, 0.0)
    table = LIBRARY.cell("BUF").pins["Y"].timing[0]
    assert slews[names["y"]] == pytest.approx(1e-9 * np.mean([table.rise.at(0, 0.006), table.fall.at(0, 0.006)]))
    slew = fanout_of_four_slew(LIBRARY)
    own = LIBRARY.cell("INV").pins["Y"].timing[0]
    edges = [own.rise.at(slew * 1e9, 0.008), own.fall.at(slew * 1e9, 0.008)]
    assert slew == pytest.approx(1e-9 * np.mean(edges), rel=1e-3)


def test_energy_of_a_dot_unit(monkeypatch):
    design = DotDesign.from_pe("int4", lanes=2)
    options = {"liberty": [LIBERTY], "cycles": 32, "streams": 64}
    found = energy(design, **options)
    assert found["energy"] == pytest.approx(sum(found[part] for part in (
        "combinational", "sequential", "inputs", "clock_pins", "leakage")))
    assert found["energy_per_mac"] == pytest.approx(found["energy"] / 2)
    assert found["energy_glitch"] > found["energy"] > 0 and found["area_sequential"] % 8 == 0
    # Clock pins are charged twice a cycle whatever the operands do.
    assert found["clock_pins"] * PICO == pytest.approx(found["area_sequential"] / 8 * 2 * CHARGE)
    assert found["activation_toggle_rate"] == pytest.approx(0.5, abs=0.05)
    monkeypatch.setattr("bitkiln.flow.power.GateSimulator", lambda *_: pytest.fail("ran again"))
    assert energy(design, **options).as_dict() == found.as_dict()
    faster = energy(design, **options, clock_mhz=1000)
    assert faster["leakage"] == pytest.approx(found["leakage"] / 2)
    assert faster["combinational"] == found["combinational"]


def test_energy_follows_the_operands():
    design = DotDesign.from_pe("int4", lanes=1)
    options = {"liberty": [LIBERTY], "cycles": 32, "streams": 64, "glitches": False}
    energies = [energy(design, *traces, **options)["energy"] for traces in (
        ("uniform", "uniform"), ("relu", "uniform"), ("relu", "uniform@16"), ("sparse(1)", "uniform@32"))]
    assert energies == sorted(energies, reverse=True) and len(set(energies)) == 4
    assert energy(design, **options)["energy_glitch"] is None


@pytest.mark.parametrize("options, message", [
    ({"streams": 60}, "out of range at streams: got 60"), ({"cycles": 2}, "too few cycles at cycles"),
    ({"clock_mhz": 0}, "out of range at clock_mhz"), ({"activation": "gauss"}, "unknown operand trace"),
    ({"liberty": []}, "missing option at --liberty"), ({"liberty": [Path("none.lib")]}, "cannot read liberty file"),
])
def test_unusable_options(options, message):
    with pytest.raises(BitkilnError, match=message):
        energy(DotDesign.from_pe("int4", lanes=1), **{"liberty": [LIBERTY], "cycles": 16, "streams": 64, **options})
