# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tests.mutants``: faults put into the gateware one at a time; the named testbenches must find each.

Prints a line per fault, ``KILLED|SURVIVED unit fault test``: ``test`` is the first failing case, or the benches that all passed.
A survivor gives exit code 1.  A fault whose place is no longer in the source gives exit code 2: update the place here.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sim.run_tests import build_folder

__all__ = ["MUTANTS", "ROOT", "SEED", "Mutant", "MutantError", "bench_command", "copy_checkout", "environment", "failures",
           "main"]

ROOT = Path(__file__).resolve().parent.parent
#: What a run of testbenches needs.
PARTS = ("hw", "sw", "sim", "boards", "tests")
#: A fixed seed.  A fault that only some seeds find is found by luck.
SEED = "1"


class MutantError(Exception):
    """A fault that cannot be put in."""


@dataclass(frozen=True)
class Mutant:
    """In ``file`` the text ``old``, which occurs once, becomes ``new``; ``benches`` are substrings for sim.run_tests."""

    unit: str
    fault: str
    file: str
    old: str
    new: str
    benches: tuple[str, ...]
    #: Run in CI.
    ci: bool = False

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise MutantError(f"{self.unit} {self.fault}: {self.file} holds {self.old!r} {text.count(self.old)} times, not once")
        path.write_text(text.replace(self.old, self.new))


def tlmm(fault, file, old, new, bench="tlmm/engine-lanes2", **options):
    return Mutant("tlmm", fault, f"hw/tlmm/{file}.py", old, new, (bench,), **options)


def ddr3_phy(fault, file, old, new, test, **options):
    return Mutant("ddr3", fault, f"hw/memory/ddr3/{file}.py", old, new, (f"memory/ddr3_phy-pins.{test}",), **options)


def chunk(fault, file, old, new, test, **options):
    bench = f"attention/prefill-pes16-tokens16.{test}"
    return Mutant("attention", fault, f"hw/attention/{file}.py", old, new, (bench,), **options)


def runs(fault, file, old, new, test, bench="pes4-tokens4"):
    return Mutant("attention", fault, f"hw/attention/{file}.py", old, new, (f"attention/runs-{bench}.{test}",))


def fused(fault, file, old, new, *benches, **options):
    return Mutant("fused", fault, f"hw/fused/{file}.py", old, new, tuple(f"fused/{b}" for b in benches), **options)


def lib(fault, file, old, new, *benches, **options):
    return Mutant("lib", fault, f"hw/lib/{file}.py", old, new, benches, **options)


def sdram(fault, old, new, bench="controller-slowest", file="controller", **options):
    return Mutant("sdram", fault, f"hw/memory/sdr/{file}.py", old, new, (f"memory/{bench}",), **options)


def rows(fault, old, new, bench="controller-slowest", **options):
    return Mutant("sdram", fault, "hw/memory/rows.py", old, new, (f"memory/{bench}",), **options)


def ddr3(fault, old, new, test, file="rows", **options):
    return Mutant("ddr3", fault, f"hw/memory/{file}.py", old, new, (f"memory/ddr3_controller-{test}",), **options)


def hub(fault, file, old, new, bench="hub-words32", **options):
    return Mutant("sdram", fault, f"hw/memory/{file}.py", old, new, (f"memory/{bench}",), **options)


#: The processor of slots that drafts tokens.
DRAFTS = ("core/slots-drafts-four",)

