"""The layout is the architecture: who may import whom, and that nothing is left out of the package."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Room -> rooms it may import (DESIGN 2). Missing rooms are checked once they exist.
ALLOWED = {
    "models": set(),
    "hw": {"models"},
    "host": {"models"},
    "sim": {"hw", "models", "host"},
    "boards": {"hw", "host", "models"},   # of models: designs and errors
}
# hw takes parameters and formats from models, never results: a test would compare the model with itself.
HW_MAY_USE = ("models.formats", "models.design", "models.errors")
ROOMS = ("bitkiln", "boards", "host", "hw", "models", "sim")


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def module_name(path: Path) -> str:
    """Import name without the leading ``bitkiln.`` of mapped rooms (``hw.mac.dot``, ``cli``)."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "bitkiln" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import of ours, imports inside functions included; relative ones resolved."""
    name = module_name(path)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = [part for part in package if part]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - (node.level - 1)]
                stem = ".".join(["bitkiln", *base, *([node.module] if node.module else [])])
            else:
                stem = node.module or ""
            found += [(node.lineno, f"{stem}.{alias.name}") for alias in node.names]
    return [(line, full.removeprefix("bitkiln.")) for line, full in found if full.split(".")[0] == "bitkiln"]


@pytest.mark.parametrize("room", ALLOWED)
def test_direction_of_imports(room):
    files = sources(room)
    if not (ROOT / room).exists():
        pytest.skip(f"{room}/ does not exist yet")
    assert files
    wrong = []
    for path in files:
        for line, target in imports(path):
            other = target.split(".")[0]
            if other == room or other == "__version__":
                continue
            if other not in ALLOWED[room]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
            elif room in ("hw", "boards") and other == "models" and not target.startswith(HW_MAY_USE):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}: {room} takes parameters only")
    assert not wrong, "\n".join(wrong)


def test_models_import_numpy_only_at_the_top():
    """formats, design, quantize and golden need NumPy and nothing else."""
    wrong = []
    for part in ("formats", "design", "quantize", "golden"):
        for path in sorted((ROOT / "models" / part).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                    [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno} imports {name}" for name in names
                          if name.split(".")[0] not in {"numpy", "__future__", *_standard_library()}]
    assert not wrong, "\n".join(wrong)


def _standard_library() -> set[str]:
    import sys
    return set(sys.stdlib_module_names)


def test_every_package_is_listed():
    """A folder that pyproject.toml forgets works from a checkout and is missing from the wheel."""
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("__init__.py"):
            parts = path.parent.relative_to(ROOT).parts
            folders.add(".".join(parts if parts[0] == "bitkiln" else ("bitkiln", *parts)))
    assert set(setup["packages"]) == folders
    mapped = {name.removeprefix("bitkiln.") for name in setup["package-dir"]} - {"bitkiln"}
    assert mapped == {room for room in ROOMS if (ROOT / room / "__init__.py").exists()} - {"bitkiln"}


def test_every_folder_with_code_is_a_package():
    forgotten = {path.parent for room in ROOMS for path in sources(room)
                 if not (path.parent / "__init__.py").exists()}
    assert not forgotten


def test_no_path_of_one_machine_and_no_registry():
    """Files name neither a developer's folders nor a package registry's host."""
    patterns = re.compile(r"(/home/\w+|/ro" r"ot/|/wo" r"rk/|file:/|"
                          r"[A-Z]:\\\\Users|py" r"pi\.org|pythonhosted|files\.python)")
    wrong = []
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT).parts
        if inside[0] in {".git", ".venv", "build"} or any(part.startswith((".", "__pycache__")) or
                                                         part.endswith(".egg-info") for part in inside[:-1]):
            continue
        if path.suffix not in {".py", ".toml", ".txt", ".md", ".yaml", ".yml", ""} or not path.is_file():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if patterns.search(line) and path.name != "test_layout.py":
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)


def test_help_starts_fast():
    """The parts that are slow to import are imported by the commands that need them."""
    import subprocess
    import sys
    slow = "('numpy', 'amaranth', 'pydantic', 'cocotb')"
    script = f"import sys, bitkiln.cli; print(*[m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    # Typer may itself use pydantic; everything else is ours to keep out.
    assert set(done.stdout.split()) <= {"pydantic"}
