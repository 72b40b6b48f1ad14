"""Every test works in a folder of its own with a store of its own."""

import pytest

from bitkiln.cli import run_cli


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("BITKILN_STORE", str(tmp_path / "store.sqlite"))
    return work


@pytest.fixture
def run():
    """The command line, as a function of its arguments that gives the exit code."""
    return lambda *arguments: run_cli(list(arguments))
