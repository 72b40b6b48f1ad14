"""A board without the board: the core behind its link, simulated down to the serial pins.

>>> line = SimLine(BoardModel(design, identity))
>>> Core(BoardTransport(Link(line)), design).matmul(a, w)       # the drivers of a real board
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

from bitkiln.host.line import Line
from bitkiln.hw.link.linked import Design, LinkedCore
from bitkiln.models.design.link import Identity
from bitkiln.models.errors import FAILED, BitkilnError

from . import verilate
from .cache import cached, digest

__all__ = ["BoardModel", "SimLine"]

ARGUMENTS = ("-O3", "--x-assign", "fast", "--x-initial", "unique", "--noassert", "--inline-mult", "1")
SHIM = Path(__file__).with_name("board_shim.cpp")
CYCLE = 256                # the shim's unit of time in a clock cycle


class BoardModel:
    """A simulated board.

    Parameters
    ----------
    design : MatmulDesign, DequantDesign or SpConvDesign
    identity : Identity
    seed : int
        Of the registers that have no initial value.
    drift : float
        How much slower the host's bit clock is than the board's, relative.
    """

    def __init__(self, design: Design, identity: Identity, *, seed: int = 0, drift: float = 0.0):
        self._load(_library(design, identity), identity, seed, drift)

    @classmethod
    def from_verilog(cls, text: str, top: str, identity: Identity, *, seed: int = 0, drift: float = 0.0,
                     select: str = "", mutant: int = 0) -> BoardModel:
        """A model of a Verilog text with the ports of a `LinkedCore`; a port ``select`` that chooses a bug is held at
        ``mutant``."""
        model = cls.__new__(cls)
        model._load(_build(text, top, select), identity, seed, drift, mutant)
        return model

    def _load(self, library: Path, identity: Identity, seed: int, drift: float, mutant: int = 0) -> None:
        self.identity = identity
        self._c = _bind(library)
        self._board = self._c.board_new(seed, round(identity.divisor * CYCLE * (1 + drift)), mutant)

    def __del__(self):
        if getattr(self, "_board", None):
            self._c.board_free(self._board)
            self._board = None

    @property
    def cycles(self) -> int:
        """Clock cycles so far."""
        return self._c.board_cycles(self._board)

    @property
    def broken(self) -> int:
        """Bytes of the board without a stop bit."""
        return self._c.board_broken(self._board)

    def cut(self, cut: bool = True) -> None:
        """Cut the line, or mend it."""
        self._c.board_cut(self._board, cut)

    def reset(self) -> None:
        self._c.board_reset(self._board, 4)

    def step(self, cycles: int) -> None:
        self._c.board_step(self._board, cycles)

    def write(self, data: bytes) -> None:
        self._c.board_write(self._board, data, len(data))

    def wait(self, cycles: int) -> bytes:
        """What has arrived, after at most so many cycles without a byte."""
        count = self._c.board_wait(self._board, cycles)
        data = ctypes.create_string_buffer(count)
        self._c.board_take(self._board, data, count)
        return data.raw[:count]


class SimLine(Line):
    """The serial line of a simulated board; its time is that of the simulation.

    Attributes
    ----------
    unplugged : bool
        Set it to pull the plug.
    """

    name = "simulated board"
    latency = 2e-5

    def __init__(self, model: BoardModel):
        self.model = model
        self._hz = model.identity.clock_hz
        self.byte_seconds = 10 * model.identity.divisor / self._hz
        self.unplugged = False

    def write(self, data: bytes) -> None:
        self._check()
        self.model.write(data)

    def read(self, seconds: float) -> bytes:
        self._check()
        # The bytes of an answer follow each other: wait for the end of a burst, not for every byte.
        data = found = self.model.wait(int(seconds * self._hz))
        while found:
            found = self.model.wait(11 * self.model.identity.divisor)
            data += found
        return data

    def now(self) -> float:
        return self.model.cycles / self._hz

    def _check(self) -> None:
        if self.unplugged:
            raise BitkilnError("the board is gone", where=self.name, got="unplugged", expected="a port that stays",
                               help="unplugged? plug it in and run again", exit_code=FAILED)


@functools.lru_cache(maxsize=16)
def _library(design: Design, identity: Identity) -> Path:
    prepared, text = verilate.verilog_text(LinkedCore(design, identity))
    return _build(text, prepared.top)


def _build(text: str, top: str, select: str = "") -> Path:
    """The shared library of a board's Verilog, from the cache where it was built before."""
    verilator, cxx = verilate.simulation_tools()
    source = SHIM.read_text()
    key = digest(text, top, select, ARGUMENTS, verilate.OPTIMISE, source, Path(verilate.__file__).read_bytes(),
                 verilator.identity, cxx.identity)

    def make(folder: Path) -> None:
        made = verilate.verilate(text, top, folder, ARGUMENTS, verilator=verilator)
        (folder / SHIM.name).write_text((f"#define BOARD_MUTANT {select}\n" if select else "") + source)
        # As one unit: the headers, which every file has again, cost the compiler more than the code.
        whole = folder / "whole.cpp"
        whole.write_text("".join(f'#include "{path.name}"\n' for path in [*made, folder / SHIM.name]))
        verilate.compile_sources([whole], folder / "libboard.so", verilator=verilator, cxx=cxx, where=top, shared=True)
        for path in folder.iterdir():
            if path.name != "libboard.so":
                path.unlink()

    return cached("boards", key, make) / "libboard.so"


def _bind(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    board, count, bytes_of = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p
    for name, result, arguments in (
            ("board_new", board, (count, count, ctypes.c_uint32)), ("board_free", None, (board,)),
            ("board_cycles", count, (board,)), ("board_broken", count, (board,)),
            ("board_cut", None, (board, ctypes.c_int)),
            ("board_reset", None, (board, ctypes.c_uint32)), ("board_write", None, (board, bytes_of, count)),
            ("board_wait", count, (board, count)), ("board_step", None, (board, count)),
            ("board_take", count, (board, bytes_of, count))):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
