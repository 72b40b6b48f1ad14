"""A block of a small random language model through the bit-serial array's RTL."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes
from bitkiln.sim.bitserial_llm import run_block

CONFIG = LlamaConfig(blocks=2, width=24, hidden=20, vocabulary=32, heads=4, kv_heads=2, rope_base=100.0, epsilon=1e-3,
                     context=32)


def tiny() -> Llama:
    rng = np.random.default_rng(5)
    return Llama(CONFIG, {name: (rng.standard_normal(shape) * 0.3 + (len(shape) == 1)).astype(np.float32)
                          for name, shape in array_shapes(CONFIG).items()})


@pytest.mark.parametrize("block", [0, 1])
def test_every_matrix_of_a_block(block):
    runs = run_block(tiny(), np.arange(3), "bitmod4", block, 1, 2)
    assert [run.name.split(".")[2] for run in runs] == ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate",
                                                        "ffn_up", "ffn_down"]
    for run in runs:
        assert run.results == 3 * run.shape[0] and run.products == run.results * run.shape[1]
        # Four lanes of two columns, two terms: four products a cycle at best.
        assert 3 < run.products / run.cycles <= 4


def test_no_such_block():
    with pytest.raises(BitkilnError, match="^error: no such block at block: got 2, expected 0 to 1"):
        run_block(tiny(), np.arange(3), "bitmod4", 2, 1, 1)
