"""ZCU104: a Vivado project is written; it is not run here. Pins of the user guide, UG1267."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth.build import Attrs, Clock, DiffPairs, Pins, Resource, Subsignal
    from amaranth.vendor import XilinxPlatform

    class Zcu104Platform(XilinxPlatform):
        device, package, speed = "xczu7ev", "ffvc1156", "2-e"
        default_clk = "clk125"
        resources = [
            Resource("clk125", 0, DiffPairs("F23", "E23", dir="i"), Clock(125e6), Attrs(IOSTANDARD="LVDS")),
            Resource("rst", 0, Pins("M11", dir="i"), Attrs(IOSTANDARD="LVCMOS33")),
            *[Resource("led", at, Pins(pin, dir="o"), Attrs(IOSTANDARD="LVCMOS33"))
              for at, pin in enumerate(("D5", "D6", "A5", "B5"))],
            Resource("uart", 0, Subsignal("rx", Pins("A20", dir="i")), Subsignal("tx", Pins("C19", dir="o")),
                     Attrs(IOSTANDARD="LVCMOS18")),
        ]
        connectors = []

    return Zcu104Platform()


BOARD = Board(
    name="zcu104",
    title="ZCU104 (AMD Zynq UltraScale+ XCZU7EV)",
    platform=_platform,
    family="ultrascale+",
    target="xilinx",
    clock="clk125",
    clock_in_mhz=125,
    clock_mhz=150,
    baud=1_000_000,
    usb="FT4232H on the board, fourth port",
    lights=("led", "led:1"),
    reset="rst",
    capacity={"lut": 230400, "ram": 624, "dsp": 1728},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 16, "array.columns": 16, "pipeline": 2, "bus_bits": 128},
    flow="vivado",
)
