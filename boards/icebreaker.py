"""iCEBreaker: a small FPGA. The core sums; what follows a sum (scales, bias, rounding) is left to the host."""

from __future__ import annotations

from .board import Board

__all__ = ["BOARD"]


def _platform():
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    return ICEBreakerPlatform()


BOARD = Board(
    name="icebreaker",
    title="iCEBreaker (Lattice iCE40UP5K-SG48)",
    platform=_platform,
    family="ice40",
    target="ice40-up5k",
    clock="clk12",
    clock_in_mhz=12,
    clock_mhz=18,
    baud=1_000_000,
    usb="FT2232H on the board, second port",
    lights=("led_g", "led_r"),
    reset="button",
    capacity={"lut": 5280, "ram": 30, "dsp": 8},
    engine="matmul_core",
    settings={"modes": ["fp4", "int8"], "array.rows": 2, "array.columns": 2, "accumulator.depth": 256, "k_words": 128,
              "bus_bits": 32, "output_lanes": 1, "queue": 1, "output.rules": ["raw"], "output.bias": False,
              "output.accumulate": False, "counters": False},
    program=("openFPGALoader --board ice40_generic {file}", "iceprog {file}"),
    pad=True,
)
