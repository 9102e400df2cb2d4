// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The simulated board: clock, SDRAM chip and byte pipe around the verilated core.  It does no arithmetic on model
// data and has no way into the memory but the core's pins.
//
// Standard input and output are the byte stream of the link, one byte a fabric cycle each way.  A board with nothing
// to do (no program, no packet in work, no byte for a while) sleeps until the host writes.  The end of input ends the
// process at once: bytes that the core has not taken, and answers that were not sent, are dropped.
//
// Arguments: --build-id HEX64 (what the core answers as its hash), --cas N, --read-beats N, --columns N, --mhz X,
// --power-up-us X, --check-unwritten 0 (a read of memory that was never written gives something, as on a real chip; else it
// ends the board).

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#include "Vcore.h"
#include "pipe.h"
#include "sdram_chip.h"
#include "verilated.h"

// Verilator writes the double underscore of a member's port so.
#define PORT(member, port) core.member##___05F##port

namespace {

constexpr uint64_t kIdleCycles = 20000;   // quiet cycles before the board sleeps
constexpr int kPollCycles = 256;          // fabric cycles between looks at the pipe

[[noreturn]] void fail(const std::string &message) {
    std::fprintf(stderr, "simulated board: %s\n", message.c_str());
    std::exit(3);
}

}  // namespace

int main(int argc, char **argv) {
    std::string build_id(64, '0');
    SdramConfig chip_config;
    int read_beats = 0, cas = 3;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i];
        const char *value = argv[i + 1];
        if (name == "--build-id") build_id = value;
        else if (name == "--cas") cas = std::atoi(value);
        else if (name == "--read-beats") read_beats = std::atoi(value);
        else if (name == "--columns") chip_config.column_bits = std::atoi(value);
        else if (name == "--mhz") chip_config.mhz = std::atof(value);
        else if (name == "--power-up-us") chip_config.power_up_us = std::atof(value);
        else if (name == "--check-unwritten") chip_config.check_unwritten = std::atoi(value);
        else fail("unknown option " + name);
    }
    if (build_id.size() != 64) fail("--build-id wants 64 hex digits");
    if (read_beats < cas) fail("--read-beats is below the CAS latency");

    VerilatedContext context;
    Vcore core{&context};
    SdramChip chip{chip_config};
    Pipe pipe;

    // The hash as a little-endian 256-bit port: digit pair 0 is byte 0.
    for (int word = 0; word < 8; word++) {
        uint32_t value = 0;
        for (int byte = 0; byte < 4; byte++) {
            const std::string pair = build_id.substr(2 * (4 * word + byte), 2);
            value |= uint32_t(std::strtoul(pair.c_str(), nullptr, 16)) << 8 * byte;
        }
        core.build_id[word] = value;
    }

    // PHY and pins: beats between the chip's data and the controller's input.
    std::deque<uint16_t> wire(read_beats - cas, 0);
    uint64_t quiet = 0;
    core.rst = 1;
    PORT(rx, valid) = 0;
    PORT(tx, ready) = 1;
    for (uint64_t cycle = 0;; cycle++) {
        if (cycle == 4) core.rst = 0;
        if (cycle % kPollCycles == 0) {
            const bool sleep = quiet > kIdleCycles && !pipe.has();
            if (!pipe.exchange(sleep)) return 0;
            if (sleep) quiet = 0;
        }
        const bool offer = pipe.has() && !core.rst;
        PORT(rx, valid) = offer;
        PORT(rx, payload) = offer ? pipe.front() : 0;
        core.clk = 0;
        core.eval();

        // What the flip-flops are about to take, and what leaves them.
        const bool took = PORT(rx, valid) && PORT(rx, ready);
        if (PORT(tx, valid) && PORT(tx, ready)) {
            pipe.put(PORT(tx, payload));
            quiet = 0;
        }
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
            chip.clock(pins);
            wire.push_back(chip.dq_out());
            rdata |= uint32_t(wire.front()) << 16 * slot;
            wire.pop_front();
        }
        if (chip.violated()) fail("SDRAM rule broken: " + chip.violation());
        PORT(dfi, rdata) = rdata;
        core.clk = 1;
        core.eval();

        if (took) pipe.pop();
        quiet = (took || core.busy || PORT(tx, valid)) ? 0 : quiet + 1;
    }
}
