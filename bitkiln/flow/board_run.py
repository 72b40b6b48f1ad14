"""Networks on a board, real or simulated, through the drivers of `host`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import Resolved
from ..models.errors import BitkilnError

__all__ = ["BoardResult", "built_baud", "connect", "layer_modes", "needs_core", "open_board", "run_digits"]


@dataclass(frozen=True)
class BoardResult:
    """A network that ran on a board.

    Attributes
    ----------
    network, board, where : str
        ``where`` is the port, or says that it was simulated.
    images, jobs, results, mismatches : int
        ``mismatches`` against the golden model.
    accuracy : float
        0..1.
    seconds : float
        By the line's clock: of the board where it was simulated.
    finished : str
        Where the output stage is: ``board`` or ``host``.
    link : dict
        Requests, repeated ones, damaged answers, bytes.
    noise : dict
        Bytes disturbed on purpose.
    layers : list of dict
        ``name``, ``mode``, ``m``, ``k``, ``n``.
    first : str or None
        The first difference.
    """

    network: str
    board: str
    where: str
    images: int
    jobs: int
    results: int
    mismatches: int
    accuracy: float
    seconds: float
    finished: str
    link: dict[str, int]
    noise: dict[str, int]
    layers: list[dict[str, Any]]
    first: str | None = None
    wall_seconds: float = field(default=0.0, compare=False)

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds

    @property
    def passed(self) -> bool:
        return self.mismatches == 0 and self.results > 0

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "images_per_second": self.images_per_second, "passed": self.passed}


def built_baud(folder: Path) -> int:
    """The bit rate of a bitstream's folder."""
    from .bitstream import REPORT

    try:
        return round(json.loads((folder / REPORT).read_text())["baud"])
    except (OSError, ValueError, KeyError) as error:
        raise BitkilnError("not the folder of a bitstream", where=str(folder), got=type(error).__name__,
                           expected=f"a {REPORT}", help="`bitkiln bitstream` writes one") from None


def connect(port: str, baud: int) -> Any:
    """A link over a serial port; the caller closes its ``line``."""
    from ..host.line import SerialLine
    from ..host.link import Link

    line = SerialLine(port, baud)
    try:
        return Link(line)
    except BaseException:
        line.close()
        raise


@contextmanager
def open_board(board: Any, resolved: Resolved, port: str | None, *, baud: int | None = None, seed: int = 0,
               noise: float = 0.0, progress: Callable[[str], None] = lambda text: None) -> Iterator[Any]:
    """A transport to a board: over ``port``, or simulated without one.

    Parameters
    ----------
    noise : float
        Probability for each byte to be lost, as much to come twice, as much to change a bit.

    Raises
    ------
    BitkilnError
        No such port, no answer, another design on the board, another protocol.
    """
    from ..host.board import BoardTransport
    from ..host.line import NoisyLine, SerialLine
    from ..host.link import Link

    if port is None:
        from ..boards.top import identity_of
        from ..sim.board_run import BoardModel, SimLine

        identity = identity_of(board, resolved.design, resolved.digest, baud=baud)
        progress(f"{board.name}: building the simulated board")
        line: Any = SimLine(BoardModel(resolved.design, identity, seed=seed))
    else:
        line = SerialLine(port, baud or board.baud)
    try:
        if noise:
            line = NoisyLine(line, seed, drop=noise, repeat=noise, corrupt=noise)
        yield BoardTransport(Link(line), resolved.digest)
    finally:
        line.close()


def run_digits(board: Any, resolved: Resolved, network: str, layers: dict[str, Any], transport: Any, *, images: int,
               where: str, progress: Callable[[str], None] = lambda text: None) -> BoardResult:
    """The digits network, every job compared with the golden model.

    Parameters
    ----------
    network : str
        ``mlp`` or ``cnn``.
    layers : dict
        A mode for each layer (`models.workloads.mixed`).
    """
    from ..host.driver import Core
    from ..host.finish import HostFinish, finished_design
    from ..host.packing import best_order
    from ..models.workloads.mixed import run_digits as run_network
    from ..sim.core_networks import Recorder

    design = resolved.design
    core = Core(transport, design)
    line = transport.link.line
    started, wall = line.now(), time.perf_counter()
    count = 0

    def execute(job: Any, a: Any, w: Any, records: Any = None, c: Any = None) -> Any:
        nonlocal count
        count += 1
        progress(f"job {count}: {job.mode}, {job.m} x {job.k} x {job.n}")
        return core.run(replace(job, order=best_order(design, job)), a, w, records=records, c=c)

    bare = set(design.rules) == {"raw"}
    whole = finished_design(design) if bare else design
    recorder = Recorder(whole, HostFinish(design, execute) if bare else execute)
    done, percent = run_network(network, layers, images=images, design=whole, execute=recorder)
    shapes = [{"name": layer.name, "mode": layer.mode, "rule": layer.rule, "m": layer.m, "k": layer.k, "n": layer.n}
              for layer in done.layers]
    disturbed = getattr(line, "injected", {})
    return BoardResult(network, board.name, where, images, recorder.jobs, recorder.results, recorder.mismatches,
                       percent / 100, line.now() - started, "host" if bare else "board", dict(transport.link.counts),
                       dict(disturbed), shapes, recorder.first, time.perf_counter() - wall)


def needs_core(resolved: Resolved) -> None:
    """Raise BitkilnError where a design has no jobs for a network."""
    from ..models.design import MatmulDesign

    if not isinstance(resolved.design, MatmulDesign):
        raise BitkilnError("the digits network runs on matrix products", where="--engine", got=resolved.engine.name,
                           expected="matmul_core", help="`bitkiln board check` runs random jobs on any engine")


def layer_modes(network: str, path: Path | None, resolved: Resolved) -> dict[str, Any]:
    """A mode for each layer: those of a file, or the core's modes in turn."""
    from .layers import layer_names, parse_assignment, read_layers

    if path is not None:
        assignment = read_layers(path, [network])
    else:
        modes = [mode.name for mode in resolved.design.pe.modes]
        assignment = parse_assignment({name: modes[at % len(modes)] for at, name in enumerate(layer_names(network))},
                                      [network])
    assignment.check(resolved.design)
    return assignment.layers(network)

