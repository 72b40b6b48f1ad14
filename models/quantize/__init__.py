"""Turning real tensors into codes and scales."""

from .rtn import METHODS, Quantized, rtn

__all__ = ["METHODS", "Quantized", "rtn"]
