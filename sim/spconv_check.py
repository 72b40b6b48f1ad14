"""Whole networks through the sparse-convolution engine at full simulation speed, against the golden model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bitkiln.host.spconv import Program, Step, answer_beats, feature_beats, memory_needed, unpack_features
from bitkiln.hw.spconv.engine import SpConvEngine
from bitkiln.hw.spconv.jobs import job_layout
from bitkiln.hw.spconv.loader import request_layout
from bitkiln.models.cost.spconv.spconv_core import layer_cost
from bitkiln.models.cost.spconv.weight_cache import MISS, demands, trace
from bitkiln.models.design.registers import clamp_codes
from bitkiln.models.design.spconv import MapDesign
from bitkiln.models.design.spconv_core import KINDS, OPS, RECORDS_REQUEST, SpConvDesign, SpConvJob
from bitkiln.models.design.spconv_registers import COUNTERS
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.spconv import canonicalise, decode_keys
from bitkiln.models.workloads.scenes import lidar_scene
from bitkiln.models.workloads.spconv_nets import (
    Layer,
    NetworkRun,
    SparseNetwork,
    dilating_encoder,
    encoder_decoder,
    run_network,
)

from .bitserial_check import bits_of, pack_bits
from .octree_check import pack_voxels
from .streams import StreamModel, StreamRun

__all__ = ["EngineRun", "check_program", "edge_network", "network_on", "pack_jobs", "random_codes", "requests_of",
           "run_program", "small_network", "with_odd_voxels"]


@dataclass(frozen=True)
class EngineRun:
    """A program in RTL.

    Attributes
    ----------
    run : StreamRun
    tensors : dict of str to ndarray
        What the stores sent.
    counters : dict of str to int
        The core's counters.
    requests : ndarray (n, 3)
        Offset or `RECORDS_REQUEST`, pass and tag of every request for weights.
    odd : Counter
        What the counters should make of the voxels that do not count.
    """

    run: StreamRun
    tensors: dict[str, np.ndarray]
    counters: dict[str, int]
    requests: np.ndarray
    odd: Counter[str]


def pack_jobs(design: SpConvDesign, jobs: list[SpConvJob]) -> np.ndarray:
    """Items of ``job``."""
    columns: dict[str, list[int]] = {}
    for job in jobs:
        low, high = clamp_codes(job.clamp, design.rule == "integer")
        values = {"kind": KINDS.index(job.kind), "op": OPS.index(job.op), "level": job.level, "tree": job.tree,
                  "cross": job.cross, "strict": job.strict, "in_groups": job.in_groups, "passes": job.passes,
                  "pinned": job.pinned, "clamp": job.clamp is not None, "clamp_low": low, "clamp_high": high,
                  "rows": job.rows, "batches": job.batches, "tag": job.tag,
                  **{f"shape_{axis}": size for axis, size in zip("xyz", job.shape, strict=True)},
                  "source.base": job.in_base, "source.stride": job.in_stride, "source.group": 0,
                  "source.mask": job.in_mask, "target.base": job.out_base, "target.stride": job.out_stride,
                  "target.group": job.out_group, "target.mask": job.out_mask}
        for name, value in values.items():
            columns.setdefault(name, []).append(int(value))
    fields = []
    for name, field in job_layout(design):
        if hasattr(field.shape, "members"):
            fields += [(np.array(columns[f"{name}.{part}"]), each.width) for part, each in field.shape]
        else:
            fields.append((np.array(columns[name]), field.width))
    return pack_bits(fields)


def requests_of(design: SpConvDesign, step: Step) -> list[tuple[int, int]]:
    """What a convolution asks for, in order: (offset, pass)."""
    found, job, conv = [], step.job, step.layer.map
    if not conv.rows:
        return []
    pins = [k for k in range(27) if job.pinned >> k & 1]
    missed = []
    if design.gather.pack == "item":
        asked = demands(conv.out, conv.k, design.gather.slots).k
        stays = np.array([bool(job.pinned >> k & 1) for k in range(27)])
        missed = asked[trace(asked, stays).kind == MISS].tolist()
    for part in range(job.passes):
        found += [(RECORDS_REQUEST, part), *((k, part) for k in (*pins, *missed))]
    return found


def with_odd_voxels(step: Step, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None, dict[str, int]]:
    """Voxels and features of a load among others that must not matter: out of range, or the voxel before again.

    Returns
    -------
    indices, features : ndarray
        In the order in which they are sent; features are None where the load has none.
    counts : dict of str to int
        What the core's counters make of them.
    """
    indices = decode_keys(step.keys, step.depth).astype(np.int64)
    if not len(indices):
        return indices, step.features, {}   # one item that is no voxel
    limits = np.array([step.job.batches, *step.job.shape])
    at = rng.permutation(np.repeat(np.arange(len(indices)), 2))[:len(indices)]
    extra, again = indices[at].copy(), rng.random(len(at)) < 0.5
    axis = rng.integers(0, 4, len(at))
    beyond = rng.integers(0, 3, len(at))
    wild = np.where(rng.random(len(at)) < 0.5, limits[axis] + beyond, -1 - beyond)
    far = np.flatnonzero(~again)
    extra[far, axis[far]] = wild[far]
    order = np.argsort(np.concatenate([np.arange(len(indices)), at + 0.5]), kind="stable")
    features = step.features
    if features is not None:
        noise = rng.integers(0, int(features.max(initial=0)) + 1, (len(at), features.shape[1]))
        features = np.concatenate([features, noise])[order]
    return (np.concatenate([indices, extra])[order], features,
            {"VOXELS": len(at), "DROPPED": int((~again).sum()), "DUPLICATES": int(again.sum())})


def run_program(design: SpConvDesign, model: StreamModel, program: Program, *,
                stalls: Mapping[str, float] | None = None, seed: int = 0, odd: bool = False,
                resume: bool = False) -> EngineRun:
    """Run the jobs of a network from power-up; every request for weights is answered as it should be asked.

    Parameters
    ----------
    odd : bool
        Voxels that do not count come in between, see `with_odd_voxels`.

    Raises
    ------
    BitkilnError
        Exit code 1: a deadlock, a broken handshake, or more outputs than expected.
    """
    steps = program.steps
    voxels, features, weights, sent, wanted, between = [], [], [], 0, 0, Counter()
    for step in steps:
        if step.job.kind == "load":
            indices, rows = decode_keys(step.keys, step.depth).astype(np.int64), step.features
            if odd:
                indices, rows, counts = with_odd_voxels(step, np.random.default_rng(seed))
                between.update(counts)
            voxels.append(pack_voxels(indices))
            if step.job.in_groups:
                rows = rows if len(indices) else np.zeros((1, step.job.in_groups * design.gather.lanes), int)
                features.append(feature_beats(design, rows))
        elif step.job.kind == "convolve":
            for k, part in requests_of(design, step):
                weights.append(answer_beats(design, step.layer, k, part))
                wanted += 1
        else:
            sent += max(step.job.rows * step.job.in_groups, 1)
    inputs = {"job": pack_jobs(design, [step.job for step in steps]), "voxel": np.concatenate(voxels)}
    inputs |= {name: np.concatenate(parts) for name, parts in (("feature", features), ("weight", weights)) if parts}
    beats = sum(len(each) for each in inputs.values())
    run = model.run(inputs, {"o": sent, "request": wanted}, stalls=stalls or {}, seed=seed, resume=resume,
                    held={"blocked": 0, "count_level": 0, "count_tree": 0, "clear_counters": 0},
                    limit=2_000_000_000, timeout=200_000 + 20 * beats).check()
    tensors, at = {}, 0
    words, valid = _words(design, run.outputs["o"])
    for step in steps:
        if step.job.kind == "store":
            count = step.job.rows * step.job.in_groups
            channels = step.job.in_groups * design.gather.lanes
            tensors[step.tensor] = unpack_features(design, words[at:at + count], channels)
            if valid[at:at + count].all() is np.False_ or (not count and valid[at]):
                raise BitkilnError("wrong marks", where=f"{step.tensor} mask", exit_code=FAILED)
            at += max(count, 1)
    asked = np.stack([bits_of(run.outputs["request"], field.offset, field.width) for _, field in request_layout()],
                     axis=1) if wanted else np.zeros((0, 3), np.int64)
    return EngineRun(run, tensors, {name: run.ports[name.lower()] for name in COUNTERS}, asked, between)


def _words(design: SpConvDesign, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Data and ``mask`` of the words that left."""
    bits = np.unpackbits(np.ascontiguousarray(raw if raw.ndim == 2 else raw[:, None]).view(np.uint8).reshape(
        len(raw), -1), axis=1, bitorder="little")
    data = np.packbits(bits[:, :design.feature_bits], axis=1, bitorder="little")
    return data, bits[:, design.feature_bits].astype(bool)


