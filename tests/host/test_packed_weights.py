"""Packed weights against a slow description of them, bit by bit; damage; real quantised tensors."""

import numpy as np
import pytest

from bitkiln.host.weights import pack, unpack
from bitkiln.host.weights_groups import Groups, pack_groups, unpack_groups
from bitkiln.models.design.layouts import GroupLayout, group_layout, packing_of
from bitkiln.models.design.weights import weight_type
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format, get_group_format
from bitkiln.models.quantize.rtn import rtn

KINDS = [("binary", None), ("ternary", None), ("ternary", "dense"), ("seq2", None), ("int2", "1+1"), ("bitmod3", None),
         ("int3", "2+1"), ("int3", "1+1+1"), ("bitmod4", None), ("nf4", None), ("int5", None), ("int5", "4+1"),
         ("fp6_e2m3", None), ("fp6_e3m2", "4+2"), ("int7", None), ("int8", None), ("fp8_e4m3", "4+4")]


def legal(name):
    bits = packing_of(name).bits
    return [code for code in range(1 << bits) if not (name == "ternary" and code == 2)]


def slow_pack(codes, name, packing):
    """Bytes of one group, from numbers of any size."""
    if name == "ternary" and packing is None:
        digits = [{0: 0, 1: 1, 3: 2}[int(code)] for code in codes]
        return [sum(d * 3 ** i for i, d in enumerate(digits[at:at + 5])) for at in range(0, len(digits), 5)]
    bits = packing_of(name).bits
    widths = [bits] if packing in (None, "dense") else [int(word) for word in packing.split("+")]
    out, low = [], 0
    for width in widths:
        word = sum((int(code) >> low & (1 << width) - 1) << (i * width) for i, code in enumerate(codes))
        size = -(-len(codes) * width // 8)
        out += list(word.to_bytes(size, "little"))
        low += width
    return out


# Codes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, packing", KINDS)
def test_every_length(name, packing):
    rng, codes = np.random.default_rng(1), legal(name)
    for length in range(1, 129):
        group = rng.choice(codes, length)
        data = pack(group, name, packing)
        assert data.dtype == np.uint8 and data.tolist() == slow_pack(group, name, packing)
        found = unpack(data, length, name, packing)
        assert found.dtype == np.uint8 and found.tolist() == group.tolist()


@pytest.mark.parametrize("name, packing", KINDS)
def test_every_code_at_every_place(name, packing):
    """All codes, each at each of 16 places, several groups at once."""
    codes = np.array([np.roll(np.resize(legal(name), max(16, len(legal(name)))), shift) for shift in range(16)])
    data = pack(codes, name, packing)
    assert data.shape == (16, packing_of(name, packing).code_bytes(codes.shape[1]))
    assert data.tolist() == [slow_pack(row, name, packing) for row in codes]
    np.testing.assert_array_equal(unpack(data, codes.shape[1], name, packing), codes)
    np.testing.assert_array_equal(unpack(data.reshape(4, 4, -1), codes.shape[1], name, packing),
                                  codes.reshape(4, 4, -1))


def test_every_trit_byte():
    data = np.arange(256, dtype=np.uint8)[:, None]
    codes = unpack(data[:243], 5, "ternary")
    assert len({tuple(row) for row in codes.tolist()}) == 243 and set(codes.reshape(-1).tolist()) == {0, 1, 3}
    np.testing.assert_array_equal(pack(codes, "ternary"), data[:243])
    values = get_format("ternary").decode(codes)
    assert [int(v) for v in ((values % 3) @ [1, 3, 9, 27, 81])] == list(range(243))
    for byte in range(243, 256):
        with pytest.raises(BitkilnError, match=f"illegal trit byte at byte 0: got {byte}, expected 0 to 242"):
            unpack(data[byte], 5, "ternary")
    assert not unpack(data[243:], 5, "ternary", strict=False).any()
    assert pack(np.array([0] * 5), "ternary") == 0 and pack(np.array([1, 0, 0]), "ternary") == 1
    assert pack(np.array([3] * 5), "ternary") == 242


@pytest.mark.parametrize("arguments, message", [
    ((np.array([0, 16]), "int4"), r"illegal code at codes\[1\]: got 16, expected 0 to 15$"),
    ((np.array([[0, -1]]), "int4"), r"illegal code at codes\[0, 1\]: got -1, expected 0 to 15"),
    ((np.array([1, 2]), "ternary"), r"illegal code at codes\[1\]: got 2, expected 0 to 3, not 2"),
    ((np.array([2]), "ternary", "dense"), r"illegal code at codes\[0\]: got 2"),
    ((np.array([1.0]), "int4"), r"not codes at codes: got 'float64 \(1,\)', expected an integer array"),
    ((np.int64(1), "int4"), "not codes at codes: got 'int64"),
])
def test_codes_that_are_refused(arguments, message):
    with pytest.raises(BitkilnError, match=message):
        pack(*arguments)


@pytest.mark.parametrize("data, length, name, packing, message", [
    ([1, 2, 3], 4, "int4", None, r"wrong number of bytes at data: got 'uint8 \(3,\)', expected uint8 \(..., 2\) for 4"),
    ([0x21, 0x13], 3, "int4", None, "damaged codes at byte 1: got 19, expected zeros behind the last code$"),
    ([0x02], 4, "ternary", "dense", "damaged codes at byte 0: got 2, expected zeros .* and no code 2"),
    ([0, 81], 9, "ternary", None, "damaged codes at byte 1: got 81, expected zeros behind the last code"),
    ([0, 250], 9, "ternary", None, "illegal trit byte at byte 1: got 250, expected 0 to 242"),
    ([255, 255, 31, 255, 3], 5, "int6", "4+2", "damaged codes at byte 2: got 31"),
])
def test_bytes_that_are_refused(data, length, name, packing, message):
    data = np.array(data, np.uint8)
    with pytest.raises(BitkilnError, match=message):
        unpack(data, length, name, packing)
    if "wrong number" not in message:
        codes = unpack(data, length, name, packing, strict=False)
        assert codes.shape == (length,) and not np.isin(codes, packing_of(name).illegal).any()
        assert unpack(pack(codes, name, packing), length, name, packing).tolist() == codes.tolist()


def test_array_type_of_bytes():
    with pytest.raises(BitkilnError, match=r"wrong number of bytes at data: got 'int64 \(2,\)'"):
        unpack(np.array([1, 2]), 4, "int4")


# Groups --------------------------------------------------------------------------------------------


def slow_stream(layout, kinds, groups, per_row):
    """Bytes of a stream, appended one after the other."""
    out, count = [], len(groups.lengths)

    def header(g):
        head = []
        if layout.select:
            head.append(int(groups.types[g]) | int(groups.specials[g]) << 3)
        if layout.scale_bits:
            head.append(int(groups.scales[g]))
        if layout.dual_scale:
            head.append(int(groups.negatives[g]))
        if layout.zero_point:
            head.append(int(groups.zeros[g]) % 256)
        return head

    for row in range(0, count, per_row):
        for first in range(row, row + per_row, layout.bundle):
            bundle = range(first, min(first + layout.bundle, row + per_row))
            for g in bundle:
                out += header(g)
            for g in bundle:
                out += slow_pack(groups.codes[g, :groups.lengths[g]], *kinds[groups.types[g]])
            out += [0] * (-len(out) % layout.align)
    return out


def random_groups(seed):
    rng = np.random.default_rng(seed)
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))[:rng.integers(1, 9)]]
    dual = bool(rng.integers(2))
    scale_bits = int(rng.choice([4, 6, 7, 8] if dual else [0, 4, 8]))
    layout = GroupLayout(tuple(packing_of(*kind) for kind in kinds), select=len(kinds) > 1 or bool(rng.integers(2)),
                         scale_bits=scale_bits, dual_scale=dual, zero_point=int(rng.choice([0, 1, 5, 8])),
                         align=int(rng.choice([1, 2, 4, 8, 16])), bundle=int(rng.choice([1, 2, 3, 4, 7])))
    per_row, count = int(rng.integers(1, 7)), int(rng.integers(1, 5))
    count *= per_row
    lengths = rng.choice([int(rng.integers(1, 129)), 32, 1, 77], count)
    types = rng.integers(0, len(kinds), count)
    codes = np.zeros((count, lengths.max()), np.int64)
    for g in range(count):
        codes[g, :lengths[g]] = rng.choice(legal(kinds[types[g]][0]), lengths[g])
    zeros = layout.zero_point and (1 << layout.zero_point - 1)
    return layout, kinds, per_row, Groups(
        codes, lengths, types, rng.integers(0, 4, count) * layout.select,
        rng.integers(0, 1 << layout.scale_bits, count), rng.integers(0, 1 << layout.scale_bits, count) * dual,
        rng.integers(-zeros, zeros, count) if zeros else np.zeros(count, int))


