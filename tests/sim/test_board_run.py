"""The simulated board: drivers and link down to the serial pins, with hosts that die, resets, noise and cut lines."""

from __future__ import annotations

import numpy as np
import pytest

from bitkiln.host.board import BoardTransport
from bitkiln.host.driver import Core
from bitkiln.host.line import Line, NoisyLine
from bitkiln.host.link import Link
from bitkiln.hw.link.linked import link_design
from bitkiln.models.design import ArrayDesign, MatmulDesign, MorphableDesign
from bitkiln.models.design.link import READ, Identity
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.board_run import BoardModel, SimLine

DESIGN = MatmulDesign(ArrayDesign(2, 2, MorphableDesign(("int8",))))
IDENTITY = Identity("test", "00" * 6, 12_000_000, 6, link_design(DESIGN))


def test_reset_leaves_no_beat_of_the_job_before():
    """A host died while the core was stalled on a full output queue; the next host resets and gets its own results."""
    model = BoardModel(DESIGN, IDENTITY)
    rng = np.random.default_rng(1)
    a, w = rng.integers(-8, 8, (40, 16)), rng.integers(-8, 8, (64, 16))
    first = BoardTransport(Link(SimLine(model)))

    def dies(count, stream="o"):
        for _ in range(60):
            first.pump()
            first.link.request(READ)
        raise KeyboardInterrupt

    first._pull, first.receive = lambda: False, dies
    with pytest.raises(KeyboardInterrupt):
        Core(first, DESIGN).matmul(a, w)
    assert first.link.waiting[0] > 100

    second = BoardTransport(Link(SimLine(model)))          # its constructor resets streams and core
    assert second.link.waiting == [0]
    product = Core(second, DESIGN).matmul(a[:4], w[:4])
    assert (product.values == a[:4] @ w[:4].T).all()


@pytest.mark.parametrize("number", [0xF0, 0xFD, 0xFE, 0xFF, 0x00, 0x01])
def test_a_reset_of_the_board_is_noticed(number):
    """Button, brown-out, a new bitstream: the board counts from 0 again. Beats must not vanish without a word."""
    model = BoardModel(DESIGN, IDENTITY)
    link = Link(SimLine(model))
    while link._sequence != number:
        link.request(READ)
    for _ in range(3):
        link.push(0, bytes(8), 1)
    model.reset()
    with pytest.raises(BitkilnError):
        link.settle()
        link.request(READ)


def test_identity_that_ends_early_is_one_clear_line():
    with pytest.raises(BitkilnError):
        Identity.unpack(IDENTITY.pack()[:-1])


def test_identity_checks_its_digest():
    with pytest.raises(BitkilnError):
        Identity("test", "00" * 8, 12_000_000, 6, IDENTITY.link)


def test_another_matmul_after_each_other():
    """Registers, tiles and results: the shipped driver as it is."""
    model = BoardModel(DESIGN, IDENTITY)
    core = Core(BoardTransport(Link(SimLine(model)), IDENTITY.digest), DESIGN)
    rng = np.random.default_rng(2)
    for shape in ((1, 1, 1), (5, 33, 7)):
        a, w = rng.integers(-128, 128, shape[:2]), rng.integers(-128, 128, (shape[2], shape[1]))
        assert (core.matmul(a, w).values == a @ w.T).all()
    assert model.broken == 0


def test_a_line_that_is_cut():
    """Nothing comes back; once it is mended, a new host starts over."""
    model = BoardModel(DESIGN, IDENTITY)
    transport = BoardTransport(Link(SimLine(model)))
    model.cut()
    with pytest.raises(BitkilnError, match="the board does not answer at simulated board"):
        transport.read32(0)
    model.cut(False)
    assert Core(BoardTransport(Link(SimLine(model))), DESIGN).design is DESIGN


def test_unplugged():
    model = BoardModel(DESIGN, IDENTITY)
    line = SimLine(model)
    core = Core(BoardTransport(Link(line)), DESIGN)
    line.unplugged = True
    with pytest.raises(BitkilnError, match="the board is gone at simulated board: got 'unplugged'"):
        core.matmul(np.ones((2, 4)), np.ones((2, 4)))


class Slow(Line):
    """A byte each millisecond."""

    name, byte_seconds, latency = "slow", 1e-3, 0.0
    time = 0.0

    def write(self, data: bytes) -> None:
        pass

    def read(self, seconds: float) -> bytes:
        self.time += min(seconds, 1e-3)
        return b"x" if seconds >= 1e-3 else b""

    def now(self) -> float:
        return self.time


def test_a_dropped_byte_is_no_timeout():
    """`Line.read`: nothing only after so many seconds without a byte; a dropped one must not end the wait."""
    line = NoisyLine(Slow(), 0, drop=0.5)
    assert all(line.read(0.1) for _ in range(50))
