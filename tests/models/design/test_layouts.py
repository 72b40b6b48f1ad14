"""Layouts of packed weights: places, sizes and offsets against slow descriptions and the page that draws them."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.layouts import GroupLayout, Packing, bits_per_weight, group_bytes, group_layout, packing_of
from bitkiln.models.design.layouts_blocks import BLOCKS, block_layout
from bitkiln.models.design.layouts_codes import TRIT_CODES, trit_codes
from bitkiln.models.design.weights import SPECIALS, weight_type
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "weight_layouts.md").read_text(encoding="utf-8")
PACKINGS = [Packing(bits) for bits in range(1, 9)] + [
    Packing(6, (4, 2)), Packing(3, (2, 1)), Packing(3, (1, 1, 1)), Packing(8, (4, 4)), Packing(5, (4, 1))]


def rows(heading):
    """Cells of the first table behind a heading, without code marks."""
    text = PAGE[PAGE.index(heading):]
    table = re.search(r"\| --- .*\n((?:\|.*\n)+)", text)[1]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()]


# Codes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", PACKINGS, ids=lambda p: f"{p.bits}-{p.name}")
def test_places_cover_the_bytes(packing):
    """Every bit of a code has one place, no two codes share one, and less than a byte of each plane is left."""
    for length in (*range(1, 41), 128):
        used = [bit for i in range(length) for place in packing.places(i, length)
                for bit in range(place.bit, place.bit + place.width)]
        assert len(used) == len(set(used)) == length * packing.bits
        for i in (0, length - 1):
            places = packing.places(i, length)
            assert [place.low for place in places] == [sum(p.width for p in places[:n]) for n in range(len(places))]
        size = packing.code_bytes(length)
        assert size == sum(packing.plane_bytes(length)) and 0 <= max(used) < 8 * size
        assert 8 * size - len(used) < 8 * len(packing.planes)


def drawing(packing, length):
    """The digit of the code at each bit, byte by byte, bit 7 first."""
    bits = ["."] * (8 * packing.code_bytes(length))
    for i in range(length):
        for place in packing.places(i, length):
            bits[place.bit:place.bit + place.width] = str(i) * place.width
    return " ".join("".join(reversed(bits[at:at + 8])) for at in range(0, len(bits), 8))


def test_pictures_of_the_page():
    table = rows("## Codes")
    assert len(table) == 10
    for name, picture in table:
        bits, _, planes = re.match(r"(\d) bits?( as )?(\S*)", name).groups()
        packing = packing_of(Packing(int(bits)), planes or "dense")
        length = max(int(letter) for letter in picture if letter != " ") + 1
        assert drawing(packing, length) == picture, name


def test_trits():
    assert get_format("ternary").encode(np.array([0.0, 1.0, -1.0])).tolist() == list(TRIT_CODES)
    for byte in range(256):
        codes = trit_codes(byte)
        assert (codes is None) == (byte > 242)
        if codes is not None:
            assert sum(TRIT_CODES.index(code) * 3 ** place for place, code in enumerate(codes)) == byte
    packing = packing_of("ternary")
    assert packing.name == "trits" and packing.illegal == (2,)
    assert [packing.code_bytes(n) for n in (1, 5, 6, 128, 160)] == [1, 1, 2, 26, 32]
    assert packing.places(7, 10) == ((8, 8, 0),)
    assert 8 * packing.code_bytes(160) / 160 == 1.6


@pytest.mark.parametrize("name, bits, packing, illegal", [
    ("binary", 1, "dense", ()), ("seq2", 2, "dense", ()), ("int2", 2, "dense", ()), ("bitmod3", 3, "dense", ()),
    ("bitmod4", 4, "dense", ()), ("nf4", 4, "dense", ()), ("nf4_int8", 4, "dense", ()), ("int5", 5, "dense", ()),
    ("fp6_e3m2", 6, "dense", ()), ("fp8_e4m3", 8, "dense", ()), ("ternary", 2, "trits", (2,))])
def test_usual_packing(name, bits, packing, illegal):
    found = packing_of(name)
    assert (found.bits, found.name, found.illegal) == (bits, packing, illegal)
    assert packing_of(found) is found
    if name in ("bitmod4", "ternary"):
        assert packing_of(weight_type(name)) == found
    dense = packing_of(name, "dense")
    assert dense.name == "dense" and dense.illegal == illegal


@pytest.mark.parametrize("arguments, message", [
    (("intt4",), "unknown weight type at weights: got 'intt4', expected a weight type or number format\nhelp: "),
    (("fp16",), "out of range at weights bits of fp16: got 16, expected 1 to 8"),
    (("int4", "trits"), "not a ternary type at weights: got 'trits of 4-bit codes', expected trits for ternary codes"),
    (("int2", "trits"), "not a ternary type"),
    (("int4", "nibbles"), "unknown packing at weights: got 'nibbles', expected dense, trits, or widths of planes"),
    (("int4", "4+"), "unknown packing"), (("int4", "²"), "unknown packing"),
    (("int4", "2+1"), r"planes do not fit at packing planes: got '\(2, 1\)', expected widths that add up to 4"),
    (("int4", "4+0"), "out of range at packing planes: got 0, expected 1 to 8"),
])
def test_packing_errors(arguments, message):
    with pytest.raises(BitkilnError, match=message):
        packing_of(*arguments)


def test_packing_class_errors():
    with pytest.raises(BitkilnError, match="contradictory options at packing: got 'trits of 3 bits'"):
        Packing(3, trits=True)
    with pytest.raises(BitkilnError, match="out of range at packing bits: got 9, expected 1 to 8"):
        Packing(9)


# Headers and streams -------------------------------------------------------------------------------


def test_headers_of_the_page():
    """Every combination, as the page lists it."""
    table = rows("First bit of each field")
    assert len(table) == 12
    seen = set()
    for *has, size, kind, special, scale, negative, zero in table:
        select, scales, dual, zeros = (word == "yes" for word in has)
        layout = GroupLayout(("int4",), select=select, scale_bits=8 * scales, dual_scale=dual, zero_point=5 * zeros)
        fields = {f.name: f for f in layout.header}
        listed = {"type": kind, "special": special, "scale": scale, "negative": negative, "zero": zero}
        assert {name: str(f.bit) for name, f in fields.items()} == {n: b for n, b in listed.items() if b != "-"}
        assert layout.header_bytes == int(size)
        assert all(f.bit // 8 == (f.bit + f.width - 1) // 8 < int(size) for f in layout.header)
        if zeros:
            assert fields["zero"].width == 8 and fields["zero"].signed
        seen.add((select, scales, dual, zeros))
    assert seen == {c for c in itertools.product((False, True), repeat=4) if c[1] or not c[2]}


def test_widths_of_the_header():
    narrow = GroupLayout(("int4",), scale_bits=6, dual_scale=True, select=True)
    assert [(f.name, f.bit, f.width) for f in narrow.header] == [("type", 0, 3), ("special", 3, 2), ("scale", 8, 6),
                                                                 ("negative", 16, 6)]
    assert SPECIALS == 1 << 2


def slow_offsets(layout, lengths, types, per_row):
    headers, codes, at = [], [], 0
    for row in range(0, len(lengths), per_row):
        for first in range(row, row + per_row, layout.bundle):
            group = range(first, min(first + layout.bundle, row + per_row))
            at = -(-at // layout.align) * layout.align
            for _ in group:
                headers.append(at)
                at += layout.header_bytes
            for g in group:
                codes.append(at)
                packing = layout.packings[types[g]]
                at += -(-lengths[g] // 5) if packing.trits else sum(-(-lengths[g] * w // 8) for w in packing.planes)
    return headers, codes, -(-at // layout.align) * layout.align


@pytest.mark.parametrize("seed", range(20))
def test_offsets(seed):
    rng = np.random.default_rng(seed)
    packings = [packing_of(name) for name in ("ternary", "int3", "int4", "int8")] + [Packing(6, (4, 2))]
    layout = GroupLayout(tuple(packings[:rng.integers(1, 6)]), scale_bits=int(rng.choice([0, 8])),
                         zero_point=int(rng.choice([0, 4])), align=int(rng.choice([1, 2, 4, 8, 64])),
                         bundle=int(rng.integers(1, 6)))
    per_row, count = int(rng.integers(1, 9)), int(rng.integers(1, 6))
    lengths = rng.integers(1, 129, per_row * count)
    types = rng.integers(0, len(layout.packings), per_row * count)
    found = layout.offsets(lengths, types, per_row)
    headers, codes, total = slow_offsets(layout, lengths.tolist(), types.tolist(), per_row)
    assert found.headers.tolist() == headers and found.codes.tolist() == codes and found.total == total
    assert total % layout.align == 0
    whole = layout.offsets(lengths, types)
    assert whole.total == slow_offsets(layout, lengths.tolist(), types.tolist(), len(lengths))[2]
    alone = [layout.group_bytes(int(n), int(t)) for n, t in zip(lengths, types, strict=True)]
    assert alone == [GroupLayout(layout.packings, layout.select, layout.scale_bits, False, layout.zero_point,
                                 layout.align).offsets([n], [t]).total for n, t in zip(lengths, types, strict=True)]


def test_no_groups():
    assert GroupLayout(("int4",)).offsets(np.zeros(0, int), np.zeros(0, int)).total == 0


def test_figures():
    """Sizes that papers and specifications state."""
    for length in range(4, 129, 4):   # FP6 as 4+2: exactly 6.0 bits (arXiv 2312.08583)
        assert 8 * packing_of("fp6_e2m3", "4+2").code_bytes(length) == 6 * length
    assert bits_per_weight("nf4", 64, groups=256, row_bits=32, bundle=4) == 4 + 8 / 64 + 32 / (64 * 256)
    assert bits_per_weight("nf4", 64, groups=256, row_bits=32, bundle=4) == pytest.approx(4.127, abs=5e-4)  # QLoRA
    assert bits_per_weight("mxfp4", 32) == 4.25 and bits_per_weight("nvfp4", 16) == 4.5
    assert group_bytes("mxfp4", 32, align=1) == 17 and group_bytes("nvfp4", 16, align=1) == 9
    assert group_bytes("bitmod4", 128) == 68 and group_bytes("ternary", 128) == 28
    assert bits_per_weight("int4", 128, groups=5, bundle=4) == (8 * (4 * 65 + 68)) / 640
    for name, bits in (("binary", 1), ("ternary", 1.6), ("seq2", 2), ("int3", 3), ("int4", 4)):   # ParetoQ's five
        assert bits_per_weight(name, 160, scale_bits=0, select=False) == bits


def test_bits_per_weight_of_the_page():
    table = rows("## Bits per weight")
    assert len(table) == 14
    options = [{"align": 1, "bundle": 1}, {"align": 4, "bundle": 1}, {"align": 8, "bundle": 1},
               {"align": 4, "bundle": 2}, {"align": 4, "bundle": 4}, {"align": 8, "bundle": 4}]
    for name, group, header, *figures in table:
        assert group_layout(name).header_bytes == int(header)
        for option, figure in zip(options, figures, strict=True):
            assert bits_per_weight(name, int(group), **option) == float(figure), (name, option)


def test_aligned():
    assert group_layout("mxfp4").aligned(32) and group_layout("nvfp4").aligned(16)
    assert not group_layout("mxfp4", bundle=2).aligned(32) and not group_layout("ternary", bundle=4).aligned(128)
    assert group_layout("bitmod4", bundle=2).aligned(128) and group_layout("ternary", bundle=4).aligned(160)
    assert not group_layout("bitmod4").aligned(128)


def test_layout_of_an_engine():
    design = BitSerialDesign(("bitmod4", "int8", "ternary"), zero_point=5, scale="uint6")
    layout = GroupLayout.of(design, align=8, packings=(None, "4+4", "dense"))
    assert [p.name for p in layout.packings] == ["dense", "4+4", "dense"]
    assert layout == GroupLayout(layout.packings, True, 6, False, 5, 8)
    assert GroupLayout.of(BitSerialDesign(("fp4",), dual_scale=True), bundle=2) == GroupLayout(
        ("fp4",), False, 8, True, 0, 4, 2)
    assert GroupLayout.of(BitSerialDesign(("int4",), scale="none")).header == ()
    assert GroupLayout.of(BitSerialDesign(("int4",), scale="ue4m3")).scale_bits == 7
    assert GroupLayout.of(BitSerialDesign(("bitmod3",))).select is True
    assert group_layout("bitmod3") == GroupLayout.of(BitSerialDesign(("bitmod3",)))
    assert group_layout(weight_type("bitmod3"), select=False).select is False
    with pytest.raises(BitkilnError, match="wrong number of packings at packings: got 1, expected 3, one for each"):
        GroupLayout.of(design, packings=("dense",))


@pytest.mark.parametrize("options, message", [
    ({"packings": ()}, "wrong number of weight types at packings: got 0, expected 1 to 8"),
    ({"packings": ("int4",) * 9}, "wrong number of weight types"),
    ({"packings": ("int4", "int3"), "select": False}, "contradictory options at select: got .False., expected a"),
    ({"scale_bits": 9}, "out of range at scale_bits: got 9, expected 0 to 8"),
    ({"zero_point": -1}, "out of range at zero_point: got -1, expected 0 to 8"),
    ({"bundle": 0}, "out of range at bundle: got 0, expected 1 to 64"),
    ({"align": 3}, "out of range at align: got 3, expected a power of two, 1 to 64"),
    ({"align": 128}, "out of range at align"), ({"align": True}, "not an integer at align"),
    ({"scale_bits": 0, "dual_scale": True}, "contradictory options at dual_scale: got .True., expected scale_bits"),
    ({"packings": ("int4", "intx")}, r"unknown weight type at packings\[1\]: got 'intx'"),
])
def test_layout_errors(options, message):
    with pytest.raises(BitkilnError, match=message):
        GroupLayout(**({"packings": ("int4",)} | options))


def test_length_errors():
    for function in (group_bytes, bits_per_weight):
        with pytest.raises(BitkilnError, match="out of range at length: got 0, expected 1 to 1048576"):
            function("int4", 0)


# GGUF blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BLOCKS)
def test_every_bit_of_a_block_once(name):
    block = block_layout(name.upper())
    used = [bit for planes in block.fields.values() for plane in planes for start in plane.bits
            for bit in range(start, start + plane.width)]
    if block.trits:
        assert len(set(block.trits)) == block.weights
        used += [8 * byte + bit for byte in {byte for byte, _ in block.trits} for bit in range(8)]
    assert sorted(used) == list(range(8 * block.bytes))
    for planes in block.fields.values():
        for plane in planes:
            assert all(bit // 8 == (bit + plane.width - 1) // 8 for bit in plane.bits)
        assert len({len(plane.bits) for plane in planes}) == 1
    items = {field: len(planes[0].bits) for field, planes in block.fields.items()}
    assert items.get("codes", block.weights) == block.weights
    assert {items[field] for field in ("scales", "mins") if field in items} <= {block.weights // block.sub}


def test_blocks_of_the_page():
    table = rows("## GGUF blocks")
    assert [row[0] for row in table] == list(BLOCKS)
    for name, number, weights, size, sub, bits, code_bias, scale_bias in table:
        block = BLOCKS[name]
        assert (block.number, block.weights, block.bytes, block.sub) == (int(number), int(weights), int(size), int(sub))
        assert block.bits_per_weight == float(bits)
        assert code_bias == ("table" if block.values else "signed" if "codes" in block.signed else
                             str(block.code_bias or ""))
        assert scale_bias == ("signed" if "scales" in block.signed else str(block.scale_bias or ""))


def test_places_of_the_page():
    """The formulas of the page, evaluated for every item."""
    found = {}
    for name, field, bits, byte, bit in rows("Where item `i` of a field lies"):
        high, low = map(int, bits.split(".."))
        found.setdefault((name, field), []).append((low, high - low + 1, byte, bit))
    assert set(found) == {(name, field) for name, block in BLOCKS.items() for field in block.fields}
    items = 0
    for (name, field), parts in found.items():
        for i in range(len(BLOCKS[name].fields[field][0].bits)):
            listed = [(8 * eval(byte, {"i": i}) + eval(bit, {"i": i}), width) for _, width, byte, bit in sorted(parts)]
            places = BLOCKS[name].places(field, i)
            if field in ("d", "dmin", "m"):
                places = ((places[0][0], 16),) if places[1] == (places[0][0] + 8, 8) else places
            assert tuple(listed) == places, (name, field, i)
            items += 1
    assert items == 1842


def test_picture_of_the_scales():
    lines = dict(re.findall(r"    byte (\d+) +((?:scales|mins)\S.*)", PAGE))
    assert len(lines) == 12
    for name in ("q4_k", "q5_k"):
        for byte, picture in lines.items():
            parts = []
            for field in ("scales", "mins"):
                for i in range(8):
                    low = 0
                    for bit, width in BLOCKS[name].places(field, i):
                        if bit // 8 == int(byte):
                            parts.append((bit, f"{field}{i}[{low + width - 1}:{low}]"))
                        low += width
            assert " ".join(text for _, text in sorted(parts, reverse=True)) == picture


def test_unknown_block():
    with pytest.raises(BitkilnError, match="unknown block type at block type: got 'q4_z', expected q4_0"):
        block_layout("q4_z")
