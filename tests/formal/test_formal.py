# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""The proofs of ``python -m formal.run``: their list, their faults, and their report.  The proofs run in ``make nightly``."""

import json
from dataclasses import replace

import pytest

from formal import run, sweep
from formal.harness import Harness, Proof
from formal.proofs import PROOFS
from formal.streams import PROOFS as STREAMS
from tests.mutants import ROOT

FAULTS = [(proof.name, mutant) for proof in PROOFS for mutant in proof.mutants]
FAULTS += [("sweep", mutant) for mutant in sweep.FAULTS]


def test_names_differ():
    names = [proof.name for proof in PROOFS]
    assert len(set(names)) == len(names)
    for proof in PROOFS:
        assert proof.mutants and len({mutant.fault for mutant in proof.mutants}) == len(proof.mutants), proof.name


@pytest.mark.parametrize("name, mutant", FAULTS, ids=[f"{name}-{mutant.fault}" for name, mutant in FAULTS])
def test_a_fault_has_its_place(name, mutant):
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times, not once"
    assert mutant.new != mutant.old


def test_report_is_of_the_proofs():
    """Each proof has a result, of the present mode, depth and faults; the page is what the results give."""
    stored = run.stored()
    without = run.OPEN + run.UNREPORTED
    assert set(stored) == {proof.name for proof in PROOFS if proof.name not in without}
    for proof in PROOFS:
        if proof.name in without:
            continue
        result = stored[proof.name]
        assert result.passed and result.status == "PASS", proof.name
        assert (result.mode, result.depth) == (proof.mode, proof.depth), proof.name
        assert result.found == [mutant.fault for mutant in proof.mutants] and not result.survived, proof.name
        assert result.asserts and len(result.reached) == result.covers > 0, proof.name
    assert run.REPORT.read_text() == run.report([stored[proof.name] for proof in PROOFS if proof.name in stored])


def test_all_pairs_of_binary16_were_swept():
    """The record is of the present gateware and description, and of each fault."""
    record = json.loads(sweep.REPORT.read_text())
    assert record["swept"] == {
        operation: {"pairs": values_of_a << 16, "digest": sweep.source_digest(f"{sweep.verilog(operation)}\n")}
        for operation, values_of_a in sweep.OPERATIONS.items()}
    assert set(record["faults"]) == {mutant.fault for mutant in sweep.FAULTS}
    assert all(said.startswith("differs") for said in record["faults"].values())


def contradiction() -> Harness:
    """A queue's proof whose neighbour cannot be: all properties hold, of no run."""
    h = STREAMS[1].build()
    never = h.free(1, "never")
    h.assume(never)
    h.assume(~never)
    return h


@pytest.mark.nightly
@pytest.mark.parametrize("faulty", ["a property that does not hold", "no run at all", "a fault that is none"])
def test_a_proof_can_fail(faulty, tmp_path, monkeypatch):
    proof = STREAMS[0]
    monkeypatch.setattr(run, "BUILD", tmp_path)
    built: list[Proof] = []

    def emit(proof: Proof, out, root):
        harness = contradiction() if faulty == "no run at all" else proof.build()
        if faulty == "a property that does not hold":
            harness.holds(harness.before(0, "never"))
        out.write_text(harness.rtlil())
        built.append(proof)
        return harness.asserts, harness.covers

    monkeypatch.setattr(run, "emit", emit)
    result = run.prove(replace(proof, mutants=proof.mutants[:1]))
    assert built and not result.passed
    if faulty == "a fault that is none":
        # The fault is planted in a copy that this emit does not look at.
        assert result.survived == [proof.mutants[0].fault]
