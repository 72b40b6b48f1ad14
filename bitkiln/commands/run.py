"""``bitkiln run``: a trained network on real data."""

from __future__ import annotations

from typing import Annotated

import typer

from ..models.errors import FAILED, BitkilnError, nearest
from .common import Json, Lanes, Seed, command, echo_json, progress, resolve_design, table

NETWORKS = ("digits", "g2p")


def register(app: typer.Typer) -> None:
    command(app, run, "bitkiln run digits --pe fp4", "bitkiln run digits --pe int8xfp4 --images 100",
            "bitkiln run g2p --pe int8")


def run(
    network: Annotated[str, typer.Argument(help="digits (MLP and CNN through the RTL) or g2p (golden model).")],
    pe: Annotated[str, typer.Option("--pe", help="Format or activation x weight.")] = "fp4",
    lanes: Lanes = None,
    images: Annotated[int, typer.Option(min=1, max=360, help="Test images.")] = 360,
    words: Annotated[int, typer.Option(min=1, max=5000, help="Test words (g2p).")] = 500,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Push test data through the RTL dot unit layer by layer; compare with the golden model bit for bit."""
    if network not in NETWORKS:
        raise BitkilnError("unknown network", where="bitkiln run", got=network, expected=" or ".join(NETWORKS),
                           help=nearest(network, NETWORKS))
    resolved = resolve_design(None, pe=pe, lanes=lanes)
    from ..flow import networks

    result = networks.digits(resolved, images=images, progress=progress) if network == "digits" \
        else networks.g2p(resolved, words=words, seed=seed, progress=progress)
    if json:
        echo_json(result.as_dict())
    else:
        table(result.title, result.columns, result.rows, right=result.right)
    if not result.passed:
        raise typer.Exit(FAILED)
