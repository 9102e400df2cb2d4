# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""tools.ci on planted steps: order, counts, the first failure, and an end by Ctrl-C that leaves no child process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim.run_tests import bench_costs, discover, select
from tools.ci import FAST_RTL, ROOT, Night, Step, all_steps, by_urgency, counts, coverage_lines, fast_steps, main, plan, run_steps


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def passing(name, cost=1.0, after=(), tests=False, text="print('ok')"):
    return Step(name, python(text), cost, after, tests)


def started(output: str) -> list[str]:
    return re.findall(r"^\[ +\d+ s\] start  (.*)$", output, re.M)


def test_longest_way_first_and_after_what_it_waits_for(tmp_path, capsys):
    steps = [passing("short"), passing("long", 9), passing("first", 2, text="import time; time.sleep(0.3)"),
             passing("second", 8, ("first",))]
    assert [s.name for s in by_urgency(steps)] == ["first", "long", "second", "short"]
    assert run_steps(steps, slots=1, logs=tmp_path) == 0
    assert started(capsys.readouterr().out) == ["first", "long", "second", "short"]


def test_a_step_that_waits_takes_no_slot(tmp_path, capsys):
    """It ends when the step has begun that the one slot is for."""
    begun = tmp_path / "begun"
    wait = f"import pathlib, time\nend = time.monotonic() + 30\nwhile not pathlib.Path({str(begun)!r}).exists():\n" \
        "    assert time.monotonic() < end\n    time.sleep(0.05)"
    steps = [Step("waits", python(wait), 9, waits=True), passing("works", text=f"open({str(begun)!r}, 'w').close()")]
    assert run_steps(steps, slots=1, logs=tmp_path) == 0
    assert started(capsys.readouterr().out) == ["waits", "works"]


def test_the_plan_is_the_order_of_a_run():
    steps = [passing("short"), passing("long", 9), passing("first", 2), passing("second", 8, ("first",))]
    assert [(start, end, s.name) for start, end, s in plan(steps, 1)] == [
        (0, 2, "first"), (2, 11, "long"), (11, 19, "second"), (19, 20, "short")]
    # The second core waits for nothing that a step of the first holds up.
    assert [(start, end, s.name) for start, end, s in plan(steps, 2)] == [
        (0, 2, "first"), (0, 9, "long"), (2, 10, "second"), (9, 10, "short")]
    waits = [passing("a", 5), passing("b", 1, ("a",))]
    assert [(start, end, s.name) for start, end, s in plan(waits, 2)] == [(0, 5, "a"), (5, 6, "b")]


def test_ci_is_meant_to_take_less_than_twenty_minutes():
    """By the CPU seconds of its steps, on two cores of which each is idle, with room for a slower machine."""
    assert max(end for _, end, _ in plan(all_steps(), 2)) < 700
    assert sum(step.cost for step in all_steps()) < 2200


