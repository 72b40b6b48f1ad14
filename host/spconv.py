"""Networks to jobs of the sparse-convolution core: where tensors lie, which weights stay, what the streams carry."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bitkiln.models.cost.spconv.weight_cache import pin_mask, pin_profile
from bitkiln.models.design.spconv import KERNEL_OFFSETS
from bitkiln.models.design.spconv_core import NO_VOXEL, RECORDS_REQUEST, VOXEL_FIELDS, SpConvDesign, SpConvJob
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.requantise import Records
from bitkiln.models.golden.spconv import decode_keys
from bitkiln.models.workloads.spconv_nets import LayerRun, NetworkRun

from .fields import pack_fields

__all__ = ["Program", "Step", "Tensor", "answer_beats", "beat_bytes", "compile_network", "feature_beats",
           "memory_needed", "record_beats", "unpack_features", "voxel_beats", "weight_beats"]


@dataclass(frozen=True)
class Tensor:
    """A tensor on the chip.

    Attributes
    ----------
    rows, words : int
        Rows, and words of each.
    base, stride, group, mask : int
        First word and words from row to row of the memory that holds it (maybe beside another tensor, from word
        ``group`` on), first mask row.
    """

    rows: int
    words: int
    base: int
    stride: int
    group: int
    mask: int


@dataclass(frozen=True)
class Step:
    """A job, and what it takes from outside or gives.

    Attributes
    ----------
    job : SpConvJob
    keys : ndarray, optional
        Voxels of a load, in canonical order.
    depth : int
        Bits of their coordinates.
    features : ndarray (rows, channels), optional
    layer : LayerRun, optional
        Of a convolution.
    tensor : str
        Of a load or store.
    """

    job: SpConvJob
    keys: np.ndarray | None = None
    depth: int = 0
    features: np.ndarray | None = None
    layer: LayerRun | None = None
    tensor: str = ""


@dataclass(frozen=True)
class Program:
    """Jobs of a network on one frame, and the memory they need."""

    steps: list[Step]
    tensors: dict[str, Tensor]
    words: int
    mask_rows: int
    expected: dict[str, np.ndarray] = field(default_factory=dict)


class _Memory:
    """First fit of buffers that live from one layer to another."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int, int, int]] = []    # first word, words, first layer, last layer
        self.size = 0

    def place(self, words: int, first: int, last: int) -> int:
        busy = sorted((at, at + size) for at, size, begin, end in self.taken if begin <= last and first <= end)
        at = 0
        for low, high in busy:
            if at + words <= low:
                break
            at = max(at, high)
        self.taken.append((at, words, first, last))
        self.size = max(self.size, at + words)
        return at


def memory_needed(design: SpConvDesign, run: NetworkRun, *, keep: tuple[str, ...] = ()) -> tuple[int, int]:
    """Words of features and rows of masks that a network takes on a frame."""
    _, words, rows = _place(design, run, keep)
    return words, rows


