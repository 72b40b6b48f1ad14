"""Counters over a job: tiles of channels, groups of a tile, chunks of a group."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data

from bitkiln.models.design.dequant import DequantDesign

__all__ = ["Walk", "job_layout"]

JOB_BITS = 16


def job_layout(design: DequantDesign) -> data.StructLayout:
    """``k``, ``group``, ``channels`` and ``rows`` of a `DequantJob`."""
    return data.StructLayout({"k": JOB_BITS, "group": design.array.group.bit_length(), "channels": JOB_BITS,
                              "rows": design.array.rows.bit_length()})


class Walk:
    """Where a job is. Several parts of the core walk through the same job, each at its own pace.

    Attributes
    ----------
    busy : Signal
        A job is under way.
    rest : Signal
        Weights of the channel that are left, this group's included.
    channels : Signal
        Channels that are left, this tile's included.
    length : Value
        Of this group.
    columns : Value
        Channels of this tile.
    last_group, last_tile : Value
    """

    def __init__(self, m: Module, design: DequantDesign, name: str):
        self.m, self.design = m, design
        job = Signal(job_layout(design), name=f"{name}_job", reset_less=True)
        self.job = job
        self.busy = Signal(name=f"{name}_busy")
        self.rest = Signal(JOB_BITS, name=f"{name}_rest", reset_less=True)
        self.channels = Signal(JOB_BITS, name=f"{name}_channels", reset_less=True)
        self.last_group, self.last_tile = Signal(name=f"{name}_last_group"), Signal(name=f"{name}_last_tile")
        columns = design.array.columns
        self.length = Signal(range(design.array.group + 1), name=f"{name}_length")
        self.columns = Signal(range(columns + 1), name=f"{name}_columns")
        m.d.comb += [self.last_group.eq(self.rest <= job.group), self.last_tile.eq(self.channels <= columns),
                     self.length.eq(Mux(self.last_group, self.rest, job.group)),
                     self.columns.eq(Mux(self.last_tile, self.channels, columns))]

    def start(self, job: data.View) -> None:
        """Statements of the cycle that takes a job."""
        self.m.d.sync += [self.job.eq(job), self.busy.eq(1), self.rest.eq(job.k), self.channels.eq(job.channels)]

    def next_group(self) -> None:
        """Statements of the cycle in which a group ends."""
        m = self.m
        with m.If(~self.last_group):
            m.d.sync += self.rest.eq(self.rest - self.job.group)
        with m.Else():
            m.d.sync += [self.rest.eq(self.job.k), self.channels.eq(self.channels - self.design.array.columns)]
            with m.If(self.last_tile):
                m.d.sync += self.busy.eq(0)
