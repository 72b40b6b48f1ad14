"""Python driver of the dequantising core behind a link.

>>> driver = DequantDriver(transport, design)
>>> driver.run(job, activations, weights)        # codes (rows, channels)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np

from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.design.dequant_streams import link_registers, special_terms
from bitkiln.models.design.weights import SPECIALS
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.dequant import DequantWeights

from .board import PATIENCE, BoardTransport
from .dequant import activation_beats, job_beats, result_codes, special_beats, weight_stream

__all__ = ["DequantDriver"]


class DequantDriver:
    """A dequantising core behind a transport.

    Parameters
    ----------
    transport : BoardTransport
        Streams j (jobs), w (weights), a (activations), s (special values; of designs that have some), o (results).
    design : DequantDesign
        What the core was built from.
    """

    def __init__(self, transport: BoardTransport, design: DequantDesign):
        self.transport, self.design = transport, design
        self.registers = link_registers()
        self._running: deque[DequantJob] = deque()

    def status(self) -> dict[str, int]:
        """``busy``, ``mismatch``, and the counters ``stalls`` and ``starved``."""
        values = self.transport.read_many([register.offset for register in self.registers])
        return {register.name.lower(): value for register, value in zip(self.registers, values, strict=True)}

    def write_specials(self, tables: Mapping[int, Sequence[int]]) -> None:
        """Write special values, once the core has done all jobs.

        Parameters
        ----------
        tables : mapping of int to sequence of int
            For a weight type by its number at most four values, in units of the type; those left out become 0.

        Raises
        ------
        BitkilnError
            A type without special values, a value that it cannot have, results that were not collected.
        """
        array = self.design.array
        if not special_terms(array):
            raise BitkilnError("no special values", where="weights", got=", ".join(t.name for t in array.weights),
                               expected="a type with a table, as bitmod3 and bitmod4")
        if self._running:
            raise BitkilnError("results wait to be collected", where="special values", got=f"{len(self._running)} jobs",
                               expected="none")
        writes = []
        for index, values in tables.items():
            if not 0 <= index < len(array.weights) or len(values) > SPECIALS:
                raise BitkilnError("no such place in the tables", where="special values",
                                   got=f"type {index}, {len(values)} values",
                                   expected=f"types 0..{len(array.weights) - 1}, at most {SPECIALS} values each")
            writes += [(index, entry, value) for entry, value in enumerate([*values, *[0] * SPECIALS][:SPECIALS])]
        self.transport.send("s", special_beats(array, writes))
        # A job that starts would shut the table.
        now = self.transport.link.line.now
        stop = now() + PATIENCE
        while self.transport.left("s"):
            if now() > stop:
                raise BitkilnError("the core does not take special values", where="stream s", exit_code=FAILED,
                                   got=f"{self.transport.left('s')} left", expected="0",
                                   help=f"its status: {self.status()}")
            self.transport.wait()

    def submit(self, job: DequantJob, activations: np.ndarray, weights: DequantWeights) -> None:
        """Start a job; `collect` gives its results.

        Parameters
        ----------
        job : DequantJob
        activations : integer ndarray (rows, K)
            Codes.
        weights : DequantWeights
            Of all channels.
        """
        design = self.design
        job.check(design)
        activations = np.asarray(activations)
        _shape("activations", activations, (job.rows, job.k))
        _shape("weights.codes", weights.codes, (job.channels, job.k))
        for name in ("types", "special", "scale", "scale_negative", "zero"):
            _shape(f"weights.{name}", getattr(weights, name), (job.channels, len(job.lengths)))
        _shape("weights.channel_scale", weights.channel_scale, (job.channels,))
        codes = 1 << design.array.activation.bits
        if activations.size and not 0 <= int(activations.min()) <= int(activations.max()) < codes:
            raise BitkilnError("not codes", where="activations", got=f"{activations.min()}..{activations.max()}",
                               expected=f"0..{codes - 1}")
        words = weight_stream(design, job, weights).reshape(-1, design.bus_bytes)
        acts = activation_beats(design, job, activations)
        self.transport.send("j", job_beats(design, [job]))
        self.transport.send("a", acts)
        self.transport.send("w", words)
        self._running.append(job)

    def collect(self) -> np.ndarray:
        """Results of the oldest job that was not collected.

        Returns
        -------
        ndarray (rows, channels) of uint32
            Codes of the output format.

        Raises
        ------
        BitkilnError
            The core counted other activations than the job has, or its results do not come. The core has been reset
            then: jobs are forgotten, special values those of the design.
        """
        if not self._running:
            raise BitkilnError("no job to collect", where="collect", expected="a job submitted before")
        job = self._running[0]
        try:
            found = result_codes(self.design, job, self.transport.receive(job.rows * job.channels))
            if self.status()["mismatch"]:
                raise _mismatch()
        except BitkilnError as error:
            raise self._failed(error) from None
        self._running.popleft()
        return found

    def run(self, job: DequantJob, activations: np.ndarray, weights: DequantWeights) -> np.ndarray:
        """`submit`, then `collect`."""
        self.submit(job, activations, weights)
        return self.collect()

    def reset(self) -> None:
        """Reset the core and forget all jobs."""
        self.transport.reset()
        self._running.clear()

    def _failed(self, error: BitkilnError) -> BitkilnError:
        """The error, or what the core knows about it; the core begins anew."""
        with suppress(BitkilnError):      # where the board is gone, that is the error
            if self.status()["mismatch"]:
                error = _mismatch()
            self.reset()
        self._running.clear()
        return error


def _mismatch() -> BitkilnError:
    return BitkilnError("activations were not as many as the job needs", where="status", got="mismatch 1",
                        expected="0", exit_code=FAILED)


def _shape(where: str, array: np.ndarray, wanted: tuple[int, ...]) -> None:
    if array.shape != wanted:
        raise BitkilnError("wrong shape", where=where, got=array.shape, expected=str(wanted))
