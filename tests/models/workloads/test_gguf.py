"""GGUF files: metadata and directory, every type of block against a slow decoder and the gguf package, damage."""

import struct
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from gguf_files import TYPES, gguf_bytes, item, number, random_blocks, slow_values, string, weight

from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import gguf_blocks
from bitkiln.models.workloads.gguf import read_gguf
from bitkiln.models.workloads.smollm import find_smollm

QUANTISED = [name for name in TYPES if name not in ("f32", "f16", "bf16")]
SAMPLE = [("general.architecture", "string", "llama"), ("a.count", "uint32", 7),
          ("a.list", ("array", "int16"), [1, -2]), ("a.names", ("array", "string"), ["x", "yz"])]


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "model.gguf"
        path.write_bytes(content)
        return path
    return write


def two_tensors():
    return [("a.weight", "f32", (2, 3), np.arange(6, dtype="<f4").tobytes()),
            ("b.weight", "q8_0", (2, 32), random_blocks("q8_0", 2, 1).tobytes())]


# The file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 64])
def test_directory(written, version, alignment):
    tensors = two_tensors()
    file = read_gguf(written(gguf_bytes(SAMPLE, tensors, version, alignment)))
    assert (file.version, file.alignment) == (version, alignment)
    assert list(file.tensors) == ["a.weight", "b.weight"]
    a, b = file.tensors.values()
    assert (a.type, a.shape, a.bytes, b.type, b.shape, b.bytes) == ("f32", (2, 3), 24, "q8_0", (2, 32), 68)
    assert a.offset % alignment == b.offset % alignment == 0
    for name, _, _, raw in tensors:
        assert file.raw(name).tobytes() == raw
    assert not file.raw("a.weight").flags.writeable
    np.testing.assert_array_equal(file.tensor("a.weight"), [[0, 1, 2], [3, 4, 5]])
    assert repr(file) == f"<GgufFile model.gguf: version {version}, 2 tensors>"


def test_metadata_of_every_type(written):
    values = {"uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768, "uint32": 2**32 - 1, "int32": -2**31,
              "uint64": 2**64 - 1, "int64": -2**63, "float32": 0.5, "float64": 0.1, "bool": True, "string": "zwölf\n"}
    pairs = [(f"k.{kind}", kind, value) for kind, value in values.items()]
    pairs += [(f"l.{kind}", ("array", kind), [value, value]) for kind, value in values.items()]
    pairs += [("empty", ("array", "string"), []), ("nested", ("array", ("array", "uint8")), [[1, 2], []])]
    file = read_gguf(written(gguf_bytes(pairs)))
    assert len(file.metadata) == len(pairs) == 26
    for kind, value in values.items():
        found = file.metadata[f"k.{kind}"]
        assert found == value and type(found) is type(value)
        several = file.metadata[f"l.{kind}"]
        assert list(several) == [value, value]
        assert isinstance(several, tuple) if kind == "string" else several.dtype == np.dtype(kind)
    assert file.metadata["empty"] == ()
    assert [list(part) for part in file.metadata["nested"]] == [[1, 2], []]


def test_files_end_with_their_last_byte(written):
    """No padding behind the last thing, and names of the greatest length."""
    for pairs in ([], SAMPLE, [("a", "string", "last")], [("a", ("array", "uint8"), [1, 2])]):
        content = header(0, len(pairs)) + b"".join(pair(*each) for each in pairs)
        assert len(read_gguf(written(content)).metadata) == len(pairs)
    name, key = "n" * 64, "k" * 65535
    file = read_gguf(written(gguf_bytes([(key, "uint8", 1)], [(name, "f32", (1,), bytes(4))])))
    assert list(file.tensors) == [name] and list(file.metadata) == [key]


def test_typed_metadata(written):
    file = read_gguf(written(gguf_bytes(SAMPLE + [("a.flag", "bool", True)])))
    assert file.value("a.count", int) == 7 and file.value("a.flag", bool) is True
    assert file.value("a.missing", int, 3) == 3
    with pytest.raises(BitkilnError, match=r"missing metadata at .*: got 'no such key', expected a.cont"):
        file.value("a.cont", int)
    for key, kind in (("a.count", str), ("a.flag", int), ("a.names", int)):
        with pytest.raises(BitkilnError, match=f"wrong metadata at .* {key}: got '.*', expected {kind.__name__}"):
            file.value(key, kind)


