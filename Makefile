# Every command of the project. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
SLOW_STAMP := $(VENV)/.installed-slow
BENCH_STAMP := $(VENV)/.installed-bench

# Real nodes are started by the hundred: where this is set each of them compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-slow check soak mutants bench scaling attacks chaos saturated screenshots clean
help:           ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/pip install --quiet -c constraints.txt 'pip>=25.1'
	$(BIN)/pip install --quiet -c constraints.txt --group dev
	touch $@

demo: $(STAMP)  ## four real nodes on this machine train one model
	$(BIN)/fednode demo

# One more than there are often cores: what is tried with real nodes waits for most of its time.
PROCESSES ?= 3
test: $(DEV_STAMP)  ## the tests, in PROCESSES processes
	$(BIN)/python -m pytest -n $(PROCESSES)

# MLflow wants other versions of what fednode needs, so it has an environment of its own, which tests run.
$(SLOW_STAMP): $(DEV_STAMP) tests/slow-constraints.txt
	$(PYTHON) -m venv $(VENV)/slow
	$(BIN)/pip --python $(VENV)/slow install --quiet -c tests/slow-constraints.txt --group slow
	touch $@

test-slow: $(SLOW_STAMP)  ## tests that need big dependencies, or take long
	$(BIN)/python -m pytest -m slow

check: $(DEV_STAMP)  ## ruff, mypy --strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

SEEDS ?= 20
soak: $(STAMP)  ## play every shipped scenario by SEEDS seeds (make soak SEEDS=1000, or 1000+5001 from seed 5001 on)
	$(BIN)/python -m simulations.soak $(SEEDS)

mutants: $(DEV_STAMP)  ## break each safety check on purpose; every break must be caught
	$(BIN)/python tests/mutants.py

# byzfl is only compared with: where it cannot be had, the figures against it are left out.
$(BENCH_STAMP): $(DEV_STAMP)
	-$(BIN)/pip install --quiet --no-deps -c constraints.txt --group bench
	touch $@

bench: $(BENCH_STAMP)  ## measure; prints a table beside the targets, writes build/bench.json
	$(BIN)/python tests/bench.py

scaling: $(DEV_STAMP)  ## 10 to 1,000 simulated nodes; writes the table of docs/scaling.md and docs/scaling.svg
	$(BIN)/python tests/scaling.py

attacks: $(DEV_STAMP)  ## train digits with every rule while some lie; writes the tables of docs/rules.md
	$(BIN)/python tests/attack_table.py

chaos: $(DEV_STAMP)  ## kill, freeze and cut off real nodes for minutes; all must agree in the end (CHAOS="--seed 1")
	$(BIN)/python tests/chaos.py $(CHAOS)

saturated: $(DEV_STAMP)  ## half an hour with every core busy: does anybody call an election for nothing?
	$(BIN)/python tests/saturated.py $(SATURATED)

screenshots: $(DEV_STAMP)  ## pictures of the dashboard's screens during a real run, into docs/screens
	$(BIN)/python tests/screenshots.py

clean:          ## remove what the other commands made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
