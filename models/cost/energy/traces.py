"""Operand traces with known statistics, for energy: what the inputs of a unit do from cycle to cycle.

===============  ==============================================================================================
``uniform``      every finite code alike
``gaussian``     normal values, rounded into the format; integers and minifloats: four standard deviations are the
                 largest value, posits (finest around 1): the standard deviation is 1
``relu``         as gaussian, negative values are zero: half of all
``sparse(p)``    as gaussian, a share ``p`` of them zero
===============  ==============================================================================================

``reuse`` holds each value for so many cycles, as a stationary weight is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...errors import BitkilnError, nearest
from ...formats import Format

__all__ = ["KINDS", "Trace", "TraceStatistics", "trace_codes", "trace_statistics"]

KINDS = ("uniform", "gaussian", "relu", "sparse")
SIGMAS = 4.0


@dataclass(frozen=True)
class Trace:
    """What one operand does.

    Parameters
    ----------
    kind : str
        ``uniform``, ``gaussian``, ``relu`` or ``sparse``; ``Trace.parse`` also takes ``sparse(0.75)`` and ``@16``.
    zeros : float
        Share of zeros that ``sparse`` puts in, 0 to 1.
    reuse : int
        Cycles that a value stays.
    """

    kind: str = "uniform"
    zeros: float = 0.0
    reuse: int = 1

    def __post_init__(self):
        if self.kind not in KINDS:
            raise BitkilnError("unknown operand trace", where="trace", got=self.kind,
                               expected="uniform, gaussian, relu or sparse(p)", help=nearest(self.kind, KINDS))
        if not 0 <= self.zeros <= 1:
            raise BitkilnError("out of range", where="trace zeros", got=self.zeros, expected="0 to 1")
        if isinstance(self.reuse, bool) or not isinstance(self.reuse, int) or self.reuse < 1:
            raise BitkilnError("out of range", where="trace reuse", got=self.reuse, expected="1 cycle or more")

    @classmethod
    def parse(cls, text: str) -> Trace:
        """``kind``, ``sparse(p)``, each with ``@cycles`` for reuse: ``gaussian@16``.

        Raises
        ------
        BitkilnError
        """
        match = re.fullmatch(r"\s*(\w+)(?:\(([\d.]+)\))?(?:@(\d+))?\s*", text)
        if match is None or (match[2] is not None) != (match[1] == "sparse"):
            raise BitkilnError("unknown operand trace", where="trace", got=text,
                               expected="uniform, gaussian, relu or sparse(p), with @cycles for reuse",
                               help="for example sparse(0.75) or gaussian@16")
        return cls(match[1], float(match[2] or 0), int(match[3] or 1))

    def __str__(self) -> str:
        kind = f"sparse({self.zeros:g})" if self.kind == "sparse" else self.kind
        return f"{kind}@{self.reuse}" if self.reuse > 1 else kind


@dataclass(frozen=True)
class TraceStatistics:
    """Statistics of a trace.

    Attributes
    ----------
    toggle_rate : float ndarray (bits,)
        Transitions of each code bit per cycle, least significant first.
    zero_fraction : float
        Share of codes that are zero.
    """

    toggle_rate: np.ndarray
    zero_fraction: float

    @property
    def mean_toggle_rate(self) -> float:
        return float(self.toggle_rate.mean())


def trace_codes(fmt: Format, trace: Trace | str, cycles: int, streams: int, lanes: int = 1, *,
                seed: int = 0) -> np.ndarray:
    """Codes of a trace.

    Parameters
    ----------
    fmt : Format
    trace : Trace or str
    cycles, streams, lanes : int
        Independent streams and lanes; equal arguments give equal codes.

    Returns
    -------
    int64 ndarray (cycles, streams, lanes)
    """
    trace = Trace.parse(trace) if isinstance(trace, str) else trace
    random = np.random.default_rng(seed)
    shape = (-(-cycles // trace.reuse), streams, lanes)
    if trace.kind == "uniform":
        codes = np.arange(1 << fmt.bits)
        codes = random.choice(codes[fmt.unpack(codes).special == 0], shape)
    else:
        values = random.standard_normal(shape) * _sigma(fmt)
        if trace.kind == "relu" or fmt.decode(np.arange(1 << fmt.bits)).min() >= 0:
            values = np.maximum(values, 0.0)
        if trace.kind == "sparse":
            values[random.random(shape) < trace.zeros] = 0.0
        limit = float(fmt.max)
        codes = fmt.encode(np.clip(values, -limit, limit))
    return np.repeat(codes.astype(np.int64), trace.reuse, axis=0)[:cycles]


def _sigma(fmt: Format) -> float:
    return 1.0 if fmt.family == "posit" else float(fmt.max) / SIGMAS


def trace_statistics(fmt: Format, codes: np.ndarray) -> TraceStatistics:
    """Statistics of codes (cycles, streams, lanes), over at least two cycles."""
    codes = np.asarray(codes)
    if codes.ndim != 3 or len(codes) < 2:
        raise BitkilnError("wrong shape", where="codes", got=codes.shape, expected="(2 or more cycles, streams, lanes)")
    changed = codes[1:] ^ codes[:-1]
    rates = np.array([((changed >> bit) & 1).mean() for bit in range(fmt.bits)])
    parts = fmt.unpack(codes)
    return TraceStatistics(rates, float(((parts.significand == 0) & (parts.special == 0)).mean()))
