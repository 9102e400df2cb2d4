# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The simulated board as a device: where it is built from, what is sent to it, and what ends it; without a build."""

from types import SimpleNamespace

import pytest

import tellme
from tellme.compiler.image import compile_model
from tellme.errors import DeviceError
from tellme.link.client import REGION
from tellme.link.errors import LinkError
from tellme.runtime import simulated
from tellme.runtime.simulated import SimDevice, checkout, sim_command
from tellme.spec.config import preset
from tests.cli.fake_client import FakeClient
from tests.models.random_model import random_model

CONFIG = preset("sim-tiny")


class Client(FakeClient):
    """``sent`` has the writes (address, bytes)."""

    def __init__(self, name="sim-tiny"):
        super().__init__(CONFIG)
        self.name, self.sent, self.asked = name, [], 0

    def hello(self):
        return SimpleNamespace(preset=self.name, core_sha256="ab" * 32)

    def write(self, address, content, progress=None):
        self.sent.append((address, len(content)))
        super().write(address, content, progress)

    def checksums(self, ranges):
        self.asked += len(ranges)
        return super().checksums(ranges)


@pytest.fixture
def started(monkeypatch):
    """Makes the device's process a client in this process."""
    closed = []
    monkeypatch.setattr(simulated, "sim_command", lambda config, preload=None: (["board"], None, {}))
    monkeypatch.setattr(simulated, "build", lambda command, root, env: command)
    monkeypatch.setattr(simulated, "ProcessTransport",
                        lambda command, cwd, env: SimpleNamespace(close=lambda: closed.append(command)))

    def start(make):
        monkeypatch.setattr(simulated, "BoardClient", lambda transport, **seconds: make())
        return closed

    return start


def test_a_board_of_another_preset(started):
    started(lambda: Client("sim-slots"))
    with pytest.raises(DeviceError, match="^the simulated board was built for 'sim-slots', not 'sim-tiny'$"):
        SimDevice("sim", CONFIG).connect()


def test_a_board_without_a_client_is_ended(started):
    def make():
        raise LinkError("silent")

    closed = started(make)
    with pytest.raises(LinkError):
        SimDevice("sim", CONFIG).connect()
    assert closed == [["board"]]


def test_a_board_is_started_once(started):
    made = []
    started(lambda: made.append(Client()) or made[-1])
    device = SimDevice("sim", CONFIG)
    device.connect()
    device.connect()
    assert len(made) == 1 and device.core_sha256 == "ab" * 32


@pytest.mark.parametrize(("preload", "trusted"), [(False, False), (True, False), (True, True)])
def test_what_is_sent(preload, trusted, started, tmp_path):
    """All to a blank memory.  One that holds something is asked for checksums.  A trusted one takes its first region alone, into
    which the training of a DDR3 memory has written."""
    client = Client()
    started(lambda: client)
    image = compile_model(random_model("plain"), CONFIG)
    size = sum(part.size for _, part in image.sections)
    device = SimDevice("sim", CONFIG, preload=tmp_path / "image" if preload else None, trusted=trusted)
    device.connect()
    if preload:
        for base, part in image.sections:
            client.memory[base:base + part.size] = bytes(part)
    device.load(image, lambda done, total: None)
    memory = sum(length for address, length in client.sent if address < len(client.memory))
    if trusted:
        assert (memory, client.asked) == (min(REGION, image.sections[0][1].size), 0)
    elif preload:
        assert memory == 0 and client.asked > 0
    else:
        assert memory == size and client.asked == 0
    assert device.skipped >= size - memory


# Where it is built from


def test_a_checkout_around_the_working_directory(tmp_path, monkeypatch):
    """For a package that is installed elsewhere."""
    monkeypatch.setattr(tellme, "__file__", str(tmp_path / "site" / "tellme" / "__init__.py"))
    root = tmp_path / "clone"
    below = root / "docs" / "reports"
    for folder in (below, root / "sim" / "board", root / "hw"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(below)
    (root / "sim" / "board" / "__main__.py").touch()
    assert checkout() is None
    with pytest.raises(DeviceError, match="^the simulated board is built from a checkout of the repository, and this is none"):
        sim_command(CONFIG)
    (root / "hw" / "top.py").touch()
    assert checkout() == root


def test_a_python_without_the_gatewares_tools(monkeypatch):
    monkeypatch.setattr(simulated.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError) as caught:
        sim_command(CONFIG)
    assert "needs the gateware's tools, which this Python does not have. Type:\n  cd '" in str(caught.value)
    assert caught.value.hint == "golden"
