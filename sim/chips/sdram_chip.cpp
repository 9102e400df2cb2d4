// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause

#include "sdram_chip.h"

#include <cmath>
#include <cstring>

namespace {
constexpr int64_t kNever = -(int64_t(1) << 40);
constexpr int kRefreshesPerWindow = 8192;
}  // namespace

SdramChip::SdramChip(const SdramConfig &config)
    : c_(config), cells_(size_t(4) << (config.row_bits + config.column_bits)), written_(cells_.size()),
      activated_any_(kNever), refreshed_(kNever), mode_set_(kNever) {
    for (Bank &bank : banks_) bank.activated = bank.precharged = bank.written = kNever;
}

void SdramChip::fail(const char *rule, const std::string &what) {
    if (violation_.empty()) violation_ = std::string(rule) + ": " + what + ", clock " + std::to_string(now_);
}

int64_t SdramChip::clocks(double ns) const { return int64_t(std::ceil(ns * c_.mhz / 1000 - 1e-9)); }

void SdramChip::require(const char *rule, int64_t since, int64_t least, const char *what) {
    if (now_ - since < least)
        fail(rule, std::string(what) + " " + std::to_string(now_ - since) + " clocks after, " + std::to_string(least) +
                       " are due");
}

std::string SdramChip::place(uint32_t cell) const {
    const uint32_t column = cell & ((1u << c_.column_bits) - 1), row = cell >> c_.column_bits & ((1u << c_.row_bits) - 1);
    return "bank " + std::to_string(cell >> (c_.column_bits + c_.row_bits)) + " row " + std::to_string(row) + " column " +
           std::to_string(column);
}

uint32_t SdramChip::cell(int bank, uint32_t row, uint32_t column) const {
    return ((uint32_t(bank) << c_.row_bits | row) << c_.column_bits) | (column & ((1u << c_.column_bits) - 1));
}

bool SdramChip::fill(int bank, uint32_t row, uint32_t column, uint16_t value) {
    if (row >> c_.row_bits || column >> c_.column_bits || bank < 0 || bank > 3) return false;
    const uint32_t at = cell(bank, row, column);
    cells_[at] = value;
    written_[at] = true;
    return true;
}

bool SdramChip::flip(int bank, uint32_t row, uint32_t column, int bit) {
    if (row >> c_.row_bits || column >> c_.column_bits || bank < 0 || bank > 3 || bit < 0 || bit > 15) return false;
    cells_[cell(bank, row, column)] ^= uint16_t(1u << bit);
    return true;
}

void SdramChip::clock(const SdramPins &pins) {
    now_++;
    if (mode_known_ && now_ - refresh_window_ >= int64_t(c_.refresh_ms * c_.mhz * 1000)) {
        if (refreshes_ < kRefreshesPerWindow)
            fail("refresh", std::to_string(refreshes_) + " refreshes in " + std::to_string(c_.refresh_ms) + " ms");
        refreshes_ = 0;
        refresh_window_ = now_;
    }
    if (pins.cke && pins.cs) command(pins);
    else if (write_left_) write_beat(pins);

    // Beats of reads: DQM masks with a latency of two clocks.
    dq_out_ = 0;
    dq_driven_ = false;
    for (size_t i = 0; i < reads_.size();) {
        Beat &beat = reads_[i];
        if (beat.at > now_) { i++; continue; }
        const uint8_t mask = dqm_then_[1];
        if (!beat.dead && mask != 3) {
            dq_driven_ = true;
            if (c_.check_unwritten && !written_[beat.cell]) fail("unwritten", "read of a cell never written: " + place(beat.cell));
            dq_out_ = cells_[beat.cell];
            if (mask & 1) dq_out_ &= 0xFF00;
            if (mask & 2) dq_out_ &= 0x00FF;
        }
        reads_.erase(reads_.begin() + i);
    }
    dqm_then_[1] = dqm_then_[0];
    dqm_then_[0] = pins.dqm;
    // Two drivers: in one clock, or without a clock between the chip's beat and the controller's.
    if (pins.dq_oe && dq_driven_) fail("bus", "chip and controller drive the data bus together");
    if (pins.dq_oe && drove_) fail("bus", "the controller drives the data bus right behind the chip");
    drove_ = dq_driven_;
}

