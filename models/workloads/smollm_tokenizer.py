"""Byte-level byte-pair encoding, as GPT-2 has it, from the metadata of a GGUF file.

A text is cut into pieces (words with the space before them, digits, punctuation, white space), the UTF-8 bytes of each
piece become one printable character each, and neighbours are merged by the file's list of merges, best rank first.

Source: GPT-2's published encoder rules; the pre-tokenizer ``smollm`` cuts off every digit first (tokenizer of
SmolLM2, Apache-2.0).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import BitkilnError, nearest
from .gguf import GgufFile

__all__ = ["Tokenizer", "pieces"]

# Pre-tokenizers by the name that files have: whether each digit is a piece of its own before all else.
SINGLE_DIGITS = {"smollm": True, "gpt-2": False}

_CONTRACTIONS = re.compile(r"'(?:s|t|re|ve|m|ll|d)")
# Over the kinds of characters: L letter, N number, space and S white space, O other.
_KINDS = re.compile(r" ?L+| ?N+| ?O+|[ S]+(?![^ S])|[ S]+")
_WHITE_SPACE = frozenset("\t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000") | \
    frozenset(chr(code) for code in range(0x2000, 0x200B))


def _kind(letter: str) -> str:
    if letter == " ":
        return " "
    if letter in _WHITE_SPACE:
        return "S"
    category = unicodedata.category(letter)[0]
    return category if category in "LN" else "O"


def pieces(text: str, single_digits: bool) -> Iterator[str]:
    """The pieces that are encoded one by one; joined they are the text."""
    kinds = "".join(map(_kind, text))
    for part in re.finditer(r"N|[^N]+" if single_digits else r".+", kinds):
        at, end = part.span()
        while at < end:
            match = _CONTRACTIONS.match(text, at, end) or _KINDS.match(kinds, at, end)
            assert match is not None  # a character of any kind begins one of the alternatives
            yield text[at:match.end()]
            at = match.end()


def _alphabet() -> tuple[str, ...]:
    """The character that stands for each byte: itself where it is visible, else one from U+0100 upwards."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = (code for code in range(256) if code not in visible)
    others = {code: chr(256 + number) for number, code in enumerate(hidden)}
    return tuple(others.get(code, chr(code)) for code in range(256))


ALPHABET = _alphabet()
_BYTES = {letter: code for code, letter in enumerate(ALPHABET)}


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Text to token numbers and back.

    Attributes
    ----------
    tokens : tuple of str
        In the alphabet of bytes; the place is the token's number.
    ranks : mapping of (str, str) to int
        Pairs that merge; the lowest rank first.
    single_digits : bool
        Whether every digit is a token of its own.
    start : int or None
        Token put before every text, if any.
    """

    tokens: tuple[str, ...] = field(repr=False)
    ranks: Mapping[tuple[str, ...], int] = field(repr=False)
    single_digits: bool
    start: int | None = None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        """Pieces that have been encoded already."""
        return {}

    @classmethod
    def of(cls, file: GgufFile) -> Tokenizer:
        """The tokenizer of a GGUF file.

        Raises
        ------
        BitkilnError
            Another kind of tokenizer, an unknown pre-tokenizer, or damaged lists.
        """
        where = f"{file.path} tokenizer.ggml"
        kind, pre = file.value("tokenizer.ggml.model", str), file.value("tokenizer.ggml.pre", str, "gpt-2")
        if kind != "gpt2":
            raise BitkilnError("unknown tokenizer", where=f"{where}.model", got=kind, expected="gpt2 (byte-level BPE)")
        if pre not in SINGLE_DIGITS:
            raise BitkilnError("unknown pre-tokenizer", where=f"{where}.pre", got=pre,
                               expected=", ".join(SINGLE_DIGITS), help=nearest(pre, SINGLE_DIGITS))
        tokens, merges = (file.value(f"tokenizer.ggml.{name}", tuple) for name in ("tokens", "merges"))
        ranks: dict[tuple[str, ...], int] = {}
        for rank, merge in enumerate(merges):
            pair = tuple(str(merge).split(" "))
            if len(pair) != 2 or not all(pair):
                raise BitkilnError("bad merge", where=f"{where}.merges[{rank}]", got=str(merge),
                                   expected="two parts with a space between")
            ranks.setdefault(pair, rank)
        start = file.value("tokenizer.ggml.bos_token_id", int) \
            if "tokenizer.ggml.add_bos_token" in file.metadata and file.value("tokenizer.ggml.add_bos_token", bool) \
            else None
        return cls(tokens, ranks, SINGLE_DIGITS[pre], start)

    def encode(self, text: str) -> np.ndarray:
        """Token numbers (int64) of a text; names of control tokens in it are ordinary text.

        Raises
        ------
        BitkilnError
            A byte that no token has.
        """
        found = [] if self.start is None else [self.start]
        for piece in pieces(text, self.single_digits):
            if piece not in self._known:
                self._known[piece] = self._piece(piece)
            found += self._known[piece]
        return np.array(found, np.int64)

    def decode(self, numbers: Iterable[int]) -> str:
        """Text of token numbers; bytes that are no UTF-8 become U+FFFD."""
        text = "".join(self.tokens[int(number)] for number in numbers)
        return bytes(_BYTES.get(letter, 63) for letter in text).decode("utf-8", "replace")

    def _piece(self, piece: str) -> list[int]:
        parts = [ALPHABET[byte] for byte in piece.encode("utf-8", "surrogatepass")]
        while len(parts) > 1:
            rank, pair = min((self.ranks.get(pair, len(self.ranks)), pair)
                             for pair in zip(parts, parts[1:], strict=False))
            if rank == len(self.ranks):
                break
            merged, at = [], 0
            while at < len(parts):
                both = tuple(parts[at:at + 2]) == pair
                merged.append("".join(pair) if both else parts[at])
                at += 1 + both
            parts = merged
        for part in parts:
            if part not in self._numbers:
                raise BitkilnError("text has no token", where="tokenizer", got=piece, expected=f"a token for {part}")
        return [self._numbers[part] for part in parts]
