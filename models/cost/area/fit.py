"""Linear cost models of non-negative parts, fitted to relative errors, with deviations of known kinds.

``cost = sum over counts of amount * coefficient``, each coefficient at least 0, so that a larger design never costs
less and the parts of a sum mean something. Where designs of one kind (a pair of formats, an output format) deviate from
what their structure predicts, a deviation of that kind is learned as a share of the parts it belongs to, shrunk towards
0: a design of a kind never seen gets none, and the wider interval of such designs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import MISSING_TOOL, BitkilnError

__all__ = ["Block", "LinearModel", "Prediction", "fit_linear", "relative_errors"]

NOISE = 0.01            # relative; what a deviation is shrunk against
RIDGE = 1e-3
ROUNDS = 4
REACH = 1.25            # beyond so many times the largest amount that was sampled, an interval is widened
QUANTILE = 0.95
Counts = dict[str, float]


@dataclass(frozen=True)
class Block:
    """A part of a design: what it is made of, and the kinds whose deviations it shares.

    Attributes
    ----------
    counts : dict of str to float
        ``component:kind of logic`` -> amount, of one copy.
    kinds : tuple of (str, float)
        Key of a kind (``pair int8xfp4``) and how large its deviation is expected to be, as a share.
    copies : int
        How many a design has: more of the same is less of a surprise than something larger.
    """

    counts: Counts
    kinds: tuple[tuple[str, float], ...] = ()
    copies: int = 1


@dataclass(frozen=True)
class Prediction:
    """A cost with its interval.

    Attributes
    ----------
    value, low, high : float
        ``low`` to ``high`` holds 95 of 100 designs like the ones that were held back; what is larger than among the
        fitted designs adds its own, wider share.
    parts : dict of str to float
        By component; their sum is ``value``.
    known : bool
        All its kinds were among the fitted designs, and no amount is far beyond theirs.
    """

    value: float
    low: float
    high: float
    parts: dict[str, float]
    known: bool


@dataclass(frozen=True)
class LinearModel:
    """Fitted coefficients.

    Attributes
    ----------
    coefficients : dict of str to float
        Count -> cost of one.
    deviations : dict of str to float
        Kind -> share.
    largest : dict of str to float
        Count -> largest amount among the fitted designs, copies not counted.
    error_known, error_new : float
        Relative errors that 95 of 100 held-back designs stay below, of known kinds and of kinds never fitted.
    copies : int
        Most copies of a part among the fitted designs; with more than so many, the whole interval widens.
    """

    coefficients: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)
    error_known: float = 0.0
    error_new: float = 0.0
    copies: int = 1

    def unknown(self, blocks: Sequence[Block]) -> list[str]:
        """Counts of a design that no fitted one had."""
        return sorted({name for block in blocks for name in block.counts if name not in self.coefficients})

    def predict(self, blocks: Sequence[Block]) -> Prediction | None:
        """Cost of a design; None where it has a part that no fitted design had."""
        if self.unknown(blocks):
            return None
        parts: dict[str, float] = {}
        costs: Counts = {}
        amounts: Counts = {}
        known = all(key in self.deviations for block in blocks for key, _ in block.kinds)
        for block in blocks:
            factor = max(1.0 + sum(self.deviations.get(key, 0.0) for key, _ in block.kinds), 0.0) * block.copies
            for name, amount in block.counts.items():
                costs[name] = costs.get(name, 0.0) + amount * self.coefficients[name] * factor
                amounts[name] = amounts.get(name, 0.0) + amount
        seen = self.error_known if known else self.error_new
        furthest = max((block.copies for block in blocks), default=1) / self.copies / REACH
        spread, wider = 0.0, max(1.0, furthest) ** 0.5
        for name, cost in costs.items():
            component, largest = name.split(":")[0], self.largest.get(name)
            parts[component] = parts.get(component, 0.0) + cost
            over = amounts[name] / largest / REACH if largest else 0.0
            spread += cost * (seen if over <= 1 else self.error_new * over)
            furthest = max(furthest, over)
        value = sum(parts.values())
        spread *= wider
        return Prediction(value, max(value - spread, 0.0), value + spread, parts, known and furthest <= 1)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"coefficients": {name: _short(value) for name, value in sorted(self.coefficients.items())},
                "deviations": {name: _short(value) for name, value in sorted(self.deviations.items())},
                "largest": {name: _short(value) for name, value in sorted(self.largest.items())},
                "error_known": _short(self.error_known), "error_new": _short(self.error_new), "copies": self.copies}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LinearModel:
        return cls(**data)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _solver() -> Callable[..., Any]:
    try:
        from scipy.optimize import nnls
    except ImportError:
        raise BitkilnError("SciPy is not installed", where="fitting a cost model", exit_code=MISSING_TOOL,
                           help="pip install 'bitkiln[explore]'") from None
    return nnls


def _non_negative(rows: np.ndarray, wanted: np.ndarray, ridge: np.ndarray) -> np.ndarray:
    # Of the triangle alone: the same minimum, and no more rows than columns.
    triangle = np.linalg.qr(np.column_stack([np.vstack([rows, np.diag(ridge)]),
                                             np.concatenate([wanted, np.zeros(len(ridge))])]), mode="r")
    solution, _ = _solver()(triangle[:, :-1], triangle[:, -1], maxiter=50 * len(ridge))
    return solution


def _with_shares(rows: np.ndarray, columns: np.ndarray, wanted: np.ndarray, ridge: np.ndarray, weight: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative coefficients of ``rows`` and free ones of ``columns``, which are projected out first."""
    free = np.vstack([columns, np.diag(weight)])
    below = np.zeros((len(weight), rows.shape[1]))
    rows, wanted = np.vstack([rows, below]), np.concatenate([wanted, np.zeros(len(weight))])
    basis, triangle = np.linalg.qr(free)
    coefficients = _non_negative(rows - basis @ (basis.T @ rows), wanted - basis @ (basis.T @ wanted), ridge)
    return coefficients, np.linalg.solve(triangle, basis.T @ (wanted - rows @ coefficients))


