"""Random groups through the bit-serial array at full simulation speed, against golden and event model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitkiln.host.dequant import special_beats
from bitkiln.hw.dequant.array import BitSerialArray, activation_layout, exponent_bits, result_layout, weight_layout
from bitkiln.models.cost.cycles.bitserial import event_cycles
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant_streams import special_terms
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.golden.bitserial import BitSerialResult, GroupStream, bitserial

from .streams import StreamModel

__all__ = ["ArrayRun", "ChunkWords", "check_stream", "pack_bits", "pack_stream", "random_stream", "run_stream",
           "special_write", "unpack_results"]


def pack_bits(fields: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Words of fields, the first in the least significant bits.

    Parameters
    ----------
    fields : list of (ndarray (n,) or (n, m), width)
        Unsigned or two's complement integers; several of one width lie one after the other.

    Returns
    -------
    ndarray
        (n,) uint64, or (n, words) uint32 where wider than 64 bits.
    """
    columns = []
    for values, width in fields:
        values = np.asarray(values).reshape(len(values), -1).astype(np.int64)
        bits = (values[:, :, None] >> np.arange(width)) & 1
        columns.append(bits.reshape(len(values), -1).astype(np.uint8))
    bits = np.concatenate(columns, axis=1)
    total = bits.shape[1]
    size = 64 if total <= 64 else -(-total // 32) * 32
    bits = np.pad(bits, ((0, 0), (0, size - total)))
    packed = np.packbits(bits, axis=1, bitorder="little")
    return packed.view("<u8")[:, 0].astype(np.uint64) if total <= 64 else packed.view("<u4").astype(np.uint32)


def bits_of(words: np.ndarray, offset: int, width: int, signed: bool = False) -> np.ndarray:
    """A field of packed words as Python integers, or int64 where narrow."""
    words = np.asarray(words)
    if words.ndim == 1:
        words = words.astype("<u8").view("<u4").reshape(len(words), -1)
    raw = np.unpackbits(np.ascontiguousarray(words.astype("<u4")).view(np.uint8), axis=1, bitorder="little")
    bits = raw[:, offset:offset + width]
    if width <= 62:
        value = bits.astype(np.int64) @ (np.int64(1) << np.arange(width))
        return value - ((value >> (width - 1)) << width) if signed else value
    padded = np.packbits(np.pad(bits, ((0, 0), (0, -width % 8))), axis=1, bitorder="little")
    out = np.empty(len(words), object)
    out[:] = [int.from_bytes(row.tobytes(), "little") for row in padded]
    return np.where(out >= 1 << (width - 1), out - (1 << width), out) if signed else out


@dataclass(frozen=True)
class ChunkWords:
    """A stream of groups as the array takes it.

    Attributes
    ----------
    w, a : ndarray
        Payloads of the two streams, one for each chunk.
    steps : ndarray (chunks,)
        Cycles that each takes.
    last, emit : bool ndarray (chunks,)
    """

    w: np.ndarray
    a: np.ndarray
    steps: np.ndarray
    last: np.ndarray
    emit: np.ndarray


def pack_stream(design: BitSerialDesign, stream: GroupStream,
                tables: dict[int, tuple[int, ...]] | None = None) -> ChunkWords:
    """Chunks of a stream; lanes beyond a group's end are masked and hold noise."""
    lanes, rows, columns = design.lanes, design.rows, design.columns
    chunks = -(-stream.lengths // lanes)
    group_of = np.repeat(np.arange(len(chunks)), chunks)
    index = np.arange(chunks.sum()) - np.repeat(np.concatenate(([0], np.cumsum(chunks)[:-1])), chunks)
    first, last = index == 0, index == chunks[group_of] - 1
    offset = index[:, None] * lanes + np.arange(lanes)
    mask = offset < stream.lengths[group_of][:, None]
    element = np.where(mask, stream.starts[group_of][:, None] + offset, 0)
    noise = np.random.default_rng(len(mask))
    codes = np.where(mask[None], stream.codes[:, element], noise.integers(0, 1 << design.code_bits,
                                                                           (columns, *mask.shape)))
    acts = np.where(mask[None], stream.activations[:, element],
                    noise.integers(0, 1 << design.activation.bits, (rows, *mask.shape)))
    layout = weight_layout(design)
    emit = stream.emit[group_of] & last
    fields = [(codes.transpose(1, 0, 2).reshape(len(mask), -1), design.code_bits), (mask, 1), (first, 1), (last, 1),
              (emit, 1)]
    group = layout["groups"].shape.elem_shape
    for column in range(columns):
        for name, field in group:
            source = {"type": stream.types}.get(name)
            source = getattr(stream, name) if source is None else source
            fields.append((source[column][group_of], getattr(field.shape, "width", field.shape)))
    activations = activation_layout(design)
    assert activations.size == rows * lanes * design.activation.bits
    return ChunkWords(pack_bits([(np.asarray(v).astype(np.int64), w) for v, w in fields]),
                      pack_bits([(acts.transpose(1, 0, 2).reshape(len(mask), -1), design.activation.bits)]),
                      _steps(design, stream, codes, mask, group_of, tables or {}), last, emit)


def _steps(design: BitSerialDesign, stream: GroupStream, codes: np.ndarray, mask: np.ndarray, group_of: np.ndarray,
           tables: dict[int, tuple[int, ...]]) -> np.ndarray:
    types = stream.types[:, group_of]
    terms = np.array([t.terms for t in design.weights])
    if not design.zero_skip:
        return terms[types].max(axis=0)
    counts = np.zeros(codes.shape, np.int64)
    for index, weight in enumerate(design.weights):
        own = codes & ((1 << weight.bits) - 1)
        table = np.array([sum(term is not None for term in weight.code_terms(code))
                          for code in range(1 << weight.bits)])
        found = table[own]
        if weight.special_code is not None:
            values = [*tables.get(index, weight.specials), 0, 0, 0, 0][:4]
            of_entry = np.array([len(weight.check_special(v)) for v in values])
            found = np.where(own == weight.special_code, of_entry[stream.special[:, group_of]][:, :, None], found)
        counts = np.where((types == index)[:, :, None], found, counts)
    return np.maximum((counts * mask[None]).max(axis=(0, 2)), 1)


def special_write(design: BitSerialDesign, index: int, entry: int, value: int) -> int:
    """The word that makes ``value`` (in units of its type) an entry of the special-value table."""
    return int.from_bytes(special_beats(design, [(index, entry, value)]).tobytes(), "little")


def unpack_results(design: BitSerialDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of the results, each (channels, rows, columns), and ``last`` (channels, rows)."""
    layout = result_layout(design)
    values = layout["values"].shape
    found: dict[str, list] = {}
    for column in range(design.columns):
        base = layout["values"].offset + column * values.elem_shape.size if design.output == "raw" else column * 32
        if design.output == "fp32":
            found.setdefault("fp32", []).append(bits_of(words, base, 32).astype(np.uint32))
            continue
        item = values.elem_shape
        found.setdefault("value", []).append(bits_of(words, base + item["value"].offset, design.result_bits, True))
        if exponent_bits(design):
            found.setdefault("exponent", []).append(bits_of(words, base + item["exponent"].offset,
                                                            exponent_bits(design), True))
        flags = item["flags"]
        for name, field in flags.shape:
            found.setdefault(name, []).append(bits_of(words, base + flags.offset + field.offset, 1).astype(bool))
        if "scale_nan" in dict(item):
            found.setdefault("scale_nan", []).append(bits_of(words, base + item["scale_nan"].offset, 1).astype(bool))
    out = {name: np.stack(columns, axis=1).reshape(-1, design.rows, design.columns)
           for name, columns in found.items()}
    out["last"] = bits_of(words, layout["last"].offset, 1).reshape(-1, design.rows).astype(bool)
    return out


def random_stream(design: BitSerialDesign, groups: int, seed: int, *, longest: int | None = None,
                  specials: float = 0.02) -> GroupStream:
    """Groups of mixed lengths, types and metadata; activations of all kinds, among them every special one."""
    rng = np.random.default_rng(seed)
    longest = min(longest or design.group, design.group)
    # Short ones, multiples of the lanes and full ones, each often enough.
    lengths = np.where(rng.random(groups) < 0.3, rng.integers(1, min(2 * design.lanes + 2, longest + 1), groups),
                       rng.integers(1, longest + 1, groups))
    lengths = np.where(rng.random(groups) < 0.05, longest, lengths)
    total = int(lengths.sum())
    columns, rows = design.columns, design.rows
    types = rng.integers(0, len(design.weights), (columns, groups))
    codes = rng.integers(0, 1 << design.code_bits, (columns, total))
    scale = rng.integers(0, 1 << design.scale_code_bits, (2, columns, groups))
    scale = np.where(rng.random(scale.shape) < 0.05, 0, scale)
    scale = np.where(rng.random(scale.shape) < 0.05, (1 << design.scale_code_bits) - 1, scale)
    bits = design.zero_point
    zero = rng.integers(-(1 << bits - 1), 1 << bits - 1, (columns, groups)) if bits else np.zeros_like(types)
    emit = rng.random(groups) < 0.4
    if groups:
        emit[-1] = True
        run = 0
        for g in range(groups):
            run = run + 1
            if run >= min(design.groups, 16):
                emit[g] = True
            run = 0 if emit[g] else run
    return GroupStream(random_activations(design, (rows, total), rng, specials), codes, lengths, types,
                       rng.integers(0, 4, (columns, groups)), scale[0], scale[1], zero, emit)


def random_activations(design: BitSerialDesign, shape: tuple[int, ...], rng: np.random.Generator,
                       specials: float) -> np.ndarray:
    """Codes: any bit patterns, values of similar size, zeros, subnormals, largest ones; NaN and infinities rarely."""
    fmt = design.activation
    codes = rng.integers(0, 1 << fmt.bits, shape)
    if fmt.family == "int":
        return codes
    if fmt.bits == 16:
        usual = fmt.encode(rng.normal(0, 1, shape)).astype(np.int64)
        codes = np.where(rng.random(shape) < 0.5, usual, codes)
    mantissa = fmt.mantissa_bits
    sign = codes >> (fmt.bits - 1) << (fmt.bits - 1)
    kind = rng.random(shape)
    codes = np.where(kind < 0.05, sign, codes)                                          # zeros
    codes = np.where((kind >= 0.05) & (kind < 0.1), sign | (codes & ((1 << mantissa) - 1)), codes)   # subnormals
    codes = np.where((kind >= 0.1) & (kind < 0.15), sign | int(fmt.encode(np.array([fmt.max]))[0]), codes)
    special = fmt.unpack(codes).special != 0
    return np.where(special & (rng.random(shape) >= specials), sign | (codes & ((1 << mantissa) - 1)), codes)


@dataclass(frozen=True)
class ArrayRun:
    """What the RTL gave, its cycles, and what golden and event model say."""

    found: dict[str, np.ndarray]
    expected: BitSerialResult
    cycles: dict[str, np.ndarray]
    stalls: int
    words: ChunkWords
    total: int


def run_stream(design: BitSerialDesign, stream: GroupStream, *, model: StreamModel | None = None,
               stalls: dict[str, float] | None = None, seed: int = 0,
               tables: dict[int, tuple[int, ...]] | None = None, resume: bool = False) -> ArrayRun:
    """Run a stream of groups through the RTL."""
    model = StreamModel(BitSerialArray(design)) if model is None else model
    expected = bitserial(design, stream, tables)
    words = pack_stream(design, stream, tables)
    inputs = {"w": words.w, "a": words.a}
    if special_terms(design):
        inputs["special"] = np.zeros(0, np.uint64)
    run = model.run(inputs, {"o": len(expected.value) * design.rows}, stalls=stalls or {}, seed=seed,
                    resume=resume).check()
    return ArrayRun(unpack_results(design, run.outputs["o"]), expected, run.cycles, run.ports["stalls"], words,
                    run.total)


def check_stream(design: BitSerialDesign, stream: GroupStream, *, stalls: dict[str, float] | None = None,
                 seed: int = 0, model: StreamModel | None = None,
                 tables: dict[int, tuple[int, ...]] | None = None) -> int:
    """Compare every result (and, without stalls, every cycle) with golden and event model.

    Returns
    -------
    int
        Results compared.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    run = run_stream(design, stream, model=model, stalls=stalls, seed=seed, tables=tables)
    expected = run.expected
    for name, seen in run.found.items():
        if name == "last":
            wanted = np.zeros(seen.shape, bool)
            wanted[:, -1] = True
        elif name == "scale_nan":
            wanted = np.broadcast_to(expected.scale_nan[:, None, :], seen.shape)
        else:
            wanted = getattr(expected, name)
        bad = np.argwhere(seen != wanted)
        if len(bad):
            first = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} {name}[result, row, column = "
                               f"{first}]", got=f"{seen[first]} ({len(bad)} of {seen.size} differ)",
                               expected=str(wanted[first]), help=f"seed {seed}", exit_code=FAILED)
    if not stalls:
        accepted, results, held = event_cycles(design, run.words.steps, run.words.last, run.words.emit)
        for name, wanted in (("w", accepted), ("a", accepted), ("o", results)):
            seen = run.cycles[name].astype(np.int64)
            if len(seen) != len(wanted) or (seen != wanted).any():
                at = int(np.flatnonzero(seen != wanted)[0]) if len(seen) == len(wanted) else -1
                raise BitkilnError("RTL and event model differ", where=f"{design.name} stream {name}[{at}]",
                                   got=f"cycle {seen[at]}", expected=str(wanted[at]), help=f"seed {seed}",
                                   exit_code=FAILED)
        if run.stalls != held:
            raise BitkilnError("RTL and event model differ", where=f"{design.name} stalls", got=run.stalls,
                               expected=str(held), exit_code=FAILED)
    return expected.fp32.size
