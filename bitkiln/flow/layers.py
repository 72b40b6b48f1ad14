"""Files that give each layer of a network its mode.

::

    hidden: fp4                                # a mode of the core
    scores: {mode: posit8_0, output: fp32}     # or a mapping; output, rule and method are optional
    default: int8                              # layers that are not named
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import ConfigErrors
from ..models.design import MatmulDesign
from ..models.errors import BitkilnError, nearest
from ..models.workloads.mixed import LayerPlan, parse_layers
from ..schema import relocate
from ..yamlfile import Document, read_yaml

__all__ = ["Assignment", "layer_names", "parse_assignment", "read_layers"]

WHERE = "layers"
DEFAULT = "default"


def layer_names(network: str) -> list[str]:
    """Full names of a network's layers."""
    from ..models.workloads.digits import ARCHITECTURES
    from ..models.workloads.g2p import MATRICES

    if network == "g2p":
        return list(MATRICES)
    return [f"{network}.{spec['name']}" for spec in ARCHITECTURES[network]]


@dataclass(frozen=True)
class Assignment:
    """Modes by layer of one or more networks.

    Attributes
    ----------
    plans : dict of str to dict of str to LayerPlan
        Network to layer to entry; only networks all of whose layers have one.
    document : Document or None
        Where it was read.
    """

    plans: dict[str, dict[str, LayerPlan]]
    document: Document | None = field(default=None, compare=False)

    @property
    def modes(self) -> list[str]:
        """Every mode, in the order of first use."""
        return list(dict.fromkeys(plan.mode for plans in self.plans.values() for plan in plans.values()))

    def layers(self, network: str) -> dict[str, dict[str, str]]:
        """Entries of a network, as `models.workloads.mixed` takes them."""
        return {name: {key: value for key, value in vars(plan).items() if value is not None}
                for name, plan in self.plans[network].items()}

    def check(self, design: MatmulDesign) -> None:
        """Raise BitkilnError, at the line of the file, where the core lacks a mode or an output."""
        errors = []
        for plans in self.plans.values():
            for name, plan in plans.items():
                try:
                    design.pe.index(plan.mode, f"{WHERE}.{name}")
                except BitkilnError as error:
                    errors.append(relocate(error, self.where(name)))
                if plan.output is not None and plan.output not in design.outputs:
                    errors.append(BitkilnError("this core has no such output", where=self.where(name, "output"),
                                               got=plan.output, expected=" or ".join(design.outputs),
                                               help=nearest(plan.output, design.outputs)))
        _raise(errors)

    def where(self, layer: str, *inner: str) -> str:
        """File, line and key of a layer's entry."""
        if self.document is None:
            return ".".join((WHERE, *(key for key in (layer, *inner) if key)))
        for name in (layer, layer.rpartition(".")[2], DEFAULT):
            if name in self.document.data:
                return _place(self.document, (name, *inner))
        return self.document.where(())

    def located(self, error: BitkilnError) -> BitkilnError:
        """An error of `models.workloads.mixed` about a layer, at its line."""
        for plans in self.plans.values():
            for name in plans:
                place = f"{WHERE}.{name}"
                if (error.where or "").startswith(place):
                    inner = error.where[len(place):].strip(".")
                    return relocate(error, self.where(name, *inner.split(".") if inner else ()))
        return error


def _place(document: Document, path: tuple[str, ...]) -> str:
    return f"{document.where(path)} {'.'.join(path)}"


def _raise(errors: list[BitkilnError]) -> None:
    """All errors together, each once: a default stands for several layers."""
    each = list({error.render(): error for error in errors}.values())
    if each:
        raise ConfigErrors(each) if len(each) > 1 else each[0]


def read_layers(path: Path, networks: list[str]) -> Assignment:
    """The assignment of a file, for those of ``networks`` that it gives whole.

    Raises
    ------
    BitkilnError
        All errors of the file together; or no network has a mode for every layer.
    """
    document = read_yaml(path, "modes of layers", "for example `default: int8`")
    return parse_assignment(document.data, networks, document)


def parse_assignment(data: Mapping[str, Any], networks: list[str], document: Document | None = None) -> Assignment:
    """Entries by layer, as in a file."""
    names = {network: layer_names(network) for network in networks}
    known = [name for layers in names.values() for name in layers]
    errors = list(document.errors) if document is not None else []
    empty = Assignment({}, document)
    for key, entry in data.items():
        fitting = [layers for layers in names.values() if _full(key, layers) or key == DEFAULT]
        if not fitting:
            choices = list(dict.fromkeys(each for name in known for each in (name.rpartition(".")[2], name)))
            errors.append(BitkilnError("no such layer", where=empty.where(key), got=key, expected=", ".join(
                dict.fromkeys([*(name.rpartition(".")[2] for name in known), DEFAULT])),
                help=nearest(key, [*choices, DEFAULT])))
            continue
        try:
            parse_layers(fitting[0], {DEFAULT: "int8", key: entry}, WHERE)
        except BitkilnError as error:
            inner = (error.where or "").removeprefix(f"{WHERE}.{key}.")
            errors.append(relocate(error, empty.where(key, *[inner] if isinstance(entry, dict) and inner in entry
                                                      else [])))
    _raise(errors)
    plans, missing = {}, {}
    for network, layers in names.items():
        mine = {key: entry for key, entry in data.items() if key == DEFAULT or _full(key, layers)}
        lacking = [name for name in layers if DEFAULT not in mine and not any(
            _full(key, layers) == name for key in mine)]
        if lacking:
            missing[network] = lacking
        else:
            try:
                plans[network] = parse_layers(layers, mine, WHERE)
            except BitkilnError as error:              # two keys for one layer
                raise relocate(error, empty.where(str(error.got))) from None
    if not plans:
        raise BitkilnError("layers without a mode", where=empty.where(""), got="; ".join(
            f"{network}: {', '.join(name.rpartition('.')[2] for name in lacking)}"
            for network, lacking in missing.items()), expected="a mode for every layer", help="or `default: int8`")
    return Assignment(plans, document)


def _full(key: str, layers: list[str]) -> str | None:
    """The layer that a key names."""
    return next((name for name in layers if key in (name, name.rpartition(".")[2])), None)
