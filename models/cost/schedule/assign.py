"""A number format for each layer: the least error that a budget allows.

Errors are additive over layers (sensitivities measured with one layer quantised at a time, as in OHQ, arXiv
2309.01945, and MixDQ, arXiv 2405.17873). Layers may belong to groups whose errors are of different metrics: a weight
for each group makes them one sum, a limit for a group bounds it by itself. The budget is one of

    latency   cycles, the sum over layers
    bytes     the sum over layers
    area      of one PE that supports every format in use: see `Budget`

Solved as an integer program (HiGHS through SciPy).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ...errors import FAILED, BitkilnError
from .assign_types import Assignment, Budget, Choice, Layer, Pe, check_layers
from .integer_program import IntegerProgram

__all__ = ["Assignment", "Budget", "Choice", "Layer", "Pe", "assign", "best_uniform", "brute_force", "evaluate",
           "frontier", "least_budget"]

_SCALE = 1e5        # of the largest error: the solver's absolute tolerances are then far below what is compared
_SLACK = 1e-9
_MOST_COMBINATIONS = 2_000_000


def evaluate(layers: Sequence[Layer], formats: Sequence[str], budget: Budget,
             weights: Mapping[str, float] | None = None) -> Assignment:
    """What a choice of formats, one for each layer, costs and errs."""
    chosen = [layer.by_format[name] for layer, name in zip(layers, formats, strict=True)]
    groups = {layer.group: 0.0 for layer in layers}
    for group in groups:
        groups[group] = math.fsum(choice.error for layer, choice in zip(layers, chosen, strict=True)
                                  if layer.group == group)
    error = math.fsum((weights or {}).get(group, 1.0) * value for group, value in groups.items())
    cost, pe = budget.cost(chosen)
    return Assignment(tuple(layer.name for layer in layers), tuple(formats), cost, error, groups, budget, pe)


def _allowed(layer: Layer) -> tuple[Choice, ...]:
    return (layer.by_format[layer.pinned],) if layer.pinned else layer.choices


def _within(found: Assignment, error_limits: Mapping[str, float]) -> bool:
    return found.cost <= found.budget.limit * (1 + _SLACK) and all(
        found.group_errors[group] <= limit * (1 + _SLACK) for group, limit in error_limits.items())


class _Program:
    """Binaries for (layer, format), with those for the formats in use where area is the budget."""

    def __init__(self, layers: Sequence[Layer], budget: Budget, weights: Mapping[str, float],
                 error_limits: Mapping[str, float]):
        self.layers, self.budget = layers, budget
        self.program = program = IntegerProgram()
        self.pick = {(number, choice.format): program.binary()
                     for number, layer in enumerate(layers) for choice in _allowed(layer)}
        for number, layer in enumerate(layers):
            program.row({self.pick[number, choice.format]: 1 for choice in _allowed(layer)}, 1, 1)
        self.errors = {column: weights.get(layers[number].group, 1.0) * layers[number].by_format[name].error
                       for (number, name), column in self.pick.items()}
        self.costs = self._area() if budget.kind == "area" else {
            column: layers[number].by_format[name].cost for (number, name), column in self.pick.items()}
        for group, limit in error_limits.items():
            scale = max(limit, 1e-300)
            terms = {column: layers[number].by_format[name].error / scale
                     for (number, name), column in self.pick.items() if layers[number].group == group}
            program.row({column: min(value, 10.0) for column, value in terms.items()}, high=limit / scale + _SLACK)

    def _area(self) -> dict[int, float]:
        """Columns whose cost is the area of the PE."""
        program, budget = self.program, self.budget
        names = sorted({name for _, name in self.pick})
        used = {name: program.binary() for name in names}
        for (_, name), column in self.pick.items():
            program.row({column: 1, used[name]: -1}, high=0)
        areas = {name: self.layers[number].by_format[name].cost for number, name in self.pick}
        if budget.sharing == "union":
            base = program.column(1, 1)
            return {base: budget.base_area, **{used[name]: areas[name] for name in names}}
        if budget.sharing == "max":
            scale = max(areas.values())
            largest = program.column(0, math.inf)
            for name in names:
                program.row({largest: 1, used[name]: -areas[name] / scale}, low=0)
            return {largest: scale}
        built = {pe: program.binary() for pe in budget.pes}
        program.row(dict.fromkeys(built.values(), 1.0), 1, 1)
        for name in names:
            able = {column: -1.0 for pe, column in built.items() if name in pe.formats}
            program.row({used[name]: 1, **able}, high=0)
        return {column: pe.area for pe, column in built.items()}

    def solve(self, objective: Mapping[int, float]) -> tuple[str, ...] | None:
        largest = max(map(abs, objective.values()), default=0.0) or 1.0
        self.program.set_costs({column: value / largest * _SCALE for column, value in objective.items()})
        solution = self.program.solve("assignment of formats")
        if solution.values is None:
            if not solution.infeasible:
                raise BitkilnError("the solver gave no answer", where="assign", exit_code=FAILED)
            return None
        return tuple(next(choice.format for choice in _allowed(layer) if solution.chosen(self.pick[n, choice.format]))
                     for n, layer in enumerate(self.layers))

    def limit(self, terms: Mapping[int, float], limit: float) -> None:
        """A row relative to its limit, so that the solver's tolerance is relative as well."""
        scale = max(abs(limit), max(map(abs, terms.values()), default=0.0) * 1e-3) or 1.0
        self.program.row({column: value / scale * 1e3 for column, value in terms.items()},
                         high=limit / scale * 1e3 * (1 + _SLACK))


