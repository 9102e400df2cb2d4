# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Build configurations: what a bitstream can do.  The host reads the same numbers to refuse what will not run."""

from dataclasses import dataclass, replace
from functools import cached_property

from tellme.spec.ddr3 import CHIPS as DDR3_CHIPS
from tellme.spec.ddr3 import Ddr3Timing
from tellme.spec.formats import BINARY16, FloatFormat
from tellme.spec.packets import NAME_BYTES
from tellme.spec.packing import LEAST_STEPS, MAX_PLANES, SLICE, TILE_HEADER_PLANES, TILE_HEADER_ROWS, TILE_ROWS
from tellme.spec.widths import (
    DEFAULT_VOCAB,
    MAX_CHUNK,
    MAX_COLS,
    MAX_CONTEXT,
    MAX_STEPS,
    MAX_VOCAB,
    MAX_WORDS,
    MIN_HEAD_DIM,
    Widths,
)

__all__ = ["PRESETS", "SIMULATED", "CoreConfig", "ConfigError", "preset"]


#: Query heads for whose codes a chunk's attention has room.
CHUNK_HEADS = 32
#: KV heads of a layer, of both attention units.
MAX_KV_HEADS = 32
#: Query heads of a KV head: of a token's attention, and of a chunk's.
MAX_GROUP = 4
MAX_CHUNK_GROUP = 8


class ConfigError(ValueError):
    """A configuration that no gateware has; the text names the parameter and its range."""


