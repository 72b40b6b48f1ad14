"""Claims about number formats: cost of FP8, fronts, splits of bits, crossovers, intensities."""

from __future__ import annotations

import json

import numpy as np

from ..models.cost.area.area import area_estimate, technology
from ..models.cost.cycles.roofline import decode_intensity
from ..models.cost.papers import PUBLISHED
from ..models.cost.quantity import Quantity
from ..models.design import DotDesign
from ..models.errors import BitkilnError
from ..models.formats import get_format
from ..models.quantize.rtn import rtn
from ..store import content_key, store
from .reproduce import Comparison, Options, comparison
from .reproduce_measure import ecp5_cells
from .sources import sources_digest

__all__ = ["best_splits", "crossover", "decode_intensities", "fp8_overhead", "minifloat", "minifloat_front", "splits"]

FP8 = {"E4M3": "fp8_e4m3", "E5M2": "fp8_e5m2", "E3M4": "fp8_e3m4", "E2M5": "e2m5"}
WIDTHS = range(3, 9)
SEED, VALUES = 0, 100_000
BLOCKS = (16, 32, 64, 128, 256)
G2P_WORDS = 200
RULE = "one lane, exact sum of 1,024 products, no pipeline"


def minifloat(exponent: int, mantissa: int) -> str:
    """Name of the format with so many bits; the OCP one where there are several."""
    name = f"e{exponent}m{mantissa}"
    try:
        return get_format(name).name
    except BitkilnError:
        return get_format(f"fp8_{name}").name


def splits(width: int) -> dict[str, str]:
    """``E2M1`` -> format name, for every split of a width with a sign and an exponent bit or more."""
    return {f"E{exponent}M{width - 1 - exponent}": minifloat(exponent, width - 1 - exponent)
            for exponent in range(1, width)}


def _unit(name: str) -> DotDesign:
    return DotDesign.from_pe(name, lanes=1)


# FP8 against INT8 ------------------------------------------------------------------------------------


def fp8_overhead(options: Options) -> list[Comparison]:
    """Area of FP8 units above that of an INT8 unit, all with exact sums."""
    claim, rows = PUBLISHED["fp8_overhead"], []
    for tech in options.technologies:
        base = area_estimate(_unit("int8"), tech)
        for label, name in FP8.items():
            found = area_estimate(_unit(name), tech)
            what = f"{label} above INT8, {tech} (model)"
            if found.value is None or base.value is None:
                rows.append(comparison(claim, Quantity(None, "%", "model", found.note or base.note), what))
                continue
            assert found.low is not None and found.high is not None and base.low is not None and base.high is not None
            rows.append(comparison(claim, Quantity(
                100 * (found.value / base.value - 1), "%", "model",
                f"{found.source}; {found.value:,.0f} against {base.value:,.0f} {found.unit}",
                100 * (found.low / base.high - 1), 100 * (found.high / base.low - 1)), what, RULE))
    if options.measure:
        rows += _measured_overhead(options)
    return rows


def _measured_overhead(options: Options) -> list[Comparison]:
    claim, rows = PUBLISHED["fp8_overhead"], []
    base = ecp5_cells(_unit("int8"), options.progress)
    for label, name in FP8.items():
        found = ecp5_cells(_unit(name), options.progress)
        rows.append(comparison(claim, Quantity(
            100 * (found / base - 1), "%", "measured", f"Yosys synth_ecp5: {found:,.0f} against {base:,.0f} LUT4 + 2 "
            "CCU2C"), f"{label} above INT8, ecp5 (synthesis)", RULE))
    return rows


# Minifloats and integers -----------------------------------------------------------------------------


def _accuracies(network: str, name: str, words: int) -> tuple[float, float, float] | None:
    """Value and interval, from the store where it was computed before; None where it may not be computed."""
    from .sweep import accuracy_task

    given = {"network": network, "formats": json.dumps(_unit(name).pe_name), "words": words or G2P_WORDS}
    inputs = {**given, "sources": sources_digest("models")}      # as a sweep keeps them
    keep = store()
    if network == "g2p" and not words:
        found = keep.get(content_key("accuracy", inputs))
    else:
        found = keep.cached("accuracy", inputs, lambda: accuracy_task(**given))
    return None if found is None or found["value"] is None else (found["value"], found["low"], found["high"])


def _front(points: dict[str, tuple[float, float]]) -> list[str]:
    """Names on the front of least area and most accuracy, the smallest first; of equals the first."""
    best, found = -np.inf, []
    for name, (_, accuracy) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if accuracy > best:
            best = accuracy
            found.append(name)
    return found


