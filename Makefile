# Needs: gcc (or clang), libsodium-dev, libssl-dev, python3.11-venv
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# an activated environment is used as it is
ifdef VIRTUAL_ENV
BIN = $(VIRTUAL_ENV)/bin
endif

.PHONY: help venv kernel lint test test-asan test-ubsan test-tsan bench-crypto demo clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip

venv: $(BIN)/python ## the environment, with the package editable in it
	$(BIN)/python -c 'import ztpipe.kernel._kernel, pytest' 2>/dev/null || $(BIN)/pip install -q -e '.[dev]'

kernel: venv ## compile the C kernel in place (incremental)
	$(BIN)/python -m ztpipe.kernel.build

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

test: kernel ## the tests that need no root and no reference binary
	$(BIN)/pytest -m 'not root and not interop and not slow'

test-asan: ## C tests under AddressSanitizer and UndefinedBehaviorSanitizer
	tests/kernel/sanitize.sh address,undefined

test-tsan: ## C tests under ThreadSanitizer
	tests/kernel/sanitize.sh thread

bench-crypto: kernel ## ns per packet of every implementation
	$(BIN)/python -m ztpipe.cli.bench_crypto

demo:
	@echo "demo: see README.md"

clean: ## remove what was built
	rm -rf build dist *.egg-info ztpipe/kernel/*.so
