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
from tellme.spec.memory import StatusWord
from tellme.spec.packets import PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.status import StatusFlag, Training

__all__ = ["BoardState", "Description", "board_state", "core_limits", "describe", "phase_step_ns"]


@dataclass(frozen=True)
class BoardState:
    """How a board is at the moment: the answer to STATUS.

    ``step`` and ``position`` are those of the run that goes on, or of the last one; ``cycles`` is its counter.  ``bad_packets``
    counts the packets that the board has refused since power-up.
    """

    running: bool
    sdram_ready: bool
    nonfinite: bool
    stopped: bool
    step: int
    position: int
    bad_packets: int
    cycles: int
    training: Training

    @classmethod
    def of(cls, words: tuple[int, ...]) -> "BoardState":
        """The state that the words of :class:`tellme.spec.memory.StatusWord` say."""
        flags = StatusFlag(words[StatusWord.FLAGS] & sum(StatusFlag))
        return cls(StatusFlag.RUNNING in flags, StatusFlag.SDRAM_READY in flags, StatusFlag.NONFINITE in flags,
                   StatusFlag.STOPPED in flags, words[StatusWord.STEP], words[StatusWord.POSITION],
                   words[StatusWord.BAD_PACKETS], words[StatusWord.CYCLES], Training.unpack(words[StatusWord.TRAINING]))


@dataclass(frozen=True)
class Description:
    """What a board is.

    ``boards``: the boards and FPGAs that are built with the preset.  ``limits``: the largest model of the core, in elements.
    ``lanes`` and ``chunk``: tokens of a prompt that share each weight.  ``sampler``: the core draws tokens.  ``counts_cycles``:
    the core counts what each cycle was spent on.  ``peak_bytes_per_second``: what the memory's pins move at most.
    ``phase_step_ns``: a step of the SDRAM clock's phase; ``phases`` steps are a whole turn.
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
    sampler: bool
    counts_cycles: bool
    memory_bytes: int
    fabric_mhz: float
    sdram_mhz: float
    peak_bytes_per_second: float
    phases: int
    phase_step_ns: float
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


def board_state(device: BoardDevice) -> BoardState:
    """How a board that is connected is at the moment."""
    return BoardState.of(device.client.status())


def describe(board: Board) -> Description:
    """Ask a board what it is.  The simulated one is built and started; the golden model is a DeviceError.

    A board of another version of the protocol or of the format is refused when it is opened.
    """
    device = board.connect()
    core = device.core
    assert device.core_sha256 is not None, "the board is connected"
    return Description(
        device.name, core.name, tuple(boards_of_presets().get(core.name, ())), device.core_sha256, __version__, PROTOCOL_VERSION,
        FORMAT_VERSION, core_limits(core), core.lanes, core.chunk, core.sampler, core.accounts, core.sdram_bytes, core.fabric_mhz,
        core.sdram_mhz, 1e6 * core.fabric_mhz * core.peak_bytes_per_cycle, core.sdram_phases, phase_step_ns(core),
        board_state(device))
