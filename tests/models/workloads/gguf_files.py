"""GGUF files for tests, and a decoder that is written down weight by weight."""

import struct
from fractions import Fraction

import numpy as np

NUMBERS = {"uint8": (0, "B"), "int8": (1, "b"), "uint16": (2, "H"), "int16": (3, "h"), "uint32": (4, "I"),
           "int32": (5, "i"), "float32": (6, "f"), "bool": (7, "?"), "uint64": (10, "Q"), "int64": (11, "q"),
           "float64": (12, "d")}
# Number of a tensor type, weights of a block, bytes of a block: as the specification lists them.
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20),
         "q5_0": (6, 32, 22), "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "q2_k": (10, 256, 84), "q3_k": (11, 256, 110),
         "q4_k": (12, 256, 144), "q5_k": (13, 256, 176), "q6_k": (14, 256, 210), "iq4_nl": (20, 32, 18),
         "tq1_0": (34, 256, 54), "tq2_0": (35, 256, 66)}
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def string(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def item(kind, value):
    """A value without its type; ``kind`` is a name, or ("array", kind of the items)."""
    if kind == "string":
        return string(value)
    if isinstance(kind, tuple):
        return struct.pack("<IQ", number(kind[1]), len(value)) + b"".join(item(kind[1], v) for v in value)
    return struct.pack(f"<{NUMBERS[kind][1]}", value)


def number(kind):
    return 9 if isinstance(kind, tuple) else 8 if kind == "string" else NUMBERS[kind][0]


def gguf_bytes(metadata=(), tensors=(), version=3, alignment=32):
    """A file of ``(key, kind, value)`` and ``(name, type, shape in NumPy's order, bytes)``."""
    pairs = [*metadata, *([("general.alignment", "uint32", alignment)] if alignment != 32 else [])]
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, kind, value in pairs:
        out += string(key) + struct.pack("<I", number(kind)) + item(kind, value)
    data = b""
    for name, kind, shape, raw in tensors:
        data += b"\0" * (-len(data) % alignment)
        out += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], TYPES[kind][0], len(data))
        data += raw
    return out + b"\0" * (-len(out) % alignment) + data


def half(raw, at):
    return struct.unpack_from("<e", raw, at)[0]


def nibble(raw, at, high):
    return raw[at] >> (4 if high else 0) & 15


def six(raw, at, j):
    """Scale and minimum ``j`` of eight in the twelve bytes at ``at``."""
    if j < 4:
        return raw[at + j] & 63, raw[at + 4 + j] & 63
    return (nibble(raw, at + 4 + j, False) | (raw[at + j - 4] >> 6) << 4,
            nibble(raw, at + 4 + j, True) | (raw[at + j] >> 6) << 4)


def signed(byte):
    return byte - 256 if byte > 127 else byte


def weight(kind, raw, i):
    """Weight ``i`` of a block: (d, scale, code, dmin, minimum), w = d * scale * code - dmin * minimum."""
    none = (0.0, 0)
    if kind in ("q4_0", "iq4_nl"):
        q = nibble(raw, 2 + i % 16, i >= 16)
        return half(raw, 0), 1, q - 8 if kind == "q4_0" else IQ4_NL[q], *none
    if kind == "q4_1":
        return half(raw, 0), 1, nibble(raw, 4 + i % 16, i >= 16), -half(raw, 2), 1
    if kind in ("q5_0", "q5_1"):
        at = 2 if kind == "q5_0" else 4
        fifth = struct.unpack_from("<I", raw, at)[0] >> i & 1
        q = nibble(raw, at + 4 + i % 16, i >= 16) | fifth << 4
        return (half(raw, 0), 1, q - 16, *none) if kind == "q5_0" else (half(raw, 0), 1, q, -half(raw, 2), 1)
    if kind == "q8_0":
        return half(raw, 0), 1, signed(raw[2 + i]), *none
    if kind == "q2_k":
        q = raw[16 + i // 128 * 32 + i % 32] >> i % 128 // 32 * 2 & 3
        return half(raw, 80), raw[i // 16] & 15, q, half(raw, 82), raw[i // 16] >> 4
    if kind == "q3_k":
        q = raw[32 + i // 128 * 32 + i % 32] >> i % 128 // 32 * 2 & 3
        q -= 0 if raw[i % 32] >> i // 32 & 1 else 4
        j = i // 16
        scale = nibble(raw, 96 + j % 8, j >= 8) | (raw[104 + j % 4] >> j // 4 * 2 & 3) << 4
        return half(raw, 108), scale - 32, q, *none
    if kind in ("q4_k", "q5_k"):
        scale, minimum = six(raw, 4, i // 32)
        q = nibble(raw, (16 if kind == "q4_k" else 48) + i // 64 * 32 + i % 32, i % 64 >= 32)
        q |= (raw[16 + i % 32] >> i // 32 & 1) << 4 if kind == "q5_k" else 0
        return half(raw, 0), scale, q, half(raw, 2), minimum
    if kind == "q6_k":
        q = nibble(raw, i // 128 * 64 + i % 64, i % 128 >= 64)
        q |= (raw[128 + i // 128 * 32 + i % 32] >> i % 128 // 32 * 2 & 3) << 4
        return half(raw, 208), signed(raw[192 + i // 16]), q - 32, *none
    if kind == "tq1_0":
        byte, digit = (raw[i % 32], i // 32) if i < 160 else (raw[32 + i % 16], (i - 160) // 16) if i < 240 else \
            (raw[48 + i % 4], (i - 240) // 4)
        return half(raw, 52), 1, (byte * 3 ** digit % 256 * 3 >> 8) - 1, *none
    assert kind == "tq2_0"
    return half(raw, 64), 1, (raw[i // 128 * 32 + i % 32] >> i % 128 // 32 * 2 & 3) - 1, *none


def slow_values(kind, raw):
    """Exact values (Fractions) of the blocks in ``raw``; their ``d`` must be finite."""
    _, weights, size = TYPES[kind]
    values = []
    for at in range(0, len(raw), size):
        for i in range(weights):
            d, scale, code, dmin, minimum = weight(kind, raw[at:at + size], i)
            values.append(Fraction(d) * scale * code - Fraction(dmin) * minimum)
    return values


def random_blocks(kind, count, seed):
    """Blocks of random bits whose half-precision numbers are finite."""
    _, _, size = TYPES[kind]
    data = np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)
    for at in {"q2_k": (81, 83), "q3_k": (109,), "q6_k": (209,), "tq1_0": (53,), "tq2_0": (65,), "q4_1": (1, 3),
               "q5_1": (1, 3), "q4_k": (1, 3), "q5_k": (1, 3)}.get(kind, (1,)):
        data[:, at] &= 0xBB  # exponents of 27 and less, and not all ones
    return data
