"""Number formats written a second time, from their definitions, in rational arithmetic.

Nothing here imports the package. A model reads a code as a string of bits and gives a Fraction or a special
word; rounding looks at neighbours. ``encode_one`` is the definition; ``encode`` is the same rule on NumPy arrays
for bulk comparisons (every tie must be a float64, which is asserted).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from fractions import Fraction

import numpy as np

MODES = ("nearest_even", "nearest_away", "toward_zero", "toward_positive", "toward_negative", "odd")


class Model:
    """Base: subclasses give ``bits`` and ``read(code)``.

    ``read`` returns a Fraction, or "nan", "inf", "-inf", "illegal".
    """

    signed_zero = False
    nan = inf = minus_inf = None        # codes
    beyond = None                       # (Fraction, code parity) of the value that would follow max
    never_zero = False

    def __init__(self):
        numbers: dict[Fraction, int] = {}
        self.words = [self.read(code) for code in range(1 << self.bits)]
        for code, word in enumerate(self.words):
            if isinstance(word, Fraction):
                numbers.setdefault(word, code)
        self.values = sorted(numbers)
        self.codes = [numbers[v] for v in self.values]
        self.ties = self.make_ties()
        self.negative_zero_code = 1 << (self.bits - 1)
        self.V = np.array([float(v) for v in self.values])
        self.C = np.array(self.codes)
        self.T = np.array([float(t) for t in self.ties])

    def read(self, code):
        raise NotImplementedError

    def make_ties(self):
        return [(a + b) / 2 for a, b in zip(self.values, self.values[1:], strict=False)]

    def check_floats(self):
        """The float64 copies are exact."""
        assert all(Fraction(f) == v for f, v in zip(self.V.tolist(), self.values, strict=True))
        assert all(Fraction(f) == v for f, v in zip(self.T.tolist(), self.ties, strict=True))

    # One value, by definition --------------------------------------------------------------------

    def encode_one(self, x: float, mode: str = "nearest_even", overflow: str = "saturate") -> int:
        if x != x:
            return self.nan
        if x in (float("inf"), float("-inf")):
            code = self.inf if x > 0 else self.minus_inf
            if code is None and overflow == "inf_nan" and (x > 0 or self.values[0] < 0):
                code = self.nan
            return code if code is not None else self.codes[-1 if x > 0 else 0]
        exact = Fraction(x)
        if overflow == "inf_nan" and self.overflows(exact, mode):
            code = self.inf if x > 0 else self.minus_inf
            return self.nan if code is None else code
        if exact >= self.values[-1]:
            return self.codes[-1]
        if exact <= self.values[0]:
            return self.codes[0]
        at = bisect_right(self.values, exact) - 1
        low, high = self.values[at], self.values[at + 1]
        if exact == low:
            up = False
        elif self.never_zero and low == 0:
            up = True
        elif self.never_zero and high == 0:
            up = False
        else:
            up = self.goes_up(exact, low, high, self.codes[at], self.codes[at + 1], self.ties[at], mode)
        value, code = (high, self.codes[at + 1]) if up else (low, self.codes[at])
        if value == 0 and self.signed_zero and str(x).startswith("-"):
            return self.negative_zero_code
        return code

    @staticmethod
    def goes_up(x, low, high, low_code, high_code, tie, mode):
        if high <= 0:
            inward = True
        elif low >= 0:
            inward = False
        else:                   # no zero between them: stay on the own side
            inward = x >= 0
        if mode == "toward_positive":
            return True
        if mode == "toward_negative":
            return False
        if mode == "toward_zero":
            return inward
        if mode == "odd":
            return inward if low_code % 2 == high_code % 2 else high_code % 2 == 1
        if x != tie:
            return x > tie
        if mode == "nearest_away":
            return abs(high) >= abs(low)
        if low_code % 2 != high_code % 2:
            return high_code % 2 == 0
        return abs(high) <= abs(low)

    def overflows(self, x, mode):
        """Whether a finite value goes to Inf or NaN under ``inf_nan`` (signed, symmetric formats)."""
        if x < 0 and self.values[0] >= 0:
            return False
        top, size = self.values[-1], abs(x)
        if mode == "toward_positive":
            return x > top
        if mode == "toward_negative":
            return x < -top
        if mode in ("toward_zero", "odd"):
            return False
        tie = (top + self.beyond) / 2
        return size > tie or (size == tie and (mode == "nearest_away" or self.codes[-1] % 2 == 1))

    # Arrays, for bulk ------------------------------------------------------------------------------

    def decode(self) -> np.ndarray:
        special = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "illegal": 0.0}
        return np.array([special[w] if isinstance(w, str) else float(w) for w in self.words])

    def encode(self, x: np.ndarray, mode: str) -> np.ndarray:
        """Saturating; NaN only where the model has a code for it."""
        with np.errstate(invalid="ignore"):    # signalling NaNs
            x = np.asarray(x, np.float64)
        at = np.clip(np.searchsorted(self.V, x, side="right") - 1, 0, len(self.V) - 2)
        low, high = self.V[at], self.V[at + 1]
        low_code, high_code = self.C[at], self.C[at + 1]
        inward = np.where(high <= 0, True, np.where(low >= 0, False, x >= 0))
        equal_parity = low_code % 2 == high_code % 2
        if mode == "toward_positive":
            up = np.ones(x.shape, bool)
        elif mode == "toward_negative":
            up = np.zeros(x.shape, bool)
        elif mode == "toward_zero":
            up = inward
        elif mode == "odd":
            up = np.where(equal_parity, inward, high_code % 2 == 1)
        else:
            tie = self.T[at]
            if mode == "nearest_away":
                at_tie = np.abs(high) >= np.abs(low)
            else:
                at_tie = np.where(equal_parity, np.abs(high) <= np.abs(low), high_code % 2 == 0)
            up = np.where(x == tie, at_tie, x > tie)
        if self.never_zero:
            up = np.where(low == 0, True, np.where(high == 0, False, up))
        up = np.where(x <= low, False, np.where(x >= high, True, up))
        codes = np.where(up, high_code, low_code)
        if self.signed_zero:
            codes = np.where((np.where(up, high, low) == 0) & np.signbit(x), self.negative_zero_code, codes)
        if self.inf is not None:
            codes = np.where(x == np.inf, self.inf, codes)
        if self.minus_inf is not None:
            codes = np.where(x == -np.inf, self.minus_inf, codes)
        return np.where(np.isnan(x), -1 if self.nan is None else self.nan, codes)


class FloatModel(Model):
    """Sign, exponent and mantissa fields."""

    def __init__(self, exponent_bits, mantissa_bits, bias=None, specials="none", signed=True):
        self.e, self.m, self.signed = exponent_bits, mantissa_bits, signed
        self.bias = 2 ** (exponent_bits - 1) - 1 if bias is None else bias
        self.specials = specials
        self.bits = signed + exponent_bits + mantissa_bits
        self.signed_zero = signed
        ones = 2 ** (self.e + self.m) - 1
        if specials == "nan":
            self.nan = ones
        if specials == "ieee":
            self.inf = ones - 2**self.m + 1
            self.minus_inf = self.inf + 2 ** (self.e + self.m) if signed else 0
            self.nan = self.inf + 2 ** (self.m - 1)
        super().__init__()
        top = self.codes[-1] + 1
        self.beyond = self.number(f"{top:0{self.e + self.m}b}" if top <= ones else "1" + "0" * (self.e + self.m))

    def number(self, body: str) -> Fraction:
        field, mantissa = int(body[:len(body) - self.m], 2), int(body[len(body) - self.m:] or "0", 2)
        fraction = Fraction(mantissa, 2**self.m)
        if field == 0:
            return fraction * Fraction(2) ** (1 - self.bias)
        return (1 + fraction) * Fraction(2) ** (field - self.bias)

    def read(self, code):
        text = f"{code:0{self.bits}b}"
        negative = self.signed and text[0] == "1"
        body = text[1:] if self.signed else text
        if self.specials == "nan" and "0" not in body:
            return "nan"
        if self.specials == "ieee" and "0" not in body[:self.e]:
            return "nan" if "1" in body[self.e:] else "-inf" if negative else "inf"
        return -self.number(body) if negative else self.number(body)


class PowerModel(Model):
    """Unsigned exponent (E8M0)."""

    bits, nan = 8, 255
    beyond = Fraction(2) ** 128

    def read(self, code):
        return "nan" if code == 255 else Fraction(2) ** (code - 127)


class PositModel(Model):
    """Regime, exponent, fraction; ties are one-bit-longer posits."""

    never_zero = True

    def __init__(self, bits, es):
        self.bits, self.es = bits, es
        self.nan = self.inf = self.minus_inf = 2 ** (bits - 1)
        super().__init__()

    @staticmethod
    def magnitude(text: str, es: int) -> Fraction:
        """Value of a positive posit given as a string without its sign bit."""
        run = len(text) - len(text.lstrip(text[0]))
        regime = run - 1 if text[0] == "1" else -run
        rest = text[run + 1:]
        exponent = int((rest[:es] + "0" * es)[:es] or "0", 2)
        fraction = rest[es:]
        significand = 1 + Fraction(int(fraction, 2), 2 ** len(fraction)) if fraction else Fraction(1)
        return significand * Fraction(2) ** (regime * 2**es + exponent)

    def read(self, code):
        half = 2 ** (self.bits - 1)
        if code == 0:
            return Fraction(0)
        if code == half:
            return "nan"
        if code > half:
            return -self.magnitude(f"{2 * half - code:0{self.bits - 1}b}", self.es)
        return self.magnitude(f"{code:0{self.bits - 1}b}", self.es)

    def make_ties(self):
        half = 2 ** (self.bits - 1)
        positive = [self.magnitude(f"{code:0{self.bits - 1}b}1", self.es) for code in range(1, half - 1)]
        return [-t for t in reversed(positive)] + [Fraction(0), Fraction(0)] + positive


class IntegerModel(Model):
    """Two's complement or unsigned, divided by a power of two."""

    def __init__(self, bits, fraction_bits=0, signed=True):
        self.bits, self.fraction_bits, self.signed = bits, fraction_bits, signed
        super().__init__()

    def read(self, code):
        text = f"{code:0{self.bits}b}"
        weights = [2**i for i in range(self.bits - 1, -1, -1)]
        if self.signed:
            weights[0] = -weights[0]
        return Fraction(sum(w for w, bit in zip(weights, text, strict=True) if bit == "1"), 2**self.fraction_bits)


