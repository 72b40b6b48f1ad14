"""The wheel of Bitkiln: it holds every file of the rooms and no other, and works far from any checkout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [room for room in ("bitkiln", "boards", "host", "hw", "models", "sim") if (ROOT / room).is_dir()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no older build in the checkout is packed along."""
    source = tmp_path_factory.mktemp("source")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps",
                    "--no-build-isolation", "--wheel-dir", folder, source], check=True)
    found, = folder.glob("bitkiln-*.whl")
    return found


def test_files(wheel):
    """Presets, spaces, technology tables, pages, C sources and shims are files of the rooms like any other."""
    expected = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT).as_posix()
                expected.add(inside if room == "bitkiln" else f"bitkiln/{inside}")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == expected
    for ending in ("presets/dot_fp4.yaml", "spaces/formats.yaml", "tech/sky130hd.json", "tech/ecp5.csv",
                   "c/bitkiln_matmul.c", "core_shim.cpp", "core_shim.h", "page/sweep.html", "data/digits.npz"):
        assert any(name.endswith(ending) for name in names), ending


def test_metadata(wheel):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    archive = zipfile.ZipFile(wheel)
    folder = f"bitkiln-{project['version']}.dist-info"
    assert archive.read(f"{folder}/entry_points.txt").decode().split() == [
        "[console_scripts]", "bitkiln", "=", "bitkiln.cli:main"]
    metadata = archive.read(f"{folder}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert metadata.count("\nRequires-Dist: ") >= len(project["dependencies"])
    assert f"{folder}/licenses/LICENSE" in archive.namelist()


@pytest.mark.slow
def test_works_in_a_fresh_environment(wheel, tmp_path):
    """Installed with its own dependencies; run in an empty folder, without anything of this environment."""
    home, folder = tmp_path / "venv", tmp_path / "empty"
    venv.create(home, with_pip=True)
    folder.mkdir()
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("PYTHON", "BITKILN", "PYTEST", "COV", "VIRTUAL_ENV", "MAKE", "MFLAGS"))}
    environment = {**kept, "PATH": os.pathsep.join([str(home / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])}

    def run(*command: object) -> str:
        done = subprocess.run([str(each) for each in command], cwd=folder, env=environment, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=900)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    python = home / "bin" / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel)
    run(python, "-m", "pip", "check")
    assert Path(run(python, "-c", "import bitkiln; print(bitkiln.__file__)").strip()).is_relative_to(home)
    made = json.loads(run("bitkiln", "generate", "--pe", "fp4", "--package", "all", "--json"))
    assert made["folder"].startswith("build/") and all((folder / path).is_file() for path in made["files"].values())
    assert "tinytapeout/info.yaml" in made["files"] and "fusesoc-generator/bitkiln_gen.py" in made["files"]
    assert "dot_fp4" in run("bitkiln", "presets")
    checks = json.loads(run("bitkiln", "sim", "fp4", "--images", "5", "--json"))
    assert checks["passed"] and {step["step"] for step in checks["steps"]} >= {"dot unit", "cocotb bench", "digits mlp"}
    assert {path.name for path in folder.iterdir()} == {"build"}
    run("bitkiln", "doctor", "--programs", "tools")
    assert str(home) in (folder / "tools" / "verilator").read_text()
