"""Bitkiln: an open hardware generator for verified low-precision accelerators."""

__version__ = "0.1.0"