MUTANTS = (
    # ------------------------------------------------------------------ tlmm
    tlmm("sign-of-the-first-weight", "pairs", "((w1 or w0) < 0) << 3", "((w0 or w1) < 0) << 3", ci=True),
    tlmm("lowest-bits-a-buffer-late", "pairs", "take.eq(whole & (built == self.buffer))",
         "take.eq(whole & (built != self.buffer))"),
    tlmm("columns-past-the-end-not-zero", "serial", "x.eq(Mux(inside, self.code[t], 0))", "x.eq(self.code[t])"),
    tlmm("one-column-too-many", "serial", "inside.eq(~past & (column < cols))", "inside.eq(~past & (column <= cols))"),
    tlmm("tables-not-waited-for", "engine", "with m.Elif(flows & next_ready & has_room):",
         "with m.Elif(flows & has_room):"),
    tlmm("codes-not-waited-for", "engine", "~Array(ready)[build_buffer] & coded)", "~Array(ready)[build_buffer])"),
    tlmm("accumulator-hazard", "engine", "flows.eq(row_steps > Accumulator.HAZARD)", "flows.eq(row_steps > 1)"),
    tlmm("second-row-takes-the-first-scale", "drain", "named.scale.eq(tile.scales[odd])", "named.scale.eq(tile.scales[0])"),
    tlmm("finished-sums-overrun", "engine", "(waiting <= depth - tile_places)", "(waiting <= 2 * depth)"),
    tlmm("sum-read-before-it-is-written", "drain",
         "available.eq(Mux(moves, next_place, place) != self.written)", "available.eq(1)"),
    tlmm("places-do-not-go-around", "drain", "available.eq(Mux(moves, next_place, place) != self.written)",
         "available.eq(Mux(moves, place + 1, place) != self.written)", bench="tlmm/engine-lanes2.places_go_around"),
    tlmm("next-token-goes-on-where-the-last-ended", "drain", "place.eq(base), row.eq(first_row)", "row.eq(first_row)",
         bench="tlmm/engine-lanes8"),
    tlmm("odd-rows-of-the-next-token", "drain", "position.eq(position ^ 1)", "position.eq(position + 1)",
         bench="tlmm/engine-rows2-lanes4.shapes"),
    tlmm("both-lanes-have-the-first-token", "engine", "builder.build.values[i // token_lanes]", "builder.build.values[0]",
         bench="tlmm/engine-rows2-lanes4.shapes"),
    tlmm("no-factor-between-planes", "engine", "triple.eq(ends_plane & tied)", "triple.eq(0)", bench="tlmm/planes-lanes2.shapes"),
    tlmm("factor-at-each-slice", "engine", "triple.eq(ends_plane & tied)", "triple.eq(tied)", bench="tlmm/planes-lanes2.shapes"),
    tlmm("free-planes-multiplied", "engine", "triple.eq(ends_plane & tied)", "triple.eq(ends_plane)",
         bench="tlmm/planes-lanes2.tiles_of_all_kinds"),
    tlmm("plane-of-one-slice-has-two", "engine", "next_ends = Mux(ends_plane, cols <= SLICE, next_ends)",
         "next_ends = Mux(ends_plane, 0, next_ends)", bench="tlmm/planes-lanes2.shapes"),
    tlmm("tile-ends-with-its-first-plane", "engine", "tile_ends = ends & (planes_left == 0)", "tile_ends = ends",
         bench="tlmm/planes-lanes2.shapes"),
    tlmm("words-of-two-rows-swapped", "engine", "Mux(rows_to_come[0], self.words.payload[32:]",
         "Mux(~rows_to_come[0], self.words.payload[32:]", bench="tlmm/planes-lanes2.row_words_of_small_tiles"),
    tlmm("row-words-overwritten", "engine", "[:len(word_tile)] != kept) | idle", "[:len(word_tile)] != 2 * kept) | idle",
         bench="tlmm/planes-lanes2.row_words_wait_for_their_place"),
    tlmm("bias-of-a-row-without-a-word", "drain", "bias.eq(Mux(label2.row_words, word2.bias, NO_BIAS))", "bias.eq(word2.bias)",
         bench="tlmm/planes-lanes2.tiles_of_all_kinds"),
    tlmm("row-words-of-the-matrix-before", "drain", "m.d.sync += self.rows_freed.eq(0)", "m.d.sync += self.rows_freed.eq(1)",
         bench="tlmm/planes-lanes2.row_words_of_small_tiles"),
    tlmm("planes-do-not-follow-at-once", "engine", "with m.Elif(flows & next_ready & has_room):",
         "with m.Elif(flows & next_ready & has_room & ~ends_plane):",
         bench="tlmm/planes-lanes2.no_cycle_between_planes"),
    *(tlmm(fault, file, old, new, bench=f"tlmm/groups-{case}") for fault, file, old, new, case in (
        ("multipliers-of-the-first-group", "engine", "group_left.eq(Mux(next_begins, group, group_left - 1))",
         "group_left.eq(group_left)", "lanes2.shapes"),
        ("no-multipliers-behind-the-first-plane", "engine", "grouped & ((group_left == 1) | ends_plane)",
         "grouped & (group_left == 1)", "lanes2.shapes"),
        ("multipliers-overwritten", "engine", "factors.write_half.eq(~group_half)", "factors.write_half.eq(factors.half)",
         "lanes2.tables_are_there_before_the_multipliers"),
        ("multipliers-of-the-next-tile", "engine", "factors.grouped.eq(early[-1])", "factors.grouped.eq(grouped)",
         "lanes2.tiles_of_all_kinds"),
        ("slices-of-few-steps-follow-the-multipliers", "engine", "with m.If(~flows & ~first_slice):", "with m.If(0):",
         "lanes2.tables_are_there_before_the_multipliers"),
        ("tables-not-waited-for-behind-multipliers", "engine",
         "with m.Elif(Array(ready)[use_buffer] & (has_room | ~last_slice)):", "with m.Elif(has_room | ~last_slice):",
         "lanes2.shapes"),
        ("steps-do-not-follow-multipliers-at-once", "engine",
         "with m.Elif(Array(ready)[use_buffer] & (has_room | ~last_slice)):", "with m.Elif(0):", "lanes2.a_word_is_a_cycle"),
        ("multipliers-of-two-rows-swapped", "multipliers", "Mux(~self.two_rows & odd, high, low)",
         "Mux(~self.two_rows & odd, low, high)", "lanes2.shapes"),
        ("multiplier-without-a-sign", "engine", "total * factors.multipliers[i % pair_rows])",
         "total * factors.multipliers[i % pair_rows].as_unsigned())", "lanes2.shapes"),
        ("product-of-a-bit-less", "accumulator", "PRODUCT_BITS = signed_bits_for(SLICE * I8.least**2)",
         "PRODUCT_BITS = signed_bits_for(SLICE * I8.least**2) - 1", "lanes2.numbers_at_their_ends"),
        ("sum-of-a-bit-less", "engine", "bits=widths.engine_sum_bits, rows", "bits=widths.engine_sum_bits - 1, rows",
         "lanes2.numbers_at_their_ends"))),
    tlmm("invalid-byte-counts", "pairs", "        entry = 0\n", "        entry = 1\n"),
    # ------------------------------------------------------------------ weights
    Mutant("weights", "read-before-written", "hw/memory/weights.py", "fetch.eq((stored != 0) & ", "fetch.eq(",
           ("weights/manager-blocks1",), ci=True),
    Mutant("weights", "asks-without-room", "hw/memory/weights.py", "with m.Elif(room >= size):", "with m.Elif(room >= 1):",
           ("weights/",)),
    Mutant("two-steps", "both-forms-of-the-head", "hw/memory/weights.py", "left_out | (counts.two_steps ^ self.two_steps)",
           "left_out | (counts.two_steps & ~self.two_steps)", ("weights/forms",)),
    Mutant("weights", "head-also-after-plain-tokens", "hw/memory/weights.py", "skips.eq(counts.lm_head & left_out)",
           "skips.eq(0)", ("weights/",)),
    Mutant("weights", "list-has-no-end", "hw/memory/weights.py", "ends.eq(counts.words64 == 0)", "ends.eq(0)", ("weights/",)),
    Mutant("weights", "next-segment-comes-late", "hw/memory/weights.py", "take.eq(last & offered)", "take.eq(0)",
           ("weights/manager-blocks1.a_change_of_segments_costs_no_cycle",)),
    Mutant("weights", "plain-chunks-do-not-end", "hw/memory/weights.py", "plain.eq(Mux(plain == 0, 0, plain - 1))",
           "plain.eq(plain)", ("weights/",)),
    Mutant("weights", "empty-list-reads-what-was", "hw/memory/weights.py", "m.d.comb += take.eq(~ends)", "m.d.comb += take.eq(1)",
           ("weights/manager-blocks1.an_empty_list_hangs_nothing",)),
    # ------------------------------------------------------------------ widths
    Mutant("widths", "rows-of-gate-alone", "sw/tellme/spec/config.py", "rows=self.max_cols + max(self.max_cols, 2 * kv_dim)",
           "rows=max(self.max_cols, 2 * kv_dim)", ("tlmm/engine-wide",)),
    Mutant("widths", "engine-sums-a-bit-short", "sw/tellme/spec/widths.py",
           "signed_bits_for(MAX_CODE * self.cols * plane_reach(self.planes))",
           "signed_bits_for(MAX_CODE * self.cols * plane_reach(self.planes)) - 1", ("tlmm/engine-wide",)),
    Mutant("widths", "exponentials-a-bit-short", "hw/attention/scan.py", "bits_for(context << SUM_FRAC)",
           "bits_for((context << SUM_FRAC) - 1)", ("attention/scan-context64",)),
    # ------------------------------------------------------------------ sdram
    sdram("refresh-too-rare", "int(t.refresh_us * self._mhz / 2 * 0.997)", "int(t.refresh_us * self._mhz / 2 * 1.02)"),
    rows("activate-a-cycle-early", 'm.next = "CLOSED"', 'm.next = "OPEN"'),
    rows("write-recovery-cut-short", "issue_write & (bank == b)", "Const(0, 1)"),
    sdram("bus-turned-too-soon", "turn = -(-(self._cas + 3) // 2)", "turn = -(-(self._cas - 1) // 2)"),
    rows("row-not-compared", "next_hit = opened[next_bank] & (rows[next_bank] == next_row)", "next_hit = opened[next_bank]"),
    hub("burst-crosses-a-row", "hub", "to_end = Const(burst) - addr[:offset_bits]", "to_end = Const(burst)"),
    hub("read-taken-without-room", "hub", "able_r.eq(~spent & (room >= size) & ~granted[i])", "able_r.eq(~spent & ~granted[i])"),
    hub("burst-chosen-twice", "hub", "bus.command.valid.eq(some_able & (granted == 0))", "bus.command.valid.eq(some_able)"),
    hub("lowest-priority-first", "hub", "key=lambda i: ports[i].first.priority, reverse=True)",
        "key=lambda i: ports[i].first.priority)"),
    hub("words-of-the-client-before", "hub", "own = owner == number if", "own = owner != number if"),
    hub("turn-changes-amid-a-request", "hub", "free = guard.clean & ~queue.o.valid", "free = ~queue.o.valid"),
    hub("words-for-the-first-client", "share", "[client.data.valid.eq(data.valid), data.ready.eq(client.data.ready)]",
        "[client.data.valid.eq(data.valid & (i == 0)), data.ready.eq(client.data.ready)]"),
    hub("parts-swapped", "width", "Cat(held, port.data.payload)), client.data.valid",
        "Cat(port.data.payload, held)), client.data.valid"),
    hub("part-of-the-word-before", "width", "place = (queue.o.p.first + done)[:part_bits]", "place = done[:part_bits]",
        bench="hub-words64"),
    hub("lanes-not-given-written", "width", "given.eq(Mux(complete, 0, present))", "given.eq(present)", bench="hub-words64"),
    sdram("latency-a-beat-off", "training.beats.eq(trial_latency)", "training.beats.eq(trial_latency + 1)", file="bringup"),
    # ------------------------------------------------------------------ ddr3
    ddr3("read-right-behind-a-write", "since_write >= rules.wtr - 1", "since_write >= 1", "4Gb.traffic_full_rate"),
    ddr3("row-closed-right-behind-a-read", "if rules.rtp:", "if False:", "4Gb.sequential_rates"),
    ddr3("never-calibrates", "calibration_due.eq(until == 0)", "calibration_due.eq(0)", "1Gb-150MHz.calibrations_go_on"),
    ddr3("reset-comes-late", '"reset": Out(1, init=1), "cke"', '"reset": Out(1), "cke"', "1Gb-150MHz.traffic_full_rate",
         file="ddr3/dfi"),
    ddr3("neighbour-not-masked", "(~lane | ~plan.moves)", "(~lane)", "4Gb.words_next_to_a_write_stay", file="ddr3/controller"),
    ddr3("word-before-the-burst-read", "Mux(plan.moves & trained, plan.current, none)", "Mux(trained, plan.current, none)",
         "4Gb.traffic_full_rate", file="ddr3/controller"),
    # ------------------------------------------------------------------ ddr3: PHY, clocks and training
    ddr3_phy("written-a-cycle-early", "phy", "WRITE_CYCLES = 4", "WRITE_CYCLES = 3", "bursts_come_back_exactly"),
    ddr3_phy("pulse-a-half-cycle-late", "phy", "i_READ0=reads[READ_CYCLES + 1], i_READ1=reads[READ_CYCLES]",
             "i_READ0=reads[READ_CYCLES + 1], i_READ1=reads[READ_CYCLES + 1]", "bursts_come_back_exactly"),
    ddr3_phy("strobe-without-a-postamble", "phy", "i_T0=~(now | behind)", "i_T0=~now", "bursts_come_back_exactly"),
    ddr3_phy("burst-detection-stays", "phy", "self.control.burst[lane].eq(0)", "self.control.burst[lane].eq(1)",
             "no_window_is_said"),
    ddr3_phy("masks-of-the-other-lane", "phy", "2 * n + self._mask_lanes[lane]]", "2 * n + 1 - self._mask_lanes[lane]]",
             "bursts_come_back_exactly"),
    ddr3_phy("delays-not-updated", "clocks", "i_UDDCNTLN=~update", "i_UDDCNTLN=Const(1, 1)", "training_finds_the_middle"),
    ddr3_phy("divider-starts-with-the-clock", "clocks", "(reset, 3, 4)", "(reset, 5, 6)", "start_up_has_its_order_and_its_times"),
    ddr3_phy("first-setting-of-the-window", "training", "(starts[lane] + (bests[lane] >> 1))", "(starts[lane] + 0)",
             "training_finds_the_middle"),
    ddr3_phy("burst-not-asked-for", "training", "good.eq(good & phy.burst)", "good.eq(good)", "training_finds_the_middle"),
    ddr3_phy("changes-without-pause", "training", "m.d.sync += [phy.pause.eq(1),", "m.d.sync += [phy.pause.eq(0),",
             "training_finds_the_middle"),
    ddr3_phy("done-without-a-window", "training", "with m.If(((good & ~none) | use).all()):", "with m.If(Const(1)):",
             "no_window_is_said"),
    ddr3_phy("override-not-looked-at", "training", 'getattr(self.override, f"use{lane}")', "Const(0, 1)",
             "host_settings_take_the_place_of_the_training"),
    # ------------------------------------------------------------------ fused
    lib("tie-goes-up", "floats", "up = guard & (sticky | value[0])", "up = guard", "fused/mul_add-mul-binary16", ci=True),
    lib("sticky-lost", "floats", "body.eq(Cat(rest.any(), top2", "body.eq(Cat(Const(0, 1), top2", "fused/mul_add-mul-binary16"),
    lib("subnormals-flushed", "floats", "Cat(value[:fmt.frac_bits], Mux(value[-1], field3, 0))",
        "Cat(Mux(value[-1], value[:fmt.frac_bits], 0), Mux(value[-1], field3, 0))", "fused/mul_add-mul-binary16"),
    fused("zero-of-unlike-signs", "arithmetic", "sign = Mux(total == 0, flags2[4], flags2[0])", "sign = flags2[0]",
          "mul_add-add-binary16"),
    fused("code-sign", "arithmetic", "(value3 ^ negative.replicate(9 + more)) + (up3 ^ negative)", "value3 + up3",
          "convert-quantise-binary16"),
    fused("code-clips-at-127-below", "arithmetic",
          "Mux(beyond, Mux(negative, least, most), rounded)", "Mux(beyond, Mux(negative, -127, most), rounded)",
          "convert-quantise-binary16"),
    fused("rope-turns-the-other-way", "rope", "adder.i.p.sub.eq(~first.o.p.tag)", "adder.i.p.sub.eq(first.o.p.tag)",
          "pairs-rope-binary16"),
    fused("lower-bits-of-the-element-behind", "activation", 'pipe.delay(fixed1[:low_bits], 1 + more, "low2")',
          'pipe.delay(fixed1[:low_bits], 1, "low2")', "pairs-activation_register-binary16"),
    fused("sign-of-the-element-behind", "activation", '4 + more, "flags3"', '4, "flags3"', "pairs-activation_register-binary16"),
    fused("exponent-of-the-element-behind", "activation", '6 + more, "exp5"', '6, "exp5"',
          "pairs-activation_register-binary16"),
    fused("absmax-of-the-value", "pipeline", "Mux(Mux(read, quant.gain, has_gain), gain_data, one)",
          "Mux(read & quant.gain, gain_data, one)", "pipeline"),
    lib("payload-changes-while-it-waits", "streams", "ce.eq(~self.o.valid | self.o.ready)", "ce.eq(1)",
        "fused/mul_add-mul-binary16"),
    lib("sets-out-without-a-place", "streams", "self.open.eq(under_way <= self._depth - 2 - self._burst)", "self.open.eq(1)",
        "lib/streams-landing"),
    lib("landing-without-room", "streams", "(under_way <= self._depth - 2 - self._burst)", "(under_way <= self._depth)",
        "lib/streams-landing"),
    lib("burst-without-room", "streams", "self._depth - 2 - self._burst", "self._depth - 3", "lib/streams-burst"),
    lib("head-scale-tie", "scales", "guard & (sticky | kept[0])", "guard", "fused/scales-scale_acc"),
    fused("scale-of-another-token", "pipeline", "Cat(mul_tag.token, quant.src_a) if norms else mul_tag.token",
          "0", "pipeline-tokens3"),
    fused("statistics-of-one-token", "pipeline", "statistics.x_token.eq(own(out_place.token))", "statistics.x_token.eq(0)",
          "pipeline-tokens3"),
    fused("slice-a-column-short", "pipeline", "ends_slice = (in_slice == SLICE - 1) | end",
          "ends_slice = (in_slice == SLICE - 2) | end",
          "pipeline-tokens3"),
    fused("head-numbers-run-on", "pipeline", "Mux(other & ~first_own, round_first, number + 1)", "number + 1",
          "pipeline-tokens3"),
    fused("gains-of-the-other-vector", "pipeline", "Mux(Mux(reading, quant.src_a, to_a), gains_of_a, 0)",
          "Mux(to_a, gains_of_a, 0)", "pipeline-dim128"),
    fused("bias-of-the-row-behind", "pipeline", 'stage.delay(raw_label.bias, 2, "bias")',
          'stage.delay(raw_label.bias, 1, "bias")', "biases-dim128.all_passes"),
    fused("biases-without-the-flag", "pipeline", "with_bias.eq(args.bias)", "with_bias.eq(1)", "pipeline-dim128.all_passes"),
    fused("element-with-a-bias-is-written", "pipeline", "summed = adder.o.valid & ~biased if", "summed = adder.o.valid if",
          "biases-dim128.all_passes"),
    fused("place-from-ahead-of-the-bias", "pipeline",
          "place.eq(Mux(biased, summed_label.place.as_value(), raw_place.as_value()))", "place.eq(raw_place)",
          "biases-dim128.all_passes"),
    fused("rope-takes-the-element-without-its-bias", "pipeline", "Mux(on_heads, gain_mul.o.p.y, element)",
          "Mux(on_heads, gain_mul.o.p.y, raw)", "biases-dim128.all_passes"),
    fused("head-sum-goes-on", "statistics", "goes_on & ~first", "goes_on", "statistics-binary16.sums_begin_anew"),
    fused("d-of-the-next-head", "head_quantise", "scales_d[d_bank].eq(self.d)", "scales_d[scale_bank].eq(self.d)",
          "head_quantise-late-d"),
    fused("gains-of-q-for-k", "pipeline", "Mux(summed_label.of_k, self.shape.head_dim, 0)", "0", "head_norms-dim128.all_passes"),
    fused("gains-for-v", "pipeline", "has_gain = Mux(on_heads, turned_late, has_gain)", "has_gain = on_heads | has_gain",
          "head_norms-dim128.all_passes"),
    fused("rms-for-v", "pipeline", "Mux(counts, inverse_rms.y.as_value(), ONE.pack())", "inverse_rms.y.as_value()",
          "head_norms-dim128.all_passes"),
    fused("sum-of-the-next-head", "pipeline", "Mux(of_pass, token, ~sum_place)", "Mux(of_pass, token, sum_place)",
          "head_norms-dim128.all_passes"),
    fused("sum-read-a-cycle-early", "pipeline", 'Statistics.LATENCY + 1, "sum_done"', 'Statistics.LATENCY, "sum_done"',
          "head_norms-dim128.small_and_large_heads"),
    fused("pairs-counted-ahead-of-the-gains", "pipeline", "late = (gained, gained_at,", "late = (gained, in_head,",
          "head_norms-dim128.all_passes"),
    fused("rms-of-the-first-head", "pipeline", "(factor_read, absmax_done)):", "(factor_read, 0)):",
          "head_norms-dim128.all_passes"),
    fused("heads-scaled-in-a-quantise-pass", "pipeline", "head_quantise.scale_done.eq(absmax_scale.done & of_heads)",
          "head_quantise.scale_done.eq(absmax_scale.done)", "pipeline-dim128.all_passes"),
    fused("rms-of-heads-without-the-flag", "pipeline", "norm = Mux(of_pass, quant.norm, on_heads)",
          "norm = Mux(of_pass, quant.norm, 1)", "head_norms-dim128.all_passes"),
    fused("upper-part-chosen-a-cycle-early", "vectors", "self.read_index[bit], 2,", "self.read_index[bit], 1,",
          "pipeline-dim128"),
    fused("sum-of-squares-saturates-early", "statistics", "lifted[:64]", "lifted[:63]", "statistics"),
    # ------------------------------------------------------------------ attention
    Mutant("attention", "mask-a-key-short", "hw/attention/decode_sequence.py", "with m.If(scan.key == args.position):",
           "with m.If((scan.key + 1 == args.position) | (scan.key == args.position)):",
           ("attention/decode-compact.shapes",), ci=True),
    Mutant("attention", "score-rounds-down", "hw/attention/softmax.py", "(moved3 + 1) >> 1", "moved3 >> 1",
           ("attention/decode-context128",)),
    Mutant("attention", "values-at-the-wrong-position", "hw/attention/decode.py",
           "row_offset.eq(args.position * (shape.head_dim >> 2))",
           "row_offset.eq((args.position + 1) * (shape.head_dim >> 2))", ("attention/decode-context128",)),
    Mutant("attention", "maximum-not-cleared", "hw/attention/score_path.py", "m.d.sync += tops[g].eq(-(1 << SCORE_BITS - 1))",
           "m.d.sync += tops[g].eq(tops[g])", ("attention/decode-context128",)),
    Mutant("attention", "weight-tie", "hw/attention/scan.py", "((tm_g >> 10 >> gap_g) + 1) >> 1", "(tm_g >> 10 >> gap_g) >> 1",
           ("attention/decode-context128",)),
    chunk("masked-region-fetched", "slot_sequence", "Mux(last_slot, 0, back)", "0", "shapes"),
    chunk("own-rows-read-back-too", "slot_sequence", "stage.reg((self.keys_all - 1)[", "stage.reg((self.keys_all)[", "shapes"),
    chunk("no-rows-asked-for", "slot_sequence", "nothing_left | (no_rows &", "nothing_left | (0 &", "shapes"),
    chunk("own-keys-for-values", "own_rows", "of_v.eq(~of_v)", "of_v.eq(0)", "shapes"),
    chunk("own-row-of-the-first-head", "prefill", "own_rows.head.eq(sequence.head)", "own_rows.head.eq(0)", "shapes"),
    chunk("own-row-in-a-chunk", "prefill", "stage.reg(self.control.args.chunk == 1,", "stage.reg(self.control.args.chunk != 0,",
          "shapes"),
    chunk("sees-the-next-token", "softmax", "remaining >= k_back.data", "remaining + 1 >= k_back.data", "shapes"),
    chunk("weighs-the-next-token", "softmax", "remaining_a >= v_back.data", "remaining_a + 1 >= v_back.data", "shapes", ci=True),
    chunk("exponent-rounds-up", "softmax", "-(down_c >> SCORE_FRAC)", "-((down_c + 1) >> SCORE_FRAC)", "shapes"),
    chunk("sums-of-the-slot-before", "pe_column", "drain.clear, flags[2].first_key", "drain.clear, 0", "shapes"),
    chunk("row-too-early", "word_reader", "(free & (phase.k | available.any()))", "(phase.k | available.any())", "shapes"),
    chunk("late-row-not-waited-for", "word_reader", "spacing.eq(after_row), free.eq(after_row == 0)", "free.eq(spacing <= 1)",
          "late_row_ends"),
    chunk("total-read-too-early", "sum_walk", "pause > turns - 3", "pause > turns + 1", "shapes"),
    chunk("next-turn-shows-too-early", "pe_column", "drain.clear | (drain.pe != p)", "drain.pe != p", "shapes"),
    chunk("sum-marked-too-late", "pe_column", "(self.send & (self.send_turn == t))", "(self.send & (t == 0))", "shapes"),
    chunk("all-rows-at-the-first-position", "scatter", "small_product(self.words, token)", "Const(0, 8)", "shapes"),
    chunk("scales-before-the-values-came", "scatter", "here == chunk << 1", "here == chunk", "shapes"),
    chunk("scales-under-the-next-head", "scatter", "m.If(self.heads.valid & sorting):", "m.If(self.heads.valid):", "shapes"),
    chunk("head-sorted-too-early", "scatter", "known.eq(waited == self.QUERY_CYCLES)",
          "known.eq(waited == self.QUERY_CYCLES - 1)", "shapes"),
    chunk("query-at-the-wrong-pe", "scatter", "(before2 + head2 -", "(before2 + 1 + head2 -", "shapes"),
    *(Mutant("attention", fault, f"hw/attention/{file}.py", old, new, (f"attention/prefill-pes4-tokens5-64bit.{test}",))
      for fault, file, old, new, test in (
          ("scales-behind-the-last-key", "turns", "scales.last & (self.keys_all[0] ^ self.odd_scales) if n else 0", "0",
           "odd_scales"),
          ("scales-of-the-key-before", "turns", "at = key + self.odd_scales", "at = key", "odd_scales"),
          ("scales-a-word-short", "slot_sequence", "return (self.keys_all + odd + 1) >> 1", "return (self.keys_all + 1) >> 1",
           "odd_scales"),
          ("query-in-the-other-half", "pe_column", "(self.q_write.word[:part_bits] == n)", "(self.q_write.word[:part_bits] != n)",
           "shapes"))),
    runs("token-written-a-cycle-early", "row_places", 'stage.delay(write.token, 2,', 'stage.delay(write.token, 1,', "mixed"),
    runs("every-run-at-slot-0", "row_places", "Mux(write.en, write.place, self.slot_place)", "write.place", "mixed"),
    runs("scales-of-a-token-alone", "row_places", "place_write.data.left.eq(write.left)", "place_write.data.left.eq(1)",
         "heads_rate"),
    runs("scales-written-at-slot-0", "scatter", "(args.s_base + self.place)", "args.s_base", "mixed"),
    runs("scales-of-one-run-alone", "scatter", "with m.If(sent == chunk):", "with m.If(sent == sent):", "mixed"),
    runs("run-known-too-late", "prefill", "ARGS_CYCLES = 2", "ARGS_CYCLES = 1", "mixed"),
    runs("a-run's-pairs-from-pe-0", "prefill", "(of_run + begin_pe)", "of_run", "mixed"),
    runs("sums-under-the-pass's-last-token", "prefill", "(args.chunk - args.after)", "args.chunk", "mixed"),
    runs("keys-of-the-whole-pass", "prefill", "(args.position + run_tokens)", "(args.position + chunk)", "mixed"),
    runs("own-rows-of-a-run", "prefill", "self.control.args.chunk == 1", "self.control.args.run_tokens == 1", "one_token_runs"),
    runs("idle-while-words-come", "prefill", "self.control.busy.eq(sequence.busy)", "self.control.busy.eq(~walk.idle)", "mixed"),
    runs("scales-of-slot-0", "slot_sequence", "s_addr.eq(args.s_base + args.slot_place)", "s_addr.eq(args.s_base)", "mixed"),
    runs("scales-of-an-even-place", "slot_sequence", "self.scale_words(args.s_base[0] ^ args.slot_place[0])",
         "self.scale_words(args.s_base[0])", "mixed", bench="pes4-tokens5-64bit"),
    runs("queries-of-the-slot-behind", "slot_sequence", "next_row = head_row + self.head_rows", "next_row = self.row + 1",
         "mixed"),
    runs("tokens-from-pe-0-in-the-next-head", "slot_sequence", "head_row.eq(next_row), pe.eq(self.begin_pe),",
         "head_row.eq(next_row), pe.eq(0),", "mixed"),
    runs("later-slots-begin-like-the-first", "slot_sequence", "m.d.sync += self.first_pe.eq(0)", "pass", "mixed"),
    runs("next-head-sends-from-pe-0", "slot_sequence",
         "self.first_pe.eq(self.begin_pe)]\n                with m.If(last_slot):", "]\n                with m.If(last_slot):",
         "mixed"),
    runs("first-sum-meets-another-turn's", "sum_walk", "pause.eq(drain.pe >> unit_bits)", "pause.eq(0)", "mixed"),
    runs("scale-of-pe-0", "sum_walk", "self.scale_pe.eq(first_pe)", "self.scale_pe.eq(0)", "mixed"),
    # ------------------------------------------------------------------ head
    Mutant("head", "tie-to-the-higher-id", "hw/lm_head/lm_head.py", "(ident == 0) | (logit.as_signed() > best.logit)",
           "(ident == 0) | (logit.as_signed() >= best.logit)", ("lm_head/lm_head-dim64",), ci=True),
    Mutant("head", "rows-past-the-vocabulary", "hw/lm_head/lm_head.py", "queue.r_rdy & behind):",
           "queue.r_rdy & behind & padded):", ("lm_head/lm_head-",)),
    Mutant("head", "logit-rounds-down", "hw/lm_head/logit.py", "(moved7 + 1) >> 1", "moved7 >> 1", ("lm_head/lm_head-",)),
    Mutant("head", "one-logit-too-many-waits", "hw/lm_head/lm_head.py", "self.QUEUE - self.LATENCY - 2)",
           "self.QUEUE - self.LATENCY + 2)", ("lm_head/lm_head-",)),
    Mutant("head", "equal-entries-move", "hw/lm_head/lm_head.py", "smaller.eq(t_read.data.logit.as_signed() < logit.as_signed())",
           "smaller.eq(t_read.data.logit.as_signed() <= logit.as_signed())", ("lm_head/lm_head-",)),
    Mutant("head", "equal-entries-of-a-token-move", "hw/lm_head/best_list.py",
           "larger = one.logit.as_signed() > other.logit.as_signed()",
           "larger = one.logit.as_signed() >= other.logit.as_signed()", ("lm_head/chunk-chunk4",)),
    Mutant("head", "last-entry-of-another-place", "hw/lm_head/best_list.py", "self.placed.eq(at == TOP_ENTRIES - 1)",
           "self.placed.eq(at == TOP_ENTRIES - 2)", ("lm_head/chunk-chunk4",)),
    Mutant("head", "entries-of-the-first-list", "hw/lm_head/best_list.py", "write.addr.eq(Cat(at, number))", "write.addr.eq(at)",
           ("lm_head/chunk-chunk4",)),
    Mutant("head", "least-of-the-pass-before", "hw/lm_head/chunk.py", "m.d.sync += [full.eq(0), length.eq(0),",
           "m.d.sync += [length.eq(0),", ("lm_head/chunk-chunk4",)),
    Mutant("head", "scale-of-the-pass's-first-token", "hw/lm_head/chunk.py", "token.eq(args.first + number0)",
           "token.eq(args.first)", ("lm_head/chunk-chunk4",)),
    Mutant("head", "no-room-for-sums-under-way", "hw/lm_head/chunk.py", "under_way = self.LATENCY + 5", "under_way = 5",
           ("lm_head/chunk-chunk16.a_sum_a_cycle",)),
    Mutant("two-steps", "rows-that-may-be-equal-are-dropped", "hw/lm_head/two_steps.py",
           "keeps.eq(high11 >= least)",
           "keeps.eq(high11 > least)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "waiting-rows-that-may-be-equal-are-dropped", "hw/lm_head/two_steps.py",
           "judged.eq(seen.high >= least)",
           "judged.eq(seen.high > least)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "an-equal-row-leads", "hw/lm_head/two_steps.py",
           "logit10 > most)), keeps",
           "logit10 >= most)), keeps", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "least-logit-without-the-bound", "hw/lm_head/two_steps.py",
           "beside.eq(Mux(half, -low_rows.bound.as_signed(), low",
           "beside.eq(Mux(half, 0, low", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "largest-logit-without-the-bound", "hw/lm_head/two_steps.py",
           ".as_signed(), low_rows.bound.as_signed()))",
           ".as_signed(), 0))", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "logits-of-rows-raise-nothing", "hw/lm_head/two_steps.py",
           "(is_logit10 & (logit10 > most))",
           "(is_logit10 & (logit10 > most) & ~two)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "a-batch-by-several-thresholds", "hw/lm_head/two_steps.py",
           'counts.eq(passes.ongoing("ROWS") | passes.ongoing("WAIT"))', "counts.eq(1)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "the-leader-before-is-lost", "hw/lm_head/two_steps.py",
           "Mux(leads, led, keeps)",
           "Mux(leads, 0, keeps)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "rows-under-way-do-not-count", "hw/lm_head/two_steps.py",
           "m.Elif((coming_rows == 0) & (all0 | ~room))",
           "m.Elif(all0 | ~room)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "the-gap-of-the-pick", "hw/lm_head/two_steps.py",
           "least.eq(most - self.gap)",
           "least.eq(most)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "equal-logits-by-any-id", "hw/lm_head/best_list.py",
           "(one.logit == other.logit) & (one.id < other.id)",
           "(one.logit == other.logit) & (one.id > other.id)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "an-equal-logit-does-not-enter", "hw/lm_head/two_steps.py",
           "new11.logit.as_signed() >= last",
           "new11.logit.as_signed() > last", ("lm_head/two_steps-steps-full",)),
    Mutant("two-steps", "a-list-that-is-full-too-early", "hw/lm_head/best_list.py",
           "full.eq(self.held == TOP_ENTRIES)",
           "full.eq(self.held >= TOP_ENTRIES - 1)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "leader-in-a-batch-with-others", "hw/lm_head/two_steps.py",
           "with m.If(lonely):",
           "with m.If(lonely & (chosen_rows != 1)):", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "the-sign-of-a-code-is-lost", "hw/lm_head/low_rows.py",
           "Mux(negative, -code, code)",
           "Mux(negative, code, code)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "a-row-begins-with-the-one-before", "hw/lm_head/low_rows.py",
           "Mux(ends4, 0, total)",
           "total", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "row-of-another-address", "hw/lm_head/low_rows.py",
           "self.rows.payload * words)",
           "self.rows.payload * most)", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "bound-without-the-least-code", "hw/lm_head/low_rows.py",
           "size.eq(Mux(codes.code[-1], -codes.code, codes.code))",
           "size.eq(Mux(codes.code[-1], ~codes.code, codes.code))", ("lm_head/two_steps-steps.",)),
    Mutant("two-steps", "two-rows-of-a-word-at-once", "hw/lm_head/low_rows.py",
           "rests.eq(taken & ends & (words == 1))",
           "rests.eq(0)", ("lm_head/two_steps-steps.",)),
    # ------------------------------------------------------------------ core
    Mutant("core", "cycles-counted-twice", "hw/core/counters.py", "active & ~before", "active", ("core/counters",)),
    Mutant("core", "words-of-another-client", "hw/core/counters.py", 'strobes[f"{client}_words"] = self.moved[client]',
           'strobes[f"{client}_words"] = self.busy[client]', ("core/counters",)),
    Mutant("core", "embedding-row-of-the-neighbour", "hw/core/fetch.py", "block.eq(args.token >> 2)",
           "block.eq((args.token + 1) >> 2)", ("core/fetch",)),
    Mutant("core", "guard-forgets-a-burst", "hw/memory/guard.py",
           "owes.eq(owed + asked - passed)", "owes.eq(0)", ("memory/guard",)),
    Mutant("core", "layer-of-seven-bits", "hw/core/steps.py", "for i in reversed(range(LAYER_BITS)):",
           "for i in reversed(range(LAYER_BITS - 1)):", ("core/processor",)),
    Mutant("core", "carry-of-the-start-before", "hw/core/steps.py", "carry.eq(both[1] & ~self.start)", "carry.eq(both[1])",
           ("core/processor",)),
    Mutant("core", "scales-where-values-are", "hw/core/steps.py", 's = add("s", v, offset)', 's = add("s", v)',
           ("core/processor",)),
    Mutant("core", "caches-of-every-step", "hw/core/steps.py", "caches.start.eq((fetched == 2) & self._qkv)",
           "caches.start.eq(fetched == 2)", ("top/top-tiny",)),
    Mutant("core", "caches-of-every-wide-step", "hw/core/steps.py", "caches.start.eq(self._qkv)", "caches.start.eq(1)",
           ("top/top-wide-model",)),
    Mutant("core", "a-run-goes-on-where-it-was-stopped", "hw/core/steps.py",
           "            if self.wide:\n                m.d.sync += self._ahead.eq(0)\n            m.next = \"DRAIN\"",
           "            m.next = \"DRAIN\"", ("top/top-wide.stops_at_any_step",)),
    Mutant("core", "a-pass-goes-on-behind-the-program", "hw/core/steps.py",
           "                    if self.wide:\n                        m.d.sync += self._ahead.eq(0)\n", "",
           ("core/slots-four",)),
    Mutant("core", "a-step-whose-number-runs-ahead", "hw/core/steps.py",
           "self.step.eq(self._ahead), self._ahead.eq(self._ahead + 1)",
           "self.step.eq(self._ahead + 1), self._ahead.eq(self._ahead + 1)", ("core/slots-four",)),
    Mutant("core", "words-of-descriptors-in-one-memory", "hw/core/address_map.py", "to_program & (word_index[:word_bits] == i)",
           "to_program", ("top/top-wide-model",)),
    Mutant("core", "chunk-counted-a-token-short", "hw/core/processor.py",
           "plain: Value = (uncounted > limit) | (args.generate == 0)",
           "plain: Value = (uncounted >= limit) | (args.generate == 0)", ("top/top-chunk-grouped",)),
    Mutant("core", "pick-over-the-prompts-token", "hw/core/processor.py", "fed = fed & final & (args.generate != 0)",
           "fed = fed & (args.generate != 0)", ("top/top-all.picks_of_all_positions",)),
    Mutant("core", "head-without-its-weights", "hw/core/processor.py",
           "(args.generate == 0)\n                with m.If(plain & ~every if all_heads else plain):",
           "(args.generate == 0)\n                with m.If(plain):",
           ("top/top-all.picks_of_all_positions",)),
    Mutant("core", "rows-end-with-a-full-chunk", "hw/core/routers.py", "turn.eq(Mux(turn == self.last_token, 0, turn + 1))",
           "turn.eq(turn + 1)", ("core/routers-accs_all",)),
    Mutant("tlmm", "odd-rows-from-the-even-lanes", "hw/tlmm/drain.py", "position.eq(~odd if two_lanes else 0)", "position.eq(0)",
           ("tlmm/by_rows-rows2-lanes6.both_orders",)),
    Mutant("core", "next-chunk-begins-a-token-early", "hw/core/processor.py", "m.d.sync += position.eq(last + 1)",
           "m.d.sync += position.eq(last)", ("top/top-chunk-grouped",)),
    Mutant("attention", "heads-of-two-tokens-mixed", "hw/attention/merge.py", "m.d.sync += inside.eq(~self.o.p.last)",
           "m.d.sync += inside.eq(0)", ("attention/merge",)),
    Mutant("attention", "head-before-its-last-code", "hw/attention/pack.py", "self.o.valid.eq(labels.r_rdy)",
           "self.o.valid.eq(words.r_rdy)", ("attention/pack",)),
    Mutant("attention", "first-code-highest", "hw/attention/pack.py", "Cat(earlier, code)[8:]", "Cat(code, earlier)[:24]",
           ("attention/pack",)),
    Mutant("attention", "word-on-its-way-forgotten", "hw/attention/pack.py", "empty = [~skid.o.valid]", "empty = []",
           ("attention/pack",)),
    Mutant("core", "next-position-not-fed", "hw/core/processor.py", "steps.pick_states(address=next_position,",
           "steps.pick_states(address=position,", ("top/top-tiny",)),
    Mutant("core", "drawn-token-not-fed", "hw/core/steps.py", "cpu.tokens.wdata.eq(self._pick.id)",
           "cpu.tokens.wdata.eq(cpu.lm_head.best.id)", ("top/top-tiny",)),
    Mutant("core", "fourth-end-token-ignored", "hw/core/processor.py", "Cat(pick.id == end for end in ends).any()",
           "Cat(pick.id == end for end in ends[:3]).any()", ("top/top-tiny",)),
    Mutant("core", "read-meets-a-draw", "hw/core/address_map.py", "top_waits.eq(self.top_taken & (region == TOP_BASE >> 28))",
           "top_waits.eq(0)", ("top/top-tiny",)),
    # ------------------------------------------------------------------ several slots
    Mutant("core", "prompt-of-a-slot-that-ended", "hw/core/slots.py", "(entry != listed) & (prompts_r.data != slot)",
           "entry != listed", ("core/slots-four",)),
    Mutant("core", "all-lanes-to-a-prompt", "hw/core/slots.py",
           "most.eq(Mux(args.limit < lanes_left, args.limit, lanes_left))", "most.eq(lanes_left)", ("core/slots-four",)),
    Mutant("core", "prompt's-end-without-a-head", "hw/core/slots.py", "whole.eq(whole | (~decodes & every) | ends)",
           "whole.eq(whole | (~decodes & every))", ("core/slots-four",)),
    Mutant("core", "lone-token-counted-from-its-run", "hw/core/slots.py", "lone_end.eq(chunk + tokens)", "lone_end.eq(tokens)",
           ("core/slots-four",)),
    Mutant("core", "lone-token-beside-another", "hw/core/slots.py", "lone.eq(~some & (", "lone.eq((", ("core/slots-four",)),
    Mutant("core", "lone-token-of-many", "hw/core/slots.py", "(ends & ~every)))", "ends))", ("core/slots-four",)),
    Mutant("core", "lone-token's-pick-by-its-number", "hw/core/slots.py", "self.lm_head.number.eq(Mux(lone, 0, told))",
           "self.lm_head.number.eq(told)", ("core/slots-four",)),
    Mutant("core", "lone-token's-codes-to-each-stream", "hw/core/slots.py", "self.routes.for_lm_head.eq(of_one)",
           "self.routes.for_lm_head.eq(0)", ("core/slots-four",)),
    Mutant("core", "decodes-as-the-run-before", "hw/core/slots.py", "bit(active & ~fresh, slot) & decodes",
           "bit(active, slot) & decodes", ("core/slots-four",)),
    Mutant("core", "stop-of-the-run-before", "hw/core/slots.py", "bit(stops, given_slot).eq(0),", "", ("core/slots-four",)),
    Mutant("core", "tokens-after-a-run-miscounted", "hw/core/slots.py", "chunk - before - run.tokens", "chunk - run.tokens",
           ("core/slots-four",)),
    Mutant("core", "draws-by-the-latest-settings", "hw/core/slots.py", "self.draw_settings.eq(args.draw)",
           "self.draw_settings.eq(self.settings)", ("core/slots-four",)),
    Mutant("core", "pick-to-another-slot's-window", "hw/core/slots.py", "pick_states(address=next_address",
           "pick_states(address=next_position[:window_bits]", ("core/slots-four",)),
    Mutant("core", "one-slot-of-a-pass-made-anew", "hw/core/slots.py", "with m.If(alone & (end_run != made)):",
           "with m.If(alone & (end_run == 0)):", ("core/slots-four",)),
    Mutant("core", "infinity-stays", "hw/core/slots.py", "halted.eq(0), steps.nonfinite.eq(0),", "halted.eq(0),",
           ("core/slots-four",)),
    Mutant("core", "stopped-before-its-first-token", "hw/core/slots.py",
           "bit(fresh, slot) | (progress.position == args.position)", "bit(fresh, slot)", ("core/slots-four",)),
    Mutant("core", "logits-by-the-last-run's-flag", "hw/core/slots.py",
           "dumps.eq(dumps | ((args.flags & StartFlags.DUMP) != 0))", "dumps.eq((args.flags & StartFlags.DUMP) != 0)",
           ("core/slots-four",)),
    Mutant("weights", "pass-without-a-head-ends-untold", "hw/memory/weights.py", "(counts.lm_head | (counts.words64 == 0))",
           "counts.lm_head", ("weights/passes",)),
    Mutant("weights", "next-pass-told-over-this-one", "hw/memory/weights.py", "lm_heads.bit_select(at[:1], 1)",
           "lm_heads.bit_select(0, 1)", ("weights/passes",)),
    Mutant("link", "busy-with-another-slot", "hw/link/link.py",
           "runs = self.running.bit_select(slot[:(self._slots - 1).bit_length()], 1)", "runs = self.running.any()",
           ("link/slots-slots4",)),
    Mutant("link", "stop-of-all-slots", "hw/link/link.py", "self.run.slots.eq(Mux(stops_some, args, ~0))",
           "self.run.slots.eq(~0)", ("link/slots-slots4",)),
    Mutant("link", "start-of-no-slot", "hw/link/link.py", "no_slot.eq(slot >= self._slots)", "no_slot.eq(0)",
           ("link/slots-slots4",)),
    Mutant("top", "status-without-slots", "hw/core/routers.py", "m.d.comb += status.zeros.eq(state.slots)", "pass",
           ("top/slots-four.a_stop_counts_behind_the_pass",)),
    Mutant("top", "slots-draw-by-the-registers", "hw/top.py", "cpu.draw_settings if several else space.settings",
           "space.settings", ("top/slots-four.sequences_join_and_leave",)),
    # ------------------------------------------------------------------ link
    Mutant("link", "crc-not-checked", "hw/link/link.py", "damaged.eq(crc.crc != RESIDUE)", "damaged.eq(0)",
           ("link/link-windows5.bad_packets_are_answered_counted_and_not_acted_on",)),
    Mutant("link", "write-done-twice", "hw/link/link.py", "ONCE = (PacketType.WRITE, ", "ONCE = (",
           ("link/link-windows5.a_packet_is_done_once",)),
    Mutant("link", "start-done-twice", "hw/link/link.py", "ONCE = (PacketType.WRITE, PacketType.START, ",
           "ONCE = (PacketType.WRITE, ",
           ("link/link-windows5.a_packet_is_done_once",)),
    Mutant("link", "refused-seq-counts-as-done", "hw/link/link.py", "reason.eq(why), fresh.eq(0),", "reason.eq(why),",
           ("link/link-windows5.bad_packets_are_answered_counted_and_not_acted_on",)),
    Mutant("link", "ring-overwrites", "hw/link/events.py", "full.eq(held == EVENT_SLOTS)", "full.eq(0)",
           ("link/link-windows5.a_full_ring_stops_the_run_and_loses_nothing",)),
    Mutant("link", "session-goes-on-counting-events", "hw/link/events.py",
           "self.first.eq(0), self.next.eq(0), self.number.eq(0)]", "self.first.eq(self.next), self.number.eq(self.next)]",
           ("link/link-windows5.a_new_session_drops_events_and_begins_with_number_0",)),
    Mutant("link", "event-comes-while-one-is-named", "hw/link/events.py", "self.known.eq(remaining <= held_then)",
           "self.known.eq(remaining <= held)",
           ("link/link-windows5.events_are_judged_whole_while_one_comes",)),
    Mutant("link", "range-leaves-its-window", "hw/link/link.py", "Signal(offset_bits + 1)", "Signal(offset_bits)",
           ("link/link-windows5.bad_packets_are_answered_counted_and_not_acted_on",)),
    Mutant("link", "window-for-reads-is-written", "hw/link/link.py", "(Const(int(writable), 1) | ~is_write)", "1",
           ("link/link-windows5.bad_packets_are_answered_counted_and_not_acted_on",)),
    Mutant("link", "bad-packet-not-counted", "hw/link/link.py", ", self.errors.eq(self.errors + 1)]", "]",
           ("link/link-windows5.bad_packets_are_answered_counted_and_not_acted_on",)),
    Mutant("link", "crc-polynomial", "hw/link/crc32.py", "POLYNOMIAL = 0xEDB88320", "POLYNOMIAL = 0xEDB88321", ("link/link",)),
    Mutant("link", "uart-samples-at-the-edge", "hw/link/uart.py", "phase.eq(bit // 2)", "phase.eq(bit - 256)", ("link/uart",)),
    # ------------------------------------------------------------------ top
    Mutant("top", "heads-with-the-vector's-eps", "hw/core/steps.py",
           "n_eps = Mux(self._norms_heads, cpu.shape.head_n_eps, n_eps)", "pass", ("top/top-tiny.a_model_runs",)),
    Mutant("top", "heads-with-the-vector's-length", "hw/core/steps.py",
           "sqrt_n = Mux(self._norms_heads, cpu.shape.head_sqrt_n.as_value(), sqrt_n)", "pass", ("top/top-tiny.a_model_runs",)),
    Mutant("top", "k-begins-with-v", "hw/core/steps.py", "cpu.passes.args.q_rows.eq(cpu.sizes.q_dim)",
           "cpu.passes.args.q_rows.eq(cpu.sizes.qk_dim)", ("top/top-tiny.a_model_runs",)),
    Mutant("top", "position-not-wired", "hw/core/steps.py", "cpu.attention.args.position.eq(position)",
           "cpu.attention.args.position.eq(0)", ("top/top-tiny",)),
    Mutant("core", "codes-of-the-wrong-token", "hw/core/routers.py", "codes.valid & (~self.for_lm_head | (i == 0))",
           "codes.valid", ("core/routers-codes",)),
    Mutant("core", "sums-for-the-lm-head-to-no-unit", "hw/core/routers.py", "m.d.comb += first.ready.eq(self.lm_head.ready)",
           "pass", ("core/routers-accs",)),
    Mutant("core", "head-of-the-chunk's-first-token", "hw/core/routers.py", "m.d.sync += self.last_token.eq(chunk - 1)",
           "m.d.sync += self.last_token.eq(0)", ("core/routers-shares",)),
    Mutant("core", "pipelines-begin-one-by-one", "hw/core/routers.py", "unit.quant.valid.eq(asked & self.wanted[i])",
           "unit.quant.valid.eq(passes.quant.valid & self.wanted[i])", ("core/routers-passes",)),
    Mutant("core", "sums-to-the-first-pipeline", "hw/core/routers.py",
           "(self.source == source) & belongs(port.p.place.token, i, self._streams)", "(self.source == source) & (i == 0)",
           ("core/routers-accs",)),
    Mutant("top", "rope-row-of-another-token", "hw/top.py", "unit.rope_token.eq(fetch.number)", "unit.rope_token.eq(0)",
           ("top/top-chunk-grouped",)),
    Mutant("core", "drafts-behind-the-context", "hw/core/slots.py", "Mux(room < most, room, most)", "most", DRAFTS),
    Mutant("core", "drafts-beside-a-prompt", "hw/core/slots.py", "(listed == 0) & (self.drafting.most != 0)",
           "self.drafting.most != 0", DRAFTS),
    Mutant("core", "drafts-without-a-rest", "hw/core/slots.py",
           "barred.eq((progress.rest != 0) | ((args.flags & StartFlags.DUMP) != 0))",
           "barred.eq((args.flags & StartFlags.DUMP) != 0)", DRAFTS),
    Mutant("core", "drafts-beside-logits", "hw/core/slots.py",
           "barred.eq((progress.rest != 0) | ((args.flags & StartFlags.DUMP) != 0))", "barred.eq(progress.rest != 0)", DRAFTS),
    Mutant("core", "drafts-on-other-slots'-lanes", "hw/core/slots.py",
           "most.eq(Mux(self.drafting.most < lanes_left, self.drafting.most, lanes_left))", "most.eq(self.drafting.most)",
           DRAFTS),
    Mutant("core", "draft-of-the-pick-alone", "hw/core/slots.py", "fetch_position.eq(progress.position - 1)",
           "fetch_position.eq(progress.position)", DRAFTS),
    Mutant("core", "told-past-the-difference", "hw/core/slots.py", "with m.Elif((in_run != 1) & ~differs):",
           "with m.Elif(in_run != 1):", DRAFTS),
    Mutant("core", "picks-of-refused-drafts", "hw/core/slots.py", "told.eq(told + (in_run if drafts else 1))",
           "told.eq(told + 1)",
           DRAFTS),
    Mutant("core", "drafts-that-cost-nothing", "hw/core/slots.py", "credit.eq(credit - self.drafting.cost)", "credit.eq(credit)",
           DRAFTS),
    Mutant("core", "credit-without-a-bound", "hw/core/slots.py", "with m.Elif(credit > CREDIT_MOST):",
           "with m.Elif(credit > 2 * CREDIT_MOST):", DRAFTS),
    Mutant("core", "slot-that-a-drafted-infinity-ends", "hw/core/slots.py",
           "~is_last_run | (decoded & (run.tokens != 1)) if drafts else ~is_last_run", "~is_last_run", DRAFTS),
    Mutant("core", "drafts-in-a-pass-made-anew", "hw/core/slots.py", "tokens = Mux(alone & decoded, 1, run.tokens)",
           "tokens = run.tokens", DRAFTS),
    Mutant("core", "cycles-of-each-event", "hw/core/slots.py", "event.cycles.eq(cycles)",
           "event.cycles.eq(self.counters.totals.cycles)", DRAFTS),
    Mutant("core", "draft-of-any-pair", "hw/core/drafts.py", "with m.If(entry.before == before):",
           "with m.If(entry.before != NONE):", ("core/drafts-small.drafts",)),
    Mutant("core", "no-draft-told-as-a-token", "hw/core/drafts.py", "found.found.eq(found.next != NONE)", "found.found.eq(1)",
           ("core/drafts-small.drafts",)),
    Mutant("core", "list-of-a-first-token", "hw/core/drafts.py", "with m.If(known & (left != 0)):", "with m.If(left != 0):",
           ("core/drafts-small.drafts",)),
    # ------------------------------------------------------------------ norms behind linears
    fused("norm-codes-of-eight-bits", "pipeline", "quantise.i.p.wide.eq(quant.wide)", "quantise.i.p.wide.eq(0)", "norms-dim128"),
    fused("codes-read-where-elements-are-measured", "pipeline", "coded.open & ~measured", "coded.open", "norms-dim128"),
    fused("codes-of-a-by-the-scale-of-x", "pipeline", "Cat(mul_tag.token, quant.src_a) if norms else mul_tag.token",
          "mul_tag.token", "norms-dim128"),
    fused("heads-scaled-as-vectors", "pipeline", "with m.If(self.codes.valid & self.codes.ready):", "with m.If(Const(0, 1)):",
          "norms-dim128"),
    fused("heads-cut-into-slices", "pipeline", "((in_slice == SLICE - 1) & ~quant.wide) | end", "(in_slice == SLICE - 1) | end",
          "norms-tokens3"),
    fused("rows-of-k-numbered-as-q's", "pipeline", "self.acc.p.place.index + args.first_row", "self.acc.p.place.index",
          "norms-dim128"),
    fused("unshifted-product-saturates", "arithmetic", "down1 < 0 if more else down1 <= 0", "down1 <= 0",
          "convert-codes-binary16"),
    fused("wide-code-one-too-large", "arithmetic", "Mux(wide3, (128 << more) - 1, 127)", "Mux(wide3, 128 << more, 127)",
          "convert-codes-binary16"),
    fused("codes-of-the-chunk's-first-tokens", "code_sums", "Cat(Const(self._number, self._shift), own)", "own", "norms-tokens3"),
    fused("codes-of-a-token-one-too-many", "code_sums", "with m.If(index + 1 == self.length):",
          "with m.If(index == self.length):", "norms-tokens3"),
    Mutant("core", "norm's-codes-to-the-engine", "hw/core/routers.py", "[engine.valid.eq(0), codes.ready.eq(back.ready)]",
           "codes.ready.eq(back.ready)", ("core/routers-codes_norms",)),
    Mutant("core", "engine's-sums-beside-codes", "hw/core/routers.py", "from_engine = from_engine & ~self.from_codes", "pass",
           ("core/routers-accs_norms",)),
    Mutant("top", "attention-begins-with-each-part", "hw/core/steps.py",
           " & ((w0.part == QkvPart.WHOLE) | (w0.part == QkvPart.Q))", "", ("top/top-chunk-norms.prompts_in_chunks",)),
    Mutant("top", "x-quantised-by-the-scale-of-q", "hw/core/steps.py",
           "(op == Op.LINEAR) & ((w0.part == QkvPart.K) | (w0.part == QkvPart.V))", "0", ("top/top-tiny.norms_behind_linears",)),
    Mutant("top", "v-numbered-as-k", "hw/core/steps.py", "cpu.passes.args.first_row.eq(cpu.sizes.qk_dim)",
           "cpu.passes.args.first_row.eq(cpu.sizes.q_dim)", ("top/top-tiny.norms_behind_linears",)),
    Mutant("top", "linear-ahead-of-a-norm-stores-in-x", "hw/core/steps.py", "cpu.passes.args.dest_a.eq(1) if self._norms else []",
           "[]", ("top/top-tiny.norms_behind_linears",)),
    Mutant("top", "status-of-another-step", "hw/core/steps.py", "cpu.crc.step.eq(self.step)",
           "cpu.crc.step.eq(self.step + 1)",
           ("top/top-tiny",)),
)


