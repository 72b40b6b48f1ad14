"""A self-checking test bench in plain Verilog-2005, for users without Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .vectors import Vectors

__all__ = ["testbench"]


def testbench(name: str, ports: Sequence[dict[str, Any]], vectors: Vectors, note: str) -> str:
    """Verilog text of ``<name>_tb``; it reads ``<name>_tb.hex`` from the folder it runs in.

    Parameters
    ----------
    name : str
        Module under test.
    ports : sequence of dict
        The sidecar's port list (name, direction, width, role).
    vectors : Vectors
    note : str
        Where the expected values come from; goes into the header.
    """
    widths = {port["name"]: port["width"] for port in ports}
    clock = next(port["name"] for port in ports if port["role"] == "clock")
    ins, outs = list(vectors.inputs), list(vectors.outputs)
    total_in, total_out = sum(widths[p] for p in ins), sum(widths[p] for p in outs)
    total, count = total_in + total_out, len(vectors)

    def bus(width: int) -> str:
        return f"[{width - 1}:0] " if width > 1 else ""

    declared = [f"  reg {clock};", *(f"  reg {bus(widths[p])}{p};" for p in ins),
                *(f"  wire {bus(widths[p])}{p};" for p in outs)]
    connections = ",\n".join(f"    .{p}({p})" for p in (clock, *ins, *outs))
    return f"""// Self-checking test bench of {name}.
// {note}
//
//   $ iverilog -g2005 -o {name}_tb.out {name}.v {name}_tb.v && vvp {name}_tb.out
//   $ verilator --binary --timing -Wno-fatal {name}_tb.v {name}.v && obj_dir/V{name}_tb
//
// Prints one line that starts with PASS or FAIL. -DWAVES (+define+WAVES) writes {name}_tb.vcd; -DFAIL_IS_FATAL ends a
// failed simulation with an error.
module {name}_tb;
  // One word per clock cycle: inputs {", ".join(ins)}; then expected outputs {", ".join(outs)}.
  reg [{total - 1}:0] vectors [0:{count - 1}];
  reg [{total - 1}:0] row;
  reg [{total_out - 1}:0] expected;
{chr(10).join(declared)}
  integer cycle;
  integer mismatches;

  {name} dut (
{connections}
  );

  initial begin
`ifdef WAVES
    $dumpfile("{name}_tb.vcd");
    $dumpvars(0, {name}_tb);
`endif
    $readmemh("{name}_tb.hex", vectors);
    {clock} = 1'b0;
    mismatches = 0;
    for (cycle = 0; cycle < {count}; cycle = cycle + 1) begin
      row = vectors[cycle];
      {{{", ".join(ins)}}} = row[{total - 1}:{total_out}];
      expected = row[{total_out - 1}:0];
      #5 {clock} = 1'b1;
      #5;
      // An unread file gives x here, which equals nothing.
      if ({{{", ".join(outs)}}} !== expected || ^expected === 1'bx) begin
        mismatches = mismatches + 1;
        if (mismatches <= 10)
          $display("cycle %0d: got %h, expected %h", cycle, {{{", ".join(outs)}}}, expected);
      end
      {clock} = 1'b0;
    end
    if (mismatches == 0)
      $display("PASS: {name}: {count} cycles checked, 0 mismatches");
    else begin
      $display("FAIL: {name}: %0d of {count} cycles differ", mismatches);
`ifdef FAIL_IS_FATAL
      $fatal;
`endif
    end
    $finish;
  end
endmodule
"""
