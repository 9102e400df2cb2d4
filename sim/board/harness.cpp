// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
//
// The simulated board: clock, memory chip and byte pipe around the verilated core.  It does no arithmetic on model
// data and has no way into the memory but the core's pins, once the clock runs.
//
// Standard input and output are the byte stream of the link, one byte a fabric cycle each way.  A board with nothing
// to do (no program, no packet in work, no byte for a while) sleeps until the host writes.  The end of input ends the
// process at once: bytes that the core has not taken, and answers that were not sent, are dropped.
//
// Arguments: --build-id HEX64 (what the core answers as its hash); those of the memory (sdram_memory.h or ddr3_memory.h);
// --check-unwritten 0 (a read of memory that was never written gives something, as on a real chip; else it ends the
// board); --preload FILE and any number of --piece OFFSET:BYTES:ADDRESS, which put bytes of the file into the chip's cells before
// power-up.
//
// A board that was built with soft faults (soft_faults.py) takes any number of --fault CYCLE:SITE:WORD:BIT: in this cycle of those
// in which a run goes on, counted from 1, a bit of the site is flipped, or of the memory's byte WORD if SITE is 0.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "Vcore.h"
#include "pipe.h"
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

// Numbers of an option such as 5:6:7.
std::vector<double> numbers(const std::string &text) {
    std::vector<double> found;
    const char *at = text.c_str();
    for (char *end;; at = end + 1) {
        found.push_back(std::strtod(at, &end));
        if (*end != ':') return found;
    }
}

}  // namespace

// The chip, and what lies between its pins and the core's.
#ifdef BOARD_DDR3
#include "ddr3_memory.h"
#else
#include "sdram_memory.h"
#endif

namespace {

// Put a piece of a file into the memory.
void preload(Memory &memory, const std::string &path, const std::string &piece) {
    const std::vector<double> where = numbers(piece);
    if (where.size() != 3) fail("--piece wants OFFSET:BYTES:ADDRESS, not " + piece);
    std::FILE *file = std::fopen(path.c_str(), "rb");
    if (!file || std::fseek(file, long(where[0]), SEEK_SET)) fail("cannot read " + path);
    std::vector<uint8_t> buffer(1 << 20);
    for (uint64_t done = 0, size = uint64_t(where[1]); done < size;) {
        const size_t want = size_t(std::min<uint64_t>(buffer.size(), size - done));
        if (std::fread(buffer.data(), 1, want, file) != want) fail(path + " is shorter than its pieces");
        memory.fill(uint64_t(where[2]) + done, buffer.data(), want);
        done += want;
    }
    std::fclose(file);
}

}  // namespace

int main(int argc, char **argv) {
    std::string build_id(64, '0'), file;
#ifdef BOARD_FAULTS
    std::vector<std::vector<double>> faults;
    uint64_t ran = 0;
#endif
    std::vector<std::string> pieces;
    MemoryOptions options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i], value = argv[i + 1];
        if (name == "--build-id") build_id = value;
        else if (name == "--preload") file = value;
        else if (name == "--piece") pieces.push_back(value);
#ifdef BOARD_FAULTS
        else if (name == "--fault") {
            faults.push_back(numbers(value));
            if (faults.back().size() != 4) fail("--fault wants CYCLE:SITE:WORD:BIT, not " + value);
        }
#endif
        else if (!options.take(name, value)) fail("unknown option " + name);
    }
    if (build_id.size() != 64) fail("--build-id wants 64 hex digits");

    VerilatedContext context;
    Vcore core{&context};
    Memory memory{options};
    for (const std::string &piece : pieces) preload(memory, file, piece);
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
        memory.cycle(core);
#ifdef BOARD_FAULTS
        PORT(soft, which) = 0;
        if (core.running) {
            ran++;
            for (const std::vector<double> &fault : faults) {
                if (uint64_t(fault[0]) != ran) continue;
                std::fprintf(stderr, "simulated board: soft fault in cycle %llu\n", (unsigned long long)ran);
                if (fault[1] == 0) memory.flip(uint64_t(fault[2]), int(fault[3]));
                PORT(soft, which) = uint32_t(fault[1]);
                PORT(soft, word) = uint32_t(fault[2]);
                PORT(soft, bit) = uint32_t(fault[3]);
            }
        }
#endif
        core.clk = 1;
        core.eval();

        if (took) pipe.pop();
        quiet = (took || core.busy || PORT(tx, valid)) ? 0 : quiet + 1;
    }
}