def copy_checkout(tree: Path, *, compiled: bool = False) -> None:
    """What runs of testbenches need, into an empty folder; ``compiled``: with Python's compiled files."""
    ignored = ["*.egg-info", *([] if compiled else ["__pycache__"])]
    for part in PARTS:
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns(*ignored))
    # Verilator's runtime library does not depend on the gateware, so it is shared.
    (tree / "build" / "tests").mkdir(parents=True)
    objects = build_folder() / "objects"
    objects.mkdir(exist_ok=True)
    (tree / "build" / "tests" / "objects").symlink_to(objects)


def bench_command(benches: Iterable[str]) -> list[str]:
    """The command that runs the benches with these substrings in a copy of the checkout."""
    return [sys.executable, "-m", "sim.run_tests", "--seed", SEED, "--jobs", "1", "--nightly",
            *(part for bench in benches for part in ("-k", bench))]


def environment(tree: Path) -> dict[str, str]:
    """In which the copy's own modules are found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree), str(tree / "sw")])}


def failures(output: str) -> list[str]:
    """Cases that failed, of sim.run_tests' output."""
    return [line.split()[1] for line in output.splitlines() if line.startswith("FAIL ")]


def run(mutant: Mutant, scratch: Path) -> tuple[bool, str]:
    """(killed, the failing case or the benches) of one fault in a copy of the checkout."""
    tree = Path(tempfile.mkdtemp(prefix=f"{mutant.unit}-", dir=scratch))
    try:
        copy_checkout(tree)
        mutant.apply(tree)
        done = subprocess.run(bench_command(mutant.benches), cwd=tree, env=environment(tree), capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise MutantError(f"{mutant.unit} {mutant.fault}: sim.run_tests ended with {done.returncode}:\n{done.stderr[-2000:]}")
        failed = failures(done.stdout)
        # A fault that does not build would prove nothing about the tests.
        if any(name.endswith(".(build)") for name in failed):
            raise MutantError(f"{mutant.unit} {mutant.fault} does not build:\n{done.stdout[-2000:]}")
        return bool(failed), failed[0] if failed else ",".join(mutant.benches)
    finally:
        shutil.rmtree(tree)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--ci", action="store_true", help="only the few that CI runs")
    parser.add_argument("-k", metavar="SUBSTRING", default="", help="only faults whose unit or name holds it")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args(argv)
    chosen = [m for m in MUTANTS if (m.ci or not args.ci) and args.k in f"{m.unit} {m.fault}"]
    if not chosen:
        print(f"no fault matches {args.k!r}; --list shows all", file=sys.stderr)
        return 2
    if args.list:
        for mutant in chosen:
            print(mutant.unit, mutant.fault)
        return 0
    began = time.monotonic()
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="tellme-mutants-") as scratch, ThreadPoolExecutor(args.jobs) as pool:
        try:
            for mutant, (killed, test) in zip(chosen, pool.map(lambda m: run(m, Path(scratch)), chosen), strict=True):
                print("KILLED" if killed else "SURVIVED", mutant.unit, mutant.fault, test, flush=True)
                survivors += not killed
        except MutantError as error:
            pool.shutdown(cancel_futures=True)
            print(error, file=sys.stderr)
            return 2
    print(f"{len(chosen) - survivors} killed, {survivors} survived, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
