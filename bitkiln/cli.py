"""The ``bitkiln`` command: assembles the subcommands and turns every failure into one clear line.

Commands live in ``bitkiln.commands``, one module each, and import the heavy parts inside the functions,
so that ``bitkiln --help`` starts at once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from . import __version__
from .commands import (
    assign,
    bench,
    bitstream,
    board,
    designs,
    doctor,
    draw,
    explore,
    formats,
    generate,
    perplexity,
    quantize,
    reproduce,
    run,
    sim,
    spconv,
    synth,
    view,
    welcome,
)
from .commands.bars import close as end_progress
from .commands.shell import COMPLETE, completing, typed_command
from .models.errors import FAILED, BitkilnError, nearest

__all__ = ["app", "main", "run_cli"]

INTERRUPTED = 130          # 128 + SIGINT, as shells report it
CLOSED_PIPE = 141          # 128 + SIGPIPE

app = typer.Typer(
    name="bitkiln", pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Open hardware generator for verified low-precision accelerators.",
    epilog="Start with:  bitkiln doctor   ·   bitkiln sim fp4   ·   bitkiln generate --pe int8xfp4",
)
for module in (sim, view, generate, draw, synth, explore, assign, reproduce, run, perplexity, spconv, bitstream, board,
               formats, quantize, designs, bench, doctor):
    module.register(app)
welcome.arrange(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"bitkiln {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                          help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="No colours, as with NO_COLOR=1.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(welcome.page(context.command.commands))  # type: ignore[attr-defined]


def _usage_error(error: Exception, arguments: Sequence[str]) -> BitkilnError:
    """A parser error of Typer as one of ours, with the closest legal spelling."""
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "bitkiln"
    hint = f"see `{where} --help`"
    option = getattr(error, "option_name", None)
    if option is not None and type(error).__name__ == "NoSuchOption":
        names = [name for parameter in context.command.params for name in parameter.opts] if context else []
        return BitkilnError("unknown option", where=where, got=option, expected="an option of this command",
                            help=f"{nearest(option, [n for n in names if n.startswith('--')])} {hint}")
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    if message.startswith("No such command") and context is not None:
        commands = list(getattr(context.command, "commands", {}))
        name = message.split("'")[1]
        return BitkilnError("unknown command", where=where, got=name, expected="a command",
                            help=f"{nearest(name, commands)} {hint}")
    value = re.match(r"Invalid value for '?([^':]*)'?: (?:Input should be )?(.*)", message, re.S)
    if value:
        return BitkilnError("invalid value", where=f"{where} {value[1]}", got=_given(value[1], arguments),
                            expected=" ".join(value[2].split(", unable")[0].split()), help=hint)
    extra = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message)
    if extra:
        return BitkilnError("too many arguments", where=where, got=extra[1], help=hint)
    first, *rest = (line.strip() for line in message.splitlines() if line.strip())
    return BitkilnError(first[0].lower() + first[1:] + (" " + " ".join(rest) if rest else ""),
                        where=where, help=hint)


def _given(option: str, arguments: Sequence[str]) -> str | None:
    """What followed ``option`` on the command line."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{option}="):
            return argument.partition("=")[2]
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _report(error: BitkilnError) -> int:
    print(error.render(), file=sys.stderr)
    return error.exit_code


def _call(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(completing(app, typed_command()) if COMPLETE in os.environ else app)
    result = command.main(args=list(arguments), prog_name="bitkiln", standalone_mode=False)
    sys.stdout.flush()
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def run_cli(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code.

    0 done; 1 failed work; 2 usage or configuration; 3 missing tool; 130 interrupted; 141 closed pipe.
    Errors are printed on stderr as ``error: ...`` and ``help: ...`` lines, never as a traceback unless
    ``--debug`` is among the arguments. ``--no-color`` may stand anywhere too.
    """
    given, debug = list(arguments), "--debug" in arguments
    no_color = os.environ.get("NO_COLOR")
    if "--no-color" in arguments:
        os.environ["NO_COLOR"] = "1"
    arguments = [argument for argument in arguments if argument not in ("--debug", "--no-color")]
    try:
        return _call(arguments)
    except KeyboardInterrupt:
        end_progress()
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (BrokenPipeError, SystemExit) as error:  # Typer exits by itself on a closed pipe
        if isinstance(error, SystemExit) and (COMPLETE in os.environ or not error.code):
            return error.code if isinstance(error.code, int) else 0     # a shell asked for completions
        # Python flushes stdout again at exit and would complain about the pipe once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except Exception as error:
        end_progress()
        if debug:
            import traceback
            traceback.print_exc()
        if isinstance(error, BitkilnError):
            return _report(error)
        if hasattr(error, "format_message"):      # Typer's parser errors, whichever click it carries
            return _report(_usage_error(error, arguments))
        if type(error).__name__ == "Abort":
            print("error: interrupted", file=sys.stderr)
            return INTERRUPTED
        if isinstance(error, OSError):
            return _report(BitkilnError(error.strerror or str(error), where=error.filename, exit_code=FAILED))
        return _report(BitkilnError(
            f"internal error, {type(error).__name__}: {' '.join(str(error).split())}",
            help="this is a bug in bitkiln; run again with --debug and report the traceback",
            exit_code=FAILED))
    finally:
        end_progress()
        if "--no-color" in given:
            _restore("NO_COLOR", no_color)


def _restore(name: str, value: str | None) -> None:
    """An environment variable as it was."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def main() -> NoReturn:
    """Entry point of the console script."""
    sys.exit(run_cli(sys.argv[1:]))


