"""ULX3S with an LFE5U-85F: the larger of the open boards here."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform()


BOARD = Board(
    name="ulx3s",
    title="ULX3S (Lattice ECP5 LFE5U-85F, speed grade 6)",
    platform=_platform,
    family="ecp5",
    target="ecp5-85k",
    clock="clk25",
    clock_in_mhz=25,
    clock_mhz=50,
    baud=1_000_000,
    usb="FT231X on the board (up to 3 Mbaud)",
    lights=("led", "led:1"),
    high=("uart_tx_enable",),
    reset="button_fire",
    capacity={"lut": 83640, "ram": 208, "dsp": 156},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 4, "array.columns": 4, "pipeline": 1, "bus_bits": 64},
    program=("openFPGALoader --board ulx3s {file}", "fujprog {file}"),
)
