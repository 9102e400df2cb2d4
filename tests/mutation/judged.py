# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Survivors that a person looked at: equivalent, with the reason; or a gap of the benches, with what is missing.

An entry whose mutant is no longer in the sources, or was killed since, is an error (:func:`tests.mutation.record.judgements`).
``python -m tests.mutation --show KEY`` shows a mutant in its place.
"""

from dataclasses import dataclass

__all__ = ["JUDGED", "Judgement"]


@dataclass(frozen=True)
class Judgement:
    """``key`` names the mutant; ``mutant`` says the same to a reader; ``verdict`` is ``equivalent`` or ``gap``."""

    key: str
    mutant: str
    verdict: str
    reason: str


JUDGED: tuple[Judgement, ...] = (
    Judgement("24c1f8686a8b", "attention/pe_column QueryPe: the port sum has a bit more", "equivalent",
              "The port is given old[:sum_bits], so that the bit more is 0. QueryColumn alone has QueryPe, and puts the OR of "
              "the sums into came.sum, which has sum_bits."),
    Judgement("0f5689de7581", "tlmm/engine TlmmEngine: last_slice is 1 after reset", "equivalent",
              "SLICE, MULTIPLIERS and STEPS read last_slice, and TILE, which comes before them, writes it. Before the first TILE "
              "go is 0, and so is grouped, with which ends_plane is read."),
    Judgement("2133df21b2f6", "fused/pipeline FusedPipeline: is_qkv is 1 after reset", "equivalent",
              "is_qkv is 0 from the second cycle on, by args. In the first nothing has arrived yet: arrived and acc.valid are 0, "
              "so turn_valid, begins, to_act and turned.sent are 0 either way, to_add is used with raw_valid, which is 0, and "
              "quiet is 1 either way, because put is 0 and both queues are empty."),
    Judgement("dfa25a295d19", "lib/floats round_float: lsb2 < 2 for lsb2 < 1", "equivalent",
              "Where lsb2 is 1 the other arm gives lsb2, which is 1. Proven by python -m tests.mutation.prove dfa25a295d19, for "
              "fused/convert-dequantise-acc25."),
    Judgement("f16e0bf8f89d", "lib/layouts Layouts: head_n_eps has a bit more", "equivalent",
              "It comes from a register of the host's with 32 bits, so that the bit more is 0. core/steps alone reads it, into "
              "args.n_eps, which has 32 bits."),
    Judgement("2d92225c9c5f", "tlmm/pairs PairDot: built is 1 after reset", "equivalent",
              "take alone reads built, and only where whole is set; whole is 0 after reset, and is written with built."),
    Judgement("d4b35093e664", "memory/sdr/bringup SdramBringUp: best_at is 1 after reset", "equivalent",
              "CHOOSE alone reads best_at, into target. Where best is 0 there, the state goes to STEP, and CHOOSE writes target "
              "again before anything reads it. Where best is not 0, COMPARE has written best_at with it."),
    Judgement("d498c7c581cc", "attention/sum_walk SumOut: first_sum has a bit more", "equivalent",
              "first_sum is given 0 and 1 alone. load reads it inverted, and ANDs it with landing.o.valid, which has one bit; "
              "m.If reads it as not 0."),
    Judgement("c0f1d8fbfc87", "memory/share Share.turns: i <= n - 1 for i < n - 1", "equivalent",
              "The last client has a Case(n - 1) in the place of the Default. turn is 0 to n - 1: owner is 0 after reset, and "
              "is given turn alone."),
    Judgement("4981a013c6bb", "tlmm/study/groups Shape.index_bits: * 2 for // 2", "equivalent",
              "Addresses of a folded table have two bits more, in the entries, in the build and in the memory alike, so that the "
              "values are the same; the memory is four times as deep. make dse, which counts cells, would tell."),
)
