# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Mutants by rule: the rules on made-up sources, names that last, the sample, the record, judgements, and bad arguments."""

import ast
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from sim.run_tests import Job
from sim.testbench import Bench
from tests.mutation import __main__ as tool
from tests.mutation import trial, worker
from tests.mutation.benches import Benches, Experience, reached
from tests.mutation.judged import JUDGED, Judgement
from tests.mutation.prove import unproven
from tests.mutation.record import LEAST, MutationError, Record, judgements, quotas, summary, wanted
from tests.mutation.rules import RULES, Mutant, mutants_of, mutants_of_file, sources, statement
from tests.mutation.trial import CORES, MOST_BENCHES, MOST_OTHERS, Stopped, Trials
from tests.mutation.worker import CORE, executed, limited

ROOT = Path(__file__).resolve().parents[2]
UNIT = '''
"""A unit 3 + 4."""
from amaranth.hdl import Module

LEVELS = 4


class Unit(Component):
    """Adds 1."""

    def __init__(self, shape: Any, *, depth: int = 2):
        if depth < 1:
            raise ValueError(f"depth {depth + 1}")
        super().__init__({"o": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        assert self.depth > 7
{body}
        return m
'''


def unit(body):
    """A source whose elaborate has these lines."""
    return UNIT.replace("{body}", body)


def made(body, rule):
    """What the mutants of a statement in a unit's elaborate make of it."""
    text = unit("\n".join(f"        {line}" for line in body.splitlines()))
    found = [m.apply(text) for m in mutants_of("hw/x.py", text) if m.function == "Unit.elaborate" and m.rule == rule]
    for changed in found:
        ast.parse(changed)
    return [" ".join(line.strip() for line in changed.splitlines() if line not in text.splitlines()) for changed in found]


@pytest.mark.parametrize(("rule", "statement", "after"), [
    ("operator", "x = a + b", ["x = a - b"]),
    ("operator", "x = a << b", ["x = a >> b"]),
    ("operator", "x = a & b ^ c", ["x = ((a & b) & (c))", "x = ((a) | (b)) ^ c"]),
    ("operator", "x = (a + b) * c", ["x = (((a + b)) + (c))", "x = (a - b) * c"]),
    ("operator", "x += n", ["x -= n"]),
    ("operator", "x = 'a' + b", []),
    ("compare", "x = a == b", ["x = a != b"]),
    ("compare", "x = a < b <= c", ["x = a <= b <= c", "x = a < b < c"]),
    ("compare", "x = a not in b", ["x = a in b"]),
    ("logic", "x = a and b", ["x = ((a) or (b))"]),
    ("unary", "x = ~a", ["x = a"]),
    ("unary", "x = -(a + b)", ["x = (a + b)"]),
    ("constant", "x = a[3]", ["x = a[2]", "x = a[4]"]),
    ("constant", "x = f(0, flag=True)", ["x = f(1, flag=True)", "x = f(0, flag=False)"]),
    ("constant", "x = Signal(name='x1')", []),
    ("condition", "with m.If(a):\n    pass", ["with m.If((a) == 0):", "with m.If(0):", "with m.If(1):"]),
    ("condition", "x = a if b else c", ["x = a if (not (b)) else c"]),
    ("mux", "x = Mux(a, b, c)", ["x = Mux(a, c, b)"]),
    ("mux", "x = Mux(a, b, b)", []),
    ("order", "x = Cat(a, b, c)", ["x = Cat(b, a, c)"]),
    ("reset", "x = Signal(8, init=1)", ["x = Signal(8, init=0)"]),
    ("reset", "x = Signal(range(n))", ["x = Signal(range(n), init=1)"]),
    ("reset", "x = Signal(8, reset_less=True)", []),
    ("reset", "x = Signal(layout)", []),
    ("width", "x = Signal()", ["x = Signal(2)"]),
    ("width", "x = Signal(8)", ["x = Signal(7)", "x = Signal(9)"]),
    ("width", "x = Signal(signed(sum_bits))", ["x = Signal(signed((sum_bits) + 1))", "x = Signal(signed((sum_bits) - 1))"]),
    ("width", "x = Signal(range(n + 1))", ["x = Signal(range(((n + 1) + 1) // 2))", "x = Signal(range(2 * (n + 1)))"]),
    ("slice", "x = a[2:5]", ["x = a[2:4]", "x = a[3:6]"]),
    ("slice", "x = a[n:]", ["x = a[(n) + 1:]", "x = a[n:-1]"]),
    ("slice", "x = a[:]", []),
    ("drop", "m.d.sync += [a.eq(b), c.eq(d)]", ["m.d.sync += [*[], c.eq(d)]", "m.d.sync += [a.eq(b), *[]]"]),
    ("drop", "m.d.comb += a.eq(b)", ["m.d.comb += []"]),
    ("drop", "m.next = 'IDLE'", ["pass"]),
    ("drop", "wiring.connect(m, a, b)", ["pass"]),
    ("domain", "m.d.sync += a.eq(b)", ["m.d.comb += a.eq(b)"]),
])
def test_a_rule(rule, statement, after):
    assert sorted(made(statement, rule)) == sorted(after)


