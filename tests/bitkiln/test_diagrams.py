"""Block diagrams: what a reader sees (nothing on top of anything else) and that its numbers are the design's."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import pytest

from bitkiln.commands.common import resolve_design
from bitkiln.config import load_design, preset_names
from bitkiln.engines import engine_names
from bitkiln.hw.emit import ports_of
from bitkiln.report.diagram import draw
from bitkiln.report.diagram.lettering import shorten, text_width, wrap

# Components that only tell their ports.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

SVG = "{http://www.w3.org/2000/svg}"

# What presets and examples do not show: the smallest and the widest, options that add or remove a block.
MORE = {
    "dot_wide": {"pe": "posit16_1", "lanes": 64, "pipeline": 6, "output.format": "fp8_e5m2"},
    "dot_one": {"pe": "int4", "lanes": 1},
    "dot_fused": {"pe": "bf16xint4"},
    "dot_float_lanes": {"pe": "fp16", "lanes": 4, "accumulator.kind": "fp32", "output.format": "fp32"},
    "dot_wraps": {"pe": "fp8_e5m2", "accumulator.bits": 30},
    "dot_saturates": {"pe": "int8", "accumulator.kind": "int32", "accumulator.overflow": "saturate",
                      "accumulator.depth": 1 << 20},
    "dot_codebook": {"pe": "fp16xnf4", "accumulator.kind": "exact"},
    "pe_one_mode": {"engine": "morphable_pe", "modes": ["fp4"]},
    "pe_many_modes": {"engine": "morphable_pe", "implementation": "parallel", "modes": [
        "fp4", "posit4_1", "int4", "posit8_0", "fp8_e4m3", "fp8_e5m2", "int8", "int8xfp4", "int8xint4", "posit16_1",
        "int16"]},
    "pe_packed": {"engine": "morphable_pe", "implementation": "packed", "modes": ["fp4", "int4", "int8", "int8xfp4"]},
    "pe_float": {"engine": "morphable_pe", "modes": ["bf16", "int8"], "accumulator.kind": "fp32"},
    "pe_int32": {"engine": "morphable_pe", "modes": ["int8", "int4"], "accumulator.kind": "int32",
                 "accumulator.overflow": "saturate"},
    "array_weight": {"engine": "matmul_array", "modes": ["int8"], "array.rows": 3, "array.columns": 5,
                     "array.dataflow": "weight", "array.links": "systolic"},
    "array_largest": {"engine": "matmul_array", "modes": ["fp4", "int8"], "array.rows": 64, "array.columns": 64},
    "core_least": {"engine": "matmul_core", "modes": ["int4"], "array.rows": 1, "array.columns": 1,
                   "output.rules": ["raw"], "output.bias": False, "output.accumulate": False, "bus_bits": 32},
    "core_master": {"engine": "matmul_core", "modes": ["fp4", "int8"], "block": ["mxfp4"], "descriptors": True,
                    "output.accumulate": False},
    "serial_most": {"engine": "bitserial_array", "weights": ["bitmod3", "bitmod4", "int2", "int3", "int5", "int8",
                                                             "ternary", "flint4"], "array.rows": 8,
                    "array.columns": 8, "scale.zero_point": 4},
    "serial_floating": {"engine": "bitserial_array", "weights": ["int4"], "activation": "bf16", "scale.format": "none",
                        "accumulator.kind": "floating", "array.rows": 1, "array.columns": 1, "lanes": 1},
    "dequant_float_scales": {"engine": "dequant_core", "weights": ["fp4"], "scale.format": "ue4m3",
                             "array.rows": 1, "array.columns": 2},
    "codebook_plain": {"engine": "codebook_dequantiser"},
    "codebook_levels": {"engine": "codebook_dequantiser", "tables": 8, "scale.format": "table8", "scale.offset": True,
                        "store": "registers"},
    "codebook_array_levels": {"engine": "codebook_array", "scale.format": "table8", "scale.offset": True,
                              "array.rows": 2, "array.columns": 4},
    "codebook_array_plain": {"engine": "codebook_array", "scale.format": "none", "activation": "fp16",
                             "array.rows": 1, "array.columns": 1},
    "sparse_rows": {"engine": "sparse_side", "array.rows": 8, "activation": "int8", "value": "int16"},
    "search_deep": {"engine": "map_search", "tree.depth": 16, "tree.search": "compact"},
    "spconv_rows": {"engine": "spconv", "pack": "row", "cache.pinned": 27, "trees": 2, "array.lanes": 4,
                    "array.outputs": 8},
}
CASES = [*(f"engine:{name}" for name in engine_names()), *(f"preset:{name}" for name in preset_names()), *MORE]


def design_of(case: str):
    kind, _, name = case.partition(":")
    if kind == "engine":
        return resolve_design(None, engine=name)
    if kind == "preset":
        return load_design(preset=name)
    return load_design(cli={key: (value, "test") for key, value in MORE[case].items()})


@pytest.fixture(scope="module")
def drawings():
    """Each case's design and drawing, made once."""
    found = {}

    def of(case):
        if case not in found:
            resolved = design_of(case)
            found[case] = resolved, draw(resolved)
        return found[case]

    return of