@pytest.mark.parametrize("seed", range(60))
def test_streams(seed):
    layout, kinds, per_row, groups = random_groups(seed)
    data = pack_groups(layout, groups, per_row)
    assert data.dtype == np.uint8 and data.tolist() == slow_stream(layout, kinds, groups, per_row)
    for strict in (True, False):
        found = unpack_groups(layout, data, groups.lengths, per_row, strict=strict)
        for name in ("codes", "lengths", "types", "specials", "scales", "negatives", "zeros"):
            np.testing.assert_array_equal(getattr(found, name), getattr(groups, name), err_msg=name)


def test_streams_use_everything():
    """The random layouts of the test above have every option, and several of most."""
    layouts = [random_groups(seed)[0] for seed in range(60)]
    for options in ({layout.select for layout in layouts}, {layout.dual_scale for layout in layouts}):
        assert options == {False, True}
    assert {layout.bundle for layout in layouts} == {1, 2, 3, 4, 7}
    assert {layout.header_bytes for layout in layouts} >= {1, 2, 3, 4}
    assert {len(layout.packings) for layout in layouts} == set(range(1, 9))


@pytest.mark.parametrize("seed", range(25))
def test_any_flipped_bit_is_seen_or_means_something(seed):
    """Strictly read, changed bytes are an error, or other groups that pack to just these bytes."""
    layout, _, per_row, groups = random_groups(seed)
    data = pack_groups(layout, groups, per_row)
    rng, errors = np.random.default_rng(seed), 0
    for _ in range(30):
        changed = data.copy()
        changed[rng.integers(len(data))] ^= 1 << rng.integers(8)
        try:
            found = unpack_groups(layout, changed, groups.lengths, per_row)
        except BitkilnError:
            errors += 1
            continue
        np.testing.assert_array_equal(pack_groups(layout, found, per_row), changed)
    assert errors < 30


