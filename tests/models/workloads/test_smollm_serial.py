"""The language model's products on the bit-serial engine: against float products of the dequantised matrices."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes, logits
from bitkiln.models.workloads.smollm_serial import WEIGHTS, SerialLlama, engine_matrix, serial_design

CONFIG = LlamaConfig(blocks=2, width=48, hidden=40, vocabulary=32, heads=4, kv_heads=2, rope_base=100.0, epsilon=1e-3,
                     context=32)


@pytest.fixture(scope="module")
def net() -> Llama:
    rng = np.random.default_rng(5)
    return Llama(CONFIG, {name: (rng.standard_normal(shape) * 0.3 + (len(shape) == 1)).astype(np.float32)
                          for name, shape in array_shapes(CONFIG).items()})


@pytest.mark.parametrize("weights", WEIGHTS)
def test_products_are_those_of_the_stored_weights(net, weights):
    serial = SerialLlama(net, weights)
    rows = np.random.default_rng(1).standard_normal((3, 48)).astype(np.float32)
    found = serial("blk.0.attn_q.weight", rows)
    quantised = serial.matrix("blk.0.attn_q.weight").quantised
    # One rounding of each activation aside, and those of float32 results.
    wanted = rows.astype(np.float16).astype(np.float64) @ quantised.dequantise().T
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-6)
    assert serial.bits_per_weight == quantised.bits_per_weight


def test_more_bits_are_closer(net):
    tokens = np.arange(8)
    exact = logits(net, tokens)
    errors = {name: float(np.mean((logits(net, tokens, SerialLlama(net, name)) - exact) ** 2))
              for name in ("int8", "int6", "bitmod4", "bitmod3")}
    assert errors["int8"] < errors["int6"] < errors["bitmod4"] < errors["bitmod3"]


def test_one_engine_for_all_matrices(net):
    matrices = [engine_matrix("bitmod4", net.arrays[f"blk.0.{part}.weight"], part, group=16)
                for part in ("attn_q", "ffn_down")]
    design = serial_design(matrices)
    assert (design.group, design.groups) == (16, 3) and [t.name for t in design.weights] == ["bitmod4"]


def test_unknown_format(net):
    with pytest.raises(BitkilnError, match="^error: unknown weight format at weights: got 'int5', expected int8, int6"):
        engine_matrix("int5", net.arrays["blk.0.attn_q.weight"], "q")
