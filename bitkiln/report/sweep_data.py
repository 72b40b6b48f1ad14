"""What the pictures, the page and the table of a sweep have in common: a checked input, fronts, families, units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..models.errors import BitkilnError, nearest

__all__ = ["FAMILIES", "KINDS", "SCHEMA", "axis_pairs", "check_sweep", "family_styles", "front_of", "is_log",
           "lower_upper", "metric_of", "pretty_unit", "value_of"]

SCHEMA = "bitkiln.sweep/1"

# Where a number comes from, and what that promises.
KINDS = {
    "measured": "read from a tool, a simulation or a run of the network, for this very design",
    "exact": "computed; equal to the hardware's own counters or to an exhaustive run, so it has no interval",
    "model": "predicted by a fitted model; low and high are the model's interval",
    "literature": "taken from a publication, which the source names; not checked here",
    "proxy": "stands in for a number that cannot be measured here, for example an error of weights for an accuracy",
}

# Colours of M. Okabe and K. Ito, which people with any common colour blindness tell apart; each family also has a
# shape of its own. (light page, dark page, shape of plotly.js, marker of matplotlib)
FAMILIES = {
    "int": ("#0072B2", "#56B4E9", "circle", "o"),
    "minifloat": ("#D55E00", "#FF8A47", "square", "s"),
    "posit": ("#009E73", "#2FD3A4", "diamond", "D"),
    "codebook": ("#B0508A", "#E79BC6", "triangle-up", "^"),
    "mixed": ("#A87500", "#F0C040", "cross", "P"),
}
SPARE = [("#444444", "#D0D0D0", "star", "*"), ("#5B4FBF", "#A79BFF", "triangle-down", "v"),
         ("#8A3B12", "#D9A27E", "hexagon", "h"), ("#3F7A1F", "#A5D67F", "pentagon", "p")]

UNITS = {"um2": "µm²", "um": "µm", "mm2": "mm²", "us": "µs", "uj": "µJ", "uJ": "µJ"}
LOG_SPAN = 10       # largest over smallest value from which on an axis starts out logarithmic

Json = dict[str, Any]


def check_sweep(sweep: Mapping[str, Any]) -> Json:
    """A sweep with every optional key present and numbers that are not finite replaced by null.

    Parameters
    ----------
    sweep : mapping
        Schema ``bitkiln.sweep/1``. It is not changed.

    Returns
    -------
    dict

    Raises
    ------
    BitkilnError
        Another schema, a missing key, a repeated id or metric, an axis or a value of a metric that is not declared.
    """
    if not isinstance(sweep, Mapping) or sweep.get("schema") != SCHEMA:
        got = sweep.get("schema") if isinstance(sweep, Mapping) else type(sweep).__name__
        raise BitkilnError("not a sweep", where="schema", got=got, expected=f"'{SCHEMA}'",
                           help="bitkiln sweep writes such files")
    clean = _finite(sweep)
    for key, empty in (("title", clean.get("name", "")), ("digest", ""), ("space", {}), ("provenance", {}),
                       ("axes", [])):
        clean.setdefault(key, empty)
    _need(clean, "", "name", "metrics", "points")
    names = [_need(metric, f"metrics[{at}]", "name")["name"] for at, metric in enumerate(clean["metrics"])]
    _distinct(names, "metrics", "name")
    if not names:
        raise BitkilnError("no metrics", where="metrics", got="an empty list", expected="at least one metric")
    for metric in clean["metrics"]:
        for key, value in (("title", metric["name"]), ("unit", ""), ("higher_is_better", False)):
            metric.setdefault(key, value)
    for at, pair in enumerate(clean["axes"]):
        for axis in "xy":
            _known(_need(pair, f"axes[{at}]", "x", "y")[axis], names, f"axes[{at}].{axis}")
    for at, point in enumerate(clean["points"]):
        _check_point(point, names, f"points[{at}]")
    _distinct([point["id"] for point in clean["points"]], "points", "id")
    return clean


def _check_point(point: Json, metrics: Sequence[str], where: str) -> None:
    _need(point, where, "id", "name", "family", "metrics")
    for key in ("engine", "command"):
        point.setdefault(key, "")
    for key, empty in (("config", {}), ("measured", {}), ("fronts", []), ("area_parts", {}), ("layers", []),
                       ("roofline", None)):
        point[key] = point.get(key) or empty
    for part in ("metrics", "measured"):
        for name, entry in point[part].items():
            _known(name, metrics, f"{where}.{part}")
            _need(entry, f"{where}.{part}.{name}", "value")


def _need(entry: Any, where: str, *keys: str) -> Json:
    if not isinstance(entry, dict):
        raise BitkilnError("wrong kind of value", where=where, got=type(entry).__name__, expected="an object")
    for key in keys:
        if key not in entry:
            raise BitkilnError("a key is missing", where=f"{where}.{key}".lstrip("."),
                               expected=", ".join(keys), help=f"the schema is {SCHEMA}")
    return entry


def _known(name: str, metrics: Sequence[str], where: str) -> None:
    if name not in metrics:
        raise BitkilnError("unknown metric", where=where, got=name, expected=", ".join(metrics),
                           help=nearest(name, metrics))


def _distinct(names: Sequence[str], where: str, key: str) -> None:
    seen: set[str] = set()
    for at, name in enumerate(names):
        if name in seen:
            raise BitkilnError("used twice", where=f"{where}[{at}].{key}", got=name, expected=f"a {key} of its own")
        seen.add(name)


def _finite(value: Any) -> Any:
    """A copy that JSON can hold: JSON has no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def metric_of(sweep: Json, name: str) -> Json:
    """The declaration of a metric."""
    return next(metric for metric in sweep["metrics"] if metric["name"] == name)


