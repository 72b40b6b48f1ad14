"""Weighted ridge regression with prediction intervals and held-out errors, for models with few coefficients."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import BitkilnError

__all__ = ["LinearFit", "held_out", "leave_one_out", "mean_and_worst"]


@dataclass(frozen=True)
class LinearFit:
    """``y = x @ coefficients``, fitted to relative errors.

    Attributes
    ----------
    coefficients : float ndarray (features,)
    spread : float
        Standard deviation of the relative residuals, degrees of freedom taken off.
    covariance : float ndarray (features, features)
        Of the coefficients, over ``spread`` squared.
    freedom : int
        Samples less features.
    """

    coefficients: np.ndarray
    spread: float
    covariance: np.ndarray
    freedom: int

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, ridge: float = 1e-9) -> LinearFit:
        """Least squares of relative errors.

        Parameters
        ----------
        x : float ndarray (samples, features)
        y : float ndarray (samples,)
            Positive.
        ridge : float
            Penalty on coefficients of features scaled to a root mean square of 1 (each sample divided by its ``y``),
            over the number of samples.

        Raises
        ------
        BitkilnError
            Fewer samples than features, values that are not positive.
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < x.shape[1]:
            raise BitkilnError("too few samples", where="fit", got=f"{x.shape} and {y.shape}",
                               expected="at least as many samples as features")
        if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
            raise BitkilnError("not a positive finite value", where="fit", expected="positive energies or areas")
        relative = x / y[:, None]
        scale = np.sqrt((relative ** 2).mean(axis=0))
        scale[scale == 0] = 1.0
        scaled = relative / scale
        gram = scaled.T @ scaled + ridge * len(y) * np.eye(x.shape[1])
        inverse = np.linalg.inv(gram)
        coefficients = inverse @ scaled.sum(axis=0)
        residuals = 1 - scaled @ coefficients
        freedom = max(1, len(y) - x.shape[1])
        spread = float(np.sqrt((residuals ** 2).sum() / freedom))
        return cls(coefficients / scale, spread, inverse / np.outer(scale, scale), freedom)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Values (samples,) of features (samples, features)."""
        return np.asarray(x, float) @ self.coefficients

    def interval(self, x: np.ndarray, confidence: float = 0.95) -> np.ndarray:
        """Half width (samples,) of the interval of a new observation; grows away from what was fitted."""
        from scipy.stats import t

        x = np.asarray(x, float)
        value = self.predict(x)
        # The leverage of a sample is that of its features relative to its value, as they were fitted.
        leverage = np.einsum("ij,jk,ik->i", x, self.covariance, x) / np.maximum(value ** 2, 1e-300)
        return t.ppf(0.5 + confidence / 2, self.freedom) * self.spread * np.sqrt(1 + leverage) * np.abs(value)


def held_out(x: np.ndarray, y: np.ndarray, groups: Sequence[Hashable], ridge: float = 1e-9) -> np.ndarray:
    """Predictions (samples,) of each sample by a fit that has seen none of its group."""
    predicted = np.empty(len(y))
    for members in _members(groups):
        predicted[members] = LinearFit.fit(x[~members], y[~members], ridge).predict(x[members])
    return predicted


def leave_one_out(x: np.ndarray, y: np.ndarray, ridge: float = 1e-9) -> np.ndarray:
    """Predictions (samples,) of each sample by a fit of all others."""
    return held_out(x, y, range(len(y)), ridge)


def _members(groups: Sequence[Hashable]) -> Iterator[np.ndarray]:
    names = list(groups)
    for name in dict.fromkeys(names):
        yield np.array([other == name for other in names])


def mean_and_worst(predicted: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Mean and largest error [%] relative to ``y``."""
    errors = 100 * np.abs(predicted / y - 1)
    return float(errors.mean()), float(errors.max())
