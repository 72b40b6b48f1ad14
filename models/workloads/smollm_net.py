"""A Llama-style decoder in NumPy, all of it float32: RMSNorm, RoPE, grouped-query attention, SwiGLU.

GGUF files of this architecture have the rows of the query and key matrices permuted so that the two numbers which RoPE
rotates stand side by side (2i, 2i + 1) in each head; here they are used as they are.

Sources: LLaMA (arXiv 2302.13971), RoPE (arXiv 2104.09864), grouped-query attention (arXiv 2305.13245), and the GGUF
specification for names and the permutation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import BitkilnError
from .gguf import GgufFile

__all__ = ["Llama", "LlamaConfig", "Product", "array_shapes", "logits"]

Product = Callable[[str, np.ndarray], np.ndarray]
"""``(name of the matrix, rows of activations) -> rows @ matrix.T``."""


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of the network.

    Parameters
    ----------
    blocks, width, hidden, vocabulary : int
        ``hidden``: of the feed-forward part.
    heads, kv_heads : int
        Query heads, and key/value heads that ``heads / kv_heads`` of them share.
    rope_base : float
    epsilon : float
        Of RMSNorm.
    context : int
        Tokens that the network was trained on at once.
    """

    blocks: int
    width: int
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    rope_base: float
    epsilon: float
    context: int

    def __post_init__(self):
        sizes = {name: getattr(self, name) for name in ("blocks", "width", "hidden", "vocabulary", "heads", "kv_heads",
                                                         "context")}
        for name, size in sizes.items():
            if size < 1:
                raise BitkilnError("out of range", where=f"llama {name}", got=size, expected="1 or more")
        if self.width % (2 * self.heads) or self.heads % self.kv_heads:
            raise BitkilnError("heads do not fit", where="llama heads",
                               got=f"width {self.width}, {self.heads} heads, {self.kv_heads} key/value heads",
                               expected="a width of heads of even size, and key/value heads that divide the heads")
        if not (self.rope_base > 0 and self.epsilon >= 0):
            raise BitkilnError("out of range", where="llama rope_base, epsilon",
                               got=f"{self.rope_base}, {self.epsilon}", expected="positive numbers")

    @property
    def head_size(self) -> int:
        return self.width // self.heads

    @classmethod
    def of(cls, file: GgufFile) -> LlamaConfig:
        """The hyper-parameters in the metadata of a file.

        Raises
        ------
        BitkilnError
            Another architecture, a variant that is not computed here, or missing numbers.
        """
        kind = file.value("general.architecture", str)
        if kind != "llama":
            raise BitkilnError("unknown architecture", where=f"{file.path} general.architecture", got=kind,
                               expected="llama")
        sizes = [file.value(f"llama.{key}", int) for key in (
            "block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length")]
        blocks, width, hidden, heads, context = sizes
        embedding = file.info("token_embd.weight")
        config = cls(blocks, width, hidden, embedding.shape[0], heads,
                     file.value("llama.attention.head_count_kv", int, heads),
                     file.value("llama.rope.freq_base", float, 10000.0),
                     file.value("llama.attention.layer_norm_rms_epsilon", float), context)
        for key, usual in (("rope.dimension_count", config.head_size), ("attention.key_length", config.head_size),
                           ("attention.value_length", config.head_size), ("expert_count", 0),
                           ("rope.scaling.type", "none")):
            found = file.metadata.get(f"llama.{key}", usual)
            if found != usual:
                raise BitkilnError("variant is not computed here", where=f"{file.path} llama.{key}", got=str(found),
                                   expected=str(usual))
        if "rope_freqs.weight" in file.tensors:
            raise BitkilnError("variant is not computed here", where=str(file.path), got="rope_freqs.weight",
                               expected="plain RoPE frequencies")
        return config


