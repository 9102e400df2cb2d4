# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The file with what a host writes before a run: what tellme-host itself writes, and nothing else."""

from dataclasses import replace

import pytest

from tellme.compiler.image import CompileError, compile_model
from tellme.compiler.image_file import image_pieces, save_image
from tellme.models.config import ModelError
from tellme.runtime.device import BoardDevice
from tellme.spec.config import preset
from tellme.spec.image_file import HEADER, MAGIC, PIECE
from tellme.spec.program import FORMAT_VERSION
from tests.models.random_model import BOARD_FAMILY, random_model

CONFIG = preset("ulx3s-85f")


class Writes:
    """A client that keeps what is written."""

    def __init__(self):
        self.pieces = []

    def write(self, address, content, progress=None):
        self.pieces.append((address, content + bytes(-len(content) % 4)))

    def checksums(self, ranges):
        return [0 for _ in ranges]


def joined(pieces):
    """Pieces that follow one another as one piece."""
    out = []
    for address, content in pieces:
        if out and out[-1][0] + len(out[-1][1]) == address:
            out[-1] = out[-1][0], out[-1][1] + content
        else:
            out.append((address, content))
    return out


def read(path):
    """Format, preset and pieces of a file."""
    content = path.read_bytes()
    magic, version, count, name = HEADER.unpack_from(content)
    assert magic == MAGIC
    at, pieces = HEADER.size, []
    for _ in range(count):
        address, size = PIECE.unpack_from(content, at)
        at += PIECE.size + size
        pieces.append((address, content[at - size:at]))
    assert at == len(content)
    return version, name.rstrip(b"\0").decode(), pieces


@pytest.mark.parametrize("head", ["board", "host"])
@pytest.mark.parametrize("name", BOARD_FAMILY)
def test_the_file_has_what_a_load_writes(name, head, tmp_path):
    model = random_model(name)
    save_image(tmp_path / "image", model, CONFIG, head=head)
    version, board, pieces = read(tmp_path / "image")
    assert (version, board) == (FORMAT_VERSION, "ulx3s-85f")
    assert all(address % 4 == 0 and content and len(content) % 4 == 0 for address, content in pieces)
    client = Writes()
    BoardDevice("port", CONFIG, client, "").load(compile_model(model, CONFIG, head=head), lambda done, total: None)
    assert joined(pieces) == joined(client.pieces)


def test_pieces_are_the_images():
    image = compile_model(random_model("plain"), CONFIG)
    # Program, segments, registers of the model, and those of drafts.
    assert len(image_pieces(image)) == len(image.sections) + 4


def test_what_does_not_fit_leaves_no_file(tmp_path):
    model = random_model("plain")
    model.config = replace(model.config, context=1 << 20)
    with pytest.raises(CompileError, match="context is 1048576, and the build ulx3s-85f can do"):
        save_image(tmp_path / "image", model, CONFIG)
    with pytest.raises(ModelError, match="there is no folder"):
        save_image(tmp_path / "no" / "image", random_model("plain"), CONFIG)
    assert not list(tmp_path.iterdir())
