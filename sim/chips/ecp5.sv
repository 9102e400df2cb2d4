// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// Behaviour of the ECP5 primitives that a board's top level uses, for simulation at its pins.  Latencies after Lattice's
// description: ODDRX1F sends what it took two clocks after a plain output register would; IDDRX1F gives the bits of a
// rising and the following falling edge together at the next rising one.

`timescale 1ns / 1ps

module IB(input I, output O);
    assign O = I;
endmodule

module OB(input I, output O);
    assign O = I;
endmodule

module OBZ(input I, input T, output O);
    assign O = T ? 1'bz : I;
endmodule

// The wire itself is the testbench's: Verilator's inout ports do not bring back what others drive.  PIN is the bit of it,
// put in by sim.pins.
module BB(input I, input T, output O, input B);
    parameter PIN = 0;
    assign O = B;
    always @(I, T) begin
        tb_top.fpga_dq[PIN] = I;
        tb_top.fpga_drives[PIN] = !T;
    end
endmodule

module FD1S3AX(input D, input CK, output reg Q);
    parameter GSR = "ENABLED";
    initial Q = 0;
    always @(posedge CK) Q <= D;
endmodule

module IFS1P3DX(input D, input SP, input SCLK, input CD, output reg Q);
    parameter GSR = "ENABLED";
    initial Q = 0;
    always @(posedge SCLK or posedge CD)
        if (CD) Q <= 0;
        else if (SP) Q <= D;
endmodule

module OFS1P3DX(input D, input SP, input SCLK, input CD, output reg Q);
    parameter GSR = "ENABLED";
    initial Q = 0;
    always @(posedge SCLK or posedge CD)
        if (CD) Q <= 0;
        else if (SP) Q <= D;
endmodule

module IDDRX1F(input D, input SCLK, input RST, output reg Q0, output reg Q1);
    parameter GSR = "ENABLED";
    reg rising = 0, falling = 0;
    initial {Q0, Q1} = 0;
    always @(posedge SCLK) begin
        rising <= D;
        {Q0, Q1} <= {rising, falling};
    end
    always @(negedge SCLK) falling <= D;
endmodule

module ODDRX1F(input D0, input D1, input SCLK, input RST, output Q);
    parameter GSR = "ENABLED";
    reg [1:0] first = 0, second = 0, third = 0;
    always @(posedge SCLK) begin
        first <= {D1, D0};
        second <= first;
        third <= second;
    end
    assign Q = SCLK ? third[0] : third[1];
endmodule

// Feedback from CLKOP; CLKOS, CLKOS2 and CLKOS3 with static phases and the dynamic phase ports of CLKOS: every falling
// edge of PHASESTEP moves it by an eighth of a VCO period, later for PHASEDIR = 0.
module EHXPLLL(
    input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG, PLLWAKESYNC,
    input ENCLKOP, ENCLKOS, ENCLKOS2, ENCLKOS3,
    output reg CLKOP, output reg CLKOS, output reg CLKOS2, output reg CLKOS3, output reg LOCK, output INTLOCK, REFCLK, CLKINTFB
);
    parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 8, CLKOS_DIV = 8, CLKOS2_DIV = 8, CLKOS3_DIV = 8;
    parameter CLKOP_CPHASE = 0, CLKOS_CPHASE = 0, CLKOS2_CPHASE = 0, CLKOS3_CPHASE = 0;
    parameter CLKOP_FPHASE = 0, CLKOS_FPHASE = 0, CLKOS2_FPHASE = 0, CLKOS3_FPHASE = 0;
    parameter CLKOP_ENABLE = "ENABLED", CLKOS_ENABLE = "DISABLED", CLKOS2_ENABLE = "DISABLED", CLKOS3_ENABLE = "DISABLED";
    parameter FEEDBK_PATH = "CLKOP", STDBY_ENABLE = "DISABLED", DPHASE_SOURCE = "DISABLED";
    parameter PLLRST_ENA = "DISABLED", INTFB_WAKE = "DISABLED", OUTDIVIDER_MUXA = "DIVA", OUTDIVIDER_MUXB = "DIVB";
    parameter OUTDIVIDER_MUXC = "DIVC", OUTDIVIDER_MUXD = "DIVD", PLL_LOCK_MODE = 0;

    real vco, rose;
    real late = 0, moved;  // of CLKOS, by dynamic steps not yet made
    initial begin
        {CLKOP, CLKOS, CLKOS2, CLKOS3, LOCK} = 0;
        @(posedge CLKI) rose = $realtime;
        @(posedge CLKI) vco = ($realtime - rose) * CLKI_DIV / (CLKFB_DIV * CLKOP_DIV);
        fork
            forever begin
                CLKOP = 1;
                #(vco * CLKOP_DIV / 2);
                CLKOP = 0;
                #(vco * CLKOP_DIV / 2);
            end
            if (CLKOS_ENABLE == "ENABLED") begin
                #(vco * ((CLKOS_CPHASE + 1) % CLKOS_DIV + CLKOS_FPHASE / 8.0));
                forever begin
                    CLKOS = 1;
                    #(vco * CLKOS_DIV / 2);
                    CLKOS = 0;
                    moved = late;
                    late = 0;
                    #(vco * CLKOS_DIV / 2 + moved);
                end
            end
            begin
                #1000 LOCK = 1;
            end
        join
    end
    always @(negedge PHASESTEP)
        if (DPHASE_SOURCE == "ENABLED" && LOCK) late = late + (PHASEDIR ? -vco / 8 : vco / 8);
    assign INTLOCK = LOCK, REFCLK = CLKI, CLKINTFB = CLKOP;
endmodule
