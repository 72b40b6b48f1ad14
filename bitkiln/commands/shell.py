"""A command line as lean as a shell's TAB needs it: only the command that is being typed has its options."""

from __future__ import annotations

import os
import shlex

import typer

from .welcome import name_of

__all__ = ["COMPLETE", "completing", "typed_command"]

COMPLETE = "_BITKILN_COMPLETE"      # set by a shell that wants completions
# A word of the root command that is no command.
FLAGS = ("--debug", "--no-color")


def typed_command() -> str | None:
    """The command that the shell's line names; None while it is being typed."""
    if "COMP_WORDS" in os.environ:      # bash
        words, at = os.environ["COMP_WORDS"].split("\n"), int(os.environ.get("COMP_CWORD", "0") or 0)
        words = words[:at] if len(words) > 1 else words[0].split()[:at]
    else:
        line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
        try:
            words = shlex.split(line)
        except ValueError:              # an open quote
            words = line.split()
        words = words if line.endswith(" ") else words[:-1]
    return next((word for word in words[1:] if word not in FLAGS), None)


def completing(app: typer.Typer, command: str | None) -> typer.Typer:
    """The application without the options of any command but this one."""
    lean = typer.Typer(name=app.info.name, context_settings=app.info.context_settings)
    lean.registered_callback = app.registered_callback
    for info in app.registered_commands:
        lean.registered_commands.append(info if name_of(info) == command else typer.models.CommandInfo(
            name=name_of(info), callback=_nothing, help=info.help))
    for group in app.registered_groups:
        if name_of(group) == command:
            lean.registered_groups.append(group)
        else:
            lean.registered_commands.append(typer.models.CommandInfo(name=name_of(group), callback=_nothing))
    return lean


def _nothing() -> None:
    """In place of a command that is not being typed."""
