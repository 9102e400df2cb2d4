# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Fuzzing of everything that reads what strangers made: model files, tokenizers, templates, requests, frames (SECURITY.md)."""
