"""Layer shapes of convolutional networks: ResNet-18 and -50, MobileNetV2.

Layer tables are those of the papers in the form that torchvision trains: ResNet of arXiv 1512.03385, MobileNetV2 of
arXiv 1801.04381.
"""

from __future__ import annotations

from ..design.checks import check_choice, check_integer
from .shapes import ConvGeometry, LayerShape, Workload, conv, linear

__all__ = ["mobilenetv2", "resnet18", "resnet50", "square_conv"]

MOST_SIDE = 4096


def square_conv(name: str, side: int, channels: int, filters: int, kernel: int, stride: int = 1, groups: int = 1,
                layer_class: str = "body") -> tuple[LayerShape, int]:
    """A convolution of a square image, padded by half of its kernel: the layer and the side of its output."""
    pad = kernel // 2
    geometry = ConvGeometry(side, side, channels, filters, (kernel, kernel), (stride, stride), (pad,) * 4,
                            groups=groups)
    return conv(name, geometry, layer_class), geometry.out_height


def _halved(side: int) -> int:
    """Output of a 3x3 pooling with stride 2, padding 1."""
    return (side - 1) // 2 + 1


def _stem(image: int, stem: str) -> tuple[list[LayerShape], int]:
    if stem == "imagenet":
        layer, side = square_conv("conv1", image, 3, 64, 7, 2, layer_class="first")
        return [layer], _halved(side)
    layer, side = square_conv("conv1", image, 3, 64, 3, 1, layer_class="first")
    return [layer], side


def resnet18(*, image: int = 224, classes: int = 1000, stem: str = "imagenet", batch: int = 1) -> Workload:
    """ResNet-18.

    Parameters
    ----------
    image : int
        Side in pixels.
    classes : int
    stem : str
        ``imagenet`` (7x7 stride 2, then pooling) or ``cifar`` (3x3 stride 1, no pooling).
    batch : int
    """
    check_integer(image, "image", 8, MOST_SIDE)
    check_choice(stem, "stem", ("imagenet", "cifar"))
    layers, side = _stem(image, stem)
    channels = 64
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}"
            first, now = square_conv(f"{name}.conv1", side, channels, filters, 3, stride)
            layers += [first, square_conv(f"{name}.conv2", now, filters, filters, 3)[0]]
            if stride == 2:
                layers.append(square_conv(f"{name}.downsample", side, channels, filters, 1, stride)[0])
            channels, side = filters, now
    layers.append(linear("fc", 1, channels, classes, "last"))
    return Workload.of("resnet18" if stem == "imagenet" else "resnet18-cifar", layers,
                       "arXiv 1512.03385, table 1; stem of torchvision" if stem == "imagenet" else
                       "arXiv 1512.03385, blocks of table 1; 3x3 stem without pooling, as XR-NPE's repository "
                       "trains on CIFAR-10", batch)


def resnet50(*, image: int = 224, classes: int = 1000, variant: str = "v1.5", batch: int = 1) -> Workload:
    """ResNet-50.

    Parameters
    ----------
    image, classes, batch : int
        As for `resnet18`.
    variant : str
        Where a block halves: ``v1`` in its first 1x1 (the paper), ``v1.5`` in its 3x3 (torchvision).
    """
    check_integer(image, "image", 8, MOST_SIDE)
    check_choice(variant, "variant", ("v1", "v1.5"))
    layers, side = _stem(image, "imagenet")
    channels = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            early, late = (stride, 1) if variant == "v1" else (1, stride)
            name = f"layer{stage}.{block}"
            reduce, middle = square_conv(f"{name}.conv1", side, channels, width, 1, early)
            spatial, now = square_conv(f"{name}.conv2", middle, width, width, 3, late)
            layers += [reduce, spatial, square_conv(f"{name}.conv3", now, width, 4 * width, 1)[0]]
            if block == 0:
                layers.append(square_conv(f"{name}.downsample", side, channels, 4 * width, 1, stride)[0])
            channels, side = 4 * width, now
    layers.append(linear("fc", 1, channels, classes, "last"))
    return Workload.of("resnet50", layers, f"arXiv 1512.03385, table 1; {variant}", batch)


# Expansion, channels, repeats, stride of the first: table 2 of the paper.
BOTTLENECKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
               (6, 320, 1, 1))


def mobilenetv2(*, image: int = 224, classes: int = 1000, batch: int = 1) -> Workload:
    """MobileNetV2 of width 1.0.

    Parameters
    ----------
    image, classes, batch : int
        As for `resnet18`.
    """
    check_integer(image, "image", 8, MOST_SIDE)
    stem, side = square_conv("conv1", image, 3, 32, 3, 2, layer_class="first")
    layers, channels, number = [stem], 32, 0
    for expansion, filters, repeats, first in BOTTLENECKS:
        for block in range(repeats):
            number += 1
            name, wide, stride = f"block{number}", channels * expansion, first if block == 0 else 1
            if expansion > 1:
                layers.append(square_conv(f"{name}.expand", side, channels, wide, 1)[0])
            depthwise, side = square_conv(f"{name}.depthwise", side, wide, wide, 3, stride, groups=wide)
            layers += [depthwise, square_conv(f"{name}.project", side, wide, filters, 1)[0]]
            channels = filters
    layers += [square_conv("conv2", side, channels, 1280, 1)[0], linear("fc", 1, 1280, classes, "last")]
    return Workload.of("mobilenetv2", layers, "arXiv 1801.04381, table 2", batch)
