"""Random outliers through the sparse side path at full simulation speed, against golden and event model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitkiln.hw.dequant.sparse import SparseSide, chunk_layout, outlier_layout, sum_layout
from bitkiln.models.cost.cycles.sparse import GAP, SparseCycles, never_stalls, sparse_cycles, sustained_density
from bitkiln.models.design.sparse import SparseDesign
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.formats import Format
from bitkiln.models.golden.sparse import SparseStream, SparseSums, sparse

from .bitserial_check import bits_of, pack_bits
from .streams import StreamModel, StreamRun

__all__ = ["DensityRun", "check_density", "check_sparse", "compare_cycles", "compare_sums", "pack_sparse",
           "random_codes", "random_sparse", "unpack_sums"]


@dataclass(frozen=True)
class DensityRun:
    """Outliers of a given density beside a dense engine that takes a chunk each cycle, the fastest there is.

    Attributes
    ----------
    sums, outliers, weights, stalls : int
    most, chunks : int
        Items of the fullest tile; chunks of every tile.
    promised : bool
        `models.cost.cycles.sparse.never_stalls` holds for these tiles.
    sustained : float
        Largest share of outliers that never stalls in the long run.
    """

    sums: int
    outliers: int
    weights: int
    stalls: int
    most: int
    chunks: int
    promised: bool
    sustained: float


def pack_sparse(design: SparseDesign, stream: SparseStream) -> dict[str, np.ndarray]:
    """Items of ``activation`` and ``outlier``."""
    count = int(stream.chunks.sum())
    codes = stream.activations.reshape(design.rows, count, design.lanes).transpose(1, 0, 2).reshape(count, -1)
    ends = np.zeros(count, bool)
    ends[stream.starts + stream.chunks - 1] = True
    activation = pack_bits([(codes, design.activation.bits), (ends, 1)])
    assert chunk_layout(design).size == codes.shape[1] * design.activation.bits + 1
    last = stream.last
    values = {"lane": stream.lane, "chunk": stream.chunk, "column": stream.column, "value": stream.value,
              "mask": stream.mask, "last": last, "emit": last & stream.emit[stream.tile]}
    fields = [(values[name], field.width) for name, field in outlier_layout(design)]
    return {"activation": activation, "outlier": pack_bits(fields)}


def unpack_sums(design: SparseDesign, words: np.ndarray) -> dict[str, np.ndarray]:
    """Fields of ``o``, each (E, R, C)."""
    found = {}
    for name, field in sum_layout(design):
        values = bits_of(words, field.offset, field.width, name == "value")
        found[name] = values.reshape(-1, design.rows, design.columns)
    return found


def random_codes(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator, specials: float) -> np.ndarray:
    """Any bit patterns, values of similar size, zeros, subnormals and largest ones; NaN and infinities rarely."""
    codes = rng.integers(0, 1 << fmt.bits, shape)
    if fmt.family == "int":
        return codes
    codes = np.where(rng.random(shape) < 0.5, fmt.encode(rng.normal(0, 1, shape)).astype(np.int64), codes)
    sign, mantissa = codes >> (fmt.bits - 1) << (fmt.bits - 1), (1 << fmt.mantissa_bits) - 1
    kind = rng.random(shape)
    codes = np.where(kind < 0.05, sign, codes)
    codes = np.where((kind >= 0.05) & (kind < 0.1), sign | (codes & mantissa), codes)
    codes = np.where((kind >= 0.1) & (kind < 0.15), sign | int(fmt.encode(np.array([fmt.max]))[0]), codes)
    special = fmt.unpack(codes).special != 0
    return np.where(special & (rng.random(shape) >= specials), sign | (codes & mantissa), codes)


def random_sparse(design: SparseDesign, tiles: int, seed: int, *, density: float = 0.05, order: str = "any",
                  chunks: int | None = None, specials: float = 0.02, emit: float = 0.4) -> SparseStream:
    """Tiles of mixed lengths with outliers at random places, some tiles without any.

    Parameters
    ----------
    density : float
        Share of outliers among the weights of a tile.
    order : str
        ``columns`` (each column's along K, as a CSR matrix has its rows), ``chunks`` (as the dense weights come) or
        ``any``.
    chunks : int, optional
        Of every tile.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, design.chunks + 1, tiles) if chunks is None else np.full(tiles, chunks)
    lengths = np.where(rng.random(tiles) < 0.1, design.chunks, lengths) if chunks is None else lengths
    columns: list[np.ndarray] = []
    for t in range(tiles):
        k, column = np.nonzero(rng.random((lengths[t] * design.lanes, design.columns)) < density)
        if order == "columns":
            turn = np.lexsort((k, column))
        else:
            turn = np.arange(len(k)) if order == "chunks" else rng.permutation(len(k))
        rows = np.stack([np.full(len(k), t), k[turn] // design.lanes, k[turn] % design.lanes, column[turn],
                         np.ones(len(k), np.int64)])
        if not len(k) or rng.random() < 0.1:
            # A mere end; what it names means nothing.
            end = [t, *(int(rng.integers(most)) for most in (design.chunks, design.lanes, design.columns)), 0]
            rows = np.concatenate([rows, np.array(end)[:, None]], axis=1)
        columns.append(rows)
    tile, chunk, lane, column, mask = np.concatenate(columns, axis=1)
    last = rng.random(tiles) < emit
    last[-1] = True
    shape = (design.rows, int(lengths.sum()) * design.lanes)
    return SparseStream(random_codes(design.activation, shape, rng, specials), lengths, last, tile, chunk, lane, column,
                        random_codes(design.value, tile.shape, rng, specials / 4), mask.astype(bool))


