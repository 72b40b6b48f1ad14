"""``bitkiln quantize``: low-bit weights of a file of tensors."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..models.errors import BitkilnError, nearest
from . import complete
from .bars import bars, tick
from .common import Json, command, echo_json, table

if TYPE_CHECKING:
    import numpy as np

    from ..models.quantize.groups import GroupQuantized
    from ..models.quantize.methods import Method

WHERE = "bitkiln quantize"
COMPARED = (4, 3)   # widths of a comparison that names none


def register(app: typer.Typer) -> None:
    command(app, quantize, "bitkiln quantize weights.npy --method bitmod --bits 3 --group 128 -o q.npz",
            "bitkiln quantize weights.npy --compare --bits 4", "bitkiln quantize --list",
            "bitkiln quantize model.safetensors --tensor fc.weight --method awq --bits 4 --calibration x.npy "
            "--option base=bitmod")


def quantize(
    source: Annotated[Path | None, typer.Argument(help=".npy, .npz or .safetensors; rows are output channels.",
                                                  show_default=False)] = None,
    method: Annotated[str | None, typer.Option(help="Quantiser (--list shows all).",
                                                autocompletion=complete.methods)] = None,
    bits: Annotated[float | None, typer.Option(help="Width of a code: 1, 1.58, 1.61, 2 .. 8.")] = None,
    group: Annotated[str | None, typer.Option(help="Weights that share a scale, or `row`.",
                                              show_default="the method's own")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write codes, scales and metadata (.npz).")]
    = None,
    compare: Annotated[bool, typer.Option("--compare", help="Table of all methods of the width; without "
                                                        "--bits of 4 and of 3.")] = False,
    methods: Annotated[str | None, typer.Option(help="Table of these methods, with commas.",
                                                 autocompletion=complete.methods)] = None,
    tensor: Annotated[str | None, typer.Option(help="Only this tensor of the file.", show_default="all of two or "
                                               "more axes")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Activation rows (.npy), one column an input channel.")]
    = None,
    option: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the method; may be repeated.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the methods and their options.")] = False,
    json: Json = False,
) -> None:
    """Quantise real weights and report error and stored bits.

    NMSE is the squared error over the squared weights, output NMSE that of the layer's outputs on the calibration
    rows; bits/weight counts codes and all metadata.
    """
    if listing:
        _list(json)
        return
    if source is None:
        raise BitkilnError("missing argument", where=WHERE, expected="a file of tensors, or --list",
                           help=f"for example `{WHERE} weights.npy --method bitmod --bits 4`")
    comparing = compare or methods is not None
    if comparing == (method is not None):
        raise BitkilnError("contradictory options" if method else "missing option", where=WHERE,
                           got="--method and a comparison" if method else None,
                           expected="one of --method, --methods and --compare")
    if comparing and (output is not None or option):
        raise BitkilnError("contradictory options", where=WHERE, got="a comparison and " + (
            "-o" if output is not None else "--option"), expected="--method with it")
    if output is not None and output.suffix.lower() != ".npz":
        raise BitkilnError("unknown kind of file", where="-o", got=output.name, expected="a name that ends in .npz")
    size = _group(group)
    chosen = [_single(method, bits)] if method is not None else _compared(methods, bits, calibration is not None)
    options = dict(map(_option, option or ()))

    from ..models.quantize.tensors import read_array, read_tensors

    tensors = read_tensors(source, tensor)
    rows = None if calibration is None else read_array(calibration, "calibration")
    results, kept = [], {}
    with bars():
        for name, weights in tensors.items():
            for done, (one, width) in enumerate(chosen):
                if comparing:
                    tick(name, done, len(chosen), f"{name}: {one.name}")
                else:
                    tick("tensors", len(results), len(tensors))
                q = _run(one, width, weights, size, rows, name, options, lenient=comparing)
                results.append(_facts(name, q, weights, width, one.name, rows))
                if output is not None:
                    kept[name] = q
            tick(*(name, len(chosen), len(chosen)) if comparing else ("tensors", len(results), len(tensors)))
    if comparing:
        results.sort(key=lambda facts: (list(tensors).index(facts["tensor"]), -facts["bits"] if methods is None else 0,
                                        facts["nmse"]))
    if output is not None:
        from ..models.quantize.groupfile import save

        save(output, kept)
    if json:
        echo_json({"source": source, "options": options, "output": output, "results": results})
        return
    for title, shown in _titles(results, comparing):
        table(title, ["tensor", "shape", "method", "group", "NMSE", "SQNR dB", "output NMSE", "bits/weight",
                      "stored bits"], [_row(facts) for facts in shown], right=(3, 4, 5, 6, 7))
    if output is not None:
        typer.echo(f"wrote {output}")


def _single(name: str, bits: float | None) -> tuple[Method, float]:
    from ..models.quantize.methods import checked_width, get_method

    method = get_method(name, "--method")
    return method, checked_width(method, bits, "--bits")


def _compared(names: str | None, bits: float | None, calibrated: bool) -> list[tuple[Method, float]]:
    """The methods of a comparison."""
    from ..models.quantize.methods import METHODS, applicable, checked_width, get_method

    if names is None:
        if bits is None:
            return [(method, float(width)) for width in COMPARED for method in applicable(width, calibrated)]
        found = applicable(bits, calibrated)
        if not found:
            widths = sorted({width for method in METHODS.values() for width in method.widths})
            raise BitkilnError("width not offered", where="--bits", got=f"{bits:g}",
                               expected=", ".join(f"{width:g}" for width in widths))
        return [(method, bits) for method in found]
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise BitkilnError("no method", where="--methods", got=names, expected="names with commas",
                           help=nearest("", METHODS))
    return [(method, checked_width(method, bits, "--bits"))
            for method in (get_method(name, "--methods") for name in listed)]


def _group(text: str | None) -> int | None | str:
    """Group size of ``--group``: a number, None for ``row``, "default" where it is not given."""
    if text is None:
        return "default"
    if text.strip().lower() == "row":
        return None
    try:
        size = int(text)
    except ValueError:
        size = 0
    if size < 1:
        raise BitkilnError("not a group size", where="--group", got=text, expected="1 or more, or row")
    return size


def _option(text: str) -> tuple[str, Any]:
    """``key=value`` with numbers, truth values and none as such."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BitkilnError("not an option", where="--option", got=text, expected="KEY=VALUE")
    words = {"true": True, "false": False, "none": None}
    if value.lower() in words:
        return key, words[value.lower()]
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def _run(method: Method, bits: float, weights: np.ndarray, group: int | None | str, calibration: np.ndarray | None,
         name: str, options: dict[str, Any], lenient: bool) -> GroupQuantized:
    """One quantisation; ``lenient`` leaves out what a method of a comparison does not take."""
    from ..models.quantize import methods

    if lenient and (method.block is not None or method.rows_only):
        group = "default"
    if lenient and not method.takes_calibration:
        calibration = None
    return methods.quantize(method.name, weights, bits, group, calibration=calibration, name=name, **options)


