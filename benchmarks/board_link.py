"""The digits network on simulated boards, over a clean line and one with noise; area of the link."""

from __future__ import annotations

from bitkiln.boards.board import board
from bitkiln.boards.top import identity_of
from bitkiln.flow.bitstream import board_design
from bitkiln.flow.board_run import layer_modes, open_board, run_digits
from bitkiln.flow.synth import synthesise
from bitkiln.hw.emit import to_verilog
from bitkiln.hw.link.bridge import Link
from bitkiln.report.table import Row

COMMAND = "make bench SUITE=boards ONLY=board_link"
IMAGES = 64
NOISE = 0.001
MOST_LUTS = {"ice40": 850, "ecp5": 750}


def run() -> list[Row]:
    rows = []
    for name, least in (("icebreaker", 60), ("ulx3s", 60)):
        found = board(name)
        resolved = board_design(found)
        for noise in (0.0, NOISE):
            with open_board(found, resolved, None, noise=noise, seed=1) as transport:
                result = run_digits(found, resolved, "mlp", layer_modes("mlp", None, resolved), transport,
                                    images=IMAGES, where="simulated")
            kind = f"noise {noise:g}" if noise else "clean line"
            rows.append(Row(f"{name}, {kind}: results that differ", result.mismatches, f"of {result.results:,}", 0,
                            "lower", COMMAND, f"{sum(result.noise.values())} bytes disturbed, "
                            f"{result.link.get('repeated', 0)} requests repeated"))
            if not noise:
                rows.append(Row(f"{name}: speed over 1 Mbaud", round(result.images_per_second, 1), "images/s", least,
                                "higher", COMMAND, f"{IMAGES} images in {result.seconds:.3f} s of the board"))
    found = board("icebreaker")
    resolved = board_design(found)
    verilog = to_verilog(Link(identity_of(found, resolved.design, resolved.digest)), "link")
    for target, most in MOST_LUTS.items():
        metrics = synthesise(verilog, "link", target)
        rows.append(Row(f"link, {target}", metrics["lut"], "LUT4", most, "lower", COMMAND,
                        f"{metrics['ff']} flip-flops, {metrics['ram']} block RAM"))
    return rows
