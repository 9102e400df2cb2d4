# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The udev rules for the boards' serial chips, which the package ships.

``python -m tellme.link.serial_rules`` writes the file anew after a change of ``data/boards.json``.
"""

from importlib import resources
from pathlib import Path

from tellme.boards import boards

__all__ = ["RULES", "rules", "rules_file"]

#: Name of the file, in the package's data and in /etc/udev/rules.d.  systemd gives the rights that the tag uaccess names by a
#: rule with the number 73, so the number here is lower.
RULES = "60-tellme.rules"

_HEAD = """\
# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
#
# Boards of tellme.  Whoever sits at the computer may use the serial port and load bitstreams, and the serial chip passes the
# board's bytes on after 1 ms and not after 16 ms.  Other devices with the same serial chip are treated the same.
# Made from sw/tellme/data/boards.json by: python -m tellme.link.serial_rules
#
#   sudo cp 60-tellme.rules /etc/udev/rules.d/
#   sudo udevadm control --reload
#   sudo udevadm trigger

ACTION=="remove", GOTO="tellme_end"
"""


def _chip(usb: str, names: list[str]) -> str:
    """The rules for a USB id, of boards with these names."""
    vendor, product = usb.split(":")
    parent = f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"'
    return (f'# {", ".join(names)}\n'
            f'SUBSYSTEM=="tty", {parent}, TAG+="uaccess"\n'
            f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product}", TAG+="uaccess"\n'
            f'SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", {parent}, ATTR{{latency_timer}}="1"\n')


def rules() -> str:
    """The content of the file: rules for each USB id of the boards."""
    names: dict[str, list[str]] = {}
    for board in boards():
        for number in dict.fromkeys(usb.id for usb in board.usb):
            names.setdefault(number, []).append(board.name)
    return "\n".join([_HEAD, *(_chip(*item) for item in sorted(names.items())), 'LABEL="tellme_end"\n'])


def rules_file() -> Path:
    """The file in this package's data."""
    return Path(str(resources.files("tellme") / "data" / RULES))


if __name__ == "__main__":
    rules_file().write_text(rules(), "utf-8")
