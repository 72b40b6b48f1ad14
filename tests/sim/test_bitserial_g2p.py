"""A small GRU through the array's RTL: what is compared, what is counted, and that a wrong bit or cycle is found."""

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.workloads import g2p
from bitkiln.models.workloads.g2p_serial import QuantisedG2p, recipe
from bitkiln.sim import bitserial_g2p, bitserial_network
from bitkiln.sim.bitserial_g2p import run_serial_g2p, sample_design

HIDDEN, EMBEDDING = 8, 12
TEXTS = ["ab"]


@pytest.fixture(scope="module")
def network():
    rng = np.random.default_rng(6)
    shapes = {"enc_emb": (29, EMBEDDING), "dec_emb": (74, EMBEDDING), "fc_w": (74, HIDDEN), "fc_b": (74,)}
    for side in ("enc", "dec"):
        shapes |= {f"{side}_w_ih": (3 * HIDDEN, EMBEDDING), f"{side}_w_hh": (3 * HIDDEN, HIDDEN),
                   f"{side}_b_ih": (3 * HIDDEN,), f"{side}_b_hh": (3 * HIDDEN,)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return QuantisedG2p(g2p.G2p(arrays), recipe("bitmod3"))


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """One array for all tests here."""
    monkeypatch.setattr(bitserial_g2p, "COLUMNS", 2)


def test_every_product_of_a_word(network):
    found = run_serial_g2p(network, TEXTS)
    assert found.equal and found.words == 1 and found.weights == "bitmod3"
    spoken = len(g2p.predict(network.net, TEXTS, network.product())[0])
    assert spoken > 0
    # Two letters and the end; then a step for each phoneme, and one for the end where it comes before the limit.
    steps = min(spoken + 1, g2p.STEPS)
    gates = 3 * HIDDEN
    assert found.results == 3 * 2 * gates + steps * (2 * gates + 74)
    assert found.products == 3 * gates * (EMBEDDING + HIDDEN) + steps * (gates * (EMBEDDING + HIDDEN) + 74 * HIDDEN)
    # Two columns of four lanes, two cycles a chunk: one group of 12 or 8 weights is 3 or 2 chunks.
    assert found.peak == 1 * 2 * 4 / 2
    assert found.cycles_per_word == found.cycles >= found.products / found.peak
    assert 0 < found.utilisation == found.products / found.cycles / 4 < 1
    assert found.as_dict()["utilisation"] == found.utilisation


def test_rows_are_words(network):
    assert [sample_design(network, words).rows for words in (1, 2, 50)] == [1, 2, bitserial_g2p.ROWS]
    with pytest.raises(BitkilnError, match="no words"):
        run_serial_g2p(network, [])


def test_a_wrong_bit_is_found(network, monkeypatch):
    """The golden model is told something else: the RTL's bits are what is compared."""
    exact = bitserial_network.matmul

    def wrong(matrix, codes):
        results = exact(matrix, codes).copy()
        results[0, -1] = np.nextafter(results[0, -1], np.float32(np.inf))
        return results

    monkeypatch.setattr(bitserial_network, "matmul", wrong)
    with pytest.raises(BitkilnError, match=r"RTL and golden model differ at enc_w_ih\[0, 23\](?s:.*)1 of 24") as caught:
        run_serial_g2p(network, TEXTS)
    assert caught.value.exit_code == 1


def test_a_wrong_cycle_is_found(network, monkeypatch):
    exact = bitserial_network.event_cycles

    def wrong(*given):
        accepted, ends, stalls = exact(*given)
        return accepted, ends + (np.arange(len(ends)) == 3), stalls

    monkeypatch.setattr(bitserial_network, "event_cycles", wrong)
    with pytest.raises(BitkilnError, match="RTL and event model differ at enc_w_ih result 3"):
        run_serial_g2p(network, TEXTS)
