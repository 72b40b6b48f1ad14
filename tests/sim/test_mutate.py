# amaranth: UnusedElaboratable=no
"""The mutation runs themselves: they see good tests as good and bad ones as bad."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.hw.arith.delay import DelayLine
from bitkiln.hw.formats.decode import decoder_for
from bitkiln.models.design import DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.sim import mutate
from bitkiln.sim.bitserial_blocks import BITSERIAL
from bitkiln.sim.block_check import Segment, check_for, kind_of
from bitkiln.sim.mutants import Netlist
from bitkiln.sim.mutate import (
    PES,
    TARGET,
    UNITS,
    default_design,
    engine_blocks,
    main,
    mutate_block,
    mutate_unit,
)
from bitkiln.sim.output_check import PARTS
from bitkiln.sim.toolchain import find
from bitkiln.sim.verilate import verilog_text

pytestmark = pytest.mark.skipif(find("yosys") is None, reason="no Yosys: pip install 'bitkiln[test]'")


def with_codes(decoder, codes: np.ndarray):
    """The unit test of a decoder with these codes alone."""
    check = check_for(decoder)
    every = next(check.segments())
    chosen = Segment({"code": every.inputs["code"][codes]}, {k: v[codes] for k, v in every.expected.items()})
    return dataclasses.replace(check, exhaustive=False, segments=lambda: iter([chosen]))


def test_exhaustive_vectors_kill_all_relevant_mutants() -> None:
    result = mutate_block(decoder_for(get_format("posit8_0")), count=60, seed=3)
    assert result.relevant >= 60 and result.rate == 1.0 and result.survivors == []
    assert result.killed + result.equivalent + result.allowed == result.tried <= result.candidates


def test_few_vectors_are_seen_to_be_few() -> None:
    decoder = decoder_for(get_format("posit8_0"))
    result = mutate_block(decoder, count=60, seed=3, check=with_codes(decoder, np.array([0, 1, 0x40, 0x80])))
    assert result.rate < TARGET and result.survivors
    assert all(survivor.command.startswith("mutate -mode ") for survivor in result.survivors)


def test_vectors_without_a_stall_are_seen_to_be_weak() -> None:
    delay = DelayLine(7, 3)
    values = np.random.default_rng(5).integers(0, 128, 2000)
    running = Segment({"en": 1, "i": values}, {"o": np.roll(values, 2)}, 2)
    check = dataclasses.replace(check_for(delay), segments=lambda: iter([running]))
    assert mutate_block(delay, count=60, check=check).rate < TARGET
    assert mutate_block(delay, count=60).rate == 1.0


def test_every_kind_of_block_of_the_engine_is_there() -> None:
    kinds = {unit: [kind_of(block) for block in engine_blocks(unit)] for unit in UNITS}
    assert set(kinds["output"]) == {*PARTS, "output lane"}
    assert set(kinds["switchable"]) == {"fp32 step", "posit pair decoder", "switchable pe"}
    assert set(kinds["bitserial"]) == {kind for kind, _ in BITSERIAL.values()}
    assert all(check_for(block).kind == kind for unit in UNITS
               for block, kind in zip(engine_blocks(unit), kinds[unit], strict=True))


def netlist_of(component, folder) -> Netlist:
    prepared, text = verilog_text(component)
    return Netlist(folder, text, prepared.top, prepared.ports)


class Padded(wiring.Component):
    """A register some of whose bits are constants."""

    module_name = "padded"

    def __init__(self):
        super().__init__({"i": In(4), "o": Out(6)})

    def elaborate(self, platform) -> Module:
        m = Module()
        held = Signal(6, init=0b100000, reset_less=True)
        m.d.sync += held.eq(Cat(Const(0, 1), self.i, Const(1, 1)))
        m.d.comb += self.o.eq(held)
        return m


def test_sat_knows_registers_with_constant_bits(tmp_path) -> None:
    netlist = netlist_of(Padded(), tmp_path)
    mutants = [mutant for mutant in netlist.candidates(100, 1)[0] if "-port D" in mutant]
    assert len(mutants) >= 4
    for mutant in mutants:
        assert netlist.proved_equal(mutant) is False
        assert netlist.proved_equal(mutant.replace("-mode inv", "-mode none").replace("-mode const0", "-mode none")
                                    .replace("-mode const1", "-mode none")) is True


def test_a_proof_that_takes_too_long_is_given_up(tmp_path, monkeypatch) -> None:
    netlist = netlist_of(decoder_for(get_format("fp6_e3m2")), tmp_path)
    mutants, _ = netlist.candidates(1, 5)
    monkeypatch.setattr("bitkiln.sim.mutants.SAT_SECONDS", 0.01)
    with pytest.raises(BitkilnError, match="Yosys takes too long"):
        netlist.proved_equal(mutants[0])


def test_sat_agrees_with_all_inputs(tmp_path) -> None:
    """The proof that makes a survivor irrelevant, held against the exhaustive comparison."""
    decoder = decoder_for(get_format("fp6_e3m2"))
    netlist = netlist_of(decoder, tmp_path)
    mutants, _ = netlist.candidates(10, 5)
    model, codes = netlist.with_mutants(mutants), np.arange(64)

    def outputs(index: int) -> list:
        return [values.tolist() for values in model.run({"code": codes, "mutsel": index}).values()]

    verdicts = [netlist.proved_equal(mutant) for mutant in mutants]
    assert verdicts == [outputs(index) == outputs(0) for index in range(1, len(mutants) + 1)]
    harmless = mutants[0].replace("-mode inv", "-mode none").replace("-mode const0", "-mode none")
    assert netlist.proved_equal(harmless.replace("-mode const1", "-mode none")) is True


def test_a_block_that_fails_its_own_check_is_no_start() -> None:
    decoder = decoder_for(get_format("fp4"))
    check = check_for(decoder)
    segment = next(check.segments())
    wrong = Segment(segment.inputs, {"value": segment.expected["value"] + 1})
    with pytest.raises(BitkilnError, match="the block fails its own check"):
        mutate_block(decoder, check=dataclasses.replace(check, segments=lambda: iter([wrong])))


def test_command_writes_its_report(tmp_path, capsys) -> None:
    path = tmp_path / "report.json"
    assert main(["--pe", "int2", "--count", "5", "--output", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["passed"] and report["seed"] == 1
    assert {block["kind"] for block in report["blocks"]} >= {"lane product", "dot unit"}
    assert "rate" in capsys.readouterr().out


def test_command_takes_one_part_of_the_engine(tmp_path, monkeypatch) -> None:
    path = tmp_path / "report.json"
    monkeypatch.setattr(mutate, "engine_blocks", lambda unit: [DelayLine(3, 2)])
    assert main(["--unit", "output", "--count", "5", "--output", str(path)]) == 0
    assert [(block["unit"], block["block"]) for block in json.loads(path.read_text())["blocks"]] \
        == [("output", "delay_3x2")]


def test_wrong_arguments() -> None:
    assert main(["--pe", "nonsense"]) == 2
    assert main(["--count", "0"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("pe", PES)
def test_unit_tests_kill_the_mutants(pe: str) -> None:
    design: DotDesign = default_design(pe)
    for result in mutate_unit(design, seed=11):
        assert result.rate >= TARGET, f"{result.block}: {result.survivors}"
        assert result.relevant >= 100 or result.tried == result.candidates


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_unit_tests_kill_the_mutants_of_the_engine(unit: str) -> None:
    for block in engine_blocks(unit):
        result = mutate_block(block, own_only=True, seed=11)
        assert result.rate >= TARGET, f"{result.block}: {result.survivors}"
        assert result.relevant >= 100 or result.tried == result.candidates
