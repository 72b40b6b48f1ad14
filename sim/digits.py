"""The digits networks through the RTL dot unit: every dot product of every image and neuron, in simulation.

One dot product is one cycle with ``clear`` and then ``ceil(K / lanes)`` cycles with ``en``; dot products
follow each other without a gap, and each accumulator is read after its last operands have come through. The
RTL's accumulators make the next layer's operands. All of them are compared with the golden run bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from bitkiln.models.design.dot import DotDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dot import DotResult
from bitkiln.models.workloads import digits
from bitkiln.models.workloads.matmul import lane_groups
from bitkiln.models.workloads.quantised import quantise_network

from .batch import BatchModel, pack_lanes, to_ints

__all__ = ["DigitsResult", "LayerResult", "RtlMatmul", "run_digits"]

CHUNK = 1 << 20  # clock cycles simulated at a time
FLAGS = ("nan", "inf_pos", "inf_neg", "illegal", "overflow")


@dataclass(frozen=True)
class LayerResult:
    """One layer of one run.

    Attributes
    ----------
    name : str
    terms, outputs : int
        K and the number of channels.
    dot_products : int
        Accumulators compared.
    macs : int
        Products that the layer needs; padding lanes are not counted.
    cycles : int
        Clock cycles, clears and pipeline drain included.
    mismatches : int
        Dot products whose accumulator, flags or operands differ from the golden run.
    """

    name: str
    terms: int
    outputs: int
    dot_products: int
    macs: int
    cycles: int
    mismatches: int


@dataclass(frozen=True)
class DigitsResult:
    """One network on the test images.

    Attributes
    ----------
    pe, network : str
    images, lanes, pipeline : int
    float_accuracy, golden_accuracy, rtl_accuracy : float
        Share of images classified correctly, 0..1.
    layers : tuple of LayerResult
    first_mismatch : str or None
        Where, and both values.
    scores_equal : bool
        Whether the class scores are equal too.
    seconds, simulation_seconds : float
        Wall time in all, and in the simulated model alone (neither includes building it).
    """

    pe: str
    network: str
    images: int
    lanes: int
    pipeline: int
    float_accuracy: float
    golden_accuracy: float
    rtl_accuracy: float
    layers: tuple[LayerResult, ...]
    first_mismatch: str | None
    scores_equal: bool
    seconds: float
    simulation_seconds: float

    @property
    def dot_products(self) -> int:
        return sum(layer.dot_products for layer in self.layers)

    @property
    def mismatches(self) -> int:
        return sum(layer.mismatches for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    @property
    def macs_per_cycle(self) -> float:
        """At most ``lanes``; less by the clears, the drain and K that the lanes do not divide."""
        return self.macs / self.cycles

    @property
    def ok(self) -> bool:
        """All bits equal, and something was compared."""
        return self.dot_products > 0 and not self.mismatches and self.scores_equal

    def as_dict(self) -> dict:
        """For JSON: every field and total."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        totals = {name: getattr(self, name)
                  for name in ("dot_products", "mismatches", "macs", "cycles", "macs_per_cycle", "ok")}
        return own | totals | {"layers": [vars(layer).copy() for layer in self.layers]}

    def __str__(self) -> str:
        verdict = "all equal" if self.ok else f"{self.mismatches} DIFFER"
        shares = [f"{name} {100 * share:.2f} %" for name, share in (
            ("float", self.float_accuracy), ("golden", self.golden_accuracy), ("RTL", self.rtl_accuracy))]
        return (f"{self.network} on {self.pe} ({self.lanes} lanes): {', '.join(shares)} of {self.images} "
                f"images; {self.dot_products:,} dot products compared, {verdict}; {self.macs:,} MACs, "
                f"{self.cycles:,} cycles, {self.macs_per_cycle:.2f} MACs/cycle; {self.seconds:.1f} s")


