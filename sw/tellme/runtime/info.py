# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""What a board is, what its core can do, and how the board is at the moment."""

from dataclasses import asdict, dataclass
from typing import Any

from tellme import __version__
from tellme.boards import boards_of_presets
from tellme.runtime.board import Board
from tellme.runtime.device import BoardDevice
from tellme.spec.config import CoreConfig
from tellme.spec.ddr3_training import Ddr3Training, LaneSettings, unpack_overrides
from tellme.spec.memory import StatusWord, register_address
from tellme.spec.packets import PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.status import StatusFlag, Training, training_of

__all__ = ["BoardState", "Description", "board_state", "core_limits", "describe", "lane_words", "phase_step_ns",
           "readclksel_step_ps", "training_failure"]


@dataclass(frozen=True)
class BoardState:
    """How a board is at the moment: the answer to STATUS.

    ``step`` and ``position`` are those of the run that goes on, or of the last one; ``cycles`` is its counter.  ``bad_packets``
    counts the packets that the board has refused since power-up.  ``training`` is that of the memory's kind.  ``overrides``: the
    host's settings of a DDR3 memory's lanes in the register ``sdram_settings``, which count from the next training on; None for a
    lane that has none.  It is empty for an SDR memory.
    """

    running: bool
    sdram_ready: bool
    nonfinite: bool
    stopped: bool
    step: int
    position: int
    bad_packets: int
    cycles: int
    training: Training | Ddr3Training
    overrides: tuple[LaneSettings | None, ...] = ()

    @classmethod
    def of(cls, words: tuple[int, ...], *, ddr3: bool = False, settings: int = 0) -> "BoardState":
        """The state that the words of :class:`tellme.spec.memory.StatusWord` say, and the register ``sdram_settings``."""
        flags = StatusFlag(words[StatusWord.FLAGS] & sum(StatusFlag))
        return cls(StatusFlag.RUNNING in flags, StatusFlag.SDRAM_READY in flags, StatusFlag.NONFINITE in flags,
                   StatusFlag.STOPPED in flags, words[StatusWord.STEP], words[StatusWord.POSITION],
                   words[StatusWord.BAD_PACKETS], words[StatusWord.CYCLES], training_of(words[StatusWord.TRAINING], ddr3=ddr3),
                   unpack_overrides(settings) if ddr3 else ())


@dataclass(frozen=True)
class Description:
    """What a board is.

    ``boards``: the boards and FPGAs that are built with the preset.  ``limits``: the largest model of the core, in elements.
    ``lanes`` and ``chunk``: tokens of a prompt that share each weight.  ``head_tokens``: tokens of a chunk after
    which the LM head gives a pick and logits.  ``slots``: sequences that run side by side.  ``sampler``: the core draws tokens.
    ``drafts``: the core drafts tokens from a table.
    ``counts_cycles``:
    the core counts what each cycle was spent on.  ``peak_bytes_per_second``: what the memory's pins move at most.
    ``memory_kind``: "SDR" or "DDR3".  SDR: ``phase_step_ns`` is a step of the SDRAM clock's phase; ``phases`` steps are a whole
    turn.  DDR3: ``readclksel_step_ps`` is a step of READCLKSEL, a quarter of the memory's clock.  A kind's number is None for the
    other kind.
    """

    device: str
    preset: str
    boards: tuple[str, ...]
    core_sha256: str
    host_version: str
    protocol: int
    program_format: int
    limits: dict[str, int]
    lanes: int
    chunk: int
    head_tokens: int
    slots: int
    sampler: bool
    drafts: bool
    counts_cycles: bool
    memory_kind: str
    memory_bytes: int
    fabric_mhz: float
    sdram_mhz: float
    peak_bytes_per_second: float
    phases: int | None
    phase_step_ns: float | None
    readclksel_step_ps: float | None
    state: BoardState

    def as_json(self) -> dict[str, Any]:
        """The fields for a JSON object."""
        return asdict(self)


