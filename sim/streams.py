"""Components with valid/ready streams, driven by whole arrays under random stalls, millions of cycles a second.

A component is verilated and compiled, once, into a shared library with a C++ host side that offers the items of
every input stream, takes what every output stream gives, and watches the handshakes:

>>> model = StreamModel(StreamDotUnit(design))
>>> run = model.run({"i": beats}, {"o": len(results)}, stalls={"i": 0.3, "o": 0.5}, seed=1).check()
>>> (run.outputs["o"] == results).all(), run.cycles["o"]         # payloads in order, and the cycle of each transfer

A stream is any ``<name>__valid`` and ``<name>__ready`` with a ``<name>__payload``, which `bitkiln.hw.emit` makes one
packed port: the first field of a `StructLayout` is in the least significant bits. A payload of no bits has no port.
Every other port is plain: inputs are held for a run, outputs are read at its end and, on request, at each transfer
of a stream.

One cycle: the host drives valid, payload and ready; the logic settles; transfers, watches and samples see that
state; the clock rises. Cycle 0 is the first of a run. An item that a component of latency 1 takes in cycle ``n`` can
be given away in cycle ``n + 1``.

How the host behaves:

- An item is offered after a random gap (each cycle without an offer is one more with the stream's stall probability;
  back to back at 0), and stays, unchanged, until it is taken. Without an offer the payload is noise.
- An output's ready is low with its stall probability, each cycle anew, whatever its valid is. At 1 it is never high.
- A reset (``reset_at``) takes one cycle in which valid and ready of the host are low, so nothing is transferred.
  Offers are withdrawn, and what an output offered is forgotten. The input streams then go on with the first item
  that was not taken: items inside the component are lost, items outside are not.
- A run ends when every item is taken, every expected output has come and every reset has passed, and ``drain``
  further cycles, in which no output waited, have passed: surplus outputs are found, and returned.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitkiln.hw.emit import Port
from bitkiln.models.errors import FAILED, BitkilnError

from . import batch, verilate
from .batch import ARGUMENTS, _codes, _container, _cpp_names, _known, _shape, to_ints
from .cache import cached, digest

__all__ = ["StreamModel", "StreamRun", "build_streams"]

SEPARATOR = "__"
TIMEOUT = 10_000
LIMIT = 20_000_000
DRAIN = 64
FINISHED, IDLE, TOO_LONG = range(3)
NOT_AWAITED = (1 << 64) - 1
# In the order of enum Kind in ENTRY.
VIOLATIONS = ("{0} withdrew valid before it was taken", "{0} changed its payload before it was taken",
              "{0}.valid depends on {0}.ready in the same cycle", "{0}.payload depends on {0}.ready in the same cycle")


@dataclass(frozen=True)
class StreamRun:
    """What happened in one run.

    Attributes
    ----------
    outputs : dict of str to ndarray
        Payloads of each output stream in order: ``(n,)`` uint64, int64 where the payload is signed,
        ``(n, words)`` uint32 (see `to_ints`) where it is wider than 64 bits.
    cycles : dict of str to ndarray
        For every stream, inputs too, the cycle of each transfer (uint64).
    total : int
        Cycles of the run, with the final ones that only drain.
    violation : str or None
        The first breach of the handshake by the component: an output that withdrew valid or changed its payload
        before it was taken, or whose valid or payload follows its ready combinationally.
    violations : int
        How many there were.
    ports : dict of str to int
        Plain outputs after the last clock edge, with valid and ready of the host low.
    samples : dict of str to dict of str to ndarray
        ``samples[stream][port][n]``: the plain output in the cycle of the stream's transfer ``n``.
    surplus : dict of str to int
        Outputs beyond what was expected, where there are any.
    deadlock : str or None
        Which streams still wait (only with ``partial=True``, else such a run raises).
    """

    outputs: dict[str, np.ndarray]
    cycles: dict[str, np.ndarray]
    total: int
    violation: str | None
    violations: int
    ports: dict[str, int]
    samples: dict[str, dict[str, np.ndarray]]
    surplus: dict[str, int]
    deadlock: str | None
    top: str

    def check(self) -> StreamRun:
        """Itself; raises BitkilnError (exit code 1) after a protocol violation or where outputs are surplus."""
        if self.violation:
            raise BitkilnError("broken protocol", where=self.top, got=self.violation,
                               expected="what is offered stays until it is taken",
                               help=f"{self.violations} in {self.total} cycles", exit_code=FAILED)
        if self.surplus:
            raise BitkilnError("surplus outputs", where=self.top, expected="none",
                               got=", ".join(f"{name} {count}" for name, count in self.surplus.items()),
                               exit_code=FAILED)
        return self


class StreamModel:
    """A component whose streams are arrays.

    Parameters
    ----------
    component : wiring.Component
        With at least one stream among its ports, and at most one clock.

    Attributes
    ----------
    top : str
        Module name.
    inputs, outputs : dict of str to Port
        Streams by name, each with the port of its payload (width 0: a stream without payload).
    plain_inputs, plain_outputs : dict of str to Port
        The other ports, without clock and reset.
    reset : str or None
        The synchronous reset, low except in the cycles of ``reset_at``.
    """

    def __init__(self, component):
        prepared, text = verilate.verilog_text(component)
        self._setup(text, prepared.top, prepared.ports, prepared.clocks, prepared.resets)

    @classmethod
    def from_verilog(cls, text: str, top: str, ports: Iterable[Port], *, clock: str = "clk",
                     reset: str = "rst") -> StreamModel:
        """A model of a Verilog text, e.g. a netlist or a mutant.

        Parameters
        ----------
        text : str
            Every module that ``top`` needs.
        top : str
            Module to simulate.
        ports : iterable of Port
            Its ports.
        clock, reset : str
            Names of the clock and of the synchronous, active high reset, where ``ports`` has them.
        """
        model = cls.__new__(cls)
        ports = tuple(ports)
        names = {port.name for port in ports}
        model._setup(text, top, ports, tuple({clock} & names), tuple({reset} & names))
        return model

    def _setup(self, text: str, top: str, ports: Sequence[Port], clocks: Sequence[str], resets: Sequence[str]) -> None:
        self._handle = None
        for what, names in (("clocks", clocks), ("resets", resets)):
            if len(names) > 1:
                raise BitkilnError(f"several {what}", where=top, got=", ".join(names),
                                   expected="at most one clock domain")
        self.top = top
        self.clock = clocks[0] if clocks else None
        self.reset = resets[0] if resets else None
        rest = {port.name: port for port in ports if port.name not in (self.clock, self.reset)}
        self.inputs, self.outputs = _take_streams(rest, top)
        rest = {name: port for name, port in rest.items() if port.width}  # Verilog has no others
        self.plain_inputs = {name: port for name, port in rest.items() if port.direction == "input"}
        self.plain_outputs = {name: port for name, port in rest.items() if port.direction == "output"}
        self._streams = (*self.inputs, *self.outputs)
        self._library = _load(self._build(text))

    def __del__(self):
        self._free()

    def __repr__(self) -> str:
        return f"StreamModel({self.top})"

    def run(self, inputs: Mapping[str, np.ndarray] | None = None, expect: Mapping[str, int] | None = None, *,
            stalls: float | Mapping[str, float] = 0.0, seed: int = 0, held: Mapping[str, int] | None = None,
            sample: Mapping[str, Sequence[str]] | None = None, reset_at: Iterable[int] = (), timeout: int = TIMEOUT,
            limit: int = LIMIT, drain: int = DRAIN, resume: bool = False, partial: bool = False) -> StreamRun:
        """Push arrays through the component.

        Parameters
        ----------
        inputs : mapping of str to integer array
            Items of each input stream; a stream without any stays idle. Shapes and ranges are those of
            `BatchModel.run`: ``(n,)`` up to 64 bits, ``(n, words)`` uint32 above (`from_ints`). A stream without
            payload takes the number of its items.
        expect : mapping of str to int, optional
            How many transfers of each output stream to wait for. Streams that are not named are not waited for.
            Without ``expect`` the run ends ``drain`` cycles after the last transfer.
        stalls : float or mapping of str to float
            Probability, 0 to 1, that a stream holds still in a cycle; 0 for those not named.
        seed : int
            Of the stalls and the noise. The stalls of one stream do not depend on the other streams.
        held : mapping of str to int
            Plain inputs. All of them, but in a resumed run those that are missing keep their value.
        sample : mapping of str to sequence of str
            Plain outputs to sample at each transfer of a stream.
        reset_at : iterable of int
            Cycles in which the reset is high.
        timeout : int
            limit : int
            Cycles after which the run is given up in any case.
        drain : int
            Cycles to go on after the last event that the run waits for; those in which an output waits for the host do
            not count.
        resume : bool
            Go on from the state the last run left, instead of the power-up state. Its cycles count from 0 again.
            After a partial run, an item that was offered stays so: give the items that were not taken again.
        partial : bool
            Return what happened instead of raising the error of a deadlock; the report is in `StreamRun.deadlock`.

        Returns
        -------
        StreamRun

        Raises
        ------
        BitkilnError
            Exit code 2: unknown stream or port, items outside the payload. Exit code 1: deadlock, or longer than
            ``limit``, with the streams that still wait.
        """
        inputs, goals, held, sample = dict(inputs or {}), dict(expect or {}), dict(held or {}), dict(sample or {})
        _known(inputs, self.inputs, self.top, "input stream")
        _known(goals, self.outputs, self.top, "output stream")
        _known(held, self.plain_inputs, self.top, "plain input")
        _known(sample, {**self.inputs, **self.outputs}, self.top, "stream")
        for names in sample.values():
            _known(names, self.plain_outputs, self.top, "plain output")
        for name, value in (("timeout", timeout), ("limit", limit), ("drain", drain)):
            _in_range(value, name, 1 if name != "drain" else 0)
        goals = {name: _in_range(count, f"expect.{name}") for name, count in goals.items()}
        resets = sorted({_in_range(cycle, "reset_at") for cycle in reset_at})
        if resets and self.reset is None:
            raise BitkilnError("no reset", where=f"{self.top}.reset_at", expected="a component with a reset port")
        probabilities = self._probabilities(stalls)
        resumed = resume and self._handle is not None
        missing = [name for name in self.plain_inputs if name not in held]
        if missing and not resumed:
            raise BitkilnError("missing input", where=f"{self.top}.{missing[0]}",
                               expected="a number for each plain input, in held")

        items = {name: self._items(name, inputs[name]) for name in inputs}
        values = {name: _codes(int(value), self.plain_inputs[name], f"{self.top}.{name}")[0]
                  for name, value in held.items()}
        request = _Request(
            items=_pointers([items[name][1] if name in items else None for name in self.inputs]),
            goals=_numbers([*(items[name][0] if name in items else 0 for name in self.inputs),
                            *(goals.get(name, NOT_AWAITED) for name in self.outputs)]),
            stalls=_numbers([round(probabilities[name] * 2 ** 32) for name in self._streams]),
            held=_pointers([values.get(name) for name in self.plain_inputs]),
            sampled=_numbers([port in sample.get(name, ()) for name in self._streams for port in self.plain_outputs]),
            resets=_numbers(resets), reset_count=len(resets), seed=seed & NOT_AWAITED, timeout=timeout, limit=limit,
            drain=drain, quiet=expect is None)
        if not resumed:
            self._free()
            self._handle = self._library.stream_new()
        answer = _Answer()
        self._library.stream_run(self._handle, ctypes.byref(request), ctypes.byref(answer))

        cycles = {name: self._cycles(at) for at, name in enumerate(self._streams)}
        found = {name: len(each) for name, each in cycles.items()}
        wanted = {name: goals.get(name) if name in self.outputs else items[name][0] if name in items else 0
                  for name in self._streams}
        report = None
        if answer.status != FINISHED:
            report = self._report(answer, found, wanted, quiet=expect is None)
            if not partial:
                raise BitkilnError("deadlock" if answer.status == IDLE else "too long a run", where=self.top,
                                   got=f"{_transfers(found)} after {answer.cycles} cycles",
                                   expected=f"a transfer within {timeout} cycles" if answer.status == IDLE
                                   else f"an end within {limit} cycles (limit=)", help=report, exit_code=FAILED)
        return StreamRun(
            outputs={name: self._payloads(len(self.inputs) + at, name) for at, name in enumerate(self.outputs)},
            cycles=cycles, total=answer.cycles,
            violation=self._violation(answer), violations=answer.violations,
            ports={name: self._port(at, port) for at, (name, port) in enumerate(self.plain_outputs.items())},
            samples={name: {port: self._samples(name, port) for port in ports} for name, ports in sample.items()},
            surplus={name: found[name] - goals[name] for name in goals if found[name] > goals[name]},
            deadlock=report, top=self.top)

    def _probabilities(self, stalls: float | Mapping[str, float]) -> dict[str, float]:
        if not isinstance(stalls, Mapping):
            stalls = dict.fromkeys(self._streams, stalls)
        _known(stalls, {**self.inputs, **self.outputs}, self.top, "stream")
        for name, probability in stalls.items():
            if not 0 <= probability <= 1:
                raise BitkilnError("out of range", where=f"stalls.{name}", got=probability, expected="0 to 1")
        return {name: float(stalls.get(name, 0)) for name in self._streams}

    def _items(self, name: str, value) -> tuple[int, np.ndarray | None]:
        """How many items, and the array in Verilator's container type."""
        port, where = self.inputs[name], f"{self.top}.{name}"
        if port.width == 0:
            if isinstance(value, (int, np.integer)):
                return _in_range(int(value), where), None
            return len(value), None
        if np.ndim(value) == 0:
            raise BitkilnError("wrong array", where=where, got=value, expected="one value per item")
        if len(value) == 0:
            return 0, None
        array = _codes(np.asarray(value), port, where)[0]
        return len(array), array

    def _cycles(self, stream: int) -> np.ndarray:
        found = np.empty(self._library.stream_count(self._handle, stream), np.uint64)
        self._library.stream_cycles(self._handle, stream, found.ctypes.data)
        return found

    def _payloads(self, stream: int, name: str) -> np.ndarray:
        raw = _raw(self.outputs[name].width, self._library.stream_count(self._handle, stream))
        self._library.stream_items(self._handle, stream, raw.ctypes.data)
        return _numbers_of(raw, self.outputs[name])

    def _samples(self, stream: str, port: str) -> np.ndarray:
        at, index = self._streams.index(stream), list(self.plain_outputs).index(port)
        raw = _raw(self.plain_outputs[port].width, self._library.stream_count(self._handle, at))
        self._library.stream_samples(self._handle, index, at, raw.ctypes.data)
        return _numbers_of(raw, self.plain_outputs[port])

    def _port(self, at: int, port: Port) -> int:
        raw = _raw(port.width, 1)
        self._library.stream_port(self._handle, at, raw.ctypes.data)
        return int(to_ints(_numbers_of(raw, port), port.width, port.signed)[0])

    def _violation(self, answer: _Answer) -> str | None:
        if not answer.violations:
            return None
        return f"cycle {answer.first_cycle}: {VIOLATIONS[answer.first_kind].format(self._streams[answer.first_stream])}"

    def _report(self, answer: _Answer, found: Mapping[str, int], wanted: Mapping[str, int | None], *,
                quiet: bool) -> str:
        """One line: the streams that still wait, with their handshake in the last cycle."""
        waiting = []
        for at, name in enumerate(self._streams):
            goal, is_input = wanted[name], name in self.inputs
            pins = self._library.stream_pins(self._handle, at)
            valid, ready = bool(pins & 2), bool(pins & 1)
            state = f"valid {'high' if valid else 'low'}, ready {'high' if ready else 'low'}"
            if goal is not None and found[name] < goal:
                waiting.append(f"{'input' if is_input else 'output'} {name}: {found[name]} of {goal} "
                               f"{'taken' if is_input else 'seen'} ({state})")
            elif not is_input and goal is None and valid and not ready:
                waiting.append(f"output {name}: {found[name]} seen, one waits ({state})")
        text = "; ".join(waiting) or ("outputs without end" if quiet else "nothing")
        return f"waiting: {text}"

    def _free(self) -> None:
        if getattr(self, "_handle", None):
            self._library.stream_free(self._handle)
            self._handle = None

    def _build(self, text: str) -> Path:
        verilator, cxx = verilate.simulation_tools()
        parts = (self.inputs, self.outputs, self.plain_inputs, self.plain_outputs, self.clock, self.reset)
        key = digest(text, self.top, parts, ARGUMENTS, verilate.OPTIMISE, Path(__file__).read_bytes(),
                     Path(batch.__file__).read_bytes(), verilator.identity, cxx.identity)

        def build(folder: Path) -> None:
            sources = verilate.verilate(text, self.top, folder, ARGUMENTS, verilator=verilator)
            entry = folder / "entry.cpp"
            entry.write_text(self._entry(_cpp_names((folder / "Vtop.h").read_text())))
            verilate.compile_sources([*sources, entry], folder / "model.so", verilator=verilator, cxx=cxx,
                                     where=self.top, shared=True)
            for path in folder.iterdir():
                if path.suffix not in (".so", ".v"):
                    path.unlink()

        return cached("streams", key, build) / "model.so"

    def _entry(self, names: Mapping[str, str]) -> str:
        """C++ of the host side: the members of the model, and macros that walk over them."""
        def port(name: str) -> str:
            if name not in names:
                raise BitkilnError("no such port", where="Verilog module", got=name, expected=", ".join(names))
            return f"top.{names[name]}"

        members, walks = [], []
        kinds = ((self.inputs, "Input", "in", True), (self.outputs, "Output", "out", True),
                 (self.plain_inputs, "Held", "held", False), (self.plain_outputs, "Plain", "plain", False))
        for ports, kind, short, is_stream in kinds:
            for at, (name, one) in enumerate(ports.items()):
                pins = [f"&{port(one.name)}" if one.width else "&nothing"]
                if is_stream:
                    pins += [port(f"{name}{SEPARATOR}valid"), port(f"{name}{SEPARATOR}ready")]
                members.append(f"    {kind}<{_cpp_type(one.width)}, {one.width}> {short}{at}{{{', '.join(pins)}}};")
            walks.append(f"#define EACH_{kind.upper()}(X) " + " ".join(f"X({short}{at})" for at in range(len(ports))))
        clock = f"{port(self.clock)} = level" if self.clock else "(void)(level)"
        reset = f"{port(self.reset)} = level" if self.reset else "(void)(level)"
        text = ENTRY
        for mark, filled in (("MEMBERS", "\n".join(members)), ("WALKS", "\n".join(walks)), ("CLOCK", clock),
                             ("RESET", reset), ("CLOCKED", "true" if self.clock else "false"),
                             ("STREAMS", str(len(self._streams))), ("PLAINS", str(len(self.plain_outputs)))):
            text = text.replace(f"/*{mark}*/", filled)
        return text


