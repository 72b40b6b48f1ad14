# amaranth: UnusedElaboratable=no
"""A core behind a serial line: what a board holds besides its clock and its pins."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bitkiln.models.design import MatmulDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.dequant_streams import STATUS, link_registers
from bitkiln.models.design.link import Channel, Identity, LinkDesign
from bitkiln.models.design.spconv_core import SpConvDesign
from bitkiln.models.errors import BitkilnError

from ..bus.axilite import RegisterFile
from ..dequant.core import DequantCore
from ..mac.core import StreamCore
from ..spconv.core import SpConvControl
from .bridge import Link

__all__ = ["LinkedCore", "linkable", "link_design"]

Design = MatmulDesign | DequantDesign | SpConvDesign

# Stream of a core -> its letter on the link, and of an AXI4-Stream what a beat carries, lowest first. What the other
# side knows anyway (bytes kept and the last beat of a matmul job's results) stays behind.
_STREAMS: dict[type, dict[str, tuple[str, tuple[str, ...]]]] = {
    MatmulDesign: {"s_axis_a": ("a", ("tdata",)), "s_axis_w": ("w", ("tdata",)), "s_axis_c": ("c", ("tdata",)),
                   "m_axis": ("o", ("tdata",))},
    SpConvDesign: {"s_axis_v": ("v", ("tdata", "tlast")), "s_axis_f": ("f", ("tdata",)),
                   "s_axis_w": ("w", ("tdata",)), "m_axis_q": ("q", ("tdata",)),
                   "m_axis": ("o", ("tdata", "tlast", "tkeep"))},
    DequantDesign: {"job": ("j", ()), "weight": ("w", ()), "activation": ("a", ()), "special": ("s", ()),
                    "o": ("o", ())},
}


def linkable(design: Design) -> None:
    """Raise BitkilnError where a design cannot sit behind a link."""
    if type(design) not in _STREAMS:
        raise BitkilnError("this engine has no link", where="engine", got=type(design).__name__.removesuffix("Design"),
                           expected="matmul_core, dequant_core or spconv",
                           help="`bitkiln generate` writes its Verilog for a system of your own")
    if isinstance(design, MatmulDesign) and design.descriptors:
        raise BitkilnError("a core that fetches from memory cannot sit behind a serial link", where="descriptors",
                           got="true", expected="false")


def _core(design: Design) -> wiring.Component:
    if isinstance(design, MatmulDesign):
        return StreamCore(design)
    return SpConvControl(design) if isinstance(design, SpConvDesign) else DequantCore(design)


def _payload(port: wiring.PureInterface, fields: tuple[str, ...]) -> Value:
    return Cat(*[getattr(port, name) for name in fields]) if fields else Value.cast(port.payload)


def _handshake(port: wiring.PureInterface, fields: tuple[str, ...]) -> tuple[Value, Value]:
    """Valid and ready."""
    return (port.tvalid, port.tready) if fields else (port.valid, port.ready)


def _ports(core: wiring.Component, design: Design) -> list[tuple[Channel, bool, wiring.PureInterface, tuple[str, ...]]]:
    """Each stream: its channel, whether the core takes it, its interface, what a beat carries."""
    found = []
    for member, (letter, fields) in _STREAMS[type(design)].items():
        if member in core.signature.members:
            port = getattr(core, member)
            channel = Channel(letter, -(-len(_payload(port, fields)) // 8))
            found.append((channel, core.signature.members[member].flow == In, port, fields))
    return found


def link_design(design: Design) -> LinkDesign:
    """Streams of a core, as a link carries them.

    Raises
    ------
    BitkilnError
        The design cannot sit behind one.
    """
    linkable(design)
    ports = _ports(_core(design), design)
    return LinkDesign(tuple(channel for channel, into, _, _ in ports if into),
                      tuple(channel for channel, into, _, _ in ports if not into))


class LinkedCore(wiring.Component):
    """A core and its link, in the ``sync`` domain.

    Parameters
    ----------
    design : MatmulDesign, DequantDesign or SpConvDesign
    identity : Identity
        Its ``link`` is `link_design` of the design.

    Members
    -------
    rx : In(1), tx : Out(1)
        The serial line.
    answering, busy : Out(1)
        For lights: an answer is on its way; the core asks for attention.
    """

    def __init__(self, design: Design, identity: Identity):
        linkable(design)
        self.design, self.identity = design, identity
        self.module_name = f"linked_{design.name}"
        super().__init__({"rx": In(1), "tx": Out(1, init=1), "answering": Out(1), "busy": Out(1)})

    @property
    def parameters(self) -> dict:
        return {"board": self.identity.board, "clock_hz": self.identity.clock_hz, "divisor": self.identity.divisor}

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.link = link = Link(self.identity)
        core = _core(self.design)
        # A domain of its own, so that the host can reset the core alone.
        m.domains.core = ClockDomain("core", local=True)
        m.d.comb += [ClockSignal("core").eq(ClockSignal("sync")),
                     ResetSignal("core").eq(ResetSignal("sync") | link.reset_core)]
        m.submodules.core = DomainRenamer("core")(core)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx), self.answering.eq(link.answering),
                     self.busy.eq(link.irq)]
        for channel, into, port, fields in _ports(core, self.design):
            valid, ready = _handshake(port, fields)
            payload = _payload(port, fields)
            if into:
                other = getattr(link, f"i_{channel.name}")
                m.d.comb += [payload.eq(other.payload), valid.eq(other.valid), other.ready.eq(ready)]
            else:
                other = getattr(link, f"o_{channel.name}")
                m.d.comb += [other.payload.eq(payload), other.valid.eq(valid), ready.eq(other.ready)]
        if isinstance(self.design, DequantDesign):
            m.submodules.registers = registers = RegisterFile(link_registers())
            wiring.connect(m, link.axil, registers.bus)
            m.d.comb += [getattr(registers, name).eq(getattr(core, name)) for name in STATUS]
            m.d.comb += link.irq.eq(core.busy)
        else:
            wiring.connect(m, link.axil, core.s_axil)
            m.d.comb += link.irq.eq(core.irq)
        return m
