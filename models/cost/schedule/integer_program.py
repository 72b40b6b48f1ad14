"""A mixed-integer linear program under names: rows and columns one at a time, solved by HiGHS through SciPy.

SciPy is imported by `IntegerProgram.solve` alone, so everything else here works without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import FAILED, MISSING_TOOL, BitkilnError

__all__ = ["IntegerProgram", "Solution"]

_INFEASIBLE = 2     # status of scipy.optimize.milp


@dataclass(frozen=True)
class Solution:
    """What the solver found.

    Attributes
    ----------
    values : ndarray or None
        A value for each column; None when no solution was found.
    bound : float
        No solution has a smaller objective than this.
    optimal : bool
        ``values`` is proven to be the best.
    infeasible : bool
        There is proven to be no solution.
    """

    values: np.ndarray | None
    bound: float
    optimal: bool
    infeasible: bool

    def chosen(self, column: int) -> bool:
        """A binary column is 1."""
        return self.values is not None and self.values[column] > 0.5


class IntegerProgram:
    """Minimise a linear objective under linear rows."""

    def __init__(self) -> None:
        self._low: list[float] = []
        self._high: list[float] = []
        self._integer: list[bool] = []
        self._objective: list[float] = []
        self._entries: tuple[list[float], list[int], list[int]] = ([], [], [])
        self._row_low: list[float] = []
        self._row_high: list[float] = []

    def column(self, low: float = 0.0, high: float = 1.0, *, integer: bool = False, cost: float = 0.0) -> int:
        """A variable from ``low`` to ``high`` with its objective coefficient; returns its index."""
        self._low.append(low)
        self._high.append(high)
        self._integer.append(integer)
        self._objective.append(cost)
        return len(self._low) - 1

    def binary(self, cost: float = 0.0) -> int:
        return self.column(integer=True, cost=cost)

    def make_integer(self, column: int) -> None:
        self._integer[column] = True

    def row(self, terms: Mapping[int, float], low: float = -math.inf, high: float = math.inf) -> int:
        """``low`` <= sum of coefficient * variable <= ``high``; returns the row's index."""
        values, rows, columns = self._entries
        for column, value in terms.items():
            values.append(value)
            rows.append(len(self._row_low))
            columns.append(column)
        self._row_low.append(low)
        self._row_high.append(high)
        return len(self._row_low) - 1

    def set_costs(self, costs: Mapping[int, float]) -> None:
        """Replaces the objective: columns not named cost nothing."""
        self._objective = [costs.get(column, 0.0) for column in range(len(self._low))]

    @property
    def costs(self) -> tuple[float, ...]:
        """The objective's coefficient of each column."""
        return tuple(self._objective)

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns, integer columns, rows."""
        return len(self._low), sum(self._integer), len(self._row_low)

    def solve(self, where: str, time_limit_s: float | None = None) -> Solution:
        """Solves to proven optimality, or as far as the time goes.

        Parameters
        ----------
        where : str
            What needs the solver, for the message when it is not installed.
        time_limit_s : float, optional

        Raises
        ------
        BitkilnError
            SciPy is not installed (exit 3), or the solver itself failed (exit 1).
        """
        try:
            from scipy.optimize import Bounds, LinearConstraint, milp
            from scipy.sparse import csr_array
        except ImportError:
            raise BitkilnError("integer programming needs SciPy", where=where,
                               help="pip install 'bitkiln[explore]'", exit_code=MISSING_TOOL) from None
        values, rows, columns = self._entries
        constraints = []
        if self._row_low:
            matrix = csr_array((values, (rows, columns)), shape=(len(self._row_low), len(self._low)))
            constraints.append(LinearConstraint(matrix, self._row_low, self._row_high))
        options = {"mip_rel_gap": 0.0}
        if time_limit_s is not None:
            options["time_limit"] = max(time_limit_s, 0.01)
        result = milp(np.array(self._objective), integrality=np.array(self._integer, dtype=int),
                      bounds=Bounds(self._low, self._high), constraints=constraints, options=options)
        if result.status not in (0, 1, _INFEASIBLE):
            raise BitkilnError("the solver failed", where=where, got=result.message, exit_code=FAILED)
        bound = result.mip_dual_bound if result.get("mip_dual_bound") is not None else -math.inf
        if result.status == 0 and not any(self._integer):
            bound = result.fun
        return Solution(result.x, float(bound), result.status == 0, result.status == _INFEASIBLE)
