# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tellme-host info, load and selftest, on boards that tests make."""

import json
from dataclasses import replace

import pytest

from tellme import __version__
from tellme.cli import info as command
from tellme.cli import main
from tellme.link import serial_usb
from tellme.runtime.board import Board
from tellme.runtime.info import BoardState, core_limits, describe, phase_step_ns, readclksel_step_ps
from tellme.spec.config import PRESETS, preset
from tellme.spec.ddr3_training import Ddr3Training, LaneSettings, LaneTraining
from tellme.spec.memory import REGISTERS, StatusWord
from tellme.spec.packets import PROTOCOL_VERSION
from tellme.spec.program import FORMAT_VERSION
from tellme.spec.status import TRAINING_BITS, StatusFlag, Training
from tests.runtime.faulty_board import Faults, board_of, steps

#: A core with a DDR3 memory.
DDR3 = preset("sim-ddr3")
CONFIG = preset("ulx3s-85f-l2")


@pytest.fixture
def board(monkeypatch):
    """Makes the board that the commands open: a function of faults and configuration; it returns the board."""
    made = []

    def make(faults=None, config=CONFIG):
        made.append(board_of(config, faults))
        return made[-1]

    monkeypatch.setattr(Board, "open", lambda name, **named: made[-1])
    return make


def run(capsys, *arguments):
    code = main([*arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


# info


def test_info_for_programs(board, capsys):
    board(Faults(training=Training(14, 33, 11, False)))
    code, out, _ = run(capsys, "info", "--device", "/dev/ttyX", "--json")
    found = json.loads(out)
    assert code == 0 and (found["device"], found["preset"], found["core_sha256"]) == ("/dev/ttyX", CONFIG.name, "ab" * 32)
    assert (found["host_version"], found["protocol"], found["program_format"]) == (__version__, PROTOCOL_VERSION, FORMAT_VERSION)
    assert found["limits"]["dim"] == CONFIG.max_dim and found["limits"]["context"] == CONFIG.max_context
    assert (found["lanes"], found["chunk"], found["memory_bytes"]) == (CONFIG.lanes, CONFIG.chunk, CONFIG.sdram_bytes)
    assert found["peak_bytes_per_second"] == pytest.approx(2 * 2 * CONFIG.fabric_mhz * 1e6)
    assert found["state"]["training"] == {"beats": 14, "phase": 33, "window": 11, "failed": False}
    assert found["state"]["bad_packets"] == 7 and found["state"]["running"] is False and found["state"]["cycles"] == 12345


def test_info_for_a_person(board, capsys):
    board(Faults(training=Training(14, 20, 8, False)))
    code, out, _ = run(capsys, "info", "--device", "/dev/ttyX")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and lines["device"] == "/dev/ttyX" and lines["core"] == "ab" * 32
    assert lines["SDRAM"] == "ready; 14 beats from READ to data, phase 20 of 32, 8 phases work (1.87 ns)"
    assert lines["memory"] == "32 MiB, up to 266.7 MB/s" and lines["state"] == "idle"
    assert lines["bad"] == "packets      7 since power-up"
    board(Faults(ready=False, training=Training(0, 0, 0, True)))
    assert "not ready: no phase of its clock works" in run(capsys, "info", "--device", "/dev/ttyX")[1]


def test_info_of_a_ddr3_memory(board, capsys):
    board(config=DDR3)
    code, out, _ = run(capsys, "info", "--device", "/dev/ttyX")
    lines = dict(line.split("  ", maxsplit=1) for line in out.splitlines())
    # CK has 150 MHz: a step is 1667 ps.
    assert code == 0 and lines["SDRAM"].strip() == "ready"
    assert lines["DDR3 lane 0"].strip() == (
        "READCLKSEL 4, slip 1, found by the training; READCLKSEL 2 to 5 work: 4 steps, 6667 ps")
    assert lines["DDR3 lane 1"].strip() == (
        "READCLKSEL 2, slip 3, found by the training; READCLKSEL 1 to 3 work: 3 steps, 5000 ps")
    found = json.loads(run(capsys, "info", "--device", "/dev/ttyX", "--json")[1])
    assert (found["memory_kind"], found["phases"], found["phase_step_ns"]) == ("DDR3", None, None)
    assert found["readclksel_step_ps"] == pytest.approx(1e6 / 150 / 4)
    assert found["state"]["overrides"] == [None, None] and found["state"]["training"] == {
        "lanes": [{"readclksel": 4, "slip": 1, "start": 2, "window": 4}, {"readclksel": 2, "slip": 3, "start": 1, "window": 3}],
        "failed": False, "overridden": False}


def test_info_of_a_ddr3_memory_that_is_not_ready(board, capsys):
    board(Faults(lanes=(steps(1, 3, 3), set())), DDR3)
    out = run(capsys, "info", "--device", "/dev/ttyX")[1]
    assert "not ready: the training failed, no READCLKSEL works for lane 1 (docs/bring-up.md)" in out
    assert "READCLKSEL 3 to 3 work: 1 step, 1667 ps" in out
    assert "DDR3 lane 1      READCLKSEL 0, slip 0, found by the training; no READCLKSEL works" in out


def test_ddr3_settings_are_written_and_taken_back(board, capsys):
    opened = board(config=DDR3)
    command_ = ["selftest", "--device", "/dev/ttyX", "--ddr3-settings"]
    code, out, _ = run(capsys, *command_, "5:1,auto")
    assert code == 0 and "READCLKSEL 5, slip 1, set by the host; READCLKSEL 2 to 5 work: 4 steps, 6667 ps; lane 1: " in out
    # They stay, for any later command.
    info = run(capsys, "info", "--device", "/dev/ttyX")[1]
    assert "DDR3 lane 0      READCLKSEL 5, slip 1, set by the host" in info and "slip 3, found by the training" in info
    state = json.loads(run(capsys, "info", "--device", "/dev/ttyX", "--json")[1])["state"]
    assert state["overrides"] == [{"readclksel": 5, "slip": 1}, None] and state["training"]["overridden"]
    # Written and not trained yet: said so.
    at = 4 * REGISTERS["sdram_settings"]
    opened.device.client.registers[at:at + 4] = (7 | 2 << 3 | 1 << 5).to_bytes(4, "little")
    info = run(capsys, "info", "--device", "/dev/ttyX")[1]
    assert "READCLKSEL 5, slip 1, found by the training (the host's READCLKSEL 7 and slip 2 count from the next" in info
    code, out, _ = run(capsys, *command_, "auto", "--json")
    numbers = {check["name"]: check["numbers"] for check in json.loads(out)["checks"]}["DDR3 training"]
    assert code == 0 and numbers["overridden"] is False and numbers["overrides"] == [None, None]
    assert numbers["lanes"][0] == {"readclksel": 4, "slip": 1, "start": 2, "window": 4, "window_ps": 6666.7}


def test_ddr3_settings_that_do_not_work_are_said(board, capsys):
    board(config=DDR3)
    code, out, _ = run(capsys, "selftest", "--device", "/dev/ttyX", "--ddr3-settings", "7:0,auto")
    assert code == 2 and "FAILED DDR3 training  the host's settings did not read back what was written" in out
    assert "settings auto" in out
    assert "ready, but the host's settings did not read back" in run(capsys, "info", "--device", "/dev/ttyX")[1]


@pytest.mark.parametrize(("text", "wanted"), [
    ("8:1,auto", "readclksel: 8 is outside 0 to 7"), ("3:4,auto", "slip: 4 is outside 0 to 3"),
    ("-1:0,auto", "readclksel: -1 is outside"), ("3:1", "for 2 lanes"), ("3:1,3:1,3:1", "for 2 lanes"),
    ("3,3", "for 2 lanes"), ("a:b,auto", "for 2 lanes"), ("", "for 2 lanes"),
    ("3:1:1,auto", "for 2 lanes"), ("auto,auto,auto", "for 2 lanes")])
def test_ddr3_settings_that_are_none(board, capsys, text, wanted):
    board(config=DDR3)
    code, _, err = run(capsys, "selftest", "--device", "/dev/ttyX", f"--ddr3-settings={text}")
    assert code == 2 and wanted in err and "--ddr3-settings" in err and len(err.splitlines()) == 1


def test_ddr3_settings_for_an_sdr_memory(board, capsys):
    board()
    code, out, _ = run(capsys, "selftest", "--device", "/dev/ttyX", "--ddr3-settings", "auto")
    assert code == 2 and "the memory of ulx3s-85f-l2 is SDR" in out


@pytest.mark.parametrize("name", PRESETS)
def test_limits_of_each_preset(name):
    core = preset(name)
    found = describe(board_of(core))
    assert found.preset == name and found.limits == core_limits(core) and all(found.limits.values())
    if core.ddr3:
        assert (found.memory_kind, found.phases, found.phase_step_ns) == ("DDR3", None, None)
        assert found.readclksel_step_ps == readclksel_step_ps(core) == pytest.approx(1e6 / (2 * core.fabric_mhz) / 4)
    else:
        assert (found.memory_kind, found.phases, found.readclksel_step_ps) == ("SDR", core.sdram_phases, None)
        assert found.phase_step_ns == phase_step_ns(core) == pytest.approx(1e3 / (2 * core.fabric_mhz) / core.sdram_phases)
    assert found.boards == {"ulx3s-85f": ("ulx3s 85f",), "ecp5-25f": ("icepi_zero 25f", "ulx3s 12f"),
                            "ecpix5-85f": ("ecpix5 85f",), "orangecrab-85f": ("orangecrab 85f",)}.get(name, ())


def test_the_words_of_status():
    words = [0] * 8
    words[StatusWord.FLAGS] = StatusFlag.RUNNING | StatusFlag.NONFINITE | 1 << 20
    words[StatusWord.STEP], words[StatusWord.POSITION], words[StatusWord.BAD_PACKETS] = 5, 77, 3
    words[StatusWord.TRAINING] = 9 | 41 << 5 | 12 << 11 | 1 << 17
    state = BoardState.of(tuple(words))
    assert (state.running, state.sdram_ready, state.nonfinite, state.stopped) == (True, False, True, False)
    assert (state.step, state.position, state.bad_packets) == (5, 77, 3)
    assert state.training == Training(9, 41, 12, True) and state.training.pack() == words[StatusWord.TRAINING]


def test_the_gatewares_layouts_are_these():
    pytest.importorskip("amaranth")
    from hw.lib.control import StatusFlags
    from hw.memory.sdr.bringup import TrainingLayout

    assert [(name, TrainingLayout[name].offset, TrainingLayout[name].width) for name, _ in TrainingLayout] == [
        (name, sum(list(TRAINING_BITS.values())[:i]), bits) for i, (name, bits) in enumerate(TRAINING_BITS.items())]
    assert {flag.name.lower(): flag for flag in StatusFlag} == {
        name: 1 << StatusFlags[name].offset for name, _ in StatusFlags if name != "zeros"}


def test_the_words_of_a_ddr3_memory():
    words = [0] * 8
    words[StatusWord.TRAINING] = 3 | 1 << 3 | 2 << 5 | 4 << 8 | (7 | 3 << 3 | 5 << 5 | 8 << 8) << 12 | 1 << 24 | 1 << 25
    state = BoardState.of(tuple(words), ddr3=True, settings=(6 | 2 << 3 | 1 << 5) << 6)
    assert state.training == Ddr3Training((LaneTraining(3, 1, 2, 4), LaneTraining(7, 3, 5, 8)), True, True)
    assert state.training.pack() == words[StatusWord.TRAINING] and state.overrides == (None, LaneSettings(6, 2))


class Port:
    """What pyserial says of a port."""

    def __init__(self, device, product=None, usb=None):
        self.device, self.name, self.product, self.serial_number = device, device, product, None
        self.vid, self.pid = usb or (None, None)


@pytest.fixture
def plugged(monkeypatch):
    def use(*found):
        monkeypatch.setattr(serial_usb.list_ports, "comports", lambda: list(found))
        monkeypatch.setattr(command, "find_board", lambda: None)
    return use


def test_info_without_a_board_lists_the_ports(plugged, capsys):
    plugged(Port("/dev/ttyUSB1", "FT231X USB UART", (0x0403, 0x6015)), Port("/dev/ttyACM0", "A modem", (0x1234, 0xABCD)),
            Port("/dev/ttyS0"), Port("/dev/ttyUSB0", "ULX3S FPGA 85K v3.0.8", (0x0403, 0x6015)))
    code, out, err = run(capsys, "info")
    assert code == 0 and err == ""
    assert out.splitlines() == [
        "no board is plugged in; the simulated one is --device sim",
        "  /dev/ttyACM0     1234:abcd A modem: no board's name",
        "  /dev/ttyS0       not on USB",
        "  /dev/ttyUSB0     0403:6015 ULX3S FPGA 85K v3.0.8: ULX3S",
        "  /dev/ttyUSB1     0403:6015 FT231X USB UART: may be Icepi Zero, or another thing of this name"]
    code, out, _ = run(capsys, "info", "--json")
    found = json.loads(out)
    assert code == 0 and found["board"] is None and [port["device"] for port in found["ports"]] == [
        "/dev/ttyACM0", "/dev/ttyS0", "/dev/ttyUSB0", "/dev/ttyUSB1"]
    assert found["ports"][2] == {"device": "/dev/ttyUSB0", "usb_id": "0403:6015", "product": "ULX3S FPGA 85K v3.0.8",
                                 "boards": ["ULX3S"], "own": True}


def test_info_without_any_port(plugged, capsys):
    plugged()
    assert run(capsys, "info")[1].splitlines()[1:] == ["  there is no serial port"]


def test_the_golden_model_has_no_state(capsys):
    for arguments in (["info", "--device", "golden"], ["selftest", "--device", "golden"]):
        code, out, err = run(capsys, *arguments)
        assert code == 2 and out == "" and "the golden model has no link" in err and "(--device sim, --device PORT)" in err


# load


def test_load(board, capsys):
    client = board().device.client
    code, out, _ = run(capsys, "load", "stories-1m", "--device", "/dev/ttyX", "--json")
    found = json.loads(out)
    assert code == 0 and (found["model"], found["device"], found["preset"]) == ("stories-1m", "/dev/ttyX", CONFIG.name)
    assert found["sent_bytes"] > 500_000 and found["bytes_there_already"] == 0 and found["seconds"] > 0
    assert client.words.any() and client.closed
    # The second time the weights are there; only the program, the segments and the registers are sent.
    code, out, _ = run(capsys, "load", "stories-1m", "--device", "/dev/ttyX", "--json")
    again = json.loads(out)
    assert code == 0 and again["sent_bytes"] + again["bytes_there_already"] == found["sent_bytes"]
    assert again["sent_bytes"] < 5000
    code, out, _ = run(capsys, "load", "stories-1m", "--device", "/dev/ttyX")
    assert code == 0 and out.startswith(f"stories-1m is on /dev/ttyX: {again['sent_bytes']} bytes sent, "
                                        f"{again['bytes_there_already']} were there already; ")


def test_load_on_the_golden_model(capsys):
    code, out, _ = run(capsys, "load", "stories-1m", "--device", "golden")
    assert code == 0 and out.startswith("stories-1m is on golden: ")


@pytest.mark.parametrize("name", ["nothing", "/no/such.tellme"])
def test_load_nothing(name, board, capsys):
    board()
    assert run(capsys, "load", name)[0] == 2


# selftest


def test_selftest(board, capsys):
    board(config=replace(CONFIG, sdram_bytes=1 << 19))
    code, out, _ = run(capsys, "selftest", "--device", "/dev/ttyX")
    assert code == 0 and [line[:6] for line in out.splitlines()] == ["ok    "] * 7
    board(Faults(dead=(18,)), replace(CONFIG, sdram_bytes=1 << 19))
    code, out, _ = run(capsys, "selftest", "--device", "/dev/ttyX")
    assert code == 2 and "FAILED address lines  the memory has 0.25 MiB, and the core wants 0.5 MiB" in out
    # What to do stands behind what failed.
    lines = out.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("FAILED address lines"))
    assert "a board with a smaller chip wants a preset of its own" in lines[at + 1]


def test_selftest_for_programs(board, capsys):
    board(config=replace(CONFIG, sdram_bytes=1 << 19))
    code, out, _ = run(capsys, "selftest", "--device", "/dev/ttyX", "--json", "--full")
    found = json.loads(out)
    assert code == 0 and found["ok"] is True and found["preset"] == CONFIG.name
    assert {"name", "ok", "found", "advice", "numbers"} == set(found["checks"][0])
    assert found["checks"][4]["numbers"]["bytes"] == 1 << 19
