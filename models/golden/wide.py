"""Exact integers of a fixed width in NumPy: int64 up to 64 bits, arrays of 32-bit limbs beyond.

Arithmetic is modulo ``2**bits``, in two's complement. A limb array is int64 of shape ``(bits / 32, ...)``, every limb
0 .. 2**32 - 1, the least significant first. The limbs come first so that each is one contiguous plane.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Wide", "exact_product", "odd_float64"]

LIMB = 32
MASK = (1 << LIMB) - 1
EXACT = 53   # bits of a float64 significand


class Wide:
    """An array of integers modulo ``2**bits``, ``bits`` 32 or a multiple of 64.

    Attributes
    ----------
    bits : int
    data : ndarray
        int64 of the array's shape for at most 64 bits (sign-extended), else limbs.
    """

    def __init__(self, data: np.ndarray, bits: int):
        self.data, self.bits = data, bits

    @property
    def narrow(self) -> bool:
        """Whether ``data`` holds the integers themselves."""
        return self.bits <= 64

    @classmethod
    def of(cls, values: np.ndarray, bits: int) -> Wide:
        """Integers of any size and dtype, wrapped."""
        values = np.asarray(values)
        if bits <= 64:
            if values.dtype == object:
                values = _objects(values, lambda value: (value + (1 << 63)) % (1 << 64) - (1 << 63)).astype(np.int64)
            return cls(_wrap(values.astype(np.int64), bits), bits)
        count = bits // LIMB
        if values.dtype != object:
            # uint64 codes are not negative; everything else is sign-extended.
            top = 0 if values.dtype == np.uint64 else (values.astype(np.int64) >> 63) & MASK
            whole = values.astype(np.uint64)
            limbs = [(whole & np.uint64(MASK)).astype(np.int64), (whole >> np.uint64(LIMB)).astype(np.int64)]
            return cls(np.stack([*limbs, *[np.broadcast_to(top, values.shape)] * (count - 2)]), bits)
        planes = [_objects(values, lambda value, at=LIMB * i: (value >> at) & MASK).astype(np.int64)
                  for i in range(count)]
        return cls(np.stack(planes), bits)

    def __add__(self, other: Wide) -> Wide:
        if self.narrow:
            with np.errstate(over="ignore"):
                return Wide(_wrap(self.data + other.data, self.bits), self.bits)
        return Wide(_carried(self.data + other.data), self.bits)

    def integers(self) -> np.ndarray:
        """Signed integers: int64 up to 64 bits, else Python integers in an object array."""
        if self.narrow:
            return self.data
        codes = self.codes()
        half, whole = 1 << (self.bits - 1), 1 << self.bits
        return _objects(codes, lambda code: code - whole if code >= half else code)

    def codes(self) -> np.ndarray:
        """Two's complement codes: uint64 up to 64 bits, else Python integers in an object array."""
        if self.narrow:
            return self.data.view(np.uint64) & np.uint64((1 << self.bits) - 1)
        words = np.ascontiguousarray(np.moveaxis(self.data, 0, -1)).astype("<u4")
        out = np.empty(words.shape[:-1], object)
        size, raw, flat = words.shape[-1] * 4, words.tobytes(), out.reshape(-1)
        for i in range(flat.size):
            flat[i] = int.from_bytes(raw[i * size:(i + 1) * size], "little")
        return out

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape if self.narrow else self.data.shape[1:]

    def int64(self) -> tuple[np.ndarray, np.ndarray]:
        """The integers as int64, and where that is all of them (at most 62 bits)."""
        if self.narrow:
            return self.data, (self.data >> 61) == (self.data >> 63)
        low = self.data[0] | self.data[1] << LIMB   # the upper limb's top bit becomes the sign
        sign = (low >> 63) & MASK
        return low, (self.data[2:] == sign).all(axis=0) & ((low >> 61) == (low >> 63))

    def saturated(self, bits: int) -> np.ndarray:
        """The integers as int64, limited to ``bits`` (at most 64) signed bits."""
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        values, fits = self.int64()
        values = np.clip(values, low, high)
        if self.narrow:
            return values
        return np.where(fits, values, np.where(self.data[-1] >> (LIMB - 1), low, high))

    def float64(self, exponent: int) -> np.ndarray:
        """``value * 2.0**exponent`` as float64, rounded to odd at 33 or more bits: a second rounding to nearest
        at 31 bits or fewer then equals one exact rounding (Boldo and Melquiond 2008)."""
        if self.narrow:
            return odd_float64(self.data, exponent)
        negative = self.data[-1] >> (LIMB - 1) == 1
        # Magnitude: ~x + 1 where negative.
        magnitude = np.where(negative, self.data ^ MASK, self.data)
        magnitude[0] += negative
        magnitude = _carried(magnitude)
        # The highest limb that is not zero, the one below it, and whether anything is lower still.
        high, middle = magnitude[0], np.zeros_like(magnitude[0])
        place = np.zeros(high.shape, np.int64)
        sticky, below = np.zeros(high.shape, bool), np.zeros(high.shape, bool)
        for i in range(1, len(magnitude)):
            found = magnitude[i] != 0
            high = np.where(found, magnitude[i], high)
            middle = np.where(found, magnitude[i - 1], middle)
            place = np.where(found, i, place)
            sticky = np.where(found, below, sticky)
            below |= magnitude[i - 1] != 0
        top = high.astype(np.uint64) << np.uint64(LIMB) | middle.astype(np.uint64)
        value = np.ldexp(_odd(top, sticky), exponent + LIMB * (place - 1))
        return np.where(negative, -value, value)


