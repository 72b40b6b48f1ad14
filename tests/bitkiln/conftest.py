"""Every test works in a folder of its own with a store of its own."""

import pytest


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("BITKILN_STORE", str(tmp_path / "store.sqlite"))
    return work
