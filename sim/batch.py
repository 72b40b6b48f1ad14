"""RTL driven by NumPy arrays: one row per clock cycle, millions of rows a second.

A module is verilated and compiled into a shared library with one C function that feeds whole arrays through
it. Compiled models are kept in the build cache.

>>> model = BatchModel(DotUnit(DotDesign.from_pe("fp4")))
>>> model.run({"a": a_words, "w": w_words, "en": 1, "clear": 0}, ["acc"])["acc"]
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bitkiln.hw.emit import Port
from bitkiln.models.errors import BitkilnError, nearest

from . import verilate
from .cache import cached, digest

__all__ = ["BatchModel", "build_many", "from_ints", "pack_lanes", "to_ints"]

ARGUMENTS = ("-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert")


class BatchModel:
    """A module whose ports are arrays.

    Parameters
    ----------
    component : wiring.Component or DotDesign
        What to simulate; combinational, or with one clock.

    Attributes
    ----------
    top : str
        Module name.
    inputs, outputs : dict of str to Port
        Without the clock.
    sequential : bool
        Whether a row is a clock cycle.

    Notes
    -----
    Row ``t`` of an output is its value after clock edge ``t``, with the inputs of row ``t`` still applied.
    Without a clock it is the settled value for the inputs of row ``t``.
    """

    def __init__(self, component):
        prepared, text = verilate.verilog_text(_component(component))
        self._setup(text, prepared.top, prepared.ports, prepared.clocks, prepared.resets)

    @classmethod
    def from_verilog(cls, text: str, top: str, ports: Iterable[Port], *, clock: str | None = "clk") -> BatchModel:
        """A model of a Verilog text, e.g. a netlist or a mutant.

        Parameters
        ----------
        text : str
            Every module that ``top`` needs.
        top : str
            Module to simulate.
        ports : iterable of Port
            Its ports; the one named ``clock``, if there, is the clock.
        clock : str, optional
            Name of the clock input.
        """
        model = cls.__new__(cls)
        ports = tuple(ports)
        clocks = tuple(port.name for port in ports if port.name == clock)
        model._setup(text, top, ports, clocks, ())
        return model

    def _setup(self, text: str, top: str, ports: Sequence[Port], clocks: Sequence[str], resets: Sequence[str]) -> None:
        if len(clocks) > 1:
            raise BitkilnError("several clocks", where=top, got=", ".join(clocks), expected="at most one clock domain")
        self.top = top
        self.clock = clocks[0] if clocks else None
        self.sequential = self.clock is not None
        self.resets = tuple(resets)
        ports = [port for port in ports if port.width]  # Verilog has no others
        self.inputs = {port.name: port for port in ports if port.direction == "input" and port.name != self.clock}
        self.outputs = {port.name: port for port in ports if port.direction == "output"}
        self._library = _load(_build(text, top, tuple(self.inputs.values()), tuple(self.outputs.values()), self.clock))
        self._handle = None

    def __del__(self):
        self._free()

    def __repr__(self) -> str:
        return f"BatchModel({self.top})"

    def run(self, inputs: Mapping[str, np.ndarray | int], outputs: Sequence[str] | None = None, *, every: int = 1,
            resume: bool = False) -> dict[str, np.ndarray]:
        """Feed arrays through the module.

        Parameters
        ----------
        inputs : mapping
            For each input port an integer array of shape ``(rows,)``, or a scalar that is held. Values are
            codes of the port's width; negative values are taken as two's complement. Ports wider than 64
            bits take ``(rows, words)`` uint32 arrays, least significant word first (`from_ints`), or a
            Python int. Reset inputs default to 0.
        outputs : sequence of str, optional
            Ports to return; all by default.
        every : int
            Keep the last row of each group of this many rows.
        resume : bool
            Go on from the state the last run left, instead of the power-up state.

        Returns
        -------
        dict of str to ndarray
            ``(rows // every,)`` each: int64 for signed ports, else the smallest of uint8/16/32/64 that holds
            the port; ``(rows // every, words)`` uint32 for ports wider than 64 bits (see `to_ints`).

        Raises
        ------
        BitkilnError
            Unknown or missing port, values outside the port's width, arrays of different length.
        """
        names = list(self.outputs) if outputs is None else list(outputs)
        _known(names, self.outputs, self.top, "output")
        _known(inputs, self.inputs, self.top, "input")
        missing = [name for name in self.inputs if name not in inputs and name not in self.resets]
        if missing:
            raise BitkilnError("missing input", where=f"{self.top}.{missing[0]}",
                               expected="an array or a number for each input")
        if every < 1:
            raise BitkilnError("out of range", where="every", got=every, expected="1 or more")
        given = {name: inputs.get(name, 0) for name in self.inputs}
        arrays = {name: _codes(value, self.inputs[name], f"{self.top}.{name}") for name, value in given.items()}
        lengths = {name: len(array) for name, (array, held) in arrays.items() if not held}
        if len(set(lengths.values())) > 1:
            raise BitkilnError("arrays of different length", where=self.top,
                               got=", ".join(f"{name} {length}" for name, length in lengths.items()))
        rows = next(iter(lengths.values()), 1)

        kept = rows // every
        results = {name: np.empty(_shape(self.outputs[name].width, kept), _dtype(self.outputs[name])) for name in names}
        if not resume or self._handle is None:
            self._free()
            self._handle = self._library.bitkiln_new()
        in_pointers = (ctypes.c_void_p * max(1, len(arrays)))(*(array.ctypes.data for array, _ in arrays.values()))
        held = (ctypes.c_uint8 * max(1, len(arrays)))(*(int(held) for _, held in arrays.values()))
        out_pointers = (ctypes.c_void_p * max(1, len(self.outputs)))(
            *(results[name].ctypes.data if name in results else None for name in self.outputs))
        self._library.bitkiln_run(self._handle, rows, every, in_pointers, held, out_pointers)
        return results

    def _free(self) -> None:
        if getattr(self, "_handle", None):
            self._library.bitkiln_free(self._handle)
            self._handle = None


def build_many(components: Sequence) -> list[BatchModel]:
    """Models of many components (or DotDesigns), compiled side by side on all processors."""
    prepared = [verilate.prepare(_component(component)) for component in components]

    def build(one) -> BatchModel:
        model = BatchModel.__new__(BatchModel)
        model._setup(verilate.prepared_verilog(one), one.top, one.ports, one.clocks, one.resets)
        return model

    with ThreadPoolExecutor(verilate.workers()) as pool:
        return list(pool.map(build, prepared))


# Values ------------------------------------------------------------------------------------------


def to_ints(words: np.ndarray, width: int, signed: bool = False) -> np.ndarray:
    """Python ints (object array) from ``(rows, words)`` uint32 limbs; passes ``(rows,)`` arrays on as ints."""
    if words.ndim == 1:
        return words.astype(object)
    raw = np.ascontiguousarray(words, dtype="<u4")
    step = raw.shape[1] * 4
    data = raw.tobytes()
    values = np.empty(len(raw), dtype=object)
    values[:] = [int.from_bytes(data[at:at + step], "little") for at in range(0, len(data), step)]
    if signed:
        half, full = 1 << (width - 1), 1 << width
        values[:] = [value - full if value >= half else value for value in values]
    return values


def from_ints(values: Iterable[int], width: int) -> np.ndarray:
    """``(rows, words)`` uint32 limbs, least significant first, of ints (negative ones as two's complement)."""
    count = (width + 31) // 32
    mask = (1 << width) - 1
    data = b"".join((int(value) & mask).to_bytes(count * 4, "little") for value in values)
    return np.frombuffer(data, dtype="<u4").reshape(-1, count).astype(np.uint32)


def pack_lanes(codes: np.ndarray, bits: int) -> np.ndarray:
    """One port value per row from the codes of its lanes, lane 0 in the least significant bits.

    Parameters
    ----------
    codes : ndarray
        ``(rows, lanes)`` unsigned codes of ``bits`` bits each.

    Returns
    -------
    ndarray
        ``(rows,)`` uint64 up to 64 bits in total, else ``(rows, words)`` uint32 limbs.
    """
    codes = np.asarray(codes)
    rows, lanes = codes.shape
    total = lanes * bits
    if total <= 64:
        packed = np.zeros(rows, dtype=np.uint64)
        for lane in range(lanes):
            packed |= codes[:, lane].astype(np.uint64) << np.uint64(lane * bits)
        return packed
    words = np.zeros((rows, (total + 31) // 32), dtype=np.uint64)
    for lane in range(lanes):
        word, shift = divmod(lane * bits, 32)
        value = codes[:, lane].astype(np.uint64) << np.uint64(shift)
        words[:, word] |= value & np.uint64(0xFFFFFFFF)
        if shift + bits > 32:
            words[:, word + 1] |= value >> np.uint64(32)
    return words.astype(np.uint32)


def _shape(width: int, rows: int) -> tuple[int, ...]:
    return (rows,) if width <= 64 else (rows, (width + 31) // 32)


def _container(width: int) -> np.dtype:
    """What Verilator keeps a port of ``width`` bits in."""
    sizes = ((8, "u1"), (16, "u2"), (32, "u4"), (64, "u8"))
    return np.dtype(next((kind for limit, kind in sizes if width <= limit), "u4"))


def _dtype(port: Port) -> np.dtype:
    return np.dtype("i8") if port.signed and port.width <= 64 else _container(port.width)


def _codes(value, port: Port, where: str) -> tuple[np.ndarray, bool]:
    """The array in Verilator's container type and whether it is one held value."""
    width, kind = port.width, _container(port.width)
    if isinstance(value, (int, np.integer)) and not isinstance(value, np.ndarray):
        low, high = -(1 << (width - 1)), (1 << width) - 1
        if not low <= int(value) <= high:
            raise BitkilnError("value outside the port", where=where, got=int(value), expected=f"{width} bits")
        if width > 64:
            return from_ints([value], width), True
        return np.array([int(value) & high], dtype=kind), True
    array = np.asarray(value)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if width > 64:
        if array.dtype != np.uint32 or array.ndim != 2 or array.shape[1] != (width + 31) // 32:
            raise BitkilnError("wrong array", where=where, got=f"{array.dtype} {array.shape}",
                               expected=f"uint32 (rows, {(width + 31) // 32}), as from_ints makes it")
        array = np.ascontiguousarray(array)
        if width % 32 and len(array) and int(array[:, -1].max()) >> (width % 32):
            raise BitkilnError("value outside the port", where=where, expected=f"{width} bits")
        return array, False
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise BitkilnError("wrong array", where=where, got=f"{array.dtype} {array.shape}",
                           expected="an integer array with one value per row")
    if array.dtype != kind or width != kind.itemsize * 8:
        if len(array):
            low, high = int(array.min()), int(array.max())
            if low < -(1 << (width - 1)) or high >> width > 0:
                raise BitkilnError("value outside the port", where=where, got=low if low < 0 else high,
                                   expected=f"{width} bits")
            if low < 0:
                array = array & np.int64((1 << width) - 1) if width < 64 else array.view(np.uint64)
        array = array.astype(kind, copy=False)
    return np.ascontiguousarray(array), False


def _known(names: Iterable[str], ports: Mapping[str, Port], top: str, direction: str) -> None:
    for name in names:
        if name not in ports:
            raise BitkilnError(f"unknown {direction}", where=top, got=name, expected=", ".join(ports) or "none",
                               help=nearest(name, ports))


def _component(component):
    from bitkiln.models.design import DotDesign

    if isinstance(component, DotDesign):
        from bitkiln.hw.mac.dot import DotUnit

        return DotUnit(component)
    return component


# Building ----------------------------------------------------------------------------------------


def _build(text: str, top: str, inputs: Sequence[Port], outputs: Sequence[Port], clock: str | None) -> Path:
    verilator, cxx = verilate.simulation_tools()
    key = digest(text, top, inputs, outputs, clock, ARGUMENTS, verilate.OPTIMISE, ENTRY, Path(__file__).read_bytes(),
                 verilator.identity, cxx.identity)

    def build(folder: Path) -> None:
        sources = verilate.verilate(text, top, folder, ARGUMENTS, verilator=verilator)
        entry = folder / "entry.cpp"
        entry.write_text(_entry(folder, inputs, outputs, clock))
        verilate.compile_sources([*sources, entry], folder / "model.so", verilator=verilator, cxx=cxx, where=top,
                                 shared=True)
        for path in folder.iterdir():
            if path.suffix not in (".so", ".v"):
                path.unlink()

    return cached("models", key, build) / "model.so"


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    library.bitkiln_new.restype = ctypes.c_void_p
    library.bitkiln_free.argtypes = [ctypes.c_void_p]
    library.bitkiln_run.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p,
                                    ctypes.c_void_p, ctypes.c_void_p]
    return library


ENTRY = """\
#include "Vtop.h"
#include "Vtop__Syms.h"
#include <cstdint>
#include <cstring>

void Vtop___024root___eval(Vtop___024root*);

namespace {
struct Model {
    VerilatedContext context;
    Vtop top{&context, "top"};
    Model() { /*CLEAR*/ top.eval(); }
};
}

#define API extern "C" __attribute__((visibility("default")))

API void* bitkiln_new() { return new Model; }
API void bitkiln_free(void* model) { delete static_cast<Model*>(model); }

API void bitkiln_run(void* model, uint64_t rows, uint64_t every, const void* const* in, const uint8_t* held,
                     void* const* out) {
    Vtop& top = static_cast<Model*>(model)->top;
    Vtop___024root* const root = top.rootp;
    uint64_t left = every, kept = 0;
    (void)in; (void)held; (void)out;
/*POINTERS*/
    for (uint64_t row = 0; row < rows; ++row) {
/*DRIVE*/
/*EVAL*/
        if (--left) continue;
        left = every;
/*SAMPLE*/
        ++kept;
    }
}
"""


def _entry(folder: Path, inputs: Sequence[Port], outputs: Sequence[Port], clock: str | None) -> str:
    """C++ of the entry: everything known about the ports is unrolled."""
    names = _cpp_names((folder / "Vtop.h").read_text())
    missing = [port.name for port in (*inputs, *outputs) if port.name not in names]
    if missing:
        raise BitkilnError("no such port", where="Verilog module", got=missing[0], expected=", ".join(names))
    clear, pointers, drive, sample = [], [], [], []
    for at, port in enumerate(inputs):
        name, words = names[port.name], (port.width + 31) // 32
        if port.width > 64:
            clear.append(f"std::memset(&top.{name}, 0, {4 * words});")
            pointers.append(f"    const uint32_t* in{at} = static_cast<const uint32_t*>(in[{at}]);\n"
                            f"    const uint64_t step{at} = held[{at}] ? 0 : {words};")
            drive.append(f"        std::memcpy(&top.{name}, in{at}, {4 * words}); in{at} += step{at};")
        else:
            kind = f"uint{_container(port.width).itemsize * 8}_t"
            clear.append(f"top.{name} = 0;")
            pointers.append(f"    const {kind}* in{at} = static_cast<const {kind}*>(in[{at}]);\n"
                            f"    const uint64_t step{at} = !held[{at}];")
            drive.append(f"        top.{name} = *in{at}; in{at} += step{at};")
    for at, port in enumerate(outputs):
        name, words = names[port.name], (port.width + 31) // 32
        if port.width > 64:
            sample.append(f"        if (out[{at}]) std::memcpy(static_cast<uint32_t*>(out[{at}]) + kept * {words}, "
                          f"&top.{name}, {4 * words});")
        elif port.signed:
            shift = 64 - port.width
            sample.append(f"        if (out[{at}]) static_cast<int64_t*>(out[{at}])[kept] = "
                          f"static_cast<int64_t>(static_cast<uint64_t>(top.{name}) << {shift}) >> {shift};")
        else:
            kind = f"uint{_container(port.width).itemsize * 8}_t"
            sample.append(f"        if (out[{at}]) static_cast<{kind}*>(out[{at}])[kept] = top.{name};")
    evaluate = "        Vtop___024root___eval(root);"
    if clock is not None:
        name = names[clock]
        clear.append(f"top.{name} = 0;")
        # Verilator settles the inputs before it looks for edges, so inputs and rising clock share one evaluation.
        # The falling edge does nothing but set the remembered clock level: where that is one variable, set it.
        levels = re.findall(r"\b(__Vtrigprevexpr\w+);", (folder / "Vtop___024root.h").read_text())
        if len(levels) == 1:
            evaluate = f"        top.{name} = 1;\n{evaluate}\n        root->{levels[0]} = 0;"
        else:
            evaluate = f"        top.{name} = 1;\n{evaluate}\n        top.{name} = 0;\n{evaluate}"
    text = ENTRY
    for mark, lines in (("CLEAR", [" ".join(clear)]), ("POINTERS", pointers), ("DRIVE", drive), ("EVAL", [evaluate]),
                        ("SAMPLE", sample)):
        text = text.replace(f"/*{mark}*/", "\n".join(lines))
    return text


def _cpp_names(header: str) -> dict[str, str]:
    """Verilog name of each port to its C++ name, in which Verilator writes odd characters as ``__0`` and hex."""
    found = re.findall(r"VL_(?:IN|OUT)(?:8|16|64|W)?\(&?(\w+)", header)
    return {re.sub(r"__0([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), name): name for name in found}
