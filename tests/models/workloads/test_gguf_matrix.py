"""GGUF blocks as jobs of the dequantising core: the golden product against exact fractions, the core's own golden
model and the gguf package; what each type needs; bad input. The RTL is in tests/sim/test_gguf_rtl.py."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from gguf_files import TYPES, random_blocks, slow_values

from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.design.gguf import core_form, gguf_design
from bitkiln.models.design.layouts_blocks import BLOCKS
from bitkiln.models.errors import BitkilnError
from bitkiln.models.golden.dequant import dequant_matmul
from bitkiln.models.workloads import gguf_core
from bitkiln.models.workloads.gguf_blocks import integer_blocks, pack_blocks, unpack_blocks
from bitkiln.models.workloads.gguf_core import GgufMatrix, error_bound, matmul, piece_results

WITH_MINIMA = ("q4_1", "q5_1", "q2_k", "q4_k", "q5_k")
KINDS = [(name, "core") for name in BLOCKS] + [(name, "host") for name in WITH_MINIMA]


def matrix_of(name: str, raw: np.ndarray, rows: int, minima: str = "core", **options) -> GgufMatrix:
    shape = (rows, len(raw) // rows * BLOCKS[name].weights)
    return GgufMatrix(gguf_design(name, **options), name, integer_blocks(name, raw, shape), minima)


def random_activations(shape: tuple[int, int], seed: int, spread: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = np.ldexp(rng.standard_normal(shape), rng.integers(-spread, spread, shape))
    return values.astype(np.float16).view(np.uint16).astype(np.int64)


def halves(codes: np.ndarray) -> np.ndarray:
    return codes.astype(np.uint16).view(np.float16)


def magnitudes(matrix: GgufMatrix) -> np.ndarray:
    """Of the two parts of each weight, added up (N, K)."""
    blocks = matrix.blocks
    each = np.repeat(np.abs(blocks.d.astype(np.float64)), matrix.groups, axis=1) * np.abs(blocks.scales.astype(int))
    minimum = np.repeat(np.abs(blocks.dmin.astype(np.float64)), matrix.groups, axis=1) * blocks.mins
    each, minimum = (np.repeat(part, blocks.sub, axis=1) for part in (each, minimum))
    return each * np.abs(blocks.codes.astype(int)) + minimum


@pytest.mark.parametrize("name, minima", KINDS)
def test_product_within_the_error_bound_of_exact_fractions(name, minima):
    """Weights come from the decoder that is written down weight by weight, not from `integer_blocks`."""
    raw = random_blocks(name, 4, 11)
    matrix = matrix_of(name, raw, 2, minima)
    activations = random_activations((2, matrix.shape[1]), 12)
    weights = np.array(slow_values(name, raw.tobytes()), object).reshape(matrix.shape)
    exact = np.vectorize(Fraction, otypes=[object])(halves(activations).astype(np.float64)) @ weights.T
    found, bound = matmul(matrix, activations), error_bound(matrix, activations)
    for y, x, e in zip(found.flat, exact.flat, bound.flat, strict=True):
        assert abs(Fraction(float(y)) - x) <= Fraction(float(e))
    # The bound says something: two units in the last place of float32.
    sizes = np.abs(halves(activations).astype(np.float64)) @ magnitudes(matrix).T
    assert (bound <= 1.21e-7 * sizes).all() and np.abs(found).max() > 0


@pytest.mark.parametrize("name, minima", KINDS)
def test_fast_results_equal_the_golden_model_of_the_core(name, minima):
    """Large activations take the split sums, small ones one float64 product; both equal integers of any size."""
    raw = random_blocks(name, 6, 13)
    matrix = matrix_of(name, raw, 3, minima, columns=2)
    for seed, spread in ((14, 1), (15, 15)):
        activations = random_activations((1, matrix.shape[1]), seed, spread)
        units = gguf_core.activation_units(matrix, activations)
        for piece in matrix.pieces:
            at = matrix.part(piece)
            wanted = dequant_matmul(matrix.design, matrix.job(piece, 1), activations[:, at], matrix.weights(piece))
            assert np.array_equal(piece_results(matrix, piece, units[:, at]).view(np.uint32), wanted)


def test_negative_scales_of_codes_that_have_no_negative():
    """q6_k: -32 times scales of -128 to 127; q3_k: -4 times -32 to 31."""
    for name, low in (("q6_k", -32), ("q3_k", -4)):
        layout = BLOCKS[name]
        fields = unpack_blocks(layout, np.zeros((1, layout.bytes), np.uint8))
        scales = np.array([0, 1, -1, 127, -128] * 3 + [-77] if name == "q6_k" else [*range(0, 64, 5), 63, 31, 32])
        fields["scales"] = scales[None].astype(np.int8 if name == "q6_k" else np.uint8)
        fields["d"] = np.array([[1.0]], np.float16)
        matrix = matrix_of(name, pack_blocks(layout, fields), 1)
        ones = np.full((1, 256), np.float16(1).view(np.uint16), np.int64)
        for group in range(16):
            activations = np.where(np.arange(256) // 16 == group, ones, 0)
            scale = int(scales[group]) - layout.scale_bias
            assert matmul(matrix, activations) == 16 * low * scale
        weights = matrix.weights(matrix.pieces[0])
        assert weights.scale.min() >= 0 and set(weights.zero[0]) == {0, -1}


def test_channels_of_more_than_one_job(monkeypatch):
    """A matrix with more rows than a job has channels."""
    raw = random_blocks("q4_k", 14, 16)
    for minima, jobs in (("core", 4), ("host", 6)):
        whole = matrix_of("q4_k", raw, 7, minima)
        activations = random_activations((3, 512), 17)
        product = matmul(whole, activations)
        monkeypatch.setattr(gguf_core, "MAX_JOB", 11)
        parted = matrix_of("q4_k", raw, 7, minima)
        assert (len(whole.pieces), len(parted.pieces)) == (2, jobs)
        assert np.array_equal(matmul(parted, activations), product)
        monkeypatch.undo()


@pytest.mark.parametrize("name", BLOCKS)
def test_gguf_package_agrees(name):
    """Product with what the package's decoder gives: float32 weights, rounded in its own order of operations."""
    gguf = pytest.importorskip("gguf", reason="the extra `oracles`")
    raw = random_blocks(name, 12, 18)
    matrix = matrix_of(name, raw, 3)
    activations = random_activations((4, matrix.shape[1]), 19)
    weights = gguf.quants.dequantize(raw.reshape(3, -1), gguf.GGMLQuantizationType(BLOCKS[name].number))
    a = halves(activations).astype(np.float64)
    # The package rounds a weight three times at most.
    slack = error_bound(matrix, activations) + 3.01 * 2.0 ** -24 * np.abs(a) @ magnitudes(matrix).T
    assert (np.abs(matmul(matrix, activations) - a @ weights.astype(np.float64).T) <= slack).all()


