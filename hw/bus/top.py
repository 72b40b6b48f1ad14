"""The outermost module of an AXI core: clock, reset and port names as AXI systems expect them."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, connect, flipped

__all__ = ["AxiTop"]


class AxiTop(wiring.Component):
    """A component of the ``sync`` domain with ``aclk``, ``aresetn`` (synchronous, active low) and AXI port names.

    Members of interfaces are joined by ``_``: ``s_axil_awaddr``, ``m_axis_tdata``.

    Parameters
    ----------
    inner : wiring.Component
    name : str
        Verilog module name.
    names : mapping of str to str, optional
        Members of ``inner`` that have another name outside.
    """

    port_separator = "_"
    port_roles = {"aclk": "clock", "aresetn": "reset"}

    def __init__(self, inner: wiring.Component, name: str, names: Mapping[str, str] | None = None):
        self.inner, self.module_name = inner, name
        self.names = {member: (names or {}).get(member, member) for member in inner.signature.members}
        super().__init__({"aclk": In(1), "aresetn": In(1),
                          **{self.names[key]: member for key, member in inner.signature.members.items()}})

    @property
    def parameters(self) -> dict:
        return dict(getattr(self.inner, "parameters", None) or {})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        m.submodules.core = self.inner
        for key, member in self.inner.signature.members.items():
            mine, theirs = getattr(self, self.names[key]), getattr(self.inner, key)
            if member.is_signature:
                connect(m, flipped(mine), theirs)
            elif member.flow == In:
                m.d.comb += theirs.eq(mine)
            else:
                m.d.comb += mine.eq(theirs)
        return m
