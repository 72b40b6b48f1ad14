"""Every example in the help of estimate, sweep and calibrate is run, in small where it would take minutes."""

import gzip
import json
import shlex
from pathlib import Path

import pytest
import typer

from bitkiln import config_sweep
from bitkiln.cli import app, run_cli
from bitkiln.config_sweep import load_space
from bitkiln.flow import calibrate
from bitkiln.flow.samples import Sample
from bitkiln.models.cost.area.area import technology_names

DATA = Path(__file__).parent / "data"
SMALL = """\
schema_version: 1
name: small
spaces:
  - engine: dot_unit
    grid: {pe: [int4, int8], lanes: [1, 2]}
workload: digits-mlp
accuracy: [digits-mlp]
axes: [[cycles, accuracy_digits-mlp]]
"""


def examples(command: str) -> list[str]:
    text = typer.main.get_command(app).commands[command].epilog
    return [line.strip().removeprefix("bitkiln ") for line in text.splitlines() if line.strip().startswith("bitkiln ")]


def run(line: str, capsys) -> str:
    assert run_cli(shlex.split(line)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def tiny_samples(part=None, *rest):
    wanted = [Sample("pe", {"engine": "dot_unit", "pe": pe, "lanes": lanes}, check)
              for pe, lanes, check in (("int2", 1, False), ("int3", 1, False), ("int3", 2, True))]
    return [sample for sample in wanted if part in (None, sample.part)]


@pytest.fixture
def small_spaces(tmp_path, monkeypatch):
    """The name of every space that comes with the tool stands for a small one."""
    names = config_sweep.space_names()
    folder = tmp_path / "spaces"
    folder.mkdir()
    for name in names:
        (folder / f"{name}.yaml").write_text(SMALL)
    monkeypatch.setattr(config_sweep, "SPACES", folder)
    Path("my_space.yaml").write_text(SMALL)


@pytest.mark.parametrize("line", examples("estimate"))
def test_estimate(line, capsys):
    Path("my.yaml").write_text("engine: dot_unit\npe: fp8_e4m3\nlanes: 4\n")
    words = shlex.split(line)
    if "--technology" in words and words[words.index("--technology") + 1] not in technology_names():
        pytest.skip("this technology is not among the fitted ones")
    assert "cycles" in run(line, capsys)


@pytest.mark.parametrize("line", examples("sweep"))
def test_sweep(line, small_spaces, capsys, request):
    if "--measure" in line:
        pytest.skip("test_sweep_measured")
    text = run(line, capsys)
    if "--list" in line:
        assert "formats" in text.split()
        return
    assert "4 points" in text
    folder = next(Path("build").glob("sweep-small-*"))
    assert {path.name for path in folder.iterdir()} == {"sweep.json", "sweep.csv", "pareto.png", "pareto.svg",
                                                        "report.html"}
    assert len(json.loads((folder / "sweep.json").read_text())["points"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in examples("sweep") if "--measure" in line])
def test_sweep_measured(line, small_spaces, capsys):
    run(f"{line} --json -o out", capsys)
    rows = json.loads(Path("out/sweep.json").read_text())["points"]
    assert all(row["measured"] for row in rows if row["fronts"]) and any(row["fronts"] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("line", examples("calibrate"))
def test_calibrate(line, monkeypatch, capsys):
    monkeypatch.setattr(calibrate, "samples", tiny_samples)
    Path("cells.lib.gz").write_bytes(gzip.compress((DATA / "tiny.lib").read_bytes()))
    name = "mylib" if "mylib" in line else "ecp5"
    assert f"{name}.json" in run(line, capsys)
    assert Path(f"build/tech/{name}.csv").exists()


def test_the_spaces_that_come_with_the_tool_are_legal():
    for name in config_sweep.space_names():
        technology = load_technology_of(name)
        if technology not in technology_names():
            continue
        space = load_space(name)
        assert len(space.points) > 50 and len({point.digest for point in space.points}) == len(space.points)


def load_technology_of(name: str) -> str:
    from bitkiln.yamlfile import parse_yaml

    return parse_yaml((config_sweep.SPACES / f"{name}.yaml").read_text(), name).data.get("technology", "ecp5")
