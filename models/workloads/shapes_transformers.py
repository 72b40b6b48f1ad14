"""Layer shapes of transformers: BERT-base, ViT-B/16 and the BitMoD paper's language models."""

from __future__ import annotations

from ..cost.llm.llm_shapes import LLMS, Product, attention_products, linear_products
from ..design.checks import check_choice, check_integer
from ..errors import BitkilnError, nearest
from .shapes import ConvGeometry, LayerShape, Workload, attention, conv, linear

__all__ = ["bert_base", "encoder", "language_model", "vit_b"]

MOST_TOKENS = 1 << 20


def encoder(blocks: int, tokens: int, width: int, heads: int, ffn: int, prefix: str = "block") -> list[LayerShape]:
    """Blocks of self-attention and a two-layer FFN, without masks."""
    layers: list[LayerShape] = []
    for block in range(blocks):
        name = f"{prefix}{block}"
        layers += [linear(f"{name}.{part}", tokens, width, width) for part in ("query", "key", "value")]
        layers += attention(name, tokens, tokens, width // heads, heads)
        layers += [linear(f"{name}.out", tokens, width, width), linear(f"{name}.up", tokens, width, ffn),
                   linear(f"{name}.down", tokens, ffn, width)]
    return layers


def bert_base(*, tokens: int = 128, batch: int = 1) -> Workload:
    """Encoder and pooler of BERT-base (arXiv 1810.04805): 12 blocks, width 768, 12 heads.

    Parameters
    ----------
    tokens : int
        Sequence length; padding is computed like text.
    batch : int
    """
    check_integer(tokens, "tokens", 1, MOST_TOKENS)
    layers = [*encoder(12, tokens, 768, 12, 3072), linear("pooler", 1, 768, 768, "last")]
    return Workload.of("bert-base", layers, "arXiv 1810.04805, section 3; embeddings are look-ups", batch)


def patches(name: str, image: int, patch: int, width: int) -> LayerShape:
    """The patch embedding: a convolution whose stride is its kernel."""
    geometry = ConvGeometry(image, image, 3, width, (patch, patch), (patch, patch))
    return conv(name, geometry, "first")


def vit_b(*, image: int = 224, patch: int = 16, classes: int = 1000, batch: int = 1) -> Workload:
    """ViT-B (arXiv 2010.11929, table 1): 12 blocks, width 768, 12 heads, FFN 3072.

    Parameters
    ----------
    image, patch : int
        Sides in pixels; a class token is added to the patches.
    classes, batch : int
    """
    check_integer(patch, "patch", 1, 4096)
    check_integer(image, "image", patch, 4096)
    embed = patches("patches", image, patch, 768)
    layers = [embed, *encoder(12, embed.m + 1, 768, 12, 3072), linear("head", 1, 768, classes, "last")]
    return Workload.of("vit-b", layers, f"arXiv 2010.11929, table 1; {image} pixels, patches of {patch}", batch)


def language_model(name: str, phase: str, *, tokens: int | None = None, context: int | None = None,
                   logits: str = "all", batch: int = 1) -> Workload:
    """A language model that reads a prompt or writes one token after another.

    Blocks of one shape are one layer with a ``count``.

    Parameters
    ----------
    name : str
        Of `models.cost.llm.llm_shapes.LLMS`, in any case.
    phase : str
        ``prefill`` or ``decode``.
    tokens : int, optional
        New tokens: 256 in prefill as in the BitMoD paper, 1 in decode.
    context : int, optional
        Keys and values of each head, new ones included: ``tokens`` in prefill, 256 in decode.
    logits : str
        ``all`` (every token's, as the paper's simulator counts them) or ``last``.
    batch : int
        Sequences; attention of each is its own product.
    """
    check_choice(phase, "phase", ("prefill", "decode"))
    check_choice(logits, "logits", ("all", "last"))
    names = {each.lower(): each for each in LLMS}
    if name.lower() not in names:
        raise BitkilnError("unknown language model", where="model", got=name, expected=", ".join(names),
                           help=nearest(name, names))
    model = LLMS[names[name.lower()]]
    tokens = (256 if phase == "prefill" else 1) if tokens is None else tokens
    check_integer(tokens, "tokens", 1, MOST_TOKENS)
    context = max(tokens, 256 if phase == "decode" else 0) if context is None else context
    check_integer(context, "context", tokens, MOST_TOKENS)
    *body, vocabulary = linear_products(model, tokens)
    rows = 1 if logits == "last" else tokens
    layers = [*map(_layer, body), *map(_layer, attention_products(model, tokens, context)),
              linear("vocabulary", rows, vocabulary.inputs, vocabulary.outputs, "last")]
    return Workload.of(f"{name.lower()}:{phase}", layers,
                       f"{model.config} config.json (public); {tokens} new tokens, context {context}, "
                       f"logits of {logits} tokens, batch {batch}", batch)


def _layer(product: Product) -> LayerShape:
    kind = "attention" if product.attention else "linear"
    return LayerShape(product.name, product.tokens, product.inputs, product.outputs, product.count, kind,
                      "attention" if product.attention else "body")
