"""Stimuli and expected outputs of a generated test bench, and their hex file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Vectors"]


@dataclass(frozen=True)
class Vectors:
    """One row per clock cycle.

    Attributes
    ----------
    inputs, outputs : dict
        Port name -> unsigned codes (Python ints). Inputs are applied before a rising clock edge, outputs are
        what the ports show after it.
    """

    inputs: Mapping[str, Sequence[int]]
    outputs: Mapping[str, Sequence[int]]

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def hex_lines(self, widths: dict[str, int]) -> list[str]:
        """One hexadecimal word per cycle: the inputs, then the outputs, first port in the highest bits."""
        ports = {**self.inputs, **self.outputs}
        digits = -(-sum(widths[name] for name in ports) // 4)
        lines = []
        for cycle in range(len(self)):
            word = 0
            for name, values in ports.items():
                word = word << widths[name] | int(values[cycle]) & ((1 << widths[name]) - 1)
            lines.append(f"{word:0{digits}x}")
        return lines
