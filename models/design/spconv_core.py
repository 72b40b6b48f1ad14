"""Parameters and jobs of the sparse-convolution core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..errors import BitkilnError
from .checks import check_choice, check_integer, check_power_of_two
from .dot import Accumulator
from .matmul import ArrayDesign, MatmulDesign
from .morphable import Mode, MorphableDesign
from .spconv import KERNEL_OFFSETS, CacheDesign, GatherDesign, MapDesign

__all__ = ["KINDS", "NO_VOXEL", "OPS", "RECORDS_REQUEST", "REQUEST_FIELDS", "SpConvDesign", "SpConvJob", "VOXEL_FIELDS",
           "WEIGHT_BITS"]

# What a job does, and (for a convolution) which map it takes; the codes are those of the registers.
KINDS = ("load", "convolve", "store")
OPS = ("submanifold", "down2", "inverse2", "generative2", "stride3")
MAX_PASSES, MAX_GROUPS, TAG_BITS = 255, 255, 16
WEIGHT_BITS = 128   # a record of an output channel

# What streams carry, the first field lowest. A request is for the weight tile of offset ``k`` in a pass of job ``tag``.
REQUEST_FIELDS = {"k": 8, "part": 8, "tag": TAG_BITS}
RECORDS_REQUEST = 31    # in place of an offset: the records of the pass
VOXEL_FIELDS = {"batch": 32, "x": 32, "y": 32, "z": 32}
NO_VOXEL = 1 << 31      # as the batch of a voxel: the item only ends a cloud without any


def _word_bits(bits: int) -> int:
    """The AXI4-Stream width for so many bits."""
    return max(1 << (bits - 1).bit_length(), 8)


@dataclass(frozen=True)
class SpConvDesign:
    """The sparse-convolution core: octree, map search, gather-MAC, weight cache and requantisation.

    Parameters
    ----------
    map : MapDesign
        The octree; every tree has these sizes.
    gather : GatherDesign
        The array; its features and weights lie on the chip.
    pinned : int
        Weight tiles that stay on the chip during a pass, 0..27 (with ``pack: row`` 27: all of them).
    trees : int
        1, or 2: a second cloud of output voxels beside the first, for convolutions whose outputs are no nodes of the
        input's tree (dilating stride 3, or edges that are dropped).
    output_lanes : int
        Sums requantised in a cycle; a power of two that divides ``gather.lanes``.
    queue : int
        Jobs that can wait, a power of two 2..64.
    """

    map: MapDesign = field(default_factory=MapDesign)
    gather: GatherDesign = field(default_factory=GatherDesign)
    pinned: int = 27
    trees: int = 1
    output_lanes: int = 4
    queue: int = 16

    def __post_init__(self):
        gather = self.gather
        for key, low, high in (("pinned", 0, KERNEL_OFFSETS), ("trees", 1, 2), ("output_lanes", 1, 64),
                               ("queue", 2, 64)):
            check_integer(getattr(self, key), key, low, high)
        for key in ("output_lanes", "queue"):
            check_power_of_two(getattr(self, key), key)
        if gather.outputs % gather.lanes:
            raise BitkilnError("outputs do not fill words of features", where="gather.outputs", got=gather.outputs,
                               expected=f"a multiple of the {gather.lanes} lanes")
        if gather.lanes % self.output_lanes:
            raise BitkilnError("does not divide the lanes", where="output_lanes", got=self.output_lanes,
                               expected=f"a divisor of {gather.lanes}")
        if gather.pack == "row" and self.pinned != KERNEL_OFFSETS:
            raise BitkilnError("contradictory options", where="pinned", got=self.pinned,
                               expected=f"{KERNEL_OFFSETS} with pack row: all offsets of an output row at once")
        if gather.index_bits != self.map.index_bits:
            object.__setattr__(self, "gather", gather.with_options(index_bits=self.map.index_bits))
        wanted = self.pinned + 2
        if gather.weight_tiles != wanted:
            object.__setattr__(self, "gather", self.gather.with_options(weight_tiles=wanted))
        if gather.activation.name != gather.weight.name:
            raise BitkilnError("different formats of features and weights", where="gather.weight",
                               got=gather.weight.name, expected=gather.activation.name)
        _ = self.output

    def with_options(self, **options) -> SpConvDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def cache(self) -> CacheDesign:
        return CacheDesign(self.pinned, self.gather.slots, self.map.index_bits)

    @cached_property
    def output(self) -> MatmulDesign:
        """The matmul core whose output lane this one has: one row, requantised to the features' own format."""
        fmt = self.gather.activation
        pe = MorphableDesign((Mode(fmt, self.gather.weight),),
                             Accumulator(depth=KERNEL_OFFSETS * self.gather.channels), implementation="parallel")
        rule = "integer" if fmt.family == "int" else "float"
        design = MatmulDesign(ArrayDesign(1, self.gather.outputs, pe), rules=(rule,), outputs=(fmt.name,),
                              accumulate=False, output_lanes=self.output_lanes)
        if pe.accumulator_bits < self.gather.sum_bits:
            raise BitkilnError("sums too wide", where="gather.channels", got=self.gather.sum_bits,
                               expected=f"at most {pe.accumulator_bits} bits")
        return design

    @property
    def rule(self) -> str:
        return self.output.rules[0]

    @property
    def feature_bits(self) -> int:
        """Data width of the streams of features: one word of ``lanes`` codes."""
        return _word_bits(self.gather.lanes * self.gather.activation.bits)

    @property
    def weight_bits(self) -> int:
        """Data width of the stream of weights: the ``outputs`` weights of one input channel, or a record."""
        return max(_word_bits(self.gather.outputs * self.gather.weight.bits), WEIGHT_BITS)

    @property
    def words_per_pass(self) -> int:
        """Words of an output row that one pass computes."""
        return self.gather.outputs // self.gather.lanes

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter that changes the netlist."""
        g = self.gather
        text = "_".join([self.map.name, g.name, f"p{self.pinned}", f"o{self.output_lanes}", f"q{self.queue}"])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"spconv_{g.activation.name}_{g.lanes}x{g.outputs}_{g.pack}_n{self.map.capacity}_t{self.trees}_{digest}"


@dataclass(frozen=True)
class SpConvJob:
    """One job of the core.

    Parameters
    ----------
    kind : str
        ``load``: voxels become tree ``tree``, and their features (``in_groups`` words each; 0: none) a tensor at
        ``out_base``. ``convolve``: a tensor at ``in_base`` to one at ``out_base``. ``store``: ``rows`` rows of
        ``in_groups`` words from ``in_base`` leave.
    op : str
        Of a convolution: ``submanifold``, ``down2``, ``inverse2``, ``generative2``, ``stride3``.
    level : int
        Level of the tree whose nodes are the finer side: inputs of down2, stride3, generative2 and submanifold, outputs
        of inverse2. Below the roots, but for generative2: the roots are not searched.
    tree : int
        Tree of the inputs (searched).
    cross : bool
        The outputs of ``down2`` or ``stride3`` are the voxels of the other tree, whose coordinates are half as fine.
        Then ``level`` is 0.
    in_base, out_base : int
        First word of a tensor.
    in_stride, out_stride : int
        Words from one row to the next.
    in_groups : int
        Words of a row that are read.
    out_group : int
        First word of a row that is written (a concatenation is two jobs that write to different words of one tensor).
    in_mask, out_mask : int
        First mask row of a tensor.
    passes : int
        Output channels / ``gather.outputs``.
    pinned : int
        Bit k: the weight tile of offset k stays on the chip. With ``pack`` row every offset that some pair has.
    clamp : (low, high), optional
        As of `Job`; ReLU is (0, max).
    rows : int
        Of ``store``.
    strict : bool
        Of ``load``: a dropped or repeated voxel is an error.
    shape : (x, y, z)
        Of ``load``: spatial shape.
    batches : int
        Of ``load``.
    tag : int
        Comes back in requests for weights.
    """

    kind: str
    op: str = "submanifold"
    level: int = 0
    tree: int = 0
    cross: bool = False
    in_base: int = 0
    in_stride: int = 1
    in_groups: int = 1
    in_mask: int = 0
    out_base: int = 0
    out_stride: int = 1
    out_group: int = 0
    out_mask: int = 0
    passes: int = 1
    pinned: int = 0
    clamp: tuple[float, float] | None = None
    rows: int = 0
    strict: bool = False
    shape: tuple[int, int, int] = (0, 0, 0)
    batches: int = 1
    tag: int = 0

    def check(self, design: SpConvDesign) -> SpConvJob:
        """This job, validated for a core; raises BitkilnError on what the core would refuse."""
        check_choice(self.kind, "job.kind", KINDS)
        check_choice(self.op, "job.op", OPS)
        g, m = design.gather, design.map
        check_integer(self.tree, "job.tree", 0, design.trees - 1)
        check_integer(self.level, "job.level", 0, m.depth - (self.op != "generative2"))
        if self.cross and (design.trees < 2 or self.level or self.op not in ("down2", "stride3")):
            raise BitkilnError("no outputs of another tree", where="job.cross", got="true",
                               expected="down2 or stride3 at level 0, in a core of two trees")
        if self.kind == "load":
            check_integer(self.batches, "job.batches", 1, m.batches)
            for axis, size in zip("xyz", self.shape, strict=True):
                check_integer(size, f"job.shape.{axis}", 1, 1 << m.depth)
            check_integer(self.in_groups, "job.in_groups", 0, g.groups)
        else:
            check_integer(self.in_groups, "job.in_groups", 1, MAX_GROUPS if self.kind == "store" else g.groups)
        for key, high in (("in_base", g.feature_words - 1), ("out_base", g.feature_words - 1),
                          ("in_mask", g.mask_rows - 1), ("out_mask", g.mask_rows - 1),
                          ("rows", 8 * m.capacity), ("pinned", (1 << KERNEL_OFFSETS) - 1),
                          ("tag", (1 << TAG_BITS) - 1)):
            check_integer(getattr(self, key), f"job.{key}", 0, high)
        for key in ("in_stride", "out_stride"):
            check_integer(getattr(self, key), f"job.{key}", 1, MAX_GROUPS)
        check_integer(self.out_group, "job.out_group", 0, MAX_GROUPS)
        check_integer(self.passes, "job.passes", 1, MAX_PASSES)
        if self.pinned.bit_count() > design.pinned:
            raise BitkilnError("too many pinned tiles", where="job.pinned", got=self.pinned.bit_count(),
                               expected=f"at most {design.pinned}")
        if self.kind == "convolve":
            reach = self.out_group + self.passes * design.words_per_pass
            if reach > g.groups:
                raise BitkilnError("more output channels than a row holds", where="job.passes", got=reach * g.lanes,
                                   expected=f"at most {g.channels} channels")
        return self