void SdramChip::command(const SdramPins &pins) {
    const int code = pins.ras << 2 | pins.cas << 1 | int(pins.we);
    if (code == 0) {                            // NOP
        if (write_left_) write_beat(pins);
        return;
    }
    if (first_command_ < 0) {
        first_command_ = now_;
        require("power-up pause", 0, clocks(c_.power_up_us * 1000), "first command");
    }
    if (code != 7 && !mode_known_ && code != 5 && code != 6)
        fail("power-up order", "a command before the mode register was set");
    require("tRFC", refreshed_, clocks(c_.trfc), "command");
    require("tMRD", mode_set_, c_.tmrd, "command");
    // A PRECHARGE ends the bursts of its own banks alone.
    const bool burst_goes_on = code == 4 || code == 6 || code == 7 ||
                               (code == 5 && !(pins.a >> 10 & 1) && pins.ba != write_bank_);
    if (write_left_ && burst_goes_on) write_beat(pins);
    switch (code) {
    case 4: activate(pins); break;              // RAS
    case 2: column(pins, false); break;         // CAS
    case 3: column(pins, true); break;          // CAS, WE
    case 5: precharge(pins); break;             // RAS, WE
    case 6: refresh(); break;                   // RAS, CAS
    case 7: mode(pins); break;                  // all
    case 1: write_left_ = 0; for (Beat &b : reads_) b.dead |= b.at >= now_ + cas_latency_; break;  // BURST STOP
    }
}

void SdramChip::activate(const SdramPins &pins) {
    Bank &bank = banks_[pins.ba];
    if (bank.open) fail("activate open bank", "ACTIVE on bank " + std::to_string(pins.ba));
    require("tRP", bank.precharged, clocks(c_.trp), "ACTIVE");
    require("tRC", bank.activated, clocks(c_.trc), "ACTIVE");
    require("tRRD", activated_any_, clocks(c_.trrd), "ACTIVE");
    bank.open = true;
    bank.row = pins.a & ((1u << c_.row_bits) - 1);
    bank.activated = activated_any_ = now_;
}

void SdramChip::column(const SdramPins &pins, bool write) {
    Bank &bank = banks_[pins.ba];
    write_left_ = 0;
    if (!bank.open) {
        fail("closed row", std::string(write ? "WRITE" : "READ") + " on bank " + std::to_string(pins.ba));
        return;
    }
    require("tRCD", bank.activated, clocks(c_.trcd), write ? "WRITE" : "READ");
    // A new READ or WRITE ends the burst of the READ before it.
    for (Beat &beat : reads_) beat.dead |= beat.at >= now_ + (write ? 0 : cas_latency_);
    // A write that comes while the chip still answers meets its data on the bus; that is the user's fault, not an end.
    if (write)
        for (Beat &beat : reads_) beat.dead &= beat.at > now_ + 1;
    const uint32_t start = pins.a & 0x3FF & ((1u << c_.column_bits) - 1);
    if (write) {
        write_left_ = burst_;
        write_bank_ = pins.ba;
        write_row_ = bank.row;
        write_column_ = start;
        write_beat(pins);
        return;
    }
    for (int i = 0; i < burst_; i++) {
        const uint32_t at = (start & ~uint32_t(burst_ - 1)) | ((start + i) & (burst_ - 1));
        reads_.push_back({now_ + cas_latency_ + i, cell(pins.ba, bank.row, at)});
    }
}

void SdramChip::write_beat(const SdramPins &pins) {
    const int i = burst_ - write_left_--;
    const uint32_t column = (write_column_ & ~uint32_t(burst_ - 1)) | ((write_column_ + i) & (burst_ - 1));
    const uint32_t at = cell(write_bank_, write_row_, column);
    banks_[write_bank_].written = now_;
    if (pins.dqm == 3) return;                  // masked: latency 0
    if (!pins.dq_oe) fail("bus", "nobody drives the data of a WRITE");
    uint16_t value = pins.dq_in;
    if (pins.dqm & 1) value = (value & 0xFF00) | (cells_[at] & 0x00FF);
    if (pins.dqm & 2) value = (value & 0x00FF) | (cells_[at] & 0xFF00);
    cells_[at] = value;
    written_[at] = true;
}

void SdramChip::precharge(const SdramPins &pins) {
    const bool all = pins.a >> 10 & 1;
    for (int b = 0; b < 4; b++) {
        if (!all && b != pins.ba) continue;
        Bank &bank = banks_[b];
        if (bank.open) {
            require("tRAS", bank.activated, clocks(c_.tras), "PRECHARGE");
            require("tWR", bank.written, clocks(c_.twr), "PRECHARGE");
            if (write_left_ && write_bank_ == b) write_left_ = 0;
        }
        for (Beat &beat : reads_)
            beat.dead |= int(beat.cell >> (c_.column_bits + c_.row_bits)) == b && beat.at >= now_ + cas_latency_;
        bank.open = false;
        bank.precharged = now_;
    }
    if (all) all_precharged_ = true;
}

