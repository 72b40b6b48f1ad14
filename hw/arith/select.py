"""Networks of multiplexers that share what they can.

Many outputs choose by one code among few sources (accumulator bits, constants). Stage by stage, first stage on the
code's low bits, a sub-choice that another output needs too is built once; codes that an output never sees are
don't-cares, which lets sub-choices merge. For a rounding stage this network *is* the normalising shifter.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from amaranth.hdl import Const, Module, Mux, Signal, Value

__all__ = ["select_network"]

Source = Hashable
Choice = dict[int, Source]  # code -> source; absent codes are don't-cares


def _merge(choices: list[Choice]) -> tuple[list[Choice], list[int]]:
    """Choices that agree wherever both care become one: the merged choices and the place of each given one."""
    pool: list[Choice] = []
    places = []
    for choice in choices:
        best, most = None, 0
        for at, other in enumerate(pool):
            common = [code for code in choice if code in other]
            if len(common) > most and all(other[code] == choice[code] for code in common):
                best, most = at, len(common)
        if best is None:
            best = len(pool)
            pool.append({})
        pool[best].update(choice)
        places.append(best)
    return pool, places


def _plan(choices: list[Choice], groups: list[int]) -> list[list[dict[int, tuple]]]:
    """Nodes of each stage, first to last: select digit -> ("source", s) or ("node", index in the stage before)."""
    stages: list[list[dict[int, tuple]]] = []
    for stage in range(len(groups) - 1, -1, -1):
        step = 1 << sum(groups[:stage])
        nodes: list[dict[int, tuple]] = []
        parts: list[Choice] = []  # what the stage before has to choose
        users: list[tuple[dict[int, tuple], int]] = []
        for choice in choices:
            node: dict[int, tuple] = {}
            digits: dict[int, Choice] = {}
            for code, source in choice.items():
                digits.setdefault(code // step, {})[code % step] = source
            for digit, part in digits.items():
                if stage == 0 or len(set(part.values())) == 1:
                    node[digit] = ("source", next(iter(part.values())))
                else:
                    parts.append(part)
                    users.append((node, digit))
            nodes.append(node)
        choices, places = _merge(parts)
        for (node, digit), place in zip(users, places, strict=True):
            node[digit] = ("node", place)
        stages.insert(0, nodes)
    return stages


def _multiplexer(options: list[Value | None], select: Value) -> Value | None:
    """Binary tree; None is a don't-care."""
    for bit in select:
        pairs = zip(options[::2], options[1::2], strict=True)
        options = [high if low is None else low if high is None or high is low else Mux(bit, high, low)
                   for low, high in pairs]
    return options[0]


def select_network(m: Module, name: str, rows: dict[Hashable, Choice], select: Value, groups: list[int],
                   value_of: Callable[[Source], Value]) -> dict[Hashable, Value]:
    """Add the multiplexers of ``rows`` (output name -> {value of ``select``: source}) to ``m``.

    Parameters
    ----------
    groups : list of int
        Bits of ``select`` of each stage, low ones first.
    value_of : callable
        The one-bit signal of a source.

    Returns
    -------
    dict of output name to its one-bit value
    """
    choices, places = _merge(list(rows.values()))
    sources: dict[Source, Value] = {}
    before, at = Value.cast(Const(0, 1)), 0
    for stage, (nodes, group) in enumerate(zip(_plan(choices, groups), groups, strict=True)):
        outputs = Signal(max(len(nodes), 1), name=f"{name}{stage}")
        taps = list(before)
        for i, node in enumerate(nodes):
            for kind, source in node.values():
                if kind == "source" and source not in sources:
                    sources[source] = value_of(source)
            options = [None if digit not in node else sources[node[digit][1]] if node[digit][0] == "source"
                       else taps[node[digit][1]] for digit in range(1 << group)]
            chosen = _multiplexer(options, select[at:at + group])
            if chosen is not None:
                m.d.comb += outputs[i].eq(chosen)
        before, at = outputs, at + group
    return {row: before[place] for row, place in zip(rows, places, strict=True)}
