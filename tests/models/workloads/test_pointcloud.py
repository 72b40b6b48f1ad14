"""Readers of point clouds: every layout they must take, every kind of damage, and no error but ours."""

import struct
import sys
import warnings

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pointcloud_files import SAMPLES, compress_lzf, npy_bytes, pcd_bytes, ply_bytes

from bitkiln.models.errors import MISSING_TOOL, BitkilnError
from bitkiln.models.workloads.pointcloud import FORMATS, PointCloud, parse_points, read_points
from bitkiln.models.workloads.pointcloud_pcd import decompress_lzf

XYZ = [("x", "f4", 1), ("y", "f4", 1), ("z", "f4", 1)]
ENCODINGS = ("ascii", "binary", "binary_compressed")
PLY_ENCODINGS = ("ascii", "binary_little_endian", "binary_big_endian")


@pytest.fixture
def read(tmp_path):
    def write_and_read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return read_points(path, **options)
    return write_and_read


def refused(read, name, content, what, **options):
    with pytest.raises(BitkilnError) as caught:
        read(name, content, **options)
    error = caught.value
    first, *rest = str(error).split("\n")
    assert error.exit_code == 2 and name in first and len(rest) <= 1 and len(str(error)) < 800
    assert what in str(error), str(error)


def values(count, seed=1, dtype="f4"):
    return np.random.default_rng(seed).normal(0, 20, (count, 3)).astype(dtype)


# Records of float32 --------------------------------------------------------------------------------


def test_bin_by_its_size(read):
    kitti, nuscenes = values(4).repeat(4, 1)[:, :4], values(3).repeat(5, 1)[:, :5]
    cloud = read("a.bin", kitti.astype("<f4").tobytes())
    np.testing.assert_array_equal(cloud.points, kitti[:, :3])
    np.testing.assert_array_equal(cloud.intensity, kitti[:, 3])
    assert cloud.points.dtype == cloud.intensity.dtype == np.float64 and len(cloud) == 4
    cloud = read("a.bin", nuscenes.astype("<f4").tobytes())
    np.testing.assert_array_equal(cloud.points, nuscenes[:, :3])
    assert len(cloud) == 3 and "a.bin" in cloud.source and "3 points with intensity" in repr(cloud)


def test_bin_of_both_sizes(read):
    """KITTI's unless the fifth numbers can only be rings; the name and the caller decide before that."""
    rows = np.random.default_rng(3).normal(size=(20, 5)).astype("<f4")
    assert len(read("a.bin", rows.tobytes())) == 25
    assert len(read("a.pcd.bin", rows.tobytes())) == 20
    assert len(read("a.bin", rows.tobytes(), format="nuscenes")) == 20
    rows[:, 4] = np.arange(20) * 3
    assert len(read("a.bin", rows.tobytes())) == 20
    assert len(read("a.bin", rows.tobytes(), format="kitti")) == 25
    for wrong in (-1, 256, 1.5):
        rows[7, 4] = wrong
        assert len(read("a.bin", rows.tobytes())) == 25
    whole = np.arange(80, dtype="<f4")
    assert len(read("a.bin", whole.tobytes())) == 20    # all whole: nothing tells rings from coordinates


def test_bin_with_named_numbers(read):
    rows = values(4).repeat(2, 1).astype("<f4")    # x x y y z z
    cloud = read("a.bin", rows.tobytes(), fields=("time", "y", "x", "i", "z", "_"))
    np.testing.assert_array_equal(cloud.points, rows[:, [2, 1, 4]])
    np.testing.assert_array_equal(cloud.intensity, rows[:, 3])
    assert read("b.dat", rows.tobytes(), format="bin", fields="xyz").intensity is None
    refused(read, "a.bin", rows.tobytes(), "missing coordinates", fields=("x", "y", "a", "b", "c", "d"))
    refused(read, "a.bin", rows.tobytes(), "x, y and z once each", fields=("x", "y", "z", "z", "c", "d"))
    refused(read, "a.bin", rows.tobytes(), "a multiple of 28", fields=("x", "y", "z", "a", "b", "c", "d"))
    with pytest.raises(BitkilnError, match="contradictory options at fields: got 'x y z', expected x y z intensity of"):
        read("a.bin", rows.tobytes(), format="kitti", fields="xyz")


