"""``bitkiln board``: boards listed, asked, and run, real line or simulated pins."""

import json
import os
import threading
import tty
from pathlib import Path

import pytest

from bitkiln.boards.board import board, board_names
from bitkiln.boards.top import identity_of
from bitkiln.cli import run_cli
from bitkiln.flow.bitstream import board_design
from bitkiln.sim.board_run import BoardModel


def output_of(capsys, *arguments: str) -> str:
    assert run_cli(arguments) == 0
    return capsys.readouterr().out


def error_of(capsys, *arguments: str, code: int = 2) -> str:
    assert run_cli(arguments) == code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err and printed.err.startswith("error: ")
    return printed.err


def test_boards_are_listed(capsys):
    rows = json.loads(output_of(capsys, "board", "--json"))
    assert [row["name"] for row in rows] == board_names() and {row["flow"] for row in rows} == {"open", "vivado"}
    assert "ulx3s" in output_of(capsys, "board") and "Vivado project" in output_of(capsys, "board")


# The smallest core with both formats, so that the simulated board is there in seconds.
SMALL = ("--board", "icebreaker", "--rows", "1", "--columns", "1", "--set", "k_words=64")


def test_first_layers_on_the_simulated_board_with_noise(capsys):
    """The digits network by the shipped driver, down to the serial pins; lost, repeated and damaged bytes are found
    and made good, and every result is exact."""
    found = json.loads(output_of(capsys, "board", "run", "digits", *SMALL, "--simulate", "--images", "2", "--noise",
                                 "0.001", "--seed", "3", "--json"))
    assert found["passed"] and found["mismatches"] == 0 and found["results"] == 2 * (32 + 10)
    assert [(layer["name"], layer["mode"]) for layer in found["layers"]] == [
        ("mlp.hidden", "fp4"), ("mlp.scores", "int8")]
    assert min(found["noise"].values()) > 0 and found["link"]["repeated"] > 0 and found["finished"] == "host"


def serve(model: BoardModel, device: int, stop: threading.Event) -> None:
    """The simulated board at the end of a pseudo-terminal."""
    os.set_blocking(device, False)
    while not stop.is_set():
        try:
            model.write(os.read(device, 4096))
        except BlockingIOError:
            pass
        except OSError:
            return
        data = model.wait(2000)
        while data:
            os.write(device, data)
            data = model.wait(400)


@pytest.fixture
def port():
    """A serial port with a simulated iCEBreaker behind it."""
    pytest.importorskip("serial")
    found = board("icebreaker")
    resolved = board_design(found, cli={"array.rows": (1, "t"), "array.columns": (1, "t"), "k_words": (64, "t")})
    model = BoardModel(resolved.design, identity_of(found, resolved.design, resolved.digest))
    device, other = os.openpty()
    tty.setraw(other)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(model, device, stop), daemon=True)
    thread.start()
    yield os.ttyname(other)
    stop.set()
    thread.join(timeout=5)
    os.close(device)
    os.close(other)


def test_the_same_over_a_serial_port(port, capsys):
    """A pseudo-terminal: the commands as for a board that is plugged in."""
    facts = json.loads(output_of(capsys, "board", "info", "--port", port, "--json"))
    assert (facts["board"], facts["clock_mhz"], facts["inputs"]) == ("icebreaker", 18.0, {"a": 4, "w": 4})
    assert "icebreaker" in output_of(capsys, "board", "info", "--port", port)
    said = output_of(capsys, "board", "run", "digits", *SMALL, "--port", port, "--images", "1")
    assert "PASS: the board equals the golden model" in said and port in said
    text = error_of(capsys, "board", "run", "digits", "--board", "icebreaker", "--port", port, code=1)
    assert f"the board holds another design at {port}: got '{facts['design']}'" in text


def test_wrong_arguments(capsys):
    run = ("board", "run", "digits")
    assert "unknown board at --board: got 'ulx3', expected" in error_of(capsys, *run, "--board", "ulx3", "--simulate")
    assert "unknown network at bitkiln board run: got 'digit'" in error_of(capsys, "board", "run", "digit")
    assert "missing option at bitkiln board run --board" in error_of(capsys, *run, "--simulate")
    both = ("--simulate", "--port", "/dev/null")
    for given, got in (((), "got 'none'"), (both, "got 'both'")):
        text = error_of(capsys, *run, "--board", "ulx3s", *given)
        assert f"{got}, expected exactly one of --port PORT and --simulate" in text
    assert "the digits network runs on matrix products" in error_of(
        capsys, *run, "--board", "ulx3s", "--engine", "spconv", "--simulate")
    assert "missing option at bitkiln board info --port" in error_of(capsys, "board", "info")
    assert "not the folder of a bitstream" in error_of(
        capsys, *run, "--board", "ulx3s", "--simulate", "--bitstream", "nowhere")


def test_a_port_that_does_not_exist(capsys):
    pytest.importorskip("serial")
    for command in (("board", "info"), ("board", "run", "digits", "--board", "ulx3s")):
        assert "no such port at --port: got '/dev/ttyNOPE'" in error_of(capsys, *command, "--port", "/dev/ttyNOPE")


def test_layers_of_a_file(capsys):
    Path("layers.yaml").write_text("hidden: int8\nscores: posit8_0\n")
    text = error_of(capsys, "board", "run", "digits", *SMALL, "--simulate", "--layers", "layers.yaml")
    assert "layers.yaml:2" in text and "posit8_0" in text


@pytest.mark.slow
@pytest.mark.parametrize("name, output", [("icebreaker", "host"), ("ulx3s", "board")])
def test_default_boards_run_the_digits_network(name, output, capsys):
    found = json.loads(output_of(capsys, "board", "run", "digits", "--board", name, "--simulate", "--images", "12",
                                 "--noise", "0.0005", "--json"))
    assert found["passed"] and found["finished"] == output and found["accuracy"] > 0.7
