"""Other ways to evaluate a space: a Dask cluster gives the same bytes, searches find the front with fewer points."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.config_sweep import Space, load_space
from bitkiln.flow.search import nsga2, sample
from bitkiln.flow.sweep import run_sweep
from bitkiln.models.design.dot import parse_pe
from bitkiln.store import Store

SMALL = """\
schema_version: 1
name: small
spaces:
  - engine: dot_unit
    grid: {pe: [int4, int8, fp4, posit6_0], lanes: [1, 2]}
workload: digits-mlp
accuracy: [digits-mlp]
"""
# Units in 126 ways: enough that looking at all of them is worth avoiding.
UNITS = """\
schema_version: 1
name: units
spaces:
  - engine: dot_unit
    grid:
      pe: [int3, int4, int5, int6, int8, int10, fp4, e2m2, fp6_e3m2, fp8_e4m3, posit6_0, posit8_0, int8xint4, int8xfp4]
      pipeline: [0, 1, 2]
      lanes: [1, 2, 4]
workload: digits-mlp
accuracy: [digits-mlp]
search: {method: nsga2, points: 42, population: 12}
"""
# A core in 72 shapes.
SHAPES = """\
schema_version: 1
name: shapes
spaces:
  - engine: matmul_core
    base: {modes: [fp4, int8], output.accumulate: true, pipeline: 1}
    grid:
      array.rows: [1, 2, 4, 6, 8, 16]
      array.columns: [1, 2, 4, 6, 8, 16]
      bus_bits: [64, 128]
