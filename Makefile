# `make demo` is the first thing to try; `make help` lists the rest. Each target sets up what it needs in $(VENV).
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Compiled modules are kept: a test run starts some hundred processes, and each would compile all of them again.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
PY := $(VENV)/bin/python
# More arguments for the program behind a target: make test ARGS="tests/planning -x"; make serve ARGS="--port 9000"
ARGS ?=
# Debian packages: auto, require or no; see scripts/install.sh --help
SYSTEM ?= auto
# Test processes side by side: one more than cores, since tests of servers and networks wait a good part of their time.
# Files of tests that share a server stay together; tests/conftest.py says in which order. WORKERS=0 runs all of them in one.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null | awk '{ print ($$1 > 4) ? 5 : $$1 + 1 }')
# SLOW=1 runs the slow tests too
MARKS := $(if $(SLOW),not soak,not slow and not soak)

INSTALL := scripts/install.sh --venv $(VENV) --system $(SYSTEM)
INSTALL_INPUTS := pyproject.toml constraints.txt scripts/install.sh

.PHONY: help install demo cluster-demo cluster-test serve test soak native native-check lint format proto constraints results results-check clean distclean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

# Two stamps: what serving and driving need (no torch), and everything. The second covers the first.
$(VENV)/.installed-run: $(INSTALL_INPUTS)
	$(INSTALL) --extras serve,envs
	@touch $@

$(VENV)/.installed-all: $(INSTALL_INPUTS)
	$(INSTALL) --extras all
	@touch $(VENV)/.installed-run $@

install: $(VENV)/.installed-all  ## everything, for training and developing, into .venv

demo: $(VENV)/.installed-run  ## serve the bundled model, drive it for 20 episodes, draw what it imagines
	$(VENV)/bin/thick demo $(ARGS)

$(VENV)/.installed-cluster: $(INSTALL_INPUTS)
	$(INSTALL) --extras cluster,dev
	@touch $@

cluster-demo: $(VENV)/.installed-cluster  ## two replicas under Ray Serve, 32 sessions, one replica killed: what is lost?
	$(PY) examples/cluster_demo.py $(ARGS)

cluster-test: $(VENV)/.installed-all $(VENV)/.installed-cluster  ## the tests that need Ray
	$(PY) -m pytest -m cluster tests/cluster $(ARGS)

serve: $(VENV)/.installed-run  ## serve the bundled models on port 8000 (HTTP) and 8001 (gRPC)
	$(VENV)/bin/thick serve --models checkpoints $(ARGS)

test: $(VENV)/.installed-all  ## the quick tests; SLOW=1 for all of them
	$(PY) -m pytest -m "$(MARKS)" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

soak: $(VENV)/.installed-all  ## the long form of the fault and load tests, more seeds of what must be learned
	$(PY) -m pytest -m soak --timeout=0 $(ARGS)

native:  ## build the native runtime's library again, after its sources changed
	$(PY) -m thick.runtimes.native.build

native-check: $(VENV)/.installed-all  ## the native kernels under AddressSanitizer and UBSan, on shapes of all kinds
	$(PY) -m thick.runtimes.native.build --sanitize --output build/libthick-sanitized.so
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 THICK_NATIVE_LIBRARY=build/libthick-sanitized.so \
	  $(PY) -m pytest -q -p no:xdist -p no:cacheprovider tests/runtimes/native $(ARGS)

lint: $(VENV)/.installed-all  ## ruff, mypy, and that generated code is current
	@failed=; set -x; \
	$(VENV)/bin/ruff check . || failed=1; \
	$(VENV)/bin/ruff format --check . || failed=1; \
	$(VENV)/bin/mypy || failed=1; \
	$(PY) -m service.protocol.generate --check || failed=1; \
	$(PY) scripts/sync_clients.py --check || failed=1; \
	{ set +x; } 2>/dev/null; test -z "$$failed"

format: $(VENV)/.installed-all  ## rewrite in the project's style
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

proto: $(VENV)/.installed-all  ## generate the gRPC code from service/protocol/planner.proto
	$(PY) -m service.protocol.generate

constraints: $(VENV)/.installed-all  ## write down the versions in .venv as the tested ones
	{ echo "# The versions that were tested together (Python 3.11); \`make constraints\` writes them anew."; \
	  $(PY) -m pip freeze --exclude-editable | sed -E 's/^(torch==[0-9.]+)\+.*/\1/'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt

results: $(VENV)/.installed-all  ## print docs/results.md's tables and figures again, from the committed CSV alone
	$(PY) experiments/report.py $(ARGS)

results-check: $(VENV)/.installed-all  ## make small rows of the results again from scratch: they land in their intervals
	$(PY) experiments/check.py $(ARGS)

clean:  ## remove caches, build output and what the demo wrote; trained runs and .venv stay
	rm -rf build dist ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	rm -f demo/*.gif demo/*.png demo/*.json demo/*.log
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf $(VENV)
