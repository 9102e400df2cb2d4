// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause

#include "ddr3_chip.h"

#include <cmath>

namespace {
constexpr int64_t kNever = -(int64_t(1) << 40);
constexpr int kPostponed = 8;           // refreshes: JESD79-3F, 4.10
constexpr size_t kRefreshesInTwo = 16;  // in two intervals
constexpr int kAllModes = 15;
constexpr int kOdtHold = 4;             // ODTH4
// Clocks from one side's last beats to the other's first: the postamble's half, the preamble, and one between them.
constexpr int kTurn = 3;

// What a cell holds that was never written: always the same, and no value that anybody would expect.
uint16_t noise(int bank, uint32_t row, uint32_t column) {
    uint32_t value = (row << 3 | uint32_t(bank)) * 0x9E3779B1u ^ (column + 1) * 0x85EBCA77u;
    value ^= value >> 15;
    return uint16_t(value * 0xC2B2AE3Du >> 16);
}
}  // namespace

Ddr3Chip::Ddr3Chip(const Ddr3Config &config) : c_(config), pages_(size_t(8) << config.row_bits) {
    begin();
    cke_low_since_ = odt_since_ = kNever;
    reset_end_ = cke_since_ = kNever;
}

void Ddr3Chip::begin() {
    for (Bank &bank : banks_) bank = {false, 0, kNever, kNever, kNever, kNever};
    reads_.clear();
    writes_.clear();
    activates_.clear();
    refreshes_.clear();
    activated_any_ = column_any_ = wrote_any_ = refreshed_ = mode_set_ = calibrated_ = dll_reset_ = zq_last_ = kNever;
    driven_last_ = oe_last_ = kNever;
    calibration_ = 0;
    modes_ = 0;
    zq_done_ = termination_ = false;
    cl_ = cwl_ = 0;
    refresh_done_ = 0;
}

void Ddr3Chip::fail(const char *rule, const std::string &what) {
    if (violation_.empty()) violation_ = std::string(rule) + ": " + what + ", clock " + std::to_string(now_);
}

void Ddr3Chip::require(const char *rule, int64_t since, int64_t least, const char *what) {
    if (now_ - since < least)
        fail(rule, std::string(what) + " " + std::to_string(now_ - since) + " clocks after, " + std::to_string(least) +
                       " are due");
}

void Ddr3Chip::all_closed(const char *what) {
    for (const Bank &bank : banks_) {
        if (bank.open) fail("open bank", std::string(what) + " with an open bank");
        require("tRP", bank.precharged, c_.trp, what);
    }
}

Ddr3Chip::Page *Ddr3Chip::page(int bank, uint32_t row, bool make) {
    auto &page = pages_[size_t(bank) << c_.row_bits | row];
    if (!page && make) {
        page = std::make_unique<Page>();
        page->cells.resize(size_t(1) << c_.column_bits);
        for (uint32_t column = 0; column < page->cells.size(); column++) page->cells[column] = noise(bank, row, column);
        page->written.resize(((size_t(1) << c_.column_bits) + 31) / 32);
    }
    return page.get();
}

bool Ddr3Chip::fill(int bank, uint32_t row, uint32_t column, uint16_t value) {
    if (row >> c_.row_bits || column >> c_.column_bits || bank < 0 || bank > 7) return false;
    Page *into = page(bank, row, true);
    into->cells[column] = value;
    into->wrote(column, 3);
    return true;
}

uint32_t Ddr3Chip::read(const Beats &beats) const {
    const auto &page = pages_[size_t(beats.bank) << c_.row_bits | beats.row];
    const auto cell = [&](uint32_t column) -> uint32_t {
        return page ? page->cells[column] : noise(beats.bank, beats.row, column);
    };
    return cell(beats.column[0]) | cell(beats.column[1]) << 16;
}

void Ddr3Chip::check_written(const Beats &beats) {
    const Page *from = page(beats.bank, beats.row, false);
    for (const uint32_t column : beats.column)
        if (!from || (c_.whole_bursts ? !from->burst(column) : from->has(column) != 3))
            fail("unwritten", "read of a cell never written: bank " + std::to_string(beats.bank) + " row " +
                                  std::to_string(beats.row) + " column " + std::to_string(column));
}

