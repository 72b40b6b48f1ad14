"""Which pin does what, for words of every width."""

import pytest

from bitkiln.models.design import Accumulator, DotDesign, MorphableDesign
from bitkiln.models.design.pins import PinsDesign


def dot(pe: str, **options) -> PinsDesign:
    return PinsDesign(DotDesign.from_pe(pe, **options))


@pytest.mark.parametrize(("pe", "lanes", "word", "beats", "controls"), [
    ("fp4", 1, 8, 1, True), ("fp4", 2, 16, 1, False), ("fp4", 3, 24, 3, True), ("int8xfp4", 1, 12, 1, True),
    ("posit8_0", 1, 16, 1, False), ("int8xternary", 4, 40, 5, True), ("bf16", 1, 32, 4, True),
])
def test_plan_follows_from_the_width_of_the_word(pe, lanes, word, beats, controls):
    design = dot(pe, lanes=lanes)
    assert (design.word_bits, design.beats, design.controls) == (word, beats, controls)
    assert design.parallel == (beats == 1)


@pytest.mark.parametrize("pe", ["fp4", "posit8_0", "int8xfp4", "int8xternary", "fp8_e5m2", "bf16"])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_every_operand_bit_has_one_pin_and_controls_have_others(pe, lanes):
    design = dot(pe, lanes=lanes)
    pins = design.pins()
    assert len(pins) == 24 and all(pins[f"uo[{bit}]"] == f"result[{bit}]" for bit in range(8))
    operands = [name.split(" / ")[0] for pin, name in pins.items() if name[:2] in ("a[", "w[")]
    wanted = [f"a[{n}]" for n in range(design.a_bits)] + [f"w[{n}]" for n in range(design.w_bits)]
    if design.parallel:
        assert operands == wanted
    else:
        assert not operands and [pins[f"ui[{n}]"].split(" / ")[0] for n in range(8)] == [f"byte[{n}]" for n in range(8)]
    controls = {name for name in pins.values() if name in ("en", "clear", "flag (output)")}
    assert controls == ({"en", "clear", *(["flag (output)"] if design.flags else [])} if design.controls else set())


def test_weights_whose_code_zero_is_a_number_need_an_enable():
    """Without an enable, idle edges are products of zero; a codebook's first entry may be anything."""
    for pe, lanes in (("int8xuint8", 1), ("fp4", 2), ("int8", 1)):
        assert not dot(pe, lanes=lanes).controls
    binary = dot("int4xbinary", lanes=3)      # code 0 of a binary weight is a minus one
    assert binary.word_bits == 15 and binary.controls and binary.beats == 2


def test_modes_take_pins_below_clear():
    design = PinsDesign(MorphableDesign(("fp4", "posit4_1", "int8")))
    pins = design.pins()
    assert design.mode_bits == 2 and (pins["uio[3]"], pins["uio[4]"]) == ("mode[0]", "mode[1]")
    assert PinsDesign(MorphableDesign(("int8",))).mode_bits == 0


def test_weight_bits_that_no_mode_uses_are_not_sent():
    assert PinsDesign(MorphableDesign(("int8xint4", "int8xfp4"))).word_bits == 24
    assert PinsDesign(MorphableDesign(("int8xint4", "int8"))).word_bits == 32


def test_result_is_read_in_bytes():
    fp4 = dot("fp4", lanes=1)
    assert (fp4.result, fp4.result_bits, fp4.result_bytes, fp4.bytes, fp4.select_bits, fp4.signed) == \
        ("acc", 19, 3, 3, 2, True)
    nar = dot("posit8_0", lanes=1)
    assert (nar.result_bits, nar.bytes, nar.select_bits, nar.flags) == (36, 6, 3, ("nan",))
    rounded = dot("fp4", lanes=1, output="fp8_e4m3")
    assert (rounded.result, rounded.bytes, rounded.select_bits, rounded.signed) == ("o", 1, 0, False)
    floating = dot("fp8_e4m3", lanes=1, accumulator=Accumulator("fp32"))
    assert (floating.result_bits, floating.signed, floating.bytes) == (32, False, 4)