def build_streams(components: Sequence) -> list[StreamModel]:
    """Models of many components, compiled side by side on all processors."""
    prepared = [verilate.prepare(component) for component in components]

    def build(one) -> StreamModel:
        model = StreamModel.__new__(StreamModel)
        model._setup(verilate.prepared_verilog(one), one.top, one.ports, one.clocks, one.resets)
        return model

    with ThreadPoolExecutor(verilate.workers()) as pool:
        return list(pool.map(build, prepared))


# Ports and values --------------------------------------------------------------------------------


def _take_streams(ports: dict[str, Port], top: str) -> tuple[dict[str, Port], dict[str, Port]]:
    """Input and output streams; their ports are taken out of ``ports``."""
    found: tuple[dict[str, Port], dict[str, Port]] = {}, {}
    for valid in list(ports.values()):
        name = valid.name.removesuffix(f"{SEPARATOR}valid")
        ready, payload = ports.get(f"{name}{SEPARATOR}ready"), f"{name}{SEPARATOR}payload"
        if name == valid.name or ready is None or ready.direction == valid.direction:
            continue
        if parts := [other for other in ports if other.startswith(f"{payload}{SEPARATOR}")]:
            raise BitkilnError("a payload of several ports", where=f"{top}.{name}", got=", ".join(parts),
                               expected="one packed port", help="use a data.StructLayout for the payload")
        one = ports.get(payload, Port(payload, valid.direction, 0))
        if (valid.width, ready.width, one.direction) != (1, 1, valid.direction):
            raise BitkilnError("not a stream", where=f"{top}.{name}",
                               expected="valid and ready of one bit, and the payload beside valid")
        found[valid.direction == "output"][name] = one
        for other in (valid.name, ready.name, payload):
            ports.pop(other, None)
    if not any(found):
        raise BitkilnError("no streams", where=top, got=", ".join(ports) or "no ports",
                           expected=f"ports named <stream>{SEPARATOR}valid, ready and payload")
    return found