# What a type needs ---------------------------------------------------------------------------------


FORMS = {  # type of codes, zero-point, signed scale, bits of scales, of zero-points, minimum
    "q4_0": ("int4", 0, False, 1, 0, False), "q4_1": ("int4", -8, False, 1, 4, True),
    "q5_0": ("int5", 0, False, 1, 0, False), "q5_1": ("int5", -16, False, 1, 5, True),
    "q8_0": ("int8", 0, False, 1, 0, False), "q2_k": ("int2", -2, False, 4, 2, True),
    "q3_k": ("int3", 0, True, 6, 1, False), "q4_k": ("int4", -8, False, 6, 4, True),
    "q5_k": ("int5", -16, False, 6, 5, True), "q6_k": ("int6", 0, True, 8, 1, False),
    "iq4_nl": ("iq4_nl", 0, False, 1, 0, False), "tq1_0": ("int2", 0, False, 1, 0, False),
    "tq2_0": ("int2", -1, False, 1, 1, False)}


def test_forms():
    assert list(FORMS) == list(BLOCKS) == [name for name in TYPES if name not in ("f32", "f16", "bf16")]
    for name, wanted in FORMS.items():
        form = core_form(name)
        assert (form.weight.name, form.zero, form.signed_scale, form.scale_bits, form.zero_bits, form.minimum) == wanted


