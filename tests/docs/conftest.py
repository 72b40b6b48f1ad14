"""The tools of this environment first on PATH, and what the commands of all pages share."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT

# Stamps of the Makefile: the environment that runs the tests is taken as it is, nothing is installed.
STAMPS = re.findall(r"^\$\(STAMP\)-(\w+):", (ROOT / "Makefile").read_text(), re.M)
MAKE = """\
#!/bin/sh
# Other tools have makefiles of their own.
case " $* " in *" -f "* | *" -C "*) exec {make} "$@" ;; esac
if [ -f Makefile ]; then exec {make} "$@"; fi
# The project's Makefile in the current folder, with the environment of the tests.
exec {make} -f {root}/Makefile {old} "VENV={venv}" "PY={python}" "$@"
"""


@pytest.fixture(scope="session")
def tools(tmp_path_factory) -> Path:
    """A folder with ``bitkiln``, ``python`` and ``make`` as the pages mean them."""
    folder = tmp_path_factory.mktemp("tools")
    old = " ".join(f"-o {sys.prefix}/.installed-{stamp}" for stamp in STAMPS)
    scripts = {"python": f"#!/bin/sh\nexec {sys.executable} \"$@\"\n",
               "make": MAKE.format(make=shutil.which("make"), root=ROOT, old=old, venv=sys.prefix,
                                   python=sys.executable)}
    if not (Path(sys.executable).parent / "bitkiln").exists():        # run from a checkout, without an installation
        scripts["bitkiln"] = f"#!/bin/sh\nexec {sys.executable} -m bitkiln \"$@\"\n"
    for name, text in scripts.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def page_environment(tools, tmp_path_factory) -> dict[str, str]:
    """Environment of the pages' commands: one store of results and one cache of models for all of them."""
    shared = tmp_path_factory.mktemp("pages")
    # `make test-full ARGS=...` hands its variables down; the pages' own make has to start without.
    exported = re.search(r"^export (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    others = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "FORCE_COLOR", "COLUMNS", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in (*exported, *others)}
    # The tests' own cache of compiled models, so that those of other tests serve here too.
    return {**kept, "PATH": f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}",
            "BITKILN_STORE": str(shared / "store.sqlite"), "BITKILN_BUILD": str(ROOT / "build"),
            "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
