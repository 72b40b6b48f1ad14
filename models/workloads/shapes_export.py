"""Workloads as the files of other tools, to compare cycles: SCALE-Sim's CSV and ZigZag's YAML."""

from __future__ import annotations

import re

from ..design.checks import check_choice, check_integer
from ..errors import BitkilnError
from .shapes import ConvGeometry, LayerShape, Workload

__all__ = ["scalesim_csv", "zigzag_yaml"]

PRODUCTS = "Layer, M, N, K,"
CONVOLUTIONS = "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,"


def scalesim_csv(workload: Workload, kind: str = "gemm") -> str:
    """SCALE-Sim's list of layers (``-i gemm`` or ``-i conv``), a row per layer shape.

    SCALE-Sim has no repetition: a layer of ``count`` products is called ``name*count``, and its cycles are to be
    multiplied. `shapes_files.workload_from_csv` reads it so.

    Parameters
    ----------
    workload : Workload
    kind : str
        ``gemm``: every layer as M, N, K. ``conv``: convolutions with their geometry, others as 1x1 convolutions of an
        M x 1 image. SCALE-Sim rounds the output's side up where windows do not fit evenly, so inputs are given as
        large as the windows reach.

    Raises
    ------
    BitkilnError
        With ``conv``: a layer that a row cannot say (dilation, two strides, several images).
    """
    check_choice(kind, "kind", ("gemm", "conv"))
    if kind == "gemm":
        rows = [f"{_csv_name(layer)}, {layer.m}, {layer.n}, {layer.k}," for layer in workload.layers]
        return "\n".join([PRODUCTS, *rows]) + "\n"
    return "\n".join([CONVOLUTIONS, *map(_conv_row, workload.layers)]) + "\n"


def _csv_name(layer: LayerShape) -> str:
    # "DP" in a name makes SCALE-Sim split the row by channels
    name = re.sub(r"[\s,\"*]+", "_", layer.name).replace("DP", "Dp")
    return name if layer.count == 1 else f"{name}*{layer.count}"


def _conv_row(layer: LayerShape) -> str:
    geometry = layer.conv
    if geometry is None:
        return f"{_csv_name(layer)}, {layer.m}, 1, 1, 1, {layer.k}, {layer.n}, 1,"
    images = _images(layer, geometry)
    if geometry.dilation != (1, 1) or geometry.stride[0] != geometry.stride[1] or images != 1:
        raise BitkilnError("SCALE-Sim has no such convolution", where=f"layer {layer.name}",
                           got=f"dilation {geometry.dilation}, stride {geometry.stride}, {images} images",
                           expected="dilation 1, one stride, one image", help='use kind="gemm"')
    sides = [(out - 1) * stride + kernel for out, stride, kernel in
             zip((geometry.out_height, geometry.out_width), geometry.stride, geometry.kernel, strict=True)]
    return (f"{_csv_name(layer)}, {sides[0]}, {sides[1]}, {geometry.kernel[0]}, {geometry.kernel[1]}, "
            f"{geometry.channels // geometry.groups}, {layer.n}, {geometry.stride[0]},")


def _images(layer: LayerShape, geometry: ConvGeometry) -> int:
    return layer.m // (geometry.out_height * geometry.out_width)


def zigzag_yaml(workload: Workload, *, weight_bits: int = 8, input_bits: int = 8, sum_bits: int = 32,
                output_bits: int = 32) -> str:
    """ZigZag's workload file (zigzag-dse 3.9): a node per layer, each on its own.

    Products of one shape are a loop ``G`` outside of the others. Nodes read their inputs from outside: ZigZag then
    costs each layer as if it came first.

    Parameters
    ----------
    workload : Workload
    weight_bits, input_bits, sum_bits, output_bits : int
        1 to 64: of an element, of a partial sum and of a result.
    """
    bits = {"W": weight_bits, "I": input_bits, "O": sum_bits, "O_final": output_bits}
    for name, value in bits.items():
        check_integer(value, f"operand_precision.{name}", 1, 64)
    return "\n".join(_node(place, layer, bits) for place, layer in enumerate(workload.layers))


def _node(place: int, layer: LayerShape, bits: dict[str, int]) -> str:
    geometry = layer.conv
    grouped = layer.count > 1
    g = "[g]" if grouped else ""
    # Blocks that repeat a convolution have more products than its groups: only im2col says so.
    if geometry is not None and layer.count == geometry.groups:
        operator = "Conv"
        equation = f"O[b]{g}[k][oy][ox]+=W{g}[k][c][fy][fx]*I[b]{g}[c][iy][ix]"
        relations = [f"i{axis}={stride}*o{axis}+{dilation}*f{axis}" for axis, stride, dilation in
                     zip("yx", geometry.stride, geometry.dilation, strict=True)]
        loops = {"B": _images(layer, geometry), "G": layer.count, "K": layer.n, "C": geometry.channels // layer.count,
                 "OY": geometry.out_height, "OX": geometry.out_width, "FY": geometry.kernel[0],
                 "FX": geometry.kernel[1]}
    else:
        operator, relations = "Gemm", []
        equation = f"O{g}[b][k]+=I{g}[b][c]*W{g}[c][k]"
        loops = {"G": layer.count, "B": layer.m, "C": layer.k, "K": layer.n}
    if not grouped:
        del loops["G"]
    name = re.sub(r"[^\w.\-]+", "_", layer.name)
    lines = [f"- id: {place}", f"  name: {name}", f"  operator_type: {operator}", f"  equation: {equation}",
             f"  dimension_relations: [{', '.join(relations)}]", f"  loop_dims: [{', '.join(loops)}]",
             f"  loop_sizes: [{', '.join(map(str, loops.values()))}]", "  operand_precision:",
             *(f"    {key}: {value}" for key, value in bits.items()),
             "  operand_source:", f"    I: {place}", f"    W: {place}", ""]
    return "\n".join(lines)