def _facts(name: str, q: GroupQuantized, weights: np.ndarray, bits: float, asked: str,
           calibration: np.ndarray | None) -> dict[str, Any]:
    from ..models.quantize.search import checked_calibration, output_error

    outputs = None
    if calibration is not None:
        matrix = q.matrix
        outputs = output_error(weights.reshape(matrix), q.dequantise().reshape(matrix),
                               checked_calibration(calibration, matrix[1]))
    return {"tensor": name, "shape": list(q.shape), "method": q.method if "(" in q.method else asked, "bits": bits,
            "group": q.group, "nmse": q.nmse(weights), "sqnr_db": q.sqnr_db(weights), "output_nmse": outputs,
            "bits_per_weight": q.bits_per_weight, "stored_bits": q.bits, "types": q.type_shares if q.types else {}}


def _titles(results: list[dict[str, Any]], comparing: bool) -> list[tuple[str, list[dict[str, Any]]]]:
    """A table for all results, or one for each tensor of a comparison."""
    if not comparing:
        return [("quantised weights", results)]
    names = dict.fromkeys(facts["tensor"] for facts in results)
    return [(f"{name}, least error first", [facts for facts in results if facts["tensor"] == name]) for name in names]


def _row(facts: dict[str, Any]) -> list[Any]:
    shape = " x ".join(map(str, facts["shape"]))
    method = f"{facts['method']}, {facts['bits']:g} bits"
    weights = prod(facts["shape"])
    outputs = None if facts["output_nmse"] is None else f"{facts['output_nmse']:.4g}"
    parts = ", ".join(f"{part} {count / weights:.4g}" for part, count in facts["stored_bits"].items())
    return [facts["tensor"], shape, method, facts["group"], f"{facts['nmse']:.4g}", f"{facts['sqnr_db']:.2f}", outputs,
            f"{facts['bits_per_weight']:.4f}", parts]


def _list(json: bool) -> None:
    from ..models.quantize.methods import METHODS

    rows: list[dict[str, Any]] = [
        {"name": method.name, "widths": list(method.widths), "group": method.default_group,
         "calibration": "needed" if method.needs_calibration else "taken" if method.takes_calibration else None,
         "options": list(method.options), "summary": method.summary} for method in METHODS.values()]
    if json:
        echo_json(rows)
        return
    table("weight quantisers", ["name", "bits", "group", "calibration", "options", "what"],
          [[row["name"], " ".join(f"{width:g}" for width in row["widths"]), row["group"] or "row",
            row["calibration"], " ".join(row["options"]), row["summary"]] for row in rows], right=(2,))
