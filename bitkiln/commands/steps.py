"""The path of a user: each step's output tells the next one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from .common import notice

__all__ = ["design_words", "next_step", "program"]


def program() -> str:
    """How this tool is called here: ``bitkiln`` where it is on PATH, else its place beside the Python in use."""
    beside = Path(sys.executable).parent / "bitkiln"
    found = shutil.which("bitkiln")
    if not beside.exists() or (found is not None and os.path.samefile(found, beside)):
        return "bitkiln"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)


def next_step(*arguments: str | os.PathLike[str], after: str = "", make: str = "") -> None:
    """A line on standard error: ``next: bitkiln synth my.yaml``.

    Parameters
    ----------
    *arguments : str or path
        Of the command; an empty one is left out.
    after : str
        What a person does before it.
    make : str
        The target and variables that say the same where ``make`` called us.
    """
    from ..cli import app
    from .welcome import name_of

    known = {name_of(info) for info in (*app.registered_commands, *app.registered_groups)}
    if arguments and arguments[0] not in known:      # a command that comes with another part
        return
    words = [shlex.join(["make", *make.split()])] if make and os.environ.get("MAKELEVEL") else [
        program(), *(shlex.quote(os.fspath(word)) for word in arguments if os.fspath(word))]
    notice("next: " + (f"{after}, then " if after else "") + " ".join(words))


def design_words(design: str | None = None, **options: object) -> list[str]:
    """The arguments that describe a design again: its file or PE, and the options that were given."""
    words = [] if design is None else [design]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words
