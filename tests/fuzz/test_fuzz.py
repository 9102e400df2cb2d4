# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Each target on its seeds and on some mutations of them with a fixed seed, without an engine: that targets run, and what CI has
time for.  ``make fuzz`` goes on from there, guided by coverage."""

import ast
import json
import time
from pathlib import Path

import pytest

from tellme.errors import InputError, TellmeError
from tests.fuzz import __main__ as command
from tests.fuzz import limits
from tests.fuzz.limits import Finding, Guard, allowed_bytes
from tests.fuzz.mutate import mutations
from tests.fuzz.targets import TARGETS

REPORT = Path(__file__).resolve().parents[2] / "docs" / "reports" / "fuzz.json"
#: Mutations a target, by what an execution takes; folders and GGUF files are the slow ones.
COUNTS = {"config": 8, "gguf": 8}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_some_mutations(name):
    target = TARGETS[name]
    guard, seeds = Guard(target.run, target.allowed), target.seeds()
    for seed in seeds:
        guard(seed)
    # A seed is what the reader takes, but for the frames, of which some are no board's.
    assert guard.accepted >= len(seeds) - (name == "link")
    for content in mutations(seeds, target.words, 25, COUNTS.get(name, 25)):
        guard(content)
    assert name == "http" or guard.refused


def test_the_rule(monkeypatch):
    """Errors of its own alone, with a text; a time; a memory."""
    def raises(error):
        def run(content):
            raise error
        return run

    guard = Guard(raises(InputError("no")), (TellmeError,))
    guard(b"")
    assert (guard.accepted, guard.refused) == (0, 1)
    for error in (ValueError("x"), RecursionError(), KeyError(1)):
        with pytest.raises(type(error)):
            Guard(raises(error), (TellmeError,))(b"")
    with pytest.raises(Finding, match="without a text"):
        Guard(raises(InputError("")), (TellmeError,))(b"")
    monkeypatch.setattr(limits, "SECONDS", 0.01)
    with pytest.raises(Finding, match=r"it took 0\.\d s, and 0\.01 s are allowed"):
        Guard(lambda content: time.sleep(0.05), ())(b"")


@pytest.mark.skipif(not Guard(lambda content: None, ()).measures, reason="Linux counts the peak of an execution")
def test_the_memory_of_the_rule(monkeypatch):
    assert allowed_bytes(10) == limits.CONSTANT + 20
    monkeypatch.setattr(limits, "CONSTANT", 8 << 20)
    guard = Guard(lambda content: list(map(len, [b"x" * len(content) * 4])), ())
    # Twice the input, and the constant.
    guard(b"a" * (2 << 20))
    with pytest.raises(Finding, match="bytes of memory, and"):
        guard(b"a" * (8 << 20))
    # The next execution counts anew.
    guard(b"")


def test_mutations_are_the_same_for_a_seed():
    seeds = [b"abcdefgh" * 8, b"{}"]
    assert list(mutations(seeds, (b"word",), 3, 50)) == list(mutations(seeds, (b"word",), 3, 50))
    assert list(mutations(seeds, (), 3, 50)) != list(mutations(seeds, (), 4, 50))
    assert any(b"word" in content for content in mutations(seeds, (b"word",), 3, 50))


def test_the_command_knows_each_target():
    assert command.NAMES == tuple(TARGETS)
    assert command.place_of("==1== ERROR: libFuzzer: timeout after 20 seconds\n") == "timeout after 20 seconds"
    traced = ' === Uncaught Python exception: ===\nKeyError: 3\nTraceback\n  File "/a/sw/tellme/b.py", line 7, in c\n'
    assert command.place_of(traced) == "KeyError: 3 (b.py:7)"


def test_the_report():
    """It found nothing that was not mended, and says of each target which commit ran for how long, or that none did."""
    found = json.loads(REPORT.read_text())
    assert [*found["targets"], *found["never_run"]] and sorted([*found["targets"], *found["never_run"]]) == sorted(TARGETS)
    for target in found["targets"].values():
        assert len(target["commit"]) == 40 and target["seconds"] > 0 and isinstance(target["changed"], bool)
        assert target["executions"] > 0 and target["edges"] > 0 and target["findings"] == {}
        assert target["slowest_seconds"] < limits.SECONDS and target["most_bytes"] < allowed_bytes(200000)


def test_a_run_is_put_into_the_report(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "REPORT", tmp_path / "fuzz.json")
    for name, seconds in (("gguf", 3.0), ("container", 2.0), ("gguf", 4.0)):
        command.note(name, {"seconds": seconds}, "an engine")
    found = json.loads((tmp_path / "fuzz.json").read_text())
    assert found["targets"] == {"container": {"seconds": 2.0}, "gguf": {"seconds": 4.0}} and found["seconds"] == 6.0
    assert found["never_run"] == [name for name in TARGETS if name not in ("container", "gguf")]


def test_seeds_name_no_file_of_this_folder():
    """All inputs are made by code: there is no file here but programs."""
    assert {path.suffix for path in Path(__file__).parent.iterdir() if path.is_file()} == {".py"}
    ast.parse(Path(command.__file__).read_text())
