"""What TAB offers for a value, without NumPy: a shell asks again at every key.

Each function takes what has been typed of the word and gives whole words. They have no line of help beside them: zsh
and fish would get it through Rich, which takes longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from . import names

__all__ = ["accumulators", "assignable", "boards", "clouds", "designs", "engines", "families", "features", "formats",
           "methods", "modes", "networks", "packages", "packs", "presets", "reproduced", "spaces", "sparse_networks",
           "suites", "targets", "technologies", "units", "viewable", "weights", "workloads"]

Found = list[str]

# Offered before a letter is typed: all formats and their pairs would be thousands.
COMMON_PES = ("fp4", "int4", "int8", "fp8_e4m3", "fp8_e5m2", "posit8_0", "posit16_1", "bf16", "int8xfp4",
              "int8xternary", "bf16xint4", "fp16xnf4", "bitmod4")
SERIAL_ONLY = ("bitmod3", "bitmod4")
HERE = Path(__file__).resolve().parent.parent


def _of(incomplete: str, choices: Iterable[str]) -> Found:
    return [choice for choice in choices if choice.startswith(incomplete)]


def _listed(incomplete: str, choices: Iterable[str]) -> Found:
    """Names of a list with commas: the last one is completed, those before are not offered again."""
    *before, last = incomplete.split(",")
    start = "".join(f"{name}," for name in before)
    return [start + name for name in _of(last, choices) if name not in before]


def _fixed(*choices: str) -> Callable[[str], Found]:
    return lambda incomplete: _of(incomplete, choices)


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Files with such a suffix and folders, below what has been typed."""
    folder, slash, start = incomplete.rpartition("/")
    place = Path(folder + slash) if slash else Path()
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return []
    hidden = start.startswith(".")
    return [f"{folder}{slash}{path.name}" + ("/" if path.is_dir() else "") for path in entries
            if path.name.startswith(start) and (hidden or not path.name.startswith("."))
            and (path.is_dir() or path.suffix.lower() in suffixes)]


def _stems(folder: Path, suffix: str) -> list[str]:
    return sorted(path.stem for path in folder.glob(f"*{suffix}"))


def units(incomplete: str) -> Found:
    """A PE name: formats, and pairs of an activation and a weight."""
    if not incomplete:
        return _of("", COMMON_PES)
    found = [*names.FORMATS, *SERIAL_ONLY]
    for at, letter in enumerate(incomplete):
        if letter == "x" and incomplete[:at] in names.FORMATS:
            found += [f"{incomplete[:at]}x{weight}" for weight in dict.fromkeys([*names.FORMATS, *names.WEIGHTS])]
    return _of(incomplete, found)


def designs(incomplete: str) -> Found:
    """A design file or a PE name."""
    return [*_of(incomplete, _files(incomplete, (".yaml", ".yml"))), *units(incomplete)]


def viewable(incomplete: str) -> Found:
    """A wave file, a design file or a PE name."""
    return [*_of(incomplete, _files(incomplete, (".fst", ".vcd", ".ghw", ".gtkw", ".sucl", ".yaml", ".yml"))),
            *units(incomplete)]


def modes(incomplete: str) -> Found:
    """PE names with commas."""
    *before, last = incomplete.split(",")
    start = "".join(f"{name}," for name in before)
    return [start + name for name in units(last) if name not in before]


def engines(incomplete: str) -> Found:
    """Engines of the registry."""
    from ..engines import engine_names

    return _of(incomplete, engine_names())


def presets(incomplete: str) -> Found:
    """Presets that come with the tool."""
    return _of(incomplete, _stems(HERE / "presets", ".yaml"))


def spaces(incomplete: str) -> Found:
    """Design spaces that come with the tool, and files."""
    return _of(incomplete, [*_stems(HERE / "spaces", ".yaml"), *_files(incomplete, (".yaml", ".yml"))])


def suites(incomplete: str) -> Found:
    """Benchmark suites of the source tree."""
    from ..report.bench import suites as every

    return _of(incomplete, every())


def targets(incomplete: str) -> Found:
    """FPGA families, their parts by name, and standard cells."""
    from ..flow.targets import PARTS, TARGETS

    return _of(incomplete, [*TARGETS, "ecp5-25k", *(name for name in PARTS if "-" in name), "asic"])


def technologies(incomplete: str) -> Found:
    """Fitted technologies, and files."""
    from ..models import cost

    folder = Path(cost.__path__[0]) / "tech"
    return _of(incomplete, [*_stems(folder, ".json"), *_files(incomplete, (".json",))])


def boards(incomplete: str) -> Found:
    """Boards with a file of their own."""
    from ..boards.board import board_names

    return _of(incomplete, board_names())


def packages(incomplete: str) -> Found:
    """Packages of `bitkiln generate`, with commas."""
    from ..flow.packages.registry import PACKAGES

    return _listed(incomplete, [*PACKAGES, "all"])


def workloads(incomplete: str) -> Found:
    """Workloads, and files."""
    return _of(incomplete, [*names.WORKLOADS, *_files(incomplete, (".yaml", ".yml", ".csv", ".onnx"))])


def assignable(incomplete: str) -> Found:
    """Networks of `bitkiln assign`."""
    return _of(incomplete, ["digits-mlp", "digits-cnn", "g2p", *_files(incomplete, (".onnx",))])


def clouds(incomplete: str) -> Found:
    """Point clouds: generated scenes, and files."""
    return _of(incomplete, ["street", "room", *_files(incomplete, (".bin", ".pcd", ".ply", ".npy", ".las", ".laz"))])


def formats(incomplete: str) -> Found:
    """Formats, those of blocks too."""
    return _of(incomplete, [*names.FORMATS, *names.BLOCK_FORMATS])


def weights(incomplete: str) -> Found:
    """Weight types of the bit-serial engine, with commas."""
    return _listed(incomplete, names.WEIGHTS)


def methods(incomplete: str) -> Found:
    """Quantisers, with commas."""
    return _listed(incomplete, names.METHODS)


families = _fixed(*names.FAMILIES)
reproduced = _fixed(*names.REPRODUCED)
accumulators = _fixed("exact", "fp32", "int32")
networks = _fixed("digits", "mlp", "cnn", "g2p")
sparse_networks = _fixed("minkunet-small", "minkunet-tiny", "second-small")
features = _fixed("int8", "fp8_e4m3", "posit8_0")
packs = _fixed("item", "row")
