"""Parameters of the codebook dequantiser, shared by RTL, golden model and checks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import BitkilnError, nearest
from ..formats import Format, get_format
from .checks import check_integer

__all__ = ["LEVELS", "SCALES", "STORES", "CodebookDesign", "dynamic_levels"]

CODE_BITS = (3, 4)
MAX_LANES, MAX_TABLES, MAX_WORD_BITS = 64, 8, 512
MIN_OUTPUT_BITS, MAX_OUTPUT_BITS = 4, 16
FAMILIES = ("int", "fixed", "minifloat", "posit")
SCALES = ("none", "fp32", "uint8", "int8", "table8")
STORES = ("lutram", "registers")
LEVELS = 256           # codes of an 8-bit scale
SHORTEST_QUEUE = 2


def dynamic_levels() -> np.ndarray:
    """The 256 values of a signed 8-bit *dynamic tree* code, rising, as float32.

    Seven decades below 1, the n-th from above (n = 0..6) cut into ``2**(6 - n)`` equal parts, each standing for its
    middle, of either sign; and 0 and 1. It is what QLoRA (arXiv 2305.14314) stores the scales of scales by; a
    checkpoint that brings its own table is loaded with that one, which may differ in the last place.
    """
    positive = []
    for decade in range(7):
        parts = 1 << (6 - decade)
        step = 0.9 / parts
        positive += [10.0 ** -decade * (0.1 + step * (part + 0.5)) for part in range(parts)]
    return np.sort(np.array([*positive, *(-value for value in positive), 0.0, 1.0])).astype(np.float32)


@dataclass(frozen=True)
class CodebookDesign:
    """Look-up of weight codes in tables written at run time, with the scale of each block beside them.

    Parameters
    ----------
    output : Format or str
        Of the table entries, 4..16 bits; entries are stored as its codes.
    lanes : int
        Weights of a chunk, looked up in one cycle.
    code_bits : int
        3 (tables of 8 entries) or 4 (16; a 3-bit code comes with a zero above).
    tables : int
        1..8; each block chooses one.
    scale : str
        ``none``; ``fp32``: comes with the block; ``uint8``, ``int8``, ``table8``: 8-bit codes, unsigned, two's
        complement or of a table of 256 float32 values, times a float32 ``step`` that many blocks share.
    offset : bool
        With 8-bit codes: a float32 that is added to the scale.
    word_bits : int, optional
        Of an output word, whole chunks; default one chunk. The memory layout of the matmul core: ``bus_bits``.
    store : str
        Where tables are: ``lutram`` (a memory with a read port for each lane: FPGAs) or ``registers`` (one table chosen
        for the block, then a multiplexer for each lane: where memories are flip-flops).
    """

    output: Format = "fp16"  # type: ignore[assignment]
    lanes: int = 4
    code_bits: int = 4
    tables: int = 1
    scale: str = "none"
    offset: bool = False
    word_bits: int = None  # type: ignore[assignment]
    store: str = "lutram"

    def __post_init__(self):
        fmt = get_format(self.output, where="output")
        if not MIN_OUTPUT_BITS <= fmt.bits <= MAX_OUTPUT_BITS or fmt.family not in FAMILIES:
            raise BitkilnError("no table entries of this format", where="output", got=fmt.name,
                               expected=f"an int, fixed, minifloat or posit format of {MIN_OUTPUT_BITS} to "
                                        f"{MAX_OUTPUT_BITS} bits")
        object.__setattr__(self, "output", fmt)
        check_integer(self.lanes, "lanes", 1, MAX_LANES)
        check_integer(self.code_bits, "code_bits", *CODE_BITS)
        check_integer(self.tables, "tables", 1, MAX_TABLES)
        for key, choices in (("scale", SCALES), ("store", STORES)):
            if getattr(self, key) not in choices:
                raise BitkilnError(f"unknown {key}", where=key, got=getattr(self, key), expected=", ".join(choices),
                                   help=nearest(str(getattr(self, key)), choices))
        if self.offset and not self.coded_scale:
            raise BitkilnError("contradictory options", where="offset", got="true",
                               expected="false but with scale uint8, int8 or table8")
        if self.word_bits is None:
            object.__setattr__(self, "word_bits", self.chunk_bits)
        check_integer(self.word_bits, "word_bits", fmt.bits, MAX_WORD_BITS)
        if self.word_bits % self.chunk_bits:
            raise BitkilnError("a word of broken chunks", where="word_bits", got=self.word_bits,
                               expected=f"a multiple of lanes times entry: {self.chunk_bits}")

    def with_options(self, **options) -> CodebookDesign:
        """A copy with some parameters changed."""
        return replace(self, **options)

    @property
    def entries(self) -> int:
        """Of a table."""
        return 1 << self.code_bits

    @property
    def select_bits(self) -> int:
        """Of a table selector; 0 with one table."""
        return (self.tables - 1).bit_length()

    @property
    def chunk_bits(self) -> int:
        """Of a chunk's entries."""
        return self.lanes * self.output.bits

    @property
    def chunks(self) -> int:
        """Of a word."""
        return self.word_bits // self.chunk_bits

    @property
    def coded_scale(self) -> bool:
        """Whether scales are 8-bit codes."""
        return self.scale in ("uint8", "int8", "table8")

    @property
    def scale_bits(self) -> int:
        """Of a block's scale in the stream."""
        return {"none": 0, "fp32": 32}.get(self.scale, 8)

    @property
    def name(self) -> str:
        """Verilog module name; carries every parameter."""
        parts = ["codebook", self.output.name, f"l{self.lanes}", f"c{self.code_bits}", f"t{self.tables}",
                 f"s{self.scale}" + "_offset" * self.offset, f"w{self.word_bits}", self.store]
        return "_".join(parts)
