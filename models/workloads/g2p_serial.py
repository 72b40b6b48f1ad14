"""The grapheme-to-phoneme GRU on the bit-serial engine, its weights in every low-bit format that is worth a row.

Activations are fp16 and every dot product is the engine's: exact, rounded once, times the channel's scale. A format
that the engine has no way for (fp32 scales, real-valued codebooks) is multiplied in float32 with its weights as they
dequantise; each score says which of the two it is. Gates, biases and the choice of phonemes are float64 in the first
case, float32 in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..design.bitserial import BitSerialDesign
from ..design.weights import weight_type
from ..errors import BitkilnError, nearest
from ..quantize.groups import GroupQuantized
from ..quantize.methods import quantize
from .bitserial import EngineMatrix, design_for, matmul, product_of
from .g2p import MATRICES, G2p, Product, load_checkpoint, predict
from .words import Word, phoneme_errors, read_words, sample_words

__all__ = ["FLOAT", "RECIPES", "Difference", "QuantisedG2p", "Recipe", "SerialScore", "compare", "engine_weights",
           "paired", "recipe", "row_names", "score_serial"]

FLOAT = "float32"
WORDS, SEED = 2000, 1

Multiply = Callable[[EngineMatrix, np.ndarray, str], np.ndarray]
"""``(matrix, activation codes, name) -> results``, as `workloads.bitserial.matmul` gives them."""


@dataclass(frozen=True)
class Recipe:
    """How the matrices become codes.

    Attributes
    ----------
    name : str
        Of the row.
    method, bits, options
        Of ``models.quantize.quantize``.
    group : int
        Weights that share a scale: 128, or the format's own.
    weight_type : str or None
        Type of the engine that stands in for the quantiser's, code by code: a codebook rounded to integers.
    """

    name: str
    method: str
    bits: float
    group: int = 128
    options: Mapping[str, Any] = field(default_factory=dict)
    weight_type: str | None = None

    def quantise(self, name: str, matrix: np.ndarray) -> GroupQuantized:
        """A matrix in this format."""
        return quantize(self.method, matrix, self.bits, self.group, name=name, **self.options)


_UINT8 = {"scale": "uint8"}
RECIPES: dict[str, Recipe] = {each.name: each for each in (
    Recipe("int8", "rtn_sym", 8, options=_UINT8),
    Recipe("int6", "rtn_sym", 6, options=_UINT8),
    Recipe("fp4", "fp", 4, options=_UINT8),
    Recipe("int4_asym", "rtn_asym", 4, options=_UINT8),
    Recipe("flint4", "flint", 4, options=_UINT8),
    Recipe("ant4", "ant", 4, options=_UINT8),
    Recipe("bitmod4", "bitmod", 4),
    Recipe("afpq4", "afpq", 4, options=_UINT8),
    Recipe("nf4", "nf", 4, 64),
    Recipe("nf4_int8", "nf", 4, options=_UINT8, weight_type="nf4_int8"),
    Recipe("mxfp4", "mxfp4", 4, 32),
    Recipe("nvfp4", "nvfp4", 4, 16),
    Recipe("int3_asym", "rtn_asym", 3, options=_UINT8),
    Recipe("fp3", "fp", 3, options=_UINT8),
    Recipe("bitmod3", "bitmod", 3),
    Recipe("afpq3", "afpq", 3, options=_UINT8),
    Recipe("ternary", "ternary", 1.58, options=_UINT8),
)}


def row_names() -> tuple[str, ...]:
    """Every row of the comparison; float32 weights first."""
    return (FLOAT, *RECIPES)


def recipe(name: str, where: str = "weights") -> Recipe | None:
    """The recipe of a row's name; None for float32.

    Raises
    ------
    BitkilnError
        No such row, with the nearest.
    """
    key = name.strip().lower()
    if key not in row_names():
        raise BitkilnError("unknown weights", where=where, got=name, expected=", ".join(row_names()),
                           help=nearest(key, row_names()))
    return RECIPES.get(key)


@dataclass(frozen=True)
class QuantisedG2p:
    """The network with its five matrices quantised.

    Parameters
    ----------
    net : G2p
    recipe : Recipe
    """

    net: G2p
    recipe: Recipe

    @cached_property
    def quantised(self) -> dict[str, GroupQuantized]:
        """What the quantiser gives, by matrix."""
        return {name: self.recipe.quantise(name, self.net.arrays[name]) for name in MATRICES}

    @cached_property
    def _for_engine(self) -> dict[str, GroupQuantized]:
        kind = self.recipe.weight_type
        return self.quantised if kind is None else {name: _stand_in(q, kind) for name, q in self.quantised.items()}

    @cached_property
    def _engine(self) -> BitSerialDesign | BitkilnError:
        try:
            each = [design_for(quantised) for quantised in self._for_engine.values()]
            # One engine for all matrices: every type of any of them.
            types = {t.name: t for design in each for t in design.weights}
            return each[0].with_options(weights=tuple(types.values()), group=max(design.group for design in each),
                                        groups=max(design.groups for design in each))
        except BitkilnError as error:
            return error

    @property
    def design(self) -> BitSerialDesign:
        """The smallest engine that runs all matrices.

        Raises
        ------
        BitkilnError
            Why there is none.
        """
        if isinstance(self._engine, BitkilnError):
            raise self._engine
        return self._engine

    @property
    def why_not(self) -> str | None:
        """Why the engine has no way for this format; None where it has."""
        return f"{self._engine.what}: {self._engine.got}" if isinstance(self._engine, BitkilnError) else None

    @property
    def on_engine(self) -> bool:
        return self.why_not is None

    def matrices(self, **options: Any) -> dict[str, EngineMatrix]:
        """The matrices as an engine takes them; ``options`` change its design."""
        design = self.design.with_options(**options)
        return {name: EngineMatrix(design, quantised) for name, quantised in self._for_engine.items()}

    @cached_property
    def weights(self) -> dict[str, np.ndarray]:
        """float64 weights that are multiplied by, without rounding."""
        if self.recipe.weight_type is not None:
            return {name: engine_weights(matrix) for name, matrix in self.matrices().items()}
        return {name: quantised.dequantise() for name, quantised in self.quantised.items()}

    @property
    def nmse(self) -> float:
        """Squared error over squared magnitude, of all matrices together."""
        exact = {name: self.net.arrays[name].astype(np.float64) for name in MATRICES}
        error = sum(float(np.sum((self.weights[name] - values) ** 2)) for name, values in exact.items())
        return error / sum(float(np.sum(values ** 2)) for values in exact.values())

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over weights, scales and all other metadata included."""
        stored = sum(sum(quantised.bits.values()) for quantised in self.quantised.values())
        return stored / sum(quantised.codes.size for quantised in self.quantised.values())

    @property
    def terms(self) -> float | None:
        """Cycles of a chunk of weights on the engine, averaged over all weights; None where it has no way."""
        if not self.on_engine:
            return None
        total = sum(float(np.array([t.terms for t in m.design.weights])[np.repeat(m.types, m.lengths, axis=1)].sum())
                    for m in self.matrices().values())
        return total / sum(quantised.codes.size for quantised in self.quantised.values())

    def product(self, multiply: Multiply | None = None, **options: Any) -> Product:
        """Products for `predict`.

        Parameters
        ----------
        multiply : callable, optional
            Computes them in place of the golden model, on the engine.
        **options
            Of the engine's design.
        """
        if not self.on_engine and multiply is None:
            floats = {name: values.astype(np.float32).T for name, values in self.weights.items()}
            return lambda name, rows: rows @ floats[name]
        matrices = self.matrices(**options)

        def product(name: str, rows: np.ndarray) -> np.ndarray:
            matrix = matrices[name]
            codes = matrix.design.activation.encode(rows).astype(np.int64)
            found = matmul(matrix, codes) if multiply is None else multiply(matrix, codes, name)
            return product_of(matrix, codes, found)

        return product


