"""Networks on the matmul core with a mode for each layer: jobs and codes, nothing else between the layers.

Activations enter as codes once; every layer's results leave the core as codes of the next layer's activation format,
by the core's own output rules (models/golden/requantise.py). What the host does is data movement (im2col) and, for the
GRU of ``g2p``, the element-wise functions between the matrix products, in float.

A layer's entry is a mode (``int8xfp4``) or a mapping with ``mode`` and maybe

* ``output``: format of the scores (last layer only; by default fp32, or else the widest integer output),
* ``rule``: ``integer`` or ``float``; by default ``integer`` where activations and results are integers,
* ``method``: how scales are chosen (models/quantize/rtn.py).

The key ``default`` stands for all layers that are not named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from ..design import Accumulator, ArrayDesign, Job, MatmulDesign, Mode, MorphableDesign
from ..design.matmul import INTEGER_BITS, MAX_SHAPE, MAX_SHIFT, MULTIPLIER_BITS
from ..errors import BitkilnError, nearest
from ..formats import Format, get_format
from ..golden.matmul import Records, matmul, raw_values
from ..quantize.rtn import METHODS, Quantized, rtn
from . import digits
from .g2p import MATRICES, G2p, G2pScore, load_checkpoint, predict
from .layers import Layer, Network
from .words import read_words, sample_words, score

__all__ = ["Execute", "Grid", "JobRun", "LayerPlan", "LayerRun", "MixedG2p", "MixedLayer", "MixedNetwork", "MixedRun",
           "design_for", "golden_execute", "parse_layers", "prepare", "prepare_g2p", "run", "run_digits", "run_g2p",
           "split_jobs"]

Execute = Callable[[Job, np.ndarray, np.ndarray, "Records | None", "np.ndarray | None"], np.ndarray]
"""``(job, a codes (M, K), w codes (N, K), records or None, C or None) -> result codes (M, N)``: golden model or RTL."""

SMALL_BITS = 8   # integer activations up to here that are never negative use all codes, by a zero point


def golden_execute(design: MatmulDesign) -> Execute:
    """Jobs through the golden model."""
    def execute(job: Job, a: np.ndarray, w: np.ndarray, records: Records | None, c: np.ndarray | None) -> np.ndarray:
        return matmul(design, job, a, w, records=records, c=c).codes

    return execute


# Which mode where ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerPlan:
    """One layer's entry, checked."""

    mode: str
    output: str | None = None
    rule: str | None = None
    method: str = "auto"


def parse_layers(names: Sequence[str], layers: Mapping[str, object] | str,
                 where: str = "layers") -> dict[str, LayerPlan]:
    """An entry for each of ``names``.

    Parameters
    ----------
    names : sequence of str
        Layers in order; ``mlp.hidden`` may be written ``hidden``.
    layers : mapping or str
        Entries by name and ``default``, as the module says; a string is the mode of all layers.
    """
    if isinstance(layers, str):
        layers = {"default": layers}
    if not isinstance(layers, Mapping):
        raise BitkilnError("not a mapping of layers to modes", where=where, got=type(layers).__name__,
                           expected="name: mode")
    short = {name.rpartition(".")[2]: name for name in names}
    plans: dict[str, LayerPlan] = {}
    for key, entry in layers.items():
        name = short.get(str(key), str(key))
        if key != "default" and name not in names:
            raise BitkilnError("no such layer", where=where, got=str(key), expected=", ".join(short),
                               help=nearest(str(key), [*short, "default"]))
        if name in plans:
            raise BitkilnError("layer named twice", where=where, got=str(key), expected="each layer once")
        plans[name] = _plan(entry, f"{where}.{key}")
    missing = [name for name in names if name not in plans]
    if missing and "default" not in plans:
        raise BitkilnError("layer without a mode", where=where, got=", ".join(missing),
                           expected="every layer, or default")
    return {name: plans.get(name, plans.get("default")) for name in names}


def _plan(entry: object, where: str) -> LayerPlan:
    if isinstance(entry, str):
        entry = {"mode": entry}
    keys = ("mode", "output", "rule", "method")
    if not isinstance(entry, Mapping) or "mode" not in entry:
        raise BitkilnError("no mode", where=where, got=entry, expected="a mode such as int8, or a mapping with mode")
    for key in entry:
        if key not in keys:
            raise BitkilnError("unknown key", where=where, got=str(key), expected=", ".join(keys),
                               help=nearest(str(key), keys))
    for key, choices in (("rule", ("integer", "float")), ("method", METHODS)):
        if entry.get(key) is not None and entry[key] not in choices:
            raise BitkilnError(f"unknown {key}", where=f"{where}.{key}", got=entry[key], expected=" or ".join(choices),
                               help=nearest(str(entry[key]), choices))
    plan = LayerPlan(**entry)
    output = None if plan.output is None else get_format(plan.output, where=f"{where}.output").name
    return replace(plan, mode=Mode.of(plan.mode).name, output=output)


