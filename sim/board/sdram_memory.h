// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The simulated board's memory where it is an SDR chip: two beats a fabric cycle.  Included by harness.cpp.
//
// Arguments: --cas N, --read-beats N (from a READ in the controller's registers to its data there), --columns N, --mhz X,
// --power-up-us X, --check-unwritten N.

#pragma once

#include <deque>

#include "sdram_chip.h"

struct MemoryOptions {
    SdramConfig chip;
    int read_beats = 0, cas = 3;

    // False if there is no such option.
    bool take(const std::string &name, const std::string &text) {
        const char *value = text.c_str();
        if (name == "--cas") cas = std::atoi(value);
        else if (name == "--read-beats") read_beats = std::atoi(value);
        else if (name == "--columns") chip.column_bits = std::atoi(value);
        else if (name == "--mhz") chip.mhz = std::atof(value);
        else if (name == "--power-up-us") chip.power_up_us = std::atof(value);
        else if (name == "--check-unwritten") chip.check_unwritten = std::atoi(value);
        else return false;
        return true;
    }
};

class Memory {
public:
    explicit Memory(const MemoryOptions &options)
        : columns_(options.chip.column_bits), chip_(options.chip), wire_(wire(options), 0) {}

    // Bytes into the cells before power-up, from an even address on.  Addresses are the controller's: row | bank | column.
    void fill(uint64_t address, const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i + 1 < size; i += 2) {
            const uint64_t cell = (address + i) / 2, row = cell >> (columns_ + 2);
            if (!chip_.fill(int(cell >> columns_ & 3), uint32_t(row), uint32_t(cell & ((1u << columns_) - 1)),
                            uint16_t(bytes[i] | bytes[i + 1] << 8)))
                fail("the memory ends before the image does");
        }
    }

    // A soft fault: flips a bit of the byte at an address.
    void flip(uint64_t address, int bit) {
        const uint64_t cell = address / 2, row = cell >> (columns_ + 2);
        if (!chip_.flip(int(cell >> columns_ & 3), uint32_t(row), uint32_t(cell & ((1u << columns_) - 1)),
                        bit + 8 * int(address % 2)))
            fail("--fault: the memory ends before this address");
    }

    // A fabric cycle: the core's pins are settled, and get what their flip-flops take at the cycle's end.
    void cycle(Vcore &core) {
        uint32_t rdata = 0;
        for (int slot = 0; slot < 2; slot++) {
            SdramPins pins;
            pins.cke = PORT(dfi, cke);
            pins.cs = slot ? PORT(dfi, cs1) : PORT(dfi, cs0);
            pins.ras = slot ? PORT(dfi, ras1) : PORT(dfi, ras0);
            pins.cas = slot ? PORT(dfi, cas1) : PORT(dfi, cas0);
            pins.we = slot ? PORT(dfi, we1) : PORT(dfi, we0);
            pins.ba = slot ? PORT(dfi, ba1) : PORT(dfi, ba0);
            pins.a = slot ? PORT(dfi, a1) : PORT(dfi, a0);
            pins.dqm = slot ? PORT(dfi, dqm1) : PORT(dfi, dqm0);
            pins.dq_in = PORT(dfi, wdata) >> 16 * slot;
            pins.dq_oe = PORT(dfi, wdata_oe);
            chip_.clock(pins);
            wire_.push_back(chip_.dq_out());
            rdata |= uint32_t(wire_.front()) << 16 * slot;
            wire_.pop_front();
        }
        if (chip_.violated()) fail("SDRAM rule broken: " + chip_.violation());
        PORT(dfi, rdata) = rdata;
    }

private:
    static size_t wire(const MemoryOptions &options) {
        if (options.read_beats < options.cas) fail("--read-beats is below the CAS latency");
        return size_t(options.read_beats - options.cas);
    }

    int columns_;
    SdramChip chip_;
    // PHY and pins: beats between the chip's data and the controller's input.
    std::deque<uint16_t> wire_;
};
