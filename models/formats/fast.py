"""Fast evaluation of rounding steps, without a search.

Both methods are exact and check that themselves when their tables are built; where the check fails the caller
keeps the binary search of ``Steps``.

*Direct* (codes of at most 8 bits, float32 input). The upper 18 bits of a float32, the lowest of them OR-
ed with all bits below (rounding to odd), index a table of codes. An index whose last bit is 0 stands for
exactly one float32; one whose last bit is 1 for the open interval between two such floats. Rounding is
monotone, so the table is right if and only if the first and the last float32 of every interval round to
the same code: that is checked when the table is made. It holds when no tie has more than 8 fraction
bits: for every number format up to 8 bits, not for NF4.

*Guess and correct* (everything else). The upper bits of the ordered key choose a bucket that knows how
many thresholds lie below it and inside it; the guess interpolates, and one comparison with a threshold
corrects it. That is right if guess <= result <= guess + 1. Guess and result are both monotone, the
result changes only at thresholds, and the rule holds at both ends of a bucket by construction; so it
holds everywhere in a bucket when it holds at and just below each of its thresholds. Buckets that fail
(uneven thresholds, as where a format saturates) are marked, and values that fall there are searched.
Thresholds of integers, floats and posits are evenly spaced nearly everywhere.
"""

from __future__ import annotations

import numpy as np

from .stepping import INF_KEY, Steps, order_key

__all__ = ["DirectTable", "GuessTable", "decode_chunks", "float32_thresholds"]

CHUNK = 1 << 14         # values worked on at once: all buffers stay in the second-level cache
INDEX_BITS = 18
_DROP = 32 - INDEX_BITS


