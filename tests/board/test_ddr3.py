# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board with a DDR3 chip: start and training, decode and chunks against the golden model, and models that the
memory holds when power comes."""

import numpy as np
import pytest

from hw.verilog import core_sha256, core_verilog
from sim.board.build import DDR3_LANES
from tellme.compiler.image import compile_model
from tellme.compiler.image_file import save_image, stored_pieces
from tellme.errors import InputError
from tellme.golden.board import GoldenBoard
from tellme.link.client import REGION
from tellme.link.errors import LinkError
from tellme.runtime.simulated import SimDevice
from tellme.spec.config import preset
from tellme.spec.ddr3_training import TRAINING_FIELDS
from tellme.spec.memory import SDRAM_BASE, EventType, StartArgs, StartFlags, StatusWord
from tellme.spec.words import unpack_word
from tests.board.compare import client, compare
from tests.models.random_model import BOARD_FAMILY, random_model

pytestmark = pytest.mark.rtl

PRESET = "sim-ddr3"
BOARD = preset(PRESET)
LANES = BOARD.chunk
PROMPT = [5, 17, 101, 3, 64]


def test_core_is_the_presets(device):
    assert device.core_sha256 == core_sha256(core_verilog(PRESET))


def test_the_training_finds_the_middle_of_each_window(device):
    found = unpack_word(TRAINING_FIELDS, client(device).status()[StatusWord.TRAINING])
    for lane, (slip, first, last) in enumerate(DDR3_LANES):
        assert (found[f"slip{lane}"], found[f"start{lane}"], found[f"window{lane}"]) == (slip, first, last - first + 1)
        assert found[f"readclksel{lane}"] == first + (last - first + 1) // 2
    assert not found["failed"] and not found["overridden"]


@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_random_models(device, name):
    """All logits and CRCs token by token, then a prompt in chunks, and what follows it."""
    model = random_model(name)
    rng = np.random.default_rng(len(name))
    assert compare(device, model, [int(t) for t in rng.integers(0, model.config.vocab, 3)], 2).positions == 4
    image = compile_model(model, BOARD)
    golden = GoldenBoard(image, lanes=LANES)
    prompt = [int(t) for t in rng.integers(0, model.config.vocab, 2 * LANES + 1)]
    generated(device, golden, prompt, 3)
    assert device.crcs() == golden.crcs[:-1]


def generated(device, golden, prompt, tokens):
    """A prompt in chunks and picks; they and the last logits are the golden model's."""
    device.place(0, prompt)
    golden.tokens[:len(prompt)] = prompt
    args = StartArgs(0, len(prompt), tokens, StartFlags.CLEAR | StartFlags.DUMP)
    events = [(kind, event.position, event.id) for kind, event in device.start(args)]
    assert [kind for kind, *_ in events] == [EventType.TOKEN] * tokens + [EventType.DONE]
    assert events[:-1] == [(kind, event.position, event.id) for kind, event in golden.start(args)][:-1]
    assert np.array_equal(device.logits(), golden.logits)


@pytest.fixture
def preloaded(tmp_path):
    """A board that holds an image when power comes, and the model of it."""
    devices = []

    def start(model, **options):
        save_image(tmp_path / "image", model, BOARD)
        device = SimDevice("sim", BOARD, preload=tmp_path / "image", **options)
        device.connect()
        devices.append(device)
        return device

    yield start
    for device in devices:
        device.close()


def sizes(image):
    """Bytes of memory, and of tables, which are always sent."""
    return (sum(len(part) for _, part in image.sections),
            sum(len(table) for _, table in image.tables))


@pytest.mark.parametrize("trusted", [False, True])
def test_a_preloaded_model_is_not_sent(preloaded, trusted):
    """But for the first region, to which the training has written; the text is the golden model's."""
    model = random_model("untied")
    image = compile_model(model, BOARD)
    device = preloaded(model, trusted=trusted)
    heard = []
    device.load(image, lambda *done: heard.append(done))
    memory, tables = sizes(image)
    first = min(REGION, len(image.sections[0][1]))
    assert image.sections[0][0] == 0 and memory > first
    assert (device.sent, device.skipped) == (tables + first, memory - first)
    assert heard[-1] == (memory + tables, memory + tables)
    generated(device, GoldenBoard(image, lanes=LANES), PROMPT, 3)
    # What is there now is the whole model.
    device.load(image, lambda done, total: None)
    if not trusted:
        assert (device.sent, device.skipped) == (tables, memory)


def test_another_model_than_the_preloaded_one(preloaded):
    """What differs is sent, and the text is that of the model that was asked for."""
    device = preloaded(random_model("untied"))
    model = random_model("untied", seed=1)
    image = compile_model(model, BOARD)
    device.load(image, lambda done, total: None)
    memory, tables = sizes(image)
    rope = len(dict(image.sections)[4 * image.registers["rope_base"]])
    # Equal shapes have equal RoPE tables.
    assert (device.sent, device.skipped) == (memory + tables - rope, rope)
    generated(device, GoldenBoard(image, lanes=LANES), PROMPT, 3)


def test_a_file_for_another_board(tmp_path):
    save_image(tmp_path / "image", random_model("plain"), preset("sim-tiny"))
    with pytest.raises(InputError, match="written for the preset sim-tiny, and the board is sim-ddr3"):
        SimDevice("sim", BOARD, preload=tmp_path / "image").connect()


def test_unwritten_memory_ends_the_board(preloaded, capfd):
    """Memory behind the image was never written, and a read of it ends the board."""
    model = random_model("plain")
    device = preloaded(model)
    end = compile_model(model, BOARD).end
    assert client(device).read(SDRAM_BASE, 16) != bytes(16)
    with pytest.raises(LinkError):
        client(device).read(SDRAM_BASE + end, 16)
    assert "DDR3 rule broken: unwritten: read of a cell never written" in capfd.readouterr().err


def test_the_pieces_of_a_file_are_what_the_memory_holds(preloaded, tmp_path):
    """Each byte, wherever it lies: behind the training's first 16 bytes."""
    device = preloaded(random_model("grouped"))
    content = (tmp_path / "image").read_bytes()
    for offset, size, address in stored_pieces(tmp_path / "image", BOARD):
        if address < BOARD.sdram_bytes:
            skip = 16 if address == SDRAM_BASE else 0
            assert client(device).read(address + skip, size - skip) == content[offset + skip:offset + size]
