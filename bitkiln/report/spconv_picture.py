"""Pictures of a frame and of a network on it: voxels from above, the levels of the octree, cycles by layer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..models.errors import MISSING_TOOL, BitkilnError

__all__ = ["draw_frame", "draw_layers"]

LEVELS = 5      # of the octree, from the voxels up
SIZE = (13, 5.2)
HEIGHT_MAP, NODE_COLOUR = "viridis", "#3b6ea5"
BARS = {"work": ("#3b6ea5", "products"), "idle": ("#c8d6e5", "lanes without work"),
        "stall": ("#d98e4a", "waiting: output stage, weights, maps")}


def _pyplot():
    try:
        import matplotlib
    except ImportError:
        raise BitkilnError("a package is missing", where="picture", got="no matplotlib", expected="matplotlib",
                           help="pip install 'bitkiln[plots]'", exit_code=MISSING_TOOL) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot
    return pyplot


def _save(figure, path: Path) -> None:
    """Written beside its place and renamed: never half a picture."""
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format=path.suffix.lstrip(".") or "png", dpi=130)
    os.replace(part, path)


def draw_frame(path: Path, indices: np.ndarray, voxel_size: Sequence[float], title: str) -> None:
    """Voxels from above coloured by height, and the outlines of octree nodes.

    Parameters
    ----------
    path : Path
        PNG, SVG or PDF.
    indices : ndarray (N, 4)
        Batch, x, y, z of voxels; z is the vertical.
    voxel_size : three float
        Metres.
    title : str
    """
    pyplot = _pyplot()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=SIZE, layout="constrained")
    size = np.asarray(voxel_size, float)
    place = indices[:, 1:] * size
    order = np.argsort(place[:, 2], kind="stable")      # the highest on top
    shown = left.scatter(place[order, 0], place[order, 1], c=place[order, 2], s=max(0.3, 2e4 / max(len(place), 1) / 10),
                         cmap=HEIGHT_MAP, linewidths=0, rasterized=True)
    figure.colorbar(shown, ax=left, label="height (m)", shrink=0.85)
    left.set(title=f"{title}: {len(place):,} voxels of {'x'.join(f'{s:g}' for s in size)} m", xlabel="x (m)",
             ylabel="y (m)", aspect="equal")
    for level in range(LEVELS - 1, 0, -1):
        nodes = np.unique(indices[:, 1:3] >> level, axis=0) if len(indices) else np.zeros((0, 2), int)
        side = size[:2] * (1 << level)
        share = level / LEVELS
        boxes = [pyplot.Rectangle(node * side, *side) for node in nodes]
        from matplotlib.collections import PatchCollection
        right.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=NODE_COLOUR,
                                             linewidth=0.2 + 0.25 * level, alpha=0.35 + 0.5 * share,
                                             rasterized=True))
    counts = [len(np.unique(indices[:, 1:] >> level, axis=0)) if len(indices) else 0 for level in range(LEVELS)]
    right.autoscale_view()
    right.set(title="octree nodes of levels 0 to 4: " + ", ".join(f"{count:,}" for count in counts), xlabel="x (m)",
              ylabel="y (m)", aspect="equal")
    _save(figure, path)
    pyplot.close(figure)


def draw_layers(path: Path, names: Sequence[str], parts: dict[str, Sequence[float]], dense: Sequence[float],
                title: str) -> None:
    """Cycles of each layer as stacked bars, and what they would be without skipping zero channels.

    Parameters
    ----------
    path : Path
    names : sequence of str
        Layers.
    parts : dict of str to sequence of float
        ``work``, ``idle``, ``stall``: cycles of each layer.
    dense : sequence of float
        Cycles without skipping zero channels.
    title : str
    """
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(max(6.0, 0.7 * len(names) + 2), 4.4), layout="constrained")
    at = np.arange(len(names))
    below = np.zeros(len(names))
    for name, (colour, label) in BARS.items():
        values = np.asarray(parts.get(name, np.zeros(len(names))), float)
        if values.any():
            axes.bar(at, values, bottom=below, color=colour, label=label, width=0.7)
            below = below + values
    axes.scatter(at, dense, marker="_", s=320, color="#333333", label="without skipping zero channels")
    axes.set_xticks(at, names, rotation=40, ha="right")
    axes.set(ylabel="cycles", title=title)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)
    pyplot.close(figure)
