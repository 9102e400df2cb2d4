# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The golden model against transformers and llama.cpp: live with ``make test-ref``, in CI against logits that they gave."""
