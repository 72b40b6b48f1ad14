"""The posit decoder equals its table, for all codes."""

from __future__ import annotations

from fractions import Fraction

import pytest

from bitkiln.hw.emit import ports_of
from bitkiln.hw.formats.decode import decoder_for
from bitkiln.models.formats import get_format
from bitkiln.sim.formal import check
from bitkiln.sim.verilate import verilog_text


def posit_value(code: int, bits: int, es: int) -> Fraction | None:
    """Straight from the definition: sign, regime, exponent, fraction of a bit string; None for NaR."""
    if code == 1 << (bits - 1):
        return None
    if code == 0:
        return Fraction(0)
    sign = -1 if code >> (bits - 1) else 1
    body = format((code if sign > 0 else (1 << bits) - code) & ((1 << (bits - 1)) - 1), f"0{bits - 1}b")
    run = len(body) - len(body.lstrip(body[0]))
    regime = run - 1 if body[0] == "1" else -run
    rest = body[run + 1:]
    exponent = int((rest[:es] + "0" * es)[:es] or "0", 2)
    fraction = rest[es:]
    return (sign * (1 + Fraction(int(fraction or "0", 2), 1 << len(fraction)))
            * Fraction(2) ** ((regime << es) + exponent))


def harness(fmt, *, bug: str = "0") -> tuple[str, str]:
    """Verilog of the decoder and of its table in units of minpos, side by side. ``bug`` is added to the
    significand. The decoder may give a sign and a magnitude or a two's complement significand."""
    decoder = decoder_for(fmt)
    _, verilog = verilog_text(decoder)
    width = fmt.max_units.bit_length() + decoder.min_shift + 4
    rows = []
    for code in range(1 << fmt.bits):
        value = posit_value(code, fmt.bits, fmt.es)
        units = 0 if value is None else int(value / Fraction(2) ** fmt.unit_exponent)
        literal = f"{'-' * (units < 0)}{width}'sd{abs(units)}"
        rows.append(f"      {code}: begin units = {literal}; nar = {int(value is None)}; end")
    ports = {port.name: port for port in ports_of(decoder) if port.name != "code"}
    wires = "".join(f"  wire {'signed' if port.signed else ''} [{port.width - 1}:0] {name};\n"
                    for name, port in ports.items())
    connections = ", ".join(f".{name}({name})" for name in ports)
    number = "significand" if ports["significand"].signed else "$signed({1'b0, significand})"
    table = "\n".join(rows)
    return verilog + f"""
module decoder_table(input [{fmt.bits - 1}:0] code);
{wires}  {decoder.module_name} dut(.code(code), {connections});
  wire signed [{width - 1}:0] number = {number} + $signed({{1'b0, {bug}}});
  wire signed [{width - 1}:0] signed_number = {"sign ? -number : number" if "sign" in ports else "number"};
  wire signed [{width - 1}:0] value = signed_number <<< {"shift" if "shift" in ports else "0"};
  reg signed [{width - 1}:0] units;
  reg nar;
  always @* begin
    case (code)
{table}
    endcase
  end
  always @* begin
    assert (nan || value == units <<< {decoder.min_shift});  // NaR's number is free
    assert (nan == nar);
  end
endmodule
""", "decoder_table"


@pytest.mark.parametrize("name", ["posit8_0", "posit4_1", "posit8_2"])
def test_decoder_equals_the_definition(name: str) -> None:
    assert check(*harness(get_format(name)))


@pytest.mark.parametrize("code", [0x00, 0x5B, 0xFF])
def test_one_wrong_code_is_found(code: int) -> None:
    proof = check(*harness(get_format("posit8_0"), bug=f"(code == {code})"))
    assert not proof and proof.failed
