"""Operator graphs of small networks with 8-bit tensors, for a scratchpad's scheduler (`cost.schedule.schedule`).

Whole layers, no tiles: sizes are bytes of complete tensors, weights are inputs of their operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..cost.schedule.schedule_graph import Graph, Operator

__all__ = ["GRAPHS", "darts", "inception", "plain", "resnet", "transformer"]


class _Builder:
    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.sizes: dict[str, int] = {}

    def tensor(self, name: str, size: int) -> str:
        self.sizes[name] = size
        return name

    def add(self, name: str, inputs: Sequence[str], size: int, weights: int = 0) -> str:
        """An operator with one output of its name."""
        own = (self.tensor(f"{name}.weights", weights),) if weights else ()
        self.operators.append(Operator(f"run {name}", (*inputs, *own), (name,)))
        return self.tensor(name, size)

    def graph(self) -> Graph:
        return Graph.build(self.operators, self.sizes)


def plain(side: int = 32) -> Graph:
    """A chain of 3x3 convolutions as in VGG, the channels doubled where the side is halved."""
    build, channels, last = _Builder(), 3, "image"
    build.tensor(last, side * side * 3)
    for number, outputs in enumerate((16, 16, 32, 32, 64, 64, 64, 64)):
        side = side // 2 if outputs > channels > 3 else side
        last = build.add(f"conv{number}", [last], side * side * outputs, 9 * channels * outputs)
        channels = outputs
    return build.graph()


def resnet(blocks: int = 3, side: int = 32, width: int = 16) -> Graph:
    """The residual network for CIFAR (arXiv 1512.03385): 3 stages of ``blocks`` blocks; 3 of them are ResNet-20."""
    build, channels = _Builder(), width
    build.tensor("image", side * side * 3)
    last = build.add("stem", ["image"], side * side * width, 27 * width)
    for stage in range(3):
        for block in range(blocks):
            outputs = width << stage
            side = side // 2 if outputs > channels else side
            name, size = f"s{stage}b{block}", side * side * outputs
            inner = build.add(f"{name}.conv0", [last], size, 9 * channels * outputs)
            outer = build.add(f"{name}.conv1", [inner], size, 9 * outputs * outputs)
            skip = last if channels == outputs else build.add(f"{name}.skip", [last], size, channels * outputs)
            last = build.add(f"{name}.add", [outer, skip], size)
            channels = outputs
    return build.graph()


def inception(side: int = 28, channels: int = 192) -> Graph:
    """The first inception module of GoogLeNet (arXiv 1409.4842), listed depth by depth as exporters do."""
    build, area = _Builder(), side * side
    source = build.tensor("input", area * channels)
    direct = build.add("1x1", [source], area * 64, channels * 64)
    reduce3 = build.add("3x3.reduce", [source], area * 96, channels * 96)
    reduce5 = build.add("5x5.reduce", [source], area * 16, channels * 16)
    pool = build.add("pool", [source], area * channels)
    conv3 = build.add("3x3", [reduce3], area * 128, 9 * 96 * 128)
    conv5 = build.add("5x5", [reduce5], area * 32, 25 * 16 * 32)
    project = build.add("pool.project", [pool], area * 32, channels * 32)
    build.add("concatenate", [direct, conv3, conv5, project], area * 256)
    return build.graph()


def darts(cells: int = 1, side: int = 16, channels: int = 36) -> Graph:
    """Normal cells of the searched network DARTS V2 (arXiv 1806.09055): six convolutions, two skips, four sums."""
    build, size = _Builder(), side * side * channels
    sources = [build.tensor("input0", size), build.tensor("input1", size)]
    # Where the two edges of each of the four nodes begin (inputs are 0 and 1, nodes 2 to 5); a skip has no operator.
    edges = (((0, "conv"), (1, "conv")), ((0, "conv"), (1, "conv")), ((1, "conv"), (0, "skip")),
             ((0, "skip"), (2, "conv")))
    weights = 2 * (9 * channels + channels * channels)
    for cell in range(cells):
        nodes = [build.add(f"c{cell}.pre{number}", [source], size, build.sizes[source] // (side * side) * channels)
                 for number, source in enumerate(sources)]
        for node, ends in enumerate(edges):
            parts = [build.add(f"c{cell}.n{node}.e{number}", [nodes[start]], size, weights) if kind == "conv"
                     else nodes[start] for number, (start, kind) in enumerate(ends)]
            nodes.append(build.add(f"c{cell}.n{node}", parts, size))
        sources = [sources[1], build.add(f"c{cell}.concatenate", nodes[2:], 4 * size)]
    return build.graph()


def transformer(tokens: int = 64, width: int = 128, heads: int = 4) -> Graph:
    """An encoder block, head by head; the projections of all heads are listed first, as exporters do."""
    build, size, part = _Builder(), tokens * width, tokens * width // heads
    source = build.tensor("input", size)
    normed = build.add("norm0", [source], size, 2 * width)
    projected = {kind: [build.add(f"{kind}{head}", [normed], part, width * width // heads) for head in range(heads)]
                 for kind in ("query", "key", "value")}
    scores = [build.add(f"score{head}", [projected["query"][head], projected["key"][head]], tokens * tokens)
              for head in range(heads)]
    softmax = [build.add(f"softmax{head}", [score], tokens * tokens) for head, score in enumerate(scores)]
    mixed = [build.add(f"mix{head}", [softmax[head], projected["value"][head]], part) for head in range(heads)]
    joined = build.add("join", mixed, size)
    output = build.add("output", [joined], size, width * width)
    residual = build.add("add0", [output, source], size)
    hidden = build.add("norm1", [residual], size, 2 * width)
    wide = [build.add(f"up{number}", [hidden], size, width * width) for number in range(4)]
    down = build.add("down0", [wide[0]], size, width * width)
    for number in range(1, 4):
        down = build.add(f"down{number}", [wide[number], down], size, width * width)
    build.add("add1", [down, residual], size)
    return build.graph()


GRAPHS: dict[str, Callable[[], Graph]] = {
    "chain of 8 convolutions": plain, "ResNet-8 (1 block a stage)": lambda: resnet(1), "ResNet-20": resnet,
    "inception module": inception, "DARTS cell": darts, "2 DARTS cells": lambda: darts(2),
    "transformer block": transformer}
