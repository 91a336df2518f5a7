# Needs python3 (3.11 to 3.13), pip and make. Every target sets up .venv first, once.
# Another interpreter: make setup PYTHON=python3.12
# A part of the tests: make test ARGS="-m 'not slow'"

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format docs clean distclean

help:
	@echo "make setup      make $(VENV) with everything, iNNvestigate included"
	@echo "make demo       prune a small digits model; writes demo_output/"
	@echo "make test       run the tests"
	@echo "make lint       ruff, mypy, import-linter"
	@echo "make format     let ruff format the code and mend what it can"
	@echo "make docs       build the documentation into site/"
	@echo "make clean      remove outputs and caches (distclean: $(VENV) too)"

setup: $(STAMP)

# iNNvestigate declares bounds that its code does not need (docs/installation.md): hence its own
# command. Where Python has no ensurepip (Debian, Ubuntu), pip is put into the environment by the
# pip outside it.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13))' || { \
		echo "keras-lrp-prune needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is:" \
			"$$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make setup PYTHON=python3.12" >&2; \
		exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(VENV) \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) \
			&& $(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(PIP) install --constraint constraints.txt --editable '.[test,lint,docs]'
	$(PIP) install --no-deps --ignore-requires-python innvestigate==2.1.2
	@touch $@

demo: setup
	$(BIN)/keras-lrp-prune demo

test: setup
	$(BIN)/python -m pytest -n 2 tests $(ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf demo_output site build dist *.egg-info .coverage
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
