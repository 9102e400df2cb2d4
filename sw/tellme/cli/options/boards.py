# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Commands on boards: info, load, selftest, bench, simulate, flash; and the shell's completion."""

import argparse
from pathlib import Path

from tellme.cli.command import Command, Example
from tellme.cli.numbers import lane_settings, whole_list
from tellme.cli.options.shared import (
    add_adapter,
    add_device,
    add_drafts,
    add_head,
    add_json,
    add_model,
    add_preset,
    file_name,
)

__all__ = ["COMMANDS", "SHELLS", "SHELL_COMMANDS"]

#: Shells that ``completion`` writes for.
SHELLS = ("bash", "zsh", "fish")


def info_options(info: argparse.ArgumentParser) -> None:
    add_device(info)
    add_preset(info)
    add_json(info)


def load_options(load: argparse.ArgumentParser) -> None:
    add_model(load, "model")
    add_adapter(load)
    add_device(load)
    add_head(load)
    add_drafts(load)
    add_preset(load)
    load.add_argument("--save", type=file_name, metavar="FILE", help="write all that would be sent into a file, the image, and "
                      "open no board: for simulate --preload, and for hosts that compile no models; --preset names the "
                      "board's core")
    add_json(load)


def selftest_options(selftest: argparse.ArgumentParser) -> None:
    add_device(selftest)
    add_preset(selftest)
    depth = selftest.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="the memory's lines, its size, and some pages of it (default)")
    depth.add_argument("--full", action="store_true", help="each word of the memory, five times: some ten minutes at 3 Mbaud for "
                       "32 MiB, two and a half hours for 512 MiB")
    selftest.add_argument("--ddr3-settings", type=lane_settings("--ddr3-settings"), metavar="3:1,auto",
                          help="train a DDR3 memory again first, with READCLKSEL (0 to 7) and slip (0 to 3) of lanes 0 and 1, or "
                          "with what the training finds (auto); the settings stay until power-off or the next --ddr3-settings")
    add_json(selftest)


def bench_options(bench: argparse.ArgumentParser) -> None:
    add_model(bench, default="stories-1m")
    add_device(bench)
    add_preset(bench)
    bench.add_argument("--positions", type=whole_list("--positions", least=0), metavar="0,64,128",
                       help="positions at which a token is measured (default: five, from 0 to the model's last)")
    bench.add_argument("--prompt-tokens", type=whole_list("--prompt-tokens", least=1), metavar="16,64",
                       help="lengths of prompts that are measured (default: 16 and 64)")
    add_drafts(bench)
    bench.add_argument("--plot", type=file_name, metavar="FILE.svg", help="draw tokens/s over position, and the roofline, as SVG "
                       "(wants matplotlib: pip install 'tellme-host[plot]')")
    add_json(bench)


def simulate_options(simulate: argparse.ArgumentParser) -> None:
    simulate.add_argument("--pty", action="store_true", help="as a pseudo terminal (default; there is no other way yet)")
    simulate.add_argument("--link", type=Path, metavar="PATH", help="make a symbolic link to the terminal, which has the same "
                          "name each time; the link is removed at the end")
    add_preset(simulate)
    simulate.add_argument("--preload", metavar="FILE|NAME", help="a model, or an image of load --save, that the memory holds "
                          "when power comes: a host finds it there by its checksums")
    add_drafts(simulate)


def _boards(**_: object) -> list[str]:
    """Boards that a shell offers."""
    from tellme.boards import boards

    return [board.key for board in boards()]


def flash_options(flash: argparse.ArgumentParser) -> None:
    flash.add_argument("board", metavar="BOARD", help="such as ulx3s").completer = _boards  # type: ignore[attr-defined]
    flash.add_argument("--part", metavar="NAME", help="the FPGA on the board, such as 85f (default: the board's first)")
    flash.add_argument("--bitstream", type=Path, metavar="FILE", help="default: the checkout's, which make bitstream builds")
    flash.add_argument("--until-power-off", action="store_true",
                       help="load into the FPGA alone; the flash memory keeps what it has")


