"""Figures of real memories, each with its source.

Sizes and widths of DRAM and flash are examples of one device or stack and say so; energies are constants of the
literature. What nobody here knows is None.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BitkilnError, nearest
from ..energy.sram import sram_table
from .memory import MemoryTier

__all__ = ["DRAM", "ENERGY_PJ_PER_BIT", "Constant", "dram_tier", "flash_tier", "register_tier", "sram_tier"]

_IHP = "IHP Open PDK sg13g2, liberty of the macro RM_IHPSG13_1P_{}, typical corner, 1.2 V, 25 C: energy of one access"


@dataclass(frozen=True)
class Constant:
    """A figure, its unit and where it comes from."""

    value: float
    unit: str
    source: str


_ACCELFORGE = "hwcomponents (AccelForge), DRAM energy per bit of {}; the package cites public pages"
ENERGY_PJ_PER_BIT = {
    "lpddr4": Constant(8.0, "pJ/bit", _ACCELFORGE.format("LPDDR4")),
    "ddr3": Constant(70.0, "pJ/bit", _ACCELFORGE.format("DDR3")),
    "hbm2": Constant(6.25, "pJ/bit", _ACCELFORGE.format("HBM2")),
    "hbm3": Constant(4.05, "pJ/bit", _ACCELFORGE.format("HBM3")),
    "ddr4": Constant(15.0, "pJ/bit", "DDR4 as SpOctA calculates with it (arXiv 2308.09249)"),
}


@dataclass(frozen=True)
class _Dram:
    """Data pins and their rate [MT/s]; the size is that of an example."""

    pins: int
    rate_mts: float
    size_bits: int
    source: str


DRAM = {
    "lpddr4": _Dram(16, 3200, 8 << 30, "JESD209-4: one 16-bit channel at 3200 MT/s; 8 Gbit as an example"),
    "ddr3": _Dram(64, 1600, 32 << 30, "JESD79-3: a 64-bit module at 1600 MT/s; 4 GiB as an example"),
    "ddr4": _Dram(64, 3200, 64 << 30, "JESD79-4: a 64-bit module at 3200 MT/s; 8 GiB as an example"),
    "hbm2": _Dram(1024, 2000, 64 << 30, "JESD235: a stack of 1024 bits at 2 Gbit/s; 8 GiB as an example"),
    "hbm3": _Dram(1024, 6400, 128 << 30, "JESD238: a stack of 1024 bits at 6.4 Gbit/s; 16 GiB as an example"),
}


def _known(name: str, choices: dict, where: str) -> None:
    if name not in choices:
        raise BitkilnError("unknown memory", where=where, got=name, expected=" or ".join(choices),
                           help=nearest(name, choices))


def register_tier(size_bits: int, bandwidth_bits_per_cycle: float) -> MemoryTier:
    """Registers beside the arithmetic; their energy is part of the datapath's, so it is None here."""
    return MemoryTier("registers", size_bits, "size and width of the design; energy counted with its flip-flops",
                      bandwidth_bits_per_cycle=bandwidth_bits_per_cycle)


def sram_tier(macro: str = "1024x64", banks: int = 1, name: str = "sram") -> MemoryTier:
    """``banks`` macros side by side, one access a cycle each, data a cycle later."""
    macros = {f"{each.words}x{each.width}": each for each in sram_table()}
    _known(macro, macros, "sram_tier")
    if isinstance(banks, bool) or not isinstance(banks, int) or banks < 1:
        raise BitkilnError("out of range", where="banks", got=banks, expected="an integer of 1 or more")
    chosen = macros[macro]
    return MemoryTier(name, chosen.words * chosen.width * banks, _IHP.format(macro),
                      bandwidth_bits_per_cycle=chosen.width * banks, latency_cycles=1,
                      energy_pj_per_bit=chosen.read_pj / chosen.width,
                      write_pj_per_bit=chosen.write_pj / chosen.width)


def dram_tier(kind: str, size_bits: int | None = None) -> MemoryTier:
    """Peak bandwidth of the standard, energy of the literature; latency is left 0, a bound from below."""
    _known(kind, DRAM, "dram_tier")
    dram, energy = DRAM[kind], ENERGY_PJ_PER_BIT[kind]
    source = f"bandwidth: {dram.source}; energy: {energy.source}; latency not counted"
    return MemoryTier(kind, size_bits or dram.size_bits, source, energy_pj_per_bit=energy.value,
                      bandwidth_bytes_per_s=dram.pins * dram.rate_mts * 1e6 / 8)


# LLM in a flash (arXiv 2312.11514): linear reads exceed 6 GiB/s (section 2.2). OPT-6.7B in 32 bits (section 4.1):
# chunks of 32 KiB, 2.4 % of the feed-forward weights for a token, 125 ms. 32 layers of 2 x 4096 x 16384 weights.
_FLASH_PEAK = 6 * 2**30
_FLASH_CHUNK = 32 * 1024
_FLASH_RATE = 0.024 * 32 * 2 * 4096 * 16384 * 4 / 0.125


def flash_tier(size_bits: int = 8 << 40) -> MemoryTier:
    """A laptop's flash as LLM in a flash measured it; what a chunk costs follows from two of its figures.

    Reads by several threads overlap, so the overhead is what remains of a chunk's latency, about 5 us. Energy: None.
    """
    overhead_s = _FLASH_CHUNK / _FLASH_RATE - _FLASH_CHUNK / _FLASH_PEAK
    return MemoryTier("flash", size_bits, "arXiv 2312.11514: 6 GiB/s linear (section 2.2); overhead of a chunk derived "
                      "from 2.4 % of OPT-6.7B's feed-forward weights in 125 ms by chunks of 32 KiB (section 4.1, first "
                      "version); size: 1 TiB as an example; energy not known",
                      bandwidth_bytes_per_s=_FLASH_PEAK, chunk_overhead_ns=overhead_s * 1e9)
