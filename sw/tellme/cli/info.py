# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``tellme-host info``."""

import argparse

from tellme.cli.boards import open_board
from tellme.cli.errors import ExitCode
from tellme.cli.output import print_line, write
from tellme.link.discover import find_board
from tellme.runtime.info import Description, describe, lane_words, training_failure
from tellme.spec.status import Training

__all__ = ["info"]


def line(key: str, value: object) -> None:
    write(f"{key:16} {value}\n")


def show(found: Description) -> None:
    """A description for a person."""
    state, training = found.state, found.state.training
    line("device", found.device)
    line("preset", f"{found.preset} ({', '.join(found.boards) or 'simulated only'})")
    line("core", found.core_sha256)
    line("versions", f"tellme-host {found.host_version}, protocol {found.protocol}, format {found.program_format}")
    line("largest model", ", ".join(f"{name} {value}" for name, value in found.limits.items()))
    line("lanes", f"{found.lanes}; {found.chunk} token{'s' * (found.chunk > 1)} of a prompt at once")
    line("picks", "after each token of a prompt" if found.head_tokens > 1 else "after a prompt's last token")
    line("sequences", "one at a time" if found.slots == 1 else
         f"up to {found.slots} side by side, as many as the memory has room for")
    line("sampler", "draws tokens on its own" if found.sampler else "none: the host draws")
    line("drafts", "tokens from a table in memory" if found.drafts else "none")
    line("cycle counters", "of what each cycle was spent on" if found.counts_cycles else "in all")
    line("clock", f"{found.fabric_mhz:.2f} MHz; SDRAM {found.sdram_mhz:.2f} MHz")
    line("memory", f"{found.memory_bytes / 2**20:g} MiB, up to {found.peak_bytes_per_second / 1e6:.1f} MB/s")
    if not state.sdram_ready:
        line("SDRAM", training_failure(training) + " (docs/bring-up.md)" * training.failed)
    elif not isinstance(training, Training):
        line("SDRAM", "ready" if not training.failed else
             "ready, but the host's settings did not read back what was written (docs/bring-up.md)")
    elif found.phases == 1:
        line("SDRAM", f"ready; {training.beats} beats from READ to data, one phase of its clock")
    else:
        assert found.phase_step_ns is not None
        line("SDRAM", f"ready; {training.beats} beats from READ to data, phase {training.phase} of {found.phases}, "
             f"{training.window} phases work ({training.window * found.phase_step_ns:.2f} ns)")
    if not isinstance(training, Training):
        assert found.readclksel_step_ps is not None
        for number, said in enumerate(lane_words(found.readclksel_step_ps, state)):
            line(f"DDR3 lane {number}", said)
    line("bad packets", f"{state.bad_packets} since power-up")
    line("state", f"runs step {state.step} at position {state.position}" if state.running else
         "idle" + (", its last run was stopped" if state.stopped else "")
         + (f", its last run gave an infinity or NaN at step {state.step}" if state.nonfinite else ""))


def show_ports(args: argparse.Namespace) -> int:
    """The serial ports, where there is no board."""
    from tellme.link.ports import found_ports

    found = found_ports()
    if args.json:
        print_line({"board": None, "ports": [port.as_json() for port in found]})
        return ExitCode.DONE
    write("no board is plugged in; the simulated one is --device sim\n")
    for port in found:
        write(f"  {port.device:16} {port.what}\n")
    if not found:
        write("  there is no serial port\n")
    return ExitCode.DONE


def info(args: argparse.Namespace) -> int:
    """The command."""
    if args.device == "auto" and find_board() is None:
        return show_ports(args)
    with open_board(args) as board:
        found = describe(board)
    if args.json:
        print_line(found.as_json())
    else:
        show(found)
    return ExitCode.DONE
