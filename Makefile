# make run: see gemello work. make test, make lint: before a commit. Needs only Python 3.11 or later, make and pip.
PYTHON ?= python3
VENV ?= .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test lint format docs bench validate clean

help:
	@echo "make run       install gemello into $(VENV) and show its demo"
	@echo "make test      all tests"
	@echo "make lint      style, types and import contracts"
	@echo "make format    rewrite the code in the project's style"
	@echo "make docs      run every example of the documentation"
	@echo "make bench     speed beside named peers, measured now"
	@echo "make validate  figures against outside authorities, regenerated now"
	@echo "make clean     remove $(VENV) and caches"

run: $(VENV)/.installed
	@echo "Running: gemello demo"
	@$(VENV)/bin/gemello demo

test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest tests/docs

bench: $(VENV)/.installed-dev
	$(VENV)/bin/gemello benchmark pharmacology
	$(VENV)/bin/gemello benchmark heart

validate: $(VENV)/.installed-dev
	$(VENV)/bin/gemello validate pharmacology
	$(VENV)/bin/gemello validate heart

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist

# The stamps stand for a finished step, so that the second `make run` starts at once.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "No '$(PYTHON)' found. Install Python 3.11 or later, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1); gemello needs 3.11 or later. Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "[1/2] Making a Python environment in $(VENV) (a few seconds)"
	@$(PYTHON) -m venv --clear $(VENV) || \
	  { echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv first"; rm -rf $(VENV); exit 1; }
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.made
	@echo "[2/2] Installing gemello and what it needs (about 200 MB, one to three minutes the first time)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(VENV)/.made
	@echo "[2/2] Installing gemello with its test and benchmark tools (about 300 MB, one to four minutes the first time)"
	@$(PIP) install -e '.[dev]'
	@touch $(VENV)/.installed $@
