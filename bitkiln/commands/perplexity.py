"""``bitkiln perplexity``: a language model on the bit-serial engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import complete
from .common import Json, command, echo_json, progress, table


def register(app: typer.Typer) -> None:
    command(app, perplexity, "bitkiln perplexity notes.txt", "bitkiln perplexity notes.txt --weights bitmod3 --block 4",
            "bitkiln perplexity notes.txt --weights file --model network.gguf")


def perplexity(
    text: Annotated[Path, typer.Argument(help="UTF-8 text to be predicted.")],
    weights: Annotated[str, typer.Option(help="Weight formats with commas: int8, int6, int4_asym, fp4, bitmod4, "
                                              "int3_asym, fp3, bitmod3, mxfp4, nvfp4; file: the blocks of the GGUF "
                                              "file as they are.",
                                         autocompletion=complete.weights)] = "bitmod4,bitmod3",
    windows: Annotated[int, typer.Option(min=1, max=1000, help="Pieces of the text.")] = 2,
    context: Annotated[int, typer.Option(min=2, max=2048, help="Tokens of a piece.")] = 128,
    block: Annotated[int, typer.Option(min=-1, help="Block whose matrices go through the RTL; -1: none.")] = 0,
    tokens: Annotated[int, typer.Option(min=1, max=64, help="Tokens that go through the RTL.")] = 4,
    model: Annotated[Path | None, typer.Option(help="GGUF file of a Llama network with a byte-level BPE tokenizer; by "
                                                    "default SmolLM2-135M.")] = None,
    minima: Annotated[str, typer.Option(help="Of file: who multiplies by the blocks' minima, core or host.")] = "core",
    json: Json = False,
) -> None:
    """Perplexity of SmolLM2-135M on your text, its matrices run as the bit-serial engine would.

    They are quantised anew, or with `--weights file` taken as the GGUF file has them (Q4_0 to Q8_0, Q2_K to Q6_K): its
    own codes, scales and minima, on the dequantising core.

    Activations are float16, sums exact (golden model). The seven matrices of one block go through the simulated RTL
    with the activations of the text's first tokens, every result compared bit for bit. Needs `pip install
    'bitkiln[llm]'`. The file's own weights are on a 4-bit grid already: compare formats, not the model's quality.
    """
    from ..flow.serial_llm import language_model

    names = [name.strip() for name in weights.split(",") if name.strip()]
    result = language_model(text, names, windows=windows, context=context, block=None if block < 0 else block,
                            tokens=tokens, progress=progress, path=model, minima=minima)
    if json:
        echo_json(result.as_dict())
        return
    for title, columns, rows, right in result.tables:
        table(title, columns, rows, right=right)