def design_for(plans: Mapping[str, LayerPlan], rows: int = 4, columns: int = 4, **options) -> MatmulDesign:
    """A core with the modes of ``plans``, in order of first use; fp32 sums where a mode needs them."""
    modes = tuple(dict.fromkeys(plan.mode for plan in plans.values()))
    wide = any({"bf16", "fp16"} & {fmt.name for fmt in (mode.activation, mode.weight)} for mode in map(Mode.of, modes))
    pe = MorphableDesign(modes, Accumulator(kind="fp32" if wide else "exact"))
    return MatmulDesign(ArrayDesign(rows, columns, pe), **options)


# Codes between layers ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """How a tensor is held as codes: ``value = (code value - zero_point) * scale``."""

    format: Format
    scale: float
    zero_point: int = 0

    @classmethod
    def fit(cls, values: np.ndarray, fmt: Format, method: str, shifted: bool, name: str) -> Grid:
        """The grid of calibration values; with ``shifted``, small integers may get a zero point."""
        if shifted and fmt.family == "int" and fmt.signed and fmt.bits <= SMALL_BITS and np.min(values) >= 0:
            scale = float(rtn(values, f"uint{fmt.bits}", method=method, name=name).scale)
            return cls(fmt, scale, -1 << (fmt.bits - 1))
        return cls(fmt, float(rtn(values, fmt, method=method, name=name).scale))

    @property
    def zero_code(self) -> int:
        return int(self.encode(np.zeros(1))[0])

    def encode(self, values: np.ndarray) -> np.ndarray:
        scaled = np.asarray(values, np.float64) / self.scale
        return self.format.encode(np.rint(scaled) + self.zero_point if self.zero_point else scaled)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        return (self.format.decode(codes) - self.zero_point) * self.scale


# Jobs ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobRun:
    """One job that was run, with all it needs to be run again."""

    job: Job
    a: np.ndarray
    w: np.ndarray
    records: Records | None
    c: np.ndarray | None
    codes: np.ndarray


def split_jobs(design: MatmulDesign, template: Job, a: np.ndarray, w: np.ndarray, records: Records | None,
               execute: Execute) -> tuple[np.ndarray, list[JobRun]]:
    """``A @ W.T`` of any size: K in as many jobs as it takes (raw sums are passed on), rows likewise.

    Parameters
    ----------
    template : Job
        What the last job of each sum does; its shape and ``accumulate`` do not matter.
    """
    longest = design.max_k(template.mode)
    lanes = design.pe.modes[design.pe.index(template.mode)].lanes
    longest -= longest % lanes if longest > lanes else 0
    runs, parts = [], []
    for top in range(0, len(a), MAX_SHAPE):
        c = None
        for start in range(0, a.shape[1], longest):
            last = start + longest >= a.shape[1]
            left, right = a[top:top + MAX_SHAPE, start:start + longest], w[:, start:start + longest]
            shape = {"m": len(left), "k": left.shape[1], "n": len(right), "accumulate": c is not None}
            job = replace(template, **shape) if last else Job(template.mode, order=template.order, **shape)
            given = records if last and job.per_channel else None
            codes = execute(job.check(design), left, right, given, c)
            runs.append(JobRun(job, left, right, given, c, codes))
            c = codes
        parts.append(c)
    return np.concatenate(parts), runs


