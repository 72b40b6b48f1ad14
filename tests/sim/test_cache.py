"""The build cache: complete or absent, built once."""

import subprocess
import sys
import threading

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.sim import cache


@pytest.fixture(autouse=True)
def own_build(tmp_path, monkeypatch):
    monkeypatch.setenv("BITKILN_BUILD", str(tmp_path / "build"))


def test_built_once(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder)
        (folder / "result").write_text("x")

    first = cache.cached("kind", cache.digest("a"), build)
    assert cache.cached("kind", cache.digest("a"), build) == first
    assert len(calls) == 1 and (first / "result").read_text() == "x" and not calls[0].exists()


def test_failed_build_leaves_nothing():
    def build(folder):
        (folder / "half").write_text("x")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        cache.cached("kind", cache.digest("b"), build)
    assert not [path for path in (cache.build_root() / "cache" / "kind").iterdir() if path.is_dir()]


def test_two_threads_and_processes_build_once(tmp_path):
    script = ("import sys, time\nfrom bitkiln.sim import cache\n"
              "def build(folder):\n"
              "    open(sys.argv[1], 'a').write('built\\n'); time.sleep(0.3); (folder / 'r').write_text('r')\n"
              "cache.cached('kind', cache.digest('c'), build)\n")
    marks = tmp_path / "marks"
    running = [subprocess.Popen([sys.executable, "-c", script, str(marks)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert marks.read_text() == "built\n"

    count = []

    def build(folder):
        count.append(1)
        threading.Event().wait(0.1)

    threads = [threading.Thread(target=cache.cached, args=("kind", cache.digest("d"), build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 1


def test_digest_keeps_parts_apart():
    assert cache.digest("ab", "c") != cache.digest("a", "bc") and cache.digest(b"x") == cache.digest("x")


def test_unwritable_folder(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITKILN_BUILD", str(tmp_path / "file"))
    with pytest.raises(BitkilnError) as caught:
        cache.cached("kind", cache.digest("e"), lambda folder: None)
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(f"error: cannot write the build folder at {tmp_path}/file/cache/kind: got ")
    assert str(caught.value).endswith("help: set BITKILN_BUILD to a writable folder")


def test_write_atomic(tmp_path):
    cache.write_atomic(tmp_path / "a.txt", "one")
    cache.write_atomic(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "two" and [p.name for p in tmp_path.glob("*.txt")] == ["a.txt"]
