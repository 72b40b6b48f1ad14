"""Workloads from plain data and from CSV lists of layers.

CSV is what SCALE-Sim reads: a header, then ``name, M, N, K`` for each matrix product, or ``name, input height, input
width, filter height, filter width, channels, filters, stride`` for each convolution, whose input has its padding
inside. A trailing comma is allowed, ``name*12`` stands for twelve such products.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping

from ..design.checks import check_choice
from ..errors import BitkilnError, nearest
from .shapes import CLASSES, MOST, ConvGeometry, LayerShape, Workload, conv

__all__ = ["workload_from_csv", "workload_from_dict"]

Where = str | Callable[[tuple], str]
"""Text for messages, or what turns a key path into it (such as ``file:line`` of a YAML document)."""

MOST_LAYERS = 10_000
KINDS = ("linear", "attention")     # of a layer given by m, k, n
CONV_KEYS = ("height", "width", "channels", "filters", "kernel", "stride", "padding", "dilation", "groups")


class _Reader:
    """Checked access to nested plain data."""

    def __init__(self, where: Where):
        self.where = where

    def place(self, path: tuple) -> str:
        text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        base = self.where(path) if callable(self.where) else self.where
        return f"{base} {text}".strip()

    def mapping(self, data: object, path: tuple, known: tuple[str, ...], needed: tuple[str, ...]) -> Mapping:
        if not isinstance(data, Mapping):
            raise BitkilnError("not a mapping", where=self.place(path), got=data, expected=f"keys {', '.join(known)}")
        for key in data:
            if key not in known:
                raise BitkilnError("unknown key", where=self.place((*path, key)), got=str(key),
                                   expected=", ".join(known), help=nearest(key, known))
        for key in needed:
            if key not in data:
                raise BitkilnError("missing key", where=self.place(path), got=", ".join(map(str, data)) or None,
                                   expected=key)
        return data

    def text(self, value: object, path: tuple) -> str:
        if not isinstance(value, str) or not value.strip():
            raise BitkilnError("not a text", where=self.place(path), got=value, expected="a name")
        return value

    def integer(self, value: object, path: tuple, least: int = 1) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise BitkilnError("not a size", where=self.place(path), got=value,
                               expected=f"an integer from {least} to {MOST}")
        return value

    def places(self, value: object, path: tuple, least: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """An integer for all places, or a list of as many as there are places."""
        if not isinstance(value, list | tuple):
            return (self.integer(value, path, least),) * 2
        if len(value) not in sizes:
            raise BitkilnError("wrong number of values", where=self.place(path), got=value,
                               expected=f"an integer or {' or '.join(map(str, sizes))} of them")
        return tuple(self.integer(each, (*path, at), least) for at, each in enumerate(value))

    def pair(self, value: object, path: tuple) -> tuple[int, int]:
        rows, columns = self.places(value, path, 1, (2,))
        return rows, columns

    def four(self, value: object, path: tuple) -> tuple[int, int, int, int]:
        """Padding: one for all sides, (rows, columns), or top, left, bottom, right."""
        top, left, *rest = self.places(value, path, 0, (2, 4))
        bottom, right = rest or (top, left)
        return top, left, bottom, right

    def choice(self, value: object, path: tuple, choices: tuple[str, ...]) -> str:
        check_choice(value, self.place(path), choices)
        return str(value)


def workload_from_dict(data: object, where: Where = "workload") -> Workload:
    """A workload from plain data, as a YAML or JSON file gives it.

    Parameters
    ----------
    data : mapping
        ``name``, ``layers`` (a list), and optionally ``batch`` and ``source``. A layer has ``name``, either ``m``,
        ``k``, ``n`` or ``conv`` (``height, width, channels, filters, kernel`` and optionally ``stride, padding,
        dilation, groups``; pairs are rows, columns; ``padding`` may be four: top, left, bottom, right), and
        optionally ``count``, ``layer_class`` and, beside ``m``, ``kind`` (``linear`` or ``attention``). Sizes are
        those of one input: ``batch`` multiplies them.
    where : str or callable
        Names the place in messages; a callable takes a key path such as ``("layers", 2, "m")``.

    Raises
    ------
    BitkilnError
        Unknown or missing key, or a value out of range.
    """
    reader = _Reader(where)
    known = ("name", "layers", "batch", "source")
    top = reader.mapping(data, (), known, ("name", "layers"))
    rows = top["layers"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_LAYERS:
        raise BitkilnError("not a list of layers", where=reader.place(("layers",)),
                           got=rows if not isinstance(rows, list) else len(rows), expected=f"1 to {MOST_LAYERS} layers")
    layers: list[LayerShape] = []
    seen: dict[str, int] = {}
    for place, row in enumerate(rows):
        layer = _layer(reader, row, ("layers", place))
        if layer.name in seen:
            raise BitkilnError("two layers of one name", where=reader.place(("layers", place, "name")), got=layer.name,
                               expected=f"another name than that of layers[{seen[layer.name]}]")
        seen[layer.name] = place
        layers.append(layer)
    return Workload.of(reader.text(top["name"], ("name",)), layers,
                       reader.text(top.get("source", "given by the user"), ("source",)),
                       reader.integer(top.get("batch", 1), ("batch",)))


def _layer(reader: _Reader, row: object, path: tuple) -> LayerShape:
    has_conv = isinstance(row, Mapping) and "conv" in row
    known = ("name", "conv", "count", "layer_class") if has_conv else \
        ("name", "m", "k", "n", "count", "kind", "layer_class")
    needed = ("name", "conv") if has_conv else ("name", "m", "k", "n")
    row = reader.mapping(row, path, known, needed)
    name = reader.text(row["name"], (*path, "name"))
    count = reader.integer(row.get("count", 1), (*path, "count"))
    if has_conv:
        layer_class = reader.choice(row.get("layer_class", "body"), (*path, "layer_class"), CLASSES)
        return _repeated(conv(name, _geometry(reader, row["conv"], (*path, "conv")), layer_class), count)
    kind = reader.choice(row.get("kind", "linear"), (*path, "kind"), KINDS)
    usual = "attention" if kind == "attention" else "body"
    layer_class = reader.choice(row.get("layer_class", usual), (*path, "layer_class"), CLASSES)
    m, k, n = (reader.integer(row[key], (*path, key)) for key in ("m", "k", "n"))
    return LayerShape(name, m, k, n, count, kind, layer_class)


def _geometry(reader: _Reader, data: object, path: tuple) -> ConvGeometry:
    data = reader.mapping(data, path, CONV_KEYS, CONV_KEYS[:5])
    sizes = {key: reader.integer(data.get(key, 1), (*path, key))
             for key in ("height", "width", "channels", "filters", "groups")}
    kernel, stride, dilation = (reader.pair(data.get(key, 1), (*path, key)) for key in ("kernel", "stride", "dilation"))
    padding = reader.four(data.get("padding", 0), (*path, "padding"))
    try:
        return ConvGeometry(kernel=kernel, stride=stride, dilation=dilation, padding=padding, **sizes)
    except BitkilnError as error:
        key = (error.where or "").removeprefix("conv.")
        raise BitkilnError(error.what, where=reader.place((*path, key)), got=error.got,
                           expected=error.expected) from None


def _repeated(layer: LayerShape, count: int) -> LayerShape:
    """``count`` layers of one shape as one, each with weights and inputs of its own."""
    if count == 1:
        return layer
    return LayerShape(layer.name, layer.m, layer.k, layer.n, layer.count * count, layer.kind, layer.layer_class,
                      layer.inputs * count, layer.weights * count, layer.outputs * count, layer.conv)


# CSV -----------------------------------------------------------------------------------------------


def workload_from_csv(text: str, name: str, where: str = "csv") -> Workload:
    """A workload from a CSV list of matrix products or of convolutions (see the module).

    Parameters
    ----------
    text : str
        The whole file; the first row is a header.
    name : str
        Of the workload.
    where : str
        File name for messages.

    Raises
    ------
    BitkilnError
        No layer, a header that is neither list's, or a row that is not as its header says; with the line.
    """
    # spaces after the commas are usual, and so is an empty last cell
    rows = [(line, [cell.strip() for cell in row]) for line, row in
            enumerate(csv.reader(text.splitlines(), skipinitialspace=True), start=1)]
    rows = [(line, row[:-1] if row and not row[-1] else row) for line, row in rows if any(row)]
    if len(rows) < 2:
        raise BitkilnError("no layers", where=where, got=len(rows),
                           expected="two rows or more: a header, then the layers")
    header = [cell.lower() for cell in rows[0][1]]
    products = sorted(header[1:4]) == ["k", "m", "n"]
    if not products and len(header) < 8:
        raise BitkilnError("unknown header", where=f"{where}:{rows[0][0]}", got=", ".join(rows[0][1]),
                           expected="name, M, N, K; or name, input height, input width, filter height, filter width, "
                                    "channels, filters, stride")
    read = _product_row if products else _conv_row
    layers: list[LayerShape] = []
    seen: set[str] = set()
    for line, row in rows[1:]:
        layer = read(row, header, f"{where}:{line}")
        if layer.name in seen:
            raise BitkilnError("two layers of one name", where=f"{where}:{line}", got=layer.name,
                               expected="each name once")
        seen.add(layer.name)
        layers.append(layer)
    return Workload.of(name, layers, f"CSV list of {'matrix products' if products else 'convolutions'}, {where}")


def _name_and_count(cell: str, where: str) -> tuple[str, int]:
    found = re.fullmatch(r"(.+)\*([0-9]{1,9})", cell)
    if found and not int(found[2]):
        raise BitkilnError("not a count", where=where, got=cell, expected="name*COUNT with 1 or more")
    return (found[1].strip(), int(found[2])) if found else (cell, 1)


def _integers(cells: list[str], needed: int, where: str) -> list[int]:
    if len(cells) < needed:
        raise BitkilnError("row too short", where=where, got=f"{len(cells)} numbers", expected=f"{needed}")
    for cell in cells[:needed]:
        if not re.fullmatch(r"[0-9]{1,12}", cell) or not int(cell):
            raise BitkilnError("not a size", where=where, got=cell, expected="a positive integer")
    return [int(cell) for cell in cells[:needed]]


def _check_rest(cells: list[str], where: str) -> None:
    """Columns that newer versions have: only a sparsity of 1:1, which means none, is understood."""
    for cell in cells:
        if cell not in ("", "1:1"):
            raise BitkilnError("column not understood", where=where, got=cell, expected="nothing, or sparsity 1:1")


def _product_row(row: list[str], header: list[str], where: str) -> LayerShape:
    name, count = _name_and_count(row[0], where)
    sizes = dict(zip(header[1:4], _integers(row[1:], 3, where), strict=True))
    rest = row[4:]
    if rest and re.fullmatch(r"[1-9][0-9]{0,8}", rest[0]):      # newer SCALE-Sim: products of that shape
        count, rest = count * int(rest[0]), rest[1:]
    _check_rest(rest, where)
    return LayerShape(name, sizes["m"], sizes["k"], sizes["n"], count)


def _conv_row(row: list[str], header: list[str], where: str) -> LayerShape:
    name, count = _name_and_count(row[0], where)
    height, width, rows, columns, channels, filters, stride = _integers(row[1:], 7, where)
    _check_rest(row[8:], where)
    if rows > height or columns > width:
        raise BitkilnError("kernel larger than its input", where=where, got=f"{rows} x {columns}",
                           expected=f"at most {height} x {width}")
    return _repeated(conv(name, ConvGeometry(height, width, channels, filters, (rows, columns), (stride, stride))),
                     count)
