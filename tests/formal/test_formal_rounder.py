"""An output stage rounds to nearest even, proved for every accumulator value.

The specification never computes the result: it takes the code that the stage answers, looks up the values of that
code and of its two neighbours, and states that nothing is nearer and that ties go to the even code.
"""

from __future__ import annotations

import pytest

from bitkiln.hw.arith.round import rounder_for
from bitkiln.models.design import DotDesign
from bitkiln.models.formats import get_format
from bitkiln.sim.formal import Proof, check
from bitkiln.sim.verilate import verilog_text

E4M3_TOP = 0x7E  # 448; 0x7F is NaN


def e4m3_value(magnitude: int) -> int:
    """Value of an FP8 E4M3 magnitude in units of 2**-9, by the OCP definition."""
    exponent, mantissa = magnitude >> 3, magnitude & 7
    return mantissa if exponent == 0 else (8 + mantissa) << (exponent - 1)


def prove(design: DotDesign, bug: str = "0") -> Proof:
    """``bug`` is XORed to the answered code."""
    rounder = rounder_for(design)
    _, verilog = verilog_text(rounder)
    width, place = rounder.width, -9 - rounder.unit_exponent  # 2**-9 is 2**place accumulator units
    assert place >= 1 and rounder.flags in ((), ("nan",))
    cases = "\n".join(f"      {code}: value = {e4m3_value(code)};" for code in range(E4M3_TOP + 1))
    nan = "nan" in rounder.flags
    text = verilog + f"""
module table_e4m3(input [6:0] code, output reg [{width + 1}:0] value);
  always @* begin
    case (code)
{cases}
      default: value = 0;
    endcase
    value = value << {place};
  end
endmodule

module rounder_contract(input signed [{width - 1}:0] i, input nan);
  wire [7:0] answer;
  {rounder.module_name} dut(.i(i), .o(answer){", .nan(nan)" if nan else ""});
  wire [7:0] o = answer ^ ({bug});
  wire [6:0] code = o[6:0];
  wire [{width + 1}:0] magnitude = i[{width - 1}] ? -{{{{2{{i[{width - 1}]}}}}, i}} : i;
  wire [{width + 1}:0] here, below, above;
  table_e4m3 t0(code, here);
  table_e4m3 t1(code - 7'd1, below);
  table_e4m3 t2(code + 7'd1, above);
  wire [{width + 1}:0] twice = magnitude << 1;
  wire top = code == {E4M3_TOP};
  always @* begin
    if (nan && {int(nan)}) assert (o == 8'h7f);
    else begin
      assert (code <= {E4M3_TOP});
      assert (o[7] == i[{width - 1}]);
      // Not below the middle to the next smaller code, not above the middle to the next larger one.
      if (code != 0) assert (twice >= here + below);
      if (!top) assert (twice <= here + above);
      if (code != 0 && twice == here + below) assert (!code[0]);
      if (!top && twice == here + above) assert (!code[0]);
    end
  end
endmodule
"""
    return check(text, "rounder_contract", timeout=240)


def test_fp8_output_is_nearest_even() -> None:
    """47 bits of accumulator and the NaN flag: 2**48 inputs."""
    design = DotDesign.from_pe("fp8_e4m3", output="fp8_e4m3")
    assert design.accumulator_bits == 47 and design.has_nan
    assert prove(design)


@pytest.mark.parametrize("bug", [
    pytest.param("i == 47'h000123456789", id="one wrong input"),
    pytest.param("i == 47'd17 << 9", id="a tie up"),  # 17 * 2**-9, between 16 and 18
    pytest.param("nan ? 8'h02 : 8'h00", id="wrong NaN"),
])
def test_a_wrong_rounder_is_refuted(bug: str) -> None:
    proof = prove(DotDesign.from_pe("fp8_e4m3", output="fp8_e4m3"), bug)
    assert not proof.holds and proof.failed


def test_the_table_of_the_specification() -> None:
    fmt = get_format("fp8_e4m3")
    assert fmt.unit_exponent == -9
    assert [e4m3_value(code) for code in range(E4M3_TOP + 1)] == [int(v) for v in fmt.units(range(E4M3_TOP + 1))]


# Posits ------------------------------------------------------------------------------------------


