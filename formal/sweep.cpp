// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
// Every b for each a of a range, through the unit, a pair a cycle, against a plain description: the exact result in a double,
// rounded once.  Usage: sweep mul|add FIRST COUNT.  Prints "ok PAIRS", or the first pair that differs.
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "Vunit.h"

// Products have 22 bits, and sums 41: both are exact in a double.
static double value(uint32_t bits) {
    const int field = bits >> 10 & 31, frac = bits & 1023;
    const double size = field ? std::ldexp(1024 + frac, field - 25) : std::ldexp(frac, -24);
    return bits >> 15 ? -size : size;
}

// Half to even.  Lies the value beyond the largest number by half its last place or more, it is infinite.
static uint32_t rounded(double x) {
    const uint32_t sign = std::signbit(x) ? 0x8000 : 0;
    const double size = std::fabs(x);
    if (size == 0) return sign;
    uint64_t bits;
    std::memcpy(&bits, &size, 8);
    const int exponent = (int)(bits >> 52) - 1023;      // size in [2^exponent, 2^(exponent + 1))
    int lowest = exponent - 10 < -24 ? -24 : exponent - 10;
    const uint64_t unit = (uint64_t)(1023 - lowest) << 52;
    double scale;
    std::memcpy(&scale, &unit, 8);                      // 2^-lowest
    // A double beside 2^52 has no bit below 1: the sum is rounded, half to even.
    uint32_t kept = (uint32_t)(size * scale + 0x1p52 - 0x1p52);
    if (kept == 2048) kept = 1024, ++lowest;
    if (kept < 1024) return sign | kept;                // a subnormal, whose lowest is -24
    const int field = lowest + 25;
    return sign | (field > 30 ? 31u << 10 : (uint32_t)field << 10 | (kept - 1024));
}

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const bool mul = !std::strcmp(argv[1], "mul");
    const uint32_t first = std::strtoul(argv[2], nullptr, 0), count = std::strtoul(argv[3], nullptr, 0);
    static double values[1 << 16];
    static uint8_t kind[1 << 16];                       // 0: finite, 1: infinite, 2: NaN
    for (uint32_t i = 0; i < 1 << 16; ++i) {
        kind[i] = (i >> 10 & 31) < 31 ? 0 : i & 1023 ? 2 : 1;
        values[i] = kind[i] ? 0 : value(i);
    }
    Vunit unit;
    struct Expected { uint32_t y, a, b; } ring[16];
    uint64_t fed = 0, seen = 0;
    const uint64_t total = (uint64_t)count << 16;
    unit.i___05Fvalid = 0;
    unit.o___05Fready = 1;
    while (seen < total) {
        unit.i___05Fvalid = fed < total;
        if (fed < total) {
            const uint32_t a = first + (uint32_t)(fed >> 16), b = fed & 0xFFFF;
            // Half of the sums are differences: all effective pairs come all the same.
            const uint32_t sub = mul ? 0 : (a ^ b) & 1, given = b ^ sub << 15;
            uint32_t y;
            if (mul) {
                const bool nan = kind[a] == 2 || kind[b] == 2 || (kind[a] == 1 && !(b & 0x7FFF)) || (kind[b] == 1 && !(a & 0x7FFF));
                y = nan ? NAN_BITS : kind[a] || kind[b] ? 0x7C00 | ((a ^ b) & 0x8000) : rounded(values[a] * values[b]);
            } else {
                const bool nan = kind[a] == 2 || kind[b] == 2 || (kind[a] && kind[b] && ((a ^ b) & 0x8000));
                y = nan ? NAN_BITS : kind[a] ? a : kind[b] ? b : rounded(values[a] + values[b]);
            }
            const bool nonfinite = (y & 0x7C00) == 0x7C00;
            ring[fed % 16] = {y | (uint32_t)nonfinite << 16, a, b};
            unit.i___05Fpayload = mul ? (uint64_t)a | (uint64_t)b << 16 : (uint64_t)a | (uint64_t)given << 16 | (uint64_t)sub << 32;
            ++fed;
        }
        unit.clk = 0;
        unit.eval();
        if (unit.o___05Fvalid) {
            const Expected& e = ring[seen % 16];
            if ((unit.o___05Fpayload & 0x1FFFF) != e.y) {
                std::printf("differs %s(%04x, %04x): %05x, not %05x\n", argv[1], e.a, e.b, (unsigned)(unit.o___05Fpayload & 0x1FFFF),
                            e.y);
                return 1;
            }
            ++seen;
        }
        unit.clk = 1;
        unit.eval();
    }
    std::printf("ok %" PRIu64 "\n", seen);
}
