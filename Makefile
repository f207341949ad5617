# Two commands for a fresh machine with Python >= 3.10: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.installed-demo
IMAGE ?=
OPTIONS ?=
GPU_PYTHON ?=
GPU_BUNDLES ?=
GPU_REPORT ?= build/gpu
GPU_OPTIONS ?=
ONLY ?=
OPTIMUM ?=

.PHONY: demo test test-gpu check figures wheel-test clean help

help:
	@echo "make demo [IMAGE=photo.jpg]   export the demo network, verify it, predict depth, write pictures"
	@echo "make test                     the whole suite"
	@echo "make test-gpu                 the tests that need an NVIDIA GPU; see tests/gpu/README.md"
	@echo "make check                    format, lint, types"
	@echo "make figures [ONLY=cpu,demo]  measure the figures of README and docs, and write their tables"
	@echo "make wheel-test               build the wheel and try it in an environment of its own"

# The demo installs what an export and a CPU need, everything else the whole; pip shows what it does.
$(INSTALLED): EXTRAS := test
$(DEMO_INSTALLED): EXTRAS := cpu,export
$(INSTALLED) $(DEMO_INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "glpn-deploy needs Python 3.10 or later; \
	this is " + sys.version.split()[0] + ". Pass another one: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

demo: $(if $(wildcard $(INSTALLED)),$(INSTALLED),$(DEMO_INSTALLED))
	@$(BIN)/python -m glpn_deploy.cli.demo --out demo $(if $(IMAGE),--image "$(IMAGE)")

# On all processors, a file's tests in one process, files in their own order (by number of tests, a few slow
# ones would come last and keep one process alone); OPTIONS="-n 0 -k name" runs some of them in one.
test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(OPTIONS)

# GPU_PYTHON: a Python that has TensorRT, where the environment made here has none.
test-gpu: $(if $(GPU_PYTHON),,$(INSTALLED))
	$(or $(GPU_PYTHON),$(BIN)/python) -m pytest tests/gpu --report=$(GPU_REPORT) \
	  $(if $(GPU_BUNDLES),--bundles=$(GPU_BUNDLES)) $(GPU_OPTIONS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

figures: $(INSTALLED)
	$(BIN)/python -m glpn_deploy.benchmarks.claims.figures $(if $(ONLY),--only $(ONLY)) \
	  $(if $(OPTIMUM),--optimum $(OPTIMUM))

wheel-test: $(INSTALLED)
	$(BIN)/python tests/smoke_wheel.py

clean:
	rm -rf $(VENV) build dist demo *.egg-info
