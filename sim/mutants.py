"""Mutants of a netlist: a component down to gates, the bugs that Yosys can put into it, all of them in one model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bitkiln.hw.emit import Port

from . import verilate
from .batch import BatchModel
from .toolchain import require

__all__ = ["SELECT", "MutationResult", "Netlist", "Survivor"]

SAT_SECONDS = 10
SELECT = "mutsel"

# Down to gates, so that the inside of adders and multipliers can be wrong, not only their ports. Enables and clears
# stay gates in front of plain flip-flops: they are part of what is to be tested.
ELABORATE = """\
read_verilog -noassert block.v
hierarchy -check -top {top}
{flatten}
proc
opt_expr
opt_clean
memory {memory}
opt -nodffe -nosdff
select -set words {words}
{gates}
opt -nodffe -nosdff
write_rtlil block.il
"""

# Sums of 32 bits and more, and the counters that hold them, stay words, so that their upper bits can be left out:
# no short run gets there.
COUNTERS = ("{inner}/t:$add {inner}/t:$sub %u {inner}/r:Y_WIDTH>=32 %i %co8:+$add,$sub,$dff,$mux,$pmux[A,B,D,Q,Y] "
            "{inner}/t:$dff {inner}/r:WIDTH=32 %i %ci12:+$dff,$mux,$pmux,$add,$sub[A,B,D,Q,Y] %u")
# Each pass maps the cells that the one before made.
GATES = "".join(f"{command} {{inner}}/* @words %d\n" for command in ("techmap", "techmap", "techmap", "simplemap"))
COUNTED = re.compile(r" -port \\?[ABDQY] .*-portbit (?![0-5](?:\s|$))")
CLOCK = re.compile(r" -port \\?(?:C|CLK|clk|WR_CLK|RD_(?:CLK|EN|ARST|SRST))(?:\s|$)")
FLATTEN = "setattr -mod -unset keep_hierarchy *\n{keep}\nflatten"


@dataclass(frozen=True)
class Survivor:
    """A relevant mutant that no vector noticed: the Yosys command that makes it, and how it was judged."""

    command: str
    reason: str


@dataclass(frozen=True)
class MutationResult:
    """Mutants of one block.

    Attributes
    ----------
    unit, block, kind : str
        Name of what the block is a part of, module name and kind of block.
    exhaustive : bool
        Whether the unit test applies every input.
    vectors : int
        Rows of the unit test.
    candidates : int
        Mutants that exist; ``tried`` of them were simulated.
    killed : int
    equivalent : int
        Survivors whose outputs equal the block's for every input (NOCHANGE).
    allowed : int
        Survivors of an exhaustive test that differ only where the block's contract leaves an output free (the
        shift of a zero): they do what the block promises for every input.
    survivors : list of Survivor
        The relevant ones.
    """

    unit: str
    block: str
    kind: str
    exhaustive: bool
    vectors: int
    candidates: int
    tried: int
    killed: int
    equivalent: int
    allowed: int
    survivors: list[Survivor] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def relevant(self) -> int:
        return self.killed + len(self.survivors)

    @property
    def rate(self) -> float:
        """Share of the relevant mutants that were killed, 0..1."""
        return self.killed / self.relevant if self.relevant else 0.0


# Netlists ----------------------------------------------------------------------------------------


class Netlist:
    """The gates of a block in a scratch folder, and what Yosys does with them.

    Parameters
    ----------
    text, top, ports
        Verilog text, its top module and that module's ports.
    whole : sequence of str
        Modules that keep what they are.
    inner : str, optional
        The module below ``top`` that is mutated, where it is not ``top``: all others stay as they are.
    memories : bool
        Leave memories as cells and counters of 32 bits or more as words: mutants are at the memories' ports, and in the
        counters' lower six bits.
    """

    def __init__(self, folder: Path, text: str, top: str, ports: Sequence[Port], whole: Sequence[str] = (), *,
                 inner: str | None = None, memories: bool = False):
        self.folder, self.top, self.ports, self.runs = folder, top, tuple(ports), 0
        self.inner, self.memories = inner or top, memories
        self.wires: dict[str, str] = {}
        (folder / "block.v").write_text(text)
        self.yosys = require("yosys")
        kept = [*whole, *([inner] if inner else [])]
        self.flatten = FLATTEN.format(keep=f"setattr -mod -set keep_hierarchy 1 {' '.join(kept)}" if kept else "")
        words = COUNTERS.format(inner=self.inner) if memories else f"{self.inner}/t:none"
        self._run(ELABORATE.format(top=top, words=words, gates=GATES.format(inner=self.inner), flatten=self.flatten,
                                   memory="-nordff -nomap" if memories else "-nordff"))

    def _run(self, script: str, timeout: float | None = None) -> str:
        # The WebAssembly build sees only files below its working folder.
        self.runs += 1
        name = f"run{self.runs}.ys"
        (self.folder / name).write_text(script)
        return verilate.run_command([self.yosys.path, "-Q", "-T", "-s", name], what="Yosys", where=self.top,
                                    cwd=self.folder, env=self.yosys.environment(), timeout=timeout)

    def candidates(self, wanted: int, seed: int) -> tuple[list[str], int]:
        """Up to ``wanted`` mutants (commands without sources), evenly spread, and how many exist. Clock ports are
        left out (they are not arithmetic; a memory's enable may have to be 1), and what makes a bit of a port depend
        on another."""
        module = f"-module {self.inner} -seed {seed}"
        self._run(f"read_rtlil block.il\nmutate -list 1000000 {module} -o all.ys\n"
                  f"mutate -list {int(wanted * 1.2) + 8} {module} -o list.ys\n")
        chosen, every = (self._commands(name) for name in ("list.ys", "all.ys"))
        return (chosen[:wanted] if len(every) > wanted else every), len(every)

    def _commands(self, name: str) -> list[str]:
        found = []
        for line in (self.folder / name).read_text().splitlines():
            if re.match(r"mutate -mode (?!cnot)", line) and not CLOCK.search(line) and not COUNTED.search(line):
                found.append(re.sub(r" -(?:wire|wirebit|src) \S+", "", line))
                wire = re.search(r" -wire \\?(\S+)(?: -wirebit (\d+))?", line)
                self.wires[found[-1]] = f"{wire[1]}[{wire[2] or 0}]" if wire else "no name"
        return found

    def with_mutants(self, mutants: Sequence[str], make: Callable = BatchModel.from_verilog):
        """One model that holds them all: ``mutsel`` i is mutant i - 1, 0 the block itself."""
        width = len(mutants).bit_length()
        lines = [re.sub("^mutate ", f"mutate -ctrl {SELECT} {width} {at} ", mutant)
                 for at, mutant in enumerate(mutants, 1)]
        self._run("\n".join(["read_rtlil block.il", *lines, "opt_clean", "write_verilog -noattr mutants.v"]) + "\n")
        return make((self.folder / "mutants.v").read_text(), self.top, (*self.ports, Port(SELECT, "input", width)))

    def proved_equal(self, mutant: str) -> bool:
        """Whether SAT shows next state and outputs to be the same for every input and state.

        Raises
        ------
        BitkilnError
            Undecided: after SAT_SECONDS (the solver's own limit does nothing in WebAssembly), or where Yosys fails.
        """
        gate = mutant.replace(f"-module {self.inner} ", "-module gate ")
        # One bit a wire: a wire some of whose bits are constants is no register to `expose`.
        log = self._run(f"""\
read_rtlil block.il
setattr -mod -unset top *
copy {self.inner} gate
{gate}
{self.flatten if self.inner == self.top else "setattr -mod -unset keep_hierarchy " + self.inner + " gate"}
{"memory_map" if self.memories else ""}
techmap
splitnets -ports
expose -evert -dff -evert-dff {self.inner} gate
miter -equiv -flatten -make_outputs {self.inner} gate miter
hierarchy -top miter
opt -full
sat -prove trigger 0 miter
""", SAT_SECONDS)
        return "SUCCESS!" in log