# Geometry ------------------------------------------------------------------------------------------

def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", text)]


def box_of(element) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a text."""
    size, x, y = (float(element.get(key)) for key in ("font-size", "x", "y"))
    width = text_width(element.text, size) * (1.08 if element.get("font-weight") else 1)
    left = x - {"start": 0, "middle": width / 2, "end": width}[element.get("text-anchor")]
    return left, y - 0.72 * size, left + width, y + 0.22 * size


def meet(a, b, room: float = 0) -> bool:
    return a[0] < b[2] + room and b[0] < a[2] + room and a[1] < b[3] + room and b[1] < a[3] + room


def blocks_of(root) -> list[tuple[float, float, float, float]]:
    """The front of every block."""
    found = []
    for element in root.iter():
        if "bk-block" not in element.get("class", ""):
            continue
        if element.tag == f"{SVG}rect":
            x, y, w, h = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        else:
            points = numbers(element.get("d"))
            x, y, w, h = points[0], points[1], points[2] - points[0], points[-1] - points[1]
        found.append((x, y, x + w, y + h))
    # Shadows of a stack: the same size, up and to the right of the front, which comes last.
    return [box for box in found if not any(
        abs(other[0] - box[0] + 5 * n) < 0.1 and abs(other[1] - box[1] - 5 * n) < 0.1
        and abs(other[2] - other[0] - box[2] + box[0]) < 0.1 for other in found for n in (1, 2))]


def wires_of(root) -> list[list[tuple[float, float]]]:
    found = []
    for element in root.iter(f"{SVG}path"):
        if element.get("class") in ("bk-wire", "bk-control") and not element.get("stroke-dasharray"):
            values = numbers(element.get("d"))
            found.append(list(zip(values[::2], values[1::2], strict=True)))
    return found


@pytest.mark.parametrize("case", CASES)
def test_nothing_covers_anything(case, drawings):
    root = ElementTree.fromstring(drawings(case)[1])
    width, height = numbers(root.get("viewBox"))[2:]
    texts = [(element.text, box_of(element)) for element in root.iter(f"{SVG}text")]
    assert len(texts) > 8
    for text, box in texts:
        assert min(box) >= 4 and box[2] <= width - 4 and box[3] <= height - 4, f"{text!r} leaves the picture"
    for (one, a), (other, b) in combinations(texts, 2):
        assert not meet(a, b), f"{one!r} and {other!r} overlap"
    blocks = blocks_of(root)
    assert len(blocks) >= 2
    for a, b in combinations(blocks, 2):
        assert not meet(a, b), f"blocks overlap: {a} {b}"
    for text, box in texts:
        for block in blocks:
            inside = block[0] + 4 <= box[0] and box[2] <= block[2] - 4 and block[1] <= box[1] and box[3] <= block[3]
            assert inside or not meet(box, block), f"{text!r} crosses the edge of a block"
    wires = wires_of(root)
    assert len(wires) >= 3
    for wire in wires:
        for (x1, y1), (x2, y2) in zip(wire[:-1], wire[1:], strict=True):
            assert abs(x1 - x2) < 0.1 or abs(y1 - y2) < 0.1, "a wire that is not level or upright"
            part = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            assert part[0] >= 0 and part[1] >= 0 and part[2] <= width and part[3] <= height
            for text, box in texts:
                assert not meet(part, box), f"a wire runs through {text!r}"
            for block in blocks:
                shrunk = (block[0] + 1, block[1] + 1, block[2] - 1, block[3] - 1)
                assert not meet(part, shrunk), "a wire runs through a block"


@pytest.mark.parametrize("case", CASES)
def test_ports_are_those_of_the_hardware(case, drawings):
    """Every port of the picture exists, as wide as it says; every stream of the hardware is in the picture."""
    resolved, svg = drawings(case)
    widths = {port.name: port.width for port in ports_of(resolved.component())}
    shown = {}
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        if element.get("data-port"):
            shown[element.get("data-port")] = int(element.get("data-bits"))
    assert shown
    for name, width in shown.items():
        real = next((widths[each] for each in (name, f"{name}__payload", f"{name}_tdata", f"{name}_wdata")
                     if each in widths), None)
        if real is None:        # the fields of a payload as ports of their own
            real = sum(bits for each, bits in widths.items()
                       if each.startswith(f"{name}__") and not each.endswith(("__valid", "__ready")))
        assert real == width, name
    streams = {name.partition("__")[0] for name in widths if name.endswith("__valid")}
    streams |= {name.removesuffix("_tvalid") for name in widths if name.endswith("_tvalid")}
    assert streams <= set(shown)


# Numbers -------------------------------------------------------------------------------------------

def words(svg: str) -> str:
    return "\n".join(element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("lanes, depth", [(1, 16), (8, 4096)])
def test_dot_numbers(lanes, depth):
    resolved = load_design(cli={key: (value, "test") for key, value in {
        "pe": "fp8_e4m3", "lanes": lanes, "accumulator.depth": depth, "pipeline": 2}.items()})
    text, design = words(draw(resolved)), resolved.design
    assert f"{design.accumulator_bits} bits, signed" in text
    assert f"{depth:,} products, no rounding" in text
    assert f"Latency {design.latency} clock edges, {lanes} product" in text
    assert ("adder" in text) == (lanes > 1)
    assert f"{design.product_bits + 1} bits" in text


def test_matmul_core_numbers():
    resolved = load_design(preset="matmul_core_edge")
    design, text = resolved.design, words(draw(resolved))
    assert f"{design.rows} x {design.columns} PEs" in text
    assert f"{design.rows} x {design.k_words} words" in text and f"sums of {design.pe.accumulator_bits} bits" in text
    assert f"{design.queue} jobs can wait" in text and f"partial sums of {design.raw_bits} bits" in text
    memory = 2 * (design.rows + design.columns) * design.k_words * 2 / 1024
    assert f"Tile memories hold {memory:g} KiB" in text
    assert all(mode.name in text for mode in design.pe.modes)


def test_serial_and_sparse_numbers():
    resolved = load_design(preset="dequant_core_edge")
    array, text = resolved.design.array, words(draw(resolved))
    assert f"sums of {array.sum_bits} bits" in text and f"{array.result_bits} bits" in text
    assert f"{array.scale_cycles} cycles" in text and f"{array.rows} rows of 512 chunks" in text
    resolved = load_design(preset="spconv_edge")
    design, text = resolved.design, words(draw(resolved))
    assert f"{design.map.words:,} words of {design.map.word_bits} bits" in text
    assert f"{design.pinned} tiles stay" in text and f"{design.gather.sum_bits} bits" in text
    assert f"keys of {design.map.key_bits} bits" in text


def test_a_name_of_its_own_and_nothing_from_outside():
    resolved = load_design(cli={"pe": ("fp4", "test"), "name": ("my_unit", "test")})
    svg = draw(resolved)
    assert "my_unit" in words(svg) and "dot_fp4" not in svg
    assert not re.search(r"href|@import|url\(|<script|<image", svg)
    assert svg == draw(resolved)


# Lettering -----------------------------------------------------------------------------------------

def test_lettering():
    # Helvetica's own metrics: digits 556, space 278, M 833 thousandths of the size.
    assert text_width("00 M", 10) == pytest.approx((2 * 556 + 278 + 833) / 100)
    assert wrap("one two three", 10, text_width("one two", 10)) == ["one two", "three"]
    assert "".join(wrap("a_long_name_of_parts", 10, 40)) == "a_long_name_of_parts"
    assert all(text_width(line, 10) <= 60 for line in wrap("a_long_name_of_parts and words", 10, 60))
    assert shorten(["fp4", "int8", "posit8_0"], 12, 1000) == "fp4, int8, posit8_0"
    assert shorten(["fp4", "int8", "posit8_0"], 12, 90) == "fp4 and 2 more"
