// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The simulated board's memory where it is a DDR3 chip: four beats a fabric cycle, through a model of the PHY at the DFI.
// Included by harness.cpp.
//
// A byte lane of the PHY gives what the chip drove only with the right slip and a READCLKSEL in the lane's window.  With another
// slip its bytes are those of other beats.  With another READCLKSEL no burst is seen, and its bytes are zeros.
//
// Arguments: --chip R:C:F:Z:T:... (row bits, column bits, clocks between refreshes, clocks between calibrations, times in the order
// of ddr3_config), --read-cycles N (from ``ren`` to ``rvalid``), --write-cycles N (from a WRITE to its first beat), --cas N (clocks),
// --lane0 and --lane1 S:B:E (right slip, first and last READCLKSEL of the window), --check-unwritten N.

#pragma once

#include <algorithm>

#include "ddr3_chip.h"

struct MemoryOptions {
    Ddr3Config chip;
    int read_cycles = 0, write_cycles = 0, cas = 0;
    bool check_unwritten = true;
    struct Lane {
        uint32_t slip = 0, first = 0, last = 7;
    } lanes[2];

    // False if there is no such option.
    bool take(const std::string &name, const std::string &text) {
        const std::vector<double> values = numbers(text);
        if (name == "--chip") {
            if (values.size() != 4 + kDdr3Times) fail("--chip wants " + std::to_string(4 + kDdr3Times) + " numbers");
            const std::vector<int64_t> times(values.begin() + 4, values.end());
            chip = ddr3_config(int(values[0]), int(values[1]), times.data(), values[2], int64_t(values[3]));
        } else if (name == "--lane0" || name == "--lane1") {
            if (values.size() != 3) fail(name + " wants three numbers");
            lanes[name.back() - '0'] = {uint32_t(values[0]), uint32_t(values[1]), uint32_t(values[2])};
        } else if (name == "--read-cycles") read_cycles = int(values[0]);
        else if (name == "--write-cycles") write_cycles = int(values[0]);
        else if (name == "--cas") cas = int(values[0]);
        else if (name == "--check-unwritten") check_unwritten = values[0];
        else return false;
        return true;
    }
};

class Memory {
public:
    explicit Memory(const MemoryOptions &options) : o_(options), chip_(with(options)) {
        // A READ goes out in slot 1, and its first beat comes CL later.  The last slip is three beats behind the first one.
        read_beats_ = 2 * (1 + o_.cas);
        if (read_beats_ + 3 > 4 * o_.read_cycles || o_.read_cycles >= kCycles)
            fail("--read-cycles is too small or too large");
        if (o_.write_cycles < 1 || o_.write_cycles >= kCycles) fail("--write-cycles is too small or too large");
    }

    // Bytes into the cells before power-up, from an even address on.  Addresses are the controller's: row | bank | column.
    void fill(uint64_t address, const uint8_t *bytes, size_t size) {
        const int columns = o_.chip.column_bits;
        for (size_t i = 0; i + 1 < size; i += 2) {
            const uint64_t cell = (address + i) / 2, row = cell >> (columns + 3);
            if (!chip_.fill(int(cell >> columns & 7), uint32_t(row), uint32_t(cell & ((1u << columns) - 1)),
                            uint16_t(bytes[i] | bytes[i + 1] << 8)))
                fail("the memory ends before the image does");
        }
    }

    // A fabric cycle: the core's pins are settled, and get what their flip-flops take at the cycle's end.
    void cycle(Vcore &core) {
        // The words of a WRITE, which the PHY delays.
        Word &word = words_[now_ % kCycles];
        word = {PORT(dfi, wdata), PORT(dfi, wmask), bool(PORT(dfi, wen))};
        const Word &out = words_[(now_ - o_.write_cycles) % kCycles];
        Ddr3Pins pins;
        pins.reset = PORT(dfi, reset);
        pins.cke = PORT(dfi, cke);
        pins.odt = PORT(dfi, odt);
        pins.dq_oe = out.valid;
        for (int slot = 0; slot < 2; slot++) {
            // Fields of Ddr3CommandLayout.
            const uint32_t command = slot ? PORT(dfi, slots___05F1) : PORT(dfi, slots___05F0);
            pins.cs = command & 1;
            pins.ras = command >> 1 & 1;
            pins.cas = command >> 2 & 1;
            pins.we = command >> 3 & 1;
            pins.ba = command >> 4 & 7;
            pins.a = uint16_t(command >> 7);
            pins.dq_in = uint32_t(out.data >> 32 * slot);
            pins.dm = out.mask >> 4 * slot & 15;
            chip_.clock(pins);
            beats_[(2 * now_ + slot) % (kBeats / 2)] = chip_.dq_out();
        }
        if (chip_.violated()) fail("DDR3 rule broken: " + chip_.violation());
        read(core);
        now_++;
    }

private:
    static constexpr int kCycles = 64, kBeats = 4 * kCycles;
    struct Word {
        uint64_t data = 0;
        uint8_t mask = 0;
        bool valid = false;
    };

    static Ddr3Config with(const MemoryOptions &options) {
        Ddr3Config chip = options.chip;
        chip.check_unwritten = options.check_unwritten;
        // The core's words are parts of bursts.
        chip.whole_bursts = true;
        return chip;
    }

    // The beat that is so many beats behind the first one of a cycle.
    uint32_t beat(uint64_t cycle, int number) const {
        const uint64_t at = 4 * cycle + uint64_t(int64_t(number));
        return beats_[at / 2 % (kBeats / 2)] >> 16 * (at % 2) & 0xFFFF;
    }

    // ``rdata`` and ``rvalid`` of this cycle, and which lanes have seen a burst.
    void read(Vcore &core) {
        const uint32_t settings[2] = {PORT(phy, lanes___05F0), PORT(phy, lanes___05F1)};
        for (int lane = 0; lane < 2; lane++) {
            if (((settings[lane] ^ settings_[lane]) & 7) && !(PORT(phy, pause) && paused_))
                fail("DDR3 PHY: READCLKSEL changes without a pause");
            settings_[lane] = settings[lane];
        }
        paused_ = PORT(phy, pause);
        asked_[now_ % kCycles] = PORT(dfi, ren);
        const uint64_t then = now_ - uint64_t(o_.read_cycles);
        const bool valid = now_ >= uint64_t(o_.read_cycles) && asked_[then % kCycles];
        if (PORT(phy, clear)) burst_ = 0;
        uint64_t rdata = 0xDEADBEEFDEADBEEF;
        if (valid) {
            rdata = 0;
            for (int lane = 0; lane < 2; lane++) {
                const MemoryOptions::Lane &right = o_.lanes[lane];
                const uint32_t readclksel = settings[lane] & 7;
                if (readclksel < right.first || readclksel > right.last) continue;
                burst_ |= 1u << lane;
                const int late = int(settings[lane] >> 3 & 3) - int(right.slip);
                for (int n = 0; n < 4; n++) {
                    const uint64_t byte = beat(then, read_beats_ + late + n) >> 8 * lane & 0xFF;
                    rdata |= byte << (16 * n + 8 * lane);
                }
            }
        }
        PORT(dfi, rdata) = rdata;
        PORT(dfi, rvalid) = valid;
        PORT(phy, burst) = burst_;
    }

    MemoryOptions o_;
    Ddr3Chip chip_;
    int read_beats_;
    uint64_t now_ = kCycles;      // so that no cycle before the first one has a negative number
    Word words_[kCycles];
    bool asked_[kCycles] = {};
    uint32_t beats_[kBeats / 2] = {};
    uint32_t settings_[2] = {}, burst_ = 0;
    bool paused_ = false;
};
