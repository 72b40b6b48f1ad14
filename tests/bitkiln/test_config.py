"""Design descriptions: layers, own formats, schema, presets."""

import json
from pathlib import Path

import pytest

from bitkiln.config import ConfigErrors, json_schema, load_design, preset_names, preset_text
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
    schema = json_schema()
    missing = set(schema["properties"]) - set(document.data) - {"pe"}        # short for formats
    assert not missing
    assert set(document.data["accumulator"]) == set(schema["$defs"]["AccumulatorConfig"]["properties"])
    lines = text.splitlines()
    for key in document.data:
        above = lines[document.lines[(key,)] - 2]
        assert above.lstrip().startswith("#") or not above.strip() or key in ("accumulator", "output"), key
    assert load_design(preset=name).design.name


def test_schema_describes_every_key():
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert schema["additionalProperties"] is False
    for model in (schema, *schema["$defs"].values()):
        assert model["additionalProperties"] is False
    for key in ("name", "pe", "lanes", "pipeline", "specials"):
        assert schema["properties"][key]["description"]


@pytest.mark.parametrize("text, value", [
    ("no", "no"), ("'8'", "8"), ("0x10", 16), ("0o10", 8), ("1e3", 1000.0), ("~", None), ("True", True),
    ("1_0", "1_0"), ("-7", -7), ("2026-01-01", "2026-01-01"), ("12:30", "12:30"), ("9" * 500, "9" * 500),
])
def test_scalars_are_yaml_1_2(text, value):
    found = parse_yaml(f"key: {text}", "x").data["key"]
    assert found == value and type(found) is type(value)
