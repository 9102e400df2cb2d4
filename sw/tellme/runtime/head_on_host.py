# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Runs a model whose embedding and LM head do not fit the board: rows of the embedding go to the board, the final state comes
back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tellme.compiler.image import Head, Image, place_model
from tellme.compiler.pack import pack_head
from tellme.errors import DeviceError
from tellme.golden.head import Table, best, probed_state
from tellme.golden.scales import unpack16
from tellme.golden.weights import Budget
from tellme.models.source import Source, StoredSource
from tellme.runtime.device import Device, Progress, check_slot
from tellme.spec.config import CoreConfig
from tellme.spec.ending import ending
from tellme.spec.memory import DoneReason, Event, EventType, StartArgs, StartFlags
from tellme.spec.packing import HEAD_BLOCK_ROWS, head_block_words, head_row_words
from tellme.spec.sampling import DrawSettings, draw

__all__ = ["HeadOnHost", "place_head"]


def place_head(device: Device, model: StoredSource, head: Head | None, say: Callable[[str], None]) -> tuple[Device, Image]:
    """A model for a device; with the LM head on the host, the device that does it.  ``say`` hears of a head on the host."""
    image, why = place_model(model, device.config(model), head)
    if image.probe is None:
        return device, image
    say(f"head: on the host, as {why}")
    return HeadOnHost(device, model), image


class HeadOnHost(Device):
    """A device whose embedding and LM head are on the host.  Its interface and its bits are those of any other device.

    Before a start the host writes the embedding rows of the tokens to feed to the board, the first token's row first, and token
    memory names the rows by number.  A start feeds the rows and runs the probe (:mod:`tellme.spec.probe`).  The host reads the
    probe's logits, computes the model's logits from them, and picks as a board with a sampler does.  Each generated token is a
    start of its own.
    """

    picks_by = "host"
    sampler = True

    def __init__(self, device: Device, model: StoredSource):
        self._device = device
        self.name, self.preset, self.fabric_mhz = device.name, device.preset, device.fabric_mhz
        self.token_window = device.token_window
        self._config = model.config
        self._model = model
        name, c = "embedding" if model.config.tied else "head", model.config
        stored = np.concatenate([part.scales for part in model.table(name)])
        self._head = Table(lambda: (part.codes for part in model.table(name)), (c.vocab, c.dim), unpack16(stored), Budget())
        self._tokens: dict[int, int] = {}
        self._image: Image | None = None
        self._logits = np.zeros(model.config.vocab, np.int32)
        self._settings: DrawSettings | None = None

    @property
    def core_sha256(self) -> str | None:  # type: ignore[override]
        """The configuration of the device underneath; known when the device is connected."""
        return self._device.core_sha256

    def config(self, model: Source) -> CoreConfig:
        return self._device.config(model)

    def connect(self) -> None:
        self._device.connect()

    def load(self, image: Image, progress: Progress) -> None:
        self._image = image
        self._device.load(image, progress)

    def watch(self, cycles: int) -> None:
        self._device.watch(cycles)

    def place(self, position: int, tokens: Sequence[int], slot: int = 0) -> None:
        check_slot(slot, self)
        self._tokens |= {position + i: token for i, token in enumerate(tokens)}

    def write(self, address: int, content: bytes) -> None:
        self._device.write(address, content)

    def draw_as(self, settings: DrawSettings, slot: int = 0) -> None:
        check_slot(slot, self)
        self._settings = settings

    def start(self, args: StartArgs) -> Iterator[tuple[EventType, Event]]:
        settings = None
        check_slot(args.slot, self)
        if args.flags & StartFlags.ALL:
            raise DeviceError("a head on the host gives no picks after all tokens: feed the tokens one by one")
        if args.flags & StartFlags.SAMPLE:
            settings = self._settings
            assert settings is not None, "nobody said how to draw"
        position, feed, flags, picked = args.position, args.feed, (args.flags | StartFlags.DUMP) & ~StartFlags.SAMPLE, 0
        while True:
            self._send(position, feed)
            event, done = self._run(replace(args, position=position, feed=feed, generate=min(args.generate, 1), flags=flags,
                                            ends=()))
            if event is None:
                # No pick was asked for, or the run ended before the token's pick.
                yield EventType.DONE, done
                return
            self._logits = self._compute()
            picked += 1
            position += feed
            top = best(self._logits)
            token = top[0][0] if settings is None else draw(top, settings, position)
            logit = int(self._logits[token])
            self._tokens[position] = token
            yield EventType.TOKEN, replace(event, id=token, logit=logit)
            reason = ending(token, picked, ends=args.ends, limit=args.generate, next_position=position,
                            context=self._config.context)
            if reason is not None:
                yield EventType.DONE, replace(done, id=token, logit=reason)
                return
            feed, flags = 1, StartFlags.DUMP

    def _loaded(self) -> Image:
        assert self._image is not None, "no image is loaded"
        return self._image

    def _send(self, position: int, feed: int) -> None:
        """Rows of the tokens that are fed next."""
        rows = self.embedding_rows([self._tokens[position + i] for i in range(feed)])
        self._device.write(4 * self._loaded().registers["embed_base"], rows)
        self._device.place(position, range(feed))

    def embedding_rows(self, ids: Sequence[int]) -> bytes:
        """The rows of tokens as the board gets them, in the order of the tokens."""
        dim = self._config.dim
        blocks, rest = divmod(len(ids), HEAD_BLOCK_ROWS)
        size = 8 * (blocks * head_block_words(dim) + (1 + rest * head_row_words(dim) if rest else 0))
        return pack_head(*self._model.rows("embedding", np.array(ids)))[:size]

    def _run(self, args: StartArgs) -> tuple[Event | None, Event]:
        """The token's event, if there was one, and DONE."""
        token: Event | None = None
        for kind, event in self._device.start(args):
            if kind == EventType.DONE:
                return (token if event.logit == DoneReason.LENGTH else None), event
            token = event
        raise DeviceError(f"{self.name} ended a run without saying so")

    def _compute(self) -> NDArray[np.int32]:
        """The model's logits of the last token fed."""
        return self.model_logits(self._device.logits())

    def model_logits(self, probed: NDArray[np.int32]) -> NDArray[np.int32]:
        """The model's logits (vocab,), from the logits of the probe (dim,).  A state that no run gives is a DeviceError."""
        probe = self._loaded().probe
        assert probe is not None, "the image has the head on the board"
        try:
            codes, d = probed_state(probed, probe)
        except ValueError as error:
            raise DeviceError(f"the final state that {self.name} gave cannot be read: {error}; with the head on the board "
                              "none is read", hint="head") from error
        return self._head.logits(codes, d)[0]

    def top(self, number: int = -1, slot: int | None = None) -> list[tuple[int, int]]:
        return best(self.pass_logits()[number])

    def crcs(self) -> list[int]:
        return self._device.crcs()

    def counters(self) -> dict[str, int]:
        return self._device.counters()

    def checksums(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        return self._device.checksums(ranges)

    def pass_logits(self, slot: int | None = None) -> NDArray[np.int32]:
        return self._logits[None]

    def stop(self, slot: int | None = None) -> None:
        self._device.stop(slot)

    def close(self) -> None:
        self._device.close()
