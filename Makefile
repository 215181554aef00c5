# Two commands for a newcomer: `make run` and `make test`. Both set up everything they need in .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# Where somebody forbids it, every process that a test or a run starts would compile all of the bot anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
CORE := $(wildcard nadofast/*.pyx nadofast/*.pxd)

# Arguments of `make run`, for example: make run CYCLES=6 SEED=7 SIZE_USD=150
CYCLES ?= 4
SEED ?= 1
SIZE_USD ?= 150
# Arguments of `make long`: SUITE is a pytest -k expression, SEEDS a range of seeds.
SUITE ?= long
SEEDS ?= 0:2
# Arguments of `make bench-tables`, for example: make bench-tables TABLES="--rounds 3 --only wire"
TABLES ?=

.PHONY: help run test test-report bench bench-tables coverage coverage-all sanitize debug lint types build long chaos clean docs \
  format

help:
	@echo "make run     trade cycles on the embedded exchange  (CYCLES=$(CYCLES) SEED=$(SEED) SIZE_USD=$(SIZE_USD))"
	@echo "make test    every test;  make test-report  the report's page in Chromium"
	@echo "make bench   regression gates on speed;  make bench-tables  the README's tables, with peers (minutes)"
	@echo "make sanitize | debug   tests on other builds of the core, each in build/KIND-tree"
	@echo "make coverage      of the client, its compiled core traced;  make coverage-all  of everything (docs/coverage.md)"
	@echo "make lint    ruff;  make format  applies it"
	@echo "make types   mypy --strict"
	@echo "make docs    the pages that are made from the code"
	@echo "make build   wheel and sdist in dist/"
	@echo "make long    longer campaigns  (SUITE=$(SUITE) SEEDS=$(SEEDS))"
	@echo "make chaos   all long suites of faults and one matrix of them  (SEEDS=$(SEEDS))"
	@echo "make clean   removes everything that was made"

# The interpreter is looked for once, and only when a virtual environment has to be made.
$(BIN)/python:
	@for p in "$${PYTHON:-}" python3.11 python3.12 python3.13 python3; do \
	  [ -n "$$p" ] && command -v "$$p" >/dev/null || continue; \
	  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	    echo "== making $(VENV) with $$("$$p" --version)"; "$$p" -m venv $(VENV); exit 0; fi; \
	done; echo "Python 3.11 or newer is needed (set PYTHON=/path/to/python)" >&2; exit 1

$(VENV)/.toolchain: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing the build tools"
	@$(PIP) install -c constraints.txt setuptools wheel Cython picows
	@touch $@

$(VENV)/.run: $(VENV)/.toolchain setup.py $(CORE)
	@echo "== installing dependencies and compiling nadofast (about a minute the first time)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[bot,sim,report]'
	@touch $@

# All at once: what tests and lint need holds what a run needs, and the core is compiled once.
$(VENV)/.dev: $(VENV)/.toolchain setup.py $(CORE)
	@echo "== installing dependencies with test and lint tools, and compiling nadofast (about a minute)"
	@$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(VENV)/.run $@

run: $(VENV)/.run
	@$(BIN)/python -m bot run --cycles $(CYCLES) --seed $(SEED) --size-usd $(SIZE_USD)

# Many tests talk in real time over sockets, and three at once share two cores: a failure counts when it is one
# without company, too, and both are printed.
test: $(VENV)/.dev
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --durations=8 || { \
	  echo "== what failed beside other tests is run again alone: what fails twice fails"; \
	  $(BIN)/python -m pytest -q -n 0 --last-failed --last-failed-no-failures none; }

# The report's page in Chromium (.ci/chromium installs it): not part of `make test`, which needs no browser.
test-report: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 0 -m browser tests/report

# A gate that fails is measured once more by itself, and both are printed: a slow commit is slow every time.
bench: $(VENV)/.dev
	@$(BIN)/python -m pytest bench/ --benchmark-only -q || { \
	  echo "== what failed is measured again by itself: what fails twice fails"; \
	  $(BIN)/python -m pytest bench/ --benchmark-only -q --last-failed --last-failed-no-failures none; }

# Peers have an environment of their own: their pins conflict with those of the official SDK.
$(PEERS)/.done: bench/peers.txt | $(BIN)/python
	@echo "== installing what nadofast is compared with"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check -q install -r bench/peers.txt
	@touch $@

bench-tables: $(VENV)/.dev $(PEERS)/.done
	$(BIN)/python bench/tables.py $(TABLES)

# In parts, two at a time. The core is traced line by line in a tree of its own, which makes it ten times slower: only
# its own tests run there, without those that would count the tracer's blocks and bytes. Everything else runs on the
# ordinary build, and the processes it starts are counted.
TREE := $(CURDIR)/build/coverage-tree
TESTS_core := tests/core --ignore=tests/core/test_leaks.py --ignore=tests/core/test_memory.py \
  --deselect=tests/core/test_core_live.py::test_no_python_object_is_kept_per_market_message
TESTS_client := tests/client tests/orders
TESTS_bot := tests/bot
TESTS_e2e := tests/e2e tests/chaos
TESTS_sim := tests/sim
measured = $(CURDIR)/$(BIN)/python -m coverage $(1) --rcfile=tests/coverage.ini
judged = $(call measured,json) -q -o build/coverage/found.json; \
  $(CURDIR)/$(BIN)/python tests/coverage_goals.py build/coverage/found.json
measure-%:
	@cache=$(CURDIR)/build/coverage-cache-$*; rm -rf $$cache; $(if $(filter core,$*),cd $(TREE); export PYTHONPATH=$(TREE);) \
	run() { $(call measured,run) -m pytest -q -n 0 -o cache_dir=$$cache $(TESTS_$*) "$$@"; }; \
	run || { echo "== what failed is run again alone: what fails twice fails"; run --last-failed --last-failed-no-failures none; }

coverage: $(VENV)/.dev
	@$(BIN)/python tests/variant.py coverage; rm -rf build/coverage $(TREE)/build/coverage
	@$(MAKE) --no-print-directory -k -j2 -Otarget measure-core measure-client
	@cd $(TREE); $(call measured,combine) -q build/coverage ../coverage; $(judged) nadofast connection

coverage-all: coverage
	@$(MAKE) --no-print-directory -k -j2 -Otarget measure-bot measure-e2e measure-sim
	@cd $(TREE); $(call measured,combine) -q --append ../coverage; $(judged)

sanitize debug: $(VENV)/.dev
	@tree=$$($(BIN)/python tests/variant.py $@); \
	mapfile -t settings < <($(BIN)/python tests/variant.py --environment $@); \
	cd $$tree; env "$${settings[@]}" $(CURDIR)/$(BIN)/python -m pytest -q -n 0 -p no:cacheprovider tests/core

lint: $(VENV)/.dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

types: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

build: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --outdir dist .

long: $(VENV)/.dev
	NADOFAST_SEEDS=$(SEEDS) $(BIN)/python -m pytest -m long -k "$(SUITE)" -s -o faulthandler_timeout=7200

# Seeds are those of streams and of the pair; the other suites play a share of them that takes about as long.
chaos: $(VENV)/.dev
	$(BIN)/python tests/chaos/campaign.py --seeds $(SEEDS)

clean:
	rm -rf $(VENV) $(PEERS) bench/results build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks state runs
	rm -f nadofast/*.so nadofast/*.c .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
