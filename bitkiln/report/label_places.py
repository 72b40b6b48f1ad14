"""Places for the labels of points, so that none covers another one, a point or the border."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["place_labels"]

DIRECTIONS = 16
RINGS = (1.0, 2.6, 4.6, 7.0, 10.0, 14.0)    # distances that are tried, in gaps
LEADER_FROM = 1.5                           # a label farther away is joined to its point by a line

Place = tuple[tuple[float, float], tuple[float, float] | None]


def place_labels(anchors: np.ndarray, sizes: Sequence[tuple[float, float]], dots: np.ndarray, lines: np.ndarray,
                 border: Sequence[float], gap: float) -> list[Place | None]:
    """Greedy places, the most crowded point first.

    Parameters
    ----------
    anchors : ndarray (N, 2)
        Points to label, in pixels.
    sizes : sequence of N (width, height)
        Of the labels, in pixels.
    dots : ndarray (M, 2)
        All points that should stay visible.
    lines : ndarray (L, 2)
        Samples of lines; to cover them is bad, to cover a point is worse.
    border : (left, bottom, right, top)
        Labels stay inside.
    gap : float
        Pixels between a point and its label.

    Returns
    -------
    list of N
        Lower left corner of the label and the end of its line to the point (None for a label beside its point), or
        None where every place would cover another label.
    """
    anchors, dots, lines = (np.asarray(each, float).reshape(-1, 2) for each in (anchors, dots, lines))
    places: list[Place | None] = [None] * len(anchors)
    boxes: list[tuple[float, float, float, float]] = []
    leaders: list[tuple[np.ndarray, np.ndarray]] = []
    for index in sorted(range(len(anchors)), key=lambda i: (-_crowd(anchors[i], dots, 12 * gap), i)):
        best: tuple[float, tuple[float, float, float, float], Place] | None = None
        for ring in RINGS:
            for step in range(DIRECTIONS):
                box, end = _candidate(anchors[index], sizes[index], 2 * math.pi * (step + 1) / DIRECTIONS, ring * gap)
                leader = end if ring > LEADER_FROM else None
                if not _inside(box, border) or any(_overlap(box, other, 2) for other in boxes):
                    continue
                if any(_crosses(line, box) for line in leaders):
                    continue
                if leader is not None and any(_crosses((anchors[index], np.array(end)), other) for other in boxes):
                    continue
                cost = ring + 4.0 * _covered(box, dots, 0.6 * gap) + 0.4 * _covered(box, lines, 0.0)
                if best is None or cost < best[0]:
                    best = (cost, box, ((box[0], box[1]), leader))
        if best is not None:
            places[index] = best[2]
            boxes.append(best[1])
            if best[2][1] is not None:
                leaders.append((anchors[index], np.array(best[2][1])))
    return places


def _crowd(at: np.ndarray, dots: np.ndarray, reach: float) -> int:
    return int(np.count_nonzero(np.hypot(*(dots - at).T) < reach))


def _candidate(anchor: np.ndarray, size: tuple[float, float], angle: float, distance: float):
    """Box whose nearest side or corner lies in this direction, and the point of it nearest to the anchor."""
    across, up = math.cos(angle), math.sin(angle)
    width, height = size
    centre_x = anchor[0] + across * (distance + width / 2)
    centre_y = anchor[1] + up * (distance + height / 2)
    box = (centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2)
    return box, (float(np.clip(anchor[0], box[0], box[2])), float(np.clip(anchor[1], box[1], box[3])))


def _inside(box: Sequence[float], border: Sequence[float]) -> bool:
    return box[0] >= border[0] and box[1] >= border[1] and box[2] <= border[2] and box[3] <= border[3]


def _overlap(one: Sequence[float], other: Sequence[float], margin: float) -> bool:
    return one[0] < other[2] + margin and other[0] < one[2] + margin \
        and one[1] < other[3] + margin and other[1] < one[3] + margin


def _covered(box: Sequence[float], dots: np.ndarray, margin: float) -> int:
    x, y = dots.T
    beside = (x > box[0] - margin) & (x < box[2] + margin)
    return int(np.count_nonzero(beside & (y > box[1] - margin) & (y < box[3] + margin)))


def _crosses(line: tuple[np.ndarray, np.ndarray], box: Sequence[float]) -> bool:
    """Whether a short line passes through a box; 12 samples are enough for labels."""
    along = np.linspace(0.0, 1.0, 12)[:, None]
    x, y = (line[0] + along * (np.asarray(line[1]) - line[0])).T
    return bool(np.any((x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])))