def _objects(values: np.ndarray, function) -> np.ndarray:
    """``function`` of every element as a Python integer."""
    out = np.empty(values.shape, object)
    flat, source = out.reshape(-1), values.reshape(-1)
    for i in range(flat.size):
        flat[i] = function(int(source[i]))
    return out


def _wrap(values: np.ndarray, bits: int) -> np.ndarray:
    spare = 64 - bits
    return (values << spare) >> spare if spare else values


def _carried(limbs: np.ndarray) -> np.ndarray:
    """Limbs of any sign and up to 62 bits brought to 0 .. 2**32 - 1; what leaves the top is dropped."""
    out, carry = np.empty_like(limbs), 0
    for i in range(len(limbs)):
        total = limbs[i] + carry
        out[i], carry = total & MASK, total >> LIMB
    return out


def _odd(magnitude: np.ndarray, sticky: np.ndarray | bool = False) -> np.ndarray:
    """uint64 to float64, rounded to odd; ``sticky`` stands for a non-zero rest below (then at least 33 bits)."""
    large = magnitude >> np.uint64(EXACT) != 0
    lost = (magnitude & np.uint64(2047) != 0) & large
    kept = np.where(large, magnitude >> np.uint64(11), magnitude) | (lost | sticky)
    return np.ldexp(kept.astype(np.float64), np.where(large, 11, 0))


def odd_float64(values: np.ndarray, exponent: int) -> np.ndarray:
    """``Wide.float64`` of int64 values."""
    magnitude = np.abs(values).view(np.uint64)   # |-2**63| wraps to itself: right as uint64
    if not magnitude.size or int(magnitude.max()) >> EXACT == 0:
        return np.ldexp(values.astype(np.float64), exponent)
    value = np.ldexp(_odd(magnitude), exponent)
    return np.where(values < 0, -value, value)


def exact_product(a: np.ndarray, w: np.ndarray, bits: int) -> Wide:
    """``a @ w.T`` of integers (M, K) and (N, K), int64 or objects, modulo ``2**bits``.

    Float64 matrix products of digits so narrow that each partial sum stays below 2**53: exact in any order.
    """
    a_bits, w_bits, terms = _magnitude_bits(a), _magnitude_bits(w), a.shape[1].bit_length()
    pieces = 1
    while -(-a_bits // pieces) - (-w_bits // pieces) + terms > EXACT:
        pieces += 1
    step = max(1, -(-max(a_bits, w_bits) // pieces)) if pieces > 1 else 0
    while 2 * step + terms > EXACT:   # one step for both sides, so that products of equal weight add up
        pieces += 1
        step = -(-max(a_bits, w_bits) // pieces)
    a_digits, w_digits = _digits(a, step, a_bits), _digits(w, step, w_bits)
    diagonals = [np.zeros((len(a), len(w)), np.int64) for _ in range(len(a_digits) + len(w_digits) - 1)]
    for i, left in enumerate(a_digits):
        for j, right in enumerate(w_digits):
            diagonals[i + j] += (left @ right.T).astype(np.int64)   # at most pieces * 2**53
    if bits <= 64:
        with np.errstate(over="ignore"):
            total = sum(part << (step * i) for i, part in enumerate(diagonals) if step * i < 64)
        return Wide(_wrap(total, bits), bits)
    limbs = np.zeros((bits // LIMB + 2, len(a), len(w)), np.int64)
    for i, part in enumerate(diagonals):
        at, shift = divmod(step * i, LIMB)
        if at >= bits // LIMB:
            break
        # Low 32 bits are not negative, the rest is signed: shifted by at most 31 both stay within 63 bits.
        low, high = (part & MASK) << shift, (part >> LIMB) << shift
        limbs[at] += low & MASK
        limbs[at + 1] += (low >> LIMB) + (high & MASK)
        limbs[at + 2] += high >> LIMB
    return Wide(_carried(limbs)[:bits // LIMB], bits)


def _magnitude_bits(units: np.ndarray) -> int:
    return int(np.abs(units).max()).bit_length() if units.size else 0


def _digits(units: np.ndarray, step: int, bits: int) -> list[np.ndarray]:
    """Signed digits of ``step`` bits as float64, the least significant first (step 0: the number itself)."""
    if not step:
        return [units.astype(np.float64)]
    magnitude, sign = np.abs(units), np.where(units < 0, -1.0, 1.0)
    mask = (1 << step) - 1
    return [((magnitude >> at) & mask).astype(np.float64) * sign for at in range(0, max(bits, 1), step)]