def minifloat_front(options: Options) -> list[Comparison]:
    """Accuracy of a network against the area of a unit: every split of 3 to 8 bits and every integer."""
    names = {f"INT{width}": f"int{width}" for width in WIDTHS}
    for width in WIDTHS:
        names |= splits(width)
    rows, claim = [], PUBLISHED["pareto"]
    for network in ("digits-cnn", "g2p"):
        scores = {}
        for label, name in names.items():
            found = _accuracies(network, name, options.words)
            if found is not None:
                scores[label] = found
        for tech in options.technologies:
            what = f"{network} accuracy against area, {tech}"
            points, unknown = {}, 0
            for label in scores:
                area = area_estimate(_unit(names[label]), tech)
                if area.value is None:
                    unknown += 1
                else:
                    points[label] = (area.value, scores[label][0])
            lacking = len(names) - len(scores)
            if lacking > len(names) // 2 or not points:
                why = "the technology's model has no area of these units" if scores and not points else \
                    f"accuracy of {lacking} of {len(names)} formats not in the store: --words {G2P_WORDS}"
                rows.append(comparison(claim, Quantity(None, "formats", "measured", why), what))
                continue
            front = _front(points)
            text = ", ".join(f"{label} ({points[label][0]:,.0f}, {points[label][1]:.1%})" for label in front)
            half = 100 * max((high - low) / 2 for _, low, high in scores.values())
            integers = sum(label.startswith("INT") for label in front)
            rows.append(comparison(claim, Quantity(
                integers, f"integers of {len(front)} formats on the front", "model",
                f"read off: {text} [{technology(tech).unit}]; area predicted, accuracy by the golden model"), what,
                f"weights and activations of all layers in one format (E1My has even steps: an integer of sign and "
                f"magnitude), {RULE}; {len(points)} formats, {unknown} "
                f"without an area, {lacking} without an accuracy; accuracy uncertain by up to {half:.1f} %"))
    return rows


# Splits of bits, blocks, crossover -------------------------------------------------------------------


def _distributions() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SEED)
    gaussian = rng.normal(size=VALUES)
    outliers = gaussian.copy()
    outliers[rng.choice(VALUES, VALUES // 1000, replace=False)] *= 50
    return {"uniform": rng.uniform(-1, 1, VALUES), "Gaussian": gaussian, "Laplace": rng.laplace(size=VALUES),
            "Student t5": rng.standard_t(5, VALUES), "Gaussian, 0.1 % x 50": outliers}


def best_splits(options: Options) -> list[Comparison]:
    """Split of least error by width and distribution, and the error by the size of blocks."""
    del options
    rows, data = [], _distributions()
    for width in WIDTHS:
        for label, values in data.items():
            errors = {split: rtn(values, name, method="mse").nmse(values) for split, name in splits(width).items()}
            best = min(errors, key=lambda split: errors[split])
            others = ", ".join(f"{split} {error:.2e}" for split, error in errors.items() if split != best)
            rows.append(comparison(PUBLISHED["split"], Quantity(
                int(best[1]), "exponent bits", "exact", f"golden quantiser: {best} NMSE {errors[best]:.2e} ({others})"),
                f"best split of {width} bits, {label}", "theirs is the loss of a trained model, ours the NMSE of "
                f"{VALUES:,} values with one scale of least error: a proxy"))
    for label in ("Gaussian", "Laplace", "Student t5"):
        values = data[label][:VALUES - VALUES % max(BLOCKS)].reshape(-1, max(BLOCKS))
        for name in ("fp4", "int4"):
            errors = [rtn(values, name, group=block, method="absmax").nmse(values) for block in BLOCKS]
            rising = all(left <= right for left, right in zip(errors, errors[1:], strict=False))
            rows.append(comparison(PUBLISHED["blocks"], Quantity(
                errors[-1] / errors[0], f"x the NMSE, blocks of {BLOCKS[-1]} against {BLOCKS[0]}", "exact",
                "golden quantiser: " + ", ".join(f"{block}: {error:.2e}" for block, error in
                                                zip(BLOCKS, errors, strict=True))),
                f"{name} by block, {label}: {'rises with the block' if rising else 'NOT monotone'}",
                "scales are exact and their own bits not counted"))
    return rows


def crossover(options: Options) -> list[Comparison]:
    """SQNR of INT8 and E4M3 by distribution, one scale by the largest magnitude."""
    del options
    rows = []
    for label, values in _distributions().items():
        decibels = {name: rtn(values, name, method="absmax").sqnr_db(values) for name in ("int8", "fp8_e4m3")}
        better = max(decibels, key=lambda name: decibels[name])
        rows.append(comparison(PUBLISHED["crossover"], Quantity(
            decibels["int8"] - decibels["fp8_e4m3"], "dB", "exact",
            f"golden quantiser: INT8 {decibels['int8']:.1f} dB, E4M3 {decibels['fp8_e4m3']:.1f} dB"),
            f"INT8 above E4M3, {label}: {better} wins",
            f"{VALUES:,} values, seed {SEED}, one scale for all by the largest magnitude"))
    return rows


def decode_intensities(options: Options) -> list[Comparison]:
    """FLOP for each byte of weights when one token is decoded."""
    del options
    claim = PUBLISHED["intensity"]
    return [comparison(claim, Quantity(decode_intensity(bits), "FLOP/byte", "exact", "models.cost.cycles.roofline"),
                       f"{bits:g} bits a weight", "weights alone: keys, values and activations are not counted")
            for bits in (16, 8, 4.0625, 3.0625)]
