"""Static pictures of a sweep's fronts: scatter with intervals, the front as a staircase, its points named."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..models.errors import MISSING_TOOL, BitkilnError
from .label_places import place_labels
from .sweep_data import axis_pairs, family_styles, front_of, is_log, lower_upper, metric_of, pretty_unit, value_of

__all__ = ["draw_fronts"]

MOST_PANELS = 4
MOST_LABELS = 18        # of one panel; more cannot be read
LONGEST = 34            # letters of a label
MANY = 600              # points from which on only the front shows its intervals
DPI = 150
INK, FAINT = "#1b1f24", "#e4e7eb"
SETTINGS = {"svg.hashsalt": "bitkiln.sweep", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": FAINT,
            "axes.axisbelow": True, "text.parse_math": False}
METADATA = {"png": {"Software": "bitkiln"}, "svg": {"Creator": "bitkiln", "Date": None}}

Json = dict[str, Any]


def draw_fronts(sweep: Json, kinds: Sequence[str] = ("png", "svg")) -> dict[str, bytes]:
    """The fronts of a sweep, one panel for each of its first four pairs of metrics.

    Parameters
    ----------
    sweep : dict
        As `check_sweep` returns it.
    kinds : sequence of str
        ``png``, ``svg``.

    Returns
    -------
    dict of str to bytes
        The same bytes for the same sweep: no date, no random names.

    Raises
    ------
    BitkilnError
        Exit code 3 without matplotlib.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise BitkilnError("a package is missing", where="picture", got="no matplotlib", expected="matplotlib",
                           help="pip install 'bitkiln[plots]'", exit_code=MISSING_TOOL) from None
    pairs = axis_pairs(sweep)[:MOST_PANELS]
    rows = len(pairs) // 2 + len(pairs) % 2
    with matplotlib.rc_context():
        matplotlib.rcdefaults()                 # a user's own style would change the bytes
        matplotlib.rcParams.update(SETTINGS)
        figure = Figure(figsize=(9.6 if len(pairs) == 1 else 15.5, 5.8 * rows + 0.6), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        panels = _panels(figure, len(pairs), rows)
        for axes, (x, y) in zip(panels, pairs, strict=True):
            _panel(axes, sweep, x, y)
        figure.suptitle(sweep["title"], x=0.01, ha="left", fontsize=12, fontweight="bold")
        _legend(figure, sweep)
        figure.canvas.draw()                    # the layout must be settled before the labels look for room
        figure.set_layout_engine("none")
        for axes, (x, y) in zip(panels, pairs, strict=True):
            _labels(axes, sweep, x, y)
        return {kind: _saved(figure, kind) for kind in kinds}


def _panels(figure: Any, count: int, rows: int) -> list[Any]:
    """Two panels a row; the first one has a row of its own where their number is odd."""
    grid = figure.add_gridspec(rows, 2)
    odd = count % 2
    first = [figure.add_subplot(grid[0, :])] if odd else []
    return first + [figure.add_subplot(grid[(at + 2 * odd) // 2, at % 2]) for at in range(count - odd)]


def _saved(figure: Any, kind: str) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, metadata=METADATA[kind])
    return content.getvalue()


def _title(metric: Json) -> str:
    unit = f" ({pretty_unit(metric['unit'])})" if metric["unit"].lower() not in ("", metric["title"].lower()) else ""
    return f"{metric['title']}{unit}, {'higher' if metric['higher_is_better'] else 'lower'} is better"


def _drawable(sweep: Json, x: str, y: str) -> list[Json]:
    """Points with both values. A logarithmic axis has only values above 0 (`is_log`)."""
    return [p for p in sweep["points"] if value_of(p, x) is not None and value_of(p, y) is not None]


def _panel(axes: Any, sweep: Json, x: str, y: str) -> None:
    points, front = _drawable(sweep, x, y), front_of(sweep, x, y)
    on_front = {p["id"] for p in front}
    axes.set(xlabel=_title(metric_of(sweep, x)), ylabel=_title(metric_of(sweep, y)))
    for name, set_scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        if is_log(sweep, name):
            set_scale("log")
    _plain_numbers(axes)
    axes.margins(0.06)
    if not points:
        axes.text(0.5, 0.5, "no points" if not sweep["points"] else "no point has both values",
                  ha="center", va="center", transform=axes.transAxes, color="#59636e", fontsize=12)
        axes.set(xticks=[], yticks=[])
        return
    with_bars = points if len(points) <= MANY else front
    for family, (colour, _, _, marker) in family_styles(sweep).items():
        for member, size, alpha, edge in ((False, 22, 0.55, "white"), (True, 52, 1.0, INK)):
            mine = [p for p in points if p["family"] == family and (p["id"] in on_front) == member]
            if mine:
                axes.scatter([value_of(p, x) for p in mine], [value_of(p, y) for p in mine], s=size, c=colour,
                             alpha=alpha, marker=marker, edgecolors=edge, linewidths=0.8,
                             zorder=4 if member else 3, rasterized=len(points) > MANY)
        bars = [p for p in with_bars if p["family"] == family]
        if bars:
            spread = [list(zip(*(lower_upper(p, name) for p in bars), strict=True)) for name in (x, y)]
            axes.errorbar([value_of(p, x) for p in bars], [value_of(p, y) for p in bars], xerr=spread[0],
                          yerr=spread[1], fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5, alpha=0.5, zorder=2)
    steps = "steps-pre" if metric_of(sweep, x)["higher_is_better"] else "steps-post"
    axes.plot([value_of(p, x) for p in front], [value_of(p, y) for p in front], drawstyle=steps, color=INK,
              linewidth=1.1, zorder=2.5)
    _measured(axes, points, x, y)


def _plain_numbers(axes: Any) -> None:
    """``20,000`` rather than ``2e4``, on logarithmic axes too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))


def _measured(axes: Any, points: list[Json], x: str, y: str) -> None:
    """A cross where a measurement puts the point, joined to the prediction."""
    lines: list[tuple[Any, Any]] = []
    ends = []
    for point in points:
        seen = [(point["measured"].get(name) or {}).get("value") for name in (x, y)]
        if all(value is None for value in seen):
            continue
        predicted = [value_of(point, name) for name in (x, y)]
        ends.append([p if s is None else s for p, s in zip(predicted, seen, strict=True)])
        lines += [tuple(predicted), tuple(ends[-1]), (np.nan, np.nan)]
    if ends:
        axes.plot(*zip(*lines, strict=True), color=INK, linewidth=1.2, zorder=5)
        axes.scatter(*zip(*ends, strict=True), marker="x", s=26, c=INK, linewidths=1.2, zorder=5)


def _legend(figure: Any, sweep: Json) -> None:
    from matplotlib.lines import Line2D
    handles = [Line2D([], [], linestyle="none", marker=marker, color=colour, markeredgecolor="white", markersize=7,
                      label=_short([name]))
               for name, (colour, _, _, marker) in family_styles(sweep).items()]
    if sweep["points"]:
        handles.append(Line2D([], [], color=INK, linewidth=1.1, label="front"))
    if any(point["measured"] for point in sweep["points"]):
        handles.append(Line2D([], [], color=INK, linestyle="none", marker="x", label="measured"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _labels(axes: Any, sweep: Json, x: str, y: str) -> None:
    """Names of the front's points, evenly chosen where there are too many, each where it covers nothing."""
    at_place: dict[tuple[float, float], list[Json]] = {}
    for point in front_of(sweep, x, y):
        at_place.setdefault((value_of(point, x), value_of(point, y)), []).append(point)
    front = [points[0] for points in at_place.values()]
    if len(front) > MOST_LABELS:
        front = [front[round(at * (len(front) - 1) / (MOST_LABELS - 1))] for at in range(MOST_LABELS)]
    if not front:
        return
    from matplotlib.patheffects import withStroke
    figure = axes.figure
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    halo = [withStroke(linewidth=2.2, foreground="white")]
    places_of = [(value_of(point, x), value_of(point, y)) for point in front]
    drawn = [axes.annotate(_short([p["name"] for p in at_place[place]]), place, textcoords="offset points",
                           xytext=(0, 0), va="bottom", fontsize=7.5, color=INK, zorder=6, annotation_clip=False,
                           path_effects=halo)
             for place in places_of]
    sizes = [(box.width, box.height) for box in (text.get_window_extent(renderer) for text in drawn)]
    pixels = axes.transData.transform
    anchors = pixels(places_of)
    dots = pixels([(value_of(p, x), value_of(p, y)) for p in _drawable(sweep, x, y)])
    line = _staircase(pixels, front_of(sweep, x, y), sweep, x, y)
    places = place_labels(anchors, sizes, dots, line, axes.get_window_extent(renderer).extents, gap=6 * scale)
    for text, anchor, size, place in zip(drawn, anchors, sizes, places, strict=True):
        if place is None:
            text.remove()
            continue
        (left, bottom), leader = place
        side = "right" if left + size[0] <= anchor[0] else "left" if left >= anchor[0] else "center"
        shift = {"left": 0.0, "center": size[0] / 2, "right": size[0]}[side]    # a font may be wider in the SVG
        text.set(ha=side, position=((left + shift - anchor[0]) / scale, (bottom - anchor[1]) / scale))
        if leader is not None:
            start, end = axes.transData.inverted().transform([anchor, leader])
            axes.plot([start[0], end[0]], [start[1], end[1]], color="#8c959f", linewidth=0.6, zorder=3.5,
                      scalex=False, scaley=False)


def _staircase(pixels: Any, front: list[Json], sweep: Json, x: str, y: str) -> np.ndarray:
    """Pixels along the line of the front."""
    ends = pixels([(value_of(p, x), value_of(p, y)) for p in front])
    path = [ends[0]]
    for start, end in zip(ends, ends[1:], strict=False):
        path += [np.array([start[0], end[1]] if metric_of(sweep, x)["higher_is_better"] else [end[0], start[1]]), end]
    along = np.linspace(0.0, 1.0, 24)[:, None]
    return np.concatenate([a + along * (b - a) for a, b in zip(path, path[1:], strict=False)] or [ends])


def _short(names: list[str]) -> str:
    """The first name, and how many more points lie at the same place."""
    name = names[0] if len(names[0]) <= LONGEST else names[0][:LONGEST - 1] + "…"
    return name if len(names) == 1 else f"{name} (+{len(names) - 1})"
