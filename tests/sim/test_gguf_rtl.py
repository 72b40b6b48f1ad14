"""GGUF blocks of every type through the dequantising core's RTL: hard synthetic blocks, each result bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitkiln.hw.dequant.core import DequantCore
from bitkiln.models.cost.cycles.dequant import job_cycles
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.gguf import gguf_design
from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.gguf_blocks import integer_blocks
from bitkiln.models.workloads.gguf_core import GgufMatrix, error_bound, matmul
from bitkiln.sim.gguf_check import HALVES, GgufProduct, hard_activations, hard_blocks
from bitkiln.sim.streams import StreamModel, build_streams

SEED = 31
EVERY = gguf_design(rows=2, columns=2, lanes=2)      # one core for all types
WITH_MINIMA = [name for name, layout in BLOCKS.items() if {"m", "mins"} & layout.fields.keys()]
OTHERS = (0x7C00, 0xFC00, 0x7E00, 0x3C00)   # infinities and NaN beside a number
BUSY = {"weight": 0.3, "activation": 0.3, "o": 0.4, "job": 0.5}


@pytest.fixture(scope="module")
def model() -> StreamModel:
    return StreamModel(DequantCore(EVERY))


def hard_matrix(design: DequantDesign, name: str, rows: int, columns: int, rng: np.random.Generator,
                minima: str = "core", halves=HALVES) -> GgufMatrix:
    layout = BLOCKS[name]
    raw = hard_blocks(layout, rows * columns, rng, halves)
    return GgufMatrix(design, name, integer_blocks(layout, raw, (rows, columns * layout.weights)), minima)


def check(product: GgufProduct, matrix: GgufMatrix, activations: np.ndarray, **options) -> None:
    """RTL equal to the golden model, and that within its bound of float64 with the dequantised weights."""
    before = product.results
    found = product.matmul(matrix, activations, matrix.type, **options)
    assert np.array_equal(found, matmul(matrix, activations))
    count = sum(matrix.job(piece, 1).channels for piece in matrix.pieces) * len(activations)
    assert product.results - before == count
    a = product.design.array.activation.decode(activations)
    weights = matrix.blocks.values()
    rounding = 2.0 ** -53 * (matrix.shape[1] + 1) * np.abs(a) @ np.abs(weights).T
    assert (np.abs(found - a @ weights.T) <= error_bound(matrix, activations) + rounding).all()
    assert np.abs(found).max() > 0


@pytest.mark.parametrize("name, minima", [*((name, "core") for name in BLOCKS), *((n, "host") for n in WITH_MINIMA)])
def test_hard_blocks(model, name, minima):
    """Scales and halves at their ends; ragged tiles of rows, of channels, and tiles of values and minima."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    columns = 2 if BLOCKS[name].weights == 256 else 4
    matrix = hard_matrix(EVERY, name, 13, columns, rng, minima)
    product = GgufProduct(EVERY, model)
    check(product, matrix, hard_activations(EVERY, (3, matrix.shape[1]), rng))
    assert product.jobs == 2 * columns and product.cycles > 0 and product.products == 3 * 13 * matrix.shape[1]


@pytest.mark.parametrize("name", BLOCKS)
def test_infinite_factors_and_activations(model, name):
    """Against the core's golden model: the product has no bound then, but one meaning."""
    rng = np.random.default_rng(SEED + 1)
    matrix = hard_matrix(EVERY, name, 9, 1, rng, halves=OTHERS)
    activations = hard_activations(EVERY, (2, matrix.shape[1]), rng)
    product = GgufProduct(EVERY, model)
    found = product.matmul(matrix, activations, name)
    assert not np.isfinite(found).all() and np.array_equal(found, matmul(matrix, activations), equal_nan=True)
    activations[0, 7], activations[1, 3] = 0x7C00, 0x7E01
    assert not np.isfinite(product.matmul(matrix, activations, name)).any()


@pytest.mark.parametrize("name, minima", [("q8_0", "core"), ("q4_1", "host"), ("q4_k", "core"), ("q2_k", "host"),
                                          ("q6_k", "core")])
def test_cycles_are_those_of_the_cost_model(model, name, minima):
    """One job, values and ones in one tile where they meet."""
    rng = np.random.default_rng(SEED + 5)
    matrix = hard_matrix(EVERY, name, 21, 1, rng, minima)
    product = GgufProduct(EVERY, model)
    product.matmul(matrix, hard_activations(EVERY, (2, matrix.shape[1]), rng))
    piece, = matrix.pieces
    wanted = job_cycles(EVERY, matrix.job(piece, 2), matrix.weights(piece).types)
    assert (product.cycles, product.starved, product.stalls) == (wanted.total, wanted.starved, wanted.stalls)


def test_back_pressure(model):
    rng = np.random.default_rng(SEED + 2)
    for turn, name in enumerate(("q4_k", "q6_k", "q5_1")):
        matrix = hard_matrix(EVERY, name, 5, 2, rng)
        check(GgufProduct(EVERY, model), matrix, hard_activations(EVERY, (2, matrix.shape[1]), rng), stalls=BUSY,
              seed=turn)


def test_a_wrong_result_is_named(model):
    class Wrong:
        """The model, with one bit of a result turned over."""

        def run(self, *arguments, **options):
            run = model.run(*arguments, **options)
            words = run.outputs["o"].copy()
            words[30] ^= np.uint64(1)
            return replace(run, outputs={"o": words})

    rng = np.random.default_rng(SEED)
    matrix = hard_matrix(EVERY, "q8_0", 13, 2, rng)
    with pytest.raises(BitkilnError, match=r"^error: RTL and golden model differ at w block 1 \[0, 2\]: ") as caught:
        GgufProduct(EVERY, Wrong()).matmul(matrix, hard_activations(EVERY, (2, 64), rng), "w")
    assert caught.value.exit_code == 1


# Cores of one type, other shapes and activations ----------------------------------------------------

OWN = {name: gguf_design(name, rows=1 + turn % 2, columns=1 + turn % 3, lanes=(4, 8, 3)[turn % 3],
                         activation=("fp16", "int8", "fp8_e4m3")[turn // 2 % 3]) for turn, name in enumerate(BLOCKS)}


@pytest.fixture(scope="module")
def own() -> dict[str, StreamModel]:
    return dict(zip(OWN, build_streams([DequantCore(design) for design in OWN.values()]), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_core_of_its_own(own, name):
    rng, product = np.random.default_rng(SEED + 3), GgufProduct(OWN[name], own[name])
    for turn in range(6):
        matrix = hard_matrix(OWN[name], name, int(rng.integers(1, 40)), int(rng.integers(1, 6)), rng,
                             ("core", "host")[turn % 2])
        check(product, matrix, hard_activations(OWN[name], (int(rng.integers(1, 5)), matrix.shape[1]), rng),
              stalls=BUSY if turn > 3 else None, seed=turn)
    assert product.results > 300


@pytest.mark.slow
@pytest.mark.parametrize("name", BLOCKS)
def test_many_hard_blocks(model, name):
    rng, product = np.random.default_rng(SEED + 4), GgufProduct(EVERY, model)
    columns = 6 if BLOCKS[name].weights == 256 else 40
    for _ in range(4):
        matrix = hard_matrix(EVERY, name, 200, columns, rng)
        check(product, matrix, hard_activations(EVERY, (4, matrix.shape[1]), rng))
    assert product.products == 4 * 4 * 200 * matrix.shape[1]
