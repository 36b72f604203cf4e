# `make run` and `make test` set up what they need and do their job; `make ui` opens the Dagster UI.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
export RECSYS_HOME ?= $(CURDIR)/.recsys
export DAGSTER_HOME ?= $(RECSYS_HOME)/dagster
export DAGSTER_DISABLE_TELEMETRY = 1
export GX_ANALYTICS_ENABLED = false
export HF_HUB_OFFLINE = 1
export TOKENIZERS_PARALLELISM = false

.PHONY: run ui test test-weaviate faults bench lint clean month
.DEFAULT_GOAL := run

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (a few minutes, once) ..."
	@# torch first and with its own dependencies: which those are depends on the build your index offers.
	$(PIP) --constraint requirements.lock $$(grep '^torch==' requirements.lock)
	$(PIP) --no-deps --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

$(DAGSTER_HOME)/dagster.yaml: $(VENV)/.installed
	$(BIN)/python -W ignore -c "from dagster_project.runs import prepare_home; prepare_home()"

run: $(VENV)/.installed
	$(BIN)/recsys run

ui: $(VENV)/.installed
	$(BIN)/recsys ui

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint $(DAGSTER_HOME)/dagster.yaml
	$(BIN)/dg check defs
	$(BIN)/dg list defs > /dev/null
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

# Every kill point and failure, one after the other; `make test` runs a sample of them.
faults: $(VENV)/.installed
	$(BIN)/python -m tests.faults

# A month of a small shop in compressed time, through the real daemon (about an hour).
# The machine must have nothing else to do: every run is a process of its own.
month: $(VENV)/.installed
	$(BIN)/python -W ignore -m tests.month

# The contract of the vector index against the Weaviate server that WEAVIATE_URL, WEAVIATE_GRPC_PORT
# and WEAVIATE_API_KEY name. It works under names of its own and removes what it made.
test-weaviate: $(VENV)/.installed
	@test -n "$$WEAVIATE_URL" || { echo "Set WEAVIATE_URL (and WEAVIATE_GRPC_PORT, WEAVIATE_API_KEY) first."; exit 1; }
	$(BIN)/pytest -m weaviate tests/indexing/test_contract.py

# Where a run's time and memory go, other people's recommenders on the same split, and the graph on
# the same shop at several sizes. BENCH_FACTORS, BENCH_UNTIL and BENCH_MINUTES choose how much.
BENCH_HOME ?= $(RECSYS_HOME)-bench
BENCH_FACTORS ?= 1 3
BENCH_UNTIL ?= user_item_features
BENCH_MINUTES ?= 30
PEERS := $(VENV)-peers

$(PEERS)/.installed: requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --requirement $<
	touch $@

bench: $(VENV)/.installed $(PEERS)/.installed
	@test -e $(RECSYS_HOME)/lake/pointers/served_release.json || $(BIN)/recsys run
	@echo "--- The newest run, by asset"
	$(BIN)/python -W ignore -m benchmarks.steps
	@echo "--- Other people's recommenders, same events, split and users"
	$(BIN)/python -W ignore -m benchmarks.peers --python $(PEERS)/bin/python
	@echo "--- The graph on the same shop, $(BENCH_FACTORS) times its size, up to $(BENCH_UNTIL)"
	$(BIN)/python -W ignore -m benchmarks.scale --out $(BENCH_HOME) --factors $(BENCH_FACTORS) --until "$(BENCH_UNTIL)" --minutes $(BENCH_MINUTES)
	@echo "Everything at ten times the data: make bench BENCH_FACTORS='1 3 10' BENCH_UNTIL= BENCH_MINUTES=300"

# Only what lies in this folder: RECSYS_HOME may name a shop's real state.
clean:
	rm -rf $(VENV) $(PEERS) "$(CURDIR)"/.recsys*