workload: digits-cnn
accuracy: []
axes: [[utilisation, cycles]]
search: {method: nsga2, points: 42, population: 12, seed: 3}
"""


def test_dask_gives_the_same_bytes(capsys, monkeypatch, tmp_path):
    distributed = pytest.importorskip("distributed")
    Path("s.yaml").write_text(SMALL)
    assert run_cli(["sweep", "s.yaml", "-j", "1", "-o", "local"]) == 0
    monkeypatch.setenv("BITKILN_STORE", str(tmp_path / "dask.sqlite"))
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp",
                                  dashboard_address=None) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        assert run_cli(["sweep", "s.yaml", "--dask", cluster.scheduler_address, "-o", "dask"]) == 0
        assert not [name for name in cluster.scheduler.clients if name.startswith("Client")]     # none left open
    assert Path("dask/sweep.json").read_bytes() == Path("local/sweep.json").read_bytes()
    assert len(Store(tmp_path / "dask.sqlite").find("accuracy")) == 4


def space_of(text: str, **search: object) -> Space:
    Path("s.yaml").write_text(text)
    space = load_space("s.yaml")
    return replace(space, config=space.config.model_copy(update={
        "search": space.config.search.model_copy(update=search)}))


def front(found: dict) -> set[tuple[float, ...]]:
    """Values of the points on the front: several points may share them."""
    return {tuple(row["metrics"][axis]["value"] for axes in found["axes"] for axis in axes.values())
            for row in found["points"] if row["fronts"]}


@pytest.fixture
def evaluated():
    """Made-up costs of each point, and a list of the points that were asked for.

    A unit grows with its lanes, registers and bits, and more bits compute better, but for what depends on the format.
    """
    asked: list[str] = []

    def evaluate(point):
        asked.append(point.digest)
        pe = point.keys["pe"]
        bits = sum(fmt.bits for fmt in parse_pe(pe))
        own = crc32(pe.encode()) % 1000 / 1000
        area = point.keys["lanes"] * bits ** 1.5 * (1 + own / 2) + 9 * point.keys["pipeline"]
        accuracy = round(1 - 2.0 ** (-bits / 3) - 0.05 * (crc32(pe.encode() + b"!") % 100 / 100), 2)
        return {"metrics": {"area": {"value": area}, "accuracy_digits-mlp": {"value": accuracy}}}

    return evaluate, asked


AXES = ("area", "accuracy_digits-mlp")


def kept_front(points, evaluate) -> set[tuple[float, float]]:
    costs = [tuple(evaluate(point)["metrics"][name]["value"] for name in AXES) for point in points]
    return {one for one in costs if not any(other != one and other[0] <= one[0] and other[1] >= one[1]
                                            for other in costs)}


def test_genetic_search_reaches_the_front(evaluated):
    """With a third of the evaluations nearly all of the exhaustive front, and twice what chance finds."""
    pytest.importorskip("pymoo")
    evaluate, asked = evaluated
    shares, by_chance = [], []
    space = space_of(UNITS)
    whole = kept_front(space.points, evaluate)
    assert len(space.points) == 126 and 4 <= len(whole) <= 20
    for seed in range(6):
        asked.clear()
        found = nsga2(space_of(UNITS, seed=seed), evaluate, [AXES])
        assert len(asked) == len(set(asked)) == len(found) and 3 * len(asked) <= len(space.points)
        shares.append(len(kept_front(found, evaluate) & whole) / len(whole))
        by_chance.append(len(kept_front(sample(space.points, len(found), seed), evaluate) & whole) / len(whole))
    assert np.mean(shares) >= 0.9 and np.mean(shares) > 2 * np.mean(by_chance), (shares, by_chance)


def test_same_seed_same_points(evaluated):
    pytest.importorskip("pymoo")
    evaluate, _ = evaluated
    one, two, other = ([point.digest for point in nsga2(space_of(UNITS, seed=seed), evaluate, [AXES])]
                       for seed in (1, 1, 2))
    assert one == two != other


def test_search_in_a_sweep(tmp_path):
    """Points come in the order of the space, each kept once; again from the store it is the same."""
    pytest.importorskip("pymoo")
    space = space_of(SHAPES, points=16, population=4)
    keep = Store(tmp_path / "one.sqlite")
    found = run_sweep(space, keep=keep)
    order = [point.digest for point in space.points]
    ids = [row["id"] for row in found["points"]]
    assert 4 <= len(ids) <= 16 and ids == sorted(ids, key=order.index)
    assert len(keep.find("sweep_point")) == len(ids)
    assert json.dumps(run_sweep(space, keep=keep)) == json.dumps(found)
    assert len(keep.find("sweep_point")) == len(ids)


def test_random_sample():
    space = space_of(SHAPES, method="random", points=20, seed=4)
    order = [point.digest for point in space.points]
    chosen = [point.digest for point in sample(space.points, 20, 4)]
    assert len(set(chosen)) == 20 and chosen == sorted(chosen, key=order.index)
    assert chosen == [point.digest for point in sample(space.points, 20, 4)]
    assert chosen != [point.digest for point in sample(space.points, 20, 5)]
    assert len(sample(space.points, 500, 1)) == len(space.points)
    assert [row["id"] for row in run_sweep(space)["points"]] == chosen


def test_fronts_are_those_of_brute_force():
    found = run_sweep(space_of(SHAPES, method="grid"))
    rows = found["points"]
    assert len(rows) == 72
    cost = {row["id"]: (-row["metrics"]["utilisation"]["value"], row["metrics"]["cycles"]["value"]) for row in rows}
    best = {one for one in cost.values() if not any(other != one and other[0] <= one[0] and other[1] <= one[1]
                                                    for other in cost.values())}
    assert {cost[row["id"]] for row in rows if row["fronts"]} == best
    assert front(found) == {(-x, y) for x, y in best}


def test_points_that_cost_the_same_are_on_the_front_together(tmp_path):
    (tmp_path / "s.yaml").write_text(SMALL.replace("pe: [int4, int8, fp4, posit6_0]", "pe: [int4], name: [aa, bb]"))
    rows = run_sweep(load_space(tmp_path / "s.yaml"))["points"]
    assert len(rows) == 4
    for lanes in (1, 2):
        same = [row["fronts"] for row in rows if row["config"]["lanes"] == lanes]
        assert same[0] == same[1]
    assert any(row["fronts"] for row in rows)


OWN = SMALL.replace("workload: digits-mlp", "workload: {name: own, layers: [{name: a, m: 3, k: 50, n: 7}]}") \
    + "memory: {clock_mhz: 100, tiers: [{name: s, size_bits: 1024, bandwidth_bits_per_cycle: 2, source: assumed}]}\n"


def test_commands_of_points_give_them_again(tmp_path, monkeypatch, capsys):
    """Also with memory tiers and a workload of the space's own, in the folder of the results."""
    pytest.importorskip("matplotlib"), pytest.importorskip("plotly")
    (tmp_path / "s.yaml").write_text(OWN)
    assert run_cli(["sweep", str(tmp_path / "s.yaml"), "-o", str(tmp_path / "found"), "-j", "1"]) == 0
    monkeypatch.chdir(tmp_path / "found")
    for row in json.loads(Path("sweep.json").read_text())["points"][:3]:
        capsys.readouterr()
        assert run_cli([*shlex.split(row["command"])[1:], "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        assert again["cycles"]["value"] == row["metrics"]["cycles"]["value"]
        assert again["area"]["total"]["value"] == row["metrics"]["area"]["value"]
        assert "memory" in again["stalls"]
