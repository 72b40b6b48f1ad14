"""How a layer runs on an engine: the jobs that it becomes, their exact cycles and the bytes that they move.

Jobs run one after the other, each on an idle engine whose streams are always ready; the cycle models are those that
equal the RTL (`cycles`, `mac_cycles`, `llm_engine`). What is known before the run only: no data is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ..design import ArrayDesign, DotDesign, Job, MatmulDesign, MorphableDesign
from ..design.bitserial import BitSerialDesign
from ..design.weights import WeightType
from ..errors import BitkilnError, nearest
from ..formats import get_format
from ..workloads.shapes import LayerShape
from .core_jobs import chunks, layer_jobs
from .cycles.cycles import matmul_cycles, panel_beats
from .cycles.mac_cycles import DotJob, array_total, dot_total, pe_total, weight_total
from .llm.llm_engine import channel_cycles

__all__ = ["Mapped", "ORDERS", "assigned", "choices", "core_jobs", "layer_modes", "map_layer", "operand_bits",
           "peak_macs", "port_bytes"]

ORDERS = ("a", "w")
# Engines whose jobs are no layers of matrix products with weights of one type.
UNMAPPED = {"DequantDesign": "dequant_core", "CodebookDesign": "codebook_dequantiser",
            "CodebookArrayDesign": "codebook_array", "SparseDesign": "sparse_side", "MapDesign": "map_search",
            "SpConvDesign": "spconv"}


@dataclass(frozen=True)
class Mapped:
    """One layer on one engine.

    Attributes
    ----------
    cycles : int
        Of all jobs.
    compute : int
        Cycles in which operands meet.
    stalls : dict of str to int
        The other cycles by cause; ``compute`` and these are all ``cycles``.
    ports : dict of str to int
        Bytes over each of the engine's ports: ``a``, ``w``, ``c`` (partial sums), ``o`` (results).
    jobs : int
        How many times the engine is started.
    detail : str
        What was chosen (order of the loops).
    """

    cycles: int
    compute: int
    stalls: dict[str, int]
    ports: dict[str, int]
    jobs: int
    detail: str = ""

    @property
    def moved(self) -> int:
        """Bytes over all ports."""
        return sum(self.ports.values())

    def times(self, count: int) -> Mapped:
        """So many of it, one after the other."""
        return Mapped(self.cycles * count, self.compute * count, _times(self.stalls, count), _times(self.ports, count),
                      self.jobs * count, self.detail)


def _times(amounts: dict[str, int], count: int) -> dict[str, int]:
    return {name: amount * count for name, amount in amounts.items()}


def _sums(parts: list[dict[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _joined(parts: list[tuple[Mapped, int]], detail: str) -> Mapped:
    whole = [part.times(count) for part, count in parts]
    return Mapped(sum(p.cycles for p in whole), sum(p.compute for p in whole), _sums([p.stalls for p in whole]),
                  _sums([p.ports for p in whole]), sum(p.jobs for p in whole), detail)


def _bytes(elements: int, bits: int) -> int:
    return -(-elements * bits // 8)


# Matrix-multiplication core --------------------------------------------------------------------------

@lru_cache(maxsize=1 << 16)
def _core_job(design: MatmulDesign, job: Job) -> Mapped:
    found = matmul_cycles(design, job)
    beats = {side: sum(count * panel_beats(design, job, side, size) for size, count in chunks(total, tile))
             for side, total, tile in (("a", job.m, design.rows), ("w", job.n, design.columns))}
    # The held side comes once, the other once for each tile of the held one.
    again = -(-job.m // design.rows) if job.order == "a" else -(-job.n // design.columns)
    beats["w" if job.order == "a" else "a"] *= again
    sums = job.m * job.n
    code = design.raw_bits if job.rule == "raw" else get_format(job.output).bits
    ports = {side: count * design.bus_bits // 8 for side, count in beats.items()}
    if job.accumulate:
        ports["c"] = _bytes(sums, design.raw_bits)
    ports["o"] = _bytes(sums, code)
    stalls = {"operand A": found.stall_a, "operand W": found.stall_w, "results": found.stall_drain,
              "drain": found.drain}
    return Mapped(found.cycles, found.compute, stalls, ports, 1)


def _core_layer(design: MatmulDesign, layer: LayerShape, mode: str, order: str) -> Mapped:
    return _joined([(_core_job(design, job), times) for job, times in layer_jobs(design, layer, mode, order)],
                   f"order {order}")


def core_jobs(design: MatmulDesign, layer: LayerShape, mode: str | None = None) -> list[tuple[Job, int]]:
    """The jobs that `map_layer` counts for a layer on a core, each with how many times it runs."""
    mode = _chosen(design, mode, f"layer {layer.name}")
    order = min(ORDERS, key=lambda order: _cost(_core_layer(design, layer, mode, order)))
    return layer_jobs(design, layer, mode, order)


def _cost(mapped: Mapped) -> tuple[int, int]:
    return mapped.cycles, mapped.moved


def _core(design: MatmulDesign, layer: LayerShape, mode: str) -> Mapped:
    return min((_core_layer(design, layer, mode, order) for order in ORDERS), key=_cost)


# Engines without memories: operands come as they are needed -------------------------------------------

def _array(design: ArrayDesign, layer: LayerShape, mode: str) -> Mapped:
    pe = design.pe
    job = Job(mode, layer.m, layer.k, layer.n)
    words = -(-layer.k // pe.modes[pe.index(mode)].lanes)
    tiles = -(-layer.m // design.rows) * -(-layer.n // design.columns)
    if design.dataflow == "weight":
        cycles, passes = weight_total(design, job), -(-layer.n // design.columns) * -(-words // design.rows)
        compute = passes * layer.m
        ports = {"a": compute * design.rows * 2, "w": passes * design.columns * design.rows * 2}
        stalls = {"weights and skew": cycles - compute}
    else:
        cycles, compute = array_total(design, job), tiles * words
        ports = {"a": compute * design.rows * 2, "w": compute * design.columns * 2}
        stalls = {"results and skew": cycles - compute}
    ports["o"] = _bytes(layer.m * layer.n, pe.result_bits)
    return Mapped(cycles, compute, stalls, ports, 1).times(layer.count)


def _unit(design: DotDesign, layer: LayerShape) -> Mapped:
    words = -(-layer.k // design.lanes)
    sums = layer.m * layer.n
    cycles = dot_total(design, DotJob((layer.k,))) + (sums - 1) * (words + 1)
    products = sums * words * design.lanes
    out = design.output.bits if design.output is not None else design.accumulator_bits
    return Mapped(cycles, sums * words, {"clear": sums, "pipeline": design.latency},
                  {"a": _bytes(products, design.activation.bits), "w": _bytes(products, design.weight.bits),
                   "o": _bytes(sums, out)}, 1).times(layer.count)


def _pe(design: MorphableDesign, layer: LayerShape, mode: str) -> Mapped:
    job = Job(mode, layer.m, layer.k, layer.n)
    sums, words = layer.m * layer.n, -(-layer.k // design.modes[design.index(mode)].lanes)
    return Mapped(pe_total(design, job), sums * words, {"clear": sums, "pipeline": design.pipeline},
                  {"a": sums * words * 2, "w": sums * words * 2, "o": _bytes(sums, design.result_bits)}, 1
                  ).times(layer.count)


def _serial(design: BitSerialDesign, layer: LayerShape, weight: WeightType) -> Mapped:
    passes = -(-layer.n // design.columns) * -(-layer.m // design.rows)
    cycles = channel_cycles(design, passes, layer.k, weight.terms) + 1     # edges: the last result is a cycle more
    words = sum(-(-size // design.lanes) * count for size, count in chunks(layer.k, design.group))
    compute = passes * words * weight.terms
    operands = passes * words * design.lanes
    return Mapped(cycles, compute, {"groups and drain": cycles - compute},
                  {"a": _bytes(operands * design.rows, design.activation.bits),
                   "w": _bytes(operands * design.columns, weight.bits), "o": _bytes(layer.m * layer.n, 32)}, 1
                  ).times(layer.count)


# One face ---------------------------------------------------------------------------------------------

def choices(design: object) -> tuple[str, ...]:
    """Names of what a layer may be computed in: modes, or weight types of a bit-serial array."""
    if isinstance(design, (MatmulDesign, ArrayDesign)):
        return tuple(mode.name for mode in design.pe.modes)
    if isinstance(design, MorphableDesign):
        return tuple(mode.name for mode in design.modes)
    if isinstance(design, DotDesign):
        return (design.pe_name,)
    if isinstance(design, BitSerialDesign):
        return tuple(weight.name for weight in design.weights)
    name = type(design).__name__
    raise BitkilnError("no workload mapping for this engine", where="engine", got=UNMAPPED.get(name, name),
                       expected="dot_unit, morphable_pe, matmul_array, matmul_core or bitserial_array",
                       help="bitkiln spconv counts a frame's cycles" if name in ("MapDesign", "SpConvDesign") else None)


def _chosen(design: object, name: str | None, where: str) -> str:
    names = choices(design)
    if name is None:
        return names[0]
    if name not in names:
        raise BitkilnError("the design has no such mode", where=where, got=name, expected=" or ".join(names),
                           help=nearest(name, names))
    return name


def _weight(design: BitSerialDesign, name: str) -> WeightType:
    return next(weight for weight in design.weights if weight.name == name)


def assigned(layer: LayerShape, assignment: Mapping[str, str]) -> str | None:
    """Mode that an assignment gives a layer: by its name, its class or ``default``; None where by none."""
    return assignment.get(layer.name, assignment.get(layer.layer_class, assignment.get("default")))


def map_layer(design: object, layer: LayerShape, mode: str | None = None) -> Mapped:
    """A layer on an engine.

    Parameters
    ----------
    design : dataclass of models.design
    layer : LayerShape
    mode : str, optional
        Of `choices`; by default the first.
    """
    mode = _chosen(design, mode, f"layer {layer.name}")
    if isinstance(design, MatmulDesign):
        return _core(design, layer, mode)
    if isinstance(design, ArrayDesign):
        return _array(design, layer, mode)
    if isinstance(design, MorphableDesign):
        return _pe(design, layer, mode)
    if isinstance(design, DotDesign):
        return _unit(design, layer)
    assert isinstance(design, BitSerialDesign)
    return _serial(design, layer, _weight(design, mode))


def peak_macs(design: object, mode: str | None = None) -> float:
    """Products in a cycle at full use; of a bit-serial array those of a weight type's terms."""
    mode = _chosen(design, mode, "mode")
    if isinstance(design, (MatmulDesign, ArrayDesign)):
        return design.rows * design.columns * design.pe.modes[design.pe.index(mode)].lanes
    if isinstance(design, MorphableDesign):
        return design.modes[design.index(mode)].lanes
    if isinstance(design, DotDesign):
        return design.lanes
    assert isinstance(design, BitSerialDesign)
    weight = _weight(design, mode)
    return design.rows * design.columns * design.lanes / weight.terms


