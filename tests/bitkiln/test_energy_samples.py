"""Samples of the energy model: drawn once and for all, written and read again."""

from gate_netlists import LIBERTY

from bitkiln.flow.energy_samples import CHECK_TRACES, TRACES, check_designs, sample_designs, sample_energies, table_text
from bitkiln.models.cost.energy.energy import energy_samples
from bitkiln.models.cost.energy.traces import Trace
from bitkiln.models.design import DotDesign


def test_samples_are_drawn_once_and_for_all():
    fit, check = sample_designs(), check_designs()
    assert [name for name, _ in fit] == [name for name, _ in sample_designs()]
    assert [design.name for _, design in check] == [design.name for _, design in check_designs()]
    assert len(fit) >= 40 and {design.lanes for _, design in fit} == {1, 2, 4}
    assert not {design.name for _, design in fit} & {design.name for _, design in check}
    for pair in (*TRACES, *CHECK_TRACES):
        assert [str(Trace.parse(text)) for text in pair] == list(pair)
    assert not set(TRACES) & set(CHECK_TRACES)
    # The table that comes with the project is of these samples.
    shipped = {(sample.part, sample.design) for sample in energy_samples()}
    assert shipped == {("fit", design.name) for _, design in fit} | {("check", design.name) for _, design in check}


def test_rows_are_read_again(tmp_path):
    designs = [("ternary", DotDesign.from_pe("ternary", lanes=1))]
    rows = list(sample_energies([LIBERTY], designs, traces=TRACES[:2], cycles=16, streams=64, part="check"))
    path = tmp_path / "energy.csv"
    path.write_text(table_text(rows, "two lines\nof comment"))
    first, second = energy_samples(path)
    assert (first.part, first.pe, first.trace) == ("check", "ternary", "uniform x uniform")
    assert first.energy == rows[0]["energy"] and second.energy_glitch == rows[1]["energy_glitch"]
    assert first.structure == second.structure and first.structure.logic_area > 0
    assert first.structure.sequential_area == 8 * first.structure.accumulator_bits + 8 * 1    # and the illegal flag
    assert second.activity.activation < first.activity.activation
