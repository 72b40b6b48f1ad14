"""Writers of point-cloud files for the tests, from the formats' descriptions; straightforward, nothing is checked."""

import io
import struct

import numpy as np

__all__ = ["SAMPLES", "compress_lzf", "npy_bytes", "pcd_bytes", "ply_bytes"]

PLY_NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint", "f4": "float",
             "f8": "double"}


def compress_lzf(data):
    """Greedy: the longest match that starts with the same three bytes as last seen."""
    out, literal, seen, at = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literal), 32):
            part = literal[start:start + 32]
            out.append(len(part) - 1)
            out.extend(part)
        literal.clear()
    while at < len(data):
        key = bytes(data[at:at + 3])
        back = at - seen.get(key, -1) if len(key) == 3 and key in seen else 0
        seen[key] = at
        if not 1 <= back <= 8192:
            literal.append(data[at])
            at += 1
            continue
        length = 3
        while length < 264 and at + length < len(data) and data[at + length] == data[at + length - back]:
            length += 1
        flush()
        high = (back - 1) >> 8
        if length < 9:
            out.append((length - 2) << 5 | high)
        else:
            out += bytes([7 << 5 | high, length - 9])
        out.append((back - 1) & 255)
        at += length
    flush()
    return bytes(out)


def pcd_bytes(fields, arrays, encoding="binary", *, height=1, drop=(), extra="", version="0.7"):
    """``fields``: (name, dtype, count); ``arrays``: one (N,) or (N, count) for each."""
    arrays = [np.asarray(array).astype("<" + np.dtype(dtype).str[1:]).reshape(len(array), -1)
              for array, (_, dtype, _) in zip(arrays, fields, strict=True)]
    points = len(arrays[0])
    lines = ["# .PCD v0.7 - Point Cloud Data file format", f"VERSION {version}",
             "FIELDS " + " ".join(name for name, _, _ in fields),
             "SIZE " + " ".join(str(np.dtype(dtype).itemsize) for _, dtype, _ in fields),
             "TYPE " + " ".join(np.dtype(dtype).kind.upper() for _, dtype, _ in fields),
             "COUNT " + " ".join(str(count) for _, _, count in fields),
             f"WIDTH {points // height}", f"HEIGHT {height}", "VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {points}",
             f"DATA {encoding}"]
    head = "".join(line + "\n" for line in lines if line.split()[0] not in drop) if not extra else \
        "".join(line + "\n" for line in [*lines[:-1], extra, lines[-1]])
    if encoding == "ascii":
        rows = (" ".join(repr(value) for array in arrays for value in array[row].tolist()) for row in range(points))
        return (head + "".join(row + "\n" for row in rows)).encode()
    if encoding == "binary":
        return head.encode() + b"".join(array[row].tobytes() for row in range(points) for array in arrays)
    plain = b"".join(array.T.tobytes() for array in arrays)
    packed = compress_lzf(plain)
    return head.encode() + struct.pack("<II", len(packed), len(plain)) + packed


def ply_bytes(elements, encoding="ascii", newline="\n", comments=()):
    """``elements``: (name, [(property, dtype) or (property, length dtype, dtype)], rows of values or of lists)."""
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[encoding]
    lines = ["ply", f"format {encoding} 1.0", *comments]
    body = []
    for name, properties, rows in elements:
        lines.append(f"element {name} {len(rows)}")
        lines += [f"property {PLY_NAMES[each[1]]} {each[0]}" if len(each) == 2 else
                  f"property list {PLY_NAMES[each[1]]} {PLY_NAMES[each[2]]} {each[0]}" for each in properties]
        for row in rows:
            words = []
            for each, value in zip(properties, row, strict=True):
                if len(each) == 3:
                    words.append((each[1], len(value)))
                    words += [(each[2], item) for item in value]
                else:
                    words.append((each[1], value))
            if order:
                body += [np.array(value, dtype).astype(order + dtype).tobytes() for dtype, value in words]
            else:
                body.append((" ".join(repr(np.array(value, dtype).tolist()) for dtype, value in words) +
                             newline).encode())
    return newline.join([*lines, "end_header", ""]).encode() + b"".join(body)


def npy_bytes(array, version=(1, 0)):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


def _samples():
    """Small files of every kind, for fuzzing: (ending, bytes)."""
    random = np.random.default_rng(7)
    xyz = random.normal(size=(6, 3)).astype("f4")
    fields = [("x", "f4", 1), ("y", "f4", 1), ("z", "f4", 1), ("_", "u1", 3), ("intensity", "u2", 1)]
    arrays = [*xyz.T, np.zeros((6, 3)), np.arange(6)]
    for encoding in ("ascii", "binary", "binary_compressed"):
        yield ".pcd", pcd_bytes(fields, arrays, encoding)
        image = np.where(np.arange(6)[:, None] == 2, np.nan, xyz)
        yield ".pcd", pcd_bytes(fields, [*image.T, *arrays[3:]], encoding, height=2)
    vertex = ("vertex", [("x", "f4"), ("y", "f8"), ("z", "f4"), ("i", "u1")],
              [(*row, at) for at, row in enumerate(xyz)])
    listed = ("vertex", [("x", "f4"), ("y", "f4"), ("n", "u1", "i2"), ("z", "f4")],
              [(x, y, list(range(at % 3)), z) for at, (x, y, z) in enumerate(xyz)])
    face = ("face", [("vertex_indices", "u1", "i4"), ("flags", "u1")], [([0, 1, 2], 1), ([3, 4, 5, 0], 2)])
    for encoding in ("ascii", "binary_little_endian", "binary_big_endian"):
        for elements in ([vertex, face], [face, vertex], [listed]):
            yield ".ply", ply_bytes(elements, encoding)
    named = np.zeros(6, [("y", "f8"), ("x", "f4"), ("z", "i2"), ("intensity", "u1")])
    for array in (xyz, xyz.astype(">f8"), xyz.reshape(2, 3, 3), np.asfortranarray(xyz), named):
        yield ".npy", npy_bytes(array)
    yield ".bin", random.normal(size=(5, 4)).astype("<f4").tobytes()


SAMPLES = tuple(_samples())
