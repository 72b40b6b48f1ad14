"""Design descriptions of the bit-serial array and of the dequantising core: layers, defaults, schema, every error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitkiln.cli import run_cli
from bitkiln.config import ConfigErrors, json_schema, load_design
from bitkiln.models.design.bitserial import BitSerialDesign
from bitkiln.models.design.dequant import DequantDesign
from bitkiln.models.errors import BitkilnError

ENGINES = ("bitserial_array", "dequant_core")
KEYS = ("schema_version, engine, name, pe, weights, activation, lanes, array, accumulator, scale, group, "
        "special_values, zero_skip, specials, placement, pipeline, output, target")


def described(engine: str, text: str):
    path = Path("d.yaml")
    path.write_text(f"engine: {engine}\n{text}", encoding="utf-8")
    return load_design(path)


# What is built --------------------------------------------------------------------------------------

def test_defaults_of_an_array():
    design = described("bitserial_array", "weights: [bitmod4, int8]\n").design
    assert isinstance(design, BitSerialDesign)
    assert ([t.name for t in design.weights], design.activation.name) == (["bitmod4", "int8"], "fp16")
    assert (design.lanes, design.rows, design.columns, design.pipeline) == (4, 1, 1, 1)
    assert (design.accumulate, design.scale, design.group, design.groups) == ("exact", "uint8", 128, 64)
    assert (design.zero_point, design.dual_scale, design.zero_skip) == (0, False, False)
    assert (design.specials, design.output) == (True, "fp32")


def test_defaults_of_a_core():
    design = described("dequant_core", "weights: [bitmod4, ternary]\n").design
    assert isinstance(design, DequantDesign)
    assert (design.packings, design.bus_bytes, design.k_chunks) == (("dense", "trits"), 4, 256)
    assert (design.output.name, design.channel_scale, design.array.output) == ("fp32", True, "fp32")
    assert described("dequant_core", "pe: fp4\nscale: {format: e8m0}\n").design.channel_scale is False
    assert described("dequant_core", "pe: int8\nlanes: 16\n").design.bus_bytes == 16


@pytest.mark.parametrize("pe, activation, weight", [
    ("bitmod4", "fp16", "bitmod4"), ("int8xbitmod3", "int8", "bitmod3"), ("bf16xint4", "bf16", "int4"),
    ("fp8_e4m3xternary", "fp8_e4m3", "ternary"), ("INT8xFP6_E3M2", "int8", "fp6_e3m2")])
@pytest.mark.parametrize("engine", ENGINES)
def test_pe_stands_for_weights_and_activation(engine, pe, activation, weight):
    design = described(engine, f"pe: {pe}\n").design
    array = getattr(design, "array", design)
    assert ([t.name for t in array.weights], array.activation.name) == ([weight], activation)


def test_a_bit_serial_pe_needs_no_engine():
    resolved = load_design(cli={"pe": ("int8xbitmod3", "PE")})
    assert (resolved.engine.name, resolved.config["weights"], resolved.config["activation"]) == \
        ("bitserial_array", ["bitmod3"], "int8")


def test_bfloat16_is_aligned():
    resolved = described("bitserial_array", "pe: bf16xbitmod4\naccumulator: {guard: 5, rounding: rne}\n")
    assert (resolved.design.accumulate, resolved.design.guard, resolved.design.rounding) == ("aligned", 5, "rne")
    assert resolved.config["accumulator"] == {"kind": "aligned", "guard": 5, "rounding": "rne", "mantissa": 15}


def test_floating_sums():
    core = described("dequant_core", "pe: bitmod4\naccumulator: {kind: floating, guard: 2, mantissa: 12}\n").design
    design = core.array
    assert (design.accumulate, design.guard, design.rounding, design.mantissa) == ("floating", 2, "trunc", 12)
    assert (design.placement, design.sum_bits, design.sums_channel) == ("pe", 12, False)


ARRAY = """name: mine
weights: [bitmod4, bitmod3, int5]
activation: fp8_e5m2
lanes: 3
array: {rows: 2, columns: 5}
accumulator: {kind: exact, guard: 1, rounding: rne}
scale: {format: uint6, dual: true, zero_point: 0}
group: {size: 96, per_channel: 7}
special_values:
  bitmod3: {values: [3.0, -3.0, 7], terms: 2}
  bitmod4: {terms: 3}
