// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// A 16-bit DDR3 chip at its pins, for the bench of the PHY: strobes, beats and their times.  It knows ACTIVE, WRITE, READ and
// PRECHARGE, CAS latency 6, CAS write latency 5, bursts of eight.  The rules between commands are those of ddr3_chip.cpp, which
// looks at the same commands.  Times are JESD79-3F's, some wider, as parts of the clock's period T.
//
// Each lane's strobe and data come back `flight` ps later than the chip would send them: what the way from the FPGA to the chip and
// back takes.  Data are noise near their edges.  The strobe is high (noise) ahead of its preamble and behind its postamble: nobody
// drives it then.
//
// A broken rule is counted in `ecp5_ddr3::broken`.

`timescale 1ns / 1ps

module ddr3_pins(
    input ck, rst_n, cke, cs_n, ras_n, cas_n, we_n, input [2:0] ba, input [15:0] a, input [1:0] dm,
    input [15:0] dq, input [1:0] dqs, input [17:0] driven,       // the FPGA's, bits 16 and 17: strobes
    input int flight0, flight1,
    output reg [15:0] q, output reg [1:0] qs, output reg [1:0] drives
);
    localparam int CL = 6, CWL = 5;
    realtime period = 10, rose = 0, gap = 0;
    reg [15:0] cells[bit [31:0]];
    bit [15:0] row[8];
    bit open[8];

    typedef struct {
        realtime at;          // of the first edge
        bit [31:0] cell_;
        int beats[2];         // taken of each lane
    } write_t;
    write_t writes[$];
    realtime reads[2][$];     // when READs came, of each lane, for bursts without a gap

    function automatic void fail(string rule);
        ecp5_ddr3::fail({"DDR3: ", rule});
    endfunction

    initial {q, qs, drives} = 0;

    // ---------------------------------------------------------------- commands
    wire [25:0] pins = {cke, cs_n, ras_n, cas_n, we_n, ba, a, rst_n};
    realtime changed = 0;
    for (genvar i = 0; i < 26; i++) begin : command
        always @(posedge pins[i] or negedge pins[i]) begin
            if (rst_n && cke && $realtime - rose < 0.2 * period) fail("a command changed behind the clock's edge");
            changed = $realtime;
        end
    end
    function automatic bit [31:0] cell_of(bit [2:0] bank, bit [15:0] column);
        return {3'b0, bank, row[bank], column[9:3], 3'b0};
    endfunction
    always @(posedge ck) begin
        if ($realtime - rose < 1.01 * gap && $realtime - rose > 0.99 * gap) period = gap;
        gap = $realtime - rose;
        rose = $realtime;
        if (rst_n && cke && !cs_n && {ras_n, cas_n, we_n} != 7) begin
            if ($realtime - changed < 0.2 * period) fail("a command changed ahead of the clock's edge");
            case ({ras_n, cas_n, we_n})
                3'b011: begin
                    row[ba] = a;
                    open[ba] = 1;
                end
                3'b010: if (a[10]) for (int i = 0; i < 8; i++) open[i] = 0; else open[ba] = 0;
                3'b100: begin
                    if (!open[ba]) fail("WRITE to a closed row");
                    writes.push_back('{$realtime + CWL * period, cell_of(ba, a), '{0, 0}});
                end
                3'b101: begin
                    if (!open[ba]) fail("READ of a closed row");
                    read(0, cell_of(ba, a));
                    read(1, cell_of(ba, a));
                end
                default: ;
            endcase
        end
        while (writes.size() != 0 && $realtime > writes[0].at + 4.5 * period) begin
            if (writes[0].beats[0] != 8 || writes[0].beats[1] != 8) fail("a WRITE without eight edges of the strobe");
            void'(writes.pop_front());
        end
    end

    // ---------------------------------------------------------------- writes
    // The two beats of a clock that were taken last, the first one low, and their masks, for who looks at them.
    reg [31:0] pair = 0;
    reg [3:0] pair_masks = 0;
    reg pair_new = 0;
    realtime on[2] = '{0, 0}, edge_[2] = '{0, 0}, moved[2] = '{0, 0};
    for (genvar lane = 0; lane < 2; lane++) begin : lanes
        wire strobe = dqs[lane] & driven[16 + lane];
        always @(posedge driven[16 + lane]) begin
            on[lane] = $realtime;
            if (drives[lane]) fail("two drivers of the strobe");
        end
        // A ps later: who lets go of a strobe that is high makes its last edge by that.
        always @(negedge driven[16 + lane]) begin
            #0.001;
            if ($realtime - edge_[lane] < 0.3 * period) fail("no postamble");
        end
        always @(posedge driven[8 * lane]) if (drives[lane]) fail("two drivers of the data");
        always @(posedge drives[lane]) if (driven[16 + lane] || driven[8 * lane]) fail("two drivers");
        wire [8:0] data = {dm[lane], dq[8 * lane +: 8]};
        for (genvar bit_ = 0; bit_ < 9; bit_++) begin : bits
            always @(posedge data[bit_] or negedge data[bit_]) begin
                moved[lane] = $realtime;
                if (edge_[lane] != 0 && $realtime - edge_[lane] < 0.2 * period) fail("data changed behind the strobe's edge");
            end
        end
        always @(posedge strobe or negedge strobe) begin
            for (int i = 0; i < writes.size(); i++) begin
                automatic realtime late = $realtime - writes[i].at;
                automatic int beat = $rtoi($floor(late * 2 / period + 0.5));
                automatic realtime off = late - beat * period / 2;
                if (beat >= 0 && beat < 8) begin
                    if (off > 0.25 * period || off < -0.25 * period || (beat % 2 == 0) != strobe) fail("tDQSS");
                    if (beat == 0 && $realtime - on[lane] < 0.9 * period) fail("no preamble");
                    if (driven[8 * lane +: 8] != 8'hFF) fail("nobody drives the data of a WRITE");
                    if ($realtime - moved[lane] < 0.2 * period) fail("data changed ahead of the strobe's edge");
                    edge_[lane] = $realtime;
                    if (!dm[lane]) begin
                        automatic bit [31:0] at = writes[i].cell_ + beat;
                        if (lane == 0) cells[at] = {cells.exists(at) ? cells[at][15:8] : 8'h00, dq[7:0]};
                        else cells[at] = {dq[15:8], cells.exists(at) ? cells[at][7:0] : 8'h00};
                    end
                    pair[16 * (beat % 2) + 8 * lane +: 8] = dq[8 * lane +: 8];
                    pair_masks[2 * (beat % 2) + lane] = dm[lane];
                    pair_new = 1;
                    writes[i].beats[lane]++;
                end
            end
        end
    end

    // ---------------------------------------------------------------- reads
    task automatic read(int lane, bit [31:0] cell_);
        automatic realtime t = period, command = $realtime, t0;
        automatic bit follows = 0, followed = 0;
        automatic bit [7:0] value;
        t0 = $realtime + CL * t + (lane == 0 ? flight0 : flight1) / 1000.0;
        if (reads[lane].size() != 0) begin
            follows = command - reads[lane][$] < 4.1 * t;
            if (reads[lane].size() > 3) void'(reads[lane].pop_front());
        end
        reads[lane].push_back(command);
        fork
            begin
                if (!follows) begin
                    #(t0 - 1.5 * t - $realtime);
                    qs[lane] = 1;
                    #(t / 2);
                    qs[lane] = 0;
                    drives[lane] = 1;
                end
                #(t0 - $realtime);
                for (int i = 0; i < 8; i++) begin
                    qs[lane] = i % 2 == 0;
                    q[8 * lane +: 8] = 8'($urandom);
                    if (!cells.exists(cell_ + i)) fail("READ of a cell never written");
                    value = lane == 0 ? cells[cell_ + i][7:0] : cells[cell_ + i][15:8];
                    #(0.075 * t) q[8 * lane +: 8] = value;
                    #(0.35 * t) q[8 * lane +: 8] = 8'($urandom);
                    #(t0 + (i + 1) * t / 2 - $realtime);
                end
                // The next READ without a gap came four clocks behind this one, six clocks ago.
                for (int i = 0; i < reads[lane].size(); i++)
                    if (reads[lane][i] - command > 3.9 * t && reads[lane][i] - command < 4.1 * t) followed = 1;
                if (!followed) begin
                    qs[lane] = 0;
                    #(t / 2);
                    drives[lane] = 0;
                    qs[lane] = 1;
                end
            end
        join_none
    endtask
endmodule