// RESET#, CKE and ODT.
void Ddr3Chip::controls(const Ddr3Pins &pins) {
    if (pins.reset) {
        if (!in_reset_ || reset_since_ < 0) {
            in_reset_ = true;
            reset_since_ = now_;
            // The cells are lost, but not those that were filled before the first reset.
            if (!first_reset_) for (auto &page : pages_) page.reset();
            begin();
        }
    } else if (in_reset_) {
        if (reset_since_ < 0) reset_since_ = now_;
        require("reset", reset_since_, first_reset_ ? c_.reset : c_.reset_again, "RESET# rises");
        require("reset", cke_low_since_ < 0 ? now_ : cke_low_since_, c_.cke_before, "with CKE low, RESET# rises");
        if (pins.cke) fail("reset", "CKE is high while RESET# rises");
        in_reset_ = first_reset_ = false;
        reset_end_ = now_;
    }
    if (pins.cke && !cke_) {
        if (!in_reset_) require("CKE", reset_end_, c_.cke, "behind RESET#, CKE rises");
        cke_since_ = now_;
    }
    if (!pins.cke && (cke_ || cke_low_since_ < 0)) {
        if (cke_ && !in_reset_) fail("CKE", "CKE falls; power-down and self-refresh are not modelled");
        cke_low_since_ = now_;
    }
    cke_ = pins.cke;
    if (pins.odt && !odt_) {
        // A chip that is to terminate by MR1 wants ODT low until its start is complete.
        if (!zq_done_) fail("ODT", "ODT is high before the start is complete");
        require("ODT", dll_reset_, c_.tdllk, "behind the DLL's reset, ODT rises");
        require("ODT", calibrated_, calibration_, "behind a calibration, ODT rises");
        odt_since_ = now_;
    }
    if (!pins.odt && odt_) require("ODT", odt_since_, kOdtHold, "ODT falls");
    odt_ = pins.odt;
    odt_then_ = odt_then_ << 1 | uint32_t(pins.odt);
}

void Ddr3Chip::clock(const Ddr3Pins &pins) {
    now_++;
    controls(pins);
    if (zq_done_) {
        const int64_t due = int64_t((now_ - refresh_from_) / c_.refresh);
        if (now_ > refresh_from_ && due - refresh_done_ > kPostponed)
            fail("refresh", std::to_string(due - refresh_done_) + " refreshes are postponed, " + std::to_string(kPostponed) +
                                " may be");
        if (now_ - zq_last_ > c_.zq)
            fail("ZQ", "no calibration for " + std::to_string(now_ - zq_last_) + " clocks, " + std::to_string(c_.zq) +
                           " may be");
    }
    if (pins.cs && !pins.reset && (pins.ras || pins.cas || pins.we)) command(pins);

    dq_out_ = 0;
    dq_driven_ = false;
    if (!reads_.empty() && reads_.front().at == now_) {
        const Beats beats = reads_.front();
        reads_.pop_front();
        dq_driven_ = true;
        dq_out_ = read(beats);
        if (c_.check_unwritten) check_written(beats);
        if (now_ - oe_last_ < kTurn) fail("bus", "the chip drives the data bus right behind the controller");
        driven_last_ = now_;
    }
    if (pins.dq_oe) {
        if (dq_driven_) fail("bus", "chip and controller drive the data bus together");
        else if (now_ - driven_last_ < kTurn) fail("bus", "the controller drives the data bus right behind the chip");
        oe_last_ = now_;
    }
    if (!writes_.empty() && writes_.front().at == now_) {
        const Beats beats = writes_.front();
        writes_.pop_front();
        write_beats(beats, pins);
    }
}

void Ddr3Chip::write_beats(const Beats &beats, const Ddr3Pins &pins) {
    if (!pins.dq_oe) {
        fail("bus", "nobody drives the data of a WRITE");
        return;
    }
    // From ODT to the termination: CWL - 2.
    if (termination_ && !(odt_then_ >> (cwl_ - 2) & 1)) fail("ODT", "the data of a WRITE is not terminated");
    Page *into = page(beats.bank, beats.row, true);
    for (int i = 0; i < 2; i++) {
        const uint8_t write = ~(pins.dm >> 2 * i) & 3;
        const uint16_t bits = (write & 1 ? 0x00FF : 0) | (write & 2 ? 0xFF00 : 0);
        uint16_t &cell = into->cells[beats.column[i]];
        cell = (cell & ~bits) | (uint16_t(pins.dq_in >> 16 * i) & bits);
        into->wrote(beats.column[i], write);
    }
}

void Ddr3Chip::command(const Ddr3Pins &pins) {
    const int code = pins.ras << 2 | pins.cas << 1 | int(pins.we);
    if (!pins.cke) {
        fail("CKE", "a command while CKE is low");
        return;
    }
    require("tXPR", cke_since_, c_.txpr, "command");
    require(calibration_ == c_.tzqinit ? "tZQinit" : "tZQCS", calibrated_, calibration_, "command");
    require("tRFC", refreshed_, c_.trfc, "command");
    if (code == 7) {
        mode(pins);
        return;
    }
    if (modes_ != kAllModes) fail("mode registers", "a command before all four mode registers are set");
    require("tMOD", mode_set_, c_.tmod, "command");
    if (!zq_done_ && code != 1) fail("ZQ", "a command before the long calibration");
    switch (code) {
    case 4: activate(pins); break;              // RAS
    case 2: column(pins, false); break;         // CAS
    case 3: column(pins, true); break;          // CAS, WE
    case 5: precharge(pins); break;             // RAS, WE
    case 6: refresh(); break;                   // RAS, CAS
    case 1: calibrate(pins); break;             // WE
    }
}