class ListModel(Model):
    """A list of values; None is illegal."""

    def __init__(self, values):
        self.listed = values
        self.bits = (len(values) - 1).bit_length()
        super().__init__()

    def read(self, code):
        value = self.listed[code]
        return "illegal" if value is None else Fraction(value)


F = Fraction
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
       -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
       0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
NF3 = [-1.0, -0.5350227355957031, -0.2469314038753510, 0.0, 0.1833375245332718, 0.3819939494132996,
       0.6229856610298157, 1.0]
FP3 = [0, 1, 2, 4]
FP4 = [0, F(1, 2), 1, F(3, 2), 2, 3, 4, 6]
FLINT = [0, 1, 2, 3, 16, 8, 4, 6]
LISTS = {
    "ternary": [0, 1, None, -1],
    "binary": [-1, 1],
    "seq2": [Fraction(-3, 4), Fraction(-1, 4), Fraction(1, 4), Fraction(3, 4)],
    "nf4": NF4, "nf3": [float(np.float32(v)) for v in NF3],
    "flint4": FLINT + [-v for v in FLINT],
}
for _grid, _bits, _kinds in ((FP3, 3, {"er": 3, "ea": 6}), (FP4, 4, {"er": 5, "ea": 8})):
    for _kind, _special in _kinds.items():
        for _sign, _word in ((1, "pos"), (-1, "neg")):
            LISTS[f"bitmod{_bits}_{_kind}_{_word}"] = _grid + [_sign * _special] + [-v for v in _grid[1:]]