def _multipliers(ratios: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """31-bit multipliers and shifts: ``ratio = multiplier * 2**-shift``."""
    _, exponent = np.frexp(ratios)
    shift = np.minimum(MULTIPLIER_BITS - exponent.astype(np.int64), MAX_SHIFT)
    scale = np.rint(np.ldexp(ratios, shift)).astype(np.int64)
    over = scale >> MULTIPLIER_BITS != 0   # rounded up to 2**31
    shift = shift - over
    scale = np.where(over, scale >> 1, scale)
    if (shift < 0).any():
        raise BitkilnError("scale too large for a 31-bit multiplier", where=name, got=float(ratios.max()),
                           expected="below 2**31", help="use rule: float")
    return scale, shift


def _fixed_bias(values: Sequence[Fraction]) -> tuple[list[int], int]:
    """Integers of 32 bits and the number of bytes by which the core shifts them left."""
    for places in range(16):
        shifted = [round(value / (1 << 8 * places)) for value in values]
        if all(-(1 << 31) <= value < 1 << 31 for value in shifted):
            return shifted, places
    raise BitkilnError("bias too large", where="bias", got=float(max(map(abs, values))), expected="at most 151 bits")


# Layers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MixedLayer:
    """A layer ready for the core.

    Attributes
    ----------
    job : Job
        Mode, rule, output and constants; the shape is that of one row.
    """

    layer: Layer
    job: Job
    weights: Quantized
    records: Records | None
    input: Grid
    output: Grid | None

    @property
    def weight_bytes(self) -> int:
        return -(-self.weights.codes.size * self.weights.format.bits // 8)


@dataclass(frozen=True)
class LayerRun:
    """What one layer did with a batch.

    Attributes
    ----------
    m, k, n : int
        Shape of the matrix product.
    weight_bytes : int
        Weight codes, tightly packed.
    jobs : tuple of JobRun
    """

    name: str
    mode: str
    rule: str
    output: str | None
    m: int
    k: int
    n: int
    weight_bytes: int
    jobs: tuple[JobRun, ...] = field(repr=False)

    @property
    def macs(self) -> int:
        return self.m * self.k * self.n


@dataclass(frozen=True)
class MixedRun:
    """Scores of a batch (images, classes) as float64, and what every layer did."""

    scores: np.ndarray
    layers: tuple[LayerRun, ...]

    def accuracy(self, labels: np.ndarray) -> float:
        """Percent of images whose highest score is the label's."""
        return float(100 * np.mean(self.scores.argmax(axis=1) == labels))

    @property
    def weight_bytes(self) -> int:
        return sum(layer.weight_bytes for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


@dataclass(frozen=True)
class MixedNetwork:
    """A network as jobs of one core."""

    network: Network
    design: MatmulDesign
    layers: tuple[MixedLayer, ...]

    def run(self, x: np.ndarray, execute: Execute | None = None) -> MixedRun:
        """Scores of ``x`` (images, channels, height, width), by default through the golden model."""
        execute = execute or golden_execute(self.design)
        codes, runs = self.layers[0].input.encode(x), []
        for item in self.layers:
            rows = item.layer.rows(codes, item.input.zero_code)
            y, jobs = split_jobs(self.design, item.job, rows, item.weights.codes, item.records, execute)
            runs.append(LayerRun(item.layer.name, item.job.mode, item.job.rule, item.job.output, len(rows),
                                 item.layer.terms, item.layer.outputs, item.weight_bytes, tuple(jobs)))
            codes = item.layer.fold(y, codes)
        last = self.layers[-1]
        if last.output is not None:
            return MixedRun(last.output.decode(codes), tuple(runs))
        scale = last.input.scale * last.weights.scale.reshape(-1)
        return MixedRun(raw_values(self.design, last.job, codes) * scale, tuple(runs))


def _output_rule(design: MatmulDesign, plan: LayerPlan, output: Format, name: str) -> str:
    """The rule that a layer uses; the core's own check has the last word."""
    mode = design.pe.modes[design.pe.index(plan.mode, f"layers.{name}")]
    if output.name not in design.outputs:
        raise BitkilnError("this core has no such output", where=f"layers.{name}", got=output.name,
                           expected=" or ".join(design.outputs), help="add it to the core's outputs")
    integers = (not design.floating and mode.activation.family == output.family == "int"
                and design.pe.dot(mode).accumulator_bits <= INTEGER_BITS)
    if plan.rule is not None:
        return plan.rule
    return "integer" if integers and "integer" in design.rules else "float"


def _score_format(design: MatmulDesign, plan: LayerPlan) -> Format | None:
    """Output of the last layer; None for raw sums."""
    if plan.output is not None:
        return get_format(plan.output)
    if "float" in design.rules and "fp32" in design.outputs and plan.rule != "integer":
        return get_format("fp32")
    integers = [fmt for fmt in map(get_format, design.outputs) if fmt.family == "int"]
    return max(integers, key=lambda fmt: fmt.bits) if integers and set(design.rules) != {"raw"} else None


def _prepare_layer(design: MatmulDesign, layer: Layer, plan: LayerPlan, weights: Quantized, entry: Grid,
                   output: Grid | None) -> MixedLayer:
    mode = design.pe.modes[design.pe.index(plan.mode, f"layers.{layer.name}")]
    exponent = mode.dot().product_exponent
    scale = entry.scale * weights.scale.reshape(-1)    # of a sum in the operands' own values
    # sum((a - zero) * w) = sum(a * w) - zero * sum(w); a zero point only goes with integers, whose unit is 1.
    shift = -entry.zero_point * mode.weight.units(weights.codes).astype(object).sum(axis=1)
    needed = bool(np.any(layer.bias)) or entry.zero_point != 0
    job = Job(plan.mode, 1, 1, layer.outputs, bias=needed, per_channel=True)
    bias_shift = 0
    if design.floating:
        bias = (layer.bias / scale + shift.astype(np.float64) * 2.0 ** exponent).astype(np.float32)
    else:
        exact = [Fraction(float(b)) / Fraction(float(s)) / Fraction(2) ** exponent + int(z)
                 for b, s, z in zip(layer.bias, scale, shift, strict=True)]
        values, bias_shift = _fixed_bias(exact)
        bias = np.array(values)
    if output is None:
        records = Records.of(layer.outputs, bias)
        return MixedLayer(layer, replace(job, bias_shift=bias_shift), weights, records, entry, None)
    rule = _output_rule(design, plan, output.format, layer.name)
    job = replace(job, rule=rule, output=output.format.name, bias_shift=bias_shift, zero_point=output.zero_point)
    if rule == "integer":
        multiplier, places = _multipliers(scale * 2.0 ** exponent / output.scale, layer.name)
        records = Records.of(layer.outputs, bias, multiplier, places)
        clamp = (output.zero_point, (1 << (output.format.bits - output.format.signed)) - 1)
    else:
        records = Records.of(layer.outputs, bias, scale / output.scale)
        clamp = (0.0, float("inf"))
    return MixedLayer(layer, replace(job, clamp=clamp if layer.relu else None), weights, records, entry, output)


def prepare(network: Network, layers: Mapping[str, object] | str, calibration: np.ndarray,
            design: MatmulDesign | None = None) -> MixedNetwork:
    """Quantise a network for a core, each layer in its own mode.

    Parameters
    ----------
    network : Network
    layers : mapping or str
        Modes by layer, as the module says.
    calibration : ndarray (images, channels, height, width)
        Inputs from which the scales of activations are taken, through the float network.
    design : MatmulDesign, optional
        By default a small core with just these modes.
    """
    plans = parse_layers([layer.name for layer in network.layers], layers)
    design = design or design_for(plans)
    scores, inputs = network.forward(calibration)
    last = network.layers[-1].name
    for name, plan in plans.items():
        if plan.output is not None and name != last:
            raise BitkilnError("contradictory options", where=f"layers.{name}.output", got=plan.output,
                               expected="none: it is the next layer's activation format")
    grids = []
    for layer, values in zip(network.layers, inputs, strict=True):
        mode = design.pe.modes[design.pe.index(plans[layer.name].mode, f"layers.{layer.name}")]
        grids.append(Grid.fit(values, mode.activation, plans[layer.name].method, design.bias,
                              f"input of {layer.name}"))
    wanted = _score_format(design, plans[last])
    if wanted is None:
        grids.append(None)
    elif wanted.name == "fp32":
        grids.append(Grid(wanted, 1.0))
    else:
        grids.append(Grid.fit(scores, wanted, plans[last].method, False, f"scores of {network.name}"))
    ready = []
    for i, layer in enumerate(network.layers):
        plan = plans[layer.name]
        weights = rtn(layer.weight, Mode.of(plan.mode).weight, axis=0, method=plan.method,
                      name=f"{layer.name}.weight")
        ready.append(_prepare_layer(design, layer, plan, weights, grids[i], grids[i + 1]))
    return MixedNetwork(network, design, tuple(ready))


def run(network: Network, layers: Mapping[str, object] | str, calibration: np.ndarray, x: np.ndarray,
        design: MatmulDesign | None = None, execute: Execute | None = None) -> MixedRun:
    """``prepare`` and run in one go."""
    return prepare(network, layers, calibration, design).run(x, execute)


def run_digits(name: str, layers: Mapping[str, object] | str, *, images: int | None = None,
               design: MatmulDesign | None = None, execute: Execute | None = None) -> tuple[MixedRun, float]:
    """The digits network ``mlp`` or ``cnn`` on the first ``images`` test images (all by default), and its accuracy."""
    data = digits.load()
    found = run(data.network(name), layers, digits.scale_images(data.calibration),
                digits.scale_images(data.images[:images]), design, execute)
    return found, found.accuracy(data.labels[:images])


# Grapheme to phoneme -------------------------------------------------------------------------------


class MixedG2p:
    """The products of the GRU's matrices as jobs: activations are encoded with one scale for each matrix, results
    are float32 (or raw sums, where the core has no float rule). Callable as ``g2p.predict`` wants it.

    Attributes
    ----------
    plans : dict of str to LayerPlan
    rows : dict of str to int
        Activation rows that each matrix has multiplied so far.
    """

    def __init__(self, net: G2p, layers: Mapping[str, object] | str, design: MatmulDesign | None = None,
                 execute: Execute | None = None):
        self.plans = parse_layers(MATRICES, layers)
        self.design = design = design or design_for(self.plans)
        self.execute = execute or golden_execute(design)
        self.rows = dict.fromkeys(MATRICES, 0)
        self.grids, self.weights, self.jobs, self.records = {}, {}, {}, {}
        evenly = np.linspace(-1, 1, 4097)   # tanh keeps states within -1..1
        floats = "float" in design.rules and "fp32" in design.outputs
        for name, plan in self.plans.items():
            if plan.output not in (None, "fp32"):
                raise BitkilnError("no such output for a matrix of the GRU", where=f"layers.{name}.output",
                                   got=plan.output, expected="fp32")
            mode = design.pe.modes[design.pe.index(plan.mode, f"layers.{name}")]
            seen = net.arrays[name.replace("w_ih", "emb")] if name.endswith("w_ih") else evenly
            self.grids[name] = Grid.fit(seen, mode.activation, plan.method, False, f"input of {name}")
            self.weights[name] = rtn(net.arrays[name], mode.weight, axis=0, method=plan.method, name=name)
            count = len(self.weights[name].codes)
            self.jobs[name] = Job(mode.name, 1, 1, count, rule="float", output="fp32", per_channel=True) \
                if floats else Job(mode.name, 1, 1, count)
            self.records[name] = Records.of(count, 0, self._scale(name)) if floats else None

    def _scale(self, name: str) -> np.ndarray:
        return self.grids[name].scale * self.weights[name].scale.reshape(-1)

    def __call__(self, name: str, rows: np.ndarray) -> np.ndarray:
        self.rows[name] += len(rows)
        job, weights = self.jobs[name], self.weights[name].codes
        codes, _ = split_jobs(self.design, job, self.grids[name].encode(rows), weights, self.records[name],
                              self.execute)
        if job.rule == "raw":
            return raw_values(self.design, job, codes) * self._scale(name)
        return codes.view(np.float32)

    def layer_runs(self) -> tuple[LayerRun, ...]:
        """What every matrix has done so far; single jobs are not kept."""
        return tuple(LayerRun(name, self.plans[name].mode, self.jobs[name].rule, self.jobs[name].output,
                              self.rows[name], weights.codes.shape[1], len(weights.codes),
                              -(-weights.codes.size * weights.format.bits // 8), ())
                     for name, weights in self.weights.items())


def prepare_g2p(layers: Mapping[str, object] | str, *, design: MatmulDesign | None = None,
                execute: Execute | None = None, checkpoint: str | None = None) -> tuple[G2p, MixedG2p]:
    """The network of the checkpoint and its products."""
    net = load_checkpoint(checkpoint)
    return net, MixedG2p(net, layers, design, execute)


def run_g2p(layers: Mapping[str, object] | str, words: int = 200, seed: int = 1, *,
            design: MatmulDesign | None = None, execute: Execute | None = None, checkpoint: str | None = None,
            dictionary: str | None = None) -> tuple[G2pScore, tuple[LayerRun, ...]]:
    """Word accuracy and phoneme error rate of a sample of words, and what every matrix did."""
    net, product = prepare_g2p(layers, design=design, execute=execute, checkpoint=checkpoint)
    sample = sample_words(read_words(dictionary), words, seed)
    scores = score(sample, predict(net, [word.text for word in sample], product))
    modes = "+".join(dict.fromkeys(plan.mode for plan in product.plans.values()))
    return G2pScore(modes, "same", None, words, *scores), product.layer_runs()
