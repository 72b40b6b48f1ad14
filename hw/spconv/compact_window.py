"""Windows: the words of the 6x6x6 nodes around the 64 grandchildren of one node, in eight memories by digit.

::

    one axis, the node's two children q and their octants' children p:

    nodes         -1 | 0  1 | 2  3 | 4        place of digit bit 0 :  0 -> 0, 2 -> 1, 4 -> 2
    octants   ... -1 |   0  |   1  | 2 ...    place of digit bit 1 : -1 -> 0, 1 -> 1, 3 -> 2

Nodes of one octant have different digits, and so have the eight nodes around a child: an octant comes into the
window in one cycle, and the surroundings of a child come out in one. Along each axis both sides of the window hold
three nodes of either digit bit, 27 of the 32 places of a memory.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_windows import WindowPlan

from .layouts import bits

__all__ = ["WindowMemory", "child_places", "nodes_there", "octant_halves", "octant_places", "octants_wanted",
           "window_bits"]

AXES = (2, 1, 0)
PLACE_BITS = 5


def window_bits(design: MapDesign) -> int:
    """Of the number of a window."""
    plan = WindowPlan.of(design)
    return bits(max(plan.upper_windows, plan.leaf_windows))


def _place(x: Value, y: Value, z: Value) -> Value:
    """Three numbers 0..2 in five bits: nine combinations of y and z twice, those for x = 2 in the gaps."""
    return Cat(*(z[bit] | (x[1] & y[1]) for bit in range(2)), *(Mux(x[1], z[bit] | ~y[1], y[bit]) for bit in range(2)),
               Mux(x[1], y[0], x[0]))


def child_places(m: Module, name: str, digit: Value, parity: Value, child: Value) -> list[Value]:
    """Where the eight nodes around a child are, by their digit.

    Parameters
    ----------
    digit, parity : Value
        Of the child's parent; of its octant, whose own octant is the middle of the window.
    child : Value
        Which child.
    """
    along: list[list[Value]] = []
    for axis in range(3):
        p, q, c = digit[axis], parity[axis], child[axis]
        pair = []
        for bit in range(2):
            # A node of the parent's own digit bit is the parent, else the neighbour on the child's side.
            side = (p & c) if bit == 0 else (p | c)
            number = Signal(2, name=f"{name}_along{axis}_{bit}")
            m.d.comb += number.eq(Cat(q ^ side, q & side))
            pair.append(number)
        along.append(pair)
    return [_place(*(along[axis][j >> axis & 1] for axis in AXES)) for j in range(8)]


def nodes_there(octants: Value, digit: Value, parity: Value, child: Value) -> Value:
    """A bit for each of the eight nodes around a child, by their digit: its octant has nodes in the window.

    Parameters
    ----------
    octants : Value
        A bit for each octant around the child's parent, by parity.
    digit, parity, child : Value
        As of `child_places`.
    """
    found = [octants[j] for j in range(8)]
    for axis in AXES:
        p, q, c = digit[axis], parity[axis], child[axis]
        # The parent's neighbour is in the next octant if it is on that side of the parent.
        odd = [q ^ (p & c), q ^ ~(p | c)]
        found = [Mux(odd[at >> axis & 1], found[at | 1 << axis], found[at & ~(1 << axis)]) for at in range(8)]
    return Cat(found)


def octant_halves(digit: Value, parity: Value) -> list[Value]:
    """Of axes 0, 1, 2: for the octants of even and of odd parity around a node, whether each is the upper one of the
    two that the window has.

    Parameters
    ----------
    digit, parity : Value
        Of the node; of its octant.
    """
    return [Cat(parity[axis] & digit[axis], parity[axis] | digit[axis]) for axis in range(3)]


def octants_wanted(masks: list[Value], halves: list[Value]) -> Value:
    """A bit for each of the eight octants around a node: it has children in the window.

    Parameters
    ----------
    masks : list of 8 Value
        Children of the octants, by parity.
    halves : list of 3 Value
        As of `octant_halves`.
    """
    wanted = []
    for j in range(8):
        rest = [masks[j][child] for child in range(8)]
        for axis in AXES:
            # Of an octant at the window's edge only the inner half belongs to it.
            odd = j >> axis & 1
            both = halves[axis][1] if odd else ~halves[axis][0]
            size = len(rest) // 2
            near, far = (rest[size:], rest[:size]) if odd else (rest[:size], rest[size:])
            rest = [one | (other & both) for one, other in zip(near, far, strict=True)]
        wanted.append(rest[0])
    return Cat(wanted)


def octant_places(octant: Value, halves: list[Value]) -> tuple[list[Value], Value]:
    """Where the children of an octant go, by their digit, and a bit for each that the window has a place for.

    Parameters
    ----------
    octant : Value
        Its parity.
    halves : list of 3 Value
        One bit of each axis: the upper one of the octants of this parity.
    """
    # Position of the octant along the axis, from 0 (the outer one below) to 3 (the outer one above).
    at = [Cat(~octant[axis], halves[axis]) for axis in range(3)]
    low = [(number - 1)[:2] for number in at]
    places, inside = [], []
    for j in range(8):
        places.append(_place(*(at[axis] if j >> axis & 1 else low[axis] for axis in AXES)))
        inside.append(Cat((at[axis] != 3) if j >> axis & 1 else (at[axis] != 0) for axis in AXES).all())
    return places, Cat(inside)


class WindowMemory(wiring.Component):
    """Eight memories of window words.

    Parameters
    ----------
    width : int
        Bits of a word.
    windows : int

    Members
    -------
    write : In(8); write_window : In; write_places : In(8 places); words : In(8 words)
        A word for each memory whose bit of ``write`` is 1.
    read : In(1); read_window : In; read_places : In(8 places)
    found : Out(8 words)
        One edge later; they stay while ``read`` is low.
    """

    def __init__(self, width: int, windows: int):
        self.width, self.windows = width, windows
        number, places = bits(windows), data.ArrayLayout(PLACE_BITS, 8)
        words = data.ArrayLayout(width, 8)
        super().__init__({"write": In(8), "write_window": In(number), "write_places": In(places), "words": In(words),
                          "read": In(1), "read_window": In(number), "read_places": In(places), "found": Out(words)})

    @property
    def module_name(self) -> str:
        return f"window_memory_{self.width}x{self.windows}"

    @property
    def parameters(self) -> dict:
        return {"bits": self.width, "windows": self.windows}

    def elaborate(self, platform) -> Module:
        m = Module()
        for j in range(8):
            m.submodules[f"digit{j}"] = memory = Memory(
                shape=self.width, depth=self.windows * WindowPlan.PLACES, init=[],
                attrs={"ram_style": "block", "no_rw_check": 1})
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [write.en.eq(self.write[j]), write.addr.eq(Cat(self.write_places[j], self.write_window)),
                         write.data.eq(self.words[j]), read.en.eq(self.read),
                         read.addr.eq(Cat(self.read_places[j], self.read_window)), self.found[j].eq(read.data)]
        return m
