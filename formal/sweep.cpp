// SPDX-FileCopyrightText: 2026 The tellme authors
// SPDX-License-Identifier: BSD-2-Clause
// Every b for each a of a range, through the unit, a pair a cycle, against a plain description: the exact result in a double,
// rounded once.  Usage: sweep mul|add|gate FIRST COUNT.  Prints "ok PAIRS", or the first pair that differs.
//
// mul, add: a and b are the operands.  gate: b is the gate, and a says how it is used: ReLU squared above the exponent's byte.
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

static double values[1 << 16];
static uint8_t kind[1 << 16];                           // 0: finite, 1: infinite, 2: NaN
// sigmoid(i / 32) as an integer of 2^-18, 2^18 - 1 at most.
static int32_t sigmoids[513];

// sigmoid(|x|) as an integer of 2^-18: |x| is cut to a multiple of 2^-12, and lies on a line between two of the table's numbers;
// the line's number is cut too.
static int32_t sigmoid(double size) {
    if (size >= 16) return 1 << 18;
    const int32_t fixed = (int32_t)(size * 4096), low = fixed & 127, *at = sigmoids + (fixed >> 7);
    return at[0] + ((at[1] - at[0]) * low >> 7);
}

static uint32_t multiplied(uint32_t a, uint32_t b) {
    const bool nan = kind[a] == 2 || kind[b] == 2 || (kind[a] == 1 && !(b & 0x7FFF)) || (kind[b] == 1 && !(a & 0x7FFF));
    return nan ? NAN_BITS : kind[a] || kind[b] ? 0x7C00 | ((a ^ b) & 0x8000) : rounded(values[a] * values[b]);
}

static uint32_t added(uint32_t a, uint32_t b) {
    const bool nan = kind[a] == 2 || kind[b] == 2 || (kind[a] && kind[b] && ((a ^ b) & 0x8000));
    return nan ? NAN_BITS : kind[a] ? a : kind[b] ? b : rounded(values[a] + values[b]);
}

// f(x) * 2^-exponent.
static uint32_t gated(uint32_t x, bool squared, int exponent) {
    const bool negative = x >> 15;
    if (kind[x] == 2 || (kind[x] && negative && !squared)) return NAN_BITS;
    if (squared && negative) return 0;
    if (kind[x]) return 0x7C00;
    const double size = std::fabs(values[x]);
    if (squared) return rounded(std::ldexp(size * size, -exponent));
    const int32_t factor = negative ? (1 << 18) - sigmoid(size) : sigmoid(size);
    return rounded(std::copysign(std::ldexp(size * factor, -18 - exponent), values[x]));
}

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const bool mul = !std::strcmp(argv[1], "mul"), gate = !std::strcmp(argv[1], "gate");
    const uint32_t first = std::strtoul(argv[2], nullptr, 0), count = std::strtoul(argv[3], nullptr, 0);
    for (uint32_t i = 0; i < 1 << 16; ++i) {
        kind[i] = (i >> 10 & 31) < 31 ? 0 : i & 1023 ? 2 : 1;
        values[i] = kind[i] ? 0 : value(i);
    }
    for (int i = 0; i < 513; ++i) {
        const int32_t nearest = (int32_t)std::nearbyint((1 << 18) / (1 + std::exp(-i / 32.0)));
        sigmoids[i] = nearest < 1 << 18 ? nearest : (1 << 18) - 1;
    }
    Vunit unit;
    struct Expected { uint64_t y; uint32_t a, b; } ring[16];
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
            if (gate) {
                // What passes through the unit is another number for each pair, near one another.
                const uint32_t up = (b * 40503u + a) & 0xFFFF, tag = (a ^ b >> 3) & 1;
                const uint64_t p = gated(b, a >> 8 & 1, (int8_t)a);
                ring[fed % 16] = {p | (uint64_t)up << 16 | (uint64_t)tag << 32, a, b};
                unit.i___05Fpayload = (uint64_t)b | (uint64_t)up << 16 | (uint64_t)(a & 256) << 24 | (uint64_t)(a & 255) << 33 |
                                      (uint64_t)tag << 41;
            } else {
                const uint32_t y = mul ? multiplied(a, b) : added(a, b);
                const bool nonfinite = (y & 0x7C00) == 0x7C00;
                ring[fed % 16] = {y | (uint32_t)nonfinite << 16, a, b};
                unit.i___05Fpayload = mul ? (uint64_t)a | (uint64_t)b << 16
                                          : (uint64_t)a | (uint64_t)given << 16 | (uint64_t)sub << 32;
            }
            ++fed;
        }
        unit.clk = 0;
        unit.eval();
        if (unit.o___05Fvalid) {
            const Expected& e = ring[seen % 16];
            // All of the gate's result; of the others, which have no tag here, the number and whether it is finite.
            const uint64_t said = unit.o___05Fpayload & (gate ? 0x1FFFFFFFF : 0x1FFFF);
            if (said != e.y) {
                std::printf("differs %s(%04x, %04x): %05" PRIx64 ", not %05" PRIx64 "\n", argv[1], e.a, e.b, said, e.y);
                return 1;
            }
            ++seen;
        }
        unit.clk = 1;
        unit.eval();
    }
    std::printf("ok %" PRIu64 "\n", seen);
}