def array_shapes(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every array of the network (``output.weight``, if a file has it, is besides)."""
    width, hidden, keys = config.width, config.hidden, config.kv_heads * config.head_size
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (config.vocabulary, width)}
    for block in range(config.blocks):
        for name, shape in (("attn_norm", (width,)), ("attn_q", (width, width)), ("attn_k", (keys, width)),
                            ("attn_v", (keys, width)), ("attn_output", (width, width)), ("ffn_norm", (width,)),
                            ("ffn_gate", (hidden, width)), ("ffn_up", (hidden, width)), ("ffn_down", (width, hidden))):
            shapes[f"blk.{block}.{name}.weight"] = shape
    return shapes | {"output_norm.weight": (width,)}


@dataclass(frozen=True, eq=False)
class Llama:
    """Parameters of a network, float32.

    Attributes
    ----------
    config : LlamaConfig
    arrays : mapping of str to ndarray
        By the names that GGUF files have. Without ``output.weight`` the embedding gives the scores too.
    """

    config: LlamaConfig
    arrays: Mapping[str, np.ndarray] = field(repr=False)

    def __post_init__(self):
        shapes = array_shapes(self.config)
        if "output.weight" in self.arrays:
            shapes["output.weight"] = shapes["token_embd.weight"]
        for name, shape in shapes.items():
            found = self.arrays[name].shape if name in self.arrays else "nothing"
            if found != shape:
                raise BitkilnError("shape mismatch", where=f"llama {name}", got=str(found), expected=str(shape))

    @property
    def output(self) -> str:
        """Name of the matrix that gives the scores."""
        return "output.weight" if "output.weight" in self.arrays else "token_embd.weight"

    @property
    def matrices(self) -> tuple[str, ...]:
        """Names of all matrices that products are formed with, in the order of use."""
        shapes = array_shapes(self.config)
        inner = (name for name, shape in shapes.items() if len(shape) == 2 and name.startswith("blk."))
        return (*inner, self.output)


def _norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(epsilon)) * weight


def _rotation(config: LlamaConfig, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine (length, 1, head_size / 2) of RoPE."""
    exponents = np.arange(0, config.head_size, 2) / config.head_size
    angles = np.arange(length)[:, None, None] * config.rope_base ** -exponents
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    even, odd = x[..., ::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., ::2] = even * cosine - odd * sine
    out[..., 1::2] = even * sine + odd * cosine
    return out


def _attention(config: LlamaConfig, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Mixed values (..., length, width) of queries, keys and values (..., length, heads, head_size)."""
    length, shared = q.shape[-3], config.heads // config.kv_heads
    q = q.reshape(*q.shape[:-2], config.kv_heads, shared, config.head_size)
    q = np.moveaxis(q, -4, -2) * np.float32(config.head_size ** -0.5)   # (..., kv_heads, shared, length, size)
    k, v = (np.moveaxis(x, -3, -2)[..., None, :, :] for x in (k, v))    # (..., kv_heads, 1, length, size)
    scores = q @ np.swapaxes(k, -1, -2)
    scores[..., ~np.tri(length, dtype=bool)] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = np.moveaxis(scores @ v, -2, -4)
    return mixed.reshape(*mixed.shape[:-3], config.width)


def _float_product(net: Llama) -> Product:
    return lambda name, rows: rows @ net.arrays[name].T


def logits(net: Llama, tokens: np.ndarray, product: Product | None = None) -> np.ndarray:
    """Scores of every next token.

    Parameters
    ----------
    net : Llama
    tokens : integer ndarray (..., length)
        Texts of equal length; each position sees itself and what is before it.
    product : callable, optional
        ``product(name, rows)`` takes the place of ``rows @ net.arrays[name].T``, rows being (rows, columns) float32;
        ``net.matrices`` lists the names. By default the float matrices.

    Returns
    -------
    float32 ndarray (..., length, vocabulary)

    Raises
    ------
    BitkilnError
        No tokens, too many for the network, or numbers outside the vocabulary.
    """
    config, tokens = net.config, np.asarray(tokens)
    if tokens.dtype.kind not in "iu" or not tokens.size or not 1 <= tokens.shape[-1] <= config.context:
        raise BitkilnError("wrong tokens", where="tokens", got=f"{tokens.dtype} {tokens.shape}",
                           expected=f"integers (..., 1 to {config.context})")
    if tokens.min() < 0 or tokens.max() >= config.vocabulary:
        raise BitkilnError("out of range", where="tokens", got=f"{tokens.min()} to {tokens.max()}",
                           expected=f"0 to {config.vocabulary - 1}")
    product = product or _float_product(net)
    lead, length = tokens.shape[:-1], tokens.shape[-1]
    cosine, sine = _rotation(config, length)

    def times(name: str, x: np.ndarray, heads: int | None = None) -> np.ndarray:
        out = np.asarray(product(name, x.reshape(-1, x.shape[-1])), np.float32)
        return out.reshape(*lead, length, *(() if heads is None else (heads,)), -1)

    x = net.arrays["token_embd.weight"][tokens]
    for block in range(config.blocks):
        at = f"blk.{block}."
        seen = _norm(x, net.arrays[f"{at}attn_norm.weight"], config.epsilon)
        q = _rotate(times(f"{at}attn_q.weight", seen, config.heads), cosine, sine)
        k = _rotate(times(f"{at}attn_k.weight", seen, config.kv_heads), cosine, sine)
        v = times(f"{at}attn_v.weight", seen, config.kv_heads)
        x = x + times(f"{at}attn_output.weight", _attention(config, q, k, v))
        seen = _norm(x, net.arrays[f"{at}ffn_norm.weight"], config.epsilon)
        gate = times(f"{at}ffn_gate.weight", seen)
        with np.errstate(over="ignore"):  # exp of a large number: the gate is then closed
            gate = gate / (1 + np.exp(-gate))
        x = x + times(f"{at}ffn_down.weight", gate * times(f"{at}ffn_up.weight", seen))
    return times(net.output, _norm(x, net.arrays["output_norm.weight"], config.epsilon))