zero_skip: true
specials: false
placement: edge
pipeline: 2
target: {fpga: ice40}
"""


def test_every_key_of_an_array_arrives():
    resolved = described("bitserial_array", ARRAY + "output: {format: raw}\n")
    design = resolved.design
    assert resolved.name == "mine" and design.activation.name == "fp8_e5m2"
    assert (design.lanes, design.rows, design.columns, design.pipeline) == (3, 2, 5, 2)
    assert (design.accumulate, design.guard, design.rounding, design.placement) == ("exact", 1, "rne", "edge")
    assert (design.scale, design.dual_scale, design.zero_point) == ("uint6", True, 0)
    assert (design.group, design.groups, design.zero_skip, design.specials) == (96, 7, True, False)
    four, three, five = design.weights
    assert (three.specials, three.terms, four.terms, five.terms) == ((3, -3, 7), 2, 3, 3)
    assert four.specials == (10, -10, 16, -16) and design.output == "raw"


def test_every_key_of_a_core_arrives():
    memory = """memory: {bus_bits: 128, packings: {int5: 4+1, bitmod3: 1+1+1}, k_chunks: 100, channel_scale: false}
output: {format: int16}
"""
    resolved = described("dequant_core", ARRAY + memory)
    design = resolved.design
    assert (design.bus_bytes, design.packings, design.k_chunks) == (16, ("dense", "1+1+1", "4+1"), 100)
    assert (design.channel_scale, design.output.name, design.array.lanes) == (False, "int16", 3)
    assert design.array.output == "fp32"


@pytest.mark.parametrize("engine", ENGINES)
def test_effective_configuration_builds_the_same_design(engine):
    text = ARRAY if engine == "bitserial_array" else ARRAY + "memory: {packings: {int5: 3+2}}\n"
    for first in (described(engine, text), described(engine, "pe: int8xternary\n")):
        assert "pe" not in first.config and first.config["placement"] and first.config["accumulator"]["kind"]
        path = Path("again.yaml")
        path.write_text(json.dumps(first.config))
        second = load_design(path)
        assert (second.design, second.digest, second.config) == (first.design, first.digest, first.config)
    if engine == "dequant_core":
        assert first.config["memory"] == {"bus_bits": 32, "packings": {"ternary": "trits"}, "k_chunks": 256,
                                          "channel_scale": True}


def test_command_line_over_preset():
    design = load_design(preset="dequant_core_edge", cli={"array.rows": (3, "--rows"), "lanes": (2, "--lanes")}).design
    assert (design.array.rows, design.array.columns, design.array.lanes) == (3, 4, 2)
    assert design.packings == ("dense", "dense", "dense", "trits", "4+2") and design.output.name == "fp16"


def test_the_presets_are_what_their_comments_say():
    array = load_design(preset="bitserial_bitmod").design
    # The special values that it shows are those of the types.
    assert array == BitSerialDesign(array.weights, "fp16", rows=4, columns=4, lanes=4)
    assert array.weights == BitSerialDesign(("bitmod4", "bitmod3", "int8", "int6")).weights
    core = load_design(preset="dequant_core_edge").design
    assert [t.name for t in core.array.weights] == ["bitmod4", "bitmod3", "int8", "ternary", "fp6_e3m2"]
    assert (core.array.rows, core.array.columns, core.bus_bytes, core.channel_scale) == (2, 4, 8, True)


# Schema ---------------------------------------------------------------------------------------------

def test_schema_names_the_choices():
    schema = json_schema("dequant_core")
    parts = schema["$defs"]
    choices = {}
    for model, name in (("MemoryConfig", "bus_bits"), ("GroupScaleConfig", "format"),
                        ("SerialAccumulatorConfig", "kind"), ("SerialAccumulatorConfig", "rounding")):
        key = parts[model]["properties"][name]
        choices[name] = {value for option in key.get("anyOf", [key]) for value in option.get("enum", [])}
    assert choices == {"bus_bits": {32, 64, 128, 256}, "kind": {"exact", "aligned", "floating"},
                       "rounding": {"trunc", "rne"},
                       "format": {"uint8", "uint6", "uint4", "none", "e8m0", "ue4m3", "ue5m3"}}
    array = json_schema("bitserial_array")
    assert set(schema["properties"]) - set(array["properties"]) == {"memory"}
    assert set(array["properties"]) <= set(schema["properties"])
    assert parts["CoreOutputConfig"]["properties"]["format"]["type"] == "string"
    assert set(array["$defs"]["SerialOutputConfig"]["properties"]["format"]["enum"]) == {"fp32", "raw"}
    assert (schema["properties"]["engine"]["const"], array["properties"]["engine"]["const"]) == \
        ("dequant_core", "bitserial_array")


# Errors ---------------------------------------------------------------------------------------------

MISSING = ("error: missing key at d.yaml:1 weights: expected a list of weight types, or pe: ...\n"
           "help: for example weights: [bitmod4, int8]")
TOO_WIDE = ("error: accumulator too wide at d.yaml:3 accumulator.kind: got 'exact with bf16 (about 300 bits)', "
            "expected aligned or floating")
UNKNOWN = ("error: unknown weight type at d.yaml:2 weights.1: got 'bitmod5', expected a weight type\n"
           "help: did you mean bitmod4, bitmod3, bitmod4_er_pos?")

# Of both engines: description behind the first line, message.
BOTH = {
    "no weights": ("", MISSING),
    "unknown type": ("weights: [bitmod4, bitmod5]\n", UNKNOWN),
    "exact sums of bf16": ("pe: bf16xint4\naccumulator: {kind: exact}\n", TOO_WIDE),
}
ERRORS = {
    "pe and weights": (
        "pe: bitmod4\nweights: [int8]\n",
        "error: contradictory keys at d.yaml:2 pe: got 'pe and weights', expected one of them"),
    "unknown type as pe": (
        "pe: int8xbitmod5\n",
        "error: unknown weight type at d.yaml:2 pe: got 'bitmod5', expected a weight type\n"
        "help: did you mean bitmod4, bitmod3, bitmod4_er_pos?"),
    "type of large range": (
        "weights: [fp16]\n",
        "error: not a weight type of the bit-serial engine at d.yaml:2 weights.0: got 'fp16', expected a finite format "
        "of 8 bits or less and small range\n"
        "help: did you mean fp4, fp3, fp6_e3m2?"),
    "wide integer": (
        "pe: int9\n",
        "error: not a weight type of the bit-serial engine at d.yaml:2 pe: got 'int9', expected a finite format of 8 "
        "bits or less and small range\n"
        "help: did you mean int8, int7, int6?"),
    "text for a list": (
        "weights: bitmod4\n",
        "error: wrong type at d.yaml:2 weights: got 'bitmod4' (text), expected a list\n"
        "help: for example weights: [bitmod4]"),
    "number as a type": (
        "weights: [8]\n",
        "error: wrong type at d.yaml:2 weights.0: got 8 (an integer), expected text\n"
        'help: YAML reads this as a number; if it is a name, put it in quotes: "8"'),
    "empty list": (
        "weights: []\n",
        "error: missing weight type at d.yaml:2 weights: got '', expected one or more different types"),
    "type named twice": (
        "weights: [int4, int4]\n",
        "error: weight type named twice at d.yaml:2 weights: got 'int4, int4', expected one or more different types"),
    "nine types": (
        "weights: [int2, int3, int4, int5, int6, int7, int8, fp3, fp4]\n",
        "error: too many weight types at d.yaml:2 weights: got 9, expected at most 8"),
    "unknown activation": (
        "pe: bitmod4\nactivation: fp17\n",
        "error: unknown format at d.yaml:3 activation: got 'fp17', expected a format name\n"
        "help: did you mean fp16, fp4, fp3?"),
    "activation without a PE": (
        "pe: bitmod4\nactivation: fp4\n",
        "error: no bit-serial PE for this activation at d.yaml:3 activation: got 'fp4', expected fp16, bf16, fp8_e4m3, "
        "fp8_e5m2, int8\n"
        "help: did you mean fp16, fp8_e4m3?"),
    "too many lanes": (
        "pe: bitmod4\nlanes: 17\n", "error: out of range at d.yaml:3 lanes: got 17, expected at most 16"),
    "no rows": (
        "pe: bitmod4\narray: {rows: 0}\n", "error: out of range at d.yaml:3 array.rows: got 0, expected at least 1"),
    "wide zero-point": (
        "pe: int4\nscale: {zero_point: 9}\n",
        "error: out of range at d.yaml:3 scale.zero_point: got 9, expected at most 8"),
    "deep pipeline": (
        "pe: bitmod4\npipeline: 3\n", "error: out of range at d.yaml:3 pipeline: got 3, expected at most 2"),
    "long group": (
        "pe: bitmod4\ngroup: {size: 1025}\n",
        "error: out of range at d.yaml:3 group.size: got 1025, expected at most 1024"),
    "unknown accumulator": (
        "pe: bitmod4\naccumulator: {kind: fp32}\n",
        "error: unknown value at d.yaml:3 accumulator.kind: got 'fp32', expected exact, aligned or "
        "floating\n"
        "help: choices: exact, aligned, floating"),
    "floating at the edge": (
        "pe: bitmod4\naccumulator: {kind: floating}\nplacement: edge\n",
        "error: contradictory options at d.yaml:4 placement: got 'edge', expected pe with accumulate: floating"),
    "short mantissa": (
        "pe: bitmod4\naccumulator: {kind: floating, mantissa: 7}\n",
        "error: out of range at d.yaml:3 accumulator.mantissa: got 7, expected at least 8"),
    "aligned integers": (
        "pe: int8xbitmod4\naccumulator: {kind: aligned}\n",
        "error: contradictory options at d.yaml:3 accumulator.kind: got 'aligned', expected exact with int8 "
        "activations: "
        "they have no exponent to align"),
    "aligned with a zero-point": (
        "pe: bitmod4\naccumulator: {kind: aligned}\nscale: {zero_point: 4}\n",
        "error: contradictory options at d.yaml:4 scale.zero_point: got 4, expected none with accumulate: aligned\n"
        "help: the exact accumulator has it"),
    "aligned with two scales": (
        "pe: bf16xbitmod4\nscale: {dual: true}\n",
        "error: contradictory options at d.yaml:3 scale.dual: got True, expected none with accumulate: aligned\n"
        "help: the exact accumulator has it"),
    "floating scale with a zero-point": (
        "pe: int4\nscale: {format: e8m0, zero_point: 4}\n",
        "error: contradictory options at d.yaml:3 scale.format: got 'e8m0', expected uint8, uint6 or uint4: zero_point "
        "and dual_scale act in its phase"),
    "zero-point and two scales": (
        "pe: int4\nscale: {dual: true, zero_point: 4}\n",
        "error: contradictory options at d.yaml:3 scale.dual: got 'true', expected false with a zero_point"),
    "unknown scale": (
        "pe: bitmod4\nscale: {format: uint7}\n",
        "error: unknown value at d.yaml:3 scale.format: got 'uint7', expected uint8, uint6, uint4, none, e8m0, ue4m3 "
        "or "
        "ue5m3\n"
        "help: did you mean uint8, uint6, uint4?"),
    "placement of integers": (
        "pe: int8xbitmod4\nplacement: pe\n",
        "error: contradictory options at d.yaml:3 placement: got 'pe', expected edge, but for exact sums of "
        "activations "
        "with exponents"),
    "unknown placement": (
        "pe: bitmod4\nplacement: middle\n",
        "error: unknown value at d.yaml:3 placement: got 'middle', expected edge or pe\n"
        "help: choices: edge, pe"),
    "special values of an integer": (
        "weights: [int4, bitmod3]\nspecial_values:\n  int4: {values: [3]}\n",
        "error: no weight type with special values at d.yaml:4 special_values.int4: got 'int4', expected bitmod3"),
    "special values without their type": (
        "weights: [int4]\nspecial_values:\n  bitmod3: {values: [3]}\n",
        "error: no weight type with special values at d.yaml:4 special_values.bitmod3: got 'bitmod3', expected none: "
        "special values belong to bitmod3 and bitmod4"),
    "special value of one term": (
        "pe: bitmod3\nspecial_values: {bitmod3: {terms: 1}}\n",
        "error: special value has too many terms at d.yaml:3 special_values.bitmod3: got '3 = 2 signed powers of two', "
        "expected at most 1\n"
        "help: the nearest that fit are 2 and 4; or configure special_terms: 2"),
    "special value with too many terms": (
        "pe: bitmod4\nspecial_values:\n  bitmod4: {values: [5, 5.5], terms: 2}\n",
        "error: special value has too many terms at d.yaml:4 special_values.bitmod4: got '5.5 = 3 signed powers of "
        "two', "
        "expected at most 2\n"
        "help: the nearest that fit are 5 and 6; or configure special_terms: 3"),
    "five special values": (
        "pe: bitmod4\nspecial_values:\n  bitmod4: {values: [1, 2, 3, 4, 5]}\n",
        "error: too many special values at d.yaml:4 special_values.bitmod4: got 5, expected at most 4"),
    "NaN as a special value": (
        "pe: bitmod4\nspecial_values:\n  bitmod4: {values: [.nan]}\n",
        "error: not a usable number at d.yaml:4 special_values.bitmod4: got 'nan', expected a finite number"),
    "special value beside the grid": (
        "pe: bitmod3\nspecial_values:\n  bitmod3: {values: [2.5]}\n",
        "error: special value is not on the grid at d.yaml:4 special_values.bitmod3: got 2.5, expected a multiple of "
        "1"),
    "huge special value": (
        "pe: bitmod3\nspecial_values:\n  bitmod3: {values: [100000]}\n",
        "error: grid does not fit the engine at d.yaml:4 special_values.bitmod3: got 'largest magnitude 100000 units', "
        "expected 1 to 65535 units of its least step\n"
        "help: a codebook of arbitrary values runs on the codebook_dequantiser, or rounded to 8-bit entries "
        "(nf4_int8)"),
    "many terms": (
        "pe: bitmod3\nspecial_values:\n  bitmod3: {terms: 5}\n",
        "error: out of range at d.yaml:4 special_values.bitmod3.terms: got 5, expected at most 4"),
    "number for special values": (
        "pe: bitmod3\nspecial_values:\n  bitmod3: 3\n",
        "error: wrong type at d.yaml:4 special_values.bitmod3: got 3 (an integer), expected keys and values"),
    "illegal name": (
        "pe: bitmod4\nname: 4x4\n",
        "error: illegal module name at d.yaml:3 name: got '4x4', expected a letter or _, then letters, digits or _, at "
        "most 64\n"
        "help: use core_4x4"),
    "two targets": (
        "pe: bitmod4\ntarget: {fpga: gowin, asic: {liberty: x.lib}}\n",
        "error: contradictory keys at d.yaml:3 target: got 'fpga and asic', expected one of them"),
    "rounded output of an array": (
        "pe: bitmod4\noutput: {format: fp16}\n",
        "error: unknown value at d.yaml:3 output.format: got 'fp16', expected fp32 or raw\n"
        "help: did you mean fp32?"),
    "memory of an array": (
        "pe: bitmod4\nmemory: {bus_bits: 32}\n",
        f"error: unknown key at d.yaml:3 memory: got 'memory', expected one of {KEYS}\n"
        "help: choices: schema_version, engine, name, pe, weights, activation, lanes, array, accumulator, scale, "
        "group, "
        "special_values, ..."),
    "several at once": (
        "weights: [bitmod4, bitmod5]\nlanes: 40\nscale: {format: uint9, zero: 1}\nname: module\n",
        UNKNOWN + "\n"
        "error: out of range at d.yaml:3 lanes: got 40, expected at most 16\n"
        "error: unknown value at d.yaml:4 scale.format: got 'uint9', expected uint8, uint6, uint4, none, e8m0, ue4m3 "
        "or "
        "ue5m3\n"
        "help: did you mean uint8, uint6, uint4?\n"
        "error: unknown key at d.yaml:4 scale.zero: got 'zero', expected one of format, dual, zero_point\n"
        "help: did you mean zero_point?\n"
        "error: illegal module name at d.yaml:5 name: got 'module', expected no Verilog keyword\n"
        "help: use module_unit"),
}
CORE_ERRORS = {
    "packing of an absent type": (
        "weights: [bitmod4]\nmemory: {packings: {fp6_e3m2: 4+2}}\n",
        "error: packing of a type that the core does not have at d.yaml:3 memory.packings.fp6_e3m2: got 'fp6_e3m2', "
        "expected bitmod4"),
    "unknown packing": (
        "weights: [fp6_e3m2, int4]\nmemory: {packings: {fp6_e3m2: four}}\n",
        "error: unknown packing at d.yaml:3 memory: got 'four for fp6_e3m2', expected dense, trits, or widths of "
        "planes "
        "such as 4+2"),
    "planes that do not fit": (
        "weights: [int4, fp6_e3m2]\nmemory: {packings: {fp6_e3m2: 4+4}}\n",
        "error: planes do not fit at d.yaml:3 memory: got '4+4 for fp6_e3m2', expected widths that add up to 6"),
    "trits of four bits": (
        "weights: [int4]\nmemory: {packings: {int4: trits}}\n",
        "error: not a ternary type at d.yaml:3 memory: got 'trits for int4', expected trits for ternary codes only"),
    "number as a packing": (
        "weights: [fp6_e3m2]\nmemory: {packings: {fp6_e3m2: 42}}\n",
        "error: wrong type at d.yaml:3 memory.packings.fp6_e3m2: got 42 (an integer), expected text\n"
        'help: YAML reads this as a number; if it is a name, put it in quotes: "42"'),
    "bus too narrow": (
        "weights: [int8]\nlanes: 16\nmemory: {bus_bits: 64}\n",
        "error: bus too narrow at d.yaml:4 memory.bus_bits: got '64 bits', expected at least 128 bits: a chunk of the "
        "lanes must fit a word"),
    "unknown bus": (
        "weights: [int8]\nmemory: {bus_bits: 48}\n",
        "error: unknown value at d.yaml:3 memory.bus_bits: got 48, expected 32, 64, 128 or 256"),
    "unknown key of memory": (
        "weights: [int8]\nmemory: {bus: 64}\n",
        "error: unknown key at d.yaml:3 memory.bus: got 'bus', expected one of bus_bits, packings, k_chunks, "
        "channel_scale\n"
        "help: did you mean bus_bits?"),
    "small buffer": (
        "weights: [int8]\nmemory: {k_chunks: 8}\n",
        "error: out of range at d.yaml:3 memory.k_chunks: got 8, expected at least 16"),
    "unknown output": (
        "weights: [int8]\noutput: {format: fp17}\n",
        "error: unknown format at d.yaml:3 output.format: got 'fp17', expected a format name\n"
        "help: did you mean fp16, fp4, fp3?"),
    "codebook output": (
        "weights: [int8]\noutput: {format: nf4}\n",
        "error: no output stage for this format at d.yaml:3 output.format: got 'nf4', expected fp32, or a minifloat, "
        "posit or integer of at most 16 bits"),
    "scale as an output": (
        "weights: [int8]\noutput: {format: e8m0}\n",
        "error: no output stage for this format at d.yaml:3 output.format: got 'e8m0', expected fp32, or a minifloat, "
        "posit or integer of at most 16 bits"),
    "posit beyond float32": (
        "weights: [int8]\noutput: {format: posit16_4}\n",
        "error: no output stage for this format at d.yaml:3 output.format: got 'posit16_4', expected fp32, or a "
        "minifloat, posit or integer of at most 16 bits"),
    "several at once": (
        "weights: [bitmod4]\nmemory: {packings: {int4: dense, int8: trits}, bus_bits: 64}\noutput: {format: fp9}\n",
        "error: packing of a type that the core does not have at d.yaml:3 memory.packings.int4: got 'int4', expected "
        "bitmod4\n"
        "error: packing of a type that the core does not have at d.yaml:3 memory.packings.int8: got 'int8', expected "
        "bitmod4\n"
        "error: unknown format at d.yaml:4 output.format: got 'fp9', expected a format name\n"
        "help: did you mean fp4, fp3, fp32?"),
}
CASES = [pytest.param(engine, *case, id=f"{engine}-{name}".replace(" ", "_"))
         for engine, table in (("bitserial_array", {**BOTH, **ERRORS}), ("dequant_core", {**BOTH, **CORE_ERRORS}))
         for name, case in table.items()]


@pytest.mark.parametrize("engine, text, message", CASES)
def test_errors(engine, text, message):
    with pytest.raises(BitkilnError) as caught:
        described(engine, text)
    assert caught.value.render() == message
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ConfigErrors) == (message.count("error: ") > 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_errors_reach_the_command_line(engine, capsys):
    Path("d.yaml").write_text(f"engine: {engine}\nweights: [bitmod4, bitmod5]\n")
    assert run_cli(["generate", "d.yaml", "-o", "out"]) == 2
    assert capsys.readouterr().err.strip() == UNKNOWN
    assert [path.name for path in Path().iterdir()] == ["d.yaml"]


def test_options_that_do_not_apply():
    with pytest.raises(BitkilnError, match="option does not apply at --modes: got 'int8', expected no such option with "
                                           "engine dequant_core"):
        load_design(cli={"engine": ("dequant_core", "x"), "pe": ("int4", "x"), "modes": (["int8"], "--modes")})