def test_defaults():
    codes = np.arange(32).reshape(2, 16)[:, ::-1] % 16
    layout = group_layout("int4", align=1)
    data = pack_groups(layout, Groups(codes, scales=np.array([7, 9])))
    assert data.tolist() == [7, *slow_pack(codes[0], "int4", None), 9, *slow_pack(codes[1], "int4", None)]
    bare = group_layout("int4", scale_bits=0)
    assert pack_groups(bare, Groups(codes)).tolist() == slow_pack(codes.reshape(-1), "int4", None)


def test_nothing():
    layout = group_layout("int4")
    data = pack_groups(layout, Groups(np.zeros((0, 8), int)))
    assert data.shape == (0,)
    assert unpack_groups(layout, data, np.zeros(0, int)).codes.shape[0] == 0


BASE = {"codes": np.ones((4, 8), int), "types": np.array([0, 1, 0, 1]), "specials": np.zeros(4, int),
        "scales": np.arange(4), "zeros": np.array([-4, 3, 0, 1])}
MIXED = GroupLayout(("int4", "ternary"), scale_bits=6, zero_point=3, align=8, bundle=2)


@pytest.mark.parametrize("change, message", [
    ({"scales": np.array([0, 64, 0, 0])}, r"out of range at scales\[1\]: got 64, expected 0 to 63"),
    ({"zeros": np.array([0, 0, 4, 0])}, r"out of range at zeros\[2\]: got 4, expected -4 to 3"),
    ({"types": np.array([0, 2, 0, 0])}, r"out of range at types\[1\]: got 2, expected 0 to 1"),
    ({"specials": np.array([0, 0, 0, 4])}, r"out of range at specials\[3\]: got 4, expected 0 to 3"),
    ({"negatives": np.array([0, 1, 0, 0])}, r"out of range at negatives\[1\]: got 1, expected 0: the header has"),
    ({"scales": np.array([0, 1])}, r"wrong field at scales: got 'int64 \(2,\)', expected 4 integers"),
    ({"scales": np.zeros(4)}, "wrong field at scales: got 'float64"),
    ({"lengths": np.array([8, 0, 8, 8])}, r"out of range at lengths\[1\]: got 0, expected 1 to 8"),
    ({"lengths": np.array([8, 9, 8, 8])}, r"out of range at lengths\[1\]: got 9"),
    ({"codes": np.full((4, 8), 2)}, r"illegal code at codes\[1, 0\]: got 2, expected 0 to 3, not 2"),
    ({"codes": np.ones((4, 8))}, r"not codes at codes: got 'float64 \(4, 8\)'"),
])
def test_groups_that_are_refused(change, message):
    with pytest.raises(BitkilnError, match=message):
        pack_groups(MIXED, Groups(**(BASE | change)))


def test_rows_that_do_not_fit():
    for per_row in (3, 0, -1):
        with pytest.raises(BitkilnError, match=f"rows do not fit at per_row: got {per_row}, expected a divisor"):
            pack_groups(MIXED, Groups(**BASE), per_row)


