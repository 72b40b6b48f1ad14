# amaranth: UnusedElaboratable=no
"""Product alignment: ``product * 2**shift`` as a signed fixed-point number, pruned by what can occur.

The set of reachable (shift, product) pairs of two formats is known: large shifts come with few live bits,
some sums of exponents never occur. A multiplexer input that no pair of codes can need is left out.
Source of the idea: significands stay un-normalised in the decoders, so the shifter sees short products.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..emit import shared
from .cells import Part, ripple

__all__ = ["ShiftSum", "SignedShifter", "UnsignedShifter"]

FINE = 3  # places of the fine shifter: blocks of 8, so that a window has two sources for most outputs


class ShiftSum(wiring.Component):
    """``total = a + b``, plus one for each operand whose ``normal`` flag is 0 (field 0 weighs like field 1).

    ``chain`` takes one carry chain with the first correction as carry-in; otherwise a ripple of LUTs, which
    absorbs the corrections into its lowest cells.
    """

    def __init__(self, a_bits: int, b_bits: int, corrections: tuple[bool, bool], total_bits: int, chain: bool,
                 keep: bool = True):
        self.a_bits, self.b_bits, self.corrections = a_bits, b_bits, corrections
        self.total_bits, self.chain, self.keep = total_bits, chain, keep
        self.keep_hierarchy = keep
        members = {"a": In(a_bits), "b": In(b_bits), "total": Out(total_bits)}
        for name, wanted in zip(("a_normal", "b_normal"), corrections, strict=True):
            if wanted:
                members[name] = In(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        marks = "".join("n" if c else "" for c in self.corrections)
        name = f"shift_sum_{self.a_bits}_{self.b_bits}_{self.total_bits}{marks}"
        return name + ("_chain" if self.chain else "") + ("" if self.keep else "_flat")

    def elaborate(self, platform) -> Module:
        m = Module()
        a, b = list(self.a), list(self.b)
        if self.corrections[1]:
            b[0] = b[0] | ~self.b_normal  # the field is 0 then
        if self.chain:
            first = ~self.a_normal if self.corrections[0] else Const(0, 1)
            m.d.comb += self.total.eq(self.a + Cat(*b) + first)
            return m
        if self.corrections[0]:
            a[0] = a[0] | ~self.a_normal
        m.d.comb += self.total.eq(Cat(*ripple(m, "add", a, b, self.keep)))
        return m


class FineStage(Part):
    """One two-way stage: every output one LUT4.

    ``ops[j]``: which of (kept while select is 0, while 1, moved while 0, while 1) can be live. ``gates[i]``: input i
    still waits for the select of the stage before. ``raw``: outputs whose gating waits for the next stage.
    """

    def __init__(self, label: str, gates: list, distance: int, ops: list, last: bool, raw: dict, keep: bool):
        self.gates, self.distance, self.ops, self.last, self.raw = gates, distance, ops, last, raw
        super().__init__({"x": In(len(gates)), "select": In(1), "before": In(1), "sign": In(1), "y": Out(len(ops))},
                         label, keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        select = self.select
        x = [bit if gate is None else bit & (self.before if gate else ~self.before)
             for bit, gate in zip(self.x, self.gates, strict=True)]
        out: list[Value] = []
        for j, (kept0, kept1, moved0, moved1) in enumerate(self.ops):
            kept = x[j] if kept0 else None
            moved = x[j - self.distance] if moved1 else None
            if j in self.raw:
                y = moved if kept is None else kept
            elif kept is None and moved is None:
                y = Const(0, 1)
            elif moved is None:
                y = kept & ~select if kept1 else kept
            elif kept is None:
                y = moved & select if moved0 else moved
            elif kept1 and moved0:
                y = Mux(select, moved, kept)
            else:
                y = (kept & ~select if kept1 else kept) | (moved & select if moved0 else moved)
            out.append(y ^ self.sign if self.last else y)
        m.d.comb += self.y.eq(Cat(*out))
        return m


class PlaceControl(Part):
    """Shared control of one group of outputs: hit and pick mean 00: 0, 01: 1, 10: lower, 11: upper source."""

    def __init__(self, bits: int, blocks: tuple[int, ...], keep: bool):
        self.blocks = blocks
        super().__init__({"coarse": In(bits), "sign": In(1), "hit": Out(1), "pick": Out(1)},
                         f"place_control_{bits}_{'_'.join(map(str, blocks))}", keep)

    def elaborate(self, platform) -> Module:
        m = Module()
        hits = [self.coarse == block for block in self.blocks]
        if len(hits) == 1:
            m.d.comb += [self.hit.eq(hits[0]), self.pick.eq(0)]
        else:
            m.d.comb += [self.hit.eq(hits[0] | hits[1]), self.pick.eq(hits[1] | (~hits[0] & self.sign))]
        return m


class UnsignedShifter(wiring.Component):
    """``value + sign = (-1)**sign * (product << shift >> least)``.

    Three fine two-way stages, the last of which also takes the exclusive or with the sign; then placement in
    blocks of 8, where an output has at most two sources and two shared control bits make it one LUT4, the fill
    with the sign included.

    Parameters
    ----------
    live : dict
        Total shift -> mask of the product bits that can be one with it.
    product_bits, width : int
    order : tuple of int, optional
        Order of the fine stages' distances (as powers of two).
    """

    def __init__(self, label: str, live: dict[int, int], product_bits: int, width: int, keep: bool = True,
                 order: tuple[int, ...] | None = None):
        self.label, self.live, self.product_bits, self.width, self.keep = label, live, product_bits, width, keep
        self.keep_hierarchy = keep
        self.least = min(live)
        self.shift_bits = max(live).bit_length()
        self.fine = min(FINE, self.shift_bits)
        self.order = order if order and len(order) == self.fine else tuple(range(self.fine))
        super().__init__({"product": In(product_bits), "shift": In(self.shift_bits), "sign": In(1),
                          "value": Out(signed(width))})

    @property
    def module_name(self) -> str:
        return f"align_{self.label}" + ("" if self.keep else "_flat")

    def _plan(self) -> tuple[list, list[set[int]]]:
        """Stages and, for each bit behind them, the total shifts under which it can be one."""
        state = [{s for s, mask in self.live.items() if mask >> i & 1} for i in range(self.product_bits)]
        plan = []
        for bit in self.order:
            distance, following, ops = 1 << bit, [], []
            for j in range(len(state) + distance):
                kept = state[j] if j < len(state) else set()
                moved = state[j - distance] if j >= distance else set()
                kept0, kept1 = ({s for s in kept if s >> bit & 1 == v} for v in (0, 1))
                moved0, moved1 = ({s for s in moved if s >> bit & 1 == v} for v in (0, 1))
                ops.append((bool(kept0), bool(kept1), bool(moved0), bool(moved1)))
                following.append(kept0 | moved1)
            plan.append((bit, distance, ops))
            state = following
        return plan, state

    def elaborate(self, platform) -> Module:
        m = Module()
        plan, live = self._plan()
        bits: Value = self.product
        gates: list = [None] * self.product_bits
        for t, (bit, distance, ops) in enumerate(plan):
            last, raw = t == self.fine - 1, {}
            if t == 0 and not last and self.fine > 2:
                # Bits with one source are gated in the next stage, where they still fit a LUT4.
                for j, (kept0, kept1, moved0, moved1) in enumerate(ops):
                    if kept0 and kept1 and not moved1:
                        raw[j] = 0
                    if moved1 and moved0 and not kept0:
                        raw[j] = 1
            stage = shared(FineStage(f"{self.module_name}_fine{t}", gates, distance, ops, last, raw, self.keep))
            m.submodules[f"fine{t}"] = stage
            m.d.comb += [stage.x.eq(bits), stage.select.eq(self.shift[bit]), stage.sign.eq(self.sign)]
            if t:
                m.d.comb += stage.before.eq(self.shift[plan[t - 1][0]])
            bits, gates = stage.y, [raw.get(j) for j in range(len(ops))]
        m.d.comb += self.value.eq(Cat(self._place(m, bits, live), self.sign).as_signed())
        return m

    def _place(self, m: Module, bits: Value, live: list[set[int]]) -> Value:
        block, coarse = 1 << self.fine, self.shift[self.fine:]
        used = sorted({s >> self.fine for shifts in live for s in shifts})
        controls: dict[tuple[int, ...], object] = {}
        out: list[Value] = []
        for j in range(self.width - 1):
            sources, free = [], False
            for n in used:
                i = j + self.least - block * n
                if 0 <= i < len(live) and any(s >> self.fine == n for s in live[i]):
                    sources.append((n, bits[i]))
                    free = all(s >> self.fine == n for s in live[i])
            key = tuple(n for n, _ in sources)
            if not sources:
                out.append(self.sign)
            elif len(sources) == 1 and (free or len(used) == 1):
                out.append(sources[0][1])
            elif len(sources) == 2 and len(coarse) == 1:
                out.append(Mux(coarse, sources[1][1], sources[0][1]))
            elif len(sources) == 1 and len(coarse) <= 2:
                out.append(Mux(coarse == key[0], sources[0][1], self.sign))
            elif len(sources) > 2:
                value: Value = self.sign
                for n, bit in sources:
                    value = Mux(coarse == n, bit, value)
                out.append(value)
            else:
                if key not in controls:
                    control = shared(PlaceControl(len(coarse), key, self.keep))
                    m.submodules[f"control{len(controls)}"] = controls[key] = control
                    m.d.comb += [control.coarse.eq(coarse), control.sign.eq(self.sign)]
                control = controls[key]
                other = self.sign if len(sources) == 1 else control.pick
                pick = sources[0][1] if len(sources) == 1 else Mux(control.pick, sources[1][1], sources[0][1])
                out.append(Mux(control.hit, pick, other))
        return Cat(*out)


class ShiftStage(Part):
    """One level of a pruned shifter; ``nodes[p]`` maps select values to a source bit, ``low`` or ``high``."""

    def __init__(self, label: str, in_width: int, nodes: dict[int, dict], select_bits: int, fill_low: bool, keep: bool):
        self.nodes, self.select_bits, self.fill_low = nodes, select_bits, fill_low
        members = {"x": In(in_width), "high": In(1), "select": In(select_bits), "y": Out(max(nodes) + 1)}
        if fill_low:
            members["low"] = In(1)
        super().__init__(members, label, keep)

    def elaborate(self, platform) -> Module:
        m = Module()

        def tree(options: list, bit: int):
            if bit < 0:
                return options[0]
            half = len(options) // 2
            low, high = tree(options[:half], bit - 1), tree(options[half:], bit - 1)
            if low is None or high is None or low == high:
                return high if low is None else low
            return (bit, low, high)

        def value(node) -> Value:
            if isinstance(node, tuple):
                return Mux(self.select[node[0]], value(node[2]), value(node[1]))
            if node == "low":
                return self.low if self.fill_low else Const(0, 1)
            return self.high if node == "high" else self.x[node]

        for p, node in sorted(self.nodes.items()):
            chosen = tree([node.get(d) for d in range(1 << self.select_bits)], self.select_bits - 1)
            if chosen is not None:
                m.d.comb += self.y[p].eq(value(chosen))
        return m


class SignedShifter(wiring.Component):
    """``value = product << shift >> least`` of a signed product, low places filled with ``fill`` where asked.

    Parameters
    ----------
    reach : dict
        Total shift -> signed width that products need with it.
    fill_low : bool
        Low places take the input ``fill`` (the other half of a one's complement) instead of 0.
    """

    def __init__(self, label: str, reach: dict[int, int], product_bits: int, width: int, fill_low: bool,
                 keep: bool = True):
        self.label, self.reach, self.product_bits, self.width = label, reach, product_bits, width
        self.fill_low, self.keep, self.keep_hierarchy = fill_low, keep, keep
        self.least, self.shift_bits = min(reach), max(reach).bit_length()
        # Fine to coarse; four-way stages cost two LUT4 a bit like two two-way ones, but prune better.
        self.groups = [1] * (self.shift_bits % 2) + [2] * (self.shift_bits // 2)
        members = {"product": In(signed(product_bits)), "shift": In(self.shift_bits), "value": Out(signed(width))}
        if fill_low:
            members["fill"] = In(1)
        super().__init__(members)

    @property
    def module_name(self) -> str:
        return f"align_{self.label}" + ("" if self.keep else "_flat")

    def _plan(self) -> list[dict[int, dict]]:
        base = [sum(self.groups[:i]) for i in range(len(self.groups) + 1)]
        # The top output bit is the product's own sign.
        need = {p + self.least: set(self.reach) for p in range(self.width - 1)}
        stages: list[dict[int, dict]] = []
        for stage in range(len(self.groups), 0, -1):
            finer = (1 << base[stage]) - 1
            step, count = 1 << base[stage - 1], 1 << self.groups[stage - 1]
            nodes: dict[int, dict] = {}
            below: dict[int, set[int]] = {}
            for p, shifts in need.items():
                node = nodes.setdefault(p, {})
                for d in range(count):
                    mine = [s for s in shifts if s // step % count == d]
                    if not mine:
                        continue
                    kinds = {"low" if p < (s & finer) else "high" if p >= (s & finer) + self.reach[s] - 1 else "data"
                             for s in mine}
                    if len(kinds) == 1 and "data" not in kinds:
                        node[d] = kinds.pop()
                    else:
                        node[d] = p - d * step
                        below.setdefault(p - d * step, set()).update(mine)
            stages.insert(0, nodes)
            need = below
        return stages

    def elaborate(self, platform) -> Module:
        m = Module()
        bits, at = self.product.as_unsigned(), 0
        for i, (nodes, group) in enumerate(zip(self._plan(), self.groups, strict=True)):
            label = f"{self.module_name}_stage{i}"
            stage = shared(ShiftStage(label, len(bits), nodes, group, self.fill_low, self.keep))
            m.submodules[f"stage{i}"] = stage
            m.d.comb += [stage.x.eq(bits), stage.high.eq(self.product[-1]), stage.select.eq(self.shift[at:at + group])]
            if self.fill_low:
                m.d.comb += stage.low.eq(self.fill)
            bits, at = stage.y, at + group
        m.d.comb += self.value.eq(Cat(bits[self.least:self.least + self.width - 1], self.product[-1]).as_signed())
        return m

