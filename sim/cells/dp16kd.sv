// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The ECP5's block memory (EBR) of 18 Kbit, for simulation, after Lattice's memory usage guide (FPGA-TN-02204).
//
// - 2,048 bytes of 9 bits.  A port of 9, 18 or 36 bits has 1, 2 or 4 whole bytes; a port of 1, 2 or 4 bits leaves the ninth
//   bit of each out.  The address counts bits of bytes of 8: the lowest 3 bits of the address lie within a byte.
// - A port of 18 or 36 bits has its byte enables at the lowest 2 or 4 address pins.
// - A port of 36 bits has its upper half at the other port's pins: port A writes DIB and DIA, port B reads DOB and DOA.
// - A write: NORMAL keeps the output, READBEFOREWRITE reads what was there, WRITETHROUGH reads what is written.
// - RST sets the output to zero and leaves the contents.
// - A port that reads what the other port writes in the same cycle reads noise; two writes to one place leave noise.  Noise is
//   also what WRITETHROUGH reads of bytes that are not enabled.  Nothing is promised there, so no netlist may depend on it.
//
// Both ports have one clock, or one port's CE is constantly zero (sim/netlist.py refuses other netlists).  What the model lacks
// is an error: the output register, chip selects, GSR, writes of a 36-bit port B, a write during a reset.  A 36-bit port A reads
// nothing.

