"""Arty A7-100: a Vivado project is written; it is not run here."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.arty_a7 import ArtyA7_100Platform

    return ArtyA7_100Platform()


BOARD = Board(
    name="arty_a7",
    title="Arty A7-100T (AMD Artix-7 XC7A100T)",
    platform=_platform,
    family="xilinx7",
    target="xilinx",
    clock="clk100",
    clock_in_mhz=100,
    clock_mhz=75,
    baud=1_000_000,
    usb="FT2232H on the board, second port",
    lights=("led", "led:1"),
    reset="rst",
    capacity={"lut": 63400, "ram": 270, "dsp": 240},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 8, "array.columns": 8, "pipeline": 1, "bus_bits": 64},
    flow="vivado",
    program=("openFPGALoader --board arty_a7_100t {file}",),
)
