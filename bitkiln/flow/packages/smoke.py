"""A small Verilog test bench for cores with AXI4-Lite registers: is the right core there, and does its bus work?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...models.design.registers import WORD_BYTES, RegisterMap
from .interfaces import AXI4_LITE, ports_of

__all__ = ["smoke_testbench"]

SLVERR = 2
TIMEOUT_CYCLES = 1000


def smoke_testbench(name: str, ports: Sequence[dict[str, Any]], registers: RegisterMap) -> str:
    """Verilog text of ``<name>_smoke_tb``.

    It compares every constant register, writes and reads back a register of software's, and expects an error from
    an address without a register. Streams and memory stay idle.

    Parameters
    ----------
    name : str
        Module under test.
    ports : sequence of dict
        The sidecar's port list.
    registers : RegisterMap
    """
    found = ports_of(ports)
    lite = found.of_kind(AXI4_LITE)[0]
    bus, clock, width = lite.name, found.clock, lite.signals["araddr"]["width"]
    asserted, idle = ("0", "1") if found.reset_low else ("1", "0")
    checks = [f"    check_read({each.offset}, 32'h{each.constant:08x}, 2'd0);  // {each.name}"
              for each in registers if each.constant is not None]
    own = next((each for each in registers if each.access == "rw"), None)
    if own is not None:
        mask = sum(field.mask for field in own.fields)
        checks += [f"    write({own.offset}, 32'hffffffff);", f"    check_read({own.offset}, 32'h{mask:08x}, 2'd0);  "
                   f"// {own.name}", f"    write({own.offset}, 0);", f"    check_read({own.offset}, 0, 2'd0);"]
    unmapped = registers.registers[-1].offset + WORD_BYTES
    checks.append(f"    check_read({unmapped}, 0, 2'd{SLVERR});  // no register")
    count = sum("check_read" in line for line in checks)

    def declared(port: dict[str, Any]) -> str:
        bits = f"[{port['width'] - 1}:0] " if port["width"] > 1 else ""
        return f"  reg {bits}{port['name']} = 0;" if port["direction"] == "input" else f"  wire {bits}{port['name']};"

    declarations = "\n".join(map(declared, ports))
    connections = ",\n".join(f"    .{port['name']}({port['name']})" for port in ports)
    lines = "\n".join(checks)
    return f"""// Smoke test of {name}: constant registers, one write, one error, over AXI4-Lite. Prints PASS or FAIL.
`timescale 1ns / 1ps
module {name}_smoke_tb;
{declarations}
  integer errors;
  integer cycles;
  reg [1:0] taken;

  {name} dut (
{connections}
  );

  always #5 {clock} = ~{clock};

  always @(posedge {clock}) begin
    cycles <= cycles + 1;
    if (cycles == {TIMEOUT_CYCLES}) begin
      $display("FAIL: {name}: no answer after {TIMEOUT_CYCLES} cycles");
`ifdef FAIL_IS_FATAL
      $fatal;
`else
      $finish;
`endif
    end
  end

  // Inputs change at falling edges; answers are looked at where the rising edge sees them.
  task check_read(input [{width - 1}:0] address, input [31:0] expected, input [1:0] response);
    begin
      @(negedge {clock});
      {bus}_araddr = address;
      {bus}_arvalid = 1;
      {bus}_rready = 1;
      @(posedge {clock});
      while (!{bus}_arready) @(posedge {clock});
      @(negedge {clock});
      {bus}_arvalid = 0;
      while (!{bus}_rvalid) @(negedge {clock});
      if ({bus}_rdata !== expected || {bus}_rresp !== response) begin
        errors = errors + 1;
        $display("read %h: got %h (response %0d), expected %h (response %0d)", address, {bus}_rdata, {bus}_rresp,
                 expected, response);
      end
      @(negedge {clock});
      {bus}_rready = 0;
    end
  endtask

  task write(input [{width - 1}:0] address, input [31:0] value);
    begin
      @(negedge {clock});
      {bus}_awaddr = address;
      {bus}_awvalid = 1;
      {bus}_wdata = value;
      {bus}_wstrb = 4'hf;
      {bus}_wvalid = 1;
      {bus}_bready = 1;
      while ({bus}_awvalid || {bus}_wvalid) begin
        @(posedge {clock});
        taken = {{{bus}_awready, {bus}_wready}};
        @(negedge {clock});
        if (taken[1]) {bus}_awvalid = 0;
        if (taken[0]) {bus}_wvalid = 0;
      end
      while (!{bus}_bvalid) @(negedge {clock});
      if ({bus}_bresp !== 2'd0) begin
        errors = errors + 1;
        $display("write %h: response %0d", address, {bus}_bresp);
      end
      @(negedge {clock});
      {bus}_bready = 0;
    end
  endtask

  initial begin
    errors = 0;
    cycles = 0;
    {found.reset} = {asserted};
    repeat (4) @(negedge {clock});
    {found.reset} = {idle};
{lines}
    if (errors == 0)
      $display("PASS: {name}: {count} reads checked");
    else begin
      $display("FAIL: {name}: %0d errors", errors);
`ifdef FAIL_IS_FATAL
      $fatal;
`endif
    end
    $finish;
  end
endmodule
"""
