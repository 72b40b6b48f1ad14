"""Bit-exact results of every engine."""

from .dot import DotResult, dot, trace

__all__ = ["DotResult", "dot", "trace"]