def value_of(point: Json, metric: str) -> float | None:
    """A point's value of a metric, or None."""
    return (point["metrics"].get(metric) or {}).get("value")


def lower_upper(point: Json, metric: str) -> tuple[float, float]:
    """Lengths of the error bar below and above the value; 0 where there is no interval."""
    entry = point["metrics"].get(metric) or {}
    value = entry.get("value")
    if value is None:
        return 0.0, 0.0
    low, high = entry.get("low"), entry.get("high")
    return (max(0.0, value - low) if low is not None else 0.0), (max(0.0, high - value) if high is not None else 0.0)


def axis_pairs(sweep: Json) -> list[tuple[str, str]]:
    """Pairs (x, y) of metrics to draw, the default one first; there is always one."""
    pairs = [(pair["x"], pair["y"]) for pair in sweep["axes"]]
    names = [metric["name"] for metric in sweep["metrics"]]
    return pairs or [(names[min(1, len(names) - 1)], names[0])]


def front_of(sweep: Json, x: str, y: str) -> list[Json]:
    """Points of the front of two metrics, by rising x.

    The sweep's own front where it lists one; else the points that no other point beats in one metric without being
    worse in the other. Points that lack one of the two values are on no front.
    """
    points = [p for p in sweep["points"] if value_of(p, x) is not None and value_of(p, y) is not None]
    listed = [p for p in points if f"{x}/{y}" in p["fronts"]]
    return sorted(listed or _not_dominated(sweep, points, x, y), key=lambda p: (value_of(p, x), value_of(p, y)))


def _not_dominated(sweep: Json, points: list[Json], x: str, y: str) -> list[Json]:
    sign_x, sign_y = (-1 if metric_of(sweep, name)["higher_is_better"] else 1 for name in (x, y))
    kept: list[Json] = []
    best: tuple[float, float] | None = None
    for point in sorted(points, key=lambda p: (sign_x * value_of(p, x), sign_y * value_of(p, y))):
        at = (sign_x * value_of(point, x), sign_y * value_of(point, y))
        if best is None or at[1] < best[1] or at == best:
            kept.append(point)
            best = at
    return kept


def is_log(sweep: Json, metric: str) -> bool:
    """Whether an axis of this metric starts out logarithmic: a span of values that a linear axis would squeeze."""
    values = [v for v in (value_of(point, metric) for point in sweep["points"]) if v is not None]
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_SPAN \
        and metric_of(sweep, metric)["unit"] != "%"


def pretty_unit(unit: str) -> str:
    """``um2`` as it is printed: ``µm²``."""
    return UNITS.get(unit, unit)


def family_styles(sweep: Json) -> dict[str, tuple[str, str, str, str]]:
    """Colour on light, colour on dark, plotly.js shape and matplotlib marker of every family of a sweep."""
    found = sorted({point["family"] for point in sweep["points"]})
    others = [name for name in found if name not in FAMILIES]
    spare = {name: SPARE[at % len(SPARE)] for at, name in enumerate(others)}
    return {name: style for name, style in FAMILIES.items() if name in found} | spare