def _transfers(found: Mapping[str, int]) -> str:
    """``i 3, o 2``."""
    return ", ".join(f"{name} {count}" for name, count in found.items())


def _in_range(value: int, where: str, low: int = 0) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not low <= value < 1 << 63:
        raise BitkilnError("out of range", where=where, got=value, expected=f"a whole number, {low} or more")
    return int(value)


def _raw(width: int, count: int) -> np.ndarray:
    """Uninitialised items in Verilator's container type."""
    return np.empty(_shape(width, count), _container(width))


def _numbers_of(raw: np.ndarray, port: Port) -> np.ndarray:
    if port.width > 64:
        return raw
    wide = raw.astype(np.uint64, copy=False)
    if not port.signed or port.width == 0:
        return wide
    return (wide << np.uint64(64 - port.width)).view(np.int64) >> np.int64(64 - port.width)


def _cpp_type(width: int) -> str:
    return f"uint{_container(width).itemsize * 8}_t" if width <= 64 else f"std::array<uint32_t, {(width + 31) // 32}>"


def _pointers(arrays: Sequence[np.ndarray | None]):
    return ctypes.cast((ctypes.c_void_p * max(1, len(arrays)))(
        *(None if array is None else array.ctypes.data for array in arrays)), ctypes.POINTER(ctypes.c_void_p))


