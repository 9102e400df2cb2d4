# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Opens the device that --device names."""

from collections.abc import Callable

from tellme.cli.devices import Device, GoldenDevice

__all__ = ["open_device"]


def open_device(name: str, preset: str, say: Callable[[str], None]) -> Device:
    """The golden model, the simulated board or a port; ``say`` hears which and why."""
    if name == "golden":
        say("device: the golden model, as --device golden says")
        return GoldenDevice()
    from tellme.cli.boards import open_board

    return open_board(name, preset, say)
