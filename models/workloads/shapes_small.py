"""Layer shapes of the runnable networks: digits and g2p."""

from __future__ import annotations

from ..design.checks import check_choice, check_integer
from .digits import NETWORKS, load
from .g2p import GRAPHEMES, PHONEMES
from .shapes import ConvGeometry, LayerShape, Workload, conv, linear

__all__ = ["digits", "g2p"]

HIDDEN = 256    # of the checkpoint that models.workloads.g2p reads


def digits(network: str, *, batch: int = 1) -> Workload:
    """The digits MLP or CNN, from the shapes of the weights that are shipped.

    Parameters
    ----------
    network : str
        ``mlp`` or ``cnn``.
    batch : int
        Images.
    """
    check_choice(network, "network", NETWORKS)
    net = load().network(network)
    layers: list[LayerShape] = []
    side, channels = 8, 1
    for place, layer in enumerate(net.layers):
        where = "first" if place == 0 else "last" if place == len(net.layers) - 1 else "body"
        if layer.kernel:
            geometry = ConvGeometry(side, side, channels, layer.outputs, (layer.kernel,) * 2, (layer.stride,) * 2,
                                    (layer.padding,) * 4)
            layers.append(conv(layer.name, geometry, where))
            side, channels = geometry.out_height, layer.outputs
        else:
            layers.append(linear(layer.name, 1, layer.terms, layer.outputs, where))
    return Workload.of(f"digits-{network}", layers, "models/workloads/data/digits.npz", batch)


def g2p(*, letters: int = 8, phonemes: int = 7, batch: int = 1) -> Workload:
    """The grapheme-to-phoneme GRU on ``batch`` words of one length.

    A time step is one product of a layer; all steps share its weights. Inputs of the encoder are known beforehand, so
    that all of its steps are rows of one product.

    Parameters
    ----------
    letters, phonemes : int
        Of each word; an end symbol is added to both. The defaults are an assumption, a word of usual length.
    batch : int
    """
    check_integer(letters, "letters", 1, 1000)
    check_integer(phonemes, "phonemes", 1, 1000)
    read, spoken, gates = letters + 1, phonemes + 1, 3 * HIDDEN

    def steps(name: str, count: int, outputs: int, layer_class: str = "body") -> LayerShape:
        return LayerShape(name, 1, HIDDEN, outputs, count, layer_class=layer_class, weights=HIDDEN * outputs)

    layers = [linear("enc_w_ih", read, HIDDEN, gates, "first"), steps("enc_w_hh", read, gates),
              steps("dec_w_ih", spoken, gates), steps("dec_w_hh", spoken, gates),
              steps("fc_w", spoken, len(PHONEMES), "last")]
    return Workload.of("g2p", layers, f"g2p-en 2.1.0 checkpoint20.npz; words of {letters} letters and {phonemes} "
                       f"phonemes (assumption), alphabets of {len(GRAPHEMES)} and {len(PHONEMES)} symbols", batch)
