"""Sparse networks for point clouds, seeded: an encoder-decoder like MinkUNet, an encoder like that of SECOND.

There are no trained weights here. Weights are random; every layer's batch normalisation takes mean and variance of its
own sums on the frame that it is made for, so that activations fill their format and ReLU leaves about as many zeros
as in trained networks. Results say what a layer costs, not what is in the scene.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..design.matmul import Job
from ..design.spconv_core import SpConvDesign
from ..errors import BitkilnError, nearest
from ..golden.requantise import Records, requantise
from ..golden.spconv import Cloud, ConvMap, down2, inverse2, stride3, submanifold
from ..golden.spconv_features import feature_sums

__all__ = ["Layer", "LayerRun", "NETWORKS", "NetworkRun", "SparseNetwork", "dilating_encoder",
           "encoder_decoder", "network", "run_network"]

FILLED = 3.0        # standard deviations that the largest integer stands for
MULTIPLIER_BITS = 15


@dataclass(frozen=True)
class Layer:
    """A convolution with batch normalisation and ReLU.

    Attributes
    ----------
    name : str
    op : str
        ``submanifold``, ``down2``, ``inverse2`` or ``stride3`` (dilating: its outputs are a new cloud).
    source, target : str
        Tensors; the tensor ``x+y`` is ``x`` and ``y`` side by side.
    inputs, outputs : int
        Channels.
    stage : int
        How often the voxels of the source have been halved.
    edge : str
        Of ``down2``: the last slice of an odd side, ``keep`` or ``drop``.
    """

    name: str
    op: str
    source: str
    target: str
    inputs: int
    outputs: int
    stage: int
    edge: str = "keep"

    @property
    def halves(self) -> bool:
        """The voxels of its outputs are half as fine."""
        return self.op in ("down2", "stride3")


@dataclass(frozen=True)
class SparseNetwork:
    """Layers in order; the input tensor is ``points``.

    A stage is halved in one way: a second ``down2`` or ``stride3`` from it with another edge raises BitkilnError.
    """

    name: str
    summary: str
    layers: tuple[Layer, ...]
    inputs: int

    def __post_init__(self) -> None:
        down: dict[int, Layer] = {}
        for layer in self.layers:
            if not layer.halves:
                continue
            first = down.setdefault(layer.stage, layer)
            if (layer.op, layer.edge) != (first.op, first.edge):
                # Two clouds of one stage would need two trees there.
                raise BitkilnError("two ways down from one stage", where=f"network {self.name}, layer {layer.name}",
                                   got=f"{layer.op} with edge={layer.edge} from stage {layer.stage}",
                                   expected=f"{first.op} with edge={first.edge}, as layer {first.name}")

    @property
    def stages(self) -> int:
        """How often voxels are halved."""
        return max(layer.stage + layer.halves for layer in self.layers)

    @property
    def widest(self) -> int:
        """Most channels of a row."""
        return max(max(layer.inputs, layer.outputs) for layer in self.layers)


def encoder_decoder(name: str, widths: tuple[int, ...], inputs: int) -> SparseNetwork:
    """One convolution for each stage of the encoder and of the decoder, skips by concatenation."""
    layers = [Layer("stem", "submanifold", "points", "e0", inputs, widths[0], 0)]
    for stage in range(1, len(widths)):
        before, now = widths[stage - 1], widths[stage]
        layers += [Layer(f"down{stage}", "down2", f"e{stage - 1}", f"d{stage}", before, now, stage - 1),
                   Layer(f"encode{stage}", "submanifold", f"d{stage}", f"e{stage}", now, now, stage)]
    last, width = f"e{len(widths) - 1}", widths[-1]
    for stage in reversed(range(len(widths) - 1)):
        now = widths[stage]
        layers += [Layer(f"up{stage}", "inverse2", last, f"u{stage}", width, now, stage),
                   Layer(f"decode{stage}", "submanifold", f"e{stage}+u{stage}", f"o{stage}", 2 * now, now, stage)]
        last, width = f"o{stage}", now
    return SparseNetwork(name, f"encoder-decoder of {len(widths)} stages, {', '.join(map(str, widths))} channels",
                         tuple(layers), inputs)


def dilating_encoder(name: str, widths: tuple[int, ...], inputs: int) -> SparseNetwork:
    """Two submanifold convolutions for each stage, 3x3x3 stride 2 between; the outputs spread as in SECOND."""
    layers = [Layer("stem", "submanifold", "points", "s0a", inputs, widths[0], 0)]
    last = "s0a"
    for stage, now in enumerate(widths):
        if stage:
            layers.append(Layer(f"down{stage}", "stride3", last, f"s{stage}", widths[stage - 1], now, stage - 1))
            last = f"s{stage}"
            layers.append(Layer(f"conv{stage}a", "submanifold", last, f"s{stage}a", now, now, stage))
            last = f"s{stage}a"
        layers.append(Layer(f"conv{stage}b", "submanifold", last, f"s{stage}b", now, now, stage))
        last = f"s{stage}b"
    return SparseNetwork(name, f"encoder of {len(widths)} stages, {', '.join(map(str, widths))} channels",
                         tuple(layers), inputs)


NETWORKS = {net.name: net for net in (
    encoder_decoder("minkunet-small", (16, 32, 64, 64), 16),
    encoder_decoder("minkunet-tiny", (16, 16, 32), 16),
    dilating_encoder("second-small", (16, 32, 64, 64), 16),
)}


def network(name: str) -> SparseNetwork:
    """A network by name; raises BitkilnError."""
    if name not in NETWORKS:
        raise BitkilnError("unknown network", where="--net", got=name, expected=" or ".join(NETWORKS),
                           help=nearest(name, NETWORKS))
    return NETWORKS[name]


@dataclass(frozen=True)
class LayerRun:
    """One layer on one frame.

    Attributes
    ----------
    layer : Layer
    map : ConvMap
    weights : ndarray (outputs, offsets, inputs)
        Codes.
    records : Records
    job : Job
        Output rule of the matmul core.
    codes : ndarray (rows, outputs)
        What leaves, with zeros.
    inputs : ndarray (rows of the source, inputs)
        What came.
    """

    layer: Layer
    map: ConvMap
    weights: np.ndarray
    records: Records
    job: Job
    inputs: np.ndarray
    codes: np.ndarray

    @property
    def zeros(self) -> float:
        """Share of zero activations among the inputs."""
        return float(np.mean(self.inputs == 0)) if self.inputs.size else 0.0


@dataclass(frozen=True)
class NetworkRun:
    """A network on one frame, in the core's arithmetic.

    Attributes
    ----------
    network : SparseNetwork
    clouds : dict of int to ndarray
        Keys of the voxels of every stage.
    layers : list of LayerRun
    tensors : dict of str to ndarray
        Codes by tensor.
    """

    network: SparseNetwork
    clouds: dict[int, np.ndarray]
    layers: list[LayerRun]
    tensors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def inner(self) -> tuple[str, ...]:
        """What the layers give, but for the last one."""
        return tuple(each.layer.target for each in self.layers[:-1])


def run_network(design: SpConvDesign, net: SparseNetwork, cloud: Cloud, features: np.ndarray,
                seed: int = 0) -> NetworkRun:
    """Make the weights of a network for a frame, and run it.

    Parameters
    ----------
    design : SpConvDesign
        Format and output stage.
    net : SparseNetwork
    cloud : Cloud
    features : ndarray (N, inputs)
        Codes by canonical row.
    seed : int

    Returns
    -------
    NetworkRun
    """
    fmt, rng = design.gather.activation, np.random.default_rng(seed)
    if features.shape != (len(cloud.keys), net.inputs):
        raise BitkilnError("wrong shape", where="features", got=features.shape,
                           expected=f"({len(cloud.keys)}, {net.inputs})")
    keys, depth, shape = {0: cloud.keys}, {0: cloud.depth}, {0: cloud.spatial_shape}
    tensors, runs = {"points": features}, []
    maps: dict[tuple[str, int], ConvMap] = {}
    for layer in net.layers:
        stage = layer.stage
        if (layer.op, stage) not in maps:
            maps[layer.op, stage] = _map(layer, keys, depth, shape)
        found = maps[layer.op, stage]
        if layer.halves:
            keys.setdefault(stage + 1, found.out_keys)
            depth.setdefault(stage + 1, depth[stage] - 1)
            shape.setdefault(stage + 1, tuple(max((side + (layer.edge == "keep")) // 2, 1) for side in shape[stage]))
        x = np.concatenate([tensors[part] for part in layer.source.split("+")], axis=1)
        offsets = 27 if layer.op in ("submanifold", "stride3") else 8
        side = 3 if offsets == 27 else 2
        weights = fmt.encode(_weights(fmt, rng, (layer.outputs, offsets, layer.inputs))).astype(np.int64)
        sums = feature_sums(found, x, weights.reshape(layer.outputs, side, side, side, layer.inputs), fmt, fmt,
                            design.output.raw_bits)
        job, records = _normalise(design, layer, sums)
        codes, _ = requantise(design.output, job, sums, records=records)
        runs.append(LayerRun(layer, found, weights, records, job, x, codes.astype(np.int64)))
        tensors[layer.target] = runs[-1].codes
    return NetworkRun(net, keys, runs, tensors)


def _map(layer: Layer, keys: Mapping[int, np.ndarray], depth: Mapping[int, int],
         shape: Mapping[int, tuple[int, int, int]]) -> ConvMap:
    stage = layer.stage
    if layer.op == "submanifold":
        return submanifold(keys[stage], depth[stage])
    if layer.op == "down2":
        return down2(keys[stage], depth[stage], shape[stage], layer.edge)
    if layer.op == "inverse2":
        return inverse2(keys[stage], keys[stage + 1])
    return stride3(keys[stage], depth[stage], "dilate", shape[stage])


def _weights(fmt, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    values = rng.normal(0, 1, shape)
    if fmt.family == "int":
        return np.clip(np.rint(values * fmt.max / FILLED), -fmt.max, fmt.max)
    return values


def _normalise(design: SpConvDesign, layer: Layer, sums) -> tuple[Job, Records]:
    """Batch normalisation with the statistics of these sums, folded into bias and scale; ReLU as a limit."""
    fmt = design.gather.activation
    exponent = design.gather.dot.product_exponent
    value = np.asarray(sums.exact.float64(0), np.float64).reshape(-1, layer.outputs)
    value = value if len(value) else np.zeros((1, layer.outputs))
    mean, deviation = value.mean(axis=0), np.maximum(value.std(axis=0), 1.0)
    bias = np.clip(-np.rint(mean), -(2 ** 31), 2 ** 31 - 1).astype(np.int64)
    common = {"m": 1, "k": 1, "n": layer.outputs, "per_channel": True, "bias": True, "output": fmt.name}
    mode = design.output.pe.modes[0].name
    if design.rule == "integer":
        wanted = fmt.max / FILLED / deviation
        shift = np.clip(MULTIPLIER_BITS - 1 - np.floor(np.log2(wanted)), 0, 62).astype(np.int64)
        scale = np.rint(wanted * 2.0 ** shift).astype(np.int64)
        return (Job(mode, rule="integer", clamp=(0, int(fmt.max)), **common),
                Records.of(layer.outputs, bias, scale, shift))
    scale = (1 / deviation / 2.0 ** exponent).astype(np.float32)
    return Job(mode, rule="float", clamp=(0.0, float(fmt.max)), **common), Records.of(layer.outputs, bias, scale, 0)
