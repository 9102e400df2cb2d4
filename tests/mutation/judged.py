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
    Judgement("986da9dc097d", "attention/decode DecodeAttention: words has a bit more", "equivalent",
              "words is shape.head_dim >> 2, which has two bits less than head_dim_bits; these are the bits of range(head_dim /"
              " 4 + 1), so that the bit more is 0."),
    Judgement("cf3d4528fb99", "attention/scatter ChunkHeads: a table for groups that are powers of two, too", "equivalent",
              "q_kv is read for query heads alone, and these are below shape.heads, which is widths.heads at most "
              "(check_shape). For such a head the table's entry, head // group, is the head shifted right. The table takes more"
              " LUTs."),
    Judgement("1e40c2e79827", "attention/softmax SoftmaxUnit: the queue of weights has room for a key more", "equivalent",
              "SoftmaxTurns asks for no more than AHEAD keys beyond the rows that began, of turns weights at most each, and one"
              " more key is being taken. So at most (AHEAD + 1) * turns weights are in the queue, and both counters go around "
              "their room alike. The memory is larger."),
    Judgement("6f8005b7c563", "attention/word_reader word_flags: k has a bit more", "equivalent",
              "k is given accepted & phase.k, which has one bit, so that the bit more is 0. PeColumn and QueryPe read k in "
              "m.If, in a Mux's condition, and ANDed with row_end, which has one bit."),
    Judgement("2464284e4e02", "lm_head/lm_head LmHead: at is 1 after reset", "equivalent",
              "INSERT alone uses at. LOW, where the state is after reset, writes at in each cycle, and INSERT comes behind LOW "
              "and HIGH alone."),
    Judgement("b743be9f6f3c", "lm_head/lm_head LmHead: eating is 1 after reset", "equivalent",
              "ROWS alone reads eating. The state after reset is IDLE, and eating is written in each cycle: from the second "
              "cycle on it follows the queue's level."),
    Judgement("7920b6eeb62e", "lm_head/logit logit_stages: < -top_value for < -top_value - 1", "equivalent",
              "Where value8 is -top_value - 1 both arms give -top_value - 1. Proven by python -m tests.mutation.prove "
              "7920b6eeb62e, for lm_head/lm_head-longest and lm_head/two_steps-steps."),
    Judgement("7342a153fc2b", "lm_head/low_rows LowRows: a start leaves number as it is", "equivalent",
              "number is 0 behind a row's last word. TwoStepLmHead starts a pass when it is idle, and a pass ends only when the"
              " sums of all rows that it asked for are there (results == chosen_rows), so that no row is in parts at a start."),
    Judgement("0c52f520ce5d", "lm_head/two_steps TwoStepLmHead: hi has a bit less", "equivalent",
              "The sum of the upper planes is 128 * dim * (3**(planes - 1) - 1) / 2 in size at most, and three times of it is "
              "below the size that logit_sum_bits is made for. So it is below 2**(logit_sum_bits - 2), and a bit less holds it."),
    Judgement("0058157e4d86", "lm_head/two_steps TwoStepLmHead: counts a cycle late", "equivalent",
              "counts lets least follow most - gap in ROWS and WAIT. Late, least rests in their first cycle and is written once"
              " more in the cycle behind them. In that cycle most has stood still: ROWS ends when coming_rows is 0, WAIT four "
              "cycles behind the batch's last logit. In the first cycle nothing reads least: a row's low bound comes LATENCY "
              "cycles behind the row, and rows come in ROWS alone; LOOK reads least behind four cycles of WAIT or more, or "
              "behind ROWS."),
    Judgement("ef42c63e0c82", "attention/row_places RowPlaces: slot_at has a bit less", "equivalent",
              "slot_at is below slots * context * head_dim / 4, the words of one KV head's K rows in all slots. The V rows have"
              " as many, and both lie in the memory: the compiler refuses an image whose cache ends beyond sdram_bytes. So "
              "slot_at is below half of the memory's words."),
    Judgement("7056ae0f6366", "attention/scan Scan: weight.on has a bit more", "equivalent",
              "weight.on is given on_h, which has one bit, so that the bit more is 0. DecodeAttention alone reads it, as the "
              "condition of a Mux and ANDed with a bit."),
    Judgement("425339835deb", "attention/scan Scan: te_f >= exponent for te_f > exponent", "equivalent",
              "Where both are equal and seen is set, exponent is given the value that it has, and seen is given 1."),
    Judgement("508423957cde", "attention/slot_sequence SlotSequence: numbers of keys have a bit more", "equivalent",
              "keys_all comes from a register of (context - 1).bit_length() + 1 bits and is context at most; keys is keys_all "
              "less the tokens behind a slot's first one, of which there are fewer. So the bit more is 0 while busy is high, "
              "and phases and requests come then alone."),
    Judgement("352fa09b3b50", "lm_head/best_list BestList: by_id is set where nobody says", "equivalent",
              "ChunkLmHead alone does not say. Candidates of a token come through one queue with rising ids, so that a new id "
              "is above those of the list's entries, and is below none. The id of last is not given and 0 there. So of equal "
              "logits the later entry is not the better one, as without by_id."),
    Judgement("01e85569ad87", "lm_head/lm_head LmHead: taken has a bit more", "equivalent",
              "taken is given the AND of two bits, so that the bit more is 0. Its delayed copy alone is read, into the queue's "
              "w_en."),
    Judgement("ae477a6b9b34", "lm_head/logit logit_stages: the shifters of compact and of others swapped", "equivalent",
              "Both shifters have three registers behind total6, and are the same function: with the registers left out, "
              "yosys's sat proves the results equal for each total6 and each down5, of sums of 18 (the shortest that a core "
              "has), 28 and 29 bits. Clock and LUTs differ, which no bench sees."),
    Judgement("b04f000246e4", "lm_head/two_steps TwoStepLmHead: room has a bit more", "equivalent",
              "room is given free != 0, so that the bit more is 0. It is read in two ANDs with a signal of one bit, which is 0 "
              "in the upper place: came has room with sums.valid, and the step to LEADER has ~room with coming_rows == 0."),
    Judgement("e9863f343cc6", "sampling/sampler Sampler: the table's memory has 64 words more", "equivalent",
              "Addresses are below 512 in the table, and 512 with a bit of high and six of index behind it, so 639 at most. "
              "Nothing reads or writes the words from 640 on."),
    Judgement("b8b35e4ffbfa", "attention/score_path ScorePath: top is 1 after reset", "equivalent",
              "clear, which DecodeSequence sets in ASK-S before each KV head's first score, writes top. Before that nothing "
              "reads top: Scan reads it in its scans, which come behind ASK-S, and a score is compared with it."),
    Judgement("d1002186f4f4", "lm_head/lm_head LmHead: smaller is 1 after reset", "equivalent",
              "INSERT alone reads smaller. HIGH, behind which alone INSERT comes, writes it."),
    Judgement("8ca6a4682432", "sampling/threefry Threefry: value has a bit more", "equivalent",
              "value is given x0, which has 32 bits, so that the bit more is 0. Sampler alone reads value, into factor, which "
              "has 32 bits."),
    Judgement("6914644facee", "attention/softmax SoftmaxUnit: diff has 18 bits", "equivalent",
              "top is the largest score of the PE's seen keys, of 18 bits with a sign, so that a seen key's diff is 0 to 2**18 "
              "- 1, which 18 bits hold. Of a key that is not seen power_f is 0 and far_g is 1, whatever its diff is."),
    Judgement("0c03fac1a92e", "attention/prefill PrefillAttention: rows of twice the words", "equivalent",
              "Counters of words, addresses and dots have a bit more, which is 0, and memories are twice as deep. Each counter "
              "of words goes back to 0 at a row's end by comparison with words; none by its width but OwnRows' at, which is "
              "written 0 with its row's last word, before it is read again."),
    Judgement("7e4fb0363173", "attention/prefill PrefillAttention: busy has a bit more", "equivalent",
              "busy is given sequence.busy, which has one bit, so that the bit more is 0. The core alone reads it, into the "
              "accounts' port of one bit."),
    Judgement("f797c3b1fced", "attention/prefill PrefillAttention: SumWalk is not told that sums walk", "equivalent",
              "drain.on falls two cycles behind the slot's last sum, and not when the sum has left the column. The sum then "
              "meets PEs of later turns alone. These have no pair of the slot: K's words have set their weight to 0, nobody "
              "took another one, and the first V row wrote 0 to all their sums, so that they show 0. SumWalk is idle when out "
              "is, which counts sums from the cycle in which they set out, so that no cycle changes either."),
    Judgement("df6e807a0fe5", "attention/softmax SoftmaxUnit: exp2_data has a bit more", "equivalent",
              "PrefillAttention gives it the table's word of 17 bits, so that the bit more is 0. Shifts, products and sums of "
              "it are wider by zeros alone."),
    Judgement("a53a594e77d7", "attention/scatter ChunkHeads: left has a bit more", "equivalent",
              "PrefillAttention gives it RowPlaces' left of token_count_bits, so that the bit more is 0. It is a burst's length"
              " and is added to run_ends."),
    Judgement("6bfecc754026", "lm_head/two_steps TwoStepLmHead: a pass may end when the list rests or its queue is empty",
              "equivalent",
              "SETTLE looks when settled is 3, three cycles behind the last logit's way into listed. From two cycles behind a "
              "write on listed.r_rdy is low only if listed.level is 0. The entry in work stays in listed until the list takes "
              "it, so that the list rests when listed.level is 0. So each of the two conditions is the same as listed.level == "
              "0."),
    Judgement("6acb9405be2c", "attention/decode_sequence DecodeSequence: pause is 1 after reset", "equivalent",
              "K, SETTLE, V and SCALE read pause. ASK-K, which comes before them in each KV head, writes it 0."),
    Judgement("8bd8ec55606b", "attention/merge HeadMerge: free has a bit more", "equivalent",
              "free is given an expression of one bit, so that the bit more is 0. m.If alone reads it, as not 0."),
    Judgement("33bcecf359a5", "attention/score_path ScorePath: turn goes on when nothing has a turn", "equivalent",
              "turning is 0 then, and is given 0. What turn chooses counts for nothing then: score.on is turning, delayed, and "
              "prepare has its own factor. dot_done writes turn 0 with turning 1."),
    Judgement("43ef0038ad8d", "attention/slot_sequence SlotSequence: settled is 1 after reset", "equivalent",
              "settled is written in each cycle, and is 0 from the second one on until phase.v is set. It is read with to_ask, "
              "which is 0 in the first cycle."),
    Judgement("8fb51f29de78", "attention/decode_sequence DecodeSequence: clear has a bit more", "equivalent",
              "clear is given the constant 1 and is 0 otherwise, so that the bit more is 0. DecodeAttention alone reads it, "
              "into two ports of one bit."),
    Judgement("ebb682669dcd", "lm_head/two_steps TwoStepLmHead: row_read has a bit more", "equivalent",
              "row_read is given the ready of low_rows.rows, which has one bit, so that the bit more is 0. The core alone reads"
              " it, into a counter's strobe of one bit."),
    Judgement("aa02d0645bd8", "lm_head/two_steps TwoStepLmHead: most has a bit more", "equivalent",
              "most is given logit10 alone, signed, of 32 bits, so that the bit more is a copy of the sign. It is read in "
              "comparisons of signed numbers and in most - gap."),
    Judgement("2332ae178725", "attention/scatter ChunkHeads: own a cycle late", "equivalent",
              "All fields of own are late by the same cycle. Rows are read from a run's phase of scales on, which waits for "
              "idle. Behind the last word of the last K or V head come its KV head's scales, with a request and a word at "
              "least, before idle."),
    Judgement("ec81dd932e4e", "core/fetch RowFetch: rope_product is 1 after reset", "equivalent",
              "rope_product is given position * pairs in each cycle. ADD alone reads rope_product, two cycles behind IDLE, "
              "where position and pairs were given. So what ADD reads is never the value after reset."),
    Judgement("122833e47be3", "core/routers StatusWords: the port running has a bit more", "equivalent",
              "The port is given state.running, which has one bit, so that the bit more is 0. The core gives the port to "
              "link.running of one bit; nothing else but status.flags.running, of one bit, reads it."),
    Judgement("f4d36b7db9e9", "core/routers TokenShares: the port chunk has a bit more", "equivalent",
              "The core gives the port routes.chunk, which has token_count_bits, so that the bit more is 0. own and "
              "last_token have the widths that they had, and their sums are the same modulo these."),
    Judgement("f043343ff4e3", "core/slots SlotProcessor: given_slot has a bit more", "equivalent",
              "The link refuses a START of a slot that the core does not have (no_slot), and slots is a power of two, so "
              "that the bit more is 0 in each START."),
    Judgement("f10f5ced8b3c", "fused/activation Gate: a bit more of 1 - sigmoid", "equivalent",
              "one - positive is never negative, so that the bit more, the sign, is 0: positive is 2**18 where big3 is set. "
              "Elsewhere positive is base3 + more3, which is 262143 at most over all entries of sigmoid_rom and all low "
              "bits."),
    Judgement("ee493f29bdf5", "fused/arithmetic FloatAdd: the 1 that is shifted for mask has a bit less", "equivalent",
              "Proven by python -m tests.mutation.prove ee493f29bdf5, for both formats. Amaranth's << gives as many bits as "
              "the longest shift needs."),
    Judgement("90d89cc38582", "fused/arithmetic Dequantise: HALF = 17", "equivalent",
              "size1 is split at bit 17 for bit 18, and the high product is moved up by as much, so that the sum is the "
              "same product of size1 and sig1, in the same cycle. Only the operands' widths of the two multipliers are "
              "others."),
    Judgement("1b9d42084992", "lib/layouts Layouts: the program's address is 1 where nothing gives one", "equivalent",
              "A processor with wide_program gives the address in each cycle. Another one gives the address in DESCRIPTOR, "
              "and takes a word only there, where the cycle before gave the address too (fetched is not 0). AddressSpace is "
              "given the address by the processor."),
    Judgement("891c8bc72e73", "core/steps Steps: number is 1 after reset", "equivalent",
              "PASS-START writes number 0. The row fetch and attention (row_place) take number with fetch.start alone, in "
              "FETCH, behind PASS-START, and FETCHING comes behind FETCH."),
    Judgement("3afdf89503d5", "core/slots SlotProcessor: most is 1 after reset", "equivalent",
              "FIT and TAKE read most behind LOOK, which writes it. DRAFTS writes most in each cycle, and reads quota, "
              "which follows from most, once ready is set: that is four cycles behind go_to, with which DRAFTS begins."),
    Judgement("220375f1320b", "lib/layouts Layouts: the address of a token is 1 where nothing gives one", "equivalent",
              "AddressSpace alone is given the address, and looks at it where read or write is set. A processor gives the "
              "address in each state in which it sets read or write."),
    Judgement("f36835f9c5c7", "lib/floats round_float: lsb, and with it below, has a bit more", "equivalent",
              "exp1 - count1 + (width - kept) + 1 fits the bits that lsb has, because count1 and width - kept have fewer "
              "bits than exp1 in each unit. So the bit more repeats the sign, in lsb and in below, whose sign is below[-1]. "
              "lsb2 is compared as a signed number, and of below and lsb2 no more than lower bits are taken."),
    Judgement("d17be51f6d01", "link/framing FrameSender: a byte more of depth", "equivalent",
              "The longest body that the link sends is that of DATA, DATA_MAX + 6 bytes, which is less than 2048. length "
              "and at have twelve bits either way, so that the same bytes lie at the same places, and the memory has a byte "
              "more that is never written."),
    Judgement("d10c5031e6d7", "core/routers PassRouter: the port for_lm_head has a bit more", "equivalent",
              "The core gives the port routes.for_lm_head, which has one bit, so that the bit more is 0. The router takes "
              "for_lm_head as a Mux's condition alone."),
    Judgement("520ce0a7720e", "fused/activation Gate: amount has a bit more", "equivalent",
              "From 0 to FIXED_BITS down is amount either way, and above that amount is FIXED_BITS + 1. Below 0 amount "
              "differs, and with it fixed1, from which base3 and more3 come. Then big3 is set, and positive is one without "
              "them."),
    Judgement("a93873f30e12", "fused/pipeline FusedPipeline: counts has a bit more", "equivalent",
              "counts is given sum_counts, which has one bit, so that the bit more is 0. A Mux takes counts as its "
              "condition alone."),
    Judgement("a48316218d26", "fused/activation Gate: exponent has a bit less", "equivalent",
              "exponent lies between -700 and 700 in both formats, and 14 or more bits are left. In round_float the numbers "
              "that follow from exponent have a bit less too, and hold the same values."),
    Judgement("e378ea0cd56a", "fused/scales AbsmaxScale: d is 0 after reset", "equivalent",
              "Nothing takes d but with done, or with done delayed as d is: d_write.en and head_quantise.d_done. done needs "
              "a start behind the reset, as a reset lasts longer than LATENCY, and d is written in the cycle before done."),
    Judgement("8ef9958529cf", "fused/statistics Statistics: the port sumsq has a bit more", "equivalent",
              "The port is given Cat(low, high), which has SUMSQ_BITS, so that the bit more is 0. The pipeline alone has "
              "Statistics, and gives sumsq to inverse_rms.sumsq, which has SUMSQ_BITS."),
    Judgement("0af589850ea5", "core/processor CommandProcessor: last has a bit more", "equivalent",
              "TOKEN-DONE alone reads last, and gives last or last + 1 to position, which has position_bits. Modulo these "
              "both sums are the same."),
    Judgement("a2e36e02dd14", "core/slots SlotProcessor: given_chunk >= w.chunk for given_chunk > w.chunk", "equivalent",
              "Where given_chunk is w.chunk, the other arm of the Mux gives w.chunk too."),
    Judgement("b2d54c2443e3", "fused/arithmetic Quantise: value has a bit less", "equivalent",
              "The bit that is left out is moved[9 + more], and where that bit is set big is set too. Then beyond is set, "
              "whatever value3 is. rounded has the bits that are left, and up3 takes value[0] alone."),
    Judgement("8e2f03bc3a78", "lib/layouts Layouts: the program's address has four bits more with wide_program", "equivalent",
              "The processor gives the address _ahead, which has step_bits, so that the bits more are 0. AddressSpace takes "
              "the address for memories of that depth, which leaves these bits out."),
    Judgement("149bfa787933", "lib/control CountersControl: running has a bit more", "equivalent",
              "Both processors give running one bit, so that the bit more is 0. Counters takes running as an m.Elif's "
              "condition alone."),
    Judgement("9bd2df7ed975", "core/slots SlotProcessor: the port open has a bit more", "equivalent",
              "The port is given the inverse of any(), which has one bit, so that the bit more is 0. The core ANDs the port "
              "with space.idle, which has one bit."),
    Judgement("90bb203f3665", "lib/floats round_float: a place more for what is below all subnormals", "equivalent",
              "body and mask have kept + 2 bits. A shift of kept + 2 and one of kept + 3 both leave no bit of body, and all "
              "bits of mask. kept is 11 or 16, and moves has room for 14 or 19."),
    Judgement("e7cae6598aad", "core/fetch RowFetch: token has a bit less", "equivalent",
              "token[0] and token[1] alone are read. token_id_bits is 4 or more, because max_vocab is 8 or more, so that "
              "token has them. block is taken from args.token."),
    Judgement("ce81bc6867dd", "fused/head_quantise HeadQuantise: top has two bits more", "equivalent",
              "top is given 0 and largest, which is size, of fmt.width - 1 bits, or top. So the bits more stay 0, and peaks "
              "has fmt.width - 1 bits."),
    Judgement("1c8473e314d8", "fused/vectors Vectors: with one token the ports of its number have no bit", "equivalent",
              "For two tokens or more nothing changes. For one token elaborate reads write_token and read_token nowhere, "
              "because the addresses have them with self._tokens > 1 alone."),
    Judgement("4c0f5975a39f", "core/slots SlotProcessor: generates is 1 after reset", "equivalent",
              "generates is written in every cycle, so that it is 1 in the first cycle alone. That cycle's state is IDLE, "
              "and COUNT, WANTED, POSITION, PICK, EVENT and KEEP alone read generates."),
    Judgement("03a027f4b893", "core/slots SlotProcessor: draws comes a cycle earlier", "equivalent",
              "draws follows slot and the slot's arguments, and no START writes those of a slot that runs. CONTEXT, PICK, "
              "EVENT and DONE alone want draws or pick, in at_end and differs too. Before CONTEXT comes TELL-RUN, which "
              "waits for ready, and before DONE come ENDING and REMOVE, so that slot has stood for more than a cycle either "
              "way."),
    Judgement("1aa18e134c9d", "fused/pipeline FusedPipeline: is_act is 1 after reset", "equivalent",
              "is_act comes from args from the second cycle on. In the first cycle nothing has arrived yet: raw_valid and "
              "arrived are 0, so that to_act and entry_valid become 0 either way. Nothing else reads is_act or to_add."),
    Judgement("4ad94492aa8c", "link/link HostLink: answer_seq is 1 after reset", "equivalent",
              "ANSWER alone reads answer_seq. ANSWER comes behind EVENT or behind JUDGE, and both write answer_seq."),
    Judgement("8afa0a25d1fd", "fused/pipeline FusedPipeline: slice_first is 1 after reset", "equivalent",
              "slice_first is read with feeding alone, for which more has to be 1. more is 0 after reset, and what sets "
              "more sets slice_first to 0."),
    Judgement("b3aa4bfd5ad4", "core/fetch RowFetch: block has a bit more", "equivalent",
              "block is given args.token >> 2, which has token_id_bits - 2 bits, so that the bit more is 0. product takes "
              "block * block_words, whose value is the same."),
    Judgement("f11504f97950", "link/link HostLink: wants_word has a bit more", "equivalent",
              "wants_word is given 0, 1 and a comparison, so that the bit more is 0. bus_rdata.ready alone takes "
              "wants_word, and has one bit."),
    Judgement("2f98203df5c2", "core/slots SlotProcessor: slot_place comes a cycle earlier", "equivalent",
              "slot_place follows slot. Attention and fetch.start alone want slot_place: from RUN-STARTS or TOKEN on, which "
              "wait for ready, so that slot has stood for more than a cycle, and until attention is no longer busy. Only "
              "then does go_to lead to another slot."),
    Judgement("dbe0ec2538dc", "fused/head_quantise HeadQuantise: the registers of peaks have two bits more", "equivalent",
              "They are given largest, which has fmt.width - 1 bits, so that the bits more are 0. absmax alone takes peaks, "
              "and has fmt.width - 1 bits."),
    Judgement("43df295b5600", "memory/ddr3/training Ddr3Training: the comparison's registers left out", "equivalent",
              "A word is compared a cycle earlier, and good alone is written by it. Words arrive in READING alone: a probe's "
              "READ is asked for in READ, and the controller gives no rvalid once done is high. The state behind READING is "
              "held for QUIET cycles before it reads good, and good is set to all ones in RESUME, ahead of the probe."),
    Judgement("5597b356fb00", "memory/sdr/controller SdramController: refreshing has a bit more", "equivalent",
              "It is given self.ready & plan.hold, which has one bit, so that the bit more is 0. The core hands it to the "
              "inputs refresh of CycleAccount and Counters, which have one bit."),
    Judgement("7f510f99726e", "memory/weights WeightBuffer: last is 1 after reset", "equivalent",
              "last is written each cycle from remaining, which is 0 after reset, so that last is 1 from the second cycle on "
              "either way. ASK alone reads last, and the list is in IDLE in the first cycle."),
    Judgement("ded43fd46715", "tlmm/carry AddOf: c has a bit more", "equivalent",
              "Port C of tellme_add has WIDTH bits, so that the bit more is connected to nothing."),
    Judgement("243b904dae99", "tlmm/engine TlmmEngine: planes >= 1, so that an engine of one plane can do several", "equivalent",
              "In a core of one plane each tile has planes_less_1 = 0, because the host refuses others (Ranges of TlmmEngine). "
              "Then planes_left is 0 in each tile, so that ends_plane is written with the value of last_slice wherever "
              "last_slice is written, tile_ends is ends, and next_tile_ends is next_ends in all slices but the last one, in "
              "which next_last is not read. next_col of a tile's last slice is not read, as HEADER writes slice_col. triple is "
              "set in last slices alone, whose sums are not written back: finish takes the sum as it is. The engine takes more "
              "cells."),
    Judgement("405f189bc390", "tlmm/engine TlmmEngine: tied is 1 after reset", "equivalent",
              "triple alone reads tied, with ends_plane, which is 0 after reset and is written in TILE. HEADER, which comes "
              "before TILE, writes tied."),
    Judgement("402f6c4f9981", "tlmm/engine TlmmEngine: written has a bit more", "equivalent",
              "The drains' port written and the accumulators' finish_at take its low bits alone, and depth is a power of two, "
              "so that the low bits count as before."),
    Judgement("d6aab4ea00f3", "tlmm/pairs PairDot: an entry of a table has a bit more", "equivalent",
              "The bit more is written as 0, because values[t][1:] has eight bits and no sign. It lies above the nine bits "
              "that value takes of what is read. The tables take more LUT RAM."),
    Judgement("5c771908b36d", "tlmm/study/bytes ByteDot: buffer has a bit more", "equivalent",
              "The bit more lies above the eight bits that the addresses of the tables take of Cat(index, buffer). Whoever "
              "drives buffer has one bit."),
    Judgement("5c7cb107afb2",
              "tlmm/study/groups Shape.entry: a full table's negative addresses modulo twice as much", "equivalent",
              "-at modulo 2**(b + 1) is -at modulo 2**b with bit b set, where b is index_bits. rom puts bit b into the place "
              "of the sign, and GroupDot does not look at the signs of a full table."),
    Judgement("9f66a0a75e07", "tlmm/study/lane BuildLayout: the triples have a bit more", "equivalent",
              "TableBuilder's triples have ten bits, with which the eleventh is their sign. The tables have ten bits, and the "
              "port of a table takes the low ten."),
    Judgement("ef7a997f54b7", "memory/sdr/controller SdramController: rdata is 1 after reset", "equivalent",
              "rdata is written in each cycle, so that it is 1 in the first cycle alone. arrived is none in this cycle, and "
              "whoever reads bus.rdata.word looks at bus.rdata.port."),
    Judgement("bea0b67f6b15", "memory/weights WeightBuffer: remaining < burst for remaining <= burst in size", "equivalent",
              "Where remaining is burst, the other arm gives burst, which is remaining. Proven by python -m "
              "tests.mutation.prove bea0b67f6b15, for weights/manager-blocks1."),
    Judgement("b28d9611034e", "tlmm/engine TlmmEngine: row_steps is 1 after reset", "equivalent",
              "row_steps is written in each cycle, and is 1 in the first cycle alone, in which the state is IDLE. flows is 0 "
              "after this cycle either way, because neither 0 nor 1 is more than HAZARD."),
    Judgement("c2a425417a80", "tlmm/drain Drain: rows_freed counts modulo more", "equivalent",
              "Of rows_freed the engine takes as many bits of a difference as word_tile has, and the address of a row word "
              "takes the low bits. The bits more lie above these, and 2 * row_word_tiles is a power of two."),
    Judgement("28e7e3d0672c", "memory/sdr/bringup SdramBringUp: beats has a bit more", "equivalent",
              "rdata has 32 bits, so that the bit more is 0. It is read in beats[16:] == p alone, where p has 16 bits."),
    Judgement("0f9ce5ac8b3f", "tlmm/study/lane BuildLayout: pair_at has a bit more", "equivalent",
              "TableBuilder's pair_at has four bits, and the address of a table takes the low four."),
    Judgement("dd1e87013a59", "memory/ddr3/training Ddr3Training: word has a bit more", "equivalent",
              "The constants that word takes have 64 bits, and so have wdata and wanted, which read word."),
    Judgement("824d9433b3da", "tlmm/tree stages: (terms + 1) // 3 for (terms + 1) // 2", "equivalent",
              "Sums have 4, 7, 8, 10 or 20 terms (SLICE_BYTES, the tables of the shapes, PAIRS, SLICE). For these stages gives "
              "3, 3, 4, 4 and 5 either way. For some others, 16 say, signed_sum would assert."),
    Judgement("374e32ed410c", "tlmm/pairs: the first step of a table adds with sign 2", "equivalent",
              "Of a step's sign PairBuilder looks at sign < 0 alone."),
    Judgement("da50789d266b", "tlmm/study/builder TableBuilder: write is 1 after reset", "equivalent",
              "write is written in each cycle, and is 1 in the first cycle alone. The sums and triple_at are 0 then, so that "
              "entry 0 of the triples is given 0. This entry is 0 in any case: the memory begins so, and each build writes 0 "
              "there. pair is 0."),
    Judgement("093822d8d57b", "memory/rows RowRules: rtp is 1 where it is not given", "equivalent",
              "The SDR controller alone leaves rtp out. With 1 a READ sets bit len(wrote) of a value of which wrote takes the "
              "len(wrote) bits below."),
    Judgement("fdf516201817", "tlmm/multipliers RowMultipliers: odd is 1 after reset", "equivalent",
              "odd is written in each cycle, and is 1 in the first cycle alone. What multipliers has in the second cycle "
              "belongs to no step, because the engine begins in IDLE."),
    Judgement("1655f66aa59a", "memory/ddr3/training Ddr3Training: RESUME leaves second as it is", "equivalent",
              "second is 0 after reset and turns with each word that moves or comes. A probe has two words, and RESUME follows "
              "probes whose words have all moved and come, so that second is 0 in RESUME in any case."),
    Judgement("fc58d32c0d19", "tlmm/study/bytes ByteBuilder: buffer has a bit more", "equivalent",
              "The register that takes it has one bit, and whoever drives it has one bit."),
    Judgement("5dcab1e2cf02", "memory/sdr/controller SdramController: latency without its register", "gap",
              "A latency that the host sets counts a cycle earlier. That changes the words that arrive in this very cycle and "
              "nothing else. No bench changes the latency while words are under way, and nothing says which of them count with "
              "which latency."),
    Judgement("2fb29346f0e8", "tlmm/serial SerialBuilder: buffer is 1 after reset", "equivalent",
              "A start writes buffer. Before the first start build.write is 0, because running was not 1 yet, and a dot looks "
              "at build.buffer with build.write alone."),
    Judgement("ceaecab4d2ef", "tlmm/tree signed_sum: d of a plain adder is 0 in the first cycle", "equivalent",
              "From the second cycle on d is -1 as without the mutant. The table PLAIN gives a and c alone, and not d."),
    Judgement("f944804d3823", "memory/sdr/bringup SdramBringUp: two has a bit more", "equivalent",
              "two is given eight bits, so that the bit more is 0. bit_select takes one of the eight low bits of two, or of "
              "two shifted down by one place, whose eighth bit is 0 either way."),
    Judgement("6ac4743502b0", "tlmm/study/builder TableBuilder: a triple's sum is 1 after reset", "equivalent",
              "The first step of a build sets the sums to 0, and build.write follows a cycle behind. No table is written "
              "before."),
    Judgement("58cc71334be7", "tlmm/study/bytes ByteBuilder: code_addr has four bits more", "equivalent",
              "first_col is a multiple of 20, and code_addr is first_col // 4 + j with j from 0 to 4, which the range without "
              "the mutant holds. The bits more are 0, and who reads the address takes the low ones."),
    Judgement("34e2c5fd6396", "memory/rows RowRules: wtr is 1 where it is not given", "equivalent",
              "The SDR controller alone leaves wtr out. readable, which alone comes from wtr, is read in places of several "
              "words alone, and a place of an SDR memory has one."),
    Judgement("8518dd9dc4fd", "tlmm/multipliers RowMultipliers: row has a bit more", "equivalent",
              "The address takes row[3:3 + at_bits], and pair and odd take the bits below. The bit more lies above these."),
    Judgement("75a683c27c9c", "tlmm/study/lane: a pair's sum has a bit more", "equivalent",
              "A sum of two int8 codes fits in ten bits, negated too. Tables, their registers and the builder's sums have the "
              "bit more alike, as a copy of the sign, and byte_ takes the same sum."),
    Judgement("2f1f30bdfd38", "memory/rows schedule: calibration_due is 1 after reset", "equivalent",
              "REFRESHED alone reads calibration_due, behind a REFRESH, and pending is 0 before the first tick. This tick "
              "writes calibration_due, as calibrates is 0 until then."),
    Judgement("426672621ec3", "memory/hub MemoryHub: clean has a bit more", "equivalent",
              "It is given all(), which has one bit, and the command processor's input for it has one bit."),
    Judgement("0c2b017809fb",
              "memory/hub MemoryHub: a port's last client owns by its number, not where no other does", "equivalent",
              "owner is 0 to the number of clients less 1: it is 0 after reset, and is given turn alone, which is a client's "
              "number. The owner of a port with one client is the constant 0."),
    Judgement("8b685dc846a8", "tlmm/study/groups Shape.entry: the sign of a full table's entry is 1", "equivalent",
              "GroupDot does not look at the signs of a full table: signs has a constant for each."),
    Judgement("97ab040efbe7", "tlmm/engine TlmmEngine: row words are written a cycle later", "equivalent",
              "row_en and row_write are late alike. The first sum of a tile is read many cycles after the last row word has "
              "come: TILE, SLICE, a step, LATENCY and the accumulator lie between. The place was free before the word came, "
              "and stays so."),
    Judgement("c529d482509d", "memory/weights WeightBuffer: size is 1 after reset", "equivalent",
              "size is written in each cycle, and is 1 in the first cycle alone. NEXT alone reads size, and the state is IDLE "
              "then."),
    Judgement("680088473e77", "memory/sdr/controller SdramController: one more entry behind the last latency", "equivalent",
              "latency has five bits, so that (latency + 1) >> 1 is 16 at most. The entries 0 to 16 are what they were."),
    Judgement("8a949c89f4d8", "tlmm/study/lane TableDot: a half has a bit more", "equivalent",
              "A half is a sum of two numbers of twelve bits, which fits in 13. total takes the same sum."),
    Judgement("6f9484dd7c03", "memory/ddr3/phy Ddr3Phy: burstdet has a bit more", "equivalent",
              "BURSTDET of DQSBUFM has one bit, the low one. The bit more is read with ~found_then alone, which has one bit, "
              "and the AND of the two has nothing above the low bit."),
    Judgement("030ec5b61a4a", "tlmm/study/select XorDot: halves[2 * i - 1] for halves[2 * i + 1]", "equivalent",
              "Of the ten halves those with odd numbers go to another of the five fours, halves[-1] being the last. Each half "
              "counts once in the total as before, and a four has room for any two halves."),
    Judgement("205296b7e77a", "tlmm/study/bytes byte_build_layout: write has a bit more", "equivalent",
              "ByteBuilder gives write one bit, so that the bit more is 0. write.en of the tables has one bit."),
    Judgement("6329b5077e8f", "memory/ddr3/phy Ddr3Phy: the constant on RDDIRECTION has a bit more", "equivalent",
              "The pin has one bit and takes the constant's low bit, which is 1."),
    Judgement("4a27dfa6ee28", "attention/pe_column PeColumn: a stage of word and flags more", "equivalent",
              "The stages are appended, and taken by their number from the first one on: turn + 4 at most for flags, turn + 2 "
              "for word. Nothing reads the stage more."),
    Judgement("e717ad56af93", "link/uart Uart: phase has a bit more", "equivalent",
              "phase is bit // 2 in IDLE. In BIT phase becomes phase + bit - 256 where phase is below 256, and phase - 256 "
              "elsewhere. bit is 2,048 or more, so that phase stays between 0 and bit - 1, and the bit more is 0."),
    Judgement("f9fd7fec1154", "link/events EventRing: known is 1 after reset", "equivalent",
              "known is written in every cycle, so that known is 1 in the first cycle alone. The link reads known in ACT, which "
              "comes cycles after a packet's bytes."),
    Judgement("c3393bf39c9d", "lm_head/lm_head LmHead: padded has a bit more", "equivalent",
              "padded is given 0 and 1 alone, and is read in a condition, where the bit more is 0."),
    Judgement("a3fd3c9ab71b", "lm_head/best_list BestList: the port first has a bit more", "equivalent",
              "The port is given a comparison, which has one bit. TwoStepLmHead reads the port in m.If, and ChunkLmHead gives it "
              "to a memory's write enable of one bit."),
    Judgement("0cbc7cead528", "sampling/sampler Sampler: far has a bit more", "equivalent",
              "far is given any(), which has one bit, and m.If alone reads far."),
)
