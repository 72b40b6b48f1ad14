"""A sweep that is killed goes on where it was; two at once share a store. The result is the same, byte for byte."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from bitkiln.config_sweep import load_space
from bitkiln.flow.sweep import run_sweep
from bitkiln.store import Store

SPACE = """\
schema_version: 1
name: restart
spaces:
  - engine: dot_unit
    grid:
      pe: [int3, int4, int5, int6, int8, fp4, e1m3, e2m2, fp6_e2m3, fp6_e3m2, fp8_e4m3, posit4_1, posit6_0, posit8_0]
      lanes: [1, 4]
  - engine: matmul_core
    base: {modes: [fp4, int8]}
    grid:
      array.rows: [2, 4]
workload: digits-mlp
accuracy: [digits-mlp]
technology: ecp5
"""
POINTS, NETWORKS = 30, 14       # the core is measured in its first mode, which a unit has too


@pytest.fixture
def space(own_folder):
    Path("s.yaml").write_text(SPACE)
    return load_space("s.yaml")


def watched_store(path: Path) -> Path:
    """A store that keeps a list of the results that were put into it, replaced ones too."""
    Store(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE written (key TEXT)")
        database.execute("CREATE TRIGGER watch AFTER INSERT ON results BEGIN "
                         "INSERT INTO written VALUES (new.key); END")
    return path


def written(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [key for key, in database.execute("SELECT key FROM written")]


def start(store: Path, output: str, *options: str) -> subprocess.Popen:
    environment = {**os.environ, "BITKILN_STORE": str(store), "COLUMNS": "80"}
    return subprocess.Popen([sys.executable, "-m", "bitkiln", "sweep", "s.yaml", "-j", "2", "-o", output, *options],
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def finish(process: subprocess.Popen) -> None:
    _, text = process.communicate(timeout=300)
    assert process.returncode == 0, text


def members(session: int) -> list[int]:
    """Processes of a session, those that nobody waits for left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def killed_and_resumed(kills: int, seed: int) -> None:
    """Kill after random numbers of results, then finish; compare with an undisturbed run in another store."""
    calm, rough = watched_store(Path("calm.sqlite").resolve()), watched_store(Path("rough.sqlite").resolve())
    finish(start(calm, "calm"))
    total = len(written(calm))
    assert total == POINTS + NETWORKS
    dice = random.Random(seed)
    done = 0
    for mark in sorted(dice.sample(range(total - 1), kills)):
        process = start(rough, "rough")
        while done < total and len(written(rough)) <= max(mark, done) and process.poll() is None:
            time.sleep(0.005)
        time.sleep(dice.random() * (0.02 if done < total else 1.0))     # all there: the report is being written
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        now = len(written(rough))
        assert process.returncode == -signal.SIGKILL and (now > done or done == total)
        done = now
        deadline = time.monotonic() + 30
        while members(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not members(process.pid)          # its workers are gone too
    finish(start(rough, "rough"))
    keys = written(rough)
    assert len(keys) == len(set(keys)) == total         # nothing was computed and kept twice
    assert sorted(keys) == sorted(written(calm))
    for name in ("sweep.json", "sweep.csv"):
        assert Path("rough", name).read_bytes() == Path("calm", name).read_bytes()


@pytest.mark.slow
def test_killed_twice(space):
    killed_and_resumed(2, 5)


@pytest.mark.slow
def test_killed_ten_times(space):
    killed_and_resumed(10, 6)


def test_two_at_once(space):
    path = watched_store(Path("shared.sqlite").resolve())
    running = [start(path, name) for name in ("one", "two")]
    for process in running:
        finish(process)
    assert Path("one/sweep.json").read_bytes() == Path("two/sweep.json").read_bytes()
    assert len(set(written(path))) == POINTS + NETWORKS
    json.loads(Path("one/sweep.json").read_text())


def test_result_has_no_times_paths_or_processes(space, tmp_path, monkeypatch):
    one = run_sweep(space, jobs=1, keep=Store(tmp_path / "one.sqlite"))
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    Path("s.yaml").write_text(SPACE)
    two = run_sweep(load_space("s.yaml"), jobs=3, keep=Store(tmp_path / "two.sqlite"))
    assert json.dumps(one) == json.dumps(two)
    text = json.dumps(one)
    assert str(tmp_path) not in text and str(Path(__file__).resolve().parents[2]) not in text
    assert not re.search(r"\d\d:\d\d:\d\d|seconds\"|\"created", text)


def test_one_process_or_several_share_results(space, tmp_path):
    path = watched_store(tmp_path / "store.sqlite")
    run_sweep(space, jobs=1, keep=Store(path))
    before = written(path)
    run_sweep(space, jobs=2, keep=Store(path))
    assert written(path) == before and len(before) == POINTS + NETWORKS
