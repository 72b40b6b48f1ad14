"""``bitkiln spconv``: a frame through a network, its report, its pictures, and bad input in one line."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.workloads.scenes import lidar_scene


@pytest.fixture
def frame(tmp_path):
    """A small real file: KITTI's layout."""
    cloud = lidar_scene(3, beams=16, columns=256)
    points = np.column_stack([cloud.points, cloud.intensity]).astype(np.float32)
    path = tmp_path / "frame.bin"
    path.write_bytes(points.tobytes())
    return path


def run_json(capsys, *arguments: str) -> dict:
    assert run_cli(["spconv", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("net", "pack"), [("minkunet-small", "item"), ("minkunet-tiny", "row"),
                                           ("second-small", "item")])
def test_report(frame, capsys, net, pack):
    found = run_json(capsys, str(frame), "--voxel", "0.8", "--net", net, "--pack", pack, "--no-picture")
    assert found["network"] == net and found["energy"] is None
    assert found["statistics"]["voxels"] == found["statistics"]["levels"][0] > 500
    methods = {row["name"].split(":")[0]: row["cycles"] for row in found["search"]}
    ours = methods["octree descent, two engines (RTL)"]
    assert ours < methods["C1"] < methods["M0"] < methods["B2"]
    for layer in found["layers"]:
        dense = layer["rows"] * layer["offsets"] * layer["passes"]
        assert layer["items"] == layer["pairs"] * layer["passes"] <= dense
        assert layer["issued"] + layer["skipped"] == layer["items"] * layer["inputs"]
        assert layer["steps"] <= layer["dense_steps"] + layer["rows"] * layer["passes"]
        assert layer["cycles"] >= layer["steps"] > 0
    assert found["cycles"] > sum(layer["steps"] for layer in found["layers"])
    assert found["frames_per_second"] == pytest.approx(100e6 / found["cycles"])


def test_same_report_twice_and_text(frame, capsys):
    arguments = [str(frame), "--voxel", "1.0,1.0,0.5", "--net", "minkunet-tiny", "--no-picture"]
    assert run_json(capsys, *arguments) == run_json(capsys, *arguments)
    assert run_cli(["spconv", *arguments]) == 0
    text = capsys.readouterr().out
    for word in ("map search of one 3x3x3 layer", "frames/s", "weight cache", "44.4 to 79.1 %", "57.6 %"):
        assert word in text


def test_generated_scene_and_formats(capsys):
    found = run_json(capsys, "room", "--voxel", "0.3", "--net", "minkunet-tiny", "--format", "fp8_e4m3",
                     "--no-picture")
    assert "fp8_e4m3" in found["design"]


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_pictures(frame, tmp_path, capsys):
    found = run_json(capsys, str(frame), "--voxel", "1.0", "--net", "minkunet-tiny", "-o", str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["frame.png", "layers.png"]
    assert all((tmp_path / "out" / name).read_bytes()[:4] == b"\x89PNG" for name in ("frame.png", "layers.png"))
    assert len(found["pictures"]) == 2


@pytest.mark.parametrize(("make", "arguments", "said"), [
    (lambda p: p.write_bytes(b"\0" * 17), [], "error: "),
    (lambda p: p.write_bytes(b""), [], "error: "),
    (lambda p: p.write_bytes(np.full((4, 4), np.nan, np.float32).tobytes()), [], "error: "),
    (None, [], "error: "),
    (lambda p: p.write_bytes(np.ones((9, 4), np.float32).tobytes()), ["--voxel", "big"], "not a list of numbers"),
    (lambda p: p.write_bytes(np.ones((9, 4), np.float32).tobytes()), ["--voxel", "0"], "out of range"),
    (lambda p: p.write_bytes(np.ones((9, 4), np.float32).tobytes()), ["--net", "minkunet"], "unknown network"),
    (lambda p: p.write_bytes(np.ones((9, 4), np.float32).tobytes()), ["--pack", "rows"], "unknown choice"),
    (lambda p: p.write_bytes(np.ones((9, 4), np.float32).tobytes()), ["--extent", "1,2"], "not a list of numbers"),
])
def test_bad_input_is_one_line(tmp_path, capsys, make, arguments, said):
    path = tmp_path / "frame.bin"
    if make is not None:
        make(path)
    assert run_cli(["spconv", str(path), *arguments, "--no-picture"]) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said in lines[0] and "Traceback" not in shown.err and not shown.out
    assert not [each for each in tmp_path.rglob("*") if each.suffix in (".png", ".part")]


def test_unknown_scene(capsys):
    assert run_cli(["spconv", "stret"]) == 2
    assert "street" in capsys.readouterr().err


@pytest.mark.slow
def test_the_simulated_core_takes_the_predicted_cycles(frame, capsys):
    found = run_json(capsys, str(frame), "--voxel", "1.5", "--net", "minkunet-tiny", "--no-picture", "--rtl")
    assert found["rtl"]["CYCLES"] == found["cycles"] == sum(job["cycles"] for job in found["jobs"])
