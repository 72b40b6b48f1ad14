# amaranth: UnusedElaboratable=no
"""Multiplexer stages whose choices are coded: two data sources and two fills are one LUT4 a bit.

Outputs that choose alike share their controls. With ``k = (k0, k1)`` an output of two sources is::

    t = k0 ? (k1 ? d1 : d0) : k1          the four states d0, d1, 0, 1

so that a sign or any other fill is a state and no third source. Two more sources take one more LUT4 and one more
control::

    y = k2 ? (t ? d3 : d2) : t            k2 with t = 0 or 1 as the select
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from amaranth.hdl import Const, Module, Mux, Value
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import Part

__all__ = ["Case", "Route", "View", "ZERO", "route"]

Case = tuple[str, int]        # view, value of its select
Route = dict[Case, Hashable]  # -> ("x", input) or ("fill", name); absent cases never matter
ZERO = "zero"                 # the fill that is no signal


@dataclass(frozen=True)
class View:
    """One way to see the stage: what it selects by.

    Attributes
    ----------
    name : str
    select : str
        Name of the select input.
    flag : str
        Name of the input that is 1 while the view holds; empty for the view that holds otherwise.
    """

    name: str
    select: str
    flag: str


class _Group:
    """Outputs with the same choice."""

    def __init__(self, roles: dict[Case, Hashable], sources: int):
        self.roles, self.sources, self.members = roles, sources, []

    def accepts(self, roles: dict[Case, Hashable], sources: int) -> bool:
        return sources == self.sources and all(self.roles.get(case, role) == role for case, role in roles.items())


def _groups(routes: dict[int, Route]) -> list[_Group]:
    groups: list[_Group] = []
    for p in sorted(routes):
        inputs = sorted({source[1] for source in routes[p].values() if source[0] == "x"}, reverse=True)
        place = {("x", x): index for index, x in enumerate(inputs)}
        roles = {case: place.get(source, source) for case, source in routes[p].items()}
        group = next((g for g in groups if g.accepts(roles, len(inputs))), None)
        if group is None:
            group = _Group({}, len(inputs))
            groups.append(group)
        group.roles.update(roles)
        group.members.append((p, inputs))
    return groups


class RouteControl(Part):
    """Controls of all groups of a stage from selects, flags and fills."""

    def __init__(self, label: str, views: tuple[View, ...], ports: dict[str, int], wanted: list, keep: bool):
        self.views, self.ports, self.wanted = views, ports, wanted
        members = {name: In(width) for name, width in ports.items()}
        super().__init__({**members, "k": Out(max(1, len(wanted)))}, label, keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        for at, table in enumerate(self.wanted):
            m.d.comb += self.k[at].eq(self._value(table))
        return m

    def _value(self, table: dict[Case, Hashable]) -> Value:
        result: Value | None = None
        # The view without a flag comes last in the chain: it holds where no other does.
        for view in sorted(self.views, key=lambda view: bool(view.flag)):
            mine = {k: value for (name, k), value in table.items() if name == view.name}
            if not mine:
                continue
            select = getattr(self, view.select)
            level: list = [mine.get(k) for k in range(1 << len(select))]
            for bit in range(len(select)):
                pairs = list(zip(level[::2], level[1::2], strict=True))
                level = [low if high is None or low == high else high if low is None else (bit, low, high)
                         for low, high in pairs]
            value = self._tree(level[0], select)
            result = value if result is None else Mux(getattr(self, view.flag), value, result) if view.flag else value
        return Const(0, 1) if result is None else result

    def _tree(self, node, select: Value) -> Value:
        if isinstance(node, tuple) and isinstance(node[0], int):
            return Mux(select[node[0]], self._tree(node[2], select), self._tree(node[1], select))
        if isinstance(node, tuple):
            return Const(0, 1) if node[1] == ZERO else getattr(self, node[1])
        return Const(int(node), 1)


class RouteStage(Part):
    """The multiplexers: ``plan`` lists (output, inputs, controls, whether a fill is possible)."""

    def __init__(self, label: str, width: int, controls: int, plan: list, outputs: int, keep: bool):
        self.plan = plan
        super().__init__({"x": In(width), "k": In(max(1, controls)), "y": Out(outputs)}, label, keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        for p, inputs, controls in self.plan:
            d = [self.x[i] for i in inputs]
            k = [None if c is None else self.k[c] for c in controls]
            m.d.comb += self.y[p].eq(_chosen(d, k))
        return m


def _chosen(d: list[Value], k: list[Value | None]) -> Value:
    """``k`` = (hit, pick, more ...); hit is None where there is no fill."""
    if not d:
        return k[1]
    if len(d) == 1:
        return d[0] if k[0] is None else Mux(k[0], d[0], k[1])
    t = Mux(k[1], d[1], d[0])
    if k[0] is not None:
        t = Mux(k[0], t, k[1])
    for more, at in zip(k[2:], range(2, len(d), 2), strict=True):
        t = Mux(more, Mux(t, d[at + 1], d[at]) if at + 1 < len(d) else d[at], t)
    return t


def _controls(group: _Group) -> list[dict[Case, Hashable] | None]:
    """Truth table of each control of a group: case -> 0, 1 or ("fill", name); None for a control that is not needed."""
    n, filled = group.sources, any(isinstance(role, tuple) for role in group.roles.values())
    count = 2 + max(0, (n - 1) // 2)
    tables: list[dict[Case, Hashable]] = [{} for _ in range(count)]
    for case, role in group.roles.items():
        if isinstance(role, tuple):
            row: list = [0, role, *[0] * (count - 2)]
        elif role < 2:
            row = [1, role, *[0] * (count - 2)]
            if n == 1:
                row[1] = None
        else:
            row = [0, role % 2, *[int(role // 2 == at) for at in range(1, count - 1)]]
        for table, value in zip(tables, row, strict=True):
            if value is not None:
                table[case] = value
    out: list[dict | None] = list(tables)
    if not filled and n <= 2:
        out[0] = None
        if n == 1:
            out[1] = None
    elif n == 0:
        out[0] = None
    return out


def route(m: Module, name: str, label: str, routes: dict[int, Route], x: Value, views: tuple[View, ...],
          signals: dict[str, Value], keep: bool = True, keep_stage: bool | None = None) -> dict[int, Value]:
    """Add one stage to ``m``.

    Parameters
    ----------
    label : str
        Module name of the stage; carries everything that decides its content.
    routes : dict
        Output -> its choice.
    x : Value
        Inputs.
    signals : dict
        Selects, flags and fills by name.

    Returns
    -------
    dict of output to its one-bit value
    """
    wanted: list[dict] = []
    plan, out = [], {}

    def control(table: dict | None) -> int | None:
        if table is None:
            return None
        if table not in wanted:
            wanted.append(table)
        return wanted.index(table)

    for group in _groups(routes):
        tables = _controls(group)
        if group.sources == 1 and tables[0] is None:
            out.update({p: x[inputs[0]] for p, inputs in group.members})
            continue
        controls = [control(table) for table in tables]
        plan += [(p, inputs, controls) for p, inputs in group.members]
    if not plan:
        return out
    seen = {name for choice in routes.values() for name, _ in choice}
    views = tuple(view for view in views if view.name in seen)
    used = {view.select: len(signals[view.select]) for view in views}
    used.update({view.flag: 1 for view in views if view.flag})
    used.update({source[1]: 1 for choice in routes.values() for source in choice.values()
                 if source[0] == "fill" and source[1] != ZERO})
    m.submodules[f"{name}_control"] = control_part = shared(RouteControl(f"{label}_control", views, used, wanted, keep))
    for port in used:
        m.d.comb += getattr(control_part, port).eq(signals[port])
    width = max(p for p, _, _ in plan) + 1
    stage = shared(RouteStage(label, len(x), len(wanted), sorted(plan), width,
                              keep if keep_stage is None else keep_stage))
    m.submodules[name] = stage
    m.d.comb += [stage.x.eq(x), stage.k.eq(control_part.k)]
    out.update({p: stage.y[p] for p, _, _ in plan})
    return out
