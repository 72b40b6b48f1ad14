"""Target tables and the benchmark driver."""

import json
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.models.errors import BitkilnError
from bitkiln.report.bench import run_suite
from bitkiln.report.table import Row, print_targets


@pytest.mark.parametrize("measured, target, better, passed", [
    (10, 10, "lower", True), (11, 10, "lower", False), (10, 10, "higher", True), (9.9, 10, "higher", False),
    (None, 10, "lower", False), (float("nan"), 10, "higher", False), (5, None, "lower", None),
])
def test_pass_or_miss(measured, target, better, passed):
    assert Row("x", measured, "u", target, better).passed is passed


def test_table_and_json(capsys):
    rows = [Row("LUTs [fp4]", 28, "LUT4", 28, command="make bench"), Row("speed", 1.5e6, "vectors/s", 2e6, "higher"),
            Row("note only", 3.25, "s")]
    assert print_targets(rows, Path("out/t.json")) is False
    text = capsys.readouterr().out
    assert "LUTs [fp4]" in text and "<= 28" in text and ">= 2,000,000" in text and "miss" in text
    assert "1 of 2 targets met, 1 missed" in text
    content = json.loads(Path("out/t.json").read_text())
    assert [row["passed"] for row in content["rows"]] == [True, False, None]


def _suite(body: str) -> None:
    Path("benchmarks").mkdir()
    Path("benchmarks/__init__.py").write_text("")
    Path("benchmarks/mine.py").write_text("MODULES = ['one', 'two']\n")
    for name in ("one", "two"):
        Path(f"benchmarks/{name}.py").write_text(f"from bitkiln.report.table import Row\ndef run():\n    {body}\n")


@pytest.fixture
def fresh_benchmarks(monkeypatch):
    import sys
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "benchmarks"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]


def test_suite(fresh_benchmarks, capsys):
    _suite("return [Row('x', 1, 's', 2)]")
    assert len(run_suite("mine")) == 2
    assert run_cli(["bench", "mine", "--only", "two", "--json"]) == 0
    assert [row["passed"] for row in json.loads(capsys.readouterr().out)] == [True]
    assert Path("build/bench/mine.json").exists()


def test_failed_benchmark_is_a_miss_and_the_others_run(fresh_benchmarks):
    _suite("from bitkiln.models.errors import BitkilnError; raise BitkilnError('tool failed', exit_code=1)")
    rows = run_suite("mine")
    assert [row.passed for row in rows] == [False, False] and "tool failed" in rows[0].note


def test_unknown_suite():
    with pytest.raises(BitkilnError, match="no benchmarks here"):
        run_suite("mine")