FLOATS = {
    "fp3": (2, 0), "fp4": (2, 1), "fp6_e2m3": (2, 3), "fp6_e3m2": (3, 2), "fp8_e4m3": (4, 3, 7, "nan"),
    "fp8_e5m2": (5, 2, 15, "ieee"), "fp8_e3m4": (3, 4, 3, "ieee"), "fp8_e4m3_ieee": (4, 3, 7, "ieee"),
    "fp16": (5, 10, 15, "ieee"), "bf16": (8, 7, 127, "ieee"), "ue4m3": (4, 3, 7, "nan", False),
    "ue5m3": (5, 3, 15, "nan", False),
}
_models: dict[str, Model] = {}


def model(name: str) -> Model:
    """The model of a canonical format name (made once)."""
    if name not in _models:
        _models[name] = _make(name)
    return _models[name]


def _make(name: str) -> Model:
    if name in FLOATS:
        return FloatModel(*FLOATS[name])
    if name in LISTS:
        return ListModel(LISTS[name])
    if name == "e8m0":
        return PowerModel()
    if match := re.fullmatch(r"(u?)int(\d+)", name):
        return IntegerModel(int(match[2]), 0, not match[1])
    if match := re.fullmatch(r"(u?)fixed(\d+)_(\d+)", name):
        return IntegerModel(int(match[2]), int(match[3]), not match[1])
    if match := re.fullmatch(r"posit(\d+)_(\d+)", name):
        return PositModel(int(match[1]), int(match[2]))
    match = re.fullmatch(r"e(\d)m(\d)", name)
    return FloatModel(int(match[1]), int(match[2]))
