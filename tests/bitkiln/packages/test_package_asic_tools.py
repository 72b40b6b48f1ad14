"""LibreLane and SiliconCompiler, in an environment of their own, since they pin what others of ours pin otherwise."""

import json
import os
import subprocess
import venv

import pytest

pytestmark = pytest.mark.slow

PACKAGES = ("librelane==3.0.17", "siliconcompiler==0.38.11")

# LibreLane's own checks of a configuration, without a process (which it would fetch): names, types, files.
CHECK = """
import json, sys
from pathlib import Path
from librelane.config import Config, InvalidConfig
from librelane.config.flow import flow_common_variables
from librelane.flows import Flow

flow = Flow.factory.get("Classic")
known = {v.name: v for v in flow_common_variables} | {v.name: v for step in flow.Steps for v in step.config_vars}
known |= {v.name: v for v in flow.config_vars}
path = Path(sys.argv[1])
given = json.loads(path.read_text()) | {"PDK": "sky130A", "STD_CELL_LIBRARY": "sky130_fd_sc_hd"}
try:
    found, _ = Config.load(given, [v for v in known.values() if not v.pdk or v.name == "STD_CELL_LIBRARY"],
                           design_dir=str(path.parent.resolve()), pdk_root=str(path.parent), _load_pdk_configs=False)
    print(json.dumps({"name": found["DESIGN_NAME"], "files": [str(f) for f in found["VERILOG_FILES"]],
                      "clock": found["CLOCK_PORT"], "errors": []}))
except InvalidConfig as problem:
    print(json.dumps({"errors": problem.errors}))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Runs a program of the other environment."""
    home = tmp_path_factory.mktemp("asic") / "venv"
    venv.create(home, with_pip=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*command: object, cwd=home) -> subprocess.CompletedProcess:
        return subprocess.run([str(home / "bin" / "python"), *map(str, command)], cwd=cwd, env=kept, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=900)
    done = run("-m", "pip", "--disable-pip-version-check", "install", "--quiet", *PACKAGES)
    assert done.returncode == 0, done.stdout
    return run


def test_librelane_takes_the_configuration(elsewhere, copy_of, tmp_path, key):
    core = copy_of(key)
    path = core.folder / "librelane" / "config.json"
    (tmp_path / "check.py").write_text(CHECK)
    found = json.loads(elsewhere(tmp_path / "check.py", path).stdout.splitlines()[-1])
    assert found["errors"] == [] and found["name"] == key and found["clock"] == core.ports.clock
    assert [os.path.realpath(file) for file in found["files"]] == [str((core.folder / f"{key}.v").resolve())]
    path.write_text(path.read_text().replace("FP_CORE_UTIL", "FP_CORE_UTILISATION").replace("CLOCK_PERIOD", "CLOCK"))
    errors = json.loads(elsewhere(tmp_path / "check.py", path).stdout.splitlines()[-1])["errors"]
    assert any("FP_CORE_UTILISATION" in error for error in errors) and any("'CLOCK'" in error for error in errors)


def test_siliconcompiler_lints(elsewhere, copy_of, key):
    core = copy_of(key)
    folder = core.folder / "siliconcompiler"
    done = elsewhere("make.py", "lint", cwd=folder)
    assert done.returncode == 0 and "Number of errors: 0" in done.stdout, done.stdout[-3000:]
    done = elsewhere("-c", "import make; p = make.asic(); print('asic', p.check_manifest())", cwd=folder)
    assert "asic True" in done.stdout, done.stdout[-3000:]
    assert elsewhere("make.py", cwd=folder).returncode == 1
    verilog = core.folder / f"{key}.v"
    verilog.write_text(verilog.read_text().replace("endmodule", "  nonsense;\nendmodule", 1))
    assert elsewhere("make.py", "lint", cwd=folder).returncode != 0