@pytest.mark.parametrize("byte, value, message", [
    (0, 7, "unknown weight type at byte 0: got 7, expected a selector of 0 to 1"),
    (3, 2, "unknown weight type at byte 3: got 2"),
    (0, 0x20, "padding is not zero at byte 0: got 32, expected zero in bits that no field has"),
    (1, 0x45, "padding is not zero at byte 1: got 69"),
    (2, 0x04, r"out of range at byte 2 \(zero\): got 4, expected -4 to 3"),
    (11, 249, "illegal trit byte at byte 11: got 249"),
    (15, 1, "padding is not zero at byte 15: got 1"),
])
def test_damaged_streams(byte, value, message):
    data = pack_groups(MIXED, Groups(**BASE), per_row=2)
    assert len(data) == 32 and data[16:].any()
    lengths = np.full(4, 8)
    data[byte] = value
    with pytest.raises(BitkilnError, match=message):
        unpack_groups(MIXED, data, lengths, 2)


def test_streams_of_wrong_length():
    data = pack_groups(MIXED, Groups(**BASE), per_row=2)
    lengths = np.full(4, 8)
    for wrong in (data[:-4], np.concatenate((data, data[:4]))):
        with pytest.raises(BitkilnError, match=f"wrong number of bytes at data: got {len(wrong)}, expected 32 for 4"):
            unpack_groups(MIXED, wrong, lengths, 2)
    with pytest.raises(BitkilnError, match="truncated stream at byte 16: got '16 bytes', expected a header of group 2"):
        unpack_groups(MIXED, data[:16], lengths, 2)
    with pytest.raises(BitkilnError, match=r"not bytes at data: got 'int64 \(32,\)'"):
        unpack_groups(MIXED, data.astype(int), lengths, 2)


def test_loose_reading():
    """What decoders see: low bits of fields, zeros for illegal trits, padding not looked at."""
    data = pack_groups(MIXED, Groups(**BASE), per_row=2)
    data[0] |= 0xE0
    data[1] |= 0xC0
    data[2] = 0x5B   # of three bits 0b011
    data[11], data[15] = 255, 255
    found = unpack_groups(MIXED, data, np.full(4, 8), 2, strict=False)
    assert found.types.tolist() == [0, 1, 0, 1] and found.scales.tolist() == [0, 1, 2, 3]
    assert found.zeros.tolist() == [3, 3, 0, 1]
    assert found.codes[1].tolist() == [1] * 5 + [0] * 3


# Real tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mxfp4", "mxfp6_e2m3", "mxint8", "nvfp4"])
def test_block_scaled_tensor(name):
    blocks = get_group_format(name)
    values = np.random.default_rng(8).standard_normal((3, 160)).astype(np.float32)
    encoded = blocks.encode(values)
    per_row = 160 // blocks.block_size
    layout = group_layout(name)
    data = pack_groups(layout, Groups(encoded.codes.reshape(-1, blocks.block_size),
                                      scales=encoded.scale_codes.reshape(-1)), per_row)
    size = sum(-(-(n + n * blocks.block_size * blocks.element.bits // 8) // 4) * 4
               for n in [4] * (per_row // 4) + [per_row % 4] if n)
    assert data.shape == (3 * size,)
    found = unpack_groups(layout, data, np.full(3 * per_row, blocks.block_size), per_row)
    decoded = blocks.decode(found.codes.reshape(3, 160), found.scales.reshape(3, per_row), encoded.tensor_scale)
    np.testing.assert_array_equal(decoded, blocks.decode(*encoded))


@pytest.mark.parametrize("name", ["ternary", "int3", "fp4", "fp6_e3m2"])
def test_quantised_tensor(name):
    """Rows of 300 weights in groups of 128, the last one of 44."""
    tensor = np.random.default_rng(9).standard_normal((5, 300)).astype(np.float32)
    codes = rtn(tensor, get_format(name), axis=0).codes
    padded = np.zeros((5, 384), codes.dtype)
    padded[:, :300] = codes
    lengths = np.tile([128, 128, 44], 5)
    layout = group_layout(name, bundle=2)
    data = pack_groups(layout, Groups(padded.reshape(15, 128), lengths, scales=np.arange(15)), 3)
    found = unpack_groups(layout, data, lengths, 3)
    np.testing.assert_array_equal(found.codes.reshape(5, 384)[:, :300], codes)
    assert found.scales.tolist() == list(range(15))
    np.testing.assert_array_equal(weight_type(name).decode(found.codes).reshape(5, 384)[:, :300],
                                  get_format(name).decode(codes))