def test_bin_of_no_size(read):
    refused(read, "a.bin", bytes(17), "got '17 bytes', expected a multiple of 16 (x y z intensity) or of 20")
    refused(read, "a.bin", bytes(20), "a multiple of 16: x y z intensity", format="kitti")
    refused(read, "a.bin", b"", "empty file")


# PCD -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_pcd_types_and_order(read, encoding, dtype):
    random = np.random.default_rng(5)
    xyz = random.integers(0, 100, (40, 3))
    fields = [("rgb", "u4", 1), ("z", dtype, 1), ("hist", "f4", 7), ("_", "u1", 5), ("Intensity", dtype, 1),
              ("x", dtype, 1), ("_", "u1", 3), ("y", dtype, 1)]
    strength = random.integers(0, 100, 40)
    arrays = [np.full(40, 2**32 - 1), xyz[:, 2], random.normal(size=(40, 7)), np.zeros((40, 5)), strength, xyz[:, 0],
              np.zeros((40, 3)), xyz[:, 1]]
    cloud = read("a.pcd", pcd_bytes(fields, arrays, encoding))
    np.testing.assert_array_equal(cloud.points, xyz)
    np.testing.assert_array_equal(cloud.intensity, strength)
    assert cloud.no_return == cloud.dropped == 0


def test_pcd_compressed_without_its_padding(read):
    """The library leaves padding out when it compresses, other writers do not."""
    xyz = values(9)
    fields = [XYZ[0], ("_", "u1", 4), *XYZ[1:]]
    with_padding = pcd_bytes(fields, [xyz[:, 0], np.ones((9, 4)), xyz[:, 1], xyz[:, 2]], "binary_compressed")
    np.testing.assert_array_equal(read("a.pcd", with_padding).points, xyz)
    head = with_padding[:with_padding.index(b"DATA")] + b"DATA binary_compressed\n"
    packed = compress_lzf(xyz.T.tobytes())
    without = head + struct.pack("<II", len(packed), 108) + packed
    np.testing.assert_array_equal(read("a.pcd", without).points, xyz)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pcd_header_variants(read, encoding):
    xyz = values(6)
    for options in ({"drop": ("COUNT", "VIEWPOINT", "VERSION")}, {"drop": ("HEIGHT",)}, {"drop": ("POINTS",)},
                    {"drop": ("WIDTH", "HEIGHT")}, {"extra": "# remark\n\n"}, {"version": ".7"}, {"height": 3}):
        content = pcd_bytes(XYZ, xyz.T, encoding, **options)
        np.testing.assert_array_equal(read("a.pcd", content).points, xyz)
    if encoding != "ascii":
        content += bytes(4096) + b"\n"    # the library fills its files up to a page
    else:
        content = content.replace(b"\n", b"\r\n\r\n") + b"\r\n"
    np.testing.assert_array_equal(read("a.pcd", content).points, xyz)
    np.testing.assert_array_equal(read("a.txt", content).points, xyz)    # known by its first bytes


@pytest.mark.parametrize("old, new, what", [
    (b"FIELDS x y z", b"FIELDS x y w", "missing coordinates"), (b"FIELDS x y z", b"FIELDS x y y", "given twice"),
    (b"FIELDS x y z\n", b"", "no FIELDS"), (b"DATA binary\n", b"", "one of VERSION, FIELDS"),
    (b"SIZE 4 4 4", b"SIZE 4 4", "got '2 values', expected 3, one for each field"),
    (b"SIZE 4 4 4", b"SIZE 4 4 3", "4 or 8 bytes for type F"), (b"TYPE F F F", b"TYPE F F Q", "F or I or U"),
    (b"COUNT 1 1 1", b"COUNT 1 1 2", "1 for z"), (b"COUNT 1 1 1", b"COUNT 1 0 1", "1 or more for y"),
    (b"COUNT 1 1 1", b"COUNT 1 1 9999999", "at most 1048576 bytes"), (b"WIDTH 6", b"WIDTH 5", "WIDTH x HEIGHT = 5"),
    (b"WIDTH 6", b"WIDTH -6", "a whole number"), (b"WIDTH 6", b"WIDTH 6 1", "2 values"),
    (b"POINTS 6", b"POINTS 6e0", "got '6e0'"), (b"POINTS 6", b"POINTS 6\nPOINTS 6", "POINTS again"),
    (b"POINTS 6", b"POINTS 7", "WIDTH x HEIGHT = 6"), (b"WIDTH 6\nHEIGHT 1\n", b"WIDTH 0\n", "WIDTH x HEIGHT = 0"),
    (b"WIDTH 6\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 6", b"WIDTH 0", "no points at"),
    (b"WIDTH 6\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 6\n", b"", "no POINTS and no WIDTH"),
    (b"WIDTH 6\nHEIGHT 1", b"WIDTH 6000000000\nHEIGHT 1000", "WIDTH x HEIGHT = 6000000000000"),
    (b"WIDTH 6\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 6", b"WIDTH 600000000000000", "72 bytes left"),
    (b"DATA binary", b"DATA packed", "ascii or binary or binary_compressed"), (b"VERSION 0.7", b"VERSION 9", "0.7"),
    (b"VERSION", b"COLOUR 3\nVERSION", "got 'COLOUR 3'"), (b"VERSION", b"\xff\xfe\nVERSION", "one of VERSION"),
    (b"DATA binary\n", b"DATA ascii\n", "PCD file"),
])
def test_pcd_wrong_header(read, old, new, what):
    content = pcd_bytes(XYZ, values(6).T)
    assert content.count(old) == 1
    refused(read, "a.pcd", content.replace(old, new), what)


def test_pcd_wrong_points(read):
    xyz = values(6)
    content = pcd_bytes(XYZ, xyz.T)
    refused(read, "a.pcd", content[:-1], "got '71 bytes left', expected 72 for 6 points of 12 bytes")
    refused(read, "a.pcd", content + b"x", "points behind the last one")
    text = pcd_bytes(XYZ, xyz.T, "ascii")
    refused(read, "a.pcd", text[:text.rindex(b"\n", 0, -1) + 1], "truncated PCD file")
    refused(read, "a.pcd", text + b"1 2 3\n", "points behind the last one")
    start = text.index(b"ascii\n") + 6
    refused(read, "a.pcd", text[:start] + b"1 2\n" + text[start:], "line 12: got '2 values', expected 3")
    for word in (b"1_0", b"one", b"0x1p3", b"\xff"):
        refused(read, "a.pcd", text[:start] + b"1 2 " + word + text[text.index(b"\n", start):],
                "a.pcd line 12, value 3: got ")
    packed = pcd_bytes(XYZ, xyz.T, "binary_compressed")
    start = packed.index(b"compressed\n") + 11
    refused(read, "a.pcd", packed[:start + 7], "8 for the sizes of the compressed points")
    refused(read, "a.pcd", packed[:-1], "for the compressed points")
    refused(read, "a.pcd", packed + b"x", "points behind the last one")
    refused(read, "a.pcd", packed[:start + 4] + struct.pack("<I", 71) + packed[start + 8:], "72 bytes for 6 points")
    refused(read, "a.pcd", packed[:start + 8] + bytes([255]) + packed[start + 9:], "damaged LZF data")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=6), st.integers(1, 120)), max_size=12))
@example([])
@example([(b"a", 600), (b"bcd", 100)])
def test_lzf_there_and_back(parts):
    plain = b"".join(part * count for part, count in parts)
    assert decompress_lzf(compress_lzf(plain), len(plain)) == plain


def test_lzf_by_hand():
    """Literal, short reference that repeats, long reference, reference to the farthest byte."""
    assert decompress_lzf(b"\x01ab" b"\x40\x01", 6) == b"ababab"
    assert decompress_lzf(b"\x00a" b"\xe0\x05\x00", 15) == b"a" * 15
    assert decompress_lzf(b"\x02abc" b"\x20\x00", 6) == b"abcccc"
    far = bytes(range(256)) * 32
    stored = b"".join(b"\x1f" + far[at:at + 32] for at in range(0, 8192, 32))
    assert decompress_lzf(stored + b"\x3f\xff", 8195) == far + far[:3]


@pytest.mark.parametrize("data, size, what", [
    (b"\x01a", 2, "got '1 bytes left', expected 2 literal bytes"), (b"\x00a\x20", 4, "a whole reference"),
    (b"\x00a\xe0\x00", 10, "a whole reference"), (b"\x00a\x20\x01", 4, "a reference 2 bytes back"),
    (b"\x01ab", 1, "more bytes"), (b"\x01ab", 3, "got '2 bytes', expected 3 in all"), (b"", 1, "0 compressed bytes"),
    (b"\x00a", 1 << 31, "or more for 2147483648")])
def test_lzf_damage(data, size, what):
    with pytest.raises(BitkilnError) as caught:
        decompress_lzf(data, size, "file", 100)
    assert what in str(caught.value) and "damaged LZF data at file byte 10" in str(caught.value)


# PLY -----------------------------------------------------------------------------------------------

FACE = ("face", [("vertex_indices", "u1", "i4"), ("flags", "u2")], [([0, 1, 2], 1), ([3, 4, 5, 0, 1], 2), ([], 3)])
EDGE = ("edge", [("a", "i4"), ("b", "f8")], [(1, 2.5)] * 3)


def vertices(xyz, types=("f4", "f4", "f4"), extra=()):
    return ("vertex", [*zip("xyz", types, strict=True), *((name, "u1") for name in extra)],
            [(*row.tolist(), *range(1, len(extra) + 1)) for row in xyz])


@pytest.mark.parametrize("encoding", PLY_ENCODINGS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_ply_elements_in_any_order(read, encoding, newline):
    xyz = values(7)
    vertex = vertices(xyz, extra=("red", "scalar_Intensity"))
    for elements in ([vertex], [vertex, FACE], [FACE, vertex, EDGE], [EDGE, FACE, vertex], [("empty", [], []), vertex]):
        cloud = read("a.ply", ply_bytes(elements, encoding, newline, ["comment by hand", "obj_info num_cols 7"]))
        np.testing.assert_array_equal(cloud.points, xyz)
        np.testing.assert_array_equal(cloud.intensity, np.full(7, 2))


@pytest.mark.parametrize("encoding", PLY_ENCODINGS)
def test_ply_types_and_lists(read, encoding):
    random = np.random.default_rng(2)
    for types in (("i1", "u1", "i2"), ("u2", "i4", "u4"), ("f8", "f4", "u1")):
        xyz = random.integers(0, 120, (5, 3))
        np.testing.assert_array_equal(read("a.ply", ply_bytes([vertices(xyz, types)], encoding)).points, xyz)
    rows = [(x, [1] * at, y, z, [2.5] * (3 - at)) for at, (x, y, z) in enumerate(values(4).tolist())]
    properties = [("x", "f4"), ("n", "u1", "i2"), ("y", "f4"), ("z", "f4"), ("w", "i4", "f8")]
    cloud = read("a.ply", ply_bytes([FACE, ("vertex", properties, rows), EDGE], encoding))
    np.testing.assert_array_equal(cloud.points, values(4))


@pytest.mark.parametrize("old, new, what", [
    (b"ply\n", b"plx\n", "expected ply"), (b"format ascii 1.0", b"format ascii 2.0", "and 1.0"),
    (b"format ascii 1.0", b"format text 1.0", "one of ascii, binary_little_endian"),
    (b"element vertex 4", b"element points 4", "an element vertex"), (b"element vertex 4", b"element vertex", "NAME"),
    (b"element vertex 4", b"element vertex -4", "a number of rows"),
    (b"element vertex 4", b"element vertex 0", "no points"),
    (b"element vertex 4", b"element vertex 999999999999999", "PLY file"),
    (b"element vertex 4\n", b"", "then property TYPE NAME"),
    (b"element face 3", b"element vertex 3", "element vertex again"),
    (b"property float x", b"property half x", "property TYPE NAME"),
    (b"property float x", b"property list float int x", "property list TYPE TYPE NAME"),
    (b"property float x", b"property list uchar int x", "a number for x"),
    (b"property float x", b"property float y", "missing coordinates"),
    (b"end_header", b"end", "NAME ROWS"),
])
@pytest.mark.parametrize("encoding", PLY_ENCODINGS)
def test_ply_wrong_header(read, old, new, what, encoding):
    content = ply_bytes([vertices(values(4)), FACE], encoding)
    old, new = (text.replace(b"ascii", encoding.encode()) for text in (old, new))
    assert content.count(old) == 1
    refused(read, "a.ply", content.replace(old, new), what)


def test_ply_wrong_rows(read):
    text = ply_bytes([FACE, vertices(values(4))])
    refused(read, "a.ply", text[:text.index(b"end_header\n") + 11], "3 rows missing")
    refused(read, "a.ply", text[:-30], "PLY file")
    refused(read, "a.ply", text[:text.index(b"end_")], "got 'the end of the file', expected end_header")
    little = ply_bytes([FACE, vertices(values(4))], "binary_little_endian")
    start = little.index(b"end_header\n") + 11
    refused(read, "a.ply", little[:-1], "got '47 bytes left', expected 48 for 4 vertices of 12 bytes")
    refused(read, "a.ply", little[:start] + b"\xff" + little[start + 1:], "1020 for the element face")
    refused(read, "a.ply", little[:start + 16], "the element face")
    listed = ply_bytes([("vertex", [("n", "i1", "f4"), ("x", "f4"), ("y", "f4"), ("z", "f4")], [([1.0], 1, 2, 3)])],
                       "binary_little_endian")
    at = listed.index(b"end_header\n") + 11
    refused(read, "a.ply", listed[:at] + b"\xff" + listed[at + 1:], "got -1, expected 0 or more")
    text = ply_bytes([("vertex", [("n", "i1", "f4"), ("x", "f4"), ("y", "f4"), ("z", "f4")], [([1.0], 1, 2, 3)] * 2)])
    refused(read, "a.ply", text.replace(b"1 1.0 1.0", b"-1 1.0 1.0"), "a length for n")
    refused(read, "a.ply", text.replace(b"1 1.0 1.0", b"2 1.0 1.0"), "got '5 values', expected 6")
    refused(read, "a.ply", text[:-20], "PLY file")


# NumPy ---------------------------------------------------------------------------------------------


def test_npy_shapes_and_types(read):
    xyz = values(12)
    for dtype in ("<f4", ">f4", "f8", "f2", "i2", "u1", ">i8"):
        array = np.abs(xyz).astype(dtype)
        for version in ((1, 0), (2, 0)):
            np.testing.assert_array_equal(read("a.npy", npy_bytes(array, version)).points, array)
    np.testing.assert_array_equal(read("a.npy", npy_bytes(np.asfortranarray(xyz))).points, xyz)
    np.testing.assert_array_equal(read("a.npy", npy_bytes(xyz.reshape(3, 4, 3))).points, xyz)
    wide = np.concatenate([xyz, np.arange(12)[:, None], np.ones((12, 2))], axis=1)
    for width in (4, 5, 6):
        cloud = read("a.npy", npy_bytes(wide[:, :width]))
        np.testing.assert_array_equal(cloud.points, xyz)
        assert cloud.intensity is None if width == 6 else (cloud.intensity == np.arange(12)).all()
    cloud = read("a.npy", npy_bytes(wide), fields=("y", "z", "x", "a", "b", "i"))
    np.testing.assert_array_equal(cloud.points, wide[:, [2, 0, 1]])
    named = np.zeros((3, 4), [("Z", "f8"), ("t", "M8[s]"), ("X", "i4"), ("Y", "f4"), ("reflectivity", "u2")])
    named["X"], named["Y"], named["Z"], named["reflectivity"] = 1, 2, 3, 4
    for array in (named, named.reshape(-1)):
        cloud = read("a.npy", npy_bytes(array))
        np.testing.assert_array_equal(cloud.points, np.tile([1.0, 2, 3], (12, 1)))
        assert (cloud.intensity == 4).all()


def test_npy_wrong(read):
    good = npy_bytes(values(6))
    refused(read, "a.npy", b"\x93NUMPX" + good[6:], "wrong header of a NumPy file")
    refused(read, "a.npy", good[:40], "wrong header of a NumPy file")
    refused(read, "a.npy", good[:-1], "got '71 bytes left', expected 72 for an array of shape (6, 3)")
    refused(read, "a.npy", good + b"x", "bytes behind the array")
    refused(read, "a.npy", good.replace(b"(6, 3)", b"(9**9)"), "wrong header of a NumPy file")
    refused(read, "a.npy", good.replace(b"(6, 3), ", b"(6,-3), "), "NumPy file")
    refused(read, "a.npy", good.replace(b"(6, 3), }   ", b"(9999, 3), }"), "truncated NumPy file")
    refused(read, "a.npy", npy_bytes(values(6)[:, :2]), "(N, 3 or more)")
    refused(read, "a.npy", npy_bytes(values(6)[0]), "(N, 3 or more)")
    refused(read, "a.npy", npy_bytes(values(0)), "no points")
    refused(read, "a.npy", npy_bytes(values(6).astype(complex)), "integers or floats")
    refused(read, "a.npy", npy_bytes(values(6) > 0), "integers or floats")
    refused(read, "a.npy", npy_bytes(np.array([["a", "b", "c"]])), "integers or floats")
    refused(read, "a.npy", good.replace(b"'<f4'", b"'<U0'"), "got '<U0', expected numbers")
    refused(read, "a.npy", npy_bytes(np.array([[None] * 3])), "Python objects")
    refused(read, "a.npy", npy_bytes(values(6)), "wrong number of fields", fields="xyzi")
    named = np.zeros(2, [("x", "f4"), ("y", "f4"), ("z", "S3")])
    refused(read, "a.npy", npy_bytes(named), "numbers for z")
    refused(read, "a.npy", npy_bytes(named[["x", "y"]].astype([("x", "f4"), ("y", "f4")])), "missing coordinates")
    refused(read, "a.npy", npy_bytes(named), "none: it has x y z", fields="xyz")
    refused(read, "a.npy", npy_bytes(np.zeros((1, 1, 1), named.dtype)), "numbers for z")
    refused(read, "a.npy", npy_bytes(np.zeros((1, 1, 1), [(name, "f4") for name in "xyz"])), "(N,) or (H, W)")


# LAS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.las", "a.laz"])
def test_las(read, tmp_path, name):
    laspy = pytest.importorskip("laspy")
    xyz = np.round(values(50), 2) + [5e5, 5.4e6, 300.0]
    las = laspy.create(point_format=3)
    las.header.offsets, las.header.scales = xyz.min(0).round(), [0.01] * 3
    las.x, las.y, las.z, las.intensity = *xyz.T, np.arange(50)
    las.write(tmp_path / name)
    cloud = read_points(tmp_path / name)
    np.testing.assert_allclose(cloud.points, xyz, atol=1e-6)
    np.testing.assert_array_equal(cloud.intensity, np.arange(50))
    content = (tmp_path / name).read_bytes()
    refused(read, name, content[:107] + bytes(4) + content[111:], "no points")    # number of points, LAS 1.2
    for end in (4, 100, 300, len(content) - 40):
        refused(read, name, content[:end], "LAS file")
    random = np.random.default_rng(1)
    good = 0
    for _ in range(150):
        broken = bytearray(content)
        for at in random.integers(0, len(content), 3):
            broken[at] = random.integers(0, 256)
        good += survives(name, bytes(broken))
    assert 0 < good < 150    # damage to coordinates need not show


def test_las_without_the_package(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(BitkilnError, match="missing package at laspy") as caught:
        read("a.laz", b"LASF" + bytes(400))
    assert caught.value.exit_code == MISSING_TOOL and caught.value.help == "pip install 'bitkiln[pointclouds]'"
    refused(read, "a.las", b"LASX", "expected LASF")


# Points that are not finite ------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_return_in_an_image(read, encoding):
    xyz = values(12)
    xyz[[2, 7]] = np.nan
    cloud = read("a.pcd", pcd_bytes(XYZ, xyz.T, encoding, height=3))
    np.testing.assert_array_equal(cloud.points, np.delete(xyz, [2, 7], 0))
    assert (cloud.no_return, cloud.dropped) == (2, 0)
    content = pcd_bytes(XYZ, xyz.T, encoding)
    line = "line 14" if encoding == "ascii" else "point 2"
    refused(read, "a.pcd", content, f"a.pcd {line}: got '2 of 12, the first nan nan nan', expected finite")
    cloud = read("a.pcd", content, drop_nan=True)
    assert (len(cloud), cloud.no_return, cloud.dropped) == (10, 0, 2)
    xyz[5, 1], xyz[6, 2] = np.nan, np.inf    # in an image, too, these are no missing returns
    content = pcd_bytes(XYZ, xyz.T, encoding, height=3)
    refused(read, "a.pcd", content, "got '2 of 12, the first ")
    cloud = read("a.pcd", content, drop_nan=True)
    assert (len(cloud), cloud.no_return, cloud.dropped) == (8, 2, 2)
    xyz[:] = np.nan
    refused(read, "a.pcd", pcd_bytes(XYZ, xyz.T, encoding, height=3), "no points")
    refused(read, "a.pcd", pcd_bytes(XYZ, xyz.T, encoding), "no points", drop_nan=True)


def test_no_return_in_other_images(read):
    xyz = values(12)
    xyz[4] = np.nan
    assert read("a.npy", npy_bytes(xyz.reshape(3, 4, 3))).no_return == 1
    refused(read, "a.npy", npy_bytes(xyz), "1 of 12")
    refused(read, "a.npy", npy_bytes(xyz.reshape(1, 12, 3)), "1 of 12")
    info = ["obj_info num_cols 4", "obj_info num_rows 3"]
    for encoding in PLY_ENCODINGS:
        assert read("a.ply", ply_bytes([vertices(xyz)], encoding, comments=info)).no_return == 1
        refused(read, "a.ply", ply_bytes([vertices(xyz)], encoding), "1 of 12")
        refused(read, "a.ply", ply_bytes([vertices(xyz)], encoding, comments=[info[0], "obj_info num_rows 4"]), "1 of")
    records = np.concatenate([xyz, np.ones((12, 1))], 1).astype("<f4")
    refused(read, "a.bin", records.tobytes(), "point 4: got '1 of 12, the first nan nan nan 1'")
    records[4], records[5, 3] = 1, np.inf
    refused(read, "a.bin", records.tobytes(), "point 5: got '1 of 12")
    assert len(read("a.bin", records.tobytes(), drop_nan=True)) == 11


def test_signalling_nan(read):
    """NumPy warns when it converts one; here it is a NaN like any other."""
    xyz = values(6)
    xyz.view("u4")[3, 1] = 0x7F800001
    named = np.zeros(6, [(name, "f4") for name in "xyz"])
    named["y"] = xyz[:, 1]
    for name, content in (("a.bin", np.c_[xyz, xyz[:, :1]].tobytes()), ("a.npy", npy_bytes(xyz)),
                          ("a.npy", npy_bytes(named)), ("a.pcd", pcd_bytes(XYZ, xyz.T)),
                          ("a.pcd", pcd_bytes(XYZ, xyz.T, "binary_compressed")),
                          ("a.ply", ply_bytes([vertices(xyz)], "binary_little_endian")),
                          ("a.ply", ply_bytes([vertices(xyz)], "binary_big_endian"))):
        refused(read, name, content, "point 3: got '1 of 6")


# Any file ------------------------------------------------------------------------------------------


def test_files_that_are_none(read, tmp_path):
    for path in (tmp_path / "missing.pcd", tmp_path, tmp_path / "a\0b.pcd"):
        with pytest.raises(BitkilnError, match="^error: cannot read at "):
            read_points(path)
    refused(read, "a.pcd", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer")
    refused(read, "a.xyz", b"1 2 3\n", "unknown kind of file")
    refused(read, "a", b"1 2 3\n", "no ending")
    with pytest.raises(BitkilnError, match="unknown format of points .*: got 'plyy'.*\nhelp: did you mean ply"):
        read("a.ply", b"ply\n", format="plyy")
    refused(read, "a.ply", ply_bytes([vertices(values(4))]), "expected none for ply", fields="xyz")
    assert set(FORMATS) == {"bin", "kitti", "nuscenes", "pcd", "ply", "npy", "las"}
    assert len(read("a.anything", ply_bytes([vertices(values(4))]))) == 4
    assert len(read("a.anything", npy_bytes(values(4)))) == 4


def test_clouds_check_themselves():
    for points, intensity in ((np.zeros((0, 3)), None), (np.zeros((2, 2)), None), (np.zeros((2, 3)), np.zeros(3)),
                              (np.full((1, 3), np.nan), None)):
        with pytest.raises(BitkilnError):
            PointCloud(points, intensity, "test")


def survives(name, content):
    """Whether the file is read; any error but ours, and any warning, fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            cloud = parse_points(content, name)
        except BitkilnError as error:
            line, _, help = str(error).partition("\nhelp: ")
            without_laspy = error.exit_code == MISSING_TOOL and error.where == "laspy" and content.startswith(b"LASF")
            assert error.exit_code == 2 or without_laspy, error
            assert line.isprintable() and help.isprintable() and len(line) < 600, error
            return False
    assert len(cloud) and np.isfinite(cloud.points).all()
    return True


@pytest.mark.parametrize("number", range(len(SAMPLES)))
def test_every_truncation(number):
    ending, content = SAMPLES[number]
    good = [end for end in range(len(content)) if survives(f"a{ending}", content[:end])]
    assert survives(f"a{ending}", content)
    # Some ends leave a whole cloud: whole records, the last digits of a text, all before the faces.
    assert all(end % 16 == 0 or end % 20 == 0 if ending == ".bin" else end > len(content) - 60 for end in good)


words = st.sampled_from([b"0", b"-1", b"1e3", b"99999999999999999999", b"nan", b"inf", b"2147483648", b"4", b"8", b"_",
                         b"list", b"\n", b"", b"'O'", b"None", b"True", b"{}", b"((", b"'<f8'", b"double", b"\xff",
                         b"ascii", b"binary_little_endian", b"x", b"intensity"])


def damaged(content, edits):
    """Bytes overwritten, taken out, put in and repeated, and words of the header replaced."""
    for place, kind, patch, word in edits:
        at = int(place * len(content))
        if kind == 4:
            head = content[:400].split()
            content = content.replace(head[int(place * len(head))], word, 1) if head else content
        else:
            keep = content[at + len(patch):] if kind in (0, 1) else content[at:]
            content = content[:at] + (b"" if kind == 1 else patch if kind != 3 else content[at:at + 40]) + keep
    return content


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.binary(min_size=1, max_size=8),
                           words), min_size=1, max_size=6)
samples = st.sampled_from(range(len(SAMPLES)))


@settings(max_examples=1000, deadline=None)
@given(samples, edits)
def test_any_damage(number, edits):
    ending, content = SAMPLES[number]
    survives(f"a{ending}", damaged(content, edits))


@pytest.mark.slow
@settings(max_examples=30000, deadline=None)
@given(samples, edits)
def test_much_damage(number, edits):
    ending, content = SAMPLES[number]
    survives(f"a{ending}", damaged(content, edits))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([".bin", ".pcd", ".ply", ".npy", ".las", ""]),
       st.sampled_from([b"", b"ply\n", b"VERSION 0.7\n", b"\x93NUMPY\x01\x00", b"LASF"]), st.binary(max_size=200))
def test_noise(ending, magic, rest):
    survives(f"a{ending}", magic + rest)
