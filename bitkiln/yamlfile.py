"""Strict reading of small YAML files: plain data plus the line of every key.

YAML 1.2 core scalars only (``no`` is text, ``1e3`` is a float). Refused: tags, duplicate keys, several
documents, anything that expands beyond ``MAX_NODES`` (alias bombs), files over ``MAX_BYTES``. PyYAML would
silently keep the last of two equal keys, so nodes are composed by ruamel.yaml and built here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .models.errors import BitkilnError

__all__ = ["Document", "read_yaml", "parse_yaml", "MAX_BYTES", "MAX_NODES"]

DESCRIPTION, STARTER = "a design description", "`bitkiln init` writes a starter file"
MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 20

_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED = re.compile(r"0(x[0-9a-fA-F]+|o[0-7]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


@dataclass
class Document:
    """One YAML file: ``data`` and, per key path, the line (from 1) and the file it came from."""

    data: dict[str, Any]
    source: str
    lines: dict[tuple, int] = field(default_factory=dict)
    errors: list[BitkilnError] = field(default_factory=list)

    def where(self, path: tuple) -> str:
        """``file:line`` of the key, or of the closest parent that exists."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.source}:{self.lines.get(path, 1)}"


def read_yaml(path: Path, content: str = DESCRIPTION, help: str = STARTER) -> Document:
    """Read and parse ``path``; BitkilnError when it is missing, unreadable, too large or not YAML.

    ``content`` says what the file should hold, ``help`` how to start one.
    """
    where = str(path)
    if path.is_dir():
        raise BitkilnError("not a file", where=where, got="a folder", expected="a YAML file")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BitkilnError("no such file", where=where, help=help) from None
    except (OSError, ValueError) as error:
        raise BitkilnError("cannot read file", where=where, got=getattr(error, "strerror", None) or str(error)
                           ) from None
    if len(raw) > MAX_BYTES:
        raise BitkilnError("file too large", where=where, got=f"more than {MAX_BYTES} bytes",
                           expected=f"{content} of some lines")
    if raw.startswith(b"version https://git-lfs"):
        raise BitkilnError("not the file itself", where=where, got="a Git LFS pointer", help="run `git lfs pull`")
    try:
        text = raw.decode("utf-8-sig")       # editors on Windows prepend a byte order mark
    except UnicodeDecodeError as error:
        line = raw[:error.start].count(b"\n") + 1
        raise BitkilnError("not UTF-8 text", where=f"{where}:{line}", got=f"byte 0x{raw[error.start]:02x}",
                           help="save the file as UTF-8") from None
    return parse_yaml(text, where, content, help)


def parse_yaml(text: str, source: str, content: str = DESCRIPTION, help: str = STARTER) -> Document:
    """Parse YAML ``text`` whose top level is a mapping; ``source`` names it in messages."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    document = Document({}, source)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = " ".join((error.problem or error.context or "syntax error").split())
        tab = "indent with spaces, not tabs" if "\\t" in problem or "'\t'" in (error.problem or "") else None
        lines = text.splitlines()
        shown = lines[mark.line].strip() if mark and mark.line < len(lines) else None
        raise BitkilnError("not valid YAML", where=where, got=shown, expected=f"YAML ({problem})", help=tab) from None
    except (YAMLError, RecursionError, ValueError) as error:
        raise BitkilnError("not valid YAML", where=source, got=" ".join(str(error).split())[:120]) from None
    if node is None:
        raise BitkilnError("empty file", where=source, expected=content, help=help)
    builder = _Builder(document)
    data = builder.build(node, (), 0)
    if not isinstance(data, dict):
        kind = "a list" if isinstance(data, list) else f"the value {data}"
        raise BitkilnError("wrong top level", where=f"{source}:1", got=kind, expected="keys and values",
                           help="start with `engine: dot_unit`" if content == DESCRIPTION else help)
    document.data = data
    return document


class _Builder:
    """Turns composed nodes into plain data, counting them (an alias bomb is many nodes in few bytes)."""

    def __init__(self, document: Document):
        self.document, self.count = document, 0

    def build(self, node: Any, path: tuple, depth: int) -> Any:
        self.count += 1
        line = node.start_mark.line + 1
        where = f"{self.document.source}:{line}"
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise BitkilnError("too many values", where=self.document.source,
                               got=f"more than {MAX_NODES} values or {MAX_DEPTH} levels",
                               expected="a design description of some lines", help="do not nest anchors and aliases")
        self.document.lines.setdefault(path, line)
        tag = str(node.tag or "")
        if not tag.startswith("tag:yaml.org,2002:") or "python" in tag:
            raise BitkilnError("tag not allowed", where=where, got=tag, expected="plain YAML values")
        if node.id == "scalar":
            return self._scalar(node, tag)
        if node.id == "sequence":
            return [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise BitkilnError("key is not a name", where=where, expected="text before the colon")
            key = key_node.value
            inner = (*path, key)
            key_line = key_node.start_mark.line + 1
            if key in result:
                self.document.errors.append(BitkilnError(
                    "duplicate key", where=f"{self.document.source}:{key_line} {'.'.join(map(str, inner))}",
                    got=f"a second value (the first is in line {self.document.lines[inner]})",
                    expected="each key once"))
                continue
            self.document.lines[inner] = key_line
            result[key] = self.build(value_node, inner, depth + 1)
        return result

    @staticmethod
    def _scalar(node: Any, tag: str) -> Any:
        text = node.value
        if node.style in ("'", '"', "|", ">") or tag.endswith(":str") and not _INT.match(text):
            return text
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        if _INT.match(text):
            # Python refuses to convert thousands of digits; no parameter has that many.
            return int(text) if len(text) <= 400 else text
        if _BASED.match(text):
            return int(text, 0)
        if _FLOAT.match(text):
            return float(text)
        if text.lower() in (".inf", "+.inf", "-.inf", ".nan"):
            return float(text.replace(".", ""))
        return text