@pytest.mark.parametrize("own", [None, "3"])
def test_steps_multiply_in_one_thread(tmp_path, monkeypatch, own):
    """Unless the environment says otherwise."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if own is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", own)
    assert run_steps([passing("a", text="import os; print(os.environ['OPENBLAS_NUM_THREADS'])")], slots=1, logs=tmp_path) == 0
    assert (tmp_path / "a.txt").read_text() == f"{own or 1}\n"


def test_counts_are_added_and_come_last(tmp_path, capsys):
    steps = [passing("a", tests=True, text="print('3 passed, 127 deselected, 1 warning in 9.45s (0:15:28)')"),
             passing("b", tests=True, text="print('PASS x\\n20 passed, 0 failed, 2 skipped')"),
             passing("c", tests=True, text="print('6 killed, 0 survived, 97 s')"), passing("style")]
    assert run_steps(steps, slots=2, logs=tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "29 passed, 0 failed, 2 skipped"


@pytest.mark.parametrize(("text", "tests", "problem", "last"), [
    ("print('1 passed, 2 failed, 0 skipped'); raise SystemExit(1)", True, "exit code 1", "1 passed, 2 failed, 0 skipped"),
    ("raise SystemExit(3)", False, "exit code 3", "0 passed, 1 failed, 0 skipped"),
    ("print('no tests ran in 0.01s')", True, "no test ran", "0 passed, 1 failed, 0 skipped"),
    ("print('0 passed, 0 failed, 4 skipped')", True, "no test ran", "0 passed, 1 failed, 4 skipped"),
    ("print('1 passed, 1 failed, 0 skipped')", True, "1 tests failed, with exit code 0", "1 passed, 1 failed, 0 skipped"),
    ("print('5 passed in 1.0s'); import os; os.kill(os.getpid(), 9)", True, "exit code -9", "5 passed, 1 failed, 0 skipped"),
])
def test_a_failure_is_printed_whole_and_stops_new_steps(tmp_path, capsys, text, tests, problem, last):
    steps = [Step("bad", python(f"print('a line of its own')\n{text}"), 5, (), tests), passing("later")]
    assert run_steps(steps, slots=1, logs=tmp_path) == 1
    out = capsys.readouterr().out
    assert started(out) == ["bad"]
    log = tmp_path / "bad.txt"
    assert f"---- output of bad ({log})\na line of its own\n" in out
    assert f"\nFAILED: bad: {problem}; its output is above, and in {log}\nnot started: later\n{last}\n" in out


@pytest.fixture
def checkout(tmp_path):
    """A git checkout of one source and one page."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "source.py").write_text("1\n")
    (tmp_path / "docs" / "page.md").write_text("1\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_night_goes_on_with_what_is_left(checkout, tmp_path, capsys):
    """All steps start whatever fails, but for those that wait for one that failed; a step that was well is not run again, as
    long as the sources are the same."""
    path = tmp_path / "night.json"
    bad = Step("bad", python("print('seed 77'); print('1 passed, 1 failed, 0 skipped'); raise SystemExit(1)"), 9.0, (), True)
    steps = [bad, passing("behind", after=("bad",)), passing("well", tests=True, text="print('seed 5\\n3 passed')"),
             passing("last", 0.5, after=("well",))]
    night = Night(path, root=checkout)
    assert run_steps(steps, slots=1, logs=tmp_path, night=night) == 1
    assert started(capsys.readouterr().out) == ["bad", "well", "last"]
    assert night.left(steps) == ["bad", "behind"]
    assert night.count() == {"failed": 1, "passed": 4, "skipped": 0}
    assert (night.steps["bad"]["problem"], night.steps["bad"]["seed"], night.steps["well"]["seed"]) == ("exit code 1", 77, 5)

    mended = [passing("bad", tests=True, text="print('2 passed')"), *steps[1:]]
    (checkout / "docs" / "page.md").write_text("2\n")
    again = Night(path, root=checkout)
    todo = again.resume(mended)
    assert [(step.name, step.after) for step in todo] == [("bad", ()), ("behind", ("bad",))]
    assert run_steps(todo, slots=1, logs=tmp_path, night=again) == 0
    assert again.left(mended) == [] and again.count()["passed"] == 5

    (checkout / "source.py").write_text("2\n")
    assert Night(path, root=checkout).resume(mended) == mended


def test_an_interrupted_night_has_what_ended(checkout, tmp_path):
    """The record is written behind each step."""
    steps = [passing("first", 2.0), passing("second", text="import os, signal, time; os.kill(os.getppid(), signal.SIGINT); "
                                            "time.sleep(60)")]
    with pytest.raises(KeyboardInterrupt):
        run_steps(steps, slots=1, logs=tmp_path, night=Night(tmp_path / "night.json", root=checkout))
    night = Night(tmp_path / "night.json", root=checkout)
    assert [step.name for step in night.resume(steps)] == ["second"]


@pytest.mark.parametrize("option", ["--resume", "--report"])
def test_options_of_a_night_want_a_night(option, capsys):
    with pytest.raises(SystemExit) as error:
        main([option])
    assert error.value.code == 2 and "give --nightly too" in capsys.readouterr().err


def test_a_night_wants_a_checkout(monkeypatch, capsys):
    """Said before anything is removed or run."""
    def no_git(*arguments, root):
        raise subprocess.CalledProcessError(128, ["git"])

    monkeypatch.setattr("tools.ci.git", no_git)
    with pytest.raises(SystemExit) as error:
        main(["--nightly"])
    assert error.value.code == 2 and "run in a clone of the repository" in capsys.readouterr().err


def test_the_summary_has_the_coverage_of_the_gateware(tmp_path, capsys):
    """Ahead of the steps' table; the last line stays the counts."""
    lines = coverage_lines()
    assert any(line.endswith(" hw/link/link.py") for line in lines) and "of CI not run" in lines[-1] + "".join(lines[-4:])
    assert run_steps([passing("a", tests=True, text="print('1 passed')")], slots=1, logs=tmp_path, more=lines) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed.index(lines[0]) < printed.index(lines[-1]) < printed.index(f"{'seconds':>8} {'CPU':>6}  step")
    assert printed[-1] == "1 passed, 0 failed, 0 skipped"


def test_steps_that_wait_for_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^steps wait for \['nobody'\], which are none, or share a name: \['a'\]$"):
        run_steps([passing("a", after=("nobody",))], slots=1, logs=tmp_path)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ends_with_all_its_children(tmp_path, signum):
    """Also with the children of a step."""
    pid = tmp_path / "pid"
    (tmp_path / "child.py").write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)\n")
    step = python(f"import subprocess, sys; subprocess.run([sys.executable, {str(tmp_path / 'child.py')!r}])")
    script = (f"from pathlib import Path\nfrom tools import ci\nci.LOGS = Path({str(tmp_path)!r})\n"
              f"ci.all_steps = lambda nightly: [ci.Step('s', {step!r}, 1)]\nraise SystemExit(ci.main([]))")
    process = subprocess.Popen(python(script), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sw")])})
    deadline = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signum)
    assert process.wait(30) == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]
    number = int(pid.read_text())
    # A zombie that init has not taken yet has ended too.
    status = Path(f"/proc/{number}/stat")
    while status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_counts_of_real_closing_lines():
    assert counts("") == counts("ok\n2000 tokens in 3 s") == {}
    assert counts("1 failed, 16 passed, 1 skipped in 1.04s") == {"failed": 1, "passed": 16, "skipped": 1}
    assert counts("2 passed, 1 error in 1.04s") == {"passed": 2, "failed": 1}
    assert counts("86 killed, 1 survived, 1500 s") == {"passed": 86, "failed": 1}


