# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The host's end of the link: byte transports, packets, finding boards."""

from tellme.link.errors import LinkError

__all__ = ["LinkError"]
