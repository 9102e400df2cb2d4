// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The ECP5's logic cells, for simulation, after Lattice's family data sheet (FPGA-DS-02012): look-up tables, their multiplexers,
// flip-flops and distributed memory.  The carry cell is sim/chips/ccu2c.v.  What a model lacks is an error.

module LUT4(input A, B, C, D, output Z);
  parameter [15:0] INIT = 0;
  assign Z = INIT[{D, C, B, A}];
endmodule

module INV(input A, output Z);
  assign Z = !A;
endmodule

module PFUMX(input ALUT, BLUT, C0, output Z);
  assign Z = C0 ? ALUT : BLUT;
endmodule

module L6MUX21(input D0, D1, SD, output Z);
  assign Z = SD ? D1 : D0;
endmodule

// A flip-flop powers up as its reset leaves it.  LSR_OVER_CE: a reset wins over the enable; CE_OVER_LSR: it wants the enable too.
module TRELLIS_FF(input CLK, LSR, CE, DI, output Q);
  parameter GSR = "ENABLED", CEMUX = "CE", CLKMUX = "CLK", LSRMUX = "LSR", REGSET = "RESET", SRMODE = "LSR_OVER_CE";
  if (GSR != "DISABLED") $error("TRELLIS_FF: the model has no global reset, GSR must be DISABLED");
  if (CEMUX != "CE" && CEMUX != "INV" && CEMUX != "1") $error("TRELLIS_FF: CEMUX is unknown");
  if (CLKMUX != "CLK" && CLKMUX != "INV") $error("TRELLIS_FF: CLKMUX is unknown");
  if (LSRMUX != "LSR" && LSRMUX != "INV") $error("TRELLIS_FF: LSRMUX is unknown");
  if (REGSET != "SET" && REGSET != "RESET") $error("TRELLIS_FF: REGSET is unknown");
  if (SRMODE != "LSR_OVER_CE" && SRMODE != "CE_OVER_LSR" && SRMODE != "ASYNC") $error("TRELLIS_FF: SRMODE is unknown");
  wire clk = CLKMUX == "INV" ? !CLK : CLK, reset = LSRMUX == "INV" ? !LSR : LSR;
  wire enable = CEMUX == "1" || (CEMUX == "INV" ? !CE : CE);
  reg held = REGSET == "SET";
  if (SRMODE == "ASYNC") begin : register
    always @(posedge clk, posedge reset) if (reset) held <= REGSET == "SET"; else if (enable) held <= DI;
  end else begin : register
    always @(posedge clk)
      if (reset && (enable || SRMODE == "LSR_OVER_CE")) held <= REGSET == "SET"; else if (enable) held <= DI;
  end
  assign Q = held;
endmodule

// Sixteen words of four bits: a write with the clock, a read at any time.
module TRELLIS_DPR16X4(input [3:0] DI, WAD, RAD, input WRE, WCK, output [3:0] DO);
  parameter WCKMUX = "WCK", WREMUX = "WRE";
  parameter [63:0] INITVAL = 0;
  if (WCKMUX != "WCK" && WCKMUX != "INV") $error("TRELLIS_DPR16X4: WCKMUX is unknown");
  if (WREMUX != "WRE" && WREMUX != "INV") $error("TRELLIS_DPR16X4: WREMUX is unknown");
  wire clk = WCKMUX == "INV" ? !WCK : WCK;
  reg [3:0] words [0:15];
  integer n;
  initial for (n = 0; n < 16; n = n + 1) words[n] = INITVAL[4*n +: 4];
  always @(posedge clk) if (WREMUX == "INV" ? !WRE : WRE) words[WAD] <= DI;
  assign DO = words[RAD];
endmodule
