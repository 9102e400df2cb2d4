// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// Behaviour of the ECP5 primitives of a DDR3 interface, for simulation at the pins.  Written for this project; the maker's models
// were not seen.  Sources, by letter:
//
// [L] Lattice, "ECP5 and ECP5-5G High-Speed I/O Interface", TN1265 / FPGA-TN-02035: what each primitive is for; each bit of READ
//     is a time slot of one memory clock T, READ0 the earlier one; READCLKSEL moves the READ pulse by T/4 a step, eight steps for
//     2 T; BURSTDET tells that the pulse lies right; PAUSE must be high before READCLKSEL or the delay code changes.
// [D] LiteDRAM's ecp5ddrphy.py (BSD-2), a PHY that works on boards.  The commands, data, tristates and strobe that it gives to the
//     primitives have to reach a DDR3 chip at the times of JEDEC's standard, and this fixes what [L] does not say:
//     - A WRITE in the second memory clock of fabric cycle 0 (ODDRX2F), with a CAS write latency of 5, has its first data in
//       cycle 4 (ODDRX2DQA).  So the DQS group's outputs are a fabric cycle faster than ODDRX2F.
//     - The strobe's D0 to D3 are 0, 1, 0, 1, and its first rising edge belongs to D0 of the data.  So a beat of data begins half
//       a beat (T/4) after the strobe's beat of the same number.
//     - TSHX2DQA and TSHX2DQSA have the latency of the data and of the strobe; T0 is for D0 and D1, T1 for D2 and D3.
// [B] What boards reported: about 3 or 4 of the 8 steps of READCLKSEL work (litedram#103, litex#925), with bit slip 0 or 1.
//
// What none of these says is drawn by the testbench: `ecp5_ddr3::position`, the place of a burst's first beat in a word of
// IDDRX2DQA, 0 to 3 for each lane.  Absolute latencies are assumptions; only the differences above matter, and the training finds
// the rest.  A fabric cycle is 2 T, or four beats.
//
// Delays are processes of their own, begun by edges: Verilator takes a list without edges for combinational logic.
//
// A broken rule is counted in `ecp5_ddr3::broken`, and the last one's text is kept.