def core_limits(core: CoreConfig) -> dict[str, int]:
    """The largest model of a core: name -> elements, heads, positions or descriptors."""
    return {"dim": core.max_dim, "ffn": core.max_cols, "heads x head_dim": core.max_cols, "head_dim": core.max_head_dim,
            "heads": core.max_heads, "kv_heads": core.max_kv_heads, "heads of a KV head": core.max_group,
            "context": core.max_context, "vocabulary on the board": core.max_vocab, "steps": core.program_steps}


def phase_step_ns(core: CoreConfig) -> float:
    """A step of the SDRAM clock's phase, in ns: the clock's period / phases."""
    return 1000 / core.sdram_mhz / core.sdram_phases


def readclksel_step_ps(core: CoreConfig) -> float:
    """A step of READCLKSEL, in ps: a quarter of the DDR3 memory's clock."""
    return 1e6 / core.sdram_mhz / 4


def board_state(device: BoardDevice) -> BoardState:
    """How a board that is connected is at the moment."""
    words = device.client.status()
    if not device.core.ddr3:
        return BoardState.of(words)
    settings = int.from_bytes(device.client.read(register_address("sdram_settings"), 4), "little")
    return BoardState.of(words, ddr3=True, settings=settings)


def lane_words(step_ps: float, state: BoardState) -> list[str]:
    """What is said of each byte lane of a DDR3 memory: settings in use, who chose them, and the window.

    ``step_ps``: a step of READCLKSEL.
    """
    training = state.training
    assert isinstance(training, Ddr3Training), "an SDR memory has no lanes that are trained"
    said = []
    for lane, override in zip(training.lanes, state.overrides, strict=True):
        by_host = training.overridden and override == lane.settings
        who = "set by the host" if by_host else "found by the training"
        if override is not None and not by_host:
            who += f" (the host's READCLKSEL {override.readclksel} and slip {override.slip} count from the next training on)"
        window = "no READCLKSEL works" if not lane.window else (
            f"READCLKSEL {lane.start} to {lane.start + lane.window - 1} work: "
            f"{lane.window} step{'s' * (lane.window > 1)}, {lane.window * step_ps:.0f} ps")
        said.append(f"READCLKSEL {lane.readclksel}, slip {lane.slip}, {who}; {window}")
    return said


def training_failure(training: Training | Ddr3Training) -> str:
    """Why a memory is not ready, in words."""
    if not training.failed:
        return "not ready yet"
    if isinstance(training, Training):
        return "not ready: no phase of its clock works"
    lanes = [str(number) for number, lane in enumerate(training.lanes) if not lane.window]
    what = (f"no READCLKSEL works for lane {' and lane '.join(lanes)}" if lanes else
            "the chosen settings of the lanes did not work a second time")
    return f"not ready: the training failed, {what}"


def describe(board: Board) -> Description:
    """Ask a board what it is.  The simulated one is built and started; the golden model is a DeviceError.

    A board of another version of the protocol or of the format is refused when it is opened.
    """
    device = board.connect()
    core = device.core
    assert device.core_sha256 is not None, "the board is connected"
    return Description(
        device.name, core.name, tuple(boards_of_presets().get(core.name, ())), device.core_sha256, __version__, PROTOCOL_VERSION,
        FORMAT_VERSION, core_limits(core), core.lanes, core.chunk, core.head_tokens, core.slots,
        core.sampler, core.drafts, core.accounts, "DDR3" if core.ddr3 else "SDR",
        core.sdram_bytes, core.fabric_mhz, core.sdram_mhz, 1e6 * core.fabric_mhz * core.peak_bytes_per_cycle,
        None if core.ddr3 else core.sdram_phases, None if core.ddr3 else phase_step_ns(core),
        readclksel_step_ps(core) if core.ddr3 else None, board_state(device))