def _stand_in(quantised: GroupQuantized, kind: str) -> GroupQuantized:
    """The same codes, read as integers of ``kind``; the steps go into the channels' scales."""
    (own,), steps = quantised.types, weight_type(kind)
    exact = np.abs(quantised.levels()).max(initial=0)
    at_most = max(abs(v or 0) for v in steps.values)
    if not exact or quantised.channel_scale is None or (quantised.codes >= len(steps.values)).any():
        raise BitkilnError("no stand-in", where=f"weights {kind}", got=own, expected="a codebook with channel scales")
    scale = quantised.channel_scale.astype(np.float64) * (exact / at_most)
    return replace(quantised, types=(kind,), channel_scale=scale.astype(np.float32))


def engine_weights(matrix: EngineMatrix) -> np.ndarray:
    """float64 (N, K): what the engine multiplies by, from its own integers, scales and zero-points."""
    found = np.ldexp(matrix.factors.T, -matrix.design.activation.unit_exponent)
    return found * matrix.channel_scale[:, None].astype(np.float64)


# Scores --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SerialScore:
    """One row.

    Attributes
    ----------
    name : str
    method : str
        Quantiser and width.
    group : int or None
        Weights that share a scale.
    bits_per_weight : float
        Metadata included.
    nmse : float
        Squared error of the weights over their squared magnitude.
    terms : float or None
        Cycles of the engine for one weight a lane; None where it has no way.
    products : str
        ``engine`` (fp16 activations, its exact arithmetic) or ``float32``.
    note : str
        Why not the engine.
    right : ndarray of bool (words,)
        Whether the pronunciation is in the dictionary, stress included.
    errors, phonemes : ndarray of int (words,)
        Errors against the closest pronunciation, and its length.
    """

    name: str
    method: str
    group: int | None
    bits_per_weight: float
    nmse: float
    terms: float | None
    products: str
    note: str
    right: np.ndarray
    errors: np.ndarray
    phonemes: np.ndarray

    @property
    def words(self) -> int:
        return len(self.right)

    @property
    def word_accuracy(self) -> float:
        """Share of the words, 0..1."""
        return float(self.right.mean())

    @property
    def standard_error(self) -> float:
        """Of the word accuracy, for words drawn at random."""
        p = self.word_accuracy
        return float(np.sqrt(p * (1 - p) / self.words))

    @property
    def phoneme_error_rate(self) -> float:
        """Errors over phonemes."""
        return float(self.errors.sum() / self.phonemes.sum())

    def as_dict(self) -> dict[str, Any]:
        """For JSON; without the single words."""
        names = ("name", "method", "group", "bits_per_weight", "nmse", "terms", "products", "note", "words",
                 "word_accuracy", "standard_error", "phoneme_error_rate")
        return {name: getattr(self, name) for name in names}


