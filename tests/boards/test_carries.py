# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause
"""Which ends of carry chains are freed, and which are not."""

import json

from boards.flow.carries import free_ends, trim

BELOW = {"INIT0": "0000000000001010", "INIT1": "1001011010101010"}
SUM = {"INIT0": "1001011010101010", "INIT1": "1001011010101010"}


def cell(parameters, *, carry_in, carry_out, low="1", s0=100):
    return {"type": "CCU2C", "parameters": parameters, "connections": {
        "CIN": [carry_in], "COUT": [carry_out], "A0": [2], "B0": ["0"], "C0": [low], "D0": [low], "S0": [s0],
        "A1": [3], "B1": [4], "C1": ["0"], "D1": ["1"], "S1": [s0 + 1]}}


def netlist(**cells):
    return {"modules": {"top": {"ports": {"out": {"bits": [201]}}, "cells": cells}}}


def test_a_chain_that_makes_its_own_carry_loses_both_ends():
    text = netlist(first=cell(BELOW, carry_in="0", carry_out=50), last=cell(SUM, carry_in=50, carry_out=51, s0=200))
    assert free_ends(text) == (1, 1)
    cells = text["modules"]["top"]["cells"]
    assert cells["first"]["connections"]["CIN"] == ["x"] and cells["first"]["connections"]["COUT"] == [50]
    assert cells["last"]["connections"]["CIN"] == [50] and cells["last"]["connections"]["COUT"] == ["x"]


def test_a_carry_in_that_counts_stays():
    assert free_ends(netlist(only=cell(SUM, carry_in="0", carry_out=51))) == (1, 0)
    # The cell below needs its carry input if its inputs are not these constants.
    assert free_ends(netlist(only=cell(BELOW | {"INIT0": "0010000000001010"}, carry_in="0", carry_out=51))) == (1, 0)
    assert free_ends(netlist(only=cell(BELOW, carry_in=60, carry_out=51))) == (1, 0)


def test_a_carry_out_that_is_read_stays():
    assert free_ends(netlist(only=cell(BELOW, carry_in=60, carry_out=201))) == (0, 0)


def test_a_file_is_changed_in_place(tmp_path):
    path = tmp_path / "netlist.json"
    path.write_text(json.dumps(netlist(only=cell(BELOW, carry_in="1", carry_out=51))))
    assert trim(path) == (1, 1)
    assert json.loads(path.read_text())["modules"]["top"]["cells"]["only"]["connections"]["CIN"] == ["x"]
