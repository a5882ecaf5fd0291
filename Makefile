# `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
STAMP := $(VENV)/.installed
# Tests use one core each, so as many run at once as there are cores; four at most, for each holds PyTorch and models.
SIDE_BY_SIDE := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help venv quickstart test test-slow check format bench clean

help: ## List the commands.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

venv: $(STAMP) ## Set up .venv with everything the project needs.

# PyTorch first and alone: whichever build of it the machine is given, the rest is content with it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "understudy needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@# As pip does with what it copies: else, where no bytecode may be written, each process compiles it all again.
	@$(BIN)/python -m compileall -q src/understudy
	@touch $@

quickstart: $(STAMP) ## Distil the embedded telecom student and open the way to its report; offline.
	$(BIN)/understudy run telecom_qa

test: $(STAMP) ## Run the tests.
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE)

test-slow: $(STAMP) ## Run the slow tests too (simulations of the statistics, grids killed and on Ray).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q -m 'slow or not slow' $(SIDE_BY_SIDE)

check: $(STAMP) ## Style, types and layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

format: $(STAMP) ## Format the code.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Time losses, a whole step, metrics, statistics and the completer; half an hour.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/loss.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/crossvocab.py
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/significance.py
	$(BIN)/python benchmarks/completer.py
	$(BIN)/python benchmarks/generate.py

clean: ## Remove the environment and caches (runs stay).
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis
