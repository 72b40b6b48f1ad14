"""Reading .npy, .npz and .safetensors: what is there comes back, what is damaged is one clear error."""

import json
import struct

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.quantize.safetensors import read_safetensors
from bitkiln.models.quantize.tensors import read_array, read_tensors

RNG = np.random.default_rng(4)
MATRIX = RNG.standard_normal((3, 5)).astype(np.float32)


def safetensors(entries: dict, body: bytes, *, metadata: dict | None = None) -> bytes:
    """A file of this header and these bytes."""
    header = json.dumps(({"__metadata__": metadata} if metadata else {}) | entries).encode()
    return struct.pack("<Q", len(header)) + header + body


def entry(dtype: str, shape: list, start: int, stop: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def message(call) -> str:
    with pytest.raises(BitkilnError) as caught:
        call()
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_npy_and_npz(tmp_path):
    np.save(tmp_path / "w.npy", MATRIX)
    found = read_tensors(tmp_path / "w.npy")
    assert list(found) == ["w"] and found["w"].dtype == np.float64 and np.array_equal(found["w"], MATRIX)
    np.savez(tmp_path / "n.npz", a=MATRIX, ids=np.arange(4), b=np.arange(6).reshape(2, 3), flag=np.ones((2, 2), bool),
             name=np.array([["x"]]), big=MATRIX.astype(">f8"))
    assert list(read_tensors(tmp_path / "n.npz")) == ["a", "b", "big"]     # real, two axes or more
    assert np.array_equal(read_tensors(tmp_path / "n.npz", "ids")["ids"], np.arange(4.0))   # one by name
    np.savez_compressed(tmp_path / "c.npz", a=MATRIX)
    assert np.array_equal(read_array(tmp_path / "c.npz", "calibration"), MATRIX)
    np.save(tmp_path / "f.npy", np.asfortranarray(MATRIX))
    assert np.array_equal(read_array(tmp_path / "f.npy", "calibration"), MATRIX)
    assert message(lambda: read_array(tmp_path / "n.npz", "calibration")) == \
        f"error: several tensors as calibration at {tmp_path / 'n.npz'}: got 3, expected one"


def test_safetensors_dtypes(tmp_path):
    """Every dtype of the format, BF16 and FP8 decoded, metadata ignored."""
    half = RNG.integers(0, 1 << 15, (2, 3)).astype(np.uint16) & 0x7F7F
    octets = RNG.integers(0, 0x78, (2, 3)).astype(np.uint8)
    arrays = {"F64": MATRIX.astype("<f8"), "F32": MATRIX, "F16": MATRIX.astype("<f2"), "I64": np.array([[-5, 1 << 40]]),
              "I32": np.array([[-7, 8]], "<i4"), "I16": np.array([[-7, 8]], "<i2"), "I8": np.array([[-7, 8]], "i1"),
              "U64": np.array([[7]], "<u8"), "U32": np.array([[7]], "<u4"), "U16": np.array([[7]], "<u2"),
              "U8": np.array([[7, 200]], "u1"), "BOOL": np.array([[True, False]]), "BF16": half, "F8_E4M3": octets,
              "F8_E5M2": octets}
    entries, body = {}, b""
    for kind, array in arrays.items():
        entries[f"w.{kind}"] = entry(kind, list(array.shape), len(body), len(body) + array.nbytes)
        body += array.tobytes()
    path = tmp_path / "m.safetensors"
    path.write_bytes(safetensors(entries, body, metadata={"format": "pt"}))
    found = read_safetensors(path)
    coded = {"BF16": "bf16", "F8_E4M3": "fp8_e4m3", "F8_E5M2": "fp8_e5m2"}
    for kind, array in arrays.items():
        expected = get_format(coded[kind]).decode(array) if kind in coded else array
        assert np.array_equal(found[f"w.{kind}"], expected) and found[f"w.{kind}"].shape == array.shape
    bf16 = np.array(struct.unpack("<6f", (half.astype("<u4").ravel() << 16).tobytes())).reshape(2, 3)
    assert np.array_equal(found["w.BF16"], bf16)
    assert "w.BOOL" not in read_tensors(path) and len(read_tensors(path)) == 14
    assert list(read_tensors(path, "w.F16")) == ["w.F16"]
    path.write_bytes(safetensors({"scalar": entry("F32", [], 0, 4), "none": entry("F32", [0, 4], 4, 4)}, b"\0" * 4))
    assert read_safetensors(path)["scalar"].shape == () and read_safetensors(path)["none"].shape == (0, 4)


GOOD = safetensors({"w": entry("F32", [3, 5], 0, 60)}, MATRIX.tobytes())
DAMAGED = {
    "nothing": (b"", "got 'an empty file', expected a complete .safetensors file"),
    "few bytes": (b"\x01\0\0", "got '3 bytes', expected a header length of 8 bytes"),
    "cut header": (GOOD[:20], "got 'a header of 65 bytes', expected at most 12"),
    "cut data": (GOOD[:-1], "'w': got 'offsets [0, 60]', expected two rising numbers up to 59"),
    "more data": (GOOD + b"x", "got '1 bytes after the last tensor', expected none"),
    "endless header": (b"\xff" * 8 + GOOD[8:], "got 'a header of 18446744073709551615 bytes', expected at most 125"),
    "no JSON": (GOOD.replace(b'"dtype"', b'"dtype;'), "a header that is no JSON ("),
    "no UTF-8": (GOOD.replace(b'"w"', b'"\xff"'), "a header that is no JSON ("),
    "a list": (struct.pack("<Q", 2) + b"[]", "got 'a header of another kind', expected a JSON object"),
    "deep": (struct.pack("<Q", 200000) + b"[" * 200000, "got 'a header that is no JSON ("),
    "name twice": (struct.pack("<Q", 15) + b'{"w":1,  "w":2}', "got 'a header that is no JSON (a name twice)'"),
    "no entry": (safetensors({"w": 5}, b""), "'w': got 'an incomplete entry', expected dtype, shape and data_offsets"),
    "no offsets": (safetensors({"w": {"dtype": "F32", "shape": [1]}}, b""), "'w': got 'an incomplete entry'"),
    "dtype": (safetensors({"w": entry("F31", [1], 0, 4)}, b"\0" * 4), "'w': got 'dtype F31', expected F64, F32, F16"),
    "dtype list": (safetensors({"w": entry(["F32"], [1], 0, 4)}, b"\0" * 4), "'w': got \"dtype ['F32']\", expected"),
    "shape": (safetensors({"w": entry("F32", [-1, -1], 0, 4)}, b"\0" * 4), "'w': got 'shape [-1, -1]', expected a "),
    "shape text": (safetensors({"w": entry("F32", ["1"], 0, 4)}, b"\0" * 4), "'w': got \"shape ['1']\", expected a "),
    "true": (safetensors({"w": entry("F32", [True], 0, 4)}, b"\0" * 4), "'w': got 'shape [True]', expected a list"),
    "size": (safetensors({"w": entry("F32", [2], 0, 4)}, b"\0" * 4), "'w': got '4 bytes', expected 8 for F32 [2]"),
    "huge": (safetensors({"w": entry("F32", [1 << 62, 1 << 62], 0, 4)}, b"\0" * 4), "'w': got '4 bytes', expected "),
    "offsets": (safetensors({"w": entry("F32", [1], 4, 0)}, b"\0" * 4), "'w': got 'offsets [4, 0]', expected two "),
    "overlap": (safetensors({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)}, b"\0" * 4),
                "'b': got 'data at byte 0', expected byte 4, without gap or overlap"),
    "gap": (safetensors({"a": entry("F32", [1], 4, 8)}, b"\0" * 8),
            "'a': got 'data at byte 4', expected byte 0, without gap or overlap"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_safetensors(case, tmp_path):
    raw, expected = DAMAGED[case]
    path = tmp_path / "m.safetensors"
    path.write_bytes(raw)
    found = message(lambda: read_tensors(path))
    assert found.startswith(f"error: damaged file at {path}") and expected in found


def test_no_byte_of_a_header_can_crash(tmp_path):
    """Every byte changed in four ways: the tensor, or a BitkilnError."""
    path, refused = tmp_path / "m.safetensors", 0
    for position in range(len(GOOD) - 60):
        for change in (0x01, 0x10, 0x80, 0xFF):
            path.write_bytes(GOOD[:position] + bytes([GOOD[position] ^ change]) + GOOD[position + 1:])
            try:
                assert next(iter(read_safetensors(path).values())).nbytes == 60
            except BitkilnError:
                refused += 1
    assert refused > 200


def test_damaged_arrays(tmp_path):
    np.save(tmp_path / "w.npy", MATRIX)
    raw = (tmp_path / "w.npy").read_bytes()
    path = tmp_path / "d.npy"
    for cut in (0, 1, 7, 40, len(raw) - 1):
        path.write_bytes(raw[:cut])
        assert message(lambda: read_tensors(path)).startswith(f"error: damaged file at {path}: got ")
    # A header that promises more than there is, and more than there could be.
    for shape in (b"(3, 6), ", b"(9999999999999, 9)"):
        path.write_bytes(raw.replace(b"(3, 5), }" + b" " * (len(shape) - 8), shape + b"}", 1))
        assert "damaged file" in message(lambda: read_tensors(path))
    np.savez(tmp_path / "n.npz", a=MATRIX)
    packed = (tmp_path / "n.npz").read_bytes()
    path = tmp_path / "d.npz"
    for cut in (1, 4, 100, len(packed) - 1):
        path.write_bytes(packed[:cut])
        assert message(lambda: read_tensors(path)).startswith(f"error: damaged file at {path}: got ")
    (tmp_path / "z.npy").write_bytes(packed)
    assert "expected a single array\nhelp: rename it to .npz" in message(lambda: read_tensors(tmp_path / "z.npy"))
    (tmp_path / "a.npz").write_bytes(raw)
    assert "got 'a single array', expected a .npz archive" in message(lambda: read_tensors(tmp_path / "a.npz"))


def test_nothing_is_unpickled(tmp_path):
    """Object arrays and plain pickles are refused; what they would run does not run."""
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))
    np.save(tmp_path / "o.npy", np.array([[Bomb()]], object), allow_pickle=True)
    np.savez(tmp_path / "o.npz", w=np.array([[Bomb()]], object))
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("o.npy", "o.npz", "p.npy", "p.npz"):
        found = message(lambda name=name: read_tensors(tmp_path / name))
        assert found == (f"error: array of Python objects at {tmp_path / name}: got 'pickled data', expected numbers: "
                         "pickles can run code and are never read\nhelp: save it as float32, e.g. numpy.save(path, "
                         "array.astype('float32'))")
    assert not (tmp_path / "ran").exists()


