"""Design descriptions: layers, own formats, schema, presets."""

import json
from pathlib import Path

import pytest

from bitkiln.config import ConfigErrors, json_schema, load_design, preset_names, preset_text
from bitkiln.engines import engine_names
from bitkiln.models.errors import BitkilnError
from bitkiln.yamlfile import parse_yaml


def written(text: str) -> Path:
    path = Path("d.yaml")
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_of_a_pe():
    resolved = load_design(cli={"pe": ("int8xfp4", "PE")})
    design = resolved.design
    assert (design.activation.name, design.weight.name, design.lanes) == ("int8", "fp4", 4)
    assert (design.accumulator.kind, design.accumulator.depth, design.pipeline) == ("exact", 1024, 0)
    assert resolved.name == design.name
    assert resolved.config["formats"] == {"activation": "int8", "weight": "fp4"}


def test_bfloat16_defaults_to_float_sums():
    assert load_design(cli={"pe": ("bf16xint4", "PE")}).design.accumulator.kind == "fp32"


def test_precedence_command_line_file_preset_default():
    path = written("engine: dot_unit\nlanes: 3\naccumulator: {depth: 64}\n")
    resolved = load_design(path, preset="dot_posit8_0", cli={"lanes": (2, "--lanes")})
    design = resolved.design
    assert design.lanes == 2                        # command line
    assert design.accumulator.depth == 64           # file
    assert design.activation.name == "posit8_0"     # preset
    assert design.output.name == "posit8_0"
    assert design.specials is True                  # default


def test_pe_on_the_command_line_replaces_formats_of_the_file():
    path = written("engine: dot_unit\nformats: {activation: int8, weight: fp4}\n")
    assert load_design(path, cli={"pe": ("posit8_0", "PE")}).design.pe_name == "posit8_0"


def test_effective_configuration_builds_the_same_design():
    first = load_design(preset="dot_fp8_e4m3")
    Path("again.yaml").write_text(json.dumps(first.config))       # JSON is YAML
    second = load_design(Path("again.yaml"))
    assert second.design == first.design
    assert second.digest == first.digest


def test_target_does_not_change_the_digest():
    one = load_design(written("engine: dot_unit\npe: fp4\ntarget: {fpga: gowin}\n"))
    two = load_design(written("engine: dot_unit\npe: fp4\ntarget: {asic: {liberty: x.lib}}\n"))
    assert one.digest == two.digest
    assert one.digest != load_design(cli={"pe": ("int4", "PE")}).digest


def test_own_formats():
    path = written("""engine: dot_unit
formats: {activation: int8, weight: mine}
formats_defined:
  mine: {family: codebook, values: [-4, -2, -1, 0, 1, 2, 4, 8]}
""")
    assert load_design(path).design.weight.max == 8


def test_byte_order_mark_and_comments_are_fine():
    path = Path("d.yaml")
    path.write_bytes(b"\xef\xbb\xbf# ours\nengine: dot_unit\npe: fp4\n")
    assert load_design(path).design.pe_name == "fp4"


def test_path_with_spaces_and_umlauts():
    path = Path("mein schönes Gerät") / "d x.yaml"
    path.parent.mkdir()
    path.write_text("engine: dot_unit\npe: fp4\n")
    assert load_design(path).design.pe_name == "fp4"


def test_all_errors_are_collected():
    with pytest.raises(ConfigErrors) as caught:
        load_design(written("engine: dot_unit\npe: fp44\nlanes: 0\npipeline: 9\ncolour: red\n"))
    assert [error.where.split()[0] for error in caught.value.errors] == ["d.yaml:2", "d.yaml:3", "d.yaml:4", "d.yaml:5"]
    assert all(isinstance(error, BitkilnError) for error in caught.value.errors)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", preset_names())
def test_presets(name):
    """Each builds, states its purpose, and shows every key with a comment."""
    text = preset_text(name)
    assert text.startswith("# ") and len(text.splitlines()[0]) > 20
    document = parse_yaml(text, name)
    schema = json_schema(document.data["engine"])
    # What is said by another key may be left out.
    assert set(schema["properties"]) - set(document.data) <= {"pe", "formats"}
    inner = {key: set(document.data[key]) for key in ("accumulator", "array", "output")
             if isinstance(document.data.get(key), dict)}
    for key, shown in inner.items():
        model = schema["properties"][key]["$ref"].rpartition("/")[2]
        assert shown == set(schema["$defs"][model]["properties"]), key
    lines = text.splitlines()
    for key in document.data:
        above = lines[document.lines[(key,)] - 2]
        assert above.lstrip().startswith("#") or not above.strip() or key in inner, key
    assert load_design(preset=name).design.name