void Ddr3Chip::activate(const Ddr3Pins &pins) {
    Bank &bank = banks_[pins.ba];
    if (bank.open) fail("open bank", "ACTIVE on bank " + std::to_string(pins.ba));
    require("tRP", bank.precharged, c_.trp, "ACTIVE");
    require("tRC", bank.activated, c_.trc, "ACTIVE");
    require("tRRD", activated_any_, c_.trrd, "ACTIVE");
    if (activates_.size() == 4) {
        require("tFAW", activates_.front(), c_.tfaw, "the fifth ACTIVE");
        activates_.pop_front();
    }
    activates_.push_back(now_);
    bank.open = true;
    bank.row = pins.a & ((1u << c_.row_bits) - 1);
    bank.activated = activated_any_ = now_;
}

void Ddr3Chip::column(const Ddr3Pins &pins, bool write) {
    Bank &bank = banks_[pins.ba];
    const char *what = write ? "WRITE" : "READ";
    if (!bank.open) {
        fail("closed row", std::string(what) + " on bank " + std::to_string(pins.ba));
        return;
    }
    if (pins.a >> 10 & 1) fail("auto-precharge", std::string(what) + " with it; it is not modelled");
    require("tRCD", bank.activated, c_.trcd, what);
    require("tCCD", column_any_, c_.tccd, what);
    require("tDLLK", dll_reset_, c_.tdllk, what);
    if (!write) require("tWTR", wrote_any_, cwl_ + 4 + c_.twtr, what);
    const uint32_t columns = (1u << c_.column_bits) - 1;
    // A WRITE takes the three lowest bits as zeros; a READ begins there, and goes around within four, then the other four.
    const uint32_t start = pins.a & columns & (write ? ~7u : ~0u);
    for (int i = 0; i < 4; i++) {
        Beats beats{now_ + (write ? cwl_ : cl_) + i, pins.ba, bank.row, {0, 0}};
        for (int k = 0; k < 2; k++) {
            const uint32_t beat = 2 * i + k;
            beats.column[k] = (start & ~7u) | ((start ^ beat) & 4) | ((start + beat) & 3);
        }
        (write ? writes_ : reads_).push_back(beats);
    }
    column_any_ = now_;
    if (write) bank.written = wrote_any_ = now_;
    else bank.read = now_;
}

void Ddr3Chip::precharge(const Ddr3Pins &pins) {
    const bool all = pins.a >> 10 & 1;
    for (int b = 0; b < 8; b++) {
        Bank &bank = banks_[b];
        if ((!all && b != pins.ba) || !bank.open) continue;
        require("tRAS", bank.activated, c_.tras, "PRECHARGE");
        require("tRTP", bank.read, c_.trtp, "PRECHARGE");
        require("tWR", bank.written, cwl_ + 4 + c_.twr, "PRECHARGE");
        bank.open = false;
        bank.precharged = now_;
    }
}

void Ddr3Chip::refresh() {
    all_closed("REFRESH");
    // More than eight ahead count no more.
    const int64_t due = int64_t((now_ - refresh_from_) / c_.refresh);
    if (refresh_done_ < due + kPostponed) refresh_done_++;
    if (refreshes_.size() == kRefreshesInTwo) {
        if (now_ - refreshes_.front() < 2 * c_.refresh)
            fail("refresh rate", std::to_string(kRefreshesInTwo + 1) + " refreshes in two intervals");
        refreshes_.pop_front();
    }
    refreshes_.push_back(now_);
    refreshed_ = now_;
}

