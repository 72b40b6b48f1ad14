"""Names, aliases, descriptions, own formats and every error message."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bitkiln.models.errors import BitkilnError
from bitkiln.models.formats import (
    Codebook,
    Fixed,
    Int,
    Minifloat,
    Posit,
    PowerOfTwo,
    describe,
    format_from_dict,
    format_names,
    get_format,
    group_format_names,
    is_weight_only,
    list_formats,
    register,
)
from bitkiln.models.formats.describe import markdown_table
from bitkiln.models.formats.registry import aliases_of, unregister


def message(call) -> str:
    with pytest.raises(BitkilnError) as caught:
        call()
    assert caught.value.exit_code == 2
    return str(caught.value)


# Names -------------------------------------------------------------------------------------------


def test_canonical_names():
    for name in format_names():
        f = get_format(name)
        assert f.name == name and get_format(name) is f and get_format(f) is f
        assert get_format(name.upper()) is f
        for alias in aliases_of(name):
            assert get_format(alias) is f
        again = eval(repr(f), {c.__name__: c for c in (Codebook, Int, Minifloat, Posit, PowerOfTwo)} | {
            "Binary32": type(get_format("fp32"))})
        assert again == f and hash(again) == hash(f)
    assert len(format_names()) == len(set(format_names()))
    for bits in range(3, 9):
        for e in range(1, bits):
            name = f"e{e}m{bits - 1 - e}"
            if name != "e4m3":
                assert get_format(name).bits == bits


@pytest.mark.parametrize(("spelling", "name"), [
    ("FP4-E2M1", "fp4"), ("e2m1", "fp4"), ("E2M0", "fp3"), ("Posit(8, 0)", "posit8_0"), ("posit<16,1>", "posit16_1"),
    ("POSIT_8_2", "posit8_2"), ("posit(8, es=1)", "posit8_1"), ("Int8", "int8"), (" int-4 ", "int4"),
    ("UINT_7", "uint7"), ("fixed(8,4)", "fixed8_4"), ("ufixed16.3", "ufixed16_3"), ("int08", "int8"),
    ("FP8 E4M3", "fp8_e4m3"),
    ("fp8_e4m3fn", "fp8_e4m3"), ("e4m3_ieee", "fp8_e4m3_ieee"), ("bfloat16", "bf16"), ("float16", "fp16"),
    ("half", "fp16"), ("float32", "fp32"), ("e8m7", "bf16"), ("UE8M0", "e8m0"), ("e3m4", "fp8_e3m4"), ("NF4", "nf4"),
])
def test_spellings(spelling, name):
    assert get_format(spelling).name == name


def test_weight_only():
    only = {n for n in format_names() if is_weight_only(n)}
    bitmod = {f"bitmod{b}_{k}_{s}" for b in (3, 4) for k in ("er", "ea") for s in ("pos", "neg")}
    assert only == {"nf3", "nf4", "flint4", "binary", "seq2"} | bitmod
    assert is_weight_only(Codebook("mine", (0, 1)))


def test_default_names_of_classes():
    assert Minifloat(4, 3).name == "e4m3" and Minifloat(4, 3, specials="nan").name == "e4m3_nan"
    assert Minifloat(3, 2, bias=-2, specials="ieee", signed=False).name == "ue3m2_bn2_ieee"
    assert Int(5).name == "int5" and Int(1, signed=False).name == "uint1"
    assert Fixed(8, 3).name == "fixed8_3" and Fixed(8, 3, False).name == "ufixed8_3"
    assert PowerOfTwo(5).name == "ue5m0" and PowerOfTwo(5, 10).name == "ue5m0_b10"
    assert Minifloat(4, 3, specials="nan", overflow="inf_nan").encode([1e9]).tolist() == [0x7F]


# Errors ------------------------------------------------------------------------------------------

FOUND = "error: out of range at "
RANGE_3_8 = "expected 3 to 8 bits\nhelp: e{x}m{y} has 1 + x + y bits; wider floats are fp16, bf16 and fp32"
POSIT_LIMIT = "beside the sign and the shortest regime (2 bits) "


@pytest.mark.parametrize(("name", "text"), [
    ("posit80", "error: unknown format at format: got 'posit80', expected a format name\nhelp: did you mean "
     "posit8_0, posit9_0, posit8_4?"),
    ("fp5", "error: unknown format at format: got 'fp5', expected a format name\nhelp: did you mean fp4, fp3, "),
    ("nf5", "error: unknown format at format: got 'nf5', expected a format name\nhelp: did you mean nf4, nf3, "),
    ("", "error: unknown format at format: got '', expected a format name\nhelp: choices: fp3, fp4, "),
    ("e4m3", "error: ambiguous format at format: got 'e4m3'\nhelp: fp8_e4m3 is the OCP format (max 448, one "
     "NaN code per sign, no Inf); fp8_e4m3_ieee is the IEEE-like one (max 240, Inf and NaN)"),
    ("FP8", "error: ambiguous format at format: got 'FP8'\nhelp: fp8_e4m3 (OCP, max 448), fp8_e5m2 (OCP, max "
     "57344), fp8_e3m4 and fp8_e4m3_ieee are the 8-bit floats"),
    ("fp6", "error: ambiguous format at format: got 'fp6'\nhelp: fp6_e2m3 (max 7.5) and fp6_e3m2 (max 28) are "
     "the 6-bit floats"),
    ("mxfp4", "error: block-scaled format at format: got 'mxfp4', expected an element format\nhelp: groups "
     "have scales beside the codes: use get_group_format; a unit computes with the element format, e.g. fp4"),
    ("int17", FOUND + "int bits: got 17, expected 2 to 16\nhelp: int16 is the widest"),
    ("int1", FOUND + "int bits: got 1, expected 2 to 16\nhelp: one signed bit would hold only 0 and -1; uint1 "
     "holds 0 and 1"),
    ("uint0", FOUND + "uint bits: got 0, expected 1 to 16\nhelp: uint16 is the widest"),
    ("posit17_1", FOUND + "posit bits: got 17, expected 2 to 16\nhelp: posit names are positN_es, N from 2 to "
     "16"),
    ("posit4_2", FOUND + f"posit4 es: got 2, expected 0 to 1\nhelp: {POSIT_LIMIT}4 bits leave 1: further "
     "exponent bits could never be stored"),
    ("posit3_1", FOUND + f"posit3 es: got 1, expected 0\nhelp: {POSIT_LIMIT}3 bits leave 0: further exponent "
     "bits could never be stored"),
    ("posit16_5", FOUND + "posit16 es: got 5, expected 0 to 4\nhelp: es above 4 is not supported: its values "
     "leave the useful range of float64"),
    ("e9m9", FOUND + f"minifloat width: got '19 bits', {RANGE_3_8}"),
    ("e4m4", FOUND + f"minifloat width: got '9 bits', {RANGE_3_8}"),
    ("e1m0", FOUND + f"minifloat width: got '2 bits', {RANGE_3_8}"),
    ("e0m3", FOUND + "minifloat exponent_bits: got 0, expected 1 or more\nhelp: with no exponent bits it is a "
     "fixed-point number: fixed4_2, int4"),
    ("fixed8_9", FOUND + "fixed fraction_bits: got 9, expected 0 to 8\nhelp: fixed8_4 has 8 bits in all, 4 of "
     "them behind the point"),
    ("fixed17_3", FOUND + "fixed bits: got 17, expected 2 to 16"),
    (True, "error: not a format name at format: got 'True (bool)', expected a string\nhelp: quote it: YAML "
     "reads a bare no, yes, on or off as a truth value"),
    (None, "error: not a format name at format: got 'None (NoneType)', expected a string"),
    (8, "error: not a format name at format: got '8 (int)', expected a string"),
])
def test_bad_names(name, text):
    assert message(lambda: get_format(name)).startswith(text)


def test_where_is_named():
    assert message(lambda: get_format("fp5", where="a.yaml:3 formats.weight")).startswith(
        "error: unknown format at a.yaml:3 formats.weight: got 'fp5'")
    assert message(lambda: get_format("int17", where="formats.weight")).startswith(
        "error: out of range at formats.weight (int bits): got 17, expected 2 to 16")


@pytest.mark.parametrize(("call", "text"), [
    (lambda: Posit(8, -1), FOUND + "posit8 es: got -1, expected 0 to 4"),
    (lambda: Posit(8, 1.0), "error: not an integer at posit8 es: got 1.0, expected an integer 0 to 4"),
    (lambda: Posit(True, 0), "error: not an integer at posit bits: got True, expected an integer 2 to 16"),
    (lambda: Minifloat(0, 3), FOUND + "minifloat exponent_bits: got 0, expected 1 to 8"),
    (lambda: Minifloat(9, 3), FOUND + "minifloat exponent_bits: got 9, expected 1 to 8"),
    (lambda: Minifloat(8, 10), FOUND + "minifloat width: got 19, expected 3 to 16\nhelp: width = 1 sign + 8 "
     "exponent + 10 mantissa bits"),
    (lambda: Minifloat(1, 0), FOUND + "minifloat width: got 2, expected 3 to 16"),
    (lambda: Minifloat(4, 3, bias=500), FOUND + "minifloat bias: got 500, expected -126 to 130"),
    (lambda: Minifloat(4, 3, bias="7"), "error: not an integer at minifloat bias: got '7', expected an integer "
     "-126 to 130"),
    (lambda: Minifloat(4, 0, specials="ieee"), "error: no code for NaN at minifloat specials: got 'ieee with 0 "
     "mantissa bits', expected none or nan"),
    (lambda: Minifloat(1, 3, specials="ieee"), "error: no normal numbers at minifloat specials: got 'ieee with "
     "1 exponent bit', expected none or nan"),
    (lambda: Minifloat(4, 3, specials="inf"), "error: unknown specials at minifloat specials: got 'inf', "
     "expected none, nan or ieee"),
    (lambda: Minifloat(4, 3, overflow="wrap"), "error: unknown overflow policy at minifloat overflow: got "
     "'wrap', expected saturate or inf_nan"),
    (lambda: Minifloat(4, 3, overflow="inf_nan"), "error: contradictory options at minifloat overflow: got "
     "'inf_nan', expected saturate with specials none"),
    (lambda: Codebook("a b", (0, 1)), "error: not a format name at format name: got 'a b', expected a "
     "lower-case letter, then up to 39 letters, digits and single _"),
    (lambda: Codebook("a", (0, 1, 2)), "error: wrong number of values at codebook a values: got 3, expected 2, "
     "4, 8, ... or 256, one for each code"),
    (lambda: Codebook("a", (0, float("nan"))), "error: not a usable number at codebook a values[1]: got 'nan', "
     "expected a finite number, 0 or of magnitude 2^-126 to 2^128"),
    (lambda: Codebook("a", (0, 1e300)), "error: not a usable number at codebook a values[1]: got '1e+300'"),
    (lambda: Codebook("a", ("1", 0)), "error: not a usable number at codebook a values[0]: got '1'"),
    (lambda: Codebook("a", "01"), "error: not a list at codebook a values: got '01', expected a list of numbers"),
    (lambda: Codebook("a", (0, -1)), "error: too few different values at codebook a values: got '[0.0, -1.0]', "
     "expected 2 or more, one of them positive"),
    (lambda: get_format("fp4").decode([16]), "error: code out of range at fp4 codes[0]: got 16, expected 0 to "
     "15 (4 bits)"),
    (lambda: get_format("ternary").decode(np.array([[0, 1], [-1, 0]])),
     "error: code out of range at ternary codes[1, 0]: got -1, expected 0 to 3 (2 bits)"),
    (lambda: get_format("int8").units(np.array(256)), "error: code out of range at int8 codes: got 256, "
     "expected 0 to 255 (8 bits)"),
    (lambda: get_format("fp4").decode([1.5]), "error: codes are not integers at fp4 codes: got 'float64', "
     "expected an integer array\nhelp: use encode() to turn values into codes"),
    (lambda: get_format("fp4").encode([0, np.nan, np.nan]), "error: NaN cannot be encoded at fp4 values[1]: "
     "got '2 NaN among 3 values', expected no NaN: fp4 has no code for it\nhelp: replace them first, e.g. "
     "np.nan_to_num(values)"),
    (lambda: get_format("int8").encode(np.float32("nan")), "error: NaN cannot be encoded at int8 values: got "
     "'1 NaN among 1 values'"),
    (lambda: get_format("nf4").encode(np.full((3, 3), np.nan)), "error: NaN cannot be encoded at nf4 values[0, "
     "0]: got '9 NaN among 9 values'"),
    (lambda: get_format("fp4").encode(["a"]), "error: values are not real numbers at fp4 values: got '<U1', "
     "expected a float array"),
    (lambda: get_format("fp4").encode([1j]), "error: values are not real numbers at fp4 values: got "
     "'complex128'"),
    (lambda: get_format("fp4").encode([True]), "error: values are not real numbers at fp4 values: got 'bool'"),
    (lambda: get_format("fp4").encode(np.longdouble([1])), "error: values are wider than float64 at fp4 "
     "values: got 'float128', expected float32 or float64\nhelp: values.astype(np.float64) rounds a first time"),
    (lambda: get_format("fp32").encode([2**53 + 1]), "error: integers beyond float64 at fp32 values: got "
     "'9007199254740993 to 9007199254740993', expected magnitudes up to 2**53"),
    (lambda: get_format("fp4").encode([1.0], "nearest"), "error: unknown rounding at rounding: got 'nearest', "
     "expected nearest_even, nearest_away, toward_zero, toward_positive, toward_negative, odd, "
     "stochastic\nhelp: did you mean nearest_even, nearest_away"),
    (lambda: get_format("fp4").encode([1.0], overflow="clip"), "error: unknown overflow policy at overflow: "
     "got 'clip', expected saturate or inf_nan"),
    (lambda: get_format("fp4").encode([1.0], overflow="inf_nan"),
     "error: overflow policy not possible at overflow: got 'inf_nan', expected saturate: fp4 has neither Inf "
     "nor NaN"),
    (lambda: get_format("posit8_0").encode([1.0], overflow="inf_nan"),
     "error: overflow policy not possible at overflow: got 'inf_nan', expected saturate: posits saturate at "
     "maxpos"),
    (lambda: get_format("fp4").encode([1.0], "stochastic"), "error: random bits missing at random_bits: "
     "expected a uint32 array\nhelp: np.random.default_rng(seed).integers(0, 2**32, values.shape, np.uint32)"),
    (lambda: get_format("fp4").encode([1.0], "stochastic", random_bits=[1]),
     "error: random bits of the wrong type at random_bits: got 'list', expected uint8, uint16 or uint32"),
    (lambda: get_format("fp4").encode([1.0], "stochastic", random_bits=np.zeros(1)),
     "error: random bits of the wrong type at random_bits: got 'float64'"),
    (lambda: get_format("fp4").encode([1.0], "stochastic", random_bits=np.zeros(3, np.uint8)),
     "error: shapes differ at random_bits: got '(3,)', expected (1,), one word for each value"),
    (lambda: get_format("fp4").encode([1.0], random_bits=np.zeros(1, np.uint8)),
     "error: contradictory options at random_bits: got 'random bits with nearest_even', expected rounding "
     "stochastic"),
])
def test_bad_parameters_codes_and_values(call, text):
    assert message(call).startswith(text)


# Own formats -------------------------------------------------------------------------------------


def test_own_formats():
    made = format_from_dict("tiny", {"family": "minifloat", "exponent_bits": 3, "mantissa_bits": 1, "bias": 5,
                                     "specials": "nan"})
    assert made == Minifloat(3, 1, bias=5, specials="nan", name="tiny")
    assert format_from_dict({"name": "p12", "family": "posit", "bits": 12, "es": 1}).max == 2.0**20
    assert format_from_dict("book", {"family": "codebook", "values": [0, 1.5, -1.5, None]}).has_illegal
    assert format_from_dict("q", {"family": "fixed", "bits": 6, "fraction_bits": 6, "signed": False}).max == 63 / 64
    assert format_from_dict("i", {"family": "int", "bits": 3}).min == -4
    assert format_from_dict("act", {"family": "codebook", "values": [0, 1], "weight_only": False}).weight_only is False
    try:
        assert register(made) is made and get_format("TINY") is made and "tiny" in format_names()
        assert register(Minifloat(3, 1, bias=5, specials="nan", name="tiny")) is made
        assert message(lambda: register(Minifloat(3, 1, name="tiny"))).startswith(
            "error: name already in use at register: got 'tiny', expected a new name: tiny is Minifloat(")
        assert describe("tiny")["parameters"]["bias"] == 5
    finally:
        unregister("tiny")
    assert "tiny" not in format_names()


CHOICES = "expected minifloat, posit, codebook, fixed, int"


@pytest.mark.parametrize(("name", "parameters", "text"), [
    ("x", {"bits": 8}, f"error: missing key at formats_defined.x.family: {CHOICES}"),
    ("x", {"family": "float"}, "error: unknown family at formats_defined.x.family: got 'float', "
     f"{CHOICES}\nhelp: did you mean minifloat"),
    ("x", {"family": "posit", "bits": 8, "ess": 1}, "error: unknown key at formats_defined.x.ess: got 'ess', "
     "expected bits, es\nhelp: did you mean es?"),
    ("x", {"family": "posit", "bits": 8}, "error: missing key at formats_defined.x.es: expected bits, es for "
     "posit"),
    ("x", {"family": "posit", "bits": 8, "es": 9}, "error: out of range at formats_defined.x (posit8 es): got "
     "9, expected 0 to 4"),
    ("x", {"family": "int", "bits": "8"}, "error: not an integer at formats_defined.x (int bits): got '8', "
     "expected an integer 2 to 16"),
    ("x", {"family": "int", "bits": 8, "signed": 1}, "error: not a truth value at formats_defined.x.signed: "
     "got '1', expected true or false"),
    ("x", [1], "error: not a mapping at formats_defined.x: got '[1]', expected family and its parameters"),
    ("My Format", {"family": "int", "bits": 8}, "error: not a format name at formats_defined: got 'My Format', "
     "expected a lower-case letter"),
    (False, {"family": "int", "bits": 8}, "error: not a name at formats_defined: got 'False (bool)', expected "
     "a string"),
    ("fp4", {"family": "int", "bits": 8}, "error: name already in use at formats_defined.fp4: got 'fp4', "
     "expected a new name"),
    ("int17", {"family": "int", "bits": 8}, "error: reserved name at formats_defined.int17: got 'int17', "
     "expected a name that no built-in rule uses"),
    ("mxfp4", {"family": "int", "bits": 8}, "error: reserved name at formats_defined.mxfp4"),
])
def test_bad_own_formats(name, parameters, text):
    assert message(lambda: format_from_dict(name, parameters)).startswith(text)


def test_bad_registrations():
    assert message(lambda: register("fp4")) == "error: not a format at register: got 'str', expected a Format"
    assert message(lambda: register(Int(8, name="e4m3"))).startswith(
     "error: reserved name at register: got 'e4m3'")
    assert message(lambda: register(Int(8, name="Bad Name"))).startswith(
     "error: not a format name at format name")


# Descriptions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*format_names(), *group_format_names(), "fixed8_4"])
def test_descriptions_are_json_and_complete(name):
    facts = describe(name)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["name"] == name and facts["summary"] and facts["definition"]
    if name in group_format_names():
        assert {"element", "scale", "block_size", "tensor_scale", "bits_per_value"} <= set(facts)
        return
    assert ("table" in facts) == (facts["bits"] <= 6)
    if "table" in facts:
        assert len(facts["table"]) == 2 ** facts["bits"]
        values = get_format(name).decode(np.arange(2 ** facts["bits"])).tolist()
        for row, value in zip(facts["table"], values, strict=True):
            assert row["special"] or row["value"] == value
            assert int(row["binary"], 2) == row["code"]


def test_description_facts():
    facts = describe("fp8_e4m3")
    assert facts["specials"] == {"nan": [0x7F, 0xFF]} and facts["precision_bits"] == 4
    assert (facts["max"], facts["min_normal"], facts["min_positive"]) == (448.0, 2.0**-6, 2.0**-9)
    assert (facts["integer_bits"], facts["fraction_bits"], facts["unit_exponent"]) == (9, 9, -9)
    assert "fp8_e4m3fn" in facts["aliases"]
    assert describe("posit8_0")["precision_bits"] == 6 and describe("posit8_0")["dynamic_range_binades"] == 12
    assert describe("ternary")["specials"] == {"illegal": [2]}
    assert describe("fp32")["precision_bits"] == 24
    assert describe("fp8_e5m2")["specials"] == {"nan": [0x7E, 0x7D, 0x7F, 0xFD], "inf": [0x7C, 0xFC]}
    assert describe("mxfp4")["bits_per_value"] == 4.25
    table = {row["code"]: row for row in describe("posit4_1")["table"]}
    assert table[8]["special"] == "NaR" and table[8]["value"] is None and table[7]["value"] == 16


def test_listing():
    rows = list_formats()
    assert [r["name"] for r in rows] == [*format_names(), *group_format_names()]
    json.dumps(rows)
    by_name = {r["name"]: r for r in rows}
    assert by_name["posit8_0"]["specials"] == "NaR" and by_name["fp8_e5m2"]["specials"] == "NaN, Inf"
    assert by_name["ternary"]["specials"] == "illegal code" and by_name["fp4"]["specials"] == "none"


def test_the_table_in_the_documentation():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| `(\w+)` \| \d+ \|", text, re.MULTILINE)
    assert len(names) > 30
    assert markdown_table(names) in text