def random_codes(design: SpConvDesign, rows: int, channels: int, rng: np.random.Generator) -> np.ndarray:
    """Codes (rows, channels) of features, four of ten of them zero."""
    fmt = design.gather.activation
    values = np.where(rng.random((rows, channels)) < 0.4, 0, rng.normal(0, 0.4, (rows, channels)))
    return fmt.encode(np.clip(np.rint(values * fmt.max), -fmt.max, fmt.max) if fmt.family == "int"
                      else values).astype(np.int64)


def network_on(design: SpConvDesign, net: SparseNetwork, indices: np.ndarray, seed: int = 0,
               side: int = 0) -> NetworkRun:
    """A network on voxels (N, 4), in any order and more than once, with random features.

    Parameters
    ----------
    side : int
        Of the grid; 0 for the whole one.
    """
    depth = design.map.depth
    cloud = canonicalise(np.asarray(indices, np.int64).reshape(-1, 4), (side or 1 << depth,) * 3, design.map.batches,
                         depth=depth)
    return run_network(design, net, cloud, random_codes(design, len(cloud), net.inputs, np.random.default_rng(seed)),
                       seed)


def edge_network(channels: int, *, back: bool = False) -> SparseNetwork:
    """A convolution, 2x2x2 without the last slice of an odd side, another convolution (and the way ``back`` up)."""
    layers = [Layer("stem", "submanifold", "points", "a", channels, channels, 0),
              Layer("down", "down2", "a", "b", channels, channels, 0, "drop"),
              Layer("coarse", "submanifold", "b", "c", channels, channels, 1)]
    if back:
        layers.append(Layer("up", "inverse2", "c", "d", channels, channels, 0))
    return SparseNetwork("edges", "a dropped edge", tuple(layers), channels)