def test_each_rule_has_a_case_and_a_mutant_of_the_gateware():
    cases = {mark.args[1][i][0] for mark in test_a_rule.pytestmark for i in range(len(mark.args[1]))}
    assert cases == set(RULES)


def test_what_is_left_alone():
    """Docstrings, annotations, messages, assertions and checks that raise."""
    found = mutants_of("hw/x.py", unit("        pass"))
    assert {(m.function, m.rule) for m in found} == {("(module)", "constant"), ("Unit.__init__", "constant"),
                                                     ("Unit.__init__", "width"), ("Unit.__init__", "reset")}
    assert not any("depth +" in m.before or "7" in m.before for m in found if m.rule == "constant")


def test_names_do_not_change_with_lines_elsewhere():
    body = "        x = a + b\n        y = a + b\n        m.d.sync += c.eq(d[1:3])"
    before = mutants_of("hw/x.py", unit(body))
    moved = unit(f"        # A comment.\n        z = Array(e)\n{body}").replace("LEVELS = 4", "# More.\n\nLEVELS = 4")
    after = mutants_of("hw/x.py", moved)
    assert [m.key for m in before] == [m.key for m in after]
    assert [m.start for m in before] != [m.start for m in after]
    # Twice the same in a function is told by the ordinal; elsewhere it is another mutant.
    assert sorted(m.ordinal for m in before if m.rule == "operator") == [1, 2]
    assert not {m.key for m in before} & {m.key for m in mutants_of("hw/y.py", unit(body))}


@pytest.fixture(scope="module")
def gateware():
    return [mutant for file in sources(ROOT) for mutant in mutants_of_file(ROOT, file)]


def test_the_gateware_has_mutants_of_all_rules(gateware):
    assert {m.rule for m in gateware} == set(RULES)
    assert len({m.key for m in gateware}) == len(gateware) > 10000
    # One of each rule in each file is Python.
    texts = {file: (ROOT / file).read_text("utf-8") for file in sources(ROOT)}
    for mutant in {(m.file, m.rule): m for m in gateware}.values():
        ast.parse(mutant.apply(texts[mutant.file]))


def test_judgements_are_of_mutants_that_are(gateware):
    record = Record(tool.REPORT, seed=1, sample=1000)
    assert len(judgements(JUDGED, gateware, record)) == len(JUDGED)


def test_the_committed_record_is_of_these_judgements(gateware):
    """Its table is what its results and the judgements give, as long as no mutant of the record has gone."""
    kept = json.loads(tool.REPORT.read_text("utf-8"))
    record = Record(tool.REPORT, seed=kept["seed"], sample=kept["sample"])
    rows = summary(gateware, record, judgements(JUDGED, gateware, record))
    for unit, row in rows.items():
        told = kept["units"][unit]
        assert {k: told[k] for k in ("equivalent", "gaps", "open")} == {k: row[k] for k in ("equivalent", "gaps", "open")}, unit


# ---------------------------------------------------------------------- the sample and the record

def few(files=("hw/a/one.py", "hw/a/two.py", "hw/b/three.py"), each=20):
    return [Mutant(file, "f", "constant", str(i), "x", 1) for file in files for i in range(each)]


