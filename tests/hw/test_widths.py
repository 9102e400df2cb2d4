# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Cores whose widths are not a preset's: each configuration that is not refused is a circuit."""

import pytest
from amaranth.back import rtlil

from hw.top import Core
from hw.verilog import uncollected
from tellme.spec.config import CoreConfig

CONFIGS = {
    # An ffn of 6912: 13,824 rows of gate and up.
    "wide": {"max_dim": 2560, "max_cols": 6912, "max_head_dim": 128, "max_kv_heads": 5, "max_context": 4096, "max_vocab": 128256,
             "sdram_bytes": 1 << 26, "sdram_column_bits": 10},
    "narrow": {"lanes": 1, "max_dim": 4, "max_cols": 16, "max_head_dim": 16, "max_kv_heads": 2, "max_group": 2, "max_context": 2,
               "max_vocab": 8, "program_steps": 8, "sdram_bytes": 4096, "sdram_column_bits": 8, "compact": True},
    "chunks of three": {"lanes": 3, "chunk": 3, "pes": 8, "exp_units": 2, "max_kv_heads": 3, "max_group": 3, "max_context": 100},
    "one KV head": {"lanes": 2, "chunk": 2, "float_lanes": 2, "max_kv_heads": 1, "max_group": 1, "max_head_dim": 40},
    # Attention of a token reads 32 bits, that of a chunk 64.
    "DDR3, one token": {"lanes": 2, "ddr3_chip": "MT41K64M16"},
    "DDR3, group of 8": {"lanes": 4, "chunk": 2, "pes": 16, "max_kv_heads": 3, "max_group": 8, "max_head_dim": 24,
                         "max_context": 101, "ddr3_chip": "MT41K64M16"},
}


#: Those that CI elaborates: heads and groups of other numbers than any preset, with each memory.  The others go to the night.
BY_DAY = ("one KV head", "DDR3, group of 8")


@pytest.mark.parametrize("name", [name if name in BY_DAY else pytest.param(name, marks=pytest.mark.nightly) for name in CONFIGS])
def test_a_configuration_is_a_circuit(name):
    with uncollected():
        text = rtlil.convert(Core(CoreConfig(name=name, **CONFIGS[name])), name="core")
    assert "module \\core" in text
