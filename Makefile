# Two commands do everything: `make run` and `make test`. Both install what they need first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

export OMP_NUM_THREADS ?= 1
export RAY_USAGE_STATS_ENABLED ?= 0

.PHONY: help run test test-all chaos check format install bench accuracy manifests clean

help: ## Show this help.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@# torch comes first, at the pinned version, so that nothing else chooses a build of it.
	$(PIP) install --constraint constraints.txt torch==2.13.0
	$(PIP) install --constraint constraints.txt --editable '.[jobs]'
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) install --constraint constraints.txt --editable '.[jobs,test]'
	@touch $@

install: $(VENV)/.run ## Create .venv with everything a run needs.

run: $(VENV)/.run ## Shard, train and serve a small GPT on the standard library's sources.
	$(BIN)/axis run configs/gpt-stdlib.yaml

test: $(VENV)/.test ## Run the tests (those marked slow are left out).
	$(BIN)/python -m pytest -n 2 -m 'not slow and not gloo and not ray'
	@# Groups of processes and clusters fill the machine by themselves.
	$(BIN)/python -m pytest -m 'not slow and (gloo or ray)'

test-all: $(VENV)/.test ## Run all tests, the slow ones too (about an hour).
	$(BIN)/python -m pytest

chaos: $(VENV)/.test ## Inject random faults into one run for ten minutes.
	$(BIN)/python -m tests.chaos.random_faults

check: $(VENV)/.test ## Lint, format check and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## Format the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

manifests: $(VENV)/.run ## Render the manifests and the script in deploy/ again.
	$(BIN)/axis render configs/digits.yaml --output deploy
	$(BIN)/axis render configs/digits.yaml --kind service --output deploy/service
	$(BIN)/axis render configs/gpt-mesh.yaml --kind cluster --output deploy/cluster
	$(BIN)/axis render configs/digits.yaml --target slurm --output deploy/slurm

bench: $(VENV)/.test ## Measure side by side with what one would write by hand.
	$(BIN)/python -m benchmarks

accuracy: $(VENV)/.test ## Hold the planner's predictions against published measurements.
	$(BIN)/python -m benchmarks.accuracy

clean: ## Remove the virtual environment and caches; runs stay.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
