"""Small netlists by hand and their stimuli, for tests of gate-level simulation and energy."""

from pathlib import Path

import numpy as np

from bitkiln.flow.gate_sim import pack_bits
from bitkiln.flow.gates import GateNetlist
from bitkiln.models.cost.energy.liberty import parse_library

LIBERTY = Path(__file__).parent / "data" / "tiny.lib"
LIBRARY = parse_library(LIBERTY.read_text())


def netlist(cells, inputs, outputs=None):
    """A netlist by hand; nets are numbered by name."""
    names = {"0": 0, "1": 1}

    def net(name):
        return names.setdefault(name, len(names))

    found = [(kind, {pin: net(name) for pin, name in pins.items()}) for kind, pins in cells]
    ports = {name: [net(name)] for name in inputs}
    shown = {name: [net(name)] for name in outputs or ()}
    return GateNetlist("hand", len(names), ports, shown, found, 0.0), names


def bits(*values):
    """One bit over the cycles, the same in 64 streams."""
    return pack_bits(np.repeat(np.array(values)[:, None], 64, axis=1), 1)
