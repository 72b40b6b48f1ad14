"""Time and energy of a matrix product on the arrays that the BitMoD paper compares.

A product takes ``max(compute, DRAM)`` cycles: buffers are doubled, so that the two overlap fully. Compute is counted in
passes of the array over tiles of (output channels x tokens); DRAM moves every operand and result once, and the smaller
operand again for each bufferful of the other where neither fits its buffer.

Everything about the four published arrays is literature: arXiv 2411.11745 (sections V-A, V-D) and the simulator of its
release (abdelfattah-lab/BitMoD-HPCA-25, MIT, facts only), TSMC 28 nm, 1 GHz, synthesis without wires. Our own array is
in `llm_engine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

from ...errors import BitkilnError
from .llm_shapes import Product

__all__ = ["ARRAYS", "PHASES", "Cost", "LlmArray", "Memory", "Operand", "area_ratio", "product_cost", "serial_cycles"]

PHASES = ("prefill", "generation")
ACTIVATION_BITS = 16
LAYOUT = 1.5     # placed and routed against synthesised energy: the simulator's factor
GROUP = 128


@dataclass(frozen=True)
class Memory:
    """Buffers and DRAM, the same for every array.

    Attributes
    ----------
    weight_bytes, activation_bytes : int
        Buffers on chip: 512 KB each [section V-A].
    bits_per_cycle : int
        128 data bits at both edges of a 1 GHz clock, 32 GB/s [simulator].
    pj_per_bit : float
        1,200 pJ for 64 bits [simulator], 2.3 times an LPDDR4's 8 pJ/bit. Energy only, no part in cycles.
    """

    weight_bytes: int = 512 * 1024
    activation_bytes: int = 512 * 1024
    bits_per_cycle: int = 256
    pj_per_bit: float = 1200 / 64
    source: str = "literature: BitMoD-HPCA-25 bitmod_sim/accelerator.py"


@dataclass(frozen=True)
class Operand:
    """How stationary numbers (weights, keys, values) are stored, and how long a chunk of them keeps a PE busy.

    Attributes
    ----------
    bits : float
        Of a code; a mean where layers differ.
    cycles : int
        Of a chunk of as many numbers as a PE has lanes.
    group_bits, channel_bits : int
        Metadata of each group of 128 and of each row.
    weight_type : str or None
        Name for our engine.
    """

    bits: float
    cycles: int = 1
    group_bits: int = 0
    channel_bits: int = 0
    weight_type: str | None = None

    def row_bytes(self, inputs: int) -> int:
        """Bytes of the ``inputs`` numbers of one output channel, metadata included."""
        groups = -(-inputs // GROUP)
        return ceil((inputs * self.bits + groups * self.group_bits + self.channel_bits) / 8)

    def stored_bits(self, inputs: int) -> float:
        """Bits for each number, metadata included."""
        return 8 * self.row_bytes(inputs) / inputs


def serial_cycles(bits: float) -> int:
    """Cycles of four weights on a BitMoD PE: 2 for 3 and 4 bits, 3 for 5 and 6, 4 for 8 (the metadata's fraction of a
    bit does not count)."""
    return ceil(floor(bits) / 2)


@dataclass(frozen=True)
class Cost:
    """Cycles, traffic and energy; costs add.

    Attributes
    ----------
    cycles : int
        Sum over products of the larger of the next two.
    compute, dram : int
        Cycles that either alone would take.
    dram_bits, macs : int
    compute_pj, dram_pj : float or None
        None where a constant is missing. The energy of buffers is None everywhere: its figures need CACTI.
    """

    cycles: int
    compute: int
    dram: int
    dram_bits: int
    macs: int
    compute_pj: float | None
    dram_pj: float

    def __add__(self, other: Cost) -> Cost:
        pj = None if self.compute_pj is None or other.compute_pj is None else self.compute_pj + other.compute_pj
        return Cost(self.cycles + other.cycles, self.compute + other.compute, self.dram + other.dram,
                    self.dram_bits + other.dram_bits, self.macs + other.macs, pj, self.dram_pj + other.dram_pj)

    def times(self, count: int) -> Cost:
        pj = None if self.compute_pj is None else self.compute_pj * count
        return Cost(self.cycles * count, self.compute * count, self.dram * count, self.dram_bits * count,
                    self.macs * count, pj, self.dram_pj * count)


@dataclass(frozen=True)
class LlmArray:
    """One array: PEs in ``channels`` x ``tokens``, in two arrangements.

    Attributes
    ----------
    name : str
    prefill, generation : tuple of int
        (output channels, tokens) that are computed at once.
    lanes : int
        Products of a PE in a chunk.
    pe_um2, pe_pj : float or None
        Area of a PE; its energy of a cycle (mW at 1 GHz).
    serial_kv : bool
        Keys and values are INT8 and stream through the weight path; else FP16, at one product a PE and cycle.
    technology, provenance : str
    """

    name: str
    prefill: tuple[int, int]
    generation: tuple[int, int]
    lanes: int = 1
    pe_um2: float | None = None
    pe_pj: float | None = None
    serial_kv: bool = False
    technology: str | None = "28 nm"
    provenance: str = "literature"

    def __post_init__(self):
        if self.prefill[0] * self.prefill[1] != self.generation[0] * self.generation[1]:
            raise BitkilnError("arrangements differ in PEs", where=f"array {self.name}",
                               got=f"{self.prefill} and {self.generation}", expected="equal products")

    @property
    def pes(self) -> int:
        return self.prefill[0] * self.prefill[1]

    @property
    def um2(self) -> float | None:
        """Cell area of all PEs."""
        return None if self.pe_um2 is None else self.pe_um2 * self.pes

    def compute_cycles(self, product: Product, operand: Operand, phase: str) -> int:
        """Cycles of one such product, operands always there."""
        channels, tokens = self.prefill if phase == "prefill" else self.generation
        chunks = -(-product.inputs // self.lanes)
        return chunks * -(-product.outputs // channels) * -(-product.tokens // tokens) * operand.cycles


# PE counts of about equal area; ANT and OliVe have an FP16 x INT8 MAC behind their decoders [simulator].
ARRAYS = {array.name: array for array in (
    LlmArray("FP16", (32, 24), (64, 12), pe_um2=1968.7, pe_pj=0.77),
    LlmArray("ANT", (32, 32), (64, 16), pe_um2=1318.6, pe_pj=0.56),
    LlmArray("OliVe", (36, 32), (72, 16), pe_um2=1318.6, pe_pj=0.613),
    LlmArray("BitMoD", (32, 32), (64, 16), lanes=4, pe_um2=1507.7, pe_pj=0.56, serial_kv=True),
)}


def area_ratio(array: LlmArray, other: LlmArray) -> float | None:
    """Cell area of ``array`` over that of ``other``; None where one is not known, or in another technology."""
    if array.um2 is None or other.um2 is None or array.technology != other.technology:
        return None
    return array.um2 / other.um2


def product_cost(array: LlmArray, product: Product, operand: Operand, phase: str, memory: Memory | None = None) -> Cost:
    """Cost of a product, all ``product.count`` of them.

    Parameters
    ----------
    operand : Operand
        The stationary numbers.
    phase : str
        ``prefill`` or ``generation``: which arrangement of the PEs.
    memory : Memory, optional
    """
    memory = memory or Memory()
    compute = array.compute_cycles(product, operand, phase)
    weights = operand.row_bytes(product.inputs) * product.outputs
    width = product.inputs if product.row is None else product.row
    activations = width * ACTIVATION_BITS // 8 * product.tokens
    results = product.outputs * ACTIVATION_BITS // 8 * product.tokens
    # One of the two stays for good, a bufferful at a time; the other passes by for each bufferful.
    moved = min(-(-activations // memory.activation_bytes) * weights + activations,
                weights + -(-weights // memory.weight_bytes) * activations)
    bits = 8 * (moved + results)
    dram = bits // memory.bits_per_cycle    # whole cycles, as in the simulator
    pj = None if array.pe_pj is None else array.pe_pj * LAYOUT * array.pes * compute
    return Cost(max(compute, dram), compute, dram, bits, product.macs // product.count, pj,
                bits * memory.pj_per_bit).times(product.count)
