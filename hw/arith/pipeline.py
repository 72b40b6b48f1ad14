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

    def hold(self, value: Value, name: str) -> Value:
        """The value behind one register; constants stay."""
        if isinstance(value, Const):
            return value
        held = Signal(value.shape(), name=name, reset_less=True)
        with self.m.If(self.en):
            self.m.d.sync += held.eq(value)
        return held

    def put(self, name: str, value: Value, stage: int) -> None:
        """Name a value that is there at a stage (a register's output, or an input at stage 0)."""
        self._values[name] = {stage: value}

    def first(self, name: str) -> int:
        """The stage at which the value was put."""
        return min(self._values[name])

    def at(self, name: str, stage: int) -> Value:
        """The value at a stage; every stage between is made once."""
        stages = self._values[name]
        if stage not in stages:
            if stage < min(stages):
                raise ValueError(f"{name} is not there before stage {min(stages)}, wanted at {stage}")
            stages[stage] = self.hold(self.at(name, stage - 1), f"{name}_{stage}")
        return stages[stage]
