# `make help` lists the targets.
IS_311 := import sys; sys.exit(sys.version_info[:2] != (3, 11))
PYTHON ?= $(shell for p in python3.11 python3 python; do \
	$$p -c '$(IS_311)' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python manage.py
STAMP := $(VENV)/.installed
STAMP_DEV := $(VENV)/.installed-dev
STAMP_BENCH := .venv-bench/.installed
PORT ?= 8000
FLOWER_PORT ?= 5555
DAVIS ?=
PEERS ?= .venv-peers
OPTIONS ?=
SEED ?=
MINUTES ?= 1

.DEFAULT_GOAL := help
.PHONY: help install install-dev demo serve test lint chaos bench bench-affinity bench-serving bench-tabular browser flower

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.txt
	@"$(PYTHON)" -c '$(IS_311)' 2>/dev/null \
		|| { echo "Compass needs Python 3.11; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.txt
	@touch $@

$(STAMP_DEV): requirements-dev.txt $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements-dev.txt
	@touch $@

install: $(STAMP) ## Make the environment in .venv

install-dev: $(STAMP_DEV) ## The same with the tools of development

demo: $(STAMP) ## Train on real data, predict, show it all, stop; on a fresh directory
	@$(RUN) demo

serve: $(STAMP) ## Run the stack with the demo's data and model in it (PORT=8000)
	@$(RUN) demo --serve --port $(PORT)

test: $(STAMP_DEV) ## All tests on SQLite, then the registry and the flows on PostgreSQL
	$(BIN)/python -m pytest -n 2 --dist worksteal -q
	COMPASS_TEST_DATABASE=postgresql $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "not stack and not chaos" \
		tests/registry tests/flows tests/chaos tests/training/test_supervisor.py tests/training/test_worker.py \
		tests/training/test_reports.py tests/training/test_training_api.py \
		tests/compass/test_changes.py tests/compass/test_lanes.py tests/inference/test_forget.py \
		tests/inference/test_batch_run.py tests/inference/test_batch_api.py tests/inference/test_hands_run.py

lint: $(STAMP_DEV) ## Style, types, direction of imports, missing migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	COMPASS_DATA_DIR=$$(mktemp -d) $(RUN) makemigrations --check --dry-run

chaos: $(STAMP_DEV) ## Break everything under load; nothing is lost (SEED=7 MINUTES=30)
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) --minutes $(MINUTES)
	COMPASS_TEST_EVERY=1 $(BIN)/python -m pytest -q tests/chaos/test_unknown_outcomes.py tests/chaos/test_crashpoints.py
	$(BIN)/python -m pytest -q -m "stack or chaos" tests/flows tests/chaos

$(STAMP_BENCH): bench/requirements.txt
	test -x .venv-bench/bin/python || "$(PYTHON)" -m venv .venv-bench
	.venv-bench/bin/python -m pip install --disable-pip-version-check --quiet -r bench/requirements.txt
	@touch $@

bench: $(STAMP_DEV) $(STAMP_BENCH) ## Every performance claim against its budget, beside its peers
	$(BIN)/python -m bench.all

bench-affinity: $(STAMP) ## Quality and time on the Davis set: make bench-affinity DAVIS=path
	@test -n "$(DAVIS)" || { echo "Say where the data is: make bench-affinity DAVIS=path/to/davis.csv.gz"; exit 2; }
	$(BIN)/python -m bench.affinity "$(DAVIS)"

bench-serving: $(STAMP) ## Predictions beside six peers: make bench-serving OPTIONS="--seconds 2 --rounds 1"
	-$(BIN)/python -m bench.serving.install --peer all --into $(PEERS)
	$(BIN)/python -m bench.serving --peers-in $(PEERS) $(OPTIONS)

bench-tabular: $(STAMP_DEV) ## Quality of `tabular` beside scikit-learn
	$(BIN)/python -m bench.tabular

browser: $(STAMP_DEV) ## The pages in a real browser, where chromium is installed
	$(BIN)/python -m pytest -q tests/browser

flower: $(STAMP) ## Flower on 127.0.0.1:5555, for the stack of COMPASS_DATA_DIR
	$(BIN)/python -m celery -A compass flower --address=127.0.0.1 --port=$(FLOWER_PORT)