def test_the_sample_is_in_proportion_and_has_each_file():
    mutants = few() + few(("hw/c/four.py",), 1)
    assert quotas(mutants, 12) == {"a": 8, "b": 4, "c": 1}
    assert quotas(mutants, 1) == {"a": 2 * LEAST, "b": LEAST, "c": 1}


def test_a_run_goes_on_and_replaces_what_is_set_aside(tmp_path):
    mutants, path = few(), tmp_path / "record.json"
    record = Record(path, seed=1, sample=12)
    first = wanted(mutants, record)
    assert Counter(m.unit for m in first) == {"a": 8, "b": 4}
    assert {m.file for m in first} == {m.file for m in mutants}
    for mutant in first[:5]:
        record.put(mutant, {"outcome": "killed"})
    record.write({}, {})
    record = Record(path, seed=1, sample=12)
    assert wanted(mutants, record) == first[5:]
    for mutant in first[5:]:
        record.put(mutant, {"outcome": "identical" if mutant == first[-1] else "survived"})
    [another] = wanted(mutants, record)
    assert another.unit == first[-1].unit and another not in first
    assert wanted(mutants, record, ["none of these"]) == []
    # The order of the rest stays when mutants come.
    more = wanted(mutants + few(("hw/d/new.py",)), Record(tmp_path / "none", seed=1, sample=16))
    assert [m for m in more if m in first] == first
    assert wanted(mutants, Record(tmp_path / "none", seed=2, sample=12)) != first


def test_results_of_mutants_that_are_no_more_are_forgotten(tmp_path):
    record = Record(tmp_path / "record.json", seed=1, sample=12)
    for mutant in few():
        record.put(mutant, {"outcome": "killed"})
    assert record.forget(few()[1:]) == 1 and record.outcome(few()[0]) == ""


def test_the_table(tmp_path):
    mutants, record = few(), Record(tmp_path / "record.json", seed=1, sample=12)
    for mutant, outcome in zip(mutants, ("killed", "killed", "time", "survived", "unreached", "survived", "identical", "unbuilt"),
                               strict=False):
        record.put(mutant, {"outcome": outcome})
    judged = {mutants[3].key: Judgement(mutants[3].key, "", "equivalent", "x"), mutants[4].key: Judgement("", "", "gap", "x")}
    assert summary(mutants, record, judged)["a"] == {
        "mutants": 40, "sample": 8, "tested": 6, "killed": 3, "by_time": 1, "equivalent": 1, "gaps": 1, "open": 1, "identical": 1,
        "unbuilt": 1, "rate": 0.6}
    assert summary(mutants, record, judged)["b"]["rate"] is None


@pytest.mark.parametrize(("change", "message"), [
    ({"key": "0"}, "there is no such mutant any more"), ({"verdict": "fine"}, "wants the verdict"),
    ({"reason": " "}, "and a reason"), ({}, "the record says killed")])
def test_a_judgement_that_does_not_fit(change, message, tmp_path):
    mutant = few()[0]
    entry = Judgement(**{"key": mutant.key, "mutant": "m", "verdict": "gap", "reason": "no bench", **change})
    record = Record(tmp_path / "record.json", seed=1, sample=12)
    record.put(mutant, {"outcome": "killed"})
    with pytest.raises(MutationError, match=message):
        judgements([entry], few(), record)


def test_a_survivor_is_judged_once(tmp_path):
    mutant = few()[0]
    entry, record = Judgement(mutant.key, "m", "gap", "no bench"), Record(tmp_path / "record.json", seed=1, sample=12)
    record.put(mutant, {"outcome": "survived"})
    assert judgements([entry], few(), record) == {mutant.key: entry}
    with pytest.raises(MutationError, match="judged twice"):
        judgements([entry, entry], few(), record)
    record.write({}, {mutant.key: entry})
    assert json.loads(record.path.read_text())["mutants"][mutant.key] == {
        "file": mutant.file, "function": "f", "rule": "constant", "ordinal": 1, "before": "0", "after": "x",
        "outcome": "survived", "verdict": "gap", "reason": "no bench"}


# ---------------------------------------------------------------------- benches