module DP16KD(
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13, DIA14, DIA15, DIA16, DIA17,
  ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13, CEA, OCEA, CLKA, WEA, RSTA, CSA0,
  CSA1, CSA2, DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13, DIB14, DIB15, DIB16,
  DIB17, ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13, CEB, OCEB, CLKB, WEB, RSTB,
  CSB0, CSB1, CSB2,
  output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13, DOA14, DOA15, DOA16, DOA17,
  DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13, DOB14, DOB15, DOB16, DOB17);
  parameter integer DATA_WIDTH_A = 18, DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG", REGMODE_B = "NOREG", WRITEMODE_A = "NORMAL", WRITEMODE_B = "NORMAL";
  parameter CSDECODE_A = "0b000", CSDECODE_B = "0b000", CLKAMUX = "CLKA", CLKBMUX = "CLKB";
  parameter RESETMODE = "SYNC", ASYNC_RESET_RELEASE = "SYNC", GSR = "ENABLED";
  parameter [319:0] INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 =
  0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0, INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E
  = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0,
  INITVAL_16 = 0, INITVAL_17 = 0, INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D =
  0, INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0, INITVAL_24 = 0, INITVAL_25
  = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0,
  INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0, INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 =
  0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0, INITVAL_3C
  = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;

  localparam [36:0] WIDTHS = 37'h1000040216;
  if (DATA_WIDTH_A > 36 || !WIDTHS[DATA_WIDTH_A]) $error("DP16KD: DATA_WIDTH_A is %0d", DATA_WIDTH_A);
  if (DATA_WIDTH_B > 36 || !WIDTHS[DATA_WIDTH_B]) $error("DP16KD: DATA_WIDTH_B is %0d", DATA_WIDTH_B);
  if (REGMODE_A != "NOREG") $error("DP16KD: the model has no output register, REGMODE_A must be NOREG");
  if (REGMODE_B != "NOREG") $error("DP16KD: the model has no output register, REGMODE_B must be NOREG");
  if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "WRITETHROUGH" && WRITEMODE_A != "READBEFOREWRITE")
    $error("DP16KD: WRITEMODE_A is unknown");
  if (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "WRITETHROUGH" && WRITEMODE_B != "READBEFOREWRITE")
    $error("DP16KD: WRITEMODE_B is unknown");
  if (CSDECODE_A != "0b000") $error("DP16KD: the model has no chip selects, CSDECODE_A must be 0b000");
  if (CSDECODE_B != "0b000") $error("DP16KD: the model has no chip selects, CSDECODE_B must be 0b000");
  if (CLKAMUX != "CLKA" && CLKAMUX != "INV") $error("DP16KD: CLKAMUX is unknown");
  if (CLKBMUX != "CLKB" && CLKBMUX != "INV") $error("DP16KD: CLKBMUX is unknown");
  if (RESETMODE != "SYNC" && RESETMODE != "ASYNC") $error("DP16KD: RESETMODE is unknown");
  if (ASYNC_RESET_RELEASE != RESETMODE) $error("DP16KD: the model has no reset whose release differs from its start");
  if (GSR != "DISABLED") $error("DP16KD: the model has no global reset, GSR must be DISABLED");

  localparam [64*320-1:0] INITVAL = {INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A, INITVAL_39,
    INITVAL_38, INITVAL_37, INITVAL_36,
    INITVAL_35, INITVAL_34, INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E, INITVAL_2D, INITVAL_2C,
    INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28, INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
    INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C, INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18,
    INITVAL_17, INITVAL_16, INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10, INITVAL_0F, INITVAL_0E,
    INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A, INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
    INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00};
  // 512 rows of 4 bytes: the widest port's words.
  reg [35:0] rows [0:511];
  integer n;
  // Each INITVAL has 16 words of 18 bits, 20 bits apart.
  initial for (n = 0; n < 512; n = n + 1) rows[n] = {INITVAL[(2*n+1)*20 +: 18], INITVAL[2*n*20 +: 18]};

  wire [13:0] at_A = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire on_A = CEA && {CSA2, CSA1, CSA0} == 0;
  wire writes_A = on_A && WEA;
  wire [13:0] at_B = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire on_B = CEB && {CSB2, CSB1, CSB0} == 0;
  wire writes_B = on_B && WEB;
  wire [35:0] di_A = {
    DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire [35:0] di_B = {18'd0, di_A[35:18]};

  // The lowest bit of a row that a port of some width reaches, all that the port reaches, and what the byte enables let through.
  function automatic integer lowest(input integer width, input [13:0] at);
    case (width)
      1: lowest = at[4:3] * 9 + at[2:0];
      2: lowest = at[4:3] * 9 + at[2:1] * 2;
      4: lowest = at[4:3] * 9 + at[2] * 4;
      9: lowest = at[4:3] * 9;
      18: lowest = at[4] * 18;
      default: lowest = 0;
    endcase
  endfunction
  localparam [35:0] MASK_A = 36'hFFFFFFFFF >> (36 - DATA_WIDTH_A), MASK_B = 36'hFFFFFFFFF >> (36 - DATA_WIDTH_B);
  function automatic [35:0] enabled(input integer width, input [13:0] at, input [35:0] mask);
    case (width)
      18: enabled = {18'd0, {9{at[1]}}, {9{at[0]}}} << lowest(width, at);
      36: enabled = {{9{at[3]}}, {9{at[2]}}, {9{at[1]}}, {9{at[0]}}};
      default: enabled = mask << lowest(width, at);
    endcase
  endfunction
  function automatic [35:0] noise(input [35:0] was);
    noise = {was[16:0], was[35:17]} ^ 36'h9A3C57B1D;
  endfunction

  wire [35:0] to_A = writes_A ? enabled(DATA_WIDTH_A, at_A, MASK_A) : 36'd0;
  wire [35:0] to_B = writes_B ? enabled(DATA_WIDTH_B, at_B, MASK_B) : 36'd0;
  wire same = at_A[13:5] == at_B[13:5];

  wire clk_A = CLKAMUX == "INV" ? !CLKA : CLKA;
  wire [35:0] new_A = di_A << lowest(DATA_WIDTH_A, at_A), was_A = rows[at_A[13:5]];
  // What port B writes is not known to port A.
  wire [35:0] unknown_A = same ? to_B : 36'd0;
  wire [35:0] read_A = was_A & ~unknown_A | noise(was_A) & unknown_A;
  wire [35:0] through_A = new_A & to_A & ~unknown_A | noise(was_A) & (~to_A | unknown_A);
  wire [35:0] next_A = MASK_A & ((writes_A && WRITEMODE_A == "WRITETHROUGH" ? through_A : read_A) >> lowest(DATA_WIDTH_A, at_A));
  wire takes_A = on_A && !(WEA && WRITEMODE_A == "NORMAL");
  reg [35:0] out_A = 0;
  if (RESETMODE == "ASYNC") begin : output_A
    always @(posedge clk_A, posedge RSTA) if (RSTA) out_A <= 0; else if (takes_A) out_A <= next_A;
  end else begin : output_A
    always @(posedge clk_A) if (RSTA) out_A <= 0; else if (takes_A) out_A <= next_A;
  end

  wire clk_B = CLKBMUX == "INV" ? !CLKB : CLKB;
  wire [35:0] new_B = di_B << lowest(DATA_WIDTH_B, at_B), was_B = rows[at_B[13:5]];
  // What port A writes is not known to port B.
  wire [35:0] unknown_B = same ? to_A : 36'd0;
  wire [35:0] read_B = was_B & ~unknown_B | noise(was_B) & unknown_B;
  wire [35:0] through_B = new_B & to_B & ~unknown_B | noise(was_B) & (~to_B | unknown_B);
  wire [35:0] next_B = MASK_B & ((writes_B && WRITEMODE_B == "WRITETHROUGH" ? through_B : read_B) >> lowest(DATA_WIDTH_B, at_B));
  wire takes_B = on_B && !(WEB && WRITEMODE_B == "NORMAL");
  reg [35:0] out_B = 0;
  if (RESETMODE == "ASYNC") begin : output_B
    always @(posedge clk_B, posedge RSTB) if (RSTB) out_B <= 0; else if (takes_B) out_B <= next_B;
  end else begin : output_B
    always @(posedge clk_B) if (RSTB) out_B <= 0; else if (takes_B) out_B <= next_B;
  end

  always @(posedge clk_A) begin
    if (writes_A && RSTA) $fatal(1, "DP16KD: port A writes during its reset");
    if (to_A != 0)
      rows[at_A[13:5]] <= was_A & ~to_A & ~unknown_A | new_A & to_A & ~unknown_A | new_B & unknown_A & ~to_A
                        | noise(was_A) & to_A & unknown_A;
  end
  always @(posedge clk_B) begin
    if (writes_B && RSTB) $fatal(1, "DP16KD: port B writes during its reset");
    if (writes_B && (DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36)) $fatal(1, "DP16KD: port B writes where a port has 36 bits");
    // Where both write to a row, port A's process writes what both do.
    if (to_B != 0 && unknown_B == 0) rows[at_B[13:5]] <= was_B & ~to_B | new_B & to_B;
  end

  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} =
    DATA_WIDTH_B == 36 ? out_B[35:18] : out_B[17:0];
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} =
    DATA_WIDTH_B == 36 ? out_B[17:0] : DATA_WIDTH_A == 36 ? 18'd0 : out_A[17:0];
endmodule
