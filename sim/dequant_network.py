"""Whole matrix products through the dequantising core's RTL, from packed weights, against the golden model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.host.dequant import order_results
from bitkiln.hw.dequant.results import output_layout
from bitkiln.models.design.dequant import DequantDesign, DequantJob
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.dequant import DequantWeights
from bitkiln.models.workloads.bitserial import EngineMatrix, matmul

from .bitserial_check import bits_of
from .dequant_check import CoreJob, run_jobs
from .streams import StreamModel

__all__ = ["CoreProduct"]

JOBS = 64     # of one run


@dataclass
class CoreProduct:
    """Products of matrices with rows of activations, as jobs of the simulated core.

    Attributes
    ----------
    results, cycles, products : int
        Compared with the golden model; clock cycles; products of the network (padding not counted).
    """

    design: DequantDesign
    model: StreamModel
    results: int = 0
    cycles: int = 0
    products: int = 0

    def matmul(self, matrix: EngineMatrix, activations: np.ndarray, name: str = "product") -> np.ndarray:
        """What `workloads.bitserial.matmul` returns, times nothing: jobs are given channel scales of 1, so that
        results of both can be compared before the scales.

        Raises
        ------
        BitkilnError
            Exit code 1 where a result differs.
        """
        array = self.design.array
        wanted = matmul(matrix, activations)
        if wanted.ndim == 3:
            total = np.zeros(wanted.shape[:2], np.float32)
            for g in range(wanted.shape[2]):
                total = total + wanted[:, :, g]
            wanted = total
        channels, k = matrix.shape
        weights = DequantWeights(matrix.quantised.codes.astype(np.int64), matrix.types, matrix.special, matrix.scale,
                                 matrix.scale_negative, matrix.zero, np.ones(channels, np.float32))
        starts = range(0, len(activations), array.rows)
        jobs = [CoreJob(DequantJob(k, matrix.quantised.group, channels, min(array.rows, len(activations) - start))
                        .check(self.design), activations[start:start + array.rows], weights) for start in starts]
        found = np.zeros(wanted.shape, np.float32)
        layout = output_layout(self.design)
        for first in range(0, len(jobs), JOBS):
            some = jobs[first:first + JOBS]
            run, _ = run_jobs(self.design, some, model=self.model)
            values = bits_of(run.outputs["o"], layout["value"].offset, 32).astype(np.uint32).view(np.float32)
            at = 0
            for number, job in enumerate(some, first):
                size = job.job.rows * channels
                start = number * array.rows
                found[start:start + job.job.rows] = order_results(self.design, job.job, values[at:at + size])
                at += size
            self.cycles += int(run.cycles["o"][-1]) + 1
        # The product with 1 is exact, but a zero of the array is +0 and stays so.
        bad = np.argwhere(found.view(np.uint32) != wanted.view(np.uint32))
        if len(bad):
            r, c = (int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{name}[{r}, {c}]", got=str(found[r, c]),
                               expected=str(wanted[r, c]), help=f"{len(bad)} of {found.size} differ", exit_code=FAILED)
        self.results += found.size
        self.products += len(activations) * channels * k
        return found