def least_budget(layers: Sequence[Layer], budget: Budget, *,
                 error_limits: Mapping[str, float] | None = None) -> Assignment:
    """The cheapest assignment that there is, whatever the limit of ``budget``.

    Raises
    ------
    BitkilnError
        The limits of the groups' errors cannot be met at any cost.
    """
    check_layers(layers, budget, error_limits or {})
    program = _Program(layers, budget, {}, error_limits or {})
    formats = program.solve(program.costs)
    if formats is None:
        raise BitkilnError("no assignment keeps the limits", where="error_limits", got=dict(error_limits or {}),
                           expected="errors that some choice of formats reaches",
                           help="raise the limits, add PEs that support the formats, or unpin layers")
    return evaluate(layers, formats, budget)


def assign(layers: Sequence[Layer], budget: Budget, *, weights: Mapping[str, float] | None = None,
           error_limits: Mapping[str, float] | None = None) -> Assignment:
    """The least error within the budget; of equal errors the least cost.

    Parameters
    ----------
    layers : sequence of Layer
    budget : Budget
    weights : mapping of group to float, optional
        What a unit of a group's error counts; 1 by default.
    error_limits : mapping of group to float, optional
        Most error of a group.

    Returns
    -------
    Assignment
        No worse than `best_uniform` at the same budget; its error never rises with the budget.

    Raises
    ------
    BitkilnError
        Nothing fits: the message names the least budget that something fits in.
    """
    weights, error_limits = dict(weights or {}), dict(error_limits or {})
    check_layers(layers, budget, error_limits, weights)
    least = least_budget(layers, budget, error_limits=error_limits)
    if least.cost > budget.limit * (1 + _SLACK):
        raise BitkilnError("the budget is too small", where=f"budget.limit ({budget.kind})", got=budget.limit,
                           expected=f"{least.cost:g} {budget.unit} or more",
                           help=f"the cheapest assignment is {least.summary()}")
    program = _Program(layers, budget, weights, error_limits)
    program.limit(program.costs, budget.limit)
    formats = program.solve(program.errors)
    best = evaluate(layers, formats, budget, weights) if formats else None
    if best is None or not _within(best, error_limits):
        raise BitkilnError("the solver's answer breaks the budget", where="assign", exit_code=FAILED)
    program.limit(program.errors, best.error)
    cheaper = program.solve(program.costs)
    if cheaper is not None:
        other = evaluate(layers, cheaper, budget, weights)
        if other.error <= best.error * (1 + _SLACK) and other.cost < best.cost and _within(other, error_limits):
            best = other
    return best


def best_uniform(layers: Sequence[Layer], budget: Budget, *, weights: Mapping[str, float] | None = None,
                 error_limits: Mapping[str, float] | None = None) -> Assignment | None:
    """The best single format for all layers that are not pinned; None when none fits."""
    check_layers(layers, budget, error_limits or {}, weights or {})
    free = [layer for layer in layers if not layer.pinned]
    common = [name for name in (free or layers)[0].by_format if all(name in layer.by_format for layer in free)]
    found = [evaluate(layers, [layer.pinned or name for layer in layers], budget, weights) for name in common]
    fitting = [each for each in found if _within(each, error_limits or {})]
    return min(fitting, key=lambda each: (each.error, each.cost), default=None)


def brute_force(layers: Sequence[Layer], budget: Budget, *, weights: Mapping[str, float] | None = None,
                error_limits: Mapping[str, float] | None = None) -> Assignment | None:
    """All combinations one after the other: what `assign` is tested against. None when nothing fits."""
    from itertools import product
    check_layers(layers, budget, error_limits or {}, weights or {})
    options = [[choice.format for choice in _allowed(layer)] for layer in layers]
    if math.prod(map(len, options)) > _MOST_COMBINATIONS:
        raise BitkilnError("too many combinations", where="brute_force", got=math.prod(map(len, options)),
                           expected=f"{_MOST_COMBINATIONS} or fewer", help="use assign()")
    best = None
    for formats in product(*options):
        found = evaluate(layers, formats, budget, weights)
        if _within(found, error_limits or {}) and (best is None or
                                                   (found.error, found.cost) < (best.error, best.cost)):
            best = found
    return best


def frontier(layers: Sequence[Layer], budget: Budget, limits: Iterable[float], *,
             weights: Mapping[str, float] | None = None,
             error_limits: Mapping[str, float] | None = None) -> list[Assignment]:
    """One assignment for each limit that allows one, limits ascending; the limit of ``budget`` is not used.

    Raises
    ------
    BitkilnError
        All limits are too small.
    """
    limits = sorted(set(limits))
    least = least_budget(layers, budget, error_limits=error_limits).cost
    fitting = [limit for limit in limits if limit * (1 + _SLACK) >= least]
    if not fitting:
        raise BitkilnError("all budgets are too small", where="frontier", got=limits,
                           expected=f"one of {least:g} {budget.unit} or more")
    return [assign(layers, budget.with_limit(limit), weights=weights, error_limits=error_limits) for limit in fitting]
