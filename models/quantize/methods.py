"""All weight quantisers by name, with the widths that they offer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import get_group_format
from .afpq import afpq
from .ant import ant, flint
from .asymmetric import rtn_asym
from .awq import awq
from .bitdistiller import bitdistiller
from .bitmod import bitmod, bitmod_compat
from .block_scaled import block_scaled, mx, nvfp4
from .groups import GroupQuantized
from .int_or_float import mofq
from .mixed24 import mixed24
from .normal_float import nf
from .olive import olive
from .paretoq import paretoq
from .ptq161 import ptq161
from .squeezellm import dense_sparse, squeezellm
from .symmetric import fp, rtn_sym
from .ternary import ternary

__all__ = ["METHODS", "Method", "applicable", "checked_width", "get_method", "plain_method", "quantize"]


@dataclass(frozen=True)
class Method:
    """A quantiser.

    Attributes
    ----------
    name : str
    function : callable
        ``function(tensor, bits, group, **options) -> GroupQuantized``; without a group it takes its own default.
    widths : tuple of float
        Bits of a code that it offers, rising.
    summary : str
        One line.
    wraps : bool
        Whether it calls another method (option ``base``).
    listed : bool
        Whether a comparison of all methods shows it (False where others show the same result).
    block : int or None
        Its block size, where that is fixed.
    rows_only : bool
        Whether it takes whole rows and no group.
    """

    name: str
    function: Callable[..., GroupQuantized]
    widths: tuple[float, ...]
    summary: str
    wraps: bool = False
    listed: bool = True
    block: int | None = None
    rows_only: bool = False

    @cached_property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(self.function).parameters)

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its keyword options, calibration apart."""
        return tuple(name for name, parameter in self._parameters.items()
                     if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in ("name", "calibration"))

    @property
    def takes_calibration(self) -> bool:
        """Whether activations can be given."""
        return "calibration" in self._parameters

    @property
    def needs_calibration(self) -> bool:
        """Whether activations must be given."""
        return self.takes_calibration and self._parameters["calibration"].default is inspect.Parameter.empty

    @property
    def default_group(self) -> int | None:
        """Group size without one being asked for; None: the row."""
        return self.block if self.block is not None else self._parameters["group"].default


def _afpq_nf(tensor: np.ndarray, bits: int, group: int | None = 128, *, scale: str | None = None,
             name: str = "tensor") -> GroupQuantized:
    return afpq(tensor, bits, group, element=f"nf{bits}", scale=scale, name=name)


def _nf_double(tensor: np.ndarray, bits: int, group: int | None = 64, *, name: str = "tensor") -> GroupQuantized:
    return nf(tensor, bits, group, double=True, name=name)


def _format_method(format: str, width: int, summary: str) -> Method:
    def quantise(tensor: np.ndarray, bits: int = width, group: int | None = None, *,
                 name: str = "tensor") -> GroupQuantized:
        return block_scaled(tensor, format, group, name=name)
    return Method(format, quantise, (width,), summary, block=get_group_format(format).block_size)


