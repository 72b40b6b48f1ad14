"""Weighted k-means of every row of a matrix at once, in one dimension and without chance."""

from __future__ import annotations

import numpy as np

__all__ = ["kmeans_rows", "nearest_entry"]

ITERATIONS = 50


def _count_below(rising: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """How many values of each rising row (N, K) are at most each limit (N, m): bisection of all rows together."""
    low = np.zeros(limits.shape, np.intp)
    high = np.full(limits.shape, rising.shape[1], np.intp)
    while (low < high).any():
        middle = (low + high) // 2
        right = np.take_along_axis(rising, np.minimum(middle, rising.shape[1] - 1), axis=1) <= limits
        open_ = low < high
        low = np.where(open_ & right, middle + 1, low)
        high = np.where(open_ & ~right, middle, high)
    return low


def _lloyd(rising: np.ndarray, mass: np.ndarray, moment: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Assign and average until nothing moves; a centre without values stays where it is."""
    rows = len(rising)
    ends = np.full((rows, 1), rising.shape[1], np.intp)
    for _ in range(ITERATIONS):
        borders = _count_below(rising, (centres[:, 1:] + centres[:, :-1]) / 2)
        borders = np.concatenate((np.zeros_like(ends), borders, ends), axis=1)
        weight, total = (np.diff(np.take_along_axis(sums, borders, axis=1), axis=1) for sums in (mass, moment))
        # A difference of running sums leaves the cluster by a last bit; the sort keeps the borders in order.
        moved = np.sort(np.divide(total, weight, out=centres.copy(), where=weight > 0), axis=1)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def kmeans_rows(values: np.ndarray, weights: np.ndarray | None, count: int) -> np.ndarray:
    """``count`` centres of each row, rising.

    Lloyd's iteration, at most 50 times, from two starts: weighted quantiles, which follow the bulk, and even steps,
    which follow the tails; the better of both for each row, the first of equals.

    Parameters
    ----------
    values : ndarray of float64 (N, K)
    weights : ndarray of float64 (N, K), optional
        Not negative; a row whose weights are all zero counts its values equally.
    count : int

    Returns
    -------
    ndarray of float64 (N, count)
    """
    order = np.argsort(values, axis=1, kind="stable")
    rising = np.take_along_axis(values, order, axis=1)
    if weights is None:
        weights = np.ones_like(values)
    weights = np.take_along_axis(weights, order, axis=1)
    weights = np.where(weights.sum(axis=1, keepdims=True) > 0, weights, 1.0)
    front = np.zeros((len(values), 1))
    mass, moment = (np.concatenate((front, np.cumsum(part, axis=1)), axis=1) for part in (weights, weights * rising))
    targets = (np.arange(count) + 0.5) / count * mass[:, -1:]
    place = np.minimum(_count_below(mass[:, 1:], targets), rising.shape[1] - 1)
    used = weights > 0
    low = np.take_along_axis(rising, np.argmax(used, axis=1)[:, None], axis=1)
    high = np.take_along_axis(rising, used.shape[1] - 1 - np.argmax(used[:, ::-1], axis=1)[:, None], axis=1)
    starts = (np.take_along_axis(rising, place, axis=1), low + (high - low) * (np.arange(count) + 0.5) / count)
    first, second = (_lloyd(rising, mass, moment, start) for start in starts)

    def inertia(centres: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(centres, nearest_entry(rising, centres), axis=1)
        return np.sum(weights * (found - rising) ** 2, axis=1)

    better = inertia(second) < inertia(first) * (1 - 2.0 ** -40)
    return np.where(better[:, None], second, first)


def nearest_entry(values: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Index (n, K) of the nearest of each row's rising entries (n, m); the lower one midway."""
    middle = entries[:, 1:] / 2 + entries[:, :-1] / 2
    index = np.zeros(values.shape, np.intp)
    for column in middle.T:
        index += values > column[:, None]
    return index
