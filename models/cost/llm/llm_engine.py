"""Our bit-serial array among those of `llm_arrays`: the closed form of its RTL's cycles with their memories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ...design.bitserial import BitSerialDesign
from ...design.weights import weight_type
from ...errors import BitkilnError
from ..cycles.bitserial import pipeline_depth
from .llm_arrays import ARRAYS, GROUP, PHASES, LlmArray, Operand
from .llm_shapes import Product

__all__ = ["EngineArray", "channel_cycles", "engine_array"]


@lru_cache(maxsize=4096)
def channel_cycles(design: BitSerialDesign, channels: int, length: int, terms: int) -> int:
    """Cycles of our array from the first chunk to the last row of results: ``channels`` one after the other on each
    column, each of ``length`` weights in groups of ``design.group``.

    `models.cost.cycles.bitserial.closed_form` for channels of many groups, the last of which may be short.
    """
    full, rest = divmod(length, design.group)
    sizes = [design.group] * full + ([rest] if rest else [])
    steps = [-(-size // design.lanes) * terms for size in sizes]
    least = max(design.scale_cycles, 1) if design.sums_channel else max(design.scale_cycles, 1, design.rows)
    waits = [max(step, least) for step in steps]
    # The group before the first one is the last of the channel before: it differs for the very first channel only.
    first = steps[0] + sum(waits[1:])
    period = max(sum(waits), design.rows)
    return first + (channels - 1) * period + design.scale_cycles + pipeline_depth(design) + design.rows - 1


@dataclass(frozen=True)
class EngineArray(LlmArray):
    """Our bit-serial array: ``rows`` of a design are tokens, ``columns`` output channels.

    Attributes
    ----------
    designs : tuple of BitSerialDesign
        For prefill and for generation.
    """

    designs: tuple[BitSerialDesign, ...] = ()
    provenance: str = "model: closed form of the RTL's cycles"

    def compute_cycles(self, product: Product, operand: Operand, phase: str) -> int:
        design = self.designs[PHASES.index(phase)]
        types = {weight.name: weight.terms for weight in design.weights}
        if operand.weight_type not in types:
            raise BitkilnError("weight type is not in the design", where=f"array {self.name}",
                               got=operand.weight_type, expected=", ".join(types))
        passes = -(-product.outputs // design.columns) * -(-product.tokens // design.rows)
        return channel_cycles(design, passes, product.inputs, types[operand.weight_type])


def engine_array(pe_um2: float | None = None, technology: str | None = None, pe_pj: float | None = None,
                 **options) -> EngineArray:
    """Our array with as many PEs as BitMoD's: 32 x 32 for prefill, 64 channels x 16 tokens for generation.

    Parameters
    ----------
    pe_um2, technology, pe_pj
        Measured area and energy of a cycle of one PE, and in what; None where not measured.
    **options
        Parameters of `BitSerialDesign`.
    """
    if (pe_um2 is not None or pe_pj is not None) and technology is None:
        raise BitkilnError("area or energy without a technology", where="engine_array",
                           expected="technology (such as 28 nm)")
    types = tuple(weight_type(name) for name in ("bitmod3", "bitmod4", "int6", "int8"))
    base = BitSerialDesign(types, **{"groups": GROUP, **options})
    sides = ARRAYS["BitMoD"].prefill, ARRAYS["BitMoD"].generation
    designs = tuple(base.with_options(columns=channels, rows=tokens) for channels, tokens in sides)
    return EngineArray("Bitkiln", *sides, lanes=base.lanes, pe_um2=pe_um2, pe_pj=pe_pj, serial_kv=True,
                       technology=technology, designs=designs)