def test_float_tensors(written):
    halves = np.arange(1 << 16, dtype="<u2")
    tensors = [("half", "f16", (256, 256), halves.tobytes()), ("brain", "bf16", (1 << 16,), halves.tobytes())]
    file = read_gguf(written(gguf_bytes((), tensors)))
    np.testing.assert_array_equal(file.tensor("half").reshape(-1), halves.view(np.float16).astype(np.float32))
    bits = file.tensor("brain").view(np.uint32)
    np.testing.assert_array_equal(bits, halves.astype(np.uint32) << 16)
    with pytest.raises(BitkilnError, match=r"tensor type is not decoded at .*half: got 'f16', expected q4_0, q4_1"):
        file.integers("half")


def test_missing_tensor(written):
    file = read_gguf(written(gguf_bytes((), two_tensors())))
    with pytest.raises(BitkilnError, match=r"no such tensor at .*: got 'c.weight'[^\n]*\nhelp: did you mean"):
        file.tensor("c.weight")


def test_type_that_is_not_decoded(written):
    content = bytearray(gguf_bytes((), [("w", "q8_0", (1, 64), bytes(68))]))
    at = content.index(struct.pack("<I", 8), 24 + 9 + 4 + 16)
    content[at:at + 4] = struct.pack("<I", 39)   # mxfp4: 2 blocks of 17 bytes
    file = read_gguf(written(bytes(content)))
    assert (file.tensors["w"].type, file.tensors["w"].bytes) == ("mxfp4", 34)
    for method in (file.tensor, file.integers):
        with pytest.raises(BitkilnError, match="tensor type is not decoded at .*w: got 'mxfp4'"):
            method("w")


# Blocks --------------------------------------------------------------------------------------------


def blocks_of(kind):
    """Random blocks and how many of them; the first one is all zeros."""
    count = 60 if TYPES[kind][1] == 32 else 6
    data = random_blocks(kind, count, 5)
    data[0] = 0
    return data, count