@dataclass(frozen=True)
class CoreConfig:
    """Parameters of a core.  Lengths are elements, memory sizes bytes, rates MHz.

    The widths of the gateware's numbers follow from it (:attr:`widths`).  A configuration checks itself: what a format, a packet
    or a unit cannot hold whatever its widths is a ConfigError.
    """

    name: str
    #: TLMM lanes; decode takes min(2, lanes) rows a step.
    lanes: int = 2
    #: Tokens that share each weight in prefill, ``prefill_rows`` lanes each; 1: a prompt is fed token by token.
    chunk: int = 1
    #: Float pipelines that share a chunk's tokens: a power of two.
    float_lanes: int = 1
    #: Query PEs of the attention unit, and its softmax units, where chunk is more than 1.
    pes: int = 4
    exp_units: int = 1
    #: Rows of a tile at most.
    tile_rows: int = TILE_ROWS
    #: Planes of a tile at most.  A build that takes more than one takes row words, the biases in them, and norms on heads, too.
    planes: int = MAX_PLANES
    #: Whether planes may be free, and have multipliers for groups of slices.
    multipliers: bool = False
    #: Whether programs may have the step NORM and q, k and v in parts, which models with the norms of OLMo 2 have
    #: (:attr:`tellme.models.config.ModelConfig.vector_norms`).  No board is built with it.
    vector_norms: bool = False
    #: Longest residual vector (dim).
    max_dim: int = 512
    #: Longest input of a linear: ffn, or heads * head_dim.
    max_cols: int = 1280
    max_head_dim: int = 64
    max_kv_heads: int = 16
    #: Query heads of a KV head.
    max_group: int = 4
    #: For small parts: query heads of a group take turns at four multipliers, which K and V share; the LM head's best 64 are in
    #: block RAMs.
    compact: bool = False
    #: Counters of each memory port and of what each cycle was spent on; without, they read zero.
    accounts: bool = True
    #: Positions of the on-chip score memory: the longest context.
    max_context: int = 1024
    #: Largest vocabulary of an LM head on the board.
    max_vocab: int = DEFAULT_VOCAB
    #: Tokens of a pass after which the LM head gives a pick, the best 64 and the logits: 1, the last one, or ``chunk``, each of
    #: them in runs with the flag ALL.
    head_tokens: int = 1
    #: Sequences that run side by side: 1, or a power of two up to ``chunk`` in a core with picks of all positions.
    slots: int = 1
    #: Whether the LM head may run in two steps (:mod:`tellme.spec.two_steps`): runs with the flag TWO_STEPS do.  Only in a core
    #: with ``head_tokens`` 1 and several planes.
    two_steps: bool = False
    #: Whether the board drafts tokens from a table in memory (:mod:`tellme.spec.drafts`).  Only in a core with several slots and
    #: a sampler, whose slots' windows of token memory are longer than a chunk.
    drafts: bool = False
    #: A unit that draws tokens by a run's settings (:mod:`tellme.spec.sampling`); without, the host draws.
    sampler: bool = False
    weight_buffer_bytes: int = 16 * 1024
    #: Descriptors of the program memory.
    program_steps: int = 256
    #: Whether all words of a descriptor are read at once, from a memory for each: a step takes 6 cycles less.
    wide_program: bool = False
    #: A register between the sigmoid's table and the multiplier behind it, for the clock; an element takes a cycle more.
    sigmoid_register: bool = False
    float_format: FloatFormat = BINARY16
    fabric_mhz: float = 200 / 3
    #: A DDR3 chip of 16 bits (:data:`tellme.spec.ddr3.CHIPS`) is the memory; "": an SDR chip is.
    ddr3_chip: str = ""
    #: Bytes of memory.  An SDR chip is 16 bit wide, with 4 banks, 8192 rows, 512 columns; of a DDR3 chip no more than it holds.
    sdram_bytes: int = 32 * 1024 * 1024
    #: Of an SDR chip alone: columns, CAS latency, and phases (below).
    sdram_column_bits: int = 9
    sdram_cas_latency: int = 3
    #: Steps of a whole turn of the SDRAM clock's phase, which are tried at start: eight for each VCO cycle of it.
    sdram_phases: int = 32
    #: Power-up pause; a chip needs 200 us, the smallest simulated boards take less.  A DDR3 chip is in reset for so long, and CKE
    #: rises two and a half times as long behind the reset.
    sdram_power_up_us: float = 200.0
    uart_baud: int = 3_000_000
    #: Whether output and down projections may have a bias: on the golden model, no gateware adds one to a residual step.
    residual_biases: bool = False
    #: Of the golden model, which has no widths: only a model's own shape limits it.
    unlimited: bool = False

    def __post_init__(self) -> None:
        """Refuse by name and number what no widths would help (a ConfigError)."""
        if self.unlimited:
            return
        if self.ddr3_chip and self.ddr3_chip not in DDR3_CHIPS:
            raise ConfigError(f"preset {self.name}: ddr3_chip is {self.ddr3_chip!r}; {', '.join(DDR3_CHIPS)} can be")
        limits = [
            ("lanes", self.lanes, 1, MAX_CHUNK, "a lane a token of a chunk"),
            ("chunk", self.chunk, 1, min(MAX_CHUNK, max(1, self.lanes // self.word_lanes)),
             f"{self.word_lanes} lane{'s' * (self.word_lanes > 1)} a token, of the lanes that there are"),
            ("max_dim", self.max_dim, 4, self.max_cols, "max_cols, as a linear takes the residual vector"),
            ("max_cols", self.max_cols, 4, MAX_COLS, "the sum of a vector's squares is exact in 77 bits"),
            ("max_head_dim", self.max_head_dim, MIN_HEAD_DIM, 128, "what attention's arithmetic is made for"),
            ("max_kv_heads", self.max_kv_heads, 1, MAX_KV_HEADS, "the attention units' memories"),
            ("max_group", self.max_group, 1, MAX_GROUP if self.chunk == 1 else MAX_CHUNK_GROUP,
             "query heads that a token's attention takes in one pass" if self.chunk == 1 else
             "query heads that a chunk's attention sorts"),
            ("max_context", self.max_context, 2, MAX_CONTEXT, "positions in packets have 16 bits"),
            ("max_vocab", self.max_vocab, 8, MAX_VOCAB, "token ids in packets have 32 bits"),
            ("tile_rows", self.tile_rows, self.max_head_dim, TILE_HEADER_ROWS.most, "a tile holds a whole head of max_head_dim "
             "rows, and its header says how many there are in 8 bits"),
            ("planes", self.planes, *TILE_HEADER_PLANES, "a tile's header says how many there are"),
            ("sdram_column_bits", self.sdram_column_bits, 8, 10, "the chip's column addresses, below the precharge bit A10"),
            ("sdram_bytes", self.sdram_bytes, 4096, min(4 * MAX_WORDS, self.chip_bytes),
             "word addresses in the program's segments, and what the chip holds"),
            ("program_steps", self.program_steps, 8, MAX_STEPS, "the program's window of the address space"),
            ("length of the name", len(self.name.encode()), 1, NAME_BYTES, "HELLO's field"),
        ]
        for what, value, least, most, why in limits:
            if not least <= value <= most:
                raise ConfigError(f"preset {self.name}: {what} is {value}; {least} to {most} can be ({why})")
        if self.vector_norms and not self.row_words:
            raise ConfigError(f"preset {self.name}: planes is 1; 2 to {MAX_PLANES} can be with vector_norms")
        if self.lanes % self.prefill_rows:
            raise ConfigError(f"preset {self.name}: lanes is {self.lanes}; a multiple of {self.prefill_rows} can be (a lane a "
                              "row of the memory's word)")
        if self.float_lanes & self.float_lanes - 1 or not 1 <= self.float_lanes <= self.chunk:
            raise ConfigError(f"preset {self.name}: float_lanes is {self.float_lanes}; a power of two up to chunk, {self.chunk}, "
                              "can be")
        choices: list[tuple[str, int, tuple[int, ...]]] = [
            ("head_tokens", self.head_tokens, tuple(sorted({1, self.chunk}))),
            ("slots", self.slots, tuple(1 << bits for bits in range(self.head_tokens.bit_length())))]
        if self.two_steps and (self.head_tokens > 1 or self.planes < 2):
            raise ConfigError(f"preset {self.name}: two_steps with head_tokens {self.head_tokens} and planes {self.planes}; "
                              "head_tokens 1 and planes from 2 on can be")
        if self.chunk > 1:
            choices += [("pes", self.pes, (4, 8, 16)), ("exp_units", self.exp_units, (1, 2))]
        for what, value, values in choices:
            if value not in values:
                raise ConfigError(f"preset {self.name}: {what} is {value}; {', '.join(map(str, values))} can be")
        if self.drafts and (self.slots == 1 or not self.sampler):
            raise ConfigError(f"preset {self.name}: drafts with slots {self.slots} and sampler {self.sampler}; slots from 2 on "
                              "with a sampler can be")
        # The last fed token, the pick and what is drafted behind it lie in the window at the same time.
        if self.drafts and self.max_context < (least := self.slots << self.chunk.bit_length()):
            raise ConfigError(f"preset {self.name}: drafts with max_context {self.max_context}; {least} and more "
                              f"can be (a slot's window of token memory is longer than a chunk, {self.chunk})")

    @cached_property
    def widths(self) -> Widths:
        """Widths of the gateware's numbers.

        The widest matrix is gate and up, 2 * max_cols rows, or q, k and v, max_cols + 2 * max_kv_heads * max_head_dim (there
        are no more key heads than query heads, so neither k nor v has more than max_cols).
        """
        kv_dim = min(self.max_cols, self.max_kv_heads * self.max_head_dim)
        return Widths(
            rows=self.max_cols + max(self.max_cols, 2 * kv_dim), cols=self.max_cols, dim=self.max_dim, heads=self.max_heads,
            kv_heads=self.max_kv_heads, head_dim=self.max_head_dim, group=self.max_group, chunk=self.chunk,
            context=self.max_context, vocab=self.max_vocab, memory_words=self.sdram_bytes // 4, steps=self.program_steps,
            word_bits=self.word_bits, planes=self.planes, multipliers=self.multipliers, head_tokens=self.head_tokens,
            slots=self.slots, vector_norms=self.vector_norms, two_steps=self.two_steps, wide_program=self.wide_program,
            drafts=self.drafts)

    @property
    def ddr3(self) -> Ddr3Timing | None:
        """The DDR3 chip, if the memory is one."""
        return DDR3_CHIPS[self.ddr3_chip] if self.ddr3_chip else None

    @property
    def chip_bytes(self) -> int:
        """What the memory's chip holds."""
        return self.ddr3.bytes if self.ddr3 else 2 * 4 * 8192 << self.sdram_column_bits

    @property
    def word_bits(self) -> int:
        """Bits of the memory's word, which it moves in a fabric cycle: of two beats of 16 bits, or of DDR3's four."""
        return 64 if self.ddr3_chip else 32

    @property
    def word_lanes(self) -> int:
        """Rows of four bytes in a word of the memory."""
        return self.word_bits // 32

    @property
    def sdram_mhz(self) -> float:
        """The memory's clock: two clocks a fabric cycle."""
        return 2 * self.fabric_mhz

    @property
    def decode_rows(self) -> int:
        """Rows of a slice that one engine step takes in decode."""
        return min(2, self.lanes)

    @property
    def prefill_rows(self) -> int:
        """Rows of a slice that one engine step takes for each token of a chunk: as many as a word of the memory has."""
        return self.word_lanes

    @property
    def least_rows(self) -> int:
        """Rows of the smaller tiles with which a matrix ends, at least: a chunk's sums take long to leave.  0: all tiles have
        tile_rows."""
        return self.built_rows if self.chunk > 1 else 0

    @property
    def row_words(self) -> bool:
        """Whether a tile may have a word of scale and bias for each row: in builds that take several planes."""
        return self.planes > 1

    @property
    def built_rows(self) -> int:
        """Rows of the smallest tile in whose steps the next slice's tables are built in time."""
        return LEAST_STEPS * self.prefill_rows

    @property
    def max_heads(self) -> int:
        """Query heads: what the attention unit's memory of codes holds."""
        return self.max_kv_heads * self.max_group if self.chunk == 1 else CHUNK_HEADS

    @property
    def padded_cols(self) -> int:
        """Longest input of a linear in whole slices."""
        return -(-self.max_cols // SLICE) * SLICE

    @property
    def peak_bytes_per_cycle(self) -> int:
        """The memory's peak: a word a fabric cycle."""
        return self.word_bits // 8


#: Longest vectors of the cores for the ULX3S: SmolLM2-135M's.  Those of TriLM-190M missed the clock (decision 16).
_ULX3S_MAX_DIM = 576
_ULX3S_MAX_COLS = 1536

#: 85F on the ULX3S, and a core for quick simulation.
PRESETS = {
    # Sixteen tokens of a pass share each weight: of a prompt, of sixteen sequences, or drafted ones.  In as many cycles as a
    # tile has rows two pipelines bring a slice of sixteen tokens' codes.
    "ulx3s-85f": CoreConfig(name="ulx3s-85f", lanes=16, chunk=16, float_lanes=2, pes=16, exp_units=2, tile_rows=160,
                             head_tokens=16, slots=16, drafts=True, multipliers=True, max_dim=_ULX3S_MAX_DIM,
                             max_cols=_ULX3S_MAX_COLS, sampler=True, wide_program=True, sigmoid_register=True),
    # Eight tokens, and one pipeline, which brings a slice of their codes in as many cycles.
    "ulx3s-85f-l8": CoreConfig(name="ulx3s-85f-l8", lanes=8, chunk=8, pes=8, tile_rows=160, max_dim=_ULX3S_MAX_DIM,
                                max_cols=_ULX3S_MAX_COLS, sampler=True),
    # Token by token, prompts too: decodes as fast, and is built and simulated in half the time.
    "ulx3s-85f-l2": CoreConfig(name="ulx3s-85f-l2", max_dim=_ULX3S_MAX_DIM, max_cols=_ULX3S_MAX_COLS, sampler=True),
    # What CI synthesises: all units, one lane.
    "ulx3s-85f-1lane": CoreConfig(name="ulx3s-85f-1lane", lanes=1, max_dim=_ULX3S_MAX_DIM, max_cols=_ULX3S_MAX_COLS,
                                   sampler=True),
    # The LFE5U-25F and the 12F, which is the same die: the shipped model fits, a sampler does not.
    "ecp5-25f": CoreConfig(name="ecp5-25f", lanes=1, max_dim=256, max_cols=768, max_head_dim=32, max_kv_heads=8, max_group=2,
                            max_context=512, weight_buffer_bytes=8192, compact=True, accounts=False, fabric_mhz=50.0),
    "sim-tiny": CoreConfig(name="sim-tiny", lanes=1, max_dim=128, max_cols=384, max_context=128,
                            weight_buffer_bytes=4096, sampler=True, sdram_power_up_us=2.0, sdram_phases=1),
    # A core with picks of all positions, for quick simulation.
    "sim-all": CoreConfig(name="sim-all", lanes=4, chunk=4, float_lanes=2, pes=4, head_tokens=4, max_dim=256, max_cols=768,
                          max_context=512, weight_buffer_bytes=4096, sampler=True, sdram_power_up_us=2.0, sdram_phases=1),
    # The same with four sequences side by side, and drafted tokens.
    "sim-slots": CoreConfig(name="sim-slots", lanes=4, chunk=4, float_lanes=2, pes=4, head_tokens=4, slots=4, drafts=True,
                            max_dim=256, max_cols=768, max_context=512, weight_buffer_bytes=4096, sampler=True,
                            wide_program=True, sigmoid_register=True, sdram_power_up_us=2.0, sdram_phases=1),
    # A core whose LM head may run in two steps, for quick simulation.
    "sim-two-steps": CoreConfig(name="sim-two-steps", lanes=2, max_dim=256, max_cols=768, max_context=512,
                                weight_buffer_bytes=4096, two_steps=True, sampler=True, sdram_power_up_us=2.0, sdram_phases=1),
    # Models of 0.7 to 2 B parameters.  Two rows of each token's lanes take the memory's eight bytes a cycle, in prefill too.
    "ecpix5-85f": CoreConfig(name="ecpix5-85f", lanes=10, chunk=5, pes=4, tile_rows=240, multipliers=True, max_dim=2560,
                             max_cols=6912, max_head_dim=128, max_kv_heads=32, max_group=4, max_context=4096,
                             ddr3_chip="MT41K256M16", sdram_bytes=512 * 1024 * 1024, sampler=True, wide_program=True,
                             fabric_mhz=75.0, uart_baud=8_000_000),
    # The same units at a size for quick simulation.
    "sim-ddr3": CoreConfig(name="sim-ddr3", lanes=4, chunk=2, pes=4, tile_rows=128, max_dim=128, max_cols=384, max_context=128,
                           ddr3_chip="MT41K64M16", sdram_bytes=128 * 1024 * 1024, sampler=True, fabric_mhz=75.0,
                           sdram_power_up_us=2.0, sdram_phases=1),
    # The same with four sequences side by side, and the five tokens of ecpix5-85f.
    "sim-ddr3-slots": CoreConfig(name="sim-ddr3-slots", lanes=10, chunk=5, pes=4, tile_rows=128, head_tokens=5, slots=4,
                                 multipliers=True, max_dim=256, max_cols=768, max_context=512, weight_buffer_bytes=4096,
                                 ddr3_chip="MT41K64M16", sdram_bytes=128 * 1024 * 1024, sampler=True, fabric_mhz=75.0,
                                 sdram_power_up_us=2.0, sdram_phases=1),
}
# The core of sim-tiny with the norms of OLMo 2.
PRESETS["sim-norms"] = replace(PRESETS["sim-tiny"], name="sim-norms", vector_norms=True)
# The same core at a clock that a PLL makes from 48 MHz.
PRESETS["orangecrab-85f"] = replace(PRESETS["ecpix5-85f"], name="orangecrab-85f", fabric_mhz=72.0)

#: What is simulated where no preset is named: the first story should not be waited for.
SIMULATED = "ulx3s-85f-l2"


def preset(name: str) -> CoreConfig:
    """A named configuration; an unknown name is refused with the list."""
    if name not in PRESETS:
        raise ValueError(f"no preset is called {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return replace(PRESETS[name])