_ALL = (
    Method("rtn_sym", rtn_sym, (2, 3, 4, 5, 6, 7, 8), "symmetric integers, absmax scale"),
    Method("rtn_asym", rtn_asym, (2, 3, 4, 5, 6, 7, 8), "integers with a zero-point"),
    Method("fp", fp, (3, 4, 5, 6, 8), "small floats, absmax scale"),
    Method("bitmod", bitmod, (3, 4), "FP3 or FP4 with a special value chosen by each group (BitMoD)"),
    Method("bitmod_compat", bitmod_compat, (3, 4), "the same as the authors' program computes it, in fp16",
           listed=False),
    Method("afpq", afpq, (3, 4), "floats with a scale for each sign (AFPQ)"),
    Method("afpq_nf", _afpq_nf, (3, 4), "normal floats with a scale for each sign (AFPQ)"),
    Method("mofq", mofq, (3, 4, 6, 8), "INT or FP, whichever loses less (MoFQ)"),
    Method("nf", nf, (3, 4), "normal floats, blocks of 64 (QLoRA)"),
    Method("nf_double", _nf_double, (3, 4), "normal floats with double quantisation (QLoRA)"),
    Method("bitdistiller", bitdistiller, (2, 3, 4), "integers with searched asymmetric clipping (BitDistiller)"),
    Method("paretoq", paretoq, (1, 1.58, 2, 3, 4), "one rule for 1 to 4 bits, initial scales (ParetoQ)"),
    Method("ternary", ternary, (1.58,), "-1, 0, 1 times the mean magnitude (BitNet b1.58)"),
    Method("flint", flint, (4,), "FLINT4, absmax scale (ANT)"),
    Method("ant", ant, (3, 4), "the best type and clipping of the tensor (ANT)"),
    Method("olive", olive, (4,), "outlier-victim pairs (OliVe)"),
    Method("mx", mx, (4, 6, 8), "OCP MX of a width", listed=False, block=32),
    _format_method("mxfp4", 4, "E2M1, power-of-two scale for 32 (OCP MX)"),
    _format_method("mxfp6_e2m3", 6, "E2M3, power-of-two scale for 32 (OCP MX)"),
    _format_method("mxfp6_e3m2", 6, "E3M2, power-of-two scale for 32 (OCP MX)"),
    _format_method("mxfp8_e4m3", 8, "E4M3, power-of-two scale for 32 (OCP MX)"),
    _format_method("mxfp8_e5m2", 8, "E5M2, power-of-two scale for 32 (OCP MX)"),
    _format_method("mxint8", 8, "INT8, power-of-two scale for 32 (OCP MX)"),
    Method("nvfp4", nvfp4, (4,), "E2M1, UE4M3 scale for 16, float32 for the tensor (NVFP4)", block=16),
    _format_method("nvfp4_ue5m3", 4, "E2M1, UE5M3 scale for 16"),
    Method("awq", awq, (2, 3, 4, 5, 6, 7, 8), "input channels scaled by their activations (AWQ)", wraps=True),
    Method("squeezellm", squeezellm, (3, 4), "a k-means codebook for each row and sparse outliers (SqueezeLLM)",
           rows_only=True),
    Method("dense_sparse", dense_sparse, (2, 3, 4, 5, 6, 7, 8), "another method and sparse outliers", wraps=True),
    Method("ptq161", ptq161, (1.61,), "salient input channels in 4 bits, the others in one (PTQ1.61)"),
    Method("mixed24", mixed24, (2,), "2 bits, and 4 for groups of wide range, aligned"),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def get_method(name: str, where: str = "method") -> Method:
    """The method of a name."""
    if name not in METHODS:
        raise BitkilnError("unknown method", where=where, got=str(name), expected="a method of `bitkiln quantize`",
                           help=nearest(name, METHODS))
    return METHODS[name]


def checked_width(method: Method, bits: float | None, where: str = "bits") -> float:
    """``bits`` where the method offers it; the only width there is for None."""
    if bits is None and len(method.widths) == 1:
        return method.widths[0]
    if bits not in method.widths:
        shown = ", ".join(f"{width:g}" for width in method.widths)
        others = [other.name for other in METHODS.values() if bits in other.widths and other.listed]
        raise BitkilnError("missing width" if bits is None else "width not offered", where=where,
                           got=None if bits is None else f"{bits:g} bits" if isinstance(bits, (int, float)) else bits,
                           expected=f"{shown} for {method.name}",
                           help=f"methods of that width: {', '.join(others)}" if others else None)
    return next(width for width in method.widths if width == bits)


def plain_method(name: str, bits: float) -> Method:
    """The method that a wrapping one calls."""
    method = get_method(name, "base")
    if method.wraps:
        plain = [other.name for other in METHODS.values() if not other.wraps]
        raise BitkilnError("a wrapping method inside another", where="base", got=name, expected=", ".join(plain))
    checked_width(method, bits, f"bits of {name}")
    return method


def applicable(bits: float, calibrated: bool) -> list[Method]:
    """The methods of a width that a comparison shows."""
    return [method for method in METHODS.values() if bits in method.widths and method.listed
            and (calibrated or not method.needs_calibration)]


def quantize(method: str, tensor: np.ndarray, bits: float | None = None, group: int | str | None = "default", *,
             calibration: np.ndarray | None = None, name: str = "tensor", **options: object) -> GroupQuantized:
    """Quantise a tensor by a method's name.

    Parameters
    ----------
    method : str
        A key of ``METHODS``.
    tensor : ndarray (N, ...)
        Finite real numbers; the first axis are the output channels.
    bits : float, optional
        A width of the method; may be left out where there is one.
    group : int, None or "default"
        Weights along K that share a scale; None: the row; ``default``: what the method takes by itself.
    calibration : ndarray (rows, K), optional
        Activations; only for methods that take them.
    **options
        Of the method.

    Raises
    ------
    BitkilnError
        Unknown method, width or option, missing calibration, or a tensor that cannot be quantised.
    """
    chosen = get_method(method)
    width = checked_width(chosen, bits)
    known = chosen.options
    if chosen.wraps:
        known = (*known, *plain_method(str(options.get("base", chosen._parameters["base"].default)), width).options)
    for option in options:
        if option not in known:
            raise BitkilnError("unknown option", where=f"method {method}", got=option,
                               expected=", ".join(known) or "none", help=nearest(option, known) if known else None)
    if calibration is not None:
        if not chosen.takes_calibration:
            raise BitkilnError("calibration without meaning", where="calibration", got=f"method {method}",
                               expected="a method that takes activations: " + ", ".join(
                                   m.name for m in METHODS.values() if m.takes_calibration))
        options["calibration"] = calibration
    elif chosen.needs_calibration:
        raise BitkilnError("no calibration data", where="calibration",
                           expected=f"activation rows (rows, K) for {method}")
    if group == "default":
        group = chosen.default_group
    return chosen.function(tensor, width, group, name=name, **options)
