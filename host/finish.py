"""What a core without an output stage leaves to the host: sums become results here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bitkiln.models.design import Job, MatmulDesign
from bitkiln.models.design.matmul import RULES
from bitkiln.models.golden.matmul import Records
from bitkiln.models.golden.requantise import Sums, float_sums, integer_sums, requantise, special_raw

__all__ = ["HostFinish", "finished_design"]

Run = Callable[..., np.ndarray]


def finished_design(design: MatmulDesign) -> MatmulDesign:
    """What a core and its host do together: the core's sums, with every output rule, bias and partial sums."""
    wide = replace(design, rules=tuple(rule for rule in RULES if rule != "integer"), bias=True, accumulate=True,
                   outputs=tuple(dict.fromkeys((*design.outputs, "fp32"))))
    integers = any(name.startswith(("int", "uint")) for name in wide.outputs)
    return replace(wide, rules=RULES) if integers and not design.floating else wide


class HostFinish:
    """Runs jobs of `finished_design` on a core that can do their sums alone.

    Exact: the core's raw sums are what its own output stage would take.

    Parameters
    ----------
    design : MatmulDesign
        The core's; with ``raw`` among its rules and no block formats.
    run : callable
        ``run(job, a, w)``: raw sums (M, N) of a job of that design.
    """

    def __init__(self, design: MatmulDesign, run: Run):
        self.design, self.whole, self._run = design, finished_design(design), run

    def __call__(self, job: Job, a: np.ndarray, w: np.ndarray, records: Records | None = None,
                 c: np.ndarray | None = None) -> np.ndarray:
        raw = self._run(Job(job.mode, job.m, job.k, job.n, order=job.order).check(self.design), a, w)
        codes, _ = requantise(self.whole, job, self._sums(raw), records=records, c=c)
        return codes

    def _sums(self, raw: np.ndarray) -> Sums:
        """Raw results as the sums that they are the codes of."""
        if self.design.floating:
            return float_sums(raw)
        sums = integer_sums(self.whole, raw)
        if self.design.pe.accumulator.kind != "exact":
            return sums
        nan, inf_pos, inf_neg = special_raw(sums.exact)
        return replace(sums, nan=nan, inf_pos=inf_pos, inf_neg=inf_neg)
