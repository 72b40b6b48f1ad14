"""Markdown pages as a reader meets them: files to write, commands to run, what they print, commands named in passing.

A page is read from top to bottom, and all its blocks share one folder:

- ``<!-- file: NAME -->`` before a fenced block: the block is the content of that file;
- a ```` ```console ```` block: lines that begin with ``$ `` are commands (a ``\\`` at the end continues them), the
  lines below one are what it prints. ``...`` alone on a line stands for any number of lines, inside a line for
  anything. Without such lines the output is free. A command succeeds, unless ``$ echo $?`` comes next and shows its
  exit code;
- ``<!-- not run: REASON -->`` before a ```` ```text ```` block: commands that no test can run, with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Block", "Command", "Page", "ROOT", "blocks_of", "commands_of", "inline_code", "matches", "pages"]

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`]*)$")
_COMMENT = re.compile(r"^<!--\s*(?P<key>file|not run):\s*(?P<value>.*?)\s*-->$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its first line's number, language, lines, and the comment before it."""

    line: int
    language: str
    lines: tuple[str, ...]
    key: str = ""
    value: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Command:
    """One command of a console block and the lines shown below it."""

    line: int
    text: str
    shown: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Page:
    """A Markdown file: its name from the checkout's root, and its text."""

    name: str
    text: str


def pages() -> list[Page]:
    """README.md, CONTRIBUTING.md and every page of docs/, by name."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in found]


def blocks_of(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    lines = text.splitlines()
    at, key, value = 0, "", ""
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if opening is None:
            comment = _COMMENT.match(lines[at].strip())
            if comment:
                key, value = comment["key"], comment["value"]
            elif lines[at].strip():
                key = value = ""
            at += 1
            continue
        indent, fence = len(opening["indent"]), opening["fence"]
        start = at = at + 1
        while at < len(lines) and not re.match(rf"^ *{re.escape(fence[0])}{{{len(fence)},}}\s*$", lines[at]):
            at += 1
        if at == len(lines):
            raise ValueError(f"line {start}: the block is never closed")
        body = tuple(line[indent:] if not line[:indent].strip() else line for line in lines[start:at])
        found.append(Block(start, opening["info"].strip(), body, key, value))
        key = value = ""
        at += 1
    return found


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    at = 0
    while at < len(block.lines):
        line = block.lines[at]
        if not line.startswith("$ "):
            raise ValueError(f"line {block.line + at + 1}: a console block begins with '$ ', not with {line!r}")
        first, text = at, line[2:]
        while text.endswith("\\") and at + 1 < len(block.lines):
            at += 1
            text = f"{text[:-1].rstrip()} {block.lines[at].strip()}"
        at += 1
        shown = []
        while at < len(block.lines) and not block.lines[at].startswith("$ "):
            shown.append(block.lines[at])
            at += 1
        while shown and not shown[-1].strip():
            shown.pop()
        found.append(Command(block.line + first + 1, text, tuple(shown)))
    return found


def inline_code(text: str) -> list[str]:
    """Code spans outside fenced blocks, spaces made one."""
    kept, inside = [], ""
    for line in text.splitlines():
        fence = _FENCE.match(line)
        if fence and not inside:
            inside = fence["fence"]
        elif inside:
            if line.strip().startswith(inside) and not line.strip().strip(inside[0]):
                inside = ""
        else:
            kept.append(line)
    # A span may be broken across two lines, but never across a blank one.
    return [" ".join(span.split()) for paragraph in "\n".join(kept).split("\n\n")
            for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", paragraph)]


def _words(line: str) -> str:
    return " ".join(line.split())


def _line_matches(shown: str, printed: str) -> bool:
    parts = [re.escape(part.strip()) for part in _words(shown).split("...")]
    return re.fullmatch(".*".join(parts).replace(r"\ ", " "), _words(printed)) is not None


def matches(shown: tuple[str, ...], printed: list[str]) -> bool:
    """Whether printed lines are those shown; ``...`` as in the module's docstring. Runs of spaces count as one."""
    if not shown:
        return True
    return _rest_matches([line for line in shown if line.strip()], [line for line in printed if line.strip()])


def _rest_matches(shown: list[str], printed: list[str]) -> bool:
    """All of ``printed`` against all of ``shown``: which prefixes of ``printed`` each prefix of ``shown`` can be."""
    reached = {0}
    for line in shown:
        if line.strip() == "...":
            reached = set(range(min(reached, default=len(printed) + 1), len(printed) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(printed) and _line_matches(line, printed[at])}
    return len(printed) in reached
