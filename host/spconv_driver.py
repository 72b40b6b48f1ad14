"""Python driver of the sparse-convolution core behind a link.

>>> driver = SpConvDriver(transport, design)
>>> driver.run(compile_network(design, run))      # codes (rows, channels) of each tensor that is stored
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from bitkiln.models.design.spconv import KERNEL_OFFSETS
from bitkiln.models.design.spconv_core import RECORDS_REQUEST, REQUEST_FIELDS, SpConvDesign, SpConvJob
from bitkiln.models.design.spconv_registers import COUNTERS, SPCONV_ERRORS, spconv_job_registers, spconv_registers
from bitkiln.models.errors import FAILED, BitkilnError
from bitkiln.models.workloads.spconv_nets import LayerRun

from .board import BoardTransport
from .fields import unpack_fields
from .spconv import Program, Step, answer_beats, beat_bytes, feature_beats, unpack_features, voxel_beats
from .transport import check_identity

__all__ = ["SpConvDriver"]

PATIENCE = 10.0     # seconds without a beat or the end of a job
MEANINGS = {"unsorted": "voxels were not in canonical order", "overflow": "more voxels, or nodes of a level, than fit",
            "rejected": "a voxel out of range, or there already, in a strict load",
            "queue_full": "a job was started while the queue was full"}


class SpConvDriver:
    """A sparse-convolution core behind a transport.

    Parameters
    ----------
    transport : BoardTransport
        Streams v (voxels), f (features), w (weights and records), q (requests for them), o (features that leave).
    design : SpConvDesign
        What the core was built from; compared with its identification registers.
    patience : float
        Seconds after which a core that does nothing is given up.

    Raises
    ------
    BitkilnError
        The core is another one.
    """

    def __init__(self, transport: BoardTransport, design: SpConvDesign, patience: float = PATIENCE):
        self.transport, self.design, self.patience = transport, design, patience
        self.registers = spconv_registers(design)
        check_identity(transport, self.registers, design.name)
        self.write("ERROR", 0)

    # Registers --------------------------------------------------------------------------------------

    def read(self, *names: str) -> list[dict[str, int]]:
        """Fields of registers, in one request."""
        registers = [self.registers[name] for name in names]
        values = self.transport.read_many([register.offset for register in registers])
        return [register.unpack(value) for register, value in zip(registers, values, strict=True)]

    def write(self, name: str, value: int | None = None, **fields: int) -> None:
        """Write a register as a whole, or from its fields (others become 0)."""
        register = self.registers[name]
        self.transport.write32(register.offset, register.pack(**fields) if value is None else value)

    def counters(self) -> dict[str, int]:
        """All counters, by their names in lower case."""
        return {name.lower(): found["value"] for name, found in zip(COUNTERS, self.read(*COUNTERS), strict=True)}

    def clear_counters(self) -> None:
        self.write("CTRL", clear_counters=1)

    def reset(self) -> None:
        """Reset the core and forget all beats."""
        self.transport.reset()

    # Programs ---------------------------------------------------------------------------------------

    def run(self, program: Program, progress: Callable[[str], None] = lambda text: None) -> dict[str, np.ndarray]:
        """Run the jobs of a network, answering the core's requests for weights.

        Parameters
        ----------
        program : Program
        progress : callable
            Told of each job that is done.

        Returns
        -------
        dict of str to integer ndarray (rows, channels)
            Codes of the tensors that the program stores.

        Raises
        ------
        BitkilnError
            The core refuses a job, asks for what no job needs, or does not go on. It has been reset then.
        """
        try:
            for step in program.steps:
                if step.job.kind == "load":
                    self._load(step)
            self._jobs(program, progress)
            return self._tensors(program)
        except BitkilnError:
            with suppress(BitkilnError):      # where the board is gone, that is the error
                self.reset()
            raise

    def _load(self, step: Step) -> None:
        """Voxels and features of a load; they wait in the transport until the core takes them."""
        self.transport.send("v", voxel_beats(step.keys, step.depth))
        if step.job.in_groups:
            # An item that is no voxel has words too.
            rows = step.features if len(step.keys) else np.zeros((1, step.job.in_groups * self.design.gather.lanes),
                                                                 np.int64)
            self._send("f", feature_beats(self.design, rows), self.design.feature_bits)

    def _send(self, stream: str, beats: np.ndarray, bits: int) -> None:
        self.transport.send(stream, np.frombuffer(beat_bytes(beats, bits), np.uint8).reshape(-1, bits // 8))

    def _jobs(self, program: Program, progress: Callable[[str], None]) -> None:
        """Start each job when there is room for it, and keep every stream going until all are done."""
        steps, transport = program.steps, self.transport
        layers = {step.job.tag: step.layer for step in steps if step.layer is not None}
        wanted = sum(_words(step.job) for step in steps)
        (before,) = self.read("JOBS_DONE")
        now, started, done = transport.link.line.now, 0, 0
        moved = now()
        while done < len(steps) or transport.arrived() < wanted:
            # This is the look at the board, too: the answer says what waits there and what there is room for.
            error, count = self.read("ERROR", "JOBS_DONE")
            self._check(error)
            ended = (count["value"] - before["value"]) % (1 << 32)
            for at in range(done, ended):
                progress(f"job {at + 1} of {len(steps)}: {_title(steps[at])}")
            goes_on = transport.pump() | (ended > done) | self._answer(layers)
            done = ended
            if started < len(steps) and started - done < self.design.queue:
                self._start(steps[started].job)
                started, goes_on = started + 1, True
            if goes_on:
                moved = now()
            elif now() > moved + self.patience:
                raise transport.stuck(transport.arrived(), f"{wanted} words and {len(steps)} jobs, {done} are done")

    def _start(self, job: SpConvJob) -> None:
        values = {self.registers[name].offset: value for name, value in spconv_job_registers(self.design, job).items()}
        control = self.registers["CTRL"]
        self.transport.write_many([*values.items(), (control.offset, control.pack(start=1))])

    def _answer(self, layers: Mapping[int, LayerRun]) -> bool:
        """Send what the core has asked for; whether it has."""
        asked = unpack_fields(REQUEST_FIELDS, self.transport.receive(self.transport.arrived("q"), "q"))
        for k, part, tag in zip(*(asked[name].tolist() for name in ("k", "part", "tag")), strict=True):
            layer = layers.get(tag)
            if layer is None or k >= KERNEL_OFFSETS and k != RECORDS_REQUEST or \
                    part * self.design.gather.outputs >= layer.layer.outputs:
                raise BitkilnError("the core asks for weights that there are none of", where=f"job {tag}",
                                   got=f"offset {k}, pass {part}", expected="what a job of the program needs",
                                   exit_code=FAILED)
            self._send("w", answer_beats(self.design, layer, k, part), self.design.weight_bits)
        return len(asked["k"]) > 0

    @staticmethod
    def _check(error: dict[str, int]) -> None:
        if error["code"]:
            names = {number: name for name, number in SPCONV_ERRORS.items()}
            raise BitkilnError("the core refused a job", where=f"ERROR, tag {error['tag']}", got=error["code"],
                               expected="0", exit_code=FAILED,
                               help=MEANINGS.get(names.get(error["code"], ""), "unknown error"))

    def _tensors(self, program: Program) -> dict[str, np.ndarray]:
        """What the stores sent, in their order."""
        size, found = self.design.feature_bits // 8, {}
        for step in program.steps:
            if step.job.kind != "store":
                continue
            count, words = step.job.rows * step.job.in_groups, _words(step.job)
            beats = self.transport.receive(words)
            marks = unpack_fields({"last": 1, "keep": size}, beats[:, size:])
            # Of no rows there is one word, no byte of it kept.
            kept = (1 << size) - 1 if count else 0
            if np.flatnonzero(marks["last"]).tolist() != [words - 1] or not (marks["keep"] == kept).all():
                raise BitkilnError("wrong marks on what a store sent", where=step.tensor, got=f"last at "
                                   f"{np.flatnonzero(marks['last'])[:4].tolist()}, {int((marks['keep'] != kept).sum())}"
                                   " words with other bytes kept", expected=f"last at {words - 1}", exit_code=FAILED)
            found[step.tensor] = unpack_features(self.design, beats[:count, :size],
                                                 step.job.in_groups * self.design.gather.lanes)
        left = {name: count for name in ("v", "f", "w") if (count := self.transport.left(name))}
        if left:
            raise BitkilnError("the core did not take all beats", where=", ".join(left), exit_code=FAILED,
                               got=", ".join(map(str, left.values())), expected="0")
        return found


def _words(job: SpConvJob) -> int:
    """That a job sends."""
    return max(job.rows * job.in_groups, 1) if job.kind == "store" else 0


def _title(step: Step) -> str:
    return step.layer.layer.name if step.layer is not None else f"{step.job.kind} {step.tensor}"