`timescale 1ns / 1ps

package ecp5_ddr3;
    int broken = 0;
    string last = "";
    bit [1:0] position[2];

    function automatic void fail(string rule);
        last = rule;
        broken++;
        if (broken <= 50) $display("broken at %0.3f ns: %s", $realtime, rule);
    endfunction
endpackage

// STOP is synchronised to the clock and ends or begins whole pulses [L].
module ECLKSYNCB(input ECLKI, input STOP, output ECLKO);
    reg [1:0] stop = 0;
    always @(negedge ECLKI) stop <= {stop[0], STOP};
    assign ECLKO = ECLKI & ~stop[1];
endmodule

// Half the clock; starts with a rising edge after RST.  A pulse of ALIGNWD moves it by a period of CLKI.
module CLKDIVF(input CLKI, input RST, input ALIGNWD, output reg CDIVX);
    parameter GSR = "DISABLED";
    parameter DIV = "2.0";
    reg align = 0;
    initial begin
        CDIVX = 0;
        if (DIV != "2.0") ecp5_ddr3::fail("CLKDIVF: only DIV 2.0 is modelled");
    end
    always @(posedge CLKI or posedge RST) begin
        if (RST) CDIVX <= 0;
        else begin
            align <= ALIGNWD;
            if (!(ALIGNWD && !align)) CDIVX <= ~CDIVX;
        end
    end
endmodule

// Locks LOCK_CYCLES cycles after its clock has begun, and loses the lock when the clock pauses without FREEZE.  DDRDEL is high once
// a code of 90 degrees was sent: when UDDCNTLN has been low, locked, for two cycles.  While FREEZE is high nothing changes.
module DDRDLLA(input CLK, RST, UDDCNTLN, FREEZE, output reg DDRDEL, output reg LOCK,
               output DCNTL7, DCNTL6, DCNTL5, DCNTL4, DCNTL3, DCNTL2, DCNTL1, DCNTL0);
    parameter FORCE_MAX_DELAY = "NO";
    parameter GSR = "ENABLED";
    parameter LOCK_CYCLES = 64;
    integer count = 0, update = 0;
    realtime last = 0, period = 0, gap;
    initial {DDRDEL, LOCK} = 0;
    assign {DCNTL7, DCNTL6, DCNTL5, DCNTL4, DCNTL3, DCNTL2, DCNTL1, DCNTL0} = LOCK ? 8'd90 : 8'd0;
    always @(posedge CLK or posedge RST) begin
        if (RST) begin
            {DDRDEL, LOCK} <= 0;
            count = 0;
            period = 0;
        end else begin
            gap = $realtime - last;
            last = $realtime;
            if (!FREEZE) begin
                if (period != 0 && (gap > 1.2 * period || gap < 0.8 * period)) begin
                    if (LOCK) ecp5_ddr3::fail("DDRDLLA: the clock stopped or changed without FREEZE");
                    {DDRDEL, LOCK} <= 0;
                    count = 0;
                    period = 0;
                end else begin
                    period = gap;
                    if (count < LOCK_CYCLES) count = count + 1;
                    else LOCK <= 1;
                end
                update = UDDCNTLN ? 0 : update + 1;
                if (LOCK && update == 2) DDRDEL <= 1;
                if (!LOCK && update == 2) ecp5_ddr3::fail("DDRDLLA: UDDCNTLN low without LOCK");
            end
        end
    end
endmodule

// DEL_MODE "DQS_ALIGNED_X2" has the delay of the DQS clock tree, so that data and strobe stay together; other modes a fixed one.
module DELAYG(input A, output reg Z);
    parameter DEL_MODE = "USER_DEFINED";
    parameter DEL_VALUE = 0;
    realtime delay;  // ns
    initial begin
        Z = 0;
        delay = DEL_MODE == "DQS_ALIGNED_X2" ? 0.6 : 0.025 * DEL_VALUE;
    end
    always @(posedge A or negedge A) begin
        automatic reg value = A;
        fork
            begin
                #(delay) Z = value;
            end
        join_none
    end
endmodule

// D0 leaves two fabric cycles after the rising edge of SCLK that takes it, then D1, D2 and D3, a beat each.
module ODDRX2F(input SCLK, input ECLK, input RST, input D3, D2, D1, D0, output reg Q);
    parameter GSR = "ENABLED";
    reg [3:0] taken = 0, next = 0, now = 0;
    reg half = 0;
    initial Q = 0;
    always @(posedge SCLK) begin
        taken <= RST ? 4'd0 : {D3, D2, D1, D0};
        next <= RST ? 4'd0 : taken;
    end
    // CLKDIVF's edge comes behind ECLK's, so that SCLK is still low at the first of a cycle's two edges.
    always @(posedge ECLK) begin
        if (!SCLK) now = next;
        Q <= SCLK ? now[2] : now[0];
        half <= SCLK;
    end
    always @(negedge ECLK) Q <= half ? now[3] : now[1];
    always @(posedge RST) Q <= 0;
endmodule

// A cycle of the DQS group's outputs: D0 leaves with the first edge of DQSW270 (with DQSW for the strobe) after the rising edge of
// SCLK behind the one that took it, and each further bit with the next edge.
module ODDRX2DQA(input D3, D2, D1, D0, input DQSW270, input SCLK, input ECLK, input RST, output reg Q);
    parameter GSR = "ENABLED";
    reg [3:0] taken = 0, now = 0;
    reg [1:0] at = 0;
    initial Q = 0;
    always @(posedge SCLK) begin
        taken <= RST ? 4'd0 : {D3, D2, D1, D0};
        now <= RST ? 4'd0 : taken;
        at <= 0;
    end
    always @(posedge DQSW270 or negedge DQSW270) begin
        Q <= now[at];
        at <= at + 1;
    end
    always @(posedge RST) Q <= 0;
endmodule

module ODDRX2DQSB(input D3, D2, D1, D0, input DQSW, input SCLK, input ECLK, input RST, output reg Q);
    parameter GSR = "ENABLED";
    reg [3:0] taken = 0, now = 0;
    reg [1:0] at = 0;
    initial Q = 0;
    always @(posedge SCLK) begin
        taken <= RST ? 4'd0 : {D3, D2, D1, D0};
        now <= RST ? 4'd0 : taken;
        at <= 0;
    end
    always @(posedge DQSW or negedge DQSW) begin
        Q <= now[at];
        at <= at + 1;
    end
    always @(posedge RST) Q <= 0;
endmodule

// T0 is for D0 and D1, T1 for D2 and D3; high until the first cycle and in reset.
module TSHX2DQA(input T1, T0, input SCLK, input ECLK, input DQSW270, input RST, output reg Q);
    parameter GSR = "ENABLED";
    parameter REGSET = "SET";
    reg [1:0] taken = 3, now = 3, at = 0;
    initial Q = 1;
    always @(posedge SCLK) begin
        taken <= RST ? 2'd3 : {T1, T0};
        now <= RST ? 2'd3 : taken;
        at <= 0;
    end
    always @(posedge DQSW270 or negedge DQSW270) begin
        Q <= now[at[1]];
        at <= at + 1;
    end
    always @(posedge RST) Q <= 1;
endmodule

module TSHX2DQSA(input T1, T0, input SCLK, input ECLK, input DQSW, input RST, output reg Q);
    parameter GSR = "ENABLED";
    parameter REGSET = "SET";
    reg [1:0] taken = 3, now = 3, at = 0;
    initial Q = 1;
    always @(posedge SCLK) begin
        taken <= RST ? 2'd3 : {T1, T0};
        now <= RST ? 2'd3 : taken;
        at <= 0;
    end
    always @(posedge DQSW or negedge DQSW) begin
        Q <= now[at[1]];
        at <= at + 1;
    end
    always @(posedge RST) Q <= 1;
endmodule

// The strobe of a byte lane.  LANE is put in by the testbench.
//
// Writes: DQSW has ECLK's edges, DQSW270 the same 3/4 T later.
//
// Reads: the READ pulse begins PULSE beats and READCLKSEL steps of T/4 after the edge of SCLK that took READ.  The pulse lets the
// strobe in; it ends with the pulse, or with the falling edge of the strobe's high half that is under way then.  What was let in
// leaves as DQSR90, T/4 later, with the delay of the DQS clock tree.  BURSTDET rises for two fabric cycles behind a pulse that began
// while the strobe was low, and in which the strobe rose as often as the pulse has T.
//
// WRPNTR goes on with each falling edge of DQSR90.  RDPNTR goes on with each slot of READ, LAG clocks of ECLK later.  A pulse at a
// wrong time leaves the pointers apart until PAUSE or RST.
module DQSBUFM(input DQSI, READ1, READ0, READCLKSEL2, READCLKSEL1, READCLKSEL0, DDRDEL, ECLK, SCLK, RST,
               DYNDELAY7, DYNDELAY6, DYNDELAY5, DYNDELAY4, DYNDELAY3, DYNDELAY2, DYNDELAY1, DYNDELAY0,
               PAUSE, RDLOADN, RDMOVE, RDDIRECTION, WRLOADN, WRMOVE, WRDIRECTION,
               output reg DQSR90, output reg DQSW, output reg DQSW270, output RDPNTR2, RDPNTR1, RDPNTR0, WRPNTR2, WRPNTR1, WRPNTR0,
               output reg DATAVALID, output reg BURSTDET, output RDCFLAG, WRCFLAG);
    parameter DQS_LI_DEL_VAL = 4;
    parameter DQS_LI_DEL_ADJ = "FACTORYONLY";
    parameter DQS_LO_DEL_VAL = 0;
    parameter DQS_LO_DEL_ADJ = "FACTORYONLY";
    parameter GSR = "ENABLED";
    parameter LANE = 0;
    localparam real PULSE = 3.0;  // beats, from the edge of SCLK that takes READ
    localparam int LAG = 8;       // clocks of ECLK, from the same edge to the read of the FIFO
    localparam real TREE = 0.6;   // ns, as DELAYG's

    wire [2:0] wanted = {READCLKSEL2, READCLKSEL1, READCLKSEL0};
    reg [2:0] selected = 0, read_at = 0, write_at = 0;
    reg coded = 0, stopped = 0, slot = 0, second = 0, pulse = 0, open = 0, low_at_open = 0;
    reg [LAG-1:0] behind = 0;
    realtime rose = 0, gap = 0, period = 10, paused = 0, began = 0, ended = 0;
    integer rises = 0, tail = 0;
    reg found = 0;

    assign {RDPNTR2, RDPNTR1, RDPNTR0} = read_at;
    assign {WRPNTR2, WRPNTR1, WRPNTR0} = write_at;
    assign RDCFLAG = 0, WRCFLAG = 0;
    initial {DQSR90, DQSW, DQSW270, DATAVALID, BURSTDET} = 0;
    initial #1 if (RDLOADN || WRLOADN || RDMOVE || WRMOVE) ecp5_ddr3::fail("DQSBUFM: margin control is not modelled");

    // What PAUSE guards.
    always @(posedge PAUSE) paused = $realtime;
    always @(posedge READCLKSEL0 or negedge READCLKSEL0 or posedge READCLKSEL1 or negedge READCLKSEL1 or
             posedge READCLKSEL2 or negedge READCLKSEL2)
        if ($realtime > 0 && !RST) begin
            if (!PAUSE) ecp5_ddr3::fail("DQSBUFM: READCLKSEL changed without PAUSE");
            else if ($realtime - paused < period) ecp5_ddr3::fail("DQSBUFM: READCLKSEL changed together with PAUSE");
        end
    always @(posedge DDRDEL) if (!PAUSE && !RST) ecp5_ddr3::fail("DQSBUFM: the delay code changed without PAUSE");
    always @(negedge PAUSE or posedge RST) begin
        if (RST) begin
            selected <= 0;
            coded <= 0;
        end else begin
            selected <= wanted;
            coded <= DDRDEL;
        end
    end

    // Clocks of the outputs.
    always @(negedge ECLK) stopped <= PAUSE | RST;
    always @(posedge ECLK) begin
        // Two gaps alike: neither the clock's first edge nor one behind STOP.
        if ($realtime - rose < 1.01 * gap && $realtime - rose > 0.99 * gap) period = gap;
        gap = $realtime - rose;
        rose = $realtime;
    end
    always @(posedge ECLK or negedge ECLK) begin
        automatic reg level = ECLK & ~stopped;
        fork
            begin
                #0.02 DQSW = level;
                #((coded ? 0.75 : 0.1) * period) DQSW270 = level;
            end
        join_none
    end

    // READ: slots of T, the pulse, and what it lets in.
    always @(posedge SCLK) begin
        if (PAUSE && (READ0 || READ1)) ecp5_ddr3::fail("DQSBUFM: READ while PAUSE");
        slot <= READ0 & ~PAUSE & ~RST;
        second <= READ1 & ~PAUSE & ~RST;
    end
    always @(posedge ECLK) if (SCLK) slot <= second;
    always @(posedge slot or negedge slot) begin
        automatic reg level = slot;
        automatic realtime delay = PULSE * period / 2 + selected * period / 4;
        fork
            begin
                #(delay) pulse = level;
            end
        join_none
    end
    always @(posedge pulse) begin
        open = 1;
        low_at_open = ~DQSI;
        rises = 0;
        began = $realtime;
        found = 0;
    end
    always @(posedge DQSI) if (open) rises = rises + 1;
    always @(negedge pulse) begin
        ended = $realtime;
        if (!DQSI) close();
    end
    always @(negedge DQSI) if (open && !pulse) close();
    always @(posedge stopped) open = 0;
    task close();
        open = 0;
        found = low_at_open && rises == int'((ended - began) / period);
        tail = 0;
    endtask
    wire strobe = DQSI & open;
    always @(posedge strobe or negedge strobe) begin
        automatic reg level = strobe;
        automatic realtime delay = TREE + (coded ? period / 4 : 0);
        fork
            begin
                #(delay) DQSR90 = level & ~stopped;
            end
        join_none
    end

    always @(posedge SCLK) begin
        BURSTDET <= found & ~pulse & tail < 2 & ~RST;
        if (tail < 2) tail = tail + 1;
    end
    always @(negedge DQSR90 or posedge stopped) write_at <= stopped ? 3'd0 : write_at + 3'd1;
    always @(posedge ECLK) begin
        behind <= stopped ? '0 : {behind[LAG-2:0], slot};
        read_at <= stopped ? 3'd0 : read_at + 3'(behind[LAG-1]);
    end
    always @(posedge SCLK) DATAVALID <= behind[LAG-1];
endmodule

// DQSR90 takes a beat with each edge; each falling edge writes a pair into a FIFO of eight.  The pair at RDPNTR goes on with ECLK, and
// two pairs make a word with SCLK.  Q0 is the earliest beat.  ecp5_ddr3::position moves the words by so many beats.
module IDDRX2DQA(input SCLK, input ECLK, input DQSR90, input D, input RST, input RDPNTR2, RDPNTR1, RDPNTR0, WRPNTR2, WRPNTR1,
                 WRPNTR0, output reg Q3, output reg Q2, output reg Q1, output reg Q0, output QWL);
    parameter GSR = "ENABLED";
    parameter LANE = 0;
    reg [1:0] fifo[8];
    reg rising = 0;
    reg [1:0] pair = 0, earlier = 0;
    reg [3:0] word = 0;
    assign QWL = Q0;
    initial {Q3, Q2, Q1, Q0} = 0;
    always @(posedge DQSR90) rising <= D;
    always @(negedge DQSR90) fifo[{WRPNTR2, WRPNTR1, WRPNTR0}] <= {D, rising};
    always @(posedge ECLK) begin
        pair <= fifo[{RDPNTR2, RDPNTR1, RDPNTR0}];
        earlier <= pair;
    end
    always @(posedge SCLK) begin
        word <= {pair, earlier};
        {Q3, Q2, Q1, Q0} <= RST ? 4'd0 : 4'({pair, earlier, word} >> (4 - ecp5_ddr3::position[LANE]));
    end
endmodule
