"""``generate --package``: which packages there are, what is refused, and that files come whole or not at all."""

import json
import os
from pathlib import Path

import pytest
import typer

from bitkiln.cli import app, run_cli
from bitkiln.config import load_design
from bitkiln.engines import engine_names
from bitkiln.flow.packages.registry import PACKAGES, chosen, for_engine, package_files
from bitkiln.models.errors import BitkilnError

GENERATE = ["generate", "--pe", "fp4", "--name", "pe", "--vectors", "16", "-o", "out"]


def resolved():
    return load_design(cli={"pe": ("fp4", "--pe")})


def test_every_package_loads_and_is_in_the_help():
    options = {option.name: option for option in typer.main.get_command(app).commands["generate"].params}
    for name, entry in PACKAGES.items():
        assert callable(entry.load()) and entry.summary
        assert name in options["package"].help
        assert set(entry.engines) <= set(engine_names())


def test_chosen():
    assert chosen("litex, fusesoc,litex", "dot_unit") == ["litex", "fusesoc"]
    assert chosen("all", "dot_unit") == for_engine("dot_unit")
    assert "systemrdl" in for_engine("matmul_core") and "systemrdl" not in for_engine("dot_unit")
    assert chosen(["vivado"], "spconv") == ["vivado"]


REFUSED = {
    "fusesok": "error: unknown package at --package: got 'fusesok', expected names of packages with commas, or all\n"
               "help: did you mean fusesoc",
    "systemrdl": "error: package does not apply at --package: got 'systemrdl', expected a package for engine dot_unit; "
                 "systemrdl is for matmul_core, spconv\nhelp: choices: fusesoc, ",
    " , ": "error: no package named at --package: got ' , ', expected names of packages with commas, or all\n"
           "help: choices: fusesoc, ",
}


@pytest.mark.parametrize("given", REFUSED)
def test_refused(given, run, capsys):
    assert run(*GENERATE, "--package", given) == 2
    error = capsys.readouterr().err
    assert error.startswith(REFUSED[given]) and len(error.splitlines()) == 2
    assert not list(Path().iterdir())


def test_files_in_folders(run, capsys):
    assert run(*GENERATE, "--package", "fusesoc,librelane", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files["librelane/config.json"] == "out/librelane/config.json"
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert {"pe.core", "fusesoc/README.md", "librelane/config.json", "librelane/README.md"} <= found
    assert all(Path(path).is_file() for path in files.values())
    assert not [name for name in found if "/." in name or name.startswith(".")]


def test_files_again_are_the_same(run):
    assert run(*GENERATE, "--package", "all") == 0
    first = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert run(*GENERATE, "--package", "all") == 0
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == first


def test_nothing_is_left_where_a_folder_cannot_be_made(run, capsys):
    """A file stands where a package wants a folder: no file of the core appears, no temporary one stays."""
    Path("out").mkdir()
    Path("out/librelane").write_text("in the way")
    assert run(*GENERATE, "--package", "fusesoc,librelane") == 2
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: cannot write at out/librelane: got 'file exists', expected a writable folder with room",
        "help: choose another place"]
    assert [path.name for path in Path("out").iterdir()] == ["librelane"]


def test_full_disk_in_the_middle(monkeypatch, run, capsys):
    import tempfile
    made, count = tempfile.mkstemp, []

    def full_after_nine(*arguments, **options):
        count.append(1)
        if len(count) > 9:
            raise OSError(28, "No space left on device", "out")
        return made(*arguments, **options)
    monkeypatch.setattr("bitkiln.files.tempfile.mkstemp", full_after_nine)
    assert run(*GENERATE, "--package", "all") == 1
    assert "no space left on device" in capsys.readouterr().err
    assert len(count) == 10 and not list(Path("out").iterdir())


def test_two_packages_cannot_want_one_file(monkeypatch):
    monkeypatch.setitem(PACKAGES, "one", type(PACKAGES["litex"])("one", "", "one:files"))
    monkeypatch.setattr(type(PACKAGES["litex"]), "load", lambda self: lambda *arguments: {"x.v": self.name})
    with pytest.raises(ValueError, match=r"package litex would replace x\.v"):
        package_files(["one", "litex"], None, {}, {})
    with pytest.raises(ValueError, match=r"package one would replace x\.v"):
        package_files(["one"], None, {}, {"x.v": ""})


def test_from_python(tmp_path):
    from bitkiln.flow.generate import generate
    files = generate(resolved(), tmp_path / "core", cycles=16, packages=["ipxact"])
    assert files.paths[f"ipxact/{resolved().name}.xml"].is_file()
    with pytest.raises(BitkilnError, match="unknown package"):
        generate(resolved(), tmp_path / "other", packages=["nonsense"])
    assert not (tmp_path / "other").exists()


# Programs of usual names ----------------------------------------------------------------------------

def test_programs_start_the_packaged_tools(run, capsys):
    import subprocess
    assert run("doctor", "--programs", "my tools") == 0
    assert "first on PATH" in capsys.readouterr().out
    folder = Path("my tools").absolute()
    assert {"verilator", "yosys"} <= {path.name for path in folder.iterdir()}
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    Path("a.v").write_text("module a(input i, output o); assign o = i; endmodule\n")
    done = subprocess.run(["verilator", "--lint-only", "a.v"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["yosys", "-V"], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("Yosys ")
    assert run("doctor", "--programs", "my tools", "--json") == 0          # its own files may be replaced
    assert "verilator" in json.loads(capsys.readouterr().out)["programs"]


def test_programs_of_others_stay(run, capsys):
    Path("bin").mkdir()
    Path("bin/yosys").write_text("mine")
    assert run("doctor", "--programs", "bin") == 2
    assert capsys.readouterr().err.startswith("error: folder holds other programs at bin: got 'yosys', expected")
    assert [path.name for path in Path("bin").iterdir()] == ["yosys"] and Path("bin/yosys").read_text() == "mine"


def test_no_packaged_tool(run, capsys, monkeypatch):
    monkeypatch.setattr("bitkiln.flow.programs.programs", dict)
    assert run_cli(["doctor", "--programs", "bin"]) == 3
    assert "error: no packaged tool at --programs" in capsys.readouterr().err and not Path("bin").exists()