@pytest.mark.parametrize("kind", QUANTISED)
def test_values_of_blocks(written, kind):
    """float32 is the exact value rounded once; the integer form multiplies out to the exact value."""
    weights = TYPES[kind][1]
    data, count = blocks_of(kind)
    columns = count // 2 * weights
    exact = slow_values(kind, data.tobytes())
    assert len(exact) == 2 * columns and len(set(exact)) > 3
    file = read_gguf(written(gguf_bytes((), [("w", kind, (2, columns), data.tobytes())])))
    found = file.tensor("w")
    assert found.shape == (2, columns) and found.dtype == np.float32
    assert [Fraction(v) for v in found.reshape(-1).tolist()] == [Fraction(float(rounded(v))) for v in exact]

    blocks = file.integers("w")
    assert blocks.codes.shape == (2, columns) and blocks.codes.dtype == blocks.scales.dtype == np.int8
    assert blocks.scales.shape == blocks.mins.shape == (2, columns // blocks.sub)
    assert blocks.d.shape == blocks.dmin.shape == (2, count // 2) and blocks.block == weights
    values = blocks.values()
    assert values.dtype == np.float64
    assert [Fraction(v) for v in values.reshape(-1).tolist()] == exact
    for n in range(2 * columns):
        block, i = divmod(n, weights)
        row, column = divmod(n, columns)
        got = (blocks.d.reshape(-1)[block], blocks.scales[row, column // blocks.sub], blocks.codes[row, column],
               blocks.dmin.reshape(-1)[block], blocks.mins[row, column // blocks.sub])
        assert got == weight(kind, data[block].tobytes(), i)


def rounded(value):
    """A Fraction as float32, to nearest even, without floats in between."""
    if value == 0:
        return np.float32(0)
    magnitude = abs(value)
    exponent = max(magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - 1, -126)
    while Fraction(2) ** (exponent + 1) <= magnitude:
        exponent += 1
    unit = Fraction(2) ** (exponent - 23)
    return np.float32(float(round(magnitude / unit) * unit) * (1 if value > 0 else -1))


@pytest.mark.parametrize("kind", [kind for kind in QUANTISED if kind != "q2_k"])
def test_where_values_round(kind):
    """The test above sees roundings where there is a minimum (q2_k: hardly any); without one float32 is exact."""
    exact = slow_values(kind, blocks_of(kind)[0].tobytes())
    inexact = sum(Fraction(float(rounded(v))) != v for v in exact)
    assert inexact > 10 if kind in ("q4_1", "q5_1", "q4_k", "q5_k") else inexact == 0


@pytest.mark.parametrize("kind", QUANTISED)
def test_pack_is_the_inverse(kind):
    data = random_blocks(kind, 50, 9)
    fields = gguf_blocks.unpack_blocks(kind, data)
    again = gguf_blocks.pack_blocks(kind, fields)
    if kind == "tq1_0":  # 13 of 256 bytes are no packer's
        assert (again != data).mean() < 0.12
        data, again = again, gguf_blocks.pack_blocks(kind, gguf_blocks.unpack_blocks(kind, again))
    np.testing.assert_array_equal(again, data)


def test_pack_refuses():
    fields = gguf_blocks.unpack_blocks("q4_k", random_blocks("q4_k", 2, 1))
    pack = gguf_blocks.pack_blocks
    with pytest.raises(BitkilnError, match="wrong fields at q4_k: got 'codes', expected d, dmin, scales, mins, codes"):
        pack("q4_k", {"codes": fields["codes"]})
    with pytest.raises(BitkilnError, match="out of range at q4_k scales: got 64, expected 0 to 63"):
        pack("q4_k", fields | {"scales": np.full((2, 8), 64)})
    with pytest.raises(BitkilnError, match=r"wrong field at q4_k codes: got 'int64 \(2, 8\)', expected integers"):
        pack("q4_k", fields | {"codes": np.zeros((2, 8), int)})
    with pytest.raises(BitkilnError, match="out of range at q6_k scales: got -129, expected -128 to 127"):
        fields_of_q6 = gguf_blocks.unpack_blocks("q6_k", random_blocks("q6_k", 2, 1))
        pack("q6_k", fields_of_q6 | {"scales": np.full((2, 16), -129)})
    with pytest.raises(BitkilnError, match="out of range at tq1_0 codes: got 3, expected 0 to 2"):
        pack("tq1_0", {"d": np.zeros((2, 1)), "codes": np.full((2, 256), 3)})
    with pytest.raises(BitkilnError, match=r"not blocks of this type at q4_k: got 'uint8 \(2, 143\)'"):
        gguf_blocks.unpack_blocks("q4_k", np.zeros((2, 143), np.uint8))
    with pytest.raises(BitkilnError, match="unknown block type at block type: got 'q4_x'"):
        gguf_blocks.unpack_blocks("q4_x", np.zeros((2, 144), np.uint8))


def test_infinite_factor(written):
    data = random_blocks("q4_0", 1, 3)
    data[0, :2] = 0x00, 0x7C
    values = read_gguf(written(gguf_bytes((), [("w", "q4_0", (32,), data.tobytes())]))).tensor("w")
    codes = [int(data[0, 2 + i % 16]) >> (4 * (i // 16)) & 15 for i in range(32)]
    for value, code in zip(values, codes, strict=True):
        assert np.isnan(value) if code == 8 else value == (np.inf if code > 8 else -np.inf)


@pytest.mark.parametrize("kind", QUANTISED)
def test_against_the_gguf_package(kind):
    package = pytest.importorskip("gguf", reason="the gguf package is not installed (development only)")
    size = package.GGMLQuantizationType[kind.upper()]
    assert size.value == BLOCKS[kind].number
    assert package.GGML_QUANT_SIZES[size] == (BLOCKS[kind].weights, BLOCKS[kind].bytes)
    data = np.random.default_rng(4).integers(0, 256, (500, BLOCKS[kind].bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = package.quants.dequantize(data, size).reshape(500, -1)
    ours = gguf_blocks.decode_blocks(kind, data)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    number = ~np.isnan(ours)
    assert number.sum() > 100 * BLOCKS[kind].weights
    np.testing.assert_array_equal(ours[number].view(np.uint32), theirs[number].view(np.uint32))


def test_file_of_the_gguf_package(tmp_path):
    """What its writer writes, types of metadata included."""
    package = pytest.importorskip("gguf", reason="the gguf package is not installed (development only)")
    path = tmp_path / "theirs.gguf"
    writer = package.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_array("a.words", ["one", "zwei"])
    writer.add_array("a.numbers", [1, 2, 3])
    weights = np.random.default_rng(2).standard_normal((4, 64)).astype(np.float32)
    writer.add_tensor("w", weights)
    kind = package.GGMLQuantizationType.Q4_1
    writer.add_tensor("q", package.quants.quantize(weights, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    assert file.value("general.architecture", str) == "llama" and file.value("llama.block_count", int) == 3
    assert file.metadata["a.words"] == ("one", "zwei") and file.metadata["a.numbers"].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(file.tensor("w"), weights)
    assert np.abs(file.tensor("q") - weights).max() < 0.3


def test_smollm_file():
    """Every tensor of a real file; against the gguf package where that is installed too."""
    try:
        path = find_smollm()
    except BitkilnError as error:
        pytest.skip(error.help)
    file = read_gguf(path)
    kinds = Counter((info.type, info.shape) for info in file.tensors.values())
    assert kinds == {("f32", (576,)): 61, ("q4_1", (1536, 576)): 60, ("q4_1", (192, 576)): 60,
                     ("q4_1", (576, 576)): 60, ("q4_1", (576, 1536)): 30, ("q8_0", (49152, 576)): 1}
    package = pytest.importorskip("gguf", reason="the gguf package is not installed (development only)")
    theirs = package.GGUFReader(path).tensors
    assert [tensor.name for tensor in theirs] == list(file.tensors)
    for tensor in theirs:
        ours = file.tensor(tensor.name)
        values = package.quants.dequantize(tensor.data, tensor.tensor_type).reshape(ours.shape)
        np.testing.assert_array_equal(ours.view(np.uint32), np.ascontiguousarray(values).view(np.uint32))
        if tensor.name.startswith(("blk.0.", "token")) and file.info(tensor.name).type != "f32":
            np.testing.assert_array_equal(file.integers(tensor.name).values(np.float32), ours)


# Damage --------------------------------------------------------------------------------------------


def test_every_truncation_is_one_error(written):
    whole = gguf_bytes(SAMPLE, two_tensors())
    assert len(whole) > 300
    for length in range(len(whole)):
        with pytest.raises(BitkilnError, match="truncated GGUF file|not a GGUF file|empty file"):
            read_gguf(written(whole[:length]))
    assert len(read_gguf(written(whole)).tensors) == 2


def test_flipped_bits_are_errors_or_harmless(written):
    """Any byte replaced by any of a few values: a BitkilnError or a file whose tensors can be read."""
    whole = gguf_bytes(SAMPLE, two_tensors())
    directory = whole.index(b"b.weight") + 8 + 4 + 16 + 4 + 8
    refused = 0
    for at in range(directory):
        for value in (0, 1, 127, 255, whole[at] ^ 0x20):
            damaged = bytearray(whole)
            damaged[at] = value
            try:
                file = read_gguf(written(bytes(damaged)))
                for info in file.tensors.values():
                    if info.type in TYPES:
                        assert file.tensor(info.name).shape == info.shape
            except BitkilnError:
                refused += 1
    assert refused > directory


def header(tensors, pairs, version=3):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


LONG = b"\0" * 400


def pairs(*raw):
    """A file of these metadata pairs, much zero behind."""
    return header(0, len(raw)) + b"".join(raw) + LONG


def pair(key, kind, value):
    return string(key) + struct.pack("<I", number(kind)) + item(kind, value)


def unfinished(kind, *words):
    """Key ``a`` and a type, then words of 8 bytes."""
    return string("a") + struct.pack(f"<I{len(words)}Q", kind, *words)


def tensors(*raw):
    """A file of these directory entries, much zero behind."""
    return header(len(raw), 0) + b"".join(raw) + LONG


def entry(name, shape, kind=0, offset=0):
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


NESTED = string("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9


@pytest.mark.parametrize("content, message", [
    (b"", "empty file at .*: expected the bytes GGUF and a version"),
    (b"GGU", "truncated GGUF file"),
    (b"PK\3\4" + LONG, "not a GGUF file at .*: got b'PK"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer instead of a GGUF file"),
    (header(0, 0, 1), "unknown GGUF version at .*: got 1, expected little-endian version 2 or 3"),
    (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian GGUF file"),
    (header(0, 1 << 60) + LONG, "truncated GGUF file at .*: got '400 bytes left', expected 1152921504606846976 meta"),
    (header(1 << 60, 0) + LONG, "truncated GGUF file at .*: got '400 bytes left', expected 0 metadata pairs and 1152"),
    (pairs(struct.pack("<Q", 1 << 63)), "bad length at .*: got 9223372036854775808, expected 1 to 65535 bytes"),
    (pairs(struct.pack("<Q", 0)), "bad length at .*: got 0, expected 1 to 65535 bytes for key 0"),
    (pairs(pair("ä", "uint8", 1)), "bad metadata key at .*: got 'ä', expected different keys of ASCII"),
    (pairs(pair(b"\xff", "uint8", 1)), "bad string at .*: got 'invalid start byte', expected UTF-8 in key 0"),
    (pairs(pair("a", "uint8", 1), pair("a", "uint8", 1)), "metadata key given twice at .*: got 'a'"),
    (pairs(unfinished(13)), "unknown value type at .*: got 13, expected 0 to 12 for a"),
    (pairs(unfinished(7, 2)), "bad truth value at .*: got 2, expected 0 or 1 in a"),
    (pairs(unfinished(8, 1 << 40)), "truncated GGUF file .*: got '400 bytes left', expected 1099511627776 for a"),
    (pairs(unfinished(9, 8 + (1 << 63), 1 << 50)), "truncated GGUF file .*expected .* items of a"),
    (pairs(NESTED), "arrays nested too deep at .*: got 5, expected at most 4 in item 0 of"),
    (pairs(pair("general.alignment", "uint32", 24)), "bad alignment at .*general.alignment: got '24'"),
    (pairs(pair("general.alignment", "uint32", 4)), "bad alignment .*: got '4', expected a power of two, 8 to 2.20"),
    (pairs(pair("general.alignment", "uint32", 1 << 21)), "bad alignment .*: got '2097152'"),
    (pairs(pair("general.alignment", "bool", True)), "bad alignment .*: got 'True'"),
    (pairs(pair("general.alignment", "string", "x")), "bad alignment at .*general.alignment: got 'x'"),
    (tensors(entry("x" * 65, (1,))), "bad length at .*: got 65, expected 1 to 64 bytes for the name of tensor 0"),
    (tensors(entry("x", (1,)), entry("x", (1,))), "tensor given twice at .*: got 'x', expected different names"),
    (tensors(string("x") + struct.pack("<I", 5)), "bad number of dimensions at .* x: got 5, expected 1 to 4"),
    (tensors(entry("x", ())), "bad number of dimensions at .* x: got 0"),
    (tensors(entry("x", (4, 0))), r"bad shape at .* x: got '\(4, 0\)', expected sizes of 1 and more"),
    (tensors(entry("x", (40, 2), 12)), r"bad shape at .* x: got '\(40, 2\)', .* the first a multiple of 256"),
    (tensors(entry("x", (1,), 4)), "unknown tensor type at .* x: got 4, expected a type of ggml"),
    (tensors(entry("x", (1,), 0, 31)), "data is not aligned at .* x: got 31, expected an offset that is"),
    (tensors(entry("x", (9,)), entry("y", (1,), 0, 32)), "tensors overlap at .* y: got 128, expected an offset of 132"),
    (tensors(entry("x", (1 << 62, 1 << 62))), "truncated GGUF file at .* x: got .*for the data of x"),
    (tensors(entry("x", (1,), 0, 1 << 60)), "truncated GGUF file at .* x: got .*for the data of x"),
])
def test_bad_files(written, content, message):
    with pytest.raises(BitkilnError, match=message) as caught:
        read_gguf(written(content))
    assert caught.value.render().count("error:") == 1


def test_no_such_file(tmp_path):
    for path in (tmp_path / "absent.gguf", tmp_path):
        with pytest.raises(BitkilnError, match="cannot read at .*expected a GGUF file"):
            read_gguf(path)