def decode_chunks(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """``table[codes]`` for checked codes; indices are widened chunk by chunk."""
    flat = np.ascontiguousarray(codes).reshape(-1)
    result = np.empty(flat.size, table.dtype)
    index = np.empty(min(CHUNK, flat.size), np.intp)
    for start in range(0, flat.size, CHUNK):
        part = flat[start:start + CHUNK]
        at = index[:part.size]
        np.copyto(at, part, casting="unsafe")
        np.take(table, at, out=result[start:start + CHUNK], mode="clip")   # clip: no second range check
    return result.reshape(codes.shape)


class DirectTable:
    """18 bits of a float32 to a code of at most 8 bits."""

    def __init__(self, table: np.ndarray):
        self.table = table

    @classmethod
    def build(cls, steps: Steps) -> DirectTable | None:
        """The table of ``steps``; None when 18 bits do not decide every float32."""
        if steps.codes.dtype != np.uint8:
            return None
        index = np.arange(1 << INDEX_BITS, dtype=np.uint32)
        start = (index & ~np.uint32(1)) << np.uint32(_DROP)
        odd = (index & 1) == 1
        # Exact values stand for themselves, intervals for their inner ends (bit _DROP is part of the
        # sticky bit).
        first = np.where(odd, start + 1, start)
        last = np.where(odd, start + np.uint32((2 << _DROP) - 1), start)
        low, high = (steps(order_key(_as_float64(bits))) for bits in (first, last))
        return cls(low) if np.array_equal(low, high) else None

    def __call__(self, values: np.ndarray) -> np.ndarray:
        bits = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
        result = np.empty(bits.size, np.uint8)
        size = min(CHUNK, bits.size)
        work, index = np.empty(size, np.uint32), np.empty(size, np.intp)
        mask = np.uint32((1 << _DROP) - 1)
        for start in range(0, bits.size, CHUNK):
            part = bits[start:start + CHUNK]
            w, at = work[:part.size], index[:part.size]
            np.bitwise_and(part, mask, out=w)
            np.add(w, mask, out=w)            # carries into bit _DROP when a dropped bit is set
            np.bitwise_or(w, part, out=w)
            np.right_shift(w, np.uint32(_DROP), out=w)
            np.copyto(at, w, casting="unsafe")
            np.take(self.table, at, out=result[start:start + CHUNK], mode="clip")
        return result.reshape(values.shape)


def _as_float64(bits: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):   # signalling NaNs
        return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def float32_thresholds(thresholds: np.ndarray) -> np.ndarray:
    """First float32 key at or above each float64 key."""
    finite = np.clip(thresholds, -INF_KEY - 1, INF_KEY)
    bits = finite ^ ((finite >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))
    exact = bits.view(np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    raw = near.view(np.int32)
    keys = (raw ^ ((raw >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    keys += near.astype(np.float64) < exact
    keys += thresholds - finite               # thresholds among the NaNs
    return keys.astype(np.int32)


class GuessTable:
    """Guess and correct, for float32 (int32 keys) or float64 (int64 keys)."""

    def __init__(self, steps: Steps, single: bool, bucket_bits: int):
        self.single = single
        self.codes = steps.codes
        self.thresholds = float32_thresholds(steps.thresholds) if single else steps.thresholds
        width = 32 if single else 64
        self.shift = width - bucket_bits
        self.inner = min(self.shift, 32)      # bits of the position inside a bucket that are used
        count = 1 << bucket_bits
        starts = np.arange(-count // 2, count // 2, dtype=np.int64) << self.shift
        self.offset = count // 2
        starts = starts.astype(self.thresholds.dtype)
        base = np.searchsorted(self.thresholds, starts, side="right")
        ends = np.append(np.searchsorted(self.thresholds, starts[1:], side="left"), len(self.thresholds))
        self.base = base.astype(np.int64)
        self.number = (ends - base).astype(np.int64)
        # A comparison with the last entry is never true: no key is above the largest NaN.
        top = np.iinfo(self.thresholds.dtype).max
        self.padded = np.append(self.thresholds, top)
        self.uneven = self._uneven_buckets()

    @classmethod
    def build(cls, steps: Steps, single: bool) -> GuessTable:
        """Larger buckets are faster; smaller ones leave fewer values to search."""
        table = cls(steps, single, 16)
        return table if table.uneven is None else cls(steps, single, 18)

    def _uneven_buckets(self) -> np.ndarray | None:
        """The check of the module's description: which buckets fail (None: none)."""
        below = self.thresholds - 1
        result = np.searchsorted(self.thresholds, self.thresholds, side="right")
        result_below = np.searchsorted(self.thresholds, below, side="right")
        uneven = np.zeros(len(self.base), bool)
        for keys, right in ((self.thresholds, result), (below, result_below)):
            guess = self._guess(keys)
            failed = (guess > right) | (right > guess + 1)
            uneven[(keys[failed].astype(np.int64) >> self.shift) + self.offset] = True
        return uneven if uneven.any() else None

    def _guess(self, keys: np.ndarray) -> np.ndarray:
        keys = keys.astype(np.int64)
        bucket = (keys >> self.shift) + self.offset
        inside = (keys >> (self.shift - self.inner)) & ((1 << self.inner) - 1)
        return self.base[bucket] + (inside * self.number[bucket] >> self.inner)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        integer = np.int32 if self.single else np.int64
        bits = np.ascontiguousarray(values).reshape(-1).view(integer)
        result = np.empty(bits.size, self.codes.dtype)
        size = min(CHUNK, bits.size)
        small, test = np.empty(size, integer), np.empty(size, bool)
        key, at, a, b = (np.empty(size, np.int64) for _ in range(4))
        magnitude = np.array(np.iinfo(integer).max, integer)
        limit = np.empty(size, self.padded.dtype)
        for start in range(0, bits.size, CHUNK):
            part = bits[start:start + CHUNK]
            n = part.size
            s, k, i, x, y = small[:n], key[:n], at[:n], a[:n], b[:n]
            np.right_shift(part, integer(8 * s.itemsize - 1), out=s)
            np.bitwise_and(s, magnitude, out=s)
            np.bitwise_xor(s, part, out=s)
            np.copyto(k, s)
            np.right_shift(k, self.shift, out=i)
            np.add(i, self.offset, out=i)
            np.take(self.number, i, out=x, mode="clip")
            np.take(self.base, i, out=y, mode="clip")
            if self.shift > self.inner:
                np.right_shift(k, self.shift - self.inner, out=k)
            np.bitwise_and(k, (1 << self.inner) - 1, out=k)
            np.multiply(x, k, out=x)
            np.right_shift(x, self.inner, out=x)
            np.add(y, x, out=y)
            np.take(self.padded, y, out=limit[:n], mode="clip")
            np.greater_equal(s, limit[:n], out=test[:n])
            np.add(y, test[:n], out=y)
            if self.uneven is not None:
                hard = np.flatnonzero(np.take(self.uneven, i, out=test[:n], mode="clip"))
                y[hard] = np.searchsorted(self.thresholds, s[hard], side="right")
            np.take(self.codes, y, out=result[start:start + CHUNK], mode="clip")
        return result.reshape(values.shape)