void SdramChip::refresh() {
    if (!all_precharged_) fail("power-up order", "REFRESH before PRECHARGE ALL");
    for (const Bank &bank : banks_) {
        if (bank.open) fail("activate open bank", "REFRESH with an open bank");
        require("tRP", bank.precharged, clocks(c_.trp), "REFRESH");
    }
    refreshed_ = now_;
    refreshes_++;
    refreshes_before_mode_++;
}

void SdramChip::mode(const SdramPins &pins) {
    if (!all_precharged_) fail("power-up order", "MODE before PRECHARGE ALL");
    if (refreshes_before_mode_ < c_.power_up_refreshes)
        fail("power-up order", "MODE after " + std::to_string(refreshes_before_mode_) + " refreshes, " +
                                   std::to_string(c_.power_up_refreshes) + " are due");
    for (const Bank &bank : banks_) {
        if (bank.open) fail("activate open bank", "MODE with an open bank");
        require("tRP", bank.precharged, clocks(c_.trp), "MODE");
    }
    static const int bursts[8] = {1, 2, 4, 8, 0, 0, 0, 0};
    burst_ = bursts[pins.a & 7];
    cas_latency_ = pins.a >> 4 & 7;
    if (!burst_) { fail("mode", "burst length code " + std::to_string(pins.a & 7)); burst_ = 1; }
    if (cas_latency_ != 2 && cas_latency_ != 3) fail("CAS latency", "code " + std::to_string(cas_latency_));
    if (cas_latency_ == 2 && c_.mhz > c_.cl2_mhz)
        fail("CAS latency", "2 at " + std::to_string(c_.mhz) + " MHz, allowed to " + std::to_string(c_.cl2_mhz));
    if (!mode_known_) {
        refresh_window_ = now_;
        refreshes_ = 0;
    }
    mode_known_ = true;
    mode_set_ = now_;
}

bool SdramChip::drives_next(uint16_t &dq) const {
    for (const Beat &beat : reads_) {
        const uint8_t mask = dqm_then_[1];
        if (beat.at != now_ + 1 || beat.dead || mask == 3) continue;
        dq = cells_[beat.cell] & (mask & 1 ? 0xFF00 : 0xFFFF) & (mask & 2 ? 0x00FF : 0xFFFF);
        return true;
    }
    return false;
}

// For tests: the same chip through plain C.
extern "C" {
SdramChip *sdram_new(int column_bits, int row_bits, double mhz, const double *ns, int tmrd, double cl2_mhz,
                     double power_up_us, double refresh_ms, int check_unwritten) {
    SdramConfig c;
    c.column_bits = column_bits; c.row_bits = row_bits; c.mhz = mhz;
    c.trp = ns[0]; c.trcd = ns[1]; c.tras = ns[2]; c.trc = ns[3]; c.trrd = ns[4]; c.twr = ns[5]; c.trfc = ns[6];
    c.tmrd = tmrd; c.cl2_mhz = cl2_mhz; c.power_up_us = power_up_us; c.refresh_ms = refresh_ms;
    c.check_unwritten = check_unwritten;
    return new SdramChip(c);
}
void sdram_free(SdramChip *chip) { delete chip; }
// Pins packed: cke 0, cs 1, ras 2, cas 3, we 4, ba 5-6, dqm 7-8, a 9-21, oe 22.  Returns data, bit 16: driven.
uint32_t sdram_clock(SdramChip *chip, uint32_t pins, uint16_t dq) {
    SdramPins p;
    p.cke = pins & 1; p.cs = pins >> 1 & 1; p.ras = pins >> 2 & 1; p.cas = pins >> 3 & 1; p.we = pins >> 4 & 1;
    p.ba = pins >> 5 & 3; p.dqm = pins >> 7 & 3; p.a = pins >> 9 & 0x1FFF; p.dq_oe = pins >> 22 & 1; p.dq_in = dq;
    chip->clock(p);
    return chip->dq_out() | uint32_t(chip->dq_driven()) << 16;
}
int sdram_fill(SdramChip *chip, int bank, uint32_t row, uint32_t column, uint16_t value) {
    return chip->fill(bank, row, column, value);
}
// Data of the next clock, bit 16: driven.
uint32_t sdram_next(SdramChip *chip) {
    uint16_t dq = 0;
    const bool driven = chip->drives_next(dq);
    return dq | uint32_t(driven) << 16;
}
void sdram_forgive(SdramChip *chip) { chip->forgive(); }
const char *sdram_violation(SdramChip *chip) { return chip->violation().c_str(); }
}
