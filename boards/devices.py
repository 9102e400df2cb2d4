# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The devices of a board file: platforms from the board file, presets from the host package's data."""

from collections.abc import Mapping
from typing import Any

from tellme.boards import boards

__all__ = ["devices"]


def devices(key: str, platforms: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Device -> (preset, platform class) of a board, with the presets of the host package's data.

    ``platforms`` has the same devices; a ValueError names the board where a device is missing on either side.
    """
    presets = {board.key: board.presets for board in boards()}.get(key, {})
    if presets.keys() != platforms.keys():
        raise ValueError(f"the board file of {key} has platforms for {', '.join(platforms)}, and the host package's boards.json "
                         f"has presets for {', '.join(presets) or 'none'}")
    return {device: (presets[device], platform) for device, platform in platforms.items()}