def test_benches_of_the_files_unit_come_first_and_the_cheapest_of_them():
    asked = []

    def load(path):
        asked.append(path.name)
        streams = path.name == "tb_streams.py"
        made = [("dear", ""), ("cheap", ""), ("night", "why"), ("new", "")] if streams else [(f"w{i}", "") for i in range(5)]
        return [Job(path.parent.name, path, Bench(name=name, nightly=night), ()) for name, night in made]

    costs = {"lib/streams-dear": 9.0, "lib/streams-cheap": 1.0, "lib/streams-night": 0.5, "weights/forms-w0": 0.1,
             "weights/passes-w0": 0.2}
    benches = Benches(ROOT, costs, load)
    own = benches.own("hw/lib/streams.py", "lib")
    assert [name for name in own if name.startswith("lib/streams-")] == [
        "lib/streams-cheap", "lib/streams-dear", "lib/streams-new", "lib/streams-night"]
    assert own[:2] == ["lib/streams-cheap", "lib/streams-dear"] and own[-1] == "lib/streams-night"
    assert "tb_streams.py" in asked and all((ROOT / "tests" / "hw" / "lib" / name).exists() for name in asked)
    others = benches.others("hw/lib/streams.py", "lib")
    assert others[:2] == ["weights/forms-w0", "weights/passes-w0"] and not any(name.startswith("lib/") for name in others)
    assert benches.distance("lib/streams-dear", "hw/lib/streams.py") == 1
    # Only testbenches that import the file, of its unit.
    assert {name.partition("-")[0] for name in benches.own("hw/memory/weights.py", "weights")} == {
        "weights/forms", "weights/manager", "weights/passes"}
    # Those of the cells' models import the boards' build, and so all of hw.
    assert {name.partition("_")[0] for name in benches.own("hw/memory/guard.py", "lib")} == {"lib/cell"}


