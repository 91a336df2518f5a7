# Needs python3 (3.11 to 3.13), pip and make. Every target sets up .venv first, once.
# Another interpreter: make setup PYTHON=python3.12
# A part of the tests: make test ARGS="-k relevance"

PYTHON ?= python3
ARGS ?=

VENV := .venv
OLDEST := .venv-oldest
BIN := $(VENV)/bin
comma := ,

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-all test-matrix lint format docs clean distclean

help:
	@echo "make setup      make $(VENV) with everything, iNNvestigate included"
	@echo "make demo       prune a small digits model; writes demo_output/"
	@echo "make test       run the tests that cover every feature, in minutes"
	@echo "make test-slow  run the rest: long ones, and properties on more examples"
	@echo "make test-all   run them with every keras.applications architecture, and report on each"
	@echo "make test-matrix  run the tests on the oldest and the newest TensorFlow and Keras"
	@echo "make lint       ruff, mypy, import-linter"
	@echo "make format     let ruff format the code and mend what it can"
	@echo "make docs       build the documentation into site/"
	@echo "make clean      remove outputs and caches (distclean: environments too)"

setup: $(VENV)/.setup-done

# $(call install,CONSTRAINTS,EXTRAS,MINOR) makes the environment in the target's folder; MINOR is
# the last 3.x that everything in it has wheels for.
# iNNvestigate declares bounds that its code does not need (docs/installation.md): hence its own
# command. Where Python has no ensurepip (Debian, Ubuntu), pip is put into the environment by the
# pip outside it.
define install
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(3)))' || { \
		echo "$(@D) needs Python 3.11 to 3.$(3); '$(PYTHON)' is:" \
			"$$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 \
		|| $(PYTHON) -m venv --clear $(@D) \
		|| { $(PYTHON) -m venv --clear --without-pip $(@D) \
			&& $(PYTHON) -m pip --python $(@D)/bin/python install pip; }
	$(@D)/bin/python -m pip --disable-pip-version-check install \
		--constraint $(1) --editable '.[$(2)]'
	$(@D)/bin/python -m pip --disable-pip-version-check install \
		--no-deps --ignore-requires-python innvestigate==2.1.2
	@touch $@
endef

$(VENV)/.setup-done: pyproject.toml constraints.txt
	$(call install,constraints.txt,test$(comma)serving$(comma)litert$(comma)lint$(comma)docs,13)

$(OLDEST)/.setup-done: pyproject.toml constraints-oldest.txt
	$(call install,constraints-oldest.txt,test$(comma)serving$(comma)litert,12)

demo: setup
	$(BIN)/keras-lrp-prune demo

# worksteal: neighbours share fixtures, and whoever is done takes from the other.
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow" tests $(ARGS)

test-slow: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or hypothesis" \
		--hypothesis-profile=full tests $(ARGS)

# loadgroup: of the largest models, never two at a time. About 10 GiB of memory.
test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup --hypothesis-profile=full \
		--all-applications tests $(ARGS)

test-matrix: setup $(OLDEST)/.setup-done
	@failed=0; outcomes=; \
	for venv in $(OLDEST) $(VENV); do \
		versions=$$($$venv/bin/python -c "from importlib.metadata import version; \
			print(*(f'{name} {version(name)}' for name in ('tensorflow', 'keras', 'numpy')), sep=', ')"); \
		echo "==> $$versions"; \
		$$venv/bin/python -m pytest -n 2 --hypothesis-profile=full tests $(ARGS) && outcome=passed \
			|| { outcome=FAILED; failed=1; }; \
		outcomes="$$outcomes==> $$outcome: $$versions\n"; \
	done; \
	printf "$$outcomes"; exit $$failed

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
	find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(OLDEST)
