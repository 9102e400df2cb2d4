# SPDX-FileCopyrightText: 2026 The tellme authors
# SPDX-License-Identifier: BSD-2-Clause

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
PYTHON ?= python3
BOARD ?= ulx3s
DEVICE ?=
SEED ?=
SEEDS ?= 1
JOBS ?= 1
TOOLS ?= yowasp
UV ?= uv
BIN := .venv/bin
export PYTHON
export PYTHONUNBUFFERED := 1

.PHONY: help demo test test-fast nightly test-long test-ref bounds dse bench mutants formal reference bitstream \
	program synth model report clean check venv requirements fuzz coverage-host test-gates mutation soft-faults \
	long-runs coverage-rtl

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

check:
	@sh tools/check_prereqs.sh

# Everything with exact versions.  A stamp, so that a change of either file installs anew.
.venv/installed: pyproject.toml constraints.txt
	@sh tools/check_prereqs.sh
	@echo "== Python packages into .venv (some 700 MB; a few minutes the first time)"
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[hw,sim,formal,dev]'
	@touch .venv/installed

venv: .venv/installed

# What the demo needs and no more: wheels alone, each refused unless its hash is the file's.  No code of a package runs before.
.venv/demo: pyproject.toml requirements-demo.txt
	@sh tools/check_prereqs.sh
	@echo "== Python packages of the demo into .venv (some 400 MB)"
	@test -e .venv/bin/python || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes --only-binary :all: -r requirements-demo.txt
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-index --no-deps --no-build-isolation -e .
	@touch .venv/demo

requirements:  ## requirements-demo.txt anew, from pyproject.toml and constraints.txt (needs uv)
	@echo 'setuptools>=77' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make requirements" -c constraints.txt --extra sim pyproject.toml - -o requirements-demo.txt

demo: check .venv/demo  ## a story from the simulated board (first time: about 10 minutes)
	@echo "== 48 tokens on the simulated board: every operation in the gateware"
	@$(BIN)/tellme-host generate --device sim --max-tokens 48

test: check .venv/installed  ## all of CI (under 20 minutes on two idle cores)
	@$(BIN)/python -m tools.ci

test-fast: check .venv/installed  ## the part of CI that takes under five minutes
	@$(BIN)/python -m tools.ci --fast

nightly: check .venv/installed  ## CI from empty caches, new seeds, all faults, and what CI leaves out (hours; docs/testing.md); RESUME=1: what is left of the last one
	@$(BIN)/python -m tools.ci --nightly --report $(if $(RESUME),--resume)

test-long: check .venv/installed  ## a million vectors a float unit, 500 tokens with all logits, each end of the host 100 times; MODEL=FILE: 64 of it
ifndef MODEL
	@TELLME_VECTORS=1000000 $(BIN)/python -m sim.run_tests -k fused/
	@TELLME_TRIES=100 $(BIN)/python -m pytest -q -s tests/board/test_lifetime.py
endif
	@$(BIN)/python -m tests.long $(if $(MODEL),--model "$(MODEL)")

# An environment of its own: torch's CPU wheel alone is 1 GB with what it brings.
.venv-ref/installed: pyproject.toml
	"$(PYTHON)" -m venv .venv-ref
	.venv-ref/bin/python -m pip install --disable-pip-version-check --progress-bar off \
		--index-url https://download.pytorch.org/whl/cpu 'torch>=2.5,<3'
	.venv-ref/bin/python -m pip install --disable-pip-version-check --progress-bar off -e '.[ref]'
	@touch .venv-ref/installed

test-ref: .venv-ref/installed  ## golden against transformers and llama.cpp, the DDR3 chip against LiteDRAM, live (first time: 1 GB into .venv-ref)
	@.venv-ref/bin/python -m pytest -v -rP tests/ref/live_transformers.py tests/ref/live_llama_cpp.py tests/ref/live_tokenizers.py tests/ref/live_litedram.py

bounds: check .venv/installed  ## golden against an independent float model; MODEL=FILE TEXT=FILE
	@$(BIN)/python -m tests.bounds $(if $(MODEL),--model "$(MODEL)") $(if $(TEXT),--text "$(TEXT)")

bitstream: check .venv/installed  ## place and route; BOARD=ulx3s DEVICE=85f SEED=FIRST SEEDS=N JOBS=N TOOLS=yowasp|native
	@$(BIN)/python -m boards.flow.build --board "$(BOARD)" $(if $(DEVICE),--device "$(DEVICE)") $(if $(SEED),--seed "$(SEED)") --seeds "$(SEEDS)" --jobs "$(JOBS)" --tools "$(TOOLS)"

