"""What other tools say of the same work on the same array: SCALE-Sim, ZigZag, AccelForge.

SCALE-Sim's cycles are a closed form, offered here as a compatibility mode. An array of R rows and C columns takes a
product C[M, N] = A[M, K] @ W[N, K]^T in folds; each is filled and drained by itself, nothing overlaps::

    weight stationary   ceil(K / R) * ceil(N / C) folds of  2 R + C + M - 2  cycles   (load R, skew R + C - 2, M rows)
    output stationary   ceil(M / R) * ceil(N / C) folds of    K + R + C - 2  cycles   (skew R + C - 2, K steps)
    input stationary    ceil(K / R) * ceil(M / C) folds of  2 R + C + N - 2  cycles   (as weight stationary)

and the count starts at 0, so that the total is one less. It equals every run of SCALE-Sim 3.0.0 that was made: the
eight of `FIGURES`, and 42 small ones on square and oblong arrays in its test. All figures here are runs of the tools,
not their publications.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..design.checks import check_choice, check_integer
from ..workloads.shapes import ConvGeometry, LayerShape, conv, linear

__all__ = ["DATAFLOWS", "FIGURES", "PeerFigure", "SETUPS", "peer_layers", "scalesim_cycles", "scalesim_utilisation"]

DATAFLOWS = ("weight", "output", "input")


def scalesim_cycles(layer: LayerShape, rows: int, columns: int, dataflow: str) -> int:
    """Cycles of a layer as SCALE-Sim 3.0.0 counts them when SRAM never makes it wait.

    Parameters
    ----------
    layer : LayerShape
        Its ``count`` products run one after another, each counted as a layer.
    rows, columns : int
        Of the array.
    dataflow : str
        ``weight``, ``output`` or ``input`` stationary.
    """
    check_integer(rows, "rows", 1, 1 << 16)
    check_integer(columns, "columns", 1, 1 << 16)
    check_choice(dataflow, "dataflow", DATAFLOWS)
    # What lies along the rows, along the columns, and what streams; held operands are loaded first, row by row.
    down, across, streamed, load = {"weight": (layer.k, layer.n, layer.m, rows),
                                    "output": (layer.m, layer.n, layer.k, 0),
                                    "input": (layer.k, layer.m, layer.n, rows)}[dataflow]
    folds, each = -(-down // rows) * -(-across // columns), load + rows + columns + streamed - 2
    return layer.count * (folds * each - 1)


def scalesim_utilisation(layer: LayerShape, rows: int, columns: int, dataflow: str) -> float:
    """Share of the array's multipliers that work, 0..1, over the cycles of `scalesim_cycles`."""
    return layer.macs / (rows * columns * scalesim_cycles(layer, rows, columns, dataflow))


def peer_layers() -> dict[str, LayerShape]:
    """The four layers of the comparison, all on 16 x 16 with 8-bit operands and 32-bit sums."""
    geometry = ConvGeometry(56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1))
    layers = (linear("gemm-64", 64, 64, 64), linear("gemm-256", 256, 256, 256),
              linear("bert-qkv", 128, 768, 768), conv("resnet18-conv2_1a", geometry))
    return {layer.name: layer for layer in layers}


# Array and memories of the runs; energy follows from the users' constants, DRAM's most of all.
SETUPS = {
    "SCALE-Sim 3.0.0": "16 x 16, SRAM 64 KB x 3, InterfaceBandwidth CALC; cycles without the first prefetch",
    "ZigZag 3.9.1": "16 x 16 (C x K), a weight register per PE, a 32-bit accumulator per column, 3 x 64 KB SRAM, "
                    "DRAM 128 bit/cycle at 8 pJ/bit, MAC 0.23 pJ, opt=latency",
    "ZigZag 3.9.1 systolic": "as ZigZag 3.9.1, with systolic_dimensions: [D1, D2]",
    "AccelForge 1.0.467": "16 x 16, one 192 KB SRAM at 0.07 pJ/bit, DRAM 128 Gb/s at 8 pJ/bit, MAC 0.23 pJ, 1 GHz",
}


@dataclass(frozen=True)
class PeerFigure:
    """One run of another tool.

    Attributes
    ----------
    tool : str
        Name and version, a key of `SETUPS`.
    layer : str
        A key of `peer_layers`.
    cycles : int
    dataflow : str or None
        One of `DATAFLOWS`, None where the tool searches for a mapping.
    utilisation : float or None
        As the tool prints it, 0..1, three digits.
    energy_uj : float or None
        Microjoules, with the constants of the setup.
    remark : str
    """

    tool: str
    layer: str
    cycles: int
    dataflow: str | None = None
    utilisation: float | None = None
    energy_uj: float | None = None
    remark: str = ""


FIGURES = (
    PeerFigure("SCALE-Sim 3.0.0", "gemm-64", 1759, "weight", 0.582, remark="3,241 with prefetch"),
    PeerFigure("SCALE-Sim 3.0.0", "gemm-64", 1503, "output", 0.681),
    PeerFigure("SCALE-Sim 3.0.0", "gemm-256", 77311, "weight", 0.848),
    PeerFigure("SCALE-Sim 3.0.0", "gemm-256", 73215, "output", 0.895),
    PeerFigure("SCALE-Sim 3.0.0", "bert-qkv", 400895, "weight", 0.736),
    PeerFigure("SCALE-Sim 3.0.0", "bert-qkv", 306431, "output", 0.962),
    PeerFigure("SCALE-Sim 3.0.0", "resnet18-conv2_1a", 458207, "weight", 0.986),
    PeerFigure("SCALE-Sim 3.0.0", "resnet18-conv2_1a", 475103, "output", 0.950),
    PeerFigure("ZigZag 3.9.1", "gemm-64", 1313, None, 0.780, 1.74),
    PeerFigure("ZigZag 3.9.1", "gemm-256", 74496, None, 0.880, 35.5),
    PeerFigure("ZigZag 3.9.1", "bert-qkv", 305680, None, 0.965, 183.0),
    PeerFigure("ZigZag 3.9.1", "resnet18-conv2_1a", 464968, None, 0.971, 277.0),
    PeerFigure("ZigZag 3.9.1 systolic", "gemm-64", 1343),
    PeerFigure("ZigZag 3.9.1 systolic", "gemm-256", 74526),
    PeerFigure("ZigZag 3.9.1 systolic", "bert-qkv", 305710),
    PeerFigure("ZigZag 3.9.1 systolic", "resnet18-conv2_1a", 464998),
    PeerFigure("AccelForge 1.0.467", "gemm-64", 1536, None, None, 1.73),
    PeerFigure("AccelForge 1.0.467", "gemm-256", 65536, None, None, 34.8, "energy-optimal mapping"),
    PeerFigure("AccelForge 1.0.467", "bert-qkv", 294912, None, None, 229.0, "latency-optimal mapping"),
)
