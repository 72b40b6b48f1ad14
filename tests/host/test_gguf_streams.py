"""Weight streams of GGUF matrices: taken apart again, they hold the very codes, scales and minima of the blocks."""

import numpy as np
import pytest

from bitkiln.host.gguf import collect, piece_activations, piece_stream
from bitkiln.host.weights_groups import unpack_groups
from bitkiln.models.design.gguf import gguf_design
from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dequant import dequant_matmul
from bitkiln.models.workloads.gguf_blocks import integer_blocks
from bitkiln.models.workloads.gguf_core import GgufMatrix, matmul

ROWS, BUS = 7, 4


def random_matrix(name: str, minima: str = "core", columns: int = 3) -> GgufMatrix:
    layout = BLOCKS[name]
    raw = np.random.default_rng(43).integers(0, 256, (ROWS * 2, layout.bytes), dtype=np.uint8)
    for field in sorted({"d", "dmin", "m"} & layout.fields.keys()):
        raw[:, layout.fields[field][1].bits[0] // 8] &= 0xBB       # finite
    return GgufMatrix(gguf_design(name, columns=columns, bus_bytes=BUS), name,
                      integer_blocks(layout, raw, (ROWS, 2 * layout.weights)), minima)


def channels_of(matrix: GgufMatrix, stream: np.ndarray):
    """(float32 scale, integer weights) of each channel of a stream, read tile by tile from the front."""
    design, form, groups = matrix.design, matrix.form, matrix.groups
    count, columns, at, found = len(matrix.weights(matrix.pieces[0]).codes), design.array.columns, 0, []
    for first in range(0, count, columns):
        width = min(columns, count - first)
        scales = stream[at:at + BUS * width].view("<f4")
        at += BUS * width
        kinds = [form.weights[0 if channel < ROWS else 1] for channel in range(first, first + width)]
        size = groups * sum(design.layout.group_bytes(form.group, design.array.weights.index(k)) for k in kinds)
        unpacked = unpack_groups(design.layout, stream[at:at + size], np.full(groups * width, form.group))
        at += size
        for column, kind in enumerate(kinds):
            own = slice(column, None, width)
            assert (unpacked.types[own] == design.array.weights.index(kind)).all()
            scale = unpacked.scales[own] if design.array.scale != "none" else np.ones(groups, np.int64)
            value = kind.units(unpacked.codes[own]) - unpacked.zeros[own][:, None]
            found.append((scales[column], (value * scale[:, None]).reshape(-1), unpacked))
    assert at == len(stream)
    return found


@pytest.mark.parametrize("name", BLOCKS)
def test_streams_hold_the_blocks(name):
    matrix = random_matrix(name)
    blocks, each = matrix.blocks, matrix.groups
    for piece in matrix.pieces:
        stream = piece_stream(matrix, piece)
        channels = channels_of(matrix, stream)
        at, of_groups = matrix.part(piece), slice(piece.block * each, (piece.block + 1) * each)
        assert len(channels) == (2 if matrix.form.minimum else 1) * ROWS
        for row in range(ROWS):
            scale, value, _ = channels[row]
            assert scale == blocks.d[row, piece.block]
            factor = np.repeat(blocks.scales[row, of_groups].astype(int), blocks.sub)
            assert np.array_equal(value, blocks.codes[row, at].astype(int) * factor)
            if matrix.form.minimum:
                scale, value, _ = channels[ROWS + row]
                assert scale == -blocks.dmin[row, piece.block]
                assert np.array_equal(value, np.repeat(blocks.mins[row, of_groups], blocks.sub))
    assert sum(len(piece_stream(matrix, piece)) for piece in matrix.pieces) == matrix.stream_bytes


@pytest.mark.parametrize("name", ["q4_1", "q2_k", "q5_k"])
def test_sums_of_activations_for_the_host(name):
    """A channel for each group, which has the scale 1 there and 0 elsewhere."""
    matrix = random_matrix(name, "host")
    for piece in matrix.pieces:
        ones = channels_of(matrix, piece_stream(matrix, piece))[ROWS:]
        assert len(ones) == matrix.groups
        for group, (scale, value, _) in enumerate(ones):
            assert scale == 1
            assert np.array_equal(value, np.arange(matrix.blocks.block) // matrix.blocks.sub == group)


@pytest.mark.parametrize("minima", ["core", "host"])
def test_from_activations_to_the_product(minima):
    """As a driver does it, the core's golden model in the place of the core."""
    matrix = random_matrix("q4_k", minima)
    codes = np.random.default_rng(44).normal(size=(1, 512)).astype(np.float16).view(np.uint16).astype(np.int64)
    results = []
    for piece in matrix.pieces:
        job, at = matrix.job(piece, 1), matrix.part(piece)
        assert np.array_equal(piece_activations(matrix, piece, codes).reshape(-1), codes[0, at])
        results.append(dequant_matmul(matrix.design, job, codes[:, at], matrix.weights(piece)).reshape(-1))
    assert np.array_equal(collect(matrix, 1, results), matmul(matrix, codes))
    with pytest.raises(BitkilnError, match="^error: wrong number of results at column 1 of blocks: got 3, expected 1"):
        collect(matrix, 1, [results[0], results[1][:3]])
