"""What a job of the sparse-convolution core carries, and how it is packed."""

from __future__ import annotations

from amaranth.lib import data

from bitkiln.models.design.spconv import KERNEL_OFFSETS
from bitkiln.models.design.spconv_core import TAG_BITS, SpConvDesign

from .output import tensor_layout

__all__ = ["job_layout"]


def job_layout(design: SpConvDesign) -> data.StructLayout:
    """A job as `SpConvEngine` takes it; fields as of `SpConvJob`, ``kind`` and ``op`` by their place in the lists."""
    tree = design.map
    return data.StructLayout({
        "kind": 2, "op": 3, "level": tree.level_bits, "tree": 1, "cross": 1, "strict": 1,
        "source": tensor_layout(design), "in_groups": 8, "target": tensor_layout(design), "passes": 8,
        "pinned": KERNEL_OFFSETS, "clamp": 1, "clamp_low": 32, "clamp_high": 32, "rows": tree.out_bits + 1,
        "shape_x": tree.depth + 1, "shape_y": tree.depth + 1, "shape_z": tree.depth + 1,
        "batches": tree.batch_bits + 1, "tag": TAG_BITS})
