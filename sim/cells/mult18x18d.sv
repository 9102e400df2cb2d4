// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The ECP5's 18 by 18 multiplier, for simulation, after Lattice's DSP usage guide (FPGA-TN-02205).
//
// - SIGNEDA and SIGNEDB say whether an operand is signed; they pass the operand's input register with it.
// - Each input, the product (PIPELINE) and P (OUTPUT) have a register, or NONE.  A register has one of four clocks,
//   enables and resets.
// - A register's enable holds its value; its reset wins over its enable.
//
// What the model lacks is an error: shifted operands, the bypass, cascades, GSR.  Operand C passes through in other modes alone.

module ecp5_dsp_register #(parameter WIDTH = 1, parameter CLK = "NONE", CE = "CE0", RST = "RST0", RESETMODE = "SYNC")
    (input [3:0] clk, ce, rst, input [WIDTH-1:0] d, output [WIDTH-1:0] q);
  localparam CLOCK = CLK == "CLK0" ? 0 : CLK == "CLK1" ? 1 : CLK == "CLK2" ? 2 : CLK == "CLK3" ? 3 : -1;
  localparam ENABLE = CE == "CE0" ? 0 : CE == "CE1" ? 1 : CE == "CE2" ? 2 : CE == "CE3" ? 3 : -1;
  localparam RESET = RST == "RST0" ? 0 : RST == "RST1" ? 1 : RST == "RST2" ? 2 : RST == "RST3" ? 3 : -1;
  if (CLK == "NONE") begin : wires
    assign q = d;
  end else if (CLOCK < 0 || ENABLE < 0 || RESET < 0) $error("MULT18X18D: a register's clock, enable or reset is unknown");
  else if (RESETMODE == "ASYNC") begin : register
    reg [WIDTH-1:0] held = 0;
    wire cleared = rst[RESET];
    always @(posedge clk[CLOCK], posedge cleared) if (cleared) held <= 0; else if (ce[ENABLE]) held <= d;
    assign q = held;
  end else begin : register
    reg [WIDTH-1:0] held = 0;
    always @(posedge clk[CLOCK]) if (rst[RESET]) held <= 0; else if (ce[ENABLE]) held <= d;
    assign q = held;
  end
endmodule

module MULT18X18D(
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17, B0, B1, B2, B3, B4, B5, B6, B7, B8, B9,
  B10, B11, B12, B13, B14, B15, B16, B17, C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
  SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19, P20, P21, P22, P23, P24, P25,
  P26, P27, P28, P29, P30, P31, P32, P33, P34, P35);
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTA_CE = "CE0", REG_INPUTA_RST = "RST0";
  parameter REG_INPUTB_CLK = "NONE", REG_INPUTB_CE = "CE0", REG_INPUTB_RST = "RST0";
  parameter REG_INPUTC_CLK = "NONE", REG_INPUTC_CE = "CE0", REG_INPUTC_RST = "RST0";
  parameter REG_PIPELINE_CLK = "NONE", REG_PIPELINE_CE = "CE0", REG_PIPELINE_RST = "RST0";
  parameter REG_OUTPUT_CLK = "NONE", REG_OUTPUT_CE = "CE0", REG_OUTPUT_RST = "RST0";
  parameter CLK0_DIV = "ENABLED", CLK1_DIV = "ENABLED", CLK2_DIV = "ENABLED", CLK3_DIV = "ENABLED";
  parameter HIGHSPEED_CLK = "NONE", GSR = "ENABLED", CAS_MATCH_REG = "FALSE", SOURCEB_MODE = "B_SHIFT", MULT_BYPASS = "DISABLED";
  parameter RESETMODE = "SYNC";

  if (CLK0_DIV != "ENABLED" || CLK1_DIV != "ENABLED" || CLK2_DIV != "ENABLED" || CLK3_DIV != "ENABLED" || HIGHSPEED_CLK != "NONE")
    $error("MULT18X18D: the model has no fast clock");
  if (MULT_BYPASS != "DISABLED") $error("MULT18X18D: the model has no bypass");
  if (CAS_MATCH_REG != "FALSE") $error("MULT18X18D: the model has no cascade");
  if (SOURCEB_MODE != "B_SHIFT") $error("MULT18X18D: the model has no operand but A and B");
  if (REG_INPUTC_CLK != "NONE") $error("MULT18X18D: the model has no operand C");
  if (RESETMODE != "SYNC" && RESETMODE != "ASYNC") $error("MULT18X18D: RESETMODE is unknown");
  // With either the model is right: no netlist has a global reset.
  if (GSR != "ENABLED" && GSR != "DISABLED") $error("MULT18X18D: GSR is unknown");
  always_comb if (SOURCEA || SOURCEB) $fatal(1, "MULT18X18D: the model has no shifted operands");

  wire [3:0] clk = {CLK3, CLK2, CLK1, CLK0}, ce = {CE3, CE2, CE1, CE0}, rst = {RST3, RST2, RST1, RST0};
  wire [18:0] a, b;
  wire signed [35:0] product;
  ecp5_dsp_register #(.WIDTH(19), .CLK(REG_INPUTA_CLK), .CE(REG_INPUTA_CE), .RST(REG_INPUTA_RST), .RESETMODE(RESETMODE))
    input_a(.clk, .ce, .rst, .q(a),
            .d({SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0}));
  ecp5_dsp_register #(.WIDTH(19), .CLK(REG_INPUTB_CLK), .CE(REG_INPUTB_CE), .RST(REG_INPUTB_RST), .RESETMODE(RESETMODE))
    input_b(.clk, .ce, .rst, .q(b),
            .d({SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0}));
  // A nineteenth bit that repeats the sign of signed operands, and is zero for unsigned ones.
  wire signed [37:0] whole = $signed(a) * $signed(b);
  ecp5_dsp_register #(.WIDTH(36), .CLK(REG_PIPELINE_CLK), .CE(REG_PIPELINE_CE), .RST(REG_PIPELINE_RST), .RESETMODE(RESETMODE))
    pipeline(.clk, .ce, .rst, .d(whole[35:0]), .q(product));
  ecp5_dsp_register #(.WIDTH(36), .CLK(REG_OUTPUT_CLK), .CE(REG_OUTPUT_CE), .RST(REG_OUTPUT_RST), .RESETMODE(RESETMODE))
    result(.clk, .ce, .rst, .d(product),
           .q({P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14,
           P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0}));
endmodule
