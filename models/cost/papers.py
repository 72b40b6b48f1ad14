"""Figures that papers state, to be printed beside ours: literature, in their own technology, never used as a result.

BitMoD's cycles, energies and means are in `llm_published`, runs of other simulators in `peers`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..design.checks import check_choice

__all__ = ["PAPERS", "PUBLISHED", "Published", "published"]

PAPERS = {
    "XR-NPE": "XR-NPE, arXiv 2508.13049, abstract",
    "BitMoD": "BitMoD, HPCA 2025, arXiv 2411.11745, abstract",
    "SpOctA": "SpOctA, arXiv 2308.09249, abstract",
    "FP8-INT8": "FP8 versus INT8 for efficient deep learning inference, arXiv 2303.17951, abstract",
    "minifloat": "Post-Training Quantization with Low-precision Minifloats and Integers on FPGAs, arXiv 2311.12359, "
                 "abstract",
    "scaling": "Scaling Laws for Floating Point Quantization Training, arXiv 2501.02423, abstract",
    "roofline": "LLM Inference Unveiled, arXiv 2402.16363: roofline of the decoding of one token",
    "flash": "LLM in a flash, arXiv 2312.11514, abstract",
    "SN40L": "SambaNova SN40L, arXiv 2405.07518, abstract",
}


@dataclass(frozen=True)
class Published:
    """One claim.

    Attributes
    ----------
    paper : str
        A key of `PAPERS`.
    claim : str
    low, high : float or None
        Range, equal for a single figure; None for a claim in words.
    unit : str
    conditions : str
        What it was stated for: technology, baseline.
    """

    paper: str
    claim: str
    low: float | None
    high: float | None
    unit: str
    conditions: str = ""

    @property
    def source(self) -> str:
        return PAPERS[self.paper]


def _one(paper: str, claim: str, value: float, unit: str, conditions: str = "") -> Published:
    return Published(paper, claim, value, value, unit, conditions)


_BEST = "against the best published MACs, 28 nm"
PUBLISHED: dict[str, Published] = {
    "xr_area": _one("XR-NPE", "area saved by one PE for four formats", 42, "%", _BEST),
    "xr_power": _one("XR-NPE", "power saved", 38, "%", _BEST),
    "xr_mm2": _one("XR-NPE", "area of the engine", 0.016, "mm2", "28 nm, 1.72 GHz"),
    "xr_pj": _one("XR-NPE", "energy", 14, "pJ", "28 nm; printed as 'arithmetic intensity', of what is not said"),
    "xr_intensity": _one("XR-NPE", "more arithmetic intensity", 2.85, "x", "baseline not described in the abstract"),
    "xr_luts": _one("XR-NPE", "fewer LUTs", 1.4, "x", "VCU129, against other accelerators"),
    "xr_vio": _one("XR-NPE", "more energy efficiency in visual-inertial odometry", 23, "%", "whole system"),
    "xr_simd": Published("XR-NPE", "FP4, Posit(4,1), Posit(8,0) and Posit(16,1) share one 16-bit SIMD word", None, None,
                         "products a cycle"),
    "octa_search": Published("SpOctA", "faster map search", 8.8, 21.2, "x", "40 nm; the baseline is not named"),
    "octa_latency": Published("SpOctA", "latency saved by skipping", 44.4, 79.1, "%", "40 nm; 'inherent sparsity of "
                              "each voxel' may be absent neighbours or zero channels"),
    "octa_cache": _one("SpOctA", "energy of external accesses saved by the cache", 57.6, "%", "mean over networks, "
                       "against uniform caching"),
    "octa_speed": Published("SpOctA", "speed-up over other accelerators", 1.1, 6.9, "x", "40 nm"),
    "octa_energy": Published("SpOctA", "energy efficiency over other accelerators", 1.5, 3.1, "x", "40 nm"),
    "fp8_overhead": Published("FP8-INT8", "hardware cost of FP8 above INT8", 50, 180, "%", "dedicated hardware, in "
                              "compute"),
    "crossover": Published("FP8-INT8", "INT8 is better where values spread evenly, FP8 where outliers dominate", None,
                           None, "", "theory and post-training quantisation"),
    "pareto": Published("minifloat", "integers often stay on the front of accuracy against hardware, 3 to 8 bits",
                        None, None, "", "FPGA"),
    "split": Published("scaling", "exponent bits matter slightly more than mantissa bits", None, None, "",
                       "training of language models"),
    "blocks": Published("scaling", "finer blocks of a scale lose less", None, None, "", "training of language models"),
    "intensity": Published("roofline", "a decoded token uses each weight once: 16 / bits", None, None, "FLOP/byte"),
    "flash_cpu": Published("flash", "faster than loading all weights, CPU", 4, 5, "x", "whole inference"),
    "flash_gpu": Published("flash", "faster than loading all weights, GPU", 20, 25, "x", "whole inference"),
    "flash_bundle": Published("flash", "rows and columns stored together are read in chunks twice as long, faster",
                              None, None, ""),
    "flash_size": _one("flash", "models larger than DRAM", 2, "x"),
    "sn_fusion": Published("SN40L", "faster by fusion of operators", 2, 13, "x", "against an unfused baseline"),
    "sn_switch": Published("SN40L", "faster switch of models", 15, 31, "x", "against DGX systems"),
    "sn_footprint": _one("SN40L", "smaller footprint of machines", 19, "x", "composition of experts"),
}


def published(name: str) -> Published:
    """A claim by key; raises BitkilnError."""
    check_choice(name, "published figure", tuple(PUBLISHED))
    return PUBLISHED[name]
