"""Registers of a pipeline that stands still as a whole, and values that several of its stages need."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Signal, Value

__all__ = ["Pipeline"]


class Pipeline:
    """Adds registers with one enable to a module, and remembers at which stage each value is.

    A value is `put` at the stage where it is made and `at` a later stage comes out of registers that all its readers
    share.
    """

    def __init__(self, m: Module, en: Value):
        self.m, self.en = m, en
        self._values: dict[str, dict[int, Value]] = {}
        self._reset: set[str] = set()

    def hold(self, value: Value, name: str, *, reset: bool = False) -> Value:
        """The value behind one register, which a reset clears if asked; constants stay."""
        if isinstance(value, Const):
            return value
        held = Signal(value.shape(), name=name, reset_less=not reset)
        with self.m.If(self.en):
            self.m.d.sync += held.eq(value)
        return held

    def put(self, name: str, value: Value, stage: int, *, reset: bool = False) -> None:
        """Name a value that is there at a stage (a register's output, or an input at stage 0).

        ``reset``: its registers are cleared by a reset, as those of valid bits must be.
        """
        self._values[name] = {stage: value}
        if reset:
            self._reset.add(name)

    def first(self, name: str) -> int:
        """The stage at which the value was put."""
        return min(self._values[name])

    def at(self, name: str, stage: int) -> Value:
        """The value at a stage; every stage between is made once."""
        stages = self._values[name]
        if stage not in stages:
            if stage < min(stages):
                raise ValueError(f"{name} is not there before stage {min(stages)}, wanted at {stage}")
            stages[stage] = self.hold(self.at(name, stage - 1), f"{name}_{stage}", reset=name in self._reset)
        return stages[stage]