def test_the_shortest_way_of_imports(tmp_path):
    files = {"hw/a.py": "import hw.b", "hw/b.py": "def f():\n    from hw import c", "hw/c.py": "import numpy", "hw/d.py": "",
             "tests/hw/u/tb_x.py": "from hw.a import A\nimport parts", "tests/hw/u/parts.py": "from hw import c"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert reached(tmp_path, tmp_path / "tests/hw/u/tb_x.py") == {"hw/a.py": 1, "hw/b.py": 2, "hw/c.py": 2}


def test_benches_of_a_testbench():
    names = {job.name for job in Benches.jobs_of(ROOT / "tests" / "hw" / "lib" / "tb_streams.py")}
    assert names == {"lib/streams-skid", "lib/streams-queue", "lib/streams-landing", "lib/streams-burst"}


# ---------------------------------------------------------------------- trials

def result(outcome, bench=None, passed=(), function="f"):
    killer = {} if bench is None else {"bench": bench}
    return {"file": "hw/a.py", "function": function, "outcome": outcome, "passed": list(passed), **killer}


def test_benches_that_killed_come_first():
    costs = {"a/x-cheap": 2.0, "a/x-dear": 20.0, "a/x-other": 3.0}
    names = dict.fromkeys(costs, 1)
    assert Experience(costs).order("hw/a.py", "f", names) == ["a/x-cheap", "a/x-other", "a/x-dear"]
    assert Experience(costs).order("hw/a.py", "f", {**names, "a/x-cheap": 3}) == ["a/x-other", "a/x-cheap", "a/x-dear"]
    seen = Experience(costs, [result("killed", "a/x-dear.case", ["a/x-cheap", "a/x-other"], "g")] * 9)
    assert seen.order("hw/a.py", "f", names) == ["a/x-dear", "a/x-cheap", "a/x-other"]
    assert seen.order("hw/b.py", "f", names) == ["a/x-cheap", "a/x-other", "a/x-dear"]
    # What killed mutants of the same function counts for more.
    seen.note("hw/a.py", "f", result("time", "a/x-other"))
    assert seen.order("hw/a.py", "f", names)[0] == "a/x-other"
    seen.note("hw/a.py", "f", result("identical"))
    assert seen.order("hw/a.py", "f", names)[0] == "a/x-other"


@pytest.mark.parametrize(("answer", "outcome"), [
    ({"failed": "lib/streams-skid.in_order"}, {"outcome": "killed", "bench": "lib/streams-skid.in_order"}),
    ({"failed": "lib/streams-skid.(crash)"}, {"outcome": "killed", "bench": "lib/streams-skid.(crash)"}),
    ({"failed": "lib/streams-skid.(limit)"}, {"outcome": "time", "bench": "lib/streams-skid", "limit_cpu_s": 15}),
    ({"failed": "lib/streams-skid.(build)"}, {"outcome": "unbuilt", "error": "lib/streams-skid.(build)"}),
    ({"failed": ""}, {}), ({"seen": "identical"}, {}),
    ({"error": "TypeError: no"}, {"outcome": "unbuilt", "error": "TypeError: no"}),
    ({"name": f"{CORE}sim-tiny"}, {"outcome": "unreached", "core": "sim-tiny"})])
def test_what_an_answer_means(answer, outcome):
    assert Trials.meaning({"name": "lib/streams-skid", "seen": "differs", "limit": 15, **answer}) == outcome


class Scripted:
    """A worker that answers from a table, and keeps what it was asked."""

    def __init__(self, tree):
        self.tree, self.asked, self.answers = tree, [], {}

    def errors(self):
        return ""

    def end(self):
        self.answers = None

    def ask(self, do, names, **request):
        if do == "survey":
            yield {"name": names[0], "rtlil": "r", "verilog": "v",
                   "lines": {} if names[0] in self.answers.get("away", ()) else {"hw/a.py": [1, 2]}}
        elif self.tree.name == "clean":
            yield {"name": names[0], "seen": "differs", "failed": self.answers.get("unsound", {}).get(names[0], "")}
        else:
            for number, name in enumerate(names):
                if number == request["most"]:
                    break
                self.asked.append(name)
                answer = self.answers.get(name, {"seen": "differs", "failed": "", "limit": 15})
                yield {"name": name, **answer}
                if answer.get("failed") or "error" in answer or (name in CORES and answer["seen"] == "differs"):
                    break
        yield {"end": "" if do == "survey" else self.answers.get("end", ""), "cpu": 4.0}


@pytest.fixture
def trials(tmp_path, monkeypatch):
    """Trials with such workers, of a file of which ``u`` has twelve benches, and other units twenty."""
    def copy(tree, *, compiled):
        (tree / "hw").mkdir()
        (tree / "hw" / "a.py").write_text("a = 1\n")

    class Named:
        own = staticmethod(lambda file, unit: [f"u/x-{i}" for i in range(12)])
        others = staticmethod(lambda file, unit: [f"v/x-{i}" for i in range(20)])
        distance = staticmethod(lambda name, file: 1)

    monkeypatch.setattr(trial, "copy_checkout", copy)
    monkeypatch.setattr(trial, "Worker", Scripted)

    def made(answers=None, cpu=None, first=()):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        found = Trials(folder, folder / "kept", Named(), {}, Experience({}), 1, cpu, first)
        for of in (found._workers[0], found._surveyor):
            of.answers = answers or {}
        return found

    return made


MUTANT = Mutant("hw/a.py", "f", "constant", "1", "2", 1, 4, 5, "2")
SAME = {"seen": "identical"}


@pytest.mark.parametrize(("answers", "cpu", "before", "outcome", "passed", "asked"), [
    ({"u/x-1": {"seen": "differs", "failed": "u/x-1.t"}}, None, (), "killed", 1, 2),
    ({"u/x-2": {"error": "TypeError: no"}}, None, (), "unbuilt", None, 3),
    ({}, None, (), "survived", MOST_BENCHES, MOST_BENCHES), ({}, 6, (), "survived", 2, 2),
    # What passed before is not asked again; what does not run the statement is never asked.
    ({"u/x-5": {"seen": "differs", "failed": "u/x-5.t"}}, None, [f"u/x-{i}" for i in range(5)], "killed", 5, 1),
    ({"away": [f"u/x-{i}" for i in range(11)], "u/x-11": SAME, "v/x-0": {"seen": "differs", "failed": "v/x-0.t"}}, None, (),
     "killed", 0, 2),
    # No bench differs: all cores are asked, seconds or not.
    ({name: SAME for name in [*(f"{u}/x-{i}" for u in "uv" for i in range(20)), *CORES]}, 6, (), "identical", None,
     12 + MOST_OTHERS + len(CORES)),
    ({**{f"{u}/x-{i}": SAME for u in "uv" for i in range(20)}, CORES[0]: SAME}, None, (), "unreached", None,
     12 + MOST_OTHERS + 2)])
def test_a_trial(answers, cpu, before, outcome, passed, asked, trials):
    found = trials(answers, cpu)
    result = found.run(MUTANT, before)
    names = found._workers[0].asked
    assert (result["outcome"], len(names)) == (outcome, asked) and len(set(names)) == asked
    assert (None if passed is None else len(result["passed"])) == (passed if "passed" in result else None)
    assert (found._workers[0].tree / "hw" / "a.py").read_text() == "a = 1\n"


def test_a_bench_that_is_asked_first(trials):
    found = trials({"v/x-7": {"seen": "differs", "failed": "v/x-7.t"}}, None, ["u/x-3", "v/x-7"])
    assert found.run(MUTANT)["bench"] == "v/x-7.t" and found._workers[0].asked == ["u/x-3", "v/x-7"]


def test_a_bench_that_fails_without_a_mutant_kills_nothing(trials):
    found = trials({"u/x-1": {"seen": "differs", "failed": "u/x-1.t"}, "unsound": {"u/x-1": "u/x-1.other"}})
    with pytest.raises(MutationError, match=r"u/x-1\.other does not pass without a mutant either"):
        found.run(MUTANT)
    # Once is enough, also for the next run.
    found = trials({"u/x-1": {"seen": "differs", "failed": "u/x-1.t"}})
    assert found.run(MUTANT)["outcome"] == "killed" and found._known["u/x-1"]["sound"]
    found._surveyor.answers, found._known = {"unsound": {"u/x-1": "u/x-1.other"}}, {}
    assert found.run(MUTANT)["outcome"] == "killed"


def test_a_trial_that_is_stopped_or_breaks_off_has_no_result(trials):
    with pytest.raises(MutationError, match="ended with SIGSEGV"):
        trials({"end": "SIGSEGV"}).run(MUTANT)
    stopped = trials()
    stopped._stopped = True
    with pytest.raises(Stopped):
        stopped.run(MUTANT)
    assert trials({"end": "SIGXCPU"}).run(MUTANT)["outcome"] == "unbuilt"


def test_the_limit_counts_cpu_seconds():
    def endless():
        while True:
            pass

    assert 0.9 <= limited(endless, 1) < 3
    assert limited(lambda: time.sleep(1.5), 1) < 1


def test_a_bench_that_only_waits_kills_nothing(monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE", 0.5)
    with pytest.raises(TimeoutError, match="too busy to tell"):
        limited(lambda: time.sleep(5), 1)


STATEMENTS = """
TABLE = (1,
         2)
def f(a, b=7,
      c=8):
    if (a and
            b):
        return [c
                for c in range(3)]
    for i in range(2): a += i
    return (a,
            9)
"""


@pytest.mark.parametrize(("text", "lines"), [
    ("2)", [2, 3]), ("7", [4, 5]), ("8", [4, 5]), ("and", [6, 7]), ("range(3)", [8, 9]), ("+= i", [10]), ("9", [11, 12])])
def test_lines_of_a_statement(text, lines):
    assert list(statement(STATEMENTS, STATEMENTS.index(text))) == lines


def test_lines_that_are_run(tmp_path):
    """Of files below the folder alone, in functions that these call too; a statement that is run has a line that is."""
    (tmp_path / "hw").mkdir()
    file = tmp_path / "hw" / "a.py"
    file.write_text(STATEMENTS)
    names = {}
    code = compile(STATEMENTS, str(file), "exec")

    def run():
        exec(code, names)
        names["f"](0)

    found = executed(run, tmp_path / "hw")
    assert list(found) == ["hw/a.py"]
    for text, is_run in (("2)", True), ("7", True), ("and", True), ("range(3)", False), ("+= i", True), ("9", True)):
        assert set(statement(STATEMENTS, STATEMENTS.index(text))).isdisjoint(found["hw/a.py"]) != is_run, text


@pytest.mark.nightly
def test_mutants_from_the_source_to_the_record(tmp_path, gateware, capsys):
    """One that a bench kills, and one that does not elaborate; a second run has them in its record."""
    [lost] = [m for m in gateware if (m.function, m.rule, m.before) == ("Skid.elaborate", "drop", "held.eq(self.i.payload)")]
    [driven] = [m for m in gateware if m.function == "Skid.elaborate" and m.before.startswith("sync += [held.eq")]
    path = tmp_path / "record.json"
    assert tool.main(["--record", str(path), "--key", lost.key, "--key", driven.key]) == 0
    results = json.loads(path.read_text())["mutants"]
    assert results[lost.key]["outcome"] == "killed" and results[lost.key]["bench"].startswith("lib/streams-")
    assert results[driven.key]["outcome"] == "unbuilt" and "driven" in results[driven.key]["error"]
    assert tool.main(["--record", str(path), "--summary"]) == 0
    assert "100.0%" in capsys.readouterr().out


# ---------------------------------------------------------------------- proofs of equivalence

GOLD = """
module dut(clk, a, o);
  input clk;
  wire clk;
  input [3:0] a;
  wire [3:0] a;
  output o;
  wire o;
  wire \\$1 ;
  reg q = 1'h0;
  reg [1:0] \\$next ;
  reg [1:0] n = 2'h2;
  assign \\$1  = a > 4'h7;
  always @(posedge clk)
    q <= \\$1 ;
  always @* begin
    \\$next  = n;
    if (q) \\$next  = 2'h1;
  end
  always @(posedge clk)
    n <= \\$next ;
  assign o = q & n[0];
endmodule
"""


@pytest.mark.nightly
@pytest.mark.parametrize(("before", "after", "left"), [
    ("a > 4'h7", "a[3]", []), ("a > 4'h7", "a < 4'h8", ["\\q"]), ("q & n[0]", "q | n[0]", ["\\o"]),
    ("if (q)", "if (q & ~o)", ["\\n"]), ("if (q)", "if (q & n[1])", ["\\n"]),
    ("q = 1'h0", "q = 1'h1", ["values after reset"])])
def test_what_is_proven_equivalent(before, after, left, tmp_path):
    """With ``q & ~o`` the two differ where n is 3 alone, which no run reaches: that is not proven."""
    assert unproven(GOLD, GOLD.replace(before, after), tmp_path) == left


# ---------------------------------------------------------------------- arguments

@pytest.mark.parametrize(("arguments", "message"), [
    (["-n", "0"], "-n wants 1 or more"), (["--jobs", "0"], "--jobs wants 1 or more"),
    (["--cpu", "0"], "--cpu wants 1 or more"),
    (["--sample", "-3"], "--sample wants 1 or more"), (["-n", "many"], "invalid int value"),
    (["--list", "--count"], "not allowed with")])
def test_bad_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        tool.main(arguments)
    assert ended.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--bench", "nonsense"], "there is no bench 'nonsense'"),
    (["--unit", "nonsense"], "there is no unit 'nonsense'; units: attention, core"),
    (["--key", "0"], "there is no mutant '0'; --list shows all"), (["--show", "0"], "there is no mutant '0'; --list shows all"),
    (["--record", "nowhere/at/all.json"], "there is no folder nowhere/at for the record"),
    (["--summary", "--record", "{tmp}/text.json"], "is no record of mutants"),
    (["--summary", "--record", "{tmp}/other.json"], "is of --seed 7 --sample 9, not of --seed 1 --sample 1000")])
def test_refusals(arguments, message, capsys, tmp_path, monkeypatch, gateware):
    monkeypatch.setattr(tool, "sources", lambda root: ["all"])
    monkeypatch.setattr(tool, "mutants_of_file", lambda root, file: gateware)
    (tmp_path / "text.json").write_text("[1]")
    (tmp_path / "other.json").write_text(json.dumps({"seed": 7, "sample": 9, "mutants": {}}))
    assert tool.main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.json", "text.json"]