def fit_linear(designs: Sequence[Sequence[Block]], costs: Sequence[float], floor: float = 10.0) -> LinearModel:
    """Fit coefficients and deviations.

    Parameters
    ----------
    designs : sequence of sequences of Block
    costs : sequence of float
    floor : float
        Errors count relative to the cost, or to so much of very small designs.

    Raises
    ------
    BitkilnError
        Exit code 3 without SciPy.
    """
    names = sorted({name for blocks in designs for block in blocks for name in block.counts})
    place = {name: j for j, name in enumerate(names)}
    wanted = np.asarray(costs, np.float64)
    scale = np.hypot(wanted, floor)
    spreads = {key: spread for blocks in designs for block in blocks for key, spread in block.kinds}
    keys = sorted(spreads)
    # Blocks of one design and the same kinds, as rows of one matrix.
    owner, kinds, rows, copies = [], [], [], []
    for i, blocks in enumerate(designs):
        for block in blocks:
            row = np.zeros(len(names))
            for name, amount in block.counts.items():
                row[place[name]] = amount
            owner.append(i)
            kinds.append([keys.index(key) for key, _ in block.kinds])
            rows.append(row)
            copies.append(block.copies)
    blocks_of, one = np.array(owner), np.array(rows)
    amounts = one * np.array(copies)[:, None]
    member = np.zeros((len(rows), len(keys)))
    for i, mine in enumerate(kinds):
        member[i, mine] = 1.0
    total, single = np.zeros((2, len(designs), len(names)))
    np.add.at(total, blocks_of, amounts)
    np.add.at(single, blocks_of, one)
    ridge = RIDGE * (total.std(0) + total.mean(0) + 1e-9) / np.median(scale)
    coefficients = _non_negative(total / scale[:, None], wanted / scale, ridge)
    shares = np.zeros(len(keys))
    if keys:
        weight = NOISE / np.array([spreads[key] for key in keys])
        for _ in range(ROUNDS):
            # Both at once, around the last ones: costs are linear in each. Shares may be negative.
            parts = amounts @ coefficients
            weighted, column = np.zeros_like(total), np.zeros((len(designs), len(keys)))
            np.add.at(weighted, blocks_of, amounts * (1 + member @ shares)[:, None])
            np.add.at(column, blocks_of, parts[:, None] * member)
            coefficients, shares = _with_shares(weighted / scale[:, None], column / scale[:, None],
                                                (wanted + column @ shares) / scale, ridge, weight)
    return LinearModel(dict(zip(names, coefficients.tolist(), strict=True)),
                       dict(zip(keys, shares.tolist(), strict=True)),
                       dict(zip(names, single.max(0).tolist(), strict=True)), copies=max(copies))


def relative_errors(predicted: Sequence[float], measured: Sequence[float]) -> dict[str, float]:
    """Mean, 95 % quantile and worst of ``|predicted - measured| / measured``, and how many there are."""
    found = np.abs(np.asarray(predicted) - np.asarray(measured)) / np.asarray(measured)
    if not len(found):
        return {"designs": 0, "mean": 0.0, "p95": 0.0, "worst": 0.0}
    return {"designs": len(found), "mean": float(found.mean()), "p95": float(np.quantile(found, QUANTILE)),
            "worst": float(found.max())}
