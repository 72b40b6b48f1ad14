"""Parameters of the sparse-convolution engine: octree and map search, gather-MAC, weight cache, core."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import BitkilnError
from ..formats import Format, get_format
from .checks import check_choice, check_integer, check_power_of_two
from .dot import Accumulator, DotDesign

__all__ = ["CacheDesign", "GatherDesign", "KERNEL_OFFSETS", "MapDesign", "OFFSET_BITS", "PACKS", "SEARCHES",
           "TableDesign"]

MAX_DEPTH, MAX_BATCH_BITS, MAX_CAPACITY = 16, 6, 1 << 22
KERNEL_OFFSETS = 27
OFFSET_BITS = 5
SEARCHES = ("parity", "compact")
PACKS = ("item", "row")
# Columns of the array that one register reaches in a cycle (15 ns across a large FPGA).
NEAR = 4
# Share of the voxels that a level of the tree holds by default, level 1 first: more than on any frame measured
# (docs/spconv.md), except very sparse indoor ones.
_SHARES = (0.75, 0.5, 0.25, 0.125, 0.0625, 0.0625)


@dataclass(frozen=True)
class MapDesign:
    """An octree of voxels and its map search.

    Level 0 are the voxels, level ``depth`` the roots, one for each batch.

    Parameters
    ----------
    depth : int
        Bits of a coordinate, 1..16.
    batch_bits : int
        Up to ``2**batch_bits`` clouds at once, 0..6.
    capacity : int
        Most voxels of all batches, 8..2**22.
    levels : tuple of int, optional
        Most nodes of level 1, 2, ... ``depth``; by default a share of the capacity, and never more than the grid has.
    search : str
        ``parity``: the words of a node's eight children lie side by side in eight banks, one cycle for each node;
        ``compact``: one word for each node, interleaved over eight banks by its rank.
    queue : int
        Nodes of each level that can wait for their children, a power of two, 2..64.
    rows : int
        Rows of the map that can wait for the consumer, a power of two, 2..1024.
    """

    depth: int = 11
    batch_bits: int = 1
    capacity: int = 16384
    levels: tuple[int, ...] | None = None
    search: str = "parity"
    queue: int = 8
    rows: int = 32

    def __post_init__(self):
        for key, low, high in (("depth", 1, MAX_DEPTH), ("batch_bits", 0, MAX_BATCH_BITS),
                               ("capacity", 8, MAX_CAPACITY), ("queue", 2, 64), ("rows", 2, 1024)):
            check_integer(getattr(self, key), key, low, high)
        for key in ("queue", "rows"):
            check_power_of_two(getattr(self, key), key)
        check_choice(self.search, "search", SEARCHES)
        grid = [self.batches << 3 * (self.depth - level) for level in range(1, self.depth + 1)]
        if self.levels is None:
            shares = [*_SHARES, *[_SHARES[-1]] * self.depth][:self.depth]
            levels = [min(max(int(self.capacity * share), 8), most) for share, most in zip(shares, grid, strict=True)]
            object.__setattr__(self, "levels", tuple(levels))
        object.__setattr__(self, "levels", tuple(self.levels))
        if len(self.levels) != self.depth:
            raise BitkilnError("wrong number of levels", where="levels", got=len(self.levels),
                               expected=f"{self.depth}, one for each level above the voxels")
        for at, (held, most) in enumerate(zip(self.levels, grid, strict=True), 1):
            check_integer(held, f"levels[{at - 1}]", 1, min(self.capacity, most))

    def with_options(self, **options) -> MapDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def batches(self) -> int:
        return 1 << self.batch_bits

    @property
    def key_bits(self) -> int:
        """{batch, x, y, z of the highest level, ..., x, y, z of the voxel}, x most significant in each digit."""
        return self.batch_bits + 3 * self.depth

    @property
    def index_bits(self) -> int:
        """Of the rank of a voxel or node."""
        return (self.capacity - 1).bit_length()

    @property
    def out_bits(self) -> int:
        """Of an output row: generative convolution makes eight of one."""
        return self.index_bits + 3

    @property
    def count_bits(self) -> int:
        """Of a number of voxels or nodes."""
        return self.capacity.bit_length()

    @property
    def level_bits(self) -> int:
        return self.depth.bit_length()

    def held(self, level: int) -> int:
        """Most nodes of a level 0..depth; above the roots, most batches."""
        return self.capacity if level == 0 else self.batches if level > self.depth else self.levels[level - 1]

    def walk_base(self, level: int) -> int:
        """First word of a level's child masks in the upper walk memory (levels 2..depth; level 1 has its own)."""
        return sum(self.held(each) for each in range(2, level))

    @property
    def walk_words(self) -> int:
        """Words of the upper walk memory."""
        return max(self.walk_base(self.depth + 1), 1)

    def row_base(self, level: int) -> int:
        """First row of a level's words in the upper search memory (levels 2..depth; level 1 has its own).

        A row has the words of the children of one node of the level above. A multiple of 8, so that a row is found
        with one addition: first child's rank of a node, and {this, how many children come before}.
        """
        return sum(-(-self.held(each + 1) // 8) * 8 for each in range(2, level))

    @property
    def upper_rows(self) -> int:
        """Rows of the upper search memory."""
        return max(self.row_base(self.depth + 1), 1)

    @property
    def leaf_rows(self) -> int:
        """Rows of the search memory of level 1."""
        return self.held(2)

    def compact_base(self, level: int) -> int:
        """First row of a level's words in the compact search memory: level 1 first, eight words to a row."""
        return sum(-(-self.held(each) // 8) for each in range(1, level))

    @property
    def compact_rows(self) -> int:
        """Rows of the compact search memory, all levels."""
        return self.compact_base(self.depth + 1)

    @property
    def words(self) -> int:
        """Words of the tree, all levels: one for each node."""
        return sum(self.levels)

    @property
    def word_bits(self) -> int:
        """{mask of children, rank of the first}."""
        return 8 + self.index_bits

    @property
    def memory_bits(self) -> int:
        """Of the tree: child masks for the walk, and the words for the search."""
        search = 8 * (self.leaf_rows + self.upper_rows) if self.search == "parity" else self.words
        return 8 * self.words + search * self.word_bits

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        sizes = "_".join(map(str, self.levels))
        return f"map_{self.search}_d{self.depth}_b{self.batch_bits}_n{self.capacity}_q{self.queue}_r{self.rows}_{sizes}"

    @property
    def digest(self) -> str:
        """Stands for the name where that would be too long."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:10]


@dataclass(frozen=True)
class TableDesign:
    """The banked voxel table of a window (the method of SpOctA as far as it is known): eight banks by parity.

    Parameters
    ----------
    size : int
        Voxels of a window along each axis, a power of two 2..64; a border of one voxel lies around it.
    index_bits : int
        Of a voxel's rank.
    half : bool
        Only the 13 offsets before the centre are looked up: the others are their mirror images.
    epoch_bits : int
        Of the window's number that each word carries instead of a valid bit, 1..16: the memory is cleared once in
        ``2**epoch_bits - 1`` windows.
    """

    size: int = 16
    index_bits: int = 17
    half: bool = False
    epoch_bits: int = 12

    def __post_init__(self):
        check_integer(self.size, "size", 2, 64)
        check_power_of_two(self.size, "size")
        check_integer(self.index_bits, "index_bits", 3, 24)
        check_integer(self.epoch_bits, "epoch_bits", 1, 16)
        if not isinstance(self.half, bool):
            raise BitkilnError("not a truth value", where="half", got=self.half, expected="true or false")

    def with_options(self, **options) -> TableDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def side(self) -> int:
        """Rows of a bank along an axis: half of the window and its border."""
        return self.size // 2 + 1

    @property
    def rows(self) -> int:
        """Words of a bank."""
        return self.side ** 3

    @property
    def axis_bits(self) -> int:
        """Of a coordinate in the window: 0 and ``size + 1`` are its border."""
        return (self.size + 1).bit_length()

    @property
    def beats(self) -> int:
        """Cycles of a query: as many as the busiest bank has words to read."""
        return 4 if self.half else 8

    @property
    def epochs(self) -> int:
        """Windows between two clearings of the memory."""
        return (1 << self.epoch_bits) - 1

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        return f"voxel_table_{self.size}_a{self.index_bits}_e{self.epoch_bits}{'_half' if self.half else ''}"


@dataclass(frozen=True)
class GatherDesign:
    """Gather-MAC-scatter: ``sums[out, :] += weight[:, k, :] @ features[in, :]`` without the zeros.

    Channel ``c`` of a feature belongs to lane ``c mod lanes`` and word ``c // lanes`` of its row. Each cycle every lane
    multiplies one of its non-zero channels with ``outputs`` weights, and all lanes add to one output row.

    Parameters
    ----------
    activation, weight : Format or str
    lanes, outputs : int
        Input and output channels at a time, powers of two 1..64.
    channels : int
        Most input channels, a multiple of ``lanes``.
    pack : str
        ``item``: a cycle takes channels of one pair of voxels; ``row``: a lane that has finished a pair goes on with
        the next one of the same output row.
    window : int
        With ``row``: pairs with work for a lane that can wait in its queue, so far can the others be ahead; a power of
        two, 2..32.
    slots : int
        With ``item``: output rows whose sums are held (a tile of rows), a power of two, 1..1024. With ``row`` 1.
    feature_words : int
        Words of ``lanes`` channels of all features on the chip.
    mask_rows : int
        Rows of all features on the chip.
    weight_tiles : int
        Weight tiles (one kernel offset, ``outputs`` output channels) on the chip.
    index_bits : int
        Of an input row.
    pipeline : int
        Registers among the products and their sum over the lanes, 0..6.
    multiplier : str
        ``chains``: LUTs and carry chains; ``luts``, ``operator``: as of `DotDesign`, where ``operator`` may use DSP
        blocks, one for each product. ``pairs``: one DSP block of 18 x 18 bits for two products, both formats signed
        integers of 4 to 8 bits.
    """

    activation: Format = "int8"  # type: ignore[assignment]
    weight: Format = "int8"  # type: ignore[assignment]
    lanes: int = 16
    outputs: int = 16
    channels: int = 64
    pack: str = "item"
    window: int = 8
    slots: int = 64
    feature_words: int = 4096
    mask_rows: int = 4096
    weight_tiles: int = 29
    index_bits: int = 14
    pipeline: int = 1
    multiplier: str = "chains"

    def __post_init__(self):
        for key in ("activation", "weight"):
            object.__setattr__(self, key, get_format(getattr(self, key), where=key))
        for key, low, high in (("lanes", 1, 64), ("outputs", 1, 64), ("channels", 1, 1024), ("window", 2, 32),
                               ("slots", 1, 1024), ("feature_words", 1, 1 << 24), ("mask_rows", 1, 1 << 22),
                               ("weight_tiles", 1, 4096), ("index_bits", 3, 24)):
            check_integer(getattr(self, key), key, low, high)
        for key in ("lanes", "outputs", "window", "slots"):
            check_power_of_two(getattr(self, key), key)
        check_choice(self.pack, "pack", PACKS)
        if self.channels % self.lanes:
            raise BitkilnError("a broken word of channels", where="channels", got=self.channels,
                               expected=f"a multiple of the {self.lanes} lanes")
        if self.pack == "row" and self.slots != 1:
            raise BitkilnError("contradictory options", where="slots", got=self.slots,
                               expected="1 with pack row: one output row at a time")
        if self.multiplier == "pairs":
            for key in ("activation", "weight"):
                fmt = getattr(self, key)
                if fmt.family != "int" or not fmt.signed or not 4 <= fmt.bits <= 8:
                    raise BitkilnError("no pairs of products", where=key, got=fmt.name,
                                       expected="a signed integer of 4 to 8 bits with multiplier pairs")
            if self.outputs < 2:
                raise BitkilnError("contradictory options", where="outputs", got=self.outputs,
                                   expected="2 or more with multiplier pairs")
        _ = self.dot
        if self.activation.decode(np.zeros(1, np.int64)) != 0:
            raise BitkilnError("code 0 is not zero", where="activation", got=self.activation.name,
                               expected="a format whose padding adds nothing")

    def with_options(self, **options) -> GatherDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @cached_property
    def dot(self) -> DotDesign:
        """The same sums as a dot unit's: width, exponent, flags and the meaning of special values."""
        return DotDesign(self.activation, self.weight, lanes=self.lanes,
                         accumulator=Accumulator(depth=KERNEL_OFFSETS * self.channels), pipeline=self.pipeline,
                         multiplier="operator" if self.multiplier == "pairs" else self.multiplier)

    @property
    def groups(self) -> int:
        """Most words of a feature row."""
        return self.channels // self.lanes

    @property
    def columns(self) -> int:
        """Units of products and sums: one for each output, or for two of them."""
        return self.outputs // 2 if self.multiplier == "pairs" else self.outputs

    @property
    def relays(self) -> int:
        """Registers between activations and some of the columns each; none where there are few columns."""
        return self.columns // NEAR if self.columns > NEAR else 0

    @property
    def sum_bits(self) -> int:
        """Signed width of a sum, in units of ``2**dot.product_exponent``."""
        return self.dot.exact_bits

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        parts = ["gather", self.dot.pe_name, f"{self.lanes}x{self.outputs}", f"c{self.channels}", self.pack,
                 *([f"w{self.window}"] if self.pack == "row" else [f"t{self.slots}"]), f"f{self.feature_words}",
                 f"m{self.mask_rows}", f"k{self.weight_tiles}", f"a{self.index_bits}", f"p{self.pipeline}"]
        return "_".join([*parts, *([self.multiplier] if self.multiplier != "chains" else [])])


@dataclass(frozen=True)
class CacheDesign:
    """The weight cache of one pass: some tiles stay, the rest go through a double buffer.

    Parameters
    ----------
    tiles : int
        Weight tiles that can stay (pinned), 0..27; slots 0 .. tiles-1. Slots ``tiles`` and ``tiles + 1`` are the
        double buffer.
    tile_rows : int
        Output rows of a tile, whose pairs are sorted by kernel offset; a power of two.
    index_bits : int
        Of an input row.
    ahead : int
        Demands (offsets of a tile) that are looked up before their turn, so that what is missing comes in time; a power
        of two, 2..64.
    """

    tiles: int = 27
    tile_rows: int = 64
    index_bits: int = 14
    ahead: int = 16

    def __post_init__(self):
        for key, low, high in (("tiles", 0, KERNEL_OFFSETS), ("tile_rows", 1, 1024), ("index_bits", 3, 24),
                               ("ahead", 2, 64)):
            check_integer(getattr(self, key), key, low, high)
        for key in ("tile_rows", "ahead"):
            check_power_of_two(getattr(self, key), key)

    def with_options(self, **options) -> CacheDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def slots(self) -> int:
        """Weight tiles on the chip."""
        return self.tiles + 2

    @property
    def ring(self) -> int:
        """Pairs of one kernel offset that have a place: those of two tiles. One place always stays empty."""
        return max(2 * self.tile_rows, 4)

    @property
    def open_tiles(self) -> int:
        """Tiles under way, a power of two: as many as 1024 output rows hold, but 4 to 16."""
        return min(max(1024 // self.tile_rows, 4), 16)

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        return f"weight_cache_{self.tiles}_t{self.tile_rows}_a{self.index_bits}_q{self.ahead}"
