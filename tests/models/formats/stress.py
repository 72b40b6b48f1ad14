"""Inputs that find rounding mistakes: values, ties, their float neighbours, edges, specials, random."""

from __future__ import annotations

import numpy as np
from rational import Model

INF = np.inf


def neighbours(points: np.ndarray, kind: type) -> np.ndarray:
    """The points and one step down and up in float32 or float64."""
    with np.errstate(over="ignore", under="ignore"):
        points = points.astype(kind)
        return np.concatenate([points, np.nextafter(points, kind(-INF)), np.nextafter(points, kind(INF))])


def boundaries(m: Model, kind: type = np.float64) -> np.ndarray:
    """Every value, tie and arithmetic midpoint, +-1 ulp; overflow edges; zeros, infinities, extremes."""
    info = np.finfo(kind)
    edges = [0.0, -0.0, INF, -INF, info.max, -info.max, info.tiny, -info.tiny, info.smallest_subnormal,
             -info.smallest_subnormal]
    top = float(m.values[-1])
    with np.errstate(over="ignore"):
        far = np.array([top * f for f in (1.0625, 1.125, 1.25, 1.5, 2, 4, 256)])
        beyond = [] if m.beyond is None else [float(m.beyond), (top + float(m.beyond)) / 2]
        points = np.concatenate([m.V, m.T, (m.V[1:] + m.V[:-1]) / 2, far, -far, beyond, -np.array(beyond)])
        found = np.concatenate([neighbours(points, kind), np.array(edges, kind)])
    if m.nan is not None:
        found = np.append(found, [kind(np.nan), -kind(np.nan)])
    return found


def random_values(m: Model, count: int, seed: int, kind: type = np.float64) -> np.ndarray:
    """Random codes scattered, random magnitudes over the range and beyond, and raw float bits."""
    rng = np.random.default_rng(seed)
    third = count // 3
    near = m.V[rng.integers(0, len(m.V), third)] * (1 + rng.normal(0, 0.05, third))
    span = np.log2(np.abs(m.V[m.V != 0]))
    wide = np.exp2(rng.uniform(span.min() - 3, span.max() + 3, third)) * rng.choice([-1, 1], third)
    word = np.uint32 if kind is np.float32 else np.uint64
    raw = rng.integers(0, np.iinfo(word).max, count - 2 * third, dtype=word, endpoint=True).view(kind)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found = np.concatenate([near.astype(kind), wide.astype(kind), raw])
    return np.nan_to_num(found, nan=0.0, posinf=INF, neginf=-INF) if m.nan is None else found
