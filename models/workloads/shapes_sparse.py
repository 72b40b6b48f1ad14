"""Layer shapes of sparse networks: MinkUNet and SECOND, and the small networks of `spconv_nets`.

How many products a sparse convolution has depends on the cloud. Layer tables here are exact, counts of voxels and pairs
are statistics: measured on one cloud (`measure`), or scaled from it to another number of voxels. A layer is a product
with a row for each pair of its map, ``macs = pairs * inputs * outputs``; its results are the rows of the output cloud.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..design.checks import check_choice, check_integer
from ..errors import BitkilnError
from ..golden.spconv import Cloud, down2, stride3, submanifold
from .shapes import LayerShape, Workload
from .spconv_nets import NETWORKS

__all__ = ["CLOUDS", "CloudStatistics", "SparseLayer", "measure", "minkunet", "second", "sparse_network"]

OFFSETS = {"submanifold": 27, "stride3": 27, "down2": 8, "inverse2": 8, "pointwise": 1}


@dataclass(frozen=True)
class CloudStatistics:
    """Voxels and pairs of a cloud and of its halved ones.

    Attributes
    ----------
    name : str
    halving : str
        ``down2`` or ``stride3`` (dilating): how one stage follows from the other.
    voxels : tuple of int
        Of each stage, finest first.
    submanifold : tuple of int
        Pairs of a 3x3x3 submanifold convolution in each stage.
    halved : tuple of int
        Pairs of the convolution from each stage to the next one.
    source : str
        Which cloud, and how it was counted.
    """

    name: str
    halving: str
    voxels: tuple[int, ...]
    submanifold: tuple[int, ...]
    halved: tuple[int, ...]
    source: str

    def __post_init__(self):
        check_choice(self.halving, "halving", ("down2", "stride3"))
        if not len(self.voxels) == len(self.submanifold) == len(self.halved) + 1:
            raise BitkilnError("counts do not match", where=f"cloud {self.name}",
                               got=(len(self.voxels), len(self.submanifold), len(self.halved)),
                               expected="as many voxels as submanifold counts, one halved count less")
        for count in (*self.voxels, *self.submanifold, *self.halved):
            check_integer(count, f"cloud {self.name}", 1, 1 << 40)

    def scaled(self, voxels: int) -> CloudStatistics:
        """The same density of neighbours with another number of finest voxels: a guess, and labelled as one."""
        check_integer(voxels, "voxels", 1, 1 << 32)

        def scale(counts: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(round(count * voxels / self.voxels[0]), 1) for count in counts)

        return CloudStatistics(f"{self.name} scaled", self.halving, scale(self.voxels), scale(self.submanifold),
                               scale(self.halved), f"scaled to {voxels} voxels from: {self.source}")


# Counted by `measure`; tests/models/workloads/test_shapes_sparse.py counts them again.
CLOUDS = {cloud.name: cloud for cloud in (
    CloudStatistics("lidar-5cm", "down2", (86945, 57331, 33396, 16878, 7456),
                    (348659, 278485, 200152, 122140, 57352),
                    (86945, 57331, 33396, 16878),
                    "models/workloads/scenes.py lidar_scene(0), 5 cm voxels"),
    CloudStatistics("lidar-front", "stride3", (37970, 56844, 34505, 15358),
                    (155340, 630570, 474195, 220482),
                    (131225, 190999, 112760),
                    "models/workloads/scenes.py lidar_scene(0), KITTI's range ahead, 5 x 5 x 10 cm voxels"),
)}


def measure(name: str, cloud: Cloud, stages: int, halving: str, source: str) -> CloudStatistics:
    """Count the voxels and pairs of a cloud in ``stages`` stages.

    Parameters
    ----------
    name, source : str
    cloud : Cloud
    stages : int
        One or more, at most the cloud's depth.
    halving : str
        ``down2`` or ``stride3``.
    """
    check_integer(stages, "stages", 1, cloud.depth)
    check_choice(halving, "halving", ("down2", "stride3"))
    keys, depth, shape = cloud.keys, cloud.depth, cloud.spatial_shape
    voxels, same, halved = [], [], []
    for stage in range(stages):
        voxels.append(len(keys))
        same.append(submanifold(keys, depth).pairs)
        if stage == stages - 1:
            break
        down = down2(keys, depth, shape) if halving == "down2" else stride3(keys, depth, "dilate", shape)
        halved.append(down.pairs)
        keys, depth = down.out_keys, depth - 1
        shape = (max((shape[0] + 1) // 2, 1), max((shape[1] + 1) // 2, 1), max((shape[2] + 1) // 2, 1))
    return CloudStatistics(name, halving, tuple(voxels), tuple(same), tuple(halved), source)


@dataclass(frozen=True)
class SparseLayer:
    """One convolution of a layer table; ``stage`` is the finer of its two stages.

    ``op`` is ``submanifold``, ``down2``, ``stride3``, ``inverse2`` or ``pointwise`` (1x1x1).
    """

    name: str
    op: str
    inputs: int
    outputs: int
    stage: int


def _shape(layer: SparseLayer, cloud: CloudStatistics, layer_class: str) -> LayerShape:
    stage, down = layer.stage, layer.op in ("down2", "stride3")
    if down and layer.op != cloud.halving:
        raise BitkilnError("cloud halved in another way", where=f"layer {layer.name}", got=cloud.halving,
                           expected=layer.op)
    needed = stage + 1 + (down or layer.op == "inverse2")
    if needed > len(cloud.voxels):
        raise BitkilnError("too few stages", where=f"cloud {cloud.name}", got=len(cloud.voxels),
                           expected=f"{needed} or more, for layer {layer.name}")
    fine, coarse = cloud.voxels[stage], cloud.voxels[min(stage + 1, len(cloud.voxels) - 1)]
    rows_in, rows_out, pairs = {
        "submanifold": (fine, fine, cloud.submanifold[stage]),
        "pointwise": (fine, fine, fine),
        "inverse2": (coarse, fine, fine),
    }.get(layer.op) or (fine, coarse, cloud.halved[stage])
    return LayerShape(layer.name, pairs, layer.inputs, layer.outputs, kind="sparse_conv", layer_class=layer_class,
                      inputs=rows_in * layer.inputs, outputs=rows_out * layer.outputs,
                      weights=OFFSETS[layer.op] * layer.inputs * layer.outputs)


def _workload(name: str, table: Iterable[SparseLayer], cloud: str | CloudStatistics | None, default: str,
              voxels: int | None, source: str, batch: int) -> Workload:
    if not isinstance(cloud, CloudStatistics):
        check_choice(cloud or default, "cloud", tuple(CLOUDS))
        cloud = CLOUDS[cloud or default]
    if voxels is not None:
        cloud = cloud.scaled(voxels)
    rows = list(table)
    layers = [_shape(layer, cloud, "first" if place == 0 else "last" if place == len(rows) - 1 else "body")
              for place, layer in enumerate(rows)]
    return Workload.of(name, layers, f"{source}; voxels and pairs are statistical: {cloud.source}", batch)


def minkunet(*, width: float = 1.0, classes: int = 19, cloud: str | CloudStatistics | None = None,
             voxels: int | None = None, batch: int = 1) -> Workload:
    """MinkUNet as trained on SemanticKITTI: 49 convolutions in five stages, and a classifier.

    Layer table of MIT HAN Lab's MinkUNet (mit-han-lab/spvnas, facts; arXiv 2007.16100), after arXiv 1904.08755. Each
    stage has two residual blocks; a 1x1x1 convolution fits the shortcut where channels change.

    Parameters
    ----------
    width : float
        Multiplier of the channels, 0.1 to 4: published are 0.5, 0.64 and 1.
    classes : int
    cloud : str or CloudStatistics, optional
        By default ``lidar-5cm``.
    voxels : int, optional
        Scale the cloud to that many voxels.
    batch : int
        Clouds.
    """
    if isinstance(width, bool) or not isinstance(width, int | float) or not 0.1 <= width <= 4:
        raise BitkilnError("out of range", where="width", got=width, expected="0.1 to 4")
    sizes = [int(width * size) for size in (32, 32, 64, 128, 256, 256, 128, 96, 96)]
    layers = [SparseLayer("stem0", "submanifold", 4, sizes[0], 0),
              SparseLayer("stem1", "submanifold", sizes[0], sizes[0], 0)]

    def blocks(name: str, inputs: int, outputs: int, stage: int) -> list[SparseLayer]:
        table = []
        for block, width_in in enumerate((inputs, outputs)):
            table += [SparseLayer(f"{name}.{block}.conv1", "submanifold", width_in, outputs, stage),
                      SparseLayer(f"{name}.{block}.conv2", "submanifold", outputs, outputs, stage)]
            if width_in != outputs:
                table.append(SparseLayer(f"{name}.{block}.shortcut", "pointwise", width_in, outputs, stage))
        return table

    for stage in range(1, 5):
        before, now = sizes[stage - 1], sizes[stage]
        layers += [SparseLayer(f"down{stage}", "down2", before, before, stage - 1),
                   *blocks(f"encode{stage}", before, now, stage)]
    for up in range(1, 5):
        stage, before, now = 4 - up, sizes[3 + up], sizes[4 + up]
        layers += [SparseLayer(f"up{up}", "inverse2", before, now, stage),
                   *blocks(f"decode{up}", now + sizes[stage], now, stage)]
    layers.append(SparseLayer("classifier", "pointwise", sizes[8], classes, 0))
    return _workload("minkunet", layers, cloud, "lidar-5cm", voxels,
                     f"layer table of mit-han-lab/spvnas (arXiv 2007.16100), width {width}", batch)


def second(*, cloud: str | CloudStatistics | None = None, voxels: int | None = None, batch: int = 1) -> Workload:
    """The sparse encoder of SECOND (Sensors 2018, 18, 3337) in OpenPCDet's form, without its dense 2-D half.

    Left out as well is the last sparse layer, 3x1x1 with 128 outputs, which only flattens height; all stages are
    padded alike here.

    Parameters
    ----------
    cloud, voxels, batch
        As for `minkunet`; by default ``lidar-front``.
    """
    layers = [SparseLayer("stem", "submanifold", 4, 16, 0), SparseLayer("conv0", "submanifold", 16, 16, 0)]
    channels = 16
    for stage, outputs in enumerate((32, 64, 64), start=1):
        layers += [SparseLayer(f"down{stage}", "stride3", channels, outputs, stage - 1),
                   SparseLayer(f"conv{stage}a", "submanifold", outputs, outputs, stage),
                   SparseLayer(f"conv{stage}b", "submanifold", outputs, outputs, stage)]
        channels = outputs
    return _workload("second", layers, cloud, "lidar-front", voxels,
                     "layer table of OpenPCDet's VoxelBackBone8x without its last layer", batch)


def sparse_network(name: str, *, cloud: str | CloudStatistics | None = None, voxels: int | None = None,
                   batch: int = 1) -> Workload:
    """A network of `models.workloads.spconv_nets`, the ones that run in RTL, by name."""
    check_choice(name, "network", tuple(NETWORKS))
    net = NETWORKS[name]
    halving = next((layer.op for layer in net.layers if layer.halves), "down2")
    table = [SparseLayer(layer.name, layer.op, layer.inputs, layer.outputs, layer.stage) for layer in net.layers]
    return _workload(name, table, cloud, "lidar-5cm" if halving == "down2" else "lidar-front", voxels,
                     f"models/workloads/spconv_nets.py, {net.summary}", batch)