def completion_options(completion: argparse.ArgumentParser) -> None:
    completion.add_argument("shell", choices=SHELLS)


#: In the order of the help.
COMMANDS = (
    Command("info", "say what a board is and can do", "Say which core a board runs, what it can do, and how it is: memory, the "
            "SDRAM's training, bad packets, running or not.  Where no board is named and none is plugged in, list the serial "
            "ports, and what each is.", info_options, "tellme.cli.info:info", (
                Example("info", "the board that is plugged in, or the ports that there are"),
                Example("info --device /dev/ttyUSB0 --json", "the board at a port, for programs"),
                Example("info --device sim --preset sim-tiny", "a simulated board"),
            )),
    Command("load", "write a model into a board's memory", "Write a model into a board's memory, which keeps it until power is "
            "off: the next generate finds it there.  What is there already is not sent again.", load_options,
            "tellme.cli.load:load", (
                Example("load stories-1m", "a shipped model, into the board that is plugged in"),
                Example("load model.tellme --device /dev/ttyUSB0 --json", "a file, into the board at a port, for programs"),
                Example("load stories-1m --save stories.image", "what would be sent, into a file"),
            )),
    Command("selftest", "test a board: link, memory, and a layer against the golden model", "Test the link, the SDRAM's clock "
            "phase, the memory, and one layer of a small random model against the golden model.  The memory's content is lost. "
            "Exit code 2 if something failed.", selftest_options, "tellme.cli.selftest:selftest", (
                Example("selftest", "the board that is plugged in, in some seconds"),
                Example("selftest --device /dev/ttyUSB0 --full", "each word of its memory too"),
                Example("selftest --device sim --preset sim-tiny --json", "a simulated board, for programs"),
            )),
    Command("bench", "measure how fast a board is", "Measure the cost of a token at some positions and of prompts of some "
            "lengths, by the board's own cycle counters, against what its memory's peak allows.", bench_options,
            "tellme.cli.bench:bench", (
                Example("bench", "the shipped model on the board that is plugged in"),
                Example("bench --model model.tellme --positions 0,100,200 --plot bench.svg", "other positions, and a plot"),
                Example("bench --device golden --json", "the golden model on this computer, for programs"),
            )),
    Command("simulate", "serve the simulated board as a serial port", "Build the simulated board and serve it as a pseudo "
            "terminal, which hosts open like a board's serial port, one after another; the board keeps its memory.  The "
            "terminal's path is printed on standard output.  Ctrl-C ends the board.", simulate_options,
            "tellme.cli.simulate:simulate", (
                Example("simulate", "a board at a terminal whose name is printed"),
                Example("simulate --preset sim-tiny --link board", "a small one, that hosts open by: --device ./board"),
                Example("simulate --preload stories-1m", "a board that holds a model already"),
            )),
    Command("flash", "write the bitstream into a board", "Write a bitstream into a board's flash memory with openFPGALoader, so "
            "that the board runs it whenever power comes on.", flash_options, "tellme.cli.flash:flash", (
                Example("flash ulx3s", "the bitstream that make bitstream built"),
                Example("flash ulx3s --part 12f --bitstream tellme.bit --until-power-off", "a file, to try it"),
            ), prints=False),
)
#: After all others.
SHELL_COMMANDS = (
    Command("completion", "print what makes a shell complete tellme-host", "Print a script that makes the shell complete "
            "commands, options, models and ports.", completion_options, "tellme.cli.completion:completion", (
                Example("completion bash >> ~/.bashrc", "bash"),
                Example("completion zsh > ~/.zfunc/_tellme-host", "zsh, where ~/.zfunc is in fpath"),
                Example("completion fish > ~/.config/fish/completions/tellme-host.fish", "fish"),
            )),
)
