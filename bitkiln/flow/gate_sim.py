"""Gate-level simulation compiled from a library's functions: 64 independent streams in a word, all words at once.

Zero delay: after each clock edge the settled value of every net. Unit delay: the transitions on the way from one
settled state to the next when every gate takes one step, hazards included; nothing is filtered, so it is an upper
bound of what gates with inertia do.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..models.cost.energy.liberty import Library
from ..models.errors import FAILED, BitkilnError
from .gate_compile import ONES, flip_flops, gate_groups, levelise
from .gates import ONE, GateNetlist

__all__ = ["GateSimulator", "pack_bits", "unpack_bits"]

WORD = 64
BLOCK_WORDS = 1 << 21                 # words of net values held at once in unit-delay mode


def pack_bits(codes: np.ndarray, width: int) -> np.ndarray:
    """Bits of codes as packed words.

    Parameters
    ----------
    codes : integer ndarray (cycles, streams) or (cycles, streams, lanes)
        ``streams`` is a multiple of 64. Lane 0 is least significant.
    width : int
        Bits of a code.

    Returns
    -------
    uint64 ndarray (cycles, bits, streams / 64)
    """
    codes = np.asarray(codes)
    if codes.ndim == 2:
        codes = codes[..., None]
    if codes.ndim != 3 or codes.shape[1] % WORD or not codes.shape[1]:
        raise BitkilnError("wrong shape", where="streams", got=codes.shape,
                           expected="(cycles, streams, lanes) with a multiple of 64 streams")
    cycles, streams = codes.shape[:2]
    bits = ((codes[..., None] >> np.arange(width)) & 1).astype(np.uint8)          # a new last axis
    rows = bits.transpose(0, 2, 3, 1).reshape(cycles, -1, streams)
    return np.packbits(rows, axis=-1, bitorder="little").view(np.uint64)


def unpack_bits(words: np.ndarray) -> np.ndarray:
    """Unsigned integers (cycles, streams) of packed words (cycles, bits, words); objects beyond 63 bits."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    bits = np.unpackbits(raw, axis=-1, bitorder="little")                # (cycles, bits, streams)
    kind = np.int64 if bits.shape[1] < WORD else object
    weights = np.array([1 << at for at in range(bits.shape[1])], dtype=kind)
    return np.tensordot(weights, bits.astype(kind), axes=(0, 1))


class GateSimulator:
    """A netlist ready to run.

    Parameters
    ----------
    netlist : GateNetlist
    library : Library
    clock : str
        Clock port. Every flip-flop is clocked by its rising edge.

    Raises
    ------
    BitkilnError
        Latches, derived or falling clocks, asynchronous set or reset that is not tied off, loops, cells without a
        function.
    """

    def __init__(self, netlist: GateNetlist, library: Library, clock: str = "clk"):
        self.netlist, self.library, self.clock = netlist, library, clock
        self.clock_net = netlist.inputs[clock][0] if clock in netlist.inputs else None
        cells = [(library.cell(kind), pins) for kind, pins in netlist.cells]
        self.flip_flops = flip_flops(netlist, library, self.clock_net,
                                     [item for item in cells if item[0].sequential is not None])
        self.states = sum(len(group.state) for group in self.flip_flops)
        combinational = [item for item in cells if item[0].sequential is None]
        self.levels = levelise(netlist, combinational)
        self.gates = gate_groups(netlist, combinational, self.levels)
        self.depth = max((int(group.level[-1]) for group in self.gates), default=0)
        self._by_level = [[(group, slice(*np.searchsorted(group.level, (level, level + 1)))) for group in self.gates
                           if level in group.level] for level in range(1, self.depth + 1)]

    def run(self, stimulus: Mapping[str, np.ndarray]) -> np.ndarray:
        """Settled values of all nets, zero delay.

        Parameters
        ----------
        stimulus : mapping
            Input port (all but the clock) to packed words (cycles, bits, words): what it shows after each edge.

        Returns
        -------
        uint64 ndarray (cycles, nets, words)
            Row ``t`` is settled after edge ``t``, at which flip-flops took what row ``t - 1`` gave them; they start
            as zeros.
        """
        ports = {name: nets for name, nets in self.netlist.inputs.items() if name != self.clock}
        if set(stimulus) != set(ports):
            raise BitkilnError("wrong ports", where=self.netlist.name, got=", ".join(sorted(stimulus)),
                               expected=", ".join(sorted(ports)))
        shapes = {(words.shape[0], words.shape[2]) for words in stimulus.values()}
        if len(shapes) != 1 or any(stimulus[name].shape[1] != len(nets) for name, nets in ports.items()):
            raise BitkilnError("wrong shape", where=self.netlist.name,
                               got=", ".join(f"{name} {words.shape}" for name, words in stimulus.items()),
                               expected="(cycles, bits, words) alike, bits as the ports")
        (cycles, words), = shapes
        history = np.zeros((cycles, self.netlist.nets, words), np.uint64)
        history[:, ONE] = ONES
        states = np.zeros((self.states, words), np.uint64)
        for cycle in range(cycles):
            values = history[cycle]
            if cycle:
                states = self._edge(history[cycle - 1], states)
            self._show(values, states)
            for name, nets in ports.items():
                values[nets] = stimulus[name][cycle]
            self._settle(values)
        return history

    def _edge(self, values: np.ndarray, states: np.ndarray) -> np.ndarray:
        return np.concatenate([group.next(values, states) for group in self.flip_flops]) if self.flip_flops else states

    def _show(self, values: np.ndarray, states: np.ndarray) -> None:
        for group in self.flip_flops:
            for nets, complement in group.outputs:
                used = nets >= 0
                own = states[group.state[used]]
                values[nets[used]] = own ^ ONES if complement else own

    def _settle(self, values: np.ndarray) -> None:
        for level in self._by_level:
            for group, part in level:
                values[group.out[part]] = group.evaluate(values, part)

    def transitions(self, history: np.ndarray) -> np.ndarray:
        """Transitions of every net between the settled states of ``history``, unit delay.

        Returns
        -------
        int64 ndarray (nets,)
            Sums over streams and over the ``cycles - 1`` edges. Ports and flip-flops change together at each edge.
        """
        cycles, nets, words = history.shape
        total = np.zeros(nets, np.int64)
        sources = np.ones(nets, bool)
        sources[[net for group in self.gates for net in group.out]] = False
        step = max(1, BLOCK_WORDS // (nets * words))
        for start in range(0, cycles - 1, step):
            stop = min(start + step, cycles - 1)
            values = np.ascontiguousarray(history[start:stop].transpose(1, 0, 2)).reshape(nets, -1)
            final = np.ascontiguousarray(history[start + 1:stop + 1].transpose(1, 0, 2)).reshape(nets, -1)
            total[sources] += np.bitwise_count(values[sources] ^ final[sources]).sum(axis=1, dtype=np.int64)
            values[sources] = final[sources]
            self._waves(values, total)
            if not np.array_equal(values, final):
                raise BitkilnError("unit-delay simulation settled elsewhere", where=self.netlist.name,
                                   exit_code=FAILED)
        return total

    def _waves(self, values: np.ndarray, total: np.ndarray) -> None:
        """Steps until everything is settled: a gate of level n can change in the first n steps."""
        for step in range(1, self.depth + 1):
            changed = []
            for group in self.gates:
                part = slice(int(np.searchsorted(group.level, step)), None)
                if part.start < len(group.out):
                    changed.append((group.out[part], group.evaluate(values, part)))
            for out, new in changed:
                total[out] += np.bitwise_count(values[out] ^ new).sum(axis=1, dtype=np.int64)
                values[out] = new
