# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""A golden board whose memory can be flipped while it is loaded: what packets write, and its KV cache."""

import numpy as np

from tellme.golden.board import GoldenBoard
from tellme.spec.memory import CRC_BASE, TOP_BASE, cache_bases
from tests.cli.fake_client import FakeClient

__all__ = ["SoftClient"]


class SoftClient(FakeClient):
    """Tells step CRCs.  ``flip`` flips a bit of the memory's byte at an address: of the image, or of the KV cache.

    The board is booted anew after a flip in the image, with the KV cache that it had.  A byte that is no base-3 code then, which
    a board multiplies with what its table holds there, is left as it was: ``skipped`` counts such flips.
    """

    skipped = 0

    def read(self, address, size):
        if CRC_BASE <= address < TOP_BASE:
            return np.array(self.board.crcs, "<u4").tobytes()[address - CRC_BASE:][:size]
        return super().read(address, size)

    def flip(self, address, bit):
        if self.board is None:
            self._boot()
        if self._flip_cache(self.board, address, bit):
            return
        self.memory[address] ^= 1 << bit
        before = self.board
        try:
            self._boot()
        except ValueError:
            # A tile's header, or a code.
            self.memory[address] ^= 1 << bit
            self.board, self.skipped = before, self.skipped + 1
            return
        self.board._caches = before._caches
        self.board.windows = before.windows

    @staticmethod
    def _flip_cache(board: GoldenBoard, address, bit):
        """Whether the byte is one of the KV cache of slot 0, and was flipped there."""
        r = board.registers
        for layer, caches in board._caches.items():
            cache, (k, v, s) = caches[0], cache_bases(r, layer)
            for head in range(r["kv_heads"]):
                for base, rows in ((k, cache.keys[head]), (v, cache.values[head])):
                    at = address - 4 * (base + head * r["kv_stride"])
                    if 0 <= at < rows.size:
                        rows.view(np.uint8).reshape(-1)[at] ^= 1 << bit
                        return True
                at = address - 4 * (s + head * r["s_stride"])
                if 0 <= at < 4 * len(cache.key_scales[head]):
                    scales = (cache.key_scales, cache.value_scales)[at % 4 // 2][head]
                    scales[at // 4] ^= 1 << bit + 8 * (at % 2)
                    return True
        return False