def posit_units(code: int, bits: int) -> int:
    """A non-negative posit(bits, 0) in units of its own minpos, by the definition of the bit string."""
    if code == 0:
        return 0
    body = format(code, f"0{bits - 1}b")
    run = len(body) - len(body.lstrip(body[0]))
    regime = run - 1 if body[0] == "1" else -run
    fraction = body[run + 1:]
    return int("1" + fraction, 2) << (bits - 2 + regime - len(fraction))


def prove_posit8(verilog: str, module: str, width: int, place: int, *, nan: bool, bug: str = "0") -> Proof:
    """``place``: minpos (2**-6) is 2**place accumulator units. The tie between codes c and c + 1 is the posit of
    nine bits ``c || 1``; nothing but zero rounds to zero; beyond maxpos saturates."""
    ties = "\n".join(f"      {code}: tie = {posit_units(2 * code + 1, 9)};" for code in range(127))
    text = verilog + f"""
module tie_posit8(input [6:0] code, output reg [{width + 1}:0] tie);
  always @* begin
    case (code)
{ties}
      default: tie = 0;
    endcase
    tie = tie << {place - 1};
  end
endmodule

module rounder_contract(input signed [{width - 1}:0] i, input nan);
  wire [7:0] answer;
  {module} dut(.i(i), .o(answer){", .nan(nan)" if nan else ""});
  wire [7:0] o = answer ^ ({bug});
  wire negative = i[{width - 1}];
  wire [7:0] code = negative ? -o : o;
  wire [{width + 1}:0] magnitude = negative ? -{{{{2{{negative}}}}, i}} : i;
  wire [{width + 1}:0] below, above;
  tie_posit8 t1(code[6:0] - 7'd1, below);
  tie_posit8 t2(code[6:0], above);
  always @* begin
    if (nan && {int(nan)}) assert (o == 8'h80);
    else begin
      assert (!code[7]);
      assert ((code == 0) == (i == 0));
      if (code > 1) assert (magnitude > below || (magnitude == below && !code[0]));
      if (code != 0 && code != 127) assert (magnitude < above || (magnitude == above && !code[0]));
    end
  end
endmodule
"""
    return check(text, "rounder_contract", timeout=240)


def posit8_rounder() -> tuple[str, str, int, int, bool]:
    design = DotDesign.from_pe("posit8_0", output="posit8_0")
    rounder = rounder_for(design)
    _, verilog = verilog_text(rounder)
    return verilog, rounder.module_name, rounder.width, -6 - rounder.unit_exponent, "nan" in rounder.flags


def test_posit_output_is_the_bit_string_rule() -> None:
    """36 bits of accumulator and the NaR flag."""
    verilog, module, width, place, nan = posit8_rounder()
    assert width == 36 and nan
    assert prove_posit8(verilog, module, width, place, nan=nan)


def test_a_wrong_posit_rounder_is_refuted() -> None:
    verilog, module, width, place, nan = posit8_rounder()
    proof = prove_posit8(verilog, module, width, place, nan=nan, bug="i == 36'd1")  # rounds to zero, not to minpos
    assert not proof and proof.failed


def test_the_posit_specification_accepts_the_golden_model_alone() -> None:
    """A table of the golden encoder fulfils it; one wrong entry does not."""
    width, place = 9, 1  # units of half minpos: ties of small codes are reached
    numbers = range(-(1 << (width - 1)), 1 << (width - 1))
    codes = get_format("posit8_0").encode([number / 128 for number in numbers])

    def table(wrong: int) -> str:
        code = {number & 511: int(code) ^ (number == wrong) for number, code in zip(numbers, codes, strict=True)}
        rows = [" ".join(f"{low}: o = {code[high << 5 | low]};" for low in range(32)) for high in range(16)]
        cases = "\n".join(f"    {high}: case (i[4:0]) {row} endcase" for high, row in enumerate(rows))
        return ("module t(input signed [8:0] i, output reg [7:0] o);\n"
                f"  always @* case (i[8:5])\n{cases}\n  endcase\nendmodule\n")

    assert prove_posit8(table(wrong=1000), "t", width, place, nan=False)
    assert not prove_posit8(table(wrong=77), "t", width, place, nan=False)
