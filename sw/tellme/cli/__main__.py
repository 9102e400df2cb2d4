# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""``python -m tellme.cli``."""

import sys

from tellme.cli import main

sys.exit(main())
