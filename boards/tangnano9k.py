"""Tang Nano 9K: Gowin GW1NR-9, by nextpnr-himbaechel and Apicula."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.tang_nano_9k import TangNano9kPlatform

    return TangNano9kPlatform()


BOARD = Board(
    name="tangnano9k",
    title="Tang Nano 9K (Gowin GW1NR-LV9QN88PC6/I5)",
    platform=_platform,
    family="gowin",
    target="gowin",
    clock="clk27",
    clock_in_mhz=27,
    clock_mhz=27,
    baud=1_000_000,
    usb="BL702 on the board",
    lights=("led", "led:1"),
    reset="button",
    capacity={"lut": 8640, "ram": 26, "dsp": 20},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 2, "array.columns": 2, "accumulator.depth": 256, "k_words": 128,
              "bus_bits": 32, "output_lanes": 1, "queue": 1, "output.rules": ["raw"], "output.bias": False,
              "output.accumulate": False, "counters": False},
    program=("openFPGALoader --board tangnano9k {file}",),
)