def test_the_page_says_how_types_run():
    """The table of docs/weight_layouts.md."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "weight_layouts.md").read_text(encoding="utf-8")
    lines = page[page.index("| type | codes | zero-point |"):].split("\n\n")[0].splitlines()[2:]
    rows = {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}
    assert list(rows) == list(BLOCKS)
    for name, (codes, zero, group, scale, header, ones) in rows.items():
        form, design = core_form(name), gguf_design(name)
        assert codes.split(",")[0] == ("the table" if form.layout.values else form.weight.name)
        assert zero == ("0 or -1" if form.signed_scale else str(form.zero or ""))
        assert int(group) == form.group and (scale == "none") == (design.array.scale == "none")
        fields = [field.name for field in design.layout.header if field.name != "special"]
        assert header == (", ".join(fields).replace("type", "select") or "none") and bool(ones) == form.minimum


def test_designs():
    assert gguf_design("q8_0").array.scale == "none" and gguf_design("q4_k").array.scale == "uint6"
    assert gguf_design(["q4_k", "q6_k"]).array.scale == "uint8"
    every = gguf_design()
    assert len(every.array.weights) == 8 and every.array.zero_point == 5 and every.k_chunks == 64
    assert (every.array.group, every.array.groups) == (256, 16)
    assert gguf_design(columns=4, rows=2).bus_bytes == 8 and gguf_design("q2_k").bus_bytes == 4
    for name in BLOCKS:  # one core runs them all
        GgufMatrix(every, name, integer_blocks(name, random_blocks(name, 2, 1), (2, BLOCKS[name].weights)))


# Bad input -----------------------------------------------------------------------------------------


def blocks_of(name: str, shape: tuple[int, ...] | None = None):
    raw = random_blocks(name, 2, 1)
    return integer_blocks(name, raw, shape or (2, BLOCKS[name].weights))


@pytest.mark.parametrize("build, message", [
    (lambda: core_form("q4_l"), "^error: unknown block type at GGUF type: got 'q4_l', expected q4_0, "),
    (lambda: gguf_design([]), "^error: no GGUF type at types: got 'none', expected some of q4_0, "),
    (lambda: GgufMatrix(gguf_design("q4_0"), "q4_k", blocks_of("q4_k")),
     "^error: core has no weight type for these blocks at core dequant_.*: got 'int4', expected binary for q4_k"),
    (lambda: GgufMatrix(gguf_design("q4_1"), "q4_k", blocks_of("q4_k")),
     "^error: core too small at core dequant_.*: got '4 scale bits', expected 6 for q4_k"),
    (lambda: GgufMatrix(gguf_design("q4_k"), "q4_k", blocks_of("q4_k", (512,))),
     r"^error: not a matrix at q4_k tensor: got '\(512,\)', expected rows and columns"),
    (lambda: GgufMatrix(gguf_design("q4_k"), "q4_k", blocks_of("q2_k")),
     "^error: blocks of another type at q4_k tensor: got 'blocks of 256 weights, 16 with a scale', "
     "expected 256 and 32"),
    (lambda: GgufMatrix(gguf_design("q4_k"), "q4_k", blocks_of("q4_k"), "both"),
     "^error: unknown choice at minima: got 'both', expected core, host"),
    (lambda: GgufMatrix(DequantDesign(BitSerialDesign(("int4",), group=32, scale="e8m0"), channel_scale=True), "q4_0",
                        blocks_of("q4_0")),
     "^error: core cannot run GGUF blocks at core dequant_.*: got 'exact, scale e8m0, output fp32', "
     "expected exact sums"),
    (lambda: GgufMatrix(gguf_design("q6_k").with_options(k_chunks=16), "q6_k", blocks_of("q6_k")),
     "^error: K does not fit the activation buffer at k: got 256"),
    (lambda: matmul(matrix_of("q4_0", random_blocks("q4_0", 2, 1), 2), np.zeros((1, 33), np.int64)),
     r"^error: shape mismatch at activations: got '\(1, 33\)', expected \(rows, 32\)"),
    (lambda: matmul(matrix_of("q4_0", random_blocks("q4_0", 2, 1), 2), np.full((1, 32), 0x7C00)),
     "^error: NaN or Inf among activations at activations: expected finite values"),
])
def test_bad_input(build, message):
    with pytest.raises(BitkilnError, match=message) as caught:
        build()
    assert caught.value.exit_code == 2
