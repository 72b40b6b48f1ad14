"""Cores are made once; tests that change files take a copy."""

import shutil
from functools import cache

import pytest
from package_cores import DESIGNS, Core, make


@pytest.fixture(scope="session")
def cores(tmp_path_factory):
    """Key of DESIGNS -> core; only read it."""
    folder = tmp_path_factory.mktemp("cores")
    return cache(lambda key: make(key, folder))


@pytest.fixture
def copy_of(cores, tmp_path):
    """Key -> a core of the test's own."""
    def copied(key: str) -> Core:
        made = cores(key)
        shutil.copytree(made.folder, tmp_path / key)
        return Core(made.resolved, tmp_path / key)
    return copied


def pytest_generate_tests(metafunc):
    """A test with the argument ``key`` is run for every design; those of cores with a bus master are slow."""
    if "key" in metafunc.fixturenames:
        metafunc.parametrize("key", [pytest.param(key, marks=[pytest.mark.slow] if key == "master" else [])
                                     for key in DESIGNS])
