"""The link's hardware: bytes on the pins against the reference of `sim.link_check`."""

import numpy as np
import pytest

from bitkiln.host.link import FrameReader, frame
from bitkiln.hw.link.linked import link_design
from bitkiln.models.design import link as wire
from bitkiln.models.design.link import Channel, Identity, LinkDesign, divisor_of
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.link_check import ReferenceBoard, check_link, echo_identity, echo_model


@pytest.mark.parametrize("divisor, widths", [(5, (1, 16)), (8, (2, 3, 4)), (25, (4,))])
@pytest.mark.parametrize("drift", [0.0, 0.02, -0.02])
def test_answers_equal_the_reference(divisor, widths, drift):
    """Legal, illegal and damaged requests; with a host whose bit clock is 2 % off."""
    model = echo_model(echo_identity(divisor, widths), drift=drift)
    result = check_link(model, seed=divisor, frames=300)
    assert result.mismatches == 0, result.first
    assert result.answers > 200 and model.broken == 0


def ask(model, *contents: bytes, gap: int = 0) -> list[bytes]:
    """Answers to frames that follow each other on the line."""
    for content in contents:
        model.write(frame(content))
        model.step(gap)
    reader, found = FrameReader(), []
    while part := model.wait(4000 + 3000 * model.identity.divisor):
        found += reader.feed(part)
    return found


def begin(model) -> None:
    assert ask(model, bytes([0, wire.IDENTIFY << 4]))[0][1] == 1


def test_a_request_that_comes_twice_is_done_once():
    model = echo_model(echo_identity(5, (4,)))
    begin(model)
    push = bytes([1, wire.PUSH << 4, 2]) + bytes(range(8))
    pull = bytes([2, wire.PULL << 4, 9])
    first = ask(model, push, push)
    assert [each[1] for each in first] == [2, 2] and first[-1][4] == 2      # two beats wait, not four
    answers = ask(model, pull, pull)
    assert answers[0][5:] == answers[1][5:] == bytes([2, *range(8)])
    assert answers[0][4] == 0                                                # and were taken once


def test_requests_behind_a_lost_one_are_refused():
    model = echo_model(echo_identity(5, (4,)))
    begin(model)
    late = bytes([2, wire.WRITE << 4, 0, 0, 1, 0, 0, 0])
    answer, = ask(model, late)
    assert answer[:3] == bytes([2, 1, wire.REFUSED])
    assert ask(model, bytes([1, wire.READ << 4, 0, 0]))[0][5:] == bytes([1, 0, 0, 0, 0])


def test_two_requests_wait_while_an_answer_goes_out():
    """There are two buffers; a third request, sent ahead of all answers, is dropped, and done when it comes again."""
    model = echo_model(echo_identity(5, (4,)))
    begin(model)
    reads = [bytes([at, wire.READ << 4]) + bytes(4 * [0, 0]) for at in (1, 2, 3)]
    assert [each[0] for each in ask(model, *reads)] == [1, 2]
    assert [each[:2] for each in ask(model, *reads[1:])] == [bytes([2, 3]), bytes([3, 4])]


def test_a_full_queue_refuses_beats_and_keeps_its_own():
    model = echo_model(echo_identity(5, (128 - 3,)))
    depth = model.identity.link.inputs[0].depth
    begin(model)
    beat = bytes(125)
    for at in range(2 * (depth - 1)):
        answer, = ask(model, bytes([1 + at, wire.PUSH << 4, 1]) + beat)
        assert not answer[2] & wire.OVERRUN
    number = 1 + 2 * (depth - 1)
    answer, = ask(model, bytes([number, wire.PUSH << 4, 1]) + beat)
    assert answer[2] & wire.OVERRUN and answer[1] == number and answer[3:5] == bytes([0, depth - 1])


def test_reset_of_the_core_lasts_and_of_the_streams_empties():
    model = echo_model(echo_identity(5, (4,)))
    begin(model)
    ask(model, bytes([1, wire.PUSH << 4, 1]) + bytes(4))
    answer, = ask(model, bytes([2, wire.RESET << 4, wire.RESET_STREAMS | wire.RESET_CORE]))
    assert answer[4] == 0


def test_bytes_without_a_stop_bit_are_dropped():
    """A line that is held low: nothing is heard, and a frame afterwards is."""
    identity = echo_identity(8, (4,))
    model = echo_model(identity, drift=0.5)          # every byte is misread
    model.write(frame(bytes([0, wire.IDENTIFY << 4])))
    assert model.wait(20_000) == b""


def test_identity_round_trips():
    link = LinkDesign((Channel("a", 4), Channel("w", 128 - 3)), (Channel("o", 1),))
    identity = Identity("twelve_chars", "0123456789ab", 50_000_000, 50, link)
    assert Identity.unpack(identity.pack()) == identity
    assert Identity.unpack(identity.pack() + b"more") == identity


def test_identities_that_are_wrong():
    good = echo_identity().pack()
    with pytest.raises(BitkilnError, match="not a bitkiln board at identity"):
        Identity.unpack(b"XXXX" + good[4:])
    with pytest.raises(BitkilnError, match=r"wrong firmware version at link protocol: got '9\.0', expected 1\.x"):
        Identity.unpack(good[:4] + bytes([9, 0]) + good[6:])
    with pytest.raises(BitkilnError, match="illegal name of a board"):
        Identity("far_too_long_a_name", "0123456789ab", 1_000_000, 10, echo_identity().link)


@pytest.mark.parametrize("hz, baud, divisor", [(18e6, 1_000_000, 18), (25e6, 115_200, 217), (50e6, 3_000_000, 17)])
def test_divisors(hz, baud, divisor):
    assert divisor_of(hz, baud) == divisor


@pytest.mark.parametrize("hz, baud", [(12e6, 3_000_000), (27e6, 4_000_000), (1e6, 250_000)])
def test_bit_rates_that_a_clock_does_not_make(hz, baud):
    with pytest.raises(BitkilnError, match="the clock does not make this bit rate at baud"):
        divisor_of(hz, baud)


def test_a_core_with_a_memory_of_its_own_has_no_link():
    from bitkiln.config import load_design

    with pytest.raises(BitkilnError, match="cannot sit behind a serial link"):
        link_design(load_design(preset="matmul_core_dma").design)
    with pytest.raises(BitkilnError, match="this engine has no link at engine: got 'Dot'"):
        link_design(load_design(preset="dot_fp4").design)


def test_the_reference_is_not_the_hardware():
    """What the comparison rests on: an answer by hand."""
    board = ReferenceBoard(echo_identity(5, (4,)))
    assert board.answer(bytes([7, wire.IDENTIFY << 4]))[:5] == bytes([7, 8, 0, 255, 0])
    assert board.answer(bytes([8, wire.WRITE << 4, 4, 0, 1, 2, 3, 4, 64, 0, 9, 9, 9, 9]))[5:] == bytes([1 | 2 << 6])
    assert board.answer(bytes([9, wire.READ << 4, 4, 0]))[5:] == bytes([1, 1, 2, 3, 4])
    assert np.all(np.array(board.registers) == [0, 0x04030201, 0, 0x12345678])
