"""The host's end of the link, and the transport on it, against a board in plain Python."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_line import ReferenceLine

from bitkiln.host.board import BoardTransport
from bitkiln.host.line import NoisyLine, SerialLine
from bitkiln.host.link import FrameReader, Link, frame
from bitkiln.models.design import link as wire
from bitkiln.models.errors import BitkilnError
from bitkiln.sim.link_check import ReferenceBoard, echo_identity


@given(st.lists(st.binary(min_size=1, max_size=250), max_size=5), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_frames_come_out_as_they_went_in(contents, step):
    data = b"".join(map(frame, contents))
    reader = FrameReader()
    found = [content for at in range(0, len(data), step) for content in reader.feed(data[at:at + step])]
    assert found == contents and reader.damaged == 0


def test_a_frame_by_hand():
    """Flag, escaped bytes, CRC-32 of `zlib` (0x3E...): nothing between the flags looks like one."""
    data = frame(b"\x7e\x7d")
    assert data[:5] == bytes([0x7E, 0x7D, 0x5E, 0x7D, 0x5D]) and data[-1] == 0x7E and 0x7E not in data[1:-1]


@given(st.binary(min_size=1, max_size=60), st.data())
@settings(max_examples=200, deadline=None)
def test_no_single_damage_goes_unseen(content, data):
    """A lost byte, a byte that comes twice, a flipped bit: never another frame than the one that was sent."""
    sent = frame(content)
    at = data.draw(st.integers(0, len(sent) - 1))
    kind = data.draw(st.sampled_from(["drop", "repeat", "flip"]))
    bit = data.draw(st.integers(0, 7))
    middle = {"drop": b"", "repeat": sent[at:at + 1] * 2, "flip": bytes([sent[at] ^ 1 << bit])}[kind]
    found = FrameReader().feed(sent[:at] + middle + sent[at + 1:])
    assert found in ([], [content])


def echo(transport: BoardTransport, seed: int, beats: int = 300) -> None:
    """Registers and both streams, with more beats than the board holds."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 1 << 32, 2).tolist()
    transport.write_many([(4, words[0]), (8, words[1])])
    assert transport.read_many([4, 8, 12]) == [*words, 0x12345678]
    for name, width in (("a", 4), ("w", 3)):
        data = rng.integers(0, 256, (beats, width), dtype=np.uint8)
        transport.send(name, data)
        assert np.array_equal(transport.receive(beats, name), data)


def test_registers_and_streams():
    line = ReferenceLine()
    transport = BoardTransport(Link(line), "0123456789ab")
    echo(transport, 1, beats=700)
    assert transport.link.counts["repeated"] == 0
    transport.write32(0, 1)
    assert transport.wait() and transport.link.irq


def test_beats_left_are_those_that_the_core_has_not_taken():
    """More than input and output of the echo hold: the rest waits, here and in the board's queue."""
    transport = BoardTransport(Link(ReferenceLine()))
    data = np.random.default_rng(0).integers(0, 256, (900, 4), dtype=np.uint8)
    assert transport.left("a") == 0
    transport.send("a", data)
    assert transport.left("a") > 255
    for _ in range(20):
        transport.wait()
    assert transport.left("a") == 0 and transport.arrived("a") == 900
    assert np.array_equal(transport.receive(900, "a"), data)
    with pytest.raises(BitkilnError, match="no such stream at link: got 'q', expected a or w"):
        transport.left("q")


def test_small_parts_share_frames():
    """What is sent while there is no room leaves in whole frames, in order."""
    transport = BoardTransport(Link(ReferenceLine()))
    parts = [np.full((3, 4), at, np.uint8) for at in range(250)]
    transport.send("a", np.zeros((510, 4), np.uint8))          # both queues are full
    before = transport.link.counts["requests"]
    for part in parts:
        transport._out["a"].append(part)                       # as by `send`, without a look at the board
    found = transport.receive(510 + 750, "a")[510:]
    assert np.array_equal(found, np.concatenate(parts))
    assert transport.link.counts["requests"] - before < 60


@pytest.mark.parametrize(("noise", "seed"), [*((2e-3, seed) for seed in range(6)), *((5e-3, seed) for seed in range(4))])
def test_noise_costs_time_only(noise, seed):
    """Lost, repeated and damaged bytes in both directions: nothing is lost, nothing is done twice.

    As far as commands allow it: of 1,000 bytes five are lost, five repeated and five damaged.
    """
    line = NoisyLine(ReferenceLine(), seed, drop=noise, repeat=noise, corrupt=noise)
    transport = BoardTransport(Link(line))
    echo(transport, seed)
    assert transport.link.counts["repeated"] > 0 and min(line.injected.values()) > 0


def test_each_request_is_done_once_under_noise():
    """A counter on the board: what it says it did is what was asked for."""
    done = []

    class Counting(ReferenceBoard):
        def _access(self, write, payload):
            if write:
                done.append(payload)
            return super()._access(write, payload)

    line = NoisyLine(ReferenceLine(Counting(echo_identity(8, (4,)))), 5, drop=4e-3, repeat=4e-3, corrupt=4e-3)
    transport = BoardTransport(Link(line))
    for value in range(200):
        transport.write32(4, value)
    assert [int.from_bytes(each[2:], "little") for each in done] == list(range(200))


