"""The result store."""

import sqlite3
from pathlib import Path

import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.store import Store, content_key, store


def test_second_run_costs_nothing():
    kept, calls = Store(Path("deep/er/store.sqlite")), []

    def compute():
        calls.append(1)
        return {"lut": 28, "none": None}

    inputs = {"verilog": "module m; endmodule", "yosys": "0.70", "seeds": [1, 2]}
    assert kept.cached("synthesis", inputs, compute) == {"lut": 28, "none": None}
    assert kept.cached("synthesis", dict(reversed(inputs.items())), compute) == {"lut": 28, "none": None}
    assert len(calls) == 1
    assert kept.cached("synthesis", {**inputs, "yosys": "0.71"}, compute)
    assert kept.cached("other", inputs, compute)
    assert len(calls) == 3


def test_failed_work_is_not_kept():
    kept = Store(Path("s.sqlite"))
    with pytest.raises(ZeroDivisionError):
        kept.cached("k", {}, lambda: 1 / 0)
    assert kept.get(content_key("k", {})) is None


def test_find_shows_inputs_with_long_texts_as_digests():
    kept = Store(Path("s.sqlite"))
    kept.cached("k", {"verilog": "x" * 1000, "device": "ecp5"}, lambda: 1)
    (inputs, result), = kept.find("k")
    assert inputs["device"] == "ecp5" and inputs["verilog"].startswith("sha256:") and result == 1


def test_two_stores_share_a_file():
    one, two = Store(Path("s.sqlite")), Store(Path("s.sqlite"))
    one.put("key", "k", {}, [1])
    assert two.get("key") == [1]


def test_place_of_the_store(monkeypatch, tmp_path):
    assert store().path == tmp_path / "store.sqlite"
    monkeypatch.delenv("BITKILN_STORE")
    assert store().path == Path("build/store.sqlite")


def test_newer_layout_is_left_alone():
    with sqlite3.connect("s.sqlite") as database:
        database.execute("PRAGMA user_version = 7")
    before = Path("s.sqlite").read_bytes()
    with pytest.raises(BitkilnError, match="store of another version at s.sqlite: got 'layout 7', expected layout 1"):
        Store(Path("s.sqlite"))
    assert Path("s.sqlite").read_bytes() == before
