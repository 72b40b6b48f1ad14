"""``bitkiln run``: a trained network on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..models.errors import FAILED, BitkilnError, nearest
from . import complete
from .common import EngineName, Json, Lanes, Preset, command, echo_json, progress, resolve_design, table

# Networks of each name, and samples that a core runs by default: the RTL of a core is slower than that of a dot unit.
NETWORKS = {"digits": ("mlp", "cnn"), "mlp": ("mlp",), "cnn": ("cnn",), "g2p": ("g2p",)}
CORE_SAMPLES = {"mlp": 120, "cnn": 40, "g2p": 2}
IMAGES, WORDS = 360, 500
WEIGHTS_WORDS, RTL_WORDS, WEIGHTS_SEED = 2000, 2, 1


def register(app: typer.Typer) -> None:
    command(app, run, "bitkiln run digits --pe fp4", "bitkiln run digits --pe int8xfp4 --samples 100",
            "bitkiln run g2p --pe int8", "bitkiln run g2p --weights bitmod3",
            "bitkiln run digits --engine matmul_core --layers layers.yaml")


def run(
    network: Annotated[str, typer.Argument(help="digits (mlp and cnn), mlp, cnn or g2p.",
                                           autocompletion=complete.networks)],
    pe: Annotated[str | None, typer.Option("--pe", help="Format or activation x weight of a dot unit.",
                                           show_default="fp4", autocompletion=complete.units)] = None,
    lanes: Lanes = None,
    engine: EngineName = None,
    layers: Annotated[Path | None, typer.Option(help="YAML file with a mode for each layer (matmul_core).")] = None,
    engine_config: Annotated[Path | None, typer.Option(help="Design file of the core.", show_default="a 4 x 4 core "
                                                       "with the modes of the layers")] = None,
    preset: Preset = None,
    weights: Annotated[str | None, typer.Option(help="g2p on the bit-serial engine: all weight formats, this one "
                                                     "first and through its RTL.",
                                                autocompletion=complete.weights)] = None,
    rtl_words: Annotated[int | None, typer.Option(min=0, max=200, help="Words through the RTL, with --weights.",
                                                  show_default="2")] = None,
    samples: Annotated[int | None, typer.Option(min=1, max=5000, help="Test images or words.", show_default="all "
                                                "images and 500 words; 2000 with --weights; fewer on a core")] = None,
    images: Annotated[int | None, typer.Option(min=1, max=360, help="The same for images.")] = None,
    words: Annotated[int | None, typer.Option(min=1, max=5000, help="The same for words.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all random vectors.", show_default="0; 1 with "
                                             "--weights")] = None,
    json: Json = False,
) -> None:
    """Push test data through simulated hardware layer by layer; compare with the golden model bit for bit.

    With --pe the RTL of a dot unit does every dot product (g2p: the golden model). With --engine matmul_core
    every layer runs as jobs of the simulated core in a mode of its own, taken from a file such as
    `hidden: fp4` and `scores: posit8_0`, or `default: int8` for the layers it does not name.

    With --weights the GRU of g2p runs with fp16 activations and exact sums, as the bit-serial engine computes them,
    in every weight format: bits a weight, error, word accuracy. Two words go through the RTL.
    """
    if network not in NETWORKS:
        raise BitkilnError("unknown network", where="bitkiln run", got=network, expected=", ".join(NETWORKS),
                           help=nearest(network, NETWORKS))
    chosen = list(NETWORKS[network])
    if weights is not None or rtl_words is not None:
        _check_weights(network, weights, {"--pe": pe, "--lanes": lanes, "--engine": engine, "--layers": layers,
                                          "--engine-config": engine_config, "--preset": preset, "--images": images})

    def count(name: str, core: bool) -> int:
        words_or_images = words if name == "g2p" else images
        most = (WORDS if name == "g2p" else IMAGES) if not core else CORE_SAMPLES[name]
        found = next((given for given in (words_or_images, samples) if given is not None), most)
        if name != "g2p" and found > IMAGES:
            raise BitkilnError("out of range", where="--samples", got=found, expected=f"at most {IMAGES} images")
        return found

    from ..flow import networks

    if weights is not None:
        from ..flow.serial_networks import g2p_weights

        given = next((number for number in (words, samples) if number is not None), WEIGHTS_WORDS)
        result = g2p_weights(weights, words=given, rtl_words=RTL_WORDS if rtl_words is None else rtl_words,
                             seed=WEIGHTS_SEED if seed is None else seed, progress=progress)
    elif engine is None and layers is None and engine_config is None and preset is None:
        resolved = resolve_design(None, pe=pe or "fp4", lanes=lanes)
        result = networks.g2p(resolved, words=count("g2p", False), seed=seed or 0, progress=progress) \
            if chosen == ["g2p"] else \
            networks.digits(resolved, images=count(chosen[0], False), progress=progress, chosen=chosen)
    else:
        for option, value in (("--pe", pe), ("--lanes", lanes)):
            if value is not None:
                raise BitkilnError("contradictory options", where=f"bitkiln run {option}", got=str(value),
                                   expected="none with a core: --layers says the formats")
        result = networks.on_core(chosen, layers, engine=engine, config=engine_config, preset=preset,
                                  samples={name: count(name, True) for name in chosen}, seed=seed or 0,
                                  progress=progress)
    if json:
        echo_json(result.as_dict())
    else:
        for title, columns, rows, right in result.tables:
            table(title, columns, rows, right=right)
    if not result.passed:
        raise typer.Exit(FAILED)


def _check_weights(network: str, weights: str | None, others: dict[str, object]) -> None:
    """``--weights`` says what computes: nothing else may."""
    if weights is None:
        raise BitkilnError("missing option", where="bitkiln run --rtl-words", expected="--weights, whose RTL it is",
                           help="for example --weights bitmod3")
    if network != "g2p":
        raise BitkilnError("contradictory options", where="bitkiln run --weights", got=f"with network {network}",
                           expected="g2p")
    for option, value in others.items():
        if value is not None:
            raise BitkilnError("contradictory options", where=f"bitkiln run {option}", got=str(value),
                               expected="none with --weights: it names the weights of the bit-serial engine")
