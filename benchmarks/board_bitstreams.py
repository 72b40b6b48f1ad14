"""Bitstreams of the boards' own designs: made, and in time."""

from __future__ import annotations

from bitkiln.boards.board import board
from bitkiln.flow.bitstream import bitstream, board_design
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=boards ONLY=board_bitstreams"
BOARDS = ("icebreaker", "ulx3s")


def run() -> list[Row]:
    rows = []
    for name in BOARDS:
        found = board(name)
        made = bitstream(found, board_design(found), force=True)
        note = ", ".join(f"{each.used:,} of {each.available:,} {each.kind}" for each in made.devices)
        rows.append(Row(f"{name}, {found.settings['array.rows']} x {found.settings['array.columns']}, clock reached",
                        made.fmax_mhz, "MHz", made.clock_mhz, "higher", COMMAND,
                        f"{note}; seed {made.metrics.seed if made.metrics else '-'}"))
    return rows
