"""Frozen, validated parameter dataclasses of every engine."""

from .dot import Accumulator, DotDesign, parse_pe

__all__ = ["Accumulator", "DotDesign", "parse_pe"]
