# make demo | test | test-all | ui | lint | docs | bench | gpu-report. Works from any directory: make -C /path/to/this demo
SHELL := /bin/bash
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
VENV := $(ROOT).venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DOCS := $(VENV)/.docs
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

# TORCH_INDEX=URL: a package index with CPU builds of torch, where the default one would bring a CUDA build
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# Compiled modules are kept: a hundred processes of tests and all workers read them
test test-all: export PYTHONDONTWRITEBYTECODE =

# A process a core with one thread each; the tests of a file stay together, as they share what they train, and
# the long files are begun first
PARALLEL := -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all ui lint docs bench gpu-report setup clean
.DEFAULT_GOAL := demo

setup: $(STAMP)

# Made once; again only when the pins or this file change. torch comes first, pinned, so that nothing pulls a build of several GB.
$(STAMP): $(ROOT)pyproject.toml $(ROOT)constraints.txt $(ROOT)Makefile
	@if [ -z "$(PYTHON)" ]; then echo "error: Python 3.11 or newer is needed; install it (Debian: apt-get install python3 python3-venv) or pass PYTHON=/path/to/python3" >&2; exit 1; fi
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv; install it (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check -c $(ROOT)constraints.txt $(INDEX) torch
	@$(BIN)/pip install -q --disable-pip-version-check -c $(ROOT)constraints.txt -e '$(ROOT)[dev,chem]'
	@touch $(STAMP)

demo: $(STAMP)
	@cd $(ROOT) && $(BIN)/python -m studio.demo

test: $(STAMP)
	@cd $(ROOT) && $(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gpu"

# What builds the documentation and runs its notebooks
$(DOCS): $(STAMP)
	@$(BIN)/pip install -q --disable-pip-version-check -c $(ROOT)constraints.txt -e '$(ROOT)[docs]'
	@touch $(DOCS)

test-all: $(STAMP) $(DOCS)
	@cd $(ROOT) && $(BIN)/python -m pytest $(PARALLEL)

ui: $(STAMP)
	@cd $(ROOT) && $(BIN)/studio ui

lint: $(STAMP)
	@cd $(ROOT) && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: $(DOCS)
	@cd $(ROOT) && NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q && echo "the documentation: $(ROOT)build/docs/index.html"

bench: $(STAMP)
	@cd $(ROOT) && for b in train_step sample generate attention pointwise metrics couplings guidance scans scaling softmax; do echo "== $$b"; $(BIN)/python -m benchmarks.$$b $(ARGS) || exit 1; done

gpu-report: $(STAMP)
	@cd $(ROOT) && $(BIN)/python -m benchmarks.gpu_report $(ARGS)

clean:
	rm -rf $(VENV)