def compare_sums(design: SparseDesign, wanted: SparseSums, run: StreamRun, note: str = "") -> None:
    """Raise where sums or flags differ from the golden ones."""
    found = unpack_sums(design, run.outputs["o"])
    end = np.zeros(wanted.value.shape, bool)
    if end.size:
        end[:, -1, -1] = True
    for name, seen in found.items():
        expected = end if name == "last" else getattr(wanted, name)
        bad = np.argwhere(seen != expected) if seen.shape == expected.shape else np.zeros((1, 0), int)
        if len(bad):
            first = tuple(int(i) for i in bad[0])
            raise BitkilnError("RTL and golden model differ", where=f"{design.name} {name}{list(first)}",
                               got=f"{seen[first] if first else seen.shape} ({len(bad)} differ)",
                               expected=str(expected[first] if first else expected.shape), help=note or None,
                               exit_code=FAILED)
    if bool(run.ports["illegal"]) != wanted.illegal:
        raise BitkilnError("RTL and golden model differ", where=f"{design.name} illegal", got=run.ports["illegal"],
                           expected=str(int(wanted.illegal)), help=note or None, exit_code=FAILED)


def compare_cycles(design: SparseDesign, cycles: SparseCycles, run: StreamRun, note: str = "") -> None:
    """Raise where the cycle of a transfer differs from the event model's."""
    for name in ("activation", "outlier", "o"):
        seen, wanted = run.cycles[name].astype(np.int64), getattr(cycles, name)
        if not np.array_equal(seen, wanted):
            at = int(np.flatnonzero(seen != wanted)[0]) if len(seen) == len(wanted) else -1
            raise BitkilnError("RTL and event model differ", where=f"{design.name} stream {name}[{at}]",
                               got=f"cycle {seen[at]}", expected=str(wanted[at]), help=note or None, exit_code=FAILED)
    if run.ports["stalls"] != cycles.stalls:
        raise BitkilnError("RTL and event model differ", where=f"{design.name} stalls", got=run.ports["stalls"],
                           expected=str(cycles.stalls), help=note or None, exit_code=FAILED)


def check_sparse(design: SparseDesign, model: StreamModel | None, stream: SparseStream, *,
                 stalls: dict[str, float] | None = None, seed: int = 0) -> StreamRun:
    """Run a stream from power-up; compare every sum and (without stalls) every cycle.

    Raises
    ------
    BitkilnError
        Exit code 1, with the first difference.
    """
    model = StreamModel(SparseSide(design)) if model is None else model
    wanted = sparse(design, stream)
    run = model.run(pack_sparse(design, stream), {"o": wanted.value.size}, stalls=stalls or {}, seed=seed).check()
    compare_sums(design, wanted, run, f"seed {seed}")
    if not stalls:
        compare_cycles(design, sparse_cycles(design, stream), run, f"seed {seed}")
    return run


def check_density(design: SparseDesign, model: StreamModel, tiles: int, density: float, seed: int) -> DensityRun:
    """Full tiles with outliers in any order, a chunk offered each cycle; results as often as sums can leave.

    Raises
    ------
    BitkilnError
        Exit code 1: bits or cycles differ, or the dense engine waits where the condition says it never does.
    """
    stream = random_sparse(design, tiles, seed, density=density, chunks=design.chunks, specials=0)
    # So many tiles to a result that its sums leave while the next ones grow.
    per_result = -(-(design.rows * design.columns + GAP) // design.chunks)
    emit = np.arange(tiles) % per_result == per_result - 1
    emit[-1] = True
    run = check_sparse(design, model, replace(stream, emit=emit), seed=seed)
    most = int(np.bincount(stream.tile).max())
    promised = never_stalls(design, design.chunks, 1, most, per_result)
    if promised and run.ports["stalls"]:
        raise BitkilnError("the dense engine waits", where=f"{design.name} stalls", got=run.ports["stalls"],
                           expected=f"0 with at most {most} outliers in {design.chunks} cycles", help=f"seed {seed}",
                           exit_code=FAILED)
    weights = tiles * design.tile * design.columns
    return DensityRun(len(run.outputs["o"]), int(stream.mask.sum()), weights, run.ports["stalls"], most, design.chunks,
                      promised, sustained_density(design, 1))