def test_sequence_numbers_go_round():
    line = ReferenceLine()
    transport = BoardTransport(Link(line))
    for value in range(600):
        transport.write32(8, value)
    assert line.board.registers[2] == 599 and line.requests > 512


def test_bus_errors_name_the_register():
    transport = BoardTransport(Link(ReferenceLine()))
    with pytest.raises(BitkilnError, match=r"the core answers with an error at write to 0x00c: got 2, expected 0"):
        transport.write_many([(4, 1), (12, 1)])
    with pytest.raises(BitkilnError, match=r"the core answers with an error at read of 0x400: got 2, expected 0"):
        transport.read32(0x400)
    assert transport.read32(4) == 1                # and the link goes on


def test_another_design():
    with pytest.raises(BitkilnError, match="the board holds another design at reference: got '0123456789ab', "
                                           "expected ffffffffffff"):
        BoardTransport(Link(ReferenceLine()), "ffffffffffff")


def test_another_protocol():
    identity = dataclasses.replace(echo_identity(8, (4,)), protocol=(2, 0))
    with pytest.raises(BitkilnError, match=r"wrong firmware version at link protocol: got '2\.0', expected 1\.x"):
        Link(ReferenceLine(ReferenceBoard(identity)))


def test_a_newer_minor_protocol_is_welcome():
    identity = dataclasses.replace(echo_identity(8, (4,)), protocol=(wire.PROTOCOL[0], 7))
    assert Link(ReferenceLine(ReferenceBoard(identity))).identity.protocol == (1, 7)


def test_something_else_answers():
    class Modem(ReferenceLine):
        def write(self, data):
            self.inbox += b"AT?\r\n" + frame(b"\x01\x02")

    with pytest.raises(BitkilnError, match="no answer from a board at reference"):
        Link(Modem())


def test_nobody_answers():
    class Silent(ReferenceLine):
        def write(self, data):
            pass

    with pytest.raises(BitkilnError, match="no answer from a board at reference: got '12 requests in vain'"):
        Link(Silent())


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_unplugged_in_the_middle(after):
    with pytest.raises(BitkilnError, match="the board is gone at reference: got 'unplugged'"):
        echo(BoardTransport(Link(ReferenceLine(unplug_after=after))), 0)


def test_a_board_that_falls_silent():
    line = ReferenceLine()
    transport = BoardTransport(Link(line))
    line.board.answer = lambda content: None
    with pytest.raises(BitkilnError, match="the board does not answer at reference"):
        transport.read32(0)


def test_results_that_do_not_come():
    transport = BoardTransport(Link(ReferenceLine()))
    line = transport.link.line
    line.read_before = line.read

    def read(seconds):               # every look at the board takes a tenth of a second
        line.time += 0.1
        return line.read_before(seconds)

    line.read = read
    with pytest.raises(BitkilnError, match="results do not come at reference: got 0, expected 3 beats"):
        transport.receive(3, "a")


def test_wrong_beats_and_streams():
    transport = BoardTransport(Link(ReferenceLine()))
    with pytest.raises(BitkilnError, match="wrong beats at stream a"):
        transport.send("a", np.zeros((2, 8), np.uint8))
    with pytest.raises(BitkilnError, match="no such stream at link: got 'q', expected a or w"):
        transport.send("q", np.zeros((2, 4), np.uint8))


def test_flush_forgets_both_sides():
    transport = BoardTransport(Link(ReferenceLine()))
    transport.send("a", np.zeros((500, 4), np.uint8))
    transport.flush()
    assert transport.arrived("a") == 0
    echo(transport, 3, beats=10)


def test_a_port_that_does_not_exist():
    pytest.importorskip("serial")
    with pytest.raises(BitkilnError, match="no such port at --port: got '/dev/ttyNOPE'"):
        SerialLine("/dev/ttyNOPE", 115200)


def test_over_a_real_serial_device():
    """A pseudo-terminal with the reference board at the other end: pyserial's path, end to end."""
    pytest.importorskip("serial")
    import os
    import threading
    import tty

    board, slave = os.openpty()
    tty.setraw(slave)
    reference, reader, stop = ReferenceBoard(echo_identity(8, (4, 3))), FrameReader(), threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                data = os.read(board, 4096)
            except OSError:
                return
            for content in reader.feed(data):
                if (answer := reference.answer(content)) is not None:
                    os.write(board, frame(answer))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    line = SerialLine(os.ttyname(slave), 115200)
    try:
        echo(BoardTransport(Link(line)), 4, beats=50)
    finally:
        stop.set()
        line.close()
    os.close(board)
    thread.join(timeout=2)
    os.close(slave)


def test_a_serial_device_that_goes_away():
    pytest.importorskip("serial")
    import os
    import tty

    board, slave = os.openpty()
    tty.setraw(slave)
    line = SerialLine(os.ttyname(slave), 115200)
    os.close(slave)
    os.close(board)
    with pytest.raises(BitkilnError, match="the board is gone at /dev/"):
        for _ in range(3):
            line.write(b"x")
            line.read(0.01)