def test_other_refusals(tmp_path):
    np.savez(tmp_path / "n.npz", ids=np.arange(3), bad=np.array([[1.0, np.nan]]))
    np.savez(tmp_path / "e.npz")
    np.savez(tmp_path / "i.npz", ids=np.arange(3))
    (tmp_path / "w.txt").write_text("1 2 3")
    (tmp_path / "d.npy").mkdir()
    cases = {
        "none.npy": "no such file at {}",
        "d.npy": "not a file at {}: got 'a folder', expected .npy, .npz, .safetensors",
        "w.txt": "unknown kind of file at {}: got '.txt', expected .npy, .npz, .safetensors",
        "e.npz": "no tensor to quantise at {}: expected a real-valued array of two or more axes\n"
                 "help: --tensor takes any by name",
        "i.npz": "no tensor to quantise at {}: expected a real-valued array of two or more axes\n"
                 "help: --tensor takes any by name",
    }
    for name, expected in cases.items():
        assert message(lambda name=name: read_tensors(tmp_path / name)) == "error: " + expected.format(tmp_path / name)
    assert message(lambda: read_tensors(tmp_path / "n.npz")) == \
        "error: NaN or Inf in tensor at n.npz bad[0, 1]: got nan, expected finite values (1 of 2 are not)"
    assert message(lambda: read_tensors(tmp_path / "n.npz", "idx")) == \
        f"error: no such tensor at {tmp_path / 'n.npz'}: got 'idx', expected a tensor of the file\n" \
        "help: did you mean ids?"
