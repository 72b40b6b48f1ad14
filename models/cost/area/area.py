"""Area of a design before synthesis, by a model fitted to synthesis runs (`fit`) of sampled designs.

A technology is a file ``tech/<name>.json`` (coefficients, errors on designs that were held back, tools) with the runs
that it was fitted to beside it (``tech/<name>.csv``). Flip-flops and carry cells follow from the structure almost
exactly; what is fitted in earnest are LUTs, or the area of standard cells.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import BitkilnError, nearest
from .area_blocks import design_blocks
from .area_features import HELD
from .fit import Block, LinearModel, Prediction

__all__ = ["AreaEstimate", "Technology", "area_estimate", "for_metric", "fpga_family", "metrics_of",
           "predict", "technology", "technology_names"]

TECH = Path(__file__).parents[1] / "tech"
SCHEMA = "bitkiln.tech/2"
# Cells that each metric of an FPGA's netlist stands for in one figure: a CCU2C takes the place of two LUT4, a shift
# register (SRL16E) that of a LUT6.
FPGA_WEIGHTS = {"ecp5": {"lut": 1, "carry": 2}, "ice40": {"lut": 1}, "xilinx": {"lut": 1, "srl": 1}}
FPGA_METRICS = ("lut", "carry", "ff")
SHIFTS = "srl"      # metric of families that turn chains of registers into shift registers
ASIC_METRICS = ("logic", "registers")


def fpga_family(name: str) -> str | None:
    """The FPGA family of a technology called ``name`` (``ecp5``, ``ecp5+mine``); None for standard cells."""
    family = name.split("+")[0]
    return family if family in FPGA_WEIGHTS else None


def metrics_of(name: str) -> tuple[str, ...]:
    """What is fitted for a technology: cells of an FPGA, or areas of logic and of flip-flops [um2]."""
    family = fpga_family(name)
    return tuple(dict.fromkeys((*FPGA_METRICS, *FPGA_WEIGHTS[family]))) if family else ASIC_METRICS


@cache
def _matters(name: str, metric: str) -> bool:
    """Whether a metric can depend on a count."""
    if name.endswith(("shifts", HELD)):
        return metric == SHIFTS and name.endswith("shifts")
    register, chain = name.endswith("registers"), name.split("/")[0].endswith("chain")
    if metric in ("ff", "registers"):
        return register
    if metric == "carry":
        return not register and (chain or name.startswith("encode") or "fp32" in name or name.startswith("output"))
    if metric == "lut":
        return not register and not chain
    return not register and metric != SHIFTS


def for_metric(blocks: Sequence[Block], metric: str, metrics: Iterable[str] = ()) -> list[Block]:
    """The counts of each block that a metric can depend on.

    ``metrics``: all those of the technology; with shift registers among them, the flip-flops that they replace are
    taken off.
    """
    found = [Block({name: amount for name, amount in block.counts.items() if _matters(name, metric)}, block.kinds,
                   block.copies) for block in blocks]
    if metric == "ff" and SHIFTS in metrics:
        for block, mine in zip(blocks, found, strict=True):
            for name, amount in block.counts.items():
                if name.endswith(HELD):
                    kept = name.removesuffix(HELD) + "registers"
                    mine.counts[kept] = mine.counts[kept] - amount
    return found


@dataclass(frozen=True)
class AreaEstimate:
    """Area of one design in one technology.

    Attributes
    ----------
    value, low, high : float or None
        ``unit``; None where the design has a part that the model was never fitted to (``note`` says which).
    unit : str
        ``cells`` (LUTs, carry cells and shift registers as the LUTs whose place they take) or ``um2``.
    metrics : dict of str to float
        The numbers behind it: ``lut``, ``carry``, ``ff`` (and ``srl``, where there are shift registers) or ``logic``,
        ``registers``.
    parts : dict of str to float
        By component, ``unit``.
    known : bool
        Of kinds that were fitted and within the sampled sizes.
    source : str
    note : str
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    metrics: dict[str, float]
    parts: dict[str, float]
    known: bool
    source: str
    note: str = ""