program: check .venv/installed  ## load the bitstream by USB; BOARD=ulx3s DEVICE=85f, FLASH=1 to stay
	@$(BIN)/python -m boards.flow.program --board "$(BOARD)" $(if $(DEVICE),--device "$(DEVICE)") $(if $(FLASH),--flash)

synth: check .venv/installed  ## pack the top with one lane; UNIT=tlmm|...|all: place and route that unit by itself
ifdef UNIT
	@$(BIN)/python -m boards.flow.synth --unit "$(UNIT)" --tools "$(TOOLS)"
else
	@$(BIN)/python -m boards.flow.build --board ulx3s --reduced
endif

dse: check .venv/installed  ## kinds of engine lanes, placed, with table and plot (over an hour); LANES=1,8,16 JOBS=1
	@PYTHONHASHSEED=0 $(BIN)/python -m boards.study.dse $(if $(LANES),--lanes "$(LANES)") $(if $(KINDS),--kinds "$(KINDS)") \
		$(if $(ROWS),--rows "$(ROWS)") --jobs "$(or $(JOBS),1)" --tools "$(TOOLS)" \
		$(if $(LANES)$(KINDS)$(ROWS),,--json docs/reports/dse.json --plot docs/images/dse.svg --docs docs/dse.md)

model: check .venv/installed  ## the analytic model's LUT coefficients, fitted anew to what nextpnr packs (half an hour)
	@$(BIN)/python -m boards.study.packing
	@$(BIN)/python -m boards.study.fit

bench: check .venv/installed  ## cycles of a token on the simulated board; MODEL=stories-1m POSITIONS=0,64,128
	@$(BIN)/python -m sim.bench --model "$(or $(MODEL),stories-1m)" --positions "$(or $(POSITIONS),0,64,128)"

formal: check .venv/installed  ## proofs about the gateware's parts, with covers and planted faults (docs/testing.md); PROOF=NAME: of that name
	@$(BIN)/python -m formal.run $(if $(PROOF),-k "$(PROOF)",--report)

test-gates: check .venv/installed  ## benches on netlists of ECP5 cells, and planted faults (docs/testing.md); UNIT=tlmm|...: of that unit
	@$(BIN)/python -m sim.gates $(if $(UNIT),-k "$(UNIT)/",--report)

# An environment of its own: Atheris has wheels for Linux on x86-64 alone.
.venv-fuzz/installed: pyproject.toml constraints.txt
	"$(PYTHON)" -m venv .venv-fuzz
	.venv-fuzz/bin/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[dev,sim,fuzz]'
	@touch .venv-fuzz/installed

fuzz: .venv-fuzz/installed  ## what reads strangers' files and requests, guided by coverage, an hour (SECURITY.md); SECONDS=N, TARGET=NAME
	@.venv-fuzz/bin/python -m tests.fuzz --seconds "$(or $(SECONDS),3600)" $(if $(TARGET),-k "$(TARGET)",--report)

soft-faults: check .venv/installed  ## bits of a running simulated board are flipped, and who notices (25 minutes for all); N=1000 SEED=25: goes on with the record
	@$(BIN)/python -m tests.soft_faults --count "$(or $(N),1000)" --seed "$(or $(SEED),25)" --report

long-runs: check .venv/installed  ## drawn texts of the shipped models and random families, all step CRCs (hours); N=10000: goes on with the record
	@$(BIN)/python -m tests.long --drawn "$(or $(N),10000)" --seed "$(or $(SEED),25)" --report

coverage-host: check .venv/installed  ## branches of the host package that the host's tests take (20 minutes); writes docs/reports/coverage-host.json
	@$(BIN)/python -m tools.coverage_host

coverage-rtl: check .venv/installed  ## what CI's benches reach of hw, by file (an hour); UNIT=NAME: that unit; writes docs/reports/coverage-rtl.json
	@$(BIN)/python -m tools.coverage_rtl $(UNIT)

mutants: check .venv/installed  ## faults put into the gateware one at a time; the tests must find each (half an hour)
	@$(BIN)/python -m tests.mutants

mutation: check .venv/installed  ## mutants of the gateware by rule, 1,000 sampled; goes on where it ended (docs/testing.md); N=40 UNIT=lib JOBS=2
	@$(BIN)/python -m tests.mutation $(if $(N),-n "$(N)") $(if $(UNIT),--unit "$(UNIT)") --jobs "$(JOBS)"

reference: check .venv/installed  ## the docstrings of host package and gateware as pages: build/reference/index.html
	@$(BIN)/python -m tools.reference

clean:  ## remove builds (not .venv)
	rm -rf build