def test_steps_hear_signals_that_the_run_ignores(tmp_path):
    """As under nohup, or behind a shell's ``&``: an interrupt test within a step would wait for ever."""
    hears = "import signal, sys; sys.exit(any(signal.getsignal(s) is signal.SIG_IGN for s in (signal.SIGINT, signal.SIGHUP)))"
    run = ("import signal, sys; from pathlib import Path; from tools.ci import Step, run_steps; "
           "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGHUP)]; "
           f"sys.exit(run_steps([Step('a', [sys.executable, '-c', {hears!r}], 1)], slots=1, logs=Path({str(tmp_path)!r})))")
    assert subprocess.run([sys.executable, "-c", run], cwd=ROOT, capture_output=True).returncode == 0


#: Modules of tests/board that docs/testing.md names, with the reason.
BY_NIGHT = ("test_all_picks", "test_commands", "test_drafts", "test_large_shapes", "test_lifetime", "test_norms",
            "test_perplexity", "test_prefill_l8", "test_sequences", "test_serve", "test_simulate", "test_slots",
            "test_soft_sites", "test_two_steps")


def test_every_test_is_in_a_step():
    """Units and modules are found, not listed; nightly has all that CI has."""
    names = {step.name for step in all_steps()}
    for unit in (ROOT / "tests" / "hw").iterdir():
        if list(unit.glob("tb_*.py")):
            assert f"RTL: {unit.name}" in names
    boards = {path.stem for path in (ROOT / "tests" / "board").glob("test_*.py") if "pytest.mark.rtl" in path.read_text()}
    nightly = {step.name for step in all_steps(nightly=True)}
    assert names < nightly and {f"simulated board: {stem}" for stem in boards} <= nightly
    assert {f"simulated board: {stem}" for stem in boards} - names == {f"simulated board: {stem}" for stem in BY_NIGHT}
    assert {step.name for step in fast_steps()} - names == {"RTL: a bench a unit"}


def test_a_night_compares_more_random_vectors():
    found = {step.name: step.command for step in all_steps(nightly=True)}
    assert list(found["RTL: fused"][:2]) == ["env", "TELLME_VECTORS=50000"] and found["RTL: lib"][0] == sys.executable
    assert next(step for step in all_steps() if step.name == "RTL: fused").command[0] == sys.executable


def test_costs_are_of_benches_that_exist():
    assert set(bench_costs()) <= {job.name for job in discover(ROOT / "tests" / "hw")}


def test_the_fast_benches_exist():
    for name in FAST_RTL:
        assert select(discover(ROOT / "tests" / "hw", [name]), [name]), name
