"""The bench runner passes only what was really checked."""

import pytest
from samples import Counter

from bitkiln.models.errors import BitkilnError
from bitkiln.sim.runner import run_bench


def run(kind, module="bench_samples", **options):
    return run_bench(Counter(), module, parameters={"kind": kind}, **options)


@pytest.fixture(autouse=True)
def no_waves(monkeypatch):
    monkeypatch.delenv("WAVES", raising=False)


def test_honest_bench_passes():
    result = run("honest", seed=3)
    assert (result.tests, result.vectors, result.cycles, result.waves) == (1, 50, 50, None)
    assert result.facts["seed"] == 7
    assert "bench_samples.honest" in (result.folder / "bench.log").read_text()


def test_failing_bench_fails():
    with pytest.raises(BitkilnError) as caught:
        run("wrong")
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith("error: bench tests failed at bench_samples on counter: got '1 of 1', "
                                        "expected 0\n")
    assert "wrong on purpose" in str(caught.value)


def test_nothing_checked_fails():
    with pytest.raises(BitkilnError) as caught:
        run("silent")
    assert str(caught.value).startswith("error: the bench checked nothing at bench_samples on counter: got 0, expected "
                                        "at least one vector")


def test_no_test_fails():
    with pytest.raises(BitkilnError) as caught:
        run("honest", module="empty_samples")
    assert caught.value.exit_code == 1
    assert "empty_samples on counter" in str(caught.value)


def test_missing_module_fails():
    with pytest.raises(BitkilnError) as caught:
        run("honest", module="there_is_no_such_bench")
    assert caught.value.exit_code == 1


def test_ports_are_public():
    assert run("private").vectors == 1


def test_waves(monkeypatch):
    monkeypatch.setenv("WAVES", "1")
    result = run("honest")
    assert result.waves.name == "waves.fst" and result.waves.read_bytes()[0] == 0 and result.waves.stat().st_size > 300
    assert "counter.value[15:0]" in result.waves.with_suffix(".gtkw").read_text()
    assert "variable_add counter.value" in result.waves.with_suffix(".sucl").read_text()
