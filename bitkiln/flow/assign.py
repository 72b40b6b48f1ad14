"""``bitkiln assign``: a mode for each layer of a network, under a budget of cycles, bytes or area.

`models.cost.schedule.assign` chooses by the errors and costs of `assign_problem`; the choice is then run by the golden
model, beside every uniform one that fits the same budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..models.cost.schedule.assign import Assignment, Budget, Layer, assign, best_uniform, frontier, least_budget
from ..models.design import Mode
from ..models.errors import FAILED, BitkilnError
from ..models.workloads.accuracy import NETWORKS, Accuracy
from ..models.workloads.sensitivity import MEASURE
from .assign_problem import Problem, core_area

__all__ = ["SCHEMA", "assign_network", "equal_width", "layers_yaml"]

SCHEMA = "bitkiln.assign/1"
_SLACK = 1e-9


def assign_network(problem: Problem, limit: float, *, points: int = 0,
                   progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Choose, verify and compare.

    Parameters
    ----------
    problem : Problem
    limit : float
        Of the budget.
    points : int
        Of the frontier; 0 for none.

    Returns
    -------
    dict
        Schema ``bitkiln.assign/1``. The chosen assignment's measured NMSE is no higher than that of any uniform one
        within the budget: where the sum over layers was wrong enough to pick a worse one, the uniform one is taken.

    Raises
    ------
    BitkilnError
        Nothing fits the budget: the message names the least that something fits in.
    """
    layers, budget = problem.layers, problem.budget(limit)
    solved = assign(layers, budget)
    uniform = best_uniform(layers, budget)
    if uniform is not None and solved.error > uniform.error * (1 + _SLACK):
        raise BitkilnError("worse than a uniform format", where="assign", got=solved.error,
                           expected=f"at most {uniform.error:g}", exit_code=FAILED)
    progress("verifying with the golden model")
    fitting = [found for mode in problem.modes if (found := _uniform(problem, budget, mode)) is not None]
    best = min(fitting, key=lambda each: (problem.nmse(each), each.cost), default=None)
    chosen, by = solved, "integer program"
    if best is not None and problem.nmse(best) < problem.nmse(solved):
        chosen, by = best, "uniform: measured better than the integer program's choice"
    subject = problem.subject
    facts = {
        "schema": SCHEMA, "network": subject.name, "data": subject.data, "measure": MEASURE,
        "core": {"modes": list(problem.modes), "config": problem.core.resolve(problem.modes).config},
        "budget": {"kind": problem.kind, "limit": limit, "unit": problem.unit, "source": problem.source},
        "layers": [{"name": layer.name, "choices": [
            {"mode": choice.format, "cost": None if problem.kind == "area" else choice.cost,
             "nmse": problem.sensitivities.single[layer.name][choice.format]} for choice in layer.choices]}
            for layer in layers],
        "areas": dict(problem.areas), "best_everywhere": problem.sensitivities.best,
        "chosen_by": by, "chosen": _facts(problem, chosen, True),
        "integer_program": _facts(problem, solved, chosen is solved),
        "best_uniform": None if best is None else _facts(problem, best, True),
        "float": _accuracy(subject.float_accuracy),
        "equal_width": equal_width(problem),
        "frontier": [_facts(problem, each, False) for each in _frontier(problem, points)] if points else [],
        "units": {"nmse": "squared error over squared scores, 1", "accuracy": "share, 0..1", "cost": problem.unit},
        "runs": 0,
    }
    return facts | {"runs": problem.scorer.runs}


def _uniform(problem: Problem, budget: Budget, mode: str) -> Assignment | None:
    only = tuple(Layer(layer.name, (layer.by_format[mode],)) for layer in problem.layers)
    return best_uniform(only, budget)


def _accuracy(found: Accuracy) -> dict[str, Any]:
    return {"value": found.value, "right": found.right, "total": found.total, "what": found.what,
            "interval": list(found.interval)}


def _facts(problem: Problem, found: Assignment, accuracy: bool) -> dict[str, Any]:
    """One assignment; accuracy is counted on the core with all modes."""
    modes = found.as_dict()
    return {"modes": modes, "cost": found.cost, "core": found.pe,
            "nmse": {"predicted": problem.sensitivities.predicted(modes), "measured": problem.nmse(found)},
            "accuracy": _accuracy(problem.subject.accuracy(modes, problem.scorer.design)) if accuracy else None}


def _frontier(problem: Problem, points: int) -> list[Assignment]:
    """Assignments from the cheapest to the one that no larger budget improves, each once."""
    least = least_budget(problem.layers, problem.budget(0.0)).cost
    if problem.kind == "area":
        limits = sorted({pe.area for pe in problem.pes})
        step = max(1, -(-len(limits) // points))
        limits = limits[::-1][::step]
    else:
        most = assign(problem.layers, problem.budget(sum(
            max(choice.cost for choice in layer.choices) for layer in problem.layers))).cost
        limits = [least + (most - least) * number / max(points - 1, 1) for number in range(points)]
    found = frontier(problem.layers, problem.budget(0.0), limits)
    return list({each.formats: each for each in found}.values())


# Integer or float of one width (MoFQ) ----------------------------------------------------------------


def _family(mode: Mode) -> str:
    families = {mode.activation.family, mode.weight.family}
    return families.pop() if len(families) == 1 else "mixed"


def equal_width(problem: Problem) -> list[dict[str, Any]]:
    """Where modes of one width, an integer and a float one, are candidates: the better one of each layer.

    Nothing is paid for the choice in bytes or lanes (MoFQ, arXiv 2305.12356), but a core with both is larger than one
    with either: ``areas`` of the three.
    """
    by_width: dict[tuple[int, int], dict[str, str]] = {}
    for name in problem.modes:
        mode = Mode.of(name)
        family = _family(mode)
        if family in ("int", "minifloat"):
            by_width.setdefault((mode.activation.bits, mode.weight.bits), {}).setdefault(family, name)
    found = []
    for (activation, weight), modes in by_width.items():
        if len(modes) < 2:
            continue
        pair = tuple(name for name in problem.modes if name in modes.values())
        single = problem.sensitivities.single
        better = {layer: min(pair, key=lambda mode: errors[mode]) for layer, errors in single.items()}
        areas = {"+".join(chosen): core_area(problem.core, chosen, problem.tech) for chosen in (*zip(pair), pair)}
        found.append({"bits": [activation, weight], "modes": list(pair), "better": better,
                      "nmse": {layer: {mode: single[layer][mode] for mode in pair} for layer in single},
                      "mixed": len(set(better.values())) > 1, "areas": areas})
    return found


def layers_yaml(facts: Mapping[str, Any], command: str) -> str:
    """The chosen modes as a file for ``bitkiln run --layers``."""
    chosen = facts["chosen"]
    names = list(chosen["modes"])
    short = [name.rpartition(".")[2] for name in names]
    if len(set(short)) < len(short) or facts["network"] not in NETWORKS:
        short = names
    lines = [f"# {command}", f"# {chosen['cost']:g} {facts['budget']['unit']}, NMSE {chosen['nmse']['measured']:.3g}, "
             f"accuracy {chosen['accuracy']['value']:.4f}"]
    width = max(map(len, short))
    lines += [f"{name if name.replace('_', '').isalnum() else json.dumps(name)}:{' ' * (width - len(name) + 1)}{mode}"
              for name, mode in zip(short, chosen["modes"].values(), strict=True)]
    return "\n".join(lines) + "\n"
