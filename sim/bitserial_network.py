"""Whole matrix products through the bit-serial array's RTL, in tiles, against the golden model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bitkiln.hw.dequant.array import BitSerialArray
from bitkiln.models.cost.cycles.bitserial import event_cycles
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.bitserial import GroupStream
from bitkiln.models.workloads.bitserial import EngineMatrix, matmul

from .bitserial_check import pack_stream, unpack_results
from .streams import StreamModel

__all__ = ["RtlProduct"]

ELEMENTS = 1 << 21     # activations of one run


@dataclass
class RtlProduct:
    """Products of matrices with rows of activations, computed by the simulated array.

    Every result is compared with the golden model's, and the cycles with the event model's.

    Attributes
    ----------
    results, cycles, weights : int
        Compared; clock cycles; products of the network (padding not counted).
    """

    model: StreamModel
    results: int = 0
    cycles: int = 0
    products: int = 0
    first: bool = field(default=True)

    @classmethod
    def of(cls, design) -> RtlProduct:
        return cls(StreamModel(BitSerialArray(design)))

    def matmul(self, matrix: EngineMatrix, activations: np.ndarray, name: str = "product") -> np.ndarray:
        """What `workloads.bitserial.matmul` returns, from the RTL.

        Raises
        ------
        BitkilnError
            Exit code 1 where a result or a cycle differs.
        """
        design = matrix.design
        wanted = matmul(matrix, activations)
        count, channels = len(activations), matrix.shape[0]
        row_tiles = np.arange(-(-count // design.rows) * design.rows).reshape(-1, design.rows)
        column_tiles = np.arange(-(-channels // design.columns) * design.columns).reshape(-1, design.columns)
        pairs = [(np.where(r < count, r, -1), np.where(c < channels, c, -1)) for r in row_tiles for c in column_tiles]
        found = np.zeros(wanted.shape, np.float32)
        size = max(1, ELEMENTS // (matrix.shape[1] * max(design.rows, design.columns)))
        for start in range(0, len(pairs), size):
            some = pairs[start:start + size]
            values = self._run(design, _join([matrix.tile(activations, r, c) for r, c in some]), name)
            values = values.reshape(len(some), -1, design.rows, design.columns)
            for (rows, columns), block in zip(some, values, strict=True):
                for r, row in enumerate(rows):
                    for c, column in enumerate(columns):
                        if row >= 0 and column >= 0:
                            found[row, column] = block[:, r, c] if wanted.ndim == 3 else block[0, r, c]
        bad = np.argwhere(found.view(np.uint32) != wanted.view(np.uint32))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{name}{list(at)}", got=str(found[at]),
                               expected=str(wanted[at]), help=f"{len(bad)} of {found.size} differ", exit_code=FAILED)
        self.results += found.size
        self.products += count * channels * matrix.shape[1]
        return found

    def _run(self, design, stream: GroupStream, name: str) -> np.ndarray:
        words = pack_stream(design, stream)
        emits = int((words.emit if design.sums_channel else words.last).sum())
        inputs = {"w": words.w, "a": words.a}
        if "special" in self.model.inputs:
            inputs["special"] = np.zeros(0, np.uint64)
        run = self.model.run(inputs, {"o": emits * design.rows}).check()
        _, ends, _ = event_cycles(design, words.steps, words.last, words.emit)
        seen = run.cycles["o"].astype(np.int64)
        if (seen != ends).any():
            at = int(np.flatnonzero(seen != ends)[0])
            raise BitkilnError("RTL and event model differ", where=f"{name} result {at}", got=f"cycle {seen[at]}",
                               expected=str(ends[at]), exit_code=FAILED)
        self.cycles += int(ends[-1]) + 1
        return unpack_results(design, run.outputs["o"])["fp32"].view(np.float32)


def _join(streams: list[GroupStream]) -> GroupStream:
    """Streams one after the other."""
    def join(name: str) -> np.ndarray:
        return np.concatenate([getattr(s, name) for s in streams], axis=-1)

    return GroupStream(*(join(name) for name in ("activations", "codes", "lengths", "types", "special", "scale",
                                                 "scale_negative", "zero", "emit")))
