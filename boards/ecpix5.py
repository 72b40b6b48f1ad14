"""ECPIX-5 with an LFE5UM5G-85F."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.ecpix5 import ECPIX585Platform

    return ECPIX585Platform()


BOARD = Board(
    name="ecpix5",
    title="ECPIX-5 (Lattice ECP5 LFE5UM5G-85F, speed grade 8)",
    platform=_platform,
    family="ecp5",
    target="ecp5-85k",
    clock="clk100",
    clock_in_mhz=100,
    clock_mhz=60,
    baud=1_000_000,
    usb="FT2232H on the board, second port",
    lights=("rgb_led:0.g", "rgb_led:1.r"),
    reset="rst",
    capacity={"lut": 83640, "ram": 208, "dsp": 156},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 4, "array.columns": 4, "pipeline": 1, "bus_bits": 64},
    program=("openFPGALoader --board ecpix5 {file}",),
)