def _place(design: SpConvDesign, run: NetworkRun, keep: tuple[str, ...]) -> tuple[dict[str, Tensor], int, int]:
    """Every tensor where it lives as long as it is used; those used side by side lie side by side."""
    lanes = design.gather.lanes
    layers = [each.layer for each in run.layers]
    wanted = (*keep, layers[-1].target)
    rows = {"points": len(run.clouds[0]), **{each.layer.target: each.map.rows for each in run.layers}}
    channels = {"points": run.network.inputs, **{each.target: each.outputs for each in layers}}
    born = {"points": -1, **{each.target: at for at, each in enumerate(layers)}}
    dies = {name: len(layers) if name in wanted else at for name, at in born.items()}
    for at, each in enumerate(layers):
        for part in each.source.split("+"):
            dies[part] = max(dies[part], at)
    for name, count in channels.items():
        if count % lanes:
            raise BitkilnError("channels do not fill words", where=name, got=count,
                               expected=f"a multiple of the {lanes} lanes")
    beside = {part: each.source.split("+") for each in layers if "+" in each.source
              for part in each.source.split("+")}
    features, masks = _Memory(), _Memory()
    tensors: dict[str, Tensor] = {}
    for name in born:
        if name in tensors:
            continue
        parts = beside.get(name, [name])
        first, last = min(born[part] for part in parts), max(dies[part] for part in parts)
        stride = sum(channels[part] for part in parts) // lanes
        base = features.place(max(rows[name], 1) * stride, first, last)
        mask = masks.place(max(rows[name], 1), first, last)
        group = 0
        for part in parts:
            tensors[part] = Tensor(rows[part], channels[part] // lanes, base, stride, group, mask)
            group += channels[part] // lanes
    return tensors, features.size, masks.size


def compile_network(design: SpConvDesign, run: NetworkRun, *, keep: tuple[str, ...] = ()) -> Program:
    """Place the tensors of a network and make its jobs.

    The voxels of all stages are levels of one tree where each stage has the octants of the one before. Where it has not
    (3x3x3 with stride 2 that dilates, edges that are dropped) its voxels are the other tree's, and the driver sends
    them.

    Parameters
    ----------
    design : SpConvDesign
    run : NetworkRun
    keep : sequence of str
        Tensors to send out besides the last one.
    """
    g, lanes = design.gather, design.gather.lanes
    tensors, words, mask_rows = _place(design, run, keep)
    for what, needed, held in (("feature_words", words, g.feature_words), ("mask_rows", mask_rows, g.mask_rows)):
        if needed > held:
            raise BitkilnError("the network does not fit the chip", where=f"memory.{what}", got=held,
                               expected=f"at least {needed} for this frame")

    depth, cloud = design.map.depth, run.clouds[0]
    points = tensors["points"]
    batches = int(cloud[-1] >> 3 * depth) + 1 if len(cloud) else 1
    shape = (1 << depth,) * 3
    start = SpConvJob("load", in_groups=points.words, out_base=points.base, out_stride=points.stride,
                      out_mask=points.mask, out_group=points.group, shape=shape, batches=batches)
    steps = [Step(start.check(design), cloud, depth, run.tensors["points"], tensor="points")]
    tree, level, crossed = 0, 0, 0      # of the voxels of the running stage; how many stages have own trees
    for at, each in enumerate(run.layers):
        layer = each.layer
        source, target = tensors[layer.source.split("+")[0]], tensors[layer.target]
        if source.group:
            raise BitkilnError("a tensor that does not begin a row of memory", where=layer.name, got=layer.source,
                               expected="the first part of a concatenation, or all of it")
        level = layer.stage - crossed
        cross = False
        if layer.op in ("down2", "stride3", "inverse2"):
            octants = np.unique(run.clouds[layer.stage] >> 3)
            cross = layer.op != "inverse2" and not np.array_equal(each.map.out_keys, octants)
            if layer.op == "inverse2" and each.map.inputs != len(octants):
                raise BitkilnError("no way back from another tree", where=layer.name, got="inverse2",
                                   expected="inputs that are the octants of all outputs: down2 that keeps its edges")
        if cross:
            if design.trees < 2:
                raise BitkilnError("this network needs a second tree", where="trees", got=design.trees, expected="2",
                                   help=f"layer {layer.name} has outputs that are no nodes of its inputs' tree")
            other = SpConvJob("load", tree=tree ^ 1, in_groups=0, shape=shape, batches=batches)
            steps.append(Step(other.check(design), each.map.out_keys, depth - crossed - 1, tensor=layer.target))
        uses = np.bincount(each.map.k, minlength=KERNEL_OFFSETS)
        pinned = pin_mask(pin_profile(uses, design.pinned))
        clamp = each.job.clamp
        job = SpConvJob(
            "convolve", layer.op, level=0 if cross else level, tree=tree, cross=cross, in_base=source.base,
            in_stride=source.stride, in_groups=layer.inputs // lanes, in_mask=source.mask, out_base=target.base,
            out_stride=target.stride, out_group=target.group, out_mask=target.mask, passes=layer.outputs // g.outputs,
            pinned=pinned, clamp=clamp, tag=at)
        steps.append(Step(job.check(design), layer=each))
        if cross:
            tree, crossed = tree ^ 1, crossed + 1
    wanted = (*keep, run.layers[-1].layer.target)
    for name in wanted:
        tensor = tensors[name]
        job = SpConvJob("store", in_base=tensor.base + tensor.group, in_stride=tensor.stride, in_groups=tensor.words,
                        in_mask=tensor.mask, rows=tensor.rows)
        steps.append(Step(job.check(design), tensor=name))
    return Program(steps, tensors, words, mask_rows, {name: run.tensors[name] for name in wanted})


# Streams -------------------------------------------------------------------------------------------


def _pack(codes: np.ndarray, bits: int, width: int) -> np.ndarray:
    """uint32 (n, words) or uint64 (n,): rows of codes, the first in the low bits."""
    count = codes.shape[1]
    whole = np.zeros((len(codes), width), np.uint8)
    for bit in range(bits):
        whole[:, bit:count * bits:bits] = codes >> bit & 1
    packed = np.packbits(whole, axis=1, bitorder="little")
    return packed.view("<u4").astype(np.uint32) if width > 64 else _small(packed, width)


def _small(packed: np.ndarray, width: int) -> np.ndarray:
    filled = np.zeros((len(packed), 8), np.uint8)
    filled[:, :packed.shape[1]] = packed
    return filled.view("<u8")[:, 0].astype(np.uint64)


def voxel_beats(keys: np.ndarray, depth: int) -> np.ndarray:
    """Beats of the voxels of a load with the mark of the last one, (n, 17) uint8; without any, one that is none.

    Parameters
    ----------
    keys : ndarray (n,)
        As `Step.keys`.
    depth : int
        Bits of their coordinates.
    """
    indices = decode_keys(keys, depth).astype(np.int64) if len(keys) else np.array([[NO_VOXEL, 0, 0, 0]])
    return pack_fields(VOXEL_FIELDS | {"last": 1}, {**dict(zip(VOXEL_FIELDS, indices.T, strict=True)),
                                                    "last": np.arange(len(indices)) == len(indices) - 1})


def feature_beats(design: SpConvDesign, features: np.ndarray) -> np.ndarray:
    """Beats of rows of features (N, channels), word by word."""
    g = design.gather
    words = np.asarray(features, np.int64).reshape(-1, g.lanes)
    return _pack(words, g.activation.bits, design.feature_bits)


def beat_bytes(beats: np.ndarray, bits: int) -> bytes:
    """Beats of a stream so many bits wide as bytes, lowest first."""
    raw = np.ascontiguousarray(beats).view(np.uint8).reshape(len(beats), -1)
    return np.ascontiguousarray(raw[:, :bits // 8]).tobytes()


def unpack_features(design: SpConvDesign, beats: np.ndarray, channels: int) -> np.ndarray:
    """Codes (N, channels) of words that left, (words, bytes) uint8."""
    g = design.gather
    bits = np.unpackbits(np.ascontiguousarray(beats, np.uint8), axis=1, bitorder="little")
    codes = bits[:, :g.lanes * g.activation.bits].reshape(-1, g.lanes, g.activation.bits).astype(np.int64)
    return (codes << np.arange(g.activation.bits)).sum(axis=2).reshape(-1, channels)


def weight_beats(design: SpConvDesign, weights: np.ndarray, k: int, part: int) -> np.ndarray:
    """Beats of one weight tile: a channel each, the outputs of a pass side by side."""
    g = design.gather
    tile = weights[part * g.outputs:(part + 1) * g.outputs, k, :].T
    return _pack(tile, g.weight.bits, design.weight_bits)


def answer_beats(design: SpConvDesign, layer: LayerRun, k: int, part: int) -> np.ndarray:
    """Beats that a request asks for: the weight tile of offset ``k``, or the records, of a pass of a layer."""
    return record_beats(design, layer.records, part) if k == RECORDS_REQUEST else \
        weight_beats(design, layer.weights, k, part)


def record_beats(design: SpConvDesign, records: Records, part: int) -> np.ndarray:
    """Beats of the records of a pass, one output channel each."""
    words = records.columns(part * design.gather.outputs, (part + 1) * design.gather.outputs).words()
    filled = np.zeros((len(words), design.weight_bits // 32), np.uint32)
    filled[:, :4] = words
    return filled