class RtlMatmul:
    """A matrix product by simulation, in place of ``models.workloads.matmul.matmul``.

    Attributes
    ----------
    cycles : list of int
        Clock cycles of each call.
    seconds : float
        Time spent in the simulated model.
    """

    def __init__(self, model: BatchModel):
        self.model = model
        self.cycles: list[int] = []
        self.seconds = 0.0

    def __call__(self, design: DotDesign, a_codes: np.ndarray, w_codes: np.ndarray) -> DotResult:
        a, w = lane_groups(design, a_codes, w_codes)
        steps = a.shape[1]
        period = steps + 1                        # the clear, then the operands
        a_words, w_words = _words(a, design.activation.bits), _words(w, design.weight.bits)
        rows = max(1, CHUNK // (period * len(w)))
        parts, cycles = [], 0
        for start in range(0, len(a), rows):
            part, used = self._stream(design, a_words[start:start + rows], w_words, period)
            parts.append(part)
            cycles += used
        self.cycles.append(cycles)
        flags = [np.concatenate([part[name] for part in parts]) if name in parts[0]
                 else np.zeros((len(a), len(w)), bool) for name in FLAGS]
        output = np.concatenate([part["o"] for part in parts]) if design.output is not None else None
        return DotResult(np.concatenate([part["acc"] for part in parts]), *flags, output)

    def _stream(self, design: DotDesign, a: np.ndarray, w: np.ndarray, period: int) -> tuple[dict, int]:
        """Every row of ``a`` with every row of ``w``; result ports of shape (rows of a, rows of w)."""
        pairs = len(a) * len(w)
        drain = design.pipeline
        # `every` samples the last cycle of each period; idle cycles in front make that the cycle in which
        # the pipeline brings out a result. They are not part of the work.
        idle = -drain % period
        rows = idle + pairs * period + drain
        ports = {"clear": np.zeros(rows, np.uint8), "en": np.zeros(rows, np.uint8)}
        body = slice(idle, idle + pairs * period)
        ports["clear"][idle:idle + pairs * period:period] = 1
        ports["en"][body] = 1 - ports["clear"][body]
        for name, words in (("a", a[:, None]), ("w", w[None])):
            tail = words.shape[3:]                # limbs of ports wider than 64 bits
            stream = np.zeros((rows, *tail), words.dtype)
            stream[body].reshape(len(a), len(w), period, *tail)[:, :, 1:] = words
            ports[name] = stream
        names = ["acc", *(name for name in (*FLAGS, "o") if name in self.model.outputs)]
        start = time.perf_counter()
        found = self.model.run(ports, names, every=period)
        self.seconds += time.perf_counter() - start
        first = (idle + drain) // period          # whole periods before the first result
        shape = (len(a), len(w))
        results = {name: _integers(found[name][first:first + pairs], self.model.outputs[name]).reshape(shape)
                   for name in names}
        if design.accumulator.kind == "fp32":
            results["acc"] = results["acc"].astype(np.uint32)
        for name in FLAGS:
            if name in results:
                results[name] = results[name].astype(bool)
        return results, pairs * period + drain


def _words(codes: np.ndarray, bits: int) -> np.ndarray:
    """Port values of ``codes`` (rows, steps, lanes): (rows, steps) or (rows, steps, limbs), narrow dtypes."""
    words = pack_lanes(codes.reshape(-1, codes.shape[2]), bits)
    if words.ndim == 1:
        total = codes.shape[2] * bits
        words = words.astype(next(kind for limit, kind in ((8, "u1"), (16, "u2"), (32, "u4"), (64, "u8"))
                                  if total <= limit))
    return words.reshape(*codes.shape[:2], *words.shape[1:])


def _integers(values: np.ndarray, port) -> np.ndarray:
    return values if values.ndim == 1 else to_ints(values, port.width, port.signed)


def run_digits(design: DotDesign | str, network: str = "mlp", images: int | Iterable[int] | None = None, *,
               method: str = "auto", model: BatchModel | None = None) -> DigitsResult:
    """Classify test images with the RTL of a dot unit and compare every bit with the golden model.

    Parameters
    ----------
    design : DotDesign or str
        A dot unit, or a PE name such as ``fp4`` or ``int8xfp4``.
    network : str
        ``mlp`` or ``cnn``.
    images : int or iterable of int, optional
        The first so many test images, or these ones; all 360 by default.
    method : str
        How scales are chosen, see ``models.quantize.rtn``.
    model : BatchModel, optional
        An already built model of the design.

    Returns
    -------
    DigitsResult
        ``ok`` tells whether all agreed.
    """
    design = DotDesign.from_pe(design) if isinstance(design, str) else design
    data = digits.load()
    trained = data.network(network)
    chosen = _chosen(images, len(data.images))
    if model is None:
        model = BatchModel(design)
    start = time.perf_counter()
    x, labels = digits.scale_images(data.images[chosen]), data.labels[chosen]
    quantised = quantise_network(trained, design, digits.scale_images(data.calibration), method)
    golden_scores, golden = quantised.forward(x)
    through = RtlMatmul(model)
    rtl_scores, rtl = quantised.forward(x, through)
    layers, first = [], None
    for want, got, cycles in zip(golden, rtl, through.cycles, strict=True):
        differs = _differences(want.result, got.result) | (want.codes != got.codes).any(axis=1)[:, None]
        layer = want.layer.layer
        if first is None and differs.any():
            row, column = (int(i) for i in np.argwhere(differs)[0])
            first = (f"{layer.name} row {row} output {column}: RTL {got.result.acc[row, column]}, "
                     f"golden {want.result.acc[row, column]}")
        layers.append(LayerResult(layer.name, layer.terms, layer.outputs, differs.size, want.macs, cycles,
                                  int(differs.sum())))
    accuracy = [float(np.mean(scores.argmax(axis=1) == labels))
                for scores in (trained.forward(x)[0], golden_scores, rtl_scores)]
    return DigitsResult(design.pe_name, network, len(chosen), design.lanes, design.pipeline, *accuracy,
                        tuple(layers), first, bool(np.array_equal(golden_scores, rtl_scores)),
                        time.perf_counter() - start, through.seconds)


def _chosen(images: int | Iterable[int] | None, available: int) -> np.ndarray:
    """Indices of test images."""
    if images is None:
        return np.arange(available)
    if isinstance(images, (int, np.integer)) and not isinstance(images, bool):
        if not 1 <= images <= available:
            raise BitkilnError("out of range", where="images", got=int(images), expected=f"1 to {available}")
        return np.arange(images)
    chosen = np.asarray(images if isinstance(images, np.ndarray) else list(images))
    if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise BitkilnError("not a list of images", where="images", got=chosen.shape,
                           expected="at least one index")
    outside = chosen[(chosen < 0) | (chosen >= available)]
    if outside.size:
        raise BitkilnError("out of range", where="images", got=int(outside[0]),
                           expected=f"indices 0 to {available - 1}")
    return chosen


def _differences(golden: DotResult, rtl: DotResult) -> np.ndarray:
    """Where any port differs."""
    differs = golden.acc != rtl.acc
    for name in FLAGS:
        differs = differs | (getattr(golden, name) != getattr(rtl, name))
    if golden.o is not None:
        differs = differs | (golden.o != rtl.o)
    return np.asarray(differs, bool)
