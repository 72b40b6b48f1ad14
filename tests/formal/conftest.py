"""Proofs need Yosys and Z3; without them they are skipped, with the reason."""

from __future__ import annotations

import pytest

from bitkiln.sim.toolchain import find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [tool for tool in ("yosys", "z3") if find(tool) is None]
    if missing:
        for item in items:
            if "formal" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=f"no {' and '.join(missing)}: pip install 'bitkiln[test]'"))
