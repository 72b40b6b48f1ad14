"""The largest array of a design that fits a board: by the area model, then confirmed by synthesis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import Resolved, load_design
from ..models.design import MatmulDesign
from ..models.errors import BitkilnError
from .targets import get_target
from .tools import scratch

__all__ = ["candidates", "largest_array"]

# Technology of each family's area model; Gowin's LUTs and chains are counted like ECP5's.
MODELS = {"ecp5": "ecp5", "ice40": "ice40", "gowin": "ecp5"}
SIDES = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32)
# Places that the link, clock and reset take beside the core (docs/microarchitecture.md).
LINK_PLACES = 900
CONFIRMED = 3             # candidates that are synthesised at most


def candidates(board: Any, resolved: Resolved, used: int | None = None) -> list[tuple[int, int]]:
    """Rows and columns whose predicted area leaves room on the board, largest first.

    A design of another engine has none: its size is not rows and columns of one PE.

    Parameters
    ----------
    used : int, optional
        LUTs that the design itself was found to take, link included: predictions are scaled by it, since a model errs
        alike on arrays of one PE.
    """
    from ..models.cost.area.area import area_estimate

    design = resolved.design
    if not isinstance(design, MatmulDesign):
        return []
    tech = MODELS[get_target(board.target).name]
    room: float = board.capacity["lut"] - LINK_PLACES
    itself = area_estimate(design, tech).value
    if used is not None and itself:
        room *= itself / max(used - LINK_PLACES, 1)
    found = []
    for rows in SIDES:
        for columns in SIDES:
            if not rows <= columns <= 2 * rows or rows * columns >= design.rows * design.columns:
                continue
            try:
                area = area_estimate(_sized(resolved, rows, columns).design, tech).value
            except BitkilnError:
                continue
            if area is not None and area <= room:
                found.append((rows, columns))
    return sorted(found, key=lambda size: (size[0] * size[1], size[0]), reverse=True)


def _sized(resolved: Resolved, rows: int, columns: int) -> Resolved:
    """The design with another array; a number of output lanes that no longer divides the columns is chosen anew."""
    config = {key: value for key, value in resolved.config.items() if key != "name"}
    flat: dict[str, tuple[Any, str]] = {}

    def walk(prefix: str, node: Any) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                walk(f"{prefix}{key}.", value)
            elif value is not None:
                flat[f"{prefix}{key}"] = (value, "design")

    walk("", config)
    flat |= {"array.rows": (rows, "size"), "array.columns": (columns, "size")}
    lanes = flat.get("output_lanes", (1, ""))[0]
    if columns % lanes:
        flat.pop("output_lanes")
    return load_design(None, cli=flat)


def largest_array(board: Any, resolved: Resolved, progress: Callable[[str], None], used: int | None = None) -> str:
    """One line: the largest array that fits, confirmed; or what else to try. ``used`` as in `candidates`."""
    from ..boards import top as boards_top
    from ..sim.toolchain import require
    from .bitstream import SYNTH, _devices, synthesise_plan

    family = get_target(board.target).name
    sizes = candidates(board, resolved, used)
    for rows, columns in sizes[:CONFIRMED]:
        smaller = _sized(resolved, rows, columns)
        progress(f"trying {rows} x {columns}")
        identity = boards_top.identity_of(board, smaller.design, smaller.digest)
        _, plan = boards_top.plan(board, smaller.design, identity, boards_top.clock_of(board),
                                  synth_opts=SYNTH[family])
        with scratch() as name:
            cells = synthesise_plan(require("yosys"), plan, Path(name))
        if all(each.fits for each in _devices(board, get_target(board.target), family, cells)):
            return f"the largest array that fits is {rows} x {columns}: --rows {rows} --columns {columns}"
    if isinstance(resolved.design, MatmulDesign):
        return "no array of these modes fits: fewer modes, or --set output.rules=[raw]"
    return "make it smaller: `bitkiln schema --engine " + resolved.engine.name + "` lists what can be"

