"""Claims about arrays and memories: cycles beside other simulators', tiers of memory."""

from __future__ import annotations

from ..config import load_design
from ..models.cost.mapping import map_layer, peak_macs
from ..models.cost.memory.memory import Hierarchy
from ..models.cost.memory.memory_tiers import dram_tier, flash_tier
from ..models.cost.memory.memory_traffic import bundle_bytes, chain_bytes
from ..models.cost.papers import PUBLISHED
from ..models.cost.peers import FIGURES, SETUPS, peer_layers
from ..models.cost.quantity import Quantity
from ..models.design import MatmulDesign
from .reproduce import Comparison, Options, comparison, missing
from .reproduce_measure import rtl_gemm

__all__ = ["core", "memory", "peers"]

CLOCK_MHZ = 200.0
BUS_BITS = 512          # the others' memories keep up as well
SIZES = ((16, 16), (16, 8))
RTL_LAYER = "gemm-64"
# OPT-6.7B in 32 bits: 32 layers of two matrices 4096 x 16384; 2.4 % of them for a token, by chunks of 32 KiB
# (LLM in a flash, section 4.1).
FEED_FORWARD = 32 * 2 * 4096 * 16384 * 4
SPARSE, CHUNK = 0.024, 32 * 1024
MODEL_BYTES = 7e9 * 2   # a model of 7 G parameters in 16 bits


def core(rows: int, columns: int) -> MatmulDesign:
    """Our INT8 core with streams that never make it wait."""
    keys = {"engine": "matmul_core", "modes": ["int8"], "array.rows": rows, "array.columns": columns,
            "bus_bits": BUS_BITS}
    return load_design(cli={key: (value, "reproduce") for key, value in keys.items()}).design


def _beside(name: str, what: str, ours: Quantity, assumptions: str) -> Comparison:
    """A row beside all runs of other tools on a layer."""
    theirs = [figure for figure in FIGURES if figure.layer == name]
    text = "; ".join(f"{figure.tool}{f' {figure.dataflow} stationary' if figure.dataflow else ''} {figure.cycles:,}"
                     for figure in theirs)
    setups = "; ".join(f"{tool}: {SETUPS[tool]}" for tool in dict.fromkeys(figure.tool for figure in theirs))
    cycles = [figure.cycles for figure in theirs]
    return Comparison(what, f"{text} cycles", f"runs of the tools (models.cost.peers): {setups}", ours, assumptions,
                      min(cycles), max(cycles))


def peers(options: Options) -> list[Comparison]:
    """The same layers on 16 x 16: ours beside runs of other tools."""
    cores, layers, rows = {size: core(*size) for size in SIZES}, peer_layers(), []
    notes = dict(zip(SIZES, ("a PE takes two INT8 products a cycle, theirs one: the peak is twice theirs",
                             "half the PEs, the same 256 products a cycle as theirs"), strict=True))
    rest = "; sums rounded to INT8, drained behind the next tile"
    for name, layer in layers.items():
        for size, design in cores.items():
            found, peak = map_layer(design, layer), peak_macs(design)
            rows.append(_beside(name, f"{name} on {size[0]} x {size[1]} PEs", Quantity(
                found.cycles, "cycles", "exact", f"cycle model equal to the RTL; {found.jobs} job, "
                f"{layer.macs / (peak * found.cycles):.1%} of {peak:g} products a cycle, {found.detail}"),
                notes[size] + rest))
    if options.rtl:
        size, layer = SIZES[0], layers[RTL_LAYER]
        options.progress(f"building {size[0]} x {size[1]}")
        order = map_layer(cores[size], layer).detail.split()[-1]
        predicted, simulated = rtl_gemm(cores[size], layer.m, order)
        rows.append(_beside(RTL_LAYER, f"{RTL_LAYER} on {size[0]} x {size[1]} PEs in RTL", Quantity(
            simulated, "cycles", "measured", "Verilator, counter CYCLES of the core, results equal to the golden model "
            f"bit for bit; the cycle model says {predicted:,}"), notes[size] + rest))
    return rows