class Difference(NamedTuple):
    """Of two word accuracies on the same words."""

    value: float
    standard_error: float


def paired(better: SerialScore, other: SerialScore) -> Difference:
    """Word accuracy of one row less another's; words that both get right or wrong say nothing about it."""
    if better.words != other.words:
        raise BitkilnError("not the same words", where=f"{better.name} and {other.name}", got=other.words,
                           expected=str(better.words))
    each = better.right.astype(float) - other.right
    return Difference(float(each.mean()), float(each.std() / np.sqrt(len(each))))


def _of_words(sample: Sequence[Word], spoken: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    right, errors, phonemes = [], [], []
    for word, said in zip(sample, spoken, strict=True):
        right.append(said in word.pronunciations)
        least, length = min((phoneme_errors(said, p), len(p)) for p in word.pronunciations)
        errors.append(least)
        phonemes.append(length)
    return np.array(right), np.array(errors), np.array(phonemes)


def score_serial(net: G2p, name: str, sample: Sequence[Word]) -> SerialScore:
    """One row of the comparison on these words."""
    chosen, texts = recipe(name), [word.text for word in sample]
    if chosen is None:
        return SerialScore(FLOAT, "", None, 32.0, 0.0, None, "float32", "", *_of_words(sample, predict(net, texts)))
    quantised = QuantisedG2p(net, chosen)
    # Exact products of a row do not depend on the rows beside it.
    spoken = predict(net, texts, quantised.product(), tabled=quantised.on_engine)
    return SerialScore(chosen.name, f"{chosen.method} {chosen.bits:g}", chosen.group, quantised.bits_per_weight,
                       quantised.nmse, quantised.terms, "engine" if quantised.on_engine else "float32",
                       quantised.why_not or "", *_of_words(sample, spoken))


def compare(names: Iterable[str] | None = None, words: int = WORDS, seed: int = SEED, *,
            checkpoint: str | Path | None = None, dictionary: str | Path | None = None,
            progress: Callable[[str], None] = lambda text: None) -> list[SerialScore]:
    """Rows of the comparison, all on the same words.

    Parameters
    ----------
    names : iterable of str, optional
        Of `row_names`; all by default.
    words, seed : int
        Size of the sample, and which.
    checkpoint, dictionary : path, optional
        Files to use instead of the installed packages'.
    progress : callable
        Is told each row's name.
    """
    names = tuple(row_names() if names is None else names)
    for name in names:
        recipe(name)
    net = load_checkpoint(checkpoint)
    sample = sample_words(read_words(dictionary), words, seed)
    scores = []
    for name in names:
        progress(name)
        scores.append(score_serial(net, name, sample))
    return scores
