"""Shapes of the six language models of the BitMoD paper (arXiv 2411.11745), and their work as matrix products.

Dimensions are those of the public ``config.json`` of each model (names in `Llm.config`), parameter counts those of its
public checkpoint. Embedding look-ups, norms, rotary embeddings, softmax and biases are not counted: they are no matrix
products.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ...errors import BitkilnError, nearest

__all__ = ["LLMS", "Llm", "Product", "attention_products", "get_llm", "linear_products", "released_attention"]


@dataclass(frozen=True)
class Product:
    """A matrix product that takes place ``count`` times.

    Attributes
    ----------
    name : str
    outputs, inputs : int
        Of the stationary operand: weights, or keys and values of one head.
    tokens : int
        Rows of activations that meet it.
    count : int
    attention : bool
        The stationary operand is no weight, but comes from the KV cache.
    row : int or None
        Activations that each token costs on the DRAM bus where these are not the ``inputs`` (`released_attention`).
    """

    name: str
    outputs: int
    inputs: int
    tokens: int
    count: int = 1
    attention: bool = False
    row: int | None = None

    @property
    def macs(self) -> int:
        """Products of two numbers, all ``count`` of them."""
        return self.outputs * self.inputs * self.tokens * self.count


@dataclass(frozen=True)
class Llm:
    """One decoder-only language model.

    Attributes
    ----------
    name, config : str
        Name in the paper; repository of the configuration.
    hidden, ffn, layers, heads, kv_heads, vocabulary : int
    gated : bool
        Three FFN matrices (gate, up, down), else two.
    positions : int
        Rows of a learned position table, 0 for rotary embeddings.
    tied : bool
        The output matrix is the embedding table.
    published : int
        Parameters of the public checkpoint.
    """

    name: str
    config: str
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    published: int
    gated: bool = True
    positions: int = 0
    tied: bool = False

    def __post_init__(self):
        if self.hidden % self.heads or self.heads % self.kv_heads:
            raise BitkilnError("heads do not divide", where=self.name, got=(self.hidden, self.heads, self.kv_heads),
                               expected="hidden a multiple of heads, heads one of kv_heads")

    @property
    def head(self) -> int:
        """Width of a head."""
        return self.hidden // self.heads

    @property
    def kv_width(self) -> int:
        """Width of all keys (or values) of a token."""
        return self.head * self.kv_heads

    @cached_property
    def matrices(self) -> tuple[tuple[str, int, int, int], ...]:
        """(name, outputs, inputs, count) of every weight matrix, the output matrix included."""
        ffn = [("gate", self.ffn, self.hidden), ("up", self.ffn, self.hidden), ("down", self.hidden, self.ffn)]
        found = [("query", self.hidden, self.hidden), ("key", self.kv_width, self.hidden),
                 ("value", self.kv_width, self.hidden), ("out", self.hidden, self.hidden), *ffn[not self.gated:]]
        return (*((name, outputs, inputs, self.layers) for name, outputs, inputs in found),
                ("vocabulary", self.vocabulary, self.hidden, 1))

    @property
    def parameters(self) -> int:
        """Numbers in matrices and tables; biases and norms (below 0.1 %) are left out."""
        matrices = sum(outputs * inputs * count for _, outputs, inputs, count in self.matrices)
        tables = self.positions + (0 if self.tied else self.vocabulary)
        return matrices + tables * self.hidden


# OPT has learned positions (2,048 and two that its code leaves out), two FFN matrices and a tied output matrix.
LLMS = {model.name: model for model in (
    Llm("OPT-1.3B", "facebook/opt-1.3b", 2048, 8192, 24, 32, 32, 50272, 1_315_758_080, gated=False, positions=2050,
        tied=True),
    Llm("Phi-2B", "microsoft/phi-2", 2560, 10240, 32, 32, 32, 51200, 2_779_683_840, gated=False),
    Llm("Yi-6B", "01-ai/Yi-6B", 4096, 11008, 32, 32, 4, 64000, 6_061_035_520),
    Llm("Llama-2-7B", "meta-llama/Llama-2-7b-hf", 4096, 11008, 32, 32, 32, 32000, 6_738_415_616),
    Llm("Llama-2-13B", "meta-llama/Llama-2-13b-hf", 5120, 13824, 40, 40, 40, 32000, 13_015_864_320),
    Llm("Llama-3-8B", "meta-llama/Meta-Llama-3-8B", 4096, 14336, 32, 32, 8, 128256, 8_030_261_248),
)}


def get_llm(name: str) -> Llm:
    """A model by its name in the paper.

    Raises
    ------
    BitkilnError
        Unknown name.
    """
    if name not in LLMS:
        raise BitkilnError("unknown language model", where="model", got=name, expected=", ".join(LLMS),
                           help=nearest(name, LLMS))
    return LLMS[name]


def linear_products(model: Llm, tokens: int) -> list[Product]:
    """Products with weights; logits of every token, as the paper's simulator counts them."""
    return [Product(name, outputs, inputs, tokens, count) for name, outputs, inputs, count in model.matrices]


def attention_products(model: Llm, tokens: int, context: int) -> list[Product]:
    """Scores and weighted values, head by head: the queries that share keys and values are rows of one product.

    Parameters
    ----------
    tokens : int
        New tokens.
    context : int
        Keys and values of each head, new ones included. What the causal mask discards is computed all the same.
    """
    rows, count = tokens * (model.heads // model.kv_heads), model.layers * model.kv_heads
    return [Product("scores", context, model.head, rows, count, attention=True),
            Product("values", model.head, context, rows, count, attention=True)]


def released_attention(model: Llm, tokens: int, context: int) -> list[Product]:
    """Attention as the simulator of the paper's release counts it (abdelfattah-lab/BitMoD-HPCA-25 @6b68523; facts).

    Only with these shapes are the published cycles reproduced. They are not those of attention: scores cost ``heads``
    times their products (23 % of OPT-1.3B's FP16 prefill instead of 2 %), and of the KV cache almost nothing is read
    while tokens are generated.
    """
    rows = tokens * model.heads
    return [Product("scores", tokens, model.hidden, rows, model.layers, attention=True, row=model.kv_width),
            Product("values", rows, context, tokens, model.layers, attention=True, row=model.kv_width)]
