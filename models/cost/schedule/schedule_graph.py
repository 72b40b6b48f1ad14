"""Operators and tensors that share one scratchpad.

An operator runs in one step, in which all its inputs and outputs lie on the chip. Tensors that no operator makes
(inputs, weights) start off the chip; results end there. Tensors never change once made, so a copy off the chip stays
good and dropping a tensor that has one costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ...errors import BitkilnError, nearest

__all__ = ["Graph", "Operator"]


@dataclass(frozen=True)
class Operator:
    """One step of work.

    Attributes
    ----------
    name : str
    inputs, outputs : tuple of str
        Names of tensors; weights are inputs.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """What lies on the chip while it runs."""
        return tuple(dict.fromkeys((*self.inputs, *self.outputs)))


@dataclass(frozen=True)
class Graph:
    """A directed acyclic graph of operators.

    Attributes
    ----------
    operators : tuple of Operator
        In an order that can be run: what makes a tensor comes before what reads it.
    sizes : mapping of str to int
        Bytes of each tensor, 1 or more.
    results : tuple of str
        Tensors that must be off the chip at the end; by default (None given to `Graph.build`) those that are made and
        never read.
    """

    operators: tuple[Operator, ...]
    sizes: Mapping[str, int]
    results: tuple[str, ...]

    @classmethod
    def build(cls, operators: Iterable[Operator], sizes: Mapping[str, int],
              results: Iterable[str] | None = None) -> Graph:
        """With the default results."""
        operators = tuple(operators)
        if results is None:
            read = {name for operator in operators for name in operator.inputs}
            results = [name for operator in operators for name in operator.outputs if name not in read]
        return cls(operators, dict(sizes), tuple(results))

    def __post_init__(self) -> None:
        if not self.operators:
            raise BitkilnError("no operators", where="graph.operators", expected="one or more")
        names = [operator.name for operator in self.operators]
        for name in names:
            if names.count(name) > 1:
                raise BitkilnError("operator named twice", where="graph.operators", got=name, expected="unique names")
        for name, size in self.sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise BitkilnError("bad size of a tensor", where=f"graph.sizes.{name}", got=size,
                                   expected="bytes, an integer of 1 or more")
        self._check_order()
        for name in self.results:
            if name not in self.maker:
                raise BitkilnError("a result that no operator makes", where="graph.results", got=name,
                                   expected="an output of an operator", help=nearest(name, self.maker))

    def _check_order(self) -> None:
        makers = {name for operator in self.operators for name in operator.outputs}
        made: set[str] = set()
        for operator in self.operators:
            where = f"graph.operators.{operator.name}"
            for name in operator.tensors:
                if name not in self.sizes:
                    raise BitkilnError("unknown tensor", where=where, got=name, expected="a name in graph.sizes",
                                       help=nearest(name, self.sizes))
            for name in operator.inputs:
                if name in makers and name not in made:
                    raise BitkilnError("read before it is made", where=where, got=name,
                                       expected="operators in an order that can be run, without cycles")
            for name in operator.outputs:
                if name in made:
                    raise BitkilnError("made twice", where=where, got=name, expected="one operator for each tensor")
                made.add(name)
            if not operator.outputs:
                raise BitkilnError("operator without outputs", where=where, expected="one or more")

    @cached_property
    def maker(self) -> dict[str, Operator]:
        """The operator that makes a tensor; tensors that come from off the chip are not in it."""
        return {name: operator for operator in self.operators for name in operator.outputs}

    @cached_property
    def readers(self) -> dict[str, tuple[str, ...]]:
        """Names of the operators that read a tensor, in the graph's order."""
        found: dict[str, list[str]] = {name: [] for name in self.sizes}
        for operator in self.operators:
            for name in dict.fromkeys(operator.inputs):
                found[name].append(operator.name)
        return {name: tuple(readers) for name, readers in found.items()}

    @cached_property
    def by_name(self) -> dict[str, Operator]:
        return {operator.name: operator for operator in self.operators}

    @cached_property
    def before(self) -> dict[str, frozenset[str]]:
        """All operators that must have run before an operator."""
        found: dict[str, frozenset[str]] = {}
        for operator in self.operators:
            direct = {self.maker[name].name for name in operator.inputs if name in self.maker}
            found[operator.name] = frozenset(direct).union(*(found[name] for name in direct))
        return found

    @property
    def least_capacity(self) -> int:
        """Bytes below which some operator cannot run."""
        return max(self.working_set(operator.name) for operator in self.operators)

    def working_set(self, name: str) -> int:
        """Bytes that lie on the chip at least while an operator runs."""
        return sum(self.sizes[tensor] for tensor in self.by_name[name].tensors)

    @property
    def compulsory_bytes(self) -> int:
        """What any plan moves: every input that is read comes in once, every result goes out once."""
        loads = sum(size for name, size in self.sizes.items() if name not in self.maker and self.readers[name])
        return loads + sum(self.sizes[name] for name in set(self.results))

    def check_capacity(self, capacity: int) -> None:
        """Refuses a scratchpad too small for one of the operators.

        Raises
        ------
        BitkilnError
            Naming the operator and what it needs.
        """
        if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
            raise BitkilnError("bad capacity", where="capacity", got=capacity, expected="bytes, 1 or more")
        worst = max(self.operators, key=lambda operator: self.working_set(operator.name))
        if self.working_set(worst.name) > capacity:
            raise BitkilnError("the scratchpad is too small", where=f"operator {worst.name}", got=f"{capacity} bytes",
                               expected=f"{self.working_set(worst.name)} or more",
                               help="split the operator into tiles, or take a larger scratchpad")
