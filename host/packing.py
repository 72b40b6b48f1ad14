"""Matrices to the beats of a core's streams, and beats to results.

A beat is one row of a ``(beats, bus_bits / 8)`` uint8 array, the first byte in the least significant bits of
``tdata``. Rows of a matrix start on a beat, elements are packed tight with the first one in the low bits, and what
is left of the last beat is zero. The datasheet of the core (Streams) has the order of panels and tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitkiln.models.design import Job, MatmulDesign, Mode
from bitkiln.models.design.matmul import RECORD_BITS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format, get_group_format
from bitkiln.models.golden.matmul import Records

__all__ = ["Beats", "Records", "a_beats", "beats_of", "best_order", "c_beats", "column_tiles", "keep_bytes",
           "operand_rows", "pack_a", "pack_c", "pack_results", "pack_rows", "pack_w", "record_rows", "result_beats",
           "result_bits", "row_tiles", "unpack_results", "unpack_rows", "w_beats"]

RECORD_BYTES = RECORD_BITS // 8


@dataclass(frozen=True)
class Beats:
    """Beats of each stream of one job."""

    a: int
    w: int
    c: int
    results: int

    @property
    def streamed(self) -> int:
        """Operand beats: what the order of a job changes."""
        return self.a + self.w


# Shapes ------------------------------------------------------------------------------------------


def row_tiles(design: MatmulDesign, job: Job) -> int:
    """Tiles along M."""
    return -(-job.m // design.rows)


def column_tiles(design: MatmulDesign, job: Job) -> int:
    """Tiles along N."""
    return -(-job.n // design.columns)


def result_bits(design: MatmulDesign, job: Job) -> int:
    """Width of one result on the bus."""
    return design.raw_bits if job.rule == "raw" else get_format(job.output).bits


def _mode(design: MatmulDesign, job: Job) -> Mode:
    return design.pe.modes[design.pe.index(job.mode, "job.mode")]


def _row_beats(design: MatmulDesign, elements: int, bits: int) -> int:
    return -(-elements * bits // design.bus_bits)


def _blocks(job: Job) -> int:
    """Scales of one row, 0 without block scales."""
    return 0 if job.block is None else -(-job.k // get_group_format(job.block).block_size)


def _record_beats(design: MatmulDesign) -> int:
    return max(1, RECORD_BITS // design.bus_bits)


def a_beats(design: MatmulDesign, job: Job, rows: int) -> int:
    """Beats of an A panel of ``rows`` rows."""
    bits = _mode(design, job).activation.bits
    return rows * (_row_beats(design, job.k, bits) + _row_beats(design, _blocks(job), 8))


def w_beats(design: MatmulDesign, job: Job, columns: int) -> int:
    """Beats of a W panel of ``columns`` columns."""
    bits = _mode(design, job).weight.bits
    beats = _row_beats(design, job.k, bits) + _row_beats(design, _blocks(job), 8)
    return columns * (beats + _record_beats(design) * job.per_channel)


def c_beats(design: MatmulDesign, job: Job, rows: int, columns: int) -> int:
    """Beats of the partial sums of one tile."""
    return rows * _row_beats(design, columns, design.raw_bits)


def result_beats(design: MatmulDesign, job: Job, rows: int, columns: int) -> int:
    """Beats of the results of one tile."""
    return rows * _row_beats(design, columns, result_bits(design, job))


def beats_of(design: MatmulDesign, job: Job) -> Beats:
    """Beats of every stream of a job."""
    a, w = a_beats(design, job, job.m), w_beats(design, job, job.n)
    repeat_a = column_tiles(design, job) if job.order == "w" else 1
    repeat_w = row_tiles(design, job) if job.order == "a" else 1
    full, rest = divmod(job.n, design.columns)
    c, results = (full * count(design, job, job.m, design.columns) + count(design, job, job.m, rest)
                  for count in (c_beats, result_beats))
    return Beats(a * repeat_a, w * repeat_w, c * job.accumulate, results)


def best_order(design: MatmulDesign, job: Job) -> str:
    """The order with fewer operand beats; ``a`` where both are equal."""
    return min(("a", "w"), key=lambda order: beats_of(design, replace(job, order=order)).streamed)


# Rows --------------------------------------------------------------------------------------------


def pack_rows(codes: np.ndarray, bits: int, unit: int) -> np.ndarray:
    """Rows of codes packed tight, each padded with zeros to whole units.

    Parameters
    ----------
    codes : integer ndarray (rows, elements)
        Unsigned, or negative as two's complement; Python ints (object) where ``bits`` exceeds 64.
    bits : int
        4, 8, 16, 32, 64, 128, 256 or 512.
    unit : int
        Bytes.

    Returns
    -------
    uint8 ndarray (rows, units * unit)
    """
    codes = np.asarray(codes)
    rows, elements = codes.shape
    used = -(-elements * bits // 8)
    out = np.zeros((rows, -(-used // unit) * unit), np.uint8)
    if not elements:
        return out
    if bits > 64:
        step, mask = bits // 8, (1 << bits) - 1
        data = b"".join((int(code) & mask).to_bytes(step, "little") for code in codes.reshape(-1))
        out[:, :used] = np.frombuffer(data, np.uint8).reshape(rows, used)
    elif bits >= 8:
        if codes.dtype == object:
            codes = (codes & ((1 << bits) - 1)).astype(np.uint64)
        out[:, :used] = np.ascontiguousarray(codes.astype(f"<u{bits // 8}")).view(np.uint8)
    else:
        nibbles = (codes & 15).astype(np.uint8)
        out[:, :used] = nibbles[:, ::2]
        out[:, :elements // 2] |= nibbles[:, 1::2] << 4
    return out


def unpack_rows(data: np.ndarray, elements: int, bits: int) -> np.ndarray:
    """The first ``elements`` of each packed row.

    Parameters
    ----------
    data : uint8 ndarray (rows, bytes)
    elements : int
    bits : int
        As in `pack_rows`.

    Returns
    -------
    ndarray (rows, elements)
        uint8, uint16, uint32 or uint64; Python ints above 64 bits.
    """
    data = np.ascontiguousarray(data[:, :-(-elements * bits // 8)])
    if bits > 64:
        step = bits // 8
        raw = data.tobytes()
        out = np.empty(data.shape[0] * elements, object)
        out[:] = [int.from_bytes(raw[at:at + step], "little") for at in range(0, len(raw), step)]
        return out.reshape(-1, elements)
    if bits >= 8:
        codes = data.view(f"<u{bits // 8}")
    else:
        codes = np.stack((data & 15, data >> 4), axis=-1).reshape(len(data), -1)[:, :elements]
    return codes.astype(codes.dtype.newbyteorder("="))


def keep_bytes(design: MatmulDesign, job: Job) -> np.ndarray:
    """Bytes of data in each result beat of the job (``tkeep`` has that many low bits set)."""
    bits, unit = result_bits(design, job), design.bus_bits // 8

    def of_row(columns: int) -> np.ndarray:
        used = -(-columns * bits // 8)
        return np.minimum(used - np.arange(0, used, unit), unit)

    rows = [min(design.rows, job.m - at) for at in range(0, job.m, design.rows)]
    columns = [min(design.columns, job.n - at) for at in range(0, job.n, design.columns)]
    tiles = [(r, c) for r in rows for c in columns] if job.order == "a" else [(r, c) for c in columns for r in rows]
    kinds = {c: of_row(c) for c in set(columns)}
    return np.concatenate([np.tile(kinds[c], r) for r, c in tiles])


# Streams -----------------------------------------------------------------------------------------


def _matrix(codes: np.ndarray, shape: tuple[int, int], where: str) -> np.ndarray:
    codes = np.asarray(codes)
    if codes.dtype != object and codes.dtype.kind not in "iu":
        raise BitkilnError("not codes", where=where, got=codes.dtype, expected="an integer array")
    if codes.shape != shape:
        raise BitkilnError("wrong shape", where=where, got=codes.shape, expected=str(shape))
    return codes


def _a_rows(design: MatmulDesign, job: Job, a: np.ndarray, scales: np.ndarray | None) -> dict[str, np.ndarray]:
    unit = design.bus_bits // 8
    rows = {"A": pack_rows(_matrix(a, (job.m, job.k), "a"), _mode(design, job).activation.bits, unit)}
    if _has_scales(job, scales, "a_scales"):
        rows["A_SCALE"] = pack_rows(_matrix(scales, (job.m, _blocks(job)), "a_scales"), 8, unit)
    return rows


def _w_rows(design: MatmulDesign, job: Job, w: np.ndarray, records: Records | None,
            scales: np.ndarray | None) -> dict[str, np.ndarray]:
    unit = design.bus_bits // 8
    rows = {"W": pack_rows(_matrix(w, (job.n, job.k), "w"), _mode(design, job).weight.bits, unit)}
    if (records is not None) != job.per_channel:
        raise BitkilnError("records do not fit the job", where="records", got="none" if records is None else "given",
                           expected="records with per_channel, and only then")
    if records is not None:
        rows["RECORD"] = record_rows(job, records, unit)
    if _has_scales(job, scales, "w_scales"):
        rows["W_SCALE"] = pack_rows(_matrix(scales, (job.n, _blocks(job)), "w_scales"), 8, unit)
    return rows


def _has_scales(job: Job, scales: np.ndarray | None, where: str) -> bool:
    if (scales is not None) != (job.block is not None):
        raise BitkilnError("scales do not fit the job", where=where, got="none" if scales is None else "given",
                           expected="scale codes with a block format, and only then")
    return scales is not None


def _panels(rows: dict[str, np.ndarray], height: int, bus_bytes: int) -> np.ndarray:
    """Panels of ``height`` rows one after the other, in each what follows the data in ``rows`` before the data."""
    data, *heads = rows.values()
    count = len(data)
    parts = [*heads, data]
    if not heads:
        return data.reshape(-1, bus_bytes)
    full = count // height * height
    pieces = []
    if full:
        blocks = [part[:full].reshape(full // height, -1) for part in parts]
        pieces.append(np.concatenate(blocks, axis=1).reshape(-1, bus_bytes))
    if full < count:
        pieces += [part[full:].reshape(-1, bus_bytes) for part in parts]
    return np.concatenate(pieces)


def operand_rows(design: MatmulDesign, job: Job, a: np.ndarray, w: np.ndarray, a_scales: np.ndarray | None = None,
                 w_scales: np.ndarray | None = None, records: Records | None = None,
                 c: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Operands as they lie in a core's memory, by the prefix of their address register.

    Parameters
    ----------
    a, w, a_scales, w_scales, records : as of `pack_a` and `pack_w`
    c : as of `pack_c`; needed by jobs that accumulate

    Returns
    -------
    dict of uint8 ndarray (rows, bytes)
        ``A`` and ``W``, and what the job has of ``A_SCALE``, ``RECORD``, ``W_SCALE`` and ``C``; rows are whole beats.
    """
    rows = _a_rows(design, job, a, a_scales) | _w_rows(design, job, w, records, w_scales)
    if job.accumulate and c is None:
        raise BitkilnError("missing value", where="c", got="None", expected="partial sums with accumulate")
    if c is not None:
        rows["C"] = pack_rows(_matrix(c, (job.m, job.n), "c"), design.raw_bits, design.bus_bits // 8)
    return rows


def pack_a(design: MatmulDesign, job: Job, a: np.ndarray, scales: np.ndarray | None = None) -> np.ndarray:
    """Every beat of ``s_axis_a`` for a job.

    Parameters
    ----------
    a : integer ndarray (M, K)
        Codes of the mode's activation format.
    scales : uint8 ndarray (M, ceil(K / block size)), optional
        Scale codes of block jobs.

    Returns
    -------
    uint8 ndarray (beats, bus_bits / 8)
    """
    once = _panels(_a_rows(design, job, a, scales), design.rows, design.bus_bits // 8)
    return np.tile(once, (column_tiles(design, job), 1)) if job.order == "w" else once


def pack_w(design: MatmulDesign, job: Job, w: np.ndarray, records: Records | None = None,
           scales: np.ndarray | None = None) -> np.ndarray:
    """Every beat of ``s_axis_w`` for a job.

    Parameters
    ----------
    w : integer ndarray (N, K)
        Codes of the mode's weight format, one row for each column of the result.
    records : Records, optional
        Of per-channel jobs.
    scales : uint8 ndarray (N, ceil(K / block size)), optional
        Scale codes of block jobs.

    Returns
    -------
    uint8 ndarray (beats, bus_bits / 8)
    """
    once = _panels(_w_rows(design, job, w, records, scales), design.columns, design.bus_bits // 8)
    return np.tile(once, (row_tiles(design, job), 1)) if job.order == "a" else once


def pack_c(design: MatmulDesign, job: Job, c: np.ndarray) -> np.ndarray:
    """Every beat of ``s_axis_c`` for a job.

    Parameters
    ----------
    c : integer ndarray (M, N)
        Raw results, as `unpack_results` gives them; negative integers are taken as two's complement.

    Returns
    -------
    uint8 ndarray (beats, bus_bits / 8)
    """
    return _pack_tiles(design, job, _matrix(c, (job.m, job.n), "c"), design.raw_bits)


def pack_results(design: MatmulDesign, job: Job, results: np.ndarray) -> np.ndarray:
    """Every beat of ``m_axis`` for a job: the inverse of `unpack_results`, for simulators and tests."""
    return _pack_tiles(design, job, _matrix(results, (job.m, job.n), "results"), result_bits(design, job))


def _pack_tiles(design: MatmulDesign, job: Job, codes: np.ndarray, bits: int) -> np.ndarray:
    unit = design.bus_bits // 8
    groups = _result_places(design, job, bits)
    out = np.empty((sum(where.size for _, where in groups), unit), np.uint8)
    for columns, where in groups:
        rows = pack_rows(codes[:, columns].reshape(-1, columns.shape[1]), bits, unit)
        out[where.reshape(-1)] = rows.reshape(-1, unit)
    return out


def unpack_results(design: MatmulDesign, job: Job, beats: np.ndarray) -> np.ndarray:
    """The (M, N) results in the beats of ``m_axis``.

    Returns
    -------
    ndarray (M, N)
        Codes of the output format (uint8, uint16 or uint32), or raw codes (uint64, Python ints above 64 bits): two's
        complement sums, or fp32 codes where sums are float32.
    """
    beats, bits = np.asarray(beats), result_bits(design, job)
    wanted = (beats_of(design, job).results, design.bus_bits // 8)
    if beats.shape != wanted:
        raise BitkilnError("wrong number of beats", where="results", got=beats.shape, expected=str(wanted), exit_code=1)
    parts = []
    for columns, where in _result_places(design, job, bits):
        count, width = columns.shape
        rows = beats[where.reshape(-1)].reshape(job.m * count, -1)
        parts.append(unpack_rows(rows, width, bits).reshape(job.m, count * width))
    out = np.concatenate(parts, axis=1)
    return out.astype(np.uint64) if job.rule == "raw" and bits <= 64 else out


def _result_places(design: MatmulDesign, job: Job, bits: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For the full column tiles, then for the last partial one: column numbers (tiles, width), and beat numbers
    (M, tiles, beats of a row) of each tile row."""
    m, rows, full = np.arange(job.m), design.rows, job.n // design.columns
    row_beats = [_row_beats(design, design.columns, bits)] * full
    if job.n % design.columns:
        row_beats.append(_row_beats(design, job.n % design.columns, bits))
    before = np.concatenate([[0], np.cumsum(row_beats)])   # beats of one result row left of a column tile
    tile, inside = m // rows, m % rows
    valid = np.minimum(rows, job.m - tile * rows)
    lengths = np.array(row_beats)
    if job.order == "a":
        start = (tile * rows * before[-1])[:, None] + valid[:, None] * before[None, :-1]
    else:
        start = job.m * before[None, :-1] + (tile * rows)[:, None] * lengths[None, :]
    start = start + inside[:, None] * lengths[None, :]
    groups = []
    if full:
        columns = np.arange(full * design.columns).reshape(full, design.columns)
        groups.append((columns, start[:, :full, None] + np.arange(row_beats[0])))
    if full < len(row_beats):
        columns = np.arange(full * design.columns, job.n)[None]
        groups.append((columns, start[:, full:, None] + np.arange(row_beats[-1])))
    return groups


def record_rows(job: Job, records: Records, unit: int) -> np.ndarray:
    """Records as they travel and lie in memory, each at least ``unit`` bytes: (N, max(16, unit)) uint8."""
    out = np.zeros((job.n, max(RECORD_BYTES, unit)), np.uint8)
    for at, size, name in ((0, 4, "bias"), (4, 4, "scale"), (8, 1, "shift")):
        values = getattr(records, name)
        if values is None:
            continue
        values = np.asarray(values)
        if values.shape != (job.n,) or values.dtype.kind not in "iu":
            raise BitkilnError("wrong record", where=f"records.{name}", got=f"{values.dtype} {values.shape}",
                               expected=f"{job.n} integers")
        low, high = int(values.min()), int(values.max())
        if low < -(1 << (8 * size - 1)) or high >= 1 << 8 * size:
            raise BitkilnError("out of range", where=f"records.{name}", got=low if low < 0 else high,
                               expected=f"{8 * size} bits")
        out[:, at:at + size] = np.ascontiguousarray(values.astype(f"<u{size}")[:, None]).view(np.uint8)
    return out
