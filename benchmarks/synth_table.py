"""Area and clock of a handful of PEs as a Markdown table: the summary of the CI job, small enough for every change.

``make synth-table`` prints it. Yosys counts cells for ECP5 without DSP blocks; nextpnr places with one seed, so a clock
moves by a tenth between runs of different versions and stands for nothing finer.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bitkiln.config import load_design
from bitkiln.flow.measure import measure

__all__ = ["PES", "rows", "table"]

PES = ("fp4", "int4", "int8", "int8xfp4", "fp8_e4m3", "posit8_0")
TARGET = "ecp5"
LANES, PIPELINE, SEEDS = 4, 4, 1


def rows(pes: Sequence[str] = PES, seeds: int = SEEDS) -> list[tuple[str, dict[str, float | None], dict[str, str]]]:
    """(PE, metrics by name, tool versions) of each PE, measured now or taken from the store."""
    found = []
    for pe in pes:
        design = load_design(cli={"pe": (pe, "PE"), "lanes": (LANES, "lanes"), "pipeline": (PIPELINE, "pipeline")})
        with tempfile.TemporaryDirectory() as folder:
            metrics, _ = measure(design, target=TARGET, seeds=seeds, folder=Path(folder))
        found.append((pe, {metric.name: metric.value for metric in metrics.metrics}, metrics.tools))
    return found


def table(pes: Sequence[str] = PES, seeds: int = SEEDS) -> str:
    """The table in Markdown, with a line on what was measured."""
    measured = rows(pes, seeds)
    lines = ["| PE | LUT4 | carry | flip-flops | clock, MHz |", "| --- | ---: | ---: | ---: | ---: |"]
    for pe, metrics, _ in measured:
        clock = metrics.get("fmax")
        lines.append(f"| `{pe}` | {metrics['lut']:,.0f} | {metrics['carry']:,.0f} | {metrics['ff']:,.0f} | "
                     f"{'-' if clock is None else f'{clock:.0f}'} |")
    tools = ", ".join(f"{tool} {version}" for tool, version in measured[0][2].items())
    return "\n".join([f"### Synthesis: {LANES} lanes, {PIPELINE} register stages, ECP5", "", *lines, "", f"{tools}; "
                      f"{seeds} placement seed{'s' * (seeds != 1)}.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Area and clock of a handful of PEs as a Markdown table.")
    parser.add_argument("pes", nargs="*", metavar="PE", default=list(PES), help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="placement seeds; 0: area only")
    options = parser.parse_args()
    print(table(options.pes, options.seeds))


if __name__ == "__main__":
    main()