# Memory ----------------------------------------------------------------------------------------------


def memory(options: Options) -> list[Comparison]:
    del options
    flash, rows = flash_tier(), []
    everything = flash.transfer_s(FEED_FORWARD, CLOCK_MHZ)
    sparse = flash.transfer_s(SPARSE * FEED_FORWARD, CLOCK_MHZ, CHUNK)
    for key in ("flash_cpu", "flash_gpu"):
        rows.append(comparison(PUBLISHED[key], Quantity(
            everything / sparse, "x", "model", f"{everything:.3f} s for all feed-forward weights, {sparse:.3f} s for "
            f"{SPARSE:.1%} by chunks of {CHUNK // 1024} KiB"), f"loads of a token, {PUBLISHED[key].claim}",
            "time of loads alone: theirs has computation and attention in it; the tier is fitted to two of their own "
            "figures, so this shows the model's consistency"))
    half = CHUNK // 2
    apart, together = (flash.transfer_s(SPARSE * FEED_FORWARD, CLOCK_MHZ, chunk) for chunk in (half,
                                                                                              bundle_bytes(half)))
    rows.append(comparison(PUBLISHED["flash_bundle"], Quantity(
        apart / together, "x faster", "model", f"{apart:.3f} s by {half // 1024} KiB, {together:.3f} s by "
        f"{2 * half // 1024} KiB"), "row-column bundling: chunks twice as long", "the same bytes"))
    rows.append(missing(PUBLISHED["flash_size"], "which weights stay in DRAM is not modelled, only windows of rows "
                        "(memory_traffic.window_rows)"))
    return rows + _sn40l()


def _chain(tokens: int, hidden: int, heads: int, inner: int) -> tuple[list[int], list[int]]:
    """Bytes of the tensors of one transformer layer as a chain of operators in 16 bits, and of its weights."""
    sizes = [(hidden, 3 * hidden * hidden), (3 * hidden, 0), (heads * tokens, 0), (heads * tokens, 0),
             (hidden, hidden * hidden), (hidden, hidden * inner), (inner, 0), (inner, hidden * inner)]
    return [2 * tokens * size for size, _ in sizes] + [2 * tokens * hidden], [2 * weights for _, weights in sizes]


def _sn40l() -> list[Comparison]:
    rows = []
    for tokens in (1, 2048):
        activations, weights = _chain(tokens, 4096, 32, 11008)
        apart = chain_bytes(activations, weights, fused=False)
        fused = chain_bytes(activations, weights, fused=True)
        rows.append(comparison(PUBLISHED["sn_fusion"], Quantity(
            apart / fused, "x fewer bytes", "model", f"{apart:,} against {fused:,} bytes off the chip"),
            f"fusion of a transformer layer, {tokens} token{'s' * (tokens > 1)}",
            "hidden 4,096, 32 heads, inner 11,008, 16 bits; speed-up where memory is the roof; keys and values of "
            "other tokens not counted"))
    tiers = Hierarchy((dram_tier("hbm2", 64 << 33), dram_tier("ddr4", 512 << 33), flash_tier()), CLOCK_MHZ)
    near, far = (tiers.switch_s(MODEL_BYTES, name, "hbm2") for name in ("ddr4", "flash"))
    rows.append(comparison(PUBLISHED["sn_switch"], Quantity(
        far / near, "x", "model", f"{near:.2f} s from {tiers.tiers[1].name}, {far:.2f} s from flash, to HBM2"),
        "switch of a 7 G model in 16 bits: bytes over the slowest bandwidth",
        "one DDR4 module against one flash; theirs is many channels against a host's link"))
    rows.append(missing(PUBLISHED["sn_footprint"], "a ratio of machines: racks are not modelled"))
    return rows
