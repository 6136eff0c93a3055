# `make demo` and `make test` do all of their set-up: system packages, virtual environment, build (scripts/setup.sh).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SETUP = PYTHON=$(PYTHON) scripts/setup.sh $(VENV)

.PHONY: help demo test setup kernel lint test-asan test-tsan bench bench-targets bench-tap bench-crypto bench-multicast \
	bench-flood bench-bridges bench-contacts bench-waits soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: ## two sites joined by two gateways, shown working and measured (needs root)
	@$(SETUP)
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/ztpipe demo; \
	else echo "the demo makes network namespaces and needs root: asking sudo" >&2; sudo $(BIN)/ztpipe demo; fi

test: ## the whole test suite (tests in network namespaces are skipped, loudly, without root)
	@$(SETUP) dev
	@[ "$$(id -u)" = 0 ] || echo "not root: tests with network namespaces and TAP devices will be skipped" >&2
	@$(BIN)/pytest -q

setup: ## the environment with development tools
	@$(SETUP) dev

kernel: setup ## compile the C kernel in place (incremental)
	$(BIN)/python -m ztpipe.kernel.build

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

test-asan: setup ## all tests of the kernel, in C and in Python, under AddressSanitizer and UndefinedBehaviorSanitizer
	tests/kernel/sanitize.sh address,undefined
	PYTHON=$(CURDIR)/$(BIN)/python tests/kernel/sanitize_python.sh

test-tsan: setup ## C tests, rings, bells and sequence locks under ThreadSanitizer
	tests/kernel/sanitize.sh thread
	$(BIN)/pytest -q tests/shm/test_ring_stress.py

bench: setup ## throughput beside the bare cable and, with ZT_REFERENCE, zerotier-one (needs root)
	$(BIN)/python -m tests.bench.throughput

bench-targets: setup ## the target table of docs/scaling.md (needs root and ZT_REFERENCE, 10 min)
	$(BIN)/python -m tests.bench.throughput --targets

bench-tap: setup ## TAP frames by read and write and by io_uring, ns each (needs root)
	@mkdir -p build
	$${CC:-cc} -O2 -Wall -Wextra -D_GNU_SOURCE tests/bench/tap_uring.c -o build/tap_uring
	build/tap_uring

bench-crypto: setup ## ns per packet of every cipher implementation
	$(BIN)/python -m ztpipe.cli.bench_crypto

bench-multicast: setup ## one talks to a group, three listen; beside zerotier-one with ZT_REFERENCE (needs root)
	$(BIN)/python -m tests.bench.multicast

bench-flood: setup ## what floods into a TAP leave of a TCP stream, both layouts (needs root, 15 min)
	$(BIN)/python -m tests.bench.tap_flood --layout pipeline
	$(BIN)/python -m tests.bench.tap_flood --layout fused

bench-contacts: setup ## the first ping between any two of ten members (needs root)
	$(BIN)/python -m tests.bench.contacts

bench-waits: setup ## who runs, who waits for a CPU, and what stays idle while a stream crosses (needs root and perf)
	$(BIN)/python -m tests.bench.waits
	$(BIN)/python -m tests.bench.waits --relay

bench-bridges: setup ## TCP between two LANs joined by two bridges; beside zerotier-one with ZT_REFERENCE (needs root)
	$(BIN)/python -m tests.bench.bridges

soak: setup ## ten minutes of keep-alives beside an unmodified zerotier-one (needs root and ZT_REFERENCE)
	$(BIN)/python -m tests.interop.soak

clean: ## remove what was built
	rm -rf build dist *.egg-info ztpipe/kernel/*.so .venv
