"""Layer shapes of the three networks on which XR-NPE (arXiv 2508.13049) is evaluated: 'like', each with its assumption.

The paper's own tables could not be read; what its repository (mukullokhande99/XR-NPE) holds are notebooks: a VIO
network, Gaze-LLE with a DINOv2 ViT-L/14 backbone, and a ResNet-18 for CIFAR-10. Facts on shapes are taken from there.
"""

from __future__ import annotations

from ..design.checks import check_integer
from .shapes import LayerShape, Workload, linear
from .shapes_transformers import encoder, patches
from .shapes_vision import resnet18, square_conv

__all__ = ["gaze_lle_like", "resnet18_cifar", "ul_vio_like"]


def _chain(prefix: str, widths: tuple[int, ...]) -> list[LayerShape]:
    return [linear(f"{prefix}{place}", 1, inputs, outputs)
            for place, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False))]


def ul_vio_like(*, image: int = 224, batch: int = 1) -> Workload:
    """The visual-inertial network of XR-NPE's mixed-precision notebook (11,516,429 parameters).

    It is not the network of the UL-VIO paper (arXiv 2409.13106: below 1 M parameters, KITTI), whose layer table is not
    known here. Image and IMU features meet in an attention of one key, whose score is one product for each head.

    Parameters
    ----------
    image : int
        Side in pixels; features are pooled to 4 x 4, so that only convolutions depend on it.
    batch : int
    """
    check_integer(image, "image", 32, 4096)
    stem, side = square_conv("visual.conv0", image, 3, 64, 7, 2, layer_class="first")
    layers, channels = [stem], 64
    side = (side - 1) // 2 + 1
    for place, filters in enumerate((128, 256, 512), start=1):
        layer, side = square_conv(f"visual.conv{place}", side, channels, filters, 3, 2)
        layers.append(layer)
        channels = filters
    layers += _chain("visual.fc", (512 * 16, 1024, 512, 256)) + _chain("inertial.fc", (6, 128, 256, 512, 256))
    layers += [linear(f"fusion.{part}", 1, 256, 256) for part in ("query", "key", "value")]
    layers += [LayerShape("fusion.scores", 1, 32, 1, 8, "attention", "attention"),
               LayerShape("fusion.values", 1, 1, 32, 8, "attention", "attention"),
               linear("fusion.out", 1, 256, 256)]
    layers += _chain("pose.fc", (256, 512, 256, 128)) + [linear("pose.out", 1, 128, 6, "last")]
    layers += _chain("depth.fc", (256, 128, 1)) + _chain("uncertainty.fc", (256, 64, 6))
    return Workload.of("ul-vio-like", layers, "XR-NPE repository, UL-VIO/Mixed_Precision notebook: layer table of its "
                       "model; assumption: the paper's VIO figures are of this model", batch)


def gaze_lle_like(*, image: int = 224, batch: int = 1) -> Workload:
    """Gaze-LLE (arXiv 2412.09586) with a ViT-L/14 backbone, one person in the image.

    Parameters
    ----------
    image : int
        Side in pixels, a multiple of 14: 224 is what XR-NPE's scripts feed, 448 is Gaze-LLE's own.
    batch : int
    """
    check_integer(image, "image", 14, 4480)
    embed = patches("patches", image, 14, 1024)
    places = embed.m
    layers = [embed, *encoder(24, places + 1, 1024, 16, 4096), linear("project", places, 1024, 256),
              *encoder(3, places, 256, 8, 1024, "gaze")]
    # Kernel and stride of the transposed convolution are 2: a product for each of the four places, no overlap.
    layers.append(LayerShape("heatmap.up", places, 256, 4 * 256, kind="conv"))
    layers.append(linear("heatmap.out", 4 * places, 256, 1, "last"))
    return Workload.of("gaze-lle-like", layers, f"XR-NPE repository, Gaze-LLE scripts (ViT-L/14 at {image} pixels); "
                       "layers of Gaze-LLE's published code; assumption: no in/out token", batch)


def resnet18_cifar(*, image: int = 32, classes: int = 10, batch: int = 1) -> Workload:
    """ResNet-18 as XR-NPE's repository trains it on CIFAR-10."""
    return resnet18(image=image, classes=classes, stem="cifar", batch=batch)
