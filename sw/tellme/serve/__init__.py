# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""An HTTP server that speaks as OpenAI's does, over one board or a pool of boards."""