@pytest.mark.parametrize("engine", engine_names())
def test_schema_describes_every_key(engine):
    schema = json_schema(engine)
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["title"] == f"bitkiln {engine}"
    for model in (schema, *schema["$defs"].values()):
        assert model["additionalProperties"] is False
        for key, facts in model["properties"].items():
            assert facts.get("description"), key


# Switchable engines ---------------------------------------------------------------------------------

def described(engine: str, text: str = "modes: [fp4, int8]"):
    return load_design(written(f"engine: {engine}\n{text}\n"))


def test_defaults_of_a_core():
    design = described("matmul_core").design
    assert (design.rows, design.columns, design.k_words, design.bus_bits, design.queue) == (4, 4, 512, 64, 2)
    assert design.rules == ("raw", "integer", "float") and design.outputs == ("fp4", "int8", "fp32")
    assert design.bias and design.accumulate and design.counters and not design.descriptors and not design.block
    assert [mode.name for mode in design.pe.modes] == ["fp4", "int8"]
    assert (design.pe.accumulator.kind, design.pe.accumulator.depth) == ("exact", 1024)


def test_every_key_of_a_core_arrives():
    resolved = described("matmul_core", """modes: [fp4, int8xfp4]
name: mine
array: {rows: 3, columns: 6, dataflow: output, links: systolic}
accumulator: {kind: exact, depth: 200}
implementation: parallel
pipeline: 2
k_words: 64
bus_bits: 32
output_lanes: 2
queue: 3
output: {rules: [raw, float], formats: [int8, fp8_e4m3, fp32], bias: false, accumulate: false}
block: [mxfp4]
descriptors: true
address_bits: 40
counters: false
target: {fpga: ice40-up5k}""")
    design, pe = resolved.design, resolved.design.pe
    assert resolved.name == "mine"
    assert (design.rows, design.columns, design.array.links) == (3, 6, "systolic")
    assert (pe.accumulator.depth, pe.implementation, pe.pipeline) == (200, "parallel", 2)
    assert (design.k_words, design.bus_bits, design.output_lanes, design.queue) == (64, 32, 2, 3)
    assert (design.rules, design.outputs) == (("raw", "float"), ("int8", "fp8_e4m3", "fp32"))
    assert (design.bias, design.accumulate, design.block) == (False, False, ("mxfp4",))
    assert (design.descriptors, design.address_bits, design.counters) == (True, 40, False)


@pytest.mark.parametrize("engine", ["morphable_pe", "matmul_array", "matmul_core"])
def test_formats_stand_for_one_mode(engine):
    design = described(engine, "formats: {activation: int8, weight: fp4}").design
    pe = getattr(design, "pe", design)
    assert [mode.name for mode in pe.modes] == ["int8xfp4"]


def test_modes_with_bfloat16_default_to_float_sums():
    assert described("morphable_pe", "modes: [int8, bf16]").design.accumulator.kind == "fp32"


def test_weight_stationary_array():
    assert described("matmul_array", "modes: [int8]\narray: {dataflow: weight}").design.dataflow == "weight"


def test_modes_on_the_command_line_replace_those_of_the_file():
    path = written("engine: matmul_array\nformats: {activation: int8, weight: fp4}\narray: {rows: 2}\n")
    design = load_design(path, cli={"modes": (["posit8_0"], "--modes"), "array.columns": (5, "--columns")}).design
    assert ([mode.name for mode in design.pe.modes], design.rows, design.columns) == (["posit8_0"], 2, 5)


@pytest.mark.parametrize("name", [name for name in preset_names() if not name.startswith("dot_")])
def test_effective_configuration_of_switchable_engines(name):
    first = load_design(preset=name)
    Path("again.yaml").write_text(json.dumps(first.config))
    second = load_design(Path("again.yaml"))
    assert (second.design, second.digest) == (first.design, first.digest)


def test_the_smallest_core_asks_for_what_its_device_has():
    design = load_design(preset="matmul_core_up5k").design
    assert (design.queue, design.rules, design.accumulate, design.counters) == (1, ("integer",), False, False)


def test_options_of_other_engines_do_not_apply():
    with pytest.raises(BitkilnError, match="option does not apply at --lanes: got 4"):
        load_design(cli={"engine": ("matmul_core", "x"), "modes": (["int8"], "x"), "lanes": (4, "--lanes")})


@pytest.mark.parametrize("text, value", [
    ("no", "no"), ("'8'", "8"), ("0x10", 16), ("0o10", 8), ("1e3", 1000.0), ("~", None), ("True", True),
    ("1_0", "1_0"), ("-7", -7), ("2026-01-01", "2026-01-01"), ("12:30", "12:30"), ("9" * 500, "9" * 500),
])
def test_scalars_are_yaml_1_2(text, value):
    found = parse_yaml(f"key: {text}", "x").data["key"]
    assert found == value and type(found) is type(value)