def _numbers(values: Sequence[int]):
    return ctypes.cast((ctypes.c_uint64 * max(1, len(values)))(*map(int, values)), ctypes.POINTER(ctypes.c_uint64))


# The library -------------------------------------------------------------------------------------


_WORD, _WORDS = ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)


class _Request(ctypes.Structure):
    _fields_ = [("items", ctypes.POINTER(ctypes.c_void_p)), ("goals", _WORDS), ("stalls", _WORDS),
                ("held", ctypes.POINTER(ctypes.c_void_p)), ("sampled", _WORDS), ("resets", _WORDS),
                *((name, _WORD) for name in ("reset_count", "seed", "timeout", "limit", "drain", "quiet"))]


class _Answer(ctypes.Structure):
    _fields_ = [(name, _WORD) for name in ("status", "cycles", "violations", "first_cycle", "first_stream",
                                           "first_kind")]


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    model, pointer = ctypes.c_void_p, ctypes.c_void_p
    for name, result, arguments in (
            ("new", model, ()), ("free", None, (model,)), ("run", None, (model, pointer, pointer)),
            ("count", _WORD, (model, _WORD)), ("cycles", None, (model, _WORD, pointer)),
            ("items", None, (model, _WORD, pointer)), ("pins", _WORD, (model, _WORD)),
            ("port", None, (model, _WORD, pointer)), ("samples", None, (model, _WORD, _WORD, pointer))):
        function = getattr(library, f"stream_{name}")
        function.restype, function.argtypes = result, arguments
    return library


