// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// A 16-bit DDR3 chip that checks its user: clocked once per rising edge of CK, it keeps the cells and names the first rule that is
// broken.  Written from JESD79-3F.  Bursts of eight in sequence; no auto-precharge, burst chop, power-down or self-refresh: who
// uses one of these breaks a rule.  Tests reach the chip through the C functions at the end of the source.

#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

// All times are in clocks.  The defaults are those of no chip: the user sets each.
struct Ddr3Config {
    int row_bits = 0, column_bits = 10;
    int64_t trcd = 0, trp = 0, tras = 0, trc = 0, trrd = 0, tfaw = 0, trtp = 0, twr = 0, twtr = 0, trfc = 0, tmod = 0, txpr = 0;
    int64_t tzqinit = 0, tzqcs = 0, tccd = 0, tmrd = 0, tdllk = 0;
    int64_t reset = 0;            // RESET# low when power comes
    int64_t reset_again = 0;      // RESET# low later on
    int64_t cke_before = 0;       // CKE low before RESET# rises
    int64_t cke = 0;              // from RESET# to CKE
    double refresh = 0;           // between two refreshes, on average
    int64_t zq = 0;               // between two calibrations
    bool check_unwritten = true;  // a read of a cell never written is a violation
    bool whole_bursts = false;    // it is one only if the burst has no written cell: users that need a part of a burst
};

// Times of the configuration, from trcd to cke in the order above.
constexpr size_t kDdr3Times = 21;
// A configuration from its times in that order.
Ddr3Config ddr3_config(int row_bits, int column_bits, const int64_t *times, double refresh, int64_t zq);

// The pins at a rising edge of CK.  1 when asserted (RESET# and the command pins are active low).
struct Ddr3Pins {
    bool reset = false, cke = true, odt = false, cs = false, ras = false, cas = false, we = false;
    uint8_t ba = 0;
    uint16_t a = 0;
    // The two beats that begin with this clock's rising and falling edge: the first one in the low half, its DM in bits 0 and 1.
    uint32_t dq_in = 0;
    uint8_t dm = 0;
    bool dq_oe = false;           // the controller drives them
};

class Ddr3Chip {
public:
    explicit Ddr3Chip(const Ddr3Config &config);
    // Puts a value into a cell, as if it had been written before power came; false if there is no such cell.
    bool fill(int bank, uint32_t row, uint32_t column, uint16_t value);
    void clock(const Ddr3Pins &pins);
    // The two beats that the chip drives in the clock just passed to clock(); 0 where it does not drive.
    uint32_t dq_out() const { return dq_out_; }
    bool dq_driven() const { return dq_driven_; }
    // Whether it will drive `ahead` clocks later, as far as it is known now, and what.  The strobe's preamble is one clock ahead.
    bool drives(int ahead, uint32_t &dq) const;
    bool violated() const { return !violation_.empty(); }
    // "RULE: what, clock N" of the first violation.
    const std::string &violation() const { return violation_; }
    void forgive() { violation_.clear(); }

private:
    struct Bank {
        bool open;
        uint32_t row;
        int64_t activated, precharged, read, written;   // written: its WRITE
    };
    struct Page {                 // a row of a bank that was written
        std::vector<uint16_t> cells;
        std::vector<uint64_t> written;  // two bits a cell: a bit a byte
        // Two bits of each of a burst's eight cells.
        unsigned burst(uint32_t column) const { return unsigned(written[column / 32] >> 2 * (column % 32 & ~7u)) & 0xFFFF; }
        unsigned has(uint32_t column) const { return unsigned(written[column / 32] >> 2 * (column % 32)) & 3; }
        void wrote(uint32_t column, unsigned bytes) { written[column / 32] |= uint64_t(bytes) << 2 * (column % 32); }
    };
    struct Beats {                // two beats of a burst under way
        int64_t at;
        int bank;
        uint32_t row, column[2];
    };

    void fail(const char *rule, const std::string &what);
    void require(const char *rule, int64_t since, int64_t least, const char *what);
    void begin();
    void controls(const Ddr3Pins &pins);
    void command(const Ddr3Pins &pins);
    void activate(const Ddr3Pins &pins);
    void column(const Ddr3Pins &pins, bool write);
    void precharge(const Ddr3Pins &pins);
    void refresh();
    void mode(const Ddr3Pins &pins);
    void calibrate(const Ddr3Pins &pins);
    void all_closed(const char *what);
    void write_beats(const Beats &beats, const Ddr3Pins &pins);
    Page *page(int bank, uint32_t row, bool make);
    uint32_t read(const Beats &beats) const;
    void check_written(const Beats &beats);

    Ddr3Config c_;
    std::vector<std::unique_ptr<Page>> pages_;
    Bank banks_[8];
    std::deque<Beats> reads_, writes_;
    std::deque<int64_t> activates_, refreshes_;
    int64_t now_ = -1;
    bool first_reset_ = true, in_reset_ = true, cke_ = false, odt_ = false;
    int64_t reset_since_ = -1, reset_end_, cke_low_since_, cke_since_, odt_since_;
    int64_t activated_any_, column_any_, wrote_any_, refreshed_, mode_set_, calibrated_, calibration_, dll_reset_, zq_last_;
    int modes_ = 0;               // mode registers set, a bit each
    bool zq_done_ = false;        // the long calibration was asked for
    int cl_ = 0, cwl_ = 0;
    bool termination_ = false;    // MR1 asks for it
    double refresh_from_ = 0;     // refreshes are due from this clock on
    int64_t refresh_done_ = 0;    // of those due, which no refresh after this limit can exceed by more than eight
    uint32_t odt_then_ = 0;       // ODT of the clocks before, the newest in bit 0
    int64_t driven_last_, oe_last_;
    uint32_t dq_out_ = 0;
    bool dq_driven_ = false;
    std::string violation_;
};
