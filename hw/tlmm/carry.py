# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Adders whose operands are functions of up to four inputs per bit, at one LUT per bit, with the ECP5's CCU2C.

One bit of a CCU2C computes

    P = LUT4(A, B, C, D)
    S = P ^ carry
    next carry = P ? carry : LUT2(A, B)

where LUT2 is the quarter of the LUT4's table with C = D = 0.  So the cell adds ``u(A, B) + w(A, B, C, D)``, with u = LUT2 and
w = P ^ u; w is zero where C = D = 0.  Synthesis alone only ever adds A and B.
"""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ADD_MODULE", "ADD_VERILOG", "AddOf", "add_table", "extend", "mask"]

#: The adder's module in the Verilog.
ADD_MODULE = "tellme_add"
#: Both forms in one text, so that a simulated and a synthesised core are the same file.  The simulator gets the sum of
#: whole words; TELLME_CELLS makes it take the cells, and a bench compares the two.
ADD_VERILOG = """
// S = u(A, B) + w(A, B, C, D) + I, bit by bit: u is INIT[3:0] and w is INIT ^ u (hw/tlmm/carry.py).
module tellme_add #(parameter WIDTH = 1, parameter [15:0] INIT = 0) (
  input [WIDTH-1:0] A, input [WIDTH-1:0] B, input [WIDTH-1:0] C, input [WIDTH-1:0] D, input I, output [WIDTH-1:0] S);
`ifdef TELLME_CELLS
`define TELLME_ADD_CELLS
`endif
`ifndef VERILATOR
`define TELLME_ADD_CELLS
`endif
`ifdef TELLME_ADD_CELLS
  // Two bits a cell.  The bit below the lowest makes the carry I, whatever comes from below it; so that neither end of
  // the chain is connected, for which nextpnr would spend a cell each.
  localparam CELLS = (WIDTH + 2) / 2;
  wire [2*CELLS-1:0] a = {A, I}, b = {B, 1'b0}, c = {C, 1'b1}, d = {D, 1'b1}, s;
  wire [CELLS-1:0] carry;
  assign S = s[WIDTH:1];
  genvar i;
  generate
    for (i = 0; i < CELLS; i = i + 1) begin : cells
      if (i == 0)
        CCU2C #(.INIT0(16'h000A), .INIT1(INIT), .INJECT1_0("NO"), .INJECT1_1("NO")) bits (
          .COUT(carry[0]), .A0(a[0]), .B0(b[0]), .C0(c[0]), .D0(d[0]), .S0(s[0]),
          .A1(a[1]), .B1(b[1]), .C1(c[1]), .D1(d[1]), .S1(s[1]));
      else if (i < CELLS - 1)
        CCU2C #(.INIT0(INIT), .INIT1(INIT), .INJECT1_0("NO"), .INJECT1_1("NO")) bits (
          .CIN(carry[i-1]), .COUT(carry[i]), .A0(a[2*i]), .B0(b[2*i]), .C0(c[2*i]), .D0(d[2*i]), .S0(s[2*i]),
          .A1(a[2*i+1]), .B1(b[2*i+1]), .C1(c[2*i+1]), .D1(d[2*i+1]), .S1(s[2*i+1]));
      else
        CCU2C #(.INIT0(INIT), .INIT1(INIT), .INJECT1_0("NO"), .INJECT1_1("NO")) bits (
          .CIN(carry[i-1]), .A0(a[2*i]), .B0(b[2*i]), .C0(c[2*i]), .D0(d[2*i]), .S0(s[2*i]),
          .A1(a[2*i+1]), .B1(b[2*i+1]), .C1(c[2*i+1]), .D1(d[2*i+1]), .S1(s[2*i+1]));
    end
  endgenerate
`else
  function [WIDTH-1:0] look(input [3:0] t, input [WIDTH-1:0] x, input [WIDTH-1:0] y);
    look = ({WIDTH{t[0]}} & ~x & ~y) | ({WIDTH{t[1]}} & x & ~y) | ({WIDTH{t[2]}} & ~x & y) | ({WIDTH{t[3]}} & x & y);
  endfunction
  wire [WIDTH-1:0] u = look(INIT[3:0], A, B);
  wire [WIDTH-1:0] p = (~C & ~D & u) | (C & ~D & look(INIT[7:4], A, B)) | (~C & D & look(INIT[11:8], A, B))
                     | (C & D & look(INIT[15:12], A, B));
  assign S = u + (p ^ u) + {{(WIDTH-1){1'b0}}, I};
`endif
endmodule
"""


def add_table(u: Callable[[int, int], int], w: Callable[[int, int, int, int], int]) -> int:
    """The 16-bit table (index A + 2 B + 4 C + 8 D) of a cell that adds u(a, b) and w(a, b, c, d).

    Raises ValueError if w is not zero at c = d = 0: no cell can add such a w.
    """
    init = 0
    for index in range(16):
        a, b, c, d = (index >> i & 1 for i in range(4))
        if index < 4 and w(a, b, c, d):
            raise ValueError(f"w({a}, {b}, 0, 0) is 1: a CCU2C adds only what is zero where c and d are")
        init |= (u(a, b) ^ w(a, b, c, d)) << index
    return init


def extend(value: Value, width: int) -> Value:
    """A signed value's bits at a greater width."""
    return value.as_signed()[:width] if len(value) >= width else Cat(value, value[-1].replicate(width - len(value)))


def mask(bit: Value, width: int) -> Value:
    """A word of ``width`` copies of a bit, to combine with a word bit by bit."""
    return Value.cast(bit).replicate(width)


class AddOf(wiring.Component):
    """s = u(a, b) + w(a, b, c, d) + i, modulo 2**width; u and w from ``table`` (:func:`add_table`), bit by bit.

    Combinational.  Takes width + 1 LUTs, rounded up to two.  Width is 2 or more.
    """

    def __init__(self, *, width: int, table: int):
        self._width, self._table = width, table
        super().__init__({"a": In(width), "b": In(width), "c": In(width), "d": In(width), "i": In(1), "s": Out(signed(width))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        s = Signal(unsigned(self._width))
        m.submodules.cell = Instance(ADD_MODULE, p_WIDTH=self._width, p_INIT=Const(self._table, 16), i_A=self.a,
                                     i_B=self.b, i_C=self.c, i_D=self.d, i_I=self.i, o_S=s)
        m.d.comb += self.s.eq(s)
        return m