@dataclass(frozen=True)
class Technology:
    """A fitted technology.

    Attributes
    ----------
    name, device : str
    unit : str
    weights : dict of str to float
        Metric -> what one of it adds to the area.
    models : dict of str to LinearModel
        By metric.
    errors : dict
        Relative errors on held-back designs, by part.
    provenance : dict
        Tools, command, table.
    delay : LinearModel or None
        [ps] of a path (`delay`); None where no delays were measured.
    """

    name: str
    device: str
    unit: str
    weights: Mapping[str, float]
    models: Mapping[str, LinearModel]
    errors: Mapping[str, Any]
    provenance: Mapping[str, Any]
    delay: LinearModel | None = None

    def total(self, metrics: Mapping[str, float]) -> float:
        """Area of metrics by name, in ``unit``."""
        return sum(weight * metrics[name] for name, weight in self.weights.items())

    def as_dict(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "name": self.name, "device": self.device, "unit": self.unit,
                "weights": dict(self.weights), "provenance": dict(self.provenance), "errors": dict(self.errors),
                "models": {metric: model.as_dict() for metric, model in self.models.items()},
                "delay": None if self.delay is None else self.delay.as_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Technology:
        models = {metric: LinearModel.from_dict(model) for metric, model in data["models"].items()}
        delay = data.get("delay")
        return cls(data["name"], data["device"], data["unit"], data["weights"], models, data["errors"],
                   data["provenance"], None if delay is None else LinearModel.from_dict(delay))


def technology_names() -> list[str]:
    """Fitted technologies that come with the tool."""
    return sorted(path.stem for path in TECH.glob("*.json"))


@cache
def _read(path: Path) -> Technology:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BitkilnError("cannot read technology", where=str(path), got=str(error), expected="a file of "
                           "`bitkiln calibrate`") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BitkilnError("not a technology file", where=str(path), expected=f"schema {SCHEMA}",
                           help="`bitkiln calibrate` writes them")
    try:
        return Technology.from_dict(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise BitkilnError("damaged technology file", where=str(path), got=f"{type(error).__name__}: {error}",
                           expected="a file of `bitkiln calibrate`", help="calibrate again") from None


def technology(name: str | Path, where: str = "technology") -> Technology:
    """A fitted technology by name, or from a file of `bitkiln calibrate`.

    Raises
    ------
    BitkilnError
        Unknown name, or not such a file.
    """
    if isinstance(name, Path) or str(name).endswith(".json"):
        return _read(Path(name))
    if name not in technology_names():
        raise BitkilnError("unknown technology", where=where, got=name, expected=" or ".join(technology_names()),
                           help=nearest(name, technology_names()))
    return _read(TECH / f"{name}.json")


def predict(models: Mapping[str, LinearModel], blocks: Sequence[Block]) -> tuple[dict[str, Prediction], list[str]]:
    """Metric -> prediction, and the counts that no model has."""
    found: dict[str, Prediction] = {}
    missing: list[str] = []
    for metric, model in models.items():
        mine = for_metric(blocks, metric, models)
        prediction = model.predict(mine)
        if prediction is None:
            missing += model.unknown(mine)
        else:
            found[metric] = prediction
    return found, missing


def area_estimate(design: object, tech: Technology | str) -> AreaEstimate:
    """Area of a design.

    Parameters
    ----------
    design : DotDesign, MorphableDesign, ArrayDesign or MatmulDesign
    tech : Technology or str

    Raises
    ------
    BitkilnError
        An engine without a model, or an unknown technology.
    """
    tech = tech if isinstance(tech, Technology) else technology(tech)
    source = f"model: {tech.name}, fitted to {tech.provenance.get('table', 'synthesis runs')}"
    found, missing = predict(tech.models, design_blocks(design))
    if missing:
        return AreaEstimate(None, None, None, tech.unit, {}, {}, False, source,
                            f"never fitted: {', '.join(sorted(set(missing))[:3])}")
    value = low = high = 0.0
    parts: dict[str, float] = {}
    for metric, weight in tech.weights.items():
        each = found[metric]
        value, low, high = (total + weight * add for total, add in
                            zip((value, low, high), (each.value, each.low, each.high), strict=True))
        for name, amount in each.parts.items():
            parts[name] = parts.get(name, 0.0) + weight * amount
    known = all(each.known for each in found.values())
    return AreaEstimate(value, low, high, tech.unit, {metric: each.value for metric, each in found.items()}, parts,
                        known, source, "" if known else "a kind or a size that was not fitted: wider interval")