void Ddr3Chip::mode(const Ddr3Pins &pins) {
    all_closed("MODE");
    require("tMRD", mode_set_, c_.tmrd, "MODE");
    static const int before[8] = {14, 12, 0, 4, 0, 0, 0, 0};
    if (pins.ba > 3) {
        fail("mode registers", "there is no register " + std::to_string(pins.ba));
        return;
    }
    if ((modes_ & before[pins.ba]) != before[pins.ba])
        fail("mode registers", "MR" + std::to_string(pins.ba) + " out of order: 2, 3, 1, 0");
    modes_ |= 1 << pins.ba;
    mode_set_ = now_;
    if (pins.ba == 0) {
        static const int latencies[16] = {0, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0, 10, 0, 11, 0};
        cl_ = latencies[(pins.a >> 3 & 14) | (pins.a >> 2 & 1)];
        if (pins.a & 3) fail("mode", "bursts of eight alone are modelled");
        if (pins.a & 8) fail("mode", "interleaved bursts are not modelled");
        if (!cl_) fail("mode", "reserved CAS latency");
        if (pins.a >> 8 & 1) dll_reset_ = now_;
        else if (dll_reset_ == kNever) fail("mode registers", "MR0 without the DLL's reset");
    } else if (pins.ba == 1) {
        if (pins.a & 1) fail("mode", "the DLL is off");
        if (pins.a & 0x1098) fail("mode", "additive latency, levelling and outputs off are not modelled");
        termination_ = pins.a & 0x244;
    } else if (pins.ba == 2) {
        cwl_ = 5 + (pins.a >> 3 & 7);
        if (cwl_ > 8) fail("mode", "reserved CAS write latency");
    } else if (pins.a) {
        fail("mode", "MR3 is not zero");
    }
}

void Ddr3Chip::calibrate(const Ddr3Pins &pins) {
    all_closed("ZQ");
    const bool full = pins.a >> 10 & 1;
    if (!full && !zq_done_) fail("ZQ", "the first calibration is not the long one");
    calibrated_ = zq_last_ = now_;
    calibration_ = full ? c_.tzqinit : c_.tzqcs;
    if (!zq_done_) refresh_from_ = double(now_ + c_.tzqinit);
    zq_done_ = true;
}

bool Ddr3Chip::drives(int ahead, uint32_t &dq) const {
    for (const Beats &beats : reads_) {
        if (beats.at != now_ + ahead) continue;
        dq = read(beats);
        return true;
    }
    return false;
}

Ddr3Config ddr3_config(int row_bits, int column_bits, const int64_t *times, double refresh, int64_t zq) {
    Ddr3Config c;
    c.row_bits = row_bits;
    c.column_bits = column_bits;
    int64_t *into[] = {&c.trcd, &c.trp, &c.tras, &c.trc, &c.trrd, &c.tfaw, &c.trtp, &c.twr, &c.twtr, &c.trfc, &c.tmod, &c.txpr,
                       &c.tzqinit, &c.tzqcs, &c.tccd, &c.tmrd, &c.tdllk, &c.reset, &c.reset_again, &c.cke_before, &c.cke};
    static_assert(sizeof into / sizeof *into == kDdr3Times);
    for (int64_t *at : into) *at = *times++;
    c.refresh = refresh;
    c.zq = zq;
    return c;
}

// For tests: the same chip through plain C.
extern "C" {
// Clocks, in the order of Ddr3Config from trcd to cke.
Ddr3Chip *ddr3_new(int row_bits, int column_bits, const int64_t *clocks, double refresh, int64_t zq, int check_unwritten,
                   int whole_bursts) {
    Ddr3Config c = ddr3_config(row_bits, column_bits, clocks, refresh, zq);
    c.check_unwritten = check_unwritten;
    c.whole_bursts = whole_bursts;
    return new Ddr3Chip(c);
}
void ddr3_free(Ddr3Chip *chip) { delete chip; }
// Pins packed: reset 0, cke 1, odt 2, cs 3, ras 4, cas 5, we 6, ba 7-9, a 10-25, oe 26, dm 27-30.  Returns data,
// bit 32: driven, bit 33: a rule was broken.
uint64_t ddr3_clock(Ddr3Chip *chip, uint32_t pins, uint32_t dq) {
    Ddr3Pins p;
    p.reset = pins & 1; p.cke = pins >> 1 & 1; p.odt = pins >> 2 & 1; p.cs = pins >> 3 & 1; p.ras = pins >> 4 & 1;
    p.cas = pins >> 5 & 1; p.we = pins >> 6 & 1; p.ba = pins >> 7 & 7; p.a = pins >> 10 & 0xFFFF; p.dq_oe = pins >> 26 & 1;
    p.dm = pins >> 27 & 15; p.dq_in = dq;
    chip->clock(p);
    return chip->dq_out() | uint64_t(chip->dq_driven()) << 32 | uint64_t(chip->violated()) << 33;
}
// Data of so many clocks later, bit 32: driven.
uint64_t ddr3_ahead(Ddr3Chip *chip, int clocks) {
    uint32_t dq = 0;
    const bool driven = chip->drives(clocks, dq);
    return dq | uint64_t(driven) << 32;
}
int ddr3_fill(Ddr3Chip *chip, int bank, uint32_t row, uint32_t column, uint16_t value) {
    return chip->fill(bank, row, column, value);
}
void ddr3_forgive(Ddr3Chip *chip) { chip->forgive(); }
const char *ddr3_violation(Ddr3Chip *chip) { return chip->violation().c_str(); }
}
