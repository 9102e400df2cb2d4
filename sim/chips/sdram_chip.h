// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// A 16-bit SDR SDRAM chip that checks its user: clocked once per SDRAM clock, it keeps the cells and names the first
// rule that is broken.  The simulated board links it; tests reach it through the C functions at the end.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct SdramConfig {
    int column_bits = 9;
    int row_bits = 13;
    double mhz = 100.0;
    // Nanoseconds; the worst of the chips that the boards carry.
    double trp = 20, trcd = 20, tras = 44, trc = 63, trrd = 15, twr = 20, trfc = 70;
    int tmrd = 2;                 // clocks
    double cl2_mhz = 100.0;       // highest rate at CAS latency 2
    double power_up_us = 200.0;
    int power_up_refreshes = 2;
    double refresh_ms = 64.0;     // 8,192 refreshes in this time
    bool check_unwritten = true;  // a read of a cell never written is a violation
};

// One SDRAM clock's pins.  Command pins are 1 when asserted (the real ones are active low).
struct SdramPins {
    bool cke = true, cs = false, ras = false, cas = false, we = false;
    uint8_t ba = 0, dqm = 0;
    uint16_t a = 0;
    uint16_t dq_in = 0;
    bool dq_oe = false;           // the controller drives the bus
};

class SdramChip {
public:
    explicit SdramChip(const SdramConfig &config);
    // Puts a value into a cell, as if it had been written before power came; false if there is no such cell.
    bool fill(int bank, uint32_t row, uint32_t column, uint16_t value);
    // A soft fault: flips a bit of a cell; false if there is no such cell.
    bool flip(int bank, uint32_t row, uint32_t column, int bit);
    void clock(const SdramPins &pins);
    // What the chip drives in the clock just passed to clock(); 0 where it does not drive.
    uint16_t dq_out() const { return dq_out_; }
    bool dq_driven() const { return dq_driven_; }
    // Whether it will drive in the next clock, and what: known by now, as at the pins data comes ahead of its edge.
    bool drives_next(uint16_t &dq) const;
    bool violated() const { return !violation_.empty(); }
    // "RULE: what, clock N" of the first violation.
    const std::string &violation() const { return violation_; }
    // Begin anew to look for violations; for controllers that try out a clock phase.
    void forgive() { violation_.clear(); }
    uint64_t now() const { return now_; }

private:
    struct Bank {
        bool open = false;
        uint32_t row = 0;
        int64_t activated, precharged, written;
    };
    struct Beat {                 // a beat of a READ on its way out
        int64_t at;
        uint32_t cell;
        bool dead = false;        // cut short by another command
    };

    void fail(const char *rule, const std::string &what);
    void command(const SdramPins &pins);
    void activate(const SdramPins &pins);
    void column(const SdramPins &pins, bool write);
    void precharge(const SdramPins &pins);
    void refresh();
    void mode(const SdramPins &pins);
    int64_t clocks(double ns) const;
    void require(const char *rule, int64_t since, int64_t least, const char *what);
    std::string place(uint32_t cell) const;
    uint32_t cell(int bank, uint32_t row, uint32_t column) const;
    void write_beat(const SdramPins &pins);

    SdramConfig c_;
    std::vector<uint16_t> cells_;
    std::vector<bool> written_;
    Bank banks_[4];
    std::vector<Beat> reads_;
    int64_t now_ = -1;
    int64_t activated_any_, refreshed_, mode_set_, first_command_ = -1;
    int64_t refresh_window_ = 0;
    int refreshes_ = 0, refreshes_before_mode_ = 0;
    bool all_precharged_ = false, mode_known_ = false;
    int cas_latency_ = 3, burst_ = 1;
    // The burst that a WRITE goes on with.
    int write_left_ = 0, write_bank_ = 0;
    uint32_t write_row_ = 0, write_column_ = 0;
    uint8_t dqm_then_[2] = {0, 0};
    uint16_t dq_out_ = 0;
    bool dq_driven_ = false, drove_ = false;
    std::string violation_;
};
