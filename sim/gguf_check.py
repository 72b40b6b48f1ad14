"""GGUF matrices through the dequantising core's RTL, from the weights of the file, against the golden model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitkiln.host.dequant import order_results
from bitkiln.host.gguf import collect, piece_activations, piece_stream
from bitkiln.hw.dequant.core import DequantCore
from bitkiln.hw.dequant.results import output_layout
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.layouts_blocks import BlockLayout
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Special
from bitkiln.models.golden.dequant import dequant_matmul
from bitkiln.models.workloads.gguf_core import GgufMatrix, Piece, activation_units, piece_results

from .bitserial_check import bits_of, pack_bits
from .dequant_check import bus_words, job_word
from .streams import StreamModel

__all__ = ["GgufProduct", "hard_activations", "hard_blocks"]

BYTES = 1 << 24     # of weights in one run
# Half-precision codes of d, dmin and m: zeros, least and greatest subnormal numbers, least normal, usual, greatest.
HALVES = (0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x3555, 0xB8F6, 0x7BFF, 0xFBFF)


def hard_blocks(layout: BlockLayout, count: int, rng: np.random.Generator,
                halves: Sequence[int] = HALVES) -> np.ndarray:
    """Blocks of random bits, and such of all zeros and all ones; half-precision numbers are some of ``halves``.

    Returns
    -------
    uint8 ndarray (count, bytes of a block)
    """
    data = rng.integers(0, 256, (count, layout.bytes), dtype=np.uint8)
    data[rng.random(count) < 0.1] = 0
    data[rng.random(count) < 0.1] = 255
    for name in sorted({"d", "dmin", "m"} & layout.fields.keys()):
        at = layout.fields[name][0].bits[0] // 8
        data[:, at:at + 2] = rng.choice(np.array(halves, "<u2"), (count, 1)).view(np.uint8)
    return data


def hard_activations(design: DequantDesign, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Finite activation codes: any of them, a third of them of one sign and the greatest exponent, some zero."""
    fmt = design.array.activation
    codes = np.arange(1 << fmt.bits)
    finite = codes[fmt.unpack(codes).special == Special.NONE]
    value = fmt.decode(finite)
    large = finite[value >= value.max() / 2]
    pick = rng.random(shape)
    some = np.where(pick < 0.3, rng.choice(large, shape), rng.choice(finite, shape))
    return np.where(pick > 0.95, int(fmt.encode(np.zeros(1))[0]), some).astype(np.int64)


@dataclass
class GgufProduct:
    """Products of GGUF matrices, as jobs of the simulated core.

    Attributes
    ----------
    results, cycles, products, bytes, jobs : int
        Results of the core that were compared with the golden model, all equal; clock cycles from the first word of
        the first job of a run to its last result; products of the network; bytes of the weight streams; jobs.
    stalls, starved : int
        The core's own counters.
    """

    design: DequantDesign
    model: StreamModel
    results: int = 0
    cycles: int = 0
    products: int = 0
    bytes: int = 0
    jobs: int = 0
    stalls: int = 0
    starved: int = 0

    @classmethod
    def of(cls, design: DequantDesign) -> GgufProduct:
        """With a model of its own."""
        return cls(design, StreamModel(DequantCore(design)))

    def reset(self) -> None:
        """All counts to zero."""
        self.results = self.cycles = self.products = self.bytes = self.jobs = self.stalls = self.starved = 0

    def matmul(self, matrix: GgufMatrix, activations: np.ndarray, name: str = "product", *,
               stalls: dict[str, float] | None = None, seed: int = 0) -> np.ndarray:
        """What `workloads.gguf_core.matmul` returns, float64 (M, N), from the RTL's results.

        Parameters
        ----------
        activations : ndarray (M, K)
            Codes; M may exceed the array's rows. Where some are NaN or infinite the golden model of the core is
            compared with, job by job, which is slow.

        Raises
        ------
        BitkilnError
            Exit code 1 where a result differs.
        """
        rows = self.design.array.rows
        fmt = self.design.array.activation
        units = None if np.any(fmt.unpack(activations).special) else activation_units(matrix, activations)
        streams: dict[Piece, np.ndarray] = {piece: piece_stream(matrix, piece) for piece in matrix.pieces}
        out = np.empty((len(activations), matrix.shape[0]))
        for start in range(0, len(activations), rows):
            tile = slice(start, min(start + rows, len(activations)))
            found: list[np.ndarray] = []
            some: list[Piece] = []
            for piece in matrix.pieces:
                some.append(piece)
                if piece is matrix.pieces[-1] or sum(len(streams[p]) for p in some) >= BYTES:
                    found += self._run(matrix, some, [streams[p] for p in some], activations[tile], stalls, seed)
                    some = []
            for piece, codes in zip(matrix.pieces, found, strict=True):
                self._compare(matrix, piece, codes, activations[tile], None if units is None else units[tile], name)
            out[tile] = collect(matrix, tile.stop - start, found)
        self.products += out.size * matrix.shape[1]
        return out

    def _run(self, matrix: GgufMatrix, pieces: list[Piece], streams: list[np.ndarray], activations: np.ndarray,
             stalls: dict[str, float] | None, seed: int) -> list[np.ndarray]:
        """Results of some jobs back to back, float32 codes."""
        jobs = [matrix.job(piece, len(activations)) for piece in pieces]
        chunks = [piece_activations(matrix, piece, activations) for piece in pieces]
        last = np.concatenate([np.arange(len(c)) == len(c) - 1 for c in chunks])
        inputs = {"job": np.array([job_word(self.design, job) for job in jobs], np.uint64),
                  "weight": bus_words(self.design, np.concatenate(streams)),
                  "activation": pack_bits([(np.concatenate(chunks), self.design.array.activation.bits), (last, 1)])}
        sizes = [job.rows * job.channels for job in jobs]
        run = self.model.run(inputs, {"o": sum(sizes)}, stalls=stalls or {}, seed=seed).check()
        if run.ports["mismatch"]:
            raise BitkilnError("activations were not as many as the jobs need", where=self.design.name,
                               got="mismatch 1", expected="0", exit_code=FAILED)
        self.cycles += int(run.cycles["o"][-1]) + 1
        self.stalls += run.ports["stalls"]
        self.starved += run.ports["starved"]
        self.jobs += len(jobs)
        self.bytes += sum(len(s) for s in streams)
        layout = output_layout(self.design)
        codes = bits_of(run.outputs["o"], layout["value"].offset, 32).astype(np.uint32)
        return np.split(codes, np.cumsum(sizes)[:-1])

    def _compare(self, matrix: GgufMatrix, piece: Piece, codes: np.ndarray, activations: np.ndarray,
                 units: np.ndarray | None, name: str) -> None:
        job = matrix.job(piece, len(activations))
        if units is None:
            wanted = dequant_matmul(self.design, job, activations[:, matrix.part(piece)], matrix.weights(piece))
        else:
            wanted = piece_results(matrix, piece, units[:, matrix.part(piece)]).view(np.uint32)
        found = order_results(self.design, job, codes)
        bad = np.argwhere(found != wanted)
        if len(bad):
            r, c = (int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{name} block {piece.block} [{r}, {c}]",
                               got=f"{found[r, c]:#x} ({len(bad)} of {found.size} differ)",
                               expected=f"{wanted[r, c]:#x}", exit_code=FAILED)
        self.results += found.size
