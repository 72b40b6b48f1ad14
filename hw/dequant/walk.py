"""Counters over a job: tiles of channels, groups of a tile, chunks of a group."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data

from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.dequant_streams import JOB_BITS, job_fields

__all__ = ["Walk", "job_layout"]


def job_layout(design: DequantDesign) -> data.StructLayout:
    """``k``, ``group``, ``channels`` and ``rows`` of a `DequantJob`."""
    return data.StructLayout(job_fields(design))


class Walk:
    """Where a job is. Several parts of the core walk through the same job, each at its own pace.

    Everything is a register: what follows is worked out while a group is under way.

    Attributes
    ----------
    busy : Signal
        A job is under way.
    length : Signal
        Weights of this group.
    columns : Signal
        Channels of this tile.
    last_group, last_tile : Signal
    changes : Value
        The next group is not as long as this one.
    """

    def __init__(self, m: Module, design: DequantDesign, name: str):
        self.m = m
        columns = design.array.columns
        self.job = job = Signal(job_layout(design), name=f"{name}_job", reset_less=True)
        self.busy = Signal(name=f"{name}_busy")
        self._rest = Signal(JOB_BITS, name=f"{name}_rest", reset_less=True)            # weights, this group's included
        self._channels = Signal(JOB_BITS, name=f"{name}_channels", reset_less=True)    # this tile's included
        self.last_group = Signal(name=f"{name}_last_group", reset_less=True)
        self.last_tile = Signal(name=f"{name}_last_tile", reset_less=True)
        self.length = Signal(range(design.array.group + 1), name=f"{name}_length", reset_less=True)
        self.columns = Signal(range(columns + 1), name=f"{name}_columns", reset_less=True)
        # Of the group and tile that follow; `start` puts those of a new job in their place.
        self._left, self._group = Signal(JOB_BITS), Signal.like(job.group)
        self._others = Signal(JOB_BITS)
        ends, ended = self._left <= self._group, self._others <= columns
        self.changes = Mux(ends, self._left, self._group) != self.length
        m.d.comb += [self._left.eq(Mux(self.last_group, job.k, self._rest - job.group)), self._group.eq(job.group),
                     self._others.eq(self._channels - columns)]
        self._to_group = [self._rest.eq(self._left), self.last_group.eq(ends),
                          self.length.eq(Mux(ends, self._left, self._group))]
        self._to_tile = [self._channels.eq(self._others), self.last_tile.eq(ended),
                         self.columns.eq(Mux(ended, self._others, columns))]

    def start(self, job: data.View) -> None:
        """Statements of the cycle that takes a job."""
        self.m.d.comb += [self._left.eq(job.k), self._group.eq(job.group), self._others.eq(job.channels)]
        self.m.d.sync += [self.job.eq(job), self.busy.eq(1), *self._to_group, *self._to_tile]

    def next_group(self) -> None:
        """Statements of the cycle in which a group ends."""
        m = self.m
        m.d.sync += self._to_group
        with m.If(self.last_group):
            m.d.sync += self._to_tile
            with m.If(self.last_tile):
                m.d.sync += self.busy.eq(0)
