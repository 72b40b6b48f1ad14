"""Trying candidates group by group: the least squared error wins, of equals the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import BitkilnError
from ..formats import Format
from .grids import encode
from .grouped import Grouped
from .rtn import checked

__all__ = ["Measure", "Search", "checked_calibration", "grid_error", "output_error"]

# Errors this close count as equal: sums of the same squares in another order differ in their last bits, and the
# choice must not depend on the order in which a machine adds.
SAME = 2.0 ** -40


class Search:
    """The best candidate of each group.

    Attributes
    ----------
    error : ndarray of float64 (N, G) or None
        Least error so far.
    best : dict of str to ndarray (N, G)
        The winner's parameters.
    """

    def __init__(self) -> None:
        self.error: np.ndarray | None = None
        self.best: dict[str, np.ndarray] = {}

    def offer(self, error: np.ndarray, **parameters: np.ndarray | float) -> None:
        """A candidate: its error and its parameters, each (N, G) or one number for all."""
        if self.error is None:
            self.error = error.copy()
            self.best = {key: np.array(np.broadcast_to(value, error.shape)) for key, value in parameters.items()}
            return
        better = error < self.error * (1 - SAME)
        self.error = np.where(better, error, self.error)
        for key, value in parameters.items():
            self.best[key] = np.where(better, value, self.best[key])


def checked_calibration(calibration: np.ndarray, columns: int, name: str = "calibration") -> np.ndarray:
    """Activation rows (rows, K) as float64."""
    values = checked(calibration, name)
    values = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    if values.shape[1] != columns:
        raise BitkilnError("calibration does not fit the weights", where=name, got=f"{values.shape[1]} columns",
                           expected=f"rows of {columns} activations, one for each input channel")
    # Only ratios matter: a power of two keeps the squares finite.
    return np.ldexp(values, -int(np.frexp(np.abs(values).max())[1]))


class Measure:
    """Squared error of groups: of the weights, or of what they add to the layer's outputs.

    Parameters
    ----------
    grouped : Grouped
    calibration : ndarray (rows, K), optional
        Activations; the error of a group is then the mean over rows of ``(x . (w' - w))**2``.
    """

    def __init__(self, grouped: Grouped, calibration: np.ndarray | None = None):
        self.grouped = grouped
        self.gram: list[np.ndarray] | None = None
        if calibration is not None:
            x = checked_calibration(calibration, grouped.rows.shape[1])
            parts = np.split(x, grouped.starts[1:], axis=1)
            self.gram = [part.T @ part / len(x) for part in parts]

    def of(self, difference: np.ndarray) -> np.ndarray:
        """(n, K) differences -> (n, G) errors."""
        if self.gram is None:
            return self.grouped.reduce(np.add, difference * difference)
        found = np.empty((len(difference), len(self.grouped.starts)))
        for g, (start, size) in enumerate(zip(self.grouped.starts, self.grouped.sizes, strict=True)):
            part = difference[:, start:start + size]
            found[:, g] = np.sum((part @ self.gram[g]) * part, axis=1)
        return np.maximum(found, 0)

    def error(self, approximate: Callable[[np.ndarray, slice], np.ndarray]) -> np.ndarray:
        """Errors (N, G), in units, of a function from (unit weights, slice of rows) to approximated unit weights."""
        unit = self.grouped.unit
        return np.concatenate([self.of(approximate(unit[rows], rows) - unit[rows]) for rows in self.grouped.slabs()])


def grid_error(measure: Measure, fmt: Format, scale: np.ndarray) -> np.ndarray:
    """Error (N, G) of rounding to a format's values times ``scale`` (N, G), in units."""
    def nearest(unit: np.ndarray, rows: slice) -> np.ndarray:
        wide = measure.grouped.expand(scale[rows])
        return fmt.decode(encode(fmt, unit, wide)) * wide
    return measure.error(nearest)


def output_error(weights: np.ndarray, approximation: np.ndarray, calibration: np.ndarray) -> float:
    """Squared error of a layer's outputs over their squared magnitude: ``X (W' - W)^T`` against ``X W^T``.

    Parameters
    ----------
    weights, approximation : ndarray (N, K)
    calibration : ndarray (rows, K)
        From ``checked_calibration``.
    """
    exponent = -int(np.frexp(np.abs(weights).max())[1])
    exact = calibration @ np.ldexp(weights, exponent).T
    error = calibration @ np.ldexp(approximation - weights, exponent).T
    power = np.sum(exact ** 2)
    return float(np.sum(error ** 2) / power) if power else float(np.sum(error ** 2))
