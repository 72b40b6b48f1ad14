"""Every command that README.md, CONTRIBUTING.md and docs/ show is one that works.

``doc_pages.py`` says how a page is written so that it can be run. Commands that are only named, in code spans, are
parsed by the command line's own parser; those of README.md's table are run as well.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
from doc_pages import ROOT, Block, Command, Page, blocks_of, commands_of, inline_code, matches, pages

from bitkiln.cli import app

PAGES = {page.name: page for page in pages()}
RUN = {name: page for name, page in PAGES.items() if any(b.language == "console" for b in blocks_of(page.text))}
# Pages that take a second or two: these are run by `make test`, all of them by `make test-full`.
QUICK = ("docs/quantisation.md",)
SECONDS = 1800

# Commands of README.md's table that are not run as they stand, and why. The test below keeps the list honest.
NEEDS = {
    "bitkiln run digits --engine matmul_core --layers layers.yaml": "a file; docs/tutorials/mixed_precision.md runs it",
    "bitkiln run g2p --weights bitmod3": "the package g2p-en, which is installed without its dependencies",
    "bitkiln perplexity notes.txt": "a text, and the model of the extra llm",
    "bitkiln perplexity notes.txt --weights file --model network.gguf": "a text and a GGUF file",
    "bitkiln quantize --compare w.npy": "a tensor; docs/quantisation.md runs it",
    "bitkiln spconv frame.pcd --voxel 0.1": "a point cloud; docs/tutorials/lidar.md runs it",
    "bitkiln estimate my.yaml --workload resnet18": "a file; docs/explore.md runs it",
    "make pareto": "docs/explore.md runs it",
    "bitkiln sweep formats": "docs/explore.md runs it, as make pareto",
    "bitkiln calibrate --target ecp5": "hours of synthesis",
}


# Running --------------------------------------------------------------------------------------------------------

def run_page(page: Page, folder: Path, environment: dict[str, str]) -> int:
    """Run a page in ``folder``; returns the number of commands."""
    count = 0
    for block in blocks_of(page.text):
        if block.key == "file":
            path = folder / block.value
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            count += run_block(page, block, folder, environment)
    return count


def run_block(page: Page, block: Block, folder: Path, environment: dict[str, str]) -> int:
    commands = commands_of(block)
    at = 0
    while at < len(commands):
        command = commands[at]
        expected = 0
        if at + 1 < len(commands) and commands[at + 1].text == "echo $?":
            expected = int(commands[at + 1].shown[0])
            at += 1
        run_command(page, command, expected, folder, environment)
        at += 1
    return len(commands)


def run_command(page: Page, command: Command, expected: int, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", "-c", command.text], cwd=folder, env=environment, text=True, timeout=SECONDS,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    where = f"{page.name}:{command.line}: $ {command.text}"
    assert done.returncode == expected, f"{where}\nexit code {done.returncode}\n{done.stdout[-3000:]}"
    assert matches(command.shown, done.stdout.splitlines()), \
        f"{where}\nshown:\n" + "\n".join(command.shown) + f"\nprinted:\n{done.stdout[-6000:]}"


@pytest.mark.parametrize("name", QUICK)
def test_quick_page(name, tmp_path, page_environment):
    assert run_page(PAGES[name], tmp_path, page_environment)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(RUN) - set(QUICK)))
def test_page(name, tmp_path, page_environment):
    assert run_page(PAGES[name], tmp_path, page_environment)


def readme_commands() -> list[str]:
    """Commands in the table of README.md."""
    rows = [line for line in PAGES["README.md"].text.splitlines() if line.startswith("| `")]
    spans = [span for row in rows for span in inline_code(row.split(" | ")[0])]
    return [span for span in spans if span.startswith(("bitkiln ", "make "))]


def test_readme_table_is_found():
    found = readme_commands()
    assert len(found) >= 20 and len(set(found)) == len(found)
    assert set(NEEDS) <= set(found), "NEEDS names a command that README.md no longer shows"


@pytest.mark.slow
@pytest.mark.parametrize("text", [text for text in readme_commands() if text not in NEEDS])
def test_readme_command(text, tmp_path, page_environment):
    run_command(PAGES["README.md"], Command(0, text), 0, tmp_path, page_environment)


# Reading --------------------------------------------------------------------------------------------------------

PROMPT = re.compile(r"^\s*\$ ")
BARE = re.compile(r"^(\$ )?(bitkiln|make|python|python3|pip|\.venv/bin/\w+) \S")


def test_prompts_stand_in_console_blocks():
    """A prompt anywhere else, or a command in another block, would never be run; blocks that say why are excused."""
    wrong, commands = [], 0
    for page in PAGES.values():
        console: set[int] = set()
        excused: set[int] = set()
        for block in blocks_of(page.text):
            numbers = range(block.line + 1, block.line + 1 + len(block.lines))
            if block.language == "console":
                console.update(numbers)
                commands += len(commands_of(block))
            elif block.key == "not run":
                excused.update(numbers)
            elif block.language not in ("yaml", "python", "c"):
                wrong += [f"{page.name}:{number}: {line}" for number, line in zip(numbers, block.lines, strict=True)
                          if BARE.match(line.strip())]
        for number, line in enumerate(page.text.splitlines(), 1):
            indented = line.startswith("    ") and BARE.match(line.strip()) and number not in console
            prompt = PROMPT.match(line) and number not in console and number not in excused
            if prompt or indented and not _fenced(page, number):
                wrong.append(f"{page.name}:{number}: {line}")
    assert not wrong, "commands outside console blocks:\n" + "\n".join(wrong)
    assert commands >= 60


def _fenced(page: Page, number: int) -> bool:
    return any(block.line < number <= block.line + len(block.lines) for block in blocks_of(page.text))


def test_what_is_not_run_says_why():
    for page in PAGES.values():
        for block in blocks_of(page.text):
            if block.key == "not run":
                assert block.language == "text" and len(block.value) > 10, f"{page.name}:{block.line}"
            if block.key == "file":
                assert re.fullmatch(r"[\w./-]+", block.value) and ".." not in block.value, f"{page.name}:{block.line}"


TOOL = typer.main.get_command(app)


def test_files_of_a_page_are_named_for_its_reader():
    """The comment that makes a block a file is seen by no reader: its name stands before it, or in its first line."""
    for page in PAGES.values():
        lines = page.text.splitlines()
        for block in blocks_of(page.text):
            if block.key == "file":
                before = "\n".join(lines[:block.line])
                assert f"`{block.value}`" in before or block.value in block.lines[0], f"{page.name}: {block.value}"


def _parse(arguments: list[str]) -> None:
    """Parse as `bitkiln` does, without running: raises on unknown commands, options and values."""
    if {"--install-completion", "--show-completion"} & set(arguments):
        return              # these act while they are parsed, on the home of whoever runs the tests
    command, context = TOOL, None
    name = "bitkiln"
    while True:
        try:
            context = command.make_context(name, list(arguments), parent=context)
        except typer.Exit:                              # --help, --version
            return
        except Exception as error:
            if type(error).__name__ in ("MissingParameter", "BadOptionUsage"):
                return      # `bitkiln estimate --technologies`, `bitkiln run --layers`: named, not whole calls
            raise
        arguments = [*getattr(context, "_protected_args", []), *context.args]
        if not hasattr(command, "resolve_command") or not arguments:
            return
        name, command, arguments = command.resolve_command(context, arguments)


MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
VARIABLES = {*re.search(r"^export (.*)$", MAKEFILE, re.M)[1].split(), "PYTHON", "ARGS"}  # type: ignore[index]


def _parse_make(words: list[str]) -> None:
    for word in words:
        variable, equals, _ = word.partition("=")
        known = VARIABLES if equals else TARGETS
        assert variable in known, f"make {word}: no such {'variable' if equals else 'target'}"


def check(text: str) -> None:
    """Parse a command line of ours; what is behind a comment or another program is left alone."""
    words = shlex.split(text, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    for stop in ("|", ">", "&&", ";"):
        words = words[:words.index(stop)] if stop in words else words
    if not words:
        return
    program = os.path.basename(words[0])
    if program == "bitkiln":
        _parse(words[1:])
    elif program == "make" and len(words) > 1:
        _parse_make(words[1:])


def named() -> list[tuple[str, str]]:
    """(page, command) of every code span, prompt and line that is not run."""
    found = []
    for page in PAGES.values():
        texts = [span for span in inline_code(page.text) if re.match(r"(\.venv/bin/)?(bitkiln|make) \S", span)]
        for block in blocks_of(page.text):
            if block.language == "console":
                texts += [command.text for command in commands_of(block)]
            elif block.key == "not run":
                joined = block.text.replace("\\\n", " ")
                texts += [line.removeprefix("$ ") for line in joined.splitlines() if BARE.match(line)]
        found += [(page.name, text) for text in texts]
    return found


def test_every_command_parses():
    wrong = []
    for page, text in named():
        try:
            check(text)
        except Exception as error:
            message = error.format_message() if hasattr(error, "format_message") else str(error)
            wrong.append(f"{page}: {text}: {message}")
    assert not wrong, "\n".join(wrong)
    assert len(named()) > 150


@pytest.mark.parametrize("text", ["bitkiln sim fp4 --lines 4", "bitkiln sinm fp4", "bitkiln sim fp4 --lanes four",
                                  "make pareta", "make sim PEE=fp4", "bitkiln formats sho fp4"])
def test_a_wrong_command_is_found(text):
    with pytest.raises(Exception, match=r".+"):
        check(text)


def test_python_in_the_pages_imports_what_exists():
    """Every python block parses, and every name that it imports from the package is there."""
    imported = 0
    for page in PAGES.values():
        for block in blocks_of(page.text):
            if block.language != "python":
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bitkiln"):
                    module = importlib.import_module(node.module)
                    assert all(hasattr(module, alias.name) for alias in node.names), f"{page.name}:{block.line}"
                    imported += len(node.names)
    assert imported > 30


# The reader itself ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shown, printed, same", [
    (["a  b"], ["a b"], True), (["a"], ["a", "b"], False), (["a", "..."], ["a", "b"], True),
    (["...", "c"], ["a", "b", "c"], True), (["...", "b"], ["a", "b", "c"], False), (["..."], [], True),
    (["a ... s"], ["a 1.2 s"], True), (["a", "...", "b", "..."], ["a", "b"], True), (["a.b"], ["axb"], False),
    (["a"], [], False), (["...", "b", "c"], ["b", "b", "c"], True), (["a", "b"], ["b", "a"], False)])
def test_shown_lines(shown, printed, same):
    assert matches(tuple(shown), printed) is same


def test_blocks():
    text = ("<!-- file: my.yaml -->\n```yaml\na: 1\n```\ntext `bitkiln\nsim x` and ``no`` `one\n\ntwo`\n"
            "```console\n$ one \\\n    two   # comment\nout\n\n$ three\n```\n")
    block, console = blocks_of(text)
    assert (block.key, block.value, block.text, block.language) == ("file", "my.yaml", "a: 1\n", "yaml")
    assert (console.key, console.line) == ("", 9)
    first, second = commands_of(console)
    assert (first.text, first.shown, first.line) == ("one two   # comment", ("out",), 10)
    assert (second.text, second.shown) == ("three", ())
    assert inline_code(text)[0] == "bitkiln sim x"


def test_a_wrong_page_fails(tmp_path, page_environment):
    for text in ("$ false", "$ echo a\nb", "$ (exit 3)\n$ echo $?\n2"):
        with pytest.raises(AssertionError):
            run_page(Page("x.md", f"```console\n{text}\n```\n"), tmp_path, page_environment)
    assert run_page(Page("x.md", "```console\n$ (exit 3)\n$ echo $?\n3\n```\n"), tmp_path, page_environment) == 2


def test_make_runs_the_project_makefile_in_the_folder(tmp_path, page_environment):
    done = subprocess.run(["make", "-n", "sim", "PE=fp4"], cwd=tmp_path, env=page_environment, text=True,
                          capture_output=True, check=True)
    assert "-m bitkiln sim" in done.stdout and "pip" not in done.stdout
