# The two commands that a stranger types: make demo, make test. Each sets up all that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KILLS ?= 200
DURATION ?= 300
RATE ?= 200
export UV_PROJECT_ENVIRONMENT := $(VENV)

# A clone's folder of compiled pipelines, and the folder that says what each must give.
GOLDENS ?= ../pipelines/test_data/sdk_compiled_pipelines/valid
CASES ?= ../shared/conformance/kfp

# Of the benchmark: make bench-runs BENCH="--only chain,cold --tools headrace,kfp"
BENCH ?=

.PHONY: help setup demo test test-browser crash conformance conformance-sdk conformance-serving bench-runs lint format docs serve clean load faults analysis-sim bench-serving

help:
	@echo "make demo    set up, then the whole way on real flight data, in about two minutes"
	@echo "make test    set up, then all tests"
	@echo "make test-browser   the console in a real browser, which is installed (Debian) or named by HEADRACE_CHROMIUM"
	@echo "make conformance GOLDENS=DIR   KFP's own compiled pipelines: DIR is test_data/sdk_compiled_pipelines/valid of a clone"
	@echo "make conformance-sdk   the KFP SDK's own tests of local execution, run by Headrace"
	@echo "make conformance-serving   KServe's and Triton's own clients against the model server"
	@echo "make crash   kill the server, the warm parent and tasks 200 times; KILLS=1000 and SEED=n as you like"
	@echo "make load    live traffic while rollouts move and processes are killed; DURATION=300 seconds, RATE=200 a second"
	@echo "make faults  six faults of a new model under every strategy, each found and taken back: docs/rollouts.md"
	@echo "make bench-runs   Headrace beside its peers, each installed into an environment of its own: docs/benchmarks.md"
	@echo "make analysis-sim   thousands of simulated rollouts, judged: docs/statistics.md; QUICK=1 for a look, which writes nothing"
	@echo "make bench-serving   the model server beside its peers: docs/benchmarks.md"
	@echo "make lint    style, types and the floors of the house"
	@echo "make docs    docs/cli.md, from --help"
	@echo "make serve   the server, on the project in this folder"
	@echo "make clean   remove the environment"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) scripts/setup.py $(VENV)

demo: setup
	@$(BIN)/headrace demo

test: setup
	$(BIN)/pytest --ignore=tests/browser

test-browser: setup
	@$(BIN)/python scripts/chromium.py
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/browser

conformance: setup
	$(BIN)/python scripts/kfp_conformance.py $(GOLDENS) $(CASES)

conformance-sdk: setup
	$(BIN)/python scripts/kfp_sdk_tests.py

conformance-serving: setup
	$(BIN)/python scripts/serving_clients.py .tools/serving-clients
	$(BIN)/pytest tests/serving/test_clients.py

crash: setup
	PYTHONPATH=tests $(BIN)/python -m crash --kills $(KILLS) $(if $(SEED),--seed $(SEED))

load: setup
	PYTHONPATH=tests $(BIN)/python -m load --duration $(DURATION) --rate $(RATE)

faults: setup
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m faults

bench-runs: setup
	$(BIN)/python -m bench $(BENCH)

analysis-sim: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.analysis $(if $(QUICK),--quick)

bench-serving: setup
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m bench.serving $(BENCH)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python scripts/make_cli_reference.py docs/cli.md

serve: setup
	$(BIN)/headrace up

clean:
	rm -rf $(VENV) .tools
