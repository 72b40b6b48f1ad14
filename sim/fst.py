"""FST waves without development packages, and the signal lists that open beside them.

Verilator's FST writer includes ``zlib.h`` and ``lz4.h``, which few machines have installed. The two headers
below offer the five functions it calls and store the data uncompressed, in valid zlib and LZ4 format, so
that every viewer reads the file; it is merely larger.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bitkiln.hw.emit import Port

__all__ = ["HEADERS", "write_signal_lists"]

LZ4 = """\
// LZ4 blocks of literals only: token, length in steps of 255, bytes.
#pragma once
#include <cstring>
static inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }
static inline int LZ4_compress_default(const char* from, char* to, int size, int) {
    unsigned char* out = reinterpret_cast<unsigned char*>(to);
    *out++ = static_cast<unsigned char>((size < 15 ? size : 15) << 4);
    if (size >= 15) {
        int rest = size - 15;
        for (; rest >= 255; rest -= 255) *out++ = 255;
        *out++ = static_cast<unsigned char>(rest);
    }
    std::memcpy(out, from, static_cast<size_t>(size));
    return static_cast<int>(out + size - reinterpret_cast<unsigned char*>(to));
}
"""

ZLIB = """\
// zlib streams of stored blocks only: header, blocks of up to 65535 bytes, Adler-32.
#pragma once
#include <cstring>
typedef unsigned char Byte;
typedef Byte Bytef;
typedef unsigned int uInt;
typedef unsigned long uLong;
typedef uLong uLongf;
#define Z_OK 0
static inline uLong compressBound(uLong size) { return size + (size / 65535 + 1) * 5 + 6; }
static inline int compress2(Bytef* to, uLongf* length, const Bytef* from, uLong size, int) {
    Bytef* out = to;
    *out++ = 0x78;
    *out++ = 0x01;
    uLong at = 0;
    do {
        const uLong part = size - at < 65535 ? size - at : 65535;
        *out++ = at + part == size;
        *out++ = part & 255;
        *out++ = part >> 8;
        *out++ = ~part & 255;
        *out++ = (~part >> 8) & 255;
        if (part) std::memcpy(out, from + at, part);
        out += part;
        at += part;
    } while (at < size);
    uLong low = 1, high = 0;
    for (uLong i = 0; i < size; ++i) {
        low = (low + from[i]) % 65521;
        high = (high + low) % 65521;
    }
    *out++ = high >> 8;
    *out++ = high & 255;
    *out++ = low >> 8;
    *out++ = low & 255;
    *length = static_cast<uLongf>(out - to);
    return Z_OK;
}
"""

HEADERS = {"lz4.h": LZ4, "zlib.h": ZLIB}


def write_signal_lists(waves: Path, top: str, ports: Iterable[Port]) -> tuple[Path, Path]:
    """Write ``<waves>.gtkw`` (GTKWave) and ``<waves>.sucl`` (Surfer command file) with all ports of ``top``.

    Open with ``gtkwave waves.gtkw`` or ``surfer -c waves.sucl waves.fst``.
    """
    gtkwave, surfer = waves.with_suffix(".gtkw"), waves.with_suffix(".sucl")
    lines = [f'[dumpfile] "{waves.name}"', "[timestart] 0", "@28"]
    commands = []
    for port in ports:
        bits = f"[{port.width - 1}:0]" if port.width > 1 else ""
        if port.width > 1:
            lines.append("@420" if port.signed else "@22")  # signed decimal, hexadecimal
        else:
            lines.append("@28")
        lines.append(f"{top}.{port.name}{bits}")
        commands.append(f"variable_add {top}.{port.name}")
    gtkwave.write_text("\n".join(lines) + "\n")
    surfer.write_text("\n".join([*commands, "zoom_fit"]) + "\n")
    return gtkwave, surfer
