"""Frozen, validated parameter dataclasses of every engine."""

from .dot import MAX_PIPELINE, Accumulator, DotDesign, parse_pe
from .matmul import ArrayDesign, Job, MatmulDesign
from .morphable import XR_NPE_MODES, Mode, MorphableDesign

__all__ = ["Accumulator", "ArrayDesign", "DotDesign", "Job", "MAX_PIPELINE", "MatmulDesign", "Mode",
           "MorphableDesign", "XR_NPE_MODES", "parse_pe"]