def small_network(design: SpConvDesign, kind: str, voxels: int, seed: int) -> NetworkRun:
    """A network of two stages on a small street scene, as large as the core has room for.

    Parameters
    ----------
    kind : str
        ``encoder-decoder`` or ``dilating encoder``.
    voxels : int
        At most.
    """
    g, depth = design.gather, design.map.depth
    width = max(g.lanes, g.outputs)
    deep = 2 * width <= g.channels and depth > 1
    make = dilating_encoder if kind == "dilating encoder" else encoder_decoder
    net = make("small", (width, width) if deep else (width,), width)
    points = lidar_scene(seed, beams=16, columns=256).points
    points = points[np.linalg.norm(points[:, :2], axis=1) < 40]
    size = np.array([80, 80, 20]) / (1 << depth)
    indices = np.clip(np.floor(points / size).astype(np.int64) + np.array([1, 1, 0]) * (1 << depth >> 1), 0,
                      (1 << depth) - 1)
    for most in (voxels, voxels // 2, voxels // 4, voxels // 8, 8):
        few = indices[:most]
        cloud = canonicalise(np.column_stack([np.arange(len(few)) % design.map.batches, few]), (1 << depth,) * 3,
                             design.map.batches, depth=depth)
        codes = random_codes(design, len(cloud), width, np.random.default_rng(seed))
        run = run_network(design, net, cloud, codes, seed)
        words, rows = memory_needed(design, run)
        if words <= g.feature_words and rows <= g.mask_rows and all(
                _fits(design.map, keys) for keys in run.clouds.values()):
            return run
    raise BitkilnError("no network fits", where="memory", got=g.feature_words, expected=f"at least {words} words")


def _fits(tree: MapDesign, keys: np.ndarray) -> bool:
    return all(len(np.unique(keys >> 3 * level)) <= tree.held(level) for level in range(tree.depth + 1))


def check_program(design: SpConvDesign, program: Program, model: StreamModel | None = None, *,
                  stalls: Mapping[str, float] | None = None, seed: int = 0, odd: bool = False) -> EngineRun:
    """Run and compare every feature that leaves, every request, and the counters that the cost model knows.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(SpConvEngine(design)) if model is None else model
    found = run_program(design, model, program, stalls=stalls, seed=seed, odd=odd)
    for name, wanted in program.expected.items():
        different = np.argwhere(found.tensors[name] != wanted)
        if len(different):
            row, channel = different[0]
            raise BitkilnError("RTL differs from golden", where=f"{name}[{row}, {channel}]",
                               got=int(found.tensors[name][row, channel]), expected=str(wanted[row, channel]),
                               help=f"{len(different)} of {wanted.size}, seed {seed}", exit_code=FAILED)
    expected = [(k, part, step.job.tag) for step in program.steps if step.job.kind == "convolve"
                for k, part in requests_of(design, step)]
    if expected != [tuple(map(int, each)) for each in found.requests]:
        at = next(n for n, (a, b) in enumerate(zip(expected, found.requests, strict=True)) if a != tuple(b))
        raise BitkilnError("other weights asked for", where=f"request {at}", got=str(found.requests[at].tolist()),
                           expected=str(expected[at]), help=f"seed {seed}", exit_code=FAILED)
    for name, count in _counted(design, program).items():
        count += found.odd[name]
        if found.counters[name] != count:
            raise BitkilnError("RTL and cost model differ", where=name, got=found.counters[name], expected=str(count),
                               help=f"seed {seed}", exit_code=FAILED)
    _check_counts(design, program, model)
    return found


def _check_counts(design: SpConvDesign, program: Program, model: StreamModel) -> None:
    """Nodes of every level of the trees, as the core tells them after the last job."""
    for tree in range(design.trees):
        loads = [step for step in program.steps if step.job.kind == "load" and step.job.tree == tree]
        for level in range(loads[-1].depth + 1 if loads else 0):
            held = {"blocked": 0, "count_level": level, "count_tree": tree, "clear_counters": 0}
            got = model.run({}, {}, held=held, resume=True).ports["count"]
            nodes = len(np.unique(loads[-1].keys >> 3 * level))
            if got != nodes:
                raise BitkilnError("other count of nodes", where=f"tree {tree}, level {level}", got=got,
                                   expected=str(nodes), exit_code=FAILED)


def _counted(design: SpConvDesign, program: Program) -> dict[str, int]:
    """Counters that do not depend on what waits."""
    layers = [(step.job, step.layer) for step in program.steps if step.layer]
    costs = [layer_cost(design, run.map, run.inputs, run.layer.outputs,
                        np.array([bool(job.pinned >> k & 1) for k in range(27)])) for job, run in layers]
    wanted = {"VOXELS": sum(len(step.keys) for step in program.steps if step.job.kind == "load"), "DROPPED": 0,
              "DUPLICATES": 0, "PAIRS": sum(cost.items for cost in costs),
              "ISSUED": sum(cost.issued for cost in costs), "SKIPPED": sum(cost.skipped for cost in costs),
              "FETCHED": sum(cost.fetched for cost in costs)}
    if design.gather.pack == "item":
        wanted |= {"PINNED": sum(cost.hits for cost in costs), "BUFFERED": sum(cost.buffered for cost in costs)}
    return wanted
