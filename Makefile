# Five verbs, the same for a person and for CI.
.PHONY: demo test check bench build clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

# Train a classifier on examples/support, serve it, ask it, and show what it saves.
demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py

# Every test, in parallel. One thread for each worker's arithmetic: the workers are the parallelism.
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal --durations 15

# Style, types, and the Dockerfile.
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

# The service beside a bare loop and other servers, for texts and for pictures; see benchmarks/README.md.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.pictures

# A wheel in dist/.
build: $(VENV)/.installed-dev
	$(BIN)/python -m build --wheel --outdir dist .

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hone needs Python 3.11 or later")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[train,minilm]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) --editable '.[train,minilm,compare,dev]'
	touch $@

clean:
	rm -rf build dist store runs .mypy_cache .pytest_cache .ruff_cache .hypothesis
