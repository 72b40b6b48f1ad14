"""How a driver reaches a core: registers, streams and memory, whatever carries them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from bitkiln.models.design.registers import RegisterMap
from bitkiln.models.errors import FAILED, BitkilnError

__all__ = ["STREAMS", "Transport", "check_identity"]

STREAMS = ("a", "w", "c")   # s_axis_a, s_axis_w, s_axis_c


class Transport(ABC):
    """Access to one core.

    Beats are ``(beats, bus_bits / 8)`` uint8 arrays (`bitkiln.host.packing`). Sending and receiving go on side by
    side: `send` leaves beats to the transport, and results that arrive are kept until `receive`, so that a driver
    may hand over a whole job before it takes the first result.

    Attributes
    ----------
    memory : range
        Byte addresses that the driver may use, of cores with an AXI4 master; else empty.
    """

    memory: range = range(0)

    @abstractmethod
    def read32(self, address: int) -> int:
        """A register; raises BitkilnError where the core answers with an error."""

    @abstractmethod
    def write32(self, address: int, value: int) -> None:
        """Write a register; raises BitkilnError where the core answers with an error."""

    def read_many(self, addresses: Sequence[int]) -> list[int]:
        """Several registers, in order."""
        return [self.read32(address) for address in addresses]

    def write_many(self, writes: Sequence[tuple[int, int]]) -> None:
        """Several registers as (address, value), in order; ends at the first that the core refuses."""
        for address, value in writes:
            self.write32(address, value)

    @abstractmethod
    def wait(self) -> bool:
        """Let time pass: until the interrupt line is high, or for as long as is sensible between two polls.
        Returns whether the line is high."""

    def send(self, stream: str, beats: np.ndarray) -> None:
        """Queue beats for a stream of `STREAMS`."""
        raise BitkilnError("no streams", where=type(self).__name__, expected="a core without an AXI4 master",
                           exit_code=1)

    def receive(self, count: int) -> np.ndarray:
        """The next ``count`` beats of results; waits for them and raises BitkilnError where they do not come."""
        raise BitkilnError("no streams", where=type(self).__name__, expected="a core without an AXI4 master",
                           exit_code=1)

    @abstractmethod
    def flush(self) -> None:
        """Forget beats that were not sent or not received (after an abort)."""

    def memory_read(self, address: int, count: int) -> np.ndarray:
        """``count`` bytes (uint8) of the memory that the core's master reaches."""
        raise BitkilnError("no memory", where=type(self).__name__, expected="a core with an AXI4 master", exit_code=1)

    def memory_write(self, address: int, data: np.ndarray) -> None:
        """Store bytes (uint8) in the memory that the core's master reaches."""
        raise BitkilnError("no memory", where=type(self).__name__, expected="a core with an AXI4 master", exit_code=1)


def check_identity(transport: Transport, registers: RegisterMap, name: str) -> None:
    """Raise BitkilnError unless the core behind a transport is the one that the registers describe.

    Parameters
    ----------
    registers : RegisterMap
        Those whose fields are all constants are compared; a larger ``minor`` is welcome.
    name : str
        Of the design.
    """
    known = [each for each in registers if all(part.constant is not None for part in each.fields)]
    words = transport.read_many([register.offset for register in known])
    for register, word in zip(known, words, strict=True):
        found = register.unpack(word)
        for each in register.fields:
            newer = each.name == "minor" and found[each.name] >= each.constant   # only additions
            if found[each.name] != each.constant and not newer:
                where = register.name if each.name == "value" else f"{register.name}.{each.name}"
                raise BitkilnError("this is another core", where=where, got=found[each.name],
                                   expected=str(each.constant), help=f"the design is {name}", exit_code=FAILED)
