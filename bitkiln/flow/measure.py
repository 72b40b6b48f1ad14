"""``bitkiln synth``: one design through synthesis and place and route to metrics.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ..config import Resolved
from ..files import write_atomically
from ..models.errors import MISSING_TOOL, BitkilnError
from .metrics import Metric, Metrics
from .pnr import clock_port, place_and_route
from .synth import read_liberty, refuse_cell_options, synthesise
from .targets import get_target

__all__ = ["measure"]


def measure(resolved: Resolved, *, target: str | None = None, liberty: Sequence[Path] = (), booth: bool = False,
            dsp: bool = False, period_ps: int = 1000, dont_use: Sequence[str] = (), sram_words: int = 0, seeds: int = 5,
            folder: Path | None = None, progress: Callable[[str], None] = lambda text: None,
            ) -> tuple[Metrics, Path]:
    """Measure a design and write ``metrics.json``.

    Parameters
    ----------
    resolved : Resolved
    target : str, optional
        Wins over the design's ``target``; without both ``ecp5`` (``asic`` where a liberty file is given).
    liberty, booth, dsp, period_ps, dont_use, sram_words :
        See `synthesise`.
    seeds : int
        Place-and-route runs; 0 for none.
    folder : Path, optional
        Where metrics.json goes (default ``build/<name>-<hash>``).

    Returns
    -------
    (Metrics, Path)
    """
    wanted = resolved.config.get("target") or {}
    if target is None and not liberty and wanted.get("asic"):
        liberty = [(resolved.folder or Path()) / wanted["asic"]["liberty"]]
    if target is None:
        target = "asic" if liberty else wanted.get("fpga") or "ecp5"
    asic = target.lower() == "asic"
    if not asic:
        get_target(target, where="--target")
        refuse_cell_options(target, bool(liberty), booth, sram_words)
    if asic and dsp:
        raise BitkilnError("contradictory options", where="--dsp", got="with target asic", expected="an FPGA target")
    if asic and not liberty:
        raise BitkilnError("missing option", where="--liberty", expected="a liberty file for target asic",
                           help="for example --liberty cells.lib")
    from ..hw.emit import to_verilog
    from ..sim.toolchain import require

    for path in liberty:                               # before the work, not after it
        read_liberty(Path(path))
    require("yosys")
    placer = None if asic else get_target(target).place
    if placer and seeds:
        require(placer)
    progress(f"emitting {resolved.name}")
    component = resolved.component()
    verilog = to_verilog(component, resolved.name)
    clock = clock_port(component)
    progress(f"synthesis for {target}")
    if asic:
        parts = [synthesise(verilog, resolved.name, "asic", booth=booth, liberty=list(liberty), period_ps=period_ps,
                            dont_use=dont_use, sram_words=sram_words)]
    else:
        parts = [synthesise(verilog, resolved.name, target, dsp=dsp)]
        if seeds:
            parts.append(_placed(verilog, resolved.name, target, seeds, dsp, clock, progress))
        else:
            parts[0].metrics.append(Metric("fmax", None, "MHz", True, note="not asked for (--seeds 0)"))
    metrics = Metrics.joined(parts)
    metrics.design = {"name": resolved.name, "config": resolved.config, "digest": resolved.digest}
    path = (folder or resolved.build_folder()) / "metrics.json"
    write_atomically(path, json.dumps(metrics.as_dict(), indent=2) + "\n")
    return metrics, path


def _placed(verilog: str, top: str, target: str, seeds: int, dsp: bool, clock: str,
            progress: Callable[[str], None]) -> Metrics:
    """Fmax, or null with the reason: a unit may be larger than the device."""
    try:
        return place_and_route(verilog, top, target, seeds=range(1, seeds + 1), dsp=dsp, clock=clock,
                               progress=progress)
    except BitkilnError as error:
        if error.exit_code == MISSING_TOOL:
            raise
        family = get_target(target)
        reason = f"{error.what}: {error.got}" if error.got else error.what
        return Metrics(family.device, {}, "place and route failed",
                       [Metric("fmax", None, "MHz", True, note=reason)])
