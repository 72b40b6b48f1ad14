"""Matrix products of quantised weights through the dequantising core's RTL, from packed groups in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitkiln.hw.dequant.core import DequantCore
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.errors import BitkilnError
from bitkiln.models.quantize.asymmetric import rtn_asym
from bitkiln.models.quantize.bitmod import bitmod
from bitkiln.models.quantize.block_scaled import mx, nvfp4
from bitkiln.models.quantize.groups import GroupQuantized
from bitkiln.models.quantize.symmetric import fp
from bitkiln.models.workloads.bitserial import EngineMatrix
from bitkiln.sim.dequant_network import CoreProduct
from bitkiln.sim.streams import StreamModel, build_streams

# The last two are also designs of tests/hw/test_dequant_core.py, so that they are built once.
DESIGNS = {
    "uint8": DequantDesign(BitSerialDesign(("bitmod4", "bitmod3", "fp6_e3m2"), "int8", columns=2, group=32, groups=8),
                           (None, None, "4+2"), 8, 64),
    "e8m0": DequantDesign(BitSerialDesign(("fp4",), "int8", rows=2, group=32, scale="e8m0"), k_chunks=64),
    "zero-point": DequantDesign(BitSerialDesign(("int4", "int2"), "int8", rows=2, columns=3, group=32, groups=8,
                                                zero_point=4), bus_bytes=16, k_chunks=64),
    "ue4m3": DequantDesign(BitSerialDesign(("fp4",), "fp8_e4m3", columns=2, lanes=8, group=16, scale="ue4m3"),
                           bus_bytes=4, k_chunks=64),
}
# Rows of a matrix are no multiple of the columns, K is none of the group: ragged tiles and groups everywhere.
PRODUCTS = {
    "bitmod4": ("uint8", lambda w: bitmod(w, 4, 32)),
    "bitmod3": ("uint8", lambda w: bitmod(w, 3, 20)),
    "fp6": ("uint8", lambda w: fp(w, 6, 32, element="fp6_e3m2")),
    "mxfp4": ("e8m0", lambda w: mx(w, 4)),
    "int4 asym": ("zero-point", lambda w: rtn_asym(w, 4, 32)),
    "int2 asym": ("zero-point", lambda w: rtn_asym(w, 2, 10, zero_bits=4)),
    "nvfp4": ("ue4m3", lambda w: nvfp4(w)),
}


@pytest.fixture(scope="module")
def models() -> dict[str, StreamModel]:
    return dict(zip(DESIGNS, build_streams([DequantCore(design) for design in DESIGNS.values()]), strict=True))


def product(name: str) -> tuple[DequantDesign, GroupQuantized, np.ndarray]:
    """Core, weights (11, 75) and activation codes (5, 75)."""
    key, quantise = PRODUCTS[name]
    rng = np.random.default_rng(29)
    weights = rng.standard_t(4, (11, 75)) * 0.1
    weights[3] = 0
    weights[4, 32:64] = np.abs(weights[4, 32:64])
    design = DESIGNS[key]
    fmt = design.array.activation
    values = rng.normal(0, 30 if fmt.family == "int" else 1, (5, 75))
    return design, quantise(weights), fmt.encode(values).astype(np.int64)


@pytest.mark.parametrize("name", PRODUCTS)
def test_product_from_packed_weights(models, name):
    """Every result equals the golden one, and with its scale that of the dequantised matrix."""
    design, quantised, activations = product(name)
    core = CoreProduct(design, models[PRODUCTS[name][0]])
    matrix = EngineMatrix(design.array, quantised)
    found = core.matmul(matrix, activations)
    assert (core.results, core.products) == (55, 5 * 11 * 75) and core.cycles > 0
    real = design.array.activation.decode(activations) @ quantised.dequantise().T
    np.testing.assert_allclose(found * matrix.channel_scale, real, rtol=1e-5, atol=1e-6 * np.abs(real).max())
    assert np.abs(real).max() > 1 and not real[:, 3].any()


def test_a_wrong_result_is_named(models):
    class Wrong:
        """The model, with one bit of the eighth result turned over."""

        def run(self, *arguments, **options):
            run = models["uint8"].run(*arguments, **options)
            words = run.outputs["o"].copy()
            words[7] ^= np.uint64(1)
            return replace(run, outputs={"o": words})

    design, quantised, activations = product("bitmod4")
    with pytest.raises(BitkilnError) as caught:
        CoreProduct(design, Wrong()).matmul(EngineMatrix(design.array, quantised), activations, "layer 1")
    error = caught.value
    assert (error.what, error.where, error.help) == ("RTL and golden model differ", "layer 1[0, 7]", "1 of 55 differ")
    assert error.exit_code == 1


def test_jobs_of_several_runs(models, monkeypatch):
    """More rows than one run's jobs hold."""
    design, quantised, activations = product("bitmod3")
    monkeypatch.setattr("bitkiln.sim.dequant_network.JOBS", 2)
    core, whole = (CoreProduct(design, models["uint8"]) for _ in range(2))
    matrix = EngineMatrix(design.array, quantised)
    found = core.matmul(matrix, activations)
    monkeypatch.setattr("bitkiln.sim.dequant_network.JOBS", 64)
    assert np.array_equal(found, whole.matmul(matrix, activations))
    assert core.cycles > whole.cycles
