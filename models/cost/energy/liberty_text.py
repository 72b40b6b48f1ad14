"""Liberty text as nested groups: no meaning yet, values stay text until somebody asks.

``kind (arguments) { attribute : value; attribute (values); group (...) { ... } }``
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...errors import BitkilnError

__all__ = ["Group", "numbers", "parse_groups"]

STATEMENT = re.compile(
    r'\s*(?:([A-Za-z_][\w.]*)\s*(?:\(([^()]*)\)\s*(\{|;|)|:\s*(?:"([^"]*)"|([^;{}\n"]+?))\s*(?:;|(?=[\n}])))|(\})|(;))')
COMMENT = re.compile(r"/\*.*?\*/", re.S)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class Group:
    """One group.

    Attributes
    ----------
    kind : str
        ``library``, ``cell``, ``pin``, ``timing``, ...
    arguments : tuple of str
        Without quotes.
    attributes : dict
        Name to text, the last one where it is repeated; ``attribute (a, b)`` as the text between the parentheses.
    groups : list of Group
    """

    __slots__ = ("arguments", "attributes", "groups", "kind")

    def __init__(self, kind: str, arguments: str):
        self.kind = kind
        self.arguments = tuple(part.strip().strip('"').strip() for part in arguments.split(",")) if arguments.strip() \
            else ()
        self.attributes: dict[str, str] = {}
        self.groups: list[Group] = []

    @property
    def name(self) -> str:
        """The first argument, else nothing."""
        return self.arguments[0] if self.arguments else ""

    def of(self, *kinds: str) -> Iterator[Group]:
        """Groups inside of the given kinds."""
        return (group for group in self.groups if group.kind in kinds)

    def first(self, kind: str) -> Group | None:
        return next(self.of(kind), None)

    def number(self, name: str) -> float | None:
        """A numeric attribute, None where it is not there."""
        text = self.attributes.get(name)
        found = numbers(text) if text is not None else []
        return found[0] if found else None


def numbers(text: str) -> list[float]:
    """All numbers of a text such as ``"1, 2", "3, 4"``."""
    return [float(found) for found in NUMBER.findall(text)]


def parse_groups(text: str, where: str = "liberty") -> Group:
    """The library group of a liberty text.

    Raises
    ------
    BitkilnError
        With the line: something that is neither an attribute nor a group, a file cut short, no library.
    """
    if "/*" in text:
        text = COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
    plain = text.replace("\\\n", " \n").replace("\\\r\n", " \n")
    root = Group("file", "")
    stack, group, at = [root], root, 0
    match_at = STATEMENT.match
    while True:
        match = match_at(plain, at)
        if match is None:
            rest = plain[at:].lstrip()
            if not rest:
                break
            line = plain.count("\n", 0, len(plain) - len(rest)) + 1
            raise BitkilnError("damaged liberty file", where=f"{where}:{line}", got=rest.splitlines()[0][:60],
                               expected="attribute : value; or group (...) { ... }")
        name, arguments, opens, quoted, bare, closes, _ = match.groups()
        at = match.end()
        if closes:
            if group is root:
                raise BitkilnError("damaged liberty file", where=f"{where}:{plain.count(chr(10), 0, at) + 1}",
                                   got="a closing brace too many", expected="balanced braces")
            stack.pop()
            group = stack[-1]
        elif opens == "{":
            inner = Group(name, arguments)
            group.groups.append(inner)
            stack.append(inner)
            group = inner
        elif arguments is not None:
            group.attributes[name] = arguments
        elif name:
            group.attributes[name] = quoted if quoted is not None else bare.strip()
    library = root.first("library")
    if library is None:
        raise BitkilnError("not a liberty file", where=where, got=plain.strip()[:60], expected="library (...) { ... }")
    if group is not root:
        raise BitkilnError("damaged liberty file", where=where, got=f"{group.kind} ({group.name}) is not closed",
                           expected="a complete file")
    return library