def port_bytes(design: object, mode: str | None = None) -> dict[str, float]:
    """Bytes that each port can move in a cycle; ports that never limit are left out."""
    mode = _chosen(design, mode, "mode")
    if isinstance(design, MatmulDesign):
        return dict.fromkeys(("a", "w", "c", "o"), design.bus_bits / 8)
    if isinstance(design, ArrayDesign):
        weights = design.rows if design.dataflow == "weight" else 1
        return {"a": design.rows * 2.0, "w": design.columns * 2.0 * weights}
    if isinstance(design, MorphableDesign):
        return {"a": 2.0, "w": 2.0}
    if isinstance(design, DotDesign):
        return {"a": design.lanes * design.activation.bits / 8, "w": design.lanes * design.weight.bits / 8}
    assert isinstance(design, BitSerialDesign)
    weight = _weight(design, mode)
    return {"a": design.rows * design.lanes * design.activation.bits / 8 / weight.terms,
            "w": design.columns * design.lanes * weight.bits / 8 / weight.terms}


def operand_bits(design: object, mode: str | None = None) -> tuple[float, float]:
    """Bits of an activation and of a weight in memory, group scales included where the engine has groups."""
    mode = _chosen(design, mode, "mode")
    if isinstance(design, BitSerialDesign):
        weight = _weight(design, mode)
        scale = 8 if design.scale.startswith("uint") else 16
        return design.activation.bits, weight.bits + scale / design.group
    if isinstance(design, DotDesign):
        return design.activation.bits, design.weight.bits
    pe = design.pe if isinstance(design, (MatmulDesign, ArrayDesign)) else design
    assert isinstance(pe, MorphableDesign)
    found = pe.modes[pe.index(mode)]
    return found.activation.bits, found.weight.bits


def layer_modes(design: object, layers: tuple[LayerShape, ...], assignment: dict[str, str] | str | None
                ) -> Iterator[tuple[LayerShape, str]]:
    """Each layer with its mode: by its name, its class, ``default``, else the design's first."""
    names = {layer.name for layer in layers} | {layer.layer_class for layer in layers} | {"default"}
    if isinstance(assignment, str):
        assignment = {"default": assignment}
    for key in assignment or {}:
        if key not in names:
            raise BitkilnError("no such layer or layer class", where="assignment", got=key,
                               expected=", ".join(sorted(names)), help=nearest(key, sorted(names)))
    for layer in layers:
        yield layer, _chosen(design, assigned(layer, assignment or {}), f"layer {layer.name}")