ENTRY = """\
#include "Vtop.h"
#include "Vtop__Syms.h"
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

void Vtop___024root___eval(Vtop___024root*);

/*WALKS*/
#define API extern "C" __attribute__((visibility("default")))

namespace {

enum Kind { WITHDRAWN, CHANGED, VALID_PATH, PAYLOAD_PATH };
enum Status { FINISHED, IDLE, TOO_LONG };
constexpr uint64_t NOT_AWAITED = ~uint64_t(0), ALWAYS = uint64_t(1) << 32;
constexpr uint64_t PROBED = 64, PROBE_EVERY = 32;  // cycles in which paths from ready are looked for

struct Random {
    uint64_t state = 1;
    void seed(uint64_t value, uint64_t stream) {  // splitmix64
        value += 0x9E3779B97F4A7C15ull * (stream + 1);
        value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9ull;
        value = (value ^ value >> 27) * 0x94D049BB133111EBull;
        state = (value ^ value >> 31) | 1;
    }
    uint32_t next() {  // xorshift64*, upper bits
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1Dull) >> 32);
    }
};

struct Request {
    const void* const* items;
    const uint64_t *goals, *stalls;
    const void* const* held;
    const uint64_t *sampled, *resets;
    uint64_t reset_count, seed, timeout, limit, drain, quiet;
};

struct Answer {
    uint64_t status, cycles, violations, first_cycle, first_stream, first_kind;
};

struct Stream {
    uint8_t &valid, &ready;
    uint64_t index = 0, stall = 0, goal = 0;
    Random random;
    std::vector<uint64_t> cycles;
    bool sampled = false, last_valid = false, last_ready = false;

    Stream(uint8_t& valid, uint8_t& ready) : valid(valid), ready(ready) {}
    bool go() { return !stall || random.next() >= stall; }
    uint64_t moved() const { return cycles.size(); }
    void start(uint64_t number, const Request& request) {
        index = number;
        stall = request.stalls[number];
        goal = request.goals[number];
        random.seed(request.seed, number);
        cycles.clear();
        sampled = false;
        for (uint64_t at = 0; at < /*PLAINS*/; ++at) sampled |= request.sampled[number * /*PLAINS*/ + at] != 0;
        last_valid = last_ready = false;
    }
};

template <class T, unsigned WIDTH> struct Input : Stream {
    void* payload;
    const uint8_t* items = nullptr;
    bool offered = false;
    Random noise;

    Input(void* payload, uint8_t& valid, uint8_t& ready) : Stream(valid, ready), payload(payload) {}
    void clear() {
        valid = 0;
        std::memset(payload, 0, sizeof(T));
    }
    void put() {
        if (WIDTH) std::memcpy(payload, items + moved() * sizeof(T), sizeof(T));
    }
    void begin(uint64_t number, const Request& request) {
        start(number, request);
        items = static_cast<const uint8_t*>(request.items[number]);
        noise.seed(~request.seed, number);
        offered = offered && goal;
        if (offered) put();
    }
    void scramble() {
        uint32_t words[(WIDTH + 31) / 32 + 1];
        for (unsigned at = 0; at < (WIDTH + 31) / 32; ++at) words[at] = noise.next();
        if (WIDTH % 32) words[WIDTH / 32] &= (1u << WIDTH % 32) - 1;
        if (WIDTH) std::memcpy(payload, words, sizeof(T));
    }
    void drive(bool resetting) {
        if (resetting) offered = false;
        else if (!offered && moved() < goal && go()) {
            offered = true;
            put();
        }
        valid = offered;
        if (!offered) scramble();
    }
};

template <class T, unsigned WIDTH> struct Output : Stream {
    const void* payload;
    bool held = false;  // offered and not taken in the last cycle
    T kept{};
    std::vector<T> items;

    Output(const void* payload, uint8_t& valid, uint8_t& ready) : Stream(valid, ready), payload(payload) {}
    void clear() { ready = 0; }
    T get() const {
        T value;
        std::memcpy(&value, payload, sizeof(T));
        return value;
    }
    void begin(uint64_t number, const Request& request) {
        start(number, request);
        items.clear();
    }
    void drive(bool resetting) { ready = !resetting && go(); }
};

template <class T, unsigned WIDTH> struct Held {
    void* port;
    void clear() { std::memset(port, 0, sizeof(T)); }
    void set(const void* value) { std::memcpy(port, value, sizeof(T)); }
};

template <class T, unsigned WIDTH> struct Plain {
    const void* port;
    T value{};
    std::vector<T> samples[/*STREAMS*/];
    void sample(uint64_t stream) {
        T now;
        std::memcpy(&now, port, sizeof(T));
        samples[stream].push_back(now);
    }
};

struct Model {
    VerilatedContext context;
    Vtop top{&context, "top"};
    uint8_t nothing = 0;  // the payload of streams that have none
    Random probes;
/*MEMBERS*/

    Model() {
        clock(0);
        reset(0);
#define X(s) s.clear();
        EACH_INPUT(X)
        EACH_OUTPUT(X)
        EACH_HELD(X)
#undef X
        top.eval();
    }
    void clock(uint8_t level) { /*CLOCK*/; }
    void reset(uint8_t level) { /*RESET*/; }
    void eval() { Vtop___024root___eval(top.rootp); }

    static void broken(Answer& answer, uint64_t cycle, uint64_t stream, Kind kind) {
        if (answer.violations++) return;
        answer.first_cycle = cycle;
        answer.first_stream = stream;
        answer.first_kind = kind;
    }

    void sample(const Request& request, const Stream& s) {
        uint64_t at = 0;
        (void)request; (void)s; (void)at;
#define X(p) if (request.sampled[s.index * /*PLAINS*/ + at++]) p.sample(s.index);
        EACH_PLAIN(X)
#undef X
    }

    // Whether an output's own ready decides, in the same cycle, what it offers.
    template <class O> void probe(O& s, uint64_t cycle, Answer& answer) {
        const uint8_t valid = s.valid, ready = s.ready;
        const auto payload = s.get();
        s.ready = !ready;
        eval();
        if (s.valid != valid) broken(answer, cycle, s.index, VALID_PATH);
        else if (valid && s.get() != payload) broken(answer, cycle, s.index, PAYLOAD_PATH);
        s.ready = ready;
        eval();
    }

    void run(const Request& request, Answer& answer) {
        uint64_t number = 0, left = 0, next_reset = 0, drained = 0, idle = 0, cycle = 0;
#define X(s) s.begin(number++, request); left += s.goal;
        EACH_INPUT(X)
#undef X
#define X(s) s.begin(number++, request); if (s.goal != NOT_AWAITED) left += s.goal;
        EACH_OUTPUT(X)
#undef X
        number = 0;
#define X(s) if (request.held[number]) s.set(request.held[number]); ++number;
        EACH_HELD(X)
#undef X
#define X(p) for (auto& each : p.samples) each.clear();
        EACH_PLAIN(X)
#undef X
        probes.seed(request.seed, number + 1000);
        answer = {};

        for (;; ++cycle) {
            const bool pending = next_reset < request.reset_count;
            const bool ending = !left && !pending;
            if (ending && drained >= request.drain) break;
            if (!ending && !pending && idle >= request.timeout) {
                answer.status = IDLE;
                break;
            }
            if (cycle >= request.limit) {
                answer.status = TOO_LONG;
                break;
            }
            const bool resetting = pending && request.resets[next_reset] == cycle;
            next_reset += resetting;
#define X(s) s.drive(resetting);
            EACH_INPUT(X)
            EACH_OUTPUT(X)
#undef X
            reset(resetting);
            clock(0);
            eval();

            bool moved = false, progress = false, waits = false;
            if (resetting) {
#define X(s) s.held = false;
                EACH_OUTPUT(X)
#undef X
                progress = true;
            } else {
                if (cycle < PROBED || probes.next() % PROBE_EVERY == 0) {
#define X(s) probe(s, cycle, answer);
                    EACH_OUTPUT(X)
#undef X
                }
#define X(s) s.last_valid = s.valid; s.last_ready = s.ready; \\
                if (s.valid && s.ready) { \\
                    if (s.sampled) sample(request, s); \\
                    s.cycles.push_back(cycle); \\
                    s.offered = false; \\
                    --left; \\
                    moved = progress = true; \\
                }
                EACH_INPUT(X)
#undef X
#define X(s) { \\
                    const auto payload = s.get(); \\
                    s.last_valid = s.valid; s.last_ready = s.ready; \\
                    if (s.held && !s.valid) broken(answer, cycle, s.index, WITHDRAWN); \\
                    else if (s.held && payload != s.kept) broken(answer, cycle, s.index, CHANGED); \\
                    s.held = s.valid && !s.ready; \\
                    s.kept = payload; \\
                    waits |= s.held && s.stall < ALWAYS; \\
                    if (s.valid && s.ready) { \\
                        if (s.sampled) sample(request, s); \\
                        if (s.goal == NOT_AWAITED) progress = true; \\
                        else if (s.moved() < s.goal) { --left; progress = true; } \\
                        s.items.push_back(payload); \\
                        s.cycles.push_back(cycle); \\
                        moved = true; \\
                    } \\
                }
                EACH_OUTPUT(X)
#undef X
            }
            idle = progress ? 0 : idle + 1;
            if (ending) drained = request.quiet && moved ? 0 : drained + !waits;

            if (/*CLOCKED*/) {
                clock(1);
                eval();
            }
        }
        answer.cycles = cycle;

        // Plain outputs are read with an idle host.
#define X(s) s.valid = 0;
        EACH_INPUT(X)
#undef X
#define X(s) s.ready = 0;
        EACH_OUTPUT(X)
#undef X
        reset(0);
        clock(0);
        eval();
#define X(p) std::memcpy(&p.value, p.port, sizeof p.value);
        EACH_PLAIN(X)
#undef X
    }
};

template <class V> void copy(void* to, const V& from) {
    if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof(from[0]));
}

Model& of(void* model) { return *static_cast<Model*>(model); }

}

API void* stream_new() { return new Model; }
API void stream_free(void* model) { delete static_cast<Model*>(model); }

API void stream_run(void* model, const Request* request, Answer* answer) { of(model).run(*request, *answer); }

API uint64_t stream_count(void* model, uint64_t stream) {
    Model& m = of(model);
    (void)m;
#define X(s) if (!stream--) return m.s.moved();
    EACH_INPUT(X)
    EACH_OUTPUT(X)
#undef X
    return 0;
}

API void stream_cycles(void* model, uint64_t stream, void* to) {
    Model& m = of(model);
    (void)m;
#define X(s) if (!stream--) return copy(to, m.s.cycles);
    EACH_INPUT(X)
    EACH_OUTPUT(X)
#undef X
}

API void stream_items(void* model, uint64_t stream, void* to) {
    Model& m = of(model);
    (void)m;
#define X(s) if (!stream--) return;
    EACH_INPUT(X)
#undef X
#define X(s) if (!stream--) return copy(to, m.s.items);
    EACH_OUTPUT(X)
#undef X
}

API uint64_t stream_pins(void* model, uint64_t stream) {
    Model& m = of(model);
    (void)m;
#define X(s) if (!stream--) return m.s.last_valid * 2 + m.s.last_ready;
    EACH_INPUT(X)
    EACH_OUTPUT(X)
#undef X
    return 0;
}

API void stream_port(void* model, uint64_t port, void* to) {
    Model& m = of(model);
    (void)m; (void)to;
#define X(p) if (!port--) { std::memcpy(to, &m.p.value, sizeof m.p.value); return; }
    EACH_PLAIN(X)
#undef X
}

API void stream_samples(void* model, uint64_t port, uint64_t stream, void* to) {
    Model& m = of(model);
    (void)m; (void)stream; (void)to;
#define X(p) if (!port--) return copy(to, m.p.samples[stream]);
    EACH_PLAIN(X)
#undef X
}
"""
