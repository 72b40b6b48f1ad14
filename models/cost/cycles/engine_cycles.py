"""One face of the cycle models of all engines: ``cycles_of(design, job)``.

=========================== =============================================== ==========================================
design                      job                                             model
=========================== =============================================== ==========================================
DotDesign                   `mac_cycles.DotJob`                             `mac_cycles`
MorphableDesign             Job                                             `mac_cycles`
ArrayDesign                 Job                                             `mac_cycles`
MatmulDesign                Job; with descriptors `dma.MemoryJob`           `cycles`; `dma`
BitSerialDesign             GroupStream                                     `bitserial`
DequantDesign               DequantJob, or `DequantWork` with types, codes  `dequant`
CodebookDesign              ChunkStream                                     `codebook`
CodebookArrayDesign         ArrayStream                                     `codebook_array`
SparseDesign                SparseStream                                    `sparse`
MapDesign                   `map_jobs.MapLoad`, `map_jobs.MapJob`           `map_search`, `map_compact`, `octree`
=========================== =============================================== ==========================================

Every model equals its engine's RTL, cycle by cycle, while every stream is always ready: `benchmarks.cycle_error`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ...errors import BitkilnError
from .roofline import Roofline, roofline

__all__ = ["EngineCycles", "cycles_of"]

# Design class -> module here and its function. Looked up when used.
_MODELS = {
    "DotDesign": ("engine_adapters", "dot_cycles"),
    "MorphableDesign": ("engine_adapters", "pe_cycles"),
    "ArrayDesign": ("engine_adapters", "array_cycles"),
    "MatmulDesign": ("engine_adapters", "core_cycles"),
    "BitSerialDesign": ("engine_adapters_serial", "bitserial_cycles"),
    "DequantDesign": ("engine_adapters_serial", "dequant_cycles"),
    "CodebookDesign": ("engine_adapters_serial", "dequantiser_cycles"),
    "CodebookArrayDesign": ("engine_adapters_serial", "codebook_array_cycles"),
    "SparseDesign": ("engine_adapters_serial", "side_cycles"),
    "MapDesign": ("engine_adapters", "map_cycles"),
}


@dataclass(frozen=True)
class EngineCycles:
    """Cycles of one job on one engine that finds it idle, every stream always ready.

    Attributes
    ----------
    cycles : int
        As the engine's own counter has them; without one from the first transfer to the last, both included.
    compute : int
        Cycles in which the unit that limits the engine does something.
    stalls : dict of str to int
        The other cycles, by cause: with ``compute`` they add up to ``cycles``.
    work : int
        Useful products (MACs), or what ``unit`` says.
    peak : int or Fraction
        Of these in a cycle at full use.
    traffic, widths : dict of str to number
        Bytes that cross each port at least, payloads without padding or marks, and what the port moves in a cycle.
    unit : str
        ``MAC``; of engines that multiply nothing ``weight``, ``pair`` or ``voxel``.
    counters : dict of str to int
        What the RTL's other counters show, by their names.
    """

    cycles: int
    compute: int
    stalls: dict[str, int]
    work: int
    peak: int | Fraction
    traffic: dict[str, float]
    widths: dict[str, float]
    unit: str = "MAC"
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Useful products: 0 of engines that multiply nothing."""
        return self.work if self.unit == "MAC" else 0

    @property
    def utilisation(self) -> float:
        """Work by what the engine could do in the same cycles."""
        return float(Fraction(self.work) / (Fraction(self.peak) * self.cycles))

    @property
    def roofline(self) -> Roofline:
        """Bounds of the job: the peak, and each port."""
        return roofline(self.work, self.traffic, self.peak, self.widths)


def cycles_of(design: Any, job: Any) -> EngineCycles:
    """Cycles of a job, by the model of the design's engine.

    Parameters
    ----------
    design : dataclass of `models.design`
    job : that engine's job, see the table above

    Returns
    -------
    EngineCycles

    Raises
    ------
    BitkilnError
        No engine has this design, the job is of another kind, or the engine refuses it.
    """
    name = type(design).__name__
    if name not in _MODELS:
        raise BitkilnError("no cycle model", where="design", got=name, expected=" or ".join(_MODELS))
    module, function = _MODELS[name]
    return getattr(importlib.import_module(f".{module}", __package__), function)(design, job)


def expect_job(job: Any, kinds: Mapping[str, type]) -> None:
    """Raise unless the job is of one of the kinds, given by name."""
    if not isinstance(job, tuple(kinds.values())):
        raise BitkilnError("job of another engine", where="job", got=type(job).__name__, expected=" or ".join(kinds))


def rest(cycles: int, compute: int, **stalls: int) -> dict[str, int]:
    """Stalls by cause; what is left is the pipeline's filling and draining."""
    return {**stalls, "pipeline": cycles - compute - sum(stalls.values())}
