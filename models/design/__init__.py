"""Frozen, validated parameter dataclasses of every engine."""

from .dot import MAX_PIPELINE, Accumulator, DotDesign, parse_pe

__all__ = ["Accumulator", "DotDesign", "MAX_PIPELINE", "parse_pe"]
